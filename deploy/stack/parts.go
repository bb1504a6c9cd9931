package stack

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"time"

	"github.com/tidemark-dev/tidemark/api"
	"github.com/tidemark-dev/tidemark/deploy/devkafka"
	"github.com/tidemark-dev/tidemark/deploy/kafka"
	"github.com/tidemark-dev/tidemark/processor"
	"github.com/tidemark-dev/tidemark/processor/batch"
	"github.com/tidemark-dev/tidemark/processor/decide"
	processorkafka "github.com/tidemark-dev/tidemark/processor/kafka"
	"github.com/tidemark-dev/tidemark/schemas/errcode"
	"github.com/tidemark-dev/tidemark/schemas/topic"
)

// startBroker starts the embedded broker. At the very first start it is given a name, which is written down first: a broker that
// was killed before it could say its name is found again by it.
func (r *running) startBroker(ctx context.Context, dir string, in *installation) (*devkafka.Broker, *installation, error) {
	s, cfg := r.s, r.s.cfg
	s.view.wait("broker", "opening its log")
	logDir := filepath.Join(dir, "kafka")
	if in == nil {
		if _, err := os.Stat(logDir); errors.Is(err, os.ErrNotExist) {
			in = newEmbedded(cfg.Prefix)
			if err := in.save(dir); err != nil {
				return nil, nil, err
			}
		}
	}
	c := devkafka.Config{
		DataDir: logDir, Listen: cfg.KafkaListen, AllowNonLoopback: cfg.InsecureListen, SyncWrites: cfg.SyncWrites, Logger: s.log, Registerer: s.reg,
	}
	if in != nil {
		if !kafka.EmbeddedCluster(in.Cluster) {
			return nil, nil, in.check(dir, "of the embedded broker", cfg.Prefix)
		}
		c.ClusterID = in.Cluster
	}
	b, err := devkafka.Start(ctx, c)
	if err != nil {
		if errors.Is(err, devkafka.ErrLocked) {
			err = &errcode.Error{Code: errcode.DataDirLocked, Detail: logDir + ".", Err: err}
		}
		return nil, nil, err
	}
	r.onStop("embedded broker", b.Close)
	return b, in, nil
}

// readyTopics creates the topics, or checks those that exist. The embedded broker has them brought to the manifest as far as it can
// keep it; a cluster's are somebody's, and are refused if they differ.
func (r *running) readyTopics(ctx context.Context, admin *kafka.Admin, broker *devkafka.Broker) (topic.Names, int32, error) {
	cfg := r.s.cfg
	names, err := topic.NamesFor(cfg.Prefix, 1)
	if err != nil {
		return names, 0, err
	}
	if broker == nil {
		n, err := admin.Ensure(ctx, cfg.Prefix, cfg.Partitions, cfg.Replication)
		return names, n, err
	}
	n, err := admin.SettlePartitions(ctx, names, cfg.Partitions)
	if err != nil {
		return names, 0, err
	}
	for _, spec := range topic.Manifest(names, n, topic.RecordBytesMax) {
		if err := broker.CreateTopic(spec.Name, spec.Partitions, spec.Configs); err != nil {
			return names, 0, err
		}
	}
	return names, n, nil
}

// startServices starts the processor, and then lets HTTP in.
func (r *running) startServices(ctx context.Context, ln net.Listener, m Memory) error {
	s, cfg := r.s, r.s.cfg
	at := s.endpoints
	s.view.wait("processor", "connecting")
	opts, err := at.Kafka.Connection()
	if err != nil {
		return err
	}
	log, err := processorkafka.Open(ctx, processorkafka.Config{
		Seeds: at.Kafka.Seeds, Client: opts, Names: at.Topics, Logger: s.log.With("component", "kafka"), Registerer: s.reg, FetchMaxBytes: m.Fetch,
		Compression: batch.Snappy, // what is compressed here is compressed for every change; raw events come as their producers like it
	})
	if err != nil {
		return err
	}
	r.onStop("kafka clients", func() error { log.Close(); return nil })
	p, err := processor.New(ctx, processor.Config{
		Dir: filepath.Join(at.DataDir, "state"), Names: at.Topics, Node: cfg.Node,
		HotBytes: m.Hot, MemtableBytes: m.Memtables, CacheBytes: m.RowCache, SegmentCache: m.SegmentCache, BufferBytes: m.SegmentBuffer,
		FetchedMax: m.Fetched, Logger: s.log.With("component", "processor"), Registerer: s.reg,
		Decide: decide.Config{Model: cfg.Models}, Trim: cfg.Embedded(),
	}, processor.KafkaLog{Log: log})
	if err != nil {
		return err
	}
	server, err := r.newServer(m)
	if err != nil {
		return err
	}
	r.run(ctx, "processor", p.Run)
	s.view.serve(p)
	r.run(ctx, "http server", func(ctx context.Context) error { return server.Serve(ctx, ln) })
	return r.startProjections(ctx, m, p)
}

func (r *running) newServer(m Memory) (*api.Server, error) {
	s := r.s
	c := api.DefaultConfig()
	c.Environment, c.Lineage, c.ChangesTopic = s.cfg.Environment, s.endpoints.Lineage, s.endpoints.Topics.Changes
	c.ReadersMax = m.Readers
	c.ShutdownTimeout = min(10*time.Second, s.cfg.ShutdownTimeout/2)
	return api.New(c, api.Deps{View: &s.view, Observability: observability{s}, Logger: s.log, Metrics: api.NewMetrics(s.reg), Gatherer: s.reg})
}

// run runs a part until the stack stops. A part that ends before it was asked to is a failure of the whole.
func (r *running) run(ctx context.Context, name string, fn func(context.Context) error) {
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	var err error
	ended := make(chan struct{})
	reported := false
	go func() {
		defer close(ended)
		err = fn(ctx)
		if ctx.Err() != nil {
			return
		}
		if err == nil {
			err = errors.New("it ended by itself")
		}
		reported = true
		r.failed <- fmt.Errorf("running the %s: %w", name, err)
	}()
	r.onStop(name, func() error {
		cancel()
		<-ended
		if reported {
			return nil
		}
		return err
	})
}
