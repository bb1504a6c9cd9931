package warehouse

import (
	"context"
	"fmt"
	"time"
)

// Progress says up to where a partition of the changes topic is stored in the tables of a generation.
type Progress struct {
	Partition uint16
	At        time.Time // ms
	ToCSN     uint64    // the last csn that is stored
	Position  string    // opaque
	// Restarted says that the server has been started since: what it acknowledged shortly before may be lost, if it was not shut down. It is
	// set by LoadProgress.
	Restarted bool
}

// StoredProgress is what LoadProgress knows of a partition.
type StoredProgress struct {
	Newest Progress
	// Earlier is the newest that is at least RewindBy older than Newest. The zero value: there is none.
	Earlier Progress
}

// RewindBy is how far a writer goes back when the server may have lost what it acknowledged: more than a server keeps in memory without
// writing it to disk.
const RewindBy = 10 * time.Minute

// restartSlack is the error of a start time computed as now() - uptime(), which are both whole seconds.
const restartSlack = 5 * time.Second

// StoreProgress adds rows. The rows that the progress is about must have been acknowledged (P4).
func (w *Warehouse) StoreProgress(ctx context.Context, generation int, progress ...Progress) error {
	if len(progress) == 0 {
		return nil
	}
	generations, partition, at := newUint32("generation"), newUint16("kpart"), newMillis("at")
	csn, position := newUint64("to_csn"), newText("position")
	for _, p := range progress {
		generations.add(uint32(generation))
		partition.add(p.Partition)
		at.add(p.At.UnixMilli())
		csn.add(p.ToCSN)
		position.add(p.Position)
	}
	t := newLayout("_progress", generations, partition, at, csn, position)
	if err := w.insertShared(ctx, &t); err != nil {
		return fmt.Errorf("storing progress: %w", err)
	}
	return nil
}

// insertShared inserts all rows of a small table that is not of a generation.
func (w *Warehouse) insertShared(ctx context.Context, t *layout) error {
	into := fmt.Sprintf("INSERT INTO %s (%s)", w.shared(t.table), t.names)
	if w.encoded {
		return w.insertEncoded(ctx, into, t, 0, t.rows(), new([]byte))
	}
	return w.insertBatch(ctx, into, t, 0, t.rows())
}

// LoadProgress returns what is stored of each partition, by partition.
func (w *Warehouse) LoadProgress(ctx context.Context, generation int) (map[uint16]StoredProgress, error) {
	ctx, cancel := w.context(ctx, "progress", nil)
	defer cancel()
	// A tuple per row, compared by time first, so that its members are of the same row.
	rows, err := w.conn.Query(ctx, fmt.Sprintf(`
WITH tuple(at, to_csn, position, toInt64(abs(toInt64(server_started_at) - toInt64(now() - uptime())) > %d)) AS entry
SELECT kpart, max(entry) AS newest, maxIf(entry, at <= last - INTERVAL %d SECOND) AS earlier
FROM (SELECT *, max(at) OVER (PARTITION BY kpart) AS last FROM %s WHERE generation = %d)
GROUP BY kpart`, int(restartSlack/time.Second), int(RewindBy/time.Second), w.shared("_progress"), generation))
	if err != nil {
		return nil, fmt.Errorf("loading progress: %w", err)
	}
	defer rows.Close()
	out := make(map[uint16]StoredProgress)
	for rows.Next() {
		var partition uint16
		var entries [2][]any
		if err := rows.Scan(&partition, &entries[0], &entries[1]); err != nil {
			return nil, fmt.Errorf("loading progress: %w", err)
		}
		var both [2]Progress
		for i, e := range entries {
			at := e[0].(time.Time)
			if at.UnixMilli() == 0 {
				continue
			}
			both[i] = Progress{Partition: partition, At: at.UTC(), ToCSN: e[1].(uint64), Position: e[2].(string), Restarted: e[3].(int64) != 0}
		}
		out[partition] = StoredProgress{Newest: both[0], Earlier: both[1]}
	}
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("loading progress: %w", err)
	}
	return out, nil
}
