package observe

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math"
	"reflect"
	"strconv"
	"strings"
	"testing"
	"unicode/utf8"
)

var unlimited = Limits{Edits: math.MaxInt, ValueBytes: math.MaxInt, TotalBytes: math.MaxInt}

func TestCompare(t *testing.T) {
	for _, c := range []struct{ name, old, new, want string }{
		{"equal", `{"a":1}`, `{"a":1}`, ``},
		{"order and space", ` {"a":1,"b":[1, 2]}`, "{\"b\":[1,2] ,\n\"a\":1 }", ``},
		{"spelling of strings", `{"a":"é\/x","\u0062":1}`, `{"a":"\u00e9/x","b":1}`, ``},
		{"spelling deep below", nest(80, `"\u0061"`), nest(80, `"a"`), ``},
		{"added", `{}`, `{"a":{"b":1}}`, `+/a {"b":1}`},
		{"removed", `{"a":null,"b":2}`, `{"b":2}`, `-/a null`},
		{"changed", `{"a":1,"b":2}`, `{"a":1,"b":3}`, `~/b 2 3`},
		{"text of numbers", `{"a":1}`, `{"a":1.0}`, `~/a 1 1.0`},
		{"signs", `{"a":-1}`, `{"a":1}`, `~/a -1 1`},
		{"kinds", `{"a":1,"b":[],"c":true}`, `{"a":"1","b":{},"c":false}`, `~/a 1 "1"; ~/b [] {}; ~/c true false`},
		{"null is a value", `{"a":null}`, `{"a":1}`, `~/a null 1`},
		{"inside", `{"a":{"b":{"c":1,"d":2}}}`, `{"a":{"b":{"c":1,"d":3}}}`, `~/a/b/d 2 3`},
		{"elements by index", `{"a":[1,2,3]}`, `{"a":[0,1,2,3]}`, `~/a/0 1 0; ~/a/1 2 1; ~/a/2 3 2; +/a/3 3`},
		{"fewer elements, from the last", `{"a":[1,2,3,4]}`, `{"a":[1,5]}`, `~/a/1 2 5; -/a/3 4; -/a/2 3`},
		{"names to escape", `{"a/b":1,"m~n":2,"":3}`, `{"a/b":2,"m~n":3,"":4}`, `~/a~1b 1 2; ~/m~0n 2 3; ~/ 3 4`},
		{"the last of two", `{"a":1,"a":2}`, `{"a":2}`, ``},
		{"the last of two, changed", `{"a":1,"b":0,"a":2}`, `{"a":3,"b":0}`, `~/a 2 3`},
		{"old order, then new", `{"b":1,"a":1}`, `{"z":1,"a":2,"c":1,"b":2}`, `~/b 1 2; ~/a 1 2; +/z 1; +/c 1`},
		{"other surrogates", `{"a":"\ud800"}`, `{"a":"\ud801"}`, `~/a "\ud800" "\ud801"`},
		{"braces in strings", `{"a":"}],{[\"","b":1}`, `{"a":"}],{[\"","b":2}`, `~/b 1 2`},
		{"whole values", `[1]`, `2`, `~ [1] 2`},
		{"space deep below", nest(80, ` [ 1 , {"x" : 2} ] `), nest(80, `[1,{"x":2}]`), ``},
		{"numbers that only share a beginning", nest(80, `[1,23]`), nest(80, `[12,3]`), `~` + strings.Repeat("/a", 64) + ` ` + nest(16, `[1,23]`) + ` ` + nest(16, `[12,3]`)},
		{"too deep to look into", nest(80, `1`), nest(80, `2`), `~` + strings.Repeat("/a", 64) + ` ` + nest(16, `1`) + ` ` + nest(16, `2`)},
	} {
		t.Run(c.name, func(t *testing.T) {
			d, err := Compare([]byte(c.old), []byte(c.new), unlimited)
			if err != nil {
				t.Fatal(err)
			}
			if got := spell(d); got != c.want || d.Truncated {
				t.Errorf("got  %s (truncated %v)\nwant %s", got, d.Truncated, c.want)
			}
			checkApply(t, []byte(c.old), []byte(c.new), d)
		})
	}
}

func nest(n int, inner string) string {
	return strings.Repeat(`{"a":`, n) + inner + strings.Repeat(`}`, n)
}

func spell(d *Delta) string {
	var out []string
	for _, e := range d.Edits {
		s := map[string]string{EditAdded: "+", EditRemoved: "-", EditChanged: "~"}[e.Op] + e.Path
		for _, v := range []json.RawMessage{e.Old, e.New} {
			if v != nil {
				s += " " + string(v)
			}
		}
		out = append(out, s)
	}
	return strings.Join(out, "; ")
}

func TestCompare_Limits(t *testing.T) {
	big := strings.Repeat("x", 100)
	for _, c := range []struct {
		name, old, new string
		limits         Limits
		want           string
	}{
		{"edits", `{}`, `{"a":1,"b":2,"c":3}`, Limits{2, 100, 1000}, "+/a 1; +/b 2"},
		{"as many edits as allowed", `{}`, `{"a":1,"b":2}`, Limits{2, 100, 1000}, "+/a 1; +/b 2"},
		{"elements", `[]`, `[1,2,3]`, Limits{2, 100, 1000}, "+/0 1; +/1 2"},
		{"as many edits as allowed", `{"a":[1,2,3,4],"b":1}`, `{"a":[2,2,4,4],"b":1}`, Limits{2, 100, 1000}, "~/a/0 1 2; ~/a/2 3 4"},
		{"elements that go", `[1,2,3]`, `[]`, Limits{2, 100, 1000}, ""},
		{"a large element", `[0,1,2,3]`, `["` + big + `",1,5,3]`, Limits{9, 100, 1000}, "~/0 0; ~/2 2 5"},
		{"a large value", `{"a":1}`, `{"a":"` + big + `"}`, Limits{9, 100, 1000}, "~/a 1"},
		{"many values", `{}`, `{"a":"` + big + `","b":"` + big + `","c":1}`, Limits{9, 200, 150}, `+/a "` + big + `"; +/b; +/c 1`},
	} {
		t.Run(c.name, func(t *testing.T) {
			d, err := Compare([]byte(c.old), []byte(c.new), c.limits)
			if err != nil {
				t.Fatal(err)
			}
			if got := spell(d); got != c.want || d.Truncated == (c.name == "as many edits as allowed") {
				t.Errorf("got  %s (truncated %v)\nwant %s", got, d.Truncated, c.want)
			}
			for _, e := range d.Edits {
				if e.Op != EditRemoved && e.NewBytes == 0 || e.Op != EditAdded && e.OldBytes == 0 {
					t.Errorf("no size: %+v", e)
				}
			}
		})
	}
}

func TestCompare_ManyMembersAreComparedAsAWhole(t *testing.T) {
	var a bytes.Buffer
	a.WriteString(`{"x":{`)
	for i := range membersMax + 1 {
		fmt.Fprintf(&a, `"m%d":%d,`, i, i)
	}
	old, new := a.String()+`"y":1}}`, a.String()+`"y":2}}`
	d, err := Compare([]byte(old), []byte(new), LimitsDefault)
	if err != nil {
		t.Fatal(err)
	}
	if len(d.Edits) != 1 || d.Edits[0].Path != "/x" || !d.Truncated || d.Edits[0].OldBytes != len(old)-len(`{"x":}`) {
		t.Errorf("%d edits, %+v", len(d.Edits), d.Edits[0].Path)
	}
}

func TestCompare_RefusesWhatIsNotJSON(t *testing.T) {
	for _, bad := range []string{``, `{`, `{"a"}`, `{} {}`, `{"a":01}`, "\"\xff\""} {
		if _, err := Compare([]byte(bad), []byte(`{}`), unlimited); err == nil {
			t.Errorf("%q is taken", bad)
		}
		if _, err := Compare([]byte(`{}`), []byte(bad), unlimited); err == nil {
			t.Errorf("%q is taken", bad)
		}
	}
}

// checkApply applies a delta and compares; the delta must be minimal in that none of its edits changes nothing.
func checkApply(t *testing.T, old, new []byte, d *Delta) {
	t.Helper()
	got := decode(old)
	for _, e := range d.Edits {
		next := apply(t, got, e)
		if reflect.DeepEqual(next, got) && !bytes.Contains(e.New, []byte(`\u`)) && !bytes.Contains(e.Old, []byte(`\u`)) {
			t.Errorf("edit %+v changes nothing", e)
		}
		got = next
	}
	if want := decode(new); !reflect.DeepEqual(got, want) {
		t.Errorf("%s\nto %s\nby %s\ngives %v", old, new, spell(d), got)
	}
}

func decode(v []byte) (out any) {
	d := json.NewDecoder(bytes.NewReader(v))
	d.UseNumber()
	if err := d.Decode(&out); err != nil {
		panic(err)
	}
	return out
}

// apply does one edit, and leaves v alone.
func apply(t *testing.T, v any, e Edit) any {
	t.Helper()
	if e.Path == "" {
		return decode(e.New)
	}
	head, rest, more := strings.Cut(e.Path[1:], "/")
	head = strings.ReplaceAll(strings.ReplaceAll(head, "~1", "/"), "~0", "~")
	if e.Path = ""; more {
		e.Path = "/" + rest
	}
	switch v := v.(type) {
	case map[string]any:
		out := map[string]any{}
		for k, x := range v {
			out[k] = x
		}
		x, ok := v[head]
		switch {
		case !more && e.Op == EditRemoved:
			delete(out, head)
		case !more && e.Op == EditAdded:
			out[head] = decode(e.New)
		default:
			out[head] = apply(t, x, e)
		}
		if ok == (!more && e.Op == EditAdded) {
			t.Fatalf("%s of %q, which is there: %v", e.Op, head, ok)
		}
		return out
	case []any:
		i, err := strconv.Atoi(head)
		if err != nil {
			t.Fatal(err)
		}
		out := append([]any(nil), v...)
		switch {
		case !more && e.Op == EditRemoved && i == len(v)-1:
			return append([]any{}, out[:i]...)
		case !more && e.Op == EditAdded && i == len(v):
			return append(out, decode(e.New))
		case i < len(v) && (more || e.Op == EditChanged):
			out[i] = apply(t, v[i], e)
			return out
		}
	}
	t.Fatalf("%s of %q in %T", e.Op, head, v)
	return nil
}

func FuzzCompare(f *testing.F) {
	for _, s := range [][2]string{
		{`{"a":1,"b":[1,{"c":2}]}`, `{"b":[{"c":3}],"a":"1"}`}, {`{"a":{"b":"\ud800"}}`, `{"a":{"b":"x"}}`}, {`[]`, `[[[]]]`},
		{`{"a":1,"a":{"b":1}}`, `{"a":{"b":2},"a":null}`}, {`{"~/":0," ":[1,2,3]}`, ` {"~/" :1 , " ":[ 1 ]} `}, {`"x"`, `"\u0078"`},
	} {
		f.Add([]byte(s[0]), []byte(s[1]), uint8(3))
	}
	f.Fuzz(func(t *testing.T, old, new []byte, n uint8) {
		d, err := Compare(old, new, unlimited)
		if ok := json.Valid(old) && json.Valid(new) && utf8.Valid(old) && utf8.Valid(new); (err == nil) != ok {
			t.Fatalf("valid %v: %v", ok, err)
		}
		if err != nil {
			return
		}
		if d.Truncated {
			t.Fatal("truncated without limits")
		}
		checkApply(t, old, new, d)
		// A shorter delta is the beginning of it, or says less of a value.
		short, err := Compare(old, new, Limits{Edits: int(n), ValueBytes: int(n), TotalBytes: 4 * int(n)})
		if err != nil {
			t.Fatal(err)
		}
		if len(short.Edits) > int(n) || !short.Truncated && spell(short) != spell(d) {
			t.Fatalf("limit %d (truncated %v): %s, of %s", n, short.Truncated, spell(short), spell(d))
		}
	})
}
