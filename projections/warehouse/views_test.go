package warehouse

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/tidemark-dev/tidemark/schemas/stream"
)

// parameters of the views that take some.
var parameters = map[string]string{
	"v1_record_history":   "(environment = 'e', integration = 'i', connection = 'c', model = 'm', variant = 'v', record_id = 'r')",
	"v1_field_changes":    "(environment = 'e', integration = '', connection = '', model = '', variant = '', " + always + ")",
	"v1_spurious_updates": "(environment = 'e', " + always + ")",
	"v1_hot_records":      "(environment = 'e', " + always + ")",
}

func describe(t *testing.T, w *Warehouse, view string) []string {
	t.Helper()
	rows, err := w.conn.Query(t.Context(), "DESCRIBE TABLE (SELECT * FROM tidemark."+view+parameters[view]+")")
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	var out []string
	for rows.Next() {
		var name, kind, x string
		if err := rows.Scan(&name, &kind, &x, &x, &x, &x, &x); err != nil {
			t.Fatal(err)
		}
		out = append(out, name+"\t"+kind)
	}
	if rows.Err() != nil || len(out) == 0 {
		t.Fatal(len(out), rows.Err())
	}
	return out
}

// The views are a contract. Columns may be added at the end of a view, and views may be added; nothing else in this file may ever change.
func TestViews_AreTheContract(t *testing.T) {
	w := ready(t, 1)
	var b strings.Builder
	for _, view := range Views() {
		fmt.Fprintf(&b, "%s %s\n", view, strings.Join(lines(t, w, "SELECT comment FROM system.tables WHERE database = 'tidemark' AND name = '"+view+"'"), ""))
		created := lines(t, w, "SELECT create_table_query FROM system.tables WHERE database = 'tidemark' AND name = '"+view+"'")[0]
		for _, column := range describe(t, w, view) {
			name, kind, _ := strings.Cut(column, "\t")
			comment := regexp.MustCompile("`" + name + "` .*? COMMENT '((?:[^'\\\\]|\\\\.|'')*)'").FindStringSubmatch(created)
			if comment == nil || comment[1] == "" {
				t.Errorf("%s.%s has no comment", view, name)
				continue
			}
			if !strings.Contains(strings.ReplaceAll(created, `\'`, "'"), "`"+name+"` "+kind+" COMMENT") {
				t.Errorf("%s.%s is declared otherwise than as %s", view, name, kind)
			}
			fmt.Fprintf(&b, "  %s %s: %s\n", name, kind, comment[1])
		}
	}
	golden(t, "testdata/views.golden", b.String())
}

var granules = regexp.MustCompile(`Granules: (\d+)/(\d+)`)

// A view of a stream reads a few granules, however much there is of others.
func TestViews_UseThePrimaryKey(t *testing.T) {
	w := ready(t, 1)
	if err := w.exec(t.Context(), "test", `INSERT INTO tidemark.changes_g1 (environment, integration, connection, model, variant, record_id, action, changed_at, csn)
SELECT 'e', 'i', concat('c', toString(number % 50)), 'm', 'v', toString(number), 'added', now(), number FROM numbers(500000)`); err != nil {
		t.Fatal(err)
	}
	for _, l := range []string{"changes_1h", "changes_1d"} {
		if err := w.exec(t.Context(), "test", `INSERT INTO tidemark.`+l+`_g1 (environment, integration, connection, model, variant, bucket, win, n, added)
SELECT 'e', 'i', concat('c', toString(number % 50)), 'm', 'v', toStartOfHour(now()) - number, number, 1, 1 FROM numbers(500000)`); err != nil {
			t.Fatal(err)
		}
	}
	where := " WHERE environment = 'e' AND integration = 'i' AND connection = 'c7'"
	const facts = 10_000/2048 + 3 // granules that the facts of a connection lie in, at most, and one for the end mark
	for sql, atMost := range map[string]int{
		"SELECT * FROM tidemark.v1_changes" + where:                                                                     facts,
		"SELECT * FROM tidemark.v1_hot_records" + parameters["v1_hot_records"] + where:                                  facts,
		"SELECT * FROM tidemark.v1_spurious_updates" + parameters["v1_spurious_updates"] + where:                        facts,
		"SELECT * FROM tidemark.v1_changes_hourly" + where + " AND bucket >= now() - 86400":                             4,
		"SELECT * FROM tidemark.v1_record_counts" + where:                                                               4,
		"SELECT * FROM tidemark.v1_streams" + where:                                                                     4,
		"SELECT * FROM tidemark.v1_record_history" + strings.Replace(parameters["v1_record_history"], "'c'", "'c7'", 1): 2,
	} {
		var read, of int
		for _, line := range lines(t, w, "SELECT * FROM (EXPLAIN indexes = 1 "+sql+")") {
			if m := granules.FindStringSubmatch(line); m != nil {
				var err [2]error
				read, err[0] = strconv.Atoi(m[1])
				n, e := strconv.Atoi(m[2])
				if of, err[1] = max(of, n), e; errors.Join(err[:]...) != nil {
					t.Fatal(errors.Join(err[:]...))
				}
			}
		}
		if of < 20 || read > atMost {
			t.Errorf("%s reads %d of %d granules, want at most %d", sql, read, of, atMost)
		}
	}
}

func TestMaintenance(t *testing.T) {
	w := ready(t, 1)
	ctx := t.Context()
	at := time.Now().Add(-time.Hour).Truncate(time.Millisecond)
	one := Erasure{Stream: stream.ID{Environment: "e", Integration: "i", Connection: "c", Model: "m", Variant: "v"}, RecordID: "r", At: at}
	all := Erasure{Stream: stream.ID{Environment: "e", Integration: "i", Connection: "c"}, At: at.Add(time.Second)}
	if err := errors.Join(w.CreateGeneration(ctx, 2), w.SetViews(ctx, 1), w.SetViews(ctx, 2), w.SetViews(ctx, 2), w.Erase(ctx, one), w.Purge(ctx), w.Erase(ctx, one), w.Erase(ctx, all)); err != nil {
		t.Fatal(err)
	}
	got := lines(t, w, "SELECT "+exactly+", op, generation, one_record, purged, if(op = 'SWITCHED', at > now() - 60, at - fromUnixTimestamp64Milli("+fmt.Sprint(at.UnixMilli())+") <= 1) FROM @maintenance ORDER BY op, at")
	want := []string{"e\ti\tc\tm\tv\tERASED\t0\ttrue\ttrue\t1", "e\ti\tc\t\t\tERASED\t0\tfalse\tfalse\t1", "\t\t\t\t\tSWITCHED\t2\tfalse\tfalse\t1"}
	if !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestLag(t *testing.T) {
	w := ready(t, 3)
	now := time.Now().Truncate(time.Millisecond)
	err := w.InsertLag(t.Context(),
		LagSample{Component: "projector", Generation: 3, Partition: 0, At: now.Add(-time.Minute), LogEnd: 500, Position: 100, Records: 400, Age: time.Hour, ToLoss: time.Hour},
		LagSample{Component: "projector", Generation: 3, Partition: 0, At: now, LogStart: 5, LogEnd: 510, Position: 500, Records: 10, Age: 1500 * time.Millisecond, ToLoss: 90 * time.Second},
		LagSample{Component: "projector", Generation: 3, Partition: 1, At: now, LogEnd: 7, Position: 7, ToLoss: -1},
		LagSample{Component: "notices", Partition: 1, At: now.Add(-48 * time.Hour), ToLoss: -1},
	)
	if err != nil {
		t.Fatal(err)
	}
	if err := w.StoreProgress(t.Context(), 3, Progress{Partition: 0, At: now, ToCSN: 40}, Progress{Partition: 1, At: now.Add(-time.Second), ToCSN: 2}); err != nil {
		t.Fatal(err)
	}
	if _, err := w.Audit(t.Context(), 3, AuditRange{Window: 256}); err != nil {
		t.Fatal(err)
	}
	for sql, want := range map[string][]string{
		"SELECT kpart, lag_records, lag_ms, seconds_to_loss, log_start, log_end, position FROM @lag_now ORDER BY kpart": {"0\t10\t1500\t90\t5\t510\t500", `1	0	0	\N	0	7	7`},
		"SELECT count(), countIf(seconds_to_loss IS NULL) FROM @lag":                                                    {"4\t2"},
		"SELECT generation, toUInt8(serving), kparts, csns, toUnixTimestamp64Milli(stored_at), toUnixTimestamp64Milli(oldest_stored_at), lag_records, lag_ms, seconds_to_loss, audited_at > now() - 60, audit_windows, audit_mismatches FROM @health": {
			fmt.Sprintf("3\t1\t2\t42\t%d\t%d\t10\t1500\t90\t1\t0\t0", now.UnixMilli(), now.UnixMilli()-1000)},
	} {
		if got := lines(t, w, sql); strings.Join(got, "\n") != strings.Join(want, "\n") {
			t.Errorf("%s: got %q, want %q", sql, got, want)
		}
	}
}
