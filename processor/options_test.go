package processor

import (
	"fmt"
	"testing"

	"github.com/tidemark-dev/tidemark/processor/decide"
	"github.com/tidemark-dev/tidemark/schemas/event"
	"github.com/tidemark-dev/tidemark/schemas/stream"
)

// ignoring sets the members that make no change.
func ignoring(pointers ...string) func(*Config) {
	return func(c *Config) {
		c.Decide.Model = func(stream.ID) decide.Model { return decide.Model{Ignore: pointers} }
	}
}

// options returns the options that the log names for a stream.
func (r *rig) options(p *Processor, id stream.ID) (ignored []string, csn uint64) {
	r.t.Helper()
	s, _, err := p.Stream(id)
	if err != nil || s == nil {
		r.t.Fatalf("%v, %v", s, err)
	}
	return s.Ignored, s.OptionsCSN
}

// TestOptions_ChangeTheMeaningNotTheRecords: what is ignored changes with a restart. Records that are the same under the new options come
// without an event, again and again, also from a node that has the options from the state topic alone; those that differ come with one.
// Of a pruned record nothing is left to compare, so that it comes once.
func TestOptions_ChangeTheMeaningNotTheRecords(t *testing.T) {
	r := newRig(t)
	dir := t.TempDir()
	id := stream.ID{Environment: "dev", Integration: "crm", Connection: "acme", Model: "Contact"}
	p, stop := startProcessor(t, r.c.ListenAddrs(), dir, r.config)
	waitReady(t, p)
	for _, rec := range []string{"a", "b", "c", "d", "e"} {
		r.save(id, rec, `{"v":1,"seen":1}`)
	}
	r.processed(p)
	if ignored, csn := r.options(p, id); ignored != nil || csn != 0 {
		t.Fatalf("the defaults are named: %q since csn %d", ignored, csn)
	}
	stop()

	p, stop = startProcessor(t, r.c.ListenAddrs(), dir, r.config, ignoring("/seen"))
	waitReady(t, p)
	for n := range 3 {
		r.save(id, "a", fmt.Sprintf(`{"v":1,"seen":%d}`, n+2))
	}
	r.save(id, "b", `{"v":2,"seen":1}`)
	r.processed(p)
	pg := r.page(p, id)
	if row := pg["a"]; row.op != event.OpAdded || row.csn != 1 {
		t.Fatalf("nothing that counts has changed: %+v", row)
	}
	if row := pg["b"]; row.op != event.OpUpdated {
		t.Fatalf("a change was lost: %+v", row)
	}
	ignored, since := r.options(p, id)
	if fmt.Sprint(ignored) != "[/seen]" || since != 6 {
		t.Fatalf("options %q since csn %d", ignored, since)
	}

	// Everything so far is pruned, and the topics begin later: the next node has the options from the state topic.
	stop() // which writes the payloads
	p, stop = startProcessor(t, r.c.ListenAddrs(), dir, r.config, ignoring("/seen"))
	waitReady(t, p)
	r.jump(31 * day)
	young := id
	young.Model = "Young"
	r.save(young, "y", `{}`)
	r.eventually("the payloads are pruned", func() bool { return r.page(p, id)["b"].pruned })
	r.eventually("the changes topic is trimmed", func() bool { return r.c.PartitionInfo(r.names.Changes, 0).LogStartOffset > 5 })
	r.processed(p)
	stop()
	p, stop = startProcessor(t, r.c.ListenAddrs(), t.TempDir(), r.config, ignoring("/seen"))
	waitReady(t, p)
	r.save(id, "b", `{"v":2,"seen":9}`) // hashed under the options of now: its payload is not needed to know that it is the same
	r.save(id, "c", `{"v":1,"seen":1}`) // the same bytes mean the same under any options
	r.save(id, "d", `{"v":1,"seen":9}`) // hashed under others, and pruned
	r.processed(p)
	pg = r.page(p, id)
	if _, csn := r.options(p, id); csn != since {
		t.Fatalf("options that did not change are named again, at csn %d", csn)
	}
	if b, c, d := pg["b"], pg["c"], pg["d"]; b.pruned || b.csn != since+1 || c.pruned || c.csn != 3 || d.op != event.OpUpdated || d.payload != `{"v":1,"seen":9}` {
		t.Fatalf("%+v %+v %+v", b, c, d)
	}
	d := pg["d"]
	r.save(id, "d", `{"v":1,"seen":10}`)
	r.save(id, "c", `{"v":1,"seen":11}`) // its payload is back, and can be compared
	r.processed(p)
	if pg = r.page(p, id); pg["d"] != d || pg["c"].csn != 3 {
		t.Fatalf("%+v %+v", pg["d"], pg["c"])
	}
	stop()

	// Back to the defaults: what is stored is what counts, and a member that differs from it is a change even if the hash is the same.
	p, _ = startProcessor(t, r.c.ListenAddrs(), t.TempDir(), r.config)
	waitReady(t, p)
	r.save(id, "d", `{"v":1}`) // the canonical text that d was hashed by
	r.save(id, "b", `{"seen":9,"v":2}`)
	r.processed(p)
	if row := r.page(p, id)["d"]; row.csn == d.csn || row.payload != `{"v":1}` {
		t.Fatalf("a member that counts again is gone, and nobody was told: %+v", row)
	}
	if row := r.page(p, id)["b"]; row.csn != since+1 {
		t.Fatalf("the stored payload in another order is a change: %+v", row)
	}
	if ignored, csn := r.options(p, id); ignored != nil || csn <= since {
		t.Fatalf("options %q since csn %d", ignored, csn)
	}
	if err := p.Check(); err != nil {
		t.Fatal(err)
	}
}
