package kafka

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/tidemark-dev/tidemark/schemas/errcode"
)

const (
	// dialWait bounds finding a broker that answers.
	dialWait = 10 * time.Second
	// requestWait bounds one administrative request, its retries included.
	requestWait = 30 * time.Second
	// metadataAge is for how long the client may take what it knows of leaders for true.
	metadataAge = 10 * time.Millisecond
)

// Admin asks a cluster about itself and its topics. Safe for concurrent use.
type Admin struct {
	seeds   []string
	cl      *kgo.Client
	adm     *kadm.Client
	cluster string
}

// Dial connects to the cluster and learns its id. If no broker answers within ten seconds the error is errcode.Unreachable.
func Dial(ctx context.Context, cfg Config, logger *slog.Logger) (*Admin, error) {
	opts, err := cfg.Connection()
	if err != nil {
		return nil, err
	}
	opts = append(opts, kgo.SeedBrokers(cfg.Seeds...), kgo.ClientID("tidemark-admin"), kgo.WithLogger(clientLogger{logger}),
		kgo.DisableClientMetrics(), kgo.MetadataMinAge(metadataAge), kgo.RetryTimeout(requestWait))
	cl, err := kgo.NewClient(opts...)
	if err != nil {
		return nil, fmt.Errorf("making a kafka client: %w", err)
	}
	a := &Admin{seeds: cfg.Seeds, cl: cl, adm: kadm.NewClient(cl)}
	wait, cancel := context.WithTimeout(ctx, dialWait)
	defer cancel()
	if err := cl.Ping(wait); err != nil {
		cl.Close()
		return nil, unreachable(ctx, cfg.Seeds, err)
	}
	meta, err := a.adm.BrokerMetadata(wait)
	if err != nil {
		cl.Close()
		return nil, unreachable(ctx, cfg.Seeds, err)
	}
	a.cluster = meta.Cluster
	return a, nil
}

func unreachable(ctx context.Context, seeds []string, err error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	e := errcode.New(errcode.Unreachable, "Asked %s.", strings.Join(seeds, ", "))
	e.Err = err
	return e
}

// Close closes the connections.
func (a *Admin) Close() { a.cl.Close() }

// Cluster is the id that the cluster gives itself; it stays over restarts.
func (a *Admin) Cluster() string { return a.cluster }

// Embedded reports whether the cluster is the embedded broker of this product.
func (a *Admin) Embedded() bool { return EmbeddedCluster(a.cluster) }

// Ping returns how long some broker took to answer.
func (a *Admin) Ping(ctx context.Context) (time.Duration, error) {
	wait, cancel := context.WithTimeout(ctx, dialWait)
	defer cancel()
	began := time.Now()
	if err := a.cl.Ping(wait); err != nil {
		return 0, unreachable(ctx, a.seeds, err)
	}
	return time.Since(began), nil
}

// embeddedPrefix marks the cluster ids of embedded brokers.
const embeddedPrefix = "tidemark-embedded-"

// EmbeddedClusterID is the cluster id of the embedded broker of an installation.
func EmbeddedClusterID(installation string) string { return embeddedPrefix + installation }

// EmbeddedCluster reports whether a cluster id is that of an embedded broker. It keeps everything until it is told to trim, so that
// fewer settings of the manifest apply to it.
func EmbeddedCluster(id string) bool { return strings.HasPrefix(id, embeddedPrefix) }

// Lineage names the log that cursors point into: every node of one installation derives the same, and so does a Kafka client that
// wants to make or check cursors.
func Lineage(cluster, prefix string) string { return cluster + "/" + prefix }

// clientLogger hands the client's log on, two levels lower: what goes wrong comes back as an error.
type clientLogger struct{ log *slog.Logger }

func (c clientLogger) Level() kgo.LogLevel {
	if c.log.Enabled(context.Background(), slog.LevelDebug) {
		return kgo.LogLevelWarn
	}
	return kgo.LogLevelNone
}

func (c clientLogger) Log(_ kgo.LogLevel, msg string, keyvals ...any) {
	c.log.Debug("kafka admin: "+msg, keyvals...)
}

// Bounds returns the first offset of a partition and the one behind its last readable record.
func (a *Admin) Bounds(ctx context.Context, topic string, partition int32) (start, end int64, err error) {
	ctx, cancel := context.WithTimeout(ctx, requestWait)
	defer cancel()
	starts, err := a.adm.ListStartOffsets(ctx, topic)
	if err != nil {
		return 0, 0, fmt.Errorf("listing start offsets: %w", err)
	}
	ends, err := a.adm.ListCommittedOffsets(ctx, topic)
	if err != nil {
		return 0, 0, fmt.Errorf("listing end offsets: %w", err)
	}
	s, ok := starts.Lookup(topic, partition)
	e, ok2 := ends.Lookup(topic, partition)
	switch {
	case !ok || !ok2:
		return 0, 0, fmt.Errorf("listing the offsets of %s/%d: no answer", topic, partition)
	case s.Err != nil:
		return 0, 0, fmt.Errorf("listing the offsets of %s/%d: %w", topic, partition, s.Err)
	case e.Err != nil:
		return 0, 0, fmt.Errorf("listing the offsets of %s/%d: %w", topic, partition, e.Err)
	}
	return s.Offset, e.Offset, nil
}
