package rulev

import (
	"fmt"
	"math/rand/v2"
	"reflect"
	"testing"

	"github.com/tidemark-dev/tidemark/schemas/event"
)

// entry is one record of a simulated log.
type entry struct {
	op   event.Op
	meta event.Meta
}

func (e entry) String() string {
	if e.op == event.OpTerm {
		return fmt.Sprintf("TERM %d/%d", e.meta.Term, e.meta.Nonce)
	}
	s := fmt.Sprintf("%d/%d csn %d gi %d", e.meta.Term, e.meta.Nonce, e.meta.CSN, e.meta.GI)
	if e.meta.Commit {
		s += fmt.Sprintf(" commit n=%d raw=%d", e.meta.N, e.meta.RawNext)
	}
	return s
}

// group is a valid group, as the positions of its records in the log.
type group []int

// validGroups says which groups of a log are valid. It is rule V as a statement about the whole log, rather than as a reader: a
// TERM wins if it is higher than all before it; a record counts if it was written by the winner before it; what one winner wrote
// falls into groups at its commits, and the rest behind the last commit is void.
func validGroups(log []entry) (groups []group, history []TermSpan) {
	winner := make([]int, len(log)) // per position: index of the last TERM that won before it
	highest, last := uint64(0), -1
	for i, e := range log {
		winner[i] = last
		if e.op == event.OpTerm && e.meta.Term > highest {
			highest, last = e.meta.Term, i
			winner[i] = i
		}
	}
	next := uint64(1)
	for w, e := range log {
		if e.op != event.OpTerm || winner[w] != w {
			continue
		}
		history = append(history, TermSpan{Term: e.meta.Term, Nonce: e.meta.Nonce, FirstCSN: next})
		var g group
		for i, r := range log {
			if winner[i] != w || r.op == event.OpTerm || r.meta.Term != e.meta.Term || r.meta.Nonce != e.meta.Nonce {
				continue
			}
			if g = append(g, i); r.meta.Commit {
				groups = append(groups, g)
				next += uint64(len(g))
				g = nil
			}
		}
	}
	return groups, history
}

// writer is a would-be owner of the partition. It knows the log as it was when its TERM won, and its own records since; it does
// not know whether it still owns the partition.
type writer struct {
	term    uint64
	nonce   uint32
	csn     uint64
	rawNext int64
	left    int // records of the group that it is in the middle of
	size    int
}

// simulate writes a log with several writers: takeovers at any point, also inside a group, TERMs that lose, writers that go on
// after they have lost the partition, writers that stop. It breaks no rule, so no reader may halt on it.
func simulate(r *rand.Rand, length int) []entry {
	var log []entry
	var writers []*writer
	for len(log) < length {
		switch {
		case len(writers) == 0 || r.IntN(12) == 0:
			w := takeover(r, &log)
			if w != nil {
				writers = append(writers, w)
			}
		case r.IntN(10) == 0: // a writer stops for good, wherever it is
			i := r.IntN(len(writers))
			writers = append(writers[:i], writers[i+1:]...)
		default: // mostly the newest writer; else one that has lost the partition
			w := writers[len(writers)-1]
			if r.IntN(4) == 0 {
				w = writers[r.IntN(len(writers))]
			}
			log = append(log, w.write(r))
		}
	}
	return log
}

// takeover appends a TERM. It returns nil if that TERM lost, for a writer that sees so writes nothing in that term.
func takeover(r *rand.Rand, log *[]entry) *writer {
	_, history := validGroups(*log)
	term := uint64(1)
	if n := len(history); n != 0 {
		term = history[n-1].Term + 1
		if r.IntN(3) == 0 { // it had not read to the end, and chose a term that was taken by then
			term -= min(term-1, uint64(1+r.IntN(3)))
		}
		if r.IntN(8) == 0 { // terms may be left out: a TERM between was never written
			term += uint64(r.IntN(3))
		}
	}
	nonce := r.Uint32()
	*log = append(*log, entry{event.OpTerm, event.Meta{Term: term, Nonce: nonce}})
	groups, history := validGroups(*log)
	newest := history[len(history)-1]
	if newest.Term != term || newest.Nonce != nonce {
		return nil
	}
	w := &writer{term: term, nonce: nonce, csn: newest.FirstCSN}
	if n := len(groups); n != 0 {
		g := groups[n-1]
		w.rawNext = (*log)[g[len(g)-1]].meta.RawNext
	}
	return w
}

func (w *writer) write(r *rand.Rand) entry {
	if w.left == 0 {
		w.size = 1 + r.IntN(4)
		w.left = w.size
	}
	e := entry{event.OpUpdated, event.Meta{Term: w.term, Nonce: w.nonce, CSN: w.csn, GI: uint64(w.size - w.left)}}
	w.csn++
	if w.left--; w.left == 0 {
		w.rawNext += r.Int64N(5)
		e.meta.Commit, e.meta.N, e.meta.RawNext = true, uint64(w.size), w.rawNext
	}
	return e
}

// run reads log[from:] and returns the groups as positions in log.
func run(reader *Reader[int], log []entry, from int) ([]group, error) {
	var out []group
	for i := from; i < len(log); i++ {
		verdict, recs, err := reader.Read(log[i].op, &log[i].meta, i)
		if err != nil {
			return out, err
		}
		if (verdict == Committed) != (recs != nil) {
			return out, fmt.Errorf("verdict %d with %d records", verdict, len(recs))
		}
		if verdict == Committed {
			out = append(out, append(group(nil), recs...))
		}
	}
	return out, nil
}

func sameGroups(a, b []group) bool {
	return len(a) == 0 && len(b) == 0 || reflect.DeepEqual(a, b)
}

func isPrefix(part, whole []group) bool {
	return len(part) <= len(whole) && sameGroups(part, whole[:len(part)])
}

// seeds calls f with many generated logs, and tells the seed of the one that failed.
func seeds(t *testing.T, f func(r *rand.Rand, log []entry) error) {
	t.Helper()
	const count = 800
	for seed := range uint64(count) {
		r := rand.New(rand.NewPCG(seed, 5))
		log := simulate(r, 10+r.IntN(60))
		if err := f(r, log); err != nil {
			for i, e := range log {
				t.Logf("%3d %v", i, e)
			}
			t.Fatalf("seed %d: %v", seed, err)
		}
	}
}
