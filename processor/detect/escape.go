package detect

import "unicode/utf8"

const hexDigits = "0123456789abcdef"

// escape reads the escape sequence at src[i] and writes its canonical text at out[w], which is that of RFC 8785,
// section 3.2.2.2: a two-character escape where there is one, \u00xx in lower case for the other control characters,
// and the character itself in every other case. RFC 8785 has no text for a lone surrogate, which JavaScript makes by
// cutting a string in the middle of an emoji. It stays an escape, \udxxx in lower case, as JSON.stringify writes it.
func (d *Detector) escape(i, w int) (int, int) {
	src, out := d.src, d.out
	d.escapes++
	switch c := src[i+1]; c {
	case '"', '\\', 'b', 'f', 'n', 'r', 't':
		out[w], out[w+1] = '\\', c
		return i + 2, w + 2
	case '/':
		out[w] = '/'
		return i + 2, w + 1
	case 'u':
	default:
		return d.refuse(i+1, "unknown escape")
	}
	r, n := codePoint(src[i:])
	switch {
	case n == 0:
		return d.refuse(i+2, "expected four hexadecimal digits")
	case r < utf8.RuneSelf && canonicalEscapes[r] != "":
		return i + n, w + copy(out[w:], canonicalEscapes[r])
	case isSurrogate(r):
		out[w], out[w+1] = '\\', 'u'
		for k := range 4 {
			out[w+2+k] = hexDigits[r>>(12-4*k)&0xF]
		}
		return i + n, w + 6
	}
	return i + n, w + utf8.EncodeRune(out[w:], r)
}

// canonicalEscapes holds the escape of each ASCII character that is not written as it is.
var canonicalEscapes = func() (t [utf8.RuneSelf]string) {
	for c := range byte(' ') {
		t[c] = `\u00` + string([]byte{hexDigits[c>>4], hexDigits[c&0xF]})
	}
	t['\b'], t['\t'], t['\n'], t['\f'], t['\r'] = `\b`, `\t`, `\n`, `\f`, `\r`
	t['"'], t['\\'] = `\"`, `\\`
	return t
}()

// codePoint reads the escape \uxxxx, or two of them that are a surrogate pair, at the start of b. It returns what is
// meant and the number of bytes read; 0 if b has no such escape.
func codePoint(b []byte) (rune, int) {
	r := hex4(b)
	if r < 0 {
		return 0, 0
	}
	if r>>10 == 0xD800>>10 {
		if low := hex4(b[6:]); low>>10 == 0xDC00>>10 {
			return 0x10000 + (r-0xD800)<<10 + (low - 0xDC00), 12
		}
	}
	return r, 6
}

// hex4 returns the code unit that \uxxxx at the start of b stands for, or -1.
func hex4(b []byte) rune {
	if len(b) < 6 || b[0] != '\\' || b[1] != 'u' {
		return -1
	}
	r := rune(0)
	for _, c := range b[2:6] {
		switch {
		case c-'0' <= 9:
			c -= '0'
		case c|0x20-'a' < 6:
			c = c | 0x20 - 'a' + 10
		default:
			return -1
		}
		r = r<<4 | rune(c)
	}
	return r
}

func isSurrogate(r rune) bool { return r>>11 == 0xD800>>11 }

// unescape writes to dst what a valid string with the text s means, and returns its length, which is no more than
// that of s. It reports false for a lone surrogate, which has no UTF-8.
func unescape(dst, s []byte) (int, bool) {
	w := 0
	for i := 0; i < len(s); {
		c, n := s[i], 1
		if c == '\\' {
			c, n = s[i+1], 2
			switch c {
			case 'b':
				c = '\b'
			case 'f':
				c = '\f'
			case 'n':
				c = '\n'
			case 'r':
				c = '\r'
			case 't':
				c = '\t'
			case 'u':
				r, n := codePoint(s[i:])
				if isSurrogate(r) {
					return 0, false
				}
				i += n
				w += utf8.EncodeRune(dst[w:], r)
				continue
			}
		}
		dst[w] = c
		i += n
		w++
	}
	return w, true
}
