package processor

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2"
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
	away     *vfs.MemFS // the disk of the other node
	topic    [16]byte   // id of the raw topic
	replayed int64      // raw events read again
	haste    int        // the other node is given so many more steps
	ignored  []string   // the options of the process that is alive
	decided  [][]string // by raw offset: the options under which this node decided the event, the last time that it did
	afar     [][]string // as decided, of the other node
	meant    [][]string // by raw offset: those of the decision that counts, for it is in the log
}

// logged is a committed group as it lies in the log.
type logged struct {
	raw  []byte
	base int64
}

func newBench(t *testing.T, seed uint64, breaks decide.Breaks) *bench {
	b := &bench{
		t: t, rng: rand.New(rand.NewPCG(seed, 1)), fs: vfs.NewCrashableMem(), rule: rulev.Start(),
		now: time.UnixMilli(1_800_000_000_000), identity: seed%2 == 0, away: vfs.NewCrashableMem(), topic: [16]byte{1},
	}
	b.dcfg = decide.Config{
		Partitions: 4, Partition: 1, GroupRecords: 1 + b.rng.IntN(40), SweepRecords: 1 + b.rng.IntN(20), Breaks: breaks,
		Now: func() time.Time { return b.now }, ScanMax: uint64(b.rng.IntN(40)) + 1,
		SeenEvery: int64(b.rng.IntN(100)) + 1,
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
	from, err := b.d.Begin(b.rule.Term, b.rule.Nonce, rawNext, b.topic)
	b.check(err)
	if from >= 0 {
		for o := from; o < rawNext; o++ {
			if b.rng.IntN(300) == 0 { // the term ends before it has begun
				b.seen(b.rng.IntN(2) == 0)
				b.begin()
				return
			}
			ev := b.event(o)
			b.check(b.d.Replay(&ev))
		}
		b.d.Replayed()
		b.replayed += rawNext - from
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
	b.meant = append(b.meant, b.decisions(g.RawNext)[b.rule.RawNext:]...)
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
	b.decisions(next + 1)[next] = b.ignored
	if b.d.Full() {
		b.take()
	}
}

// decisions returns decided up to a raw offset.
func (b *bench) decisions(until int64) [][]string {
	b.decided = append(b.decided, make([][]string, max(0, int(until)-len(b.decided)))...)
	return b.decided[:until]
}

func (b *bench) take() {
	if g := b.d.Take(); g != nil {
		b.flying = append(b.flying, g)
	}
}

// crash ends the term: of the groups in flight some made it into the log, and the others are gone. back says that the other node takes
// over: the one before this one, for which raw may go on before the offset that it had reached.
func (b *bench) crash(back bool) {
	b.crashed = true
	b.take()
	for n := b.rng.IntN(len(b.flying) + 1); n > 0; n-- {
		b.land(b.rng.IntN(2) == 0)
	}
	b.flying = nil
	how := b.rng.IntN(5)
	if back {
		how = 2
	}
	switch how {
	case 0: // the process is killed: what was not yet written is gone
		fs := b.fs.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: b.rng.IntN(101), RNG: b.rng})
		b.check(b.st.Abandon())
		b.fs = fs
		b.open()
		b.boot()
	case 1: // an orderly stop
		b.stop()
		b.open()
		b.boot()
	case 2: // the other node takes over
		b.stop()
		b.move()
		b.open()
		b.boot()
		if b.haste == 0 && b.rng.IntN(2) == 0 {
			b.haste = 1 + b.rng.IntN(20)
		}
	case 3: // an orderly stop, and a disk that does not give back what was written
		b.stop()
		b.spoil()
		b.open()
		b.boot()
	}
	b.begin()
}

// move goes to the disk of the other node.
func (b *bench) move() {
	b.fs, b.away = b.away, b.fs
	b.decided, b.afar = b.afar, b.decided
}

// stop ends a process in good order.
func (b *bench) stop() {
	b.seen(true)
	b.check(b.st.Close())
}

// seen stores what open runs have seen, if it is time to.
func (b *bench) seen(last bool) {
	if c := b.d.Checkpoint(last); c != nil {
		b.check(b.st.SaveSeen(c))
	}
}

// spoil damages the rows of the checkpoint: bytes that differ, rows that are cut, that are gone, that lie under the key of another run.
func (b *bench) spoil() {
	var last []byte
	b.spoilWith(func(v []byte) []byte {
		switch b.rng.IntN(5) {
		case 0:
			v[b.rng.IntN(len(v))] ^= 1 << b.rng.IntN(8)
		case 1:
			v = v[:b.rng.IntN(len(v))]
		case 2:
			v, last = last, v
		case 3:
			v = nil
		}
		return v
	})
}

// spoilWith changes the rows of the checkpoint in a way that Pebble does not notice; nil removes one.
func (b *bench) spoilWith(change func([]byte) []byte) {
	db, err := pebble.Open(b.fs.PathJoin("p1", "meta"), &pebble.Options{FS: b.fs, FormatMajorVersion: pebble.FormatNewest, Logger: quiet{}})
	b.check(err)
	it, err := db.NewIter(&pebble.IterOptions{LowerBound: []byte{'K'}, UpperBound: []byte{'L'}})
	b.check(err)
	for it.First(); it.Valid(); it.Next() {
		if v := change(slices.Clone(it.Value())); v != nil {
			b.check(db.Set(it.Key(), v, pebble.Sync))
		} else {
			b.check(db.Delete(it.Key(), pebble.Sync))
		}
	}
	b.check(it.Close())
	b.check(db.Close())
}

type quiet struct{}

func (quiet) Infof(string, ...any)  {}
func (quiet) Errorf(string, ...any) {}
func (quiet) Fatalf(format string, args ...any) {
	panic(fmt.Sprintf(format, args...))
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
	meant := append(b.meant, b.decisions(int64(len(b.raw)))[b.rule.RawNext:]...) // what came last left no trace
	m := model.New(1, 4)
	for i := range b.raw {
		m.Ignore = meant[i]
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
		"a checkpoint of another run":    {SeenOfAnyRun: true},
		"a checkpoint before its groups": {SeenEarly: true, SeenTooNew: true},
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
		if b.haste > 0 {
			if b.haste--; b.haste == 0 {
				b.crash(true)
			}
		}
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
		case p < 88:
			b.take()
		case p < 90:
			b.seen(false)
		case p < 97:
			if b.d.Sweeping() && !b.d.Full() {
				b.check(b.d.Sweep())
			}
		case p < 99:
			if b.d.Idle() {
				b.check(b.st.SaveProgress(store.Progress{NextCSN: b.d.NextCSN(), RawNext: b.d.RawNext()}))
			}
		default:
			b.crash(false)
		}
	}
	b.raw = append(b.raw, w.Settle()...)
	b.drain()
	_, _, err = b.verify()
	return err
}
