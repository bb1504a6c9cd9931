package grafana

import (
	"fmt"
	"strings"
)

// Recipe is a query of the cookbook.
type Recipe struct{ Question, SQL string }

// Cookbook are the queries of README.md's cookbook, in order.
func Cookbook() ([]Recipe, error) {
	text, err := files.ReadFile("README.md")
	if err != nil {
		return nil, fmt.Errorf("reading the cookbook: %w", err)
	}
	_, book, found := strings.Cut(string(text), "\n## Cookbook\n")
	if !found {
		return nil, fmt.Errorf("reading the cookbook: README.md has none")
	}
	var all []Recipe
	for {
		before, rest, found := strings.Cut(book, "\n```sql\n")
		if !found {
			return all, nil
		}
		sql, after, found := strings.Cut(rest, "\n```\n")
		if !found {
			return nil, fmt.Errorf("reading the cookbook: query %d does not end", len(all)+1)
		}
		paragraphs := strings.Split(strings.TrimSpace(before), "\n\n")
		all = append(all, Recipe{Question: paragraphs[len(paragraphs)-1], SQL: sql})
		book = after
	}
}
