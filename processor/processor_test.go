package processor

import (
	"context"
	"fmt"
	"log/slog"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/tidemark-dev/tidemark/processor/batch"
	"github.com/tidemark-dev/tidemark/processor/kafka"
	"github.com/tidemark-dev/tidemark/processor/store"
	"github.com/tidemark-dev/tidemark/schemas/event"
	"github.com/tidemark-dev/tidemark/schemas/stream"
	"github.com/tidemark-dev/tidemark/schemas/topic"
)

func testNames(t testing.TB) topic.Names {
	t.Helper()
	n, err := topic.NamesFor("t", 1)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// startProcessor runs a processor over a broker until the test ends, or stop is called.
func startProcessor(t testing.TB, seeds []string, dir string, change ...func(*Config)) (p *Processor, stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	log, err := kafka.Open(ctx, kafka.Config{Seeds: seeds, Names: testNames(t), Logger: slog.New(slog.DiscardHandler), Compression: batch.Snappy})
	if err != nil {
		t.Fatal(err)
	}
	cfg := Config{Dir: dir, Names: testNames(t), Logger: slog.New(slog.NewTextHandler(t.Output(), nil))}
	for _, c := range change {
		c(&cfg)
	}
	p, err = New(ctx, cfg, KafkaLog{log})
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- p.Run(ctx) }()
	stopped := false
	stop = func() {
		if stopped {
			return
		}
		stopped = true
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run: %v", err)
		}
		log.Close()
	}
	t.Cleanup(stop)
	return p, stop
}

func waitReady(t testing.TB, p *Processor) {
	t.Helper()
	deadline := time.Now().Add(20 * time.Second)
	for {
		ready := true
		for _, s := range p.Status() {
			ready = ready && s.Ready
		}
		if ready {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("not ready: %+v", p.Status())
		}
		time.Sleep(5 * time.Millisecond)
	}
}

// TestProcessor_RecordsComeOutAndSurviveARestart is the thin path: raw events in, pages out, and the same after a restart.
func TestProcessor_RecordsComeOutAndSurviveARestart(t *testing.T) {
	names := testNames(t)
	c, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.SeedTopics(4, names.Raw, names.Changes, names.State, names.DLQ))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	dir := t.TempDir()
	p, stop := startProcessor(t, c.ListenAddrs(), dir)
	cl, err := kgo.NewClient(kgo.SeedBrokers(c.ListenAddrs()...), kgo.RecordPartitioner(kgo.ManualPartitioner()))
	if err != nil {
		t.Fatal(err)
	}
	defer cl.Close()
	id := stream.ID{Environment: "dev", Integration: "demo", Connection: "acme", Model: "Brand"}
	const n = 5000
	for i := range n {
		r := event.Raw{Type: event.RawSave, ID: fmt.Appendf(nil, "r%d", i)}
		rec := &kgo.Record{Topic: names.Raw, Partition: stream.Partition(id.Key(), 4), Key: []byte(id.Key()), Value: fmt.Appendf(nil, `{"n":%d}`, i)}
		for _, h := range r.Headers(nil) {
			rec.Headers = append(rec.Headers, kgo.RecordHeader{Key: string(h.Key), Value: h.Value})
		}
		cl.Produce(context.Background(), rec, nil)
	}
	if err := cl.Flush(context.Background()); err != nil {
		t.Fatal(err)
	}
	waitReady(t, p)
	count := func(p *Processor, after uint64, limit int) (rows int, end store.PageEnd) {
		t.Helper()
		end, _, err := p.Page(context.Background(), id, store.Query{After: after, Limit: limit}, func(r *store.Row) error {
			rows++
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		return rows, end
	}
	deadline := time.Now().Add(20 * time.Second)
	for {
		if rows, _ := count(p, 0, 10_000); rows == n {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("%+v", p.Status())
		}
		time.Sleep(5 * time.Millisecond)
	}
	rows, end := count(p, 0, 1234)
	if rows != 1234 || !end.More {
		t.Fatalf("page of %d rows, %+v", rows, end)
	}
	stop()
	p, _ = startProcessor(t, c.ListenAddrs(), dir)
	waitReady(t, p)
	if rows, _ := count(p, end.LastCSN, 10_000); rows != n-1234 {
		t.Fatalf("after a restart the cursor gives %d rows, want %d", rows, n-1234)
	}
}
