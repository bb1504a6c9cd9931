package lint

import (
	"bufio"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
)

const module = "github.com/tidemark-dev/tidemark"

// rule finds what is wrong with a tree. A problem begins with the path of the file or folder.
type rule struct {
	name  string
	check func(*tree) []string
	// bad is a tree with flaws, in addition to good; want has the beginning of each problem that the rule must report, and the
	// rule must report nothing else.
	bad  map[string]string
	want []string
}

var rules = slices.Concat(layoutRules, importRules, sleepRules, linkRules)

// good is a tree in which every rule is content.
var good = map[string]string{
	".gitignore":           "/tidemark\n/tidemark-data/\n*.prof\n",
	".ci/run":              "go test ./...\n",
	"LICENSE":              "",
	"go.mod":               "module " + module + "\n",
	"go.sum":               "",
	"tidemark":             "a binary that git ignores",
	"tidemark-data/x":      "data that git ignores",
	"cpu.prof":             "a profile that git ignores",
	"README.md":            "See [the processor](processor/README.md#start), [us](https://example.com/x) and [below](#below).\n",
	"main.go":              "package main\n\nimport _ \"" + module + "/deploy/cli\"\n",
	"schemas/doc.go":       "// Package schemas is the contract.\npackage schemas\n\nimport _ \"encoding/json\"\n",
	"schemas/x/doc.go":     "// Package x is a part of it.\npackage x\n\nimport _ \"" + module + "/schemas\"\n",
	"schemas/x/x_test.go":  "package x\n\nimport _ \"github.com/twmb/franz-go/pkg/kgo\"\n",
	"processor/README.md":  "[up](../README.md)\n",
	"processor/doc.go":     "// Package processor is one.\npackage processor\n\nimport _ \"" + module + "/schemas/x\"\n",
	"processor/a_test.go":  "package processor\n\nimport _ \"" + module + "/deploy/devkafka\"\n",
	"ingest/doc.go":        "// Package ingest is one.\npackage ingest\n\nimport _ \"" + module + "/ingest/bulk\"\n",
	"ingest/bulk/doc.go":   "// Package bulk is a part of it.\npackage bulk\n",
	"projections/doc.go":   "// Package projections is one.\npackage projections\n\nimport _ \"github.com/ClickHouse/clickhouse-go/v2\"\n",
	"api/doc.go":           "// Package api is one.\npackage api\n\nimport _ \"" + module + "/projections\"\n",
	"deploy/cli/doc.go":    "// Package cli is one.\npackage cli\n\nimport _ \"" + module + "/deploy/stack\"\n",
	"deploy/stack/doc.go":  "// Package stack is one.\npackage stack\n\nimport (\n\t_ \"" + module + "/api\"\n\t_ \"" + module + "/deploy/devkafka\"\n\t_ \"" + module + "/deploy/kafka\"\n)\n",
	"deploy/kafka/doc.go":  "// Package kafka is one.\npackage kafka\n\nimport _ \"" + module + "/schemas/x\"\n",
	"deploy/bench/doc.go":  "// Package bench is free.\npackage bench\n\nimport (\n\t_ \"" + module + "/deploy/devkafka\"\n\t_ \"" + module + "/processor\"\n)\n",
	"deploy/devkafka/a.go": "package devkafka\n\nimport _ \"" + module + "/schemas/x\"\n",
	// A module of its own has its own rules.
	"deploy/devkafka/doc.go":     "// Package devkafka is a leaf.\npackage devkafka\n",
	"ingest/client/go/go.mod":    "module example.com/client\n",
	"ingest/client/go/common.go": "package common\n",
	// What only builds behind a tag is no package of its own.
	"deploy/tagged/tagged.go": "//go:build never\n\npackage tagged\n",
}

func TestRepository(t *testing.T) {
	root := "../.."
	if _, err := os.Stat(filepath.Join(root, "go.mod")); err != nil {
		t.Fatal(err)
	}
	repo, err := readTree(os.DirFS(root))
	if err != nil {
		t.Fatal(err)
	}
	if len(repo.files) < 100 {
		t.Fatalf("only %d files: the walk sees too little", len(repo.files))
	}
	for _, r := range rules {
		t.Run(r.name, func(t *testing.T) {
			for _, problem := range r.check(repo) {
				t.Error(problem)
			}
		})
	}
}

// An exception that nothing needs any more would hide the next flaw of its kind.
func TestExceptions_AreNeeded(t *testing.T) {
	repo, err := readTree(os.DirFS("../.."))
	if err != nil {
		t.Fatal(err)
	}
	for name, reason := range sleepsAllowed {
		if lines, err := repo.sleepers(name); err != nil || len(lines) == 0 || reason == "" {
			t.Errorf("sleepsAllowed: %s does not sleep, or has no reason: %v", name, err)
		}
	}
	for dir, reason := range vagueAllowed {
		if !slices.Contains(repo.packages(), dir) || reason == "" {
			t.Errorf("vagueAllowed: %s is no package, or has no reason", dir)
		}
	}
}

func TestRules_CanFail(t *testing.T) {
	for _, r := range rules {
		t.Run(r.name, func(t *testing.T) {
			if len(r.bad) == 0 || len(r.want) == 0 {
				t.Fatal("the rule has no bad tree")
			}
			for _, problem := range r.check(fixture(t, nil)) {
				t.Errorf("in the good tree: %s", problem)
			}
			got := r.check(fixture(t, r.bad))
			for _, want := range r.want {
				i := slices.IndexFunc(got, func(problem string) bool { return strings.HasPrefix(problem, want) })
				if i < 0 {
					t.Errorf("not reported: %s", want)
					continue
				}
				got = slices.Delete(got, i, i+1)
			}
			for _, problem := range got {
				t.Errorf("reported without need: %s", problem)
			}
		})
	}
}

func fixture(t *testing.T, extra map[string]string) *tree {
	t.Helper()
	fsys := fstest.MapFS{}
	for _, files := range []map[string]string{good, extra} {
		for name, text := range files {
			fsys[name] = &fstest.MapFile{Data: []byte(text)}
		}
	}
	tr, err := readTree(fsys)
	if err != nil {
		t.Fatal(err)
	}
	return tr
}

// tree is a repository: its text files that git would not ignore, without nested modules.
type tree struct {
	fsys  fs.FS
	top   []string          // entries of the top level
	files map[string]string // by slash-separated path
}

// readTree skips hidden folders, testdata, what .gitignore names, and files above a megabyte, which no rule is about.
func readTree(fsys fs.FS) (*tree, error) {
	ignored, err := ignores(fsys)
	if err != nil {
		return nil, err
	}
	t := &tree{fsys: fsys, files: map[string]string{}}
	err = fs.WalkDir(fsys, ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil || name == "." {
			return err
		}
		if ignored(name) {
			return skip(d)
		}
		if !strings.Contains(name, "/") {
			t.top = append(t.top, name)
		}
		if d.IsDir() {
			_, err := fs.Stat(fsys, path.Join(name, "go.mod"))
			if err == nil || strings.HasPrefix(d.Name(), ".") || d.Name() == "testdata" {
				return fs.SkipDir
			}
			return nil
		}
		info, err := d.Info()
		if err != nil || info.Size() > 1<<20 {
			return err
		}
		text, err := fs.ReadFile(fsys, name)
		t.files[name] = string(text)
		return err
	})
	return t, err
}

func skip(d fs.DirEntry) error {
	if d.IsDir() {
		return fs.SkipDir
	}
	return nil
}

// ignores understands the three kinds of pattern that our .gitignore has: /name and /folder/ at the top, and *.suffix anywhere.
func ignores(fsys fs.FS) (func(name string) bool, error) {
	text, err := fs.ReadFile(fsys, ".gitignore")
	if err != nil {
		return nil, err
	}
	exact, suffixes := map[string]bool{}, []string(nil)
	for scan := bufio.NewScanner(strings.NewReader(string(text))); scan.Scan(); {
		switch line := scan.Text(); {
		case strings.HasPrefix(line, "/"):
			exact[strings.Trim(line, "/")] = true
		case strings.HasPrefix(line, "*."):
			suffixes = append(suffixes, line[1:])
		}
	}
	return func(name string) bool {
		return exact[name] || slices.ContainsFunc(suffixes, func(s string) bool { return strings.HasSuffix(name, s) })
	}, nil
}

// match returns the paths of the files for which keep says so, sorted.
func (t *tree) match(keep func(name string) bool) (names []string) {
	for name := range t.files {
		if keep(name) {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

func isGo(name string) bool   { return strings.HasSuffix(name, ".go") }
func isTest(name string) bool { return strings.HasSuffix(name, "_test.go") }
