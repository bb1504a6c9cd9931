package devkafka

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// Broker is a running embedded broker. It is safe for concurrent use.
type Broker struct {
	log     *slog.Logger
	addr    string
	lock    *dirLock
	state   *state
	health  *health
	metrics *metrics
	ln      *listener
	cluster *kfake.Cluster

	droppedMu sync.Mutex
	dropped   map[string]map[string]string

	life context.Context // ends with Close
	stop context.CancelFunc

	// running is held for reading by methods that call into kfake, which blocks for good once it is closed.
	running   sync.RWMutex
	closed    bool
	closeOnce sync.Once
	closeErr  error
}

// Start opens the log in cfg.DataDir, repairs what an unclean stop left, and lets clients in. ctx bounds the start alone.
//
// Errors that a caller may tell apart: [ErrLocked], [ErrCorrupt], [ErrFormat]. After any error nothing is left running, and
// the directory can be started on again.
func Start(ctx context.Context, cfg Config) (_ *Broker, err error) {
	cfg, ep, err := cfg.withDefaults()
	if err != nil {
		return nil, fmt.Errorf("reading the embedded broker's config: %w", err)
	}
	var undo []func()
	defer func() {
		if err == nil {
			return
		}
		for i := range undo {
			undo[len(undo)-1-i]()
		}
		err = fmt.Errorf("starting the embedded broker: %w", err)
	}()
	began := time.Now()
	b := &Broker{log: cfg.Logger, dropped: make(map[string]map[string]string)}
	b.life, b.stop = context.WithCancel(context.WithoutCancel(ctx))
	undo = append(undo, b.stop)

	if err := os.MkdirAll(cfg.DataDir, 0o700); err != nil {
		return nil, fmt.Errorf("creating the data directory: %w", err)
	}
	if b.lock, err = lockDir(cfg.DataDir); err != nil {
		return nil, err
	}
	undo = append(undo, func() { b.lock.release() })
	if b.state, err = loadState(cfg.DataDir); err != nil {
		return nil, err
	}
	if b.metrics, err = newMetrics(cfg.Registerer); err != nil {
		return nil, err
	}
	undo = append(undo, b.metrics.unregister)
	b.health = &health{log: cfg.Logger, metrics: b.metrics}

	real, err := bind(cfg, ep, b.state.port())
	if err != nil {
		return nil, err
	}
	if _, port, err := net.SplitHostPort(real.Addr().String()); err == nil {
		ep.port, _ = strconv.Atoi(port)
	}
	b.addr = ep.String()
	b.ln = newListener(real, b.addr, &guard{maxRequestBytes: int64(cfg.MaxRequestBytes), log: cfg.Logger, metrics: b.metrics}, cfg.Logger)
	undo = append(undo, func() { b.ln.Close() })

	found, clean, err := b.openLog(ctx, cfg, ep.port)
	if err != nil {
		return nil, err
	}
	undo = append(undo, b.cluster.Close)
	if err := b.settle(ctx, cfg, clean); err != nil {
		return nil, err
	}
	if cfg.AllowNonLoopback {
		b.log.Warn("the broker may be reached from other machines, and has no authentication", "addr", b.addr)
	}
	b.ln.open()
	b.log.Info("embedded broker started", "addr", b.addr, "dir", cfg.DataDir, "clean_stop", clean, "torn_bytes", found.tornBytes,
		"duration_ms", time.Since(began).Milliseconds())
	return b, nil
}

// openLog checks the log, readies it, and opens kfake on it. Nothing is written before the check has passed.
func (b *Broker) openLog(ctx context.Context, cfg Config, port int) (found *survey, clean bool, err error) {
	dir := filepath.Join(cfg.DataDir, logDir)
	if clean, err = b.state.stoppedCleanly(); err != nil {
		return nil, false, err
	}
	if found, err = surveyLog(ctx, dir, clean); err != nil {
		return nil, false, err
	}
	clusterID, err := clusterID(dir, cfg.ClusterID)
	if err != nil {
		return nil, false, err
	}
	// The state file first: it says whose directory this is.
	if err := errors.Join(b.state.setPort(port), b.state.markRunning()); err != nil {
		return nil, false, err
	}
	if err := found.setAsideOrphans(cfg.DataDir); err != nil {
		return nil, false, err
	}
	for _, path := range found.orphans {
		b.log.Warn("a partition that no topic claims was set aside", "from", path, "to", filepath.Join(cfg.DataDir, orphansDir))
	}
	if !clean {
		if err := found.prepare(dir); err != nil {
			return nil, false, err
		}
	}
	opts := []kfake.Opt{
		kfake.Ports(1), // one broker; the port is the listener's
		kfake.ListenFn(func(string, string) (net.Listener, error) { return b.ln, nil }),
		kfake.DataDir(dir),
		kfake.ClusterID(clusterID),
		kfake.DefaultNumPartitions(int(cfg.Partitions)),
		kfake.WithLogger(b.health),
		kfake.BrokerConfigs(brokerConfigs(cfg)),
	}
	if cfg.SyncWrites {
		opts = append(opts, kfake.SyncWrites())
	}
	if b.cluster, err = kfake.NewCluster(opts...); err != nil {
		return nil, false, fmt.Errorf("opening the log in %s: %w", dir, err)
	}
	return found, clean, nil
}

// settle does what needs kfake running and nobody else on it.
func (b *Broker) settle(ctx context.Context, cfg Config, clean bool) error {
	admission, err := newAdmission(cfg, b.health, b.metrics)
	if err != nil {
		return err
	}
	b.cluster.Fault(admission.faults()...)
	b.cluster.Fault(policyFaults(b.log)...)
	b.cluster.ControlKey(int16(kmsg.DeleteRecords), b.limitDeleteRecords)

	return b.inside(ctx, func(ctx context.Context, cl *kgo.Client) error {
		topics, err := listTopics(ctx, cl)
		if err != nil {
			return err
		}
		if err := b.restoreTrims(topics); err != nil || clean {
			return err
		}
		producers, err := b.abortOpenTransactions(ctx, cl, topics)
		if err != nil {
			return fmt.Errorf("aborting the transactions that a killed broker left open: %w", err)
		}
		if producers > 0 {
			b.log.Info("wrote abort markers after an unclean stop", "producers", producers)
		}
		return nil
	})
}

// clusterID returns the id to run under: the one in the directory, else the one wanted, else a random one, so that clients can
// tell a new log from an old.
func clusterID(dir, want string) (string, error) {
	var meta struct {
		ClusterID string `json:"cluster_id"`
	}
	found, err := readJSON(filepath.Join(dir, kfakeMeta), &meta)
	switch {
	case err != nil:
		return "", err
	case found && want != "" && want != meta.ClusterID:
		return "", fmt.Errorf("the log in %s belongs to cluster %q, not %q: %w", dir, meta.ClusterID, want, ErrFormat)
	case found:
		return meta.ClusterID, nil
	case want != "":
		return want, nil
	}
	var id [16]byte
	rand.Read(id[:])
	return base64.RawURLEncoding.EncodeToString(id[:]), nil
}

// Addr is the host:port to bootstrap a client from.
func (b *Broker) Addr() string { return b.addr }

// Cluster is kfake, for fault injection in tests. Its methods block for good after Close.
func (b *Broker) Cluster() *kfake.Cluster { return b.cluster }

// enter and leave stand around every use of kfake, so that Close comes before or after it.
func (b *Broker) enter() error {
	b.running.RLock()
	if b.closed {
		b.running.RUnlock()
		return ErrClosed
	}
	return nil
}

func (b *Broker) leave() { b.running.RUnlock() }

// Close stops the broker, saves what kfake keeps in memory and releases the directory. End or abort transactions and close
// clients first: a transaction left open is open again after the next start, until it times out. A second Close returns what
// the first did.
func (b *Broker) Close() error {
	b.closeOnce.Do(func() {
		b.stop()
		b.running.Lock()
		b.closed = true
		b.running.Unlock()

		failures := b.health.failures.Load()
		b.cluster.Close() // closes the listener too
		b.ln.serving.Wait()
		var err error
		switch {
		case b.health.failures.Load() != failures:
			err = errors.New("saving the log's state: the disk did not take all of it, see the log; the next start recovers from the log itself")
		case !b.health.lostAppend.Load():
			// Without the mark the next start takes nothing but the log for true, which is what a lost append calls for.
			err = b.state.markClean()
		}
		b.metrics.unregister()
		if err = errors.Join(err, b.lock.release()); err != nil {
			b.closeErr = fmt.Errorf("closing the embedded broker: %w", err)
		}
	})
	return b.closeErr
}
