package observe

import (
	"context"
	"fmt"
	"slices"

	"github.com/tidemark-dev/tidemark/schemas/errcode"
)

// Diff implements Ask.
func (r *Reader) Diff(ctx context.Context, query RecordQuery) (*Diff, error) {
	q := query.withDefaults()
	out := &Diff{ID: q.Stream, RecordID: q.ID}
	if err := r.between(ctx, &q, out); err != nil || out.Gone != nil {
		return out, err
	}
	before, gone, err := r.state(ctx, &q, out.From)
	var after []byte
	if err == nil && gone == nil {
		after, gone, err = r.state(ctx, &q, out.To)
	}
	if err == nil && gone == nil {
		out.Delta, err = Compare(before, after, LimitsDefault)
	}
	if err != nil {
		return nil, fmt.Errorf("comparing versions of record %q of %s: %w", q.ID, q.Stream.Key(), err)
	}
	out.Gone = gone
	return out, nil
}

// between finds the versions to compare, and what the facts from one to the other say.
func (r *Reader) between(ctx context.Context, q *RecordQuery, out *Diff) error {
	s, limit := always(), 1
	if q.To > 0 {
		s.to = q.To
	}
	if q.From > 0 {
		s.from, limit = q.From, LimitMax
	}
	versions, more, err := r.versions(ctx, q, s, limit)
	if err != nil {
		return err
	}
	if len(versions) == 0 || q.To > 0 && versions[0].CSN != q.To {
		return r.unknownVersion(ctx, q, q.To)
	}
	out.To = &versions[0]
	from := slices.IndexFunc(versions, func(v Version) bool { return v.CSN == q.From })
	switch {
	case q.From == 0 && more:
		from = 1
	case q.From == 0:
		from = 1
		if out.To.Action != "added" {
			out.Gone = goneOf(errcode.New(errcode.HistoryExpired, ""))
		}
	case from < 0 && more:
		return errcode.New(errcode.ObservabilityTooMuch, "There are more than %d versions between %d and %d.", LimitMax, q.From, out.To.CSN)
	case from < 0: // the end of the stream has no fact
		endings, err := r.endings(ctx, q, span{q.From, q.From, s.until}, 1)
		if err != nil {
			return err
		}
		if len(endings) == 0 {
			return r.unknownVersion(ctx, q, q.From)
		}
		from, versions = len(versions), append(versions, endings[0])
		out.To = &versions[0]
	}
	if from < len(versions) {
		out.From = &versions[from]
	}
	out.touched(versions[:from])
	return nil
}

// touched sums up what facts say of fields.
func (d *Diff) touched(versions []Version) {
	d.ChangedFields, d.FieldsKnown = []string{}, true
	for i := range versions {
		v := &versions[i]
		if v.Action == "restored" {
			continue
		}
		d.FieldsKnown = d.FieldsKnown && v.Action == "updated" && v.FieldsKnown && !v.FieldsTruncated
		d.ChangedFields = append(d.ChangedFields, v.ChangedFields...)
	}
	slices.Sort(d.ChangedFields)
	d.ChangedFields = slices.Compact(d.ChangedFields)
}

// unknownVersion tells a record that nothing is known of from a version that it does not have.
func (r *Reader) unknownVersion(ctx context.Context, q *RecordQuery, csn uint64) error {
	oldest, err := r.oldest(ctx, q)
	switch {
	case err != nil:
		return err
	case oldest == nil:
		return unknownRecord(q)
	case csn < oldest.CSN && !born(oldest):
		return errcode.New(errcode.HistoryExpired, "The oldest version that is kept is %d.", oldest.CSN)
	}
	return errcode.New(errcode.UnknownVersion, "None has csn %d.", csn)
}

// AsOf implements Ask.
func (r *Reader) AsOf(ctx context.Context, query RecordQuery) (*AsOf, error) {
	q := query.withDefaults()
	s := always()
	switch {
	case q.CSN > 0:
		s.to = q.CSN
	case q.At > 0:
		s.until = q.At
	default:
		q.At = TimeOf(r.cfg.Now())
		s.until = q.At
	}
	out := &AsOf{ID: q.Stream, RecordID: q.ID, At: q.At, CSN: q.CSN}
	versions, _, err := r.versions(ctx, &q, s, 1)
	if err != nil {
		return nil, err
	}
	if len(versions) == 0 {
		oldest, err := r.oldest(ctx, &q)
		switch {
		case err != nil:
			return nil, err
		case oldest == nil:
			return nil, unknownRecord(&q)
		case !born(oldest):
			return nil, errcode.New(errcode.HistoryExpired, "The oldest version that is kept is of %s.", oldest.At)
		}
		return out, nil
	}
	out.Version = &versions[0]
	if out.Version.ends() {
		return out, nil
	}
	if out.Record, err = r.payload(ctx, &q, out.Version); err != nil {
		return nil, err
	}
	out.Exists = true
	return out, nil
}
