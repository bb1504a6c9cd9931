package bulk

import (
	"encoding/binary"
	"math/bits"
)

// depthMax bounds the nesting of a record, because the scanner recurses. It is the limit of encoding/json as well, so that a
// record accepted here can be read back by Go programs.
const depthMax = 10_000

// What a scanning function gives instead of the position after the value.
const (
	more = -1 // the bytes end inside the value
	bad  = -2 // the bytes are not JSON; see scanner.at and scanner.why
)

// scanner checks one record at a time against the grammar of RFC 8259 and notes where its id is. It works on one contiguous
// slice and keeps no state between calls: a record that is cut off at the end of the slice is scanned again from its first
// byte when there is more of it. The reader at least doubles the slice in between, so a record costs at most two scans.
//
// UTF-8 is the one rule it leaves to the reader, which checks whole records faster.
type scanner struct {
	path path
	id   span // the id's JSON text; empty when the member is absent

	at  int    // after bad: where
	why string // after bad: what was expected there
}

type span struct{ start, end int }

// record scans the object at b[0], a '{', and gives the position after its '}', or more, or bad.
func (s *scanner) record(b []byte) int {
	s.id = span{}
	return s.object(b, 1, 0, 1)
}

func (s *scanner) reject(at int, why string) int {
	s.at, s.why = at, why
	return bad
}

// object scans from after the '{'. seg is the path segment that its member names are compared with, -1 off the path.
func (s *scanner) object(b []byte, i, seg, depth int) int {
	if depth > depthMax {
		return s.reject(i-1, "at most 10000 levels of nesting")
	}
	if i = space(b, i); i == len(b) {
		return more
	}
	if b[i] == '}' {
		return i + 1
	}
	for {
		if b[i] != '"' {
			return s.reject(i, "a member name in double quotes")
		}
		name := i + 1
		if i = s.text(b, name); i < 0 {
			return i
		}
		onPath := seg >= 0 && s.path[seg].is(b[name:i-1])
		if i = space(b, i); i == len(b) {
			return more
		}
		if b[i] != ':' {
			return s.reject(i, "':' after the member name")
		}
		if i = space(b, i+1); i == len(b) {
			return more
		}
		if onPath {
			i = s.member(b, i, seg, depth)
		} else {
			i = s.value(b, i, depth)
		}
		if i < 0 {
			return i
		}
		if i = space(b, i); i == len(b) {
			return more
		}
		switch b[i] {
		case '}':
			return i + 1
		case ',':
			if i = space(b, i+1); i == len(b) {
				return more
			}
		default:
			return s.reject(i, "',' or '}' after the member")
		}
	}
}

// array scans from after the '['; seg as for object, compared with the elements' positions.
func (s *scanner) array(b []byte, i, seg, depth int) int {
	if depth > depthMax {
		return s.reject(i-1, "at most 10000 levels of nesting")
	}
	if i = space(b, i); i == len(b) {
		return more
	}
	if b[i] == ']' {
		return i + 1
	}
	for n := 0; ; n++ {
		if seg >= 0 && s.path[seg].index == n {
			i = s.member(b, i, seg, depth)
		} else {
			i = s.value(b, i, depth)
		}
		if i < 0 {
			return i
		}
		if i = space(b, i); i == len(b) {
			return more
		}
		switch b[i] {
		case ']':
			return i + 1
		case ',':
			if i = space(b, i+1); i == len(b) {
				return more
			}
		default:
			return s.reject(i, "',' or ']' after the element")
		}
	}
}

// member scans the value at b[i] that segment seg has led to. A name that occurs again in one object replaces what the earlier
// one gave, as in every common JSON reader, even when it leads nowhere.
func (s *scanner) member(b []byte, i, seg, depth int) int {
	s.id = span{}
	if seg == len(s.path)-1 {
		end := s.value(b, i, depth)
		if end > 0 {
			s.id = span{i, end}
		}
		return end
	}
	switch b[i] {
	case '{':
		return s.object(b, i+1, seg+1, depth+1)
	case '[':
		return s.array(b, i+1, seg+1, depth+1)
	default:
		return s.value(b, i, depth)
	}
}

// value scans the value that begins at b[i].
func (s *scanner) value(b []byte, i, depth int) int {
	switch c := b[i]; c {
	case '"':
		return s.text(b, i+1)
	case '{':
		return s.object(b, i+1, -1, depth+1)
	case '[':
		return s.array(b, i+1, -1, depth+1)
	case 't':
		return s.literal(b, i, "true")
	case 'f':
		return s.literal(b, i, "false")
	case 'n':
		return s.literal(b, i, "null")
	default:
		if c == '-' || digit(c) {
			return s.number(b, i)
		}
		return s.reject(i, "a value")
	}
}

const (
	ones  = 0x0101010101010101
	highs = 0x8080808080808080
)

// text scans a string from after its opening quote. Strings are nearly all of real data, so it looks at eight bytes at once
// for a quote, a backslash or a control character: x-ones borrows into the high bit of the lowest byte of x that is zero, and
// &^x drops the bytes whose high bit was set before. Only bytes above a true hit can be set by mistake, so the lowest is exact.
// (Alan Mycroft's zero-byte test; Henry S. Warren, "Hacker's Delight", 6-1.)
func (s *scanner) text(b []byte, i int) int {
	for {
		for len(b)-i >= 8 {
			w := binary.LittleEndian.Uint64(b[i:])
			quote := w ^ ones*'"'
			slash := w ^ ones*'\\'
			hit := ((quote-ones)&^quote | (slash-ones)&^slash | (w-ones*' ')&^w) & highs
			if hit != 0 {
				i += bits.TrailingZeros64(hit) / 8
				break
			}
			i += 8
		}
		if i == len(b) {
			return more
		}
		switch c := b[i]; {
		case c == '"':
			return i + 1
		case c == '\\':
			if i = s.escape(b, i+1); i < 0 {
				return i
			}
		case c < ' ':
			return s.reject(i, "an escape in place of a control character")
		default:
			i++
		}
	}
}

// escape scans from after the backslash.
func (s *scanner) escape(b []byte, i int) int {
	if i == len(b) {
		return more
	}
	switch b[i] {
	case '"', '\\', '/', 'b', 'f', 'n', 'r', 't':
		return i + 1
	case 'u':
		for n := 1; n <= 4; n++ {
			if i+n == len(b) {
				return more
			}
			if _, ok := hexDigit(b[i+n]); !ok {
				return s.reject(i+n, "four hexadecimal digits after \\u")
			}
		}
		return i + 5
	default:
		return s.reject(i, `one of "\/bfnrtu after a backslash`)
	}
}

// number scans a number. A record is an object, so some byte always follows its numbers: the end of b is never theirs.
func (s *scanner) number(b []byte, i int) int {
	if b[i] == '-' {
		i++
	}
	switch {
	case i == len(b):
		return more
	case b[i] == '0':
		i++ // no digit may follow, and what follows is judged by the caller
	case digit(b[i]):
		i = digits(b, i)
	default:
		return s.reject(i, "a digit")
	}
	if i < len(b) && b[i] == '.' {
		if i = s.digits1(b, i+1); i < 0 {
			return i
		}
	}
	if i < len(b) && (b[i] == 'e' || b[i] == 'E') {
		if i++; i < len(b) && (b[i] == '+' || b[i] == '-') {
			i++
		}
		if i = s.digits1(b, i); i < 0 {
			return i
		}
	}
	if i == len(b) {
		return more
	}
	return i
}

func (s *scanner) digits1(b []byte, i int) int {
	if i == len(b) {
		return more
	}
	if !digit(b[i]) {
		return s.reject(i, "a digit")
	}
	return digits(b, i)
}

func (s *scanner) literal(b []byte, i int, want string) int {
	for n := 1; n < len(want); n++ {
		if i+n == len(b) {
			return more
		}
		if b[i+n] != want[n] {
			return s.reject(i+n, want)
		}
	}
	return i + len(want)
}

func digits(b []byte, i int) int {
	for i < len(b) && digit(b[i]) {
		i++
	}
	return i
}

func digit(c byte) bool { return c-'0' <= 9 }

// space gives the position of the first byte from i on that is not JSON white space.
func space(b []byte, i int) int {
	for i < len(b) && isSpace(b[i]) {
		i++
	}
	return i
}

func isSpace(c byte) bool {
	return c <= ' ' && (c == ' ' || c == '\n' || c == '\t' || c == '\r')
}
