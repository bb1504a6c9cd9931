package devclickhouse_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2"
	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"

	"github.com/tidemark-dev/tidemark/deploy/devclickhouse"
	"github.com/tidemark-dev/tidemark/deploy/devclickhouse/chtest"
)

func TestMain(m *testing.M) {
	if devclickhouse.RunChild() {
		return
	}
	if text := os.Getenv(parentEnv); text != "" {
		runParent(text)
		return
	}
	if path := os.Getenv(binaryEnv); path != "" {
		runBinary(path)
		return
	}
	code := m.Run()
	if shared.server != nil {
		ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
		if err := shared.server.Stop(ctx); err != nil {
			fmt.Fprintln(os.Stderr, err)
			code = max(code, 1)
		}
		cancel()
		os.RemoveAll(shared.dir)
	}
	os.Exit(code)
}

// shared is the engine that tests use which do it no harm; each has a database of its own.
var shared struct {
	once   sync.Once
	server *devclickhouse.Server
	dir    string
	err    error
}

func server(t testing.TB) *devclickhouse.Server {
	t.Helper()
	library := chtest.Library(t)
	shared.once.Do(func() {
		if shared.dir, shared.err = os.MkdirTemp("", "devclickhouse-"); shared.err != nil {
			return
		}
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		shared.server, shared.err = devclickhouse.Start(ctx, devclickhouse.Config{Dir: shared.dir, Library: library, MemoryBytes: 1 << 30, MaxQueries: sharedQueries})
	})
	must(t, shared.err)
	return shared.server
}

const sharedQueries = 4

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func ctxOf(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Second)
	t.Cleanup(cancel)
	return ctx
}

// open connects clickhouse-go.
func open(t testing.TB, s *devclickhouse.Server, edits ...func(*clickhouse.Options)) driver.Conn {
	t.Helper()
	o, err := clickhouse.ParseDSN(s.DSN(false))
	must(t, err)
	for _, edit := range edits {
		edit(o)
	}
	c, err := clickhouse.Open(o)
	must(t, err)
	t.Cleanup(func() { c.Close() })
	return c
}

// readerLogin has open use the login that only reads.
func readerLogin(t testing.TB, s *devclickhouse.Server) func(*clickhouse.Options) {
	return func(o *clickhouse.Options) {
		r, err := clickhouse.ParseDSN(s.DSN(true))
		must(t, err)
		o.Auth.Username, o.Auth.Password = r.Auth.Username, r.Auth.Password
	}
}

// database makes a database for the test, and has open use it.
func database(t testing.TB, s *devclickhouse.Server) (name string, use func(*clickhouse.Options)) {
	t.Helper()
	name = strings.NewReplacer("/", "_", "#", "_", "-", "_").Replace(t.Name())
	run(t, open(t, s), "CREATE DATABASE `"+name+"`")
	return name, func(o *clickhouse.Options) { o.Auth.Database = name }
}

func run(t testing.TB, c driver.Conn, sql string, args ...any) {
	t.Helper()
	if err := c.Exec(ctxOf(t), sql, args...); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
}

func count(t testing.TB, c driver.Conn, sql string, args ...any) (n uint64) {
	t.Helper()
	if err := c.QueryRow(ctxOf(t), sql, args...).Scan(&n); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
	return n
}

// wantCode fails unless the error is the engine's or the bridge's with this code.
func wantCode(t testing.TB, err error, code int32) {
	t.Helper()
	var e *clickhouse.Exception
	if !errors.As(err, &e) || e.Code != code {
		t.Errorf("error is %v, want code %d", err, code)
	}
}

// response is an HTTP answer, read.
type response struct {
	*http.Response
	text string
	err  error // of reading the body
}

func (r response) code() string { return r.Header.Get("X-ClickHouse-Exception-Code") }

// call is one HTTP request with the owner's login, unless the parameters name another.
func call(t testing.TB, s *devclickhouse.Server, method string, params url.Values, body io.Reader, header ...string) response {
	t.Helper()
	r, err := http.NewRequestWithContext(ctxOf(t), method, "http://"+s.Addr()+"/?"+params.Encode(), body)
	must(t, err)
	if !params.Has("user") {
		u, err := url.Parse(s.DSN(false))
		must(t, err)
		password, _ := u.User.Password()
		r.SetBasicAuth(u.User.Username(), password)
	}
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	answer, err := plainHTTP.Do(r)
	must(t, err)
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	return response{answer, string(text), err}
}

// plainHTTP asks for no compression of its own accord.
var plainHTTP = &http.Client{Transport: &http.Transport{DisableCompression: true, DisableKeepAlives: true}}

func post(t testing.TB, s *devclickhouse.Server, sql string, params ...string) response {
	t.Helper()
	return call(t, s, http.MethodPost, pairs(params...), strings.NewReader(sql))
}

func pairs(params ...string) url.Values {
	v := url.Values{}
	for i := 0; i < len(params); i += 2 {
		v.Add(params[i], params[i+1])
	}
	return v
}

// readerParams are the parameters that log the reader in.
func readerParams(t testing.TB, s *devclickhouse.Server, more ...string) url.Values {
	u, err := url.Parse(s.DSN(true))
	must(t, err)
	password, _ := u.User.Password()
	return pairs(append(more, "user", u.User.Username(), "password", password)...)
}

// eventually polls until the condition holds.
func eventually(t testing.TB, what string, done func() bool) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); !done(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("waited in vain for %s", what)
		}
	}
}
