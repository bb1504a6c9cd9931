package project

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/tidemark-dev/tidemark/projections/fold"
	"github.com/tidemark-dev/tidemark/projections/warehouse"
	"github.com/tidemark-dev/tidemark/schemas/stream"
)

// Warehouse is the Store in ClickHouse.
type Warehouse struct {
	w      *warehouse.Warehouse
	cfg    WarehouseConfig
	logger *slog.Logger
	erased atomic.Int64 // erasures that Prepare found; -1: it was not called yet
}

// WarehouseConfig says which tables, and what is known of the server.
type WarehouseConfig struct {
	// Generation of tables. Default 1.
	Generation int
	// Boot names the start of the machine that the server runs on, if that is this machine: a server that was killed keeps what it
	// acknowledged, one whose machine lost its power may not. Empty: not known; then every restart of the server counts as that.
	Boot   string
	Logger *slog.Logger
}

// NewWarehouse makes a store of a warehouse.
func NewWarehouse(w *warehouse.Warehouse, cfg WarehouseConfig) *Warehouse {
	if cfg.Generation == 0 {
		cfg.Generation = 1
	}
	s := &Warehouse{w: w, cfg: cfg, logger: cfg.Logger}
	s.erased.Store(-1)
	if s.logger == nil {
		s.logger = slog.New(slog.DiscardHandler)
	}
	return s
}

// Prepare makes what is missing. Views are made anew at every start: an update may have given them more columns.
func (s *Warehouse) Prepare(ctx context.Context) (Erasures, error) {
	if err := s.w.Migrate(ctx); err != nil {
		return nil, err
	}
	if err := s.w.CreateGeneration(ctx, s.cfg.Generation); err != nil {
		return nil, err
	}
	shown, err := s.w.ViewsGeneration(ctx)
	if err != nil {
		return nil, err
	}
	if shown == 0 || shown == s.cfg.Generation {
		if err := s.w.SetViews(ctx, s.cfg.Generation); err != nil {
			return nil, err
		}
	}
	return s.loadErasures(ctx)
}

func (s *Warehouse) loadErasures(ctx context.Context) (Erasures, error) {
	list, err := s.w.LoadErasures(ctx)
	if err != nil {
		return nil, err
	}
	e := erasures{}
	for _, x := range list {
		id := x.Stream
		k := erasureKey{id, x.RecordID}
		e[k] = max(e[k], x.At.UnixMilli())
	}
	s.erased.Store(int64(len(list)))
	return e, nil
}

type erasureKey struct {
	stream stream.ID // of a connection: without model and variant
	record string
}

// erasures are not written to once they are made.
type erasures map[erasureKey]int64

// Until looks the connection up, and the record.
func (e erasures) Until(id *stream.ID, recordID string) int64 {
	if len(e) == 0 {
		return 0
	}
	of := *id
	at := int64(0)
	if recordID != "" {
		at = e[erasureKey{of, recordID}]
	}
	of.Model, of.Variant = "", ""
	return max(at, e[erasureKey{stream: of}])
}

// stored is the position as it lies in the table.
type stored struct {
	fold.Resume
	AtMS int64  `json:"at_ms"` // of the last record
	Boot string `json:"boot,omitempty"`
}

// Positions returns the newest positions, or those of warehouse.RewindBy earlier if the server may have lost what came then.
func (s *Warehouse) Positions(ctx context.Context) ([]Progress, error) {
	all, err := s.w.LoadProgress(ctx, s.cfg.Generation)
	if err != nil {
		return nil, err
	}
	var out []Progress
	for partition, p := range all {
		at, newest := p.Newest, stored{}
		if err := json.Unmarshal([]byte(at.Position), &newest); err != nil {
			return nil, fmt.Errorf("reading the position of partition %d: %w", partition, err)
		}
		got := newest
		if at.Restarted && (s.cfg.Boot == "" || newest.Boot != s.cfg.Boot) {
			s.logger.Info("the server was restarted since it was written to: what came shortly before is written again",
				"partition", partition, "rewind", warehouse.RewindBy.String())
			at, got = p.Earlier, stored{}
			if at.Position == "" {
				continue // from the start
			}
			if err := json.Unmarshal([]byte(at.Position), &got); err != nil {
				return nil, fmt.Errorf("reading an earlier position of partition %d: %w", partition, err)
			}
		}
		out = append(out, Progress{Partition: int32(partition), Resume: got.Resume, CSN: at.ToCSN, AtMS: got.AtMS})
	}
	return out, nil
}

// SavePositions adds to what is known.
func (s *Warehouse) SavePositions(ctx context.Context, positions []Progress) error {
	list := make([]warehouse.Progress, len(positions))
	for i, p := range positions {
		text, err := json.Marshal(stored{p.Resume, p.AtMS, s.cfg.Boot})
		if err != nil {
			return fmt.Errorf("writing a position: %w", err)
		}
		list[i] = warehouse.Progress{Partition: uint16(p.Partition), At: time.Now(), ToCSN: p.CSN, Position: string(text)}
	}
	return s.w.StoreProgress(ctx, s.cfg.Generation, list...)
}

// Insert writes rows.
func (s *Warehouse) Insert(ctx context.Context, rows *fold.Rows) error {
	return s.w.Insert(ctx, s.cfg.Generation, rows)
}

// Summed is the highest csn that is summed up in some windows.
func (s *Warehouse) Summed(ctx context.Context, partition int32, from, before uint64) (uint64, error) {
	return s.w.Summed(ctx, s.cfg.Generation, uint16(partition), from, before)
}

// InsertLag stores samples.
func (s *Warehouse) InsertLag(ctx context.Context, samples []Lag) error {
	list := make([]warehouse.LagSample, len(samples))
	for i, l := range samples {
		generation := s.cfg.Generation
		if l.Component != ComponentProjections {
			generation = 0 // it has none
		}
		list[i] = warehouse.LagSample{
			Component: l.Component, Generation: generation, Partition: uint16(l.Partition), At: time.UnixMilli(l.AtMS), LogStart: l.LogStart,
			LogEnd: l.LogEnd, Position: l.Position, Records: uint64(max(l.Records, 0)), Age: time.Duration(l.MS) * time.Millisecond, ToLoss: l.ToLoss,
		}
	}
	return s.w.InsertLag(ctx, list...)
}

// Trouble translates what ClickHouse says.
func (s *Warehouse) Trouble(err error) Trouble {
	switch warehouse.Classify(err) {
	case warehouse.Pressure:
		return Pressure
	case warehouse.Denied:
		return Denied
	case warehouse.Schema:
		return Schema
	}
	return Passing
}
