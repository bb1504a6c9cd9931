package kafka

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/tidemark-dev/tidemark/processor/batch"
	"github.com/tidemark-dev/tidemark/processor/kafka/faultconn"
)

// TestProperty_ReadWhatWasAcked: with connections that break at random, leaders that move and writers that die, a reader gets every
// batch that was acked exactly once, where it was acked to be, and of the others each at most once; and behind a batch of a Writer
// that is missing there is none of the same Writer.
func TestProperty_ReadWhatWasAcked(t *testing.T) {
	seeds := 30
	if testing.Short() {
		seeds = 5
	}
	for range seeds {
		seed := rand.Uint64()
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { property(t, seed) })
		})
	}
}

func property(t *testing.T, seed uint64) {
	rng := rand.New(rand.NewPCG(seed, 1))
	e := newEnv(t, true)
	e.faults = faultconn.New(seed)
	l := e.open(func(c *Config) {
		c.FetchMaxBytes = 500 + rng.Int32N(5000)
		c.Compression = []batch.Codec{batch.None, batch.Snappy, batch.LZ4, batch.Zstd}[rng.IntN(4)]
	})
	all := []faultconn.Action{
		{Kind: faultconn.Close}, {Kind: faultconn.Cut}, {Kind: faultconn.LoseAnswer}, {Kind: faultconn.LoseRequest}, {Kind: faultconn.Silence},
		{Kind: faultconn.Delay, Delay: 50 * time.Millisecond}, {Kind: faultconn.Delay, Delay: 3 * time.Second},
	}
	for key, p := range map[kmsg.Key]float64{kmsg.Produce: 0.1, kmsg.Fetch: 0.1, kmsg.Metadata: 0.1, kmsg.InitProducerID: 0.1, kmsg.ApiVersions: 0.02} {
		e.faults.Random(int16(key), p, all...)
	}
	const writers, batches = 3, 40
	type sent struct{ first, n int }
	acked := make([]map[int64]sent, writers) // by base offset
	tried := make([]int, writers)            // batches, acked or not; each begins at a multiple of 100
	deaths := make([]int, writers)
	var wg sync.WaitGroup
	for i := range writers {
		acked[i] = make(map[int64]sent)
		pause := rand.New(rand.NewPCG(seed, uint64(i+2)))
		wg.Go(func() {
			var w *Writer
			for k := range batches {
				if w == nil {
					var err error
					if w, err = l.Writer(e.ctx, 0); err != nil {
						t.Error(err)
						return
					}
				}
				first, n := i*1_000_000+k*100, 1+pause.IntN(50)
				base, err := w.Append(e.ctx, names.Changes, numbered(first, n), nil)
				tried[i]++
				if err == nil {
					acked[i][base] = sent{first, n}
				} else {
					if !errors.Is(err, ErrWriterDead) {
						t.Errorf("got %v", err)
					}
					deaths[i]++
					w.Close()
					w = nil
				}
				time.Sleep(time.Duration(pause.IntN(200)) * time.Millisecond)
			}
			if w != nil {
				w.Close()
			}
		})
	}
	wg.Go(func() {
		for range 10 {
			time.Sleep(time.Duration(rng.IntN(1000)) * time.Millisecond)
			switch rng.IntN(3) {
			case 0:
				e.ShufflePartitionLeaders()
			case 1:
				e.faults.CloseAll()
			case 2:
				e.faults.Refuse(true)
				time.Sleep(time.Duration(rng.IntN(2000)) * time.Millisecond)
				e.faults.Refuse(false)
			}
		}
	})
	stopped := make(chan struct{})
	go func() { wg.Wait(); e.faults.Wait(); close(stopped) }()

	// The reader reads while all this goes on, and until the end that the log has when it is over.
	got := make(map[int64]sent)
	sequence := make(map[int64]int32) // by producer id: the next number
	r := l.Reader(names.Changes, 0, 0)
	defer r.Close()
	next, end := int64(0), int64(-1)
	for end < 0 || r.Position() < end {
		bs, err := r.Next(e.ctx)
		if err != nil {
			t.Fatal(err)
		}
		for i := range bs {
			if bs[i].Base != next {
				t.Fatalf("batch at offset %d, want %d", bs[i].Base, next)
			}
			next = bs[i].Last + 1
			if id := bs[i].ProducerID; bs[i].BaseSeq != sequence[id] {
				t.Fatalf("batch at offset %d has sequence %d, want %d", bs[i].Base, bs[i].BaseSeq, sequence[id])
			} else {
				sequence[id] += bs[i].Count
			}
			vs := values(t, bs[i:i+1], 0)
			if !slices.Equal(vs, ascending(vs[0], int(bs[i].Count))) {
				t.Fatalf("batch of %v", vs)
			}
			got[bs[i].Base] = sent{vs[0], len(vs)}
		}
		select {
		case <-stopped:
			e.faults.Calm()
			if _, end, err = l.Bounds(e.ctx, names.Changes, 0); err != nil {
				t.Fatal(err)
			}
			stopped = nil
		default:
		}
	}
	seen := make(map[int]bool)
	for base, s := range got {
		if seen[s.first] {
			t.Fatalf("batch %d is twice in the log", s.first)
		}
		seen[s.first] = true
		if of := s.first / 1_000_000; tried[of] <= s.first%1_000_000/100 {
			t.Fatalf("batch %d at %d was never written", s.first, base)
		}
	}
	total := 0
	for i := range writers {
		for base, s := range acked[i] {
			if got[base] != s {
				t.Fatalf("acked %v at offset %d, read %v", s, base, got[base])
			}
		}
		total += len(acked[i])
	}
	t.Logf("%d acked of %d, %d in the log, deaths %v", total, writers*batches, len(got), deaths)
}
