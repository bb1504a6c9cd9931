package hot

import (
	"math/bits"

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
	Shape      uint32
	Fields     []uint32 // aliases scratch memory of the table: valid until the next call
}

// Fingerprint identifies a record id inside a stream: 128 bits of xxh3.
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
	Unchanged               // live, and its payload has these very bytes
	Known                   // the entry is filled in
)

// full is one cache line. rev and csn are cut to what fits; an entry that does not fit is not kept.
type full struct {
	hi, lo    uint64
	hash      [16]byte
	raw       uint64
	csn       uint64 // 48 bits, flags above
	firstSeen int64
	rev       uint32
	shape     uint32
}

type lean struct {
	fp  uint64
	raw uint64
	csn uint64 // 48 bits, flags above
}

const (
	csnBits     = 48
	csnMask     = 1<<csnBits - 1
	flagUsed    = 1 << 48
	flagDeleted = 1 << 49

	fullBytes = 64
	leanBytes = 24
	slotsMin  = 16
	fieldsMax = 64
)

// Table is the cache of one stream. Not safe for concurrent use.
type Table struct {
	budget   *Budget
	full     []full
	lean     []lean
	fields   []byte // fieldBytes a slot, parallel to full
	stride   int    // fields a slot
	used     int
	complete bool
	frozen   bool // the budget refused to let it grow: new records are not taken
	holes    bool // a record of the stream is not held
	bytes    int64
	scratch  [fieldsMax]uint32
}

// NewTable returns an empty table. It is complete exactly if the stream has no records yet.
func NewTable(b *Budget, complete bool) *Table {
	return &Table{budget: b, complete: complete}
}

// Reserve makes room for n records at once, if the budget allows it; otherwise the table grows as it fills.
func (t *Table) Reserve(n uint64) {
	slots := slotsMin
	for uint64(slots)*4 < n*5 {
		slots *= 2
	}
	if len(t.full) > 0 || t.lean != nil {
		return
	}
	if need := int64(slots) * fullBytes; t.budget.take(need) {
		t.bytes += need
		t.growFull(slots)
	}
}

// Complete reports whether a record that is not in the table does not exist.
func (t *Table) Complete() bool { return t.complete }

// SetComplete is called after a scan of R has put every record.
func (t *Table) SetComplete() { t.complete = !t.holes }

// Lean reports whether entries are lean.
func (t *Table) Lean() bool { return t.lean != nil }

// Len is the number of records held.
func (t *Table) Len() int { return t.used }

// Bytes is the memory that the table holds.
func (t *Table) Bytes() int64 { return t.bytes }

// Probe looks a record up. raw is the low half of the hash of the payload at hand; e is filled with Known only. A lean table
// answers Unchanged by fingerprint and raw together, 128 bits; anything else about a record that it holds is Unknown.
func (t *Table) Probe(fp Fingerprint, raw uint64, e *Entry) Result {
	if t.lean != nil {
		return t.probeLean(fp, raw)
	}
	if i, ok := t.find(fp); ok {
		s := &t.full[i]
		if s.raw == raw && s.csn&flagDeleted == 0 {
			e.CSN = s.csn & csnMask
			return Unchanged
		}
		t.entry(i, e)
		return Known
	}
	if t.complete {
		return Absent
	}
	return Unknown
}

// Lookup is Probe without a payload: for deletes and partial updates.
func (t *Table) Lookup(fp Fingerprint, e *Entry) Result {
	if t.lean != nil {
		if _, ok := t.findLean(fp); !ok && t.complete {
			return Absent
		}
		return Unknown
	}
	if i, ok := t.find(fp); ok {
		t.entry(i, e)
		return Known
	}
	if t.complete {
		return Absent
	}
	return Unknown
}

func (t *Table) probeLean(fp Fingerprint, raw uint64) Result {
	i, ok := t.findLean(fp)
	switch {
	case !ok && t.complete:
		return Absent
	case !ok:
		return Unknown
	}
	if s := &t.lean[i]; s.raw == raw && s.csn&flagDeleted == 0 {
		return Unchanged
	}
	return Unknown
}

// LeanCSN returns the csn that a lean table holds for a record, 0 for none.
func (t *Table) LeanCSN(fp Fingerprint) uint64 {
	if t.lean == nil {
		return 0
	}
	if i, ok := t.findLean(fp); ok {
		return t.lean[i].csn & csnMask
	}
	return 0
}

func (t *Table) entry(i int, e *Entry) {
	s := &t.full[i]
	*e = Entry{
		CSN: s.csn & csnMask, PayloadCSN: s.csn & csnMask, FirstSeen: s.firstSeen, Rev: uint64(s.rev), Hash: s.hash, Raw: s.raw,
		Deleted: s.csn&flagDeleted != 0, Shape: s.shape,
	}
	if s.shape != 0 {
		row := t.fields[i*t.stride*3 : (i+1)*t.stride*3]
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

// SetRaw notes that other bytes of a record were found to mean the same, so that they are recognised at once next time.
func (t *Table) SetRaw(fp Fingerprint, raw uint64) {
	if t.lean != nil {
		if i, ok := t.findLean(fp); ok {
			t.lean[i].raw = raw
		}
		return
	}
	if i, ok := t.find(fp); ok {
		t.full[i].raw = raw
	}
}

// Put takes a committed version, replacing the one before it. If there is no room the table forgets the record, and is no longer
// complete.
func (t *Table) Put(fp Fingerprint, e *Entry) {
	if e.CSN > csnMask || e.Rev > 1<<32-1 || e.PayloadCSN != e.CSN {
		t.Forget(fp)
		return
	}
	csn := e.CSN | flagUsed
	if e.Deleted {
		csn |= flagDeleted
	}
	if t.lean != nil {
		i, ok := t.findLean(fp)
		if !ok {
			if !t.room() {
				t.complete, t.holes = false, true
				return
			}
			i, _ = t.findLean(fp)
			t.used++
		}
		t.lean[i] = lean{fp: fp.Lo, raw: e.Raw, csn: csn}
		return
	}
	i, ok := t.find(fp)
	if !ok {
		if !t.room() {
			t.complete, t.holes = false, true
			return
		}
		if t.lean != nil { // making room may have made the table lean
			t.Put(fp, e)
			return
		}
		i, _ = t.find(fp)
		t.used++
	}
	shape := e.Shape
	if shape != 0 && !t.fitFields(len(e.Fields)) {
		shape = 0
	}
	t.full[i] = full{hi: fp.Hi, lo: fp.Lo, hash: e.Hash, raw: e.Raw, csn: csn, firstSeen: e.FirstSeen, rev: uint32(e.Rev), shape: shape}
	if shape != 0 {
		row := t.fields[i*t.stride*3 : (i+1)*t.stride*3]
		clear(row)
		for n, f := range e.Fields {
			row[3*n], row[3*n+1], row[3*n+2] = byte(f>>16), byte(f>>8), byte(f)
		}
	}
}

// Forget makes the table say Unknown about a record.
func (t *Table) Forget(fp Fingerprint) {
	t.complete, t.holes = false, true
	// A removed slot would break the probe sequence; a version that equals nothing does not. Full entries cannot say "unknown", so
	// the slot is handed to a fingerprint that no record has.
	if t.lean != nil {
		if i, ok := t.findLean(fp); ok {
			t.lean[i].fp = ^t.lean[i].fp
			t.lean[i].csn |= flagDeleted
		}
		return
	}
	if i, ok := t.find(fp); ok {
		t.full[i].hi, t.full[i].csn = ^t.full[i].hi, t.full[i].csn|flagDeleted
	}
}

func (t *Table) find(fp Fingerprint) (int, bool) {
	if len(t.full) == 0 {
		return 0, false
	}
	mask := len(t.full) - 1
	for i := int(fp.Lo) & mask; ; i = (i + 1) & mask {
		s := &t.full[i]
		if s.csn == 0 {
			return i, false
		}
		if s.lo == fp.Lo && s.hi == fp.Hi {
			return i, true
		}
	}
}

func (t *Table) findLean(fp Fingerprint) (int, bool) {
	if len(t.lean) == 0 {
		return 0, false
	}
	mask := len(t.lean) - 1
	for i := int(fp.Lo) & mask; ; i = (i + 1) & mask {
		s := &t.lean[i]
		if s.csn == 0 {
			return i, false
		}
		if s.fp == fp.Lo {
			return i, true
		}
	}
}

// room makes sure that one more record fits at a load of at most 4/5.
func (t *Table) room() bool {
	slots := max(len(t.full), len(t.lean))
	if slots > 0 && (t.used+1)*5 <= slots*4 {
		return true
	}
	if t.frozen {
		return t.used+1 < slots*9/10
	}
	next := max(slotsMin, slots*2)
	if t.lean == nil {
		if t.budget.take(int64(next-slots) * int64(fullBytes+3*t.stride)) {
			t.bytes += int64(next-slots) * int64(fullBytes+3*t.stride)
			t.growFull(next)
			return true
		}
		t.MakeLean()
		if slots > 0 && (t.used+1)*5 <= slots*4 {
			return true
		}
	}
	if t.budget.take(int64(next-slots) * leanBytes) {
		t.bytes += int64(next-slots) * leanBytes
		t.growLean(next)
		return true
	}
	t.frozen = true
	return false
}

func (t *Table) growFull(slots int) {
	old, oldFields := t.full, t.fields
	t.full = make([]full, slots)
	t.fields = make([]byte, slots*t.stride*3)
	for i := range old {
		if old[i].csn == 0 {
			continue
		}
		j, _ := t.find(Fingerprint{old[i].hi, old[i].lo})
		t.full[j] = old[i]
		copy(t.fields[j*t.stride*3:(j+1)*t.stride*3], oldFields[i*t.stride*3:])
	}
}

func (t *Table) growLean(slots int) {
	old := t.lean
	t.lean = make([]lean, slots)
	for i := range old {
		if old[i].csn == 0 {
			continue
		}
		j, _ := t.findLean(Fingerprint{Lo: old[i].fp})
		t.lean[j] = old[i]
	}
}

// fitFields makes sure that a slot has room for n fields.
func (t *Table) fitFields(n int) bool {
	if n <= t.stride {
		return true
	}
	if n > fieldsMax {
		return false
	}
	stride := min(fieldsMax, max(4, 1<<bits.Len(uint(n-1))))
	more := int64(len(t.full)) * int64(3*(stride-t.stride))
	if !t.budget.take(more) {
		return false
	}
	t.bytes += more
	fields := make([]byte, len(t.full)*stride*3)
	for i := range t.full {
		copy(fields[i*stride*3:], t.fields[i*t.stride*3:(i+1)*t.stride*3])
	}
	t.fields, t.stride = fields, stride
	return true
}

// MakeLean turns a full table into a lean one, and gives the difference back to the budget.
func (t *Table) MakeLean() {
	if t.lean != nil {
		return
	}
	old := t.full
	t.full, t.fields, t.stride = nil, nil, 0
	slots := len(old)
	t.lean = make([]lean, slots)
	for i := range old {
		if old[i].csn == 0 {
			continue
		}
		if j, ok := t.findLean(Fingerprint{Lo: old[i].lo}); !ok {
			t.lean[j] = lean{fp: old[i].lo, raw: old[i].raw, csn: old[i].csn}
		} else {
			// Two records whose fingerprints share their low half: neither may be answered from here.
			t.lean[j].raw, t.lean[j].csn = 0, t.lean[j].csn|flagDeleted
		}
	}
	now := int64(slots) * leanBytes
	t.budget.give(t.bytes - now)
	t.bytes = now
}

// Drop gives the memory back. The table must not be used afterwards.
func (t *Table) Drop() {
	t.budget.give(t.bytes)
	*t = Table{budget: t.budget}
}
