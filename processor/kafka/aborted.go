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
func (f *abortedFilter) kind(b *batch.Batch) (string, error) {
	for len(f.coming) > 0 && f.coming[0].FirstOffset <= b.Last {
		f.open = append(f.open, f.coming[0].ProducerID)
		f.coming = f.coming[1:]
	}
	if b.Control() {
		if len(f.open) > 0 {
			abort, err := abortMarker(b)
			if err != nil {
				return "", err
			}
			// The producer's next aborted transaction begins behind this marker, so it is not open yet.
			if i := slices.Index(f.open, b.ProducerID); abort && i >= 0 {
				f.open = slices.Delete(f.open, i, i+1)
			}
		}
		return kindControl, nil
	}
	if b.Transactional() && slices.Contains(f.open, b.ProducerID) {
		return kindAborted, nil
	}
	return kindData, nil
}

// abortMarker reports whether a control batch ends a transaction by aborting it. Its one record has a key of two 16-bit numbers, a
// version and the type; 0 is abort, 1 commit, others are not about transactions.
func abortMarker(b *batch.Batch) (bool, error) {
	rs, err := batch.Decode(b, len(b.Raw))
	if err != nil {
		return false, err
	}
	defer rs.Release()
	var r batch.Record
	ok, err := rs.Next(&r)
	if err != nil || !ok { // compaction may have removed the record; the marker of an aborted transaction goes last
		return false, err
	}
	return len(r.Key) >= 4 && r.Key[2] == 0 && r.Key[3] == 0, nil
}
