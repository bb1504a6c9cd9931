package stack

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"github.com/tidemark-dev/tidemark/api"
	"github.com/tidemark-dev/tidemark/deploy/devkafka"
	"github.com/tidemark-dev/tidemark/deploy/kafka"
	"github.com/tidemark-dev/tidemark/processor/store"
	"github.com/tidemark-dev/tidemark/schemas/stream"
	"github.com/tidemark-dev/tidemark/schemas/topic"
)

// Stack is the whole product in one process. Safe for concurrent use.
type Stack struct {
	cfg  Config
	log  *slog.Logger
	reg  *prometheus.Registry
	view view

	projections atomic.Pointer[projections]

	started   chan struct{}
	endpoints Endpoints // set before started is closed
}

// Endpoints say what runs where.
type Endpoints struct {
	HTTP       string // host:port
	Kafka      kafka.Config
	Embedded   bool        // the broker is in this process
	Topics     topic.Names //
	Partitions int32       //
	DataDir    string      // absolute
	Lineage    string      // of cursors
}

// New checks the settings. It does no I/O and starts nothing.
func New(cfg Config, logger *slog.Logger) (*Stack, error) {
	if err := cfg.Validate(); err != nil {
		return nil, fmt.Errorf("checking the settings: %w", err)
	}
	s := &Stack{cfg: cfg, log: logger, reg: prometheus.NewRegistry(), started: make(chan struct{})}
	s.reg.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}), collectors.NewBuildInfoCollector())
	s.view.wait("process", "starting")
	return s, nil
}

// Started is closed when everything runs and Endpoints are known. Records may still be loading: see WaitReady.
func (s *Stack) Started() <-chan struct{} { return s.started }

// Endpoints says what runs where. Call it after Started.
func (s *Stack) Endpoints() Endpoints { return s.endpoints }

// Ready says what is still missing; empty means ready.
func (s *Stack) Ready() []api.Condition { return s.view.Ready() }

const readyPoll = 10 * time.Millisecond

// WaitReady waits until every partition is read and owned.
func (s *Stack) WaitReady(ctx context.Context) error {
	t := time.NewTicker(readyPoll)
	defer t.Stop()
	for {
		missing := s.Ready()
		if len(missing) == 0 {
			return nil
		}
		select {
		case <-t.C:
		case <-ctx.Done():
			return fmt.Errorf("waiting for %s (%s): %w", missing[0].Component, missing[0].Reason, context.Cause(ctx))
		}
	}
}

// Stream returns what the log says of a stream, nil if nothing.
func (s *Stack) Stream(id stream.ID) (*store.Stream, error) {
	p, err := s.view.get()
	if err != nil {
		return nil, err
	}
	st, _, err := p.Stream(id)
	return st, err
}

// Run starts everything, works until ctx ends or a part fails, and stops everything. It may be called once. It returns nil after a
// clean stop that ctx asked for.
func (s *Stack) Run(ctx context.Context) (err error) {
	r := &running{s: s, failed: make(chan error, 2)}
	defer func() { err = errors.Join(err, r.stopAll(ctx)) }()
	if err := r.start(ctx); err != nil {
		if ctx.Err() != nil { // asked to stop while starting
			return nil
		}
		return err
	}
	close(s.started)
	select {
	case <-ctx.Done():
		return nil
	case err := <-r.failed:
		return err
	}
}

// running is one Run: what was started, in order.
type running struct {
	s      *Stack
	failed chan error // of parts that run; each sends at most once
	stops  []stop
}

type stop struct {
	part string
	fn   func() error
}

func (r *running) onStop(part string, fn func() error) { r.stops = append(r.stops, stop{part, fn}) }

// stopAll stops the parts in reverse within the budget.
func (r *running) stopAll(ctx context.Context) error {
	budget := r.s.cfg.ShutdownTimeout
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), budget)
	defer cancel()
	var errs []error
	for i := len(r.stops) - 1; i >= 0; i-- {
		st := r.stops[i]
		done := make(chan error, 1)
		go func() { done <- st.fn() }()
		select {
		case err := <-done:
			if err != nil {
				errs = append(errs, fmt.Errorf("stopping the %s: %w", st.part, err))
			}
		case <-ctx.Done():
			// What is below may be in use by what did not stop, so it is left alone.
			return errors.Join(append(errs, fmt.Errorf("stopping the %s: not done within %s; what was acknowledged is safe", st.part, budget))...)
		}
	}
	return errors.Join(errs...)
}

func (r *running) start(ctx context.Context) error {
	s, cfg := r.s, r.s.cfg
	dir, err := filepath.Abs(cfg.DataDir)
	if err != nil {
		return fmt.Errorf("finding the data directory: %w", err)
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("making the data directory: %w", err)
	}
	lock, err := lockDir(dir)
	if err != nil {
		return err
	}
	r.onStop("lock of the data directory", lock.release)
	in, err := loadInstallation(dir)
	if err != nil {
		return err
	}
	if in != nil {
		if err := in.check(dir, "", cfg.Prefix); err != nil {
			return err
		}
	}
	// The port is taken before anything is touched: that it is in use is the commonest reason not to start.
	ln, err := api.Listen(cfg.HTTPAddr, cfg.InsecureListen)
	if err != nil {
		return err
	}
	r.onStop("http listener", func() error { return ignoreClosed(ln.Close()) })

	cluster := cfg.Kafka
	var broker *devkafka.Broker
	if cfg.Embedded() {
		if broker, in, err = r.startBroker(ctx, dir, in); err != nil {
			return err
		}
		cluster = kafka.Config{Seeds: []string{broker.Addr()}}
	}
	s.view.wait("topics", "checking them")
	admin, err := kafka.Dial(ctx, cluster, s.log)
	if err != nil {
		return err
	}
	defer admin.Close()
	if in == nil {
		in = newInstallation(admin.Cluster(), cfg.Prefix)
		if err := in.save(dir); err != nil {
			return err
		}
	}
	if err := in.check(dir, admin.Cluster(), cfg.Prefix); err != nil {
		return err
	}
	names, partitions, err := r.readyTopics(ctx, admin, broker)
	if err != nil {
		return err
	}
	s.endpoints = Endpoints{
		HTTP: ln.Addr().String(), Kafka: cluster, Embedded: broker != nil, Topics: names, Partitions: partitions, DataDir: dir,
		Lineage: in.Lineage,
	}
	return r.startServices(ctx, ln, SplitMemory(cfg.MemoryBytes, partitions))
}

func ignoreClosed(err error) error {
	if errors.Is(err, net.ErrClosed) {
		return nil
	}
	return err
}
