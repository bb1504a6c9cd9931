package follow

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/tidemark-dev/tidemark/schemas/errcode"
	"github.com/tidemark-dev/tidemark/schemas/event"
	"github.com/tidemark-dev/tidemark/schemas/stream"
)

// RunResult is how a run ended.
type RunResult struct {
	Run uint64
	// Outcome is completed, held, failed or interrupted; never sweeping, for WaitRun waits for the deletions.
	Outcome event.Outcome
	Counts  event.RunCounts // Deleted: by delete events of the run
	// ToDelete is how many records the run found missing, exactly.
	ToDelete uint64
	// Swept is how many of them were deleted. It is less than ToDelete if records came back meanwhile, or were cleared.
	Swept uint64
	// Reason and Detail say why a run was held, failed or was interrupted.
	Reason errcode.Code
	Detail string
	// StartedMS and EndedMS are times of the processor, in ms since the epoch.
	StartedMS, EndedMS int64
	// LastCSN is that of the record that ended the run: all that the run changed is at or below it.
	LastCSN uint64
}

// StreamEnd returns the end of the partition that a stream lives in. Taken before a run begins, it is what WaitRun needs. ctx bounds it.
func StreamEnd(ctx context.Context, cfg Config, id stream.ID) (Position, error) {
	if err := id.Validate(); err != nil {
		return Position{}, err
	}
	cfg, err := cfg.withDefaults()
	if err != nil {
		return Position{}, err
	}
	began := time.Now()
	log, err := cfg.bounds(ctx)
	if err != nil {
		return Position{}, cfg.unreachable(ctx, err, time.Since(began))
	}
	p := stream.Partition(id.Key(), int32(len(log)))
	return AtOffset(p, log[p].end), nil
}

// WaitRun follows a stream from a position before the run's start until the run has ended, and the deletions that follow from it
// are done or held. cfg says how to connect; its partitions and positions do not count. When the deadline of ctx passes the error is
// errcode.RunTimeout; a run that the processor drops because it is older than the newest one leaves no trace and ends so, too.
func WaitRun(ctx context.Context, cfg Config, id stream.ID, run uint64, from Position) (RunResult, error) {
	cfg.Partitions, cfg.Positions = nil, []Position{from}
	f, err := New(cfg)
	if err != nil {
		return RunResult{}, err
	}
	w := runWaiter{key: []byte(id.Key()), result: RunResult{Run: run}}
	if err := f.Run(ctx, w.take); err != nil {
		return w.result, fmt.Errorf("waiting for run %d: %w", run, err)
	}
	switch {
	case w.done:
		return w.result, nil
	case errors.Is(ctx.Err(), context.DeadlineExceeded):
		return w.result, &errcode.Error{Code: errcode.RunTimeout, Err: ctx.Err(), Detail: w.progress()}
	}
	return w.result, fmt.Errorf("waiting for run %d: %w", run, context.Cause(ctx))
}

// runWaiter looks for what becomes of one run.
type runWaiter struct {
	key      []byte // stream key
	result   RunResult
	started  bool
	sweeping bool
	done     bool
}

func (w *runWaiter) progress() string {
	switch {
	case w.sweeping:
		return fmt.Sprintf("Of run %d, %d of %d deletions were seen.", w.result.Run, w.result.Swept, w.result.ToDelete)
	case w.started:
		return fmt.Sprintf("Run %d has started and not ended.", w.result.Run)
	}
	return fmt.Sprintf("Run %d has not started.", w.result.Run)
}

func (w *runWaiter) take(g Group) error {
	for i := range g.Records {
		rec := &g.Records[i]
		if err := w.record(rec); err != nil {
			return err
		}
		if w.done {
			w.result.LastCSN, w.result.EndedMS = rec.Meta.CSN, rec.Meta.TS
			return ErrStop
		}
	}
	return nil
}

func (w *runWaiter) record(rec *Record) error {
	r := &w.result
	mine := rec.Meta.Run == r.Run
	switch rec.Op {
	case event.OpDeleted:
		// Those of delete events name the raw event.
		if mine && w.sweeping && rec.Meta.RawOffset < 0 && w.inStream(rec.Key) {
			r.Swept++
		}
		return nil
	case event.OpCleared, event.OpPurged:
		// Everything is gone at once, and with it what was still to be deleted; a soft clear leaves the sweep alone.
		if !w.sweeping || !bytes.Equal(rec.Key, w.key) {
			return nil
		}
		c, err := event.ParseControl(rec.Value)
		if err != nil {
			return err
		}
		if rec.Op == event.OpPurged || c.Mode == event.ClearHard {
			w.done, r.Detail = true, "the stream was cleared"
		}
		return nil
	case event.OpRunStarted, event.OpRunCompleted, event.OpRunFailed, event.OpSwept:
	default:
		return nil
	}
	if !mine || !bytes.Equal(rec.Key, w.key) {
		return nil
	}
	c, err := event.ParseControl(rec.Value)
	if err != nil {
		return err
	}
	switch rec.Op {
	case event.OpRunStarted:
		w.started, r.StartedMS = true, c.TSMillis
	case event.OpRunCompleted, event.OpRunFailed:
		r.Outcome, r.ToDelete, r.Reason, r.Detail = c.Outcome, c.ToDelete, errcode.Code(c.Reason), c.Detail
		if c.Counts != nil {
			r.Counts = *c.Counts
		}
		r.StartedMS = max(r.StartedMS, c.StartedMS)
		w.sweeping = c.Outcome == event.OutcomeSweeping
		if w.done = !w.sweeping; w.sweeping {
			r.Outcome = event.OutcomeCompleted
		}
	case event.OpSwept:
		w.done, r.Swept = true, c.Records
	}
	return nil
}

// inStream reports whether a record key belongs to the stream.
func (w *runWaiter) inStream(key []byte) bool {
	return len(key) > len(w.key) && key[len(w.key)] == '/' && bytes.HasPrefix(key, w.key)
}
