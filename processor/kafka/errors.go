package kafka

import (
	"errors"
	"fmt"

	"github.com/twmb/franz-go/pkg/kerr"

	"github.com/tidemark-dev/tidemark/processor/batch"
)

var (
	// ErrTopicID means that a topic is not the one that this Log began with: it was deleted, or deleted and made again. Offsets of
	// before mean nothing in it.
	ErrTopicID = errors.New("topic was deleted or made again")
	// ErrWriterDead is what every error of Writer.Append wraps. Close the Writer and take over again.
	ErrWriterDead = errors.New("writer is dead")
	// ErrClosed is returned by what was closed.
	ErrClosed = errors.New("closed")

	errNoAnswer = errors.New("answer says nothing of what was asked")
	// errGone marks that a topic is unknown to a broker now and was not before. If that lasts, it is ErrTopicID.
	errGone = errors.New("it was there before")
)

// OutOfRangeError says that an offset is outside of what the log has: before its start, because records were trimmed, or behind its
// end, because records were lost.
type OutOfRangeError struct {
	Topic      string
	Partition  int32
	Offset     int64
	Start, End int64 // the log has [Start, End)
}

func (e *OutOfRangeError) Error() string {
	return fmt.Sprintf("offset %d of %s/%d is out of range: the log has [%d, %d)", e.Offset, e.Topic, e.Partition, e.Start, e.End)
}

// TooLargeError says that a batch is larger than a limit: of the topic when writing, of Config.MaxBatchBytes otherwise.
type TooLargeError struct {
	Topic     string
	Partition int32
	Size      int // bytes of the batch, compressed
	Limit     int // bytes; 0 if the broker would not tell
}

func (e *TooLargeError) Error() string {
	if e.Limit == 0 {
		return fmt.Sprintf("batch of %d bytes is too large for %s/%d", e.Size, e.Topic, e.Partition)
	}
	return fmt.Sprintf("batch of %d bytes is too large for %s/%d: at most %d", e.Size, e.Topic, e.Partition, e.Limit)
}

// unknownTopic reports whether a broker said that it does not know a topic, which is so for a moment after a topic was made or its
// leader moved, and for good after it was deleted.
func unknownTopic(err error) bool {
	return errors.Is(err, kerr.UnknownTopicOrPartition) || errors.Is(err, kerr.UnknownTopicID) || errors.Is(err, kerr.InconsistentTopicID)
}

// retriable reports whether asking again can help. Everything that is not an answer of a broker is about connections, and can; of
// the answers, those that the protocol calls retriable, and the one that means nothing in particular.
func retriable(err error) bool {
	var (
		outOfRange *OutOfRangeError
		tooLarge   *TooLargeError
		answer     *kerr.Error
	)
	switch {
	case errors.Is(err, ErrTopicID), errors.Is(err, ErrClosed), errors.Is(err, batch.ErrCorrupt), errors.As(err, &outOfRange), errors.As(err, &tooLarge):
		return false
	case errors.As(err, &answer):
		return answer.Retriable || answer == kerr.UnknownServerError
	}
	return true
}
