package rulev

import (
	"fmt"

	"github.com/tidemark-dev/tidemark/schemas/event"
)

// State is where a reader of the log stands between two groups. It is stored with the data that the groups made.
type State struct {
	Term    uint64 `json:"term"`
	Nonce   uint32 `json:"nonce"`
	NextCSN uint64 `json:"next_csn"` // 1 at the start of the log
	RawNext int64  `json:"raw_next"`
}

// Start is the state at the beginning of a log.
func Start() State { return State{NextCSN: 1} }

// Verdict says what became of a record.
type Verdict byte

// Verdicts.
const (
	Buffered  Verdict = iota // part of a group whose end is not there yet
	Committed                // the end of a valid group
	NewTerm                  // a new writer; an unfinished group was dropped
	LateTerm                 // a TERM that lost against one before it
	Zombie                   // written by a writer that had lost the partition
	Skipped                  // only after NewReaderFromHistory: before the first record that can be judged
)

// HaltError says that the log breaks the protocol at CSN.
type HaltError struct {
	CSN, Want uint64
	Term      uint64
	Reason    string
}

func (e *HaltError) Error() string {
	return fmt.Sprintf("rule V: %s at csn %d, want %d, in term %d", e.Reason, e.CSN, e.Want, e.Term)
}

// Reader applies rule V to one partition. T is what the caller keeps of each record until its group is complete. Not safe for
// concurrent use.
type Reader[T any] struct {
	state  State
	group  []T
	done   bool // the group was complete at the last call: its slice is the caller's until the next one
	halt   *HaltError
	breaks Breaks
	start  *search // not nil: the log was cut, and the reader has not found its place yet
}

// Breaks switch parts of the rule off, for tests that prove that the checkers notice. The zero value is the rule.
type Breaks struct {
	NoZombieCheck bool
	NoCommitCount bool
	KeepGroup     bool // keep an unfinished group over a TERM
}

// NewReader returns a reader that goes on after state.
func NewReader[T any](state State) *Reader[T] {
	if state.NextCSN == 0 {
		state.NextCSN = 1
	}
	return &Reader[T]{state: state}
}

// Break switches parts of the rule off. For tests.
func (r *Reader[T]) Break(b Breaks) { r.breaks = b }

// State is the state after the last valid group. NextCSN is 0 as long as the reader of a cut log does not know it; such a state
// must not be stored.
func (r *Reader[T]) State() State { return r.state }

// Pending is the number of records of an unfinished group.
func (r *Reader[T]) Pending() int {
	if r.done {
		return 0
	}
	return len(r.group)
}

// Read takes the next record of the log. With Committed it returns the records of the group, whose slice is valid until the next
// call. The error is always *HaltError, and final.
func (r *Reader[T]) Read(op event.Op, m *event.Meta, rec T) (Verdict, []T, error) {
	if r.halt != nil {
		return 0, nil, r.halt
	}
	if r.done {
		r.drop()
	}
	if r.start != nil {
		if verdict, found := r.start.read(&r.state, op, m); !found {
			return verdict, nil, nil
		}
		r.start = nil
	}
	if op == event.OpTerm {
		if m.Term <= r.state.Term {
			return LateTerm, nil, nil
		}
		r.state.Term, r.state.Nonce = m.Term, m.Nonce
		if !r.breaks.KeepGroup {
			r.drop() // the writer of an unfinished group can never finish it: I6
		}
		return NewTerm, nil, nil
	}
	if m.Term <= r.state.Term && (m.Term < r.state.Term || m.Nonce != r.state.Nonce) && !r.breaks.NoZombieCheck {
		return Zombie, nil, nil // I6
	}
	want := r.state.NextCSN + uint64(len(r.group))
	if m.Term > r.state.Term {
		return 0, nil, r.halted(m, want, "a record of a term that never began")
	}
	if m.CSN != want {
		return 0, nil, r.halted(m, want, "gap or duplicate") // I2
	}
	r.group = append(r.group, rec)
	if !m.Commit {
		return Buffered, nil, nil
	}
	n := uint64(len(r.group))
	if m.N != n && !r.breaks.NoCommitCount {
		return 0, nil, r.halted(m, want, fmt.Sprintf("a group of %d records says it has %d", n, m.N))
	}
	if m.RawNext < r.state.RawNext {
		return 0, nil, r.halted(m, want, fmt.Sprintf("raw position falls from %d to %d", r.state.RawNext, m.RawNext)) // I3
	}
	r.state.NextCSN += n
	r.state.RawNext = m.RawNext
	r.done = true
	return Committed, r.group, nil
}

func (r *Reader[T]) drop() {
	clear(r.group)
	r.group = r.group[:0]
	r.done = false
}

func (r *Reader[T]) halted(m *event.Meta, want uint64, reason string) error {
	r.halt = &HaltError{CSN: m.CSN, Want: want, Term: m.Term, Reason: reason}
	return r.halt
}
