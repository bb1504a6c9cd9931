package store

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/tidemark-dev/tidemark/schemas/event"
)

// Version is the latest version of a record: everything the next decision needs, without payload.
type Version struct {
	CSN        uint64
	PayloadCSN uint64 // csn under which the payload is stored; differs from CSN after a restore
	Op         event.Op
	TS         int64 // ms
	FirstSeen  int64 // ms
	Rev        uint64
	Hash       [16]byte // canonical hash
	Raw        uint64   // low half of the hash of the payload's bytes
	Shape      uint32   // 0: the fields are not known
	Fields     []uint32 // one 24-bit hash a top-level member, in canonical order of the shape's names
}

// Live reports whether the record exists: its latest version is not a deletion.
func (v *Version) Live() bool { return v.CSN != 0 && v.Op != event.OpDeleted }

const (
	versionFormat    = 1
	fieldHashBytes   = 3
	flagRestored     = 1 << 7
	fieldsPerRowMax  = 1024
	errVersionFormat = "row of format %d, this program knows %d"
)

var errRow = errors.New("malformed row")

// appendVersion appends the value of an R row: format and flags (1), op (1), csn, ts, ts - first seen, rev as varints, hash (16),
// raw (8), payload csn if restored, shape (4), and 3 bytes a field.
func appendVersion(b []byte, v *Version) []byte {
	head := byte(versionFormat)
	restored := v.PayloadCSN != 0 && v.PayloadCSN != v.CSN
	if restored {
		head |= flagRestored
	}
	b = append(b, head, byte(v.Op))
	b = binary.AppendUvarint(b, v.CSN)
	b = binary.AppendUvarint(b, uint64(v.TS))
	b = binary.AppendVarint(b, v.TS-v.FirstSeen)
	b = binary.AppendUvarint(b, v.Rev)
	b = append(b, v.Hash[:]...)
	b = binary.BigEndian.AppendUint64(b, v.Raw)
	if restored {
		b = binary.AppendUvarint(b, v.PayloadCSN)
	}
	b = binary.BigEndian.AppendUint32(b, v.Shape)
	for _, f := range v.Fields {
		b = append(b, byte(f>>16), byte(f>>8), byte(f))
	}
	return b
}

// parseVersion decodes an R row into v, reusing v.Fields.
func parseVersion(b []byte, v *Version) error {
	fields := v.Fields[:0]
	*v = Version{}
	if len(b) < 2 {
		return fmt.Errorf("%w: %d bytes", errRow, len(b))
	}
	head := b[0]
	if f := head &^ flagRestored; f != versionFormat {
		return fmt.Errorf("%w: "+errVersionFormat, errRow, f, versionFormat)
	}
	v.Op = event.Op(b[1])
	d := rowDecoder{b: b[2:]}
	v.CSN = d.uvarint()
	v.TS = int64(d.uvarint())
	v.FirstSeen = v.TS - d.varint()
	v.Rev = d.uvarint()
	copy(v.Hash[:], d.bytes(16))
	if raw := d.bytes(8); raw != nil {
		v.Raw = binary.BigEndian.Uint64(raw)
	}
	v.PayloadCSN = v.CSN
	if head&flagRestored != 0 {
		v.PayloadCSN = d.uvarint()
	}
	if shape := d.bytes(4); shape != nil {
		v.Shape = binary.BigEndian.Uint32(shape)
	}
	if !v.Op.IsChange() || v.CSN == 0 || head&flagRestored != 0 && v.PayloadCSN <= v.CSN {
		return fmt.Errorf("%w: op %d, csn %d, payload csn %d", errRow, b[1], v.CSN, v.PayloadCSN)
	}
	if d.bad || len(d.b)%fieldHashBytes != 0 || len(d.b)/fieldHashBytes > fieldsPerRowMax {
		return fmt.Errorf("%w: cut or overlong", errRow)
	}
	for ; len(d.b) > 0; d.b = d.b[fieldHashBytes:] {
		fields = append(fields, uint32(d.b[0])<<16|uint32(d.b[1])<<8|uint32(d.b[2]))
	}
	v.Fields = fields
	return nil
}

type rowDecoder struct {
	b   []byte
	bad bool
}

func (d *rowDecoder) uvarint() uint64 {
	v, n := binary.Uvarint(d.b)
	if n <= 0 {
		d.bad = true
		return 0
	}
	d.b = d.b[n:]
	return v
}

func (d *rowDecoder) varint() int64 {
	v, n := binary.Varint(d.b)
	if n <= 0 {
		d.bad = true
		return 0
	}
	d.b = d.b[n:]
	return v
}

func (d *rowDecoder) bytes(n int) []byte {
	if len(d.b) < n {
		d.bad = true
		return nil
	}
	v := d.b[:n]
	d.b = d.b[n:]
	return v
}

// Key spaces of the Pebble database. Integers in keys are big-endian, so that byte order is numeric order.
const (
	keyRow      = 'R' // sid(4) id            -> Version
	keyStream   = 'S' // sid(4)               -> Stream as JSON
	keyRun      = 'U' // sid(4) start csn(8)  -> Run as JSON
	keyShape    = 'F' // sid(4) shape(4)      -> names as JSON
	keyVersions = 'B' // sid(4) csn>>16(8)    -> two bitmaps
	keyLate     = 'L' // sid(4) csn(8)        -> late row: what is left of a version whose segment is gone
	keyRestored = 'X' // sid(4) csn(8)        -> payload csn(8)
	keyPosition = 'M' // csn(8)               -> offset(8) term(8) nonce(4)
	keySeen     = 'K' // sid(4) start csn(8)  -> Seen; local, not on the state topic
	keyMeta     = 'G' // name                 -> see meta.go
)

func appendRowKey(b []byte, sid uint32, id []byte) []byte {
	b = append(b, keyRow)
	b = binary.BigEndian.AppendUint32(b, sid)
	return append(b, id...)
}

func sidKey(space byte, sid uint32) []byte {
	return binary.BigEndian.AppendUint32([]byte{space}, sid)
}

func sidKey64(space byte, sid uint32, n uint64) []byte {
	return binary.BigEndian.AppendUint64(sidKey(space, sid), n)
}

// sidSpan is the key range of a stream in a key space.
func sidSpan(space byte, sid uint32) (lower, upper []byte) {
	return sidKey(space, sid), binary.BigEndian.AppendUint64([]byte{space}, (uint64(sid)+1)<<32)[:5]
}
