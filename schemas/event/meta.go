package event

import (
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
)

// Op is the value of header "op" of a record on the changes topic.
type Op byte

// Ops. The first three are changes of one record; the others are control records, which consumers of records skip, but for
// OpCleared and OpPurged (drop what you hold of that stream) and OpSeal (go on in the next generation's topic).
const (
	OpUnknown Op = iota
	OpAdded
	OpUpdated
	OpDeleted
	OpTerm         // a writer takes over the partition
	OpRunStarted   //
	OpRunCompleted // with the counts of the run and what deletion detection found
	OpRunFailed    // failed, superseded by a newer run, or expired
	OpSwept        // all deletions of a run have been written
	OpReleased     // a held deletion was approved or discarded
	OpCheckpoint   // the author's state
	OpCleared      // everything of the stream is gone, without DELETED events
	OpPruned       // payloads up to a csn are gone
	OpPurged       // as OpCleared, by retention
	OpRestored     // the payload of a pruned record is back; the record did not change
	OpDeadLettered // a raw event could not be applied
	OpGap          // raw events were lost to retention before they were read
	OpSeal         // the last record of this generation
	OpModelOptions // from here on saves of the stream are compared under other options
	opEnd          //
)

var opNames = [opEnd]string{
	OpAdded: "ADDED", OpUpdated: "UPDATED", OpDeleted: "DELETED", OpTerm: "TERM",
	OpRunStarted: "RUN_STARTED", OpRunCompleted: "RUN_COMPLETED", OpRunFailed: "RUN_FAILED", OpSwept: "SWEPT",
	OpReleased: "RELEASED", OpCheckpoint: "CHECKPOINT", OpCleared: "CLEARED", OpPruned: "PRUNED", OpPurged: "PURGED",
	OpRestored: "RESTORED", OpDeadLettered: "DEAD_LETTERED", OpGap: "GAP", OpSeal: "SEAL",
	OpModelOptions: "MODEL_OPTIONS",
}

func (o Op) String() string {
	if o < opEnd && opNames[o] != "" {
		return opNames[o]
	}
	return "UNKNOWN"
}

// MarshalText is the wire name.
func (o Op) MarshalText() ([]byte, error) { return []byte(o.String()), nil }

// UnmarshalText accepts any text: an op that this version does not know becomes OpUnknown.
func (o *Op) UnmarshalText(b []byte) error {
	*o = ParseOp(b)
	return nil
}

// IsChange reports whether the record is a change of one record: ADDED, UPDATED or DELETED.
func (o Op) IsChange() bool { return o >= OpAdded && o <= OpDeleted }

// ParseOp returns OpUnknown for a name that this version does not know; such records are skipped by readers, but keep their
// place in the csn order. It runs for every record: a switch is a search by length and bytes, without a hash or a copy.
func ParseOp(b []byte) Op {
	switch string(b) {
	case "ADDED":
		return OpAdded
	case "UPDATED":
		return OpUpdated
	case "DELETED":
		return OpDeleted
	case "TERM":
		return OpTerm
	case "RUN_STARTED":
		return OpRunStarted
	case "RUN_COMPLETED":
		return OpRunCompleted
	case "RUN_FAILED":
		return OpRunFailed
	case "SWEPT":
		return OpSwept
	case "RELEASED":
		return OpReleased
	case "CHECKPOINT":
		return OpCheckpoint
	case "CLEARED":
		return OpCleared
	case "PRUNED":
		return OpPruned
	case "PURGED":
		return OpPurged
	case "RESTORED":
		return OpRestored
	case "DEAD_LETTERED":
		return OpDeadLettered
	case "GAP":
		return OpGap
	case "SEAL":
		return OpSeal
	case "MODEL_OPTIONS":
		return OpModelOptions
	}
	return OpUnknown
}

// Flags of Meta.
const (
	flagCommit byte = 1 << iota // the record ends its group: N and RawNext are there
	flagRecord                  // the record section is there
	flagsKnown = flagCommit | flagRecord
)

// metaVersion is the first byte of m.
const metaVersion = 1

// AlgoXXH3 names the hash in Meta.Hash: 128 bits of xxh3 over the canonical payload.
const AlgoXXH3 = 1

// Meta is header "m" of a record on the changes topic: what rule V and the followers need, so that they never parse JSON.
type Meta struct {
	Term      uint64
	Nonce     uint32
	CSN       uint64 // 0 for OpTerm, which takes no place in the order
	GI        uint64 // index of the record in its group
	SID       uint32 // number of the stream in its partition; 0 for records about the partition
	RawOffset int64  // offset of the raw event behind this record; -1: none
	TS        int64  // ms since the epoch, never falling along csn
	Run       uint64 // run sequence; 0: outside any run

	// The end of a group.
	Commit  bool
	N       uint64 // records in the group
	RawNext int64  // next raw offset to process

	// The record section: ADDED, UPDATED, DELETED and RESTORED.
	Record        bool
	PrevCSN       uint64   // csn of the record's previous version; 0: none
	FirstSeen     int64    // ms since the epoch, not before it
	Algo          byte     // AlgoXXH3
	Hash          [16]byte // stored hash of the record after this change
	Rev           uint64   // 1, 2, 3 ... per record, kept over delete and re-add
	PayloadOffset uint64   // where in the value the payload begins
	PayloadLength uint64   // 0: there is none (a DELETED whose payload had been pruned)
	Live          uint64   // live records of the stream after this change
	Digest        [16]byte // digest of the stream after this change
}

// ErrMeta is what every error of ParseMeta wraps.
var ErrMeta = errors.New("malformed header m")

// Bounds of m: ten bytes a varint, all optional sections present.
const (
	metaBytesMax = 2 + 10 + 4 + 6*10 + 2*10 + 2*10 + 1 + 16 + 4*10 + 16
	metaTextMax  = (metaBytesMax*8 + 5) / 6
)

// metaText is the text form of m. Strict refuses spare bits that are not zero: m has one spelling only.
var metaText = base64.RawURLEncoding.Strict()

// AppendMeta appends m: the fields as unsigned varints, hashes as they are, all in base64url without padding, for binary headers
// break the JSON output of common tools. Version 1 is, in this order: version, flags, nonce (4 bytes); if record: hash (16 bytes),
// digest (16 bytes), algo (1 byte); term, csn, gi, sid, raw offset + 1, ts, run; if commit: n, raw_next; if record: csn - prev_csn
// (0: none), ts - first_seen (zigzag), rev, payload offset, payload length, live.
//
// The hash is at byte 6, a multiple of three, so its text is that of member hash in the envelope: a compressor finds it a second
// time, which makes a record about 23 bytes smaller in snappy.
func AppendMeta(dst []byte, m *Meta) []byte {
	var buf [metaBytesMax]byte
	b := append(buf[:0], metaVersion, 0)
	if m.Commit {
		b[1] |= flagCommit
	}
	if m.Record {
		b[1] |= flagRecord
	}
	b = binary.BigEndian.AppendUint32(b, m.Nonce)
	if m.Record {
		b = append(b, m.Hash[:]...)
		b = append(b, m.Digest[:]...)
		b = append(b, m.Algo)
	}
	b = binary.AppendUvarint(b, m.Term)
	b = binary.AppendUvarint(b, m.CSN)
	b = binary.AppendUvarint(b, m.GI)
	b = binary.AppendUvarint(b, uint64(m.SID))
	b = binary.AppendUvarint(b, uint64(m.RawOffset+1))
	b = binary.AppendUvarint(b, uint64(m.TS))
	b = binary.AppendUvarint(b, m.Run)
	if m.Commit {
		b = binary.AppendUvarint(b, m.N)
		b = binary.AppendUvarint(b, uint64(m.RawNext))
	}
	if m.Record {
		var back uint64
		if m.PrevCSN != 0 {
			back = m.CSN - m.PrevCSN
		}
		b = binary.AppendUvarint(b, back)
		b = binary.AppendVarint(b, m.TS-m.FirstSeen)
		b = binary.AppendUvarint(b, m.Rev)
		b = binary.AppendUvarint(b, m.PayloadOffset)
		b = binary.AppendUvarint(b, m.PayloadLength)
		b = binary.AppendUvarint(b, m.Live)
	}
	return metaText.AppendEncode(dst, b)
}

// ParseMeta decodes m into *m. Every error wraps ErrMeta. It accepts exactly what AppendMeta writes: equal records have equal
// bytes, so that a reader may compare instead of decode.
func ParseMeta(text []byte, m *Meta) error {
	if len(text) > metaTextMax {
		return fmt.Errorf("%w: %d bytes, at most %d are possible", ErrMeta, len(text), metaTextMax)
	}
	var buf [metaBytesMax]byte
	n, err := metaText.Decode(buf[:], text)
	if err != nil {
		return fmt.Errorf("%w: %v", ErrMeta, err)
	}
	if metaText.EncodedLen(n) != len(text) { // the decoder of the standard library skips line breaks
		return fmt.Errorf("%w: it holds line breaks", ErrMeta)
	}
	d := metaDecoder{b: buf[:n]}
	if v := d.byte(); d.bad || v != metaVersion {
		return fmt.Errorf("%w: version %d, this reader knows %d", ErrMeta, v, metaVersion)
	}
	flags := d.byte()
	if flags&^flagsKnown != 0 {
		return fmt.Errorf("%w: unknown flags %#x", ErrMeta, flags)
	}
	*m = Meta{Commit: flags&flagCommit != 0, Record: flags&flagRecord != 0}
	m.Nonce = d.uint32()
	if m.Record {
		d.hash(&m.Hash)
		d.hash(&m.Digest)
		m.Algo = d.byte()
	}
	m.Term = d.uvarint()
	m.CSN = d.uvarint()
	m.GI = d.uvarint()
	sid := d.uvarint()
	m.RawOffset = d.int63() - 1
	m.TS = d.int63()
	m.Run = d.uvarint()
	if sid > math.MaxUint32 {
		d.bad = true
	}
	m.SID = uint32(sid)
	if m.Commit {
		m.N = d.uvarint()
		m.RawNext = d.int63()
	}
	if m.Record {
		back := d.uvarint()
		if back != 0 {
			if back >= m.CSN { // a previous version at csn 0 or below
				d.bad = true
			}
			m.PrevCSN = m.CSN - back
		}
		m.FirstSeen = m.TS - d.varint()
		if m.FirstSeen < 0 { // an overflow ends up here too
			d.bad = true
		}
		m.Rev = d.uvarint()
		m.PayloadOffset = d.uvarint()
		m.PayloadLength = d.uvarint()
		m.Live = d.uvarint()
	}
	if d.bad || len(d.b) != 0 {
		return fmt.Errorf("%w: cut or overlong", ErrMeta)
	}
	return nil
}

// metaDecoder reads from b and remembers, rather than returns, the first thing that was wrong.
type metaDecoder struct {
	b   []byte
	bad bool
}

func (d *metaDecoder) byte() byte {
	if len(d.b) == 0 {
		d.bad = true
		return 0
	}
	v := d.b[0]
	d.b = d.b[1:]
	return v
}

// uvarint refuses a varint with trailing zero groups, which would be a second spelling of the same number.
func (d *metaDecoder) uvarint() uint64 {
	if len(d.b) != 0 && d.b[0] < 0x80 { // most fields are small
		v := d.b[0]
		d.b = d.b[1:]
		return uint64(v)
	}
	v, n := binary.Uvarint(d.b)
	if n <= 0 || d.b[n-1] == 0 {
		d.bad = true
		return 0
	}
	d.b = d.b[n:]
	return v
}

func (d *metaDecoder) int63() int64 {
	v := d.uvarint()
	if v > math.MaxInt64 {
		d.bad = true
		return 0
	}
	return int64(v)
}

func (d *metaDecoder) varint() int64 {
	v := d.uvarint()
	return int64(v>>1) ^ -int64(v&1)
}

func (d *metaDecoder) uint32() uint32 {
	if len(d.b) < 4 {
		d.bad = true
		return 0
	}
	v := binary.BigEndian.Uint32(d.b)
	d.b = d.b[4:]
	return v
}

func (d *metaDecoder) hash(h *[16]byte) {
	if len(d.b) < 16 {
		d.bad = true
		return
	}
	copy(h[:], d.b)
	d.b = d.b[16:]
}
