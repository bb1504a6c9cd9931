package truth

import (
	"bytes"
	"compress/gzip"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
)

func write(t *testing.T, dir, name, text string) {
	t.Helper()
	data := []byte(text)
	if strings.HasSuffix(name, ".gz") {
		var out bytes.Buffer
		z := gzip.NewWriter(&out)
		if _, err := z.Write(data); err != nil {
			t.Fatal(err)
		}
		if err := z.Close(); err != nil {
			t.Fatal(err)
		}
		data = out.Bytes()
	}
	if err := os.WriteFile(filepath.Join(dir, name), data, 0o600); err != nil {
		t.Fatal(err)
	}
}

// Four small files, worked out by hand.
func TestLoad_SmallFiles(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, "2.json.gz", `[
		{"hex":"B1", "title":"B"},
		{"title":"A","hex":"A1","n":1.0},
		{"title":"D","o":{"x":1,"y":[1,2]}}
	]`)
	write(t, dir, "1.json", `[{"title":"C","hex":"C1"},{"title":"A","hex":"A1","n":1},{"title":"B","hex":"B1"},{"title":7}]`)
	write(t, dir, "3.json", `[
		{"title":"D","o":{"y":[1,2],"x":1}},
		{"title":"A","hex":"first"},
		{"title":"A","n":1.0,"hex":"A1"},
		{"title":"C","hex":"C1"},
		{"title":"E","hex":"<"},
		{"title":"E","hex":"&"},
		{"title":"E","hex":">"}
	]`)
	write(t, dir, "4.json", `[{"title":"A","hex":null,"m":true},{"title":"D","o":{"x":1,"y":[2,1]},"z":null},{"title":"C","hex":"C1"},{"title":"E","hex":"&"}]`)
	write(t, dir, "README.md", "not a snapshot")

	got, err := Load(dir)
	if err != nil {
		t.Fatal(err)
	}
	none := []string{}
	want := []Step{
		{
			File: "1.json", Records: 4,
			Added: []string{"7", "A", "B", "C"}, Updated: none, Deleted: none, Unchanged: none, Duplicates: none,
			Changed: map[string][]string{},
			Live: map[string]string{
				"7": `{"title":7}`, "A": `{"hex":"A1","n":1,"title":"A"}`, "B": `{"hex":"B1","title":"B"}`, "C": `{"hex":"C1","title":"C"}`,
			},
		},
		{ // 1 and 1.0 differ; B has its members in another order; 7 and C are gone
			File: "2.json.gz", Records: 3,
			Added: []string{"D"}, Updated: []string{"A"}, Deleted: []string{"7", "C"}, Unchanged: []string{"B"}, Duplicates: none,
			Changed: map[string][]string{"A": {"n"}},
			Live: map[string]string{
				"A": `{"hex":"A1","n":1.0,"title":"A"}`, "B": `{"hex":"B1","title":"B"}`, "D": `{"o":{"x":1,"y":[1,2]},"title":"D"}`,
			},
		},
		{ // the last A is as before, whatever the first one says; C comes back; E occurs three times
			File: "3.json", Records: 7,
			Added: []string{"C", "E"}, Updated: none, Deleted: []string{"B"}, Unchanged: []string{"A", "D"}, Duplicates: []string{"A", "E"},
			Changed: map[string][]string{},
			Live: map[string]string{
				"A": `{"hex":"A1","n":1.0,"title":"A"}`, "C": `{"hex":"C1","title":"C"}`, "D": `{"o":{"x":1,"y":[1,2]},"title":"D"}`,
				"E": `{"hex":">","title":"E"}`,
			},
		},
		{ // members added (one as null), removed and set to null; the order of an array counts
			File: "4.json", Records: 4,
			Added: none, Updated: []string{"A", "D", "E"}, Deleted: none, Unchanged: []string{"C"}, Duplicates: none,
			Changed: map[string][]string{"A": {"hex", "m", "n"}, "D": {"o", "z"}, "E": {"hex"}},
			Live: map[string]string{
				"A": `{"hex":null,"m":true,"title":"A"}`, "C": `{"hex":"C1","title":"C"}`, "D": `{"o":{"x":1,"y":[2,1]},"title":"D","z":null}`,
				"E": `{"hex":"&","title":"E"}`,
			},
		},
	}
	if len(got) != len(want) {
		t.Fatalf("%d steps, want %d", len(got), len(want))
	}
	for i := range want {
		if !reflect.DeepEqual(got[i], want[i]) {
			t.Errorf("step %d:\ngot  %+v\nwant %+v", i, got[i], want[i])
		}
	}
}

func TestLoad_Errors(t *testing.T) {
	for name, text := range map[string]string{
		"no.json":           "",
		"not-an-array.json": `{"title":"A"}`,
		"cut.json":          `[{"title":"A"}`,
		"cut.json.gz":       `[{"title":"A"`,
		"two.json":          `[{"title":"A"}][]`,
		"number.json":       `[1]`,
		"null.json":         `[null]`,
		"no-title.json":     `[{"name":"A"}]`,
		"empty-title.json":  `[{"title":""}]`,
		"null-title.json":   `[{"title":null}]`,
		"title-object.json": `[{"title":{}}]`,
		"README.md":         "no snapshot at all",
	} {
		dir := t.TempDir()
		write(t, dir, name, text)
		if steps, err := Load(dir); err == nil {
			t.Errorf("%s: %+v", name, steps)
		}
	}
	if _, err := Load(filepath.Join(t.TempDir(), "none")); err == nil {
		t.Error("a directory that is not there is taken")
	}
}

func TestCanonical(t *testing.T) {
	const want = `{"a":[{"b":1,"c":1.50},"<é>",true,null],"title":"x"}`
	for _, in := range []string{
		want,
		` { "title" : "x", "a":[ {"c":1.50,"b":1} , "\u003c\u00e9>" ,true,null]} `,
	} {
		if got, err := Canonical([]byte(in)); err != nil || got != want {
			t.Errorf("%s: got %s, %v", in, got, err)
		}
	}
	for _, in := range []string{"", "[]", "null", "{}{}", "{", `"x"`} {
		if got, err := Canonical([]byte(in)); err == nil {
			t.Errorf("%s: got %s", in, got)
		}
	}
}
