package e2e_test

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/tidemark-dev/tidemark/deploy/e2e/truth"
)

// loaded is an object of `load --json`: these members, and no others.
type loaded struct {
	File       string   `json:"file"`
	Added      int      `json:"added"`
	Updated    int      `json:"updated"`
	Deleted    int      `json:"deleted"`
	Unchanged  int      `json:"unchanged"`
	Held       int      `json:"held"`
	Duplicates []string `json:"duplicates"`
}

// expected is what loading a file must say, from the files alone.
func expected(path string, s truth.Step) loaded {
	return loaded{path, len(s.Added), len(s.Updated), len(s.Deleted), len(s.Unchanged), 0, s.Duplicates}
}

func (i *instance) load(t *testing.T, files ...string) []loaded {
	t.Helper()
	r := tidemark(t, i.command("load", join([]string{"--id", "title", "--json"}, files)...)...).want(t, 0)
	if r.stderr != "" {
		t.Errorf("load says on standard error: %s", r.stderr)
	}
	out := lines[loaded](t, r.stdout)
	if len(out) != len(files) {
		t.Fatalf("%d objects for %d files", len(out), len(files))
	}
	for line := range strings.Lines(r.stdout) {
		var members map[string]json.RawMessage
		if err := json.Unmarshal([]byte(line), &members); err != nil || len(members) != 7 {
			t.Errorf("want the seven members, got %s", line)
		}
	}
	return out
}

func sameLoad(a, b loaded) bool {
	return a.File == b.File && a.Added == b.Added && a.Updated == b.Updated && a.Deleted == b.Deleted && a.Unchanged == b.Unchanged &&
		a.Held == b.Held && slices.Equal(a.Duplicates, b.Duplicates) && a.Duplicates != nil
}

// live is what a client holds that has read everything.
func live(t *testing.T, records []record) map[string]string {
	t.Helper()
	held := map[string]string{}
	for _, r := range records {
		if r.action == "DELETED" {
			delete(held, r.id)
			continue
		}
		text, err := truth.Canonical(r.payload)
		if err != nil {
			t.Fatal(err)
		}
		held[r.id] = text
	}
	return held
}

// readUntil is a client that goes on from what it holds until it holds want. It returns all that it was given.
func readUntil(t *testing.T, base string, held []record, cursor, limit string, want map[string]string) []record {
	t.Helper()
	all := slices.Clone(held)
	eventually(t, func() error {
		if news := pages(t, base, cursor, limit); len(news) > 0 {
			all, cursor = append(all, news...), news[len(news)-1].cursor
		}
		if got := live(t, all); !maps.Equal(got, want) {
			return fmt.Errorf("the client holds %d records, want %d, or other payloads", len(got), len(want))
		}
		return nil
	})
	return all
}

// Nine years of a real collection, file by file: exactly the changes that a comparison of the files gives, and at the end exactly
// the last file; no change from loading it again, nor from another order of members.
func TestBrands_EveryFileGivesExactlyItsChanges(t *testing.T) {
	dir := truth.Brands(t)
	steps, err := truth.Load(dir)
	if err != nil {
		t.Fatal(err)
	}
	var files []string
	for _, s := range steps {
		files = append(files, filepath.Join(dir, s.File))
	}
	i := up(t, t.TempDir(), "--partitions", "2")
	for n, got := range i.load(t, files...) {
		if want := expected(files[n], steps[n]); !sameLoad(got, want) {
			t.Errorf("got  %+v\nwant %+v", got, want)
		}
	}
	last := steps[len(steps)-1]
	all := readUntil(t, i.http, nil, "", "500", last.Live)

	// A reader that reads the topic in order sees every change, and nothing else, in every file's run.
	checkTail(t, i, steps)

	// The same again, and the same with members in another order, as NDJSON.
	again := []string{files[len(files)-1], shuffled(t, files[len(files)-1])}
	for n, got := range i.load(t, again...) {
		want := expected(again[n], truth.Step{Duplicates: last.Duplicates})
		want.Unchanged = len(last.Live)
		if !sameLoad(got, want) {
			t.Errorf("got  %+v\nwant %+v", got, want)
		}
	}
	if news := pages(t, i.http, all[len(all)-1].cursor, "500"); len(news) != 0 {
		t.Errorf("%d records changed by loading what is there", len(news))
	}
	if r := i.stop(t); r.code != 0 || r.stderr != "" {
		t.Errorf("stopping: %+v", r)
	}
}

// checkTail compares what tail prints with the changes of every step, by run.
func checkTail(t *testing.T, i *instance, steps []truth.Step) {
	t.Helper()
	r := tidemark(t, i.command("tail", "--from", "start", "--no-wait", "--json")...).want(t, 0)
	changes := lines[changeLine](t, r.stdout)
	byRun := map[uint64]map[string][]string{} // run, action, ids
	var runs []uint64
	csn := uint64(0)
	for _, c := range changes {
		if c.CSN <= csn || c.Cursor == "" || c.Time.IsZero() || c.Rev == 0 || c.Payload != nil {
			t.Fatalf("%+v after csn %d", c, csn)
		}
		csn = c.CSN
		if byRun[c.Run] == nil {
			byRun[c.Run] = map[string][]string{}
			runs = append(runs, c.Run)
		}
		byRun[c.Run][c.Action] = append(byRun[c.Run][c.Action], c.ID)
		if c.Action == "UPDATED" {
			step := steps[len(runs)-1]
			slices.Sort(c.Changed)
			if !slices.Equal(c.Changed, step.Changed[c.ID]) {
				t.Errorf("%s: %q changed in %v, want %v", step.File, c.ID, c.Changed, step.Changed[c.ID])
			}
		}
	}
	if len(runs) != len(steps) {
		t.Fatalf("changes of %d runs, want %d", len(runs), len(steps))
	}
	for n, s := range steps {
		for action, want := range map[string][]string{"ADDED": s.Added, "UPDATED": s.Updated, "DELETED": s.Deleted} {
			got := byRun[runs[n]][action]
			slices.Sort(got)
			if !slices.Equal(got, want) {
				t.Errorf("%s: %s %v, want %v", s.File, action, got, want)
			}
		}
	}
}

// shuffled writes the records of a file as NDJSON with the members of every object in the opposite of their sorted order.
func shuffled(t *testing.T, file string) string {
	t.Helper()
	in, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	var r io.Reader = in
	if strings.HasSuffix(file, ".gz") {
		if r, err = gzip.NewReader(in); err != nil {
			t.Fatal(err)
		}
	}
	var records []any
	d := json.NewDecoder(r)
	d.UseNumber()
	if err := d.Decode(&records); err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	for _, rec := range records {
		writeBackwards(t, &out, rec)
		out.WriteByte('\n')
	}
	name := filepath.Join(t.TempDir(), "shuffled.ndjson")
	if err := os.WriteFile(name, out.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	return name
}

func writeBackwards(t *testing.T, out *bytes.Buffer, v any) {
	switch v := v.(type) {
	case map[string]any:
		names := slices.Sorted(maps.Keys(v))
		slices.Reverse(names)
		out.WriteByte('{')
		for i, name := range names {
			if i > 0 {
				out.WriteString(", ")
			}
			writeBackwards(t, out, name)
			out.WriteString(" : ")
			writeBackwards(t, out, v[name])
		}
		out.WriteByte('}')
	case []any:
		out.WriteByte('[')
		for i, e := range v {
			if i > 0 {
				out.WriteByte(',')
			}
			writeBackwards(t, out, e)
		}
		out.WriteByte(']')
	default:
		text, err := json.Marshal(v)
		if err != nil {
			t.Error(err)
		}
		out.Write(text)
	}
}

// A cursor that was handed out before a restart goes on behind it, and what is loaded between does not get lost.
func TestRestart_TheSameCursorGoesOn(t *testing.T) {
	dir := truth.Brands(t)
	steps, err := truth.Load(dir)
	if err != nil {
		t.Fatal(err)
	}
	data := t.TempDir()
	i := up(t, data, "--partitions", "2")
	i.load(t, filepath.Join(dir, steps[0].File), filepath.Join(dir, steps[1].File))
	first, next := page(t, i.http, url.Values{"limit": {"100"}})
	if len(first) != 100 || next != first[99].cursor {
		t.Fatalf("%d records, next %s", len(first), next)
	}
	if r := i.stop(t); r.code != 0 {
		t.Fatalf("%+v", r)
	}

	i = up(t, data)
	i.load(t, filepath.Join(dir, steps[2].File))
	readUntil(t, i.http, first, next, "333", steps[2].Live)
	// The cursor is a position of the topic, too: tail goes on exactly behind it.
	r := tidemark(t, i.command("tail", "--from", next, "--no-wait", "--json")...).want(t, 0)
	tailed := lines[changeLine](t, r.stdout)
	if len(tailed) == 0 || tailed[0].Cursor <= next {
		t.Errorf("tail goes on with %+v", tailed[:min(1, len(tailed))])
	}
	for _, rec := range first[:3] {
		r := tidemark(t, i.command("tail", "--from", rec.cursor, "--no-wait", "--json")...).want(t, 0)
		if c := lines[changeLine](t, r.stdout)[0]; c.Cursor <= rec.cursor || c.CSN == 0 {
			t.Errorf("behind %s comes %+v", rec.cursor, c)
		}
	}
}

func TestUp_OneProcessADirectory(t *testing.T) {
	data := t.TempDir()
	up(t, data)
	_, r := tryUp(t, data)
	if r.code != 1 || !strings.Contains(r.stderr, "data_dir.locked") || !strings.Contains(r.stderr, fmt.Sprintf("process %d", os.Getpid())) ||
		!strings.Contains(r.stderr, "hint") {
		t.Errorf("%+v", r)
	}
}
