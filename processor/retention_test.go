package processor

import (
	"context"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/tidemark-dev/tidemark/processor/decide"
	"github.com/tidemark-dev/tidemark/processor/store"
	"github.com/tidemark-dev/tidemark/schemas/event"
	"github.com/tidemark-dev/tidemark/schemas/stream"
	"github.com/tidemark-dev/tidemark/schemas/topic"
)

// rig is a broker, a processor and a producer, with a clock that the test moves.
type rig struct {
	t     *testing.T
	names topic.Names
	c     *kfake.Cluster
	cl    *kgo.Client
	skew  atomic.Int64 // ns
	sent  int64
}

func newRig(t *testing.T) *rig {
	r := &rig{t: t, names: testNames(t)}
	var err error
	r.c, err = kfake.NewCluster(kfake.NumBrokers(1), kfake.SeedTopics(1, r.names.Raw, r.names.Changes, r.names.State, r.names.DLQ))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(r.c.Close)
	if r.cl, err = kgo.NewClient(kgo.SeedBrokers(r.c.ListenAddrs()...)); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(r.cl.Close)
	return r
}

func (r *rig) now() time.Time { return time.Now().Add(time.Duration(r.skew.Load())) }

func (r *rig) jump(d time.Duration) { r.skew.Add(int64(d)) }

func (r *rig) config(c *Config) {
	c.Now, c.Trim, c.KeepEvery, c.FlushEvery = r.now, true, 20*time.Millisecond, 50*time.Millisecond
	c.SegmentBytes, c.BufferBytes = 1<<20, 256<<10
}

func (r *rig) send(id stream.ID, ev event.Raw) {
	r.t.Helper()
	rec := &kgo.Record{Topic: r.names.Raw, Key: []byte(id.Key()), Value: ev.Value, Timestamp: r.now()}
	for _, h := range ev.Headers(nil) {
		rec.Headers = append(rec.Headers, kgo.RecordHeader{Key: string(h.Key), Value: h.Value})
	}
	if err := r.cl.ProduceSync(context.Background(), rec).FirstErr(); err != nil {
		r.t.Fatal(err)
	}
	r.sent++
}

func (r *rig) save(id stream.ID, record, payload string) {
	r.t.Helper()
	r.send(id, event.Raw{Type: event.RawSave, ID: []byte(record), Value: []byte(payload)})
}

// eventually polls until ok, which says what it waits for.
func (r *rig) eventually(what string, ok func() bool) {
	r.t.Helper()
	for deadline := time.Now().Add(30 * time.Second); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			r.t.Fatalf("waited in vain until %s", what)
		}
	}
}

func (r *rig) processed(p *Processor) {
	r.t.Helper()
	r.eventually("everything is processed", func() bool {
		s := p.Status()[0]
		return s.Ready && s.RawNext == r.sent && s.Idle && s.Lag == 0
	})
}

type rowView struct {
	csn     uint64
	op      event.Op
	payload string
	pruned  bool
}

func (r *rig) page(p *Processor, id stream.ID) map[string]rowView {
	r.t.Helper()
	out := map[string]rowView{}
	_, _, err := p.Page(context.Background(), id, store.Query{Limit: 1 << 20}, func(row *store.Row) error {
		out[string(row.ID)] = rowView{row.CSN, row.Op, string(row.Payload), row.PrunedMS != 0}
		return nil
	})
	if err != nil {
		r.t.Fatal(err)
	}
	return out
}

const day = 24 * time.Hour

// TestI11_I12_RetentionBootstrapAndRestore walks one partition through its life: payloads are pruned after 30 days and the records stay
// listed; the topics are trimmed; a node with an empty disk gets the same from what is left; a save of the same bytes brings a payload back
// without an event; an update of a pruned record is refused; a stream without a sync for 60 days goes.
func TestI11_I12_RetentionBootstrapAndRestore(t *testing.T) {
	r := newRig(t)
	dir := t.TempDir()
	p, stop := startProcessor(t, r.c.ListenAddrs(), dir, r.config)
	waitReady(t, p)
	id := stream.ID{Environment: "dev", Integration: "crm", Connection: "acme", Model: "Old"}
	other := id
	other.Model = "Young"
	for i := range 200 {
		r.save(id, fmt.Sprint("r", i), fmt.Sprintf(`{"n":%d}`, i))
	}
	r.send(id, event.Raw{Type: event.RawDelete, ID: []byte("r7")})
	r.processed(p)
	last := p.Status()[0].AppliedTo
	time.Sleep(200 * time.Millisecond) // until the payloads are written

	r.jump(31 * day)
	r.save(other, "y", `{"young":true}`)
	r.eventually("the payloads are pruned", func() bool {
		pg := r.page(p, id)
		return len(pg) == 200 && pg["r0"].pruned && pg["r7"].pruned
	})
	pg := r.page(p, id)
	for i := range 200 {
		row := pg[fmt.Sprint("r", i)]
		if !row.pruned || row.payload != "" {
			t.Fatalf("r%d: %+v", i, row)
		}
	}
	if pg["r7"].op != event.OpDeleted || pg["r8"].op != event.OpAdded {
		t.Fatalf("pruned rows forget their action: %+v %+v", pg["r7"], pg["r8"])
	}
	if row := r.page(p, other)["y"]; row.pruned || row.payload == "" {
		t.Fatalf("a young payload is gone: %+v", row)
	}
	r.eventually("the changes topic is trimmed", func() bool {
		return r.c.PartitionInfo(r.names.Changes, 0).LogStartOffset > int64(last)/2
	})

	// A node with an empty disk, from the state topic and what is left of the changes.
	fresh, stopFresh := startProcessor(t, r.c.ListenAddrs(), t.TempDir(), r.config, func(c *Config) { c.Assigned = func(int32) bool { return false } })
	r.eventually("the fresh node has caught up", func() bool { return fresh.Status()[0].AppliedTo == p.Status()[0].AppliedTo })
	if have, want := fmt.Sprint(r.page(fresh, id)), fmt.Sprint(r.page(p, id)); have != want {
		t.Fatalf("I12: the fresh node differs\nhave %s\nwant %s", have, want)
	}
	if err := fresh.Check(); err != nil {
		t.Fatal(err)
	}
	stopFresh()

	// The payload comes back without an event; only that of the record that was saved.
	before := pg["r3"].csn
	r.save(id, "r3", `{"n":3}`)
	r.processed(p)
	pg = r.page(p, id)
	if row := pg["r3"]; row.payload != `{"n":3}` || row.csn != before || row.pruned {
		t.Fatalf("restored: %+v, csn before %d", row, before)
	}
	if !pg["r4"].pruned {
		t.Fatal("r4 was restored too")
	}
	r.save(id, "r3", `{"n":3}`) // and once is enough
	r.send(id, event.Raw{Type: event.RawUpdate, ID: []byte("r5"), Value: []byte(`{"m":1}`)})
	r.processed(p)
	if row := r.page(p, id)["r5"]; !row.pruned || row.op != event.OpAdded {
		t.Fatalf("an update of a pruned record: %+v", row)
	}
	if n := r.c.PartitionInfo(r.names.DLQ, 0).HighWatermark; n != 1 {
		t.Fatalf("%d dead letters, want 1", n)
	}
	// A changed record is whole again, and an update of the restored one merges.
	r.save(id, "r6", `{"n":60}`)
	r.send(id, event.Raw{Type: event.RawUpdate, ID: []byte("r3"), Value: []byte(`{"m":1}`)})
	r.processed(p)
	pg = r.page(p, id)
	if pg["r6"].payload != `{"n":60}` || pg["r3"].payload != `{"n":3,"m":1}` {
		t.Fatalf("%+v %+v", pg["r6"], pg["r3"])
	}
	// All that must survive a restart.
	want := fmt.Sprint(pg)
	stop()
	p, _ = startProcessor(t, r.c.ListenAddrs(), dir, r.config)
	waitReady(t, p)
	if have := fmt.Sprint(r.page(p, id)); have != want {
		t.Fatalf("after a restart\nhave %s\nwant %s", have, want)
	}
	if err := p.Check(); err != nil {
		t.Fatal(err)
	}

	r.jump(61 * day)
	r.save(other, "y2", `{}`)
	r.eventually("the abandoned stream is gone", func() bool { return len(r.page(p, id)) == 0 })
	if pg := r.page(p, other); len(pg) != 2 {
		t.Fatalf("the other stream has %d rows", len(pg))
	}
	r.save(id, "r0", `{"n":0}`)
	r.processed(p)
	if row := r.page(p, id)["r0"]; row.op != event.OpAdded || row.payload == "" {
		t.Fatalf("a record that returns after a purge: %+v", row)
	}
	if err := p.Check(); err != nil {
		t.Fatal(err)
	}
}

// TestRetention_OneClockIsNotEnough: our clock jumps, the producers' do not. Nothing may go.
func TestRetention_OneClockIsNotEnough(t *testing.T) {
	r := newRig(t)
	p, _ := startProcessor(t, r.c.ListenAddrs(), t.TempDir(), r.config)
	waitReady(t, p)
	id := stream.ID{Environment: "dev", Integration: "crm", Connection: "acme", Model: "Old"}
	r.save(id, "a", `{}`)
	r.processed(p)
	old := r.now()
	r.jump(75 * 365 * day)
	rec := &kgo.Record{Topic: r.names.Raw, Key: []byte(id.Key()), Value: []byte(`{"b":1}`), Timestamp: old}
	for _, h := range (&event.Raw{Type: event.RawSave, ID: []byte("b")}).Headers(nil) {
		rec.Headers = append(rec.Headers, kgo.RecordHeader{Key: string(h.Key), Value: h.Value})
	}
	if err := r.cl.ProduceSync(context.Background(), rec).FirstErr(); err != nil {
		t.Fatal(err)
	}
	r.sent++
	r.processed(p)
	for range 30 { // several ticks
		time.Sleep(100 * time.Millisecond)
		if pg := r.page(p, id); len(pg) != 2 || pg["a"].pruned {
			t.Fatalf("a jump of one clock took something: %+v", pg)
		}
	}
}

// TestI9_HeldAndExpired: deletions that are too many are held, approved without what came back meanwhile; runs that never end expire.
func TestI9_HeldAndExpired(t *testing.T) {
	r := newRig(t)
	p, _ := startProcessor(t, r.c.ListenAddrs(), t.TempDir(), r.config, func(c *Config) {
		c.Decide = decide.Config{DeleteFree: 1}
	})
	waitReady(t, p)
	id := stream.ID{Environment: "dev", Integration: "crm", Connection: "acme", Model: "Held"}
	status := func(seq uint64) *store.Run {
		s, _, err := p.Stream(id)
		if err != nil || s == nil {
			t.Fatal(err)
		}
		return s.Run(seq)
	}
	for i := range 10 {
		r.save(id, fmt.Sprint("r", i), `{}`)
	}
	r.send(id, event.Raw{Type: event.RawRunStarted, Run: 1})
	r.send(id, event.Raw{Type: event.RawSave, Run: 1, N: 1, ID: []byte("r0"), Value: []byte(`{}`)})
	r.send(id, event.Raw{Type: event.RawRunCompleted, Run: 1, Value: []byte(`{"delete_missing":true,"events":1}`)})
	r.processed(p)
	if run := status(1); run.Status != store.RunHeld || run.ToDelete != 9 || run.Reason != "held.ratio" {
		t.Fatalf("%+v", run)
	}
	if n := len(r.page(p, id)); n != 10 {
		t.Fatalf("%d rows", n)
	}
	r.save(id, "r1", `{}`) // it is still there: an approval must not take it
	r.send(id, event.Raw{Type: event.RawDecision, Value: []byte(`{"run":1,"decision":"approve","by":"test"}`)})
	r.processed(p)
	r.eventually("the deletions are written", func() bool { return status(1).Status == store.RunCompleted })
	if run := status(1); run.ToDelete != 8 || run.Swept != 8 {
		t.Fatalf("%+v", run)
	}
	for rec, row := range r.page(p, id) {
		if want := rec == "r0" || rec == "r1"; want == (row.op == event.OpDeleted) {
			t.Fatalf("%s is %s", rec, row.op)
		}
	}
	r.send(id, event.Raw{Type: event.RawRunStarted, Run: 2})
	r.processed(p)
	r.jump(26 * time.Hour)
	r.eventually("the run expires", func() bool {
		run := status(2)
		return run != nil && run.Status == store.RunInterrupted && run.Reason == "run.expired"
	})
}
