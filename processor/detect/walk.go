package detect

import "bytes"

// walker finds its way in text that is known to be valid JSON.
type walker struct {
	// entries is a stack: members and elements of the objects and arrays being walked through, those inside behind those
	// around them. What members and elements return is the top of it; it stays good when the stack grows.
	entries []entry
	names   []byte // unescaped
}

// entry is a member of an object, or an element of an array, by offsets in the text of either. It holds no pointers,
// because it would hold on to payloads in a pool.
type entry struct {
	start, value, end int // of `"name": value`, of the value, and behind it
	name, nameEnd     int // without quotes; in names if escaped
	escaped           bool
	match             int // see merger.match
}

// entriesRetained and namesRetained are what a walker keeps for the next use, in number and in bytes.
const (
	entriesRetained = 4096
	namesRetained   = 64 << 10
)

// reset makes the walker ready for other text. It reports false if it has grown too large to be worth keeping.
func (w *walker) reset() bool {
	w.entries, w.names = w.entries[:0], w.names[:0]
	return cap(w.entries) <= entriesRetained && cap(w.names) <= namesRetained
}

// members returns the members of an object in their order.
func (w *walker) members(text []byte) []entry {
	base := len(w.entries)
	i := skipSpace(text, 1)
	for text[i] != '}' {
		e := entry{start: i, name: i + 1}
		i = stringEnd(text, i)
		e.nameEnd = i - 1
		if spelled := text[e.name:e.nameEnd]; bytes.IndexByte(spelled, '\\') >= 0 {
			w.names = append(w.names, spelled...)
			e.escaped = true
			e.name = len(w.names) - len(spelled)
			n, _ := unescape(w.names[e.name:], spelled) // a valid name has no lone surrogates
			e.nameEnd = e.name + n
		}
		i = skipSpace(text, i) // to the colon
		e.value = skipSpace(text, i+1)
		e.end = valueEnd(text, e.value)
		w.entries = append(w.entries, e)
		if i = skipSpace(text, e.end); text[i] == ',' {
			i = skipSpace(text, i+1)
		}
	}
	return w.entries[base:]
}

// elements returns the elements of an array in their order.
func (w *walker) elements(text []byte) []entry {
	base := len(w.entries)
	i := skipSpace(text, 1)
	for text[i] != ']' {
		e := entry{start: i, value: i, end: valueEnd(text, i)}
		w.entries = append(w.entries, e)
		if i = skipSpace(text, e.end); text[i] == ',' {
			i = skipSpace(text, i+1)
		}
	}
	return w.entries[base:]
}

// name returns the unescaped name of a member of the object text.
func (w *walker) name(text []byte, e *entry) []byte {
	if e.escaped {
		text = w.names
	}
	return text[e.name:e.nameEnd]
}

// stringEnd returns the offset behind the string that begins at text[i].
func stringEnd(text []byte, i int) int {
	for {
		i++
		i += bytes.IndexByte(text[i:], '"')
		backslashes := 0
		for text[i-1-backslashes] == '\\' {
			backslashes++
		}
		if backslashes&1 == 0 {
			return i + 1
		}
	}
}

// valueEnd returns the offset behind the value that begins at text[i]. Numbers and words end before a delimiter, which
// follows every value inside an object or array.
func valueEnd(text []byte, i int) int {
	switch text[i] {
	case '"':
		return stringEnd(text, i)
	case '{', '[':
		for depth := 0; ; {
			switch text[i] {
			case '"':
				i = stringEnd(text, i)
				continue
			case '{', '[':
				depth++
			case '}', ']':
				depth--
			}
			i++
			if depth == 0 {
				return i
			}
		}
	}
	for {
		switch text[i] {
		case ',', '}', ']', ' ', '\n', '\r', '\t':
			return i
		}
		i++
	}
}
