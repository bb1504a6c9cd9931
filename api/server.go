package api

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/gin-gonic/gin"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// Deps is what the server needs of the process around it. All but Observability are required.
type Deps struct {
	View          View
	Observability Observability // nil: there are no projections, and their routes say so
	Logger        *slog.Logger
	Metrics       *Metrics
	Gatherer      prometheus.Gatherer // what /metrics shows
}

// Server answers HTTP requests. Safe for concurrent use.
type Server struct {
	cfg           Config
	view          View
	observability Observability
	log           *slog.Logger
	metrics       *Metrics
	promHandler   http.Handler
	compressor    *compressor
	engine        *gin.Engine
	slots         chan struct{} // one per page in memory
	questions     chan struct{} // one per question under way
	pages         sync.Pool     // of *page
}

// New checks the settings and makes a server. It does no I/O and starts nothing.
func New(cfg Config, deps Deps) (*Server, error) {
	if err := cfg.Validate(); err != nil {
		return nil, fmt.Errorf("checking the api settings: %w", err)
	}
	if deps.View == nil || deps.Logger == nil || deps.Metrics == nil || deps.Gatherer == nil {
		return nil, errors.New("making the api: a dependency is missing")
	}
	compressor, err := newCompressor(cfg.ReadersMax)
	if err != nil {
		return nil, err
	}
	log := deps.Logger.With("component", "api")
	s := &Server{
		cfg:           cfg,
		view:          deps.View,
		observability: deps.Observability,
		log:           log,
		metrics:       deps.Metrics,
		compressor:    compressor,
		promHandler: promhttp.HandlerFor(deps.Gatherer, promhttp.HandlerOpts{
			ErrorLog: slog.NewLogLogger(log.Handler(), slog.LevelWarn),
			Timeout:  cfg.RequestTimeout,
		}),
		slots:     make(chan struct{}, cfg.ReadersMax),
		questions: make(chan struct{}, questionsMax),
		pages:     sync.Pool{New: func() any { return new(page) }},
	}
	gin.SetMode(gin.ReleaseMode) // the other modes print to standard output, which is not ours
	s.engine = gin.New()
	s.engine.RedirectTrailingSlash = false
	s.engine.HandleMethodNotAllowed = true
	s.engine.UseEscapedPath = true      // an encoded slash is part of a parameter
	s.engine.UnescapePathValues = false // gin would make a space of a +; see pathValue
	s.register(s.engine)
	return s, nil
}

// Handler is the whole API, for tests and for embedding. The limits on headers and connections are those of Serve.
func (s *Server) Handler() http.Handler { return s.engine }

// errStopping is the cause of the contexts of requests that outlive the time for shutting down.
var errStopping = errors.New("the server is stopping")

// Serve answers on ln until ctx ends, then lets the requests under way finish for at most Config.ShutdownTimeout, then cancels
// them. It closes ln, and it returns nil after a clean stop. When it has returned nil, no request uses the View any more.
func (s *Server) Serve(ctx context.Context, ln net.Listener) error {
	if reachable(ln.Addr()) {
		s.log.Warn("everybody who reaches this address can read every record: there are no API keys yet", "address", ln.Addr().String())
	}
	base, cancel := context.WithCancelCause(context.WithoutCancel(ctx))
	defer cancel(nil)
	under := newGate()
	srv := &http.Server{
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if !under.enter() {
				panic(http.ErrAbortHandler)
			}
			defer under.leave()
			s.engine.ServeHTTP(w, r)
		}),
		BaseContext:       func(net.Listener) context.Context { return base },
		ReadHeaderTimeout: s.cfg.ReadHeaderTimeout,
		ReadTimeout:       s.cfg.ReadTimeout,
		WriteTimeout:      s.cfg.WriteTimeout,
		IdleTimeout:       s.cfg.IdleTimeout,
		MaxHeaderBytes:    s.cfg.HeaderBytesMax,
		ErrorLog:          slog.NewLogLogger(s.log.Handler(), slog.LevelDebug), // broken clients, mostly
	}
	served := make(chan error, 1)
	go func() { served <- srv.Serve(ln) }()
	var failed error
	select {
	case err := <-served:
		failed = fmt.Errorf("serving http on %s: %w", ln.Addr(), err)
		served <- err
	case <-ctx.Done():
	}

	grace, graceOver := context.WithTimeout(context.WithoutCancel(ctx), s.cfg.ShutdownTimeout)
	defer graceOver()
	if err := srv.Shutdown(grace); err != nil { // time is up, or the listener broke: either way nothing new comes
		s.log.Warn("cutting off requests that outlast the time for shutting down", "shutdown_timeout", s.cfg.ShutdownTimeout, "err", err)
	}
	cancel(errStopping)
	closed := srv.Close()
	<-served
	select {
	case <-under.close():
	case <-time.After(s.cfg.ShutdownTimeout):
		return errors.Join(failed, fmt.Errorf("stopping http: requests still run %s after they were cancelled", s.cfg.ShutdownTimeout))
	}
	if closed != nil && !errors.Is(closed, net.ErrClosed) {
		return errors.Join(failed, fmt.Errorf("closing http connections: %w", closed))
	}
	return failed
}

// gate counts the requests that are inside, and lets none in after it is closed. net/http's own Close does not wait for them.
type gate struct {
	mu     sync.Mutex
	inside int
	closed bool
	empty  chan struct{} // closed when closed and nobody is inside
}

func newGate() *gate { return &gate{empty: make(chan struct{})} }

func (g *gate) enter() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.closed {
		return false
	}
	g.inside++
	return true
}

func (g *gate) leave() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.inside--
	if g.closed && g.inside == 0 {
		close(g.empty)
	}
}

func (g *gate) close() <-chan struct{} {
	g.mu.Lock()
	defer g.mu.Unlock()
	if !g.closed {
		g.closed = true
		if g.inside == 0 {
			close(g.empty)
		}
	}
	return g.empty
}
