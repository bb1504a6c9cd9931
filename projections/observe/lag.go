package observe

import (
	"context"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"

	"github.com/tidemark-dev/tidemark/projections/fold"
)

// histogram is lag as the views have it: counts by fold.LagBounds, and above. Histograms add up; percentiles do not.
type histogram struct {
	counts [len(fold.LagBounds) + 1]uint64
	sum    uint64 // ms
	max    uint32 // ms
}

func (h *histogram) add(counts []uint64, sum uint64, max_ uint32) {
	for i := range min(len(counts), len(h.counts)) {
		h.counts[i] += counts[i]
	}
	h.sum += sum
	h.max = max(h.max, max_)
}

// percentiles interpolates inside of a bucket, and above the last bound up to the highest lag, as the views do.
func (h *histogram) percentiles() (p Percentiles) {
	for _, n := range h.counts {
		p.Count += n
	}
	if p.Count == 0 {
		return p
	}
	p.Avg, p.Max = float64(h.sum)/float64(p.Count), float64(h.max)
	p.P50, p.P95, p.P99 = h.quantile(0.5, p.Count), h.quantile(0.95, p.Count), h.quantile(0.99, p.Count)
	return p
}

func (h *histogram) quantile(q float64, total uint64) float64 {
	target, before, lower := q*float64(total), 0.0, 0.0
	for i, n := range h.counts {
		upper := max(float64(h.max), float64(fold.LagBounds[len(fold.LagBounds)-1]))
		if i < len(fold.LagBounds) {
			upper = float64(fold.LagBounds[i])
		}
		if before+float64(n) >= target {
			return min(float64(h.max), lower+(upper-lower)*(target-before)/float64(n))
		}
		before, lower = before+float64(n), upper
	}
	return float64(h.max)
}

// Lag implements Ask.
func (r *Reader) Lag(ctx context.Context, q Query) (*Lag, error) {
	now := r.cfg.Now()
	q = q.WithDefaults(now)
	changes, err := r.Changes(ctx, q)
	if err != nil {
		return nil, err
	}
	components, _, err := list(r, ctx, "lag", question("lag_now"), LimitMax, []any{named("limit", LimitMax)}, func(row driver.Rows, t *ComponentLag) error {
		var sampled time.Time
		err := row.Scan(&t.Component, &t.Generation, &t.Partition, &sampled, &t.Records, &t.MS, &t.SecondsToLoss)
		t.SampledAt = TimeOf(sampled)
		return err
	})
	if err != nil {
		return nil, err
	}
	var o Overview
	if err := r.summary(ctx, q, now, &o); err != nil {
		return nil, err
	}
	return &Lag{
		At: TimeOf(now), Since: changes.Since, Until: changes.Until, DecisionMS: changes.LagMS, Components: components,
		FreshnessSeconds: o.Freshness, Never: o.Never,
	}, nil
}
