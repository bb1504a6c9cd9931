package hot

import (
	"math"
	"slices"

	"github.com/zeebo/xxh3"
)

// Entry is what a table knows of a record.
type Entry struct {
	CSN        uint64
	PayloadCSN uint64
	FirstSeen  int64
	Rev        uint64
	Hash       [16]byte
	Raw        uint64
	Deleted    bool
	Rehashed   bool // Hash, Shape and Fields are those of the stored payload under newer options than it was announced with
	Shape      uint32
	Fields     []uint32 // aliases scratch memory of the table: valid until the next call
}

// Fingerprint identifies a record id inside a stream: 128 bits of xxh3. Full entries keep 96 of them, lean ones 64.
type Fingerprint struct{ Hi, Lo uint64 }

// FingerprintOf hashes a record id.
func FingerprintOf(id []byte) Fingerprint {
	h := xxh3.Hash128(id)
	return Fingerprint{h.Hi, h.Lo}
}

// Result of a look-up.
type Result byte

// Results.
const (
	Unknown   Result = iota // ask R
	Absent                  // the record does not exist
	Unchanged               // live, and its payload has these very bytes; CSN and PayloadCSN are filled in
	Known                   // the entry is filled in
)

// full and lean are entries without what does not fit into them; about a record that has such, a table says Unknown.
type full struct {
	lo    uint64
	hash  [16]byte
	raw   uint64
	csn   uint64 // 48 bits, flags above
	first uint64 // 48 bits of ms, number of the shape above
	hi    uint32
	rev   uint32
}

type lean struct {
	lo  uint64
	raw uint64
	csn uint64 // 48 bits, flags above
}

const (
	wordBits = 48
	wordMask = 1<<wordBits - 1

	flagDeleted = 1 << 48
	flagUnknown = 1 << 49 // the record exists, and nothing is known of it
	flagMoved   = 1 << 50 // its payload has a csn of its own
	flagPartial = 1 << 51 // it has fields that are not kept: all that can be said is Unchanged
	flagRehash  = 1 << 52 // hash and fields are not those that R has

	fullBytes  = 56
	leanBytes  = 24
	fieldBytes = 3
	movedBytes = 40 // a pair in a map, about

	fieldsMax = 64
	wideShare = 16 // of the records must have more fields than there is room for before room is made
	shapesMax = 1<<16 - 1
)

// Table is the cache of one stream. Not safe for concurrent use.
type Table struct {
	budget   *Budget
	index    index
	full     chunks[full]
	lean     chunks[lean]
	fields   chunks[byte] // stride fields an entry, beside full
	moved    map[uint32]uint64
	shapes   []uint32 // by number, from 1
	numbers  map[uint32]uint16
	stride   int
	wide     int // records since the stride was set that have more fields
	room     int // entries there is memory for
	used     int // entries there are
	complete bool
	holes    bool // a record of the stream is not held
	isLean   bool
	bytes    int64
	scratch  [fieldsMax]uint32
}

// NewTable returns an empty table. It is complete exactly if the stream has no records yet.
func NewTable(b *Budget, complete bool) *Table {
	return &Table{budget: b, complete: complete}
}

// Reserve makes room for n records at once in an empty table: for full entries, or for lean ones if the budget allows no more. It
// reports false if it does not allow these either.
func (t *Table) Reserve(n uint64) bool {
	if t.used > 0 || n > slotsMax/5*4 {
		return false
	}
	slots, room := slotsFor(int(n)), roomFor(int(n))
	if !t.resize(slots, room) {
		t.MakeLean()
		return t.resize(slots, room)
	}
	return true
}

// LeanBytes is the memory that a table needs at least to hold n records.
func LeanBytes(n uint64) int64 {
	if n > slotsMax/5*4 {
		return math.MaxInt64
	}
	return int64(slotsFor(int(n)))*slotBytes + int64(roomFor(int(n)))*leanBytes
}

// Complete reports whether a record that is not in the table does not exist.
func (t *Table) Complete() bool { return t.complete }

// SetComplete is called after a scan of R has put every record.
func (t *Table) SetComplete() { t.complete = !t.holes }

// Lean reports whether entries are lean.
func (t *Table) Lean() bool { return t.isLean }

// Len is the number of records held.
func (t *Table) Len() int { return t.used }

// Bytes is the memory that the table holds.
func (t *Table) Bytes() int64 { return t.bytes }

// Probe looks a record up. raw is the low half of the hash of the payload at hand. A lean table answers Unchanged by fingerprint and
// raw together, 128 bits; anything else about a record that it holds is Unknown.
func (t *Table) Probe(fp Fingerprint, raw uint64, e *Entry) Result {
	pos, ok := t.find(fp)
	if !ok {
		return t.missing()
	}
	if t.isLean {
		s := t.lean.at(pos)
		if s.raw == raw && s.csn&(flagDeleted|flagUnknown) == 0 {
			e.CSN = s.csn & wordMask
			e.PayloadCSN = t.payloadCSN(pos, s.csn)
			return Unchanged
		}
		return Unknown
	}
	s := t.full.at(pos)
	switch {
	case s.csn&flagUnknown != 0:
		return Unknown
	case s.raw == raw && s.csn&flagDeleted == 0:
		e.CSN = s.csn & wordMask
		e.PayloadCSN = t.payloadCSN(pos, s.csn)
		return Unchanged
	}
	if s.csn&flagPartial != 0 {
		return Unknown
	}
	t.entry(pos, s, e)
	return Known
}

// Lookup is Probe without a payload: for deletes and partial updates. These need the hash that was announced, so that about an entry that
// was hashed again it says Unknown.
func (t *Table) Lookup(fp Fingerprint, e *Entry) Result {
	pos, ok := t.find(fp)
	switch {
	case !ok:
		return t.missing()
	case t.isLean:
		return Unknown
	}
	s := t.full.at(pos)
	if s.csn&(flagUnknown|flagPartial|flagRehash) != 0 {
		return Unknown
	}
	t.entry(pos, s, e)
	return Known
}

func (t *Table) missing() Result {
	if t.complete {
		return Absent
	}
	return Unknown
}

func (t *Table) payloadCSN(pos int, csn uint64) uint64 {
	if csn&flagMoved != 0 {
		return t.moved[uint32(pos)]
	}
	return csn & wordMask
}

func (t *Table) entry(pos int, s *full, e *Entry) {
	*e = Entry{
		CSN: s.csn & wordMask, PayloadCSN: t.payloadCSN(pos, s.csn), FirstSeen: int64(s.first & wordMask), Rev: uint64(s.rev),
		Hash: s.hash, Raw: s.raw, Deleted: s.csn&flagDeleted != 0, Rehashed: s.csn&flagRehash != 0,
	}
	if number := s.first >> wordBits; number != 0 {
		e.Shape = t.shapes[number-1]
		row := t.row(pos)
		n := 0
		for ; n < t.stride; n++ {
			f := uint32(row[3*n])<<16 | uint32(row[3*n+1])<<8 | uint32(row[3*n+2])
			if f == 0 {
				break // a field hash is never 0
			}
			t.scratch[n] = f
		}
		e.Fields = t.scratch[:n]
	}
}

// row is the memory for the fields of an entry.
func (t *Table) row(pos int) []byte {
	width := t.stride * fieldBytes
	at := (pos & (chunkLen - 1)) * width
	return t.fields[pos>>chunkBits][at : at+width]
}

// SetRaw notes that other bytes of a record were found to mean the same, so that they are recognised at once next time. csn is that of
// the version that they were compared with.
func (t *Table) SetRaw(fp Fingerprint, csn, raw uint64) {
	pos, ok := t.find(fp)
	if !ok {
		return
	}
	// Of two records whose fingerprints share what a lean entry keeps, only one is there.
	if t.isLean {
		if s := t.lean.at(pos); s.csn&wordMask == csn {
			s.raw = raw
		}
	} else if s := t.full.at(pos); s.csn&wordMask == csn {
		s.raw = raw
	}
}

// Put takes a committed version, replacing the one before it. If there is no room the table is no longer complete.
func (t *Table) Put(fp Fingerprint, e *Entry) {
	pos, ok := t.find(fp)
	if !ok {
		if !t.grow() {
			t.complete, t.holes = false, true
			return
		}
		pos = t.used
		t.used++
		t.index.insert(fp.Lo, pos)
	}
	fits := t.fitFields(len(e.Fields)) // which may make the table lean
	csn := e.CSN & wordMask
	if e.Deleted {
		csn |= flagDeleted
	}
	if e.Rehashed {
		csn |= flagRehash
	}
	if e.CSN > wordMask {
		csn |= flagUnknown
	}
	if _, ok := t.moved[uint32(pos)]; ok {
		delete(t.moved, uint32(pos))
		t.give(movedBytes)
	}
	if e.PayloadCSN != e.CSN {
		csn |= t.move(pos, e.PayloadCSN)
	}
	if t.isLean {
		*t.lean.at(pos) = lean{lo: fp.Lo, raw: e.Raw, csn: csn}
		return
	}
	if e.Rev > 1<<32-1 || uint64(e.FirstSeen) > wordMask {
		csn |= flagUnknown
	}
	first := uint64(e.FirstSeen) & wordMask
	if number := t.shape(e.Shape); !fits || number == 0 && e.Shape != 0 {
		csn |= flagPartial
	} else if number != 0 {
		first |= uint64(number) << wordBits
		row := t.row(pos)
		clear(row)
		for n, f := range e.Fields {
			row[3*n], row[3*n+1], row[3*n+2] = byte(f>>16), byte(f>>8), byte(f)
		}
	}
	*t.full.at(pos) = full{lo: fp.Lo, hi: uint32(fp.Hi), hash: e.Hash, raw: e.Raw, csn: csn, first: first, rev: uint32(e.Rev)}
}

// move notes a payload that has a csn of its own, and returns the flag for it.
func (t *Table) move(pos int, csn uint64) uint64 {
	if !t.take(movedBytes) {
		return flagUnknown
	}
	if t.moved == nil {
		t.moved = map[uint32]uint64{}
	}
	t.moved[uint32(pos)] = csn
	return flagMoved
}

// shape returns the number of a shape, or 0 if it has none.
func (t *Table) shape(shape uint32) uint16 {
	if shape == 0 {
		return 0
	}
	const few = 8
	if len(t.shapes) <= few {
		if i := slices.Index(t.shapes, shape); i >= 0 {
			return uint16(i + 1)
		}
	} else if number, ok := t.numbers[shape]; ok {
		return number
	}
	if len(t.shapes) == shapesMax {
		return 0
	}
	t.shapes = append(t.shapes, shape)
	if len(t.shapes) > few {
		if t.numbers == nil {
			t.numbers = map[uint32]uint16{}
			for i, s := range t.shapes {
				t.numbers[s] = uint16(i + 1)
			}
		}
		t.numbers[shape] = uint16(len(t.shapes))
	}
	return uint16(len(t.shapes))
}

// Forget makes the table say Unknown about a record.
func (t *Table) Forget(fp Fingerprint) {
	pos, ok := t.find(fp)
	switch {
	case !ok:
		t.complete, t.holes = false, true
	case t.isLean:
		t.lean.at(pos).csn |= flagUnknown
	default:
		t.full.at(pos).csn |= flagUnknown
	}
}

// find returns the position of a record.
func (t *Table) find(fp Fingerprint) (pos int, ok bool) {
	slots := t.index.slots
	if len(slots) == 0 {
		return 0, false
	}
	mask, low := len(slots)-1, t.index.low
	for i, tag := t.index.home(fp.Lo); ; i = (i + 1) & mask {
		s := slots[i&mask]
		if s == 0 {
			return 0, false
		}
		if s&^low != tag {
			continue
		}
		pos = int(s&low) - 1
		if t.isLean {
			if t.lean.at(pos).lo == fp.Lo {
				return pos, true
			}
		} else if e := t.full.at(pos); e.lo == fp.Lo && e.hi == uint32(fp.Hi) {
			return pos, true
		}
	}
}

// grow makes sure that one more record fits.
func (t *Table) grow() bool {
	slots, room := len(t.index.slots), t.room
	if slots*4 < (t.used+1)*5 {
		if slots = max(slotsMin, slots*2); slots > slotsMax {
			return false
		}
	}
	if room == t.used {
		room = nextRoom(room)
	}
	if t.resize(slots, room) {
		return true
	}
	if t.isLean {
		return false
	}
	t.MakeLean()
	return t.resize(slots, room)
}

// resize makes the table that large, if the budget allows it.
func (t *Table) resize(slots, room int) bool {
	more := int64(slots-len(t.index.slots))*slotBytes + int64(room-t.room)*int64(t.entryBytes())
	if more == 0 {
		return true
	}
	if !t.take(more) {
		return false
	}
	if t.isLean {
		t.lean = t.lean.resize(room, 1)
	} else {
		t.full = t.full.resize(room, 1)
		t.fields = t.fields.resize(room, t.stride*fieldBytes)
	}
	t.room = room
	if slots != len(t.index.slots) {
		t.index = newIndex(slots)
		for pos := range t.used {
			if t.isLean {
				t.index.insert(t.lean.at(pos).lo, pos)
			} else {
				t.index.insert(t.full.at(pos).lo, pos)
			}
		}
	}
	return true
}

func (t *Table) entryBytes() int {
	if t.isLean {
		return leanBytes
	}
	return fullBytes + t.stride*fieldBytes
}

func (t *Table) take(n int64) bool {
	if !t.budget.take(n) {
		return false
	}
	t.bytes += n
	return true
}

func (t *Table) give(n int64) {
	t.budget.give(n)
	t.bytes -= n
}

// fitFields reports whether an entry has room for n fields. It makes room for them unless few records have so many. If the budget
// does not allow it the table becomes lean: names of changed fields must not depend on how much memory there is, and R has them.
func (t *Table) fitFields(n int) bool {
	if n <= t.stride {
		return true
	}
	if n > fieldsMax || t.isLean {
		return false
	}
	if t.wide++; t.wide*wideShare < t.used {
		return false
	}
	stride := (n + 3) &^ 3
	if !t.take(int64(t.room) * int64(stride-t.stride) * fieldBytes) {
		t.MakeLean()
		return false
	}
	old, width := t.fields, t.stride*fieldBytes
	t.fields = chunks[byte](nil).resize(t.room, stride*fieldBytes)
	for c, from := range old {
		for i := range len(from) / max(1, width) {
			copy(t.fields[c][i*stride*fieldBytes:], from[i*width:(i+1)*width])
		}
		old[c] = nil
	}
	t.stride, t.wide = stride, 0
	return true
}

// MakeLean turns a full table into a lean one, and gives the difference back to the budget.
func (t *Table) MakeLean() {
	if t.isLean {
		return
	}
	before := t.entryBytes()
	t.fields, t.shapes, t.numbers, t.stride = nil, nil, nil, 0
	t.lean = make(chunks[lean], 0, len(t.full))
	for c, from := range t.full {
		to := make([]lean, len(from))
		for i := range from {
			to[i] = lean{lo: from[i].lo, raw: from[i].raw, csn: from[i].csn}
		}
		t.lean = append(t.lean, to)
		t.full[c] = nil // piece by piece, so that there are never two tables
	}
	t.full, t.isLean = nil, true
	t.give(int64(t.room) * int64(before-leanBytes))
}

// Drop gives the memory back. The table must not be used afterwards.
func (t *Table) Drop() {
	t.budget.give(t.bytes)
	*t = Table{budget: t.budget}
}
