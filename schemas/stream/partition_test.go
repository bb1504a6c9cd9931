package stream

import (
	"math"
	"math/rand/v2"
	"testing"

	"github.com/twmb/franz-go/pkg/kgo"
)

// The vectors of the test of Utils.murmur2 in Apache Kafka, which hold for every client that calls its partitioner murmur2.
func TestMurmur2_KafkaVectors(t *testing.T) {
	for key, want := range map[string]int32{
		"21":                         -973932308,
		"foobar":                     -790332482,
		"a-little-bit-long-string":   -985981536,
		"a-little-bit-longer-string": -1486304829,
		"lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8": -58897971,
		"abc": 479470107,
	} {
		if got := int32(murmur2(key)); got != want {
			t.Errorf("murmur2(%q) = %d, want %d", key, got, want)
		}
		if got, want := Partition([]byte(key), math.MaxInt32), (want&math.MaxInt32)%math.MaxInt32; got != want {
			t.Errorf("partition of %q is %d, want %d", key, got, want)
		}
	}
}

// Keys of every length modulo 4 and bytes of both signs, against the client that most of our producers use.
func TestPartition_AgreesWithFranzGo(t *testing.T) {
	partitioner := kgo.StickyKeyPartitioner(nil).ForTopic("raw")
	const seed = 1
	r := rand.New(rand.NewPCG(seed, 1))
	for i := range 5000 {
		key := make([]byte, 1+r.IntN(80))
		for j := range key {
			key[j] = byte(r.Uint32())
		}
		partitions := 1 + r.IntN(300)
		want := partitioner.Partition(&kgo.Record{Key: key}, partitions)
		if got := Partition(key, int32(partitions)); int(got) != want {
			t.Fatalf("seed %d, key %d: %x in %d partitions: %d, want %d", seed, i, key, partitions, got, want)
		}
		if got := Partition(string(key), int32(partitions)); int(got) != want {
			t.Fatalf("seed %d, key %d: as text %d, want %d", seed, i, got, want)
		}
	}
}
