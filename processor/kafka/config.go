package kafka

import (
	"errors"
	"fmt"
	"log/slog"
	"math"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/tidemark-dev/tidemark/processor/batch"
	"github.com/tidemark-dev/tidemark/schemas/topic"
)

// Config of a Log. Seeds, Names and Logger are required, the rest has defaults.
type Config struct {
	Seeds []string // host:port of some brokers
	// Client adds options to every client: TLS, SASL, Dialer. Options of producers and consumers have no place here.
	Client     []kgo.Opt
	Names      topic.Names
	Logger     *slog.Logger
	Registerer prometheus.Registerer // nil: metrics are kept but not shown

	FetchMaxWait  time.Duration // how long a broker may hold a fetch that finds nothing; default 100 ms
	FetchMaxBytes int32         // of one fetch; default 4 MiB
	// RequestTimeout bounds one request, dialing included; a fetch has FetchMaxWait in addition. It is also how long a topic may be
	// unknown to the cluster before it counts as deleted. Default 10 s.
	RequestTimeout time.Duration
	// MaxBatchBytes is the largest batch that is written, and that a Reader asks for when a fetch cuts it. Default: the limit of the
	// changes topic.
	MaxBatchBytes int
	Compression   batch.Codec // of what is written
}

func (c *Config) setDefaults() {
	if c.FetchMaxWait == 0 {
		c.FetchMaxWait = 100 * time.Millisecond
	}
	if c.FetchMaxBytes == 0 {
		c.FetchMaxBytes = 4 << 20
	}
	if c.RequestTimeout == 0 {
		c.RequestTimeout = 10 * time.Second
	}
	if c.MaxBatchBytes == 0 {
		c.MaxBatchBytes = topic.ChangesBytesMax(topic.RecordBytesMax)
	}
}

func (c *Config) validate() error {
	var errs []error
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	if len(c.Seeds) == 0 {
		bad("no seed brokers")
	}
	if c.Logger == nil {
		bad("no logger")
	}
	seen := map[string]bool{"": true}
	for _, name := range []string{c.Names.Raw, c.Names.Changes, c.Names.State, c.Names.DLQ} {
		if seen[name] {
			bad("topic %q: names must be four different ones", name)
		}
		seen[name] = true
	}
	if c.FetchMaxWait < 0 || c.FetchMaxWait > time.Minute {
		bad("fetch wait %v: want at most a minute", c.FetchMaxWait)
	}
	// The limits of franz-go, and what fits into one request.
	if c.RequestTimeout < 100*time.Millisecond || c.RequestTimeout > 15*time.Minute {
		bad("request timeout %v: want 100ms to 15m", c.RequestTimeout)
	}
	if c.FetchMaxBytes < 1 || c.FetchMaxBytes > 256<<20 {
		bad("fetch of %d bytes: want 1 to 256 MiB", c.FetchMaxBytes)
	}
	if c.MaxBatchBytes < batch.HeaderSize || c.MaxBatchBytes > 256<<20 {
		bad("batch of %d bytes: want %d to 256 MiB", c.MaxBatchBytes, batch.HeaderSize)
	}
	if c.Compression == batch.Gzip || c.Compression > batch.Zstd {
		bad("compression %v: want none, snappy, lz4 or zstd", c.Compression)
	}
	return errors.Join(errs...)
}

// clientOpts returns the options of every client. What correctness rests on comes last, where Config.Client cannot undo it.
func (c *Config) clientOpts() []kgo.Opt {
	opts := []kgo.Opt{
		kgo.SeedBrokers(c.Seeds...),
		kgo.ClientID("tidemark"),
		kgo.WithLogger(&clientLogger{c.Logger}),
		kgo.DisableClientMetrics(),
		// A moved leader is looked up at once; the default lets stale metadata stand for five seconds.
		kgo.MetadataMinAge(100 * time.Millisecond),
		kgo.RetryBackoffFn(func(int) time.Duration { return 50 * time.Millisecond }),
		kgo.RequestTimeoutOverhead(c.RequestTimeout),
		// A host that is gone answers no dial; the partition's next leader is found the sooner. A Dialer of Client has its own.
		kgo.DialTimeout(min(3*time.Second, c.RequestTimeout)),
		// Room for a full fetch whose first batch is larger than it, and for what is around it.
		kgo.BrokerMaxReadBytes(max(100<<20, int32(min(int64(c.FetchMaxBytes)+int64(c.MaxBatchBytes)+1<<20, math.MaxInt32)))),
	}
	opts = append(opts, c.Client...)
	return append(opts,
		// The client writes its own acks into produce requests, whatever they say.
		kgo.RequiredAcks(kgo.AllISRAcks()),
	)
}

// role is the label of a topic in metrics.
func (c *Config) role(name string) string {
	switch name {
	case c.Names.Raw:
		return "raw"
	case c.Names.Changes:
		return "changes"
	case c.Names.State:
		return "state"
	case c.Names.DLQ:
		return "dlq"
	}
	return "other"
}
