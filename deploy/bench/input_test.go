package bench

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/zeebo/xxh3"

	"github.com/tidemark-dev/tidemark/schemas/event"
	"github.com/tidemark-dev/tidemark/schemas/stream"
)

// input is a collection of records, in streams of equal size: record i belongs to stream i*len(ids)/records.
type input struct {
	ids     []stream.ID
	keys    [][]byte
	parts   []int32
	records int
	size    int // of a payload in bytes, about
}

func newInput(streams, records, size, partitions int) *input {
	in := &input{records: records, size: size}
	for i := range streams {
		id := stream.ID{Environment: "dev", Integration: "crm", Connection: "acme-" + strconv.Itoa(i), Model: "Contact", Variant: stream.VariantBase}
		key := []byte(id.Key())
		in.ids = append(in.ids, id)
		in.keys = append(in.keys, key)
		in.parts = append(in.parts, stream.Partition(key, int32(partitions)))
	}
	return in
}

func (in *input) stream(i int) int { return i * len(in.ids) / in.records }

// span is the records of a stream: from first, up to but not including end.
func (in *input) span(stream int) (first, end int) {
	n := len(in.ids)
	return (stream*in.records + n - 1) / n, ((stream+1)*in.records + n - 1) / n
}

func recordID(i int) string { return fmt.Sprintf("%08d", i) }

// payload makes a JSON object of about in.size bytes that looks like a CRM record: words and numbers compress, ids and hashes do not, so
// that snappy makes it 0.34 (350 B) to 0.45 (800 B) of its size; the real collection that the demo shows: 0.43. version changes four of its
// members. It appends to b.
func (in *input) payload(b []byte, i, version int) []byte {
	from := len(b)
	rng := splitmix(i)
	rng = splitmix(rng.next()) // so that the numbers of records do not overlap
	text := func(s string) { b = append(b, s...) }
	word := func() { text(words[rng.next()%uint64(len(words))]) }
	number := func(below uint64, width int) {
		v := rng.next() % below
		for w := pow10(width - 1); w > 1 && v < w; w /= 10 {
			b = append(b, '0')
		}
		b = strconv.AppendUint(b, v, 10)
	}
	text(`{"id":"`)
	text(recordID(i))
	text(`","email":"`)
	word()
	text(".")
	word()
	number(1e6, 1)
	text("@")
	word()
	text(`.example","first_name":"`)
	word()
	text(`","last_name":"`)
	word()
	text(`","owner_id":`)
	number(1e9, 1)
	text(`,"amount":`)
	b = strconv.AppendUint(b, rng.next()%1e6+uint64(version), 10)
	text(".")
	number(100, 2)
	text(`,"stage":"`)
	text(words[(rng.next()+uint64(version))%uint64(len(words))])
	text(`","updated_at":"2026-`)
	b = strconv.AppendInt(b, int64(version%3+10), 10)
	text("-")
	number(28, 2)
	text("T10:")
	b = strconv.AppendInt(b, int64(version%50+10), 10)
	text(`:00Z","revision":`)
	b = strconv.AppendInt(b, int64(version), 10)
	text(`,"address":{"street":"`)
	word()
	text(" ")
	number(999, 1)
	text(`","city":"`)
	word()
	text(`","zip":"`)
	number(99999, 5)
	text(`"},"tags":["`)
	word()
	text(`","`)
	word()
	text(`"]`)
	for n := 0; len(b)-from < in.size-30; n++ {
		text(`,"custom_`)
		b = strconv.AppendInt(b, int64(n), 10)
		text(`":"`)
		word()
		text(" ")
		word()
		text(" ")
		if v := rng.next(); n%2 == 0 {
			b = strconv.AppendUint(b, v|1<<63, 16)
		} else {
			b = strconv.AppendUint(b, v%1e5, 10)
		}
		text(`"`)
	}
	return append(b, '}')
}

func pow10(n int) uint64 {
	v := uint64(1)
	for range n {
		v *= 10
	}
	return v
}

// splitmix is a small generator (Steele, Lea, Flood: Fast splittable pseudorandom number generators): a payload takes dozens of numbers,
// and there are tens of millions of payloads.
type splitmix uint64

func (s *splitmix) next() uint64 {
	*s += 0x9E3779B97F4A7C15
	z := uint64(*s)
	z = (z ^ z>>30) * 0xBF58476D1CE4E5B9
	z = (z ^ z>>27) * 0x94D049BB133111EB
	return z ^ z>>31
}

var words = strings.Fields(`alpha bravo charlie delta echo foxtrot golf hotel india juliet kilo lima mike november oscar papa quebec romeo sierra
	tango uniform victor whiskey xray yankee zulu amber bronze coral desert ember forest garnet harbor island jasper`)

// inOrder and shuffled are orders of records: stream by stream, and at random, differently for each seed.
func inOrder(n int) []int {
	out := make([]int, n)
	for i := range out {
		out[i] = i
	}
	return out
}

func shuffled(n int, seed uint64) []int { return rand.New(rand.NewPCG(1, seed)).Perm(n) }

func client(tb testing.TB, seed string, opts ...kgo.Opt) *kgo.Client {
	tb.Helper()
	cl, err := kgo.NewClient(append(opts, kgo.SeedBrokers(seed), kgo.DisableClientMetrics())...)
	if err != nil {
		tb.Fatal(err)
	}
	return cl
}

// producer is the plain client that writes input and baselines.
func producer(tb testing.TB, seed string, codec kgo.CompressionCodec) *kgo.Client {
	return client(tb, seed, kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.ProducerBatchCompression(codec),
		kgo.ProducerLinger(20*time.Millisecond), kgo.MaxBufferedRecords(50_000), kgo.ProducerBatchMaxBytes(1<<20))
}

// zstd is how raw events are compressed, as package ingest does.
func zstd() kgo.CompressionCodec { return kgo.ZstdCompression().WithLevel(1) }

// feed writes saves of the records of that order into raw and returns where they begin.
func (in *input) feed(tb testing.TB, seed string, version int, order []int) offsets {
	tb.Helper()
	from := ends(tb, seed, names().Raw)
	cl := producer(tb, seed, zstd())
	defer cl.Close()
	in.produce(tb, cl, version, order)
	return from
}

// produce writes saves and waits until the broker has them.
func (in *input) produce(tb testing.TB, cl *kgo.Client, version int, order []int) {
	tb.Helper()
	var failed error // of promises, which run one after another
	var arena []byte
	for _, i := range order {
		if cap(arena)-len(arena) < 2*in.size+1024 {
			arena = make([]byte, 0, 256<<10)
		}
		at := len(arena)
		arena = in.payload(arena, i, version)
		r := event.Raw{Type: event.RawSave, ID: []byte(recordID(i))}
		s := in.stream(i)
		rec := &kgo.Record{Topic: names().Raw, Partition: in.parts[s], Key: in.keys[s], Value: arena[at:len(arena):len(arena)]}
		for _, h := range r.Headers(nil) {
			rec.Headers = append(rec.Headers, kgo.RecordHeader{Key: string(h.Key), Value: h.Value})
		}
		cl.Produce(context.Background(), rec, func(_ *kgo.Record, err error) {
			if err != nil {
				failed = err
			}
		})
	}
	if err := cl.Flush(context.Background()); err != nil {
		tb.Fatal(err)
	}
	if failed != nil {
		tb.Fatal(failed)
	}
}

type offsets map[int32]kgo.Offset

func ends(tb testing.TB, seed, topic string) offsets {
	tb.Helper()
	cl := client(tb, seed)
	defer cl.Close()
	list, err := kadm.NewClient(cl).ListEndOffsets(context.Background(), topic)
	if err == nil {
		err = list.Error()
	}
	if err != nil {
		tb.Fatal(err)
	}
	out := offsets{}
	list.Each(func(o kadm.ListedOffset) { out[o.Partition] = kgo.NewOffset().At(o.Offset) })
	return out
}

// consume is the baseline of everything that reads: a plain client that decodes n raw events from there on and hashes each payload.
func consume(tb testing.TB, seed string, from offsets, n int) span {
	tb.Helper()
	return consumeEach(tb, seed, from, n, nil)
}

// mirror is the baseline of everything that writes: consume, and what was read is written as it is to another topic, compressed as
// changes are.
func mirror(tb testing.TB, seed string, from offsets, n int) span {
	tb.Helper()
	out := producer(tb, seed, kgo.SnappyCompression())
	defer out.Close()
	return consumeEach(tb, seed, from, n, out)
}

func consumeEach(tb testing.TB, seed string, from offsets, n int, out *kgo.Client) span {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	stop := meter(tb, "")
	cl := client(tb, seed, kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{names().Raw: from}))
	defer cl.Close()
	sum := uint64(0)
	for read := 0; read < n; {
		f := cl.PollFetches(ctx)
		if err := f.Err(); err != nil {
			tb.Fatal(err)
		}
		f.EachRecord(func(r *kgo.Record) {
			h := xxh3.Hash128(r.Value)
			sum += h.Lo
			read++
			if out != nil {
				r.Topic = copyTopic
				out.Produce(ctx, r, nil)
			}
		})
	}
	if out != nil {
		if err := out.Flush(ctx); err != nil {
			tb.Fatal(err)
		}
	}
	if sum == 0 {
		tb.Fatal("nothing was hashed")
	}
	return stop()
}
