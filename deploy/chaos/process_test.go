package chaos

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/tidemark-dev/tidemark/schemas/topic"
)

// startWait is for a start that reads a log of some hundred megabytes on a machine that does other things.
const startWait = 60 * time.Second

// site is an installation: a data directory and addresses that stay, and one process after the other.
type site struct {
	t          testing.TB
	dir        string
	http       string // host:port
	kafka      string // host:port
	names      topic.Names
	partitions int32
	log        *journal
	proc       *process // the one that runs; nil: none
	flags      []string
	mayExit    bool // a process may end by itself
}

func newSite(t testing.TB, dir string, partitions int32) *site {
	t.Helper()
	names, err := topic.NamesFor(topic.PrefixDefault, 1)
	must(t, err)
	s := &site{t: t, dir: dir, http: freeAddr(t), kafka: freeAddr(t), names: names, partitions: partitions, log: newJournal()}
	t.Cleanup(func() {
		if s.proc != nil {
			s.proc.signal(syscall.SIGKILL)
			<-s.proc.exited
		}
		for _, line := range s.log.alarms() {
			t.Errorf("a process said: %s", line)
		}
		if t.Failed() {
			t.Logf("last lines of the processes:\n%s", s.log.tail(60))
		}
	})
	return s
}

var (
	portMu    sync.Mutex
	portsUsed = map[int]bool{}
)

// freeAddr is an address that stays free between two processes: below the ports that the kernel gives to clients, one of which
// would otherwise sit on it, or even connect to itself, while nobody listens.
func freeAddr(t testing.TB) string {
	t.Helper()
	portMu.Lock()
	defer portMu.Unlock()
	for range 1000 {
		port := 15000 + rand.IntN(15000)
		addr := net.JoinHostPort("127.0.0.1", strconv.Itoa(port))
		ln, err := net.Listen("tcp", addr)
		if err != nil || portsUsed[port] {
			continue
		}
		must(t, ln.Close())
		portsUsed[port] = true
		return addr
	}
	t.Fatal("no free port")
	return ""
}

// process is one run of the binary.
type process struct {
	cmd    *exec.Cmd
	events *eventLines
	exited chan struct{} // closed when the process is gone
	err    error         // of Wait; valid once exited

	mu    sync.Mutex
	asked bool // the end was asked for
}

// spawn starts a process and does not wait for it.
func (s *site) spawn() *process {
	s.t.Helper()
	if s.proc != nil {
		s.t.Fatal("a process runs already")
	}
	p := s.exec(append([]string{"up", "--json", "--data", s.dir, "--http", s.http, "--kafka-listen", s.kafka,
		"--partitions", strconv.Itoa(int(s.partitions)), "--log-level", "info"}, s.flags...)...)
	s.proc = p
	return p
}

// exec runs any command line; its messages go into the site's journal.
func (s *site) exec(args ...string) *process {
	s.t.Helper()
	return s.execTo(s.log, args...)
}

func (s *site) execTo(messages *journal, args ...string) *process {
	s.t.Helper()
	p := &process{events: newEventLines(), exited: make(chan struct{}), asked: s.mayExit}
	p.cmd = exec.Command(binary(s.t), args...)
	p.cmd.Stdout, p.cmd.Stderr = p.events, messages
	p.cmd.WaitDelay = 5 * time.Second
	p.cmd.SysProcAttr = childAttributes()
	p.cmd.Env = environment()
	must(s.t, p.cmd.Start())
	s.log.add(fmt.Sprintf("--- process %d starts", p.cmd.Process.Pid))
	go func() {
		p.err = p.cmd.Wait()
		close(p.exited)
		p.mu.Lock()
		defer p.mu.Unlock()
		if !p.asked {
			s.log.alarm(fmt.Sprintf("process %d ended by itself: %v", p.cmd.Process.Pid, p.err))
		}
	}()
	return p
}

// environment is ours without settings of the product.
func environment() (env []string) {
	for _, kv := range os.Environ() {
		if !strings.HasPrefix(kv, "TIDEMARK_") && !strings.HasPrefix(kv, "GOMEMLIMIT=") {
			env = append(env, kv)
		}
	}
	return append(env, "GORACE=halt_on_error=1", "TIDEMARK_NO_PROJECTIONS=true")
}

func (p *process) signal(sig syscall.Signal) {
	p.mu.Lock()
	p.asked = p.asked || sig == syscall.SIGKILL || sig == syscall.SIGINT || sig == syscall.SIGTERM
	p.mu.Unlock()
	if err := p.cmd.Process.Signal(sig); err != nil && !errors.Is(err, os.ErrProcessDone) {
		panic(fmt.Sprintf("signalling our own child: %v", err))
	}
}

// exitCode waits for the end.
func (p *process) exitCode(t testing.TB, within time.Duration) int {
	t.Helper()
	select {
	case <-p.exited:
	case <-time.After(within):
		t.Fatalf("the process runs after %s", within)
	}
	return p.cmd.ProcessState.ExitCode()
}

// start starts a process and waits until it is ready.
func (s *site) start() {
	s.t.Helper()
	s.spawn()
	s.waitReady()
}

// waitReady waits for the line that says so, and holds /readyz against it.
func (s *site) waitReady() {
	s.t.Helper()
	select {
	case <-s.proc.events.ready:
	case <-s.proc.exited:
		s.t.Fatalf("the process ended while it started: %v", s.proc.err)
	case <-time.After(startWait):
		s.t.Fatalf("the process is not ready after %s", startWait)
	}
	eventually(s.t, startWait, func() string {
		status, body, err := s.get("/readyz", nil)
		if err != nil || status != http.StatusOK {
			return fmt.Sprintf("/readyz: %d %s %v", status, body, err)
		}
		return ""
	})
}

// kill is kill -9.
func (s *site) kill() {
	s.proc.signal(syscall.SIGKILL)
	<-s.proc.exited
	s.proc = nil
}

// stop is Ctrl-C. It must end in order.
func (s *site) stop() {
	s.t.Helper()
	s.proc.signal(syscall.SIGINT)
	code := s.proc.exitCode(s.t, startWait)
	s.proc = nil
	if code != 0 {
		s.t.Errorf("after Ctrl-C the process ended with exit code %d", code)
	}
}

// freeze stops the process for a while, as a debugger or a machine that sleeps would.
func (s *site) freeze(d time.Duration) {
	s.proc.signal(syscall.SIGSTOP)
	pause(s.t, d)
	s.proc.signal(syscall.SIGCONT)
}

var httpClient = &http.Client{Timeout: 30 * time.Second, Transport: &http.Transport{MaxIdleConnsPerHost: 4}}

func (s *site) get(path string, header http.Header) (status int, body []byte, err error) {
	req, err := http.NewRequestWithContext(s.t.Context(), http.MethodGet, "http://"+s.http+path, nil)
	if err != nil {
		return 0, nil, err
	}
	req.Header = header
	resp, err := httpClient.Do(req)
	if err != nil {
		return 0, nil, err
	}
	defer resp.Body.Close()
	body, err = io.ReadAll(resp.Body)
	return resp.StatusCode, body, err
}

// files are the paths below the data directory that match a pattern.
func (s *site) files(pattern string) []string {
	s.t.Helper()
	paths, err := filepath.Glob(filepath.Join(s.dir, pattern))
	must(s.t, err)
	return paths
}

// eventLines reads the lines of `up --json`.
type eventLines struct {
	lineWriter
	ready chan struct{}
	once  sync.Once
}

func newEventLines() *eventLines {
	e := &eventLines{ready: make(chan struct{})}
	e.line = func(line string) {
		var ev struct {
			Event string `json:"event"`
		}
		if json.Unmarshal([]byte(line), &ev) == nil && ev.Event == "ready" {
			e.once.Do(func() { close(e.ready) })
		}
	}
	return e
}

// lineWriter hands on whole lines.
type lineWriter struct {
	mu   sync.Mutex
	rest []byte
	line func(string)
}

func (w *lineWriter) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.rest = append(w.rest, p...)
	for {
		i := bytes.IndexByte(w.rest, '\n')
		if i < 0 {
			return len(p), nil
		}
		w.line(string(w.rest[:i]))
		w.rest = w.rest[i+1:]
	}
}

// journal keeps the last messages of the processes of a site, and those that no healthy process writes.
type journal struct {
	lineWriter
	state    sync.Mutex
	lines    []string
	total    int
	alarming []string
	allowed  []string // parts of messages that the test provokes
	changed  chan struct{}
}

const journalLines = 2000

func newJournal() *journal {
	j := &journal{changed: make(chan struct{})}
	j.line = j.add
	return j
}

// alarmSigns are parts of lines that no healthy process writes.
var alarmSigns = []string{`"level":"ERROR"`, "panic: ", "fatal error: ", "WARNING: DATA RACE", "runtime error"}

func (j *journal) add(line string) {
	j.state.Lock()
	defer j.state.Unlock()
	j.addLocked(line)
	for _, sign := range alarmSigns {
		if strings.Contains(line, sign) && !j.allows(line) {
			j.alarming = append(j.alarming, line)
			break
		}
	}
}

func (j *journal) allows(line string) bool {
	for _, part := range j.allowed {
		if strings.Contains(line, part) {
			return true
		}
	}
	return false
}

func (j *journal) addLocked(line string) {
	j.lines = append(j.lines, line)
	if len(j.lines) > journalLines {
		j.lines = append(j.lines[:0], j.lines[journalLines/2:]...)
	}
	j.total++
	close(j.changed)
	j.changed = make(chan struct{})
}

func (j *journal) alarm(line string) {
	j.state.Lock()
	defer j.state.Unlock()
	j.addLocked(line)
	j.alarming = append(j.alarming, line)
}

// allow takes messages that hold part for provoked.
func (j *journal) allow(part string) {
	j.state.Lock()
	defer j.state.Unlock()
	j.allowed = append(j.allowed, part)
}

// alarms returns the lines that nobody provoked, at most ten.
func (j *journal) alarms() []string {
	j.state.Lock()
	defer j.state.Unlock()
	return j.alarming[:min(10, len(j.alarming))]
}

// find returns the newest line that holds all parts, "" if there is none.
func (j *journal) find(parts ...string) string {
	j.state.Lock()
	defer j.state.Unlock()
next:
	for i := len(j.lines) - 1; i >= 0; i-- {
		for _, part := range parts {
			if !strings.Contains(j.lines[i], part) {
				continue next
			}
		}
		return j.lines[i]
	}
	return ""
}

func (j *journal) count() int {
	j.state.Lock()
	defer j.state.Unlock()
	return j.total
}

// await waits until more lines have been written than n, or for a bounded time.
func (j *journal) await(n int, most time.Duration) {
	timer := time.NewTimer(most)
	defer timer.Stop()
	for {
		j.state.Lock()
		enough, changed := j.total >= n, j.changed
		j.state.Unlock()
		if enough {
			return
		}
		select {
		case <-changed:
		case <-timer.C:
			return
		}
	}
}

func (j *journal) tail(n int) string {
	j.state.Lock()
	defer j.state.Unlock()
	return strings.Join(j.lines[max(0, len(j.lines)-n):], "\n")
}
