package warehouse

import (
	"context"
	"fmt"
	"path"
	"slices"
	"strings"
)

// CreateGeneration makes the tables of a generation, or brings them up to date. Migrate comes first.
func (w *Warehouse) CreateGeneration(ctx context.Context, generation int) error {
	all, err := w.generationStatements(generation)
	if err != nil {
		return err
	}
	return w.run(ctx, all)
}

// DropGeneration drops the tables of a generation. The views must read another one.
func (w *Warehouse) DropGeneration(ctx context.Context, generation int) error {
	serving, err := w.ViewsGeneration(ctx)
	if err != nil {
		return err
	}
	if serving == generation {
		return fmt.Errorf("dropping generation %d: the views read it", generation)
	}
	for _, table := range generationTables {
		if err := w.exec(ctx, "drop", "DROP TABLE IF EXISTS "+w.table(table, generation)+w.onCluster()+" SYNC"); err != nil {
			return fmt.Errorf("dropping generation %d: %w", generation, err)
		}
	}
	// What is recorded of the tables is about those that are gone.
	sql := fmt.Sprintf("DELETE FROM %s%s WHERE startsWith(migration, 'g%d/')", w.shared("_migrations"), w.onCluster(), generation)
	if err := w.exec(ctx, "drop", sql); err != nil {
		return fmt.Errorf("forgetting migrations of generation %d: %w", generation, err)
	}
	for _, table := range []string{"_progress", "_audits"} {
		sql := fmt.Sprintf("DELETE FROM %s%s WHERE generation = %d", w.shared(table), w.onCluster(), generation)
		if err := w.exec(ctx, "drop", sql); err != nil {
			return fmt.Errorf("forgetting %s of generation %d: %w", table, generation, err)
		}
	}
	return nil
}

// Generations are those that have tables, in order.
func (w *Warehouse) Generations(ctx context.Context) ([]int, error) {
	ctx, cancel := w.context(ctx, "generations", nil)
	defer cancel()
	rows, err := w.conn.Query(ctx, `SELECT toInt64(extract(name, '^changes_g([0-9]+)$')) AS g FROM system.tables
WHERE database = ? AND match(name, '^changes_g[0-9]+$') ORDER BY g`, w.cfg.Database)
	if err != nil {
		return nil, fmt.Errorf("listing generations: %w", err)
	}
	defer rows.Close()
	var out []int
	for rows.Next() {
		var g int64
		if err := rows.Scan(&g); err != nil {
			return nil, fmt.Errorf("listing generations: %w", err)
		}
		out = append(out, int(g))
	}
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("listing generations: %w", err)
	}
	return out, nil
}

// ViewsGeneration is the generation that the views read; 0: there are no views.
func (w *Warehouse) ViewsGeneration(ctx context.Context) (int, error) {
	ctx, cancel := w.context(ctx, "generations", nil)
	defer cancel()
	// The last view that SetViews makes says it: an interrupted switch is one that has not happened.
	views := Views()
	var g int64
	err := w.conn.QueryRow(ctx, `SELECT toInt64OrZero(max(extract(create_table_query, '_g([0-9]+)\\b'))) FROM system.tables
WHERE database = ? AND name = ?`, w.cfg.Database, views[len(views)-1]).Scan(&g)
	if err != nil {
		return 0, fmt.Errorf("reading the generation of the views: %w", err)
	}
	return int(g), nil
}

// Views are the names of the public views, in the order in which they are made.
func Views() []string {
	var out []string
	for _, file := range templates("views") {
		out = append(out, strings.TrimSuffix(path.Base(file), ".sql.tmpl"))
	}
	return slices.Clip(out)
}

// SetViews makes the public views read a generation, one after the other. A query over two views may see two generations in between;
// both are exact. That they read another one than before is noted, for v1_maintenance.
func (w *Warehouse) SetViews(ctx context.Context, generation int) error {
	before, err := w.ViewsGeneration(ctx)
	if err != nil {
		return err
	}
	for _, file := range templates("views") {
		statements, err := w.render(file, generation)
		if err != nil {
			return err
		}
		for _, sql := range statements {
			if err := w.exec(ctx, "views", sql); err != nil {
				return fmt.Errorf("making view %s: %w", strings.TrimSuffix(path.Base(file), ".sql.tmpl"), err)
			}
		}
	}
	if before == 0 || before == generation {
		return nil
	}
	if err := w.exec(ctx, "views", fmt.Sprintf("INSERT INTO %s (generation) VALUES (%d)", w.shared("_switches"), generation)); err != nil {
		return fmt.Errorf("noting that the views read generation %d: %w", generation, err)
	}
	return nil
}
