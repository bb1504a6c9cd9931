package processor

import (
	"context"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/tidemark-dev/tidemark/schemas/event"
	"github.com/tidemark-dev/tidemark/schemas/stream"
)

// BenchmarkTakeover takes a partition over late in a run of a million unchanged records, in which the writer stopped in good order or was
// killed, with checkpoints of what the run has seen and without. It reports the raw events read again, to mark or to decide, and the seconds
// until the writer is where the one before was.
//
//	go test ./processor -run '^$' -bench Takeover -benchtime 1x
func BenchmarkTakeover(b *testing.B) {
	const n = 1_000_000
	for _, c := range []struct {
		name   string
		every  int64
		killed bool
	}{
		{"stopped/without", -1, false}, {"stopped/with", 0, false}, {"killed/without", -1, true}, {"killed/with", 0, true},
	} {
		b.Run(c.name, func(b *testing.B) {
			for b.Loop() {
				b.StopTimer()
				again, seconds := takeOverLate(b, n, c.every, c.killed)
				b.StartTimer()
				b.ReportMetric(again, "read_again")
				b.ReportMetric(seconds, "s")
			}
		})
	}
}

func takeOverLate(b *testing.B, n int, every int64, killed bool) (again, seconds float64) {
	names := testNames(b)
	c, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.SeedTopics(1, names.Raw, names.Changes, names.State, names.DLQ))
	if err != nil {
		b.Fatal(err)
	}
	defer c.Close()
	cl, err := kgo.NewClient(kgo.SeedBrokers(c.ListenAddrs()...), kgo.MaxBufferedRecords(1<<20), kgo.ProducerLinger(5*time.Millisecond))
	if err != nil {
		b.Fatal(err)
	}
	defer cl.Close()
	id := stream.ID{Environment: "dev", Integration: "demo", Connection: "acme", Model: "Brand"}
	sent := int64(0)
	send := func(r event.Raw) {
		rec := &kgo.Record{Topic: names.Raw, Key: []byte(id.Key()), Value: r.Value}
		for _, h := range r.Headers(nil) {
			rec.Headers = append(rec.Headers, kgo.RecordHeader{Key: string(h.Key), Value: h.Value})
		}
		cl.Produce(context.Background(), rec, nil)
		sent++
	}
	saves := func(run uint64, n int) {
		for i := range n {
			r := event.Raw{Type: event.RawSave, ID: fmt.Appendf(nil, "r%d", i), Value: fmt.Appendf(nil, `{"id":%d,"name":"record %d","pad":"%060d"}`, i, i, i)}
			if run != 0 {
				r.Run, r.N = run, uint64(i+1)
			}
			send(r)
		}
		if err := cl.Flush(context.Background()); err != nil {
			b.Fatal(err)
		}
	}
	fs := vfs.NewCrashableMem()
	config := func(c *Config) { c.FS, c.Decide.SeenEvery = fs, every }
	decided := func(p *Processor) {
		for deadline := time.Now().Add(5 * time.Minute); ; time.Sleep(5 * time.Millisecond) {
			if s := p.Status()[0]; s.Ready && s.RawNext == sent && s.Idle {
				return
			}
			if time.Now().After(deadline) {
				b.Fatalf("%+v", p.Status())
			}
		}
	}
	p, stop := startProcessor(b, c.ListenAddrs(), "state", config)
	saves(0, n)
	decided(p)
	stop() // all of it is on the disk
	p, stop = startProcessor(b, c.ListenAddrs(), "state", config)
	send(event.Raw{Type: event.RawRunStarted, Run: 1})
	saves(1, n*95/100)
	decided(p)
	if killed {
		disk := fs.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: 100, RNG: rand.New(rand.NewPCG(1, 2))})
		stop()
		fs = disk
	} else {
		stop()
	}
	began := time.Now()
	p, stop = startProcessor(b, c.ListenAddrs(), "state", config)
	decided(p)
	seconds = time.Since(began).Seconds()
	if c := p.parts[0].counts.Load(); c.Events != c.Unchanged {
		b.Fatalf("not all events were unchanged: %+v", c.Counters)
	}
	again = testutil.ToFloat64(p.parts[0].m.replayed) + float64(p.Status()[0].Decided)
	stop()
	return again, seconds
}
