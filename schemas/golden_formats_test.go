package schemas_test

import (
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"reflect"
	"strconv"

	"github.com/tidemark-dev/tidemark/schemas/cursor"
	"github.com/tidemark-dev/tidemark/schemas/errcode"
	"github.com/tidemark-dev/tidemark/schemas/event"
	"github.com/tidemark-dev/tidemark/schemas/stream"
	"github.com/tidemark-dev/tidemark/schemas/topic"
)

// formats are the directories below goldenDir.
var formats = map[string]format{
	"stream-key": formatOf(
		func(id stream.ID) (string, error) { return id.Key(), id.Validate() },
		stream.ParseKey, streamCases...),
	"record-key": formatOf(
		func(f recordKey) (string, error) { return stream.RecordKey(f.Stream, f.ID), stream.CheckID(f.ID) },
		func(key string) (f recordKey, err error) {
			f.Stream, f.ID, err = stream.SplitRecordKey(key)
			return f, err
		}, recordKeyCases...),
	"partition": formatOf(
		func(f partitionFields) (int32, error) { return stream.Partition(f.Key, f.Partitions), nil },
		nil, partitionCases...),
	"raw":         formatOf(encodeRaw, decodeRaw, rawCases...),
	"raw-value":   formatOf(encodeRawValue, decodeRawValue, rawValueCases...),
	"meta":        formatOf(encodeMeta, decodeMeta, metaCases...),
	"change":      formatOf(encodeChange, decodeChange, changeCases...),
	"control":     formatOf(encodeControl, decodeControl, controlCases...),
	"restored":    formatOf(encodeRestored, decodeRestored, restoredCases...),
	"dead-letter": formatOf(encodeDeadLetter, decodeDeadLetter, deadLetterCases...),
	"cursor":      formatOf(encodeCursor, decodeCursor, cursorCases...),
	"cursor-tag": formatOf(
		func(f tagFields) (string, error) {
			tag := cursor.TagOf(f.Stream, f.Lineage)
			return hex.EncodeToString(tag[:]), nil
		}, nil, tagCases...),
	"topics": formatOf(encodeTopics, nil, topicCases...),
}

type recordKey struct {
	Stream string `json:"stream_key"`
	ID     string `json:"id"`
}

type partitionFields struct {
	Key        string `json:"key"`
	Partitions int32  `json:"partitions"`
}

// header is one Kafka header: key and value, which is text in all of ours.
type header [2]string

func headersOf(hs []event.Header) []header {
	out := []header{}
	for _, h := range hs {
		out = append(out, header{string(h.Key), string(h.Value)})
	}
	return out
}

func eventHeaders(hs []header) []event.Header {
	var out []event.Header
	for _, h := range hs {
		out = append(out, event.Header{Key: []byte(h[0]), Value: []byte(h[1])})
	}
	return out
}

// record is a Kafka record as a golden file shows it.
type record struct {
	Key     string   `json:"key"`
	Headers []header `json:"headers"`
	Value   *string  `json:"value"` // null: no value
}

func (r record) value() []byte {
	if r.Value == nil {
		return nil
	}
	return []byte(*r.Value)
}

func text(b []byte) *string {
	if b == nil {
		return nil
	}
	s := string(b)
	return &s
}

// Raw events.

type rawFields struct {
	Stream stream.ID `json:"stream"`
	Type   string    `json:"type"`
	ID     string    `json:"id,omitempty"`
	Run    uint64    `json:"run,omitempty"`
	N      uint64    `json:"n,omitempty"`
	CAS    *uint64   `json:"cas,omitempty"`
	Schema string    `json:"schema,omitempty"`
	Remove string    `json:"remove,omitempty"`
	Value  *string   `json:"value"`
}

func encodeRaw(f rawFields) (record, error) {
	if len(f.Type) != 1 {
		return record{}, fmt.Errorf("type %q", f.Type)
	}
	r := event.Raw{
		Type: event.RawType(f.Type[0]), ID: []byte(f.ID), Run: f.Run, N: f.N, Schema: []byte(f.Schema), Remove: []byte(f.Remove),
	}
	if f.CAS != nil {
		r.CAS, r.HasCAS = *f.CAS, true
	}
	return record{f.Stream.Key(), headersOf(r.Headers(nil)), f.Value}, nil
}

func decodeRaw(w record) (f rawFields, err error) {
	var r event.Raw
	if err := event.ParseRaw(eventHeaders(w.Headers), w.value(), &r); err != nil {
		return f, err
	}
	f = rawFields{
		Type: string(rune(r.Type)), ID: string(r.ID), Run: r.Run, N: r.N, Schema: string(r.Schema), Remove: string(r.Remove), Value: text(r.Value),
	}
	if r.HasCAS {
		f.CAS = &r.CAS
	}
	f.Stream, err = stream.ParseKey(w.Key)
	return f, err
}

// rawValue is the value of one control event; exactly one member is set.
type rawValue struct {
	RunStarted   *event.RunStart   `json:"run_started,omitempty"`
	RunCompleted *event.RunEnd     `json:"run_completed,omitempty"`
	RunFailed    *event.RunFailure `json:"run_failed,omitempty"`
	Clear        *event.Clear      `json:"clear,omitempty"`
	Prune        *event.Prune      `json:"prune,omitempty"`
	Decision     *event.Decision   `json:"decision,omitempty"`
}

type rawValueWire struct {
	Type  string `json:"t"`
	Value string `json:"value"`
}

func encodeRawValue(f rawValue) (w rawValueWire, err error) {
	var doc []byte
	switch {
	case f.RunStarted != nil:
		w.Type, doc, err = one(event.RawRunStarted, f.RunStarted)
	case f.RunCompleted != nil:
		w.Type, doc, err = one(event.RawRunCompleted, f.RunCompleted)
	case f.RunFailed != nil:
		w.Type, doc, err = one(event.RawRunFailed, f.RunFailed)
	case f.Clear != nil:
		w.Type, doc, err = one(event.RawClear, f.Clear)
	case f.Prune != nil:
		w.Type, doc, err = one(event.RawPrune, f.Prune)
	case f.Decision != nil:
		w.Type, doc, err = one(event.RawDecision, f.Decision)
	default:
		err = fmt.Errorf("no member is set")
	}
	w.Value = string(doc)
	return w, err
}

func one(t event.RawType, v any) (string, []byte, error) {
	doc, err := json.Marshal(v)
	return string(rune(t)), doc, err
}

func decodeRawValue(w rawValueWire) (f rawValue, err error) {
	var into any
	switch t := event.RawType(w.Type[0]); t {
	case event.RawRunStarted:
		f.RunStarted = new(event.RunStart)
		into = f.RunStarted
	case event.RawRunCompleted:
		f.RunCompleted = new(event.RunEnd)
		into = f.RunCompleted
	case event.RawRunFailed:
		f.RunFailed = new(event.RunFailure)
		into = f.RunFailed
	case event.RawClear:
		f.Clear = new(event.Clear)
		into = f.Clear
	case event.RawPrune:
		f.Prune = new(event.Prune)
		into = f.Prune
	case event.RawDecision:
		f.Decision = new(event.Decision)
		into = f.Decision
	default:
		return f, fmt.Errorf("type %q has no value of ours", w.Type)
	}
	return f, event.DecodeValue([]byte(w.Value), into)
}

// Header m.

type metaFields struct {
	Term      uint64 `json:"term"`
	Nonce     uint32 `json:"nonce"`
	CSN       uint64 `json:"csn"`
	GI        uint64 `json:"gi"`
	SID       uint32 `json:"sid"`
	RawOffset int64  `json:"raw_offset"`
	TS        int64  `json:"ts_ms"`
	Run       uint64 `json:"run"`

	Commit *metaCommit `json:"commit,omitempty"`
	Record *metaRecord `json:"record,omitempty"`
}

type metaCommit struct {
	N       uint64 `json:"n"`
	RawNext int64  `json:"raw_next"`
}

type metaRecord struct {
	PrevCSN   uint64 `json:"prev_csn"`
	FirstSeen int64  `json:"first_seen_ms"`
	Algo      byte   `json:"algo"`
	Hash      string `json:"hash_hex"`
	Rev       uint64 `json:"rev"`
	Offset    uint64 `json:"payload_offset"` // in cases of format change: 0 in fields, for the encoder finds it
	Length    uint64 `json:"payload_length"`
	Live      uint64 `json:"live"`
	Digest    string `json:"digest_hex"`
}

func (f metaFields) meta() (m event.Meta, err error) {
	m = event.Meta{
		Term: f.Term, Nonce: f.Nonce, CSN: f.CSN, GI: f.GI, SID: f.SID, RawOffset: f.RawOffset, TS: f.TS, Run: f.Run,
	}
	if c := f.Commit; c != nil {
		m.Commit, m.N, m.RawNext = true, c.N, c.RawNext
	}
	if r := f.Record; r != nil {
		m.Record, m.PrevCSN, m.FirstSeen, m.Algo, m.Rev = true, r.PrevCSN, r.FirstSeen, r.Algo, r.Rev
		m.PayloadOffset, m.PayloadLength, m.Live = r.Offset, r.Length, r.Live
		if m.Hash, err = hash(r.Hash); err != nil {
			return m, err
		}
		if m.Digest, err = hash(r.Digest); err != nil {
			return m, err
		}
	}
	return m, nil
}

func hash(s string) (h [16]byte, err error) {
	b, err := hex.DecodeString(s)
	if err != nil || len(b) != len(h) {
		return h, fmt.Errorf("hash %q", s)
	}
	return [16]byte(b), nil
}

func fieldsOfMeta(m *event.Meta) metaFields {
	f := metaFields{
		Term: m.Term, Nonce: m.Nonce, CSN: m.CSN, GI: m.GI, SID: m.SID, RawOffset: m.RawOffset, TS: m.TS, Run: m.Run,
	}
	if m.Commit {
		f.Commit = &metaCommit{m.N, m.RawNext}
	}
	if m.Record {
		f.Record = &metaRecord{
			m.PrevCSN, m.FirstSeen, m.Algo, hex.EncodeToString(m.Hash[:]), m.Rev, m.PayloadOffset, m.PayloadLength, m.Live,
			hex.EncodeToString(m.Digest[:]),
		}
	}
	return f
}

type metaWire struct {
	Hex  string `json:"binary_hex"`
	Text string `json:"text"`
}

func encodeMeta(f metaFields) (w metaWire, err error) {
	m, err := f.meta()
	if err != nil {
		return w, err
	}
	w.Text = string(event.AppendMeta(nil, &m))
	binary, err := base64.RawURLEncoding.DecodeString(w.Text)
	w.Hex = hex.EncodeToString(binary)
	return w, err
}

func decodeMeta(w metaWire) (metaFields, error) {
	binary, err := hex.DecodeString(w.Hex)
	if err != nil {
		return metaFields{}, err
	}
	if text := base64.RawURLEncoding.EncodeToString(binary); text != w.Text {
		return metaFields{}, fmt.Errorf("text is not base64url of binary_hex, which would be %q", text)
	}
	var m event.Meta
	if err := event.ParseMeta([]byte(w.Text), &m); err != nil {
		return metaFields{}, err
	}
	return fieldsOfMeta(&m), nil
}

// Change events.

type changeFields struct {
	Op        event.Op   `json:"op"`
	Partition int32      `json:"partition"`
	Stream    stream.ID  `json:"stream"`
	ID        string     `json:"id"`
	Payload   *string    `json:"payload"`
	Before    *string    `json:"before"`
	Changed   []string   `json:"changed"`
	Schema    string     `json:"schema"`
	Received  int64      `json:"received_ms,omitempty"`
	Meta      metaFields `json:"m"`
}

// changesHeaders are the headers of a record on the changes topic, in the order in which the processor writes them.
func changesHeaders(op event.Op, m *event.Meta) []header {
	return []header{
		{event.HeaderOp, op.String()},
		{event.HeaderCSN, strconv.FormatUint(m.CSN, 10)},
		{event.HeaderMeta, string(event.AppendMeta(nil, m))},
	}
}

func parseChanges(w record) (event.Op, *event.Meta, error) {
	m := new(event.Meta)
	op, err := event.ParseRecord(eventHeaders(w.Headers), m)
	if err != nil {
		return op, m, err
	}
	if want := changesHeaders(op, m); fmt.Sprint(w.Headers) != fmt.Sprint(want) {
		return op, m, fmt.Errorf("headers %v, want %v", w.Headers, want)
	}
	return op, m, nil
}

func bytesOf(s *string) []byte {
	if s == nil {
		return nil
	}
	return []byte(*s)
}

func (f changeFields) encode(appendValue func([]byte, *event.Change, *event.Meta) []byte) (record, error) {
	m, err := f.Meta.meta()
	if err != nil {
		return record{}, err
	}
	c := event.Change{
		Op: f.Op, Partition: f.Partition, Key: event.NewKey(f.Stream), ID: []byte(f.ID), Payload: bytesOf(f.Payload), Before: bytesOf(f.Before),
		Changed: f.Changed, ChangedKnown: f.Changed != nil, Schema: []byte(f.Schema), ReceivedMS: f.Received,
	}
	value := appendValue(nil, &c, &m)
	return record{stream.RecordKey(c.Key.Stream, f.ID), changesHeaders(f.Op, &m), text(value)}, nil
}

// sameTail wants the tail to say what the whole envelope says.
func sameTail(value []byte, m *event.Meta, e *event.Envelope) error {
	var t event.Tail
	if err := event.ParseTail(value, m, &t); err != nil {
		return err
	}
	var names []string
	if t.ChangedKnown {
		names = []string{}
	}
	for _, name := range t.Changed {
		names = append(names, string(name))
	}
	if !reflect.DeepEqual(names, e.Changed) || t.ReceivedMS != e.Source.TSMillis {
		return fmt.Errorf("the tail says %q, received %d; the envelope %q, %d", names, t.ReceivedMS, e.Changed, e.Source.TSMillis)
	}
	return nil
}

func encodeChange(f changeFields) (record, error) { return f.encode(event.AppendChange) }

// decodeChange reads the record in both ways, by headers and by JSON, and wants both to say the same.
func decodeChange(w record) (f changeFields, err error) {
	op, m, err := parseChanges(w)
	if err != nil {
		return f, err
	}
	var e event.Envelope
	if err := strictJSON(w.value(), &e); err != nil {
		return f, err
	}
	payload, err := event.Payload(w.value(), m)
	if err != nil {
		return f, err
	}
	f = changeFields{
		Op: op, Stream: e.Key.ID, ID: e.Key.RecordID, Payload: text(payload), Changed: e.Changed, Schema: e.Source.Schema, Received: e.Source.TSMillis,
	}
	if err := sameTail(w.value(), m, &e); err != nil {
		return f, err
	}
	inJSON := e.After
	if op == event.OpDeleted {
		inJSON = e.Before
	} else if string(e.Before) != "null" {
		f.Before = text(e.Before)
	}
	if payload == nil && string(inJSON) != "null" || payload != nil && !sameJSON(payload, inJSON) {
		return f, fmt.Errorf("payload %s in headers, %s in the envelope", payload, inJSON)
	}
	partition, csn, err := splitChangeID(e.ID)
	if err != nil {
		return f, err
	}
	f.Partition = partition
	fromJSON := metaFields{CSN: csn, RawOffset: e.Source.RawOffset, TS: e.TSMillis, Run: e.Source.Run}
	fromHeader := metaFields{CSN: m.CSN, RawOffset: m.RawOffset, TS: m.TS, Run: m.Run}
	if fromJSON != fromHeader || e.Source.LSN != csn || e.Rev != m.Rev || e.V != 1 || e.Action != op.String() ||
		e.Hash != base64.RawURLEncoding.EncodeToString(m.Hash[:]) || e.FirstSeenAt != string(event.AppendTime(nil, m.FirstSeen)) {
		return f, fmt.Errorf("envelope %+v, header m %+v", e, m)
	}
	if key := stream.RecordKey(f.Stream.Key(), f.ID); key != w.Key {
		return f, fmt.Errorf("key %q, envelope says %q", w.Key, key)
	}
	m.PayloadOffset, m.PayloadLength = 0, 0
	f.Meta = fieldsOfMeta(m)
	return f, nil
}

func splitChangeID(id string) (partition int32, csn uint64, err error) {
	_, err = fmt.Sscanf(id, "%d:%d", &partition, &csn)
	return partition, csn, err
}

// Control records.

type controlFields struct {
	Control event.Control `json:"control"`
	Meta    metaFields    `json:"m"`
}

func encodeControl(f controlFields) (record, error) {
	m, err := f.Meta.meta()
	if err != nil {
		return record{}, err
	}
	value, err := event.AppendControl(nil, &f.Control)
	key := event.PartitionKey(f.Control.Partition)
	if f.Control.Stream != nil {
		key = f.Control.Stream.Key()
	}
	return record{key, changesHeaders(f.Control.Op, &m), text(value)}, err
}

func decodeControl(w record) (f controlFields, err error) {
	op, m, err := parseChanges(w)
	if err != nil {
		return f, err
	}
	c, err := event.ParseControl(w.value())
	if err != nil {
		return f, err
	}
	key := event.PartitionKey(c.Partition)
	if c.Stream != nil {
		key = c.Stream.Key()
	}
	if op != c.Op || key != w.Key || c.TSMillis != m.TS {
		return f, fmt.Errorf("headers say %v, value says %v; key %q, value says %q", op, c.Op, w.Key, key)
	}
	return controlFields{*c, fieldsOfMeta(m)}, nil
}

func encodeRestored(f changeFields) (record, error) { return f.encode(event.AppendRestored) }

func decodeRestored(w record) (f changeFields, err error) {
	op, m, err := parseChanges(w)
	if err != nil {
		return f, err
	}
	c, err := event.ParseControl(w.value())
	if err != nil {
		return f, err
	}
	payload, err := event.Payload(w.value(), m)
	if err != nil {
		return f, err
	}
	if key := stream.RecordKey(c.Stream.Key(), c.RecordID); op != c.Op || key != w.Key || c.TSMillis != m.TS {
		return f, fmt.Errorf("headers say %v, value says %v; key %q, value says %q", op, c.Op, w.Key, key)
	}
	m.PayloadOffset, m.PayloadLength = 0, 0
	return changeFields{Op: op, Partition: c.Partition, Stream: *c.Stream, ID: c.RecordID, Payload: text(payload), Meta: fieldsOfMeta(m)}, nil
}

// Dead letters.

type deadLetterFields struct {
	Code      errcode.Code `json:"code"`
	Detail    string       `json:"detail"`
	Partition int32        `json:"partition"`
	Offset    int64        `json:"offset"`
	Raw       []header     `json:"raw_headers"`
}

func encodeDeadLetter(f deadLetterFields) ([]header, error) {
	return headersOf(event.DeadLetterHeaders(f.Code, f.Detail, f.Partition, f.Offset, eventHeaders(f.Raw))), nil
}

func decodeDeadLetter(w []header) (deadLetterFields, error) {
	d, err := event.ParseDeadLetter(eventHeaders(w))
	return deadLetterFields{d.Code, d.Detail, d.Partition, d.Offset, headersOf(d.Raw)}, err
}

// Cursors.

type cursorFields struct {
	CSN       uint64 `json:"csn"`
	Offset    int64  `json:"offset"`
	Partition int32  `json:"partition"`
	Term      uint32 `json:"term"`
	Tag       string `json:"tag_hex"`
}

func encodeCursor(f cursorFields) (string, error) {
	tag, err := hex.DecodeString(f.Tag)
	if err != nil || len(tag) != 4 {
		return "", fmt.Errorf("tag %q", f.Tag)
	}
	return cursor.Cursor{CSN: f.CSN, Offset: f.Offset, Partition: f.Partition, Term: f.Term, Tag: cursor.Tag(tag)}.String(), nil
}

func decodeCursor(w string) (cursorFields, error) {
	c, err := cursor.Parse(w)
	return cursorFields{c.CSN, c.Offset, c.Partition, c.Term, hex.EncodeToString(c.Tag[:])}, err
}

type tagFields struct {
	Stream  string `json:"stream_key"`
	Lineage string `json:"lineage"`
}

// Topics. Names and what the protocol stands on are pinned; sizes and times may be tuned.

type topicFields struct {
	Prefix     string `json:"prefix"`
	Generation int    `json:"generation"`
	Partitions int32  `json:"partitions"`
}

type topicWire struct {
	Name       string `json:"name"`
	Partitions int32  `json:"partitions"`
	Cleanup    string `json:"cleanup.policy"`
	Timestamp  string `json:"message.timestamp.type"`
	Codec      string `json:"compression.type"`
}

func encodeTopics(f topicFields) ([]topicWire, error) {
	names, err := topic.NamesFor(f.Prefix, f.Generation)
	if err != nil {
		return nil, err
	}
	var out []topicWire
	for _, s := range topic.Manifest(names, f.Partitions, topic.RecordBytesMax) {
		out = append(out, topicWire{
			s.Name, s.Partitions, s.Configs["cleanup.policy"], s.Configs["message.timestamp.type"], s.Configs["compression.type"],
		})
	}
	return out, nil
}
