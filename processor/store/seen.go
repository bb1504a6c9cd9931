package store

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/RoaringBitmap/roaring/v2/roaring64"
	"github.com/cockroachdb/pebble/v2"
	"github.com/zeebo/xxh3"
)

// Seen is what a writer knew of one open run when it had decided every raw event below RawNext: what the changes topic does not say. A
// later writer on this node starts from it, and need not read those raw events again.
//
// It is a cache beside the state, not a part of it: no function of the log, absent on other nodes, not in the state topic. A row that
// does not fit is as good as none.
type Seen struct {
	SID      uint32
	StartCSN uint64   // with SID: which run
	Run      uint64   // its sequence
	RawStart int64    // raw offset of its run.started
	RawTopic [16]byte // id of the topic that the offsets belong to
	RawNext  int64
	Fence    uint64 // events of lower runs were shut out from the stream
	Lost     bool   // raw events of the run were gone before they were read

	NextOrdinal                        uint64
	Events, Skipped, NotFound, Refused uint64
	Gaps                               *roaring64.Bitmap // ordinals above NextOrdinal that have arrived
	Marks                              *roaring64.Bitmap // csns below StartCSN that were seen
}

// SeenRow is an encoded Seen.
type SeenRow struct{ key, value []byte }

// Size is the number of bytes that the row takes.
func (r *SeenRow) Size() int { return len(r.key) + len(r.value) }

const (
	seenFormat = 1
	seenLost   = 1 << 7
	seenSum    = 8
)

// Row encodes s: format and flags (1), id of the raw topic (16), run, raw start, raw next, fence, next ordinal, events, skipped, not found,
// refused and the length of the first bitmap as varints, gaps, marks, and XXH3-64 of key and value up to here (8). Bitmaps are in the
// portable format of roaring, 64 bits wide.
func (s *Seen) Row() SeenRow {
	gaps, err := s.Gaps.ToBytes()
	if err != nil {
		panic(fmt.Sprintf("store: writing a bitmap into memory: %v", err))
	}
	marks := s.Marks.GetSerializedSizeInBytes()
	key := sidKey64(keySeen, s.SID, s.StartCSN)
	b := make([]byte, 1, 1+16+10*binary.MaxVarintLen64+len(gaps)+int(marks)+seenSum)
	b[0] = seenFormat
	if s.Lost {
		b[0] |= seenLost
	}
	b = append(b, s.RawTopic[:]...)
	for _, n := range []uint64{
		s.Run, uint64(s.RawStart), uint64(s.RawNext), s.Fence, s.NextOrdinal, s.Events, s.Skipped, s.NotFound, s.Refused, uint64(len(gaps)),
	} {
		b = binary.AppendUvarint(b, n)
	}
	b = append(b, gaps...)
	w := sliceWriter{b}
	if _, err := s.Marks.WriteTo(&w); err != nil {
		panic(fmt.Sprintf("store: writing a bitmap into memory: %v", err))
	}
	return SeenRow{key, binary.BigEndian.AppendUint64(w.b, seenHash(key, w.b))}
}

// sliceWriter appends without a copy of what is there.
type sliceWriter struct{ b []byte }

func (w *sliceWriter) Write(p []byte) (int, error) {
	w.b = append(w.b, p...)
	return len(p), nil
}

// seenHash covers the key too, so that a row under another run's key is no row.
func seenHash(key, value []byte) uint64 {
	var h xxh3.Hasher
	_, _ = h.Write(key)
	_, _ = h.Write(value)
	return h.Sum64()
}

func parseSeen(key, value []byte) (*Seen, error) {
	if len(key) != 13 || len(value) < 1+16+seenSum {
		return nil, fmt.Errorf("%w: seen set of %d and %d bytes", errRow, len(key), len(value))
	}
	body, sum := value[:len(value)-seenSum], value[len(value)-seenSum:]
	if seenHash(key, body) != binary.BigEndian.Uint64(sum) {
		return nil, fmt.Errorf("%w: seen set with a wrong sum", errRow)
	}
	if f := body[0] &^ seenLost; f != seenFormat {
		return nil, fmt.Errorf("%w: "+errVersionFormat, errRow, f, seenFormat)
	}
	s := &Seen{
		SID: binary.BigEndian.Uint32(key[1:]), StartCSN: binary.BigEndian.Uint64(key[5:]), Lost: body[0]&seenLost != 0,
		RawTopic: [16]byte(body[1:17]), Gaps: roaring64.New(), Marks: roaring64.New(),
	}
	d := rowDecoder{b: body[17:]}
	s.Run = d.uvarint()
	s.RawStart = int64(d.uvarint())
	s.RawNext = int64(d.uvarint())
	s.Fence = d.uvarint()
	s.NextOrdinal = d.uvarint()
	s.Events, s.Skipped, s.NotFound, s.Refused = d.uvarint(), d.uvarint(), d.uvarint(), d.uvarint()
	n := d.uvarint()
	if d.bad || n > uint64(len(d.b)) || s.RawStart < 0 || s.RawNext <= s.RawStart || s.NextOrdinal == 0 {
		return nil, fmt.Errorf("%w: seen set is cut", errRow)
	}
	for into, part := range map[*roaring64.Bitmap][]byte{s.Gaps: d.b[:n], s.Marks: d.b[n:]} {
		if err := parseBitmap(into, part); err != nil {
			return nil, fmt.Errorf("%w: seen set: %v", errRow, err)
		}
	}
	if !s.Marks.IsEmpty() && s.Marks.Maximum() >= s.StartCSN {
		return nil, fmt.Errorf("%w: seen set beyond the start of its run", errRow)
	}
	return s, nil
}

// parseBitmap fills an empty bitmap from exactly the bytes of b. The decoder of roaring takes memory for as many parts as the first 8 bytes
// say, so that these are looked at before; a part has a key of 4 bytes and at least 8 more.
func parseBitmap(into *roaring64.Bitmap, b []byte) error {
	if len(b) < 8 || binary.LittleEndian.Uint64(b) > uint64(len(b)-8)/12 {
		return errRow
	}
	n, err := into.ReadFrom(bytes.NewReader(b))
	switch {
	case err != nil:
		return err
	case n != int64(len(b)):
		return errRow
	case into.IsEmpty():
		return nil
	}
	return into.Validate()
}

// Checkpoint is what all open runs of the partition have seen of the raw topic below one offset.
type Checkpoint struct {
	RawNext int64
	Rows    []SeenRow
	// Progress is stored with it, if not nil: the raw events below have left no trace in the log.
	Progress *Progress
}

func (c *Checkpoint) size() (n int) {
	for i := range c.Rows {
		n += c.Rows[i].Size()
	}
	return n
}

// flushBytesPerEvent bounds what a checkpoint may cause to be flushed, for each raw event since the one that did so before.
const flushBytesPerEvent = 8

// SaveSeen replaces the checkpoint. It is atomic, and ordered behind every group that has been applied; like those it is in memory until R is
// flushed. Where little changes that may take for ever, and a crash would lose the checkpoint just where most is to be gained by it: so it
// is flushed if few other rows wait. It may be called beside Apply, by one goroutine.
func (s *Store) SaveSeen(c *Checkpoint) (err error) {
	b := s.db.NewBatch()
	defer func() {
		if cerr := b.Close(); err == nil && cerr != nil {
			err = fmt.Errorf("writing what runs have seen: %w", cerr)
		}
	}()
	s.unflushed.Add(int64(c.size()))
	err = b.DeleteRange([]byte{keySeen}, []byte{keySeen + 1}, nil)
	for i := range c.Rows {
		err = errors.Join(err, b.Set(c.Rows[i].key, c.Rows[i].value, nil))
	}
	if c.Progress != nil {
		p, perr := json.Marshal(c.Progress)
		err = errors.Join(err, perr, b.Set(progressKey, p, nil))
	}
	if err == nil {
		err = b.Commit(pebble.NoSync)
	}
	if err == nil && s.unflushed.Load() <= flushBytesPerEvent*(c.RawNext-s.flushedRaw) {
		s.flushedRaw = c.RawNext
		_, err = s.db.AsyncFlush()
	}
	if err != nil {
		return fmt.Errorf("writing what runs have seen: %w", err)
	}
	return nil
}

// Seen returns the checkpoint, without the rows that cannot be read.
func (s *Store) Seen() ([]*Seen, error) {
	var out []*Seen
	err := s.scan([]byte{keySeen}, []byte{keySeen + 1}, func(key, value []byte) error {
		row, err := parseSeen(key, value)
		if err != nil {
			s.log.Warn("what a run has seen cannot be read; its raw events are read again", "key", fmt.Sprintf("%x", key), "err", err)
			return nil
		}
		out = append(out, row)
		return nil
	})
	return out, err
}
