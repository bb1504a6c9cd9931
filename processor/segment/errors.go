package segment

import (
	"errors"
	"fmt"
)

var (
	// ErrNotFound says that the stream has no record at the csn.
	ErrNotFound = errors.New("segment: no such record")
	// ErrPruned says that the csn is below the floor: its segment was dropped.
	ErrPruned = errors.New("segment: record is below the floor")
	// ErrCorrupt says that stored bytes don't match their checksums or that a file is missing. The message names file and offset. The
	// directory has to be put aside and built again from the log.
	ErrCorrupt = errors.New("segment: corrupt")
	// ErrInvalid says that the arguments break the contract of the call; nothing was changed.
	ErrInvalid = errors.New("segment: invalid argument")
	// ErrClosed says that the store was closed.
	ErrClosed = errors.New("segment: store is closed")
)

func corrupt(file string, offset int64, reason string) error {
	return fmt.Errorf("%w: %s at offset %d: %s", ErrCorrupt, file, offset, reason)
}
