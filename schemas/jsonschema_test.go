package schemas_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io/fs"
	"path/filepath"
	"reflect"
	"sort"
	"strings"
	"testing"

	schemalib "github.com/santhosh-tekuri/jsonschema/v6"

	"github.com/tidemark-dev/tidemark/schemas/event"
	"github.com/tidemark-dev/tidemark/schemas/jsonschema"
	"github.com/tidemark-dev/tidemark/schemas/stream"
)

func schemaDoc(t *testing.T, name string) map[string]any {
	t.Helper()
	text, err := fs.ReadFile(jsonschema.FS, name)
	if err != nil {
		t.Fatal(err)
	}
	doc, err := schemalib.UnmarshalJSON(bytes.NewReader(text))
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return doc.(map[string]any)
}

func compile(t *testing.T, name string, doc any) *schemalib.Schema {
	t.Helper()
	c := schemalib.NewCompiler()
	if err := c.AddResource(jsonschema.Base+name, doc); err != nil {
		t.Fatal(err)
	}
	s, err := c.Compile(jsonschema.Base + name)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// strict forbids, in place, every member that an object of the schema does not describe. The conditions in oneOf and allOf are no
// descriptions: they have no type.
func strict(node any) {
	switch n := node.(type) {
	case map[string]any:
		if _, ok := n["properties"]; ok && n["type"] == "object" {
			n["additionalProperties"] = false
		}
		for _, child := range n {
			strict(child)
		}
	case []any:
		for _, child := range n {
			strict(child)
		}
	}
}

func validate(s *schemalib.Schema, text []byte) error {
	doc, err := schemalib.UnmarshalJSON(bytes.NewReader(text))
	if err != nil {
		return err
	}
	return s.Validate(doc)
}

// schemaOf names the schema of each format that has one, and the document that it describes.
var schemaOf = map[string]struct {
	name string
	doc  func(wire []byte) ([]byte, error)
}{
	"change":   {jsonschema.Change, recordValue},
	"control":  {jsonschema.Control, recordValue},
	"restored": {jsonschema.Control, recordValue},
	"raw":      {jsonschema.Raw, rawDocument},
	"raw-value": {jsonschema.Raw, func(wire []byte) ([]byte, error) {
		var w rawValueWire
		if err := json.Unmarshal(wire, &w); err != nil {
			return nil, err
		}
		return rawDoc(brands.Key(), []header{{"t", w.Type}, {"run", "12"}}, []byte(w.Value))
	}},
}

func recordValue(wire []byte) ([]byte, error) {
	var w record
	err := json.Unmarshal(wire, &w)
	return w.value(), err
}

func rawDocument(wire []byte) ([]byte, error) {
	var w record
	if err := json.Unmarshal(wire, &w); err != nil {
		return nil, err
	}
	return rawDoc(w.Key, w.Headers, w.value())
}

// rawDoc shows a raw event as raw.v1.json describes it.
func rawDoc(key string, headers []header, value []byte) ([]byte, error) {
	doc := map[string]any{"key": key}
	hs := map[string]string{}
	for _, h := range headers {
		hs[h[0]] = h[1]
	}
	doc["headers"] = hs
	if value != nil {
		doc["value"] = json.RawMessage(value)
	}
	return json.Marshal(doc)
}

func TestSchema_GoldenFilesValidateWithUnknownMembersForbidden(t *testing.T) {
	files := goldenFiles(t)
	checked := map[string]int{}
	for rel, file := range files {
		s, ok := schemaOf[filepath.Dir(rel)]
		if !ok {
			continue
		}
		checked[filepath.Dir(rel)]++
		t.Run(rel, func(t *testing.T) {
			text, err := s.doc(file.Wire)
			if err != nil {
				t.Fatal(err)
			}
			doc := schemaDoc(t, s.name)
			if err := validate(compile(t, s.name, doc), text); err != nil {
				t.Errorf("as published: %v\n%s", err, text)
			}
			strict(doc)
			if err := validate(compile(t, s.name, doc), text); err != nil {
				t.Errorf("with unknown members forbidden: %v\n%s", err, text)
			}
		})
	}
	for format := range schemaOf {
		if checked[format] == 0 {
			t.Errorf("no golden file of format %s was validated", format)
		}
	}
}

// edit returns text with the member at path set to a JSON value, or removed if value is "".
func edit(t *testing.T, text, path, value string) []byte {
	t.Helper()
	var doc map[string]any
	if err := json.Unmarshal([]byte(text), &doc); err != nil {
		t.Fatal(err)
	}
	parts := strings.Split(path, ".")
	node := doc
	for _, p := range parts[:len(parts)-1] {
		node = node[p].(map[string]any)
	}
	last := parts[len(parts)-1]
	if value == "" {
		delete(node, last)
	} else {
		node[last] = json.RawMessage(value)
	}
	out, err := json.Marshal(doc)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func TestSchema_RefusesWhatIsNotTheFormat(t *testing.T) {
	golden := goldenFiles(t)
	from := func(rel string) string {
		file, ok := golden[rel]
		if !ok {
			t.Fatalf("no golden file %s", rel)
		}
		text, err := schemaOf[filepath.Dir(rel)].doc(file.Wire)
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
	cases := []struct{ file, path, value string }{
		{"change/added.json", "v", "2"},
		{"change/added.json", "id", `"3-90417"`},
		{"change/added.json", "id", `"3:0"`},
		{"change/added.json", "op", `"u"`},
		{"change/added.json", "op", `"r"`},
		{"change/added.json", "action", `"UPDATED"`},
		{"change/added.json", "key", `"dev/demo"`},
		{"change/added.json", "key.variant", ""},
		{"change/added.json", "key.model", `""`},
		{"change/added.json", "key.id", "1"},
		{"change/added.json", "before", `{}`},
		{"change/added.json", "before", ""},
		{"change/added.json", "after", "null"},
		{"change/added.json", "after", `[]`},
		{"change/added.json", "changed", `[]`},
		{"change/added.json", "rev", "0"},
		{"change/added.json", "first_seen_at", `"2026-11-20T22:07:02Z"`},
		{"change/added.json", "hash", `"000102030405060708090a0b0c0d0e0f"`},
		{"change/added.json", "source.lsn", `"90417"`},
		{"change/added.json", "source.raw_offset", "-2"},
		{"change/added.json", "source", ""},
		{"change/added.json", "ts_ms", "1.5"},
		{"change/updated.json", "after", "null"},
		{"change/updated.json", "changed", `"n"`},
		{"change/updated.json", "changed", `[1]`},
		{"change/updated.json", "rev", "1"},
		{"change/deleted.json", "after", `{}`},
		{"change/deleted.json", "before", `"{}"`},
		{"change/deleted.json", "changed", `[]`},
		{"control/term.json", "term", ""},
		{"control/term.json", "nonce", "4294967296"},
		{"control/term.json", "v", ""},
		{"control/term.json", "partition", "-1"},
		{"control/term.json", "op", `"term"`},
		{"control/term.json", "op", `"ADDED"`},
		{"control/run-started.json", "run", ""},
		{"control/run-started.json", "stream", ""},
		{"control/run-started.json", "stream.model", ""},
		{"control/run-completed.json", "outcome", ""},
		{"control/run-completed.json", "outcome", `"failed"`},
		{"control/run-completed.json", "counts.added", "-1"},
		{"control/run-completed.json", "counts.not_found", ""},
		{"control/run-failed.json", "outcome", `"completed"`},
		{"control/run-failed.json", "reason", `"Run failed"`},
		{"control/swept.json", "stream", ""},
		{"control/released-approve.json", "decision", `"yes"`},
		{"control/released-approve.json", "decision", ""},
		{"control/checkpoint.json", "stream", ""},
		{"control/cleared-hard.json", "mode", `"medium"`},
		{"control/cleared-hard.json", "mode", ""},
		{"control/pruned.json", "until_csn", ""},
		{"control/purged.json", "stream", ""},
		{"control/dead-lettered.json", "reason", ""},
		{"control/dead-lettered.json", "raw_offset", ""},
		{"control/gap.json", "raw_until", ""},
		{"restored/restored.json", "payload", ""},
		{"restored/restored.json", "payload", "null"},
		{"restored/restored.json", "record_id", ""},
		{"raw/save.json", "key", `"dev/demo/acme/Brand"`},
		{"raw/save.json", "key", `"dev/demo/acme/Br and/base"`},
		{"raw/save.json", "key", `"dev/demo/acme/Br%2fand/base"`},
		{"raw/save.json", "headers.t", `"z"`},
		{"raw/save.json", "headers.t", ""},
		{"raw/save.json", "headers.id", ""},
		{"raw/save.json", "headers.id", `""`},
		{"raw/save.json", "headers.run", `"0"`},
		{"raw/save.json", "headers.run", `"-1"`},
		{"raw/save.json", "headers.run", ""}, // n is there
		{"raw/save.json", "headers.n", "1"},
		{"raw/save.json", "value", "[1]"},
		{"raw/save.json", "value", ""},
		{"raw/update.json", "value", "null"},
		{"raw/update.json", "headers.cas", `"x"`},
		{"raw/run-started.json", "headers.run", ""},
		{"raw/run-started.json", "value", `{"fence":"no"}`},
		{"raw/run-completed.json", "value", `{"max_delete_ratio":1.1}`},
		{"raw/run-completed.json", "value", `{"events":-1}`},
		{"raw/run-failed.json", "value", `{"error":7}`},
		{"raw/clear.json", "value", `{"mode":"all"}`},
		{"raw/prune.json", "value", `{}`},
		{"raw/prune.json", "value", `{"until_csn":0}`},
		{"raw/checkpoint.json", "value", ""},
		{"raw/decision.json", "value", `{"run":12,"decision":"maybe"}`},
		{"raw/decision.json", "value", `{"decision":"approve"}`},
	}
	used := map[string]bool{}
	for _, c := range cases {
		name := schemaOf[filepath.Dir(c.file)].name
		used[name] = true
		text := edit(t, from(c.file), c.path, c.value)
		if err := validate(compile(t, name, schemaDoc(t, name)), text); err == nil {
			t.Errorf("%s with %s = %q is accepted", c.file, c.path, c.value)
		}
	}
	if len(used) != 3 {
		t.Errorf("only %d schemas have cases", len(used))
	}
}

// The decoder and the schema must agree on which values of control events are right.
func TestSchema_AgreesWithTheDecoderOnRawValues(t *testing.T) {
	schema := compile(t, jsonschema.Raw, schemaDoc(t, jsonschema.Raw))
	types := map[event.RawType]func() any{
		event.RawRunStarted:   func() any { return new(event.RunStart) },
		event.RawRunCompleted: func() any { return new(event.RunEnd) },
		event.RawRunFailed:    func() any { return new(event.RunFailure) },
		event.RawClear:        func() any { return new(event.Clear) },
		event.RawPrune:        func() any { return new(event.Prune) },
		event.RawDecision:     func() any { return new(event.Decision) },
	}
	values := []string{
		`{}`, `{"unknown":[1]}`, `[]`, `"x"`, `7`, `true`, `{"mode":"hard"}`, `{"mode":"soft"}`, `{"mode":"x"}`, `{"mode":7}`,
		`{"until_csn":1}`, `{"until_csn":0}`, `{"until_csn":-1}`, `{"until_csn":1.5}`, `{"run":1,"decision":"approve"}`, `{"run":0,"decision":"approve"}`,
		`{"run":1,"decision":"no"}`, `{"decision":"discard"}`, `{"error":"x"}`, `{"error":{}}`, `{"events":3,"delete_missing":true}`, `{"events":"3"}`,
		`{"max_delete_ratio":0}`, `{"max_delete_ratio":1}`, `{"max_delete_ratio":null}`, `{"max_delete_ratio":1.01}`, `{"max_delete_ratio":-0.1}`,
		`{"track_deletes":false,"fence":true,"sync":"x"}`, `{"track_deletes":0}`, `{"sync":7}`, `{"allow_empty":1}`,
	}
	accepted := 0
	for typ, make := range types {
		for _, value := range values {
			decoded := event.DecodeValue([]byte(value), make())
			doc, err := rawDoc(brands.Key(), []header{{"t", string(rune(typ))}, {"run", "12"}}, []byte(value))
			if err != nil {
				t.Fatal(err)
			}
			valid := validate(schema, doc)
			if (decoded == nil) != (valid == nil) {
				t.Errorf("%c %s: decoder says %v, schema says %v", typ, value, decoded, valid)
			}
			if valid == nil {
				accepted++
			}
		}
	}
	if accepted < len(types) || accepted == len(types)*len(values) {
		t.Errorf("%d of %d accepted: the values test nothing", accepted, len(types)*len(values))
	}
}

// Everything that is published is described, has its name as $id, and leaves room for optional additions.
func TestSchema_IsDescribedAndOpen(t *testing.T) {
	for _, name := range []string{jsonschema.Change, jsonschema.Control, jsonschema.Raw} {
		doc := schemaDoc(t, name)
		if doc["$id"] != jsonschema.Base+name || doc["$schema"] != "https://json-schema.org/draft/2020-12/schema" {
			t.Errorf("%s: $id %v, $schema %v", name, doc["$id"], doc["$schema"])
		}
		for _, problem := range undescribed(doc, name) {
			t.Error(problem)
		}
	}
	bad := map[string]any{"type": "object", "description": "x", "properties": map[string]any{
		"a": map[string]any{"type": "string"},
		"b": map[string]any{"description": "x", "type": "object", "properties": map[string]any{}, "additionalProperties": false},
	}}
	if got := undescribed(bad, "bad"); len(got) != 2 {
		t.Errorf("the check itself finds %q", got)
	}
}

func undescribed(node any, at string) (problems []string) {
	switch n := node.(type) {
	case map[string]any:
		for _, closed := range []string{"additionalProperties", "unevaluatedProperties"} {
			if _, ok := n[closed]; ok {
				problems = append(problems, at+" has "+closed+": later versions could add nothing")
			}
		}
		if n["type"] == "object" {
			members, _ := n["properties"].(map[string]any)
			for name, m := range members {
				if d, _ := m.(map[string]any)["description"].(string); d == "" {
					problems = append(problems, at+"."+name+" has no description")
				}
			}
		}
		for key, child := range n {
			problems = append(problems, undescribed(child, at+"."+key)...)
		}
	case []any:
		for i, child := range n {
			problems = append(problems, undescribed(child, fmt.Sprintf("%s[%d]", at, i))...)
		}
	}
	return problems
}

// What the schemas list, the code has, and the other way round: ops, types of raw events, members.
func TestSchema_ListsWhatTheCodeHas(t *testing.T) {
	var ops []string
	for op := event.OpAdded; op.String() != "UNKNOWN"; op++ {
		if !op.IsChange() {
			ops = append(ops, op.String())
		}
	}
	control := schemaDoc(t, jsonschema.Control)
	var listed []string
	for _, alternative := range control["oneOf"].([]any) {
		op := alternative.(map[string]any)["properties"].(map[string]any)["op"].(map[string]any)
		if name, ok := op["const"].(string); ok {
			listed = append(listed, name)
			continue
		}
		var known []string
		for _, name := range op["not"].(map[string]any)["enum"].([]any) {
			known = append(known, name.(string))
		}
		sameSet(t, "ops that a later version cannot have", known, append([]string{"ADDED", "UPDATED", "DELETED"}, ops...))
	}
	sameSet(t, "ops", listed, ops)

	var types []string
	headers := members(schemaDoc(t, jsonschema.Raw))["headers"].(map[string]any)
	for _, typ := range members(headers)["t"].(map[string]any)["enum"].([]any) {
		types = append(types, typ.(string))
	}
	var accepted []string
	for b := range 256 {
		var r event.Raw
		err := event.ParseRaw([]event.Header{
			{Key: []byte("t"), Value: []byte{byte(b)}}, {Key: []byte("id"), Value: []byte("1")}, {Key: []byte("run"), Value: []byte("1")},
		}, nil, &r)
		if err == nil {
			accepted = append(accepted, string(rune(b)))
		}
	}
	sameSet(t, "types of raw events", types, accepted)
	sameSet(t, "headers of raw events", keys(members(headers)), []string{
		event.HeaderType, event.HeaderID, event.HeaderRun, event.HeaderN, event.HeaderCAS, event.HeaderSchema, event.HeaderRemove,
	})

	// payload is written by AppendRestored alone, never by way of Control.
	sameSet(t, "members of a control record", keys(members(control)), append(jsonNames(reflect.TypeFor[event.Control]()), "payload"))
	sameSet(t, "counts", keys(members(members(control)["counts"].(map[string]any))), jsonNames(reflect.TypeFor[event.RunCounts]()))
	change := schemaDoc(t, jsonschema.Change)
	sameSet(t, "members of a change event", keys(members(change)), jsonNames(reflect.TypeFor[event.Envelope]()))
	sameSet(t, "members of key", keys(members(members(change)["key"].(map[string]any))), append(jsonNames(reflect.TypeFor[stream.ID]()), "id"))
	sameSet(t, "members of source", keys(members(members(change)["source"].(map[string]any))), jsonNames(reflect.TypeFor[event.EnvelopeSource]()))
}

func members(schema map[string]any) map[string]any { return schema["properties"].(map[string]any) }

func keys(m map[string]any) (out []string) {
	for k := range m {
		out = append(out, k)
	}
	return out
}

func jsonNames(t reflect.Type) (out []string) {
	for i := range t.NumField() {
		name, _, _ := strings.Cut(t.Field(i).Tag.Get("json"), ",")
		out = append(out, name)
	}
	return out
}

func sameSet(t *testing.T, what string, got, want []string) {
	t.Helper()
	sort.Strings(got)
	sort.Strings(want)
	if !reflect.DeepEqual(got, want) {
		t.Errorf("%s: %q, want %q", what, got, want)
	}
}
