package processor

import (
	"context"
	"errors"
	"fmt"

	"github.com/tidemark-dev/tidemark/processor/store"
	"github.com/tidemark-dev/tidemark/schemas/errcode"
	"github.com/tidemark-dev/tidemark/schemas/stream"
)

// Partitions is the partition count.
func (p *Processor) Partitions() int32 { return int32(len(p.parts)) }

// Topic is the name of the changes topic.
func (p *Processor) Topic() string { return p.cfg.Names.Changes }

// Status is where a partition stands.
type Status struct {
	Partition int32  `json:"partition"`
	Phase     string `json:"phase"`
	Ready     bool   `json:"ready"`
	Term      uint64 `json:"term"`
	AppliedTo uint64 `json:"applied_csn"`
	RawNext   int64  `json:"raw_next"` // next raw event to decide
	Decided   uint64 `json:"decided"`  // raw events since this node became writer for the first time
	Idle      bool   `json:"idle"`     // all that was decided is applied
	Position  int64  `json:"changes_next"`
	Lag       int64  `json:"changes_lag"`
	Reason    string `json:"reason,omitempty"`
}

// Status returns where every partition stands.
func (p *Processor) Status() []Status {
	out := make([]Status, 0, len(p.parts))
	for _, part := range p.parts {
		out = append(out, part.status())
	}
	return out
}

func (p *partition) status() Status {
	p.mu.RLock()
	s := Status{Partition: p.id, Phase: string(p.phase), Term: p.term}
	f, err := p.follow, p.lastErr
	owned := p.phase == phaseOwned
	p.mu.RUnlock()
	if err != nil {
		s.Reason = err.Error()
	}
	if f != nil {
		applied, position, end, caughtUp := f.progress()
		s.AppliedTo, s.RawNext, s.Position, s.Lag = applied.NextCSN-1, applied.RawNext, position, max(0, end-position)
		c := p.counts.Load()
		s.Decided, s.Idle, s.RawNext = c.Events, c.idle, max(s.RawNext, c.rawNext)
		s.Ready = owned && caughtUp
		if !caughtUp {
			s.Reason = fmt.Sprintf("reading the changes topic: at offset %d of %d", position, end)
		}
	}
	return s
}

// use calls fn with the store of a partition, which stays open meanwhile.
func (p *Processor) use(partition int32, fn func(*store.Store) error) error {
	part := p.parts[partition]
	part.mu.RLock()
	defer part.mu.RUnlock()
	if part.store == nil {
		if part.phase == phaseHalted {
			return errcode.New(errcode.PartitionHalted, "Partition %d.", partition)
		}
		return errcode.New(errcode.NotReady, "Partition %d is %s.", partition, part.phase)
	}
	if _, _, _, caughtUp := part.follow.progress(); !caughtUp {
		return errcode.New(errcode.NotReady, "Partition %d is reading the changes topic.", partition)
	}
	return fn(part.store)
}

// Streams returns what is known of the streams that match filter; an empty part matches everything.
func (p *Processor) Streams(ctx context.Context, filter stream.ID) ([]*store.Stream, error) {
	parts := p.parts
	if filter.Validate() == nil && filter.Variant != "" {
		id := stream.Partition(filter.Key(), p.Partitions())
		parts = parts[id : id+1]
	}
	var out []*store.Stream
	for _, part := range parts {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		err := p.use(part.id, func(st *store.Store) error {
			out = append(out, st.Streams(filter)...)
			return nil
		})
		if err != nil {
			return nil, err
		}
	}
	return out, nil
}

// Stream returns what is known of one stream, and its partition; nil if nothing is.
func (p *Processor) Stream(id stream.ID) (st *store.Stream, partition int32, err error) {
	key := id.Key()
	partition = stream.Partition(key, p.Partitions())
	err = p.use(partition, func(s *store.Store) error {
		if found, ok := s.Stream(key); ok {
			st = found
		}
		return nil
	})
	return st, partition, err
}

// Page walks the latest version of each record of a stream with csn above q.After, ascending; q.SID is filled in. Of a stream that
// is not known it walks nothing. A cursor ahead of the log is errcode.CursorAhead.
func (p *Processor) Page(ctx context.Context, id stream.ID, q store.Query, fn func(*store.Row) error) (store.PageEnd, int32, error) {
	key := id.Key()
	partition := stream.Partition(key, p.Partitions())
	var end store.PageEnd
	err := p.use(partition, func(s *store.Store) error {
		applied := s.Applied().NextCSN - 1
		if q.After > applied {
			return errcode.New(errcode.CursorAhead, "It names change %d, the log ends at %d.", q.After, applied)
		}
		st, ok := s.Stream(key)
		if !ok {
			end = store.PageEnd{LastCSN: q.After, Applied: applied}
			return nil
		}
		q.SID = st.SID
		var err error
		end, err = s.Page(q, func(r *store.Row) error {
			if err := ctx.Err(); err != nil {
				return err
			}
			return fn(r)
		})
		return err
	})
	var coded *errcode.Error
	switch {
	case errors.Is(err, store.ErrCorrupt): // found by this very read
		err = &errcode.Error{Code: errcode.NotReady, Detail: fmt.Sprintf("The local state of partition %d is damaged and is built again.", partition), Err: err}
	case err != nil && !errors.As(err, &coded) && ctx.Err() == nil:
		err = &errcode.Error{Code: errcode.ServerError, Err: err}
	}
	return end, partition, err
}

// Position returns the Kafka offset of a csn.
func (p *Processor) Position(partition int32, csn uint64) (offset int64, ok bool, err error) {
	if partition < 0 || partition >= p.Partitions() {
		return 0, false, nil
	}
	err = p.use(partition, func(s *store.Store) error {
		offset, _, ok = s.Position(csn)
		return nil
	})
	return offset, ok, err
}

// Check compares the parts of the local state of every partition with one another (I7). It reads everything, and what is applied
// meanwhile may look like a difference: it is for tests and for partitions at rest.
func (p *Processor) Check() error {
	for _, part := range p.parts {
		if err := p.use(part.id, (*store.Store).Check); err != nil {
			return fmt.Errorf("partition %d: %w", part.id, err)
		}
	}
	return nil
}
