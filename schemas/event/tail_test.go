package event

import (
	"encoding/json"
	"reflect"
	"testing"

	"github.com/tidemark-dev/tidemark/schemas/stream"
)

var tailKey = NewKey(stream.ID{Environment: "dev", Integration: "crm", Connection: `a"b`, Model: "Contact"})

// names are what decoding the whole envelope gives.
func (t *Tail) list() []string {
	if !t.ChangedKnown {
		return nil
	}
	names := []string{}
	for _, name := range t.Changed {
		names = append(names, string(name))
	}
	return names
}

// What the tail says is what the envelope says, whatever bytes the payload and the names have.
func FuzzTail_SaysWhatTheEnvelopeSays(f *testing.F) {
	f.Add([]byte(`{"a":1}`), "a", `b"],"x":[`, "v1", int64(5), uint8(1))
	f.Add([]byte(`{",\"changed\":":[]}`), "", "\\", `},"ts_ms":3}`, int64(0), uint8(2))
	f.Add([]byte(`{}`), "\xff\n", "é", "", int64(1763700000000), uint8(0))
	f.Fuzz(func(t *testing.T, payload []byte, first, second, schema string, received int64, op uint8) {
		if !json.Valid(payload) || payload[0] != '{' || received < 0 {
			return
		}
		c := Change{
			Op: []Op{OpAdded, OpUpdated, OpDeleted}[op%3], Key: tailKey, ID: []byte(first), Payload: payload,
			Changed: []string{first, second}, ChangedKnown: op%2 == 1, Schema: []byte(schema), ReceivedMS: received,
		}
		if op > 128 {
			c.Payload = nil
		}
		m := Meta{Record: true, CSN: 7, TS: 9}
		value := AppendChange(nil, &c, &m)
		var e Envelope
		if err := json.Unmarshal(value, &e); err != nil {
			return // a payload with control characters in its strings, which the raw codec would have refused
		}
		var have Tail
		if err := ParseTail(value, &m, &have); err != nil {
			t.Fatal(err)
		}
		if !reflect.DeepEqual(have.list(), e.Changed) || have.ReceivedMS != e.Source.TSMillis {
			t.Fatalf("the tail of %s\nsays %q, %d", value, have.list(), have.ReceivedMS)
		}
		if len(c.Payload) > 0 {
			var fast Tail
			if !fast.fast(value, &m) {
				t.Fatalf("the layout of %s is not recognised", value)
			}
		}
	})
}

// Members in another order, with white space, or new ones are decoded as well.
func TestTail_OfAnotherLayout(t *testing.T) {
	value := []byte(`{ "source" : {"run":1,"ts_ms":42,"later":{}}, "after": {"a":1}, "new": 1, "changed": ["a", "b"] }`)
	for _, m := range []Meta{{}, {Record: true, PayloadOffset: 57, PayloadLength: 7}, {PayloadOffset: 1 << 40, PayloadLength: 9}} {
		var tail Tail
		if err := ParseTail(value, &m, &tail); err != nil || tail.ReceivedMS != 42 || !reflect.DeepEqual(tail.list(), []string{"a", "b"}) {
			t.Errorf("%+v, %v", tail, err)
		}
	}
	if err := ParseTail([]byte(`{"changed":`), &Meta{}, new(Tail)); err == nil {
		t.Error("a cut envelope is accepted")
	}
}

func BenchmarkParseTail(b *testing.B) {
	m := Meta{Record: true, CSN: 90417, TS: 1763700000000}
	value := AppendChange(nil, &Change{
		Op: OpUpdated, Key: tailKey, ID: []byte("rec-1"), Payload: make([]byte, 800), Changed: []string{"lastSeen", "amount", "owner"},
		ChangedKnown: true, ReceivedMS: 1763700000000,
	}, &m)
	var t Tail
	b.ReportAllocs()
	for b.Loop() {
		if err := ParseTail(value, &m, &t); err != nil {
			b.Fatal(err)
		}
	}
}
