package decide

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/tidemark-dev/tidemark/processor/hot"
	"github.com/tidemark-dev/tidemark/processor/store"
	"github.com/tidemark-dev/tidemark/schemas/stream"
)

// rowsState is a State that has rows, and counts what is read of them.
type rowsState struct {
	State
	rows    map[uint32]map[string]store.Version
	gets    int
	scanned int // rows
}

func (s *rowsState) Get(sid uint32, id []byte) (store.Version, bool, error) {
	s.gets++
	v, ok := s.rows[sid][string(id)]
	return v, ok, nil
}

func (s *rowsState) Scan(sid uint32, fn func(id []byte, v *store.Version) error) error {
	for id, v := range s.rows[sid] {
		s.scanned++
		if err := fn([]byte(id), &v); err != nil {
			return err
		}
	}
	return nil
}

func (s *rowsState) ShapeNames(uint32, uint32) []string { return nil }

// warmDecider returns a decider over streams of n records each, which it has not looked at yet.
func warmDecider(budget *hot.Budget, streams, n int) (*Decider, *rowsState, []*tip) {
	state := &rowsState{rows: map[uint32]map[string]store.Version{}}
	d := New(Config{Budget: budget}, state)
	var tips []*tip
	for i := range streams {
		sid := uint32(i + 1)
		st := store.NewStream(sid, stream.ID{Environment: "e", Integration: "i", Connection: fmt.Sprint(i), Model: "M"}, nil)
		st.Total = uint64(n)
		state.rows[sid] = map[string]store.Version{}
		for k := range n {
			csn := uint64(i*n + k + 1)
			state.rows[sid][fmt.Sprint(k)] = store.Version{CSN: csn, PayloadCSN: csn, Raw: csn}
		}
		tips = append(tips, d.tipFor(st.Key.Stream, st))
	}
	return d, state, tips
}

// save looks record k of a stream up as an unchanged save does, and checks the answer.
func save(t *testing.T, d *Decider, tp *tip, n, k int) {
	t.Helper()
	if _, err := d.tip([]byte(tp.s.Key.Stream)); err != nil {
		t.Fatal(err)
	}
	id := fmt.Append(nil, k)
	want := uint64(int(tp.s.SID-1)*n + k + 1)
	prev, err := d.lookup(tp, id, hot.FingerprintOf(id), true, want)
	if err != nil {
		t.Fatal(err)
	}
	if !prev.live || prev.Raw != want || prev.CSN != want {
		t.Fatalf("record %d of %s: %+v, want csn %d", k, tp.s.Stream, prev, want)
	}
}

// TestWarm_ReadsEachStreamOnce: with memory for all, every stream is scanned once, and no row is read by itself.
func TestWarm_ReadsEachStreamOnce(t *testing.T) {
	const streams, n = 10, 500
	d, state, tips := warmDecider(hot.NewBudget(1<<20), streams, n)
	for k := range n {
		for _, tp := range tips {
			save(t, d, tp, n, k)
		}
	}
	if state.gets != 0 || state.scanned != streams*n {
		t.Errorf("%d rows read by themselves, %d scanned", state.gets, state.scanned)
	}
}

// TestWarm_LittleMemory: however little memory there is and however the streams take turns, the rows scanned stay within a small
// multiple of the records looked up. Each of the streams fits by itself, but not all of them together.
func TestWarm_LittleMemory(t *testing.T) {
	const streams, n, saves = 10, 500, 40_000
	for _, share := range []int64{0, 1, 3, 7, 9, 12, 30} { // tenths of what lean entries of all streams take
		budget := hot.NewBudget(hot.LeanBytes(n) * streams * share / 10)
		d, state, tips := warmDecider(budget, streams, n)
		rng := rand.New(rand.NewPCG(uint64(share), 7))
		for range saves {
			save(t, d, tips[rng.IntN(streams)], n, rng.IntN(n))
		}
		if state.scanned > missesPerScan*state.gets+2*streams*n {
			t.Errorf("%d tenths: %d rows scanned, %d read by themselves", share, state.scanned, state.gets)
		}
		if budget.Used() > budget.Max() {
			t.Errorf("%d tenths: %d bytes of %d", share, budget.Used(), budget.Max())
		}
		if share == 30 && state.gets > 0 {
			t.Errorf("there is memory for everything, and %d rows were read by themselves", state.gets)
		}
	}
}

// TestWarm_OtherStreamsComeFirst: memory that old streams hold goes to one that is used now.
func TestWarm_OtherStreamsComeFirst(t *testing.T) {
	const streams, n = 5, 500
	budget := hot.NewBudget(hot.LeanBytes(n) * 2)
	d, state, tips := warmDecider(budget, streams, n)
	for _, tp := range tips {
		for range 2 {
			for k := range n {
				save(t, d, tp, n, k)
			}
		}
		gets := state.gets
		for k := range n {
			save(t, d, tp, n, k)
		}
		if state.gets != gets {
			t.Errorf("%s: %d rows were read by themselves the third time", tp.s.Stream, state.gets-gets)
		}
	}
}

// TestWarm_PartitionsShare: a partition that finds no memory, and has less than its share, gets some of what another has beyond its own.
func TestWarm_PartitionsShare(t *testing.T) {
	const n = 500
	budget := hot.NewBudget(hot.LeanBytes(n) * 4)
	greedy, _, many := warmDecider(budget, 4, n)
	late, state, few := warmDecider(budget, 1, n)
	greedy.cfg.Partitions, late.cfg.Partitions = 2, 2
	for range 2 {
		for _, tp := range many {
			for k := range n {
				save(t, greedy, tp, n, k)
			}
		}
	}
	if free := budget.Max() - budget.Used(); free >= hot.LeanBytes(n) {
		t.Fatalf("%d bytes are free", free)
	}
	for range 4 {
		for k := range n {
			save(t, late, few[0], n, k)
		}
		greedy.yield()
	}
	gets := state.gets
	for k := range n {
		save(t, late, few[0], n, k)
	}
	if state.gets != gets {
		t.Errorf("%d rows were read by themselves", state.gets-gets)
	}
	for range 100 {
		budget.Press()
		greedy.yield()
	}
	if keeps := greedy.fairShare() - hot.LeanBytes(n); greedy.held() < keeps {
		t.Errorf("the other partition is left %d bytes of the %d that are its own", greedy.held(), keeps)
	}
}

// TestWarm_LargeStreamsAreNotScanned: a stream above ScanMax is read row by row, and what was read is kept.
func TestWarm_LargeStreamsAreNotScanned(t *testing.T) {
	const n = 500
	d, state, tips := warmDecider(hot.NewBudget(1<<20), 1, n)
	d.cfg.ScanMax = n - 1
	for range 3 {
		for k := range n {
			save(t, d, tips[0], n, k)
		}
	}
	if state.scanned != 0 || state.gets != n {
		t.Errorf("%d rows scanned, %d read by themselves", state.scanned, state.gets)
	}
}
