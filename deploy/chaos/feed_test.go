package chaos

import (
	"context"
	"encoding/json"
	"fmt"
	"math"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/zeebo/xxh3"

	"github.com/tidemark-dev/tidemark/processor/model"
	"github.com/tidemark-dev/tidemark/schemas/event"
	"github.com/tidemark-dev/tidemark/schemas/stream"
)

// source makes raw events. Settle ends the runs that are open.
type source interface {
	Next() model.RawEvent
	Settle() []model.RawEvent
}

// feed writes raw events into every partition and outlives the processes that take them. Nobody else writes to the raw topic, so that
// the event number n of a partition must lie at offset n: neither lost, nor doubled, nor in another place.
type feed struct {
	t     testing.TB
	cl    *kgo.Client
	topic string
	parts []*partFeed
	stop  context.CancelFunc
	ran   sync.WaitGroup
	gate  sync.RWMutex // held for writing while the feed is paused

	refusals bool // events may be refused for good: only those that are acknowledged must be there; set before run
}

// partFeed is the producer of one partition.
type partFeed struct {
	partition int32
	source    source
	rng       *rand.Rand

	mu      sync.Mutex
	sums    []uint64 // of the events, in the order in which they were sent
	acked   int
	refused error            // the last time that an event was refused for good
	places  map[int64]uint64 // with refusals: sums of what was acknowledged, by offset
	pace    time.Duration    // between two bursts
	burst   int
	flying  sync.WaitGroup
}

// producerOptions are those of package ingest: idempotent, acks of all, tries for ever.
func producerOptions(addr string) []kgo.Opt {
	return []kgo.Opt{
		kgo.SeedBrokers(addr), kgo.RequiredAcks(kgo.AllISRAcks()), kgo.RecordPartitioner(kgo.ManualPartitioner()),
		kgo.RecordRetries(math.MaxInt64), kgo.RecordDeliveryTimeout(0),
		kgo.RetryBackoffFn(func(int) time.Duration { return 50 * time.Millisecond }), kgo.MetadataMinAge(50 * time.Millisecond),
		kgo.ProducerLinger(time.Millisecond), kgo.DisableClientMetrics(), kgo.AlwaysRetryEOF(),
	}
}

// newFeed makes a feed, which says so rather than going on when the broker no longer knows what it had acknowledged. refusals says that the broker may refuse events for good. A broker whose disk is full cannot write down which producers
// there are: after its restart one may have to begin anew, as clients do by themselves.
func newFeed(s *site, sources []source, rng *rand.Rand, refusals bool) *feed {
	s.t.Helper()
	opts := producerOptions(s.kafka)
	if !refusals {
		opts = append(opts, kgo.StopProducerOnDataLossDetected())
	}
	cl, err := kgo.NewClient(opts...)
	must(s.t, err)
	s.t.Cleanup(cl.Close)
	f := &feed{t: s.t, cl: cl, topic: s.names.Raw, refusals: refusals}
	for p, src := range sources {
		f.parts = append(f.parts, &partFeed{
			partition: int32(p), source: src, rng: rand.New(rand.NewPCG(rng.Uint64(), 1)), pace: 30 * time.Millisecond, burst: 15,
			places: map[int64]uint64{},
		})
	}
	return f
}

// run feeds until halt.
func (f *feed) run() {
	ctx, stop := context.WithCancel(context.Background())
	f.stop = stop
	f.t.Cleanup(f.halt)
	for _, p := range f.parts {
		f.ran.Go(func() {
			for ctx.Err() == nil {
				f.gate.RLock()
				f.send(p, 1+p.rng.IntN(p.burst))
				if p.rng.IntN(4) > 0 { // else the next burst is sent on top of this one
					p.flying.Wait()
				}
				f.gate.RUnlock()
				timer := time.NewTimer(between(p.rng, 0, p.pace))
				select {
				case <-timer.C:
				case <-ctx.Done():
					timer.Stop()
				}
			}
		})
	}
}

// halt ends the feed. A second call does nothing.
func (f *feed) halt() {
	f.stop()
	if f.t.Failed() {
		f.cl.Close() // ends the events that would wait for a broker for ever
	}
	f.ran.Wait()
}

// last sends what ends all runs, after halt, and then a save to a stream of its own in each partition, which comes out when everything
// before it has. It returns those streams.
func (f *feed) last(partitions int32) (ids []stream.ID) {
	for _, p := range f.parts {
		for _, ev := range p.source.Settle() {
			f.sendEvent(p, ev)
		}
		id := stream.ID{Environment: "dev", Integration: "sim", Model: "Last"}
		for i := 0; i == 0 || stream.Partition(id.Key(), partitions) != p.partition; i++ {
			id.Connection = fmt.Sprintf("last-%d", i)
		}
		f.sendEvent(p, saveEvent(id, "last", `{"id":"last"}`))
		ids = append(ids, id)
		p.flying.Wait()
	}
	return ids
}

// pauseFeed stops the feed until the returned function is called. Everything sent has been acknowledged when it returns.
func (f *feed) pauseFeed() (resume func()) {
	f.t.Helper()
	f.gate.Lock()
	ctx, cancel := context.WithTimeout(f.t.Context(), startWait)
	defer cancel()
	if err := f.cl.Flush(ctx); err != nil {
		f.gate.Unlock()
		f.t.Fatalf("events that are not acknowledged after %s: %v", startWait, err)
	}
	return f.gate.Unlock
}

// send sends n events without waiting for them.
func (f *feed) send(p *partFeed, n int) {
	for range n {
		f.sendEvent(p, p.source.Next())
	}
}

func (f *feed) sendEvent(p *partFeed, ev model.RawEvent) {
	r := kafkaRecord(f.topic, p.partition, ev)
	p.mu.Lock()
	number := int64(len(p.sums))
	p.sums = append(p.sums, sum(r))
	p.mu.Unlock()
	p.flying.Add(1)
	f.cl.Produce(context.Background(), r, func(r *kgo.Record, err error) {
		defer p.flying.Done()
		switch {
		case err != nil && f.refusals:
			p.mu.Lock()
			p.refused = err
			p.mu.Unlock()
		case err != nil:
			if !f.t.Failed() {
				f.t.Errorf("partition %d, event %d: %v", p.partition, number, err)
			}
		case r.Offset != number && !f.refusals:
			f.t.Errorf("partition %d, event %d was acknowledged at offset %d", p.partition, number, r.Offset)
		default:
			p.mu.Lock()
			defer p.mu.Unlock()
			p.acked++
			if _, twice := p.places[r.Offset]; twice {
				f.t.Errorf("partition %d: two events were acknowledged at offset %d", p.partition, r.Offset)
			}
			if f.refusals {
				p.places[r.Offset] = sum(r)
			}
		}
	})
}

func kafkaRecord(topic string, partition int32, ev model.RawEvent) *kgo.Record {
	r := &kgo.Record{Topic: topic, Partition: partition, Key: ev.Key, Value: ev.Value}
	for _, h := range ev.Headers {
		r.Headers = append(r.Headers, kgo.RecordHeader{Key: string(h.Key), Value: h.Value})
	}
	return r
}

func (p *partFeed) counts() (sent, acked int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.sums), p.acked
}

func (p *partFeed) sumAt(offset int64) (uint64, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if offset >= int64(len(p.sums)) {
		return 0, false
	}
	return p.sums[offset], true
}

// sum is a digest of all that a record says.
func sum(r *kgo.Record) uint64 {
	h := xxh3.New()
	part := func(b []byte) { fmt.Fprintf(h, "%d:%s", len(b), b) }
	part(r.Key)
	part(r.Value)
	for _, header := range r.Headers {
		part([]byte(header.Key))
		part(header.Value)
	}
	return h.Sum64()
}

// mixed takes from one of two sources at random.
type mixed struct {
	rng  *rand.Rand
	a, b source
	of10 int // how many of ten come from a
}

func (m *mixed) Next() model.RawEvent {
	if m.rng.IntN(10) < m.of10 {
		return m.a.Next()
	}
	return m.b.Next()
}

func (m *mixed) Settle() []model.RawEvent { return append(m.a.Settle(), m.b.Settle()...) }

// halves is a sync that saves one half of its records in one run and the other half in the next, so that each run deletes as many
// records as it adds: more than a sweep writes in one chunk.
type halves struct {
	id  stream.ID
	ids int // of one half
	run uint64
	at  int
}

// newHalves returns a sync whose stream lies in partition.
func newHalves(ids int, partition, partitions int32) *halves {
	for i := 0; ; i++ {
		id := stream.ID{Environment: "dev", Integration: "sim", Connection: fmt.Sprintf("halves-%d", i), Model: "Half"}
		if stream.Partition(id.Key(), partitions) == partition {
			return &halves{id: id, ids: ids}
		}
	}
}

func (h *halves) Next() model.RawEvent {
	r := event.Raw{Run: h.run}
	switch {
	case h.run == 0 || h.at > h.ids:
		h.run++
		h.at = 0
		r.Type, r.Run = event.RawRunStarted, h.run
	case h.at == h.ids:
		h.at++
		all := 1.0
		r.Type, r.Value = event.RawRunCompleted, mustJSON(event.RunEnd{DeleteMissing: true, Events: uint64(h.ids), MaxDeleteRatio: &all})
	default:
		id := fmt.Sprintf("h%d-%d", h.run%2, h.at)
		h.at++
		r.Type, r.ID, r.N = event.RawSave, []byte(id), uint64(h.at)
		r.Value = fmt.Appendf(nil, `{"id":%q,"half":%d,"text":%q}`, id, h.run%2, strings.Repeat("comes and goes, ", 10))
	}
	return model.RawEvent{Key: []byte(h.id.Key()), Value: r.Value, Headers: r.Headers(nil)}
}

// Settle lets the run stay open: what it has not saved is not deleted.
func (h *halves) Settle() []model.RawEvent { return nil }

func mustJSON(v any) []byte {
	b, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	return b
}

// saveEvent is a save outside of any run.
func saveEvent(id stream.ID, record, payload string) model.RawEvent {
	r := event.Raw{Type: event.RawSave, ID: []byte(record), Value: []byte(payload)}
	return model.RawEvent{Key: []byte(id.Key()), Value: r.Value, Headers: r.Headers(nil)}
}

// write writes events, each to the partition of its stream.
func (s *site) write(events []model.RawEvent) {
	s.t.Helper()
	records := make([]*kgo.Record, len(events))
	for i, ev := range events {
		records[i] = kafkaRecord(s.names.Raw, stream.Partition(ev.Key, s.partitions), ev)
	}
	s.writeRecords(records...)
}

// writeTo writes an event to a partition that need not be that of its stream.
func (s *site) writeTo(partition int32, ev model.RawEvent) {
	s.t.Helper()
	s.writeRecords(kafkaRecord(s.names.Raw, partition, ev))
}

func (s *site) writeRecords(records ...*kgo.Record) {
	s.t.Helper()
	cl, err := kgo.NewClient(producerOptions(s.kafka)...)
	must(s.t, err)
	defer cl.Close()
	ctx, cancel := context.WithTimeout(s.t.Context(), startWait)
	defer cancel()
	must(s.t, cl.ProduceSync(ctx, records...).FirstErr())
}
