package devkafka

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"sync"
	"syscall"
	"time"
)

const (
	// Free ports are looked for below 32768. Above begins the range that the kernel gives to outgoing connections (61000 on
	// Linux, 49152 to 65535 elsewhere): such a port may be someone's by the next start, and a client that keeps dialling a
	// stopped broker there can even connect to itself and so hold the port.
	freePortsFrom, freePortsTo = 20000, 32000
	freePortTries              = 32

	acceptRetryMin = 5 * time.Millisecond
	acceptRetryMax = time.Second
)

// bind listens where the config says. For port 0 it tries the port of the last start first, so that clients find the broker
// again, then free ones.
func bind(cfg Config, ep endpoint, lastPort int) (net.Listener, error) {
	if ep.port != 0 {
		ln, err := cfg.ListenFn("tcp", ep.String())
		if errors.Is(err, syscall.EADDRINUSE) {
			return nil, fmt.Errorf("listening on %s: port %d is taken by another program; stop that one or choose another port: %w", ep, ep.port, err)
		}
		if err != nil {
			return nil, fmt.Errorf("listening on %s: %w", ep, err)
		}
		return ln, nil
	}
	var lastErr error
	for try := range freePortTries {
		if try > 0 || lastPort == 0 {
			ep.port = freePortsFrom + rand.IntN(freePortsTo-freePortsFrom)
		} else {
			ep.port = lastPort
		}
		ln, err := cfg.ListenFn("tcp", ep.String())
		if err == nil {
			if try > 0 && lastPort != 0 {
				cfg.Logger.Warn("the port of the last start is taken, listening on another", "port", ep.port, "last_port", lastPort)
			}
			return ln, nil
		}
		lastErr = err
	}
	return nil, fmt.Errorf("finding a free port on %s: %w", ep.host, lastErr)
}

// listener is what kfake accepts from. It stands before the real listener for four reasons: connections pass the guard;
// nobody is let in before recovery is done (dial comes first, everyone else waits in the backlog); its address is the one that
// clients are sent to; and an accept that fails for want of file descriptors is tried again, where kfake would stop
// listening for good.
type listener struct {
	real      net.Listener
	advertise advertisedAddr
	guard     *guard
	log       *slog.Logger
	conns     chan net.Conn
	closed    chan struct{}
	closeOnce sync.Once
	serving   sync.WaitGroup
}

// advertisedAddr is host:port as clients see it in metadata.
type advertisedAddr string

func (advertisedAddr) Network() string  { return "tcp" }
func (a advertisedAddr) String() string { return string(a) }

func newListener(real net.Listener, advertise string, g *guard, log *slog.Logger) *listener {
	return &listener{
		real: real, advertise: advertisedAddr(advertise), guard: g, log: log,
		conns: make(chan net.Conn), closed: make(chan struct{}),
	}
}

func (l *listener) Addr() net.Addr { return l.advertise }

func (l *listener) Accept() (net.Conn, error) {
	select {
	case conn := <-l.conns:
		return conn, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

func (l *listener) Close() error {
	var err error
	l.closeOnce.Do(func() {
		close(l.closed)
		err = l.real.Close()
	})
	return err
}

// open lets clients in.
func (l *listener) open() {
	l.serving.Go(func() {
		var wait time.Duration
		for {
			conn, err := l.real.Accept()
			if err != nil {
				select {
				case <-l.closed:
					return
				default:
				}
				wait = min(max(2*wait, acceptRetryMin), acceptRetryMax)
				l.log.Warn("accepting a connection", "err", err, "retry_ms", wait.Milliseconds())
				select {
				case <-time.After(wait):
				case <-l.closed:
					return
				}
				continue
			}
			wait = 0
			if conn, ok := l.guard.wrap(conn); ok {
				_ = l.hand(nil, conn) // closed when it is not taken
			}
		}
	})
}

// dial connects to kfake inside the process, before and after open. A kgo.Dialer.
func (l *listener) dial(ctx context.Context, _, _ string) (net.Conn, error) {
	client, server := net.Pipe()
	if err := l.hand(ctx.Done(), server); err != nil {
		client.Close()
		return nil, fmt.Errorf("connecting to the broker inside the process: %w", err)
	}
	return client, nil
}

// hand gives conn to kfake, or closes it once the listener is closed or giveUp is.
func (l *listener) hand(giveUp <-chan struct{}, conn net.Conn) error {
	select {
	case l.conns <- conn:
		return nil
	case <-l.closed:
	case <-giveUp:
	}
	conn.Close()
	return net.ErrClosed
}
