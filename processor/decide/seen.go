package decide

import (
	"github.com/tidemark-dev/tidemark/processor/store"
)

// What open runs have seen is kept in memory, and a takeover makes it anew from the raw topic (Replay). A checkpoint is a copy of it on this
// node's disk, so that a later writer here begins to replay at the checkpoint, and not at the start of the oldest run.
//
// A checkpoint at raw offset P holds nothing but the truth, for whoever takes it up later, because of when it is taken and when it is
// stored. It is taken when every event below P is decided, and none at or above it. It is stored when the groups decided until then have
// been read back as valid; one whose groups are lost is lost with them. So each of its marks names a csn of the log, which is the same
// version of the same record for ever, and says that an event below P, in the window of the run, left that version as it was. Another
// writer who decided the same events again can only have found the same, or have written a newer version, about which the mark says
// nothing. And it is used only by a writer that goes on at P or above: the events from P on that were decided already are replayed, the
// others are decided, and none is counted twice. Marks of the start of a run that never got into the log would lie at csns that belong to
// others; they cannot occur, for its group would be lost.
//
// Rows are bound to the run (stream, csn and raw offset of its start, sequence) and to the id of the raw topic, and carry a sum. What does not
// fit is not used, and costs what was paid before: the replay from the start of the run.

const (
	seenEvery = 100_000 // raw events; a tenth of a second of reading again
	// seenBytesPerEvent bounds what is written for each raw event that is read: large checkpoints come less often.
	seenBytesPerEvent = 4
)

// seenDue reports whether it is time for a checkpoint.
func (d *Decider) seenDue() bool {
	return d.rawNext >= d.seenNext && d.cfg.SeenEvery > 0
}

// Checkpoint returns what open runs have seen, when it is time to store it, and it may be stored; otherwise nil. last says that the term
// ends, whatever the reason: then it is time, if everything that was decided is applied. What cannot be stored in one piece with the end
// of a group (Take) waits for a moment at which nothing is in flight; then the raw position is stored too, for the log does not have it.
func (d *Decider) Checkpoint(last bool) *store.Checkpoint {
	if c := d.seenReady; c != nil && !(last && d.Idle()) {
		d.seenReady = nil
		return c
	}
	if !d.Idle() || d.torn || !d.seenDue() && !(last && d.cfg.SeenEvery > 0) {
		return nil
	}
	c := d.takeSeen()
	if c != nil {
		c.Progress = &store.Progress{NextCSN: d.nextCSN, RawNext: d.rawNext}
	}
	return c
}

// takeSeen copies what open runs have seen; nil if there is nothing to store, and nothing stored.
func (d *Decider) takeSeen() *store.Checkpoint {
	c := &store.Checkpoint{RawNext: d.rawNext}
	size := 0
	for t := range d.windowed {
		if len(t.windows) == 0 {
			delete(d.windowed, t)
			continue
		}
		for _, w := range t.windows {
			run := w.run()
			if w.seq == 0 || run.RawStart >= d.rawNext {
				continue
			}
			s := store.Seen{
				SID: t.s.SID, StartCSN: w.start, Run: w.seq, RawStart: run.RawStart, RawTopic: d.rawTopic, RawNext: d.rawNext,
				Fence: t.s.FenceRun, Lost: w.lost, NextOrdinal: w.next, Events: w.events, Skipped: w.skipped, NotFound: w.notFound,
				Refused: w.refused, Gaps: w.gaps, Marks: w.seen,
			}
			c.Rows = append(c.Rows, s.Row())
			size += c.Rows[len(c.Rows)-1].Size()
		}
	}
	d.seenNext = d.rawNext + max(d.cfg.SeenEvery, int64(size/seenBytesPerEvent))
	if len(c.Rows) == 0 && !d.seenStored {
		return nil
	}
	d.seenStored = len(c.Rows) > 0
	return c
}

// recall gives the windows what the checkpoint of this node says of them. What it says of other runs, of another topic, or of raw events
// that are still to be decided, is of no use.
func (d *Decider) recall() error {
	d.seenReady, d.seenStored = nil, false
	if d.cfg.SeenEvery <= 0 {
		return nil
	}
	rows, err := d.state.Seen()
	if err != nil {
		return err
	}
	d.seenStored = len(rows) > 0
	ofStream := map[uint32][]*store.Seen{}
	for _, s := range rows {
		ofStream[s.SID] = append(ofStream[s.SID], s)
	}
	for t := range d.windowed {
		for _, w := range t.windows {
			for _, s := range ofStream[t.s.SID] {
				if d.fits(w, s) {
					w.take(s)
					break
				}
			}
		}
	}
	return nil
}

// fits reports whether a row was written about this window, and about raw events that are all decided.
func (d *Decider) fits(w *window, s *store.Seen) bool {
	run := w.run()
	if own := s.StartCSN == w.start && s.Run == w.seq && s.RawStart == run.RawStart; !own && !d.cfg.Breaks.SeenOfAnyRun {
		return false
	}
	if s.RawNext > d.rawNext && !d.cfg.Breaks.SeenTooNew {
		return false
	}
	return w.seq != 0 && s.RawTopic == d.rawTopic && s.RawTopic != [16]byte{}
}

// take puts the window where the row says that it was. The bitmaps are the window's from now on.
func (w *window) take(s *store.Seen) {
	w.from, w.fence = s.RawNext, s.Fence
	w.lost, w.next, w.gaps, w.seen = s.Lost, s.NextOrdinal, s.Gaps, s.Marks
	w.events, w.skipped, w.notFound, w.refused = s.Events, s.Skipped, s.NotFound, s.Refused
}

// replayFrom returns the raw offset from which Replay must be given the events, or -1 if there are none.
func (d *Decider) replayFrom() int64 {
	from := int64(-1)
	for t := range d.windowed {
		first := int64(-1)
		for _, w := range t.windows {
			if w.seq == 0 { // a soft clear has seen nothing
				continue
			}
			if first < 0 || w.from < first { // what was shut out before the replay of the stream begins was dropped when it came, and is again
				first, t.replayFence = w.from, w.fence
			}
		}
		if first >= 0 && (from < 0 || first < from) {
			from = first
		}
	}
	if from >= d.rawNext || d.cfg.Breaks.NoReplay {
		return -1
	}
	return from
}
