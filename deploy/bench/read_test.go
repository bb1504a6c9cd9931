package bench

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2"

	"github.com/tidemark-dev/tidemark/processor"
	"github.com/tidemark-dev/tidemark/processor/store"
	"github.com/tidemark-dev/tidemark/schemas/stream"
)

const pageRecords = 1000

// pager reads a stream from its start by pages over HTTP.
type pager struct {
	base           string
	id             stream.ID
	cursor         string
	ended          bool
	buf            []byte
	records, bytes int64
}

// page reads the next page; p.ended says that it was the last.
func (p *pager) page(ctx context.Context) ([]byte, error) {
	q := p.base + "/records?limit=" + strconv.Itoa(pageRecords) + "&model=" + url.QueryEscape(p.id.Model)
	if p.cursor != "" {
		q += "&cursor=" + url.QueryEscape(p.cursor)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, q, nil)
	if err != nil {
		return nil, err
	}
	req.Header.Set("Connection-Id", p.id.Connection)
	req.Header.Set("Provider-Config-Key", p.id.Integration)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK || resp.ContentLength < 0 {
		return nil, fmt.Errorf("status %d, length %d", resp.StatusCode, resp.ContentLength)
	}
	if int64(cap(p.buf)) < resp.ContentLength {
		p.buf = make([]byte, resp.ContentLength)
	}
	body := p.buf[:resp.ContentLength]
	if _, err := io.ReadFull(resp.Body, body); err != nil {
		return nil, err
	}
	p.records += int64(bytes.Count(body, []byte(`"_nango_metadata":`)))
	p.bytes += int64(len(body))
	var tail struct {
		NextCursor *string `json:"next_cursor"`
	}
	if err := json.Unmarshal(append([]byte("{"), body[bytes.LastIndexByte(body, ',')+1:]...), &tail); err != nil {
		return nil, fmt.Errorf("the end of a page: %w", err)
	}
	if p.ended = tail.NextCursor == nil; !p.ended {
		p.cursor = *tail.NextCursor
	} else if _, last, ok := bytes.Cut(body[max(0, bytes.LastIndex(body, []byte(`"_nango_metadata":`))):], []byte(`"cursor":"`)); ok {
		text, _, _ := bytes.Cut(last, []byte(`"`)) // from which a client goes on later
		p.cursor = string(text)
	}
	return body, nil
}

// readPages is the role of a reader: base URL, number of streams, clients at a time. It reads every stream once, says how many
// records that were and how long it took in ns, and ends.
func readPages(args []string) error {
	streams, err := strconv.Atoi(args[1])
	if err != nil {
		return err
	}
	clients, err := strconv.Atoi(args[2])
	if err != nil {
		return err
	}
	fmt.Println("ready")
	in := newInput(streams, streams, 0, 1)
	next := make(chan stream.ID, streams)
	for _, id := range in.ids {
		next <- id
	}
	close(next)
	began := time.Now()
	counts, errs := make(chan int64, clients), make(chan error, clients)
	for range clients {
		go func() {
			var n int64
			for id := range next {
				p := &pager{base: args[0], id: id}
				for !p.ended {
					if _, err := p.page(context.Background()); err != nil {
						errs <- err
						return
					}
				}
				n += p.records
			}
			counts <- n
		}()
	}
	var sum int64
	for range clients {
		select {
		case n := <-counts:
			sum += n
		case err := <-errs:
			return err
		}
	}
	fmt.Println(sum, time.Since(began).Nanoseconds())
	untilParentEnds()
	return nil
}

// readAll reads every stream from another process. The wall time is the reader's, the CPU time is ours.
func readAll(tb testing.TB, name, base string, streams, want int) span {
	tb.Helper()
	r := start(tb, "reader", base, strconv.Itoa(streams), "2")
	defer r.stop()
	stop := meter(tb, name)
	var got, ns int64
	if _, err := fmt.Fscan(r.out, &got, &ns); err != nil {
		tb.Fatal(err)
	}
	s := stop()
	s.wall = time.Duration(ns)
	if got != int64(want) {
		tb.Fatalf("%d records read of %d", got, want)
	}
	return s
}

// BenchmarkRead reads all records by pages of 1,000 over HTTP, from another process with two clients, and compares with a server that
// has the same answers ready in memory.
func BenchmarkRead(b *testing.B) {
	for _, size := range []int{350, 800} {
		b.Run(fmt.Sprintf("%dB", size), func(b *testing.B) {
			once(b)
			n := records(b)
			in := newInput(20, n, size, partitions)
			w := startWhole(b)
			p, endProducer := newProducer(b, w.seed)
			w.done(b, in, in.save(b, p, 0, everyInOrder))
			endProducer()
			base := "http://" + w.Endpoints().HTTP
			readAll(b, "", base, len(in.ids), n) // connections, page cache
			s := readAll(b, fmt.Sprintf("read %d", size), base, len(in.ids), n)
			ready := readAll(b, "", canned(b, base, in), len(in.ids), n)
			const baseline = "net/http with the same answers ready in memory"
			measure := fmt.Sprintf("5 pages of 1,000 over HTTP, %d B", size)
			figures.note(b.Logf, figure{measure, "500 k", perSecond, s.perWall(n), baseline, ready.perWall(n)})
			figures.note(b.Logf, figure{measure + ", CPU of the server", "", perCPUSecond, s.perCPU(n), baseline, ready.perCPU(n)})
		})
	}
}

// canned serves the answers that base gives, each as it was the first time.
func canned(tb testing.TB, base string, in *input) string {
	tb.Helper()
	answers := map[string][]byte{}
	for _, id := range in.ids {
		p := &pager{base: base, id: id}
		for !p.ended {
			at := id.Connection + " " + p.cursor
			body, err := p.page(context.Background())
			if err != nil {
				tb.Fatal(err)
			}
			answers[at] = slices.Clone(body)
		}
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	srv := &http.Server{ReadHeaderTimeout: 10 * time.Second, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body := answers[r.Header.Get("Connection-Id")+" "+r.URL.Query().Get("cursor")]
		w.Header().Set("Content-Type", "application/json")
		w.Header().Set("Content-Length", strconv.Itoa(len(body)))
		_, _ = w.Write(body) // a client that is gone has failed by itself
	})}
	var wg sync.WaitGroup
	wg.Go(func() { _ = srv.Serve(ln) })
	tb.Cleanup(func() {
		_ = srv.Close()
		wg.Wait()
	})
	return "http://" + ln.Addr().String()
}

// BenchmarkSparsePage reads 1,000 live rows that are spread over 43,600 csn: 20 streams in one partition, written in random order, and
// after that a part of the records was changed, so that 459 of 1,000 are still where they were.
func BenchmarkSparsePage(b *testing.B) {
	once(b)
	const size, streams, stay = 800, 20, 0.459
	n := records(b)
	in := newInput(streams, n, size, 1)
	seed, dir := startBroker(b, 1), b.TempDir()
	r := run(b, seed, dir, nil)
	in.feed(b, seed, 0, shuffled(n, 1))
	r.measure(b, "", n)
	moved := int(float64(n) * (1 - stay))
	in.feed(b, seed, 1, shuffled(n, 2)[:moved])
	r.measure(b, "", moved)
	r.stop()

	took := map[string][]float64{}
	pages := func(name string, p *processor.Processor, repeat int) {
		for _, id := range in.ids {
			for k := range repeat {
				began := time.Now()
				rows, bytes, sum := 0, 0, uint64(0)
				end, _, err := p.Page(context.Background(), id, store.Query{Limit: pageRecords}, func(row *store.Row) error {
					rows++
					bytes += len(row.Payload)
					sum += binary.LittleEndian.Uint64(row.Payload) + row.CSN
					return nil
				})
				t := time.Since(began)
				if err != nil {
					b.Fatal(err)
				}
				if rows != pageRecords || sum == 0 || bytes < rows*size/2 || end.LastCSN < 40_000 || end.LastCSN > 47_000 {
					b.Fatalf("page of %s: %d rows, %d bytes, up to csn %d", id, rows, bytes, end.LastCSN)
				}
				if repeat == 1 || k > 0 {
					took[name] = append(took[name], float64(t.Microseconds())/1e3)
				}
			}
		}
	}
	r = run(b, seed, dir, nil)
	stopProfile := profile(b, "sparse page")
	pages("cached", r.p, 9)
	stopProfile()
	r.stop()
	r = run(b, seed, dir, func(c *processor.Config) { c.SegmentCache = 1 })
	pages("file", r.p, 3)
	r.stop()

	single := singleGets(b, in, n)
	const baseline = "1,000 gets from a Pebble with one row a record"
	figures.note(b.Logf, figure{"11 sparse page of 1,000 rows, 800 B, warm", "3 ms", milliseconds, median(took["cached"]), baseline, single})
	figures.note(b.Logf, figure{"11 sparse page, files in the page cache, no block decoded", "", milliseconds, median(took["file"]), baseline, single})
}

// singleGets is the time in ms that it takes to get 1,000 rows of one stream from a Pebble database that was filled in random order.
func singleGets(b *testing.B, in *input, n int) float64 {
	db, err := pebble.Open(b.TempDir(), &pebble.Options{DisableWAL: true, Logger: noLogger{}})
	if err != nil {
		b.Fatal(err)
	}
	defer db.Close()
	key := func(i int) []byte {
		return binary.BigEndian.AppendUint64(binary.BigEndian.AppendUint32(nil, uint32(in.stream(i))), uint64(i))
	}
	var buf []byte
	for _, i := range shuffled(n, 1) {
		buf = in.payload(buf[:0], i, 0)
		if err := db.Set(key(i), buf, pebble.NoSync); err != nil {
			b.Fatal(err)
		}
	}
	if err := db.Flush(); err != nil {
		b.Fatal(err)
	}
	var took []float64
	first, end := in.span(3)
	for range 9 {
		began := time.Now()
		sum := 0
		for k := range pageRecords {
			v, closer, err := db.Get(key(first + k*(end-first)/pageRecords))
			if err != nil {
				b.Fatal(err)
			}
			sum += len(v) + int(v[len(v)-1])
			if err := closer.Close(); err != nil {
				b.Fatal(err)
			}
		}
		if sum == 0 {
			b.Fatal("empty rows")
		}
		took = append(took, float64(time.Since(began).Microseconds())/1e3)
	}
	return median(took)
}

type noLogger struct{}

func (noLogger) Infof(string, ...any)  {}
func (noLogger) Errorf(string, ...any) {}
func (noLogger) Fatalf(format string, args ...any) {
	panic(fmt.Sprintf(format, args...))
}
