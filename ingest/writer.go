package ingest

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/tidemark-dev/tidemark/schemas/errcode"
	"github.com/tidemark-dev/tidemark/schemas/event"
	"github.com/tidemark-dev/tidemark/schemas/stream"
)

// Writer writes the events of records: it is what Stream and Run have in common. It is safe for concurrent use. Ids are 1 to 512
// bytes of UTF-8 without NUL; a number stands for itself as it is written. Payloads are copied: the caller may use them
// again as soon as a call has returned. For what an error means see the package documentation.
type Writer struct {
	producer  *Producer
	err       error // of the stream's name
	key       []byte
	partition int32
	run       *Run   // nil outside runs
	sequence  []byte // value of header run
	cas       []byte // value of header cas
	schema    []byte // value of header sv
	pipeline  bool
}

// Record is one record of a batch.
type Record struct {
	ID      string
	Payload []byte
}

// MergingStrategy says what a write does to a record that has changed meanwhile. The zero value is Override.
type MergingStrategy struct {
	conditional bool
	csn         uint64
}

// Override lets the last write win.
var Override = MergingStrategy{}

// IgnoreIfModifiedAfter keeps the stored record if it changed after csn, so that a snapshot that was taken at csn does not overwrite
// what a webhook wrote since. A record that it keeps counts as seen by the run.
func IgnoreIfModifiedAfter(csn uint64) MergingStrategy {
	return MergingStrategy{conditional: true, csn: csn}
}

func (m MergingStrategy) header() []byte {
	if !m.conditional {
		return nil
	}
	return strconv.AppendUint(nil, m.csn, 10)
}

// Save writes a whole record. The payload is a JSON object and goes through as it is, byte for byte.
func (w *Writer) Save(ctx context.Context, id string, payload []byte) error {
	return w.write(ctx, kindSave, id, payload, nil)
}

// SaveJSON writes the JSON of v, which must be an object.
func (w *Writer) SaveJSON(ctx context.Context, id string, v any) error {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		w.refuse(id)
		return fmt.Errorf("encoding a record: %w", err)
	}
	return w.write(ctx, kindSave, id, bytes.TrimSuffix(b.Bytes(), []byte("\n")), nil)
}

// SaveRaw writes a whole record whose id is in one of its members: a name, names joined by dots (meta.id), or a JSON Pointer
// (/meta/id). It checks and reads all of the payload, which takes longer than the write itself: whoever knows the id uses Save.
func (w *Writer) SaveRaw(ctx context.Context, payload []byte, idField string) error {
	id, err := memberID(payload, idField)
	if err != nil {
		w.refuse("")
		return err
	}
	return w.write(ctx, kindSave, id, payload, nil)
}

// Update merges a partial record into the stored one: objects merge, arrays are replaced, null is a value. remove holds JSON
// Pointers (RFC 6901) to what goes from the result. An update of a record that is not there does nothing.
func (w *Writer) Update(ctx context.Context, id string, partial []byte, remove ...string) error {
	var rm []byte
	if len(remove) > 0 {
		for _, pointer := range remove {
			if !isPointer(pointer) {
				w.refuse(id)
				return errcode.New(errcode.RawInvalidHeader, "A member to remove is named by a JSON Pointer such as /owner/name, not by %q.", clip(pointer))
			}
		}
		rm, _ = json.Marshal(remove) // strings always encode
	}
	return w.write(ctx, kindUpdate, id, partial, rm)
}

// isPointer accepts JSON Pointers to something inside a document, in which ~ is followed by 0 or 1.
func isPointer(s string) bool {
	if s == "" || s[0] != '/' || !utf8.ValidString(s) {
		return false
	}
	for _, after := range strings.Split(s, "~")[1:] {
		if after == "" || after[0] != '0' && after[0] != '1' {
			return false
		}
	}
	return true
}

func clip(s string) string {
	const shown = 64
	if len(s) > shown {
		return s[:shown] + "..."
	}
	return s
}

// Delete deletes a record. Its payload stays as it was; deleting what is not there does nothing.
func (w *Writer) Delete(ctx context.Context, id string) error {
	return w.write(ctx, kindDelete, id, nil, nil)
}

// SaveBatch writes whole records in one go. Of an id that occurs more than once only the last record is sent; such ids are
// returned, each once, in the order of their first repetition. A record that has to be refused refuses the batch: nothing is sent.
// After any other error some records may have been sent.
func (w *Writer) SaveBatch(ctx context.Context, records []Record) (repeated []string, err error) {
	last := make(map[string]int, len(records))
	reported := make(map[string]struct{})
	for i, r := range records {
		if _, ok := last[r.ID]; ok {
			if _, ok := reported[r.ID]; !ok {
				reported[r.ID] = struct{}{}
				repeated = append(repeated, r.ID)
			}
		}
		last[r.ID] = i
	}
	refuseFrom := func(i int) {
		for ; i < len(records); i++ {
			if last[records[i].ID] == i {
				w.refuse(records[i].ID)
			}
		}
	}
	for i, r := range records {
		if last[r.ID] != i {
			continue
		}
		if err := w.check(kindSave, r.ID, r.Payload, nil); err != nil {
			refuseFrom(0)
			return nil, fmt.Errorf("record %d of the batch: %w", i, err)
		}
	}
	if len(last) == 0 {
		return nil, w.err
	}
	var answers *receipt
	if !w.pipeline {
		answers = newReceipt(len(last))
	}
	sent := 0
	for i, r := range records {
		if last[r.ID] != i {
			continue
		}
		if err := w.post(ctx, kindSave, r.ID, r.Payload, nil, answers, sent == 0); err != nil {
			refuseFrom(i)
			return nil, fmt.Errorf("saving record %d of the batch: %w", i, err)
		}
		sent++
	}
	if answers == nil {
		return repeated, nil
	}
	if err := w.wait(ctx, answers); err != nil {
		return nil, fmt.Errorf("saving a batch: %w", err)
	}
	return repeated, nil
}

// write is one event about one record.
func (w *Writer) write(ctx context.Context, k kind, id string, value, remove []byte) error {
	if err := w.check(k, id, value, remove); err != nil {
		w.refuse(id)
		return err
	}
	var answer *receipt
	if !w.pipeline {
		answer = newReceipt(1)
	}
	if err := w.post(ctx, k, id, value, remove, answer, answer != nil); err != nil {
		w.refuse(id)
		return fmt.Errorf("writing a %s: %w", kindNames[k], err)
	}
	if answer == nil {
		return nil
	}
	if err := w.wait(ctx, answer); err != nil {
		return fmt.Errorf("writing a %s: %w", kindNames[k], err)
	}
	return nil
}

// refuse notes that the last write of a record did not happen. An empty id stands for one that is not known.
func (w *Writer) refuse(id string) {
	if w.run != nil {
		w.run.refuse(id)
	}
}

func (w *Writer) wait(ctx context.Context, r *receipt) error {
	if err := w.producer.await(ctx, &r.gate, r.settled); err != nil {
		return err
	}
	return r.result()
}

// check looks for what the processor would refuse, as far as that is cheap.
func (w *Writer) check(k kind, id string, value, remove []byte) error {
	if w.err != nil {
		return w.err
	}
	if err := stream.CheckID(id); err != nil {
		return &errcode.Error{Code: errcode.RawInvalidID, Detail: err.Error()}
	}
	if limit := w.producer.cfg.RecordBytesMax; len(value) > limit {
		return tooLarge(len(value), limit)
	}
	if n := len(w.key) + len(id) + len(w.schema) + len(remove); n > headerBytesMax {
		return errcode.New(errcode.RawInvalidHeader, "Key and headers have %d bytes, at most %d are allowed.", n, headerBytesMax)
	}
	if k == kindDelete {
		return nil
	}
	if !isObject(value) || w.producer.cfg.CheckJSON && !(json.Valid(value) && utf8.Valid(value)) {
		return errcode.New(errcode.RawInvalidPayload, "")
	}
	return nil
}

// isObject looks at the braces alone.
func isObject(b []byte) bool {
	for len(b) > 0 && isSpace(b[0]) {
		b = b[1:]
	}
	for len(b) > 0 && isSpace(b[len(b)-1]) {
		b = b[:len(b)-1]
	}
	return len(b) >= 2 && b[0] == '{' && b[len(b)-1] == '}'
}

func isSpace(c byte) bool { return c == ' ' || c == '\n' || c == '\t' || c == '\r' }

// post sends an event that has been checked. It returns once the event has its place in the log's order, with an error only if it was
// not sent.
func (w *Writer) post(ctx context.Context, k kind, id string, value, remove []byte, answer *receipt, measure bool) error {
	p := w.producer
	room := len(value) + len(id) + len(remove) + eventOverhead
	if err := p.room(ctx, room); err != nil {
		return err
	}
	d := p.take()
	d.room = room
	d.receipt = answer
	w.fill(d, k, id, value, remove)
	if measure {
		d.began = time.Now()
	}
	if w.run == nil || !k.aboutRecord() {
		d.record.Timestamp = p.cfg.Now()
		p.send(d)
		return nil
	}
	if err := w.run.send(d, id); err != nil {
		p.reuse(d)
		p.window.release(room)
		return err
	}
	return nil
}

// ordinalDigits is what the ordinal of an event may take.
const ordinalDigits = 20

// fill makes the Kafka record of an event; its ordinal and time come with send. The order of the headers is that of event.Raw.Headers.
func (w *Writer) fill(d *delivery, k kind, id string, value, remove []byte) {
	buf := d.buf[:0]
	if need := len(value) + len(id) + len(remove) + ordinalDigits; cap(buf) < need {
		buf = make([]byte, 0, need+need/4)
	}
	buf = append(buf, value...)
	v := len(buf)
	buf = append(buf, id...)
	i := len(buf)
	buf = append(buf, remove...)
	d.buf = buf

	h := append(d.headers[:0], kgo.RecordHeader{Key: event.HeaderType, Value: typeValues[k]})
	if k.aboutRecord() {
		h = append(h, kgo.RecordHeader{Key: event.HeaderID, Value: buf[v:i:i]})
	}
	if w.sequence != nil {
		h = append(h, kgo.RecordHeader{Key: event.HeaderRun, Value: w.sequence})
		if k.aboutRecord() {
			h = append(h, kgo.RecordHeader{Key: event.HeaderN}) // see headerN
		}
	}
	if k.aboutRecord() {
		if w.cas != nil {
			h = append(h, kgo.RecordHeader{Key: event.HeaderCAS, Value: w.cas})
		}
		if w.schema != nil {
			h = append(h, kgo.RecordHeader{Key: event.HeaderSchema, Value: w.schema})
		}
		if len(remove) > 0 {
			h = append(h, kgo.RecordHeader{Key: event.HeaderRemove, Value: buf[i:]})
		}
	}
	d.kind = k
	d.bytes = v + len(id)
	d.record = kgo.Record{Topic: w.producer.cfg.Names.Raw, Partition: w.partition, Key: w.key, Value: buf[:v:v], Headers: h}
	if k == kindDelete {
		d.record.Value = nil
	}
}

// headerN is where fill leaves room for the ordinal: behind t, id and run.
const headerN = 3

// number gives a delivery its ordinal.
func (d *delivery) number(n uint64) {
	from := len(d.buf)
	d.buf = strconv.AppendUint(d.buf, n, 10) // within the capacity: nothing moves
	d.headers[headerN].Value = d.buf[from:]
}

// control writes an event that is about no record, and waits for the answer.
func (w *Writer) control(ctx context.Context, k kind, value []byte) error {
	if w.err != nil {
		return w.err
	}
	if limit := w.producer.cfg.RecordBytesMax; len(value) > limit {
		return tooLarge(len(value), limit)
	}
	answer := newReceipt(1)
	if err := w.post(ctx, k, "", value, nil, answer, true); err != nil {
		return fmt.Errorf("writing %s: %w", kindNames[k], err)
	}
	if err := w.wait(ctx, answer); err != nil {
		return fmt.Errorf("writing %s: %w", kindNames[k], err)
	}
	return nil
}
