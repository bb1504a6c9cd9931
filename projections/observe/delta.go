package observe

import (
	"bytes"
	"encoding/json"
	"errors"
	"strconv"
	"strings"
	"unicode/utf8"
)

// Edit is one difference between two JSON values.
type Edit struct {
	// Path is a JSON Pointer (RFC 6901); "" is the whole. Elements of arrays are compared by index.
	Path string `json:"path"`
	Op   string `json:"op"` // added, removed or changed
	// Old and New are the values, as they were written; absent where there is none, or where it is over a bound of [Limits]: OldBytes and
	// NewBytes tell its size all the same.
	Old      json.RawMessage `json:"old,omitempty"`
	New      json.RawMessage `json:"new,omitempty"`
	OldBytes int             `json:"old_bytes"`
	NewBytes int             `json:"new_bytes"`
}

// Ops of an Edit.
const (
	EditAdded   = "added"
	EditRemoved = "removed"
	EditChanged = "changed"
)

// Delta is the difference between two JSON values. Applied one after the other its edits make the new value of the old one: members
// are in the order of the old object, those that were added behind them in the order of the new one; elements are by rising index, but
// those that were removed come from the last to the first.
type Delta struct {
	Edits []Edit `json:"edits"`
	// Truncated: edits or values were left out, or may have been: what would be behind the last edit is not looked into.
	Truncated bool `json:"truncated"`
}

// Limits bound a [Delta].
type Limits struct {
	Edits      int // edits
	ValueBytes int // of one value, old or new
	TotalBytes int // of all values and paths
}

// LimitsDefault fit an answer over HTTP.
var LimitsDefault = Limits{Edits: 1000, ValueBytes: 16 << 10, TotalBytes: 1 << 20}

const (
	// depthMax is how deep edits reach: what is below is compared as a whole, and the order of its members counts. Each level reads the
	// text once more, so this bounds time.
	depthMax = 64
	// membersMax bounds the members of an object that is looked into, and so memory: a larger one is compared as a whole.
	membersMax = 1 << 16
)

var errNotJSON = errors.New("the payload is not JSON in UTF-8")

// Compare tells how two JSON values differ. Values are equal if they mean the same: neither white space, nor the order of members, nor
// the spelling of strings count; numbers are equal if their text is, as for the detection of changes. Of members with one name the last
// counts.
func Compare(old, new []byte, l Limits) (*Delta, error) {
	if !valid(old) || !valid(new) {
		return nil, errNotJSON
	}
	c := comparer{limits: l, delta: &Delta{Edits: []Edit{}}}
	c.value(bytes.TrimSpace(old), bytes.TrimSpace(new), 0)
	return c.delta, nil
}

func valid(v []byte) bool { return json.Valid(v) && utf8.Valid(v) }

type comparer struct {
	limits Limits
	delta  *Delta
	path   []byte
	bytes  int  // of values and paths so far
	stop   bool // there is no room for more edits
}

// value compares two values without space around them.
func (c *comparer) value(old, new []byte, depth int) {
	if bytes.Equal(old, new) || c.full() {
		return
	}
	switch {
	case old[0] != new[0] && !(isNumber(old) && isNumber(new)):
		c.edit(EditChanged, old, new)
	case depth < depthMax && old[0] == '{':
		c.objects(old, new, depth)
	case depth < depthMax && old[0] == '[':
		c.arrays(old, new, depth)
	case !same(old, new):
		c.edit(EditChanged, old, new)
	}
}

// full reports whether there is no room for another edit, where one may be due: so it is noted.
func (c *comparer) full() bool {
	if len(c.delta.Edits) < c.limits.Edits && c.bytes < c.limits.TotalBytes {
		return false
	}
	c.delta.Truncated, c.stop = true, true
	return true
}

func (c *comparer) edit(op string, old, new []byte) {
	if c.full() {
		return
	}
	c.bytes += len(c.path)
	c.delta.Edits = append(c.delta.Edits, Edit{
		Path: string(c.path), Op: op, Old: c.keep(old), New: c.keep(new), OldBytes: len(old), NewBytes: len(new),
	})
}

// keep copies a value, so that the payload around it can go.
func (c *comparer) keep(v []byte) json.RawMessage {
	if len(v) == 0 {
		return nil
	}
	if len(v) > c.limits.ValueBytes || c.bytes+len(v) > c.limits.TotalBytes {
		c.delta.Truncated = true
		return nil
	}
	c.bytes += len(v)
	return bytes.Clone(v)
}

// at runs fn with the path one segment longer.
func (c *comparer) at(segment string, fn func()) {
	n := len(c.path)
	c.path = append(c.path, '/')
	c.path = append(c.path, pointerEscaper.Replace(segment)...)
	fn()
	c.path = c.path[:n]
}

var pointerEscaper = strings.NewReplacer("~", "~0", "/", "~1")

func (c *comparer) objects(old, new []byte, depth int) {
	before, okOld := membersOf(old)
	after, okNew := membersOf(new)
	if !okOld || !okNew {
		if !same(old, new) {
			c.edit(EditChanged, old, new)
		}
		return
	}
	for _, name := range before.order {
		o := before.values[name]
		n, ok := after.values[name]
		c.at(name, func() {
			if ok {
				c.value(o, n, depth+1)
			} else {
				c.edit(EditRemoved, o, nil)
			}
		})
	}
	for _, name := range after.order {
		if _, ok := before.values[name]; !ok {
			c.at(name, func() { c.edit(EditAdded, nil, after.values[name]) })
		}
	}
}

func (c *comparer) arrays(old, new []byte, depth int) {
	o, n := elements{text: old, at: 1}, elements{text: new, at: 1}
	var gone [][]byte // the tail that was removed, as far as there is room for it
	for i := 0; !c.stop; i++ {
		before, after := o.next(), n.next()
		switch {
		case before == nil && after == nil:
			for k := len(gone) - 1; k >= 0; k-- {
				c.at(strconv.Itoa(i-len(gone)+k), func() { c.edit(EditRemoved, gone[k], nil) })
			}
			return
		case before == nil:
			c.at(strconv.Itoa(i), func() { c.edit(EditAdded, nil, after) })
		case after == nil && len(gone) >= c.limits.Edits:
			c.delta.Truncated = true // which of the tail comes first would not be right
			return
		case after == nil:
			gone = append(gone, before)
		default:
			c.at(strconv.Itoa(i), func() { c.value(before, after, depth+1) })
		}
	}
}

// members are those of an object, each with its last value.
type members struct {
	order  []string
	values map[string][]byte
}

// membersOf is not ok if there are too many.
func membersOf(object []byte) (m members, ok bool) {
	m.values = map[string][]byte{}
	i := skipSpace(object, 1)
	for object[i] != '}' {
		end := skipString(object, i)
		name := unquote(object[i:end])
		i = skipSpace(object, skipSpace(object, end)+1) // behind the colon
		end = skipValue(object, i)
		if _, twice := m.values[name]; !twice {
			if len(m.order) == membersMax {
				return m, false
			}
			m.order = append(m.order, name)
		}
		m.values[name] = object[i:end]
		if i = skipSpace(object, end); object[i] == ',' {
			i = skipSpace(object, i+1)
		}
	}
	return m, true
}

// elements walks over an array.
type elements struct {
	text []byte
	at   int
}

// next is the next element, or nil.
func (e *elements) next() []byte {
	i := skipSpace(e.text, e.at)
	if e.text[i] == ',' {
		i = skipSpace(e.text, i+1)
	}
	if e.text[i] == ']' {
		e.at = i
		return nil
	}
	e.at = skipValue(e.text, i)
	return e.text[i:e.at]
}

// same compares two values of one kind whose texts differ: what is not looked into. It reads both at once and keeps nothing, for they may
// be large; so the order of members counts in here.
func same(old, new []byte) bool {
	i, j := 0, 0
	for {
		for i < len(old) && isSpace(old[i]) {
			i++
		}
		for j < len(new) && isSpace(new[j]) {
			j++
		}
		switch {
		case i == len(old) || j == len(new):
			return i == len(old) && j == len(new)
		case old[i] != new[j]:
			return false
		case old[i] == '"':
			a, b := skipString(old, i), skipString(new, j)
			if !sameString(old[i:a], new[j:b]) {
				return false
			}
			i, j = a, b
		default:
			i, j = i+1, j+1
		}
	}
}

func sameString(old, new []byte) bool {
	if bytes.Equal(old, new) {
		return true
	}
	a, b := unquote(old), unquote(new)
	// A lone surrogate cannot be told from another once it is text: then the spelling counts.
	return a == b && !strings.ContainsRune(a, utf8.RuneError)
}

func isNumber(v []byte) bool { return v[0] == '-' || '0' <= v[0] && v[0] <= '9' }

func isSpace(c byte) bool { return c == ' ' || c == '\n' || c == '\r' || c == '\t' }

func unquote(v []byte) string {
	if bytes.IndexByte(v, '\\') < 0 {
		return string(v[1 : len(v)-1])
	}
	var s string
	if err := json.Unmarshal(v, &s); err != nil {
		panic("observe: decoding what was found valid: " + err.Error())
	}
	return s
}

// The rest walks over text that is known to be valid.

func skipSpace(p []byte, i int) int {
	for isSpace(p[i]) {
		i++
	}
	return i
}

func skipString(p []byte, i int) int {
	for i++; p[i] != '"'; i++ {
		if p[i] == '\\' {
			i++
		}
	}
	return i + 1
}

func skipValue(p []byte, i int) int {
	switch p[i] {
	case '"':
		return skipString(p, i)
	case '{', '[':
		for depth := 0; ; {
			switch p[i] {
			case '"':
				i = skipString(p, i)
				continue
			case '{', '[':
				depth++
			case '}', ']':
				if depth--; depth == 0 {
					return i + 1
				}
			}
			i++
		}
	}
	for i < len(p) && p[i] != ',' && p[i] != '}' && p[i] != ']' && p[i] > ' ' {
		i++
	}
	return i
}
