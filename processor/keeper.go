package processor

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/tidemark-dev/tidemark/processor/batch"
	"github.com/tidemark-dev/tidemark/processor/kafka"
	"github.com/tidemark-dev/tidemark/processor/store"
	"github.com/tidemark-dev/tidemark/schemas/stream"
)

// The state topic holds what the changes topic no longer does: hash and metadata of records whose last change is past retention. It is
// written when the prune floor has risen, once for each version that lived that long, and not with every change: until then the changes
// topic itself says it. Order makes it safe: the rows up to the floor, then a mark, and only then may the changes up to the floor go.

// keep brings the state topic up to the prune floor, and trims the topics, until ctx ends. What goes wrong is tried again at the next
// turn: housekeeping must not stop the writer. Only a failed append ends the term, for the writer is dead then.
func (o *owner) keep(ctx context.Context) error {
	tick := time.NewTicker(o.p.cfg.KeepEvery)
	defer tick.Stop()
	covered, known := uint64(0), false
	for {
		err := o.keepOnce(ctx, &covered, &known)
		if errors.Is(err, kafka.ErrWriterDead) {
			return err
		}
		if err != nil && ctx.Err() == nil {
			o.p.m.keepErrors.Inc()
			o.p.logger.Warn("housekeeping of the topics failed, trying again", "err", err)
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

func (o *owner) keepOnce(ctx context.Context, covered *uint64, known *bool) (err error) {
	if !*known {
		if *covered, err = o.lastMark(ctx); err != nil {
			return err
		}
		*known = true
	}
	if floor := o.st.Floor(); floor > *covered {
		if err := o.writeState(ctx, *covered, floor); err != nil {
			return err
		}
		*covered = floor
	}
	if o.p.cfg.Trim {
		return o.trim(ctx, *covered)
	}
	return nil
}

// lastMark returns the csn up to which the state topic is complete; 0 if its last batch does not say.
func (o *owner) lastMark(ctx context.Context) (uint64, error) {
	names := o.p.cfg.Names
	start, end, err := o.p.log.Bounds(ctx, names.State, o.p.id)
	if err != nil {
		return 0, fmt.Errorf("asking for the bounds of the state topic: %w", err)
	}
	if end <= start {
		return 0, nil
	}
	r := o.p.log.Reader(names.State, o.p.id, end-1)
	defer r.Close()
	for r.Position() < end {
		batches, err := r.Next(ctx)
		if err != nil {
			return 0, fmt.Errorf("reading the state topic: %w", err)
		}
		for i := range batches {
			var found uint64
			err := eachRecord(&batches[i], o.p.cfg.BatchBytesMax, func(rec *batch.Record) error {
				if string(rec.Key) != string(store.StateMark) {
					return nil
				}
				var m store.Mark
				if err := json.Unmarshal(rec.Value, &m); err != nil {
					return fmt.Errorf("state mark: %w", err)
				}
				found = m.CSN
				return nil
			})
			if err != nil || found > 0 {
				return found, err
			}
		}
	}
	return 0, nil
}

func eachRecord(b *batch.Batch, bytesMax int, fn func(*batch.Record) error) error {
	recs, err := batch.Decode(b, bytesMax)
	if err != nil {
		return fmt.Errorf("decoding at offset %d: %w", b.Base, err)
	}
	defer recs.Release()
	var r batch.Record
	for {
		ok, err := recs.Next(&r)
		if err != nil {
			return fmt.Errorf("decoding at offset %d: %w", b.Base, err)
		}
		if !ok {
			return nil
		}
		if err := fn(&r); err != nil {
			return err
		}
	}
}

const stateBatchBytes = 512 << 10

// writeState appends the rows that left the reach of the changes topic since after. When the topic holds more than twice what is live,
// everything is written anew, and what came before is removed.
func (o *owner) writeState(ctx context.Context, after, until uint64) error {
	names := o.p.cfg.Names
	start, end, err := o.p.log.Bounds(ctx, names.State, o.p.id)
	if err != nil {
		return fmt.Errorf("asking for the bounds of the state topic: %w", err)
	}
	var rows uint64
	for _, s := range o.st.Streams(stream.ID{}) {
		rows += s.Total
	}
	anew := o.p.cfg.Trim && uint64(end-start) > 2*rows+stateSlack
	if anew {
		after = 0
	}
	var b batch.Builder
	began := int64(-1)
	flush := func() error {
		if b.Count() == 0 {
			return nil
		}
		offset, err := o.w.Append(ctx, names.State, &b, nil)
		if err != nil {
			return fmt.Errorf("writing state: %w", err)
		}
		if began < 0 {
			began = offset
		}
		b.Reset()
		return nil
	}
	now := o.p.cfg.Now().UnixMilli()
	err = o.st.StateRows(after, until, func(r store.StateRow) error {
		b.Append(now, r.Key, r.Value, nil)
		if b.Size() < stateBatchBytes {
			return nil
		}
		return flush()
	})
	if err = errors.Join(err, flush()); err != nil {
		return err
	}
	if anew && began > 0 {
		if err := o.p.log.Trim(ctx, names.State, o.p.id, began); err != nil {
			return fmt.Errorf("trimming the state topic: %w", err)
		}
	}
	return nil
}

// stateSlack is how many rows the state topic may hold beyond twice the live ones: small ones are not worth the work.
const stateSlack = 10_000

// trim removes what is past retention: changes up to covered, for which the state topic stands in, and raw events that were processed
// long ago and that no open run may need again.
func (o *owner) trim(ctx context.Context, covered uint64) error {
	names := o.p.cfg.Names
	if offset, _, ok := o.st.Position(covered); ok && covered > 0 {
		if start, end, err := o.p.log.Bounds(ctx, names.Changes, o.p.id); err != nil {
			return fmt.Errorf("asking for the bounds of changes: %w", err)
		} else if offset+1 > start && offset+1 < end {
			if err := o.p.log.Trim(ctx, names.Changes, o.p.id, offset+1); err != nil {
				return fmt.Errorf("trimming changes: %w", err)
			}
		}
	}
	before, err := o.st.RawBefore(o.p.cfg.Now(), o.p.cfg.RawRetention)
	if err != nil {
		return err
	}
	for _, s := range o.st.Streams(stream.ID{}) {
		for _, run := range s.Runs {
			if (run.Status == store.RunRunning || run.Open()) && run.Seq != 0 {
				before = min(before, run.RawStart)
			}
		}
	}
	start, _, err := o.p.log.Bounds(ctx, names.Raw, o.p.id)
	if err != nil {
		return fmt.Errorf("asking for the bounds of raw: %w", err)
	}
	if before <= start {
		return nil
	}
	if err := o.p.log.Trim(ctx, names.Raw, o.p.id, before); err != nil {
		return fmt.Errorf("trimming raw: %w", err)
	}
	return nil
}

// errBootstrap marks a bootstrap that failed: what it left on disk is of no use.
var errBootstrap = errors.New("bootstrapping")

// bootstrap fills an empty store from the state topic, because the changes topic no longer reaches back to the first csn.
func (p *partition) bootstrap(ctx context.Context, st *store.Store) error {
	fail := func(err error) error { return fmt.Errorf("%w: %w", errBootstrap, err) }
	start, end, err := p.log.Bounds(ctx, p.cfg.Names.State, p.id)
	if err != nil {
		return fail(err)
	}
	r := p.log.Reader(p.cfg.Names.State, p.id, start)
	defer r.Close()
	var rows []store.StateRow
	mark, err := st.Bootstrap(func() (*store.StateRow, error) {
		for len(rows) == 0 {
			if r.Position() >= end {
				return nil, nil
			}
			batches, err := r.Next(ctx)
			if err != nil {
				return nil, err
			}
			for i := range batches {
				err := eachRecord(&batches[i], p.cfg.BatchBytesMax, func(rec *batch.Record) error {
					rows = append(rows, store.StateRow{Key: append([]byte(nil), rec.Key...), Value: append([]byte(nil), rec.Value...)})
					return nil
				})
				if err != nil {
					return nil, err
				}
			}
		}
		row := rows[0]
		rows = rows[1:]
		return &row, nil
	})
	if err != nil {
		return fail(err)
	}
	p.logger.Info("bootstrapped from the state topic", "csn", mark.CSN, "changes_next", mark.NextOffset)
	return nil
}
