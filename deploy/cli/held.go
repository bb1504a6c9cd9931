package cli

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os/user"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/tidemark-dev/tidemark/ingest"
	"github.com/tidemark-dev/tidemark/projections/follow"
	"github.com/tidemark-dev/tidemark/schemas/errcode"
	"github.com/tidemark-dev/tidemark/schemas/event"
)

func (a *app) heldCommand() *cobra.Command {
	return group("held", "Decide about deletions that are held",
		"A run whose deletions look like a mistake keeps them back until a person decides: they are listed here, and approved or\n"+
			"discarded. A newer complete run of the stream discards them by itself.",
		a.heldListCommand(),
		a.heldDecideCommand("approve", "Let held deletions happen", ingest.Approve),
		a.heldDecideCommand("discard", "Drop held deletions; the records stay", ingest.Discard))
}

func (a *app) heldListCommand() *cobra.Command {
	var r runsFlags
	cmd := &cobra.Command{
		Use: "list", Short: "List runs whose deletions are held", Args: arguments(0, 0, "nothing"),
		Example: "  tidemark held list\n  tidemark held list --connection acme --json",
		RunE: func(cmd *cobra.Command, _ []string) error {
			runs, err := a.heldRuns(cmd.Context(), &r)
			if err != nil {
				return err
			}
			return a.printHeld(runs)
		},
	}
	r.kafka.registerClient(cmd)
	r.stream.register(cmd)
	return cmd
}

func (a *app) heldRuns(ctx context.Context, r *runsFlags) ([]*runInfo, error) {
	runs, err := a.readRuns(ctx, r)
	if err != nil {
		return nil, err
	}
	return slices.DeleteFunc(runs, func(r *runInfo) bool { return r.Status != string(event.OutcomeHeld) }), nil
}

func (a *app) printHeld(runs []*runInfo) error {
	t := table{head: []string{"run", "stream", "ended", "to delete", "why"}}
	for _, r := range runs {
		if a.json {
			if err := a.printJSON(r); err != nil {
				return err
			}
			continue
		}
		t.row(strconv.FormatUint(r.Run, 10), r.Stream.Key(), clockTime(r.endedMS), count(r.ToDelete), printable(r.Reason+": "+r.Detail, 160))
	}
	if a.json {
		return nil
	}
	if len(runs) == 0 {
		fmt.Fprintln(a.err, "no deletions are held")
		return nil
	}
	t.print(a.out)
	return nil
}

type decideFlags struct {
	runs    runsFlags
	yes     bool
	by      string
	timeout time.Duration
}

func (a *app) heldDecideCommand(use, short string, verdict ingest.Verdict) *cobra.Command {
	var d decideFlags
	cmd := &cobra.Command{
		Use:   use + " RUN",
		Short: short,
		Long:  short + ", and wait until the processor has taken the decision and done what follows from it.",
		Example: fmt.Sprintf("  tidemark held list\n  tidemark held %s --connection acme --model Brand 1795212422000000 --yes",
			use),
		Args: arguments(1, 1, "one RUN, from held list"),
		RunE: func(cmd *cobra.Command, args []string) error { return a.decide(cmd.Context(), &d, args[0], verdict) },
	}
	d.runs.kafka.registerClient(cmd)
	d.runs.stream.register(cmd)
	f := cmd.Flags()
	f.BoolVar(&d.yes, "yes", false, "do not ask")
	f.StringVar(&d.by, "by", "", "who decides, for the record (default: the user of this system)")
	f.DurationVar(&d.timeout, "timeout", time.Minute, "how long to wait for the processor")
	return cmd
}

// decision is what `held approve` and `held discard` print with --json.
type decision struct {
	Run      uint64 `json:"run"`
	Decision string `json:"decision"`
	By       string `json:"by"`
	ToDelete uint64 `json:"to_delete"` // still missing when it was decided
	Deleted  uint64 `json:"deleted"`
}

func (a *app) decide(ctx context.Context, d *decideFlags, text string, verdict ingest.Verdict) (err error) {
	run, err := strconv.ParseUint(text, 10, 64)
	if err != nil || run == 0 {
		return usagef("tidemark held list shows the runs.", "%q is not the number of a run", text)
	}
	held, err := a.heldRuns(ctx, &d.runs)
	if err != nil {
		return err
	}
	held = slices.DeleteFunc(held, func(r *runInfo) bool { return r.Run != run })
	switch {
	case len(held) == 0:
		return errcode.New(errcode.UnknownHeldRun, "Run %d.", run)
	case len(held) > 1:
		return usagef("Name it with --connection and --model.", "%d streams have a held run %d", len(held), run)
	}
	if err := a.confirm(d, held[0], verdict); err != nil {
		return err
	}
	conn, err := a.connect(ctx, &d.runs.kafka)
	if err != nil {
		return err
	}
	id := held[0].Stream
	from, err := follow.StreamEnd(ctx, conn.follow(), id)
	if err != nil {
		return err
	}
	p, err := conn.producer(ctx)
	if err != nil {
		return err
	}
	defer func() {
		closeCtx, cancel := context.WithTimeout(context.WithoutCancel(ctx), closeWait)
		defer cancel()
		err = errors.Join(err, p.Close(closeCtx))
	}()
	by := d.by
	if by == "" {
		by = "cli"
		if u, err := user.Current(); err == nil && u.Username != "" {
			by = u.Username
		}
	}
	if err := p.Stream(id).Decide(ctx, run, verdict, by); err != nil {
		return err
	}
	wait, cancel := context.WithTimeout(ctx, d.timeout)
	defer cancel()
	done, err := conn.awaitDecision(wait, id, from, run)
	if errors.Is(err, context.DeadlineExceeded) {
		return errcode.New(errcode.RunTimeout, "The decision on run %d was written, but not carried out within %s.", run, d.timeout)
	}
	if err != nil {
		return err
	}
	return a.printDecision(done)
}

func (a *app) printDecision(d *decision) error {
	if a.json {
		return a.printJSON(d)
	}
	text := fmt.Sprintf("run %d: discarded, nothing is deleted", d.Run)
	if d.Decision == event.DecisionApprove {
		text = fmt.Sprintf("run %d: approved, %s", d.Run, plural(d.Deleted, "record is deleted", "records are deleted"))
	}
	_, err := fmt.Fprintln(a.out, text)
	return err
}

// confirm asks, unless --yes says that it was asked already.
func (a *app) confirm(d *decideFlags, r *runInfo, verdict ingest.Verdict) error {
	if d.yes {
		return nil
	}
	what := "drops the deletion of"
	if verdict == ingest.Approve {
		what = "deletes"
	}
	plan := fmt.Sprintf("This %s %s of %s (run %d: %s)", what, plural(r.ToDelete, "record", "records"), r.Stream.Key(), r.Run, printable(r.Detail, 160))
	if !a.inTerminal || !a.errTerminal {
		return &commandError{exit: exitPerson, code: codeConfirm, message: plan, hint: "Add --yes to do it."}
	}
	fmt.Fprintf(a.err, "%s. Go on? [y/N] ", plan)
	answer, err := bufio.NewReader(a.in).ReadString('\n')
	if s := strings.ToLower(strings.TrimSpace(answer)); err == nil && (s == "y" || s == "yes") {
		return nil
	}
	return &commandError{exit: exitPerson, code: codeConfirm, message: "nothing was decided"}
}
