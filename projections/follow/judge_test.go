package follow

import (
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/tidemark-dev/tidemark/schemas/errcode"
	"github.com/tidemark-dev/tidemark/schemas/event"
	"github.com/tidemark-dev/tidemark/schemas/rulev"
)

// seeds of the tests over synthetic logs. A failure names its seed.
const seeds = 80

func forSeeds(t *testing.T, test func(t *testing.T, r *rand.Rand, log []Record)) {
	base := rand.Uint64N(1 << 40)
	for i := range uint64(seeds) {
		seed := base + i
		r := rand.New(rand.NewPCG(seed, 2))
		log := synthesize(r, 20+r.IntN(150))
		test(t, r, log)
		if t.Failed() {
			t.Fatalf("seed %d", seed)
		}
	}
}

var testConfig = Config{LookBack: 2000, GroupBytes: 1 << 20}

// follow feeds a judge from a position, as a session does, on a log whose records below start are gone. It stops behind stop records.
func follow(t *testing.T, cfg Config, p Position, log []Record, start int64, stop int) (groups []delivered, next Position, j *judge) {
	t.Helper()
	end := log[len(log)-1].Offset + 1
	j, from, err := cfg.judge(p, bounds{start, end})
	if err != nil {
		t.Errorf("position %+v: %v", p, err)
		return nil, p, nil
	}
	next = p
	for i := range log {
		if log[i].Offset < max(from, start) {
			continue
		}
		if stop--; stop < 0 {
			break
		}
		_, group, err := j.take(&log[i])
		if err != nil {
			t.Errorf("from %+v, at offset %d: %v", p, log[i].Offset, err)
			return groups, next, j
		}
		if len(group) > 0 {
			groups = append(groups, describe(group))
		}
		if q, ok := j.position(0, log[i].Offset); ok {
			next = q
		}
	}
	return groups, next, j
}

const all = 1 << 30

func describeAll(groups [][]Record) (out []delivered) {
	for _, g := range groups {
		out = append(out, describe(g))
	}
	return out
}

// W1: from the start, exactly the valid groups; stopped anywhere and resumed from the position of that moment, stored as JSON, the same.
func TestJudge_ResumesExactly(t *testing.T) {
	forSeeds(t, func(t *testing.T, r *rand.Rand, log []Record) {
		want := describeAll(validGroups(log))
		got, _, _ := follow(t, testConfig, AtOffset(0, 0), log, 0, all)
		if !slices.Equal(got, want) {
			t.Errorf("got  %v\nwant %v", got, want)
			return
		}
		for stop := range len(log) {
			first, p, _ := follow(t, testConfig, AtOffset(0, 0), log, 0, stop)
			text, err := json.Marshal(p)
			if err != nil {
				t.Fatal(err)
			}
			var stored Position
			if err := json.Unmarshal(text, &stored); err != nil {
				t.Fatal(err)
			}
			rest, _, _ := follow(t, testConfig, stored, log, 0, all)
			if got := append(first, rest...); !slices.Equal(got, want) {
				t.Errorf("stopped behind %d records, at %s:\ngot  %v\nwant %v", stop, text, got, want)
				return
			}
		}
	})
}

// From a cursor: exactly the records behind it, the rest of its own group first.
func TestJudge_FromCursor(t *testing.T) {
	forSeeds(t, func(t *testing.T, r *rand.Rand, log []Record) {
		valid := validGroups(log)
		for gi, g := range valid {
			for ri := range g {
				var want []delivered
				if rest := g[ri+1:]; len(rest) > 0 {
					want = append(want, describe(rest))
				}
				want = append(want, describeAll(valid[gi+1:])...)
				p := AtCursor(cursorOf(&g[ri]))
				got, next, j := follow(t, testConfig, p, log, g[ri].Offset, all)
				if !slices.Equal(got, want) || !j.exact {
					t.Errorf("behind %v:\ngot  %v\nwant %v", describe(g[ri:ri+1]), got, want)
					return
				}
				// What it knows in the end is what a reader of everything knows.
				if _, full, _ := follow(t, testConfig, AtOffset(0, 0), log, 0, all); next.known() && next.State != full.State {
					t.Errorf("ends at %+v, a reader of everything at %+v", next, full)
				}
			}
		}
	})
}

// From an offset, with whatever was looked back over: csns rise, nothing halts, and once the position is exact the groups are those of
// rule V. If the owner of the partition shows in what was looked back over, they are from the first one on.
func TestJudge_FromOffset(t *testing.T) {
	inexact, misled := 0, 0
	forSeeds(t, func(t *testing.T, r *rand.Rand, log []Record) {
		valid := validGroups(log)
		for range 20 {
			at := 1 + r.IntN(len(log)-1)
			begin := r.IntN(at + 1) // index of the first record that can be read
			p := AtOffset(0, log[at].Offset)
			cfg := testConfig
			cfg.LookBack = int(log[at].Offset - log[begin].Offset)
			if cfg.LookBack == 0 {
				cfg.LookBack = 1
				begin = at
				for begin > 0 && log[begin-1].Offset >= log[at].Offset-1 {
					begin--
				}
			}
			start := log[begin].Offset
			got, next, j := follow(t, cfg, p, log, start, all)
			if t.Failed() {
				return
			}
			var want []delivered
			for _, g := range valid {
				if g[len(g)-1].Offset >= log[at].Offset && g[0].Offset >= start {
					want = append(want, describe(g))
				}
			}
			if ownerShows(log, begin, at) {
				if !slices.Equal(got, want) {
					t.Errorf("from %d, looked back to %d:\ngot  %v\nwant %v", log[at].Offset, start, got, want)
					return
				}
			} else {
				inexact++
				if !slices.Equal(got, want) {
					misled++
				}
			}
			if j.exact && next.known() {
				_, full, _ := follow(t, testConfig, AtOffset(0, 0), log, 0, all)
				if next.State.RawNext == 0 {
					full.State.RawNext = 0 // known from the first commit on
				}
				if full.State != next.State && full.Offset == next.Offset {
					t.Errorf("believes to be exact at %+v, is %+v", next, full)
				}
			}
			risingAndExact(t, cfg, p, log, start, valid)
			for range 5 { // stopped and resumed, the same
				first, stored, _ := follow(t, cfg, p, log, start, r.IntN(len(log)))
				rest, _, _ := follow(t, cfg, stored, log, start, all)
				if twice := append(first, rest...); !slices.Equal(twice, got) {
					t.Errorf("from %d, looked back to %d, stopped and resumed at %+v:\ngot  %v\nwant %v", log[at].Offset, start, stored, twice, got)
				}
			}
		}
	})
	t.Logf("%d starts without the owner in sight, %d misled", inexact, misled)
	if misled == 0 {
		t.Error("no start was misled: the logs do not test what the documentation warns of")
	}
}

// ownerShows reports whether the TERM or a record of the writer that owns the partition at index at is in [begin, at).
func ownerShows(log []Record, begin, at int) bool {
	rule := rulev.NewReader[int](rulev.Start())
	for i := range at {
		rule.Read(log[i].Op, &log[i].Meta, 0)
	}
	o := rule.State()
	for i := begin; i < at; i++ {
		if m := &log[i].Meta; m.Term == o.Term && m.Nonce == o.Nonce {
			return true
		}
	}
	return false
}

// risingAndExact checks W2, and that from the moment a judge is exact its groups are valid ones.
func risingAndExact(t *testing.T, cfg Config, p Position, log []Record, start int64, valid [][]Record) {
	t.Helper()
	j, from, err := cfg.judge(p, bounds{start, log[len(log)-1].Offset + 1})
	if err != nil {
		t.Error(err)
		return
	}
	isValid := map[int64]bool{} // by offset of a record
	for _, g := range valid {
		for _, r := range g {
			isValid[r.Offset] = true
		}
	}
	highest := uint64(0)
	for i := range log {
		if log[i].Offset < max(from, start) {
			continue
		}
		_, group, _ := j.take(&log[i])
		for _, r := range group {
			if r.Meta.CSN <= highest {
				t.Errorf("csn %d follows %d", r.Meta.CSN, highest)
			}
			highest = r.Meta.CSN
			if j.exact && !isValid[r.Offset] {
				t.Errorf("exact, but the record at %d is a leftover", r.Offset)
			}
		}
	}
}

// W6: what no rule explains halts, from wherever the reader came.
func TestJudge_Halts(t *testing.T) {
	rec := func(op event.Op, m event.Meta) Record { return Record{Op: op, Meta: m} }
	term := func(term uint64, nonce uint32) Record {
		return rec(event.OpTerm, event.Meta{Term: term, Nonce: nonce})
	}
	one := func(term uint64, nonce uint32, csn uint64) Record {
		return rec(event.OpAdded, event.Meta{Term: term, Nonce: nonce, CSN: csn, Commit: true, N: 1})
	}
	for name, c := range map[string]struct {
		log []Record
		at  int64
	}{
		"a gap":                             {[]Record{term(1, 1), one(1, 1, 1), one(1, 1, 3)}, 0},
		"a gap after an offset":             {[]Record{one(1, 1, 7), one(1, 1, 9)}, 5000},
		"a gap of a proven writer":          {[]Record{one(1, 1, 7), term(2, 2), one(2, 2, 8), one(2, 2, 8)}, 5000},
		"a term that never began":           {[]Record{term(1, 1), one(1, 1, 1), one(2, 2, 2)}, 0},
		"a term that began after a proof":   {[]Record{term(3, 3), one(3, 3, 10), one(4, 4, 11)}, 5000},
		"a group that says it is longer":    {[]Record{term(1, 1), rec(event.OpAdded, event.Meta{Term: 1, Nonce: 1, CSN: 1, Commit: true, N: 2})}, 0},
		"a record that opens inside of one": {[]Record{term(1, 1), one(1, 1, 2)}, 0},
	} {
		j, _, err := testConfig.judge(AtOffset(0, c.at), bounds{min(c.at, 1000), c.at + 100})
		if err != nil {
			t.Fatal(err)
		}
		for i := range c.log {
			c.log[i].Offset = c.at + int64(i)
			_, _, err = j.take(&c.log[i])
			if last := i == len(c.log)-1; last != (err != nil) {
				t.Errorf("%s: record %d gives %v", name, i, err)
			}
		}
		var halt *rulev.HaltError
		if !errors.As(err, &halt) {
			t.Errorf("%s gives %v", name, err)
		}
	}
}

// The TERM that a reader finds first may be late although it is the only one in sight. The records of the winner tell.
func TestJudge_LateTermFoundFirst(t *testing.T) {
	for name, late := range map[string]Record{
		"of a lower term":          {Op: event.OpTerm, Meta: event.Meta{Term: 4, Nonce: 9}},
		"of the same term":         {Op: event.OpTerm, Meta: event.Meta{Term: 5, Nonce: 9}},
		"of a much lower term":     {Op: event.OpTerm, Meta: event.Meta{Term: 1, Nonce: 9}},
		"none, but a late record":  {Op: event.OpAdded, Meta: event.Meta{Term: 4, Nonce: 9, CSN: 3, GI: 0}},
		"none, but a torn old one": {Op: event.OpAdded, Meta: event.Meta{Term: 4, Nonce: 9, CSN: 3, GI: 2}},
	} {
		winner := Record{Op: event.OpAdded, Meta: event.Meta{Term: 5, Nonce: 1, CSN: 100, Commit: true, N: 1}}
		j, _, err := testConfig.judge(AtOffset(0, 5000), bounds{1000, 6000})
		if err != nil {
			t.Fatal(err)
		}
		late.Offset, winner.Offset = 5000, 5001
		if _, _, err := j.take(&late); err != nil {
			t.Fatal(err)
		}
		_, group, err := j.take(&winner)
		if err != nil || len(group) != 1 {
			t.Errorf("a late TERM %s hides the winner's record: %v", name, err)
		}
	}
}

func TestJudge_Positions(t *testing.T) {
	log := bounds{start: 100, end: 200}
	good := Record{Op: event.OpAdded, Offset: 150, Meta: event.Meta{Term: 3, Nonce: 3, CSN: 70, GI: 4}}
	c := cursorOf(&good)
	for name, x := range map[string]struct {
		p    Position
		code errcode.Code
	}{
		"below the start":          {AtOffset(0, 99), errcode.CursorExpired},
		"state below the start":    {Position{Offset: 99, State: rulev.State{Term: 1, NextCSN: 5}}, errcode.CursorExpired},
		"start":                    {AtOffset(0, 100), ""},
		"end":                      {AtOffset(0, 200), ""},
		"above the end":            {AtOffset(0, 201), errcode.CursorAhead},
		"cursor":                   {AtCursor(c), ""},
		"cursor at the end":        {func() Position { c := c; c.Offset = 200; return AtCursor(c) }(), errcode.CursorAhead},
		"cursor of a removed one":  {func() Position { c := c; c.Offset = 99; return AtCursor(c) }(), errcode.CursorExpired},
		"cursor of the last there": {func() Position { c := c; c.Offset = 199; return AtCursor(c) }(), ""},
	} {
		_, _, err := testConfig.judge(x.p, log)
		var gone *PositionError
		var e *errcode.Error
		switch {
		case x.code == "" && err != nil:
			t.Errorf("%s: %v", name, err)
		case x.code != "" && (!errors.As(err, &gone) || !errors.As(err, &e) || e.Code != x.code):
			t.Errorf("%s gives %v, want %s", name, err, x.code)
		}
	}
	// A cursor must find the record that it names.
	for name, edit := range map[string]func(*Record){
		"another offset": func(r *Record) { r.Offset++ },
		"another csn":    func(r *Record) { r.Meta.CSN++ },
		"another term":   func(r *Record) { r.Meta.Term++ },
		"a TERM":         func(r *Record) { r.Op = event.OpTerm },
	} {
		rec := good
		edit(&rec)
		j, _, err := testConfig.judge(AtCursor(c), log)
		if err != nil {
			t.Fatal(err)
		}
		var gone *PositionError
		if _, _, err := j.take(&rec); !errors.As(err, &gone) {
			t.Errorf("with %s the cursor finds %v", name, err)
		}
	}
	// A group index that cannot be is an error, not a long loop.
	for _, gi := range []uint64{70, 1 << 60} {
		rec := good
		rec.Meta.GI = gi
		rec.Meta.CSN = max(70, gi-1)
		c := cursorOf(&rec)
		j, _, err := testConfig.judge(AtCursor(c), log)
		if err != nil {
			t.Fatal(err)
		}
		if _, _, err := j.take(&rec); err == nil {
			t.Errorf("group index %d was taken", gi)
		}
	}
}

// W4: a group without an end does not grow without bound.
func TestJudge_GroupBytes(t *testing.T) {
	cfg := Config{LookBack: 1, GroupBytes: 10_000}
	j, _, err := cfg.judge(AtOffset(0, 0), bounds{0, 1000})
	if err != nil {
		t.Fatal(err)
	}
	take := func(rec Record) error {
		_, _, err := j.take(&rec)
		return err
	}
	if err := take(Record{Op: event.OpTerm, Meta: event.Meta{Term: 1, Nonce: 1}}); err != nil {
		t.Fatal(err)
	}
	// Groups that end give the room back.
	csn := uint64(1)
	for range 10 {
		for gi := range uint64(5) {
			m := event.Meta{Term: 1, Nonce: 1, CSN: csn, GI: gi, Commit: gi == 4, N: 5}
			csn++
			if err := take(Record{Op: event.OpAdded, Meta: m, Value: make([]byte, 1000)}); err != nil {
				t.Fatal(err)
			}
		}
	}
	for gi := range uint64(100) {
		m := event.Meta{Term: 1, Nonce: 1, CSN: csn, GI: gi}
		csn++
		if err := take(Record{Op: event.OpAdded, Meta: m, Value: make([]byte, 1000)}); err != nil {
			if gi < 7 || gi > 9 {
				t.Errorf("stopped at record %d: %v", gi, err)
			}
			return
		}
	}
	t.Error("a group of 100,000 bytes was held")
}

func TestPosition_JSON(t *testing.T) {
	p := Position{Partition: 3, Offset: 42, State: rulev.State{Term: 2, Nonce: 7, NextCSN: 10, RawNext: 99}, Exact: true, SeenCSN: 9}
	text, err := json.Marshal(p)
	if err != nil {
		t.Fatal(err)
	}
	const want = `{"partition":3,"offset":42,"state":{"term":2,"nonce":7,"next_csn":10,"raw_next":99},"exact":true,"seen_csn":9}`
	if string(text) != want {
		t.Errorf("position is stored as %s, want %s", text, want)
	}
	var back Position
	if err := json.Unmarshal([]byte(want), &back); err != nil || back != p {
		t.Errorf("position comes back as %+v, %v", back, err)
	}
	c := cursorOf(&Record{Offset: 5, Meta: event.Meta{CSN: 4, Term: 1}})
	if text, _ := json.Marshal(AtCursor(c)); !json.Valid(text) || fmt.Sprintf("%q", c.String()) == "" {
		t.Errorf("cursor position is stored as %s", text)
	}
}
