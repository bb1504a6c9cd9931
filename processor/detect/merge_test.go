package detect

import (
	"bytes"
	"encoding/json"
	"errors"
	"maps"
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"testing"
)

func TestMerge(t *testing.T) {
	for _, c := range []struct{ stored, partial, remove, want string }{
		// Nested objects merge, arrays are replaced as a whole, null overwrites, absence removes nothing.
		{`{"id":1,"a":{"x":1,"y":2},"t":[1,2]}`, `{"a":{"y":3}}`, ``, `{"id":1,"a":{"x":1,"y":3},"t":[1,2]}`},
		{`{"a":{"b":{"c":1,"d":2}}}`, `{"a":{"b":{"d":3,"e":4}}}`, ``, `{"a":{"b":{"c":1,"d":3,"e":4}}}`},
		{`{"t":[1,2,3]}`, `{"t":[4]}`, ``, `{"t":[4]}`},
		{`{"t":[{"a":1,"b":2}]}`, `{"t":[{"a":3}]}`, ``, `{"t":[{"a":3}]}`},
		{`{"a":1,"b":2}`, `{"a":null}`, ``, `{"a":null,"b":2}`},
		{`{"a":{"x":1}}`, `{"a":{"x":null}}`, ``, `{"a":{"x":null}}`},
		{`{"a":{"x":1}}`, `{"a":null}`, ``, `{"a":null}`},
		{`{"a":null}`, `{"a":{"x":1}}`, ``, `{"a":{"x":1}}`},
		{`{"a":{"x":1}}`, `{"a":[1]}`, ``, `{"a":[1]}`},
		{`{"a":[1]}`, `{"a":{"x":{"y":1}}}`, ``, `{"a":{"x":{"y":1}}}`},
		{`{"a":{"x":1}}`, `{"a":{}}`, ``, `{"a":{"x":1}}`},
		{`{"a":1}`, `{}`, ``, `{"a":1}`},
		{`{}`, `{}`, ``, `{}`},
		{`{}`, `{"a":1}`, ``, `{"a":1}`},
		// New members follow in the order of the partial.
		{`{"b":1}`, `{"c":1,"a":2}`, ``, `{"b":1,"c":1,"a":2}`},
		{`{"o":{}}`, `{"z":1,"o":{"y":1,"x":2},"a":3}`, ``, `{"o":{"y":1,"x":2},"z":1,"a":3}`},
		// What is not touched keeps its bytes.
		{" {\n \"a\" : 1.0 ,\n \"b\":[ 1,2 ] , \"\\u0063\":\"\\u0041\\/\"\n} ", `{"b":0}`, ``, "{\n \"a\" : 1.0 ,\n \"b\":0 , \"\\u0063\":\"\\u0041\\/\"\n}"},
		{`{ }`, ` { "a" : 1 } `, ``, `{"a" : 1 }`},
		{`{"a": 1 }`, `{"b": 2 }`, ``, `{"a": 1,"b": 2 }`},
		{`{"a":{ "x" : 1 }}`, `{"a":{"y" : 2}}`, ``, `{"a":{ "x" : 1,"y" : 2 }}`},
		// Names are compared by what they mean.
		{`{"\u00e9":1}`, `{"é":2}`, ``, `{"\u00e9":2}`},
		{`{"a\"b\\":1,"c":2}`, `{"\u0061\"b\u005c":3}`, ``, `{"a\"b\\":3,"c":2}`},
		{`{"😀":1}`, `{"\ud83d\ude00":2}`, ``, `{"😀":2}`},
		// The last of several counts.
		{`{"a":1,"b":2,"a":3}`, `{"a":4}`, ``, `{"b":2,"a":4}`},
		{`{"a":{"x":1},"a":{"y":2}}`, `{"a":{"z":3}}`, ``, `{"a":{"y":2,"z":3}}`},
		{`{"a":1}`, `{"a":2,"a":3,"b":4,"b":5}`, ``, `{"a":3,"b":5}`},
		{`{"a":1,"a":2,"b":3}`, `{"b":4}`, ``, `{"a":1,"a":2,"b":4}`},
		{`{"a":1,"b":3,"\u0061":2}`, `{}`, `/a`, `{"b":3}`},
		// Removing.
		{`{"a":1,"b":2,"c":3}`, `{}`, `/a`, `{"b":2,"c":3}`},
		{`{"a":1,"b":2,"c":3}`, `{}`, `/b`, `{"a":1,"c":3}`},
		{`{"a":1,"b":2,"c":3}`, `{}`, `/c`, `{"a":1,"b":2}`},
		{`{"a":1,"b":2,"c":3}`, `{}`, `/a /b /c`, `{}`},
		{"{ \"a\":1 ,\t\"b\":2 ,\n\"c\":3\r}", `{}`, `/a`, "{ \"b\":2 ,\n\"c\":3\r}"},
		{"{ \"a\":1 ,\t\"b\":2 ,\n\"c\":3\r}", `{}`, `/c`, "{ \"a\":1 ,\t\"b\":2\r}"},
		{"{ \"a\":1 ,\t\"b\":2 ,\n\"c\":3\r}", `{"d":4}`, `/a /b /c`, "{ \"d\":4\r}"},
		{`{"a":{"x":1,"y":2}}`, `{}`, `/a/x`, `{"a":{"y":2}}`},
		{`{"a":{"x":1,"y":2}}`, `{"a":{"z":3}}`, `/a/x /a/z`, `{"a":{"y":2}}`},
		{`{"a":1}`, `{"a":{"x":1,"y":2},"b":{"x":1,"y":2}}`, `/a/x /b/y`, `{"a":{"y":2},"b":{"x":1}}`},
		{`{"a":1}`, `{"b":2}`, `/b`, `{"a":1}`},
		{`{"a":1}`, `{"a":2}`, `/a`, `{}`},
		{`{"l":[{"x":1,"y":2},{"x":3}]}`, `{}`, `/l/0/x`, `{"l":[{"y":2},{"x":3}]}`},
		{`{"l":[ 1 , 2 , 3 ]}`, `{}`, `/l/0 /l/2`, `{"l":[ 2 ]}`},
		{`{"l":[1]}`, `{"l":[1,[2,3]]}`, `/l/1/0`, `{"l":[1,[3]]}`},
		{`{"l":[]}`, `{}`, `/l/0 /l/-`, `{"l":[]}`},
		{`{"a":1,"b":"x"}`, `{}`, `/c /a/x /b/0 /c/d`, `{"a":1,"b":"x"}`},
		{`{"a/b":1,"a~b":2,"~1":3,"":4,"c":5}`, `{}`, `/a~1b /a~0b /~01 /`, `{"c":5}`},
		// An asterisk is a name here.
		{`{"*":1,"a":2}`, `{}`, `/*`, `{"a":2}`},
		// Strings that look like structure.
		{`{"a":"}\\\"{[,","b":["]",{"c":"\\"}],"d":1}`, `{"d":2}`, `/b/1/c`, `{"a":"}\\\"{[,","b":["]",{}],"d":2}`},
	} {
		stored, partial := []byte(c.stored), []byte(c.partial)
		got, err := Merge(stored, partial, strings.Fields(c.remove))
		if err != nil || string(got) != c.want {
			t.Errorf("%s with %s without %q\n got %s %v\nwant %s", c.stored, c.partial, c.remove, got, err, c.want)
		}
		if string(stored) != c.stored || string(partial) != c.partial {
			t.Errorf("arguments were changed: %s, %s", stored, partial)
		}
	}
}

// TestMerge_HashIsThatOfTheWhole holds up what the reference product gets wrong (it keeps the hash of the partial): a
// full save of the merged record is unchanged, and so is a partial that says nothing new.
func TestMerge_HashIsThatOfTheWhole(t *testing.T) {
	d := scanner(t)
	m, err := Merge([]byte(`{"id":"1","s":"open","n":{"a":1,"b":2}}`), []byte(`{"id":"1","s":"shut","n":{"b":3}}`), nil)
	if err != nil {
		t.Fatal(err)
	}
	merged := keep(scan(t, d, string(m)))
	if !same(merged, scan(t, d, `{"n":{"b":3,"a":1},"s":"shut","id":"1"}`)) {
		t.Errorf("%s differs from the same record saved whole", m)
	}
	if scan(t, d, `{"id":"1","s":"shut","n":{"b":3}}`).Hash == merged.Hash {
		t.Error("the merged record has the hash of the partial")
	}
	again, err := Merge(m, []byte(`{"s":"\u0073hut","n":{"b":3}}`), nil)
	if err != nil || !same(merged, scan(t, d, string(again))) {
		t.Errorf("a partial with nothing new makes %s: %v", again, err)
	}
}

func TestMerge_Refuses(t *testing.T) {
	for _, c := range []struct {
		stored, partial, remove string
		kind                    error
		text                    string
	}{
		{`{"a":}`, `{}`, ``, ErrInvalidJSON, "reading the stored payload: "},
		{``, `{}`, ``, ErrInvalidJSON, "reading the stored payload: "},
		{`[]`, `{}`, ``, ErrNotObject, "reading the stored payload: "},
		{`{}`, `{"a"}`, ``, ErrInvalidJSON, "reading the partial update: "},
		{`{}`, `null`, ``, ErrNotObject, "reading the partial update: "},
		{`{}`, `{}`, `a`, ErrInvalidPointer, "compiling fields to remove: "},
		{`{}`, "{\"a\":\"\xff\"}", ``, ErrInvalidJSON, "reading the partial update: "},
		{`{}`, `{"a":` + strings.Repeat("[", MaxDepth) + strings.Repeat("]", MaxDepth) + `}`, ``, ErrTooDeep, "reading the partial update: "},
	} {
		got, err := Merge([]byte(c.stored), []byte(c.partial), strings.Fields(c.remove))
		if got != nil || !errors.Is(err, c.kind) || !strings.HasPrefix(err.Error(), c.text) {
			t.Errorf("%s with %.30s: %s, %v", c.stored, c.partial, got, err)
		}
	}
	if _, err := Merge([]byte(`{}`), []byte(`{}`), []string{""}); !errors.Is(err, ErrInvalidPointer) {
		t.Error(err)
	}
}

// compareMerge checks a merge against the reference, which works on trees.
func compareMerge(t *testing.T, stored, partial []byte, remove []string) {
	t.Helper()
	got, err := Merge(stored, partial, remove)
	a, kind := refer(stored, nil)
	b, kindB := refer(partial, nil)
	if kind == nil {
		kind = kindB
	}
	if deep := max(depthOf(stored), depthOf(partial)); deep > MaxDepth && errors.Is(err, ErrTooDeep) {
		return
	}
	if !errors.Is(err, kind) || (err == nil) != (kind == nil) {
		t.Fatalf("error %v, want %v: %q with %q", err, kind, stored, partial)
	}
	if err != nil {
		return
	}
	mark := max(a.mark, b.mark) // the longer one
	var want any = merged(treeOf(t, stored, mark), treeOf(t, partial, mark))
	for _, p := range remove {
		segments, err := parsePointer(p)
		if err != nil {
			t.Fatal(err)
		}
		if !slices.Contains(segments, "*") { // a wildcard in the reference, a name in Merge
			markIgnored(want, segments)
		}
	}
	want = withoutIgnored(want)
	if tree := treeOf(t, got, mark); !reflect.DeepEqual(tree, want) {
		t.Fatalf("%q with %q without %q\n got %v\nwant %v", stored, partial, remove, tree, want)
	}

	// Members that nothing touches are there byte by byte, in their order.
	at, w := 0, walker{}
	touched := maps.Clone(b.tree)
	for _, p := range remove {
		segments, _ := parsePointer(p)
		touched[segments[0]] = nil
	}
	stored = bytes.TrimSpace(stored)
	for _, e := range w.members(stored) {
		if _, ok := touched[string(w.name(stored, &e))]; ok || mark != "\ue000lone\ue000" {
			continue
		}
		k := bytes.Index(got[at:], stored[e.start:e.end])
		if k < 0 {
			t.Fatalf("%q is not in %q", stored[e.start:e.end], got)
		}
		at += k + e.end - e.start
	}
	again, err := Merge(got, partial, remove)
	if err != nil {
		t.Fatal(err)
	}
	if indexed := slices.ContainsFunc(remove, func(p string) bool { return strings.ContainsAny(p, "012") }); !indexed {
		if one, two := scan(t, scanner(t), string(got)).Hash, scan(t, scanner(t), string(again)).Hash; one != two {
			t.Fatalf("the same update twice gives %q, then %q", got, again)
		}
	}
}

var removals = [][]string{nil, {"/a"}, {"/a/b", "/owner"}, {"/items/0", "/items/2/a", "/tags/1"}, {"/a~1b", "/~01", "/", "/0/1"}, {"/id", "/id/a", "/b/c"}}

func FuzzMerge(f *testing.F) {
	f.Add([]byte(`{"a":{"b":1,"c":[1,2]},"owner":{}}`), []byte(`{"a":{"c":null}}`), uint(2))
	f.Add([]byte(` { "a" : 1 , "a" : { "b" : [ 1 ] } } `), []byte(`{"a":{"b":2},"\u0061":{"c":3}}`), uint(1))
	f.Add([]byte(`{"items":[1,{"x":2},{"a":3}],"tags":["\\\"]"]}`), []byte(`{"items":[{},{},{"a":1}]}`), uint(3))
	f.Add([]byte(`{"a/b":1,"~1":"\ud800"}`), []byte(`{"":"\ud83d\ude00"}`), uint(4))
	f.Fuzz(func(t *testing.T, stored, partial []byte, k uint) {
		compareMerge(t, stored, partial, removals[k%uint(len(removals))])
	})
}

func TestMerge_AgreesWithReference(t *testing.T) {
	r := seeded(t, rand.Uint64())
	for range 3000 {
		s := style{r: r, mark: "\ue000none", space: r.IntN(2) == 0, order: true, again: r.IntN(4) == 0}
		tree := randomObject(r, 4)
		var update any = randomObject(r, 4)
		if r.IntN(2) == 0 {
			update = mutate(r, mutate(r, tree))
		}
		compareMerge(t, []byte(s.write(tree)), []byte(s.write(update)), removals[r.IntN(len(removals))])
	}
}

// TestMerge_SharesNoMemory is for callers that use their buffers again.
func TestMerge_SharesNoMemory(t *testing.T) {
	stored, partial := []byte(`{"a":1}`), []byte(`{"b":2}`)
	got, err := Merge(stored, partial, nil)
	if err != nil {
		t.Fatal(err)
	}
	clear(stored)
	clear(partial)
	if !json.Valid(got) || string(got) != `{"a":1,"b":2}` {
		t.Errorf("%s", got)
	}
}
