package batch

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"hash/crc32"
	"math"
	"math/rand/v2"
	"runtime"
	"strings"
	"testing"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/s2"

	"github.com/tidemark-dev/tidemark/schemas/event"
)

var writable = []Codec{None, Snappy, LZ4, Zstd}

// rec is a record that a test owns.
type rec struct {
	Offset, TS int64
	Key, Value []byte
	Headers    []event.Header
}

func (r rec) String() string {
	return fmt.Sprintf("%d@%d %q=%q %q", r.Offset, r.TS, r.Key, r.Value, r.Headers)
}

func decodeAll(b *Batch, maxBytes int) ([]rec, error) {
	rs, err := Decode(b, maxBytes)
	if err != nil {
		return nil, err
	}
	defer rs.Release()
	var out []rec
	var r Record
	for {
		ok, err := rs.Next(&r)
		if err != nil || !ok {
			return out, err
		}
		c := rec{Offset: r.Offset, TS: r.TS, Key: bytes.Clone(r.Key), Value: bytes.Clone(r.Value)}
		for _, h := range r.Headers {
			c.Headers = append(c.Headers, event.Header{Key: bytes.Clone(h.Key), Value: bytes.Clone(h.Value)})
		}
		out = append(out, c)
	}
}

func mustDecode(t testing.TB, raw []byte) []rec {
	t.Helper()
	b, rest, err := Next(raw)
	if err != nil || len(rest) != 0 {
		t.Fatalf("Next: %v, %d bytes left", err, len(rest))
	}
	out, err := decodeAll(&b, 64<<20)
	if err != nil {
		t.Fatalf("Decode: %v", err)
	}
	return out
}

func equal(t testing.TB, got, want []rec) {
	t.Helper()
	if len(got) != len(want) {
		t.Fatalf("%d records, want %d", len(got), len(want))
	}
	for i := range want {
		g, w := got[i], want[i]
		if g.String() != w.String() || (g.Key == nil) != (w.Key == nil) || (g.Value == nil) != (w.Value == nil) {
			t.Fatalf("record %d: got %v, want %v", i, g, w)
		}
		for j := range w.Headers {
			if (g.Headers[j].Value == nil) != (w.Headers[j].Value == nil) {
				t.Fatalf("record %d, header %d: null and empty differ", i, j)
			}
		}
	}
}

// sample makes records like ours: JSON payloads that compress, three headers.
func sample(rng *rand.Rand, n, size int) []rec {
	out := make([]rec, n)
	for i := range out {
		var v bytes.Buffer
		fmt.Fprintf(&v, `{"v":1,"id":"3:%d","op":"u","key":{"environment":"dev","connection":"acme","id":"r%d"},"after":{`, i, rng.IntN(1e6))
		for f := 0; v.Len() < size-2; f++ {
			fmt.Fprintf(&v, `"field_%d":"%x",`, f, rng.Uint64())
		}
		v.WriteString(`"z":0}}`)
		out[i] = rec{
			Offset: int64(i), TS: 1_700_000_000_000 + int64(i)/3, Key: fmt.Appendf(nil, "dev/demo/acme/Brand/base/r%d", i), Value: v.Bytes(),
			Headers: []event.Header{
				{Key: []byte("op"), Value: []byte("UPDATED")}, {Key: []byte("csn"), Value: fmt.Append(nil, 1e6+i)},
				{Key: []byte("m"), Value: fmt.Appendf(nil, "%x%x", rng.Uint64(), rng.Uint64())},
			},
		}
	}
	return out
}

func fill(b *Builder, recs []rec) {
	b.Reset()
	for i := range recs {
		b.Append(recs[i].TS, recs[i].Key, recs[i].Value, recs[i].Headers)
	}
}

// TestBuild_Golden pins the format byte by byte: a batch of two records, worked out by hand from the documentation.
func TestBuild_Golden(t *testing.T) {
	var b Builder
	b.Append(1000, []byte("k"), []byte("vv"), []event.Header{{Key: []byte("h"), Value: []byte("x")}, {Key: []byte("n")}})
	b.Append(999, nil, []byte{}, nil)
	got := b.Build(nil, None)
	records := "20 00 00 00 02 6b 04 7676 04 02 68 02 78 02 6e 01" + // 16 bytes: attributes, ts +0, offset +0, "k", "vv", two headers
		"0c 00 01 02 01 00 00" // 6 bytes: ts -1, offset +1, null, empty, no headers
	header := "0000000000000000" + "00000049" + "ffffffff" + "02" + "00000000" + "0000" + "00000001" + "00000000000003e8" + "00000000000003e8" +
		"ffffffffffffffff" + "ffff" + "ffffffff" + "00000002"
	want, err := hex.DecodeString(strings.ReplaceAll(header+records, " ", ""))
	if err != nil {
		t.Fatal(err)
	}
	binary.BigEndian.PutUint32(want[17:], crc32.Checksum(want[21:], crc32.MakeTable(crc32.Castagnoli)))
	if !bytes.Equal(got, want) {
		t.Fatalf("\n got %x\nwant %x", got, want)
	}
	if b.Count() != 2 || b.Size() != len(got)-HeaderSize {
		t.Fatalf("Count %d, Size %d", b.Count(), b.Size())
	}
}

func TestRoundTrip(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	late := sample(rng, 20, 50)
	for i := range late {
		late[i].TS += int64(i * i)
	}
	sets := map[string][]rec{
		"late":       late,
		"one":        sample(rng, 1, 20),
		"many":       sample(rng, 500, 350),
		"large":      sample(rng, 3, 400_000),
		"tombstones": {{Key: []byte("a")}, {Offset: 1, TS: 5, Key: []byte{}, Value: []byte{}}},
		"times":      {{TS: math.MaxInt64 / 2}, {Offset: 1, TS: 0}, {Offset: 2, TS: math.MaxInt64 / 2}, {Offset: 3, TS: -7}},
		"headers": {{Headers: []event.Header{{Key: []byte("a"), Value: nil}, {Key: []byte{}, Value: []byte{}}}},
			{Offset: 1, Headers: make([]event.Header, 300)}, {Offset: 2}},
	}
	for i := range sets["headers"][1].Headers {
		sets["headers"][1].Headers[i].Key = []byte("same")
	}
	for name, recs := range sets {
		for _, c := range writable {
			t.Run(name+"/"+c.String(), func(t *testing.T) {
				var b Builder
				for range 2 { // the second time with used buffers
					fill(&b, recs)
					prefix := []byte("prefix")
					raw := b.Build(prefix, c)
					if string(raw[:6]) != "prefix" {
						t.Fatal("Build overwrote dst")
					}
					equal(t, mustDecode(t, raw[6:]), recs)
				}
				bt, _, err := Next(b.Build(nil, c))
				if err != nil {
					t.Fatal(err)
				}
				if bt.Codec() == c && c != None && len(bt.Raw)-HeaderSize >= b.Size() {
					t.Fatalf("%d bytes compressed to %d", b.Size(), len(bt.Raw)-HeaderSize)
				}
				if name == "many" && bt.Codec() != c {
					t.Fatalf("built with %v, want %v", bt.Codec(), c)
				}
				maxTS := recs[0].TS
				for _, r := range recs {
					maxTS = max(maxTS, r.TS)
				}
				if bt.FirstTS != recs[0].TS || bt.MaxTS != maxTS {
					t.Fatalf("timestamps %d, %d; want %d, %d", bt.FirstTS, bt.MaxTS, recs[0].TS, maxTS)
				}
				if int(bt.Count) != len(recs) || bt.Last != int64(len(recs)-1) || bt.ProducerID != -1 || bt.ProducerEpoch != -1 || bt.BaseSeq != -1 || bt.LeaderEpoch != -1 {
					t.Fatalf("%+v", bt)
				}
			})
		}
	}
}

func TestBuild_GzipPanics(t *testing.T) {
	defer func() {
		if recover() == nil {
			t.Fatal("no panic")
		}
	}()
	var b Builder
	b.Append(0, nil, nil, nil)
	b.Build(nil, Gzip)
}

// repack makes a batch with the records of raw compressed by hand; raw is uncompressed.
func repack(raw []byte, c Codec, payload []byte) []byte {
	out := append(bytes.Clone(raw[:HeaderSize]), payload...)
	binary.BigEndian.PutUint16(out[atAttributes:], uint16(c))
	return reseal(out)
}

func reseal(out []byte) []byte {
	binary.BigEndian.PutUint32(out[atLength:], uint32(len(out)-lengthBase))
	seal(out)
	return out
}

func gzipped(p []byte) []byte {
	var buf bytes.Buffer
	w := gzip.NewWriter(&buf)
	w.Write(p)
	w.Close()
	return buf.Bytes()
}

// xerial frames p as the Java client does, in blocks of the given size.
func xerial(p []byte, block int) []byte {
	out := append([]byte(xerialMagic), 0, 0, 0, 1, 0, 0, 0, 1)
	for len(p) > 0 {
		n := min(block, len(p))
		enc := s2.EncodeSnappy(nil, p[:n])
		out = append(binary.BigEndian.AppendUint32(out, uint32(len(enc))), enc...)
		p = p[n:]
	}
	return out
}

func TestDecode_ForeignFraming(t *testing.T) {
	recs := sample(rand.New(rand.NewPCG(3, 4)), 200, 800)
	var b Builder
	fill(&b, recs)
	raw := b.Build(nil, None)
	p := raw[HeaderSize:]
	equal(t, mustDecode(t, repack(raw, Gzip, gzipped(p))), recs)
	equal(t, mustDecode(t, repack(raw, Gzip, append(gzipped(p[:1000]), gzipped(p[1000:])...))), recs) // two members
	for _, size := range []int{1 << 10, 32 << 10, len(p)} {
		equal(t, mustDecode(t, repack(raw, Snappy, xerial(p, size))), recs)
	}
	for _, bad := range [][]byte{xerial(p, 1<<10)[:2000], append(xerial(p, 1<<10), 0, 0), append(xerial(p, 1<<10), 0x7f, 0xff, 0xff, 0xff)} {
		bt, _, err := Next(repack(raw, Snappy, bad))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := decodeAll(&bt, 64<<20); !errors.Is(err, ErrCorrupt) {
			t.Fatalf("got %v, want ErrCorrupt", err)
		}
	}
}

// TestDecode_Bomb: a few bytes that grow into many are refused, at the exact limit, by every codec.
func TestDecode_Bomb(t *testing.T) {
	var b Builder
	b.Append(0, nil, make([]byte, 20<<20), nil)
	size := b.Size()
	raw := b.Build(nil, None)
	bombs := map[Codec][]byte{
		None: raw, Gzip: repack(raw, Gzip, gzipped(raw[HeaderSize:])), Snappy: b.Build(nil, Snappy), LZ4: b.Build(nil, LZ4), Zstd: b.Build(nil, Zstd),
	}
	framed := repack(raw, Snappy, xerial(raw[HeaderSize:], 1<<20)) // each block below the limit
	if bt, _, err := Next(framed); err != nil {
		t.Fatal(err)
	} else if rs, err := Decode(&bt, size-1); !errors.Is(err, ErrCorrupt) || rs != nil {
		t.Errorf("xerial: got %v", err)
	}
	for c, bomb := range bombs {
		bt, _, err := Next(bomb)
		if err != nil || bt.Codec() != c {
			t.Fatalf("%v: %v %v", c, bt.Codec(), err)
		}
		for _, limit := range []int{0, 1 << 20, size - 1} {
			if rs, err := Decode(&bt, limit); !errors.Is(err, ErrCorrupt) || rs != nil {
				t.Errorf("%v, limit %d: got %v", c, limit, err)
			}
		}
		if _, err := decodeAll(&bt, size); err != nil {
			t.Errorf("%v at its size: %v", c, err)
		}
		if c == None {
			continue
		}
		// Refusing costs no more memory than the limit.
		const limit = 1 << 20
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		out, err := decompress(nil, bt.Raw[HeaderSize:], c, limit)
		runtime.ReadMemStats(&after)
		if err == nil || cap(out) > 2*limit {
			t.Errorf("%v: kept %d bytes, %v", c, cap(out), err)
		}
		if got := after.TotalAlloc - before.TotalAlloc; got > 5*limit { // doubling up to the limit costs the sum of the steps
			t.Errorf("%v: refusing allocates %d bytes", c, got)
		}
	}
}

func TestNext_Walk(t *testing.T) {
	recs := sample(rand.New(rand.NewPCG(5, 6)), 40, 300)
	var b Builder
	var log []byte
	for i := range 4 {
		fill(&b, recs[i*10:i*10+10])
		one := b.Build(nil, writable[i])
		binary.BigEndian.PutUint64(one, uint64(1000+10*i)) // as the broker does
		binary.BigEndian.PutUint32(one[atLeaderEpoch:], 7)
		log = append(log, one...)
	}
	for cut := 0; cut <= len(log); cut++ {
		rest, n := log[:cut:cut], 0
		for {
			bt, next, err := Next(rest)
			if errors.Is(err, ErrShort) {
				if !bytes.Equal(next, rest) {
					t.Fatal("a short batch was consumed")
				}
				if want := Length(rest); want != 0 && want <= len(rest) {
					t.Fatalf("short, but Length is %d of %d", want, len(rest))
				}
				break
			}
			if err != nil {
				t.Fatalf("cut at %d: %v", cut, err)
			}
			if bt.Base != int64(1000+10*n) || bt.Last != bt.Base+9 || bt.LeaderEpoch != 7 || Length(rest) != len(bt.Raw) {
				t.Fatalf("%+v", bt)
			}
			rest, n = next, n+1
		}
		if cut == len(log) && (n != 4 || len(rest) != 0) {
			t.Fatalf("%d batches, %d bytes left", n, len(rest))
		}
	}
}

// TestNext_EveryBit: whatever bit of a batch flips, it is found, or it is one of the fields that the checksum leaves to the broker.
func TestNext_EveryBit(t *testing.T) {
	var b Builder
	fill(&b, sample(rand.New(rand.NewPCG(7, 8)), 3, 60))
	raw := b.Build(nil, Snappy)
	for bit := range 8 * len(raw) {
		bad := bytes.Clone(raw)
		bad[bit/8] ^= 1 << (bit % 8)
		_, _, err := Next(bad)
		at := bit / 8
		free := at < atLength || at >= atLeaderEpoch && at < atMagic
		switch {
		case err == nil && !free:
			t.Fatalf("bit %d of byte %d flipped unseen", bit%8, at)
		case err != nil && !errors.Is(err, ErrCorrupt) && !errors.Is(err, ErrShort):
			t.Fatalf("byte %d: %v", at, err)
		}
	}
}

func TestNext_Impossible(t *testing.T) {
	var b Builder
	fill(&b, sample(rand.New(rand.NewPCG(9, 9)), 3, 60))
	for name, damage := range map[string]func(raw []byte) []byte{
		"old format":         func(raw []byte) []byte { raw[atMagic] = 1; return raw },
		"negative length":    func(raw []byte) []byte { binary.BigEndian.PutUint32(raw[atLength:], ^uint32(0)); return raw },
		"tiny length":        func(raw []byte) []byte { binary.BigEndian.PutUint32(raw[atLength:], 48); return raw },
		"negative base":      func(raw []byte) []byte { binary.BigEndian.PutUint64(raw, 1<<63); return raw },
		"offsets overflow":   func(raw []byte) []byte { binary.BigEndian.PutUint64(raw, math.MaxInt64-2); return raw },
		"negative delta":     func(raw []byte) []byte { binary.BigEndian.PutUint32(raw[atLastDelta:], ^uint32(0)); return reseal(raw) },
		"negative count":     func(raw []byte) []byte { binary.BigEndian.PutUint32(raw[atCount:], ^uint32(0)); return reseal(raw) },
		"more than offsets":  func(raw []byte) []byte { binary.BigEndian.PutUint32(raw[atCount:], 4); return reseal(raw) },
		"unknown compressor": func(raw []byte) []byte { raw[atAttributes+1] = 5; return reseal(raw) },
	} {
		if _, _, err := Next(damage(b.Build(nil, None))); !errors.Is(err, ErrCorrupt) {
			t.Errorf("%s: got %v, want ErrCorrupt", name, err)
		}
	}
}

// TestDecode_Malformed: a batch whose checksum is right and whose records are not.
func TestDecode_Malformed(t *testing.T) {
	var b Builder
	b.Append(10, []byte("k"), []byte("v"), []event.Header{{Key: []byte("a"), Value: []byte("b")}})
	b.Append(11, []byte("k"), []byte("v"), nil)
	raw := b.Build(nil, None)
	// Of the first record: 0 length, 1 attributes, 2 ts, 3 offset, 4 key length, 5 key, 6 value length, 7 value, 8 headers, 9 key length,
	// 10 key, 11 value length, 12 value. Of the second: 13 length, 16 offset.
	set := func(at int, v byte) func([]byte) []byte {
		return func(p []byte) []byte { p[HeaderSize+at] = v; return p }
	}
	for name, damage := range map[string]func([]byte) []byte{
		"record length zero":      set(0, 0),
		"record length negative":  set(0, 1),
		"record length too large": set(0, 0x7e),
		"offset negative":         set(3, 1),
		"offset behind the last":  set(16, 4),
		"offset repeated":         set(16, 0),
		"key length -2":           set(4, 3),
		"key too long":            set(4, 0x7e),
		"value too long":          set(6, 0x7e),
		"headers negative":        set(8, 1),
		"too many headers":        set(8, 0x7e),
		"null header key": func(p []byte) []byte { // one byte less
			p = append(p[:HeaderSize+10], p[HeaderSize+11:]...)
			p[HeaderSize], p[HeaderSize+9] = p[HeaderSize]-2, 1
			return p
		},
		"header value too long":  set(11, 0x7e),
		"header value too short": set(11, 0),
		"endless varint": func(p []byte) []byte {
			return append(p[:HeaderSize], bytes.Repeat([]byte{0xff}, 30)...)
		},
		"varint of 65 bits": func(p []byte) []byte {
			return append(p[:HeaderSize], 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2, 0, 0, 0, 0, 0)
		},
		"bytes behind the records": func(p []byte) []byte { return append(p, 0) },
		"a record missing":         func(p []byte) []byte { return p[:HeaderSize+13] },
	} {
		bt, _, err := Next(reseal(damage(bytes.Clone(raw))))
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if got, err := decodeAll(&bt, 1<<20); !errors.Is(err, ErrCorrupt) {
			t.Errorf("%s: got %v, %v", name, got, err)
		}
	}
}

func TestVarint(t *testing.T) {
	for _, v := range []int64{0, -1, 1, 63, -64, 64, -65, 1 << 20, math.MaxInt32, math.MinInt32, math.MaxInt64, math.MinInt64} {
		enc := appendVarint(nil, v)
		if len(enc) != varintLen(v) {
			t.Errorf("%d: %d bytes, varintLen says %d", v, len(enc), varintLen(v))
		}
		got, rest, ok := varint(append(enc, 0x55))
		if got != v || !ok || len(rest) != 1 {
			t.Errorf("%d: got %d, %v", v, got, ok)
		}
		if _, _, ok := varint(enc[:len(enc)-1]); ok {
			t.Errorf("%d: accepted without its last byte", v)
		}
	}
	full := bytes.Repeat([]byte{0xff}, 9)
	for last, want := range map[byte]bool{0: true, 1: true, 2: false, 0x80: false} {
		if _, _, ok := varint(append(full[:9:9], last, 0)); ok != want {
			t.Errorf("tenth byte %#x: accepted is %v", last, ok)
		}
	}
}

// TestDecode_Compacted: compaction removes records from inside a batch, its offsets stay; in the end only the header is left.
func TestDecode_Compacted(t *testing.T) {
	var b Builder
	b.Append(10, []byte("a"), []byte("1"), nil)
	b.Append(11, []byte("b"), []byte("2"), nil)
	b.Append(12, []byte("c"), []byte("3"), nil)
	raw := b.Build(nil, None)
	one := (len(raw) - HeaderSize) / 3
	holed := append(bytes.Clone(raw[:HeaderSize]), raw[HeaderSize+2*one:]...)
	binary.BigEndian.PutUint64(holed, 500)
	binary.BigEndian.PutUint32(holed[atCount:], 1)
	equal(t, mustDecode(t, reseal(holed)), []rec{{Offset: 502, TS: 12, Key: []byte("c"), Value: []byte("3")}})

	empty := bytes.Clone(raw[:HeaderSize])
	binary.BigEndian.PutUint64(empty, 500)
	binary.BigEndian.PutUint32(empty[atCount:], 0)
	binary.BigEndian.PutUint16(empty[atAttributes:], uint16(Zstd))
	bt, _, err := Next(reseal(empty))
	if err != nil || bt.Base != 500 || bt.Last != 502 {
		t.Fatalf("%+v, %v", bt, err)
	}
	equal(t, mustDecode(t, empty), nil)
}

func TestDecode_LogAppendTime(t *testing.T) {
	var b Builder
	b.Append(10, nil, []byte("a"), nil)
	b.Append(20, nil, []byte("b"), nil)
	raw := b.Build(nil, None)
	raw[atAttributes+1] |= attrLogAppendTime
	binary.BigEndian.PutUint64(raw[atMaxTS:], 99)
	equal(t, mustDecode(t, reseal(raw)), []rec{{TS: 99, Value: []byte("a")}, {Offset: 1, TS: 99, Value: []byte("b")}})
}

func TestSetProducer(t *testing.T) {
	var b Builder
	recs := sample(rand.New(rand.NewPCG(1, 1)), 5, 100)
	fill(&b, recs)
	raw := b.Build(nil, Snappy)
	plain := bytes.Clone(raw)
	for _, txn := range []bool{true, false} {
		SetProducer(raw, 1<<40+7, 3, 12345, txn)
		bt, _, err := Next(raw)
		if err != nil {
			t.Fatal(err)
		}
		if bt.ProducerID != 1<<40+7 || bt.ProducerEpoch != 3 || bt.BaseSeq != 12345 || bt.Transactional() != txn || bt.Control() || bt.Codec() != Snappy {
			t.Fatalf("%+v", bt)
		}
		equal(t, mustDecode(t, raw), recs)
	}
	SetProducer(raw, -1, -1, -1, false)
	if !bytes.Equal(raw, plain) {
		t.Fatal("SetProducer left something behind")
	}
}

func TestSameContent(t *testing.T) {
	var b Builder
	fill(&b, sample(rand.New(rand.NewPCG(1, 1)), 5, 100))
	produced := b.Build(nil, Snappy)
	for at := range produced {
		fetched := bytes.Clone(produced)
		fetched[at] ^= 0x10
		want := at < atLength || at >= atLeaderEpoch && at < atMagic
		if got := SameContent(fetched, produced); got != want {
			t.Fatalf("byte %d differs: %v", at, got)
		}
	}
	if !SameContent(produced, produced) || SameContent(produced[:len(produced)-1], produced) || SameContent(nil, nil) {
		t.Fatal("wrong")
	}
}

func TestSteadyState_NoAllocations(t *testing.T) {
	if raceEnabled {
		t.Skip("sync.Pool drops items at random under the race detector")
	}
	recs := sample(rand.New(rand.NewPCG(2, 2)), 100, 800)
	for _, c := range writable {
		var b Builder
		fill(&b, recs)
		dst := b.Build(nil, c)
		if got := testing.AllocsPerRun(50, func() {
			fill(&b, recs)
			dst = b.Build(dst[:0], c)
		}); got > 0 {
			t.Errorf("building with %v: %.1f allocations a batch", c, got)
		}
	}
	for _, c := range writable {
		var b Builder
		fill(&b, recs)
		raw := b.Build(nil, c)
		run := func() {
			bt, _, err := Next(raw)
			if err != nil {
				t.Fatal(err)
			}
			rs, err := Decode(&bt, 1<<20)
			if err != nil {
				t.Fatal(err)
			}
			var r Record
			n := 0
			for {
				ok, err := rs.Next(&r)
				if err != nil {
					t.Fatal(err)
				}
				if !ok {
					break
				}
				n += len(r.Headers)
			}
			if n != 3*len(recs) {
				t.Fatal(n)
			}
			rs.Release()
		}
		for range 20 {
			run()
		}
		if got := testing.AllocsPerRun(50, run); got > 0 {
			t.Errorf("reading %v: %.1f allocations a batch", c, got)
		}
	}
}
