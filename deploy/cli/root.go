package cli

import (
	"errors"
	"fmt"
	"log/slog"
	"regexp"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/tidemark-dev/tidemark/deploy/stack"
)

func (a *app) rootCommand() *cobra.Command {
	root := &cobra.Command{
		Use:   "tidemark",
		Short: "A records cache with an exactly-once change log",
		Long: "Tidemark keeps a local copy of your customers' records: sync functions write what they fetch into Kafka, Tidemark\n" +
			"compares it with what it knows, and writes each change - ADDED, UPDATED, DELETED - exactly once. Applications read\n" +
			"the changes by cursor: from the Kafka topic, over HTTP, or in the terminal.",
		Example: "  tidemark up --demo\n" +
			"  tidemark load --connection acme --model Brand --id title brands.json.gz\n" +
			"  tidemark tail --connection acme --model Brand",
		SilenceErrors: true,
		SilenceUsage:  true,
		RunE:          groupRun,
		Args:          cobra.ArbitraryArgs,
		PersistentPreRunE: func(cmd *cobra.Command, _ []string) error {
			if err := a.applyEnv(cmd); err != nil {
				return err
			}
			return a.setUpLog(cmd)
		},
	}
	root.CompletionOptions.HiddenDefaultCmd = true
	flags := root.PersistentFlags()
	flags.BoolVar(&a.json, "json", false, "print JSON for programs: one value a line on standard output, errors on standard error")
	flags.StringVar(&a.logLevel, "log-level", "", "least level of log lines: debug, info, warn or error (default warn; for up info, on a terminal warn)")
	root.SetFlagErrorFunc(flagError)
	root.AddCommand(
		a.upCommand(), a.loadCommand(), a.tailCommand(), a.recordsCommand(), a.historyCommand(), a.statsCommand(), a.runsCommand(), a.heldCommand(), a.topicsCommand(),
		a.clickhouseCommand(), a.projectionsCommand(), a.doctorCommand(), a.versionCommand(), exitCodesTopic(),
	)
	return root
}

// groupRun is what a command with subcommands does when it is called by itself.
func groupRun(cmd *cobra.Command, args []string) error {
	var names []string
	for _, c := range cmd.Commands() {
		if c.IsAvailableCommand() || c.Name() == "help" {
			names = append(names, c.Name())
		}
	}
	what := cmd.CommandPath()
	if len(args) == 0 {
		if !cmd.HasParent() {
			return cmd.Help()
		}
		return usagef("The commands are "+strings.Join(names, ", ")+".", "%s needs a command", what)
	}
	hint := fmt.Sprintf("%s --help lists the commands.", what)
	if near := nearest(args[0], names); near != "" {
		hint = fmt.Sprintf("Did you mean %q?", what+" "+near)
	}
	return usagef(hint, "%q is not a command of %s", args[0], what)
}

var unknownFlag = regexp.MustCompile(`^unknown (?:shorthand )?flag: '?(.)'? in (-\S+)|^unknown flag: --(\S+)`)

// flagError says which flag is meant when one is not known.
func flagError(cmd *cobra.Command, err error) error {
	if errors.Is(err, pflag.ErrHelp) {
		return err
	}
	hint := cmd.CommandPath() + " --help lists the flags."
	if m := unknownFlag.FindStringSubmatch(err.Error()); m != nil {
		typed := m[3]
		if typed == "" { // -model for --model
			typed = strings.TrimLeft(m[2], "-")
		}
		typed, _, _ = strings.Cut(typed, "=")
		var names []string
		cmd.Flags().VisitAll(func(f *pflag.Flag) {
			if !f.Hidden {
				names = append(names, f.Name)
			}
		})
		if near := nearest(typed, names); near != "" {
			hint = "Did you mean --" + near + "?"
		}
	}
	return usagef(hint, "%s", err.Error())
}

// envName is the environment variable of a flag.
func envName(flag string) string {
	return "TIDEMARK_" + strings.ToUpper(strings.ReplaceAll(flag, "-", "_"))
}

// applyEnv fills in flags that were not given.
func (a *app) applyEnv(cmd *cobra.Command) error {
	var errs []error
	cmd.Flags().VisitAll(func(f *pflag.Flag) {
		if value, ok := a.env[envName(f.Name)]; ok && value != "" && !f.Changed && f.Name != "help" && f.Name != "yes" {
			if err := cmd.Flags().Set(f.Name, value); err != nil {
				errs = append(errs, usagef("", "environment variable %s is %q: %v", envName(f.Name), value, err))
			}
		}
	})
	return errors.Join(errs...)
}

func (a *app) setUpLog(cmd *cobra.Command) error {
	level := slog.LevelWarn
	if cmd.Name() == "up" && !a.errTerminal {
		level = slog.LevelInfo
	}
	if a.logLevel != "" {
		if err := level.UnmarshalText([]byte(a.logLevel)); err != nil {
			return usagef("The levels are debug, info, warn and error.", "--log-level is %q", a.logLevel)
		}
	}
	a.log = stack.NewLogger(a.err, a.errTerminal, level)
	return nil
}

// group makes a command that only has subcommands.
func group(use, short, long string, commands ...*cobra.Command) *cobra.Command {
	c := &cobra.Command{Use: use, Short: short, Long: long, Args: cobra.ArbitraryArgs, RunE: groupRun}
	c.AddCommand(commands...)
	return c
}

// arguments checks the number of arguments, least to most (-1: any), and names them when they are wrong.
func arguments(least, most int, what string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		hint := "Usage: " + cmd.UseLine()
		switch {
		case len(args) < least:
			return usagef(hint, "%s needs %s", cmd.CommandPath(), what)
		case most >= 0 && len(args) > most && most == 0:
			return usagef(hint, "%s takes no arguments, %q is one", cmd.CommandPath(), args[0])
		case most >= 0 && len(args) > most:
			return usagef(hint, "%s takes %s, %q is too many", cmd.CommandPath(), what, args[most])
		}
		return nil
	}
}
