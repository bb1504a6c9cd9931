package stack

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/cenkalti/backoff/v4"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/tidemark-dev/tidemark/deploy/devclickhouse"
	"github.com/tidemark-dev/tidemark/deploy/devclickhouse/library"
	"github.com/tidemark-dev/tidemark/processor"
	"github.com/tidemark-dev/tidemark/projections/fold"
	"github.com/tidemark-dev/tidemark/projections/follow"
	"github.com/tidemark-dev/tidemark/projections/observe"
	"github.com/tidemark-dev/tidemark/projections/project"
	"github.com/tidemark-dev/tidemark/projections/warehouse"
	"github.com/tidemark-dev/tidemark/schemas/topic"
)

// ProjectionsConfig is about ClickHouse. The pipeline never waits for it, and runs without it.
type ProjectionsConfig struct {
	Enabled bool
	// DSN of a server: http://, https:// or clickhouse://, with its password. Empty: the engine is embedded, in a process of its own.
	DSN string
	// Database, Topology and Cluster are as in warehouse.Config.
	Database string
	Topology warehouse.Topology
	Cluster  string
	// Secret is for fingerprints; empty: one is made, and kept in the data directory. Nodes that write to the same tables share it.
	Secret []byte

	Listen      string // host:port of the embedded engine's HTTP interface; port 0 takes the last one again, or a free one
	Library     string // path of libchdb; empty: it is found in the cache, or fetched
	Binary      string // path of a clickhouse binary to run instead of the library
	NoFetch     bool   // a library that is missing is not fetched
	MemoryBytes int64  // of the embedded engine's process, beside Config.MemoryBytes
}

// ClickHouseListenDefault is fixed, so that dashboards find it again.
const ClickHouseListenDefault = "127.0.0.1:8322"

// DefaultProjectionsConfig embeds the engine.
func DefaultProjectionsConfig() ProjectionsConfig {
	return ProjectionsConfig{Enabled: true, Listen: ClickHouseListenDefault, MemoryBytes: 1 << 30, Database: "tidemark"}
}

// ProjectionsPhase is what becomes of the projections.
type ProjectionsPhase string

// Phases.
const (
	ProjectionsOff      ProjectionsPhase = "off"
	ProjectionsStarting ProjectionsPhase = "starting"
	ProjectionsFetching ProjectionsPhase = "fetching" // the library
	ProjectionsWaiting  ProjectionsPhase = "waiting"  // something is missing, see Reason; it is tried again
	ProjectionsRunning  ProjectionsPhase = "running"
)

// ProjectionsStatus says how they are.
type ProjectionsStatus struct {
	Phase    ProjectionsPhase
	Reason   string           // of waiting, with what to do about it
	Fetched  library.Progress // while fetching
	Embedded bool
	Addr     string // host:port of the embedded engine
	Database string
	// ReadDSN reaches the embedded engine with the login that only reads. It holds a password.
	ReadDSN string
	Project project.Status // while running
}

// projections runs the engine, if it is ours, and the projector.
type projections struct {
	cfg       ProjectionsConfig
	dir       string
	endpoints Endpoints
	log       *slog.Logger
	source    follow.Config
	metrics   *project.Metrics
	kept      *project.KeeperMetrics
	reg       prometheus.Registerer
	secret    []byte
	rawNext   func(int32) (int64, bool)
	running   chan struct{} // closed when the views are there for the first time
	once      sync.Once

	mu        sync.Mutex
	status    ProjectionsStatus
	projector *project.Projector
	reader    *observe.Reader
}

// Projections says how the projections are. Safe for concurrent use.
func (s *Stack) Projections() ProjectionsStatus {
	p := s.projections.Load()
	if p == nil {
		return ProjectionsStatus{Phase: ProjectionsOff}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	st := p.status
	if p.projector != nil {
		st.Project = p.projector.Status()
	}
	return st
}

// ProjectionsRunning is closed when the views can be asked for the first time; nil if there are no projections. Call it after Started.
func (s *Stack) ProjectionsRunning() <-chan struct{} {
	if p := s.projections.Load(); p != nil {
		return p.running
	}
	return nil
}

// startProjections starts them in the background.
func (r *running) startProjections(ctx context.Context, m Memory, proc *processor.Processor) error {
	s, cfg := r.s, r.s.cfg.Projections
	if !cfg.Enabled {
		return nil
	}
	dir := filepath.Join(s.endpoints.DataDir, "clickhouse")
	secret := cfg.Secret
	if len(secret) == 0 {
		var err error
		if secret, err = loadSecret(filepath.Join(s.endpoints.DataDir, secretFile)); err != nil {
			return err
		}
	}
	opts, err := s.endpoints.Kafka.Connection()
	if err != nil {
		return err
	}
	p := &projections{
		cfg: cfg, dir: dir, endpoints: s.endpoints, log: s.log.With("component", "projections"), reg: s.reg, secret: secret,
		source: follow.Config{
			Seeds: s.endpoints.Kafka.Seeds, Client: opts, Names: s.endpoints.Topics, FetchBytes: int(m.Fetch), Logger: s.log.With("component", "projections"),
			Metrics: follow.NewMetrics(s.reg),
		},
		rawNext: func(partition int32) (int64, bool) {
			for _, st := range proc.Status() {
				if st.Partition == partition {
					return st.RawNext, st.Term > 0
				}
			}
			return 0, false
		},
		metrics: project.NewMetrics(s.reg), kept: project.NewKeeperMetrics(s.reg), running: make(chan struct{}),
	}
	p.status = ProjectionsStatus{Phase: ProjectionsStarting, Embedded: cfg.DSN == "", Database: cfg.Database}
	s.projections.Store(p)
	r.run(ctx, "projections", p.run)
	return nil
}

// secretFile is in the data directory.
const secretFile = "fingerprint.secret"

// loadSecret reads a secret, or makes one.
func loadSecret(path string) ([]byte, error) {
	text, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) {
		text = []byte(rand.Text() + rand.Text() + "\n")
		err = writeSynced(path, text)
	}
	if err != nil {
		return nil, fmt.Errorf("reading the secret for fingerprints: %w", err)
	}
	secret := []byte(strings.TrimSpace(string(text)))
	if len(secret) < fold.SecretBytesMin {
		return nil, fmt.Errorf("reading the secret for fingerprints: %s is too short", path)
	}
	return secret, nil
}

// run keeps them going until ctx ends. What is missing may come later.
func (p *projections) run(ctx context.Context) error {
	wait := backoff.NewExponentialBackOff(backoff.WithInitialInterval(time.Second), backoff.WithMultiplier(2), backoff.WithMaxInterval(5*time.Minute),
		backoff.WithMaxElapsedTime(0))
	for {
		began := time.Now()
		err := p.session(ctx)
		if ctx.Err() != nil {
			if err != nil { // what they hold is made of the log: a stop that was not clean costs nothing
				p.log.Warn("stopping the projections", "error", err)
			}
			return nil
		}
		if time.Since(began) > time.Minute {
			wait.Reset()
		}
		d := wait.NextBackOff()
		p.set(func(st *ProjectionsStatus) { st.Phase, st.Reason = ProjectionsWaiting, err.Error() })
		p.log.Warn("everything runs but the projections", "error", err, "retry_ms", d.Milliseconds())
		t := time.NewTimer(d)
		select {
		case <-t.C:
		case <-ctx.Done():
			t.Stop()
			return nil
		}
	}
}

func (p *projections) set(change func(*ProjectionsStatus)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	change(&p.status)
}

// engineStop bounds how long the embedded engine may take to stop.
const engineStop = 15 * time.Second

// session runs until something breaks.
func (p *projections) session(ctx context.Context) (err error) {
	dsn, topology, boot := p.cfg.DSN, p.cfg.Topology, ""
	if dsn == "" {
		engine, err := devclickhouse.Start(ctx, devclickhouse.Config{
			Dir: p.dir, Listen: p.cfg.Listen, Database: p.cfg.Database, MemoryBytes: p.cfg.MemoryBytes, Library: p.cfg.Library, Binary: p.cfg.Binary,
			NoFetch: p.cfg.NoFetch, Logger: p.log, Registerer: p.reg,
			Progress: func(f library.Progress) {
				p.set(func(st *ProjectionsStatus) { st.Phase, st.Fetched = ProjectionsFetching, f })
			},
		})
		if err != nil {
			return err
		}
		defer func() {
			ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), engineStop)
			defer cancel()
			err = errors.Join(err, engine.Stop(ctx))
		}()
		dsn, topology, boot = engine.DSN(false), warehouse.Embedded, bootID()
		p.set(func(st *ProjectionsStatus) {
			st.Phase, st.Addr, st.ReadDSN = ProjectionsStarting, engine.Addr(), engine.DSN(true)
		})
	}
	for {
		err := p.project(ctx, dsn, topology, boot)
		if !errors.Is(err, project.ErrChanged) || ctx.Err() != nil {
			return err
		}
		p.log.Info("the projections start anew", "reason", err)
	}
}

// project writes one generation until something breaks, or another one is to be written.
func (p *projections) project(ctx context.Context, dsn string, topology warehouse.Topology, boot string) error {
	w, err := warehouse.Open(warehouse.Config{DSN: dsn, Database: p.cfg.Database, Topology: topology, Cluster: p.cfg.Cluster, Log: p.log})
	if err != nil {
		return err
	}
	defer w.Close()
	keys, err := fold.NewKeys(p.secret)
	if err != nil {
		return err
	}
	source, err := project.NewKafkaSource(p.source)
	if err != nil {
		return err
	}
	defer source.Close()
	generation, err := w.ViewsGeneration(ctx)
	if err != nil {
		return err
	}
	store := project.NewWarehouse(w, project.WarehouseConfig{Generation: generation, Boot: boot, Logger: p.log})
	projector, err := project.New(project.Config{
		Source: source, Store: &told{store, p}, Keys: keys, RawTopic: p.endpoints.Topics.Raw, RawNext: p.rawNext, ChangesTopic: p.endpoints.Topics.Changes,
		Retention: changesRetention(p.endpoints.Topics), Logger: p.log, Metrics: p.metrics,
	})
	if err != nil {
		return err
	}
	payloads, err := follow.NewFetcher(p.source)
	if err != nil {
		return err
	}
	defer payloads.Close()
	p.mu.Lock()
	p.projector = projector
	p.reader = observe.New(observe.Config{Conn: w.Conn(), Database: w.Database(), Payloads: payloads})
	p.mu.Unlock()
	defer func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.projector, p.reader = nil, nil
	}()
	return p.keep(ctx, projector, project.NewKeeper(project.KeeperConfig{Warehouse: w, Store: store, Logger: p.log, Metrics: p.kept}))
}

// keep runs the projector, and the keeper beside it, until either ends.
func (p *projections) keep(ctx context.Context, projector *project.Projector, keeper *project.Keeper) error {
	running, stop := context.WithCancel(ctx)
	defer stop()
	kept := make(chan error, 1)
	go func() {
		err := keeper.Run(running)
		stop()
		kept <- err
	}()
	err := projector.Run(running)
	stop()
	if changed := <-kept; changed != nil && ctx.Err() == nil {
		return errors.Join(changed, keeper.Heal(ctx))
	}
	return err
}

// told is the store, and tells when the views are there.
type told struct {
	*project.Warehouse
	p *projections
}

func (t *told) Prepare(ctx context.Context) (project.Erasures, error) {
	e, err := t.Warehouse.Prepare(ctx)
	if err == nil {
		t.p.set(func(st *ProjectionsStatus) { st.Phase, st.Reason = ProjectionsRunning, "" })
		t.p.once.Do(func() { close(t.p.running) })
	}
	return e, err
}

// bootID names the start of this machine; empty where the kernel does not say.
func bootID() string {
	text, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return ""
	}
	id := strings.TrimSpace(string(text))
	if _, err := hex.DecodeString(strings.ReplaceAll(id, "-", "")); err != nil {
		return ""
	}
	return id
}

// changesRetention is how long the changes topic keeps records, as we made it.
func changesRetention(names topic.Names) time.Duration {
	for _, spec := range topic.Manifest(names, 1, topic.RecordBytesMax) {
		if spec.Name == names.Changes {
			if ms, err := strconv.ParseInt(spec.Configs["retention.ms"], 10, 64); err == nil && ms > 0 {
				return time.Duration(ms) * time.Millisecond
			}
		}
	}
	return 0
}
