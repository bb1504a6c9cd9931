package batch

import (
	"fmt"
	"math/rand/v2"
	"testing"
)

// Batches of 100 records, as the processor writes them; the size is that of the payload's value.
func benchSets() map[string][]rec {
	rng := rand.New(rand.NewPCG(1, 1))
	return map[string][]rec{"350B": sample(rng, 100, 350), "800B": sample(rng, 100, 800)}
}

func BenchmarkBuild(b *testing.B) {
	for name, recs := range benchSets() {
		for _, c := range writable {
			b.Run(fmt.Sprintf("%s/%v", name, c), func(b *testing.B) {
				var bl Builder
				var dst []byte
				fill(&bl, recs)
				b.SetBytes(int64(bl.Size()))
				b.ReportAllocs()
				for range b.N {
					fill(&bl, recs)
					dst = bl.Build(dst[:0], c)
					SetProducer(dst, 1, 0, 0, false)
				}
				b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*len(recs)), "ns/record")
				b.ReportMetric(float64(len(dst))/float64(len(recs)), "B/record")
			})
		}
	}
}

func BenchmarkRead(b *testing.B) {
	for name, recs := range benchSets() {
		for _, c := range writable {
			b.Run(fmt.Sprintf("%s/%v", name, c), func(b *testing.B) {
				var bl Builder
				fill(&bl, recs)
				raw := bl.Build(nil, c)
				b.SetBytes(int64(bl.Size()))
				b.ReportAllocs()
				var r Record
				for range b.N {
					bt, _, err := Next(raw)
					if err != nil {
						b.Fatal(err)
					}
					rs, err := Decode(&bt, 1<<20)
					if err != nil {
						b.Fatal(err)
					}
					for {
						ok, err := rs.Next(&r)
						if err != nil {
							b.Fatal(err)
						}
						if !ok {
							break
						}
					}
					rs.Release()
				}
				b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*len(recs)), "ns/record")
			})
		}
	}
}

func BenchmarkSameContent(b *testing.B) {
	recs := benchSets()["800B"]
	var bl Builder
	fill(&bl, recs)
	one, two := bl.Build(nil, Snappy), bl.Build(nil, Snappy)
	for range b.N {
		if !SameContent(one, two) {
			b.Fatal("differs")
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*len(recs)), "ns/record")
}
