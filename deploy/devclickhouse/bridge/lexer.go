package bridge

import (
	"bytes"
	"strings"
)

// tokenKind tells tokens apart as far as the bridge has to.
type tokenKind uint8

const (
	tokenEnd    tokenKind = iota
	tokenWord             // a bare word or a number
	tokenQuoted           // an identifier in quotes
	tokenString           // a string literal or a heredoc
	tokenPunct            // one byte of anything else
)

// token is src[start:end]. open says that the text ended inside it.
type token struct {
	kind       tokenKind
	start, end int
	open       bool
}

// lexer splits SQL as ClickHouse does (src/Parsers/Lexer.cpp of ClickHouse), without telling operators or numbers apart. Where
// the two may differ it errs towards seeing tokens that the engine does not: the bridge refuses what it sees, so nothing that the
// engine sees may be hidden from it. So comments do not nest, and a zero byte is a token.
type lexer struct {
	src []byte
	pos int
}

var (
	leftSingle, rightSingle = []byte("\u2018"), []byte("\u2019")
	leftDouble, rightDouble = []byte("\u201c"), []byte("\u201d")
)

// next returns the next token, past white space and comments.
func (l *lexer) next() token {
	if open := l.skip(); open {
		return token{kind: tokenEnd, start: l.pos, end: l.pos, open: true}
	}
	start := l.pos
	if start == len(l.src) {
		return token{kind: tokenEnd, start: start, end: start}
	}
	rest := l.src[start:]
	t := token{kind: tokenPunct, start: start}
	switch c := rest[0]; {
	case isWordByte(c):
		t.kind = tokenWord
		for l.pos < len(l.src) && (isWordByte(l.src[l.pos]) || l.src[l.pos] == '$') {
			l.pos++
		}
	case c == '\'':
		t.kind = tokenString
		t.open = !l.quoted(c)
	case c == '"' || c == '`':
		t.kind = tokenQuoted
		t.open = !l.quoted(c)
	case bytes.HasPrefix(rest, leftSingle):
		t.kind = tokenString
		t.open = !l.until(len(leftSingle), rightSingle)
	case bytes.HasPrefix(rest, leftDouble):
		t.kind = tokenQuoted
		t.open = !l.until(len(leftDouble), rightDouble)
	case c == '$' && l.heredoc():
		t.kind = tokenString
	default:
		l.pos++
	}
	t.end = l.pos
	return t
}

func isWordByte(c byte) bool {
	return c == '_' || '0' <= c && c <= '9' || 'a' <= c|0x20 && c|0x20 <= 'z'
}

// skip moves past white space and comments. It reports whether the text ended inside a block comment.
func (l *lexer) skip() (open bool) {
	for l.pos < len(l.src) {
		rest := l.src[l.pos:]
		switch c := rest[0]; {
		case c == ' ' || '\t' <= c && c <= '\r':
			l.pos++
		case bytes.HasPrefix(rest, []byte("--")), bytes.HasPrefix(rest, []byte("#!")), bytes.HasPrefix(rest, []byte("# ")):
			if n := bytes.IndexByte(rest, '\n'); n >= 0 {
				l.pos += n + 1
			} else {
				l.pos = len(l.src)
			}
		case bytes.HasPrefix(rest, []byte("/*")):
			n := bytes.Index(rest[2:], []byte("*/"))
			if n < 0 {
				l.pos = len(l.src)
				return true
			}
			l.pos += n + 4
		default:
			return false
		}
	}
	return false
}

// quoted moves past a literal in quotes, in which a backslash takes the next byte and a doubled quote stands for one. It reports
// whether there was an end.
func (l *lexer) quoted(quote byte) bool {
	for l.pos++; l.pos < len(l.src); l.pos++ {
		switch l.src[l.pos] {
		case '\\':
			l.pos++
		case quote:
			if l.pos+1 < len(l.src) && l.src[l.pos+1] == quote {
				l.pos++
				continue
			}
			l.pos++
			return true
		}
	}
	l.pos = len(l.src)
	return false
}

func (l *lexer) until(skip int, end []byte) bool {
	n := bytes.Index(l.src[l.pos+skip:], end)
	if n < 0 {
		l.pos = len(l.src)
		return false
	}
	l.pos += skip + n + len(end)
	return true
}

// heredoc moves past $tag$ ... $tag$, if that is what is here.
func (l *lexer) heredoc() bool {
	rest := l.src[l.pos:]
	n := 1
	for n < len(rest) && isWordByte(rest[n]) {
		n++
	}
	if n == len(rest) || rest[n] != '$' {
		return false
	}
	tag := rest[:n+1]
	end := bytes.Index(rest[len(tag):], tag)
	if end < 0 {
		return false
	}
	l.pos += 2*len(tag) + end
	return true
}

// is reports whether the token is the keyword, which is in upper case.
func (t token) is(src []byte, keyword string) bool {
	return t.kind == tokenWord && len(keyword) == t.end-t.start && strings.EqualFold(string(src[t.start:t.end]), keyword)
}

func (t token) isAny(src []byte, keywords ...string) bool {
	for _, k := range keywords {
		if t.is(src, k) {
			return true
		}
	}
	return false
}

func (t token) isPunct(src []byte, c byte) bool { return t.kind == tokenPunct && src[t.start] == c }

// name returns the identifier that the token is, out of its quotes, or "".
func (t token) name(src []byte) string {
	text := string(src[t.start:t.end])
	switch {
	case t.kind == tokenWord:
		return text
	case t.kind != tokenQuoted || t.open:
		return ""
	case text[0] != '`' && text[0] != '"':
		return text[len(leftDouble) : len(text)-len(rightDouble)]
	}
	return unescape(text[1:len(text)-1], text[0])
}

// unescape undoes the escapes that an identifier or a string may have.
func unescape(s string, quote byte) string {
	if strings.IndexByte(s, '\\') < 0 && strings.IndexByte(s, quote) < 0 {
		return s
	}
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		c := s[i]
		switch {
		case c == quote: // doubled
			i++
		case c == '\\' && i+1 < len(s):
			i++
			switch c = s[i]; c {
			case 'x':
				if i+2 < len(s) {
					c = unhex(s[i+1])<<4 | unhex(s[i+2])
					i += 2
				}
			case 'n':
				c = '\n'
			case 't':
				c = '\t'
			case 'r':
				c = '\r'
			case '0':
				c = 0
			case 'a':
				c = '\a'
			case 'b':
				c = '\b'
			case 'e':
				c = 0x1b
			case 'f':
				c = '\f'
			case 'v':
				c = '\v'
			}
		}
		b.WriteByte(c)
	}
	return b.String()
}

func unhex(c byte) byte {
	switch {
	case '0' <= c && c <= '9':
		return c - '0'
	case 'a' <= c|0x20 && c|0x20 <= 'f':
		return c | 0x20 - 'a' + 10
	}
	return 0
}
