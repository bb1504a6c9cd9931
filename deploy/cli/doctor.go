package cli

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"github.com/tidemark-dev/tidemark/deploy/stack"
)

type doctorFlags struct {
	topicsFlags
	data string
	http string
}

func (a *app) doctorCommand() *cobra.Command {
	var d doctorFlags
	cmd := &cobra.Command{
		Use:   "doctor",
		Short: "Check the broker, the topics, the server and this machine",
		Long: "Check what the product needs and say what is wrong with it, one line a check: ok, warn or fail. The exit code is 0 if\n" +
			"nothing failed, 4 if the broker cannot be reached, else 1.",
		Example: "  tidemark doctor\n  tidemark doctor --json | jq 'select(.status != \"ok\")'",
		Args:    arguments(0, 0, "nothing"),
		RunE:    func(cmd *cobra.Command, _ []string) error { return a.runDoctor(cmd.Context(), &d) },
	}
	d.kafka.registerClient(cmd)
	f := cmd.Flags()
	f.StringVar(&d.data, "data", stack.DataDirDefault, "data `directory` of the stack on this machine")
	f.StringVar(&d.http, "http", stack.HTTPAddrDefault, "`address` of the API: host:port or a URL")
	return cmd
}

// finding is the outcome of one check.
type finding struct {
	Check  string `json:"check"`
	Status string `json:"status"` // ok, warn or fail
	Detail string `json:"detail"`
	Hint   string `json:"hint,omitempty"`
}

const (
	statusOK   = "ok"
	statusWarn = "warn"
	statusFail = "fail"
)

func (a *app) runDoctor(ctx context.Context, d *doctorFlags) error {
	checks := []func(context.Context) finding{
		func(ctx context.Context) finding { return a.checkBroker(ctx, d) },
		func(ctx context.Context) finding { return a.checkTopics(ctx, d) },
		func(ctx context.Context) finding { return checkServer(ctx, d.http) },
		func(ctx context.Context) finding { return checkClock(ctx, d.http, time.Now) },
		func(context.Context) finding { return checkDataDir(d.data) },
		func(context.Context) finding { return checkDisk(d.data, diskFree) },
		func(context.Context) finding { return checkFiles(filesLimit) },
	}
	var failed []string
	unreachable := false
	for _, check := range checks {
		f := check(ctx)
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if f.Status == statusFail {
			failed = append(failed, f.Check)
			unreachable = unreachable || f.Check == checkNameBroker
		}
		if a.json {
			if err := a.printJSON(f); err != nil {
				return err
			}
			continue
		}
		color := map[string]string{statusOK: green, statusWarn: yellow, statusFail: red}[f.Status]
		fmt.Fprintf(a.out, "%s  %-8s  %s\n", a.paint(color, fmt.Sprintf("%-4s", f.Status)), f.Check, f.Detail)
		if f.Hint != "" {
			fmt.Fprintf(a.out, "                %s\n", f.Hint)
		}
	}
	if len(failed) == 0 {
		return nil
	}
	e := &commandError{exit: exitFailure, message: plural(len(failed), "check", "checks") + " failed: " + strings.Join(failed, ", ")}
	if unreachable {
		e.exit = exitUnreachable
	}
	return e
}

const checkNameBroker = "broker"

func (a *app) checkBroker(ctx context.Context, d *doctorFlags) finding {
	f := finding{Check: checkNameBroker, Status: statusFail}
	admin, _, _, err := a.look(ctx, &d.topicsFlags)
	if err != nil {
		e := explain(err)
		if e.exit != exitUnreachable { // it answered; what is wrong is for the next check
			return finding{checkNameBroker, statusOK, strings.Join(d.kafka.seeds, ", ") + " answers", ""}
		}
		f.Detail, f.Hint = e.message, "Start one with tidemark up, or name another with --kafka."
		return f
	}
	defer admin.Close()
	took, err := admin.Ping(ctx)
	if err != nil {
		f.Detail = explain(err).message
		return f
	}
	kind := "Kafka"
	if admin.Embedded() {
		kind = "embedded broker, one process, not replicated"
	}
	return finding{checkNameBroker, statusOK, fmt.Sprintf("%s answers in %s (%s)", strings.Join(d.kafka.seeds, ", "), took.Round(100*time.Microsecond), kind), ""}
}

func (a *app) checkTopics(ctx context.Context, d *doctorFlags) finding {
	f := finding{Check: "topics", Status: statusFail}
	admin, _, topics, err := a.look(ctx, &d.topicsFlags)
	if err != nil {
		e := explain(err)
		f.Detail, f.Hint = e.message, e.hint
		return f
	}
	defer admin.Close()
	missing, differ, copies := 0, 0, 0
	for _, t := range topics {
		if !t.Exists {
			missing++
		}
		differ += len(t.Drift)
		copies = max(copies, t.Replication)
	}
	switch {
	case missing == len(topics):
		return finding{f.Check, statusWarn, "there are none yet", "tidemark up makes them at its first start."}
	case missing > 0 || differ > 0:
		f.Detail = fmt.Sprintf("%s missing, %s", count(missing), plural(differ, "setting differs", "settings differ"))
		f.Hint = "tidemark topics shows them. This mends it: " + admin.MendCommand(d.kafka.prefix)
		return f
	case copies < 2 && !admin.Embedded():
		return finding{f.Check, statusWarn, "as they must be, but with one copy only: a broker that is lost takes its records with it", "Raise the replication factor of the topics."}
	}
	return finding{f.Check, statusOK, fmt.Sprintf("as they must be, %s each", plural(int(topics[0].Partitions), "partition", "partitions")), ""}
}

func checkServer(ctx context.Context, address string) finding {
	f := finding{Check: "server", Status: statusFail}
	c, err := newAPIClient(address)
	if err != nil {
		f.Detail = err.Error()
		return f
	}
	_, err = c.get(ctx, "/readyz", http.Header{"Accept": {"text/plain"}})
	if err == nil {
		return finding{f.Check, statusOK, c.base + " is ready", ""}
	}
	e := explain(err)
	f.Detail, f.Hint = e.message, e.hint
	if e.code != codeAPIUnreachable {
		return finding{f.Check, statusWarn, c.base + " answers, but is not ready", "curl " + c.base + "/readyz says what it waits for."}
	}
	if u, err := url.Parse(c.base); err == nil && loopback(u.Hostname()) {
		ln, err := net.Listen("tcp", u.Host)
		if err == nil {
			ln.Close()
			return finding{f.Check, statusWarn, "nothing runs at " + c.base + ", and the port is free", "Start it with tidemark up."}
		}
		f.Detail, f.Hint = "another program has the port of "+c.base, "Choose another one with --http."
	}
	return f
}

func loopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

const (
	clockWarn = 5 * time.Second
	clockFail = 5 * time.Minute
)

// checkClock compares the clock with the server's, whose answers carry the time.
func checkClock(ctx context.Context, address string, now func() time.Time) finding {
	f := finding{Check: "clock", Status: statusOK}
	skew, err := clockSkew(ctx, address, now)
	if err != nil {
		f.Detail = now().UTC().Format(time.RFC3339) + "; no server to compare with"
		return f
	}
	f.Detail = fmt.Sprintf("%s, within %s of the server's", now().UTC().Format(time.RFC3339), max(time.Second, skew.Abs()).Round(time.Second))
	if skew.Abs() > clockWarn {
		f.Status, f.Hint = statusWarn, "Set both clocks by NTP: times in changes are the server's."
	}
	if skew.Abs() > clockFail {
		f.Status = statusFail
	}
	return f
}

func clockSkew(ctx context.Context, address string, now func() time.Time) (time.Duration, error) {
	c, err := newAPIClient(address)
	if err != nil {
		return 0, err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, c.base+"/livez", nil)
	if err != nil {
		return 0, err
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return 0, err
	}
	resp.Body.Close()
	theirs, err := http.ParseTime(resp.Header.Get("Date"))
	if err != nil {
		return 0, err
	}
	return now().Sub(theirs), nil
}

func checkDataDir(dir string) finding {
	f := finding{Check: "data", Status: statusFail}
	abs, err := filepath.Abs(dir)
	if err != nil {
		f.Detail = err.Error()
		return f
	}
	if _, err := os.Stat(abs); errors.Is(err, os.ErrNotExist) {
		return finding{f.Check, statusOK, abs + " is not there yet: the first start makes it", ""}
	}
	holder, err := stack.Holder(abs)
	if err != nil {
		f.Detail = err.Error()
		return f
	}
	if holder != "" {
		return finding{f.Check, statusOK, abs + " is in use by " + holder, ""}
	}
	if err := unix.Access(abs, unix.W_OK|unix.X_OK); err != nil {
		f.Detail, f.Hint = fmt.Sprintf("%s cannot be written: %v", abs, err), "Choose another one with --data, or change its owner."
		return f
	}
	return finding{f.Check, statusOK, abs + " is not in use", ""}
}

// The embedded broker stops taking records at its reserve of 512 MiB.
const (
	diskFail = 512 << 20
	diskWarn = 2 << 30
)

func checkDisk(dir string, free func(dir string) (int64, error)) finding {
	f := finding{Check: "disk", Status: statusFail}
	n, err := free(existing(dir))
	if err != nil {
		f.Detail = err.Error()
		return f
	}
	f.Detail = formatBytes(n) + " free"
	switch {
	case n < diskFail:
		f.Hint = "Free some space: the broker takes no records below " + formatBytes(diskFail) + "."
	case n < diskWarn:
		f.Status, f.Hint = statusWarn, "Free some space before it gets to "+formatBytes(diskFail)+"."
	default:
		f.Status = statusOK
	}
	return f
}

// existing is the nearest directory at or above dir that is there.
func existing(dir string) string {
	abs, err := filepath.Abs(dir)
	if err != nil {
		return "."
	}
	for {
		if _, err := os.Stat(abs); err == nil || abs == filepath.Dir(abs) {
			return abs
		}
		abs = filepath.Dir(abs)
	}
}

func diskFree(dir string) (int64, error) {
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		return 0, fmt.Errorf("asking for the free space of %s: %w", dir, err)
	}
	return int64(st.Bavail) * int64(st.Bsize), nil //nolint:unconvert // the types differ between systems
}

// Each partition keeps some hundred files open when it is large: rows, segments, and the embedded broker's.
const (
	filesFail = 1024
	filesWarn = 4096
)

func checkFiles(limit func() (uint64, error)) finding {
	f := finding{Check: "files", Status: statusFail}
	n, err := limit()
	if err != nil {
		f.Detail = err.Error()
		return f
	}
	f.Detail = count(min(n, 1<<62)) + " may be open at once"
	switch {
	case n < filesFail:
		f.Hint = fmt.Sprintf("Raise the limit: ulimit -n %d", filesWarn)
	case n < filesWarn:
		f.Status, f.Hint = statusWarn, fmt.Sprintf("Raise the limit before there is much data: ulimit -n %d", filesWarn)
	default:
		f.Status = statusOK
	}
	return f
}

func filesLimit() (uint64, error) {
	var r unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &r); err != nil {
		return 0, fmt.Errorf("asking for the limit of open files: %w", err)
	}
	return uint64(r.Cur), nil //nolint:unconvert // the types differ between systems
}
