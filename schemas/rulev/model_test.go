package rulev

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/tidemark-dev/tidemark/schemas/event"
)

// The reader, record by record, finds what the definition says of the whole log.
func TestModel_ReaderEqualsDefinition(t *testing.T) {
	var groups, zombies, late, torn int
	seeds(t, func(_ *rand.Rand, log []entry) error {
		want, history := validGroups(log)
		reader := NewReader[int](Start())
		var got []group
		var seen []TermSpan
		for i := range log {
			pending := reader.Pending()
			verdict, recs, err := reader.Read(log[i].op, &log[i].meta, i)
			if err != nil {
				return fmt.Errorf("record %d: %w", i, err)
			}
			switch verdict {
			case Committed:
				got = append(got, append(group(nil), recs...))
			case NewTerm:
				if pending > 0 {
					torn++
				}
				s := reader.State()
				seen = append(seen, TermSpan{s.Term, s.Nonce, s.NextCSN})
			case Zombie:
				zombies++
			case LateTerm:
				late++
			}
		}
		groups += len(got)
		if !sameGroups(got, want) {
			return fmt.Errorf("groups %v, want %v", got, want)
		}
		if fmt.Sprint(seen) != fmt.Sprint(history) {
			return fmt.Errorf("history %v, want %v", seen, history)
		}
		return checkState(reader.State(), log, want, history)
	})
	// The logs must hold what the test is about.
	for what, n := range map[string]int{"groups": groups, "zombies": zombies, "late terms": late, "torn groups": torn} {
		if n < 1000 {
			t.Errorf("only %d %s in all logs", n, what)
		}
	}
}

func checkState(got State, log []entry, groups []group, history []TermSpan) error {
	want := Start()
	if n := len(history); n != 0 {
		want.Term, want.Nonce = history[n-1].Term, history[n-1].Nonce
	}
	for _, g := range groups {
		want.NextCSN += uint64(len(g))
		want.RawNext = log[g[len(g)-1]].meta.RawNext
	}
	if got != want {
		return fmt.Errorf("state %+v, want %+v", got, want)
	}
	return nil
}

func TestModel_I1_ReadingOnFromAStoredStateChangesNothing(t *testing.T) {
	seeds(t, func(_ *rand.Rand, log []entry) error {
		want, _ := validGroups(log)
		reader := NewReader[int](Start())
		resume, done := 0, 0 // the record behind the last commit, and the groups until there
		for i := range log {
			verdict, _, err := reader.Read(log[i].op, &log[i].meta, i)
			if err != nil {
				return err
			}
			if verdict == Committed {
				resume, done = i+1, done+1
			}
			// The state may be younger than the position: a TERM between them changes the state at once, and is read again.
			got, err := run(NewReader[int](reader.State()), log, resume)
			if err != nil {
				return fmt.Errorf("state after record %d, reading on at %d: %w", i, resume, err)
			}
			if !sameGroups(got, want[done:]) {
				return fmt.Errorf("state after record %d, reading on at %d: groups %v, want %v", i, resume, got, want[done:])
			}
		}
		return nil
	})
}

func TestModel_I1_APrefixOfTheLogGivesAPrefixOfTheGroups(t *testing.T) {
	seeds(t, func(r *rand.Rand, log []entry) error {
		want, _ := validGroups(log)
		cut := r.IntN(len(log) + 1)
		got, err := run(NewReader[int](Start()), log[:cut], 0)
		if err != nil {
			return err
		}
		n := 0
		for n < len(want) && want[n][len(want[n])-1] < cut {
			n++
		}
		if !sameGroups(got, want[:n]) {
			return fmt.Errorf("first %d records: groups %v, want %v", cut, got, want[:n])
		}
		return nil
	})
}

// fault damages a log as no writer does: a broker that loses, repeats or swaps records, or a writer with a bug.
type fault struct {
	damage func(r *rand.Rand, log []entry) []entry
	// newGroups: what is left may be a log in its own right, whose valid groups are others. A log without a TERM that won is one
	// in which the writer before it never lost the partition.
	newGroups bool
}

var faults = map[string]fault{
	"a record is lost": {damage: func(r *rand.Rand, log []entry) []entry { return lose(r, log, false) }},
	"a TERM is lost":   {damage: func(r *rand.Rand, log []entry) []entry { return lose(r, log, true) }, newGroups: true},
	"records are swapped": {damage: func(r *rand.Rand, log []entry) []entry {
		out := append([]entry(nil), log...)
		i := r.IntN(len(out) - 1)
		out[i], out[i+1] = out[i+1], out[i]
		return out
	}, newGroups: true},
	"a record is repeated": {damage: func(r *rand.Rand, log []entry) []entry {
		i := r.IntN(len(log))
		return append(append([]entry(nil), log[:i+1]...), log[i:]...)
	}},
	"a commit mark is lost": {damage: func(r *rand.Rand, log []entry) []entry {
		out := append([]entry(nil), log...)
		for _, i := range r.Perm(len(out)) {
			if m := &out[i].meta; m.Commit {
				m.Commit, m.N, m.RawNext = false, 0, 0
				break
			}
		}
		return out
	}},
	"a commit count is wrong": {damage: func(r *rand.Rand, log []entry) []entry {
		out := append([]entry(nil), log...)
		for _, i := range r.Perm(len(out)) {
			if m := &out[i].meta; m.Commit {
				m.N++
				break
			}
		}
		return out
	}},
}

func lose(r *rand.Rand, log []entry, term bool) []entry {
	for _, i := range r.Perm(len(log)) {
		if (log[i].op == event.OpTerm) == term {
			return append(append([]entry(nil), log[:i]...), log[i+1:]...)
		}
	}
	return log
}

// Whatever happens to one record, a reader never makes up a group: it stops, or the damage was to a record that does not count.
// Groups are compared by content, for positions shift.
func TestModel_ADamagedLogYieldsAPrefixOfTheGroupsOrHalts(t *testing.T) {
	for name, f := range faults {
		t.Run(name, func(t *testing.T) {
			halts := 0
			seeds(t, func(r *rand.Rand, log []entry) error {
				whole, _ := validGroups(log)
				broken := f.damage(r, log)
				got, err := run(NewReader[int](Start()), broken, 0)
				if halt := (*HaltError)(nil); err != nil && !errors.As(err, &halt) {
					return err
				} else if err != nil {
					halts++
				}
				if !isDense(broken, got) {
					return fmt.Errorf("gap in %v", contents(broken, got))
				}
				if g, w := contents(broken, got), contents(log, whole); !f.newGroups && !isPrefixOf(g, w) {
					return fmt.Errorf("groups %v, want a prefix of %v", g, w)
				}
				return nil
			})
			if halts == 0 {
				t.Error("no reader ever halted")
			}
		})
	}
}

func contents(log []entry, groups []group) []string {
	var out []string
	for _, g := range groups {
		s := ""
		for _, i := range g {
			s += fmt.Sprintf("%d/%d:%d ", log[i].meta.Term, log[i].meta.Nonce, log[i].meta.CSN)
		}
		out = append(out, s)
	}
	return out
}

func isPrefixOf(part, whole []string) bool {
	for i := range part {
		if i == len(whole) || part[i] != whole[i] {
			return false
		}
	}
	return true
}

func isDense(log []entry, groups []group) bool {
	next := uint64(1)
	for _, g := range groups {
		for _, i := range g {
			if log[i].meta.CSN != next {
				return false
			}
			next++
		}
	}
	return true
}

// Each part of the rule is needed: without it some log is read wrongly, or stops a partition that is sound.
func TestModel_EachBreakOfTheRuleIsNoticed(t *testing.T) {
	cases := []struct {
		name   string
		breaks Breaks
		fault  string
	}{
		{"no zombie check", Breaks{NoZombieCheck: true}, ""},
		{"group kept over a TERM", Breaks{KeepGroup: true}, ""},
		{"commit count not checked", Breaks{NoCommitCount: true}, "a commit mark is lost"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			halted, wrong := 0, 0
			seeds(t, func(r *rand.Rand, log []entry) error {
				want, _ := validGroups(log)
				if c.fault != "" {
					log = faults[c.fault].damage(r, log)
				}
				reader := NewReader[int](Start())
				reader.Break(c.breaks)
				got, err := run(reader, log, 0)
				switch {
				case err != nil:
					halted++
				case !isPrefix(got, want):
					wrong++
				}
				return nil
			})
			t.Logf("%d logs stopped, %d read wrongly", halted, wrong)
			if c.fault == "" && halted+wrong == 0 || c.fault != "" && wrong == 0 {
				t.Errorf("nothing noticed: %d logs stopped, %d read wrongly", halted, wrong)
			}
		})
	}
}

// suffix are the groups that lie wholly in log[cut:], but for those of terms that the reader cannot judge.
func suffix(log []entry, groups []group, cut int, judged func(term uint64) bool) []group {
	var out []group
	for _, g := range groups {
		if g[0] >= cut && judged(log[g[0]].meta.Term) {
			out = append(out, g)
		}
	}
	return out
}

func TestModel_ACutLogIsReadFromTheFirstGroupThatCanBeJudged(t *testing.T) {
	for _, c := range []string{"whole history", "history of the cut terms", "no history"} {
		t.Run(c, func(t *testing.T) {
			skipped := 0
			seeds(t, func(_ *rand.Rand, log []entry) error {
				groups, history := validGroups(log)
				for cut := range log {
					_, before := validGroups(log[:cut])
					known := history
					judged := func(uint64) bool { return true }
					switch c {
					case "history of the cut terms":
						known = before
					case "no history":
						known = nil
						judged = func(term uint64) bool { return len(before) == 0 || term > before[len(before)-1].Term }
					}
					want := suffix(log, groups, cut, judged)
					reader := NewReaderFromHistory[int](known)
					got, err := run(reader, log, cut)
					if err != nil {
						return fmt.Errorf("cut at %d, history %v: %w", cut, known, err)
					}
					if !sameGroups(got, want) {
						return fmt.Errorf("cut at %d, history %v: groups %v, want %v", cut, known, got, want)
					}
					if len(want) < len(groups) {
						skipped++
					}
					if len(got) == 0 {
						continue
					}
					last := got[len(got)-1]
					end := log[last[len(last)-1]].meta
					if s := reader.State(); s.NextCSN != end.CSN+1 || s.RawNext != end.RawNext {
						return fmt.Errorf("cut at %d: state %+v after csn %d, raw %d", cut, s, end.CSN, end.RawNext)
					}
				}
				return nil
			})
			if skipped < 1000 {
				t.Errorf("only %d cuts lost a group", skipped)
			}
		})
	}
}

// A late TERM must not win because the TERM that it lost against was cut.
func TestModel_NoHistoryNeverHaltsOnALateTerm(t *testing.T) {
	log := []entry{
		{event.OpTerm, event.Meta{Term: 7, Nonce: 1}},
		{event.OpTerm, event.Meta{Term: 6, Nonce: 2}}, // the log is cut before this one
		{event.OpAdded, event.Meta{Term: 7, Nonce: 1, CSN: 1, Commit: true, N: 1, RawNext: 4}},
		{event.OpTerm, event.Meta{Term: 8, Nonce: 3}},
		{event.OpAdded, event.Meta{Term: 8, Nonce: 3, CSN: 2, Commit: true, N: 1, RawNext: 9}},
	}
	reader := NewReaderFromHistory[int](nil)
	got, err := run(reader, log, 1)
	if err != nil || !sameGroups(got, []group{{4}}) {
		t.Fatalf("groups %v, %v", got, err)
	}
	if s := (State{Term: 8, Nonce: 3, NextCSN: 3, RawNext: 9}); reader.State() != s {
		t.Fatalf("state %+v, want %+v", reader.State(), s)
	}
}

// Whatever a log holds, what a reader hands out obeys I2, I3 and I6. Terms, nonces and csns come from so small a range that many of
// them match.
func TestModel_NoLogAtAllMakesAReaderBreakTheInvariants(t *testing.T) {
	committed, cut := 0, 0
	for seed := range uint64(3000) {
		r := rand.New(rand.NewPCG(seed, 6))
		reader := NewReader[entry](State{NextCSN: 1})
		if r.IntN(2) == 0 {
			reader = NewReaderFromHistory[entry]([]TermSpan{{1, 0, 1}, {2, 1, 2}})
		}
		var last entry
		read := last.meta.CSN // csn of the last record that was read, valid or not
		for range 60 {
			e := entry{event.OpAdded, event.Meta{
				Term: r.Uint64N(4), Nonce: r.Uint32N(2), CSN: read + r.Uint64N(3), GI: r.Uint64N(2), Commit: r.IntN(2) == 0,
				N: 1 + r.Uint64N(2), RawNext: last.meta.RawNext + r.Int64N(4) - 1,
			}}
			if s := reader.State(); r.IntN(8) != 0 { // mostly the record that would be right
				e.meta.Term, e.meta.Nonce, e.meta.CSN = s.Term, s.Nonce, max(s.NextCSN, 1)+uint64(reader.Pending())
				e.meta.N, e.meta.RawNext = uint64(reader.Pending())+1, s.RawNext+r.Int64N(3)
			}
			if r.IntN(8) == 0 {
				e.op = event.OpTerm
			}
			read = e.meta.CSN
			verdict, recs, err := reader.Read(e.op, &e.meta, e)
			if err != nil {
				break
			}
			if verdict != Committed {
				continue
			}
			for i, rec := range recs {
				m := rec.meta
				if last.meta.CSN == 0 && m.CSN != 1 {
					cut++ // a reader of a cut log begins anywhere
				} else if m.CSN != last.meta.CSN+1 {
					t.Fatalf("seed %d: csn %d after %d", seed, m.CSN, last.meta.CSN)
				}
				if m.Term < last.meta.Term || m.Commit != (i == len(recs)-1) || m.Commit && (m.N != uint64(len(recs)) || m.RawNext < last.meta.RawNext) {
					t.Fatalf("seed %d: %v after %v in a group of %d", seed, rec, last, len(recs))
				}
				raw := last.meta.RawNext
				if last = rec; !m.Commit {
					last.meta.RawNext = raw
				}
			}
			committed++
		}
	}
	if committed < 1000 || cut < 100 {
		t.Errorf("only %d groups, %d readers that began inside the log", committed, cut)
	}
}
