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
	"github.com/tidemark-dev/tidemark/projections/follow"
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
	done, err := readDemoState(s, id)
	if err != nil {
		return err
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
	conn, err := newConnection(at.Kafka, at.Topics, at.Partitions, at.Lineage, a.log)
	if err != nil {
		return err
	}
	p, err := conn.producer(ctx)
	if err != nil {
		return err
	}
	ld := &loader{
		conn: conn, producer: p, stream: id, options: bulk.Options{IDField: "title"}, sync: "demo", wait: time.Minute,
	}
	err = a.loadDemo(ctx, s, ld, left)
	closeCtx, cancel := context.WithTimeout(context.WithoutCancel(ctx), closeWait)
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

func (a *app) loadDemo(ctx context.Context, s *stack.Stack, ld *loader, snapshots []demo.Snapshot) error {
	for _, snap := range snapshots {
		if !a.json {
			fmt.Fprintf(a.out, "\n%s\n", snap.Name)
		}
		r, err := ld.load(ctx, snap.Name, snap.Open, a.newProgress(snap.Name))
		if err != nil {
			return err
		}
		lines := demoLines{app: a, result: r, stream: ld.stream.Key(), seen: map[event.Op]int{}}
		if err := ld.conn.read(ctx, []follow.Position{r.from}, lines.show); err != nil {
			return err
		}
		if err := lines.end(); err != nil {
			return err
		}
		if err := ld.producer.Stream(ld.stream).Checkpoint(ctx, demoState{Snapshot: snap.Name}); err != nil {
			return err
		}
		if err := awaitDemoState(ctx, s, ld.stream, snap.Name); err != nil {
			return err
		}
	}
	if a.json {
		return a.printJSON(upEvent{Event: "demo", Detail: "demo: done"})
	}
	_, err := fmt.Fprintln(a.out, "\ndemo: done, and everything goes on running: try the lines above")
	return err
}

// readDemoState reads the demo's checkpoint.
func readDemoState(s *stack.Stack, id stream.ID) (done demoState, err error) {
	st, err := s.Stream(id)
	if err != nil || st == nil || st.Checkpoint == nil {
		return done, err
	}
	if err := json.Unmarshal(st.Checkpoint, &done); err != nil {
		return done, fmt.Errorf("reading the demo's checkpoint: %w", err)
	}
	return done, nil
}

const (
	checkpointPoll = 5 * time.Millisecond
	checkpointWait = time.Minute
)

// awaitDemoState waits until the checkpoint is in the state: from then on a start of any kind finds it.
func awaitDemoState(ctx context.Context, s *stack.Stack, id stream.ID, snapshot string) error {
	ctx, cancel := context.WithTimeout(ctx, checkpointWait)
	defer cancel()
	tick := time.NewTicker(checkpointPoll)
	defer tick.Stop()
	for {
		if done, err := readDemoState(s, id); err != nil || done.Snapshot == snapshot {
			return err
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return fmt.Errorf("waiting for the demo's checkpoint: %w", context.Cause(ctx))
		}
	}
}

// demoLines shows the first changes of each action of a snapshot, and how many there were.
type demoLines struct {
	app    *app
	result *loadResult
	stream string
	seen   map[event.Op]int
}

// show takes the next record of the partition; errEnough after the last of the run.
func (d *demoLines) show(c *change) error {
	if c.Stream == d.stream && c.Op.IsChange() {
		if err := d.showChange(c); err != nil {
			return err
		}
	}
	if c.Meta.CSN >= d.result.lastCSN {
		return errEnough
	}
	return nil
}

func (d *demoLines) showChange(c *change) error {
	if d.seen[c.Op]++; d.seen[c.Op] > demoLinesMax && !d.app.json {
		return nil
	}
	line, err := c.line("")
	if err != nil {
		return err
	}
	if d.app.json {
		return d.app.printJSON(upEvent{Event: "change", Change: line})
	}
	return d.app.printChange(line, nil)
}

func (d *demoLines) end() error {
	r := d.result
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
