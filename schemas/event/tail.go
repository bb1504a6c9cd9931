package event

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
)

// Tail is what an envelope says behind the payload of a change: what a projection wants of it beyond header m, without decoding the
// record itself.
type Tail struct {
	// Changed are the names of the top-level members that differ; they may alias the value. ChangedKnown tells "nothing is known"
	// from "none".
	Changed      [][]byte
	ChangedKnown bool
	ReceivedMS   int64 // when the raw topic received the event behind the change, ms since the epoch; 0: there is none, or it is not said
}

// ErrEnvelope is what errors of ParseTail wrap.
var ErrEnvelope = errors.New("malformed envelope of a change")

var (
	tailChanged = []byte(`,"changed":`)
	tailAfter   = []byte(`,"after":null`)
	tailSource  = []byte(`,"source":{`)
	tailTime    = []byte(`,"ts_ms":`)
)

// ParseTail decodes the tail of the envelope of an ADDED, UPDATED or DELETED, whose meta is m. It takes the names of t.Changed over
// into the same memory. An envelope whose members are laid out in another way than AppendChange does, as a later version may, is decoded
// as JSON. The cost does not depend on the size of the payload.
func ParseTail(value []byte, m *Meta, t *Tail) error {
	t.Changed, t.ChangedKnown, t.ReceivedMS = t.Changed[:0], false, 0
	if t.fast(value, m) {
		return nil
	}
	t.Changed, t.ChangedKnown, t.ReceivedMS = t.Changed[:0], false, 0
	var e struct {
		Changed *[]string `json:"changed"`
		Source  struct {
			TSMillis int64 `json:"ts_ms"`
		} `json:"source"`
	}
	if err := json.Unmarshal(value, &e); err != nil {
		return fmt.Errorf("%w: %v", ErrEnvelope, err)
	}
	t.ReceivedMS = e.Source.TSMillis
	if t.ChangedKnown = e.Changed != nil; t.ChangedKnown {
		for _, name := range *e.Changed {
			t.Changed = append(t.Changed, []byte(name))
		}
	}
	return nil
}

// fast reads the layout of AppendChange. Quotes inside of strings are escaped, so the separators that it looks for are nowhere else.
func (t *Tail) fast(value []byte, m *Meta) bool {
	if m.PayloadLength == 0 || m.PayloadOffset > uint64(len(value)) || m.PayloadLength > uint64(len(value))-m.PayloadOffset {
		return false
	}
	tail := bytes.TrimPrefix(value[m.PayloadOffset+m.PayloadLength:], tailAfter)
	tail, ok := bytes.CutPrefix(tail, tailChanged)
	if !ok {
		return false
	}
	if bytes.HasPrefix(tail, []byte("null")) {
		tail = tail[len("null"):]
	} else if tail, ok = t.names(tail); !ok {
		return false
	}
	at := bytes.Index(tail, tailSource)
	if at < 0 {
		return false
	}
	source := tail[at+len(tailSource):]
	end := bytes.LastIndex(source, []byte("}"+string(tailTime)))
	if end < 0 {
		return false
	}
	if at = bytes.LastIndex(source[:end], tailTime); at < 0 {
		return true
	}
	ms, err := strconv.ParseInt(string(source[at+len(tailTime):end]), 10, 64)
	t.ReceivedMS = ms
	return err == nil && ms >= 0
}

// names reads an array of strings and returns what follows.
func (t *Tail) names(b []byte) ([]byte, bool) {
	t.ChangedKnown = true
	if len(b) == 0 || b[0] != '[' {
		return nil, false
	}
	b = b[1:]
	if len(b) > 0 && b[0] == ']' {
		return b[1:], true
	}
	for {
		if len(b) == 0 || b[0] != '"' {
			return nil, false
		}
		end, escaped := 1, false
		for end < len(b) && b[end] != '"' {
			if b[end] == '\\' {
				escaped = true
				end++
			}
			end++
		}
		if end >= len(b) {
			return nil, false
		}
		name := b[1:end]
		if escaped {
			var s string
			if json.Unmarshal(b[:end+1], &s) != nil {
				return nil, false
			}
			name = []byte(s)
		}
		t.Changed = append(t.Changed, name)
		b = b[end+1:]
		if len(b) == 0 {
			return nil, false
		}
		switch b[0] {
		case ']':
			return b[1:], true
		case ',':
			b = b[1:]
		default:
			return nil, false
		}
	}
}
