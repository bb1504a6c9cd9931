package project

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/tidemark-dev/tidemark/projections/fold"
	"github.com/tidemark-dev/tidemark/projections/follow"
	"github.com/tidemark-dev/tidemark/schemas/event"
	"github.com/tidemark-dev/tidemark/schemas/rulev"
	"github.com/tidemark-dev/tidemark/schemas/stream"
)

var errBroken = errors.New("the connection broke")

// logEpoch is when the logs begin: two hours ago in real time, so that nothing has expired; long ago in a bubble.
var logEpoch = max(time.Now().Add(-2*time.Hour).Truncate(24*time.Hour).UnixMilli(), 1_763_700_000_000)

// logs are the partitions of a changes topic.
type logs struct {
	rng    *rand.Rand
	mu     sync.Mutex
	groups [][]follow.Group
	start  []int64 // offset
	steady bool    // nothing breaks
	grown  chan struct{}
}

func newLogs(rng *rand.Rand, partitions int) *logs {
	return &logs{rng: rng, groups: make([][]follow.Group, partitions), start: make([]int64, partitions), grown: make(chan struct{})}
}

// grow appends groups of ADDED and ends of runs.
func (l *logs) grow(groups int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for range groups {
		p := l.rng.IntN(len(l.groups))
		var csn, offset uint64 = 1, uint64(l.rng.IntN(3))
		if n := len(l.groups[p]); n > 0 {
			last := l.groups[p][n-1].Next
			csn, offset = last.SeenCSN+1, uint64(last.Offset)+l.rng.Uint64N(2)
		}
		g := follow.Group{Partition: int32(p)}
		for range 1 + l.rng.IntN(20) {
			k := event.NewKey(stream.ID{Environment: "dev", Integration: "crm", Connection: fmt.Sprint(p, "-", l.rng.IntN(3)), Model: "Thing"})
			m := event.Meta{Term: 1, CSN: csn, SID: 1, TS: logEpoch + int64(csn)*7_000, Record: true, Live: csn}
			c := event.Change{Op: event.OpAdded, Partition: int32(p), Key: k, ID: fmt.Append(nil, csn), Payload: []byte(`{}`)}
			rec := follow.Record{Op: c.Op, Key: stream.AppendRecordKey(nil, k.Stream, c.ID), Offset: int64(offset)}
			rec.Value = event.AppendChange(nil, &c, &m)
			if l.rng.IntN(9) == 0 {
				rec.Op, rec.Key = event.OpRunCompleted, []byte(k.Stream)
				rec.Value, _ = event.AppendControl(nil, &event.Control{Op: rec.Op, Stream: &k.ID, Run: csn, Counts: &event.RunCounts{Unchanged: csn}})
				m.Record = false
			}
			rec.Meta = m
			g.Records = append(g.Records, rec)
			csn, offset = csn+1, offset+1
		}
		g.Next = follow.Position{Partition: int32(p), Offset: int64(offset), SeenCSN: csn - 1, State: rulev.State{NextCSN: csn}}
		l.groups[p] = append(l.groups[p], g)
	}
	close(l.grown)
	l.grown = make(chan struct{})
}

// trim removes groups from the head of each partition.
func (l *logs) trim(share float64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for p, groups := range l.groups {
		if n := int(float64(len(groups)) * share); n > 0 {
			l.start[p] = groups[n-1].Next.Offset
		}
	}
}

func (l *logs) Ranges(context.Context) (ranges []Range, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for p, groups := range l.groups {
		r := Range{Topic: "changes", Partition: int32(p), Start: l.start[p]}
		if len(groups) > 0 {
			r.End = groups[len(groups)-1].Next.Offset
		}
		ranges = append(ranges, r)
	}
	return ranges, nil
}

func (l *logs) Follow(ctx context.Context, positions []follow.Position, take func(follow.Group) error) error {
	at := make([]int64, len(l.groups))
	for p := range at {
		at[p] = follow.OffsetStart
	}
	for _, p := range positions {
		at[p.Partition] = p.Offset
	}
	for ctx.Err() == nil {
		l.mu.Lock()
		var next []follow.Group
		for p, groups := range l.groups {
			if at[p] == follow.OffsetStart {
				at[p] = l.start[p]
			}
			if at[p] < l.start[p] {
				l.mu.Unlock()
				return &follow.PositionError{Partition: int32(p), Offset: at[p], Start: l.start[p]}
			}
			i := slices.IndexFunc(groups, func(g follow.Group) bool { return g.Next.Offset > at[p] })
			if i >= 0 {
				next = append(next, groups[i])
			}
		}
		grown := l.grown
		broken := !l.steady && l.rng.IntN(200) == 0
		l.mu.Unlock()
		if broken {
			return errBroken
		}
		if len(next) == 0 {
			select {
			case <-grown:
			case <-ctx.Done():
			}
		}
		for _, g := range next {
			if err := take(g); errors.Is(err, follow.ErrStop) {
				return nil
			} else if err != nil {
				return err
			}
			at[g.Partition] = g.Next.Offset
		}
	}
	return nil
}

type cellKey struct {
	stream stream.ID
	bucket int64
	window uint64
	level  fold.Level
}

// memory is a Store in memory that fails as it likes: it refuses, or does a part, or does it all and does not say so.
type memory struct {
	t    *testing.T
	rng  *rand.Rand
	mu   sync.Mutex
	away bool
	bad  int // out of 100 calls

	facts     map[int32]map[uint64]bool
	events    map[int32]map[uint64]bool
	partials  map[cellKey]fold.Partial
	positions map[int32]Progress
	written   map[int32]uint64 // facts and events without a gap up to here
	largest   int
	trouble   Trouble
	prepared  int
	lags      int
}

func newMemory(t *testing.T, rng *rand.Rand) *memory {
	return &memory{
		t: t, rng: rng, facts: map[int32]map[uint64]bool{}, events: map[int32]map[uint64]bool{}, partials: map[cellKey]fold.Partial{},
		positions: map[int32]Progress{}, written: map[int32]uint64{},
	}
}

type nothingErased struct{}

func (nothingErased) Until(*stream.ID, string) int64 { return 0 }

// fails is called with mu held.
func (m *memory) fails() bool { return m.away || m.rng.IntN(100) < m.bad }

func (m *memory) Prepare(context.Context) (Erasures, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.fails() {
		return nil, errBroken
	}
	m.prepared++
	return nothingErased{}, nil
}

func (m *memory) Positions(context.Context) (list []Progress, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.fails() {
		return nil, errBroken
	}
	for _, p := range m.positions {
		list = append(list, p)
	}
	return list, nil
}

func (m *memory) Insert(_ context.Context, rows *fold.Rows) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.largest = max(m.largest, rows.Len())
	if m.away {
		return errBroken
	}
	if m.trouble == Pressure && rows.Len() > 1000 {
		return errBroken
	}
	// A failure may have done anything.
	part, fail := 100, m.rng.IntN(100) < m.bad
	if fail {
		part = m.rng.IntN(101)
	}
	some := func() bool { return m.rng.IntN(100) < part }
	for _, f := range rows.Facts {
		if some() {
			put(m.facts, f.Partition, f.CSN)
		}
	}
	for _, e := range rows.Events {
		if some() {
			put(m.events, e.Partition, e.CSN)
		}
	}
	for l, partials := range rows.Partials {
		for _, p := range partials {
			k := cellKey{*p.Stream, p.Bucket, p.Window, fold.Level(l)}
			if p.N > m.partials[k].N && some() {
				m.partials[k] = p
			}
		}
	}
	if fail {
		return errBroken
	}
	return nil
}

func put(sets map[int32]map[uint64]bool, partition uint16, csn uint64) {
	p := int32(partition)
	if sets[p] == nil {
		sets[p] = map[uint64]bool{}
	}
	sets[p][csn] = true
}

// SavePositions checks J1.
func (m *memory) SavePositions(_ context.Context, positions []Progress) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.fails() {
		return errBroken
	}
	for _, p := range positions {
		for csn := m.written[p.Partition] + 1; csn <= p.CSN; csn++ {
			if !m.facts[p.Partition][csn] && !m.events[p.Partition][csn] {
				m.t.Errorf("J1: the position of partition %d is stored at csn %d, but csn %d is not written", p.Partition, p.CSN, csn)
				break
			}
		}
		m.written[p.Partition] = max(m.written[p.Partition], p.CSN)
		m.positions[p.Partition] = p
	}
	return nil
}

func (m *memory) Summed(_ context.Context, partition int32, from, before uint64) (csn uint64, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.fails() {
		return 0, errBroken
	}
	for _, p := range m.partials {
		if int32(p.Partition) == partition && p.Window >= from && p.Window < before {
			csn = max(csn, p.ToCSN)
		}
	}
	return csn, nil
}

func (m *memory) InsertLag(context.Context, []Lag) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.lags++
	return nil
}

func (m *memory) Trouble(error) Trouble {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.trouble
}

// totals are what all partials of a level say.
func (m *memory) totals(level fold.Level) (added, unchanged uint64) {
	for k, p := range m.partials {
		if k.level == level {
			added += uint64(p.Added)
			unchanged += p.Unchanged
		}
	}
	return added, unchanged
}

func (l *logs) totals() (added, unchanged uint64) {
	for _, groups := range l.groups {
		for _, g := range groups {
			for _, r := range g.Records {
				if r.Op == event.OpAdded {
					added++
				} else {
					unchanged += r.Meta.CSN
				}
			}
		}
	}
	return added, unchanged
}

func testConfig(t *testing.T, l *logs, m *memory) Config {
	keys, err := fold.NewKeys(make([]byte, 32))
	if err != nil {
		t.Fatal(err)
	}
	return Config{
		Source: l, Store: m, Keys: keys, WindowBits: 5, ChangesTopic: "changes", RawTopic: "raw", BatchRows: 200, BatchWait: 50 * time.Millisecond,
		Retention: time.Hour,
	}
}
