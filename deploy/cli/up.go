package cli

import (
	"context"
	"errors"
	"fmt"
	"os"
	"runtime/debug"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"github.com/tidemark-dev/tidemark/deploy/stack"
	"github.com/tidemark-dev/tidemark/schemas/stream"
)

type upFlags struct {
	stack  stack.Config
	kafka  kafkaFlags
	memory byteSize
	views  projectionFlags
	models string
	demo   bool
}

func (a *app) upCommand() *cobra.Command {
	u := upFlags{stack: stack.DefaultConfig()}
	u.memory = byteSize(u.stack.MemoryBytes)
	c := &u.stack
	cmd := &cobra.Command{
		Use:   "up",
		Short: "Run everything in this process",
		Long: "Run the broker, the processor and the API in this process, on a data directory, until Ctrl-C. It is one process and not\n" +
			"replicated: with --kafka the log is on a Kafka cluster instead, and the local state can be lost without losing anything.",
		Example: "  tidemark up\n  tidemark up --demo\n  tidemark up --data /var/lib/tidemark --http 127.0.0.1:8080 --memory 4GiB\n  tidemark up --kafka broker-1:9092,broker-2:9092",
		Args:    arguments(0, 0, "nothing"),
		RunE:    func(cmd *cobra.Command, _ []string) error { return a.up(cmd.Context(), &u) },
	}
	u.kafka.register(cmd, nil, "`host:port` of the brokers of a cluster; without it an embedded broker is started")
	f := cmd.Flags()
	f.StringVar(&c.DataDir, "data", c.DataDir, "data `directory`")
	f.StringVar(&c.HTTPAddr, "http", c.HTTPAddr, "`host:port` to serve HTTP on; port 0 takes a free one")
	f.StringVar(&c.KafkaListen, "kafka-listen", c.KafkaListen, "`host:port` of the embedded broker; port 0 takes a free one")
	f.BoolVar(&c.InsecureListen, "insecure-listen", false, "listen beyond this machine: there are no API keys yet, so whoever reaches it can read everything")
	f.Int32Var(&c.Partitions, "partitions", 0, "partitions of topics that are created, for good (default 8)")
	f.Int16Var(&c.Replication, "replication", c.Replication, "copies of topics that are created on a cluster; -1 is the cluster's default")
	f.BoolVar(&c.SyncWrites, "sync", false, "the embedded broker syncs every write to the disk: a power cut loses nothing, writing is slower")
	f.StringVar(&c.Environment, "environment", c.Environment, "environment that the HTTP routes read")
	f.StringVar(&c.Node, "node", c.Node, "name of this process in the log")
	f.Var(&u.memory, "memory", "memory that the process may use")
	f.StringVar(&u.models, "models", "", "YAML `file` that says how the records of a model are compared: ignored members, before, ratios")
	f.DurationVar(&c.ShutdownTimeout, "shutdown-timeout", c.ShutdownTimeout, "time for everything to stop; a second Ctrl-C stops at once")
	u.views.register(cmd)
	f.BoolVar(&u.demo, "demo", false, "load four snapshots of real data and show the changes")
	return cmd
}

func (a *app) up(ctx context.Context, u *upFlags) error {
	cfg := u.stack
	cfg.MemoryBytes, cfg.Prefix = int64(u.memory), u.kafka.prefix
	if len(u.kafka.seeds) > 0 {
		var err error
		if cfg.Kafka, err = a.kafkaConfig(&u.kafka); err != nil {
			return err
		}
	}
	if u.models != "" {
		var err error
		if cfg.Models, err = stack.LoadModels(u.models); err != nil {
			return usagef("The format is in the documentation of deploy/stack, ModelOptions.", "%v", err)
		}
	}
	var err error
	if cfg.Projections, err = u.views.config(a.env); err != nil {
		return err
	}
	if err := cfg.Validate(); err != nil {
		return usagef("", "%v", err)
	}
	s, err := stack.New(cfg, a.log)
	if err != nil {
		return err
	}
	if a.env["GOMEMLIMIT"] == "" {
		debug.SetMemoryLimit(stack.SplitMemory(cfg.MemoryBytes, max(cfg.Partitions, 1)).GoLimit)
	}
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	ran := make(chan error, 1)
	go func() {
		err := s.Run(ctx)
		stop(errStackEnded)
		ran <- err
	}()
	served := a.serve(ctx, u, s)
	if served != nil && ctx.Err() == nil {
		stop(served)
	}
	if ctx.Err() != nil && errors.Is(context.Cause(ctx), errInterrupted) && !a.json {
		fmt.Fprintln(a.out, "stopping; a second Ctrl-C stops at once")
	}
	err = <-ran
	if errors.Is(served, errStackEnded) || errors.Is(served, errInterrupted) || errors.Is(served, context.Canceled) {
		served = nil // it ended because the stack did, or was asked to
	}
	if err := errors.Join(err, served); err != nil {
		return err
	}
	select {
	case <-s.Started():
		if !a.json {
			fmt.Fprintln(a.out, "stopped; everything that was acknowledged is in", s.Endpoints().DataDir)
		}
	default: // it was asked to stop before there was anything to keep
	}
	return nil
}

var errStackEnded = errors.New("the stack ended")

// serve says what runs where, shows the demo, and waits for the end.
func (a *app) serve(ctx context.Context, u *upFlags, s *stack.Stack) error {
	began := time.Now()
	select {
	case <-s.Started():
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	at := s.Endpoints()
	shown := stream.ID{Environment: u.stack.Environment, Integration: "demo", Connection: demoConnection, Model: demoModel, Variant: stream.VariantBase}
	if err := a.printBanner(at, shown); err != nil {
		return err
	}
	var watch sync.WaitGroup
	defer watch.Wait()
	watching, stopWatching := context.WithCancel(ctx)
	defer stopWatching()
	if err := s.WaitReady(ctx); err != nil {
		return err
	}
	took := time.Since(began).Round(10 * time.Millisecond)
	if a.json {
		if err := a.printJSON(upEvent{Event: "ready", DurationMS: took.Milliseconds()}); err != nil {
			return err
		}
	} else {
		fmt.Fprintf(a.out, "ready after %s\n", took)
	}
	watch.Go(func() { a.watchProjections(watching, s) })
	if u.demo {
		if err := a.demo(ctx, s, shown); err != nil {
			return fmt.Errorf("running the demo: %w", err)
		}
	}
	<-ctx.Done()
	return context.Cause(ctx)
}

// upEvent is a line of `up --json`.
type upEvent struct {
	Event string `json:"event"` // started, ready; with --demo also change, loaded, demo

	HTTP       string   `json:"http,omitempty"`  // URL
	Kafka      []string `json:"kafka,omitempty"` // host:port
	Embedded   bool     `json:"embedded,omitempty"`
	Data       string   `json:"data,omitempty"`
	Topic      string   `json:"topic,omitempty"` // of the changes
	Partitions int32    `json:"partitions,omitempty"`
	PID        int      `json:"pid,omitempty"`

	DurationMS int64 `json:"duration_ms,omitempty"`

	ClickHouse string `json:"clickhouse,omitempty"` // host:port
	Database   string `json:"database,omitempty"`
	DSN        string `json:"dsn,omitempty"` // of the login that only reads

	Loaded *loadResult `json:"loaded,omitempty"`
	Change *changeLine `json:"change,omitempty"`
	Detail string      `json:"detail,omitempty"`
}

func startedEvent(at stack.Endpoints) upEvent {
	return upEvent{
		Event: "started", HTTP: "http://" + at.HTTP, Kafka: at.Kafka.Seeds, Embedded: at.Embedded, Data: at.DataDir, Topic: at.Topics.Changes,
		Partitions: at.Partitions, PID: os.Getpid(),
	}
}
