package project

import (
	"context"
	"fmt"
	"sync/atomic"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/tidemark-dev/tidemark/projections/follow"
	"github.com/tidemark-dev/tidemark/schemas/topic"
)

// KafkaSource reads a cluster.
type KafkaSource struct {
	cfg    follow.Config
	names  topic.Names
	client *kgo.Client
	admin  *kadm.Client

	reading atomic.Pointer[follow.Follower]
}

// NewKafkaSource makes a source. cfg says how to connect; its partitions and positions do not count. Close it.
func NewKafkaSource(cfg follow.Config) (*KafkaSource, error) {
	client, err := kgo.NewClient(append([]kgo.Opt{kgo.SeedBrokers(cfg.Seeds...)}, cfg.Client...)...)
	if err != nil {
		return nil, fmt.Errorf("making a Kafka client: %w", err)
	}
	return &KafkaSource{cfg: cfg, names: cfg.Names, client: client, admin: kadm.NewClient(client)}, nil
}

// Close ends the source.
func (s *KafkaSource) Close() { s.client.Close() }

// Follow reads all partitions, from the start where no position says otherwise.
func (s *KafkaSource) Follow(ctx context.Context, positions []follow.Position, take func(follow.Group) error) error {
	cfg := s.cfg
	cfg.Positions, cfg.Partitions, cfg.Begin = positions, nil, follow.OffsetStart
	if len(positions) > 0 {
		// Positions alone would leave out the partitions that nothing was written of yet.
		ends, err := s.admin.ListEndOffsets(ctx, s.names.Changes)
		if err == nil {
			err = ends.Error()
		}
		if err != nil {
			return fmt.Errorf("listing partitions: %w", err)
		}
		ends.Each(func(o kadm.ListedOffset) { cfg.Partitions = append(cfg.Partitions, o.Partition) })
	}
	f, err := follow.New(cfg)
	if err != nil {
		return err
	}
	s.reading.Store(f)
	return f.Run(ctx, take)
}

// Ranges lists what the raw and the changes topic hold.
func (s *KafkaSource) Ranges(ctx context.Context) (ranges []Range, err error) {
	starts, err := s.admin.ListStartOffsets(ctx, s.names.Changes, s.names.Raw)
	if err == nil {
		err = starts.Error()
	}
	if err != nil {
		return nil, fmt.Errorf("listing the starts of the log: %w", err)
	}
	ends, err := s.admin.ListCommittedOffsets(ctx, s.names.Changes, s.names.Raw)
	if err == nil {
		err = ends.Error()
	}
	if err != nil {
		return nil, fmt.Errorf("listing the ends of the log: %w", err)
	}
	read := map[int32]int64{}
	if f := s.reading.Load(); f != nil {
		for _, p := range f.Positions() {
			read[p.Partition] = p.Offset
		}
	}
	ends.Each(func(end kadm.ListedOffset) {
		start, _ := starts.Lookup(end.Topic, end.Partition)
		r := Range{Topic: end.Topic, Partition: end.Partition, Start: start.Offset, End: end.Offset}
		if r.Topic == s.names.Changes {
			r.Read = max(read[r.Partition], 0)
		}
		ranges = append(ranges, r)
	})
	return ranges, nil
}
