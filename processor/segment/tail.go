package segment

import (
	"sync"
	"sync/atomic"
)

// tail holds appended records that are not in a file yet, in csn order, already in their stored form. The appender writes into chunk
// memory behind what is published and publishes by growing entries under Store.mu; readers copy the slice headers under the same
// lock and then read without it.
type tail struct {
	refs atomic.Int32

	first   uint64 // csn above the one that the tail before ended with
	through uint64 // first-1 when nothing was appended
	newest  Millis
	bytes   int64 // encoded records

	tailData
}

// tailData is the part that grows.
type tailData struct {
	entries []entry
	chunks  [][]byte

	// The chunk that small records share: itself, its index, and how much of it is taken.
	shared       []byte
	sharedIndex  int
	sharedLength int
}

type entry struct {
	csn        uint64
	sid        uint32
	chunk, off uint32
}

// chunkBytes is the unit in which a tail takes memory, from a pool shared by all stores: an idle partition holds no more than it needs.
const chunkBytes = 256 << 10

var (
	chunkPool = sync.Pool{New: func() any { return new([chunkBytes]byte) }}
	// entryPool recycles entry slices; one for 4 MiB of records of 800 bytes is 120 KB.
	entryPool = sync.Pool{New: func() any { return new([]entry) }}
)

func newTail(first uint64) *tail {
	t := &tail{first: first, through: first - 1}
	t.refs.Store(1)
	return t
}

func (t *tail) empty() bool { return t.through < t.first }

func (t *tail) acquire() { t.refs.Add(1) }

func (t *tail) release() {
	switch n := t.refs.Add(-1); {
	case n < 0:
		panic("segment: tail released twice")
	case n > 0:
		return
	}
	for _, c := range t.chunks {
		poison(c)
		if len(c) == chunkBytes {
			chunkPool.Put((*[chunkBytes]byte)(c))
		}
	}
	if entries := t.entries; entries != nil {
		entryPool.Put(&entries)
	}
	t.tailData = tailData{}
}

// with returns the data of t with recs added behind what is published, which stays as it is. Only the appender calls it.
func (t *tail) with(recs []Record) tailData {
	d := t.tailData
	if d.entries == nil && len(recs) > 0 {
		d.entries = (*entryPool.Get().(*[]entry))[:0]
	}
	for i := range recs {
		r := &recs[i]
		n := recordSize(r)
		chunk, off := len(d.chunks), 0
		switch {
		case n > chunkBytes/4: // a chunk of its own, so that at most a quarter of a shared one is wasted
			d.chunks = append(d.chunks, make([]byte, n))
		case d.sharedLength+n > len(d.shared):
			d.shared, d.sharedIndex, d.sharedLength = chunkPool.Get().(*[chunkBytes]byte)[:], chunk, n
			d.chunks = append(d.chunks, d.shared)
		default:
			chunk, off = d.sharedIndex, d.sharedLength
			d.sharedLength += n
		}
		putRecord(d.chunks[chunk][off:off+n], r)
		d.entries = append(d.entries, entry{csn: r.CSN, sid: r.SID, chunk: uint32(chunk), off: uint32(off)})
	}
	return d
}

// tailView is the published part of a tail as one reader sees it.
type tailView struct {
	*tail
	entries []entry
	chunks  [][]byte
}

// at returns the stored form of entry i and whatever follows it.
func (v *tailView) at(i int) []byte {
	e := &v.entries[i]
	return v.chunks[e.chunk][e.off:]
}

// find returns the stored record (sid, csn), or nil.
func (v *tailView) find(sid uint32, csn uint64) []byte {
	lo, hi := 0, len(v.entries)
	for lo < hi {
		m := int(uint(lo+hi) >> 1)
		if v.entries[m].csn < csn {
			lo = m + 1
		} else {
			hi = m
		}
	}
	if lo == len(v.entries) || v.entries[lo].csn != csn || v.entries[lo].sid != sid {
		return nil
	}
	return v.at(lo)
}
