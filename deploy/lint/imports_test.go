package lint

import (
	"fmt"
	"go/parser"
	"go/token"
	"path"
	"slices"
	"strconv"
	"strings"
)

var (
	services = []string{"ingest", "processor", "projections", "api"}
	// composition puts the services together.
	composition = []string{"cli", "stack"}
	// equipment is what the composition uses; it knows nothing of the services.
	equipment = []string{"config", "telemetry", "lifecycle", "kafka", "clickhouse"}
)

// mayImport reports whether a package may import another one of this module, outside tests. Both are folders; "." is main.
// Folders of deploy that are not named here (bench, e2e, demo and so on) are tools and may import anything.
func mayImport(from, to string) bool {
	fromTop, fromPart := split(from)
	toTop, toPart := split(to)
	switch {
	case toTop == ".":
		return false
	case fromTop == ".":
		return toTop == "deploy" && slices.Contains(composition, toPart)
	case toTop == "schemas":
		return true
	case fromTop == "schemas":
		return false
	case slices.Contains(services, fromTop):
		return toTop == fromTop || fromTop == "api" && toTop == "projections"
	case fromTop != "deploy":
		return false
	case toTop == "deploy" && toPart == fromPart:
		return true
	case strings.HasPrefix(fromPart, "dev"):
		return false
	case slices.Contains(equipment, fromPart):
		return toTop == "deploy" && slices.Contains(equipment, toPart)
	case fromPart == "stack":
		return toTop != "deploy" || toPart != "cli"
	}
	return true
}

// split returns the top folder, and below deploy the folder after it.
func split(dir string) (top, part string) {
	top, rest, _ := strings.Cut(dir, "/")
	part, _, _ = strings.Cut(rest, "/")
	return top, part
}

var importRules = []rule{{
	name:  "imports",
	check: checkImports,
	bad: map[string]string{
		"main_x.go":             importing("main", "api"),
		"schemas/x/bad.go":      importing("x", "api"),
		"schemas/x/third.go":    "package x\n\nimport _ \"github.com/zeebo/xxh3\"\n",
		"ingest/bad.go":         importing("ingest", "processor", "schemas/x"),
		"processor/bad.go":      importing("processor", "api"),
		"processor/deep/a.go":   importing("deep", "deploy/kafka", "processor"),
		"projections/bad.go":    importing("projections", "api/x"),
		"api/bad.go":            importing("api", "ingest", "api/deep"),
		"api/tagged.go":         "//go:build never\n\n" + importing("api", "deploy/stack"),
		"deploy/kafka/bad.go":   importing("kafka", "processor", "deploy/telemetry"),
		"deploy/config/bad.go":  importing("config", "deploy/stack"),
		"deploy/devkafka/b.go":  importing("devkafka", "deploy/kafka", "deploy/devkafka/deep"),
		"deploy/stack/bad.go":   importing("stack", "deploy/cli", "deploy/devkafka"),
		"deploy/bench/fine.go":  importing("bench", "deploy/stack", "api", "deploy/devkafka"),
		"api/anything_test.go":  importing("api", "deploy/stack", "processor", "ingest"),
		"deploy/lifecycle/x.go": importing("lifecycle", ""),
		"api/syntax.go":         "package api\n\nimport broken\n",
	},
	want: []string{
		"main_x.go: main may not import api",
		"schemas/x/bad.go: schemas/x may not import api",
		"schemas/x/third.go: schemas/x may not import github.com/zeebo/xxh3",
		"ingest/bad.go: ingest may not import processor",
		"processor/bad.go: processor may not import api",
		"processor/deep/a.go: processor/deep may not import deploy/kafka",
		"projections/bad.go: projections may not import api/x",
		"api/bad.go: api may not import ingest",
		"api/tagged.go: api may not import deploy/stack",
		"deploy/kafka/bad.go: deploy/kafka may not import processor",
		"deploy/config/bad.go: deploy/config may not import deploy/stack",
		"deploy/devkafka/b.go: deploy/devkafka may not import deploy/kafka",
		"deploy/stack/bad.go: deploy/stack may not import deploy/cli",
		"deploy/lifecycle/x.go: deploy/lifecycle may not import main",
		"api/syntax.go: ",
	},
}}

func importing(pkg string, dirs ...string) string {
	text := "package " + pkg + "\n\nimport (\n"
	for _, dir := range dirs {
		text += fmt.Sprintf("\t_ %q\n", path.Join(module, dir))
	}
	return text + ")\n"
}

func checkImports(t *tree) (problems []string) {
	for _, name := range t.match(func(name string) bool { return isGo(name) && !isTest(name) }) {
		file, err := parser.ParseFile(token.NewFileSet(), name, t.files[name], parser.ImportsOnly)
		if err != nil {
			problems = append(problems, fmt.Sprintf("%s: %v", name, err))
			continue
		}
		from := path.Dir(name)
		for _, i := range file.Imports {
			imported, err := strconv.Unquote(i.Path.Value)
			if err != nil {
				problems = append(problems, fmt.Sprintf("%s: %v", name, err))
				continue
			}
			to, ours := strings.CutPrefix(imported+"/", module+"/")
			to = path.Clean(to)
			switch {
			case ours && !mayImport(from, to):
				problems = append(problems, fmt.Sprintf("%s: %s may not import %s", name, folder(from), folder(to)))
			case !ours && strings.HasPrefix(from+"/", "schemas/") && strings.Contains(strings.Split(imported, "/")[0], "."):
				problems = append(problems, fmt.Sprintf("%s: %s may not import %s: schemas needs the standard library alone", name, from, imported))
			}
		}
	}
	return problems
}

func folder(dir string) string {
	if dir == "." {
		return "main"
	}
	return dir
}
