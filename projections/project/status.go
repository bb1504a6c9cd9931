package project

import (
	"context"
	"slices"
	"sync"
	"time"
)

// State of the projections, in one word.
type State string

// States.
const (
	Starting   State = "starting"    // nothing was written since the start
	CatchingUp State = "catching_up" // there is more to write than fits into a few batches
	Live       State = "live"
	Away       State = "away"    // the store does not answer; it is tried again
	Blocked    State = "blocked" // the store refuses, and somebody has to do something
	Stopped    State = "stopped" // the log cannot be followed
)

// Status is how the projections are doing.
type Status struct {
	State  State
	Reason string // of Away, Blocked and Stopped
	Since  time.Time
	// LastWrite is when rows were last written; zero: never.
	LastWrite time.Time
	// SecondsToLoss is how long the log still keeps the oldest change that is not written; -1: nothing waits, or the log keeps everything.
	SecondsToLoss int64
	Partitions    []PartitionStatus // by rising partition
}

// PartitionStatus is how far one partition is.
type PartitionStatus struct {
	Partition int32
	CSN       uint64 // of the last record written
	AtMS      int64  // its time
	Position  int64  // on the changes topic
	LogEnd    int64  // of the changes topic
	Behind    int64  // records
	BehindMS  int64
	RawNext   int64 // of the processor
	RawEnd    int64 // of the raw topic

	taken int64 // position behind the last group that was taken
}

type offsets struct{ raw, next int64 }

type status struct {
	mu        sync.Mutex
	now       func() time.Time
	retention time.Duration
	metrics   *Metrics
	state     State
	reason    string
	since     time.Time
	written   time.Time
	parts     map[int32]*PartitionStatus
	sampled   bool
}

func (s *status) init(cfg *Config) {
	s.now, s.retention, s.metrics, s.parts = cfg.Now, cfg.Retention, cfg.Metrics, map[int32]*PartitionStatus{}
	s.set(Starting, "")
}

// set is called with mu held, or before anybody knows of s.
func (s *status) set(state State, reason string) {
	if s.state != state {
		s.since = s.now()
	}
	s.state, s.reason = state, reason
}

func (s *status) part(partition int32) *PartitionStatus {
	p := s.parts[partition]
	if p == nil {
		p = &PartitionStatus{Partition: partition, Position: -1}
		s.parts[partition] = p
	}
	return p
}

func (s *status) begin(stored []Progress) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, at := range stored {
		p := s.part(at.Partition)
		p.CSN, p.AtMS = at.CSN, at.AtMS
	}
}

func (s *status) took(partition int32, next int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.part(partition).taken = next
}

func (s *status) troubled(t Trouble, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	state := Away
	if t == Denied || t == Schema {
		state = Blocked
	}
	s.set(state, err.Error())
}

func (s *status) fine() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.state == Away || s.state == Blocked {
		s.set(CatchingUp, "")
	}
}

func (s *status) stop(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.set(Stopped, err.Error())
}

func (s *status) wrote(positions []Progress, at map[int32]offsets, now time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.written = now
	for _, w := range positions {
		p, o := s.part(w.Partition), at[w.Partition]
		p.CSN, p.AtMS, p.Position, p.RawNext = w.CSN, w.AtMS, o.next, o.raw
		p.behind(now)
	}
	s.judge()
}

// behind says how far a partition is behind, as far as is known.
func (p *PartitionStatus) behind(now time.Time) {
	p.Behind, p.BehindMS = 0, 0
	if p.Position < 0 && p.CSN > 0 {
		return // where that is on the topic is known with the first group
	}
	if p.Behind = max(p.LogEnd-max(p.Position, 0), 0); p.Behind > 0 && p.AtMS > 0 {
		p.BehindMS = max(now.UnixMilli()-p.AtMS, 0)
	}
}

// liveWithin is how many records may wait in what is called live.
const liveWithin = 10_000

// judge tells live from catching up.
func (s *status) judge() {
	if s.state != Starting && s.state != CatchingUp && s.state != Live {
		return
	}
	var behind int64
	for _, p := range s.parts {
		behind += p.Behind
	}
	switch {
	case behind > liveWithin:
		s.set(CatchingUp, "")
	case !s.written.IsZero() || s.sampled:
		s.set(Live, "")
	}
}

// Status says how the projections are doing. Safe for concurrent use.
func (p *Projector) Status() Status {
	s := &p.status
	s.mu.Lock()
	defer s.mu.Unlock()
	out := Status{State: s.state, Reason: s.reason, Since: s.since, LastWrite: s.written, SecondsToLoss: -1}
	for _, part := range s.parts {
		out.Partitions = append(out.Partitions, *part)
		if s.retention > 0 && part.Behind > 0 && part.AtMS > 0 {
			left := int64((s.retention - s.now().Sub(time.UnixMilli(part.AtMS))).Seconds())
			if out.SecondsToLoss < 0 || left < out.SecondsToLoss {
				out.SecondsToLoss = max(left, 0)
			}
		}
	}
	slices.SortFunc(out.Partitions, func(a, b PartitionStatus) int { return int(a.Partition - b.Partition) })
	return out
}

// sample measures lag until ctx ends.
func (p *Projector) sample(ctx context.Context) {
	for {
		p.sampleOnce(ctx)
		wait := p.cfg.SampleEvery
		if p.behind() {
			wait = min(wait, sampleBehind) // what is shown should not be the start, or the end of a burst
		}
		if !sleep(ctx, wait) {
			return
		}
	}
}

const sampleBehind = 2 * time.Second

func (p *Projector) behind() bool {
	p.status.mu.Lock()
	defer p.status.mu.Unlock()
	for _, part := range p.status.parts {
		if part.Behind > 0 {
			return true
		}
	}
	return false
}

const sampleWait = 10 * time.Second

func (p *Projector) sampleOnce(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, sampleWait)
	defer cancel()
	ranges, err := p.cfg.Source.Ranges(ctx)
	if err != nil {
		if ctx.Err() == nil {
			p.cfg.Logger.Debug("measuring lag", "error", err)
		}
		return
	}
	samples := p.measured(ranges)
	st := p.Status()
	p.cfg.Metrics.status(st)
	p.warn(st)
	if err := p.cfg.Store.InsertLag(ctx, samples); err != nil && ctx.Err() == nil {
		p.cfg.Logger.Debug("storing lag", "error", err)
	}
}

// warn says once that half, and once that a fifth, of the time is left that the log keeps what is not projected.
func (p *Projector) warn(st Status) {
	share := 1.0
	if st.SecondsToLoss >= 0 {
		share = float64(st.SecondsToLoss) / p.cfg.Retention.Seconds()
	}
	level := 0
	switch {
	case share < 0.2:
		level = 2
	case share < 0.5:
		level = 1
	}
	if level > p.warned {
		p.cfg.Logger.Warn("changes will leave the log before they are projected", "seconds_to_data_loss", st.SecondsToLoss, "state", string(st.State),
			"reason", st.Reason)
	}
	p.warned = level
}

// measured takes over what the logs hold, and returns how far everybody is behind.
func (p *Projector) measured(ranges []Range) (samples []Lag) {
	s := &p.status
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.now()
	for _, r := range ranges {
		part := s.part(r.Partition)
		l := Lag{Topic: r.Topic, Partition: r.Partition, AtMS: now.UnixMilli(), LogStart: r.Start, LogEnd: r.End, ToLoss: -1}
		switch r.Topic {
		case p.cfg.ChangesTopic:
			part.LogEnd = r.End
			if part.taken <= part.Position || part.taken == 0 && part.Position < 0 {
				part.Position = max(part.Position, r.Read) // takeovers and leftovers are read, and nothing comes of them
			}
			part.behind(now)
			l.Component, l.Position, l.Records, l.MS = ComponentProjections, part.Position, part.Behind, part.BehindMS
			if s.retention > 0 && part.Behind > 0 && part.AtMS > 0 {
				l.ToLoss = max(s.retention-now.Sub(time.UnixMilli(part.AtMS)), 0)
			}
		case p.cfg.RawTopic:
			part.RawEnd = r.End
			if p.cfg.RawNext != nil {
				if next, ok := p.cfg.RawNext(r.Partition); ok {
					part.RawNext = max(part.RawNext, next)
				}
			}
			l.Component, l.Position, l.Records = ComponentProcessor, part.RawNext, max(r.End-part.RawNext, 0)
		default:
			continue
		}
		samples = append(samples, l)
	}
	s.sampled = true
	s.judge()
	return samples
}
