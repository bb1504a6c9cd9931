package batch

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"math"
)

// Offsets of the fields of a batch header; big endian.
const (
	atBaseOffset    = 0
	atLength        = 8  // of everything behind this field
	atLeaderEpoch   = 12 // of the broker's; not under the checksum
	atMagic         = 16
	atCRC           = 17 // CRC-32C of everything behind this field
	atAttributes    = 21
	atLastDelta     = 23 // last offset minus base offset; stays when compaction removes records
	atFirstTS       = 27
	atMaxTS         = 35
	atProducerID    = 43
	atProducerEpoch = 51
	atBaseSequence  = 53
	atCount         = 57

	// HeaderSize is the size of a batch without records.
	HeaderSize = 61

	magic      = 2
	lengthBase = 12 // bytes in front of what the length counts
)

// Attributes of a batch.
const (
	attrCodec         = 0x07
	attrLogAppendTime = 0x08 // the broker's clock: every record has MaxTS
	attrTransactional = 0x10
	attrControl       = 0x20
)

var (
	// ErrShort means that the input ends inside a batch. A fetch response may end so: the rest comes with the next fetch.
	ErrShort = errors.New("batch is cut short")
	// ErrCorrupt is what errors about malformed batches wrap.
	ErrCorrupt = errors.New("corrupt batch")
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// Batch is the header of a batch, and its bytes.
type Batch struct {
	Base, Last    int64 // offsets of the first record and the last, even if compaction removed them
	LeaderEpoch   int32
	Count         int32 // of records; 0 if compaction left only the header
	Attributes    int16
	FirstTS       int64 // ms since the epoch; what the records' timestamps are relative to
	MaxTS         int64
	ProducerID    int64 // -1: none
	ProducerEpoch int16
	BaseSeq       int32
	Raw           []byte // the whole batch, header included; aliases the input
}

// Control reports whether this is a marker of the transaction protocol, which is not for consumers.
func (b *Batch) Control() bool { return b.Attributes&attrControl != 0 }

// Transactional reports whether the batch is part of a transaction.
func (b *Batch) Transactional() bool { return b.Attributes&attrTransactional != 0 }

// Codec is how the records are compressed.
func (b *Batch) Codec() Codec { return Codec(b.Attributes & attrCodec) }

// Length returns the size of the whole batch at the start of b, as its header says, or 0 if b is too short to tell. A reader that
// got only the beginning of a batch learns from it how much to ask for. The value is not checked: it may be anything up to 2 GiB.
func Length(b []byte) int {
	if len(b) < atLeaderEpoch {
		return 0
	}
	return lengthBase + int(max(0, int32(binary.BigEndian.Uint32(b[atLength:]))))
}

// Next takes the first batch off b. The checksum is verified. ErrShort means that b ends first (an empty b as well); errors of
// malformed batches wrap ErrCorrupt, and there is no way to go on behind one.
func Next(b []byte) (bt Batch, rest []byte, err error) {
	if len(b) <= atMagic {
		return bt, b, ErrShort
	}
	if m := b[atMagic]; m != magic {
		return bt, b, fmt.Errorf("%w: message format %d, want %d", ErrCorrupt, m, magic)
	}
	n := int32(binary.BigEndian.Uint32(b[atLength:]))
	if n < HeaderSize-lengthBase || n > math.MaxInt32-lengthBase {
		return bt, b, fmt.Errorf("%w: impossible length %d", ErrCorrupt, n)
	}
	size := lengthBase + int(n)
	if size > len(b) {
		return bt, b, ErrShort
	}
	raw := b[:size:size]
	if got, want := crc32.Checksum(raw[atAttributes:], castagnoli), binary.BigEndian.Uint32(raw[atCRC:]); got != want {
		return bt, b, fmt.Errorf("%w: checksum %08x, want %08x", ErrCorrupt, got, want)
	}
	bt = Batch{
		Base:          int64(binary.BigEndian.Uint64(raw[atBaseOffset:])),
		LeaderEpoch:   int32(binary.BigEndian.Uint32(raw[atLeaderEpoch:])),
		Count:         int32(binary.BigEndian.Uint32(raw[atCount:])),
		Attributes:    int16(binary.BigEndian.Uint16(raw[atAttributes:])),
		FirstTS:       int64(binary.BigEndian.Uint64(raw[atFirstTS:])),
		MaxTS:         int64(binary.BigEndian.Uint64(raw[atMaxTS:])),
		ProducerID:    int64(binary.BigEndian.Uint64(raw[atProducerID:])),
		ProducerEpoch: int16(binary.BigEndian.Uint16(raw[atProducerEpoch:])),
		BaseSeq:       int32(binary.BigEndian.Uint32(raw[atBaseSequence:])),
		Raw:           raw,
	}
	delta := int32(binary.BigEndian.Uint32(raw[atLastDelta:]))
	switch {
	case bt.Base < 0 || delta < 0 || bt.Base > math.MaxInt64-1-int64(delta): // one below the largest: Last+1 is a position
		return Batch{}, b, fmt.Errorf("%w: offsets %d and up to %d more", ErrCorrupt, bt.Base, delta)
	case bt.Count < 0 || int64(bt.Count) > int64(delta)+1:
		return Batch{}, b, fmt.Errorf("%w: %d records in %d offsets", ErrCorrupt, bt.Count, int64(delta)+1)
	case bt.Codec() > Zstd:
		return Batch{}, b, fmt.Errorf("%w: unknown compression %d", ErrCorrupt, bt.Codec())
	}
	bt.Last = bt.Base + int64(delta)
	return bt, b[size:], nil
}

// SameContent reports whether a fetched batch is the one that was produced: all but the base offset and the leader epoch, which
// the broker fills in, is equal. It costs one comparison of memory, and needs topics with compression.type=producer and
// message.timestamp.type=CreateTime.
func SameContent(fetched, produced []byte) bool {
	if len(fetched) != len(produced) || len(fetched) < HeaderSize {
		return false
	}
	return string(fetched[atLength:atLeaderEpoch]) == string(produced[atLength:atLeaderEpoch]) &&
		string(fetched[atMagic:]) == string(produced[atMagic:])
}

// SetProducer makes a batch that Build wrote part of the sequence of an idempotent producer, or of a transaction, and seals it with
// a new checksum. seq is the sequence number of its first record.
func SetProducer(batch []byte, id int64, epoch int16, seq int32, transactional bool) {
	binary.BigEndian.PutUint64(batch[atProducerID:], uint64(id))
	binary.BigEndian.PutUint16(batch[atProducerEpoch:], uint16(epoch))
	binary.BigEndian.PutUint32(batch[atBaseSequence:], uint32(seq))
	attrs := binary.BigEndian.Uint16(batch[atAttributes:]) &^ attrTransactional
	if transactional {
		attrs |= attrTransactional
	}
	binary.BigEndian.PutUint16(batch[atAttributes:], attrs)
	seal(batch)
}

func seal(batch []byte) {
	binary.BigEndian.PutUint32(batch[atCRC:], crc32.Checksum(batch[atAttributes:], castagnoli))
}
