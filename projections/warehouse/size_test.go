package warehouse

import (
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/tidemark-dev/tidemark/deploy/devclickhouse/chtest"
	"github.com/tidemark-dev/tidemark/projections/fold"
	"github.com/tidemark-dev/tidemark/schemas/stream"
)

// work makes batches like those of a projector that catches up: syncs that run over a stream and save its records in order, with
// records of random ids, most changes updates of one or two fields.
type work struct {
	r       *rand.Rand
	streams []*stream.ID
	ids     [][]string
	csn     uint64
	at      int64
	current int // stream
	left    int // changes of its run
	record  int
	run     uint64
	cells   map[fold.Partial]*fold.Partial
}

const (
	workWindow  = 1 << 13
	workStreams = 400
	workRecords = 500 // of a stream
	workRun     = 250 // changes of a run
)

func newWork() *work {
	w := &work{r: rand.New(rand.NewPCG(1, 2)), at: time.Now().Add(-24 * time.Hour).UnixMilli(), cells: make(map[fold.Partial]*fold.Partial)}
	models := []string{"Contact", "Company", "Deal", "Ticket"}
	for i := range workStreams {
		w.streams = append(w.streams, &stream.ID{Environment: "prod", Integration: []string{"hubspot", "zendesk"}[i%2],
			Connection: fmt.Sprintf("%08x-%04x-4%03x-8%03x-%012x", w.r.Uint32(), w.r.Uint32N(1<<16), w.r.Uint32N(1<<12), w.r.Uint32N(1<<12), w.r.Uint64N(1<<48)),
			Model:      models[i%4], Variant: "base"})
		var ids []string
		for range workRecords {
			ids = append(ids, fmt.Sprintf("%08x-%04x-4%03x-8%03x-%012x", w.r.Uint32(), w.r.Uint32N(1<<16), w.r.Uint32N(1<<12), w.r.Uint32N(1<<12), w.r.Uint64N(1<<48)))
		}
		w.ids = append(w.ids, ids)
	}
	return w
}

var workFields = [][]string{{"updated_at"}, {"last_activity", "updated_at"}, {"status", "updated_at"}, {"email", "name", "phone", "updated_at"}, {"amount", "stage", "updated_at"}}

// batch makes the rows of n changes: the facts, and the partials of the streams touched, as far as they have come.
func (w *work) batch(n int, rows *fold.Rows) {
	rows.Reset()
	dirty := make(map[fold.Partial]*fold.Partial)
	states := make(map[*stream.ID]fold.State)
	for range n {
		if w.left == 0 {
			w.current, w.left, w.record = w.r.IntN(workStreams), workRun, w.r.IntN(workRecords)
			w.run++
			w.at += 20
		}
		w.left--
		w.record = (w.record + 1 + w.r.IntN(2)) % workRecords
		w.csn++
		w.at += int64(w.r.IntN(10) / 9)
		if w.csn%workWindow == 0 {
			clear(w.cells)
		}
		s := w.streams[w.current]
		f := fold.Fact{
			Stream: s, RecordID: w.ids[w.current][w.record], Action: fold.Updated, ChangedAt: w.at, Revision: 1 + w.r.Uint64N(60), Run: w.run, Flags: fold.FlagFieldsKnown | fold.FlagReceived,
			PayloadBytes: 600 + w.r.Uint32N(400), Fingerprint: w.r.Uint64(), LagMS: 20 + w.r.Uint32N(1000), CSN: w.csn, Term: 3, Offset: w.csn + 12,
		}
		switch k := w.r.IntN(10); {
		case k == 0:
			f.Action, f.Revision, f.Flags = fold.Added, 1, fold.FlagReceived
		case k == 1:
			f.Action, f.Flags = fold.Deleted, fold.FlagReceived
		default:
			f.ChangedFields = workFields[w.r.IntN(len(workFields))]
			f.ChangedCount = uint16(len(f.ChangedFields))
		}
		rows.Facts = append(rows.Facts, f)
		for l := range rows.Partials {
			width := int64(fold.Level(l).Width() / time.Second)
			key := fold.Partial{Stream: s, Bucket: w.at / 1000 / width * width, Window: max(1, w.csn/workWindow*workWindow), ToCSN: uint64(l)}
			p := w.cells[key]
			if p == nil {
				p = &fold.Partial{Stream: s, Bucket: key.Bucket, Window: key.Window}
				w.cells[key] = p
			}
			dirty[key] = p
			p.N++
			p.ToCSN, p.LastChangeAt = w.csn, w.at
			*[]*uint32{&p.Added, &p.Updated, &p.Deleted}[f.Action-1] += 1
			p.BytesWritten += uint64(f.PayloadBytes)
			p.BytesMax = max(p.BytesMax, f.PayloadBytes)
			p.LagSumMS += uint64(f.LagMS)
			p.LagMaxMS = max(p.LagMaxMS, f.LagMS)
			slot, _ := slices.BinarySearch(fold.LagBounds[:], f.LagMS)
			p.LagHist[slot]++
		}
		states[s] = fold.State{Stream: s, CSN: w.csn, At: w.at, Live: 500}
	}
	for key, p := range dirty {
		rows.Partials[key.ToCSN] = append(rows.Partials[key.ToCSN], *p)
	}
	for _, s := range states {
		rows.States = append(rows.States, s)
	}
}

// On disk, a change takes at most 50 bytes, with everything that comes with it.
func TestSize(t *testing.T) {
	if testing.Short() {
		t.Skip("writes a million changes")
	}
	const changes, atMost = 1_000_000, 50.0
	w := ready(t, 1)
	work := newWork()
	var rows fold.Rows
	for range 20 {
		work.batch(changes/20, &rows)
		if err := w.Insert(t.Context(), 1, &rows); err != nil {
			t.Fatal(err)
		}
	}
	total := 0.0
	for _, table := range generationTables {
		if err := w.execLong(t.Context(), "test", "OPTIMIZE TABLE "+w.table(table, 1)+" FINAL"); err != nil {
			t.Fatal(err)
		}
		size := lines(t, w, "SELECT sum(bytes_on_disk), sum(rows), sum(secondary_indices_compressed_bytes) FROM system.parts WHERE active AND database = 'tidemark' AND table = '"+table+"_g1'")[0]
		var bytes, n, indices float64
		if _, err := fmt.Sscan(size, &bytes, &n, &indices); err != nil {
			t.Fatal(err)
		}
		total += bytes / changes
		t.Logf("%-16s %9.0f rows %7.2f B/change, %.2f of them in skip indices", table, n, bytes/changes, indices/changes)
	}
	for _, l := range lines(t, w, "SELECT name, data_compressed_bytes FROM system.columns WHERE database = 'tidemark' AND table = 'changes_g1' ORDER BY data_compressed_bytes DESC") {
		var name string
		var bytes float64
		if _, err := fmt.Sscan(l, &name, &bytes); err != nil {
			t.Fatal(err)
		}
		t.Logf("    %-16s %6.2f B/change", name, bytes/changes)
	}
	t.Logf("%.1f bytes a change", total)
	if total > atMost {
		t.Errorf("a change takes %.1f bytes on disk, at most %.0f are allowed", total, atMost)
	}
}

// BenchmarkInsert reports changes a second of the whole, and of CPU time: that of this process, and that of the embedded server with it.
func BenchmarkInsert(b *testing.B) {
	for _, n := range []int{10_000, 50_000, 100_000} {
		for _, encoded := range []bool{true, false} {
			b.Run(fmt.Sprintf("changes=%d/encoded=%t", n, encoded), func(b *testing.B) {
				s := chtest.Start(b)
				w := openOn(b, s)
				if err := w.Migrate(b.Context()); err != nil {
					b.Fatal(err)
				}
				create(b, w, 1)
				w.encoded = encoded
				work := newWork()
				const distinct = 8
				batches := make([]fold.Rows, distinct)
				for i := range batches {
					work.batch(n, &batches[i])
				}
				ours, server := cpuOf(os.Getpid()), cpuOf(s.State().PID)
				b.ResetTimer()
				for i := range b.N {
					if err := w.Insert(b.Context(), 1, &batches[i%distinct]); err != nil {
						b.Fatal(err)
					}
				}
				b.StopTimer()
				done := float64(n) * float64(b.N)
				ours, server = cpuOf(os.Getpid())-ours, cpuOf(s.State().PID)-server
				b.ReportMetric(done/b.Elapsed().Seconds(), "changes/s")
				if ours > 0 {
					b.ReportMetric(done/ours.Seconds(), "changes/client-cpu-s")
					b.ReportMetric(done/(ours+server).Seconds(), "changes/cpu-s")
				}
			})
		}
	}
}

// cpuOf is how much CPU time a process has used; 0 where there is no /proc.
func cpuOf(pid int) time.Duration {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0
	}
	_, rest, _ := strings.Cut(string(b), ") ") // the name may hold spaces
	fields := strings.Fields(rest)
	user, _ := strconv.Atoi(fields[11])
	system, _ := strconv.Atoi(fields[12])
	return time.Duration(user+system) * (time.Second / 100)
}

// BenchmarkEncode is what Insert does without a server.
func BenchmarkEncode(b *testing.B) {
	w, err := Open(Config{DSN: "http://localhost:1/"})
	if err != nil {
		b.Fatal(err)
	}
	defer w.Close()
	var rows fold.Rows
	const n = 50_000
	newWork().batch(n, &rows)
	var buf []byte
	b.ReportAllocs()
	for b.Loop() {
		batch := w.Prepare(1, &rows)
		for _, t := range batch.tables {
			buf = appendBlock(buf[:0], t.columns, 0, t.rows())
		}
		batch.Release()
	}
	b.ReportMetric(n*float64(b.N)/b.Elapsed().Seconds(), "changes/s")
}
