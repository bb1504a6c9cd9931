package devkafka

import (
	"bufio"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"runtime/pprof"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

// The test binary runs itself as a broker in a process of its own, to be killed.
const (
	childDir    = "DEVKAFKA_TEST_CHILD_DIR"
	childListen = "DEVKAFKA_TEST_CHILD_LISTEN"
)

func TestMain(m *testing.M) {
	if dir := os.Getenv(childDir); dir != "" {
		os.Exit(runChild(dir, os.Getenv(childListen)))
	}
	before := runtime.NumGoroutine()
	code := m.Run()
	if code == 0 && flag.Lookup("test.fuzz").Value.String() == "" { // the fuzzer keeps its own
		code = checkLeaks(before)
	}
	os.Exit(code)
}

// checkLeaks waits for the goroutines of closed brokers and clients to end.
func checkLeaks(before int) int {
	deadline := time.Now().Add(10 * time.Second)
	for runtime.NumGoroutine() > before {
		if time.Now().After(deadline) {
			fmt.Fprintf(os.Stderr, "%d goroutines before the tests, %d after:\n", before, runtime.NumGoroutine())
			pprof.Lookup("goroutine").WriteTo(os.Stderr, 1)
			return 1
		}
		time.Sleep(10 * time.Millisecond)
	}
	return 0
}

// runChild prints the address, and closes the broker once standard input ends: with the parent, at the latest.
func runChild(dir, listen string) int {
	log := slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelWarn}))
	b, err := Start(context.Background(), Config{DataDir: dir, Listen: listen, Logger: log, ReserveBytes: -1})
	if err != nil {
		fmt.Println("error:", err)
		return 1
	}
	fmt.Println(b.Addr())
	io.Copy(io.Discard, os.Stdin)
	if err := b.Close(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

// child is a broker in a process of its own.
type child struct {
	t    *testing.T
	cmd  *exec.Cmd
	in   io.Closer
	addr string
}

// startChild fails the test unless the broker comes up.
func startChild(t *testing.T, dir, listen string) *child {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), childDir+"="+dir, childListen+"="+listen)
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	must(t, err)
	out, err := cmd.StdoutPipe()
	must(t, err)
	must(t, cmd.Start())
	c := &child{t: t, cmd: cmd, in: in}
	t.Cleanup(c.kill)
	line, _ := bufio.NewReader(out).ReadString('\n')
	c.addr = strings.TrimSpace(line)
	if c.addr == "" || strings.HasPrefix(c.addr, "error:") {
		t.Fatalf("the broker process did not start: %q", line)
	}
	return c
}

// kill is kill -9, and waits until the process is gone.
func (c *child) kill() {
	if c.cmd != nil {
		c.cmd.Process.Kill()
		c.cmd.Wait()
		c.cmd = nil
	}
}

// stop is an orderly stop.
func (c *child) stop() {
	c.in.Close()
	if err := c.cmd.Wait(); err != nil {
		c.t.Errorf("the broker process ended with %v", err)
	}
	c.cmd = nil
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// start runs a broker until the end of the test or an earlier Close.
func start(t testing.TB, dir string, edit ...func(*Config)) *Broker {
	t.Helper()
	cfg := Config{DataDir: dir, ReserveBytes: -1, Logger: testLogger(t)}
	for _, e := range edit {
		e(&cfg)
	}
	b, err := Start(t.Context(), cfg)
	must(t, err)
	t.Cleanup(func() { b.Close() })
	return b
}

func testLogger(t testing.TB) *slog.Logger {
	return slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelInfo}))
}

// logLines is a logger's output, to be searched.
type logLines struct {
	mu  sync.Mutex
	buf strings.Builder
}

func (l *logLines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(p)
}

func (l *logLines) count(text string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Count(l.buf.String(), text)
}

func (l *logLines) logger() *slog.Logger { return slog.New(slog.NewTextHandler(l, nil)) }

// newClient connects with retries short enough for tests.
func newClient(t testing.TB, addr string, opts ...kgo.Opt) *kgo.Client {
	t.Helper()
	cl, err := kgo.NewClient(append([]kgo.Opt{
		kgo.SeedBrokers(addr),
		kgo.RecordPartitioner(kgo.ManualPartitioner()),
		kgo.RetryBackoffFn(func(int) time.Duration { return 20 * time.Millisecond }),
		kgo.MetadataMinAge(20 * time.Millisecond),
		kgo.ProducerBatchCompression(kgo.NoCompression()), // sizes are what the test says
	}, opts...)...)
	must(t, err)
	t.Cleanup(cl.Close)
	return cl
}

// produce sends values to one partition and waits until the broker has them.
func produce(t testing.TB, cl *kgo.Client, topic string, partition int32, values ...string) {
	t.Helper()
	var records []*kgo.Record
	for _, v := range values {
		records = append(records, &kgo.Record{Topic: topic, Partition: partition, Value: []byte(v)})
	}
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	must(t, cl.ProduceSync(ctx, records...).FirstErr())
}

// readAll reads one partition from its start to its end, markers left out.
func readAll(t testing.TB, addr, topic string, partition int32, opts ...kgo.Opt) []*kgo.Record {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	cl := newClient(t, addr, append([]kgo.Opt{
		kgo.KeepControlRecords(),
		kgo.FetchMaxWait(100 * time.Millisecond),
		kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{topic: {partition: kgo.NewOffset().AtStart()}}),
	}, opts...)...)
	defer cl.Close()
	ends, err := kadm.NewClient(cl).ListEndOffsets(ctx, topic)
	must(t, err)
	starts, err := kadm.NewClient(cl).ListStartOffsets(ctx, topic)
	must(t, err)
	end, _ := ends.Lookup(topic, partition)
	next, _ := starts.Lookup(topic, partition)
	var out []*kgo.Record
	for at := next.Offset; at < end.Offset; {
		fetches := cl.PollFetches(ctx)
		must(t, fetches.Err())
		fetches.EachRecord(func(r *kgo.Record) {
			at = r.Offset + 1
			if !r.Attrs.IsControl() {
				out = append(out, r)
			}
		})
	}
	return out
}

func values(records []*kgo.Record) []string {
	out := make([]string, 0, len(records))
	for _, r := range records {
		out = append(out, string(r.Value))
	}
	return out
}

func wantValues(t testing.TB, got []*kgo.Record, want ...string) {
	t.Helper()
	if g := values(got); !slices.Equal(g, want) {
		t.Errorf("read %q, want %q", g, want)
	}
}

// crashCopy copies the directory of a broker that is idle: what a kill at this moment leaves.
func crashCopy(t testing.TB, dir string) string {
	t.Helper()
	to := filepath.Join(t.TempDir(), "copy")
	must(t, os.CopyFS(to, os.DirFS(dir)))
	if _, err := os.Stat(filepath.Join(to, cleanFile)); err == nil {
		t.Fatal("a running broker's directory is marked as cleanly stopped")
	}
	return to
}

func waitFor(t testing.TB, what string, done func() bool) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); !done(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("waited in vain for %s", what)
		}
	}
}

func wantErr(t testing.TB, err, is error, texts ...string) {
	t.Helper()
	if !errors.Is(err, is) {
		t.Fatalf("error %v, want one that is %v", err, is)
	}
	for _, text := range texts {
		if !strings.Contains(err.Error(), text) {
			t.Errorf("error %q does not name %q", err, text)
		}
	}
}
