package warehouse

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"sync/atomic"

	"github.com/ClickHouse/clickhouse-go/v2"

	"github.com/tidemark-dev/tidemark/projections/fold"
)

// Batch is rows on their way. It holds copies of all values until the server has them, so the rows it was made of may be reused at once.
// One goroutine at a time.
type Batch struct {
	w          *Warehouse
	generation int
	facts      *factTable
	partials   [3]*partialTable
	events     *eventTable
	states     *stateTable
	tables     []*layout
	done       []int // rows of each table that the server has
	buffers    [][]byte
}

type batchPool struct{ sync.Pool }

func (p *batchPool) get() *Batch {
	if b, ok := p.Get().(*Batch); ok {
		return b
	}
	b := &Batch{facts: newFactTable(), events: newEventTable(), states: newStateTable()}
	b.tables = []*layout{&b.facts.layout, &b.events.layout, &b.states.layout}
	for i, table := range [...]string{"changes_1m", "changes_1h", "changes_1d"} {
		b.partials[i] = newPartialTable(table)
		b.tables = append(b.tables, &b.partials[i].layout)
	}
	b.done = make([]int, len(b.tables))
	b.buffers = make([][]byte, len(b.tables))
	return b
}

// Prepare copies rows into a batch for the tables of a generation. Release it.
func (w *Warehouse) Prepare(generation int, rows *fold.Rows) *Batch {
	b := w.pool.get()
	b.w, b.generation = w, generation
	b.facts.fill(rows.Facts)
	b.events.fill(rows.Events)
	b.states.fill(rows.States)
	for i := range b.partials {
		b.partials[i].fill(rows.Partials[i])
	}
	return b
}

// Release gives the batch's memory back, whether it was sent or not. It must not be used after that.
func (b *Batch) Release() {
	for i, t := range b.tables {
		t.reset()
		b.done[i] = 0
	}
	for _, s := range []*streamColumns{b.facts.stream, b.events.stream, b.states.stream, b.partials[0].stream, b.partials[1].stream, b.partials[2].stream} {
		s.reset()
	}
	w := b.w
	b.w = nil
	w.pool.Put(b)
}

// Send inserts what the server does not have yet, all tables at the same time. After an error it may be called again, and goes on with
// what has not been acknowledged; see [Classify]. Rows may have been stored although an error came back: sending them again does no harm,
// in this batch or another, for they are the same rows (P1).
func (b *Batch) Send(ctx context.Context) error {
	errs := make([]error, len(b.tables))
	var wait sync.WaitGroup
	for i, t := range b.tables {
		if b.done[i] == t.rows() {
			continue
		}
		wait.Go(func() { errs[i] = b.sendTable(ctx, i) })
	}
	wait.Wait()
	return errors.Join(errs...)
}

// Insert stores rows in the tables of a generation. It is [Warehouse.Prepare] and [Batch.Send]; an error says nothing of which rows are
// stored, and the answer to it is to insert all of them again.
func (w *Warehouse) Insert(ctx context.Context, generation int, rows *fold.Rows) error {
	if rows.Len() == 0 {
		return nil
	}
	b := w.Prepare(generation, rows)
	defer b.Release()
	return b.Send(ctx)
}

func (b *Batch) sendTable(ctx context.Context, i int) error {
	t := b.tables[i]
	for b.done[i] < t.rows() {
		size := b.w.block.get()
		from := b.done[i]
		to := min(t.rows(), from+size)
		err := b.w.insert(ctx, b.generation, t, from, to, &b.buffers[i])
		if err != nil {
			if Classify(err) == Pressure && b.w.block.shrink(size, to-from) {
				continue
			}
			return fmt.Errorf("inserting rows %d to %d of %d into %s: %w", from, to, t.rows(), t.table, err)
		}
		b.done[i] = to
		b.w.block.grow()
	}
	return nil
}

// blockSize is how many rows go into one INSERT. A server short of memory gets fewer, and more again when that went well for a while.
type blockSize struct {
	max  int64
	now  atomic.Int64 // 0: max
	good atomic.Int64 // blocks since the last change
}

// Limits of blockSize.
const (
	blockRowsMin   = 4096
	blocksToDouble = 64
)

func (s *blockSize) get() int {
	if n := s.now.Load(); n != 0 {
		return int(n)
	}
	return int(s.max)
}

// shrink halves the size because a block of so many rows was too large. It reports whether that makes a difference.
func (s *blockSize) shrink(size, rows int) bool {
	half := min(size, rows) / 2
	if half < blockRowsMin {
		return false
	}
	s.now.Store(int64(half))
	s.good.Store(0)
	return true
}

func (s *blockSize) grow() {
	now := s.now.Load()
	if now == 0 || s.good.Add(1) < blocksToDouble {
		return
	}
	s.good.Store(0)
	if now *= 2; now >= s.max {
		now = 0
	}
	s.now.Store(now)
}

// insertSettings hold on every server, whatever its defaults. async_insert would buffer what is a block already. Deduplication is off,
// here and in the tables: the server may remember an insert that it has lost in a crash, and would then drop the repetition (P2). Rows that
// are there twice collapse in reading and merging, so they need not be collapsed before they are written, too.
var insertSettings = clickhouse.Settings{
	"async_insert":                    0,
	"insert_deduplicate":              0,
	"optimize_on_insert":              0,
	"max_partitions_per_insert_block": 0, // a batch of old data touches many days
}

func (w *Warehouse) insertContext(ctx context.Context, table string, opts ...clickhouse.QueryOption) (context.Context, context.CancelFunc) {
	settings := make(clickhouse.Settings, len(insertSettings)+1)
	for k, v := range insertSettings {
		settings[k] = v
	}
	if w.cfg.Topology == Cluster || w.cfg.Topology == ReplicatedDB {
		settings["insert_quorum"] = "auto" // acknowledged is what survives the loss of a replica
	}
	return w.context(ctx, table, settings, opts...)
}

// insert sends rows from..to of a table. *buf is reused.
func (w *Warehouse) insert(ctx context.Context, generation int, t *layout, from, to int, buf *[]byte) error {
	into := fmt.Sprintf("INSERT INTO %s (%s)", w.table(t.table, generation), t.names)
	if w.encoded {
		return w.insertEncoded(ctx, into, t, from, to, buf)
	}
	return w.insertBatch(ctx, into, t, from, to)
}

// insertEncoded sends a block that we have encoded. Only HTTP can do that.
func (w *Warehouse) insertEncoded(ctx context.Context, into string, t *layout, from, to int, buf *[]byte) error {
	ctx, cancel := w.insertContext(ctx, t.table)
	defer cancel()
	if need := blockSizeOf(t.columns, from, to); cap(*buf) < need {
		*buf = make([]byte, 0, need)
	}
	*buf = appendBlock((*buf)[:0], t.columns, from, to)
	block := &body{r: bytes.NewReader(*buf)}
	defer block.take()
	return w.conn.InsertFormat(ctx, "Native", into, block)
}

// body is the block of a request. The HTTP client may read on after it has returned, so the block is taken from it before its memory is
// used again.
type body struct {
	mu sync.Mutex
	r  *bytes.Reader // nil: taken
}

func (b *body) Read(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.r == nil {
		return 0, io.ErrClosedPipe
	}
	return b.r.Read(p)
}

func (b *body) take() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.r = nil
}

// insertBatch sends a block by the driver's batches, which all protocols have.
func (w *Warehouse) insertBatch(ctx context.Context, into string, t *layout, from, to int) error {
	types := make([]clickhouse.ColumnNameAndType, 0, len(t.columns))
	for _, c := range t.columns {
		h := c.header()
		types = append(types, clickhouse.ColumnNameAndType{Name: h.name, Type: h.kind})
	}
	ctx, cancel := w.insertContext(ctx, t.table, clickhouse.WithColumnNamesAndTypes(types))
	defer cancel()
	if !w.http { // nothing but a deadline that shows bounds the writes of the native protocol
		ctx, cancel = context.WithTimeout(ctx, w.cfg.Timeout+grace)
		defer cancel()
	}
	batch, err := w.conn.PrepareBatch(ctx, into)
	if err != nil {
		return err
	}
	defer batch.Close()
	for i, c := range t.columns {
		if err := batch.Column(i).Append(c.values(from, to)); err != nil {
			return fmt.Errorf("column %s: %w", c.header().name, err)
		}
	}
	return batch.Send()
}
