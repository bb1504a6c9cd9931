package warehouse

import (
	"cmp"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"
)

var seedFlag = flag.Uint64("seed", 0, "seed of the random log; 0: the time")

// Rows in any order, repeated, with shorter sums behind longer ones: every view says what the log says.
func TestViews_AreExactWhateverTheOrder(t *testing.T) {
	seed := cmp.Or(*seedFlag, uint64(time.Now().UnixNano()))
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 1))
	w := ready(t, 1)
	now := time.Now().UTC().Truncate(time.Millisecond)
	l := makeLog(r, 3, 1500, now)
	for i, rows := range l.batches(r) {
		w.encoded = i%4 != 3 // by the driver's batches, too
		if err := w.Insert(t.Context(), 1, &rows); err != nil {
			t.Fatal(err)
		}
	}
	check := func(when string) {
		for _, c := range l.expectations(now) {
			got := lines(t, w, c.sql)
			want := slices.Sorted(slices.Values(c.want))
			slices.Sort(got)
			if !slices.Equal(got, want) {
				t.Errorf("seed %d, %s: %s\n%s", seed, when, c.sql, difference(got, want))
			}
			if len(want) == 0 && !c.mayBeEmpty {
				t.Errorf("seed %d: nothing to compare: %s", seed, c.sql)
			}
		}
	}
	check("as written")
	for _, table := range generationTables {
		if err := w.execLong(t.Context(), "test", "OPTIMIZE TABLE "+w.table(table, 1)+" FINAL"); err != nil {
			t.Fatal(err)
		}
	}
	check("merged")
}

// lines runs a query, and returns its rows as tab-separated text.
func lines(t testing.TB, w *Warehouse, sql string) []string {
	t.Helper()
	out, err := query(t, w, sql)
	if err != nil {
		t.Fatalf("%s\n%v", sql, err)
	}
	return out
}

func query(t testing.TB, w *Warehouse, sql string) ([]string, error) {
	rc, err := w.conn.QueryFormat(t.Context(), "TSVRaw", "SELECT * FROM ("+strings.ReplaceAll(sql, "@", "tidemark.v1_")+")")
	if err != nil {
		return nil, err
	}
	defer rc.Close()
	b, err := io.ReadAll(rc)
	if err != nil {
		return nil, err
	}
	if len(b) == 0 {
		return nil, nil
	}
	return strings.Split(strings.TrimSuffix(string(b), "\n"), "\n"), nil
}

func difference(got, want []string) string {
	var b strings.Builder
	n := 0
	for _, s := range got {
		if !slices.Contains(want, s) && n < 5 {
			fmt.Fprintf(&b, "  got  %q\n", s)
			n++
		}
	}
	for _, s := range want {
		if !slices.Contains(got, s) && n < 10 {
			fmt.Fprintf(&b, "  want %q\n", s)
			n++
		}
	}
	fmt.Fprintf(&b, "  %d lines, want %d", len(got), len(want))
	return b.String()
}
