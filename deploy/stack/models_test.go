package stack

import (
	"reflect"
	"strings"
	"testing"

	"github.com/tidemark-dev/tidemark/processor/decide"
	"github.com/tidemark-dev/tidemark/schemas/stream"
)

func TestModels_FirstEntryThatFitsCounts(t *testing.T) {
	model, err := parseModels([]byte(`
models:
  - integration: hubspot
    model: Contact
    ignore: [/lastSeen, /owner/etag]
    before: full
    changed: false
    max_delete_ratio: 0.25
  - model: Contact
    restore: false
`))
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		id   stream.ID
		want decide.Model
	}{
		{stream.ID{Integration: "hubspot", Model: "Contact"}, decide.Model{
			Ignore: []string{"/lastSeen", "/owner/etag"}, Before: decide.BeforeFull, NoChanged: true, MaxDeleteRatio: 0.25,
		}},
		{stream.ID{Integration: "salesforce", Model: "Contact"}, decide.Model{Before: decide.BeforeNone, NoRestore: true}},
		{stream.ID{Integration: "hubspot", Model: "Deal"}, decide.Model{}},
	} {
		if have := model(c.id); !reflect.DeepEqual(have, c.want) {
			t.Errorf("%v: have %+v, want %+v", c.id, have, c.want)
		}
	}
}

func TestModels_EveryMistakeIsNamed(t *testing.T) {
	for text, want := range map[string]string{
		"models:\n  - modle: X\n":                   "modle",
		"models:\n  - before: half\n":               `"half"`,
		"models:\n  - max_delete_ratio: 2\n":        "max_delete_ratio",
		"models:\n  - ignore: [lastSeen]\n":         "lastSeen",
		"models:\n  - before: x\n  - before: full2": "entry 2",
		"model: [": "models file",
	} {
		if _, err := parseModels([]byte(text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want it to name %s", text, err, want)
		}
	}
	if _, err := parseModels(nil); err != nil {
		t.Errorf("an empty file: %v", err)
	}
}
