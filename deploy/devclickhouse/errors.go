package devclickhouse

import "errors"

var (
	// ErrLocked says that another process runs a ClickHouse on the directory.
	ErrLocked = errors.New("data directory is in use")
	// ErrFormat says that the directory is not one of this version's, or not an embedded ClickHouse's at all. Nothing was changed.
	ErrFormat = errors.New("not a data directory of this version")
	// ErrStart says that the child did not come up. The error that wraps it holds its last lines.
	ErrStart = errors.New("the embedded ClickHouse did not start")
)
