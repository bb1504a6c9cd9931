package segment

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"
)

// TestDiskFull fills the disk: the error comes from Append, everything appended stays readable, memory stays bounded, dropping works, and the
// store goes on when there is room, with and without a reopen in between.
func TestDiskFull(t *testing.T) {
	seed, g := newRand(t)
	for round := range rounds(25) {
		w := newWorld(seed+uint64(round), 4, 5000)
		mem := vfs.NewMem()
		fs := newFaultFS(mem)
		o := small(fs)
		s := mustOpen(t, o)
		fs.setRoom(int64(g.IntN(60 << 10)))
		fail := func(what string, err error) {
			if err != nil {
				t.Fatalf("round %d: %s: %v", round, what, err)
			}
		}
		err := w.feed(s, g, 1990)
		if !errors.Is(err, syscall.ENOSPC) {
			t.Fatalf("round %d: a full disk gives %v", round, err)
		}
		at := s.Appended()
		for range 3 {
			if err := w.feed(s, g, 1990); !errors.Is(err, syscall.ENOSPC) {
				t.Fatalf("round %d: still full, but %v", round, err)
			}
			if err := s.Flush(); !errors.Is(err, syscall.ENOSPC) {
				t.Fatalf("round %d: still full, but flush says %v", round, err)
			}
		}
		if s.Appended() != at {
			t.Fatalf("round %d: appended went from %d to %d by calls that failed", round, at, s.Appended())
		}
		// One call is at most 40 records, of which one or two are huge.
		if st := s.Stats(); st.TailBytes > 2*(o.BufferBytes+40*1000+3*5000) {
			t.Fatalf("round %d: %d bytes in memory", round, st.TailBytes)
		}
		fail("check while full", w.check(s, g, 1, at))
		if g.IntN(2) == 0 {
			if err := s.Close(); !errors.Is(err, syscall.ENOSPC) {
				t.Fatalf("round %d: close says %v", round, err)
			}
			s, err = Open(o)
			fail("open while full", err)
			if s.Applied() > at {
				t.Fatalf("round %d: applied %d after %d", round, s.Applied(), at)
			}
			fail("check after open", w.check(s, g, 1, s.Applied()))
		}
		_, err = s.DropBelow(s.Applied() / 2)
		fail("drop while full", err)
		floor := s.Floor()
		fs.setRoom(-1)
		fail("feed", w.feed(s, g, 1500))
		fail("flush", s.Flush())
		fail("check", w.check(s, g, floor, 1500))
		fail("close", s.Close())
		s, err = Open(o)
		fail("open", err)
		fail("check at the end", w.check(s, g, floor, 1500))
	}
}

// TestRandomErrors lets any file operation but a sync fail now and then. Calls are repeated until they succeed, as callers do.
func TestRandomErrors(t *testing.T) {
	seed, g := newRand(t)
	for round := range rounds(20) {
		w := newWorld(seed+uint64(round), 4, 5000)
		var mu sync.Mutex
		dice := rand.New(rand.NewPCG(seed, uint64(round)))
		toggle := &errorfs.Toggle{Injector: errorfs.InjectorFunc(func(op errorfs.Op) error {
			mu.Lock()
			defer mu.Unlock()
			switch op.Kind {
			case errorfs.OpFileSync, errorfs.OpFileSyncTo, errorfs.OpFileClose:
				return nil
			}
			if dice.IntN(6) == 0 {
				return errorfs.ErrInjected
			}
			return nil
		})}
		mem := vfs.NewMem()
		o := small(errorfs.Wrap(mem, toggle))
		repeat := func(what string, f func() error) {
			for range 1000 {
				err := f()
				if err == nil {
					return
				}
				if !errors.Is(err, errorfs.ErrInjected) {
					t.Fatalf("round %d: %s: %v", round, what, err)
				}
			}
			t.Fatalf("round %d: %s fails for ever", round, what)
		}
		var s *Store
		open := func() (err error) { s, err = Open(o); return err }
		toggle.On()
		repeat("open", open)
		end, floor := uint64(0), uint64(1)
		for range 25 {
			switch g.IntN(5) {
			case 0:
				repeat("flush", s.Flush)
			case 1:
				csn := uint64(g.IntN(int(end) + 2))
				repeat("drop", func() error { _, err := s.DropBelow(csn); return err })
				floor = s.Floor()
			case 2:
				if err := s.Close(); err != nil && !errors.Is(err, errorfs.ErrInjected) {
					t.Fatalf("round %d: close: %v", round, err)
				}
				repeat("open", open)
				if s.Floor() != floor {
					t.Fatalf("round %d: floor %d after open, was %d", round, s.Floor(), floor)
				}
			default:
				end += uint64(g.IntN(80))
			}
			repeat("feed", func() error { return w.feed(s, g, end) })
			toggle.Off()
			if err := w.check(s, g, floor, end); err != nil {
				t.Fatalf("round %d: %v", round, err)
			}
			toggle.On()
		}
		toggle.Off()
		must(t, s.Close())
		s = mustOpen(t, o)
		if err := w.check(s, g, floor, end); err != nil {
			t.Fatalf("round %d: at the end: %v", round, err)
		}
	}
}

// TestSyncFailure says that after a failed fsync nothing more is accepted: the kernel may have forgotten the pages that it could not write.
func TestSyncFailure(t *testing.T) {
	seed, g := newRand(t)
	w := newWorld(seed, 4, 3000)
	for _, kind := range []errorfs.OpKind{errorfs.OpFileSync, errorfs.OpFileSyncTo} {
		toggle := &errorfs.Toggle{Injector: errorfs.InjectorFunc(func(op errorfs.Op) error {
			if op.Kind == kind {
				return errorfs.ErrInjected
			}
			return nil
		})}
		o := small(errorfs.Wrap(vfs.NewMem(), toggle))
		if kind == errorfs.OpFileSyncTo { // happens each writebackBytes
			o.SegmentBytes, o.BufferBytes = 64<<20, 1<<20
		}
		s := mustOpen(t, o)
		must(t, w.feed(s, g, 30))
		must(t, s.Flush())
		toggle.On()
		err := w.feed(s, g, 200)
		for i := 0; err == nil && kind == errorfs.OpFileSyncTo && i < 20; i++ {
			err = s.Append([]Record{{SID: 9, CSN: s.Appended() + 1, Op: 1, Payload: noise(g, 1<<20)}}, s.Appended()+1, 0)
		}
		if err == nil {
			err = s.Sync()
		}
		if !errors.Is(err, errorfs.ErrInjected) {
			t.Fatalf("%v: got %v", kind, err)
		}
		toggle.Off()
		at := s.Appended()
		if kind == errorfs.OpFileSync {
			if err := w.check(s, g, 1, at); err != nil {
				t.Fatalf("%v: reading after it: %v", kind, err)
			}
		} else if _, err := s.Get(9, at); err != nil {
			t.Fatalf("%v: reading after it: %v", kind, err)
		}
		for _, f := range []func() error{
			func() error { return s.Append(nil, at+1, 0) }, s.Flush, s.Sync, s.Close,
		} {
			if err := f(); !errors.Is(err, errorfs.ErrInjected) {
				t.Fatalf("%v: a call after it says %v", kind, err)
			}
		}
		s = mustOpen(t, o)
		if s.Applied() > at {
			t.Fatalf("applied %d after %d", s.Applied(), at)
		}
		must(t, w.feed(s, g, 1200))
		must(t, s.Close())
	}
}

func noise(g *rand.Rand, n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(g.Uint32())
	}
	return b
}

// TestReadError says that a device error while opening is not taken for damage: nothing is cut.
func TestReadError(t *testing.T) {
	seed, g := newRand(t)
	w := newWorld(seed, 4, 3000)
	mem := vfs.NewMem()
	s := mustOpen(t, small(mem))
	must(t, w.feed(s, g, 400))
	must(t, s.Flush())
	abandon(s)
	for n := 0; ; n++ {
		seen := 0
		reads := errorfs.InjectorFunc(func(op errorfs.Op) error {
			if op.Kind.ReadOrWrite() == errorfs.OpIsRead {
				if seen++; seen == n+1 {
					return errorfs.ErrInjected
				}
			}
			return nil
		})
		s, err := Open(small(errorfs.Wrap(mem, reads)))
		if err == nil {
			if n < 10 || n != seen {
				t.Fatalf("opened while read %d of %d failed", n, seen)
			}
			seen = -1 << 30
			if s.Applied() != 400 {
				t.Fatalf("applied %d, want 400", s.Applied())
			}
			must(t, w.check(s, g, 1, 400))
			break
		}
		if !errors.Is(err, errorfs.ErrInjected) || errors.Is(err, ErrCorrupt) {
			t.Fatalf("read %d: %v", n, err)
		}
	}
}

// TestBackPressure holds up the disk: one flush is under way, one tail fills, and then appends wait. Readers don't.
func TestBackPressure(t *testing.T) {
	seed, g := newRand(t)
	w := newWorld(seed, 4, 3000)
	fs := newFaultFS(vfs.NewMem())
	o := small(fs)
	s := mustOpen(t, o)
	must(t, w.feed(s, g, 100))
	must(t, s.Flush())
	release := fs.hold()
	var fed atomic.Bool
	done := make(chan error, 1)
	go func() {
		err := w.feed(s, g, 1900)
		fed.Store(true)
		done <- err
	}()
	poll(t, "both tails to fill", func() bool {
		st := s.Stats()
		return st.TailBytes >= 2*o.BufferBytes
	})
	at, applied := s.Appended(), s.Applied()
	must(t, w.check(s, rand.New(rand.NewPCG(seed, 2)), 1, at))
	if fed.Load() || s.Appended() != at || s.Applied() != applied {
		t.Fatalf("appended went from %d to %d while the disk was held", at, s.Appended())
	}
	if st := s.Stats(); st.TailBytes > 2*(o.BufferBytes+40*1000+3*3000) {
		t.Fatalf("%d bytes in memory", st.TailBytes)
	}
	release()
	select {
	case err := <-done:
		must(t, err)
	case <-time.After(30 * time.Second):
		t.Fatal("appends still wait")
	}
	must(t, w.check(s, g, 1, 1900))
	must(t, s.Close())
}

func poll(t testing.TB, what string, ok func() bool) {
	t.Helper()
	deadline := time.Now().Add(30 * time.Second)
	for !ok() {
		if time.Now().After(deadline) {
			t.Fatal("waited in vain for " + what)
		}
		time.Sleep(time.Millisecond)
	}
}

// TestConcurrent appends, flushes, drops, seeks and reads at once. Each read has to be exact for the csns that were appended before it
// began and not dropped before it ended.
func TestConcurrent(t *testing.T) {
	seed, _ := newRand(t)
	w := newWorld(seed, 6, 20_000).know(6001)
	o := small(vfs.NewMem())
	o.Cache = NewCache(300 << 10)
	s := mustOpen(t, o)
	const end = 6_000
	var wg sync.WaitGroup
	var stop atomic.Bool
	errs := make(chan error, 16)
	run := func(n uint64, f func(g *rand.Rand) error) {
		g := rand.New(rand.NewPCG(seed, n))
		wg.Go(func() {
			for !stop.Load() {
				if err := f(g); err != nil {
					errs <- err
					return
				}
			}
		})
	}
	for n := range uint64(4) {
		run(n, func(g *rand.Rand) error { return readSome(w, s, g) })
	}
	run(10, func(*rand.Rand) error { return s.Flush() })
	run(11, func(g *rand.Rand) error {
		if at := s.Appended(); at > 600 {
			_, err := s.DropBelow(at - 600 + uint64(g.IntN(300)))
			return err
		}
		return nil
	})
	run(12, func(g *rand.Rand) error {
		before := s.Appended()
		if csn := s.Seek(worldEpoch + int64(g.IntN(end*100))); csn > s.Appended()+1 || before > 700 && csn < 1 {
			return fmt.Errorf("seek gives %d", csn)
		}
		s.Oldest()
		s.Stats()
		return nil
	})
	g := rand.New(rand.NewPCG(seed, 20))
	for at := uint64(0); at < end && len(errs) == 0; at = s.Appended() {
		must(t, w.feed(s, g, min(end, at+20)))
	}
	stop.Store(true)
	wg.Wait()
	close(errs)
	for err := range errs {
		t.Error(err)
	}
	must(t, w.check(s, g, s.Floor(), end))
	// Readers that began before Close finish; those that begin later are told.
	err := s.Read(1, []uint64{s.Floor(), end}, func(r *Record) error {
		if r.CSN == s.Floor() {
			return s.Close()
		}
		return nil
	})
	must(t, err)
	if _, err := s.Get(1, end); !errors.Is(err, ErrClosed) {
		t.Fatalf("get after close: %v", err)
	}
	if used := o.Cache.Bytes(); used > 300<<10 {
		t.Fatalf("cache holds %d bytes", used)
	}
}

func readSome(w world, s *Store, g *rand.Rand) error {
	top := s.Appended()
	if top == 0 {
		return nil
	}
	sid := uint32(g.IntN(int(w.streams)))
	from := 1 + uint64(g.IntN(int(top)))
	var csns []uint64
	for csn := from; csn <= min(top, from+200); csn++ {
		if r, ok := w.at(csn); ok && (r.SID == sid || g.IntN(10) == 0) {
			csns = append(csns, csn)
		}
	}
	var missing []uint64
	err := s.Read(sid, csns, func(r *Record) error {
		want, _ := w.at(r.CSN)
		if want.SID != sid {
			return same(*r, nil, sid)
		}
		if r.Op == 0 {
			missing = append(missing, r.CSN)
			return nil
		}
		return same(*r, &want, sid)
	})
	if err != nil {
		return err
	}
	floor := s.Floor()
	for _, csn := range missing {
		if csn >= floor {
			return fmt.Errorf("stream %d has no csn %d, the floor is %d", sid, csn, floor)
		}
	}
	return nil
}
