package e2e_test

import (
	"encoding/json"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// write makes a file of records with ids from..to-1.
func write(t *testing.T, from, to int, version string) string {
	t.Helper()
	var text strings.Builder
	for i := from; i < to; i++ {
		fmt.Fprintf(&text, "{\"key\":%d,\"v\":%q}\n", i, version)
	}
	name := filepath.Join(t.TempDir(), "records.ndjson")
	if err := os.WriteFile(name, []byte(text.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	return name
}

// runInfo is a line of `runs --json` and `held list --json`.
type runInfo struct {
	Run       uint64            `json:"run"`
	Stream    map[string]string `json:"stream"`
	Sync      string            `json:"sync"`
	Status    string            `json:"status"`
	StartedAt string            `json:"started_at"`
	EndedAt   string            `json:"ended_at"`
	Counts    map[string]int    `json:"counts"`
	ToDelete  int               `json:"to_delete"`
	Deleted   int               `json:"deleted"`
	Reason    string            `json:"reason"`
	Detail    string            `json:"detail"`
	DecidedBy string            `json:"decided_by"`
}

// fault is what a command prints to standard error with --json.
type fault struct {
	Error struct {
		Code    string `json:"code"`
		Message string `json:"message"`
		Hint    string `json:"hint"`
	} `json:"error"`
}

func (i *instance) loadKeys(t *testing.T, file string, more ...string) result {
	t.Helper()
	return tidemark(t, i.command("load", join([]string{"--id", "key", "--json"}, more, []string{file})...)...)
}

func (i *instance) runs(t *testing.T, command string) []runInfo {
	t.Helper()
	return lines[runInfo](t, tidemark(t, i.command(command, "--json")...).want(t, 0).stdout)
}

// Deletions that look like a mistake wait for a person, who lets them happen or not.
func TestHeld_WaitsForAPerson(t *testing.T) {
	i := up(t, t.TempDir(), "--partitions", "2")
	i.loadKeys(t, write(t, 0, 1500, "a")).want(t, 0)

	r := i.loadKeys(t, write(t, 1400, 1500, "a")).want(t, 3)
	got := lines[loaded](t, r.stdout)
	if len(got) != 1 || got[0].Held != 1400 || got[0].Deleted != 0 || got[0].Unchanged != 100 {
		t.Errorf("%+v", got)
	}
	f := lines[fault](t, r.stderr)[0].Error
	held := i.runs(t, "held list")
	if len(held) != 1 || held[0].Status != "held" || held[0].ToDelete != 1400 || held[0].Reason != "held.ratio" || held[0].Stream["model"] != "Brand" {
		t.Fatalf("%+v", held)
	}
	run := strconv.FormatUint(held[0].Run, 10)
	if f.Code != "held.ratio" || !strings.Contains(f.Hint, "held approve") || !strings.Contains(f.Hint, "--connection acme --model Brand "+run) {
		t.Errorf("%+v", f)
	}

	// Without a yes nothing happens.
	r = tidemark(t, i.command("held approve", run)...).want(t, 3)
	if !strings.Contains(r.stderr, "1,400 records") || !strings.Contains(r.stderr, "--yes") || len(i.runs(t, "held list")) != 1 {
		t.Errorf("%+v", r)
	}
	tidemark(t, i.command("held approve", "12345", "--yes")...).want(t, 1)

	r = tidemark(t, i.command("held discard", run, "--yes", "--by", "ada", "--json")...).want(t, 0)
	type decided struct {
		Run      uint64 `json:"run"`
		Decision string `json:"decision"`
		By       string `json:"by"`
		ToDelete int    `json:"to_delete"`
		Deleted  int    `json:"deleted"`
	}
	if d := lines[decided](t, r.stdout); len(d) != 1 || d[0] != (decided{held[0].Run, "discard", "ada", 0, 0}) {
		t.Errorf("%+v", d)
	}
	i.wantLive(t, 1500)
	if held := i.runs(t, "held list"); len(held) != 0 {
		t.Errorf("%+v", held)
	}

	// The same again, and yes this time.
	i.loadKeys(t, write(t, 1400, 1500, "a")).want(t, 3)
	held = i.runs(t, "held list")
	run = strconv.FormatUint(held[0].Run, 10)
	r = tidemark(t, i.command("held approve", run, "--yes", "--by", "ada")...).want(t, 0)
	if !strings.Contains(r.stdout, "1,400 records are deleted") {
		t.Errorf("%s", r.stdout)
	}
	runs := i.runs(t, "runs")
	if last := runs[len(runs)-1]; len(runs) != 3 || last.Status != "completed" || last.Deleted != 1400 || last.DecidedBy != "ada" || runs[1].Status != "discarded" {
		t.Errorf("%+v", runs)
	}
	i.wantLive(t, 100)

	// A limit of one's own, and an empty file.
	i.loadKeys(t, write(t, 1401, 1500, "a"), "--max-delete-ratio", "0").want(t, 3)
	r = i.loadKeys(t, write(t, 0, 0, ""))
	r.want(t, 1)
	if !strings.Contains(r.stderr, "bulk.unsupported_format") {
		t.Errorf("%+v", r)
	}
	empty := filepath.Join(t.TempDir(), "empty.json")
	if err := os.WriteFile(empty, []byte("[]"), 0o600); err != nil {
		t.Fatal(err)
	}
	if r := i.loadKeys(t, empty).want(t, 3); !strings.Contains(r.stderr, "held.empty") {
		t.Errorf("%+v", r)
	}
	if got := lines[loaded](t, i.loadKeys(t, empty, "--allow-empty").want(t, 0).stdout); got[0].Deleted != 100 {
		t.Errorf("%+v", got)
	}
}

// wantLive waits for that number of live records: what load and held wait for is in the log, and the view follows it.
func (i *instance) wantLive(t *testing.T, n int) {
	t.Helper()
	eventually(t, func() error {
		if ids := liveIDs(t, i); len(ids) != n {
			return fmt.Errorf("%d records, want %d", len(ids), n)
		}
		return nil
	})
}

func liveIDs(t *testing.T, i *instance) []string {
	t.Helper()
	held := map[string]bool{}
	for _, r := range pages(t, i.http, "", "1000") {
		held[r.id] = r.action != "DELETED"
	}
	var ids []string
	for id, is := range held {
		if is {
			ids = append(ids, id)
		}
	}
	slices.Sort(ids)
	return ids
}

// A fault anywhere in a file means that nothing of it is loaded, and that the files after it are not.
func TestLoad_AFaultyFileChangesNothing(t *testing.T) {
	i := up(t, t.TempDir(), "--partitions", "2")
	good, bad := write(t, 0, 10, "a"), filepath.Join(t.TempDir(), "bad.ndjson")
	if err := os.WriteFile(bad, []byte("{\"key\":1,\"v\":\"b\"}\n{\"key\":2,\"v\":}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	r := tidemark(t, i.command("load", "--id", "key", "--json", good, bad, write(t, 0, 1, "c"))...).want(t, 1)
	if got := lines[loaded](t, r.stdout); len(got) != 1 || got[0].Added != 10 {
		t.Errorf("%+v", got)
	}
	if f := lines[fault](t, r.stderr)[0].Error; f.Code != "bulk.invalid_json" || !strings.Contains(f.Message, bad) ||
		!strings.Contains(f.Message, "line 2") || !strings.Contains(f.Message, "not loaded") {
		t.Errorf("%+v", f)
	}
	i.wantLive(t, 10)
	if r := i.loadKeys(t, filepath.Join(t.TempDir(), "none.json")).want(t, 1); !strings.Contains(r.stderr, "none.json") {
		t.Errorf("%+v", r)
	}
	// Standard input, for people.
	r = tidemarkWith(t, strings.NewReader(`[{"key":1},{"key":"1"},{"key":2}]`), i.command("load", "--id", "key", "--max-delete-ratio", "1", "-")...).want(t, 0)
	for _, part := range []string{"file  added  updated  deleted  unchanged  held  twice", "-         0        2        8          0     0      1", `1 id occurs more than once, the last one counts: "1"`} {
		if !strings.Contains(r.stdout, part) {
			t.Errorf("%q is not in\n%s", part, r.stdout)
		}
	}
}

func TestRecords_Get(t *testing.T) {
	i := up(t, t.TempDir(), "--partitions", "2")
	i.loadKeys(t, write(t, 0, 25, "a")).want(t, 0)
	i.wantLive(t, 25)
	get := func(more ...string) result {
		return tidemark(t, join([]string{"records", "get", "--http", i.http}, stream, more)...)
	}
	var first []map[string]json.RawMessage
	r := get("--limit", "10", "--json").want(t, 0)
	if first = lines[map[string]json.RawMessage](t, r.stdout); len(first) != 10 || r.stderr != "" {
		t.Errorf("%+v", r)
	}
	var meta struct{ Cursor string }
	if err := json.Unmarshal(first[9]["_nango_metadata"], &meta); err != nil {
		t.Fatal(err)
	}
	if rest := lines[map[string]json.RawMessage](t, get("--limit", "10", "--all", "--cursor", meta.Cursor, "--json").want(t, 0).stdout); len(rest) != 15 {
		t.Errorf("%d records behind the first ten", len(rest))
	}
	r = get("3", "7", "none").want(t, 0)
	if !strings.Contains(r.stdout, `ADDED    3  {"key":3,"v":"a"`) || strings.Count(r.stdout, "\n") != 2 || !strings.Contains(r.stderr, "2 records of 3") {
		t.Errorf("%+v", r)
	}
	r = get("--limit", "5").want(t, 0)
	if !strings.Contains(r.stderr, "there are more: --cursor ") || strings.Contains(r.stdout, "_nango") {
		t.Errorf("%+v", r)
	}
	if r := get("--filter", "deleted").want(t, 0); r.stdout != "" {
		t.Errorf("%+v", r)
	}
	for _, bad := range [][]string{{"--limit", "0"}, {"--cursor", "nonsense"}, {"--filter", "gone"}, {"--modified-after", "yesterday"}} {
		r := get(append(bad, "--json")...).want(t, 2)
		if f := lines[fault](t, r.stderr)[0].Error; f.Code == "" || f.Hint == "" {
			t.Errorf("%v: %+v", bad, f)
		}
	}
	r = tidemark(t, "records", "get", "--http", i.http, "--connection", "nobody", "--model", "Brand").want(t, 1)
	if !strings.Contains(r.stderr, "unknown_connection") {
		t.Errorf("%+v", r)
	}
}

func TestTail_FollowsWhatHappens(t *testing.T) {
	i := up(t, t.TempDir(), "--partitions", "2")
	i.loadKeys(t, write(t, 0, 3, "a")).want(t, 0)
	i.loadKeys(t, write(t, 1, 4, "b")).want(t, 0)
	i.wantLive(t, 3)
	tail := func(more ...string) result { return tidemark(t, i.command("tail", append(more, "--no-wait")...)...) }

	r := tail("--from", "start").want(t, 0)
	var words []string
	for line := range strings.Lines(r.stdout) {
		words = append(words, strings.Join(strings.Fields(line)[1:], " "))
	}
	want := []string{"ADDED 0", "ADDED 1", "ADDED 2", "UPDATED 1 v", "UPDATED 2 v", "ADDED 3", "DELETED 0"}
	if !slices.Equal(words, want) {
		t.Errorf("got %q, want %q", words, want)
	}
	if strings.Contains(r.stdout, "\x1b") || strings.Contains(r.stdout, `"v"`) {
		t.Errorf("colours or payloads that nobody asked for: %s", r.stdout)
	}
	if r := tail("--from", "end").want(t, 0); r.stdout != "" {
		t.Errorf("%+v", r)
	}
	all := lines[changeLine](t, tail("--from", "start", "--json", "--payload").want(t, 0).stdout)
	if len(all) != 7 || string(all[3].Payload) != `{"key":1,"v":"b"}` || all[3].Rev != 2 || string(all[6].Payload) != `{"key":0,"v":"a"}` {
		t.Errorf("%+v", all)
	}
	for n, c := range all {
		for _, from := range []string{c.Cursor, strconv.FormatInt(c.Offset+1, 10)} {
			rest := lines[changeLine](t, tail("--from", from, "--json").want(t, 0).stdout)
			if len(rest) != len(all)-n-1 || len(rest) > 0 && rest[0].CSN != all[n+1].CSN {
				t.Errorf("after %s: %d changes, want %d", from, len(rest), len(all)-n-1)
			}
		}
		// What tail calls a cursor, the API takes.
		if records, _ := page(t, i.http, url.Values{"cursor": {c.Cursor}}); n == 6 && len(records) != 0 {
			t.Errorf("%d records behind the last change", len(records))
		}
	}
	runs := lines[changeLine](t, tail("--from", "start", "--json", "--runs").want(t, 0).stdout)
	var controls []string
	for _, c := range runs {
		if c.ID == "" {
			controls = append(controls, c.Action)
		}
	}
	if !slices.Equal(controls, []string{"RUN_STARTED", "RUN_COMPLETED", "RUN_STARTED", "RUN_COMPLETED", "SWEPT"}) {
		t.Errorf("%v", controls)
	}
	for from, code := range map[string]int{"nonsense": 2, "-1": 2, "999999": 2, strings.Repeat("0", len(all[0].Cursor)): 2} {
		if r := tail("--from="+from, "--json"); r.code != code {
			t.Errorf("--from %s: %+v", from, r)
		}
	}
	other := tidemark(t, join([]string{"tail", "--connection", "acme", "--model", "Contact", "--no-wait", "--from", all[0].Cursor}, i.flags())...).want(t, 1)
	if !strings.Contains(other.stderr, "cursor.foreign") {
		t.Errorf("%+v", other)
	}
}

// topicState is a line of `topics --json`.
type topicState struct {
	Name        string           `json:"name"`
	Exists      bool             `json:"exists"`
	Partitions  int              `json:"partitions"`
	Replication int              `json:"replication"`
	Records     int              `json:"records"`
	Bytes       int              `json:"bytes"`
	Drift       []map[string]any `json:"drift"`
}

func TestTopicsAndDoctor(t *testing.T) {
	data := t.TempDir()
	i := up(t, data, "--partitions", "2")
	i.loadKeys(t, write(t, 0, 50, "a")).want(t, 0)
	flags := i.flags()
	topics := lines[topicState](t, tidemark(t, join([]string{"topics", "--json"}, flags)...).want(t, 0).stdout)
	if len(topics) != 4 || topics[0].Name != "tidemark.raw" || topics[0].Records != 52 || topics[0].Bytes <= 0 || topics[1].Partitions != 2 || len(topics[2].Drift) != 0 {
		t.Errorf("%+v", topics)
	}
	if r := tidemark(t, join([]string{"topics", "apply"}, flags)...).want(t, 0); !strings.Contains(r.stderr, "nothing to do") {
		t.Errorf("%+v", r)
	}
	if r := tidemark(t, join([]string{"topics", "--prefix", "other"}, flags)...).want(t, 1); !strings.Contains(r.stderr, "topics apply --kafka "+i.kafka[0]+" --prefix other --yes") {
		t.Errorf("%+v", r)
	}
	if r := tidemark(t, join([]string{"topics", "apply", "--prefix", "other"}, flags)...).want(t, 3); !strings.Contains(r.stderr, "create other.raw with 8 partitions") {
		t.Errorf("%+v", r)
	}
	tidemark(t, join([]string{"topics", "apply", "--prefix", "other", "--partitions", "3", "--yes"}, flags)...).want(t, 0)
	if topics := lines[topicState](t, tidemark(t, join([]string{"topics", "--prefix", "other", "--json"}, flags)...).want(t, 0).stdout); topics[3].Partitions != 3 {
		t.Errorf("%+v", topics)
	}

	type finding struct {
		Check  string `json:"check"`
		Status string `json:"status"`
		Detail string `json:"detail"`
		Hint   string `json:"hint"`
	}
	doctor := func(more ...string) (map[string]finding, result) {
		r := tidemark(t, join([]string{"doctor", "--json", "--data", data}, more)...)
		out := map[string]finding{}
		for _, f := range lines[finding](t, r.stdout) {
			out[f.Check] = f
		}
		return out, r
	}
	found, r := doctor(join(flags, []string{"--http", i.http})...)
	r.want(t, 0)
	for _, check := range []string{"broker", "topics", "server", "clock", "data", "disk", "files"} {
		if f := found[check]; f.Status == "" || f.Status == "fail" || f.Detail == "" {
			t.Errorf("%s: %+v", check, f)
		}
	}
	if !strings.Contains(found["data"].Detail, fmt.Sprintf("in use by process %d", os.Getpid())) {
		t.Errorf("%+v", found["data"])
	}
	i.stop(t)
	found, r = doctor(join(flags, []string{"--http", i.http})...)
	r.want(t, 4)
	if found["broker"].Status != "fail" || found["broker"].Hint == "" || found["server"].Status != "warn" || !strings.Contains(found["data"].Detail, "not in use") {
		t.Errorf("%+v", found)
	}
}

func TestUp_RefusesWhatItMustNotDo(t *testing.T) {
	for _, c := range []struct {
		args []string
		code int
		want string
	}{
		{[]string{"--http", "0.0.0.0:0"}, 1, "listen.not_loopback"},
		{[]string{"--kafka-listen", "0.0.0.0:0"}, 1, "wildcard"},
		{[]string{"--partitions", "-1"}, 2, "--partitions"},
	} {
		if i, r := tryUp(t, t.TempDir(), c.args...); i != nil || r.code != c.code || !strings.Contains(r.stderr, c.want) {
			t.Errorf("%v: %+v", c.args, r)
		}
	}
	data := t.TempDir()
	up(t, data, "--partitions", "2").stop(t)
	if i, r := tryUp(t, data, "--partitions", "3"); i != nil || !strings.Contains(r.stderr, "topic.drift") {
		t.Errorf("%+v", r)
	}
	up(t, data) // the count is that of the topics
}

// Members that a model ignores make no change.
func TestUp_Models(t *testing.T) {
	models := filepath.Join(t.TempDir(), "models.yaml")
	if err := os.WriteFile(models, []byte("models:\n  - model: Brand\n    ignore: [/v]\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	i := up(t, t.TempDir(), "--partitions", "2", "--models", models)
	i.loadKeys(t, write(t, 0, 5, "a")).want(t, 0)
	if got := lines[loaded](t, i.loadKeys(t, write(t, 0, 5, "b")).want(t, 0).stdout); got[0].Unchanged != 5 || got[0].Updated != 0 {
		t.Errorf("%+v", got)
	}
	if err := os.WriteFile(models, []byte("models:\n  - modle: Brand\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if i, r := tryUp(t, t.TempDir(), "--models", models); i != nil || r.code != 2 || !strings.Contains(r.stderr, "modle") {
		t.Errorf("%+v", r)
	}
}
