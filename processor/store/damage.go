package store

import (
	"errors"
	"fmt"
	"io/fs"
	"sync"
	"syscall"

	"github.com/cockroachdb/pebble/v2"

	"github.com/tidemark-dev/tidemark/processor/segment"
)

// damage remembers that the state was found corrupt: by whoever read it, or by a compaction in the background that has nobody to tell.
type damage struct {
	once  sync.Once
	found chan struct{}
	err   error // valid once found is closed; wraps ErrCorrupt
}

// Damaged is closed once anything has found the state corrupt. The directory must then be set aside; Damage says why.
func (s *Store) Damaged() <-chan struct{} { return s.damage.found }

// Damage is what closed Damaged, or nil. It wraps ErrCorrupt.
func (s *Store) Damage() error {
	select {
	case <-s.damage.found:
		return s.damage.err
	default:
		return nil
	}
}

// hurt notes damage, and returns it as ErrCorrupt.
func (s *Store) hurt(err error) error {
	if !errors.Is(err, ErrCorrupt) {
		err = fmt.Errorf("%w: %w", ErrCorrupt, err)
	}
	s.damage.once.Do(func() {
		s.damage.err = err
		close(s.damage.found)
	})
	return err
}

// readError tells damage from what may pass.
func (s *Store) readError(err error) error {
	if errors.Is(err, ErrCorrupt) || errors.Is(err, segment.ErrCorrupt) || pebble.IsCorruptionError(err) || errors.Is(err, fs.ErrNotExist) {
		return s.hurt(fmt.Errorf("reading rows: %w", err))
	}
	return fmt.Errorf("reading rows: %w", err)
}

// unfit reports whether a directory could not be opened because of what is in it. Files that are missing, too short or of no sense come
// with all kinds of errors, so it is asked the other way round: what is no refusal of the machine - no space, no permission, too many
// files, a lock - is the directory's fault. A sector that cannot be read is, too: built again it lies elsewhere.
func unfit(err error) bool {
	var no syscall.Errno
	return !errors.As(err, &no) || no == syscall.ENOENT || no == syscall.EIO || no == syscall.EISDIR || no == syscall.ENOTDIR
}
