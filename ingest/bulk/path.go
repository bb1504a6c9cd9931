package bulk

import (
	"bytes"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"unicode/utf8"
)

// path leads from a record to its id, one segment a level.
type path []segment

type segment struct {
	name  []byte
	index int // the same segment read as a position in an array, or -1
}

// parsePath reads the two spellings of an id field: a JSON Pointer (RFC 6901) when it begins with a slash, else member names
// joined by dots. A member whose own name holds a dot or begins with a slash is reached by a pointer.
func parsePath(field string) (path, error) {
	if field == "" {
		return nil, errors.New("id field is empty")
	}
	if !utf8.ValidString(field) {
		return nil, fmt.Errorf("id field %q is not UTF-8", field)
	}
	pointer := strings.HasPrefix(field, "/")
	sep := "."
	if pointer {
		field, sep = field[1:], "/"
	}
	var p path
	for name := range strings.SplitSeq(field, sep) {
		switch {
		case pointer:
			var err error
			if name, err = unescapePointer(name); err != nil {
				return nil, err
			}
		case name == "":
			return nil, fmt.Errorf("id field %q has an empty member name", field)
		}
		p = append(p, segment{name: []byte(name), index: arrayIndex(name)})
	}
	return p, nil
}

func unescapePointer(s string) (string, error) {
	for i := 0; i < len(s); i++ {
		if s[i] == '~' && (i+1 == len(s) || s[i+1] != '0' && s[i+1] != '1') {
			return "", fmt.Errorf("id field: in a JSON Pointer ~ is followed by 0 or 1, not in %q", s)
		}
	}
	// The order matters: ~01 is the name "~1", not a slash.
	return strings.ReplaceAll(strings.ReplaceAll(s, "~1", "/"), "~0", "~"), nil
}

// arrayIndex is the position that a segment names in an array, or -1: RFC 6901 allows no sign and no leading zero.
func arrayIndex(s string) int {
	n, err := strconv.Atoi(s)
	if err != nil || n < 0 || strconv.Itoa(n) != s {
		return -1
	}
	return n
}

// is tells whether a member name, given as the bytes between its quotes, is this segment.
func (g segment) is(raw []byte) bool {
	if bytes.IndexByte(raw, '\\') < 0 {
		return bytes.Equal(raw, g.name)
	}
	name, ok := unescape(nil, raw)
	return ok && bytes.Equal(name, g.name)
}
