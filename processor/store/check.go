package store

import (
	"fmt"

	"github.com/RoaringBitmap/roaring/v2/roaring64"

	"github.com/tidemark-dev/tidemark/schemas/stream"
)

// Check compares the parts with one another (I7): rows and version bits are in bijection, and the live count, total and digest of
// every stream are what its rows add up to. It reads all rows; the follower must not apply anything meanwhile.
func (s *Store) Check() error {
	for _, st := range s.Streams(stream.ID{}) {
		latest, deleted := roaring64.New(), roaring64.New()
		var digest Digest
		var live, total uint64
		err := s.Scan(st.SID, func(id []byte, v *Version) error {
			if latest.Contains(v.CSN) {
				return fmt.Errorf("%w: I7: two records of %s have csn %d", ErrCorrupt, st.Key.Stream, v.CSN)
			}
			latest.Add(v.CSN)
			total++
			if v.Live() {
				live++
				digest = digest.Add(DigestOf(id, &v.Hash))
			} else {
				deleted.Add(v.CSN)
			}
			return nil
		})
		if err != nil {
			return err
		}
		s.mu.RLock()
		v := s.bySID[st.SID]
		same := v.latest.Equals(latest) && v.deleted.Equals(deleted)
		s.mu.RUnlock()
		switch {
		case !same:
			return fmt.Errorf("%w: I7: rows and versions of %s differ", ErrCorrupt, st.Key.Stream)
		case live != st.Live || total != st.Total:
			return fmt.Errorf("%w: I7: %s has %d live records of %d, its counters say %d of %d", ErrCorrupt, st.Key.Stream, live, total, st.Live, st.Total)
		case digest != st.Digest:
			return fmt.Errorf("%w: I7: the digest of %s is not that of its rows", ErrCorrupt, st.Key.Stream)
		}
	}
	return nil
}
