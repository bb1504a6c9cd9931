package batch

import (
	"encoding/binary"
	"errors"
	"slices"

	"github.com/klauspost/compress/s2"
)

// The Java client frames snappy as the library snappy-java of xerial does: this magic, two version numbers of four bytes, and then
// blocks, each behind its size in four bytes. Other clients write one raw block. We read both and write the raw block. A raw block
// begins with its size, and one that looks like the magic would claim 10,626 bytes and begin with an impossible copy.
const (
	xerialMagic  = "\x82SNAPPY\x00"
	xerialHeader = len(xerialMagic) + 8
)

var errXerial = errors.New("malformed block in xerial framing")

func decodeSnappy(dst, src []byte, limit int) ([]byte, error) {
	if len(src) < xerialHeader || string(src[:len(xerialMagic)]) != xerialMagic {
		return snappyBlock(dst, src, limit)
	}
	for b := src[xerialHeader:]; len(b) > 0; {
		if len(b) < 4 {
			return dst, errXerial
		}
		n := binary.BigEndian.Uint32(b)
		if b = b[4:]; uint64(n) > uint64(len(b)) {
			return dst, errXerial
		}
		var err error
		if dst, err = snappyBlock(dst, b[:n], limit); err != nil {
			return dst, err
		}
		b = b[n:]
	}
	return dst, nil
}

// snappyBlock appends a decoded block. Its size is known before anything is allocated.
func snappyBlock(dst, src []byte, limit int) ([]byte, error) {
	n, err := s2.DecodedLen(src)
	if err != nil {
		return dst, err
	}
	if n > limit-len(dst) {
		return dst, errTooLarge
	}
	at := len(dst)
	dst = slices.Grow(dst, n)
	if _, err := s2.Decode(dst[at:at+n:at+n], src); err != nil {
		return dst, err
	}
	return dst[:at+n], nil
}
