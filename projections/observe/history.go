package observe

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"

	"github.com/tidemark-dev/tidemark/projections/follow"
	"github.com/tidemark-dev/tidemark/schemas/errcode"
	"github.com/tidemark-dev/tidemark/schemas/stream"
)

// span is a range of versions: from <= csn <= to, at or before a time.
type span struct {
	from, to uint64
	until    Time
}

// always is every version. The time is the last that the column can hold, so that it compares.
func always() span {
	return span{to: math.MaxInt64, until: TimeOf(time.Date(2299, 12, 31, 0, 0, 0, 0, time.UTC))}
}

func (q *RecordQuery) withDefaults() RecordQuery {
	out := *q
	if out.Stream.Variant == "" {
		out.Stream.Variant = stream.VariantBase
	}
	if out.Limit == 0 {
		out.Limit = LimitDefault
	}
	if out.Deltas {
		out.Limit = min(out.Limit, DeltasMax)
	}
	return out
}

// args are the parameters that name the record and a range.
func (r *Reader) args(q *RecordQuery, s span, limit int) []any {
	id := q.ID
	if r.cfg.HashID != nil {
		id = r.cfg.HashID(q.Stream.Environment, id)
	}
	return append(of(q.Stream), named("record_id", id), named("from", s.from), named("to", s.to), named("at", s.until.millis()), named("limit", limit))
}

func scanVersion(row driver.Rows, v *Version) error {
	var when time.Time
	err := row.Scan(&when, &v.Action, &v.Revision, &v.Run, &v.ChangedFields, &v.ChangedCount, &v.FieldsKnown, &v.FieldsTruncated, &v.SincePrevious,
		&v.Reverted, &v.PayloadBytes, &v.PayloadDelta, &v.LagMS, &v.ChangeID, &v.Partition, &v.CSN, &v.Offset)
	v.At = TimeOf(when)
	return err
}

// facts are the changes of a record, newest first.
func (r *Reader) facts(ctx context.Context, q *RecordQuery, s span, limit int) ([]Version, error) {
	var out []Version
	err := r.ask(ctx, "history", question("history"), recordRowsMax, r.args(q, s, limit), func(row driver.Rows) error {
		var v Version
		err := scanVersion(row, &v)
		out = append(out, v)
		return err
	})
	return out, err
}

// oldest is the oldest fact that is kept; nil: there is none.
func (r *Reader) oldest(ctx context.Context, q *RecordQuery) (out *Version, err error) {
	err = r.ask(ctx, "history", question("history_oldest"), recordRowsMax, r.args(q, always(), 1), func(row driver.Rows) error {
		out = new(Version)
		return scanVersion(row, out)
	})
	return out, err
}

// endings are the events that ended all records of the stream at once, newest first.
func (r *Reader) endings(ctx context.Context, q *RecordQuery, s span, limit int) ([]Version, error) {
	var out []Version
	err := r.ask(ctx, "history", question("endings"), recordRowsMax, r.args(q, s, limit), func(row driver.Rows) error {
		v := Version{Action: actionCleared, ChangedFields: []string{}}
		var when time.Time
		var op string
		err := row.Scan(&when, &op, &v.Partition, &v.CSN, &v.Offset)
		if op == "PURGED" {
			v.Action = actionPurged
		}
		v.At = TimeOf(when)
		out = append(out, v)
		return err
	})
	return out, err
}

// endingsMax bounds the endings of a stream that are looked at. Each means that the stream was filled again.
const endingsMax = 1000

// versions are the facts of a span and the endings that hit the record, newest first, at most limit. more says that there are older ones.
func (r *Reader) versions(ctx context.Context, q *RecordQuery, s span, limit int) (out []Version, more bool, err error) {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	var endings []Version
	asked := make(chan error, 1) // both at the same time: most of an answer's time is the server's planning
	go func() {
		var err error
		endings, err = r.endings(ctx, q, s, endingsMax)
		asked <- err
	}()
	facts, err := r.facts(ctx, q, s, limit+1)
	if err != nil || len(facts) == 0 {
		stop()
		<-asked
		return nil, false, err
	}
	if err := <-asked; err != nil {
		return nil, false, err
	}
	oldest := facts[len(facts)-1].CSN // what ended before that is of no interest
	endings = slices.DeleteFunc(endings, func(v Version) bool { return v.CSN < oldest })
	out = facts
	for _, e := range endings {
		// It ended the record if that was there: the newest version below is not an end itself. Endings come from new to old, so of several
		// in a row the oldest is the one, and those before it in the list are taken back.
		i, _ := slices.BinarySearchFunc(out, e.CSN, func(v Version, csn uint64) int {
			if v.CSN > csn {
				return -1
			}
			return 1
		})
		if i == len(out) || out[i].ends() {
			continue
		}
		if i > 0 && out[i-1].Revision == 0 {
			out[i-1] = e
			continue
		}
		out = slices.Insert(out, i, e)
	}
	if len(out) > limit {
		return out[:limit+1], true, nil
	}
	return out, false, nil
}

// History implements Ask.
func (r *Reader) History(ctx context.Context, query RecordQuery) (*History, error) {
	q := query.withDefaults()
	s := always()
	if q.Before > 0 {
		s.to = q.Before - 1
	}
	versions, more, err := r.versions(ctx, &q, s, q.Limit)
	if err != nil {
		return nil, err
	}
	if len(versions) == 0 {
		if q.Before == 0 {
			return nil, unknownRecord(&q)
		}
		versions = []Version{}
	}
	out := &History{ID: q.Stream, RecordID: q.ID, More: more}
	if n := len(versions); n > 0 && !more {
		out.Complete = born(&versions[n-1])
	}
	if q.Deltas {
		if err := r.deltas(ctx, &q, versions, more); err != nil {
			return nil, err
		}
	}
	out.Versions = versions[:min(len(versions), q.Limit)]
	return out, nil
}

func unknownRecord(q *RecordQuery) error {
	return errcode.New(errcode.UnknownRecord, "It is record %q of %s.", q.ID, q.Stream.Key())
}

// born reports whether nothing was known of the record before.
func born(v *Version) bool { return v.Action == "added" && v.Revision <= 1 }

// limitsInList fit a list of deltas.
var limitsInList = Limits{Edits: 100, ValueBytes: 4 << 10, TotalBytes: 64 << 10}

// deltas fills in what changed, from the oldest version on, so that each payload is read once. With more, the last version is there only
// to compare with.
func (r *Reader) deltas(ctx context.Context, q *RecordQuery, versions []Version, more bool) error {
	var before json.RawMessage // the payload of the version before
	var gone *Gone             // why it is not there
	n := len(versions)
	if n == 0 {
		return nil
	}
	switch {
	case more:
	case versions[n-1].Action == "added":
		before = absent
	default:
		gone = goneOf(errcode.New(errcode.HistoryExpired, ""))
	}
	for i := n - 1; i >= 0; i-- {
		v := &versions[i]
		after, missing, err := r.state(ctx, q, v)
		if err != nil {
			return err
		}
		if missing != nil {
			gone = missing
		}
		if i < n-1 || !more {
			if v.Gone = gone; gone == nil {
				if v.Delta, err = Compare(before, after, limitsInList); err != nil {
					return fmt.Errorf("comparing csn %d of partition %d: %w", v.CSN, v.Partition, err)
				}
			}
		}
		before, gone = after, missing
	}
	return nil
}

// absent is what a record that is not there compares as.
var absent = json.RawMessage(`{}`)

// state is the record behind a version, or why it cannot be told.
func (r *Reader) state(ctx context.Context, q *RecordQuery, v *Version) (json.RawMessage, *Gone, error) {
	if v == nil || v.ends() {
		return absent, nil, nil
	}
	payload, err := r.payload(ctx, q, v)
	var coded *errcode.Error
	if errors.As(err, &coded) && coded.Code == errcode.PayloadGone {
		return nil, goneOf(coded), nil
	}
	return payload, nil, err
}

func goneOf(e *errcode.Error) *Gone {
	info, _ := errcode.Lookup(e.Code)
	g := &Gone{Code: e.Code, Message: info.Message, Hint: info.Hint}
	if e.Detail != "" {
		g.Message += " " + e.Detail
	}
	return g
}

// payload reads the record behind a version from the changes topic. It is the record that the fact is about, or an error.
func (r *Reader) payload(ctx context.Context, q *RecordQuery, v *Version) (json.RawMessage, error) {
	if r.cfg.Payloads == nil {
		return nil, errcode.New(errcode.PayloadGone, "The topic cannot be read from here.")
	}
	rec, err := r.cfg.Payloads.Record(ctx, int32(v.Partition), int64(v.Offset))
	var gone *follow.PositionError
	if errors.As(err, &gone) {
		return nil, &errcode.Error{Code: errcode.PayloadGone, Detail: fmt.Sprintf("It was at offset %d of partition %d.", v.Offset, v.Partition), Err: err}
	}
	if err != nil {
		return nil, fmt.Errorf("reading a payload: %w", err)
	}
	if rec.Meta.CSN != v.CSN || string(rec.Key) != stream.RecordKey(q.Stream.Key(), q.ID) {
		return nil, errcode.New(errcode.PayloadGone, "Another record is at offset %d of partition %d: this is not the topic that the projections were made of.", v.Offset, v.Partition)
	}
	payload, err := rec.Payload()
	if err != nil {
		return nil, fmt.Errorf("reading the payload at offset %d of partition %d: %w", v.Offset, v.Partition, err)
	}
	if payload == nil {
		return nil, errcode.New(errcode.PayloadGone, "It had been pruned.")
	}
	return payload, nil
}
