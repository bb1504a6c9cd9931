package observe

import (
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2"
	"github.com/goccy/go-yaml"

	"github.com/tidemark-dev/tidemark/projections/fold"
	"github.com/tidemark-dev/tidemark/schemas/event"
	"github.com/tidemark-dev/tidemark/schemas/stream"
)

// equal compares what was answered with what should have been.
func equal(t *testing.T, w *world, what string, got, want any) {
	t.Helper()
	if reflect.DeepEqual(got, want) {
		return
	}
	a, _ := json.MarshalIndent(got, "", " ")
	b, _ := json.MarshalIndent(want, "", " ")
	x, y := strings.Split(string(a), "\n"), strings.Split(string(b), "\n")
	for i := range max(len(x), len(y)) {
		if i >= len(x) || i >= len(y) || x[i] != y[i] {
			from, to := max(0, i-12), i+4
			t.Errorf("seed %d, %s: from line %d on\ngot\n%s\nwant\n%s", w.seed, what, i, strings.Join(x[min(from, len(x)):min(to, len(x))], "\n"), strings.Join(y[min(from, len(y)):min(to, len(y))], "\n"))
			return
		}
	}
	t.Errorf("seed %d, %s: got %+v, want %+v", w.seed, what, got, want)
}

func matches(filter, id stream.ID) bool {
	f := func(want, have string) bool { return want == "" || want == have }
	return f(filter.Environment, id.Environment) && f(filter.Integration, id.Integration) && f(filter.Connection, id.Connection) &&
		f(filter.Model, id.Model) && f(filter.Variant, id.Variant)
}

// of are the records of the log that a query is about.
func (w *world) of(q Query, until Time, keep func(*happened) bool) (out []*happened) {
	for _, h := range w.log {
		if matches(q.Streams, h.id) && h.at >= q.Since && h.at < until && keep(h) {
			out = append(out, h)
		}
	}
	return out
}

// byStream groups records, in the order of names.
func byStream(log []*happened) (ids []stream.ID, of map[stream.ID][]*happened) {
	of = map[stream.ID][]*happened{}
	for _, h := range log {
		if of[h.id] == nil {
			ids = append(ids, h.id)
		}
		of[h.id] = append(of[h.id], h)
	}
	slices.SortFunc(ids, compareIDs)
	return ids, of
}

func compareIDs(a, b stream.ID) int {
	return cmp.Or(cmp.Compare(a.Environment, b.Environment), cmp.Compare(a.Integration, b.Integration), cmp.Compare(a.Connection, b.Connection),
		cmp.Compare(a.Model, b.Model), cmp.Compare(a.Variant, b.Variant))
}

func isRunEnd(h *happened) bool { return h.op == event.OpRunCompleted || h.op == event.OpRunFailed }

// tally is what sums of records should be.
func tally(log []*happened) (c Counts, lags histogram) {
	for _, h := range log {
		switch h.op {
		case event.OpAdded:
			c.Added++
		case event.OpUpdated:
			c.Updated++
		case event.OpDeleted:
			c.Deleted++
		case event.OpRestored:
			c.Restored++
		case event.OpRunFailed:
			c.RunsFailed++
		}
		if isRunEnd(h) {
			c.Runs++
			c.Unchanged += h.control.Counts.Unchanged
		}
		if h.fact() {
			c.BytesWritten += uint64(len(h.payload))
		}
		if h.fact() && h.lag >= 0 {
			slot := 0
			for slot < len(fold.LagBounds) && h.lag > int64(fold.LagBounds[slot]) {
				slot++
			}
			lags.counts[slot]++
			lags.sum += uint64(h.lag)
			lags.max = max(lags.max, uint32(h.lag))
		}
	}
	c.Changes = c.Added + c.Updated + c.Deleted
	return c, lags
}

func everything(*happened) bool { return true }

// queries are about all kinds of streams and times.
func (w *world) queries(r *rand.Rand) (out []Query) {
	now := TimeOf(w.now)
	for _, id := range []stream.ID{
		{Environment: "prod"}, {Environment: "prod", Integration: "crm"}, {Environment: "prod", Connection: "acme"},
		{Environment: "prod", Variant: "eu"}, {Environment: "prod", Model: "Contact"}, {Environment: "dev"}, streams[2], streams[5],
		{Environment: "it's"},
	} {
		from := now - 31*Hour.Width() + Time(r.Int64N(int64(30*Hour.Width())))
		out = append(out, Query{Streams: id, Since: from, Until: from + 1 + Time(r.Int64N(int64(10*Hour.Width()))), Limit: 1 + r.IntN(5)})
	}
	return append(out, Query{Streams: stream.ID{Environment: "prod"}}, Query{Streams: stream.ID{Environment: "prod"}, Since: now - 40*Hour.Width(), Until: now + 1, Limit: LimitMax})
}

func TestAnswers_EqualTheReference(t *testing.T) {
	w := makeWorld(t)
	r := rand.New(rand.NewPCG(w.seed, 2))
	for i, q := range w.queries(r) {
		t.Run(fmt.Sprint(i), func(t *testing.T) {
			w.checkChanges(t, r, q)
			w.checkStreams(t, r, q)
			w.checkRuns(t, r, q)
			w.checkFields(t, q)
			w.checkSpurious(t, q)
			w.checkHot(t, q)
			w.checkSizes(t, q)
			w.checkTimeline(t, q)
		})
	}
	t.Run("health", w.checkHealth)
	t.Run("percentiles", w.checkPercentiles)
	t.Run("history", func(t *testing.T) { w.checkHistories(t, r) })
	t.Run("refusals", w.checkRefusals)
	t.Run("trimmed", w.checkTrimmed) // from here on the world is not what it was
	t.Run("expired", w.checkExpired)
}

// cut applies the limit of a query.
func cut[T any](q Query, all []T) ([]T, bool) {
	if all == nil {
		all = []T{}
	}
	if len(all) > q.Limit {
		return all[:q.Limit], true
	}
	return all, false
}

func (w *world) checkChanges(t *testing.T, r *rand.Rand, q Query) {
	t.Helper()
	q.Bucket = Buckets[r.IntN(2)+1]
	if r.IntN(3) == 0 {
		q.Bucket = Minute
		q.Until = TimeOf(w.now)
		q.Since = q.Until - 20*Hour.Width()
	}
	got, err := w.Changes(t.Context(), q)
	must(t, err)
	q = q.WithDefaults(w.now)
	width := q.Bucket.Width()
	want := &Changes{Since: q.Since / width * width, Bucket: q.Bucket}
	var all []*happened
	for want.Until = want.Since; want.Until < q.Until; want.Until += width {
		in := w.of(Query{Streams: q.Streams, Since: want.Until}, want.Until+width, everything)
		c, lags := tally(in)
		all = append(all, in...)
		want.Buckets = append(want.Buckets, ChangeBucket{At: want.Until, Counts: c, LagMS: lags.percentiles()})
	}
	total, lags := tally(all)
	want.Total, want.LagMS = total, lags.percentiles()
	equal(t, w, "changes", got, want)

	lag, err := w.Lag(t.Context(), q)
	must(t, err)
	equal(t, w, "lag of decisions", lag.DecisionMS, want.LagMS)
	fresh, never := w.freshness(q.Streams)
	equal(t, w, "freshness", lag.FreshnessSeconds, fresh)
	seconds := int64(90)
	equal(t, w, "components", lag.Components, []ComponentLag{
		{Component: "processor", Partition: 1, SampledAt: TimeOf(w.now)},
		{Component: "projector", Generation: 1, SampledAt: TimeOf(w.now), Records: 10, MS: 1500, SecondsToLoss: &seconds},
	})
	if lag.Never != never {
		t.Errorf("%d never synced, want %d", lag.Never, never)
	}

	o, err := w.Overview(t.Context(), Query{Streams: q.Streams})
	must(t, err)
	hour := TimeOf(w.now) / Hour.Width() * Hour.Width()
	day, lags := tally(w.of(Query{Streams: q.Streams, Since: hour - 24*Hour.Width()}, TimeOf(w.now)+1, everything))
	equal(t, w, "the last day", o.LastDay, day)
	equal(t, w, "its lag", o.LagMS, lags.percentiles())
	equal(t, w, "overview's freshness", o.Freshness, fresh)
	var hours uint64
	for _, n := range o.Hours {
		hours += n
	}
	if len(o.Hours) != 25 || hours != day.Changes {
		t.Errorf("%d changes in %d hours, want %d", hours, len(o.Hours), day.Changes)
	}
	list, _ := w.standing(q.Streams)
	stands := Overview{Streams: q.Streams, At: TimeOf(w.now), RunStatus: map[string]uint64{}}
	integrations, connections := map[string]bool{}, map[[2]string]bool{}
	for _, s := range list {
		integrations[s.ID.Integration] = true
		connections[[2]string{s.ID.Integration, s.ID.Connection}] = true
		stands.StreamCount++
		stands.Records += s.Records
		if s.Failures > 0 {
			stands.Failing++
		}
		if s.LastSuccess == 0 {
			stands.Never++
		}
		if s.LastRun != nil {
			stands.RunStatus[s.LastRun.Status]++
		} else {
			stands.RunStatus["none"]++
		}
	}
	stands.Integrations, stands.Connections = uint64(len(integrations)), uint64(len(connections))
	o.LastDay, o.LagMS, o.Freshness, o.Hours = Counts{}, Percentiles{}, Percentiles{}, nil
	if o.Projections.Generation != 1 || !o.Projections.Serving || o.Projections.CSNs != uint64(len(w.log)) {
		t.Errorf("%+v", o.Projections)
	}
	o.Projections = Generation{}
	equal(t, w, "overview", *o, stands)
}

// standing are the streams as they are, in the order of names, and their live records.
func (w *world) standing(filter stream.ID) (out []Stream, total uint64) {
	hour := TimeOf(w.now) / Hour.Width() * Hour.Width()
	ids, of := byStream(w.of(Query{Streams: filter, Since: math.MinInt64}, math.MaxInt64, everything))
	for _, id := range ids {
		s := Stream{ID: id, Hours: make([]uint64, 25), Partition: uint16(of[id][0].partition)}
		live := map[string]bool{}
		var failed []Time
		for _, h := range of[id] {
			switch {
			case h.fact():
				s.LastChangeAt = h.at
				live[h.record] = h.live
				if h.change() {
					s.ChangesTotal++
					if since := h.at - (hour - 24*Hour.Width()); since >= 0 {
						s.Hours[since/Hour.Width()]++
						s.ChangesDay++
					}
				}
			case h.op == event.OpPurged || h.op == event.OpCleared && h.control.Mode == event.ClearHard:
				clear(live)
			case h.op == event.OpRunStarted:
				s.LastRun = &LastRun{Run: h.run, Sync: h.control.Sync, Status: "running", StartedAt: h.at}
			case isRunEnd(h):
				ms := int64(h.at - s.LastRun.StartedAt)
				s.LastRun.Status, s.LastRun.Reason, s.LastRun.EndedAt, s.LastRun.DurationMS = string(h.control.Outcome), h.control.Reason, h.at, &ms
				if h.op == event.OpRunFailed {
					failed = append(failed, h.at)
				} else {
					s.LastSuccess = h.at
				}
			}
		}
		for _, at := range failed {
			if at > s.LastSuccess {
				s.Failures++
			}
		}
		for _, there := range live {
			if there {
				s.Records++
			}
		}
		if s.LastSuccess > 0 {
			seconds := int64(TimeOf(w.now)-s.LastSuccess) / 1000
			s.FreshnessSeconds = &seconds
		}
		total += s.Records
		out = append(out, s)
	}
	return out, total
}

func (w *world) freshness(filter stream.ID) (p Percentiles, never uint64) {
	list, _ := w.standing(filter)
	var ages []float64
	for _, s := range list {
		if s.FreshnessSeconds == nil {
			never++
			continue
		}
		ages = append(ages, float64(*s.FreshnessSeconds))
		p.Avg += float64(*s.FreshnessSeconds)
	}
	slices.Sort(ages)
	if n := len(ages); n > 0 {
		at := func(q float64) float64 { return ages[int(q*float64(n))] }
		p.Count, p.Avg, p.P50, p.P95, p.P99, p.Max = uint64(n), p.Avg/float64(n), at(0.5), at(0.95), at(0.99), ages[n-1]
	}
	return p, never
}

func (w *world) checkStreams(t *testing.T, r *rand.Rand, q Query) {
	t.Helper()
	for _, order := range []Order{ByActivity, Orders[r.IntN(len(Orders))]} {
		q.Order = order
		got, err := w.Streams(t.Context(), q)
		must(t, err)
		d := q.WithDefaults(w.now)
		list, total := w.standing(q.Streams)
		slices.SortStableFunc(list, func(a, b Stream) int {
			switch order {
			case ByActivity:
				return cmp.Compare(b.ChangesDay, a.ChangesDay)
			case ByRecords:
				return cmp.Compare(b.Records, a.Records)
			case ByStale:
				return cmp.Compare(a.LastSuccess, b.LastSuccess)
			}
			return 0
		})
		want := &Streams{At: TimeOf(w.now), Total: uint64(len(list)), Records: total}
		want.Streams, want.More = cut(d, list)
		equal(t, w, "streams by "+string(order), got, want)
	}
}

func (w *world) checkRuns(t *testing.T, r *rand.Rand, q Query) {
	t.Helper()
	if r.IntN(3) == 0 {
		q.Status = RunStatuses[r.IntN(len(RunStatuses))]
	}
	got, err := w.Runs(t.Context(), q)
	must(t, err)
	q = q.WithDefaults(w.now)
	var list []Run
	ids, of := byStream(w.of(Query{Streams: q.Streams, Since: math.MinInt64}, math.MaxInt64, func(h *happened) bool { return h.control != nil && h.run > 0 }))
	for _, id := range ids {
		for _, h := range of[id] {
			if h.op == event.OpRunStarted {
				list = append(list, Run{ID: id, Run: h.run, Sync: h.control.Sync, Status: "running", StartedAt: h.at, TracksDeletes: true, CSN: h.csn})
				continue
			}
			run, c := &list[len(list)-1], h.control.Counts
			ms := int64(h.at - run.StartedAt)
			run.Status, run.EndedAt, run.DurationMS, run.CSN, run.ToDelete = string(h.control.Outcome), h.at, &ms, h.csn, h.control.ToDelete
			run.Reason, run.Detail = h.control.Reason, h.control.Detail
			run.Added, run.Updated, run.Unchanged, run.Skipped, run.DeadLettered = c.Added, c.Updated, c.Unchanged, c.Skipped, c.DeadLettered
			run.Received = c.Added + c.Updated + c.Unchanged + c.Skipped + c.DeadLettered
		}
	}
	list = slices.DeleteFunc(list, func(run Run) bool {
		return run.StartedAt < q.Since || run.StartedAt >= q.Until || q.Status != "" && run.Status != q.Status
	})
	slices.SortFunc(list, func(a, b Run) int {
		return cmp.Or(cmp.Compare(b.StartedAt, a.StartedAt), compareIDs(a.ID, b.ID), cmp.Compare(b.Run, a.Run))
	})
	want := &Runs{Since: q.Since, Until: q.Until}
	want.Runs, want.More = cut(q, list)
	equal(t, w, "runs", got, want)
}

func (w *world) knownUpdates(q Query) []*happened {
	return w.of(q, q.Until, func(h *happened) bool { return h.op == event.OpUpdated && h.known })
}

func (w *world) checkFields(t *testing.T, q Query) {
	t.Helper()
	got, err := w.FieldChanges(t.Context(), q)
	must(t, err)
	q = q.WithDefaults(w.now)
	var list []Field
	ids, of := byStream(w.knownUpdates(q))
	for _, id := range ids {
		fields := map[string]*Field{}
		for _, h := range of[id] {
			for _, name := range h.fields {
				f := fields[name]
				if f == nil {
					f = &Field{ID: id, Field: name, Pointer: "/" + strings.ReplaceAll(strings.ReplaceAll(name, "~", "~0"), "/", "~1")}
					fields[name] = f
				}
				f.Updates++
				if len(h.fields) == 1 {
					f.Alone++
				}
				f.LastAt = h.at
			}
		}
		for _, f := range fields {
			f.UpdatesTotal = uint64(len(of[id]))
			f.Share, f.ShareAlone = float64(f.Updates)/float64(f.UpdatesTotal), float64(f.Alone)/float64(f.UpdatesTotal)
			list = append(list, *f)
		}
	}
	slices.SortFunc(list, func(a, b Field) int {
		return cmp.Or(cmp.Compare(b.Updates, a.Updates), compareIDs(a.ID, b.ID), cmp.Compare(a.Field, b.Field))
	})
	want := &FieldChanges{Since: q.Since, Until: q.Until}
	want.Fields, want.More = cut(q, list)
	equal(t, w, "fields", got, want)
}

// checkSpurious counts by field, and then what touched nothing but the fields of most updates.
func (w *world) checkSpurious(t *testing.T, q Query) {
	t.Helper()
	got, err := w.Spurious(t.Context(), q)
	must(t, err)
	q = q.WithDefaults(w.now)
	var list []Finding
	ids, of := byStream(w.knownUpdates(q))
	for _, id := range ids {
		touched := map[string]int{}
		for _, h := range of[id] {
			for _, name := range h.fields {
				touched[name]++
			}
		}
		f := Finding{ID: id, Updates: uint64(len(of[id]))}
		for _, name := range slices.Sorted(maps.Keys(touched)) {
			if 2*touched[name] >= len(of[id]) {
				f.Fields = append(f.Fields, name)
			}
		}
		slices.SortStableFunc(f.Fields, func(a, b string) int { return cmp.Compare(touched[b], touched[a]) })
		if len(f.Fields) > 5 {
			f.Fields = f.Fields[:5]
		}
		records := map[string]bool{}
		for _, h := range of[id] {
			if len(h.fields) > 0 && !slices.ContainsFunc(h.fields, func(name string) bool { return !slices.Contains(f.Fields, name) }) {
				f.Spurious++
				records[h.record] = true
			}
		}
		if f.Share = float64(f.Spurious) / float64(f.Updates); f.Share >= 0.5 && f.Spurious >= uint64(3*len(records)) {
			list = append(list, f)
		}
	}
	slices.SortFunc(list, func(a, b Finding) int { return cmp.Or(cmp.Compare(b.Spurious, a.Spurious), compareIDs(a.ID, b.ID)) })
	list, more := cut(q, list)
	rules := map[[3]string][]string{}
	for i := range list {
		f := &list[i]
		var pointers []string
		for _, name := range f.Fields {
			pointers = append(pointers, "/"+strings.ReplaceAll(strings.ReplaceAll(name, "~", "~0"), "/", "~1"))
		}
		f.Finding = fmt.Sprintf("%d %% of %d updates touched only %s", 100*f.Spurious/f.Updates, f.Updates, strings.Join(pointers, ", "))
		f.Ignore = slices.DeleteFunc(pointers, func(p string) bool { return p == "/*" })
		key := [3]string{f.ID.Environment, f.ID.Integration, f.ID.Model}
		rules[key] = append(rules[key], f.Ignore...)
	}
	models := got.Models
	got.Models = ""
	equal(t, w, "spurious", got, &Spurious{Since: q.Since, Until: q.Until, Findings: list, More: more})
	if (models == "") != (len(rules) == 0) {
		t.Errorf("models file for %d rules: %q", len(rules), models)
	}
	w.checkModels(t, models, rules)
}

func (w *world) checkHot(t *testing.T, q Query) {
	t.Helper()
	got, err := w.HotRecords(t.Context(), q)
	must(t, err)
	q = q.WithDefaults(w.now)
	var list []HotRecord
	ids, of := byStream(w.of(q, q.Until, (*happened).fact))
	for _, id := range ids {
		records := map[string]*HotRecord{}
		for _, h := range of[id] {
			r := records[h.record]
			if r == nil {
				r = &HotRecord{ID: id, RecordID: h.record, FirstAt: h.at}
				records[h.record] = r
			}
			if h.change() {
				r.Changes++
			}
			if h.op == event.OpUpdated {
				r.Updated++
			}
			r.LastAt, r.PayloadBytes = h.at, uint32(len(h.payload))
		}
		for _, r := range records {
			if r.Changes > 1 {
				list = append(list, *r)
			}
		}
	}
	slices.SortFunc(list, func(a, b HotRecord) int {
		return cmp.Or(cmp.Compare(b.Changes, a.Changes), compareIDs(a.ID, b.ID), cmp.Compare(a.RecordID, b.RecordID))
	})
	want := &HotRecords{Since: q.Since, Until: q.Until}
	want.Records, want.More = cut(q, list)
	equal(t, w, "hot records", got, want)

	for { // the view has a clock of its own: try again when an hour ends meanwhile
		hour := TimeOf(time.Now()).floor(Hour)
		got, err := w.HotStreams(t.Context(), q)
		must(t, err)
		if TimeOf(time.Now()).floor(Hour) != hour {
			continue
		}
		var list []HotStream
		ids, of := byStream(w.of(Query{Streams: q.Streams, Since: hour - 168*Hour.Width()}, math.MaxInt64, func(h *happened) bool { return h.fact() || isRunEnd(h) }))
		for _, id := range ids {
			s := HotStream{ID: id}
			for _, h := range of[id] {
				recent := h.at >= hour-24*Hour.Width()
				switch {
				case h.change() && h.at >= hour-Hour.Width():
					s.Changes1h++
					fallthrough
				case h.change() && recent:
					s.Changes24h++
					fallthrough
				case h.change():
					s.Changes7d++
				}
				if recent && h.fact() {
					s.Bytes24h += uint64(len(h.payload))
				}
				if recent && isRunEnd(h) {
					s.Unchanged24h += h.control.Counts.Unchanged
				}
				if h.fact() {
					s.LastChangeAt = h.at
				}
			}
			list = append(list, s)
		}
		slices.SortFunc(list, func(a, b HotStream) int {
			return cmp.Or(cmp.Compare(b.Changes24h, a.Changes24h), cmp.Compare(b.Changes7d, a.Changes7d), compareIDs(a.ID, b.ID))
		})
		want := &HotStreams{At: TimeOf(w.now)}
		want.Streams, want.More = cut(q, list)
		equal(t, w, "hot streams", got, want)
		return
	}
}

func (w *world) checkSizes(t *testing.T, q Query) {
	t.Helper()
	got, err := w.PayloadSizes(t.Context(), q)
	must(t, err)
	q = q.WithDefaults(w.now)
	q.Since, q.Until = q.Since/Day.Width()*Day.Width(), (q.Until+Day.Width()-1)/Day.Width()*Day.Width()
	add := func(s *Sizes, h *happened) {
		if h.fact() {
			s.Changes++
			s.Bytes += uint64(len(h.payload))
			s.Max = max(s.Max, uint32(len(h.payload)))
			s.Avg = float64(s.Bytes) / float64(s.Changes)
		}
	}
	want := &PayloadSizes{Since: q.Since, Until: q.Until, Days: []DaySizes{}}
	days := map[Time]*DaySizes{}
	in := w.of(q, q.Until, func(h *happened) bool { return h.fact() || isRunEnd(h) })
	ids, of := byStream(in)
	var list []StreamSizes
	for _, id := range ids {
		s := StreamSizes{ID: id}
		for _, h := range of[id] {
			add(&s.Sizes, h)
			add(&want.Total, h)
			at := h.at / Day.Width() * Day.Width()
			if days[at] == nil {
				days[at] = &DaySizes{At: at}
			}
			add(&days[at].Sizes, h)
		}
		list = append(list, s)
	}
	for _, d := range days {
		want.Days = append(want.Days, *d)
	}
	slices.SortFunc(want.Days, func(a, b DaySizes) int { return cmp.Compare(a.At, b.At) })
	slices.SortFunc(list, func(a, b StreamSizes) int { return cmp.Or(cmp.Compare(b.Bytes, a.Bytes), compareIDs(a.ID, b.ID)) })
	want.Streams, want.More = cut(q, list)
	equal(t, w, "payload sizes", got, want)
}

func (w *world) checkTimeline(t *testing.T, q Query) {
	t.Helper()
	got, err := w.Timeline(t.Context(), q)
	must(t, err)
	q = q.WithDefaults(w.now)
	var list []Event
	for _, h := range w.of(q, q.Until, func(h *happened) bool { return h.control != nil }) {
		c := h.control
		e := Event{
			ID: h.id, At: h.at, Op: h.op.String(), Run: c.Run, Sync: c.Sync, Outcome: string(c.Outcome), Reason: c.Reason, Detail: c.Detail, Mode: c.Mode,
			Records: c.Records, ToDelete: c.ToDelete, Partition: uint16(h.partition), CSN: h.csn, Offset: uint64(h.offset),
		}
		if c.Counts != nil {
			e.Added, e.Updated, e.Unchanged = c.Counts.Added, c.Counts.Updated, c.Counts.Unchanged
		}
		list = append(list, e)
	}
	slices.SortFunc(list, func(a, b Event) int {
		return cmp.Or(cmp.Compare(b.At, a.At), cmp.Compare(a.Partition, b.Partition), cmp.Compare(b.CSN, a.CSN))
	})
	want := &Timeline{Since: q.Since, Until: q.Until}
	want.Events, want.More = cut(q, list)
	equal(t, w, "timeline", got, want)
}

func (w *world) checkHealth(t *testing.T) {
	got, err := w.Health(t.Context(), Query{})
	must(t, err)
	seconds := int64(90)
	equal(t, w, "health", got, &Health{At: TimeOf(w.now), Generations: []Generation{{
		Generation: 1, Serving: true, Partitions: partitions, CSNs: uint64(len(w.log)), StoredAt: TimeOf(w.now), OldestStoredAt: TimeOf(w.now),
		LagRecords: 10, LagMS: 1500, SecondsToLoss: &seconds,
	}}})
}

// checkPercentiles compares with those that the views compute themselves.
func (w *world) checkPercentiles(t *testing.T) {
	q := Query{Streams: streams[0], Bucket: Hour}
	got, err := w.Changes(t.Context(), q)
	must(t, err)
	rows, err := w.cfg.Conn.Query(clickhouse.Context(t.Context()), "SELECT bucket, lag_p50_ms, lag_p95_ms, lag_p99_ms, lag_avg_ms FROM tidemark.v1_changes_hourly WHERE environment = 'prod' AND integration = 'crm' AND connection = 'acme' AND model = 'Contact' AND lag_count > 0")
	must(t, err)
	compared := 0
	for rows.Next() {
		var at time.Time
		var p50, p95, p99, avg *float64
		must(t, rows.Scan(&at, &p50, &p95, &p99, &avg))
		for _, b := range got.Buckets {
			if b.At != TimeOf(at) {
				continue
			}
			compared++
			for i, pair := range [][2]float64{{b.LagMS.P50, *p50}, {b.LagMS.P95, *p95}, {b.LagMS.P99, *p99}, {b.LagMS.Avg, *avg}} {
				if math.Abs(pair[0]-pair[1]) > 1e-6*pair[1] {
					t.Errorf("seed %d, %s, number %d: %v, the view says %v", w.seed, b.At, i, pair[0], pair[1])
				}
			}
		}
	}
	must(t, rows.Err())
	if compared < 10 {
		t.Errorf("only %d buckets", compared)
	}
}

// checkModels reads the models file back. That deploy/stack does is another test's.
func (w *world) checkModels(t *testing.T, text string, rules map[[3]string][]string) {
	t.Helper()
	var file struct{ Models []modelRule }
	must(t, yaml.Unmarshal([]byte(text), &file))
	got := map[[3]string][]string{}
	for _, m := range file.Models {
		slices.Sort(m.Ignore)
		got[[3]string{m.Environment, m.Integration, m.Model}] = m.Ignore
	}
	for key, want := range rules {
		slices.Sort(want)
		rules[key] = slices.Compact(want)
	}
	equal(t, w, "models file", fmt.Sprint(got), fmt.Sprint(rules))
}
