package truth_test

import (
	"crypto/sha256"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"sync"
	"testing"

	"github.com/tidemark-dev/tidemark/deploy/e2e/truth"
)

var update = flag.Bool("update", false, "write testdata/brands.golden from the real data")

var loaded struct {
	sync.Once
	steps []truth.Step
	err   error
}

// brands gives the steps of the real data, which the tests share and must not change.
func brands(t *testing.T) []truth.Step {
	t.Helper()
	dir := truth.Brands(t)
	loaded.Do(func() { loaded.steps, loaded.err = truth.Load(dir) })
	if loaded.err != nil {
		t.Fatal(loaded.err)
	}
	return loaded.steps
}

// table writes a line of counts a file, and a SHA-256 over all the lists behind them: a line "A title", "U title fields",
// "D title", "= title" or "2 title" (for a duplicate) for each id, with tabs between and commas between field names.
func table(steps []truth.Step) string {
	var out strings.Builder
	fmt.Fprintln(&out, "file\trecords\tlive\tduplicates\tadded\tupdated\tdeleted\tunchanged\tsha256")
	for _, s := range steps {
		h := sha256.New()
		for _, id := range s.Added {
			fmt.Fprintf(h, "A\t%s\n", id)
		}
		for _, id := range s.Updated {
			fmt.Fprintf(h, "U\t%s\t%s\n", id, strings.Join(s.Changed[id], ","))
		}
		for _, id := range s.Deleted {
			fmt.Fprintf(h, "D\t%s\n", id)
		}
		for _, id := range s.Unchanged {
			fmt.Fprintf(h, "=\t%s\n", id)
		}
		for _, id := range s.Duplicates {
			fmt.Fprintf(h, "2\t%s\n", id)
		}
		fmt.Fprintf(&out, "%s\t%d\t%d\t%d\t%d\t%d\t%d\t%d\t%x\n", s.File, s.Records, len(s.Live), len(s.Duplicates),
			len(s.Added), len(s.Updated), len(s.Deleted), len(s.Unchanged), h.Sum(nil))
	}
	return out.String()
}

// The golden table was checked once against a separate computation in another language: a Python script of forty lines that
// reads each file with the json module (integers and fractions kept as their text), puts the objects into a dict by title so that
// the last one stays, compares dicts with the dict before by ==, sorts by bytes, and prints this table, digests of the lists
// included. All 38 lines were the same, byte for byte. The records and live columns are also those of the table that comes with
// the data.
func TestLoad_BrandsGolden(t *testing.T) {
	got := table(brands(t))
	golden := filepath.Join("testdata", "brands.golden")
	if *update {
		if err := os.WriteFile(golden, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

// What must hold between the lists of any steps, whatever the data.
func TestLoad_BrandsAddUp(t *testing.T) {
	steps := brands(t)
	live := map[string]string{}
	for _, s := range steps {
		if len(s.Updated) != len(s.Changed) {
			t.Errorf("%s: %d updated, changed members of %d", s.File, len(s.Updated), len(s.Changed))
		}
		for _, id := range s.Added {
			if _, was := live[id]; was {
				t.Errorf("%s: %q is added twice", s.File, id)
			}
			live[id] = s.Live[id]
		}
		for _, id := range s.Updated {
			if then, was := live[id]; !was || then == s.Live[id] || len(s.Changed[id]) == 0 {
				t.Errorf("%s: %q is updated from %q to %q in %v", s.File, id, then, s.Live[id], s.Changed[id])
			}
			live[id] = s.Live[id]
		}
		for _, id := range s.Deleted {
			if _, was := live[id]; !was {
				t.Errorf("%s: %q is deleted and was not there", s.File, id)
			}
			delete(live, id)
		}
		for _, id := range s.Unchanged {
			if live[id] != s.Live[id] {
				t.Errorf("%s: %q is unchanged from %q to %q", s.File, id, live[id], s.Live[id])
			}
		}
		if !reflect.DeepEqual(live, s.Live) {
			t.Errorf("%s: the changes do not lead to the live records", s.File)
		}
	}

	last := filepath.Join(truth.Brands(t), steps[len(steps)-1].File)
	again, err := truth.LoadFiles(last, last)
	if err != nil {
		t.Fatal(err)
	}
	if s := again[1]; len(s.Added)+len(s.Updated)+len(s.Deleted) != 0 || len(s.Unchanged) != len(live) {
		t.Errorf("the last file again gives %d added, %d updated, %d deleted", len(s.Added), len(s.Updated), len(s.Deleted))
	}
}
