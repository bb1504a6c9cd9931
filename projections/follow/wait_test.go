package follow

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/tidemark-dev/tidemark/schemas/errcode"
	"github.com/tidemark-dev/tidemark/schemas/event"
	"github.com/tidemark-dev/tidemark/schemas/stream"
)

// runLog writes the groups of one partition's owner.
type runLog struct {
	*log
	partition int32
	id        stream.ID
	csn       uint64
}

// group writes one group: control records, and changes for op ADDED and so on.
func (l *runLog) group(records ...Record) {
	l.t.Helper()
	for i := range records {
		l.csn++
		m := &records[i].Meta
		m.Term, m.Nonce, m.CSN, m.GI, m.SID, m.TS = 1, 1, l.csn, uint64(i), 1, int64(1000+l.csn)
		if i == len(records)-1 {
			m.Commit, m.N = true, uint64(len(records))
		}
	}
	l.write(l.partition, records...)
}

func (l *runLog) control(run uint64, c event.Control) Record {
	l.t.Helper()
	c.Run, c.Stream, c.TSMillis = run, &l.id, 1234
	value, err := event.AppendControl(nil, &c)
	must(l.t, err)
	return Record{Op: c.Op, Key: []byte(l.id.Key()), Value: value, Meta: event.Meta{Run: run, RawOffset: -1}}
}

func (l *runLog) deleted(run uint64, rawOffset int64) Record {
	return Record{Op: event.OpDeleted, Key: []byte(l.id.Key() + "/7"), Meta: event.Meta{Run: run, RawOffset: rawOffset, Record: true, Algo: event.AlgoXXH3}}
}

func TestWaitRun(t *testing.T) {
	b := startBroker(t, t.TempDir(), "")
	cfg := config(b.Addr())
	l := &runLog{log: newLog(t, b.Addr()), id: acme, partition: stream.Partition(acme.Key(), testPartitions)}
	l.write(l.partition, Record{Op: event.OpTerm, Key: []byte("~p/0"), Meta: event.Meta{Term: 1, Nonce: 1}})
	other := acme
	for i := 0; ; i++ { // another stream of the same partition, with runs of the same numbers
		other.Connection = strings.Repeat("x", i+1)
		if stream.Partition(other.Key(), testPartitions) == l.partition {
			break
		}
	}
	foreign := func(run uint64, c event.Control) Record {
		r := l.control(run, c)
		r.Key = []byte(other.Key())
		return r
	}
	counts := &event.RunCounts{Added: 3, Updated: 2, Deleted: 1, Unchanged: 10, Skipped: 4, NotFound: 5, DeadLettered: 6}
	started := func(run uint64) Record { return l.control(run, event.Control{Op: event.OpRunStarted}) }
	ended := func(run uint64, outcome event.Outcome, toDelete uint64) Record {
		return l.control(run, event.Control{Op: event.OpRunCompleted, Outcome: outcome, ToDelete: toDelete, Counts: counts, StartedMS: 1200, Reason: "", Detail: ""})
	}
	for _, c := range []struct {
		name   string
		groups [][]Record
		want   RunResult
	}{
		{"completed", [][]Record{{started(10)}, {ended(9, event.OutcomeCompleted, 0), ended(10, event.OutcomeCompleted, 0)}},
			RunResult{Outcome: event.OutcomeCompleted, Counts: *counts, StartedMS: 1234}},
		{"completed, the start was before", [][]Record{{foreign(11, event.Control{Op: event.OpRunFailed}), ended(11, event.OutcomeCompleted, 0)}},
			RunResult{Outcome: event.OutcomeCompleted, Counts: *counts, StartedMS: 1200}},
		{"swept", [][]Record{
			{started(12), l.deleted(12, 55), ended(12, event.OutcomeSweeping, 3)},
			{l.deleted(12, -1), l.deleted(12, -1)},
			{foreign(12, event.Control{Op: event.OpSwept, Records: 9}), l.control(0, event.Control{Op: event.OpSwept, Records: 8})},
			{l.deleted(12, -1), l.control(12, event.Control{Op: event.OpSwept, Records: 3})},
		}, RunResult{Outcome: event.OutcomeCompleted, Counts: *counts, ToDelete: 3, Swept: 3, StartedMS: 1234}},
		{"swept, with a soft clear beside", [][]Record{
			{started(13), ended(13, event.OutcomeSweeping, 2)},
			{l.deleted(13, -1), l.control(0, event.Control{Op: event.OpCleared, Mode: event.ClearSoft})},
			{foreign(0, event.Control{Op: event.OpCleared, Mode: event.ClearHard})},
			{l.control(13, event.Control{Op: event.OpSwept, Records: 1})},
		}, RunResult{Outcome: event.OutcomeCompleted, Counts: *counts, ToDelete: 2, Swept: 1, StartedMS: 1234}},
		{"cleared while sweeping", [][]Record{
			{l.control(0, event.Control{Op: event.OpCleared, Mode: event.ClearHard})}, // before: not our affair
			{started(14), ended(14, event.OutcomeSweeping, 5)},
			{l.deleted(14, -1), l.deleted(3, -1), l.deleted(14, 7)},
			{l.control(0, event.Control{Op: event.OpCleared, Mode: event.ClearHard})},
		}, RunResult{Outcome: event.OutcomeCompleted, Counts: *counts, ToDelete: 5, Swept: 1, StartedMS: 1234, Detail: "the stream was cleared"}},
		{"purged while sweeping", [][]Record{
			{started(15), ended(15, event.OutcomeSweeping, 5)}, {l.control(0, event.Control{Op: event.OpPurged})},
		}, RunResult{Outcome: event.OutcomeCompleted, Counts: *counts, ToDelete: 5, StartedMS: 1234, Detail: "the stream was cleared"}},
		{"held", [][]Record{{started(16), l.control(16, event.Control{
			Op: event.OpRunCompleted, Outcome: event.OutcomeHeld, ToDelete: 7, Counts: counts, Reason: string(errcode.HeldRatio), Detail: "7 of 8",
		})}}, RunResult{Outcome: event.OutcomeHeld, Counts: *counts, ToDelete: 7, Reason: errcode.HeldRatio, Detail: "7 of 8", StartedMS: 1234}},
		{"failed", [][]Record{{started(17), l.control(17, event.Control{
			Op: event.OpRunFailed, Outcome: event.OutcomeFailed, Counts: counts, Reason: string(errcode.RunProducerError), Detail: "boom",
		})}}, RunResult{Outcome: event.OutcomeFailed, Counts: *counts, Reason: errcode.RunProducerError, Detail: "boom", StartedMS: 1234}},
		{"interrupted", [][]Record{{started(18)}, {l.control(18, event.Control{
			Op: event.OpRunFailed, Outcome: event.OutcomeInterrupted, Reason: string(errcode.RunSuperseded),
		}), started(19)}}, RunResult{Outcome: event.OutcomeInterrupted, Reason: errcode.RunSuperseded, StartedMS: 1234}},
	} {
		run := uint64(0)
		for _, g := range c.groups {
			for _, r := range g {
				if r.Op == event.OpRunCompleted || r.Op == event.OpRunFailed {
					run = max(run, r.Meta.Run)
				}
			}
		}
		from, err := StreamEnd(t.Context(), cfg, acme)
		must(t, err)
		got := make(chan RunResult)
		failed := make(chan error)
		go func() {
			r, err := WaitRun(t.Context(), cfg, acme, run, from)
			failed <- err
			got <- r
		}()
		for _, g := range c.groups {
			l.group(slices.Clone(g)...)
		}
		must(t, <-failed)
		c.want.Run = run
		r := <-got
		if r.LastCSN == 0 || r.EndedMS != int64(1000+r.LastCSN) {
			t.Errorf("%s: ended at csn %d, %d ms", c.name, r.LastCSN, r.EndedMS)
		}
		c.want.LastCSN, c.want.EndedMS = r.LastCSN, r.EndedMS
		if r != c.want {
			t.Errorf("%s:\ngot  %+v\nwant %+v", c.name, r, c.want)
		}
	}

	// A run that nothing is heard of, or not enough.
	for _, c := range []struct {
		groups []Record
		text   string
	}{
		{[]Record{started(29), started(31)}, "has not started"},
		{[]Record{started(30)}, "has started and not ended"},
		{[]Record{ended(30, event.OutcomeSweeping, 4), l.deleted(30, -1)}, "1 of 4"},
	} {
		from, err := StreamEnd(t.Context(), cfg, acme)
		must(t, err)
		l.group(slices.Clone(c.groups)...)
		ctx, cancel := context.WithTimeout(t.Context(), 400*time.Millisecond)
		_, err = WaitRun(ctx, cfg, acme, 30, from)
		cancel()
		var e *errcode.Error
		if !errors.As(err, &e) || e.Code != errcode.RunTimeout || !strings.Contains(err.Error(), c.text) {
			t.Errorf("error %v does not say %q", err, c.text)
		}
	}
	ctx, cancel := context.WithCancelCause(t.Context())
	cause := errors.New("enough")
	cancel(cause)
	if _, err := WaitRun(ctx, cfg, acme, 30, AtEnd(0)); !errors.Is(err, cause) {
		t.Errorf("error %v", err)
	}
	if _, err := StreamEnd(ctx, cfg, acme); !errors.Is(err, cause) {
		t.Errorf("error %v", err)
	}
	if _, err := StreamEnd(t.Context(), cfg, stream.ID{}); !errors.Is(err, stream.ErrInvalid) {
		t.Errorf("error %v", err)
	}
	must(t, b.Close())
	cfg.StartWait = 200 * time.Millisecond
	var e *errcode.Error
	if _, err := StreamEnd(t.Context(), cfg, acme); !errors.As(err, &e) || e.Code != errcode.Unreachable {
		t.Errorf("error %v", err)
	}
}
