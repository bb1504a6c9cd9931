package devclickhouse

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/signal"
	"path/filepath"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/tidemark-dev/tidemark/deploy/devclickhouse/bridge"
	"github.com/tidemark-dev/tidemark/deploy/devclickhouse/chdb"
)

// childEnv tells a process that it is the child, and what it is to do.
const childEnv = "TIDEMARK_CLICKHOUSE_CHILD"

// Files that the child inherits, after the three of every process.
const (
	_          = iota + 3 // the lock: held, never used, see C1
	listenerFD            // not for a binary, which listens itself
)

const (
	// childGrace is how long running statements may take to end when the parent says stop, orphanGrace when it is gone: then its
	// successor may be waiting for the directory.
	childGrace  = stopTimeout / 2
	orphanGrace = 500 * time.Millisecond

	// stopLine is what the parent writes when it means the child to stop.
	stopLine = "stop\n"
)

// orders are what the child is told in its environment. There is nothing secret in them.
type orders struct {
	Dir        string `json:"dir"`
	Library    string `json:"library"`
	Binary     string `json:"binary,omitempty"`
	MaxQueries int    `json:"max_queries"`
	// Confined says that the process has been confined, and is not to be again.
	Confined bool `json:"confined"`
}

// secrets are what the child is told through its standard input, in one line. What follows it is stopLine, or the end of the parent.
type secrets struct {
	Owner  bridge.Login `json:"owner"`
	Reader bridge.Login `json:"reader"`
}

// report is the line that the child writes to its standard output once it serves.
type report struct {
	Version  string `json:"tidemark_clickhouse_version"`
	Confined bool   `json:"confined"`
}

// RunChild makes this process the engine's if it was started to be that. Main must call it before anything else, and so must the
// TestMain of a package whose tests call [Start]. It returns false at once in any other process. In the child it serves until the
// parent says stop or ends; then it returns true, and the process should end, or exits with a status of 1 if that failed.
func RunChild() bool {
	text, isChild := os.LookupEnv(childEnv)
	if !isChild {
		return false
	}
	if err := runChild(text); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	return true
}

func runChild(text string) error {
	var o orders
	if err := json.Unmarshal([]byte(text), &o); err != nil {
		return fmt.Errorf("reading the orders of the parent: %w", err)
	}
	if o.Binary == "" && !o.Confined {
		// Returns only if this system cannot confine: the new image of this process comes back here, with Confined set.
		if err := confine(o); errors.Is(err, errHalfConfined) {
			return err
		} else if err != nil {
			fmt.Fprintln(os.Stderr, "running without confinement:", err)
		}
	}
	stdin := bufio.NewReader(os.Stdin)
	line, err := stdin.ReadBytes('\n')
	if err != nil {
		return fmt.Errorf("reading the logins from the parent: %w", err)
	}
	var logins secrets
	if err := json.Unmarshal(line, &logins); err != nil {
		return errors.New("reading the logins from the parent: they are not in the form expected")
	}
	stop, cancel := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer cancel()
	var orphaned atomic.Bool
	go func() {
		line, err := stdin.ReadString('\n')
		orphaned.Store(err != nil || line != stopLine)
		cancel()
	}()
	grace := func() time.Duration {
		if orphaned.Load() {
			return orphanGrace
		}
		return childGrace
	}
	if o.Binary != "" {
		return mind(stop, o, grace)
	}
	return serve(stop, o, logins, grace)
}

// errHalfConfined says that a process has lost rights in one of its threads, and is not to be used.
var errHalfConfined = errors.New("starting the confined process")

// serve runs the engine and the bridge until the context ends.
func serve(stop context.Context, o orders, logins secrets, grace func() time.Duration) error {
	ln, err := net.FileListener(os.NewFile(listenerFD, "listener"))
	if err != nil {
		return fmt.Errorf("taking over the listener: %w", err)
	}
	lib, err := chdb.Open(o.Library)
	if err != nil {
		return err
	}
	server, err := bridge.Open(bridge.Config{
		Library:    lib,
		Path:       filepath.Join(o.Dir, dataDir),
		ConfigFile: filepath.Join(o.Dir, configFile),
		Owner:      logins.Owner,
		Reader:     logins.Reader,
		MaxQueries: o.MaxQueries,
		Logger:     slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelWarn})),
	})
	if err != nil {
		return err
	}
	served := make(chan error, 1)
	go func() { served <- server.Serve(ln) }()
	if err := json.NewEncoder(os.Stdout).Encode(report{Version: server.Version(), Confined: o.Confined}); err != nil {
		return fmt.Errorf("telling the parent: %w", err) // it is gone
	}
	select {
	case err = <-served:
	case <-stop.Done():
	}
	ctx, cancel := context.WithTimeout(context.Background(), grace())
	defer cancel()
	return errors.Join(err, server.Close(ctx))
}

// emptyDir removes what a killed child left in the folder for temporary files.
func emptyDir(dir string) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if err := os.RemoveAll(filepath.Join(dir, e.Name())); err != nil {
			return err
		}
	}
	return nil
}
