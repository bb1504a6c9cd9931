package segment

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// image is the content of a directory of segments.
type image map[string][]byte

func (im image) clone() image {
	c := image{}
	for name, b := range im {
		c[name] = bytes.Clone(b)
	}
	return c
}

func takeImage(t testing.TB, fs *vfs.MemFS, dir string) image {
	im := image{}
	names, err := fs.List(dir)
	must(t, err)
	for _, name := range names {
		b, err := fs.UnsafeGetFileDataBuffer(fs.PathJoin(dir, name))
		must(t, err)
		im[name] = bytes.Clone(b)
	}
	return im
}

func (im image) mount(t testing.TB, dir string) *vfs.MemFS {
	fs := vfs.NewMem()
	im.copyTo(t, fs, dir)
	return fs
}

// copyTo writes the files and syncs them.
func (im image) copyTo(t testing.TB, fs vfs.FS, dir string) {
	must(t, fs.MkdirAll(dir, 0o755))
	for name, b := range im {
		f, err := fs.Create(fs.PathJoin(dir, name), vfs.WriteCategoryUnspecified)
		must(t, err)
		_, err = f.Write(bytes.Clone(b))
		must(t, err)
		must(t, f.Sync())
		must(t, f.Close())
	}
	must(t, syncDir(fs, dir))
	must(t, syncDir(fs, fs.PathDir(dir)))
}

// damageOne changes b in one of the ways in which storage fails, and returns the first offset that differs from before; len(b) if
// none does.
func damageOne(g *rand.Rand, b []byte) ([]byte, int) {
	old := bytes.Clone(b)
	at := g.IntN(len(b))
	switch g.IntN(6) {
	case 0: // cut off
		return b[:at], at
	case 1: // a hole, as a sector that was never written
		clear(b[at:min(len(b), at+1+g.IntN(5000))])
	case 2: // garbage to the end
		for i := at; i < len(b); i++ {
			b[i] = byte(g.Uint32())
		}
	case 3: // bytes in the wrong place
		copy(b[at:], b[g.IntN(at+1):])
	default: // one bit or several of a byte
		b[at] ^= byte(1 + g.IntN(255))
	}
	for i := range b {
		if b[i] != old[i] {
			return b, i
		}
	}
	return b, len(b)
}

// TestDamageLast damages an unfinished last segment: the store reopens at the last whole frame before the damage, serves exactly that, and goes on.
func TestDamageLast(t *testing.T) {
	seed, g := newRand(t)
	w := newWorld(seed, 4, 1500)
	o := small(vfs.NewMem())
	o.SegmentBytes, o.BufferBytes = 1<<20, 2<<10
	s := mustOpen(t, o)
	must(t, w.feed(s, g, 250))
	must(t, s.Flush())
	frames := s.files[0].frames
	im := takeImage(t, o.FS.(*vfs.MemFS), o.Dir)
	name := fileName(0)
	if len(im) != 1 || len(frames) < 8 {
		t.Fatalf("%d files, %d frames", len(im), len(frames))
	}
	for round := range rounds(4000) {
		d := im.clone()
		var at int
		if d[name], at = damageOne(g, d[name]); at == len(im[name]) {
			continue
		}
		want := uint64(0)
		for _, f := range frames {
			if at >= headerBytes && int64(f.off)+int64(f.size) <= int64(at) {
				want = f.through
			}
		}
		fail := func(what string, err error) {
			if err != nil {
				t.Fatalf("round %d, damage at %d: %s: %v", round, at, what, err)
			}
		}
		fs := d.mount(t, o.Dir)
		o := o
		o.FS = fs
		s, err := Open(o)
		fail("open", err)
		if s.Applied() != want {
			t.Fatalf("round %d, damage at %d: applied %d, want %d", round, at, s.Applied(), want)
		}
		fail("check", w.check(s, g, 1, want))
		// The bytes behind the cut must not come back, whatever the length of what is written there.
		end := want + uint64(g.IntN(20))
		fail("feed", w.feed(s, g, end))
		fail("flush", s.Flush())
		s, err = Open(o)
		fail("open again", err)
		if s.Applied() != end {
			t.Fatalf("round %d, damage at %d: applied %d after feeding to %d", round, at, s.Applied(), end)
		}
		if round%8 == 0 {
			fail("feed", w.feed(s, g, 300))
			fail("close", s.Close())
			s, err = Open(o)
			fail("open a third time", err)
		}
		fail("check again", w.check(s, g, 1, s.Applied()))
	}
}

// TestStaleFrame leaves a whole, valid frame behind a damaged one, and feeds other records than before: the old frame must not be taken up behind a
// new one of the same length.
func TestStaleFrame(t *testing.T) {
	_, g := newRand(t)
	fs := vfs.NewMem()
	s := mustOpen(t, small(fs))
	rec := func(csn uint64, text string) Record {
		return Record{SID: 1, CSN: csn, Op: 1, ID: []byte("a"), Payload: []byte(text)}
	}
	for csn, text := range []string{"one", "two", "three"} {
		must(t, s.Append([]Record{rec(uint64(csn+1), text)}, uint64(csn+1), 1))
		must(t, s.Flush())
	}
	second := s.files[0].frames[1]
	im := takeImage(t, fs, "/seg")
	im[fileName(0)][int(second.off)+g.IntN(int(second.size))] ^= 0x10
	fs = im.mount(t, "/seg")
	s = mustOpen(t, small(fs))
	if s.Applied() != 1 {
		t.Fatalf("applied %d, want 1", s.Applied())
	}
	must(t, s.Append([]Record{rec(2, "TWO")}, 2, 1))
	must(t, s.Flush())
	s = mustOpen(t, small(fs))
	if s.Applied() != 2 {
		t.Fatalf("applied %d, want 2: the third frame is from another history", s.Applied())
	}
	if r, err := s.Get(1, 2); err != nil || string(r.Payload) != "TWO" {
		t.Fatalf("got %q, %v", r.Payload, err)
	}
}

// TestStaleFrameAfterPowerCut: as TestStaleFrame, but the power fails after the new frame was written, with any part of what was not synced.
func TestStaleFrameAfterPowerCut(t *testing.T) {
	_, g := newRand(t)
	pad := 0
	history := func(n byte) []Record {
		var recs []Record
		for csn := uint64(1); csn <= 3; csn++ {
			recs = append(recs, Record{SID: 1, CSN: csn, Op: n, Payload: noise(g, 6000+pad)})
			pad = 0
		}
		return recs
	}
	write := func(s *Store, recs []Record) {
		for i := range recs {
			must(t, s.Append(recs[i:i+1], recs[i].CSN, 1))
			must(t, s.Flush())
		}
	}
	// The second frame ends where a block of the file system does: its last block and the first of the third frame are lost or kept apart.
	o := small(vfs.NewMem())
	o.SegmentBytes = 1 << 20
	s := mustOpen(t, o)
	write(s, history(1))
	second := s.files[0].frames[1]
	pad = 4096 - int(second.off+second.size)%4096
	o.FS = vfs.NewMem()
	s = mustOpen(t, o)
	write(s, history(1))
	second = s.files[0].frames[1]
	if (second.off+second.size)%4096 != 0 {
		t.Fatal(second)
	}
	im := takeImage(t, o.FS.(*vfs.MemFS), o.Dir)
	im[fileName(0)][second.off+second.size/2] ^= 1
	cuts := map[uint64]int{}
	for range 200 {
		mem := vfs.NewCrashableMem()
		im.copyTo(t, mem, o.Dir)
		o.FS = mem
		s := mustOpen(t, o)
		write(s, history(2)[1:2])
		o.FS = mem.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: g.IntN(101), RNG: g})
		s = mustOpen(t, o)
		cuts[s.Applied()]++
		if s.Applied() > 2 {
			t.Fatalf("applied %d: the third frame is from another history", s.Applied())
		}
	}
	if cuts[1] == 0 || cuts[2] == 0 {
		t.Fatalf("the new frame was never lost or never there: %v", cuts)
	}
}

// TestFrameOrder: frames that are whole, but not where they belong in the csn order, are not taken.
func TestFrameOrder(t *testing.T) {
	fs := vfs.NewMem()
	s := mustOpen(t, small(fs))
	for csn := uint64(1); csn <= 3; csn++ {
		must(t, s.Append([]Record{rec(1, csn, "same length")}, csn, 1))
		must(t, s.Flush())
	}
	f := s.files[0].frames
	b := takeImage(t, fs, "/seg")[fileName(0)]
	part := func(i int) []byte { return b[f[i].off : f[i].off+f[i].size] }
	for _, c := range []struct {
		frames []int
		want   uint64
	}{{[]int{0, 1, 2}, 3}, {[]int{0, 0, 1}, 1}, {[]int{0, 2}, 1}, {[]int{1, 2}, 0}, {[]int{0, 1, 0, 2}, 2}} {
		file := bytes.Clone(b[:headerBytes])
		for _, i := range c.frames {
			file = append(file, part(i)...)
		}
		s := mustOpen(t, small(image{fileName(0): file}.mount(t, "/seg")))
		if s.Applied() != c.want {
			t.Errorf("frames %v: applied %d, want %d", c.frames, s.Applied(), c.want)
		}
	}
}

// TestFooterSum: a footer vouches for the index as a whole; that each header in it is right is not enough.
func TestFooterSum(t *testing.T) {
	fs := vfs.NewMem()
	s := mustOpen(t, small(fs))
	must(t, s.Append([]Record{rec(1, 1, "a")}, 1, 1))
	must(t, s.Flush())
	f := s.files[0].frames[0]
	must(t, s.Close())
	b := takeImage(t, fs, "/seg")[fileName(0)]
	if _, _, err := readFooter(bytes.NewReader(b), int64(len(b))); err != nil {
		t.Fatal(err)
	}
	f.newest += 1000
	f.putHeader(b[len(b)-trailerBytes-f.headerSize():][:f.headerSize()])
	if _, _, err := readFooter(bytes.NewReader(b), int64(len(b))); err != errNoFooter {
		t.Fatalf("a footer with other content: %v", err)
	}
}

// TestDamageSealed damages a last segment that was closed in order, and segments that have a successor. Nothing wrong is ever served: the damage
// is healed because it is in what exists twice, or it is cut, or it is reported.
func TestDamageSealed(t *testing.T) {
	seed, g := newRand(t)
	w := newWorld(seed, 4, 6000)
	o := small(vfs.NewMem())
	s := mustOpen(t, o)
	must(t, w.feed(s, g, 700))
	must(t, s.Close())
	im := takeImage(t, o.FS.(*vfs.MemFS), o.Dir)
	all := files(s)
	if len(all) < 4 {
		t.Fatalf("%d segments", len(all))
	}
	outcomes := map[string]int{}
	for round := range max(300, rounds(2000)) {
		i := g.IntN(len(all))
		name := fileName(all[i].FirstCSN - 1)
		d := im.clone()
		var at int
		if d[name], at = damageOne(g, d[name]); at == len(im[name]) {
			continue
		}
		o := o
		o.FS = d.mount(t, o.Dir)
		outcome, err := sealedOutcome(w, g, o, i == len(all)-1, all[i])
		if err != nil {
			t.Fatalf("round %d, segment %d of %d, damage at %d of %d: %v", round, i, len(all), at, len(im[name]), err)
		}
		outcomes[outcome]++
	}
	for _, want := range []string{"refused", "reported", "healed", "cut"} {
		if outcomes[want] == 0 {
			t.Errorf("no damage was %s: %v", want, outcomes)
		}
	}
	t.Log(outcomes)
}

func sealedOutcome(w world, g *rand.Rand, o Options, last bool, seg Segment) (string, error) {
	s, err := Open(o)
	if err != nil {
		if last || !errors.Is(err, ErrCorrupt) || !strings.Contains(err.Error(), seg.Name) {
			return "", err
		}
		return "refused", nil
	}
	if s.Applied() != 700 && !last {
		return "", fmt.Errorf("applied %d", s.Applied())
	}
	if s.Applied() < seg.FirstCSN-1 {
		return "", fmt.Errorf("applied %d, less than the segments before", s.Applied())
	}
	err = w.check(s, g, 1, s.Applied())
	switch {
	case errors.Is(err, ErrCorrupt) && strings.Contains(err.Error(), seg.Name):
		return "reported", nil
	case err != nil:
		return "", err
	case s.Applied() < 700:
		return "cut", nil
	}
	return "healed", nil
}

// TestMissing removes, renames and doubles files.
func TestMissing(t *testing.T) {
	seed, g := newRand(t)
	w := newWorld(seed, 3, 3000)
	o := small(vfs.NewMem())
	s := mustOpen(t, o)
	must(t, w.feed(s, g, 500))
	must(t, s.Close())
	all := files(s)
	im := takeImage(t, o.FS.(*vfs.MemFS), o.Dir)
	open := func(change func(image)) (*Store, error) {
		d := im.clone()
		change(d)
		o := o
		o.FS = d.mount(t, o.Dir)
		return Open(o)
	}
	name := func(i int) string { return fileName(all[i].FirstCSN - 1) }
	for i := 1; i < len(all)-1; i++ {
		if _, err := open(func(d image) { delete(d, name(i)) }); !errors.Is(err, ErrCorrupt) {
			t.Errorf("segment %d is missing: %v", i, err)
		}
	}
	if _, err := open(func(d image) { d[name(1)] = d[name(2)] }); !errors.Is(err, ErrCorrupt) {
		t.Errorf("a segment under another name: %v", err)
	}
	if _, err := open(func(d image) { d[fileName(all[1].FirstCSN+1)] = d[name(1)] }); !errors.Is(err, ErrCorrupt) {
		t.Errorf("a segment twice: %v", err)
	}
	if _, err := open(func(d image) { d[name(1)][8]++ }); !errors.Is(err, ErrCorrupt) {
		t.Errorf("damaged version: %v", err)
	}
	if _, err := open(func(d image) {
		last := d[name(len(all)-1)]
		last[8] = 2
		putFileSum(last)
	}); err == nil || errors.Is(err, ErrCorrupt) || !strings.Contains(err.Error(), "version 2") {
		t.Errorf("a later version: %v", err)
	}
	// What doesn't look like a segment is not ours.
	s, err := open(func(d image) { d["LOCK"], d["7.seg"], d["x.tmp"] = nil, []byte("7"), []byte("x") })
	must(t, err)
	must(t, w.check(s, g, 1, 500))
}

func putFileSum(b []byte) {
	putU32(b[32:], crc32.Checksum(b[:32], castagnoli))
}

func putU32(b []byte, v uint32) { binary.LittleEndian.PutUint32(b, v) }
