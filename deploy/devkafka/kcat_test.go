package devkafka

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"testing"
)

// requireTool returns the path of a program that a test needs. Without it the test is skipped, or fails if TIDEMARK_REQUIRE names
// it: a list separated by commas, or "all".
func requireTool(t testing.TB, name, how string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err == nil {
		return path
	}
	required := strings.Split(os.Getenv("TIDEMARK_REQUIRE"), ",")
	if slices.Contains(required, name) || slices.Contains(required, "all") {
		t.Fatalf("%s is required and not on the PATH: %s", name, how)
	}
	t.Skipf("needs %s on the PATH: %s", name, how)
	return ""
}

// kcat runs the librdkafka client and returns what it printed.
func kcat(t testing.TB, stdin string, args ...string) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), requireTool(t, "kcat", "apt-get install kcat"), args...)
	cmd.Stdin = strings.NewReader(stdin)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Errorf("kcat %q: %v\n%s", args, err, stderr.String())
	}
	return string(out)
}

// TestKcat is the broker as programs in other languages see it: most of them stand on librdkafka, as kcat does.
func TestKcat(t *testing.T) {
	requireTool(t, "kcat", "apt-get install kcat")
	dir := t.TempDir()
	b := start(t, dir)
	must(t, b.CreateTopic("t", 2, nil))
	addr := b.Addr()

	if list := kcat(t, "", "-b", addr, "-L"); !strings.Contains(list, "broker 0 at "+addr) || !strings.Contains(list, `topic "t" with 2 partitions`) {
		t.Errorf("kcat lists %s", list)
	}

	var want []string
	for i, opts := range [][]string{
		{"-z", "none"}, {"-z", "gzip"}, {"-z", "snappy"}, {"-z", "lz4"}, {"-z", "zstd"},
		{"-X", "enable.idempotence=true"}, {"-X", "transactional.id=kcat"},
	} {
		var lines string
		for j := range 100 {
			value := fmt.Sprintf("value %d of %s", j, strings.Join(opts, " "))
			want = append(want, fmt.Sprintf("key%d|h=%d|%s", i, i, value))
			lines += fmt.Sprintf("key%d|%s\n", i, value)
		}
		kcat(t, lines, append([]string{"-P", "-b", addr, "-t", "t", "-p", "1", "-K", "|", "-H", fmt.Sprintf("h=%d", i)}, opts...)...)
	}
	consume := func(t *testing.T, addr string, args ...string) []string {
		t.Helper()
		out := kcat(t, "", append([]string{"-C", "-b", addr, "-e", "-q", "-f", "%k|%h|%s\n"}, args...)...)
		return strings.Split(strings.TrimSuffix(out, "\n"), "\n")
	}
	same := func(t *testing.T, what string, got []string) {
		t.Helper()
		if !slices.Equal(got, want) {
			t.Errorf("%s: %d lines, want %d; first %q", what, len(got), len(want), got[:min(3, len(got))])
		}
	}
	same(t, "from the beginning", consume(t, addr, "-t", "t", "-p", "1", "-o", "beginning"))
	same(t, "read committed", consume(t, addr, "-t", "t", "-p", "1", "-o", "beginning", "-X", "isolation.level=read_committed"))
	group := func(addr string) []string {
		out := kcat(t, "", "-b", addr, "-e", "-q", "-f", "%k|%h|%s\n", "-X", "auto.offset.reset=earliest", "-G", "readers", "t")
		return strings.Split(strings.TrimSuffix(out, "\n"), "\n")
	}
	same(t, "as a group", group(addr))
	var byFranz []string
	for _, r := range readAll(t, addr, "t", 1) {
		byFranz = append(byFranz, fmt.Sprintf("%s|%s=%s|%s", r.Key, r.Headers[0].Key, r.Headers[0].Value, r.Value))
	}
	same(t, "by franz-go", byFranz)

	t.Run("after a kill", func(t *testing.T) {
		killed := start(t, crashCopy(t, dir), func(c *Config) { c.Listen = "127.0.0.1:0" })
		same(t, "from the beginning", consume(t, killed.Addr(), "-t", "t", "-p", "1", "-o", "beginning"))
		kcat(t, "key|new\n", "-P", "-b", killed.Addr(), "-t", "t", "-p", "1", "-K", "|", "-H", "h=9")
		if got := group(killed.Addr()); !slices.Equal(got, []string{"key|h=9|new"}) {
			t.Errorf("the group got %q, want the new record alone", got)
		}
	})
	t.Run("without space", func(t *testing.T) {
		var d disk // full
		b := start(t, t.TempDir(), func(c *Config) { c.ReserveBytes, c.FreeBytes = 1<<20, d.freeBytes })
		must(t, b.CreateTopic("t", 1, nil))
		var trying sync.WaitGroup
		trying.Go(func() { kcat(t, "during\n", "-P", "-b", b.Addr(), "-t", "t", "-p", "0") })
		waitFor(t, "kcat to try more than once", func() bool { return refusals(b) > 1 })
		d.free.Store(1 << 30)
		trying.Wait()
		wantValues(t, readAll(t, b.Addr(), "t", 0), "during")
	})
}
