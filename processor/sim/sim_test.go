package sim

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/tidemark-dev/tidemark/processor"
	"github.com/tidemark-dev/tidemark/processor/batch"
	"github.com/tidemark-dev/tidemark/processor/decide"
	"github.com/tidemark-dev/tidemark/processor/kafka"
	"github.com/tidemark-dev/tidemark/processor/kafka/faultconn"
	"github.com/tidemark-dev/tidemark/processor/model"
	"github.com/tidemark-dev/tidemark/processor/store"
	"github.com/tidemark-dev/tidemark/schemas/event"
	"github.com/tidemark-dev/tidemark/schemas/rulev"
	"github.com/tidemark-dev/tidemark/schemas/stream"
	"github.com/tidemark-dev/tidemark/schemas/topic"
)

var (
	seeds   = flag.Int("sim.seeds", 40, "number of seeds")
	first   = flag.Uint64("sim.first", 1, "first seed")
	verbose = flag.Bool("sim.v", false, "log what the processors log")
)

// TestSim_I5_TheLogEqualsTheModel runs every seed in a bubble of its own.
func TestSim_I5_TheLogEqualsTheModel(t *testing.T) {
	for s := *first; s < *first+uint64(*seeds); s++ {
		t.Run(fmt.Sprintf("seed=%d", s), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				if err := simulate(t, s, plan{}); err != nil {
					t.Fatalf("seed %d: %v", s, err)
				}
			})
		})
	}
}

// plan says what is switched off in a run.
type plan struct {
	breaks processor.Breaks
	decide decide.Breaks
}

type world struct {
	t        *testing.T
	rng      *rand.Rand
	net      *kfake.VirtualNetwork
	names    topic.Names
	seeds    []string
	plan     plan
	alive    []*node
	nodes    int
	assigned func(int32) bool
}

// node is one process: its disk, its connections, its processor.
type node struct {
	fs     *disk
	faults *faultconn.Injector
	stop   context.CancelFunc
	done   chan struct{}
	proc   atomic.Pointer[processor.Processor]
}

const partitions = 1

func simulate(t *testing.T, seed uint64, p plan) error {
	w := &world{t: t, rng: rand.New(rand.NewPCG(seed, 3)), net: new(kfake.VirtualNetwork), plan: p}
	var err error
	if w.names, err = topic.NamesFor("sim", 1); err != nil {
		return err
	}
	c, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.Ports(9092), kfake.ListenFn(w.net.Listen),
		kfake.SeedTopics(partitions, w.names.Raw, w.names.Changes, w.names.State, w.names.DLQ))
	if err != nil {
		return err
	}
	defer c.Close()
	w.seeds = []string{"localhost:9092"}
	cl, err := kgo.NewClient(kgo.SeedBrokers(w.seeds...), kgo.Dialer(w.net.DialContext), kgo.RecordPartitioner(kgo.ManualPartitioner()),
		kgo.DisableClientMetrics(), kgo.ProducerLinger(0))
	if err != nil {
		return err
	}
	defer cl.Close()
	defer w.killAll()

	load := model.NewWorkload(seed, 1+w.rng.IntN(3), 3+w.rng.IntN(25), 0, partitions)
	w.start(nil)
	for range 60 + w.rng.IntN(60) {
		switch p := w.rng.IntN(100); {
		case p < 55:
			for range w.rng.IntN(20) {
				if err := w.produce(cl, load.Next()); err != nil {
					return err
				}
			}
		case p < 75:
			time.Sleep(time.Duration(w.rng.IntN(3000)) * time.Millisecond)
		case p < 85:
			w.trouble()
		case p < 93:
			w.kill()
		case len(w.alive) < 3: // a new owner, whether or not the old one is gone
			w.start(nil)
		}
	}
	// What is left comes in under fire, at times: the node that survives must get over an append that failed, with nobody to replace it.
	for _, n := range w.alive {
		if w.rng.IntN(2) == 0 {
			n.faults.Random(int16(kmsg.Produce), 0.5, faultconn.Action{Kind: faultconn.LoseAnswer}, faultconn.Action{Kind: faultconn.LoseRequest})
		}
	}
	for _, ev := range load.Settle() {
		if err := w.produce(cl, ev); err != nil {
			return err
		}
	}
	time.Sleep(time.Duration(w.rng.IntN(3000)) * time.Millisecond)
	// Peace: one node with its disk, and nobody else.
	for len(w.alive) > 1 {
		w.kill()
	}
	if len(w.alive) == 0 {
		w.start(nil)
	}
	for _, n := range w.alive {
		n.faults.Calm()
		n.faults.Refuse(false)
	}
	if err := w.settle(cl); err != nil {
		return err
	}
	return w.verify()
}

func (w *world) produce(cl *kgo.Client, ev model.RawEvent) error {
	r := &kgo.Record{Topic: w.names.Raw, Key: ev.Key, Value: ev.Value}
	for _, h := range ev.Headers {
		r.Headers = append(r.Headers, kgo.RecordHeader{Key: string(h.Key), Value: h.Value})
	}
	return cl.ProduceSync(context.Background(), r).FirstErr()
}

// start runs a node, on a disk of its own or on one that a killed node left.
func (w *world) start(fs *disk) {
	w.nodes++
	n := &node{fs: fs, done: make(chan struct{}), faults: faultconn.New(w.rng.Uint64())}
	if n.fs == nil {
		n.fs = newDisk()
	}
	ctx, cancel := context.WithCancel(context.Background())
	n.stop = cancel
	logger := slog.New(slog.DiscardHandler)
	if *verbose {
		logger = slog.New(slog.NewTextHandler(w.t.Output(), nil)).With("node", w.nodes)
	}
	dial := n.faults.Dialer(func(ctx context.Context, network, addr string) (net.Conn, error) {
		return w.net.DialContext(ctx, network, addr)
	})
	ignored := model.Ignored(w.rng)
	seed := w.rng.Uint64()
	nonces := rand.New(rand.NewPCG(seed, 5))
	var nonceMu = make(chan struct{}, 1)
	cfg := processor.Config{
		Dir: "state", FS: n.fs, Names: w.names, Node: fmt.Sprint("node-", w.nodes), Logger: logger, Breaks: w.plan.breaks,
		Nonce: func() uint32 {
			nonceMu <- struct{}{}
			defer func() { <-nonceMu }()
			return nonces.Uint32()
		},
		StandBy: time.Second, Assigned: w.assigned, MemtableBytes: 1 << 20, HotBytes: int64(w.rng.IntN(3)) << 14, BufferBytes: 1 << 18,
		Decide: decide.Config{GroupRecords: 1 + w.rng.IntN(30), SweepRecords: 1 + w.rng.IntN(10), Breaks: w.plan.decide, SeenEvery: w.rng.Int64N(80) - 5,
			Model: func(stream.ID) decide.Model { return decide.Model{Ignore: ignored} }},
	}
	go func() {
		defer close(n.done)
		for ctx.Err() == nil {
			log, err := kafka.Open(ctx, kafka.Config{
				Seeds: w.seeds, Client: []kgo.Opt{kgo.Dialer(dial)}, Names: w.names, Logger: slog.New(slog.DiscardHandler),
				Compression: batch.Snappy, RequestTimeout: 2 * time.Second,
			})
			if err != nil {
				time.Sleep(100 * time.Millisecond)
				continue
			}
			p, err := processor.New(ctx, cfg, processor.KafkaLog{Log: log})
			if err == nil {
				n.proc.Store(p)
				err = p.Run(ctx)
			}
			log.Close()
			if err != nil && ctx.Err() == nil {
				w.t.Errorf("node %d: %v", w.nodes, err)
				return
			}
		}
	}()
	w.alive = append(w.alive, n)
}

// trouble breaks the connections of a node for a while.
func (w *world) trouble() {
	if len(w.alive) == 0 {
		return
	}
	n := w.alive[w.rng.IntN(len(w.alive))]
	late := faultconn.Action{Kind: faultconn.Delay, Delay: time.Duration(w.rng.IntN(4000)) * time.Millisecond}
	switch w.rng.IntN(5) {
	case 0:
		n.faults.CloseAll()
	case 1:
		n.faults.Random(int16(kmsg.Produce), 0.2, faultconn.Action{Kind: faultconn.LoseAnswer}, faultconn.Action{Kind: faultconn.LoseRequest}, late)
	case 2:
		n.faults.Random(int16(kmsg.Fetch), 0.1, faultconn.Action{Kind: faultconn.Close}, faultconn.Action{Kind: faultconn.LoseAnswer})
	case 3:
		n.faults.Calm()
	case 4:
		n.faults.Refuse(true)
		n.faults.CloseAll()
		time.Sleep(time.Duration(w.rng.IntN(1500)) * time.Millisecond)
		n.faults.Refuse(false)
	}
}

// kill ends a node as kill -9 does: its connections are cut, and its disk is what happened to be written. Half of the time a new node
// starts on that disk.
func (w *world) kill() {
	if len(w.alive) == 0 {
		return
	}
	i := w.rng.IntN(len(w.alive))
	n := w.alive[i]
	w.alive = append(w.alive[:i:i], w.alive[i+1:]...)
	disk := n.fs.crash(w.rng)
	n.end()
	switch w.rng.IntN(3) {
	case 0:
		w.start(disk)
	case 1:
		w.start(nil)
	}
}

func (n *node) end() {
	n.faults.Refuse(true)
	n.faults.CloseAll()
	n.stop()
	<-n.done
	n.faults.Wait()
}

func (w *world) killAll() {
	for _, n := range w.alive {
		n.end()
	}
	w.alive = nil
}

var errUnsettled = errors.New("the processor did not come to rest")

// settle waits until the node that is left has processed everything.
func (w *world) settle(cl *kgo.Client) error {
	for range 600 {
		time.Sleep(time.Second)
		m, l, err := w.read(cl)
		if err != nil {
			return err
		}
		if err := model.Compare(m, l, true); err == nil {
			return nil
		}
	}
	m, l, err := w.read(cl)
	if err != nil {
		return err
	}
	return errors.Join(errUnsettled, model.Compare(m, l, true))
}

// records reads a topic from its start to its end.
func (w *world) records(cl *kgo.Client, name string) ([]*kgo.Record, error) {
	log, err := kafka.Open(context.Background(), kafka.Config{
		Seeds: w.seeds, Client: []kgo.Opt{kgo.Dialer(w.net.DialContext)}, Names: w.names, Logger: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		return nil, err
	}
	defer log.Close()
	_, end, err := log.Bounds(context.Background(), name, 0)
	if err != nil {
		return nil, err
	}
	var out []*kgo.Record
	r := log.Reader(name, 0, 0)
	defer r.Close()
	for r.Position() < end {
		batches, err := r.Next(context.Background())
		if err != nil {
			return nil, err
		}
		for i := range batches {
			recs, err := batch.Decode(&batches[i], 64<<20)
			if err != nil {
				return nil, err
			}
			var rec batch.Record
			for {
				ok, err := recs.Next(&rec)
				if err != nil {
					return nil, err
				}
				if !ok {
					break
				}
				k := &kgo.Record{Offset: rec.Offset, Key: append([]byte(nil), rec.Key...), Value: append([]byte(nil), rec.Value...)}
				for _, h := range rec.Headers {
					k.Headers = append(k.Headers, kgo.RecordHeader{Key: string(h.Key), Value: append([]byte(nil), h.Value...)})
				}
				out = append(out, k)
			}
			recs.Release()
		}
	}
	return out, nil
}

func headers(r *kgo.Record) []event.Header {
	hs := make([]event.Header, len(r.Headers))
	for i, h := range r.Headers {
		hs[i] = event.Header{Key: []byte(h.Key), Value: h.Value}
	}
	return hs
}

// read makes the model of the raw topic and the ledger of the valid records of the changes topic.
func (w *world) read(cl *kgo.Client) (*model.Model, *model.Ledger, error) {
	raw, err := w.records(cl, w.names.Raw)
	if err != nil {
		return nil, nil, err
	}
	changes, err := w.records(cl, w.names.Changes)
	if err != nil {
		return nil, nil, err
	}
	type rec struct {
		op   event.Op
		meta event.Meta
		r    *kgo.Record
	}
	l := model.NewLedger()
	rule := rulev.NewReader[*rec](rulev.Start())
	for _, r := range changes {
		x := &rec{r: r}
		if x.op, err = event.ParseRecord(headers(r), &x.meta); err != nil {
			return nil, nil, err
		}
		verdict, group, err := rule.Read(x.op, &x.meta, x)
		if err != nil {
			return nil, nil, fmt.Errorf("offset %d: %w", r.Offset, err)
		}
		if verdict != rulev.Committed {
			continue
		}
		for _, x := range group {
			if err := l.Take(x.op, &x.meta, x.r.Key, x.r.Value); err != nil {
				return nil, nil, err
			}
		}
	}
	// Which node decided an event, with which options, only the log can tell.
	m := model.New(0, partitions)
	for _, r := range raw {
		m.Ignore = l.Ignored(string(r.Key), r.Offset)
		m.Apply(r.Key, headers(r), r.Value)
	}
	return m, l, nil
}

// verify checks the state of the surviving node against its rules (I7), and against the state of a node that starts with an empty disk
// and only follows (I1, I12).
func (w *world) verify() error {
	old := w.alive[0]
	if err := old.proc.Load().Check(); err != nil {
		return err
	}
	want, err := portrait(old.proc.Load())
	if err != nil {
		return err
	}
	w.assigned = func(int32) bool { return false }
	w.start(nil)
	fresh := w.alive[1]
	for range 100 {
		time.Sleep(100 * time.Millisecond)
		if p := fresh.proc.Load(); p != nil && p.Status()[0].AppliedTo == old.proc.Load().Status()[0].AppliedTo {
			break
		}
	}
	have, err := portrait(fresh.proc.Load())
	if err != nil {
		return err
	}
	if want != have {
		return fmt.Errorf("I12: states differ\nold:   %s\nfresh: %s", want, have)
	}
	return fresh.proc.Load().Check()
}

// portrait is everything that a reader can see of a node.
func portrait(p *processor.Processor) (string, error) {
	streams, err := p.Streams(context.Background(), stream.ID{})
	if err != nil {
		return "", err
	}
	var b strings.Builder
	for _, s := range streams {
		j, err := json.Marshal(struct {
			S    any
			Runs []*store.Run
		}{s, s.Runs})
		if err != nil {
			return "", err
		}
		fmt.Fprintf(&b, "%s\n", j)
		_, _, err = p.Page(context.Background(), s.Stream, store.Query{Limit: 1 << 20}, func(r *store.Row) error {
			fmt.Fprintf(&b, "%d %d %d %s %d %d %d %x %s %s\n", r.CSN, r.Offset, r.Term, r.Op, r.TS, r.FirstSeen, r.Rev, r.Hash, r.ID, r.Payload)
			return nil
		})
		if err != nil {
			return "", err
		}
	}
	return b.String(), nil
}

// TestSim_BrokenRulesAreCaught switches one rule of the protocol off at a time: some seed must fail.
func TestSim_BrokenRulesAreCaught(t *testing.T) {
	for name, p := range map[string]plan{
		"no zombie check": {breaks: processor.Breaks{Rule: rulev.Breaks{NoZombieCheck: true}}},
		"no TERM barrier": {breaks: processor.Breaks{NoTermBarrier: true}},
		"no append check": {breaks: processor.Breaks{NoAppendCheck: true}},
	} {
		t.Run(name, func(t *testing.T) {
			const most = 60
			for seed := uint64(1); seed <= most; seed++ {
				var err error
				synctest.Test(t, func(t *testing.T) { err = simulate(t, seed, p) })
				if err != nil {
					t.Logf("seed %d: %.300v", seed, err)
					return
				}
			}
			t.Fatalf("%d seeds did not notice", most)
		})
	}
}
