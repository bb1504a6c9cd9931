package devclickhouse

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"path/filepath"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/tidemark-dev/tidemark/deploy/devclickhouse/library"
)

const (
	defaultMemoryBytes = 2 << 30
	minMemoryBytes     = 256 << 20
	defaultMaxQueries  = 16
	defaultUser        = "tidemark"
	defaultReadUser    = "reader"
	defaultDatabase    = "default"
)

// Config says where the engine keeps its data and how it is reached. Dir is required; the zero value of every other field stands
// for its default.
type Config struct {
	// Dir holds everything, see the package documentation. It is created with mode 0700. A directory with files in it that are
	// not the engine's is refused.
	Dir string
	// Listen is host:port on loopback, default "127.0.0.1:0". Port 0 stands for the port of the last start on this directory when
	// that is free, else for a free one.
	Listen string
	// AllowNonLoopback permits a Listen host other than loopback. The connection is not encrypted.
	AllowNonLoopback bool
	// Database is created at the start and is the one in the DSN. Default "default".
	Database string
	// User and Password are the login that may write, default "tidemark" and a random one that is kept in Dir.
	User, Password string
	// ReadUser and ReadPassword are the login that only reads, default "reader" and a random one that is kept in Dir.
	ReadUser, ReadPassword string
	// MemoryBytes is what the child should stay within, default 2 GiB, at least 256 MiB. The engine's own limit is half of it.
	MemoryBytes int64
	// MaxQueries is how many statements run at a time. Default 16.
	MaxQueries int

	// Library is the path of libchdb; empty for what [library.Find] finds.
	Library string
	// NoFetch has Start fail with library.ErrMissing instead of fetching the library.
	NoFetch bool
	// Progress is called while the library is fetched; nil for none.
	Progress func(library.Progress)
	// Binary is the path of a clickhouse binary to run instead of the library: "clickhouse server" under the same supervisor. The
	// confinement (C6), the refused statements and the kept address (C3) are the bridge's and the library's, and are not to be
	// had there. Untried: there was no binary to run it with.
	Binary string

	// Logger takes the supervisor's log lines; nil for none.
	Logger *slog.Logger
	// Registerer takes the metrics until Stop; nil for none.
	Registerer prometheus.Registerer

	pace pace // of a test
}

// pace is how often the child is asked for a sign of life, and how long it may take to give one.
type pace struct{ pingEvery, pingTimeout time.Duration }

// withDefaults returns the config filled in, or everything that is wrong with it.
func (c Config) withDefaults() (Config, error) {
	var errs []error
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }

	if c.Dir == "" {
		bad("data directory is not set")
	} else if dir, err := filepath.Abs(c.Dir); err != nil {
		bad("resolving the data directory: %w", err)
	} else {
		c.Dir = dir
	}
	if c.Listen == "" {
		c.Listen = "127.0.0.1:0"
	}
	if err := checkListen(c.Listen, c.AllowNonLoopback); err != nil {
		errs = append(errs, err)
	}
	if c.MemoryBytes == 0 {
		c.MemoryBytes = defaultMemoryBytes
	}
	if c.MemoryBytes < minMemoryBytes {
		bad("memory of %d MB is less than the %d MB that the engine needs", c.MemoryBytes>>20, int64(minMemoryBytes)>>20)
	}
	if c.MaxQueries == 0 {
		c.MaxQueries = defaultMaxQueries
	}
	if c.MaxQueries < 0 {
		bad("number of queries %d is negative", c.MaxQueries)
	}
	for field, def := range map[*string]string{&c.User: defaultUser, &c.ReadUser: defaultReadUser, &c.Database: defaultDatabase} {
		if *field == "" {
			*field = def
		}
	}
	if c.User == c.ReadUser {
		bad("both logins are called %q", c.User)
	}
	if c.pace == (pace{}) {
		c.pace = pace{pingEvery: pingEvery, pingTimeout: pingTimeout}
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	c.Logger = c.Logger.With("component", "devclickhouse")
	return c, errors.Join(errs...)
}

func checkListen(listen string, allowNonLoopback bool) error {
	host, port, err := net.SplitHostPort(listen)
	if err != nil {
		return fmt.Errorf("reading listen address %q, which must be host:port: %w", listen, err)
	}
	if _, err := strconv.ParseUint(port, 10, 16); err != nil {
		return fmt.Errorf("reading the port of listen address %q: %w", listen, err)
	}
	ip, err := netip.ParseAddr(host)
	if loopback := host == "localhost" || err == nil && ip.IsLoopback(); !loopback && !allowNonLoopback {
		return fmt.Errorf("listen address %q is not loopback, and the connection is not encrypted: allow it explicitly", listen)
	}
	return nil
}

// Bounds of the supervisor.
const (
	startTimeout  = time.Minute
	stopTimeout   = 20 * time.Second // the child gives its statements half of it
	backoffMin    = 100 * time.Millisecond
	backoffMax    = 5 * time.Second
	steadyAfter   = 30 * time.Second // a child that ran this long starts the back-off anew
	pingEvery     = 5 * time.Second
	pingTimeout   = 5 * time.Second
	pingsToHang   = 6
	bindRetry     = 3 * time.Second // a child of a killed parent may hold the port, and the lock, this long
	bindRetryStep = 20 * time.Millisecond
)
