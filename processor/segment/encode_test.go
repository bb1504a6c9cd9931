package segment

import (
	"bytes"
	"math/rand/v2"
	"testing"
)

// TestEncode checks the shape of frames: every record exactly once, runs and blocks in order, the cut rules, and that the index leads to
// each record.
func TestEncode(t *testing.T) {
	seed, g := newRand(t)
	for round := range 200 {
		w := world{seed: seed + uint64(round), streams: uint32(1 + g.IntN(40)), huge: 10_000}
		through := uint64(1 + g.IntN(300))
		blockBytes := 300 + g.IntN(5000)
		f, b := encodeWorld(t, w, through, blockBytes)
		parsed, err := checkFrame(b, 0)
		if err != nil {
			t.Fatalf("round %d: %v", round, err)
		}
		if parsed.first != 1 || parsed.through != through || int(parsed.size) != len(b) || len(parsed.runs) != len(f.runs) || parsed.newest != f.newest {
			t.Fatalf("round %d: read back as %+v", round, parsed)
		}
		recs := w.call(0, through)
		if int(f.records) != len(recs) {
			t.Fatalf("round %d: %d records, want %d", round, f.records, len(recs))
		}
		for i := range recs {
			r := &recs[i]
			n, ok := f.find(r.SID, r.CSN)
			if !ok || !bytes.Contains(decoded(t, b, f.blocks[n]), encoded(r)) {
				t.Fatalf("round %d: csn %d is not in block %d", round, r.CSN, n)
			}
		}
		total, runs := 0, 0
		for i, ref := range f.blocks {
			raw, n := decoded(t, b, ref), 0
			var lastSID uint32
			var lastCSN uint64
			for rest := raw; len(rest) > 0; n++ {
				sid, csn, size, ok := peekRecord(rest)
				if !ok || n > 0 && (sid < lastSID || sid == lastSID && csn <= lastCSN) {
					t.Fatalf("round %d: block %d is out of order at record %d", round, i, n)
				}
				if n == 0 || sid != lastSID {
					if r := f.runs[runs]; r.sid != sid || r.csn != csn || int(r.block) != i {
						t.Fatalf("round %d: run %d is %+v, want block %d (%d, %d)", round, runs, r, i, sid, csn)
					}
					runs++
				}
				lastSID, lastCSN, rest = sid, csn, rest[size:]
			}
			if len(raw) > blockBytes && n > 1 {
				t.Fatalf("round %d: block %d has %d bytes in %d records, limit %d", round, i, len(raw), n, blockBytes)
			}
			total += n
		}
		if total != len(recs) || runs != len(f.runs) {
			t.Fatalf("round %d: blocks hold %d records, %d runs", round, total, runs)
		}
	}
}

func decoded(t testing.TB, b []byte, ref blockRef) []byte {
	blk, err := decodeBlock(b[ref.off : ref.off+ref.size])
	must(t, err)
	defer blk.release()
	return bytes.Clone(blk.buf)
}

func encoded(r *Record) []byte {
	b := make([]byte, recordSize(r))
	putRecord(b, r)
	return b
}

// TestCodec: what doesn't compress is stored.
func TestCodec(t *testing.T) {
	_, g := newRand(t)
	for _, c := range []struct {
		raw   []byte
		codec byte
	}{
		{bytes.Repeat([]byte("abc"), 1000), codecSnappy}, {noise(g, 3000), codecStored}, {noise(g, 1), codecStored},
		{append(noise(g, 64<<10), make([]byte, 1<<20)...), codecSnappy},
	} {
		prefix := []byte("before")
		b := appendBlock(bytes.Clone(prefix), c.raw)
		if !bytes.HasPrefix(b, prefix) || b[len(prefix)] != c.codec {
			t.Fatalf("%d bytes are stored with codec %d", len(c.raw), b[len(prefix)])
		}
		blk, err := decodeBlock(b[len(prefix):])
		must(t, err)
		if !bytes.Equal(blk.buf, c.raw) {
			t.Fatal("other bytes come back")
		}
		blk.release()
	}
	for _, b := range [][]byte{nil, {2, 0}, {codecSnappy}, {codecSnappy, 5, 1}, {codecSnappy, 0xff, 0xff, 0xff, 0xff, 0x0f}} {
		if _, err := decodeBlock(b); err == nil {
			t.Errorf("% x decodes", b)
		}
	}
}

// TestCache checks bounds, order and references against a plain model.
func TestCache(t *testing.T) {
	_, g := newRand(t)
	const size, perShard = 1000, 5
	c := NewCache(size * perShard * cacheShards)
	model := map[*cacheShard][]blockKey{} // most recent first
	for range 20_000 {
		k := blockKey{segment: uint64(g.IntN(3)), off: uint32(g.IntN(60)) << 7}
		s := c.shard(k)
		at := -1
		for i, have := range model[s] {
			if have == k {
				at = i
			}
		}
		b := c.get(k)
		if (b != nil) != (at >= 0) {
			t.Fatalf("%v cached: %v, want %v", k, b != nil, at >= 0)
		}
		if b == nil {
			b = &block{buf: make([]byte, size)}
			b.refs.Store(1)
			putU32(b.buf, uint32(k.segment)<<24|k.off)
			c.put(k, b)
		} else {
			model[s] = append(model[s][:at:at], model[s][at+1:]...)
		}
		model[s] = append([]blockKey{k}, model[s]...)
		if len(model[s]) > perShard {
			model[s] = model[s][:perShard]
		}
		var want [4]byte
		if putU32(want[:], uint32(k.segment)<<24|k.off); !bytes.Equal(b.buf[:4], want[:]) {
			t.Fatalf("%v holds % x", k, b.buf[:4])
		}
		if b.refs.Load() != 2 {
			t.Fatalf("%d references, want the cache's and ours", b.refs.Load())
		}
		b.release()
	}
	if c.Bytes() > size*perShard*cacheShards || c.Bytes() < size*perShard {
		t.Fatalf("%d bytes cached", c.Bytes())
	}
	big := newBlock(size * perShard / 2)
	c.put(blockKey{segment: 9}, big)
	if c.get(blockKey{segment: 9}) != nil || big.refs.Load() != 1 {
		t.Fatal("a block of half a shard was kept")
	}
	var none *Cache
	none.put(blockKey{}, big)
	if none.get(blockKey{}) != nil {
		t.Fatal("no cache has a block")
	}
}

// TestTailSharing mixes small and large records: a chunk is never overrun, and large records don't waste the shared one.
func TestTailSharing(t *testing.T) {
	_, g := newRand(t)
	tl := newTail(1)
	var all []Record
	for csn := uint64(1); csn < 400; csn++ {
		n := g.IntN(2000)
		if g.IntN(2) == 0 {
			n = []int{chunkBytes / 4, chunkBytes / 2, chunkBytes, 2 * chunkBytes}[g.IntN(4)] + g.IntN(100)
		}
		r := Record{SID: 1, CSN: csn, Op: 1, ID: []byte{byte(csn)}, Payload: bytes.Repeat([]byte{byte(csn)}, n)}
		tl.tailData = tl.with([]Record{r})
		tl.through = csn
		all = append(all, r)
	}
	v := tailView{tail: tl, entries: tl.entries, chunks: tl.chunks}
	size, taken := 0, 0
	for i := range all {
		b := v.find(1, all[i].CSN)
		if b == nil {
			t.Fatalf("csn %d is missing", all[i].CSN)
		}
		var r Record
		getRecord(b, &r)
		if !bytes.Equal(r.Payload, all[i].Payload) {
			t.Fatalf("csn %d was overwritten", r.CSN)
		}
		size += recordSize(&r)
	}
	for _, c := range tl.chunks {
		taken += len(c)
	}
	if taken > size+size/20+chunkBytes {
		t.Fatalf("%d bytes take %d", size, taken)
	}
	tl.release()
}

func BenchmarkTailGet(b *testing.B) {
	s := mustOpen(b, Options{Dir: b.TempDir(), BufferBytes: 64 << 20})
	l := newBenchLog(800, 20)
	recs := make([]Record, 20_000)
	l.group(recs, 0)
	must(b, s.Append(recs, 20_000, 1))
	g := rand.New(rand.NewPCG(1, 1))
	b.ResetTimer()
	for range b.N {
		csn := 1 + g.Uint64N(20_000)
		if _, err := s.Get(uint32(csn%20), csn); err != nil {
			b.Fatal(err)
		}
	}
}
