package follow

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/tidemark-dev/tidemark/schemas/cursor"
	"github.com/tidemark-dev/tidemark/schemas/errcode"
	"github.com/tidemark-dev/tidemark/schemas/rulev"
)

// ErrStop ends Run with nil when the function that takes the groups returns it.
var ErrStop = errors.New("stop following")

// Follower reads the changes topic. Run is for one goroutine at a time; Positions may be called at any time.
type Follower struct {
	cfg       Config
	aheadWait time.Duration

	mu        sync.Mutex
	positions map[int32]Position
}

// New checks the config. It does no I/O.
func New(cfg Config) (*Follower, error) {
	cfg, err := cfg.withDefaults()
	if err != nil {
		return nil, err
	}
	f := &Follower{cfg: cfg, aheadWait: aheadWait, positions: map[int32]Position{}}
	for _, p := range cfg.Positions {
		f.positions[p.Partition] = p
	}
	for _, p := range cfg.Partitions {
		if _, ok := f.positions[p]; !ok {
			f.positions[p] = Position{Partition: p, Offset: cfg.Begin}
		}
	}
	return f, nil
}

// Positions returns where each partition stands, by rising partition: behind the last group that was taken, or further if nothing
// valid followed it. A follower of all partitions knows them once it has reached the broker.
func (f *Follower) Positions() []Position {
	f.mu.Lock()
	defer f.mu.Unlock()
	out := make([]Position, 0, len(f.positions))
	for _, p := range f.positions {
		out = append(out, p)
	}
	slices.SortFunc(out, func(a, b Position) int { return cmp.Compare(a.Partition, b.Partition) })
	return out
}

func (f *Follower) setPosition(p Position) {
	f.mu.Lock()
	f.positions[p.Partition] = p
	f.mu.Unlock()
}

// Run delivers groups to take, one at a time, those of a partition in order, until ctx ends or take returns ErrStop: then it returns
// nil. It reconnects for ever. It returns the error of take as it is; *rulev.HaltError, *PositionError or errcode.PartitionHalted when
// the log cannot be followed; and what Config.StartWait asks for. Another Run goes on behind the last group that was taken.
func (f *Follower) Run(ctx context.Context, take func(Group) error) error {
	s := session{Follower: f, take: take, began: time.Now()}
	for pause := minPause; ; pause = min(2*pause, maxPause) {
		progressed, err := s.follow(ctx)
		var broken *brokenError
		switch {
		case errors.Is(err, ErrStop):
			return nil
		case errors.As(err, &broken):
			return broken.error
		case ctx.Err() != nil:
			return nil
		case !s.reached && f.cfg.StartWait > 0 && time.Since(s.began) >= f.cfg.StartWait:
			return s.cfg.unreachable(ctx, err, s.cfg.StartWait)
		}
		if progressed {
			pause = minPause
		}
		if pause == minPause {
			f.cfg.Logger.Warn("following the changes topic was interrupted, trying again", "topic", f.cfg.Names.Changes, "err", err)
		}
		f.cfg.Metrics.reconnects.Inc()
		if !s.reached && f.cfg.StartWait > 0 {
			pause = min(pause, max(f.cfg.StartWait-time.Since(s.began), time.Millisecond))
		}
		timer := time.NewTimer(pause/2 + rand.N(pause/2+1)) // a crowd must not come back all at once
		select {
		case <-ctx.Done():
			timer.Stop()
			return nil
		case <-timer.C:
		}
	}
}

const (
	minPause = 50 * time.Millisecond
	maxPause = 5 * time.Second
	// aheadWait is how long a position may be above the end of the log before it counts as lost: a new leader may take a moment
	// to learn how much is committed.
	aheadWait = 10 * time.Second
	// askWait bounds one round of questions to the broker.
	askWait = 10 * time.Second
)

// brokenError is an error that another connection does not mend.
type brokenError struct{ error }

func (e *brokenError) Unwrap() error { return e.error }

func final(err error) error { return &brokenError{err} }

// session is the state of one Run.
type session struct {
	*Follower
	take       func(Group) error
	began      time.Time
	reached    bool      // the broker has answered once
	aheadSince time.Time // a position is above the end of the log
	judges     map[int32]*judge
}

// unreachable says why the first contact failed.
func (c *Config) unreachable(ctx context.Context, err error, waited time.Duration) error {
	switch {
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case errors.Is(err, kerr.UnknownTopicOrPartition):
		return &errcode.Error{Code: errcode.TopicDrift, Err: err, Detail: fmt.Sprintf("There is no topic %s.", c.Names.Changes)}
	}
	return &errcode.Error{Code: errcode.Unreachable, Err: err, Detail: fmt.Sprintf("Tried %q for %v.", c.Seeds, waited.Round(time.Millisecond))}
}

// bounds is what the log holds of a partition: [start, end), as far as it is committed.
type bounds struct{ start, end int64 }

// follow reads over one connection until something goes wrong. progressed says that something was read.
func (s *session) follow(ctx context.Context) (progressed bool, err error) {
	log, err := s.cfg.bounds(ctx)
	if err != nil {
		return false, err
	}
	s.reached = true
	offsets, err := s.place(log)
	if err != nil {
		return false, err
	}
	cl, err := s.cfg.client(
		kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{s.cfg.Names.Changes: offsets}),
		kgo.ConsumeResetOffset(kgo.NoResetOffset()), // an offset that is gone is an error, never a jump
		kgo.FetchIsolationLevel(kgo.ReadCommitted()),
		kgo.FetchMaxBytes(int32(s.cfg.FetchBytes)),
		kgo.MaxDecompressBatchBytes(max(s.cfg.GroupBytes, 1<<20)),
	)
	if err != nil {
		return false, final(err)
	}
	defer cl.Close()
	for {
		fetches := cl.PollRecords(ctx, pollRecords)
		if ctx.Err() != nil {
			return progressed, context.Cause(ctx)
		}
		var failed error
		fetches.EachPartition(func(p kgo.FetchTopicPartition) {
			if failed != nil {
				return
			}
			progressed = progressed || len(p.Records) > 0
			if failed = s.partition(ctx, p.Partition, p.Records); failed == nil && p.Err != nil {
				failed = classify(p.Err)
			}
		})
		if failed != nil {
			return progressed, failed
		}
	}
}

// pollRecords bounds what is decoded at once.
const pollRecords = 10_000

// classify tells fetch errors that another connection may mend from those that it does not.
func classify(err error) error {
	var lost *kgo.ErrDataLoss
	switch {
	case errors.As(err, &lost):
		return final(&errcode.Error{Code: errcode.PartitionHalted, Err: err, Detail: fmt.Sprintf("Partition %d lost records that had been read.", lost.Partition)})
	case errors.Is(err, kgo.ErrMaxDecompress):
		return final(&errcode.Error{Code: errcode.PartitionHalted, Err: err, Detail: "A batch is larger than GroupBytes."})
	}
	return err // an offset out of range is told apart when the bounds are asked for again
}

// partition judges records of one partition and delivers the groups that they complete.
func (s *session) partition(ctx context.Context, partition int32, records []*kgo.Record) error {
	j := s.judges[partition]
	for _, k := range records {
		var rec Record
		if err := decode(k, &rec); err != nil {
			return final(err)
		}
		verdict, group, err := j.take(&rec)
		if err != nil {
			return final(err)
		}
		s.cfg.Metrics.records[verdict].Inc()
		if verdict != rulev.Committed {
			continue
		}
		s.cfg.Metrics.groups.Inc()
		if len(group) == 0 {
			continue
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		next, ok := j.position(partition, k.Offset)
		if !ok {
			panic("follow: no position behind a group") // the rule knows its state, and a group that is delivered ends behind from
		}
		if err := s.take(Group{Partition: partition, Records: group, Next: next}); err != nil {
			return final(err)
		}
		s.setPosition(next)
	}
	// What followed the last group was leftovers and TERMs: they need not be read again.
	if n := len(records); n != 0 {
		if next, ok := j.position(partition, records[n-1].Offset); ok {
			s.setPosition(next)
		}
	}
	return nil
}

// place makes a judge for each partition and says where to read from.
func (s *session) place(log map[int32]bounds) (map[int32]kgo.Offset, error) {
	s.mu.Lock()
	if len(s.positions) == 0 {
		for p := range log {
			s.positions[p] = Position{Partition: p, Offset: s.cfg.Begin}
		}
	}
	s.mu.Unlock()
	s.judges = map[int32]*judge{}
	offsets := map[int32]kgo.Offset{}
	ahead := false
	for _, p := range s.Positions() {
		b, ok := log[p.Partition]
		if !ok {
			return nil, final(errcode.New(errcode.TopicDrift, "Topic %s has %d partitions, and no partition %d.", s.cfg.Names.Changes, len(log), p.Partition))
		}
		if p.Cursor == "" && p.Offset < 0 { // once, so that a reconnect does not move it
			if p.Offset == OffsetEnd {
				p.Offset = b.end
			} else {
				p.Offset = b.start
			}
			s.setPosition(p)
		}
		j, offset, err := s.cfg.judge(p, b)
		var gone *PositionError
		if errors.As(err, &gone) && gone.Offset >= gone.End {
			if ahead = true; s.aheadSince.IsZero() {
				s.aheadSince = time.Now()
			}
			if time.Since(s.aheadSince) < s.aheadWait {
				return nil, err
			}
		}
		if err != nil {
			return nil, final(err)
		}
		s.judges[p.Partition], offsets[p.Partition] = j, kgo.NewOffset().At(offset)
	}
	if !ahead {
		s.aheadSince = time.Time{}
	}
	return offsets, nil
}

// judge makes the judge for a position, and says from where it must be fed.
func (c *Config) judge(p Position, log bounds) (*judge, int64, error) {
	j := &judge{seen: p.SeenCSN, heldBytes: c.GroupBytes}
	refuse := func(reason string) (*judge, int64, error) {
		return nil, 0, &PositionError{Partition: p.Partition, Offset: p.Offset, Start: log.start, End: log.end, Reason: reason}
	}
	last := p.Offset // the highest offset that must not be above the end
	if p.Cursor != "" {
		cur, err := cursor.Parse(p.Cursor)
		if err != nil {
			return nil, 0, fmt.Errorf("cursor of partition %d: %w", p.Partition, err)
		}
		j.cursor, p.Offset, last = &cur, cur.Offset, cur.Offset+1
	}
	switch {
	case p.Offset < log.start:
		return refuse("the records behind it have been removed")
	case last > log.end:
		return refuse("it is above the end")
	case j.cursor != nil:
		return j, p.Offset, nil
	case p.known():
		j.rule = rulev.NewReader[Record](p.State)
		j.exact, j.proven = p.Exact, p.State.Term
		return j, p.Offset, nil
	case p.Offset == 0:
		j.rule, j.exact = rulev.NewReader[Record](rulev.Start()), true
		return j, 0, nil
	}
	from := max(log.start, p.Offset-int64(c.LookBack))
	j.from = p.Offset
	if from == 0 {
		j.rule, j.exact = rulev.NewReader[Record](rulev.Start()), true
		return j, 0, nil
	}
	j.rule = rulev.NewReaderFromHistory[Record](nil)
	return j, from, nil
}

// bounds asks what the changes topic holds.
func (c *Config) bounds(ctx context.Context) (map[int32]bounds, error) {
	cl, err := c.client()
	if err != nil {
		return nil, final(err)
	}
	defer cl.Close()
	wait := askWait
	if c.StartWait > 0 {
		wait = min(wait, c.StartWait)
	}
	ctx, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	adm := kadm.NewClient(cl)
	starts, err := adm.ListStartOffsets(ctx, c.Names.Changes)
	if err == nil {
		err = starts.Error()
	}
	if err != nil {
		return nil, fmt.Errorf("asking for the start of topic %s: %w", c.Names.Changes, err)
	}
	ends, err := adm.ListCommittedOffsets(ctx, c.Names.Changes)
	if err == nil {
		err = ends.Error()
	}
	if err != nil {
		return nil, fmt.Errorf("asking for the end of topic %s: %w", c.Names.Changes, err)
	}
	out := map[int32]bounds{}
	starts.Each(func(start kadm.ListedOffset) {
		if end, ok := ends.Lookup(c.Names.Changes, start.Partition); ok {
			out[start.Partition] = bounds{start.Offset, end.Offset}
		}
	})
	if len(out) == 0 {
		return nil, fmt.Errorf("topic %s: %w", c.Names.Changes, kerr.UnknownTopicOrPartition)
	}
	return out, nil
}
