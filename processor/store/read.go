package store

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"sort"

	"github.com/RoaringBitmap/roaring/v2/roaring64"
	"github.com/cockroachdb/pebble/v2"

	"github.com/tidemark-dev/tidemark/processor/segment"
	"github.com/tidemark-dev/tidemark/schemas/event"
	"github.com/tidemark-dev/tidemark/schemas/stream"
)

// Get returns the latest version of a record, deleted or not, and whether there is one.
func (s *Store) Get(sid uint32, id []byte) (Version, bool, error) {
	var key [640]byte
	b, closer, err := s.db.Get(appendRowKey(key[:0], sid, id))
	if errors.Is(err, pebble.ErrNotFound) {
		return Version{}, false, nil
	}
	if err != nil {
		return Version{}, false, s.readError(err)
	}
	var v Version
	if err := parseVersion(b, &v); err != nil {
		return Version{}, false, errors.Join(s.hurt(err), closer.Close())
	}
	return v, true, closer.Close()
}

// Scan calls fn for every record of a stream in id order, from one state of the rows. id and v are valid during the call.
func (s *Store) Scan(sid uint32, fn func(id []byte, v *Version) error) error {
	lower, upper := sidSpan(keyRow, sid)
	var v Version
	return s.scan(lower, upper, func(key, value []byte) error {
		if err := parseVersion(value, &v); err != nil {
			return s.hurt(err)
		}
		return fn(key[5:], &v)
	})
}

// Stream returns a copy of what the log says of a stream.
func (s *Store) Stream(key string) (*Stream, bool) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	st := s.streams[s.byKey[key]]
	if st == nil {
		return nil, false
	}
	return st.Clone(), true
}

// Options returns the options that the log names for a stream: their fingerprint, and which members they ignore.
func (s *Store) Options(key string) (fingerprint uint32, ignored []string) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if st := s.streams[s.byKey[key]]; st != nil {
		return st.Options, st.Ignored
	}
	return 0, nil
}

// Streams returns copies of the streams that match filter; an empty part matches everything. Ordered by key.
func (s *Store) Streams(filter stream.ID) []*Stream {
	s.mu.RLock()
	defer s.mu.RUnlock()
	var out []*Stream
	match := func(want, have string) bool { return want == "" || want == have }
	for _, st := range s.streams {
		id := st.Stream
		if match(filter.Environment, id.Environment) && match(filter.Integration, id.Integration) &&
			match(filter.Connection, id.Connection) && match(filter.Model, id.Model) && match(filter.Variant, id.Variant) {
			out = append(out, st.Clone())
		}
	}
	sort.Slice(out, func(a, b int) bool { return out[a].Key.Stream < out[b].Key.Stream })
	return out
}

// KnowsShape reports whether the names of a shape are stored.
func (s *Store) KnowsShape(sid, shape uint32) bool { return s.ShapeNames(sid, shape) != nil }

// ShapeNames returns the member names of a shape in canonical order, or nil. The slice must not be changed.
func (s *Store) ShapeNames(sid, shape uint32) []string {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.shapes[sid][shape]
}

// Live returns the csns below limit of the live records of a stream. The bitmap is the caller's.
func (s *Store) Live(sid uint32, limit uint64) *roaring64.Bitmap {
	s.mu.RLock()
	defer s.mu.RUnlock()
	v := s.bySID[sid]
	if v == nil {
		return roaring64.New()
	}
	return v.live(limit)
}

// Position returns the Kafka offset and the term of a csn that has been applied.
func (s *Store) Position(csn uint64) (offset int64, term uint64, ok bool) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.positions.offset(csn)
}

// Payload returns the payload stored under a csn; ok is false if it has been pruned. I11.
func (s *Store) Payload(sid uint32, csn uint64) (payload []byte, ok bool, err error) {
	s.mu.RLock()
	hidden := csn <= s.meta.Floor || s.streams[sid] != nil && csn <= s.streams[sid].PrunedUntil
	s.mu.RUnlock()
	if hidden {
		return nil, false, nil
	}
	r, err := s.seg.Get(sid, csn)
	switch {
	case errors.Is(err, segment.ErrNotFound), errors.Is(err, segment.ErrPruned):
		return nil, false, nil
	case err != nil:
		return nil, false, s.readError(err)
	}
	return r.Payload, true, nil
}

// Actions is a set of the three kinds of change. The zero value means all of them.
type Actions byte

// Bits of Actions.
const (
	ActionAdded Actions = 1 << iota
	ActionUpdated
	ActionDeleted
)

func (a Actions) has(op event.Op) bool {
	switch op {
	case event.OpAdded:
		return a == 0 || a&ActionAdded != 0
	case event.OpUpdated:
		return a == 0 || a&ActionUpdated != 0
	case event.OpDeleted:
		return a == 0 || a&ActionDeleted != 0
	}
	return false
}

// Query asks for a page of one stream.
type Query struct {
	SID           uint32
	After         uint64 // csn, exclusive
	Limit         int
	ScanMax       int // rows examined beyond those returned
	Actions       Actions
	ModifiedAfter int64    // ms, inclusive; 0: no bound
	IDs           []string // only these records
}

// Row is the latest version of a record. Its slices are valid during the call that hands it out.
type Row struct {
	CSN       uint64
	Offset    int64
	Term      uint64
	Op        event.Op
	TS        int64
	FirstSeen int64
	PrunedMS  int64 // 0: the payload is there
	Rev       uint64
	Run       uint64
	Hash      [16]byte
	ID        []byte
	Payload   []byte
}

// PageEnd says where a page stopped.
type PageEnd struct {
	LastCSN uint64 // highest csn examined; a next page goes on after it
	More    bool   // there may be rows above LastCSN
	Applied uint64 // csn up to which the view is complete
}

// ErrStop ends a walk early from inside fn; Page then returns no error, and More.
var ErrStop = errors.New("stop")

// pageChunk is how many versions are looked up at once; the lock is held only while they are collected.
const pageChunk = 1024

// Page calls fn for the latest version of each record of a stream with csn above q.After, ascending. A record that changes while
// the page is walked moves above everything walked so far, so it is never missed, and may be met again (I8).
func (s *Store) Page(q Query, fn func(*Row) error) (PageEnd, error) {
	if q.ModifiedAfter > 0 {
		if from := s.seg.Seek(q.ModifiedAfter); from > q.After+1 {
			q.After = s.seekBound(q, from)
		}
	}
	end := PageEnd{LastCSN: q.After, Applied: s.Applied().NextCSN - 1}
	if len(q.IDs) > 0 {
		return s.pageOfIDs(q, end, fn)
	}
	returned, examined := 0, 0
	var csns []uint64
	for {
		// Never look up more than could be returned, so that a small page costs little.
		want := min(pageChunk, q.Limit-returned)
		if q.Actions != 0 || q.ModifiedAfter > 0 {
			want = pageChunk
		}
		csns = s.collect(q, end.LastCSN, want, csns[:0])
		if len(csns) == 0 {
			end.More = false
			return end, nil
		}
		stop := false
		err := s.rows(q.SID, csns, func(row *Row) error {
			if returned >= q.Limit || q.ScanMax > 0 && examined >= q.ScanMax+q.Limit {
				return ErrStop
			}
			examined++
			if row.Op != event.OpUnknown && q.Actions.has(row.Op) && row.TS >= q.ModifiedAfter {
				if err := fn(row); err != nil {
					return err
				}
				returned++
			}
			end.LastCSN = row.CSN
			return nil
		})
		if errors.Is(err, ErrStop) {
			stop = true
		} else if err != nil {
			return end, err
		}
		if stop || returned >= q.Limit {
			end.More = len(s.collect(q, end.LastCSN, 1, csns[:0])) > 0
			return end, nil
		}
	}
}

// seekBound turns a csn from the coarse time index into an exclusive bound that never skips a row: late rows lie below every
// segment, and their time is not indexed.
func (s *Store) seekBound(q Query, from uint64) uint64 {
	if floor := s.seg.Floor(); from <= floor || s.hasLate(q.SID, q.After, from) {
		return q.After
	}
	return from - 1
}

func (s *Store) hasLate(sid uint32, after, below uint64) bool {
	if s.seg.Floor() <= 1 {
		return false
	}
	found := false
	err := s.scan(sidKey64(keyLate, sid, after+1), sidKey64(keyLate, sid, below), func(_, _ []byte) error {
		found = true
		return ErrStop
	})
	return found || err != nil
}

// collect appends up to n csns above after that q may want.
func (s *Store) collect(q Query, after uint64, n int, csns []uint64) []uint64 {
	s.mu.RLock()
	defer s.mu.RUnlock()
	v := s.bySID[q.SID]
	if v == nil || n <= 0 {
		return csns
	}
	from := v.latest
	if q.Actions == ActionDeleted {
		from = v.deleted
	}
	skipDeleted := q.Actions != 0 && q.Actions&ActionDeleted == 0
	it := from.Iterator()
	it.AdvanceIfNeeded(after + 1)
	for it.HasNext() && len(csns) < n {
		csn := it.Next()
		if skipDeleted && v.deleted.Contains(csn) {
			continue
		}
		csns = append(csns, csn)
	}
	return csns
}

// rows reads the versions at csns (ascending). A csn whose record has moved on and whose payload is gone is passed with OpUnknown.
func (s *Store) rows(sid uint32, csns []uint64, fn func(*Row) error) error {
	s.mu.RLock()
	floor, floorMS := s.meta.Floor, s.meta.FloorMS
	if st := s.streams[sid]; st != nil && st.PrunedUntil > floor {
		floor, floorMS = st.PrunedUntil, st.PrunedMS
	}
	var restored map[uint64]uint64
	if m := s.restored[sid]; len(m) > 0 {
		restored = make(map[uint64]uint64, len(m))
		for _, csn := range csns {
			if p := m[csn]; p != 0 {
				restored[csn] = p
			}
		}
	}
	table := s.positions // append-only: this view of it stays as it is
	s.mu.RUnlock()
	segFloor := s.seg.Floor()

	var row Row
	emit := func(r *segment.Record) error {
		row = Row{
			CSN: r.CSN, Op: event.Op(r.Op), TS: r.TS, FirstSeen: r.FirstSeen, Rev: uint64(r.Rev), Run: r.Run, Hash: r.Hash, ID: r.ID,
			Payload: r.Payload,
		}
		if r.Op == 0 {
			late, ok, err := s.lateRow(sid, r.CSN)
			if err != nil {
				return err
			}
			if !ok {
				row = Row{CSN: r.CSN}
				return fn(&row)
			}
			row = late
			row.PrunedMS = floorMS
		}
		row.Offset, row.Term, _ = table.offset(row.CSN)
		if row.CSN <= floor {
			row.Payload, row.PrunedMS = nil, floorMS
			if p := restored[row.CSN]; p > floor {
				payload, ok, err := s.Payload(sid, p)
				if err != nil {
					return err
				}
				if ok {
					row.Payload, row.PrunedMS = payload, 0
				}
			}
		}
		return fn(&row)
	}
	n := sort.Search(len(csns), func(i int) bool { return csns[i] >= segFloor })
	for _, csn := range csns[:n] {
		if err := emit(&segment.Record{CSN: csn}); err != nil {
			return err
		}
	}
	if err := s.seg.Read(sid, csns[n:], emit); err != nil {
		if errors.Is(err, ErrStop) {
			return err
		}
		return s.readError(err)
	}
	return nil
}

// pageOfIDs looks the records up by id; there are few.
func (s *Store) pageOfIDs(q Query, end PageEnd, fn func(*Row) error) (PageEnd, error) {
	var csns []uint64
	for _, id := range q.IDs {
		v, ok, err := s.Get(q.SID, []byte(id))
		if err != nil {
			return end, err
		}
		if ok && v.CSN > q.After {
			csns = append(csns, v.CSN)
		}
	}
	slices.Sort(csns)
	csns = slices.Compact(csns)
	returned := 0
	err := s.rows(q.SID, csns, func(row *Row) error {
		if returned == q.Limit {
			end.More = true
			return ErrStop
		}
		if row.Op != event.OpUnknown && q.Actions.has(row.Op) && row.TS >= q.ModifiedAfter {
			if err := fn(row); err != nil {
				if errors.Is(err, ErrStop) {
					end.More = true
				}
				return err
			}
			returned++
		}
		end.LastCSN = row.CSN
		return nil
	})
	if errors.Is(err, ErrStop) {
		err = nil
	}
	return end, err
}

// Versions calls fn with what is stored at csns (ascending) of a stream; csns that no longer are the latest version of a record may
// be passed with OpUnknown. Deletion detection reads its candidates with it.
func (s *Store) Versions(sid uint32, csns []uint64, fn func(*Row) error) error {
	return s.rows(sid, csns, fn)
}

func (s *Store) lateRow(sid uint32, csn uint64) (Row, bool, error) {
	b, closer, err := s.db.Get(sidKey64(keyLate, sid, csn))
	if errors.Is(err, pebble.ErrNotFound) {
		return Row{}, false, nil
	}
	if err != nil {
		return Row{}, false, s.readError(err)
	}
	row, err := parseLate(csn, b)
	if err != nil {
		err = s.hurt(err)
	}
	return row, err == nil, errors.Join(err, closer.Close())
}

// appendLate appends the value of an L row: op (1), ts, ts - first seen, rev, run as varints, hash (16), id.
func appendLate(b []byte, r *segment.Record) []byte {
	b = append(b, r.Op)
	b = binary.AppendUvarint(b, uint64(r.TS))
	b = binary.AppendVarint(b, r.TS-r.FirstSeen)
	b = binary.AppendUvarint(b, uint64(r.Rev))
	b = binary.AppendUvarint(b, r.Run)
	b = append(b, r.Hash[:]...)
	return append(b, r.ID...)
}

func parseLate(csn uint64, b []byte) (Row, error) {
	if len(b) == 0 {
		return Row{}, fmt.Errorf("%w: empty late row", errRow)
	}
	row := Row{CSN: csn, Op: event.Op(b[0])}
	d := rowDecoder{b: b[1:]}
	row.TS = int64(d.uvarint())
	row.FirstSeen = row.TS - d.varint()
	row.Rev = d.uvarint()
	row.Run = d.uvarint()
	copy(row.Hash[:], d.bytes(16))
	if d.bad {
		return Row{}, fmt.Errorf("%w: late row is cut", errRow)
	}
	row.ID = slices.Clone(d.b)
	return row, nil
}
