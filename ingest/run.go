package ingest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"strconv"
	"sync"
	"sync/atomic"
	"time"
	"unicode/utf8"

	"github.com/tidemark-dev/tidemark/schemas/errcode"
	"github.com/tidemark-dev/tidemark/schemas/event"
)

// RunOptions say what kind of run begins.
type RunOptions struct {
	// Sequence orders the runs of a stream: a run shuts out those below it. 0 stands for the time in microseconds, or one
	// above the last sequence of this producer if that is more. Processes whose runs of one stream follow each other
	// need clocks that agree to less than the time between the runs, or numbers of their own.
	Sequence uint64
	// TrackDeletes asks for deletion detection: Complete deletes what the run did not save. nil means true.
	TrackDeletes *bool
	// Fence false lets the run go beside the runs that are active. nil means true.
	Fence *bool
	// Sync names the sync function; it is informational.
	Sync string
	// Strategy holds for all writes of the run.
	Strategy MergingStrategy
	// Schema is a version of the payloads' schema, at most 128 bytes, copied into the changes.
	Schema string
	// Pipeline lets writes return once they have their place in the order, without waiting for the broker: much faster for a
	// single goroutine. The first event that fails is returned by every later call, and Complete waits for all of them.
	Pipeline bool
}

// CompleteOptions say what follows from the end of a run.
type CompleteOptions struct {
	// DeleteMissing deletes the records that the run did not save. nil means: if the run tracks deletes.
	DeleteMissing *bool
	// AllowEmpty lets a run that saved nothing delete everything.
	AllowEmpty bool
	// MaxDeleteRatio overrides the share of the live records, 0 to 1, above which the deletions are held.
	MaxDeleteRatio *float64
}

// Run is one execution of a sync function. Complete or Fail ends it. It is safe for concurrent use: the order of concurrent writes is
// the order in which they return from waiting for room, and their ordinals follow it.
//
// Saves, updates and deletes have ordinals; a checkpoint has none, for no record is lost with it.
type Run struct {
	Writer
	tracks bool
	number uint64

	turn chan struct{} // held by the one of Checkpoint, Complete and Fail that is under way

	mu      sync.Mutex
	n       uint64 // last ordinal given out
	sealed  bool   // no more writes
	ended   bool
	refused map[string]struct{} // records whose last write was refused
	unknown bool                // and some whose id is not known, or too many
	end     *receipt            // run.completed, on its way

	pending atomic.Int64 // events not yet answered
	lost    atomic.Pointer[error]
	gate    gate
}

// refusedMax bounds what a run remembers of refused writes; beyond it they cannot be made good any more.
const refusedMax = 10_000

// Run writes run.started, waits for the broker to have it, and returns the run.
func (s *Stream) Run(ctx context.Context, o RunOptions) (*Run, error) {
	if o.Sequence == math.MaxUint64 {
		return nil, errors.New("starting a run: no sequence may follow the largest one")
	}
	r := &Run{
		Writer: s.Writer,
		tracks: o.TrackDeletes == nil || *o.TrackDeletes,
		number: s.producer.sequence(o.Sequence),
		turn:   make(chan struct{}, 1),
	}
	r.sequence = strconv.AppendUint(nil, r.number, 10)
	r.cas = o.Strategy.header()
	r.schema, r.err = schemaHeader(o.Schema, r.err)
	start := &event.RunStart{TrackDeletes: o.TrackDeletes, Fence: o.Fence, Sync: o.Sync}
	if err := r.json(ctx, kindRunStarted, start, new(event.RunStart)); err != nil {
		return nil, fmt.Errorf("starting a run: %w", err)
	}
	r.run, r.pipeline = r, o.Pipeline
	return r, nil
}

// schemaBytesMax is the bound of header sv.
const schemaBytesMax = 128

func schemaHeader(schema string, err error) ([]byte, error) {
	switch {
	case err != nil:
		return nil, err
	case schema == "":
		return nil, nil
	case len(schema) > schemaBytesMax:
		return nil, errcode.New(errcode.RawInvalidHeader, "The schema version has %d bytes, at most %d are allowed.", len(schema), schemaBytesMax)
	}
	return []byte(schema), nil
}

// Sequence is the run's number.
func (r *Run) Sequence() uint64 { return r.number }

// measureEvery is how many pipelined events pass between two whose duration is measured: reading the clock costs.
const measureEvery = 64

// send gives an event its ordinal and hands it to the client, in one step, so that ordinals rise along the log.
func (r *Run) send(d *delivery, id string) error {
	d.run = r
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.sealed {
		return ErrRunEnded
	}
	if lost := r.lost.Load(); lost != nil {
		return r.broken(*lost)
	}
	r.n++
	d.number(r.n)
	d.record.Timestamp = r.producer.cfg.Now()
	if r.n%measureEvery == 0 && d.began.IsZero() {
		d.began = time.Now()
	}
	delete(r.refused, id)
	r.pending.Add(1)
	r.producer.send(d)
	return nil
}

// answered is called for each event of the run.
func (r *Run) answered(err error) {
	if err != nil {
		first := err // the parameter itself would be put on the heap in every call
		r.lost.CompareAndSwap(nil, &first)
	}
	r.pending.Add(-1)
	r.gate.wake()
}

func (r *Run) settled() bool { return r.pending.Load() == 0 }

func (r *Run) broken(err error) error { return fmt.Errorf("%w: %w", ErrRunBroken, err) }

func (r *Run) refuse(id string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case id == "" || len(r.refused) >= refusedMax:
		r.unknown = true
	case r.refused == nil:
		r.refused = map[string]struct{}{id: {}}
	default:
		r.refused[id] = struct{}{}
	}
}

// Flush waits until all events of the run have been answered, and returns the first that failed.
func (r *Run) Flush(ctx context.Context) error {
	if err := r.flush(ctx); err != nil {
		return fmt.Errorf("flushing a run: %w", err)
	}
	return nil
}

func (r *Run) flush(ctx context.Context) error {
	if err := r.producer.await(ctx, &r.gate, r.settled); err != nil {
		return err
	}
	if lost := r.lost.Load(); lost != nil {
		return r.broken(*lost)
	}
	return nil
}

// enter waits for its turn and, if seal is set, stops further writes.
func (r *Run) enter(ctx context.Context, seal bool) error {
	select {
	case r.turn <- struct{}{}:
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.ended {
		<-r.turn
		return ErrRunEnded
	}
	r.sealed = r.sealed || seal
	return nil
}

// leave ends the turn; the run goes on unless it ended or its end is on its way.
func (r *Run) leave() {
	r.mu.Lock()
	r.sealed = r.ended || r.end != nil
	r.mu.Unlock()
	<-r.turn
}

// Checkpoint writes the author's state, any JSON, once every event before it has been acknowledged.
func (r *Run) Checkpoint(ctx context.Context, state any) error {
	value, err := encodeState(state)
	if err != nil {
		return err
	}
	if err := r.enter(ctx, false); err != nil {
		return fmt.Errorf("writing a checkpoint: %w", err)
	}
	defer r.leave()
	if err := r.flush(ctx); err != nil {
		return fmt.Errorf("writing a checkpoint: %w", err)
	}
	return r.control(ctx, kindCheckpoint, value)
}

// Complete ends the run, once every one of its events has been acknowledged.
//
// It returns [ErrRunBroken] if an event was lost; then only Fail remains. It returns [ErrRefused] if the run would delete what is missing
// and the last write of some record was refused: write that record again, complete with DeleteMissing false, or fail. After
// [errcode.Unreachable], or when ctx ends, run.completed may be in the log or not: another call goes on waiting, with the options of the
// first. After any other error the run goes on.
func (r *Run) Complete(ctx context.Context, o CompleteOptions) error {
	if err := r.enter(ctx, true); err != nil {
		return fmt.Errorf("completing a run: %w", err)
	}
	defer r.leave()
	if err := r.complete(ctx, o); err != nil {
		return fmt.Errorf("completing a run: %w", err)
	}
	return nil
}

func (r *Run) complete(ctx context.Context, o CompleteOptions) error {
	end := r.completion()
	if end == nil {
		deletes := r.tracks
		if o.DeleteMissing != nil {
			deletes = *o.DeleteMissing
		}
		if deletes && !r.tracks {
			return errors.New("a run that does not track deletes cannot delete what is missing")
		}
		if m := o.MaxDeleteRatio; m != nil && !(*m >= 0 && *m <= 1) {
			return fmt.Errorf("the ratio of deletions is %v, not 0 to 1", *m)
		}
		if err := r.flush(ctx); err != nil {
			return err
		}
		n, refused := r.count()
		if deletes && refused != "" {
			return fmt.Errorf("%w: %s", ErrRefused, refused)
		}
		value, err := json.Marshal(&event.RunEnd{DeleteMissing: deletes, Events: n, AllowEmpty: o.AllowEmpty, MaxDeleteRatio: o.MaxDeleteRatio})
		if err != nil {
			return fmt.Errorf("encoding: %w", err)
		}
		end = newReceipt(1)
		if err := r.post(ctx, kindRunCompleted, "", value, nil, end, true); err != nil {
			return err
		}
		r.setCompletion(end)
	}
	if err := r.producer.await(ctx, &end.gate, end.settled); err != nil {
		return err
	}
	r.setCompletion(nil)
	if err := end.result(); err != nil {
		return err
	}
	r.finish()
	return nil
}

// Fail ends the run without deletions; what it wrote stays. cause is shown in the run's record, up to 500 bytes of it. It may be called after
// Complete has returned an error, and again after an error of its own.
func (r *Run) Fail(ctx context.Context, cause error) error {
	if err := r.enter(ctx, true); err != nil {
		return fmt.Errorf("failing a run: %w", err)
	}
	defer r.leave()
	var failure event.RunFailure
	if cause != nil {
		failure.Error = clipText(cause.Error(), 500)
	}
	if err := r.json(ctx, kindRunFailed, &failure, new(event.RunFailure)); err != nil {
		return fmt.Errorf("failing a run: %w", err)
	}
	r.finish()
	return nil
}

// clipText cuts s to at most that many bytes, between characters.
func clipText(s string, most int) string {
	if len(s) <= most {
		return s
	}
	for most > 0 && !utf8.RuneStart(s[most]) {
		most--
	}
	return s[:most]
}

func (r *Run) completion() *receipt {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.end
}

func (r *Run) setCompletion(end *receipt) {
	r.mu.Lock()
	r.end = end
	r.mu.Unlock()
}

func (r *Run) finish() {
	r.mu.Lock()
	r.ended, r.end = true, nil
	r.mu.Unlock()
}

// count returns how many ordinals were given out, and which records would be deleted by mistake, in words.
func (r *Run) count() (n uint64, refused string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case r.unknown && len(r.refused) >= refusedMax:
		refused = fmt.Sprintf("more than %d records", refusedMax)
	case r.unknown:
		refused = "a record without a usable id"
	case len(r.refused) > 0:
		refused = fmt.Sprintf("%d records", len(r.refused))
	}
	return r.n, refused
}
