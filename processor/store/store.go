package store

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"sort"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/bloom"
	"github.com/cockroachdb/pebble/v2/sstable"
	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/tidemark-dev/tidemark/processor/segment"
	"github.com/tidemark-dev/tidemark/schemas/event"
	"github.com/tidemark-dev/tidemark/schemas/rulev"
	"github.com/tidemark-dev/tidemark/schemas/stream"
)

// Options of a store. Zero values get the defaults that their comments give.
type Options struct {
	Dir string
	FS  vfs.FS // default: the operating system's

	MemtableBytes uint64         // 64 MiB; the budget of R before it is flushed
	BlockCache    *pebble.Cache  // shared over partitions; default: 8 MiB of its own
	SegmentCache  *segment.Cache // shared over partitions; default: none
	SegmentBytes  int64          // segment.Options
	BufferBytes   int64          // segment.Options
	// VersionsEvery is after how many changes the version bitmaps are written. 250,000.
	VersionsEvery int
	Logger        *slog.Logger
}

// ErrCorrupt says that the directory cannot be used: move it away and bootstrap.
var ErrCorrupt = errors.New("local state is corrupt")

// Store is the local state of one partition. One goroutine, the follower, calls Apply, Retain and Close; everything else is safe
// for concurrent use.
type Store struct {
	opts Options
	db   *pebble.DB
	seg  *segment.Store
	log  *slog.Logger

	damage damage

	unflushed  atomic.Int64 // bytes of R that were written since a flush ended, about
	flushedRaw int64        // of the goroutine that calls SaveSeen: the raw offset of the checkpoint that was last flushed

	mu        sync.RWMutex
	meta      meta
	streams   map[uint32]*Stream
	bySID     map[uint32]*versions
	byKey     map[string]uint32
	shapes    map[uint32]map[uint32][]string
	restored  map[uint32]map[uint64]uint64 // sid -> csn -> payload csn
	positions positions

	// Of the follower alone.
	versionsCSN uint64 // applied csn of the bitmaps as last written
	sinceWrite  int
	batch       *pebble.Batch
	order       []int
	segRecords  []segment.Record
}

// meta is the G row: the state of rule V after the group that was applied last, atomic with R.
type meta struct {
	rulev.State
	NextSID    uint32 `json:"next_sid"`
	LastTS     int64  `json:"last_ts"`
	Floor      uint64 `json:"floor"`       // payloads up to this csn are pruned, by time
	FloorMS    int64  `json:"floor_ms"`    // when
	NextOffset int64  `json:"next_offset"` // on the changes topic, after the group
}

var (
	metaKey     = []byte{keyMeta, 'm'}
	versionsKey = []byte{keyMeta, 'v'}
	progressKey = []byte{keyMeta, 'p'}
)

// Open opens or makes the state in opts.Dir. An error that wraps ErrCorrupt means the directory must be set aside.
func Open(opts Options) (*Store, error) {
	if opts.FS == nil {
		opts.FS = vfs.Default
	}
	if opts.MemtableBytes == 0 {
		opts.MemtableBytes = 64 << 20
	}
	if opts.VersionsEvery == 0 {
		opts.VersionsEvery = 250_000
	}
	if opts.Logger == nil {
		opts.Logger = slog.New(slog.DiscardHandler)
	}
	s := &Store{
		opts: opts, log: opts.Logger,
		streams: map[uint32]*Stream{}, bySID: map[uint32]*versions{}, byKey: map[string]uint32{},
		shapes: map[uint32]map[uint32][]string{}, restored: map[uint32]map[uint64]uint64{},
		meta: meta{State: rulev.Start(), NextSID: 1}, damage: damage{found: make(chan struct{})},
	}
	if err := opts.FS.MkdirAll(opts.Dir, 0o755); err != nil {
		return nil, fmt.Errorf("making %s: %w", opts.Dir, err)
	}
	popts := pebbleOptions(opts)
	// Without a listener of ours Pebble ends the process at the first damaged block.
	popts.EventListener = &pebble.EventListener{
		DataCorruption: func(info pebble.DataCorruptionInfo) { _ = s.hurt(info.Details) },
		FlushEnd:       func(pebble.FlushInfo) { s.unflushed.Store(0) },
	}
	db, err := pebble.Open(opts.FS.PathJoin(opts.Dir, "meta"), popts)
	if err != nil {
		if pebble.IsCorruptionError(err) || unfit(err) {
			return nil, fmt.Errorf("%w: opening rows: %w", ErrCorrupt, err)
		}
		return nil, fmt.Errorf("opening rows: %w", err)
	}
	s.db = db
	if err := s.load(); err != nil {
		return nil, errors.Join(err, db.Close())
	}
	seg, err := segment.Open(segment.Options{
		Dir: opts.FS.PathJoin(opts.Dir, "seg"), FS: opts.FS, SegmentBytes: opts.SegmentBytes, BufferBytes: opts.BufferBytes,
		Cache: opts.SegmentCache, Logger: opts.Logger,
	})
	if err != nil {
		if errors.Is(err, segment.ErrCorrupt) {
			err = fmt.Errorf("%w: %w", ErrCorrupt, err)
		}
		return nil, errors.Join(fmt.Errorf("opening segments: %w", err), db.Close())
	}
	s.seg = seg
	s.batch = db.NewBatch()
	return s, nil
}

// pebbleOptions tunes R for random updates: no WAL, a large memtable, a large first level that is not compressed, and twice as many
// files in it before they are merged into the next as is usual: a look-up has bloom filters, and most look-ups never come here. Rows
// are hashes for the greater part, which only an entropy coder makes smaller; the last level holds nearly all of them.
func pebbleOptions(o Options) *pebble.Options {
	p := &pebble.Options{
		FS: o.FS, Cache: o.BlockCache, DisableWAL: true,
		MemTableSize: o.MemtableBytes, MemTableStopWritesThreshold: 3,
		LBaseMaxBytes: 512 << 20, L0CompactionThreshold: 4, L0StopWritesThreshold: 40,
		FormatMajorVersion: pebble.FormatNewest,
		Logger:             pebbleLogger{o.Logger},
	}
	for i := range p.Levels {
		p.Levels[i].FilterPolicy = bloom.FilterPolicy(10)
		p.Levels[i].BlockSize = 4 << 10
		p.Levels[i].Compression = func() *sstable.CompressionProfile { return sstable.SnappyCompression }
	}
	p.Levels[0].Compression = func() *sstable.CompressionProfile { return sstable.NoCompression }
	last := &p.Levels[len(p.Levels)-1]
	last.BlockSize = 8 << 10
	last.Compression = func() *sstable.CompressionProfile { return sstable.ZstdCompression }
	return p
}

// pebbleLogger passes on only what is wrong: a healthy minute is silent.
type pebbleLogger struct{ log *slog.Logger }

func (pebbleLogger) Infof(string, ...any) {}
func (l pebbleLogger) Errorf(format string, args ...any) {
	l.log.Warn("rows: " + fmt.Sprintf(format, args...))
}
func (l pebbleLogger) Fatalf(format string, args ...any) {
	panic("rows: " + fmt.Sprintf(format, args...))
}

// load reads everything that is kept in memory.
func (s *Store) load() error {
	if err := s.getJSON(metaKey, &s.meta); err != nil {
		return err
	}
	type loader struct {
		space byte
		fn    func(key, value []byte) error
	}
	for _, l := range []loader{
		{keyStream, s.loadStream}, {keyRun, s.loadRun}, {keyShape, s.loadShape}, {keyVersions, s.loadVersions},
		{keyRestored, s.loadRestored}, {keyPosition, s.loadPosition},
	} {
		if err := s.scan([]byte{l.space}, []byte{l.space + 1}, l.fn); err != nil {
			return err
		}
	}
	for _, st := range s.streams {
		st.sortRuns()
	}
	v, closer, err := s.db.Get(versionsKey)
	switch {
	case errors.Is(err, pebble.ErrNotFound):
	case err != nil:
		return s.readError(err)
	default:
		s.versionsCSN = binary.BigEndian.Uint64(v)
		if err := closer.Close(); err != nil {
			return fmt.Errorf("reading rows: %w", err)
		}
	}
	return nil
}

func (s *Store) getJSON(key []byte, v any) error {
	b, closer, err := s.db.Get(key)
	if errors.Is(err, pebble.ErrNotFound) {
		return nil
	}
	if err != nil {
		return s.readError(err)
	}
	if err := json.Unmarshal(b, v); err != nil {
		return errors.Join(s.hurt(err), closer.Close())
	}
	return closer.Close()
}

// scan calls fn for every row in [lower, upper). The slices are valid during the call.
func (s *Store) scan(lower, upper []byte, fn func(key, value []byte) error) (err error) {
	it, err := s.db.NewIter(&pebble.IterOptions{LowerBound: lower, UpperBound: upper})
	if err != nil {
		return s.readError(err)
	}
	defer func() { err = errors.Join(err, it.Close()) }()
	for it.First(); it.Valid(); it.Next() {
		v, err := it.ValueAndErr()
		if err != nil {
			return s.readError(err)
		}
		if err := fn(it.Key(), v); err != nil {
			return err
		}
	}
	if err := it.Error(); err != nil {
		return s.readError(err)
	}
	return nil
}

func corrupt(err error) error { return fmt.Errorf("%w: %w", ErrCorrupt, err) }

func (s *Store) loadStream(key, value []byte) error {
	var st Stream
	if err := json.Unmarshal(value, &st); err != nil {
		return corrupt(err)
	}
	st.Key = event.NewKey(st.Stream)
	s.addStream(&st)
	return nil
}

func (s *Store) addStream(st *Stream) {
	s.streams[st.SID] = st
	s.byKey[st.Key.Stream] = st.SID
	if s.bySID[st.SID] == nil {
		s.bySID[st.SID] = newVersions()
	}
	s.meta.NextSID = max(s.meta.NextSID, st.SID+1)
}

func (s *Store) loadRun(key, value []byte) error {
	var r Run
	if err := json.Unmarshal(value, &r); err != nil {
		return corrupt(err)
	}
	if len(key) != 13 {
		return corrupt(errRow)
	}
	if st := s.streams[binary.BigEndian.Uint32(key[1:])]; st != nil {
		st.Runs = append(st.Runs, &r)
	}
	return nil
}

func (s *Store) loadShape(key, value []byte) error {
	var names []string
	if err := json.Unmarshal(value, &names); err != nil {
		return corrupt(err)
	}
	if len(key) != 9 {
		return corrupt(errRow)
	}
	s.addShape(binary.BigEndian.Uint32(key[1:]), binary.BigEndian.Uint32(key[5:]), names)
	return nil
}

func (s *Store) addShape(sid, shape uint32, names []string) {
	m := s.shapes[sid]
	if m == nil {
		m = map[uint32][]string{}
		s.shapes[sid] = m
	}
	m[shape] = names
}

func (s *Store) loadVersions(key, value []byte) error {
	if len(key) != 13 {
		return corrupt(errRow)
	}
	sid := binary.BigEndian.Uint32(key[1:])
	v := s.bySID[sid]
	if v == nil {
		v = newVersions()
		s.bySID[sid] = v
	}
	if err := v.decodeChunk(binary.BigEndian.Uint64(key[5:]), value); err != nil {
		return corrupt(err)
	}
	return nil
}

func (s *Store) loadRestored(key, value []byte) error {
	if len(key) != 13 || len(value) != 8 {
		return corrupt(errRow)
	}
	s.addRestored(binary.BigEndian.Uint32(key[1:]), binary.BigEndian.Uint64(key[5:]), binary.BigEndian.Uint64(value))
	return nil
}

func (s *Store) addRestored(sid uint32, csn, payloadCSN uint64) {
	m := s.restored[sid]
	if m == nil {
		m = map[uint64]uint64{}
		s.restored[sid] = m
	}
	m[csn] = payloadCSN
}

func (s *Store) loadPosition(key, value []byte) error {
	p, err := parsePosition(key, value)
	if err != nil {
		return corrupt(err)
	}
	s.positions = append(s.positions, p)
	return nil
}

// Resume is where the follower must read on so that every part gets what it lacks.
type Resume struct {
	State  rulev.State
	Offset int64 // -1: from the start of the log
}

// Resume returns the smallest applied position of the parts. Groups between it and Applied are given to Apply again, which takes
// from them what is missing. It is a group boundary, for parts only ever hold whole groups.
func (s *Store) Resume() Resume {
	s.mu.RLock()
	defer s.mu.RUnlock()
	rows := s.meta.NextCSN - 1
	least := min(rows, s.versionsCSN, s.seg.Applied())
	if least == rows {
		offset := s.meta.NextOffset
		if rows == 0 && s.meta.Term == 0 {
			offset = -1
		}
		return Resume{State: s.meta.State, Offset: offset}
	}
	p, ok := s.positions.at(least)
	if least == 0 || !ok {
		return Resume{State: rulev.Start(), Offset: -1}
	}
	offset, _, _ := s.positions.offset(least)
	return Resume{State: rulev.State{Term: p.Term, Nonce: p.Nonce, NextCSN: least + 1}, Offset: offset + 1}
}

// Group is a valid group and the state of rule V after it.
type Group struct {
	Records    []*Record
	State      rulev.State
	NextOffset int64 // changes offset after the group
}

// Apply takes the next valid group. Groups that parts have already are ignored by those parts. After an error the store must be
// closed and opened again: what is in memory may be ahead of what is on disk.
func (s *Store) Apply(g *Group) error {
	last := g.State.NextCSN - 1
	if err := s.applySegments(g, last); err != nil {
		return err
	}
	rows := last > s.meta.NextCSN-1
	bits := last > s.versionsCSN
	if rows {
		if err := s.applyRows(g); err != nil {
			return err
		}
	}
	s.mu.Lock()
	if rows {
		s.applyMemory(g)
	}
	if bits {
		s.applyVersions(g, rows)
	}
	s.mu.Unlock()
	if rows {
		if err := s.commitRows(g); err != nil {
			return err
		}
	}
	s.sinceWrite += len(g.Records)
	if s.sinceWrite >= s.opts.VersionsEvery {
		return s.writeVersions()
	}
	return nil
}

func (s *Store) applySegments(g *Group, last uint64) error {
	if last <= s.seg.Appended() {
		return nil
	}
	recs := s.segRecords[:0]
	var ts int64
	for i := range g.Records {
		r := g.Records[i]
		ts = r.Meta.TS
		if !r.Op.IsChange() && r.Op != event.OpRestored {
			continue
		}
		recs = append(recs, segment.Record{
			SID: r.Meta.SID, CSN: r.Meta.CSN, Op: byte(r.Op), Rev: uint32(r.Meta.Rev), TS: r.Meta.TS, FirstSeen: r.Meta.FirstSeen,
			Hash: r.Meta.Hash, Run: r.Meta.Run, ID: r.ID, Payload: r.Payload,
		})
	}
	err := s.seg.Append(recs, last, ts)
	clear(recs)
	s.segRecords = recs[:0]
	if err != nil {
		return fmt.Errorf("appending payloads: %w", err)
	}
	return nil
}

// applyRows fills the batch with the R rows, in key order inside the group: sorted inserts are cheaper for the memtable. Of several
// versions of one record in the group only the last is written.
func (s *Store) applyRows(g *Group) error {
	s.order = s.order[:0]
	for i := range g.Records {
		r := g.Records[i]
		if r.Op.IsChange() || r.Op == event.OpRestored {
			s.order = append(s.order, i)
		} else if r.Op == event.OpCleared || r.Op == event.OpPurged {
			if r.Control.Mode == event.ClearSoft {
				continue
			}
			if err := s.flushRows(g); err != nil {
				return err
			}
			if err := s.clearRows(r.Meta.SID); err != nil {
				return err
			}
		}
	}
	return s.flushRows(g)
}

func (s *Store) flushRows(g *Group) error {
	recs := g.Records
	sort.SliceStable(s.order, func(a, b int) bool {
		x, y := recs[s.order[a]], recs[s.order[b]]
		if x.Meta.SID != y.Meta.SID {
			return x.Meta.SID < y.Meta.SID
		}
		return string(x.ID) < string(y.ID)
	})
	var key, val [1024]byte
	for n, i := range s.order {
		r := recs[i]
		if r.Op == event.OpRestored {
			if err := s.restoreRow(r); err != nil {
				return err
			}
			continue
		}
		if r.Meta.PrevCSN != 0 && r.Meta.PrevCSN < s.seg.Floor() {
			if err := s.batch.Delete(sidKey64(keyLate, r.Meta.SID, r.Meta.PrevCSN), nil); err != nil {
				return fmt.Errorf("writing rows: %w", err)
			}
		}
		if r.Meta.PrevCSN != 0 && s.restored[r.Meta.SID][r.Meta.PrevCSN] != 0 {
			if err := s.batch.Delete(sidKey64(keyRestored, r.Meta.SID, r.Meta.PrevCSN), nil); err != nil {
				return fmt.Errorf("writing rows: %w", err)
			}
		}
		if n+1 < len(s.order) {
			if next := recs[s.order[n+1]]; next.Meta.SID == r.Meta.SID && string(next.ID) == string(r.ID) {
				continue
			}
		}
		v := Version{
			CSN: r.Meta.CSN, PayloadCSN: r.Meta.CSN, Op: r.Op, TS: r.Meta.TS, FirstSeen: r.Meta.FirstSeen, Rev: r.Meta.Rev,
			Hash: r.Meta.Hash, Raw: r.Raw, Shape: r.Shape, Fields: r.Fields,
		}
		if err := s.batch.Set(appendRowKey(key[:0], r.Meta.SID, r.ID), appendVersion(val[:0], &v), nil); err != nil {
			return fmt.Errorf("writing rows: %w", err)
		}
	}
	s.order = s.order[:0]
	return nil
}

// restoreRow points the record of a RESTORED at the csn that carries its payload. It is the only read of Apply, and rare.
func (s *Store) restoreRow(r *Record) error {
	v, ok, err := s.Get(r.Meta.SID, r.ID)
	if err != nil || !ok {
		return err
	}
	v.PayloadCSN, v.Raw, v.Shape, v.Fields = r.Meta.CSN, r.Raw, r.Shape, r.Fields
	if err := s.batch.Set(appendRowKey(nil, r.Meta.SID, r.ID), appendVersion(nil, &v), nil); err != nil {
		return fmt.Errorf("writing rows: %w", err)
	}
	return s.set(sidKey64(keyRestored, r.Meta.SID, v.CSN), binary.BigEndian.AppendUint64(nil, r.Meta.CSN))
}

// clearRows removes every record of a stream: rows, late rows and restores. Versions follow in memory.
func (s *Store) clearRows(sid uint32) error {
	for _, space := range []byte{keyRow, keyLate, keyRestored} {
		lower, upper := sidSpan(space, sid)
		if err := s.batch.DeleteRange(lower, upper, nil); err != nil {
			return fmt.Errorf("writing rows: %w", err)
		}
	}
	return nil
}

func (s *Store) set(key, value []byte) error {
	if err := s.batch.Set(key, value, nil); err != nil {
		return fmt.Errorf("writing rows: %w", err)
	}
	return nil
}

// applyMemory takes what the group says of streams, shapes and positions. The caller holds mu.
func (s *Store) applyMemory(g *Group) {
	for i := range g.Records {
		r := g.Records[i]
		m := &r.Meta
		if i == 0 || m.CSN == 0 {
			next := position{CSN: m.CSN, Offset: r.Offset, Term: m.Term, Nonce: m.Nonce}
			if !s.positions.covers(next) {
				s.positions = append(s.positions, next)
			}
		} else if e, _, ok := s.positions.offset(m.CSN); ok && e != r.Offset {
			s.positions = append(s.positions, position{CSN: m.CSN, Offset: r.Offset, Term: m.Term, Nonce: m.Nonce})
		}
		s.meta.LastTS = max(s.meta.LastTS, m.TS)
		if r.Op == event.OpPruned && m.SID == 0 {
			s.meta.Floor, s.meta.FloorMS = max(s.meta.Floor, r.Control.UntilCSN), m.TS
		}
		if m.SID == 0 {
			continue
		}
		st := s.streams[m.SID]
		if st == nil {
			id, err := stream.ParseKey(r.Stream)
			if err != nil {
				// Writers only ever emit canonical keys; rule V has vouched for the record.
				panic(fmt.Sprintf("store: csn %d: %v", m.CSN, err))
			}
			st = NewStream(m.SID, id, r.Key)
			s.addStream(st)
		}
		st.Apply(r)
		if r.Names != nil && s.shapes[m.SID][r.Shape] == nil {
			s.addShape(m.SID, r.Shape, r.Names)
			s.newShape(m.SID, r.Shape, r.Names)
		}
		if r.Op == event.OpRestored {
			s.addRestored(m.SID, m.PrevCSN, m.CSN)
		} else if m.PrevCSN != 0 && len(s.restored[m.SID]) > 0 {
			delete(s.restored[m.SID], m.PrevCSN)
		}
		if (r.Op == event.OpCleared || r.Op == event.OpPurged) && r.Control.Mode != event.ClearSoft {
			delete(s.restored, m.SID)
		}
	}
	s.meta.State, s.meta.NextOffset = g.State, g.NextOffset
}

// newShape writes a shape into the batch. Names always encode.
func (s *Store) newShape(sid, shape uint32, names []string) {
	b, err := json.Marshal(names)
	if err == nil {
		err = s.batch.Set(binary.BigEndian.AppendUint32(sidKey(keyShape, sid), shape), b, nil)
	}
	if err != nil {
		panic(fmt.Sprintf("store: writing a shape into memory: %v", err))
	}
}

// applyVersions moves the version bits. The caller holds mu.
func (s *Store) applyVersions(g *Group, _ bool) {
	for i := range g.Records {
		r := g.Records[i]
		m := &r.Meta
		v := s.bySID[m.SID]
		if v == nil {
			if m.SID == 0 {
				continue
			}
			v = newVersions()
			s.bySID[m.SID] = v
		}
		switch {
		case r.Op.IsChange():
			if m.PrevCSN != 0 {
				v.clear(m.PrevCSN)
			}
			v.set(m.CSN, r.Op == event.OpDeleted)
		case (r.Op == event.OpCleared || r.Op == event.OpPurged) && r.Control.Mode != event.ClearSoft:
			v.reset()
		}
	}
}

// stageStreams puts the rows of streams and of their changed runs into the batch. The caller holds mu.
func (s *Store) stageStreams(sids map[uint32]struct{}) error {
	for sid := range sids {
		st := s.streams[sid]
		b, err := json.Marshal(st)
		if err != nil {
			return fmt.Errorf("encoding stream: %w", err)
		}
		if err := s.set(sidKey(keyStream, sid), b); err != nil {
			return err
		}
		for _, run := range st.Runs {
			if !run.dirty {
				continue
			}
			if b, err = json.Marshal(run); err != nil {
				return fmt.Errorf("encoding run: %w", err)
			}
			if err := s.set(sidKey64(keyRun, sid, run.StartCSN), b); err != nil {
				return err
			}
			run.dirty = false
		}
	}
	return nil
}

// commitRows writes the batch: rows, streams, runs, positions and the G row, in one step.
func (s *Store) commitRows(g *Group) error {
	touched := map[uint32]struct{}{}
	for i := range g.Records {
		if sid := g.Records[i].Meta.SID; sid != 0 {
			touched[sid] = struct{}{}
		}
	}
	// Readers copy runs under the lock; clearing their marks is a write.
	s.mu.Lock()
	err := s.stageStreams(touched)
	s.mu.Unlock()
	if err != nil {
		return err
	}
	first := g.Records[0].Meta.CSN
	for i := len(s.positions) - 1; i >= 0 && s.positions[i].CSN >= first; i-- {
		if err := s.set(s.positions[i].key(), s.positions[i].value()); err != nil {
			return err
		}
	}
	b, err := json.Marshal(&s.meta)
	if err != nil {
		return fmt.Errorf("encoding applied position: %w", err)
	}
	if err := s.set(metaKey, b); err != nil {
		return err
	}
	return s.commit()
}

func (s *Store) commit() error {
	s.unflushed.Add(int64(s.batch.Len()))
	if err := s.batch.Commit(pebble.NoSync); err != nil {
		return fmt.Errorf("writing rows: %w", err)
	}
	s.batch.Reset()
	return nil
}

// writeVersions writes the bitmaps' dirty chunks with their own applied csn.
func (s *Store) writeVersions() error {
	for sid, v := range s.bySID {
		for chunk := range v.dirty {
			row, err := v.encodeChunk(chunk)
			if err != nil {
				return err
			}
			key := sidKey64(keyVersions, sid, chunk)
			if row == nil {
				err = s.batch.Delete(key, nil)
			} else {
				err = s.batch.Set(key, row, nil)
			}
			if err != nil {
				return fmt.Errorf("writing versions: %w", err)
			}
		}
		clear(v.dirty)
	}
	applied := s.meta.NextCSN - 1
	if err := s.set(versionsKey, binary.BigEndian.AppendUint64(nil, applied)); err != nil {
		return err
	}
	if err := s.commit(); err != nil {
		return err
	}
	s.versionsCSN, s.sinceWrite = applied, 0
	return nil
}

// Applied is the rule V state after the last applied group.
func (s *Store) Applied() rulev.State {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.meta.State
}

// LastTS is the largest ts of any applied record, in ms.
func (s *Store) LastTS() int64 {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.meta.LastTS
}

// NextSID is the smallest stream number that was never used.
func (s *Store) NextSID() uint32 {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.meta.NextSID
}

// Progress is how far the raw topic has been read without output.
type Progress struct {
	NextCSN uint64 `json:"next_csn"`
	RawNext int64  `json:"raw_next"`
}

// SaveProgress notes that nothing came out of the raw events up to rawNext since nextCSN. Losing it costs reading them again.
func (s *Store) SaveProgress(p Progress) error {
	b, err := json.Marshal(p)
	if err != nil {
		return fmt.Errorf("encoding progress: %w", err)
	}
	if err := s.db.Set(progressKey, b, pebble.NoSync); err != nil {
		return fmt.Errorf("writing progress: %w", err)
	}
	return nil
}

// RawNext is where the writer goes on: after the last group, or further if nothing came out of what followed.
func (s *Store) RawNext() (int64, error) {
	st := s.Applied()
	var p Progress
	if err := s.getJSON(progressKey, &p); err != nil {
		return 0, err
	}
	if p.NextCSN == st.NextCSN && p.RawNext > st.RawNext {
		return p.RawNext, nil
	}
	return st.RawNext, nil
}

// FlushPayloads writes the payloads that are only in memory.
func (s *Store) FlushPayloads() error {
	if err := s.seg.Flush(); err != nil {
		return fmt.Errorf("flushing payloads: %w", err)
	}
	return nil
}

// Flush writes everything to the operating system, so that the next Open has nothing to read again.
func (s *Store) Flush() error {
	if err := s.FlushPayloads(); err != nil {
		return err
	}
	if err := s.writeVersions(); err != nil {
		return err
	}
	if err := s.db.Flush(); err != nil {
		return fmt.Errorf("flushing rows: %w", err)
	}
	return nil
}

// Close flushes and closes. It must be called once, after every reader has returned.
func (s *Store) Close() error {
	err := s.Flush()
	return errors.Join(err, s.seg.Close(), s.batch.Close(), s.db.Close())
}

// Abandon closes without flushing, as a crash would leave it; for a store that returned an error, and for tests.
func (s *Store) Abandon() error {
	return errors.Join(s.seg.Close(), s.batch.Close(), s.db.Close())
}

// Floor is the csn up to which payloads are pruned by time.
func (s *Store) Floor() uint64 {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.meta.Floor
}

// rawMark notes how far raw had been processed at a time.
type rawMark struct {
	MS  int64 `json:"ms"`
	Raw int64 `json:"raw"`
}

var rawMarksKey = []byte{keyMeta, 'r'}

const (
	rawMarkEvery = time.Hour
	rawMarksMax  = 24 * 90
)

// RawBefore returns the raw offset below which everything had been processed retention ago; 0 if that is not known. It keeps the notes
// that it answers from, one an hour; only what is committed counts.
func (s *Store) RawBefore(now time.Time, retention time.Duration) (int64, error) {
	var marks []rawMark
	if err := s.getJSON(rawMarksKey, &marks); err != nil {
		return 0, err
	}
	if n := len(marks); n == 0 || now.UnixMilli() >= marks[n-1].MS+rawMarkEvery.Milliseconds() {
		marks = append(marks, rawMark{now.UnixMilli(), s.Applied().RawNext})
		if len(marks) > rawMarksMax {
			marks = marks[1:]
		}
		b, err := json.Marshal(marks)
		if err != nil {
			return 0, fmt.Errorf("encoding raw marks: %w", err)
		}
		if err := s.db.Set(rawMarksKey, b, pebble.NoSync); err != nil {
			return 0, fmt.Errorf("writing raw marks: %w", err)
		}
	}
	var before int64
	for _, m := range marks {
		if m.MS <= now.Add(-retention).UnixMilli() {
			before = m.Raw
		}
	}
	return before, nil
}
