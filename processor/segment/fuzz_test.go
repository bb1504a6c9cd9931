package segment

import (
	"bytes"
	"hash/crc32"
	"math/rand/v2"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// encodeWorld returns a frame as it goes to a file, at offset 0.
func encodeWorld(t testing.TB, w world, through uint64, blockBytes int) (frame, []byte) {
	tl := newTail(1)
	recs := w.call(0, through)
	tl.tailData, tl.through = tl.with(recs), through
	for i := range recs {
		tl.newest = max(tl.newest, recs[i].TS)
	}
	defer tl.release()
	var e encoder
	f := e.encode(tl, blockBytes)
	return f, bytes.Clone(e.out)
}

// FuzzFrame feeds the frame decoder with anything, once as it is and once with the checksums made right, so that what is behind them is
// reached. What it accepts has to be safe to look things up in, and to be written as it was read.
func FuzzFrame(f *testing.F) {
	w := newWorld(1, 5, 3000)
	for _, n := range []uint64{1, 3, 40} {
		fr, b := encodeWorld(f, w, n, 512)
		f.Add(b, uint32(0), uint64(2))
		f.Add(b[:fr.headerSize()], uint32(7), uint64(9))
	}
	f.Fuzz(func(t *testing.T, b []byte, sid uint32, csn uint64) {
		for range 2 {
			if fr, err := parseFrameHeader(b, 0); err == nil {
				if i, ok := fr.find(sid, csn); ok && int(i) >= len(fr.blocks) {
					t.Fatalf("block %d of %d", i, len(fr.blocks))
				}
				again := make([]byte, fr.headerSize())
				fr.putHeader(again)
				if b := bytes.Clone(b[:len(again)]); !bytes.Equal(zeroReserved(again), zeroReserved(b)) {
					t.Fatalf("% x\nwas read from\n% x", again, b)
				}
			}
			if fr, err := checkFrame(b, 0); err == nil {
				for _, ref := range fr.blocks {
					checkBlock(t, b[ref.off:ref.off+ref.size])
				}
			}
			b = bytes.Clone(b)
			repairFrame(b)
		}
	})
}

// zeroReserved drops what a header has beyond its content: the reserved field, and the sum which covers it.
func zeroReserved(b []byte) []byte {
	clear(b[44:48])
	clear(b[4:8])
	return b
}

// repairFrame makes the checksums of whatever is in b right, as far as it goes.
func repairFrame(b []byte) {
	header, total, err := frameSize(b)
	if err != nil || header > uint64(len(b)) {
		return
	}
	at := header
	for p := b[frameFixed:header]; len(p) >= refBytes && at < min(total, uint64(len(b))); p = p[refBytes:] {
		size := uint64(p[0]) | uint64(p[1])<<8 | uint64(p[2])<<16
		end := min(at+size, uint64(len(b)))
		putU32(p[4:], crc32.Checksum(b[at:end], castagnoli))
		at = end
	}
	putU32(b[4:], headerSum(b[:header]))
}

func checkBlock(t *testing.T, stored []byte) {
	b, err := decodeBlock(stored)
	if err != nil {
		return
	}
	defer b.release()
	for buf := b.buf; ; {
		sid, csn, size, ok := peekRecord(buf)
		if !ok {
			return
		}
		var r Record
		getRecord(buf, &r)
		if r.SID != sid || r.CSN != csn || recordSize(&r) != size {
			t.Fatalf("%d bytes, peeked %d", recordSize(&r), size)
		}
		again := make([]byte, size)
		putRecord(again, &r)
		if !bytes.Equal(again, buf[:size]) {
			t.Fatalf("% x\nwas read from\n% x", again, buf[:size])
		}
		buf = buf[size:]
	}
}

// FuzzBlock feeds the block and record decoders with anything.
func FuzzBlock(f *testing.F) {
	w := newWorld(1, 5, 3000)
	for _, n := range []uint64{1, 40} {
		fr, b := encodeWorld(f, w, n, 4096)
		for _, ref := range fr.blocks {
			f.Add(b[ref.off : ref.off+ref.size])
		}
	}
	f.Add(appendBlock(nil, noise(rand.New(rand.NewPCG(1, 1)), 300)))
	f.Add([]byte{codecSnappy, 0xff, 0xff, 0xff, 0xff, 0x0f})
	f.Fuzz(func(t *testing.T, b []byte) { checkBlock(t, b) })
}

// FuzzFooter feeds the footer decoder with anything.
func FuzzFooter(f *testing.F) {
	w := newWorld(1, 5, 3000)
	fr, _ := encodeWorld(f, w, 40, 512)
	b := make([]byte, fr.headerSize())
	fr.putHeader(b)
	f.Add(b, uint32(1), int64(headerBytes)+int64(fr.size))
	f.Add(append(b, b...), uint32(2), int64(headerBytes)+2*int64(fr.size))
	f.Fuzz(func(t *testing.T, b []byte, count uint32, end int64) {
		frames, _, err := parseFooter(b, count, end)
		if err != nil {
			return
		}
		at := int64(headerBytes)
		for _, fr := range frames {
			if int64(fr.off) != at {
				t.Fatalf("frame at %d, want %d", fr.off, at)
			}
			at += int64(fr.size)
		}
		if at != end || uint32(len(frames)) != count {
			t.Fatalf("%d frames to %d, want %d to %d", len(frames), at, count, end)
		}
	})
}

// FuzzOpen opens anything as the last segment. Whatever is in it, the store opens, serves without a fault what it found, goes on from
// there, and finds the same when it opens again.
func FuzzOpen(f *testing.F) {
	w := newWorld(1, 5, 3000)
	for _, sealed := range []bool{false, true} {
		fs := vfs.NewMem()
		s := mustOpen(f, small(fs))
		must(f, s.Append(w.call(0, 10), 10, 1))
		must(f, s.Flush())
		must(f, s.Append(w.call(10, 30), 30, 1))
		if must(f, s.Flush()); sealed {
			must(f, s.Close())
		}
		f.Add(takeImage(f, fs, "/seg")[fileName(0)])
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		fs := image{fileName(0): b}.mount(t, "/seg")
		s, err := Open(small(fs))
		if err != nil {
			return // a later version, or another base
		}
		at := s.Applied()
		for sid := range uint32(6) {
			if err := s.Read(sid, []uint64{1, at / 2, at, at}, func(*Record) error { return nil }); at > 1 && err != nil {
				break // damage behind a valid footer is found when it is read
			}
		}
		if at < MaxCSN {
			must(t, s.Append([]Record{rec(77, at+1, "more")}, at+1, 1))
			must(t, s.Close())
			if s = mustOpen(t, small(fs)); s.Applied() != at+1 {
				t.Fatalf("applied %d, want %d", s.Applied(), at+1)
			}
			if r, err := s.Get(77, at+1); err != nil || string(r.Payload) != "more" {
				t.Fatalf("%q %v", r.Payload, err)
			}
		}
	})
}
