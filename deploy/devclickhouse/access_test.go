package devclickhouse_test

import (
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
)

func TestLogins(t *testing.T) {
	s := server(t)
	for name, user := range map[string][2]string{"no login": {"", ""}, "wrong password": {"tidemark", "x"}, "wrong user": {"default", ""}, "no password": {"reader", ""}} {
		got := call(t, s, http.MethodPost, pairs("user", user[0], "password", user[1]), strings.NewReader("SELECT 1"))
		if got.StatusCode != http.StatusForbidden || got.code() != "516" {
			t.Errorf("%s: status %d, code %s", name, got.StatusCode, got.code())
		}
	}
	reader := readerParams(t, s)
	if got := call(t, s, http.MethodPost, nil, strings.NewReader("SELECT 1"), "Authorization", "", "X-ClickHouse-User", reader.Get("user"), "X-ClickHouse-Key", reader.Get("password")); got.text != "1\n" {
		t.Errorf("a login in headers: %s", got.text)
	}
	if got := call(t, s, http.MethodPost, reader, strings.NewReader("SELECT 1")); got.text != "1\n" {
		t.Errorf("a login in parameters: %s", got.text)
	}
}

// TestReader tries what a login that only reads may not do.
func TestReader(t *testing.T) {
	s := server(t)
	db, use := database(t, s)
	run(t, open(t, s, use), "CREATE TABLE t (a UInt8) ENGINE = MergeTree ORDER BY a")
	secret := filepath.Join(shared.dir, "data", "secret.csv") // which the process itself may read
	must(t, os.WriteFile(secret, []byte("1,hidden\n"), 0o600))
	t.Cleanup(func() { os.Remove(secret) })
	for _, sql := range []string{
		"INSERT INTO t VALUES (1)",
		"INSERT INTO t SELECT 1",
		"INSERT INTO FUNCTION null('a UInt8') VALUES (1)",
		"CREATE TABLE u (a UInt8) ENGINE = Memory",
		"CREATE TEMPORARY TABLE u (a UInt8)",
		"DROP TABLE t",
		"ALTER TABLE t DELETE WHERE 1",
		"TRUNCATE TABLE t",
		"OPTIMIZE TABLE t",
		"SYSTEM FLUSH LOGS",
		"KILL QUERY WHERE 1",
		"SET readonly = 0",
		"SET max_threads = 1",
		"SELECT 1 SETTINGS readonly = 0",
		"BACKUP DATABASE " + db + " TO File('x')",
		"SELECT file('" + secret + "')",
		"SELECT FILE /* x */ ('" + secret + "')",
		"SELECT `file`('" + secret + "')",
		"SELECT \"f\\x69le\"('" + secret + "')",
		"SELECT “file”('" + secret + "')",
		"SELECT * FROM file('" + secret + "')",
		"SELECT * FROM `" + secret + "`",
		"SELECT * FROM '" + secret + "'",
		"DESCRIBE file('" + secret + "')",
		"DESC TABLE url('http://127.0.0.1:1/', 'CSV')",
		"DESCRIBE `" + secret + "`",
		"SELECT * FROM url('http://127.0.0.1:1/', 'CSV', 'a UInt8')",
		"SELECT * FROM remote('127.0.0.1:1', 'system.one')",
		"SELECT * FROM mysql('127.0.0.1:1', 'd', 't', 'u', 'p')",
		"SELECT * FROM executable('id', 'TSV', 'a String')",
		"EXPLAIN SELECT * FROM file('" + secret + "')",
	} {
		got := call(t, s, http.MethodPost, readerParams(t, s, "database", db), strings.NewReader(sql))
		if got.StatusCode == http.StatusOK || strings.Contains(got.text, "hidden") {
			t.Errorf("%s: status %d: %s", sql, got.StatusCode, got.text)
		}
		switch got.code() {
		case "164", "62", "497", "60", "291": // refused, or not understood
		default:
			t.Errorf("%s: code %s: %s", sql, got.code(), got.text)
		}
	}
	for _, sql := range []string{"SELECT count() FROM t", "SHOW TABLES", "DESCRIBE TABLE t", "EXISTS TABLE t", "EXPLAIN SELECT 1", "SELECT * FROM numbers(2)", "SELECT 'file(1)'"} {
		// A client sets what it likes for itself, but not what it may do.
		got := call(t, s, http.MethodPost, readerParams(t, s, "database", db, "max_execution_time", "20", "readonly", "0"), strings.NewReader(sql))
		if got.StatusCode != http.StatusOK {
			t.Errorf("%s: status %d: %s", sql, got.StatusCode, got.text)
		}
	}
	if got := call(t, s, http.MethodPost, readerParams(t, s, "database", db, "readonly", "0"), strings.NewReader("DROP TABLE t")); got.code() != "164" {
		t.Errorf("with readonly=0 in the parameters: %s", got.text)
	}
	if got := call(t, s, http.MethodGet, pairs("database", db, "query", "DROP TABLE t"), nil); got.code() != "164" {
		t.Errorf("GET by the owner: %s", got.text)
	}
	if n := count(t, open(t, s, use, readerLogin(t, s)), "SELECT count() FROM t"); n != 0 {
		t.Errorf("the table has %d rows", n)
	}
}

// TestRefused tries what nobody may do.
func TestRefused(t *testing.T) {
	s := server(t)
	out := filepath.Join(shared.dir, "data", "out.csv")
	for sql, code := range map[string]string{
		"SYSTEM SHUTDOWN":                            "497",
		"/**/ system\n-- x\nKILL":                    "497",
		"DROP DATABASE default":                      "497",
		"DROP DATABASE IF EXISTS `def\\x61ult` SYNC": "497",
		"DROP DATABASE \"default\"":                  "497",
		"DROP DATABASE “default”":                    "497",
		"DROP DATABASE {db:Identifier}":              "497",
		"DETACH DATABASE default":                    "497",
		"RENAME DATABASE default TO other":           "497",
		"SELECT 1 INTO OUTFILE '" + out + "'":        "48",
		"INSERT INTO FUNCTION null('a UInt8') FROM INFILE '" + out + "' FORMAT CSV":        "48",
		"INSERT INTO FUNCTION null('a UInt8') SELECT * FROM input('a UInt8') FORMAT CSV 1": "108",
		"SELECT 1 PARALLEL WITH DROP DATABASE default":                                     "62",
		"SELECT 1; SYSTEM SHUTDOWN":                                                        "62",
	} {
		if got := post(t, s, sql, "param_db", "default"); got.code() != code {
			t.Errorf("%s: status %d, code %s, want %s: %s", sql, got.StatusCode, got.code(), code, got.text)
		}
	}
	if _, err := os.Stat(out); err == nil {
		t.Error("INTO OUTFILE wrote a file")
	}
	if n := count(t, open(t, s), "SELECT count() FROM system.tables WHERE name = 'half'"); n != 0 {
		t.Error("the first of two statements was run")
	}
	if n := count(t, open(t, s), "SELECT count() FROM system.databases WHERE name = 'default'"); n != 1 || s.State().Restarts != 0 {
		t.Errorf("there are %d databases default, after %d restarts", n, s.State().Restarts)
	}
}

// TestSettingNames tries to pass arguments of the engine's command line as settings.
func TestSettingNames(t *testing.T) {
	s := server(t)
	for _, name := range []string{"path", "config-file", "config_file", "--path", "log-level", "max_threads = 1, readonly", "max_threads'", "", "logger.log"} {
		if got := post(t, s, "SELECT 1", name, "/tmp/elsewhere"); got.code() != "115" || got.StatusCode != http.StatusNotFound {
			t.Errorf("%q: status %d, code %s: %s", name, got.StatusCode, got.code(), got.text)
		}
	}
	if got := post(t, s, "SELECT getSetting('readonly')", "max_block_size", "1', readonly = '1"); got.StatusCode == http.StatusOK {
		t.Errorf("a value that ends its quotes: %s", got.text)
	}
}

// TestConfined asks for files and connections that the process is not to have, as the owner, whom no rule of the bridge stops.
func TestConfined(t *testing.T) {
	s := server(t)
	if !s.State().Confined {
		t.Skip("needs a kernel with Landlock (Linux 5.13)")
	}
	for _, path := range []string{"/etc/passwd", filepath.Join(shared.dir, "state.json"), "/proc/1/environ", "/proc/" + itoa(os.Getpid()) + "/environ"} {
		if got := post(t, s, "SELECT file('"+path+"')"); got.code() != "76" || !strings.Contains(got.text, "Permission denied") {
			t.Errorf("%s: code %s: %s", path, got.code(), got.text)
		}
	}
	var asked atomic.Bool
	other := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked.Store(true)
		w.Write([]byte("1\n"))
	}))
	defer other.Close()
	if got := post(t, s, "SELECT * FROM url('"+other.URL+"', 'CSV', 'a UInt8')", "http_max_tries", "1"); got.StatusCode == http.StatusOK || asked.Load() {
		t.Errorf("the engine can open connections: %q", got.text)
	}
	got := post(t, s, "SELECT file('/proc/self/environ')")
	if strings.Contains(got.text, "PATH=") || !strings.Contains(got.text, "TZ=UTC") {
		t.Errorf("the child's environment is %q", got.text)
	}
	u := readerParams(t, s)
	if strings.Contains(got.text, u.Get("password")) {
		t.Error("the child's environment holds a password")
	}
}
