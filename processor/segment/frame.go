package segment

import (
	"encoding/binary"
	"errors"
	"hash/crc32"
	"unsafe"
)

// frame is the index of one flush: the csn range that it covers and where each (stream, csn) is. Immutable once placed.
type frame struct {
	first, through uint64 // every csn of this range that has a record is in this frame
	newest         Millis
	off            uint32 // of the frame in its file
	size           uint32 // of the frame in bytes, len and sum included
	records        uint32
	blocks         []blockRef
	runs           []run // by (sid, csn)
}

// blockRef is where a stored block lies in its file. No pointers: the collector never looks into the index.
type blockRef struct {
	off, size, sum uint32
}

// run is the part of a stream inside one block; csn is its first.
type run struct {
	csn        uint64
	sid, block uint32
}

const (
	frameFixed = 48
	refBytes   = 8  // of a block in a frame header
	runBytes   = 16 // of a run in a frame header
)

func (f *frame) headerSize() int { return frameFixed + refBytes*len(f.blocks) + runBytes*len(f.runs) }

func (f *frame) memory() int64 {
	return int64(unsafe.Sizeof(*f)) + int64(len(f.blocks))*int64(unsafe.Sizeof(blockRef{})) + int64(len(f.runs))*int64(unsafe.Sizeof(run{}))
}

// find returns the only block that can hold (sid, csn).
func (f *frame) find(sid uint32, csn uint64) (blockIndex uint32, ok bool) {
	lo, hi := 0, len(f.runs)
	for lo < hi {
		m := int(uint(lo+hi) >> 1)
		if r := &f.runs[m]; r.sid < sid || r.sid == sid && r.csn <= csn {
			lo = m + 1
		} else {
			hi = m
		}
	}
	if lo == 0 || f.runs[lo-1].sid != sid {
		return 0, false
	}
	return f.runs[lo-1].block, true
}

// putHeader encodes the header into b, which is headerSize long. f.size is the size of the whole frame.
func (f *frame) putHeader(b []byte) {
	le := binary.LittleEndian
	le.PutUint32(b[0:], f.size-8)
	le.PutUint64(b[8:], f.first)
	le.PutUint64(b[16:], f.through)
	le.PutUint64(b[24:], uint64(f.newest))
	le.PutUint32(b[32:], f.records)
	le.PutUint32(b[36:], uint32(len(f.blocks)))
	le.PutUint32(b[40:], uint32(len(f.runs)))
	le.PutUint32(b[44:], 0)
	p := b[frameFixed:]
	for i := range f.blocks {
		le.PutUint32(p[0:], f.blocks[i].size)
		le.PutUint32(p[4:], f.blocks[i].sum)
		p = p[refBytes:]
	}
	for i := range f.runs {
		le.PutUint32(p[0:], f.runs[i].sid)
		le.PutUint32(p[4:], f.runs[i].block)
		le.PutUint64(p[8:], f.runs[i].csn)
		p = p[runBytes:]
	}
	le.PutUint32(b[4:], headerSum(b))
}

// headerSum covers the whole header but the sum itself.
func headerSum(b []byte) uint32 {
	return crc32.Update(crc32.Checksum(b[0:4], castagnoli), castagnoli, b[8:])
}

var (
	errShortFrame = errors.New("frame is cut off")
	errFrameSum   = errors.New("frame header does not match its checksum")
	errFrameShape = errors.New("frame header contradicts itself")
)

// frameSize returns the size of the header and of the whole frame as a frame's fixed part claims them, before anything is verified.
func frameSize(fixed []byte) (header, total uint64, err error) {
	if len(fixed) < frameFixed {
		return 0, 0, errShortFrame
	}
	le := binary.LittleEndian
	total = uint64(le.Uint32(fixed)) + 8
	header = frameFixed + refBytes*uint64(le.Uint32(fixed[36:])) + runBytes*uint64(le.Uint32(fixed[40:]))
	if header > total {
		return 0, 0, errFrameShape
	}
	return header, total, nil
}

// parseFrameHeader decodes the header at the start of b, which lies at off in its file. It accepts nothing that lookups could
// stumble over, whatever the checksum says.
func parseFrameHeader(b []byte, off uint32) (frame, error) {
	header, total, err := frameSize(b)
	if err != nil {
		return frame{}, err
	}
	if header > uint64(len(b)) {
		return frame{}, errShortFrame
	}
	b = b[:header]
	le := binary.LittleEndian
	if le.Uint32(b[4:]) != headerSum(b) {
		return frame{}, errFrameSum
	}
	if uint64(off)+total > 1<<32-1 {
		return frame{}, errFrameShape
	}
	f := frame{
		first: le.Uint64(b[8:]), through: le.Uint64(b[16:]), newest: int64(le.Uint64(b[24:])),
		off: off, size: uint32(total), records: le.Uint32(b[32:]),
		blocks: make([]blockRef, le.Uint32(b[36:])), runs: make([]run, le.Uint32(b[40:])),
	}
	at, p := uint64(off)+header, b[frameFixed:]
	for i := range f.blocks {
		f.blocks[i] = blockRef{off: uint32(at), size: le.Uint32(p), sum: le.Uint32(p[4:])}
		at += uint64(f.blocks[i].size)
		p = p[refBytes:]
	}
	ok := at == uint64(off)+total && f.first > 0 && f.first <= f.through && f.through <= MaxCSN
	var prev run
	for i := range f.runs {
		r := run{sid: le.Uint32(p), block: le.Uint32(p[4:]), csn: le.Uint64(p[8:])}
		ordered := i == 0 || r.sid > prev.sid || r.sid == prev.sid && r.csn > prev.csn
		ok = ok && ordered && r.block >= prev.block && uint64(r.block) < uint64(len(f.blocks)) && r.csn >= f.first && r.csn <= f.through
		f.runs[i], prev = r, r
		p = p[runBytes:]
	}
	if !ok {
		return frame{}, errFrameShape
	}
	return f, nil
}
