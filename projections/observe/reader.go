package observe

import (
	"context"
	"embed"
	"errors"
	"fmt"
	"regexp"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2"
	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"

	"github.com/tidemark-dev/tidemark/projections/follow"
	"github.com/tidemark-dev/tidemark/projections/warehouse"
	"github.com/tidemark-dev/tidemark/schemas/errcode"
	"github.com/tidemark-dev/tidemark/schemas/stream"
)

// Payloads reads single records of the changes topic. A *follow.PositionError says that the record is gone. It is safe for concurrent
// use. *follow.Fetcher is one.
type Payloads interface {
	Record(ctx context.Context, partition int32, offset int64) (*follow.Record, error)
}

// Config of a Reader. Conn and Database are required.
type Config struct {
	// Conn may belong to a login that only reads, but must be allowed to set bounds: readonly = 2.
	Conn     driver.Conn
	Database string
	// Payloads is nil if payloads cannot be read; then they are as good as gone.
	Payloads Payloads
	// HashID is how facts spell the id of a record where ids are hashed; nil: as it is.
	HashID func(environment, id string) string
	// Timeout bounds a question. Default 10 s.
	Timeout time.Duration
	// RowsMax bounds the rows that a question reads. Default 500 million; those about one record read at most 20 million.
	RowsMax uint64
	// Now is the clock; nil: time.Now.
	Now func() time.Time
}

// Reader asks the views. It is an Ask.
type Reader struct {
	cfg Config
}

var _ Ask = (*Reader)(nil)

// New makes a reader. It does no I/O.
func New(cfg Config) *Reader {
	if cfg.Timeout == 0 {
		cfg.Timeout = 10 * time.Second
	}
	if cfg.RowsMax == 0 {
		cfg.RowsMax = 500e6
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	return &Reader{cfg: cfg}
}

// recordRowsMax bounds what questions about one record read: its granules of each part, and not all of a stream.
const recordRowsMax = 20e6

//go:embed sql/*.sql
var questions embed.FS

// question returns the SQL of a question, as it is in folder sql.
func question(name string) string {
	text, err := questions.ReadFile("sql/" + name + ".sql")
	if err != nil {
		panic("observe: " + err.Error()) // it is compiled in
	}
	return string(text)
}

var viewName = regexp.MustCompile(`\bv1_[a-z_]+`)

// ask runs a question and scans each of its rows. Names of views are those of the database.
func (r *Reader) ask(parent context.Context, name, sql string, rowsMax uint64, args []any, scan func(row driver.Rows) error) error {
	ctx, cancel := r.bounded(parent)
	defer cancel()
	ctx = clickhouse.Context(ctx, clickhouse.WithSettings(clickhouse.Settings{
		"log_comment":        "tidemark:ask-" + name,
		"max_execution_time": r.cfg.Timeout.Seconds(),
		"max_rows_to_read":   min(rowsMax, r.cfg.RowsMax),
		"read_overflow_mode": "throw", "timeout_overflow_mode": "throw",
	}))
	err := r.rows(ctx, viewName.ReplaceAllString(sql, r.cfg.Database+".$0"), args, scan)
	if err != nil {
		return explain(parent, fmt.Errorf("asking for %s: %w", name, err))
	}
	return nil
}

// bounded is a context that ends with its parent, or a while after the server should have ended the question and said why. It has no
// deadline that shows: the client would make a max_execution_time of it, in place of ours.
func (r *Reader) bounded(parent context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(context.WithoutCancel(parent))
	unbind := context.AfterFunc(parent, cancel)
	timer := time.AfterFunc(r.cfg.Timeout+2*time.Second, cancel)
	return ctx, func() {
		timer.Stop()
		unbind()
		cancel()
	}
}

func (r *Reader) rows(ctx context.Context, sql string, args []any, scan func(row driver.Rows) error) error {
	rows, err := r.cfg.Conn.Query(ctx, sql, args...)
	if err != nil {
		return err
	}
	for rows.Next() {
		if err := scan(rows); err != nil {
			return errors.Join(err, rows.Close())
		}
	}
	return errors.Join(rows.Err(), rows.Close())
}

// Codes of ClickHouse's ErrorCodes.cpp.
const (
	codeUnknownTable    = 60
	codeUnknownDatabase = 81
	codeTooManyRows     = 158
	codeTimeout         = 159
	codeMemoryLimit     = 241
	codeTooManyBytes    = 307
)

// explain gives an error the code that a user should see.
func explain(parent context.Context, err error) error {
	code, answered := warehouse.Code(err)
	switch {
	case answered && (code == codeTooManyRows || code == codeTimeout || code == codeMemoryLimit || code == codeTooManyBytes):
		return &errcode.Error{Code: errcode.ObservabilityTooMuch, Err: err}
	case answered && (code == codeUnknownTable || code == codeUnknownDatabase || warehouse.Classify(err) == warehouse.Denied):
		return &errcode.Error{Code: errcode.ObservabilityAway, Detail: "ClickHouse refuses the question: its views are not there, or the login may not read them.", Err: err}
	case answered:
		return err
	case errors.Is(parent.Err(), context.Canceled):
		return parent.Err()
	}
	return &errcode.Error{Code: errcode.ObservabilityAway, Err: err} // of the network, and timeouts
}

// named is a parameter of a question.
func named(name string, value any) any { return clickhouse.Named(name, value) }

const (
	millisText  = "2006-01-02 15:04:05.000"
	secondsText = "2006-01-02 15:04:05"
)

// What columns of times can hold: DateTime64, and DateTime with its 32 bits of seconds. Nothing happened later.
var (
	lastMillis  = TimeOf(time.Date(2299, 12, 31, 0, 0, 0, 0, time.UTC))
	lastSeconds = TimeOf(time.Date(2106, 2, 7, 0, 0, 0, 0, time.UTC))
)

func (t Time) millis() string  { return min(max(t, 0), lastMillis).Std().Format(millisText) }
func (t Time) seconds() string { return min(max(t, 0), lastSeconds).Std().Format(secondsText) }

// floor is the start of the bucket of t.
func (t Time) floor(b Bucket) Time { return t - t%b.Width() }

// ceil is the end of the bucket that ends at or behind t.
func (t Time) ceil(b Bucket) Time { return (t + b.Width() - 1).floor(b) }

// of are the parameters that select streams.
func of(id stream.ID) []any {
	return []any{
		named("environment", id.Environment), named("integration", id.Integration), named("connection", id.Connection),
		named("model", id.Model), named("variant", id.Variant),
	}
}

// args are all parameters of a question about streams and time. The limit is one more, to know whether there is more.
func (q Query) args(more ...any) []any {
	return append(append(of(q.Streams), named("since", q.Since.millis()), named("until", q.Until.millis()), named("limit", q.Limit+1)), more...)
}

func scanID(id *stream.ID) []any {
	return []any{&id.Environment, &id.Integration, &id.Connection, &id.Model, &id.Variant}
}

// list asks for rows of one kind; more says that there are more than the limit.
func list[T any](r *Reader, ctx context.Context, name, sql string, limit int, args []any, scan func(row driver.Rows, t *T) error) (out []T, more bool, err error) {
	out = []T{} // [] in JSON
	err = r.ask(ctx, name, sql, r.cfg.RowsMax, args, func(row driver.Rows) error {
		var t T
		if err := scan(row, &t); err != nil {
			return err
		}
		out = append(out, t)
		return nil
	})
	if err != nil {
		return nil, false, err
	}
	if len(out) > limit {
		return out[:limit], true, nil
	}
	return out, false, nil
}

// at takes a time over that may be NULL. What is not after the epoch stands for none in the views.
func at(t *time.Time) Time {
	if t == nil || t.UnixMilli() <= 0 {
		return 0
	}
	return TimeOf(*t)
}
