package warehouse

import (
	"cmp"
	"encoding/hex"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/tidemark-dev/tidemark/projections/fold"
	"github.com/tidemark-dev/tidemark/schemas/event"
	"github.com/tidemark-dev/tidemark/schemas/stream"
)

// expectation is a query of a view, and the rows that it should have by the log alone.
type expectation struct {
	sql        string
	want       []string
	mayBeEmpty bool
}

// tab is a line of text of values; times are ms.
func tab(values ...any) string {
	var out []string
	for _, v := range values {
		switch v := v.(type) {
		case *stream.ID:
			out = append(out, v.Environment, v.Integration, v.Connection, v.Model, v.Variant)
		case float64:
			out = append(out, fmt.Sprintf("%.0f", math.RoundToEven(v*1000)))
		case nil:
			out = append(out, `\N`)
		default:
			out = append(out, fmt.Sprint(v))
		}
	}
	return strings.Join(out, "\t")
}

const (
	msOf    = "toUnixTimestamp64Milli"
	exactly = "environment, integration, connection, model, variant"
)

func (l *madeLog) expectations(now time.Time) []expectation {
	out := []expectation{l.changes(), l.recordCounts(), l.runs(), l.timeline(), l.streamsView(), l.payloadSizes(), l.hotStreams(now)}
	for i, view := range []string{"changes_per_minute", "changes_hourly", "changes_daily"} {
		out = append(out, l.buckets(fold.Level(i), view))
	}
	out = append(out, l.dims()...)
	out = append(out, l.histories()...)
	for _, env := range []string{"prod", "dev's"} {
		out = append(out, l.fields(env), l.spurious(env), l.hotRecords(env))
	}
	return out
}

func (l *madeLog) changes() expectation {
	e := expectation{sql: `SELECT ` + exactly + `, hex(record_id), action, ` + msOf + `(changed_at), revision, run, hex(toString(changed_fields)), changed_count,
toUInt8(fields_known), toUInt8(fields_truncated), payload_bytes, fingerprint, lag_ms, change_id, kpart, csn, koffset, term FROM @changes`}
	for _, rec := range l.records {
		f := rec.fact
		if f == nil {
			continue
		}
		var lag any
		if f.Flags&fold.FlagReceived != 0 {
			lag = f.LagMS
		}
		e.want = append(e.want, tab(f.Stream, hexOf(f.RecordID), actionName(f.Action), f.ChangedAt, f.Revision, f.Run, hexOf(spelled(f.ChangedFields)),
			f.ChangedCount, bit(f.Flags&fold.FlagFieldsKnown), bit(f.Flags&fold.FlagFieldsTruncated), f.PayloadBytes, f.Fingerprint, lag,
			fmt.Sprintf("%d:%d", f.Partition, f.CSN), f.Partition, f.CSN, f.Offset, f.Term))
	}
	return e
}

// spelled is how ClickHouse spells an array of strings.
func spelled(list []string) string {
	quote := strings.NewReplacer(`\`, `\\`, "'", `\'`, "\t", `\t`, "\n", `\n`, "\x00", `\0`)
	var out []string
	for _, s := range list {
		out = append(out, "'"+quote.Replace(s)+"'")
	}
	return "[" + strings.Join(out, ",") + "]"
}

func hexOf(s string) string { return strings.ToUpper(hex.EncodeToString([]byte(s))) }

func actionName(a fold.Action) string {
	return [...]string{"", "added", "updated", "deleted", "restored"}[a]
}

func bit(f fold.Flags) int {
	if f != 0 {
		return 1
	}
	return 0
}

// totals are what is known of each stream.
type totals struct {
	state                             fold.State
	added, updated, deleted, restored uint64
	last                              int64
	lastRun                           *runSeen
	success                           int64
	failures                          int
}

type runSeen struct {
	stream               *stream.ID
	run                  uint64
	sync, status, reason string
	started, ended       int64
	counts               event.RunCounts
	tracks               bool
	toDelete             uint64
	csn                  uint64
}

func (l *madeLog) runsSeen() []*runSeen {
	type key struct {
		s   *stream.ID
		run uint64
	}
	seen := make(map[key]*runSeen)
	var out []*runSeen
	for _, rec := range l.records {
		e := rec.event
		if e == nil || e.Run == 0 {
			continue
		}
		k := key{e.Stream, e.Run}
		s := seen[k]
		if s == nil {
			s = &runSeen{stream: e.Stream, run: e.Run, status: "running"}
			seen[k] = s
			out = append(out, s)
		}
		s.csn, s.sync, s.tracks = e.CSN, cmp.Or(s.sync, e.Sync), s.tracks || e.Tracks
		if e.Op == event.OpRunStarted {
			s.started = max(s.started, e.At)
		} else {
			s.ended, s.counts, s.status, s.reason, s.toDelete = e.At, e.Counts, e.Outcome, e.Reason, e.ToDelete
		}
		s.started = max(s.started, e.StartedAt)
	}
	return out
}

func (l *madeLog) totals() map[*stream.ID]*totals {
	out := make(map[*stream.ID]*totals)
	of := func(s *stream.ID) *totals {
		if out[s] == nil {
			out[s] = &totals{}
		}
		return out[s]
	}
	for _, rec := range l.records {
		if rec.state != nil {
			of(rec.state.Stream).state = *rec.state
		}
		if f := rec.fact; f != nil {
			s := of(f.Stream)
			*[]*uint64{&s.added, &s.updated, &s.deleted, &s.restored}[f.Action-1] += 1
			s.last = f.ChangedAt
		}
	}
	for _, run := range l.runsSeen() {
		s := of(run.stream)
		s.lastRun = run
		switch run.status {
		case "completed", "sweeping", "held":
			s.success, s.failures = run.ended, 0
		case "failed", "interrupted":
			if run.ended > s.success {
				s.failures++
			}
		}
	}
	return out
}

func (l *madeLog) recordCounts() expectation {
	e := expectation{sql: "SELECT " + exactly + ", records, digest, csn, " + msOf + "(counted_at), added_total, updated_total, deleted_total, restored_total, " +
		msOf + "(last_change_at) FROM @record_counts"}
	for id, s := range l.totals() {
		e.want = append(e.want, tab(id, s.state.Live, hex.EncodeToString(s.state.Digest[:]), s.state.CSN, s.state.At, s.added, s.updated, s.deleted, s.restored, s.last))
	}
	return e
}

func (l *madeLog) streamsView() expectation {
	e := expectation{sql: "SELECT " + exactly + ", records, digest, " + msOf + "(last_change_at), changes_total, last_run, last_run_sync, last_run_status, last_run_reason, " +
		msOf + "(last_run_started_at), " + msOf + "(last_run_ended_at), " + msOf + "(last_success_at), freshness_seconds IS NULL, failures_since_success FROM @streams"}
	for id, s := range l.totals() {
		run := s.lastRun
		if run == nil {
			run = &runSeen{}
		}
		noSuccess := 0
		if s.success == 0 {
			noSuccess = 1
		}
		e.want = append(e.want, tab(id, s.state.Live, hex.EncodeToString(s.state.Digest[:]), s.last, s.added+s.updated+s.deleted, run.run, run.sync, run.status, run.reason,
			orNull(run.started), orNull(run.ended), orNull(s.success), noSuccess, s.failures))
	}
	return e
}

func orNull(ms int64) any {
	if ms == 0 {
		return nil
	}
	return ms
}

func (l *madeLog) runs() expectation {
	e := expectation{sql: "SELECT " + exactly + ", run, sync, status, " + msOf + "(started_at), " + msOf + `(ended_at), duration_ms, received, added, updated, deleted, unchanged,
skipped, not_found, dead_lettered, toUInt8(tracks_deletes), to_delete, swept, decision, decided_by, reason, detail, csn FROM @runs`}
	for _, s := range l.runsSeen() {
		c := s.counts
		var took any
		if s.ended > 0 {
			took = s.ended - s.started
		}
		e.want = append(e.want, tab(s.stream, s.run, s.sync, s.status, orNull(s.started), orNull(s.ended), took,
			c.Added+c.Updated+c.Deleted+c.Unchanged+c.Skipped+c.NotFound+c.DeadLettered, c.Added, c.Updated, c.Deleted, c.Unchanged, c.Skipped, c.NotFound,
			c.DeadLettered, bit(map[bool]fold.Flags{true: 1}[s.tracks]), s.toDelete, 0, "", "", s.reason, "", s.csn))
	}
	return e
}

func (l *madeLog) timeline() expectation {
	e := expectation{sql: "SELECT " + exactly + ", " + msOf + `(at), op, run, sync, outcome, reason, hex(detail), decision, decided_by, records, to_delete, mode, record_id,
added, updated, deleted, unchanged, kpart, csn, koffset, term, skipped, not_found, dead_lettered, ` + msOf + `(started_at), duration_ms FROM @timeline`}
	for _, rec := range l.records {
		if v := rec.event; v != nil {
			var started, took any
			if (v.Op == event.OpRunCompleted || v.Op == event.OpRunFailed) && v.StartedAt > 0 {
				started, took = v.StartedAt, v.At-v.StartedAt
			}
			e.want = append(e.want, tab(v.Stream, v.At, v.Op, v.Run, v.Sync, v.Outcome, v.Reason, hexOf(v.Detail), v.Decision, v.By, v.Records, v.ToDelete, v.Mode,
				v.RecordID, v.Counts.Added, v.Counts.Updated, v.Counts.Deleted, v.Counts.Unchanged, v.Partition, v.CSN, v.Offset, v.Term,
				v.Counts.Skipped, v.Counts.NotFound, v.Counts.DeadLettered, started, took))
		}
	}
	return e
}

// merged are the partials of a level over all windows.
func (l *madeLog) merged(level fold.Level) []fold.Partial {
	type key struct {
		s      *stream.ID
		bucket int64
	}
	sums := make(map[key]*fold.Partial)
	for _, p := range l.partials(level, func(uint16, uint64) uint64 { return 1 << 62 }) {
		s := sums[key{p.Stream, p.Bucket}]
		if s == nil {
			sums[key{p.Stream, p.Bucket}] = &p
			continue
		}
		s.Added += p.Added
		s.Updated += p.Updated
		s.Deleted += p.Deleted
		s.Restored += p.Restored
		s.Unchanged += p.Unchanged
		s.Runs += p.Runs
		s.RunsFailed += p.RunsFailed
		s.BytesWritten += p.BytesWritten
		s.BytesMax = max(s.BytesMax, p.BytesMax)
		s.LagSumMS += p.LagSumMS
		s.LagMaxMS = max(s.LagMaxMS, p.LagMaxMS)
		for i, n := range p.LagHist {
			s.LagHist[i] += n
		}
		s.LastChangeAt = max(s.LastChangeAt, p.LastChangeAt)
	}
	var out []fold.Partial
	for _, p := range sums {
		out = append(out, *p)
	}
	return out
}

// quantile of a histogram of lags, as the views define it.
func quantile(p *fold.Partial, q float64) any {
	total := 0.0
	for _, n := range p.LagHist {
		total += float64(n)
	}
	if total == 0 {
		return nil
	}
	seen, lower := 0.0, 0.0
	for i, n := range p.LagHist {
		upper := float64(max(p.LagMaxMS, fold.LagBounds[len(fold.LagBounds)-1]))
		if i < len(fold.LagBounds) {
			upper = float64(fold.LagBounds[i])
		}
		if seen+float64(n) >= q*total {
			return min(float64(p.LagMaxMS), lower+(upper-lower)*(q*total-seen)/float64(n))
		}
		seen, lower = seen+float64(n), upper
	}
	panic("a histogram ends below its sum")
}

func (l *madeLog) buckets(level fold.Level, view string) expectation {
	e := expectation{sql: "SELECT " + exactly + `, toUnixTimestamp(bucket), changes, added, updated, deleted, restored, unchanged, runs, runs_failed, bytes_written, bytes_max, lag_count,
round(lag_avg_ms * 1000), round(lag_p50_ms * 1000), round(lag_p95_ms * 1000), round(lag_p99_ms * 1000), lag_max_ms, lag_sum_ms, lag_hist, ` + msOf + "(last_change_at) FROM @" + view}
	for _, p := range l.merged(level) {
		count := uint32(0)
		for _, n := range p.LagHist {
			count += n
		}
		var mean any
		if count > 0 {
			mean = float64(p.LagSumMS) / float64(count)
		}
		e.want = append(e.want, tab(p.Stream, p.Bucket, p.Added+p.Updated+p.Deleted, p.Added, p.Updated, p.Deleted, p.Restored, p.Unchanged, p.Runs, p.RunsFailed,
			p.BytesWritten, p.BytesMax, count, mean, quantile(&p, 0.5), quantile(&p, 0.95), quantile(&p, 0.99), p.LagMaxMS, p.LagSumMS,
			strings.ReplaceAll(fmt.Sprint(p.LagHist), " ", ","), p.LastChangeAt))
	}
	return e
}

func (l *madeLog) payloadSizes() expectation {
	e := expectation{sql: "SELECT " + exactly + ", toUnixTimestamp(bucket), changes, bytes, round(bytes_avg * 1000), bytes_max FROM @payload_sizes"}
	for _, p := range l.merged(fold.Day) {
		n := p.Added + p.Updated + p.Deleted + p.Restored
		var mean any
		if n > 0 {
			mean = float64(p.BytesWritten) / float64(n)
		}
		e.want = append(e.want, tab(p.Stream, p.Bucket, n, p.BytesWritten, mean, p.BytesMax))
	}
	return e
}

func (l *madeLog) hotStreams(now time.Time) expectation {
	e := expectation{sql: "SELECT " + exactly + ", changes_7d, " + msOf + "(last_change_at) FROM @hot_streams"}
	type hot struct {
		n    uint32
		last int64
	}
	sums := make(map[*stream.ID]*hot)
	for _, p := range l.merged(fold.Hour) {
		if p.Bucket < now.Truncate(time.Hour).Add(-168*time.Hour).Unix() {
			continue
		}
		if sums[p.Stream] == nil {
			sums[p.Stream] = &hot{}
		}
		sums[p.Stream].n += p.Added + p.Updated + p.Deleted
		sums[p.Stream].last = max(sums[p.Stream].last, p.LastChangeAt)
	}
	for id, h := range sums {
		e.want = append(e.want, tab(id, h.n, h.last))
	}
	return e
}

func (l *madeLog) dims() []expectation {
	env, integration, connection, model := make(map[string]int), make(map[string]int), make(map[string]int), make(map[string]int)
	for id, s := range l.totals() {
		if s.last == 0 {
			continue
		}
		env[id.Environment]++
		integration[id.Environment+"\t"+id.Integration]++
		connection[id.Environment+"\t"+id.Integration+"\t"+id.Connection]++
		model[id.Environment+"\t"+id.Integration+"\t"+id.Connection+"\t"+id.Model]++
	}
	var out []expectation
	for i, m := range []map[string]int{env, integration, connection, model} {
		e := expectation{sql: "SELECT * FROM @dim_" + []string{"environments", "integrations", "connections", "models"}[i]}
		for k, n := range m {
			e.want = append(e.want, fmt.Sprintf("%s\t%d", k, n))
		}
		out = append(out, e)
	}
	return out
}

func sqlString(s string) string {
	return "'" + strings.NewReplacer(`\`, `\\`, "'", `\'`, "\x00", `\0`).Replace(s) + "'"
}

// histories of the records of one stream.
func (l *madeLog) histories() []expectation {
	id := l.records[len(l.records)-1]
	for i := len(l.records) - 1; id.fact == nil; i-- {
		id = l.records[i]
	}
	s := id.fact.Stream
	byRecord := make(map[string][]*fold.Fact)
	for _, rec := range l.records {
		if f := rec.fact; f != nil && f.Stream == s && utf8.ValidString(f.RecordID) {
			byRecord[f.RecordID] = append(byRecord[f.RecordID], f)
		}
	}
	var out []expectation
	for record, facts := range byRecord {
		if len(out) == 25 {
			break
		}
		e := expectation{sql: fmt.Sprintf("SELECT "+msOf+`(changed_at), action, revision, round(seconds_since_previous * 1000), toUInt8(reverted), payload_bytes, payload_delta, fingerprint, csn, koffset
FROM @record_history(environment = %s, integration = %s, connection = %s, model = %s, variant = %s, record_id = %s)`, sqlString(s.Environment), sqlString(s.Integration),
			sqlString(s.Connection), sqlString(s.Model), sqlString(s.Variant), sqlString(record))}
		seen := make(map[uint64]bool)
		var size int64
		for i, f := range facts {
			var since, delta any
			reverted := 0
			if i > 0 {
				since = f.ChangedAt - facts[i-1].ChangedAt
				if f.Action == fold.Updated && seen[f.Fingerprint] && f.Fingerprint != facts[i-1].Fingerprint {
					reverted = 1
				}
			}
			now := int64(f.PayloadBytes)
			if f.Action == fold.Deleted {
				now = 0
			}
			if i > 0 || f.Action == fold.Added {
				delta = now - size
			}
			size = now
			seen[f.Fingerprint] = true
			e.want = append(e.want, tab(f.ChangedAt, actionName(f.Action), f.Revision, since, reverted, f.PayloadBytes, delta, f.Fingerprint, f.CSN, f.Offset))
		}
		out = append(out, e)
	}
	return out
}

const always = "since = '2000-01-01 00:00:00', until = '2100-01-01 00:00:00'"

func pointer(name string) string {
	return "/" + strings.ReplaceAll(strings.ReplaceAll(name, "~", "~0"), "/", "~1")
}

func (l *madeLog) fields(env string) expectation {
	e := expectation{sql: "SELECT " + exactly + ", hex(field), hex(pointer), updates, updates_alone, updates_total, round(share * 1000), round(share_alone * 1000) FROM @field_changes(environment = " +
		sqlString(env) + ", integration = '', connection = '', model = '', variant = '', " + always + ")", mayBeEmpty: true}
	type sum struct{ n, alone int }
	totals, sums := make(map[*stream.ID]int), make(map[*stream.ID]map[string]*sum)
	for _, rec := range l.records {
		f := rec.fact
		if f == nil || f.Stream.Environment != env || f.Action != fold.Updated || f.Flags&fold.FlagFieldsKnown == 0 {
			continue
		}
		totals[f.Stream]++
		if sums[f.Stream] == nil {
			sums[f.Stream] = make(map[string]*sum)
		}
		for _, name := range f.ChangedFields {
			s := sums[f.Stream][name]
			if s == nil {
				s = &sum{}
				sums[f.Stream][name] = s
			}
			s.n++
			if f.ChangedCount == 1 {
				s.alone++
			}
		}
	}
	for id, fields := range sums {
		for name, s := range fields {
			n := float64(totals[id])
			e.want = append(e.want, tab(id, hexOf(name), hexOf(pointer(name)), s.n, s.alone, totals[id], float64(s.n)/n, float64(s.alone)/n))
		}
	}
	return e
}

// spurious counts by field, and then what touched nothing but the fields of most updates.
func (l *madeLog) spurious(env string) expectation {
	e := expectation{sql: "SELECT " + exactly + ", updates, spurious, hex(toString(fields)), hex(finding) FROM @spurious_updates(environment = " + sqlString(env) + ", " + always + ")", mayBeEmpty: true}
	updates := make(map[*stream.ID][]*fold.Fact)
	for _, rec := range l.records {
		if f := rec.fact; f != nil && f.Stream.Environment == env && f.Action == fold.Updated && f.Flags&fold.FlagFieldsKnown != 0 {
			updates[f.Stream] = append(updates[f.Stream], f)
		}
	}
	for id, list := range updates {
		n := len(list)
		whole := slices.DeleteFunc(list, func(f *fold.Fact) bool { return f.Flags&fold.FlagFieldsTruncated != 0 })
		touched := make(map[string]int)
		for _, f := range whole {
			for _, name := range f.ChangedFields {
				touched[name]++
			}
		}
		var fields, pointers []string
		for name, times := range touched {
			if 2*times >= n {
				fields = append(fields, name)
			}
		}
		slices.SortFunc(fields, func(a, b string) int { return cmp.Or(cmp.Compare(touched[b], touched[a]), cmp.Compare(a, b)) })
		fields = fields[:min(5, len(fields))]
		spurious, records := 0, make(map[string]bool)
		for _, f := range whole {
			if len(f.ChangedFields) > 0 && !slices.ContainsFunc(f.ChangedFields, func(name string) bool { return !slices.Contains(fields, name) }) {
				spurious++
				records[f.RecordID] = true
			}
		}
		if 2*spurious < n || spurious < 3*len(records) {
			continue
		}
		for _, name := range fields {
			pointers = append(pointers, "/"+strings.NewReplacer("~", "~0", "/", "~1").Replace(name))
		}
		e.want = append(e.want, tab(id, n, spurious, hexOf(spelled(fields)),
			hexOf(fmt.Sprintf("%d %% of %d updates touched only %s", 100*spurious/n, n, strings.Join(pointers, ", ")))))
	}
	return e
}

func (l *madeLog) hotRecords(env string) expectation {
	e := expectation{sql: "SELECT " + exactly + ", hex(record_id), changes, updated, " + msOf + "(first_at), " + msOf + "(last_at), payload_bytes FROM @hot_records(environment = " +
		sqlString(env) + ", " + always + ")", mayBeEmpty: true}
	type hot struct {
		n, updated  int
		first, last *fold.Fact
	}
	type key struct {
		s  *stream.ID
		id string
	}
	sums := make(map[key]*hot)
	for _, rec := range l.records {
		f := rec.fact
		if f == nil || f.Stream.Environment != env {
			continue
		}
		h := sums[key{f.Stream, f.RecordID}]
		if h == nil {
			h = &hot{first: f}
			sums[key{f.Stream, f.RecordID}] = h
		}
		h.last = f
		if f.Action != fold.Restored {
			h.n++
		}
		if f.Action == fold.Updated {
			h.updated++
		}
	}
	for k, h := range sums {
		if h.n > 1 {
			e.want = append(e.want, tab(k.s, hexOf(k.id), h.n, h.updated, h.first.ChangedAt, h.last.ChangedAt, h.last.PayloadBytes))
		}
	}
	return e
}
