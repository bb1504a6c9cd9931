package ingest

import (
	"errors"
	"fmt"
	"log/slog"
	"math"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/tidemark-dev/tidemark/schemas/topic"
)

// Compression of batches on the raw topic.
const (
	CompressionZstd   = "zstd" // at its fastest level
	CompressionLZ4    = "lz4"
	CompressionSnappy = "snappy"
	CompressionNone   = "none"
)

// Config of a Producer. Seeds and Names.Raw are required; the zero value of every other field stands for its default.
type Config struct {
	// Seeds are host:port of brokers to start from.
	Seeds []string
	// Client are further options of the Kafka client: TLS, SASL, a logger, a dialer. Options that this package sets win.
	Client []kgo.Opt
	// Names are the topics; only Raw is used.
	Names topic.Names
	// RecordBytesMax bounds one payload. It is the processor's limit, too: what exceeds it there is dead-lettered. Default 1 MiB.
	RecordBytesMax int
	// Compression is one of the Compression constants, default CompressionZstd.
	Compression string
	// BufferRecords and BufferBytes bound what is on its way to the broker; a write that finds no room waits. Bytes count payload,
	// id and [eventOverhead] for each event; compressed batches of up to five requests to each broker come on top. Defaults 50,000
	// and 32 MiB.
	BufferRecords int
	BufferBytes   int
	// Linger is how long a batch waits for company before it is sent, and so what a single write takes at least. Default 5 ms;
	// negative for none, which leaves a single write what the broker takes.
	Linger time.Duration
	// DeliveryWait bounds every wait for the broker, counted from the last event that the broker acknowledged. Default 30 s.
	DeliveryWait time.Duration
	// CheckJSON has every payload checked from its first to its last byte. By default only the braces around it are looked
	// at, and the processor dead-letters what turns out not to be JSON. It costs about as much as the rest of a write.
	CheckJSON bool
	// Logger takes what nobody is returned; nil for none.
	Logger *slog.Logger
	// Registerer takes the metrics until Close; nil for none. One producer at a time can be registered with it.
	Registerer prometheus.Registerer
	// Now is the time that events and run sequences carry. Default time.Now.
	Now func() time.Time
}

// eventOverhead is what an event takes in memory beside its payload and id: the record, its headers, its place in a batch.
const eventOverhead = 640

// headerBytesMax bounds key and headers of an event, which share the extra room of the raw topic's batch limit with the framing.
const headerBytesMax = 48 << 10

func (c Config) withDefaults() (Config, error) {
	var errs []error
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	positive := func(name string, v *int, def int) {
		if *v == 0 {
			*v = def
		}
		if *v < 0 {
			bad("%s is %d", name, *v)
		}
	}
	if len(c.Seeds) == 0 {
		bad("no seed brokers")
	}
	if c.Names.Raw == "" {
		bad("no raw topic")
	}
	positive("RecordBytesMax", &c.RecordBytesMax, topic.RecordBytesMax)
	positive("BufferRecords", &c.BufferRecords, 50_000)
	positive("BufferBytes", &c.BufferBytes, 32<<20)
	if c.RecordBytesMax > recordBytesMaxMax {
		bad("RecordBytesMax is %d, more than %d", c.RecordBytesMax, recordBytesMaxMax)
	}
	if c.BufferRecords > bufferRecordsMax || c.BufferBytes > bufferBytesMax {
		bad("buffer of %d records and %d bytes is larger than %d and %d", c.BufferRecords, c.BufferBytes, bufferRecordsMax, bufferBytesMax)
	}
	if need := c.RecordBytesMax + headerBytesMax + eventOverhead; c.BufferBytes < need {
		bad("BufferBytes is %d, which does not hold the largest event of %d", c.BufferBytes, need)
	}
	if c.Compression == "" {
		c.Compression = CompressionZstd
	}
	if _, ok := codecs[c.Compression]; !ok {
		bad("Compression is %q, want zstd, lz4, snappy or none", c.Compression)
	}
	if c.Linger == 0 {
		c.Linger = 5 * time.Millisecond
	}
	c.Linger = max(c.Linger, 0)
	if c.DeliveryWait == 0 {
		c.DeliveryWait = 30 * time.Second
	}
	if c.DeliveryWait < 0 || c.Linger > time.Second {
		bad("DeliveryWait is %v, Linger is %v: want more than 0, and at most a second", c.DeliveryWait, c.Linger)
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	c.Logger = c.Logger.With("component", "ingest")
	if c.Now == nil {
		c.Now = time.Now
	}
	if err := errors.Join(errs...); err != nil {
		return c, fmt.Errorf("checking the producer's config: %w", err)
	}
	return c, nil
}

const (
	recordBytesMaxMax = 256 << 20 // the client's limit for a batch is 1 GiB
	bufferRecordsMax  = windowRecordsMax
	bufferBytesMax    = windowBytesMax
)

var codecs = map[string]kgo.CompressionCodec{
	CompressionZstd:   kgo.ZstdCompression().WithLevel(1),
	CompressionLZ4:    kgo.Lz4Compression(),
	CompressionSnappy: kgo.SnappyCompression(),
	CompressionNone:   kgo.NoCompression(),
}

// client makes the Kafka client.
func (c *Config) client(onDataLoss func(string, int32)) (*kgo.Client, error) {
	raw := topic.Manifest(c.Names, 1, c.RecordBytesMax)[0]
	batchBytesMax, err := strconv.ParseInt(raw.Configs["max.message.bytes"], 10, 32)
	if err != nil {
		return nil, fmt.Errorf("reading the batch limit of the raw topic: %w", err)
	}
	opts := append([]kgo.Opt{
		// A broker that comes back is found within the second, without being hammered meanwhile.
		kgo.RetryBackoffFn(func(tries int) time.Duration {
			return min(50*time.Millisecond<<min(tries, 10), time.Second)
		}),
		kgo.MetadataMinAge(250 * time.Millisecond), // what a batch that is to be retried waits for
		kgo.DisableClientMetrics(),
	}, c.Client...)
	cl, err := kgo.NewClient(append(opts,
		kgo.SeedBrokers(c.Seeds...),
		kgo.RequiredAcks(kgo.AllISRAcks()), // with the idempotent producer, which is the default
		kgo.RecordPartitioner(kgo.ManualPartitioner()),
		kgo.ProducerBatchCompression(codecs[c.Compression]),
		kgo.ProducerBatchMaxBytes(int32(batchBytesMax)),
		kgo.ProducerLinger(c.Linger),
		kgo.ProducerOnDataLossDetected(onDataLoss),
		kgo.RecordRetries(math.MaxInt64), // for ever; see the package documentation
		kgo.AlwaysRetryEOF(),             // a broker that dies while it is greeted is one that comes back, not a mistake in the settings
		kgo.RecordDeliveryTimeout(0),
		// The window bounds; the client's own limit would block under the run's lock.
		kgo.MaxBufferedRecords(windowRecordsMax+1),
		kgo.MaxBufferedBytes(0),
	)...)
	if err != nil {
		return nil, err
	}
	for name, set := range map[string]bool{
		"DisableIdempotentWrite":             cl.OptValue(kgo.DisableIdempotentWrite) == true,
		"AllowIdempotentProduceCancellation": cl.OptValue(kgo.AllowIdempotentProduceCancellation) == true,
		"TransactionalID":                    cl.OptValue(kgo.TransactionalID) != "",
		"ManualFlushing":                     cl.OptValue(kgo.ManualFlushing) == true,
	} {
		if set {
			cl.Close()
			return nil, fmt.Errorf("option %s breaks what a producer promises", name)
		}
	}
	return cl, nil
}
