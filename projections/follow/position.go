package follow

import (
	"fmt"

	"github.com/tidemark-dev/tidemark/schemas/cursor"
	"github.com/tidemark-dev/tidemark/schemas/errcode"
	"github.com/tidemark-dev/tidemark/schemas/rulev"
)

// Offsets of a Position that stand for what they are when a follower first reaches the broker.
const (
	OffsetStart int64 = -2 // the first record that is still there
	OffsetEnd   int64 = -1 // behind the last one
)

// Position is where to go on in one partition. It is plain data; its JSON is stable.
type Position struct {
	Partition int32 `json:"partition"`
	Offset    int64 `json:"offset"` // of the next record to read, OffsetStart or OffsetEnd
	// State is what the rule knows in front of Offset; NextCSN 0: nothing. RawNext may be 0 as long as no group has been read.
	State rulev.State `json:"state"`
	// Exact: State is beyond doubt.
	Exact bool `json:"exact"`
	// SeenCSN is the highest csn delivered; nothing at or below it will be.
	SeenCSN uint64 `json:"seen_csn"`
	// Cursor, if set, is where to go on instead: behind the change that it names. The other members but Partition are then
	// ignored.
	Cursor string `json:"cursor,omitempty"`
}

// AtStart is the beginning of what is left of a partition.
func AtStart(partition int32) Position { return Position{Partition: partition, Offset: OffsetStart} }

// AtEnd is the end of a partition, as it is when the follower gets there.
func AtEnd(partition int32) Position { return Position{Partition: partition, Offset: OffsetEnd} }

// AtOffset is the first group that ends at that offset or behind it.
func AtOffset(partition int32, offset int64) Position {
	return Position{Partition: partition, Offset: offset}
}

// AtCursor is behind the change that a cursor names. The cursor must know its offset.
func AtCursor(c cursor.Cursor) Position {
	return Position{Partition: c.Partition, Offset: c.Offset, Cursor: c.String()}
}

// known reports whether the rule can go on from State.
func (p *Position) known() bool { return p.State.NextCSN != 0 }

// check refuses what cannot be a position.
func (p *Position) check() (*cursor.Cursor, error) {
	if p.Partition < 0 {
		return nil, fmt.Errorf("partition %d is negative", p.Partition)
	}
	if p.Cursor != "" {
		c, err := cursor.Parse(p.Cursor)
		if err != nil {
			return nil, &errcode.Error{Code: errcode.CursorMalformed, Detail: err.Error()}
		}
		if c.Partition != p.Partition {
			return nil, errcode.New(errcode.CursorForeign, "It is of partition %d, not %d.", c.Partition, p.Partition)
		}
		if c.Offset < 0 || c.CSN == 0 {
			return nil, errcode.New(errcode.CursorMalformed, "It names no record on the changes topic.")
		}
		return &c, nil
	}
	if p.Offset < OffsetStart {
		return nil, fmt.Errorf("offset %d of partition %d is negative", p.Offset, p.Partition)
	}
	if p.known() && p.Offset < 0 {
		return nil, fmt.Errorf("position of partition %d has a state but no offset", p.Partition)
	}
	return nil, nil
}

// PositionError says that a position cannot be gone on from, because the records there are gone or never were. It is final.
type PositionError struct {
	Partition  int32
	Offset     int64
	Start, End int64 // of what the log holds
	Reason     string
}

func (e *PositionError) Error() string {
	return fmt.Sprintf("position %d of partition %d: %s (the log holds %d to %d)", e.Offset, e.Partition, e.Reason, e.Start, e.End)
}

// Unwrap gives the error a code: errcode.CursorExpired below the start, errcode.CursorAhead otherwise.
func (e *PositionError) Unwrap() error {
	if e.Offset < e.Start {
		return errcode.New(errcode.CursorExpired, "Retention has removed the records behind it.")
	}
	return errcode.New(errcode.CursorAhead, "")
}
