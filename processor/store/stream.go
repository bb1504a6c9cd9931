package store

import (
	"encoding/json"
	"math/bits"
	"sort"

	"encoding/binary"

	"github.com/zeebo/xxh3"

	"github.com/tidemark-dev/tidemark/schemas/event"
	"github.com/tidemark-dev/tidemark/schemas/stream"
)

// Stream is what the log says of one stream up to some csn, without its records. It changes by Apply only, so the follower's copy
// and the writer's copy, which runs ahead by the groups in flight, are made by the same code.
type Stream struct {
	SID    uint32     `json:"sid"`
	Stream stream.ID  `json:"stream"`
	Key    *event.Key `json:"-"`

	Live    uint64 `json:"live"`
	Total   uint64 `json:"total"` // live and deleted records
	Digest  Digest `json:"digest"`
	LastCSN uint64 `json:"last_csn"` // of the last change or control record
	LastMS  int64  `json:"last_ms"`

	ClearedCSN  uint64 `json:"cleared_csn,omitempty"`
	PrunedUntil uint64 `json:"pruned_until,omitempty"`
	PrunedMS    int64  `json:"pruned_ms,omitempty"`
	FenceRun    uint64 `json:"fence_run,omitempty"` // events of runs below are dropped
	ActiveMS    int64  `json:"active_ms"`           // last sign of a sync, for the purge of abandoned streams
	Purged      bool   `json:"purged,omitempty"`

	// Versions up to OptionsCSN were hashed under other options than those that Options stands for.
	Options    uint32   `json:"options,omitempty"` // fingerprint; 0: the defaults
	OptionsCSN uint64   `json:"options_csn,omitempty"`
	Ignored    []string `json:"ignored,omitempty"` // not to be changed in place: copies of a Stream share it

	Checkpoint    json.RawMessage `json:"checkpoint,omitempty"`
	CheckpointCSN uint64          `json:"checkpoint_csn,omitempty"`

	Runs []*Run `json:"-"` // ascending by StartCSN; finished ones are kept up to runsKept
}

// RunStatus is where a run stands.
type RunStatus string

// Statuses of runs.
const (
	RunRunning     RunStatus = "running"
	RunHeld        RunStatus = "held"     // completed; its deletions wait for a decision
	RunSweeping    RunStatus = "sweeping" // completed; its deletions are being written
	RunCompleted   RunStatus = "completed"
	RunFailed      RunStatus = "failed"
	RunInterrupted RunStatus = "interrupted" // a newer run began, or it expired
	RunDiscarded   RunStatus = "discarded"   // completed; its deletions were refused
)

// Run is one execution of a sync function, or a soft clear (Seq 0), as the log tells it.
type Run struct {
	Seq         uint64    `json:"run"`
	StartCSN    uint64    `json:"start_csn"` // identifies the run inside its stream
	Status      RunStatus `json:"status"`
	Sync        string    `json:"sync,omitempty"`
	Track       bool      `json:"track_deletes"`
	Fence       bool      `json:"fence"`
	FencedBelow uint64    `json:"fenced_below,omitempty"` // Stream.FenceRun when it started: what a replay that begins here must know
	RawStart    int64     `json:"raw_start"`              // raw offset of run.started
	RawEnd      int64     `json:"raw_end"`                // raw offset of what froze the seen set; -1 while it is open
	StartedMS   int64     `json:"started_ms"`
	EndedMS     int64     `json:"ended_ms,omitempty"`
	LiveAtStart uint64    `json:"live_at_start"`

	Added        uint64 `json:"added"`
	Updated      uint64 `json:"updated"`
	Deleted      uint64 `json:"deleted"` // by delete events
	Swept        uint64 `json:"swept"`   // by deletion detection
	DeadLettered uint64 `json:"dead_lettered"`

	Counts   *event.RunCounts `json:"counts,omitempty"` // final
	ToDelete uint64           `json:"to_delete"`
	Reason   string           `json:"reason,omitempty"`
	Detail   string           `json:"detail,omitempty"`

	dirty bool
}

// Open reports whether the run still needs its seen set.
func (r *Run) Open() bool {
	return r.Status == RunHeld || r.Status == RunSweeping || r.Status == RunRunning && r.Track
}

// runsKept bounds how many finished runs of a stream are remembered.
const runsKept = 50

// Record is one record of a valid group, decoded. Its slices must stay untouched until the call that takes it returns.
type Record struct {
	Op      event.Op
	Meta    event.Meta
	Offset  int64 // on the changes topic
	Stream  string
	Key     *event.Key // may be nil; saves parsing Stream
	ID      []byte
	Payload []byte
	Control *event.Control // control records only

	// What change detection found in the payload.
	Raw    uint64
	Shape  uint32
	Names  []string // names of the shape; nil if the shape is known to be known
	Fields []uint32
}

// isSweep reports whether a DELETED was found by deletion detection: no raw event stands behind it.
func (r *Record) isSweep() bool { return r.Op == event.OpDeleted && r.Meta.RawOffset < 0 }

// NewStream is a stream of which the log has said nothing yet.
func NewStream(sid uint32, id stream.ID, key *event.Key) *Stream {
	if key == nil {
		key = event.NewKey(id)
	}
	return &Stream{SID: sid, Stream: key.ID, Key: key}
}

// Clone returns a copy that Apply can change without touching s.
func (s *Stream) Clone() *Stream {
	c := *s
	c.Runs = make([]*Run, len(s.Runs))
	for i, r := range s.Runs {
		run := *r
		c.Runs[i] = &run
	}
	return &c
}

// Run returns the newest run of that sequence, or nil.
func (s *Stream) Run(seq uint64) *Run {
	for i := len(s.Runs) - 1; i >= 0; i-- {
		if s.Runs[i].Seq == seq {
			return s.Runs[i]
		}
	}
	return nil
}

// RunAt returns the run that started at csn, or nil.
func (s *Stream) RunAt(csn uint64) *Run {
	for i := len(s.Runs) - 1; i >= 0; i-- {
		if s.Runs[i].StartCSN == csn {
			return s.Runs[i]
		}
	}
	return nil
}

// Apply takes the next record of the stream, in csn order. Records that the stream already knows of are ignored: after a bootstrap it
// may be ahead of the rows.
func (s *Stream) Apply(r *Record) {
	m := &r.Meta
	if m.CSN <= s.LastCSN {
		return
	}
	s.LastCSN, s.LastMS = m.CSN, m.TS
	if r.Op.IsChange() {
		s.Live, s.Digest = m.Live, m.Digest
		if m.PrevCSN == 0 {
			s.Total++
		}
		if !r.isSweep() {
			s.ActiveMS = m.TS
			s.Purged = false
		}
		s.countChange(r)
		return
	}
	s.applyControl(r)
}

func (s *Stream) countChange(r *Record) {
	if r.isSweep() {
		// A soft clear is a run of sequence 0.
		for _, run := range s.Runs {
			if run.Seq == r.Meta.Run && run.Status == RunSweeping {
				run.Swept++
				run.dirty = true
				break
			}
		}
		return
	}
	if r.Meta.Run == 0 {
		return
	}
	run := s.Run(r.Meta.Run)
	if run == nil {
		return
	}
	run.dirty = true
	switch r.Op {
	case event.OpAdded:
		run.Added++
	case event.OpUpdated:
		run.Updated++
	case event.OpDeleted:
		run.Deleted++
	}
}

func (s *Stream) applyControl(r *Record) {
	m, c := &r.Meta, r.Control
	switch r.Op {
	case event.OpRunStarted:
		s.ActiveMS = m.TS
		s.Purged = false
		if c.Fence {
			s.FenceRun = max(s.FenceRun, m.Run)
		}
		s.addRun(&Run{
			Seq: m.Run, StartCSN: m.CSN, Status: RunRunning, Sync: c.Sync, Track: c.TrackDeletes, Fence: c.Fence,
			RawStart: m.RawOffset, RawEnd: -1, StartedMS: m.TS, LiveAtStart: c.Records,
		})
	case event.OpRunCompleted:
		s.ActiveMS = m.TS
		if run := s.Run(m.Run); run != nil {
			run.EndedMS, run.Counts, run.ToDelete = m.TS, c.Counts, c.ToDelete
			run.Reason, run.Detail = c.Reason, c.Detail
			switch c.Outcome {
			case event.OutcomeHeld:
				run.Status = RunHeld
			case event.OutcomeSweeping:
				run.Status, run.RawEnd = RunSweeping, m.RawOffset
			default:
				run.Status, run.RawEnd = RunCompleted, m.RawOffset
			}
			run.dirty = true
		}
	case event.OpRunFailed:
		if run := s.Run(m.Run); run != nil {
			run.EndedMS, run.RawEnd, run.Counts = m.TS, m.RawOffset, c.Counts
			run.Reason, run.Detail, run.Status = c.Reason, c.Detail, RunFailed
			if c.Outcome == event.OutcomeInterrupted {
				run.Status = RunInterrupted
			}
			run.dirty = true
		}
	case event.OpReleased:
		if run := s.Run(m.Run); run != nil {
			run.RawEnd, run.dirty = m.RawOffset, true
			switch {
			case c.Decision == event.DecisionDiscard:
				run.Status = RunDiscarded
			case c.ToDelete == 0:
				run.Status, run.ToDelete = RunCompleted, 0
			default:
				run.Status, run.ToDelete = RunSweeping, c.ToDelete
			}
		}
	case event.OpSwept:
		if run := s.RunAt(c.UntilCSN); run != nil {
			run.Status = RunCompleted
			run.dirty = true
		}
	case event.OpModelOptions:
		s.Options, s.OptionsCSN, s.Ignored = c.Fingerprint, m.CSN, c.Ignored
	case event.OpCheckpoint:
		s.Checkpoint, s.CheckpointCSN = c.State, m.CSN
	case event.OpCleared, event.OpPurged:
		s.Purged = r.Op == event.OpPurged
		if c.Mode == event.ClearSoft {
			s.addRun(&Run{
				StartCSN: m.CSN, Status: RunSweeping, Sync: "clear", RawStart: m.RawOffset, RawEnd: m.RawOffset,
				StartedMS: m.TS, EndedMS: m.TS, LiveAtStart: s.Live, ToDelete: c.Records,
			})
			return
		}
		s.ClearedCSN = m.CSN
		s.Live, s.Total, s.Digest = 0, 0, Digest{}
		// What was to be deleted is gone.
		for _, run := range s.Runs {
			if run.Status == RunHeld || run.Status == RunSweeping {
				run.Status, run.dirty = RunCompleted, true
			}
		}
	case event.OpPruned:
		s.PrunedUntil, s.PrunedMS = max(s.PrunedUntil, c.UntilCSN), m.TS
	case event.OpDeadLettered:
		if m.Run != 0 {
			if run := s.Run(m.Run); run != nil {
				run.DeadLettered++
				run.dirty = true
			}
		}
	}
}

// addRun keeps Runs bounded: the oldest finished run goes first.
func (s *Stream) addRun(r *Run) {
	r.dirty = true
	r.FencedBelow = s.FenceRun
	s.Runs = append(s.Runs, r)
	for i := 0; len(s.Runs) > runsKept && i < len(s.Runs); {
		if st := s.Runs[i].Status; st != RunRunning && !s.Runs[i].Open() {
			s.Runs = append(s.Runs[:i:i], s.Runs[i+1:]...)
		} else {
			i++
		}
	}
}

func (s *Stream) sortRuns() {
	sort.Slice(s.Runs, func(a, b int) bool { return s.Runs[a].StartCSN < s.Runs[b].StartCSN })
}

// Digest is the sum modulo 2^128, over the live records of a stream, of xxh3-128(id, 0x1F, stored hash), big-endian. Two copies
// that hold the same ids and hashes have the same digest. It detects loss and mistakes, not an adversary.
type Digest [16]byte

// DigestOf is the contribution of one record.
func DigestOf(id []byte, hash *[16]byte) Digest {
	var buf [128]byte
	b := append(buf[:0], id...)
	b = append(b, 0x1F)
	b = append(b, hash[:]...)
	return Digest(xxh3.Hash128(b).Bytes())
}

// Add returns d + x.
func (d Digest) Add(x Digest) Digest {
	lo, carry := bits.Add64(binary.BigEndian.Uint64(d[8:]), binary.BigEndian.Uint64(x[8:]), 0)
	hi, _ := bits.Add64(binary.BigEndian.Uint64(d[:8]), binary.BigEndian.Uint64(x[:8]), carry)
	return makeDigest(hi, lo)
}

// Sub returns d - x.
func (d Digest) Sub(x Digest) Digest {
	lo, borrow := bits.Sub64(binary.BigEndian.Uint64(d[8:]), binary.BigEndian.Uint64(x[8:]), 0)
	hi, _ := bits.Sub64(binary.BigEndian.Uint64(d[:8]), binary.BigEndian.Uint64(x[:8]), borrow)
	return makeDigest(hi, lo)
}

func makeDigest(hi, lo uint64) (d Digest) {
	binary.BigEndian.PutUint64(d[:8], hi)
	binary.BigEndian.PutUint64(d[8:], lo)
	return d
}
