package ingest

import (
	"bytes"
	"errors"
	"testing"

	"github.com/tidemark-dev/tidemark/ingest/bulk"
	"github.com/tidemark-dev/tidemark/schemas/stream"
)

var memberCases = []struct{ payload, field string }{
	{`{"id":"a"}`, "id"}, {`{"id":1}`, "id"}, {`{"id":-1.50e3}`, "id"}, {`{"id":1,"id":"b"}`, "id"}, {`{"i\u0064":"a"}`, "id"},
	{`{"id":null}`, "id"}, {`{"id":true}`, "id"}, {`{"id":{}}`, "id"}, {`{"id":[]}`, "id"}, {`{"id":""}`, "id"}, {`{}`, "id"}, {`{"x":1}`, "id"},
	{`{"a":{"b":"c"}}`, "a.b"}, {`{"a.b":"c"}`, "/a.b"}, {`{"a/b":{"~":"c"}}`, "/a~1b/~0"}, {`{"a":[1,{"b":2}]}`, "a.1.b"}, {`{"a":[1,2]}`, "a.01"},
	{`{"a":[1]}`, "a.1"}, {`{"a":1}`, "a.b"}, {`{"":"x"}`, "/"}, {"\n {\"id\" :\t\"a\\n\\u00e9\\ud83d\\ude00\" } ", "id"}, {`{"id":"\ud83d"}`, "id"}, {`{"id":"\u0000"}`, "id"},
	{"{\"id\":\"\xff\"}", "id"}, {`{"id":"a"`, "id"}, {`{"id":01}`, "id"}, {`[1]`, "id"}, {``, "id"}, {`{"id":"�"}`, "id"}, {`{"id":"a","x":"\ud83d"}`, "id"},
	{`{"a":{"b":1},"a":{"c":2}}`, "a.b"},
}

// SaveRaw finds the id that a bulk load finds.
func TestMemberID_AsBulk(t *testing.T) {
	for _, c := range memberCases {
		sameAsBulk(t, []byte(c.payload), c.field)
	}
}

func FuzzMemberID(f *testing.F) {
	for _, c := range memberCases {
		f.Add([]byte(c.payload), c.field)
	}
	f.Fuzz(sameAsBulk)
}

func sameAsBulk(t *testing.T, payload []byte, field string) {
	got, err := memberID(payload, field)
	if err == nil {
		if e := stream.CheckID(got); e != nil {
			t.Fatalf("memberID(%q, %q) is %q: %v", payload, field, got, e)
		}
	}
	if trimmed := bytes.TrimSpace(payload); len(trimmed) == 0 || trimmed[0] != '{' {
		if err == nil {
			t.Fatalf("%q has the id %q", payload, got)
		}
		return // an array is a file of many records to bulk
	}
	r, bulkErr := bulk.NewReader(bytes.NewReader(payload), bulk.Options{IDField: field})
	var want bulk.Record
	if bulkErr == nil {
		want, bulkErr = r.Next()
	}
	if bulkErr == nil && len(bytes.TrimSpace(payload)) != len(want.Payload) {
		return // several records
	}
	var e *bulk.Error
	if bulkErr != nil && !errors.As(bulkErr, &e) {
		return // no field that bulk takes
	}
	if escaped := bytes.Contains(payload, []byte(`\uff`)) || bytes.Contains(payload, []byte(`\uFF`)) || bytes.Contains(payload, []byte(`\uf`)); escaped {
		return // U+FFFD as an escape cannot be told from half of a pair, and is refused here
	}
	if (err == nil) != (bulkErr == nil) || err == nil && got != want.ID {
		t.Fatalf("payload %q, field %q: id %q and %v, bulk says %q and %v", payload, field, got, err, want.ID, bulkErr)
	}
}
