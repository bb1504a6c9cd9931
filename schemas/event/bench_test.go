package event

import (
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"
	"testing"

	"github.com/klauspost/compress/snappy"
	"github.com/klauspost/compress/zstd"

	"github.com/tidemark-dev/tidemark/schemas/stream"
)

// benchChange is an UPDATED of an 800-byte record of a CRM stream, in the middle of a group.
func benchChange(r *rand.Rand, i uint64) (*Change, *Meta) {
	m := &Meta{
		Term: 3, Nonce: 0xdeadbeef, CSN: 1_234_567 + i, GI: i, SID: 7, RawOffset: 2_345_678 + int64(i), TS: 1_795_212_422_000, Run: 311,
		Record: true, PrevCSN: 234_567 + uint64(r.IntN(10_000)), FirstSeen: 1_795_212_422_000 - 20*86_400_000 - r.Int64N(100_000),
		Algo: AlgoXXH3, Rev: 7, Live: 43_600,
	}
	for j := range m.Hash {
		m.Hash[j], m.Digest[j] = byte(r.Uint32()), byte(r.Uint32())
	}
	return &Change{
		Op: OpUpdated, Partition: 3, Key: benchKey, ID: strconv.AppendInt(nil, r.Int64N(1e9), 10),
		Payload: benchPayload(r, 800), Changed: []string{"field_1", "field_4"}, ChangedKnown: true,
	}, m
}

var benchKey = NewKey(stream.ID{Environment: "prod", Integration: "hubspot", Connection: "acme", Model: "Contact"})

var benchWords = []string{"alpha", "bravo", "charlie", "delta", "echo", "foxtrot", "golf", "hotel", "india", "juliet"}

func benchPayload(r *rand.Rand, size int) []byte {
	b := fmt.Appendf(nil, `{"id":"%d"`, r.Uint64())
	for i := 0; len(b) < size-60; i++ {
		b = fmt.Appendf(b, `,"field_%d":"%s %s %d"`, i, benchWords[r.IntN(10)], benchWords[r.IntN(10)], r.IntN(1e6))
	}
	return append(b, `,"pad":"`+strings.Repeat("x", size-len(b)-10)+`"}`...)
}

func benchHeaders(op Op, m *Meta) []Header {
	return []Header{
		{[]byte(HeaderOp), []byte(op.String())},
		{[]byte(HeaderCSN), strconv.AppendUint(nil, m.CSN, 10)},
		{[]byte(HeaderMeta), AppendMeta(nil, m)},
	}
}

func BenchmarkAppendChangeAndMeta(b *testing.B) {
	c, m := benchChange(rand.New(rand.NewPCG(1, 2)), 42)
	var value, meta []byte
	b.ReportAllocs()
	for b.Loop() {
		value = AppendChange(value[:0], c, m)
		meta = AppendMeta(meta[:0], m)
	}
}

func BenchmarkAppendMeta(b *testing.B) {
	_, m := benchChange(rand.New(rand.NewPCG(1, 2)), 42)
	var meta []byte
	b.ReportAllocs()
	for b.Loop() {
		meta = AppendMeta(meta[:0], m)
	}
}

func BenchmarkParseMeta(b *testing.B) {
	_, m := benchChange(rand.New(rand.NewPCG(1, 2)), 42)
	text := AppendMeta(nil, m)
	var out Meta
	b.ReportAllocs()
	for b.Loop() {
		if err := ParseMeta(text, &out); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkParseRecord(b *testing.B) {
	_, m := benchChange(rand.New(rand.NewPCG(1, 2)), 42)
	headers := benchHeaders(OpUpdated, m)
	var out Meta
	b.ReportAllocs()
	for b.Loop() {
		if _, err := ParseRecord(headers, &out); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkParseRaw(b *testing.B) {
	headers := (&Raw{Type: RawSave, ID: []byte("501234567"), Run: 12, N: 1_234_567}).Headers(nil)
	var out Raw
	b.ReportAllocs()
	for b.Loop() {
		if err := ParseRaw(headers, nil, &out); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkAppendTime(b *testing.B) {
	var buf []byte
	for b.Loop() {
		buf = AppendTime(buf[:0], 1_795_212_422_123)
	}
}

// BenchmarkEnvelopeOverhead reports what key, headers and envelope add to a payload of 800 bytes: as written, and after
// compression in batches of 100 records, which is what disks and networks see. Lengths and attributes of the Kafka record
// itself (about 15 bytes) are not in it.
func BenchmarkEnvelopeOverhead(b *testing.B) {
	const records = 100
	r := rand.New(rand.NewPCG(1, 2))
	var payloads, log []byte
	var value, headers, key int
	for i := range uint64(records) {
		c, m := benchChange(r, i)
		v := AppendChange(nil, c, m)
		k := stream.RecordKey(c.Key.Stream, string(c.ID))
		log = append(append(log, k...), v...)
		for _, h := range benchHeaders(c.Op, m) {
			log = append(append(log, h.Key...), h.Value...)
			headers += len(h.Key) + len(h.Value)
		}
		payloads = append(payloads, c.Payload...)
		value += len(v) - len(c.Payload)
		key += len(k)
	}
	z, err := zstd.NewWriter(nil)
	if err != nil {
		b.Fatal(err)
	}
	for b.Loop() { // sizes only; Loop would forget metrics reported before it
	}
	per := func(n int) float64 { return float64(n) / records }
	b.ReportMetric(per(key), "key-B")
	b.ReportMetric(per(headers), "headers-B")
	b.ReportMetric(per(value), "envelope-B")
	b.ReportMetric(per(key+headers+value), "all-B")
	b.ReportMetric(per(len(snappy.Encode(nil, log))-len(snappy.Encode(nil, payloads))), "all-snappy-B")
	b.ReportMetric(per(len(z.EncodeAll(log, nil))-len(z.EncodeAll(payloads, nil))), "all-zstd-B")
	b.ReportMetric(0, "ns/op")
}
