package follow

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/tidemark-dev/tidemark/schemas/errcode"
	"github.com/tidemark-dev/tidemark/schemas/event"
)

func newFetcher(t testing.TB, addr string) *Fetcher {
	t.Helper()
	f, err := NewFetcher(config(addr))
	must(t, err)
	t.Cleanup(f.Close)
	return f
}

// sized are changes with values of very different sizes.
func sized(r *rand.Rand, n int) []Record {
	out := make([]Record, n)
	for i := range out {
		size := 1 << r.IntN(12)
		if r.IntN(50) == 0 {
			size = 3 << 20
		}
		out[i] = Record{
			Op: event.OpUpdated, Key: []byte(fmt.Sprint("dev/demo/acme/Brand/base/", i)), Value: bytes.Repeat([]byte{byte('a' + i%26)}, size),
			Meta: event.Meta{Term: 1, CSN: uint64(i + 1), SID: 1, Record: true, Algo: event.AlgoXXH3, Rev: 1, FirstSeen: 1, RawOffset: -1},
		}
	}
	return out
}

func TestFetcher_ReadsExactlyTheRecordAtAnOffset(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	r := rand.New(rand.NewPCG(seed, 1))
	b := startBroker(t, t.TempDir(), "127.0.0.1:0")
	l := newLog(t, b.Addr(), kgo.ProducerLinger(5*time.Millisecond), kgo.ProducerBatchMaxBytes(8<<20))
	records := sized(r, 300)
	for from := 0; from < len(records); { // batches of any length
		n := min(1+r.IntN(40), len(records)-from)
		l.write(2, records[from:from+n]...)
		from += n
	}
	f := newFetcher(t, b.Addr())
	var wg sync.WaitGroup
	for i := range 60 {
		want := records[r.IntN(len(records))]
		wg.Go(func() {
			got, err := f.Record(t.Context(), 2, want.Offset)
			if err != nil {
				t.Errorf("seed %d, read %d: %v", seed, i, err)
				return
			}
			if got.Offset != want.Offset || got.Meta.CSN != want.Meta.CSN || got.Op != want.Op || !bytes.Equal(got.Key, want.Key) || !bytes.Equal(got.Value, want.Value) {
				t.Errorf("seed %d: offset %d: csn %d, key %s, %d bytes; want csn %d", seed, want.Offset, got.Meta.CSN, got.Key, len(got.Value), want.Meta.CSN)
			}
		})
	}
	wg.Wait()

	last := records[len(records)-1].Offset
	if _, err := f.Record(t.Context(), 2, last+1); code(err) != errcode.CursorAhead && code(err) != errcode.CursorExpired {
		t.Errorf("behind the end: %v", err)
	}
	if _, err := f.Record(t.Context(), testPartitions, 0); code(err) != errcode.TopicDrift {
		t.Errorf("a partition that is not there: %v", err)
	}

	// What was trimmed is gone, what was not is there.
	adm := kadm.NewClient(l.cl)
	cut := records[150].Offset
	_, err := adm.DeleteRecords(t.Context(), kadm.Offsets{testNames.Changes: {2: {Topic: testNames.Changes, Partition: 2, At: cut}}})
	must(t, err)
	var gone *PositionError
	if _, err := f.Record(t.Context(), 2, cut-1); !errors.As(err, &gone) || code(err) != errcode.CursorExpired {
		t.Errorf("below the start: %v", err)
	}
	if got, err := f.Record(t.Context(), 2, cut); err != nil || got.Meta.CSN != records[150].Meta.CSN {
		t.Errorf("at the start: %+v, %v", got, err)
	}
}

func code(err error) errcode.Code {
	var e *errcode.Error
	if errors.As(err, &e) {
		return e.Code
	}
	return ""
}

func TestFetcher_GivesUpWithoutABroker(t *testing.T) {
	f := newFetcher(t, "127.0.0.1:1")
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	if _, err := f.Record(ctx, 0, 0); code(err) != errcode.Unreachable && !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("%v", err)
	}
}

func TestFetcher_SurvivesABrokerThatComesBack(t *testing.T) {
	dir := t.TempDir()
	b := startBroker(t, dir, "127.0.0.1:0")
	addr := b.Addr()
	l := newLog(t, addr)
	records := sized(rand.New(rand.NewPCG(1, 1)), 3)
	l.write(0, records...)
	f := newFetcher(t, addr)
	if _, err := f.Record(t.Context(), 0, records[1].Offset); err != nil {
		t.Fatal(err)
	}
	must(t, b.Close())
	done := make(chan error, 1)
	go func() {
		got, err := f.Record(t.Context(), 0, records[2].Offset)
		if err == nil && got.Meta.CSN != records[2].Meta.CSN {
			err = fmt.Errorf("csn %d", got.Meta.CSN)
		}
		done <- err
	}()
	startBroker(t, dir, addr)
	if err := <-done; err != nil {
		t.Error(err)
	}
}

func BenchmarkFetcher(b *testing.B) {
	broker := startBroker(b, b.TempDir(), "127.0.0.1:0")
	l := newLog(b, broker.Addr())
	records := sized(rand.New(rand.NewPCG(1, 1)), 100)
	l.write(0, records...)
	f := newFetcher(b, broker.Addr())
	for i := 0; b.Loop(); i++ {
		if _, err := f.Record(b.Context(), 0, records[i%len(records)].Offset); err != nil {
			b.Fatal(err)
		}
	}
}
