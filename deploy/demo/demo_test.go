package demo_test

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/tidemark-dev/tidemark/deploy/demo"
	"github.com/tidemark-dev/tidemark/deploy/e2e/truth"
)

func read(t *testing.T, s demo.Snapshot) []byte {
	t.Helper()
	in, err := s.Open()
	if err != nil {
		t.Fatal(err)
	}
	data, err := io.ReadAll(in)
	if err != nil {
		t.Fatal(err)
	}
	if err := in.Close(); err != nil {
		t.Fatal(err)
	}
	return data
}

// The embedded files are those of the folder, in order, each can be opened again, and the demo has something to show: every
// step after the first adds, updates and deletes, and the last has titles twice. README.md says the same numbers.
func TestSnapshots_ShowEveryChange(t *testing.T) {
	steps, err := truth.Load("brands")
	if err != nil {
		t.Fatal(err)
	}
	readme, err := os.ReadFile(filepath.Join("brands", "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	all := demo.Snapshots()
	if len(all) != 4 || len(steps) != len(all) {
		t.Fatalf("%d snapshots, %d files", len(all), len(steps))
	}
	for i, s := range all {
		step := steps[i]
		onDisk, err := os.ReadFile(filepath.Join("brands", step.File))
		if err != nil {
			t.Fatal(err)
		}
		if s.Name != step.File || !bytes.Equal(read(t, s), onDisk) || !bytes.Equal(read(t, s), onDisk) {
			t.Errorf("snapshot %d is %s, not the bytes of %s", i, s.Name, step.File)
		}
		if i > 0 && (len(step.Added) == 0 || len(step.Updated) == 0 || len(step.Deleted) == 0) {
			t.Errorf("%s: %d added, %d updated, %d deleted", s.Name, len(step.Added), len(step.Updated), len(step.Deleted))
		}
		counts := fmt.Sprintf(" | %d | %d | %d | %d | %d | %d |\n", step.Records, len(step.Duplicates),
			len(step.Added), len(step.Updated), len(step.Deleted), len(step.Unchanged))
		says := func(line string) bool {
			return strings.HasPrefix(line, "| "+s.Name+" | ") && strings.HasSuffix(line, counts)
		}
		if !slices.ContainsFunc(slices.Collect(strings.Lines(string(readme))), says) {
			t.Errorf("README.md has no line for %s that ends in %q", s.Name, counts)
		}
	}
	if last := steps[len(steps)-1]; len(last.Duplicates) == 0 {
		t.Errorf("%s has no title twice", last.File)
	}
}

func TestSnapshots_AreTheSourcesBytes(t *testing.T) {
	dir := truth.Brands(t)
	names := []string{}
	for _, s := range demo.Snapshots() {
		want, err := os.ReadFile(filepath.Join(dir, s.Name))
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(read(t, s), want) {
			t.Errorf("%s differs from the source", s.Name)
		}
		names = append(names, s.Name)
	}
	// Consecutive: no snapshot of the source lies between the first and the last.
	all, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var between []string
	for _, e := range all {
		if e.Name() >= names[0] && e.Name() <= names[len(names)-1] {
			between = append(between, e.Name())
		}
	}
	if !slices.Equal(between, names) {
		t.Errorf("the source has %v between the first and the last of %v", between, names)
	}
}
