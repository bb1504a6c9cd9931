package detect

import (
	"math/bits"
	"slices"
	"unicode/utf8"

	"github.com/zeebo/xxh3"
)

// What a Detector may remember: names and places in all, names at one place, bytes of one name. That is about half a
// megabyte.
const (
	knownMax     = 2048
	knownHereMax = 1024
	nameMax      = 128
)

// strangersMax is how many unknown names make a Detector forget what it knows and learn afresh, in case its model has
// changed. It is far above knownMax, so that objects whose names are data, new ones in every record, do not keep it
// learning.
const strangersMax = 1 << 20

// skipMax is how many expected members may be missing before a name is read and looked up.
const skipMax = 3

// place is one position in the records of a model: the top level, the value of "owner", the elements of "items". It
// remembers the member names met there. Records of a model repeat their names, mostly in one order, and names that
// are known cost less in three ways: the name that followed the last time is compared with the payload, which is
// cheaper than to read one; names are put in order by their rank, without sorting; and whether a member is ignored
// needs no lookup. A place is a memory of spellings alone and changes no result.
//
// A closed place knows no names. Any other is being read at most once at a time, because everything inside it has
// places of its own.
type place struct {
	ignore *node
	closed bool
	names  map[string]*field
	fields []*field // by id; number 0 stands for the beginning and for all unknown names
	ranked []*field // in canonical order
	inside *place   // the elements, if there is an array here

	// The order that sequence found for the last read in which each name was the expected one, and the number of names
	// in that read; 0 if the expectations have changed since. The same number of expected names is the same names.
	order []uint32
	count int

	present []uint64 // scratch of sequence: the ranks read, one bit each
	slots   []uint32 // scratch of sequence: by rank, the last member read
}

// field is one known name. It has no escapes and is valid UTF-8.
type field struct {
	words  []uint64 // `"name":`, filled up with zeros
	mask   uint64   // of the bytes of the last word that count
	size   int      // of `"name":` in bytes
	next   *field   // what followed the last time
	below  *place   // the value, once that was an object or array
	remove bool     // the member is ignored
	id     uint32
	rank   uint32 // index in ranked
	hash   uint64 // of name
	name   []byte
}

func newPlace(ignore *node) *place {
	start := &field{words: []uint64{1}} // no bytes under a mask of zero are 1: nothing matches
	start.next = start
	return &place{ignore: ignore, names: map[string]*field{}, fields: []*field{start}}
}

// find returns the field of a name. It learns the name if there is room for it, and returns that of unknown names
// otherwise.
func (d *Detector) find(p *place, name []byte) *field {
	if f := p.names[string(name)]; f != nil {
		return f
	}
	d.strangers++
	// Names are checked here and not in follows: what is learned once from invalid UTF-8 would be accepted ever after.
	if p.closed || len(p.ranked) == knownHereMax || d.known >= knownMax || len(name) > nameMax || !utf8.Valid(name) {
		return p.fields[0]
	}
	d.known++
	return p.learn(string(name))
}

func (p *place) learn(name string) *field {
	f := &field{
		next:   p.fields[0],
		remove: p.ignore.member([]byte(name)).removes(),
		id:     uint32(len(p.fields)),
		hash:   xxh3.HashString(name),
		name:   []byte(name),
	}
	spelled := []byte(`"` + name + `":`)
	f.size = len(spelled)
	f.mask = ^uint64(0) >> (-f.size & 7 * 8)
	spelled = append(spelled, 0, 0, 0, 0, 0, 0, 0)
	for k := 0; k < f.size; k += 8 {
		f.words = append(f.words, load(spelled, k))
	}
	at, _ := slices.BinarySearchFunc(p.ranked, name, func(f *field, name string) int {
		return compareNames(f.name, name)
	})
	p.names[name] = f
	p.fields = append(p.fields, f)
	p.ranked = slices.Insert(p.ranked, at, f)
	for k, f := range p.ranked[at:] {
		f.rank = uint32(at + k)
	}
	p.slots = append(p.slots, 0)
	if len(p.slots) > 64*len(p.present) {
		p.present = append(p.present, 0)
	}
	return f
}

// follows reports whether the payload goes on with this name at src[i], and copies it to out[w] if so.
func (f *field) follows(src, out []byte, i, w int) bool {
	last := len(f.words) - 1
	for _, word := range f.words[:last] {
		x := load(src, i)
		store(out, w, x)
		if x != word {
			return false
		}
		i += 8
		w += 8
	}
	x := load(src, i)
	store(out, w, x)
	return x&f.mask == f.words[last]
}

// later returns the field with which the payload goes on at src[i], if that is one of the few expected soon after f.
func (f *field) later(src, out []byte, i, w int) *field {
	for range skipMax {
		if f == f.next {
			break
		}
		if f = f.next; f.follows(src, out, i, w) {
			return f
		}
	}
	return nil
}

// under returns the place of the value of the member m, which f stands for.
func (d *Detector) under(p *place, f *field, m *member) *place {
	if f.id == 0 {
		return d.closedPlace(p.ignore.member(d.nameOf(m)))
	}
	if f.below == nil {
		f.below = d.newPlace(p.ignore.member(f.name))
	}
	return f.below
}

// element returns the place of the element at index of an array.
func (d *Detector) element(p *place, index int) *place {
	if p.closed || p.ignore != nil && p.ignore.named != nil { // elements differ in what is ignored
		return d.closedPlace(p.ignore.element(index))
	}
	if p.inside == nil {
		p.inside = d.newPlace(p.ignore.each())
	}
	return p.inside
}

func (d *Detector) newPlace(ignore *node) *place {
	if d.known >= knownMax {
		return d.closedPlace(ignore)
	}
	d.known++
	return newPlace(ignore)
}

// closedPlace returns the place that ignores what is asked for and learns nothing.
func (d *Detector) closedPlace(ignore *node) *place {
	if ignore == nil {
		return d.nowhere
	}
	if ignore.closed == nil {
		ignore.closed = newPlace(ignore)
		ignore.closed.closed = true
	}
	return ignore.closed
}

// repeats reports whether a read met the same names in the same order as the one that order is of.
func (p *place) repeats(r read) bool { return r.expected && r.names == p.count && r.names > 0 }

// sequence returns the members from base on, just read at p, in canonical order of names and without those that a
// later member of the same name replaces, as indices above base. It is good until the next call.
func (d *Detector) sequence(p *place, base int, r read) []uint32 {
	if !r.known {
		return d.arrange(base)
	}
	if p.repeats(r) {
		return p.order
	}
	clear(p.present)
	for k := range d.members[base:] {
		rank := p.fields[d.members[base+k].id].rank
		p.present[rank/64] |= 1 << (rank % 64)
		p.slots[rank] = uint32(k)
	}
	order := d.order[:0]
	for w, set := range p.present {
		for ; set != 0; set &= set - 1 {
			order = append(order, p.slots[64*w+bits.TrailingZeros64(set)])
		}
	}
	d.order = order
	if r.expected {
		p.order = append(p.order[:0], order...)
		p.count = r.names
	}
	return order
}
