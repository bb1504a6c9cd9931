package topic

import (
	"fmt"
	"regexp"
	"strconv"
)

// Defaults.
const (
	PrefixDefault     = "tidemark"
	PartitionsDefault = 8       // one process
	RecordBytesMax    = 1 << 20 // of one payload
	rawExtraBytes     = 64 << 10
	// groupBytesMax is what may already be in a group when the largest event joins it, keys, headers and envelopes included. A group
	// is one batch.
	groupBytesMax = 1<<20 + 256<<10
)

// Names of the topics of one generation.
type Names struct {
	Raw, Changes, State, DLQ string
}

var prefixPattern = regexp.MustCompile(`^[a-zA-Z0-9][a-zA-Z0-9._-]{0,99}$`)

// NamesFor returns the names for a prefix and a generation, 1 and up. The first generation has no suffix; later ones end in
// .g2, .g3 and so on.
func NamesFor(prefix string, generation int) (Names, error) {
	if !prefixPattern.MatchString(prefix) {
		return Names{}, fmt.Errorf("topic prefix %q: want 1 to 100 letters, digits, dots, dashes or underscores", prefix)
	}
	if generation < 1 {
		return Names{}, fmt.Errorf("topic generation %d: want 1 or more", generation)
	}
	suffix := ""
	if generation > 1 {
		suffix = ".g" + strconv.Itoa(generation)
	}
	n := func(s string) string { return prefix + "." + s + suffix }
	return Names{Raw: n("raw"), Changes: n("changes"), State: n("state"), DLQ: n("dlq")}, nil
}

// Spec is one topic as it must be.
type Spec struct {
	Name       string
	Partitions int32
	Configs    map[string]string
}

// Manifest returns the four topics with the settings they need on a real cluster. recordBytesMax bounds one payload; limits rise
// along the pipe, so that whatever raw accepted fits into changes. Raw events get the broker's time: retention counts it, so that a producer that writes the
// time of its source loses nothing that has not been read. Elsewhere the time is the processor's: ts of a change is its decision, and the
// follower compares batches byte for byte.
func Manifest(n Names, partitions int32, recordBytesMax int) []Spec {
	raw := recordBytesMax + rawExtraBytes
	changes := 2*recordBytesMax + rawExtraBytes + groupBytesMax // before and after
	spec := func(name string, maxBytes int, configs map[string]string) Spec {
		configs["max.message.bytes"] = strconv.Itoa(maxBytes)
		configs["compression.type"] = "producer"
		if configs["message.timestamp.type"] == "" {
			configs["message.timestamp.type"] = "CreateTime"
		}
		return Spec{name, partitions, configs}
	}
	const day = 24 * 3600 * 1000
	ms := func(n int) string { return strconv.Itoa(n) }
	return []Spec{
		spec(n.Raw, raw, map[string]string{"cleanup.policy": "delete", "retention.ms": ms(7 * day), "message.timestamp.type": "LogAppendTime"}),
		spec(n.Changes, changes, map[string]string{"cleanup.policy": "delete", "retention.ms": ms(30 * day), "segment.ms": ms(day / 4)}),
		spec(n.State, 1<<20, map[string]string{"cleanup.policy": "compact", "min.cleanable.dirty.ratio": "0.3"}),
		spec(n.DLQ, changes, map[string]string{"cleanup.policy": "delete", "retention.ms": ms(30 * day)}),
	}
}

// ChangesBytesMax is the largest batch that the changes topic of Manifest takes.
func ChangesBytesMax(recordBytesMax int) int {
	return 2*recordBytesMax + rawExtraBytes + groupBytesMax
}
