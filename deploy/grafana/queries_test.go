package grafana

import (
	"errors"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2"
	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"

	"github.com/tidemark-dev/tidemark/deploy/devclickhouse"
	"github.com/tidemark-dev/tidemark/deploy/devclickhouse/chtest"
	"github.com/tidemark-dev/tidemark/projections/fold"
	"github.com/tidemark-dev/tidemark/projections/warehouse"
	"github.com/tidemark-dev/tidemark/schemas/stream"
)

const worldSeed = 1

// provisioned are the files of provisioning, with what must be in each.
func provisioned(t *testing.T) map[string][]string {
	t.Helper()
	out := map[string][]string{}
	for name, wants := range map[string][]string{
		"provisioning/datasources/tidemark.yaml": {"type: " + pluginType, "uid: tidemark", "protocol: http", "defaultDatabase: tidemark"},
		"provisioning/dashboards/tidemark.yaml":  {"type: file", "path: ${TIDEMARK_DASHBOARDS}"},
	} {
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		out[string(text)] = wants
	}
	return out
}

// connect opens a DSN for queries.
func connect(t testing.TB, dsn string) driver.Conn {
	t.Helper()
	opt, err := clickhouse.ParseDSN(dsn)
	if err != nil {
		t.Fatal(err)
	}
	conn, err := clickhouse.Open(opt)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := conn.Close(); err != nil {
			t.Error(err)
		}
	})
	return conn
}

// loaded is a world in an embedded ClickHouse, and a connection of the login that only reads.
func loaded(t *testing.T) (*world, driver.Conn) {
	t.Helper()
	s := chtest.Start(t, func(c *devclickhouse.Config) { c.Database = "tidemark" })
	w, err := warehouse.Open(warehouse.Config{DSN: s.DSN(false), Topology: warehouse.Embedded})
	if err != nil {
		t.Fatal(err)
	}
	made := newWorld(worldSeed, time.Now())
	made.load(t.Context(), t, w)
	ctx := t.Context()
	left := warehouse.Erasure{Stream: stream.ID{Environment: "production", Integration: "hubspot", Connection: "left"}, At: made.now.Add(-time.Hour)}
	if err := errors.Join(w.CreateGeneration(ctx, 2), w.SetViews(ctx, 2), w.SetViews(ctx, 1), w.DropGeneration(ctx, 2), w.Erase(ctx, left), w.Close()); err != nil {
		t.Fatal(err)
	}
	return made, connect(t, s.DSN(true))
}

// chosen are values for the variables of a dashboard: all where that can be chosen, else the stream and the record that have most to show.
func chosen(d *Dashboard) map[string][]string {
	vars := one()
	vars["record"] = []string{hotRecord}
	for _, v := range d.Templating.List {
		if v.IncludeAll {
			vars[v.Name] = []string{All}
		}
	}
	return vars
}

// one chooses hotStream alone.
func one() map[string][]string {
	return map[string][]string{
		"environment": {hotStream.Environment}, "integration": {hotStream.Integration}, "connection": {hotStream.Connection}, "model": {hotStream.Model},
		"variant": {hotStream.Variant}, "record": {""},
	}
}

// ranges are lengths that make panels read minutes, hours, and days.
var ranges = []time.Duration{6 * time.Hour, worldHours * time.Hour, 60 * 24 * time.Hour}

const points = 600

func answer(t *testing.T, conn driver.Conn, q Query, sql string) *Table {
	t.Helper()
	expanded, err := q.Expand(sql)
	if err != nil {
		t.Fatalf("%v\n%s", err, sql)
	}
	table, err := Run(t.Context(), conn, expanded)
	if err != nil {
		t.Fatalf("%v\n%s", err, expanded)
	}
	return table
}

// Everything that needs a ClickHouse, on one.
func TestQueries(t *testing.T) {
	w, conn := loaded(t)
	t.Run("panels show what there is", func(t *testing.T) { panelsShowWhatThereIs(t, conn) })
	t.Run("panels say what happened", func(t *testing.T) { panelsSayWhatHappened(t, w, conn) })
	t.Run("records over time", func(t *testing.T) { recordsOverTime(t, w, conn) })
	t.Run("variables and annotations", func(t *testing.T) { variablesAndAnnotations(t, w, conn) })
	t.Run("cookbook", func(t *testing.T) { cookbook(t, conn) })
}

// Every query of every dashboard runs, over ranges of several lengths, with everything chosen, with one stream and with none, and every panel
// that has something to show does.
func panelsShowWhatThereIs(t *testing.T, conn driver.Conn) {
	all, err := Dashboards()
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range all {
		for i := range d.Panels {
			p := &d.Panels[i]
			t.Run(d.UID+"/"+p.Title, func(t *testing.T) {
				for _, length := range ranges {
					to := time.Now()
					q := Query{From: to.Add(-length), To: to, Vars: chosen(d)}
					if q.Interval, err = IntervalOf(p, q.From, q.To, points); err != nil {
						t.Fatal(err)
					}
					table := answer(t, conn, q, p.Targets[0].RawSQL)
					checkShape(t, p, table)
					if length >= worldHours*time.Hour && len(table.Rows) == 0 {
						t.Errorf("shows nothing of %v", length)
					}
					if length != ranges[0] {
						continue
					}
					q.Vars = one()
					checkShape(t, p, answer(t, conn, q, p.Targets[0].RawSQL))
					q.Vars["connection"] = []string{`no such "connection", 'really'`}
					checkShape(t, p, answer(t, conn, q, p.Targets[0].RawSQL))
				}
			})
		}
	}
}

// checkShape checks that a panel can show an answer: its columns are those that the panel's configuration names, and of kinds that its type
// takes.
func checkShape(t *testing.T, p *Panel, table *Table) {
	t.Helper()
	if len(table.Rows) == 0 {
		return // over HTTP, no rows come without the names of columns
	}
	kinds := map[string]string{}
	for i, c := range table.Columns {
		kind := "number"
		switch base := strings.NewReplacer("Nullable(", "", "LowCardinality(", "", ")", "").Replace(c.Type); {
		case strings.HasPrefix(base, "DateTime"):
			kind = "time"
		case strings.HasPrefix(base, "String"), strings.HasPrefix(base, "Enum"), base == "Bool":
			kind = "text"
		case strings.HasPrefix(base, "Array"):
			kind = "list"
		}
		if kinds[c.Name] != "" {
			t.Errorf("two columns %s", c.Name)
		}
		kinds[c.Name] = kind
		if _, ok := kinds["time"]; p.Targets[0].QueryType == "timeseries" && i == 0 && (!ok || kind != "time") {
			t.Errorf("the first column is %s, a %s", c.Name, kind)
		}
		if kind == "list" {
			t.Errorf("column %s is a list, which no panel shows", c.Name)
		}
	}
	for _, o := range p.FieldConfig.Overrides {
		if kinds[o.Matcher.Options] == "" {
			t.Errorf("the panel says how to show column %s, which is not among %v", o.Matcher.Options, table.Columns)
		}
	}
	switch p.Type {
	case "stat":
		if p.Options.GraphMode == "none" && (len(table.Columns) != 1 || len(table.Rows) > 1) {
			t.Errorf("%d columns, %d rows", len(table.Columns), len(table.Rows))
		}
	case "barchart":
		if kinds[p.Options.XField] != "text" || len(table.Columns) < 2 {
			t.Errorf("no names in column %q", p.Options.XField)
		}
	case "timeseries":
		at := table.Index("time")
		if !slices.IsSortedFunc(table.Rows, func(a, b []any) int { return a[at].(time.Time).Compare(b[at].(time.Time)) }) {
			t.Error("times do not rise")
		}
	}
}

func variablesAndAnnotations(t *testing.T, w *world, conn driver.Conn) {
	all, err := Dashboards()
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range all {
		q := Query{From: w.now.Add(-worldHours * time.Hour), To: time.Now(), Vars: chosen(d)} // the world is loaded after w.now
		for _, v := range d.Templating.List {
			if v.Type != "query" {
				continue
			}
			sql, err := v.SQL()
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, row := range answer(t, conn, q, sql).Rows {
				got = append(got, row[0].(string))
			}
			want := map[string][]string{"environment": w.truth.environments, "integration": w.truth.integrations, "connection": w.truth.connections}[v.Name]
			if !v.IncludeAll && v.Name == "connection" {
				want = []string{"acme", "globex", hotStream.Connection} // of the chosen integration
			}
			if want != nil && !slices.Equal(got, want) || len(got) == 0 {
				t.Errorf("%s: %s can be %q, want %q", d.UID, v.Name, got, want)
			}
		}
		for _, a := range d.Annotations.List {
			if a.BuiltIn == 1 {
				continue
			}
			table := answer(t, conn, q, a.Target.RawSQL)
			if len(table.Rows) > 0 && (len(table.Columns) != 3 || table.Columns[0].Name != "time" || table.Columns[1].Name != "text" || table.Columns[2].Name != "tags") {
				t.Errorf("%s: %s has columns %v", d.UID, a.Name, table.Columns)
			}
			want := w.truth.failed
			switch {
			case strings.Contains(a.Name, "Clears"):
				want = w.truth.cleared + w.truth.purged
			case strings.Contains(a.Name, "erasures"):
				want = 3 // see loaded
			}
			if d.UID == "tidemark-overview" && uint64(len(table.Rows)) != want {
				t.Errorf("%s: %d marks, want %d", a.Name, len(table.Rows), want)
			}
		}
	}
	// What a dashboard shows at first can be shown.
	for _, d := range all {
		vars, err := Choose(t.Context(), conn, d, map[string][]string{"environment": {"staging"}})
		if err != nil {
			t.Fatal(err)
		}
		q := Query{From: w.now.Add(-time.Hour), To: w.now, Interval: time.Minute, Vars: vars}
		for _, p := range d.Panels {
			answer(t, conn, q, p.Targets[0].RawSQL)
		}
	}
}

func cookbook(t *testing.T, conn driver.Conn) {
	book, err := Cookbook()
	if err != nil {
		t.Fatal(err)
	}
	if len(book) != 15 {
		t.Fatalf("%d queries", len(book))
	}
	for _, r := range book {
		if !strings.HasSuffix(strings.TrimSpace(r.Question), "?") && !strings.Contains(r.Question, "? ") {
			t.Errorf("%q is not a question", r.Question)
		}
		queryFlaws(r.Question, Target{RawSQL: r.SQL, EditorType: "sql", Datasource: Datasource{pluginType, "${datasource}"}}, nil, func(format string, args ...any) {
			t.Errorf(format, args...)
		})
		if table := answer(t, conn, Query{}, r.SQL); len(table.Rows) == 0 {
			t.Errorf("%s: no rows", r.Question)
		}
	}
}

// panel finds one by the dashboard's and its own name.
func panel(t *testing.T, uid, title, kind string) *Panel {
	t.Helper()
	d, err := Find(uid)
	if err != nil {
		t.Fatal(err)
	}
	at := slices.IndexFunc(d.Panels, func(p Panel) bool { return p.Title == title && p.Type == kind })
	if at < 0 {
		t.Fatalf("%s has no %s %q", uid, kind, title)
	}
	return &d.Panels[at]
}

// What panels say is what happened: compared with what was counted while the log was made.
func panelsSayWhatHappened(t *testing.T, w *world, conn driver.Conn) {
	truth := &w.truth
	total := uint64(0)
	for _, n := range truth.live {
		total += n
	}
	show := func(uid, title, kind string, vars map[string][]string) *Table {
		t.Helper()
		p := panel(t, uid, title, kind)
		// Whole hours on both sides, so that minutes and hours agree.
		q := Query{From: w.now.Add(-(worldHours + 2) * time.Hour).Truncate(time.Hour), To: w.now, Interval: time.Minute, Vars: vars}
		minutes := answer(t, conn, q, p.Targets[0].RawSQL)
		q.Interval = time.Hour
		hours := answer(t, conn, q, p.Targets[0].RawSQL)
		for i := range minutes.Columns {
			if a, b := sum(minutes, i), sum(hours, i); kind == "timeseries" && title == "Changes" && a != b {
				t.Errorf("%s: %v by the minute, %v by the hour", minutes.Columns[i].Name, a, b)
			}
		}
		return minutes
	}
	everything := map[string][]string{"environment": nil, "integration": nil, "connection": nil, "model": nil, "variant": nil}
	for _, c := range []struct {
		uid, title, kind, column string
		vars                     map[string][]string
		want                     uint64
	}{
		{"overview", "Records now", "stat", "records", everything, total},
		{"overview", "Changes", "stat", "changes", everything, truth.changes[fold.Added] + truth.changes[fold.Updated] + truth.changes[fold.Deleted]},
		{"overview", "Changes", "timeseries", "added", everything, truth.changes[fold.Added]},
		{"overview", "Changes", "timeseries", "updated", everything, truth.changes[fold.Updated]},
		{"overview", "Changes", "timeseries", "deleted", everything, truth.changes[fold.Deleted]},
		{"overview", "Failed runs", "stat", "runs", everything, truth.failed},
		{"overview", "Held deletions", "stat", "runs", everything, truth.held},
		{"overview", "Freshness", "barchart", "streams", everything, uint64(len(truth.live))},
		{"overview", "Runs by outcome", "timeseries", "failed", everything, 0},
		{"overview", "Streams that change most", "table", "n_deleted", everything, truth.changes[fold.Deleted]},
		{"runs", "Running", "stat", "runs", everything, truth.running},
		{"runs", "Ended", "stat", "runs", everything, truth.runs},
		{"runs", "What runs did", "timeseries", "unchanged", everything, truth.unchanged},
		{"runs", "What runs did", "timeseries", "dead letters", everything, truth.deadLettered},
		{"pipeline", "Dead letters and gaps", "timeseries", "dead letters", everything, truth.deadLettered},
		{"pipeline", "Dead letters and gaps", "timeseries", "gaps", everything, 1},
		{"pipeline", "Lag of decisions, distribution", "barchart", "changes", everything, truth.changes[fold.Added] + truth.changes[fold.Updated] + truth.changes[fold.Deleted]},
		{"stream", "Records now", "stat", "records", one(), truth.live[hotStream]},
		{"stream", "Changes", "timeseries", "updated", one(), truth.updatesOfHot},
	} {
		table := show(c.uid, c.title, c.kind, c.vars)
		if c.column == "failed" {
			c.want = truth.failed - uint64(sum(table, table.Index("interrupted")))
		}
		if at := table.Index(c.column); at < 0 || uint64(sum(table, at)) != c.want {
			t.Errorf("%s, %s %s, column %s: got %v, want %d", c.uid, c.title, c.kind, c.column, sum(table, max(0, at)), c.want)
		}
	}
	vars := one()
	vars["record"] = []string{hotRecord}
	if history := show("records", "History of the record", "table", vars); uint64(len(history.Rows)) != truth.hotHistory {
		t.Errorf("%d changes of %s, want %d", len(history.Rows), hotRecord, truth.hotHistory)
	}
	fields := show("stream", "Fields that updates touch", "table", one())
	if want := float64(truth.spuriousOfHot) / float64(truth.updatesOfHot); fields.Rows[0][0] != "lastSeen" || fields.Rows[0][2] != want {
		t.Errorf("the first field is %v, want lastSeen with %v", fields.Rows[0], want)
	}
	found := show("records", "Spurious updates", "table", one())
	if at := found.Index("ignore_rule"); len(found.Rows) == 0 || found.Rows[0][at] != `["/lastSeen"]` {
		t.Errorf("spurious updates: %v", found.Rows)
	}
}

// The curve of live records ends where the stream stands, begins where it began, and falls to nothing where it is cleared.
func recordsOverTime(t *testing.T, w *world, conn driver.Conn) {
	p := panel(t, "stream", "Records over time", "timeseries")
	for _, s := range w.streams {
		vars := map[string][]string{
			"environment": {s.id.Environment}, "integration": {s.id.Integration}, "connection": {s.id.Connection}, "model": {s.id.Model}, "variant": {s.id.Variant},
		}
		for _, interval := range []time.Duration{time.Minute, time.Hour} {
			q := Query{From: w.now.Add(-(worldHours + 2) * time.Hour).Truncate(time.Hour), To: w.now, Interval: interval, Vars: vars}
			table := answer(t, conn, q, p.Targets[0].RawSQL)
			first, last := table.Rows[0][1].(float64), table.Rows[len(table.Rows)-1][1].(float64)
			if last != float64(w.truth.live[s.id]) {
				t.Errorf("%v ends at %v, holds %d", s.id, last, w.truth.live[s.id])
			}
			if interval == time.Minute && first != 6*float64(s.size) && first >= last && last != 0 {
				t.Errorf("%v begins at %v and ends at %v", s.id, first, last)
			}
			for _, row := range table.Rows {
				if row[1].(float64) < 0 {
					t.Errorf("%v: %v records at %v", s.id, row[1], row[0])
				}
			}
		}
	}
}

func sum(t *Table, column int) (s float64) {
	for _, row := range t.Rows {
		if n, ok := row[column].(float64); ok {
			s += n
		}
	}
	return s
}
