package bench

import (
	"bytes"
	"context"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/tidemark-dev/tidemark/schemas/stream"
)

// BenchmarkLatency saves 1,000 records a second, one call each that waits for the broker, and takes the time from the call until the
// record came out of GET /records. Everything is one process.
func BenchmarkLatency(b *testing.B) {
	once(b)
	const rate, seconds, size, streams = 1000, 6, 350, 20
	n := rate * seconds
	in := newInput(streams, n, size, partitions)
	w := startWhole(b)
	p, endProducer := newProducer(b, w.seed)
	defer endProducer()

	began := make([]time.Time, n)
	acked := make([]time.Duration, n)
	seen := make([]time.Duration, n)
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	var readers, writers sync.WaitGroup
	for s, id := range in.ids {
		readers.Go(func() {
			if err := in.follow(ctx, w, s, id, func(i int, at time.Time) { seen[i] = at.Sub(began[i]) }); err != nil {
				b.Error(err)
			}
		})
	}
	nth := func(k int) int { return k%streams*(n/streams) + k/streams } // the streams take turns
	started := time.Now()
	for k := range n {
		// By the clock and not by a ticker, which leaves out what it is late for.
		if due := started.Add(time.Duration(k) * time.Second / rate); time.Until(due) > 0 {
			<-time.After(time.Until(due))
		}
		i := nth(k)
		began[i] = time.Now()
		writers.Go(func() {
			if err := p.Stream(in.ids[in.stream(i)]).Save(ctx, recordID(i), in.payload(nil, i, 0)); err != nil {
				b.Error(err)
			}
			acked[i] = time.Since(began[i])
		})
	}
	b.Logf("%.0f saves a second", float64(n)/time.Since(started).Seconds())
	writers.Wait()
	readers.Wait()
	if slices.Min(seen) <= 0 {
		b.Fatal("a record was not seen")
	}
	at := func(d []time.Duration, q float64) float64 {
		var s []time.Duration
		for k := rate; k < n; k++ { // the first second is for connections and the like
			s = append(s, d[nth(k)])
		}
		slices.Sort(s)
		return float64(s[min(len(s)-1, int(q*float64(len(s))))].Microseconds()) / 1e3
	}
	const baseline = "until the broker has it"
	figures.note(b.Logf, figure{"6 save to readable at 1,000 records/s, p50", "", milliseconds, at(seen, 0.5), baseline, at(acked, 0.5)})
	figures.note(b.Logf, figure{"6 save to readable at 1,000 records/s, p99", "100 ms", milliseconds, at(seen, 0.99), baseline, at(acked, 0.99)})
}

// follow pages a stream from its start as it grows, and says when each of its records came.
func (in *input) follow(ctx context.Context, w *whole, s int, id stream.ID, came func(i int, at time.Time)) error {
	first, end := in.span(s)
	p := &pager{base: "http://" + w.Endpoints().HTTP, id: id}
	left := end - first
	read := uint64(0) // csn of the newest change that the pages have had
	for deadline := time.Now().Add(time.Minute); left > 0 && time.Now().Before(deadline); time.Sleep(time.Millisecond) {
		st, err := w.Stream(id)
		if err != nil {
			return err
		}
		if st == nil || st.LastCSN == read {
			continue
		}
		read = st.LastCSN
		for p.ended = false; !p.ended; {
			body, err := p.page(ctx)
			if err != nil {
				return err
			}
			at := time.Now()
			for rest := body; ; {
				const mark = `{"id":"0`
				k := bytes.Index(rest, []byte(mark))
				if k < 0 {
					break
				}
				i := 0
				for _, c := range rest[k+len(mark)-1 : k+len(mark)+7] {
					i = 10*i + int(c-'0')
				}
				rest = rest[k+len(mark):]
				came(i, at)
				left--
			}
		}
	}
	return nil
}
