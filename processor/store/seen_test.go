package store

import (
	"encoding/binary"
	"math"
	"reflect"
	"testing"

	"github.com/RoaringBitmap/roaring/v2/roaring64"
	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
)

func seen1() map[string]*Seen {
	return map[string]*Seen{
		"seen-first": {SID: 1, StartCSN: 1, Run: 1, RawNext: 1, NextOrdinal: 1, Gaps: roaring64.New(), Marks: roaring64.New()},
		"seen": {
			SID: 7, StartCSN: 1 << 40, Run: 12, RawStart: 2345678, RawTopic: [16]byte{0xfe, 15: 1}, RawNext: 2400000, Fence: 11, Lost: true,
			NextOrdinal: 5, Events: 6, Skipped: 7, NotFound: 8, Refused: 9, Gaps: roaring64.BitmapOf(7, 9), Marks: roaring64.BitmapOf(1, 2, 3, 70000, 1<<40-1),
		},
		"seen-largest": {
			SID: math.MaxUint32, StartCSN: math.MaxUint64, Run: math.MaxUint64, RawStart: math.MaxInt64 - 1, RawNext: math.MaxInt64, Fence: math.MaxUint64,
			NextOrdinal: math.MaxUint64 - 1, Events: math.MaxUint64, Gaps: roaring64.BitmapOf(math.MaxUint64), Marks: roaring64.BitmapOf(math.MaxUint64 - 1),
		},
	}
}

func sameSeen(a, b *Seen) bool {
	x, y := *a, *b
	x.Gaps, x.Marks, y.Gaps, y.Marks = nil, nil, nil, nil
	return reflect.DeepEqual(x, y) && a.Gaps.Equals(b.Gaps) && a.Marks.Equals(b.Marks)
}

func TestSeen_Golden(t *testing.T) {
	for name, s := range seen1() {
		row := s.Row()
		have, err := parseSeen(row.key, golden(t, name, row.value))
		if err != nil || !sameSeen(have, s) {
			t.Errorf("%s: %+v, %v\nwant %+v", name, have, err, s)
		}
	}
}

// TestSeen_AnyDamageIsNoticed: no bit of key or value can differ, and nothing can be missing.
func TestSeen_AnyDamageIsNoticed(t *testing.T) {
	row := seen1()["seen"].Row()
	for i := range 8 * row.Size() {
		key, value := append([]byte(nil), row.key...), append([]byte(nil), row.value...)
		if n := i / 8; n < len(key) {
			key[n] ^= 1 << (i % 8)
		} else {
			value[n-len(key)] ^= 1 << (i % 8)
		}
		if s, err := parseSeen(key, value); err == nil {
			t.Fatalf("bit %d: %+v", i, s)
		}
	}
	for n := range row.value {
		if s, err := parseSeen(row.key, row.value[:n]); err == nil {
			t.Fatalf("%d bytes: %+v", n, s)
		}
	}
}

// FuzzParseSeen puts the right sum under anything: what is accepted makes sense, and is written as it was read.
func FuzzParseSeen(f *testing.F) {
	for _, s := range seen1() {
		row := s.Row()
		f.Add(s.SID, s.StartCSN, row.value[:len(row.value)-seenSum])
	}
	f.Fuzz(func(t *testing.T, sid uint32, start uint64, body []byte) {
		key := sidKey64(keySeen, sid, start)
		s, err := parseSeen(key, binary.BigEndian.AppendUint64(body[:len(body):len(body)], seenHash(key, body)))
		if err != nil {
			return
		}
		if s.RawNext <= s.RawStart || !s.Marks.IsEmpty() && s.Marks.Maximum() >= start {
			t.Fatalf("%+v is accepted", s)
		}
		row := s.Row()
		again, err := parseSeen(row.key, row.value)
		if err != nil || !sameSeen(again, s) {
			t.Fatalf("%+v comes back as %+v, %v", s, again, err)
		}
	})
}

// TestSaveSeen_ReplacesTheCheckpoint: rows of runs that are no more go, with what is stored beside them, and a row that cannot be read is as
// good as none.
func TestSaveSeen_ReplacesTheCheckpoint(t *testing.T) {
	s, err := Open(Options{Dir: "s", FS: vfs.NewMem()})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}()
	all := seen1()
	save := func(progress int64, names ...string) {
		t.Helper()
		c := &Checkpoint{RawNext: progress, Progress: &Progress{NextCSN: 1, RawNext: progress}}
		for _, name := range names {
			c.Rows = append(c.Rows, all[name].Row())
		}
		if err := s.SaveSeen(c); err != nil {
			t.Fatal(err)
		}
	}
	holds := func(progress int64, names ...string) {
		t.Helper()
		rows, err := s.Seen()
		if err != nil || len(rows) != len(names) {
			t.Fatalf("%d rows, %v; want %v", len(rows), err, names)
		}
		for i, name := range names {
			if !sameSeen(rows[i], all[name]) {
				t.Errorf("%+v, want %s", rows[i], name)
			}
		}
		if next, err := s.RawNext(); next != progress || err != nil {
			t.Errorf("raw next %d, %v; want %d", next, err, progress)
		}
	}
	save(5, "seen-first", "seen")
	holds(5, "seen-first", "seen")
	save(7, "seen", "seen-largest")
	holds(7, "seen", "seen-largest")
	if err := s.db.Set(sidKey64(keySeen, 8, 1), []byte("what is this"), pebble.NoSync); err != nil {
		t.Fatal(err)
	}
	holds(7, "seen", "seen-largest")
	save(9)
	holds(9)
}

// TestSaveSeen_SurvivesAKillWhereLittleChanges: rows that nothing pushes out of memory would be lost with it.
func TestSaveSeen_SurvivesAKillWhereLittleChanges(t *testing.T) {
	fs := vfs.NewCrashableMem()
	s, err := Open(Options{Dir: "s", FS: fs})
	if err != nil {
		t.Fatal(err)
	}
	row := seen1()["seen"].Row()
	if err := s.SaveSeen(&Checkpoint{RawNext: 2400000, Rows: []SeenRow{row}}); err != nil {
		t.Fatal(err)
	}
	flushed, err := s.db.AsyncFlush() // ends after the one that SaveSeen began
	if err != nil {
		t.Fatal(err)
	}
	<-flushed
	if s.unflushed.Load() != 0 || s.flushedRaw != 2400000 {
		t.Fatalf("%d bytes, up to %d", s.unflushed.Load(), s.flushedRaw)
	}
	// A flush is not to be had for a few events more.
	s.unflushed.Store(1000)
	if err := s.SaveSeen(&Checkpoint{RawNext: 2400100, Rows: []SeenRow{row}}); err != nil || s.flushedRaw != 2400000 {
		t.Fatalf("flushed up to %d, %v", s.flushedRaw, err)
	}
	if err := s.Abandon(); err != nil {
		t.Fatal(err)
	}
	if s, err = Open(Options{Dir: "s", FS: fs}); err != nil {
		t.Fatal(err)
	}
	if rows, err := s.Seen(); err != nil || len(rows) != 1 {
		t.Fatalf("%d rows, %v", len(rows), err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
}
