package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/tidemark-dev/tidemark/deploy/devclickhouse"
	"github.com/tidemark-dev/tidemark/deploy/devclickhouse/chtest"
	"github.com/tidemark-dev/tidemark/deploy/grafana"
	"github.com/tidemark-dev/tidemark/projections/warehouse"
)

// TestMain lets the test binary be the embedded ClickHouse too.
func TestMain(m *testing.M) {
	if devclickhouse.RunChild() {
		return
	}
	os.Exit(m.Run())
}

// A warehouse in which nothing has happened yet can be drawn, too; and what is not there is refused.
func TestRun(t *testing.T) {
	s := chtest.Start(t, func(c *devclickhouse.Config) { c.Database = "tidemark" })
	w, err := warehouse.Open(warehouse.Config{DSN: s.DSN(false), Topology: warehouse.Embedded})
	if err != nil {
		t.Fatal(err)
	}
	for _, step := range []func() error{
		func() error { return w.Migrate(t.Context()) },
		func() error { return w.CreateGeneration(t.Context(), 1) },
		func() error { return w.SetViews(t.Context(), 1) },
		w.Close,
	} {
		if err := step(); err != nil {
			t.Fatal(err)
		}
	}
	dir := t.TempDir()
	all, err := grafana.Dashboards()
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range all {
		file := filepath.Join(dir, d.UID+".svg")
		if err := run(t.Context(), []string{"--dsn", s.DSN(true), "--dashboard", d.UID, "--from", "now-2h", "--var", "environment=none", "-o", file}); err != nil {
			t.Errorf("%s: %v", d.UID, err)
			continue
		}
		svg, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, want := range []string{"<svg ", "</svg>", d.Title, "No data", "the dashboard&#39;s own queries"} {
			if !strings.Contains(string(svg), want) {
				t.Errorf("%s: no %q in the picture", d.UID, want)
			}
		}
	}
	for _, c := range []struct {
		says string
		args []string
	}{
		{"there are overview", []string{"--dsn", s.DSN(true), "--dashboard", "sales"}},
		{"RFC 3339", []string{"--dsn", s.DSN(true), "--from", "then"}},
		{"empty", []string{"--dsn", s.DSN(true), "--from", "now", "--to", "now-1h"}},
		{"no variable \"color\"", []string{"--dsn", s.DSN(true), "--var", "color=red"}},
		{"name=value", []string{"--dsn", s.DSN(true), "--var", "color"}},
		{"--dsn", []string{"--dsn", "::"}},
		{"writing the picture", []string{"--dsn", s.DSN(true), "-o", filepath.Join(dir, "no", "such", "folder.svg")}},
		{"v1_", []string{"--dsn", strings.Replace(s.DSN(true), "/tidemark", "/system", 1), "--dashboard", "overview"}},
	} {
		if err := run(t.Context(), c.args); err == nil || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%q: %v, want an error about %q", c.args[2:], err, c.says)
		}
	}
}
