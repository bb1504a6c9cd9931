package detect

import (
	"slices"
	"testing"
)

func TestChanged(t *testing.T) {
	for _, c := range []struct {
		before, after string
		want          []string
	}{
		{`{}`, `{}`, nil},
		{`{"a":1,"b":2}`, `{"b":2,"a":1}`, nil},
		{`{"a":1,"b":2}`, `{"a":1,"b":3}`, []string{"b"}},
		{`{"a":1,"b":2}`, `{"a":1.0,"b":2}`, []string{"a"}},
		{`{"a":1}`, `{"a":"1"}`, []string{"a"}},
		{`{"a":null}`, `{}`, []string{"a"}},
		{`{}`, `{"a":null}`, []string{"a"}},
		{`{"a":1,"b":2}`, `{"b":2,"c":1}`, []string{"a", "c"}},
		{`{"o":{"x":1,"y":[1,2]}}`, `{"o":{"y":[1,2],"x":1}}`, nil},
		{`{"o":{"x":1,"y":[1,2]}}`, `{"o":{"x":1,"y":[2,1]}}`, []string{"o"}},
		{`{"b":1,"d":1,"f":1}`, `{"a":1,"b":2,"c":1,"e":1,"f":1,"g":1}`, []string{"a", "b", "c", "d", "e", "g"}},
		{`{"\uffff":1}`, `{"😀":1,"\ufffe":2,"\uffff":2}`, []string{"😀", "\ufffe", "\uffff"}},
		{`{"é":1}`, `{"\u00e9":1}`, nil},
	} {
		d := scanner(t)
		before := keep(scan(t, d, c.before))
		after := scan(t, d, c.after)
		got, ok := Changed(before.Names, before.Fields, after)
		if !ok || !slices.Equal(got, c.want) {
			t.Errorf("%s to %s: %q %t, want %q", c.before, c.after, got, ok, c.want)
		}
		names := []string{}
		for _, n := range before.Names {
			names = append(names, string(n))
		}
		got, ok = Changed(names, before.Fields, after)
		if !ok || !slices.Equal(got, c.want) {
			t.Errorf("%s to %s, names as strings: %q %t, want %q", c.before, c.after, got, ok, c.want)
		}
	}
}

func TestChanged_Unknown(t *testing.T) {
	cur := scan(t, scanner(t), `{"a":1,"b":2}`)
	if got, ok := Changed[string](nil, nil, cur); ok || got != nil {
		t.Errorf("%q %t", got, ok)
	}
	if got, ok := Changed([]string{"a", "b"}, cur.Fields[:1], cur); ok || got != nil {
		t.Errorf("lists that do not fit: %q %t", got, ok)
	}
	if got, ok := Changed([]string{}, nil, cur); !ok || !slices.Equal(got, []string{"a", "b"}) {
		t.Errorf("from an empty object: %q %t", got, ok)
	}
}

func TestChanged_NamesAreCopies(t *testing.T) {
	d := scanner(t)
	cur := scan(t, d, `{"a\n":1}`)
	got, _ := Changed([]string{}, nil, cur)
	scan(t, d, `{"b\t":1}`)
	if got[0] != "a\n" {
		t.Errorf("%q", got)
	}
}

func TestChanged_AllocatesOnlyWhatDiffers(t *testing.T) {
	d := scanner(t)
	before := keep(scan(t, d, `{"one":1,"two":2,"three":3}`))
	after := keep(scan(t, d, `{"three":3,"two":2,"one":1}`))
	if n := testing.AllocsPerRun(100, func() { Changed(before.Names, before.Fields, after) }); n != 0 {
		t.Errorf("%v allocations when nothing differs", n)
	}
}
