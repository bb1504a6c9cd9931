package grafana

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/tidemark-dev/tidemark/deploy/devclickhouse"
	"github.com/tidemark-dev/tidemark/deploy/devclickhouse/chtest"
	"github.com/tidemark-dev/tidemark/projections/observe"
	"github.com/tidemark-dev/tidemark/projections/warehouse"
	"github.com/tidemark-dev/tidemark/schemas/stream"
)

// The shape of what BenchmarkDashboard asks: a month of 288 streams, of which the largest has a seventh of all changes, in bursts of
// fifty, as runs bring them, a seventieth of which fail; eight partitions; a sample of lag every quarter of a minute.
const (
	benchFacts   = 1_000_000
	benchDays    = 30
	benchBurst   = 50
	benchWindow  = 8 * 8192 // csns are counted over all partitions here
	benchRecords = 20_000   // at most, of a stream
	benchBatches = 200      // of the last day
	benchSetting = "max_insert_threads = 1, max_block_size = 65536, max_partitions_per_insert_block = 0"
)

// What p95 must be, in ms, at 30 million facts on two cores.
const (
	mustPanel   = 200.0
	mustHistory = 50.0
)

// BenchmarkDashboard times the query of every panel:
//
//	go test ./deploy/grafana -run '^$' -bench Dashboard -benchtime 20x -timeout 60m
//
//	TIDEMARK_BENCH_FACTS   how many facts there are; default 1,000,000
//	TIDEMARK_BENCH_DIR     where they are kept, to be used again; default: nowhere
//	TIDEMARK_BENCH_MERGED  1: the parts of this week are merged, too. Else they are what merging left of them while nobody asked for it
//
// The range is the dashboard's own, and all streams are chosen where that can be; else the largest, and a record with about a hundred
// changes. A table of the slowest comes last, with an empty query for comparison: what a request costs on this machine whatever it asks.
func BenchmarkDashboard(b *testing.B) {
	facts := benchFacts
	if text := os.Getenv("TIDEMARK_BENCH_FACTS"); text != "" {
		var err error
		if facts, err = strconv.Atoi(strings.ReplaceAll(text, ",", "")); err != nil {
			b.Fatal(err)
		}
	}
	s := chtest.Start(b, func(c *devclickhouse.Config) {
		c.Database, c.MemoryBytes, c.Dir = "tidemark", 2<<30, os.Getenv("TIDEMARK_BENCH_DIR")
	})
	now := time.Now().Truncate(time.Second)
	fillMonth(b, s.DSN(false), facts, now)
	conn := connect(b, s.DSN(true))
	ask := func(sql string) *Table {
		table, err := Run(b.Context(), conn, sql)
		if err != nil {
			b.Fatalf("%v\n%s", err, sql)
		}
		return table
	}
	largest := ask(`SELECT environment, integration, connection, model, variant, record_id FROM v1_changes
WHERE (environment, integration, connection, model, variant) IN (
  SELECT environment, integration, connection, model, variant FROM v1_record_counts ORDER BY updated_total DESC LIMIT 1)
GROUP BY ALL ORDER BY abs(toInt64(count()) - 100), record_id LIMIT 1`).Rows[0]
	all, err := Dashboards()
	if err != nil {
		b.Fatal(err)
	}
	var measured []timing
	b.Run("nothing", func(b *testing.B) {
		measured = append(measured, measure(b, "nothing", mustPanel, func() int { return len(ask("SELECT 1").Rows) }))
	})
	for _, d := range all {
		vars := map[string][]string{}
		for i, name := range []string{"environment", "integration", "connection", "model", "variant", "record"} {
			vars[name] = []string{largest[i].(string)}
		}
		for _, v := range d.Templating.List {
			if v.IncludeAll {
				vars[v.Name] = []string{All}
			}
		}
		from, to, err := d.Time.Times(now)
		if err != nil {
			b.Fatal(err)
		}
		for i := range d.Panels {
			p := &d.Panels[i]
			q := Query{From: from, To: to, Vars: vars}
			if q.Interval, err = IntervalOf(p, from, to, points); err != nil {
				b.Fatal(err)
			}
			sql, err := q.Expand(p.Targets[0].RawSQL)
			if err != nil {
				b.Fatal(err)
			}
			name := fmt.Sprintf("%s/%s (%s)", strings.TrimPrefix(d.UID, "tidemark-"), p.Title, p.Type)
			b.Run(name, func(b *testing.B) {
				must := mustPanel
				if strings.Contains(sql, "v1_record_history") {
					must = mustHistory
				}
				measured = append(measured, measure(b, name, must, func() int { return len(ask(sql).Rows) }))
			})
		}
	}
	reader := observe.New(observe.Config{Conn: conn, Database: "tidemark"})
	record := observe.RecordQuery{Stream: stream.ID{Environment: largest[0].(string), Integration: largest[1].(string), Connection: largest[2].(string), Model: largest[3].(string), Variant: largest[4].(string)}, ID: largest[5].(string)}
	b.Run("history by the API", func(b *testing.B) {
		measured = append(measured, measure(b, "history by the API, without diffs", mustHistory, func() int {
			h, err := reader.History(b.Context(), record)
			if err != nil {
				b.Fatal(err)
			}
			return len(h.Versions)
		}))
	})
	report(b, facts, measured)
}

type timing struct {
	name     string
	must     float64
	p50, p95 float64 // ms
	rows     int
}

// measure runs a query once to warm up, and then as often as the benchmark asks.
func measure(b *testing.B, name string, must float64, ask func() int) timing {
	t := timing{name: name, must: must, rows: ask()}
	var took []float64
	for b.Loop() {
		start := time.Now()
		ask()
		took = append(took, float64(time.Since(start).Microseconds())/1000)
	}
	slices.Sort(took)
	t.p50, t.p95 = took[len(took)/2], took[min(len(took)-1, len(took)*95/100)]
	b.ReportMetric(t.p50, "p50-ms")
	b.ReportMetric(t.p95, "p95-ms")
	b.ReportMetric(0, "ns/op")
	return t
}

func report(b *testing.B, facts int, all []timing) {
	slices.SortFunc(all, func(x, y timing) int { return cmp.Compare(y.p95/y.must, x.p95/x.must) })
	var text strings.Builder
	missed := 0
	for i, t := range all {
		if t.p95 > t.must {
			missed++
		}
		if t.p95 > t.must || i < 15 || t.name == "nothing" {
			fmt.Fprintf(&text, "| %s | %.0f ms | **%.0f ms** | %.0f ms | %d |\n", t.name, t.must, t.p95, t.p50, t.rows)
		}
	}
	fmt.Printf("\n%d facts, %d queries, %d above what they must be\n\n| panel | must | p95 | p50 | rows |\n|---|---|---|---|---|\n%s\n", facts, len(all), missed, text.String())
}

// fillMonth makes the tables of a generation and fills them from numbers alone, a day at a time, and the last one in batches, as a projector does.
func fillMonth(b *testing.B, dsn string, facts int, now time.Time) {
	w, err := warehouse.Open(warehouse.Config{DSN: dsn, Topology: warehouse.Embedded, Timeout: 10 * time.Minute})
	if err != nil {
		b.Fatal(err)
	}
	defer func() {
		if err := w.Close(); err != nil {
			b.Error(err)
		}
	}()
	ctx := b.Context()
	start := time.Now()
	if err := w.Migrate(ctx); err != nil {
		b.Fatal(err)
	}
	if there, err := w.Generations(ctx); err != nil {
		b.Fatal(err)
	} else if len(there) > 0 { // kept from another time; its views may be older than the code
		if err := w.SetViews(ctx, 1); err != nil {
			b.Fatal(err)
		}
		settle(b, w, start)
		return
	}
	if err := w.CreateGeneration(ctx, 1); err != nil {
		b.Fatal(err)
	}
	exec := func(sql string) {
		ctx, cancel := context.WithTimeout(ctx, 10*time.Minute)
		defer cancel()
		if err := w.Conn().Exec(ctx, sql); err != nil {
			b.Fatalf("%v\n%s", err, sql)
		}
	}
	m := month{facts: facts, begin: now.Add(-benchDays * 24 * time.Hour)}
	batches := benchDays - 1 + benchBatches
	for batch := range batches {
		begin, end := float64(batch), float64(batch+1)
		if last := float64(benchDays - 1); begin >= last {
			begin, end = last+(begin-last)/benchBatches, last+(end-last)/benchBatches
		}
		from, to := int(float64(facts/benchBurst)*begin/benchDays)*benchBurst, int(float64(facts/benchBurst)*end/benchDays)*benchBurst
		exec("INSERT INTO tidemark.changes_g1 " + m.changes(from, to) + " SETTINGS " + benchSetting)
		for _, level := range [][2]string{{"changes_1m_g1", "toStartOfMinute"}, {"changes_1h_g1", "toStartOfHour"}, {"changes_1d_g1", "toStartOfDay"}} {
			exec("INSERT INTO tidemark." + level[0] + " " + m.partials(level[1], from, to) + " SETTINGS " + benchSetting)
		}
		exec("INSERT INTO tidemark.events_g1 (" + benchStream + ", op, at, run, sync, tracks, started_at, added, updated, unchanged, outcome, reason, term, kpart, csn) " +
			m.events(from, to) + " SETTINGS " + benchSetting)
	}
	exec(`INSERT INTO tidemark.stream_state_g1 SELECT ` + benchStream + `, max(csn), max(changed_at), uniq(record_id), unhex(hex(toFixedString('x', 16))), any(kpart)
FROM tidemark.changes_g1 GROUP BY ` + benchStream)
	exec(fmt.Sprintf(`INSERT INTO tidemark.lag_samples SELECT 'projector', 1, number %% 8, fromUnixTimestamp64Milli(%d - intDiv(number, 8) * 15000), 0, 1e9 - intDiv(number, 8) * 100,
  1e9 - intDiv(number, 8) * 100 - number %% 50, number %% 50, number %% 50 * 20, 600000 FROM numbers(14 * 24 * 240 * 8)`, now.UnixMilli()))
	exec(fmt.Sprintf(`INSERT INTO tidemark._progress (generation, kpart, at, to_csn, position) SELECT 1, number %% 8, fromUnixTimestamp64Milli(%d - intDiv(number, 8) * 10000), %d, '{}'
FROM numbers(7 * 24 * 360 * 8)`, now.UnixMilli(), facts/8))
	if err := w.SetViews(ctx, 1); err != nil {
		b.Fatal(err)
	}
	settle(b, w, start)
}

// settle waits until the server merges nothing any more, merges what it would merge an hour after the last write (mergeClosed), and says what there is.
func settle(b *testing.B, w *warehouse.Warehouse, start time.Time) {
	mergeAll(b, w, os.Getenv("TIDEMARK_BENCH_MERGED") == "1")
	deadline := time.Now().Add(10 * time.Minute)
	for quiet := 0; quiet < 20; time.Sleep(100 * time.Millisecond) {
		var merges uint64
		if err := w.Conn().QueryRow(b.Context(), "SELECT count() FROM system.merges").Scan(&merges); err != nil {
			b.Fatal(err)
		}
		if quiet++; merges > 0 {
			quiet = 0
		}
		if time.Now().After(deadline) {
			b.Fatal("the server merges for ever")
		}
	}
	rows, err := w.Conn().Query(b.Context(), `SELECT table, sum(rows), count(), sum(bytes_on_disk) FROM system.parts WHERE active AND database = 'tidemark' GROUP BY table ORDER BY table`)
	if err != nil {
		b.Fatal(err)
	}
	defer rows.Close()
	for rows.Next() {
		var table string
		var n, parts, bytes uint64
		if err := rows.Scan(&table, &n, &parts, &bytes); err != nil {
			b.Fatal(err)
		}
		fmt.Printf("%-16s %9d rows, %2d parts, %5.1f bytes a row\n", table, n, parts, float64(bytes)/float64(n))
	}
	if err := rows.Err(); err != nil {
		b.Fatal(err)
	}
	fmt.Printf("filled and merged in %.0f s\n", time.Since(start).Seconds())
}

// mergeAll merges each partition into one part, but the one that is being written to unless that is asked for.
func mergeAll(b *testing.B, w *warehouse.Warehouse, open bool) {
	rows, err := w.Conn().Query(b.Context(), `SELECT table, partition_id, partition_id = max(partition_id) OVER (PARTITION BY table) AS open FROM system.parts
WHERE active AND database = 'tidemark' AND match(table, '_g1$') GROUP BY table, partition_id`)
	if err != nil {
		b.Fatal(err)
	}
	var statements []string
	for rows.Next() {
		var table, partition string
		var last uint8
		if err := rows.Scan(&table, &partition, &last); err != nil {
			b.Fatal(err)
		}
		if last == 0 || open {
			statements = append(statements, fmt.Sprintf("OPTIMIZE TABLE tidemark.%s PARTITION ID '%s' FINAL", table, partition))
		}
	}
	if err := errors.Join(rows.Err(), rows.Close()); err != nil {
		b.Fatal(err)
	}
	for _, s := range statements {
		ctx, cancel := context.WithTimeout(b.Context(), 10*time.Minute)
		err := w.Conn().Exec(ctx, s)
		cancel()
		if err != nil {
			b.Fatal(err)
		}
	}
}

const benchStream = "environment, integration, connection, model, variant"

// month writes the SELECTs that make rows out of numbers. The number of a change is its csn; fifty in a row are a burst, which lies within
// seconds and belongs to one stream.
type month struct {
	facts int
	begin time.Time
}

// numbers are the changes from one number up to another, with what everything else is a function of.
func (m month) numbers(from, to int) string {
	burst := float64(benchDays*24*time.Hour/time.Millisecond) / float64(m.facts/benchBurst)
	return fmt.Sprintf(`(
  SELECT number AS i, intDiv(i, %d) AS burst, toUInt32(floor(288 * pow(intHash32(burst) / 4294967296, 3))) AS s,
    fromUnixTimestamp64Milli(toInt64(%d + burst * %f) + (i %% %d) * 120, 'UTC') AS ts, intHash32(i) AS h, intHash32(i + 7) AS g,
    ['production', 'staging', 'development'][1 + (s %% 3 = 2) + (s %% 12 = 11)] AS environment, ['hubspot', 'salesforce', 'zendesk', 'google-drive'][1 + intDiv(s, 3) %% 4] AS integration,
    concat('customer-', toString(intDiv(s, 12))) AS connection, ['Contact', 'Account', 'Ticket'][1 + s %% 3] AS model, 'base' AS variant,
    toUInt16(s %% 8) AS kpart, toUInt64(intDiv(i, %d) * %d) AS win,
    CAST(multiIf(h %% 100 < 15, 1, h %% 100 < 95, 2, 3), 'Enum8(\'added\' = 1, \'updated\' = 2, \'deleted\' = 3, \'restored\' = 4)') AS action,
    toUInt32(8 + exp(3 + 2.5 * (g / 4294967296 + intHash32(i + 9) / 4294967296))) AS lag, toUInt32(150 + g %% 900) AS bytes
  FROM numbers(%d, %d)
)`, benchBurst, m.begin.UnixMilli(), burst, benchBurst, benchWindow, benchWindow, from, to-from)
}

func (m month) changes(from, to int) string {
	return fmt.Sprintf(`SELECT %s, concat('rec-', toString(toUInt32(%d * pow(g / 4294967296, 2)))) AS record_id, action, ts, 1 + h %% 40, 1 + burst,
  if(action = 'updated', if(s %% 9 = 0 AND h %% 10 < 9, ['lastSeen'], arrayMap(k -> concat('field', toString(intHash32(h + k) %% (1 + intHash32(g + k) %% 40))), range(1 + h %% 3))), []) AS fields,
  length(fields), 5, bytes, intHash64(i), lag, kpart, i + 1, 1, 12
FROM %s`, benchStream, benchRecords, m.numbers(from, to))
}

func (m month) partials(bucket string, from, to int) string {
	return fmt.Sprintf(`SELECT %s, %s(ts) AS bucket, win, any(kpart), count(), max(i) + 1, countIf(action = 'added'), countIf(action = 'updated'), countIf(action = 'deleted'), 0,
  3 * count(), uniqExact(burst), countIf(i %% 3500 = 0), sum(bytes), max(bytes), sum(lag), max(lag),
  sumForEach(arrayMap(k -> toUInt32(k = 1 + length(arrayFilter(x -> x < lag, [10, 25, 50, 100, 250, 500, 1000, 2500, 5000, 10000, 30000, 60000, 300000, 900000, 3600000]))), range(1, 17))),
  max(ts)
FROM %s GROUP BY %s, bucket, win`, benchStream, bucket, m.numbers(from, to), benchStream)
}

func (m month) events(from, to int) string {
	return fmt.Sprintf(`SELECT %s, if(k = 0, 'RUN_STARTED', if(burst %% 70 = 0, 'RUN_FAILED', 'RUN_COMPLETED')), ts + toIntervalSecond(k * 9), 1 + burst, 'incremental', 1, ts,
  if(k = 0, 0, 8), if(k = 0, 0, 40), if(k = 0, 0, 150), if(k = 0, '', if(burst %% 70 = 0, 'failed', 'completed')), if(k = 1 AND burst %% 70 = 0, 'run.failed', ''), 1, kpart, i + 1 + k
FROM %s
ARRAY JOIN [0, 1] AS k
WHERE i %% %d = 0`, benchStream, m.numbers(from, to), benchBurst)
}
