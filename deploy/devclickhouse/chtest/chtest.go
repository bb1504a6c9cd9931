package chtest

import (
	"context"
	"log/slog"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/tidemark-dev/tidemark/deploy/devclickhouse"
	"github.com/tidemark-dev/tidemark/deploy/devclickhouse/library"
)

// The library is fetched once for a process, and its lack is remembered: a failed fetch can take minutes.
var fetchOnce = sync.OnceValues(func() (string, error) { return library.Fetch(context.Background(), library.Options{}) })

// Library returns the path of libchdb.
func Library(t testing.TB) string {
	t.Helper()
	path, err := library.Find("")
	if err == nil {
		return path
	}
	required := strings.Split(os.Getenv("TIDEMARK_REQUIRE"), ",")
	if !slices.Contains(required, "chdb") && !slices.Contains(required, "all") {
		t.Skipf("needs the ClickHouse library: tidemark clickhouse fetch, or TIDEMARK_REQUIRE=chdb to fetch it now (%v)", err)
	}
	if path, err = fetchOnce(); err != nil {
		t.Fatalf("the ClickHouse library is required: %v", err)
	}
	return path
}

// Start runs an embedded ClickHouse until the end of the test, on a directory of its own unless an edit sets one.
func Start(t testing.TB, edits ...func(*devclickhouse.Config)) *devclickhouse.Server {
	t.Helper()
	cfg := devclickhouse.Config{
		Library:     Library(t),
		MemoryBytes: 1 << 30,
		Logger:      slog.New(slog.NewTextHandler(t.Output(), nil)),
	}
	for _, edit := range edits {
		edit(&cfg)
	}
	if cfg.Dir == "" {
		cfg.Dir = t.TempDir()
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	s, err := devclickhouse.Start(ctx, cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
		defer cancel()
		if err := s.Stop(ctx); err != nil {
			t.Errorf("the embedded ClickHouse: %v", err)
		}
	})
	return s
}
