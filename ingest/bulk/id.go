package bulk

import (
	"bytes"
	"fmt"
	"unicode/utf16"
	"unicode/utf8"
)

// idBytesMax bounds an id after normalising; it is part of the Kafka key of every change of the record.
const idBytesMax = 512

// normaliseID turns the JSON text of the id member into the id: a string stands for its characters, a number for its literal
// text. So 1 and "1" are one id, 1 and 1.0 are two, and no number is ever rounded. scratch is reused for ids with escapes.
// The result aliases text or scratch. On refusal the id is nil, and code and detail say why.
func normaliseID(scratch, text []byte) (id []byte, code, detail string) {
	if len(text) == 0 {
		return nil, CodeMissingID, "is absent"
	}
	switch c := text[0]; {
	case c == '"':
		id = text[1 : len(text)-1]
		if bytes.IndexByte(id, '\\') >= 0 {
			var ok bool
			if id, ok = unescape(scratch[:0], id); !ok {
				return nil, CodeInvalidID, "holds half of a surrogate pair, which stands for no character"
			}
		}
		if bytes.IndexByte(id, 0) >= 0 {
			return nil, CodeInvalidID, "holds the character NUL"
		}
	case c == '-' || digit(c):
		id = text
	case c == 'n':
		return nil, CodeMissingID, "is null"
	default:
		return nil, CodeInvalidID, fmt.Sprintf("is %s, not a string or a number", kind(c))
	}
	switch {
	case len(id) == 0:
		return nil, CodeInvalidID, "is the empty string"
	case len(id) > idBytesMax:
		return nil, CodeInvalidID, fmt.Sprintf("has %d bytes, an id has at most %d", len(id), idBytesMax)
	}
	return id, "", ""
}

// kind names a JSON value by its first byte.
func kind(c byte) string {
	switch c {
	case '{':
		return "an object"
	case '[':
		return "an array"
	case '"':
		return "a string"
	case 't', 'f':
		return "a boolean"
	case 'n':
		return "null"
	default:
		return "a number"
	}
}

// unescape appends the characters of a scanned string (its bytes between the quotes) to dst. It gives false for \u escapes that
// are half of a surrogate pair: they have no UTF-8 form, and a replacement character would make different ids one.
func unescape(dst, raw []byte) ([]byte, bool) {
	for {
		n := bytes.IndexByte(raw, '\\')
		if n < 0 {
			return append(dst, raw...), true
		}
		dst = append(dst, raw[:n]...)
		c := raw[n+1]
		raw = raw[n+2:]
		switch c {
		case 'b':
			dst = append(dst, '\b')
		case 'f':
			dst = append(dst, '\f')
		case 'n':
			dst = append(dst, '\n')
		case 'r':
			dst = append(dst, '\r')
		case 't':
			dst = append(dst, '\t')
		case 'u':
			r := hex4(raw)
			raw = raw[4:]
			if utf16.IsSurrogate(r) {
				if len(raw) < 6 || raw[0] != '\\' || raw[1] != 'u' {
					return dst, false
				}
				if r = utf16.DecodeRune(r, hex4(raw[2:])); r == utf8.RuneError {
					return dst, false
				}
				raw = raw[6:]
			}
			dst = utf8.AppendRune(dst, r)
		default: // a quote, a backslash or a slash stands for itself
			dst = append(dst, c)
		}
	}
}

// hex4 reads four hexadecimal digits that the scanner has seen.
func hex4(b []byte) rune {
	var r rune
	for _, c := range b[:4] {
		d, _ := hexDigit(c)
		r = r<<4 | rune(d)
	}
	return r
}

func hexDigit(c byte) (byte, bool) {
	switch {
	case digit(c):
		return c - '0', true
	case c|0x20 >= 'a' && c|0x20 <= 'f':
		return c | 0x20 - 'a' + 10, true
	}
	return 0, false
}
