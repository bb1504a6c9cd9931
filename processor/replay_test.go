package processor

import (
	"testing"

	"github.com/tidemark-dev/tidemark/processor/decide"
	"github.com/tidemark-dev/tidemark/processor/model"
	"github.com/tidemark-dev/tidemark/schemas/event"
	"github.com/tidemark-dev/tidemark/schemas/stream"
)

// TestReplay_KnowsWhoWasShutOutBeforeItBegins: a save of a run that had been shut out before the oldest open run began was dropped when
// it came. A takeover reads it again, and must not take it for a sign of life: the run would delete less than it should.
func TestReplay_KnowsWhoWasShutOutBeforeItBegins(t *testing.T) {
	eachSeed(t, func(t *testing.T, seed uint64) {
		b := newBench(t, seed, decide.Breaks{})
		defer func() { b.check(b.st.Abandon()) }()
		id := stream.ID{Environment: "dev", Integration: "crm", Connection: "c", Model: "M"}
		for stream.Partition(id.Key(), b.dcfg.Partitions) != b.dcfg.Partition {
			id.Connection += "c"
		}
		send := func(r event.Raw) {
			b.raw = append(b.raw, model.RawEvent{Key: []byte(id.Key()), Value: r.Value, Headers: r.Headers(nil)})
		}
		save := func(run, n uint64, record string) {
			send(event.Raw{Type: event.RawSave, Run: run, N: n, ID: []byte(record), Value: []byte(`{"id":"` + record + `"}`)})
		}
		send(event.Raw{Type: event.RawRunStarted, Run: 5}) // shuts out whatever is older
		save(5, 1, "r1")
		save(5, 2, "r2")
		send(event.Raw{Type: event.RawRunCompleted, Run: 5, Value: []byte(`{"delete_missing":true,"events":2}`)})
		send(event.Raw{Type: event.RawRunStarted, Run: 6, Value: []byte(`{"fence":false}`)})
		save(3, 1, "r1") // too late
		save(6, 1, "r3")
		b.drain()
		b.crash(false)
		send(event.Raw{Type: event.RawRunCompleted, Run: 6, Value: []byte(`{"delete_missing":true,"events":1,"max_delete_ratio":1}`)})
		b.drain()
		if _, _, err := b.verify(); err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
	})
}
