package processor

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/cockroachdb/pebble/v2"

	"github.com/tidemark-dev/tidemark/processor/hot"
	"github.com/tidemark-dev/tidemark/processor/segment"
)

// Processor runs all partitions of the topics on this node. Its exported methods are safe for concurrent use.
type Processor struct {
	cfg    Config
	parts  []*partition
	shared *shared
}

// New returns a processor over log. It does no I/O but asking for the partition count.
func New(ctx context.Context, cfg Config, log Log) (*Processor, error) {
	n, err := log.Partitions(ctx)
	if err != nil {
		return nil, fmt.Errorf("asking for the partition count: %w", err)
	}
	if cfg.Dir == "" {
		return nil, errors.New("processor: Dir is required")
	}
	cfg.defaults(n)
	p := &Processor{cfg: cfg, shared: &shared{
		budget: hot.NewBudget(cfg.HotBytes), rows: pebble.NewCache(cfg.CacheBytes), segments: segment.NewCache(cfg.SegmentCache),
	}}
	m := NewMetrics(cfg.Registerer)
	for id := range n {
		part := &partition{
			id: id, cfg: &p.cfg, log: log, shared: p.shared, m: m, phase: phaseStarting, logger: cfg.Logger.With("partition", id),
		}
		part.counts.Store(new(decided))
		p.parts = append(p.parts, part)
	}
	if err := cfg.Registerer.Register(p); err != nil {
		return nil, fmt.Errorf("registering metrics: %w", err)
	}
	return p, nil
}

// Run works until ctx ends, and then flushes the local state. It may be called once.
func (p *Processor) Run(ctx context.Context) error {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	errs := make([]error, len(p.parts))
	var wg sync.WaitGroup
	for i, part := range p.parts {
		wg.Go(func() {
			if err := part.run(ctx); err != nil {
				errs[i] = fmt.Errorf("partition %d: %w", part.id, err)
				stop() // one that cannot go on must not be forgotten behind the others
			}
		})
	}
	wg.Wait()
	p.shared.rows.Unref()
	return errors.Join(errs...)
}
