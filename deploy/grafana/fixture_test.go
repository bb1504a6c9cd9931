package grafana

import (
	"cmp"
	"context"
	"encoding/binary"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/tidemark-dev/tidemark/projections/fold"
	"github.com/tidemark-dev/tidemark/projections/follow"
	"github.com/tidemark-dev/tidemark/projections/warehouse"
	"github.com/tidemark-dev/tidemark/schemas/errcode"
	"github.com/tidemark-dev/tidemark/schemas/event"
	"github.com/tidemark-dev/tidemark/schemas/stream"
)

// A world is a log of some thirty hours that ends now: eighteen streams in two partitions, runs that complete, sweep, are held, released,
// fail, are interrupted and go on, records that come, change and go, a stream that is cleared and one that is purged. Beside the log it
// keeps what a dashboard must say of it.
type world struct {
	rng     *rand.Rand
	now     time.Time
	streams []*simStream
	entries [worldPartitions][]entry
	truth   truth
}

const (
	worldPartitions = 2
	worldHours      = 30
	worldModel      = "Contact"
	hotRecord       = "contact-0007"
)

// hotStream is the stream whose updates mostly say that a record was seen, and that holds hotRecord. Its connection needs quoting.
var hotStream = stream.ID{Environment: "production", Integration: "hubspot", Connection: "o'neill", Model: worldModel, Variant: stream.VariantBase}

// truth is counted while the log is made, without any of the code under test.
type truth struct {
	live                          map[stream.ID]uint64
	changes                       [5]uint64 // by fold.Action
	unchanged                     uint64
	runs, failed, held, running   uint64
	deadLettered, cleared, purged uint64
	hotHistory                    uint64 // changes of hotRecord
	updatesOfHot, spuriousOfHot   uint64
	environments, integrations    []string
	connections                   []string
}

type simStream struct {
	id        stream.ID
	key       *event.Key
	partition int
	sid       uint32
	revisions map[string]uint64
	live      []string
	next      int
	every     time.Duration
	size      int // changes a run
	run       uint64
}

// entry is a record of the log without its place in it.
type entry struct {
	at     int64
	s      *simStream // nil: about the partition
	op     event.Op
	ctl    *event.Control
	id     string
	run    uint64
	rev    uint64
	fields []string
	bytes  int
	lag    int64
	hash   uint64
}

func newWorld(seed uint64, now time.Time) *world {
	w := &world{rng: rand.New(rand.NewPCG(seed, 7)), now: now.Truncate(time.Millisecond), truth: truth{live: map[stream.ID]uint64{}}}
	add := func(environment, integration, connection, model, variant string, every time.Duration, size int) {
		id := stream.ID{Environment: environment, Integration: integration, Connection: connection, Model: model, Variant: variant}
		n := len(w.streams)
		w.streams = append(w.streams, &simStream{
			id: id, key: event.NewKey(id), partition: n % worldPartitions, sid: uint32(n/worldPartitions + 1), revisions: map[string]uint64{}, every: every, size: size,
		})
	}
	add("production", "hubspot", "o'neill", worldModel, "base", 30*time.Minute, 40)
	add("production", "hubspot", "acme", worldModel, "base", time.Hour, 60)
	add("production", "hubspot", "acme", "Company", "base", 2*time.Hour, 25)
	add("production", "hubspot", "globex", worldModel, "base", time.Hour, 30)
	add("production", "salesforce", "acme", "Account", "base", time.Hour, 50)
	add("production", "salesforce", "acme", "Opportunity", "base", time.Hour, 35)
	add("production", "salesforce", "acme", "Opportunity", "archived", 6*time.Hour, 15)
	add("production", "salesforce", "initech", "Account", "base", time.Hour, 20)
	add("production", "zendesk", "acme", "Ticket", "base", 15*time.Minute, 30)
	add("production", "zendesk", "globex", "Ticket", "base", 30*time.Minute, 25)
	add("production", "zendesk", "initech", "Ticket", "base", 30*time.Minute, 12)
	add("production", "google-calendar", "acme", "Event", "base", 20*time.Minute, 12)
	add("production", "google-calendar", "globex", "Event", "base", 20*time.Minute, 8)
	add("staging", "hubspot", "acme", worldModel, "base", 3*time.Hour, 20)
	add("staging", "hubspot", "acme", "Company", "base", 3*time.Hour, 12)
	add("staging", "salesforce", "acme", "Account", "base", 3*time.Hour, 15)
	add("staging", "zendesk", "acme", "Ticket", "base", 3*time.Hour, 15)
	add("staging", "google-calendar", "acme", "Event", "base", 3*time.Hour, 5)
	for i, s := range w.streams {
		w.fill(s, i)
	}
	w.partitionEvents()
	for _, s := range w.streams {
		w.truth.live[s.id] = uint64(len(s.live))
		for _, v := range []struct {
			to    *[]string
			value string
		}{{&w.truth.environments, s.id.Environment}, {&w.truth.integrations, s.id.Integration}, {&w.truth.connections, s.id.Connection}} {
			if !slices.Contains(*v.to, v.value) {
				*v.to = append(*v.to, v.value)
			}
		}
	}
	for _, list := range []*[]string{&w.truth.environments, &w.truth.integrations, &w.truth.connections} {
		slices.Sort(*list)
	}
	return w
}

func (w *world) put(e entry) {
	p := 0
	if e.s != nil {
		p = e.s.partition
		if e.ctl != nil {
			e.ctl.Stream = &e.s.id
		}
		if e.op.IsChange() || e.op == event.OpRestored {
			w.count(&e)
		}
	}
	w.entries[p] = append(w.entries[p], e)
}

func (w *world) count(e *entry) {
	action := map[event.Op]fold.Action{
		event.OpAdded: fold.Added, event.OpUpdated: fold.Updated, event.OpDeleted: fold.Deleted, event.OpRestored: fold.Restored,
	}[e.op]
	w.truth.changes[action]++
	if e.s.id == hotStream && e.op == event.OpUpdated {
		w.truth.updatesOfHot++
		if slices.Equal(e.fields, []string{"lastSeen"}) {
			w.truth.spuriousOfHot++
		}
	}
	if e.s.id == hotStream && e.id == hotRecord {
		w.truth.hotHistory++
	}
}

// fill makes the runs of a stream, from the oldest to now. Some streams have a story of their own.
func (w *world) fill(s *simStream, index int) {
	start := w.now.Add(-worldHours * time.Hour).Add(time.Duration(w.rng.Int64N(int64(s.every))))
	first := true
	for at := start; at.Before(w.now.Add(-s.every / 2)); at = at.Add(s.every + time.Duration(w.rng.Int64N(int64(s.every/8)))) {
		age := w.now.Sub(at)
		end := runEnd{outcome: event.OutcomeCompleted}
		switch {
		case index == 10 && age < 5*time.Hour: // has been failing for hours
			end = runEnd{event.OutcomeFailed, errcode.RunProducerError, "401 Unauthorized: the token of connection initech has been revoked"}
		case index == 7 && age < 4*time.Hour:
			end = runEnd{event.OutcomeFailed, errcode.RunProducerError, "429 Too Many Requests"}
		case index == 9 && w.rng.IntN(12) == 0:
			end = runEnd{event.OutcomeInterrupted, errcode.RunSuperseded, "a newer run has begun"}
		case index == 3 && age < s.every*2: // the newest run of this one is held
			end = runEnd{event.OutcomeHeld, errcode.HeldRatio, "the run would delete 61 % of the records"}
		case index == 1 && age > 10*time.Hour && age <= 11*time.Hour+30*time.Minute:
			end = runEnd{event.OutcomeHeld, errcode.HeldEmpty, "the run saved nothing"}
		case w.rng.IntN(6) == 0 && !first:
			end.outcome = event.OutcomeSweeping
		case w.rng.IntN(40) == 0 && !first:
			end = runEnd{event.OutcomeFailed, errcode.RunExpired, "nothing arrived for an hour"}
		}
		w.run(s, at, end, first)
		first = false
	}
	switch index {
	case 8: // a run goes on
		s.run++
		w.truth.running++
		w.put(entry{at: w.now.Add(-2 * time.Minute).UnixMilli(), s: s, op: event.OpRunStarted, run: s.run, ctl: &event.Control{Op: event.OpRunStarted, Run: s.run, Sync: "full", Records: uint64(len(s.live))}})
	case 16:
		w.forget(s, w.now.Add(-3*time.Hour/2), event.OpCleared)
		w.truth.cleared++
	case 17:
		w.forget(s, w.now.Add(-time.Hour), event.OpPurged)
		w.truth.purged++
	}
}

func (w *world) forget(s *simStream, at time.Time, op event.Op) {
	c := &event.Control{Op: op, Records: uint64(len(s.live))}
	if op == event.OpCleared {
		c.Mode = event.ClearHard
	}
	s.live = nil
	w.put(entry{at: at.UnixMilli(), s: s, op: op, ctl: c})
}

type runEnd struct {
	outcome event.Outcome
	reason  errcode.Code
	detail  string
}

// run makes one run: its start, its changes, its end, and the deletions that follow it.
func (w *world) run(s *simStream, at time.Time, end runEnd, first bool) {
	s.run++
	w.truth.runs++
	run, started := s.run, at.UnixMilli()
	took := int64(8_000 + w.rng.IntN(60_000) + 400*s.size)
	w.put(entry{at: started, s: s, op: event.OpRunStarted, run: run, ctl: &event.Control{
		Op: event.OpRunStarted, Run: run, Sync: "incremental", TrackDeletes: true, Records: uint64(len(s.live)),
	}})
	// Offices are awake by day.
	hour := float64(at.UTC().Hour()) + float64(at.UTC().Minute())/60
	n := int(float64(s.size) * (0.35 + 0.65*math.Pow(math.Sin(math.Pi*math.Mod(hour+21, 24)/24), 2)))
	if first {
		n = 6 * s.size
	}
	if end.outcome == event.OutcomeFailed {
		n /= 4
	}
	counts := &event.RunCounts{Unchanged: uint64(3*n + w.rng.IntN(3*n+1)), Skipped: uint64(w.rng.IntN(3))}
	w.truth.unchanged += counts.Unchanged
	for i := range n {
		t := started + took*int64(i+1)/int64(n+2)
		switch {
		case first || len(s.live) == 0 || w.rng.IntN(5) == 0:
			w.add(s, t, run)
			counts.Added++
		case w.rng.IntN(25) == 0 && len(s.live) > 20:
			w.remove(s, t, run, w.rng.IntN(len(s.live)))
			counts.Deleted++
		default:
			among := len(s.live)
			if s.id == hotStream {
				among = min(among, 20) // which are seen again and again
			}
			w.update(s, t, run, s.live[w.rng.IntN(among)])
			counts.Updated++
		}
	}
	if !first && s.id == hotStream {
		w.update(s, started+took*int64(n+1)/int64(n+2), run, hotRecord)
		counts.Updated++
	}
	if w.rng.IntN(15) == 0 {
		counts.DeadLettered++
		w.truth.deadLettered++
		w.put(entry{at: started + took - 1, s: s, op: event.OpDeadLettered, run: run, ctl: &event.Control{
			Op: event.OpDeadLettered, Run: run, Reason: string(errcode.RawInvalidPayload), Detail: "the payload is not a JSON object", RecordID: "broken",
		}})
	}
	w.end(s, started, started+took, run, counts, end)
}

func (w *world) end(s *simStream, started, at int64, run uint64, counts *event.RunCounts, end runEnd) {
	op, toDelete := event.OpRunCompleted, uint64(0)
	switch end.outcome {
	case event.OutcomeFailed, event.OutcomeInterrupted:
		op = event.OpRunFailed
		w.truth.failed++
	case event.OutcomeHeld:
		toDelete = uint64(max(1, len(s.live)*61/100))
	case event.OutcomeSweeping:
		if toDelete = uint64(min(len(s.live)/8, 1+w.rng.IntN(5))); toDelete == 0 {
			end.outcome = event.OutcomeCompleted
		}
	}
	w.put(entry{at: at, s: s, op: op, run: run, ctl: &event.Control{
		Op: op, Run: run, Sync: "incremental", StartedMS: started, Counts: counts, Outcome: end.outcome, Reason: string(end.reason), Detail: end.detail, ToDelete: toDelete,
	}})
	switch {
	case end.outcome == event.OutcomeSweeping:
		w.sweep(s, at, run, toDelete)
	case end.outcome == event.OutcomeHeld && end.reason == errcode.HeldEmpty:
		at += 20 * 60_000
		w.put(entry{at: at, s: s, op: event.OpReleased, run: run, ctl: &event.Control{
			Op: event.OpReleased, Run: run, Decision: event.DecisionDiscard, By: "ada@example.com",
		}})
	case end.outcome == event.OutcomeHeld:
		w.truth.held++
	}
}

func (w *world) sweep(s *simStream, at int64, run, n uint64) {
	for i := range n {
		w.remove(s, at+int64(i+1)*20, run, w.rng.IntN(len(s.live)))
	}
	w.put(entry{at: at + int64(n+1)*20, s: s, op: event.OpSwept, run: run, ctl: &event.Control{Op: event.OpSwept, Run: run, Records: n}})
}

func (w *world) lag() int64 { return 4 + int64(math.Exp(w.rng.NormFloat64()*1.1+3.4)) }

func (w *world) add(s *simStream, at int64, run uint64) {
	id := fmt.Sprintf("%s-%04d", strings.ToLower(s.id.Model), s.next)
	s.next++
	s.revisions[id]++
	s.live = append(s.live, id)
	w.put(entry{at: at, s: s, op: event.OpAdded, id: id, run: run, rev: s.revisions[id], bytes: 200 + w.rng.IntN(900), lag: w.lag(), hash: w.rng.Uint64()})
}

// fieldSets are what updates touch, the more frequent first.
var fieldSets = [][]string{
	{"status"}, {"amount", "status"}, {"owner"}, {"name"}, {"tags"}, {"stage", "probability", "closeDate"}, {"phone"}, {"address", "city"}, {"a/b"}, {"priority"},
	{"due"}, {"subject"}, {"attendees"}, {"source"}, {"notes"}, {"domain"}, {"industry"}, {"currency"},
}

func (w *world) update(s *simStream, at int64, run uint64, id string) {
	fields := fieldSets[int(float64(len(fieldSets))*math.Pow(w.rng.Float64(), 1.5))]
	if s.id == hotStream && w.rng.IntN(100) < 93 {
		fields = []string{"lastSeen"}
	}
	hash := w.rng.Uint64()
	if id == hotRecord {
		hash = uint64(s.revisions[id] % 3) // content that comes back
	}
	s.revisions[id]++
	w.put(entry{at: at, s: s, op: event.OpUpdated, id: id, run: run, rev: s.revisions[id], fields: fields, bytes: 200 + w.rng.IntN(900), lag: w.lag(), hash: hash})
}

func (w *world) remove(s *simStream, at int64, run uint64, i int) {
	id := s.live[i]
	if id == hotRecord {
		i = (i + 1) % len(s.live)
		id = s.live[i]
	}
	s.live = slices.Delete(s.live, i, i+1)
	s.revisions[id]++
	w.put(entry{at: at, s: s, op: event.OpDeleted, id: id, run: run, rev: s.revisions[id], bytes: 400, lag: w.lag()})
}

// partitionEvents are about no stream: raw events that were lost before anybody read them.
func (w *world) partitionEvents() {
	w.put(entry{at: w.now.Add(-4 * time.Hour).UnixMilli(), op: event.OpGap, ctl: &event.Control{Op: event.OpGap, RawUntil: 1000}})
}

// groups is the log of a partition, as a follower delivers it.
func (w *world) groups(partition int) []follow.Group {
	entries := w.entries[partition]
	slices.SortStableFunc(entries, func(a, b entry) int { return cmp.Compare(a.at, b.at) })
	live := map[*simStream]uint64{}
	var groups []follow.Group
	csn := uint64(0)
	for chunk := range slices.Chunk(entries, 40) {
		g := follow.Group{Partition: int32(partition)}
		for i := range chunk {
			csn++
			g.Records = append(g.Records, chunk[i].record(int32(partition), csn, live))
		}
		g.Next = follow.Position{Partition: int32(partition), Offset: int64(csn) + 1, SeenCSN: csn}
		groups = append(groups, g)
	}
	return groups
}

func (e *entry) record(partition int32, csn uint64, live map[*simStream]uint64) follow.Record {
	m := event.Meta{Term: 1, CSN: csn, TS: e.at, RawOffset: int64(csn) * 4, Run: e.run}
	rec := follow.Record{Op: e.op, Offset: int64(csn), Key: []byte(event.PartitionKey(partition))}
	if e.s != nil {
		rec.Key, m.SID = []byte(e.s.key.Stream), e.s.sid
	}
	if e.ctl != nil {
		e.ctl.Partition, e.ctl.TSMillis = partition, e.at
		if e.op == event.OpCleared || e.op == event.OpPurged {
			live[e.s] = 0
		}
		rec.Meta = m
		value, err := event.AppendControl(nil, e.ctl)
		if err != nil {
			panic(err) // it holds nothing that could not be encoded
		}
		rec.Value = value
		return rec
	}
	switch e.op {
	case event.OpAdded:
		live[e.s]++
	case event.OpDeleted:
		live[e.s]--
	}
	m.Record, m.Rev, m.Live, m.FirstSeen = true, e.rev, live[e.s], e.at
	binary.BigEndian.PutUint64(m.Digest[:], csn)
	binary.BigEndian.PutUint64(m.Hash[:], e.hash)
	c := event.Change{
		Op: e.op, Partition: partition, Key: e.s.key, ID: []byte(e.id), Payload: fmt.Appendf(nil, `{"pad":%q}`, strings.Repeat("x", e.bytes)),
		Changed: e.fields, ChangedKnown: true, ReceivedMS: e.at - e.lag,
	}
	rec.Key = stream.AppendRecordKey(nil, e.s.key.Stream, c.ID)
	rec.Value = event.AppendChange(nil, &c, &m)
	rec.Meta = m
	return rec
}

// load folds the log into rows and stores them, with lag samples, progress and an audit, as the projector does.
func (w *world) load(ctx context.Context, t testing.TB, to *warehouse.Warehouse) {
	t.Helper()
	if err := to.Migrate(ctx); err != nil {
		t.Fatal(err)
	}
	if err := to.CreateGeneration(ctx, 1); err != nil {
		t.Fatal(err)
	}
	if err := to.SetViews(ctx, 1); err != nil {
		t.Fatal(err)
	}
	keys, err := fold.NewKeys([]byte("sixteen bytes or more"))
	if err != nil {
		t.Fatal(err)
	}
	for p := range worldPartitions {
		f, err := fold.New(fold.Config{Partition: int32(p), Keys: keys}, fold.Resume{})
		if err != nil {
			t.Fatal(err)
		}
		rows := new(fold.Rows)
		for i, g := range w.groups(p) {
			if err := f.Take(&g, rows); err != nil {
				t.Fatal(err)
			}
			if i%100 == 99 { // more than one part, as in life
				f.Flush(rows)
				w.insert(ctx, t, to, rows)
			}
		}
		f.Flush(rows)
		w.insert(ctx, t, to, rows)
		if err := to.StoreProgress(ctx, 1, warehouse.Progress{Partition: uint16(p), At: w.now, ToCSN: f.CSN(), Position: "{}"}); err != nil {
			t.Fatal(err)
		}
	}
	w.lagSamples(ctx, t, to)
	report, err := to.Audit(ctx, 1, warehouse.AuditRange{Window: 1 << fold.WindowBitsDefault, Open: true})
	if err != nil {
		t.Fatal(err)
	}
	if report.Mismatched != 0 || report.Windows == 0 {
		t.Fatalf("the fixture is not what it says: %+v", report)
	}
}

func (w *world) insert(ctx context.Context, t testing.TB, to *warehouse.Warehouse, rows *fold.Rows) {
	t.Helper()
	if err := to.Insert(ctx, 1, rows); err != nil {
		t.Fatal(err)
	}
	rows.Reset()
}

// lagSamples are half a day of a projector that keeps up, but for a quarter of an hour, and of another reader that is slower.
func (w *world) lagSamples(ctx context.Context, t testing.TB, to *warehouse.Warehouse) {
	t.Helper()
	var samples []warehouse.LagSample
	for at := w.now.Add(-12 * time.Hour); !at.After(w.now); at = at.Add(time.Minute) {
		left := w.now.Sub(at)
		behind := uint64(w.rng.IntN(40))
		if left > 3*time.Hour && left < 3*time.Hour+15*time.Minute {
			behind = uint64(400 + w.rng.IntN(200))
		}
		position := int64(100_000 - left/time.Second)
		for p := range uint16(worldPartitions) {
			samples = append(samples, warehouse.LagSample{
				Component: "projector", Generation: 1, Partition: p, At: at, LogEnd: position + int64(behind), Position: position, Records: behind,
				Age: time.Duration(behind) * 30 * time.Millisecond, ToLoss: 7*24*time.Hour - time.Duration(behind)*time.Minute,
			}, warehouse.LagSample{
				Component: "api", Partition: p, At: at, LogEnd: position, Position: position - int64(behind), Records: behind,
				Age: time.Duration(behind) * 5 * time.Millisecond, ToLoss: -1,
			})
		}
	}
	if err := to.InsertLag(ctx, samples...); err != nil {
		t.Fatal(err)
	}
}
