package ingest

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/tidemark-dev/tidemark/schemas/event"
)

// Stream writes events that belong to no run. Every write waits for the broker. It is safe for concurrent use.
type Stream struct {
	Writer
}

// With returns a writer of the same stream with another merging strategy. A schema version, at most 128 bytes and empty for
// none, is copied into the changes that the writes make.
func (s *Stream) With(strategy MergingStrategy, schema string) *Stream {
	t := *s
	t.cas = strategy.header()
	t.schema, t.err = schemaHeader(schema, t.err)
	return &t
}

// Checkpoint writes the author's state, any JSON, behind everything that was written before. The newest checkpoint of a stream
// counts.
func (s *Stream) Checkpoint(ctx context.Context, state any) error {
	value, err := encodeState(state)
	if err != nil {
		return err
	}
	return s.control(ctx, kindCheckpoint, value)
}

func encodeState(state any) ([]byte, error) {
	value, err := json.Marshal(state)
	if err != nil {
		return nil, fmt.Errorf("encoding a checkpoint: %w", err)
	}
	return value, nil
}

// ClearMode says how a stream is cleared.
type ClearMode string

// Ways to clear a stream.
const (
	ClearHard ClearMode = event.ClearHard // everything is forgotten at once, without DELETED events
	ClearSoft ClearMode = event.ClearSoft // every live record is deleted, with its DELETED event
)

// Clear empties the stream.
func (s *Stream) Clear(ctx context.Context, mode ClearMode) error {
	if mode != ClearHard && mode != ClearSoft {
		return fmt.Errorf("clearing a stream: mode is %q, want hard or soft", clip(string(mode)))
	}
	return s.json(ctx, kindClear, &event.Clear{Mode: string(mode)}, new(event.Clear))
}

// Prune removes the payloads of all records that last changed at untilCSN or before; what is known of the records stays.
func (s *Stream) Prune(ctx context.Context, untilCSN uint64) error {
	return s.json(ctx, kindPrune, &event.Prune{UntilCSN: untilCSN}, new(event.Prune))
}

// Verdict is a decision on a held deletion.
type Verdict string

// Decisions on a held deletion.
const (
	Approve Verdict = event.DecisionApprove
	Discard Verdict = event.DecisionDiscard
)

// Decide lets the held deletions of a run happen, or drops them. by names who decided, for the record.
func (s *Stream) Decide(ctx context.Context, run uint64, verdict Verdict, by string) error {
	return s.json(ctx, kindDecision, &event.Decision{Run: run, Decision: string(verdict), By: by}, new(event.Decision))
}

// json writes a control event. It is decoded first, into check, as the processor will do.
func (w *Writer) json(ctx context.Context, k kind, v, check any) error {
	value, err := json.Marshal(v)
	if err == nil {
		err = event.DecodeValue(value, check)
	}
	if err != nil {
		return fmt.Errorf("checking the arguments of a %s: %w", kindNames[k], err)
	}
	return w.control(ctx, k, value)
}
