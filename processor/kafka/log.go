package kafka

import (
	"context"
	"fmt"
	"sync"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// Log is the four topics of one generation on one cluster. Safe for concurrent use.
//
// Whatever can be tried again is tried again until the context ends: give every call one that does.
type Log struct {
	cfg     Config
	metrics *Metrics
	own     *session // for requests that nobody waits long for

	mu       sync.Mutex
	ids      map[string][16]byte // of topics, as first seen
	sessions map[*session]bool
	closed   bool
}

// Open connects to the cluster and looks at the topics, which must exist: one that stays unknown for Config.RequestTimeout is an
// error. Close the Log when done.
func Open(ctx context.Context, cfg Config) (*Log, error) {
	cfg.setDefaults()
	if err := cfg.validate(); err != nil {
		return nil, fmt.Errorf("kafka: %w", err)
	}
	l := &Log{cfg: cfg, metrics: NewMetrics(cfg.Registerer), ids: make(map[string][16]byte), sessions: make(map[*session]bool)}
	var err error
	if l.own, err = l.openSession(); err != nil {
		return nil, fmt.Errorf("kafka: %w", err)
	}
	if _, err := l.Partitions(ctx); err != nil {
		l.Close()
		return nil, err
	}
	return l, nil
}

// Close closes the Log, its Readers and its Writers; calls that wait return ErrClosed. It does not wait for the network.
func (l *Log) Close() {
	l.mu.Lock()
	l.closed = true
	var open []*session
	for s := range l.sessions {
		open = append(open, s)
	}
	l.mu.Unlock()
	for _, s := range open {
		s.close()
	}
}

func (l *Log) openSession() (*session, error) {
	cl, err := kgo.NewClient(l.cfg.clientOpts()...)
	if err != nil {
		return nil, fmt.Errorf("making a client: %w", err)
	}
	s := &session{l: l, cl: cl}
	l.mu.Lock()
	closed := l.closed
	if !closed {
		l.sessions[s] = true
	}
	l.mu.Unlock()
	if closed {
		cl.Close()
		return nil, ErrClosed
	}
	l.metrics.clients.Inc()
	return s, nil
}

func (l *Log) closeSession(s *session) {
	l.mu.Lock()
	open := l.sessions[s]
	delete(l.sessions, s)
	l.mu.Unlock()
	if open {
		s.cl.Close()
		l.metrics.clients.Dec()
	}
}

// checkID remembers the id that a topic is first seen with, and refuses any other.
func (l *Log) checkID(topic string, id [16]byte) error {
	if id == ([16]byte{}) { // a broker that has no ids
		return nil
	}
	l.mu.Lock()
	first, known := l.ids[topic]
	if !known {
		l.ids[topic] = id
	}
	l.mu.Unlock()
	if known && first != id {
		return fmt.Errorf("topic %s has id %x, had %x: %w", topic, id, first, ErrTopicID)
	}
	return nil
}

// topicError is the error of an answer about a topic.
func (l *Log) topicError(topic string, code int16) error {
	err := kerr.ErrorForCode(code)
	if err == nil || !unknownTopic(err) {
		return err
	}
	l.mu.Lock()
	_, known := l.ids[topic]
	l.mu.Unlock()
	if known {
		return fmt.Errorf("%w, %w", err, errGone)
	}
	return err
}

// Partitions returns the partition count of the topics; that they differ is an error.
func (l *Log) Partitions(ctx context.Context) (int32, error) {
	names := []string{l.cfg.Names.Raw, l.cfg.Names.Changes, l.cfg.Names.State, l.cfg.Names.DLQ}
	var n int32
	err := l.own.retry(ctx, "metadata", func(ctx context.Context) error {
		topics, err := l.own.describe(ctx, names...)
		if err != nil {
			return err
		}
		n = int32(len(topics[0].Partitions))
		for i := range topics {
			if int32(len(topics[i].Partitions)) != n {
				n = 0
			}
		}
		if n == 0 {
			var counts []int
			for i := range topics {
				counts = append(counts, len(topics[i].Partitions))
			}
			return fmt.Errorf("topics %v have %v partitions, want equal numbers: %w", names, counts, kerr.InvalidPartitions)
		}
		return nil
	})
	if err != nil {
		return 0, fmt.Errorf("counting partitions: %w", err)
	}
	return n, nil
}

// TopicID returns the id of a topic; zero if the cluster gives none.
func (l *Log) TopicID(ctx context.Context, topic string) (id [16]byte, err error) {
	err = l.own.retry(ctx, "metadata", func(ctx context.Context) error {
		topics, err := l.own.describe(ctx, topic)
		if err == nil {
			id = topics[0].TopicID
		}
		return err
	}, "topic", topic)
	if err != nil {
		return id, fmt.Errorf("asking for the id of %s: %w", topic, err)
	}
	return id, nil
}

// Bounds returns the offset of the first record that the log of a partition has, and the last stable offset: the one behind the last
// record that a Reader can get now.
func (l *Log) Bounds(ctx context.Context, topic string, p int32) (start, end int64, err error) {
	err = l.own.retry(ctx, "bounds", func(ctx context.Context) error {
		at, err := l.own.place(ctx, p, topic)
		if err != nil {
			return err
		}
		start, end, err = l.own.bounds(ctx, topic, p, at[0], readCommitted)
		return err
	}, "topic", topic, "partition", p)
	if err != nil {
		return 0, 0, fmt.Errorf("listing the offsets of %s/%d: %w", topic, p, err)
	}
	return start, end, nil
}

// Isolation levels of the protocol.
const (
	readUncommitted int8 = 0 // up to the high watermark
	readCommitted   int8 = 1 // up to the last stable offset
)

func (s *session) bounds(ctx context.Context, topic string, p int32, at placement, isolation int8) (start, end int64, err error) {
	const earliest, latest = -2, -1
	if start, err = s.offset(ctx, topic, p, at, earliest, isolation); err != nil {
		return 0, 0, err
	}
	end, err = s.offset(ctx, topic, p, at, latest, isolation)
	return start, end, err
}

// offset asks for one offset. Two of one partition cannot be had in one request.
func (s *session) offset(ctx context.Context, topic string, p int32, at placement, which int64, isolation int8) (int64, error) {
	req := kmsg.NewPtrListOffsetsRequest()
	req.ReplicaID = -1
	req.IsolationLevel = isolation
	rt := kmsg.NewListOffsetsRequestTopic()
	rt.Topic = topic
	rp := kmsg.NewListOffsetsRequestTopicPartition()
	rp.Partition, rp.CurrentLeaderEpoch, rp.Timestamp = p, at.epoch, which
	rt.Partitions = append(rt.Partitions, rp)
	req.Topics = append(req.Topics, rt)
	r, err := s.send(ctx, at.node, req, 0)
	if err != nil {
		return 0, err
	}
	resp := r.(*kmsg.ListOffsetsResponse)
	if len(resp.Topics) != 1 || len(resp.Topics[0].Partitions) != 1 {
		return 0, errNoAnswer
	}
	part := &resp.Topics[0].Partitions[0]
	if err := kerr.ErrorForCode(part.ErrorCode); err != nil {
		return 0, err
	}
	if part.Offset < 0 {
		return 0, errNoAnswer
	}
	return part.Offset, nil
}

// Trim deletes the records of a partition below an offset. Brokers delete whole segments, but what is below is out of range at once.
// Trimming below the start of the log does nothing; beyond its end is an *OutOfRangeError. Leave at least one record: an embedded
// broker forgets the offsets of an empty partition when it restarts.
func (l *Log) Trim(ctx context.Context, topic string, p int32, before int64) error {
	err := l.own.retry(ctx, "trim", func(ctx context.Context) error {
		places, err := l.own.place(ctx, p, topic)
		if err != nil {
			return err
		}
		at := places[0]
		start, end, err := l.own.bounds(ctx, topic, p, at, readUncommitted)
		if err != nil {
			return err
		}
		if before <= start && before >= 0 {
			return nil
		}
		if before < 0 || before > end { // a negative one would mean everything to the broker
			return &OutOfRangeError{Topic: topic, Partition: p, Offset: before, Start: start, End: end}
		}
		req := kmsg.NewPtrDeleteRecordsRequest()
		req.TimeoutMillis = int32(l.cfg.RequestTimeout.Milliseconds())
		rt := kmsg.NewDeleteRecordsRequestTopic()
		rt.Topic = topic
		rp := kmsg.NewDeleteRecordsRequestTopicPartition()
		rp.Partition, rp.Offset = p, before
		rt.Partitions = append(rt.Partitions, rp)
		req.Topics = append(req.Topics, rt)
		r, err := l.own.send(ctx, at.node, req, 0)
		if err != nil {
			return err
		}
		resp := r.(*kmsg.DeleteRecordsResponse)
		if len(resp.Topics) != 1 || len(resp.Topics[0].Partitions) != 1 {
			return errNoAnswer
		}
		return kerr.ErrorForCode(resp.Topics[0].Partitions[0].ErrorCode)
	}, "topic", topic, "partition", p)
	if err != nil {
		return fmt.Errorf("trimming %s/%d below offset %d: %w", topic, p, before, err)
	}
	return nil
}
