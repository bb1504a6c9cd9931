package cli

import (
	"context"
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/tidemark-dev/tidemark/projections/follow"
	"github.com/tidemark-dev/tidemark/schemas/cursor"
	"github.com/tidemark-dev/tidemark/schemas/errcode"
	"github.com/tidemark-dev/tidemark/schemas/event"
	"github.com/tidemark-dev/tidemark/schemas/stream"
)

type tailFlags struct {
	kafka   kafkaFlags
	stream  streamFlags
	from    string
	payload bool
	runs    bool
	noWait  bool
}

func (a *app) tailCommand() *cobra.Command {
	var t tailFlags
	cmd := &cobra.Command{
		Use:   "tail",
		Short: "Follow the changes of a stream",
		Long: "Print the changes of a stream as they happen, one line each: time, action, id, changed members. It reads the changes\n" +
			"topic, and counts only what really happened: groups that a writer did not finish are left out. Payloads are not shown\n" +
			"unless --payload asks for them.",
		Example: "  tidemark tail --connection acme --model Brand\n" +
			"  tidemark tail --connection acme --model Brand --from start --no-wait --json\n" +
			"  tidemark tail --connection acme --model Brand --from 04000…",
		Args: arguments(0, 0, "nothing"),
		RunE: func(cmd *cobra.Command, _ []string) error { return a.tail(cmd.Context(), &t) },
	}
	t.kafka.registerClient(cmd)
	t.stream.register(cmd)
	f := cmd.Flags()
	f.StringVar(&t.from, "from", "end", "where to begin: start, end, a cursor, or an offset of the stream's partition")
	f.BoolVar(&t.payload, "payload", false, "show payloads too")
	f.BoolVar(&t.runs, "runs", false, "show the beginnings and ends of runs too")
	f.BoolVar(&t.noWait, "no-wait", false, "end when there is nothing left to read")
	return cmd
}

func (a *app) tail(ctx context.Context, t *tailFlags) error {
	id, err := t.stream.id()
	if err != nil {
		return err
	}
	conn, err := a.connect(ctx, &t.kafka)
	if err != nil {
		return err
	}
	at, err := conn.place(ctx, id, t.from)
	if err != nil {
		return err
	}
	read := conn.read
	if t.noWait {
		read = conn.readToEnd
	}
	key := id.Key()
	first := true
	err = read(ctx, []follow.Position{at.from}, func(c *change) error {
		// csns of a partition are dense: a gap behind the cursor is what retention has taken.
		if first && at.csn > 0 && c.Meta.CSN > at.csn+1 {
			return errcode.New(errcode.CursorExpired, "The log begins at change %d, the cursor is at %d.", c.Meta.CSN, at.csn)
		}
		first = false
		if c.Stream != key || c.Meta.CSN <= at.csn || c.Offset < at.offset || !t.shows(c.Op) {
			return nil
		}
		line, err := c.line(conn.lineage)
		if err != nil {
			return err
		}
		payload, err := c.Payload()
		if err != nil {
			return fmt.Errorf("reading the change at offset %d: %w", c.Offset, err)
		}
		if !t.payload {
			payload = nil
		}
		if a.json {
			line.Payload = payload
			return a.printJSON(line)
		}
		return a.printChange(line, payload)
	})
	if ctx.Err() != nil { // that is how a tail ends
		return nil
	}
	return err
}

// shows says which records are printed: changes of records, what makes all records of the stream go away, and more if asked.
func (t *tailFlags) shows(op event.Op) bool {
	switch op {
	case event.OpCleared, event.OpPurged:
		return true
	case event.OpRunStarted, event.OpRunCompleted, event.OpRunFailed, event.OpSwept, event.OpReleased, event.OpDeadLettered, event.OpPruned:
		return t.runs
	}
	return op.IsChange()
}

// place is where a tail begins: at a position, and in the group there behind a csn and at an offset.
type place struct {
	from   follow.Position
	csn    uint64
	offset int64
}

// place turns --from into a place.
func (c *connection) place(ctx context.Context, id stream.ID, from string) (place, error) {
	partition := c.partition(id)
	switch from {
	case "start":
		return place{from: follow.AtStart(partition)}, nil
	case "end":
		return place{from: follow.AtEnd(partition)}, nil
	}
	start, end, err := c.bounds(ctx, partition)
	if err != nil {
		return place{}, err
	}
	if n, err := strconv.ParseInt(from, 10, 64); err == nil && len(from) != cursor.TextLength {
		if n < start || n > end {
			return place{}, usagef("", "--from is offset %d, and the partition has %d to %d", n, start, end)
		}
		return place{from: follow.AtOffset(partition, n), offset: n}, nil
	}
	cur, err := cursor.ParseFor(from, cursor.TagOf(id.Key(), c.lineage))
	switch {
	case errors.Is(err, cursor.ErrForeign):
		return place{}, &errcode.Error{Code: errcode.CursorForeign}
	case err != nil:
		return place{}, usagef("--from is start, end, a cursor or an offset.", "--from: %v", err)
	case cur.CSN > math.MaxInt64, cur.Offset >= end:
		return place{}, errcode.New(errcode.CursorAhead, "It names change %d at offset %d, and the log ends at %d.", cur.CSN, cur.Offset, end)
	case cur.Offset < 0:
		// It stands behind rows that were only examined, so its csn decides.
		return place{from: follow.AtStart(partition), csn: cur.CSN}, nil
	}
	return place{from: follow.AtCursor(cur), csn: cur.CSN}, nil
}

// changedShown bounds the members listed in a line.
const changedShown = 8

// printChange prints a change for a person.
func (a *app) printChange(l *changeLine, payload []byte) error {
	at := time.UnixMilli(l.timeMS).Format("15:04:05.000")
	rest := ""
	switch {
	case l.ID == "":
		rest = l.Detail
	case l.Changed != nil:
		shown := make([]string, 0, changedShown)
		for _, name := range l.Changed[:min(len(l.Changed), changedShown)] {
			shown = append(shown, printable(name, 40))
		}
		if len(l.Changed) > changedShown {
			shown = append(shown, "…")
		}
		rest = a.paint(dim, strings.Join(shown, ", "))
	}
	line := fmt.Sprintf("%s  %s  %s", a.paint(dim, at), a.action(l.Action), printable(l.ID, 80))
	if l.ID == "" {
		line = fmt.Sprintf("%s  %s", a.paint(dim, at), a.action(l.Action))
	}
	if rest != "" {
		line += "  " + rest
	}
	if payload != nil {
		line += "  " + printable(string(payload), len(payload))
	}
	_, err := fmt.Fprintln(a.out, line)
	return err
}
