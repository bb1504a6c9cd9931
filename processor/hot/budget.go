package hot

import "sync/atomic"

// Budget bounds the memory of all tables of a process. Safe for concurrent use.
type Budget struct {
	max     int64
	used    atomic.Int64
	pressed atomic.Uint64
}

// NewBudget returns a budget of that many bytes.
func NewBudget(bytes int64) *Budget { return &Budget{max: bytes} }

// Used is how many bytes are held.
func (b *Budget) Used() int64 { return b.used.Load() }

// Max is how many bytes may be held.
func (b *Budget) Max() int64 { return b.max }

// take reserves n bytes, if they are there.
func (b *Budget) take(n int64) bool {
	if b.used.Add(n) <= b.max {
		return true
	}
	b.used.Add(-n)
	return false
}

// Press says that somebody who holds less than a fair share found no memory. Whoever holds more notices by Pressed, and gives some back.
func (b *Budget) Press() { b.pressed.Add(1) }

// Pressed is how often Press was called.
func (b *Budget) Pressed() uint64 { return b.pressed.Load() }

func (b *Budget) give(n int64) { b.used.Add(-n) }
