package bench

import (
	"context"
	"sync"
	"testing"
	"time"

	"github.com/tidemark-dev/tidemark/processor"
	"github.com/tidemark-dev/tidemark/processor/batch"
)

// gate keeps a running processor away from the raw topic while that is being filled, so that one can be measured without the other.
type gate struct {
	mu      sync.Mutex
	opened  chan struct{} // closed while open
	waiting int
}

func newGate() *gate { return &gate{opened: make(chan struct{})} }

func (g *gate) open() {
	g.mu.Lock()
	defer g.mu.Unlock()
	close(g.opened)
}

// close shuts the gate and waits until that many readers stand before it, so that none has a fetch under way.
func (g *gate) close(tb testing.TB, readers int) {
	tb.Helper()
	g.mu.Lock()
	g.opened = make(chan struct{})
	g.mu.Unlock()
	g.await(tb, readers)
}

func (g *gate) await(tb testing.TB, readers int) {
	tb.Helper()
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(time.Millisecond) {
		g.mu.Lock()
		n := g.waiting
		g.mu.Unlock()
		if n == readers {
			return
		}
		if time.Now().After(deadline) {
			tb.Fatalf("%d of %d readers stand before the gate", n, readers)
		}
	}
}

func (g *gate) pass(ctx context.Context) error {
	g.mu.Lock()
	opened := g.opened
	g.waiting++
	g.mu.Unlock()
	defer func() {
		g.mu.Lock()
		g.waiting--
		g.mu.Unlock()
	}()
	select {
	case <-opened:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// gatedLog is a Log whose readers of raw pass the gate before each fetch.
type gatedLog struct {
	processor.Log
	gate *gate
}

func (l gatedLog) Reader(topic string, partition int32, from int64) processor.Reader {
	r := l.Log.Reader(topic, partition, from)
	if topic != names().Raw {
		return r
	}
	return gatedReader{r, l.gate}
}

type gatedReader struct {
	processor.Reader
	gate *gate
}

func (r gatedReader) Next(ctx context.Context) ([]batch.Batch, error) {
	if err := r.gate.pass(ctx); err != nil {
		return nil, err
	}
	return r.Reader.Next(ctx)
}
