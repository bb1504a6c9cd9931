package observe

import (
	"context"
	"strings"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"

	"github.com/tidemark-dev/tidemark/schemas/errcode"
)

var bucketViews = map[Bucket]string{Minute: "v1_changes_per_minute", Hour: "v1_changes_hourly", Day: "v1_changes_daily"}

// Changes implements Ask.
func (r *Reader) Changes(ctx context.Context, q Query) (*Changes, error) {
	q = q.WithDefaults(r.cfg.Now())
	n := q.Buckets()
	if n > BucketsMax {
		return nil, errcode.New(errcode.ObservabilityTooMuch, "It asks for %d buckets, at most %d are answered.", n, BucketsMax)
	}
	width := q.Bucket.Width()
	out := &Changes{Since: q.Since.floor(q.Bucket), Until: q.Until.ceil(q.Bucket), Bucket: q.Bucket, Buckets: make([]ChangeBucket, n)}
	for i := range out.Buckets {
		out.Buckets[i].At = out.Since + Time(i)*width
	}
	var all histogram
	sql := strings.ReplaceAll(question("changes"), bucketViews[Hour], bucketViews[q.Bucket])
	args := append(of(q.Streams), named("since", out.Since.seconds()), named("until", out.Until.seconds()), named("limit", BucketsMax))
	err := r.ask(ctx, "changes", sql, r.cfg.RowsMax, args, func(row driver.Rows) error {
		var start time.Time
		var c Counts
		var sum uint64
		var highest uint32
		var counts []uint64
		if err := row.Scan(&start, &c.Changes, &c.Added, &c.Updated, &c.Deleted, &c.Restored, &c.Unchanged, &c.Runs, &c.RunsFailed, &c.BytesWritten,
			&sum, &highest, &counts); err != nil {
			return err
		}
		var one histogram
		one.add(counts, sum, highest)
		all.add(counts, sum, highest)
		b := &out.Buckets[(TimeOf(start)-out.Since)/width]
		b.Counts, b.LagMS = c, one.percentiles()
		out.Total.add(&c)
		return nil
	})
	if err != nil {
		return nil, err
	}
	out.LagMS = all.percentiles()
	return out, nil
}
