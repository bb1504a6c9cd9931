package bench

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"runtime/pprof"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// records is how many records most benchmarks take.
func records(tb testing.TB) int {
	s := os.Getenv("TIDEMARK_BENCH_RECORDS")
	if s == "" {
		return 200_000
	}
	n, err := strconv.Atoi(s)
	if err != nil || n < 20_000 {
		tb.Fatalf("TIDEMARK_BENCH_RECORDS is %q, want a number from 20000", s)
	}
	return n
}

// once stops a benchmark that is asked to repeat itself: they measure phases that follow one another.
func once(b *testing.B) {
	if b.N > 1 {
		b.Skip("measures once: run with -benchtime 1x, and -count for more")
	}
}

// span is the cost of a phase to this process.
type span struct{ wall, cpu time.Duration }

// meter starts a phase. It begins with a collection, so that the garbage of what came before is not on its bill.
func meter(tb testing.TB, profileName string) (stop func() span) {
	runtime.GC()
	stopProfile := profile(tb, profileName)
	began, used := time.Now(), cpu()
	return func() span {
		s := span{time.Since(began), cpu() - used}
		stopProfile()
		return s
	}
}

func (s span) perCPU(n int) float64  { return float64(n) / s.cpu.Seconds() }
func (s span) perWall(n int) float64 { return float64(n) / s.wall.Seconds() }

// cpu is what this process has used, user and system.
func cpu() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		panic(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// profile writes profiles of one phase into the folder that TIDEMARK_BENCH_PROFILES names: where the CPU went, and what had been
// allocated since the process started.
func profile(tb testing.TB, name string) (stop func()) {
	dir := os.Getenv("TIDEMARK_BENCH_PROFILES")
	if dir == "" || name == "" {
		return func() {}
	}
	path := filepath.Join(dir, strings.NewReplacer(" ", "-", ",", "").Replace(name))
	f, err := os.Create(path + ".cpu.prof")
	if err != nil {
		tb.Fatal(err)
	}
	if err := pprof.StartCPUProfile(f); err != nil {
		tb.Fatal(err)
	}
	end := sync.OnceFunc(func() {
		pprof.StopCPUProfile()
		f.Close()
	})
	tb.Cleanup(end) // when the phase fails
	return func() {
		end()
		allocs, err := os.Create(path + ".allocs.prof")
		if err != nil {
			tb.Fatal(err)
		}
		defer allocs.Close()
		if err := pprof.Lookup("allocs").WriteTo(allocs, 0); err != nil {
			tb.Fatal(err)
		}
	}
}

func machine() string {
	model := "unknown CPU"
	if b, err := os.ReadFile("/proc/cpuinfo"); err == nil {
		for line := range strings.Lines(string(b)) {
			if k, v, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(k) == "model name" {
				model = strings.TrimSpace(v)
				break
			}
		}
	}
	return fmt.Sprintf("%s, %d cores, %s", model, runtime.NumCPU(), runtime.Version())
}

// load is the number of processes that wanted a CPU, over the last minute; -1 if the system does not say.
func load() float64 {
	b, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		return -1
	}
	v, err := strconv.ParseFloat(strings.Fields(string(b))[0], 64)
	if err != nil {
		return -1
	}
	return v
}

// peakRSS is the most memory that a process has had in use so far, in bytes.
func peakRSS(tb testing.TB, pid int) int64 {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		tb.Fatal(err)
	}
	for line := range strings.Lines(string(b)) {
		if f := strings.Fields(line); len(f) == 3 && f[0] == "VmHWM:" {
			kib, err := strconv.ParseInt(f[1], 10, 64)
			if err != nil {
				tb.Fatal(err)
			}
			return kib << 10
		}
	}
	tb.Fatal("the system does not say how much memory a process has used")
	return 0
}

// dirBytes is what the files below a folder take whose names end in suffix.
func dirBytes(tb testing.TB, dir, suffix string) (sum int64) {
	err := filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.HasSuffix(path, suffix) {
			return err
		}
		info, err := d.Info()
		if err == nil {
			sum += info.Size()
		}
		return err
	})
	if err != nil {
		tb.Fatal(err)
	}
	return sum
}
