package bench

import (
	"cmp"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"time"
)

// unit is how a figure is shown, and whether more of it is better.
type unit string

const (
	perSecond    unit = "records/s"
	perCPUSecond unit = "records per CPU-second"
	milliseconds unit = "ms"
	nanoseconds  unit = "ns a record"
	bytesEach    unit = "B a record"
	mebibytes    unit = "MiB"
)

func (u unit) show(v float64) string {
	switch u {
	case perSecond, perCPUSecond:
		return fmt.Sprintf("%.0f k %s", v/1e3, u)
	case milliseconds:
		return fmt.Sprintf("%.2f %s", v, u)
	}
	return fmt.Sprintf("%.0f %s", v, u)
}

// figure is one line of the table.
type figure struct {
	measure string
	must    string // "" if nothing is asked for
	unit    unit
	value   float64
	base    string // what it is compared with; "" for nothing
	against float64
}

// table collects what a process measured, over the repetitions of its benchmarks.
type table struct {
	mu     sync.Mutex
	rows   []*tableRow
	lo, hi float64 // load
}

type tableRow struct {
	figure
	order   int
	values  []float64
	against []float64
}

var figures = &table{lo: -1, hi: -1}

// note takes a figure. Repetitions of a measure become one line.
func (t *table) note(logf func(string, ...any), f figure) {
	t.mu.Lock()
	defer t.mu.Unlock()
	line := f.measure + ": " + f.unit.show(f.value)
	if f.base != "" {
		line += fmt.Sprintf(", %.2f x %s (%s)", f.value/f.against, f.base, f.unit.show(f.against))
	}
	logf("%s", line)
	if l := load(); l >= 0 {
		if t.hi < 0 {
			t.lo = l
		}
		t.lo, t.hi = min(t.lo, l), max(t.hi, l)
	}
	i := slices.IndexFunc(t.rows, func(r *tableRow) bool { return r.measure == f.measure })
	if i < 0 {
		t.rows = append(t.rows, &tableRow{figure: f, order: order(f.measure)})
		i = len(t.rows) - 1
	}
	r := t.rows[i]
	r.values = append(r.values, f.value)
	if f.base != "" {
		r.against = append(r.against, f.against)
	}
}

// order is the number with which a measure begins: "3 new records" comes third.
func order(measure string) (n int) {
	if _, err := fmt.Sscan(measure, &n); err != nil {
		return 99
	}
	return n
}

func median(v []float64) float64 {
	s := slices.Sorted(slices.Values(v))
	if len(s)%2 == 1 {
		return s[len(s)/2]
	}
	return (s[len(s)/2-1] + s[len(s)/2]) / 2
}

// print writes the table to standard output and to TIDEMARK_BENCH_TABLE.
func (t *table) print() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.rows) == 0 {
		return nil
	}
	slices.SortStableFunc(t.rows, func(a, b *tableRow) int { return cmp.Compare(a.order, b.order) })
	var b strings.Builder
	fmt.Fprintf(&b, "%s; load %.1f to %.1f; %s\n\n", machine(), t.lo, t.hi, time.Now().UTC().Format(time.DateOnly))
	b.WriteString("| measure | must | median | range | runs | ratio | baseline |\n|---|---|---|---|---|---|---|\n")
	for _, r := range t.rows {
		ratio, base := "", ""
		if r.base != "" {
			ratio = fmt.Sprintf("%.2f", median(r.values)/median(r.against))
			base = fmt.Sprintf("%s: %s", r.base, r.unit.show(median(r.against)))
		}
		spread := r.unit.show(slices.Min(r.values))
		if len(r.values) > 1 {
			spread += " to " + r.unit.show(slices.Max(r.values))
		}
		fmt.Fprintf(&b, "| %s | %s | **%s** | %s | %d | %s | %s |\n", r.measure, r.must, r.unit.show(median(r.values)), spread, len(r.values), ratio, base)
	}
	fmt.Print("\n", b.String())
	if path := os.Getenv("TIDEMARK_BENCH_TABLE"); path != "" {
		return os.WriteFile(path, []byte(b.String()), 0o644)
	}
	return nil
}
