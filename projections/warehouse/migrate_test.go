package warehouse

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/tidemark-dev/tidemark/projections/fold"
)

func TestMigrate_IsIdempotentAndPlanned(t *testing.T) {
	w := open(t)
	ctx := t.Context()
	plan, err := w.Plan(ctx, 1)
	if err != nil {
		t.Fatal(err)
	}
	if n := tableNames(t, w); len(n) != 0 {
		t.Fatalf("the plan made tables: %v", n)
	}
	if !strings.HasPrefix(plan[0].SQL, "CREATE DATABASE IF NOT EXISTS") || len(plan) < 12 {
		t.Fatalf("a plan of %d statements, the first of which is %q", len(plan), plan[0].SQL)
	}
	for range 2 {
		if err := w.Migrate(ctx); err != nil {
			t.Fatal(err)
		}
		create(t, w, 1)
	}
	if plan, err = w.Plan(ctx, 1); err != nil || len(plan) != 0 {
		t.Fatalf("a plan of %d statements after all have run, %v", len(plan), err)
	}
	if got := lines(t, w, "SELECT count(), countIf(c = 1) FROM (SELECT migration, statement, count() AS c FROM tidemark._migrations WHERE state = 'done' GROUP BY ALL)"); got[0] != fmt.Sprintf("%d\t%[1]d", len(lines(t, w, "SELECT DISTINCT migration, statement FROM tidemark._migrations"))) {
		t.Errorf("statements that ran, and ran once: %v", got)
	}
}

func tableNames(t *testing.T, w *Warehouse) []string {
	t.Helper()
	return lines(t, w, "SELECT name FROM system.tables WHERE database = 'tidemark' ORDER BY name")
}

func TestMigrate_TwoAtOnceDoNoHarm(t *testing.T) {
	w := open(t)
	var wait sync.WaitGroup
	errs := make([]error, 4)
	for i := range errs {
		wait.Go(func() {
			errs[i] = errors.Join(w.Migrate(t.Context()), w.CreateGeneration(t.Context(), 1), w.SetViews(t.Context(), 1))
		})
	}
	wait.Wait()
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
	if plan, err := w.Plan(t.Context(), 1); err != nil || len(plan) != 0 {
		t.Fatalf("a plan of %d statements, %v", len(plan), err)
	}
	if g, err := w.ViewsGeneration(t.Context()); err != nil || g != 1 {
		t.Errorf("the views read generation %d, %v", g, err)
	}
}

func TestMigrate_AnotherTextIsDrift(t *testing.T) {
	w := ready(t, 1)
	ctx := t.Context()
	sums := lines(t, w, "SELECT checksum FROM tidemark._migrations WHERE migration = 'g1/0001_tables' AND statement = 2 AND state = 'done'")
	err := w.exec(ctx, "test", "INSERT INTO tidemark._migrations (migration, statement, checksum, state, at) VALUES ('g1/0001_tables', 2, '0123456789abcdef', 'done', now64(3) + 60)")
	if err != nil {
		t.Fatal(err)
	}
	err = w.CreateGeneration(ctx, 1)
	want := "migration g1/0001_tables, statement 2, was applied as 0123456789abcdef, but this program has " + sums[0] +
		": `tidemark projections rebuild` makes tables as this version has them, out of the log and these, and then has the views read them"
	var drift *DriftError
	if !errors.As(err, &drift) || err.Error() != want {
		t.Fatalf("got %v, want %s", err, want)
	}
	if c := Classify(err); c != Schema {
		t.Errorf("it is %v", c)
	}
}

func TestMigrate_RetentionFollowsTheConfiguration(t *testing.T) {
	w := ready(t, 1)
	ttl := func() string {
		return strings.Join(lines(t, w, "SELECT extract(create_table_query, 'TTL [^S]*') FROM system.tables WHERE database = 'tidemark' AND name IN ('changes_g1', 'changes_1d_g1') ORDER BY name"), "|")
	}
	if got, want := ttl(), "|TTL toDateTime(changed_at) + toIntervalDay(90) "; got != want {
		t.Errorf("TTLs %q, want %q", got, want)
	}
	for _, keep := range []struct {
		Retention
		want string
	}{
		{Retention{Facts: 30, Day: 700}, "TTL toDateTime(bucket) + toIntervalDay(700) |TTL toDateTime(changed_at) + toIntervalDay(30) "},
		{Retention{Facts: 0, Day: 0}, "|"},
		{Retention{Facts: 30, Day: 0}, "|TTL toDateTime(changed_at) + toIntervalDay(30) "},
	} {
		w.keep = keep.Retention
		for range 2 {
			if err := w.CreateGeneration(t.Context(), 1); err != nil {
				t.Fatal(err)
			}
		}
		if got := ttl(); got != keep.want {
			t.Errorf("%+v: TTLs %q, want %q", keep.Retention, got, keep.want)
		}
	}
}

func TestGenerations(t *testing.T) {
	w := ready(t, 2)
	ctx := t.Context()
	if err := w.CreateGeneration(ctx, 10); err != nil {
		t.Fatal(err)
	}
	if got, err := w.Generations(ctx); err != nil || !slices.Equal(got, []int{2, 10}) {
		t.Fatalf("generations %v, %v", got, err)
	}
	if err := w.DropGeneration(ctx, 2); err == nil {
		t.Fatal("the generation that the views read was dropped")
	}
	if err := w.SetViews(ctx, 10); err != nil {
		t.Fatal(err)
	}
	if got, err := w.ViewsGeneration(ctx); err != nil || got != 10 {
		t.Fatalf("the views read %d, %v", got, err)
	}
	if err := w.StoreProgress(ctx, 2, Progress{At: time.Now(), ToCSN: 1}); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := w.DropGeneration(ctx, 2); err != nil {
			t.Fatal(err)
		}
	}
	if got, err := w.Generations(ctx); err != nil || !slices.Equal(got, []int{10}) {
		t.Fatalf("generations %v, %v", got, err)
	}
	if got, err := w.LoadProgress(ctx, 2); err != nil || len(got) != 0 {
		t.Errorf("progress of a generation that is gone: %v, %v", got, err)
	}
	if err := w.CreateGeneration(ctx, 2); err != nil {
		t.Fatal(err)
	}
	if plan, err := w.Plan(ctx, 2); err != nil || len(plan) != 0 {
		t.Errorf("a plan of %d statements, %v", len(plan), err)
	}
	if n := lines(t, w, "SELECT count() FROM tidemark.changes_1m_g2"); n[0] != "0" {
		t.Errorf("%s rows", n[0])
	}
}

// What each topology gets is in a file, to be read when it changes. Only embedded has run on what it is for.
func TestTopologies(t *testing.T) {
	for _, cfg := range []Config{{Topology: Embedded}, {Topology: Single}, {Topology: Cluster, Cluster: "main"}, {Topology: ReplicatedDB}, {Topology: Cloud}} {
		cfg.DSN = "http://localhost:1/"
		w, err := Open(cfg)
		if err != nil {
			t.Fatal(err)
		}
		defer w.Close()
		all := w.bootstrap()
		for _, f := range []func() ([]Statement, error){w.sharedStatements, func() ([]Statement, error) { return w.generationStatements(7) }} {
			s, err := f()
			if err != nil {
				t.Fatal(err)
			}
			all = append(all, s...)
		}
		var b strings.Builder
		for _, s := range all {
			for line := range strings.SplitSeq(s.SQL, "\n") {
				if line = strings.TrimSpace(line); topologyLine(line) {
					b.WriteString(line + "\n")
				}
			}
		}
		golden(t, filepath.Join("testdata", "topology_"+string(cfg.Topology)+".golden"), b.String())
		for _, view := range templates("views") {
			if _, err := w.render(view, 7); err != nil {
				t.Errorf("%s: %v", cfg.Topology, err)
			}
		}
	}
}

// topologyLine picks what topologies differ in.
func topologyLine(line string) bool {
	for _, word := range []string{"CREATE ", ") ENGINE", "PARTITION BY", "SETTINGS", "ALTER "} {
		if strings.HasPrefix(line, word) {
			return true
		}
	}
	return false
}

// golden compares text with a file; TIDEMARK_GOLDEN=write writes it.
func golden(t *testing.T, file, got string) {
	t.Helper()
	if os.Getenv("TIDEMARK_GOLDEN") == "write" {
		if err := errors.Join(os.MkdirAll(filepath.Dir(file), 0o755), os.WriteFile(file, []byte(got), 0o644)); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("%s is not what it was; TIDEMARK_GOLDEN=write writes it:\n%s", file, firstDifference(got, string(want)))
	}
}

func firstDifference(got, want string) string {
	g, w := strings.Split(got, "\n"), strings.Split(want, "\n")
	for i := range max(len(g), len(w)) {
		var a, b string
		if i < len(g) {
			a = g[i]
		}
		if i < len(w) {
			b = w[i]
		}
		if a != b {
			return fmt.Sprintf("line %d\n  got  %s\n  want %s", i+1, a, b)
		}
	}
	return ""
}

func TestOpen_RefusesWhatCannotBe(t *testing.T) {
	for name, cfg := range map[string]Config{
		"nothing":              {},
		"no DSN":               {DSN: "mysql://x"},
		"unknown topology":     {DSN: "http://x:1/", Topology: "ring"},
		"cluster without name": {DSN: "http://x:1/", Topology: Cluster},
		"name without cluster": {DSN: "http://x:1/", Cluster: "main"},
		"a quote in a name":    {DSN: "http://x:1/", Database: "a`b"},
	} {
		if w, err := Open(cfg); err == nil {
			w.Close()
			t.Errorf("%s: opened", name)
		}
	}
	w, err := Open(Config{DSN: "clickhouse://u:p@x:9000/watch"})
	if err != nil || w.Database() != "watch" || w.encoded {
		t.Errorf("%v, %v", w, err)
	}
	w.Close()
}

var _ = fold.Day
