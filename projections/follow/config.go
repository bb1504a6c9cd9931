package follow

import (
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/tidemark-dev/tidemark/schemas/topic"
)

// Config of a Follower. Seeds and Names.Changes are required; the zero value of every other field stands for its default.
type Config struct {
	// Seeds are host:port of brokers to start from.
	Seeds []string
	// Client are further options of the Kafka client: TLS, SASL, a logger, a dialer. Options that this package sets win.
	Client []kgo.Opt
	// Names are the topics; only Changes is used.
	Names topic.Names
	// Partitions to follow; nil for those that Positions names, and for all if it names none.
	Partitions []int32
	// Positions to go on from, at most one a partition. Partitions without one begin at Begin.
	Positions []Position
	// Begin is OffsetStart or OffsetEnd. Default OffsetStart.
	Begin int64
	// LookBack is how many records before an offset are read to find the partition's owner. Default 2,000.
	LookBack int
	// FetchBytes bounds one answer of a broker, compressed, and so what is fetched ahead. Default 16 MiB.
	FetchBytes int
	// GroupBytes bounds a group whose end has not been read. Default 64 MiB; a follower that meets a larger one stops.
	GroupBytes int
	// StartWait bounds how long Run tries to reach the broker for the first time; then it returns errcode.Unreachable, or
	// errcode.TopicDrift. Default 0: for ever.
	StartWait time.Duration
	// Logger takes changes of state; nil for none.
	Logger *slog.Logger
	// Metrics, if any, are shared by the followers of a process.
	Metrics *Metrics
}

func (c Config) withDefaults() (Config, error) {
	var errs []error
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	positive := func(name string, v *int, def int) {
		if *v == 0 {
			*v = def
		}
		if *v < 0 || *v > 1<<30 {
			bad("%s is %d, not 1 to %d", name, *v, 1<<30)
		}
	}
	if len(c.Seeds) == 0 {
		bad("no seed brokers")
	}
	if c.Names.Changes == "" {
		bad("no changes topic")
	}
	if c.Begin == 0 {
		c.Begin = OffsetStart
	}
	if c.Begin != OffsetStart && c.Begin != OffsetEnd {
		bad("Begin is %d, want OffsetStart or OffsetEnd", c.Begin)
	}
	positive("LookBack", &c.LookBack, 2000)
	positive("FetchBytes", &c.FetchBytes, 16<<20)
	positive("GroupBytes", &c.GroupBytes, 64<<20)
	if c.StartWait < 0 {
		bad("StartWait is %v", c.StartWait)
	}
	wanted := map[int32]bool{}
	for _, p := range c.Partitions {
		if wanted[p] || p < 0 {
			bad("partition %d is negative, or there twice", p)
		}
		wanted[p] = true
	}
	placed := map[int32]bool{}
	for i := range c.Positions {
		p := &c.Positions[i]
		if _, err := p.check(); err != nil {
			errs = append(errs, err)
		}
		if placed[p.Partition] || c.Partitions != nil && !wanted[p.Partition] {
			bad("position of partition %d is not asked for, or there twice", p.Partition)
		}
		placed[p.Partition] = true
		if c.Partitions == nil {
			wanted[p.Partition] = true
		}
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	c.Logger = c.Logger.With("component", "follow")
	if c.Metrics == nil {
		c.Metrics = NewMetrics(prometheus.NewRegistry())
	}
	if err := errors.Join(errs...); err != nil {
		return c, fmt.Errorf("checking the follower's config: %w", err)
	}
	return c, nil
}

// client options that the admin and the consumer share.
func (c *Config) client(more ...kgo.Opt) (*kgo.Client, error) {
	opts := append([]kgo.Opt{
		kgo.MetadataMinAge(250 * time.Millisecond),
		kgo.RetryBackoffFn(func(tries int) time.Duration { return min(50*time.Millisecond<<min(tries, 10), time.Second) }),
		kgo.DisableClientMetrics(),
	}, c.Client...)
	opts = append(opts, kgo.SeedBrokers(c.Seeds...))
	cl, err := kgo.NewClient(append(opts, more...)...)
	if err != nil {
		return nil, fmt.Errorf("configuring the Kafka client: %w", err)
	}
	return cl, nil
}
