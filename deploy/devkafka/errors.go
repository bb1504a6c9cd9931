package devkafka

import "errors"

var (
	// ErrLocked says that a running broker holds the data directory. The error that wraps it names the directory and the
	// process.
	ErrLocked = errors.New("data directory is in use")
	// ErrCorrupt says that the data directory is damaged beyond a torn last write. The error that wraps it names the file.
	// Nothing was changed.
	ErrCorrupt = errors.New("data directory is damaged")
	// ErrFormat says that the data directory belongs to a newer version, or is not a broker's at all. Nothing was changed.
	ErrFormat = errors.New("not a data directory of this version")
	// ErrPartitionCount says that a topic exists with another partition count. A stream's partition follows from the count,
	// so it cannot change.
	ErrPartitionCount = errors.New("topic has another partition count")
	// ErrClosed is returned by every method that needs a running broker once Close was called.
	ErrClosed = errors.New("broker is closed")
)
