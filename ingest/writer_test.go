package ingest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"reflect"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/tidemark-dev/tidemark/schemas/errcode"
	"github.com/tidemark-dev/tidemark/schemas/event"
	"github.com/tidemark-dev/tidemark/schemas/stream"
)

// Every kind of event, as the processor will read it.
func TestWriter_WireFormat(t *testing.T) {
	b := startBroker(t, t.TempDir(), "")
	clock := time.Date(2026, 3, 4, 5, 6, 7, 8e6, time.UTC)
	p := newProducer(t, b.Addr(), func(c *Config) { c.Now = func() time.Time { return clock } })
	ctx := t.Context()
	s := p.Stream(acme)

	must(t, s.Save(ctx, "1", []byte(`{"a":1}`)))
	must(t, s.With(IgnoreIfModifiedAfter(17), "v3").Save(ctx, "ключ/1", []byte(" {} \n")))
	must(t, s.SaveJSON(ctx, "2", map[string]string{"html": "<&>"}))
	must(t, s.SaveRaw(ctx, []byte(`{"meta":{"id":1.50}}`), "meta.id"))
	must(t, s.Checkpoint(ctx, map[string]int{"page": 3}))
	must(t, s.Clear(ctx, ClearSoft))
	must(t, s.Prune(ctx, 99))
	must(t, s.Decide(ctx, 7, Approve, "ops"))
	run, err := s.Run(ctx, RunOptions{
		Sequence: 42, TrackDeletes: ptr(true), Fence: ptr(false), Sync: "brands", Strategy: IgnoreIfModifiedAfter(0), Schema: "s1",
	})
	must(t, err)
	must(t, run.Save(ctx, "1", []byte(`{"a":2}`)))
	must(t, run.Update(ctx, "1", []byte(`{"b":{"c":null}}`), "/a", "/x~1y"))
	must(t, run.Checkpoint(ctx, "here"))
	must(t, run.Delete(ctx, "9"))
	must(t, run.Complete(ctx, CompleteOptions{DeleteMissing: ptr(true), AllowEmpty: true, MaxDeleteRatio: ptr(0.25)}))
	broken, err := s.Run(ctx, RunOptions{TrackDeletes: ptr(false)})
	must(t, err)
	must(t, broken.Fail(ctx, errors.New("é"+strings.Repeat("é", 300))))

	auto := uint64(clock.UnixMicro())
	want := []event.Raw{
		{Type: 's', ID: []byte("1"), Value: []byte(`{"a":1}`)},
		{Type: 's', ID: []byte("ключ/1"), Value: []byte(" {} \n"), CAS: 17, HasCAS: true, Schema: []byte("v3")},
		{Type: 's', ID: []byte("2"), Value: []byte(`{"html":"<&>"}`)},
		{Type: 's', ID: []byte("1.50"), Value: []byte(`{"meta":{"id":1.50}}`)},
		{Type: 'k', Value: []byte(`{"page":3}`)},
		{Type: 'c', Value: []byte(`{"mode":"soft"}`)},
		{Type: 'p', Value: []byte(`{"until_csn":99}`)},
		{Type: 'h', Value: []byte(`{"run":7,"decision":"approve","by":"ops"}`)},
		{Type: 'b', Run: 42, Value: []byte(`{"track_deletes":true,"fence":false,"sync":"brands"}`)},
		{Type: 's', Run: 42, N: 1, ID: []byte("1"), HasCAS: true, Schema: []byte("s1"), Value: []byte(`{"a":2}`)},
		{Type: 'u', Run: 42, N: 2, ID: []byte("1"), HasCAS: true, Schema: []byte("s1"), Remove: []byte(`["/a","/x~1y"]`), Value: []byte(`{"b":{"c":null}}`)},
		{Type: 'k', Run: 42, Value: []byte(`"here"`)},
		{Type: 'd', Run: 42, N: 3, ID: []byte("9"), HasCAS: true, Schema: []byte("s1")},
		{Type: 'e', Run: 42, Value: []byte(`{"delete_missing":true,"events":3,"allow_empty":true,"max_delete_ratio":0.25}`)},
		{Type: 'b', Run: auto, Value: []byte(`{"track_deletes":false}`)},
		{Type: 'x', Run: auto, Value: []byte(`{"error":"` + strings.Repeat("é", 250) + `"}`)},
	}
	got := readRaw(t, b.Addr())
	if len(got) != len(want) {
		t.Fatalf("%d events, want %d", len(got), len(want))
	}
	for i, w := range want {
		if !reflect.DeepEqual(got[i].Raw, w) {
			t.Errorf("event %d is %+v, want %+v", i, got[i].Raw, w)
		}
		if key := string(got[i].record.Key); key != acme.Key() {
			t.Errorf("event %d has key %s", i, key)
		}
		if !got[i].record.Timestamp.Equal(clock) {
			t.Errorf("event %d is of %v", i, got[i].record.Timestamp)
		}
	}
}

// Streams land where any client's default partitioner puts them; readRaw checks it.
func TestWriter_Partitions(t *testing.T) {
	b := startBroker(t, t.TempDir(), "")
	p := newProducer(t, b.Addr())
	if p.Partitions() != testPartitions {
		t.Fatalf("learned of %d partitions", p.Partitions())
	}
	seen := map[int32]bool{}
	for i := range 40 {
		id := acme
		id.Connection = fmt.Sprint("c", i)
		must(t, p.Stream(id).Save(t.Context(), "1", []byte(`{}`)))
	}
	for _, w := range readRaw(t, b.Addr()) {
		seen[w.record.Partition] = true
	}
	if len(seen) != testPartitions {
		t.Errorf("40 streams use %d partitions", len(seen))
	}
}

// G2, G3: many goroutines write one run; what each of them wrote is in its order.
func TestRun_ConcurrentWritersKeepOrder(t *testing.T) {
	b := startBroker(t, t.TempDir(), "")
	p := newProducer(t, b.Addr(), func(c *Config) { c.BufferRecords = 200; c.Linger = time.Millisecond })
	for _, pipeline := range []bool{true, false} {
		run, err := p.Stream(acme).Run(t.Context(), RunOptions{Pipeline: pipeline})
		must(t, err)
		const writers = 8
		each := 500
		if !pipeline {
			each = 60
		}
		var wg sync.WaitGroup
		for w := range writers {
			wg.Go(func() {
				for i := range each {
					id := fmt.Sprintf("%d-%d", w, i)
					if err := run.Save(t.Context(), id, []byte(`{"id":"`+id+`"}`)); err != nil {
						t.Error(err)
						return
					}
				}
			})
		}
		wg.Wait()
		must(t, run.Complete(t.Context(), CompleteOptions{}))
		events := ofRun(readRaw(t, b.Addr()), run.Sequence())
		if want := writers*each + 2; len(events) != want {
			t.Fatalf("%d events, want %d", len(events), want)
		}
		wantDense(t, events)
		next := make([]int, writers)
		for _, e := range events[1 : len(events)-1] {
			w, i, _ := strings.Cut(string(e.ID), "-")
			writer, _ := strconv.Atoi(w)
			if n, _ := strconv.Atoi(i); n != next[writer] {
				t.Fatalf("writer %d: event %d follows %d", writer, n, next[writer]-1)
			}
			next[writer]++
			if string(e.Value) != `{"id":"`+string(e.ID)+`"}` {
				t.Fatalf("event %s has the value %s", e.ID, e.Value)
			}
		}
		if end := events[len(events)-1]; end.Type != event.RawRunCompleted || string(end.Value) != fmt.Sprintf(`{"delete_missing":true,"events":%d}`, writers*each) {
			t.Errorf("the run ends with %c %s", end.Type, end.Value)
		}
	}
}

// Memory is used again for other events: payloads and ids of many sizes, in a buffer that holds few, must come out as they went in,
// although the caller overwrites its own at once.
func TestWriter_BuffersAreNotMixedUp(t *testing.T) {
	b := startBroker(t, t.TempDir(), "")
	p := newProducer(t, b.Addr(), func(c *Config) { c.BufferRecords = 7; c.CheckJSON = true })
	seed := rand.Uint64()
	r := rand.New(rand.NewPCG(seed, 1))
	run, err := p.Stream(acme).Run(t.Context(), RunOptions{Pipeline: true})
	must(t, err)
	var want []string
	scratch := make([]byte, 0, 64<<10)
	for i := range 2000 {
		size := r.IntN(200)
		if r.IntN(20) == 0 {
			size = r.IntN(40 << 10) // above what is kept
		}
		id := fmt.Sprint(i, strings.Repeat("x", r.IntN(300)))
		scratch = fmt.Appendf(scratch[:0], `{"i":%d,"f":%q}`, i, strings.Repeat(string(rune('a'+i%26)), size))
		want = append(want, id+string(scratch))
		must(t, run.Save(t.Context(), id, scratch))
		for j := range scratch {
			scratch[j] = '!'
		}
	}
	must(t, run.Complete(t.Context(), CompleteOptions{}))
	events := ofRun(readRaw(t, b.Addr()), run.Sequence())
	wantDense(t, events)
	for i, w := range want {
		if e := events[i+1]; string(e.ID)+string(e.Value) != w {
			t.Fatalf("seed %d: event %d is %.80q, want %.80q", seed, i, string(e.ID)+string(e.Value), w)
		}
	}
}

func TestWriter_Refusals(t *testing.T) {
	b := startBroker(t, t.TempDir(), "")
	p := newProducer(t, b.Addr(), func(c *Config) { c.RecordBytesMax = 1000; c.CheckJSON = true })
	ctx := t.Context()
	s := p.Stream(acme)
	const secret = "hunter2"
	var errs []error
	refused := func(err error, code errcode.Code, texts ...string) {
		t.Helper()
		wantCode(t, err, code, texts...)
		errs = append(errs, err)
	}
	large := []byte(`{"` + secret + strings.Repeat("x", 995-len(secret)) + `":0}`)
	refused(s.Save(ctx, "1", large), errcode.RecordTooLarge, "1001 bytes", "1000")
	must(t, s.Save(ctx, "1", append(large[:900:900], large[901:]...)))
	refused(s.Save(ctx, "", []byte(`{}`)), errcode.RawInvalidID)
	refused(s.Delete(ctx, "a\x00"), errcode.RawInvalidID)
	refused(s.Save(ctx, strings.Repeat("x", 513), []byte(`{}`)), errcode.RawInvalidID, "513", "512")
	for _, bad := range []string{``, `null`, `[1]`, `"` + secret + `"`, `{`, `{"` + secret + `"}`, `{} {}`, "{\"a\":\"\xff\"}", `{"a":1}x`} {
		refused(s.Save(ctx, "1", []byte(bad)), errcode.RawInvalidPayload)
		refused(s.Update(ctx, "1", []byte(bad)), errcode.RawInvalidPayload)
	}
	refused(s.SaveJSON(ctx, "1", []string{secret}), errcode.RawInvalidPayload)
	refused(s.SaveRaw(ctx, []byte(`{"id":{"`+secret+`":1}}`), "id"), errcode.RawInvalidID)
	for _, bad := range []string{"", "a", "/a~", "/a~2", "/\xff"} {
		refused(s.Update(ctx, "1", []byte(`{}`), bad), errcode.RawInvalidHeader)
	}
	refused(s.Update(ctx, "1", []byte(`{}`), "/"+strings.Repeat("x", headerBytesMax)), errcode.RawInvalidHeader)
	refused(s.Checkpoint(ctx, strings.Repeat("x", 1000)), errcode.RecordTooLarge)
	refused(s.With(Override, strings.Repeat("x", 129)).Save(ctx, "1", []byte(`{}`)), errcode.RawInvalidHeader)
	_, err := s.Run(ctx, RunOptions{Schema: strings.Repeat("x", 129)})
	refused(err, errcode.RawInvalidHeader)
	refused(p.Stream(stream.ID{Environment: "dev"}).Save(ctx, "1", []byte(`{}`)), errcode.RawInvalidKey, "integration")
	if _, err := p.Stream(stream.ID{}).SaveBatch(ctx, nil); err == nil {
		t.Error("a batch for no stream is fine")
	}
	for _, err := range []error{s.Clear(ctx, ""), s.Prune(ctx, 0), s.Decide(ctx, 1, "maybe", ""), s.Decide(ctx, 0, Approve, "")} {
		if err == nil {
			t.Error("an invalid command was taken")
		}
	}
	for _, err := range errs {
		if strings.Contains(err.Error(), secret) {
			t.Errorf("payload in an error: %v", err)
		}
	}
	if n := len(readRaw(t, b.Addr())); n != 1 {
		t.Errorf("%d events in the log, want the one that was not refused", n)
	}
}

// Without CheckJSON only the braces are looked at.
func TestWriter_CheapCheck(t *testing.T) {
	for text, want := range map[string]bool{
		`{}`: true, " {\"a\":1}\r\n": true, `{"a"}`: true, ``: false, ` `: false, `{`: false, `}`: false, `[]`: false, `null`: false, `{}x`: false,
	} {
		if isObject([]byte(text)) != want {
			t.Errorf("isObject(%q) is %v", text, !want)
		}
	}
}

func TestWriter_SaveBatch(t *testing.T) {
	b := startBroker(t, t.TempDir(), "")
	p := newProducer(t, b.Addr())
	ctx := t.Context()
	run, err := p.Stream(acme).Run(ctx, RunOptions{})
	must(t, err)
	records := func(idsAndVersions ...string) (rs []Record) {
		for _, s := range idsAndVersions {
			rs = append(rs, Record{ID: s[:1], Payload: []byte(`{"v":"` + s + `"}`)})
		}
		return rs
	}
	repeated, err := run.SaveBatch(ctx, records("a1", "b1", "a2", "c1", "c2", "a3", "d1"))
	must(t, err)
	if !reflect.DeepEqual(repeated, []string{"a", "c"}) {
		t.Errorf("repeated ids are %q", repeated)
	}
	if repeated, err := run.SaveBatch(ctx, nil); repeated != nil || err != nil {
		t.Errorf("an empty batch gives %v, %v", repeated, err)
	}
	bad := append(records("e1", "f1"), Record{ID: "g", Payload: []byte(`[]`)})
	_, err = run.SaveBatch(ctx, bad)
	wantCode(t, err, errcode.RawInvalidPayload, "record 2")
	wantIs(t, run.Complete(ctx, CompleteOptions{}), ErrRefused)
	if _, err := run.SaveBatch(ctx, records("e2", "f2", "g2")); err != nil {
		t.Fatal(err)
	}
	must(t, run.Complete(ctx, CompleteOptions{}))

	events := ofRun(readRaw(t, b.Addr()), run.Sequence())
	wantDense(t, events)
	var got []string
	for _, e := range events[1 : len(events)-1] {
		var v struct{ V string }
		must(t, json.Unmarshal(e.Value, &v))
		got = append(got, v.V)
	}
	if want := []string{"b1", "c2", "a3", "d1", "e2", "f2", "g2"}; !reflect.DeepEqual(got, want) {
		t.Errorf("sent %q, want %q", got, want)
	}
}

// A canceled context ends any wait at once, and its cause is returned.
func TestWriter_ContextEndsWaits(t *testing.T) {
	b := startBroker(t, t.TempDir(), "")
	d := newDam()
	p := newProducer(t, b.Addr(), d.config)
	s := p.Stream(acme)
	run, err := s.Run(t.Context(), RunOptions{})
	must(t, err)
	d.shut()
	defer d.release()
	cause := errors.New("enough")
	for _, c := range []struct {
		name string
		call func(ctx context.Context) error
	}{
		{"save", func(ctx context.Context) error { return s.Save(ctx, "1", []byte(`{}`)) }},
		{"batch", func(ctx context.Context) error { _, err := s.SaveBatch(ctx, []Record{{"1", []byte(`{}`)}}); return err }},
		{"save in a run", func(ctx context.Context) error { return run.Save(ctx, "1", []byte(`{}`)) }},
		{"checkpoint", func(ctx context.Context) error { return run.Checkpoint(ctx, 1) }},
		{"clear", func(ctx context.Context) error { return s.Clear(ctx, ClearHard) }},
		{"run", func(ctx context.Context) error { _, err := s.Run(ctx, RunOptions{}); return err }},
		{"complete", func(ctx context.Context) error { return run.Complete(ctx, CompleteOptions{}) }},
		{"flush of the run", run.Flush},
		{"fail", func(ctx context.Context) error { return run.Fail(ctx, nil) }},
		{"flush", p.Flush},
	} {
		ctx, cancel := context.WithCancelCause(t.Context())
		timer := time.AfterFunc(20*time.Millisecond, func() { cancel(cause) })
		if err := c.call(ctx); !errors.Is(err, cause) {
			t.Errorf("%s returned %v, not the cause", c.name, err)
		}
		timer.Stop()
		cancel(nil)
	}
}
