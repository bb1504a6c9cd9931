package processor

import (
	"log/slog"
	"math/rand/v2"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/tidemark-dev/tidemark/processor/decide"
	"github.com/tidemark-dev/tidemark/processor/hot"
	"github.com/tidemark-dev/tidemark/processor/segment"
	"github.com/tidemark-dev/tidemark/schemas/rulev"
	"github.com/tidemark-dev/tidemark/schemas/stream"
	"github.com/tidemark-dev/tidemark/schemas/topic"
)

// Config of a Processor. Zero values get the defaults that their comments give.
type Config struct {
	Dir   string // of the local state; required
	FS    vfs.FS // default: the operating system's
	Names topic.Names
	Node  string // shown in TERM records; default "tidemark"

	// Memory, shared over all partitions of the process.
	HotBytes      int64 // 256 MiB; hot entries
	MemtableBytes int64 // 256 MiB; R before it is flushed
	CacheBytes    int64 // 64 MiB; blocks of R
	SegmentCache  int64 // 64 MiB; decoded payload blocks
	BufferBytes   int64 // 32 MiB; payloads before they are written
	SegmentBytes  int64 // 256 MiB; a segment file

	Flights       int           // 4; groups of a partition on their way to the log and back
	FetchedMax    int           // 4; decoded raw batches that wait for the decider
	BatchBytesMax int           // 64 MiB; of one batch, decompressed
	Linger        time.Duration // 0; how long a group waits for more events when raw is drained
	StandBy       time.Duration // 5 s; pause after another writer took the partition
	CatchUpWait   time.Duration // 2 s; hint before the first TERM
	ProgressEvery time.Duration // 5 s; how often the raw position is noted while nothing comes out
	FlushEvery    time.Duration // 10 min; payloads stay in memory no longer, so that retention can tell old from young
	KeepEvery     time.Duration // 1 min; how often the state topic is brought up to the prune floor, and old raw events are looked for
	Trim          bool          // remove what is past retention from the topics: for brokers that do not do it themselves
	RawRetention  time.Duration // 7 d; with Trim: how long processed raw events stay

	Decide   decide.Config // Partition, Partitions, Budget, Now and Logger are filled in
	Assigned func(partition int32) bool
	Now      func() time.Time
	Nonce    func() uint32 // default: random

	Logger     *slog.Logger
	Registerer prometheus.Registerer

	Breaks Breaks
}

// Breaks switch single rules off, for tests that prove that the checkers notice. The zero value is the product.
type Breaks struct {
	Rule          rulev.Breaks
	NoTermBarrier bool // start writing without having read the TERM back
	NoAppendCheck bool // go on after a failed append
	NoIdentity    bool // not a fault: always decode; for tests of the slow path
}

func (c *Config) defaults(partitions int32) {
	def := func(v *int64, d int64) {
		if *v == 0 {
			*v = d
		}
	}
	dur := func(v *time.Duration, d time.Duration) {
		if *v == 0 {
			*v = d
		}
	}
	def(&c.HotBytes, 256<<20)
	def(&c.MemtableBytes, 256<<20)
	def(&c.CacheBytes, 64<<20)
	def(&c.SegmentCache, 64<<20)
	def(&c.BufferBytes, 32<<20)
	dur(&c.StandBy, 5*time.Second)
	dur(&c.CatchUpWait, 2*time.Second)
	dur(&c.ProgressEvery, 5*time.Second)
	dur(&c.FlushEvery, 10*time.Minute)
	dur(&c.KeepEvery, time.Minute)
	dur(&c.RawRetention, 7*24*time.Hour)
	if c.FS == nil {
		c.FS = vfs.Default
	}
	if c.Node == "" {
		c.Node = "tidemark"
	}
	if c.Flights == 0 {
		c.Flights = 4
	}
	if c.FetchedMax == 0 {
		c.FetchedMax = 4
	}
	if c.BatchBytesMax == 0 {
		c.BatchBytesMax = 64 << 20
	}
	if c.Assigned == nil {
		c.Assigned = func(int32) bool { return true }
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Nonce == nil {
		c.Nonce = rand.Uint32
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	if c.Registerer == nil {
		c.Registerer = prometheus.NewRegistry()
	}
	c.Decide.Partitions = partitions
	c.Decide.Now = c.Now
}

// model returns the options of a stream's model.
func (c *Config) model(id stream.ID) decide.Model {
	if c.Decide.Model == nil {
		return decide.Model{}
	}
	return c.Decide.Model(id)
}

// shared is what the partitions of a process have in common.
type shared struct {
	budget   *hot.Budget
	rows     *pebble.Cache
	segments *segment.Cache
}
