package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"log/slog"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/tidemark-dev/tidemark/api"
	"github.com/tidemark-dev/tidemark/api/apitest"
	"github.com/tidemark-dev/tidemark/projections/observe"
	"github.com/tidemark-dev/tidemark/schemas/errcode"
	"github.com/tidemark-dev/tidemark/schemas/stream"
)

// told is a fake observe.Ask that notes what it is asked. Only what the command line needs is there.
type told struct {
	observe.Ask
	err      error
	query    observe.Query
	record   observe.RecordQuery
	overview observe.Overview
	streams  observe.Streams
	spurious observe.Spurious
	history  observe.History
	asOf     observe.AsOf
}

func (a *told) Overview(context.Context, observe.Query) (*observe.Overview, error) {
	return &a.overview, a.err
}

func (a *told) Streams(_ context.Context, q observe.Query) (*observe.Streams, error) {
	a.query = q
	return &a.streams, a.err
}

func (a *told) Spurious(context.Context, observe.Query) (*observe.Spurious, error) {
	return &a.spurious, a.err
}

func (a *told) History(_ context.Context, q observe.RecordQuery) (*observe.History, error) {
	a.record = q
	return &a.history, a.err
}

func (a *told) AsOf(_ context.Context, q observe.RecordQuery) (*observe.AsOf, error) {
	a.record = q
	return &a.asOf, a.err
}

// answers are an api.Observability.
type answers func() (observe.Ask, error)

func (a answers) Ask() (observe.Ask, error) { return a() }

// serve runs the API itself over a fake, so that paths and errors go the whole way. It returns its address.
func serve(t *testing.T, o api.Observability) string {
	t.Helper()
	cfg := api.DefaultConfig()
	cfg.Lineage, cfg.Environment = "test", "prod"
	reg := prometheus.NewRegistry()
	s, err := api.New(cfg, api.Deps{View: apitest.NewMemory(), Observability: o, Logger: slog.New(slog.NewTextHandler(io.Discard, nil)), Metrics: api.NewMetrics(reg), Gatherer: reg})
	if err != nil {
		t.Fatal(err)
	}
	srv := httptest.NewServer(s.Handler())
	t.Cleanup(srv.Close)
	return srv.URL
}

func (a *told) serve(t *testing.T) string {
	return serve(t, answers(func() (observe.Ask, error) { return a, nil }))
}

// golden compares with a file; TIDEMARK_GOLDEN=write writes it.
func golden(t *testing.T, name, got string) {
	t.Helper()
	file := filepath.Join("testdata", name+".golden")
	if os.Getenv("TIDEMARK_GOLDEN") == "write" {
		if err := errors.Join(os.MkdirAll("testdata", 0o755), os.WriteFile(file, []byte(got), 0o644)); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("%s is not what it was; TIDEMARK_GOLDEN=write writes it. Got\n%s\nwant\n%s", file, got, want)
	}
}

// inUTC has times for people spelt in UTC.
func inUTC(t *testing.T) {
	local := time.Local
	time.Local = time.UTC
	t.Cleanup(func() { time.Local = local })
}

var testNow = observe.TimeOf(time.Date(2026, 3, 4, 12, 0, 0, 0, time.UTC))

func before(d time.Duration) observe.Time { return testNow - observe.Time(d.Milliseconds()) }

func number(n int64) *int64 { return &n }

// someStats are numbers of all sizes, and names that a terminal should not take as they are.
func someStats() *told {
	id := func(connection, model, variant string) stream.ID {
		return stream.ID{Environment: "prod", Integration: "crm", Connection: connection, Model: model, Variant: variant}
	}
	hours := func(f func(i int) uint64) (out []uint64) {
		for i := range 25 {
			out = append(out, f(i))
		}
		return out
	}
	return &told{
		overview: observe.Overview{
			Streams: stream.ID{Environment: "prod"}, At: testNow, Integrations: 1, Connections: 2, StreamCount: 4, Records: 1234567,
			RunStatus: map[string]uint64{"completed": 1, "failed": 1, "running": 1, "none": 1}, Failing: 1, Never: 2,
			Freshness: observe.Percentiles{Count: 2, P50: 600, P95: 90000}, Hours: hours(func(i int) uint64 { return uint64(i * i) }),
			LastDay:     observe.Counts{Changes: 4900, Added: 1000, Updated: 3800, Deleted: 100, Unchanged: 98765, Runs: 25, RunsFailed: 3},
			LagMS:       observe.Percentiles{Count: 4900, P50: 12, P95: 840.5, P99: 2100},
			Projections: observe.Generation{Generation: 1, Serving: true, LagRecords: 70, LagMS: 90_000, SecondsToLoss: number(3600), AuditMismatches: 2},
		},
		streams: observe.Streams{At: testNow, Total: 5, Records: 1234567, More: true, Streams: []observe.Stream{
			{ID: id("acme", "Contact", "base"), Records: 1234560, ChangesDay: 4900, Hours: hours(func(i int) uint64 { return uint64(i * i) }), LastSuccess: before(10 * time.Minute),
				LastRun: &observe.LastRun{Run: 7, Status: "completed", DurationMS: number(61_000)}},
			{ID: id("acme", "Deal", "eu"), Records: 6, ChangesDay: 2, Hours: hours(func(i int) uint64 { return uint64(i / 23) }), LastSuccess: before(25 * time.Hour), Failures: 3,
				LastRun: &observe.LastRun{Run: 9, Status: "failed", DurationMS: number(850)}},
			{ID: id("evil\x1b[31m\n", "File", "base"), Records: 1, Hours: hours(func(int) uint64 { return 0 }), LastRun: &observe.LastRun{Run: 1, Status: "running"}},
			{ID: id("new", "File", "base"), Hours: hours(func(int) uint64 { return 0 })},
		}},
		spurious: observe.Spurious{
			Findings: []observe.Finding{{ID: id("acme", "Contact", "base"), Updates: 3800, Spurious: 3534, Finding: "93 % of 3800 updates touched only /lastSeen"}},
			Models:   "models:\n- environment: prod\n  integration: crm\n  model: Contact\n  ignore:\n  - /lastSeen\n",
		},
	}
}

func TestStats(t *testing.T) {
	fake := someStats()
	at := fake.serve(t)
	o := run(t, "stats", "--http", at, "--limit", "4")
	o.want(t, exitOK, "4 of 5 streams")
	golden(t, "stats", o.stdout)
	if fake.query.Limit != 4 || fake.query.Streams != (stream.ID{Environment: "prod"}) || fake.query.Order != observe.ByActivity {
		t.Errorf("asked for %+v", fake.query)
	}
	narrow := runIn(t, []string{"COLUMNS=80"}, "stats", "--http", at)
	golden(t, "stats-80", narrow.stdout)
	for _, line := range strings.Split(narrow.stdout, "\n") {
		if strings.Contains(line, "acme/Contact ") && strings.ContainsAny(line, string(bars)) || strings.ContainsAny(line, "\x1b") {
			t.Errorf("too much for 80 columns without colours: %q", line)
		}
	}

	o = run(t, "stats", "--http", at, "--json", "--environment", "dev", "--integration", "i", "--connection", "c", "--model", "M", "--variant", "v")
	o.want(t, exitOK)
	var got statistics
	if err := json.Unmarshal([]byte(o.stdout), &got); err != nil || strings.Count(o.stdout, "\n") != 1 || got.Overview.Records != 1234567 || len(got.Streams.Streams) != 4 || got.Spurious.Models == "" {
		t.Errorf("%v: %s", err, o.stdout)
	}
	if want := (stream.ID{Environment: "dev", Integration: "i", Connection: "c", Model: "M", Variant: "v"}); fake.query.Streams != want {
		t.Errorf("asked for %+v", fake.query.Streams)
	}

	empty := &told{overview: observe.Overview{Streams: stream.ID{Environment: "prod"}, At: testNow, Hours: make([]uint64, 25)}}
	o = run(t, "stats", "--http", empty.serve(t))
	o.want(t, exitOK, "no streams")
	golden(t, "stats-empty", o.stdout)
}

// someHistory is a record with every kind of version.
func someHistory() observe.History {
	edit := func(path, op, old, new string) observe.Edit {
		e := observe.Edit{Path: path, Op: op, OldBytes: len(old), NewBytes: len(new)}
		if old != "" {
			e.Old = json.RawMessage(old)
		}
		if new != "" {
			e.New = json.RawMessage(new)
		}
		return e
	}
	return observe.History{RecordID: "17", More: true, Versions: []observe.Version{
		{At: before(time.Second), Action: "cleared", CSN: 99},
		{At: before(time.Minute), Action: "updated", Revision: 1006, Run: 12, CSN: 90, PayloadBytes: 3000, Reverted: true, Delta: &observe.Delta{Edits: []observe.Edit{
			edit("/name", observe.EditChanged, `"Acme"`, `"Acme\u001b[31m <Inc>"`), edit("/tags/0", observe.EditAdded, "", `{"a": 1,  "b":[true]}`),
			edit("/a~1b", observe.EditRemoved, `null`, ""), edit("/long", observe.EditAdded, "", `"`+strings.Repeat("x", 200)+`"`),
			{Path: "/blob", Op: observe.EditChanged, OldBytes: 20480, NewBytes: 3 << 20},
		}, Truncated: true}},
		{At: before(time.Hour), Action: "restored", Revision: 1005, CSN: 80, PayloadBytes: 12, Delta: &observe.Delta{}},
		{At: before(2 * time.Hour), Action: "updated", Revision: 1005, CSN: 70, PayloadBytes: 12, ChangedFields: []string{"name", "line\nend"}, ChangedCount: 64, FieldsKnown: true,
			Gone: &observe.Gone{Code: errcode.PayloadGone, Hint: "A longer retention keeps payloads longer."}},
		{At: before(3 * time.Hour), Action: "added", Revision: 1004, CSN: 60, PayloadBytes: 10, Gone: &observe.Gone{Code: errcode.PayloadGone, Hint: "A longer retention keeps payloads longer."}},
		{At: before(4 * time.Hour), Action: "deleted", Revision: 1003, CSN: 50, PayloadBytes: 10, Delta: &observe.Delta{Edits: []observe.Edit{edit("/id", observe.EditRemoved, `17`, "")}}},
	}}
}

func TestHistory(t *testing.T) {
	inUTC(t)
	fake := &told{history: someHistory()}
	at := fake.serve(t)
	o := run(t, "history", "a/b +.%", "--http", at, "--integration", "crm/x", "--connection", "..", "--model", "Contact", "--limit", "6")
	o.want(t, exitOK, "6 versions; there are older ones: --before 50", "some payloads are gone: A longer retention keeps payloads longer.")
	golden(t, "history", o.stdout)
	want := observe.RecordQuery{Stream: stream.ID{Environment: "prod", Integration: "crm/x", Connection: "..", Model: "Contact", Variant: "base"}, ID: "a/b +.%", Limit: 6, Deltas: true}
	if fake.record != want {
		t.Errorf("asked for %+v", fake.record)
	}

	o = run(t, "history", "17", "--http", at, "--environment", "dev", "--connection", "c", "--model", "M", "--variant", "v", "--before", "7", "--json")
	o.want(t, exitOK)
	if want := (observe.RecordQuery{Stream: stream.ID{Environment: "dev", Integration: "demo", Connection: "c", Model: "M", Variant: "v"}, ID: "17", Limit: 20, Before: 7, Deltas: true}); fake.record != want {
		t.Errorf("asked for %+v", fake.record)
	}
	lines := strings.Split(strings.TrimSpace(o.stdout), "\n")
	if len(lines) != 6 || o.stderr != "" {
		t.Fatalf("%d lines, %q", len(lines), o.stderr)
	}
	for i, line := range lines {
		var v observe.Version
		if err := json.Unmarshal([]byte(line), &v); err != nil || v.CSN != fake.history.Versions[5-i].CSN {
			t.Errorf("line %d: %v: %s", i, err, line)
		}
	}

	for _, c := range []struct {
		h    observe.History
		want string
	}{
		{observe.History{Complete: true, Versions: []observe.Version{{Action: "added", Revision: 1}}}, "1 version\n"},
		{observe.History{Versions: []observe.Version{{Action: "updated", Revision: 3}}}, "1 version; older ones were not kept\n"},
		{observe.History{}, "no versions\n"},
	} {
		fake.history = c.h
		if o := run(t, "history", "17", "--http", at, "--connection", "c", "--model", "M"); o.stderr != c.want {
			t.Errorf("%q, want %q", o.stderr, c.want)
		}
	}
}

func TestHistory_AsOf(t *testing.T) {
	inUTC(t)
	v := &observe.Version{At: before(time.Hour), Action: "updated", Revision: 3, CSN: 9}
	fake := &told{asOf: observe.AsOf{Exists: true, Version: v, Record: json.RawMessage(`{"id":17, "n":1.10, "bell":"\u0007", "tab":"é"}`)}}
	at := fake.serve(t)
	args := func(when string, more ...string) []string {
		return append([]string{"history", "17", "--http", at, "--connection", "c", "--model", "M", "--as-of", when}, more...)
	}
	o := run(t, args("2026-03-04T13:00:00.5+02:00")...)
	o.want(t, exitOK, "so since 2026-03-04 11:00:00.000: updated, revision 3\n")
	if o.stdout != `{"id":17,"n":1.10,"bell":"\u0007","tab":"é"}`+"\n" {
		t.Errorf("%q", o.stdout)
	}
	if want := observe.TimeOf(time.Date(2026, 3, 4, 11, 0, 0, 500e6, time.UTC)); fake.record.At != want || fake.record.CSN != 0 {
		t.Errorf("asked for %+v", fake.record)
	}
	start := time.Now()
	o = run(t, args("90m", "--json")...)
	o.want(t, exitOK)
	var got observe.AsOf
	if err := json.Unmarshal([]byte(o.stdout), &got); err != nil || string(got.Record) != `{"id":17,"n":1.10,"bell":"\u0007","tab":"é"}` {
		t.Errorf("%v: %s", err, o.stdout)
	}
	if ago := start.Sub(fake.record.At.Std()); ago < 89*time.Minute || ago > 91*time.Minute {
		t.Errorf("asked for %s", fake.record.At)
	}
	fake.asOf = observe.AsOf{Version: &observe.Version{At: before(time.Hour), Action: "deleted"}}
	if o := run(t, args("1h")...); o.code != exitOK || o.stdout != "" || o.stderr != "the record was not there: deleted at 2026-03-04 11:00:00.000\n" {
		t.Errorf("%+v", o)
	}
	fake.asOf = observe.AsOf{}
	if o := run(t, args("1h")...); o.code != exitOK || o.stdout != "" || o.stderr != "the record was not there yet\n" {
		t.Errorf("%+v", o)
	}
}

func TestObservability_Errors(t *testing.T) {
	off := serve(t, answers(func() (observe.Ask, error) {
		return nil, errcode.New(errcode.ObservabilityOff, "npm is not installed")
	}))
	run(t, "stats", "--http", off).want(t, exitUnreachable, "There are no projections here to ask. Npm is not installed.", "observability.off", "--clickhouse")
	run(t, "stats", "--http", serve(t, nil)).want(t, exitUnreachable, "observability.off")
	gone := &told{err: errcode.New(errcode.PayloadGone, "it was at offset 3")}
	at := gone.serve(t)
	run(t, "history", "17", "--http", at, "--connection", "c", "--model", "M", "--as-of", "1h").want(t, exitFailure, "any more. It was at offset 3.", "history.payload_gone", "retention")
	run(t, "history", "17", "--http", at, "--connection", "c", "--model", "M", "--as-of", "yesterday").want(t, exitUsage, `--as-of is "yesterday"`)
	run(t, "history", "17", "--http", at, "--connection", "c", "--model", "M", "--limit", "101").want(t, exitUsage, "limit", "1 to 100")
	run(t, "history", "17", "--http", at, "--connection", "c").want(t, exitUsage, "--model missing")
	run(t, "history", "--http", at, "--connection", "c", "--model", "M").want(t, exitUsage, "the id of one record")
	run(t, "stats", "--http", "127.0.0.1:1").want(t, exitUnreachable, "no server answers")
	o := run(t, "stats", "--http", off, "--json")
	o.want(t, exitUnreachable, `"code":"observability.off"`)
}

func TestSparkline(t *testing.T) {
	for _, c := range []struct {
		values []uint64
		want   string
	}{
		{nil, ""}, {[]uint64{0, 0}, "  "}, {[]uint64{1}, "█"}, {[]uint64{0, 1, 8}, " ▁█"}, {[]uint64{1, 2, 3, 4, 5, 6, 7, 8}, "▁▂▃▄▅▆▇█"},
		{[]uint64{1, 1000}, "▁█"}, {[]uint64{1 << 60, 1 << 59, 1}, "█▄▁"},
	} {
		if got := sparkline(c.values); got != c.want {
			t.Errorf("%v: %q, want %q", c.values, got, c.want)
		}
	}
}

func TestBrief(t *testing.T) {
	for d, want := range map[time.Duration]string{
		0: "0 ms", 999 * time.Microsecond: "0 ms", 840 * time.Millisecond: "840 ms", 2100 * time.Millisecond: "2.1 s", 17 * time.Minute: "17 min",
		59*time.Minute + 59*time.Second: "60 min", 200 * time.Minute: "3.3 h", 36 * time.Hour: "1.5 d", 400 * 24 * time.Hour: "400 d",
	} {
		if got := brief(d); got != want {
			t.Errorf("%v: %q, want %q", d, got, want)
		}
	}
}

// On a terminal signs are coloured, unless NO_COLOR asks for none.
func TestHistory_Colours(t *testing.T) {
	inUTC(t)
	for _, env := range [][]string{nil, {"NO_COLOR=1"}} {
		var out bytes.Buffer
		a := newApp(Process{Stdin: strings.NewReader(""), Stdout: &out, Stderr: io.Discard, Env: env})
		a.outTerminal = true
		a.printVersion(&someHistory().Versions[1])
		coloured := strings.Contains(out.String(), red+"- /name: \"Acme\""+plain) && strings.Contains(out.String(), green+"+ /tags/0: {\"a\":1,\"b\":[true]}"+plain)
		if coloured != (env == nil) || strings.Contains(out.String(), "\x1b") != coloured {
			t.Errorf("with %q: %q", env, out.String())
		}
	}
}

// away is an Observability whose ClickHouse is away.
type away struct{ p api.Projections }

func (a away) Ask() (observe.Ask, error) { return nil, errcode.New(errcode.ObservabilityAway, "") }

func (a away) Projections() api.Projections { return a.p }

// While ClickHouse is away, stats says how much waits, and how long the log keeps it.
func TestStats_SaysWhatWaitsWhileClickHouseIsAway(t *testing.T) {
	left := int64(25 * 24 * 3600)
	at := serve(t, away{api.Projections{State: "away", Reason: "dial: refused", Behind: 12_345, SecondsToLoss: &left}})
	run(t, "stats", "--http", at).want(t, exitUnreachable, "observability.away",
		"projections  away; 12,345 records wait in the log, which keeps them for another 25 d: dial: refused\n")
}
