package decide

import (
	"cmp"
	"fmt"
	"slices"

	"github.com/tidemark-dev/tidemark/processor/detect"
	"github.com/tidemark-dev/tidemark/processor/hot"
	"github.com/tidemark-dev/tidemark/processor/store"
	"github.com/tidemark-dev/tidemark/schemas/errcode"
	"github.com/tidemark-dev/tidemark/schemas/event"
	"github.com/tidemark-dev/tidemark/schemas/stream"
)

// tip is a stream as decided so far: the committed stream plus what is in flight.
type tip struct {
	s         *store.Stream
	model     Model
	det       *detect.Detector
	told      bool // the log names the options of model
	misplaced bool

	table      *table
	overlay    map[string]*version // changes in flight, by record id
	generation int                 // rises when everything older than the overlay is void: after a clear
	names      map[uint32][]string // of shapes met; the state may not have them: they are in flight, or in hot entries alone
	windows    []*window
	usedAt     uint64
	missed     uint64 // rows read one by one since the table was made, or loading it was last tried

	replayFence uint64 // during replay: events of runs below were dropped when they came
}

// table is the hot table of a tip, or nothing.
type table struct{ *hot.Table }

// Drop is safe on an absent table.
func (t *table) Drop() {
	if t != nil && t.Table != nil {
		t.Table.Drop()
		t.Table = nil
	}
}

// tipsMax is how many streams' tips are kept; beyond it idle ones go.
const tipsMax = 200_000

// tip returns the stream of a key. The error is a *event.RawError, or errOvertaken: the follower has already applied what another writer
// decided about the stream, and what we would decide on top of that could never be valid.
func (d *Decider) tip(key []byte) (*tip, error) {
	if d.last != nil && d.last.s.Key.Stream == string(key) {
		return d.last, nil
	}
	t := d.tips[string(key)]
	if t == nil {
		var err error
		if t, err = d.newTip(string(key)); err != nil {
			return nil, err
		}
	}
	d.uses++
	t.usedAt = d.uses
	d.last = t
	return t, nil
}

func (d *Decider) newTip(key string) (*tip, error) {
	if s, ok := d.state.Stream(key); ok {
		if s.LastCSN >= d.nextCSN {
			return nil, fmt.Errorf("%w: stream %s is at csn %d, and %d comes next", errOvertaken, key, s.LastCSN, d.nextCSN)
		}
		return d.tipFor(key, s), nil
	}
	id, err := stream.ParseKey(key)
	if err != nil {
		return nil, &event.RawError{Code: errcode.RawInvalidKey, Detail: err.Error()}
	}
	return d.tipFor(key, store.NewStream(0, id, nil)), nil
}

func (d *Decider) tipFor(key string, s *store.Stream) *tip {
	if t := d.tips[key]; t != nil {
		return t
	}
	d.forgetIdle()
	t := &tip{s: s, model: d.cfg.Model(s.Stream), overlay: map[string]*version{}}
	t.misplaced = stream.Partition(key, d.cfg.Partitions) != d.cfg.Partition
	d.tips[key] = t
	return t
}

// forgetIdle keeps the number of tips bounded. Those without anything in flight and without open runs can be made again.
func (d *Decider) forgetIdle() {
	if len(d.tips) < tipsMax {
		return
	}
	for key, t := range d.tips {
		if t != d.last && len(t.overlay) == 0 && len(t.windows) == 0 && t.usedAt+tipsMax/2 < d.uses && d.inFlight == 0 && !d.Pending() {
			t.table.Drop()
			delete(d.tips, key)
		}
	}
}

// reset puts the tip on the committed state s.
func (t *tip) reset(s *store.Stream) {
	t.s = s
	clear(t.overlay)
	t.generation++
	t.windows = nil
	t.replayFence = 0
	t.told = false
}

// detector returns the compiled options of the tip's model. It is shared by all streams of the model, for it learns what their records
// look like.
func (d *Decider) detector(t *tip) (*detect.Detector, error) {
	if t.det != nil {
		return t.det, nil
	}
	key := fmt.Sprintf("%s %q", t.s.Stream.Model, t.model.Ignore)
	det := d.detectors[key]
	if det == nil {
		var err error
		if det, err = detect.New(detect.Options{Ignore: t.model.Ignore}); err != nil {
			return nil, fmt.Errorf("options of model %s: %w", t.s.Stream.Model, err)
		}
		d.detectors[key] = det
	}
	t.det = det
	return det, nil
}

// settle moves a change that has been applied from the overlay into the hot table.
func (v *version) settle(replace bool) {
	t := v.tip
	if v.generation != t.generation {
		return
	}
	if t.overlay[v.id] == v {
		delete(t.overlay, v.id)
	}
	if t.table != nil && t.table.Table != nil && replace {
		t.table.Put(v.fp, &v.entry)
	}
}

// previous is the version that a decision starts from.
type previous struct {
	hot.Entry
	exists  bool
	live    bool
	flying  *version // it is in flight
	names   []string // of the shape; nil if unknown
	looked  bool     // false: only known to be live with the same bytes; CSN is set
	payload []byte   // if flying
}

// lookup finds the latest version of a record: overlay, then hot table, then R. With probe it may stop at the knowledge that the
// record is live and has these very bytes.
func (d *Decider) lookup(t *tip, id []byte, fp hot.Fingerprint, probe bool, raw uint64) (previous, error) {
	if len(t.overlay) > 0 {
		if v := t.overlay[string(id)]; v != nil {
			return previous{
				Entry: v.entry, exists: true, live: v.op != event.OpDeleted, flying: v, names: v.names, looked: true, payload: v.payload,
			}, nil
		}
	}
	if err := d.warm(t); err != nil {
		return previous{}, err
	}
	var r hot.Result
	if probe {
		r = t.table.Probe(fp, raw, &d.entry)
	} else {
		r = t.table.Lookup(fp, &d.entry)
	}
	switch r {
	case hot.Absent:
		return previous{looked: true}, nil
	case hot.Unchanged:
		return previous{Entry: hot.Entry{CSN: d.entry.CSN, PayloadCSN: d.entry.PayloadCSN, Raw: raw}, exists: true, live: true}, nil
	case hot.Known:
		return previous{Entry: d.entry, exists: true, live: !d.entry.Deleted, names: d.shapeNames(t, d.entry.Shape), looked: true}, nil
	}
	v, ok, err := d.state.Get(t.s.SID, id)
	if err == nil {
		err = d.missed(t)
	}
	if err != nil || !ok || v.CSN < t.s.ClearedCSN { // a clear may be in flight: what is below it is gone
		return previous{looked: true}, err
	}
	e := hot.Entry{
		CSN: v.CSN, PayloadCSN: v.PayloadCSN, FirstSeen: v.FirstSeen, Rev: v.Rev, Hash: v.Hash, Raw: v.Raw, Deleted: !v.Live(),
		Shape: v.Shape, Fields: v.Fields,
	}
	t.table.Put(fp, &e)
	return previous{Entry: e, exists: true, live: v.Live(), names: d.shapeNames(t, v.Shape), looked: true}, nil
}

// warm makes sure that the tip has a table. A stream that was read before is loaded by one scan of its rows, if that can be; otherwise
// the table takes the records one by one as they are read.
func (d *Decider) warm(t *tip) error {
	if t.table != nil && t.table.Table != nil {
		return nil
	}
	t.table = &table{hot.NewTable(d.cfg.Budget, t.s.Total == 0)}
	t.missed = 0
	if t.s.Total == 0 {
		return nil
	}
	return d.load(t)
}

// missesPerScan is the share of a stream's rows that are read one by one before memory is taken from other streams to hold all of them.
// A scan costs about a tenth of reading the same rows one by one, so that streams which take their memory from each other in turn
// cost at most about twice what reading without any memory would.
const missesPerScan = 16

// missed notes that a row was read for want of a hot entry. When that has happened often enough the stream is loaded, and the memory
// is taken from streams that were used longer ago.
func (d *Decider) missed(t *tip) error {
	if t.missed++; t.missed*missesPerScan < t.s.Total || t.table.Complete() {
		return nil
	}
	t.missed = 0
	b := d.cfg.Budget
	switch held := d.held(); {
	case t.s.Total > d.cfg.ScanMax:
		return nil
	case hot.LeanBytes(t.s.Total) > b.Max()-b.Used()+held:
		if held < d.fairShare() {
			b.Press()
		}
		return nil
	}
	t.table.Drop()
	t.table = &table{hot.NewTable(b, false)}
	d.makeRoom(t, hot.LeanBytes(t.s.Total))
	return d.load(t)
}

// held is the memory of this partition's hot entries.
func (d *Decider) held() (sum int64) {
	for _, t := range d.tips {
		if t.table != nil && t.table.Table != nil {
			sum += t.table.Bytes()
		}
	}
	return sum
}

func (d *Decider) fairShare() int64 { return d.cfg.Budget.Max() / int64(d.cfg.Partitions) }

// yield gives some memory back if another partition, with less than its share, found none.
func (d *Decider) yield() {
	pressed := d.cfg.Budget.Pressed()
	if pressed == d.pressed {
		return
	}
	d.pressed = pressed
	b := d.cfg.Budget
	if more := d.held() - d.fairShare(); more > 0 {
		d.makeRoom(nil, b.Max()-b.Used()+min(more, b.Max()/16))
	}
}

// load fills the empty table of a tip with all rows of the stream, if there is memory for them and they are not so many that the
// partition would have to wait.
func (d *Decider) load(t *tip) error {
	if t.s.Total > d.cfg.ScanMax || !t.table.Reserve(t.s.Total) {
		return nil
	}
	err := d.state.Scan(t.s.SID, func(id []byte, v *store.Version) error {
		if v.CSN < t.s.ClearedCSN {
			return nil
		}
		t.table.Put(hot.FingerprintOf(id), &hot.Entry{
			CSN: v.CSN, PayloadCSN: v.PayloadCSN, FirstSeen: v.FirstSeen, Rev: v.Rev, Hash: v.Hash, Raw: v.Raw, Deleted: !v.Live(),
			Shape: v.Shape, Fields: v.Fields,
		})
		return nil
	})
	if err != nil {
		return err
	}
	// What is in flight is not in R yet. The overlay has it, and gives it to the table before it lets go.
	t.table.SetComplete()
	return nil
}

// makeRoom takes memory from the streams of the partition until need bytes are free, from those first that were used longest ago:
// their entries become lean, and when all are lean, they go.
func (d *Decider) makeRoom(except *tip, need int64) {
	var others []*tip
	for _, t := range d.tips {
		if t != except && t.table != nil && t.table.Table != nil {
			others = append(others, t)
		}
	}
	slices.SortFunc(others, func(a, b *tip) int { return cmp.Compare(a.usedAt, b.usedAt) })
	for _, free := range []func(*table){(*table).MakeLean, (*table).Drop} {
		for _, t := range others {
			if b := d.cfg.Budget; b.Max()-b.Used() >= need {
				return
			}
			free(t.table)
		}
	}
}

// shapeNames returns the member names of a shape, or nil if they are not known.
func (d *Decider) shapeNames(t *tip, shape uint32) []string {
	if shape == 0 {
		return nil
	}
	if names := t.names[shape]; names != nil {
		return names
	}
	names := d.state.ShapeNames(t.s.SID, shape)
	if names != nil {
		t.remember(shape, names)
	}
	return names
}

const shapesMax = 4096 // a stream; beyond it, changed members are not named

// remember keeps the names of a shape with the tip; false if there are too many.
func (t *tip) remember(shape uint32, names []string) bool {
	if len(t.names) >= shapesMax {
		return false
	}
	if t.names == nil {
		t.names = map[uint32][]string{}
	}
	t.names[shape] = names
	return true
}
