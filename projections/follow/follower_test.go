package follow

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/tidemark-dev/tidemark/schemas/errcode"
	"github.com/tidemark-dev/tidemark/schemas/event"
	"github.com/tidemark-dev/tidemark/schemas/rulev"
	"github.com/tidemark-dev/tidemark/schemas/topic"
)

// synthetic makes a log for each partition, with offsets as the broker will give them.
func synthetic(r *rand.Rand, length int) (logs [testPartitions][]Record) {
	for p := range logs {
		logs[p] = synthesize(r, length)
		for i := range logs[p] {
			logs[p][i].Offset = int64(i)
		}
	}
	return logs
}

func wantGroups(t *testing.T, got map[int32][]delivered, logs [testPartitions][]Record) {
	t.Helper()
	for p := range logs {
		if want := describeAll(validGroups(logs[p])); !slices.Equal(got[int32(p)], want) {
			t.Errorf("partition %d:\ngot  %v\nwant %v", p, got[int32(p)], want)
		}
	}
}

// behind reports whether groups has all that the logs hold, by number.
func complete(got map[int32][]delivered, logs [testPartitions][]Record) bool {
	for p := range logs {
		if len(got[int32(p)]) < len(validGroups(logs[p])) {
			return false
		}
	}
	return true
}

// W1, W3: logs with leftovers of all kinds, written while they are read; the follower is stopped at any group, and another one goes on
// from its stored positions, with the broker restarted in between: every valid group once, in order.
func TestFollower_StopsAndResumes(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 3))
	logs := synthetic(r, 400)
	dir := t.TempDir()
	b := startBroker(t, dir, "")
	addr := b.Addr()

	var wg sync.WaitGroup
	l := newLog(t, addr)
	for p := range logs {
		cut := rand.New(rand.NewPCG(seed, uint64(10+p)))
		wg.Go(func() {
			for rest := logs[p]; len(rest) > 0; {
				n := min(len(rest), 1+cut.IntN(30))
				l.write(int32(p), slices.Clone(rest[:n])...)
				rest = rest[n:]
			}
		})
	}
	got := map[int32][]delivered{}
	var stored []byte
	for round := 0; !complete(got, logs); round++ {
		cfg := config(addr)
		if stored != nil {
			must(t, json.Unmarshal(stored, &cfg.Positions))
		}
		f, err := New(cfg)
		must(t, err)
		left := 1 + r.IntN(60)
		ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
		err = f.Run(ctx, func(g Group) error {
			if left == 0 {
				return ErrStop // and this group comes again
			}
			left--
			got[g.Partition] = append(got[g.Partition], describe(g.Records))
			if complete(got, logs) {
				cancel()
			}
			if g.State() != g.Next.State || !g.Next.Exact || g.Next.SeenCSN != g.Records[len(g.Records)-1].Meta.CSN {
				t.Errorf("position behind %v is %+v", describe(g.Records), g.Next)
			}
			return nil
		})
		must(t, err)
		if ctx.Err() != nil && !complete(got, logs) {
			t.Fatal("groups are missing")
		}
		cancel()
		stored, err = json.Marshal(f.Positions())
		must(t, err)
		if round%4 == 3 && round < 12 {
			must(t, b.Close())
			b = startBroker(t, dir, addr)
		}
	}
	wg.Wait()
	wantGroups(t, got, logs)
}

// A broker that goes away and comes back is no concern of the caller.
func TestFollower_SurvivesRestarts(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	logs := synthetic(rand.New(rand.NewPCG(seed, 4)), 240)
	dir := t.TempDir()
	b := startBroker(t, dir, "")
	addr := b.Addr()
	f, err := New(config(addr))
	must(t, err)
	var mu sync.Mutex
	got := map[int32][]delivered{}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() {
		done <- f.Run(ctx, func(g Group) error {
			mu.Lock()
			defer mu.Unlock()
			got[g.Partition] = append(got[g.Partition], describe(g.Records))
			return nil
		})
	}()
	l := newLog(t, addr)
	const parts = 4
	for i := range parts {
		for p := range logs {
			n := len(logs[p]) / parts
			l.write(int32(p), slices.Clone(logs[p][i*n:(i+1)*n])...)
		}
		if i < parts-1 {
			must(t, b.Close())
			b = startBroker(t, dir, addr)
		}
	}
	waitFor(t, "all groups", func() bool { mu.Lock(); defer mu.Unlock(); return complete(got, logs) })
	cancel()
	must(t, <-done)
	wantGroups(t, got, logs)
}

// What take returns comes back as it is, and the group that it refused comes again.
func TestFollower_TakeFails(t *testing.T) {
	b := startBroker(t, t.TempDir(), "")
	l := newLog(t, b.Addr())
	l.write(1, script(1, 3)...)
	cfg := config(b.Addr())
	cfg.Partitions = []int32{1}
	f, err := New(cfg)
	must(t, err)
	if p := f.Positions(); len(p) != 1 || p[0] != AtStart(1) {
		t.Errorf("positions are %+v", p)
	}
	refusal := errors.New("no room")
	var csns []uint64
	fail := true
	run := func() error {
		return f.Run(t.Context(), func(g Group) error {
			csns = append(csns, g.Records[0].Meta.CSN)
			if len(csns) == 2 && fail {
				fail = false
				return refusal
			}
			if g.Records[0].Meta.CSN == 3 {
				return fmt.Errorf("enough: %w", ErrStop)
			}
			return nil
		})
	}
	if err := run(); err != refusal {
		t.Errorf("Run returned %v", err)
	}
	if p := f.Positions(); p[0].SeenCSN != 1 {
		t.Errorf("positions are %+v", p)
	}
	must(t, run())
	if want := []uint64{1, 2, 2, 3}; !slices.Equal(csns, want) {
		t.Errorf("delivered %v, want %v", csns, want)
	}
}

// script is a TERM and that many groups of one record.
func script(term uint64, groups int) []Record {
	out := []Record{{Op: event.OpTerm, Meta: event.Meta{Term: term, Nonce: uint32(term)}, Key: []byte("~p/0")}}
	for i := range groups {
		out = append(out, change(term, uint64(i+1)))
	}
	return out
}

func change(term, csn uint64) Record {
	return Record{Op: event.OpAdded, Key: []byte(acme.Key() + "/1"), Meta: event.Meta{
		Term: term, Nonce: uint32(term), CSN: csn, SID: 1, RawOffset: -1, Commit: true, N: 1, Record: true, Algo: event.AlgoXXH3,
	}}
}

// The end is where it was at the first contact: later groups come, earlier ones do not, whatever happens to the connection.
func TestFollower_FromEnd(t *testing.T) {
	dir := t.TempDir()
	b := startBroker(t, dir, "")
	addr := b.Addr()
	l := newLog(t, addr)
	l.write(0, script(1, 5)...)
	cfg := config(addr)
	cfg.Begin = OffsetEnd
	f, err := New(cfg)
	must(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	csns := make(chan uint64, 10)
	done := make(chan error)
	take := func(g Group) error { csns <- g.Records[0].Meta.CSN; return nil }
	go func() { done <- f.Run(ctx, take) }()
	waitFor(t, "the end", func() bool { p := f.Positions(); return len(p) == testPartitions && p[0].Offset == 6 })
	cancel()
	must(t, <-done)
	l.write(0, change(1, 6)) // while nobody reads
	l.write(1, script(1, 1)...)
	must(t, b.Close())
	startBroker(t, dir, addr)
	ctx, cancel = context.WithCancel(t.Context())
	defer cancel()
	go func() { done <- f.Run(ctx, take) }()
	l.write(0, change(1, 7))
	got := []uint64{<-csns, <-csns, <-csns}
	if slices.Sort(got); !slices.Equal(got, []uint64{1, 6, 7}) {
		t.Errorf("csns %v, want 6 and 7 of one partition and 1 of the other", got)
	}
	cancel()
	must(t, <-done)
}

// A cursor goes on behind the change that it names, inside of a group, too.
func TestFollower_FromCursor(t *testing.T) {
	seed := rand.Uint64()
	logs := synthetic(rand.New(rand.NewPCG(seed, 5)), 100)
	b := startBroker(t, t.TempDir(), "")
	l := newLog(t, b.Addr())
	records := slices.Clone(logs[0])
	l.write(0, records...)
	valid := validGroups(logs[0])
	var flat []Record
	for _, g := range valid {
		flat = append(flat, g...)
	}
	for _, i := range []int{0, len(flat) / 2, len(flat) - 2} {
		cfg := config(b.Addr())
		cfg.Positions = []Position{AtCursor(cursorOf(&flat[i]))}
		f, err := New(cfg)
		must(t, err)
		next := flat[i].Meta.CSN + 1
		must(t, f.Run(t.Context(), func(g Group) error {
			for _, r := range g.Records {
				if r.Meta.CSN != next {
					t.Fatalf("seed %d: csn %d, want %d", seed, r.Meta.CSN, next)
				}
				next++
			}
			if next > flat[len(flat)-1].Meta.CSN {
				return ErrStop
			}
			return nil
		}))
	}
}

// Records of a transaction that was aborted are not read; those of one that is open hold the reader up.
func TestFollower_ReadsCommittedOnly(t *testing.T) {
	b := startBroker(t, t.TempDir(), "")
	l := newLog(t, b.Addr(), kgo.TransactionalID("w"))
	transaction := func(end kgo.TransactionEndTry, records ...Record) {
		t.Helper()
		must(t, l.cl.BeginTransaction())
		l.write(0, records...)
		must(t, l.cl.EndTransaction(t.Context(), end))
	}
	transaction(kgo.TryCommit, script(1, 1)...)
	transaction(kgo.TryAbort, change(1, 2))
	transaction(kgo.TryCommit, script(2, 0)...)
	transaction(kgo.TryAbort, change(2, 2), change(2, 3))
	transaction(kgo.TryCommit, change(2, 2))
	f, err := New(config(b.Addr()))
	must(t, err)
	var got []string
	must(t, f.Run(t.Context(), func(g Group) error {
		for _, r := range g.Records {
			got = append(got, fmt.Sprintf("%d/%d", r.Meta.Term, r.Meta.CSN))
		}
		if len(got) == 2 {
			return ErrStop
		}
		return nil
	}))
	if want := []string{"1/1", "2/2"}; !slices.Equal(got, want) {
		t.Errorf("read %v, want %v", got, want)
	}
}

// W5, W6: what cannot be followed is an error, with what had been delivered before it.
func TestFollower_FinalErrors(t *testing.T) {
	run := func(t *testing.T, cfg Config) (int, error) {
		t.Helper()
		f, err := New(cfg)
		must(t, err)
		f.aheadWait = 300 * time.Millisecond
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		defer cancel()
		groups := 0
		err = f.Run(ctx, func(Group) error { groups++; return nil })
		if ctx.Err() != nil {
			t.Fatal("Run did not end")
		}
		return groups, err
	}
	code := func(t *testing.T, err error, want errcode.Code) {
		t.Helper()
		var e *errcode.Error
		if !errors.As(err, &e) || e.Code != want {
			t.Errorf("error %v, want %s", err, want)
		}
	}
	b := startBroker(t, t.TempDir(), "")
	l := newLog(t, b.Addr())
	t.Run("gap", func(t *testing.T) {
		l.write(0, append(script(1, 3), change(1, 5))...)
		groups, err := run(t, config(b.Addr()))
		var halt *rulev.HaltError
		if !errors.As(err, &halt) || halt.CSN != 5 || groups != 3 {
			t.Errorf("%d groups, then %v", groups, err)
		}
	})
	t.Run("foreign record", func(t *testing.T) {
		l.write(1, script(1, 2)...)
		must(t, l.cl.ProduceSync(t.Context(), &kgo.Record{Topic: testNames.Changes, Partition: 1, Value: []byte("hello")}).FirstErr())
		cfg := config(b.Addr())
		cfg.Partitions = []int32{1}
		groups, err := run(t, cfg)
		if !errors.Is(err, event.ErrRecord) || groups != 2 || !strings.Contains(err.Error(), "offset 3 of partition 1") || strings.Contains(err.Error(), "hello") {
			t.Errorf("%d groups, then %v", groups, err)
		}
	})
	t.Run("trimmed", func(t *testing.T) {
		l.write(2, script(1, 10)...)
		must(t, b.Trim(testNames.Changes, 2, 5))
		cfg := config(b.Addr())
		cfg.Positions = []Position{AtOffset(2, 3)}
		_, err := run(t, cfg)
		code(t, err, errcode.CursorExpired)
		var gone *PositionError
		if !errors.As(err, &gone) || gone.Start != 5 || gone.End != 11 || gone.Partition != 2 {
			t.Errorf("error %v", err)
		}
		// From the start of what is left it goes on.
		cfg.Positions = []Position{AtStart(2)}
		f, err := New(cfg)
		must(t, err)
		first := uint64(0)
		must(t, f.Run(t.Context(), func(g Group) error { first = g.Records[0].Meta.CSN; return ErrStop }))
		if first != 5 {
			t.Errorf("begins at csn %d", first)
		}
	})
	t.Run("trimmed while it is read", func(t *testing.T) {
		records := script(1, 400)
		for i := range records[1:] {
			records[1+i].Value = []byte(strings.Repeat("x", 10_000))
		}
		plain := newLog(t, b.Addr(), kgo.ProducerBatchCompression(kgo.NoCompression()), kgo.ProducerBatchMaxBytes(100_000))
		plain.write(3, records...)
		cfg := config(b.Addr())
		cfg.Partitions, cfg.FetchBytes = []int32{3}, 100_000
		cfg.Client = append(cfg.Client, kgo.FetchMaxPartitionBytes(100_000))
		f, err := New(cfg)
		must(t, err)
		groups := 0
		err = f.Run(t.Context(), func(Group) error {
			if groups++; groups == 1 {
				must(t, b.Trim(testNames.Changes, 3, 390))
			}
			return nil
		})
		code(t, err, errcode.CursorExpired)
		if groups > 100 {
			t.Errorf("%d groups were read ahead", groups)
		}
	})
	t.Run("ahead", func(t *testing.T) {
		cfg := config(b.Addr())
		cfg.Positions = []Position{{Partition: 2, Offset: 12, State: rulev.State{Term: 1, Nonce: 1, NextCSN: 12}, Exact: true}}
		_, err := run(t, cfg)
		code(t, err, errcode.CursorAhead)
	})
	t.Run("no such partition", func(t *testing.T) {
		cfg := config(b.Addr())
		cfg.Partitions = []int32{testPartitions}
		_, err := run(t, cfg)
		code(t, err, errcode.TopicDrift)
	})
	t.Run("no such topic", func(t *testing.T) {
		cfg := config(b.Addr())
		cfg.StartWait = 300 * time.Millisecond
		cfg.Names, _ = topic.NamesFor("other", 1)
		_, err := run(t, cfg)
		code(t, err, errcode.TopicDrift)
	})
	t.Run("no broker", func(t *testing.T) {
		must(t, b.Close())
		cfg := config(b.Addr())
		cfg.StartWait = 300 * time.Millisecond
		began := time.Now()
		_, err := run(t, cfg)
		code(t, err, errcode.Unreachable)
		if d := time.Since(began); d > 5*time.Second {
			t.Errorf("took %v", d)
		}
	})
}

func TestFollower_Payload(t *testing.T) {
	b := startBroker(t, t.TempDir(), "")
	l := newLog(t, b.Addr())
	records := script(1, 1)
	payload := []byte(`{"id": "1", "name":"é"}`)
	c := event.Change{Op: event.OpAdded, Key: event.NewKey(acme), ID: []byte("1"), Payload: payload}
	records[1].Value = event.AppendChange(nil, &c, &records[1].Meta)
	l.write(3, records...)
	f, err := New(config(b.Addr()))
	must(t, err)
	must(t, f.Run(t.Context(), func(g Group) error {
		got, err := g.Records[0].Payload()
		if err != nil || string(got) != string(payload) || g.Partition != 3 {
			t.Errorf("payload %s of partition %d, %v", got, g.Partition, err)
		}
		return ErrStop
	}))
}

func TestMetrics(t *testing.T) {
	b := startBroker(t, t.TempDir(), "")
	l := newLog(t, b.Addr())
	records := append(script(1, 2), script(1, 0)...)                               // a TERM that is late
	records = append(records, append(script(2, 0), change(1, 3), change(2, 3))...) // a takeover, a leftover
	l.write(0, records...)
	reg := prometheus.NewRegistry()
	cfg := config(b.Addr())
	cfg.Metrics = NewMetrics(reg)
	f, err := New(cfg)
	must(t, err)
	must(t, f.Run(t.Context(), func(g Group) error {
		if g.Records[0].Meta.CSN == 3 {
			return ErrStop
		}
		return nil
	}))
	const want = `
# HELP tidemark_follow_groups_total Valid groups read.
# TYPE tidemark_follow_groups_total counter
tidemark_follow_groups_total 3
# HELP tidemark_follow_reconnects_total Times a connection was given up and made again.
# TYPE tidemark_follow_reconnects_total counter
tidemark_follow_reconnects_total 0
# HELP tidemark_follow_records_total Records read from the changes topic, by rule V's verdict; valid ones of a group that never ended are included.
# TYPE tidemark_follow_records_total counter
tidemark_follow_records_total{verdict="late_term"} 1
tidemark_follow_records_total{verdict="skipped"} 0
tidemark_follow_records_total{verdict="term"} 2
tidemark_follow_records_total{verdict="valid"} 3
tidemark_follow_records_total{verdict="zombie"} 1
`
	if err := testutil.GatherAndCompare(reg, strings.NewReader(want)); err != nil {
		t.Error(err)
	}
}

func TestConfig(t *testing.T) {
	c := cursorOf(&Record{Offset: 5, Meta: event.Meta{CSN: 4, Term: 1}})
	for text, edit := range map[string]func(*Config){
		"seed":               func(c *Config) { c.Seeds = nil },
		"changes topic":      func(c *Config) { c.Names = topic.Names{} },
		"Begin":              func(c *Config) { c.Begin = 5 },
		"LookBack":           func(c *Config) { c.LookBack = -1 },
		"FetchBytes":         func(c *Config) { c.FetchBytes = 1 << 31 },
		"GroupBytes":         func(c *Config) { c.GroupBytes = -1 },
		"StartWait":          func(c *Config) { c.StartWait = -1 },
		"there twice":        func(c *Config) { c.Partitions = []int32{1, 1} },
		"not asked for":      func(c *Config) { c.Partitions = []int32{1}; c.Positions = []Position{AtStart(2)} },
		"2 is not asked for": func(c *Config) { c.Positions = []Position{AtStart(2), AtEnd(2)} },
		"is negative":        func(c *Config) { c.Positions = []Position{AtOffset(0, -3)} },
		"-1 is negative":     func(c *Config) { c.Positions = []Position{AtOffset(-1, 0)} },
		"no offset":          func(c *Config) { c.Positions = []Position{{Offset: OffsetEnd, State: rulev.Start()}} },
		"cursor.malformed":   func(c *Config) { c.Positions = []Position{{Cursor: "x"}} },
		"cursor.foreign":     func(cfg *Config) { cfg.Positions = []Position{{Partition: 3, Cursor: c.String()}} },
		"names no record": func(cfg *Config) {
			c := c
			c.Offset = -1
			cfg.Positions = []Position{AtCursor(c)}
		},
	} {
		cfg := config("127.0.0.1:1")
		edit(&cfg)
		if _, err := New(cfg); err == nil || !strings.Contains(err.Error(), text) {
			t.Errorf("error %v does not name %q", err, text)
		}
	}
	f, err := New(Config{Seeds: []string{"127.0.0.1:1"}, Names: testNames, Positions: []Position{AtEnd(3), AtCursor(c)}, Partitions: []int32{3, 1, 0}})
	must(t, err)
	if got, want := f.Positions(), []Position{AtCursor(c), AtStart(1), AtEnd(3)}; !slices.Equal(got, want) {
		t.Errorf("positions are %+v, want %+v", got, want)
	}
}
