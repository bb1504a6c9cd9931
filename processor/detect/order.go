package detect

import (
	"cmp"
	"encoding/binary"
	"slices"
)

// unitOrder maps the bytes of UTF-8 so that byte order becomes the order of UTF-16 code units, which RFC 8785 asks
// for. The two differ in one thing: UTF-16 spells U+10000 and above with surrogates, D800-DFFF, and so puts them before
// U+E000-U+FFFF; UTF-8 puts them behind, with lead bytes F0-F4 against EE and EF. FE and FF are free.
func unitOrder(b byte) byte {
	if b|1 == 0xEF {
		return b | 0x10
	}
	return b
}

// prefix returns the first eight bytes of the name b[start:end] as a number that orders as the name does. Shorter
// names are filled up with zeros, so equal prefixes decide nothing. b goes on for eight bytes from start, whatever
// they are.
func prefix(b []byte, start, end int) uint64 {
	k := binary.BigEndian.Uint64(b[start : start+8])
	if n := end - start; n < 8 {
		k &= ^uint64(0) << (64 - 8*n)
	}
	if k&highs != 0 {
		for s := 0; s < 64; s += 8 {
			k = k&^(0xFF<<s) | uint64(unitOrder(byte(k>>s)))<<s
		}
	}
	return k
}

// compareNames compares two names, both valid UTF-8, by their UTF-16 code units.
func compareNames[A, B string | []byte](a A, b B) int {
	for i := range min(len(a), len(b)) {
		if a[i] != b[i] {
			return cmp.Compare(unitOrder(a[i]), unitOrder(b[i]))
		}
	}
	return cmp.Compare(len(a), len(b))
}

// insertionMax is the number of members up to which insertion sort is the faster one. Beyond it would be quadratic
// in what a payload may hold: a hundred thousand members fit into one megabyte.
const insertionMax = 32

// arrange returns the members from base on in canonical order of names and without those that a later member of the
// same name replaces, as indices above base. It is for objects with names that place does not know. Indices move
// and members stay, because a member was written field by field a moment ago: loads wider than those stores would
// have to wait for them.
func (d *Detector) arrange(base int) []uint32 {
	ms, order := d.members[base:], d.order[:0]
	for k := range ms {
		m := &ms[k]
		if m.id != 0 {
			m.name, m.nameEnd = m.start+1, m.value-2
		}
		m.prefix = prefix(d.out, int(m.name), int(m.nameEnd))
		order = append(order, uint32(k))
	}
	d.order = order
	compare := func(a, b uint32) int {
		if c := cmp.Compare(ms[a].prefix, ms[b].prefix); c != 0 {
			return c
		}
		return compareNames(d.nameOf(&ms[a]), d.nameOf(&ms[b]))
	}
	if len(order) > insertionMax {
		slices.SortStableFunc(order, compare)
	} else {
		for i := 1; i < len(order); i++ {
			k := order[i]
			p := ms[k].prefix
			j := i
			for ; j > 0; j-- {
				before := order[j-1]
				if q := ms[before].prefix; q < p || q == p && compare(before, k) <= 0 {
					break
				}
				order[j] = before
			}
			order[j] = k
		}
	}
	kept := 0
	for i, k := range order {
		if i+1 < len(order) && compare(k, order[i+1]) == 0 {
			continue
		}
		order[kept] = k
		kept++
	}
	return order[:kept]
}

// inOrder reports whether order leaves the members as they are. It need not compare numbers: what is dropped stands
// before something that is not, which then has another index.
func inOrder(order []uint32) bool {
	for k, at := range order {
		if int(at) != k {
			return false
		}
	}
	return true
}
