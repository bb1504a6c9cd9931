package kafka

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/twmb/franz-go/pkg/kfake"

	"github.com/tidemark-dev/tidemark/processor/batch"
	"github.com/tidemark-dev/tidemark/schemas/event"
)

// payloads fills a batch with n records of about size bytes that compress as JSON does, three headers each.
func payloads(rng *rand.Rand, n, size int) *batch.Builder {
	var b batch.Builder
	for i := range n {
		v := fmt.Appendf(nil, `{"v":1,"id":"3:%d","op":"u","after":{`, i)
		for f := 0; len(v) < size; f++ {
			v = fmt.Appendf(v, `"field_%d":"%x",`, f, rng.Uint64())
		}
		b.Append(1_700_000_000_000, fmt.Appendf(nil, "dev/demo/acme/Brand/base/r%d", i), append(v, `"z":0}}`...), []event.Header{
			{Key: []byte("op"), Value: []byte("UPDATED")}, {Key: []byte("csn"), Value: fmt.Append(nil, 1_000_000+i)},
			{Key: []byte("m"), Value: fmt.Appendf(nil, "%x%x", rng.Uint64(), rng.Uint64())},
		})
	}
	return &b
}

// The broker is in the same process, keeps its data in files, and takes its share of the CPU.

func benchEnv(b *testing.B) (*env, *Log) {
	e := newEnv(b, false, kfake.NumBrokers(1), kfake.DataDir(b.TempDir()))
	return e, e.open()
}

func BenchmarkAppend(b *testing.B) {
	for _, size := range []int{350, 800} {
		for _, n := range []int{10, 100, 1000} {
			b.Run(fmt.Sprintf("%dB/%d", size, n), func(b *testing.B) {
				e, l := benchEnv(b)
				w := e.writer(l, 0)
				bl := payloads(rand.New(rand.NewPCG(1, 1)), n, size)
				b.ReportAllocs()
				b.ResetTimer()
				for range b.N {
					if _, err := w.Append(e.ctx, names.Changes, bl, nil); err != nil {
						b.Fatal(err)
					}
				}
				b.ReportMetric(float64(b.N*n)/b.Elapsed().Seconds(), "records/s")
			})
		}
	}
}

// BenchmarkRead reads the same log over and over: fetch, decode and look at every record.
func BenchmarkRead(b *testing.B) {
	for _, size := range []int{350, 800} {
		for _, decode := range []bool{false, true} {
			name := fmt.Sprintf("%dB/fetch", size)
			if decode {
				name += "+decode"
			}
			b.Run(name, func(b *testing.B) {
				e, l := benchEnv(b)
				w := e.writer(l, 0)
				const n, batches = 100, 400
				bl := payloads(rand.New(rand.NewPCG(1, 1)), n, size)
				for range batches {
					if _, err := w.Append(e.ctx, names.Changes, bl, nil); err != nil {
						b.Fatal(err)
					}
				}
				r := l.Reader(names.Changes, 0, 0)
				defer r.Close()
				b.ReportAllocs()
				b.ResetTimer()
				records := 0
				for range b.N {
					r.SetPosition(0)
					for r.Position() < n*batches {
						bs, err := r.Next(e.ctx)
						if err != nil {
							b.Fatal(err)
						}
						for i := range bs {
							records += int(bs[i].Count)
							if !decode {
								continue
							}
							rs, err := batch.Decode(&bs[i], 16<<20)
							if err != nil {
								b.Fatal(err)
							}
							var rec batch.Record
							for {
								ok, err := rs.Next(&rec)
								if err != nil {
									b.Fatal(err)
								}
								if !ok {
									break
								}
							}
							rs.Release()
						}
					}
				}
				b.ReportMetric(float64(records)/b.Elapsed().Seconds(), "records/s")
			})
		}
	}
}
