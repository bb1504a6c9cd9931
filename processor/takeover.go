package processor

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/tidemark-dev/tidemark/processor/batch"
	"github.com/tidemark-dev/tidemark/processor/kafka"
	"github.com/tidemark-dev/tidemark/schemas/event"
)

// takeOver makes this node the writer: fence, write a TERM, and wait until our own follower has read it back. Everything that earlier
// writers got into the log lies before the TERM, so that from then on the follower is complete, whatever the brokers had told whom.
func (o *owner) takeOver(ctx context.Context) error {
	p := o.p
	p.set(phaseTakeover, nil)
	w, err := p.log.Writer(ctx, p.id)
	if err != nil {
		return fmt.Errorf("fencing: %w", err)
	}
	o.w = w
	if err := o.catchUp(ctx); err != nil {
		return err
	}
	nonce := p.cfg.Nonce()
	for {
		o.f.mu.Lock()
		term := o.f.state.Term + 1
		o.f.mu.Unlock()
		if err := o.writeTerm(ctx, term, nonce); err != nil {
			return err
		}
		o.term, o.nonce = term, nonce
		if p.cfg.Breaks.NoTermBarrier {
			return nil
		}
		won := false
		err := o.f.await(ctx, func() bool {
			s := &o.f.state
			won = s.Term == term && s.Nonce == nonce
			return won || s.Term >= term
		})
		if err != nil {
			return err
		}
		if won {
			return nil
		}
		// A TERM of the same or a higher number came first. Ours was late, because the follower was: try a higher one.
		p.m.termRetries.Inc()
	}
}

// catchUp waits a while until the follower is near the end of the log, so that the first TERM has a chance. It is a hint: the
// TERM that is read back decides.
func (o *owner) catchUp(ctx context.Context) error {
	_, end, err := o.p.log.Bounds(ctx, o.p.cfg.Names.Changes, o.p.id)
	if err != nil {
		return fmt.Errorf("asking for the end of the log: %w", err)
	}
	wait, cancel := context.WithTimeoutCause(ctx, o.p.cfg.CatchUpWait, errTooSlow)
	defer cancel()
	err = o.f.await(wait, func() bool { return o.f.position >= end })
	if err != nil && ctx.Err() != nil {
		return err
	}
	// Before the writer goes on it must be able to decide at all: a follower that is far behind makes that wait long, and visible.
	return o.f.await(ctx, func() bool { return o.f.caughtUp })
}

var errTooSlow = errors.New("the follower is still catching up")

func (o *owner) writeTerm(ctx context.Context, term uint64, nonce uint32) error {
	now := max(o.p.cfg.Now().UnixMilli(), o.st.LastTS())
	m := event.Meta{Term: term, Nonce: nonce, RawOffset: -1, TS: now}
	b, err := o.enc.term(&m, &event.Control{Op: event.OpTerm, Partition: o.p.id, TSMillis: now, Term: term, Nonce: nonce, Node: o.p.cfg.Node})
	if err != nil {
		return err
	}
	if _, err := o.w.Append(ctx, o.p.cfg.Names.Changes, b, nil); err != nil {
		return fmt.Errorf("writing TERM %d: %w", term, err)
	}
	return nil
}

// replay reads the raw events from one offset to another again, so that the decider marks what open runs had seen.
func (o *owner) replay(ctx context.Context, from, to int64) error {
	p := o.p
	p.set(phaseReplay, nil)
	start, end, err := p.log.Bounds(ctx, p.cfg.Names.Raw, p.id)
	if err != nil {
		return fmt.Errorf("asking for the bounds of raw: %w", err)
	}
	if start > from {
		o.d.Lost(start)
		from = start
	}
	to = min(to, end)
	if from >= to {
		return nil
	}
	began, first := time.Now(), from
	r := p.log.Reader(p.cfg.Names.Raw, p.id, from)
	defer r.Close()
	for pos := from; pos < to; pos = r.Position() {
		batches, err := r.Next(ctx)
		if err != nil {
			return fmt.Errorf("reading raw again: %w", err)
		}
		for i := range batches {
			if err := o.replayBatch(&batches[i], pos); err != nil {
				return err
			}
		}
	}
	p.m.replayed.Add(float64(to - first))
	p.logger.Info("marked what open runs had seen", "from", first, "to", to, "seconds", time.Since(began).Seconds())
	return nil
}

func (o *owner) replayBatch(b *batch.Batch, from int64) error {
	recs, err := batch.Decode(b, o.p.cfg.BatchBytesMax)
	if err != nil {
		return fmt.Errorf("decoding raw at offset %d: %w", b.Base, err)
	}
	defer recs.Release()
	var r batch.Record
	for {
		ok, err := recs.Next(&r)
		if err != nil {
			return fmt.Errorf("decoding raw at offset %d: %w", b.Base, err)
		}
		if !ok {
			return nil
		}
		if r.Offset < from {
			continue
		}
		ev := rawEvent(&r)
		if err := o.d.Replay(&ev); err != nil {
			return err
		}
	}
}

// foreignSoon waits a moment for the follower to see a TERM that is not ours.
func (o *owner) foreignSoon(ctx context.Context) bool {
	if o.term == 0 {
		return false
	}
	wait, cancel := context.WithTimeout(ctx, foreignWait)
	defer cancel()
	return o.f.await(wait, func() bool { return o.f.state.Term > o.term || o.f.state.Term == o.term && o.f.state.Nonce != o.nonce }) == nil
}

const foreignWait = 200 * time.Millisecond

// rawBounds finds where to start in raw: at next, or later if retention has taken what was there.
func (o *owner) rawBounds(ctx context.Context, next int64) (start int64, gap bool, err error) {
	first, end, err := o.p.log.Bounds(ctx, o.p.cfg.Names.Raw, o.p.id)
	if err != nil {
		return 0, false, fmt.Errorf("asking for the bounds of raw: %w", err)
	}
	if next > end {
		return 0, false, fmt.Errorf("raw ends at offset %d, but events up to %d were processed: it is not the topic that it was: %w", end, next, kafka.ErrTopicID)
	}
	return max(next, first), first > next, nil
}
