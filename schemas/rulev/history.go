package rulev

import (
	"sort"

	"github.com/tidemark-dev/tidemark/schemas/event"
)

// TermSpan is one entry of a partition's term history: the writer of a term, and the first csn that it may use. A term owns the
// csns from FirstCSN up to the FirstCSN of the next term.
type TermSpan struct {
	Term     uint64 `json:"term"`
	Nonce    uint32 `json:"nonce"`
	FirstCSN uint64 `json:"first_csn"`
}

// NewReaderFromHistory returns a reader of a log whose head was cut by retention, so that the TERMs of its first records are
// gone. history has the terms in rising order, as a reader of the whole log saw them: after each NewTerm, {Term, Nonce, NextCSN}
// of its State. It must hold every term whose TERM was cut, but may hold later ones, too, and may be empty.
//
// The reader skips to the first record with index 0 in its group that was written by the term that owns its csn, or to the first
// TERM that is not late, whichever comes first. From there on the rule holds as usual. After a TERM that is not in the history
// the first record of that term says where the csns go on: what lies between is lost, and the caller compares State with what it
// knows from elsewhere.
func NewReaderFromHistory[T any](history []TermSpan) *Reader[T] {
	return &Reader[T]{start: &search{history: history}}
}

// search is the part of the rule before the reader of a cut log has found its place. With State.Term set it has found a TERM, and
// waits for the first record of it.
type search struct {
	history []TermSpan
	seen    uint64 // newest term of any record so far: whatever is of a lower term has lost against a TERM that was cut
}

// read judges one record. found says that state is complete and that the rule takes over, beginning with this record.
func (s *search) read(state *State, op event.Op, m *event.Meta) (verdict Verdict, found bool) {
	if op == event.OpTerm {
		return s.readTerm(state, m)
	}
	s.seen = max(s.seen, m.Term)
	if state.Term != 0 && state.Term < s.seen {
		// Writers write only after their TERM won. So the TERM that was found is late: the one that won against it was cut.
		*state = State{}
	}
	if state.Term != 0 {
		if m.Term != state.Term || m.Nonce != state.Nonce {
			return Zombie, false
		}
		state.NextCSN = m.CSN
		return 0, true
	}
	owner, ok := ownerOf(s.history, m.CSN)
	if !ok || m.GI != 0 || m.Term != owner.Term || m.Nonce != owner.Nonce || m.Term < s.seen {
		return Skipped, false
	}
	*state = State{Term: m.Term, Nonce: m.Nonce, NextCSN: m.CSN}
	return 0, true
}

func (s *search) readTerm(state *State, m *event.Meta) (Verdict, bool) {
	if m.Term <= max(s.seen, state.Term) {
		return LateTerm, false
	}
	i := sort.Search(len(s.history), func(i int) bool { return s.history[i].Term >= m.Term })
	if i == len(s.history) { // newer than the history
		*state = State{Term: m.Term, Nonce: m.Nonce}
		return NewTerm, false
	}
	if h := s.history[i]; h.Term != m.Term || h.Nonce != m.Nonce {
		return LateTerm, false
	}
	// One step back, so that the rule itself sees the TERM and takes it.
	*state = State{Term: m.Term - 1, NextCSN: s.history[i].FirstCSN}
	return 0, true
}

// ownerOf is the last entry that begins at or below csn: a term that wrote nothing shares its FirstCSN with the next one, and
// owns none.
func ownerOf(history []TermSpan, csn uint64) (TermSpan, bool) {
	i := sort.Search(len(history), func(i int) bool { return history[i].FirstCSN > csn })
	if i == 0 {
		return TermSpan{}, false
	}
	return history[i-1], true
}
