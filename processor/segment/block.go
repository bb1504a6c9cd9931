package segment

import (
	"errors"
	"hash/crc32"
	"sync"
	"sync/atomic"

	"github.com/klauspost/compress/s2"
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

const (
	codecStored byte = 0
	codecSnappy byte = 1
)

// maxBlockRaw bounds what a block may decode to: one record of the largest size. Anything larger is damage, and is refused before memory
// is taken for it.
const maxBlockRaw = recordFixed + MaxIDBytes + MaxRecordBytes

var errBadBlock = errors.New("block does not decode")

// appendBlock appends the stored form of raw to dst. A block that snappy can't make at least 1/8 smaller is stored as it is: that
// saves its readers the decoding.
func appendBlock(dst, raw []byte) []byte {
	n := len(dst)
	need := 1 + s2.MaxEncodedLen(len(raw))
	if cap(dst)-n < need {
		dst = append(make([]byte, 0, max(2*cap(dst), n+need)), dst...)
	}
	enc := s2.EncodeSnappy(dst[n+1:n+need], raw)
	if len(enc) > len(raw)-len(raw)/8 {
		dst = dst[:n+1+len(raw)]
		dst[n] = codecStored
		copy(dst[n+1:], raw)
		return dst
	}
	dst = dst[:n+1+len(enc)]
	dst[n] = codecSnappy
	return dst
}

// block is one decoded block. Whoever uses it holds a reference: the cache holds one, each reader holds one. The last to let go
// gives the memory back to the pool, so neither a miss nor an eviction costs the collector 64 KiB.
type block struct {
	buf  []byte
	refs atomic.Int32

	// Place in the cache; guarded by the lock of the shard.
	key        blockKey
	prev, next *block
}

// pooledBlockMax keeps the rare block of one huge record out of the pool, where it would stay for the sake of small ones.
const pooledBlockMax = 256 << 10

var blockPool = sync.Pool{New: func() any { return new(block) }}

// newBlock returns a block with one reference and n bytes of undefined content.
func newBlock(n int) *block {
	b := blockPool.Get().(*block)
	if cap(b.buf) < n {
		b.buf = make([]byte, n)
	}
	b.buf = b.buf[:n]
	b.refs.Store(1)
	return b
}

func (b *block) acquire() { b.refs.Add(1) }

func (b *block) release() {
	switch n := b.refs.Add(-1); {
	case n < 0:
		panic("segment: block released twice")
	case n > 0:
		return
	}
	poison(b.buf[:cap(b.buf)])
	if cap(b.buf) <= pooledBlockMax {
		blockPool.Put(b)
	}
}

// poison overwrites memory that goes back to a pool when the race detector is on: a reader that kept it sees garbage, and the detector
// sees the write.
func poison(b []byte) {
	if underRace {
		for i := range b {
			b[i] = 0xdb
		}
	}
}

// decodeBlock decodes a stored block whose checksum was verified.
func decodeBlock(stored []byte) (*block, error) {
	if len(stored) == 0 {
		return nil, errBadBlock
	}
	codec, data := stored[0], stored[1:]
	switch codec {
	case codecStored:
		if len(data) > maxBlockRaw {
			return nil, errBadBlock
		}
		b := newBlock(len(data))
		copy(b.buf, data)
		return b, nil
	case codecSnappy:
		n, err := s2.DecodedLen(data)
		if err != nil || n > maxBlockRaw {
			return nil, errBadBlock
		}
		b := newBlock(n)
		if _, err := s2.Decode(b.buf, data); err != nil {
			b.release()
			return nil, errBadBlock
		}
		return b, nil
	}
	return nil, errBadBlock
}
