package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/tidemark-dev/tidemark/ingest"
	"github.com/tidemark-dev/tidemark/ingest/bulk"
	"github.com/tidemark-dev/tidemark/schemas/errcode"
	"github.com/tidemark-dev/tidemark/schemas/event"
	"github.com/tidemark-dev/tidemark/schemas/stream"
)

// loader turns inputs into full-refresh runs of one stream, one after the other. Not safe for concurrent use.
type loader struct {
	producer *ingest.Producer
	changes  *changesReader
	stream   stream.ID
	options  bulk.Options
	complete ingest.CompleteOptions
	onChange func(*change) // called for each change of the stream, if set
	sync     string        // name of the sync function in the run
	wait     time.Duration // for the processor, once everything is written
}

// loadResult is what loading one file did. With --json it is the whole output: members are only ever added.
type loadResult struct {
	File       string   `json:"file"`
	Added      uint64   `json:"added"`
	Updated    uint64   `json:"updated"`
	Deleted    uint64   `json:"deleted"`
	Unchanged  uint64   `json:"unchanged"`
	Held       uint64   `json:"held"`       // deletions that wait for a decision
	Duplicates []string `json:"duplicates"` // ids that occur more than once; the last one counts

	run    uint64
	reason string // why deletions are held
	detail string
}

// load loads one input: it is read once to find faults and the record that wins for each id, and once more to write. It returns when
// the run has been processed.
func (l *loader) load(ctx context.Context, name string, open func() (io.ReadCloser, error), p *progress) (*loadResult, error) {
	p.wait("reading")
	plan, err := bulk.Scan(open, l.options)
	if err != nil {
		return nil, fmt.Errorf("reading %s: %w", name, err)
	}
	// Where the changes topic ends now is before everything that the run will cause.
	from, err := l.changes.end(ctx, l.stream)
	if err != nil {
		return nil, err
	}
	run, err := l.producer.Stream(l.stream).Run(ctx, ingest.RunOptions{Sync: l.sync, Pipeline: true})
	if err != nil {
		return nil, err
	}
	if err := l.write(ctx, run, plan, open, p); err != nil {
		// Without this the run would stay open and keep what it marked; with it nothing is deleted either. The caller's context may be
		// what ended.
		failCtx, cancel := context.WithTimeout(context.WithoutCancel(ctx), failWait)
		defer cancel()
		return nil, fmt.Errorf("loading %s: %w", name, errors.Join(err, run.Fail(failCtx, err)))
	}
	end, err := l.await(ctx, from, run.Sequence(), p)
	if err != nil {
		return nil, fmt.Errorf("loading %s: %w", name, err)
	}
	return l.result(name, plan, run.Sequence(), end)
}

const failWait = 5 * time.Second

// write sends the winners and completes the run.
func (l *loader) write(ctx context.Context, run *ingest.Run, plan *bulk.Plan, open func() (io.ReadCloser, error), p *progress) error {
	in, err := open()
	if err != nil {
		return fmt.Errorf("opening the input again: %w", err)
	}
	defer in.Close()
	replay, err := plan.Replay(in)
	if err != nil {
		return err
	}
	var written int64
	for {
		rec, err := replay.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			return err
		}
		if err := run.Save(ctx, rec.ID, rec.Payload); err != nil {
			return fmt.Errorf("writing record %d (line %d): %w", rec.Index, rec.Line, err)
		}
		if written++; written%256 == 0 {
			p.step(replay.BytesRead(), plan.Bytes, written)
		}
	}
	return run.Complete(ctx, l.complete)
}

// await waits until the processor has done all of the run.
func (l *loader) await(ctx context.Context, from int64, sequence uint64, p *progress) (*runEnd, error) {
	p.wait("written, waiting for the processor")
	wait, cancel := context.WithTimeoutCause(ctx, l.wait, errRunTimeout)
	defer cancel()
	end, err := l.changes.awaitRun(wait, l.stream, from, sequence, l.onChange)
	if err != nil && errors.Is(context.Cause(wait), errRunTimeout) {
		return nil, errcode.New(errcode.RunTimeout, "Run %d was written, and waited for for %s.", sequence, l.wait)
	}
	return end, err
}

var errRunTimeout = errors.New("the run was not processed in time")

// result makes the summary of a run that ended.
func (l *loader) result(name string, plan *bulk.Plan, sequence uint64, end *runEnd) (*loadResult, error) {
	switch end.Outcome {
	case event.OutcomeFailed, event.OutcomeInterrupted:
		e := explain(errcode.New(errcode.Code(end.Reason), "%s", end.Detail))
		e.message = fmt.Sprintf("loading %s: run %d ended as %s: %s", name, sequence, end.Outcome, e.message)
		return nil, e
	}
	c := end.Counts
	if c.DeadLettered > 0 {
		return nil, &commandError{
			exit: exitFailure, code: string(errcode.HeldDeadLetters),
			message: fmt.Sprintf("loading %s: %s of run %d could not be applied", name, plural(c.DeadLettered, "record", "records"), sequence),
			hint:    "The dead-letter topic has them, each with its reason.",
		}
	}
	r := &loadResult{
		File: name, Added: c.Added, Updated: c.Updated, Deleted: c.Deleted + end.Deleted, Unchanged: c.Unchanged, Duplicates: plan.Duplicates,
		run: sequence, reason: end.Reason, detail: end.Detail,
	}
	if end.Outcome == event.OutcomeHeld {
		r.Held = end.ToDelete
	}
	return r, nil
}
