package devkafka

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"regexp"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// legalTopic is Kafka's rule. kfake has none.
var legalTopic = regexp.MustCompile(`^[a-zA-Z0-9._-]{1,249}$`)

// CreateTopic creates a topic, saved when it returns, or leaves one that exists as it is but for settings that differ, which it
// changes. partitions below 1 stands for [Config.Partitions], and for any count of a topic that exists; otherwise another
// count is refused with [ErrPartitionCount].
//
// Settings that the embedded broker cannot keep safely (compaction, retention, large segments) are left out; see
// [Broker.DroppedConfigs].
func (b *Broker) CreateTopic(name string, partitions int32, configs map[string]string) error {
	if err := b.enter(); err != nil {
		return fmt.Errorf("creating topic %s: %w", name, err)
	}
	defer b.leave()
	if !legalTopic.MatchString(name) || name == "." || name == ".." {
		return fmt.Errorf("creating topic %q: a name is 1 to 249 of letters, digits, dot, underscore and hyphen", name)
	}
	kept, dropped := safeConfigs(configs)
	b.noteDropped(name, dropped)

	failures := b.health.failures.Load()
	err := b.cluster.CreateTopic(name, partitions, kept)
	switch {
	case errors.Is(err, kerr.TopicAlreadyExists):
		return b.alignTopic(name, partitions, kept)
	case errors.Is(err, kerr.InvalidTopicException):
		return fmt.Errorf("creating topic %s: another topic's name differs from it by dots and underscores only: %w", name, err)
	case err != nil:
		return fmt.Errorf("creating topic %s: %w", name, err)
	case b.health.failures.Load() != failures:
		// It is in memory but perhaps not in the list on the disk. Were it used and the process killed, its records would be left
		// behind without a topic.
		return errors.Join(fmt.Errorf("saving topic %s: the disk did not take it, see the log", name), b.cluster.DeleteTopic(name))
	}
	return nil
}

// DroppedConfigs returns the settings that CreateTopic left out for this topic since the broker was started; nil for none.
func (b *Broker) DroppedConfigs(topic string) map[string]string {
	b.droppedMu.Lock()
	defer b.droppedMu.Unlock()
	return maps.Clone(b.dropped[topic])
}

func (b *Broker) noteDropped(topic string, dropped map[string]string) {
	if len(dropped) == 0 {
		return
	}
	b.droppedMu.Lock()
	known := maps.Equal(b.dropped[topic], dropped)
	b.dropped[topic] = dropped
	b.droppedMu.Unlock()
	if !known {
		logDropped(b.log, topic, dropped)
	}
}

// alignTopic brings a topic that exists to the settings wanted.
func (b *Broker) alignTopic(name string, partitions int32, want map[string]string) error {
	have := int32(len(b.cluster.PartitionInfos(name)))
	if partitions > 0 && have != partitions {
		return fmt.Errorf("creating topic %s with %d partitions, it exists with %d: %w", name, partitions, have, ErrPartitionCount)
	}
	info := b.cluster.TopicInfo(name)
	if info == nil {
		return fmt.Errorf("creating topic %s: it was deleted meanwhile", name)
	}
	res := kmsg.NewIncrementalAlterConfigsRequestResource()
	res.ResourceType, res.ResourceName = kmsg.ConfigResourceTypeTopic, name
	for key, value := range want {
		if is := info.Configs[key]; is == nil || *is != value {
			c := kmsg.NewIncrementalAlterConfigsRequestResourceConfig()
			c.Name, c.Value, c.Op = key, kmsg.StringPtr(value), kmsg.IncrementalAlterConfigOpSet
			res.Configs = append(res.Configs, c)
		}
	}
	if len(res.Configs) == 0 {
		return nil
	}
	req := kmsg.NewPtrIncrementalAlterConfigsRequest()
	req.Resources = append(req.Resources, res)
	err := b.inside(b.life, func(ctx context.Context, cl *kgo.Client) error {
		resp, err := req.RequestWith(ctx, cl)
		if err != nil {
			return err
		}
		for _, r := range resp.Resources {
			if err := kerr.ErrorForCode(r.ErrorCode); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("changing the settings of topic %s: %w", name, err)
	}
	return nil
}

// Trim moves the start of a partition's log up to offset before, so that the records below it can no longer be read, and gives
// whole files of them back to the disk. It leaves the last record, and everything of a transaction that is still open, whatever
// before is; it never moves the start back. What it did holds across any restart.
func (b *Broker) Trim(topic string, partition int32, before int64) error {
	if err := b.enter(); err != nil {
		return fmt.Errorf("trimming %s/%d: %w", topic, partition, err)
	}
	defer b.leave()
	if before < 0 {
		return fmt.Errorf("trimming %s/%d: offset %d is negative", topic, partition, before)
	}
	info, id := b.cluster.PartitionInfo(topic, partition), b.topicID(topic)
	if info == nil || id == "" {
		return fmt.Errorf("trimming %s/%d: %w", topic, partition, kerr.UnknownTopicOrPartition)
	}
	to := trimTarget(info, before)
	if to == info.LogStartOffset {
		return nil
	}
	// Saved first: a kill in between trims at the next start what was asked for anyway.
	if err := b.state.setTrim(id, partition, to); err != nil {
		return fmt.Errorf("trimming %s/%d: %w", topic, partition, err)
	}
	err := b.cluster.DeleteRecords(topic, partition, to)
	if err != nil && !errors.Is(err, kerr.OffsetOutOfRange) { // out of range: trimmed further meanwhile
		return fmt.Errorf("trimming %s/%d: %w", topic, partition, err)
	}
	return nil
}

// trimTarget is where a trim up to before leaves the log start. kfake forgets the offsets of a partition without records at the
// next start and counts from 0 again, so one stays.
func trimTarget(p *kfake.PartitionInfo, before int64) int64 {
	return max(p.LogStartOffset, min(before, p.HighWatermark-1, p.LastStableOffset))
}

// topicID is the key of a topic's trims, "" when there is no such topic.
func (b *Broker) topicID(topic string) string {
	info := b.cluster.TopicInfo(topic)
	if info == nil {
		return ""
	}
	return fmt.Sprintf("%x", info.TopicID)
}

// limitDeleteRecords puts every client's DeleteRecords under the rule of Trim, by moving the offsets in the request. kfake runs it
// with its run loop serving the calls below, and then answers the request itself.
func (b *Broker) limitDeleteRecords(req kmsg.Request) (kmsg.Response, error, bool) { //nolint:revive // kfake's signature
	for _, t := range req.(*kmsg.DeleteRecordsRequest).Topics {
		id := b.topicID(t.Topic)
		for i := range t.Partitions {
			p := &t.Partitions[i]
			info := b.cluster.PartitionInfo(t.Topic, p.Partition)
			if info == nil || id == "" || p.Offset > info.HighWatermark || p.Offset < -1 {
				continue // kfake refuses it
			}
			if p.Offset == -1 {
				p.Offset = info.HighWatermark
			}
			p.Offset = trimTarget(info, p.Offset)
			if err := b.state.setTrim(id, p.Partition, p.Offset); err != nil {
				b.log.Error("saving a trim, which is not done then", "topic", t.Topic, "partition", p.Partition, "err", err)
				p.Offset = info.LogStartOffset
			}
		}
	}
	return nil, nil, false
}

// restoreTrims brings back the log starts that kfake lost, and forgets those of topics that are gone.
func (b *Broker) restoreTrims(topics []string) error {
	trims := b.state.trims()
	for _, topic := range topics {
		id := b.topicID(topic)
		for partition, logStart := range trims[id] {
			info := b.cluster.PartitionInfo(topic, partition)
			if info == nil {
				continue
			}
			if to := trimTarget(info, logStart); to != info.LogStartOffset {
				if err := b.cluster.DeleteRecords(topic, partition, to); err != nil {
					return fmt.Errorf("trimming %s/%d again: %w", topic, partition, err)
				}
			}
		}
		delete(trims, id)
	}
	var gone []string
	for id := range trims {
		gone = append(gone, id)
	}
	return b.state.forgetTrims(gone)
}
