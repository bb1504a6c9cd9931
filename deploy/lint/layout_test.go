package lint

import (
	"fmt"
	"go/build/constraint"
	"go/parser"
	"go/token"
	"path"
	"slices"
	"strings"
)

var (
	topFolders = []string{"ingest", "processor", "projections", "api", "schemas", "deploy"}
	topFiles   = []string{"go.mod", "go.sum", "README.md", "main.go", "LICENSE"}

	// vague names say nothing about what is in a package, so everything ends up there.
	vague = []string{"util", "utils", "common", "helper", "helpers", "types", "model", "models", "misc", "shared", "base", "lib"}

	// vagueAllowed are packages whose name is vague elsewhere, but exact here.
	vagueAllowed = map[string]string{
		"processor/model": "the reference model that the processor is compared with in tests",
	}
)

const linesMax = 900

var layoutRules = []rule{
	{
		name:  "top level",
		check: checkTop,
		bad:   map[string]string{"cmd/x/main.go": "package main\n", "Makefile": "", "notes.md": ""},
		want:  []string{"cmd: ", "Makefile: ", "notes.md: "},
	},
	{
		name:  "package names",
		check: checkNames,
		bad: map[string]string{
			"api/util/doc.go":         "package util\n",
			"api/fine/doc.go":         "package helpers\n",
			"ingest/Mixed/doc.go":     "package mixed\n",
			"ingest/snake_case/a.go":  "package snake_case\n",
			"deploy/common/deep/a.go": "package deep\n",
			"processor/model/doc.go":  "package model\n",
		},
		want: []string{"api/util: ", "api/fine: ", "ingest/Mixed: ", "ingest/snake_case: ", "deploy/common/deep: "},
	},
	{
		name:  "doc.go",
		check: checkDocs,
		bad: map[string]string{
			"api/a/a.go":           "package a\n",
			"api/b/doc.go":         "// TODO: say something.\n\npackage b\n",
			"api/c/doc.go":         "// Package other is another one.\npackage c\n",
			"api/d/x_test.go":      "package d\n",
			"api/e/doc.go":         "// Command e does something.\npackage main\n",
			"api/e/main.go":        "package main\n",
			"api/f/f.go":           "//go:build linux\n\npackage f\n",
			"api/g/a_windows.go":   "package g\n",
			"schemas/h/doc.go":     "// Package h is fine.\npackage h\n",
			"schemas/h/h.go":       "// Package h is described twice.\npackage h\n",
			"processor/i/i.go":     "//go:build never\n\npackage i\n",
			"processor/i/i2.go":    "package i\n",
			"processor/j/j.txt":    "no package",
			"processor/k/doc.go":   "/*\nPackage k is fine, too.\n*/\npackage k\n",
			"processor/testdata/a": "not looked at",
		},
		want: []string{"api/a: ", "api/b/doc.go: ", "api/c/doc.go: ", "api/f: ", "api/g: ", "schemas/h/h.go: ", "processor/i: "},
	},
	{
		name:  "length of files",
		check: checkLength,
		bad: map[string]string{
			"api/long.go":      "package api\n" + strings.Repeat("\n", linesMax),
			"api/long_test.go": "package api\n" + strings.Repeat("//\n", linesMax),
			"api/most.go":      "package api\n" + strings.Repeat("\n", linesMax-1),
			"api/long.sql":     strings.Repeat("--\n", linesMax) + "SELECT 1",
			"api/data.json":    strings.Repeat("1\n", 2*linesMax),
		},
		want: []string{"api/long.go: ", "api/long_test.go: ", "api/long.sql: "},
	},
}

func checkTop(t *tree) (problems []string) {
	for _, name := range t.top {
		if !strings.HasPrefix(name, ".") && !slices.Contains(topFolders, name) && !slices.Contains(topFiles, name) {
			problems = append(problems, name+": not an entry of the top level: everything has its place below one of "+strings.Join(topFolders, ", "))
		}
	}
	return problems
}

// packages are the folders with Go files that are built without any tag, apart from tests; a file for another system counts.
func (t *tree) packages() (dirs []string) {
	for _, name := range t.match(isGo) {
		if !isTest(name) && !tagged(t.files[name]) && !slices.Contains(dirs, path.Dir(name)) {
			dirs = append(dirs, path.Dir(name))
		}
	}
	slices.Sort(dirs)
	return dirs
}

// tagged reports whether a file needs a tag that is neither a system nor an architecture.
func tagged(text string) bool {
	for line := range strings.Lines(text) {
		if strings.HasPrefix(line, "package ") {
			return false
		}
		if expr, err := constraint.Parse(strings.TrimSpace(line)); err == nil {
			return !expr.Eval(func(tag string) bool { return slices.Contains(platforms, tag) })
		}
	}
	return false
}

// platforms satisfy a constraint; whichever of them is set, the file belongs to its package.
var platforms = []string{"linux", "darwin", "windows", "freebsd", "unix", "amd64", "arm64", "cgo", "gc", "race"}

func checkNames(t *tree) (problems []string) {
	for _, dir := range t.packages() {
		for _, part := range strings.Split(dir, "/") {
			if dir == "." {
				break
			}
			if slices.Contains(vague, part) && vagueAllowed[dir] == "" {
				problems = append(problems, fmt.Sprintf("%s: %q says nothing about what is in it", dir, part))
			} else if part != strings.ToLower(part) || strings.ContainsAny(part, "_-") {
				problems = append(problems, fmt.Sprintf("%s: %q is not one word in lower case", dir, part))
			}
		}
		for _, name := range t.match(func(name string) bool { return path.Dir(name) == dir && isGo(name) && !isTest(name) }) {
			file, err := parser.ParseFile(token.NewFileSet(), name, t.files[name], parser.PackageClauseOnly)
			if err != nil {
				problems = append(problems, fmt.Sprintf("%s: %v", name, err))
			} else if p := file.Name.Name; slices.Contains(vague, p) && !strings.HasSuffix(dir, "/"+p) {
				problems = append(problems, fmt.Sprintf("%s: package %s says nothing about what is in it", dir, p))
			}
		}
	}
	return problems
}

func checkDocs(t *tree) (problems []string) {
	for _, dir := range t.packages() {
		if dir == "." {
			continue // main.go is the whole package
		}
		doc := path.Join(dir, "doc.go")
		if _, ok := t.files[doc]; !ok {
			problems = append(problems, dir+": no doc.go: say what the package is for, what always holds, who its neighbours are")
		}
		for _, name := range t.match(func(name string) bool { return path.Dir(name) == dir && isGo(name) && !isTest(name) }) {
			file, err := parser.ParseFile(token.NewFileSet(), name, t.files[name], parser.PackageClauseOnly|parser.ParseComments)
			if err != nil {
				problems = append(problems, fmt.Sprintf("%s: %v", name, err))
				continue
			}
			begin := "Package " + file.Name.Name + " "
			if file.Name.Name == "main" {
				begin = "Command "
			}
			text := strings.TrimSpace(file.Doc.Text())
			if name == doc && !strings.HasPrefix(text, begin) {
				problems = append(problems, fmt.Sprintf("%s: the comment does not begin with %q", name, begin))
			}
			if name != doc && strings.HasPrefix(text, begin) {
				problems = append(problems, name+": the package is described in doc.go, not here")
			}
		}
	}
	return problems
}

func checkLength(t *tree) (problems []string) {
	kinds := []string{".go", ".sql", ".js", ".ts", ".css", ".html", ".templ", ".sh", ".py"}
	for _, name := range t.match(func(name string) bool { return slices.Contains(kinds, path.Ext(name)) }) {
		text := t.files[name]
		lines := strings.Count(text, "\n")
		if text != "" && !strings.HasSuffix(text, "\n") {
			lines++
		}
		if lines > linesMax {
			problems = append(problems, fmt.Sprintf("%s: %d lines, at most %d: it holds more than one concept", name, lines, linesMax))
		}
	}
	return problems
}
