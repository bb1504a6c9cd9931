package batch

import (
	"encoding/binary"
	"math/bits"

	"github.com/tidemark-dev/tidemark/schemas/event"
)

// Builder makes batches. The zero value is ready; reuse it with Reset. Not safe for concurrent use.
type Builder struct {
	records        []byte
	count          int32
	firstTS, maxTS int64
	enc            encoder
}

// Reset drops the records and keeps the memory.
func (b *Builder) Reset() {
	b.records = b.records[:0]
	b.count = 0
	b.firstTS, b.maxTS = 0, 0
}

// Append adds a record. ts is in ms since the epoch. A nil key or value is written as null, an empty one as empty; nil header values
// likewise. Nothing is kept of the arguments.
//
// The caller bounds the batch (Size): its length is a signed 32-bit number on the wire, and brokers refuse batches far smaller.
func (b *Builder) Append(ts int64, key, value []byte, headers []event.Header) {
	if b.count == 0 {
		b.firstTS, b.maxTS = ts, ts
	}
	b.maxTS = max(b.maxTS, ts)
	deltaTS, deltaOffset := ts-b.firstTS, int64(b.count)

	n := 1 + varintLen(deltaTS) + varintLen(deltaOffset) + bytesLen(key) + bytesLen(value) + varintLen(int64(len(headers)))
	for i := range headers {
		h := &headers[i]
		n += varintLen(int64(len(h.Key))) + len(h.Key) + bytesLen(h.Value)
	}

	r := appendVarint(b.records, int64(n))
	r = append(r, 0) // attributes of a record: none are defined
	r = appendVarint(r, deltaTS)
	r = appendVarint(r, deltaOffset)
	r = appendBytes(r, key)
	r = appendBytes(r, value)
	r = appendVarint(r, int64(len(headers)))
	for i := range headers {
		h := &headers[i]
		r = append(appendVarint(r, int64(len(h.Key))), h.Key...)
		r = appendBytes(r, h.Value)
	}
	b.records = r
	b.count++
}

// Count is the number of records appended since Reset.
func (b *Builder) Count() int { return int(b.count) }

// Size is the size of the records so far in bytes, uncompressed, without the header of the batch.
func (b *Builder) Size() int { return len(b.records) }

// Build appends the batch to dst: base offset 0, leader epoch -1, no producer (SetProducer), sealed. Records that the codec does not
// make smaller are stored as they are. The Builder keeps its records, so that they can be built again; there must be at least one.
// Gzip is for reading only: Build panics.
func (b *Builder) Build(dst []byte, c Codec) []byte {
	at := len(dst)
	dst = append(dst, make([]byte, HeaderSize)...)
	dst, c = b.enc.append(dst, b.records, c)

	h := dst[at:]
	binary.BigEndian.PutUint32(h[atLength:], uint32(len(h)-lengthBase))
	binary.BigEndian.PutUint32(h[atLeaderEpoch:], ^uint32(0))
	h[atMagic] = magic
	binary.BigEndian.PutUint16(h[atAttributes:], uint16(c))
	binary.BigEndian.PutUint32(h[atLastDelta:], uint32(b.count-1))
	binary.BigEndian.PutUint64(h[atFirstTS:], uint64(b.firstTS))
	binary.BigEndian.PutUint64(h[atMaxTS:], uint64(b.maxTS))
	binary.BigEndian.PutUint64(h[atProducerID:], ^uint64(0))
	binary.BigEndian.PutUint16(h[atProducerEpoch:], ^uint16(0))
	binary.BigEndian.PutUint32(h[atBaseSequence:], ^uint32(0))
	binary.BigEndian.PutUint32(h[atCount:], uint32(b.count))
	seal(h)
	return dst
}

// Varints of records are zigzag-encoded, seven bits a byte, least significant first.

func varintLen(v int64) int {
	u := uint64(v)<<1 ^ uint64(v>>63)
	return (bits.Len64(u|1) + 6) / 7
}

func appendVarint(b []byte, v int64) []byte {
	u := uint64(v)<<1 ^ uint64(v>>63)
	for u >= 0x80 {
		b = append(b, byte(u)|0x80)
		u >>= 7
	}
	return append(b, byte(u))
}

func bytesLen(p []byte) int {
	if p == nil {
		return 1
	}
	return varintLen(int64(len(p))) + len(p)
}

func appendBytes(b, p []byte) []byte {
	if p == nil {
		return append(b, 1) // -1
	}
	return append(appendVarint(b, int64(len(p))), p...)
}
