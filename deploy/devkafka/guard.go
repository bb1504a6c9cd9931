package devkafka

import (
	"encoding/binary"
	"fmt"
	"io"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"
)

const (
	// maxMetadataRequestBytes bounds every request but Produce. Only Produce carries data; the rest are lists of names and
	// numbers, and kfake sets aside up to a hundred times a list's bytes on the strength of the length that it claims.
	maxMetadataRequestBytes = 4 << 20
	// minFrameBytes is a request header without its client id: key, version, correlation id.
	minFrameBytes = 8
	// maxConnections is far above what a machine's own clients open (five each for franz-go).
	maxConnections = 2048
	// dropLogEvery spaces the log lines about dropped connections, a reason at a time.
	dropLogEvery = 10 * time.Second
)

const (
	dropUnknownKey = "unknown_key"
	dropShort      = "short_frame"
	dropOversize   = "oversize_frame"
	dropTooMany    = "too_many_connections"
)

var dropReasons = []string{dropUnknownKey, dropShort, dropOversize, dropTooMany}

// knownKeys are the request keys that kfake can decode. For any other it dereferences a nil request, on a goroutine without
// a recover, and the process is gone.
var knownKeys = func() (known [kmsg.MaxKey + 1]bool) {
	for key := range known {
		known[key] = kmsg.RequestForKey(int16(key)) != nil
	}
	return known
}()

// guard vets what clients send before kfake sees it, and counts their connections.
type guard struct {
	maxRequestBytes int64
	log             *slog.Logger
	metrics         *metrics
	open            atomic.Int64
	lastLogged      [4]atomic.Int64 // unix nanoseconds, by position in dropReasons
}

// wrap returns conn behind the guard, or false when there are too many connections, conn being closed then.
func (g *guard) wrap(conn net.Conn) (net.Conn, bool) {
	if g.open.Add(1) > maxConnections {
		g.open.Add(-1)
		g.report(dropTooMany, conn, fmt.Errorf("more than %d connections are open", maxConnections))
		conn.Close()
		return nil, false
	}
	g.metrics.connections.Inc()
	return &guardedConn{Conn: conn, guard: g, headerRead: headerBytes}, true
}

// report counts a dropped connection, and logs at most one in dropLogEvery of each kind: a stray program that dials in a
// loop must not fill the log.
func (g *guard) report(reason string, conn net.Conn, err error) {
	g.metrics.dropped.WithLabelValues(reason).Inc()
	for i, r := range dropReasons {
		if r != reason {
			continue
		}
		now, last := time.Now().UnixNano(), g.lastLogged[i].Load()
		if (last == 0 || now-last >= int64(dropLogEvery)) && g.lastLogged[i].CompareAndSwap(last, now) {
			g.log.Warn("dropping a connection that does not speak Kafka, or not as it should", "reason", reason, "remote", conn.RemoteAddr().String(), "err", err)
		}
	}
}

// check returns why a frame of that size and key may not pass.
func (g *guard) check(size int64, key int16) (reason string, err error) {
	switch {
	case size < minFrameBytes:
		return dropShort, fmt.Errorf("frame of %d bytes is shorter than a request header", size)
	case key < 0 || int(key) >= len(knownKeys) || !knownKeys[key]:
		return dropUnknownKey, fmt.Errorf("request key %d is unknown", key)
	case size > g.maxRequestBytes:
		return dropOversize, fmt.Errorf("request of %d bytes is above the limit of %d", size, g.maxRequestBytes)
	case key != int16(kmsg.Produce) && size > maxMetadataRequestBytes:
		return dropOversize, fmt.Errorf("request of %d bytes with key %d is above the limit of %d for all but Produce", size, key, maxMetadataRequestBytes)
	}
	return "", nil
}

// headerBytes is what the guard reads ahead of each frame: its length, and the key and version that follow. It is 8 because
// a frame is at least 12 bytes long, so that no read runs into the next frame; and because kfake reads the length and the
// rest in two calls, which are two system calls behind the guard as well.
const headerBytes = 8

// guardedConn hands kfake the bytes of vetted frames only, and ends with an error at the first frame that may not pass. kfake
// reads from one goroutine at a time.
type guardedConn struct {
	net.Conn
	guard      *guard
	header     [headerBytes]byte
	headerRead int   // bytes of header already handed on
	body       int64 // bytes of the frame still to come from the connection
	closeOnce  sync.Once
}

func (c *guardedConn) Read(p []byte) (int, error) {
	if c.headerRead == headerBytes && c.body == 0 {
		if err := c.nextFrame(); err != nil {
			return 0, err
		}
	}
	if c.headerRead < headerBytes {
		n := copy(p, c.header[c.headerRead:])
		c.headerRead += n
		return n, nil
	}
	if int64(len(p)) > c.body {
		p = p[:c.body]
	}
	n, err := c.Conn.Read(p)
	c.body -= int64(n)
	return n, err
}

// nextFrame reads and vets the head of the next frame. The length is judged as soon as it is there: a frame that claims fewer
// bytes than a header has would otherwise be waited on.
func (c *guardedConn) nextFrame() error {
	n, err := io.ReadAtLeast(c.Conn, c.header[:], 4)
	if err != nil {
		return err
	}
	size := int64(binary.BigEndian.Uint32(c.header[:]))
	if size >= minFrameBytes && n < headerBytes {
		if _, err := io.ReadFull(c.Conn, c.header[n:]); err != nil {
			return err
		}
	}
	key := int16(binary.BigEndian.Uint16(c.header[4:]))
	if reason, err := c.guard.check(size, key); err != nil {
		c.guard.report(reason, c.Conn, err)
		return fmt.Errorf("vetting a request: %w", err)
	}
	c.headerRead, c.body = 0, size-(headerBytes-4)
	return nil
}

func (c *guardedConn) Close() error {
	c.closeOnce.Do(func() {
		c.guard.open.Add(-1)
		c.guard.metrics.connections.Dec()
	})
	return c.Conn.Close()
}
