package event

import (
	"bytes"
	"encoding/json"
	"fmt"

	"github.com/tidemark-dev/tidemark/schemas/stream"
)

// Control is the value of every control record on the changes topic: a small JSON object, never null, for a null value would look
// like a tombstone to foreign tools. Which members are there depends on Op; its schema is schemas/jsonschema/control.v1.json.
type Control struct {
	V         int        `json:"v"`
	Op        Op         `json:"op"`
	Stream    *stream.ID `json:"stream,omitempty"` // absent: about the partition
	Partition int32      `json:"partition"`
	TSMillis  int64      `json:"ts_ms"`

	// OpTerm
	Term  uint64 `json:"term,omitempty"`
	Nonce uint32 `json:"nonce,omitempty"`
	Node  string `json:"node,omitempty"`

	// Runs: OpRunStarted, OpRunCompleted, OpRunFailed, OpSwept, OpReleased, OpCheckpoint
	Run          uint64          `json:"run,omitempty"`
	Sync         string          `json:"sync,omitempty"`
	TrackDeletes bool            `json:"track_deletes,omitempty"`
	Fence        bool            `json:"fence,omitempty"`
	StartedMS    int64           `json:"started_ms,omitempty"`
	Counts       *RunCounts      `json:"counts,omitempty"`
	Outcome      Outcome         `json:"outcome,omitempty"`
	ToDelete     uint64          `json:"to_delete,omitempty"` // exact, known before anything is deleted
	Reason       string          `json:"reason,omitempty"`    // code of errcode: why held, failed, dead-lettered, purged
	Detail       string          `json:"detail,omitempty"`
	Decision     string          `json:"decision,omitempty"`
	By           string          `json:"by,omitempty"`
	State        json.RawMessage `json:"state,omitempty"` // OpCheckpoint: the author's state
	Events       uint64          `json:"events,omitempty"`

	// OpCleared, OpPruned, OpPurged, OpDeadLettered, OpGap
	Mode      string `json:"mode,omitempty"`
	UntilCSN  uint64 `json:"until_csn,omitempty"`
	Records   uint64 `json:"records,omitempty"`
	RawOffset *int64 `json:"raw_offset,omitempty"`
	RawUntil  int64  `json:"raw_until,omitempty"`
	RecordID  string `json:"record_id,omitempty"`

	// OpModelOptions
	Fingerprint uint32   `json:"fingerprint,omitempty"` // of the options that decide what a change is; 0: the defaults
	Ignored     []string `json:"ignored,omitempty"`     // JSON Pointers of members that make no change, sorted; absent also if they are too many to be told
}

// RunCounts is what a run did, exactly: every event of the run is in one of these.
type RunCounts struct {
	Added        uint64 `json:"added"`
	Updated      uint64 `json:"updated"`
	Deleted      uint64 `json:"deleted"` // by delete events; deletions found missing are in ToDelete
	Unchanged    uint64 `json:"unchanged"`
	Skipped      uint64 `json:"skipped"`   // the merging strategy kept the stored record
	NotFound     uint64 `json:"not_found"` // delete or update of a record that is not there
	DeadLettered uint64 `json:"dead_lettered"`
}

// Outcome says how a run ended.
type Outcome string

// Outcomes of runs.
const (
	OutcomeCompleted   Outcome = "completed"   // nothing is left to do
	OutcomeSweeping    Outcome = "sweeping"    // ToDelete deletions follow, then SWEPT
	OutcomeHeld        Outcome = "held"        // ToDelete deletions wait for a decision
	OutcomeFailed      Outcome = "failed"      // the producer said so
	OutcomeInterrupted Outcome = "interrupted" // a newer run began, or it expired
)

// AppendControl appends the JSON of c.
func AppendControl(dst []byte, c *Control) ([]byte, error) {
	c.V = 1
	buf := bytes.NewBuffer(dst)
	enc := json.NewEncoder(buf)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(c); err != nil {
		return nil, fmt.Errorf("encoding control record: %w", err)
	}
	b := buf.Bytes()
	return b[:len(b)-1], nil // Encode ends with a newline
}

// ParseControl decodes the value of a control record.
func ParseControl(value []byte) (*Control, error) {
	c := new(Control)
	if err := json.Unmarshal(value, c); err != nil {
		return nil, fmt.Errorf("%w: control record: %v", ErrRecord, err)
	}
	if c.V != 1 {
		return nil, fmt.Errorf("%w: control record of version %d", ErrRecord, c.V)
	}
	return c, nil
}
