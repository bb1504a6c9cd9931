package detect

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
)

// TestScan_ForgetsNothingItNeeds feeds one Detector records of many shapes, more names than it remembers, and
// payloads that are refused half way.
func TestScan_ForgetsNothingItNeeds(t *testing.T) {
	r := seeded(t, rand.Uint64())
	d := scanner(t, "/n3", "/o/n5", "/*/n7")
	d.strangers = strangersMax - 10000 // it begins afresh once on the way
	restarts := 0
	for k := range 3000 {
		pool := 10
		switch k / 500 % 3 {
		case 1:
			pool = 2 * knownHereMax
		case 2:
			pool = 1 << 30
		}
		object := func() map[string]any {
			m := map[string]any{}
			for range r.IntN(12) {
				m[fmt.Sprintf("n%d", r.IntN(pool))] = json.Number("1")
			}
			return m
		}
		m := object()
		m["o"] = object()
		m["l"] = []any{object(), object(), []any{object()}}
		s := style{r: r, mark: "\ue000none", order: r.IntN(4) == 0, again: r.IntN(8) == 0}
		p := s.write(m)
		was := d.strangers
		if r.IntN(5) == 0 {
			cut := p[:r.IntN(len(p))]
			if _, err := d.Scan([]byte(cut)); err == nil {
				t.Fatalf("%s is accepted", cut)
			}
		}
		got, err := d.Scan([]byte(p))
		if err != nil {
			t.Fatal(err)
		}
		ref, _ := refer([]byte(p), []string{"/n3", "/o/n5", "/*/n7"})
		if wrong := ref.check(got); wrong != "" {
			t.Fatalf("%s\nof %s", wrong, p)
		}
		if d.strangers < was {
			restarts++
		}
		if n := remembered(d.root); n > knownMax || len(d.root.ranked) > knownHereMax {
			t.Fatalf("%d names and places in all, %d names on top", n, len(d.root.ranked))
		}
	}
	if restarts == 0 {
		t.Error("it never began afresh")
	}
}

// remembered counts the names at and below a place, and the places below it.
func remembered(p *place) int {
	n := len(p.fields) - 1
	for _, f := range p.fields {
		if f.below != nil && !f.below.closed {
			n += 1 + remembered(f.below)
		}
	}
	if p.inside != nil && !p.inside.closed {
		n += 1 + remembered(p.inside)
	}
	return n
}

// TestScan_MembersComeAndGo goes through all sequences of three records with members missing, new, in another order,
// twice, escaped, or broken off. What the Detector expects of the next record is wrong in every possible way.
func TestScan_MembersComeAndGo(t *testing.T) {
	d := scanner(t, "/gone", "/o/*/gone")
	bodies := []string{
		`"c":1,"a":2,"b":3`, `"c":1,"b":3`, `"c":1,"a":2`, `"a":2,"b":3`, `"b":1,"a":2,"c":3`, `"c":1`, ``, `"c":1,"a":2,"b":3,"d":4`,
		`"c":1,"a":2,"c":3`, `"c":1,"a\n":2,"b":3`, `"c":1,"gone":2,"b":3`,
	}
	type step struct {
		payload []byte
		ref     reference
	}
	steps := []step{{payload: []byte(`{"c":1,"a":2,"x":`)}, {payload: []byte(`{"o":[{"c":1,"y":}`)}}
	for _, body := range bodies {
		for _, p := range []string{`{` + body + `}`, `{"o":[{` + body + `},{` + body + `}]}`} {
			ref, err := refer([]byte(p), []string{"/gone", "/o/*/gone"})
			if err != nil {
				t.Fatal(p, err)
			}
			steps = append(steps, step{[]byte(p), ref})
		}
	}
	n := len(steps)
	for sequence := range n * n * n {
		for k := sequence; k > 0; k /= n {
			s := &steps[k%n]
			got, err := d.Scan(s.payload)
			if (err == nil) != (s.ref.text != "") {
				t.Fatalf("%s: %v", s.payload, err)
			}
			if err == nil {
				if wrong := s.ref.check(got); wrong != "" {
					t.Fatalf("%s\nof %s in sequence %d", wrong, s.payload, sequence)
				}
			}
		}
	}
}

// TestScan_Remembers looks at what makes it fast, which no result shows.
func TestScan_Remembers(t *testing.T) {
	d := scanner(t, "/i")
	const full = `{"b":1,"sevenby":2,"a":{"y":1,"x":2},"i":3,"exactly16bytes":[{"q":1},{"q":2}],"d":5}`
	scan(t, d, full)
	strangers := d.strangers
	for k := range 3 {
		scan(t, d, full)
		scan(t, d, strings.ReplaceAll(full, ":", ": "))
		for at, want := range map[*place]int{d.root: 6, d.root.names["a"].below: 2, d.root.names["exactly16bytes"].below.inside: 1} {
			if at.count != want {
				t.Errorf("round %d: %d names came as expected, not %d", k, at.count, want)
			}
		}
		scan(t, d, `{"b":1,"d":5}`)
		scan(t, d, `{"d":5}`)
	}
	if d.strangers != strangers {
		t.Errorf("%d names are strange after they were met", d.strangers-strangers)
	}
}
