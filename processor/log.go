package processor

import (
	"context"

	"github.com/tidemark-dev/tidemark/processor/batch"
	"github.com/tidemark-dev/tidemark/processor/kafka"
)

// Log is everything that the processor asks of Kafka. How a group becomes visible at once - a single batch of an idempotent producer,
// or a transaction - is the Writer's affair; nothing above it differs.
type Log interface {
	// Partitions is the partition count that all our topics have.
	Partitions(ctx context.Context) (int32, error)
	// TopicID tells a topic from one of the same name that was made later; zero if the cluster cannot.
	TopicID(ctx context.Context, topic string) ([16]byte, error)
	// Bounds returns the first offset of a partition and the one after its last readable record.
	Bounds(ctx context.Context, topic string, partition int32) (start, end int64, err error)
	// Trim removes the records below an offset.
	Trim(ctx context.Context, topic string, partition int32, before int64) error
	Reader(topic string, partition int32, from int64) Reader
	// Writer fences every earlier writer as far as the log can.
	Writer(ctx context.Context, partition int32) (Writer, error)
}

// Reader reads one partition. Not safe for concurrent use.
type Reader interface {
	// Next waits for batches, for a bounded time; it may return none. Raw bytes are valid until the next call. The first batch may
	// begin below the position: its records there are to be skipped.
	Next(ctx context.Context) ([]batch.Batch, error)
	// Position is the next offset to be read.
	Position() int64
	// EndOffset is the end of what could be read at the last call.
	EndOffset() int64
	Close()
}

// Writer appends to the topics of one partition. Any error is final: the outcome is unknown, and the log alone tells it.
type Writer interface {
	// Append writes one batch and returns its first offset. sent, if not nil, is given the exact bytes before they go out; they
	// stay valid.
	Append(ctx context.Context, topic string, b *batch.Builder, sent func(produced []byte)) (offset int64, err error)
	Close()
}

// KafkaLog is the real Log.
type KafkaLog struct{ *kafka.Log }

// Reader implements Log.
func (l KafkaLog) Reader(topic string, partition int32, from int64) Reader {
	return l.Log.Reader(topic, partition, from)
}

// Writer implements Log.
func (l KafkaLog) Writer(ctx context.Context, partition int32) (Writer, error) {
	w, err := l.Log.Writer(ctx, partition)
	if err != nil {
		return nil, err
	}
	return w, nil
}
