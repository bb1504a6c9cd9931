package truth

import (
	"os"
	"path/filepath"
	"runtime"
	"testing"
)

// tester notes how a test would have ended.
type tester struct {
	testing.TB
	ended string
}

func (f *tester) Helper()               {}
func (f *tester) Fatalf(string, ...any) { f.ended = "failed"; runtime.Goexit() }
func (f *tester) Skipf(string, ...any)  { f.ended = "skipped"; runtime.Goexit() }

func find(t *testing.T) (dir, ended string) {
	f := &tester{TB: t}
	done := make(chan struct{})
	go func() {
		defer close(done)
		dir = Brands(f)
	}()
	<-done
	return dir, f.ended
}

func TestBrands_MissingDataSkipsOrFails(t *testing.T) {
	t.Setenv("TIDEMARK_TESTDATA", t.TempDir())
	for require, want := range map[string]string{
		"": "skipped", "kafka": "skipped", "brand": "skipped", "brands": "failed", "kafka,brands": "failed", "all": "failed",
	} {
		t.Setenv("TIDEMARK_REQUIRE", require)
		if dir, ended := find(t); ended != want || dir != "" {
			t.Errorf("TIDEMARK_REQUIRE=%s: %s, want %s", require, ended, want)
		}
	}
}

func TestBrands_FindsTheData(t *testing.T) {
	data := t.TempDir()
	if err := os.Mkdir(filepath.Join(data, "brands"), 0o700); err != nil {
		t.Fatal(err)
	}
	t.Setenv("TIDEMARK_TESTDATA", data)
	if dir, ended := find(t); ended != "" || dir != filepath.Join(data, "brands") {
		t.Errorf("found %q, %s", dir, ended)
	}
	// Without the variable the place is seen from the module's root, wherever in the module the test is.
	if root := moduleRoot(t); !exists(filepath.Join(root, "go.mod")) || !exists(filepath.Join(root, "deploy", "e2e", "truth")) {
		t.Errorf("the module's root is not %s", root)
	}
}

func exists(name string) bool {
	_, err := os.Stat(name)
	return err == nil
}
