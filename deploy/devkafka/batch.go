package devkafka

import (
	"encoding/binary"
	"hash/crc32"
)

// batchHeaderBytes is the fixed head of a record batch, format 2, as the Kafka protocol guide gives it under "Record Batch".
// All numbers are big-endian.
const batchHeaderBytes = 61

const (
	attrTransactional = 1 << 4
	attrControl       = 1 << 5
)

// batch is what this package needs to know of a record batch; the records themselves stay where they are.
type batch struct {
	size            int // of the whole batch, in bytes
	baseOffset      int64
	lastOffsetDelta int32
	attributes      int16
	producerID      int64
	producerEpoch   int16
	firstSequence   int32
	records         int32
}

func (b batch) nextOffset() int64 { return b.baseOffset + int64(b.lastOffsetDelta) + 1 }

// transactionalData tells records of a transaction from its markers.
func (b batch) transactionalData() bool {
	return b.attributes&attrTransactional != 0 && b.attributes&attrControl == 0
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// parseBatch reads the batch that data begins with. False when it is not whole, not of format 2, or fails its checksum.
func parseBatch(data []byte) (batch, bool) {
	if len(data) < batchHeaderBytes || data[16] != 2 {
		return batch{}, false
	}
	size := 12 + int64(binary.BigEndian.Uint32(data[8:]))
	if size < batchHeaderBytes || size > int64(len(data)) {
		return batch{}, false
	}
	if binary.BigEndian.Uint32(data[17:]) != crc32.Checksum(data[21:size], castagnoli) {
		return batch{}, false
	}
	b := batch{
		size:            int(size),
		baseOffset:      int64(binary.BigEndian.Uint64(data)),
		attributes:      int16(binary.BigEndian.Uint16(data[21:])),
		lastOffsetDelta: int32(binary.BigEndian.Uint32(data[23:])),
		producerID:      int64(binary.BigEndian.Uint64(data[43:])),
		producerEpoch:   int16(binary.BigEndian.Uint16(data[51:])),
		firstSequence:   int32(binary.BigEndian.Uint32(data[53:])),
		records:         int32(binary.BigEndian.Uint32(data[57:])),
	}
	return b, true
}

// laterBatch reports whether a whole batch above offset begins anywhere in data past its first byte. It tells damage from a
// torn last write, after which there is nothing. Batches that lie inside a record's value carry offset 0 as their producer
// sent them, so they are not taken for the log's own.
func laterBatch(data []byte, offset int64) bool {
	for i := 1; i+batchHeaderBytes <= len(data); i++ {
		if data[i+16] != 2 || int64(binary.BigEndian.Uint64(data[i:])) <= offset {
			continue
		}
		if _, ok := parseBatch(data[i:]); ok {
			return true
		}
	}
	return false
}
