package schemas_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"sort"
	"strings"
	"testing"
)

// Golden files pin every wire format, one file a case: what goes in, what comes out, in text that a client in any language can
// test itself against. They are append-only. SUMS holds a line for each; a line that changes or goes in a review is a format that
// broke somebody.
//
// To add a case: add it to the cases of its format, then go test ./schemas -run Golden -update.
var update = flag.Bool("update", false, "write golden files that are missing; never touches one that exists")

const goldenDir = "testdata/golden"

// goldenFile is one case on disk.
type goldenFile struct {
	About  string          `json:"about"`
	Fields json.RawMessage `json:"fields"`
	Wire   json.RawMessage `json:"wire"`
}

// format is one wire format: how its cases are written and read. Fields and wire are JSON documents, so that the files need no Go.
type format struct {
	encode func(fields []byte) (wire any, err error)
	decode func(wire []byte) (fields any, err error) // nil: the format is one-way
	cases  []goldenCase
}

type goldenCase struct {
	name, about string
	fields      any
}

// formatOf makes a format of two typed functions.
func formatOf[F, W any](encode func(F) (W, error), decode func(W) (F, error), cases ...goldenCase) format {
	f := format{
		cases: cases,
		encode: func(doc []byte) (any, error) {
			var fields F
			if err := strictJSON(doc, &fields); err != nil {
				return nil, err
			}
			return encode(fields)
		},
	}
	if decode != nil {
		f.decode = func(doc []byte) (any, error) {
			var wire W
			if err := strictJSON(doc, &wire); err != nil {
				return nil, err
			}
			return decode(wire)
		}
	}
	return f
}

func strictJSON(doc []byte, v any) error {
	d := json.NewDecoder(bytes.NewReader(doc))
	d.DisallowUnknownFields()
	return d.Decode(v)
}

func marshal(t *testing.T, v any) []byte {
	t.Helper()
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	if err := e.Encode(v); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// sameJSON compares documents by their bytes without white space: the order of members is part of our formats.
func sameJSON(a, b []byte) bool {
	var x, y bytes.Buffer
	return json.Compact(&x, a) == nil && json.Compact(&y, b) == nil && bytes.Equal(x.Bytes(), y.Bytes())
}

func TestGolden_FilesOfEveryCaseExist(t *testing.T) {
	sums := readSums(t)
	for name, f := range formats {
		for _, c := range f.cases {
			rel := name + "/" + c.name + ".json"
			path := filepath.Join(goldenDir, rel)
			fields := marshal(t, c.fields)
			wire, err := f.encode(fields)
			if err != nil {
				t.Errorf("%s: encoding: %v", rel, err)
				continue
			}
			want := marshal(t, goldenFile{c.about, fields, marshal(t, wire)})
			got, err := os.ReadFile(path)
			switch {
			case err == nil && !bytes.Equal(got, want):
				t.Errorf("%s differs from its case; golden files are append-only: add a case instead\n%s\nwant\n%s", rel, got, want)
			case os.IsNotExist(err) && *update && sums[rel] == "":
				write(t, path, want)
				sums[rel] = sum(want)
			case err != nil:
				t.Errorf("%s: %v (run with -update to add it)", rel, err)
			}
		}
	}
	if *update {
		write(t, filepath.Join(goldenDir, "SUMS"), formatSums(sums))
	}
}

func TestGolden_FilesAreWhatTheyWere(t *testing.T) {
	sums := readSums(t)
	for rel := range sums {
		doc, err := os.ReadFile(filepath.Join(goldenDir, rel))
		if err != nil {
			t.Errorf("%s is listed in SUMS: %v", rel, err)
		} else if got := sum(doc); got != sums[rel] {
			t.Errorf("%s has changed: sum %s, was %s", rel, got, sums[rel])
		}
	}
	for rel := range goldenFiles(t) {
		if sums[rel] == "" {
			t.Errorf("%s is not in SUMS: write golden files with -update", rel)
		}
	}
}

// Every file, also one whose case has gone from the code, encodes and decodes as it always did.
func TestGolden_EncodeAndDecode(t *testing.T) {
	for rel, file := range goldenFiles(t) {
		t.Run(rel, func(t *testing.T) {
			f, ok := formats[filepath.Dir(rel)]
			if !ok {
				t.Fatal("no format of this name")
			}
			wire, err := f.encode(file.Fields)
			if err != nil {
				t.Fatalf("encoding: %v", err)
			}
			if got := marshal(t, wire); !sameJSON(got, file.Wire) {
				t.Errorf("encoded\n%s\nwant\n%s", got, file.Wire)
			}
			if f.decode == nil {
				return
			}
			fields, err := f.decode(file.Wire)
			if err != nil {
				t.Fatalf("decoding: %v", err)
			}
			if got := marshal(t, fields); !sameJSON(got, file.Fields) {
				t.Errorf("decoded\n%s\nwant\n%s", got, file.Fields)
			}
		})
	}
}

// goldenFiles reads all of them, by path below goldenDir.
func goldenFiles(t *testing.T) map[string]goldenFile {
	t.Helper()
	paths, err := filepath.Glob(filepath.Join(goldenDir, "*", "*.json"))
	if err != nil || len(paths) == 0 {
		t.Fatalf("no golden files: %v", err)
	}
	files := map[string]goldenFile{}
	for _, path := range paths {
		doc, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		var file goldenFile
		if err := strictJSON(doc, &file); err != nil {
			t.Fatalf("%s: %v", path, err)
		}
		rel, err := filepath.Rel(goldenDir, path)
		if err != nil {
			t.Fatal(err)
		}
		files[filepath.ToSlash(rel)] = file
	}
	return files
}

func sum(doc []byte) string {
	h := sha256.Sum256(doc)
	return hex.EncodeToString(h[:])
}

// readSums reads SUMS, which has the format of sha256sum.
func readSums(t *testing.T) map[string]string {
	t.Helper()
	doc, err := os.ReadFile(filepath.Join(goldenDir, "SUMS"))
	if err != nil && !*update {
		t.Fatal(err)
	}
	sums := map[string]string{}
	for line := range strings.Lines(string(doc)) {
		sum, rel, ok := strings.Cut(strings.TrimSuffix(line, "\n"), "  ")
		if !ok || sums[rel] != "" {
			t.Fatalf("SUMS: bad line %q", line)
		}
		sums[rel] = sum
	}
	return sums
}

func formatSums(sums map[string]string) []byte {
	var lines []string
	for rel, s := range sums {
		lines = append(lines, s+"  "+rel+"\n")
	}
	sort.Slice(lines, func(i, j int) bool { return lines[i][66:] < lines[j][66:] })
	return []byte(strings.Join(lines, ""))
}

func write(t *testing.T, path string, doc []byte) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, doc, 0o644); err != nil {
		t.Fatal(err)
	}
}
