package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/tidemark-dev/tidemark/deploy/kafka"
	"github.com/tidemark-dev/tidemark/ingest"
	"github.com/tidemark-dev/tidemark/projections/follow"
	"github.com/tidemark-dev/tidemark/schemas/cursor"
	"github.com/tidemark-dev/tidemark/schemas/errcode"
	"github.com/tidemark-dev/tidemark/schemas/event"
	"github.com/tidemark-dev/tidemark/schemas/stream"
	"github.com/tidemark-dev/tidemark/schemas/topic"
)

// connection is what commands need of the cluster.
type connection struct {
	config     kafka.Config
	names      topic.Names
	options    []kgo.Opt
	partitions int32
	lineage    string
	log        *slog.Logger
}

// connect finds the cluster and the topics.
func (a *app) connect(ctx context.Context, k *kafkaFlags) (*connection, error) {
	cfg, err := a.kafkaConfig(k)
	if err != nil {
		return nil, err
	}
	names, err := k.names()
	if err != nil {
		return nil, err
	}
	admin, err := kafka.Dial(ctx, cfg, a.log)
	if err != nil {
		return nil, err
	}
	defer admin.Close()
	n, err := admin.Partitions(ctx, names)
	if err != nil {
		return nil, err
	}
	if n == 0 {
		return nil, errcode.New(errcode.TopicDrift, "There are no topics with prefix %q: tidemark up makes them.", k.prefix)
	}
	return newConnection(cfg, names, n, kafka.Lineage(admin.Cluster(), k.prefix), a.log)
}

func newConnection(cfg kafka.Config, names topic.Names, partitions int32, lineage string, log *slog.Logger) (*connection, error) {
	opts, err := cfg.Connection()
	if err != nil {
		return nil, err
	}
	return &connection{cfg, names, opts, partitions, lineage, log}, nil
}

// partition is where a stream lives.
func (c *connection) partition(id stream.ID) int32 { return stream.Partition(id.Key(), c.partitions) }

func (c *connection) producer(ctx context.Context) (*ingest.Producer, error) {
	return ingest.NewProducer(ctx, ingest.Config{Seeds: c.config.Seeds, Client: c.options, Names: c.names, Logger: c.log})
}

// startWait bounds the first contact of a follower; the cluster has answered by then.
const startWait = 10 * time.Second

func (c *connection) follow() follow.Config {
	return follow.Config{Seeds: c.config.Seeds, Client: c.options, Names: c.names, StartWait: startWait, Logger: c.log}
}

// bounds returns the first offset of a partition of the changes and the one behind the last.
func (c *connection) bounds(ctx context.Context, partition int32) (start, end int64, err error) {
	admin, err := kafka.Dial(ctx, c.config, c.log)
	if err != nil {
		return 0, 0, err
	}
	defer admin.Close()
	return admin.Bounds(ctx, c.names.Changes, partition)
}

// change is one valid record of the changes topic: of a record, or a control record.
type change struct {
	follow.Record
	Partition int32
	Stream    string // key; "" for records about a partition
	ID        string // of the record; "" for control records
}

func newChange(partition int32, r *follow.Record) (*change, error) {
	c := &change{Record: *r, Partition: partition}
	var err error
	if r.Meta.Record {
		c.Stream, c.ID, err = stream.SplitRecordKey(string(r.Key))
	} else if r.Meta.SID != 0 {
		c.Stream = string(r.Key)
	}
	if err != nil {
		return nil, fmt.Errorf("reading offset %d of partition %d: %w", r.Offset, partition, err)
	}
	return c, nil
}

// errEnough ends read without an error.
var errEnough = errors.New("enough")

// read hands valid records from positions on to fn, those of a partition in order, until fn returns errEnough or ctx ends, whose cause
// is returned.
func (c *connection) read(ctx context.Context, from []follow.Position, fn func(*change) error) error {
	cfg := c.follow()
	cfg.Positions = from
	f, err := follow.New(cfg)
	if err != nil {
		return err
	}
	return c.run(ctx, f, fn)
}

func (c *connection) run(ctx context.Context, f *follow.Follower, fn func(*change) error) error {
	enough := false
	err := f.Run(ctx, func(g follow.Group) error {
		for i := range g.Records {
			ch, err := newChange(g.Partition, &g.Records[i])
			if err != nil {
				return err
			}
			if err := fn(ch); errors.Is(err, errEnough) {
				enough = true
				return follow.ErrStop
			} else if err != nil {
				return err
			}
		}
		return nil
	})
	if err == nil && !enough {
		return context.Cause(ctx)
	}
	return err
}

const (
	endPoll = 10 * time.Millisecond
	// endIdle is how long a reader that is not at the end may stand still.
	endIdle = 15 * time.Second
)

var errAtEnd = errors.New("everything is read")

// readToEnd is read up to what is the end when it begins.
func (c *connection) readToEnd(ctx context.Context, from []follow.Position, fn func(*change) error) error {
	ends := map[int32]int64{}
	for _, p := range from {
		var err error
		if _, ends[p.Partition], err = c.bounds(ctx, p.Partition); err != nil {
			return err
		}
	}
	cfg := c.follow()
	cfg.Positions = from
	f, err := follow.New(cfg)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	watched := make(chan struct{})
	go func() {
		defer close(watched)
		watchEnd(ctx, f, ends, cancel)
	}()
	err = c.run(ctx, f, fn)
	cancel(nil)
	<-watched
	if errors.Is(err, errAtEnd) {
		return nil
	}
	return err
}

// watchEnd cancels with errAtEnd when the follower has passed all ends. The end may lie behind leftovers of a writer, of which no
// group tells: so it is the positions that are watched.
func watchEnd(ctx context.Context, f *follow.Follower, ends map[int32]int64, cancel context.CancelCauseFunc) {
	tick := time.NewTicker(endPoll)
	defer tick.Stop()
	var last []follow.Position
	moved := time.Now()
	for {
		positions := f.Positions()
		behind := slices.IndexFunc(positions, func(p follow.Position) bool { return p.Offset < ends[p.Partition] })
		switch {
		case behind < 0:
			cancel(errAtEnd)
			return
		case !slices.Equal(positions, last):
			last, moved = positions, time.Now()
		case time.Since(moved) > endIdle:
			p := positions[behind]
			cancel(fmt.Errorf("reading partition %d of the changes stands still at offset %d, the end is %d", p.Partition, p.Offset, ends[p.Partition]))
			return
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

// awaitDecision waits until the decision on a held run is taken and, if it lets deletions happen, until they are done. from is before
// the decision was written.
func (c *connection) awaitDecision(ctx context.Context, id stream.ID, from follow.Position, run uint64) (*decision, error) {
	key := id.Key()
	var d *decision
	err := c.read(ctx, []follow.Position{from}, func(c *change) error {
		if c.Stream != key || c.Meta.Run != run || c.Op != event.OpReleased && c.Op != event.OpSwept {
			return nil
		}
		control, err := event.ParseControl(c.Value)
		if err != nil {
			return err
		}
		if c.Op == event.OpSwept && d != nil {
			d.Deleted = control.Records
			return errEnough
		}
		if c.Op == event.OpReleased {
			d = &decision{Run: run, Decision: control.Decision, By: control.By, ToDelete: control.ToDelete}
			if control.Decision == event.DecisionDiscard || control.ToDelete == 0 {
				return errEnough
			}
		}
		return nil
	})
	return d, err
}

// changeLine is a change as tail prints it, for programs.
type changeLine struct {
	Time    string          `json:"time"`
	Action  string          `json:"action"` // ADDED, UPDATED, DELETED, or the name of a control record
	ID      string          `json:"id,omitempty"`
	Changed []string        `json:"changed,omitempty"` // top-level members; absent: not known
	Rev     uint64          `json:"rev,omitempty"`
	CSN     uint64          `json:"csn"`
	Offset  int64           `json:"offset"`
	Cursor  string          `json:"cursor,omitempty"`
	Run     uint64          `json:"run,omitempty"`
	Detail  string          `json:"detail,omitempty"`
	Payload json.RawMessage `json:"payload,omitempty"`

	timeMS int64
}

// line makes the line of a change. With a lineage it has the cursor behind it.
func (c *change) line(lineage string) (*changeLine, error) {
	l := &changeLine{
		Time: jsonTime(c.Meta.TS), timeMS: c.Meta.TS, Action: c.Op.String(), ID: c.ID, CSN: c.Meta.CSN, Offset: c.Offset, Run: c.Meta.Run,
	}
	if lineage != "" {
		l.Cursor = cursor.Cursor{
			CSN: c.Meta.CSN, Offset: c.Offset, Partition: c.Partition, Term: uint32(c.Meta.Term), Tag: cursor.TagOf(c.Stream, lineage),
		}.String()
	}
	if !c.Op.IsChange() {
		control, err := event.ParseControl(c.Value)
		if err != nil {
			return nil, err
		}
		l.Detail = controlDetail(control)
		return l, nil
	}
	l.Rev = c.Meta.Rev
	if c.Op == event.OpUpdated {
		var e struct {
			Changed []string `json:"changed"`
		}
		if err := json.Unmarshal(c.Value, &e); err != nil {
			return nil, fmt.Errorf("reading the change at offset %d: %w", c.Offset, err)
		}
		l.Changed = e.Changed
	}
	return l, nil
}

// controlDetail is what a control record says, in words.
func controlDetail(c *event.Control) string {
	switch c.Op {
	case event.OpRunCompleted:
		return fmt.Sprintf("%s: %d added, %d updated, %d unchanged, %d to delete", c.Outcome, c.Counts.Added, c.Counts.Updated, c.Counts.Unchanged, c.ToDelete)
	case event.OpRunFailed:
		return fmt.Sprintf("%s: %s %s", c.Outcome, c.Reason, c.Detail)
	case event.OpReleased:
		return fmt.Sprintf("%s by %s: %d to delete", c.Decision, c.By, c.ToDelete)
	case event.OpSwept:
		return plural(c.Records, "record", "records") + " deleted"
	case event.OpCleared, event.OpPurged:
		return plural(c.Records, "record", "records") + " gone"
	case event.OpDeadLettered:
		return c.RecordID + " " + c.Reason + " " + c.Detail
	}
	return ""
}
