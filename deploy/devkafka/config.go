package devkafka

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"strconv"

	"github.com/prometheus/client_golang/prometheus"
)

const (
	defaultPartitions      = 8
	defaultReserveBytes    = 512 << 20
	defaultMaxRequestBytes = 100 << 20 // Kafka's socket.request.max.bytes
	defaultMaxMessageBytes = 2 << 20
)

// Config says where the broker keeps its log and how it is reached. DataDir is required; the zero value of every other
// field stands for its default.
type Config struct {
	// DataDir holds everything the broker keeps, see the package documentation. It is created with mode 0700. A directory
	// with files in it that are not the broker's is refused.
	DataDir string
	// Listen is host:port, default "127.0.0.1:0". Clients are sent to this very host, so it may not be a wildcard such as
	// 0.0.0.0. Port 0 stands for the port of the last start on this directory when that is free, else for a free one.
	Listen string
	// AllowNonLoopback permits a Listen host other than loopback. The broker has no authentication.
	AllowNonLoopback bool
	// Partitions is the partition count of a topic that is created without one. Default 8.
	Partitions int32
	// ClusterID is kept in the directory at the first start, and a different one later is refused. Default: a random one.
	ClusterID string
	// ReserveBytes is the free space below which producing is refused. Default 512 MiB; negative for none.
	ReserveBytes int64
	// MaxRequestBytes bounds one request. Default 100 MiB.
	MaxRequestBytes int32
	// MaxMessageBytes is the broker's message.max.bytes, the largest record batch of a topic that sets no max.message.bytes
	// of its own. Default 2 MiB.
	MaxMessageBytes int32
	// SyncWrites has each batch on the disk before it is acknowledged, so that a power cut loses nothing either.
	SyncWrites bool
	// Logger takes the broker's log lines; nil for none.
	Logger *slog.Logger
	// Registerer takes the broker's metrics until Close; nil for none.
	Registerer prometheus.Registerer
	// FreeBytes reports the free space, in bytes, of the file system that holds dir; nil asks the kernel. It is called on
	// the broker's only request goroutine and must not block.
	FreeBytes func(dir string) (int64, error)
	// ListenFn opens the listener; nil for net.Listen.
	ListenFn func(network, address string) (net.Listener, error)
}

// withDefaults returns the config filled in and the endpoint to listen on, or everything that is wrong with it.
func (c Config) withDefaults() (Config, endpoint, error) {
	var errs []error
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }

	if c.DataDir == "" {
		bad("data directory is not set")
	}
	if c.Listen == "" {
		c.Listen = "127.0.0.1:0"
	}
	ep, err := parseEndpoint(c.Listen, c.AllowNonLoopback)
	if err != nil {
		errs = append(errs, err)
	}
	if c.Partitions == 0 {
		c.Partitions = defaultPartitions
	}
	if c.Partitions < 0 {
		bad("partition count %d is negative", c.Partitions)
	}
	if c.ReserveBytes == 0 {
		c.ReserveBytes = defaultReserveBytes
	}
	c.ReserveBytes = max(c.ReserveBytes, 0)
	if c.MaxRequestBytes == 0 {
		c.MaxRequestBytes = defaultMaxRequestBytes
	}
	if c.MaxMessageBytes == 0 {
		c.MaxMessageBytes = defaultMaxMessageBytes
	}
	if c.MaxMessageBytes < 0 || c.MaxRequestBytes < c.MaxMessageBytes {
		bad("largest request (%d bytes) must hold the largest message (%d bytes)", c.MaxRequestBytes, c.MaxMessageBytes)
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	c.Logger = c.Logger.With("component", "devkafka")
	if c.FreeBytes == nil {
		c.FreeBytes = freeBytes
	}
	if c.ListenFn == nil {
		c.ListenFn = func(network, address string) (net.Listener, error) {
			return new(net.ListenConfig).Listen(context.Background(), network, address)
		}
	}
	return c, ep, errors.Join(errs...)
}

// endpoint is where the broker listens and, with the same host, where it sends clients.
type endpoint struct {
	host string
	port int
}

func (e endpoint) String() string { return net.JoinHostPort(e.host, strconv.Itoa(e.port)) }

// parseEndpoint reads a listen address. "localhost" and an empty host become 127.0.0.1: a client that resolves localhost to
// ::1 first would otherwise be refused there.
func parseEndpoint(listen string, allowNonLoopback bool) (endpoint, error) {
	host, portText, err := net.SplitHostPort(listen)
	if err != nil {
		return endpoint{}, fmt.Errorf("reading listen address %q, which must be host:port: %w", listen, err)
	}
	port, err := strconv.ParseUint(portText, 10, 16)
	if err != nil {
		return endpoint{}, fmt.Errorf("reading the port of listen address %q: %w", listen, err)
	}
	if host == "localhost" || host == "" && !allowNonLoopback {
		host = "127.0.0.1"
	}
	ip, err := netip.ParseAddr(host)
	isIP := err == nil
	switch {
	case host == "" || isIP && ip.IsUnspecified():
		return endpoint{}, fmt.Errorf("listen address %q is a wildcard, which clients cannot be sent to: give the name or address that they reach", listen)
	case !allowNonLoopback && (!isIP || !ip.IsLoopback()):
		return endpoint{}, fmt.Errorf("listen address %q is not loopback, and the broker has no authentication: allow it explicitly", listen)
	}
	return endpoint{host: host, port: int(port)}, nil
}
