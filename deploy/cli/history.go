package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/tidemark-dev/tidemark/projections/observe"
	"github.com/tidemark-dev/tidemark/schemas/stream"
)

type historyFlags struct {
	observeFlags
	limit  int
	before uint64
	asOf   string
}

func (a *app) historyCommand() *cobra.Command {
	var h historyFlags
	cmd := &cobra.Command{
		Use:   "history ID",
		Short: "Show what happened to a record",
		Long: "Show the versions of a record over the HTTP API, oldest first: when it changed, by which run, and what was changed, as long as\n" +
			"the changes topic holds its payloads. With --as-of the record as it was. It needs the projections of up.",
		Example: "  tidemark history Adobe --connection acme --model Brand\n" +
			"  tidemark history Adobe --connection acme --model Brand --as-of 2026-01-31T09:30:00Z\n" +
			"  tidemark history Adobe --connection acme --model Brand --as-of 90m --json | jq .record",
		Args: arguments(1, 1, "the id of one record"),
		RunE: func(cmd *cobra.Command, args []string) error { return a.history(cmd.Context(), &h, args[0]) },
	}
	h.register(cmd)
	h.stream.registerConnection(cmd)
	f := cmd.Flags()
	f.IntVar(&h.limit, "limit", 20, "versions to show, the newest; at most "+strconv.Itoa(observe.DeltasMax))
	f.Uint64Var(&h.before, "before", 0, "show versions below this `csn`")
	f.StringVar(&h.asOf, "as-of", "", "show the record at this RFC 3339 `time`, or as long ago as 90m or 12h")
	return cmd
}

// recordPath is the path of a record. Dots by themselves would be taken for folders by some who see it on its way.
func recordPath(id stream.ID, recordID, what string) string {
	path := "/v1/records"
	for _, part := range []string{id.Integration, id.Connection, id.Model, recordID} {
		escaped := string(stream.AppendEscaped(nil, part))
		if strings.Trim(escaped, ".") == "" {
			escaped = strings.ReplaceAll(escaped, ".", "%2E")
		}
		path += "/" + escaped
	}
	return path + "/" + what
}

func (a *app) history(ctx context.Context, h *historyFlags, recordID string) error {
	given := h.stream
	if given.environment == "" {
		given.environment = "dev" // any name: the server has one
	}
	id, err := given.id()
	if err != nil {
		return err
	}
	c, err := newAPIClient(h.http)
	if err != nil {
		return err
	}
	q := url.Values{"environment": {h.stream.environment}, "variant": {id.Variant}}
	if h.asOf != "" {
		return a.recordAsOf(ctx, c, h, id, recordID, q)
	}
	q.Set("diff", "true")
	q.Set("limit", strconv.Itoa(h.limit))
	if h.before > 0 {
		q.Set("before", strconv.FormatUint(h.before, 10))
	}
	var answer observe.History
	if err := c.ask(ctx, recordPath(id, recordID, "history"), q, &answer); err != nil {
		return err
	}
	slices.Reverse(answer.Versions)
	var gone *observe.Gone
	for i := range answer.Versions {
		v := &answer.Versions[i]
		if a.json {
			if err := a.printJSON(v); err != nil {
				return err
			}
			continue
		}
		a.printVersion(v)
		if v.Gone != nil {
			gone = v.Gone
		}
	}
	if a.json && !a.errTerminal {
		return nil
	}
	if gone != nil {
		fmt.Fprintf(a.err, "some payloads are gone: %s\n", gone.Hint)
	}
	switch n := len(answer.Versions); {
	case answer.More:
		fmt.Fprintf(a.err, "%s; there are older ones: --before %d\n", plural(n, "version", "versions"), answer.Versions[0].CSN)
	case n == 0:
		fmt.Fprintln(a.err, "no versions")
	case !answer.Complete:
		fmt.Fprintf(a.err, "%s; older ones were not kept\n", plural(n, "version", "versions"))
	default:
		fmt.Fprintf(a.err, "%s\n", plural(n, "version", "versions"))
	}
	return nil
}

// printVersion prints one version and what it changed.
func (a *app) printVersion(v *observe.Version) {
	line := clockTime(int64(v.At)) + "  " + a.action(strings.ToUpper(v.Action))
	if v.Revision > 0 {
		line += fmt.Sprintf("  revision %s  %s", count(v.Revision), formatBytes(int64(v.PayloadBytes)))
	} else {
		line += "  with all records of the stream"
	}
	if v.Run > 0 {
		line += fmt.Sprintf("  run %d", v.Run)
	}
	if v.Reverted {
		line += "  " + a.paint(dim, "back to what it was before")
	}
	fmt.Fprintf(a.out, "%s  %s\n", line, a.paint(dim, fmt.Sprintf("csn %d", v.CSN)))
	switch {
	case v.Delta != nil:
		for i := range v.Delta.Edits {
			a.printEdit(&v.Delta.Edits[i])
		}
		if v.Delta.Truncated {
			fmt.Fprintf(a.out, "    %s\n", a.paint(dim, "and more, which GET /v1/records/.../diff shows"))
		}
	case len(v.ChangedFields) > 0:
		names := make([]string, len(v.ChangedFields))
		for i, name := range v.ChangedFields {
			names[i] = printable(name, 60)
		}
		more := ""
		if n := int(v.ChangedCount) - len(names); n > 0 {
			more = fmt.Sprintf(" and %s more", count(n))
		}
		fmt.Fprintf(a.out, "  %s %s%s\n", a.paint(yellow, "~"), strings.Join(names, ", "), more)
	}
}

// printEdit prints a difference as lines of - and +.
func (a *app) printEdit(e *observe.Edit) {
	room := max(a.columns(), 80) - 8
	side := func(sign, color string, value json.RawMessage, size int) {
		text := fmt.Sprintf("(%s)", formatBytes(int64(size)))
		if value != nil {
			var line bytes.Buffer
			if err := json.Compact(&line, value); err == nil {
				text = line.String()
			}
		}
		fmt.Fprintf(a.out, "  %s\n", a.paint(color, printable(sign+" "+e.Path+": "+text, room)))
	}
	if e.Op != observe.EditAdded {
		side("-", red, e.Old, e.OldBytes)
	}
	if e.Op != observe.EditRemoved {
		side("+", green, e.New, e.NewBytes)
	}
}

// recordAsOf prints a record as it was.
func (a *app) recordAsOf(ctx context.Context, c *apiClient, h *historyFlags, id stream.ID, recordID string, q url.Values) error {
	at, err := moment(h.asOf, time.Now())
	if err != nil {
		return err
	}
	q.Set("at", at.UTC().Format(time.RFC3339Nano))
	var answer observe.AsOf
	if err := c.ask(ctx, recordPath(id, recordID, "as-of"), q, &answer); err != nil {
		return err
	}
	if a.json {
		return a.printJSON(answer)
	}
	v := answer.Version
	switch {
	case v == nil:
		fmt.Fprintln(a.err, "the record was not there yet")
	case !answer.Exists:
		fmt.Fprintf(a.err, "the record was not there: %s at %s\n", v.Action, clockTime(int64(v.At)))
	default:
		var line bytes.Buffer
		if err := json.Compact(&line, answer.Record); err != nil {
			return fmt.Errorf("reading the record of the answer: %w", err)
		}
		fmt.Fprintln(a.out, printable(line.String(), line.Len()))
		fmt.Fprintf(a.err, "so since %s: %s, revision %s\n", clockTime(int64(v.At)), v.Action, count(v.Revision))
	}
	return nil
}

// moment is a time, or a duration before now.
func moment(text string, now time.Time) (time.Time, error) {
	if t, err := time.Parse(time.RFC3339Nano, text); err == nil {
		return t, nil
	}
	d, err := time.ParseDuration(text)
	if err != nil || d < 0 {
		return time.Time{}, usagef("For example: --as-of 2026-01-31T09:30:00Z, or --as-of 90m for as long ago.", "--as-of is %q, which is no time", text)
	}
	return now.Add(-d), nil
}
