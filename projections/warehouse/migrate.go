package warehouse

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"path"
	"strings"
	"time"
)

// Statement is one statement of a migration. All are idempotent: ClickHouse has no transactions around DDL, so what was interrupted is
// run again.
type Statement struct {
	Migration string // 0001_shared, or g1/0001_tables
	Number    int    // from 1
	SQL       string
	Checksum  string
	// repeats marks statements of which only the last counts: they run again if their text has changed.
	repeats bool
	// undoes marks statements that take an earlier text of theirs back: without one there is nothing to do. Codes of codeNothingToUndo
	// mean that it has been taken back already.
	undoes bool
}

// codeNothingToUndo is BAD_ARGUMENTS: a table without a TTL does not like to lose it.
const codeNothingToUndo = 36

func (s Statement) key() string { return fmt.Sprintf("%s#%d", s.Migration, s.Number) }

// errDrift is what the error wraps that says that a migration was applied with another text.
var errDrift = errors.New("migration has changed since it was applied")

// DriftError says that a migration was applied with another text than this program has: the database was made by another version, or
// for another topology. Nothing was changed. Tables of a generation are not altered in place: a new generation, which a rebuild makes beside
// this one, has them as this program writes them.
type DriftError struct {
	Migration     string
	Number        int
	Applied, Have string // checksums
}

func (e *DriftError) Error() string {
	msg := fmt.Sprintf("migration %s, statement %d, was applied as %s, but this program has %s", e.Migration, e.Number, e.Applied, e.Have)
	if strings.Contains(e.Migration, "/") {
		msg += ": `tidemark projections rebuild` makes tables as this version has them, out of the log and these, and then has the views read them"
	}
	return msg
}

// Unwrap makes it an error of class [Schema].
func (e *DriftError) Unwrap() error { return errDrift }

func newStatement(migration string, number int, sql string, repeats bool) Statement {
	sum := sha256.Sum256([]byte(sql))
	return Statement{Migration: migration, Number: number, SQL: sql, Checksum: hex.EncodeToString(sum[:8]), repeats: repeats}
}

// bootstrap makes the database and the table that the runner itself needs.
func (w *Warehouse) bootstrap() []Statement {
	var out []Statement
	if w.cfg.Topology != ReplicatedDB { // made by the operator, on each node, with arguments that only they know
		out = append(out, newStatement("", 0, "CREATE DATABASE IF NOT EXISTS "+quoted(w.cfg.Database)+w.onCluster(), false))
	}
	return append(out, newStatement("", 0, "CREATE TABLE IF NOT EXISTS "+w.shared("_migrations")+w.onCluster()+` (
  migration String,
  statement UInt16,
  checksum  String,
  state     Enum8('started' = 1, 'done' = 2),
  at        DateTime64(3, 'UTC') DEFAULT now64(3)
) ENGINE = `+w.engine("MergeTree")+`
ORDER BY (migration, statement, at)
`+w.settings(), false))
}

// statements are those of a folder of ddl, under a prefix.
func (w *Warehouse) statements(folder, prefix string, generation int) ([]Statement, error) {
	var out []Statement
	for _, file := range templates(folder) {
		sqls, err := w.render(file, generation)
		if err != nil {
			return nil, err
		}
		name := prefix + strings.TrimSuffix(path.Base(file), ".sql.tmpl")
		for i, sql := range sqls {
			out = append(out, newStatement(name, i+1, sql, false))
		}
	}
	return out, nil
}

func (w *Warehouse) sharedStatements() ([]Statement, error) {
	out, err := w.statements("shared", "", 0)
	if err != nil {
		return nil, err
	}
	return append(out,
		w.ttl("ttl/lag_samples", w.shared("lag_samples"), "sampled_at", w.keep.Lag),
		w.ttl("ttl/_progress", w.shared("_progress"), "at", progressDays),
		w.ttl("ttl/_audits", w.shared("_audits"), "at", w.keep.Lag),
	), nil
}

func (w *Warehouse) generationStatements(generation int) ([]Statement, error) {
	prefix := fmt.Sprintf("g%d/", generation)
	out, err := w.statements("generation", prefix, generation)
	if err != nil {
		return nil, err
	}
	out = append(out, w.ttl(prefix+"ttl/changes", w.table("changes", generation), "changed_at", w.keep.Facts))
	for _, l := range w.levels() {
		out = append(out, w.ttl(prefix+"ttl/"+l.Table, w.table(l.Table, generation), "bucket", l.days(w.keep)))
	}
	return append(out, w.ttl(prefix+"ttl/events", w.table("events", generation), "at", w.keep.Events)), nil
}

// ttl sets how long a table keeps its rows. Parts that are there already keep the date that they were written with until they are merged:
// rewriting them would be a mutation of the whole table.
func (w *Warehouse) ttl(migration, table, column string, days int) Statement {
	alter := "ALTER TABLE " + table + w.onCluster()
	if days > 0 {
		alter += fmt.Sprintf(" MODIFY TTL toDateTime(%s) + INTERVAL %d DAY SETTINGS materialize_ttl_after_modify = 0", column, days)
	} else {
		alter += " REMOVE TTL"
	}
	s := newStatement(migration, 1, alter, true)
	s.undoes = days <= 0
	return s
}

// applied are the states of statements: those that are done, by key, and the text that each was done with last.
type applied map[string]string

func (w *Warehouse) applied(ctx context.Context) (applied, error) {
	ctx, cancel := w.context(ctx, "migrate", nil)
	defer cancel()
	rows, err := w.conn.Query(ctx, "SELECT migration, statement, argMax(checksum, at) FROM "+w.shared("_migrations")+
		" WHERE state = 'done' GROUP BY migration, statement")
	if err != nil {
		return nil, fmt.Errorf("reading migrations: %w", err)
	}
	defer rows.Close()
	done := make(applied)
	for rows.Next() {
		var s Statement
		var number uint16
		if err := rows.Scan(&s.Migration, &number, &s.Checksum); err != nil {
			return nil, fmt.Errorf("reading migrations: %w", err)
		}
		s.Number = int(number)
		done[s.key()] = s.Checksum
	}
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("reading migrations: %w", err)
	}
	return done, nil
}

// pending are the statements that have yet to run.
func (a applied) pending(all []Statement) ([]Statement, error) {
	var out []Statement
	for _, s := range all {
		was, done := a[s.key()]
		switch {
		case done && was == s.Checksum:
			continue
		case done && !s.repeats:
			return nil, &DriftError{Migration: s.Migration, Number: s.Number, Applied: was, Have: s.Checksum}
		case !done && s.undoes:
			continue
		}
		out = append(out, s)
	}
	return out, nil
}

// Plan returns what Migrate and CreateGeneration would run now, in order, and changes nothing.
func (w *Warehouse) Plan(ctx context.Context, generation int) ([]Statement, error) {
	all, err := w.sharedStatements()
	if err != nil {
		return nil, err
	}
	tables, err := w.generationStatements(generation)
	if err != nil {
		return nil, err
	}
	all = append(all, tables...)
	exists, err := w.exists(ctx, "_migrations")
	if err != nil {
		return nil, err
	}
	if !exists {
		pending, err := applied{}.pending(all)
		return append(w.bootstrap(), pending...), err
	}
	done, err := w.applied(ctx)
	if err != nil {
		return nil, err
	}
	return done.pending(all)
}

// Migrate makes the database and the tables that all generations share, or brings them up to date. Two at once do no harm: every
// statement may run twice, and each runner records for itself what it has done.
func (w *Warehouse) Migrate(ctx context.Context) error {
	for _, s := range w.bootstrap() {
		if err := w.exec(ctx, "migrate", s.SQL); err != nil {
			return fmt.Errorf("making the database: %w", err)
		}
	}
	all, err := w.sharedStatements()
	if err != nil {
		return err
	}
	return w.run(ctx, all)
}

// run runs what is pending of the statements.
func (w *Warehouse) run(ctx context.Context, all []Statement) error {
	done, err := w.applied(ctx)
	if err != nil {
		return err
	}
	pending, err := done.pending(all)
	if err != nil {
		return err
	}
	if len(pending) == 0 {
		return nil
	}
	if err := w.record(ctx, "started", pending...); err != nil {
		return err
	}
	for _, s := range pending {
		start := time.Now()
		err := w.exec(ctx, "migrate", s.SQL)
		if code, _ := Code(err); err != nil && !(s.undoes && code == codeNothingToUndo) {
			return fmt.Errorf("running migration %s, statement %d: %w", s.Migration, s.Number, err)
		}
		if err := w.record(ctx, "done", s); err != nil {
			return err
		}
		w.log.Debug("migration applied", "migration", s.Migration, "statement", s.Number, "took", time.Since(start))
	}
	return nil
}

// record adds a row for each statement.
func (w *Warehouse) record(ctx context.Context, state string, statements ...Statement) error {
	ctx, cancel := w.insertContext(ctx, "migrate")
	defer cancel()
	values := make([]string, 0, len(statements))
	for _, s := range statements {
		values = append(values, fmt.Sprintf("('%s', %d, '%s', '%s')", s.Migration, s.Number, s.Checksum, state))
	}
	sql := "INSERT INTO " + w.shared("_migrations") + " (migration, statement, checksum, state) VALUES " + strings.Join(values, ", ")
	if err := w.conn.Exec(ctx, sql); err != nil {
		return fmt.Errorf("recording %d statements of migration %s as %s: %w", len(statements), statements[0].Migration, state, err)
	}
	return nil
}

// exists reports whether there is such a table in the database.
func (w *Warehouse) exists(ctx context.Context, table string) (bool, error) {
	ctx, cancel := w.context(ctx, "migrate", nil)
	defer cancel()
	var n uint64
	err := w.conn.QueryRow(ctx, "SELECT count() FROM system.tables WHERE database = ? AND name = ?", w.cfg.Database, table).Scan(&n)
	if err != nil {
		return false, fmt.Errorf("looking for table %s: %w", table, err)
	}
	return n > 0, nil
}
