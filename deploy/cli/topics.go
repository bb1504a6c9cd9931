package cli

import (
	"context"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/tidemark-dev/tidemark/deploy/kafka"
	"github.com/tidemark-dev/tidemark/schemas/errcode"
	"github.com/tidemark-dev/tidemark/schemas/topic"
)

type topicsFlags struct {
	kafka       kafkaFlags
	partitions  int32
	replication int16
	yes         bool
}

func (a *app) topicsCommand() *cobra.Command {
	var t topicsFlags
	cmd := &cobra.Command{
		Use:   "topics",
		Short: "Compare the topics with what they must be",
		Long: "Show the four topics: whether they are there, how large they are, and which settings differ from the ones that they\n" +
			"need. The exit code is 1 if anything is missing or differs.",
		Example: "  tidemark topics\n  tidemark topics --kafka broker-1:9092,broker-2:9092 --json",
		Args:    cobra.ArbitraryArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) > 0 {
				return groupRun(cmd, args)
			}
			return a.showTopics(cmd.Context(), &t)
		},
	}
	t.kafka.registerClient(cmd)
	cmd.AddCommand(a.topicsApplyCommand())
	return cmd
}

func (a *app) topicsApplyCommand() *cobra.Command {
	var t topicsFlags
	cmd := &cobra.Command{
		Use:   "apply",
		Short: "Create missing topics and set settings that differ",
		Long: "Create the topics that are missing and set the settings that differ. Without --yes it only shows what it would do.\n" +
			"Partition counts are never changed, and no topic is ever deleted.",
		Example: "  tidemark topics apply --kafka broker-1:9092\n  tidemark topics apply --kafka broker-1:9092 --yes",
		Args:    arguments(0, 0, "nothing"),
		RunE:    func(cmd *cobra.Command, _ []string) error { return a.applyTopics(cmd.Context(), &t) },
	}
	t.kafka.registerClient(cmd)
	f := cmd.Flags()
	f.Int32Var(&t.partitions, "partitions", 0, "partitions of topics that are created (default: those of the others, else 8)")
	f.Int16Var(&t.replication, "replication", -1, "copies of topics that are created; -1 is the cluster's default")
	f.BoolVar(&t.yes, "yes", false, "do it")
	return cmd
}

// look opens the cluster and compares.
func (a *app) look(ctx context.Context, t *topicsFlags) (*kafka.Admin, []topic.Spec, []kafka.Topic, error) {
	cfg, err := a.kafkaConfig(&t.kafka)
	if err != nil {
		return nil, nil, nil, err
	}
	names, err := t.kafka.names()
	if err != nil {
		return nil, nil, nil, err
	}
	admin, err := kafka.Dial(ctx, cfg, a.log)
	if err != nil {
		return nil, nil, nil, err
	}
	n, err := admin.SettlePartitions(ctx, names, t.partitions)
	if err == nil {
		specs := topic.Manifest(names, n, topic.RecordBytesMax)
		var topics []kafka.Topic
		if topics, err = admin.Look(ctx, specs); err == nil {
			return admin, specs, topics, nil
		}
	}
	admin.Close()
	return nil, nil, nil, err
}

func (a *app) showTopics(ctx context.Context, t *topicsFlags) error {
	admin, _, topics, err := a.look(ctx, t)
	if err != nil {
		return err
	}
	defer admin.Close()
	wrong, err := a.printTopics(topics)
	if err != nil {
		return err
	}
	if wrong == 0 {
		return nil
	}
	e := explain(errcode.New(errcode.TopicDrift, "%s.", plural(wrong, "thing is to be mended", "things are to be mended")))
	e.hint = "This mends it: " + admin.MendCommand(t.kafka.prefix)
	return e
}

// printTopics returns how many things are missing or differ.
func (a *app) printTopics(topics []kafka.Topic) (wrong int, err error) {
	out := table{head: []string{"topic", "partitions", "copies", "records", "size", "state"}}
	for _, t := range topics {
		state := "ok"
		switch {
		case !t.Exists:
			wrong, state = wrong+1, "missing"
		case len(t.Drift) > 0:
			wrong, state = wrong+len(t.Drift), plural(len(t.Drift), "setting differs", "settings differ")
		}
		if a.json {
			if err := a.printJSON(t); err != nil {
				return wrong, err
			}
			continue
		}
		size := "-"
		if t.Bytes >= 0 {
			size = formatBytes(t.Bytes)
		}
		out.row(t.Name, fmt.Sprint(t.Partitions), fmt.Sprint(t.Replication), count(t.Records), size, state)
	}
	if a.json {
		return wrong, nil
	}
	out.print(a.out)
	for _, t := range topics {
		for _, d := range t.Drift {
			fmt.Fprintf(a.out, "%s: %s is %q, want %q\n", t.Name, d.Setting, d.Have, d.Want)
		}
	}
	return wrong, nil
}

func (a *app) applyTopics(ctx context.Context, t *topicsFlags) error {
	admin, specs, topics, err := a.look(ctx, t)
	if err != nil {
		return err
	}
	defer admin.Close()
	var plan []string
	for i, have := range topics {
		if !have.Exists {
			plan = append(plan, fmt.Sprintf("create %s with %s", have.Name, plural(int(specs[i].Partitions), "partition", "partitions")))
		}
		for _, d := range have.Drift {
			if d.Mendable() {
				plan = append(plan, fmt.Sprintf("set %s of %s from %q to %q", d.Setting, have.Name, d.Have, d.Want))
			}
		}
	}
	for _, step := range plan {
		fmt.Fprintln(a.err, step)
	}
	switch {
	case len(plan) == 0:
		fmt.Fprintln(a.err, "nothing to do")
	case !t.yes:
		return &commandError{exit: exitPerson, code: codeConfirm, message: "nothing was changed", hint: "Add --yes to do it."}
	default:
		if err := admin.Mend(ctx, specs, topics, t.replication); err != nil {
			return err
		}
		// Brokers take a moment to show what they were told.
		if topics, err = lookUntilMended(ctx, admin, specs); err != nil {
			return err
		}
	}
	wrong, err := a.printTopics(topics)
	if err == nil && wrong > 0 {
		err = explain(errcode.New(errcode.TopicDrift, "The cluster did not take all of it."))
	}
	return err
}

// codeConfirm is the code of everything that asks for --yes.
const codeConfirm = "confirm"

const mendWait = 5 * time.Second

// lookUntilMended looks until nothing is missing or differs, at most mendWait.
func lookUntilMended(ctx context.Context, admin *kafka.Admin, specs []topic.Spec) ([]kafka.Topic, error) {
	deadline := time.Now().Add(mendWait)
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		topics, err := admin.Look(ctx, specs)
		if err != nil {
			return nil, err
		}
		done := true
		for _, t := range topics {
			done = done && t.Exists && len(t.Drift) == 0
		}
		if done || time.Now().After(deadline) {
			return topics, nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
}
