package warehouse

import (
	"encoding/binary"
	"unsafe"

	"github.com/tidemark-dev/tidemark/projections/fold"
)

// A column holds the values of one column of a batch until the server has them all: a batch of the driver is spent by one attempt,
// sent or not. It can be handed to the driver, for the native protocol, or encoded as ClickHouse's Native format by itself, which over HTTP
// saves the driver's boxing of each value.
//
// Source of the format: ClickHouse's documentation, "Native format" and "LowCardinality"; the layout is that of protocol revision 0.
type column interface {
	header() *columnHeader
	reset()
	rows() int
	values(from, to int) any                // a slice as the driver takes it
	encode(dst []byte, from, to int) []byte // the body of the column in a block
	size(from, to int) int                  // bytes that encode appends, at most
}

type columnHeader struct{ name, kind string }

func (h *columnHeader) header() *columnHeader { return h }

// fixed is a column of numbers, times and enums: an array of little-endian values.
type fixed[T int8 | uint8 | uint16 | uint32 | int64 | uint64 | [16]byte] struct {
	columnHeader
	v []T
	// typed turns a part of v into what the driver wants, if it is not v itself.
	typed func([]T) any
}

func (c *fixed[T]) add(v T)   { c.v = append(c.v, v) }
func (c *fixed[T]) reset()    { c.v = c.v[:0] }
func (c *fixed[T]) rows() int { return len(c.v) }

func (c *fixed[T]) values(from, to int) any {
	if c.typed != nil {
		return c.typed(c.v[from:to])
	}
	return c.v[from:to]
}

func (c *fixed[T]) size(from, to int) int {
	var zero T
	return int(unsafe.Sizeof(zero)) * (to - from)
}

var littleEndian = binary.NativeEndian.Uint16([]byte{1, 0}) == 1

func (c *fixed[T]) encode(dst []byte, from, to int) []byte {
	v := c.v[from:to]
	if len(v) == 0 {
		return dst
	}
	if littleEndian {
		return append(dst, unsafe.Slice((*byte)(unsafe.Pointer(&v[0])), c.size(from, to))...)
	}
	for i := range v {
		switch x := any(v[i]).(type) {
		case [16]byte:
			dst = append(dst, x[:]...)
		default:
			dst, _ = binary.Append(dst, binary.LittleEndian, x)
		}
	}
	return dst
}

// text is a column of type String.
type text struct {
	columnHeader
	v []string
}

func (c *text) add(v string)            { c.v = append(c.v, v) }
func (c *text) rows() int               { return len(c.v) }
func (c *text) values(from, to int) any { return c.v[from:to] }

func (c *text) reset() {
	clear(c.v) // they hold on to the payloads' memory
	c.v = c.v[:0]
}

func (c *text) size(from, to int) int {
	n := 0
	for _, s := range c.v[from:to] {
		n += binary.MaxVarintLen32 + len(s)
	}
	return n
}

func (c *text) encode(dst []byte, from, to int) []byte {
	for _, s := range c.v[from:to] {
		dst = append(binary.AppendUvarint(dst, uint64(len(s))), s...)
	}
	return dst
}

// words is a column of type LowCardinality(String): a dictionary and an index into it.
type words struct {
	columnHeader
	dict  []string // dict[0] is the default, ""
	index map[string]uint32
	v     []uint32
	last  uint32 // of the word added last: neighbours are alike
}

func (c *words) add(s string) { c.v = append(c.v, c.code(s)) }

func (c *words) code(s string) uint32 {
	if len(c.dict) == 0 {
		if c.index == nil {
			c.index = make(map[string]uint32)
		}
		c.dict, c.index[""] = append(c.dict, ""), 0
	}
	if c.dict[c.last] == s {
		return c.last
	}
	code, ok := c.index[s]
	if !ok {
		code = uint32(len(c.dict))
		c.dict, c.index[s] = append(c.dict, s), code
	}
	c.last = code
	return code
}

func (c *words) rows() int { return len(c.v) }

func (c *words) reset() {
	clear(c.dict)
	clear(c.index)
	c.dict, c.v, c.last = c.dict[:0], c.v[:0], 0
}

func (c *words) values(from, to int) any {
	out := make([]string, 0, to-from)
	for _, code := range c.v[from:to] {
		out = append(out, c.dict[code])
	}
	return out
}

func (c *words) size(from, to int) int {
	n := 40 + 4*(to-from)
	for _, s := range c.dict {
		n += binary.MaxVarintLen32 + len(s)
	}
	return n
}

// Flags of the keys of a LowCardinality column: a dictionary of its own comes with the block, and replaces any before it.
const (
	lowCardinalityVersion = 1
	lowCardinalityFlags   = 1<<9 | 1<<10
)

func (c *words) encode(dst []byte, from, to int) []byte {
	return c.body(binary.LittleEndian.AppendUint64(dst, lowCardinalityVersion), from, to)
}

// body is the column without the version in front of it, which goes in front of the lengths where the column is one of arrays.
func (c *words) body(dst []byte, from, to int) []byte {
	if from == to {
		return dst
	}
	width := uint64(2)
	switch {
	case len(c.dict) <= 1<<8:
		width = 0
	case len(c.dict) <= 1<<16:
		width = 1
	}
	dst = binary.LittleEndian.AppendUint64(dst, lowCardinalityFlags|width)
	dst = binary.LittleEndian.AppendUint64(dst, uint64(len(c.dict)))
	for _, s := range c.dict {
		dst = append(binary.AppendUvarint(dst, uint64(len(s))), s...)
	}
	dst = binary.LittleEndian.AppendUint64(dst, uint64(to-from))
	for _, code := range c.v[from:to] {
		switch width {
		case 0:
			dst = append(dst, byte(code))
		case 1:
			dst = binary.LittleEndian.AppendUint16(dst, uint16(code))
		default:
			dst = binary.LittleEndian.AppendUint32(dst, code)
		}
	}
	return dst
}

// wordLists is a column of type Array(LowCardinality(String)).
type wordLists struct {
	columnHeader
	ends []uint64 // of the lists in words
	words
}

func (c *wordLists) header() *columnHeader { return &c.columnHeader }
func (c *wordLists) rows() int             { return len(c.ends) }

func (c *wordLists) add(list []string) {
	for _, s := range list {
		c.words.add(s)
	}
	c.ends = append(c.ends, uint64(len(c.words.v)))
}

func (c *wordLists) reset() {
	c.ends = c.ends[:0]
	c.words.reset()
}

func (c *wordLists) span(from, to int) (first, last int) {
	at := func(i int) int {
		if i == 0 {
			return 0
		}
		return int(c.ends[i-1])
	}
	return at(from), at(to)
}

func (c *wordLists) values(from, to int) any {
	out := make([][]string, 0, to-from)
	for i := from; i < to; i++ {
		first, last := c.span(i, i+1)
		out = append(out, c.words.values(first, last).([]string))
	}
	return out
}

func (c *wordLists) size(from, to int) int {
	first, last := c.span(from, to)
	return 8 + 8*(to-from) + c.words.size(first, last)
}

func (c *wordLists) encode(dst []byte, from, to int) []byte {
	first, last := c.span(from, to)
	dst = binary.LittleEndian.AppendUint64(dst, lowCardinalityVersion)
	for _, end := range c.ends[from:to] {
		dst = binary.LittleEndian.AppendUint64(dst, end-uint64(first))
	}
	return c.words.body(dst, first, last)
}

// histogram is a column of type Array(UInt32) whose arrays all have the length of the lag histogram.
type histogram struct {
	columnHeader
	v [][histogramLen]uint32
}

const histogramLen = len(fold.LagBounds) + 1

func (c *histogram) add(h *[histogramLen]uint32) { c.v = append(c.v, *h) }
func (c *histogram) rows() int                   { return len(c.v) }
func (c *histogram) reset()                      { c.v = c.v[:0] }

func (c *histogram) values(from, to int) any {
	out := make([][]uint32, 0, to-from)
	for i := from; i < to; i++ {
		out = append(out, c.v[i][:])
	}
	return out
}

func (c *histogram) size(from, to int) int { return (8 + 4*histogramLen) * (to - from) }

func (c *histogram) encode(dst []byte, from, to int) []byte {
	for i := range c.v[from:to] {
		dst = binary.LittleEndian.AppendUint64(dst, uint64((i+1)*histogramLen))
	}
	for i := range c.v[from:to] {
		for _, n := range &c.v[from+i] {
			dst = binary.LittleEndian.AppendUint32(dst, n)
		}
	}
	return dst
}

// appendBlock appends rows from..to of the columns as one block of format Native.
func appendBlock(dst []byte, columns []column, from, to int) []byte {
	dst = binary.AppendUvarint(dst, uint64(len(columns)))
	dst = binary.AppendUvarint(dst, uint64(to-from))
	for _, c := range columns {
		h := c.header()
		for _, s := range [...]string{h.name, h.kind} {
			dst = append(binary.AppendUvarint(dst, uint64(len(s))), s...)
		}
		dst = c.encode(dst, from, to)
	}
	return dst
}

func blockSizeOf(columns []column, from, to int) int {
	n := 20
	for _, c := range columns {
		h := c.header()
		n += 10 + len(h.name) + len(h.kind) + c.size(from, to)
	}
	return n
}
