package observe

import (
	"context"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"
)

// dayHours is the last 24 whole hours and the current one.
const dayHours = 25

// dayStart is where they begin.
func dayStart(now time.Time) Time { return TimeOf(now).floor(Hour) - (dayHours-1)*Hour.Width() }

// Overview implements Ask.
func (r *Reader) Overview(ctx context.Context, q Query) (*Overview, error) {
	now := r.cfg.Now()
	o := &Overview{Streams: q.Streams, At: TimeOf(now), Hours: make([]uint64, dayHours)}
	if err := r.summary(ctx, q, now, o); err != nil {
		return nil, err
	}
	since := dayStart(now)
	changes, err := r.Changes(ctx, Query{Streams: q.Streams, Since: since, Until: since + dayHours*Hour.Width(), Bucket: Hour})
	if err != nil {
		return nil, err
	}
	o.LastDay, o.LagMS = changes.Total, changes.LagMS
	for i, b := range changes.Buckets {
		o.Hours[i] = b.Changes
	}
	health, err := r.Health(ctx, q)
	if err != nil {
		return nil, err
	}
	for _, g := range health.Generations {
		if g.Serving {
			o.Projections = g
		}
	}
	return o, nil
}

// summary fills in what there is now, and how fresh it is.
func (r *Reader) summary(ctx context.Context, q Query, now time.Time, o *Overview) error {
	args := append(of(q.Streams), named("now", now.UnixMilli()))
	return r.ask(ctx, "overview", question("overview"), r.cfg.RowsMax, args, func(row driver.Rows) error {
		f := &o.Freshness
		var p50, p95, p99, oldest int64
		if err := row.Scan(&o.Integrations, &o.Connections, &o.StreamCount, &o.Records, &o.RunStatus, &o.Failing, &o.Never, &f.Avg, &p50, &p95, &p99,
			&oldest); err != nil {
			return err
		}
		if f.Count = o.StreamCount - o.Never; f.Count > 0 {
			f.P50, f.P95, f.P99, f.Max = float64(p50), float64(p95), float64(p99), float64(oldest)
		}
		return nil
	})
}

// Streams implements Ask.
func (r *Reader) Streams(ctx context.Context, q Query) (*Streams, error) {
	now := r.cfg.Now()
	q = q.WithDefaults(now)
	out := &Streams{At: TimeOf(now)}
	args := append(of(q.Streams), named("since", dayStart(now).seconds()), named("hours", dayHours), named("order", string(q.Order)), named("limit", q.Limit+1))
	var err error
	out.Streams, out.More, err = list(r, ctx, "streams", question("streams"), q.Limit, args, func(row driver.Rows, t *Stream) error {
		var changed time.Time
		var started, ended, success *time.Time
		var last LastRun
		if err := row.Scan(append(scanID(&t.ID), &t.Records, &changed, &t.ChangesTotal, &last.Run, &last.Sync, &last.Status, &last.Reason, &started,
			&ended, &success, &t.Failures, &t.Partition, &t.Hours, &out.Total, &out.Records)...); err != nil {
			return err
		}
		if len(t.Hours) == 0 { // nothing happened
			t.Hours = make([]uint64, dayHours)
		}
		for _, n := range t.Hours {
			t.ChangesDay += n
		}
		t.LastChangeAt, t.LastSuccess = at(&changed), at(success)
		if t.LastSuccess != 0 {
			seconds := int64(out.At-t.LastSuccess) / 1000
			t.FreshnessSeconds = &seconds
		}
		if last.Run == 0 {
			return nil
		}
		if last.StartedAt, last.EndedAt = at(started), at(ended); last.StartedAt != 0 && last.EndedAt != 0 {
			ms := int64(last.EndedAt - last.StartedAt)
			last.DurationMS = &ms
		}
		t.LastRun = &last
		return nil
	})
	if err != nil {
		return nil, err
	}
	return out, nil
}
