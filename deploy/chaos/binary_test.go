package chaos

import (
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	// The go command keeps results of tests as long as nothing that they import changes. These test everything that the binary is made of.
	_ "github.com/tidemark-dev/tidemark/deploy/cli"
)

const module = "github.com/tidemark-dev/tidemark"

// buildDir lives as long as the test binary: t.TempDir would take the binary from the tests after the first.
var buildDir string

func TestMain(m *testing.M) {
	dir, err := os.MkdirTemp("", "chaos")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	buildDir = dir
	code := m.Run()
	if err := os.RemoveAll(dir); err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = max(code, 1)
	}
	os.Exit(code)
}

var build = sync.OnceValues(func() (string, error) {
	path := filepath.Join(buildDir, "tidemark")
	out, err := exec.Command("go", "build", raceFlag, "-o", path, module).CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("building the binary: %w\n%s", err, out)
	}
	return path, nil
})

// binary is the path of the product.
func binary(t testing.TB) string {
	t.Helper()
	path, err := build()
	must(t, err)
	return path
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// lacking skips the test because the machine lacks something, or fails it if that is required.
func lacking(t testing.TB, what, how string) {
	t.Helper()
	required := strings.Split(os.Getenv("TIDEMARK_REQUIRE"), ",")
	if slices.Contains(required, what) || slices.Contains(required, "all") {
		t.Fatalf("%s is required: %s", what, how)
	}
	t.Skipf("needs %s: %s", what, how)
}

// setting reads a number from the environment; without it, it is def.
func setting(t testing.TB, name string, def int) int {
	t.Helper()
	text := os.Getenv(name)
	if text == "" {
		return def
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 {
		t.Fatalf("%s is %q, want a number from 1", name, text)
	}
	return n
}

// newRand is random, and says how to be so again.
func newRand(t testing.TB) *rand.Rand {
	seed := uint64(setting(t, "TIDEMARK_CHAOS_SEED", int(time.Now().UnixNano()%1e9+1)))
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("TIDEMARK_CHAOS_SEED=%d", seed)
		}
	})
	return rand.New(rand.NewPCG(seed, 0))
}

// eventually polls until done, which says what is still missing.
func eventually(t testing.TB, within time.Duration, done func() (missing string)) {
	t.Helper()
	for deadline := time.Now().Add(within); ; time.Sleep(20 * time.Millisecond) {
		missing := done()
		if missing == "" {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("after %s still: %s", within, missing)
		}
	}
}

// pause lets time pass; nothing is waited for.
func pause(t testing.TB, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-t.Context().Done():
	}
}

func between(rng *rand.Rand, from, to time.Duration) time.Duration {
	return from + time.Duration(rng.Int64N(int64(to-from)))
}
