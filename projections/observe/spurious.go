package observe

import (
	"context"
	"fmt"
	"slices"

	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"
	"github.com/goccy/go-yaml"
)

// Spurious implements Ask.
func (r *Reader) Spurious(ctx context.Context, q Query) (*Spurious, error) {
	q = q.WithDefaults(r.cfg.Now())
	findings, more, err := list(r, ctx, "spurious", question("spurious"), q.Limit, q.args(), func(row driver.Rows, t *Finding) error {
		err := row.Scan(append(scanID(&t.ID), &t.Updates, &t.Spurious, &t.Share, &t.Fields, &t.Ignore, &t.Finding)...)
		t.Ignore = slices.DeleteFunc(t.Ignore, func(pointer string) bool { return pointer == anyMember })
		return err
	})
	if err != nil {
		return nil, err
	}
	out := &Spurious{Since: q.Since, Until: q.Until, Findings: findings, More: more}
	if out.Models, err = modelsFile(findings); err != nil {
		return nil, err
	}
	return out, nil
}

// anyMember as a rule would ignore every member, whereas what was found is one whose name is an asterisk. There is no rule for that one.
const anyMember = "/*"

// modelRule is an entry of a models file, as deploy/stack reads it.
type modelRule struct {
	Environment string   `yaml:"environment"`
	Integration string   `yaml:"integration"`
	Model       string   `yaml:"model"`
	Ignore      []string `yaml:"ignore"`
}

// modelsFile is the YAML of rules for what was found. Rules are per model, so streams of one model share one.
func modelsFile(findings []Finding) (string, error) {
	var file struct {
		Models []*modelRule `yaml:"models"`
	}
	for _, f := range findings {
		var rule *modelRule
		for _, m := range file.Models {
			if m.Environment == f.ID.Environment && m.Integration == f.ID.Integration && m.Model == f.ID.Model {
				rule = m
			}
		}
		if len(f.Ignore) == 0 {
			continue
		}
		if rule == nil {
			rule = &modelRule{Environment: f.ID.Environment, Integration: f.ID.Integration, Model: f.ID.Model}
			file.Models = append(file.Models, rule)
		}
		for _, pointer := range f.Ignore {
			if !slices.Contains(rule.Ignore, pointer) {
				rule.Ignore = append(rule.Ignore, pointer)
			}
		}
	}
	if len(file.Models) == 0 {
		return "", nil
	}
	text, err := yaml.Marshal(file)
	if err != nil {
		return "", fmt.Errorf("writing rules for models: %w", err)
	}
	return string(text), nil
}
