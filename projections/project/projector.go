package project

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/cenkalti/backoff/v4"

	"github.com/tidemark-dev/tidemark/projections/fold"
	"github.com/tidemark-dev/tidemark/projections/follow"
	"github.com/tidemark-dev/tidemark/schemas/rulev"
	"github.com/tidemark-dev/tidemark/schemas/stream"
)

// Store is where rows are kept. Every method may be repeated after an error, whatever it did before that.
type Store interface {
	// Prepare makes the tables. It returns the erasures that are known.
	Prepare(ctx context.Context) (Erasures, error)
	// Positions returns where to go on, of every partition that has ever been written.
	Positions(ctx context.Context) ([]Progress, error)
	// Insert writes rows. An error says nothing of how many were written.
	Insert(ctx context.Context, rows *fold.Rows) error
	// SavePositions stores them, behind all rows that were inserted before.
	SavePositions(ctx context.Context, positions []Progress) error
	// Summed is the highest csn that partials of the partition hold whose windows begin at from or later, below before; 0: none.
	Summed(ctx context.Context, partition int32, from, before uint64) (uint64, error)
	// InsertLag stores samples. They may be lost.
	InsertLag(ctx context.Context, samples []Lag) error
	// Trouble says what to do about an error of the others.
	Trouble(err error) Trouble
}

// Erasures says until when what is known of a record was erased, in ms since the epoch. Safe for concurrent use.
type Erasures interface {
	Until(id *stream.ID, recordID string) int64
}

// Progress is how far a partition is written.
type Progress struct {
	Partition int32
	Resume    fold.Resume
	CSN       uint64 // of the last record written
	AtMS      int64  // its time
}

// Lag is how far a component is behind one partition of a topic.
type Lag struct {
	Component string // ComponentProjections or ComponentProcessor
	Topic     string
	Partition int32
	AtMS      int64
	LogStart  int64
	LogEnd    int64
	Position  int64
	Records   int64
	MS        int64         // age of the oldest record that was not read; 0: there is none
	ToLoss    time.Duration // until the log drops a record that was not read; negative: there is none, or it keeps everything
}

// Components of samples.
const (
	ComponentProjections = "projections" // reads the changes topic
	ComponentProcessor   = "processor"   // reads the raw topic
)

// Trouble is what stands between us and the store.
type Trouble uint8

// Troubles.
const (
	Passing  Trouble = iota // try again
	Pressure                // it is short of memory: try again with less
	Denied                  // wrong credentials, or not enough rights: somebody has to do something
	Schema                  // the tables are not as we left them: somebody has to do something
)

// Source reads the changes topic. *KafkaSource is the one outside of tests.
type Source interface {
	// Follow delivers groups as follow.Follower does, from the positions, or from the start of partitions without one.
	Follow(ctx context.Context, positions []follow.Position, take func(follow.Group) error) error
	// Ranges says what the log has.
	Ranges(ctx context.Context) ([]Range, error)
}

// Range is what one partition of a log holds.
type Range struct {
	Topic      string
	Partition  int32
	Start, End int64
	Read       int64 // up to where Follow has read, what it does not deliver included; 0: not known
}

// Config of a Projector. Zero values stand for the defaults.
type Config struct {
	Source Source // required
	Store  Store  // required
	Keys   *fold.Keys
	// WindowBits and HashIDs are as in fold.Config. Both are fixed for a generation of tables.
	WindowBits uint8
	HashIDs    bool
	// RawTopic and ChangesTopic name what Ranges talks about.
	RawTopic, ChangesTopic string
	// RawNext is the next offset of the raw topic that the processor will decide, if it is at hand: what the log says trails while events
	// change nothing.
	RawNext func(partition int32) (offset int64, ok bool)
	// Retention of the changes topic; 0: for ever. What is older than that and not written yet may be lost.
	Retention time.Duration
	// BatchRows and BatchWait bound a batch: it is written when it has that many rows, or that age. Default 50,000 and 1 s.
	BatchRows int
	BatchWait time.Duration
	// RetryMax is the longest wait between two tries. Default 30 s.
	RetryMax time.Duration
	// SampleEvery is how often lag is measured. Default 10 s.
	SampleEvery time.Duration
	Logger      *slog.Logger
	Metrics     *Metrics
	Now         func() time.Time
}

func (c *Config) setDefaults() {
	if c.BatchRows == 0 {
		c.BatchRows = 50_000
	}
	if c.BatchWait == 0 {
		c.BatchWait = time.Second
	}
	if c.RetryMax == 0 {
		c.RetryMax = 30 * time.Second
	}
	if c.SampleEvery == 0 {
		c.SampleEvery = 10 * time.Second
	}
	if c.WindowBits == 0 {
		c.WindowBits = fold.WindowBitsDefault
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	if c.Metrics == nil {
		c.Metrics = NewMetrics(nil)
	}
	if c.Now == nil {
		c.Now = time.Now
	}
}

// Projector writes the projections. Run is for one goroutine, once; Status may be called at any time.
type Projector struct {
	cfg    Config
	status status
	warned int // of sample alone
}

// New checks the config. It does no I/O.
func New(cfg Config) (*Projector, error) {
	cfg.setDefaults()
	switch {
	case cfg.Source == nil || cfg.Store == nil:
		return nil, errors.New("a projector needs a source and a store")
	case cfg.Keys == nil:
		return nil, errors.New("a projector needs keys for fingerprints")
	case cfg.BatchRows < 1 || cfg.BatchWait <= 0 || cfg.RetryMax <= 0 || cfg.SampleEvery <= 0:
		return nil, errors.New("bounds of a projector must be above 0")
	}
	p := &Projector{cfg: cfg}
	p.status.init(&cfg)
	return p, nil
}

// Run projects until ctx ends; then it returns nil. It outlives every trouble with the store and the brokers. A log that breaks the protocol
// ends it with *rulev.HaltError.
func (p *Projector) Run(ctx context.Context) error {
	wait := p.newBackoff()
	for {
		began := p.cfg.Now()
		err := p.session(ctx)
		if ctx.Err() != nil {
			return nil
		}
		if errors.As(err, new(*rulev.HaltError)) {
			p.status.stop(err)
			return err
		}
		if p.cfg.Now().Sub(began) > time.Minute {
			wait.Reset()
		}
		d := wait.NextBackOff()
		p.cfg.Logger.Warn("projecting is interrupted", "error", err, "retry_ms", d.Milliseconds())
		if !sleep(ctx, d) {
			return nil
		}
	}
}

func (p *Projector) newBackoff() *backoff.ExponentialBackOff {
	return backoff.NewExponentialBackOff(backoff.WithInitialInterval(200*time.Millisecond), backoff.WithMultiplier(2), backoff.WithRandomizationFactor(0.3),
		backoff.WithMaxInterval(p.cfg.RetryMax), backoff.WithMaxElapsedTime(0))
}

func sleep(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// insist tries until it works or ctx ends. Trouble that lasts is told once, and when it is over.
func (p *Projector) insist(ctx context.Context, what string, try func(context.Context) error) error {
	wait := p.newBackoff()
	var since time.Time
	for {
		err := try(ctx)
		if err == nil {
			if !since.IsZero() {
				p.cfg.Logger.Info("the projections go on", "what", what, "after_ms", p.cfg.Now().Sub(since).Milliseconds())
			}
			p.status.fine()
			return nil
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		trouble := p.cfg.Store.Trouble(err)
		p.cfg.Metrics.retried(trouble)
		d := wait.NextBackOff()
		if trouble == Denied || trouble == Schema {
			d = p.cfg.RetryMax
		}
		if since.IsZero() {
			since = p.cfg.Now()
			p.cfg.Logger.Warn("the projections wait", "what", what, "trouble", trouble.String(), "error", err)
		}
		p.status.troubled(trouble, err)
		if !sleep(ctx, d) {
			return context.Cause(ctx)
		}
	}
}

// String names it for logs and metrics.
func (t Trouble) String() string { return [...]string{"passing", "pressure", "denied", "schema"}[t] }

// session reads from the stored positions until something breaks.
func (p *Projector) session(ctx context.Context) error {
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	var erasures Erasures
	err := p.insist(ctx, "preparing the tables", func(ctx context.Context) (err error) {
		erasures, err = p.cfg.Store.Prepare(ctx)
		return err
	})
	if err != nil {
		return err
	}
	var stored []Progress
	err = p.insist(ctx, "reading the positions", func(ctx context.Context) (err error) {
		stored, err = p.cfg.Store.Positions(ctx)
		return err
	})
	if err != nil {
		return err
	}
	b := &batches{p: p, erasures: erasures, folders: map[int32]*folder{}, full: make(chan struct{}, 1), rows: new(fold.Rows), spare: new(fold.Rows)}
	b.room = sync.NewCond(&b.mu)
	var positions []follow.Position
	for _, s := range stored {
		positions = append(positions, s.Resume.Position)
		if _, err := b.folder(s.Partition, s.Resume); err != nil {
			return err
		}
	}
	slices.SortFunc(positions, func(x, y follow.Position) int { return int(x.Partition - y.Partition) })
	p.status.begin(stored)

	var wg sync.WaitGroup
	wg.Go(func() {
		stop(b.writer(ctx))
		b.close()
	})
	wg.Go(func() { p.sample(ctx) })
	err = p.cfg.Source.Follow(ctx, positions, func(g follow.Group) error { return b.take(ctx, &g) })
	var lost *follow.PositionError
	if errors.As(err, &lost) && lost.Partition >= 0 {
		// Retention was faster than we were. What is left is read; what is lost is told, and stays visible.
		p.cfg.Metrics.lost.Inc()
		p.cfg.Logger.Error("changes were removed from the log before they were projected", "error", err)
		if forget := b.forget(ctx, lost.Partition); forget != nil {
			err = errors.Join(err, forget)
		}
	}
	stop(err)
	b.close()
	wg.Wait()
	if cause := context.Cause(ctx); cause != nil && !errors.Is(cause, context.Canceled) {
		return cause
	}
	return err
}

// batches collect rows while the ones before are being written.
type batches struct {
	p        *Projector
	erasures Erasures

	mu      sync.Mutex
	room    *sync.Cond // the batch was taken away, or everything ends
	closed  bool
	folders map[int32]*folder
	rows    *fold.Rows // being filled
	spare   *fold.Rows // nil while it is being written
	full    chan struct{}
}

// folder is one partition.
type folder struct {
	*fold.Folder
	begun bool
	moved bool  // since the last batch
	at    int64 // time of the last record, ms
	raw   int64 // raw offset that comes next
	next  int64 // offset on the changes topic that comes next
}

func (b *batches) folder(partition int32, r fold.Resume) (*folder, error) {
	if f := b.folders[partition]; f != nil {
		return f, nil
	}
	inner, err := fold.New(fold.Config{
		Partition: partition, WindowBits: b.p.cfg.WindowBits, Keys: b.p.cfg.Keys, HashIDs: b.p.cfg.HashIDs, Erased: b.erasures.Until,
	}, r)
	if err != nil {
		return nil, err
	}
	f := &folder{Folder: inner}
	b.folders[partition] = f
	return f, nil
}

// take folds a group, once there is room for it.
func (b *batches) take(ctx context.Context, g *follow.Group) error {
	b.mu.Lock()
	f, err := b.folder(g.Partition, fold.Resume{Position: follow.AtStart(g.Partition)})
	b.mu.Unlock()
	if err != nil {
		return err
	}
	if !f.begun { // nobody else looks at a folder that has not begun
		if err := b.begin(ctx, f, g); err != nil {
			return err
		}
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	for b.rows.Len() >= b.p.cfg.BatchRows && !b.closed {
		b.room.Wait()
	}
	if b.closed {
		return follow.ErrStop
	}
	if err := f.Take(g, b.rows); err != nil {
		return fmt.Errorf("partition %d: %w", g.Partition, err)
	}
	last := &g.Records[len(g.Records)-1]
	f.moved, f.at, f.raw, f.next = true, last.Meta.TS, g.State().RawNext, g.Next.Offset
	b.p.status.took(g.Partition, g.Next.Offset)
	if b.rows.Len() >= b.p.cfg.BatchRows {
		select {
		case b.full <- struct{}{}:
		default:
		}
	}
	return nil
}

// begin is J4.
func (b *batches) begin(ctx context.Context, f *folder, g *follow.Group) error {
	csn := g.Records[0].Meta.CSN
	if f.Lost(csn) {
		var summed uint64
		err := b.p.insist(ctx, "asking what is summed up", func(ctx context.Context) (err error) {
			summed, err = b.p.cfg.Store.Summed(ctx, g.Partition, f.Window(csn), csn)
			return err
		})
		if err != nil {
			return err
		}
		f.Begin(max(summed+1, csn))
		b.p.cfg.Logger.Warn("the start of the log is gone", "partition", g.Partition, "csn", csn, "summed_csn", summed)
	}
	f.begun = true
	return nil
}

// forget lets the next session read a partition from the start of the log.
func (b *batches) forget(ctx context.Context, partition int32) error {
	b.mu.Lock()
	f := b.folders[partition]
	b.mu.Unlock()
	facts := uint64(0)
	if f != nil {
		facts = f.CSN()
	}
	return b.p.insist(ctx, "going on behind what is lost", func(ctx context.Context) error {
		return b.p.cfg.Store.SavePositions(ctx, []Progress{{
			Partition: partition, Resume: fold.Resume{Position: follow.AtStart(partition), Facts: facts}, CSN: facts,
		}})
	})
}

func (b *batches) close() {
	b.mu.Lock()
	b.closed = true
	b.room.Broadcast()
	b.mu.Unlock()
}

// writer writes batches until ctx ends.
func (b *batches) writer(ctx context.Context) error {
	tick := time.NewTicker(b.p.cfg.BatchWait)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		case <-b.full:
		}
		rows, positions, raws := b.swap()
		if len(positions) == 0 {
			continue
		}
		began := b.p.cfg.Now()
		if err := b.p.insert(ctx, rows); err != nil {
			return err
		}
		// J1.
		if err := b.p.insist(ctx, "storing the positions", func(ctx context.Context) error { return b.p.cfg.Store.SavePositions(ctx, positions) }); err != nil {
			return err
		}
		b.p.cfg.Metrics.wrote(rows, b.p.cfg.Now().Sub(began))
		b.p.status.wrote(positions, raws, b.p.cfg.Now())
		rows.Reset()
		b.mu.Lock()
		b.spare = rows
		b.mu.Unlock()
	}
}

// swap takes the batch and leaves an empty one.
func (b *batches) swap() (rows *fold.Rows, positions []Progress, raws map[int32]offsets) {
	b.mu.Lock()
	defer b.mu.Unlock()
	raws = map[int32]offsets{}
	for partition, f := range b.folders {
		if !f.moved {
			continue
		}
		f.moved = false
		f.Flush(b.rows)
		positions = append(positions, Progress{Partition: partition, Resume: f.Resume(), CSN: f.CSN(), AtMS: f.at})
		raws[partition] = offsets{raw: f.raw, next: f.next}
	}
	if len(positions) == 0 {
		return nil, nil, nil
	}
	rows, b.rows, b.spare = b.rows, b.spare, nil
	b.room.Broadcast()
	return rows, positions, raws
}

// insert writes rows, in parts if the store is short of memory.
func (p *Projector) insert(ctx context.Context, rows *fold.Rows) error {
	if rows.Len() == 0 {
		return nil
	}
	var pressed error
	err := p.insist(ctx, "writing rows", func(ctx context.Context) error {
		err := p.cfg.Store.Insert(ctx, rows)
		if err != nil && p.cfg.Store.Trouble(err) == Pressure && rows.Len() > 1000 {
			pressed = err
			return nil
		}
		return err
	})
	if err != nil || pressed == nil {
		return err
	}
	p.cfg.Metrics.retried(Pressure)
	p.cfg.Logger.Warn("the store is short of memory, rows are written in halves", "rows", rows.Len(), "error", pressed)
	for _, half := range rows.Halves() {
		if err := p.insert(ctx, half); err != nil {
			return err
		}
	}
	return nil
}
