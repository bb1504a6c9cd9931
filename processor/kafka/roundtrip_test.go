package kafka

import (
	"errors"
	"math"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"
	"github.com/twmb/franz-go/pkg/kversion"

	"github.com/tidemark-dev/tidemark/processor/batch"
	"github.com/tidemark-dev/tidemark/processor/kafka/faultconn"
)

func TestRoundTrip(t *testing.T) {
	for _, c := range []batch.Codec{batch.None, batch.Snappy, batch.LZ4, batch.Zstd} {
		t.Run(c.String(), func(t *testing.T) {
			e := newEnv(t, false)
			l := e.open(func(c2 *Config) { c2.Compression = c })
			if n, err := l.Partitions(e.ctx); n != partitions || err != nil {
				t.Fatal(n, err)
			}
			for _, topic := range []string{names.Changes, names.State, names.DLQ} {
				w := e.writer(l, 1)
				var sent [][]byte
				for i := range 20 {
					base, produced := e.append(w, topic, i*50, 50)
					if base != int64(i*50) {
						t.Fatalf("base offset %d, want %d", base, i*50)
					}
					sent = append(sent, produced)
				}
				r := l.Reader(topic, 1, 0)
				defer r.Close()
				var got []int
				for len(got) < 1000 {
					bs, err := r.Next(e.ctx)
					if err != nil {
						t.Fatal(err)
					}
					for _, b := range bs {
						if !batch.SameContent(b.Raw, sent[b.Base/50]) {
							t.Fatal("a batch did not come back as it was sent")
						}
					}
					got = append(got, values(t, bs, 0)...)
				}
				if !slices.Equal(got, ascending(0, 1000)) {
					t.Fatalf("got %v", got)
				}
				if r.Position() != 1000 || r.EndOffset() != 1000 || r.LogStart() != 0 {
					t.Fatalf("position %d, end %d, start %d", r.Position(), r.EndOffset(), r.LogStart())
				}
				if bs, err := r.Next(e.ctx); len(bs) != 0 || err != nil {
					t.Fatalf("at the end: %d batches, %v", len(bs), err)
				}
				start, end, err := l.Bounds(e.ctx, topic, 1)
				if start != 0 || end != 1000 || err != nil {
					t.Fatal(start, end, err)
				}
			}
		})
	}
}

// TestRoundTrip_OldBroker: topics go by name below produce 13 and fetch 13, and have no ids below metadata 10.
func TestRoundTrip_OldBroker(t *testing.T) {
	for name, v := range map[string]*kversion.Versions{"names": kversion.V3_9_0(), "no ids": kversion.V2_7_0()} {
		t.Run(name, func(t *testing.T) {
			e := newEnv(t, false, kfake.MaxVersions(v))
			l := e.open()
			e.append(e.writer(l, 0), names.Changes, 0, 10)
			r := l.Reader(names.Changes, 0, 0)
			defer r.Close()
			if got := e.read(r, 10); !slices.Equal(got, ascending(0, 10)) {
				t.Fatal(got)
			}
			if err := l.Trim(e.ctx, names.Changes, 0, 5); err != nil {
				t.Fatal(err)
			}
		})
	}
}

// TestRead_FromTheMiddle: a position inside of a batch gets the whole batch.
func TestRead_FromTheMiddle(t *testing.T) {
	e := newEnv(t, false)
	l := e.open()
	w := e.writer(l, 0)
	e.append(w, names.Changes, 0, 10)
	e.append(w, names.Changes, 10, 10)
	r := l.Reader(names.Changes, 0, 7)
	defer r.Close()
	bs, err := r.Next(e.ctx)
	if err != nil || len(bs) == 0 || bs[0].Base != 0 {
		t.Fatal(bs, err)
	}
	if got := values(t, bs, 7); !slices.Equal(got, ascending(7, 13)) || r.Position() != 20 {
		t.Fatal(got, r.Position())
	}
	r.SetPosition(12)
	if got := e.read(r, 1); !slices.Equal(got, ascending(12, 8)) {
		t.Fatal(got)
	}
}

// TestReader_WakesUp: a long poll ends when data comes, not when its time is up.
func TestReader_WakesUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := newEnv(t, true)
		l := e.open(func(c *Config) { c.FetchMaxWait = 30 * time.Second })
		w := e.writer(l, 0)
		r := l.Reader(names.Changes, 0, 0)
		defer r.Close()
		var wg sync.WaitGroup
		wg.Go(func() {
			time.Sleep(3 * time.Second)
			e.append(w, names.Changes, 0, 1)
		})
		begun := time.Now()
		if got := e.read(r, 1); len(got) != 1 {
			t.Fatal(got)
		}
		if d := time.Since(begun); d < 3*time.Second || d > 3500*time.Millisecond {
			t.Fatalf("took %v", d)
		}
		wg.Wait()
	})
}

// TestWriters_Two: neither disturbs the other; the log has all of both, each in its order.
func TestWriters_Two(t *testing.T) {
	e := newEnv(t, false)
	l := e.open()
	const n, each = 40, 5
	var wg sync.WaitGroup
	for i := range 2 {
		w := e.writer(l, 2)
		wg.Go(func() {
			for k := range n {
				if _, err := w.Append(e.ctx, names.Changes, numbered(i*1_000_000+k*each, each), nil); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	r := l.Reader(names.Changes, 2, 0)
	defer r.Close()
	var of [2][]int
	for _, v := range e.read(r, 2*n*each) {
		of[v/1_000_000] = append(of[v/1_000_000], v)
	}
	for i := range of {
		if !slices.Equal(of[i], ascending(i*1_000_000, n*each)) {
			t.Fatalf("writer %d: %v", i, of[i])
		}
	}
}

// TestWriter_TopicsAtOnce: changes and state may be written at the same time, with sequence numbers of their own.
func TestWriter_TopicsAtOnce(t *testing.T) {
	e := newEnv(t, false)
	l := e.open()
	w := e.writer(l, 0)
	var wg sync.WaitGroup
	for _, topic := range []string{names.Changes, names.State, names.DLQ} {
		wg.Go(func() {
			for k := range 50 {
				if _, err := w.Append(e.ctx, topic, numbered(k, 1), nil); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	for _, topic := range []string{names.Changes, names.State, names.DLQ} {
		r := l.Reader(topic, 0, 0)
		if got := e.read(r, 50); !slices.Equal(got, ascending(0, 50)) {
			t.Fatal(topic, got)
		}
		r.Close()
	}
}

func TestNextSequence(t *testing.T) {
	for _, c := range []struct {
		seq  int32
		n    int
		want int32
	}{{0, 1, 1}, {7, 100, 107}, {math.MaxInt32 - 1, 1, math.MaxInt32}, {math.MaxInt32, 1, 0}, {math.MaxInt32 - 3, 10, 6}} {
		if got := nextSequence(c.seq, c.n); got != c.want {
			t.Errorf("%d records behind %d: %d, want %d", c.n, c.seq, got, c.want)
		}
	}
}

func TestClose_EndsWaits(t *testing.T) {
	e := newEnv(t, false)
	l := e.open(func(c *Config) { c.FetchMaxWait = time.Minute })
	r := l.Reader(names.Changes, 0, 0)
	w := e.writer(l, 0)
	e.faults.Arm(int16(kmsg.Produce), faultconn.Action{Kind: faultconn.Delay, Delay: 100 * time.Millisecond})
	done := make(chan error, 2)
	go func() { _, err := r.Next(e.ctx); done <- err }()
	polled := e.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Fetch}, Observe: true, Count: -1})
	if err := polled.Wait(e.ctx, 1); err != nil {
		t.Fatal(err)
	}
	l.Close()
	if err := <-done; !errors.Is(err, ErrClosed) {
		t.Fatalf("got %v, want ErrClosed", err)
	}
	if _, err := r.Next(e.ctx); !errors.Is(err, ErrClosed) {
		t.Fatalf("got %v, want ErrClosed", err)
	}
	if _, err := w.Append(e.ctx, names.Changes, numbered(0, 1), nil); !errors.Is(err, ErrWriterDead) {
		t.Fatalf("got %v, want ErrWriterDead", err)
	}
	if _, err := l.Reader(names.Changes, 0, 0).Next(e.ctx); !errors.Is(err, ErrClosed) {
		t.Fatalf("got %v, want ErrClosed", err)
	}
	if _, err := l.Writer(e.ctx, 0); !errors.Is(err, ErrClosed) {
		t.Fatalf("got %v, want ErrClosed", err)
	}
	l.Close()
	r.Close()
	w.Close()
}
