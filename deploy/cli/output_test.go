package cli

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/tidemark-dev/tidemark/deploy/stack"
	"github.com/tidemark-dev/tidemark/ingest"
	"github.com/tidemark-dev/tidemark/ingest/bulk"
	"github.com/tidemark-dev/tidemark/schemas/errcode"
	"github.com/tidemark-dev/tidemark/schemas/stream"
)

func TestExplain(t *testing.T) {
	coded := errcode.New(errcode.CursorForeign, "It is of a brand.")
	for _, c := range []struct {
		name string
		err  error
		want commandError
	}{
		{"a code", coded, commandError{exit: exitFailure, code: "cursor.foreign", message: "The cursor belongs to another stream. It is of a brand.", hint: coded.Hint()}},
		{"a code inside", fmt.Errorf("reading: %w", coded), commandError{exit: exitFailure, code: "cursor.foreign", message: "reading: The cursor belongs to another stream. It is of a brand.", hint: coded.Hint()}},
		{"no broker", errcode.New(errcode.Unreachable, ""), commandError{exit: exitUnreachable, code: "kafka.unreachable", message: "No broker can be reached.", hint: errcode.New(errcode.Unreachable, "").Hint()}},
		{"a bad file", fmt.Errorf("reading x: %w", &bulk.Error{Code: bulk.CodeInvalidJSON, Index: 3, Line: 2, Detail: "no", Hint: "yes"}),
			commandError{exit: exitFailure, code: "bulk.invalid_json", message: "reading x: record 3 (line 2, byte 0): no", hint: "yes"}},
		{"a port", fmt.Errorf("listening: %w", syscall.EADDRINUSE), commandError{exit: exitFailure, message: "listening: address already in use", hint: "Another program uses the address: choose others with --http and --kafka-listen; port 0 takes a free one."}},
		{"usage", fmt.Errorf("more: %w", usagef("h", "m")), commandError{exit: exitUsage, code: codeUsage, message: "more: m", hint: "h"}},
		{"anything", io.ErrUnexpectedEOF, commandError{exit: exitFailure, message: "unexpected EOF"}},
		{"Ctrl-C", fmt.Errorf("loading: %w", errInterrupted), commandError{exit: exitFailure, message: "interrupted"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := *explain(c.err)
			if !errors.Is(&got, c.err) && got.err != nil && !errors.Is(c.err, got.err) {
				t.Errorf("the cause is lost: %v", got.err)
			}
			got.err = nil
			if got != c.want {
				t.Errorf("got  %+v\nwant %+v", got, c.want)
			}
		})
	}
	if e := explain(fmt.Errorf("x: %w", stack.ErrForeignData)); !strings.Contains(e.hint, "--data") {
		t.Errorf("%+v", e)
	}
}

func TestNearest(t *testing.T) {
	names := []string{"connection", "model", "kafka", "kafka-listen", "json", "yes"}
	for typed, want := range map[string]string{
		"conection": "connection", "conncetion": "connection", "mdoel": "model", "kafka-lsten": "kafka-listen", "jsno": "json", "jason": "json",
		"kafak": "kafka", "xyz": "", "": "", "completely-different": "", "yse": "yes",
	} {
		if got := nearest(typed, names); got != want {
			t.Errorf("%q: got %q, want %q", typed, got, want)
		}
	}
	for _, c := range []struct {
		a, b string
		want int
	}{{"", "", 0}, {"a", "", 1}, {"ab", "ba", 1}, {"abc", "acb", 1}, {"kitten", "sitting", 3}, {"abcd", "badc", 2}} {
		if got := distance(c.a, c.b); got != c.want || distance(c.b, c.a) != got {
			t.Errorf("%q %q: %d", c.a, c.b, got)
		}
	}
}

func TestNumbersAndSizes(t *testing.T) {
	for n, want := range map[int]string{0: "0", 7: "7", 999: "999", 1000: "1,000", 1234567: "1,234,567", -1000: "-1,000", -100: "-100"} {
		if got := count(n); got != want {
			t.Errorf("%d: %s", n, got)
		}
	}
	if got := plural(1, "id", "ids") + " " + plural(1200, "id", "ids"); got != "1 id 1,200 ids" {
		t.Error(got)
	}
	for text, want := range map[string]int64{"1GiB": 1 << 30, "512 mib": 512 << 20, "2g": 2 << 30, "1048576": 1 << 20, "7B": 7, "3k": 3 << 10} {
		var b byteSize
		if err := b.Set(text); err != nil || int64(b) != want {
			t.Errorf("%q: %d, %v", text, b, err)
		}
	}
	for _, text := range []string{"", "GiB", "-1", "1.5GiB", "9999999999GiB", "1TB", "one"} {
		var b byteSize
		if err := b.Set(text); err == nil {
			t.Errorf("%q is taken for %d", text, b)
		}
	}
	for n, want := range map[int64]string{0: "0B", 1023: "1023B", 1 << 10: "1KiB", 3 << 29: "1.5GiB", 1 << 30: "1GiB"} {
		if got := formatBytes(n); got != want {
			t.Errorf("%d: %s", n, got)
		}
	}
}

func TestTable(t *testing.T) {
	tab := table{head: []string{"file", "added", "why"}}
	tab.row("é.json", "1,234", "")
	tab.row("a-long-name", "7", "x")
	var out bytes.Buffer
	tab.print(&out)
	want := "file         added  why\n" +
		"é.json       1,234\n" +
		"a-long-name      7  x\n"
	if out.String() != want {
		t.Errorf("got\n%swant\n%s", out.String(), want)
	}
}

func TestPrintable_TakesTheTerminalOutOfData(t *testing.T) {
	for in, want := range map[string]string{
		"plain é 漢": "plain é 漢", "a\x1b[2Jb\nc": "a\uFFFD[2Jb\uFFFDc", "\xff": "\uFFFD", "0123456789abc": "0123456789…", "\u202ex": "\uFFFDx",
	} {
		if got := printable(in, 10); got != want {
			t.Errorf("%q: %q, want %q", in, got, want)
		}
	}
}

func TestShellQuote(t *testing.T) {
	for in, want := range map[string]string{"acme": "acme", "": "''", "a b": "'a b'", "it's": `'it'\''s'`, "$(x)": "'$(x)'", "a/b.c-d_e:f,g@h%i+j=k": "a/b.c-d_e:f,g@h%i+j=k"} {
		if got := shellQuote(in); got != want {
			t.Errorf("%q: %s", in, got)
		}
	}
	id := stream.ID{Environment: "dev", Integration: "crm", Connection: "a b", Model: "M", Variant: "base"}
	if got := streamArgs(id); got != "--integration crm --connection 'a b' --model M" {
		t.Error(got)
	}
}

func TestProgramName(t *testing.T) {
	for in, want := range map[string]string{"tidemark": "tidemark", "./tidemark": "./tidemark", "/usr/bin/tidemark": "/usr/bin/tidemark", "/tmp/go-build123/b001/exe/tidemark": "go run ."} {
		if got := ProgramName(in); got != want {
			t.Errorf("%s: %s", in, got)
		}
	}
}

func TestProgress_DrawsOnATerminalAlone(t *testing.T) {
	var out bytes.Buffer
	a := newApp(Process{Stdout: &bytes.Buffer{}, Stderr: &out})
	p := a.newProgress("x")
	p.step(1, 2, 3)
	p.wait("y")
	p.end()
	if out.Len() > 0 {
		t.Errorf("drew %q", out.String())
	}

	now := time.Unix(0, 0)
	p = &progress{w: &out, label: "brands.json", now: func() time.Time { return now }, began: now}
	now = now.Add(time.Second)
	p.step(50, 100, 1500)
	p.step(51, 100, 1501) // too soon
	now = now.Add(time.Second)
	p.step(100, 100, 3000)
	p.end()
	p.end()
	lines := strings.Split(out.String(), "\r")
	if len(lines) != 4 || !strings.Contains(lines[1], "brands.json") || !strings.Contains(lines[1], "50%  1,500 records  1,500/s") ||
		!strings.Contains(lines[2], "100%  3,000 records") || strings.Contains(lines[3], "brands") {
		t.Errorf("%q", lines)
	}
}

func TestColour_IsForTerminalsWithoutNoColor(t *testing.T) {
	for _, c := range []struct {
		terminal bool
		env      []string
		want     bool
	}{{true, nil, true}, {false, nil, false}, {true, []string{"NO_COLOR=1"}, false}, {true, []string{"NO_COLOR="}, true}, {true, []string{"TERM=dumb"}, false}} {
		a := newApp(Process{Env: c.env, Stdout: &bytes.Buffer{}, Stderr: &bytes.Buffer{}})
		a.outTerminal = c.terminal
		if got := a.color(); got != c.want {
			t.Errorf("%+v: %v", c, got)
		}
		if got := a.action("ADDED"); strings.Contains(got, "\x1b") != c.want {
			t.Errorf("%+v: %q", c, got)
		}
	}
}

func TestConfirm_AsksOnATerminalAlone(t *testing.T) {
	r := &runInfo{Run: 7, ToDelete: 1200, Detail: "too many", Stream: stream.ID{Environment: "dev", Integration: "demo", Connection: "acme", Model: "Brand"}}
	for _, c := range []struct {
		terminal, yes bool
		answer        string
		want          bool
		asked         bool
	}{
		{true, false, "y\n", true, true}, {true, false, "YES\n", true, true}, {true, false, "\n", false, true}, {true, false, "", false, true},
		{true, false, "yep\n", false, true}, {false, false, "y\n", false, false}, {false, true, "", true, false}, {true, true, "", true, false},
	} {
		var out bytes.Buffer
		a := newApp(Process{Stdin: strings.NewReader(c.answer), Stdout: &bytes.Buffer{}, Stderr: &out})
		a.inTerminal, a.errTerminal = c.terminal, c.terminal
		err := a.confirm(&decideFlags{yes: c.yes}, r, ingest.Approve)
		if (err == nil) != c.want || strings.Contains(out.String(), "deletes 1,200 records") != c.asked {
			t.Errorf("%+v: %v, asked %q", c, err, out.String())
		}
		if e := (*commandError)(nil); err != nil && (!errors.As(err, &e) || e.exit != exitPerson) {
			t.Errorf("%+v: %v", c, err)
		}
	}
}
