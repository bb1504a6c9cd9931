package batch

import (
	"fmt"
	"sync"

	"github.com/tidemark-dev/tidemark/schemas/event"
)

// Record is one record of a decoded batch. Everything aliases the Records that it came from, and Headers is overwritten by the next
// call of Records.Next.
type Record struct {
	Offset     int64
	TS         int64 // ms since the epoch
	Key, Value []byte
	Headers    []event.Header
}

// Records walks the records of one decoded batch. Not safe for concurrent use.
type Records struct {
	body    []byte // records that were not read yet
	left    int32
	base    int64
	last    int64
	ts      int64
	stamped bool  // the broker's clock: ts is that of every record
	prev    int64 // offset of the last record returned

	headers []event.Header
	buf     []byte // decompressed records; unused if the batch is not compressed
}

// recordMin is the size of the smallest record: length, attributes, timestamp, offset, null key, null value, no headers.
const recordMin = 7

// bufKeep bounds the buffer that a pooled Records keeps: batches are seldom larger, and one giant must not stay for ever.
const bufKeep = 8 << 20

var recordsPool = sync.Pool{New: func() any { return new(Records) }}

// Decode decompresses a batch, into at most maxBytes bytes: a batch that holds more is refused with an error that wraps ErrCorrupt.
// An uncompressed batch is read where it is. Release the result; until then it may alias b.Raw. b must come from Next.
func Decode(b *Batch, maxBytes int) (*Records, error) {
	r := recordsPool.Get().(*Records)
	r.left, r.base, r.last, r.prev = b.Count, b.Base, b.Last, b.Base-1
	r.ts, r.stamped = b.FirstTS, b.Attributes&attrLogAppendTime != 0
	if r.stamped {
		r.ts = b.MaxTS
	}
	if b.Count == 0 {
		r.body = nil
		return r, nil
	}
	r.body = b.Raw[HeaderSize:]
	if c := b.Codec(); c != None {
		var err error
		if r.buf, err = decompress(r.buf[:0], r.body, c, maxBytes); err != nil {
			r.Release()
			return nil, fmt.Errorf("%w: decompressing %s: %w", ErrCorrupt, c, err)
		}
		r.body = r.buf
	} else if len(r.body) > maxBytes {
		n := len(r.body)
		r.Release()
		return nil, fmt.Errorf("%w: %d bytes of records, at most %d allowed", ErrCorrupt, n, maxBytes)
	}
	if int64(r.left)*recordMin > int64(len(r.body)) {
		err := fmt.Errorf("%w: %d records in %d bytes", ErrCorrupt, r.left, len(r.body))
		r.Release()
		return nil, err
	}
	return r, nil
}

// Next reads the next record into rec and reports whether there was one. Records come in ascending order of offsets, with gaps where
// compaction removed some. Errors wrap ErrCorrupt and end the walk.
func (r *Records) Next(rec *Record) (bool, error) {
	if r.left == 0 {
		if len(r.body) != 0 {
			n := len(r.body)
			r.body = nil
			return false, fmt.Errorf("%w: %d bytes behind the last record", ErrCorrupt, n)
		}
		return false, nil
	}
	if !r.parse(rec) {
		r.left, r.body = 0, nil
		return false, fmt.Errorf("%w: malformed record behind offset %d", ErrCorrupt, r.prev)
	}
	r.left--
	r.prev = rec.Offset
	return true, nil
}

// Release gives the buffers back. Nothing that was read from r may be used afterwards.
func (r *Records) Release() {
	r.body, r.left = nil, 0
	clear(r.headers[:cap(r.headers)]) // they alias fetched batches
	if cap(r.buf) > bufKeep {
		r.buf = nil
	}
	recordsPool.Put(r)
}

func (r *Records) parse(rec *Record) bool {
	size, rest, ok := varint(r.body)
	if !ok || size < 0 || size > int64(len(rest)) {
		return false
	}
	b := rest[:size]
	r.body = rest[size:]
	if len(b) == 0 {
		return false
	}
	b = b[1:] // attributes

	var v int64
	if v, b, ok = varint(b); !ok {
		return false
	}
	rec.TS = r.ts
	if !r.stamped {
		rec.TS += v
	}
	if v, b, ok = varint(b); !ok || v < 0 || v > r.last-r.base {
		return false
	}
	if rec.Offset = r.base + v; rec.Offset <= r.prev {
		return false
	}
	if rec.Key, b, ok = nullable(b); !ok {
		return false
	}
	if rec.Value, b, ok = nullable(b); !ok {
		return false
	}
	n, b, ok := varint(b)
	if !ok || n < 0 || 2*n > int64(len(b)) { // a header is at least two bytes
		return false
	}
	r.headers = r.headers[:0]
	for range n {
		var h event.Header
		if h.Key, b, ok = nullable(b); !ok || h.Key == nil {
			return false
		}
		if h.Value, b, ok = nullable(b); !ok {
			return false
		}
		r.headers = append(r.headers, h)
	}
	rec.Headers = r.headers
	return len(b) == 0
}

// nullable takes a length and as many bytes; length -1 is nil.
func nullable(b []byte) (p, rest []byte, ok bool) {
	n, b, ok := varint(b)
	if !ok || n < -1 || n > int64(len(b)) {
		return nil, nil, false
	}
	if n == -1 {
		return nil, b, true
	}
	return b[:n:n], b[n:], true
}

func varint(b []byte) (v int64, rest []byte, ok bool) {
	if len(b) > 0 && b[0] < 0x80 { // nearly all are one byte
		u := b[0]
		return int64(u>>1) ^ -int64(u&1), b[1:], true
	}
	var u uint64
	for i, c := range b {
		if i == 9 && c > 1 { // 64 bits are full
			return 0, nil, false
		}
		u |= uint64(c&0x7f) << (7 * i)
		if c < 0x80 {
			return int64(u>>1) ^ -int64(u&1), b[i+1:], true
		}
	}
	return 0, nil, false
}
