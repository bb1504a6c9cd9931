package observe_test

import (
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/tidemark-dev/tidemark/deploy/stack"
	"github.com/tidemark-dev/tidemark/projections/observe"
	"github.com/tidemark-dev/tidemark/schemas/stream"
)

// The rules that are there to be pasted do what they say.
func TestModelsFile_IsReadByTheStack(t *testing.T) {
	id := func(integration, connection, model string) stream.ID {
		return stream.ID{Environment: "prod", Integration: integration, Connection: connection, Model: model, Variant: "base"}
	}
	text, err := observe.ModelsFile([]observe.Finding{
		{ID: id("crm", "a", "Contact"), Ignore: []string{"/lastSeen", "/a~1b~0c"}},
		{ID: id("crm", "b", "Contact"), Ignore: []string{"/lastSeen", "/: yes #"}},
		{ID: id(`it's "a: b"`, "a", "No"), Ignore: []string{"/- x", "/", "/\n", "/ü", "/null"}},
		{ID: id("crm", "a", "Nothing")},
	})
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "models.yaml")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	models, err := stack.LoadModels(path)
	if err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	for _, c := range []struct {
		id   stream.ID
		want []string
	}{
		{id("crm", "c", "Contact"), []string{"/lastSeen", "/a~1b~0c", "/: yes #"}},
		{id(`it's "a: b"`, "x", "No"), []string{"/- x", "/", "/\n", "/ü", "/null"}},
		{id("crm", "a", "Nothing"), nil},
	} {
		if got := models(c.id).Ignore; !slices.Equal(got, c.want) {
			t.Errorf("%s: %q, want %q in\n%s", c.id.Key(), got, c.want, text)
		}
	}
}
