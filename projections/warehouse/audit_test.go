package warehouse

import (
	"cmp"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/tidemark-dev/tidemark/projections/fold"
	"github.com/tidemark-dev/tidemark/schemas/stream"
)

func seeded(t *testing.T) (*rand.Rand, uint64) {
	t.Helper()
	seed := cmp.Or(*seedFlag, uint64(time.Now().UnixNano()))
	t.Logf("seed %d", seed)
	return rand.New(rand.NewPCG(seed, 1)), seed
}

func insertAll(t *testing.T, w *Warehouse, generation int, batches []fold.Rows) {
	t.Helper()
	for i := range batches {
		if err := w.Insert(t.Context(), generation, &batches[i]); err != nil {
			t.Fatal(err)
		}
	}
}

func TestAudit(t *testing.T) {
	r, _ := seeded(t)
	w := ready(t, 1)
	const n = 1500
	l := makeLog(r, 2, n, time.Now())
	insertAll(t, w, 1, l.batches(r))
	// Two partitions, three levels, six windows of which the last is open.
	audit := func(a AuditRange) AuditReport {
		t.Helper()
		a.Window = windowCSNs
		report, err := w.Audit(t.Context(), 1, a)
		if err != nil {
			t.Fatal(err)
		}
		return report
	}
	if got := audit(AuditRange{}); got.Windows != 0 {
		t.Errorf("without progress: %+v", got)
	}
	all := map[uint16]uint64{0: n, 1: n}
	for _, c := range []struct {
		name string
		AuditRange
		windows uint64
	}{
		{"complete windows", AuditRange{UpTo: all}, 2 * 3 * 5},
		{"open ones too", AuditRange{UpTo: all, Open: true}, 2 * 3 * 6},
		{"one partition", AuditRange{UpTo: map[uint16]uint64{1: 511}}, 3 * 2},
		{"one csn short of a window", AuditRange{UpTo: map[uint16]uint64{1: 510}}, 3},
	} {
		if got := audit(c.AuditRange); got.Windows != c.windows || got.Mismatched != 0 {
			t.Errorf("%s: %+v, want %d windows", c.name, got, c.windows)
		}
	}
	if err := w.StoreProgress(t.Context(), 1, Progress{Partition: 0, At: time.Now(), ToCSN: 600}); err != nil {
		t.Fatal(err)
	}
	if got := audit(AuditRange{}); got.Windows != 3*2 || got.Mismatched != 0 {
		t.Errorf("up to the stored progress: %+v", got)
	}

	for _, c := range []struct{ from, before, want uint64 }{{0, 1 << 62, n}, {512, 768, 767}, {0, 0, 0}} {
		got, err := w.Summed(t.Context(), 1, 1, c.from, c.before)
		if err != nil || got > c.want || got+30 < c.want {
			t.Errorf("windows from %d to %d are summed up to %d, want about %d, %v", c.from, c.before, got, c.want, err)
		}
	}

	// A lost fact shows on all levels; a sum that is too large, on its own.
	var lost *fold.Fact
	for _, rec := range l.records {
		if rec.fact != nil && rec.fact.Partition == 1 && rec.fact.CSN > 300 && rec.fact.CSN < 500 {
			lost = rec.fact
		}
	}
	if err := w.exec(t.Context(), "test", fmt.Sprintf("DELETE FROM tidemark.changes_g1 WHERE kpart = 1 AND csn = %d", lost.CSN)); err != nil {
		t.Fatal(err)
	}
	p := l.partials(fold.Hour, func(uint16, uint64) uint64 { return 1 << 62 })[0]
	p.N, p.Added = p.N+1, p.Added+5
	if err := w.Insert(t.Context(), 1, &fold.Rows{Partials: [3][]fold.Partial{fold.Hour: {p}}}); err != nil {
		t.Fatal(err)
	}
	got := audit(AuditRange{UpTo: all})
	if got.Mismatched != 4 || len(got.Mismatches) != 4 {
		t.Fatalf("%+v", got)
	}
	var seen []string
	for _, m := range got.Mismatches {
		seen = append(seen, fmt.Sprintf("%d/%d/%d %d", m.Level, m.Partition, m.Window, m.Partials.Added+m.Partials.Updated+m.Partials.Deleted+m.Partials.Restored-
			m.Facts.Added-m.Facts.Updated-m.Facts.Deleted-m.Facts.Restored))
	}
	if want := []string{"0/1/256 1", "1/0/0 5", "1/1/256 1", "2/1/256 1"}; !slices.Equal(seen, want) {
		t.Errorf("differences in %v, want %v", seen, want)
	}
	if got := lines(t, w, "SELECT audit_windows, audit_mismatches FROM @health"); got[0] != "30\t4" {
		t.Errorf("health says %q", got)
	}
	if err := w.Insert(t.Context(), 1, &fold.Rows{Facts: []fold.Fact{*lost}}); err != nil {
		t.Fatal(err)
	}
	if got := audit(AuditRange{UpTo: all}); got.Mismatched != 1 {
		t.Errorf("after the lost fact was written again: %+v", got)
	}
}

func TestErase(t *testing.T) {
	r, _ := seeded(t)
	w := ready(t, 1)
	ctx := t.Context()
	if err := w.CreateGeneration(ctx, 2); err != nil {
		t.Fatal(err)
	}
	now := time.Now()
	l := makeLog(r, 1, 1500, now)
	batches := l.batches(r)
	insertAll(t, w, 1, batches)
	insertAll(t, w, 2, batches)

	// One connection up to the middle of the log, and one record of another altogether.
	var id, other *stream.ID
	var record string
	for _, rec := range l.records {
		if f := rec.fact; f != nil && id == nil {
			id = f.Stream
		} else if f != nil && f.Stream.Connection != id.Connection && f.Action == fold.Updated {
			other, record = f.Stream, f.RecordID
		}
	}
	at := now.Add(-3 * 24 * time.Hour)
	for _, bad := range []Erasure{{}, {Stream: stream.ID{Environment: "e", Integration: "i"}, At: at}, {Stream: *id, At: at},
		{Stream: stream.ID{Environment: "e", Integration: "i", Connection: "c"}, RecordID: "x", At: at}, {Stream: *other, RecordID: record}} {
		if err := w.Erase(ctx, bad); err == nil {
			t.Errorf("%+v was erased", bad)
		}
	}
	connection := Erasure{Stream: stream.ID{Environment: id.Environment, Integration: id.Integration, Connection: id.Connection}, At: at}
	one := Erasure{Stream: *other, RecordID: record, At: now}
	gone := func(f *fold.Fact) bool {
		return f.Stream.Environment == id.Environment && f.Stream.Integration == id.Integration && f.Stream.Connection == id.Connection && f.ChangedAt <= at.UnixMilli() ||
			*f.Stream == *other && f.RecordID == record
	}
	check := func(when string) {
		t.Helper()
		var want []string
		for _, rec := range l.records {
			if rec.fact != nil && !gone(rec.fact) {
				want = append(want, fmt.Sprint(rec.fact.CSN))
			}
		}
		for _, g := range []int{1, 2} {
			got := lines(t, w, "SELECT csn FROM "+w.table("changes", g)+" FINAL ORDER BY csn")
			if !slices.Equal(got, want) {
				t.Errorf("%s, generation %d: %d facts, want %d", when, g, len(got), len(want))
			}
			where, _ := (&Erasure{Stream: connection.Stream, At: at}).where("bucket")
			where = strings.NewReplacer("environment = ?", "environment = "+sqlString(id.Environment), "integration = ?", "integration = "+sqlString(id.Integration),
				"connection = ?", "connection = "+sqlString(id.Connection)).Replace(where)
			for _, table := range []string{"changes_1m", "changes_1h", "changes_1d"} {
				if n := lines(t, w, "SELECT count() FROM "+w.table(table, g)+" WHERE "+where); n[0] != "0" {
					t.Errorf("%s, generation %d: %s rows in %s", when, g, n[0], table)
				}
			}
		}
	}
	for range 2 { // it may be repeated
		for _, e := range []Erasure{connection, one} {
			if err := w.Erase(ctx, e); err != nil {
				t.Fatal(err)
			}
		}
		check("erased")
	}
	state := func() string {
		t.Helper()
		all, err := w.LoadErasures(ctx)
		if err != nil {
			t.Fatal(err)
		}
		var b strings.Builder
		for _, e := range all {
			fmt.Fprintf(&b, "%s %t %t %t %d;", e.Stream.Connection, e.RecordID == record && e.Stream == *other, e.Deleted, e.Purged, e.At.UnixMilli())
		}
		return b.String()
	}
	want := func(purged bool) string {
		return fmt.Sprintf("%s false true %t %d;%s true true %t %d;", id.Connection, purged, at.UnixMilli(), other.Connection, purged, now.UnixMilli())
	}
	if got := state(); got != want(false) {
		t.Errorf("erasures %s, want %s", got, want(false))
	}
	// A batch that was on its way comes in behind.
	insertAll(t, w, 1, batches[:3])
	if err := w.Purge(ctx); err != nil {
		t.Fatal(err)
	}
	check("purged")
	if got := state(); got != want(true) {
		t.Errorf("erasures %s, want %s", got, want(true))
	}
	for _, g := range []int{1, 2} {
		if n := lines(t, w, fmt.Sprintf("SELECT count() FROM system.parts WHERE database = 'tidemark' AND endsWith(table, '_g%d') AND active AND has_lightweight_delete", g)); n[0] != "0" {
			t.Errorf("generation %d: %s parts with bytes of erased rows", g, n[0])
		}
	}
	// What is left is right: the audit looks past the days of the erasures.
	report, err := w.Audit(ctx, 1, AuditRange{Window: windowCSNs, UpTo: map[uint16]uint64{0: 1500}, Open: true})
	if err != nil || report.Mismatched != 0 || report.Windows == 0 {
		t.Errorf("audit: %+v, %v", report, err)
	}
}

// The topic begins in the middle of a window: what was before comes from the old generation, the rest from the topic.
func TestCopyGeneration(t *testing.T) {
	r, seed := seeded(t)
	w := ready(t, 1)
	ctx := t.Context()
	if err := w.CreateGeneration(ctx, 2); err != nil {
		t.Fatal(err)
	}
	now := time.Now()
	const n = 1500
	l := makeLog(r, 3, n, now)
	insertAll(t, w, 1, l.batches(r))
	c := Copy{From: 1, To: 2, Window: windowCSNs, Before: map[uint16]uint64{0: 512, 1: 700 + r.Uint64N(200), 2: 1300}}
	if err := w.CopyGeneration(ctx, c); !errors.Is(err, ErrUnsettled) {
		t.Fatalf("without progress: %v", err)
	}
	for p := range c.Before {
		if err := w.StoreProgress(ctx, 1, Progress{Partition: p, At: now, ToCSN: n}); err != nil {
			t.Fatal(err)
		}
	}
	for range 2 {
		if err := w.CopyGeneration(ctx, c); err != nil {
			t.Fatal(err)
		}
	}
	// The writer of the new generation: what it reads, with the window that it comes into begun where the topic begins.
	var rest fold.Rows
	tail := &madeLog{streams: l.streams}
	for _, rec := range l.records {
		switch {
		case rec.fact != nil && rec.fact.CSN >= c.Before[rec.fact.Partition]:
			rest.Facts = append(rest.Facts, *rec.fact)
			if rec.state != nil {
				rest.States = append(rest.States, *rec.state)
			}
		case rec.event != nil && rec.event.CSN >= c.Before[rec.event.Partition]:
			rest.Events = append(rest.Events, *rec.event)
		default:
			continue
		}
		tail.records = append(tail.records, rec)
	}
	for i := range rest.Partials {
		rest.Partials[i] = tail.partials(fold.Level(i), func(uint16, uint64) uint64 { return 1 << 62 })
		for j := range rest.Partials[i] {
			p := &rest.Partials[i][j]
			p.Window = max(p.Window, c.Before[p.Partition])
		}
	}
	if err := w.Insert(ctx, 2, &rest); err != nil {
		t.Fatal(err)
	}
	if err := w.SetViews(ctx, 2); err != nil {
		t.Fatal(err)
	}
	for _, e := range l.expectations(now) {
		got, want := lines(t, w, e.sql), slices.Sorted(slices.Values(e.want))
		slices.Sort(got)
		if !slices.Equal(got, want) {
			t.Errorf("seed %d: %s\n%s", seed, e.sql, difference(got, want))
		}
	}
	parity, err := w.CompareGenerations(ctx, 1, 2, now.Add(48*time.Hour))
	if err != nil || parity.Different != 0 || parity.Compared == 0 {
		t.Errorf("%+v, %v", parity, err)
	}
	// Facts count where the day is not over: those that both generations have.
	const begun = 1100
	for p := range c.Before {
		if err := w.StoreProgress(ctx, 2, Progress{Partition: p, At: now, ToCSN: begun}); err != nil {
			t.Fatal(err)
		}
	}
	long := now.Add(-10 * 24 * time.Hour)
	if facts, err := w.CompareGenerations(ctx, 1, 2, long); err != nil || facts.Different != 0 || facts.Compared < parity.Compared/2 {
		t.Errorf("by facts: %+v, %v; by days %+v", facts, err, parity)
	}
	for _, newer := range []bool{true, false} { // a fact that only one of them is bound to have is not missed
		if err := w.exec(ctx, "test", fmt.Sprintf("DELETE FROM tidemark.changes_g2 WHERE csn = (SELECT max(csn) FROM tidemark.changes_g2 WHERE (csn > %d) = %t)", begun, newer)); err != nil {
			t.Fatal(err)
		}
		if facts, err := w.CompareGenerations(ctx, 1, 2, long); err != nil || facts.Different > 0 == newer {
			t.Errorf("a fact is missing, newer %t: %+v, %v", newer, facts, err)
		}
		if err := errors.Join(w.CopyGeneration(ctx, c), w.Insert(ctx, 2, &rest)); err != nil {
			t.Fatal(err)
		}
	}
	if report, err := w.Audit(ctx, 2, AuditRange{Window: windowCSNs, UpTo: map[uint16]uint64{0: n, 1: n, 2: n}, Open: true}); err != nil || report.Mismatched != 0 {
		t.Errorf("audit: %+v, %v", report, err)
	}
	if err := w.exec(ctx, "test", fmt.Sprintf("DELETE FROM tidemark.changes_1d_g2 WHERE win = %d AND kpart = 0", c.Before[0])); err != nil {
		t.Fatal(err)
	}
	if parity, err = w.CompareGenerations(ctx, 1, 2, now.Add(48*time.Hour)); err != nil || parity.Different == 0 || len(parity.Differences) != int(parity.Different) {
		t.Errorf("rows are missing, but %+v, %v", parity, err)
	}
}
