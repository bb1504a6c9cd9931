package kafka

import (
	"cmp"
	"slices"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/tidemark-dev/tidemark/processor/batch"
)

// abortedFilter tells the batches of aborted transactions from the others in one answer to a read_committed fetch. The answer lists
// the aborted transactions that touch its range, each by its producer and its first offset; a transaction ends at its producer's
// next marker. Brokers send the list in no particular order (the Java consumer sorts as well).
type abortedFilter struct {
	coming []kmsg.FetchResponseTopicPartitionAbortedTransaction // ascending by first offset
	open   []int64                                              // producers of the aborted transactions that the walk is inside of
}

func (f *abortedFilter) reset(list []kmsg.FetchResponseTopicPartitionAbortedTransaction) {
	f.coming = append(f.coming[:0], list...)
	slices.SortFunc(f.coming, func(a, b kmsg.FetchResponseTopicPartitionAbortedTransaction) int {
		return cmp.Compare(a.FirstOffset, b.FirstOffset)
	})
	f.open = f.open[:0]
}

// kinds of batches.
const (
	kindData    = "data"
	kindControl = "control"
	kindAborted = "aborted"
)

// kind classifies the next batch; batches must come in order.
func (f *abortedFilter) kind(b *batch.Batch) string {
	for len(f.coming) > 0 && f.coming[0].FirstOffset <= b.Last {
		f.open = append(f.open, f.coming[0].ProducerID)
		f.coming = f.coming[1:]
	}
	if b.Control() {
		// Abort or commit: a producer has one transaction at a time, and its next aborted one begins behind this marker.
		if i := slices.Index(f.open, b.ProducerID); i >= 0 {
			f.open = slices.Delete(f.open, i, i+1)
		}
		return kindControl
	}
	if b.Transactional() && slices.Contains(f.open, b.ProducerID) {
		return kindAborted
	}
	return kindData
}
