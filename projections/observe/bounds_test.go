package observe

import (
	"context"
	"math"
	"testing"
	"time"

	"github.com/tidemark-dev/tidemark/deploy/devclickhouse/chtest"
	"github.com/tidemark-dev/tidemark/projections/warehouse"
	"github.com/tidemark-dev/tidemark/schemas/errcode"
	"github.com/tidemark-dev/tidemark/schemas/stream"
)

// Questions about one stream read some granules of it, however much there is of others; the same questions about everything do not.
func TestQuestions_ReadTheirStreamOnly(t *testing.T) {
	w, err := warehouse.Open(warehouse.Config{DSN: chtest.Start(t).DSN(false), Topology: warehouse.Embedded})
	must(t, err)
	t.Cleanup(func() { must(t, w.Close()) })
	must(t, w.Migrate(t.Context()))
	must(t, w.CreateGeneration(t.Context(), 1))
	must(t, w.SetViews(t.Context(), 1))
	const names = "environment, integration, connection, model, variant"
	const values = "'e', 'i', concat('c', toString(number % 50)), 'M', 'base'"
	for _, sql := range []string{
		"INSERT INTO tidemark.changes_g1 (" + names + ", record_id, action, changed_at, revision, changed_fields, changed_count, flags, csn) SELECT " + values +
			", toString(intDiv(number, 50)), 'updated', now() - 60, 2, ['seen'], 1, 1, number FROM numbers(500000)",
		"INSERT INTO tidemark.changes_1m_g1 (" + names + ", bucket, win, n, updated) SELECT " + values + ", toStartOfMinute(now() - number % 80000), number, 1, 1 FROM numbers(500000)",
		"INSERT INTO tidemark.changes_1h_g1 (" + names + ", bucket, win, n, updated) SELECT " + values + ", toStartOfHour(now()), number, 1, 1 FROM numbers(500000)",
		"INSERT INTO tidemark.changes_1d_g1 (" + names + ", bucket, win, n, updated) SELECT " + values + ", today(), number, 1, 1 FROM numbers(500000)",
		"INSERT INTO tidemark.events_g1 (" + names + ", op, at, run, csn) SELECT " + values + ", 'RUN_STARTED', now() - 60, number, number FROM numbers(500000)",
	} {
		must(t, w.Conn().Exec(t.Context(), sql))
	}
	whole := New(Config{Conn: w.Conn(), Database: w.Database()})
	bounded := New(Config{Conn: w.Conn(), Database: w.Database(), RowsMax: 120_000}) // one stream has 10,000 rows a table
	one := Query{Streams: stream.ID{Environment: "e", Integration: "i", Connection: "c7", Model: "M", Variant: "base"}}
	all := Query{Streams: stream.ID{Environment: "e"}}
	minutes := func(q Query) Query { q.Bucket = Minute; return q }
	questions := map[string]func(Ask, context.Context, Query) error{
		"overview": func(a Ask, ctx context.Context, q Query) error { _, err := a.Overview(ctx, q); return err },
		"streams":  func(a Ask, ctx context.Context, q Query) error { _, err := a.Streams(ctx, q); return err },
		"changes":  func(a Ask, ctx context.Context, q Query) error { _, err := a.Changes(ctx, q); return err },
		"minutes":  func(a Ask, ctx context.Context, q Query) error { _, err := a.Changes(ctx, minutes(q)); return err },
		"runs":     func(a Ask, ctx context.Context, q Query) error { _, err := a.Runs(ctx, q); return err },
		"fields":   func(a Ask, ctx context.Context, q Query) error { _, err := a.FieldChanges(ctx, q); return err },
		"hot":      func(a Ask, ctx context.Context, q Query) error { _, err := a.HotStreams(ctx, q); return err },
		"sizes":    func(a Ask, ctx context.Context, q Query) error { _, err := a.PayloadSizes(ctx, q); return err },
		"timeline": func(a Ask, ctx context.Context, q Query) error { _, err := a.Timeline(ctx, q); return err },
		"history": func(a Ask, ctx context.Context, q Query) error {
			_, err := a.History(ctx, RecordQuery{Stream: one.Streams, ID: "77"})
			return err
		},
	}
	for name, ask := range questions {
		t.Run(name, func(t *testing.T) {
			if err := ask(bounded, t.Context(), one); err != nil {
				t.Errorf("about one stream: %v", err)
			}
			if err := ask(bounded, t.Context(), all); name != "history" {
				wantCode(t, err, errcode.ObservabilityTooMuch)
			} else if err != nil {
				t.Error(err)
			}
			start := time.Now()
			must(t, ask(whole, t.Context(), one))
			t.Logf("%s: one stream of 50 in %v", name, time.Since(start).Round(time.Millisecond))
		})
	}
	// A question that takes too long ends, and says why.
	hurried := New(Config{Conn: w.Conn(), Database: w.Database(), Timeout: 500 * time.Millisecond, RowsMax: math.MaxInt64})
	start := time.Now()
	err = hurried.ask(t.Context(), "slow", "SELECT count() FROM numbers(1000000000000) WHERE NOT ignore(sipHash64(number))", math.MaxInt64, nil, nil)
	wantCode(t, err, errcode.ObservabilityTooMuch)
	if took := time.Since(start); took > 10*time.Second {
		t.Errorf("it took %v", took)
	}
}
