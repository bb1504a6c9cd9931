package devkafka

import (
	"context"
	"net"
	"testing"

	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"golang.org/x/sys/unix"
)

// The benchmarks compare the broker with a bare kfake of the same settings, so that their difference is what guard and admission
// cost. One iteration is one record of 500 bytes; broker and client share the process, as they do in the product. Processor time is
// reported beside wall time, since it tells the two apart on a busy machine too.
//
//	go test -run xxx -bench . -benchtime 1000000x -count 5 ./deploy/devkafka

const benchPartitions = 8

func benchAddrs(b *testing.B, run func(b *testing.B, addr string)) {
	b.Run("guarded", func(b *testing.B) {
		broker := start(b, b.TempDir(), func(c *Config) { c.Logger = nil })
		must(b, broker.CreateTopic("t", benchPartitions, nil))
		run(b, broker.Addr())
	})
	b.Run("bare", func(b *testing.B) {
		c, err := kfake.NewCluster(
			kfake.NumBrokers(1), kfake.DataDir(b.TempDir()), kfake.ListenFn(net.Listen),
			kfake.BrokerConfigs(brokerConfigs(Config{MaxMessageBytes: defaultMaxMessageBytes})))
		must(b, err)
		defer c.Close()
		must(b, c.CreateTopic("t", benchPartitions, nil))
		run(b, c.ListenAddrs()[0])
	})
}

// timed runs what is measured.
func timed(b *testing.B, run func()) {
	var before, after unix.Rusage
	b.ResetTimer()
	must(b, unix.Getrusage(unix.RUSAGE_SELF, &before))
	run()
	must(b, unix.Getrusage(unix.RUSAGE_SELF, &after))
	b.StopTimer()
	spent := after.Utime.Nano() - before.Utime.Nano() + after.Stime.Nano() - before.Stime.Nano()
	b.ReportMetric(float64(spent)/float64(b.N), "cpu-ns/op")
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "records/s")
}

func fill(b *testing.B, addr string, records int) {
	cl := newClient(b, addr, kgo.MaxBufferedRecords(50_000))
	defer cl.Close()
	value := make([]byte, 500)
	for i := range records {
		cl.Produce(context.Background(), &kgo.Record{Topic: "t", Partition: int32(i % benchPartitions), Value: value}, func(_ *kgo.Record, err error) {
			if err != nil {
				b.Error(err)
			}
		})
	}
	must(b, cl.Flush(b.Context()))
}

func BenchmarkProduce(b *testing.B) {
	benchAddrs(b, func(b *testing.B, addr string) {
		timed(b, func() { fill(b, addr, b.N) })
	})
}

func BenchmarkConsume(b *testing.B) {
	benchAddrs(b, func(b *testing.B, addr string) {
		fill(b, addr, b.N)
		timed(b, func() {
			cl := newClient(b, addr, kgo.ConsumeTopics("t"), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
			defer cl.Close()
			for read := 0; read < b.N; {
				fetches := cl.PollFetches(b.Context())
				must(b, fetches.Err())
				read += fetches.NumRecords()
			}
		})
	})
}

// BenchmarkRoundTrip is one record at a time, acknowledged before the next: the cost of a request, not of its bytes.
func BenchmarkRoundTrip(b *testing.B) {
	benchAddrs(b, func(b *testing.B, addr string) {
		cl := newClient(b, addr, kgo.ProducerLinger(0))
		defer cl.Close()
		one := func() {
			must(b, cl.ProduceSync(b.Context(), &kgo.Record{Topic: "t", Value: make([]byte, 500)}).FirstErr())
		}
		one()
		timed(b, func() {
			for range b.N {
				one()
			}
		})
	})
}
