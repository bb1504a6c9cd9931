package e2e_test

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// requireTool skips a test whose tool is missing, or fails it if TIDEMARK_REQUIRE names the tool, or all.
func requireTool(t *testing.T, name string) {
	t.Helper()
	if _, err := exec.LookPath(name); err == nil {
		return
	}
	required := strings.Split(os.Getenv("TIDEMARK_REQUIRE"), ",")
	if slices.Contains(required, name) || slices.Contains(required, "all") {
		t.Fatalf("%s is required and not installed", name)
	}
	t.Skipf("%s is not installed", name)
}

// shell runs a line as somebody would who copies it.
func shell(t *testing.T, line string) (string, error) {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), "sh", "-c", line).CombinedOutput()
	if err != nil {
		err = fmt.Errorf("%s: %w\n%s", line, err, out)
	}
	return string(out), err
}

// A program that knows nothing of us writes a record with a Kafka client of another language, and the lines that up prints read it
// in each of the three ways.
func TestUp_TheLinesThatItPrintsWork(t *testing.T) {
	requireTool(t, "kcat")
	requireTool(t, "curl")
	p := launch(t, "up", "--data", t.TempDir(), "--http", "127.0.0.1:0", "--kafka-listen", "127.0.0.1:0")
	text := strings.Join(p.until(t, "ready after"), "\n")
	line := func(way string) string {
		m := regexp.MustCompile(`(?m)^  ` + way + ` +(.*)$`).FindStringSubmatch(text)
		if m == nil {
			t.Fatalf("no line for %s in\n%s", way, text)
		}
		return m[1]
	}
	kafka := line("Kafka")
	broker := strings.Fields(kafka)[2]
	for id, payload := range map[string]string{"42": `{"name":"Ada"}`, "ü/7": `{"name":"Grace","n":1.0}`} {
		_, err := shell(t, fmt.Sprintf(`printf '%%s\n' '%s' | kcat -b %s -P -t tidemark.raw -X topic.partitioner=murmur2_random -k dev/demo/acme/Brand/base -H t=s -H id=%s`, payload, broker, id))
		if err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range []struct {
		line string
		want []string
	}{
		{kafka + " -e", []string{"dev/demo/acme/Brand/base/42  op=ADDED,csn=", `"after":{"name":"Ada"}`, `"after":{"name":"Grace","n":1.0}`, "%C3%BC%2F7"}},
		{line("HTTP"), []string{`{"name":"Ada","id":"42","_nango_metadata":`, `{"name":"Grace","n":1.0,"id":"ü/7","_nango_metadata":`, `"next_cursor":null`}},
		{line("Terminal") + " --from start --no-wait", []string{"ADDED    42\n", "ADDED    ü/7\n"}},
	} {
		eventually(t, func() error {
			out, err := shell(t, c.line)
			if err != nil {
				return err
			}
			for _, want := range c.want {
				if !strings.Contains(out, want) {
					err = errors.Join(err, fmt.Errorf("%s: no %s in\n%s", c.line, want, out))
				}
			}
			return err
		})
	}
}
