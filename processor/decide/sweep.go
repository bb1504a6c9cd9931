package decide

import (
	"github.com/tidemark-dev/tidemark/processor/detect"
	"github.com/tidemark-dev/tidemark/processor/hot"
	"github.com/tidemark-dev/tidemark/processor/store"
	"github.com/tidemark-dev/tidemark/schemas/event"
	"github.com/tidemark-dev/tidemark/schemas/stream"
)

// Sweeping reports whether deletions are waiting to be written.
func (d *Decider) Sweeping() bool { return len(d.sweeps) > 0 }

// Sweep adds the next chunk of background deletions to the group. Sweeps go one after the other, oldest first, between raw events;
// the records that they will delete count as deleted already (sweepsAny), so that nothing waits for them.
func (d *Decider) Sweep() error {
	if len(d.sweeps) == 0 {
		return nil
	}
	if !d.resumed {
		d.resumeSweeps()
	}
	w := d.sweeps[0]
	t := w.tip
	csns := make([]uint64, 0, d.cfg.SweepRecords)
	it := w.cand.Iterator()
	for it.HasNext() && len(csns) < d.cfg.SweepRecords {
		csns = append(csns, it.Next())
	}
	err := d.state.Versions(t.s.SID, csns, func(row *store.Row) error {
		if d.Full() {
			return nil // the rest stays for the next chunk
		}
		w.cand.Remove(row.CSN)
		if row.Op == event.OpUnknown {
			return nil // it has changed since, and is no longer the record's latest version
		}
		id := append([]byte(nil), row.ID...)
		fp := hot.FingerprintOf(id)
		prev, err := d.lookup(t, id, fp, false, 0)
		if err != nil {
			return err
		}
		if !prev.live || prev.CSN != row.CSN {
			return nil
		}
		prev.payload = row.Payload
		return d.emitDelete(t, -1, w.seq, id, fp, prev, nil)
	})
	if err != nil {
		return err
	}
	if w.cand.IsEmpty() {
		d.control(t, -1, w.seq, &event.Control{Op: event.OpSwept, UntilCSN: w.start, Records: w.run().Swept})
		t.closeWindow(w)
		d.dropSweep(w)
	}
	return nil
}

func (d *Decider) dropSweep(w *window) {
	for i, x := range d.sweeps {
		if x == w {
			d.sweeps = append(d.sweeps[:i:i], d.sweeps[i+1:]...)
			return
		}
	}
}

// sweepsAny reports whether a version is about to be deleted by a sweep. It then counts as deleted.
func (t *tip) sweepsAny(prev *previous, d *Decider) bool {
	return t.sweeper(prev, d) != nil
}

func (t *tip) sweeper(prev *previous, d *Decider) *window {
	if !prev.live || prev.flying != nil || d.cfg.Breaks.NoPendingDelete || len(d.sweeps) == 0 {
		return nil
	}
	for _, w := range t.windows {
		if w.cand != nil && w.cand.Contains(prev.CSN) {
			return w
		}
	}
	return nil
}

// sweepFirst writes the deletion that a sweep owes a record before the record is written again: DELETED and ADDED, in this order.
func (d *Decider) sweepFirst(t *tip, id []byte, fp hot.Fingerprint, prev previous) (previous, error) {
	w := t.sweeper(&prev, d)
	if w == nil {
		return prev, nil
	}
	if err := d.emitDelete(t, -1, w.seq, id, fp, prev, nil); err != nil {
		return prev, err
	}
	w.cand.Remove(prev.CSN)
	return d.lookup(t, id, fp, false, 0)
}

// Replay marks, after a takeover, what a raw event below RawNext meant for the runs that are still open. It depends on the committed
// state alone: if the record still has the version that it had, the event left it unchanged, and it was seen. Replaying twice, or
// more than needed, changes nothing.
func (d *Decider) Replay(ev *Event) error {
	r := &d.raw
	if ev.Offset >= d.rawNext || event.ParseRaw(ev.Headers, ev.Value, r) != nil {
		return nil
	}
	t := d.tips[string(ev.Key)]
	if t == nil || len(t.windows) == 0 || t.misplaced {
		return nil
	}
	if r.Type == event.RawRunStarted {
		// Only the event that began the run shut others out; repeats and late-comers did nothing.
		if run := t.s.Run(r.Run); run != nil && run.RawStart == ev.Offset && run.Fence {
			t.replayFence = max(t.replayFence, r.Run)
		}
		return nil
	}
	if r.Run != 0 && r.Run < t.replayFence {
		return nil // it was shut out at the time
	}
	if w := t.window(r.Run); w != nil && ev.Offset >= w.from {
		w.ordinal(r.N)
		if r.InRecord() {
			w.events++
		}
	}
	if !r.InRecord() {
		return nil
	}
	fp := hot.FingerprintOf(r.ID)
	prev, err := d.lookup(t, r.ID, fp, false, 0)
	if err != nil {
		return err
	}
	if w := t.window(r.Run); w != nil && ev.Offset >= w.from && r.Type == event.RawSave && prev.Raw != detect.Raw64(r.Value) {
		det, err := d.detector(t)
		if err != nil {
			return err
		}
		if _, err := det.Scan(r.Value); err != nil || len(r.Value) > d.cfg.RecordBytesMax {
			w.refused++
		}
	}
	if !prev.live {
		return nil
	}
	for _, w := range t.windows {
		run := w.run()
		if !w.track || prev.CSN >= w.start || ev.Offset < w.from && !d.cfg.Breaks.NoReplayStart {
			continue
		}
		if run.RawEnd >= 0 && ev.Offset >= run.RawEnd {
			continue // the seen set was frozen before
		}
		w.seen.Add(prev.CSN)
	}
	return nil
}

// Replayed says that Replay was given everything that it needs.
func (d *Decider) Replayed() { d.torn = false }

// abandoned returns streams with records and no sign of a sync since ms.
func (d *Decider) abandoned(ms int64) []*store.Stream {
	var out []*store.Stream
	for _, s := range d.state.Streams(stream.ID{}) {
		if s.Total > 0 && s.ActiveMS < ms {
			out = append(out, s)
		}
	}
	return out
}
