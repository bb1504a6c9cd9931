package stack

// Memory is how the memory of a process is shared out. What is not given to anybody is for what comes and goes: fetches, decoded
// batches, producing, garbage.
type Memory struct {
	Hot           int64 // hot entries
	Memtables     int64 // rows before they are flushed; while they are, up to three times as much
	RowCache      int64
	SegmentCache  int64
	SegmentBuffer int64
	Fetch         int32 // of one fetch; each partition has two readers
	Fetched       int   // decoded raw batches a partition
	Readers       int   // HTTP pages at once

	// GoLimit is for debug.SetMemoryLimit. The row cache and the memtables are outside of Go's heap, as are the binary and what the
	// kernel maps.
	GoLimit int64
}

// SplitMemory shares total bytes out over the parts, for that many partitions. The shares are those at which a load of ten million
// records and its repetition stay below total; see the benchmarks in deploy/bench.
func SplitMemory(total int64, partitions int32) Memory {
	const mib = 1 << 20
	n := int64(max(partitions, 1))
	m := Memory{
		Hot:           total / 4,
		Memtables:     total / 16,
		RowCache:      total / 16,
		SegmentCache:  total / 32,
		SegmentBuffer: total / 32,
		Fetch:         int32(min(4*mib, max(mib/4, total/32/n))),
		Fetched:       2,
		Readers:       int(min(16, max(2, total/(128*mib)))),
	}
	m.GoLimit = total - m.RowCache - 2*m.Memtables - total/16
	return m
}
