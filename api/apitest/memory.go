package apitest

import (
	"context"
	"fmt"
	"iter"
	"slices"
	"sort"
	"sync"

	"github.com/tidemark-dev/tidemark/api"
	"github.com/tidemark-dev/tidemark/schemas/event"
	"github.com/tidemark-dev/tidemark/schemas/stream"
)

// Change is one change of a record: Payload is its new version, a JSON object; nil deletes it.
type Change struct {
	ID      string
	Payload []byte
}

// Partitions of a Memory.
const Partitions = 4

// baseMS is the time of the first change of a Memory: 2026-01-01T00:00:00Z.
const baseMS = 1_767_225_600_000

// Memory is a View in memory. Safe for concurrent use. Its clock moves one millisecond every two changes, so that changes share
// their times as those of one commit do.
type Memory struct {
	mu      sync.RWMutex
	streams map[stream.ID]*memoryStream
	applied [Partitions]uint64
	changes int64
	waiting []api.Condition
	err     error
	hold    func(ctx context.Context) error
}

type memoryStream struct {
	partition int32
	rows      []memoryRow    // ascending by csn; a superseded row stays, dead
	at        map[string]int // id to its latest row
}

type memoryRow struct {
	api.Row
	dead bool
}

// NewMemory returns an empty view that is ready.
func NewMemory() *Memory { return &Memory{streams: map[stream.ID]*memoryStream{}} }

// Apply makes changes in order, one csn each. Deleting a record that is not live changes nothing. The error is always nil.
func (m *Memory) Apply(id stream.ID, changes ...Change) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	s := m.stream(id)
	for _, c := range changes {
		row := api.Row{Op: event.OpAdded, Payload: c.Payload, ID: []byte(c.ID), Term: 1, Partition: s.partition}
		at, known := s.at[c.ID]
		live := known && s.rows[at].Op != event.OpDeleted
		if c.Payload == nil {
			if !live {
				continue
			}
			row.Op, row.Payload, row.PrunedAtMS = event.OpDeleted, s.rows[at].Payload, s.rows[at].PrunedAtMS
		} else if live {
			row.Op = event.OpUpdated
		}
		row.TSMillis = baseMS + m.changes/2
		m.changes++
		row.FirstSeenMS = row.TSMillis
		if live {
			row.FirstSeenMS = s.rows[at].FirstSeenMS
		}
		if known {
			s.rows[at].dead = true
		}
		m.applied[s.partition]++
		row.CSN = m.applied[s.partition]
		row.Offset = int64(row.CSN) * 3
		s.at[c.ID] = len(s.rows)
		s.rows = append(s.rows, memoryRow{Row: row})
	}
	return nil
}

// Prune drops the payload of a record, which must be there. Its csn stays.
func (m *Memory) Prune(id stream.ID, record string, atMS int64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	s := m.stream(id)
	row := &s.rows[s.at[record]]
	row.Payload, row.PrunedAtMS = nil, atMS
}

// SetWaiting sets what Ready says.
func (m *Memory) SetWaiting(waiting ...api.Condition) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.waiting = waiting
}

// SetError makes Page and Streams fail, until it is set to nil.
func (m *Memory) SetError(err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.err = err
}

// SetHold has every Page call hold first and fail with its error. For tests that need a read under way.
func (m *Memory) SetHold(hold func(ctx context.Context) error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.hold = hold
}

func (m *Memory) stream(id stream.ID) *memoryStream {
	s := m.streams[id]
	if s == nil {
		s = &memoryStream{partition: stream.Partition(id.Key(), Partitions), at: map[string]int{}}
		m.streams[id] = s
	}
	return s
}

// Streams implements api.View.
func (m *Memory) Streams(_ context.Context, filter stream.ID) ([]api.StreamInfo, error) {
	m.mu.RLock()
	defer m.mu.RUnlock()
	if m.err != nil {
		return nil, m.err
	}
	match := func(want, have string) bool { return want == "" || want == have }
	var out []api.StreamInfo
	for id, s := range m.streams {
		if !match(filter.Environment, id.Environment) || !match(filter.Integration, id.Integration) || !match(filter.Connection, id.Connection) ||
			!match(filter.Model, id.Model) || !match(filter.Variant, id.Variant) {
			continue
		}
		info := api.StreamInfo{ID: id, Partition: s.partition, Total: uint64(len(s.at))}
		for _, at := range s.at {
			info.LastCSN = max(info.LastCSN, s.rows[at].CSN)
			if s.rows[at].Op != event.OpDeleted {
				info.Live++
			}
		}
		out = append(out, info)
	}
	return out, nil
}

// Page implements api.View.
func (m *Memory) Page(ctx context.Context, q api.Query, fn func(*api.Row) error) (api.PageEnd, error) {
	m.mu.RLock()
	hold := m.hold
	m.mu.RUnlock()
	if hold != nil {
		if err := hold(ctx); err != nil {
			return api.PageEnd{}, err
		}
	}
	m.mu.RLock()
	defer m.mu.RUnlock()
	if m.err != nil {
		return api.PageEnd{}, m.err
	}
	if q.Limit < 1 || q.ScanMax < q.Limit || q.Stream.Variant == "" {
		return api.PageEnd{}, fmt.Errorf("query breaks its contract: %+v", q)
	}
	partition := stream.Partition(q.Stream.Key(), Partitions)
	end := api.PageEnd{LastCSN: q.After, Applied: m.applied[partition], Partition: partition}
	s := m.streams[q.Stream]
	if s == nil {
		return end, nil
	}
	var row api.Row
	returned, examined := 0, 0
	for at := range s.candidates(q) {
		if returned == q.Limit || examined == q.ScanMax {
			end.More = true
			break
		}
		row = s.rows[at].Row
		end.LastCSN = row.CSN
		examined++
		if !q.Actions.Has(row.Op) || row.TSMillis < q.ModifiedAfterMS {
			continue
		}
		returned++
		if err := fn(&row); err != nil {
			return api.PageEnd{}, err
		}
	}
	return end, nil
}

// candidates yields the indices of the latest rows above q.After, of the asked ids if there are any, ascending by csn.
func (s *memoryStream) candidates(q api.Query) iter.Seq[int] {
	if q.IDs != nil {
		var asked []int
		for _, id := range q.IDs {
			if at, ok := s.at[id]; ok && s.rows[at].CSN > q.After {
				asked = append(asked, at)
			}
		}
		slices.Sort(asked)
		return slices.Values(asked)
	}
	return func(yield func(int) bool) {
		from := sort.Search(len(s.rows), func(i int) bool { return s.rows[i].CSN > q.After })
		for at := from; at < len(s.rows); at++ {
			if !s.rows[at].dead && !yield(at) {
				return
			}
		}
	}
}

// Ready implements api.View.
func (m *Memory) Ready() []api.Condition {
	m.mu.RLock()
	defer m.mu.RUnlock()
	return slices.Clone(m.waiting)
}
