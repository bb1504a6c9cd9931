package observe

import (
	"path"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/tidemark-dev/tidemark/projections/warehouse"
)

var source = regexp.MustCompile(`(?i)\b(?:from|join)\s+([^\s(]+|\()`)

// Questions read views and nothing else, each is bounded by LIMIT, and all that they are given are parameters.
func TestQuestions_AskViewsOnly(t *testing.T) {
	files, err := questions.ReadDir("sql")
	must(t, err)
	if len(files) < 15 {
		t.Fatalf("only %d questions", len(files))
	}
	for _, f := range files {
		text := question(strings.TrimSuffix(path.Base(f.Name()), ".sql"))
		comment, sql, _ := strings.Cut(text, "\n")
		if !strings.HasPrefix(comment, "-- ") || !strings.HasSuffix(comment, ".") || strings.Contains(sql, "--") || strings.Contains(sql, ";") {
			t.Errorf("%s is not one statement behind a comment that says what it asks", f.Name())
		}
		if !regexp.MustCompile(`\nLIMIT (\{limit:UInt32\}|1)\n$`).MatchString(text) {
			t.Errorf("%s has no LIMIT", f.Name())
		}
		sources := source.FindAllStringSubmatch(sql, -1)
		if len(sources) == 0 {
			t.Errorf("%s reads nothing", f.Name())
		}
		for _, s := range sources {
			if s[1] != "(" && !slices.Contains(warehouse.Views(), s[1]) {
				t.Errorf("%s reads %s, which is no view", f.Name(), s[1])
			}
		}
		if strings.Contains(sql, "SELECT *") || strings.Contains(sql, "?") {
			t.Errorf("%s does not name its columns and parameters", f.Name())
		}
	}
}
