package chaos

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
)

// tapes are what a plain consumer has read of each partition of the topics, from the start. It outlives the processes.
type tapes struct {
	t       testing.TB
	addr    string
	topics  []string
	mu      sync.Mutex
	of      map[string][]*tape // by topic
	changed chan struct{}
}

// tape is one partition. Offsets are consecutive from 0: there are no transactions, and nothing is trimmed.
type tape struct {
	name  string
	sums  []uint64      // by offset
	fresh []*kgo.Record // not yet taken by an audit
	keep  bool          // records are for an audit
}

// consumerOptions have a client read every partition from its start, and fail, not jump, if an offset is gone.
func consumerOptions(addr string, topics []string, partitions int32) []kgo.Opt {
	from := map[string]map[int32]kgo.Offset{}
	for _, name := range topics {
		from[name] = map[int32]kgo.Offset{}
		for p := range partitions {
			from[name][p] = kgo.NewOffset().At(0)
		}
	}
	return []kgo.Opt{
		kgo.SeedBrokers(addr), kgo.ConsumePartitions(from), kgo.ConsumeResetOffset(kgo.NoResetOffset()), kgo.DisableClientMetrics(),
		kgo.FetchMaxWait(100 * time.Millisecond), kgo.RetryBackoffFn(func(int) time.Duration { return 50 * time.Millisecond }),
		kgo.MetadataMinAge(50 * time.Millisecond), kgo.FetchIsolationLevel(kgo.ReadCommitted()),
	}
}

func newTapes(s *site) *tapes {
	tp := &tapes{
		t: s.t, addr: s.kafka, topics: []string{s.names.Raw, s.names.Changes, s.names.DLQ}, of: map[string][]*tape{},
		changed: make(chan struct{}),
	}
	for _, name := range tp.topics {
		for p := range s.partitions {
			tp.of[name] = append(tp.of[name], &tape{name: fmt.Sprintf("%s/%d", name, p), keep: true})
		}
	}
	return tp
}

// record consumes until the test ends, or stop is called.
func (tp *tapes) record(partitions int32) (stop func()) {
	tp.t.Helper()
	cl, err := kgo.NewClient(consumerOptions(tp.addr, tp.topics, partitions)...)
	must(tp.t, err)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		for ctx.Err() == nil {
			tp.take(cl.PollFetches(ctx))
		}
	}()
	stop = sync.OnceFunc(func() {
		cancel()
		<-done
		cl.Close()
	})
	tp.t.Cleanup(stop)
	return stop
}

func (tp *tapes) take(fetches kgo.Fetches) {
	fetches.EachError(func(topic string, p int32, err error) {
		var loss *kgo.ErrDataLoss
		if errors.Is(err, kerr.OffsetOutOfRange) || errors.As(err, &loss) {
			tp.t.Errorf("%s/%d: what was read is no longer there: %v", topic, p, err)
		}
	})
	tp.mu.Lock()
	defer tp.mu.Unlock()
	fetches.EachRecord(func(r *kgo.Record) {
		if err := tp.of[r.Topic][r.Partition].add(r); err != nil {
			tp.t.Error(err)
		}
	})
	close(tp.changed)
	tp.changed = make(chan struct{})
}

func (t *tape) add(r *kgo.Record) error {
	if r.Offset != int64(len(t.sums)) {
		return fmt.Errorf("%s: offset %d where %d is due", t.name, r.Offset, len(t.sums))
	}
	t.sums = append(t.sums, sum(r))
	if t.keep {
		t.fresh = append(t.fresh, r)
	}
	return nil
}

// drain hands out the records that came since the last call.
func (tp *tapes) drain(topic string, partition int32) []*kgo.Record {
	tp.mu.Lock()
	defer tp.mu.Unlock()
	t := tp.of[topic][partition]
	fresh := t.fresh
	t.fresh = nil
	return fresh
}

func (tp *tapes) end(topic string, partition int32) int64 {
	tp.mu.Lock()
	defer tp.mu.Unlock()
	return int64(len(tp.of[topic][partition].sums))
}

// awaitRead waits until the tape has everything that the broker says that there is.
func (tp *tapes) awaitRead(s *site) {
	tp.t.Helper()
	ends := s.ends(tp.topics)
	eventually(tp.t, startWait, func() string {
		for name, parts := range ends {
			for p, end := range parts {
				if have := tp.end(name, p); have < end {
					return fmt.Sprintf("%s/%d was read up to %d of %d", name, p, have, end)
				}
			}
		}
		return ""
	})
}

// ends asks for the ends of all partitions.
func (s *site) ends(topics []string) map[string]map[int32]int64 {
	s.t.Helper()
	cl, err := kgo.NewClient(kgo.SeedBrokers(s.kafka), kgo.DisableClientMetrics())
	must(s.t, err)
	defer cl.Close()
	ctx, cancel := context.WithTimeout(s.t.Context(), startWait)
	defer cancel()
	listed, err := kadm.NewClient(cl).ListEndOffsets(ctx, topics...)
	must(s.t, err)
	must(s.t, listed.Error())
	out := map[string]map[int32]int64{}
	listed.Each(func(o kadm.ListedOffset) {
		if out[o.Topic] == nil {
			out[o.Topic] = map[int32]int64{}
		}
		out[o.Topic][o.Partition] = o.Offset
	})
	return out
}

// reread reads everything once more from the start with a client of its own.
func (tp *tapes) reread(s *site) *tapes {
	tp.t.Helper()
	again := newTapes(s)
	ends := s.ends(tp.topics)
	left := 0
	for _, parts := range ends {
		for _, end := range parts {
			if end > 0 {
				left++
			}
		}
	}
	opts := consumerOptions(s.kafka, tp.topics, s.partitions)
	opts = append(opts, kgo.FetchMaxPartitionBytes(1<<20+int32(rand.IntN(1<<20))))
	cl, err := kgo.NewClient(opts...)
	must(tp.t, err)
	defer cl.Close()
	ctx, cancel := context.WithTimeout(tp.t.Context(), 2*startWait)
	defer cancel()
	for left > 0 {
		fetches := cl.PollFetches(ctx)
		must(tp.t, fetches.Err())
		again.take(fetches)
		fetches.EachPartition(func(f kgo.FetchTopicPartition) {
			n, end := len(f.Records), ends[f.Topic][f.Partition]
			if n > 0 && f.Records[0].Offset < end && f.Records[n-1].Offset+1 >= end {
				left--
			}
		})
	}
	return again
}

// checkPrefix is I10: what was read once is there for ever, where it was.
func (tp *tapes) checkPrefix(again *tapes) {
	tp.t.Helper()
	tp.mu.Lock()
	defer tp.mu.Unlock()
	for name, list := range tp.of {
		for p, old := range list {
			now := again.of[name][p]
			if len(now.sums) < len(old.sums) {
				tp.t.Errorf("I10: %s had %d records, has %d", old.name, len(old.sums), len(now.sums))
				continue
			}
			for offset, want := range old.sums {
				if now.sums[offset] != want {
					tp.t.Errorf("I10: %s has another record at offset %d", old.name, offset)
					break
				}
			}
		}
	}
}
