package ingest

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/tidemark-dev/tidemark/schemas/errcode"
)

// G1 to G4 while the broker is killed again and again and comes back on the same directory and port: every event of several
// concurrent runs is there exactly once, in the order it was written.
func TestProducer_SurvivesKilledBroker(t *testing.T) {
	dir := t.TempDir()
	broker := startChild(t, dir, "")
	addr := broker.addr
	p := newProducer(t, addr, func(c *Config) {
		c.DeliveryWait = time.Minute
		c.BufferRecords = 3000
		c.Linger = time.Millisecond
	})
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 0))

	const runs = 3
	var written atomic.Int64 // events of all runs
	var stop atomic.Bool
	counts := make([]uint64, runs)
	open := make([]*Run, runs)
	for i := range runs {
		id := acme
		id.Connection = fmt.Sprint("c", i)
		run, err := p.Stream(id).Run(t.Context(), RunOptions{Pipeline: i > 0})
		must(t, err)
		open[i] = run
	}
	var wg sync.WaitGroup
	for i, run := range open {
		wg.Go(func() {
			for n := uint64(1); !stop.Load(); n++ {
				id := fmt.Sprint(n)
				if err := run.Save(t.Context(), id, []byte(`{"n":`+id+`,"pad":"`+strings.Repeat("x", int(n%300))+`"}`)); err != nil {
					t.Error(err)
					return
				}
				counts[i] = n
				written.Add(1)
			}
			if err := run.Complete(t.Context(), CompleteOptions{}); err != nil {
				t.Error(err)
			}
		})
	}
	for range 5 {
		goal := written.Load() + 500 + int64(r.IntN(3000))
		waitFor(t, "events", func() bool { return written.Load() >= goal || t.Failed() })
		broker.kill()
		time.Sleep(time.Duration(r.IntN(30)) * time.Millisecond) // writers go on without a broker
		broker = startChild(t, dir, addr)
	}
	goal := written.Load() + 500
	waitFor(t, "events", func() bool { return written.Load() >= goal || t.Failed() })
	stop.Store(true)
	wg.Wait()
	if t.Failed() {
		return
	}
	events := readRaw(t, addr)
	for i, run := range open {
		mine := ofRun(events, run.Sequence())
		if uint64(len(mine)) != counts[i]+2 {
			t.Errorf("run %d: %d events in the log, %d written", i, len(mine)-2, counts[i])
		}
		wantDense(t, mine)
		for j, e := range mine[1 : len(mine)-1] {
			if string(e.ID) != fmt.Sprint(j+1) {
				t.Fatalf("run %d: event %d is %s", i, j+1, e.ID)
			}
		}
	}
}

// G8: a broker that goes away ends every wait with kafka.unreachable; what was on its way arrives when the broker is back, and the run
// can be completed.
func TestProducer_BrokerAway(t *testing.T) {
	dir := t.TempDir()
	b := startBroker(t, dir, "")
	wait := 200 * time.Millisecond
	p := newProducer(t, b.Addr(), func(c *Config) { c.DeliveryWait = wait; c.BufferRecords = 10 })
	s := p.Stream(acme)
	run, err := s.Run(t.Context(), RunOptions{Pipeline: true})
	must(t, err)
	must(t, run.Save(t.Context(), "0", []byte(`{}`)))
	must(t, run.Flush(t.Context()))
	must(t, b.Close())

	began := time.Now()
	wantCode(t, s.Save(t.Context(), "a", []byte(`{}`)), errcode.Unreachable, "1 are waiting")
	accepted := 0
	for {
		err := run.Save(t.Context(), fmt.Sprint("r", accepted), []byte(`{}`))
		if err != nil {
			wantCode(t, err, errcode.Unreachable, "10 are waiting")
			break
		}
		accepted++
	}
	if accepted != 9 {
		t.Errorf("%d events were accepted beside the one that is waiting, room was for 9", accepted)
	}
	wantCode(t, run.Complete(t.Context(), CompleteOptions{}), errcode.Unreachable)
	wantCode(t, run.Checkpoint(t.Context(), 1), errcode.Unreachable)
	wantCode(t, run.Fail(t.Context(), nil), errcode.Unreachable)
	wantCode(t, p.Flush(t.Context()), errcode.Unreachable)
	if took := time.Since(began); took < 6*wait || took > 60*wait {
		t.Errorf("six waits of %v took %v", wait, took)
	}

	b = startBroker(t, dir, b.Addr())
	waitFor(t, "the events", func() bool { return p.Flush(t.Context()) == nil })
	// The one that found no room was refused: it has to be written again before the run can delete anything.
	wantIs(t, run.Complete(t.Context(), CompleteOptions{}), ErrRefused)
	must(t, run.Save(t.Context(), fmt.Sprint("r", accepted), []byte(`{}`)))
	must(t, run.Complete(t.Context(), CompleteOptions{}))
	events := ofRun(readRaw(t, b.Addr()), run.Sequence())
	wantDense(t, events)
	if got, want := types(events), "bs"+strings.Repeat("s", accepted)+"se"; got != want {
		t.Errorf("the log has %q, want %q", got, want)
	}
}

// A wait outlasts DeliveryWait as long as the broker acknowledges something.
func TestProducer_SlowIsNotAway(t *testing.T) {
	b := startBroker(t, t.TempDir(), "")
	d := newDam()
	p := newProducer(t, b.Addr(), d.config, func(c *Config) { c.DeliveryWait = 400 * time.Millisecond })
	s := p.Stream(acme)
	g := gate{}
	var stop atomic.Bool
	time.AfterFunc(1200*time.Millisecond, func() { stop.Store(true); g.wake() })
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() {
		for ctx.Err() == nil {
			s.Save(ctx, "1", []byte(`{}`))
		}
	})
	must(t, p.await(t.Context(), &g, stop.Load))
	cancel()
	wg.Wait()
	d.shut()
	defer d.release()
	wantCode(t, s.Save(t.Context(), "1", []byte(`{}`)), errcode.Unreachable)
}

// G7: with the broker held up, pipelined writers block at the bound of the buffer, in records and in bytes.
func TestProducer_BackPressure(t *testing.T) {
	for _, c := range []struct {
		name           string
		records, bytes int
		payload        int
		most           int
	}{
		{"records", 500, 64 << 20, 100, 500},
		{"bytes", 100_000, 8 << 20, 60_000, 8 << 20 / 60_000},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := startBroker(t, t.TempDir(), "")
			d := newDam()
			reg := prometheus.NewRegistry()
			p := newProducer(t, b.Addr(), d.config, func(cfg *Config) {
				cfg.BufferRecords, cfg.BufferBytes, cfg.Registerer = c.records, c.bytes, reg
			})
			run, err := p.Stream(acme).Run(t.Context(), RunOptions{Pipeline: true})
			must(t, err)
			payload := []byte(`{"x":"` + strings.Repeat("x", c.payload-8) + `"}`)
			must(t, run.Save(t.Context(), "0", payload))
			must(t, run.Flush(t.Context()))
			d.shut()
			before := heap()
			var accepted atomic.Int64
			ctx, cancel := context.WithCancel(t.Context())
			var wg sync.WaitGroup
			for w := range 4 {
				wg.Go(func() {
					for i := 0; ; i++ {
						if err := run.Save(ctx, fmt.Sprintf("%d-%d", w, i), payload); err != nil {
							if !errors.Is(err, context.Canceled) {
								t.Error(err)
							}
							return
						}
						accepted.Add(1)
					}
				})
			}
			waitFor(t, "writers to block", func() bool { return p.window.gate.waiting.Load() == 4 })
			bytes, records := p.window.inFlight()
			if int(records) != int(accepted.Load()) || int(records) > c.most || int(records) < c.most*9/10 || int(bytes) > c.bytes {
				t.Errorf("%d events (%d accepted) of %d bytes are in flight, bounds are %d and %d", records, accepted.Load(), bytes, c.most, c.bytes)
			}
			if gauge := gathered(t, reg, "tidemark_ingest_inflight_bytes"); gauge != float64(bytes) {
				t.Errorf("the gauge says %v, want %d", gauge, bytes)
			}
			// The client holds up to five requests, compressed or not, beside the events.
			if grown := int(heap()) - int(before); grown > 2*c.bytes {
				t.Errorf("the heap grew by %d bytes", grown)
			}
			cancel()
			wg.Wait()
			d.release()
			must(t, run.Flush(t.Context()))
			if !p.window.empty() {
				t.Error("room was not given back")
			}
			must(t, run.Complete(t.Context(), CompleteOptions{DeleteMissing: ptr(false)}))
			wantDense(t, ofRun(readRaw(t, b.Addr()), run.Sequence()))
		})
	}
}

func heap() uint64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

func gathered(t *testing.T, reg *prometheus.Registry, name string) float64 {
	t.Helper()
	families, err := reg.Gather()
	must(t, err)
	for _, f := range families {
		if f.GetName() == name {
			return f.GetMetric()[0].GetGauge().GetValue()
		}
	}
	t.Fatalf("no metric %s", name)
	return 0
}

// Close waits for what was accepted; with the broker away it says so, gives the events up, and tells those who wait for them.
func TestProducer_Close(t *testing.T) {
	b := startBroker(t, t.TempDir(), "")
	p := newProducer(t, b.Addr(), func(c *Config) { c.Linger = 50 * time.Millisecond })
	run, err := p.Stream(acme).Run(t.Context(), RunOptions{Pipeline: true})
	must(t, err)
	for i := range 100 {
		must(t, run.Save(t.Context(), fmt.Sprint(i), []byte(`{}`)))
	}
	must(t, p.Close(t.Context()))
	if n := len(ofRun(readRaw(t, b.Addr()), run.Sequence())); n != 101 {
		t.Errorf("%d events in the log", n)
	}
	wantIs(t, run.Save(t.Context(), "1", []byte(`{}`)), ErrClosed)
	wantIs(t, p.Stream(acme).Save(t.Context(), "1", []byte(`{}`)), ErrClosed)
	must(t, p.Close(t.Context()))

	d := newDam()
	p = newProducer(t, b.Addr(), d.config, func(c *Config) { c.BufferRecords = 2; c.DeliveryWait = time.Hour })
	run, err = p.Stream(acme).Run(t.Context(), RunOptions{Pipeline: true})
	must(t, err)
	d.shut()
	defer d.release()
	must(t, run.Save(t.Context(), "1", []byte(`{}`)))
	answer, room, closed := make(chan error), make(chan error), make(chan error)
	go func() { answer <- p.Stream(acme).Save(t.Context(), "2", []byte(`{}`)) }()
	waitFor(t, "a full buffer", func() bool { _, n := p.window.inFlight(); return n == 2 })
	go func() { room <- p.Stream(acme).Save(t.Context(), "3", []byte(`{}`)) }()
	waitFor(t, "a writer without room", func() bool { return p.window.gate.waiting.Load() == 1 })
	ctx, cancel := context.WithCancel(t.Context())
	go func() { closed <- p.Close(ctx) }()
	wantIs(t, <-room, ErrClosed) // at once: the one that waits for an answer may still get it
	select {
	case err := <-answer:
		t.Errorf("an event on its way was given up: %v", err)
	default:
	}
	cancel()
	first := <-closed
	wantIs(t, first, context.Canceled)
	wantIs(t, <-answer, ErrClosed)
	wantIs(t, run.Complete(t.Context(), CompleteOptions{}), ErrRunBroken)
	if !p.window.empty() {
		t.Error("events are left")
	}
	if again := p.Close(t.Context()); !errors.Is(again, first) {
		t.Errorf("the second Close says %v", again)
	}
}

func TestMetrics(t *testing.T) {
	b := startBroker(t, t.TempDir(), "")
	reg := prometheus.NewRegistry()
	with := func(c *Config) { c.Registerer = reg }
	p := newProducer(t, b.Addr(), with)
	ctx := t.Context()
	run, err := p.Stream(acme).Run(ctx, RunOptions{Pipeline: true})
	must(t, err)
	for i := range 130 {
		must(t, run.Save(ctx, fmt.Sprintf("%03d", i), []byte(`{"a":1}`)))
	}
	must(t, run.Delete(ctx, "000"))
	must(t, run.Checkpoint(ctx, 1))
	must(t, run.Complete(ctx, CompleteOptions{}))
	const want = `
# HELP tidemark_ingest_bytes_total Bytes of the payloads and ids of events acknowledged.
# TYPE tidemark_ingest_bytes_total counter
tidemark_ingest_bytes_total 1342
# HELP tidemark_ingest_failed_records_total Raw events that did not reach the log, or may not have, by code.
# TYPE tidemark_ingest_failed_records_total counter
tidemark_ingest_failed_records_total{code="closed"} 0
tidemark_ingest_failed_records_total{code="other"} 0
tidemark_ingest_failed_records_total{code="record_too_large"} 0
tidemark_ingest_failed_records_total{code="topic.drift"} 0
# HELP tidemark_ingest_inflight_bytes Bytes of events on their way to the broker, of Config.BufferBytes.
# TYPE tidemark_ingest_inflight_bytes gauge
tidemark_ingest_inflight_bytes 0
# HELP tidemark_ingest_records_total Raw events acknowledged, by operation.
# TYPE tidemark_ingest_records_total counter
tidemark_ingest_records_total{op="checkpoint"} 1
tidemark_ingest_records_total{op="clear"} 0
tidemark_ingest_records_total{op="decision"} 0
tidemark_ingest_records_total{op="delete"} 1
tidemark_ingest_records_total{op="prune"} 0
tidemark_ingest_records_total{op="run_completed"} 1
tidemark_ingest_records_total{op="run_failed"} 0
tidemark_ingest_records_total{op="run_started"} 1
tidemark_ingest_records_total{op="save"} 130
tidemark_ingest_records_total{op="update"} 0
`
	names := []string{"tidemark_ingest_bytes_total", "tidemark_ingest_failed_records_total", "tidemark_ingest_inflight_bytes", "tidemark_ingest_records_total"}
	if err := testutil.GatherAndCompare(reg, strings.NewReader(want), names...); err != nil {
		t.Error(err)
	}
	// run.started, checkpoint and run.completed wait for their answers; of 131 pipelined events the 64th and the 128th are measured.
	families, err := reg.Gather()
	must(t, err)
	for _, f := range families {
		if f.GetName() == "tidemark_ingest_produce_duration_seconds" {
			for _, m := range f.GetMetric() {
				want := map[string]uint64{"acked": 5, "failed": 0}[m.GetLabel()[0].GetValue()]
				if n := m.GetHistogram().GetSampleCount(); n != want {
					t.Errorf("%d durations with %v, want %d", n, m.GetLabel(), want)
				}
			}
		}
	}
	if _, err := NewProducer(ctx, Config{Seeds: []string{b.Addr()}, Names: testNames, Registerer: reg}); err == nil {
		t.Error("two producers share their metrics")
	}
	must(t, p.Close(ctx))
	newProducer(t, b.Addr(), with)
}

// The window under many hands: its bounds hold, nobody waits for ever, nothing is left. await polls only every eighth of
// DeliveryWait, so a lost wake-up would take that long.
func TestWindow(t *testing.T) {
	seed := rand.Uint64()
	p := &Producer{cfg: Config{DeliveryWait: time.Hour}}
	p.window.records, p.window.bytes = 5, 1000
	var wg sync.WaitGroup
	for i := range 8 {
		r := rand.New(rand.NewPCG(seed, uint64(i)))
		wg.Go(func() {
			for range 3000 {
				n := 1 + r.IntN(1000)
				if err := p.room(t.Context(), n); err != nil {
					t.Error(err)
					return
				}
				p.acked.Add(1)
				if bytes, records := p.window.inFlight(); bytes > 1000 || records > 5 {
					t.Errorf("seed %d: %d bytes and %d records are in the window", seed, bytes, records)
				}
				if r.IntN(4) == 0 {
					runtime.Gosched()
				}
				p.window.release(n)
			}
		})
	}
	done := make(chan struct{})
	go func() { wg.Wait(); close(done) }()
	select {
	case <-done:
	case <-time.After(time.Minute):
		t.Fatalf("seed %d: somebody waits for ever", seed)
	}
	if !p.window.empty() {
		t.Errorf("seed %d: something is left", seed)
	}
}

// A change right behind the look at the condition must not be missed.
func TestGate_ChangeBehindTheLook(t *testing.T) {
	p := &Producer{cfg: Config{DeliveryWait: time.Hour}}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	g := gate{}
	looks, changed := 0, false
	must(t, p.await(ctx, &g, func() bool {
		seen := changed
		if looks++; looks == 2 {
			changed = true
			g.wake()
		}
		return seen
	}))
}

func TestWindow_Largest(t *testing.T) {
	big := &window{records: 10, bytes: windowBytesMax}
	if !big.try(windowBytesMax-1) || big.try(2) || !big.try(1) {
		t.Error("the largest window counts wrongly")
	}
}
