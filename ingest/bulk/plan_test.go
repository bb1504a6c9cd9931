package bulk

import (
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"testing/iotest"
)

func opening(in string) func() (io.ReadCloser, error) {
	return func() (io.ReadCloser, error) { return io.NopCloser(strings.NewReader(in)), nil }
}

func replayAll(p *Plan, in string) ([]seen, error) {
	y, err := p.Replay(strings.NewReader(in))
	if err != nil {
		return nil, err
	}
	var all []seen
	for {
		rec, err := y.Next()
		if err == io.EOF {
			return all, nil
		}
		if err != nil {
			return all, err
		}
		all = append(all, seen{id: rec.ID, payload: string(rec.Payload), index: rec.Index})
	}
}

func TestPlan_LastOccurrenceWins(t *testing.T) {
	const in = `[{"id":"b","n":0},{"id":"a","n":1},{"id":"b","n":2},{"id":7,"n":3},{"id":"c","n":4},{"id":"b","n":5},{"id":"7","n":6}]`
	p, err := Scan(opening(in), Options{IDField: "id"})
	if err != nil {
		t.Fatal(err)
	}
	if p.Records != 7 || p.Winners != 4 || !slices.Equal(p.Duplicates, []string{"7", "b"}) || p.Bytes != int64(len(in)) {
		t.Fatalf("%+v", p)
	}
	var wins []int64
	for i := int64(-1); i < 100; i++ {
		if p.Wins(i) {
			wins = append(wins, i)
		}
	}
	if !slices.Equal(wins, []int64{1, 4, 5, 6}) {
		t.Fatalf("winners are %v", wins)
	}
	got, err := replayAll(p, in)
	want := []seen{
		{id: "a", payload: `{"id":"a","n":1}`, index: 1},
		{id: "c", payload: `{"id":"c","n":4}`, index: 4},
		{id: "b", payload: `{"id":"b","n":5}`, index: 5},
		{id: "7", payload: `{"id":"7","n":6}`, index: 6},
	}
	if err != nil || !slices.Equal(got, want) {
		t.Fatalf("got %v, %v", got, err)
	}
}

func TestPlan_WithoutDuplicatesEverythingWins(t *testing.T) {
	p, err := Scan(opening("{\"id\":1}\n{\"id\":2}\n"), Options{IDField: "id"})
	if err != nil {
		t.Fatal(err)
	}
	if p.Records != 2 || p.Winners != 2 || p.Duplicates == nil || len(p.Duplicates) != 0 || !p.Wins(0) || !p.Wins(1) || p.Wins(2) {
		t.Fatalf("%+v", p)
	}
}

// Against a map of the last positions, over inputs with few and with many duplicates.
func TestPlan_AgreesWithAMap(t *testing.T) {
	seed := rand.Uint64()
	rng := rand.New(rand.NewPCG(seed, 0))
	for range 50 {
		records, ids := 1+rng.IntN(500), 1+rng.IntN(500)
		var in strings.Builder
		last, count := map[string]int64{}, map[string]int{}
		for i := range records {
			id := fmt.Sprint(rng.IntN(ids))
			last[id] = int64(i)
			count[id]++
			fmt.Fprintf(&in, "{\"id\":%s}\n", id)
		}
		p, err := Scan(opening(in.String()), Options{IDField: "id"})
		if err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
		got, err := replayAll(p, in.String())
		if err != nil || int64(len(got)) != p.Winners || len(got) != len(last) {
			t.Fatalf("seed %d: %d replayed, %d winners, %d ids, %v", seed, len(got), p.Winners, len(last), err)
		}
		previous := int64(-1)
		for _, g := range got {
			if last[g.id] != g.index || g.index <= previous {
				t.Fatalf("seed %d: %+v after %d, the last is %d", seed, g, previous, last[g.id])
			}
			previous = g.index
		}
		var duplicates []string
		for id, n := range count {
			if n > 1 {
				duplicates = append(duplicates, id)
			}
		}
		slices.Sort(duplicates)
		if !slices.Equal(duplicates, p.Duplicates) {
			t.Fatalf("seed %d: duplicates are %v, want %v", seed, p.Duplicates, duplicates)
		}
	}
}

func TestReplay_NoticesAChangedInput(t *testing.T) {
	const in = "{\"id\":1}\n{\"id\":2}\n{\"id\":1}\n"
	p, err := Scan(opening(in), Options{IDField: "id"})
	if err != nil {
		t.Fatal(err)
	}
	for name, changed := range map[string]string{
		"appended": in + "{\"id\":3}\n", "cut": in[:18], "another id": strings.Replace(in, "2", "3", 1), "another order": "{\"id\":2}\n{\"id\":1}\n{\"id\":1}\n",
		"emptied": "[]",
	} {
		_, err := replayAll(p, changed)
		if err == nil {
			t.Errorf("%s: no error", name)
			continue
		}
		fault(t, err, CodeInputChanged)
	}
}

func TestScan_FindsAFaultBeforeAnythingIsSent(t *testing.T) {
	_, err := Scan(opening("{\"id\":1}\n{\"id\":2}\n{\"id\":"), Options{IDField: "id"})
	if e := fault(t, err, CodeInvalidJSON); e.Index != 2 {
		t.Fatal(e)
	}
}

type closer struct {
	io.Reader
	closed int
	err    error
}

func (c *closer) Close() error { c.closed++; return c.err }

func TestScan_ClosesTheInput(t *testing.T) {
	broken := errors.New("broken")
	for name, c := range map[string]*closer{
		"whole":       {Reader: strings.NewReader("[]")},
		"fault":       {Reader: strings.NewReader("[")},
		"other":       {Reader: strings.NewReader("")},
		"read error":  {Reader: iotest.ErrReader(broken)},
		"close error": {Reader: strings.NewReader("[]"), err: broken},
	} {
		_, err := Scan(func() (io.ReadCloser, error) { return c, nil }, Options{IDField: "id"})
		if c.closed != 1 || (err == nil) != (name == "whole") {
			t.Errorf("%s: closed %d times, error %v", name, c.closed, err)
		}
	}
	if _, err := Scan(func() (io.ReadCloser, error) { return nil, broken }, Options{IDField: "id"}); !errors.Is(err, broken) {
		t.Errorf("got %v", err)
	}
}
