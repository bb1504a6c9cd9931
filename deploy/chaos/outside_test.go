package chaos

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/tidemark-dev/tidemark/schemas/event"
	"github.com/tidemark-dev/tidemark/schemas/stream"
)

// outsideRecord is a Kafka record as a client of another language gives it.
type outsideRecord struct {
	Topic     string      `json:"topic,omitempty"`
	Partition int32       `json:"partition"`
	Key       string      `json:"key"`
	Value     *string     `json:"value"`
	Headers   [][2]string `json:"headers"`
}

func (r *outsideRecord) header(name string) string {
	for _, h := range r.Headers {
		if h[0] == name {
			return h[1]
		}
	}
	return ""
}

// outsider is a Kafka client that is not ours, with the partitioner of the Java client.
type outsider interface {
	produce(t *testing.T, s *site, records []outsideRecord)
	consume(t *testing.T, s *site, topic string) []outsideRecord
}

// run runs a program and returns what it printed.
func run(t *testing.T, stdin, name string, args ...string) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), name, args...)
	cmd.Stdin = strings.NewReader(stdin)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%s %.200q: %v\n%s", name, args, err, stderr.String())
	}
	return string(out)
}

// kcat stands on librdkafka, as the clients of a dozen languages do.
type kcat struct{ path string }

func (k kcat) produce(t *testing.T, s *site, records []outsideRecord) {
	for _, r := range records {
		args := []string{"-P", "-b", s.kafka, "-t", r.Topic, "-K", "\x1f", "-D", "\x1e", "-X", "topic.partitioner=murmur2_random", "-X", "acks=all"}
		for _, h := range r.Headers {
			args = append(args, "-H", h[0]+"="+h[1])
		}
		value := ""
		if r.Value != nil {
			value = *r.Value
		} else {
			args = append(args, "-Z") // without a key in front, kcat would leave it out
		}
		run(t, r.Key+"\x1f"+value+"\x1e", k.path, args...)
	}
}

func (k kcat) consume(t *testing.T, s *site, topic string) (records []outsideRecord) {
	out := run(t, "", k.path, "-C", "-b", s.kafka, "-t", topic, "-o", "beginning", "-e", "-q", "-X", "isolation.level=read_committed",
		"-f", "%p\x1f%k\x1f%s\x1f%h\x1e")
	for text := range strings.SplitSeq(strings.TrimSuffix(out, "\x1e"), "\x1e") {
		f := strings.Split(text, "\x1f")
		partition, err := strconv.ParseInt(f[0], 10, 32)
		must(t, err)
		r := outsideRecord{Partition: int32(partition), Key: f[1], Value: &f[2]}
		for h := range strings.SplitSeq(f[3], ",") {
			name, value, _ := strings.Cut(h, "=")
			r.Headers = append(r.Headers, [2]string{name, value})
		}
		records = append(records, r)
	}
	return records
}

// python is a client in pure Python, which shares no code with any other.
type python struct{ path string }

func (p python) produce(t *testing.T, s *site, records []outsideRecord) {
	var lines bytes.Buffer
	for _, r := range records {
		must(t, json.NewEncoder(&lines).Encode(r))
	}
	out := run(t, lines.String(), p.path, "testdata/outside.py", "produce", s.kafka)
	if n := strings.Count(out, "\n"); n != len(records) {
		t.Fatalf("%d answers to %d records:\n%s", n, len(records), out)
	}
}

func (p python) consume(t *testing.T, s *site, topic string) (records []outsideRecord) {
	d := json.NewDecoder(strings.NewReader(run(t, "", p.path, "testdata/outside.py", "consume", s.kafka, topic)))
	for d.More() {
		var r outsideRecord
		must(t, d.Decode(&r))
		records = append(records, r)
	}
	return records
}

func TestOutside_Kcat(t *testing.T) {
	path, err := exec.LookPath("kcat")
	if err != nil {
		lacking(t, "kcat", "apt-get install kcat")
	}
	outside(t, kcat{path})
}

func TestOutside_Python(t *testing.T) {
	path := os.Getenv("TIDEMARK_PYTHON")
	if path == "" {
		path = "python3"
	}
	if err := exec.Command(path, "-c", "import kafka, snappy").Run(); err != nil {
		lacking(t, "python", "pip install kafka-python python-snappy, and name the interpreter in TIDEMARK_PYTHON unless it is python3")
	}
	outside(t, python{path})
}

// outside writes raw events of several streams with a client that is not ours, by nothing but their headers, and finds the changes with
// the same client: two full syncs of each stream, of which the second changes one record and no longer has another.
func outside(t *testing.T, c outsider) {
	s := newSite(t, t.TempDir(), 3)
	s.start()
	var ids []stream.ID
	var records []outsideRecord
	partitions := map[int32]bool{}
	for i := range 4 {
		id := stream.ID{Environment: "dev", Integration: "outside", Connection: fmt.Sprintf("kunde %d/ü", i), Model: "Contact"}
		ids = append(ids, id)
		partitions[stream.Partition(id.Key(), s.partitions)] = true
		send := func(value string, headers ...string) {
			r := outsideRecord{Topic: s.names.Raw, Key: id.Key(), Value: &value}
			if value == "" {
				r.Value = nil
			}
			for _, h := range headers {
				name, v, _ := strings.Cut(h, "=")
				r.Headers = append(r.Headers, [2]string{name, v})
			}
			records = append(records, r)
		}
		send("", "t=b", "run=1")
		send(`{"id":"a","name":"Ada"}`, "t=s", "id=a", "run=1", "n=1")
		send(`{"id":"b","name":"Bob, \"the\" builder"}`, "t=s", "id=b", "run=1", "n=2")
		send(`{"id":"c","name":"Çelik"}`, "t=s", "id=c", "run=1", "n=3")
		send(`{"delete_missing":true,"events":3}`, "t=e", "run=1")
		send("", "t=b", "run=2")
		send(`{"name":"Ada Lovelace","id":"a"}`, "t=s", "id=a", "run=2", "n=1")
		send(`{"name":"Bob, \"the\" builder","id":"b"}`, "t=s", "id=b", "run=2", "n=2") // in another order: the same
		send(`{"delete_missing":true,"events":2}`, "t=e", "run=2")
		send("", "t=d", "id=b") // outside of any run
	}
	if len(partitions) < 2 {
		t.Fatal("all streams lie in one partition")
	}
	c.produce(t, s, records)
	rows := s.audited(ids) // the model agrees, and so do the pages

	seen := map[string][]string{} // changes by stream
	last := map[int32]uint64{}
	for _, r := range c.consume(t, s, s.names.Changes) {
		// What the documentation asks of a plain consumer.
		op := event.ParseOp([]byte(r.header("op")))
		csn, err := strconv.ParseUint(r.header("csn"), 10, 64)
		if !op.IsChange() || err != nil || csn <= last[r.Partition] {
			continue
		}
		last[r.Partition] = csn
		key, rec, err := stream.SplitRecordKey(r.Key)
		must(t, err)
		var e event.Envelope
		must(t, json.Unmarshal([]byte(*r.Value), &e))
		if e.Action != op.String() || e.Key.RecordID != rec || e.Key.ID.Key() != key || r.header("m") == "" {
			t.Errorf("%s %s: headers %v, value %s", key, rec, r.Headers, *r.Value)
		}
		seen[key] = append(seen[key], op.String()+" "+rec)
		if latest := rows[e.Key.ID][rec]; latest.CSN == csn && latest.Op != op.String() {
			t.Errorf("%s %s: %s at csn %d, the page has %+v", key, rec, op, csn, latest)
		}
	}
	want := []string{"ADDED a", "ADDED b", "ADDED c", "UPDATED a", "DELETED c", "DELETED b"}
	for _, id := range ids {
		got := seen[id.Key()]
		slices.Sort(got) // a deletion in the background and one by an event come in either order
		w := slices.Clone(want)
		slices.Sort(w)
		if !slices.Equal(got, w) {
			t.Errorf("%s: %q, want %q", id, got, want)
		}
		if r := rows[id]["a"]; r.Op != "UPDATED" || r.Payload != `{"id":"a","name":"Ada Lovelace"}` {
			t.Errorf("%s: the page has %+v", id, r)
		}
	}
	if len(seen) != len(ids) {
		t.Errorf("changes of %d streams, want %d", len(seen), len(ids))
	}
	if letters := newTapes(s).reread(s).of[s.names.DLQ]; slices.ContainsFunc(letters, func(t *tape) bool { return len(t.sums) > 0 }) {
		t.Error("there are dead letters: the client took another partition")
	}
	// What it writes into a partition of its own choice does not come out.
	ev := saveEvent(ids[0], "x", `{}`)
	wrong := (stream.Partition(ids[0].Key(), s.partitions) + 1) % s.partitions
	s.writeTo(wrong, ev)
	s.audited(ids)
	letters := newTapes(s).reread(s).of[s.names.DLQ][wrong].fresh
	if len(letters) != 1 {
		t.Fatalf("%d dead letters", len(letters))
	}
	if d, err := event.ParseDeadLetter(headers(letters[0])); err != nil || d.Code != "raw.wrong_partition" {
		t.Errorf("dead letter %+v, %v", d, err)
	}
}
