package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/tidemark-dev/tidemark/deploy/kafka"
	"github.com/tidemark-dev/tidemark/ingest"
	"github.com/tidemark-dev/tidemark/schemas/cursor"
	"github.com/tidemark-dev/tidemark/schemas/errcode"
	"github.com/tidemark-dev/tidemark/schemas/event"
	"github.com/tidemark-dev/tidemark/schemas/rulev"
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
	changes    *changesReader
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
	c := &connection{config: cfg, names: names}
	return c, c.open(ctx, a.log, kafka.Lineage(admin.Cluster(), k.prefix), n)
}

// open makes the reader of a cluster that is known.
func (c *connection) open(_ context.Context, log *slog.Logger, lineage string, partitions int32) error {
	opts, err := c.config.Connection()
	if err != nil {
		return err
	}
	c.options, c.lineage, c.partitions = opts, lineage, partitions
	c.changes = &changesReader{conn: c, log: log}
	return nil
}

func (c *connection) close() {}

// partition is where a stream lives.
func (c *connection) partition(id stream.ID) int32 { return stream.Partition(id.Key(), c.partitions) }

func (c *connection) producer(ctx context.Context, log *slog.Logger) (*ingest.Producer, error) {
	return ingest.NewProducer(ctx, ingest.Config{Seeds: c.config.Seeds, Client: c.options, Names: c.names, Logger: log})
}

// change is one valid record of the changes topic: of a record, or a control record.
type change struct {
	Op        event.Op
	Meta      event.Meta
	Partition int32
	Offset    int64
	Stream    string // key; "" for records about a partition
	ID        string // of the record; "" for control records
	Value     []byte
}

// changesReader reads the changes topic under rule V.
type changesReader struct {
	conn *connection
	log  *slog.Logger
}

// read hands the valid records of a partition from an offset on to fn, in order. It ends with ctx, with the first error of fn, or, if
// untilEnd is set, at what was the end when it began. errStopReading ends it without an error.
func (r *changesReader) read(ctx context.Context, partition int32, from int64, untilEnd bool, fn func(*change) error) error {
	topicName := r.conn.names.Changes
	start, end, err := r.bounds(ctx, partition)
	if err != nil {
		return err
	}
	if untilEnd && start == end {
		return nil
	}
	opts := append([]kgo.Opt{
		kgo.SeedBrokers(r.conn.config.Seeds...), kgo.ClientID("tidemark-cli"), kgo.DisableClientMetrics(),
		kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{topicName: {partition: kgo.NewOffset().At(start)}}),
		kgo.FetchIsolationLevel(kgo.ReadCommitted()), kgo.FetchMaxWait(fetchWait), kgo.KeepControlRecords(),
	}, r.conn.options...)
	cl, err := kgo.NewClient(opts...)
	if err != nil {
		return fmt.Errorf("making a kafka client: %w", err)
	}
	defer cl.Close()
	rule := rulev.NewReader[*change](rulev.Start())
	if start > 0 {
		rule = rulev.NewReaderFromHistory[*change](nil)
	}
	for {
		fetches := cl.PollFetches(ctx)
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if err := fetches.Err(); err != nil {
			return fmt.Errorf("reading the changes topic: %w", err)
		}
		next := int64(-1)
		for it := fetches.RecordIter(); !it.Done(); {
			rec := it.Next()
			next = rec.Offset + 1
			if rec.Attrs.IsControl() {
				continue
			}
			c, err := decodeChange(rec)
			if err != nil {
				return err
			}
			verdict, group, err := rule.Read(c.Op, &c.Meta, c)
			if err != nil {
				return fmt.Errorf("reading the changes topic: %w", err)
			}
			if verdict != rulev.Committed {
				continue
			}
			for _, g := range group {
				if g.Offset < from {
					continue
				}
				if err := fn(g); errors.Is(err, errStopReading) {
					return nil
				} else if err != nil {
					return err
				}
			}
		}
		if untilEnd && next >= end {
			return nil
		}
	}
}

func decodeChange(rec *kgo.Record) (*change, error) {
	headers := make([]event.Header, len(rec.Headers))
	for i, h := range rec.Headers {
		headers[i] = event.Header{Key: []byte(h.Key), Value: h.Value}
	}
	c := &change{Partition: rec.Partition, Offset: rec.Offset, Value: rec.Value}
	var err error
	if c.Op, err = event.ParseRecord(headers, &c.Meta); err != nil {
		return nil, fmt.Errorf("reading offset %d of %s/%d: %w", rec.Offset, rec.Topic, rec.Partition, err)
	}
	if c.Meta.Record {
		c.Stream, c.ID, err = stream.SplitRecordKey(string(rec.Key))
	} else if _, perr := stream.ParseKey(string(rec.Key)); perr == nil {
		c.Stream = string(rec.Key)
	}
	if err != nil {
		return nil, fmt.Errorf("reading offset %d of %s/%d: %w", rec.Offset, rec.Topic, rec.Partition, err)
	}
	return c, nil
}

var errStopReading = errors.New("stop reading")

// fetchWait is how long the broker may hold a fetch that finds nothing.
const fetchWait = 100_000_000

func (r *changesReader) bounds(ctx context.Context, partition int32) (start, end int64, err error) {
	admin, err := kafka.Dial(ctx, r.conn.config, r.log)
	if err != nil {
		return 0, 0, err
	}
	defer admin.Close()
	return admin.Bounds(ctx, r.conn.names.Changes, partition)
}

// end is where the changes of a stream's partition end now.
func (r *changesReader) end(ctx context.Context, id stream.ID) (int64, error) {
	_, end, err := r.bounds(ctx, r.conn.partition(id))
	return end, err
}

// runEnd is what became of a run.
type runEnd struct {
	*event.Control        // RUN_COMPLETED or RUN_FAILED
	Deleted        uint64 // by deletion detection, once it is done
}

// awaitRun waits until everything of a run is done: for its end, and for its deletions unless they are held. onChange, if not nil,
// is called for each change of a record of the stream since from.
func (r *changesReader) awaitRun(ctx context.Context, id stream.ID, from int64, sequence uint64, onChange func(*change)) (*runEnd, error) {
	key := id.Key()
	var end *runEnd
	err := r.read(ctx, r.conn.partition(id), from, false, func(c *change) error {
		if c.Stream != key {
			return nil
		}
		if c.Op.IsChange() {
			if onChange != nil {
				onChange(c)
			}
			return nil
		}
		if c.Meta.Run != sequence {
			return nil
		}
		switch c.Op {
		case event.OpRunCompleted, event.OpRunFailed:
			control, err := event.ParseControl(c.Value)
			if err != nil {
				return err
			}
			end = &runEnd{Control: control}
			if control.Outcome == event.OutcomeSweeping {
				return nil
			}
		case event.OpSwept:
			control, err := event.ParseControl(c.Value)
			if err != nil {
				return err
			}
			end.Deleted = control.Records
		default:
			return nil
		}
		return errStopReading
	})
	return end, err
}

// awaitReleased waits for the decision on a held run, from an offset on.
func (r *changesReader) awaitReleased(ctx context.Context, id stream.ID, from int64, run uint64) (*event.Control, error) {
	key := id.Key()
	var released *event.Control
	err := r.read(ctx, r.conn.partition(id), from, false, func(c *change) error {
		if c.Stream != key || c.Meta.Run != run || c.Op != event.OpReleased {
			return nil
		}
		var err error
		if released, err = event.ParseControl(c.Value); err != nil {
			return err
		}
		return errStopReading
	})
	return released, err
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
