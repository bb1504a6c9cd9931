package kafka

import (
	"context"
	"errors"
	"fmt"
	"math"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/tidemark-dev/tidemark/processor/batch"
)

// corruptReads is how often a corrupt batch is read before it counts as corrupt in the log: a bit may have flipped on the way.
const corruptReads = 3

// Reader follows one partition, read_committed. It is not safe for concurrent use, but for Close.
type Reader struct {
	s     *session // nil if it could not be opened
	err   error    // why
	topic string
	p     int32

	pos, start, end int64
	at              placement
	placed          bool
	need            int32 // size of the batch at pos, when it did not fit into the last fetch

	batches []batch.Batch
	aborted abortedFilter
}

// Reader returns a Reader of a partition that begins at an offset. It has a client, and so connections, of its own, and makes no
// request before the first Next. Close it when done.
func (l *Log) Reader(topic string, p int32, from int64) *Reader {
	r := &Reader{topic: topic, p: p, pos: from, start: -1, end: -1}
	r.s, r.err = l.openSession()
	return r
}

// Next waits for data, once for as long as Config.FetchMaxWait, and returns the batches that came: none if the log has nothing new,
// or nothing but what is filtered. Batches are whole, in ascending order, and data alone: markers and the batches of aborted
// transactions are left out. They are valid until the next call.
//
// The first batch may begin below Position, if that lies inside of a batch: the caller skips the records below the position that it
// asked for. Position moves behind everything that was read, filtered batches included.
//
// Whatever can pass, passes unseen until ctx ends: lost connections, brokers that restart, leaders that move. What cannot, is
// *OutOfRangeError, ErrTopicID, *TooLargeError (a batch larger than Config.MaxBatchBytes that the broker will not send whole), an
// error wrapping batch.ErrCorrupt, or a broker's refusal, such as of authorization. Errors leave Position where it is. When ctx
// ends during a request, its connection is closed: use a context for the life of the Reader rather than one for each call.
func (r *Reader) Next(ctx context.Context) ([]batch.Batch, error) {
	if r.err != nil {
		return nil, r.err
	}
	if err := r.s.retry(ctx, "fetch", r.poll, "topic", r.topic, "partition", r.p); err != nil {
		return nil, fmt.Errorf("reading %s/%d at offset %d: %w", r.topic, r.p, r.pos, err)
	}
	return r.batches, nil
}

// Position is the offset that the next call of Next asks for.
func (r *Reader) Position() int64 { return r.pos }

// EndOffset is the last stable offset when the last fetch was answered: all below could be read then. -1 before the first answer.
func (r *Reader) EndOffset() int64 { return r.end }

// LogStart is the offset at which the log began when the last fetch was answered. -1 before the first answer.
func (r *Reader) LogStart() int64 { return r.start }

// SetPosition moves Position, to any offset.
func (r *Reader) SetPosition(offset int64) { r.pos, r.need = offset, 0 }

// Close closes the connections of the Reader. It may be called while Next waits, which then returns ErrClosed.
func (r *Reader) Close() {
	if r.s != nil {
		r.s.close()
	}
}

// poll makes one fetch, and more if that got only a part of a batch, or a corrupt one.
func (r *Reader) poll(ctx context.Context) error {
	for corrupt := 0; ; {
		again, err := r.fetch(ctx)
		switch {
		case err == nil && !again:
			return nil
		case errors.Is(err, batch.ErrCorrupt) && corrupt < corruptReads-1:
			corrupt++
		case err != nil:
			r.placed = false // ask for the leader before the next try
			return err
		}
	}
}

func (r *Reader) fetch(ctx context.Context) (again bool, err error) {
	r.batches = r.batches[:0]
	if !r.placed {
		places, err := r.s.place(ctx, r.p, r.topic)
		if err != nil {
			return false, err
		}
		r.at, r.placed = places[0], true
	}
	resp, err := r.s.send(ctx, r.at.node, r.request(), r.s.l.cfg.FetchMaxWait)
	if err != nil {
		return false, err
	}
	part, err := r.answer(resp.(*kmsg.FetchResponse))
	if err != nil {
		return false, err
	}
	switch err := r.s.l.topicError(r.topic, part.ErrorCode); {
	case err == nil:
	case errors.Is(err, kerr.OffsetOutOfRange):
		return false, r.outOfRange(ctx)
	case errors.Is(err, kerr.CorruptMessage):
		return false, fmt.Errorf("%w: %w", batch.ErrCorrupt, err)
	default:
		return false, err
	}
	r.start, r.end = part.LogStartOffset, part.LastStableOffset
	return r.walk(part)
}

func (r *Reader) request() *kmsg.FetchRequest {
	cfg := &r.s.l.cfg
	req := kmsg.NewPtrFetchRequest() // its defaults: a consumer, no session
	req.MaxWaitMillis = int32(cfg.FetchMaxWait.Milliseconds())
	req.MinBytes = 1
	// The limit is that of the one partition. A limit of the whole answer would be the same to Kafka, but the broker that we embed
	// forgets the list of aborted transactions when it meets that one.
	req.MaxBytes = math.MaxInt32
	req.IsolationLevel = readCommitted
	rt := kmsg.NewFetchRequestTopic()
	rt.Topic, rt.TopicID = r.topic, r.at.id // by name or by id, as the version wants
	rp := kmsg.NewFetchRequestTopicPartition()
	rp.Partition, rp.CurrentLeaderEpoch, rp.FetchOffset = r.p, r.at.epoch, r.pos
	rp.PartitionMaxBytes = max(cfg.FetchMaxBytes, r.need)
	rt.Partitions = append(rt.Partitions, rp)
	req.Topics = append(req.Topics, rt)
	return req
}

func (r *Reader) answer(resp *kmsg.FetchResponse) (*kmsg.FetchResponseTopicPartition, error) {
	if err := r.s.l.topicError(r.topic, resp.ErrorCode); err != nil {
		return nil, err
	}
	if len(resp.Topics) != 1 || len(resp.Topics[0].Partitions) != 1 || resp.Topics[0].Partitions[0].Partition != r.p {
		return nil, errNoAnswer
	}
	return &resp.Topics[0].Partitions[0], nil
}

// outOfRange finds the bounds for an OutOfRangeError. A new leader that has not caught up with its own high watermark may refuse an
// offset that is in range: that passes.
func (r *Reader) outOfRange(ctx context.Context) error {
	start, end, err := r.s.bounds(ctx, r.topic, r.p, r.at, readUncommitted)
	if err != nil {
		return err
	}
	if start <= r.pos && r.pos <= end {
		return kerr.OffsetNotAvailable
	}
	return &OutOfRangeError{Topic: r.topic, Partition: r.p, Offset: r.pos, Start: start, End: end}
}

// walk takes the batches out of an answer. again means that the batch at pos did not fit, and would into a larger fetch.
func (r *Reader) walk(part *kmsg.FetchResponseTopicPartition) (again bool, err error) {
	cfg, m := &r.s.l.cfg, r.s.l.metrics
	role := cfg.role(r.topic)
	r.aborted.reset(part.AbortedTransactions)
	pos := r.pos
	rest := part.RecordBatches
	for len(rest) > 0 {
		b, next, err := batch.Next(rest)
		if err == nil && b.Base < pos && pos > r.pos {
			err = fmt.Errorf("%w: offset %d behind offset %d", batch.ErrCorrupt, b.Base, pos-1)
		}
		if errors.Is(err, batch.ErrShort) {
			break
		}
		if err != nil {
			if pos > r.pos {
				break // hand out what is good; the next fetch begins with the bad one
			}
			return false, err
		}
		rest = next
		kind := r.aborted.kind(&b)
		if b.Last < r.pos { // a broker may begin a little early
			continue
		}
		pos = b.Last + 1
		m.fetched.WithLabelValues(role, kind).Inc()
		if kind == kindData {
			r.batches = append(r.batches, b)
		}
	}
	m.fetchedBytes.WithLabelValues(role).Add(float64(len(part.RecordBatches) - len(rest)))
	if pos > r.pos || len(part.RecordBatches) == 0 {
		r.pos, r.need = pos, 0
		return false, nil
	}
	return r.grow(rest)
}

// grow makes room for a batch of which a fetch brought only the beginning, cut.
func (r *Reader) grow(cut []byte) (again bool, err error) {
	cfg := &r.s.l.cfg
	if len(cut) == 0 {
		return false, fmt.Errorf("broker sent nothing but batches below offset %d", r.pos)
	}
	asked := int(max(cfg.FetchMaxBytes, r.need))
	size := batch.Length(cut)
	switch {
	case size == 0: // not even the length came
		size = min(2*asked, cfg.MaxBatchBytes)
	case size > cfg.MaxBatchBytes:
		return false, &TooLargeError{Topic: r.topic, Partition: r.p, Size: size, Limit: cfg.MaxBatchBytes}
	}
	if size <= asked {
		return false, fmt.Errorf("broker cut a batch of %d bytes, and was asked for %d", size, asked)
	}
	r.need = int32(size)
	return true, nil
}
