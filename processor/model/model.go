package model

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/tidemark-dev/tidemark/schemas/event"
	"github.com/tidemark-dev/tidemark/schemas/stream"
)

// Change is one step in the life of a record.
type Change struct {
	Op      event.Op
	Payload string // canonical
	Changed string // names of changed members, joined; only of UPDATED
}

// Run is what must be said of a run.
type Run struct {
	Outcome  string
	ToDelete uint64
	Counts   event.RunCounts
}

// Stream is what must be known of a stream.
type Stream struct {
	Records map[string]*Record
	Runs    map[uint64]*Run
	windows []*window
	fence   uint64
}

// Record is one record and its life. A hard clear ends all lives.
type Record struct {
	Live    bool
	Payload string // canonical, of the latest version, ignored members and all
	Raw     []byte
	Life    []Change
}

type window struct {
	seq     uint64
	track   bool
	held    bool
	missing map[string]bool // live at the start and neither saved nor changed since
	live    int             // at the start
	ordinal map[uint64]bool
	counts  event.RunCounts
	dead    uint64

	start int
}

// Model is the reference. The zero value is not usable; call New.
type Model struct {
	Streams    map[string]*Stream
	partition  int32
	partitions int32
	Dead       int // dead letters
	// Ignore are the top-level members that do not count in the events that come next. What is stored stays as it is; it is compared
	// with what comes as if it came now.
	Ignore []string
}

// New returns a model of one partition.
func New(partition, partitions int32) *Model {
	return &Model{Streams: map[string]*Stream{}, partition: partition, partitions: partitions}
}

const windowsMax = 4

// Apply takes the next raw event.
func (m *Model) Apply(key []byte, headers []event.Header, value []byte) {
	if _, err := stream.ParseKey(string(key)); err != nil || stream.Partition(key, m.partitions) != m.partition {
		m.Dead++
		return
	}
	s := m.Streams[string(key)]
	if s == nil {
		s = &Stream{Records: map[string]*Record{}, Runs: map[uint64]*Run{}}
		m.Streams[string(key)] = s
	}
	var r event.Raw
	if err := event.ParseRaw(headers, value, &r); err != nil {
		m.Dead++
		if w := s.running(r.Run); w != nil {
			w.dead++
		}
		return
	}
	if r.Type == event.RawRunStarted {
		m.started(s, &r)
		return
	}
	if r.Run != 0 && r.Run < s.fence {
		return
	}
	w := s.running(r.Run)
	if w != nil && r.N > 0 {
		w.ordinal[r.N] = true
	}
	switch r.Type {
	case event.RawSave, event.RawUpdate, event.RawDelete:
		m.record(s, w, &r)
	case event.RawRunCompleted:
		m.completed(s, w, &r)
	case event.RawRunFailed:
		var f event.RunFailure
		if json.Unmarshal(orEmpty(value), &f) != nil || w == nil && s.Runs[r.Run] == nil && r.Run > s.fence {
			m.Dead++
		} else if w != nil {
			s.end(w, "failed")
		}
	case event.RawCheckpoint:
		if !json.Valid(orEmpty(value)) {
			m.Dead++
			if w != nil {
				w.dead++
			}
		}
	case event.RawClear:
		m.clear(s, value)
	case event.RawDecision:
		m.decide(s, value)
	}
}

func orEmpty(b []byte) []byte {
	if len(bytes.TrimSpace(b)) == 0 {
		return []byte("{}")
	}
	return b
}

func (s *Stream) running(seq uint64) *window {
	for _, w := range s.windows {
		if seq != 0 && w.seq == seq && !w.held {
			return w
		}
	}
	return nil
}

func (s *Stream) end(w *window, outcome string) {
	s.Runs[w.seq].Outcome = outcome
	if !w.held {
		s.Runs[w.seq].Counts = w.final()
	}
	s.windows = slices.DeleteFunc(s.windows, func(x *window) bool { return x == w })
}

func (w *window) final() event.RunCounts {
	c := w.counts
	c.DeadLettered = w.dead
	return c
}

func (s *Stream) saw(id string) {
	for _, w := range s.windows {
		delete(w.missing, id)
	}
}

// note adds a change to the life of a record; it is no longer the version that any window began with.
func (s *Stream) note(rec *Record, id string, c Change) {
	rec.Life = append(rec.Life, c)
	s.saw(id)
}

func (m *Model) record(s *Stream, w *window, r *event.Raw) {
	id := string(r.ID)
	rec := s.Records[id]
	live := rec != nil && rec.Live
	count := func(f func(c *event.RunCounts)) {
		if w != nil {
			f(&w.counts)
		}
	}
	dead := func() {
		m.Dead++
		if w != nil {
			w.dead++
		}
		s.saw(id)
	}
	switch r.Type {
	case event.RawDelete:
		if !live {
			count(func(c *event.RunCounts) { c.NotFound++ })
			return
		}
		rec.Live = false
		s.note(rec, id, Change{Op: event.OpDeleted, Payload: rec.Payload})
		count(func(c *event.RunCounts) { c.Deleted++ })
		return
	case event.RawUpdate:
		if !live {
			count(func(c *event.RunCounts) { c.NotFound++ })
			return
		}
		merged, err := merge(rec.Raw, r.Value, r.Remove)
		if err != nil {
			dead()
			return
		}
		r.Value = merged
	}
	payload, err := Canonical(r.Value, nil)
	if err != nil {
		dead()
		return
	}
	changed := ""
	if live {
		changed = m.changedNames(rec.Raw, r.Value)
	}
	switch {
	case live && changed == "":
		s.saw(id)
		count(func(c *event.RunCounts) { c.Unchanged++ })
	case live:
		rec.Payload, rec.Raw = payload, slices.Clone(r.Value)
		s.note(rec, id, Change{Op: event.OpUpdated, Payload: payload, Changed: changed})
		count(func(c *event.RunCounts) { c.Updated++ })
	default:
		if rec == nil {
			rec = &Record{}
			s.Records[id] = rec
		}
		rec.Live, rec.Payload, rec.Raw = true, payload, slices.Clone(r.Value)
		s.note(rec, id, Change{Op: event.OpAdded, Payload: payload})
		count(func(c *event.RunCounts) { c.Added++ })
	}
}

func (m *Model) started(s *Stream, r *event.Raw) {
	var start event.RunStart
	if json.Unmarshal(orEmpty(r.Value), &start) != nil {
		m.Dead++
		return
	}
	if s.Runs[r.Run] != nil || r.Run <= s.fence {
		return
	}
	if start.Fence == nil || *start.Fence {
		for _, w := range slices.Clone(s.windows) {
			if !w.held && w.seq < r.Run {
				s.end(w, "interrupted")
			}
		}
		s.fence = r.Run
	}
	for len(s.windows) >= windowsMax {
		w := s.windows[0]
		if w.held {
			s.end(w, "discarded")
		} else {
			s.end(w, "interrupted")
		}
	}
	w := &window{
		seq: r.Run, track: start.TrackDeletes == nil || *start.TrackDeletes, missing: map[string]bool{}, ordinal: map[uint64]bool{},
		start: len(s.Runs),
	}
	for id, rec := range s.Records {
		if rec.Live {
			w.missing[id] = true
			w.live++
		}
	}
	s.windows = append(s.windows, w)
	s.Runs[r.Run] = &Run{Outcome: "running"}
}

func (m *Model) completed(s *Stream, w *window, r *event.Raw) {
	var end event.RunEnd
	if json.Unmarshal(orEmpty(r.Value), &end) != nil || w == nil && s.Runs[r.Run] == nil && r.Run > s.fence {
		m.Dead++
		return
	}
	if w == nil {
		return
	}
	run := s.Runs[r.Run]
	run.Counts = w.final()
	if !w.track || !end.DeleteMissing {
		s.end(w, "completed")
		return
	}
	run.ToDelete = uint64(len(w.missing))
	if len(w.missing) > 0 && w.guarded(&end) {
		run.Outcome = "held"
		w.held = true
		return
	}
	s.end(w, "completed")
	s.deleteAll(w.missing)
	for _, old := range slices.Clone(s.windows) {
		if old.held && old.start < w.start {
			s.end(old, "discarded")
		}
	}
}

func (w *window) guarded(end *event.RunEnd) bool {
	for n := uint64(1); n <= end.Events; n++ {
		if !w.ordinal[n] {
			return true
		}
	}
	if uint64(len(w.ordinal)) != end.Events {
		return true
	}
	if w.dead > 0 && w.dead*100 > end.Events {
		return true
	}
	if w.counts.Added+w.counts.Updated+w.counts.Unchanged == 0 && !end.AllowEmpty {
		return true
	}
	limit := max(1000, 0.5*float64(w.live))
	if end.MaxDeleteRatio != nil {
		limit = *end.MaxDeleteRatio * float64(w.live)
	}
	return float64(len(w.missing)) > limit
}

func (s *Stream) deleteAll(missing map[string]bool) {
	ids := make([]string, 0, len(missing))
	for id := range missing {
		ids = append(ids, id)
	}
	for _, id := range ids {
		if rec := s.Records[id]; rec.Live {
			rec.Live = false
			s.note(rec, id, Change{Op: event.OpDeleted, Payload: rec.Payload})
		}
	}
}

func (m *Model) clear(s *Stream, value []byte) {
	var c event.Clear
	if json.Unmarshal(orEmpty(value), &c) != nil || c.Mode != "" && c.Mode != "hard" && c.Mode != "soft" {
		m.Dead++
		return
	}
	if c.Mode == "soft" {
		all := map[string]bool{}
		for id, rec := range s.Records {
			if rec.Live {
				all[id] = true
			}
		}
		s.deleteAll(all)
		return
	}
	s.Records = map[string]*Record{}
	for _, w := range slices.Clone(s.windows) {
		if w.held {
			s.end(w, "completed")
		} else {
			w.missing = map[string]bool{}
		}
	}
}

func (m *Model) decide(s *Stream, value []byte) {
	var d event.Decision
	if json.Unmarshal(orEmpty(value), &d) != nil || d.Decision != "approve" && d.Decision != "discard" {
		m.Dead++
		return
	}
	for _, w := range slices.Clone(s.windows) {
		if w.held && w.seq == d.Run {
			if d.Decision == "discard" {
				s.end(w, "discarded")
				return
			}
			s.Runs[w.seq].ToDelete = uint64(len(w.missing))
			s.end(w, "completed")
			s.deleteAll(w.missing)
			return
		}
	}
	if run := s.Runs[d.Run]; run == nil || run.Outcome == "running" || run.ToDelete == 0 {
		m.Dead++
	}
}

// Canonical is the text by which two payloads are the same record: members sorted, numbers by their literal text, ignored top-level
// members removed. Only objects have one.
func Canonical(payload []byte, ignore []string) (string, error) {
	v, err := decode(payload)
	if err != nil {
		return "", err
	}
	o, ok := v.(map[string]any)
	if !ok {
		return "", fmt.Errorf("not an object")
	}
	for _, p := range ignore {
		delete(o, strings.TrimPrefix(p, "/"))
	}
	b, err := json.Marshal(o)
	return string(b), err
}

func decode(b []byte) (any, error) {
	d := json.NewDecoder(bytes.NewReader(b))
	d.UseNumber()
	var v any
	if err := d.Decode(&v); err != nil {
		return nil, err
	}
	if _, err := d.Token(); err == nil {
		return nil, fmt.Errorf("more than one value")
	}
	return v, nil
}

func merge(stored, partial, remove []byte) ([]byte, error) {
	a, err := decode(stored)
	if err != nil {
		return nil, err
	}
	b, err := decode(partial)
	if err != nil {
		return nil, err
	}
	bo, ok := b.(map[string]any)
	if !ok {
		return nil, fmt.Errorf("not an object")
	}
	var pointers []string
	if len(remove) > 0 {
		if err := json.Unmarshal(remove, &pointers); err != nil {
			return nil, err
		}
	}
	out := mergeObjects(a.(map[string]any), bo)
	for _, p := range pointers {
		delete(out, strings.TrimPrefix(p, "/"))
	}
	return json.Marshal(out)
}

func mergeObjects(a, b map[string]any) map[string]any {
	for k, v := range b {
		x, okX := a[k].(map[string]any)
		y, okY := v.(map[string]any)
		if okX && okY {
			a[k] = mergeObjects(x, y)
		} else {
			a[k] = v
		}
	}
	return a
}

// changedNames returns the names of the members that count and differ, joined.
func (m *Model) changedNames(a, b []byte) string {
	var x, y map[string]json.RawMessage
	for into, payload := range map[*map[string]json.RawMessage][]byte{&x: a, &y: b} {
		text, err := Canonical(payload, m.Ignore)
		if err == nil {
			err = json.Unmarshal([]byte(text), into)
		}
		if err != nil {
			return "?"
		}
	}
	var names []string
	for k, v := range x {
		if w, ok := y[k]; !ok || !bytes.Equal(v, w) {
			names = append(names, k)
		}
	}
	for k := range y {
		if _, ok := x[k]; !ok {
			names = append(names, k)
		}
	}
	slices.Sort(names)
	return strings.Join(names, ",")
}
