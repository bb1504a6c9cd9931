package cli

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"github.com/tidemark-dev/tidemark/deploy/devclickhouse"
	"github.com/tidemark-dev/tidemark/deploy/stack"
	"github.com/tidemark-dev/tidemark/projections/fold"
	"github.com/tidemark-dev/tidemark/projections/project"
	"github.com/tidemark-dev/tidemark/projections/warehouse"
	"github.com/tidemark-dev/tidemark/schemas/stream"
)

// maintainFlags say where the projections are.
type maintainFlags struct {
	data string
	view projectionFlags
}

func (m *maintainFlags) register(cmd *cobra.Command) {
	m.view.cfg = stack.DefaultProjectionsConfig()
	f := cmd.Flags()
	f.StringVar(&m.data, "data", stack.DataDirDefault, "data `directory` of the running stack")
	f.StringVar(&m.view.cfg.DSN, "clickhouse", "", "`DSN` of the ClickHouse server, if it is not embedded; its password in "+clickhousePasswordEnv)
	f.StringVar(&m.view.cfg.Database, "clickhouse-database", m.view.cfg.Database, "database of the projections")
}

func (a *app) warehouse(m *maintainFlags) (*warehouse.Warehouse, stack.ProjectionsConfig, error) {
	cfg, err := m.view.config(a.env)
	if err != nil {
		return nil, cfg, err
	}
	w, err := stack.OpenWarehouse(m.data, cfg)
	if errors.Is(err, devclickhouse.ErrNone) {
		return nil, cfg, usagef("Start it with `up`, or say where with --data or --clickhouse.", "there is no embedded ClickHouse in %s", m.data)
	}
	return w, cfg, err
}

// onWarehouse makes a command of one that works on the tables.
func (a *app) onWarehouse(cmd *cobra.Command, do func(ctx context.Context, w *warehouse.Warehouse, args []string) error) *cobra.Command {
	var m maintainFlags
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		w, _, err := a.warehouse(&m)
		if err != nil {
			return err
		}
		defer w.Close()
		return do(cmd.Context(), w, args)
	}
	m.register(cmd)
	return cmd
}

func (a *app) projectionsCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "projections",
		Short: "Look after the tables in ClickHouse",
		RunE:  groupRun,
		Args:  cobra.ArbitraryArgs,
	}
	cmd.AddCommand(a.projectionsStatusCommand(), a.projectionsAuditCommand(), a.projectionsRebuildCommand(), a.projectionsSwitchCommand(),
		a.projectionsDropCommand(), a.projectionsEraseCommand(), a.projectionsPlanCommand())
	return cmd
}

type generationLine struct {
	Generation int    `json:"generation"`
	Serving    bool   `json:"serving"`
	Partitions int    `json:"partitions"`
	CSNs       uint64 `json:"csns"`
	Newest     string `json:"newest,omitempty"`
}

func (a *app) projectionsStatusCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "status", Example: "  tidemark projections status\n  tidemark projections status --json", Short: "List the generations of tables, and how far each is", Args: arguments(0, 0, "nothing")}
	return a.onWarehouse(cmd, func(ctx context.Context, w *warehouse.Warehouse, _ []string) error {
		serving, err := w.ViewsGeneration(ctx)
		if err != nil {
			return err
		}
		all, err := w.Generations(ctx)
		if err != nil {
			return err
		}
		t := table{head: []string{"GENERATION", "SERVING", "PARTITIONS", "CSNS", "NEWEST"}}
		for _, g := range all {
			progress, err := w.LoadProgress(ctx, g)
			if err != nil {
				return err
			}
			line := generationLine{Generation: g, Serving: g == serving, Partitions: len(progress)}
			var newest time.Time
			for _, p := range progress {
				line.CSNs += p.Newest.ToCSN
				if p.Newest.At.After(newest) {
					newest = p.Newest.At
				}
			}
			if !newest.IsZero() {
				line.Newest = newest.Format(time.RFC3339Nano)
			}
			if a.json {
				if err := a.printJSON(line); err != nil {
					return err
				}
				continue
			}
			shown := ""
			if line.Serving {
				shown = "yes"
			}
			t.row(strconv.Itoa(g), shown, strconv.Itoa(line.Partitions), count(line.CSNs), line.Newest)
		}
		if !a.json {
			t.print(a.out)
		}
		return nil
	})
}

func (a *app) projectionsAuditCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:     "audit",
		Example: "  tidemark projections audit",
		Short:   "Compare all sums with the facts behind them",
		Long:    "Compare, window by window, the sums per minute, hour and day with the facts. A running stack does so by itself, and heals what it finds.",
		Args:    arguments(0, 0, "nothing"),
	}
	return a.onWarehouse(cmd, func(ctx context.Context, w *warehouse.Warehouse, _ []string) error {
		serving, err := w.ViewsGeneration(ctx)
		if err != nil {
			return err
		}
		report, err := w.Audit(ctx, serving, warehouse.AuditRange{Window: 1 << fold.WindowBitsDefault})
		if err != nil {
			return err
		}
		if a.json {
			err = a.printJSON(map[string]uint64{"windows": report.Windows, "mismatched": report.Mismatched})
		} else {
			_, err = fmt.Fprintf(a.out, "%s compared, %s differ\n", plural(report.Windows, "window", "windows"), count(report.Mismatched))
		}
		if err == nil && report.Mismatched > 0 {
			first := report.Mismatches[0]
			return &commandError{
				exit: exitFailure, code: "projections.mismatch", hint: "A running stack writes them again from the log within ten minutes; `tidemark projections rebuild` does it at once.",
				message: fmt.Sprintf("sums differ from their facts, first in partition %d, window %d", first.Partition, first.Window),
			}
		}
		return err
	})
}

func (a *app) projectionsRebuildCommand() *cobra.Command {
	var m maintainFlags
	var k kafkaFlags
	var force bool
	cmd := &cobra.Command{
		Use:     "rebuild",
		Example: "  tidemark projections rebuild\n  tidemark projections rebuild --data /var/lib/tidemark --kafka 127.0.0.1:9321",
		Short:   "Build all tables anew out of the log, beside those that serve",
		Long: "Fill a new generation of tables out of the changes topic, take over what is older than that, compare both, and let the views read\n" +
			"the new one. The old one serves until then, and stays, for `projections switch`, until it is dropped.",
		Args: arguments(0, 0, "nothing"),
		RunE: func(cmd *cobra.Command, _ []string) error { return a.rebuild(cmd.Context(), &m, &k, force) },
	}
	m.register(cmd)
	k.registerClient(cmd)
	cmd.Flags().BoolVar(&force, "force", false, "switch although the generations differ")
	return cmd
}

func (a *app) rebuild(ctx context.Context, m *maintainFlags, k *kafkaFlags, force bool) error {
	at, err := a.kafkaConfig(k)
	if err != nil {
		return err
	}
	names, err := k.names()
	if err != nil {
		return err
	}
	w, cfg, err := a.warehouse(m)
	if err != nil {
		return err
	}
	defer w.Close()
	shown := a.newProgress("rebuilding")
	report, err := stack.RebuildProjections(ctx, w, m.data, cfg, at, names, force, func(s project.RebuildStep) {
		what := s.Step
		if s.Behind > 0 {
			what += ", " + plural(s.Behind, "record", "records") + " left"
		}
		shown.wait(what)
	})
	shown.end()
	if err != nil {
		return err
	}
	if a.json {
		err = a.printJSON(map[string]any{
			"from": report.From, "to": report.To, "copied": report.Copied, "compared": report.Parity.Compared, "different": report.Parity.Different,
			"mismatched": report.Mismatched, "switched": report.Switched,
		})
	} else {
		fmt.Fprintf(a.out, "generation %d is built beside %d: %s compared, %s differ; %s differ from their facts\n", report.To, report.From,
			plural(report.Parity.Compared, "day of a stream", "days of streams"), count(report.Parity.Different), plural(report.Mismatched, "window", "windows"))
		for i, d := range report.Parity.Differences {
			if i == 5 {
				fmt.Fprintln(a.out, "  …")
				break
			}
			fmt.Fprintf(a.out, "  %s of %v: %+v in generation %d, %+v in %d\n", d.Day.Format(time.DateOnly), d.Stream, d.A, report.From, d.B, report.To)
		}
		if report.Switched {
			fmt.Fprintf(a.out, "the views read generation %d; `%s projections switch %d` goes back, `%s projections drop %d` frees the space\n", report.To, a.program,
				report.From, a.program, report.From)
		}
	}
	if err == nil && !report.Switched {
		return &commandError{
			exit: exitFailure, code: "projections.differ", message: "the views still read generation " + strconv.Itoa(report.From),
			hint: "The log is right: if the old generation is known to be wrong, --force switches.",
		}
	}
	return err
}

// generationArg is the number of a generation.
func generationArg(text string) (int, error) {
	g, err := strconv.Atoi(text)
	if err != nil || g < 1 {
		return 0, usagef("`tidemark projections status` lists them.", "%q is no generation", text)
	}
	return g, nil
}

func (a *app) projectionsSwitchCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "switch GENERATION", Example: "  tidemark projections switch 1", Short: "Let the views read another generation", Args: arguments(1, 1, "a generation")}
	return a.onGeneration(cmd, "the views read generation", project.Switch)
}

func (a *app) projectionsDropCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "drop GENERATION", Example: "  tidemark projections drop 1", Short: "Drop the tables of a generation that does not serve", Args: arguments(1, 1, "a generation")}
	return a.onGeneration(cmd, "dropped generation", func(ctx context.Context, w *warehouse.Warehouse, g int) error { return w.DropGeneration(ctx, g) })
}

func (a *app) onGeneration(cmd *cobra.Command, done string, do func(context.Context, *warehouse.Warehouse, int) error) *cobra.Command {
	return a.onWarehouse(cmd, func(ctx context.Context, w *warehouse.Warehouse, args []string) error {
		g, err := generationArg(args[0])
		if err != nil {
			return err
		}
		if err := do(ctx, w, g); err != nil {
			return err
		}
		if a.json {
			return a.printJSON(map[string]int{"generation": g})
		}
		_, err = fmt.Fprintln(a.out, done, g)
		return err
	})
}

func (a *app) projectionsEraseCommand() *cobra.Command {
	var s streamFlags
	var record string
	var yes, purge bool
	cmd := &cobra.Command{
		Use:     "erase",
		Example: "  tidemark projections erase --connection acme --yes\n  tidemark projections erase --connection acme --model Brand --id AMD --yes --purge",
		Short:   "Erase a connection, or one record, from ClickHouse",
		Long: "Erase all that ClickHouse knows of a connection up to now, or of one record with --id. It is invisible at once and stays so when the log is\n" +
			"read again; the bytes go in the next night, and at once with --purge. The log and the records themselves are not touched.",
		Args: arguments(0, 0, "nothing"),
	}
	s.register(cmd)
	f := cmd.Flags()
	f.StringVar(&record, "id", "", "`id` of one record, with --model")
	f.BoolVar(&yes, "yes", false, "erase; it cannot be undone")
	f.BoolVar(&purge, "purge", false, "rewrite the tables now, so that the bytes are gone")
	return a.onWarehouse(cmd, func(ctx context.Context, w *warehouse.Warehouse, _ []string) error {
		if s.connection == "" {
			return usagef("For example: --connection acme", "--connection is missing")
		}
		e := warehouse.Erasure{Stream: stream.ID{Environment: s.environment, Integration: s.integration, Connection: s.connection}, RecordID: record, At: time.Now()}
		if record != "" {
			if s.model == "" {
				return usagef("For example: --model Brand --id AMD", "--model is missing")
			}
			e.Stream.Model, e.Stream.Variant = s.model, s.variant
		}
		if !yes {
			return &commandError{exit: exitUsage, code: "confirm", message: "nothing is erased yet", hint: "It cannot be undone: say --yes."}
		}
		if err := w.Erase(ctx, e); err != nil {
			return err
		}
		if purge {
			if err := w.Purge(ctx); err != nil {
				return err
			}
		}
		if a.json {
			return a.printJSON(map[string]bool{"erased": true, "purged": purge})
		}
		_, err := fmt.Fprintln(a.out, "erased")
		return err
	})
}

func (a *app) projectionsPlanCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "plan", Example: "  tidemark projections plan", Short: "Print the SQL that the next start would run", Args: arguments(0, 0, "nothing")}
	return a.onWarehouse(cmd, func(ctx context.Context, w *warehouse.Warehouse, _ []string) error {
		serving, err := w.ViewsGeneration(ctx)
		if err != nil {
			return err
		}
		statements, err := w.Plan(ctx, max(serving, 1))
		if err != nil {
			return err
		}
		for _, s := range statements {
			if a.json {
				err = a.printJSON(map[string]any{"migration": s.Migration, "statement": s.Number, "sql": s.SQL})
			} else {
				_, err = fmt.Fprintf(a.out, "-- %s, statement %d\n%s;\n\n", s.Migration, s.Number, s.SQL)
			}
			if err != nil {
				return err
			}
		}
		return nil
	})
}
