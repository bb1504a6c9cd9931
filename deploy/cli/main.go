package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"strings"
	"sync"

	"github.com/mattn/go-isatty"
)

// Process is what a command line runs in. Args and the three streams are required.
type Process struct {
	Program string   // as it was called, for the lines that the user may copy; "" means tidemark
	Args    []string // without the program
	Env     []string // NAME=value
	Stdin   io.Reader
	Stdout  io.Writer
	Stderr  io.Writer
	// Signals ask to stop: the first in an orderly way, the second at once.
	Signals <-chan os.Signal
	// Exit ends the process at the second signal; nil means os.Exit.
	Exit func(code int)
}

// exitInterrupted is what a shell reports of a process that SIGINT ended.
const exitInterrupted = 130

var errInterrupted = errors.New("interrupted")

// Main runs one command line and returns its exit code. It returns when everything that it started has ended.
func Main(ctx context.Context, p Process) int {
	a := newApp(p)
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	done := make(chan struct{})
	defer close(done)
	go func() {
		for n := 0; ; n++ {
			select {
			case <-done:
				return
			case <-p.Signals:
			}
			if n > 0 {
				fmt.Fprintln(a.err, "stopped at once; what was acknowledged is safe")
				exit := p.Exit
				if exit == nil {
					exit = os.Exit
				}
				exit(exitInterrupted)
				return
			}
			cancel(errInterrupted)
		}
	}()
	root := a.rootCommand()
	root.SetArgs(p.Args)
	root.SetIn(a.in)
	root.SetOut(a.out)
	root.SetErr(a.err)
	err := root.ExecuteContext(ctx)
	if err == nil {
		return exitOK
	}
	return a.report(err)
}

// app is one command line being run.
type app struct {
	program string
	env     map[string]string
	in      io.Reader
	out     io.Writer
	err     io.Writer

	inTerminal, outTerminal, errTerminal bool

	json     bool // --json
	jsonSeen bool // --json is among the arguments, which may not have been parsed that far
	logLevel string
	log      *slog.Logger
}

func newApp(p Process) *app {
	a := &app{
		program: "tidemark", env: map[string]string{}, in: p.Stdin, out: &lockedWriter{w: p.Stdout}, err: &lockedWriter{w: p.Stderr},
		inTerminal: terminal(p.Stdin), outTerminal: terminal(p.Stdout), errTerminal: terminal(p.Stderr),
	}
	if p.Program != "" {
		a.program = p.Program
	}
	for _, kv := range p.Env {
		if name, value, ok := strings.Cut(kv, "="); ok {
			a.env[name] = value
		}
	}
	for _, arg := range p.Args {
		if arg == "--" {
			break
		}
		a.jsonSeen = a.jsonSeen || arg == "--json" || arg == "--json=true"
	}
	return a
}

// lockedWriter keeps lines whole that the command, its log and the signal handler write at once.
type lockedWriter struct {
	mu sync.Mutex
	w  io.Writer
}

func (l *lockedWriter) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.w.Write(p)
}

// terminal reports whether a stream is one.
func terminal(stream any) bool {
	f, ok := stream.(*os.File)
	return ok && isatty.IsTerminal(f.Fd())
}

// color reports whether standard output may be coloured (no-color.org).
func (a *app) color() bool {
	return a.outTerminal && a.env["NO_COLOR"] == "" && a.env["TERM"] != "dumb"
}

// ProgramName is how a user calls this program again: as it was called, or through the go command, whose binary is temporary.
func ProgramName(arg0 string) string {
	if strings.Contains(arg0, "go-build") {
		return "go run ."
	}
	if strings.ContainsRune(arg0, os.PathSeparator) {
		return arg0
	}
	return "tidemark"
}
