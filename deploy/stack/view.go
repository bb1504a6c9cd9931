package stack

import (
	"context"
	"sync/atomic"

	"github.com/tidemark-dev/tidemark/api"
	"github.com/tidemark-dev/tidemark/processor"
	"github.com/tidemark-dev/tidemark/processor/store"
	"github.com/tidemark-dev/tidemark/schemas/errcode"
	"github.com/tidemark-dev/tidemark/schemas/stream"
)

// view shows the processor to the API. Until there is one, it says what is being waited for.
type view struct {
	processor atomic.Pointer[processor.Processor]
	waiting   atomic.Pointer[api.Condition] // what start is at; nil once the processor runs
}

func (v *view) wait(component, reason string) {
	v.waiting.Store(&api.Condition{Component: component, Partition: -1, Reason: reason})
}

func (v *view) serve(p *processor.Processor) {
	v.processor.Store(p)
	v.waiting.Store(nil)
}

// get returns the processor, or errcode.NotReady.
func (v *view) get() (*processor.Processor, error) {
	if p := v.processor.Load(); p != nil {
		return p, nil
	}
	reason := "the start"
	if w := v.waiting.Load(); w != nil {
		reason = w.Component + ": " + w.Reason
	}
	return nil, errcode.New(errcode.NotReady, "It waits for %s.", reason)
}

// Streams implements api.View.
func (v *view) Streams(ctx context.Context, filter stream.ID) ([]api.StreamInfo, error) {
	p, err := v.get()
	if err != nil {
		return nil, err
	}
	streams, err := p.Streams(ctx, filter)
	if err != nil {
		return nil, err
	}
	out := make([]api.StreamInfo, len(streams))
	for i, s := range streams {
		out[i] = api.StreamInfo{
			ID: s.Stream, Partition: stream.Partition(s.Key.Stream, p.Partitions()), Live: s.Live, Total: s.Total, LastCSN: s.LastCSN,
			LastRunEndMS: lastRunEnd(s),
		}
	}
	return out, nil
}

// lastRunEnd is when the newest run that completed ended. A held or sweeping run has completed, too.
func lastRunEnd(s *store.Stream) int64 {
	var ms int64
	for _, r := range s.Runs {
		switch r.Status {
		case store.RunCompleted, store.RunHeld, store.RunSweeping, store.RunDiscarded:
			if r.Seq != 0 { // a soft clear is no run of a sync function
				ms = max(ms, r.EndedMS)
			}
		}
	}
	return ms
}

// Page implements api.View. The sets of actions have the same bits on both sides.
func (v *view) Page(ctx context.Context, q api.Query, fn func(*api.Row) error) (api.PageEnd, error) {
	p, err := v.get()
	if err != nil {
		return api.PageEnd{}, err
	}
	var out api.Row
	out.Partition = stream.Partition(q.Stream.Key(), p.Partitions())
	end, partition, err := p.Page(ctx, q.Stream, store.Query{
		After: q.After, Limit: q.Limit, ScanMax: q.ScanMax - q.Limit, Actions: store.Actions(q.Actions),
		ModifiedAfter: q.ModifiedAfterMS, IDs: q.IDs,
	}, func(r *store.Row) error {
		out.CSN, out.Offset, out.Term, out.Op = r.CSN, r.Offset, uint32(r.Term), r.Op
		out.TSMillis, out.FirstSeenMS, out.PrunedAtMS = r.TS, r.FirstSeen, r.PrunedMS
		out.ID, out.Payload = r.ID, r.Payload
		return fn(&out)
	})
	return api.PageEnd{LastCSN: end.LastCSN, More: end.More, Applied: end.Applied, Partition: partition}, err
}

// Ready implements api.View.
func (v *view) Ready() []api.Condition {
	if w := v.waiting.Load(); w != nil {
		return []api.Condition{*w}
	}
	p := v.processor.Load()
	if p == nil {
		return []api.Condition{{Component: "processor", Partition: -1, Reason: "not started"}}
	}
	var out []api.Condition
	for _, s := range p.Status() {
		if s.Ready {
			continue
		}
		c := api.Condition{Component: "writer", Partition: s.Partition, Reason: s.Phase}
		if s.Lag > 0 {
			c.Component = "follower"
		}
		if s.Reason != "" {
			c.Reason += ": " + s.Reason
		}
		out = append(out, c)
	}
	return out
}
