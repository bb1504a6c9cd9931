package decide

import (
	"cmp"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"github.com/RoaringBitmap/roaring/v2/roaring64"

	"github.com/tidemark-dev/tidemark/processor/detect"
	"github.com/tidemark-dev/tidemark/processor/hot"
	"github.com/tidemark-dev/tidemark/processor/store"
	"github.com/tidemark-dev/tidemark/schemas/errcode"
	"github.com/tidemark-dev/tidemark/schemas/event"
	"github.com/tidemark-dev/tidemark/schemas/rulev"
	"github.com/tidemark-dev/tidemark/schemas/stream"
)

// State is the committed state of the partition. *store.Store is one.
type State interface {
	Get(sid uint32, id []byte) (store.Version, bool, error)
	Scan(sid uint32, fn func(id []byte, v *store.Version) error) error
	Stream(key string) (*store.Stream, bool)
	Streams(filter stream.ID) []*store.Stream
	Payload(sid uint32, csn uint64) ([]byte, bool, error)
	Versions(sid uint32, csns []uint64, fn func(*store.Row) error) error
	Live(sid uint32, limit uint64) *roaring64.Bitmap
	ShapeNames(sid, shape uint32) []string
	Seen() ([]*store.Seen, error)
	CSNBefore(ts int64) uint64
	Floor() uint64
	NextSID() uint32
	LastTS() int64
	Applied() rulev.State
}

// Before says whether UPDATED events carry the record as it was.
type Before string

// Values of Before.
const (
	BeforeNone Before = "none"
	BeforeFull Before = "full"
)

// Model are the options of one model.
type Model struct {
	Ignore         []string // JSON Pointers of members that make no change
	Before         Before   // default BeforeNone
	NoChanged      bool     // do not work out the names of changed members
	NoRestore      bool     // an unchanged save of a pruned record does not bring its payload back
	MaxDeleteRatio float64  // default Config.MaxDeleteRatio
}

// Config of a Decider. Zero values get the defaults that their comments give.
type Config struct {
	Partition  int32
	Partitions int32
	Model      func(stream.ID) Model // default: all defaults
	Now        func() time.Time      // default time.Now
	Logger     *slog.Logger
	Budget     *hot.Budget // of the hot entries; default 64 MiB of its own

	GroupRecords   int           // 1,000; a group ends after so many records
	GroupBytes     int           // 900 KiB; or so many bytes
	RecordBytesMax int           // 1 MiB; of one payload
	SweepRecords   int           // 500; deletions a chunk
	ScanMax        uint64        // 1,000,000; streams above this are cached record by record, not by a scan of R
	RunWindowsMax  int           // 4; open runs a stream
	RunTimeout     time.Duration // 25 h; a run that lasts longer is interrupted
	HeldTimeout    time.Duration // 7 d; a held deletion that nobody decides is discarded
	MaxDeleteRatio float64       // 0.5
	DeleteFree     uint64        // 1,000; deletions up to this many pass the ratio guard
	SeenEvery      int64         // 100,000; raw events after which what open runs have seen is checkpointed; negative: never
	PruneAfter     time.Duration // 30 d; 0 keeps the default, negative switches it off
	PurgeAfter     time.Duration // 60 d without a run; likewise

	Breaks Breaks
}

// Breaks switch single rules off, for tests that prove that the checkers notice. The zero value is the product.
type Breaks struct {
	NoPendingDelete bool // a save does not see that its record is about to be swept
	NoOrdinalGuard  bool // guard 1
	NoReplayStart   bool // mark-only replay takes events from before the run's start
	NoReplay        bool // no mark-only replay after a takeover
	NoCacheReplace  bool // an applied change does not replace its hot entry
	SeenTooNew      bool // a checkpoint beyond the raw events that are decided is used
	SeenOfAnyRun    bool // a checkpoint of another run of the stream is used
	SeenEarly       bool // a checkpoint is stored before its groups are known to be valid
	NoRehash        bool // a version from before a change of the options is compared by the hash that it has
	HashAlone       bool // it is hashed again only if the hash that it has differs
}

func (c *Config) defaults() {
	def := func(v *int, d int) {
		if *v == 0 {
			*v = d
		}
	}
	dur := func(v *time.Duration, d time.Duration) {
		if *v == 0 {
			*v = d
		}
	}
	def(&c.GroupRecords, 1000)
	def(&c.GroupBytes, 900<<10)
	def(&c.RecordBytesMax, 1<<20)
	def(&c.SweepRecords, 500)
	def(&c.RunWindowsMax, 4)
	dur(&c.RunTimeout, 25*time.Hour)
	dur(&c.HeldTimeout, 7*24*time.Hour)
	dur(&c.PruneAfter, 30*24*time.Hour)
	dur(&c.PurgeAfter, 60*24*time.Hour)
	if c.SeenEvery == 0 {
		c.SeenEvery = seenEvery
	}
	if c.ScanMax == 0 {
		c.ScanMax = 1_000_000
	}
	if c.MaxDeleteRatio == 0 {
		c.MaxDeleteRatio = 0.5
	}
	if c.DeleteFree == 0 {
		c.DeleteFree = 1000
	}
	if c.Model == nil {
		c.Model = func(stream.ID) Model { return Model{} }
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	if c.Budget == nil {
		c.Budget = hot.NewBudget(64 << 20)
	}
	if c.Partitions == 0 {
		c.Partitions = 1
	}
}

// Event is one record of the raw topic. Its slices may be reused once the call that takes it has returned.
type Event struct {
	Offset  int64
	TS      int64 // of the raw topic, ms
	Key     []byte
	Value   []byte
	Headers []event.Header
}

// Counters are what became of raw events that left no trace in the log. They only rise.
type Counters struct {
	Events, Unchanged, Stale, Skipped, NotFound, Repeated uint64
}

// ErrBarrier says that an event can be decided only once everything before it is applied: take the group, wait, and give the event
// again.
var ErrBarrier = errors.New("waiting for the groups in flight")

// Decider decides for one partition. Not safe for concurrent use.
type Decider struct {
	cfg   Config
	state State

	term     uint64
	nonce    uint32
	nextCSN  uint64
	lastTS   int64
	rawNext  int64
	nextSID  uint32
	newestMS int64 // newest time of the raw topic seen: the second clock of retention
	eventMS  int64 // time of the event being decided

	tips      map[string]*tip
	last      *tip
	detectors map[string]*detect.Detector
	group     *Group
	expect    int               // records of the last group: the next one will be about as large
	inFlight  int               // groups taken and not yet applied
	floor     uint64            // of the state
	applied   uint64            // csn up to which hot entries follow the log without a hole
	windowed  map[*tip]struct{} // tips that have windows, or had
	sweeps    []*window         // in the order in which they were decided
	resumed   bool              // what the sweeps have left to do is known
	uses      uint64
	pressed   uint64 // see yield

	rawTopic   [16]byte
	seenNext   int64             // raw offset at which the next checkpoint is due
	seenReady  *store.Checkpoint // its groups are applied: it can be stored
	seenStored bool              // the state may hold one
	torn       bool              // windows do not say what the raw events below rawNext do: a replay is not done, or a decision broke off

	raw      event.Raw
	counters Counters
	entry    hot.Entry
	nextTick time.Time
}

// New returns a Decider; Begin makes it ready.
func New(cfg Config, state State) *Decider {
	cfg.defaults()
	return &Decider{cfg: cfg, state: state, tips: map[string]*tip{}, windowed: map[*tip]struct{}{}, detectors: map[string]*detect.Detector{}}
}

// Begin starts a term: everything that the log holds has been applied to the state, and the decider goes on after it. What was in
// flight is forgotten; hot entries are kept if nobody else wrote meanwhile. rawTopic is the id of the raw topic; without one there are no
// checkpoints. It returns the raw offset from which Replay must be given the events below rawNext, and then Replayed be called, or -1 if no
// replay is needed.
func (d *Decider) Begin(term uint64, nonce uint32, rawNext int64, rawTopic [16]byte) (replayFrom int64, err error) {
	st := d.state.Applied()
	keep := d.applied == st.NextCSN-1
	for key, t := range d.tips {
		if !keep {
			t.table.Drop()
			delete(d.tips, key)
			continue
		}
		if t.s.ClearedCSN > d.applied { // a clear was in flight, and may not have made it
			t.table.Drop()
		}
	}
	d.term, d.nonce, d.rawNext, d.rawTopic = term, nonce, rawNext, rawTopic
	d.nextCSN, d.applied = st.NextCSN, st.NextCSN-1
	d.lastTS, d.nextSID = d.state.LastTS(), d.state.NextSID()
	d.group, d.inFlight, d.last, d.sweeps, d.floor = nil, 0, nil, nil, d.state.Floor()
	for key, t := range d.tips {
		s, ok := d.state.Stream(key)
		if !ok {
			t.table.Drop()
			delete(d.tips, key)
			continue
		}
		t.reset(s)
	}
	clear(d.windowed)
	d.torn = true
	for _, s := range d.state.Streams(stream.ID{}) {
		for _, run := range s.Runs {
			if run.Status != store.RunRunning && !run.Open() {
				continue
			}
			t := d.tipFor(s.Key.Stream, s)
			w := newWindow(t, run)
			d.openWindow(t, w)
			if run.Status == store.RunSweeping {
				d.sweeps = append(d.sweeps, w)
			}
		}
	}
	if err := d.recall(); err != nil {
		return -1, err
	}
	slices.SortStableFunc(d.sweeps, func(a, b *window) int { return cmp.Compare(a.run().RawEnd, b.run().RawEnd) })
	d.resumed = len(d.sweeps) == 0
	replayFrom = d.replayFrom()
	d.torn = replayFrom >= 0
	d.seenNext = rawNext + d.cfg.SeenEvery
	if replayFrom >= 0 {
		d.seenNext = replayFrom + d.cfg.SeenEvery
	}
	return replayFrom, nil
}

// Lost says that the raw events below offset could not be replayed: runs that started before it cannot delete anything.
func (d *Decider) Lost(below int64) {
	for _, t := range d.tips {
		for _, w := range t.windows {
			if run := w.run(); run != nil && run.Seq != 0 && w.from < below {
				w.lost = true
			}
		}
	}
}

// RawNext is the offset of the next raw event to decide.
func (d *Decider) RawNext() int64 { return d.rawNext }

// NextCSN is the csn of the next record.
func (d *Decider) NextCSN() uint64 { return d.nextCSN }

// Counters returns the counters.
func (d *Decider) Counters() Counters { return d.counters }

// Idle reports whether nothing is decided that is not applied.
func (d *Decider) Idle() bool {
	return d.inFlight == 0 && (d.group == nil || len(d.group.Records) == 0)
}

// Full reports whether the group should go out before more is decided.
func (d *Decider) Full() bool {
	g := d.group
	return g != nil && (len(g.Records) >= d.cfg.GroupRecords || g.Bytes >= d.cfg.GroupBytes)
}

// Pending reports whether there is something to take.
func (d *Decider) Pending() bool { return d.group != nil && len(d.group.Records) > 0 }

// Take returns the group decided so far, complete with its commit, or nil. The caller must write it, and then either call Applied
// with it or begin a new term.
func (d *Decider) Take() *Group {
	if !d.Pending() {
		return nil
	}
	g := d.group
	d.group = nil
	d.expect = len(g.Records)
	g.RawNext = d.rawNext
	m := &g.Records[len(g.Records)-1].Meta
	m.Commit, m.N, m.RawNext = true, uint64(len(g.Records)), d.rawNext
	if d.seenDue() {
		g.seen = d.takeSeen()
		if d.cfg.Breaks.SeenEarly {
			d.seenReady, g.seen = g.seen, nil
		}
	}
	d.inFlight++
	return g
}

// Applied says that g has been read back, found valid, and applied to the state. Groups must come in order.
func (d *Decider) Applied(g *Group) {
	d.inFlight = max(0, d.inFlight-1)
	if g.FirstCSN() == d.applied+1 {
		d.applied = g.LastCSN()
	}
	d.floor = d.state.Floor()
	for _, v := range g.versions {
		v.settle(!d.cfg.Breaks.NoCacheReplace)
	}
	g.versions = nil
	if g.seen != nil {
		d.seenReady, g.seen = g.seen, nil
	}
}

// Decide takes the next raw event. An event below RawNext is ignored. ErrBarrier means: not now. Any other error is of the state and
// ends the term.
func (d *Decider) Decide(ev *Event) error {
	if ev.Offset < d.rawNext {
		return nil
	}
	if err := d.decide(ev); err != nil {
		d.torn = !errors.Is(err, ErrBarrier)
		return err
	}
	d.rawNext = ev.Offset + 1
	return nil
}

func (d *Decider) decide(ev *Event) error {
	if !d.resumed {
		d.resumeSweeps()
	}
	d.counters.Events++
	d.newestMS, d.eventMS = max(d.newestMS, ev.TS), ev.TS
	r := &d.raw
	perr := event.ParseRaw(ev.Headers, ev.Value, r)
	t, kerr := d.tip(ev.Key)
	if kerr != nil {
		return d.deadLetter(nil, ev, 0, kerr)
	}
	if t.misplaced {
		return d.deadLetter(nil, ev, 0, &event.RawError{Code: errcode.RawWrongPartition, Detail: fmt.Sprintf(
			"the stream belongs into partition %d of %d, the event is in %d",
			stream.Partition(ev.Key, d.cfg.Partitions), d.cfg.Partitions, d.cfg.Partition)})
	}
	if perr != nil {
		return d.deadLetter(t, ev, r.Run, perr)
	}
	w, ok := t.admit(r)
	if !ok {
		d.counters.Stale++
		return nil
	}
	switch r.Type {
	case event.RawSave, event.RawUpdate, event.RawDelete:
		return d.record(t, w, ev, r)
	case event.RawRunStarted:
		return d.runStarted(t, ev, r)
	case event.RawRunCompleted:
		return d.runCompleted(t, ev, r)
	case event.RawRunFailed:
		return d.runFailed(t, ev, r)
	case event.RawCheckpoint:
		return d.checkpoint(t, w, ev, r)
	case event.RawClear:
		return d.clear(t, ev, r)
	case event.RawPrune:
		return d.prune(t, ev, r)
	case event.RawDecision:
		return d.decision(t, ev, r)
	}
	return nil
}

// ts is the time of the next record: the clock, but never falling.
func (d *Decider) ts() int64 {
	d.lastTS = max(d.lastTS, d.cfg.Now().UnixMilli())
	return d.lastTS
}

// open returns the group being built.
func (d *Decider) open() *Group {
	if d.group == nil {
		d.group = newGroup(d.expect)
	}
	return d.group
}

// meta starts the meta of the next record of t; t may be nil for records about the partition.
func (d *Decider) meta(t *tip, rawOffset int64, run uint64) event.Meta {
	m := event.Meta{
		Term: d.term, Nonce: d.nonce, CSN: d.nextCSN, GI: uint64(len(d.open().Records)), RawOffset: rawOffset, TS: d.ts(), Run: run,
	}
	if t != nil {
		if t.s.SID == 0 {
			t.s.SID = d.nextSID
			d.nextSID++
		}
		m.SID = t.s.SID
	}
	return m
}

// control adds a control record and applies it to the tip.
func (d *Decider) control(t *tip, rawOffset int64, run uint64, c *event.Control) {
	m := d.meta(t, rawOffset, run)
	c.Partition, c.TSMillis, c.Run = d.cfg.Partition, m.TS, run
	rec := store.Record{Op: c.Op, Meta: m, Control: c}
	if t != nil {
		c.Stream = &t.s.Stream
		rec.Stream, rec.Key = t.s.Key.Stream, t.s.Key
	}
	d.add(t, rec, Extra{})
}

const recordOverhead = 512 // estimate of key, headers and envelope in bytes

func (d *Decider) add(t *tip, rec store.Record, x Extra) {
	g := d.open()
	if rec.Meta.RawOffset >= 0 {
		x.ReceivedMS = d.eventMS
	}
	g.Records = append(g.Records, rec)
	g.Extra = append(g.Extra, x)
	g.Bytes += recordOverhead + len(rec.Payload) + len(x.Before)
	if rec.Control != nil {
		g.Bytes += len(rec.Control.State)
	}
	d.nextCSN++
	if t != nil {
		t.s.Apply(&g.Records[len(g.Records)-1])
	}
}

// deadLetter takes an event that cannot be applied: its copy goes to the dead-letter topic, and a control record accounts for it in
// the same group. The partition goes on.
func (d *Decider) deadLetter(t *tip, ev *Event, run uint64, cause error) error {
	var re *event.RawError
	if !errors.As(cause, &re) {
		return cause
	}
	offset := ev.Offset
	c := &event.Control{Op: event.OpDeadLettered, Reason: string(re.Code), Detail: re.Detail, RawOffset: &offset}
	if t != nil {
		c.RecordID = string(d.raw.ID)
		if err := stream.CheckID(d.raw.ID); err != nil {
			c.RecordID = ""
		}
	}
	d.control(t, ev.Offset, run, c)
	g := d.open()
	headers := make([]event.Header, len(ev.Headers))
	for i, h := range ev.Headers {
		headers[i] = event.Header{Key: g.keep(h.Key), Value: g.keep(h.Value)}
	}
	g.Dead = append(g.Dead, DeadLetter{
		Offset: ev.Offset, Key: g.keep(ev.Key), Value: g.keep(ev.Value), Headers: headers, Code: re.Code, Detail: re.Detail,
	})
	g.Bytes += len(ev.Value)
	return nil
}

// Gap says that raw events below the offset at which the term begins were lost to retention before they were decided. It is written
// down, and no run that was open then may delete.
func (d *Decider) Gap(rawNext int64) {
	from := d.state.Applied().RawNext
	d.Lost(rawNext)
	d.control(nil, -1, 0, &event.Control{Op: event.OpGap, RawOffset: &from, RawUntil: rawNext})
}

// Close gives the memory of the hot entries back. The decider must not be used afterwards.
func (d *Decider) Close() {
	for key, t := range d.tips {
		t.table.Drop()
		delete(d.tips, key)
	}
}
