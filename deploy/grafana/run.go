package grafana

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"
)

// Table is the answer to a query.
type Table struct {
	Columns []Column
	// Rows hold, by column: nil for NULL, else string, float64, bool, time.Time, or what the driver makes of another type. Whole numbers
	// above 2^53 are rounded.
	Rows [][]any
}

// Column is a column of a Table.
type Column struct{ Name, Type string }

// rowsMax bounds what is kept of an answer: no panel shows more.
const rowsMax = 100_000

// Run sends an expanded query. The context bounds the time.
func Run(ctx context.Context, conn driver.Conn, sql string) (_ *Table, err error) {
	rows, err := conn.Query(ctx, sql)
	if err != nil {
		return nil, fmt.Errorf("running query: %w", err)
	}
	defer func() {
		if closeErr := rows.Close(); closeErr != nil {
			err = errors.Join(err, fmt.Errorf("ending query: %w", closeErr))
		}
	}()
	t := new(Table)
	var into []any
	for _, c := range rows.ColumnTypes() {
		t.Columns = append(t.Columns, Column{c.Name(), c.DatabaseTypeName()})
		into = append(into, reflect.New(c.ScanType()).Interface())
	}
	for rows.Next() {
		if len(t.Rows) == rowsMax {
			return nil, fmt.Errorf("running query: more than %d rows", rowsMax)
		}
		if err := rows.Scan(into...); err != nil {
			return nil, fmt.Errorf("reading row: %w", err)
		}
		row := make([]any, len(into))
		for i, v := range into {
			row[i] = value(reflect.ValueOf(v).Elem())
		}
		t.Rows = append(t.Rows, row)
	}
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("reading rows: %w", err)
	}
	return t, nil
}

func value(v reflect.Value) any {
	for v.Kind() == reflect.Pointer {
		if v.IsNil() {
			return nil
		}
		v = v.Elem()
	}
	switch {
	case v.CanInt():
		return float64(v.Int())
	case v.CanUint():
		return float64(v.Uint())
	case v.CanFloat():
		return v.Float()
	case v.Type() == reflect.TypeFor[time.Time]():
		return v.Interface()
	}
	return v.Interface()
}

// Index is the place of a column, -1 if there is none of that name.
func (t *Table) Index(column string) int {
	for i, c := range t.Columns {
		if c.Name == column {
			return i
		}
	}
	return -1
}

// Choose gives every variable of a dashboard that is not in given a value, as Grafana does at first: all values where that can be chosen,
// else the first that its query returns. Variables may depend on those before them.
func Choose(ctx context.Context, conn driver.Conn, d *Dashboard, given map[string][]string) (map[string][]string, error) {
	vars := map[string][]string{}
	for i := range d.Templating.List {
		v := &d.Templating.List[i]
		if values, ok := given[v.Name]; ok {
			vars[v.Name] = values
			continue
		}
		switch {
		case v.Type != "query":
			vars[v.Name] = []string{""}
			continue
		case v.IncludeAll:
			vars[v.Name] = []string{All}
			continue
		}
		sql, err := v.SQL()
		if err != nil {
			return nil, err
		}
		q := Query{From: time.Now().Add(-time.Hour), To: time.Now(), Vars: vars}
		if sql, err = q.Expand(sql); err != nil {
			return nil, fmt.Errorf("choosing %s: %w", v.Name, err)
		}
		t, err := Run(ctx, conn, sql)
		if err != nil {
			return nil, fmt.Errorf("choosing %s: %w", v.Name, err)
		}
		vars[v.Name] = []string{""}
		if len(t.Rows) > 0 {
			vars[v.Name] = []string{fmt.Sprint(t.Rows[0][0])}
		}
	}
	for name := range given {
		if _, ok := vars[name]; !ok {
			return nil, fmt.Errorf("dashboard %s has no variable %q", d.UID, name)
		}
	}
	return vars, nil
}
