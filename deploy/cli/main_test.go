package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/spf13/cobra"
)

// outcome is what a command line left behind.
type outcome struct {
	code           int
	stdout, stderr string
}

// runIn runs a command line with an environment.
func runIn(t *testing.T, env []string, args ...string) outcome {
	t.Helper()
	var stdout, stderr bytes.Buffer
	code := Main(t.Context(), Process{Args: args, Env: env, Stdin: strings.NewReader(""), Stdout: &stdout, Stderr: &stderr})
	return outcome{code, stdout.String(), stderr.String()}
}

func run(t *testing.T, args ...string) outcome {
	t.Helper()
	return runIn(t, nil, args...)
}

func (o outcome) want(t *testing.T, code int, parts ...string) {
	t.Helper()
	if o.code != code {
		t.Errorf("exit code %d, want %d: %s%s", o.code, code, o.stdout, o.stderr)
	}
	for _, part := range parts {
		if !strings.Contains(o.stderr, part) {
			t.Errorf("%q is not in %q", part, o.stderr)
		}
	}
	if code != exitOK && o.stdout != "" {
		t.Errorf("an error and output: %q", o.stdout)
	}
}

func TestUsage_NamesTheNearest(t *testing.T) {
	for _, c := range []struct {
		args []string
		want []string // in the error
	}{
		{[]string{"lod"}, []string{`"lod" is not a command`, `Did you mean "tidemark load"?`}},
		{[]string{"held", "aprove", "1"}, []string{`Did you mean "tidemark held approve"?`}},
		{[]string{"held"}, []string{"needs a command", "approve, discard, list"}},
		{[]string{"topics", "aply"}, []string{`Did you mean "tidemark topics apply"?`}},
		{[]string{"records", "fetch"}, []string{`"fetch" is not a command of tidemark records`, "--help"}},
		{[]string{"load", "--conection", "acme", "x.json"}, []string{"--conection", "Did you mean --connection?"}},
		{[]string{"up", "--kafka-lsiten=127.0.0.1:0"}, []string{"Did you mean --kafka-listen?"}},
		{[]string{"tail", "-model", "Brand"}, []string{"Did you mean --model?"}},
		{[]string{"tail", "--nothing-like-it"}, []string{"unknown flag", "tidemark tail --help"}},
		{[]string{"load", "--connection", "acme", "--model", "Brand"}, []string{"at least one FILE", "tidemark load FILE..."}},
		{[]string{"load", "x.json"}, []string{"--connection and --model missing"}},
		{[]string{"load", "--connection", "acme", "--model", "Brand", "-", "-"}, []string{"once only"}},
		{[]string{"load", "--connection", "a", "--model", "B", "--max-delete-ratio", "2", "x"}, []string{"0 to 1"}},
		{[]string{"tail", "--model", "Brand"}, []string{"--connection missing"}},
		{[]string{"tail", "--connection", "a", "--model", "B", "extra"}, []string{"takes no arguments", `"extra"`}},
		{[]string{"held", "approve", "--connection", "a", "--model", "B", "x1"}, []string{`"x1" is not the number of a run`}},
		{[]string{"records", "get", "--connection", "a", "--model", "B", "--http", "nonsense"}, []string{"--http"}},
		{[]string{"up", "--memory", "lots"}, []string{"not a size"}},
		{[]string{"up", "--memory", "1MiB"}, []string{"--memory", "256 MiB"}},
		{[]string{"up", "--partitions", "0", "--prefix", "a b"}, []string{"--prefix"}},
		{[]string{"topics", "--kafka-sasl", "PLAIN"}, []string{"needs a user and a password"}},
		{[]string{"version", "--log-level", "loud"}, []string{"--log-level", "debug, info, warn and error"}},
		{[]string{"version", "now"}, []string{`"now"`}},
	} {
		t.Run(strings.Join(c.args, " "), func(t *testing.T) {
			o := run(t, c.args...)
			o.want(t, exitUsage, append(c.want, "error: ")...)

			// The same for programs.
			o = run(t, append(slices.Clone(c.args), "--json")...)
			o.want(t, exitUsage)
			var body struct {
				Error struct{ Code, Message, Hint string }
			}
			if err := json.Unmarshal([]byte(o.stderr), &body); err != nil || body.Error.Code != codeUsage || body.Error.Message == "" {
				t.Errorf("%v in %q", err, o.stderr)
			}
		})
	}
}

func TestFlags_ComeFromTheEnvironment(t *testing.T) {
	o := runIn(t, []string{"TIDEMARK_CONNECTION=acme", "TIDEMARK_LOG_LEVEL=loud"}, "tail", "--model", "Brand")
	o.want(t, exitUsage, `--log-level is "loud"`)
	// What is given wins.
	o = runIn(t, []string{"TIDEMARK_LOG_LEVEL=loud"}, "version", "--log-level", "warn")
	o.want(t, exitOK)
	o = runIn(t, []string{"TIDEMARK_MEMORY=lots"}, "up")
	o.want(t, exitUsage, "TIDEMARK_MEMORY", "lots")
	// A yes must be typed.
	o = runIn(t, []string{"TIDEMARK_YES=maybe"}, "topics", "apply", "--kafka", "127.0.0.1:1")
	o.want(t, exitUnreachable)
}

func TestPasswords_AreNeverArguments(t *testing.T) {
	root := newApp(Process{Stdout: &bytes.Buffer{}, Stderr: &bytes.Buffer{}}).rootCommand()
	for _, cmd := range all(root) {
		for _, name := range []string{"password", "kafka-password", "token", "secret"} {
			if cmd.Flags().Lookup(name) != nil {
				t.Errorf("%s has --%s", cmd.CommandPath(), name)
			}
		}
	}
	file := t.TempDir() + "/password"
	if err := os.WriteFile(file, []byte("hunter2\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	a := newApp(Process{Env: []string{passwordEnv + "=hunter3"}, Stdout: &bytes.Buffer{}, Stderr: &bytes.Buffer{}})
	k := kafkaFlags{seeds: []string{"x:1"}, mechanism: "plain", user: "u"}
	cfg, err := a.kafkaConfig(&k)
	if err != nil || cfg.SASL.Password != "hunter3" || cfg.SASL.Mechanism != "PLAIN" {
		t.Errorf("%+v, %v", cfg, err)
	}
	k.passwordFile = file
	if cfg, err = a.kafkaConfig(&k); err != nil || string(cfg.SASL.Password) != "hunter2" {
		t.Errorf("%+v, %v", cfg, err)
	}
}

func all(cmd *cobra.Command) []*cobra.Command {
	out := []*cobra.Command{cmd}
	for _, c := range cmd.Commands() {
		out = append(out, all(c)...)
	}
	return out
}

// Every command explains itself, with an example, and takes --json.
func TestHelp_IsComplete(t *testing.T) {
	root := newApp(Process{Stdout: &bytes.Buffer{}, Stderr: &bytes.Buffer{}}).rootCommand()
	for _, cmd := range all(root) {
		if cmd.Short == "" {
			t.Errorf("%s has no description", cmd.CommandPath())
		}
		if cmd.HasSubCommands() && cmd.HasParent() || !cmd.Runnable() {
			continue
		}
		if !strings.Contains(cmd.Example, "tidemark") {
			t.Errorf("%s has no example", cmd.CommandPath())
		}
		if cmd.InheritedFlags().Lookup("json") == nil && cmd.PersistentFlags().Lookup("json") == nil {
			t.Errorf("%s has no --json", cmd.CommandPath())
		}
		o := run(t, append(strings.Fields(cmd.CommandPath())[1:], "--help")...)
		if o.code != exitOK || !strings.Contains(o.stdout, "Usage:") {
			t.Errorf("%s --help: %+v", cmd.CommandPath(), o)
		}
	}
	o := run(t, "help", "exit-codes")
	o.want(t, exitOK)
	for _, c := range exitCodes {
		if !strings.Contains(o.stdout, c.meaning) {
			t.Errorf("%q is not in %s", c.meaning, o.stdout)
		}
	}
	if o := run(t); o.code != exitOK || !strings.Contains(o.stdout, "tidemark [command]") {
		t.Errorf("%+v", o)
	}
}

func TestVersion(t *testing.T) {
	if o := run(t, "version"); o.code != exitOK || !strings.HasPrefix(o.stdout, "tidemark ") {
		t.Errorf("%+v", o)
	}
	o := run(t, "version", "--json")
	var v versionInfo
	if err := json.Unmarshal([]byte(o.stdout), &v); err != nil || v.Go == "" || v.Platform == "" || v.Version == "" {
		t.Errorf("%+v: %v", o, err)
	}
}

// Nobody at the other end: quickly, with the code for it.
func TestUnreachable(t *testing.T) {
	stream := []string{"--connection", "acme", "--model", "Brand"}
	kafka := []string{"--kafka", "127.0.0.1:1"}
	for _, args := range [][]string{
		append(append([]string{"load"}, append(stream, kafka...)...), "main_test.go"),
		append([]string{"tail"}, append(stream, kafka...)...),
		append([]string{"runs"}, kafka...),
		append([]string{"held", "list"}, kafka...),
		append([]string{"held", "approve", "7", "--yes"}, kafka...),
		append([]string{"topics"}, kafka...),
		append([]string{"records", "get", "--http", "127.0.0.1:1"}, stream...),
		{"up", "--data", t.TempDir(), "--http", "127.0.0.1:0", "--kafka", "127.0.0.1:1", "--no-projections"},
	} {
		t.Run(strings.Join(args, " "), func(t *testing.T) {
			began := time.Now()
			o := run(t, args...)
			o.want(t, exitUnreachable, "error: ", "hint: ", "127.0.0.1:1", "code: ")
			if took := time.Since(began); took > 15*time.Second {
				t.Errorf("it took %s", took)
			}
		})
	}
}

func TestMain_TheSecondSignalEndsAtOnce(t *testing.T) {
	signals := make(chan os.Signal, 2)
	exited := make(chan int, 1)
	var stdout, stderr bytes.Buffer
	signals <- syscall.SIGINT
	signals <- syscall.SIGTERM
	// up waits for the first to be handled in an orderly way; the second must not wait for that.
	Main(t.Context(), Process{
		Args: []string{"up", "--data", t.TempDir(), "--http", "127.0.0.1:0", "--kafka-listen", "127.0.0.1:0", "--no-projections"}, Stdin: strings.NewReader(""),
		Stdout: &stdout, Stderr: &stderr, Signals: signals, Exit: func(code int) { exited <- code },
	})
	select {
	case code := <-exited:
		if code != exitInterrupted {
			t.Errorf("exit code %d", code)
		}
	case <-time.After(10 * time.Second):
		t.Error("the second signal did nothing")
	}
}

func TestMain_AnInterruptedCommandIsNotAFailureOfUp(t *testing.T) {
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(errInterrupted)
	var stdout, stderr bytes.Buffer
	code := Main(ctx, Process{
		Args:  []string{"up", "--data", t.TempDir(), "--http", "127.0.0.1:0", "--kafka-listen", "127.0.0.1:0", "--no-projections"},
		Stdin: strings.NewReader(""), Stdout: &stdout, Stderr: &stderr,
	})
	if code != exitOK {
		t.Errorf("exit code %d: %s", code, stderr.String())
	}
}
