package devkafka

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
)

func TestStart_SecondProcessIsRefused(t *testing.T) {
	dir := t.TempDir()
	holder := startChild(t, dir, "127.0.0.1:0")
	_, err := Start(t.Context(), Config{DataDir: dir})
	wantErr(t, err, ErrLocked, dir, fmt.Sprintf("process %d", holder.cmd.Process.Pid))

	holder.kill()
	b := start(t, dir) // the kernel let go of the lock
	_, err = Start(t.Context(), Config{DataDir: dir})
	wantErr(t, err, ErrLocked, fmt.Sprintf("process %d", os.Getpid()))
	must(t, b.Close())
	must(t, start(t, dir).Close())
}

func TestStart_PortIsKept(t *testing.T) {
	dir := t.TempDir()
	first := start(t, dir)
	addr := first.Addr()
	if !strings.HasPrefix(addr, "127.0.0.1:") {
		t.Errorf("address %s is not 127.0.0.1", addr)
	}
	must(t, first.Close())

	again := start(t, dir)
	if again.Addr() != addr {
		t.Errorf("second start is at %s, the first was at %s", again.Addr(), addr)
	}
	must(t, again.Close())

	squatter, err := net.Listen("tcp", addr)
	must(t, err)
	defer squatter.Close()
	moved := start(t, dir)
	if moved.Addr() == addr {
		t.Error("started on a port that is taken")
	}
	must(t, moved.Close())

	_, port, _ := net.SplitHostPort(addr)
	_, err = Start(t.Context(), Config{DataDir: dir, Listen: addr})
	wantErr(t, err, syscall.EADDRINUSE, "port "+port+" is taken")
	must(t, squatter.Close())
	fixed := start(t, dir, func(c *Config) { c.Listen = addr })
	if fixed.Addr() != addr {
		t.Errorf("started at %s, asked for %s", fixed.Addr(), addr)
	}
}

func TestConfig_ListenAddress(t *testing.T) {
	for _, c := range []struct {
		listen string
		allow  bool
		want   string // of the endpoint, or a part of the error
		ok     bool
	}{
		{"127.0.0.1:9092", false, "127.0.0.1:9092", true},
		{"localhost:9092", false, "127.0.0.1:9092", true},
		{":9092", false, "127.0.0.1:9092", true},
		{"[::1]:0", false, "[::1]:0", true},
		{"192.168.1.5:9092", true, "192.168.1.5:9092", true},
		{"kafka.internal:9092", true, "kafka.internal:9092", true},
		{"192.168.1.5:9092", false, "not loopback", false},
		{"kafka.internal:9092", false, "not loopback", false},
		{"0.0.0.0:9092", true, "wildcard", false},
		{":9092", true, "wildcard", false},
		{"[::]:9092", true, "wildcard", false},
		{"0.0.0.0:9092", false, "wildcard", false},
		{"127.0.0.1", false, "host:port", false},
		{"127.0.0.1:99999", false, "port", false},
	} {
		ep, err := parseEndpoint(c.listen, c.allow)
		switch {
		case c.ok && (err != nil || ep.String() != c.want):
			t.Errorf("%q (allow %v): %v, %v, want %s", c.listen, c.allow, ep, err, c.want)
		case !c.ok && (err == nil || !strings.Contains(err.Error(), c.want)):
			t.Errorf("%q (allow %v): error %v, want one about %q", c.listen, c.allow, err, c.want)
		}
	}
}

func TestConfig_ReportsEverything(t *testing.T) {
	_, err := Start(t.Context(), Config{Listen: "nowhere", Partitions: -1, MaxMessageBytes: 10, MaxRequestBytes: 5})
	for _, want := range []string{"data directory", "nowhere", "-1", "largest request"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v does not mention %q", err, want)
		}
	}
}

func TestStart_ForeignDirectoryIsRefused(t *testing.T) {
	dir := t.TempDir()
	must(t, os.WriteFile(filepath.Join(dir, "thesis.doc"), []byte("x"), 0o600))
	_, err := Start(t.Context(), Config{DataDir: dir})
	wantErr(t, err, ErrFormat, "thesis.doc")
}

func TestStart_DirectoryIsPrivate(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "new")
	start(t, dir)
	info, err := os.Stat(dir)
	must(t, err)
	if info.Mode().Perm() != 0o700 {
		t.Errorf("directory has mode %v", info.Mode())
	}
}

func TestStart_ClusterIDIsKept(t *testing.T) {
	dir := t.TempDir()
	id := func(b *Broker) string {
		meta, err := newClient(t, b.Addr()).Request(t.Context(), metadataRequest())
		must(t, err)
		return *clusterIDOf(meta)
	}
	b := start(t, dir)
	first := id(b)
	if len(first) != 22 {
		t.Errorf("cluster id %q, want 22 characters", first)
	}
	must(t, b.Close())
	b = start(t, dir)
	if again := id(b); again != first {
		t.Errorf("cluster id %q after a restart, %q before", again, first)
	}
	must(t, b.Close())
	_, err := Start(t.Context(), Config{DataDir: dir, ClusterID: "other"})
	wantErr(t, err, ErrFormat, first, "other")
}

func TestClose_IsIdempotentAndFinal(t *testing.T) {
	reg := prometheus.NewRegistry()
	dir := t.TempDir()
	b := start(t, dir, func(c *Config) { c.Registerer = reg })
	if n, err := testutil.GatherAndCount(reg); err != nil || n == 0 {
		t.Errorf("%d metrics registered, %v", n, err)
	}
	must(t, b.CreateTopic("t", 1, nil))
	must(t, b.Close())
	must(t, b.Close())
	wantErr(t, b.CreateTopic("u", 1, nil), ErrClosed)
	wantErr(t, b.Trim("t", 0, 1), ErrClosed)
	must(t, start(t, dir, func(c *Config) { c.Registerer = reg }).Close()) // the names are free again
}

// A stop that the disk did not take is reported, and the next start recovers.
func TestClose_ReportsWhatWasNotSaved(t *testing.T) {
	dir := t.TempDir()
	b := start(t, dir, func(c *Config) { c.Logger = nil })
	must(t, b.CreateTopic("t", 1, nil))
	produce(t, newClient(t, b.Addr()), "t", 0, "a")
	blocker := filepath.Join(dir, logDir, kfakeSequences+".tmp")
	must(t, os.Mkdir(blocker, 0o700))
	if err := b.Close(); err == nil || !strings.Contains(err.Error(), "did not take") {
		t.Errorf("closing: %v", err)
	}
	must(t, os.Remove(blocker))
	if clean, err := b.state.stoppedCleanly(); err != nil || clean {
		t.Errorf("the stop counts as clean (%v), %v", clean, err)
	}
	wantValues(t, readAll(t, start(t, dir).Addr(), "t", 0), "a")
}

func TestStart_SyncWrites(t *testing.T) {
	dir := t.TempDir()
	b := start(t, dir, func(c *Config) { c.SyncWrites = true })
	must(t, b.CreateTopic("t", 1, nil))
	produce(t, newClient(t, b.Addr()), "t", 0, "a", "b")
	wantValues(t, readAll(t, b.Addr(), "t", 0), "a", "b")
	wantValues(t, readAll(t, start(t, crashCopy(t, dir)).Addr(), "t", 0), "a", "b")
}

// A caller that gives up must get everything back: lock, port, goroutines.
func TestStart_CancelledLeavesNothing(t *testing.T) {
	dir := t.TempDir()
	b := start(t, dir)
	must(t, b.CreateTopic("t", 1, nil))
	produce(t, newClient(t, b.Addr()), "t", 0, "a")
	addr := b.Addr()
	must(t, b.Close())
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := Start(ctx, Config{DataDir: dir}); !errors.Is(err, context.Canceled) {
		t.Fatalf("error %v, want one that is %v", err, context.Canceled)
	}
	b = start(t, dir)
	if b.Addr() != addr {
		t.Errorf("second start is at %s, the first was at %s", b.Addr(), addr)
	}
	wantValues(t, readAll(t, b.Addr(), "t", 0), "a")
}

// The simulation of the whole product runs the broker on kfake's virtual network and fake time.
func TestStart_VirtualNetworkAndFakeTime(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		var network kfake.VirtualNetwork
		for round := range 2 {
			b, err := Start(t.Context(), Config{DataDir: dir, Listen: "127.0.0.1:9092", ListenFn: network.Listen, ReserveBytes: -1})
			must(t, err)
			must(t, b.CreateTopic("t", 1, nil))
			cl, err := kgo.NewClient(kgo.SeedBrokers(b.Addr()), kgo.Dialer(network.DialContext), kgo.ConsumeTopics("t"))
			must(t, err)
			must(t, cl.ProduceSync(t.Context(), &kgo.Record{Topic: "t", Value: []byte(strconv.Itoa(round))}).FirstErr())
			time.Sleep(time.Hour)
			var got int
			for got <= round {
				got += cl.PollFetches(t.Context()).NumRecords()
			}
			cl.Close()
			must(t, b.Close())
		}
	})
}
