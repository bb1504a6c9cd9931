package segment

import (
	"bytes"
	"errors"
	"flag"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
)

func rec(sid uint32, csn uint64, payload string) Record {
	return Record{SID: sid, CSN: csn, Op: 1, ID: []byte("x"), Payload: []byte(payload), TS: int64(csn)}
}

func TestEmpty(t *testing.T) {
	s := mustOpen(t, small(vfs.NewMem()))
	if s.Appended() != 0 || s.Applied() != 0 || s.Floor() != 1 || s.Seek(0) != 1 {
		t.Fatal(s.Appended(), s.Applied(), s.Floor(), s.Seek(0))
	}
	if _, _, _, ok := s.Oldest(); ok {
		t.Fatal("an empty store has an oldest segment")
	}
	if _, err := s.Get(1, 1); !errors.Is(err, ErrNotFound) {
		t.Fatal(err)
	}
	must(t, s.Read(1, nil, nil))
	must(t, s.Flush())
	must(t, s.Sync())
	must(t, s.Close())
	for _, err := range []error{s.Close(), s.Flush(), s.Sync(), s.Append(nil, 1, 1), s.Read(1, []uint64{1}, nil)} {
		if !errors.Is(err, ErrClosed) {
			t.Fatal(err)
		}
	}
	if _, err := s.DropBelow(5); !errors.Is(err, ErrClosed) {
		t.Fatal(err)
	}
}

func TestAppendContract(t *testing.T) {
	s := mustOpen(t, small(vfs.NewMem()))
	must(t, s.Append([]Record{rec(1, 2, "a"), rec(2, 3, "b")}, 4, 10))
	for name, c := range map[string]struct {
		recs    []Record
		through uint64
	}{
		"no csn":        {nil, MaxCSN + 1},
		"descending":    {[]Record{rec(1, 7, ""), rec(1, 6, "")}, 9},
		"twice":         {[]Record{rec(1, 7, ""), rec(1, 7, "")}, 9},
		"above through": {[]Record{rec(1, 7, "")}, 6},
		"csn 0":         {[]Record{rec(1, 0, "")}, 6},
		"op 0":          {[]Record{{SID: 1, CSN: 6}}, 6},
		"long id":       {[]Record{{SID: 1, CSN: 6, Op: 1, ID: make([]byte, MaxIDBytes+1)}}, 6},
		"large payload": {[]Record{{SID: 1, CSN: 6, Op: 1, Payload: make([]byte, MaxRecordBytes+1)}}, 6},
		"large call": {[]Record{
			{SID: 1, CSN: 6, Op: 1, Payload: make([]byte, MaxRecordBytes)}, {SID: 1, CSN: 7, Op: 1, Payload: make([]byte, MaxRecordBytes)},
			{SID: 1, CSN: 8, Op: 1, Payload: make([]byte, MaxRecordBytes)}, {SID: 1, CSN: 9, Op: 1, Payload: make([]byte, MaxRecordBytes)},
			{SID: 1, CSN: 10, Op: 1, Payload: make([]byte, MaxRecordBytes)}, {SID: 1, CSN: 11, Op: 1, Payload: make([]byte, MaxRecordBytes)},
			{SID: 1, CSN: 12, Op: 1, Payload: make([]byte, MaxRecordBytes)}, {SID: 1, CSN: 13, Op: 1, Payload: make([]byte, MaxRecordBytes)},
		}, 13},
	} {
		if err := s.Append(c.recs, c.through, 1); !errors.Is(err, ErrInvalid) {
			t.Errorf("%s: %v", name, err)
		}
		if s.Appended() != 4 {
			t.Fatalf("%s: appended %d", name, s.Appended())
		}
	}
	// Known csns are ignored, with whatever they carry now.
	must(t, s.Append([]Record{rec(1, 2, "other")}, 3, 10))
	must(t, s.Append([]Record{rec(1, 4, "late"), rec(1, 5, "c")}, 5, 10))
	if _, err := s.Get(1, 4); !errors.Is(err, ErrNotFound) {
		t.Fatal("a record below appended was taken")
	}
	for csn, want := range map[uint64]string{2: "a", 5: "c"} {
		if r, err := s.Get(1, csn); err != nil || string(r.Payload) != want {
			t.Fatalf("csn %d: %q %v", csn, r.Payload, err)
		}
	}
	if _, err := s.Get(1, 3); !errors.Is(err, ErrNotFound) {
		t.Fatalf("csn 3 of another stream: %v", err)
	}
	if err := s.Read(1, []uint64{5, 2}, func(*Record) error { return nil }); !errors.Is(err, ErrInvalid) {
		t.Fatalf("descending read: %v", err)
	}
	stop := errors.New("enough")
	if err := s.Read(1, []uint64{2, 5}, func(*Record) error { return stop }); err != stop {
		t.Fatalf("error of fn: %v", err)
	}
}

func TestAppendCopies(t *testing.T) {
	s := mustOpen(t, small(vfs.NewMem()))
	id, payload := []byte("id"), []byte("payload")
	recs := []Record{{SID: 1, CSN: 1, Op: 1, ID: id, Payload: payload}}
	must(t, s.Append(recs, 1, 1))
	clear(id)
	clear(payload)
	clear(recs)
	for range 2 {
		r, err := s.Get(1, 1)
		must(t, err)
		if string(r.ID) != "id" || string(r.Payload) != "payload" {
			t.Fatalf("%q %q", r.ID, r.Payload)
		}
		clear(r.ID) // the result is the caller's
		clear(r.Payload)
		must(t, s.Flush())
	}
}

// TestControlOnly: csns without records move the position, also over a reopen.
func TestControlOnly(t *testing.T) {
	o := small(vfs.NewMem())
	s := mustOpen(t, o)
	must(t, s.Append(nil, 17, 99))
	if s.Appended() != 17 || s.Applied() != 0 {
		t.Fatal(s.Appended(), s.Applied())
	}
	must(t, s.Flush())
	if s.Applied() != 17 || s.Seek(99) != 1 || s.Seek(100) != 18 {
		t.Fatal(s.Applied(), s.Seek(99), s.Seek(100))
	}
	abandon(s)
	if s = mustOpen(t, o); s.Applied() != 17 {
		t.Fatal(s.Applied())
	}
	must(t, s.Append([]Record{rec(1, 18, "a")}, 20, 99))
	must(t, s.Close())
	s = mustOpen(t, o)
	if first, ts, last, ok := s.Oldest(); first != 1 || last != 20 || ts != 99 || !ok {
		t.Fatal(first, ts, last, ok)
	}
}

// TestTimesGoBack: times are those of calls and records, in any order.
func TestTimesGoBack(t *testing.T) {
	s := mustOpen(t, small(vfs.NewMem()))
	for csn, ts := range []int64{100, 50, 70} {
		must(t, s.Append(nil, uint64(csn+1), ts))
		must(t, s.Flush())
	}
	must(t, s.Append([]Record{{SID: 1, CSN: 4, Op: 1, TS: 300}}, 4, 60))
	if _, ts, _, _ := s.Oldest(); ts != 100 {
		t.Fatalf("the newest time is %d", ts)
	}
	for ts, want := range map[int64]uint64{1: 1, 100: 1, 101: 4, 300: 4, 301: 5} {
		if got := s.Seek(ts); got != want {
			t.Errorf("seek %d gives %d, want %d", ts, got, want)
		}
	}
}

// TestReadWhileRolling: between the making of a segment and its first frame the list of files ends with one that holds nothing.
func TestReadWhileRolling(t *testing.T) {
	s := mustOpen(t, small(vfs.NewMem()))
	must(t, s.Append([]Record{rec(1, 1, "a")}, 1, 1))
	must(t, s.Flush())
	_, err := s.nextFile(1, 1)
	must(t, err)
	must(t, s.Append([]Record{rec(1, 2, "b")}, 2, 1))
	n := 0
	must(t, s.Read(1, []uint64{1, 2, 3}, func(r *Record) error { n += int(r.Op); return nil }))
	if n != 2 {
		t.Fatalf("%d records, want 2", n)
	}
}

// TestDropAll: when everything is old, everything goes, the position stays, also over a reopen.
func TestDropAll(t *testing.T) {
	o := small(vfs.NewMem())
	o.Logger = testLogger(t)
	s := mustOpen(t, o)
	_, g := newRand(t)
	for csn := uint64(1); csn <= 100; csn++ {
		must(t, s.Append([]Record{rec(1, csn, string(noise(g, 300)))}, csn, int64(csn)))
	}
	must(t, s.Flush())
	before := s.Stats().Segments
	if before < 2 {
		t.Fatalf("%d segments", before)
	}
	dropped, err := s.DropBelow(101)
	must(t, err)
	if len(dropped) != before || dropped[0].FirstCSN != 1 || dropped[before-1].LastCSN != 100 || dropped[before-1].NewestTS != 100 {
		t.Fatalf("%+v", dropped)
	}
	if st := s.Stats(); st.Segments != 1 || st.Records != 0 || st.IndexBytes != 0 {
		t.Fatalf("%+v", st)
	}
	names, err := o.FS.List(o.Dir)
	must(t, err)
	if len(names) != 1 {
		t.Fatal(names)
	}
	check := func() {
		t.Helper()
		if s.Applied() != 100 || s.Appended() != 100 || s.Floor() != 101 {
			t.Fatal(s.Applied(), s.Appended(), s.Floor())
		}
		if _, err := s.Get(1, 100); !errors.Is(err, ErrPruned) {
			t.Fatal(err)
		}
	}
	check()
	dropped, err = s.DropBelow(101)
	if must(t, err); len(dropped) != 0 {
		t.Fatal(dropped)
	}
	abandon(s)
	s = mustOpen(t, o)
	check()
	// A log that begins later: the position jumps.
	if _, err = s.DropBelow(5000); err != nil || s.Appended() != 4999 || s.Applied() != 4999 || s.Floor() != 5000 {
		t.Fatal(err, s.Appended(), s.Applied(), s.Floor())
	}
	must(t, s.Append([]Record{rec(1, 4000, "old"), rec(1, 5000, "new")}, 5000, 1))
	must(t, s.Close())
	s = mustOpen(t, o)
	if r, err := s.Get(1, 5000); err != nil || string(r.Payload) != "new" || s.Floor() != 5000 {
		t.Fatal(err, r, s.Floor())
	}
}

// TestDropBoundary: a segment goes when its last csn is below, not when it is the same.
func TestDropBoundary(t *testing.T) {
	seed, g := newRand(t)
	w := newWorld(seed, 3, 1000)
	s := mustOpen(t, small(vfs.NewMem()))
	must(t, w.feed(s, g, 600))
	must(t, s.Flush())
	for all := files(s); len(all) > 1; all = all[1:] {
		d, err := s.DropBelow(all[0].LastCSN)
		if must(t, err); len(d) != 0 || s.Floor() != all[0].FirstCSN {
			t.Fatalf("dropped %+v below %d", d, all[0].LastCSN)
		}
		first, ts, last, ok := s.Oldest()
		if first != all[0].FirstCSN || last != all[0].LastCSN || ts != all[0].NewestTS || !ok {
			t.Fatalf("oldest is %d to %d, want %+v", first, last, all[0])
		}
		d, err = s.DropBelow(last + 1)
		if must(t, err); len(d) != 1 || d[0] != all[0] || s.Floor() != all[1].FirstCSN {
			t.Fatalf("dropped %+v, want %+v", d, all[0])
		}
	}
}

// TestDropInterrupted: a crash between the new segment and the unlinking of the old ones leaves both; opening finishes the drop.
func TestDropInterrupted(t *testing.T) {
	mem := vfs.NewMem()
	s := mustOpen(t, small(mem))
	must(t, s.Append([]Record{rec(1, 1, "a")}, 1, 1))
	must(t, s.Flush())
	old := takeImage(t, mem, "/seg")
	_, err := s.DropBelow(50)
	must(t, err)
	both := takeImage(t, mem, "/seg")
	if len(both) != 1 {
		t.Fatal(len(both))
	}
	for name, b := range old {
		both[name] = b
	}
	mem = both.mount(t, "/seg")
	s = mustOpen(t, small(mem))
	if s.Floor() != 50 || s.Applied() != 49 || len(takeImage(t, mem, "/seg")) != 1 {
		t.Fatal(s.Floor(), s.Applied())
	}
}

// TestReaderOutlivesDrop: a reader keeps what it began with.
func TestReaderOutlivesDrop(t *testing.T) {
	s := mustOpen(t, Options{Dir: t.TempDir(), BlockBytes: 256, BufferBytes: 1 << 10, SegmentBytes: 4 << 10})
	var csns []uint64
	for csn := uint64(1); csn <= 200; csn++ {
		must(t, s.Append([]Record{rec(1, csn, strings.Repeat("q", 150))}, csn, 1))
		csns = append(csns, csn)
	}
	n := 0
	must(t, s.Read(1, csns, func(r *Record) error {
		if n++; n == 3 {
			if d, err := s.DropBelow(201); err != nil || len(d) < 3 {
				return errors.Join(err, errors.New("nothing dropped"))
			}
		}
		if r.Op == 0 || len(r.Payload) != 150 {
			t.Fatalf("csn %d is gone", r.CSN)
		}
		return nil
	}))
	if n != 200 {
		t.Fatal(n)
	}
	must(t, s.Read(1, csns[:100], func(r *Record) error {
		if r.Op != 0 {
			t.Fatalf("csn %d is still there", r.CSN)
		}
		return nil
	}))
	must(t, s.Close())
}

// TestDecodeOnce counts the blocks that a page touches.
func TestDecodeOnce(t *testing.T) {
	reg := prometheus.NewRegistry()
	o := small(vfs.NewMem())
	o.SegmentBytes, o.BufferBytes, o.BlockBytes, o.Metrics = 1<<20, 32<<10, 2<<10, NewMetrics(reg)
	o.Cache = NewCache(8 << 20)
	s := mustOpen(t, o)
	var page []uint64
	for csn := uint64(1); csn <= 1000; csn++ {
		must(t, s.Append([]Record{rec(uint32(csn%7), csn, strings.Repeat("z", 120))}, csn, 1))
		if csn%7 == 3 {
			page = append(page, csn, csn) // asking twice costs nothing
		}
	}
	must(t, s.Flush())
	blocks := 0
	for _, f := range s.files {
		for _, fr := range f.frames {
			for _, r := range fr.runs {
				if r.sid == 3 {
					blocks++
				}
			}
		}
	}
	if blocks < 10 {
		t.Fatalf("only %d blocks", blocks)
	}
	fn := func(r *Record) error {
		if r.Op == 0 {
			t.Fatalf("csn %d is missing", r.CSN)
		}
		return nil
	}
	must(t, s.Read(3, page, fn))
	if got := testutil.ToFloat64(o.Metrics.blockMiss); got != float64(blocks) {
		t.Fatalf("%v blocks decoded, the page lies in %d", got, blocks)
	}
	must(t, s.Read(3, page, fn))
	if got := testutil.ToFloat64(o.Metrics.blockMiss); got != float64(blocks) {
		t.Fatalf("%v blocks decoded after a second read, want %d from the cache", got, blocks)
	}
	if got := testutil.ToFloat64(o.Metrics.blockHit); got != float64(blocks) {
		t.Fatalf("%v blocks from the cache, want %d", got, blocks)
	}
	none := 0
	must(t, s.Read(99, page, func(r *Record) error { none += int(r.Op); return nil }))
	if got := testutil.ToFloat64(o.Metrics.blockHit) + testutil.ToFloat64(o.Metrics.blockMiss); none != 0 || got != float64(2*blocks) {
		t.Fatalf("%v blocks looked at for a stream that isn't there", got-float64(2*blocks))
	}
	if n, err := testutil.GatherAndCount(reg); err != nil || n != 8 {
		t.Fatalf("%d metrics, %v", n, err)
	}
	if got := testutil.ToFloat64(o.Metrics.records); got != 1000 {
		t.Fatalf("%v records appended", got)
	}
}

// TestRestartAfterClose: a clean stop leaves a footer, so that opening reads no frames; the segment goes on all the same.
func TestRestartAfterClose(t *testing.T) {
	seed, g := newRand(t)
	w := newWorld(seed, 3, 1000)
	o := small(vfs.NewMem())
	o.SegmentBytes = 1 << 20
	for end := uint64(100); end <= 500; end += 100 {
		s := mustOpen(t, o)
		if a := s.active(); a != nil && !a.sealed {
			t.Fatal("opened without the footer")
		}
		must(t, w.check(s, g, 1, end-100))
		must(t, w.feed(s, g, end))
		must(t, s.Close())
	}
	if im := takeImage(t, o.FS.(*vfs.MemFS), o.Dir); len(im) != 1 {
		t.Fatalf("%d segments", len(im))
	}
}

func TestOptions(t *testing.T) {
	for _, o := range []Options{
		{}, {Dir: "x", SegmentBytes: 1}, {Dir: "x", SegmentBytes: 3 << 30}, {Dir: "x", BlockBytes: 1}, {Dir: "x", BlockBytes: 2 << 20},
		{Dir: "x", BufferBytes: 1}, {Dir: "x", BufferBytes: 1 << 30},
	} {
		o.FS = vfs.NewMem()
		if _, err := Open(o); !errors.Is(err, ErrInvalid) {
			t.Errorf("%+v: %v", o, err)
		}
	}
}

var updateFlag = flag.Bool("update", false, "write the golden files again; only for a new format version, beside the old ones")

// TestGolden opens files written by the first version of the format: a full segment, and one that was closed, continued and left behind. They may never
// change: stores have to open what older programs wrote.
func TestGolden(t *testing.T) {
	const dir = "testdata/v1"
	w := world{seed: 1, streams: 3, huge: 2000}
	write := func(o Options) {
		o.Dir, o.SegmentBytes, o.BufferBytes = dir, 8<<10, 64<<10
		s := mustOpen(t, o)
		must(t, s.Append(w.call(0, 60), 60, w.ts(60)))
		must(t, s.Flush())
		must(t, s.Append(w.call(60, 100), 100, w.ts(100)))
		must(t, s.Close())
		s = mustOpen(t, o)
		must(t, s.Append(w.call(100, 104), 104, w.ts(104)))
		must(t, s.Flush())
		abandon(s)
	}
	if *updateFlag {
		must(t, os.RemoveAll(dir))
		write(small(vfs.Default))
	}
	fs := vfs.NewMem()
	must(t, fs.MkdirAll("testdata", 0o755))
	if ok, err := vfs.Clone(vfs.Default, fs, dir, dir); err != nil || !ok {
		t.Fatal(ok, err)
	}
	was := takeImage(t, fs, dir)
	o := small(fs)
	o.Dir = dir
	s := mustOpen(t, o)
	if s.Applied() != 104 || len(was) != 2 || s.files[1].base != 60 {
		t.Fatalf("applied %d, %d files", s.Applied(), len(was))
	}
	_, g := newRand(t)
	must(t, w.check(s, g, 1, 104))
	// What is written today is the same but for what the compressor makes of it.
	fs = vfs.NewMem()
	must(t, fs.MkdirAll("testdata", 0o755))
	write(small(fs))
	for name, is := range takeImage(t, fs, dir) {
		if !bytes.Equal(is[:headerBytes], was[name][:headerBytes]) {
			t.Errorf("%s: header % x, was % x", name, is[:headerBytes], was[name][:headerBytes])
		}
		a, err := parseFrameHeader(was[name][headerBytes:], headerBytes)
		must(t, err)
		b, err := parseFrameHeader(is[headerBytes:], headerBytes)
		must(t, err)
		if !slices.Equal(a.runs, b.runs) || len(a.blocks) != len(b.blocks) {
			t.Fatalf("%s: runs %v, were %v", name, b.runs, a.runs)
		}
		for i := range a.blocks {
			if !bytes.Equal(decoded(t, is[b.blocks[i].off:], blockRef{size: b.blocks[i].size}),
				decoded(t, was[name][a.blocks[i].off:], blockRef{size: a.blocks[i].size})) {
				t.Errorf("%s: block %d holds other bytes", name, i)
			}
		}
	}
}
