package hot

import "math/bits"

// index finds positions by fingerprint, with open addressing and linear probing. A slot has 32 bits: one more than a position in as
// many of the low ones as that takes, and above them a piece of the fingerprint, so that an entry is looked at for nothing once in
// thousands of times. A slot is a fraction of an entry, so that what is empty for speed is cheap.
type index struct {
	slots []uint32
	low   uint32 // mask of the position
}

const (
	slotBytes = 4
	slotsMin  = 8
	slotsMax  = 1 << 28 // leaves 4 bits of fingerprint
)

// slotsFor returns the number of slots for n positions: a power of two, filled to 4/5 at most.
func slotsFor(n int) int {
	slots := slotsMin
	for slots*4 < n*5 {
		slots *= 2
	}
	return slots
}

func newIndex(slots int) index {
	return index{slots: make([]uint32, slots), low: 1<<bits.Len32(uint32(slots-1)) - 1}
}

func (x *index) home(lo uint64) (slot int, tag uint32) {
	return int(lo) & (len(x.slots) - 1), uint32(lo>>32) &^ x.low
}

// insert puts a position that is not there.
func (x *index) insert(lo uint64, pos int) {
	i, tag := x.home(lo)
	for x.slots[i] != 0 {
		i = (i + 1) & (len(x.slots) - 1)
	}
	x.slots[i] = tag | uint32(pos+1)
}
