package follow

import (
	"fmt"
	"math/rand/v2"

	"github.com/tidemark-dev/tidemark/schemas/cursor"
	"github.com/tidemark-dev/tidemark/schemas/event"
	"github.com/tidemark-dev/tidemark/schemas/rulev"
	"github.com/tidemark-dev/tidemark/schemas/stream"
)

var acme = stream.ID{Environment: "dev", Integration: "demo", Connection: "acme", Model: "Brand", Variant: stream.VariantBase}

// owner is a writer of a synthetic log: it knows the log up to its TERM, and what it wrote since. It does not know whether it still
// owns the partition.
type owner struct {
	term    uint64
	nonce   uint32
	csn     uint64
	rawNext int64
	left    uint64 // records of the group that it is inside of
	size    uint64
}

// synthesize writes a log with takeovers at any point, also inside a group, TERMs that come late, writers that go on after they have
// lost the partition, and writers that stop. It breaks no rule: no reader may halt on it. Offsets begin at 0; some are left
// out, as transaction markers do.
func synthesize(r *rand.Rand, length int) []Record {
	var log []Record
	var owners []*owner
	rule := rulev.NewReader[int](rulev.Start()) // what a reader of the whole log knows
	offset := int64(0)
	add := func(op event.Op, m event.Meta) {
		key := stream.RecordKey(acme.Key(), fmt.Sprint("r", r.IntN(50)))
		if op == event.OpTerm {
			key = event.PartitionKey(0)
		}
		m.TS, m.RawOffset, m.SID = int64(len(log)), -1, 1
		if op.IsChange() {
			m.Record, m.FirstSeen, m.Algo, m.Rev = true, 1, event.AlgoXXH3, 1
		}
		log = append(log, Record{Op: op, Meta: m, Key: []byte(key), Offset: offset})
		offset++
		if r.IntN(20) == 0 {
			offset += 1 + r.Int64N(3)
		}
		if _, _, err := rule.Read(op, &m, 0); err != nil {
			panic(err) // the generator is wrong
		}
	}
	for len(log) < length {
		switch {
		case len(owners) == 0 || r.IntN(15) == 0: // a takeover
			s := rule.State()
			o := &owner{term: s.Term + 1, nonce: r.Uint32(), csn: s.NextCSN, rawNext: s.RawNext}
			if r.IntN(3) == 0 { // it had not read to the end, and its term was taken by then
				o.term -= min(s.Term, uint64(1+r.IntN(3)))
			} else if r.IntN(8) == 0 { // terms may be left out
				o.term += uint64(r.IntN(3))
			}
			add(event.OpTerm, event.Meta{Term: o.term, Nonce: o.nonce})
			if s := rule.State(); s.Term == o.term && s.Nonce == o.nonce { // else it reads that it lost, and writes nothing
				owners = append(owners, o)
			}
		case r.IntN(12) == 0: // one stops for good
			i := r.IntN(len(owners))
			owners = append(owners[:i], owners[i+1:]...)
		default: // mostly the newest, else one that may have lost the partition
			o := owners[len(owners)-1]
			if r.IntN(4) == 0 {
				o = owners[r.IntN(len(owners))]
			}
			if o.left == 0 {
				o.size = 1 + r.Uint64N(5)
				o.left = o.size
			}
			m := event.Meta{Term: o.term, Nonce: o.nonce, CSN: o.csn, GI: o.size - o.left}
			o.csn++
			if o.left--; o.left == 0 {
				o.rawNext += r.Int64N(5)
				m.Commit, m.N, m.RawNext = true, o.size, o.rawNext
			}
			op := event.OpUpdated
			if r.IntN(10) == 0 {
				op = event.OpCheckpoint
			}
			add(op, m)
		}
	}
	return log
}

// delivered is one group, as a text that tells any two apart.
type delivered struct {
	text string
	end  int64 // offset of the last record
}

func describe(records []Record) delivered {
	d := delivered{end: records[len(records)-1].Offset}
	for _, r := range records {
		d.text += fmt.Sprintf("%d@%d(%d/%d) ", r.Meta.CSN, r.Offset, r.Meta.Term, r.Meta.Nonce)
	}
	return d
}

// validGroups is what rule V finds in the whole log.
func validGroups(log []Record) (groups [][]Record) {
	rule := rulev.NewReader[Record](rulev.Start())
	for i := range log {
		v, g, err := rule.Read(log[i].Op, &log[i].Meta, log[i])
		if err != nil {
			panic(err)
		}
		if v == rulev.Committed {
			groups = append(groups, append([]Record(nil), g...))
		}
	}
	return groups
}

func cursorOf(rec *Record) cursor.Cursor {
	return cursor.Cursor{
		CSN: rec.Meta.CSN, Offset: rec.Offset, Partition: 0, Term: uint32(rec.Meta.Term), Tag: cursor.TagOf(acme.Key(), "test"),
	}
}
