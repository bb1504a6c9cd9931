package ingest

import (
	"sync"
	"sync/atomic"
)

// window bounds the events on their way to the broker, by number and by bytes. Both are in one word, so that an event takes its
// place in one step: two counters would have to be put back when the second one is full, and would look full meanwhile.
type window struct {
	used    atomic.Uint64 // bytes << recordBits | records
	records uint64
	bytes   uint64
	gate    gate
}

const (
	recordBits       = 24
	windowRecordsMax = 1<<recordBits - 2
	windowBytesMax   = 1<<(64-recordBits-1) - 1
)

func unpack(used uint64) (bytes, records uint64) {
	return used >> recordBits, used & (1<<recordBits - 1)
}

func (w *window) try(bytes int) bool {
	for {
		used := w.used.Load()
		b, r := unpack(used)
		if r >= w.records || b+uint64(bytes) > w.bytes {
			return false
		}
		if w.used.CompareAndSwap(used, used+uint64(bytes)<<recordBits+1) {
			return true
		}
	}
}

// release gives room back. It wakes those who wait for it only when a quarter is free, or nothing is on its way: a caller woken for
// each event would send batches of one.
func (w *window) release(bytes int) {
	used := w.used.Add(^(uint64(bytes)<<recordBits + 1) + 1)
	if b, r := unpack(used); 4*r <= 3*w.records && 4*b <= 3*w.bytes {
		w.gate.wake()
	}
}

// empty reports whether nothing is on its way.
func (w *window) empty() bool { return w.used.Load() == 0 }

// inFlight is what is on its way.
func (w *window) inFlight() (bytes, records uint64) { return unpack(w.used.Load()) }

// gate lets goroutines wait until a condition holds that others change with atomic operations. Waking costs one load while nobody
// waits.
type gate struct {
	waiting atomic.Int32
	mu      sync.Mutex
	opened  chan struct{} // closed and replaced by wake; nil until somebody waits
}

// wake must come after the change: a waiter counts itself before it looks at the condition, so that either it sees the change or it
// is seen here.
func (g *gate) wake() {
	if g.waiting.Load() == 0 {
		return
	}
	g.mu.Lock()
	if g.opened != nil {
		close(g.opened)
		g.opened = nil
	}
	g.mu.Unlock()
}

func (g *gate) next() <-chan struct{} {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.opened == nil {
		g.opened = make(chan struct{})
	}
	return g.opened
}
