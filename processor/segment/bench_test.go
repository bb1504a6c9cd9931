package segment

import (
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"runtime"
	"syscall"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// benchLog makes records as a sync of a CRM does: JSON of about n bytes with words, numbers and random ids, spread over streams in turn. Snappy
// makes them about 3 times smaller, as it does with real collections.
type benchLog struct {
	streams int
	recs    []Record
}

func newBenchLog(n, streams int) *benchLog {
	g := rand.New(rand.NewPCG(1, 2))
	words := []string{"account", "pipeline", "closed", "won", "renewal", "north", "enterprise", "owner", "quarter", "pending", "review", "invoice"}
	l := &benchLog{streams: streams}
	for i := range 20_000 {
		p := fmt.Appendf(nil, `{"id":"%016x","owner_id":%d,"amount":%d.%02d,"created_at":"2024-%02d-%02dT%02d:%02d:%02dZ","stage":%q`, g.Uint64(), g.IntN(1e6),
			g.IntN(1e6), g.IntN(100), 1+g.IntN(12), 1+g.IntN(28), g.IntN(24), g.IntN(60), g.IntN(60), words[g.IntN(len(words))])
		for f := 0; len(p) < n-30; f++ {
			switch f % 8 {
			case 0:
				p = fmt.Appendf(p, `,"ref_%d":"%012x"`, f, g.Uint64()>>16)
			case 1, 2:
				p = fmt.Appendf(p, `,"metric_%d":%d`, f, g.IntN(1e6))
			case 3, 4:
				p = fmt.Appendf(p, `,"enabled_%d":%v,"deleted_at_%d":null`, f, g.IntN(3) == 0, f)
			default:
				p = fmt.Appendf(p, `,"custom_field_%d":"%s %s"`, f, words[g.IntN(len(words))], words[g.IntN(len(words))])
			}
		}
		p = append(p, '}')
		r := Record{SID: uint32(i % streams), Op: 1, Rev: 1, Run: 7, ID: fmt.Appendf(nil, "%016x", g.Uint64()), Payload: p, FirstSeen: worldEpoch}
		for j := range r.Hash {
			r.Hash[j] = byte(g.Uint32())
		}
		l.recs = append(l.recs, r)
	}
	return l
}

// group fills recs with the records behind csn from.
func (l *benchLog) group(recs []Record, from uint64) {
	for i := range recs {
		csn := from + uint64(i) + 1
		recs[i] = l.recs[csn%uint64(len(l.recs))]
		recs[i].CSN, recs[i].SID, recs[i].TS = csn, uint32(csn%uint64(l.streams)), worldEpoch+int64(csn/100)
	}
}

func cpuTime() time.Duration {
	var u syscall.Rusage
	if syscall.Getrusage(syscall.RUSAGE_SELF, &u) != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// BenchmarkAppend measures all CPU of the process a record: copying, sorting, compressing, writing, and the collector.
func BenchmarkAppend(b *testing.B) {
	for _, bytes := range []int{350, 800} {
		for _, streams := range []int{1, 20, 1000} {
			b.Run(fmt.Sprintf("bytes=%d/streams=%d", bytes, streams), func(b *testing.B) {
				l := newBenchLog(bytes, streams)
				s := mustOpen(b, Options{Dir: filepath.Join(b.TempDir(), "seg")})
				recs := make([]Record, 100)
				b.ReportAllocs()
				b.ResetTimer()
				start := cpuTime()
				for at := uint64(0); at < uint64(b.N); at += uint64(len(recs)) {
					l.group(recs, at)
					if err := s.Append(recs, at+uint64(len(recs)), worldEpoch); err != nil {
						b.Fatal(err)
					}
				}
				if err := s.Flush(); err != nil {
					b.Fatal(err)
				}
				cpu := cpuTime() - start
				b.StopTimer()
				st := s.Stats()
				b.ReportMetric(float64(cpu.Nanoseconds())/float64(b.N), "cpu-ns/op")
				b.ReportMetric(float64(st.DiskBytes)/float64(st.Records), "disk-B/rec")
				b.ReportMetric(float64(st.IndexBytes)/float64(st.Records), "index-B/rec")
				if err := s.Close(); err != nil {
					b.Fatal(err)
				}
			})
		}
	}
}

// BenchmarkPage reads pages of 1,000 live rows of 800 bytes: dense is a stream alone in its partition; live37 has 37 % of its versions live; sparse
// is 1,000 rows out of 43,600 csn of 20 streams; wide is the same out of 200,000 csn of 200 streams, where a flush has few rows of each.
func BenchmarkPage(b *testing.B) {
	for _, c := range []struct {
		name          string
		streams, span int
	}{
		{"dense", 1, 1000}, {"live37", 1, 2700}, {"sparse", 20, 43_600}, {"wide", 200, 200_000},
	} {
		l := newBenchLog(800, c.streams)
		o := Options{Dir: filepath.Join(b.TempDir(), "seg"), Cache: NewCache(256 << 20)}
		s := mustOpen(b, o)
		recs := make([]Record, 100)
		for at := uint64(0); at < 200_000; at += 100 {
			l.group(recs, at)
			must(b, s.Append(recs, at+100, worldEpoch))
		}
		must(b, s.Close())
		g := rand.New(rand.NewPCG(3, 4))
		var of []uint64 // the csns of stream 0 in the span
		for csn := uint64(1); csn <= uint64(c.span); csn++ {
			if csn%uint64(c.streams) == 0 {
				of = append(of, csn)
			}
		}
		var page []uint64
		for i, csn := range of {
			if g.IntN(len(of)-i) < 1000-len(page) {
				page = append(page, csn)
			}
		}
		for _, cache := range []string{"cold", "warm"} {
			b.Run(c.name+"/"+cache, func(b *testing.B) {
				o := o
				if cache == "cold" {
					o.Cache = nil
				}
				s := mustOpen(b, o)
				defer s.Close()
				n := 0
				read := func() {
					if err := s.Read(0, page, func(r *Record) error {
						if r.Op != 0 && r.Payload[0] == '{' {
							n++
						}
						return nil
					}); err != nil {
						b.Fatal(err)
					}
				}
				read()
				n = 0
				b.ReportAllocs()
				b.ResetTimer()
				for range b.N {
					read()
				}
				b.StopTimer()
				if n != len(page)*b.N {
					b.Fatalf("%d rows of %d", n, len(page)*b.N)
				}
				b.ReportMetric(float64(b.Elapsed().Microseconds())/1000/float64(b.N), "ms/page")
			})
		}
	}
}

// BenchmarkGet reads single records at random.
func BenchmarkGet(b *testing.B) {
	for _, cached := range []bool{false, true} {
		b.Run(fmt.Sprintf("cached=%v", cached), func(b *testing.B) {
			l := newBenchLog(800, 20)
			o := Options{Dir: "/seg", FS: vfs.NewMem()}
			if cached {
				o.Cache = NewCache(256 << 20)
			}
			s := mustOpen(b, o)
			recs := make([]Record, 100)
			const end = 100_000
			for at := uint64(0); at < end; at += 100 {
				l.group(recs, at)
				must(b, s.Append(recs, at+100, worldEpoch))
			}
			must(b, s.Flush())
			g := rand.New(rand.NewPCG(3, 4))
			get := func() {
				csn := 1 + g.Uint64N(end)
				if _, err := s.Get(uint32(csn%20), csn); err != nil {
					b.Fatal(err)
				}
			}
			for range 20_000 {
				get()
			}
			b.ReportAllocs()
			b.ResetTimer()
			for range b.N {
				get()
			}
		})
	}
}

// BenchmarkOpen opens a segment of about 256 MB that was closed in order, and one that was not.
func BenchmarkOpen(b *testing.B) {
	l := newBenchLog(800, 20)
	o := Options{Dir: filepath.Join(b.TempDir(), "seg")}
	s := mustOpen(b, o)
	recs := make([]Record, 100)
	for at := uint64(0); s.Stats().DiskBytes < 250<<20; at += 100 {
		l.group(recs, at)
		must(b, s.Append(recs, at+100, worldEpoch))
	}
	must(b, s.Flush())
	records := s.Stats().Records
	abandon(s)
	for _, how := range []string{"killed", "closed"} {
		b.Run(how, func(b *testing.B) {
			var before, after runtime.MemStats
			if how == "closed" {
				must(b, mustOpen(b, o).Close())
			}
			b.ResetTimer()
			for range b.N {
				s, err := Open(o)
				if err != nil {
					b.Fatal(err)
				}
				abandon(s)
			}
			b.StopTimer()
			runtime.GC()
			runtime.ReadMemStats(&before)
			s := mustOpen(b, o)
			runtime.GC()
			runtime.ReadMemStats(&after)
			b.ReportMetric(float64(after.HeapAlloc-before.HeapAlloc)/float64(records), "heap-B/rec")
			abandon(s)
		})
	}
}
