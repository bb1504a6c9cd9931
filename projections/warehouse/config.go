package warehouse

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2"
	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"
)

// Topology is what kind of ClickHouse the statements are for. It decides engines and clauses, nothing else: queries are the same.
type Topology string

// Topologies. Those with more than one replica have one shard: rows of a stream must meet. See the package documentation for
// which of them have run.
const (
	Embedded     Topology = "embedded"      // one process of ours; sums partitioned by month
	Single       Topology = "single"        // one server
	Cluster      Topology = "cluster"       // ON CLUSTER and Replicated engines
	ReplicatedDB Topology = "replicated_db" // a database of engine Replicated, made by the operator
	Cloud        Topology = "cloud"         // plain names, for which the service puts its own engines
)

// Retention is how long rows are kept, in days; 0 is for ever. Rows go with their whole part: facts up to a week later, sums up to a day,
// embedded up to a month. A week of facts is what measurements were best with: the history of a record has to look into every partition,
// a day of a large stream into all of one.
type Retention struct {
	Facts, Minute, Hour, Day, Events, Lag int
}

// DefaultRetention keeps the counts of days for ever, so that totals stay exact.
var DefaultRetention = Retention{Facts: 90, Minute: 14, Hour: 400, Day: 0, Events: 400, Lag: 14}

// progressDays is how long rows of _progress are kept. It must exceed the longest rewind.
const progressDays = 7

// Config of a [Warehouse].
type Config struct {
	// DSN is http://, https:// or clickhouse://, as clickhouse-go takes it. Its database, if any, is used unless Database says another.
	DSN string
	// Addr, User and Password are for native connections without a DSN.
	Addr     []string
	User     string
	Password string
	TLS      *tls.Config

	Database  string   // "": tidemark
	Topology  Topology // "": Single
	Cluster   string   // Topology Cluster: its name
	Retention *Retention
	// BlockRows bounds the rows of one INSERT. 0: 200,000. It is halved while the server lacks memory.
	BlockRows int
	// Timeout of one statement. 0: 120 s.
	Timeout time.Duration
	// MaxConns bounds connections. 0: 10, which is one a table and two.
	MaxConns int
	Log      *slog.Logger // nil: nothing is logged
}

// Warehouse is a database of projections. It is safe for concurrent use.
type Warehouse struct {
	cfg  Config
	keep Retention
	conn driver.Conn
	http bool
	// encoded has blocks sent as we encode them; only HTTP takes them.
	encoded bool
	log     *slog.Logger
	block   blockSize
	pool    batchPool
}

var nameMatch = regexp.MustCompile(`^[A-Za-z][A-Za-z0-9_]{0,63}$`)

// Open prepares connections; it does not connect. Errors are about the configuration.
func Open(cfg Config) (*Warehouse, error) {
	opt := &clickhouse.Options{Addr: cfg.Addr, Auth: clickhouse.Auth{Username: cfg.User, Password: cfg.Password}, TLS: cfg.TLS}
	switch {
	case cfg.DSN != "":
		var err error
		if opt, err = clickhouse.ParseDSN(cfg.DSN); err != nil {
			return nil, fmt.Errorf("reading DSN: %w", err)
		}
		if scheme, _, _ := strings.Cut(cfg.DSN, "://"); !slices.Contains([]string{"http", "https", "clickhouse", "tcp"}, scheme) {
			return nil, fmt.Errorf("reading DSN: %q is not http, https or clickhouse", scheme)
		}
	case len(cfg.Addr) == 0:
		return nil, errors.New("opening warehouse: neither a DSN nor an address is given")
	}
	if cfg.Database == "" {
		cfg.Database = opt.Auth.Database
	}
	if cfg.Database == "" || cfg.Database == "default" {
		cfg.Database = "tidemark"
	}
	if !nameMatch.MatchString(cfg.Database) {
		return nil, fmt.Errorf("opening warehouse: %q is no name for a database", cfg.Database)
	}
	opt.Auth.Database = "" // names are qualified, and the database may have yet to be made
	if cfg.Topology == "" {
		cfg.Topology = Single
	}
	if !slices.Contains([]Topology{Embedded, Single, Cluster, ReplicatedDB, Cloud}, cfg.Topology) {
		return nil, fmt.Errorf("opening warehouse: unknown topology %q", cfg.Topology)
	}
	if (cfg.Topology == Cluster) != (cfg.Cluster != "") || cfg.Cluster != "" && !nameMatch.MatchString(cfg.Cluster) {
		return nil, fmt.Errorf("opening warehouse: topology %q and cluster name %q do not go together", cfg.Topology, cfg.Cluster)
	}
	w := &Warehouse{cfg: cfg, keep: DefaultRetention, http: opt.Protocol == clickhouse.HTTP, log: cfg.Log}
	if cfg.Retention != nil {
		w.keep = *cfg.Retention
	}
	w.encoded = w.http
	if w.log == nil {
		w.log = slog.New(slog.DiscardHandler)
	}
	w.block.max = int64(orDefault(cfg.BlockRows, 200_000))
	w.cfg.Timeout = orDefault(cfg.Timeout, 120*time.Second)
	opt.MaxOpenConns = orDefault(cfg.MaxConns, 10)
	opt.MaxIdleConns = opt.MaxOpenConns
	opt.ConnMaxLifetime = 10 * time.Minute
	opt.DialTimeout = 5 * time.Second
	opt.ReadTimeout = longTimeout + 10*time.Second // contexts come first
	opt.ConnOpenStrategy = clickhouse.ConnOpenRoundRobin
	opt.ClientInfo.Products = append(opt.ClientInfo.Products, struct{ Name, Version string }{"tidemark", "1"})
	if !w.http && opt.Compression == nil {
		opt.Compression = &clickhouse.Compression{Method: clickhouse.CompressionLZ4}
	}
	var err error
	if w.conn, err = clickhouse.Open(opt); err != nil {
		return nil, fmt.Errorf("opening warehouse: %w", err)
	}
	return w, nil
}

func orDefault[T comparable](v, def T) T {
	var zero T
	if v == zero {
		return def
	}
	return v
}

// Close closes idle connections. Nothing may be in progress.
func (w *Warehouse) Close() error { return w.conn.Close() }

// Ping reports whether the server answers, within five seconds.
func (w *Warehouse) Ping(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	return w.conn.Ping(ctx)
}

// Database is the name of the database.
func (w *Warehouse) Database() string { return w.cfg.Database }

// Conn is for readers of the views. Its settings are the server's.
func (w *Warehouse) Conn() driver.Conn { return w.conn }

// exec runs a statement that the caller may repeat. comment shows up in the server's lists of queries.
func (w *Warehouse) exec(ctx context.Context, comment, sql string, args ...any) error {
	ctx, cancel := w.context(ctx, comment, nil)
	defer cancel()
	return w.conn.Exec(ctx, sql, args...)
}

// longTimeout is for statements that go over whole tables.
const longTimeout = 2 * time.Hour

// long is context for a statement that goes over whole tables.
func (w *Warehouse) long(ctx context.Context, comment string) (context.Context, context.CancelFunc) {
	return w.within(ctx, longTimeout, comment, nil)
}

// execLong is exec for a statement that goes over whole tables.
func (w *Warehouse) execLong(ctx context.Context, comment, sql string) error {
	ctx, cancel := w.within(ctx, longTimeout, comment, insertSettings)
	defer cancel()
	return w.conn.Exec(ctx, sql)
}

// scalar reads the one value of a query.
func (w *Warehouse) scalar(ctx context.Context, comment, sql string, into any, args ...any) error {
	ctx, cancel := w.context(ctx, comment, nil)
	defer cancel()
	return w.conn.QueryRow(ctx, sql, args...).Scan(into)
}

// context adds the timeout of one statement and the settings that all statements have.
func (w *Warehouse) context(ctx context.Context, comment string, more clickhouse.Settings,
	opts ...clickhouse.QueryOption) (context.Context, context.CancelFunc) {
	return w.within(ctx, w.cfg.Timeout, comment, more, opts...)
}

// grace is how much longer the client waits than the server works, so that it is the server that ends a statement, and says why.
const grace = 2 * time.Second

// within bounds a statement by limit and by the deadline of ctx, whichever is first.
func (w *Warehouse) within(ctx context.Context, limit time.Duration, comment string, more clickhouse.Settings,
	opts ...clickhouse.QueryOption) (context.Context, context.CancelFunc) {
	bound := limit
	if deadline, ok := ctx.Deadline(); ok {
		bound = max(min(bound, time.Until(deadline)), time.Millisecond) // 0 would be no bound
	}
	settings := clickhouse.Settings{"log_comment": "tidemark:" + comment, "max_execution_time": bound.Seconds(), "timeout_overflow_mode": "throw"}
	for k, v := range more {
		settings[k] = v
	}
	if w.http {
		settings["wait_end_of_query"] = 1
	}
	ctx, cancel := context.WithTimeout(ctx, limit+grace)
	return clickhouse.Context(undated{ctx}, append(opts, clickhouse.WithSettings(settings))...), cancel
}

// undated ends with its parent but does not say when: the driver would put that and five seconds in place of max_execution_time.
type undated struct{ context.Context }

func (undated) Deadline() (time.Time, bool) { return time.Time{}, false }
