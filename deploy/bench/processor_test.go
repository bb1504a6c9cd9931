package bench

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"testing"
	"time"

	"github.com/tidemark-dev/tidemark/deploy/stack"
	"github.com/tidemark-dev/tidemark/processor"
	"github.com/tidemark-dev/tidemark/processor/batch"
	"github.com/tidemark-dev/tidemark/processor/kafka"
)

// running is a processor over a broker in another process, behind a gate that is closed.
type running struct {
	p    *processor.Processor
	seed string
	gate *gate
	stop func()
}

func quiet() *slog.Logger {
	return slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelWarn}))
}

func run(tb testing.TB, seed, dir string, change func(*processor.Config)) *running {
	tb.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	m := stack.SplitMemory(stack.DefaultConfig().MemoryBytes, partitions)
	log, err := kafka.Open(ctx, kafka.Config{Seeds: []string{seed}, Names: names(), Logger: quiet(), Compression: batch.Snappy, FetchMaxBytes: m.Fetch})
	if err != nil {
		tb.Fatal(err)
	}
	cfg := processor.Config{
		Dir: dir, Names: names(), Logger: quiet(), HotBytes: m.Hot, MemtableBytes: m.Memtables, CacheBytes: m.RowCache, SegmentCache: m.SegmentCache,
		BufferBytes: m.SegmentBuffer, FetchedMax: m.Fetched,
	}
	if change != nil {
		change(&cfg)
	}
	g := newGate()
	p, err := processor.New(ctx, cfg, gatedLog{processor.KafkaLog{Log: log}, g})
	if err != nil {
		tb.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- p.Run(ctx) }()
	stopped := false
	r := &running{p: p, seed: seed, gate: g, stop: func() {
		if stopped {
			return
		}
		stopped = true
		cancel()
		if err := <-done; err != nil {
			tb.Error(err)
		}
		log.Close()
	}}
	tb.Cleanup(r.stop)
	g.await(tb, int(p.Partitions()))
	return r
}

// measure opens the gate until everything that waits behind it, which is n events, is decided and applied. The CPU time goes on until the
// compactions are done, too.
func (r *running) measure(tb testing.TB, name string, n int) span {
	tb.Helper()
	until := ends(tb, r.seed, names().Raw)
	stop := meter(tb, name)
	r.gate.open()
	for deadline := time.Now().Add(100 * time.Second); !r.settled(until); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(deadline) {
			tb.Fatalf("%s: not settled at %v: %+v", name, until, r.p.Status())
		}
	}
	s := stop()
	s.cpu += rest(tb)
	r.gate.close(tb, int(r.p.Partitions()))
	return s
}

// rest waits until this process does as good as nothing, and returns the CPU time that it used until then.
func rest(tb testing.TB) time.Duration {
	from := cpu()
	for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); {
		before := cpu()
		<-time.After(100 * time.Millisecond)
		if cpu()-before < 5*time.Millisecond {
			return before - from
		}
	}
	tb.Fatal("the process does not come to rest")
	return 0
}

func (r *running) settled(until offsets) bool {
	for _, s := range r.p.Status() {
		if s.RawNext < until[s.Partition].EpochOffset().Offset || !s.Ready || s.Lag > 0 || !s.Idle {
			return false
		}
	}
	return true
}

// changes is the number of records that the changes topic has, of all partitions.
func changes(r *running) (sum uint64) {
	for _, s := range r.p.Status() {
		sum += s.AppliedTo
	}
	return sum
}

// BenchmarkProcessor measures the processor with its follower and local view, alone: new records, the same again, all of them changed
// in random order, and the same without hot entries. Raw events wait in the log when it starts, and the broker is another process.
func BenchmarkProcessor(b *testing.B) {
	for _, size := range []int{350, 800} {
		b.Run(fmt.Sprintf("%dB", size), func(b *testing.B) {
			once(b)
			n := records(b)
			in := newInput(20, n, size, partitions)
			seed, dir := startBroker(b, partitions), b.TempDir()
			b.Logf("%d records of about %d bytes in %d streams, %d partitions, raw in zstd", n, size, len(in.ids), partitions)
			at := func(measure string) string { return fmt.Sprintf("%s, %d B", measure, size) }
			note := func(measure, must string, u unit, v float64, base string, against float64) {
				figures.note(b.Logf, figure{at(measure), must, u, v, base, against})
			}
			unhurried := func(r *running, name string, version int, order []int) (span, offsets) {
				from := in.feed(b, seed, version, order)
				return r.measure(b, fmt.Sprintf("%s %d", name, size), n), from
			}
			expect := func(r *running, what string, had uint64, want int) {
				if got := changes(r) - had; int(got) < want || int(got) > want+n/100 { // terms and dead letters are a handful
					b.Fatalf("%s: %d change records, want %d", what, got, want)
				}
			}

			r := run(b, seed, dir, nil)
			had := changes(r)
			s, from := unhurried(r, "new", 0, inOrder(n))
			expect(r, "new", had, n)
			copied := mirror(b, seed, from, n)
			note("9 new, everything but producer and broker", ifSize(size, 800, "80 k"), perCPUSecond, s.perCPU(n), "plain kgo mirror, snappy", copied.perCPU(n))

			had = changes(r)
			s, from = unhurried(r, "unchanged", 0, inOrder(n))
			expect(r, "unchanged", had, 0)
			read := consume(b, seed, from, n)
			note("1 unchanged, processor alone, zstd", "1.2 M/s on 2 cores: 600 k", perCPUSecond, s.perCPU(n), "plain kgo consumer that hashes", read.perCPU(n))
			note("1 unchanged, processor alone, zstd, by the clock", "1.2 M", perSecond, s.perWall(n), "plain kgo consumer that hashes", read.perWall(n))

			had = changes(r)
			s, from = unhurried(r, "changed", 1, shuffled(n, 1))
			expect(r, "changed", had, n)
			copied = mirror(b, seed, from, n)
			note("10 changed at random, everything but producer and broker", ifSize(size, 800, "70 k"), perCPUSecond, s.perCPU(n), "plain kgo mirror, snappy", copied.perCPU(n))
			changedRate := s.perCPU(n)
			r.stop()

			r = run(b, seed, dir, nil)
			cold, _ := unhurried(r, "unchanged after start", 1, inOrder(n))
			note("1 unchanged, first run after a start: reads R", "", perCPUSecond, cold.perCPU(n), "", 0)
			r.stop()

			r = run(b, seed, dir, func(c *processor.Config) { c.HotBytes = 1 })
			r.measure(b, "what the last process had not noted as read", n)
			had = changes(r)
			s, _ = unhurried(r, "changed without hot entries", 2, shuffled(n, 1))
			expect(r, "changed without hot entries", had, n)
			note("10 changed at random, with hot entries", "", perCPUSecond, changedRate, "without hot entries: every record reads R", s.perCPU(n))
			r.stop()
		})
	}
}

func ifSize(size, want int, must string) string {
	if size == want {
		return must
	}
	return ""
}
