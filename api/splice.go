package api

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"math/bits"
)

// Members of a record that are ours. A member of the payload with one of these names gives way, as in the reference product.
const (
	nameID       = "id"
	nameMetadata = "_nango_metadata"
)

type member byte

const (
	other member = iota
	ourID
	ourMetadata
)

// errNotObject means that a stored payload is not a JSON object, which the processor never lets happen.
var errNotObject = errors.New("stored payload is not a JSON object")

// appendMembers appends payload, a JSON object, without its closing brace, so that the caller can add members; the result always
// has one. Member id is idText, a JSON string: in the place of the payload's first member of that name, else at the end. Members
// _nango_metadata are left out. All other bytes are copied as they are: one pass over the top level finds the few that are not,
// values are skipped and not looked into. On a valid object the result is valid; any other input gives errNotObject or an invalid
// result, and never a panic.
func appendMembers(dst, payload, idText []byte) ([]byte, error) {
	p := payload
	i := skipSpace(p, 0)
	if i == len(p) || p[i] != '{' {
		return dst, errNotObject
	}
	dst = append(dst, '{')
	bare := len(dst) // of dst while it has no member

	// Members that stay are copied in runs: p[from:to] is the run that has not been copied yet.
	from, to := -1, 0
	flush := func() {
		if from >= 0 {
			if len(dst) > bare {
				dst = append(dst, ',')
			}
			dst = append(dst, p[from:to]...)
			from = -1
		}
	}
	hasID := false
	i = skipSpace(p, i+1)
	for first := true; ; first = false {
		if i == len(p) {
			return dst, errNotObject
		}
		if first && p[i] == '}' {
			break
		}
		start := i
		if p[i] != '"' {
			return dst, errNotObject
		}
		end := skipString(p, i)
		if end == i {
			return dst, errNotObject
		}
		key := p[start+1 : end-1]
		if i = skipSpace(p, end); i == len(p) || p[i] != ':' {
			return dst, errNotObject
		}
		value := skipSpace(p, i+1)
		if i = skipValue(p, value); i == value {
			return dst, errNotObject
		}
		member := memberOf(key)
		if member == other || (member == ourID && !hasID && bytes.Equal(p[value:i], idText)) {
			if from < 0 {
				from = start
			}
			to = i
		} else {
			flush()
			if member == ourID && !hasID {
				dst = appendID(dst, idText, len(dst) > bare)
			}
		}
		hasID = hasID || member == ourID
		if i = skipSpace(p, i); i == len(p) {
			return dst, errNotObject
		}
		if p[i] == '}' {
			break
		}
		if p[i] != ',' {
			return dst, errNotObject
		}
		i = skipSpace(p, i+1)
	}
	if skipSpace(p, i+1) != len(p) {
		return dst, errNotObject
	}
	flush()
	if !hasID {
		dst = appendID(dst, idText, len(dst) > bare)
	}
	return dst, nil
}

func appendID(dst, idText []byte, comma bool) []byte {
	if comma {
		dst = append(dst, ',')
	}
	dst = append(dst, `"id":`...)
	return append(dst, idText...)
}

// memberOf tells which member key, the text between the quotes, names.
func memberOf(key []byte) member {
	if len(key) < len(nameID) {
		return other
	}
	switch key[0] {
	case nameID[0], nameMetadata[0], '\\':
	default:
		return other
	}
	if bytes.IndexByte(key, '\\') < 0 {
		return memberNamed(string(key))
	}
	// An escape may spell any character: "\u0069d" is id.
	quoted := make([]byte, 0, len(key)+2)
	quoted = append(append(append(quoted, '"'), key...), '"')
	var name string
	if json.Unmarshal(quoted, &name) != nil {
		return other
	}
	return memberNamed(name)
}

func memberNamed(name string) member {
	switch name {
	case nameID:
		return ourID
	case nameMetadata:
		return ourMetadata
	}
	return other
}

func skipSpace(p []byte, i int) int {
	for i < len(p) && (p[i] == ' ' || p[i] == '\n' || p[i] == '\r' || p[i] == '\t') {
		i++
	}
	return i
}

// skipValue returns the index behind the value at p[i], or i if there is no whole value.
func skipValue(p []byte, i int) int {
	if i == len(p) {
		return i
	}
	switch p[i] {
	case '"':
		return skipString(p, i)
	case '{', '[':
		return skipNested(p, i)
	}
	j := i
	for j < len(p) && p[j] != ',' && p[j] != '}' && p[j] > ' ' {
		j++
	}
	return j
}

// skipString returns the index behind the string at p[i], or i if it does not end.
func skipString(p []byte, i int) int {
	for j := i + 1; ; j++ {
		if j = indexQuote(p, j); j == len(p) {
			return i
		}
		if p[j-1] != '\\' {
			return j + 1
		}
		b := j - 2 // an even number of backslashes before the quote leaves it a quote; p[i] ends the loop
		for p[b] == '\\' {
			b--
		}
		if (j-b)%2 == 1 {
			return j + 1
		}
	}
}

// indexQuote returns the index of the first quote in p[j:], or len(p). Keys and most values are short: eight bytes at a time beat
// the call of a vectorised search there, which takes over for the long ones.
func indexQuote(p []byte, j int) int {
	const (
		ones   = 0x0101010101010101
		highs  = ones << 7
		quotes = ones * '"'
		near   = 32
	)
	for q := p[j:min(j+near, len(p))]; len(q) >= 8; q = q[8:] {
		x := binary.LittleEndian.Uint64(q) ^ quotes // a quote is now a zero byte
		if m := (x - ones) &^ x & highs; m != 0 {   // its lowest bit marks the first zero byte
			return j + bits.TrailingZeros64(m)>>3
		}
		j += 8
	}
	if n := bytes.IndexByte(p[j:], '"'); n >= 0 {
		return j + n
	}
	return len(p)
}

// skipNested returns the index behind the object or array at p[i], or i if it does not end.
func skipNested(p []byte, i int) int {
	depth := 0
	for j := i; j < len(p); j++ {
		switch p[j] {
		case '{', '[':
			depth++
		case '}', ']':
			if depth--; depth == 0 {
				return j + 1
			}
		case '"':
			end := skipString(p, j)
			if end == j {
				return i
			}
			j = end - 1
		}
	}
	return i
}

// appendJSONString appends s as a JSON string with the fewest escapes: quote, backslash and control characters.
func appendJSONString[S ~string | ~[]byte](dst []byte, s S) []byte {
	const hex = "0123456789abcdef"
	dst = append(dst, '"')
	from := 0
	for i := 0; i < len(s); i++ {
		c := s[i]
		if c >= ' ' && c != '"' && c != '\\' {
			continue
		}
		dst = append(dst, s[from:i]...)
		if c < ' ' {
			dst = append(dst, '\\', 'u', '0', '0', hex[c>>4], hex[c&15])
		} else {
			dst = append(dst, '\\', c)
		}
		from = i + 1
	}
	dst = append(dst, s[from:]...)
	return append(dst, '"')
}
