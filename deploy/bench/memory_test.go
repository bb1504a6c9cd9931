package bench

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/signal"
	"runtime/debug"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/tidemark-dev/tidemark/deploy/stack"
	"github.com/tidemark-dev/tidemark/processor/store"
)

// serveStack is the role of a whole: directory, number of streams. It says its Kafka address, and answers each line of its input with
// the numbers of runs that are complete and of live records.
func serveStack(args []string) error {
	cfg := stackConfig(args[0])
	s, err := stack.New(cfg, quiet())
	if err != nil {
		return err
	}
	debug.SetMemoryLimit(stack.SplitMemory(cfg.MemoryBytes, cfg.Partitions).GoLimit) // as "up" does
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	ran := make(chan error, 1)
	go func() { ran <- s.Run(ctx) }()
	select {
	case <-s.Started():
	case err := <-ran:
		return err
	}
	if err := s.WaitReady(ctx); err != nil {
		return err
	}
	fmt.Println(s.Endpoints().Kafka.Seeds[0])
	streams, err := strconv.Atoi(args[1])
	if err != nil {
		return err
	}
	in := newInput(streams, streams, 0, partitions)
	for lines := bufio.NewScanner(os.Stdin); lines.Scan(); {
		complete, live := 0, uint64(0)
		for _, id := range in.ids {
			st, err := s.Stream(id)
			if err != nil {
				return err
			}
			if st == nil {
				continue
			}
			live += st.Live
			for _, r := range st.Runs {
				if r.Status == store.RunCompleted {
					complete++
				}
			}
		}
		fmt.Println(complete, live)
	}
	stop()
	return <-ran
}

// BenchmarkFullRun loads a collection and saves all of it again in a full run that tracks deletes, in a fresh process, and reports the
// most memory that the process had: the whole, broker included, with its default bound of 1 GiB.
func BenchmarkFullRun(b *testing.B) {
	once(b)
	const streams = 20
	sizes := []int{records(b)}
	if os.Getenv("TIDEMARK_BENCH_LARGE") == "1" {
		sizes = []int{1_000_000, 10_000_000}
	}
	for _, n := range sizes {
		in := newInput(streams, n, 350, partitions)
		dir := b.TempDir()
		var load, again, idle float64
		var rates [2]float64
		for run, into := range []*float64{&load, &again} {
			w := start(b, "stack", dir, strconv.Itoa(streams))
			if run == 1 {
				idle = float64(peakRSS(b, w.cmd.Process.Pid)) / (1 << 20)
			}
			p, endProducer := newProducer(b, w.first[0])
			began := time.Now()
			in.save(b, p, 0, everyInOrder)
			for deadline := time.Now().Add(time.Hour); ; time.Sleep(10 * time.Millisecond) {
				var complete, live int
				fmt.Fprintln(w.in)
				if _, err := fmt.Fscan(w.out, &complete, &live); err != nil {
					b.Fatal(err)
				}
				if complete == (run+1)*streams {
					if live != n {
						b.Fatalf("%d records are live of %d", live, n)
					}
					break
				}
				if time.Now().After(deadline) {
					b.Fatalf("%d runs are complete", complete)
				}
			}
			took := time.Since(began)
			rates[run] = float64(n) / took.Seconds()
			endProducer()
			*into = float64(peakRSS(b, w.cmd.Process.Pid)) / (1 << 20)
			b.Logf("%s records, run %d: %.0f k records/s, %.0f MiB at most", thousands(n), run+1, float64(n)/took.Seconds()/1e3, *into)
			w.stop()
		}
		for run, what := range []string{"new", "unchanged"} {
			figures.note(b.Logf, figure{fmt.Sprintf("8 full run of %s %s records, by the clock", thousands(n), what), "", perSecond, rates[run], "", 0})
		}
		const baseline = "after the start, before the run"
		figures.note(b.Logf, figure{fmt.Sprintf("8 full run of %s unchanged records, peak RSS of the process", thousands(n)), "1,024 MiB", mebibytes, again, baseline, idle})
		figures.note(b.Logf, figure{fmt.Sprintf("8 full run of %s new records, peak RSS of the process", thousands(n)), "1,024 MiB", mebibytes, load, baseline, idle})
	}
}

func thousands(n int) string {
	if n%1_000_000 == 0 {
		return fmt.Sprintf("%d M", n/1_000_000)
	}
	return fmt.Sprintf("%d k", n/1000)
}
