package warehouse

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
)

// Copy says what to take over from one generation into another: all that is older than what the topic still has.
type Copy struct {
	From, To int
	// Window is the size of the windows of From, in csns.
	Window uint64
	// Before is, by partition, the first csn that the writer of To reads from the topic. Older rows are taken over; the writer makes the others.
	// Partitions that are not named are not taken over.
	Before map[uint16]uint64
}

// ErrUnsettled says that the writer of the old generation was in the middle of a flush of a window that must be cut in two. Try again.
var ErrUnsettled = errors.New("the older generation is being written")

// CopyGeneration takes over rows, table partition by table partition. Doing it again, whole or after an error, does no harm.
//
// A window that the topic holds only the end of is counted in two: what the new writer will count is subtracted from what the old one
// did. Its highest values are not known apart and are taken over as they are, which is right in sums of both.
func (w *Warehouse) CopyGeneration(ctx context.Context, c Copy) error {
	if c.From == c.To || c.Window == 0 {
		return fmt.Errorf("copying generation %d to %d with windows of %d csns", c.From, c.To, c.Window)
	}
	if len(c.Before) == 0 {
		return nil
	}
	before := byPartition(c.Before)
	for _, s := range []struct{ table, where string }{
		{"changes", "csn < BEFORE"},
		{"events", "csn < BEFORE"},
		{"stream_state", "csn < BEFORE"},
		{"changes_1m", "intDiv(win, WINDOW) * WINDOW + WINDOW <= BEFORE"},
		{"changes_1h", "intDiv(win, WINDOW) * WINDOW + WINDOW <= BEFORE"},
		{"changes_1d", "intDiv(win, WINDOW) * WINDOW + WINDOW <= BEFORE"},
	} {
		where := strings.NewReplacer("BEFORE", before, "WINDOW", fmt.Sprint(c.Window)).Replace(s.where)
		if err := w.copyTable(ctx, c, s.table, where); err != nil {
			return fmt.Errorf("copying %s of generation %d to %d: %w", s.table, c.From, c.To, err)
		}
	}
	for _, l := range w.levels() {
		if err := w.cutWindows(ctx, c, l); err != nil {
			return fmt.Errorf("cutting windows of %s of generation %d: %w", l.Table, c.From, err)
		}
	}
	return nil
}

// settled is, by partition, the csn up to which each of the generations has all rows.
func (w *Warehouse) settled(ctx context.Context, generations ...int) (map[uint16]uint64, error) {
	var out map[uint16]uint64
	for _, g := range generations {
		progress, err := w.LoadProgress(ctx, g)
		if err != nil {
			return nil, err
		}
		of := make(map[uint16]uint64, len(progress))
		for p, s := range progress {
			if low, ok := out[p]; ok || out == nil {
				of[p] = s.Newest.ToCSN
				if ok {
					of[p] = min(of[p], low)
				}
			}
		}
		out = of
	}
	return out, nil
}

// byPartition is an expression for a value by partition; 0 for those that have none.
func byPartition(of map[uint16]uint64) string {
	var partitions, values []string
	for _, p := range slices.Sorted(maps.Keys(of)) {
		partitions = append(partitions, fmt.Sprint(p))
		values = append(values, fmt.Sprint(of[p]))
	}
	return fmt.Sprintf("transform(kpart, CAST([%s], 'Array(UInt16)'), CAST([%s], 'Array(UInt64)'), toUInt64(0))",
		strings.Join(partitions, ", "), strings.Join(values, ", "))
}

func (w *Warehouse) copyTable(ctx context.Context, c Copy, table, where string) error {
	ids, err := w.partitions(ctx, table, c.From)
	if err != nil {
		return err
	}
	for _, id := range ids {
		sql := fmt.Sprintf("INSERT INTO %s SELECT * FROM %s FINAL WHERE _partition_id = '%s' AND %s", w.table(table, c.To), w.table(table, c.From), id, where)
		start := time.Now()
		if err := w.execLong(ctx, "copy", sql); err != nil {
			return err
		}
		w.log.Info("table partition copied", "table", table, "from", c.From, "to", c.To, "partition", id, "took", time.Since(start))
	}
	return nil
}

// partitions are the ids of a table's partitions that have rows.
func (w *Warehouse) partitions(ctx context.Context, table string, generation int) ([]string, error) {
	ctx, cancel := w.context(ctx, "copy", nil)
	defer cancel()
	rows, err := w.conn.Query(ctx, "SELECT DISTINCT _partition_id AS id FROM "+w.table(table, generation)+" ORDER BY id")
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var out []string
	for rows.Next() {
		var id string
		if err := rows.Scan(&id); err != nil {
			return nil, err
		}
		out = append(out, id)
	}
	return out, rows.Err()
}

// cutWindows writes what the old writer counted, less what the new one will count, of the windows that hold records of both.
func (w *Warehouse) cutWindows(ctx context.Context, c Copy, l level) error {
	settled, err := w.settled(ctx, c.From)
	if err != nil {
		return err
	}
	for p := range c.Before {
		if _, ok := settled[p]; !ok {
			settled[p] = 0
		}
	}
	expand := func(sql string) string {
		// From the outside in: later words may be in what stands for earlier ones.
		for _, word := range [][2]string{
			{"CUT", "intDiv(win, WINDOW) * WINDOW < BEFORE AND intDiv(win, WINDOW) * WINDOW + WINDOW > BEFORE"},
			{"PARTIALS", w.table(l.Table, c.From)},
			{"TARGET", w.table(l.Table, c.To)},
			{"CHANGES", w.table("changes", c.From)},
			{"EVENTS", w.table("events", c.From)},
			{"STREAM", streamKey},
			{"BEFORE", byPartition(c.Before)},
			{"SETTLED", byPartition(settled)},
			{"WINDOW", fmt.Sprint(c.Window)},
			{"SECONDS", fmt.Sprint(int(l.Level.Width().Seconds()))},
			{"BOUNDS", "[" + lagBounds() + "]"},
			{"SLOTS", fmt.Sprint(histogramLen)},
		} {
			sql = strings.ReplaceAll(sql, word[0], word[1])
		}
		return sql
	}
	var unsettled uint64
	if err := w.scalar(ctx, "copy", expand("SELECT count() FROM PARTIALS FINAL WHERE CUT AND to_csn > SETTLED"), &unsettled); err != nil {
		return err
	}
	if unsettled > 0 {
		return ErrUnsettled
	}
	return w.execLong(ctx, "copy", expand(`
INSERT INTO TARGET (STREAM, bucket, win, kpart, n, to_csn, added, updated, deleted, restored, unchanged, runs, runs_failed, bytes_written, bytes_max,
  lag_sum_ms, lag_max_ms, lag_hist, last_change_at)
SELECT STREAM, bucket, minIf(o_win, o_old) AS win, kpart, sum(o_n) AS n, least(max(o_to), BEFORE - 1) AS to_csn, sum(o_added), sum(o_updated), sum(o_deleted),
  sum(o_restored), sum(o_unchanged), sum(o_runs), sum(o_failed), sum(o_bytes), max(o_bytes_max), sum(o_lag), max(o_lag_max), sumForEach(o_hist), max(o_last)
FROM (
  SELECT STREAM, bucket, kpart, true AS o_old, win AS o_win, to_csn AS o_to, toInt64(n) AS o_n, toInt64(added) AS o_added, toInt64(updated) AS o_updated,
    toInt64(deleted) AS o_deleted, toInt64(restored) AS o_restored, toInt64(unchanged) AS o_unchanged, toInt64(runs) AS o_runs, toInt64(runs_failed) AS o_failed,
    toInt64(bytes_written) AS o_bytes, bytes_max AS o_bytes_max, toInt64(lag_sum_ms) AS o_lag, lag_max_ms AS o_lag_max, arrayMap(x -> toInt64(x), lag_hist) AS o_hist,
    last_change_at AS o_last
  FROM PARTIALS FINAL WHERE CUT
  UNION ALL
  SELECT STREAM, toDateTime(intDiv(toUnixTimestamp64Milli(changed_at), 1000 * SECONDS) * SECONDS, 'UTC'), kpart, false, 0, 0, -1, -(action = 'added'), -(action = 'updated'),
    -(action = 'deleted'), -(action = 'restored'), 0, 0, 0, -toInt64(payload_bytes), 0, if(bitTest(flags, 2), -toInt64(lag_ms), 0), 0,
    arrayMap(i -> toInt64(if(bitTest(flags, 2) AND i = indexOf(arrayMap(b -> lag_ms <= b, arrayConcat(BOUNDS, [4294967295])), true), -1, 0)), range(1, SLOTS + 1)),
    toDateTime64(0, 3, 'UTC')
  FROM CHANGES FINAL WHERE BEFORE > 0 AND csn >= BEFORE AND csn <= SETTLED AND csn < intDiv(BEFORE, WINDOW) * WINDOW + WINDOW
  UNION ALL
  SELECT STREAM, toDateTime(intDiv(toUnixTimestamp64Milli(at), 1000 * SECONDS) * SECONDS, 'UTC'), kpart, false, 0, 0, -1, 0, 0, 0, 0, -toInt64(unchanged), -1,
    -(op = 'RUN_FAILED'), 0, 0, 0, 0, arrayMap(i -> toInt64(0), range(SLOTS)), toDateTime64(0, 3, 'UTC')
  FROM EVENTS FINAL WHERE BEFORE > 0 AND csn >= BEFORE AND csn <= SETTLED AND csn < intDiv(BEFORE, WINDOW) * WINDOW + WINDOW
    AND op IN ('RUN_COMPLETED', 'RUN_FAILED')
)
GROUP BY STREAM, bucket, kpart
HAVING countIf(o_old) > 0 AND n > 0`))
}

// Parity compares generations.
type Parity struct {
	Compared    uint64       // streams and days
	Different   uint64       // of them
	Differences []Difference // at most MismatchesMax
}

// Difference is a day of a stream that two generations count differently.
type Difference struct {
	Stream [5]string // environment, integration, connection, model, variant
	Day    time.Time
	A, B   Counts
}

// CompareGenerations compares the counts of all streams by day while both are written: days before that of until by their sums, the rest by its
// facts, up to where both have come. That the sums of the rest are those of its facts is what [Warehouse.Audit] finds out.
func (w *Warehouse) CompareGenerations(ctx context.Context, a, b int, until time.Time) (Parity, error) {
	settled, err := w.settled(ctx, a, b)
	if err != nil {
		return Parity{}, err
	}
	side := func(generation int, sign string) string {
		return strings.NewReplacer("DAYS", w.table("changes_1d", generation), "CHANGES", w.table("changes", generation), "SIGN", sign, "STREAM", streamKey,
			"UNTIL", until.UTC().Format("2006-01-02"), "SETTLED", byPartition(settled)).Replace(`
  SELECT STREAM, bucket, 'SIGN' AS side, [toInt64(sum(added)), toInt64(sum(updated)), toInt64(sum(deleted)), toInt64(sum(restored)), toInt64(sum(arraySum(lag_hist)))] AS counts
  FROM DAYS FINAL WHERE bucket < toDateTime('UNTIL', 'UTC') GROUP BY STREAM, bucket
  UNION ALL
  SELECT STREAM, toStartOfDay(changed_at) AS bucket, 'SIGN', [toInt64(countIf(action = 'added')), toInt64(countIf(action = 'updated')), toInt64(countIf(action = 'deleted')),
    toInt64(countIf(action = 'restored')), toInt64(countIf(bitTest(flags, 2)))]
  FROM CHANGES FINAL WHERE changed_at >= toDateTime64('UNTIL', 3, 'UTC') AND csn <= SETTLED GROUP BY STREAM, bucket`)
	}
	ctx, cancel := w.long(ctx, "parity")
	defer cancel()
	rows, err := w.conn.Query(ctx, `
SELECT environment, integration, connection, model, variant, bucket, sumForEach(if(side = 'a', counts, [toInt64(0), 0, 0, 0, 0])) AS a,
  sumForEach(if(side = 'b', counts, [toInt64(0), 0, 0, 0, 0])) AS b, count() OVER () AS compared,
  countIf(a != b) OVER () AS different
FROM (`+side(a, "a")+" UNION ALL "+side(b, "b")+`)
GROUP BY environment, integration, connection, model, variant, bucket
ORDER BY a = b, environment, integration, connection, model, variant, bucket
LIMIT `+fmt.Sprint(MismatchesMax))
	if err != nil {
		return Parity{}, fmt.Errorf("comparing generations %d and %d: %w", a, b, err)
	}
	defer rows.Close()
	var out Parity
	for rows.Next() {
		var d Difference
		var left, right []int64
		s := &d.Stream
		if err := rows.Scan(&s[0], &s[1], &s[2], &s[3], &s[4], &d.Day, &left, &right, &out.Compared, &out.Different); err != nil {
			return Parity{}, fmt.Errorf("comparing generations %d and %d: %w", a, b, err)
		}
		if slices.Equal(left, right) {
			break
		}
		d.A, d.B = countsOf(left), countsOf(right)
		out.Differences = append(out.Differences, d)
	}
	if err := rows.Err(); err != nil {
		return Parity{}, fmt.Errorf("comparing generations %d and %d: %w", a, b, err)
	}
	return out, nil
}
