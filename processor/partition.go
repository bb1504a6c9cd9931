package processor

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cenkalti/backoff/v4"

	"github.com/tidemark-dev/tidemark/processor/decide"
	"github.com/tidemark-dev/tidemark/processor/store"
	"github.com/tidemark-dev/tidemark/schemas/rulev"
)

// phase is where a partition stands.
type phase string

const (
	phaseStarting  phase = "starting"
	phaseBootstrap phase = "bootstrapping from the state topic"
	phaseFollow    phase = "catching up"
	phaseTakeover  phase = "taking over"
	phaseReplay    phase = "marking what open runs have seen"
	phaseOwned     phase = "owned"
	phaseStandBy   phase = "standing by"
	phaseRetry     phase = "retrying"
	phaseHalted    phase = "halted"
)

// partition is one partition on this node: its state, its follower, and its writer while it is owned.
type partition struct {
	id     int32
	cfg    *Config
	log    Log
	shared *shared
	logger *slog.Logger
	m      *Metrics

	mu      sync.RWMutex // also held for reading by whoever uses store: closing waits for them
	store   *store.Store
	follow  *follower
	phase   phase
	lastErr error
	term    uint64
	counts  atomic.Pointer[decided]
}

var (
	errForeignTerm = errors.New("another writer took the partition")
	errStopping    = errors.New("stopping")
	errHeadless    = errors.New("the disk is empty and the head of the log is gone")
	errAgain       = errors.New("bootstrapped")
)

// run keeps the partition alive until ctx ends. It returns an error only if the partition cannot go on: a halt is not such an error,
// for what was applied can still be read.
func (p *partition) run(ctx context.Context) error {
	retry := newBackoff(100*time.Millisecond, 5*time.Second)
	for {
		err := p.live(ctx)
		if ctx.Err() != nil {
			return err
		}
		var halt *rulev.HaltError
		if errors.As(err, &halt) {
			p.logger.Error("partition halted: its log breaks the protocol; keep the data and ask for help", "err", err)
			p.set(phaseHalted, err)
			<-ctx.Done()
			return p.closeStore(false)
		}
		if errors.Is(err, errAgain) && !errors.Is(err, errBootstrap) {
			continue
		}
		if errors.Is(err, store.ErrCorrupt) || errors.Is(err, errBootstrap) {
			if qerr := p.quarantine(err); qerr != nil {
				return qerr
			}
		}
		p.set(phaseRetry, err)
		p.logger.Warn("partition restarts", "err", err)
		if !sleep(ctx, retry.NextBackOff()) {
			return nil
		}
	}
}

func newBackoff(initial, most time.Duration) *backoff.ExponentialBackOff {
	return backoff.NewExponentialBackOff(backoff.WithInitialInterval(initial), backoff.WithMaxInterval(most), backoff.WithMaxElapsedTime(0))
}

// sleep waits; false if ctx ended first.
func sleep(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}

func (p *partition) set(ph phase, err error) {
	p.mu.Lock()
	p.phase, p.lastErr = ph, err
	p.mu.Unlock()
}

func (p *partition) dir() string {
	return p.cfg.FS.PathJoin(p.cfg.Dir, "p"+strconv.Itoa(int(p.id)))
}

// live opens the state, follows, and owns the partition as often as it can, until something about the state or the log fails.
func (p *partition) live(ctx context.Context) (err error) {
	p.set(phaseStarting, nil)
	n := int64(p.cfg.Decide.Partitions)
	const mib = 1 << 20
	st, err := store.Open(store.Options{
		Dir: p.dir(), FS: p.cfg.FS, MemtableBytes: uint64(min(64*mib, max(2*mib, p.cfg.MemtableBytes/n))), BlockCache: p.shared.rows,
		SegmentCache: p.shared.segments, SegmentBytes: p.cfg.SegmentBytes, BufferBytes: min(4*mib, max(mib/4, p.cfg.BufferBytes/n)),
		Logger: p.logger,
	})
	if err != nil {
		return err
	}
	if err := p.checkLog(ctx, st); errors.Is(err, errHeadless) {
		p.set(phaseBootstrap, nil)
		return errors.Join(p.bootstrap(ctx, st), st.Close(), errAgain)
	} else if err != nil {
		return errors.Join(err, st.Abandon())
	}
	f := newFollower(p.cfg, p.log, st, p.id)
	p.mu.Lock()
	p.store, p.follow, p.phase = st, f, phaseFollow
	p.mu.Unlock()
	defer func() {
		var halt *rulev.HaltError
		if errors.As(err, &halt) {
			return // what was applied before stays readable
		}
		err = errors.Join(err, p.closeStore(err == nil || ctx.Err() != nil && !errors.Is(err, store.ErrCorrupt)))
	}()

	fctx, stop := context.WithCancelCause(ctx)
	followed := make(chan error, 1)
	go func() {
		err := f.run(fctx)
		stop(err)
		followed <- err
	}()
	go func() {
		select {
		case <-st.Damaged(): // a page or a compaction may find what neither follower nor writer ever reads
			stop(st.Damage())
		case <-fctx.Done():
		}
	}()
	oerr := p.ownAsAssigned(fctx, f, st)
	stop(errStopping)
	ferr := <-followed
	switch {
	case ctx.Err() != nil:
		return nil
	case errors.Is(ferr, errStopping) || errors.Is(ferr, context.Canceled):
		return oerr
	default:
		return ferr
	}
}

// checkLog refuses a log that does not fit the state: it must still begin at or before the position at which the follower goes on.
func (p *partition) checkLog(ctx context.Context, st *store.Store) error {
	start, end, err := p.log.Bounds(ctx, p.cfg.Names.Changes, p.id)
	if err != nil {
		return fmt.Errorf("asking for the bounds of the log: %w", err)
	}
	resume := st.Resume()
	switch {
	case resume.Offset > end:
		return fmt.Errorf("%w: it is at offset %d of a log that ends at %d", store.ErrCorrupt, resume.Offset, end)
	case resume.Offset < 0 && start > 0:
		return errHeadless
	case resume.Offset >= 0 && resume.Offset < start:
		return fmt.Errorf("%w: it is at offset %d of a log that now begins at %d", store.ErrCorrupt, resume.Offset, start)
	}
	return nil
}

func (p *partition) closeStore(flush bool) error {
	p.mu.Lock()
	st := p.store
	p.store, p.follow = nil, nil
	p.mu.Unlock()
	if st == nil {
		return nil
	}
	if flush {
		return st.Close()
	}
	return st.Abandon()
}

// quarantine sets a corrupt state aside; the next start builds it again from the log.
func (p *partition) quarantine(cause error) error {
	to := p.dir() + ".quarantine-" + p.cfg.Now().UTC().Format("20060102T150405.000")
	p.logger.Error("local state set aside; it is built again from the log", "moved_to", to, "err", cause)
	if err := p.cfg.FS.Rename(p.dir(), to); err != nil {
		return fmt.Errorf("setting corrupt state aside: %w", err)
	}
	p.m.quarantines.Inc()
	return nil
}

// ownAsAssigned owns the partition, again and again, until ctx ends or the state fails. Errors are not told apart by their codes: after
// any of them everything in flight is dropped and the log is asked.
func (p *partition) ownAsAssigned(ctx context.Context, f *follower, st *store.Store) error {
	retry := newBackoff(100*time.Millisecond, 5*time.Second)
	dcfg := p.cfg.Decide
	dcfg.Partition, dcfg.Budget, dcfg.Logger = p.id, p.shared.budget, p.logger
	o := &owner{p: p, f: f, st: st, d: decide.New(dcfg, st)}
	defer o.d.Close()
	for ctx.Err() == nil {
		if !p.cfg.Assigned(p.id) {
			p.set(phaseStandBy, nil)
			if !sleep(ctx, p.cfg.StandBy) {
				break
			}
			continue
		}
		began := p.cfg.Now()
		err := o.own(ctx)
		if ctx.Err() != nil {
			break
		}
		if errors.Is(err, store.ErrCorrupt) {
			return err
		}
		p.m.termsLost.Inc()
		if p.cfg.Now().Sub(began) > time.Minute {
			retry.Reset()
		}
		// A writer that was shut out may learn it from any error; its own follower tells the truth a moment later.
		if errors.Is(err, errForeignTerm) || o.foreignSoon(ctx) {
			p.set(phaseStandBy, err)
			p.logger.Info("another writer took the partition, standing by", "err", err)
			jitter := time.Duration(p.cfg.Nonce()) * p.cfg.StandBy / 4 / (1 << 32)
			sleep(ctx, p.cfg.StandBy+jitter)
			continue
		}
		p.set(phaseRetry, err)
		p.logger.Warn("writer ends its term", "err", err)
		sleep(ctx, retry.NextBackOff())
	}
	return context.Cause(ctx)
}
