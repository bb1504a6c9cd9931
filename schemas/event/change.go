package event

import (
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"unicode/utf8"

	"github.com/tidemark-dev/tidemark/schemas/stream"
)

// Headers of a record on the changes topic. Op and csn are for plain consumers; m is for readers that apply rule V.
const (
	HeaderOp   = "op"
	HeaderCSN  = "csn"
	HeaderMeta = "m"
)

// PartitionKey is the Kafka key of control records about a whole partition. It cannot be a stream key, for "~p" is one part and
// stream keys have five.
func PartitionKey(partition int32) string { return "~p/" + strconv.Itoa(int(partition)) }

// ChangedBytesMax bounds member changed, so that the envelope of the largest record fits into the changes topic: a record may
// consist of little but names.
const ChangedBytesMax = 64 << 10

// Change is what the envelope of an ADDED, UPDATED or DELETED says beyond its Meta.
type Change struct {
	Op        Op
	Partition int32
	Key       *Key
	ID        []byte // record id
	Payload   []byte // the record after the change; for OpDeleted the last payload, or nil if it had been pruned
	Before    []byte // OpUpdated only: the record before the change, if the model asks for it
	// Changed are the names of the top-level members that differ, for OpUpdated. A list that takes more than ChangedBytesMax is
	// written as null.
	Changed []string
	// ChangedKnown tells "nothing is known of the fields" (null) from "no field" (an empty list).
	ChangedKnown bool
	Schema       []byte // payload schema version of the raw event
	ReceivedMS   int64  // when the raw topic received the event behind the change, ms since the epoch; 0: there is none
}

// Key is a stream with the pieces of JSON and text that all its change events share, so that they are rendered once.
type Key struct {
	Stream string // stream key
	ID     stream.ID
	json   []byte // `{"environment":...,"variant":"base"`
}

// NewKey renders the shared pieces of a stream.
func NewKey(id stream.ID) *Key {
	if id.Variant == "" {
		id.Variant = stream.VariantBase
	}
	b := []byte(`{"environment":`)
	b = appendJSONString(b, id.Environment)
	b = appendJSONString(append(b, `,"integration":`...), id.Integration)
	b = appendJSONString(append(b, `,"connection":`...), id.Connection)
	b = appendJSONString(append(b, `,"model":`...), id.Model)
	b = appendJSONString(append(b, `,"variant":`...), id.Variant)
	return &Key{Stream: id.Key(), ID: id, json: b}
}

var opLetters = [...]byte{OpAdded: 'c', OpUpdated: 'u', OpDeleted: 'd', OpRestored: 'r'}

// AppendChange appends the envelope of c and notes in m where the payload is. m must be complete but for PayloadOffset and
// PayloadLength. The format is schemas/jsonschema/change.v1.json; members are always in this order.
func AppendChange(dst []byte, c *Change, m *Meta) []byte {
	start := len(dst)
	b := append(dst, `{"v":1,"id":"`...)
	b = strconv.AppendInt(b, int64(c.Partition), 10)
	b = append(b, ':')
	b = strconv.AppendUint(b, m.CSN, 10)
	b = append(b, `","op":"`...)
	b = append(b, opLetters[c.Op])
	b = append(b, `","action":"`...)
	b = append(b, opNames[c.Op]...)
	b = append(b, `","key":`...)
	b = append(b, c.Key.json...)
	b = appendJSONString(append(b, `,"id":`...), c.ID)
	b = append(b, `},"before":`...)
	m.PayloadLength = uint64(len(c.Payload))
	if c.Op == OpDeleted {
		b, m.PayloadOffset = appendPayload(b, start, c.Payload)
		b = append(b, `,"after":null`...)
	} else {
		before := c.Before
		if c.Op == OpAdded {
			before = nil
		}
		b, _ = appendPayload(b, start, before)
		b = append(b, `,"after":`...)
		b, m.PayloadOffset = appendPayload(b, start, c.Payload)
	}
	b = append(b, `,"changed":`...)
	b = appendChanged(b, c)
	b = append(b, `,"rev":`...)
	b = strconv.AppendUint(b, m.Rev, 10)
	b = append(b, `,"first_seen_at":"`...)
	b = AppendTime(b, m.FirstSeen)
	b = append(b, `","hash":"`...)
	b = metaText.AppendEncode(b, m.Hash[:])
	b = append(b, `","source":{"lsn":`...)
	b = strconv.AppendUint(b, m.CSN, 10)
	b = append(b, `,"raw_offset":`...)
	b = strconv.AppendInt(b, m.RawOffset, 10)
	b = append(b, `,"run":`...)
	b = strconv.AppendUint(b, m.Run, 10)
	if len(c.Schema) > 0 {
		b = appendJSONString(append(b, `,"schema":`...), c.Schema)
	}
	if c.ReceivedMS > 0 {
		b = append(b, `,"ts_ms":`...)
		b = strconv.AppendInt(b, c.ReceivedMS, 10)
	}
	b = append(b, `},"ts_ms":`...)
	b = strconv.AppendInt(b, m.TS, 10)
	return append(b, '}')
}

// appendPayload also returns where the payload is in the value, 0 if there is none.
func appendPayload(b []byte, start int, payload []byte) ([]byte, uint64) {
	if len(payload) == 0 {
		return append(b, "null"...), 0
	}
	return append(b, payload...), uint64(len(b) - start)
}

func appendChanged(b []byte, c *Change) []byte {
	if c.Op != OpUpdated || !c.ChangedKnown {
		return append(b, "null"...)
	}
	start := len(b)
	b = append(b, '[')
	for i, name := range c.Changed {
		if i > 0 {
			b = append(b, ',')
		}
		b = appendJSONString(b, name)
		if len(b)-start >= ChangedBytesMax {
			return append(b[:start], "null"...)
		}
	}
	return append(b, ']')
}

// AppendRestored appends the value of an OpRestored record and notes in m where the payload is. It is a control object (see
// Control) whose last member, payload, holds the payload as the sync function wrote it.
func AppendRestored(dst []byte, c *Change, m *Meta) []byte {
	start := len(dst)
	b := append(dst, `{"v":1,"op":"RESTORED","stream":`...)
	b = append(b, c.Key.json...)
	b = append(b, `},"partition":`...)
	b = strconv.AppendInt(b, int64(c.Partition), 10)
	b = append(b, `,"ts_ms":`...)
	b = strconv.AppendInt(b, m.TS, 10)
	b = appendJSONString(append(b, `,"record_id":`...), c.ID)
	b = append(b, `,"payload":`...)
	m.PayloadLength = uint64(len(c.Payload))
	b, m.PayloadOffset = appendPayload(b, start, c.Payload)
	return append(b, '}')
}

// Payload returns the bytes of the payload inside a change event's value, as the sync function wrote them; nil if there is none.
func Payload(value []byte, m *Meta) ([]byte, error) {
	if !m.Record || m.PayloadLength == 0 {
		return nil, nil
	}
	if m.PayloadOffset > uint64(len(value)) || m.PayloadLength > uint64(len(value))-m.PayloadOffset {
		return nil, fmt.Errorf("%w: payload [%d,+%d) is outside the value of %d bytes", ErrMeta, m.PayloadOffset, m.PayloadLength, len(value))
	}
	return value[m.PayloadOffset : m.PayloadOffset+m.PayloadLength], nil
}

// Envelope is the JSON of a change event for readers that decode it; the processor and its followers never do.
type Envelope struct {
	V       int             `json:"v"`
	ID      string          `json:"id"`
	Op      string          `json:"op"`
	Action  string          `json:"action"`
	Key     EnvelopeKey     `json:"key"`
	Before  json.RawMessage `json:"before"`
	After   json.RawMessage `json:"after"`
	Changed []string        `json:"changed"`
	Rev     uint64          `json:"rev"`
	// FirstSeenAt is RFC 3339 in UTC with milliseconds.
	FirstSeenAt string `json:"first_seen_at"`
	// Hash is the stored hash in base64url without padding.
	Hash     string         `json:"hash"`
	Source   EnvelopeSource `json:"source"`
	TSMillis int64          `json:"ts_ms"`
}

// EnvelopeKey names the record of a change.
type EnvelopeKey struct {
	stream.ID
	RecordID string `json:"id"`
}

// EnvelopeSource says where a change comes from.
type EnvelopeSource struct {
	LSN       uint64 `json:"lsn"`
	RawOffset int64  `json:"raw_offset"`
	Run       uint64 `json:"run"`
	Schema    string `json:"schema,omitempty"`
	TSMillis  int64  `json:"ts_ms,omitempty"` // when the raw topic received it
}

// ErrRecord is what errors of ParseRecord wrap.
var ErrRecord = errors.New("malformed record on the changes topic")

// ParseRecord decodes the headers of a record on the changes topic.
func ParseRecord(headers []Header, m *Meta) (Op, error) {
	var op, meta []byte
	for i := range headers {
		switch string(headers[i].Key) {
		case HeaderOp:
			op = headers[i].Value
		case HeaderMeta:
			meta = headers[i].Value
		}
	}
	if op == nil || meta == nil {
		return OpUnknown, fmt.Errorf("%w: header op or m is missing", ErrRecord)
	}
	if err := ParseMeta(meta, m); err != nil {
		return OpUnknown, fmt.Errorf("%w: %w", ErrRecord, err)
	}
	o := ParseOp(op)
	if o.IsChange() && !m.Record {
		return OpUnknown, fmt.Errorf("%w: %s without a record section", ErrRecord, o)
	}
	return o, nil
}

const lowerHex = "0123456789abcdef"

// appendJSONString appends s as a JSON string. Only what JSON requires is escaped; invalid UTF-8 becomes U+FFFD.
func appendJSONString[S ~string | ~[]byte](b []byte, s S) []byte {
	b = append(b, '"')
	from := 0
	for i := 0; i < len(s); {
		c := s[i]
		if c < utf8.RuneSelf {
			if c >= ' ' && c != '"' && c != '\\' {
				i++
				continue
			}
			b = append(b, s[from:i]...)
			switch c {
			case '"', '\\':
				b = append(b, '\\', c)
			case '\n':
				b = append(b, '\\', 'n')
			case '\r':
				b = append(b, '\\', 'r')
			case '\t':
				b = append(b, '\\', 't')
			default:
				b = append(b, '\\', 'u', '0', '0', lowerHex[c>>4], lowerHex[c&15])
			}
			i++
			from = i
			continue
		}
		r, n := utf8.DecodeRuneInString(string(s[i:min(len(s), i+utf8.UTFMax)]))
		if r == utf8.RuneError && n == 1 {
			b = append(b, s[from:i]...)
			b = append(b, "\uFFFD"...)
			i++
			from = i
			continue
		}
		i += n
	}
	b = append(b, s[from:]...)
	return append(b, '"')
}
