package bench

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/tidemark-dev/tidemark/deploy/stack"
	"github.com/tidemark-dev/tidemark/ingest"
	"github.com/tidemark-dev/tidemark/processor/store"
)

// whole is a Stack in this process, as the command "up" runs it: embedded broker, processor, HTTP.
type whole struct {
	*stack.Stack
	seed string
	stop func()
}

func stackConfig(dir string) stack.Config {
	cfg := stack.DefaultConfig()
	cfg.DataDir, cfg.HTTPAddr, cfg.KafkaListen, cfg.Partitions = dir, "127.0.0.1:0", "127.0.0.1:0", partitions
	return cfg
}

func startWhole(tb testing.TB) *whole {
	tb.Helper()
	s, err := stack.New(stackConfig(tb.TempDir()), quiet())
	if err != nil {
		tb.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	w := &whole{Stack: s, stop: sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			tb.Error(err)
		}
	})}
	tb.Cleanup(w.stop)
	wait, cancelWait := context.WithTimeout(ctx, time.Minute)
	defer cancelWait()
	select {
	case <-s.Started():
	case <-wait.Done():
		tb.Fatal("the stack does not start")
	}
	if err := s.WaitReady(wait); err != nil {
		tb.Fatal(err)
	}
	w.seed = s.Endpoints().Kafka.Seeds[0]
	return w
}

func newProducer(tb testing.TB, seed string) (p *ingest.Producer, end func()) {
	tb.Helper()
	p, err := ingest.NewProducer(context.Background(), ingest.Config{Seeds: []string{seed}, Names: names(), Logger: quiet()})
	if err != nil {
		tb.Fatal(err)
	}
	return p, func() {
		if err := p.Close(context.Background()); err != nil {
			tb.Error(err)
		}
	}
}

// save writes every record of every stream, each stream as a full run that tracks deletes, four at a time: two would leave the cores
// idle while runs begin and end, which wait for the broker. It returns the sequence of each stream's run.
func (in *input) save(tb testing.TB, p *ingest.Producer, version int, within func(stream, n int) []int) []uint64 {
	tb.Helper()
	seqs := make([]uint64, len(in.ids))
	next := make(chan int, len(in.ids))
	for s := range in.ids {
		next <- s
	}
	close(next)
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for s := range next {
				seq, err := in.saveStream(p, s, version, within)
				if err != nil {
					tb.Error(err)
					return
				}
				seqs[s] = seq
			}
		})
	}
	wg.Wait()
	if tb.Failed() {
		tb.FailNow()
	}
	return seqs
}

func (in *input) saveStream(p *ingest.Producer, s, version int, within func(stream, n int) []int) (uint64, error) {
	ctx := context.Background()
	r, err := p.Stream(in.ids[s]).Run(ctx, ingest.RunOptions{Pipeline: true})
	if err != nil {
		return 0, err
	}
	first, end := in.span(s)
	var buf []byte
	for _, k := range within(s, end-first) {
		buf = in.payload(buf[:0], first+k, version)
		if err := r.Save(ctx, recordID(first+k), buf); err != nil {
			return 0, err
		}
	}
	return r.Sequence(), r.Complete(ctx, ingest.CompleteOptions{})
}

func everyInOrder(_, n int) []int  { return inOrder(n) }
func everyAtRandom(_, n int) []int { return shuffled(n, 1) }

// done waits until the runs are complete, which means that all of their events are decided and can be read, and returns the sum of
// what became of them.
func (w *whole) done(tb testing.TB, in *input, seqs []uint64) (sum store.Run) {
	tb.Helper()
	for s, id := range in.ids {
		for deadline := time.Now().Add(5 * time.Minute); ; time.Sleep(time.Millisecond) {
			st, err := w.Stream(id)
			if err != nil {
				tb.Fatal(err)
			}
			if st != nil {
				if run := st.Run(seqs[s]); run != nil && run.Status == store.RunCompleted {
					sum.Added += run.Added
					sum.Updated += run.Updated
					sum.Deleted += run.Deleted
					break
				}
			}
			if time.Now().After(deadline) {
				tb.Fatalf("the run of %s is not complete: %+v", id, st)
			}
		}
	}
	return sum
}

// BenchmarkWhole measures everything in one process, from the first save until the last change can be read.
func BenchmarkWhole(b *testing.B) {
	for _, size := range []int{350, 800} {
		b.Run(fmt.Sprintf("%dB", size), func(b *testing.B) {
			once(b)
			n := records(b)
			in := newInput(20, n, size, partitions)
			w := startWhole(b)
			p, endProducer := newProducer(b, w.seed)
			defer endProducer()
			at := func(measure string) string { return fmt.Sprintf("%s, %d B", measure, size) }

			plain := in.plain(b, w.seed)
			const plainName = "plain kgo producer of the same bytes, same broker"
			for _, phase := range []struct {
				measure, must  string
				version        int
				within         func(int, int) []int
				added, updated uint64
				profile        string
				names          string // that the changes must give
			}{
				{"3 new, end to end until readable", "60 k", 0, everyInOrder, uint64(n), 0, "whole new", ""},
				{"2 unchanged, end to end in one process", "300 k", 0, everyInOrder, 0, 0, "whole unchanged", ""},
				{"4 all changed, end to end until readable, with names of changed fields", "40 k", 1, everyAtRandom, 0, uint64(n), "whole changed", "revision"},
			} {
				stop := meter(b, fmt.Sprintf("%s %d", phase.profile, size))
				seqs := in.save(b, p, phase.version, phase.within)
				sum := w.done(b, in, seqs)
				s := stop()
				if sum.Added != phase.added || sum.Updated != phase.updated || sum.Deleted != 0 {
					b.Fatalf("%s: %d added, %d updated, %d deleted", phase.profile, sum.Added, sum.Updated, sum.Deleted)
				}
				if phase.names != "" {
					if got := w.lastChanged(b, in); !slices.Contains(got, phase.names) {
						b.Fatalf("the last change names %v", got)
					}
				}
				figures.note(b.Logf, figure{at(phase.measure), phase.must, perSecond, s.perWall(n), plainName, plain.perWall(n)})
				figures.note(b.Logf, figure{at(phase.measure + ", CPU"), "", perCPUSecond, s.perCPU(n), plainName, plain.perCPU(n)})
			}
		})
	}
}

// plain is the baseline: the same payloads, written by a plain client to a topic of the same broker, that nobody reads.
func (in *input) plain(tb testing.TB, seed string) span {
	tb.Helper()
	cl := producer(tb, seed, zstd())
	defer cl.Close()
	if _, err := kadm.NewClient(cl).CreateTopic(context.Background(), partitions, 1, nil, copyTopic); err != nil {
		tb.Fatal(err)
	}
	stop := meter(tb, "")
	var failed error
	for i := range in.records {
		cl.Produce(context.Background(), &kgo.Record{
			Topic: copyTopic, Partition: in.parts[in.stream(i)], Key: in.keys[in.stream(i)], Value: in.payload(make([]byte, 0, in.size+64), i, 0),
		}, func(_ *kgo.Record, err error) {
			if err != nil {
				failed = err
			}
		})
	}
	if err := cl.Flush(context.Background()); err != nil {
		tb.Fatal(err)
	}
	if failed != nil {
		tb.Fatal(failed)
	}
	return stop()
}

// lastChanged returns the names of changed fields in the newest change that has any.
func (w *whole) lastChanged(tb testing.TB, in *input) []string {
	tb.Helper()
	at := offsets{}
	for p, o := range ends(tb, w.seed, names().Changes) {
		if p == in.parts[0] {
			at[p] = kgo.NewOffset().At(max(0, o.EpochOffset().Offset-100))
		}
	}
	cl := client(tb, w.seed, kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{names().Changes: at}))
	defer cl.Close()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	for {
		f := cl.PollFetches(ctx)
		if err := f.Err(); err != nil {
			tb.Fatal(err)
		}
		for _, r := range f.Records() {
			var c struct {
				Changed []string `json:"changed"`
			}
			if err := json.Unmarshal(r.Value, &c); err != nil {
				tb.Fatalf("the change %s: %v", r.Value, err)
			}
			if len(c.Changed) > 0 {
				return c.Changed
			}
		}
	}
}
