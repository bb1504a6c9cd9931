package ingest

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"runtime"
	"runtime/pprof"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/tidemark-dev/tidemark/deploy/devkafka"
	"github.com/tidemark-dev/tidemark/schemas/errcode"
	"github.com/tidemark-dev/tidemark/schemas/event"
	"github.com/tidemark-dev/tidemark/schemas/stream"
	"github.com/tidemark-dev/tidemark/schemas/topic"
)

// The test binary runs itself as a broker in a process of its own, to be killed.
const (
	childDir    = "INGEST_TEST_CHILD_DIR"
	childListen = "INGEST_TEST_CHILD_LISTEN"
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

// checkLeaks waits for the goroutines of closed producers and brokers to end.
func checkLeaks(before int) int {
	for deadline := time.Now().Add(10 * time.Second); runtime.NumGoroutine() > before; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			fmt.Fprintf(os.Stderr, "%d goroutines before the tests, %d after:\n", before, runtime.NumGoroutine())
			pprof.Lookup("goroutine").WriteTo(os.Stderr, 1)
			return 1
		}
	}
	return 0
}

func runChild(dir, listen string) int {
	log := slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelWarn}))
	b, err := devkafka.Start(context.Background(), devkafka.Config{DataDir: dir, Listen: listen, Logger: log, ReserveBytes: -1})
	if err == nil {
		err = createRaw(b)
	}
	if err != nil {
		fmt.Println("error:", err)
		return 1
	}
	fmt.Println(b.Addr())
	io.Copy(io.Discard, os.Stdin) // ends with the parent, at the latest
	b.Close()
	return 0
}

// child is a broker in a process of its own.
type child struct {
	cmd  *exec.Cmd
	addr string
}

func startChild(t *testing.T, dir, listen string) *child {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), childDir+"="+dir, childListen+"="+listen)
	cmd.Stderr = os.Stderr
	_, err := cmd.StdinPipe()
	must(t, err)
	out, err := cmd.StdoutPipe()
	must(t, err)
	must(t, cmd.Start())
	c := &child{cmd: cmd}
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

const testPartitions = 8

var testNames = func() topic.Names {
	n, err := topic.NamesFor("tm", 1)
	if err != nil {
		panic(err)
	}
	return n
}()

func createRaw(b *devkafka.Broker) error {
	spec := topic.Manifest(testNames, testPartitions, topic.RecordBytesMax)[0]
	return b.CreateTopic(spec.Name, spec.Partitions, spec.Configs)
}

// startBroker runs a broker with the raw topic in this process.
func startBroker(t testing.TB, dir, listen string) *devkafka.Broker {
	t.Helper()
	b, err := devkafka.Start(t.Context(), devkafka.Config{DataDir: dir, Listen: listen, ReserveBytes: -1})
	must(t, err)
	t.Cleanup(func() { b.Close() })
	must(t, createRaw(b))
	return b
}

// newProducer connects; it is closed with the test.
func newProducer(t testing.TB, addr string, edit ...func(*Config)) *Producer {
	t.Helper()
	cfg := Config{Seeds: []string{addr}, Names: testNames, Linger: -1, DeliveryWait: 20 * time.Second}
	for _, e := range edit {
		e(&cfg)
	}
	p, err := NewProducer(t.Context(), cfg)
	must(t, err)
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Millisecond)
		defer cancel()
		p.Close(ctx)
	})
	return p
}

var acme = stream.ID{Environment: "dev", Integration: "demo", Connection: "acme", Model: "Brand"}

// written is one raw event as it is in the log.
type written struct {
	event.Raw
	record *kgo.Record
}

// readRaw reads all partitions of the raw topic from start to end. Each event must parse, carry its headers in the fixed order,
// and be where its key belongs.
func readRaw(t testing.TB, addr string) []written {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	cl, err := kgo.NewClient(kgo.SeedBrokers(addr), kgo.ConsumeTopics(testNames.Raw), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), kgo.FetchMaxWait(50*time.Millisecond))
	must(t, err)
	defer cl.Close()
	ends, err := kadm.NewClient(cl).ListEndOffsets(ctx, testNames.Raw)
	must(t, err)
	at := map[int32]int64{}
	complete := func() bool {
		done := true
		ends.Each(func(o kadm.ListedOffset) { done = done && at[o.Partition] >= o.Offset })
		return done
	}
	var out []written
	for !complete() {
		fetches := cl.PollFetches(ctx)
		must(t, fetches.Err())
		fetches.EachRecord(func(r *kgo.Record) {
			at[r.Partition] = r.Offset + 1
			w := written{record: r}
			hs := make([]event.Header, len(r.Headers))
			for i, h := range r.Headers {
				hs[i] = event.Header{Key: []byte(h.Key), Value: h.Value}
			}
			if err := event.ParseRaw(hs, r.Value, &w.Raw); err != nil {
				t.Errorf("event at %d/%d does not parse: %v", r.Partition, r.Offset, err)
			}
			for i, h := range w.Raw.Headers(nil) {
				if i >= len(hs) || string(hs[i].Key) != string(h.Key) || string(hs[i].Value) != string(h.Value) {
					t.Errorf("event at %d/%d: headers are %q, want %q", r.Partition, r.Offset, hs, w.Raw.Headers(nil))
					break
				}
			}
			if want := stream.Partition(r.Key, testPartitions); r.Partition != want {
				t.Errorf("event of %s is in partition %d, want %d", r.Key, r.Partition, want)
			}
			out = append(out, w)
		})
	}
	return out
}

// ofRun returns the events of one run, in the order of the log.
func ofRun(events []written, run uint64) []written {
	return slices.DeleteFunc(slices.Clone(events), func(w written) bool { return w.Run != run })
}

// wantDense checks G3.
func wantDense(t testing.TB, events []written) {
	t.Helper()
	next := uint64(1)
	for _, w := range events {
		if !w.InRecord() {
			if w.N != 0 {
				t.Errorf("event of type %c has ordinal %d", w.Type, w.N)
			}
			continue
		}
		if w.N != next {
			t.Fatalf("ordinal %d follows %d", w.N, next-1)
		}
		next++
	}
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// wantCode checks the code of an error, and that it names some texts.
func wantCode(t testing.TB, err error, code errcode.Code, texts ...string) {
	t.Helper()
	var e *errcode.Error
	if !errors.As(err, &e) || e.Code != code {
		t.Fatalf("error %v, want one with code %s", err, code)
	}
	for _, text := range texts {
		if !strings.Contains(err.Error(), text) {
			t.Errorf("error %q does not name %q", err, text)
		}
	}
}

func wantIs(t testing.TB, err, is error) {
	t.Helper()
	if !errors.Is(err, is) {
		t.Fatalf("error %v, want one that is %v", err, is)
	}
}

func ptr[T any](v T) *T { return &v }

func waitFor(t testing.TB, what string, done func() bool) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); !done(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("waited in vain for %s", what)
		}
	}
}

// dam holds produce requests back between client and broker. The client writes one request in one call.
type dam struct {
	mu   sync.Mutex
	open chan struct{} // closed: flows
	held int
}

func newDam() *dam {
	d := &dam{open: make(chan struct{})}
	close(d.open)
	return d
}

func (d *dam) shut() {
	d.mu.Lock()
	d.open = make(chan struct{})
	d.mu.Unlock()
}

func (d *dam) release() {
	d.mu.Lock()
	defer d.mu.Unlock()
	select {
	case <-d.open:
	default:
		close(d.open)
	}
}

func (d *dam) dial(ctx context.Context, network, addr string) (net.Conn, error) {
	c, err := new(net.Dialer).DialContext(ctx, network, addr)
	if err != nil {
		return nil, err
	}
	return &damConn{Conn: c, dam: d, closed: make(chan struct{})}, nil
}

func (d *dam) config(c *Config) { c.Client = append(c.Client, kgo.Dialer(d.dial)) }

type damConn struct {
	net.Conn
	dam    *dam
	once   sync.Once
	closed chan struct{}
}

func (c *damConn) Close() error {
	c.once.Do(func() { close(c.closed) })
	return c.Conn.Close()
}

func (c *damConn) Write(b []byte) (int, error) {
	const produce = 0
	if len(b) >= 6 && binary.BigEndian.Uint16(b[4:]) == produce {
		c.dam.mu.Lock()
		open := c.dam.open
		select {
		case <-open:
		default:
			c.dam.held++
		}
		c.dam.mu.Unlock()
		select {
		case <-open:
		case <-c.closed:
			return 0, net.ErrClosed
		}
	}
	return c.Conn.Write(b)
}
