package kafka

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/tidemark-dev/tidemark/schemas/errcode"
	"github.com/tidemark-dev/tidemark/schemas/topic"
)

// Topic is a topic of the manifest as the cluster has it.
type Topic struct {
	Name        string  `json:"name"`
	Exists      bool    `json:"exists"`
	Partitions  int32   `json:"partitions"`
	Replication int     `json:"replication"`
	Records     int64   `json:"records"` // offsets between start and end; with transactions some of them are not records
	Bytes       int64   `json:"bytes"`   // of one copy of each partition; -1: the cluster does not tell
	Drift       []Drift `json:"drift"`
}

// Drift is one setting that is not as the manifest wants it.
type Drift struct {
	Setting string `json:"setting"`
	Want    string `json:"want"`
	Have    string `json:"have"`
}

// partitionsSetting is the name of the partition count in a Drift. It is the one that cannot be mended.
const partitionsSetting = "partitions"

// Mendable reports whether Mend can bring the setting about.
func (d Drift) Mendable() bool { return d.Setting != partitionsSetting }

// Partitions returns the partition count of those of the topics that exist, 0 if none does. Counts that differ are
// errcode.TopicDrift.
func (a *Admin) Partitions(ctx context.Context, names topic.Names) (int32, error) {
	details, err := a.list(ctx, names)
	if err != nil {
		return 0, err
	}
	var count int32
	var seen []string
	differ := false
	for _, name := range inOrder(names) {
		if d, ok := details[name]; ok {
			n := int32(len(d.Partitions))
			differ = differ || count != 0 && n != count
			count = n
			seen = append(seen, fmt.Sprintf("%s has %d", name, n))
		}
	}
	if differ {
		return 0, errcode.New(errcode.TopicDrift, "The topics must have equal partition counts, but %s. A count cannot be changed: choose another --prefix.", strings.Join(seen, ", "))
	}
	return count, nil
}

func inOrder(n topic.Names) []string { return []string{n.Raw, n.Changes, n.State, n.DLQ} }

// list returns the topics of names that exist. It asks the cluster: the client's own cache would hide what was just created.
func (a *Admin) list(ctx context.Context, names topic.Names) (map[string]kmsg.MetadataResponseTopic, error) {
	ctx, cancel := context.WithTimeout(ctx, requestWait)
	defer cancel()
	req := kmsg.NewPtrMetadataRequest()
	for _, name := range inOrder(names) {
		t := kmsg.NewMetadataRequestTopic()
		t.Topic = kmsg.StringPtr(name)
		req.Topics = append(req.Topics, t)
	}
	resp, err := req.RequestWith(ctx, a.cl)
	if err != nil {
		return nil, fmt.Errorf("listing topics: %w", err)
	}
	out := make(map[string]kmsg.MetadataResponseTopic, len(resp.Topics))
	for _, t := range resp.Topics {
		err := kerr.ErrorForCode(t.ErrorCode)
		switch {
		case t.Topic == nil || errors.Is(err, kerr.UnknownTopicOrPartition):
		case err != nil && !errors.Is(err, kerr.LeaderNotAvailable): // it was just created
			return nil, fmt.Errorf("listing topic %s: %w", *t.Topic, err)
		default:
			out[*t.Topic] = t
		}
	}
	return out, nil
}

// Look compares the topics of a manifest with the cluster's.
func (a *Admin) Look(ctx context.Context, specs []topic.Spec) ([]Topic, error) {
	names := namesOf(specs)
	details, err := a.list(ctx, names)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, requestWait)
	defer cancel()
	var there []string
	for _, s := range specs {
		if _, ok := details[s.Name]; ok {
			there = append(there, s.Name)
		}
	}
	var configs kadm.ResourceConfigs
	if len(there) > 0 { // none would mean all
		if configs, err = a.adm.DescribeTopicConfigs(ctx, there...); err != nil {
			return nil, fmt.Errorf("asking for the settings of the topics: %w", err)
		}
	}
	out := make([]Topic, 0, len(specs))
	for _, s := range specs {
		t := Topic{Name: s.Name, Bytes: -1, Drift: []Drift{}}
		d, ok := details[s.Name]
		if !ok {
			out = append(out, t)
			continue
		}
		t.Exists, t.Partitions = true, int32(len(d.Partitions))
		for _, p := range d.Partitions {
			t.Replication = max(t.Replication, len(p.Replicas))
		}
		have, err := configs.On(s.Name, nil)
		if err == nil {
			err = have.Err
		}
		if err != nil {
			return nil, fmt.Errorf("asking for the settings of topic %s: %w", s.Name, err)
		}
		t.Drift = append(t.Drift, drift(a.settings(s), s.Partitions, t.Partitions, have.Configs)...)
		out = append(out, t)
	}
	return out, a.measure(ctx, there, out)
}

func namesOf(specs []topic.Spec) topic.Names {
	n := topic.Names{}
	for i, to := range []*string{&n.Raw, &n.Changes, &n.State, &n.DLQ} {
		if i < len(specs) {
			*to = specs[i].Name
		}
	}
	return n
}

// settings are those of the manifest that apply to this cluster.
func (a *Admin) settings(s topic.Spec) map[string]string {
	if !a.Embedded() {
		return s.Configs
	}
	return EmbeddedSettings(s.Configs)
}

// EmbeddedSettings leaves out what the embedded broker does not take: retention and compaction, which it leaves to the processor.
func EmbeddedSettings(configs map[string]string) map[string]string {
	kept := maps.Clone(configs)
	maps.DeleteFunc(kept, func(name, value string) bool {
		switch name {
		case "retention.ms", "retention.bytes", "min.cleanable.dirty.ratio":
			return true
		case "cleanup.policy":
			return value != "delete"
		}
		return false
	})
	return kept
}

// drift compares settings. What the cluster does not report counts as different: a broker that does not know a setting does not
// keep it.
func drift(want map[string]string, wantPartitions, partitions int32, configs []kadm.Config) []Drift {
	var out []Drift
	if wantPartitions != partitions {
		out = append(out, Drift{partitionsSetting, fmt.Sprint(wantPartitions), fmt.Sprint(partitions)})
	}
	have := make(map[string]string, len(configs))
	for _, c := range configs {
		if c.Value != nil {
			have[c.Key] = *c.Value
		}
	}
	for _, name := range slices.Sorted(maps.Keys(want)) {
		if have[name] != want[name] {
			out = append(out, Drift{name, want[name], have[name]})
		}
	}
	return out
}

// measure fills in records and bytes.
func (a *Admin) measure(ctx context.Context, there []string, topics []Topic) error {
	if len(there) == 0 {
		return nil
	}
	starts, err := a.adm.ListStartOffsets(ctx, there...)
	if err != nil {
		return fmt.Errorf("listing start offsets: %w", err)
	}
	ends, err := a.adm.ListEndOffsets(ctx, there...)
	if err != nil {
		return fmt.Errorf("listing end offsets: %w", err)
	}
	var all kadm.TopicsSet
	for _, t := range topics {
		for p := range t.Partitions {
			all.Add(t.Name, p)
		}
	}
	// Sizes are a courtesy: a cluster that does not let us ask is not broken.
	dirs, _ := a.adm.DescribeAllLogDirs(ctx, all)
	for i := range topics {
		t := &topics[i]
		for p, end := range ends[t.Name] {
			if start, ok := starts.Lookup(t.Name, p); ok && start.Err == nil && end.Err == nil {
				t.Records += end.Offset - start.Offset
			}
		}
		sizes := map[int32]int64{} // the largest copy: the others are behind it
		for _, broker := range dirs {
			for _, dir := range broker {
				for p, d := range dir.Topics[t.Name] {
					sizes[p] = max(sizes[p], d.Size)
				}
			}
		}
		if len(sizes) > 0 {
			t.Bytes = 0
			for _, n := range sizes {
				t.Bytes += n
			}
		}
	}
	return nil
}

// Create makes those of the topics that do not exist, and waits until they can be used. replication is the number of copies, -1 for the
// cluster's default.
func (a *Admin) Create(ctx context.Context, specs []topic.Spec, replication int16) error {
	details, err := a.list(ctx, namesOf(specs))
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, requestWait)
	defer cancel()
	created := false
	for _, s := range specs {
		if _, ok := details[s.Name]; ok {
			continue
		}
		created = true
		configs := make(map[string]*string, len(s.Configs))
		for name, value := range s.Configs {
			configs[name] = &value
		}
		_, err := a.adm.CreateTopic(ctx, s.Partitions, replication, configs, s.Name)
		if err != nil && !errors.Is(err, kerr.TopicAlreadyExists) { // another node was faster
			return fmt.Errorf("creating topic %s: %w", s.Name, err)
		}
	}
	if !created {
		return nil
	}
	// A topic is made at once, and known to all brokers a moment later.
	for tick := time.NewTicker(2 * metadataAge); ; {
		select {
		case <-tick.C:
		case <-ctx.Done():
			tick.Stop()
			return fmt.Errorf("waiting for the topics that were created: %w", context.Cause(ctx))
		}
		if details, err = a.list(ctx, namesOf(specs)); err != nil || usable(details, specs) {
			tick.Stop()
			return err
		}
	}
}

// usable reports whether every partition of the topics has a leader.
func usable(details map[string]kmsg.MetadataResponseTopic, specs []topic.Spec) bool {
	for _, s := range specs {
		d, ok := details[s.Name]
		if !ok || len(d.Partitions) == 0 {
			return false
		}
		for _, p := range d.Partitions {
			if p.Leader < 0 {
				return false
			}
		}
	}
	return true
}

// Ensure creates the topics that are missing and refuses those that differ, with errcode.TopicDrift and the command that mends them.
// partitions is the count wanted, 0 for that of existing topics or the default. It returns the count.
func (a *Admin) Ensure(ctx context.Context, prefix string, partitions int32, replication int16) (int32, error) {
	names, err := topic.NamesFor(prefix, 1)
	if err != nil {
		return 0, err
	}
	if partitions, err = a.SettlePartitions(ctx, names, partitions); err != nil {
		return 0, err
	}
	specs := topic.Manifest(names, partitions, topic.RecordBytesMax)
	if err := a.Create(ctx, specs, replication); err != nil {
		return 0, err
	}
	topics, err := a.Look(ctx, specs)
	if err != nil {
		return 0, err
	}
	return partitions, a.driftError(prefix, topics)
}

// SettlePartitions returns the partition count that the topics have or are to have: want, or with want 0 that of existing topics, or
// the default. Another count than that of existing topics is errcode.TopicDrift.
func (a *Admin) SettlePartitions(ctx context.Context, names topic.Names, want int32) (int32, error) {
	have, err := a.Partitions(ctx, names)
	if err != nil {
		return 0, err
	}
	switch {
	case want < 0:
		return 0, fmt.Errorf("partition count %d: want 1 or more, or 0 for that of existing topics", want)
	case have == 0 && want == 0:
		return topic.PartitionsDefault, nil
	case have == 0:
		return want, nil
	case want != 0 && want != have:
		return 0, errcode.New(errcode.TopicDrift, "The topics have %d partitions, not %d, and a count cannot be changed: leave --partitions out, or choose another --prefix.", have, want)
	}
	return have, nil
}

// driftError is nil if nothing differs.
func (a *Admin) driftError(prefix string, topics []Topic) error {
	var lines []string
	for _, t := range topics {
		for _, d := range t.Drift {
			lines = append(lines, fmt.Sprintf("%s %s is %q, want %q", t.Name, d.Setting, d.Have, d.Want))
		}
	}
	if len(lines) == 0 {
		return nil
	}
	return errcode.New(errcode.TopicDrift, "%s. This mends it: %s", strings.Join(lines, "; "), a.MendCommand(prefix))
}

// MendCommand is the command line that brings the settings about.
func (a *Admin) MendCommand(prefix string) string {
	cmd := "tidemark topics apply --kafka " + strings.Join(a.seeds, ",")
	if prefix != topic.PrefixDefault {
		cmd += " --prefix " + prefix
	}
	return cmd + " --yes"
}

// Mend creates what is missing and sets what differs, as Look has found it. Partition counts stay as they are. On the embedded
// broker the settings that it leaves out stay out.
func (a *Admin) Mend(ctx context.Context, specs []topic.Spec, topics []Topic, replication int16) error {
	if err := a.Create(ctx, specs, replication); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, requestWait)
	defer cancel()
	for _, t := range topics {
		var alter []kadm.AlterConfig
		for _, d := range t.Drift {
			if d.Mendable() {
				alter = append(alter, kadm.AlterConfig{Op: kadm.SetConfig, Name: d.Setting, Value: &d.Want})
			}
		}
		if len(alter) == 0 {
			continue
		}
		resp, err := a.adm.AlterTopicConfigs(ctx, alter, t.Name)
		if err == nil {
			_, err = resp.On(t.Name, func(r *kadm.AlterConfigsResponse) error { return r.Err })
		}
		if err != nil {
			return fmt.Errorf("changing the settings of topic %s: %w", t.Name, err)
		}
	}
	return nil
}
