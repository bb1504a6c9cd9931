package observe

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"

	"github.com/tidemark-dev/tidemark/projections/follow"
	"github.com/tidemark-dev/tidemark/schemas/errcode"
	"github.com/tidemark-dev/tidemark/schemas/event"
	"github.com/tidemark-dev/tidemark/schemas/stream"
)

// state is what a record should be: a fact of it, or an end.
type state struct {
	at      Time
	csn     uint64
	action  string
	fields  []string
	known   bool // fields say everything
	payload string
}

func (s *state) exists() bool { return s.payload != "" }

// states are those of a record, oldest first.
func (w *world) states(id stream.ID, record string) (out []state) {
	for _, h := range w.log {
		if h.id != id {
			continue
		}
		switch {
		case h.fact() && h.record == record:
			s := state{at: h.at, csn: h.csn, action: strings.ToLower(h.op.String()), fields: h.fields, known: h.op == event.OpUpdated && h.known}
			if h.live {
				s.payload = string(h.payload)
			}
			out = append(out, s)
		case h.op == event.OpPurged || h.op == event.OpCleared && h.control.Mode == event.ClearHard:
			if n := len(out); n > 0 && out[n-1].exists() {
				out = append(out, state{at: h.at, csn: h.csn, action: strings.ToLower(h.op.String())})
			}
		}
	}
	return out
}

func orEmpty(s *state) string {
	if s == nil || !s.exists() {
		return `{}`
	}
	return s.payload
}

func (w *world) checkHistories(t *testing.T, r *rand.Rand) {
	ended := 0
	for _, id := range streams {
		for _, record := range recordIDs {
			states := w.states(id, record)
			q := RecordQuery{Stream: id, ID: record}
			name := fmt.Sprintf("seed %d, %q of %s", w.seed, record, id.Key())
			if len(states) == 0 {
				for _, err := range w.askAll(t.Context(), q) {
					wantCode(t, err, errcode.UnknownRecord)
				}
				continue
			}
			for _, s := range states {
				if s.action == "cleared" || s.action == "purged" {
					ended++
				}
			}
			w.checkHistory(t, name, q, states)
			if r.IntN(8) > 0 { // each takes dozens of questions
				continue
			}
			w.checkPages(t, name, q, states, 2+r.IntN(9))
			w.checkDiffs(t, r, name, q, states)
			w.checkAsOf(t, r, name, q, states)
		}
	}
	if ended < 3 {
		t.Errorf("seed %d: only %d records went with their streams", w.seed, ended)
	}
}

// askAll asks all there is to ask of a record.
func (w *world) askAll(ctx context.Context, q RecordQuery) (out [3]error) {
	_, out[0] = w.History(ctx, q)
	_, out[1] = w.Diff(ctx, q)
	_, out[2] = w.AsOf(ctx, q)
	return out
}

func wantCode(t *testing.T, err error, code errcode.Code) {
	t.Helper()
	var e *errcode.Error
	if !errors.As(err, &e) || e.Code != code {
		t.Errorf("%v, want %s", err, code)
	}
}

func (w *world) checkVersion(t *testing.T, name string, v *Version, s *state) {
	t.Helper()
	if v.CSN != s.csn || v.At != s.at || v.Action != s.action || !slices.Equal(v.ChangedFields, s.fields) && s.known {
		t.Errorf("%s: version %d %s %s %q, want %d %s %s %q", name, v.CSN, v.At, v.Action, v.ChangedFields, s.csn, s.at, s.action, s.fields)
	}
	if v.ends() == s.exists() || s.exists() && v.PayloadBytes != uint32(len(s.payload)) {
		t.Errorf("%s: version %d has %d bytes, want %d", name, v.CSN, v.PayloadBytes, len(s.payload))
	}
}

// checkDelta applies a delta.
func checkDelta(t *testing.T, name string, d *Delta, before, after string) {
	t.Helper()
	if d == nil {
		t.Errorf("%s: no delta", name)
		return
	}
	checkApply(t, []byte(before), []byte(after), d)
}

func (w *world) checkHistory(t *testing.T, name string, q RecordQuery, states []state) {
	t.Helper()
	q.Limit = LimitMax
	h, err := w.History(t.Context(), q)
	must(t, err)
	if len(h.Versions) != len(states) || h.More || !h.Complete || h.ID != q.Stream || h.RecordID != q.ID {
		t.Fatalf("%s: %d versions (more %v, complete %v), want %d", name, len(h.Versions), h.More, h.Complete, len(states))
	}
	for i := range h.Versions {
		w.checkVersion(t, name, &h.Versions[i], &states[len(states)-1-i])
		if h.Versions[i].Delta != nil || h.Versions[i].Gone != nil {
			t.Errorf("%s: a delta that nobody asked for", name)
		}
	}
}

// checkPages reads the history page by page, with deltas.
func (w *world) checkPages(t *testing.T, name string, q RecordQuery, states []state, limit int) {
	t.Helper()
	q.Limit, q.Deltas = limit, true
	left := len(states)
	for left > 0 {
		h, err := w.History(t.Context(), q)
		must(t, err)
		if len(h.Versions) != min(limit, left) || h.More != (left > limit) || h.Complete != (left <= limit) {
			t.Fatalf("%s: a page of %d (more %v, complete %v) with %d left and a limit of %d", name, len(h.Versions), h.More, h.Complete, left, limit)
		}
		for i := range h.Versions {
			v := &h.Versions[i]
			left--
			w.checkVersion(t, name, v, &states[left])
			var before *state
			if left > 0 {
				before = &states[left-1]
			}
			checkDelta(t, name, v.Delta, orEmpty(before), orEmpty(&states[left]))
			q.Before = v.CSN
		}
	}
	h, err := w.History(t.Context(), q)
	must(t, err)
	if len(h.Versions) != 0 || h.More {
		t.Errorf("%s: versions before the first", name)
	}
}

func (w *world) checkDiffs(t *testing.T, r *rand.Rand, name string, q RecordQuery, states []state) {
	t.Helper()
	check := func(from, to int) {
		t.Helper()
		d, err := w.Diff(t.Context(), q)
		if err != nil {
			t.Fatalf("%s: from %d to %d: %v", name, q.From, q.To, err)
		}
		var before *state
		if from >= 0 {
			before = &states[from]
		}
		if (d.From == nil) != (from < 0) || d.From != nil && d.From.CSN != before.csn || d.To.CSN != states[to].csn || d.Gone != nil {
			t.Fatalf("%s: from %+v to %+v (gone %+v)", name, d.From, d.To, d.Gone)
		}
		checkDelta(t, name, d.Delta, orEmpty(before), orEmpty(&states[to]))
		known, fields := true, []string{}
		for _, s := range states[from+1 : to+1] {
			known = known && (s.known || s.action == "restored")
			fields = append(fields, s.fields...)
		}
		slices.Sort(fields)
		if fields = slices.Compact(fields); d.FieldsKnown != known || known && !slices.Equal(d.ChangedFields, fields) {
			t.Errorf("%s: fields %q (known %v), want %q (%v)", name, d.ChangedFields, d.FieldsKnown, fields, known)
		}
	}
	last := len(states) - 1
	check(last-1, last)
	for range 3 {
		to := r.IntN(len(states))
		q.From, q.To = 0, states[to].csn
		check(to-1, to)
		if to > 0 {
			from := r.IntN(to)
			q.From = states[from].csn
			check(from, to)
		}
	}
	q.From, q.To = 0, states[last].csn+1
	_, err := w.Diff(t.Context(), q)
	wantCode(t, err, errcode.UnknownVersion)
	if last > 0 && states[0].csn+1 != states[1].csn {
		q.From, q.To = states[0].csn+1, states[last].csn
		_, err = w.Diff(t.Context(), q)
		wantCode(t, err, errcode.UnknownVersion)
	}
}

func (w *world) checkAsOf(t *testing.T, r *rand.Rand, name string, q RecordQuery, states []state) {
	t.Helper()
	check := func(holds func(s *state) bool) {
		t.Helper()
		got, err := w.AsOf(t.Context(), q)
		if err != nil {
			t.Fatalf("%s: as of %s, %d: %v", name, q.At, q.CSN, err)
		}
		var want *state
		for i := range states {
			if holds(&states[i]) {
				want = &states[i]
			}
		}
		record := ""
		if want != nil {
			record = want.payload
		}
		if (got.Version == nil) != (want == nil) || got.Version != nil && got.Version.CSN != want.csn || got.Exists != (record != "") || string(got.Record) != record {
			t.Errorf("%s: as of %s, %d: %s of %+v, want %s", name, q.At, q.CSN, got.Record, got.Version, record)
		}
	}
	check(func(*state) bool { return true })
	for range 3 {
		q.At, q.CSN = 0, 1+r.Uint64N(400)
		check(func(s *state) bool { return s.csn <= q.CSN })
		q.At, q.CSN = TimeOf(w.now)-Time(r.Int64N(int64(31*Hour.Width()))), 0
		check(func(s *state) bool { return s.at <= q.At })
		s := states[r.IntN(len(states))]
		q.At = s.at - Time(r.IntN(2))
		check(func(s *state) bool { return s.at <= q.At })
	}
	q.At, q.CSN = math.MaxInt64/2, 0 // beyond what a column can hold
	check(func(*state) bool { return true })
	q.At = 1
	check(func(*state) bool { return false })
}

// of picks a record that has a history.
func (w *world) some(t *testing.T, least int) (RecordQuery, []state) {
	t.Helper()
	for _, id := range streams {
		for _, record := range recordIDs {
			if s := w.states(id, record); len(s) >= least && s[len(s)-1].exists() && s[len(s)-2].exists() {
				return RecordQuery{Stream: id, ID: record}, s
			}
		}
	}
	t.Fatalf("seed %d: no record with %d versions", w.seed, least)
	return RecordQuery{}, nil
}

// swapped answers with another record than the one asked for.
type swapped struct {
	record *follow.Record
	err    error
}

func (s swapped) Record(context.Context, int32, int64) (*follow.Record, error) {
	return s.record, s.err
}

func (w *world) checkRefusals(t *testing.T) {
	with := func(change func(*Config)) *Reader {
		c := w.cfg
		change(&c)
		return New(c)
	}
	q, states := w.some(t, 5)
	all := Query{Streams: stream.ID{Environment: "prod"}}

	_, err := with(func(c *Config) { c.RowsMax = 10 }).Overview(t.Context(), all)
	wantCode(t, err, errcode.ObservabilityTooMuch)
	_, err = w.Changes(t.Context(), Query{Streams: all.Streams, Since: 1, Until: TimeOf(w.now), Bucket: Minute})
	wantCode(t, err, errcode.ObservabilityTooMuch)
	_, err = with(func(c *Config) { c.Database = "nowhere" }).Health(t.Context(), Query{})
	wantCode(t, err, errcode.ObservabilityAway)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := w.Health(ctx, Query{}); !errors.Is(err, context.Canceled) {
		t.Errorf("%v of a client that has gone", err)
	}

	// Payloads that cannot be had, or are not those of the fact.
	h, err := w.History(t.Context(), q)
	must(t, err)
	newest, err := w.cfg.Payloads.Record(t.Context(), int32(h.Versions[0].Partition), int64(h.Versions[0].Offset))
	must(t, err)
	otherCSN, otherKey, pruned := *newest, *newest, *newest
	otherCSN.Meta.CSN++
	otherKey.Key = []byte(stream.RecordKey(q.Stream.Key(), q.ID+"x"))
	pruned.Meta.PayloadLength = 0
	for name, p := range map[string]Payloads{
		"nobody reads": nil,
		"gone":         swapped{err: &follow.PositionError{Offset: 1, Start: 2, End: 3}},
		"another csn":  swapped{record: &otherCSN},
		"another key":  swapped{record: &otherKey},
		"pruned":       swapped{record: &pruned},
	} {
		t.Run(name, func(t *testing.T) {
			r := with(func(c *Config) { c.Payloads = p })
			_, err := r.AsOf(t.Context(), q)
			wantCode(t, err, errcode.PayloadGone)
			d, err := r.Diff(t.Context(), q)
			must(t, err)
			last := states[len(states)-1]
			if d.Gone == nil || d.Gone.Code != errcode.PayloadGone || d.Gone.Hint == "" || d.Delta != nil || last.known && !slices.Equal(d.ChangedFields, last.fields) {
				t.Errorf("%+v", d)
			}
		})
	}
	broken := errcode.New(errcode.Unreachable, "")
	_, err = with(func(c *Config) { c.Payloads = swapped{err: broken} }).Diff(t.Context(), q)
	wantCode(t, err, errcode.Unreachable)

	// Where ids are hashed, that of the question is.
	hashing := with(func(c *Config) {
		c.HashID = func(environment, id string) string { return strings.TrimPrefix(id, environment+":") }
	})
	hashed := q
	hashed.ID = q.Stream.Environment + ":" + q.ID
	h, err = hashing.History(t.Context(), hashed)
	must(t, err)
	if len(h.Versions) != len(states) || h.RecordID != hashed.ID {
		t.Errorf("%d versions of a hashed id, want %d", len(h.Versions), len(states))
	}
}

// checkTrimmed removes the older half of each partition from the topic.
func (w *world) checkTrimmed(t *testing.T) {
	const half = 200 // csn
	adm := kadm.NewClient(w.kafka)
	cut := kadm.Offsets{}
	for _, h := range w.log {
		if h.csn == half {
			cut.Add(kadm.Offset{Topic: w.names.Changes, Partition: h.partition, At: h.offset})
		}
	}
	_, err := adm.DeleteRecords(t.Context(), cut)
	must(t, err)
	gone, there := 0, 0
	for _, id := range streams[:3] {
		for _, record := range recordIDs[:3] {
			states := w.states(id, record)
			if len(states) == 0 {
				continue
			}
			q := RecordQuery{Stream: id, ID: record, Limit: DeltasMax, Deltas: true}
			h, err := w.History(t.Context(), q)
			must(t, err)
			n := len(states) - 1
			lost := func(i int) bool { return i >= 0 && states[i].exists() && states[i].csn < half }
			for i := range h.Versions {
				v := &h.Versions[i]
				at := n - i
				if lost(at) || lost(at-1) {
					gone++
					if v.Delta != nil || v.Gone == nil || v.Gone.Code != errcode.PayloadGone {
						t.Errorf("seed %d: version %d of %q: %+v", w.seed, v.CSN, record, v.Gone)
					}
					if i%9 > 0 {
						continue
					}
					d, err := w.Diff(t.Context(), RecordQuery{Stream: id, ID: record, To: v.CSN})
					must(t, err)
					if d.Gone == nil || d.Delta != nil || states[at].known && !slices.Equal(d.ChangedFields, states[at].fields) {
						t.Errorf("seed %d: version %d of %q: %+v", w.seed, v.CSN, record, d)
					}
					continue
				}
				there++
				if v.Delta == nil || v.Gone != nil {
					t.Errorf("seed %d: version %d of %q: %+v", w.seed, v.CSN, record, v.Gone)
				}
			}
			for i, s := range states {
				if i%17 > 0 {
					continue
				}
				got, err := w.AsOf(t.Context(), RecordQuery{Stream: id, ID: record, CSN: s.csn})
				if lost(i) {
					wantCode(t, err, errcode.PayloadGone)
				} else if err != nil || string(got.Record) != s.payload {
					t.Errorf("seed %d: as of %d: %s, %v", w.seed, s.csn, got.Record, err)
				}
			}
		}
	}
	if gone < 20 || there < 20 {
		t.Errorf("seed %d: %d versions gone, %d there", w.seed, gone, there)
	}
}

// checkExpired removes the older half of the facts, as their retention does.
func (w *world) checkExpired(t *testing.T) {
	const half = 200 // csn
	must(t, w.cfg.Conn.Exec(t.Context(), fmt.Sprintf("ALTER TABLE tidemark.changes_g1 DELETE WHERE csn < %d SETTINGS mutations_sync = 2", half)))
	checked := 0
	for _, id := range streams[:3] {
		for _, record := range recordIDs[:3] {
			states := w.states(id, record)
			first := slices.IndexFunc(states, func(s state) bool { return s.csn >= half && s.action != "cleared" && s.action != "purged" })
			if first < 1 {
				continue
			}
			checked++
			q := RecordQuery{Stream: id, ID: record}
			h, err := w.History(t.Context(), q)
			must(t, err)
			oldest := h.Versions[len(h.Versions)-1]
			if born := states[first].action == "added" && oldest.Revision == 1; oldest.CSN != states[first].csn || h.Complete != born {
				t.Errorf("seed %d: the oldest version of %q is %d (complete %v), want %d", w.seed, record, oldest.CSN, h.Complete, states[first].csn)
			}
			if oldest.Revision == 1 && oldest.Action == "added" {
				continue // as if it had not been there before
			}
			q.At = oldest.At - 1
			_, err = w.AsOf(t.Context(), q)
			wantCode(t, err, errcode.HistoryExpired)
			q.At, q.To = 0, oldest.CSN-1
			_, err = w.Diff(t.Context(), q)
			wantCode(t, err, errcode.HistoryExpired)
			q.To = oldest.CSN
			d, err := w.Diff(t.Context(), q)
			must(t, err)
			if unknown := oldest.Action != "added"; unknown != (d.Gone != nil && d.Gone.Code == errcode.HistoryExpired) {
				t.Errorf("seed %d: before %s %d: %+v", w.seed, oldest.Action, oldest.CSN, d.Gone)
			}
		}
	}
	if checked < 5 {
		t.Errorf("seed %d: only %d records", w.seed, checked)
	}
}

func TestAnswers_WithoutAServer(t *testing.T) {
	w := makeWorld(t)
	must(t, w.store.Close())
	start := time.Now()
	_, err := w.Health(t.Context(), Query{})
	wantCode(t, err, errcode.ObservabilityAway)
	if took := time.Since(start); took > 15*time.Second {
		t.Errorf("it took %v", took)
	}
}
