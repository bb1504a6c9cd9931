package api_test

import (
	"bytes"
	"context"
	"encoding/json"
	"flag"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"runtime"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/tidemark-dev/tidemark/api"
	"github.com/tidemark-dev/tidemark/api/apitest"
	"github.com/tidemark-dev/tidemark/schemas/errcode"
)

// No test leaves a goroutine behind.
func TestMain(m *testing.M) {
	before := runtime.NumGoroutine()
	code := m.Run()
	if code == 0 && flag.Lookup("test.fuzz").Value.String() == "" { // the fuzzing engine keeps some of its own
		http.DefaultClient.CloseIdleConnections()
		deadline := time.Now().Add(5 * time.Second)
		for runtime.NumGoroutine() > before {
			if time.Now().After(deadline) {
				stacks := make([]byte, 1<<20)
				os.Stderr.Write(stacks[:runtime.Stack(stacks, true)])
				os.Stderr.WriteString("goroutines are left over\n")
				os.Exit(1)
			}
			<-time.After(time.Millisecond)
		}
	}
	os.Exit(code)
}

// fixture is a server with its metrics and its log.
type fixture struct {
	view *apitest.Memory
	srv  *api.Server
	reg  *prometheus.Registry
	log  *lockedBuffer
}

type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

func newFixture(t *testing.T, level slog.Level, change func(*api.Config)) *fixture {
	t.Helper()
	f := &fixture{view: apitest.NewMemory(), reg: prometheus.NewRegistry(), log: &lockedBuffer{}}
	cfg := api.DefaultConfig()
	cfg.Lineage = "test"
	if change != nil {
		change(&cfg)
	}
	var err error
	f.srv, err = api.New(cfg, api.Deps{View: f.view, Logger: slog.New(slog.NewJSONHandler(f.log, &slog.HandlerOptions{Level: level})), Metrics: api.NewMetrics(f.reg), Gatherer: f.reg})
	if err != nil {
		t.Fatal(err)
	}
	apply(t, f.view, benchStream, apitest.Change{ID: "a", Payload: []byte(`{"v":"payload text"}`)})
	return f
}

func eventually(t *testing.T, what string, done func() bool) {
	t.Helper()
	deadline := time.Now().Add(10 * time.Second)
	for !done() {
		if time.Now().After(deadline) {
			t.Fatalf("not within 10 s: %s", what)
		}
		<-time.After(time.Millisecond)
	}
}

func TestHealth(t *testing.T) {
	f := newFixture(t, slog.LevelInfo, nil)
	waiting := []api.Condition{{Component: "follower", Partition: 3, Reason: `it is 12 "records" behind`}, {Component: "broker", Partition: -1, Reason: "no answer"}}
	for _, c := range []struct {
		path, accept string
		waiting      []api.Condition
		status       int
		want         string
	}{
		{"/livez", "", nil, 200, `{"alive":true}` + "\n"},
		{"/livez", "text/plain", waiting, 200, "alive\n"},
		{"/readyz", "", nil, 200, `{"ready":true,"conditions":[]}` + "\n"},
		{"/readyz", "*/*", nil, 200, `{"ready":true,"conditions":[]}` + "\n"},
		{"/readyz", "text/plain", nil, 200, "ready\n"},
		{"/readyz", "application/json, text/plain", waiting, 503, `{"ready":false,"conditions":[{"component":"follower","partition":3,"reason":"it is 12 \"records\" behind"},{"component":"broker","partition":null,"reason":"no answer"}]}` + "\n"},
		{"/readyz", "text/plain, application/json", waiting, 503, "not ready\nfollower, partition 3: it is 12 \"records\" behind\nbroker: no answer\n"},
		{"/readyz", "image/png", waiting[1:], 503, `{"ready":false,"conditions":[{"component":"broker","partition":null,"reason":"no answer"}]}` + "\n"},
	} {
		f.view.SetWaiting(c.waiting...)
		w := askWith(f.srv.Handler(), c.path, func(r *http.Request) { r.Header.Set("Accept", c.accept) })
		if w.Code != c.status || w.Body.String() != c.want || w.Header().Get("Cache-Control") != "no-store" {
			t.Errorf("%s with Accept %q: status %d\ngot  %swant %s", c.path, c.accept, w.Code, w.Body, c.want)
		}
		plain := strings.HasPrefix(w.Header().Get("Content-Type"), "text/plain")
		if plain == strings.HasPrefix(c.want, "{") {
			t.Errorf("%s with Accept %q: Content-Type %q", c.path, c.accept, w.Header().Get("Content-Type"))
		}
		if retry := w.Header().Get("Retry-After"); (retry != "") != (c.status == 503) {
			t.Errorf("%s: Retry-After %q with status %d", c.path, retry, c.status)
		}
	}
}

func TestRouting(t *testing.T) {
	f := newFixture(t, slog.LevelInfo, nil)
	for _, c := range []struct {
		method, path string
		status       int
		code         errcode.Code
		contentType  string
	}{
		{"GET", "/records/?model=Contact", 200, "", "application/json; charset=utf-8"},
		{"GET", "/", 404, errcode.UnknownRoute, "application/json; charset=utf-8"},
		{"GET", "/record", 404, errcode.UnknownRoute, "application/json; charset=utf-8"},
		{"GET", "/records//", 404, errcode.UnknownRoute, "application/json; charset=utf-8"},
		{"GET", "/RECORDS", 404, errcode.UnknownRoute, "application/json; charset=utf-8"},
		{"GET", "/livez/", 404, errcode.UnknownRoute, "application/json; charset=utf-8"},
		{"GET", "/v1/", 404, errcode.UnknownRoute, "application/problem+json"},
		{"GET", "/v1/cursors/", 404, errcode.UnknownRoute, "application/problem+json"},
		{"POST", "/records", 405, errcode.MethodNotAllowed, "application/json; charset=utf-8"},
		{"OPTIONS", "/records", 405, errcode.MethodNotAllowed, "application/json; charset=utf-8"},
		{"DELETE", "/v1/cursors/x", 405, errcode.MethodNotAllowed, "application/problem+json"},
	} {
		w := askWith(f.srv.Handler(), c.path, func(r *http.Request) { r.Method = c.method })
		if w.Code != c.status || w.Header().Get("Content-Type") != c.contentType || !strings.Contains(w.Body.String(), `"`+string(c.code)) {
			t.Errorf("%s %s: status %d, %s: %s", c.method, c.path, w.Code, w.Header().Get("Content-Type"), w.Body)
		}
		if c.status == 405 && w.Header().Get("Allow") != "GET" {
			t.Errorf("%s %s: Allow is %q", c.method, c.path, w.Header().Get("Allow"))
		}
	}
	w := askWith(f.srv.Handler(), "/records?model=Contact", func(r *http.Request) { r.ContentLength = 1<<20 + 1 })
	if w.Code != 400 || !strings.Contains(w.Body.String(), `"code":"invalid_body"`) || w.Header().Get("Connection") != "close" {
		t.Errorf("a large body: status %d: %s", w.Code, w.Body)
	}
}

func TestRequestID(t *testing.T) {
	f := newFixture(t, slog.LevelInfo, nil)
	seen := map[string]bool{}
	for _, c := range []struct {
		sent string
		kept bool
	}{
		{"abc-DEF_123", true}, {strings.Repeat("x", 64), true}, {strings.Repeat("x", 65), false}, {"", false}, {"a b", false}, {"a\"b", false}, {"é", false},
	} {
		w := askWith(f.srv.Handler(), "/nothing", func(r *http.Request) { r.Header.Set("X-Request-Id", c.sent) })
		got := w.Header().Get("X-Request-Id")
		if (got == c.sent) != c.kept || got == "" || seen[got] {
			t.Errorf("sent %q, got %q", c.sent, got)
		}
		seen[got] = true
		var body rootError
		if err := json.Unmarshal(w.Body.Bytes(), &body); err != nil || body.Error.RequestID != got {
			t.Errorf("the body has request id %q, the header %q (%v)", body.Error.RequestID, got, err)
		}
	}
}

func TestPanic_IsAServerErrorThatTellsNothing(t *testing.T) {
	f := newFixture(t, slog.LevelInfo, nil)
	f.view.SetHold(func(context.Context) error { panic("the secret reason") })
	w := askWith(f.srv.Handler(), "/records?model=Contact", func(r *http.Request) { r.Header.Set("X-Request-Id", "req-1") })
	var got rootError
	if err := json.Unmarshal(w.Body.Bytes(), &got); err != nil {
		t.Fatal(err)
	}
	if w.Code != 500 || got.Error.Code != errcode.ServerError || got.Error.RequestID != "req-1" || strings.Contains(w.Body.String(), "secret") {
		t.Errorf("status %d: %s", w.Code, w.Body)
	}
	for _, part := range []string{"the secret reason", "req-1", "server_test.go", `"level":"ERROR"`} {
		if !strings.Contains(f.log.String(), part) {
			t.Errorf("the log has no %q: %s", part, f.log.String())
		}
	}
	f.view.SetHold(nil)
	if w := ask(f.srv.Handler(), "/records?model=Contact"); w.Code != 200 {
		t.Errorf("afterwards: status %d", w.Code)
	}
}

func TestLog_QuietWhenHealthyAndNeverPayloads(t *testing.T) {
	for level, lines := range map[slog.Level]int{slog.LevelInfo: 0, slog.LevelDebug: 2} {
		f := newFixture(t, level, nil)
		ask(f.srv.Handler(), "/records?model=Contact&ids=a&ids=private-id")
		ask(f.srv.Handler(), "/records?model=contact")
		log := f.log.String()
		if n := strings.Count(log, "\n"); n != lines {
			t.Errorf("at %s: %d lines, want %d: %s", level, n, lines, log)
		}
		for _, private := range []string{"payload text", "private-id", "acme"} {
			if strings.Contains(log, private) {
				t.Errorf("the log tells %q: %s", private, log)
			}
		}
		if lines > 0 && !strings.Contains(log, `"route":"/records","status":400`) {
			t.Errorf("the access log lacks route or status: %s", log)
		}
	}
}

func TestMetrics(t *testing.T) {
	f := newFixture(t, slog.LevelInfo, nil)
	apply(t, f.view, benchStream, apitest.Change{ID: "b", Payload: []byte(`{}`)})
	for _, path := range []string{
		"/records?model=Contact", "/records/?model=Contact&limit=1", "/records?model=Contact&filter=deleted", "/records?model=Contact&cursor=x",
		"/v1/cursors/x", "/v1/cursors/y", "/nothing", "/nothing/else", "/readyz",
	} {
		ask(f.srv.Handler(), path)
	}
	want := `
# HELP tidemark_api_cursor_errors_total Cursors refused, by error code.
# TYPE tidemark_api_cursor_errors_total counter
tidemark_api_cursor_errors_total{code="cursor.malformed"} 3
# HELP tidemark_api_inflight_requests Requests under way.
# TYPE tidemark_api_inflight_requests gauge
tidemark_api_inflight_requests 0
# HELP tidemark_api_page_records Records of a page.
# TYPE tidemark_api_page_records histogram
tidemark_api_page_records_bucket{le="0"} 1
tidemark_api_page_records_bucket{le="1"} 2
tidemark_api_page_records_bucket{le="10"} 3
tidemark_api_page_records_bucket{le="100"} 3
tidemark_api_page_records_bucket{le="1000"} 3
tidemark_api_page_records_bucket{le="10000"} 3
tidemark_api_page_records_bucket{le="+Inf"} 3
tidemark_api_page_records_sum 3
tidemark_api_page_records_count 3
# HELP tidemark_api_requests_total Requests answered, by route and status code; 499: the client did not wait.
# TYPE tidemark_api_requests_total counter
tidemark_api_requests_total{code="200",route="/readyz"} 1
tidemark_api_requests_total{code="200",route="/records"} 3
tidemark_api_requests_total{code="400",route="/records"} 1
tidemark_api_requests_total{code="400",route="/v1/cursors/{cursor}"} 2
tidemark_api_requests_total{code="404",route="unmatched"} 2
# HELP tidemark_api_waiting_readers Reads that wait because readers_max pages are in memory.
# TYPE tidemark_api_waiting_readers gauge
tidemark_api_waiting_readers 0
`
	err := testutil.GatherAndCompare(f.reg, strings.NewReader(want), "tidemark_api_cursor_errors_total", "tidemark_api_inflight_requests",
		"tidemark_api_page_records", "tidemark_api_requests_total", "tidemark_api_waiting_readers")
	if err != nil {
		t.Error(err)
	}
	w := ask(f.srv.Handler(), "/metrics")
	for _, line := range []string{`tidemark_api_request_duration_seconds_count{route="/records"} 4`, `tidemark_api_page_bytes_count 3`} {
		if w.Code != 200 || !strings.Contains(w.Body.String(), line+"\n") {
			t.Errorf("status %d, /metrics has no line %q", w.Code, line)
		}
	}
	if problems, err := testutil.GatherAndLint(f.reg); err != nil || len(problems) != 0 {
		t.Errorf("lint: %v %v", problems, err)
	}
}

func TestCompression(t *testing.T) {
	const path = "/records?model=Contact&limit=1000"
	for _, c := range []struct {
		name, accept, from string
		proxied            bool
		loopbackToo        bool
		records            int
		want               string
	}{
		{"zstd", "gzip, zstd", "192.0.2.1:1234", false, false, 50, "zstd"},
		{"gzip", "gzip, deflate, br", "192.0.2.1:1234", false, false, 50, "gzip"},
		{"not asked", "", "192.0.2.1:1234", false, false, 50, ""},
		{"asked for others", "br", "192.0.2.1:1234", false, false, 50, ""},
		{"too small", "zstd", "192.0.2.1:1234", false, false, 1, ""},
		{"same machine", "zstd", "127.0.0.1:1234", false, false, 50, ""},
		{"same machine, IPv6", "zstd", "[::1]:1234", false, false, 50, ""},
		{"same machine, set", "zstd", "127.0.0.1:1234", false, true, 50, "zstd"},
		{"proxy on the same machine", "zstd", "127.0.0.1:1234", true, false, 50, "zstd"},
	} {
		t.Run(c.name, func(t *testing.T) {
			f := newFixture(t, slog.LevelInfo, func(cfg *api.Config) { cfg.CompressLoopback = c.loopbackToo })
			for i := range c.records - 1 {
				apply(t, f.view, benchStream, apitest.Change{ID: strings.Repeat("x", i+1), Payload: []byte(`{}`)})
			}
			plain := ask(f.srv.Handler(), path).Body.Bytes()
			for range 3 { // encoders and buffers are used again
				w := askWith(f.srv.Handler(), path, func(r *http.Request) {
					r.RemoteAddr = c.from
					r.Header.Set("Accept-Encoding", c.accept)
					if c.proxied {
						r.Header.Set("X-Forwarded-For", "192.0.2.1")
					}
				})
				if got := w.Header().Get("Content-Encoding"); got != c.want {
					t.Fatalf("Content-Encoding %q, want %q", got, c.want)
				}
				if w.Header().Get("Vary") != "Accept-Encoding" {
					t.Error("no Vary header")
				}
				var body io.Reader = w.Body
				switch c.want {
				case "zstd":
					z, err := zstd.NewReader(body)
					if err != nil {
						t.Fatal(err)
					}
					defer z.Close()
					body = z
				case "gzip":
					z, err := gzip.NewReader(body)
					if err != nil {
						t.Fatal(err)
					}
					body = z
				}
				if c.want != "" && w.Body.Len() > len(plain)/4 {
					t.Errorf("%d bytes became %d", len(plain), w.Body.Len())
				}
				got, err := io.ReadAll(body)
				if err != nil || !bytes.Equal(got, plain) {
					t.Errorf("the decoded body differs: %v", err)
				}
			}
		})
	}
}

// A read that takes too long ends with an answer, and one that waits for its turn does too.
func TestRequestTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t, slog.LevelInfo, func(c *api.Config) { c.ReadersMax = 1 })
		f.view.SetHold(func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() })
		start := time.Now()
		var requests sync.WaitGroup
		for range 2 {
			requests.Go(func() {
				w := ask(f.srv.Handler(), "/records?model=Contact")
				if w.Code != 500 || !strings.Contains(w.Body.String(), "The answer took too long.") {
					t.Errorf("status %d: %s", w.Code, w.Body)
				}
			})
		}
		requests.Wait()
		if took := time.Since(start); took != api.DefaultConfig().RequestTimeout {
			t.Errorf("took %s", took)
		}
	})
}

// Reads wait for their turn, and get it.
func TestReadersMax(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t, slog.LevelInfo, func(c *api.Config) { c.ReadersMax = 2 })
		gate := make(chan struct{})
		f.view.SetHold(func(context.Context) error { <-gate; return nil })
		var requests sync.WaitGroup
		for range 5 {
			requests.Go(func() {
				if w := ask(f.srv.Handler(), "/records?model=Contact"); w.Code != 200 {
					t.Errorf("status %d", w.Code)
				}
			})
		}
		synctest.Wait()
		const want = `
# HELP tidemark_api_waiting_readers Reads that wait because readers_max pages are in memory.
# TYPE tidemark_api_waiting_readers gauge
tidemark_api_waiting_readers 3
`
		if err := testutil.GatherAndCompare(f.reg, strings.NewReader(want), "tidemark_api_waiting_readers"); err != nil {
			t.Error(err)
		}
		close(gate)
		requests.Wait()
	})
}

func TestClientGone(t *testing.T) {
	f := newFixture(t, slog.LevelInfo, nil)
	ctx, cancel := context.WithCancel(t.Context())
	f.view.SetHold(func(ctx context.Context) error { cancel(); <-ctx.Done(); return ctx.Err() })
	w := askWith(f.srv.Handler(), "/records?model=Contact", func(r *http.Request) { *r = *r.WithContext(ctx) })
	if w.Code != 499 || w.Body.Len() != 0 || f.log.String() != "" {
		t.Errorf("status %d, body %q, log %q", w.Code, w.Body, f.log.String())
	}
}

func TestHandler_IsOneForAllRequests(t *testing.T) {
	f := newFixture(t, slog.LevelInfo, nil)
	h := f.srv.Handler()
	var requests sync.WaitGroup
	for range 8 {
		requests.Go(func() {
			for range 50 {
				w := httptest.NewRecorder()
				r := httptest.NewRequest(http.MethodGet, "/records?model=Contact", nil)
				r.Header.Set("Connection-Id", "acme")
				r.Header.Set("Provider-Config-Key", "demo")
				h.ServeHTTP(w, r)
				if w.Code != 200 || !json.Valid(w.Body.Bytes()) {
					t.Errorf("status %d: %s", w.Code, w.Body)
				}
			}
		})
	}
	requests.Wait()
}
