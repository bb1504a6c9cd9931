package detect

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode/utf16"
	"unicode/utf8"

	"github.com/zeebo/xxh3"
)

// This file says a second time, slowly and by other means, what Scan, Changed and Merge have to find: encoding/json
// reads, the tree is changed, and a canonicaliser of its own writes.

// hexEscape finds escapes one after the other, so that a backslash that is escaped itself does not begin one.
var hexEscape = regexp.MustCompile(`(?i)\\u[0-9a-f]{4}|\\.`)

// protect replaces the escapes of lone surrogates, which encoding/json would turn into U+FFFD, by mark and four
// digits.
func protect(payload, mark string) string {
	var out strings.Builder
	at := 0
	unit := func(m []int) int64 {
		u, err := strconv.ParseUint(payload[min(m[0]+2, m[1]):m[1]], 16, 16)
		if err != nil || m[1]-m[0] != 6 {
			return -1
		}
		return int64(u)
	}
	ms := hexEscape.FindAllStringIndex(payload, -1)
	for k := 0; k < len(ms); k++ {
		m, u := ms[k], unit(ms[k])
		if u < 0xD800 || u > 0xDFFF {
			continue
		}
		if u < 0xDC00 && k+1 < len(ms) && ms[k+1][0] == m[1] {
			if low := unit(ms[k+1]); low >= 0xDC00 && low <= 0xDFFF {
				k++
				continue
			}
		}
		fmt.Fprintf(&out, "%s%s%04x", payload[at:m[0]], mark, u)
		at = m[1]
	}
	return out.String() + payload[at:]
}

// reference is what the tests compare a Result with.
type reference struct {
	tree  map[string]any
	mark  string
	names []string
	text  string            // canonical
	value map[string]string // canonical text by top-level name
}

// refer reads a payload the slow way. kind is nil, or the error that Scan has to give.
func refer(payload []byte, ignore []string) (ref reference, kind error) {
	var v any
	if !json.Valid(payload) || !utf8.Valid(payload) {
		return ref, ErrInvalidJSON
	}
	ref.mark = "\ue000lone\ue000"
	for bytes.Contains(payload, []byte(ref.mark)) {
		ref.mark += "\ue000"
	}
	dec := json.NewDecoder(strings.NewReader(protect(string(payload), ref.mark)))
	dec.UseNumber()
	if err := dec.Decode(&v); err != nil {
		panic(err)
	}
	// A name that a later one replaces is gone from v but not from the payload.
	if nameWithMark(string(payload), ref.mark) {
		return ref, ErrInvalidJSON
	}
	tree, ok := v.(map[string]any)
	if !ok {
		return ref, ErrNotObject
	}
	for _, p := range ignore {
		segments, err := parsePointer(p)
		if err != nil {
			panic(err)
		}
		markIgnored(tree, segments)
	}
	ref.tree = withoutIgnored(tree).(map[string]any)
	ref.value = map[string]string{}
	for name, v := range ref.tree {
		ref.value[name] = ref.canonical(v)
	}
	ref.names = sortedNames(ref.tree)
	ref.text = ref.canonical(ref.tree)
	return ref, nil
}

func nameWithMark(payload, mark string) bool {
	dec := json.NewDecoder(strings.NewReader(protect(payload, mark)))
	type level struct{ object, value bool }
	var open []level
	for {
		t, err := dec.Token()
		if err != nil {
			return false
		}
		var top *level
		if len(open) > 0 {
			top = &open[len(open)-1]
		}
		if d, ok := t.(json.Delim); ok {
			if d == '}' || d == ']' {
				open = open[:len(open)-1]
				continue
			}
			if top != nil {
				top.value = false
			}
			open = append(open, level{object: d == '{'})
			continue
		}
		if top != nil && top.object && !top.value {
			if strings.Contains(t.(string), mark) {
				return true
			}
			top.value = true
		} else if top != nil {
			top.value = false
		}
	}
}

// ignored stands in the place of what is removed until all pointers have been followed.
type ignored struct{}

func markIgnored(v any, segments []string) {
	matches := func(name string) bool { return segments[0] == "*" || segments[0] == name }
	switch v := v.(type) {
	case map[string]any:
		for name := range v {
			if !matches(name) {
			} else if len(segments) == 1 {
				v[name] = ignored{}
			} else {
				markIgnored(v[name], segments[1:])
			}
		}
	case []any:
		for k := range v {
			if !matches(strconv.Itoa(k)) {
			} else if len(segments) == 1 {
				v[k] = ignored{}
			} else {
				markIgnored(v[k], segments[1:])
			}
		}
	}
}

func withoutIgnored(v any) any {
	switch v := v.(type) {
	case map[string]any:
		maps.DeleteFunc(v, func(_ string, v any) bool { return v == any(ignored{}) })
		for name := range v {
			v[name] = withoutIgnored(v[name])
		}
	case []any:
		kept := []any{}
		for _, e := range v {
			if _, gone := e.(ignored); !gone {
				kept = append(kept, withoutIgnored(e))
			}
		}
		return kept
	}
	return v
}

func sortedNames(m map[string]any) []string {
	return slices.SortedFunc(maps.Keys(m), func(a, b string) int {
		return slices.Compare(utf16.Encode([]rune(a)), utf16.Encode([]rune(b)))
	})
}

func (ref reference) canonical(v any) string {
	switch v := v.(type) {
	case nil:
		return "null"
	case bool:
		return strconv.FormatBool(v)
	case json.Number:
		return v.String()
	case string:
		return ref.quote(v)
	case []any:
		var parts []string
		for _, e := range v {
			parts = append(parts, ref.canonical(e))
		}
		return "[" + strings.Join(parts, ",") + "]"
	case map[string]any:
		var parts []string
		for _, name := range sortedNames(v) {
			parts = append(parts, ref.quote(name)+":"+ref.canonical(v[name]))
		}
		return "{" + strings.Join(parts, ",") + "}"
	}
	panic(fmt.Sprintf("%T", v))
}

func (ref reference) quote(s string) string {
	var b strings.Builder
	b.WriteByte('"')
	for _, r := range s {
		switch r {
		case '"', '\\':
			b.WriteString(`\` + string(r))
		case '\b':
			b.WriteString(`\b`)
		case '\f':
			b.WriteString(`\f`)
		case '\n':
			b.WriteString(`\n`)
		case '\r':
			b.WriteString(`\r`)
		case '\t':
			b.WriteString(`\t`)
		default:
			if r < ' ' {
				fmt.Fprintf(&b, `\u%04x`, r)
			} else {
				b.WriteRune(r)
			}
		}
	}
	b.WriteByte('"')
	return strings.ReplaceAll(b.String(), ref.mark, `\u`)
}

// check compares a scan with the reference and says what is wrong, or nothing.
func (ref reference) check(got Result) string {
	names := make([]string, 0, len(got.Names))
	for _, n := range got.Names {
		names = append(names, string(n))
	}
	if !slices.Equal(names, ref.names) {
		return fmt.Sprintf("names %q, want %q", names, ref.names)
	}
	if want := Hash(xxh3.HashString128(ref.text).Bytes()); got.Hash != want {
		return fmt.Sprintf("hash %x, want %x of %s", got.Hash, want, ref.text)
	}
	if len(got.Fields) != len(names) {
		return fmt.Sprintf("%d fields, %d names", len(got.Fields), len(names))
	}
	for k, name := range names {
		if want := max(1, uint32(xxh3.HashString(ref.value[name]))&0xFFFFFF); got.Fields[k] != want {
			return fmt.Sprintf("field %q %x, want %x of %s", name, got.Fields[k], want, ref.value[name])
		}
	}
	if got.Shape == 0 {
		return "shape 0"
	}
	return ""
}

// diff names the top-level members that differ.
func (ref reference) diff(later reference) []string {
	all := maps.Clone(ref.tree)
	maps.Copy(all, later.tree)
	return slices.DeleteFunc(sortedNames(all), func(name string) bool {
		before, had := ref.value[name]
		after, has := later.value[name]
		return had == has && before == after
	})
}

// merged is the reference for Merge without anything to remove.
func merged(stored, partial any) any {
	s, ok := stored.(map[string]any)
	p, also := partial.(map[string]any)
	if !ok || !also {
		return partial
	}
	out := maps.Clone(s)
	for name, v := range p {
		if old, had := out[name]; had {
			out[name] = merged(old, v)
		} else {
			out[name] = v
		}
	}
	return out
}
