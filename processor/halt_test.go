package processor

import (
	"context"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/tidemark-dev/tidemark/schemas/event"
	"github.com/tidemark-dev/tidemark/schemas/stream"
)

// TestI2_ALogThatBreaksTheProtocolHalts writes a record with a hole in front of it, in the writer's own name. The partition must stop, say
// why, and go on serving what it had.
func TestI2_ALogThatBreaksTheProtocolHalts(t *testing.T) {
	r := newRig(t)
	p, _ := startProcessor(t, r.c.ListenAddrs(), t.TempDir(), r.config)
	waitReady(t, p)
	id := stream.ID{Environment: "dev", Integration: "crm", Connection: "acme", Model: "Contact"}
	r.save(id, "a", `{"n":1}`)
	r.processed(p)

	cl, err := kgo.NewClient(kgo.SeedBrokers(r.c.ListenAddrs()...), kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{
		r.names.Changes: {0: kgo.NewOffset().AtStart()},
	}))
	if err != nil {
		t.Fatal(err)
	}
	defer cl.Close()
	var last event.Meta
	for last.CSN == 0 {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		cl.PollFetches(ctx).EachRecord(func(rec *kgo.Record) {
			for _, h := range rec.Headers {
				if h.Key == event.HeaderMeta {
					if err := event.ParseMeta(h.Value, &last); err != nil {
						t.Error(err)
					}
				}
			}
		})
		cancel()
		if ctx.Err() == context.DeadlineExceeded {
			t.Fatal("no change to be seen")
		}
	}
	m := last
	m.CSN += 2
	m.PrevCSN, m.GI, m.N, m.Commit = 0, 0, 1, true
	value := event.AppendChange(nil, &event.Change{Op: event.OpAdded, Key: event.NewKey(id), ID: []byte("b"), Payload: []byte(`{}`)}, &m)
	rec := &kgo.Record{Topic: r.names.Changes, Key: []byte(stream.RecordKey(id.Key(), "b")), Value: value, Headers: []kgo.RecordHeader{
		{Key: event.HeaderOp, Value: []byte("ADDED")}, {Key: event.HeaderCSN, Value: strconv.AppendUint(nil, m.CSN, 10)},
		{Key: event.HeaderMeta, Value: event.AppendMeta(nil, &m)},
	}}
	if err := r.cl.ProduceSync(context.Background(), rec).FirstErr(); err != nil {
		t.Fatal(err)
	}
	r.eventually("the partition halts", func() bool { return p.Status()[0].Phase == string(phaseHalted) })
	if s := p.Status()[0]; s.Ready || s.Reason == "" {
		t.Fatalf("%+v", s)
	}
	if row := r.page(p, id)["a"]; row.payload != `{"n":1}` {
		t.Fatalf("what was there before is gone: %+v", row)
	}
	r.save(id, "c", `{}`)
	for deadline := time.Now().Add(300 * time.Millisecond); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		if n := len(r.page(p, id)); n != 1 {
			t.Fatalf("a halted partition went on: %d rows", n)
		}
	}
}

// TestI2_AnUnreadableRecordHalts: what somebody else writes into the changes topic is not skipped.
func TestI2_AnUnreadableRecordHalts(t *testing.T) {
	r := newRig(t)
	p, _ := startProcessor(t, r.c.ListenAddrs(), t.TempDir(), r.config)
	waitReady(t, p)
	if err := r.cl.ProduceSync(context.Background(), &kgo.Record{Topic: r.names.Changes, Key: []byte("k"), Value: []byte("junk")}).FirstErr(); err != nil {
		t.Fatal(err)
	}
	r.eventually("the partition halts", func() bool { return p.Status()[0].Phase == string(phaseHalted) })
	if s := p.Status()[0]; !strings.Contains(s.Reason, "cannot be read") {
		t.Fatalf("%+v", s)
	}
}
