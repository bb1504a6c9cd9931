package cursor

import (
	"crypto/sha256"
	"encoding/base32"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
)

// Version is the first byte of every cursor.
const Version = 1

// Layout of the binary form, big-endian: version (1), csn (8), Kafka offset (8), partition (4), term (4), tag (4).
const size = 1 + 8 + 8 + 4 + 4 + 4

// TextLength is the length of every cursor in characters.
const TextLength = (size*8 + 4) / 5

// encoding keeps order: its alphabet is ascending in ASCII.
var encoding = base32.NewEncoding("0123456789abcdefghijklmnopqrstuv").WithPadding(base32.NoPadding)

// Cursor is a decoded cursor: everything up to and including CSN has been read.
type Cursor struct {
	CSN       uint64
	Offset    int64 // Kafka offset of the change on the changes topic; -1: not known
	Partition int32
	Term      uint32 // term in which the change was written
	Tag       Tag    // stream it belongs to
}

// Tag binds a cursor to its stream and to the lineage of the log (one per installation, kept over generations).
type Tag [4]byte

// TagOf is the first four bytes of SHA-256(lineage, NUL, stream key).
func TagOf(streamKey, lineage string) Tag {
	h := sha256.New()
	h.Write([]byte(lineage))
	h.Write([]byte{0})
	h.Write([]byte(streamKey))
	return Tag(h.Sum(nil)[:4])
}

// Errors of Parse. They are told apart because a client can do something different about each.
var (
	ErrMalformed = errors.New("cursor is malformed")
	ErrForeign   = errors.New("cursor belongs to another stream")
)

// String is the text form: base32hex in lower case without padding, TextLength characters.
func (c Cursor) String() string {
	return string(c.AppendText(make([]byte, 0, TextLength)))
}

// AppendText appends the text form.
func (c Cursor) AppendText(dst []byte) []byte {
	var b [size]byte
	b[0] = Version
	binary.BigEndian.PutUint64(b[1:], c.CSN)
	binary.BigEndian.PutUint64(b[9:], uint64(c.Offset+1))
	binary.BigEndian.PutUint32(b[17:], uint32(c.Partition))
	binary.BigEndian.PutUint32(b[21:], c.Term)
	copy(b[25:], c.Tag[:])
	return encoding.AppendEncode(dst, b[:])
}

// Parse decodes the text form. Every error wraps ErrMalformed.
func Parse(s string) (Cursor, error) {
	if len(s) != TextLength {
		return Cursor{}, fmt.Errorf("%w: it has %d characters, want %d", ErrMalformed, len(s), TextLength)
	}
	var b [size + 5]byte
	n, err := encoding.Decode(b[:], []byte(s))
	if err != nil || n != size {
		return Cursor{}, fmt.Errorf("%w: it holds a character outside 0-9 and a-v", ErrMalformed)
	}
	if b[0] != Version {
		return Cursor{}, fmt.Errorf("%w: version %d, this server knows %d", ErrMalformed, b[0], Version)
	}
	offset := binary.BigEndian.Uint64(b[9:])
	partition := binary.BigEndian.Uint32(b[17:])
	if offset > math.MaxInt64 || partition > math.MaxInt32 {
		return Cursor{}, fmt.Errorf("%w: it names no Kafka position", ErrMalformed)
	}
	c := Cursor{
		CSN:       binary.BigEndian.Uint64(b[1:]),
		Offset:    int64(offset) - 1,
		Partition: int32(partition),
		Term:      binary.BigEndian.Uint32(b[21:]),
	}
	copy(c.Tag[:], b[25:size])
	if c.String() != s { // the last character has spare bits, which must be zero
		return Cursor{}, fmt.Errorf("%w: it is not in its canonical spelling", ErrMalformed)
	}
	return c, nil
}

// ParseFor is Parse for a reader of one stream: a cursor with another tag is ErrForeign.
func ParseFor(s string, tag Tag) (Cursor, error) {
	c, err := Parse(s)
	if err != nil {
		return Cursor{}, err
	}
	if c.Tag != tag {
		return Cursor{}, ErrForeign
	}
	return c, nil
}
