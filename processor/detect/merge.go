package detect

import (
	"bytes"
	"fmt"
	"sync"
)

// Merge applies a partial update to a stored payload; both must be JSON objects. A member of the partial replaces the
// stored one of the same name, except that two objects are merged member by member. Arrays are replaced as a whole,
// and null is a value like any other. To remove something, name it: remove holds JSON Pointers (RFC 6901) into the
// merged object. They apply all at once, so that removing one element of an array does not move the others; one that
// leads nowhere is no error.
//
// Stored members that neither the partial nor remove touches keep their bytes and their order; new ones follow in the
// order of the partial. Where a name occurs more than once in an object, the last member counts: one that is replaced
// or removed takes its namesakes with it.
//
// The error wraps a *PayloadError or ErrInvalidPointer. The result shares no memory with the arguments. Merge is safe
// for concurrent use.
func Merge(stored, partial []byte, remove []string) ([]byte, error) {
	tree, err := newTree(remove, false)
	if err != nil {
		return nil, fmt.Errorf("compiling fields to remove: %w", err)
	}
	m := mergers.Get().(*merger)
	defer m.release()
	if _, err := m.stored.Scan(stored); err != nil {
		return nil, fmt.Errorf("reading the stored payload: %w", err)
	}
	if _, err := m.partial.Scan(partial); err != nil {
		return nil, fmt.Errorf("reading the partial update: %w", err)
	}
	m.dst = make([]byte, 0, len(stored)+len(partial))
	m.object(bytes.TrimSpace(stored), bytes.TrimSpace(partial), tree)
	return m.dst, nil
}

// merger writes the result of one merge.
type merger struct {
	walker
	dst []byte

	// These validate what the walker then trusts. They are two because a Detector remembers the order of members.
	stored, partial *Detector
}

var mergers = sync.Pool{New: func() any {
	m := &merger{}
	for _, d := range []**Detector{&m.stored, &m.partial} {
		var err error
		if *d, err = New(Options{}); err != nil {
			panic(err) // without options there is nothing to refuse
		}
	}
	return m
}}

func (m *merger) release() {
	m.dst = nil
	if m.walker.reset() {
		mergers.Put(m)
	}
}

// object writes the object stored, merged with the object partial, without what tree removes.
func (m *merger) object(stored, partial []byte, tree *node) {
	base := len(m.entries)
	old := m.members(stored)
	fresh := m.members(partial)
	m.match(stored, old, partial, fresh)

	l := m.list(stored, old)
	for k := range old {
		e := &old[k]
		var below *node
		if tree != nil {
			below = tree.member(m.name(stored, e))
		}
		if e.match == replaced || below.removes() {
			l.drop(e)
			continue
		}
		l.keep(e)
		value := stored[e.value:e.end]
		if e.match == alone {
			m.prune(value, below)
			continue
		}
		update := partial[fresh[e.match].value:fresh[e.match].end]
		if value[0] == '{' && update[0] == '{' {
			m.object(value, update, below)
		} else {
			m.prune(update, below)
		}
	}
	for k := range fresh {
		e := &fresh[k]
		if e.match != alone {
			continue
		}
		if below := tree.member(m.name(partial, e)); !below.removes() {
			l.add(partial[e.start:e.value])
			m.prune(partial[e.value:e.end], below)
		}
	}
	l.end()
	m.entries = m.entries[:base]
}

// What entry.match says when it is no index.
const (
	alone    = -1 - iota // no member of that name on the other side
	replaced             // by a later member of the same name
)

// scanMax is the number of members in a partial up to which going through them all beats a map.
const scanMax = 16

// match finds for each stored member the one that updates it, as an index in fresh. Of several with one name only the
// last counts, on either side; but stored ones that nothing updates are left as they are.
func (m *merger) match(stored []byte, old []entry, partial []byte, fresh []entry) {
	var last map[string]int
	if len(fresh) > scanMax {
		last = make(map[string]int, len(fresh))
		for k := range fresh {
			last[string(m.name(partial, &fresh[k]))] = k
		}
	}
	find := func(name []byte) int {
		if last != nil {
			if k, ok := last[string(name)]; ok {
				return k
			}
			return alone
		}
		for k := len(fresh) - 1; k >= 0; k-- {
			if string(m.name(partial, &fresh[k])) == string(name) {
				return k
			}
		}
		return alone
	}
	for k := range fresh {
		fresh[k].match = alone
		if find(m.name(partial, &fresh[k])) != k {
			fresh[k].match = replaced
		}
	}
	for k := len(old) - 1; k >= 0; k-- {
		at := find(m.name(stored, &old[k]))
		if old[k].match = at; at == alone {
			continue
		}
		if fresh[at].match != alone { // by a later one
			old[k].match = replaced
		}
		fresh[at].match = k
	}
}

// prune writes a value without what tree removes below it.
func (m *merger) prune(value []byte, tree *node) {
	switch {
	case tree == nil || value[0] != '{' && value[0] != '[':
		m.dst = append(m.dst, value...)
		return
	case value[0] == '{':
		m.object(value, []byte("{}"), tree)
		return
	}
	base := len(m.entries)
	elements := m.elements(value)
	l := m.list(value, elements)
	for k := range elements {
		e := &elements[k]
		below := tree.element(k)
		if below.removes() {
			l.drop(e)
			continue
		}
		l.keep(e)
		m.prune(value[e.value:e.end], below)
	}
	l.end()
	m.entries = m.entries[:base]
}

// list writes the members of an object, or the elements of an array, some kept and some dropped, with the white space
// they have in the source.
type list struct {
	m   *merger
	src []byte
	at  int // end in src of the last entry kept or dropped
	n   int // entries written
}

func (m *merger) list(src []byte, es []entry) list {
	at := 1 // the brace or bracket
	if len(es) > 0 {
		at = es[0].start
	}
	m.dst = append(m.dst, src[:at]...)
	return list{m: m, src: src, at: at}
}

// keep writes an entry up to its value, which the caller writes.
func (l *list) keep(e *entry) {
	from := e.start
	if l.n > 0 {
		from = l.at
	}
	l.m.dst = append(l.m.dst, l.src[from:e.value]...)
	l.at = e.end
	l.n++
}

func (l *list) drop(e *entry) { l.at = e.end }

// add writes a member that is not in src up to its value.
func (l *list) add(name []byte) {
	if l.n > 0 {
		l.m.dst = append(l.m.dst, ',')
	}
	l.m.dst = append(l.m.dst, name...)
	l.n++
}

func (l *list) end() { l.m.dst = append(l.m.dst, l.src[l.at:]...) }
