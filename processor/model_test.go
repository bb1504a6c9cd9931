package processor

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/tidemark-dev/tidemark/processor/batch"
	"github.com/tidemark-dev/tidemark/processor/decide"
	"github.com/tidemark-dev/tidemark/processor/detect"
	"github.com/tidemark-dev/tidemark/processor/hot"
	"github.com/tidemark-dev/tidemark/processor/model"
	"github.com/tidemark-dev/tidemark/processor/store"
	"github.com/tidemark-dev/tidemark/schemas/event"
	"github.com/tidemark-dev/tidemark/schemas/rulev"
	"github.com/tidemark-dev/tidemark/schemas/stream"
)

var (
	seeds = flag.Int("seeds", 60, "seeds of each model test")
	seed1 = flag.Uint64("seed", 0, "run this seed only")
)

// eachSeed runs fn for every seed of the test.
func eachSeed(t *testing.T, fn func(t *testing.T, seed uint64)) {
	t.Helper()
	if *seed1 != 0 {
		fn(t, *seed1)
		return
	}
	for s := uint64(1); s <= uint64(*seeds); s++ {
		t.Run(fmt.Sprintf("seed=%d", s), func(t *testing.T) { fn(t, s) })
	}
}

// bench is a decider and a store without Kafka: the log is a slice of encoded batches, groups are in flight until the test lets
// them land, and crashes lose what the test wants to lose.
type bench struct {
	t        *testing.T
	rng      *rand.Rand
	fs       *vfs.MemFS
	st       *store.Store
	d        *decide.Decider
	dcfg     decide.Config
	raw      []model.RawEvent
	log      []logged // every valid group
	flying   []*decide.Group
	enc      encoder
	rule     rulev.State
	now      time.Time
	identity bool
	crashed  bool
	ignored  []string   // the options of the process that is alive
	meant    [][]string // by raw offset: the options under which the event was decided, the last time that it was
}

// logged is a committed group as it lies in the log.
type logged struct {
	raw  []byte
	base int64
}

func newBench(t *testing.T, seed uint64, breaks decide.Breaks) *bench {
	b := &bench{
		t: t, rng: rand.New(rand.NewPCG(seed, 1)), fs: vfs.NewCrashableMem(), rule: rulev.Start(),
		now: time.UnixMilli(1_800_000_000_000), identity: seed%2 == 0,
	}
	b.dcfg = decide.Config{
		Partitions: 4, Partition: 1, GroupRecords: 1 + b.rng.IntN(40), SweepRecords: 1 + b.rng.IntN(20), Breaks: breaks,
		Now: func() time.Time { return b.now }, ScanMax: uint64(b.rng.IntN(40)) + 1,
	}
	switch b.rng.IntN(3) {
	case 0:
		b.dcfg.Budget = hot.NewBudget(1) // no hot entries at all
	case 1:
		b.dcfg.Budget = hot.NewBudget(4 << 10) // lean, evicted
	}
	b.enc.partition = 1
	b.open()
	b.boot()
	b.begin()
	return b
}

// boot starts a process on the open store, now and then with other options than the one before.
func (b *bench) boot() {
	if b.rng.IntN(2) == 0 {
		b.ignored = model.Ignored(b.rng)
	}
	ignored := b.ignored
	b.dcfg.Model = func(stream.ID) decide.Model { return decide.Model{Ignore: ignored} }
	b.d = decide.New(b.dcfg, b.st)
}

// check ends the run on an error; runBench returns it. A broken program may break anywhere.
func (b *bench) check(err error) {
	if err != nil {
		panic(benchError{err})
	}
}

type benchError struct{ error }

func (b *bench) open() {
	st, err := store.Open(store.Options{
		Dir: "p1", FS: b.fs, VersionsEvery: 1 + b.rng.IntN(200), MemtableBytes: 256 << 10, BufferBytes: int64(256 + b.rng.IntN(20<<10)),
	})
	b.check(err)
	b.st = st
	b.rewind()
}

// rewind gives the store what it lacks, through the slow path: decoding.
func (b *bench) rewind() {
	resume := b.st.Resume()
	f := &follower{cfg: &Config{BatchBytesMax: 64 << 20}, store: b.st, models: nil, rule: rulev.NewReader[*store.Record](resume.State)}
	f.models, f.detectors = map[string]*detect.Detector{}, map[string]*detect.Detector{}
	f.changed = make(chan struct{})
	f.position = max(0, resume.Offset)
	for i := range b.log {
		if b.log[i].base < f.position {
			continue
		}
		bt, _, err := batch.Next(b.log[i].raw)
		b.check(err)
		bt.Base += b.log[i].base
		bt.Last += b.log[i].base
		b.check(f.batch(&bt))
	}
}

func (b *bench) begin() {
	b.rule.Term++
	b.rule.Nonce = b.rng.Uint32()
	tb, err := b.enc.term(&event.Meta{Term: b.rule.Term, Nonce: b.rule.Nonce, RawOffset: -1}, &event.Control{Op: event.OpTerm})
	b.check(err)
	b.append(tb)
	rawNext, err := b.st.RawNext()
	b.check(err)
	from, err := b.d.Begin(b.rule.Term, b.rule.Nonce, rawNext)
	b.check(err)
	if from >= 0 {
		for o := from; o < rawNext; o++ {
			ev := b.event(o)
			b.check(b.d.Replay(&ev))
		}
	}
}

func (b *bench) event(offset int64) decide.Event {
	e := &b.raw[offset]
	return decide.Event{Offset: offset, Key: e.Key, Value: e.Value, Headers: e.Headers}
}

// land commits the oldest group in flight: it is in the log, and applied.
func (b *bench) land(tell bool) {
	g := b.flying[0]
	b.flying = b.flying[1:]
	bl, err := b.enc.group(g)
	b.check(err)
	base := b.append(bl)
	b.rule.NextCSN = g.LastCSN() + 1
	b.rule.RawNext = g.RawNext
	if b.identity {
		recs := make([]*store.Record, len(g.Records))
		for i := range g.Records {
			recs[i] = &g.Records[i]
			recs[i].Offset = base + int64(i)
		}
		b.check(b.st.Apply(&store.Group{Records: recs, State: b.rule, NextOffset: base + int64(len(recs))}))
	} else {
		f := &follower{cfg: &Config{BatchBytesMax: 64 << 20}, store: b.st, rule: rulev.NewReader[*store.Record](rulev.State{
			Term: b.rule.Term, Nonce: b.rule.Nonce, NextCSN: g.FirstCSN(), RawNext: 0,
		}), models: map[string]*detect.Detector{}, detectors: map[string]*detect.Detector{}, changed: make(chan struct{})}
		bt, _, err := batch.Next(b.log[len(b.log)-1].raw)
		b.check(err)
		bt.Base, bt.Last = bt.Base+base, bt.Last+base
		b.check(f.batch(&bt))
	}
	if tell {
		b.d.Applied(g)
	}
}

// append writes a batch to the log.
func (b *bench) append(bl *batch.Builder) int64 {
	var base int64
	if n := len(b.log); n > 0 {
		base = b.log[n-1].base + int64(batchCount(b.log[n-1].raw))
	}
	if b.rng.IntN(10) == 0 {
		base += 3 // offsets have gaps: markers, zombies
	}
	b.log = append(b.log, logged{bl.Build(nil, batch.Snappy), base})
	return base
}

func batchCount(raw []byte) int32 {
	bt, _, err := batch.Next(raw)
	if err != nil {
		panic(err)
	}
	return bt.Count
}

// step decides one event, if there is one and it may.
func (b *bench) step() {
	b.now = b.now.Add(time.Duration(b.rng.IntN(50)) * time.Millisecond)
	next := b.d.RawNext()
	if next >= int64(len(b.raw)) {
		return
	}
	ev := b.event(next)
	err := b.d.Decide(&ev)
	if err == decide.ErrBarrier {
		b.take()
		for len(b.flying) > 0 {
			b.land(true)
		}
		err = b.d.Decide(&ev)
	}
	b.check(err)
	for int64(len(b.meant)) <= next {
		b.meant = append(b.meant, nil)
	}
	b.meant[next] = b.ignored
	if b.d.Full() {
		b.take()
	}
}

func (b *bench) take() {
	if g := b.d.Take(); g != nil {
		b.flying = append(b.flying, g)
	}
}

// crash ends the term: of the groups in flight some made it into the log, and the others are gone.
func (b *bench) crash() {
	b.crashed = true
	b.take()
	for n := b.rng.IntN(len(b.flying) + 1); n > 0; n-- {
		b.land(b.rng.IntN(2) == 0)
	}
	b.flying = nil
	switch b.rng.IntN(3) {
	case 0: // the process is killed: what was not yet written is gone
		fs := b.fs.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: b.rng.IntN(101), RNG: b.rng})
		b.check(b.st.Abandon())
		b.fs = fs
		b.open()
		b.boot()
	case 1: // an orderly stop
		b.check(b.st.Close())
		b.open()
		b.boot()
	}
	b.begin()
}

func (b *bench) drain() {
	for b.d.RawNext() < int64(len(b.raw)) || b.d.Pending() || len(b.flying) > 0 || b.d.Sweeping() {
		b.step()
		if b.d.Sweeping() {
			b.check(b.d.Sweep())
		}
		b.take()
		for len(b.flying) > 0 {
			b.land(true)
		}
	}
}

func (b *bench) verify() (*model.Model, *model.Ledger, error) {
	m := model.New(1, 4)
	for i := range b.raw {
		m.Ignore = b.meant[i]
		m.Apply(b.raw[i].Key, b.raw[i].Headers, b.raw[i].Value)
	}
	l := model.NewLedger()
	for i := range b.log {
		bt, _, err := batch.Next(b.log[i].raw)
		b.check(err)
		if err := readLedger(l, &bt); err != nil {
			return m, l, err
		}
	}
	if err := model.Compare(m, l, b.crashed); err != nil {
		return m, l, err
	}
	return m, l, b.st.Check()
}

func readLedger(l *model.Ledger, bt *batch.Batch) error {
	recs, err := batch.Decode(bt, 64<<20)
	if err != nil {
		return err
	}
	defer recs.Release()
	var r batch.Record
	for {
		ok, err := recs.Next(&r)
		if err != nil || !ok {
			return err
		}
		var m event.Meta
		op, err := event.ParseRecord(r.Headers, &m)
		if err != nil {
			return err
		}
		if op == event.OpTerm {
			continue
		}
		if err := l.Take(op, &m, r.Key, r.Value); err != nil {
			return err
		}
	}
}

// TestI5_DecisionsEqualTheModel drives the decider and the store through random raw events, crashes and reopenings.
func TestI5_DecisionsEqualTheModel(t *testing.T) {
	eachSeed(t, func(t *testing.T, seed uint64) {
		if err := runBench(t, seed, decide.Breaks{}); err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
	})
}

// TestI4_I9_BrokenRulesAreCaught switches one rule off at a time: the run must fail for some seed.
func TestI4_I9_BrokenRulesAreCaught(t *testing.T) {
	for name, breaks := range map[string]decide.Breaks{
		"no pending delete": {NoPendingDelete: true}, "no ordinal guard": {NoOrdinalGuard: true}, "no start of replay": {NoReplayStart: true},
		"no replay": {NoReplay: true}, "no replacement of hot entries": {NoCacheReplace: true},
		"no hashing again": {NoRehash: true}, "hashes alone decide": {HashAlone: true},
	} {
		t.Run(name, func(t *testing.T) {
			const most = 400
			for seed := uint64(1); seed <= most; seed++ {
				if err := runBench(t, seed, breaks); err != nil {
					t.Logf("seed %d: %v", seed, err)
					return
				}
			}
			t.Fatalf("%d seeds did not notice", most)
		})
	}
}

func runBench(t *testing.T, seed uint64, breaks decide.Breaks) (err error) {
	defer func() {
		if r := recover(); r != nil {
			be, ok := r.(benchError)
			if !ok {
				panic(r)
			}
			err = be.error
		}
	}()
	b := newBench(t, seed, breaks)
	defer func() { b.st.Abandon() }()
	w := model.NewWorkload(seed, 1+b.rng.IntN(3), 3+b.rng.IntN(30), 1, 4)
	for range 600 {
		switch p := b.rng.IntN(100); {
		case p < 60:
			b.raw = append(b.raw, w.Next())
			b.step()
		case p < 75:
			b.step()
		case p < 85:
			if len(b.flying) > 0 {
				b.land(true)
			}
		case p < 90:
			b.take()
		case p < 97:
			if b.d.Sweeping() && !b.d.Full() {
				b.check(b.d.Sweep())
			}
		case p < 99:
			if b.d.Idle() {
				b.check(b.st.SaveProgress(store.Progress{NextCSN: b.d.NextCSN(), RawNext: b.d.RawNext()}))
			}
		default:
			b.crash()
		}
	}
	b.raw = append(b.raw, w.Settle()...)
	b.drain()
	_, _, err = b.verify()
	return err
}
