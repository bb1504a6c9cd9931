package devclickhouse_test

import (
	"bufio"
	"context"
	"encoding/json"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/tidemark-dev/tidemark/deploy/devclickhouse"
	"github.com/tidemark-dev/tidemark/deploy/devclickhouse/chtest"
	"github.com/tidemark-dev/tidemark/deploy/devclickhouse/library"
)

func itoa(n int) string { return strconv.Itoa(n) }

func in(dir string) func(*devclickhouse.Config) {
	return func(c *devclickhouse.Config) { c.Dir = dir }
}

func stop(t testing.TB, s *devclickhouse.Server) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	must(t, s.Stop(ctx))
}

// alive reports whether a process exists and is no zombie.
func alive(pid int) bool {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return syscall.Kill(pid, 0) == nil && !errors.Is(err, os.ErrNotExist)
	}
	_, rest, _ := strings.Cut(string(text), ") ")
	return !strings.HasPrefix(rest, "Z")
}

// TestKill kills the engine under load, again and again: it comes back at the same address, with every row that was acknowledged.
func TestKill(t *testing.T) {
	reg := prometheus.NewRegistry()
	s := chtest.Start(t, func(c *devclickhouse.Config) { c.Registerer = reg })
	c := open(t, s, func(o *clickhouse.Options) { o.MaxOpenConns = 8 })
	run(t, c, "CREATE TABLE t (writer UInt8, n UInt64) ENGINE = MergeTree ORDER BY (writer, n)")
	run(t, c, "CREATE MATERIALIZED VIEW v ENGINE = SummingMergeTree ORDER BY writer AS SELECT writer, count() AS rows FROM t GROUP BY writer")

	const writers, batchRows, kills = 3, 500, 3
	var acked [writers]atomic.Uint64
	quit := make(chan struct{})
	var wg sync.WaitGroup
	for w := range writers {
		wg.Go(func() {
			for n := uint64(0); ; n++ {
				select {
				case <-quit:
					return
				default:
				}
				batch, err := c.PrepareBatch(ctxOf(t), "INSERT INTO t (writer, n)")
				for i := 0; err == nil && i < batchRows; i++ {
					err = batch.Append(uint8(w), n)
				}
				if err == nil {
					err = batch.Send()
				}
				if err == nil {
					acked[w].Add(1)
				}
			}
		})
	}
	total := func() (sum uint64) {
		for w := range writers {
			sum += acked[w].Load()
		}
		return sum
	}
	for range kills {
		before := total()
		eventually(t, "batches to be acknowledged", func() bool { return total() >= before+10 })
		pid := s.State().PID
		must(t, syscall.Kill(pid, syscall.SIGKILL))
		eventually(t, "the engine to come back", func() bool {
			st := s.State()
			return st.Phase == devclickhouse.Running && st.PID != pid
		})
	}
	close(quit)
	wg.Wait()
	for w := range writers {
		// Each batch is one value of n; a batch that was not acknowledged may be there, whole.
		if n := count(t, c, "SELECT count() FROM (SELECT n FROM t WHERE writer = $1 GROUP BY n)", w); n < acked[w].Load() {
			t.Errorf("writer %d: %d batches are there, %d were acknowledged", w, n, acked[w].Load())
		}
	}
	if n := count(t, c, "SELECT count() FROM (SELECT writer, n FROM t GROUP BY writer, n HAVING count() != $1)", batchRows); n != 0 {
		t.Errorf("%d batches are there in part", n)
	}
	if st := s.State(); st.Restarts != kills || !strings.Contains(st.LastExit, "killed") {
		t.Errorf("the state is %+v", st)
	}
	must(t, testutil.GatherAndCompare(reg, strings.NewReader(`
		# HELP tidemark_devclickhouse_restarts_total Starts of the embedded ClickHouse after the first.
		# TYPE tidemark_devclickhouse_restarts_total counter
		tidemark_devclickhouse_restarts_total 3
		# HELP tidemark_devclickhouse_up 1 while the embedded ClickHouse answers.
		# TYPE tidemark_devclickhouse_up gauge
		tidemark_devclickhouse_up 1
	`), "tidemark_devclickhouse_restarts_total", "tidemark_devclickhouse_up"))
}

// TestRestart starts again on a directory: address, passwords and data are the same.
func TestRestart(t *testing.T) {
	dir := t.TempDir()
	first := chtest.Start(t, in(dir), func(c *devclickhouse.Config) { c.Database = "it's `one`" })
	dsn, reader := first.DSN(false), first.DSN(true)
	run(t, open(t, first), "CREATE TABLE t ENGINE = MergeTree ORDER BY n AS SELECT number AS n FROM numbers(10)")
	pid := first.State().PID
	stop(t, first)
	if st := first.State(); st.Phase != devclickhouse.Stopped || alive(pid) {
		t.Errorf("after Stop the state is %+v, and the child alive: %v", st, alive(pid))
	}
	if _, err := net.DialTimeout("tcp", first.Addr(), time.Second); err == nil {
		t.Error("after Stop somebody listens")
	}
	info, err := os.Stat(filepath.Join(dir, "state.json"))
	must(t, err)
	if info.Mode().Perm() != 0o600 {
		t.Errorf("the file with the passwords has mode %v", info.Mode())
	}
	second := chtest.Start(t, in(dir), func(c *devclickhouse.Config) { c.Database = "it's `one`" })
	if second.DSN(false) != dsn || second.DSN(true) != reader {
		t.Error("the second start has another address")
	}
	if n := count(t, open(t, second), "SELECT count() FROM t"); n != 10 {
		t.Errorf("the table has %d rows", n)
	}
	stop(t, second)
	stop(t, second)
}

// TestSecondProcess has two of them want one directory.
func TestSecondProcess(t *testing.T) {
	dir := t.TempDir()
	s := chtest.Start(t, in(dir))
	cfg := devclickhouse.Config{Dir: dir, Library: chtest.Library(t)}
	impatient, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	if _, err := devclickhouse.Start(impatient, cfg); !errors.Is(err, devclickhouse.ErrLocked) {
		t.Errorf("a second one on the directory: %v", err)
	}
	stop(t, s)

	// An engine that knows nothing of our lock: the library's own refusal.
	other := t.TempDir()
	must(t, os.Symlink(filepath.Join(dir, "data"), filepath.Join(other, "data")))
	held := chtest.Start(t, in(dir))
	cfg.Dir = other
	if _, err := devclickhouse.Start(ctxOf(t), cfg); !errors.Is(err, devclickhouse.ErrLocked) {
		t.Errorf("a second engine on the data: %v", err)
	}
	stop(t, held)
}

func TestDirectoryOfAnother(t *testing.T) {
	dir := t.TempDir()
	must(t, os.WriteFile(filepath.Join(dir, "notes.txt"), nil, 0o600))
	cfg := devclickhouse.Config{Dir: dir, Library: chtest.Library(t)}
	if _, err := devclickhouse.Start(ctxOf(t), cfg); !errors.Is(err, devclickhouse.ErrFormat) {
		t.Errorf("a directory with other files: %v", err)
	}
	must(t, os.Remove(filepath.Join(dir, "notes.txt")))
	must(t, os.WriteFile(filepath.Join(dir, "state.json"), []byte(`{"version":99}`), 0o600))
	if _, err := devclickhouse.Start(ctxOf(t), cfg); !errors.Is(err, devclickhouse.ErrFormat) {
		t.Errorf("a directory of a later version: %v", err)
	}
}

// TestStartFails has the child die at once: the error says why.
func TestStartFails(t *testing.T) {
	chtest.Library(t)
	notALibrary := filepath.Join(t.TempDir(), "libchdb.so")
	must(t, os.WriteFile(notALibrary, []byte("text"), 0o755))
	_, err := devclickhouse.Start(ctxOf(t), devclickhouse.Config{Dir: t.TempDir(), Library: notALibrary})
	if !errors.Is(err, devclickhouse.ErrStart) || !strings.Contains(err.Error(), notALibrary) {
		t.Errorf("with a library that is none: %v", err)
	}
	_, err = devclickhouse.Start(ctxOf(t), devclickhouse.Config{Dir: t.TempDir(), Library: "/nowhere/libchdb.so"})
	var typed *library.Error
	if !errors.As(err, &typed) {
		t.Errorf("with a library that is not there: %v", err)
	}
}

func TestConfigIsChecked(t *testing.T) {
	for name, cfg := range map[string]devclickhouse.Config{
		"no directory":  {},
		"not loopback":  {Dir: "x", Listen: "0.0.0.0:0"},
		"no port":       {Dir: "x", Listen: "127.0.0.1"},
		"little memory": {Dir: "x", MemoryBytes: 1 << 20},
		"one user":      {Dir: "x", User: "a", ReadUser: "a"},
		"queries":       {Dir: "x", MaxQueries: -1},
	} {
		if _, err := devclickhouse.Start(t.Context(), cfg); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

// The test binary runs itself as a parent in a process of its own, to be killed.
const parentEnv = "DEVCLICKHOUSE_TEST_PARENT"

func runParent(dir string) {
	s, err := devclickhouse.Start(context.Background(), devclickhouse.Config{Dir: dir, MemoryBytes: 1 << 30, Logger: slog.New(slog.NewTextHandler(os.Stderr, nil))})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	json.NewEncoder(os.Stdout).Encode(map[string]any{"pid": s.State().PID, "dsn": s.DSN(false)})
	io.Copy(io.Discard, os.Stdin)
}

type parent struct {
	cmd *exec.Cmd
	PID int    `json:"pid"`
	DSN string `json:"dsn"`
}

func startParent(t *testing.T, dir string) *parent {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), parentEnv+"="+dir, library.EnvPath+"="+chtest.Library(t))
	cmd.Stderr = t.Output()
	stdin, err := cmd.StdinPipe()
	must(t, err)
	stdout, err := cmd.StdoutPipe()
	must(t, err)
	must(t, cmd.Start())
	t.Cleanup(func() {
		stdin.Close()
		cmd.Process.Kill()
		cmd.Wait()
	})
	line, err := bufio.NewReader(stdout).ReadBytes('\n')
	must(t, err)
	p := &parent{cmd: cmd}
	must(t, json.Unmarshal(line, p))
	return p
}

// TestParentKilled kills the parent: the child ends, and the next parent finds everything.
func TestParentKilled(t *testing.T) {
	dir := t.TempDir()
	p := startParent(t, dir)
	if !alive(p.PID) {
		t.Fatal("the child is not alive")
	}
	o, err := clickhouse.ParseDSN(p.DSN)
	must(t, err)
	c, err := clickhouse.Open(o)
	must(t, err)
	run(t, c, "CREATE TABLE t ENGINE = MergeTree ORDER BY n AS SELECT number AS n FROM numbers(10)")
	// A statement that would hold the child for long.
	go c.Exec(context.Background(), "SELECT count() FROM system.numbers")
	must(t, p.cmd.Process.Kill())
	p.cmd.Wait()
	c.Close()
	eventually(t, "the child to end", func() bool { return !alive(p.PID) })
	again := chtest.Start(t, in(dir))
	if again.DSN(false) != p.DSN {
		t.Error("the next parent has another address")
	}
	if n := count(t, open(t, again), "SELECT count() FROM t"); n != 10 {
		t.Errorf("the table has %d rows", n)
	}
}

// TestChildHoldsTheLock checks that the directory is not free before the child is gone as well.
func TestChildHoldsTheLock(t *testing.T) {
	pid := server(t).State().PID
	files, err := filepath.Glob(fmt.Sprintf("/proc/%d/fd/*", pid))
	must(t, err)
	if len(files) == 0 {
		t.Skip("needs /proc")
	}
	for _, f := range files {
		if to, err := os.Readlink(f); err == nil && to == filepath.Join(shared.dir, "lock") {
			return
		}
	}
	t.Errorf("the child %d does not hold the lock of %s", pid, shared.dir)
}

// TestOwnGroup checks that a signal to the parent's group, as a terminal sends for Ctrl-C, does not reach the child.
func TestOwnGroup(t *testing.T) {
	s := server(t)
	pid := s.State().PID
	group, err := syscall.Getpgid(pid)
	must(t, err)
	if group != pid {
		t.Errorf("the child %d is in the group %d", pid, group)
	}
}

// TestStopUnderLoad stops while statements run: those that end soon are answered, one that does not is killed.
func TestStopUnderLoad(t *testing.T) {
	s := chtest.Start(t)
	got := make(chan response, 1)
	go func() { got <- post(t, s, "SELECT sleep(1), 'stopped-over'") }()
	eventually(t, "the statement to run", func() bool {
		return strings.TrimSpace(post(t, s, "SELECT count() FROM system.processes WHERE position(query, 'stopped-over') > 0").text) == "2"
	})
	stop(t, s)
	if r := <-got; r.StatusCode != http.StatusOK || r.text != "0\tstopped-over\n" {
		t.Errorf("the statement was answered with %d %q", r.StatusCode, r.text)
	}
}

// TestHung stops the child without ending it: it is killed and started again.
func TestHung(t *testing.T) {
	s := chtest.Start(t, devclickhouse.Hurry)
	pid := s.State().PID
	must(t, syscall.Kill(pid, syscall.SIGSTOP))
	eventually(t, "the child to be replaced", func() bool {
		st := s.State()
		return st.Phase == devclickhouse.Running && st.PID != pid
	})
	if alive(pid) {
		t.Error("the child that hung is alive")
	}
	if n := count(t, open(t, s), "SELECT count() FROM numbers(3)"); n != 3 {
		t.Errorf("its successor counts %d", n)
	}
}

// TestDirectoryTakenWhileDown has another engine take the data between two lives of the child: it is not fought for.
func TestDirectoryTakenWhileDown(t *testing.T) {
	dir, other := t.TempDir(), t.TempDir()
	s, err := devclickhouse.Start(ctxOf(t), devclickhouse.Config{Dir: dir, Library: chtest.Library(t)})
	must(t, err)
	must(t, os.Symlink(filepath.Join(dir, "data"), filepath.Join(other, "data")))
	pid := s.State().PID
	must(t, syscall.Kill(pid, syscall.SIGKILL))
	var second *devclickhouse.Server
	eventually(t, "one of the two to have the data", func() bool {
		if second == nil {
			second, _ = devclickhouse.Start(ctxOf(t), devclickhouse.Config{Dir: other, Library: chtest.Library(t)})
		}
		st := s.State()
		return second != nil && st.Phase == devclickhouse.Failed || second == nil && st.Phase == devclickhouse.Running && st.PID != pid
	})
	if second != nil {
		stop(t, second)
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		if err := s.Stop(ctx); !errors.Is(err, devclickhouse.ErrLocked) {
			t.Errorf("Stop returns %v", err)
		}
		return
	}
	stop(t, s)
}

// TestBinary runs a program that behaves as "clickhouse server" does, as far as the supervisor can tell.
func TestBinary(t *testing.T) {
	exe, err := os.Executable()
	must(t, err)
	binary := filepath.Join(t.TempDir(), "clickhouse")
	must(t, os.WriteFile(binary, []byte("#!/bin/sh\n[ \"$1\" = server ] || exit 9\nexport "+binaryEnv+"=\"${2#--config-file=}\"\nexec "+exe+"\n"), 0o755))
	s, err := devclickhouse.Start(ctxOf(t), devclickhouse.Config{Dir: t.TempDir(), Binary: binary, User: "me", Password: "<&>"})
	must(t, err)
	pid := s.State().PID
	must(t, syscall.Kill(pid, syscall.SIGKILL)) // and with it, at its next start, the port
	eventually(t, "the binary to run again", func() bool {
		st := s.State()
		return st.Phase == devclickhouse.Running && st.PID != pid
	})
	pid = s.State().PID
	stop(t, s)
	if alive(pid) {
		t.Error("the minder is alive")
	}
	if _, err := net.DialTimeout("tcp", s.Addr(), time.Second); err == nil {
		t.Error("the binary is alive")
	}
}

const binaryEnv = "DEVCLICKHOUSE_TEST_BINARY"

// runBinary answers like a server, at the address and with the password of the configuration.
func runBinary(path string) {
	text, err := os.ReadFile(path)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	var config struct {
		Port  string `xml:"http_port"`
		Host  string `xml:"listen_host"`
		Users struct {
			Me struct {
				Password string `xml:"password"`
			} `xml:"me"`
		} `xml:"users"`
	}
	if err := xml.Unmarshal(text, &config); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	fmt.Fprintln(os.Stderr, http.ListenAndServe(net.JoinHostPort(config.Host, config.Port), http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if _, password, _ := r.BasicAuth(); r.URL.Path != "/ping" && password != config.Users.Me.Password {
			w.WriteHeader(http.StatusForbidden)
		}
	})))
	os.Exit(1)
}
