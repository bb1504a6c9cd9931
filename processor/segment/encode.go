package segment

import (
	"hash/crc32"
	"math"
	"slices"
	"sync"
)

// encoder turns a tail into a frame. It holds scratch memory only, and comes from a pool shared by all stores.
type encoder struct {
	order []uint64 // sid in the high, index of the entry in the low half
	cuts  []int    // end of each block in order
	raw   []byte   // one block before compression
	out   []byte   // the frame
}

var encoderPool = sync.Pool{New: func() any { return new(encoder) }}

// pooledEncoderMax keeps the scratch of one exceptional frame out of the pool.
const pooledEncoderMax = 16 << 20

func (e *encoder) recycle() {
	if cap(e.raw)+cap(e.out) <= pooledEncoderMax {
		encoderPool.Put(e)
	}
}

// encode returns the index of the frame that holds t; the frame itself is in e.out until the next call. The result depends on t and
// blockBytes alone, so that a write which broke off can be repeated at the same place.
func (e *encoder) encode(t *tail, blockBytes int) frame {
	v := tailView{tail: t, entries: t.entries, chunks: t.chunks}
	e.sort(v.entries)
	runs := e.plan(&v, blockBytes)
	f := frame{
		first: t.first, through: t.through, newest: t.newest, records: uint32(len(e.order)),
		blocks: make([]blockRef, len(e.cuts)), runs: make([]run, 0, runs),
	}
	header := frameFixed + refBytes*len(e.cuts) + runBytes*runs
	e.out = append(e.out[:0], make([]byte, header)...)
	next := 0
	for i, end := range e.cuts {
		e.raw = e.raw[:0]
		for begin := next; next < end; next++ {
			ent := &v.entries[uint32(e.order[next])]
			if next == begin || ent.sid != f.runs[len(f.runs)-1].sid {
				f.runs = append(f.runs, run{csn: ent.csn, sid: ent.sid, block: uint32(i)})
			}
			rec := v.at(int(uint32(e.order[next])))
			_, _, size, _ := peekRecord(rec)
			e.raw = append(e.raw, rec[:size]...)
		}
		start := len(e.out)
		e.out = appendBlock(e.out, e.raw)
		stored := e.out[start:]
		f.blocks[i] = blockRef{off: uint32(start), size: uint32(len(stored)), sum: crc32.Checksum(stored, castagnoli)}
	}
	f.size = uint32(len(e.out))
	f.putHeader(e.out[:header])
	return f
}

// sort orders the entries by (sid, csn). They are in csn order, so the index decides within a stream.
func (e *encoder) sort(entries []entry) {
	e.order = e.order[:0]
	for i := range entries {
		e.order = append(e.order, uint64(entries[i].sid)<<32|uint64(i))
	}
	slices.Sort(e.order)
}

// plan cuts the ordered records into blocks and counts the runs. A block takes at most blockBytes, unless its only record is larger. Where the
// next stream doesn't fit into what is left, it starts a block of its own if the present one is at least half full: its pages then
// touch a block less, and small streams still share.
func (e *encoder) plan(v *tailView, blockBytes int) (runs int) {
	e.cuts = e.cuts[:0]
	size := func(i int) int {
		_, _, n, _ := peekRecord(v.at(int(uint32(e.order[i]))))
		return n
	}
	used, begin := 0, 0
	for i := 0; i < len(e.order); {
		sid := e.order[i] >> 32
		end, total := i, 0
		for end < len(e.order) && e.order[end]>>32 == sid && total <= blockBytes {
			total += size(end)
			end++
		}
		if used+total > blockBytes && used >= blockBytes/2 {
			e.cuts = append(e.cuts, i)
			used, begin = 0, i
		}
		for start := i; i < len(e.order) && e.order[i]>>32 == sid; i++ {
			n := size(i)
			if used+n > blockBytes && i > begin {
				e.cuts = append(e.cuts, i)
				used, begin = 0, i
			}
			if i == start || i == begin {
				runs++
			}
			used += n
		}
	}
	if begin < len(e.order) {
		e.cuts = append(e.cuts, len(e.order))
	}
	return runs
}

// place moves the index of f to where the frame was written.
func (f *frame) place(off int64) {
	if off < 0 || off+int64(f.size) > math.MaxUint32 {
		panic("segment: frame beyond 4 GiB")
	}
	f.off = uint32(off)
	for i := range f.blocks {
		f.blocks[i].off += f.off
	}
}
