package follow

import (
	"fmt"

	"github.com/tidemark-dev/tidemark/schemas/cursor"
	"github.com/tidemark-dev/tidemark/schemas/event"
	"github.com/tidemark-dev/tidemark/schemas/rulev"
)

// judge applies rule V to one partition, from any position. It knows nothing of Kafka.
type judge struct {
	rule  *rulev.Reader[Record]
	exact bool   // rule V holds without reservation
	seen  uint64 // highest csn delivered
	from  int64  // groups that end below are not delivered

	// While not exact:
	proven uint64 // newest term of which a record was seen
	claim  writer // of the newest TERM seen: a record of it makes the judge exact

	cursor *cursor.Cursor // not nil until the first record, which must be the one it names

	held      int // bytes of the unfinished group
	heldBytes int // and how many it may have
}

type writer struct {
	term  uint64
	nonce uint32
}

// placeholdersMax bounds how many records a group may have in front of the one that a cursor names: far above any group.
const placeholdersMax = 1 << 20

// take judges the next record. A group is returned with the verdict Committed only; its slice is valid until the next call.
func (j *judge) take(rec *Record) (rulev.Verdict, []Record, error) {
	if j.cursor != nil {
		if err := j.resume(rec); err != nil {
			return 0, nil, err
		}
	}
	verdict, group, err := j.judge(rec)
	if err != nil {
		return 0, nil, err
	}
	switch verdict {
	case rulev.Buffered:
		j.held += rec.size()
		if j.held > j.heldBytes {
			return 0, nil, fmt.Errorf("the group at offset %d has more than %d bytes and no end", rec.Offset, j.heldBytes)
		}
	case rulev.Committed:
		j.held = 0
		return verdict, j.fresh(group), nil
	case rulev.NewTerm:
		j.held = 0
	}
	return verdict, nil, nil
}

// fresh leaves out of a valid group what must not be delivered: all of it if it ends before the position, and records whose csn has
// been passed. Only what is delivered counts as passed: what was looked back over may be a leftover.
func (j *judge) fresh(group []Record) []Record {
	last := &group[len(group)-1]
	if last.Offset < j.from {
		return nil
	}
	for len(group) > 0 && group[0].Meta.CSN <= j.seen {
		group = group[1:]
	}
	j.seen = max(j.seen, last.Meta.CSN)
	return group
}

func (j *judge) judge(rec *Record) (rulev.Verdict, []Record, error) {
	op, m := rec.Op, &rec.Meta
	if j.exact {
		return j.rule.Read(op, m, *rec)
	}
	if op == event.OpTerm {
		if m.Term <= max(j.rule.State().Term, j.proven) {
			return rulev.LateTerm, nil, nil
		}
		// Its first record says where the csns go on: what we have counted may be that of a writer who had lost the partition.
		j.claim = writer{m.Term, m.Nonce}
		j.rule = rulev.NewReaderFromHistory[Record](nil)
		return j.rule.Read(op, m, *rec)
	}
	if state := j.rule.State(); m.Term > j.proven && (m.Term > state.Term || m.Term == state.Term && m.Nonce != state.Nonce) {
		// Its TERM was before the first record that we have read, and a TERM that we hold instead is late.
		j.adopt(m)
	}
	verdict, group, err := j.rule.Read(op, m, *rec)
	if verdict == rulev.Buffered || verdict == rulev.Committed {
		j.exact = j.claim == writer{m.Term, m.Nonce}
	}
	return verdict, group, err
}

// adopt takes the writer of a record for the owner of the partition.
func (j *judge) adopt(m *event.Meta) {
	j.proven = m.Term
	j.held = 0
	j.rule = rulev.NewReaderFromHistory[Record]([]rulev.TermSpan{{Term: m.Term, Nonce: m.Nonce}})
}

// resume starts at the record that a cursor names. A cursor names valid records only, so its writer owned the partition there. The
// records of its group in front of it have been read by whoever has the cursor; placeholders stand for them.
func (j *judge) resume(rec *Record) error {
	c, m := j.cursor, &rec.Meta
	if rec.Offset != c.Offset || m.CSN != c.CSN || uint32(m.Term) != c.Term || rec.Op == event.OpTerm {
		return &PositionError{Partition: c.Partition, Offset: c.Offset, Start: rec.Offset, End: rec.Offset + 1,
			Reason: fmt.Sprintf("the cursor names csn %d of term %d, the log has csn %d of term %d", c.CSN, c.Term, m.CSN, m.Term)}
	}
	if m.GI >= m.CSN || m.GI > placeholdersMax {
		return fmt.Errorf("record at offset %d is number %d of its group, with csn %d", rec.Offset, m.GI, m.CSN)
	}
	j.rule = rulev.NewReader[Record](rulev.State{Term: m.Term, Nonce: m.Nonce, NextCSN: m.CSN - m.GI})
	for gi := range m.GI {
		if _, _, err := j.rule.Read(rec.Op, &event.Meta{Term: m.Term, Nonce: m.Nonce, CSN: m.CSN - m.GI + gi, GI: gi}, Record{}); err != nil {
			return err
		}
	}
	j.exact, j.seen, j.cursor = true, c.CSN, nil
	return nil
}

// position is the one behind the record at offset, which was the last to be judged. ok is false inside a group, in front of the
// position that was asked for, and while the rule does not know where it is: then the last position stands.
func (j *judge) position(partition int32, offset int64) (p Position, ok bool) {
	if j.cursor != nil || j.rule.Pending() != 0 || offset+1 < j.from {
		return Position{}, false
	}
	p = Position{Partition: partition, Offset: offset + 1, State: j.rule.State(), Exact: j.exact, SeenCSN: j.seen}
	return p, p.known()
}
