package kafka

import (
	"context"
	"encoding/binary"
	"fmt"
	"log/slog"
	"net"
	"os"
	"runtime"
	"strconv"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/tidemark-dev/tidemark/processor/batch"
	"github.com/tidemark-dev/tidemark/processor/kafka/faultconn"
	"github.com/tidemark-dev/tidemark/schemas/event"
	"github.com/tidemark-dev/tidemark/schemas/topic"
)

var names = topic.Names{Raw: "t.raw", Changes: "t.changes", State: "t.state", DLQ: "t.dlq"}

const partitions = 4

// TestMain fails the run when goroutines are left over: every one has an owner who ends it.
func TestMain(m *testing.M) {
	before := runtime.NumGoroutine()
	code := m.Run()
	for deadline := time.Now().Add(5 * time.Second); code == 0; time.Sleep(10 * time.Millisecond) {
		if n := runtime.NumGoroutine(); n <= before {
			break
		} else if time.Now().After(deadline) {
			buf := make([]byte, 1<<20)
			fmt.Printf("%d goroutines at the end, %d at the start:\n%s\n", n, before, buf[:runtime.Stack(buf, true)])
			code = 1
		}
	}
	os.Exit(code)
}

// env is a cluster, on the loopback or, in a synctest bubble, on a virtual network.
type env struct {
	t   testing.TB
	ctx context.Context
	*kfake.Cluster
	net    *kfake.VirtualNetwork // nil: the real one
	faults *faultconn.Injector
	opts   []kfake.Opt // for restarts
}

func newEnv(t testing.TB, virtual bool, opts ...kfake.Opt) *env {
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	e := &env{t: t, ctx: ctx, faults: faultconn.New(1)}
	e.opts = append([]kfake.Opt{kfake.NumBrokers(3), kfake.SeedTopics(partitions, names.Raw, names.Changes, names.State, names.DLQ)}, opts...)
	if virtual {
		e.net = new(kfake.VirtualNetwork)
		e.opts = append(e.opts, kfake.ListenFn(e.net.Listen), kfake.Ports(9001, 9002, 9003))
	}
	e.start()
	t.Cleanup(func() {
		cancel()
		e.faults.Wait()
		e.Close()
	})
	return e
}

func (e *env) start() {
	e.t.Helper()
	c, err := kfake.NewCluster(e.opts...)
	if err != nil {
		e.t.Fatal(err)
	}
	e.Cluster = c
}

// pin keeps the brokers at their ports over restarts.
func (e *env) pin() {
	var ports []int
	for _, addr := range e.ListenAddrs() {
		_, p, err := net.SplitHostPort(addr)
		if err != nil {
			e.t.Fatal(err)
		}
		n, err := strconv.Atoi(p)
		if err != nil {
			e.t.Fatal(err)
		}
		ports = append(ports, n)
	}
	e.opts = append(e.opts, kfake.Ports(ports...))
}

func (e *env) dial() func(context.Context, string, string) (net.Conn, error) {
	if e.net != nil {
		return e.net.DialContext
	}
	return new(net.Dialer).DialContext
}

func (e *env) config() Config {
	return Config{
		Seeds: e.ListenAddrs(), Names: names, Logger: slog.New(slog.DiscardHandler),
		Client:       []kgo.Opt{kgo.Dialer(e.faults.Dialer(e.dial()))},
		FetchMaxWait: 20 * time.Millisecond, Compression: batch.Snappy,
	}
}

func (e *env) open(change ...func(*Config)) *Log {
	e.t.Helper()
	cfg := e.config()
	for _, f := range change {
		f(&cfg)
	}
	l, err := Open(e.ctx, cfg)
	if err != nil {
		e.t.Fatal(err)
	}
	e.t.Cleanup(l.Close)
	return l
}

func (e *env) writer(l *Log, p int32) *Writer {
	e.t.Helper()
	w, err := l.Writer(e.ctx, p)
	if err != nil {
		e.t.Fatal(err)
	}
	e.t.Cleanup(w.Close)
	return w
}

// client is an ordinary one, without faults.
func (e *env) client(opts ...kgo.Opt) *kgo.Client {
	e.t.Helper()
	cl, err := kgo.NewClient(append([]kgo.Opt{
		kgo.SeedBrokers(e.ListenAddrs()...), kgo.Dialer(e.dial()), kgo.DisableClientMetrics(),
		kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.MetadataMinAge(100 * time.Millisecond),
	}, opts...)...)
	if err != nil {
		e.t.Fatal(err)
	}
	e.t.Cleanup(cl.Close)
	return cl
}

// numbered makes a batch of records whose values are numbers.
func numbered(from, n int) *batch.Builder {
	var b batch.Builder
	for i := from; i < from+n; i++ {
		b.Append(int64(1000+i), []byte("key"), binary.BigEndian.AppendUint64(nil, uint64(i)), []event.Header{{Key: []byte("h"), Value: []byte("v")}})
	}
	return &b
}

func (e *env) append(w *Writer, topic string, from, n int) (base int64, produced []byte) {
	e.t.Helper()
	base, err := w.Append(e.ctx, topic, numbered(from, n), func(p []byte) { produced = p })
	if err != nil {
		e.t.Fatal(err)
	}
	return base, produced
}

// values decodes the numbers in batches, from an offset on.
func values(t testing.TB, batches []batch.Batch, from int64) (out []int) {
	t.Helper()
	for i := range batches {
		rs, err := batch.Decode(&batches[i], 16<<20)
		if err != nil {
			t.Fatal(err)
		}
		var r batch.Record
		for {
			ok, err := rs.Next(&r)
			if err != nil {
				t.Fatal(err)
			}
			if !ok {
				break
			}
			if r.Offset >= from {
				out = append(out, int(binary.BigEndian.Uint64(r.Value)))
			}
		}
		rs.Release()
	}
	return out
}

// read reads until it has n numbers.
func (e *env) read(r *Reader, n int) (out []int) {
	e.t.Helper()
	for len(out) < n {
		from := r.Position()
		bs, err := r.Next(e.ctx)
		if err != nil {
			e.t.Fatal(err)
		}
		out = append(out, values(e.t, bs, from)...)
	}
	return out
}

func ascending(from, n int) []int {
	out := make([]int, n)
	for i := range out {
		out[i] = from + i
	}
	return out
}
