package detect

import (
	"errors"
	"fmt"
	"strings"
	"testing"
)

func TestIgnore(t *testing.T) {
	const all = `{"a":1,"b":{"a":2,"c":{"a":3}},"l":[{"a":4,"b":5},{"a":6},[{"a":7}]],"a/b":8,"a~b":9,"~1":10,"":11,"*":12,"0":13}`
	for _, c := range []struct{ ignore, left string }{
		{``, all},
		{`/a`, `{"b":{"a":2,"c":{"a":3}},"l":[{"a":4,"b":5},{"a":6},[{"a":7}]],"a/b":8,"a~b":9,"~1":10,"":11,"*":12,"0":13}`},
		{`/b`, `{"a":1,"l":[{"a":4,"b":5},{"a":6},[{"a":7}]],"a/b":8,"a~b":9,"~1":10,"":11,"*":12,"0":13}`},
		{`/b/a`, `{"a":1,"b":{"c":{"a":3}},"l":[{"a":4,"b":5},{"a":6},[{"a":7}]],"a/b":8,"a~b":9,"~1":10,"":11,"*":12,"0":13}`},
		{`/b/c/a`, `{"a":1,"b":{"a":2,"c":{}},"l":[{"a":4,"b":5},{"a":6},[{"a":7}]],"a/b":8,"a~b":9,"~1":10,"":11,"*":12,"0":13}`},
		{`/b/*`, `{"a":1,"b":{},"l":[{"a":4,"b":5},{"a":6},[{"a":7}]],"a/b":8,"a~b":9,"~1":10,"":11,"*":12,"0":13}`},
		{`/*/a`, `{"a":1,"b":{"c":{"a":3}},"l":[{"a":4,"b":5},{"a":6},[{"a":7}]],"a/b":8,"a~b":9,"~1":10,"":11,"*":12,"0":13}`},
		{`/l/*/a`, `{"a":1,"b":{"a":2,"c":{"a":3}},"l":[{"b":5},{},[{"a":7}]],"a/b":8,"a~b":9,"~1":10,"":11,"*":12,"0":13}`},
		{`/l/1/a`, `{"a":1,"b":{"a":2,"c":{"a":3}},"l":[{"a":4,"b":5},{},[{"a":7}]],"a/b":8,"a~b":9,"~1":10,"":11,"*":12,"0":13}`},
		{`/l/2/0/a`, `{"a":1,"b":{"a":2,"c":{"a":3}},"l":[{"a":4,"b":5},{"a":6},[{}]],"a/b":8,"a~b":9,"~1":10,"":11,"*":12,"0":13}`},
		{`/l/0 /l/1`, `{"a":1,"b":{"a":2,"c":{"a":3}},"l":[[{"a":7}]],"a/b":8,"a~b":9,"~1":10,"":11,"*":12,"0":13}`},
		{`/l/*`, `{"a":1,"b":{"a":2,"c":{"a":3}},"l":[],"a/b":8,"a~b":9,"~1":10,"":11,"*":12,"0":13}`},
		{`/l/00 /l/-1 /l/- /l/1/ /l/3`, all},
		{`/a~1b /a~0b /~01 / /0`, `{"a":1,"b":{"a":2,"c":{"a":3}},"l":[{"a":4,"b":5},{"a":6},[{"a":7}]],"*":12}`},
		{`/*/*/a`, `{"a":1,"b":{"a":2,"c":{}},"l":[{"b":5},{},[{"a":7}]],"a/b":8,"a~b":9,"~1":10,"":11,"*":12,"0":13}`},
		{`/*/*/* /b/c`, `{"a":1,"b":{"a":2},"l":[{},{},[]],"a/b":8,"a~b":9,"~1":10,"":11,"*":12,"0":13}`},
		{`/b /b/a /b/x/y`, `{"a":1,"l":[{"a":4,"b":5},{"a":6},[{"a":7}]],"a/b":8,"a~b":9,"~1":10,"":11,"*":12,"0":13}`},
		{`/b/a /*/c`, `{"a":1,"b":{},"l":[{"a":4,"b":5},{"a":6},[{"a":7}]],"a/b":8,"a~b":9,"~1":10,"":11,"*":12,"0":13}`},
		{`/*`, `{}`},
		{`/a/x /b/a/x /nothing`, all},
	} {
		d := scanner(t, strings.Fields(c.ignore)...)
		for range 3 { // the second and third time by memory
			got := keep(scan(t, d, all))
			if want := scan(t, scanner(t), c.left); !same(got, want) {
				t.Errorf("ignoring %s gives %v, not %v of %s", c.ignore, got, want, c.left)
			}
		}
	}
}

func TestIgnore_EscapedAndRepeatedNames(t *testing.T) {
	d := scanner(t, "/é", "/o/a\"b")
	want := keep(scan(t, scanner(t), `{"a":1,"o":{}}`))
	for _, p := range []string{
		`{"a":1,"é":2,"o":{"a\"b":1}}`, `{"\u00e9":2,"a":1,"o":{"\u0061\u0022b":1}}`, `{"é":1,"a":1,"\u00E9":2,"o":{"a\"b":2,"\u0061\"b":1}}`,
	} {
		if got := scan(t, d, p); !same(got, want) {
			t.Errorf("%s gives %v, not %v", p, got, want)
		}
	}
	// What is ignored is validated all the same.
	if _, err := d.Scan([]byte(`{"é":{"x":01}}`)); !errors.Is(err, ErrInvalidJSON) {
		t.Error(err)
	}
	if _, err := d.Scan([]byte("{\"é\":\"\xff\"}")); !errors.Is(err, ErrInvalidJSON) {
		t.Error(err)
	}
}

func TestNew_RefusesPointers(t *testing.T) {
	for _, p := range []string{"", "a", "a/b", "#/a", "/~", "/~2", "/a~", "/a/~~0", "/\xff", strings.Repeat("/a", MaxDepth+1)} {
		if _, err := New(Options{Ignore: []string{"/ok", p}}); !errors.Is(err, ErrInvalidPointer) {
			t.Errorf("%.20q: %v", p, err)
		}
	}
	many := make([]string, pointersMax+1)
	for k := range many {
		many[k] = fmt.Sprintf("/f%d", k)
	}
	if _, err := New(Options{Ignore: many}); !errors.Is(err, ErrInvalidPointer) {
		t.Error(err)
	}
	if _, err := New(Options{Ignore: many[:pointersMax]}); err != nil {
		t.Error(err)
	}
	// Every level doubles the number of names that must be told apart.
	var wild []string
	for k := range 40 {
		wild = append(wild, strings.Repeat("/*", k)+"/a"+strings.Repeat("/*", 40-k)+fmt.Sprintf("/%d", k))
	}
	if _, err := New(Options{Ignore: wild}); !errors.Is(err, ErrInvalidPointer) {
		t.Error(err)
	}
}

func TestFingerprint(t *testing.T) {
	same := scanner(t, "/a", "/b").Fingerprint()
	if got := scanner(t, "/b", "/a", "/b").Fingerprint(); got != same {
		t.Errorf("order or repetition matters: %x, %x", got, same)
	}
	seen := map[uint32][]string{}
	for _, ignore := range [][]string{nil, {"/"}, {"/a"}, {"/b"}, {"/a", "/b"}, {"/a/b"}, {"/a~1b"}, {"/ab"}, {"/a", "/ab"}, {"/*"}} {
		f := scanner(t, ignore...).Fingerprint()
		if other, ok := seen[f]; ok {
			t.Errorf("%q and %q have one fingerprint", ignore, other)
		}
		seen[f] = ignore
	}
}
