package e2e_test

import (
	"strconv"
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/tidemark-dev/tidemark/schemas/cursor"
)

// trim removes the first changes of every partition below an offset, as retention does.
func (i *instance) trim(t *testing.T, before int64) {
	t.Helper()
	cl, err := kgo.NewClient(kgo.SeedBrokers(i.kafka...))
	if err != nil {
		t.Fatal(err)
	}
	defer cl.Close()
	adm := kadm.NewClient(cl)
	ends, err := adm.ListEndOffsets(t.Context(), "tidemark.changes")
	if err != nil {
		t.Fatal(err)
	}
	to := kadm.Offsets{}
	ends.Each(func(o kadm.ListedOffset) { to.AddOffset(o.Topic, o.Partition, min(before, o.Offset), -1) })
	if _, err := adm.DeleteRecords(t.Context(), to); err != nil {
		t.Fatal(err)
	}
}

// What retention has taken is said, never skipped; what is left can be read.
func TestTail_OfALogWhoseHeadIsGone(t *testing.T) {
	i := up(t, t.TempDir(), "--partitions", "1")
	i.loadKeys(t, write(t, 0, 20, "a")).want(t, 0)
	i.loadKeys(t, write(t, 0, 20, "b")).want(t, 0)
	i.loadKeys(t, write(t, 0, 20, "c")).want(t, 0)
	all := lines[changeLine](t, tidemark(t, i.command("tail", "--from", "start", "--no-wait", "--json")...).want(t, 0).stdout)
	if len(all) != 60 {
		t.Fatalf("%d changes", len(all))
	}
	// A cursor that stands behind rows that were examined and not returned knows no offset.
	examined := func(n int) string {
		c, err := cursor.Parse(all[n].Cursor)
		if err != nil {
			t.Fatal(err)
		}
		c.Offset = -1
		return c.String()
	}
	rest := lines[changeLine](t, tidemark(t, i.command("tail", "--from", examined(3), "--no-wait", "--json")...).want(t, 0).stdout)
	if len(rest) != 56 || rest[0].CSN != all[4].CSN {
		t.Errorf("%d changes behind the fourth of 60", len(rest))
	}
	i.wantLive(t, 20)
	i.trim(t, all[30].Offset)

	for _, from := range []string{all[3].Cursor, examined(3)} {
		r := tidemark(t, i.command("tail", "--from", from, "--no-wait", "--json")...).want(t, 1)
		if f := lines[fault](t, r.stderr)[0].Error; f.Code != "cursor.expired" || f.Hint == "" || r.stdout != "" {
			t.Errorf("%+v", r)
		}
	}
	r := tidemark(t, i.command("tail", "--from", strconv.FormatInt(all[3].Offset, 10), "--no-wait", "--json")...).want(t, 2)
	if !strings.Contains(r.stderr, "the partition has") {
		t.Errorf("%+v", r)
	}
	for _, from := range []string{all[45].Cursor, examined(45)} {
		rest := lines[changeLine](t, tidemark(t, i.command("tail", "--from", from, "--no-wait", "--json")...).want(t, 0).stdout)
		if len(rest) != 14 || rest[0].CSN != all[46].CSN {
			t.Errorf("%d changes behind the 46th of 60", len(rest))
		}
	}
	// Runs whose start is gone are still runs; the one whose end is gone is not.
	runs := i.runs(t, "runs")
	if len(runs) != 2 || runs[1].Status != "completed" || runs[1].Counts["updated"] != 20 || runs[0].StartedAt == "" {
		t.Errorf("%+v", runs)
	}
	// The API goes on from its own state.
	if records := pages(t, i.http, all[3].Cursor, "7"); len(records) != 20 {
		t.Errorf("%d records behind an old cursor, want 20", len(records))
	}
}
