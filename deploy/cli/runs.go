package cli

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"github.com/tidemark-dev/tidemark/projections/follow"
	"github.com/tidemark-dev/tidemark/schemas/event"
	"github.com/tidemark-dev/tidemark/schemas/stream"
)

type runsFlags struct {
	kafka  kafkaFlags
	stream streamFlags
	limit  int
}

func (a *app) runsCommand() *cobra.Command {
	var r runsFlags
	cmd := &cobra.Command{
		Use:   "runs",
		Short: "List the runs of streams",
		Long: "List the runs that the changes topic tells of, newest last: of one stream, or of all that match when --connection or\n" +
			"--model is left out.",
		Example: "  tidemark runs --connection acme --model Brand\n  tidemark runs --json | jq 'select(.status == \"failed\")'",
		Args:    arguments(0, 0, "nothing"),
		RunE: func(cmd *cobra.Command, _ []string) error {
			runs, err := a.readRuns(cmd.Context(), &r)
			if err != nil {
				return err
			}
			return a.printRuns(runs[max(0, len(runs)-r.limit):])
		},
	}
	r.kafka.registerClient(cmd)
	r.stream.register(cmd)
	cmd.Flags().IntVar(&r.limit, "limit", 100, "list at most this many, the newest")
	return cmd
}

// runInfo is a run as the log tells it.
type runInfo struct {
	Run       uint64           `json:"run"`
	Stream    stream.ID        `json:"stream"`
	Sync      string           `json:"sync,omitempty"`
	Status    string           `json:"status"` // running, completed, sweeping, held, discarded, failed, interrupted
	StartedAt string           `json:"started_at"`
	EndedAt   string           `json:"ended_at,omitempty"`
	Counts    *event.RunCounts `json:"counts,omitempty"`
	ToDelete  uint64           `json:"to_delete"` // found missing
	Deleted   uint64           `json:"deleted"`   // found missing, and deleted
	Reason    string           `json:"reason,omitempty"`
	Detail    string           `json:"detail,omitempty"`
	DecidedBy string           `json:"decided_by,omitempty"`

	startedMS, endedMS int64
}

// Statuses beside the outcomes of package event.
const (
	runRunning   = "running"
	runDiscarded = "discarded"
)

// readRuns reads the runs of all streams that match, in the order of their starts.
func (a *app) readRuns(ctx context.Context, r *runsFlags) ([]*runInfo, error) {
	conn, err := a.connect(ctx, &r.kafka)
	if err != nil {
		return nil, err
	}
	filter := r.stream.filter()
	var from []follow.Position
	if filter.Validate() == nil {
		from = []follow.Position{follow.AtStart(conn.partition(filter))}
	} else {
		for p := range conn.partitions {
			from = append(from, follow.AtStart(p))
		}
	}
	found := runHistory{filter: filter, byKey: map[runKey]*runInfo{}}
	if err := conn.readToEnd(ctx, from, found.add); err != nil {
		return nil, err
	}
	runs := found.runs
	slices.SortStableFunc(runs, func(x, y *runInfo) int { return int(min(1, max(-1, x.startedMS-y.startedMS))) })
	return runs, nil
}

type runKey struct {
	stream string
	run    uint64
}

// runHistory follows the runs of streams.
type runHistory struct {
	filter stream.ID
	byKey  map[runKey]*runInfo
	runs   []*runInfo
}

func (h *runHistory) add(c *change) error {
	switch c.Op {
	case event.OpRunStarted, event.OpRunCompleted, event.OpRunFailed, event.OpSwept, event.OpReleased:
	default:
		return nil
	}
	control, err := event.ParseControl(c.Value)
	if err != nil {
		return err
	}
	if control.Stream == nil || !matches(h.filter, *control.Stream) {
		return nil
	}
	key := runKey{c.Stream, c.Meta.Run}
	run := h.byKey[key]
	if run == nil {
		// Its start may have been trimmed, or it is a soft clear, which is no run.
		if c.Op == event.OpSwept {
			return nil
		}
		run = &runInfo{Run: c.Meta.Run, Stream: *control.Stream, startedMS: control.StartedMS}
		h.byKey[key] = run
		h.runs = append(h.runs, run)
	}
	run.apply(c, control)
	return nil
}

func (r *runInfo) apply(c *change, control *event.Control) {
	ended := func() { r.endedMS, r.EndedAt = c.Meta.TS, jsonTime(c.Meta.TS) }
	switch c.Op {
	case event.OpRunStarted:
		r.Status, r.Sync, r.startedMS = runRunning, control.Sync, c.Meta.TS
	case event.OpRunCompleted:
		r.Status, r.Counts, r.ToDelete = string(control.Outcome), control.Counts, control.ToDelete
		r.Reason, r.Detail = control.Reason, control.Detail
		ended()
	case event.OpRunFailed:
		r.Status, r.Counts, r.Reason, r.Detail = string(control.Outcome), control.Counts, control.Reason, control.Detail
		ended()
	case event.OpReleased:
		r.Status, r.ToDelete, r.DecidedBy = string(event.OutcomeSweeping), control.ToDelete, control.By
		switch {
		case control.Decision == event.DecisionDiscard:
			r.Status = runDiscarded
		case control.ToDelete == 0:
			r.Status = string(event.OutcomeCompleted)
		}
	case event.OpSwept:
		r.Status, r.Deleted = string(event.OutcomeCompleted), control.Records
	}
	r.StartedAt = jsonTime(r.startedMS)
}

// matches reports whether an id has every part that filter gives.
func matches(filter, id stream.ID) bool {
	match := func(want, have string) bool { return want == "" || want == have }
	return match(filter.Environment, id.Environment) && match(filter.Integration, id.Integration) &&
		match(filter.Connection, id.Connection) && match(filter.Model, id.Model) && match(filter.Variant, id.Variant)
}

func (a *app) printRuns(runs []*runInfo) error {
	t := table{head: []string{"started", "run", "stream", "status", "took", "added", "updated", "deleted", "unchanged", "why"}}
	for _, r := range runs {
		if a.json {
			if err := a.printJSON(r); err != nil {
				return err
			}
			continue
		}
		took, counts := "", &event.RunCounts{}
		if r.endedMS > 0 && r.startedMS > 0 {
			took = (time.Duration(r.endedMS-r.startedMS) * time.Millisecond).String()
		}
		if r.Counts != nil {
			counts = r.Counts
		}
		why := printable(r.Reason, 40)
		if r.Detail != "" {
			why += ": " + printable(r.Detail, 120)
		}
		t.row(clockTime(r.startedMS), strconv.FormatUint(r.Run, 10), r.Stream.Key(), r.Status, took,
			count(counts.Added), count(counts.Updated), count(counts.Deleted+r.Deleted), count(counts.Unchanged), why)
	}
	if a.json {
		return nil
	}
	if len(runs) == 0 {
		fmt.Fprintln(a.err, "no runs")
		return nil
	}
	t.print(a.out)
	return nil
}
