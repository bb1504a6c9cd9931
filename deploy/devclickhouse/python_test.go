package devclickhouse_test

import (
	"net/url"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

// script is what a program in another language does: it writes, reads, streams, and sees its errors.
const script = `
import sys, datetime, uuid
import clickhouse_connect
from clickhouse_connect.driver.exceptions import DatabaseError
host, port, user, password, database = sys.argv[1:]
for compress in (False, "lz4", "zstd", "gzip"):
    c = clickhouse_connect.get_client(host=host, port=int(port), username=user, password=password, database=database, compress=compress)
    c.command("DROP TABLE IF EXISTS t")
    c.command("CREATE TABLE t (n UInt64, s String, at DateTime64(3), u UUID, m Map(String, UInt8), a Array(Nullable(String))) ENGINE = MergeTree ORDER BY n")
    at = datetime.datetime(2026, 3, 29, 1, 59, 59, 123000)
    u = uuid.UUID("0a0a0a0a-0000-4000-8000-000000000001")
    rows = [[i, "line\n\n%d;" % i, at, u, {"k": 10}, ["x", None]] for i in range(5000)]
    c.insert("t", rows, column_names=["n", "s", "at", "u", "m", "a"])
    got = c.query("SELECT * FROM t ORDER BY n", settings={"max_threads": 1}).result_rows
    assert [list(r[:2]) + list(r[3:]) for r in got] == [r[:2] + r[3:] for r in rows], got[0]
    assert got[0][2].replace(tzinfo=None) == at, got[0]
    assert c.query("SELECT {a:String}, {n:UInt8}", parameters={"a": "it's", "n": 7}).result_rows == [("it's", 7)]
    n = 0
    with c.query_row_block_stream("SELECT number FROM numbers(300000)") as stream:
        for block in stream:
            n += len(block)
    assert n == 300000, n
    try:
        c.query("SELECT * FROM nowhere")
        raise SystemExit("no error")
    except DatabaseError as e:
        assert "UNKNOWN_TABLE" in str(e), e
    try:
        with c.query_row_block_stream("SELECT throwIf(number = 290000, 'too far') FROM numbers(1000000) SETTINGS max_threads = 1") as stream:
            for block in stream:
                pass
        raise SystemExit("a result that was cut was taken for whole")
    except SystemExit:
        raise
    except Exception as e:
        assert "too far" in str(e), repr(e)
    c.close()
print("done")
`

// TestPython is the server as another language's client sees it: clickhouse-connect, on which most Python tools stand.
func TestPython(t *testing.T) {
	python := os.Getenv("TIDEMARK_PYTHON")
	if python == "" {
		python = "python3"
	}
	if out, err := exec.Command(python, "-c", "import clickhouse_connect").CombinedOutput(); err != nil {
		required := strings.Split(os.Getenv("TIDEMARK_REQUIRE"), ",")
		if slices.Contains(required, "clickhouse-connect") || slices.Contains(required, "all") {
			t.Fatalf("clickhouse-connect is required: pip install clickhouse-connect, and name the interpreter in TIDEMARK_PYTHON unless it is python3: %v\n%s", err, out)
		}
		t.Skip("needs clickhouse-connect: pip install clickhouse-connect, and name the interpreter in TIDEMARK_PYTHON unless it is python3")
	}
	s := server(t)
	name, _ := database(t, s)
	u, err := url.Parse(s.DSN(false))
	must(t, err)
	password, _ := u.User.Password()
	out, err := exec.CommandContext(ctxOf(t), python, "-c", script, u.Hostname(), u.Port(), u.User.Username(), password, name).CombinedOutput()
	if err != nil || !strings.HasSuffix(strings.TrimSpace(string(out)), "done") {
		t.Errorf("%v\n%s", err, out)
	}
}
