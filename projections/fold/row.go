package fold

import (
	"time"

	"github.com/tidemark-dev/tidemark/schemas/event"
	"github.com/tidemark-dev/tidemark/schemas/stream"
)

// Action is what happened to a record, as the facts name it. The values are stored.
type Action uint8

// Actions.
const (
	Added    Action = 1
	Updated  Action = 2
	Deleted  Action = 3
	Restored Action = 4 // the payload of a pruned record came back; the record did not change
)

// Fact is one valid ADDED, UPDATED, DELETED or RESTORED. Its identity is (Partition, CSN); everything else is a function of the record.
type Fact struct {
	Stream    *stream.ID
	RecordID  string
	Action    Action
	ChangedAt int64 // ms since the epoch
	Revision  uint64
	Run       uint64 // 0: outside any run
	// ChangedFields are the names of the top-level members that differ, at most [FieldsMax] of at most [FieldBytesMax] bytes. ChangedCount
	// is how many there are.
	ChangedFields []string
	ChangedCount  uint16
	Flags         Flags
	PayloadBytes  uint32
	Fingerprint   uint64 // of the content, keyed: equal content has equal fingerprints, and nothing else can be learnt from it
	LagMS         uint32 // from the raw topic to the decision; see FlagReceived
	Partition     uint16
	CSN           uint64
	Term          uint64
	Offset        uint64 // on the changes topic
}

// Flags of a fact. The values are stored.
type Flags uint16

// Flags.
const (
	FlagFieldsKnown     Flags = 1 << iota // ChangedFields says what there is to say
	FlagFieldsTruncated                   // ChangedFields leaves names out, or cuts them
	FlagReceived                          // a raw event is behind the change: LagMS says something
)

// Bounds of what is kept of the names of changed members.
const (
	FieldsMax     = 64
	FieldBytesMax = 128
)

// Event is one valid control record: runs, checkpoints, clears, prunes, purges, dead letters and gaps. Its identity is (Partition, CSN).
// A takeover takes no csn and is no event: Term says who wrote.
type Event struct {
	Stream    *stream.ID // all empty: about the partition
	Op        event.Op
	At        int64 // ms since the epoch
	Run       uint64
	Sync      string
	Tracks    bool  // RUN_STARTED
	StartedAt int64 // ms; 0: not known
	Counts    event.RunCounts
	Outcome   string
	ToDelete  uint64
	Reason    string
	Detail    string // at most DetailMax bytes
	Decision  string
	By        string
	Events    uint64
	Mode      string
	Records   uint64
	RecordID  string
	Term      uint64
	Partition uint16
	CSN       uint64
	Offset    uint64
}

// DetailMax bounds Event.Detail.
const DetailMax = 2048

// Partial is the sum of what happened to one stream, in one bucket of time and one window of csns, from the start of the window up to
// what has been read. N counts the records behind it and is its version: of two partials of the same key the one with the larger N has
// seen all that the other has.
type Partial struct {
	Stream       *stream.ID
	Bucket       int64 // start, s since the epoch
	Partition    uint16
	Window       uint64 // first csn
	N            uint32
	ToCSN        uint64
	Added        uint32
	Updated      uint32
	Deleted      uint32
	Restored     uint32
	Unchanged    uint64 // of runs that ended in the bucket
	Runs         uint32 // that ended in the bucket
	RunsFailed   uint32
	BytesWritten uint64
	BytesMax     uint32
	LagSumMS     uint64
	LagMaxMS     uint32
	LagHist      [len(LagBounds) + 1]uint32 // by LagBounds, then everything above
	LastChangeAt int64                      // ms since the epoch; 0: no change
}

// LagBounds are the upper bounds of the lag histogram, in ms.
var LagBounds = [...]uint32{10, 25, 50, 100, 250, 500, 1000, 2500, 5000, 10_000, 30_000, 60_000, 300_000, 900_000, 3_600_000}

// Level is a width of buckets.
type Level uint8

// Levels.
const (
	Minute Level = iota
	Hour
	Day
	levels
)

// Width is the length of a bucket.
func (l Level) Width() time.Duration {
	return [...]time.Duration{time.Minute, time.Hour, 24 * time.Hour}[l]
}

// State is where a stream stands after its last record that says so. CSN is its version.
type State struct {
	Stream    *stream.ID
	Partition uint16
	CSN       uint64
	At        int64 // ms since the epoch
	Live      uint64
	Digest    [16]byte
}

// Rows are what is to be written, and in full before the position behind them is stored. It is reused: Reset keeps the memory.
type Rows struct {
	Facts    []Fact
	Events   []Event
	Partials [levels][]Partial
	States   []State

	names []string // memory of ChangedFields
}

// Len is the number of rows.
func (r *Rows) Len() int {
	n := len(r.Facts) + len(r.Events) + len(r.States)
	for _, p := range r.Partials {
		n += len(p)
	}
	return n
}

// Reset empties the rows.
func (r *Rows) Reset() {
	clear(r.Facts) // they hold on to ids
	clear(r.names)
	r.names = r.names[:0]
	r.Facts, r.Events, r.States = r.Facts[:0], r.Events[:0], r.States[:0]
	for i := range r.Partials {
		r.Partials[i] = r.Partials[i][:0]
	}
}

// Halves splits the rows in two. They share memory with r.
func (r *Rows) Halves() [2]*Rows {
	a, b := new(Rows), new(Rows)
	n := len(r.Facts) / 2
	a.Facts, b.Facts = r.Facts[:n], r.Facts[n:]
	n = len(r.Events) / 2
	a.Events, b.Events = r.Events[:n], r.Events[n:]
	n = len(r.States) / 2
	a.States, b.States = r.States[:n], r.States[n:]
	for l, p := range r.Partials {
		n = len(p) / 2
		a.Partials[l], b.Partials[l] = p[:n], p[n:]
	}
	return [2]*Rows{a, b}
}
