package devkafka

import (
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

func configsOf(b *Broker, topic string) map[string]string {
	out := make(map[string]string)
	for k, v := range b.Cluster().TopicInfo(topic).Configs {
		if v != nil { // else it was reset
			out[k] = *v
		}
	}
	return out
}

func TestCreateTopic_IsIdempotent(t *testing.T) {
	dir := t.TempDir()
	b := start(t, dir, func(c *Config) { c.Partitions = 3 })
	must(t, b.CreateTopic("t", 4, map[string]string{"max.message.bytes": "5000000"}))
	must(t, b.CreateTopic("default", 0, nil))
	check := func(b *Broker) {
		t.Helper()
		must(t, b.CreateTopic("t", 4, map[string]string{"max.message.bytes": "5000000"}))
		must(t, b.CreateTopic("t", 0, nil))
		wantErr(t, b.CreateTopic("t", 8, nil), ErrPartitionCount, "with 8", "with 4", "topic t")
		if n := len(b.Cluster().PartitionInfos("t")); n != 4 {
			t.Errorf("topic has %d partitions", n)
		}
		if n := len(b.Cluster().PartitionInfos("default")); n != 3 {
			t.Errorf("topic without a count has %d partitions", n)
		}
	}
	check(b)
	killed := start(t, crashCopy(t, dir))
	check(killed)
	// A setting that changed between two versions of the program takes effect.
	must(t, killed.CreateTopic("t", 4, map[string]string{"max.message.bytes": "6000000"}))
	if got := configsOf(killed, "t")["max.message.bytes"]; got != "6000000" {
		t.Errorf("max.message.bytes is %s", got)
	}
	must(t, b.Close())
	check(start(t, dir))
}

func TestCreateTopic_Names(t *testing.T) {
	b := start(t, t.TempDir())
	for _, bad := range []string{"", ".", "..", "a b", "a/b", strings.Repeat("x", 250)} {
		if err := b.CreateTopic(bad, 1, nil); err == nil {
			t.Errorf("name %q was accepted", bad)
		}
	}
	must(t, b.CreateTopic("tidemark.raw", 1, nil))
	wantErr(t, b.CreateTopic("tidemark_raw", 1, nil), kerr.InvalidTopicException, "dots and underscores")
}

// TestPolicy_UnsafeSettingsAreLeftOut is invariant K5, for our own call and for any client's.
func TestPolicy_UnsafeSettingsAreLeftOut(t *testing.T) {
	lines := new(logLines)
	b := start(t, t.TempDir(), func(c *Config) { c.Logger = lines.logger() })
	all := map[string]string{
		"cleanup.policy": "compact,delete", "retention.ms": "1000", "retention.bytes": "1", "segment.bytes": "536870912",
		"min.cleanable.dirty.ratio": "0.3", "delete.retention.ms": "1", "max.message.bytes": "77777", "segment.ms": "21600000",
	}
	kept := map[string]string{"max.message.bytes": "77777", "segment.ms": "21600000"}
	for range 2 {
		must(t, b.CreateTopic("ours", 1, all))
	}
	if n := lines.count("cannot keep safely"); n != 1 {
		t.Errorf("%d log lines about settings left out by two equal calls", n)
	}
	dropped := maps.Clone(all)
	maps.DeleteFunc(dropped, func(k, _ string) bool { return kept[k] != "" })
	if got := b.DroppedConfigs("ours"); !maps.Equal(got, dropped) {
		t.Errorf("dropped %v, want %v", got, dropped)
	}

	var pairs []string
	for k, v := range all {
		pairs = append(pairs, k, v)
	}
	createByProtocol(t, b.Addr(), "theirs", 1, pairs...)
	for _, topic := range []string{"ours", "theirs"} {
		if got := configsOf(b, topic); !maps.Equal(got, kept) {
			t.Errorf("%s has %v, want %v", topic, got, kept)
		}
	}

	adm := kadm.NewClient(newClient(t, b.Addr()))
	resp, err := adm.AlterTopicConfigs(t.Context(), []kadm.AlterConfig{
		{Op: kadm.SetConfig, Name: "cleanup.policy", Value: kmsg.StringPtr("compact")},
		{Op: kadm.AppendConfig, Name: "cleanup.policy", Value: kmsg.StringPtr("compact")},
		{Op: kadm.SetConfig, Name: "retention.ms", Value: kmsg.StringPtr("1")},
		{Op: kadm.SetConfig, Name: "max.message.bytes", Value: kmsg.StringPtr("88888")},
		{Op: kadm.DeleteConfig, Name: "segment.ms"},
	}, "theirs")
	must(t, err)
	must(t, resp[0].Err)
	if got := configsOf(b, "theirs"); !maps.Equal(got, map[string]string{"max.message.bytes": "88888"}) {
		t.Errorf("after an incremental change: %v", got)
	}
	resp, err = adm.AlterTopicConfigsState(t.Context(), []kadm.AlterConfig{
		{Name: "cleanup.policy", Value: kmsg.StringPtr("compact")}, {Name: "segment.ms", Value: kmsg.StringPtr("9")},
	}, "theirs")
	must(t, err)
	must(t, resp[0].Err)
	if got := configsOf(b, "theirs"); !maps.Equal(got, map[string]string{"segment.ms": "9"}) {
		t.Errorf("after a change of all settings: %v", got)
	}

	for name, alter := range map[string]func() (kadm.AlterConfigsResponses, error){
		"incremental": func() (kadm.AlterConfigsResponses, error) {
			return adm.AlterBrokerConfigs(t.Context(), []kadm.AlterConfig{{Op: kadm.SetConfig, Name: "log.cleaner.backoff.ms", Value: kmsg.StringPtr("1")}}, 0)
		},
		"all": func() (kadm.AlterConfigsResponses, error) {
			return adm.AlterBrokerConfigsState(t.Context(), []kadm.AlterConfig{{Name: "log.cleaner.backoff.ms", Value: kmsg.StringPtr("1")}}, 0)
		},
	} {
		resp, err := alter()
		must(t, err)
		if resp[0].Err != kerr.PolicyViolation {
			t.Errorf("%s change of the broker's settings: %v", name, resp[0].Err)
		}
	}
}

// The settings that keep kfake from deleting anything are what the broker runs with, also when an earlier start had others.
func TestPolicy_BrokerSettings(t *testing.T) {
	dir := t.TempDir()
	must(t, start(t, dir, func(c *Config) { c.MaxMessageBytes = 1 << 20 }).Close())
	b := start(t, dir, func(c *Config) { c.MaxMessageBytes = 3 << 20 })
	resp, err := kadm.NewClient(newClient(t, b.Addr())).DescribeBrokerConfigs(t.Context(), 0)
	must(t, err)
	got := make(map[string]string)
	for _, c := range resp[0].Configs {
		got[c.Key] = c.MaybeValue()
	}
	for k, v := range map[string]string{
		"log.retention.ms": "-1", "log.retention.bytes": "-1", "log.cleaner.backoff.ms": "315360000000", "message.max.bytes": "3145728",
	} {
		if got[k] != v {
			t.Errorf("%s is %q, want %q", k, got[k], v)
		}
	}
	must(t, b.CreateTopic("t", 1, nil))
	cl := newClient(t, b.Addr(), kgo.ProducerBatchMaxBytes(10<<20))
	produce(t, cl, "t", 0, strings.Repeat("x", 2<<20))
	err = cl.ProduceSync(t.Context(), &kgo.Record{Topic: "t", Value: make([]byte, 4<<20)}).FirstErr()
	wantErr(t, err, kerr.MessageTooLarge)
}

// A topic that the disk did not take must not be used: after a kill its records would have no topic.
func TestCreateTopic_NotSavedIsNotCreated(t *testing.T) {
	dir := t.TempDir()
	b := start(t, dir, func(c *Config) { c.Logger = new(logLines).logger() })
	blocker := filepath.Join(dir, logDir, kfakeTopics+".tmp") // kfake writes this first
	must(t, os.MkdirAll(blocker, 0o700))
	if err := b.CreateTopic("t", 1, nil); err == nil || !strings.Contains(err.Error(), "did not take it") {
		t.Fatalf("error %v", err)
	}
	if b.Cluster().TopicInfo("t") != nil {
		t.Error("the topic is there")
	}
	must(t, os.Remove(blocker))
	must(t, b.CreateTopic("t", 1, nil))
	if start(t, crashCopy(t, dir)).Cluster().TopicInfo("t") == nil {
		t.Error("the topic is gone after a kill")
	}
}
