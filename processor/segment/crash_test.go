package segment

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"
)

// history is what a crash test has to know about the time before the crash.
type history struct {
	appended uint64 // nothing above can be there
	synced   uint64 // everything up to here has to be there
	floor    uint64 // of the last drop that returned
	nextDrop uint64 // csn of the drop under way, or of the last one
}

// TestCrash takes the state of the disk after a power cut at each single file operation of a random run, with nothing, some or all of
// the unsynced data and directory entries, and opens it: the store has to be an exact prefix of the log, and converge when fed again.
func TestCrash(t *testing.T) {
	seed, g := newRand(t)
	cuts := 0
	for round := range rounds(8) {
		w := newWorld(seed+uint64(round), 5, 9000)
		mem := vfs.NewCrashableMem()
		var mu sync.Mutex // the run's goroutines and its flushes come by here
		h := history{floor: 1}
		type disk struct {
			fs *vfs.MemFS
			h  history
		}
		var disks []disk
		crash := errorfs.InjectorFunc(func(op errorfs.Op) error {
			if op.Kind.ReadOrWrite() == errorfs.OpIsRead {
				return nil
			}
			mu.Lock()
			defer mu.Unlock()
			clones := 1
			if op.Kind == errorfs.OpFileSync { // the moment with the most to lose
				clones = 4
			}
			for range clones {
				percent := []int{0, 20, 50, 80, 100}[g.IntN(5)]
				disks = append(disks, disk{mem.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: percent, RNG: g}), h})
			}
			return nil
		})
		set := func(f func(h *history)) { mu.Lock(); defer mu.Unlock(); f(&h) }
		roll := rand.New(rand.NewPCG(seed, uint64(round)+100))
		o := small(errorfs.Wrap(mem, crash))
		s := mustOpen(t, o)
		end := uint64(0)
		for range 40 {
			switch n := roll.IntN(12); {
			case n < 7:
				end += uint64(roll.IntN(60))
				set(func(h *history) { h.appended = end })
				must(t, w.feed(s, roll, end))
			case n < 8:
				must(t, s.Flush())
			case n < 9:
				must(t, s.Sync())
				set(func(h *history) { h.synced = end })
			case n < 10:
				csn := uint64(roll.IntN(int(end) + 5))
				set(func(h *history) { h.nextDrop = csn; h.appended = max(h.appended, csn) })
				_, err := s.DropBelow(csn)
				must(t, err)
				end = max(end, s.Appended())
				set(func(h *history) { h.floor = s.Floor(); h.synced = max(h.synced, h.floor-1) })
			default:
				must(t, s.Close())
				set(func(h *history) { h.synced = end })
				s = mustOpen(t, o)
			}
		}
		must(t, s.Close())
		for i, d := range disks {
			if err := reopen(w, g, small(d.fs), d.h, t); err != nil {
				t.Fatalf("round %d, crash %d of %d (%+v): %v", round, i, len(disks), d.h, err)
			}
		}
		cuts += len(disks)
	}
	t.Logf("%d crashes", cuts)
}

func reopen(w world, g *rand.Rand, o Options, h history, t testing.TB) error {
	s, err := Open(o)
	if err != nil {
		return err
	}
	applied, floor := s.Applied(), s.Floor()
	if applied < h.synced || applied > h.appended {
		return fmt.Errorf("applied is %d, want %d to %d", applied, h.synced, h.appended)
	}
	if floor < h.floor || floor > max(h.floor, h.nextDrop) {
		return fmt.Errorf("floor is %d, was %d with a drop below %d", floor, h.floor, h.nextDrop)
	}
	if err := w.check(s, g, floor, applied); err != nil {
		return fmt.Errorf("at applied %d: %w", applied, err)
	}
	end := h.appended + 50
	if err := w.feed(s, g, end); err != nil {
		return err
	}
	if err := w.check(s, g, floor, end); err != nil {
		return fmt.Errorf("fed again: %w", err)
	}
	if err := s.Close(); err != nil {
		return err
	}
	if s, err = Open(o); err != nil {
		return fmt.Errorf("opening again: %w", err)
	}
	if err := w.check(s, g, floor, end); err != nil {
		return fmt.Errorf("opened again: %w", err)
	}
	return s.Close()
}

// TestKill kills a process that appends, flushes, drops and syncs, at random moments, on one directory. What a flush had reported as applied has to
// be there, and everything that is there has to be right.
func TestKill(t *testing.T) {
	seed, g := newRand(t)
	w := newWorld(seed, 6, 70_000)
	dir := filepath.Join(t.TempDir(), "seg")
	reported, floor := uint64(0), uint64(1)
	wrote := regexp.MustCompile(`applied [1-9]`)
	for cycle := range max(4, rounds(20)) {
		cmd := exec.Command(os.Args[0])
		cmd.Env = append(os.Environ(), killDirEnv+"="+dir, killSeedEnv+"="+strconv.FormatUint(seed, 10))
		out, err := os.Create(filepath.Join(t.TempDir(), "out"))
		must(t, err)
		cmd.Stdout, cmd.Stderr = out, out
		must(t, cmd.Start())
		poll(t, "the child to write", func() bool {
			text, err := os.ReadFile(out.Name())
			must(t, err)
			return wrote.Match(text)
		})
		time.Sleep(time.Duration(g.IntN(200)) * time.Millisecond) // the random moment; nothing is waited for
		if err := cmd.Process.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
			t.Fatal(err)
		}
		err = cmd.Wait()
		text, rerr := os.ReadFile(out.Name())
		must(t, rerr)
		must(t, out.Close())
		if cmd.ProcessState.Exited() {
			t.Fatalf("cycle %d: child ended by itself (%v): %s", cycle, err, text)
		}
		lines := strings.Split(string(text), "\n")
		for _, line := range lines[:len(lines)-1] { // the last may be torn
			if n, err := fmt.Sscanf(line, "applied %d floor %d", &reported, &floor); n == 1 || n == 2 && err != nil {
				t.Fatalf("cycle %d: %q: %v", cycle, line, err)
			}
		}
		s := mustOpen(t, killOptions(dir))
		applied := s.Applied()
		if applied < reported {
			t.Fatalf("cycle %d: applied %d, the child had %d", cycle, applied, reported)
		}
		if s.Floor() < floor {
			t.Fatalf("cycle %d: floor %d, the child had %d", cycle, s.Floor(), floor)
		}
		if err := w.check(s, g, s.Floor(), applied); err != nil {
			t.Fatalf("cycle %d: %v", cycle, err)
		}
		if g.IntN(2) == 0 { // now and then the next child finds the state of a clean stop
			must(t, s.Close())
		} else {
			abandon(s)
		}
	}
	if reported == 0 {
		t.Fatal("no child wrote anything")
	}
	t.Logf("%d records' worth of csn, floor %d", reported, floor)
}

// abandon closes the files and nothing else, as the end of a process does.
func abandon(s *Store) {
	for _, f := range s.files {
		f.release()
	}
}

const (
	killDirEnv  = "SEGMENT_KILL_DIR"
	killSeedEnv = "SEGMENT_KILL_SEED"
)

func killOptions(dir string) Options {
	return Options{Dir: dir, SegmentBytes: 256 << 10, BlockBytes: 4 << 10, BufferBytes: 32 << 10}
}

func TestMain(m *testing.M) {
	if dir := os.Getenv(killDirEnv); dir != "" {
		killChild(dir)
	}
	os.Exit(m.Run())
}

// killChild is the process that TestKill kills.
func killChild(dir string) {
	seed, err := strconv.ParseUint(os.Getenv(killSeedEnv), 10, 64)
	exitOn(err)
	w := newWorld(seed, 6, 70_000)
	s, err := Open(killOptions(dir))
	exitOn(err)
	g := rand.New(rand.NewPCG(seed, s.Applied()))
	for {
		exitOn(w.feed(s, g, s.Appended()+uint64(1+g.IntN(300))))
		switch g.IntN(12) {
		case 0:
			exitOn(s.Flush())
		case 1:
			exitOn(s.Sync())
		case 2:
			_, err := s.DropBelow(s.Appended() - min(s.Appended(), 3000))
			exitOn(err)
		}
		fmt.Printf("applied %d floor %d\n", s.Applied(), s.Floor())
	}
}

func exitOn(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(3)
	}
}
