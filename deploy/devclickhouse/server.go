package devclickhouse

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/cenkalti/backoff/v4"

	"github.com/tidemark-dev/tidemark/deploy/devclickhouse/bridge"
	"github.com/tidemark-dev/tidemark/deploy/devclickhouse/library"
)

// Phase is what a [Server] is doing.
type Phase string

const (
	Starting Phase = "starting" // the child is coming up
	Running  Phase = "running"  // it answers
	Waiting  Phase = "waiting"  // it has ended, and is started again after a while
	Failed   Phase = "failed"   // it has ended, and is not started again
	Stopped  Phase = "stopped"
)

// State is what can be said about a [Server] at a moment.
type State struct {
	Phase Phase
	Since time.Time
	// PID is the child's, 0 when there is none.
	PID int
	// Restarts counts the starts of the child after the first.
	Restarts int
	// LastExit says how the child last ended, with its last lines; empty if it never has. The lines may quote statements.
	LastExit string
	// Version is the engine's, such as "26.7.2.1", once it has run.
	Version string
	// Confined reports whether the child can open its own files alone (C6).
	Confined bool
}

// Server is an embedded ClickHouse. It is safe for concurrent use.
type Server struct {
	cfg           Config
	log           *slog.Logger
	lock          *os.File
	library       string
	listener      *net.TCPListener
	addr          string
	owner, reader bridge.Login
	metrics       *metrics
	client        *http.Client

	mu    sync.Mutex
	state State

	quit     chan struct{} // closed by Stop
	done     chan struct{} // closed when supervise has returned
	stopOnce sync.Once
	stopCtx  context.Context // of the first Stop, set before quit is closed
	stopErr  error           // set before done is closed
}

// Start brings up the engine on a directory and returns once it answers. The context bounds the start alone. Errors are ErrLocked,
// ErrFormat, ErrStart, or a *library.Error where there is no engine to load.
func Start(ctx context.Context, cfg Config) (_ *Server, err error) {
	cfg, err = cfg.withDefaults()
	if err != nil {
		return nil, fmt.Errorf("starting the embedded ClickHouse: %w", err)
	}
	s := &Server{
		cfg:    cfg,
		log:    cfg.Logger,
		quit:   make(chan struct{}),
		done:   make(chan struct{}),
		client: &http.Client{Transport: &http.Transport{Proxy: nil, DisableKeepAlives: true}},
	}
	var undo []func()
	defer func() {
		if err != nil {
			for i := len(undo) - 1; i >= 0; i-- {
				undo[i]()
			}
			err = fmt.Errorf("starting the embedded ClickHouse in %s: %w", cfg.Dir, err)
		}
	}()
	if cfg.Binary == "" {
		if s.library, err = findLibrary(ctx, cfg); err != nil {
			return nil, err
		}
	}
	if err = prepareDir(cfg.Dir); err != nil {
		return nil, err
	}
	if s.lock, err = lockDir(ctx, cfg.Dir); err != nil {
		return nil, err
	}
	undo = append(undo, func() { s.lock.Close() })
	if err = s.prepare(ctx); err != nil {
		return nil, err
	}
	undo = append(undo, func() { s.closeListener() })
	if s.metrics, err = newMetrics(cfg.Registerer, s); err != nil {
		return nil, err
	}
	undo = append(undo, s.metrics.unregister)

	s.enter(Starting, nil)
	first, err := s.bringUp(ctx)
	if err != nil {
		return nil, err
	}
	if cfg.AllowNonLoopback {
		s.log.Warn("the embedded ClickHouse may be reached from other machines, and its connections are not encrypted", "addr", s.addr)
	}
	s.log.Info("embedded ClickHouse started", "addr", s.addr, "dir", cfg.Dir, "version", first.report.Version,
		"confined", first.report.Confined, "duration_ms", time.Since(first.began).Milliseconds())
	go s.supervise(first)
	return s, nil
}

// findLibrary fetches the library if it is in none of the places.
func findLibrary(ctx context.Context, cfg Config) (string, error) {
	path, err := library.Find(cfg.Library)
	if err == nil || !errors.Is(err, library.ErrMissing) || cfg.NoFetch {
		return path, err
	}
	download, disk := library.Size()
	cfg.Logger.Info("fetching the ClickHouse library, once", "version", library.Version, "download_mb", download>>20, "disk_mb", disk>>20)
	return library.Fetch(ctx, library.Options{Progress: cfg.Progress})
}

// prepare reads the state of the last start, writes the configuration, and listens.
func (s *Server) prepare(ctx context.Context) error {
	st, err := loadState(s.cfg.Dir)
	if err != nil {
		return err
	}
	s.owner = bridge.Login{User: s.cfg.User, Password: st.Password}
	s.reader = bridge.Login{User: s.cfg.ReadUser, Password: st.ReadPassword}
	if s.cfg.Password != "" {
		s.owner.Password = s.cfg.Password
	}
	if s.cfg.ReadPassword != "" {
		s.reader.Password = s.cfg.ReadPassword
	}
	if s.listener, err = bind(ctx, s.cfg.Listen, st.Port); err != nil {
		return err
	}
	s.addr = s.listener.Addr().String()
	st.Port = s.listener.Addr().(*net.TCPAddr).Port
	err = errors.Join(
		st.save(s.cfg.Dir),
		writeFile(filepath.Join(s.cfg.Dir, configFile), engineConfig(s.cfg.Dir, s.cfg.MemoryBytes)),
		writeFile(filepath.Join(s.cfg.Dir, usersFile), usersConfig(s.cfg.MemoryBytes, s.cfg.Binary != "")),
	)
	if err == nil && s.cfg.Binary != "" {
		err = s.prepareBinary()
	}
	if err != nil {
		s.closeListener()
	}
	return err
}

func (s *Server) closeListener() error {
	if s.listener == nil {
		return nil
	}
	return s.listener.Close()
}

// bringUp starts the child and waits until it answers.
func (s *Server) bringUp(ctx context.Context) (*process, error) {
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	p, err := s.spawn()
	if err != nil {
		return nil, err
	}
	if err := s.awaitReady(ctx, p); err != nil {
		p.kill()
		if p.lostDirectory() {
			return nil, fmt.Errorf("another engine holds the directory: %w", ErrLocked)
		}
		return nil, fmt.Errorf("%w: %w", ErrStart, err)
	}
	s.metrics.startSeconds.Set(time.Since(p.began).Seconds())
	s.enter(Running, p)
	return p, nil
}

// awaitReady waits for the child's report, then for its answer to a statement.
func (s *Server) awaitReady(ctx context.Context, p *process) error {
	select {
	case <-p.ready:
	case <-p.ended:
		return errors.New(p.gone())
	case <-ctx.Done():
		return fmt.Errorf("waiting for the child to answer: %w; its last lines:\n%s", ctx.Err(), p.tail)
	}
	for {
		err := s.createDatabase(ctx)
		if err == nil {
			return nil
		}
		select {
		case <-p.ended:
			return errors.New(p.gone())
		case <-ctx.Done():
			return fmt.Errorf("waiting for the child to answer: %w", err)
		case <-time.After(pingStep):
			if s.cfg.Binary == "" {
				return err // it serves, so this is its answer
			}
		}
	}
}

const pingStep = 50 * time.Millisecond

// createDatabase also proves that the engine takes statements.
func (s *Server) createDatabase(ctx context.Context) error {
	sql := "CREATE DATABASE IF NOT EXISTS `" + strings.NewReplacer("\\", "\\\\", "`", "\\`").Replace(s.cfg.Database) + "`"
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+s.addr+"/", strings.NewReader(sql))
	if err != nil {
		return fmt.Errorf("creating the database: %w", err)
	}
	r.SetBasicAuth(s.owner.User, s.owner.Password)
	answer, err := s.client.Do(r)
	if err != nil {
		return fmt.Errorf("creating the database: %w", err)
	}
	defer answer.Body.Close()
	if text, _ := io.ReadAll(io.LimitReader(answer.Body, 1<<10)); answer.StatusCode != http.StatusOK {
		return fmt.Errorf("creating the database: status %d: %s", answer.StatusCode, strings.TrimSpace(string(text)))
	}
	return nil
}

// supervise keeps a child running until Stop.
func (s *Server) supervise(p *process) {
	defer close(s.done)
	pause := backoff.NewExponentialBackOff(backoff.WithInitialInterval(backoffMin), backoff.WithMaxInterval(backoffMax),
		backoff.WithMultiplier(2), backoff.WithRandomizationFactor(0.2), backoff.WithMaxElapsedTime(0))
	for {
		if p != nil {
			if s.watch(p) {
				s.stopErr = p.stop(s.stopCtx)
				s.finish(Stopped)
				return
			}
			if time.Since(p.began) > steadyAfter {
				pause.Reset()
			}
			s.log.Warn("the embedded ClickHouse has ended and is started again", "exit", p.gone())
		}
		s.enter(Waiting, p)
		select {
		case <-s.quit:
			s.finish(Stopped)
			return
		case <-time.After(pause.NextBackOff()):
		}
		s.metrics.restarts.Inc()
		s.enter(Starting, nil)
		var err error
		if p, err = s.restart(); errors.Is(err, ErrLocked) {
			s.log.Error("another engine holds the directory of the embedded ClickHouse, it is not started again", "dir", s.cfg.Dir)
			s.stopErr = err
			s.finish(Failed)
			return
		} else if err != nil {
			s.log.Warn("the embedded ClickHouse did not start again", "err", err)
			p = nil
		} else {
			s.log.Info("embedded ClickHouse started again", "addr", s.addr, "duration_ms", time.Since(p.began).Milliseconds())
		}
	}
}

// restart is bringUp until Stop.
func (s *Server) restart() (*process, error) {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	go func() {
		select {
		case <-s.quit:
			cancel()
		case <-ctx.Done():
		}
	}()
	return s.bringUp(ctx)
}

// watch returns true when the child is to be stopped, and false when it has ended, or was killed as it no longer answered.
func (s *Server) watch(p *process) (stop bool) {
	tick := time.NewTicker(s.cfg.pace.pingEvery)
	defer tick.Stop()
	for missed := 0; ; {
		select {
		case <-s.quit:
			return true
		case <-p.ended:
			return false
		case <-tick.C:
		}
		if err := s.ping(); err == nil {
			missed = 0
		} else if missed++; missed == pingsToHang {
			s.log.Error("the embedded ClickHouse no longer answers and is killed", "err", err)
			p.kill()
			return false
		}
	}
}

func (s *Server) ping() error {
	ctx, cancel := context.WithTimeout(context.Background(), s.cfg.pace.pingTimeout)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+s.addr+"/ping", nil)
	if err != nil {
		return err
	}
	answer, err := s.client.Do(r)
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	if answer.StatusCode != http.StatusOK {
		return fmt.Errorf("status %d", answer.StatusCode)
	}
	return nil
}

// enter notes a phase. p is the process that it is about, if any.
func (s *Server) enter(phase Phase, p *process) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.state.Phase, s.state.Since, s.state.PID = phase, time.Now(), 0
	switch {
	case phase == Running:
		s.state.PID = p.cmd.Process.Pid
		s.state.Version, s.state.Confined = p.report.Version, p.report.Confined
	case phase == Waiting && p != nil:
		s.state.LastExit = p.gone()
		s.state.Restarts++
	}
}

// finish gives back what Start took.
func (s *Server) finish(phase Phase) {
	s.enter(phase, nil)
	s.stopErr = errors.Join(s.stopErr, s.closeListener(), s.lock.Close())
	s.metrics.unregister()
}

// State says what the server is doing.
func (s *Server) State() State {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.state
}

// Addr is the host:port of the HTTP interface. It does not change while the server lives.
func (s *Server) Addr() string { return s.addr }

// DSN is the address with a login and the database, as clickhouse.ParseDSN of clickhouse-go takes it. It holds the password: it is
// to be shown to the user who owns the directory, and not to be logged.
func (s *Server) DSN(readonly bool) string {
	login := s.owner
	if readonly {
		login = s.reader
	}
	u := url.URL{Scheme: "http", User: url.UserPassword(login.User, login.Password), Host: s.addr, Path: "/" + s.cfg.Database}
	return u.String()
}

// Stop lets running statements end for a while, then the engine, and returns when the child is gone. It kills the child when the
// context ends. A second Stop waits for the first and returns what it did.
func (s *Server) Stop(ctx context.Context) error {
	s.stopOnce.Do(func() {
		s.stopCtx = ctx
		close(s.quit)
	})
	<-s.done
	if s.stopErr != nil {
		return fmt.Errorf("stopping the embedded ClickHouse: %w", s.stopErr)
	}
	return nil
}
