package api

import (
	"context"

	"github.com/tidemark-dev/tidemark/schemas/event"
	"github.com/tidemark-dev/tidemark/schemas/stream"
)

// View is what the API reads. It is implemented by the processor and safe for concurrent use. Errors that a user should see are
// *errcode.Error (NotReady, PartitionHalted, CursorAhead); any other error is answered as a server_error without its text.
type View interface {
	// Streams lists the streams that match every non-empty part of filter; the zero filter matches all. Order is not defined.
	Streams(ctx context.Context, filter stream.ID) ([]StreamInfo, error)

	// Page walks the latest version of each record of a stream with csn above q.After, ascending by csn, from one consistent
	// state, and calls fn for each that matches q. A stream that does not exist is an empty page. row and its slices are valid
	// only during the call of fn. An error of fn stops the walk and is returned as it is; PageEnd is then undefined.
	Page(ctx context.Context, q Query, fn func(row *Row) error) (PageEnd, error)

	// Ready says what keeps the view from being complete, per component and partition. Empty means ready.
	Ready() []Condition
}

// StreamInfo describes a stream as the view has it.
type StreamInfo struct {
	ID           stream.ID
	Partition    int32
	Live         uint64 // records that are not deleted
	Total        uint64 // records, deleted ones included
	LastCSN      uint64 // of the newest change
	LastRunEndMS int64  // end of the newest completed run, ms since the epoch; 0: none
}

// Query selects rows of one stream. All conditions hold together.
type Query struct {
	Stream          stream.ID // complete: Variant is set
	After           uint64    // exclusive lower bound of csn
	Limit           int       // rows passed to fn at most; at least 1
	ScanMax         int       // rows examined at most, matching or not; never below Limit
	Actions         ActionSet // which latest actions match
	ModifiedAfterMS int64     // inclusive lower bound of Row.TSMillis; 0: none
	IDs             []string  // the only ids that match, without repetition; nil: all
}

// Row is the latest version of one record.
type Row struct {
	CSN         uint64
	Offset      int64 // Kafka offset of the change on the changes topic; -1: not known
	Term        uint32
	Partition   int32
	Op          event.Op // OpAdded, OpUpdated or OpDeleted
	TSMillis    int64    // of the latest change, ms since the epoch
	FirstSeenMS int64    // ms since the epoch; reset when a deleted record comes back
	PrunedAtMS  int64    // ms since the epoch; 0: the payload is there
	ID          []byte
	Payload     []byte // a JSON object; the last one if the record is deleted; nil if pruned
}

// PageEnd says where a walk ended.
type PageEnd struct {
	LastCSN   uint64 // highest csn examined, matching or not; q.After if there was none
	More      bool   // rows above LastCSN exist, matching or not
	Applied   uint64 // newest csn of the partition in the state that was read
	Partition int32
}

// ActionSet is a set of actions. The empty set means all of them.
type ActionSet uint8

// Members of an ActionSet.
const (
	ActionAdded ActionSet = 1 << iota
	ActionUpdated
	ActionDeleted
)

// Has reports whether a record whose latest change is op belongs to the set.
func (s ActionSet) Has(op event.Op) bool {
	switch op {
	case event.OpAdded:
		return s == 0 || s&ActionAdded != 0
	case event.OpUpdated:
		return s == 0 || s&ActionUpdated != 0
	case event.OpDeleted:
		return s == 0 || s&ActionDeleted != 0
	}
	return false
}

// Condition is one reason for not being ready.
type Condition struct {
	Component string // "follower", "writer", "broker" and the like
	Partition int32  // -1: not about one partition
	Reason    string // in words, for a person
}
