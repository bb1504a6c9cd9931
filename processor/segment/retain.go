package segment

import (
	"fmt"
	"slices"
)

// Segment describes one file of the store.
type Segment struct {
	Name              string // path
	FirstCSN, LastCSN uint64
	NewestTS          Millis
	Bytes             int64
}

func (s *segmentFile) describe() Segment {
	return Segment{Name: s.name, FirstCSN: s.base + 1, LastCSN: s.through(), NewestTS: s.newest, Bytes: s.end}
}

// DropBelow unlinks the segments whose last csn is below csn, oldest first and each durably, and returns them. The floor rises to the first
// csn of the oldest segment left, so records of that segment below csn stay readable. The segment that is written to goes too when
// all of it is below csn: an idle partition must not keep its last payloads for ever.
//
// A csn above Appended()+1 says that the store begins there: Appended, Applied and Floor move up to it. That is how a store is set up whose log no
// longer reaches back to the first csn.
//
// On an error the segments returned are gone and the rest is unchanged; calling again continues. Dropping closed segments writes nothing
// and so works on a full disk.
func (s *Store) DropBelow(csn uint64) (dropped []Segment, err error) {
	if csn > MaxCSN {
		return nil, fmt.Errorf("%w: csn %d is above %d", ErrInvalid, csn, uint64(MaxCSN))
	}
	s.dropMu.Lock()
	defer s.dropMu.Unlock()
	drop := func() error {
		for {
			s.mu.RLock()
			closed := s.closed
			more := len(s.files) > 1 && s.files[1].base < csn
			s.mu.RUnlock()
			if closed {
				return ErrClosed
			}
			if !more {
				return nil
			}
			d, err := s.unlinkOldest()
			if d.Name != "" {
				s.o.Metrics.dropped.Inc()
				dropped = append(dropped, d)
			}
			if err != nil {
				return fmt.Errorf("dropping segment: %w", err)
			}
		}
	}
	if err := drop(); err != nil {
		return dropped, err
	}
	if err := s.beginAbove(csn); err != nil {
		return dropped, fmt.Errorf("dropping segment: %w", err)
	}
	return dropped, drop()
}

// beginAbove starts a new segment if everything on file is below csn, so that the present one can be unlinked.
func (s *Store) beginAbove(csn uint64) error {
	s.writeMu.Lock()
	defer s.writeMu.Unlock()
	if s.closed {
		return ErrClosed
	}
	if csn <= s.Applied() {
		return nil
	}
	if _, err := s.settle(true); err != nil {
		return err
	}
	if csn > s.tail.through+1 {
		if err := s.drain(); err != nil {
			return err
		}
	}
	applied := s.Applied()
	if csn <= applied {
		return nil
	}
	base := applied
	if csn > s.tail.through+1 {
		base = csn - 1
	}
	a := s.active()
	if a == nil && base == 0 || a != nil && a.base == base {
		return nil
	}
	if a != nil {
		if err := s.note(a.seal()); err != nil {
			return err
		}
	}
	if _, err := s.nextFile(base, base+1); err != nil {
		return s.note(err)
	}
	if base > applied {
		s.mu.Lock()
		old := s.tail
		s.tail, s.applied = newTail(base+1), base
		s.mu.Unlock()
		old.release()
	}
	return nil
}

// unlinkOldest removes the oldest segment and returns what it was, also when only the sync failed. The directory is synced each time: were several unlinks to reach the disk out of order, a crash
// would leave a hole. Readers that hold the file keep reading it.
func (s *Store) unlinkOldest() (Segment, error) {
	s.mu.RLock()
	f := s.files[0]
	d := f.describe()
	s.mu.RUnlock()
	if err := s.o.FS.Remove(f.name); err != nil {
		return Segment{}, err
	}
	s.mu.Lock()
	s.files = slices.Clone(s.files[1:]) // a slice of the old array would keep the index of what is gone
	s.mu.Unlock()
	f.release()
	return d, syncDir(s.o.FS, s.o.Dir)
}

// Oldest describes the oldest segment that holds anything on file: its csn range and the newest time of its calls
// and records. With it the caller
// decides what retention may drop, and moves what it still needs before DropBelow(lastCSN+1). ok is false when nothing is on file.
func (s *Store) Oldest() (firstCSN uint64, newestTS Millis, lastCSN uint64, ok bool) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if len(s.files) == 0 || len(s.files[0].frames) == 0 {
		return 0, 0, 0, false
	}
	d := s.files[0].describe()
	return d.FirstCSN, d.NewestTS, d.LastCSN, true
}

// Floor returns the lowest csn that was not dropped; 1 in a store that never dropped anything. It never falls.
func (s *Store) Floor() uint64 {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.floor()
}

func (s *Store) floor() uint64 {
	if len(s.files) == 0 {
		return s.applied + 1
	}
	return s.files[0].base + 1
}

// Seek returns a csn at or before the smallest one whose time is ts or later, no more than one flush before. A time later
// than everything gives Appended()+1. Times need not ascend.
func (s *Store) Seek(ts Millis) uint64 {
	s.mu.RLock()
	defer s.mu.RUnlock()
	for _, f := range s.files {
		if len(f.frames) == 0 || f.newest < ts {
			continue
		}
		for i := range f.frames {
			if f.frames[i].newest >= ts {
				return f.frames[i].first
			}
		}
	}
	for _, t := range []*tail{s.flushing, s.tail} {
		if t != nil && !t.empty() && t.newest >= ts {
			return t.first
		}
	}
	return s.tail.through + 1
}

// Stats are the sizes of a store.
type Stats struct {
	Segments   int
	DiskBytes  int64 // frames and headers, without footers
	IndexBytes int64 // memory of the index
	Records    int64 // on file and in memory
	TailBytes  int64 // encoded records in memory, the tail that is being flushed included
}

// Stats returns the sizes of the store.
func (s *Store) Stats() Stats {
	s.mu.RLock()
	defer s.mu.RUnlock()
	st := Stats{Segments: len(s.files)}
	for _, f := range s.files {
		st.DiskBytes += f.end
		st.IndexBytes += f.index
		st.Records += f.records
	}
	for _, t := range []*tail{s.flushing, s.tail} {
		if t != nil {
			st.Records += int64(len(t.entries))
			st.TailBytes += t.bytes
		}
	}
	return st
}
