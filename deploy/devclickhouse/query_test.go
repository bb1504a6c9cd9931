package devclickhouse_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2"
	"github.com/ClickHouse/clickhouse-go/v2/ext"
)

// TestHello pins the query that the bridge answers itself, and that clickhouse-go sends it: should a new version ask another way, its
// blocks would be read at the wrong revision.
func TestHello(t *testing.T) {
	s := server(t)
	c := open(t, s)
	v, err := c.ServerVersion()
	must(t, err)
	if v.Revision != 0 || !strings.HasPrefix(v.Version.String(), "26.7.") || v.Timezone.String() != "UTC" || v.DisplayName == "" {
		t.Errorf("clickhouse-go was told %+v", v)
	}
	const hello = "SELECT displayName(), version(), revision(), timezone()"
	got := post(t, s, hello, "default_format", "Native", "client_protocol_version", "54460")
	if !strings.HasPrefix(got.text, "\x01\x00\x02\xff\xff\xff\xff\x00\x04\x01\x0ddisplayName()\x06String\x00") || !strings.Contains(got.text, "revision()\x06UInt32\x00\x00\x00\x00\x00") {
		t.Errorf("the answer is %q", got.text)
	}
	if got := post(t, s, hello, "default_format", "CSV"); !strings.Contains(got.text, `,54`) {
		t.Errorf("in another format the engine answers %q", got.text)
	}
}

// TestFormats reads results in the ways that a client over HTTP may ask for one.
func TestFormats(t *testing.T) {
	s := server(t)
	for _, test := range []struct {
		name   string
		method string
		params url.Values
		body   string
		header []string
		want   string
		typ    string
	}{
		{name: "default", body: "SELECT 1, 'a'", want: "1\ta\n", typ: "text/tab-separated-values; charset=UTF-8"},
		{name: "clause", body: "SELECT 1 FORMAT CSV", want: "1\n", typ: "text/csv; charset=UTF-8; header=absent"},
		{name: "clause wins", body: "SELECT 1 AS x FORMAT JSONEachRow SETTINGS max_threads = 1", params: pairs("default_format", "CSV"), want: `{"x":1}` + "\n", typ: "application/x-ndjson; charset=UTF-8"},
		{name: "parameter", body: "SELECT 'a'", params: pairs("default_format", "CSV"), want: `"a"` + "\n"},
		{name: "header", body: "SELECT 'a'", header: []string{"X-ClickHouse-Format", "CSV"}, want: `"a"` + "\n"},
		{name: "whole documents", body: "SELECT number FROM numbers(200000) LIMIT 199999, 1 FORMAT TSVWithNames", want: "number\n199999\n"},
		{name: "get", method: http.MethodGet, params: pairs("query", "SELECT 1"), want: "1\n"},
		{name: "query in two parts", params: pairs("query", "SELECT 1"), body: "+ 1", want: "2\n"},
		{name: "parameters", params: pairs("param_a", "x\\'y", "param_e", "", "param_i", "t"), body: "SELECT {a:String}, {e:String}, {i:Identifier} FROM (SELECT 7 AS t)", want: "x\\'y\t\t7\n"},
		{name: "database header", body: "SELECT currentDatabase()", header: []string{"X-ClickHouse-Database", "system"}, want: "system\n"},
		{name: "time zone", body: "SELECT timezone(), toString(toDateTime(0))", want: "UTC\t1970-01-01 00:00:00\n"},
		{name: "settings", params: pairs("max_threads", "3"), body: "SELECT getSetting('max_threads')", want: "3\n"},
		{name: "comment of one's own", params: pairs("log_comment", "mine's"), body: "SELECT endsWith(getSetting('log_comment'), ' mine\\'s')", want: "1\n"},
		{name: "explain", body: "EXPLAIN AST SELECT 1", want: "SelectWithUnionQuery (children 1)\n ExpressionList (children 1)\n  SelectQuery (children 1)\n   ExpressionList (children 1)\n    Literal UInt64_1\n"},
		{name: "no rows", body: "SELECT 1 WHERE 0", want: ""},
		{name: "trailing semicolon and comment", body: "SELECT 1; -- done", want: "1\n"},
	} {
		t.Run(test.name, func(t *testing.T) {
			if test.method == "" {
				test.method = http.MethodPost
			}
			got := call(t, s, test.method, test.params, strings.NewReader(test.body), test.header...)
			if got.StatusCode != http.StatusOK || got.text != test.want {
				t.Errorf("status %d, %q, want %q", got.StatusCode, got.text, test.want)
			}
			if test.typ != "" && got.Header.Get("Content-Type") != test.typ {
				t.Errorf("content type %q, want %q", got.Header.Get("Content-Type"), test.typ)
			}
		})
	}
}

func TestHeaders(t *testing.T) {
	s := server(t)
	got := post(t, s, "SELECT number FROM numbers(10)", "query_id", "mine", "default_format", "CSV")
	for name, want := range map[string]string{"X-ClickHouse-Query-Id": "mine", "X-ClickHouse-Format": "CSV", "X-ClickHouse-Timezone": "UTC"} {
		if got.Header.Get(name) != want {
			t.Errorf("%s is %q, want %q", name, got.Header.Get(name), want)
		}
	}
	if len(got.Header.Get("X-ClickHouse-Exception-Tag")) != 16 || got.Header.Get("X-ClickHouse-Server-Display-Name") == "" {
		t.Errorf("headers are %v", got.Header)
	}
	var summary map[string]string
	must(t, json.Unmarshal([]byte(got.Header.Get("X-ClickHouse-Summary")), &summary))
	if summary["read_rows"] != "10" || summary["result_rows"] != "10" || summary["elapsed_ns"] == "" {
		t.Errorf("summary is %v", summary)
	}
	if got := post(t, s, "SELECT 1 WHERE 0"); got.ContentLength != 0 || got.StatusCode != http.StatusOK {
		t.Errorf("an empty result has length %d and status %d", got.ContentLength, got.StatusCode)
	}
	for path, want := range map[string]int{"/ping": 200, "/replicas_status": 200, "/": 200, "/play": 404} {
		answer, err := plainHTTP.Get("http://" + s.Addr() + path)
		must(t, err)
		answer.Body.Close()
		if answer.StatusCode != want {
			t.Errorf("%s answers %d, want %d", path, answer.StatusCode, want)
		}
	}
}

// TestErrors checks codes and statuses, through the client and raw.
func TestErrors(t *testing.T) {
	s := server(t)
	c := open(t, s)
	for _, test := range []struct {
		sql          string
		code, status int
	}{
		{"SELECT * FROM nowhere", 60, 404},
		{"SELECT nothing FROM system.one", 47, 404},
		{"SELECT noFunction(1)", 46, 404},
		{"USE nowhere", 81, 404},
		{"SELEC 1", 62, 400},
		{"SELEC", 62, 400},
		{"", 62, 400},
		{"-- only a comment", 62, 400},
		{"SELECT 1 SETTINGS no_setting = 1", 115, 404},
		{"SELECT throwIf(1)", 395, 500},
		{"SELECT 1; SELECT 2", 62, 400},
		{"SELECT 1 PARALLEL WITH SELECT 2", 62, 400},
		{"SELECT 1 FORMAT NoSuchFormat", 73, 404},
		{"SELECT sleep(3) SETTINGS max_execution_time = 0.1", 159, 408},
	} {
		got := post(t, s, test.sql)
		if got.code() != fmt.Sprint(test.code) || got.StatusCode != test.status {
			t.Errorf("%q: code %s and status %d, want %d and %d: %s", test.sql, got.code(), got.StatusCode, test.code, test.status, got.text)
		}
		if strings.Count(got.text, "DB::Exception") != 1 || !strings.HasPrefix(got.text, "Code: ") || !strings.Contains(got.text, "(version ") {
			t.Errorf("%q: the text is %q", test.sql, got.text)
		}
		if test.sql != "" {
			wantCode(t, c.Exec(ctxOf(t), test.sql), int32(test.code))
		}
	}
	for name, test := range map[string]struct {
		params url.Values
		code   string
	}{
		"unknown parameter": {pairs("no_such_setting", "1"), "115"},
		"bad value":         {pairs("max_threads", "many"), "27"},
		"bad flag":          {pairs("compress", "maybe"), "36"},
		"unknown database":  {pairs("database", "nowhere"), "81"},
	} {
		if got := call(t, s, http.MethodPost, test.params, strings.NewReader("SELECT 1")); got.code() != test.code {
			t.Errorf("%s: code %s, want %s: %s", name, got.code(), test.code, got.text)
		}
	}
}

// TestMidStreamError has a query fail after rows have been sent: the client must see the error, not a short result.
func TestMidStreamError(t *testing.T) {
	s := server(t)
	const sql = "SELECT number, throwIf(number = 500000, 'too far') FROM numbers(1000000) SETTINGS max_threads = 1, max_block_size = 65409"
	for name, method := range modes {
		t.Run(name, func(t *testing.T) {
			c := open(t, s, compressed(method))
			rows, err := c.Query(ctxOf(t), sql)
			must(t, err)
			defer rows.Close()
			n := 0
			for rows.Next() {
				n++
			}
			if n == 0 || n > 500000 {
				t.Errorf("read %d rows before the error", n)
			}
			wantCode(t, rows.Err(), 395)
			if n := count(t, c, "SELECT count() FROM numbers(5)"); n != 5 {
				t.Errorf("the next query counts %d", n)
			}
		})
	}
	got := post(t, s, sql)
	if tag := got.Header.Get("X-ClickHouse-Exception-Tag"); got.err == nil || !strings.Contains(got.text, "\r\n__exception__\r\n"+tag+"\r\nCode: 395.") || !strings.HasSuffix(got.text, " "+tag+"\r\n__exception__\r\n") {
		t.Errorf("a plain client reads %q and the error %v", got.text[max(0, len(got.text)-300):], got.err)
	}
	if got := post(t, s, sql, "wait_end_of_query", "1"); got.StatusCode != 500 || got.code() != "395" {
		t.Errorf("with wait_end_of_query the status is %d and the code %s", got.StatusCode, got.code())
	}
}

// running counts the statements that run with a text in them, beside the one that asks.
func running(t testing.TB, marker string) int {
	got := post(t, server(t), "SELECT count() FROM system.processes WHERE position(query, '"+marker+"') > 0 AND position(query, 'system.processes') = 0")
	var n int
	fmt.Sscan(got.text, &n)
	return n
}

// TestCancel ends a statement with its client: while it computes, while it streams, and while it inserts.
func TestCancel(t *testing.T) {
	s := server(t)
	_, use := database(t, s)
	c := open(t, s, use)
	run(t, c, "CREATE TABLE t (n UInt64) ENGINE = MergeTree ORDER BY n")
	for marker, act := range map[string]func(ctx context.Context, marker string) error{
		"computes": func(ctx context.Context, marker string) error {
			return c.Exec(ctx, "SELECT sum(sipHash64(number)), '"+marker+"' FROM system.numbers")
		},
		"streams": func(ctx context.Context, marker string) error {
			rows, err := c.Query(ctx, "SELECT number, '"+marker+"' FROM system.numbers")
			if err != nil {
				return err
			}
			defer rows.Close()
			for rows.Next() {
			}
			return rows.Err()
		},
		"inserts": func(ctx context.Context, marker string) error {
			return c.Exec(ctx, "INSERT INTO t SELECT number + length('"+marker+"') FROM system.numbers WHERE sipHash64(number) = 1")
		},
	} {
		t.Run(marker, func(t *testing.T) {
			marker := "cancelled-" + marker
			ctx, cancel := context.WithCancel(ctxOf(t))
			ended := make(chan error, 1)
			go func() { ended <- act(ctx, marker) }()
			eventually(t, "the statement to run", func() bool { return running(t, marker) == 1 })
			cancel()
			if err := <-ended; err == nil {
				t.Error("the client saw no error")
			}
			eventually(t, "the statement to be gone", func() bool { return running(t, marker) == 0 })
		})
	}
	ctx, cancel := context.WithTimeout(ctxOf(t), 300*time.Millisecond)
	defer cancel()
	began := time.Now()
	if err := c.Exec(ctx, "SELECT count() FROM system.numbers"); err == nil || time.Since(began) > 5*time.Second {
		t.Errorf("an endless query ended after %v with %v", time.Since(began), err)
	}
}

// TestSettingsDoNotLeak changes all that a connection has, and asks again over the same client.
func TestSettingsDoNotLeak(t *testing.T) {
	s := server(t)
	before := post(t, s, "SELECT getSetting('max_block_size'), currentDatabase()").text
	if got := post(t, s, "SELECT getSetting('max_block_size')", "max_block_size", "77"); got.text != "77\n" {
		t.Errorf("the setting of a request is %q", got.text)
	}
	post(t, s, "SET max_block_size = 78")
	post(t, s, "USE system")
	post(t, s, "CREATE TEMPORARY TABLE leaked (a UInt8)")
	if after := post(t, s, "SELECT getSetting('max_block_size'), currentDatabase()").text; after != before {
		t.Errorf("after other requests it is %q, before it was %q", after, before)
	}
	if got := post(t, s, "SELECT * FROM leaked"); got.code() != "60" {
		t.Errorf("a temporary table outlived its request: %s", got.text)
	}
}

func TestSessions(t *testing.T) {
	s := server(t)
	in := func(sql string, more ...string) response {
		return post(t, s, sql, append(more, "session_id", t.Name())...)
	}
	if got := in("SELECT 1", "session_check", "1"); got.code() != "372" {
		t.Errorf("a session that is not there: %s", got.text)
	}
	in("CREATE TEMPORARY TABLE kept (a UInt8)")
	in("SET max_block_size = 79")
	if got := in("SELECT getSetting('max_block_size')", "max_block_size", "80"); got.text != "80\n" {
		t.Errorf("the setting of a request in a session is %q", got.text)
	}
	if got := in("SELECT getSetting('max_block_size'), count() FROM kept"); got.text != "79\t0\n" {
		t.Errorf("the session holds %q", got.text)
	}
	marker := "locks-the-session"
	var wg sync.WaitGroup
	wg.Go(func() { in("SELECT sleep(1), '" + marker + "'") })
	eventually(t, "the session to be in use", func() bool { return running(t, marker) == 1 })
	if got := in("SELECT 1"); got.code() != "373" {
		t.Errorf("a session in use: %s", got.text)
	}
	wg.Wait()
	in("SELECT 1", "session_timeout", "0")
	eventually(t, "the session to expire", func() bool { return in("SELECT 1", "session_check", "1", "session_timeout", "0").code() == "372" })
	if got := in("SELECT 1", "session_timeout", "99999"); got.code() != "374" {
		t.Errorf("a timeout out of bounds: %s", got.text)
	}
}

func TestExternalTables(t *testing.T) {
	s := server(t)
	for name, method := range modes {
		t.Run(name, func(t *testing.T) {
			table, err := ext.NewTable("ext1", ext.Column("a", "UInt8"), ext.Column("s", "String"))
			must(t, err)
			for i := range 10 {
				must(t, table.Append(uint8(i), fmt.Sprintf("v%d\n\n;", i)))
			}
			c := open(t, s, compressed(method))
			ctx := clickhouse.Context(ctxOf(t), clickhouse.WithExternalTable(table))
			var n, sum uint64
			must(t, c.QueryRow(ctx, "SELECT count(), sum(a) FROM ext1 WHERE endsWith(s, ';')").Scan(&n, &sum))
			if n != 10 || sum != 45 {
				t.Errorf("the table has %d rows, sum %d", n, sum)
			}
			must(t, open(t, s, readerLogin(t, s), compressed(method)).QueryRow(ctx, "SELECT count(), sum(a) FROM ext1").Scan(&n, &sum))
		})
	}
	got := call(t, s, http.MethodPost, pairs("x_structure", "a UInt8) ENGINE = File(CSV, '/etc/passwd'"), strings.NewReader(
		"--b\r\nContent-Disposition: form-data; name=\"query\"\r\n\r\nSELECT * FROM x\r\n--b\r\nContent-Disposition: form-data; name=\"x\"; filename=\"\"\r\n\r\n1\n\r\n--b--\r\n"),
		"Content-Type", "multipart/form-data; boundary=b")
	if got.code() != "36" {
		t.Errorf("a structure that is more than columns: %s", got.text)
	}
}

// TestStreaming reads a result that is far larger than what is kept of it.
func TestStreaming(t *testing.T) {
	s := server(t)
	for name, method := range modes {
		c := open(t, s, compressed(method))
		rows, err := c.Query(ctxOf(t), "SELECT number FROM numbers(400000)")
		must(t, err)
		var n, want uint64
		for ; rows.Next(); want++ {
			if must(t, rows.Scan(&n)); n != want {
				t.Fatalf("%s: row %d is %d", name, want, n)
			}
		}
		must(t, rows.Err())
		if want != 400000 {
			t.Errorf("%s: read %d rows", name, want)
		}
		rows.Close()
	}
}

// TestBoundedConcurrency runs more statements at a time than there are slots: all are answered, and never more than that run.
func TestBoundedConcurrency(t *testing.T) {
	s := server(t)
	var wg sync.WaitGroup
	var mu sync.Mutex
	answers := map[string]int{}
	for range 4 * sharedQueries {
		wg.Go(func() {
			got := post(t, s, "SELECT toString(count()) FROM system.processes WHERE sleepEachRow(0.05) = 0 AND position(query, 'bounded-marker') > 0")
			mu.Lock()
			defer mu.Unlock()
			answers[strings.TrimSpace(got.text)]++
		})
	}
	wg.Wait()
	total := 0
	for text, n := range answers {
		var running int
		if _, err := fmt.Sscan(text, &running); err != nil || running < 1 || running > sharedQueries {
			t.Errorf("%d statements saw %q running, want at most %d", n, text, sharedQueries)
		}
		total += n
	}
	if total != 4*sharedQueries {
		t.Errorf("%d answers", total)
	}
}

// TestMemoryLimit has one statement ask for more than the engine may have: it fails alone.
func TestMemoryLimit(t *testing.T) {
	s := server(t)
	c := open(t, s)
	var wg sync.WaitGroup
	wg.Go(func() {
		for range 20 {
			if n := count(t, c, "SELECT count() FROM numbers(1000)"); n != 1000 {
				t.Errorf("a small query beside a big one counts %d", n)
			}
		}
	})
	wantCode(t, c.Exec(ctxOf(t), "SELECT groupArray(toString(number)) FROM numbers(100000000) SETTINGS max_memory_usage = 0"), 241)
	wg.Wait()
	if s.State().Restarts != 0 {
		t.Error("the engine has been started again")
	}
}

// TestThreads has a statement use the threads that it may: the engine would give it one where its memory is small.
func TestThreads(t *testing.T) {
	got := post(t, server(t), "EXPLAIN PIPELINE SELECT sum(number) FROM numbers_mt(100000000) SETTINGS max_threads = 2")
	if !strings.Contains(got.text, "AggregatingTransform × 2") {
		t.Errorf("the pipeline is\n%s", got.text)
	}
}

// event reads one of the engine's counters.
func event(t testing.TB, sql string) (n int64) {
	t.Helper()
	got := post(t, server(t), sql)
	if _, err := fmt.Sscan(got.text, &n); err != nil {
		t.Fatalf("%s: %s", sql, got.text)
	}
	return n
}

// TestNothingStays checks that a request leaves nothing in the bridge: no connection with its temporary tables, and nobody who still
// watches over its statement.
func TestNothingStays(t *testing.T) {
	s := server(t)
	const memory = "SELECT value FROM system.metrics WHERE metric = 'MemoryTracking'"
	before := event(t, memory)
	for range 20 {
		if got := post(t, s, "CREATE TEMPORARY TABLE kept ENGINE = Memory AS SELECT randomString(1000) FROM numbers(10000)"); got.code() != "" {
			t.Fatal(got.text)
		}
	}
	if grown := event(t, memory) - before; grown > 100<<20 {
		t.Errorf("20 temporary tables of 10 MB left %d MB behind", grown>>20)
	}
	const statements = "SELECT value FROM system.events WHERE event = 'Query'"
	first := event(t, statements)
	post(t, s, "SELECT sleep(0.5)")
	if n := event(t, statements) - first; n > 20 {
		t.Errorf("the engine ran %d statements in half a second, and was asked for two", n)
	}
}
