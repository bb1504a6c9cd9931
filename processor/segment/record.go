package segment

import (
	"encoding/binary"
	"fmt"
	"math"
)

// Millis is a time in milliseconds since the Unix epoch.
type Millis = int64

// Record is one committed version of a record.
type Record struct {
	SID   uint32 // stream id, local to the partition
	CSN   uint64 // change sequence number of the partition, from 1
	Op    byte   // never 0: in Read a zero Op says that the csn is missing
	Flags byte
	Rev   uint32

	TS        Millis // of the change
	FirstSeen Millis

	Hash [16]byte
	Run  uint64

	ID      []byte // at most MaxIDBytes
	Payload []byte // an empty one reads back as nil
}

const (
	// MaxCSN is the highest change sequence number.
	MaxCSN = math.MaxInt64
	// MaxIDBytes is the longest record id that is stored.
	MaxIDBytes = 1<<16 - 1
	// MaxRecordBytes bounds id and payload of one record together.
	MaxRecordBytes = 64 << 20
	// MaxCallBytes bounds the encoded records of one Append call; with the largest BufferBytes it keeps a frame below 4 GiB.
	MaxCallBytes = 512 << 20
)

// recordFixed is the size of a record without id and payload. The layout is fixed, not packed: a reader that looks for one csn hops from
// size to size without decoding, and snappy removes most of what packing would.
const recordFixed = 64

func recordSize(r *Record) int { return recordFixed + len(r.ID) + len(r.Payload) }

// putRecord encodes r into b, which is recordSize(r) long.
func putRecord(b []byte, r *Record) {
	le := binary.LittleEndian
	le.PutUint32(b[0:], uint32(len(b)))
	le.PutUint32(b[4:], r.SID)
	le.PutUint64(b[8:], r.CSN)
	le.PutUint64(b[16:], uint64(r.TS))
	le.PutUint64(b[24:], uint64(r.FirstSeen))
	le.PutUint64(b[32:], r.Run)
	le.PutUint32(b[40:], r.Rev)
	le.PutUint16(b[44:], uint16(len(r.ID)))
	b[46], b[47] = r.Op, r.Flags
	copy(b[48:64], r.Hash[:])
	n := copy(b[recordFixed:], r.ID)
	copy(b[recordFixed+n:], r.Payload)
}

// peekRecord reads what is needed to find a record: its place in the order and its size. ok is false when b doesn't start with a
// whole record.
func peekRecord(b []byte) (sid uint32, csn uint64, size int, ok bool) {
	if len(b) < recordFixed {
		return 0, 0, 0, false
	}
	le := binary.LittleEndian
	n := uint64(le.Uint32(b))
	if n < recordFixed+uint64(le.Uint16(b[44:])) || n > uint64(len(b)) {
		return 0, 0, 0, false
	}
	return le.Uint32(b[4:]), le.Uint64(b[8:]), int(n), true
}

// getRecord decodes the record at the start of b, which peekRecord accepted. ID and Payload point into b.
func getRecord(b []byte, r *Record) {
	le := binary.LittleEndian
	size, idLen := int(le.Uint32(b)), int(le.Uint16(b[44:]))
	r.SID, r.CSN = le.Uint32(b[4:]), le.Uint64(b[8:])
	r.TS, r.FirstSeen = int64(le.Uint64(b[16:])), int64(le.Uint64(b[24:]))
	r.Run, r.Rev = le.Uint64(b[32:]), le.Uint32(b[40:])
	r.Op, r.Flags = b[46], b[47]
	copy(r.Hash[:], b[48:64])
	idEnd := recordFixed + idLen
	r.ID = b[recordFixed:idEnd:idEnd]
	r.Payload = nil
	if size > idEnd {
		r.Payload = b[idEnd:size:size]
	}
}

// clone copies r so that it owns its id and payload.
func (r *Record) clone() Record {
	c := *r
	buf := make([]byte, len(r.ID)+len(r.Payload))
	n := copy(buf, r.ID)
	copy(buf[n:], r.Payload)
	c.ID, c.Payload = buf[:n:n], nil
	if len(r.Payload) > 0 {
		c.Payload = buf[n:]
	}
	return c
}

// checkCall verifies the contract of Append and returns the encoded size of those records that are above appended.
func checkCall(recs []Record, through, appended uint64) (fresh []Record, size int, err error) {
	if through > MaxCSN {
		return nil, 0, fmt.Errorf("%w: through %d is above %d", ErrInvalid, through, uint64(MaxCSN))
	}
	last := uint64(0)
	for i := range recs {
		r := &recs[i]
		switch {
		case r.CSN == 0 || r.CSN <= last && i > 0:
			return nil, 0, fmt.Errorf("%w: csn %d at index %d is not above %d", ErrInvalid, r.CSN, i, last)
		case r.CSN > through:
			return nil, 0, fmt.Errorf("%w: csn %d is above through %d", ErrInvalid, r.CSN, through)
		case r.Op == 0:
			return nil, 0, fmt.Errorf("%w: csn %d has op 0", ErrInvalid, r.CSN)
		case len(r.ID) > MaxIDBytes:
			return nil, 0, fmt.Errorf("%w: csn %d has an id of %d bytes, limit %d", ErrInvalid, r.CSN, len(r.ID), MaxIDBytes)
		case len(r.ID)+len(r.Payload) > MaxRecordBytes:
			return nil, 0, fmt.Errorf("%w: csn %d has %d bytes, limit %d", ErrInvalid, r.CSN, len(r.ID)+len(r.Payload), MaxRecordBytes)
		}
		last = r.CSN
		if r.CSN > appended {
			if fresh == nil {
				fresh = recs[i:]
			}
			size += recordSize(r)
		}
	}
	if size > MaxCallBytes {
		return nil, 0, fmt.Errorf("%w: one call of %d bytes, limit %d", ErrInvalid, size, MaxCallBytes)
	}
	return fresh, size, nil
}
