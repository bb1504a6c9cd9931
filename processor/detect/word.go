package detect

import "encoding/binary"

// Strings, numbers and names are read eight bytes at a time: a word of bytes is compared with what ends a run, and
// the lowest byte of the answer that has its high bit set is the first that does. The technique is the zero-byte
// search of Warren, Hacker's Delight, 2nd ed., section 6-1.
const (
	ones  = 0x0101010101010101
	highs = 0x8080808080808080
)

// slack is how far beyond the last byte of a payload, or of the text made from it, words may be loaded and stored: one
// word from the byte after it, and one more byte for a comma that turns out to be too many.
const slack = 16

func load(b []byte, i int) uint64 { return binary.LittleEndian.Uint64(b[i : i+8]) }

func store(b []byte, i int, x uint64) { binary.LittleEndian.PutUint64(b[i:i+8], x) }

// stops marks the bytes that end a plain run inside a string: the quote, the backslash, control characters. Only the
// lowest mark can be trusted, because the subtractions borrow upwards.
func stops(x uint64) uint64 {
	return ((x - ones*' ') | ((x ^ ones*'"') - ones) | ((x ^ ones*'\\') - ones)) & ^x & highs
}

// nonDigits marks all bytes but '0' to '9'.
func nonDigits(x uint64) uint64 {
	x ^= ones * '0'
	return ((x & ^uint64(highs)) + ones*(0x80-10) | x) & highs
}
