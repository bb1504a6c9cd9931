package ingest

import (
	"context"
	"errors"
	"fmt"
	"math"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/tidemark-dev/tidemark/deploy/devkafka"
	"github.com/tidemark-dev/tidemark/schemas/errcode"
	"github.com/tidemark-dev/tidemark/schemas/event"
	"github.com/tidemark-dev/tidemark/schemas/topic"
)

func types(events []written) string {
	var b strings.Builder
	for _, e := range events {
		b.WriteByte(byte(e.Type))
	}
	return b.String()
}

// G4: run.completed is not written while an event is on its way, however often it is tried, and once when it can be.
func TestRun_CompleteWaitsForEveryEvent(t *testing.T) {
	b := startBroker(t, t.TempDir(), "")
	d := newDam()
	p := newProducer(t, b.Addr(), d.config, func(c *Config) { c.DeliveryWait = time.Hour }) // answers must wake, not the clock
	run, err := p.Stream(acme).Run(t.Context(), RunOptions{Pipeline: true})
	must(t, err)
	d.shut()
	must(t, run.Save(t.Context(), "1", []byte(`{}`)))
	for range 3 {
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
		wantIs(t, run.Complete(ctx, CompleteOptions{}), context.DeadlineExceeded)
		wantIs(t, run.Checkpoint(ctx, 1), context.DeadlineExceeded)
		cancel()
	}
	if got := types(ofRun(readRaw(t, b.Addr()), run.Sequence())); got != "b" {
		t.Fatalf("the log has %q", got)
	}
	must(t, run.Save(t.Context(), "2", []byte(`{}`))) // the run goes on
	completed := make(chan error)
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	go func() { completed <- run.Complete(ctx, CompleteOptions{}) }()
	waitFor(t, "Complete to wait", func() bool { return run.gate.waiting.Load() == 1 })
	d.release()
	must(t, <-completed)
	if got := types(ofRun(readRaw(t, b.Addr()), run.Sequence())); got != "bsse" {
		t.Fatalf("the log has %q", got)
	}
	for _, err := range []error{
		run.Complete(t.Context(), CompleteOptions{}), run.Fail(t.Context(), nil), run.Save(t.Context(), "3", []byte(`{}`)), run.Checkpoint(t.Context(), 1),
	} {
		wantIs(t, err, ErrRunEnded)
	}
}

// When run.completed itself is not answered, the run takes no more writes, and a second call waits for the same event.
func TestRun_CompleteIsWrittenOnce(t *testing.T) {
	b := startBroker(t, t.TempDir(), "")
	d := newDam()
	p := newProducer(t, b.Addr(), d.config)
	run, err := p.Stream(acme).Run(t.Context(), RunOptions{})
	must(t, err)
	must(t, run.Save(t.Context(), "1", []byte(`{}`)))
	d.shut()
	for range 2 {
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
		wantIs(t, run.Complete(ctx, CompleteOptions{}), context.DeadlineExceeded)
		cancel()
		wantIs(t, run.Save(t.Context(), "2", []byte(`{}`)), ErrRunEnded)
	}
	d.release()
	must(t, run.Complete(t.Context(), CompleteOptions{}))
	if got := types(ofRun(readRaw(t, b.Addr()), run.Sequence())); got != "bse" {
		t.Fatalf("the log has %q", got)
	}
}

// G4, G6: an event that the broker refuses for good breaks the run: no checkpoint and no end but Fail.
func TestRun_LostEventBreaksRun(t *testing.T) {
	b, err := devkafka.Start(t.Context(), devkafka.Config{DataDir: t.TempDir(), ReserveBytes: -1})
	must(t, err)
	t.Cleanup(func() { b.Close() })
	must(t, b.CreateTopic(testNames.Raw, testPartitions, map[string]string{"max.message.bytes": "20000"}))
	p := newProducer(t, b.Addr(), func(c *Config) { c.Compression = CompressionNone })
	run, err := p.Stream(acme).Run(t.Context(), RunOptions{Pipeline: true})
	must(t, err)
	must(t, run.Save(t.Context(), "1", []byte(`{}`)))
	must(t, run.Flush(t.Context()))
	must(t, run.Save(t.Context(), "2", []byte(`{"x":"`+strings.Repeat("x", 30_000)+`"}`)))
	lost := run.Flush(t.Context())
	wantIs(t, lost, ErrRunBroken)
	wantCode(t, lost, errcode.RecordTooLarge, "30009 bytes")
	for range 2 {
		wantIs(t, run.Save(t.Context(), "3", []byte(`{}`)), ErrRunBroken)
		wantIs(t, run.Checkpoint(t.Context(), 1), ErrRunBroken)
		wantIs(t, run.Complete(t.Context(), CompleteOptions{}), ErrRunBroken)
		wantIs(t, run.Complete(t.Context(), CompleteOptions{DeleteMissing: ptr(false)}), ErrRunBroken)
	}
	must(t, run.Fail(t.Context(), errors.New("gave up")))
	if got := types(ofRun(readRaw(t, b.Addr()), run.Sequence())); got != "bsx" {
		t.Fatalf("the log has %q", got)
	}
	// A write that waits is told itself.
	waits, err := p.Stream(acme).Run(t.Context(), RunOptions{})
	must(t, err)
	wantCode(t, waits.Save(t.Context(), "2", []byte(`{"x":"`+strings.Repeat("x", 30_000)+`"}`)), errcode.RecordTooLarge)
	wantIs(t, waits.Complete(t.Context(), CompleteOptions{}), ErrRunBroken)
}

// G5: records that had to be refused are at the source; a run that would delete them does not complete.
func TestRun_RefusedWritesAreNotDeleted(t *testing.T) {
	b := startBroker(t, t.TempDir(), "")
	p := newProducer(t, b.Addr(), func(c *Config) { c.RecordBytesMax = 100 })
	ctx := t.Context()
	large := []byte(`{"x":"` + strings.Repeat("x", 100) + `"}`)
	start := func() *Run {
		run, err := p.Stream(acme).Run(ctx, RunOptions{})
		must(t, err)
		must(t, run.Save(ctx, "0", []byte(`{}`)))
		wantCode(t, run.Save(ctx, "1", large), errcode.RecordTooLarge)
		wantIs(t, run.Complete(ctx, CompleteOptions{}), ErrRefused)
		return run
	}
	end := func(run *Run, want string) {
		t.Helper()
		events := ofRun(readRaw(t, b.Addr()), run.Sequence())
		wantDense(t, events)
		if got := types(events); got != want {
			t.Errorf("the log has %q, want %q", got, want)
		}
	}

	saved := start() // written again, smaller
	must(t, saved.Save(ctx, "1", []byte(`{}`)))
	must(t, saved.Complete(ctx, CompleteOptions{}))
	end(saved, "bsse")

	deleted := start()
	must(t, deleted.Delete(ctx, "1"))
	must(t, deleted.Complete(ctx, CompleteOptions{}))
	end(deleted, "bsde")

	kept := start()
	must(t, kept.Complete(ctx, CompleteOptions{DeleteMissing: ptr(false)}))
	end(kept, "bse")

	failed := start()
	must(t, failed.Fail(ctx, nil))
	end(failed, "bsx")

	nameless := start()
	must(t, nameless.Save(ctx, "1", []byte(`{}`)))
	wantCode(t, nameless.SaveRaw(ctx, []byte(`{}`), "id"), errcode.RawInvalidID)
	wantIs(t, nameless.Complete(ctx, CompleteOptions{}), ErrRefused)

	many := start()
	for i := range refusedMax + 1 {
		wantCode(t, many.Save(ctx, fmt.Sprint("m", i), large), errcode.RecordTooLarge)
	}
	if n := len(many.refused); n > refusedMax {
		t.Errorf("a run remembers %d refused records", n)
	}
	for i := range refusedMax + 1 {
		delete(many.refused, fmt.Sprint("m", i)) // as if each had been written again
	}
	wantIs(t, many.Complete(ctx, CompleteOptions{}), ErrRefused)

	untracked, err := p.Stream(acme).Run(ctx, RunOptions{TrackDeletes: ptr(false)})
	must(t, err)
	wantCode(t, untracked.Save(ctx, "1", large), errcode.RecordTooLarge)
	must(t, untracked.Complete(ctx, CompleteOptions{}))
	end(untracked, "be")
}

func TestRun_Options(t *testing.T) {
	b := startBroker(t, t.TempDir(), "")
	clock := time.Unix(1000, 0)
	p := newProducer(t, b.Addr(), func(c *Config) { c.Now = func() time.Time { return clock } })
	ctx := t.Context()
	s := p.Stream(acme)
	sequence := func(want uint64) uint64 {
		run, err := s.Run(ctx, RunOptions{Sequence: want})
		must(t, err)
		must(t, run.Fail(ctx, nil))
		return run.Sequence()
	}
	for i, c := range []struct{ want, got uint64 }{
		{0, 1e9}, {0, 1e9 + 1}, {5, 5}, {0, 1e9 + 2}, {7e9, 7e9}, {0, 7e9 + 1},
	} {
		if got := sequence(c.want); got != c.got {
			t.Errorf("run %d has sequence %d, want %d", i, got, c.got)
		}
	}
	clock = time.Unix(-5, 0) // before the epoch
	if got := sequence(0); got != 7e9+2 {
		t.Errorf("sequence %d", got)
	}
	if _, err := s.Run(ctx, RunOptions{Sequence: math.MaxUint64}); err == nil {
		t.Error("the largest sequence leaves none for the next run")
	}
	run, err := s.Run(ctx, RunOptions{TrackDeletes: ptr(false)})
	must(t, err)
	if err := run.Complete(ctx, CompleteOptions{DeleteMissing: ptr(true)}); err == nil {
		t.Error("deletes although it does not track them")
	}
	for _, ratio := range []float64{-0.1, 1.1, math.NaN(), math.Inf(1)} {
		if err := run.Complete(ctx, CompleteOptions{MaxDeleteRatio: &ratio}); err == nil {
			t.Errorf("ratio %v was taken", ratio)
		}
	}
	must(t, run.Complete(ctx, CompleteOptions{}))
}

// Many callers end a run at once: one of them does.
func TestRun_EndsOnce(t *testing.T) {
	b := startBroker(t, t.TempDir(), "")
	p := newProducer(t, b.Addr())
	run, err := p.Stream(acme).Run(t.Context(), RunOptions{Pipeline: true})
	must(t, err)
	var wg sync.WaitGroup
	results := make(chan error, 20)
	for i := range cap(results) {
		wg.Go(func() {
			if i%2 == 0 {
				results <- run.Complete(t.Context(), CompleteOptions{DeleteMissing: ptr(false)})
			} else {
				results <- run.Fail(t.Context(), nil)
			}
		})
		wg.Go(func() {
			if err := run.Save(t.Context(), fmt.Sprint(i), []byte(`{}`)); err != nil && !errors.Is(err, ErrRunEnded) {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	close(results)
	ended := 0
	for err := range results {
		if err == nil {
			ended++
		} else {
			wantIs(t, err, ErrRunEnded)
		}
	}
	events := ofRun(readRaw(t, b.Addr()), run.Sequence())
	wantDense(t, events)
	last := events[len(events)-1]
	if !p.window.empty() {
		t.Error("room was not given back")
	}
	if ended != 1 || last.Type != event.RawRunCompleted && last.Type != event.RawRunFailed {
		t.Errorf("%d ends, the log has %q", ended, types(events))
	}
}

// An unknown topic is told apart from an absent broker; both within the wait.
func TestProducer_CannotStart(t *testing.T) {
	b := startBroker(t, t.TempDir(), "")
	other, err := topic.NamesFor("other", 1)
	must(t, err)
	short := 300 * time.Millisecond
	began := time.Now()
	_, err = NewProducer(t.Context(), Config{Seeds: []string{b.Addr()}, Names: other, DeliveryWait: short})
	wantCode(t, err, errcode.TopicDrift, other.Raw)
	must(t, b.Close())
	_, err = NewProducer(t.Context(), Config{Seeds: []string{b.Addr()}, Names: testNames, DeliveryWait: short})
	wantCode(t, err, errcode.Unreachable, b.Addr())
	if d := time.Since(began); d > 20*short {
		t.Errorf("took %v", d)
	}
	ctx, cancel := context.WithCancelCause(t.Context())
	cause := errors.New("enough")
	time.AfterFunc(20*time.Millisecond, func() { cancel(cause) })
	_, err = NewProducer(ctx, Config{Seeds: []string{b.Addr()}, Names: testNames})
	wantIs(t, err, cause)
}

func TestConfig(t *testing.T) {
	ok := Config{Seeds: []string{"127.0.0.1:1"}, Names: testNames}
	if _, err := ok.withDefaults(); err != nil {
		t.Fatal(err)
	}
	for text, edit := range map[string]func(*Config){
		"seed":           func(c *Config) { c.Seeds = nil },
		"raw topic":      func(c *Config) { c.Names = topic.Names{} },
		"RecordBytesMax": func(c *Config) { c.RecordBytesMax = -1 },
		"268435456":      func(c *Config) { c.RecordBytesMax = recordBytesMaxMax + 1; c.BufferBytes = 1 << 30 },
		"BufferRecords":  func(c *Config) { c.BufferRecords = -1 },
		"larger than":    func(c *Config) { c.BufferRecords = windowRecordsMax + 1 },
		"largest event":  func(c *Config) { c.BufferBytes = topic.RecordBytesMax },
		"Compression":    func(c *Config) { c.Compression = "gzip9" },
		"Linger":         func(c *Config) { c.Linger = 2 * time.Second },
		"DeliveryWait":   func(c *Config) { c.DeliveryWait = -1 },
	} {
		c := ok
		edit(&c)
		if _, err := c.withDefaults(); err == nil || !strings.Contains(err.Error(), text) {
			t.Errorf("error %v does not name %s", err, text)
		}
	}
	var c Config
	if _, err := c.withDefaults(); strings.Count(err.Error(), "\n") != 1 {
		t.Errorf("not all that is wrong is told: %v", err)
	}
}

// The client's options that decide about safety cannot be overridden by Config.Client.
func TestConfig_SafetyWins(t *testing.T) {
	c, err := Config{Seeds: []string{"127.0.0.1:1"}, Names: testNames, Client: []kgo.Opt{
		kgo.RequiredAcks(kgo.LeaderAck()), kgo.MaxBufferedRecords(1), kgo.RecordPartitioner(kgo.RoundRobinPartitioner()),
		kgo.RecordRetries(1), kgo.RecordDeliveryTimeout(time.Second),
	}}.withDefaults()
	must(t, err)
	cl, err := c.client(nil)
	must(t, err)
	defer cl.Close()
	if acks := cl.OptValue(kgo.RequiredAcks); acks != kgo.AllISRAcks() {
		t.Errorf("acks is %v", acks)
	}
	if n := cl.OptValue(kgo.RecordRetries); n != any(int64(math.MaxInt64)) {
		t.Errorf("an event is tried %v times", n)
	}
	if n := cl.OptValue(kgo.RecordDeliveryTimeout); n != any(time.Duration(0)) {
		t.Errorf("an event is tried for %v", n)
	}
	if n := cl.OptValue(kgo.MaxBufferedRecords); n != any(int64(windowRecordsMax+1)) {
		t.Errorf("the client buffers %v records", n)
	}
	for name, opt := range map[string]kgo.Opt{
		"DisableIdempotentWrite":             kgo.DisableIdempotentWrite(),
		"AllowIdempotentProduceCancellation": kgo.AllowIdempotentProduceCancellation(),
		"TransactionalID":                    kgo.TransactionalID("x"),
		"ManualFlushing":                     kgo.ManualFlushing(),
	} {
		c.Client = []kgo.Opt{opt}
		if _, err := c.client(nil); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("with %s the error is %v", name, err)
		}
	}
}
