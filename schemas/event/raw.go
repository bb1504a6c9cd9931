package event

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math"
	"strconv"

	"github.com/tidemark-dev/tidemark/schemas/errcode"
	"github.com/tidemark-dev/tidemark/schemas/stream"
)

// RawType is the value of header "t" of a raw event.
type RawType byte

// Types of raw events. The letter is the wire value.
const (
	RawSave         RawType = 's' // value: the whole record, a JSON object
	RawUpdate       RawType = 'u' // value: a partial record, merged into the stored one
	RawDelete       RawType = 'd' // value: none; whatever is passed is ignored, the stored payload stays
	RawRunStarted   RawType = 'b' // value: RunStart
	RawRunCompleted RawType = 'e' // value: RunEnd
	RawRunFailed    RawType = 'x' // value: RunFailure
	RawClear        RawType = 'c' // value: Clear
	RawPrune        RawType = 'p' // value: Prune
	RawCheckpoint   RawType = 'k' // value: the author's state, any JSON
	RawDecision     RawType = 'h' // value: Decision on a held deletion
)

// Headers of a raw event. All values are ASCII, but for HeaderID, which is UTF-8.
const (
	HeaderType   = "t"   // one letter, see RawType
	HeaderID     = "id"  // record id: save, update, delete
	HeaderRun    = "run" // run sequence, decimal, 1 and up, rising from run to run of a stream; absent outside runs
	HeaderN      = "n"   // ordinal of the event inside its run: 1, 2, 3 ...
	HeaderCAS    = "cas" // apply only if the csn of the record is at most this
	HeaderSchema = "sv"  // payload schema version, copied through
	HeaderRemove = "rm"  // update only: JSON array of JSON Pointers of members to remove after the merge
)

// schemaBytesMax bounds header sv, which is copied into every change event.
const schemaBytesMax = 128

// Raw is a decoded raw event. The slices alias the input.
type Raw struct {
	Type   RawType
	ID     []byte
	Run    uint64 // 0: outside any run
	N      uint64 // 0: the event claims no ordinal
	CAS    uint64
	HasCAS bool
	Schema []byte
	Remove []byte // raw JSON of header rm
	Value  []byte
}

// InRecord reports whether the event is about one record.
func (r *Raw) InRecord() bool {
	return r.Type == RawSave || r.Type == RawUpdate || r.Type == RawDelete
}

// RawError says why a raw event cannot be applied. Code is registered in errcode; such an event goes to the dead-letter topic.
type RawError struct {
	Code   errcode.Code
	Detail string
}

func (e *RawError) Error() string { return string(e.Code) + ": " + e.Detail }

func rawErrorf(code errcode.Code, format string, args ...any) error {
	return &RawError{Code: code, Detail: fmt.Sprintf(format, args...)}
}

// ParseRaw decodes headers and value into r, which it overwrites. The only errors are *RawError. Unknown headers are ignored;
// of a header that occurs twice the last one counts. It does not look into the payload.
func ParseRaw(headers []Header, value []byte, r *Raw) error {
	*r = Raw{Value: value}
	for i := range headers {
		h := &headers[i]
		switch string(h.Key) {
		case HeaderType:
			if len(h.Value) != 1 {
				return rawErrorf(errcode.RawUnknownType, "header t is %q", clip(h.Value, shown))
			}
			r.Type = RawType(h.Value[0])
		case HeaderID:
			r.ID = h.Value
		case HeaderRun:
			v, ok := parseUint(h.Value)
			if !ok || v == 0 {
				return rawErrorf(errcode.RawInvalidHeader, "header run is %q, want a decimal number from 1", clip(h.Value, shown))
			}
			r.Run = v
		case HeaderN:
			v, ok := parseUint(h.Value)
			if !ok || v == 0 {
				return rawErrorf(errcode.RawInvalidHeader, "header n is %q, want a decimal number from 1", clip(h.Value, shown))
			}
			r.N = v
		case HeaderCAS:
			v, ok := parseUint(h.Value)
			if !ok {
				return rawErrorf(errcode.RawInvalidHeader, "header cas is %q, want a decimal number", clip(h.Value, shown))
			}
			r.CAS, r.HasCAS = v, true
		case HeaderSchema:
			if len(h.Value) > schemaBytesMax {
				return rawErrorf(errcode.RawInvalidHeader, "header sv has %d bytes, at most %d are allowed", len(h.Value), schemaBytesMax)
			}
			r.Schema = h.Value
		case HeaderRemove:
			r.Remove = h.Value
		}
	}
	switch r.Type {
	case RawSave, RawUpdate, RawDelete:
		if err := stream.CheckID(r.ID); err != nil {
			return rawErrorf(errcode.RawInvalidID, "%v", err)
		}
	case RawRunStarted, RawRunCompleted, RawRunFailed:
		if r.Run == 0 {
			return rawErrorf(errcode.RawInvalidHeader, "a run event needs header run")
		}
	case RawClear, RawPrune, RawCheckpoint, RawDecision:
	case 0:
		return rawErrorf(errcode.RawUnknownType, "header t is missing")
	default:
		return rawErrorf(errcode.RawUnknownType, "header t is %q", string(rune(r.Type)))
	}
	if r.N != 0 && r.Run == 0 {
		return rawErrorf(errcode.RawInvalidHeader, "header n needs header run")
	}
	return nil
}

// Headers appends the headers of r, in the fixed order that the golden files show.
func (r *Raw) Headers(hs []Header) []Header {
	hs = append(hs, Header{[]byte(HeaderType), []byte{byte(r.Type)}})
	if r.InRecord() {
		hs = append(hs, Header{[]byte(HeaderID), r.ID})
	}
	if r.Run != 0 {
		hs = append(hs, Header{[]byte(HeaderRun), strconv.AppendUint(nil, r.Run, 10)})
	}
	if r.N != 0 {
		hs = append(hs, Header{[]byte(HeaderN), strconv.AppendUint(nil, r.N, 10)})
	}
	if r.HasCAS {
		hs = append(hs, Header{[]byte(HeaderCAS), strconv.AppendUint(nil, r.CAS, 10)})
	}
	if len(r.Schema) > 0 {
		hs = append(hs, Header{[]byte(HeaderSchema), r.Schema})
	}
	if len(r.Remove) > 0 {
		hs = append(hs, Header{[]byte(HeaderRemove), r.Remove})
	}
	return hs
}

// RunStart is the value of a run.started event.
type RunStart struct {
	// TrackDeletes asks for deletion detection: records of the stream that the run does not save are deleted when it completes.
	// Absent means true.
	TrackDeletes *bool `json:"track_deletes,omitempty"`
	// Fence shuts out every run of a lower sequence: its later events are dropped and its deletions never happen. Absent means true.
	// A run that starts with false goes beside the runs that are active.
	Fence *bool `json:"fence,omitempty"`
	// Sync names the sync function; it is informational.
	Sync string `json:"sync,omitempty"`
}

// Tracks is TrackDeletes with its default.
func (s RunStart) Tracks() bool { return s.TrackDeletes == nil || *s.TrackDeletes }

// Fences is Fence with its default.
func (s RunStart) Fences() bool { return s.Fence == nil || *s.Fence }

// RunEnd is the value of a run.completed event.
type RunEnd struct {
	DeleteMissing bool `json:"delete_missing"`
	// Events is how many ordinals the producer gave out: deletions happen only if exactly 1 to Events have arrived.
	Events uint64 `json:"events"`
	// AllowEmpty lets a run that saved nothing delete everything.
	AllowEmpty bool `json:"allow_empty,omitempty"`
	// MaxDeleteRatio overrides the configured share of live records, 0 to 1, above which deletions are held.
	MaxDeleteRatio *float64 `json:"max_delete_ratio,omitempty"`
}

// RunFailure is the value of a run.failed event.
type RunFailure struct {
	Error string `json:"error"`
}

// Modes of Clear.
const (
	ClearHard = "hard" // everything is forgotten at once, without DELETED events
	ClearSoft = "soft" // every live record is deleted, with its DELETED event
)

// Clear is the value of a clear event.
type Clear struct {
	Mode string `json:"mode"`
}

// Prune is the value of a prune event: payloads up to and including UntilCSN are removed, hash and metadata stay.
type Prune struct {
	UntilCSN uint64 `json:"until_csn"`
}

// Decisions on a held deletion.
const (
	DecisionApprove = "approve"
	DecisionDiscard = "discard"
)

// Decision is the value of a decision event.
type Decision struct {
	Run      uint64 `json:"run"`
	Decision string `json:"decision"`
	By       string `json:"by,omitempty"`
}

// DecodeValue decodes the JSON value of a control event into v (a pointer to one of the types above). An empty value counts as
// {}, and so does null. Unknown members are ignored, for they may come from a newer producer.
func DecodeValue(value []byte, v any) error {
	if len(bytes.TrimSpace(value)) == 0 {
		value = []byte("{}")
	}
	if err := json.Unmarshal(value, v); err != nil {
		return rawErrorf(errcode.RawInvalidValue, "%s", clip(err.Error(), 200)) // it may quote the value at any length
	}
	switch c := v.(type) {
	case *Clear:
		if c.Mode == "" {
			c.Mode = ClearHard
		}
		if c.Mode != ClearHard && c.Mode != ClearSoft {
			return rawErrorf(errcode.RawInvalidValue, "mode is %q, want hard or soft", clip(c.Mode, shown))
		}
	case *Prune:
		if c.UntilCSN == 0 {
			return rawErrorf(errcode.RawInvalidValue, "until_csn is missing")
		}
	case *Decision:
		if c.Run == 0 {
			return rawErrorf(errcode.RawInvalidValue, "run is missing")
		}
		if c.Decision != DecisionApprove && c.Decision != DecisionDiscard {
			return rawErrorf(errcode.RawInvalidValue, "decision is %q, want approve or discard", clip(c.Decision, shown))
		}
	case *RunEnd:
		if r := c.MaxDeleteRatio; r != nil && (math.IsNaN(*r) || *r < 0 || *r > 1) {
			return rawErrorf(errcode.RawInvalidValue, "max_delete_ratio is %v, want 0 to 1", *r)
		}
	}
	return nil
}

// parseUint reads a decimal u64 without sign, spaces or leading plus; it is strconv.ParseUint without its allocations.
func parseUint(b []byte) (uint64, bool) {
	if len(b) == 0 || len(b) > 20 {
		return 0, false
	}
	var v uint64
	for _, c := range b {
		d := uint64(c - '0')
		if d > 9 || v > (math.MaxUint64-d)/10 {
			return 0, false
		}
		v = v*10 + d
	}
	return v, true
}

// shown is how many bytes of a foreign header or member an error shows.
const shown = 32

// clip bounds what of a foreign value goes into an error.
func clip[S ~string | ~[]byte](s S, most int) string {
	if len(s) > most {
		return string(s[:most]) + "..."
	}
	return string(s)
}
