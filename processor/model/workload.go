package model

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"strconv"

	"github.com/tidemark-dev/tidemark/schemas/event"
	"github.com/tidemark-dev/tidemark/schemas/stream"
)

// RawEvent is one event of a workload.
type RawEvent struct {
	Key     []byte
	Value   []byte
	Headers []event.Header
}

// Workload makes random but sensible raw events for one partition: syncs that run, skip and lose records, zombies of older runs,
// webhook writes in between, clears, decisions, poison. The same seed makes the same events.
type Workload struct {
	rng     *rand.Rand
	streams []*source
	seq     uint64
	foreign []byte // a key that belongs into another partition, if there is one
}

// source is one stream and the sync that feeds it.
type source struct {
	key  string
	ids  int
	run  uint64 // 0: none
	n    uint64
	old  []uint64 // earlier runs, for zombies
	held []uint64
	todo int // events left in the run
	miss map[string]bool
}

// NewWorkload returns a workload of some streams of ids records each.
func NewWorkload(seed uint64, streams, ids int, partition, partitions int32) *Workload {
	w := &Workload{rng: rand.New(rand.NewPCG(seed, 77))}
	for i := 0; len(w.streams) < streams; i++ {
		key := stream.ID{Environment: "dev", Integration: "sim", Connection: fmt.Sprintf("c/%d", i), Model: "Thing"}.Key()
		if stream.Partition(key, partitions) == partition {
			w.streams = append(w.streams, &source{key: key, ids: ids, miss: map[string]bool{}})
		} else if w.foreign == nil {
			w.foreign = []byte(key)
		}
	}
	return w
}

func (w *Workload) event(s *source, t event.RawType, run, n uint64, id string, value []byte) RawEvent {
	r := event.Raw{Type: t, ID: []byte(id), Run: run, N: n, Value: value}
	return RawEvent{Key: []byte(s.key), Value: value, Headers: r.Headers(nil)}
}

// payload makes one of a few versions of a record, with its members in random order.
func (w *Workload) payload(id string) []byte {
	members := []string{fmt.Sprintf(`"id":%q`, id), fmt.Sprintf(`"v":%d`, w.rng.IntN(3))}
	if w.rng.IntN(2) == 0 {
		members = append(members, `"nested":{"a":1,"b":["x",null,1.50]}`)
	}
	if w.rng.IntN(8) == 0 {
		members = append(members, `"Ünïcode":"\u00e9"`)
	}
	if w.rng.IntN(2) == 0 {
		members = append(members, fmt.Sprintf(`"seen":%d`, w.rng.IntN(3)))
	}
	w.rng.Shuffle(len(members), func(i, j int) { members[i], members[j] = members[j], members[i] })
	out := "{"
	for i, m := range members {
		if i > 0 {
			out += ","
		}
		out += m
	}
	return []byte(out + "}")
}

// Ignored returns one of a few lists of members to ignore; the payloads have all of them at times.
func Ignored(rng *rand.Rand) []string {
	return [][]string{nil, {"/seen"}, {"/seen", "/v"}, {"/nested"}, {"/id", "/nested", "/seen", "/Ünïcode"}}[rng.IntN(5)]
}

func (w *Workload) id(s *source) string { return "r" + strconv.Itoa(w.rng.IntN(s.ids)) }

func mustJSON(v any) []byte {
	b, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	return b
}

// Next returns the next event.
func (w *Workload) Next() RawEvent {
	s := w.streams[w.rng.IntN(len(w.streams))]
	switch p := w.rng.IntN(100); {
	case s.run != 0 && p < 70:
		return w.inRun(s)
	case s.run == 0 && p < 45:
		return w.start(s)
	case p < 76: // a webhook
		id := w.id(s)
		return w.event(s, event.RawSave, 0, 0, id, w.payload(id))
	case p < 80:
		return w.event(s, event.RawDelete, 0, 0, w.id(s), nil)
	case p < 84:
		return w.event(s, event.RawUpdate, 0, 0, w.id(s), []byte(fmt.Sprintf(`{"v":%d,"nested":{"c":%d}}`, w.rng.IntN(3), w.rng.IntN(2))))
	case p < 88:
		return w.zombie(s)
	case p < 90:
		return w.poison(s)
	case p < 93 && len(s.held) > 0:
		seq := s.held[w.rng.IntN(len(s.held))]
		what := event.DecisionApprove
		if w.rng.IntN(3) == 0 {
			what = event.DecisionDiscard
		}
		return w.event(s, event.RawDecision, 0, 0, "", mustJSON(event.Decision{Run: seq, Decision: what}))
	case p < 94 && w.rng.IntN(4) == 0:
		mode := event.ClearHard
		if w.rng.IntN(2) == 0 {
			mode = event.ClearSoft
		}
		return w.event(s, event.RawClear, 0, 0, "", mustJSON(event.Clear{Mode: mode}))
	case p < 96:
		return w.event(s, event.RawCheckpoint, 0, 0, "", []byte(`{"page":`+strconv.Itoa(w.rng.IntN(9))+`}`))
	case p < 97 && s.run != 0: // a run beside the run
		w.seq++
		no := false
		s.old = append(s.old, w.seq)
		return w.event(s, event.RawRunStarted, w.seq, 0, "", mustJSON(event.RunStart{Fence: &no}))
	default:
		id := w.id(s)
		return w.event(s, event.RawSave, 0, 0, id, w.payload(id))
	}
}

func (w *Workload) start(s *source) RawEvent {
	w.seq++
	s.run, s.n, s.todo = w.seq, 0, w.rng.IntN(3*s.ids)+s.ids/2
	s.miss = map[string]bool{}
	for i := range s.ids {
		if w.rng.IntN(6) == 0 {
			s.miss["r"+strconv.Itoa(i)] = true
		}
	}
	start := event.RunStart{}
	if w.rng.IntN(8) == 0 {
		no := false
		start.TrackDeletes = &no
	}
	return w.event(s, event.RawRunStarted, s.run, 0, "", mustJSON(start))
}

func (w *Workload) inRun(s *source) RawEvent {
	if s.todo <= 0 {
		return w.end(s)
	}
	s.todo--
	s.n++
	if w.rng.IntN(60) == 0 {
		s.n++ // an event that never arrives
	}
	id := w.id(s)
	for tries := 0; s.miss[id] && tries < 20; tries++ {
		id = w.id(s)
	}
	switch w.rng.IntN(30) {
	case 0:
		return w.event(s, event.RawDelete, s.run, s.n, id, nil)
	case 1:
		return w.event(s, event.RawCheckpoint, s.run, s.n, "", []byte(`{"at":1}`))
	}
	return w.event(s, event.RawSave, s.run, s.n, id, w.payload(id))
}

func (w *Workload) end(s *source) RawEvent {
	run := s.run
	s.run = 0
	s.old = append(s.old, run)
	if w.rng.IntN(10) == 0 {
		return w.event(s, event.RawRunFailed, run, 0, "", mustJSON(event.RunFailure{Error: "source said 500"}))
	}
	end := event.RunEnd{DeleteMissing: w.rng.IntN(10) > 0, Events: s.n}
	switch w.rng.IntN(6) {
	case 0:
		end.Events++
	case 1:
		r := 0.1
		end.MaxDeleteRatio = &r
	case 2:
		end.AllowEmpty = true
	}
	s.held = append(s.held, run)
	if len(s.held) > 4 {
		s.held = s.held[1:]
	}
	return w.event(s, event.RawRunCompleted, run, 0, "", mustJSON(end))
}

// zombie writes for a run that a newer one has shut out, or repeats what has been said.
func (w *Workload) zombie(s *source) RawEvent {
	if len(s.old) == 0 {
		id := w.id(s)
		return w.event(s, event.RawSave, 0, 0, id, w.payload(id))
	}
	run := s.old[w.rng.IntN(len(s.old))]
	id := w.id(s)
	switch w.rng.IntN(6) {
	case 0:
		return w.event(s, event.RawRunCompleted, run, 0, "", mustJSON(event.RunEnd{DeleteMissing: true, Events: 1}))
	case 1:
		return w.event(s, event.RawRunStarted, run, 0, "", nil)
	case 2:
		return w.event(s, event.RawRunFailed, run, 0, "", nil)
	}
	return w.event(s, event.RawSave, run, uint64(w.rng.IntN(5)+1), id, w.payload(id))
}

func (w *Workload) poison(s *source) RawEvent {
	id := w.id(s)
	switch w.rng.IntN(8) {
	case 0:
		return w.event(s, event.RawSave, s.run, 0, id, []byte(`{"cut":`))
	case 1:
		return w.event(s, event.RawSave, 0, 0, id, []byte(`[1,2]`))
	case 2:
		return w.event(s, event.RawSave, 0, 0, "", []byte(`{}`))
	case 3:
		return w.event(s, 'z', 0, 0, id, []byte(`{}`))
	case 4:
		e := w.event(s, event.RawSave, 0, 0, id, []byte(`{}`))
		e.Key = []byte("not/a/stream")
		return e
	case 5:
		if w.foreign != nil {
			e := w.event(s, event.RawSave, 0, 0, id, []byte(`{}`))
			e.Key = w.foreign
			return e
		}
		return w.event(s, event.RawUpdate, 0, 0, id, []byte(`7`))
	case 6:
		return w.event(s, event.RawClear, 0, 0, "", []byte(`{"mode":"sideways"}`))
	default:
		e := w.event(s, event.RawSave, 0, 0, id, []byte(`{}`))
		e.Headers = append(e.Headers, event.Header{Key: []byte("n"), Value: []byte("-1")})
		return e
	}
}

// Settle returns events that end what is open, so that runs and sweeps come to rest.
func (w *Workload) Settle() []RawEvent {
	var out []RawEvent
	for _, s := range w.streams {
		if s.run != 0 {
			out = append(out, w.end(s))
		}
	}
	return out
}
