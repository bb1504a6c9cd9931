package segment

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
)

var seedFlag = flag.Uint64("seed", 0, "seed of the random tests; 0 takes one from the clock")

// newRand returns the source of one random test and prints its seed if the test fails.
func newRand(t testing.TB) (uint64, *rand.Rand) {
	seed := *seedFlag
	if seed == 0 {
		seed = uint64(time.Now().UnixNano())
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("run again with -seed=%d", seed)
		}
	})
	return seed, rand.New(rand.NewPCG(seed, 1))
}

// world is the log that tests feed: what is at a csn depends on seed and csn alone, as in a real log.
type world struct {
	seed    uint64
	streams uint32
	huge    int      // bytes of the rare large payload
	known   []Record // the first csns, made once because tests look at them often
}

func newWorld(seed uint64, streams uint32, huge int) world {
	w := world{seed: seed, streams: streams, huge: huge}
	return w.know(2000)
}

func (w world) know(n uint64) world {
	known := make([]Record, n)
	for csn := range n {
		known[csn], _ = w.at(csn)
	}
	w.known = known
	return w
}

const worldEpoch = 1_700_000_000_000

// at returns the record at csn; ok is false where the log has a control record.
func (w world) at(csn uint64) (r Record, ok bool) {
	if csn < uint64(len(w.known)) {
		return w.known[csn], w.known[csn].Op != 0
	}
	g := rand.New(rand.NewPCG(w.seed, csn))
	if g.IntN(9) == 0 {
		return Record{}, false
	}
	r = Record{
		SID: uint32(g.ExpFloat64()*float64(w.streams)/4) % w.streams, CSN: csn,
		Op: byte(1 + g.IntN(3)), Flags: byte(g.Uint32()), Rev: g.Uint32(),
		TS: w.ts(csn), FirstSeen: w.ts(csn) - int64(g.IntN(1e6)), Run: g.Uint64(),
		ID: fmt.Appendf(nil, "id-%d", g.IntN(1000)),
	}
	for i := range r.Hash {
		r.Hash[i] = byte(g.Uint32())
	}
	switch n := g.IntN(100); {
	case n == 0:
		r.Payload = make([]byte, w.huge)
	case n < 10: // none
	case n < 20:
		r.Payload = make([]byte, g.IntN(400))
		for i := range r.Payload {
			r.Payload[i] = byte(g.Uint32())
		}
	default:
		r.Payload = fmt.Appendf(nil, `{"id":%d,"name":"record %d","tags":["a","b","c"],"text":%q}`, n, csn, bytes.Repeat([]byte("lorem "), g.IntN(30)))
	}
	return r, true
}

// ts is the time of a csn; it goes back now and then, as clocks do.
func (w world) ts(csn uint64) int64 { return worldEpoch + int64(csn)*100 - int64(csn%7)*150 }

// call returns the records of (from, through].
func (w world) call(from, through uint64) []Record {
	var recs []Record
	for csn := from + 1; csn <= through; csn++ {
		if r, ok := w.at(csn); ok {
			recs = append(recs, r)
		}
	}
	return recs
}

// feed appends until through, in calls of random length that may begin too early.
func (w world) feed(s *Store, g *rand.Rand, through uint64) error {
	for s.Appended() < through {
		at := s.Appended()
		from := at - min(at, uint64(g.IntN(5)))
		to := min(through, at+1+uint64(g.IntN(40)))
		if err := s.Append(w.call(from, to), to, w.ts(to)); err != nil {
			return err
		}
	}
	return nil
}

// check compares the whole content of s with the log up to csn: by Read for each stream, and by Get for a sample.
func (w world) check(s *Store, g *rand.Rand, floor, through uint64) error {
	if s.Floor() != floor {
		return fmt.Errorf("floor is %d, want %d", s.Floor(), floor)
	}
	want := make([][]Record, w.streams)
	for csn := max(1, floor-min(floor, 50)); csn <= through; csn++ {
		if r, ok := w.at(csn); ok {
			want[r.SID] = append(want[r.SID], r)
		}
	}
	stored := 0
	for sid, recs := range want {
		var csns []uint64
		expect := map[uint64]*Record{}
		for i := range recs {
			r := &recs[i]
			if g.IntN(8) == 0 && r.CSN > 1 { // may belong to the stream or not
				if n := len(csns); n == 0 || csns[n-1] < r.CSN-1 {
					csns = append(csns, r.CSN-1)
				}
			}
			csns = append(csns, r.CSN)
			if r.CSN >= floor {
				expect[r.CSN] = r
				stored++
			}
		}
		csns = append(csns, through+1, through+2)
		i := 0
		err := s.Read(uint32(sid), csns, func(r *Record) error {
			if r.CSN != csns[i] {
				return fmt.Errorf("stream %d: record %d has csn %d, want %d", sid, i, r.CSN, csns[i])
			}
			i++
			return same(*r, expect[r.CSN], uint32(sid))
		})
		if err != nil {
			return err
		}
		if i != len(csns) {
			return fmt.Errorf("stream %d: %d calls for %d csns", sid, i, len(csns))
		}
	}
	for range 20 {
		csn := uint64(1 + g.IntN(int(through)+2))
		r, ok := w.at(csn)
		sid := r.SID
		if g.IntN(4) == 0 {
			sid = uint32(g.IntN(int(w.streams)))
		}
		got, err := s.Get(sid, csn)
		switch {
		case csn < floor:
			if !errors.Is(err, ErrPruned) {
				return fmt.Errorf("get %d: %v, want ErrPruned", csn, err)
			}
		case csn > through || !ok || sid != r.SID:
			if !errors.Is(err, ErrNotFound) {
				return fmt.Errorf("get %d: %v, want ErrNotFound", csn, err)
			}
		case err != nil:
			return fmt.Errorf("get %d: %w", csn, err)
		default:
			if err := same(got, &r, sid); err != nil {
				return err
			}
		}
	}
	if st := s.Stats(); st.Records != int64(stored) {
		return fmt.Errorf("stats say %d records, want %d", st.Records, stored)
	}
	return nil
}

func same(got Record, want *Record, sid uint32) error {
	if want == nil {
		if got.Op != 0 || got.SID != sid || got.ID != nil || got.Payload != nil {
			return fmt.Errorf("stream %d has a record at csn %d, want none", sid, got.CSN)
		}
		return nil
	}
	w := *want
	if !bytes.Equal(got.ID, w.ID) || !bytes.Equal(got.Payload, w.Payload) {
		return fmt.Errorf("stream %d csn %d: id %q payload of %d bytes, want %q and %d bytes", sid, w.CSN, got.ID, len(got.Payload), w.ID, len(w.Payload))
	}
	got.ID, got.Payload, w.ID, w.Payload = nil, nil, nil, nil
	if got.SID != w.SID || got.CSN != w.CSN || got.Op != w.Op || got.Flags != w.Flags || got.Rev != w.Rev || got.TS != w.TS ||
		got.FirstSeen != w.FirstSeen || got.Hash != w.Hash || got.Run != w.Run {
		return fmt.Errorf("stream %d csn %d: got %v, want %v", sid, w.CSN, got, w)
	}
	return nil
}

// rounds returns how often a random test goes round: n, less with -short, and less under the race detector, which is slow and finds
// nothing more in tests of one goroutine.
func rounds(n int) int {
	if testing.Short() {
		n = (n + 5) / 6
	}
	if underRace {
		n = (n + 5) / 6
	}
	return n
}

// small makes everything happen often: a frame every few records, a segment every few frames.
func small(fs vfs.FS) Options {
	return Options{Dir: "/seg", FS: fs, SegmentBytes: 16 << 10, BlockBytes: 1 << 10, BufferBytes: 4 << 10}
}

func mustOpen(t testing.TB, o Options) *Store {
	t.Helper()
	s, err := Open(o)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func testLogger(t testing.TB) *slog.Logger {
	return slog.New(slog.NewTextHandler(t.Output(), nil))
}
