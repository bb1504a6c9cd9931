package devclickhouse

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"strconv"
	"syscall"
	"time"
)

// Free ports are looked for below 32768. Above begins the range that the kernel gives to outgoing connections (61000 on Linux, 49152
// to 65535 elsewhere): such a port may be someone's by the next start.
const (
	freePortsFrom, freePortsTo = 20000, 32000
	freePortTries              = 32
)

// bind listens where the config says. For port 0 it tries the port of the last start first, so that clients find the server again,
// for as long as the child of a killed parent may hold it; then free ones.
func bind(ctx context.Context, listen string, lastPort int) (*net.TCPListener, error) {
	host, port, err := net.SplitHostPort(listen)
	if err != nil {
		return nil, fmt.Errorf("reading listen address %q: %w", listen, err)
	}
	if port != "0" {
		ln, err := bindPort(ctx, host, port, bindRetry)
		if errors.Is(err, syscall.EADDRINUSE) {
			return nil, fmt.Errorf("listening on %s: the port is taken by another program; stop that one or choose another port: %w", listen, err)
		}
		return ln, err
	}
	if lastPort != 0 {
		if ln, err := bindPort(ctx, host, strconv.Itoa(lastPort), bindRetry); !errors.Is(err, syscall.EADDRINUSE) {
			return ln, err
		}
	}
	for range freePortTries {
		port = strconv.Itoa(freePortsFrom + rand.IntN(freePortsTo-freePortsFrom))
		var ln *net.TCPListener
		if ln, err = bindPort(ctx, host, port, 0); !errors.Is(err, syscall.EADDRINUSE) {
			return ln, err
		}
	}
	return nil, fmt.Errorf("finding a free port on %s: %w", host, err)
}

// bindPort listens on one port, and waits for it to become free for a while.
func bindPort(ctx context.Context, host, port string, patience time.Duration) (*net.TCPListener, error) {
	for deadline := time.Now().Add(patience); ; time.Sleep(bindRetryStep) {
		ln, err := new(net.ListenConfig).Listen(ctx, "tcp", net.JoinHostPort(host, port))
		switch {
		case err == nil:
			return ln.(*net.TCPListener), nil
		case !errors.Is(err, syscall.EADDRINUSE) || ctx.Err() != nil || time.Now().After(deadline):
			return nil, fmt.Errorf("listening on %s: %w", net.JoinHostPort(host, port), err)
		}
	}
}
