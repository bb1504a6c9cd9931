package observe

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/tidemark-dev/tidemark/deploy/devclickhouse/chtest"
	"github.com/tidemark-dev/tidemark/deploy/devkafka"
	"github.com/tidemark-dev/tidemark/projections/fold"
	"github.com/tidemark-dev/tidemark/projections/follow"
	"github.com/tidemark-dev/tidemark/projections/warehouse"
	"github.com/tidemark-dev/tidemark/schemas/event"
	"github.com/tidemark-dev/tidemark/schemas/stream"
	"github.com/tidemark-dev/tidemark/schemas/topic"
)

// happened is one record of the log as its generator knows it: what every answer is computed from.
type happened struct {
	id        stream.ID
	op        event.Op
	at        Time
	run       uint64
	partition int32
	csn       uint64
	offset    int64

	// of changes
	record  string
	rev     uint64
	fields  []string // of updates
	known   bool
	lag     int64  // ms; -1: not known
	payload []byte // after the change; of a deletion the last one
	live    bool   // whether there is a record afterwards

	control *event.Control // of control records
}

func (h *happened) change() bool { return h.op.IsChange() }
func (h *happened) fact() bool   { return h.op.IsChange() || h.op == event.OpRestored }

// world is a changes topic, the projections of it, and all that happened.
type world struct {
	*Reader
	seed  uint64
	now   time.Time
	log   []*happened // by partition, then csn
	names topic.Names
	kafka *kgo.Client
	addr  string
	store *warehouse.Warehouse
}

const partitions = 3

// streams of the world; nasty names are in it because they go through SQL.
var streams = []stream.ID{
	{Environment: "prod", Integration: "crm", Connection: "acme", Model: "Contact", Variant: "base"},
	{Environment: "prod", Integration: "crm", Connection: "acme", Model: "Deal", Variant: "eu"},
	{Environment: "prod", Integration: "crm", Connection: "it's \\ a\ttab/ü\n", Model: "Contact", Variant: "base"},
	{Environment: "prod", Integration: "files", Connection: "acme", Model: "File", Variant: "base"},
	{Environment: "dev", Integration: "crm", Connection: "acme", Model: "Contact", Variant: "base"},
	{Environment: "prod", Integration: "idle", Connection: "x", Model: "Never", Variant: "base"},
}

var recordIDs = []string{"1", "a/b", "it's", "tab\tid", "ü?&+%", "..", "line\nend", `back\slash`}

// held is what a stream holds while the log is made.
type held struct {
	records map[string]*heldRecord
	live    uint64
	run     uint64
	open    bool
	started Time
}

type heldRecord struct {
	rev     uint64
	live    bool
	payload map[string]any
	text    []byte
}

// makeLog makes what happens in a partition.
func makeLog(r *rand.Rand, partition int32, n int, now time.Time) []*happened {
	var mine []stream.ID
	for i, id := range streams {
		if int32(i)%partitions == partition {
			mine = append(mine, id)
		}
	}
	holds := map[stream.ID]*held{}
	at := TimeOf(now) - 30*Hour.Width()
	step := int64(2*30*Hour.Width()) / int64(n)
	var out []*happened
	var sweeping *stream.ID // a soft clear deletes what was there
	for csn := uint64(1); csn <= uint64(n); csn++ {
		at = min(at+Time(r.Int64N(step)), TimeOf(now)-1000)
		h := &happened{id: mine[min(r.IntN(len(mine)), r.IntN(len(mine)))], at: at, partition: partition, csn: csn}
		if sweeping != nil {
			h.id = *sweeping
			if remove(h, holds[h.id]); holds[h.id].live == 0 {
				sweeping = nil
			}
			out = append(out, h)
			continue
		}
		s := holds[h.id]
		if s == nil {
			s = &held{records: map[string]*heldRecord{}}
			holds[h.id] = s
		}
		if h.id.Model == "Never" { // its run never ends well, and it holds nothing
			control(r, h, s, true)
		} else if r.IntN(8) == 0 {
			if control(r, h, s, n-int(csn) < len(recordIDs)); h.op == event.OpCleared && s.live > 0 {
				sweeping = &h.id
			}
		} else {
			happen(r, h, s)
		}
		out = append(out, h)
	}
	return out
}

func control(r *rand.Rand, h *happened, s *held, failing bool) {
	id := h.id
	c := &event.Control{Stream: &id, Partition: h.partition, TSMillis: int64(h.at)}
	counts := &event.RunCounts{Added: r.Uint64N(9), Updated: r.Uint64N(9), Unchanged: r.Uint64N(900), Skipped: r.Uint64N(3), DeadLettered: r.Uint64N(2)}
	switch k := r.IntN(10); {
	case k == 0 && !failing:
		h.op, c.Mode, c.Records = event.OpCleared, event.ClearHard, s.live
		s.records, s.live = map[string]*heldRecord{}, 0
	case k == 1 && !failing:
		h.op, c.Mode, c.Records = event.OpCleared, event.ClearSoft, s.live
	case k == 2 && !failing:
		h.op, c.Records, c.Reason = event.OpPurged, s.live, "retention"
		s.records, s.live = map[string]*heldRecord{}, 0
	case !s.open:
		s.run, s.open, s.started = s.run+1, true, h.at
		h.op, c.Run, c.Sync, c.TrackDeletes, c.StartedMS, c.Records = event.OpRunStarted, s.run, "sync-"+id.Model, true, int64(h.at), s.live
	case failing || k == 3:
		s.open = false
		h.op, c.Run, c.StartedMS, c.Counts, c.Outcome, c.Reason, c.Detail = event.OpRunFailed, s.run, int64(s.started), counts, event.OutcomeFailed, "run.failed", "it's\tbroken\n"
	default:
		s.open = false
		h.op, c.Run, c.StartedMS, c.Counts, c.Outcome = event.OpRunCompleted, s.run, int64(s.started), counts, event.OutcomeCompleted
		if k == 4 {
			c.Outcome, c.ToDelete, c.Reason = event.OutcomeHeld, 3, "held.ratio"
		}
	}
	c.Op = h.op
	h.run, h.control = c.Run, c
}

// remove deletes the first record that there is.
func remove(h *happened, s *held) {
	for _, id := range recordIDs {
		if rec := s.records[id]; rec != nil && rec.live {
			rec.live = false
			rec.rev++
			s.live--
			h.op, h.record, h.lag, h.rev, h.payload = event.OpDeleted, id, -1, rec.rev, rec.text
			return
		}
	}
	panic("nothing to delete")
}

// happen changes a record.
func happen(r *rand.Rand, h *happened, s *held) {
	h.record, h.lag, h.run = recordIDs[min(r.IntN(len(recordIDs)), r.IntN(len(recordIDs)))], -1, s.run
	rec := s.records[h.record]
	if rec == nil {
		rec = &heldRecord{}
		s.records[h.record] = rec
	}
	if r.IntN(5) > 0 {
		h.lag = int64(1) << r.IntN(23)
	}
	switch {
	case !rec.live:
		h.op, rec.live, rec.payload = event.OpAdded, true, map[string]any{}
		s.live++
		change(r, h, rec)
		h.fields = nil
	case r.IntN(9) == 0:
		h.op, rec.live = event.OpDeleted, false
		s.live--
		rec.rev++
	case r.IntN(20) == 0:
		h.op, h.lag = event.OpRestored, -1
	default:
		h.op, h.known = event.OpUpdated, r.IntN(12) > 0
		change(r, h, rec)
		if !h.known {
			h.fields = nil
		}
	}
	h.rev, h.payload, h.live = rec.rev, rec.text, rec.live
	if h.rev == 0 {
		panic("a change without a revision")
	}
}

// change gives a record other content: mostly a time that means nothing.
func change(r *rand.Rand, h *happened, rec *heldRecord) {
	next := maps.Clone(rec.payload)
	next["id"] = h.record
	next["lastSeen"] = fmt.Sprint(h.at, h.csn)
	if r.IntN(4) == 0 || h.op == event.OpAdded {
		next["name"] = fmt.Sprint("n", r.IntN(50))
	}
	if r.IntN(6) == 0 {
		next["a/b~c"] = map[string]any{"list": []int{r.IntN(3), r.IntN(3)}, "deep": map[string]any{"x": r.IntN(100)}}
	}
	if r.IntN(8) == 0 {
		delete(next, "name")
	}
	if r.IntN(30) == 0 {
		next["*"] = r.IntN(1000)
	}
	for name := range next {
		if fmt.Sprint(rec.payload[name]) != fmt.Sprint(next[name]) {
			h.fields = append(h.fields, name)
		}
	}
	for name := range rec.payload {
		if _, ok := next[name]; !ok {
			h.fields = append(h.fields, name)
		}
	}
	slices.Sort(h.fields)
	text, err := json.Marshal(next)
	if err != nil {
		panic(err)
	}
	rec.payload, rec.text, rec.rev = next, text, rec.rev+1
}

// records spells what happened as a writer would, in groups.
func records(r *rand.Rand, names topic.Names, log []*happened) []*kgo.Record {
	kafka := func(h *happened, op event.Op, key string, value []byte, m *event.Meta) *kgo.Record {
		return &kgo.Record{Topic: names.Changes, Partition: h.partition, Key: []byte(key), Value: value, Headers: []kgo.RecordHeader{
			{Key: event.HeaderOp, Value: []byte(op.String())}, {Key: event.HeaderCSN, Value: strconv.AppendUint(nil, m.CSN, 10)},
			{Key: event.HeaderMeta, Value: event.AppendMeta(nil, m)},
		}}
	}
	writer := event.Meta{Term: 1, Nonce: 7, RawOffset: -1}
	m := writer
	m.TS = int64(log[0].at)
	value, err := event.AppendControl(nil, &event.Control{Op: event.OpTerm, Term: 1, Nonce: 7})
	if err != nil {
		panic(err)
	}
	out := []*kgo.Record{kafka(log[0], event.OpTerm, event.PartitionKey(log[0].partition), value, &m)}
	live := map[stream.ID]uint64{}
	for from := 0; from < len(log); {
		n := min(1+r.IntN(5), len(log)-from)
		for gi, h := range log[from : from+n] {
			m := writer
			m.CSN, m.GI, m.SID, m.TS, m.Run = h.csn, uint64(gi), 1, int64(h.at), h.run
			if gi == n-1 {
				m.Commit, m.N, m.RawNext = true, uint64(n), int64(h.csn)
			}
			key := event.NewKey(h.id)
			if h.control != nil {
				if h.op != event.OpCleared && h.op != event.OpPurged {
				} else if h.control.Mode != event.ClearSoft {
					live[h.id] = 0
				}
				value, err := event.AppendControl(nil, h.control)
				if err != nil {
					panic(err)
				}
				out = append(out, kafka(h, h.op, key.Stream, value, &m))
				continue
			}
			switch h.op {
			case event.OpAdded:
				live[h.id]++
			case event.OpDeleted:
				live[h.id]--
			}
			m.Record, m.Algo, m.Rev, m.FirstSeen, m.Live = true, event.AlgoXXH3, h.rev, int64(h.at), live[h.id]
			copy(m.Hash[:], fmt.Sprintf("%016x", fingerprint(h.payload)))
			c := event.Change{Op: h.op, Partition: h.partition, Key: key, ID: []byte(h.record), Payload: h.payload, Changed: h.fields, ChangedKnown: h.known}
			if h.lag >= 0 {
				c.ReceivedMS = int64(h.at) - h.lag
			}
			var value []byte
			if h.op == event.OpRestored {
				value = event.AppendRestored(nil, &c, &m)
			} else {
				value = event.AppendChange(nil, &c, &m)
			}
			out = append(out, kafka(h, h.op, stream.RecordKey(key.Stream, h.record), value, &m))
		}
		from += n
	}
	return out
}

func fingerprint(b []byte) (sum uint64) {
	for _, c := range b {
		sum = sum*1099511628211 + uint64(c)
	}
	return sum
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// makeWorld writes a log to a broker and reads it back, by rule V, into the projections.
func makeWorld(t testing.TB) *world {
	t.Helper()
	server := chtest.Start(t)
	w := &world{seed: uint64(time.Now().UnixNano()), now: time.Now().Truncate(time.Millisecond)}
	t.Logf("seed %d", w.seed)
	r := rand.New(rand.NewPCG(w.seed, 1))
	var err error
	w.names, err = topic.NamesFor("tm", 1)
	must(t, err)
	b, err := devkafka.Start(t.Context(), devkafka.Config{DataDir: t.TempDir(), Listen: "127.0.0.1:0", ReserveBytes: -1})
	must(t, err)
	t.Cleanup(func() { b.Close() })
	w.addr = b.Addr()
	spec := topic.Manifest(w.names, partitions, topic.RecordBytesMax)[1]
	must(t, b.CreateTopic(spec.Name, spec.Partitions, spec.Configs))
	w.kafka, err = kgo.NewClient(kgo.SeedBrokers(b.Addr()), kgo.RecordPartitioner(kgo.ManualPartitioner()))
	must(t, err)
	t.Cleanup(w.kafka.Close)

	w.store, err = warehouse.Open(warehouse.Config{DSN: server.DSN(false), Topology: warehouse.Embedded})
	must(t, err)
	t.Cleanup(func() { must(t, w.store.Close()) })
	must(t, w.store.Migrate(t.Context()))
	must(t, w.store.CreateGeneration(t.Context(), 1))
	must(t, w.store.SetViews(t.Context(), 1))

	for p := range int32(partitions) {
		log := makeLog(r, p, 400, w.now)
		written := records(r, w.names, log)
		must(t, w.kafka.ProduceSync(t.Context(), written...).FirstErr())
		for i, h := range log {
			h.offset = written[i+1].Offset // behind the TERM
		}
		w.log = append(w.log, log...)
	}
	w.project(t, follow.Config{Seeds: []string{b.Addr()}, Names: w.names})

	fetcher, err := follow.NewFetcher(follow.Config{Seeds: []string{b.Addr()}, Names: w.names})
	must(t, err)
	t.Cleanup(fetcher.Close)
	w.Reader = New(Config{Conn: w.store.Conn(), Database: w.store.Database(), Payloads: fetcher, Now: func() time.Time { return w.now }})
	return w
}

// project does what the projector does, in two batches that overlap.
func (w *world) project(t testing.TB, cfg follow.Config) {
	t.Helper()
	keys, err := fold.NewKeys(bytes.Repeat([]byte("k"), 32))
	must(t, err)
	for range 2 {
		f, err := follow.New(cfg)
		must(t, err)
		folders := map[int32]*fold.Folder{}
		rows := new(fold.Rows)
		left := len(w.log)
		must(t, f.Run(t.Context(), func(g follow.Group) error {
			folder := folders[g.Partition]
			if folder == nil {
				var err error
				if folder, err = fold.New(fold.Config{Partition: g.Partition, WindowBits: 5, Keys: keys}, fold.Resume{}); err != nil {
					return err
				}
				folders[g.Partition] = folder
			}
			if err := folder.Take(&g, rows); err != nil {
				return err
			}
			if left -= len(g.Records); left == 0 {
				for _, f := range folders {
					f.Flush(rows)
				}
				return follow.ErrStop
			}
			return nil
		}))
		must(t, w.store.Insert(t.Context(), 1, rows))
	}
	var progress []warehouse.Progress
	for p := range uint16(partitions) {
		progress = append(progress, warehouse.Progress{Partition: p, At: w.now, ToCSN: uint64(len(w.log) / partitions)})
	}
	must(t, w.store.StoreProgress(t.Context(), 1, progress...))
	must(t, w.store.InsertLag(t.Context(),
		warehouse.LagSample{Component: "projector", Generation: 1, Partition: 0, At: w.now, LogEnd: 410, Position: 400, Records: 10, Age: 1500 * time.Millisecond, ToLoss: 90 * time.Second},
		warehouse.LagSample{Component: "processor", Partition: 1, At: w.now, LogEnd: 7, Position: 7, ToLoss: -1}))
}
