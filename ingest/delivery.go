package ingest

import (
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/tidemark-dev/tidemark/schemas/event"
)

// kind is a raw event's type, as an index.
type kind byte

const (
	kindSave kind = iota
	kindUpdate
	kindDelete
	kindRunStarted
	kindRunCompleted
	kindRunFailed
	kindClear
	kindPrune
	kindCheckpoint
	kindDecision
	kinds
)

var kindTypes = [kinds]event.RawType{
	event.RawSave, event.RawUpdate, event.RawDelete, event.RawRunStarted, event.RawRunCompleted, event.RawRunFailed,
	event.RawClear, event.RawPrune, event.RawCheckpoint, event.RawDecision,
}

var kindNames = [kinds]string{
	"save", "update", "delete", "run_started", "run_completed", "run_failed", "clear", "prune", "checkpoint", "decision",
}

// typeValues are the values of header t. They are shared by all records: the client only reads them.
var typeValues = func() (v [kinds][]byte) {
	for k, t := range kindTypes {
		v[k] = []byte{byte(t)}
	}
	return v
}()

func (k kind) aboutRecord() bool { return k <= kindDelete }

// delivery is one event on its way: the Kafka record and all that it points to, in memory that is used again once the client is done
// with it. The client gives each record back exactly once, by its promise.
type delivery struct {
	record  kgo.Record
	headers [7]kgo.RecordHeader
	buf     []byte // value, id, ordinal, pointers to remove

	kind    kind
	room    int       // taken in the window
	bytes   int       // of value and id
	began   time.Time // zero: its duration is not measured
	run     *Run      // nil outside runs
	receipt *receipt  // nil if nobody waits
	promise func(*kgo.Record, error)
}

// keepBytesMax bounds the buffer of a delivery that waits to be used again, so that a few large events do not stay in memory.
const keepBytesMax = 16 << 10

// receipt lets a caller wait for the answers to one or more events.
type receipt struct {
	left atomic.Int64
	err  atomic.Pointer[error] // the first
	gate gate
}

func newReceipt(events int) *receipt {
	r := new(receipt)
	r.left.Store(int64(events))
	return r
}

// answer settles n events.
func (r *receipt) answer(n int, err error) {
	if err != nil {
		first := err // the parameter itself would be put on the heap in every call
		r.err.CompareAndSwap(nil, &first)
	}
	r.left.Add(-int64(n))
	r.gate.wake()
}

func (r *receipt) settled() bool { return r.left.Load() == 0 }

// result is the first error; it is final once the receipt is settled.
func (r *receipt) result() error {
	if err := r.err.Load(); err != nil {
		return *err
	}
	return nil
}
