package follow

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/tidemark-dev/tidemark/schemas/errcode"
)

// Fetcher reads single records of the changes topic. It does not judge them by rule V: whoever asks for an offset knows it from a valid
// record, and compares. Safe for concurrent use; all reads share one client.
type Fetcher struct {
	cfg   Config
	cl    *kgo.Client
	slots chan struct{} // one per read under way: each holds a batch
}

// fetchesMax bounds reads under way, and so their memory: a batch each, compressed and not.
const fetchesMax = 8

// fetchWait bounds one read, all its tries included.
const fetchWait = 10 * time.Second

// NewFetcher makes a fetcher; it does not connect. Of cfg only what says how to connect and the name of the topic count.
func NewFetcher(cfg Config) (*Fetcher, error) {
	cfg, err := cfg.withDefaults()
	if err != nil {
		return nil, err
	}
	cl, err := cfg.client()
	if err != nil {
		return nil, err
	}
	return &Fetcher{cfg: cfg, cl: cl, slots: make(chan struct{}, fetchesMax)}, nil
}

// Close ends reads under way, and the client.
func (f *Fetcher) Close() { f.cl.Close() }

// Record reads the record at an offset. It returns a *PositionError if there is none: removed by retention, or not written yet. Brokers
// that cannot be reached are errcode.Unreachable.
func (f *Fetcher) Record(ctx context.Context, partition int32, offset int64) (*Record, error) {
	ctx, cancel := context.WithTimeout(ctx, fetchWait)
	defer cancel()
	select {
	case f.slots <- struct{}{}:
		defer func() { <-f.slots }()
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
	for pause := 50 * time.Millisecond; ; pause = min(2*pause, time.Second) {
		k, err := f.fetch(ctx, partition, offset)
		if err == nil {
			rec := new(Record)
			if err := decode(k, rec); err != nil {
				return nil, err
			}
			return rec, nil
		}
		var gone *PositionError
		if errors.As(err, &gone) || errors.Is(err, kgo.ErrClientClosed) || ctx.Err() == nil && !again(err) {
			return nil, err
		}
		timer := time.NewTimer(pause)
		select {
		case <-ctx.Done():
			timer.Stop()
			if errors.Is(ctx.Err(), context.DeadlineExceeded) {
				return nil, &errcode.Error{Code: errcode.Unreachable, Err: err, Detail: fmt.Sprintf("Tried %q for %v.", f.cfg.Seeds, fetchWait)}
			}
			return nil, context.Cause(ctx)
		case <-timer.C:
		}
	}
}

// again reports whether another try may go better: the leader moved, or a connection broke.
func again(err error) bool {
	var coded *errcode.Error
	var answer *kerr.Error
	return !errors.As(err, &coded) && (!errors.As(err, &answer) || answer.Retriable)
}

// fetch asks the leader for the batch that holds the record, and for nothing more.
func (f *Fetcher) fetch(ctx context.Context, partition int32, offset int64) (*kgo.Record, error) {
	leader, id, err := f.leader(ctx, partition)
	if err != nil {
		return nil, err
	}
	rp := kmsg.NewFetchRequestTopicPartition()
	rp.Partition, rp.FetchOffset = partition, offset
	rp.PartitionMaxBytes = 1 // a broker returns the first batch whole, however large it is (KIP-74)
	rt := kmsg.NewFetchRequestTopic()
	rt.Topic, rt.TopicID = f.cfg.Names.Changes, id // which of the two is sent depends on the version that the broker speaks
	rt.Partitions = append(rt.Partitions, rp)
	req := kmsg.NewFetchRequest()
	req.ReplicaID, req.MaxBytes, req.MinBytes, req.MaxWaitMillis, req.IsolationLevel = -1, 1, 1, 100, 1
	req.Topics = append(req.Topics, rt)
	answer, err := f.cl.Broker(int(leader)).RetriableRequest(ctx, &req)
	if err != nil {
		return nil, fmt.Errorf("fetching offset %d of partition %d: %w", offset, partition, err)
	}
	resp := answer.(*kmsg.FetchResponse)
	err = kerr.ErrorForCode(resp.ErrorCode)
	for i := range resp.Topics {
		for j := range resp.Topics[i].Partitions {
			if p := &resp.Topics[i].Partitions[j]; err == nil && p.Partition == partition {
				return f.found(p, offset)
			}
		}
	}
	if err == nil {
		err = errors.New("the answer does not have the partition")
	}
	return nil, fmt.Errorf("fetching offset %d of partition %d: %w", offset, partition, err)
}

func (f *Fetcher) found(p *kmsg.FetchResponseTopicPartition, offset int64) (*kgo.Record, error) {
	err := kerr.ErrorForCode(p.ErrorCode)
	if errors.Is(err, kerr.OffsetOutOfRange) {
		start := p.LogStartOffset
		if start < 0 || p.HighWatermark < 0 { // some brokers do not say in this case
			start = offset + 1
		}
		return nil, &PositionError{Partition: p.Partition, Offset: offset, Start: start, End: max(p.HighWatermark, start), Reason: "no record is there"}
	}
	if err != nil {
		return nil, fmt.Errorf("fetching offset %d of partition %d: %w", offset, p.Partition, err)
	}
	got, _ := kgo.ProcessFetchPartition(kgo.ProcessFetchPartitionOpts{
		Topic: f.cfg.Names.Changes, Partition: p.Partition, Offset: offset, IsolationLevel: kgo.ReadCommitted(),
	}, p, kgo.DefaultDecompressor(), nil)
	if got.Err != nil {
		return nil, fmt.Errorf("reading offset %d of partition %d: %w", offset, p.Partition, got.Err)
	}
	for _, k := range got.Records {
		if k.Offset == offset {
			return k, nil
		}
	}
	return nil, &PositionError{Partition: p.Partition, Offset: offset, Start: offset + 1, End: max(p.HighWatermark, offset+1), Reason: "no record is there"}
}

// leader says who leads a partition, from what the client knows for MetadataMinAge.
func (f *Fetcher) leader(ctx context.Context, partition int32) (int32, [16]byte, error) {
	t := kmsg.NewMetadataRequestTopic()
	t.Topic = kmsg.StringPtr(f.cfg.Names.Changes)
	req := kmsg.NewPtrMetadataRequest()
	req.Topics = append(req.Topics, t)
	resp, err := f.cl.RequestCachedMetadata(ctx, req, 0)
	if err != nil {
		return 0, [16]byte{}, fmt.Errorf("asking for the leader of partition %d: %w", partition, err)
	}
	for i := range resp.Topics {
		topic := &resp.Topics[i]
		if topic.Topic == nil || *topic.Topic != f.cfg.Names.Changes {
			continue
		}
		if err := kerr.ErrorForCode(topic.ErrorCode); err != nil {
			return 0, topic.TopicID, fmt.Errorf("asking for the leader of partition %d: %w", partition, err)
		}
		for _, p := range topic.Partitions {
			if p.Partition == partition {
				return p.Leader, topic.TopicID, kerr.ErrorForCode(p.ErrorCode)
			}
		}
	}
	return 0, [16]byte{}, errcode.New(errcode.TopicDrift, "Topic %s has no partition %d.", f.cfg.Names.Changes, partition)
}
