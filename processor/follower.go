package processor

import (
	"bytes"
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/tidemark-dev/tidemark/processor/batch"
	"github.com/tidemark-dev/tidemark/processor/decide"
	"github.com/tidemark-dev/tidemark/processor/detect"
	"github.com/tidemark-dev/tidemark/processor/store"
	"github.com/tidemark-dev/tidemark/schemas/event"
	"github.com/tidemark-dev/tidemark/schemas/rulev"
	"github.com/tidemark-dev/tidemark/schemas/stream"
)

// follower reads the changes of one partition, keeps what rule V finds valid, and applies it to the store. Its owner is told what was
// applied. Everything but run is safe for concurrent use.
type follower struct {
	cfg       *Config
	log       Log
	store     *store.Store
	reader    Reader
	rule      *rulev.Reader[*store.Record]
	models    map[string]*detect.Detector // by stream, as the log says; nil: field hashes are not wanted
	detectors map[string]*detect.Detector // by model and options
	held      []*batch.Records            // batches whose records wait for the end of their group
	apply     store.Group

	mu       sync.Mutex
	changed  chan struct{} // closed and replaced whenever something below changes
	state    rulev.State   // after the last record read, terms included
	applied  rulev.State   // after the last group applied
	position int64
	end      int64
	caughtUp bool
	started  int64     // end of the log when the follower started; caught up from there on
	flights  []*flight // groups of our own writer, in order, not yet read back
	landed   []*flight // read back, found valid, applied

	counts followCounts
}

// followCounts only rise.
type followCounts struct {
	valid, zombie, lateTerms, groups, ownGroups atomic.Uint64
}

// flight is a group on its way: from our writer through the log back to us.
type flight struct {
	group    *decide.Group
	term     uint64
	nonce    uint32
	produced []byte
}

func newFollower(cfg *Config, log Log, st *store.Store, partition int32) *follower {
	resume := st.Resume()
	from := resume.Offset
	if from < 0 {
		from = 0
	}
	f := &follower{
		cfg: cfg, log: log, store: st, models: map[string]*detect.Detector{}, detectors: map[string]*detect.Detector{}, changed: make(chan struct{}),
		rule: rulev.NewReader[*store.Record](resume.State), state: resume.State, applied: resume.State, position: from, started: -1,
	}
	f.rule.Break(cfg.Breaks.Rule)
	f.reader = log.Reader(cfg.Names.Changes, partition, from)
	return f
}

// run follows until ctx ends or the log cannot be followed. A *rulev.HaltError is final for the partition.
func (f *follower) run(ctx context.Context) error {
	defer f.reader.Close()
	defer f.release()
	flushed := time.Now()
	for {
		batches, err := f.reader.Next(ctx)
		if err != nil {
			return fmt.Errorf("following changes: %w", err)
		}
		for i := range batches {
			if err := f.batch(&batches[i]); err != nil {
				return err
			}
		}
		f.update(func() {
			f.state = f.rule.State()
			f.position, f.end = f.reader.Position(), f.reader.EndOffset()
			if f.started < 0 {
				f.started = f.end
			}
			f.caughtUp = f.caughtUp || f.position >= f.started
		})
		if time.Since(flushed) >= f.cfg.FlushEvery {
			if err := f.store.FlushPayloads(); err != nil {
				return err
			}
			flushed = time.Now()
		}
	}
}

func (f *follower) update(fn func()) {
	f.mu.Lock()
	fn()
	close(f.changed)
	f.changed = make(chan struct{})
	f.mu.Unlock()
}

// await waits until ok holds, which is called with mu held.
func (f *follower) await(ctx context.Context, ok func() bool) error {
	for {
		f.mu.Lock()
		done, changed := ok(), f.changed
		f.mu.Unlock()
		if done {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// launch tells the follower of a group that is about to be written. Its records will be recognised when they come back.
func (f *follower) launch(fl *flight) {
	f.mu.Lock()
	f.flights = append(f.flights, fl)
	f.mu.Unlock()
}

func (f *follower) sent(fl *flight, produced []byte) {
	f.mu.Lock()
	fl.produced = produced
	f.mu.Unlock()
}

// ground forgets the groups in flight, when their writer has ended.
func (f *follower) ground() {
	f.mu.Lock()
	f.flights = nil
	f.mu.Unlock()
}

// arrivals returns the groups that were applied since the last call.
func (f *follower) arrivals() []*flight {
	f.mu.Lock()
	defer f.mu.Unlock()
	l := f.landed
	f.landed = nil
	return l
}

// batch takes one batch off the log. A batch that is byte for byte what our writer produced holds the group that is in memory, so
// that it need not be decoded; rule V decides about it all the same.
func (f *follower) batch(b *batch.Batch) error {
	if fl := f.recognise(b); fl != nil {
		for i := range fl.group.Records {
			rec := &fl.group.Records[i]
			rec.Offset = b.Base + int64(i)
			if err := f.take(rec); err != nil {
				return err
			}
		}
		return nil
	}
	own := *b
	if b.Codec() == batch.None {
		// Records of an uncompressed batch alias the fetch buffer, which the next fetch reuses.
		own.Raw = bytes.Clone(b.Raw)
	}
	recs, err := batch.Decode(&own, f.cfg.BatchBytesMax)
	if err != nil {
		return fmt.Errorf("decoding changes at offset %d: %w", b.Base, err)
	}
	f.held = append(f.held, recs)
	from := f.positionNow()
	out := make([]store.Record, 0, b.Count)
	var r batch.Record
	for {
		ok, err := recs.Next(&r)
		if err != nil {
			return fmt.Errorf("decoding changes at offset %d: %w", b.Base, err)
		}
		if !ok {
			break
		}
		if r.Offset < from {
			continue
		}
		out = append(out, store.Record{Offset: r.Offset})
		rec := &out[len(out)-1]
		if err := f.decode(&r, rec); err != nil {
			// Nobody of ours writes such a record, and whether it counts cannot be told: going on would be a guess.
			st := f.rule.State()
			return &rulev.HaltError{Want: st.NextCSN, Term: st.Term, Reason: fmt.Sprintf("the record at offset %d cannot be read (%v)", r.Offset, err)}
		}
		if err := f.take(rec); err != nil {
			return err
		}
	}
	if f.rule.Pending() == 0 {
		f.release()
	}
	return nil
}

func (f *follower) positionNow() int64 {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.position
}

func (f *follower) release() {
	for _, r := range f.held {
		r.Release()
	}
	clear(f.held)
	f.held = f.held[:0]
}

// recognise returns the flight whose bytes the batch has.
func (f *follower) recognise(b *batch.Batch) *flight {
	if f.cfg.Breaks.NoIdentity {
		return nil
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if b.Base < f.position || len(f.flights) == 0 {
		return nil
	}
	fl := f.flights[0]
	if fl.produced == nil || !batch.SameContent(b.Raw, fl.produced) {
		return nil
	}
	return fl
}

// decode fills rec from a record of the log.
func (f *follower) decode(r *batch.Record, rec *store.Record) error {
	op, err := event.ParseRecord(r.Headers, &rec.Meta)
	if err != nil {
		return err
	}
	rec.Op = op
	if !op.IsChange() && op != event.OpRestored {
		if rec.Control, err = event.ParseControl(r.Value); err != nil {
			return err
		}
		if rec.Meta.SID != 0 {
			rec.Stream = string(r.Key)
		}
		return nil
	}
	id := r.Key
	if rec.Stream, rec.ID, err = splitKey(id); err != nil {
		return err
	}
	if rec.Payload, err = event.Payload(r.Value, &rec.Meta); err != nil {
		return err
	}
	return nil
}

func splitKey(key []byte) (streamKey string, id []byte, err error) {
	s, i, err := stream.SplitRecordKey(string(key))
	return s, []byte(i), err
}

// detect does to the records of a valid group what the writer did to their payloads: it works the hashes of bytes and fields out. A group
// that was recognised has them. It must be done record by record, for what the fields are changes with the options that the log names.
func (f *follower) detect(group []*store.Record) error {
	if len(f.models) >= modelsMax {
		clear(f.models)
	}
	for _, rec := range group {
		switch {
		case rec.Op == event.OpModelOptions && rec.Control != nil:
			if err := f.setModel(rec.Stream, rec.Control.Fingerprint, rec.Control.Ignored); err != nil {
				return err
			}
		case rec.Raw == 0 && rec.Op != event.OpDeleted && (rec.Op.IsChange() || rec.Op == event.OpRestored):
			rec.Raw = detect.Raw64(rec.Payload)
			if err := f.fields(rec); err != nil {
				return fmt.Errorf("csn %d: %w", rec.Meta.CSN, err)
			}
		}
	}
	return nil
}

// setModel notes the options by which the records of a stream are compared from now on. Whether fields are hashed at all is not in the
// log: that is the affair of each node.
func (f *follower) setModel(key string, fingerprint uint32, ignored []string) error {
	id, err := stream.ParseKey(key)
	if err != nil {
		return err
	}
	var det *detect.Detector
	if told := fingerprint == 0 || len(ignored) > 0; told && !f.cfg.model(id).NoChanged {
		options := fmt.Sprintf("%s %q", id.Model, ignored)
		if det = f.detectors[options]; det == nil {
			if det, err = detect.New(detect.Options{Ignore: ignored}); err != nil {
				return fmt.Errorf("options of model %s: %w", id.Model, err)
			}
			f.detectors[options] = det
		}
	}
	f.models[key] = det
	return nil
}

// fields works out the field hashes as the writer did.
func (f *follower) fields(rec *store.Record) error {
	if _, ok := f.models[rec.Stream]; !ok {
		fingerprint, ignored := f.store.Options(rec.Stream)
		if err := f.setModel(rec.Stream, fingerprint, ignored); err != nil {
			return err
		}
	}
	det := f.models[rec.Stream]
	if det == nil {
		return nil
	}
	res, err := det.Scan(rec.Payload)
	if err != nil {
		return fmt.Errorf("payload: %w", err)
	}
	if len(res.Fields) == 0 || len(res.Fields) > decide.FieldsMax {
		return nil
	}
	rec.Shape = res.Shape
	rec.Fields = append(make([]uint32, 0, len(res.Fields)), res.Fields...)
	if !f.store.KnowsShape(rec.Meta.SID, res.Shape) {
		rec.Names = make([]string, len(res.Names))
		for i, n := range res.Names {
			rec.Names[i] = string(n)
		}
	}
	return nil
}

// modelsMax bounds the streams of which a follower remembers how they are compared.
const modelsMax = 100_000

// take gives a record to rule V, and applies the group that it may complete.
func (f *follower) take(rec *store.Record) error {
	verdict, group, err := f.rule.Read(rec.Op, &rec.Meta, rec)
	if err != nil {
		return err
	}
	switch verdict {
	case rulev.Zombie:
		f.counts.zombie.Add(1)
	case rulev.LateTerm:
		f.counts.lateTerms.Add(1)
	case rulev.NewTerm:
		st := f.rule.State()
		f.update(func() { f.state = st })
	case rulev.Committed:
		f.counts.valid.Add(uint64(len(group)))
		f.counts.groups.Add(1)
		return f.commit(group)
	}
	return nil
}

func (f *follower) commit(group []*store.Record) error {
	st := f.rule.State()
	f.apply.Records = group
	f.apply.State, f.apply.NextOffset = st, group[len(group)-1].Offset+1
	if err := f.detect(group); err != nil {
		// Nobody of ours writes such a group, and it counts: going on would be a guess.
		return &rulev.HaltError{Want: st.NextCSN, Term: st.Term, Reason: fmt.Sprintf("the group up to csn %d cannot be read (%v)", st.NextCSN-1, err)}
	}
	if err := f.store.Apply(&f.apply); err != nil {
		return fmt.Errorf("applying group up to csn %d: %w", st.NextCSN-1, err)
	}
	pruned := false
	for _, r := range group {
		pruned = pruned || r.Op == event.OpPruned && r.Meta.SID == 0
	}
	f.update(func() {
		f.state, f.applied = st, st
		for len(f.flights) > 0 {
			fl := f.flights[0]
			if fl.term != st.Term || fl.nonce != st.Nonce || fl.group.LastCSN() > st.NextCSN-1 {
				break
			}
			f.flights = f.flights[1:]
			f.landed = append(f.landed, fl)
			f.counts.ownGroups.Add(1)
		}
	})
	if pruned {
		if _, err := f.store.Retain(); err != nil {
			return fmt.Errorf("dropping pruned payloads: %w", err)
		}
	}
	return nil
}

// progress returns what the follower knows, for readiness and metrics.
func (f *follower) progress() (applied rulev.State, position, end int64, caughtUp bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.applied, f.position, f.end, f.caughtUp
}
