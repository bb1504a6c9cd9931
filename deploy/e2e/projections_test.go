package e2e_test

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2"

	"github.com/tidemark-dev/tidemark/deploy/devclickhouse/chtest"
)

// arguments are values for the parameters of views.
var arguments = map[string]string{
	"environment": "'dev'", "integration": "'demo'", "connection": "'acme'", "model": "'Brand'", "variant": "'base'", "record_id": "'AMD'",
	"since": "toDateTime64('2000-01-01', 3, 'UTC')", "until": "toDateTime64('2100-01-01', 3, 'UTC')",
}

var parameter = regexp.MustCompile(`\{(\w+)\s*:`)

// call is how a view is read, with values for its parameters if it has any.
func call(t *testing.T, name, create string) string {
	t.Helper()
	var args []string
	for _, m := range parameter.FindAllStringSubmatch(create, -1) {
		value, ok := arguments[m[1]]
		if !ok {
			t.Fatalf("view %s has a parameter %s, which this test has no value for", name, m[1])
		}
		if arg := m[1] + " = " + value; !slices.Contains(args, arg) {
			args = append(args, arg)
		}
	}
	if len(args) == 0 {
		return name
	}
	return name + "(" + strings.Join(args, ", ") + ")"
}

// nothingToShow are the views that the demo has no rows for: its updates are real ones, and nobody has looked after its tables.
var nothingToShow = []string{"v1_maintenance", "v1_spurious_updates"}

// What up --demo prints works as it stands, and every view can be read by clients that know nothing of us: one of Go, curl, and one of
// Python.
func TestDemo_TheProjectionsCanBeAskedByAnyClient(t *testing.T) {
	chtest.Library(t)
	requireTool(t, "curl")
	dir := t.TempDir()
	p := launch(t, "up", "--demo", "--no-projections=false", "--data", dir, "--http", "127.0.0.1:0", "--kafka-listen", "127.0.0.1:0",
		"--clickhouse-listen", "127.0.0.1:0")
	lines := p.until(t, "projections: ClickHouse is at")
	text := strings.Join(append(lines, p.until(t, "stats")...), "\n")
	if !strings.Contains(text, "demo: done") {
		p.until(t, "demo: done")
	}
	line := func(way string) string {
		m := regexp.MustCompile(`(?ms)projections: ClickHouse.*?^  ` + way + ` +(\S.*?)$`).FindStringSubmatch(text)
		if m == nil {
			t.Fatalf("no line for %s in\n%s", way, text)
		}
		return m[1]
	}
	dsn := strings.Fields(line("DSN"))[0]
	opt, err := clickhouse.ParseDSN(dsn)
	if err != nil {
		t.Fatal(err)
	}
	db, err := clickhouse.Open(opt)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()

	// The demo's last snapshot is there.
	const live = 1911
	for deadline := time.Now().Add(patience); ; {
		var records uint64
		err := db.QueryRow(t.Context(), "SELECT sum(records) FROM v1_streams").Scan(&records)
		if err == nil && records == live {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("%d records, want %d: %v", records, live, err)
		}
		pause(t.Context())
	}
	for _, way := range []string{"curl", "Terminal"} {
		out, err := shell(t, line(way))
		if err != nil {
			t.Fatal(err)
		}
		if want := map[string]string{"curl": fmt.Sprint(live), "Terminal": "completed"}[way]; !strings.Contains(out, want) {
			t.Errorf("%s says\n%s", line(way), out)
		}
	}

	rows, err := db.Query(t.Context(), "SELECT name, create_table_query FROM system.tables WHERE database = currentDatabase() AND startsWith(name, 'v1_') ORDER BY name")
	if err != nil {
		t.Fatal(err)
	}
	views := map[string]string{}
	for rows.Next() {
		var name, create string
		if err := rows.Scan(&name, &create); err != nil {
			t.Fatal(err)
		}
		views[name] = call(t, name, create)
	}
	if err := rows.Err(); err != nil {
		t.Fatal(err)
	}
	if len(views) < 20 {
		t.Fatalf("there are %d views", len(views))
	}
	var script strings.Builder
	fmt.Fprintf(&script, "import clickhouse_connect, sys\nclient = clickhouse_connect.get_client(dsn=sys.argv[1])\n")
	for name, from := range views {
		r, err := db.Query(t.Context(), "SELECT * FROM "+from+" LIMIT 5")
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		n := 0
		for r.Next() {
			n++
		}
		if err := r.Err(); err != nil || n == 0 && !slices.Contains(nothingToShow, name) && name != "v1_lag" && name != "v1_lag_now" {
			t.Errorf("%s: %d rows, %v", name, n, err)
		}
		fmt.Fprintf(&script, "print(%q, len(client.query(%q).result_rows))\n", name, "SELECT * FROM "+from+" LIMIT 5")
	}
	// What reads cannot write.
	if err := db.Exec(t.Context(), "CREATE TABLE t (x UInt8) ENGINE = Memory"); err == nil {
		t.Error("the login of the DSN may write")
	}

	requirePython(t, "clickhouse_connect")
	path := t.TempDir() + "/read.py"
	if err := os.WriteFile(path, []byte(script.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	out, err := exec.CommandContext(t.Context(), "python3", path, dsn).CombinedOutput()
	if err != nil {
		t.Fatalf("Python: %v\n%s", err, out)
	}
	if got := strings.Count(string(out), "\n"); got != len(views) {
		t.Errorf("Python reads %d views of %d:\n%s", got, len(views), out)
	}
}

// The tables are looked after by commands that talk to a stack that is up.
func TestProjections_AreMaintainedWhileTheyServe(t *testing.T) {
	chtest.Library(t)
	dir := t.TempDir()
	p := launch(t, "up", "--demo", "--no-projections=false", "--data", dir, "--http", "127.0.0.1:0", "--kafka-listen", "127.0.0.1:0", "--clickhouse-listen", "127.0.0.1:0")
	text := strings.Join(p.until(t, "ready after"), "\n")
	kafka := regexp.MustCompile(`kcat -b (\S+)`).FindStringSubmatch(text)[1]
	both := strings.Join(p.until(t, "projections: ClickHouse is at"), "\n")
	if !strings.Contains(both, "demo: done") {
		p.until(t, "demo: done")
	}
	program, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	say := func(args ...string) string {
		t.Helper()
		out, err := exec.CommandContext(t.Context(), program, append(args, "--data", dir)...).CombinedOutput()
		if err != nil {
			t.Fatalf("%v: %v\n%s", args, err, out)
		}
		return string(out)
	}
	await := func(query, want string) {
		t.Helper()
		for deadline := time.Now().Add(patience); ; pause(t.Context()) {
			have := strings.TrimSpace(say("clickhouse", "--format", "TSV", "--query", query))
			if have == want {
				return
			}
			if time.Now().After(deadline) {
				t.Fatalf("%s says %s, want %s", query, have, want)
			}
		}
	}
	await("SELECT sum(records) FROM v1_streams", "1911")
	changes := strings.TrimSpace(say("clickhouse", "--format", "TSV", "--query", "SELECT count() FROM v1_changes"))
	if out := say("projections", "status", "--json"); !strings.Contains(out, `"generation":1,"serving":true`) {
		t.Errorf("status: %s", out)
	}
	if out := say("projections", "rebuild", "--kafka", kafka, "--json"); !strings.Contains(out, `"from":1`) || !strings.Contains(out, `"switched":true`) {
		t.Errorf("rebuild: %s", out)
	}
	await("SELECT count() FROM v1_changes", changes)
	await("SELECT count() FROM v1_health WHERE generation = 2 AND serving", "1")
	say("projections", "drop", "1")
	say("projections", "audit")
	if out := say("projections", "plan"); strings.TrimSpace(out) != "" && !strings.Contains(out, "TTL") {
		t.Errorf("there is something left to run: %s", out)
	}
	say("projections", "erase", "--connection", "acme", "--yes", "--purge")
	await("SELECT count() FROM v1_changes", "0")
	await("SELECT count() FROM changes_g2", "0")
	await("SELECT arraySort(groupArray((toString(op), generation, connection, purged))) FROM v1_maintenance", "[('ERASED',0,'acme',true),('SWITCHED',2,'',false)]")
}

func requirePython(t *testing.T, module string) {
	t.Helper()
	requireTool(t, "python3")
	if exec.Command("python3", "-c", "import "+module).Run() == nil {
		return
	}
	required := strings.Split(os.Getenv("TIDEMARK_REQUIRE"), ",")
	if slices.Contains(required, "python") || slices.Contains(required, "all") {
		t.Fatalf("Python's %s is required and not installed", module)
	}
	t.Skipf("Python's %s is not installed", module)
}

// pause lets a moment pass between two looks.
func pause(ctx context.Context) {
	timer := time.NewTimer(50 * time.Millisecond)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}

// Without a library everything but the projections runs, one line says so and what to do about it.
func TestUp_RunsWithoutTheLibrary(t *testing.T) {
	t.Setenv("TIDEMARK_CHDB_LIBRARY", "/nonexistent/libchdb.so")
	p := launch(t, "up", "--no-projections=false", "--data", t.TempDir(), "--http", "127.0.0.1:0", "--kafka-listen", "127.0.0.1:0", "--clickhouse-listen", "127.0.0.1:0")
	p.until(t, "ready after")
	lines := p.until(t, "projections: not running")
	last := lines[len(lines)-1]
	for _, way := range []string{"everything else is", "catch up later", "tidemark clickhouse fetch", "TIDEMARK_CHDB_LIBRARY", "ClickHouse server"} {
		if !strings.Contains(last, way) {
			t.Errorf("%q does not say %q", last, way)
		}
	}
}
