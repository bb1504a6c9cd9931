package ingest

import (
	"fmt"
	"math/rand/v2"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/tidemark-dev/tidemark/deploy/devkafka"
	"github.com/tidemark-dev/tidemark/schemas/stream"
	"github.com/tidemark-dev/tidemark/schemas/topic"
)

// BenchmarkSave writes a pipelined run of records of one stream through the embedded broker. cpu-ns/record is the time of the whole
// process, broker included.
func BenchmarkSave(b *testing.B) {
	for _, size := range []int{350, 800} {
		payloads := make([][]byte, 20_000)
		ids := make([]string, len(payloads))
		for i := range payloads {
			payloads[i] = benchPayload(i, size)
			ids[i] = "rec-" + strconv.Itoa(i)
		}
		for _, compression := range []string{CompressionZstd, CompressionLZ4, CompressionSnappy, CompressionNone} {
			b.Run(fmt.Sprintf("%dB/%s", size, compression), func(b *testing.B) {
				broker, err := devkafka.Start(b.Context(), devkafka.Config{DataDir: b.TempDir(), ReserveBytes: -1})
				if err != nil {
					b.Fatal(err)
				}
				defer broker.Close()
				names, _ := topic.NamesFor("bench", 1)
				spec := topic.Manifest(names, 8, topic.RecordBytesMax)[0]
				if err := broker.CreateTopic(spec.Name, spec.Partitions, spec.Configs); err != nil {
					b.Fatal(err)
				}
				p, err := NewProducer(b.Context(), Config{Seeds: []string{broker.Addr()}, Names: names, Compression: compression})
				if err != nil {
					b.Fatal(err)
				}
				defer p.Close(b.Context())
				run, err := p.Stream(stream.ID{Environment: "dev", Integration: "demo", Connection: "acme", Model: "Brand"}).Run(b.Context(), RunOptions{Pipeline: true})
				if err != nil {
					b.Fatal(err)
				}
				b.ReportAllocs()
				b.ResetTimer()
				before := cpuTime(b)
				for i := range b.N {
					if err := run.Save(b.Context(), ids[i%len(ids)], payloads[i%len(payloads)]); err != nil {
						b.Fatal(err)
					}
				}
				if err := run.Complete(b.Context(), CompleteOptions{}); err != nil {
					b.Fatal(err)
				}
				b.StopTimer()
				b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "records/s")
				b.ReportMetric(float64((cpuTime(b)-before).Nanoseconds())/float64(b.N), "cpu-ns/record")
			})
		}
	}
}

// benchPayload is a record of exactly that size, of which about half repeats from record to record.
func benchPayload(i, size int) []byte {
	r := rand.New(rand.NewPCG(1, uint64(i)))
	p := fmt.Appendf(nil, `{"id":"rec-%d","name":"Customer %d","email":"user%d@example.com","status":"active","updated_at":"2026-01-%02dT10:%02d:%02dZ",`+
		`"amount":%d,"owner":{"id":%d,"name":"Owner %d"},"tags":["a","b","vip"],"notes":"`, i, i, r.IntN(100_000), 1+i%28, i%60, r.IntN(60), r.IntN(1_000_000), r.IntN(500), r.IntN(500))
	words := []string{"lorem", "ipsum", "dolor", "sit", "amet", "consectetur", "adipiscing", "elit", "sed", "do"}
	for len(p) < size-2 {
		p = append(p, words[r.IntN(len(words))]...)
		p = strconv.AppendInt(append(p, ' '), int64(r.IntN(1000)), 36)
		p = append(p, ' ')
	}
	return append(p[:size-2], `"}`...)
}

func cpuTime(tb testing.TB) time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		tb.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
