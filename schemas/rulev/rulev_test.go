package rulev

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/tidemark-dev/tidemark/schemas/event"
)

// step is one record, and what the rule must make of it.
type step struct {
	entry
	want  Verdict
	halt  string // part of the reason, if the reader must halt
	group group  // positions of the records of the group that this record ends
}

func term(term uint64, nonce uint32) entry {
	return entry{event.OpTerm, event.Meta{Term: term, Nonce: nonce}}
}

func rec(term uint64, nonce uint32, csn uint64) entry {
	return entry{event.OpAdded, event.Meta{Term: term, Nonce: nonce, CSN: csn}}
}

func commit(term uint64, nonce uint32, csn, n uint64, rawNext int64) entry {
	e := rec(term, nonce, csn)
	e.meta.Commit, e.meta.N, e.meta.RawNext = true, n, rawNext
	return e
}

func play(t *testing.T, reader *Reader[int], steps []step) {
	t.Helper()
	for i, s := range steps {
		verdict, recs, err := reader.Read(s.op, &s.meta, i)
		if s.halt != "" {
			if halt := (*HaltError)(nil); !errors.As(err, &halt) || !strings.Contains(halt.Reason, s.halt) {
				t.Fatalf("record %d (%v): error %v, want a halt on %q", i, s.entry, err, s.halt)
			}
			continue
		}
		if err != nil {
			t.Fatalf("record %d (%v): %v", i, s.entry, err)
		}
		if verdict != s.want || !slices.Equal(recs, s.group) {
			t.Fatalf("record %d (%v): verdict %d with group %v, want %d with %v", i, s.entry, verdict, recs, s.want, s.group)
		}
	}
}

func TestGroup_IsValidAtItsCommit(t *testing.T) {
	reader := NewReader[int](Start())
	play(t, reader, []step{
		{entry: term(1, 7), want: NewTerm},
		{entry: rec(1, 7, 1), want: Buffered},
		{entry: rec(1, 7, 2), want: Buffered},
		{entry: commit(1, 7, 3, 3, 40), want: Committed, group: group{1, 2, 3}},
		{entry: commit(1, 7, 4, 1, 40), want: Committed, group: group{4}},
	})
	if reader.Pending() != 0 {
		t.Errorf("%d records pending behind a commit, want 0", reader.Pending())
	}
	play(t, reader, []step{{entry: rec(1, 7, 5), want: Buffered}})
	if got, want := reader.State(), (State{Term: 1, Nonce: 7, NextCSN: 5, RawNext: 40}); got != want {
		t.Errorf("state %+v, want %+v: records without a commit must not show", got, want)
	}
	if reader.Pending() != 1 {
		t.Errorf("%d records pending, want 1", reader.Pending())
	}
}

func TestI2_CSNsOfValidRecordsAreConsecutive(t *testing.T) {
	for name, steps := range map[string][]step{
		"gap at the start":           {{entry: rec(1, 7, 2), halt: "gap"}},
		"gap inside a group":         {{entry: rec(1, 7, 1), want: Buffered}, {entry: commit(1, 7, 3, 2, 1), halt: "gap"}},
		"repeat inside a group":      {{entry: rec(1, 7, 1), want: Buffered}, {entry: rec(1, 7, 1), halt: "duplicate"}},
		"repeat of a whole group":    {{entry: commit(1, 7, 1, 1, 1), want: Committed, group: group{1}}, {entry: commit(1, 7, 1, 1, 1), halt: "duplicate"}},
		"gap between groups":         {{entry: commit(1, 7, 1, 1, 1), want: Committed, group: group{1}}, {entry: rec(1, 7, 3), halt: "gap"}},
		"group longer than it says":  {{entry: rec(1, 7, 1), want: Buffered}, {entry: commit(1, 7, 2, 1, 1), halt: "a group of 2 records says it has 1"}},
		"group shorter than it says": {{entry: commit(1, 7, 1, 2, 1), halt: "a group of 1 records says it has 2"}},
		"csn 0":                      {{entry: rec(1, 7, 0), halt: "gap"}},
	} {
		t.Run(name, func(t *testing.T) {
			play(t, NewReader[int](Start()), append([]step{{entry: term(1, 7), want: NewTerm}}, steps...))
		})
	}
}

func TestI3_RawPositionNeverFalls(t *testing.T) {
	play(t, NewReader[int](Start()), []step{
		{entry: term(1, 7), want: NewTerm},
		{entry: commit(1, 7, 1, 1, 40), want: Committed, group: group{1}},
		{entry: commit(1, 7, 2, 1, 40), want: Committed, group: group{2}},
		{entry: commit(1, 7, 3, 1, 39), halt: "raw position falls from 40 to 39"},
	})
}

func TestI6_NoRecordOfALowerTermAfterTerm(t *testing.T) {
	play(t, NewReader[int](Start()), []step{
		{entry: term(1, 7), want: NewTerm},
		{entry: commit(1, 7, 1, 1, 10), want: Committed, group: group{1}},
		{entry: term(2, 8), want: NewTerm},
		{entry: commit(1, 7, 2, 1, 11), want: Zombie}, // with the very csn that is next
		{entry: commit(2, 8, 2, 1, 12), want: Committed, group: group{4}},
		{entry: commit(1, 7, 3, 1, 13), want: Zombie},
		{entry: rec(1, 7, 9), want: Zombie},
	})
}

func TestI6_AnUnfinishedGroupDiesWithItsTerm(t *testing.T) {
	play(t, NewReader[int](Start()), []step{
		{entry: term(1, 7), want: NewTerm},
		{entry: rec(1, 7, 1), want: Buffered},
		{entry: rec(1, 7, 2), want: Buffered},
		{entry: term(2, 8), want: NewTerm},
		{entry: commit(1, 7, 3, 3, 10), want: Zombie}, // its end comes too late
		{entry: commit(2, 8, 1, 1, 10), want: Committed, group: group{5}},
	})
}

func TestI6_TheFirstTermOfANumberWins(t *testing.T) {
	reader := NewReader[int](Start())
	play(t, reader, []step{
		{entry: term(3, 7), want: NewTerm},
		{entry: term(3, 8), want: LateTerm},
		{entry: term(2, 9), want: LateTerm},
		{entry: commit(3, 8, 1, 1, 5), want: Zombie},
		{entry: rec(3, 7, 1), want: Buffered},
		{entry: term(3, 7), want: LateTerm}, // a repeat of the winner does not end its group
		{entry: commit(3, 7, 2, 2, 5), want: Committed, group: group{4, 6}},
	})
	if got, want := reader.State(), (State{Term: 3, Nonce: 7, NextCSN: 3, RawNext: 5}); got != want {
		t.Errorf("state %+v, want %+v", got, want)
	}
}

func TestHalt_ARecordOfATermThatNeverBegan(t *testing.T) {
	play(t, NewReader[int](Start()), []step{
		{entry: term(1, 7), want: NewTerm},
		{entry: commit(2, 7, 1, 1, 5), halt: "term that never began"},
	})
	play(t, NewReader[int](Start()), []step{{entry: commit(1, 0, 1, 1, 5), halt: "term that never began"}})
}

func TestHalt_IsFinal(t *testing.T) {
	reader := NewReader[int](Start())
	play(t, reader, []step{
		{entry: term(1, 7), want: NewTerm},
		{entry: commit(1, 7, 1, 1, 10), want: Committed, group: group{1}},
		{entry: rec(1, 7, 5), halt: "gap"},
		{entry: commit(1, 7, 2, 1, 11), halt: "gap"},
		{entry: term(2, 8), halt: "gap"},
	})
	if got, want := reader.State(), (State{Term: 1, Nonce: 7, NextCSN: 2, RawNext: 10}); got != want {
		t.Errorf("state %+v, want that of the last valid group %+v", got, want)
	}
	_, _, err := reader.Read(event.OpAdded, &event.Meta{}, 0)
	halt := new(HaltError)
	if !errors.As(err, &halt) || halt.CSN != 5 || halt.Want != 2 || halt.Term != 1 {
		t.Errorf("error %#v, want csn 5 for 2 in term 1", err)
	}
}

// Control records and records of ops that this version does not know take their csn like any other.
func TestRead_OnlyTermIsSpecial(t *testing.T) {
	for op := event.OpUnknown; op <= event.OpSeal; op++ {
		if op == event.OpTerm {
			continue
		}
		e := commit(1, 7, 1, 1, 1)
		e.op = op
		play(t, NewReader[int](Start()), []step{{entry: term(1, 7), want: NewTerm}, {entry: e, want: Committed, group: group{1}}})
	}
}

// A reader that keeps the groups of millions of records must not keep what it has handed out.
func TestRead_ReleasesWhatItHandedOut(t *testing.T) {
	reader := NewReader[*int](Start())
	read := func(e entry) []*int {
		_, recs, err := reader.Read(e.op, &e.meta, new(int))
		if err != nil {
			t.Fatal(err)
		}
		return recs
	}
	read(term(1, 7))
	read(rec(1, 7, 1))
	recs := read(commit(1, 7, 2, 2, 1))
	read(rec(1, 7, 3))
	if recs[1] != nil {
		t.Error("the slot of a record that was handed out still holds it")
	}
}

func TestRead_DoesNotAllocate(t *testing.T) {
	reader := NewReader[int](Start())
	first := term(1, 7)
	if _, _, err := reader.Read(first.op, &first.meta, 0); err != nil {
		t.Fatal(err)
	}
	csn := uint64(1)
	e := rec(1, 7, 0)
	if n := testing.AllocsPerRun(1000, func() {
		e.meta.CSN, e.meta.Commit, e.meta.N = csn, csn%10 == 0, 10
		csn++
		if _, _, err := reader.Read(e.op, &e.meta, 0); err != nil {
			t.Fatal(err)
		}
	}); n != 0 {
		t.Errorf("%v allocations a record", n)
	}
}

func TestHistory_StartsAtTheFirstRecordThatItsOwnerWrote(t *testing.T) {
	history := []TermSpan{{4, 40, 100}, {5, 50, 110}, {6, 60, 110}, {7, 70, 120}}
	at := func(e entry, gi uint64) entry { e.meta.GI = gi; return e }
	for name, steps := range map[string][]step{
		"middle of a group first": {
			{entry: at(rec(4, 40, 103), 2), want: Skipped},
			{entry: at(commit(4, 40, 104, 4, 9), 3), want: Skipped},
			{entry: commit(4, 40, 105, 1, 9), want: Committed, group: group{2}},
			{entry: commit(4, 40, 106, 1, 9), want: Committed, group: group{3}},
		},
		"zombie behind its term": {
			{entry: commit(4, 40, 110, 1, 9), want: Skipped}, // 6 owns it: 5 wrote nothing
			{entry: commit(5, 50, 110, 1, 9), want: Skipped},
			{entry: commit(6, 61, 110, 1, 9), want: Skipped}, // nonce of a writer that lost
			{entry: commit(6, 60, 110, 1, 9), want: Committed, group: group{3}},
		},
		"csn before the history": {
			{entry: commit(3, 30, 99, 1, 9), want: Skipped},
			{entry: commit(4, 40, 100, 1, 9), want: Committed, group: group{1}},
		},
		"TERM of the history": {
			{entry: term(4, 41), want: LateTerm}, // it lost against one that was cut
			{entry: term(6, 60), want: NewTerm},
			{entry: rec(6, 60, 110), want: Buffered},
			{entry: term(7, 70), want: NewTerm},
			{entry: commit(7, 70, 120, 1, 9), halt: "gap"}, // 110 to 119 are lost
		},
		"TERM of the history, nothing lost": {
			{entry: term(7, 70), want: NewTerm},
			{entry: term(7, 71), want: LateTerm},
			{entry: commit(6, 60, 120, 1, 9), want: Zombie},
			{entry: commit(7, 70, 120, 1, 9), want: Committed, group: group{3}},
		},
		"TERM after the history": {
			{entry: term(9, 90), want: NewTerm},
			{entry: term(8, 80), want: LateTerm},
			{entry: commit(7, 70, 125, 1, 9), want: Zombie},
			{entry: rec(9, 90, 131), want: Buffered},
			{entry: commit(9, 90, 132, 2, 9), want: Committed, group: group{3, 4}},
		},
		"TERM after the history, group without its beginning": {
			{entry: term(9, 90), want: NewTerm},
			{entry: at(commit(9, 90, 132, 2, 9), 1), halt: "a group of 1 records says it has 2"},
		},
		"history that lacks a cut term": {
			{entry: commit(9, 90, 150, 1, 9), want: Skipped},
			{entry: commit(7, 70, 140, 1, 9), want: Skipped}, // 7 would own it, but 9 has begun
			{entry: term(8, 80), want: LateTerm},
			{entry: term(10, 100), want: NewTerm},
			{entry: commit(10, 100, 151, 1, 9), want: Committed, group: group{4}},
		},
		"late TERM, and a record of the term that it lost against": {
			{entry: term(8, 80), want: NewTerm}, // 9 was cut
			{entry: commit(9, 90, 150, 1, 9), want: Skipped},
			{entry: commit(8, 80, 150, 1, 9), want: Skipped},
			{entry: commit(9, 90, 151, 1, 9), want: Skipped},
			{entry: term(10, 100), want: NewTerm},
			{entry: commit(10, 100, 152, 1, 9), want: Committed, group: group{5}},
		},
		"TERM of a number that the history leaves out": {
			{entry: term(2, 40), want: LateTerm}, // the nonce is that of the next term
		},
	} {
		t.Run(name, func(t *testing.T) { play(t, NewReaderFromHistory[int](history), steps) })
	}
}

func TestHistory_StateIsUnknownUntilTheReaderHasItsPlace(t *testing.T) {
	reader := NewReaderFromHistory[int](nil)
	play(t, reader, []step{
		{entry: commit(4, 40, 100, 1, 9), want: Skipped},
		{entry: term(5, 50), want: NewTerm},
	})
	if got, want := reader.State(), (State{Term: 5, Nonce: 50}); got != want {
		t.Errorf("state %+v, want %+v: the csn is not known", got, want)
	}
	play(t, reader, []step{{entry: rec(5, 50, 101), want: Buffered}})
	if got, want := reader.State(), (State{Term: 5, Nonce: 50, NextCSN: 101}); got != want {
		t.Errorf("state %+v, want %+v", got, want)
	}
}

func TestHaltError_SaysWhere(t *testing.T) {
	err := &HaltError{CSN: 9, Want: 8, Term: 3, Reason: "gap or duplicate"}
	if got, want := err.Error(), "rule V: gap or duplicate at csn 9, want 8, in term 3"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
}
