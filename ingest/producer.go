package ingest

import (
	"context"
	"errors"
	"fmt"
	"math"
	"sync"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/tidemark-dev/tidemark/schemas/errcode"
	"github.com/tidemark-dev/tidemark/schemas/stream"
)

// Producer writes raw events. It is safe for concurrent use.
type Producer struct {
	cfg        Config
	client     *kgo.Client
	partitions int32
	metrics    *metrics
	window     window
	free       sync.Pool // of *delivery
	life       context.Context

	acked   atomic.Uint64 // events; a wait that sees it rise goes on
	lastSeq atomic.Uint64

	closing   atomic.Bool
	closeOnce sync.Once
	closed    chan struct{}
	closeErr  error
}

// NewProducer connects and learns how many partitions the raw topic has; the count never changes. It waits for a broker, and for the
// topic to have its leaders, at most Config.DeliveryWait: [errcode.Unreachable], or [errcode.TopicDrift] if there is no such topic.
// The producer outlives ctx; it must be closed.
func NewProducer(ctx context.Context, cfg Config) (*Producer, error) {
	cfg, err := cfg.withDefaults()
	if err != nil {
		return nil, err
	}
	p := &Producer{cfg: cfg, life: context.WithoutCancel(ctx), closed: make(chan struct{})}
	p.window.records, p.window.bytes = uint64(cfg.BufferRecords), uint64(cfg.BufferBytes)
	p.free.New = func() any {
		d := new(delivery)
		d.promise = func(_ *kgo.Record, err error) { p.answered(d, err) }
		return d
	}
	if p.client, err = cfg.client(p.dataLoss); err != nil {
		return nil, fmt.Errorf("configuring the Kafka client: %w", err)
	}
	if p.partitions, err = p.countPartitions(ctx); err != nil {
		p.client.Close()
		return nil, fmt.Errorf("looking up the raw topic: %w", err)
	}
	p.metrics, err = newMetrics(cfg.Registerer, func() float64 {
		bytes, _ := p.window.inFlight()
		return float64(bytes)
	})
	if err != nil {
		p.client.Close()
		return nil, err
	}
	return p, nil
}

func (p *Producer) dataLoss(topic string, partition int32) {
	p.cfg.Logger.Error("the broker has lost events that it had acknowledged: run the syncs of this partition again",
		"topic", topic, "partition", partition)
}

// countPartitions asks until the topic is whole: right after its creation it may be unknown, or without leaders.
func (p *Producer) countPartitions(ctx context.Context) (int32, error) {
	wait, cancel := context.WithTimeout(ctx, p.cfg.DeliveryWait)
	defer cancel()
	var last error
	for pause := 10 * time.Millisecond; ; pause = min(2*pause, 500*time.Millisecond) {
		n, err := p.askPartitions(wait)
		switch {
		case err == nil:
			return n, nil
		case wait.Err() == nil, last == nil:
			last = err // what came before the time was up says more
		}
		timer := time.NewTimer(pause)
		select {
		case <-wait.Done():
			timer.Stop()
			if ctx.Err() != nil {
				return 0, context.Cause(ctx)
			}
			if errors.Is(last, kerr.UnknownTopicOrPartition) {
				return 0, &errcode.Error{Code: errcode.TopicDrift, Err: last, Detail: fmt.Sprintf("There is no topic %s.", p.cfg.Names.Raw)}
			}
			return 0, &errcode.Error{Code: errcode.Unreachable, Err: last, Detail: fmt.Sprintf("Tried %q for %v.", p.cfg.Seeds, p.cfg.DeliveryWait)}
		case <-timer.C:
		}
	}
}

func (p *Producer) askPartitions(ctx context.Context) (int32, error) {
	req := kmsg.NewPtrMetadataRequest()
	t := kmsg.NewMetadataRequestTopic()
	t.Topic = kmsg.StringPtr(p.cfg.Names.Raw)
	req.Topics = append(req.Topics, t)
	resp, err := req.RequestWith(ctx, p.client)
	if err != nil {
		return 0, err
	}
	if len(resp.Topics) != 1 {
		return 0, fmt.Errorf("asked about one topic, told about %d", len(resp.Topics))
	}
	if err := kerr.ErrorForCode(resp.Topics[0].ErrorCode); err != nil {
		return 0, err
	}
	n := len(resp.Topics[0].Partitions)
	if n == 0 || n > math.MaxInt32 {
		return 0, fmt.Errorf("the topic has %d partitions", n)
	}
	return int32(n), nil
}

// Partitions is the partition count of the raw topic.
func (p *Producer) Partitions() int32 { return p.partitions }

// Stream returns the writer of a stream. An invalid name shows at its first write.
func (p *Producer) Stream(id stream.ID) *Stream {
	s := &Stream{Writer{producer: p}}
	if err := id.Validate(); err != nil {
		s.err = &errcode.Error{Code: errcode.RawInvalidKey, Detail: err.Error()}
		return s
	}
	s.key = []byte(id.Key())
	s.partition = stream.Partition(s.key, p.partitions)
	return s
}

// sequence returns want, or a number above all that it returned before, near the current time in microseconds.
func (p *Producer) sequence(want uint64) uint64 {
	for {
		last := p.lastSeq.Load()
		next := want
		if next == 0 {
			next = max(uint64(max(p.cfg.Now().UnixMicro(), 0)), last+1)
		}
		if p.lastSeq.CompareAndSwap(last, max(last, next)) {
			return next
		}
	}
}

// room waits until an event of that size may be on its way.
func (p *Producer) room(ctx context.Context, bytes int) error {
	taken := p.window.try(bytes)
	if !taken {
		err := p.await(ctx, &p.window.gate, func() bool {
			taken = !p.closing.Load() && p.window.try(bytes)
			return taken || p.closing.Load()
		})
		if err != nil {
			return err
		}
	}
	// Close waits for what is in the window: whoever is in it before closing is set will be sent.
	if p.closing.Load() {
		if taken {
			p.window.release(bytes)
		}
		return ErrClosed
	}
	return nil
}

// await waits until ok holds, of which g tells. It gives up with the context's cause, or with errcode.Unreachable when the broker has
// not acknowledged any event for Config.DeliveryWait; it looks eight times in that span.
func (p *Producer) await(ctx context.Context, g *gate, ok func() bool) error {
	if ok() {
		return nil
	}
	g.waiting.Add(1)
	defer g.waiting.Add(-1)
	const looks = 8
	tick := time.NewTicker(max(p.cfg.DeliveryWait/looks, time.Millisecond))
	defer tick.Stop()
	last, still := p.acked.Load(), 0
	for {
		opened := g.next() // before the condition, so that a change after it closes this one
		if ok() {
			return nil
		}
		select {
		case <-opened:
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-tick.C:
			now := p.acked.Load()
			if still++; now != last {
				last, still = now, 0
			}
			if still >= looks {
				_, events := p.window.inFlight()
				return errcode.New(errcode.Unreachable, "No event was acknowledged for %v, %d are waiting.", p.cfg.DeliveryWait, events)
			}
		}
	}
}

// take returns a delivery to fill.
func (p *Producer) take() *delivery { return p.free.Get().(*delivery) }

// send hands d to the client, which owns it from here on. It never blocks.
func (p *Producer) send(d *delivery) { p.client.Produce(p.life, &d.record, d.promise) }

// answered is the promise of every event. The client calls it for one event after the other.
func (p *Producer) answered(d *delivery, err error) {
	if err == nil {
		p.acked.Add(1)
		p.metrics.events[d.kind].Inc()
		p.metrics.bytes.Add(float64(d.bytes))
	} else {
		err = classify(err, d.bytes)
		p.metrics.failed.WithLabelValues(codeOf(err)).Inc()
	}
	if !d.began.IsZero() {
		outcome := outcomeAcked
		if err != nil {
			outcome = outcomeFailed
		}
		p.metrics.seconds[outcome].Observe(time.Since(d.began).Seconds())
	}
	run, receipt, room := d.run, d.receipt, d.room
	p.reuse(d)
	// Room first: whoever has been told the answer finds it free.
	p.window.release(room)
	if receipt != nil {
		receipt.answer(1, err)
	}
	if run != nil {
		run.answered(err)
	}
}

// reuse gives a delivery back that the client is done with, or never had.
func (p *Producer) reuse(d *delivery) {
	if cap(d.buf) > keepBytesMax {
		d.buf = nil
	}
	d.record, d.headers = kgo.Record{}, [len(d.headers)]kgo.RecordHeader{}
	d.run, d.receipt, d.began = nil, nil, time.Time{}
	p.free.Put(d)
}

// Flush waits until everything written so far, by anybody, has been answered. While others go on writing it may wait for those
// events, too. It returns the context's cause or [errcode.Unreachable]; which events failed is told by their runs.
func (p *Producer) Flush(ctx context.Context) error {
	if err := p.await(ctx, &p.window.gate, p.window.empty); err != nil {
		return fmt.Errorf("flushing: %w", err)
	}
	return nil
}

// Close refuses further writes, waits for the answers to all events as Flush does, and disconnects. After an error some events may
// not have reached the log, and their callers are told ErrClosed. Further calls return what the first one did.
func (p *Producer) Close(ctx context.Context) error {
	p.closeOnce.Do(func() {
		defer close(p.closed)
		p.closing.Store(true)
		p.window.gate.wake()
		p.closeErr = p.Flush(ctx)
		p.client.Close()
		// The client gives back what it still had; its promises may be running.
		drained, cancel := context.WithTimeout(p.life, closeWait)
		defer cancel()
		if err := p.await(drained, &p.window.gate, p.window.empty); err != nil {
			p.closeErr = errors.Join(p.closeErr, fmt.Errorf("waiting for the client's last answers: %w", err))
		}
		p.metrics.unregister()
	})
	<-p.closed
	return p.closeErr
}

// closeWait bounds the wait for the last promises of a closed client.
const closeWait = 10 * time.Second
