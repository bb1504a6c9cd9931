//go:build (linux || darwin) && (amd64 || arm64)

package chdb_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/tidemark-dev/tidemark/deploy/devclickhouse/chdb"
	"github.com/tidemark-dev/tidemark/deploy/devclickhouse/chtest"
)

// engine is the one that a process can have, with a connection that keeps it.
var engine struct {
	once sync.Once
	lib  *chdb.Library
	path string
	err  error
}

func library(t testing.TB) *chdb.Library {
	t.Helper()
	path := chtest.Library(t)
	engine.once.Do(func() {
		if engine.lib, engine.err = chdb.Open(path); engine.err != nil {
			return
		}
		if engine.path, engine.err = os.MkdirTemp("", "chdb-"); engine.err == nil {
			_, engine.err = engine.lib.Connect("--path="+engine.path, "--log-level=none")
		}
	})
	if engine.err != nil {
		t.Fatal(engine.err)
	}
	return engine.lib
}

func TestMain(m *testing.M) {
	code := m.Run()
	if engine.path != "" {
		os.RemoveAll(engine.path)
	}
	os.Exit(code)
}

func connect(t testing.TB) *chdb.Conn {
	t.Helper()
	c, err := library(t).Connect("--path=" + engine.path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

func query(t testing.TB, c *chdb.Conn, sql string, params ...chdb.Param) string {
	t.Helper()
	r, err := c.Query(sql, "TabSeparated", params...)
	if err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
	defer r.Close()
	defer r.Close() // a second one does nothing
	return string(r.Bytes())
}

func TestQuery(t *testing.T) {
	c := connect(t)
	if got := query(t, c, "SELECT {a:String}, {e:String}, {n:UInt8}, length({z:String})", chdb.Param{"a", "it's"}, chdb.Param{"e", ""}, chdb.Param{"n", "7"}, chdb.Param{"z", "a\x00b"}); got != "it\\'s\t\t7\t3\n" {
		t.Errorf("the parameters are %q", got)
	}
	if got := query(t, c, "SELECT length('a\x00b')"); got != "3\n" {
		t.Errorf("a zero byte in a statement: length %q", got)
	}
	_, err := c.Query("SELECT * FROM nowhere", "CSV")
	var e *chdb.Error
	if !errors.As(err, &e) || e.Code != 60 {
		t.Errorf("the error is %v", err)
	}
	if _, err := library(t).Connect("--path="+engine.path, "--max_threads=many"); !errors.Is(err, chdb.ErrConnect) {
		t.Errorf("a bad argument: %v", err)
	}
	if _, err := chdb.Open("/another/libchdb.so"); err == nil {
		t.Error("a second library was loaded")
	}
}

// TestSignals checks that Go's handlers stay: a nil dereference is a panic, and SIGTERM would be delivered.
func TestSignals(t *testing.T) {
	connect(t)
	defer func() {
		if err, _ := recover().(error); err == nil || !strings.Contains(err.Error(), "nil pointer") {
			t.Errorf("a nil dereference became %v", err)
		}
	}()
	status, err := os.ReadFile("/proc/self/status")
	if err == nil {
		var caught uint64
		for line := range strings.Lines(string(status)) {
			fmt.Sscanf(line, "SigCgt:\t%x", &caught)
		}
		for _, sig := range []syscall.Signal{syscall.SIGSEGV, syscall.SIGBUS, syscall.SIGFPE, syscall.SIGTERM, syscall.SIGURG} {
			if caught&(1<<(sig-1)) == 0 {
				t.Errorf("%v is not caught", sig)
			}
		}
	}
	var p *int
	*p = 1
}

func TestStream(t *testing.T) {
	c := connect(t)
	s, err := c.Stream("SELECT number FROM numbers(200000)", "TabSeparated")
	if err != nil {
		t.Fatal(err)
	}
	var stats chdb.Stats
	parts, lines := 0, 0
	for {
		r, err := s.Next()
		if err != nil {
			t.Fatal(err)
		}
		if r == nil {
			break
		}
		parts++
		lines += strings.Count(string(r.Bytes()), "\n")
		stats.Add(r.Stats())
		r.Close()
	}
	s.Close()
	s.Close()
	if parts < 2 || lines != 200000 || stats.ResultRows != 200000 || stats.StorageRows != 200000 {
		t.Errorf("%d parts with %d lines, counted %+v", parts, lines, stats)
	}
	if s, err = c.Stream("SELECT number FROM system.numbers", "Native"); err != nil {
		t.Fatal(err)
	}
	if r, err := s.Next(); err != nil {
		t.Fatal(err)
	} else {
		r.Close()
	}
	s.Close() // in the middle
	if got := query(t, connect(t), "SELECT count() FROM system.processes WHERE position(query, 'system.numbers') > 0 AND position(query, 'processes') = 0"); got != "0\n" {
		t.Errorf("%s of it still runs", got)
	}
	if got := query(t, c, "SELECT 1"); got != "1\n" {
		t.Errorf("after a stream that was dropped: %q", got)
	}
	if s, err = c.Stream("SELECT * FROM nowhere", "Native"); err == nil {
		_, err = s.Next()
		s.Close()
	}
	var e *chdb.Error
	if !errors.As(err, &e) || e.Code != 60 {
		t.Errorf("a stream from nowhere: %v", err)
	}
}

func TestInsert(t *testing.T) {
	c := connect(t)
	query(t, c, "CREATE TABLE t (s String) ENGINE = MergeTree ORDER BY s")
	insert := func(data ...string) (*chdb.Insert, error) {
		i, err := c.Insert("INSERT INTO t", "LineAsString")
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range data {
			if err := i.Append([]byte(d)); err != nil {
				return i, err
			}
		}
		return i, nil
	}
	i, err := insert("on", "e\n\nDROP TABLE t;\n", "", "two")
	if err != nil {
		t.Fatal(err)
	}
	stats, err := i.Done()
	i.Close()
	i.Close()
	if err != nil || stats.WrittenRows != 4 {
		t.Errorf("stored %+v, %v", stats, err)
	}
	if i, err = insert("three\n"); err != nil {
		t.Fatal(err)
	}
	i.Close() // without Done
	if got := query(t, c, "SELECT groupArray(s) FROM (SELECT s FROM t ORDER BY s)"); got != "['','DROP TABLE t;','one','two']\n" {
		t.Errorf("the table holds %s", got)
	}
	if _, err := c.Insert("INSERT INTO nowhere", "CSV"); err == nil {
		t.Error("an insert into nowhere")
	}
	query(t, c, "DROP TABLE t")
}

func TestClassify(t *testing.T) {
	c := connect(t)
	for sql, want := range map[string]chdb.Analysis{
		"SELECT 1":                            {1, chdb.ReadOnly},
		"SELECT 1; SELECT 2":                  {2, chdb.ReadOnly},
		"INSERT INTO t SELECT 1":              {1, chdb.Mutating},
		"CREATE FUNCTION f AS x -> x":         {1, chdb.MutatingGlobal},
		"SET a = 1":                           {1, chdb.Control},
		"SELECT 1 PARALLEL WITH DROP TABLE t": {2, chdb.Mutating},
		"SELEC 1":                             {0, chdb.Unknown},
		"":                                    {0, chdb.Unknown},
	} {
		if got, err := c.Classify(sql); err != nil || got != want {
			t.Errorf("%q: %+v, %v, want %+v", sql, got, err, want)
		}
	}
}

// TestOpenNotALibrary is run last in the file of a process that may have loaded one: a wrong path is told from a wrong file.
func TestOpenNotALibrary(t *testing.T) {
	path := filepath.Join(t.TempDir(), "libchdb.so")
	if err := os.WriteFile(path, []byte("text"), 0o755); err != nil {
		t.Fatal(err)
	}
	if _, err := chdb.Open(path); err == nil {
		t.Error("a text was loaded")
	}
}
