package warehouse

import (
	"os"
	"testing"

	"github.com/tidemark-dev/tidemark/deploy/devclickhouse"
	"github.com/tidemark-dev/tidemark/deploy/devclickhouse/chtest"
)

// TestMain lets the test binary be the embedded ClickHouse too.
func TestMain(m *testing.M) {
	if devclickhouse.RunChild() {
		return
	}
	os.Exit(m.Run())
}

// open starts an embedded ClickHouse of its own for a test, without any tables.
func open(t testing.TB, edits ...func(*Config)) *Warehouse {
	t.Helper()
	return openOn(t, chtest.Start(t), edits...)
}

func openOn(t testing.TB, s *devclickhouse.Server, edits ...func(*Config)) *Warehouse {
	t.Helper()
	cfg := Config{DSN: s.DSN(false), Topology: Embedded}
	for _, edit := range edits {
		edit(&cfg)
	}
	w, err := Open(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := w.Close(); err != nil {
			t.Errorf("closing the warehouse: %v", err)
		}
	})
	return w
}

// ready is open with the tables of a generation and the views.
func ready(t testing.TB, generation int, edits ...func(*Config)) *Warehouse {
	t.Helper()
	w := open(t, edits...)
	if err := w.Migrate(t.Context()); err != nil {
		t.Fatal(err)
	}
	create(t, w, generation)
	return w
}

func create(t testing.TB, w *Warehouse, generation int) {
	t.Helper()
	if err := w.CreateGeneration(t.Context(), generation); err != nil {
		t.Fatal(err)
	}
	if err := w.SetViews(t.Context(), generation); err != nil {
		t.Fatal(err)
	}
}
