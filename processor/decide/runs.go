package decide

import (
	"fmt"
	"time"

	"github.com/RoaringBitmap/roaring/v2/roaring64"

	"github.com/tidemark-dev/tidemark/processor/store"
	"github.com/tidemark-dev/tidemark/schemas/errcode"
	"github.com/tidemark-dev/tidemark/schemas/event"
)

// window is what a writer keeps in memory of a run that has not ended, or whose deletions are not done: which of the records that
// were there at its start have been seen since. It is not in the log; after a takeover a checkpoint (seen.go) and Replay build it again.
type window struct {
	tip   *tip
	start uint64 // csn of RUN_STARTED: records below it that are live and not seen at the end are missing
	seq   uint64
	track bool

	seen   *roaring64.Bitmap // csns below start
	cand   *roaring64.Bitmap // while sweeping: what is still to be deleted
	frozen bool              // sweeping: what is saved from now on is not seen, but written anew
	lost   bool              // raw events of the run are gone: it cannot delete
	from   int64             // raw offset from which a replay marks
	fence  uint64            // events of lower runs were shut out when the one at from came

	next uint64            // next ordinal; 1 at first
	gaps *roaring64.Bitmap // ordinals that came before next

	events, skipped, notFound uint64
	refused                   uint64 // of events: dead-lettered
}

func newWindow(t *tip, run *store.Run) *window {
	return &window{
		tip: t, start: run.StartCSN, seq: run.Seq, track: run.Track, frozen: run.Status == store.RunSweeping, seen: roaring64.New(), next: 1,
		gaps: roaring64.New(), from: run.RawStart + 1, fence: run.FencedBelow,
	}
}

// run is the run of the window as decided so far.
func (w *window) run() *store.Run { return w.tip.s.RunAt(w.start) }

// ordinal notes that the event with ordinal n has arrived; repeats are fine.
func (w *window) ordinal(n uint64) {
	switch {
	case n == 0 || n < w.next:
	case n > w.next:
		w.gaps.Add(n)
	default:
		w.next++
		for !w.gaps.IsEmpty() && w.gaps.Minimum() == w.next {
			w.gaps.Remove(w.next)
			w.next++
		}
	}
}

// complete reports whether exactly the ordinals 1..n have arrived.
func (w *window) complete(n uint64) bool { return w.next == n+1 && w.gaps.IsEmpty() }

// window returns the window of a running run, or nil.
func (t *tip) window(seq uint64) *window {
	if seq == 0 {
		return nil
	}
	for _, w := range t.windows {
		if w.seq == seq {
			if run := w.run(); run != nil && run.Status == store.RunRunning {
				return w
			}
		}
	}
	return nil
}

func (d *Decider) openWindow(t *tip, w *window) {
	t.windows = append(t.windows, w)
	d.windowed[t] = struct{}{}
}

func (t *tip) closeWindow(w *window) {
	for i, x := range t.windows {
		if x == w {
			t.windows = append(t.windows[:i:i], t.windows[i+1:]...)
			return
		}
	}
}

// admit says whether an event may be applied: one of a run that a newer run has shut out may not, for it comes from a sync
// function that should be dead. It notes the event's ordinal.
func (t *tip) admit(r *event.Raw) (*window, bool) {
	if r.Run == 0 || r.Type == event.RawRunStarted {
		return nil, true
	}
	if r.Run < t.s.FenceRun {
		return nil, false
	}
	w := t.window(r.Run)
	if w != nil {
		w.ordinal(r.N)
	}
	return w, true
}

// mark notes that a record was saved without changing: every window that has not ended sees it. A changed record needs no mark, for
// its csn is above every start.
func (t *tip) mark(prev *previous) {
	if !prev.live {
		return
	}
	for _, w := range t.windows {
		if !w.frozen && w.track && prev.CSN < w.start {
			w.seen.Add(prev.CSN)
		}
	}
}

func (d *Decider) runStarted(t *tip, ev *Event, r *event.Raw) error {
	var start event.RunStart
	if err := event.DecodeValue(r.Value, &start); err != nil {
		return d.deadLetter(t, ev, r.Run, err)
	}
	if t.s.Run(r.Run) != nil {
		d.counters.Repeated++ // the producer repeated itself
		return nil
	}
	if r.Run <= t.s.FenceRun {
		d.counters.Stale++
		return nil
	}
	if start.Fences() {
		for _, w := range append([]*window(nil), t.windows...) {
			if run := w.run(); run.Status == store.RunRunning && run.Seq < r.Run {
				d.endRun(t, w, ev.Offset, event.OutcomeInterrupted, errcode.RunSuperseded, fmt.Sprintf("by run %d", r.Run))
			}
		}
	}
	d.evictWindows(t, ev.Offset)
	d.control(t, ev.Offset, r.Run, &event.Control{
		Op: event.OpRunStarted, Sync: start.Sync, TrackDeletes: start.Tracks(), Fence: start.Fences(), Records: t.live(),
	})
	d.openWindow(t, newWindow(t, t.s.Run(r.Run)))
	return nil
}

// live is the number of live records, without those that a sweep is about to delete.
func (t *tip) live() uint64 {
	n := t.s.Live
	for _, w := range t.windows {
		if w.cand != nil {
			n -= min(n, w.cand.GetCardinality())
		}
	}
	return n
}

// evictWindows makes room for one more window: the oldest that waits goes. Sweeps do not count, they end by themselves.
func (d *Decider) evictWindows(t *tip, rawOffset int64) {
	for {
		var oldest *window
		waiting := 0
		for _, w := range t.windows {
			if w.run().Status != store.RunSweeping {
				waiting++
				if oldest == nil {
					oldest = w
				}
			}
		}
		switch {
		case waiting < d.cfg.RunWindowsMax:
			return
		case oldest.run().Status == store.RunHeld:
			d.release(t, oldest, rawOffset, event.DecisionDiscard, "newer run", 0)
		default:
			d.endRun(t, oldest, rawOffset, event.OutcomeInterrupted, errcode.RunSuperseded, "too many runs at once")
		}
	}
}

// endRun ends a running run without deletions.
func (d *Decider) endRun(t *tip, w *window, rawOffset int64, outcome event.Outcome, reason errcode.Code, detail string) {
	run := w.run()
	d.control(t, rawOffset, run.Seq, &event.Control{
		Op: event.OpRunFailed, Outcome: outcome, Reason: string(reason), Detail: detail, Counts: w.counts(), StartedMS: run.StartedMS,
	})
	t.closeWindow(w)
}

// counts is what the run did so far. Added, updated, deleted and dead-lettered come from the log; what is left of the events that
// arrived was unchanged.
func (w *window) counts() *event.RunCounts {
	run := w.run()
	c := &event.RunCounts{
		Added: run.Added, Updated: run.Updated, Deleted: run.Deleted, Skipped: w.skipped, NotFound: w.notFound,
		DeadLettered: run.DeadLettered,
	}
	if rest := c.Added + c.Updated + c.Deleted + c.Skipped + c.NotFound + w.refused; w.events > rest {
		c.Unchanged = w.events - rest
	}
	return c
}

func (d *Decider) runFailed(t *tip, ev *Event, r *event.Raw) error {
	var failure event.RunFailure
	if err := event.DecodeValue(r.Value, &failure); err != nil {
		return d.deadLetter(t, ev, r.Run, err)
	}
	w := t.window(r.Run)
	if w == nil {
		return d.unknownRun(t, ev, r)
	}
	const detailMax = 500
	detail := failure.Error
	if len(detail) > detailMax {
		detail = detail[:detailMax]
	}
	d.endRun(t, w, ev.Offset, event.OutcomeFailed, errcode.RunProducerError, detail)
	return nil
}

// unknownRun handles the end of a run that is not running: a repeat is fine, a run that never began is not.
func (d *Decider) unknownRun(t *tip, ev *Event, r *event.Raw) error {
	if t.s.Run(r.Run) != nil || r.Run <= t.s.FenceRun {
		d.counters.Repeated++
		return nil
	}
	return d.deadLetter(t, ev, r.Run, &event.RawError{Code: errcode.RawUnknownRun, Detail: fmt.Sprintf("run %d has not started", r.Run)})
}

// runCompleted ends a run. What is missing is known exactly here, before anything is deleted.
func (d *Decider) runCompleted(t *tip, ev *Event, r *event.Raw) error {
	var end event.RunEnd
	if err := event.DecodeValue(r.Value, &end); err != nil {
		return d.deadLetter(t, ev, r.Run, err)
	}
	w := t.window(r.Run)
	if w == nil {
		return d.unknownRun(t, ev, r)
	}
	run := w.run()
	c := &event.Control{Op: event.OpRunCompleted, Sync: run.Sync, Events: end.Events, StartedMS: run.StartedMS, Outcome: event.OutcomeCompleted}
	var cand *roaring64.Bitmap
	if w.track && end.DeleteMissing {
		if !d.Idle() {
			return ErrBarrier // the live records must be those of the state
		}
		cand = d.missing(t, w)
		c.ToDelete = cand.GetCardinality()
	}
	c.Counts = w.counts()
	if c.ToDelete > 0 {
		c.Outcome = event.OutcomeSweeping
		if code, detail := d.guard(t, w, &end, c.ToDelete); code != "" {
			c.Outcome, c.Reason, c.Detail = event.OutcomeHeld, string(code), detail
		}
	}
	d.control(t, ev.Offset, r.Run, c)
	switch c.Outcome {
	case event.OutcomeHeld:
		return nil // the window stays open: what is saved from now on is not missing
	case event.OutcomeSweeping:
		w.cand, w.frozen = cand, true
		d.sweeps = append(d.sweeps, w)
	default:
		t.closeWindow(w)
	}
	// A newer complete run answers what older held ones asked.
	for _, old := range append([]*window(nil), t.windows...) {
		if old.start < w.start && w.track && end.DeleteMissing && old.run().Status == store.RunHeld {
			d.release(t, old, ev.Offset, event.DecisionDiscard, "newer run", 0)
		}
	}
	return nil
}

// missing is the set of csns of records that were there when the run started and have neither changed nor been seen since.
func (d *Decider) missing(t *tip, w *window) *roaring64.Bitmap {
	live := d.state.Live(t.s.SID, w.start)
	live.AndNot(w.seen)
	// Records that an earlier sweep is about to delete are its business.
	for _, other := range t.windows {
		if other != w && other.cand != nil {
			live.AndNot(other.cand)
		}
	}
	return live
}

// resumeSweeps works out, after a takeover and its replay, what the sweeps had left to do: in the order in which they were decided, for
// each has what the ones before it have not. Nothing is in flight yet, so that the state is exact.
func (d *Decider) resumeSweeps() {
	d.resumed = true
	for _, w := range d.sweeps {
		if w.cand == nil {
			w.cand = d.missing(w.tip, w)
		}
	}
}

// guard returns why the deletions of a run must be held, or "".
func (d *Decider) guard(t *tip, w *window, end *event.RunEnd, toDelete uint64) (errcode.Code, string) {
	run := w.run()
	switch {
	case w.lost:
		return errcode.HeldRetention, "raw events of the run were gone before they could be read again"
	case !w.complete(end.Events) && !d.cfg.Breaks.NoOrdinalGuard:
		return errcode.HeldIncomplete, fmt.Sprintf("the producer sent %d events, the first that did not arrive is number %d", end.Events, w.next)
	}
	counts := w.counts()
	if dead := counts.DeadLettered; dead*100 > end.Events && dead > 0 {
		return errcode.HeldDeadLetters, fmt.Sprintf("%d of %d events", dead, end.Events)
	}
	if counts.Added+counts.Updated+counts.Unchanged+counts.Skipped == 0 && !end.AllowEmpty {
		return errcode.HeldEmpty, fmt.Sprintf("%d records would be deleted", toDelete)
	}
	ratio := t.model.MaxDeleteRatio
	if ratio == 0 {
		ratio = d.cfg.MaxDeleteRatio
	}
	free := d.cfg.DeleteFree
	if end.MaxDeleteRatio != nil {
		ratio, free = *end.MaxDeleteRatio, 0
	}
	if limit := max(float64(free), ratio*float64(run.LiveAtStart)); float64(toDelete) > limit {
		return errcode.HeldRatio, fmt.Sprintf("%d of %d live records would be deleted, at most %d are allowed", toDelete, run.LiveAtStart, uint64(limit))
	}
	return "", ""
}

// decision approves or discards a held deletion.
func (d *Decider) decision(t *tip, ev *Event, r *event.Raw) error {
	var dec event.Decision
	if err := event.DecodeValue(r.Value, &dec); err != nil {
		return d.deadLetter(t, ev, r.Run, err)
	}
	var w *window
	for _, x := range t.windows {
		if run := x.run(); run.Seq == dec.Run && run.Status == store.RunHeld {
			w = x
		}
	}
	if w == nil {
		if run := t.s.Run(dec.Run); run != nil && run.Status != store.RunRunning && run.ToDelete > 0 {
			d.counters.Repeated++
			return nil
		}
		return d.deadLetter(t, ev, r.Run, &event.RawError{Code: errcode.RunNotHeld, Detail: fmt.Sprintf("run %d holds no deletion", dec.Run)})
	}
	if dec.Decision == event.DecisionDiscard {
		d.release(t, w, ev.Offset, event.DecisionDiscard, dec.By, 0)
		return nil
	}
	if !d.Idle() {
		return ErrBarrier
	}
	cand := d.missing(t, w) // without what was saved since it was held
	d.release(t, w, ev.Offset, event.DecisionApprove, dec.By, cand.GetCardinality())
	return nil
}

// release ends the waiting of a held deletion.
func (d *Decider) release(t *tip, w *window, rawOffset int64, decision, by string, toDelete uint64) {
	d.control(t, rawOffset, w.seq, &event.Control{Op: event.OpReleased, Decision: decision, By: by, ToDelete: toDelete})
	if decision == event.DecisionApprove && toDelete > 0 {
		w.cand, w.frozen = d.missing(t, w), true
		d.sweeps = append(d.sweeps, w)
		return
	}
	t.closeWindow(w)
}

func (d *Decider) checkpoint(t *tip, w *window, ev *Event, r *event.Raw) error {
	var state any
	if err := event.DecodeValue(r.Value, &state); err != nil {
		return d.deadLetter(t, ev, r.Run, err)
	}
	value := r.Value
	if len(value) == 0 {
		value = []byte("null")
	}
	d.control(t, ev.Offset, r.Run, &event.Control{Op: event.OpCheckpoint, State: append([]byte(nil), value...)})
	return nil
}

func (d *Decider) clear(t *tip, ev *Event, r *event.Raw) error {
	var c event.Clear
	if err := event.DecodeValue(r.Value, &c); err != nil {
		return d.deadLetter(t, ev, r.Run, err)
	}
	if t.s.SID == 0 {
		d.counters.NotFound++ // nothing was ever there
		return nil
	}
	if c.Mode == event.ClearHard {
		d.forget(t, ev.Offset, &event.Control{Op: event.OpCleared, Mode: c.Mode, Records: t.s.Live})
		return nil
	}
	if !d.Idle() {
		return ErrBarrier
	}
	d.control(t, ev.Offset, 0, &event.Control{Op: event.OpCleared, Mode: c.Mode, Records: t.live()})
	w := newWindow(t, t.s.RunAt(t.s.LastCSN))
	w.cand, w.frozen = d.missing(t, w), true
	d.openWindow(t, w)
	d.sweeps = append(d.sweeps, w)
	return nil
}

// forget emits CLEARED or PURGED: everything of the stream is gone at once, in flight or not.
func (d *Decider) forget(t *tip, rawOffset int64, c *event.Control) {
	d.control(t, rawOffset, 0, c)
	t.table.Drop()
	clear(t.overlay)
	t.generation++
	// Runs go on with nothing to miss; what was to be deleted is gone.
	for _, w := range append([]*window(nil), t.windows...) {
		if w.run().Status != store.RunRunning {
			t.closeWindow(w)
			d.dropSweep(w)
		}
	}
}

func (d *Decider) prune(t *tip, ev *Event, r *event.Raw) error {
	var p event.Prune
	if err := event.DecodeValue(r.Value, &p); err != nil {
		return d.deadLetter(t, ev, r.Run, err)
	}
	if until := min(p.UntilCSN, d.nextCSN-1); t.s.SID != 0 && until > t.s.PrunedUntil {
		d.control(t, ev.Offset, 0, &event.Control{Op: event.OpPruned, UntilCSN: until})
		return nil
	}
	d.counters.Repeated++
	return nil
}

// tickEvery is how often time-driven decisions are looked for.
const tickEvery = time.Minute

// Tick makes the decisions that time asks for: runs and held deletions that take too long, payloads and streams past retention. Call
// it between events, as often as you like. Retention needs two clocks to agree - ours and the producers' - so that one that jumps
// deletes nothing.
func (d *Decider) Tick() {
	d.yield()
	now := d.cfg.Now()
	if now.Before(d.nextTick) && d.nextTick.Sub(now) <= tickEvery {
		return
	}
	d.nextTick = now.Add(tickEvery)
	nowMS := now.UnixMilli()
	before := func(ms int64, after time.Duration) bool { return ms < nowMS-after.Milliseconds() }
	for _, t := range d.tips {
		for _, w := range append([]*window(nil), t.windows...) {
			run := w.run()
			switch {
			case run.Status == store.RunRunning && before(run.StartedMS, d.cfg.RunTimeout):
				d.endRun(t, w, -1, event.OutcomeInterrupted, errcode.RunExpired, "it began "+time.UnixMilli(run.StartedMS).UTC().Format(time.RFC3339))
			case run.Status == store.RunHeld && before(run.EndedMS, d.cfg.HeldTimeout):
				d.release(t, w, -1, event.DecisionDiscard, "timeout", 0)
			}
		}
	}
	clock := min(nowMS, d.newestMS)
	if d.cfg.PruneAfter > 0 && clock > 0 {
		if until := d.state.CSNBefore(clock - d.cfg.PruneAfter.Milliseconds()); until > d.state.Floor() {
			d.control(nil, -1, 0, &event.Control{Op: event.OpPruned, UntilCSN: until})
		}
	}
	if d.cfg.PurgeAfter > 0 && clock > 0 {
		d.purge(clock - d.cfg.PurgeAfter.Milliseconds())
	}
}

// purge forgets streams that had no sign of a sync since ms. The tip knows of what is in flight.
func (d *Decider) purge(ms int64) {
	for _, s := range d.abandoned(ms) {
		t := d.tipFor(s.Key.Stream, s)
		if t.s.ActiveMS >= ms || len(t.windows) > 0 {
			continue
		}
		d.forget(t, -1, &event.Control{Op: event.OpPurged, Records: t.s.Live})
		if d.Full() {
			return
		}
	}
}
