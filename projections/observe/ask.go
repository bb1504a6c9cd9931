package observe

import (
	"context"
	"time"

	"github.com/tidemark-dev/tidemark/schemas/stream"
)

// Ask is what can be asked. It is safe for concurrent use. Errors that a user should see are *errcode.Error: observability.away and
// observability.too_much of every question; history.unknown_record, history.unknown_version, history.payload_gone and history.expired of
// those about one record.
type Ask interface {
	// Overview sums up the streams of q as they are now, and their last 24 whole hours and the current one. It takes q.Streams alone.
	Overview(ctx context.Context, q Query) (*Overview, error)
	// Streams lists streams as they are now, in q.Order.
	Streams(ctx context.Context, q Query) (*Streams, error)
	// Changes sums up the streams of q by q.Bucket, oldest first, without gaps.
	Changes(ctx context.Context, q Query) (*Changes, error)
	// Runs lists runs that began, or if that is not known ended, in the time asked for, newest first; of q.Status if it is set.
	Runs(ctx context.Context, q Query) (*Runs, error)
	// FieldChanges lists the fields that updates touched, per stream, the most frequent first.
	FieldChanges(ctx context.Context, q Query) (*FieldChanges, error)
	// Spurious lists streams at least half of whose updates touched only fields that most of their updates touch, the same records again
	// and again, with rules that would ignore these fields.
	Spurious(ctx context.Context, q Query) (*Spurious, error)
	// HotRecords lists records that changed more than once in the time asked for, the hottest first; out of the 1000 hottest of the
	// environment.
	HotRecords(ctx context.Context, q Query) (*HotRecords, error)
	// HotStreams lists the streams that changed most in the last 24 whole hours and the current one, the hottest first. It takes q.Streams
	// and q.Limit.
	HotStreams(ctx context.Context, q Query) (*HotStreams, error)
	// PayloadSizes tells how large payloads were, per stream and per day. Days are whole: those that the time asked for touches.
	PayloadSizes(ctx context.Context, q Query) (*PayloadSizes, error)
	// Lag tells how long changes took in the time asked for, how far each component is behind now, and how fresh streams are.
	Lag(ctx context.Context, q Query) (*Lag, error)
	// Health tells how far the projections are and whether they are right. It is about the installation, and takes nothing of q.
	Health(ctx context.Context, q Query) (*Health, error)
	// Timeline lists runs, clears, prunes and other events of streams, newest first. Events of partitions are not among them.
	Timeline(ctx context.Context, q Query) (*Timeline, error)

	// History lists the versions of a record, newest first.
	History(ctx context.Context, q RecordQuery) (*History, error)
	// Diff compares two versions of a record.
	Diff(ctx context.Context, q RecordQuery) (*Diff, error)
	// AsOf is a record as it was at q.At or q.CSN.
	AsOf(ctx context.Context, q RecordQuery) (*AsOf, error)
}

// Query says what a question is about. The zero value of every member but Streams.Environment stands for its default.
type Query struct {
	// Streams selects streams: all that have every non-empty part. The environment must be there.
	Streams stream.ID
	// Since and Until bound time: Since <= t < Until. Defaults: Until now, Since [SpanDefault] before Until.
	Since, Until Time
	// Limit bounds rows of the answer: 1 to [LimitMax]. Default [LimitDefault].
	Limit int
	// Bucket is the width of buckets of Changes. Default: such that there are at most a few hundred.
	Bucket Bucket
	// Order is that of Streams. Default ByActivity.
	Order Order
	// Status selects runs; "": all. See [RunStatuses].
	Status string
}

// Bounds of questions.
const (
	LimitDefault = 100
	LimitMax     = 1000
	SpanDefault  = Time(24 * time.Hour / time.Millisecond)
	// BucketsMax bounds the buckets of one answer: a day of minutes, and a bit.
	BucketsMax = 1500
)

// Bucket is a width of time.
type Bucket string

// Buckets. They begin at whole minutes, hours and days in UTC.
const (
	Minute Bucket = "minute"
	Hour   Bucket = "hour"
	Day    Bucket = "day"
)

// Buckets lists them.
var Buckets = []Bucket{Minute, Hour, Day}

// Width is the length of a bucket in ms.
func (b Bucket) Width() Time {
	switch b {
	case Minute:
		return 60_000
	case Hour:
		return 3_600_000
	}
	return 86_400_000
}

// Order is an order of streams.
type Order string

// Orders of streams. Ties are in the order of names.
const (
	ByActivity Order = "activity" // most changes in the last 24 hours first
	ByRecords  Order = "records"  // most live records first
	ByStale    Order = "stale"    // never synced first, then longest since the last successful run
	ByName     Order = "name"
)

// Orders lists them.
var Orders = []Order{ByActivity, ByRecords, ByStale, ByName}

// RunStatuses are those that a run can have.
var RunStatuses = []string{"running", "completed", "sweeping", "held", "failed", "interrupted"}

// RecordQuery names a record, and what of it.
type RecordQuery struct {
	Stream stream.ID // complete, but for the variant
	ID     string

	// Limit bounds the versions of a History, 1 to [LimitMax]; default [LimitDefault]. Before is the csn that they are below; 0: none.
	Limit  int
	Before uint64
	// Deltas adds what changed to each version of a History. The limit is then at most [DeltasMax].
	Deltas bool

	// From and To are the csns of the versions that a Diff compares. Default: To the newest version, From the one before To.
	From, To uint64

	// At or CSN say when AsOf is: at a time, or behind a change of the record's partition. At most one of them; default: now.
	At  Time
	CSN uint64
}

// DeltasMax bounds the versions of a History with what changed: each takes a payload from the changes topic.
const DeltasMax = 100

// Buckets is how many buckets q asks for.
func (q Query) Buckets() int64 {
	w := q.Bucket.Width()
	return int64((q.Until+w-1)/w - q.Since/w)
}

// WithDefaults fills in what was left out.
func (q Query) WithDefaults(now time.Time) Query {
	if q.Until == 0 {
		q.Until = TimeOf(now)
	}
	if q.Since == 0 {
		q.Since = max(q.Until-SpanDefault, 1)
	}
	if q.Limit == 0 {
		q.Limit = LimitDefault
	}
	if q.Order == "" {
		q.Order = ByActivity
	}
	if q.Bucket == "" {
		q.Bucket = Day
		for _, b := range []Bucket{Hour, Minute} {
			q.Bucket, b = b, q.Bucket
			if q.Buckets() > 400 {
				q.Bucket = b
				break
			}
		}
	}
	return q
}
