package faultconn

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"os"
	"runtime"
	"testing"
	"testing/synctest"
	"time"
)

// frame is a request as franz-go writes it.
func frame(key int16, id int32, size int) []byte {
	b := binary.BigEndian.AppendUint32(nil, uint32(8+size))
	b = binary.BigEndian.AppendUint16(b, uint16(key))
	b = binary.BigEndian.AppendUint16(b, 9) // version
	b = binary.BigEndian.AppendUint32(b, uint32(id))
	return append(b, bytes.Repeat([]byte{'x'}, size)...)
}

// broker answers each frame with its id and remembers it.
type broker struct {
	got    chan int32
	closed chan struct{} // by the client, or broken off inside of a frame
}

func (b *broker) serve(c net.Conn) {
	defer close(b.closed)
	defer c.Close()
	for {
		var head [12]byte
		if _, err := io.ReadFull(c, head[:]); err != nil {
			return
		}
		rest := make([]byte, int(binary.BigEndian.Uint32(head[:]))-8)
		if _, err := io.ReadFull(c, rest); err != nil {
			return
		}
		b.got <- int32(binary.BigEndian.Uint32(head[8:]))
		if _, err := c.Write(head[8:]); err != nil {
			return
		}
	}
}

// pair connects a client through an Injector to a broker, over pipes or over the loopback.
func pair(t *testing.T, in *Injector, real bool) (net.Conn, *broker) {
	b := &broker{got: make(chan int32, 10), closed: make(chan struct{})}
	dial := func(context.Context, string, string) (net.Conn, error) {
		near, far := net.Pipe()
		go b.serve(far)
		return near, nil
	}
	if real {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { l.Close() })
		dial = func(ctx context.Context, _, _ string) (net.Conn, error) {
			go func() {
				if c, err := l.Accept(); err == nil {
					b.serve(c)
				}
			}()
			return new(net.Dialer).DialContext(ctx, "tcp", l.Addr().String())
		}
	}
	c, err := in.Dialer(dial)(t.Context(), "tcp", "broker:9092")
	if err != nil {
		t.Fatal(err)
	}
	return c, b
}

// inRead reports whether a Read of the client has begun.
func inRead(c net.Conn) bool { return len(c.(*conn).reading) > 0 }

func ask(t *testing.T, c net.Conn, b *broker, id int32) {
	t.Helper()
	if n, err := c.Write(frame(0, id, 100)); err != nil || n != 112 {
		t.Fatal(n, err)
	}
	var answer [4]byte
	if _, err := io.ReadFull(c, answer[:]); err != nil || int32(binary.BigEndian.Uint32(answer[:])) != id {
		t.Fatal(answer, err)
	}
	if got := <-b.got; got != id {
		t.Fatal(got)
	}
}

func TestKinds(t *testing.T) {
	const delay = 300 * time.Millisecond
	for kind, c := range map[Kind]struct {
		written int  // of 112 bytes, as the client is told
		arrives bool // at the broker, whole
		late    time.Duration
	}{
		Close: {written: 0}, Cut: {written: 56}, LoseAnswer: {written: 112, arrives: true}, LoseRequest: {written: 112},
		Delay: {written: 112, arrives: true, late: delay},
	} {
		for _, real := range []bool{false, true} {
			run := func(t *testing.T) {
				in := New(1)
				conn, b := pair(t, in, real)
				ask(t, conn, b, 1)
				in.Arm(7, Action{Kind: Close}) // another key
				in.Arm(0, Action{Kind: kind, Delay: delay})

				// A client reads all the time, and must not be left behind.
				type result struct {
					n   int
					err error
				}
				read := make(chan result, 1)
				go func() {
					n, err := conn.Read(make([]byte, 4))
					read <- result{n, err}
				}()
				for !inRead(conn) {
					runtime.Gosched()
				}
				begun := time.Now()
				n, err := conn.Write(frame(0, 2, 100))
				if n != c.written || (err == nil) != (c.written == 112) {
					t.Fatalf("Write: %d, %v", n, err)
				}
				if r := <-read; r.err == nil || r.n != 0 {
					t.Fatalf("the client read %d bytes", r.n)
				}
				if d := time.Since(begun); !real && d != 0 {
					t.Fatalf("the client noticed after %v", d)
				}
				if n, err := conn.Write(frame(0, 3, 1)); n != 0 || err == nil {
					t.Fatalf("a dead connection took %d bytes, %v", n, err)
				}
				if _, err := conn.Read(make([]byte, 1)); err == nil {
					t.Fatal("a dead connection was read")
				}
				// What a client does with deadlines and Close must not keep the late request from the broker.
				conn.SetReadDeadline(time.Unix(1, 0))
				conn.SetDeadline(time.Unix(1, 0))
				conn.SetWriteDeadline(time.Unix(1, 0))
				conn.Close()
				in.Wait()
				<-b.closed
				select {
				case id := <-b.got:
					if id != 2 || !c.arrives {
						t.Fatalf("request %d arrived", id)
					}
				default:
					if c.arrives {
						t.Fatal("the request did not arrive")
					}
				}
				if d := time.Since(begun); d < c.late {
					t.Fatalf("over after %v", d)
				}
				if in.Fired(0) != 1 || in.Fired(7) != 0 {
					t.Fatal(in.Fired(0), in.Fired(7))
				}
			}
			name := kind.String() + "/virtual"
			if real {
				name = kind.String() + "/real"
				t.Run(name, run)
			} else {
				t.Run(name, func(t *testing.T) { synctest.Test(t, run) })
			}
		}
	}
}

func TestSilence(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		in := New(1)
		c, b := pair(t, in, false)
		ask(t, c, b, 1)
		in.Arm(0, Action{Kind: Silence})
		for id := range int32(3) {
			if n, err := c.Write(frame(0, id, 10)); n != 22 || err != nil {
				t.Fatal(n, err)
			}
		}
		c.SetReadDeadline(time.Now().Add(time.Hour))
		if _, err := c.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Fatal(err)
		}
		c.Close()
		<-b.closed
		if len(b.got) != 0 {
			t.Fatal("a request arrived")
		}
	})
}

func TestOrderOfFaults(t *testing.T) {
	in := New(1)
	in.Random(0, 1, Action{Kind: Cut})
	in.Arm(0, Action{Kind: Silence})
	in.Arm(0, Action{Kind: Close})
	for i, want := range []Kind{Silence, Close, Cut, Cut} {
		if got := in.take(0); got.Kind != want {
			t.Fatalf("fault %d is %s, want %s", i, got.Kind, want)
		}
	}
	if got := in.take(1); got.Kind != none {
		t.Fatalf("another key suffers %s", got.Kind)
	}
	in.Arm(0, Action{Kind: Close})
	in.Calm()
	if got := in.take(0); got.Kind != none || in.Fired(0) != 4 {
		t.Fatalf("%s after Calm, %d fired", got.Kind, in.Fired(0))
	}
}

func TestRandom_IsSeeded(t *testing.T) {
	run := func(seed uint64) (out []Kind) {
		in := New(seed)
		in.Random(0, 0.3, Action{Kind: Cut}, Action{Kind: Close})
		for range 1000 {
			out = append(out, in.take(0).Kind)
		}
		return out
	}
	a, b, c := run(1), run(1), run(2)
	faults, same := 0, true
	for i := range a {
		if a[i] != b[i] {
			t.Fatal("one seed, two runs")
		}
		same = same && a[i] == c[i]
		if a[i] != none {
			faults++
		}
	}
	if same || faults < 230 || faults > 370 {
		t.Fatalf("%d faults of 1000, want about 300; other seeds the same: %v", faults, same)
	}
}

func TestRefuseAndCloseAll(t *testing.T) {
	in := New(1)
	c, b := pair(t, in, true)
	ask(t, c, b, 1)
	in.Refuse(true)
	dials := 0
	dial := in.Dialer(func(context.Context, string, string) (net.Conn, error) { dials++; return nil, io.EOF })
	if _, err := dial(t.Context(), "tcp", "x:1"); err == nil || dials != 0 {
		t.Fatal(err, dials)
	}
	ask(t, c, b, 2) // what is open stays open
	in.CloseAll()
	<-b.closed
	if _, err := c.Write(frame(0, 3, 1)); err == nil {
		t.Fatal("written to a closed connection")
	}
	in.Refuse(false)
	if _, err := dial(t.Context(), "tcp", "x:1"); err != io.EOF || dials != 1 {
		t.Fatal(err, dials)
	}
	if len(in.conns) != 0 {
		t.Fatalf("%d connections remembered", len(in.conns))
	}
}

// TestNotAFrame: what is no request passes untouched.
func TestNotAFrame(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		in := New(1)
		in.Random(0, 1, Action{Kind: Close})
		near, far := net.Pipe()
		c, err := in.Dialer(func(context.Context, string, string) (net.Conn, error) { return near, nil })(t.Context(), "tcp", "x:1")
		if err != nil {
			t.Fatal(err)
		}
		for _, b := range [][]byte{{1}, make([]byte, 12), frame(0, 1, 5)[:14], append(frame(0, 1, 5), 0)} {
			go c.Write(b)
			got := make([]byte, len(b))
			if _, err := io.ReadFull(far, got); err != nil || !bytes.Equal(got, b) {
				t.Fatal(got, err)
			}
		}
		c.Close()
	})
}
