package processor

import (
	"strconv"

	"github.com/tidemark-dev/tidemark/processor/batch"
	"github.com/tidemark-dev/tidemark/processor/decide"
	"github.com/tidemark-dev/tidemark/schemas/event"
	"github.com/tidemark-dev/tidemark/schemas/stream"
)

// encoder makes record batches out of groups. It reuses its memory; not safe for concurrent use.
type encoder struct {
	partition  int32
	builder    batch.Builder
	key, value []byte
	meta, csn  []byte
	headers    [3]event.Header
}

var (
	headerOp   = []byte(event.HeaderOp)
	headerCSN  = []byte(event.HeaderCSN)
	headerMeta = []byte(event.HeaderMeta)
)

// group encodes a group as one batch, and notes in its records where their payloads lie. The builder is valid until the next call.
func (e *encoder) group(g *decide.Group) (*batch.Builder, error) {
	e.builder.Reset()
	for i := range g.Records {
		rec, x := &g.Records[i], &g.Extra[i]
		switch {
		case rec.Op.IsChange() || rec.Op == event.OpRestored:
			c := event.Change{
				Op: rec.Op, Partition: e.partition, Key: rec.Key, ID: rec.ID, Payload: rec.Payload, Before: x.Before,
				Changed: x.Changed, ChangedKnown: x.ChangedKnown, Schema: x.Schema, ReceivedMS: x.ReceivedMS,
			}
			e.key = stream.AppendRecordKey(e.key[:0], rec.Stream, rec.ID)
			if rec.Op == event.OpRestored {
				e.value = event.AppendRestored(e.value[:0], &c, &rec.Meta)
			} else {
				e.value = event.AppendChange(e.value[:0], &c, &rec.Meta)
			}
		default:
			var err error
			if e.value, err = event.AppendControl(e.value[:0], rec.Control); err != nil {
				return nil, err
			}
			if rec.Stream == "" {
				e.key = append(e.key[:0], event.PartitionKey(e.partition)...)
			} else {
				e.key = append(e.key[:0], rec.Stream...)
			}
		}
		e.append(rec.Op, &rec.Meta)
	}
	return &e.builder, nil
}

// term encodes a TERM record as a batch of its own.
func (e *encoder) term(m *event.Meta, c *event.Control) (*batch.Builder, error) {
	e.builder.Reset()
	var err error
	if e.value, err = event.AppendControl(e.value[:0], c); err != nil {
		return nil, err
	}
	e.key = append(e.key[:0], event.PartitionKey(e.partition)...)
	e.append(event.OpTerm, m)
	return &e.builder, nil
}

func (e *encoder) append(op event.Op, m *event.Meta) {
	e.meta = event.AppendMeta(e.meta[:0], m)
	e.csn = strconv.AppendUint(e.csn[:0], m.CSN, 10)
	e.headers = [3]event.Header{{Key: headerOp, Value: opText[op]}, {Key: headerCSN, Value: e.csn}, {Key: headerMeta, Value: e.meta}}
	e.builder.Append(m.TS, e.key, e.value, e.headers[:])
}

var opText = func() (t [256][]byte) {
	for i := range t {
		t[i] = []byte(event.Op(i).String())
	}
	return t
}()

// dead encodes the dead letters of a group.
func (e *encoder) dead(g *decide.Group, ts int64) *batch.Builder {
	e.builder.Reset()
	for i := range g.Dead {
		d := &g.Dead[i]
		e.builder.Append(ts, d.Key, d.Value, event.DeadLetterHeaders(d.Code, d.Detail, e.partition, d.Offset, d.Headers))
	}
	return &e.builder
}
