package faultconn

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"sync"
	"time"
)

// Kind is what happens to a request.
type Kind byte

// Kinds.
const (
	none Kind = iota
	// Close closes the connection instead of writing: nothing was sent, and the client knows. franz-go tries once more on a new
	// connection, so one Close passes unseen.
	Close
	// Cut writes half of the request and closes the connection.
	Cut
	// LoseAnswer delivers the request; the client sees the connection end before the answer.
	LoseAnswer
	// LoseRequest delivers nothing; the client believes that it did, and sees the connection end.
	LoseRequest
	// Silence delivers neither this request nor any later one of the connection, which stays open: packets that go nowhere.
	Silence
	// Delay is LoseRequest for the client, but the broker gets the request after Action.Delay: the late write of a zombie.
	Delay
	kindEnd
)

var kindNames = [kindEnd]string{"none", "close", "cut", "lose answer", "lose request", "silence", "delay"}

func (k Kind) String() string {
	if k < kindEnd {
		return kindNames[k]
	}
	return fmt.Sprintf("kind %d", byte(k))
}

// Action is one fault.
type Action struct {
	Kind  Kind
	Delay time.Duration // of kind Delay
}

// linger is how long a connection that is dead to the client stays open for the broker, which may drop the requests of a connection
// that is gone before it has read them. Answers are read and thrown away meanwhile.
const linger = time.Second

// DialFunc is net.Dialer.DialContext, and the argument of kgo.Dialer.
type DialFunc func(ctx context.Context, network, addr string) (net.Conn, error)

// Injector makes faults. Safe for concurrent use.
type Injector struct {
	mu     sync.Mutex
	rng    *rand.Rand
	armed  map[int16][]Action
	random map[int16]chance
	fired  map[int16]int
	conns  map[*conn]bool
	refuse bool
	late   int           // connections that linger
	none   chan struct{} // closed when late falls to 0; nil while it is 0
}

type chance struct {
	p       float64
	actions []Action
}

// New returns an Injector without faults. seed drives Random; print it when a test fails.
func New(seed uint64) *Injector {
	return &Injector{
		rng:   rand.New(rand.NewPCG(seed, seed)),
		armed: make(map[int16][]Action), random: make(map[int16]chance), fired: make(map[int16]int), conns: make(map[*conn]bool),
	}
}

// Arm makes the next request with that API key suffer the action. Actions for the same key are taken in the order of arming, one a
// request, and before any random one.
func (in *Injector) Arm(key int16, a Action) {
	in.mu.Lock()
	defer in.mu.Unlock()
	in.armed[key] = append(in.armed[key], a)
}

// Random makes each request with that API key suffer one of the actions with probability p; 0 ends that.
func (in *Injector) Random(key int16, p float64, actions ...Action) {
	in.mu.Lock()
	defer in.mu.Unlock()
	in.random[key] = chance{p, actions}
}

// Calm takes back everything that is armed and random, and lets dials through. What is delayed is still delivered.
func (in *Injector) Calm() {
	in.mu.Lock()
	defer in.mu.Unlock()
	clear(in.armed)
	clear(in.random)
	in.refuse = false
}

// Fired is how many requests with that API key have suffered an action.
func (in *Injector) Fired(key int16) int {
	in.mu.Lock()
	defer in.mu.Unlock()
	return in.fired[key]
}

// Refuse makes dials fail until it is called with false. Open connections stay.
func (in *Injector) Refuse(on bool) {
	in.mu.Lock()
	defer in.mu.Unlock()
	in.refuse = on
}

// CloseAll closes every open connection.
func (in *Injector) CloseAll() {
	in.mu.Lock()
	open := make([]*conn, 0, len(in.conns))
	for c := range in.conns {
		open = append(open, c)
	}
	in.mu.Unlock()
	for _, c := range open {
		c.Close()
	}
}

// Wait waits until everything that is delayed has been delivered and its connections are gone. Call it before the broker closes,
// and before a synctest bubble ends.
func (in *Injector) Wait() {
	for {
		in.mu.Lock()
		none := in.none
		in.mu.Unlock()
		if none == nil {
			return
		}
		<-none
	}
}

// linger runs fn, which Wait waits for. It is no WaitGroup because a connection may begin to linger while somebody waits.
func (in *Injector) linger(fn func()) {
	in.mu.Lock()
	if in.late++; in.none == nil {
		in.none = make(chan struct{})
	}
	in.mu.Unlock()
	go func() {
		fn()
		in.mu.Lock()
		defer in.mu.Unlock()
		if in.late--; in.late == 0 {
			close(in.none)
			in.none = nil
		}
	}()
}

// Dialer wraps a dial function.
func (in *Injector) Dialer(dial DialFunc) DialFunc {
	return func(ctx context.Context, network, addr string) (net.Conn, error) {
		in.mu.Lock()
		refuse := in.refuse
		in.mu.Unlock()
		if refuse {
			return nil, &net.OpError{Op: "dial", Net: network, Err: fmt.Errorf("refused by the fault injector: %s", addr)}
		}
		nc, err := dial(ctx, network, addr)
		if err != nil {
			return nil, err
		}
		c := &conn{Conn: nc, in: in, gone: make(chan struct{}), reading: make(chan struct{}, 1)}
		in.mu.Lock()
		in.conns[c] = true
		in.mu.Unlock()
		return c, nil
	}
}

func (in *Injector) take(key int16) Action {
	in.mu.Lock()
	defer in.mu.Unlock()
	var a Action
	if q := in.armed[key]; len(q) > 0 {
		a, in.armed[key] = q[0], q[1:]
	} else if c := in.random[key]; len(c.actions) > 0 && in.rng.Float64() < c.p {
		a = c.actions[in.rng.IntN(len(c.actions))]
	}
	if a.Kind != none {
		in.fired[key]++
	}
	return a
}

func (in *Injector) forget(c *conn) {
	in.mu.Lock()
	defer in.mu.Unlock()
	delete(in.conns, c)
}

// conn is one connection. Once it is dead the client sees its end, and the socket belongs to the goroutine of bury.
type conn struct {
	net.Conn
	in *Injector

	mu      sync.Mutex
	dead    bool
	mute    bool          // writes go nowhere; of the client's writing goroutine
	gone    chan struct{} // closed when dead
	reading chan struct{} // a token while a Read of the client is in the socket
}

func (c *conn) isDead() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.dead
}

func (c *conn) Read(b []byte) (int, error) {
	select {
	case c.reading <- struct{}{}:
	case <-c.gone: // bury keeps the token
		return 0, io.EOF
	}
	defer func() { <-c.reading }()
	if c.isDead() {
		return 0, io.EOF
	}
	n, err := c.Conn.Read(b)
	if c.isDead() {
		return 0, io.EOF
	}
	return n, err
}

func (c *conn) Write(b []byte) (int, error) {
	if c.isDead() {
		return 0, io.ErrClosedPipe
	}
	if c.mute {
		return len(b), nil
	}
	key, ok := apiKey(b)
	if !ok {
		return c.Conn.Write(b)
	}
	a := c.in.take(key)
	switch a.Kind {
	case Close:
		c.Close()
		return 0, io.ErrClosedPipe
	case Cut:
		n, _ := c.Conn.Write(b[:len(b)/2])
		c.Close()
		return n, io.ErrClosedPipe
	case LoseAnswer:
		c.bury(0, bytes.Clone(b)) // dead first: the answer may be quick
	case LoseRequest:
		c.kill()
		c.Conn.Close()
	case Silence:
		c.mute = true
	case Delay:
		c.bury(a.Delay, bytes.Clone(b)) // the client's buffer is its own again
	default:
		return c.Conn.Write(b)
	}
	return len(b), nil
}

// Close closes the connection, unless it lingers.
func (c *conn) Close() error {
	if c.isDead() {
		return nil
	}
	c.in.forget(c)
	return c.Conn.Close()
}

// Deadlines of the client must not reach a socket that is no longer its own.

func (c *conn) SetDeadline(t time.Time) error      { return c.deadline(t, c.Conn.SetDeadline) }
func (c *conn) SetReadDeadline(t time.Time) error  { return c.deadline(t, c.Conn.SetReadDeadline) }
func (c *conn) SetWriteDeadline(t time.Time) error { return c.deadline(t, c.Conn.SetWriteDeadline) }

func (c *conn) deadline(t time.Time, set func(time.Time) error) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.dead {
		return nil
	}
	return set(t)
}

// kill ends the connection for the client.
func (c *conn) kill() {
	c.mu.Lock()
	if !c.dead {
		c.dead = true
		close(c.gone)
	}
	c.Conn.SetDeadline(time.Unix(1, 0)) // wakes a Read of the client
	c.mu.Unlock()
	c.in.forget(c)
}

// bury ends the connection for the client at once, and for the broker later: after it got the request and the time to work on it.
func (c *conn) bury(delay time.Duration, late []byte) {
	c.kill()
	c.in.linger(func() {
		defer c.Conn.Close()
		c.reading <- struct{}{} // until that Read has left
		// Whatever comes is read all the time: on a virtual network, a broker cannot write an answer that nobody reads.
		c.Conn.SetDeadline(time.Now().Add(delay + linger))
		drained := make(chan struct{})
		go func() {
			defer close(drained)
			io.Copy(io.Discard, c.Conn)
		}()
		if delay > 0 {
			timer := time.NewTimer(delay)
			defer timer.Stop()
			select {
			case <-timer.C:
			case <-drained:
			}
		}
		c.Conn.Write(late) // the connection may be gone by now: then the request is lost
		<-drained
	})
}

// apiKey returns the key of the request that b is, framed: size, key, version, correlation id.
func apiKey(b []byte) (int16, bool) {
	if len(b) < 12 || int(binary.BigEndian.Uint32(b)) != len(b)-4 {
		return 0, false
	}
	return int16(binary.BigEndian.Uint16(b[4:])), true
}
