package bench

import (
	"bufio"
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/tidemark-dev/tidemark/deploy/devkafka"
	"github.com/tidemark-dev/tidemark/processor"
	"github.com/tidemark-dev/tidemark/processor/batch"
	"github.com/tidemark-dev/tidemark/processor/kafka"
	"github.com/tidemark-dev/tidemark/schemas/event"
	"github.com/tidemark-dev/tidemark/schemas/stream"
	"github.com/tidemark-dev/tidemark/schemas/topic"
)

const brokerEnv = "TIDEMARK_BENCH_BROKER"

// TestMain runs the broker when the test binary is started as one.
func TestMain(m *testing.M) {
	if dir := os.Getenv(brokerEnv); dir != "" {
		if err := serveBroker(dir); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

const partitions = 8

func names() topic.Names {
	n, err := topic.NamesFor(topic.PrefixDefault, 1)
	if err != nil {
		panic(err)
	}
	return n
}

func serveBroker(dir string) error {
	b, err := devkafka.Start(context.Background(), devkafka.Config{
		DataDir: dir, Listen: "127.0.0.1:0", Partitions: partitions, Logger: slog.New(slog.DiscardHandler), MaxMessageBytes: 8 << 20,
	})
	if err != nil {
		return err
	}
	defer b.Close()
	for _, s := range topic.Manifest(names(), partitions, topic.RecordBytesMax) {
		if err := b.CreateTopic(s.Name, s.Partitions, s.Configs); err != nil {
			return err
		}
	}
	fmt.Println(b.Addr())
	bufio.NewReader(os.Stdin).ReadByte() // until the parent goes
	return nil
}

// startBroker runs a broker in a process of its own.
func startBroker(tb testing.TB) string {
	tb.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), brokerEnv+"="+tb.TempDir())
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		tb.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		tb.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		in.Close()
		cmd.Wait()
	})
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		tb.Fatal(err)
	}
	return strings.TrimSpace(line)
}

// payload makes a JSON object of about that many bytes that looks like a CRM record: words and numbers compress, ids and hashes do
// not. version changes three of its members.
func payload(size, i, version int) []byte {
	rng := rand.New(rand.NewPCG(uint64(i), 9))
	word := func() string { return words[rng.IntN(len(words))] }
	b := fmt.Appendf(nil, `{"id":"%08d","email":"%s.%s%d@%s.example","first_name":"%s","last_name":"%s","owner_id":%d,"amount":%d.%02d,"stage":"%s","updated_at":"2026-%02d-%02dT10:%02d:00Z","revision":%d`,
		i, word(), word(), rng.IntN(1e6), word(), word(), word(), rng.IntN(1e9), rng.IntN(1e6)+version, rng.IntN(100), word(), version%12+1, rng.IntN(28)+1, version%60, version)
	b = fmt.Appendf(b, `,"address":{"street":"%s %d","city":"%s","zip":"%05d"},"tags":["%s","%s"]`, word(), rng.IntN(999), word(), rng.IntN(99999), word(), word())
	for n := 0; len(b) < size-30; n++ {
		b = fmt.Appendf(b, `,"custom_%d":"%s %s %016x"`, n, word(), word(), rng.Uint64())
	}
	return append(b, '}')
}

var words = strings.Fields(`alpha bravo charlie delta echo foxtrot golf hotel india juliet kilo lima mike november oscar papa quebec romeo sierra
	tango uniform victor whiskey xray yankee zulu amber bronze coral desert ember forest garnet harbor island jasper`)

func streams(n int) []stream.ID {
	out := make([]stream.ID, n)
	for i := range out {
		out[i] = stream.ID{Environment: "dev", Integration: "crm", Connection: fmt.Sprintf("acme-%d", i), Model: "Contact"}
	}
	return out
}

// feed writes saves of records [0, n) into raw, spread over the streams, and returns the bytes of payload.
func feed(tb testing.TB, seed string, ids []stream.ID, n, size, version int, order func(i int) int, codec kgo.CompressionCodec) int64 {
	tb.Helper()
	cl, err := kgo.NewClient(kgo.SeedBrokers(seed), kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.ProducerBatchCompression(codec),
		kgo.ProducerLinger(20*time.Millisecond), kgo.MaxBufferedRecords(50_000), kgo.ProducerBatchMaxBytes(1<<20), kgo.DisableClientMetrics())
	if err != nil {
		tb.Fatal(err)
	}
	defer cl.Close()
	keys := make([][]byte, len(ids))
	parts := make([]int32, len(ids))
	for i, id := range ids {
		keys[i] = []byte(id.Key())
		parts[i] = stream.Partition(keys[i], partitions)
	}
	var bytes int64
	for k := range n {
		i := order(k)
		s := i * len(ids) / n // stream by stream
		r := event.Raw{Type: event.RawSave, ID: fmt.Appendf(nil, "%08d", i)}
		rec := &kgo.Record{Topic: names().Raw, Partition: parts[s], Key: keys[s], Value: payload(size, i, version)}
		for _, h := range r.Headers(nil) {
			rec.Headers = append(rec.Headers, kgo.RecordHeader{Key: string(h.Key), Value: h.Value})
		}
		bytes += int64(len(rec.Value))
		cl.Produce(context.Background(), rec, nil)
	}
	if err := cl.Flush(context.Background()); err != nil {
		tb.Fatal(err)
	}
	return bytes
}

func cpu() time.Duration {
	var u syscall.Rusage
	syscall.Getrusage(syscall.RUSAGE_SELF, &u)
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// running is a processor over a broker in another process.
type running struct {
	p    *processor.Processor
	stop func()
}

func run(tb testing.TB, seed, dir string, change func(*processor.Config)) *running {
	tb.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	quiet := slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelWarn}))
	log, err := kafka.Open(ctx, kafka.Config{Seeds: []string{seed}, Names: names(), Logger: quiet, Compression: batch.Snappy})
	if err != nil {
		tb.Fatal(err)
	}
	cfg := processor.Config{Dir: dir, Names: names(), Logger: quiet}
	if change != nil {
		change(&cfg)
	}
	p, err := processor.New(ctx, cfg, processor.KafkaLog{Log: log})
	if err != nil {
		tb.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- p.Run(ctx) }()
	return &running{p, func() {
		cancel()
		if err := <-done; err != nil {
			tb.Error(err)
		}
		log.Close()
	}}
}

// settled waits until n more raw events have been decided, and all of it is applied.
func (r *running) settled(tb testing.TB, events uint64) {
	tb.Helper()
	deadline := time.Now().Add(5 * time.Minute)
	for {
		var decided uint64
		idle := true
		for _, s := range r.p.Status() {
			decided += s.Decided
			idle = idle && s.Ready && s.Lag == 0 && s.Idle
		}
		if decided >= events && idle {
			return
		}
		if time.Now().After(deadline) {
			tb.Fatalf("not settled: %d of %d events, %+v", decided, events, r.p.Status())
		}
		time.Sleep(2 * time.Millisecond)
	}
}

func machine() string {
	model := "unknown CPU"
	if b, err := os.ReadFile("/proc/cpuinfo"); err == nil {
		for _, line := range strings.Split(string(b), "\n") {
			if k, v, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(k) == "model name" {
				model = strings.TrimSpace(v)
				break
			}
		}
	}
	return fmt.Sprintf("%s, %d cores, %s", model, runtime.NumCPU(), runtime.Version())
}

// BenchmarkProcessor measures the processor with its follower and local view, alone: new records, the same again, and all of them
// changed in random order. Raw events wait in the log when it starts, and the broker is another process.
func BenchmarkProcessor(b *testing.B) {
	n := 300_000
	if s := os.Getenv("TIDEMARK_BENCH_RECORDS"); s != "" {
		fmt.Sscan(s, &n)
	}
	for _, size := range []int{350, 800} {
		b.Run(fmt.Sprintf("%dB", size), func(b *testing.B) {
			seed, dir, ids := startBroker(b), b.TempDir(), streams(20)
			b.Logf("%s; %d records of about %d bytes in %d streams, %d partitions, raw in zstd", machine(), n, size, len(ids), partitions)
			perm := rand.New(rand.NewPCG(1, 2)).Perm(n)
			inOrder := func(i int) int { return i }
			var base float64
			for _, phase := range []struct {
				name    string
				version int
				order   func(int) int
			}{
				{"new", 0, inOrder}, {"unchanged", 0, inOrder}, {"changed", 1, func(i int) int { return perm[i] }},
			} {
				feed(b, seed, ids, n, size, phase.version, phase.order, kgo.ZstdCompression())
				runtime.GC()
				began, used := time.Now(), cpu()
				r := run(b, seed, dir, nil)
				r.settled(b, uint64(n))
				wall, used := time.Since(began), cpu()-used
				r.stop()
				rate := float64(n) / used.Seconds()
				if base == 0 {
					base = rate
				}
				b.Logf("%-10s %9.0f records/s, %9.0f records per CPU-second (%.1f us each), %.2f x new", phase.name,
					float64(n)/wall.Seconds(), rate, 1e6/rate, rate/base)
				b.ReportMetric(rate, phase.name+"/cpu-s")
			}
		})
	}
}
