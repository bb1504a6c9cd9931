package devkafka

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// frame is a request as it goes over the wire, with any key, version and body.
func frame(key, version int16, body []byte) []byte {
	out := binary.BigEndian.AppendUint32(nil, uint32(8+len(body)))
	out = binary.BigEndian.AppendUint16(out, uint16(key))
	out = binary.BigEndian.AppendUint16(out, uint16(version))
	out = binary.BigEndian.AppendUint32(out, 7) // correlation id
	return append(out, body...)
}

// send writes to the broker and waits until it hangs up, reading what it answers.
func send(t *testing.T, addr string, data []byte) (answer []byte, hungUp bool) {
	t.Helper()
	conn, err := net.Dial("tcp", addr)
	must(t, err)
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(10 * time.Second))
	conn.Write(data)
	answer, err = io.ReadAll(conn)
	return answer, !errors.Is(err, os.ErrDeadlineExceeded) // a reset is a hang-up too
}

// Each of these, or one like it, crashes a bare kfake or has it set aside a gigabyte. The broker hangs up, and lives.
func TestGuard_CutsOffWhatIsNotKafka(t *testing.T) {
	reg := prometheus.NewRegistry()
	b := start(t, t.TempDir(), func(c *Config) { c.Registerer = reg; c.MaxRequestBytes = 8 << 20 })
	must(t, b.CreateTopic("t", 1, nil))
	drops := func(reason string) float64 { return testutil.ToFloat64(b.metrics.dropped.WithLabelValues(reason)) }
	for _, c := range []struct {
		name, reason string
		data         []byte
	}{
		{"unknown key", dropUnknownKey, frame(4242, 0, []byte{0xff, 0xff})},
		{"negative key", dropUnknownKey, frame(-1, 0, []byte{0xff, 0xff})},
		{"first key past the last", dropUnknownKey, frame(kmsg.MaxKey+1, 0, []byte{0xff, 0xff})},
		{"empty frame", dropShort, []byte{0, 0, 0, 0}},
		{"frame shorter than its header", dropShort, []byte{0, 0, 0, 7, 0, 3, 0, 0, 0, 0, 0}},
		{"http", dropUnknownKey, []byte("GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")},
		{"tls", dropOversize, append([]byte{0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3}, make([]byte, 500)...)},
		{"produce above the limit", dropOversize, append(binary.BigEndian.AppendUint32(nil, 8<<20+1), 0, 0, 0, 9, 0, 0, 0, 1)},
		{"negative length", dropOversize, append(binary.BigEndian.AppendUint32(nil, 0xffffffff), 0, 0, 0, 9, 0, 0, 0, 1)},
		{"metadata above its limit", dropOversize, append(binary.BigEndian.AppendUint32(nil, maxMetadataRequestBytes+1), 0, 3, 0, 9, 0, 0, 0, 1)},
	} {
		t.Run(c.name, func(t *testing.T) {
			before := drops(c.reason)
			answer, hungUp := send(t, b.Addr(), c.data)
			if !hungUp || len(answer) != 0 {
				t.Errorf("hung up %v, answered %d bytes", hungUp, len(answer))
			}
			if n := drops(c.reason) - before; n != 1 {
				t.Errorf("%v connections counted as dropped for %s", n, c.reason)
			}
		})
	}
	produce(t, newClient(t, b.Addr()), "t", 0, "still here")
	wantValues(t, readAll(t, b.Addr(), "t", 0), "still here")
}

// Frames with known keys and mutated bodies go through to kfake, which must live.
func TestGuard_SurvivesGarbage(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	rng := rand.New(rand.NewPCG(seed, 0))
	b := start(t, t.TempDir())
	must(t, b.CreateTopic("t", 2, nil))
	t.Logf("seed %d", seed)
	frames := 3000
	if testing.Short() {
		frames = 300
	}
	formatter := kmsg.NewRequestFormatter(kmsg.FormatterClientID("garbage"))
	for sent := 0; sent < frames; {
		conn, err := net.Dial("tcp", b.Addr())
		must(t, err)
		go io.Copy(io.Discard, conn)
		conn.SetDeadline(time.Now().Add(5 * time.Second))
		for range 40 { // until kfake hangs up, which it does at most of them
			sent++
			data := garbage(rng, formatter)
			if _, err := conn.Write(data); err != nil {
				break
			}
		}
		conn.Close()
	}
	produce(t, newClient(t, b.Addr()), "t", 1, "still here")
	wantValues(t, readAll(t, b.Addr(), "t", 1), "still here")
}

// garbage is a well-formed request of any kind with some bytes changed, cut or added, its length corrected, or plain noise.
func garbage(rng *rand.Rand, f *kmsg.RequestFormatter) []byte {
	if rng.IntN(10) == 0 {
		noise := make([]byte, rng.IntN(200))
		for i := range noise {
			noise[i] = byte(rng.Uint32())
		}
		return frame(int16(rng.IntN(kmsg.MaxKey+10)), int16(rng.IntN(20)-2), noise)
	}
	var req kmsg.Request
	for req == nil {
		req = kmsg.RequestForKey(int16(rng.IntN(kmsg.MaxKey + 1)))
	}
	req.SetVersion(int16(rng.IntN(int(req.MaxVersion()) + 1)))
	if p, ok := req.(*kmsg.ProduceRequest); ok {
		p.Acks = int16(rng.IntN(3) - 1)
		p.Topics = []kmsg.ProduceRequestTopic{{Topic: "t", Partitions: []kmsg.ProduceRequestTopicPartition{{Partition: int32(rng.IntN(3)), Records: make([]byte, rng.IntN(100))}}}}
	}
	data := f.AppendRequest(nil, req, int32(rng.Uint32()))
	for range rng.IntN(6) {
		if i := 4 + rng.IntN(len(data)-4); i >= 8 { // not the key: unknown ones end the connection at once
			data[i] = byte(rng.Uint32())
		}
	}
	if rng.IntN(4) == 0 {
		data = data[:12+rng.IntN(len(data)-11)]
	}
	binary.BigEndian.PutUint32(data, uint32(len(data)-4))
	return data
}

func testGuard(maxRequestBytes int64) *guard {
	m, err := newMetrics(nil)
	if err != nil {
		panic(err)
	}
	return &guard{maxRequestBytes: maxRequestBytes, log: new(logLines).logger(), metrics: m}
}

// chunkConn gives its bytes out a few at a time, as a network may.
type chunkConn struct {
	net.Conn
	data  []byte
	chunk func() int
}

func (c *chunkConn) Read(p []byte) (int, error) {
	if len(c.data) == 0 {
		return 0, io.EOF
	}
	n := copy(p[:min(len(p), max(1, c.chunk()))], c.data)
	c.data = c.data[n:]
	return n, nil
}
func (*chunkConn) RemoteAddr() net.Addr { return advertisedAddr("test") }
func (*chunkConn) Close() error         { return nil }

// FuzzGuard reads as kfake does. Whatever arrives, and in whatever pieces: every frame handed on is vetted, nothing is changed
// or left out, and nothing past the first bad frame comes through.
func FuzzGuard(f *testing.F) {
	f.Add(frame(3, 1, []byte("hello")), uint64(1))
	f.Add(append(frame(3, 1, nil), frame(999, 1, nil)...), uint64(2))
	f.Add([]byte{0, 0, 0, 2, 0, 3}, uint64(3))
	f.Add([]byte("GET / HTTP/1.1\r\n\r\n"), uint64(4))
	f.Fuzz(func(t *testing.T, data []byte, seed uint64) {
		rng := rand.New(rand.NewPCG(seed, 0))
		g := testGuard(1 << 16)
		conn, ok := g.wrap(&chunkConn{data: bytes.Clone(data), chunk: func() int { return rng.IntN(13) }})
		if !ok {
			t.Fatal("refused")
		}
		var got []byte
		for {
			head := make([]byte, 4)
			n, err := io.ReadFull(conn, head)
			got = append(got, head[:n]...)
			if err != nil {
				break
			}
			body := make([]byte, binary.BigEndian.Uint32(head))
			n, err = io.ReadFull(conn, body)
			got = append(got, body[:n]...)
			if err != nil {
				break
			}
			if reason, err := g.check(int64(len(body)), int16(binary.BigEndian.Uint16(body))); err != nil {
				t.Fatalf("a frame came through that is not to pass (%s): %v", reason, err)
			}
		}
		if !bytes.HasPrefix(data, got) {
			t.Fatalf("sent %x, came through %x", data, got)
		}
		// What came through is all up to the first frame that is bad or not whole.
		want := 0
		for rest := data; len(rest) >= 8; rest = data[want:] {
			size := int64(binary.BigEndian.Uint32(rest))
			if _, err := g.check(size, int16(binary.BigEndian.Uint16(rest[4:]))); err != nil {
				break
			}
			if int64(len(rest)) < 4+size {
				want = len(data)
				break
			}
			want += int(4 + size)
		}
		if len(got) != want {
			t.Fatalf("sent %d bytes, %d came through, %d should have", len(data), len(got), want)
		}
		// Nor does it matter in what pieces it is asked for.
		other, _ := g.wrap(&chunkConn{data: bytes.Clone(data), chunk: func() int { return 1 << 20 }})
		if all, _ := io.ReadAll(other); !bytes.Equal(all, got) {
			t.Fatalf("read at once %x, frame by frame %x", all, got)
		}
		other.Close()
		conn.Close()
		conn.Close()
		if n := g.open.Load(); n != 0 {
			t.Fatalf("%d connections open after Close", n)
		}
	})
}

func TestGuard_BoundsConnectionsAndLogLines(t *testing.T) {
	lines := new(logLines)
	g := testGuard(1 << 20)
	g.log = lines.logger()
	var conns []net.Conn
	for range maxConnections {
		conn, ok := g.wrap(&chunkConn{})
		if !ok {
			t.Fatal("refused below the limit")
		}
		conns = append(conns, conn)
	}
	for range 50 {
		if _, ok := g.wrap(&chunkConn{}); ok {
			t.Fatal("accepted above the limit")
		}
	}
	if n := lines.count(dropTooMany); n != 1 {
		t.Errorf("%d log lines for 50 connections dropped at once", n)
	}
	conns[0].Close()
	if _, ok := g.wrap(&chunkConn{}); !ok {
		t.Error("refused after one was closed")
	}
}

// errTemporarily fails a few accepts the way a process without file descriptors does.
type errTemporarily struct {
	net.Listener
	left int
}

func (l *errTemporarily) Accept() (net.Conn, error) {
	if l.left--; l.left >= 0 {
		return nil, fmt.Errorf("accept: too many open files")
	}
	return l.Listener.Accept()
}

func TestListener_OutlivesFailingAccepts(t *testing.T) {
	b := start(t, t.TempDir(), func(c *Config) {
		c.ListenFn = func(network, addr string) (net.Listener, error) {
			ln, err := net.Listen(network, addr)
			return &errTemporarily{ln, 3}, err
		}
	})
	must(t, b.CreateTopic("t", 1, nil))
	produce(t, newClient(t, b.Addr()), "t", 0, "a")
}
