package warehouse

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/tidemark-dev/tidemark/projections/fold"
)

// AuditRange says what to compare.
type AuditRange struct {
	// Window is the size of the writer's windows, in csns.
	Window uint64
	// Since leaves out what happened on days (UTC) before it. The zero value and what is too old stand for all that is kept, but no more
	// than 400 days.
	Since time.Time
	// UpTo is, by partition, the last csn of which all rows were acknowledged; nil: what is stored as progress. Other partitions are left out.
	UpTo map[uint16]uint64
	// Open has windows compared that are still being filled. They differ while somebody writes.
	Open bool
}

// Counts are what is compared.
type Counts struct{ Added, Updated, Deleted, Restored, Lagged int64 }

func countsOf(c []int64) Counts {
	return Counts{Added: c[0], Updated: c[1], Deleted: c[2], Restored: c[3], Lagged: c[4]}
}

// Mismatch is a window in which the facts are not what a level of partials says.
type Mismatch struct {
	Level     fold.Level
	Partition uint16
	Window    uint64 // first csn, aligned
	Facts     Counts
	Partials  Counts
}

// AuditReport is the outcome of an audit.
type AuditReport struct {
	Windows    uint64     // compared, over all levels
	Mismatched uint64     // of them
	Mismatches []Mismatch // at most MismatchesMax
}

// MismatchesMax bounds AuditReport.Mismatches.
const MismatchesMax = 1000

const auditDaysMax = 400

// Audit compares facts with each level of partials, window by window, and records the outcome for v1_health. To heal a window, write it
// again from the topic. It reads all facts since the given day, and needs no FINAL for them: distinct csns are counted, as bitmaps.
//
// Left out are the days up to and including an erasure, of the connections erased from: there, facts may be fewer.
func (w *Warehouse) Audit(ctx context.Context, generation int, r AuditRange) (AuditReport, error) {
	if r.Window == 0 || r.Window > 1<<32 {
		return AuditReport{}, fmt.Errorf("auditing: windows of %d csns", r.Window)
	}
	start := time.Now()
	if r.UpTo == nil {
		progress, err := w.LoadProgress(ctx, generation)
		if err != nil {
			return AuditReport{}, err
		}
		r.UpTo = make(map[uint16]uint64, len(progress))
		for p, s := range progress {
			r.UpTo[p] = s.Newest.ToCSN
		}
	}
	// Levels that go back equally far are compared with the same facts.
	byCut := make(map[time.Time][]level)
	for _, l := range w.levels() {
		cut := w.auditCut(start, r.Since, l.days(w.keep))
		byCut[cut] = append(byCut[cut], l)
	}
	var report AuditReport
	for _, cut := range slices.SortedFunc(maps.Keys(byCut), time.Time.Compare) {
		if err := w.audit(ctx, generation, r, cut, byCut[cut], &report); err != nil {
			return AuditReport{}, fmt.Errorf("auditing generation %d: %w", generation, err)
		}
	}
	slices.SortFunc(report.Mismatches, func(a, b Mismatch) int {
		return cmp.Or(cmp.Compare(a.Level, b.Level), cmp.Compare(a.Partition, b.Partition), cmp.Compare(a.Window, b.Window))
	})
	sql := fmt.Sprintf("INSERT INTO %s (generation, at, windows, mismatches, took_ms) VALUES (%d, fromUnixTimestamp64Milli(toInt64(%d), 'UTC'), %d, %d, %d)",
		w.shared("_audits"), generation, start.UnixMilli(), report.Windows, report.Mismatched, time.Since(start).Milliseconds())
	if err := w.exec(ctx, "audit", sql); err != nil {
		return AuditReport{}, fmt.Errorf("recording the audit: %w", err)
	}
	return report, nil
}

// auditCut is the first day on which neither facts nor partials have expired. A window may begin before it: what happened earlier is left
// out on both sides, which is the same on both, for a bucket lies within a day.
func (w *Warehouse) auditCut(now, since time.Time, days int) time.Time {
	kept := auditDaysMax
	for _, d := range []int{w.keep.Facts, days} {
		if d > 0 {
			kept = min(kept, d)
		}
	}
	cut := now.UTC().Truncate(24*time.Hour).AddDate(0, 0, 1-kept)
	if since = since.UTC().Truncate(24 * time.Hour); since.After(cut) {
		cut = since
	}
	return cut
}

func (w *Warehouse) audit(ctx context.Context, generation int, r AuditRange, cut time.Time, levels []level, report *AuditReport) error {
	partitions, ends := make([]string, 0, len(r.UpTo)), make([]string, 0, len(r.UpTo))
	for _, p := range slices.Sorted(maps.Keys(r.UpTo)) {
		partitions = append(partitions, fmt.Sprint(p))
		ends = append(ends, fmt.Sprint(r.UpTo[p]+1))
	}
	if len(partitions) == 0 {
		return nil
	}
	last := "WIN + WINDOW"
	if r.Open {
		last = "WIN"
	}
	var partials []string
	for _, l := range levels {
		partials = append(partials, strings.NewReplacer("LEVEL", fmt.Sprint(int(l.Level)), "TABLE", w.table(l.Table, generation)).Replace(`
  SELECT LEVEL AS level, kpart, intDiv(win, WINDOW) * WINDOW AS w, [toInt64(0), 0, 0, 0, 0] AS facts,
    arrayMap(x -> toInt64(x), [sum(added), sum(updated), sum(deleted), sum(restored), sum(arraySum(lag_hist))]) AS partials
  FROM TABLE FINAL
  WHERE bucket >= toDateTime(CUT, 'UTC') AND (environment, integration, connection, toDate(bucket, 'UTC')) NOT IN (SELECT * FROM erased)
  GROUP BY kpart, w`))
	}
	indexes := make([]string, 0, len(levels))
	for _, l := range levels {
		indexes = append(indexes, fmt.Sprint(int(l.Level)))
	}
	sql := strings.NewReplacer(
		"PARTIALS", strings.Join(partials, "\n  UNION ALL"),
		"LEVELS", "["+strings.Join(indexes, ", ")+"]",
		"LAST", strings.ReplaceAll(strings.ReplaceAll(last, "WINDOW", fmt.Sprint(r.Window)), "WIN", "w"),
		"PARTITIONS", strings.Join(partitions, ", "),
		"ENDS", strings.Join(ends, ", "),
		"CHANGES", w.table("changes", generation),
		"ERASURES", w.shared("_erasures"),
	).Replace(`
WITH erased AS (
  SELECT environment, integration, connection, arrayJoin(arrayMap(d -> toDate(CUT) + d, range(toUInt32(greatest(0, dateDiff('day', toDate(CUT), toDate(erased_at)) + 1))))) AS day
  FROM ERASURES
)
SELECT level, kpart, w, any_facts, any_partials, any_facts != any_partials AS differs
FROM (
  SELECT level, kpart, w, sumForEach(facts) AS any_facts, sumForEach(partials) AS any_partials
  FROM (
    SELECT arrayJoin(LEVELS) AS level, kpart, w, facts, partials FROM (
      SELECT kpart, intDiv(csn, WINDOW) * WINDOW AS w,
        arrayMap(x -> toInt64(x), [groupBitmapIf(toUInt32(csn - w), action = 'added'), groupBitmapIf(toUInt32(csn - w), action = 'updated'),
          groupBitmapIf(toUInt32(csn - w), action = 'deleted'), groupBitmapIf(toUInt32(csn - w), action = 'restored'),
          groupBitmapIf(toUInt32(csn - w), bitTest(flags, 2))]) AS facts,
        [toInt64(0), 0, 0, 0, 0] AS partials
      FROM CHANGES
      WHERE changed_at >= toDateTime(CUT, 'UTC') AND (environment, integration, connection, toDate(changed_at)) NOT IN (SELECT * FROM erased)
      GROUP BY kpart, w
    )
    UNION ALL PARTIALS
  )
  GROUP BY level, kpart, w
)
WHERE LAST <= transform(kpart, CAST([PARTITIONS], 'Array(UInt16)'), CAST([ENDS], 'Array(UInt64)'), toUInt64(0))
ORDER BY differs DESC, level, kpart, w`)
	sql = strings.NewReplacer("CUT", "'"+cut.Format("2006-01-02")+"'", "WINDOW", fmt.Sprint(r.Window)).Replace(sql)
	ctx, cancel := w.long(ctx, "audit")
	defer cancel()
	rows, err := w.conn.Query(ctx, sql)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		var level uint8
		var m Mismatch
		var facts, partials []int64
		var differs uint8
		if err := rows.Scan(&level, &m.Partition, &m.Window, &facts, &partials, &differs); err != nil {
			return err
		}
		report.Windows++
		if differs == 0 {
			continue
		}
		report.Mismatched++
		if len(report.Mismatches) == MismatchesMax {
			continue
		}
		m.Level, m.Facts, m.Partials = fold.Level(level), countsOf(facts), countsOf(partials)
		report.Mismatches = append(report.Mismatches, m)
	}
	return rows.Err()
}
