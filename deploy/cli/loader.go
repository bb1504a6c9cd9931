package cli

import (
	"context"
	"fmt"
	"io"
	"time"

	"github.com/tidemark-dev/tidemark/ingest"
	"github.com/tidemark-dev/tidemark/ingest/bulk"
	"github.com/tidemark-dev/tidemark/projections/follow"
	"github.com/tidemark-dev/tidemark/schemas/errcode"
	"github.com/tidemark-dev/tidemark/schemas/event"
	"github.com/tidemark-dev/tidemark/schemas/stream"
)

// loader turns inputs into full-refresh runs of one stream, one after the other. Not safe for concurrent use.
type loader struct {
	conn     *connection
	producer *ingest.Producer
	stream   stream.ID
	options  bulk.Options
	complete ingest.CompleteOptions
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
	reason errcode.Code // why deletions are held
	detail string
	dead   uint64 // records that could not be applied

	// Where the changes of the run are: behind from, up to lastCSN.
	from    follow.Position
	lastCSN uint64
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
	from, err := follow.StreamEnd(ctx, l.conn.follow(), l.stream)
	if err != nil {
		return nil, err
	}
	run, err := l.producer.Stream(l.stream).Run(ctx, ingest.RunOptions{Sync: l.sync, Pipeline: true})
	if err != nil {
		return nil, err
	}
	if err := l.write(ctx, run, plan, open, p); err != nil {
		return nil, fmt.Errorf("loading %s: %w", name, l.fail(ctx, run, err))
	}
	p.wait("written, waiting for the processor")
	wait, cancel := context.WithTimeout(ctx, l.wait)
	defer cancel()
	end, err := follow.WaitRun(wait, l.conn.follow(), l.stream, run.Sequence(), from)
	if err != nil {
		return nil, fmt.Errorf("loading %s: %w", name, err)
	}
	return newLoadResult(name, plan, &end, from)
}

const (
	// failWait bounds ending a run after an error: what is on its way comes first.
	failWait = 30 * time.Second
	// closeWait bounds closing a producer whose runs have ended.
	closeWait = 5 * time.Second
)

// fail ends a run that cannot be completed. Nothing is deleted in any case, but without it the run would count as running until the
// next one begins. The context of the load may be what ended.
func (l *loader) fail(ctx context.Context, run *ingest.Run, cause error) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), failWait)
	defer cancel()
	err := run.Fail(ctx, cause)
	if err == nil {
		return cause
	}
	e := explain(cause)
	e.message += fmt.Sprintf("; run %d could not be ended and stays open until the next one begins (%v)", run.Sequence(), err)
	return e
}

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

// newLoadResult makes the summary of a run that ended.
func newLoadResult(name string, plan *bulk.Plan, end *follow.RunResult, from follow.Position) (*loadResult, error) {
	switch end.Outcome {
	case event.OutcomeFailed, event.OutcomeInterrupted:
		e := explain(errcode.New(end.Reason, "%s", end.Detail))
		e.message = fmt.Sprintf("loading %s: run %d ended as %s: %s", name, end.Run, end.Outcome, e.message)
		return nil, e
	}
	c := &end.Counts
	r := &loadResult{
		File: name, Added: c.Added, Updated: c.Updated, Deleted: c.Deleted + end.Swept, Unchanged: c.Unchanged, Duplicates: plan.Duplicates,
		run: end.Run, reason: end.Reason, detail: end.Detail, dead: c.DeadLettered, from: from, lastCSN: end.LastCSN,
	}
	if end.Outcome == event.OutcomeHeld {
		r.Held = end.ToDelete
	}
	return r, nil
}
