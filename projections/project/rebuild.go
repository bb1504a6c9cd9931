package project

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/tidemark-dev/tidemark/projections/fold"
	"github.com/tidemark-dev/tidemark/projections/follow"
	"github.com/tidemark-dev/tidemark/projections/warehouse"
)

// RebuildConfig says what to build anew, beside what is there.
type RebuildConfig struct {
	Warehouse *warehouse.Warehouse
	Source    Source
	Keys      *fold.Keys
	// RawTopic, ChangesTopic, WindowBits and HashIDs are as in Config.
	RawTopic, ChangesTopic string
	WindowBits             uint8
	HashIDs                bool
	// BatchRows is as in Config. Default 200,000: nobody waits for single rows.
	BatchRows int
	// Force has the views switched although the generations differ.
	Force    bool
	Logger   *slog.Logger
	Progress func(RebuildStep) // nil for none; called from one goroutine
	Now      func() time.Time
}

// RebuildStep is how far a rebuild is.
type RebuildStep struct {
	Step   string // reading, copying, comparing, switching
	Behind int64  // records that are left to read
}

// RebuildReport is what became of it.
type RebuildReport struct {
	From, To   int
	Copied     bool // some of it was older than the log, and taken over
	Parity     warehouse.Parity
	Mismatched uint64 // windows of the new generation whose sums are not what their facts say
	Switched   bool
}

// rebuildSettled is how many records may be left when a rebuild stops reading: they come with the projector that goes on.
const rebuildSettled = 1000

// Rebuild fills a new generation of tables from the log, takes over what is older than that, compares both, and lets the views read the
// new one. The old one is served and written meanwhile, and stays for a switch back. A rebuild that was interrupted begins again.
// A running projector notices the switch and goes on with the new generation.
func Rebuild(ctx context.Context, cfg RebuildConfig) (report RebuildReport, err error) {
	if cfg.WindowBits == 0 {
		cfg.WindowBits = fold.WindowBitsDefault
	}
	if cfg.BatchRows == 0 {
		cfg.BatchRows = 200_000
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Progress == nil {
		cfg.Progress = func(RebuildStep) {}
	}
	w := cfg.Warehouse
	if err := w.Migrate(ctx); err != nil {
		return report, err
	}
	if report.From, err = w.ViewsGeneration(ctx); err != nil {
		return report, err
	}
	all, err := w.Generations(ctx)
	if err != nil {
		return report, err
	}
	report.To = report.From + 1
	for _, g := range all {
		if g > report.From { // left by a rebuild that did not come to its end
			if err := w.DropGeneration(ctx, g); err != nil {
				return report, err
			}
			report.To = max(report.To, g+1) // its positions are still there
		}
	}
	if err := w.CreateGeneration(ctx, report.To); err != nil {
		return report, err
	}
	source := &firsts{Source: cfg.Source, csns: map[uint16]uint64{}}
	if err := cfg.read(ctx, report.To, source); err != nil {
		return report, err
	}
	if report.From > 0 {
		cfg.Progress(RebuildStep{Step: "copying"})
		older := map[uint16]uint64{}
		for partition, csn := range source.csns {
			if csn > 1 {
				older[partition] = csn
			}
		}
		if report.Copied = len(older) > 0; report.Copied {
			if err := cfg.copy(ctx, warehouse.Copy{From: report.From, To: report.To, Window: 1 << cfg.WindowBits, Before: older}); err != nil {
				return report, err
			}
		}
		cfg.Progress(RebuildStep{Step: "comparing"})
		if report.Parity, err = w.CompareGenerations(ctx, report.From, report.To, cfg.Now()); err != nil {
			return report, err
		}
	}
	audit, err := w.Audit(ctx, report.To, warehouse.AuditRange{Window: 1 << cfg.WindowBits})
	if err != nil {
		return report, err
	}
	report.Mismatched = audit.Mismatched
	if (report.Parity.Different > 0 || report.Mismatched > 0) && !cfg.Force {
		return report, nil
	}
	cfg.Progress(RebuildStep{Step: "switching"})
	if err := w.SetViews(ctx, report.To); err != nil {
		return report, err
	}
	report.Switched = true
	return report, nil
}

// read projects into a generation until little is left.
func (cfg *RebuildConfig) read(ctx context.Context, generation int, source *firsts) error {
	p, err := New(Config{
		Source: source, Store: &unseen{NewWarehouse(cfg.Warehouse, WarehouseConfig{Generation: generation, Logger: cfg.Logger})}, Keys: cfg.Keys,
		WindowBits: cfg.WindowBits, HashIDs: cfg.HashIDs, RawTopic: cfg.RawTopic, ChangesTopic: cfg.ChangesTopic, BatchRows: cfg.BatchRows,
		SampleEvery: 500 * time.Millisecond, Logger: cfg.Logger,
	})
	if err != nil {
		return err
	}
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	ended := make(chan error, 1)
	go func() { ended <- p.Run(ctx) }()
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case err := <-ended:
			if err == nil {
				err = context.Cause(ctx)
			}
			return err
		case <-tick.C:
		}
		s := p.Status()
		var behind int64
		begun := true
		for _, part := range s.Partitions {
			behind += part.Behind
			begun = begun && (part.Behind == 0 || source.knows(part.Partition))
		}
		cfg.Progress(RebuildStep{Step: "reading", Behind: behind})
		if s.State == Live && behind <= rebuildSettled && begun && p.sampled() {
			stop()
			return <-ended
		}
	}
}

// sampled reports whether the ends of the log are known.
func (p *Projector) sampled() bool {
	p.status.mu.Lock()
	defer p.status.mu.Unlock()
	return p.status.sampled
}

const copyTries = 60

// copy takes over what is older, between two batches of the old generation's writer.
func (cfg *RebuildConfig) copy(ctx context.Context, c warehouse.Copy) (err error) {
	for range copyTries {
		if err = cfg.Warehouse.CopyGeneration(ctx, c); !errors.Is(err, warehouse.ErrUnsettled) || !sleep(ctx, time.Second) {
			return err
		}
	}
	return err
}

// unseen is a store whose views are not made: another generation serves.
type unseen struct{ *Warehouse }

func (u *unseen) Prepare(ctx context.Context) (Erasures, error) { return u.loadErasures(ctx) }

// firsts notes the first csn that is read of each partition.
type firsts struct {
	Source
	mu   sync.Mutex
	csns map[uint16]uint64
}

func (f *firsts) knows(partition int32) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	_, ok := f.csns[uint16(partition)]
	return ok
}

func (f *firsts) Follow(ctx context.Context, positions []follow.Position, take func(follow.Group) error) error {
	return f.Source.Follow(ctx, positions, func(g follow.Group) error {
		f.mu.Lock()
		known := slices.ContainsFunc(positions, func(p follow.Position) bool { return p.Partition == g.Partition })
		if _, ok := f.csns[uint16(g.Partition)]; !ok && !known {
			f.csns[uint16(g.Partition)] = g.Records[0].Meta.CSN
		}
		f.mu.Unlock()
		return take(g)
	})
}

// Switch lets the views read a generation that is there.
func Switch(ctx context.Context, w *warehouse.Warehouse, generation int) error {
	all, err := w.Generations(ctx)
	if err != nil {
		return err
	}
	if !slices.Contains(all, generation) {
		return fmt.Errorf("there is no generation %d: there are %v", generation, all)
	}
	return w.SetViews(ctx, generation)
}
