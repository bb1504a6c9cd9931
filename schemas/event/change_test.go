package event

import (
	"bytes"
	"encoding/json"
	"errors"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/tidemark-dev/tidemark/schemas/stream"
)

var testKey = NewKey(stream.ID{Environment: "dev", Integration: "demo", Connection: "acme", Model: "Brand"})

func TestNewKey_FillsInTheVariant(t *testing.T) {
	if testKey.ID.Variant != stream.VariantBase || testKey.Stream != "dev/demo/acme/Brand/base" {
		t.Errorf("%+v", testKey)
	}
}

// Each member of the envelope, for each op, with and without what is optional: golden files pin the text, this the combinations.
func TestAppendChange_IsJSONThatSaysWhatWasMeant(t *testing.T) {
	payload, before := []byte(`{"a" : "\u00e9"}`), []byte(`{"a":1}`)
	for _, op := range []Op{OpAdded, OpUpdated, OpDeleted} {
		for bits := range 16 {
			has := func(bit int) bool { return bits>>bit&1 == 1 }
			c := Change{Op: op, Partition: 3, Key: testKey, ID: []byte(`"1"`)}
			m := Meta{CSN: 7, TS: 5000, FirstSeen: 4000, RawOffset: -1, Record: true, Rev: 2}
			if has(0) || op != OpDeleted {
				c.Payload = payload
			}
			if has(1) {
				c.Before = before
			}
			if has(2) {
				c.Changed, c.ChangedKnown = []string{"a"}, true
			}
			if has(3) {
				c.Schema = []byte("v1")
			}
			value := AppendChange([]byte("front"), &c, &m)[len("front"):]

			var e Envelope
			if err := json.Unmarshal(value, &e); err != nil {
				t.Fatalf("%s %b: %v\n%s", op, bits, err, value)
			}
			wantBefore, wantAfter, wantChanged := []byte("null"), payload, []string(nil)
			if op == OpUpdated && has(1) {
				wantBefore = before
			}
			if op == OpUpdated && has(2) {
				wantChanged = c.Changed
			}
			if op == OpDeleted {
				wantBefore, wantAfter = c.Payload, []byte("null")
				if c.Payload == nil {
					wantBefore = []byte("null")
				}
			}
			if !bytes.Equal(e.Before, wantBefore) || !bytes.Equal(e.After, wantAfter) || !slices.Equal(e.Changed, wantChanged) {
				t.Errorf("%s %b: %s", op, bits, value)
			}
			if e.ID != "3:7" || e.Action != op.String() || e.Key.RecordID != `"1"` || e.Key.ID != testKey.ID || e.Source.RawOffset != -1 ||
				e.Source.LSN != 7 || e.Source.Schema != string(c.Schema) || e.TSMillis != 5000 || e.Rev != 2 || e.FirstSeenAt != "1970-01-01T00:00:04.000Z" {
				t.Errorf("%s %b: %+v", op, bits, e)
			}
			got, err := Payload(value, &m)
			if err != nil || !bytes.Equal(got, c.Payload) || (got == nil) != (c.Payload == nil) {
				t.Errorf("%s %b: payload %q, %v", op, bits, got, err)
			}
			if c.Payload == nil && m.PayloadOffset != 0 {
				t.Errorf("%s %b: an offset of %d of nothing", op, bits, m.PayloadOffset)
			}
		}
	}
}

func TestAppendChange_AnEmptyPayloadIsNone(t *testing.T) {
	c := Change{Op: OpDeleted, Key: testKey, ID: []byte("1"), Payload: []byte{}, Before: []byte{}}
	m := Meta{CSN: 1, Record: true}
	for _, c.Op = range []Op{OpAdded, OpUpdated, OpDeleted} {
		if value := AppendChange(nil, &c, &m); !json.Valid(value) || m.PayloadLength != 0 {
			t.Errorf("%s: %s", c.Op, value)
		}
	}
	if value := AppendRestored(nil, &c, &m); !json.Valid(value) {
		t.Errorf("%s", value)
	}
}

// A list of names may be as long as the record. It must not make the change larger than its topic takes.
func TestAppendChange_BoundsTheListOfNames(t *testing.T) {
	for _, c := range []struct {
		names []string
		known bool
	}{
		{slices.Repeat([]string{"x"}, (ChangedBytesMax-2)/4), true},
		{slices.Repeat([]string{"x"}, ChangedBytesMax/4+1), false},
		{[]string{strings.Repeat("x", ChangedBytesMax)}, false},
		{[]string{strings.Repeat("\x01", ChangedBytesMax/6+1)}, false},
		{[]string{"a", strings.Repeat("x", ChangedBytesMax-7)}, false},
		{[]string{"a", strings.Repeat("x", ChangedBytesMax-8)}, true},
	} {
		m := Meta{CSN: 1, Record: true}
		value := AppendChange(nil, &Change{
			Op: OpUpdated, Key: testKey, ID: []byte("1"), Payload: []byte("{}"), Changed: c.names, ChangedKnown: true,
		}, &m)
		var e Envelope
		if err := json.Unmarshal(value, &e); err != nil {
			t.Fatal(err)
		}
		if c.known && !slices.Equal(e.Changed, c.names) || !c.known && e.Changed != nil {
			t.Errorf("%d names of %d bytes: known is %v", len(c.names), len(c.names[0]), e.Changed != nil)
		}
		if limit := ChangedBytesMax + 1000; len(value) > limit {
			t.Errorf("%d names make %d bytes", len(c.names), len(value))
		}
	}
}

func TestPayload_RefusesAPlaceOutsideTheValue(t *testing.T) {
	value := []byte("0123456789")
	const most = 1<<64 - 1
	for _, c := range []struct {
		offset, length uint64
		want           string
		bad            bool
	}{
		{0, 10, "0123456789", false},
		{9, 1, "9", false},
		{10, 1, "", true},
		{11, 1, "", true},
		{0, 11, "", true},
		{5, most, "", true}, // the sum overflows
		{most, 5, "", true},
		{most, most, "", true},
		{most, 0, "", false}, // no payload
	} {
		got, err := Payload(value, &Meta{Record: true, PayloadOffset: c.offset, PayloadLength: c.length})
		if string(got) != c.want || (err != nil) != c.bad || err != nil && !errors.Is(err, ErrMeta) {
			t.Errorf("[%d,+%d): %q, %v", c.offset, c.length, got, err)
		}
	}
	if got, err := Payload(value, &Meta{PayloadLength: 3}); got != nil || err != nil {
		t.Errorf("without a record section: %q, %v", got, err)
	}
}

func TestAppendChange_DoesNotAllocate(t *testing.T) {
	c, m := benchChange(rand.New(rand.NewPCG(1, 2)), 1)
	c.ID, c.Schema = []byte(strings.Repeat("é日💥\xff", 20)), []byte("v1 é")
	buf := make([]byte, 0, 4096)
	for _, c.Op = range []Op{OpAdded, OpUpdated, OpDeleted} {
		if n := testing.AllocsPerRun(100, func() { buf = AppendChange(buf[:0], c, m) }); n != 0 {
			t.Errorf("%s: %v allocations", c.Op, n)
		}
	}
	if n := testing.AllocsPerRun(100, func() { buf = AppendRestored(buf[:0], c, m) }); n != 0 {
		t.Errorf("RESTORED: %v allocations", n)
	}
	headers := benchHeaders(OpUpdated, m)
	if n := testing.AllocsPerRun(100, func() {
		if _, err := ParseRecord(headers, m); err != nil {
			t.Fatal(err)
		}
	}); n != 0 {
		t.Errorf("ParseRecord: %v allocations", n)
	}
}

// FuzzAppendChange checks that whatever names, ids and lists hold, the envelope is JSON that says the same.
func FuzzAppendChange(f *testing.F) {
	f.Add("dev", "Brand", "1", "title", "v1", uint64(1), int64(0))
	f.Add("\"\\\n\x00", "é", "💥\u2028", "\xff", "<&>", uint64(1<<63), int64(1<<60))
	f.Fuzz(func(t *testing.T, environment, model, id, name, schema string, csn uint64, ts int64) {
		payload := []byte(`{"x": [1]}`)
		c := Change{
			Op: OpUpdated, Key: NewKey(stream.ID{Environment: environment, Model: model}), ID: []byte(id), Payload: payload,
			Changed: []string{name, "b"}, ChangedKnown: true, Schema: []byte(schema),
		}
		m := Meta{CSN: csn, TS: ts, FirstSeen: ts, Record: true}
		value := AppendChange(nil, &c, &m)
		var e Envelope
		if err := json.Unmarshal(value, &e); err != nil {
			t.Fatalf("%v: %s", err, value)
		}
		if e.Key.Environment != replaceInvalid(environment) || e.Key.Model != replaceInvalid(model) || e.Key.RecordID != replaceInvalid(id) ||
			e.Source.Schema != replaceInvalid(schema) || e.Source.LSN != csn || e.TSMillis != ts {
			t.Fatalf("%+v", e)
		}
		if e.Changed != nil && !slices.Equal(e.Changed, []string{replaceInvalid(name), "b"}) || e.Changed == nil && len(name) < ChangedBytesMax/6-8 {
			t.Fatalf("changed %q", e.Changed)
		}
		if got, err := Payload(value, &m); err != nil || !bytes.Equal(got, payload) {
			t.Fatalf("payload %q, %v", got, err)
		}
	})
}

// replaceInvalid is what JSON makes of a string that is not UTF-8: each byte that is none becomes U+FFFD.
func replaceInvalid(s string) string {
	var b strings.Builder
	for len(s) > 0 {
		r, n := utf8.DecodeRuneInString(s)
		b.WriteRune(r)
		s = s[n:]
	}
	return b.String()
}

// FuzzAppendJSONString compares with the standard library in both directions.
func FuzzAppendJSONString(f *testing.F) {
	for _, s := range []string{"", "a", "\"\\/\b\f\n\r\t\x00\x1f\x7f", "é日💥\uFFFD\u2028\u2029", "\xff\xc0\x80\xed\xa0\x80\xf4\x90\x80\x80", "a\xe6\x97", "<&>'"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		quoted := appendJSONString([]byte("front"), s)[len("front"):]
		if other := appendJSONString(nil, []byte(s)); !bytes.Equal(quoted, other) {
			t.Fatalf("%q as text, %q as bytes", quoted, other)
		}
		if !utf8.Valid(quoted) {
			t.Fatalf("%q is not UTF-8", quoted)
		}
		var got string
		if err := json.Unmarshal(quoted, &got); err != nil || got != replaceInvalid(s) {
			t.Fatalf("%q is read as %q, %v; want %q", quoted, got, err, replaceInvalid(s))
		}
		theirs, err := json.Marshal(s)
		if err != nil {
			t.Fatal(err)
		}
		var want string
		if err := json.Unmarshal(theirs, &want); err != nil || got != want {
			t.Fatalf("we mean %q, the standard library means %q", got, want)
		}
	})
}
