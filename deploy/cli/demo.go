package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/tidemark-dev/tidemark/deploy/demo"
	"github.com/tidemark-dev/tidemark/deploy/stack"
	"github.com/tidemark-dev/tidemark/ingest/bulk"
	"github.com/tidemark-dev/tidemark/schemas/event"
	"github.com/tidemark-dev/tidemark/schemas/stream"
)

// The demo's stream, beside environment and integration, which are the defaults.
const (
	demoConnection = "acme"
	demoModel      = "Brand"
)

// demoState is the demo's checkpoint: what any sync function would keep to know where to go on.
type demoState struct {
	Snapshot string `json:"snapshot"` // the last one that was loaded completely
}

// demoLinesMax bounds the lines shown of each action in each snapshot.
const demoLinesMax = 8

// demo loads the bundled snapshots one after the other, as load does, and shows the changes as they arrive. A checkpoint behind each
// run says how far it got: a snapshot is loaded again only if the process ended between the two, and then nothing in it changes.
func (a *app) demo(ctx context.Context, s *stack.Stack, id stream.ID) error {
	st, err := s.Stream(id)
	if err != nil {
		return err
	}
	var done demoState
	if st != nil && st.Checkpoint != nil {
		if err := json.Unmarshal(st.Checkpoint, &done); err != nil {
			return fmt.Errorf("reading the demo's checkpoint: %w", err)
		}
	}
	var left []demo.Snapshot
	for _, snap := range demo.Snapshots() {
		if snap.Name > done.Snapshot { // the names are dates
			left = append(left, snap)
		}
	}
	if err := a.sayDemo(done, len(left)); err != nil || len(left) == 0 {
		return err
	}
	at := s.Endpoints()
	conn := &connection{config: at.Kafka, names: at.Topics}
	if err := conn.open(ctx, a.log, at.Lineage, at.Partitions); err != nil {
		return err
	}
	defer conn.close()
	p, err := conn.producer(ctx, a.log)
	if err != nil {
		return err
	}
	ld := &loader{
		producer: p, changes: conn.changes, stream: id, options: bulk.Options{IDField: "title"}, sync: "demo", wait: time.Minute,
	}
	err = a.loadDemo(ctx, ld, left)
	closeCtx, cancel := context.WithTimeout(context.WithoutCancel(ctx), failWait)
	defer cancel()
	return errors.Join(err, p.Close(closeCtx))
}

func (a *app) sayDemo(done demoState, left int) error {
	var text string
	switch {
	case left == 0:
		text = "demo: everything is loaded already, up to " + done.Snapshot + "; nothing is loaded again"
	case done.Snapshot != "":
		text = "demo: going on after " + done.Snapshot
	default:
		text = "demo: loading " + plural(left, "snapshot", "snapshots") + " of a real collection of brands, each a full copy"
	}
	if a.json {
		return a.printJSON(upEvent{Event: "demo", Detail: text})
	}
	_, err := fmt.Fprintln(a.out, text)
	return err
}

func (a *app) loadDemo(ctx context.Context, ld *loader, snapshots []demo.Snapshot) error {
	for _, snap := range snapshots {
		if !a.json {
			fmt.Fprintf(a.out, "\n%s\n", snap.Name)
		}
		lines := demoLines{app: a, seen: map[event.Op]int{}}
		ld.onChange = lines.show
		r, err := ld.load(ctx, snap.Name, snap.Open, a.newProgress(snap.Name))
		if err != nil {
			return err
		}
		if err := errors.Join(lines.err, lines.end(r)); err != nil {
			return err
		}
		if err := ld.producer.Stream(ld.stream).Checkpoint(ctx, demoState{Snapshot: snap.Name}); err != nil {
			return err
		}
	}
	return nil
}

// demoLines shows the first changes of each action of a snapshot, and how many there were.
type demoLines struct {
	app  *app
	seen map[event.Op]int
	err  error
}

func (d *demoLines) show(c *change) {
	d.seen[c.Op]++
	if d.err != nil || !d.app.json && d.seen[c.Op] > demoLinesMax {
		return
	}
	line, err := c.line("")
	if err == nil {
		if d.app.json {
			err = d.app.printJSON(upEvent{Event: "change", Change: line})
		} else {
			err = d.app.printChange(line, nil)
		}
	}
	d.err = err
}

func (d *demoLines) end(r *loadResult) error {
	if d.app.json {
		return d.app.printJSON(upEvent{Event: "loaded", Loaded: r})
	}
	for _, op := range []event.Op{event.OpAdded, event.OpUpdated, event.OpDeleted} {
		if more := d.seen[op] - demoLinesMax; more > 0 {
			fmt.Fprintf(d.app.out, "%s\n", d.app.paint(dim, fmt.Sprintf("  … and %s more %s", count(more), op)))
		}
	}
	_, err := fmt.Fprintf(d.app.out, "%s: %s added, %s updated, %s deleted, %s unchanged\n", r.File, count(r.Added), count(r.Updated), count(r.Deleted), count(r.Unchanged))
	printDuplicates(d.app.out, r)
	return err
}
