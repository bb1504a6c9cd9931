package api

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"testing"
	"unicode/utf8"
)

func TestAppendMembers(t *testing.T) {
	for _, c := range []struct{ name, payload, id, want string }{
		{"empty object", `{}`, `7`, `{"id":"7"`},
		{"empty object with space", " { } \n", `7`, `{"id":"7"`},
		{"no id", `{"a":1}`, `7`, `{"a":1,"id":"7"`},
		{"same id first", `{"id":"7","a":1}`, `7`, `{"id":"7","a":1`},
		{"same id last", `{"a":1,"id":"7"}`, `7`, `{"a":1,"id":"7"`},
		{"same id alone", `{"id":"7"}`, `7`, `{"id":"7"`},
		{"number becomes text in its place", `{"a":1,"id":7,"b":2}`, `7`, `{"a":1,"id":"7","b":2`},
		{"number id alone", `{"id":7}`, `7`, `{"id":"7"`},
		{"object as id", `{"id":{"id":["}"]},"b":2}`, `7`, `{"id":"7","b":2`},
		{"nested id stays", `{"user":{"id":1,"_nango_metadata":2},"ids":[{"id":3}]}`, `7`, `{"user":{"id":1,"_nango_metadata":2},"ids":[{"id":3}],"id":"7"`},
		{"longer and shorter keys stay", `{"i":1,"idx":2,"_nango_metadat":3,"_nango_metadata2":4,"ID":5}`, `7`, `{"i":1,"idx":2,"_nango_metadat":3,"_nango_metadata2":4,"ID":5,"id":"7"`},
		{"name as value stays", `{"a":"id","b":"_nango_metadata","c":"\"id\":"}`, `7`, `{"a":"id","b":"_nango_metadata","c":"\"id\":","id":"7"`},
		{"metadata dropped first", `{"_nango_metadata":{"cursor":"x"},"a":1}`, `7`, `{"a":1,"id":"7"`},
		{"metadata dropped in the middle", `{"a":1,"_nango_metadata":null,"b":2}`, `7`, `{"a":1,"b":2,"id":"7"`},
		{"metadata dropped last", `{"id":"7","_nango_metadata":[1,"]"]}`, `7`, `{"id":"7"`},
		{"nothing left", `{"_nango_metadata":{}}`, `7`, `{"id":"7"`},
		{"read back and saved again", `{"id":"7","a":1,"_nango_metadata":{"first_seen_at":"x","cursor":"y"}}`, `7`, `{"id":"7","a":1`},
		{"id twice", `{"id":1,"a":2,"id":"7"}`, `7`, `{"id":"7","a":2`},
		{"id twice, first right", `{"id":"7","a":2,"id":1,"b":3}`, `7`, `{"id":"7","a":2,"b":3`},
		{"escaped names", `{"\u0069d":1,"a":2,"\u005fnango_metadata":3,"i\u0064x":4}`, `7`, `{"id":"7","a":2,"i\u0064x":4`},
		{"escape in another key", `{"\"id":1,"a\\":2}`, `7`, `{"\"id":1,"a\\":2,"id":"7"`},
		{"backslashes before quotes", `{"a":"\\","b":"\\\"","id":"7","c":"\\\\"}`, `7`, `{"a":"\\","b":"\\\"","id":"7","c":"\\\\"`},
		{"brackets in strings", `{"a":["{","]\"}"],"id":7}`, `7`, `{"a":["{","]\"}"],"id":"7"`},
		{"white space is kept inside", "\t{ \"a\" : 1 ,\r\n \"id\" : 7 , \"b\":\t[ 1 , 2 ] }\n", `7`, "{\"a\" : 1,\"id\":\"7\",\"b\":\t[ 1 , 2 ]"},
		{"numbers keep their text", `{"n":1.0,"m":10000000000000000000001,"e":1E+2}`, `7`, `{"n":1.0,"m":10000000000000000000001,"e":1E+2,"id":"7"`},
		{"literals", `{"t":true,"f":false,"n":null}`, `7`, `{"t":true,"f":false,"n":null,"id":"7"`},
		{"id with quotes and controls", `{"id":"a\"b"}`, "a\"b\\\n\x01é\u2028", `{"id":"a\"b\\\u000a\u0001é` + "\u2028" + `"`},
	} {
		t.Run(c.name, func(t *testing.T) {
			const before = "[0,"
			got, err := appendMembers([]byte(before), []byte(c.payload), appendJSONString(nil, c.id))
			if err != nil {
				t.Fatal(err)
			}
			if string(got) != before+c.want {
				t.Errorf("got  %s\nwant %s", got, before+c.want)
			}
			checkMembers(t, []byte(c.payload), c.id)
		})
	}
}

func TestAppendMembers_RefusesWhatIsNoObject(t *testing.T) {
	for _, p := range []string{
		``, ` `, `null`, `[]`, `"a"`, `1`, `{`, `{ `, `{"`, `{"a`, `{"a"`, `{"a" `, `{"a":`, `{"a": `, `{"a":1`, `{"a":1 `, `{"a":1,`, `{"a":1, `,
		`{"a":1,}`, `{,}`, `{:1}`, `{a:1}`, `{"a" 1}`, `{"a":}`, `{"a":,}`, `{"a":"}`, `{"a":"\"}`, `{"a":[}`, `{"a":{"b":["x}`, `{"a":1 2}`,
		`{"a":1}}`, `{}x`, `{"a\`, `{"a\"`,
	} {
		if got, err := appendMembers(nil, []byte(p), []byte(`"7"`)); !errors.Is(err, errNotObject) {
			t.Errorf("%q: got %q and error %v", p, got, err)
		}
	}
}

// checkMembers compares with what encoding/json makes of the payload: all members the same to the byte, but for ours.
func checkMembers(t *testing.T, payload []byte, id string) {
	t.Helper()
	got, err := appendMembers(nil, payload, appendJSONString(nil, id))
	if err != nil {
		t.Fatalf("payload %q: %v", payload, err)
	}
	got = append(got, `,"_nango_metadata":true}`...)
	if !json.Valid(got) {
		t.Fatalf("payload %q: result is not JSON: %q", payload, got)
	}
	want := map[string]json.RawMessage{}
	if err := json.Unmarshal(payload, &want); err != nil {
		t.Fatalf("payload %q: %v", payload, err)
	}
	want["id"], want["_nango_metadata"] = nil, json.RawMessage("true") // id: by value, below
	have := map[string]json.RawMessage{}
	if err := json.Unmarshal(got, &have); err != nil {
		t.Fatal(err)
	}
	var gotID string
	if err := json.Unmarshal(have["id"], &gotID); err != nil || gotID != id {
		t.Fatalf("payload %q: id is %s, want %q (%v)", payload, have["id"], id, err)
	}
	have["id"] = nil
	if !maps.EqualFunc(have, want, func(a, b json.RawMessage) bool { return bytes.Equal(a, b) }) {
		t.Fatalf("payload %q: got %q, want members %q", payload, got, want)
	}
	// Ours appear once, whatever the payload repeated.
	n := map[string]int{}
	dec := json.NewDecoder(bytes.NewReader(got))
	if _, err := dec.Token(); err != nil {
		t.Fatal(err)
	}
	for dec.More() {
		key, err := dec.Token()
		if err != nil {
			t.Fatal(err)
		}
		n[key.(string)]++
		var skip json.RawMessage
		if err := dec.Decode(&skip); err != nil {
			t.Fatal(err)
		}
	}
	if n["id"] != 1 || n["_nango_metadata"] != 1 {
		t.Fatalf("payload %q: %q has id %d times and _nango_metadata %d times", payload, got, n["id"], n["_nango_metadata"])
	}
}

func TestAppendMembers_RandomObjects(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rnd := rand.New(rand.NewPCG(seed, 0))
	for range 5_000 {
		checkMembers(t, randomObject(rnd, 3), fmt.Sprint(rnd.IntN(3)))
	}
}

var (
	randomNames  = []string{`id`, `i\u0064`, `_nango_metadata`, `\u005Fnango_metadata`, `a`, `name`, `\"`, `\\`, `é`, ``}
	randomLeaves = []string{`1`, `0`, `"0"`, `"1"`, `-1.50`, `true`, `null`, `""`, `"}"`, `"{\""`, `"a\\"`, `"\\\""`, `"id"`, `"x,y:z"`}
	randomSpaces = []string{``, ``, ``, ` `, "\n\t"}
)

func randomObject(rnd *rand.Rand, depth int) []byte {
	pick := func(from []string) string { return from[rnd.IntN(len(from))] }
	var b []byte
	b = append(b, pick(randomSpaces)...)
	b = append(b, '{')
	for i := range rnd.IntN(6) {
		if i > 0 {
			b = append(b, ',')
		}
		b = append(b, pick(randomSpaces)...)
		b = append(b, '"')
		b = append(b, pick(randomNames)...)
		b = append(b, '"')
		b = append(b, pick(randomSpaces)...)
		b = append(b, ':')
		switch {
		case depth > 0 && rnd.IntN(5) == 0:
			b = append(b, randomObject(rnd, depth-1)...)
		case depth > 0 && rnd.IntN(5) == 0:
			b = append(append(append(b, '['), randomObject(rnd, depth-1)...), ']')
		default:
			b = append(b, pick(randomSpaces)...)
			b = append(b, pick(randomLeaves)...)
		}
		b = append(b, pick(randomSpaces)...)
	}
	b = append(b, pick(randomSpaces)...)
	b = append(b, '}')
	return append(b, pick(randomSpaces)...)
}

func FuzzAppendMembers(f *testing.F) {
	f.Add([]byte(`{"id":1,"a":{"id":"}"},"_nango_metadata":[]}`), "1")
	f.Add([]byte(` { "\u0069d" : "x\\" , "b":[{},"]"] } `), "é\"")
	f.Add([]byte(`{"a":"\"`), "")
	f.Fuzz(func(t *testing.T, payload []byte, id string) {
		if !utf8.ValidString(id) {
			return // never stored
		}
		var object map[string]json.RawMessage
		if json.Unmarshal(payload, &object) == nil && object != nil {
			checkMembers(t, payload, id)
			return
		}
		dst := []byte("kept")
		got, _ := appendMembers(dst, payload, appendJSONString(nil, id))
		if !bytes.HasPrefix(got, dst) {
			t.Fatalf("payload %q: what was there before is gone: %q", payload, got)
		}
	})
}

func BenchmarkAppendRecord(b *testing.B) {
	for _, size := range []int{350, 800} {
		b.Run(fmt.Sprintf("%dB", size), func(b *testing.B) {
			row := Row{CSN: 123456, Offset: 99123456, Term: 3, Partition: 2, Op: 1, TSMillis: 1780000000123, FirstSeenMS: 1770000000123, ID: []byte("rec-00012345"), Payload: SamplePayload("rec-00012345", size)}
			r := &renderer{}
			var dst []byte
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				row.TSMillis = 1780000000123 + int64(i/100)
				row.FirstSeenMS = 1770000000123 + int64(i%7)
				var err error
				if dst, err = r.appendRecord(dst[:0], &row); err != nil {
					b.Fatal(err)
				}
			}
			b.SetBytes(int64(len(dst)))
		})
	}
}
