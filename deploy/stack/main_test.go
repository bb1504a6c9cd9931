package stack

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/tidemark-dev/tidemark/schemas/errcode"
)

// testLogger logs into the test; TIDEMARK_TEST_LOG=1 shows everything.
func testLogger(t *testing.T) *slog.Logger {
	level := slog.LevelWarn
	if os.Getenv("TIDEMARK_TEST_LOG") != "" {
		level = slog.LevelDebug
	}
	return NewLogger(t.Output(), true, level)
}

func testConfig(t *testing.T) Config {
	c := DefaultConfig()
	c.DataDir = t.TempDir()
	c.HTTPAddr, c.KafkaListen = "127.0.0.1:0", "127.0.0.1:0"
	c.Partitions = 2
	return c
}

// runner is a stack that runs in the test.
type runner struct {
	*Stack
	stop context.CancelFunc
	done chan error
}

// start runs a stack and returns when it has started or failed.
func start(t *testing.T, cfg Config) (*runner, error) {
	t.Helper()
	s, err := New(cfg, testLogger(t))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	r := &runner{s, cancel, make(chan error, 1)}
	go func() { r.done <- s.Run(ctx) }()
	select {
	case <-s.Started():
	case err := <-r.done:
		cancel()
		return nil, err
	}
	t.Cleanup(func() { r.end(t) })
	return r, nil
}

// launch is start for stacks that must become ready.
func launch(t *testing.T, cfg Config) *runner {
	t.Helper()
	r, err := start(t, cfg)
	if err != nil {
		t.Fatalf("the stack did not start: %v", err)
	}
	ready, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	if err := r.WaitReady(ready); err != nil {
		t.Fatal(err)
	}
	return r
}

// end stops the stack; a second call does nothing.
func (r *runner) end(t *testing.T) {
	t.Helper()
	r.stop()
	select {
	case err := <-r.done:
		if err != nil {
			t.Errorf("stopping: %v", err)
		}
		r.done <- nil
	case <-time.After(30 * time.Second):
		t.Fatal("the stack does not stop")
	}
}

// fails starts a stack that must refuse to, and returns why.
func fails(t *testing.T, cfg Config) error {
	t.Helper()
	r, err := start(t, cfg)
	if err == nil {
		r.end(t)
		t.Fatal("it started")
	}
	return err
}

func wantCode(t *testing.T, err error, code errcode.Code, parts ...string) {
	t.Helper()
	var coded *errcode.Error
	if !errors.As(err, &coded) || coded.Code != code {
		t.Fatalf("got %v, want code %s", err, code)
	}
	wantParts(t, err, parts...)
}

func wantParts(t *testing.T, err error, parts ...string) {
	t.Helper()
	for _, part := range parts {
		if err == nil || !strings.Contains(err.Error(), part) {
			t.Errorf("%q is not in %v", part, err)
		}
	}
}

func get(t *testing.T, addr, path string) (status int, body string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+addr+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Connection-Id", "acme")
	req.Header.Set("Provider-Config-Key", "demo")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(text)
}

func decode(t *testing.T, text string, v any) {
	t.Helper()
	if err := json.Unmarshal([]byte(text), v); err != nil {
		t.Fatalf("%v in %s", err, text)
	}
}
