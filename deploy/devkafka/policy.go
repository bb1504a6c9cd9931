package devkafka

import (
	"log/slog"
	"slices"
	"strconv"
	"strings"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// segmentBytes is the size at which a partition goes on in a new file. A trim gives space back by whole files.
const segmentBytes = 64 << 20

// brokerConfigs are kfake's settings, for good: a client may not change them.
func brokerConfigs(cfg Config) map[string]string {
	return map[string]string{
		// Retention by time or size empties partitions, whose offsets then start over; it removes everything up to one old record;
		// and it applies to compacted topics too.
		"log.retention.ms":    "-1",
		"log.retention.bytes": "-1",
		// Ten years. One ticker drives retention and compaction; a kill during a compaction pass can lose the partition.
		"log.cleaner.backoff.ms": "315360000000",
		"log.segment.bytes":      strconv.Itoa(segmentBytes),
		"message.max.bytes":      strconv.Itoa(int(cfg.MaxMessageBytes)),
		// The consumer group protocol of KIP-848 rebalances at the pace of its heartbeats: ten seconds at the default of five.
		"group.consumer.heartbeat.interval.ms": "500",
		// Ten years for committed offsets too: a laptop may stay closed over a holiday.
		"offsets.retention.minutes": "5256000",
		// An hour, because each request walks the table of transactional ids.
		"transactional.id.expiration.ms": "3600000",
		// 2 MiB: the file of committed offsets is rewritten with all clients waiting, 0.25 s at the default of 10.
		"state.log.compact.bytes": "2097152",
	}
}

// safeConfigs splits a topic's settings into those that it gets and those that it may not have here. Compaction and retention
// go, see brokerConfigs, and so does what only tunes them; a segment larger than ours would keep trimmed records on the disk.
func safeConfigs(configs map[string]string) (kept, dropped map[string]string) {
	kept, dropped = make(map[string]string), make(map[string]string)
	for name, value := range configs {
		if unsafeConfig(name, value) {
			dropped[name] = value
		} else {
			kept[name] = value
		}
	}
	return kept, dropped
}

func unsafeConfig(name, value string) bool {
	switch name {
	case "cleanup.policy":
		return value != "delete"
	case "retention.ms", "retention.bytes":
		return value != "-1"
	case "delete.retention.ms", "min.compaction.lag.ms", "max.compaction.lag.ms", "min.cleanable.dirty.ratio":
		return true
	case "segment.bytes":
		n, err := strconv.ParseInt(value, 10, 64)
		return err != nil || n > segmentBytes || n <= 0
	}
	return strings.HasPrefix(name, "local.retention.")
}

// policyFaults keep clients from what the broker cannot do safely. Topic settings that are unsafe are taken out of a request
// before kfake sees it: a program that also runs against a real cluster goes on working. A change of the broker's own settings is
// refused.
func policyFaults(log *slog.Logger) []kfake.Fault {
	return []kfake.Fault{
		// TopLevel has When called once, before the handler; as it answers false, nothing is answered on its behalf.
		{Keys: []kmsg.Key{kmsg.CreateTopics, kmsg.AlterConfigs, kmsg.IncrementalAlterConfigs}, Count: -1, TopLevel: true, When: func(req kmsg.Request) bool {
			for topic, dropped := range stripRequest(req) {
				logDropped(log, topic, dropped)
			}
			return false
		}},
		{Keys: []kmsg.Key{kmsg.AlterConfigs, kmsg.IncrementalAlterConfigs}, Count: -1, Err: kerr.PolicyViolation, When: altersBroker},
	}
}

func logDropped(log *slog.Logger, topic string, dropped map[string]string) {
	log.Info("settings that the embedded broker cannot keep safely are left out: it keeps everything until it is trimmed", "topic", topic, "settings", dropped)
}

// stripRequest takes unsafe topic settings out of a request and returns them by topic.
func stripRequest(req kmsg.Request) map[string]map[string]string {
	dropped := make(map[string]map[string]string)
	drop := func(topic, name string, value *string) bool {
		if value == nil || !unsafeConfig(name, *value) {
			return false
		}
		if dropped[topic] == nil {
			dropped[topic] = make(map[string]string)
		}
		dropped[topic][name] = *value
		return true
	}
	switch req := req.(type) {
	case *kmsg.CreateTopicsRequest:
		for i := range req.Topics {
			t := &req.Topics[i]
			t.Configs = slices.DeleteFunc(t.Configs, func(c kmsg.CreateTopicsRequestTopicConfig) bool { return drop(t.Topic, c.Name, c.Value) })
		}
	case *kmsg.AlterConfigsRequest:
		for i := range req.Resources {
			r := &req.Resources[i]
			if r.ResourceType == kmsg.ConfigResourceTypeTopic {
				r.Configs = slices.DeleteFunc(r.Configs, func(c kmsg.AlterConfigsRequestResourceConfig) bool { return drop(r.ResourceName, c.Name, c.Value) })
			}
		}
	case *kmsg.IncrementalAlterConfigsRequest:
		for i := range req.Resources {
			r := &req.Resources[i]
			if r.ResourceType == kmsg.ConfigResourceTypeTopic {
				r.Configs = slices.DeleteFunc(r.Configs, func(c kmsg.IncrementalAlterConfigsRequestResourceConfig) bool {
					return c.Op != kmsg.IncrementalAlterConfigOpDelete && c.Op != kmsg.IncrementalAlterConfigOpSubtract && drop(r.ResourceName, c.Name, c.Value)
				})
			}
		}
	}
	return dropped
}

// altersBroker reports whether a request would change settings of the broker itself.
func altersBroker(req kmsg.Request) bool {
	switch req := req.(type) {
	case *kmsg.AlterConfigsRequest:
		for _, r := range req.Resources {
			if r.ResourceType == kmsg.ConfigResourceTypeBroker {
				return true
			}
		}
	case *kmsg.IncrementalAlterConfigsRequest:
		for _, r := range req.Resources {
			if r.ResourceType == kmsg.ConfigResourceTypeBroker {
				return true
			}
		}
	}
	return false
}
