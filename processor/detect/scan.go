package detect

import (
	"fmt"
	"math/bits"
	"slices"
)

// The functions in this file read one production of the JSON grammar (RFC 8259) at src[i] and write its canonical text
// at out[w]. They return the positions after both, or a negative i if the payload is refused, and then d.err says why.
//
// Canonical text is never longer than what it was read from, so w stays at most one comma ahead of i, and out needs
// no growth. The zeros behind the payload end every loop: no bound is checked for the sake of the grammar.

// value reads any value. p is its place and may be nil unless the value is an object or array.
func (d *Detector) value(i, w, depth int, p *place) (int, int) {
	switch c := d.src[i]; c {
	case '"':
		d.out[w] = '"'
		return d.text(i+1, w+1)
	case '{':
		return d.object(i, w, depth, p)
	case '[':
		return d.array(i, w, depth, p)
	case 't':
		return d.literal(i, w, "true")
	case 'f':
		return d.literal(i, w, "false")
	case 'n':
		return d.literal(i, w, "null")
	default:
		if c == '-' || c-'0' <= 9 {
			return d.number(i, w)
		}
		return d.refuse(i, "expected a value")
	}
}

func (d *Detector) literal(i, w int, word string) (int, int) {
	if string(d.src[i:i+len(word)]) != word {
		return d.refuse(i, "unknown word")
	}
	copy(d.out[w:], word)
	return i + len(word), w + len(word)
}

// number reads a number, whose text stays as it is: 1, 1.0 and 1e0 are three values.
func (d *Detector) number(i, w int) (int, int) {
	src, out := d.src, d.out
	if src[i] == '-' {
		out[w] = '-'
		i, w = i+1, w+1
	}
	first, start := src[i], i
	if i, w = digits(src, out, i, w); i == start {
		return d.refuse(i, "expected a digit")
	}
	if first == '0' && i > start+1 {
		return d.refuse(start+1, "digit after a leading zero")
	}
	if src[i] == '.' {
		i, w = i+1, w+1
		start = i
		if i, w = digits(src, out, i, w); i == start {
			return d.refuse(i, "expected a digit")
		}
	}
	if c := src[i]; c == 'e' || c == 'E' {
		i, w = i+1, w+1
		if c := src[i]; c == '+' || c == '-' {
			out[w] = c
			i, w = i+1, w+1
		}
		start = i
		if i, w = digits(src, out, i, w); i == start {
			return d.refuse(i, "expected a digit")
		}
	}
	return i, w
}

// digits reads as many digits as there are. The byte after them is copied too: number relies on that for '.' and 'e'.
func digits(src, out []byte, i, w int) (int, int) {
	for {
		x := load(src, i)
		store(out, w, x)
		if m := nonDigits(x); m != 0 {
			k := bits.TrailingZeros64(m) >> 3
			return i + k, w + k
		}
		i, w = i+8, w+8
	}
}

// text reads a string, whose opening quote is already behind i and w.
func (d *Detector) text(i, w int) (int, int) {
	src, out := d.src, d.out
	wide := uint64(0)
	for {
		x := load(src, i)
		store(out, w, x)
		wide |= x
		m := stops(x)
		if m == 0 {
			i, w = i+8, w+8
			continue
		}
		k := bits.TrailingZeros64(m) >> 3
		i, w = i+k, w+k
		switch src[i] {
		case '"':
			d.wide |= wide
			return i + 1, w + 1
		case '\\':
			if i, w = d.escape(i, w); i < 0 {
				return i, w
			}
		default:
			return d.refuse(i, "control character in a string")
		}
	}
}

func (d *Detector) array(i, w, depth int, p *place) (int, int) {
	if depth > MaxDepth {
		return d.refuseAs(ErrTooDeep, i, tooDeep)
	}
	src, out := d.src, d.out
	out[w] = '['
	i, w = skipSpace(src, i+1), w+1
	if src[i] == ']' {
		out[w] = ']'
		return i + 1, w + 1
	}
	first := w
	for index := 0; ; index++ {
		start := w
		var below *place
		if c := src[i]; c == '{' || c == '[' {
			below = d.element(p, index)
		}
		if i, w = d.value(i, w, depth+1, below); i < 0 {
			return i, w
		}
		if p.ignore != nil && p.ignore.element(index).removes() {
			w = start
		} else {
			out[w] = ','
			w++
		}
		i = skipSpace(src, i)
		c := src[i]
		if c == ']' {
			break
		}
		if c != ',' {
			return d.refuse(i, "expected ',' or ']'")
		}
		i = skipSpace(src, i+1)
	}
	if w > first {
		w-- // the last comma
	}
	out[w] = ']'
	return i + 1, w + 1
}

// object reads an object below the top level.
func (d *Detector) object(i, w, depth int, p *place) (int, int) {
	base := len(d.members)
	d.out[w] = '{'
	w++
	first := w
	i, w, r := d.body(i, w, depth, p)
	if i < 0 {
		return i, w
	}
	if order := d.sequence(p, base, r); !inOrder(order) {
		end := d.gather(0, base, order)
		w = first + copy(d.out[first:], d.fin[:end])
	}
	d.members = d.members[:base]
	d.out[w] = '}'
	return i, w + 1
}

// tooDeep is the reason that goes with ErrTooDeep.
var tooDeep = fmt.Sprintf("more than %d levels", MaxDepth)

// read is what is known of an object once it has been read.
type read struct {
	names    int  // in the payload, the ignored ones too
	known    bool // to the place, all that are not ignored
	expected bool // all of them, each where it was
}

// body reads an object from its opening brace on, which is not written, to its closing brace, which is not written
// either. It pushes the members that are not ignored to d.members, and writes them as they come, with commas between.
func (d *Detector) body(i, w, depth int, p *place) (int, int, read) {
	if depth > MaxDepth {
		i, w = d.refuseAs(ErrTooDeep, i, tooDeep)
		return i, w, read{}
	}
	src, out := d.src, d.out
	r := read{known: true, expected: true}
	i = skipSpace(src, i+1)
	if src[i] == '}' {
		return i + 1, w, r
	}
	first, wide := w, uint64(0)
	last := p.fields[0] // the last known one
	for {
		start := w
		at := d.push()
		r.names++
		f := last.next
		if !f.follows(src, out, i, w) {
			r.expected = false
			f = f.later(src, out, i, w)
		}
		if f != nil {
			i, w = skipSpace(src, i+f.size), w+f.size
			m := &d.members[at]
			m.start = uint32(start)
			m.value = uint32(w)
			last = f
		} else {
			m, escapes := &d.members[at], d.escapes
			if i, w = d.name(i, w, m); i < 0 {
				return i, w, r
			}
			f = p.fields[0]
			if d.escapes == escapes {
				f = d.find(p, d.nameOf(m))
			}
			if f.id != 0 {
				last.next, last = f, f
				p.count = 0
			}
		}
		d.members[at].id = f.id
		remove := f.remove
		if f.id == 0 {
			remove = p.ignore.member(d.nameOf(&d.members[at])).removes()
			r.known = r.known && remove
		}
		switch src[i] {
		case '"':
			// As in text, once more: the call would cost as much as a short string does.
			out[w] = '"'
			i, w = i+1, w+1
			for {
				x := load(src, i)
				store(out, w, x)
				wide |= x
				if m := stops(x); m != 0 {
					k := bits.TrailingZeros64(m) >> 3
					i, w = i+k, w+k
					break
				}
				i, w = i+8, w+8
			}
			if src[i] == '"' {
				i, w = i+1, w+1
			} else if i, w = d.text(i, w); i < 0 {
				return i, w, r
			}
		case '{', '[':
			if i, w = d.value(i, w, depth+1, d.under(p, f, &d.members[at])); i < 0 {
				return i, w, r
			}
		default:
			if i, w = d.value(i, w, depth+1, nil); i < 0 {
				return i, w, r
			}
		}
		if remove {
			w = start
			d.members = d.members[:at]
		} else {
			d.members[at].end = uint32(w)
			out[w] = ','
			w++
		}
		i = skipSpace(src, i)
		c := src[i]
		if c == '}' {
			break
		}
		if c != ',' {
			i, w = d.refuse(i, "expected ',' or '}'")
			return i, w, r
		}
		i = skipSpace(src, i+1)
	}
	if w > first {
		w-- // the last comma
	}
	d.wide |= wide
	return i + 1, w, r
}

// name reads a member name and the colon after it, and sets all of m but id and end.
func (d *Detector) name(i, w int, m *member) (int, int) {
	src, out := d.src, d.out
	if src[i] != '"' {
		return d.refuse(i, "expected a member name")
	}
	start, from, escapes := w, i, d.escapes
	out[w] = '"'
	if i, w = d.text(i+1, w+1); i < 0 {
		return i, w
	}
	m.start = uint32(start)
	m.name, m.nameEnd = uint32(start+1), uint32(w-1)
	if d.escapes != escapes {
		n, ok := unescape(out[d.namesEnd:], out[m.name:m.nameEnd])
		if !ok {
			return d.refuse(from, "lone surrogate in a member name")
		}
		m.name, m.nameEnd = uint32(d.namesEnd), uint32(d.namesEnd+n)
		d.namesEnd += n
	}
	i = skipSpace(src, i)
	if src[i] != ':' {
		return d.refuse(i, "expected ':'")
	}
	out[w] = ':'
	w++
	m.value = uint32(w)
	return skipSpace(src, i+1), w
}

// push makes room for one more member and returns its index. Its fields hold anything.
func (d *Detector) push() int {
	at := len(d.members)
	if at == cap(d.members) {
		d.members = slices.Grow(d.members, 1)
	}
	d.members = d.members[:at+1]
	return at
}

// nameOf returns the unescaped name of a member that name has read.
func (d *Detector) nameOf(m *member) []byte {
	return d.out[m.name:m.nameEnd:m.nameEnd]
}

// gather writes members to fin[f:], in the given order, with commas between, and returns the end.
func (d *Detector) gather(f, base int, order []uint32) int {
	out, fin, ms := d.out, d.fin, d.members[base:]
	for n, k := range order {
		if n > 0 {
			fin[f] = ','
			f++
		}
		m := &ms[k]
		f += copy(fin[f:], out[m.start:m.end])
	}
	return f
}

// skipSpace is small enough to be inlined, and most payloads have no space to skip.
func skipSpace(src []byte, i int) int {
	if src[i] > ' ' {
		return i
	}
	return skipSpaces(src, i)
}

func skipSpaces(src []byte, i int) int {
	for {
		switch src[i] {
		case ' ', '\n', '\r', '\t':
			i++
		default:
			return i
		}
	}
}

func (d *Detector) refuse(i int, reason string) (int, int) {
	if i >= d.size {
		i, reason = d.size, "unexpected end"
	}
	return d.refuseAs(ErrInvalidJSON, i, reason)
}

func (d *Detector) refuseAs(kind error, i int, reason string) (int, int) {
	d.err = &PayloadError{Kind: kind, Offset: i, Reason: reason}
	return -1, 0
}
