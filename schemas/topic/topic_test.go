package topic

import (
	"encoding/json"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/tidemark-dev/tidemark/schemas/event"
	"github.com/tidemark-dev/tidemark/schemas/stream"
)

func TestNamesFor(t *testing.T) {
	for _, c := range []struct {
		prefix     string
		generation int
		changes    string // "": refused
	}{
		{"tidemark", 1, "tidemark.changes"},
		{"tidemark", 2, "tidemark.changes.g2"},
		{"a", 10, "a.changes.g10"},
		{"eu-1.tide_mark", 1, "eu-1.tide_mark.changes"},
		{strings.Repeat("p", 100), 1, strings.Repeat("p", 100) + ".changes"},
		{strings.Repeat("p", 101), 1, ""},
		{"", 1, ""},
		{".hidden", 1, ""},
		{"a b", 1, ""},
		{"a/b", 1, ""},
		{"é", 1, ""},
		{"a\n", 1, ""},
		{"tidemark", 0, ""},
		{"tidemark", -1, ""},
	} {
		n, err := NamesFor(c.prefix, c.generation)
		if (err == nil) != (c.changes != "") || n.Changes != c.changes {
			t.Errorf("%q generation %d: %+v, %v; want %q", c.prefix, c.generation, n, err, c.changes)
		}
		for _, name := range []string{n.Raw, n.Changes, n.State, n.DLQ} {
			if len(name) > 249 {
				t.Errorf("%q is longer than Kafka allows", name)
			}
		}
	}
}

func manifest(t *testing.T, recordBytesMax int) map[string]Spec {
	t.Helper()
	n, err := NamesFor(PrefixDefault, 1)
	if err != nil {
		t.Fatal(err)
	}
	specs := map[string]Spec{}
	for _, s := range Manifest(n, PartitionsDefault, recordBytesMax) {
		specs[strings.TrimPrefix(s.Name, PrefixDefault+".")] = s
	}
	if len(specs) != 4 {
		t.Fatalf("topics %v, want 4", specs)
	}
	return specs
}

func TestManifest_WhatTheProtocolStandsOn(t *testing.T) {
	specs := manifest(t, RecordBytesMax)
	for name, s := range specs {
		if s.Partitions != PartitionsDefault {
			t.Errorf("%s has %d partitions, want %d: partition p of one belongs to p of the others", name, s.Partitions, PartitionsDefault)
		}
		// A batch of ours must be stored as it was sent: the owner compares its bytes. Raw is stamped by the broker: its retention must
		// not depend on what producers think the time is.
		stamp := "CreateTime"
		if name == "raw" {
			stamp = "LogAppendTime"
		}
		if s.Configs["compression.type"] != "producer" || s.Configs["message.timestamp.type"] != stamp {
			t.Errorf("%s: %v", name, s.Configs)
		}
	}
	// Compaction would make holes into the csns of changes, which readers take for loss.
	for name, want := range map[string]string{"raw": "delete", "changes": "delete", "dlq": "delete", "state": "compact"} {
		if got := specs[name].Configs["cleanup.policy"]; got != want {
			t.Errorf("%s: cleanup.policy %s, want %s", name, got, want)
		}
	}
}

// Whatever raw accepts must fit into changes. The largest change is an UPDATED with the record before it, with the longest names,
// an id of characters that JSON and URLs must escape, and a list of changed members as long as it may get.
func TestManifest_TheLargestChangeFits(t *testing.T) {
	specs := manifest(t, RecordBytesMax)
	rawMax := bytesMax(t, specs["raw"])
	payload := jsonOfSize(t, rawMax) // nothing larger fits into raw, even without headers

	long := strings.Repeat("\x01", stream.NameBytesMax)
	id := strings.Repeat("\x01", stream.IDBytesMax)
	c := event.Change{
		Op: event.OpUpdated, Partition: 1 << 30, ID: []byte(id), Payload: payload, Before: payload, ChangedKnown: true,
		Key:    event.NewKey(stream.ID{Environment: long, Integration: long, Connection: long, Model: long, Variant: long}),
		Schema: []byte(strings.Repeat("\x01", 128)),
	}
	c.Changed = slices.Repeat([]string{"x"}, (event.ChangedBytesMax-len("[]"))/len(`"x",`)) // as many as are still written
	const most = 1 << 62
	m := event.Meta{
		Term: most, CSN: most, GI: most, RawOffset: most, TS: most, Run: most, Commit: true, N: most, RawNext: most,
		Record: true, Rev: most, Live: most, PrevCSN: 1,
	}
	value := event.AppendChange(nil, &c, &m)
	if !json.Valid(value) || strings.Contains(string(value[len(value)-400:]), `"changed":null`) {
		t.Fatalf("not the change that was meant: ...%s", value[len(value)-400:])
	}
	const recordOverhead = 200 // of the batch and of the record, generously
	size := len(stream.RecordKey(c.Key.Stream, id)) + len(value) + len(event.AppendMeta(nil, &m)) + len("opUPDATEDcsnm") + 20 + recordOverhead
	const group = 1 << 20 // of other changes may be in the batch already
	if limit := bytesMax(t, specs["changes"]); size+group > limit || limit != ChangesBytesMax(RecordBytesMax) {
		t.Errorf("%d bytes and a group, the topic takes %d and ChangesBytesMax says %d", size, limit, ChangesBytesMax(RecordBytesMax))
	}
	if limit := bytesMax(t, specs["dlq"]); rawMax+recordOverhead > limit {
		t.Errorf("a dead letter of %d bytes does not fit into %d", rawMax, limit)
	}
}

func bytesMax(t *testing.T, s Spec) int {
	t.Helper()
	n, err := strconv.Atoi(s.Configs["max.message.bytes"])
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func jsonOfSize(t *testing.T, size int) []byte {
	t.Helper()
	b := []byte(`{"x":"`)
	r := rand.New(rand.NewPCG(1, 1))
	for len(b) < size-2 {
		b = append(b, 'a'+byte(r.IntN(26)))
	}
	b = append(b, `"}`...)
	if len(b) != size || !json.Valid(b) {
		t.Fatalf("%d bytes, want %d", len(b), size)
	}
	return b
}
