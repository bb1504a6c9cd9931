package devclickhouse_test

import (
	"bytes"
	"compress/gzip"
	"compress/zlib"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/ClickHouse/ch-go/compress"
	"github.com/ClickHouse/clickhouse-go/v2"
	"github.com/andybalholm/brotli"
	"github.com/klauspost/compress/zstd"
	"github.com/pierrec/lz4/v4"
)

// TestInsert_DataIsData sends what a parser of statements would stop at or run: blank lines, semicolons, and integers whose bytes are
// line breaks.
func TestInsert_DataIsData(t *testing.T) {
	s := server(t)
	for name, method := range modes {
		t.Run(name, func(t *testing.T) {
			db, use := database(t, s)
			c := open(t, s, use, compressed(method))
			run(t, c, "CREATE TABLE victim (a UInt8) ENGINE = Memory")
			run(t, c, "CREATE TABLE t (n UInt16, s String) ENGINE = MergeTree ORDER BY n")
			batch, err := c.PrepareBatch(ctxOf(t), "INSERT INTO t (n, s)")
			must(t, err)
			const rows = 10000 // 0x0A0A is among them
			for i := range rows {
				must(t, batch.Append(uint16(i), fmt.Sprintf("line\n\nDROP TABLE %s.victim; -- %d", db, i)))
			}
			must(t, batch.Send())
			if n := count(t, c, "SELECT count() FROM t WHERE s = concat('line\n\nDROP TABLE "+db+".victim; -- ', toString(n))"); n != rows {
				t.Errorf("%d rows are as they were sent, want %d", n, rows)
			}
			if n := count(t, c, "SELECT count() FROM victim"); n != 0 {
				t.Errorf("the other table has %d rows", n)
			}
		})
	}
}

// TestInsert_Shapes sends statements and data in every way that HTTP allows.
func TestInsert_Shapes(t *testing.T) {
	s := server(t)
	db, use := database(t, s)
	c := open(t, s, use)
	run(t, c, "CREATE TABLE t (a UInt32, s String DEFAULT 'none') ENGINE = MergeTree ORDER BY a")
	run(t, c, "CREATE TABLE `format` (`values` UInt32) ENGINE = MergeTree ORDER BY `values`")
	for _, test := range []struct {
		name, query, body, want, table string
	}{
		{"values in the body", "", "INSERT INTO t VALUES (1, 'a;\n\nb'), (2, 'c')", "1\ta;\\n\\nb\n2\tc\n", "t"},
		{"values after a semicolon", "", "INSERT INTO t VALUES (1, 'a');", "1\ta\n", "t"},
		{"values over the parameter", "INSERT INTO t (a) VALUES", "(3)", "3\tnone\n", "t"},
		{"data in the parameter", "INSERT INTO t VALUES (4, 'p')", "", "4\tp\n", "t"},
		{"format in the parameter", "INSERT INTO t FORMAT TSV", "5\tx\n", "5\tx\n", "t"},
		{"format in the body", "", "INSERT INTO t FORMAT CSV\n6,\"y\n\nz\"\n", "6\ty\\n\\nz\n", "t"},
		{"settings before the format", "", "INSERT INTO t SETTINGS input_format_null_as_default = 1 FORMAT JSONEachRow {\"a\":8}", "8\tnone\n", "t"},
		{"from a select", "", "INSERT INTO t SELECT 9, 'sel'", "9\tsel\n", "t"},
		{"from a select in parentheses", "", "INSERT INTO t (a, s) (SELECT 10, 'par')", "10\tpar\n", "t"},
		{"with a comment", "", "/* ; */ INSERT -- x\n INTO t FORMAT TSV\n11\tq\n", "11\tq\n", "t"},
		{"names that are keywords", "INSERT INTO format (values) FORMAT TSV", "12\n", "12\n", "`format`"},
		{"qualified", "INSERT INTO " + db + ".`t` FORMAT TSV", "13\tr\n", "13\tr\n", "t"},
		{"no data", "INSERT INTO t FORMAT TSV", "", "", "t"},
	} {
		t.Run(test.name, func(t *testing.T) {
			params := pairs("database", db)
			if test.query != "" {
				params.Set("query", test.query)
			}
			if got := call(t, s, http.MethodPost, params, strings.NewReader(test.body)); got.StatusCode != http.StatusOK || got.text != "" {
				t.Fatalf("status %d: %s", got.StatusCode, got.text)
			}
			if got := post(t, s, "SELECT * FROM "+test.table+" ORDER BY ALL", "database", db); got.text != test.want {
				t.Errorf("the table holds %q, want %q", got.text, test.want)
			}
			run(t, c, "TRUNCATE TABLE "+test.table)
		})
	}
	got := call(t, s, http.MethodPost, pairs("database", db, "query", "INSERT INTO t FORMAT TSV"), strings.NewReader("1\ta\nnot a number\tb\n"))
	if got.code() == "" || got.StatusCode == http.StatusOK {
		t.Errorf("bad data: status %d: %s", got.StatusCode, got.text)
	}
	wantCode(t, c.Exec(ctxOf(t), "INSERT INTO nowhere VALUES (1)"), 60)
	if n := count(t, c, "SELECT count() FROM t"); n != 0 {
		t.Errorf("an insert that failed left %d rows", n)
	}
	if got := post(t, s, "INSERT INTO t VALUES (1, 'a')", "database", db); got.Header.Get("X-ClickHouse-Summary") == "" || !strings.Contains(got.Header.Get("X-ClickHouse-Summary"), `"written_rows":"1"`) {
		t.Errorf("the summary is %s", got.Header.Get("X-ClickHouse-Summary"))
	}
}

// TestInsert_CutBody cuts the connection in the middle of the data: nothing of it may be stored.
func TestInsert_CutBody(t *testing.T) {
	s := server(t)
	db, use := database(t, s)
	c := open(t, s, use)
	run(t, c, "CREATE TABLE t (a UInt64, s String) ENGINE = MergeTree ORDER BY a")
	u, err := url.Parse(s.DSN(false))
	must(t, err)
	password, _ := u.User.Password()
	query := pairs("database", db, "query", "INSERT INTO t FORMAT TSV", "user", u.User.Username(), "password", password).Encode()
	var data bytes.Buffer
	for i := range 200000 {
		fmt.Fprintf(&data, "%d\tsome text\n", i)
	}
	for name, head := range map[string]string{
		"length":  fmt.Sprintf("Content-Length: %d\r\n\r\n", data.Len()+1000),
		"chunked": fmt.Sprintf("Transfer-Encoding: chunked\r\n\r\n%x\r\n", data.Len()+1000),
		"between": fmt.Sprintf("Transfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n", data.Len(), data.String()),
	} {
		t.Run(name, func(t *testing.T) {
			conn, err := net.Dial("tcp", s.Addr())
			must(t, err)
			_, err = fmt.Fprintf(conn, "POST /?%s HTTP/1.1\r\nHost: x\r\n%s", query, head)
			must(t, err)
			if name != "between" {
				_, err = conn.Write(data.Bytes())
				must(t, err)
			}
			must(t, conn.(*net.TCPConn).CloseWrite())
			answer, _ := io.ReadAll(conn)
			conn.Close()
			if strings.Contains(string(answer), " 200 ") {
				t.Errorf("the cut insert was answered with %q", answer)
			}
			if n := count(t, c, "SELECT count() FROM t"); n != 0 {
				t.Errorf("a cut insert left %d rows", n)
			}
		})
	}
	// The same, inside and between the blocks of a compressed body.
	for name, encode := range map[string]func() []byte{
		"frames": func() []byte { return frames(t, data.Bytes()) },
		"lz4":    func() []byte { return encoded(t, lz4.NewWriter, data.Bytes()) },
		"zstd": func() []byte {
			return encoded(t, func(w io.Writer) io.WriteCloser { z, err := zstd.NewWriter(w); must(t, err); return z }, data.Bytes())
		},
		"deflate": func() []byte { return encoded(t, zlib.NewWriter, data.Bytes()) },
		"gzip":    func() []byte { return encoded(t, gzip.NewWriter, data.Bytes()) },
		"br":      func() []byte { return encoded(t, brotli.NewWriter, data.Bytes()) },
	} {
		t.Run(name, func(t *testing.T) {
			whole := encode()
			params := pairs("database", db, "query", "INSERT INTO t FORMAT TSV")
			var header []string
			if name == "frames" {
				params.Set("decompress", "1")
			} else {
				header = []string{"Content-Encoding", name}
			}
			if got := call(t, s, http.MethodPost, params, bytes.NewReader(whole[:len(whole)-7]), header...); got.StatusCode == http.StatusOK {
				t.Error("a cut body was taken")
			}
			if n := count(t, c, "SELECT count() FROM t"); n != 0 {
				t.Errorf("a cut body left %d rows", n)
			}
			if got := call(t, s, http.MethodPost, params, bytes.NewReader(whole), header...); got.StatusCode != http.StatusOK {
				t.Errorf("the whole body: %s", got.text)
			}
			if n := count(t, c, "SELECT count() FROM t"); n != 200000 {
				t.Errorf("the whole body left %d rows", n)
			}
			run(t, c, "TRUNCATE TABLE t")
		})
	}
}

// TestInsert_Deduplication sends a batch twice under one token.
func TestInsert_Deduplication(t *testing.T) {
	s := server(t)
	_, use := database(t, s)
	c := open(t, s, use)
	run(t, c, "CREATE TABLE t (a UInt64) ENGINE = MergeTree ORDER BY a")
	ctx := clickhouse.Context(ctxOf(t), clickhouse.WithSettings(clickhouse.Settings{"insert_deduplication_token": "one"}))
	for range 2 {
		batch, err := c.PrepareBatch(ctx, "INSERT INTO t")
		must(t, err)
		must(t, batch.Append(uint64(1)))
		must(t, batch.Send())
	}
	if n := count(t, c, "SELECT count() FROM t"); n != 1 {
		t.Errorf("there are %d rows, want 1", n)
	}
}

// frames are ClickHouse's compressed blocks, several of them.
func frames(t testing.TB, data []byte) []byte {
	var out []byte
	w := compress.NewWriter(0, compress.LZ4)
	for len(data) > 0 {
		n := min(len(data), 1<<20)
		must(t, w.Compress(data[:n]))
		out = append(out, w.Data...)
		data = data[n:]
	}
	return out
}

// encoded is the data in a Content-Encoding.
func encoded[W io.WriteCloser](t testing.TB, writer func(io.Writer) W, data []byte) []byte {
	var b bytes.Buffer
	w := writer(&b)
	_, err := w.Write(data)
	must(t, err)
	must(t, w.Close())
	return b.Bytes()
}
