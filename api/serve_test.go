package api_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/tidemark-dev/tidemark/api"
	"github.com/tidemark-dev/tidemark/schemas/errcode"
)

// start serves f on loopback. stop ends it and returns what Serve returned.
func start(t *testing.T, f *fixture) (base string, stop func() error) {
	t.Helper()
	ln, err := api.Listen("localhost:0", false)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- f.srv.Serve(ctx, ln) }()
	return "http://" + ln.Addr().String(), func() error { cancel(); return <-done }
}

// fetch may be called outside the test's goroutine.
func fetch(t *testing.T, url string) (int, string, error) {
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	if err != nil {
		return 0, "", err
	}
	r.Header.Set("Connection-Id", benchStream.Connection)
	r.Header.Set("Provider-Config-Key", benchStream.Integration)
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		return 0, "", err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	return resp.StatusCode, string(body), err
}

func TestServe_FinishesWhatIsUnderWay(t *testing.T) {
	f := newFixture(t, slog.LevelInfo, nil)
	base, stop := start(t, f)
	if status, _, err := fetch(t, base+"/records/?model=Contact"); status != 200 || err != nil {
		t.Fatalf("status %d: %v", status, err)
	}
	inside, gate := make(chan struct{}), make(chan struct{})
	f.view.SetHold(func(context.Context) error { close(inside); <-gate; return nil })
	answered := make(chan error, 1)
	go func() {
		status, body, err := fetch(t, base+"/records?model=Contact")
		if err == nil && (status != 200 || !strings.Contains(body, "payload text")) {
			err = errors.New(body)
		}
		answered <- err
	}()
	<-inside
	stopped := make(chan error, 1)
	go func() { stopped <- stop() }()
	eventually(t, "the port is closed", func() bool {
		c, err := net.Dial("tcp", strings.TrimPrefix(base, "http://"))
		if err == nil {
			c.Close()
		}
		return err != nil
	})
	close(gate)
	if err := <-answered; err != nil {
		t.Errorf("the request under way: %v", err)
	}
	if err := <-stopped; err != nil {
		t.Errorf("stopping: %v", err)
	}
}

// A closed connection cancels a request only once its body has been read: both requests must end.
func TestServe_CancelsWhatTakesTooLong(t *testing.T) {
	for _, bodyLength := range []int{0, 10} {
		t.Run(fmt.Sprintf("body of %d bytes that never comes", bodyLength), func(t *testing.T) {
			f := newFixture(t, slog.LevelInfo, func(c *api.Config) { c.ShutdownTimeout = 20 * time.Millisecond })
			base, stop := start(t, f)
			inside := make(chan struct{})
			ended := false
			f.view.SetHold(func(ctx context.Context) error { close(inside); <-ctx.Done(); ended = true; return ctx.Err() })
			conn, err := net.Dial("tcp", strings.TrimPrefix(base, "http://"))
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			if _, err := fmt.Fprintf(conn, "GET /records?model=Contact HTTP/1.1\r\nHost: x\r\nConnection-Id: acme\r\nProvider-Config-Key: demo\r\nContent-Length: %d\r\n\r\n", bodyLength); err != nil {
				t.Fatal(err)
			}
			<-inside
			if err := stop(); err != nil {
				t.Errorf("stopping: %v", err)
			}
			if !ended {
				t.Error("Serve returned while a request still used the view")
			}
			if answer, _ := io.ReadAll(conn); bytes.Contains(answer, []byte("200 OK")) {
				t.Errorf("the client got %q", answer)
			}
		})
	}
}

func TestServe_SaysWhenARequestCannotBeStopped(t *testing.T) {
	f := newFixture(t, slog.LevelInfo, func(c *api.Config) { c.ShutdownTimeout = 20 * time.Millisecond })
	base, stop := start(t, f)
	inside, gate, left := make(chan struct{}), make(chan struct{}), make(chan struct{})
	f.view.SetHold(func(context.Context) error { defer close(left); close(inside); <-gate; return nil })
	answered := make(chan struct{})
	go func() {
		defer close(answered)
		if _, _, err := fetch(t, base+"/records?model=Contact"); err == nil {
			t.Error("the client took a cut answer for a whole one")
		}
	}()
	<-inside
	if err := stop(); err == nil || !strings.Contains(err.Error(), "still run") {
		t.Errorf("stopping: %v", err)
	}
	close(gate)
	<-left
	<-answered
}

func TestServe_BrokenListener(t *testing.T) {
	f := newFixture(t, slog.LevelInfo, nil)
	ln, err := api.Listen("127.0.0.1:0", false)
	if err != nil {
		t.Fatal(err)
	}
	ln.Close()
	if err := f.srv.Serve(t.Context(), ln); err == nil || !errors.Is(err, net.ErrClosed) {
		t.Errorf("got %v", err)
	}
}

func TestServe_Limits(t *testing.T) {
	f := newFixture(t, slog.LevelInfo, func(c *api.Config) {
		c.HeaderBytesMax = 16 << 10
		c.ReadHeaderTimeout = 50 * time.Millisecond
	})
	base, stop := start(t, f)
	defer func() {
		if err := stop(); err != nil {
			t.Error(err)
		}
	}()
	status, _, err := fetch(t, base+"/records?model=Contact&ids="+strings.Repeat("x", 64<<10))
	if err != nil || status != http.StatusRequestHeaderFieldsTooLarge {
		t.Errorf("a long request line: status %d, %v", status, err)
	}
	slow, err := net.Dial("tcp", strings.TrimPrefix(base, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer slow.Close()
	if err := slow.SetDeadline(time.Now().Add(10 * time.Second)); err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(slow, "GET /livez HTTP/1.1\r\nHost: x\r\n"); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadAll(slow); err != nil {
		t.Errorf("a client that never ends its header is not cut off: %v", err)
	}
}

func TestListen(t *testing.T) {
	for _, c := range []struct {
		addr     string
		insecure bool
		refused  bool
	}{
		{"127.0.0.1:0", false, false}, {"localhost:0", false, false}, {"127.8.9.1:0", false, false},
		{":0", false, true}, {"0.0.0.0:0", false, true}, {"[::]:0", false, true}, {"192.0.2.1:0", false, true},
		{":0", true, false}, {"0.0.0.0:0", true, false},
	} {
		ln, err := api.Listen(c.addr, c.insecure)
		if ln != nil {
			ln.Close()
		}
		var coded *errcode.Error
		if c.refused != (errors.As(err, &coded) && coded.Code == errcode.AddressNotLoopback) || (!c.refused && err != nil) {
			t.Errorf("%q, insecure %v: %v", c.addr, c.insecure, err)
		}
	}
	for _, addr := range []string{"", "127.0.0.1", "127.0.0.1:99999", "127.0.0.1:http s"} {
		if ln, err := api.Listen(addr, false); err == nil {
			ln.Close()
			t.Errorf("%q: no error", addr)
		}
	}
}

func TestServe_WarnsOfAReachableAddress(t *testing.T) {
	for addr, warned := range map[string]bool{"127.0.0.1:0": false, "0.0.0.0:0": true} {
		f := newFixture(t, slog.LevelInfo, nil)
		ln, err := api.Listen(addr, true)
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if err := f.srv.Serve(ctx, ln); err != nil {
			t.Error(err)
		}
		if got := strings.Contains(f.log.String(), `"level":"WARN"`); got != warned {
			t.Errorf("%s: log %q", addr, f.log.String())
		}
	}
}
