package bench

import (
	"context"
	"fmt"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/tidemark-dev/tidemark/deploy/devclickhouse/chtest"
	"github.com/tidemark-dev/tidemark/projections/fold"
	"github.com/tidemark-dev/tidemark/projections/follow"
	"github.com/tidemark-dev/tidemark/projections/project"
	"github.com/tidemark-dev/tidemark/projections/warehouse"
)

// cpuOf is the CPU time of another process.
func cpuOf(tb testing.TB, pid int) time.Duration {
	tb.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		tb.Fatal(err)
	}
	// The name is in parentheses and may hold anything; utime and stime are the 12th and 13th field after it, in hundredths of a second.
	fields := strings.Fields(string(text[strings.LastIndexByte(string(text), ')')+1:]))
	var ticks int64
	for _, f := range fields[11:13] {
		n, err := strconv.ParseInt(f, 10, 64)
		if err != nil {
			tb.Fatal(err)
		}
		ticks += n
	}
	return time.Duration(ticks) * 10 * time.Millisecond
}

// BenchmarkProjections measures the way from the changes topic into the tables of the embedded ClickHouse, which is another process, as
// the broker is: half of the changes are ADDED, half UPDATED with the names of changed members. The baseline reads the same groups, by
// the same rule, and does nothing with them.
func BenchmarkProjections(b *testing.B) {
	once(b)
	n, size := records(b), 350
	in := newInput(20, n, size, partitions)
	seed, dir := startBroker(b, partitions), b.TempDir()
	r := run(b, seed, dir, nil)
	in.feed(b, seed, 0, inOrder(n))
	r.measure(b, "projections new", n)
	in.feed(b, seed, 1, shuffled(n, 7))
	r.measure(b, "projections changed", n)
	total := changes(r)
	r.stop()

	read, err := follow.New(follow.Config{Seeds: []string{seed}, Names: names()})
	if err != nil {
		b.Fatal(err)
	}
	stop := meter(b, "")
	var seen uint64
	err = read.Run(b.Context(), func(g follow.Group) error {
		if seen += uint64(len(g.Records)); seen >= total {
			return follow.ErrStop
		}
		return nil
	})
	if err != nil {
		b.Fatal(err)
	}
	base := stop()

	engine := chtest.Start(b)
	w, err := warehouse.Open(warehouse.Config{DSN: engine.DSN(false), Topology: warehouse.Embedded})
	if err != nil {
		b.Fatal(err)
	}
	defer w.Close()
	keys, err := fold.NewKeys(make([]byte, 32))
	if err != nil {
		b.Fatal(err)
	}
	store := project.NewWarehouse(w, project.WarehouseConfig{})
	if _, err := store.Prepare(b.Context()); err != nil { // the tables are not made again and again
		b.Fatal(err)
	}
	source, err := project.NewKafkaSource(follow.Config{Seeds: []string{seed}, Names: names()})
	if err != nil {
		b.Fatal(err)
	}
	defer source.Close()
	p, err := project.New(project.Config{
		Source: source, Store: store, Keys: keys, RawTopic: names().Raw, ChangesTopic: names().Changes,
		Logger: quiet(),
	})
	if err != nil {
		b.Fatal(err)
	}
	ctx, cancel := context.WithCancel(b.Context())
	defer cancel()
	ended := make(chan error, 1)
	engineBefore := cpuOf(b, engine.State().PID)
	stop = meter(b, "projections")
	go func() { ended <- p.Run(ctx) }()
	written := func() (sum uint64) {
		for _, part := range p.Status().Partitions {
			sum += part.CSN
		}
		return sum
	}
	for deadline := time.Now().Add(5 * time.Minute); written() < total; time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			b.Fatalf("%d of %d changes are written: %+v", written(), total, p.Status())
		}
	}
	s := stop()
	engineCPU := cpuOf(b, engine.State().PID) - engineBefore
	cancel()
	if err := <-ended; err != nil {
		b.Fatal(err)
	}
	var facts, summed uint64
	if err := w.Conn().QueryRow(b.Context(), "SELECT (SELECT count() FROM tidemark.v1_changes), (SELECT sum(changes) FROM tidemark.v1_changes_daily)").Scan(&facts, &summed); err != nil {
		b.Fatal(err)
	}
	if facts != uint64(2*n) || summed != facts {
		b.Fatalf("%d facts, %d summed up, want %d", facts, summed, 2*n)
	}
	both := span{wall: s.wall, cpu: s.cpu + engineCPU}
	note := func(measure, must string, u unit, v float64, base string, against float64) {
		figures.note(b.Logf, figure{measure, must, u, v, base, against})
	}
	note("13 changes into facts and sums, projector and engine", "150 k/s on 2 cores: 75 k", perCPUSecond, both.perCPU(2*n), "reading them by rule V alone", base.perCPU(2*n))
	note("13 changes into facts and sums, by the clock", "150 k", perSecond, s.perWall(2*n), "reading them by rule V alone", base.perWall(2*n))
	note("13 changes into facts and sums, projector alone", "", perCPUSecond, s.perCPU(2*n), "reading them by rule V alone", base.perCPU(2*n))
}
