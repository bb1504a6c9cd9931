package processor

import (
	"fmt"
	"testing"

	"github.com/tidemark-dev/tidemark/processor/decide"
	"github.com/tidemark-dev/tidemark/processor/model"
	"github.com/tidemark-dev/tidemark/schemas/event"
	"github.com/tidemark-dev/tidemark/schemas/stream"
)

// seenBench is a bench in which a run is open: of five records it has saved three, unchanged, and the writer has stopped in good order.
type seenBench struct {
	*bench
	key string
}

func newSeenBench(t *testing.T, seed uint64, breaks decide.Breaks) *seenBench {
	b := newBench(t, seed, breaks)
	id := stream.ID{Environment: "dev", Integration: "crm", Connection: "c", Model: "M"}
	for stream.Partition(id.Key(), b.dcfg.Partitions) != b.dcfg.Partition {
		id.Connection += "c"
	}
	s := &seenBench{b, id.Key()}
	s.reboot(nil)
	s.begin()
	for n := range 5 {
		s.save(0, 0, n)
	}
	s.send(event.Raw{Type: event.RawRunStarted, Run: 7})
	s.drain()
	for n := range 3 {
		s.save(7, uint64(n+1), n)
	}
	s.drain()
	s.stop()
	s.crashed = true
	return s
}

func (s *seenBench) send(r event.Raw) {
	s.raw = append(s.raw, model.RawEvent{Key: []byte(s.key), Value: r.Value, Headers: r.Headers(nil)})
}

func (s *seenBench) save(run, n uint64, record int) {
	s.send(event.Raw{Type: event.RawSave, Run: run, N: n, ID: fmt.Appendf(nil, "r%d", record), Value: fmt.Appendf(nil, `{"id":%d,"v":1}`, record)})
}

// reboot starts a process with these options on the open store.
func (s *seenBench) reboot(ignored []string) {
	s.ignored = ignored
	s.dcfg.Model = func(stream.ID) decide.Model { return decide.Model{Ignore: ignored} }
	s.d = decide.New(s.dcfg, s.st)
}

// restart opens the disk again and begins a term; it returns how many raw events were read again.
func (s *seenBench) restart(ignored []string) int64 {
	s.open()
	s.reboot(ignored)
	before := s.replayed
	s.begin()
	return s.replayed - before
}

// finish completes the run, which has to delete what it did not save, and holds everything against the model.
func (s *seenBench) finish() error {
	s.send(event.Raw{Type: event.RawRunCompleted, Run: 7, Value: []byte(`{"delete_missing":true,"events":3}`)})
	s.drain()
	m, _, err := s.verify()
	if err == nil && m.Streams[s.key].Runs[7].ToDelete != 2 {
		err = fmt.Errorf("the run should delete 2 records: %+v", m.Streams[s.key].Runs[7])
	}
	return err
}

// TestSeen_TheCheckpointSavesTheReplay: after an orderly stop nothing is read again; on another disk, over another topic, and with a
// checkpoint that is damaged, everything is. The result is the same.
func TestSeen_TheCheckpointSavesTheReplay(t *testing.T) {
	eachSeed(t, func(t *testing.T, seed uint64) {
		for name, c := range map[string]struct {
			change func(s *seenBench)
			again  int64
		}{
			"same node":       {func(*seenBench) {}, 0},
			"another node":    {func(s *seenBench) { s.move() }, 0}, // it has no progress either: the events are decided again
			"another topic":   {func(s *seenBench) { s.topic = [16]byte{2} }, 3},
			"topic unknown":   {func(s *seenBench) { s.topic = [16]byte{} }, 3},
			"no checkpoint":   {func(s *seenBench) { s.spoilWith(func([]byte) []byte { return nil }) }, 3},
			"damaged":         {func(s *seenBench) { s.spoilWith(func(v []byte) []byte { v[len(v)/2]++; return v }) }, 3},
			"switched off":    {func(s *seenBench) { s.dcfg.SeenEvery = -1 }, 3},
			"of another form": {func(s *seenBench) { s.spoilWith(func([]byte) []byte { return []byte("later") }) }, 3},
		} {
			s := newSeenBench(t, seed, decide.Breaks{})
			c.change(s)
			if again := s.restart(nil); again != c.again {
				t.Errorf("seed %d, %s: %d raw events were read again, want %d", seed, name, again, c.again)
			}
			if err := s.finish(); err != nil {
				t.Errorf("seed %d, %s: %v", seed, name, err)
			}
			s.check(s.st.Abandon())
		}
	})
}

// TestSeen_ACheckpointAheadOfTheLogIsOfNoUse: a node had read on without output, and stored how far. Another node, which knew nothing of
// that, wrote something, and died. The first goes on where the log says, which is below its checkpoint: events that the checkpoint has
// counted come again.
func TestSeen_ACheckpointAheadOfTheLogIsOfNoUse(t *testing.T) {
	ahead := func(t *testing.T, seed uint64, breaks decide.Breaks) error {
		s := newSeenBench(t, seed, breaks)
		defer func() { s.check(s.st.Abandon()) }()
		s.move()
		s.restart([]string{"/v"})
		s.step() // the first save of the run under other options, which the log must name
		s.take()
		for len(s.flying) > 0 {
			s.land(true)
		}
		s.check(s.st.Abandon())
		s.move()
		s.restart(nil)
		return s.finish()
	}
	eachSeed(t, func(t *testing.T, seed uint64) {
		if err := ahead(t, seed, decide.Breaks{}); err != nil {
			t.Errorf("seed %d: %v", seed, err)
		}
		if err := ahead(t, seed, decide.Breaks{SeenTooNew: true}); err == nil {
			t.Errorf("seed %d: nobody noticed that a checkpoint ahead of the log was used", seed)
		}
	})
}
