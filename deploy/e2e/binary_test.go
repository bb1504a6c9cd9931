package e2e_test

import (
	"bufio"
	"bytes"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/tidemark-dev/tidemark/deploy/e2e/truth"
)

// binary builds the program once.
var binary = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "tidemark-e2e-*")
	if err != nil {
		return "", err
	}
	name := filepath.Join(dir, "tidemark")
	out, err := exec.Command("go", "build", "-o", name, "github.com/tidemark-dev/tidemark").CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("building the program: %w\n%s", err, out)
	}
	return name, nil
})

func TestMain(m *testing.M) {
	code := m.Run()
	if wasBuilt {
		if name, err := binary(); err == nil {
			os.RemoveAll(filepath.Dir(name))
		}
	}
	os.Exit(code)
}

var wasBuilt bool // binary has been called

// process is the built program, running.
type process struct {
	cmd    *exec.Cmd
	lines  chan string // of standard output; closed at its end
	stderr bytes.Buffer
	waited chan error
}

func launch(t *testing.T, args ...string) *process {
	t.Helper()
	wasBuilt = true
	name, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	p := &process{cmd: exec.Command(name, args...), lines: make(chan string, 100_000), waited: make(chan error, 1)}
	p.cmd.Stderr = &p.stderr
	p.cmd.Env = append(os.Environ(), "TIDEMARK_NO_PROJECTIONS=true")
	out, err := p.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		for s := bufio.NewScanner(out); s.Scan(); {
			p.lines <- s.Text()
		}
		close(p.lines)
		p.waited <- p.cmd.Wait()
	}()
	t.Cleanup(func() { p.end(t, syscall.SIGKILL) })
	return p
}

// until reads lines up to one that holds text, and returns them.
func (p *process) until(t *testing.T, text string) (read []string) {
	t.Helper()
	for deadline := time.After(patience); ; {
		select {
		case line, ok := <-p.lines:
			if !ok {
				t.Fatalf("it ended before %q:\n%s\n%s", text, strings.Join(read, "\n"), p.stderr.String())
			}
			if read = append(read, line); strings.Contains(line, text) {
				return read
			}
		case <-deadline:
			t.Fatalf("no %q:\n%s\n%s", text, strings.Join(read, "\n"), p.stderr.String())
		}
	}
}

// end sends a signal and waits; a second call returns the same.
func (p *process) end(t *testing.T, sig syscall.Signal) error {
	t.Helper()
	select {
	case err := <-p.waited:
		p.waited <- err
		return err
	default:
	}
	if err := p.cmd.Process.Signal(sig); err != nil {
		t.Error(err)
	}
	select {
	case err := <-p.waited:
		p.waited <- err
		return err
	case <-time.After(patience):
		t.Fatal("it does not end")
		return nil
	}
}

var bannerHTTP = regexp.MustCompile(`(?m)^  http +(http://\S+)`)

func demo(t *testing.T, dir string) *process {
	return launch(t, "up", "--demo", "--data", dir, "--http", "127.0.0.1:0", "--kafka-listen", "127.0.0.1:0")
}

func baseURL(t *testing.T, lines []string) string {
	t.Helper()
	m := bannerHTTP.FindStringSubmatch(strings.Join(lines, "\n"))
	if m == nil {
		t.Fatalf("no address in\n%s", strings.Join(lines, "\n"))
	}
	return m[1]
}

// The first thing that anybody does with the product, and then the worst.
func TestDemo_ShowsChangesAndSurvivesAKill(t *testing.T) {
	steps, err := truth.Load(filepath.Join("..", "demo", "brands"))
	if err != nil {
		t.Fatal(err)
	}
	last := steps[len(steps)-1]
	summary := func(s truth.Step) string {
		return fmt.Sprintf("%s: %s added, %d updated, %d deleted, %s unchanged", s.File, thousands(len(s.Added)), len(s.Updated), len(s.Deleted), thousands(len(s.Unchanged)))
	}
	data := t.TempDir()
	p := demo(t, data)
	lines := p.until(t, "demo: done")
	for _, want := range []string{
		"one process, not replicated", "kcat -b 127.0.0.1:", "curl -H 'Connection-Id: acme' -H 'Provider-Config-Key: demo' 'http://127.0.0.1:",
		"tail --kafka 127.0.0.1:", "ADDED    1Password", "UPDATED  Adobe After Effects  hex", "DELETED  ARCHICAD", "ready after",
	} {
		if !slices.ContainsFunc(lines, func(line string) bool { return strings.Contains(line, want) }) {
			t.Errorf("no line says %q", want)
		}
	}
	for _, s := range steps {
		if !slices.Contains(lines, summary(s)) {
			t.Errorf("no line says %q", summary(s))
		}
	}
	base := baseURL(t, lines)
	first, next := page(t, base, url.Values{"limit": {"700"}})
	if err := p.end(t, syscall.SIGKILL); err == nil {
		t.Error("a killed process ends without an error")
	}

	p = demo(t, data)
	base = baseURL(t, p.until(t, "nothing is loaded again"))
	all := readUntil(t, base, first, next, "300", last.Live)
	if seen := len(pages(t, base, "", "1000")); len(all) != seen {
		t.Errorf("the client saw %d records, there are %d", len(all), seen)
	}
	if err := p.end(t, syscall.SIGTERM); err != nil {
		t.Errorf("SIGTERM: %v\n%s", err, p.stderr.String())
	}
	if lines := p.until(t, "stopped;"); len(lines) == 0 {
		t.Error("it does not say that it stopped")
	}
}

// Killed anywhere on the way, the demo goes on at the next start, and ends where it would have ended.
func TestDemo_GoesOnWhereItWasKilled(t *testing.T) {
	steps, err := truth.Load(filepath.Join("..", "demo", "brands"))
	if err != nil {
		t.Fatal(err)
	}
	data := t.TempDir()
	for _, at := range []string{"tidemark is up", "demo: ", "2020-07.json.gz", "ADDED", "2020-07.json.gz: ", "2021-01.json.gz"} {
		p := demo(t, data)
		p.until(t, at)
		p.end(t, syscall.SIGKILL)
	}
	p := demo(t, data)
	lines := p.until(t, "demo: ")
	if !strings.Contains(lines[len(lines)-1], "nothing is loaded again") {
		lines = append(lines, p.until(t, "demo: done")...)
	}
	readUntil(t, baseURL(t, lines), nil, "", "1000", steps[len(steps)-1].Live)
}

func thousands(n int) string {
	if n < 1000 {
		return fmt.Sprint(n)
	}
	return fmt.Sprintf("%d,%03d", n/1000, n%1000)
}

// Ctrl-C in the middle of a load ends its run, and deletes nothing.
func TestLoad_InterruptedDeletesNothing(t *testing.T) {
	i := up(t, t.TempDir(), "--partitions", "2")
	i.loadKeys(t, write(t, 0, 100, "a")).want(t, 0)
	many := write(t, 100, 300_000, "b")
	p := launch(t, i.command("load", "--id", "key", "--json", "--max-delete-ratio", "1", many)...)
	for deadline := time.Now().Add(patience); ; time.Sleep(10 * time.Millisecond) {
		if runs := i.runs(t, "runs"); len(runs) == 2 && runs[1].Status == "running" {
			break
		} else if time.Now().After(deadline) {
			t.Fatalf("the load does not begin: %+v", runs)
		}
	}
	p.end(t, syscall.SIGINT)
	if code := p.cmd.ProcessState.ExitCode(); code != 1 || !strings.Contains(p.stderr.String(), "interrupted") {
		t.Fatalf("exit code %d: %s", code, p.stderr.String())
	}
	for deadline := time.Now().Add(3 * patience); ; time.Sleep(50 * time.Millisecond) { // each look reads the whole log
		runs := i.runs(t, "runs")
		if runs[1].Status == "failed" {
			break
		} else if time.Now().After(deadline) {
			t.Fatalf("the run does not end: %+v", runs[1])
		}
	}
	ids := liveIDs(t, i) // those of the first file, none of which are in the second, and what was written of the second
	for n := range 100 {
		if _, found := slices.BinarySearch(ids, fmt.Sprint(n)); !found {
			t.Errorf("record %d is gone", n)
		}
	}
	if len(ids) <= 100 {
		t.Errorf("%d records: the load did not begin", len(ids))
	}
}
