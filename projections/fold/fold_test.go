package fold

import (
	"encoding/json"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/tidemark-dev/tidemark/projections/follow"
	"github.com/tidemark-dev/tidemark/schemas/event"
	"github.com/tidemark-dev/tidemark/schemas/stream"
)

var testKeys = func() *Keys {
	k, err := NewKeys([]byte("sixteen bytes or more"))
	if err != nil {
		panic(err)
	}
	return k
}()

// newLog makes a partition's log of valid groups, with time that passes.
func newLog(rng *rand.Rand, records int) (groups []follow.Group) {
	var streams []*event.Key
	for i := range 4 {
		streams = append(streams, event.NewKey(stream.ID{Environment: "dev", Integration: "crm", Connection: fmt.Sprintf("c/%d", i), Model: "Thing"}))
	}
	live := map[string]uint64{}
	csn, offset, at := uint64(1), int64(0), int64(1_763_700_000_000)
	for csn < uint64(records) {
		offset += int64(rng.IntN(4)) // leftovers of others
		g := follow.Group{Partition: 3}
		for range 1 + rng.IntN(30) {
			at += []int64{0, 0, 5, 900, 70_000, 4_000_000}[rng.IntN(6)]
			k := streams[rng.IntN(len(streams))]
			m := event.Meta{Term: 1, CSN: csn, SID: 1 + uint32(rng.IntN(3)), TS: at, RawOffset: offset, Run: uint64(rng.IntN(3))}
			rec := follow.Record{Offset: offset, Key: []byte(k.Stream)}
			switch kind := rng.IntN(12); kind {
			case 0:
				rec.Op, rec.Key = event.OpGap, []byte(event.PartitionKey(3))
				rec.Value, _ = event.AppendControl(nil, &event.Control{Op: rec.Op, Partition: 3, TSMillis: at})
			case 1, 2:
				rec.Op = []event.Op{event.OpRunCompleted, event.OpRunFailed}[kind-1]
				n := rng.Uint64N(100)
				rec.Value, _ = event.AppendControl(nil, &event.Control{
					Op: rec.Op, Partition: 3, TSMillis: at, Stream: &k.ID, Run: 7, Counts: &event.RunCounts{Unchanged: n}, Outcome: event.OutcomeCompleted,
				})
			case 3:
				ctl := event.Control{Partition: 3, TSMillis: at, Stream: &k.ID}
				switch rng.IntN(4) {
				case 0:
					ctl.Op, ctl.Mode, live[k.Stream] = event.OpCleared, event.ClearHard, 0
				case 1:
					ctl.Op, ctl.Mode = event.OpCleared, event.ClearSoft // what is live is until its DELETED comes
				case 2:
					ctl.Op, live[k.Stream] = event.OpPurged, 0
				default:
					ctl.Op, ctl.State = event.OpCheckpoint, []byte(`{"s":1}`)
				}
				rec.Op = ctl.Op
				rec.Value, _ = event.AppendControl(nil, &ctl)
			default:
				c := event.Change{
					Partition: 3, Key: k, ID: fmt.Appendf(nil, "%d/é%d", rng.IntN(5), rng.IntN(5)), Payload: []byte(`{"a":1}`), ReceivedMS: at - rng.Int64N(100_000),
					Changed: []string{"a", "b"}[:rng.IntN(3)], ChangedKnown: true,
				}
				m.Record, m.Rev = true, 1
				m.Hash = [16]byte{byte(rng.IntN(9))}
				rec.Key = stream.AppendRecordKey(nil, k.Stream, c.ID)
				switch rng.IntN(8) {
				case 0:
					c.Op = event.OpDeleted
					live[k.Stream] = max(live[k.Stream], 1) - 1
				case 1:
					c.Op = event.OpRestored
				case 2, 3, 4:
					c.Op = event.OpUpdated
				default:
					c.Op = event.OpAdded
					live[k.Stream]++
				}
				m.Live, m.Digest = live[k.Stream], [16]byte{byte(csn)}
				rec.Op = c.Op
				if c.Op == event.OpRestored {
					rec.Value = event.AppendRestored(nil, &c, &m)
				} else {
					rec.Value = event.AppendChange(nil, &c, &m)
				}
			}
			rec.Meta = m
			g.Records = append(g.Records, rec)
			csn++
			offset++
		}
		g.Next = follow.Position{Partition: 3, Offset: offset, SeenCSN: csn - 1}
		groups = append(groups, g)
	}
	return groups
}

type partialKey struct {
	stream stream.ID
	level  Level
	bucket int64
	window uint64
}

// tables keep of each key the row with the highest version, as ReplacingMergeTree does; of equal versions the last.
type tables struct {
	facts    map[uint64]string
	events   map[uint64]string
	partials map[partialKey]Partial
	states   map[stream.ID]State
}

func newTables() *tables {
	return &tables{map[uint64]string{}, map[uint64]string{}, map[partialKey]Partial{}, map[stream.ID]State{}}
}

func (w *tables) write(t *testing.T, rows *Rows) {
	for _, f := range rows.Facts {
		id := *f.Stream
		f.Stream = nil
		text := fmt.Sprintf("%v %+v", id, f)
		if old, ok := w.facts[f.CSN]; ok && old != text {
			t.Fatalf("F1: csn %d was %s, is %s", f.CSN, old, text)
		}
		w.facts[f.CSN] = text
	}
	for _, e := range rows.Events {
		id := *e.Stream
		e.Stream = nil
		text := fmt.Sprintf("%v %+v", id, e)
		if old, ok := w.events[e.CSN]; ok && old != text {
			t.Fatalf("F1: csn %d was %s, is %s", e.CSN, old, text)
		}
		w.events[e.CSN] = text
	}
	for l, partials := range rows.Partials {
		for _, p := range partials {
			k := partialKey{*p.Stream, Level(l), p.Bucket, p.Window}
			old := w.partials[k]
			p.Stream = nil
			if old.N == p.N && old != p {
				t.Fatalf("F2: two partials of %d records: %+v and %+v", p.N, old, p)
			}
			if p.N > old.N {
				w.partials[k] = p
			}
		}
	}
	for _, s := range rows.States {
		if id := *s.Stream; s.CSN >= w.states[id].CSN {
			s.Stream = nil
			w.states[id] = s
		}
	}
	rows.Reset()
}

// sums adds the windows up.
func (w *tables) sums() map[partialKey]Partial {
	sums := map[partialKey]Partial{}
	for k, p := range w.partials {
		k.window = 0
		s := sums[k]
		s.N += p.N
		s.ToCSN = max(s.ToCSN, p.ToCSN)
		s.Added, s.Updated, s.Deleted, s.Restored = s.Added+p.Added, s.Updated+p.Updated, s.Deleted+p.Deleted, s.Restored+p.Restored
		s.Unchanged, s.Runs, s.RunsFailed = s.Unchanged+p.Unchanged, s.Runs+p.Runs, s.RunsFailed+p.RunsFailed
		s.BytesWritten, s.BytesMax = s.BytesWritten+p.BytesWritten, max(s.BytesMax, p.BytesMax)
		s.LagSumMS, s.LagMaxMS = s.LagSumMS+p.LagSumMS, max(s.LagMaxMS, p.LagMaxMS)
		for i := range s.LagHist {
			s.LagHist[i] += p.LagHist[i]
		}
		s.LastChangeAt = max(s.LastChangeAt, p.LastChangeAt)
		s.Partition, s.Bucket = p.Partition, p.Bucket
		sums[k] = s
	}
	return sums
}

// reference adds up the log record by record, by decoding each envelope whole.
func reference(t *testing.T, groups []follow.Group, from uint64) (sums map[partialKey]Partial, states map[stream.ID]State, facts, events int) {
	sums, states = map[partialKey]Partial{}, map[stream.ID]State{}
	for _, g := range groups {
		for _, rec := range g.Records {
			m := rec.Meta
			var id stream.ID
			var env event.Envelope
			var ctl event.Control
			counted := true
			switch {
			case rec.Op.IsChange():
				facts++
				if err := json.Unmarshal(rec.Value, &env); err != nil {
					t.Fatal(err)
				}
				id = env.Key.ID
				states[id] = State{Partition: 3, CSN: m.CSN, At: m.TS, Live: m.Live, Digest: m.Digest}
			default:
				if rec.Op == event.OpRestored {
					facts++
				} else {
					events++
				}
				if err := json.Unmarshal(rec.Value, &ctl); err != nil {
					t.Fatal(err)
				}
				if ctl.Stream != nil {
					id = *ctl.Stream
				}
				if rec.Op == event.OpPurged || rec.Op == event.OpCleared && ctl.Mode == event.ClearHard {
					states[id] = State{Partition: 3, CSN: m.CSN, At: m.TS}
				}
				counted = rec.Op == event.OpRestored || ctl.Counts != nil
			}
			if !counted || m.CSN < from {
				continue
			}
			for l, width := range []int64{60, 3600, 86400} {
				k := partialKey{id, Level(l), m.TS / 1000 / width * width, 0}
				p := sums[k]
				p.N, p.ToCSN, p.Partition, p.Bucket = p.N+1, m.CSN, 3, k.bucket
				switch rec.Op {
				case event.OpAdded:
					p.Added++
				case event.OpUpdated:
					p.Updated++
				case event.OpDeleted:
					p.Deleted++
				case event.OpRestored:
					p.Restored++
				case event.OpRunFailed:
					p.RunsFailed++
				}
				if ctl.Counts != nil {
					p.Unchanged += ctl.Counts.Unchanged
					p.Runs++
				} else {
					p.BytesWritten += m.PayloadLength
					p.BytesMax = max(p.BytesMax, uint32(m.PayloadLength))
					p.LastChangeAt = m.TS
				}
				if env.Source.TSMillis > 0 {
					lag := uint32(m.TS - env.Source.TSMillis)
					p.LagSumMS += uint64(lag)
					p.LagMaxMS = max(p.LagMaxMS, lag)
					slot := slices.IndexFunc(LagBounds[:], func(b uint32) bool { return lag <= b })
					if slot < 0 {
						slot = len(LagBounds)
					}
					p.LagHist[slot]++
				}
				sums[k] = p
			}
		}
	}
	return sums, states, facts, events
}

// seek is what a follower delivers from a position: the groups behind it, of what the log still has.
func seek(groups []follow.Group, p follow.Position) []follow.Group {
	at := slices.IndexFunc(groups, func(g follow.Group) bool { return g.Next.Offset > p.Offset })
	if at < 0 {
		return nil
	}
	return groups[at:]
}

// F1, F2, F3: whatever the batch borders, and wherever writers crash, start again, rewind, or write what they had late, the tables hold
// what the log says.
func TestF3_RowsAreAFunctionOfTheLog(t *testing.T) {
	for seed := range uint64(120) {
		rng := rand.New(rand.NewPCG(seed, 1))
		groups := newLog(rng, 300+rng.IntN(1500))
		w := newTables()
		var stored Resume // what a start reads
		var late []*Rows  // of writers that are gone, not written yet
		cfg := Config{Partition: 3, WindowBits: uint8(3 + rng.IntN(6)), Keys: testKeys}
		older := []Resume{{}}
		for done := false; !done; {
			from := stored
			if rng.IntN(6) == 0 {
				from = older[rng.IntN(len(older))] // an operator rewinds, or the newest position was lost
			}
			text, _ := json.Marshal(from)
			from = Resume{}
			if err := json.Unmarshal(text, &from); err != nil {
				t.Fatal(err)
			}
			f, err := New(cfg, from)
			if err != nil {
				t.Fatal(err)
			}
			rows := new(Rows)
			life := rng.IntN(len(groups))
			done = true
			for i, g := range seek(groups, from.Position) {
				if i == life {
					done = false
					break
				}
				if err := f.Take(&g, rows); err != nil {
					t.Fatalf("seed %d: %v", seed, err)
				}
				switch rng.IntN(20) {
				case 0:
					f.Flush(rows)
					w.write(t, rows)
					stored = f.Resume()
					older = append(older, stored)
				case 1: // written, but the position is not
					f.Flush(rows)
					w.write(t, rows)
				case 2: // written without a flush: facts alone
					w.write(t, rows)
				}
			}
			f.Flush(rows)
			if done {
				w.write(t, rows)
				stored = f.Resume()
			} else if rng.IntN(2) == 0 {
				late = append(late, rows)
			}
			for len(late) > 0 && rng.IntN(3) == 0 {
				w.write(t, late[0])
				late = late[1:]
			}
		}
		for _, rows := range late {
			w.write(t, rows)
		}
		check(t, seed, w, groups, 1)
	}
}

func check(t *testing.T, seed uint64, w *tables, groups []follow.Group, from uint64) {
	t.Helper()
	sums, states, facts, events := reference(t, groups, from)
	if have := w.sums(); !maps.Equal(have, sums) {
		for k, want := range sums {
			if have[k] != want {
				t.Errorf("seed %d: %+v is\n%+v, want\n%+v", seed, k, have[k], want)
			}
		}
		t.Fatalf("seed %d: %d sums, want %d", seed, len(have), len(sums))
	}
	if !maps.Equal(w.states, states) {
		t.Fatalf("seed %d: states are %+v, want %+v", seed, w.states, states)
	}
	if len(w.facts) != facts || len(w.events) != events {
		t.Fatalf("seed %d: %d facts and %d events, want %d and %d", seed, len(w.facts), len(w.events), facts, events)
	}
}

// When the head of the log is gone, what somebody summed up before goes on behind it, and nothing counts twice.
func TestF2_TheHeadOfTheLogIsGone(t *testing.T) {
	for seed := range uint64(100) {
		rng := rand.New(rand.NewPCG(seed, 2))
		groups := newLog(rng, 600)
		w := newTables()
		cfg := Config{Partition: 3, WindowBits: 6, Keys: testKeys}
		first, _ := New(cfg, Resume{})
		rows := new(Rows)
		n := 1 + rng.IntN(len(groups)-1)
		for _, g := range groups[:n] {
			if err := first.Take(&g, rows); err != nil {
				t.Fatal(err)
			}
		}
		first.Flush(rows)
		w.write(t, rows)

		// The position is lost, and the log was trimmed below what was read.
		rest := groups[rng.IntN(n):]
		second, _ := New(cfg, Resume{})
		csn := rest[0].Records[0].Meta.CSN
		lost := second.Lost(csn)
		if want := csn != 1 && csn%64 != 0; lost != want {
			t.Fatalf("seed %d: lost is %v at csn %d", seed, lost, csn)
		}
		if lost {
			// What the projector asks the tables for.
			var to uint64
			for _, p := range w.partials {
				if p.Window >= second.Window(csn) && p.Window <= csn {
					to = max(to, p.ToCSN)
				}
			}
			// The sums reach further than their last row if what came then was nothing to sum up.
			second.Begin(max(to+1, csn))
		}
		for _, g := range rest {
			if err := second.Take(&g, rows); err != nil {
				t.Fatal(err)
			}
		}
		second.Flush(rows)
		w.write(t, rows)
		check(t, seed, w, groups, 1)
	}
}

func TestF4_NothingOfARecordLeaves(t *testing.T) {
	k := event.NewKey(stream.ID{Environment: "dev", Integration: "crm", Connection: "c", Model: "Thing"})
	long := fmt.Sprintf("%0200d", 1)
	var changed []string
	for i := range 100 {
		changed = append(changed, fmt.Sprint("member", i))
	}
	changed[3] = long + "é"
	c := event.Change{Op: event.OpUpdated, Key: k, ID: []byte("mail@example.com"), Payload: []byte(`{"secret":"value"}`), Changed: changed, ChangedKnown: true}
	m := event.Meta{Record: true, CSN: 1, SID: 1, Hash: [16]byte{1, 2, 3}}
	g := follow.Group{Records: []follow.Record{{Op: c.Op, Key: stream.AppendRecordKey(nil, k.Stream, c.ID), Value: event.AppendChange(nil, &c, &m)}}}
	g.Records[0].Meta = m
	f, err := New(Config{Keys: testKeys, HashIDs: true}, Resume{})
	if err != nil {
		t.Fatal(err)
	}
	var rows Rows
	if err := f.Take(&g, &rows); err != nil {
		t.Fatal(err)
	}
	fact := rows.Facts[0]
	if fact.RecordID != testKeys.HashID("dev", "mail@example.com") || len(fact.RecordID) != 16 {
		t.Errorf("the id is %q", fact.RecordID)
	}
	if len(fact.ChangedFields) != FieldsMax || fact.ChangedCount != 100 || fact.Flags != FlagFieldsKnown|FlagFieldsTruncated || len(fact.ChangedFields[3]) != FieldBytesMax {
		t.Errorf("%d names of %d, flags %b", len(fact.ChangedFields), fact.ChangedCount, fact.Flags)
	}
	other, err := NewKeys([]byte("another secret of this kind"))
	if err != nil {
		t.Fatal(err)
	}
	prod := testKeys.of("prod")
	foreign := other.of("dev")
	if fp := fact.Fingerprint; fp == prod.fingerprint(&m.Hash) || fp == foreign.fingerprint(&m.Hash) {
		t.Error("fingerprints do not depend on secret and environment")
	}
	if _, err := NewKeys([]byte("short")); err == nil {
		t.Error("a short secret is accepted")
	}
}

// What was erased is not written again by a replay.
func TestF1_ErasedRecordsStayErased(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 3))
	groups := newLog(rng, 400)
	until := groups[len(groups)/2].Records[0].Meta.TS
	cfg := Config{Partition: 3, Keys: testKeys, Erased: func(id *stream.ID, _ string) int64 {
		if id.Connection == "c/1" {
			return until
		}
		return 0
	}}
	f, err := New(cfg, Resume{})
	if err != nil {
		t.Fatal(err)
	}
	var rows Rows
	for _, g := range groups {
		if err := f.Take(&g, &rows); err != nil {
			t.Fatal(err)
		}
	}
	f.Flush(&rows)
	kept := 0
	for _, fact := range rows.Facts {
		if fact.Stream.Connection == "c/1" {
			if kept++; fact.ChangedAt <= until {
				t.Fatalf("erased until %d, but there is %+v", until, fact)
			}
		}
	}
	for _, e := range rows.Events {
		if e.Stream.Connection == "c/1" && e.At <= until {
			t.Fatalf("erased until %d, but there is %+v", until, e)
		}
	}
	for _, p := range rows.Partials[Minute] {
		if p.Stream.Connection == "c/1" && p.Bucket+60 <= until/1000 {
			t.Fatalf("erased until %d, but there is %+v", until, p)
		}
	}
	if kept == 0 {
		t.Error("nothing came after the erasure")
	}
}

func BenchmarkTake(b *testing.B) {
	k := event.NewKey(stream.ID{Environment: "dev", Integration: "crm", Connection: "acme", Model: "Contact"})
	g := follow.Group{}
	for i := range 1000 {
		c := event.Change{
			Op: event.OpUpdated, Key: k, ID: fmt.Appendf(nil, "rec-%d", i), Payload: make([]byte, 350), Changed: []string{"lastSeen", "amount"}, ChangedKnown: true,
			ReceivedMS: 1_763_700_000_000,
		}
		m := event.Meta{Record: true, CSN: uint64(i + 1), SID: 1, TS: 1_763_700_000_100, Live: 5}
		value := event.AppendChange(nil, &c, &m)
		g.Records = append(g.Records, follow.Record{Op: c.Op, Meta: m, Key: stream.AppendRecordKey(nil, k.Stream, c.ID), Value: value, Offset: int64(i)})
	}
	f, err := New(Config{Keys: testKeys}, Resume{})
	if err != nil {
		b.Fatal(err)
	}
	var rows Rows
	b.ReportAllocs()
	for b.Loop() {
		rows.Reset()
		f.facts = 0
		if err := f.Take(&g, &rows); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/1000, "ns/change")
}
