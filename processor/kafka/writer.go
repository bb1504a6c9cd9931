package kafka

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/tidemark-dev/tidemark/processor/batch"
)

// Writer appends batches to one partition number of the topics changes, state and dlq, as one idempotent producer. Appends to
// different topics may run at the same time; appends to one topic are made one after another, and it is the caller who orders them.
type Writer struct {
	s     *session
	p     int32
	id    int64 // of the producer, given by the cluster and never given again
	epoch int16
	lanes map[string]*lane // by topic; the map does not change
	dead  atomic.Pointer[error]
}

// lane is what a Writer knows of one topic. Whoever has put a token into slot may use the rest.
type lane struct {
	topic, role string
	slot        chan struct{} // one
	at          placement
	seq         int32 // of the next record
	buf         []byte
}

// Writer returns a Writer for a partition number: it gets a producer id, finds the leaders and connects to them. That takes nothing
// from another Writer of the same partition: who is the writer is decided in the log (rule V), not here. Close it when done.
func (l *Log) Writer(ctx context.Context, p int32) (*Writer, error) {
	s, err := l.openSession()
	if err != nil {
		return nil, fmt.Errorf("opening a writer of partition %d: %w", p, err)
	}
	w := &Writer{s: s, p: p, id: -1, lanes: make(map[string]*lane)}
	names := []string{l.cfg.Names.Changes, l.cfg.Names.State, l.cfg.Names.DLQ}
	err = s.retry(ctx, "writer", func(ctx context.Context) error {
		places, err := s.place(ctx, p, names...)
		if err != nil {
			return err
		}
		if w.id < 0 {
			if err := w.identify(ctx); err != nil {
				return err
			}
		}
		var nodes []int32
		for i, name := range names {
			w.lanes[name] = &lane{topic: name, role: l.cfg.role(name), slot: make(chan struct{}, 1), at: places[i]}
			nodes = append(nodes, places[i].node)
		}
		// Dialing is the one step of an append that may fail harmlessly: have it done.
		_, err = bounded(ctx, l.cfg.RequestTimeout, func(ctx context.Context) (struct{}, error) {
			return struct{}{}, s.cl.EnsureProduceConnectionIsOpen(ctx, nodes...)
		})
		return err
	}, "partition", p)
	if err != nil {
		s.close()
		return nil, fmt.Errorf("opening a writer of partition %d: %w", p, err)
	}
	return w, nil
}

// identify gets a producer id. An id that was given and not received is never used.
func (w *Writer) identify(ctx context.Context) error {
	req := kmsg.NewPtrInitProducerIDRequest() // its defaults: no transactional id, no id of before
	r, err := w.s.ask(ctx, req)
	if err != nil {
		return fmt.Errorf("asking for a producer id: %w", err)
	}
	resp := r.(*kmsg.InitProducerIDResponse)
	if err := kerr.ErrorForCode(resp.ErrorCode); err != nil {
		return fmt.Errorf("asking for a producer id: %w", err)
	}
	w.id, w.epoch = resp.ProducerID, resp.ProducerEpoch
	return nil
}

// Append writes the records of b to the partition as exactly one batch in exactly one produce request, and waits until all in-sync
// replicas have it. It returns the offset of the first record. sent, if not nil, is given the bytes before they go out, for the batch may be
// read back before the answer is here; they are the caller's: a follower that fetches a batch with the same content
// (batch.SameContent) has read this one. b is not reset.
//
// That Append succeeded does not make the records part of the order: rule V does, when they are read back. That it failed does not
// mean that they are not in the log. Any error, the end of ctx included, is final: every later call returns an error as well, and
// all of them wrap ErrWriterDead and the first cause. A batch that the topic does not take is a *TooLargeError.
func (w *Writer) Append(ctx context.Context, topic string, b *batch.Builder, sent func(produced []byte)) (int64, error) {
	ln := w.lanes[topic]
	if ln == nil {
		return 0, w.kill(fmt.Errorf("topic %q is none that is written to", topic))
	}
	select {
	case ln.slot <- struct{}{}:
		defer func() { <-ln.slot }()
	case <-ctx.Done():
		return 0, w.kill(ctx.Err())
	}
	if dead := w.dead.Load(); dead != nil {
		return 0, *dead
	}
	begun := time.Now()
	base, produced, err := w.append(ctx, ln, b, sent)
	m := w.s.l.metrics
	if err != nil {
		m.appendSeconds.WithLabelValues(ln.role, "error").Observe(time.Since(begun).Seconds())
		return 0, w.kill(fmt.Errorf("appending %d records to %s/%d: %w", b.Count(), topic, w.p, err))
	}
	m.appendSeconds.WithLabelValues(ln.role, "ok").Observe(time.Since(begun).Seconds())
	m.appendedBytes.WithLabelValues(ln.role).Add(float64(len(produced)))
	m.appended.WithLabelValues(ln.role).Add(float64(b.Count()))
	return base, nil
}

func (w *Writer) append(ctx context.Context, ln *lane, b *batch.Builder, sent func([]byte)) (int64, []byte, error) {
	cfg := &w.s.l.cfg
	n := b.Count()
	if n == 0 {
		return 0, nil, errors.New("batch has no records")
	}
	ln.buf = b.Build(ln.buf[:0], cfg.Compression)
	if len(ln.buf) > cfg.MaxBatchBytes {
		return 0, nil, &TooLargeError{Topic: ln.topic, Partition: w.p, Size: len(ln.buf), Limit: cfg.MaxBatchBytes}
	}
	batch.SetProducer(ln.buf, w.id, w.epoch, ln.seq, false)
	// A copy of the right size: the caller keeps it until it is read back, and when the request is given up, the client may still
	// be reading it.
	produced := bytes.Clone(ln.buf)
	if sent != nil {
		sent(produced)
	}

	req := kmsg.NewPtrProduceRequest()
	req.Acks = -1 // all in-sync replicas
	req.TimeoutMillis = int32(cfg.RequestTimeout.Milliseconds())
	rt := kmsg.NewProduceRequestTopic()
	rt.Topic, rt.TopicID = ln.topic, ln.at.id // by name or by id, as the version wants
	rp := kmsg.NewProduceRequestTopicPartition()
	rp.Partition, rp.Records = w.p, produced
	rt.Partitions = append(rt.Partitions, rp)
	req.Topics = append(req.Topics, rt)
	r, err := w.s.send(ctx, ln.at.node, req, 0)
	if err != nil {
		return 0, nil, err
	}
	resp := r.(*kmsg.ProduceResponse)
	if len(resp.Topics) != 1 || len(resp.Topics[0].Partitions) != 1 || resp.Topics[0].Partitions[0].Partition != w.p {
		return 0, nil, errNoAnswer
	}
	part := &resp.Topics[0].Partitions[0]
	switch err := kerr.ErrorForCode(part.ErrorCode); {
	case err == kerr.MessageTooLarge || err == kerr.RecordListTooLarge:
		return 0, nil, &TooLargeError{Topic: ln.topic, Partition: w.p, Size: len(produced), Limit: w.limit(ctx, ln.topic)}
	case err != nil && part.ErrorMessage != nil:
		return 0, nil, fmt.Errorf("%w (%s)", err, *part.ErrorMessage)
	case err != nil:
		return 0, nil, err
	case part.BaseOffset < 0:
		return 0, nil, errNoAnswer
	}
	ln.seq = nextSequence(ln.seq, n)
	return part.BaseOffset, produced, nil
}

// nextSequence is the sequence number behind n records; the numbers go round at 2^31. (A broker that counts otherwise kills the
// Writer once in two billion records, and the next one begins at 0.)
func nextSequence(seq int32, n int) int32 { return int32((int64(seq) + int64(n)) & math.MaxInt32) }

// limit asks for the largest batch that a topic takes; 0 if the broker does not tell.
func (w *Writer) limit(ctx context.Context, topic string) int {
	req := kmsg.NewPtrDescribeConfigsRequest()
	res := kmsg.NewDescribeConfigsRequestResource()
	res.ResourceType, res.ResourceName, res.ConfigNames = kmsg.ConfigResourceTypeTopic, topic, []string{"max.message.bytes"}
	req.Resources = append(req.Resources, res)
	r, err := w.s.ask(ctx, req)
	if err != nil {
		return 0
	}
	for _, res := range r.(*kmsg.DescribeConfigsResponse).Resources {
		for _, c := range res.Configs {
			var n int
			if c.Name == "max.message.bytes" && c.Value != nil {
				if _, err := fmt.Sscan(*c.Value, &n); err == nil {
					return n
				}
			}
		}
	}
	return 0
}

// kill makes the first error the last.
func (w *Writer) kill(cause error) error {
	err := fmt.Errorf("%w: %w", ErrWriterDead, cause)
	if w.dead.CompareAndSwap(nil, &err) {
		return err
	}
	return *w.dead.Load()
}

// Close closes the connections of the Writer. Appends that wait for an answer end with an error; Close does not wait for the network.
func (w *Writer) Close() {
	w.kill(ErrClosed)
	w.s.close()
}
