package chaos

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/tidemark-dev/tidemark/ingest"
	"github.com/tidemark-dev/tidemark/processor/model"
	"github.com/tidemark-dev/tidemark/schemas/errcode"
	"github.com/tidemark-dev/tidemark/schemas/event"
	"github.com/tidemark-dev/tidemark/schemas/stream"
	"github.com/tidemark-dev/tidemark/schemas/topic"
)

func events(list ...model.RawEvent) []model.RawEvent { return list }

// header makes an event with headers that nobody would write.
func (e poison) raw(id stream.ID) model.RawEvent {
	ev := model.RawEvent{Key: []byte(id.Key()), Value: []byte(e.value)}
	if e.key != "" {
		ev.Key = []byte(e.key)
	}
	for _, h := range e.headers {
		name, value, _ := strings.Cut(h, "=")
		ev.Headers = append(ev.Headers, event.Header{Key: []byte(name), Value: []byte(value)})
	}
	return ev
}

// poison is an event that cannot be applied, and the code that it must be given.
type poison struct {
	name    string
	key     string // "": that of the stream
	headers []string
	value   string
	code    errcode.Code
}

// TestPoison_IsSetAsideAndThePartitionGoesOn sends what no sync function should, each between two saves that must come out.
func TestPoison_IsSetAsideAndThePartitionGoesOn(t *testing.T) {
	const partitions = 3
	s := newSite(t, t.TempDir(), partitions)
	s.start()
	id := stream.ID{Environment: "dev", Integration: "crm", Connection: "acme", Model: "Contact"}
	home := stream.Partition(id.Key(), partitions)
	foreign := id
	for i := 0; stream.Partition(foreign.Key(), partitions) == home; i++ {
		foreign.Connection = fmt.Sprintf("elsewhere-%d", i)
	}
	cases := []poison{
		{"no headers", "", nil, `{}`, errcode.RawUnknownType},
		{"unknown type", "", []string{"t=z", "id=a"}, `{}`, errcode.RawUnknownType},
		{"no id", "", []string{"t=s"}, `{}`, errcode.RawInvalidID},
		{"long id", "", []string{"t=s", "id=" + strings.Repeat("x", stream.IDBytesMax+1)}, `{}`, errcode.RawInvalidID},
		{"id not UTF-8", "", []string{"t=s", "id=\xff\xfe"}, `{}`, errcode.RawInvalidID},
		{"run not a number", "", []string{"t=s", "id=a", "run=first"}, `{}`, errcode.RawInvalidHeader},
		{"negative ordinal", "", []string{"t=s", "id=a", "run=1", "n=-1"}, `{}`, errcode.RawInvalidHeader},
		{"no JSON", "", []string{"t=s", "id=a"}, `{"cut":`, errcode.RawInvalidPayload},
		{"JSON and more", "", []string{"t=s", "id=a"}, `{} {}`, errcode.RawInvalidPayload},
		{"no object", "", []string{"t=s", "id=a"}, `[1,2]`, errcode.RawInvalidPayload},
		{"no payload", "", []string{"t=s", "id=a"}, ``, errcode.RawInvalidPayload},
		{"bytes", "", []string{"t=s", "id=a"}, "\x00\x01\x02\xff", errcode.RawInvalidPayload},
		{"deep", "", []string{"t=s", "id=a"}, `{"a":` + strings.Repeat("[", 100_000) + strings.Repeat("]", 100_000) + `}`, errcode.RawInvalidPayload},
		{"clear sideways", "", []string{"t=c"}, `{"mode":"sideways"}`, errcode.RawInvalidValue},
		{"end of a run that never began", "", []string{"t=e", "run=9"}, `{"delete_missing":true,"events":0}`, errcode.RawUnknownRun},
		{"end without JSON", "", []string{"t=e", "run=9"}, `{`, errcode.RawInvalidValue},
		{"decision on nothing", "", []string{"t=o"}, `{"run":77,"decision":"approve"}`, errcode.RawUnknownType},
		{"key of no stream", "not/a/stream", []string{"t=s", "id=a"}, `{}`, errcode.RawInvalidKey},
		{"key not canonical", strings.ReplaceAll(id.Key(), "acme", "%61cme"), []string{"t=s", "id=a"}, `{}`, errcode.RawInvalidKey},
		{"another partition's stream", foreign.Key(), []string{"t=s", "id=a"}, `{}`, errcode.RawWrongPartition},
	}
	cl, err := kgo.NewClient(producerOptions(s.kafka)...)
	must(t, err)
	defer cl.Close()
	send := func(ev model.RawEvent) int64 {
		t.Helper()
		ctx, cancel := context.WithTimeout(t.Context(), startWait)
		defer cancel()
		r, err := cl.ProduceSync(ctx, kafkaRecord(s.names.Raw, home, ev)).First()
		must(t, err)
		return r.Offset
	}
	at := map[int64]poison{} // by raw offset
	for i, c := range cases {
		send(saveEvent(id, fmt.Sprint("before-", i), `{"n":1}`))
		at[send(c.raw(id))] = c
		send(saveEvent(id, fmt.Sprint("after-", i), `{"n":2}`))
	}
	rows := s.audited([]stream.ID{id})[id] // everything around them came out, and the log accounts for each
	if len(rows) != 2*len(cases) {
		t.Errorf("%d records, want %d", len(rows), 2*len(cases))
	}
	again := newTapes(s).reread(s)
	letters := again.of[s.names.DLQ][home].fresh
	if len(letters) != len(cases) {
		t.Errorf("%d dead letters, want %d", len(letters), len(cases))
	}
	for _, r := range letters {
		d, err := event.ParseDeadLetter(headers(r))
		must(t, err)
		c, ok := at[d.Offset]
		if !ok {
			t.Errorf("raw offset %d is dead-lettered as %s", d.Offset, d.Code)
			continue
		}
		if want := c.raw(id); d.Code != c.code || d.Detail == "" || string(r.Key) != string(want.Key) || string(r.Value) != string(want.Value) || len(d.Raw) != len(want.Headers) {
			t.Errorf("%s: dead letter %s %q with key %.60q, %d bytes, %d headers; want %s", c.name, d.Code, d.Detail, r.Key, len(r.Value), len(d.Raw), c.code)
		}
	}
	s.kill()
	s.start()
	s.audited([]stream.ID{id}) // and none of them twice
}

// TestOversized_IsRefusedWithBothSizes: by the producer, which knows before anything is sent; by the broker, for clients that do not.
// What the broker takes comes out.
func TestOversized_IsRefusedWithBothSizes(t *testing.T) {
	s := newSite(t, t.TempDir(), 1)
	s.start()
	id := stream.ID{Environment: "dev", Integration: "crm", Connection: "acme", Model: "Contact"}
	payload := func(size int) []byte {
		const frame = len(`{"text":""}`)
		return fmt.Appendf(nil, `{"text":"%s"}`, strings.Repeat("x", size-frame))
	}

	p, err := ingest.NewProducer(t.Context(), ingest.Config{Seeds: []string{s.kafka}, Names: s.names, Compression: ingest.CompressionNone})
	must(t, err)
	st := p.Stream(id)
	err = st.Save(t.Context(), "large", payload(topic.RecordBytesMax+1))
	var coded *errcode.Error
	if !errors.As(err, &coded) || coded.Code != errcode.RecordTooLarge {
		t.Errorf("the producer says %v", err)
	}
	for _, size := range []int{topic.RecordBytesMax, topic.RecordBytesMax + 1} {
		if err == nil || !strings.Contains(err.Error(), fmt.Sprint(size)) {
			t.Errorf("the producer does not say %d: %v", size, err)
		}
	}
	must(t, st.Save(t.Context(), "largest", payload(topic.RecordBytesMax)))
	must(t, p.Close(t.Context()))

	// A client of another kind, with limits of its own that are higher.
	cl, err := kgo.NewClient(append(producerOptions(s.kafka), kgo.ProducerBatchMaxBytes(8<<20), kgo.ProducerBatchCompression(kgo.NoCompression()))...)
	must(t, err)
	defer cl.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	ev := saveEvent(id, "larger", "")
	ev.Value = payload(2 * topic.RecordBytesMax)
	if err := cl.ProduceSync(ctx, kafkaRecord(s.names.Raw, 0, ev)).FirstErr(); !errors.Is(err, kerr.MessageTooLarge) {
		t.Errorf("the broker says %v", err)
	}
	// Between the two limits the broker has no reason to refuse: the processor sets it aside and says both sizes.
	ev.Value = payload(topic.RecordBytesMax + 1)
	must(t, cl.ProduceSync(ctx, kafkaRecord(s.names.Raw, 0, ev)).FirstErr())
	must(t, cl.ProduceSync(ctx, kafkaRecord(s.names.Raw, 0, saveEvent(id, "small", `{}`))).FirstErr())
	eventually(t, startWait, func() string {
		rows, err := s.rest(id, "", newRand(t))
		if err != nil {
			return err.Error()
		}
		if len(rows) != 2 || len(rows["largest"].Payload) < topic.RecordBytesMax {
			return fmt.Sprintf("%d records, the largest of %d bytes", len(rows), len(rows["largest"].Payload))
		}
		return ""
	})
	letters := newTapes(s).reread(s).of[s.names.DLQ][0].fresh
	if len(letters) != 1 {
		t.Fatalf("%d dead letters", len(letters))
	}
	d, err := event.ParseDeadLetter(headers(letters[0]))
	must(t, err)
	if d.Code != errcode.RawTooLarge || !strings.Contains(d.Detail, fmt.Sprint(topic.RecordBytesMax)) || !strings.Contains(d.Detail, fmt.Sprint(topic.RecordBytesMax+1)) {
		t.Errorf("dead letter %s %q", d.Code, d.Detail)
	}
}
