package api_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sys/unix"

	"github.com/tidemark-dev/tidemark/api"
	"github.com/tidemark-dev/tidemark/api/apitest"
	"github.com/tidemark-dev/tidemark/schemas/stream"
)

var benchStream = stream.ID{Environment: "dev", Integration: "demo", Connection: "acme", Model: "Contact", Variant: stream.VariantBase}

// BenchmarkRecords reads pages of 1,000 records over loopback, with as many clients at a time as the name says, server and
// clients in one process. A client counts the records of each page and finds the next cursor. One operation is one page.
func BenchmarkRecords(b *testing.B) {
	const records, limit = 20_000, 1000
	for _, size := range []int{350, 800} {
		view := apitest.NewMemory()
		var payload []byte
		for i := range records {
			id := fmt.Sprintf("rec-%08d", i)
			payload = api.SamplePayload(id, size)
			if err := view.Apply(benchStream, apitest.Change{ID: id, Payload: payload}); err != nil {
				b.Fatal(err)
			}
		}
		for _, clients := range []int{1, 2, 4} {
			b.Run(fmt.Sprintf("%dB/clients=%d", size, clients), func(b *testing.B) {
				base := serve(b, view)
				var left, counted, received atomic.Int64
				left.Store(int64(b.N))
				done := make(chan error, clients)
				b.ReportAllocs()
				b.ResetTimer()
				before := cpuTime(b)
				for range clients {
					go func() {
						r := &counter{url: fmt.Sprintf("%s/records?model=Contact&limit=%d", base, limit)}
						for left.Add(-1) >= 0 {
							if err := r.page(b.Context()); err != nil {
								done <- err
								return
							}
						}
						counted.Add(r.records)
						received.Add(r.bytes)
						done <- nil
					}()
				}
				for range clients {
					if err := <-done; err != nil {
						b.Fatal(err)
					}
				}
				b.StopTimer()
				cpu := cpuTime(b) - before
				if counted.Load() != int64(b.N)*limit {
					b.Fatalf("%d records counted in %d pages of %d", counted.Load(), b.N, limit)
				}
				b.ReportMetric(float64(counted.Load())/b.Elapsed().Seconds(), "records/s")
				b.ReportMetric(float64(cpu.Nanoseconds())/float64(counted.Load()), "cpu-ns/record")
				b.ReportMetric(float64(received.Load())/b.Elapsed().Seconds()/1e6, "MB/s")
				b.ReportMetric(float64(received.Load())/float64(counted.Load()), "B/record")
				b.ReportMetric(float64(len(payload)), "payload-B")
			})
		}
	}
}

// cpuTime is what the process has used, user and system. Unlike the clock it means something on a busy machine.
func cpuTime(b *testing.B) time.Duration {
	var u unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// counter reads the stream from its start, again and again.
type counter struct {
	url            string
	cursor         string
	buf            []byte
	records, bytes int64
}

func (r *counter) page(ctx context.Context) error {
	url := r.url
	if r.cursor != "" {
		url += "&cursor=" + r.cursor
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	req.Header.Set("Connection-Id", benchStream.Connection)
	req.Header.Set("Provider-Config-Key", benchStream.Integration)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK || resp.ContentLength < 0 {
		return fmt.Errorf("status %d, length %d", resp.StatusCode, resp.ContentLength)
	}
	if int64(cap(r.buf)) < resp.ContentLength {
		r.buf = make([]byte, resp.ContentLength)
	}
	body := r.buf[:resp.ContentLength]
	if _, err := io.ReadFull(resp.Body, body); err != nil {
		return err
	}
	r.records += int64(bytes.Count(body, []byte(`"_nango_metadata":`)))
	r.bytes += int64(len(body))
	var tail struct {
		NextCursor string `json:"next_cursor"`
	}
	at := bytes.LastIndexByte(body, ',')
	if err := json.Unmarshal(append([]byte("{"), body[at+1:]...), &tail); err != nil {
		return err
	}
	r.cursor = tail.NextCursor
	return nil
}

// serve starts a server on a free loopback port and stops it with the test.
func serve(tb testing.TB, view api.View) (base string) {
	tb.Helper()
	srv := newServer(tb, view, nil)
	ln, err := api.Listen("127.0.0.1:0", false)
	if err != nil {
		tb.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- srv.Serve(ctx, ln) }()
	tb.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			tb.Error(err)
		}
	})
	return "http://" + ln.Addr().String()
}

// newServer makes a server over view with settings that a test changes.
func newServer(tb testing.TB, view api.View, change func(*api.Config)) *api.Server {
	tb.Helper()
	cfg := api.DefaultConfig()
	cfg.Lineage = "test"
	if change != nil {
		change(&cfg)
	}
	reg := prometheus.NewRegistry()
	srv, err := api.New(cfg, api.Deps{View: view, Logger: slog.New(slog.NewTextHandler(io.Discard, nil)), Metrics: api.NewMetrics(reg), Gatherer: reg})
	if err != nil {
		tb.Fatal(err)
	}
	return srv
}
