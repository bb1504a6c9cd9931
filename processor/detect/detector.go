package detect

import (
	"fmt"
	"slices"
	"unicode/utf8"

	"github.com/zeebo/xxh3"
)

// MaxDepth is how many objects and arrays may be open at once, the one at the top level included.
const MaxDepth = 512

// MaxPayload is the size in bytes of the largest payload that Scan and Merge take; offsets inside fit 32 bits with
// room to spare.
const MaxPayload = 64 << 20

// retainedMax is the size in bytes of a payload whose scratch a Detector keeps when much smaller ones follow.
const retainedMax = 256 << 10

// Options are the settings of one model.
type Options struct {
	// Ignore holds JSON Pointers (RFC 6901) to what is removed before hashing: "/lastSeen", "/owner/etag". The segment
	// "*" matches every member of an object and every element of an array; a member that is really called "*" cannot be
	// named alone. Pointers refer to the payload as it arrives, so that removing one element does not move the
	// others; one that leads nowhere is no error.
	Ignore []string
}

// Detector scans the payloads of one model. It keeps its memory between calls, and is not safe for concurrent use:
// keep one per goroutine.
//
// It also remembers the member names it meets, within bounds, so that records alike scan faster than the first one.
// One Detector per model makes the best of that. What it returns does not depend on what it has seen before.
type Detector struct {
	fingerprint uint32
	root        *place
	nowhere     *place // the closed place at which nothing is ignored
	known       int    // names and places remembered
	strangers   int    // unknown names met since it began to remember

	src      []byte // the payload, then zeros
	size     int    // of the payload in bytes
	out      []byte // canonical text in the order of the payload; behind it, unescaped names
	namesEnd int    // end of these
	fin      []byte // members put in order
	members  []member
	order    []uint32
	wide     uint64 // all words of strings, ORed: with a high bit set, the UTF-8 needs a check
	escapes  int    // number of escapes read, ever
	err      error

	names  [][]byte
	shape  uint32
	fits   bool // names and shape are those of root.order
	fields []uint32
}

// member is one member of an object being read: offsets in out.
type member struct {
	prefix        uint64 // of the name; set by arrange
	name, nameEnd uint32 // unescaped; unset when the name was the expected one
	start         uint32 // of the canonical text `"name":value`
	value, end    uint32
	id            uint32 // of the field, at the place of the object
}

// New compiles options. Its error wraps ErrInvalidPointer.
func New(o Options) (*Detector, error) {
	ignore, err := newTree(o.Ignore, true)
	if err != nil {
		return nil, fmt.Errorf("compiling ignored fields: %w", err)
	}
	nowhere := newPlace(nil)
	nowhere.closed = true
	return &Detector{fingerprint: fingerprint(o), root: newPlace(ignore), nowhere: nowhere}, nil
}

// fingerprint hashes the algorithm and the set of pointers, each ended by a byte that UTF-8 does not have.
func fingerprint(o Options) uint32 {
	pointers := slices.Clone(o.Ignore)
	slices.Sort(pointers)
	text := []byte{AlgoXXH3Canon1}
	for _, p := range slices.Compact(pointers) {
		text = append(append(text, p...), 0xFF)
	}
	return uint32(xxh3.Hash(text))
}

// Fingerprint stands for the options, and is the same in every process; order and repetition in Options.Ignore do not
// matter. Results of Detectors with different fingerprints must not be compared: a record that did not change would
// look changed.
func (d *Detector) Fingerprint() uint32 { return d.fingerprint }

// Result is what one scan found. The slices are valid until the next call, and not to be written to.
type Result struct {
	// Hash is XXH3-128 of the canonical text (see the package comment). It does not depend on the order of members, on
	// white space or on how strings are escaped. Numbers are compared by their literal text: 1 and 1.0 differ.
	Hash Hash
	// Shape is a hash of the set of names, never 0. Equal shapes have equal Names but for one pair of sets in 2^32.
	Shape uint32
	// Names are the names of the top-level members, unescaped, in canonical order: by UTF-16 code units (RFC 8785).
	Names [][]byte
	// Fields has for each of Names a hash of the canonical value, 24 bits wide and never 0. Two different values share
	// one in 2^24 times.
	Fields []uint32
}

// Scan validates a payload, which must be one JSON object (RFC 8259) in valid UTF-8, and hashes it. Where a name
// occurs more than once in one object, the last member counts, as in all common parsers. The error is a
// *PayloadError.
func (d *Detector) Scan(payload []byte) (Result, error) {
	if len(payload) > MaxPayload {
		return Result{}, &PayloadError{
			Kind: ErrTooLarge, Offset: MaxPayload, Reason: fmt.Sprintf("%d bytes, more than %d", len(payload), MaxPayload),
		}
	}
	d.begin(payload)
	i := skipSpace(d.src, 0)
	w := 0
	var r read
	object := d.src[i] == '{'
	if object {
		d.out[0] = '{'
		i, w, r = d.body(i, 1, 1, d.root)
	} else {
		i, _ = d.value(i, 0, 1, d.nowhere)
	}
	if i >= 0 {
		if i = skipSpace(d.src, i); i < d.size {
			i, _ = d.refuse(i, "more after the value")
		}
	}
	if i >= 0 && d.wide&highs != 0 && !validUTF8(d.src, d.size) {
		i, _ = d.refuse(invalidUTF8(payload), "invalid UTF-8")
	}
	if i >= 0 && !object {
		i, _ = d.refuseAs(ErrNotObject, 0, "another value")
	}
	if i < 0 {
		return Result{}, d.err
	}
	return d.result(w, r), nil
}

// begin makes the scratch ready for a payload.
func (d *Detector) begin(payload []byte) {
	if d.strangers >= strangersMax {
		d.root, d.known, d.strangers = newPlace(d.root.ignore), 0, 0
	}
	n := len(payload) + slack
	if n > cap(d.src) || cap(d.src) > retainedMax && n < cap(d.src)/8 {
		// One block of memory, in which the distance between any two of the three is no multiple of the 4,096 bytes at
		// which processors mistake one address for another and make loads wait for stores.
		c := n + n/4
		c += (341 - c) & 1023
		block := make([]byte, 4*c)
		d.src, d.out, d.fin = block[:c:c], block[c:3*c:3*c], block[3*c:]
		d.members, d.order, d.names, d.fields, d.fits = nil, nil, nil, nil, false
	}
	d.src = d.src[:n]
	copy(d.src, payload)
	clear(d.src[len(payload):])
	d.size = len(payload)
	d.namesEnd = n
	d.members = d.members[:0]
	d.wide = 0
	d.err = nil
}

// result hashes the object at the top level, whose members are on the stack and in out[:w].
func (d *Detector) result(w int, r read) Result {
	fits := d.fits && d.root.repeats(r)
	order := d.sequence(d.root, 0, r)
	text := d.out
	if !inOrder(order) {
		text = d.fin
		text[0] = '{'
		w = d.gather(1, 0, order)
	}
	text[w] = '}'
	fields := d.fields[:0]
	for _, k := range order {
		m := &d.members[k]
		fields = append(fields, fieldHash(d.out[m.value:m.end]))
	}
	d.fields = fields
	if !fits {
		d.describe(order)
		d.fits = r.expected
	}
	return Result{Hash: RawHash(text[:w+1]), Shape: d.shape, Names: d.names, Fields: fields}
}

// describe sets names and shape.
func (d *Detector) describe(order []uint32) {
	names, sum := d.names[:0], uint64(0)
	for _, k := range order {
		m := &d.members[k]
		if m.id != 0 {
			f := d.root.fields[m.id]
			names = append(names, f.name)
			sum += f.hash
		} else {
			name := d.nameOf(m)
			names = append(names, name)
			sum += xxh3.Hash(name)
		}
	}
	d.names = names
	d.shape = max(1, uint32(sum^sum>>32))
}

// invalidUTF8 returns the offset of the first byte that is no UTF-8.
func invalidUTF8(b []byte) int {
	i := 0
	for i < len(b) {
		r, n := utf8.DecodeRune(b[i:])
		if r == utf8.RuneError && n == 1 {
			break
		}
		i += n
	}
	return i
}
