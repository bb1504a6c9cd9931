package observe

import (
	"context"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"
)

// Runs implements Ask.
func (r *Reader) Runs(ctx context.Context, q Query) (*Runs, error) {
	q = q.WithDefaults(r.cfg.Now())
	runs, more, err := list(r, ctx, "runs", question("runs"), q.Limit, q.args(named("status", q.Status)), func(row driver.Rows, t *Run) error {
		var started, ended *time.Time
		err := row.Scan(append(scanID(&t.ID), &t.Run, &t.Sync, &t.Status, &started, &ended, &t.DurationMS, &t.Received, &t.Added, &t.Updated, &t.Deleted,
			&t.Unchanged, &t.Skipped, &t.NotFound, &t.DeadLettered, &t.TracksDeletes, &t.ToDelete, &t.Swept, &t.Decision, &t.DecidedBy, &t.Reason,
			&t.Detail, &t.CSN)...)
		t.StartedAt, t.EndedAt = at(started), at(ended)
		return err
	})
	if err != nil {
		return nil, err
	}
	return &Runs{Since: q.Since, Until: q.Until, Runs: runs, More: more}, nil
}

// FieldChanges implements Ask.
func (r *Reader) FieldChanges(ctx context.Context, q Query) (*FieldChanges, error) {
	q = q.WithDefaults(r.cfg.Now())
	fields, more, err := list(r, ctx, "fields", question("field_changes"), q.Limit, q.args(), func(row driver.Rows, t *Field) error {
		var last time.Time
		err := row.Scan(append(scanID(&t.ID), &t.Field, &t.Pointer, &t.Updates, &t.Alone, &t.UpdatesTotal, &t.Share, &t.ShareAlone, &last)...)
		t.LastAt = TimeOf(last)
		return err
	})
	if err != nil {
		return nil, err
	}
	return &FieldChanges{Since: q.Since, Until: q.Until, Fields: fields, More: more}, nil
}

// HotRecords implements Ask.
func (r *Reader) HotRecords(ctx context.Context, q Query) (*HotRecords, error) {
	q = q.WithDefaults(r.cfg.Now())
	records, more, err := list(r, ctx, "hot-records", question("hot_records"), q.Limit, q.args(), func(row driver.Rows, t *HotRecord) error {
		var first, last time.Time
		err := row.Scan(append(scanID(&t.ID), &t.RecordID, &t.Changes, &t.Updated, &first, &last, &t.PayloadBytes)...)
		t.FirstAt, t.LastAt = TimeOf(first), TimeOf(last)
		return err
	})
	if err != nil {
		return nil, err
	}
	return &HotRecords{Since: q.Since, Until: q.Until, Records: records, More: more}, nil
}

// HotStreams implements Ask.
func (r *Reader) HotStreams(ctx context.Context, q Query) (*HotStreams, error) {
	now := r.cfg.Now()
	q = q.WithDefaults(now)
	streams, more, err := list(r, ctx, "hot-streams", question("hot_streams"), q.Limit, q.args(), func(row driver.Rows, t *HotStream) error {
		var last time.Time
		err := row.Scan(append(scanID(&t.ID), &t.Changes1h, &t.Changes24h, &t.Changes7d, &t.Unchanged24h, &t.Bytes24h, &last)...)
		t.LastChangeAt = at(&last)
		return err
	})
	if err != nil {
		return nil, err
	}
	return &HotStreams{At: TimeOf(now), Streams: streams, More: more}, nil
}

// PayloadSizes implements Ask.
func (r *Reader) PayloadSizes(ctx context.Context, q Query) (*PayloadSizes, error) {
	q = q.WithDefaults(r.cfg.Now())
	q.Since, q.Until = q.Since.floor(Day), q.Until.ceil(Day)
	bounds := append(of(q.Streams), named("since", q.Since.seconds()), named("until", q.Until.seconds()))
	streams, more, err := list(r, ctx, "payload-sizes", question("payload_streams"), q.Limit, append(bounds, named("limit", q.Limit+1)), func(row driver.Rows, t *StreamSizes) error {
		err := row.Scan(append(scanID(&t.ID), &t.Changes, &t.Bytes, &t.Max)...)
		t.average()
		return err
	})
	if err != nil {
		return nil, err
	}
	days, _, err := list(r, ctx, "payload-days", question("payload_days"), BucketsMax, append(bounds, named("limit", BucketsMax)), func(row driver.Rows, t *DaySizes) error {
		var bucket time.Time
		err := row.Scan(&bucket, &t.Changes, &t.Bytes, &t.Max)
		t.At = TimeOf(bucket)
		t.average()
		return err
	})
	if err != nil {
		return nil, err
	}
	out := &PayloadSizes{Since: q.Since, Until: q.Until, Streams: streams, More: more, Days: days}
	for _, d := range days {
		out.Total.Changes += d.Changes
		out.Total.Bytes += d.Bytes
		out.Total.Max = max(out.Total.Max, d.Max)
	}
	out.Total.average()
	return out, nil
}

func (s *Sizes) average() {
	if s.Changes > 0 {
		s.Avg = float64(s.Bytes) / float64(s.Changes)
	}
}

// Timeline implements Ask.
func (r *Reader) Timeline(ctx context.Context, q Query) (*Timeline, error) {
	q = q.WithDefaults(r.cfg.Now())
	events, more, err := list(r, ctx, "timeline", question("timeline"), q.Limit, q.args(), func(row driver.Rows, t *Event) error {
		var when time.Time
		err := row.Scan(append(scanID(&t.ID), &when, &t.Op, &t.Run, &t.Sync, &t.Outcome, &t.Reason, &t.Detail, &t.Decision, &t.DecidedBy, &t.Mode,
			&t.RecordID, &t.Records, &t.ToDelete, &t.Added, &t.Updated, &t.Deleted, &t.Unchanged, &t.Partition, &t.CSN, &t.Offset)...)
		t.At = TimeOf(when)
		return err
	})
	if err != nil {
		return nil, err
	}
	return &Timeline{Since: q.Since, Until: q.Until, Events: events, More: more}, nil
}

// Health implements Ask.
func (r *Reader) Health(ctx context.Context, _ Query) (*Health, error) {
	generations, _, err := list(r, ctx, "health", question("health"), LimitMax, []any{named("limit", LimitMax)}, func(row driver.Rows, t *Generation) error {
		var stored, oldest time.Time
		var audited *time.Time
		err := row.Scan(&t.Generation, &t.Serving, &t.Partitions, &t.CSNs, &stored, &oldest, &t.LagRecords, &t.LagMS, &t.SecondsToLoss, &audited,
			&t.AuditWindows, &t.AuditMismatches)
		t.StoredAt, t.OldestStoredAt, t.AuditedAt = at(&stored), at(&oldest), at(audited)
		return err
	})
	if err != nil {
		return nil, err
	}
	return &Health{At: TimeOf(r.cfg.Now()), Generations: generations}, nil
}
