package observe

import (
	"encoding/json"

	"github.com/tidemark-dev/tidemark/schemas/errcode"
	"github.com/tidemark-dev/tidemark/schemas/stream"
)

// Counts are sums over streams and time.
type Counts struct {
	Changes      uint64 `json:"changes"` // added + updated + deleted
	Added        uint64 `json:"added"`
	Updated      uint64 `json:"updated"`
	Deleted      uint64 `json:"deleted"`
	Restored     uint64 `json:"restored"`      // payloads that came back, of records that did not change
	Unchanged    uint64 `json:"unchanged"`     // saves that changed nothing, counted when their run ends
	Runs         uint64 `json:"runs"`          // that ended
	RunsFailed   uint64 `json:"runs_failed"`   // of these, failed or interrupted
	BytesWritten uint64 `json:"bytes_written"` // of the payloads that the changes carry
}

func (c *Counts) add(o *Counts) {
	c.Changes += o.Changes
	c.Added += o.Added
	c.Updated += o.Updated
	c.Deleted += o.Deleted
	c.Restored += o.Restored
	c.Unchanged += o.Unchanged
	c.Runs += o.Runs
	c.RunsFailed += o.RunsFailed
	c.BytesWritten += o.BytesWritten
}

// Percentiles are of a duration; the unit is the member's that holds them. Count 0: nothing was measured, and the others are 0.
type Percentiles struct {
	Count uint64  `json:"count"`
	Avg   float64 `json:"avg"`
	P50   float64 `json:"p50"`
	P95   float64 `json:"p95"`
	P99   float64 `json:"p99"`
	Max   float64 `json:"max"`
}

// Overview is the state of an environment, or of a part of it.
type Overview struct {
	Streams      stream.ID `json:"filter"`
	At           Time      `json:"at"`
	Integrations uint64    `json:"integrations"`
	Connections  uint64    `json:"connections"`
	StreamCount  uint64    `json:"streams"`
	Records      uint64    `json:"records"` // live now, exactly
	// RunStatus counts streams by the status of their newest run; streams without runs are under "none".
	RunStatus map[string]uint64 `json:"run_status"`
	Failing   uint64            `json:"failing"` // streams with failed runs since their last success
	// Freshness is that of the streams that have synced, in seconds since their last successful run. Never counts the others.
	Freshness Percentiles `json:"freshness_seconds"`
	Never     uint64      `json:"never_synced"`
	// LastDay are the last 24 whole hours and the current one; Hours their changes, oldest first.
	LastDay Counts      `json:"last_day"`
	Hours   []uint64    `json:"hours"`
	LagMS   Percentiles `json:"lag_ms"` // of these changes: from the raw topic to the decision
	// Projections is how far ClickHouse is.
	Projections Generation `json:"projections"`
}

// Stream is a stream as it is now.
type Stream struct {
	ID           stream.ID `json:"stream"`
	Records      uint64    `json:"records"` // live now, exactly
	LastChangeAt Time      `json:"last_change_at"`
	ChangesTotal uint64    `json:"changes_total"`
	ChangesDay   uint64    `json:"changes_24h"` // in the last 24 whole hours and the current one
	Hours        []uint64  `json:"hours"`       // the same by hour, oldest first
	LastRun      *LastRun  `json:"last_run"`    // null: there was none
	LastSuccess  Time      `json:"last_success_at"`
	// FreshnessSeconds is the time since LastSuccess; null: there was none.
	FreshnessSeconds *int64 `json:"freshness_seconds"`
	Failures         uint64 `json:"failures_since_success"`
	Partition        uint16 `json:"partition"`
}

// LastRun is the newest run of a stream.
type LastRun struct {
	Run        uint64 `json:"run"`
	Sync       string `json:"sync"`
	Status     string `json:"status"`
	Reason     string `json:"reason"` // error code, if it failed or is held
	StartedAt  Time   `json:"started_at"`
	EndedAt    Time   `json:"ended_at"`
	DurationMS *int64 `json:"duration_ms"` // null: it has not ended, or its start is not known
}

// Streams is a list of streams. Total and Records are of all that were asked for, also of those that the list leaves out.
type Streams struct {
	At      Time     `json:"at"`
	Total   uint64   `json:"total"`
	Records uint64   `json:"records"`
	Streams []Stream `json:"streams"`
	More    bool     `json:"more"`
}

// Changes are sums by bucket, oldest first, without gaps.
type Changes struct {
	Since   Time           `json:"since"` // start of the first bucket
	Until   Time           `json:"until"` // end of the last
	Bucket  Bucket         `json:"bucket"`
	Total   Counts         `json:"total"`
	LagMS   Percentiles    `json:"lag_ms"` // from the raw topic to the decision
	Buckets []ChangeBucket `json:"buckets"`
}

// ChangeBucket is one of them.
type ChangeBucket struct {
	At Time `json:"at"` // its start
	Counts
	LagMS Percentiles `json:"lag_ms"`
}

// Run is one run of a stream.
type Run struct {
	ID            stream.ID `json:"stream"`
	Run           uint64    `json:"run"`
	Sync          string    `json:"sync"`
	Status        string    `json:"status"`
	StartedAt     Time      `json:"started_at"`
	EndedAt       Time      `json:"ended_at"`
	DurationMS    *int64    `json:"duration_ms"`
	Received      uint64    `json:"received"` // events of the run; the sum of the next seven
	Added         uint64    `json:"added"`
	Updated       uint64    `json:"updated"`
	Deleted       uint64    `json:"deleted"` // by delete events; those found missing are in to_delete
	Unchanged     uint64    `json:"unchanged"`
	Skipped       uint64    `json:"skipped"`
	NotFound      uint64    `json:"not_found"`
	DeadLettered  uint64    `json:"dead_lettered"`
	TracksDeletes bool      `json:"tracks_deletes"`
	ToDelete      uint64    `json:"to_delete"` // records found missing
	Swept         uint64    `json:"swept"`     // of these, how many were deleted when all were
	Decision      string    `json:"decision"`
	DecidedBy     string    `json:"decided_by"`
	Reason        string    `json:"reason"`
	Detail        string    `json:"detail"`
	CSN           uint64    `json:"csn"` // of the last record about it
}

// Runs is a list of runs, newest first.
type Runs struct {
	Since Time  `json:"since"`
	Until Time  `json:"until"`
	Runs  []Run `json:"runs"`
	More  bool  `json:"more"`
}

// Field is a field that updates of a stream touched.
type Field struct {
	ID           stream.ID `json:"stream"`
	Field        string    `json:"field"`   // name of a top-level member
	Pointer      string    `json:"pointer"` // the same as a JSON Pointer
	Updates      uint64    `json:"updates"` // that touched it
	Alone        uint64    `json:"updates_alone"`
	UpdatesTotal uint64    `json:"updates_total"` // of the stream, whose fields are known
	Share        float64   `json:"share"`         // updates / updates_total
	ShareAlone   float64   `json:"share_alone"`
	LastAt       Time      `json:"last_at"`
}

// FieldChanges is a list of fields.
type FieldChanges struct {
	Since  Time    `json:"since"`
	Until  Time    `json:"until"`
	Fields []Field `json:"fields"`
	More   bool    `json:"more"`
}

// Finding is a stream whose updates mostly touch fields that may mean nothing.
type Finding struct {
	ID       stream.ID `json:"stream"`
	Updates  uint64    `json:"updates"`  // whose fields are known
	Spurious uint64    `json:"spurious"` // those that touched none but Fields
	Share    float64   `json:"share"`
	Fields   []string  `json:"fields"` // at most five, each touched by at least half of the updates
	Ignore   []string  `json:"ignore"` // the same as JSON Pointers, for a model's ignore list
	Finding  string    `json:"finding"`
}

// Spurious is what was found, the most spurious updates first.
type Spurious struct {
	Since    Time      `json:"since"`
	Until    Time      `json:"until"`
	Findings []Finding `json:"findings"`
	More     bool      `json:"more"`
	// Models is a models file (YAML, tidemark up --models FILE) that ignores what was found. Of several entries that fit a stream the
	// first counts: in a file that has entries already, add the pointers to the one that fits, or put these in front.
	Models string `json:"models_yaml"`
}

// HotRecord is a record that changed often.
type HotRecord struct {
	ID           stream.ID `json:"stream"`
	RecordID     string    `json:"id"`
	Changes      uint64    `json:"changes"`
	Updated      uint64    `json:"updated"`
	FirstAt      Time      `json:"first_at"`
	LastAt       Time      `json:"last_at"`
	PayloadBytes uint32    `json:"payload_bytes"` // after the last change
}

// HotRecords is a list of them.
type HotRecords struct {
	Since   Time        `json:"since"`
	Until   Time        `json:"until"`
	Records []HotRecord `json:"records"`
	More    bool        `json:"more"`
}

// HotStream is a stream by how much it changed lately. Windows are whole hours and the current one.
type HotStream struct {
	ID           stream.ID `json:"stream"`
	Changes1h    uint64    `json:"changes_1h"`
	Changes24h   uint64    `json:"changes_24h"`
	Changes7d    uint64    `json:"changes_7d"`
	Unchanged24h uint64    `json:"unchanged_24h"`
	Bytes24h     uint64    `json:"bytes_24h"`
	LastChangeAt Time      `json:"last_change_at"`
}

// HotStreams is a list of them.
type HotStreams struct {
	At      Time        `json:"at"`
	Streams []HotStream `json:"streams"`
	More    bool        `json:"more"`
}

// Sizes are bytes of payloads that changes carry; that of a deletion is the last one.
type Sizes struct {
	Changes uint64  `json:"changes"` // restored payloads included
	Bytes   uint64  `json:"bytes"`
	Avg     float64 `json:"avg"` // 0 if there are none
	Max     uint32  `json:"max"`
}

// StreamSizes are those of one stream.
type StreamSizes struct {
	ID stream.ID `json:"stream"`
	Sizes
}

// DaySizes are those of all streams asked for on one day.
type DaySizes struct {
	At Time `json:"at"`
	Sizes
}

// PayloadSizes tells where the bytes are: streams by bytes, the most first, and days, the oldest first.
type PayloadSizes struct {
	Since   Time          `json:"since"`
	Until   Time          `json:"until"`
	Total   Sizes         `json:"total"`
	Streams []StreamSizes `json:"streams"`
	More    bool          `json:"more"` // streams; total and days are of all
	Days    []DaySizes    `json:"days"`
}

// Lag is how long things take, and how far they are behind.
type Lag struct {
	At    Time `json:"at"`
	Since Time `json:"since"`
	Until Time `json:"until"`
	// DecisionMS is from the raw topic to the decision, of the changes in that time. A decided change is visible on the changes topic and
	// over HTTP.
	DecisionMS Percentiles `json:"decision_ms"`
	// Components are readers of the log, as they last said.
	Components []ComponentLag `json:"components"`
	// FreshnessSeconds is of the streams, since their last successful run; Never counts those that had none.
	FreshnessSeconds Percentiles `json:"freshness_seconds"`
	Never            uint64      `json:"never_synced"`
}

// ComponentLag is how far a reader of the log is behind in one partition.
type ComponentLag struct {
	Component     string `json:"component"`
	Generation    uint32 `json:"generation"` // that it writes; 0: it is no writer of projections
	Partition     uint16 `json:"partition"`
	SampledAt     Time   `json:"sampled_at"`
	Records       uint64 `json:"lag_records"`
	MS            uint64 `json:"lag_ms"`          // age of the oldest of these records
	SecondsToLoss *int64 `json:"seconds_to_loss"` // until the topic deletes one of them; null: nothing is at stake, or it is not known
}

// Generation is one generation of the projections.
type Generation struct {
	Generation      uint32 `json:"generation"`
	Serving         bool   `json:"serving"` // the views read it
	Partitions      uint64 `json:"partitions"`
	CSNs            uint64 `json:"csns"` // records stored, summed over partitions
	StoredAt        Time   `json:"stored_at"`
	OldestStoredAt  Time   `json:"oldest_stored_at"`
	LagRecords      uint64 `json:"lag_records"`
	LagMS           uint64 `json:"lag_ms"`
	SecondsToLoss   *int64 `json:"seconds_to_loss"`
	AuditedAt       Time   `json:"audited_at"`
	AuditWindows    uint64 `json:"audit_windows"`
	AuditMismatches uint64 `json:"audit_mismatches"` // should be 0
}

// Health is one row per generation.
type Health struct {
	At          Time         `json:"at"`
	Generations []Generation `json:"generations"`
}

// Event is something that happened to a stream.
type Event struct {
	ID        stream.ID `json:"stream"`
	At        Time      `json:"at"`
	Op        string    `json:"op"` // RUN_STARTED, RUN_COMPLETED, CLEARED and so on
	Run       uint64    `json:"run"`
	Sync      string    `json:"sync"`
	Outcome   string    `json:"outcome"`
	Reason    string    `json:"reason"`
	Detail    string    `json:"detail"`
	Decision  string    `json:"decision"`
	DecidedBy string    `json:"decided_by"`
	Mode      string    `json:"mode"`
	RecordID  string    `json:"record_id"`
	Records   uint64    `json:"records"`
	ToDelete  uint64    `json:"to_delete"`
	Added     uint64    `json:"added"`
	Updated   uint64    `json:"updated"`
	Deleted   uint64    `json:"deleted"`
	Unchanged uint64    `json:"unchanged"`
	Partition uint16    `json:"partition"`
	CSN       uint64    `json:"csn"`
	Offset    uint64    `json:"offset"`
}

// Timeline is a list of events, newest first.
type Timeline struct {
	Since  Time    `json:"since"`
	Until  Time    `json:"until"`
	Events []Event `json:"events"`
	More   bool    `json:"more"`
}

// Version is a change of a record, or an event of its stream that ended it.
type Version struct {
	At Time `json:"at"`
	// Action is added, updated, deleted or restored, or cleared or purged: the whole stream went.
	Action        string   `json:"action"`
	Revision      uint64   `json:"revision"` // how often the record has changed; 0: the stream went
	Run           uint64   `json:"run"`      // 0: outside any run
	ChangedFields []string `json:"changed_fields"`
	ChangedCount  uint16   `json:"changed_count"` // above the number of names if these are truncated
	// FieldsKnown: ChangedFields says what there is to say. FieldsTruncated: it leaves names out, or cuts them.
	FieldsKnown     bool     `json:"fields_known"`
	FieldsTruncated bool     `json:"fields_truncated"`
	SincePrevious   *float64 `json:"seconds_since_previous"`
	Reverted        bool     `json:"reverted"` // an update brought back content that the record had before
	PayloadBytes    uint32   `json:"payload_bytes"`
	PayloadDelta    *int64   `json:"payload_delta"` // bytes
	LagMS           *uint32  `json:"lag_ms"`
	ChangeID        string   `json:"change_id"` // id of the change event: partition:csn; "": the stream went
	Partition       uint16   `json:"partition"`
	CSN             uint64   `json:"csn"`
	Offset          uint64   `json:"offset"` // of the change event on the changes topic
	// Delta is what changed since the version before, if it was asked for. Gone says why it is not there.
	Delta *Delta `json:"delta,omitempty"`
	Gone  *Gone  `json:"gone,omitempty"`
}

// ends reports whether there is no record behind it.
func (v *Version) ends() bool {
	return v.Action == "deleted" || v.Action == actionCleared || v.Action == actionPurged
}

const (
	actionCleared = "cleared"
	actionPurged  = "purged"
)

// Gone says why something cannot be told.
type Gone struct {
	Code    errcode.Code `json:"code"`
	Message string       `json:"message"`
	Hint    string       `json:"hint"`
}

// History is the versions of a record, newest first.
type History struct {
	ID       stream.ID `json:"stream"`
	RecordID string    `json:"id"`
	Versions []Version `json:"versions"`
	More     bool      `json:"more"` // older ones: ask again with before the csn of the last
	// Complete: the list goes back to the birth of the record. Otherwise older versions are in another page, or were not kept.
	Complete bool `json:"complete"`
}

// Diff compares two versions of a record. A record that is not there compares as an empty object.
type Diff struct {
	ID       stream.ID `json:"stream"`
	RecordID string    `json:"id"`
	From     *Version  `json:"from"` // null: the record was not there
	To       *Version  `json:"to"`
	// ChangedFields are the top-level names that the changes from From to To touched, as the facts know them; FieldsKnown: that is all.
	ChangedFields []string `json:"changed_fields"`
	FieldsKnown   bool     `json:"fields_known"`
	Delta         *Delta   `json:"delta"`          // null: see gone
	Gone          *Gone    `json:"gone,omitempty"` // the changes topic does not hold both payloads any more
}

// AsOf is a record as it was.
type AsOf struct {
	ID       stream.ID `json:"stream"`
	RecordID string    `json:"id"`
	At       Time      `json:"at"`  // that was asked for; null: a csn was
	CSN      uint64    `json:"csn"` // that was asked for; 0: a time was
	Exists   bool      `json:"exists"`
	// Version is the change that made it so; null: the record had not been seen.
	Version *Version `json:"version"`
	// Record is the payload as the sync function wrote it; null if the record did not exist.
	Record json.RawMessage `json:"record"`
}
