package follow

import (
	"context"
	"flag"
	"fmt"
	"os"
	"runtime"
	"runtime/pprof"
	"strconv"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/tidemark-dev/tidemark/deploy/devkafka"
	"github.com/tidemark-dev/tidemark/schemas/event"
	"github.com/tidemark-dev/tidemark/schemas/topic"
)

func TestMain(m *testing.M) {
	before := runtime.NumGoroutine()
	code := m.Run()
	if code == 0 && flag.Lookup("test.fuzz").Value.String() == "" { // the fuzzer keeps its own
		code = checkLeaks(before)
	}
	os.Exit(code)
}

// checkLeaks waits for the goroutines of closed clients and brokers to end.
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

const testPartitions = 4

var testNames = func() topic.Names {
	n, err := topic.NamesFor("tm", 1)
	if err != nil {
		panic(err)
	}
	return n
}()

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func startBroker(t testing.TB, dir, listen string) *devkafka.Broker {
	t.Helper()
	b, err := devkafka.Start(t.Context(), devkafka.Config{DataDir: dir, Listen: listen, ReserveBytes: -1})
	must(t, err)
	t.Cleanup(func() { b.Close() })
	spec := topic.Manifest(testNames, testPartitions, topic.RecordBytesMax)[1]
	must(t, b.CreateTopic(spec.Name, spec.Partitions, spec.Configs))
	return b
}

func config(addr string) Config {
	return Config{Seeds: []string{addr}, Names: testNames, Client: []kgo.Opt{kgo.FetchMaxWait(100 * time.Millisecond)}}
}

// log writes to the changes topic, by a producer that knows nothing of rule V.
type log struct {
	t  testing.TB
	cl *kgo.Client
}

func newLog(t testing.TB, addr string, opts ...kgo.Opt) *log {
	t.Helper()
	cl, err := kgo.NewClient(append([]kgo.Opt{
		kgo.SeedBrokers(addr), kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.ProducerLinger(0), kgo.MetadataMinAge(50 * time.Millisecond),
		kgo.RetryBackoffFn(func(int) time.Duration { return 20 * time.Millisecond }),
	}, opts...)...)
	must(t, err)
	t.Cleanup(cl.Close)
	return &log{t, cl}
}

func kafkaRecord(partition int32, r *Record) *kgo.Record {
	value := r.Value
	if value == nil {
		value = []byte(`{"v":1}`)
	}
	return &kgo.Record{Topic: testNames.Changes, Partition: partition, Key: r.Key, Value: value, Headers: []kgo.RecordHeader{
		{Key: event.HeaderOp, Value: []byte(r.Op.String())},
		{Key: event.HeaderCSN, Value: strconv.AppendUint(nil, r.Meta.CSN, 10)},
		{Key: event.HeaderMeta, Value: event.AppendMeta(nil, &r.Meta)},
	}}
}

// write appends records to a partition, notes their offsets in them, and waits until the broker has them.
func (l *log) write(partition int32, records ...Record) {
	l.t.Helper()
	ctx, cancel := context.WithTimeout(l.t.Context(), 30*time.Second)
	defer cancel()
	out := make([]*kgo.Record, len(records))
	for i := range records {
		out[i] = kafkaRecord(partition, &records[i])
	}
	must(l.t, l.cl.ProduceSync(ctx, out...).FirstErr())
	for i := range records {
		records[i].Offset = out[i].Offset
	}
}

func waitFor(t testing.TB, what string, done func() bool) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); !done(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("waited in vain for %s", what)
		}
	}
}
