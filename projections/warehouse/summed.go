package warehouse

import (
	"context"
	"fmt"
)

// Summed is the highest csn that the partials of a partition hold whose windows begin at from or later, and before before; 0: there are
// none. A writer whose log has lost its head goes on behind it.
func (w *Warehouse) Summed(ctx context.Context, generation int, partition uint16, from, before uint64) (uint64, error) {
	ctx, cancel := w.context(ctx, "summed", nil)
	defer cancel()
	var csn uint64
	err := w.conn.QueryRow(ctx, fmt.Sprintf("SELECT max(to_csn) FROM %s WHERE kpart = ? AND win >= ? AND win < ?", w.table("changes_1d", generation)),
		partition, from, before).Scan(&csn)
	if err != nil {
		return 0, fmt.Errorf("asking what is summed up: %w", err)
	}
	return csn, nil
}
