package segment

import (
	"fmt"
	"slices"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// TestModel runs random operations and compares the store with the log that it was fed from.
func TestModel(t *testing.T) {
	seed, g := newRand(t)
	for round := range rounds(30) {
		w := newWorld(seed+uint64(round), uint32(1+g.IntN(12)), 3000+g.IntN(90_000))
		fs := vfs.NewMem()
		o := small(fs)
		if g.IntN(2) == 0 {
			o.Cache = NewCache(int64(g.IntN(400 << 10)))
		}
		o.BlockBytes = 256 + g.IntN(4000)
		s := mustOpen(t, o)
		fail := func(what string, err error) {
			if err != nil {
				t.Fatalf("round %d: %s: %v", round, what, err)
			}
		}
		end, floor := uint64(0), uint64(1)
		for range 60 {
			switch n := g.IntN(20); {
			case n < 10:
				end += uint64(g.IntN(120))
				fail("append", w.feed(s, g, end))
			case n < 12:
				fail("flush", s.Flush())
				if s.Applied() != end {
					t.Fatalf("round %d: applied %d after flush, want %d", round, s.Applied(), end)
				}
			case n < 13:
				fail("sync", s.Sync())
			case n < 15:
				fail("close", s.Close())
				s = mustOpen(t, o)
				if s.Applied() != end {
					t.Fatalf("round %d: applied %d after reopen, want %d", round, s.Applied(), end)
				}
			case n < 17:
				csn := uint64(g.IntN(int(end) + 2))
				if g.IntN(10) == 0 {
					csn = end + uint64(g.IntN(20))
				}
				was := files(s)
				dropped, err := s.DropBelow(csn)
				fail("drop", err)
				fail("drop", checkDrop(was, dropped, files(s), csn))
				if now := s.Floor(); now < floor || now > max(csn, floor) {
					t.Fatalf("round %d: floor %d after dropping below %d, was %d", round, now, csn, floor)
				}
				if csn > end+1 {
					end = csn - 1
				}
				floor = s.Floor()
			default:
				fail("check", w.check(s, g, floor, end))
				fail("seek", checkSeek(s, w, floor, end))
			}
			if s.Appended() != end {
				t.Fatalf("round %d: appended %d, want %d", round, s.Appended(), end)
			}
		}
		fail("check", w.check(s, g, floor, end))
		fail("close", s.Close())
	}
}

func files(s *Store) []Segment {
	s.mu.RLock()
	defer s.mu.RUnlock()
	var out []Segment
	for _, f := range s.files {
		out = append(out, f.describe())
	}
	return out
}

// checkDrop says whether exactly the segments below csn are gone.
func checkDrop(was, dropped, is []Segment, csn uint64) error {
	for _, d := range dropped {
		if d.LastCSN >= csn {
			return fmt.Errorf("dropped %+v for csn %d", d, csn)
		}
	}
	for i, f := range is {
		if f.LastCSN < csn && i < len(is)-1 {
			return fmt.Errorf("kept %+v for csn %d", f, csn)
		}
	}
	if n := len(is); n > 0 && is[n-1].LastCSN < csn && is[n-1].LastCSN >= is[n-1].FirstCSN {
		return fmt.Errorf("kept the open segment %+v for csn %d", is[n-1], csn)
	}
	for _, f := range was {
		gone := slices.ContainsFunc(dropped, func(d Segment) bool { return d.Name == f.Name })
		kept := slices.ContainsFunc(is, func(d Segment) bool { return d.Name == f.Name })
		if gone == kept {
			return fmt.Errorf("%+v: dropped %v, kept %v", f, gone, kept)
		}
	}
	return nil
}

func checkSeek(s *Store, w world, floor, end uint64) error {
	for _, at := range []uint64{floor, (floor + end) / 2, end, end + 1} {
		for _, ts := range []int64{w.ts(at) - 1, w.ts(at), w.ts(at) + 200} {
			got := s.Seek(ts)
			want := end + 1
			for csn := floor; csn <= end; csn++ {
				if _, ok := w.at(csn); ok && w.ts(csn) >= ts {
					want = csn
					break
				}
			}
			if got > want || got < floor {
				return fmt.Errorf("seek %d gives csn %d, the first is %d, the floor %d", ts, got, want, floor)
			}
			// Not earlier than the frame, or the tail, before.
			if want-got > 400 {
				return fmt.Errorf("seek %d gives csn %d, far before %d", ts, got, want)
			}
		}
	}
	return nil
}
