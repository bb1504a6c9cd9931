//lint:file-ignore U1000 what stands in these structs is there for its size

package bench

import (
	"fmt"
	"path/filepath"
	"runtime"
	"strconv"
	"testing"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/bloom"
	"github.com/cockroachdb/pebble/v2/sstable"
	"github.com/zeebo/xxh3"

	"github.com/tidemark-dev/tidemark/processor"
	"github.com/tidemark-dev/tidemark/processor/decide"
	"github.com/tidemark-dev/tidemark/processor/detect"
	"github.com/tidemark-dev/tidemark/processor/hot"
	"github.com/tidemark-dev/tidemark/schemas/stream"
)

// BenchmarkSize measures what a record takes beside its payload: on disk after everything is flushed and compacted, and in memory.
func BenchmarkSize(b *testing.B) {
	for _, c := range []struct {
		size  int
		names bool
	}{{350, false}, {350, true}, {800, true}} {
		b.Run(fmt.Sprintf("%dB/names=%v", c.size, c.names), func(b *testing.B) {
			once(b)
			n := records(b)
			in := newInput(20, n, c.size, partitions)
			seed, dir := startBroker(b, partitions), b.TempDir()
			r := run(b, seed, dir, func(p *processor.Config) {
				p.Decide.Model = func(stream.ID) decide.Model { return decide.Model{NoChanged: !c.names} }
			})
			in.feed(b, seed, 0, inOrder(n))
			r.measure(b, "", n)
			r.stop()
			flushed := float64(dirBytes(b, dir, ".sst")) / float64(n)
			for p := range partitions {
				compact(b, filepath.Join(dir, "p"+strconv.Itoa(p), "meta"))
			}
			compacted := float64(dirBytes(b, dir, ".sst")) / float64(n)
			hashes := in.hashesOnly(b)
			what := fmt.Sprintf("7 state on disk beside the payload, %d B, without names of changed fields", c.size)
			if c.names {
				what = fmt.Sprintf("7 state on disk beside the payload, %d B, names of %d fields", c.size, len(in.scan(b).Fields))
			}
			const baseline = "Pebble with id and a hash of 16 B"
			figures.note(b.Logf, figure{what, "70 B", bytesEach, compacted, baseline, hashes})
			figures.note(b.Logf, figure{what + ", before compaction", "", bytesEach, flushed, baseline, hashes})
		})
	}
}

// scan is what comparing looks at in one of the records.
func (in *input) scan(tb testing.TB) detect.Result {
	tb.Helper()
	d, err := detect.New(detect.Options{})
	if err != nil {
		tb.Fatal(err)
	}
	res, err := d.Scan(in.payload(nil, 1, 0))
	if err != nil {
		tb.Fatal(err)
	}
	return res
}

func compact(tb testing.TB, dir string) {
	tb.Helper()
	db, err := pebble.Open(dir, rowOptions())
	if err != nil {
		tb.Fatal(err)
	}
	defer func() {
		if err := db.Close(); err != nil {
			tb.Fatal(err)
		}
	}()
	if err := db.Compact(tb.Context(), []byte{0}, []byte{0xFF}, false); err != nil {
		tb.Fatal(err)
	}
}

// rowOptions are those settings of the store's database that the files of the last level depend on, where all rows end up.
func rowOptions() *pebble.Options {
	o := &pebble.Options{DisableWAL: true, Logger: noLogger{}, FormatMajorVersion: pebble.FormatNewest}
	for i := range o.Levels {
		o.Levels[i].FilterPolicy = bloom.FilterPolicy(10)
		o.Levels[i].BlockSize = 8 << 10
		o.Levels[i].Compression = func() *sstable.CompressionProfile { return sstable.ZstdCompression }
	}
	return o
}

// hashesOnly is the size on disk of a table that knows of each record only what tells "unchanged".
func (in *input) hashesOnly(tb testing.TB) float64 {
	tb.Helper()
	dir := tb.TempDir()
	db, err := pebble.Open(dir, rowOptions())
	if err != nil {
		tb.Fatal(err)
	}
	var buf []byte
	for i := range in.records {
		buf = in.payload(buf[:0], i, 0)
		h := xxh3.Hash128(buf).Bytes()
		if err := db.Set([]byte("R"+strconv.Itoa(1000+in.stream(i))+recordID(i)), h[:], pebble.NoSync); err != nil {
			tb.Fatal(err)
		}
	}
	if err := db.Flush(); err != nil {
		tb.Fatal(err)
	}
	if err := db.Close(); err != nil {
		tb.Fatal(err)
	}
	compact(tb, dir)
	return float64(dirBytes(tb, dir, ".sst")) / float64(in.records)
}

// BenchmarkHot measures the memory of hot entries over the sizes that tables have while they grow, in bytes a record.
func BenchmarkHot(b *testing.B) {
	once(b)
	const most = 1 << 20
	for _, kind := range []struct {
		name, must string
		fields     int
		lean       bool
	}{
		{"lean", "32 B", 0, true}, {"full, without names of changed fields", "64 B", 0, false}, {"full, names of 12 changed fields", "", 12, false},
	} {
		budget := hot.NewBudget(1 << 40)
		t := hot.NewTable(budget, true)
		if kind.lean {
			t.MakeLean()
		}
		e := hot.Entry{Shape: uint32(min(1, kind.fields)), Fields: make([]uint32, kind.fields)}
		for i := range e.Fields {
			e.Fields[i] = uint32(i + 1)
		}
		var sum float64
		samples := 0
		for i := range most {
			e.CSN, e.PayloadCSN = uint64(i+1), uint64(i+1)
			t.Put(hot.FingerprintOf([]byte(recordID(i))), &e)
			if i >= most/8 && i%1000 == 0 {
				sum += float64(t.Bytes()) / float64(t.Len())
				samples++
			}
		}
		if t.Len() != most || t.Lean() != kind.lean {
			b.Fatalf("table of %d records, lean %v", t.Len(), t.Lean())
		}
		figures.note(b.Logf, figure{"7 hot entry, " + kind.name + ", mean while growing", kind.must, bytesEach, sum / float64(samples),
			"Go map of the same entries", mapBytes(most, kind.fields, kind.lean)})
	}
}

// mapBytes is what the same would take in the map of the language.
func mapBytes(n, fields int, lean bool) float64 {
	type key struct{ hi, lo uint64 }
	type leanValue struct{ raw, csn uint64 }
	type fullValue struct {
		hash            [16]byte
		raw, csn, first uint64
		rev, shape      uint32
		fields          [3 * 12]byte
	}
	type bareValue struct {
		hash            [16]byte
		raw, csn, first uint64
		rev, shape      uint32
	}
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	leans, fulls, bares := map[uint64]leanValue{}, map[key]fullValue{}, map[key]bareValue{}
	for i := range n {
		fp := hot.FingerprintOf([]byte(recordID(i)))
		switch {
		case lean:
			leans[fp.Lo] = leanValue{}
		case fields == 0:
			bares[key{fp.Hi, fp.Lo}] = bareValue{}
		default:
			fulls[key{fp.Hi, fp.Lo}] = fullValue{}
		}
	}
	runtime.GC()
	runtime.ReadMemStats(&after)
	bytes := float64(after.HeapAlloc-before.HeapAlloc) / float64(n)
	runtime.KeepAlive(leans)
	runtime.KeepAlive(fulls)
	runtime.KeepAlive(bares)
	return bytes
}
