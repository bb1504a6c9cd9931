package processor

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/tidemark-dev/tidemark/processor/batch"
	"github.com/tidemark-dev/tidemark/processor/decide"
	"github.com/tidemark-dev/tidemark/processor/store"
)

// owner is the writer of a partition, for one term at a time.
type owner struct {
	p   *partition
	f   *follower
	st  *store.Store
	d   *decide.Decider
	w   Writer
	enc encoder

	term  uint64
	nonce uint32

	notedCSN uint64
	notedRaw int64
	notedAt  time.Time
}

func rawEvent(r *batch.Record) decide.Event {
	return decide.Event{Offset: r.Offset, TS: r.TS, Key: r.Key, Value: r.Value, Headers: r.Headers}
}

// own takes the partition over and writes until something fails.
func (o *owner) own(ctx context.Context) (err error) {
	p := o.p
	o.enc.partition = p.id
	defer func() {
		if o.w != nil {
			o.w.Close()
			o.w = nil
		}
	}()
	if err := o.takeOver(ctx); err != nil {
		return err
	}
	for _, fl := range o.f.arrivals() {
		o.d.Applied(fl.group)
	}
	o.f.ground()
	if err := o.saveSeen(false); err != nil {
		return err
	}
	rawTopic, err := p.log.TopicID(ctx, p.cfg.Names.Raw)
	if err != nil {
		return err
	}
	rawNext, err := o.st.RawNext()
	if err != nil {
		return err
	}
	rawNext, gap, err := o.rawBounds(ctx, rawNext)
	if err != nil {
		return err
	}
	from, err := o.d.Begin(o.term, o.nonce, rawNext, rawTopic)
	if err != nil {
		return err
	}
	if gap {
		o.d.Gap(rawNext)
	}
	if from >= 0 {
		if err := o.replay(ctx, from, rawNext); err != nil {
			return err
		}
		o.d.Replayed()
	}
	p.mu.Lock()
	p.phase, p.lastErr, p.term = phaseOwned, nil, o.term
	p.mu.Unlock()
	p.m.terms.Inc()
	p.logger.Info("owns the partition", "term", o.term, "next_csn", o.d.NextCSN(), "raw_next", rawNext)
	return o.write(ctx, rawNext)
}

// write runs the pipeline: fetch, decide, commit. All goroutines have ended when it returns.
func (o *owner) write(ctx context.Context, rawNext int64) error {
	ctx, stop := context.WithCancelCause(ctx)
	fetched := make(chan *fetched, o.p.cfg.FetchedMax)
	groups := make(chan *flight)
	done := make(chan struct{}, 4)
	start := func(fn func() error) {
		go func() {
			stop(fn())
			done <- struct{}{}
		}()
	}
	start(func() error { return o.fetch(ctx, rawNext, fetched) })
	start(func() error { return o.commit(ctx, groups) })
	start(func() error { return o.watch(ctx) })
	start(func() error { return o.keep(ctx) })
	err := o.decide(ctx, fetched, groups)
	stop(err)
	for range 4 {
		<-done
	}
	for len(fetched) > 0 {
		(<-fetched).recs.Release()
	}
	for _, fl := range o.f.arrivals() {
		o.d.Applied(fl.group)
	}
	if o.st.Damage() == nil {
		if err := o.saveSeen(true); err != nil {
			o.p.logger.Warn("the next term reads more raw events again", "err", err)
		}
	}
	o.publish(false)
	return context.Cause(ctx)
}

// saveSeen stores what open runs have seen, if it is time to; last says that the term ends.
func (o *owner) saveSeen(last bool) error {
	if c := o.d.Checkpoint(last); c != nil {
		return o.st.SaveSeen(c)
	}
	return nil
}

// watch ends the term when the follower sees another writer's. A commit that is stuck must not keep the term alive.
func (o *owner) watch(ctx context.Context) error {
	err := o.f.await(ctx, func() bool { return o.f.state.Term != o.term || o.f.state.Nonce != o.nonce })
	if err != nil {
		return err
	}
	if o.p.cfg.Breaks.NoTermBarrier {
		<-ctx.Done()
		return context.Cause(ctx)
	}
	return errForeignTerm
}

// fetched is a decoded batch of raw events, from an offset on.
type fetched struct {
	recs *batch.Records
	from int64
}

// fetch reads raw ahead of the decider, by a bounded number of batches.
func (o *owner) fetch(ctx context.Context, from int64, out chan<- *fetched) error {
	r := o.p.log.Reader(o.p.cfg.Names.Raw, o.p.id, from)
	defer r.Close()
	for {
		pos := r.Position()
		batches, err := r.Next(ctx)
		if err != nil {
			return fmt.Errorf("reading raw: %w", err)
		}
		for i := range batches {
			b := batches[i]
			if b.Codec() == batch.None {
				// The records would alias the fetch buffer, which the next fetch reuses.
				b.Raw = append([]byte(nil), b.Raw...)
			}
			recs, err := batch.Decode(&b, o.p.cfg.BatchBytesMax)
			if err != nil {
				return fmt.Errorf("decoding raw at offset %d: %w", b.Base, err)
			}
			select {
			case out <- &fetched{recs, pos}:
			case <-ctx.Done():
				recs.Release()
				return context.Cause(ctx)
			}
		}
	}
}

// commit appends groups, one at a time: the next must not reach the log if this one did not.
func (o *owner) commit(ctx context.Context, groups <-chan *flight) error {
	names := o.p.cfg.Names
	for {
		var fl *flight
		select {
		case fl = <-groups:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
		began := time.Now()
		if len(fl.group.Dead) > 0 {
			// Before the group: a crash in between repeats the copy, which its offset header tells apart, but never loses it.
			if _, err := o.w.Append(ctx, names.DLQ, o.enc.dead(fl.group, o.p.cfg.Now().UnixMilli()), nil); err != nil {
				return fmt.Errorf("writing dead letters: %w", err)
			}
		}
		b, err := o.enc.group(fl.group)
		if err != nil {
			return err
		}
		o.f.launch(fl)
		_, err = o.w.Append(ctx, names.Changes, b, func(produced []byte) { o.f.sent(fl, produced) })
		if err != nil && !o.p.cfg.Breaks.NoAppendCheck {
			return fmt.Errorf("writing group from csn %d: %w", fl.group.FirstCSN(), err)
		}
		o.p.m.commitSeconds.Observe(time.Since(began).Seconds())
		o.p.m.groupRecords.Observe(float64(len(fl.group.Records)))
	}
}

// decide is the sequential heart: it takes raw events in order, hands groups out when they are full or when nothing else is there,
// and takes back those that were applied.
func (o *owner) decide(ctx context.Context, in <-chan *fetched, out chan<- *flight) error {
	d := o.d
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	var cur *fetched
	defer func() {
		if cur != nil {
			cur.recs.Release()
		}
	}()
	var (
		rec     batch.Record
		ev      decide.Event
		again   bool // ev was refused by a barrier
		taken   int  // groups handed out and not yet applied
		ready   *flight
		drained bool
	)
	for {
		for _, fl := range o.f.arrivals() {
			d.Applied(fl.group)
			taken--
		}
		if err := o.saveSeen(false); err != nil {
			return err
		}
		// Decide until the group is full, an event must wait, or the batch ends.
		blocked := false
		for cur != nil && !d.Full() && !blocked {
			if !again {
				ok, err := cur.recs.Next(&rec)
				if err != nil {
					return fmt.Errorf("decoding raw: %w", err)
				}
				if !ok {
					cur.recs.Release()
					cur = nil
					break
				}
				if rec.Offset < cur.from {
					continue
				}
				ev = rawEvent(&rec)
			}
			err := d.Decide(&ev)
			again = errors.Is(err, decide.ErrBarrier)
			if err != nil && !again {
				return err
			}
			blocked = again
		}
		if d.Sweeping() && !d.Full() && !blocked {
			if err := d.Sweep(); err != nil {
				return err
			}
		}
		drained = cur == nil && len(in) == 0
		if ready == nil && d.Pending() && taken < o.p.cfg.Flights && (d.Full() || blocked || drained || taken == 0) {
			ready = &flight{group: d.Take(), term: o.term, nonce: o.nonce}
			taken++
		}
		var give chan<- *flight
		if ready != nil {
			give = out
		}
		var next <-chan *fetched
		if cur == nil {
			next = in
		}
		o.f.mu.Lock()
		changed, landed := o.f.changed, len(o.f.landed) > 0
		o.f.mu.Unlock()
		// Something can be done at once: look without waiting.
		busy := landed || cur != nil && !d.Full() && !blocked || d.Sweeping() && !d.Full() && !blocked
		if busy {
			select {
			case give <- ready:
				ready = nil
			case f := <-next:
				cur = f
			case <-ctx.Done():
				return context.Cause(ctx)
			default:
			}
			continue
		}
		o.publish(ready == nil)
		select {
		case give <- ready:
			ready = nil
		case f := <-next:
			cur = f
		case <-changed:
		case <-tick.C:
			d.Tick()
			if err := o.note(); err != nil {
				return err
			}
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// note writes down how far raw was read without output, now and then.
func (o *owner) note() error {
	d := o.d
	if !d.Idle() || d.NextCSN() == o.notedCSN && d.RawNext() == o.notedRaw || o.p.cfg.Now().Sub(o.notedAt) < o.p.cfg.ProgressEvery {
		return nil
	}
	o.notedCSN, o.notedRaw, o.notedAt = d.NextCSN(), d.RawNext(), o.p.cfg.Now()
	return o.st.SaveProgress(store.Progress{NextCSN: o.notedCSN, RawNext: o.notedRaw})
}

// publish tells whoever looks from outside how far the decider is.
func (o *owner) publish(handedOut bool) {
	o.p.counts.Store(&decided{Counters: o.d.Counters(), rawNext: o.d.RawNext(), idle: handedOut && o.d.Idle() && !o.d.Sweeping()})
}

// decided is what a decider has done, and whether all of it is applied.
type decided struct {
	decide.Counters
	rawNext int64
	idle    bool
}
