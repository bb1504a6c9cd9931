package bridge

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/tidemark-dev/tidemark/deploy/devclickhouse/chdb"
)

const (
	defaultMaxQueries = 16
	waitersPerQuery   = 16
	queueTimeout      = 30 * time.Second
	maxConnections    = 1024
	headerTimeout     = 10 * time.Second
	// Longer than clients keep an idle connection: one that is closed under a client about to use it costs it an error, as the
	// body of an insert cannot be sent twice.
	idleTimeout = 2 * time.Hour
)

// Config of a [Server]. Library, Path and Owner are required.
type Config struct {
	Library *chdb.Library
	// Path is the engine's data directory, ConfigFile its configuration; the latter may be empty.
	Path, ConfigFile string
	// Owner may do all that is not refused; Reader only reads. A Reader without a user is none.
	Owner, Reader Login
	// MaxQueries is how many statements run at a time. Default 16. Sixteen times as many may wait, half a minute each.
	MaxQueries int
	// Logger takes what goes wrong inside the bridge: never a statement or a value of one. nil for none.
	Logger *slog.Logger
}

// Server answers ClickHouse's HTTP interface from an engine in this process. It is safe for concurrent use.
type Server struct {
	cfg      Config
	log      *slog.Logger
	http     *http.Server
	keeper   *chdb.Conn // the engine lives as long as it has a connection
	killer   *killer
	sessions *sessions

	version, displayName, timezone string
	knownSettings                  map[string]bool

	slots   chan struct{} // a statement that runs holds one
	waiting chan struct{} // one that waits for a slot holds one of these
}

// Open starts the engine. The process can have one.
func Open(cfg Config) (*Server, error) {
	if cfg.MaxQueries <= 0 {
		cfg.MaxQueries = defaultMaxQueries
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	if cfg.Owner.User == "" || cfg.Owner.User == cfg.Reader.User {
		return nil, errors.New("opening the bridge: the owner's login must have a name, and not the reader's")
	}
	args := []string{"--path=" + cfg.Path, "--log-level=warning"}
	if cfg.ConfigFile != "" {
		args = append(args, "--config-file="+cfg.ConfigFile)
	}
	keeper, err := cfg.Library.Connect(args...)
	if err != nil {
		return nil, fmt.Errorf("starting the engine: %w", err)
	}
	s := &Server{
		cfg:     cfg,
		log:     cfg.Logger,
		keeper:  keeper,
		slots:   make(chan struct{}, cfg.MaxQueries),
		waiting: make(chan struct{}, cfg.MaxQueries*waitersPerQuery),
	}
	if err := s.ask(); err != nil {
		keeper.Close()
		return nil, fmt.Errorf("asking the engine what it is: %w", err)
	}
	if s.killer, err = newKiller(s); err != nil {
		keeper.Close()
		return nil, fmt.Errorf("opening a second connection: %w", err)
	}
	s.sessions = newSessions()
	s.http = &http.Server{
		Handler:           s,
		ReadHeaderTimeout: headerTimeout,
		IdleTimeout:       idleTimeout,
		ErrorLog:          slog.NewLogLogger(s.log.Handler(), slog.LevelDebug),
	}
	return s, nil
}

// ask reads what the answers need to know about the engine.
func (s *Server) ask() error {
	line, err := s.read("SELECT displayName(), version(), timezone()")
	if err != nil {
		return err
	}
	parts := strings.Split(line, "\t")
	if len(parts) != 3 {
		return fmt.Errorf("it answered %q", line)
	}
	s.displayName, s.version, s.timezone = parts[0], parts[1], parts[2]
	names, err := s.read("SELECT name FROM system.settings")
	if err != nil {
		return err
	}
	s.knownSettings = map[string]bool{}
	for name := range strings.SplitSeq(names, "\n") {
		s.knownSettings[name] = isName(name)
	}
	return nil
}

// isName reports whether the text may stand in a statement as it is.
func isName(s string) bool {
	for i := range len(s) {
		if !isWordByte(s[i]) {
			return false
		}
	}
	return s != ""
}

func (s *Server) read(sql string) (string, error) {
	r, err := s.keeper.Query(sql, "TabSeparated")
	if err != nil {
		return "", err
	}
	defer r.Close()
	return strings.TrimRight(string(r.Bytes()), "\n"), nil
}

// Version is the engine's, such as "26.7.2.1".
func (s *Server) Version() string { return s.version }

// Serve answers on the listener until Close.
func (s *Server) Serve(ln net.Listener) error {
	if err := s.http.Serve(newBoundedListener(ln, maxConnections)); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serving: %w", err)
	}
	return nil
}

// Close lets running statements end until the context does, then kills them, and stops the engine.
func (s *Server) Close(ctx context.Context) error {
	err := s.http.Shutdown(ctx)
	if err != nil {
		s.killer.killAll()
		err = errors.Join(fmt.Errorf("waiting for statements to end: %w", err), s.http.Close())
	}
	// Every running statement holds a slot; none may use the engine when its last connection goes.
	deadline := time.After(5 * time.Second)
	for range cap(s.slots) {
		select {
		case s.slots <- struct{}{}:
		case <-deadline:
			return errors.Join(err, errors.New("closing the engine: a statement does not end"))
		}
	}
	s.sessions.close()
	s.killer.close()
	s.keeper.Close()
	return err
}

// ServeHTTP is the interface as clients see it.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	reads := r.Method == http.MethodGet || r.Method == http.MethodHead
	switch path := r.URL.Path; {
	case r.Method == http.MethodOptions:
		w.WriteHeader(http.StatusNoContent)
	case reads && (path == "/ping" || path == "/replicas_status" || path == "/" && r.URL.RawQuery == ""):
		w.Header().Set("Content-Type", "text/html; charset=UTF-8")
		w.Write([]byte("Ok.\n"))
	case path == "/" && (reads || r.Method == http.MethodPost):
		s.serveQuery(w, r)
	default:
		http.Error(w, "There is no handle "+r.URL.Path, http.StatusNotFound)
	}
}

// acquire takes a slot, or says why there is none.
func (s *Server) acquire(ctx context.Context) (release func(), err error) {
	release = func() { <-s.slots }
	select {
	case s.slots <- struct{}{}:
		return release, nil
	default:
	}
	select {
	case s.waiting <- struct{}{}:
		defer func() { <-s.waiting }()
	default:
		return nil, refuse(codeTooManyQueries, "Too many simultaneous queries. Maximum: %d, and %d are waiting", cap(s.slots), cap(s.waiting))
	}
	timeout := time.NewTimer(queueTimeout)
	defer timeout.Stop()
	select {
	case s.slots <- struct{}{}:
		return release, nil
	case <-ctx.Done():
		return nil, refuse(codeCancelled, "The client has gone")
	case <-timeout.C:
		return nil, refuse(codeTooManyQueries, "Too many simultaneous queries. Maximum: %d, and none has ended for %v", cap(s.slots), queueTimeout)
	}
}

// boundedListener lets a number of connections be open at a time; more wait in the backlog.
type boundedListener struct {
	net.Listener
	open   chan struct{}
	closed chan struct{}
	once   sync.Once
}

func newBoundedListener(ln net.Listener, n int) *boundedListener {
	return &boundedListener{Listener: ln, open: make(chan struct{}, n), closed: make(chan struct{})}
}

func (l *boundedListener) Accept() (net.Conn, error) {
	select {
	case l.open <- struct{}{}:
	case <-l.closed:
		return nil, net.ErrClosed
	}
	c, err := l.Listener.Accept()
	if err != nil {
		<-l.open
		return nil, err
	}
	return &boundedConn{Conn: c, release: sync.OnceFunc(func() { <-l.open })}, nil
}

func (l *boundedListener) Close() error {
	l.once.Do(func() { close(l.closed) })
	return l.Listener.Close()
}

type boundedConn struct {
	net.Conn
	release func()
}

func (c *boundedConn) Close() error {
	defer c.release()
	return c.Conn.Close()
}
