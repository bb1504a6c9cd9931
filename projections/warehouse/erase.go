package warehouse

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/tidemark-dev/tidemark/schemas/stream"
)

// Erasure is of a connection, or of one record of a stream: nothing that happened to it at or before At is kept. What the topic still
// holds must not come back: writers load erasures and leave such facts and partials out.
type Erasure struct {
	Stream   stream.ID // of a connection: without Model and Variant
	RecordID string    // "": the whole connection
	At       time.Time // ms
	Deleted  bool      // no query sees the rows any more
	Purged   bool      // their bytes are gone from the tables
}

// validate reports a scope that would erase more or less than was meant.
func (e *Erasure) validate() error {
	s := &e.Stream
	switch {
	case s.Environment == "" || s.Integration == "" || s.Connection == "":
		return fmt.Errorf("erasing: environment, integration and connection must be given")
	case (s.Model != "" || s.Variant != "") != (e.RecordID != ""):
		return fmt.Errorf("erasing: a model and a record id are given together, or neither")
	case e.At.IsZero():
		return fmt.Errorf("erasing: no time is given")
	}
	if e.RecordID != "" && s.Variant == "" {
		s.Variant = stream.VariantBase
	}
	return nil
}

// where is the condition on rows that have the given column of time. Times that are starts of buckets are of rows that begin, though they
// may not end, before the erasure.
func (e *Erasure) where(timeColumn string) (string, []any) {
	s := &e.Stream
	sql := "environment = ? AND integration = ? AND connection = ?"
	args := []any{s.Environment, s.Integration, s.Connection}
	if e.RecordID != "" {
		sql += " AND model = ? AND variant = ? AND record_id = ?"
		args = append(args, s.Model, s.Variant, e.RecordID)
	}
	return sql + fmt.Sprintf(" AND %s <= fromUnixTimestamp64Milli(toInt64(%d), 'UTC')", timeColumn, e.At.UnixMilli()), args
}

// tables are those that hold rows of the erasure, with their column of time. Counts do not tell of one record, so they stay.
func (e *Erasure) tables() [][2]string {
	out := [][2]string{{"changes", "changed_at"}, {"events", "at"}}
	if e.RecordID == "" {
		out = append(out, [2]string{"changes_1m", "bucket"}, [2]string{"changes_1h", "bucket"}, [2]string{"changes_1d", "bucket"}, [2]string{"stream_state", "at"})
	}
	return out
}

// Erase records the erasure, so that no writer brings anything back, and then hides all rows of it in all generations. The bytes go with
// [Warehouse.Purge]. After an error it may be called again with the same arguments.
func (w *Warehouse) Erase(ctx context.Context, e Erasure) error {
	if err := e.validate(); err != nil {
		return err
	}
	if err := w.recordErasure(ctx, e, "asked"); err != nil {
		return err
	}
	if err := w.hide(ctx, e); err != nil {
		return err
	}
	return w.recordErasure(ctx, e, "deleted")
}

func (w *Warehouse) hide(ctx context.Context, e Erasure) error {
	generations, err := w.Generations(ctx)
	if err != nil {
		return err
	}
	for _, g := range generations {
		for _, t := range e.tables() {
			where, args := e.where(t[1])
			if err := w.exec(ctx, "erase", "DELETE FROM "+w.table(t[0], g)+w.onCluster()+" WHERE "+where, args...); err != nil {
				return fmt.Errorf("erasing from %s of generation %d: %w", t[0], g, err)
			}
		}
	}
	return nil
}

// Purge removes the bytes of what has been erased since the last Purge, in all generations. It rewrites parts: run it at night. Rows that a
// writer stored while the erasure was going on are hidden first, so an erasure is complete after the first Purge that began after all
// writers had loaded it.
func (w *Warehouse) Purge(ctx context.Context) error {
	all, err := w.LoadErasures(ctx)
	if err != nil {
		return err
	}
	touched := make(map[string]bool)
	var open []Erasure
	for _, e := range all {
		if e.Purged {
			continue
		}
		open = append(open, e)
		if err := w.hide(ctx, e); err != nil {
			return err
		}
		for _, t := range e.tables() {
			touched[t[0]] = true
		}
	}
	generations, err := w.Generations(ctx)
	if err != nil {
		return err
	}
	for _, g := range generations {
		for _, table := range generationTables {
			if !touched[table] {
				continue
			}
			if err := w.execLong(ctx, "purge", "ALTER TABLE "+w.table(table, g)+w.onCluster()+" APPLY DELETED MASK SETTINGS mutations_sync = 2"); err != nil {
				return fmt.Errorf("purging %s of generation %d: %w", table, g, err)
			}
		}
	}
	for _, e := range open {
		if err := w.recordErasure(ctx, e, "purged"); err != nil {
			return err
		}
	}
	return nil
}

func (w *Warehouse) recordErasure(ctx context.Context, e Erasure, state string) error {
	names := []string{"environment", "integration", "connection", "model", "variant", "record_id"}
	columns := make([]column, 0, len(names)+3)
	for i, v := range []string{e.Stream.Environment, e.Stream.Integration, e.Stream.Connection, e.Stream.Model, e.Stream.Variant, e.RecordID} {
		c := newText(names[i])
		c.add(v)
		columns = append(columns, c)
	}
	erased, at := newMillis("erased_at"), newMillis("at")
	erased.add(e.At.UnixMilli())
	at.add(time.Now().UnixMilli())
	states := &fixed[int8]{columnHeader: columnHeader{"state", "Enum8('asked' = 1, 'deleted' = 2, 'purged' = 3)"}}
	states.add(map[string]int8{"asked": 1, "deleted": 2, "purged": 3}[state])
	t := newLayout("_erasures", append(columns, erased, states, at)...)
	if err := w.insertShared(ctx, &t); err != nil {
		return fmt.Errorf("recording erasure: %w", err)
	}
	return nil
}

// LoadErasures returns all erasures, oldest first.
func (w *Warehouse) LoadErasures(ctx context.Context) ([]Erasure, error) {
	ctx, cancel := w.context(ctx, "erasures", nil)
	defer cancel()
	key := "environment, integration, connection, model, variant, record_id, erased_at"
	rows, err := w.conn.Query(ctx, strings.NewReplacer("KEY", key, "TABLE", w.shared("_erasures")).Replace(
		"SELECT KEY, toInt8(max(state)) FROM TABLE GROUP BY KEY ORDER BY erased_at, KEY"))
	if err != nil {
		return nil, fmt.Errorf("loading erasures: %w", err)
	}
	defer rows.Close()
	var out []Erasure
	for rows.Next() {
		var e Erasure
		var state int8
		s := &e.Stream
		if err := rows.Scan(&s.Environment, &s.Integration, &s.Connection, &s.Model, &s.Variant, &e.RecordID, &e.At, &state); err != nil {
			return nil, fmt.Errorf("loading erasures: %w", err)
		}
		e.At, e.Deleted, e.Purged = e.At.UTC(), state >= 2, state >= 3
		out = append(out, e)
	}
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("loading erasures: %w", err)
	}
	return out, nil
}
