package batch

import (
	"bytes"
	"encoding/binary"
	"errors"
	"math/rand/v2"
	"testing"

	"github.com/tidemark-dev/tidemark/schemas/event"
)

const fuzzBytesMax = 1 << 20

// checkBatch reads a batch of unknown origin and holds it against what the package promises.
func checkBatch(t *testing.T, b *Batch) {
	t.Helper()
	rs, err := Decode(b, fuzzBytesMax)
	if err != nil {
		if !errors.Is(err, ErrCorrupt) {
			t.Fatalf("error outside of ErrCorrupt: %v", err)
		}
		return
	}
	defer rs.Release()
	if cap(rs.buf) > 2*fuzzBytesMax && cap(rs.buf) > bufKeep {
		t.Fatalf("buffer of %d bytes", cap(rs.buf))
	}
	var r Record
	n, last := int32(0), b.Base-1
	for {
		ok, err := rs.Next(&r)
		if err != nil {
			if !errors.Is(err, ErrCorrupt) {
				t.Fatalf("error outside of ErrCorrupt: %v", err)
			}
			if again, err := rs.Next(&r); again || err != nil {
				t.Fatalf("went on behind an error: %v, %v", again, err)
			}
			return
		}
		if !ok {
			break
		}
		n++
		if r.Offset <= last || r.Offset > b.Last {
			t.Fatalf("offset %d after %d in [%d, %d]", r.Offset, last, b.Base, b.Last)
		}
		last = r.Offset
	}
	if n != b.Count {
		t.Fatalf("%d records, header says %d", n, b.Count)
	}
}

func FuzzNext(f *testing.F) {
	recs := sample(rand.New(rand.NewPCG(1, 1)), 3, 40)
	var b Builder
	fill(&b, recs)
	for _, c := range writable {
		one := b.Build(nil, c)
		f.Add(one)
		f.Add(append(one, b.Build(nil, None)[:70]...))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		for len(data) > 0 {
			b, rest, err := Next(data)
			if err != nil {
				if !errors.Is(err, ErrCorrupt) && !errors.Is(err, ErrShort) {
					t.Fatalf("unexpected error %v", err)
				}
				break
			}
			if len(b.Raw)+len(rest) != len(data) || b.Last < b.Base || b.Last+1 < 0 {
				t.Fatalf("%+v", b)
			}
			checkBatch(t, &b)
			data = rest
		}
	})
}

// FuzzDecode gets behind the checksum: whatever is in a batch, it is sealed.
func FuzzDecode(f *testing.F) {
	recs := sample(rand.New(rand.NewPCG(1, 1)), 3, 40)
	var b Builder
	fill(&b, recs)
	for _, c := range writable {
		f.Add(byte(c), int32(3), b.Build(nil, c)[HeaderSize:])
	}
	raw := b.Build(nil, None)
	f.Add(byte(Gzip), int32(3), gzipped(raw[HeaderSize:]))
	f.Add(byte(Snappy), int32(3), xerial(raw[HeaderSize:], 50))
	f.Fuzz(func(t *testing.T, attributes byte, count int32, payload []byte) {
		raw := append(make([]byte, HeaderSize), payload...)
		raw[atMagic] = magic
		raw[atAttributes+1] = attributes
		binary.BigEndian.PutUint32(raw[atCount:], uint32(count))
		binary.BigEndian.PutUint32(raw[atLastDelta:], uint32(count-1))
		bt, _, err := Next(reseal(raw))
		if err != nil {
			return
		}
		checkBatch(t, &bt)
	})
}

// FuzzRoundTrip: what the Builder writes, Decode reads, with every codec.
func FuzzRoundTrip(f *testing.F) {
	f.Add(int64(1), int64(2), []byte("k"), []byte("v"), []byte("h"), []byte("x"), byte(3))
	f.Add(int64(-1), int64(1<<62), []byte(nil), []byte(""), []byte(""), []byte(nil), byte(0))
	var b Builder
	f.Fuzz(func(t *testing.T, ts, step int64, key, value, hk, hv []byte, n byte) {
		var recs []rec
		for i := range int64(n%8) + 1 {
			r := rec{Offset: i, TS: ts + i*step, Key: key, Value: value}
			for range i {
				r.Headers = append(r.Headers, event.Header{Key: append([]byte{}, hk...), Value: hv})
			}
			recs = append(recs, r)
		}
		fill(&b, recs)
		for _, c := range writable {
			raw := b.Build(nil, c)
			SetProducer(raw, ts, int16(step), int32(n), false)
			equal(t, mustDecode(t, raw), recs)
			if !SameContent(raw, bytes.Clone(raw)) {
				t.Fatal("a batch differs from itself")
			}
		}
	})
}
