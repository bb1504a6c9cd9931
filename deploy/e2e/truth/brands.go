package truth

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// Brands gives the directory of the brand snapshots: brands in the directory of real data, which the environment variable
// TIDEMARK_TESTDATA names and which is else ../shared/data seen from the module's root. Without the data the test is skipped, or
// fails when TIDEMARK_REQUIRE, a list with commas, holds brands or all.
func Brands(tb testing.TB) string {
	tb.Helper()
	data := os.Getenv("TIDEMARK_TESTDATA")
	if data == "" {
		data = filepath.Join(moduleRoot(tb), "..", "shared", "data")
	}
	dir := filepath.Join(data, "brands")
	if info, err := os.Stat(dir); err == nil && info.IsDir() {
		return dir
	}
	if required("brands") {
		tb.Fatalf("the brand snapshots are required and are not in %s (TIDEMARK_TESTDATA)", dir)
	}
	tb.Skipf("no brand snapshots in %s (TIDEMARK_TESTDATA)", dir)
	return ""
}

func required(name string) bool {
	list := strings.Split(os.Getenv("TIDEMARK_REQUIRE"), ",")
	return slices.Contains(list, name) || slices.Contains(list, "all")
}

// moduleRoot is the directory of go.mod at or above the working directory, which is the package's own in a test.
func moduleRoot(tb testing.TB) string {
	tb.Helper()
	dir, err := os.Getwd()
	if err != nil {
		tb.Fatal(err)
	}
	for {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return dir
		}
		parent := filepath.Dir(dir)
		if parent == dir {
			tb.Fatal("no go.mod at or above the working directory")
		}
		dir = parent
	}
}
