package store

import (
	"fmt"

	"github.com/tidemark-dev/tidemark/processor/segment"
)

// Retain unlinks the segments that lie wholly below the prune floor. What pages must still list of them - the latest versions
// without their payloads - moves into late rows first, and those are on disk before anything is unlinked. The follower calls it
// after the floor has risen; it returns how many segments went.
func (s *Store) Retain() (int, error) {
	s.mu.RLock()
	floor := s.meta.Floor
	s.mu.RUnlock()
	dropped := 0
	for {
		first, _, last, ok := s.seg.Oldest()
		if !ok || last > floor || last > s.seg.Applied() {
			return dropped, nil
		}
		if err := s.writeLate(first, last); err != nil {
			return dropped, err
		}
		if err := s.db.Flush(); err != nil {
			return dropped, fmt.Errorf("flushing rows: %w", err)
		}
		gone, err := s.seg.DropBelow(last + 1)
		if err != nil {
			return dropped, fmt.Errorf("dropping segments: %w", err)
		}
		if len(gone) == 0 {
			return dropped, nil // the open segment is not dropped
		}
		dropped += len(gone)
	}
}

// writeLate writes late rows for the latest versions in [first, last].
func (s *Store) writeLate(first, last uint64) error {
	s.mu.RLock()
	wanted := map[uint32][]uint64{}
	for sid, v := range s.bySID {
		it := v.latest.Iterator()
		it.AdvanceIfNeeded(first)
		for it.HasNext() && it.PeekNext() <= last {
			wanted[sid] = append(wanted[sid], it.Next())
		}
	}
	s.mu.RUnlock()
	for sid, csns := range wanted {
		err := s.seg.Read(sid, csns, func(r *segment.Record) error {
			if r.Op == 0 {
				return s.hurt(fmt.Errorf("payload of stream %d, csn %d is missing", sid, r.CSN))
			}
			return s.set(sidKey64(keyLate, sid, r.CSN), appendLate(nil, r))
		})
		if err != nil {
			return fmt.Errorf("writing late rows: %w", s.readError(err))
		}
		if err := s.commit(); err != nil {
			return err
		}
	}
	return nil
}

// Oldest returns the csns of the oldest segment and the ts of its newest record; ok is false if there is none.
func (s *Store) Oldest() (firstCSN uint64, newestTS int64, lastCSN uint64, ok bool) {
	return s.seg.Oldest()
}

// CSNBefore returns the end of a group before which every record is older than ts; 0 if there is none. It is coarse: it may be lower
// than it could be.
func (s *Store) CSNBefore(ts int64) uint64 {
	c := s.seg.Seek(ts)
	if c == 0 {
		return 0
	}
	return min(c-1, s.Applied().NextCSN-1)
}
