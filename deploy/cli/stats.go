package cli

import (
	"context"
	"fmt"
	"io"
	"maps"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/tidemark-dev/tidemark/api"
	"github.com/tidemark-dev/tidemark/projections/observe"
)

type statsFlags struct {
	observeFlags
	limit int
}

func (a *app) statsCommand() *cobra.Command {
	var s statsFlags
	cmd := &cobra.Command{
		Use:   "stats",
		Short: "Show what there is, what changes, and how fresh it is",
		Long: "Show an overview over the HTTP API: records and streams, changes of the last 24 hours, lag, runs, the most active streams, and\n" +
			"updates that may mean nothing with the rule that ignores them. It needs the projections of up.",
		Example: "  tidemark stats\n  tidemark stats --connection acme --limit 5\n  tidemark stats --json | jq .overview.records",
		Args:    arguments(0, 0, "nothing"),
		RunE:    func(cmd *cobra.Command, _ []string) error { return a.stats(cmd.Context(), &s) },
	}
	s.register(cmd)
	f := cmd.Flags()
	f.StringVar(&s.stream.integration, "integration", "", "only streams of this integration")
	f.StringVar(&s.stream.connection, "connection", "", "only streams of this connection")
	f.StringVar(&s.stream.model, "model", "", "only streams of this model")
	f.StringVar(&s.stream.variant, "variant", "", "only streams of this variant")
	f.IntVar(&s.limit, "limit", 20, "streams to list")
	return cmd
}

// statistics is the output with --json.
type statistics struct {
	Projections *api.Projections  `json:"projections,omitempty"` // if they are not up to date
	Overview    *observe.Overview `json:"overview"`
	Streams     *observe.Streams  `json:"streams"`
	Spurious    *observe.Spurious `json:"spurious"`
}

func (a *app) stats(ctx context.Context, s *statsFlags) error {
	c, err := newAPIClient(s.http)
	if err != nil {
		return err
	}
	var st statistics
	// What is behind is said even where nothing else can be.
	var p api.Projections
	if err := c.ask(ctx, "/v1/observability/projections", nil, &p); err == nil && p.State != "live" && p.State != "off" && p.State != "" {
		st.Projections = &p
	}
	limited := s.query()
	limited.Set("limit", strconv.Itoa(s.limit))
	for _, q := range []struct {
		path  string
		query url.Values
		into  any
	}{{"overview", s.query(), &st.Overview}, {"streams", limited, &st.Streams}, {"spurious", s.query(), &st.Spurious}} {
		if err := c.ask(ctx, "/v1/observability/"+q.path, q.query, q.into); err != nil {
			if st.Projections != nil && !a.json {
				a.printProjections(a.err, st.Projections)
			}
			return err
		}
	}
	if a.json {
		return a.printJSON(st)
	}
	if st.Projections != nil {
		a.printProjections(a.out, st.Projections)
	}
	a.printOverview(st.Overview)
	a.printStreams(st.Streams, st.Overview.At)
	a.printSpurious(st.Spurious)
	return nil
}

// printProjections says what keeps the projections, and how long that may last.
func (a *app) printProjections(w io.Writer, p *api.Projections) {
	text := strings.ReplaceAll(p.State, "_", " ")
	if p.Since != nil {
		text += " since " + p.Since.Local().Format("2006-01-02 15:04:05")
	}
	if p.Behind > 0 {
		text += "; " + plural(p.Behind, "record waits", "records wait") + " in the log"
	}
	if p.SecondsToLoss != nil {
		text += ", which keeps them for another " + brief(time.Duration(*p.SecondsToLoss)*time.Second)
	}
	if p.Reason != "" {
		text += ": " + printable(p.Reason, 200)
	}
	fmt.Fprintf(w, "projections  %s\n", a.paint(red, text))
}

func (a *app) printOverview(o *observe.Overview) {
	line := func(label, format string, args ...any) {
		fmt.Fprintf(a.out, "%-10s %s\n", label, strings.TrimRight(fmt.Sprintf(format, args...), " "))
	}
	line(printable(o.Streams.Environment, 60), "%s in %s of %s", plural(o.Records, "record", "records"), plural(o.StreamCount, "stream", "streams"),
		plural(o.Connections, "connection", "connections"))
	d := &o.LastDay
	line("changes", "%s in 24 h  %s", count(d.Changes), a.paint(green, sparkline(o.Hours)))
	line("", "%s added, %s updated, %s deleted, %s unchanged", count(d.Added), count(d.Updated), count(d.Deleted), count(d.Unchanged))
	if p := &o.LagMS; p.Count > 0 {
		line("lag", "half within %s, 95 %% within %s, 99 %% within %s", brief(milliseconds(p.P50)), brief(milliseconds(p.P95)), brief(milliseconds(p.P99)))
	}
	fresh := "no stream has synced yet"
	if p := &o.Freshness; p.Count > 0 {
		fresh = fmt.Sprintf("half synced within %s, 95 %% within %s", seconds(p.P50), seconds(p.P95))
		if o.Never > 0 {
			fresh += fmt.Sprintf("; %s never", count(o.Never))
		}
	}
	line("freshness", "%s", fresh)
	runs := fmt.Sprintf("%s ended in 24 h", count(d.Runs))
	if d.RunsFailed > 0 {
		runs += ", " + a.paint(red, count(d.RunsFailed)+" failed")
	}
	var states []string
	for _, status := range slices.Sorted(maps.Keys(o.RunStatus)) {
		if status != "none" {
			states = append(states, fmt.Sprintf("%s %s", count(o.RunStatus[status]), status))
		}
	}
	if len(states) > 0 {
		runs += "; streams by their last run: " + strings.Join(states, ", ")
	}
	line("runs", "%s", runs)
	p := &o.Projections
	state := "up to date"
	if p.LagRecords > 0 {
		state = plural(p.LagRecords, "record", "records") + " behind"
		if p.LagMS > 0 {
			state += ", the oldest for " + brief(milliseconds(float64(p.LagMS)))
		}
		if p.SecondsToLoss != nil {
			state += a.paint(red, fmt.Sprintf("; %s to data loss", seconds(float64(*p.SecondsToLoss))))
		}
	}
	if p.AuditMismatches > 0 {
		state += a.paint(red, fmt.Sprintf("; the audit finds %s", plural(p.AuditMismatches, "mismatch", "mismatches")))
	}
	line("counted", "%s", state)
}

func seconds(s float64) string { return brief(time.Duration(s * float64(time.Second))) }

func (a *app) printStreams(s *observe.Streams, now observe.Time) {
	if len(s.Streams) == 0 {
		fmt.Fprintln(a.err, "no streams")
		return
	}
	fmt.Fprintln(a.out)
	t := table{head: []string{"stream", "records", "changes", "24 h", "last run", "took", "synced"}}
	for i := range s.Streams {
		x := &s.Streams[i]
		run, took := "", ""
		if r := x.LastRun; r != nil {
			run = r.Status
			if r.DurationMS != nil {
				took = brief(milliseconds(float64(*r.DurationMS)))
			}
			if x.Failures > 1 {
				run += " (" + count(x.Failures) + " in a row)"
			}
		}
		t.row(shortStream(x.ID), count(x.Records), count(x.ChangesDay), sparkline(x.Hours), run, took, ago(now, x.LastSuccess))
	}
	const drawn = 3
	if most := a.columns(); most > 0 && t.wide() > most { // the drawing goes first, numbers are worth more
		t.drop(drawn)
	}
	t.print(a.out)
	if s.More {
		fmt.Fprintf(a.err, "%s of %s: --limit shows more\n", count(len(s.Streams)), plural(s.Total, "stream", "streams"))
	}
}

// wide is the length of the longest line.
func (t *table) wide() (n int) {
	for i := range t.head {
		most := 0
		for _, row := range append(t.rows, t.head) {
			most = max(most, len([]rune(row[i])))
		}
		n += most + 2
	}
	return n - 2
}

// drop removes a column.
func (t *table) drop(column int) {
	t.head = slices.Delete(slices.Clone(t.head), column, column+1)
	for i := range t.rows {
		t.rows[i] = slices.Delete(t.rows[i], column, column+1)
	}
}

func (a *app) printSpurious(s *observe.Spurious) {
	if len(s.Findings) == 0 {
		return
	}
	fmt.Fprintf(a.out, "\nupdates that may mean nothing, in 24 h\n")
	for _, f := range s.Findings {
		fmt.Fprintf(a.out, "  %s: %s\n", shortStream(f.ID), printable(f.Finding, 200))
	}
	fmt.Fprintf(a.out, "to ignore such fields, put this into a file and start with tidemark up --models FILE\n\n")
	for line := range strings.Lines(s.Models) {
		fmt.Fprintf(a.out, "  %s\n", a.paint(dim, printable(strings.TrimRight(line, "\n"), 1000)))
	}
}
