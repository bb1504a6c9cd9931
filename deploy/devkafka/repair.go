package devkafka

import (
	"context"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// insideTimeout bounds what is done by requests inside the process: recovery at the start, changes of topic settings.
const insideTimeout = 30 * time.Second

// inside runs do with a client that reaches kfake through memory, also before anyone else is let in.
func (b *Broker) inside(ctx context.Context, do func(context.Context, *kgo.Client) error) error {
	ctx, cancel := context.WithTimeout(ctx, insideTimeout)
	defer cancel()
	cl, err := kgo.NewClient(kgo.SeedBrokers(b.Addr()), kgo.Dialer(b.ln.dial))
	if err != nil {
		return fmt.Errorf("opening a client inside the process: %w", err)
	}
	defer cl.Close()
	return do(ctx, cl)
}

// listTopics returns the names of all topics.
func listTopics(ctx context.Context, cl *kgo.Client) ([]string, error) {
	req := kmsg.NewPtrMetadataRequest()
	req.Topics = nil // all
	resp, err := req.RequestWith(ctx, cl)
	if err != nil {
		return nil, fmt.Errorf("listing topics: %w", err)
	}
	var names []string
	for _, t := range resp.Topics {
		if t.Topic != nil {
			names = append(names, *t.Topic)
		}
	}
	return names, nil
}

// abortOpenTransactions writes the abort markers that kfake leaves out, and returns for how many producers.
//
// A killed kfake takes the transactions that were open for aborted when it starts again, but only in memory. A consumer that
// has read the first of those records waits for a marker that never comes and drops everything that the same producer commits
// later; after the next kill, the marker of a later commit commits the aborted records as well. kfake appends a marker
// wherever it is told to, and one without a transaction means nothing to anyone, so every partition with records gets one
// from every producer that has a transactional id. To be done after an unclean stop only: after a clean one, open
// transactions are still open, and their producers may end them.
func (b *Broker) abortOpenTransactions(ctx context.Context, cl *kgo.Client, topics []string) (int, error) {
	listed, err := kmsg.NewPtrListTransactionsRequest().RequestWith(ctx, cl)
	if err != nil {
		return 0, fmt.Errorf("listing transactional ids: %w", err)
	}
	describe := kmsg.NewPtrDescribeTransactionsRequest()
	for _, t := range listed.TransactionStates {
		describe.TransactionalIDs = append(describe.TransactionalIDs, t.TransactionalID)
	}
	if len(describe.TransactionalIDs) == 0 {
		return 0, nil
	}
	described, err := describe.RequestWith(ctx, cl)
	if err != nil {
		return 0, fmt.Errorf("describing transactional ids: %w", err)
	}
	var where []kmsg.WriteTxnMarkersRequestMarkerTopic
	for _, topic := range topics {
		t := kmsg.NewWriteTxnMarkersRequestMarkerTopic()
		t.Topic = topic
		for _, p := range b.cluster.PartitionInfos(topic) {
			if p.HighWatermark > 0 {
				t.Partitions = append(t.Partitions, p.Partition)
			}
		}
		if len(t.Partitions) > 0 {
			where = append(where, t)
		}
	}
	if len(where) == 0 {
		return 0, nil
	}
	for _, t := range described.TransactionStates {
		if err := kerr.ErrorForCode(t.ErrorCode); err != nil {
			return 0, fmt.Errorf("describing transactional id %q: %w", t.TransactionalID, err)
		}
		marker := kmsg.NewWriteTxnMarkersRequestMarker()
		marker.ProducerID, marker.ProducerEpoch, marker.Committed, marker.Topics = t.ProducerID, t.ProducerEpoch, false, where
		req := kmsg.NewPtrWriteTxnMarkersRequest()
		req.Markers = append(req.Markers, marker)
		resp, err := req.RequestWith(ctx, cl)
		if err != nil {
			return 0, fmt.Errorf("aborting what %q had open: %w", t.TransactionalID, err)
		}
		for _, m := range resp.Markers {
			for _, mt := range m.Topics {
				for _, p := range mt.Partitions {
					if err := kerr.ErrorForCode(p.ErrorCode); err != nil {
						return 0, fmt.Errorf("aborting what %q had open in %s/%d: %w", t.TransactionalID, mt.Topic, p.Partition, err)
					}
				}
			}
		}
	}
	return len(described.TransactionStates), nil
}
