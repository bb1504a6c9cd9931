// Package e2e_test drives the whole product from outside: command lines in, output and exit codes out, and HTTP. Most tests run the
// commands in this process; those that kill it run the built binary.
package e2e_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/url"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/tidemark-dev/tidemark/deploy/cli"
)

// stream are the flags of the stream that the tests use.
var stream = []string{"--connection", "acme", "--model", "Brand"}

// result is what a command line left behind.
type result struct {
	code           int
	stdout, stderr string
}

// tidemark runs a command line in this process.
func tidemark(t *testing.T, args ...string) result {
	t.Helper()
	return tidemarkWith(t, strings.NewReader(""), args...)
}

func tidemarkWith(t *testing.T, stdin io.Reader, args ...string) result {
	t.Helper()
	var stdout, stderr bytes.Buffer
	code := cli.Main(t.Context(), cli.Process{Args: args, Stdin: stdin, Stdout: &stdout, Stderr: &stderr})
	return result{code, stdout.String(), stderr.String()}
}

func (r result) want(t *testing.T, code int) result {
	t.Helper()
	if r.code != code {
		t.Fatalf("exit code %d, want %d\n%s%s", r.code, code, r.stdout, r.stderr)
	}
	return r
}

// lines decodes NDJSON: nothing but one JSON value a line, each with no member that T does not know.
func lines[T any](t *testing.T, text string) []T {
	t.Helper()
	var out []T
	for line := range strings.Lines(text) {
		var v T
		d := json.NewDecoder(strings.NewReader(line))
		d.DisallowUnknownFields()
		if err := d.Decode(&v); err != nil {
			t.Fatalf("%v in the line %q", err, line)
		}
		if _, err := d.Token(); err != io.EOF {
			t.Fatalf("more than one value in the line %q", line)
		}
		out = append(out, v)
	}
	return out
}

// event is a line of `up --json`.
type event struct {
	Event      string          `json:"event"`
	HTTP       string          `json:"http"`
	Kafka      []string        `json:"kafka"`
	Embedded   bool            `json:"embedded"`
	Data       string          `json:"data"`
	Topic      string          `json:"topic"`
	Partitions int32           `json:"partitions"`
	PID        int             `json:"pid"`
	DurationMS int64           `json:"duration_ms"`
	Loaded     json.RawMessage `json:"loaded"`
	Change     *changeLine     `json:"change"`
	Detail     string          `json:"detail"`
}

// changeLine is a line of `tail --json`.
type changeLine struct {
	Time    time.Time       `json:"time"`
	Action  string          `json:"action"`
	ID      string          `json:"id"`
	Changed []string        `json:"changed"`
	Rev     uint64          `json:"rev"`
	CSN     uint64          `json:"csn"`
	Offset  int64           `json:"offset"`
	Cursor  string          `json:"cursor"`
	Run     uint64          `json:"run"`
	Detail  string          `json:"detail"`
	Payload json.RawMessage `json:"payload"`
}

// instance is `up`, running in this process.
type instance struct {
	http   string // URL
	kafka  []string
	events <-chan event
	signal chan os.Signal
	done   chan result
}

const patience = 60 * time.Second

// up starts `up` on a directory and waits until it is ready.
func up(t *testing.T, dir string, args ...string) *instance {
	t.Helper()
	i, r := tryUp(t, dir, args...)
	if i == nil {
		t.Fatalf("up ended with %d: %s", r.code, r.stderr)
	}
	return i
}

// tryUp is up for starts that may fail: then it returns how.
func tryUp(t *testing.T, dir string, args ...string) (*instance, result) {
	t.Helper()
	out, in := io.Pipe()
	i := &instance{signal: make(chan os.Signal, 2), done: make(chan result, 1)}
	events := make(chan event, 100_000) // nobody need read them
	i.events = events
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	var stderr bytes.Buffer
	args = append([]string{"up", "--no-projections", "--json", "--log-level", "warn", "--data", dir, "--http", "127.0.0.1:0", "--kafka-listen", "127.0.0.1:0"}, args...)
	go func() {
		code := cli.Main(ctx, cli.Process{Args: args, Stdin: strings.NewReader(""), Stdout: in, Stderr: &stderr, Signals: i.signal})
		in.Close()
		i.done <- result{code: code, stderr: stderr.String()}
	}()
	go func() {
		defer close(events)
		for s := bufio.NewScanner(out); s.Scan(); {
			var e event
			d := json.NewDecoder(bytes.NewReader(s.Bytes()))
			d.DisallowUnknownFields()
			if err := d.Decode(&e); err != nil {
				t.Errorf("%v in the line %q", err, s.Text())
			}
			events <- e
		}
	}()
	t.Cleanup(func() {
		i.stop(t)
		cancel()
	})
	for deadline := time.After(patience); ; {
		select {
		case e, ok := <-events:
			switch {
			case !ok:
				r := <-i.done
				i.done <- r
				return nil, r
			case e.Event == "started":
				i.http, i.kafka = e.HTTP, e.Kafka
			case e.Event == "ready":
				return i, result{}
			}
		case <-deadline:
			t.Fatal("up is not ready")
		}
	}
}

// stop is Ctrl-C, once; a second call returns the same.
func (i *instance) stop(t *testing.T) result {
	t.Helper()
	select {
	case i.signal <- syscall.SIGINT:
	default:
	}
	select {
	case r := <-i.done:
		i.done <- r
		return r
	case <-time.After(patience):
		t.Fatal("up does not stop")
		return result{}
	}
}

// flags reach the instance's broker.
func (i *instance) flags() []string { return []string{"--kafka", strings.Join(i.kafka, ",")} }

// command is a command line for the stream on the instance.
func (i *instance) command(name string, more ...string) []string {
	return join(strings.Fields(name), i.flags(), stream, more)
}

func join(parts ...[]string) (out []string) {
	for _, p := range parts {
		out = append(out, p...)
	}
	return out
}

// eventually waits until a check passes.
func eventually(t *testing.T, check func() error) {
	t.Helper()
	for deadline := time.Now().Add(patience); ; time.Sleep(10 * time.Millisecond) {
		err := check()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatal(err)
		}
	}
}

// record is one record of GET /records: its payload, and what the server says of it.
type record struct {
	id      string
	action  string
	cursor  string
	payload []byte
}

// page reads one page as curl would.
func page(t *testing.T, base string, params url.Values) (records []record, next string) {
	t.Helper()
	params.Set("model", "Brand")
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, base+"/records?"+params.Encode(), nil)
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
	var body struct {
		Records    []map[string]json.RawMessage `json:"records"`
		NextCursor *string                      `json:"next_cursor"`
		Error      json.RawMessage              `json:"error"`
	}
	if err := json.NewDecoder(resp.Body).Decode(&body); err != nil {
		t.Fatal(err)
	}
	if resp.StatusCode != http.StatusOK {
		t.Fatalf("%s: %s", resp.Status, body.Error)
	}
	for _, members := range body.Records {
		var meta struct {
			LastAction string `json:"last_action"`
			Cursor     string `json:"cursor"`
		}
		var id string
		if err := json.Unmarshal(members["_nango_metadata"], &meta); err != nil {
			t.Fatal(err)
		}
		if err := json.Unmarshal(members["id"], &id); err != nil {
			t.Fatal(err)
		}
		delete(members, "_nango_metadata")
		delete(members, "id") // the payloads of these tests have none of their own
		payload, err := json.Marshal(members)
		if err != nil {
			t.Fatal(err)
		}
		records = append(records, record{id, meta.LastAction, meta.Cursor, payload})
	}
	if body.NextCursor != nil {
		next = *body.NextCursor
	}
	return records, next
}

// pages reads until nothing is left after a cursor.
func pages(t *testing.T, base, cursor string, limit string) (all []record) {
	t.Helper()
	for {
		params := url.Values{"limit": {limit}}
		if cursor != "" {
			params.Set("cursor", cursor)
		}
		records, next := page(t, base, params)
		all = append(all, records...)
		if next == "" {
			return all
		}
		if next <= cursor {
			t.Fatalf("cursor %s does not rise above %s", next, cursor)
		}
		cursor = next
	}
}
