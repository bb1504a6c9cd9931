package lint

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"regexp"
	"slices"
)

// sleepsAllowed are test files that sleep in real time for a reason. A sleep that waits for something to have happened is not one:
// it is too short on some machine and too long on all others.
var sleepsAllowed = map[string]string{
	"ingest/fault_test.go":            "the broker stays away for a random time; nothing is waited for",
	"processor/retention_test.go":     "over several ticks of the clock nothing may happen",
	"processor/segment/crash_test.go": "a process is killed at a random moment; nothing is waited for",
}

var sleepRules = []rule{{
	name:  "sleeps",
	check: checkSleeps,
	bad: map[string]string{
		"api/a_test.go": sleeping("time", `func TestX() { time.Sleep(1) }`),
		"api/b_test.go": "package api\n\nimport clock \"time\"\n\nfunc TestY() { for { clock.Sleep(1) } }\n",
		"api/c_test.go": sleeping("time", `func TestZ() { f := time.Sleep; f(1) }`),
		"api/poll_test.go": sleeping("time", `func poll(done func() bool) {
			for deadline := time.Now().Add(9); !done(); time.Sleep(1) {
				if time.Now().After(deadline) { panic("late") }
			}
		}`),
		"api/context_test.go": sleeping("time", `func poll(ctx context.Context) { for ctx.Err() == nil { time.Sleep(1) } }`),
		"api/endless_test.go": sleeping("time", `func poll() { for err != nil { time.Sleep(1) } }`),
		"api/after_test.go":   sleeping("time", `func poll() { for time.Now().Before(deadline) { func() { }() }; time.Sleep(1) }`),
		"api/virtual_test.go": sleeping("time\"\nimport \"testing/synctest", `func TestV() { time.Sleep(1) }`),
		"api/other_test.go":   sleeping("example.com/time", `func TestO() { time.Sleep(1) }`),
		"api/real.go":         sleeping("time", `func Run() { time.Sleep(1) }`),
	},
	want: []string{"api/a_test.go:5: ", "api/b_test.go:5: ", "api/c_test.go:5: ", "api/endless_test.go:5: ", "api/after_test.go:5: "},
}}

func sleeping(imported, body string) string {
	return "package api\n\nimport \"" + imported + "\"\n\n" + body + "\n"
}

// bounded is what the loop of a poll names: a point in time or a context that ends it.
var bounded = regexp.MustCompile(`^(.*[dD]eadline|.*[tT]imeout|Now|Since|Until|ctx)$`)

func checkSleeps(t *tree) (problems []string) {
	for _, name := range t.match(isTest) {
		lines, err := t.sleepers(name)
		if err != nil {
			problems = append(problems, fmt.Sprintf("%s: %v", name, err))
		}
		for _, line := range lines {
			if sleepsAllowed[name] == "" {
				problems = append(problems, fmt.Sprintf(
					"%s:%d: a sleep in real time: poll with a deadline, use testing/synctest, or give the reason in sleepsAllowed", name, line))
			}
		}
	}
	return problems
}

// sleepers are the lines of a test file that sleep in real time.
func (t *tree) sleepers(name string) ([]int, error) {
	fset := token.NewFileSet()
	file, err := parser.ParseFile(fset, name, t.files[name], parser.SkipObjectResolution)
	if err != nil {
		return nil, err
	}
	local := ""
	for _, i := range file.Imports {
		switch i.Path.Value {
		case `"time"`:
			local = "time"
			if i.Name != nil {
				local = i.Name.Name
			}
		case `"testing/synctest"`:
			return nil, nil // in a bubble sleeping is how time passes
		}
	}
	if local == "" {
		return nil, nil
	}
	return sleeps(fset, file, local), nil
}

// sleeps are the lines with a time.Sleep that is not in a loop with a bound.
func sleeps(fset *token.FileSet, file *ast.File, local string) (lines []int) {
	var stack []ast.Node
	ast.Inspect(file, func(n ast.Node) bool {
		if n == nil {
			stack = stack[:len(stack)-1]
			return true
		}
		stack = append(stack, n)
		s, ok := n.(*ast.SelectorExpr)
		if !ok || s.Sel.Name != "Sleep" {
			return true
		}
		if x, ok := s.X.(*ast.Ident); !ok || x.Name != local {
			return true
		}
		if !slices.ContainsFunc(stack, isPoll) {
			lines = append(lines, fset.Position(s.Pos()).Line)
		}
		return true
	})
	return lines
}

func isPoll(n ast.Node) bool {
	loop, ok := n.(*ast.ForStmt)
	if !ok {
		return false
	}
	found := false
	ast.Inspect(loop, func(n ast.Node) bool {
		if id, ok := n.(*ast.Ident); ok && bounded.MatchString(id.Name) {
			found = true
		}
		return !found
	})
	return found
}
