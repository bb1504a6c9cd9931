package project

import (
	"context"
	"log/slog"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tidemark-dev/tidemark/projections/fold"
)

// life is a projector that runs until it is killed.
type life struct {
	*Projector
	kill func()
}

func start(t *testing.T, cfg Config, wg *sync.WaitGroup) *life {
	t.Helper()
	p, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	wg.Go(func() {
		if err := p.Run(ctx); err != nil {
			t.Error(err)
		}
	})
	return &life{p, cancel}
}

// written waits until everything in the log is.
func written(t *testing.T, l *logs, m *memory) {
	t.Helper()
	deadline := time.Now().Add(3 * time.Hour) // of the bubble
	for {
		l.mu.Lock()
		m.mu.Lock()
		done := true
		for p, groups := range l.groups {
			if n := len(groups); n > 0 && m.positions[int32(p)].CSN < groups[n-1].Next.SeenCSN {
				done = false
			}
		}
		m.mu.Unlock()
		l.mu.Unlock()
		if done {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("not written: %+v", m.positions)
		}
		time.Sleep(time.Second)
	}
}

func checkTotals(t *testing.T, seed uint64, l *logs, m *memory) {
	t.Helper()
	added, unchanged := l.totals()
	for _, level := range []fold.Level{fold.Minute, fold.Hour, fold.Day} {
		if a, u := m.totals(level); a != added || u != unchanged {
			t.Errorf("seed %d, level %d: %d added and %d unchanged, want %d and %d", seed, level, a, u, added, unchanged)
		}
	}
	var facts int
	for _, set := range m.facts {
		facts += len(set)
	}
	if uint64(facts) != added {
		t.Errorf("seed %d: %d facts, want %d", seed, facts, added)
	}
}

// J1, J2: stores that fail in every way, away for hours, projectors that are killed, two of them at once: what is written is what the log
// says.
func TestJ2_EverythingIsWrittenOnce(t *testing.T) {
	for seed := range uint64(60) {
		synctest.Test(t, func(t *testing.T) {
			rng := rand.New(rand.NewPCG(seed, 1))
			l, m := newLogs(rand.New(rand.NewPCG(seed, 6)), 3), newMemory(t, rand.New(rand.NewPCG(seed, 2)))
			m.bad = rng.IntN(60)
			cfg := testConfig(t, l, m)
			var wg sync.WaitGroup
			lives := []*life{start(t, cfg, &wg)}
			for range 30 {
				l.grow(1 + rng.IntN(20))
				switch rng.IntN(6) {
				case 0:
					m.mu.Lock()
					m.away = true
					m.mu.Unlock()
					time.Sleep(time.Duration(rng.IntN(7200)) * time.Second)
					m.mu.Lock()
					m.away = false
					m.mu.Unlock()
				case 1, 2:
					i := rng.IntN(len(lives))
					lives[i].kill()
					lives[i] = start(t, cfg, &wg)
				case 3:
					if len(lives) < 2 {
						lives = append(lives, start(t, cfg, &wg))
					}
				default:
					time.Sleep(time.Duration(rng.IntN(300)) * time.Millisecond)
				}
			}
			written(t, l, m)
			// Everybody has written what was under way.
			m.mu.Lock()
			m.bad = 0
			m.mu.Unlock()
			time.Sleep(time.Minute)
			for _, life := range lives {
				life.kill()
			}
			wg.Wait()
			checkTotals(t, seed, l, m)
			// J3.
			if limit := cfg.BatchRows + 20 + 3*3*20*4; m.largest > limit {
				t.Errorf("seed %d: a batch of %d rows", seed, m.largest)
			}
		})
	}
}

// J4: changes that retention took before they were projected are gone; everything else is there, and nothing is counted twice.
func TestJ4_RetentionWasFaster(t *testing.T) {
	for seed := range uint64(20) {
		synctest.Test(t, func(t *testing.T) {
			rng := rand.New(rand.NewPCG(seed, 3))
			l, m := newLogs(rand.New(rand.NewPCG(seed, 7)), 2), newMemory(t, rand.New(rand.NewPCG(seed, 4)))
			cfg := testConfig(t, l, m)
			var wg sync.WaitGroup
			first := start(t, cfg, &wg)
			l.grow(40)
			written(t, l, m)
			first.kill()
			wg.Wait()
			had, _ := m.totals(fold.Day)
			l.grow(80)
			l.trim(0.5 + rng.Float64()/3)
			kept := map[int32]uint64{}
			for p, groups := range l.groups {
				for _, g := range groups {
					for _, r := range g.Records {
						if g.Next.Offset > l.start[p] && r.Meta.Record {
							kept[int32(p)]++
						}
					}
				}
			}
			// What retention leaves out is not written in between.
			for p := range l.groups {
				m.written[int32(p)] = 1 << 40
			}
			second := start(t, cfg, &wg)
			written(t, l, m)
			second.kill()
			wg.Wait()
			var want uint64
			for p := range l.groups {
				want += kept[int32(p)]
			}
			for _, level := range []fold.Level{fold.Minute, fold.Hour, fold.Day} {
				total, _ := m.totals(level)
				var facts uint64
				for _, set := range m.facts {
					facts += uint64(len(set))
				}
				if total != facts || total < want || total < had {
					t.Errorf("seed %d: %d counted, %d facts; %d are in the log, %d were counted before", seed, total, facts, want, had)
				}
			}
		})
	}
}

// J4: a store that has lost the positions, and a log that has lost its head: what is summed up stays, and nothing is counted twice.
func TestJ4_PositionsAndTheHeadOfTheLogAreGone(t *testing.T) {
	for seed := range uint64(40) {
		synctest.Test(t, func(t *testing.T) {
			rng := rand.New(rand.NewPCG(seed, 8))
			l, m := newLogs(rand.New(rand.NewPCG(seed, 9)), 2), newMemory(t, rand.New(rand.NewPCG(seed, 10)))
			cfg := testConfig(t, l, m)
			var wg sync.WaitGroup
			first := start(t, cfg, &wg)
			l.grow(60)
			written(t, l, m)
			first.kill()
			wg.Wait()
			clear(m.positions)
			l.trim(rng.Float64())
			l.grow(20)
			second := start(t, cfg, &wg)
			written(t, l, m)
			second.kill()
			wg.Wait()
			checkTotals(t, seed, l, m)
		})
	}
}

// A store that is short of memory gets less at a time.
func TestJ2_RowsAreHalvedUnderPressure(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		rng := rand.New(rand.NewPCG(1, 5))
		l, m := newLogs(rng, 2), newMemory(t, rand.New(rand.NewPCG(1, 6)))
		m.trouble = Pressure
		cfg := testConfig(t, l, m)
		cfg.BatchRows = 5000
		l.grow(900)
		var wg sync.WaitGroup
		p := start(t, cfg, &wg)
		written(t, l, m)
		p.kill()
		wg.Wait()
		if m.largest < 4000 {
			t.Fatalf("the largest batch has %d rows", m.largest)
		}
		checkTotals(t, 1, l, m)
	})
}

// Status says what is the matter, and how long it may last.
func TestStatus_SaysHowLongItMayLast(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		rng := rand.New(rand.NewPCG(2, 5))
		l, m := newLogs(rng, 1), newMemory(t, rand.New(rand.NewPCG(2, 6)))
		cfg := testConfig(t, l, m)
		cfg.Now = func() time.Time { return time.UnixMilli(logEpoch).Add(time.Since(synctestEpoch)) }
		var logged strings.Builder
		cfg.Logger = slog.New(slog.NewTextHandler(&logged, nil))
		l.steady = true
		idle, err := New(cfg)
		if err != nil {
			t.Fatal(err)
		}
		if s := idle.Status(); s.State != Starting || s.SecondsToLoss != -1 {
			t.Errorf("%+v", s)
		}
		var wg sync.WaitGroup
		p := start(t, cfg, &wg)
		defer wg.Wait()
		defer p.kill()
		l.grow(3)
		written(t, l, m)
		time.Sleep(11 * time.Second)
		if s := p.Status(); s.State != Live || s.SecondsToLoss != -1 || s.Partitions[0].Behind != 0 || s.LastWrite.IsZero() {
			t.Errorf("%+v", s)
		}
		m.mu.Lock()
		m.away = true
		m.mu.Unlock()
		l.grow(3)
		time.Sleep(30 * time.Minute)
		s := p.Status()
		if s.State != Away || s.Reason != errBroken.Error() || s.Partitions[0].Behind == 0 {
			t.Errorf("%+v", s)
		}
		if s.SecondsToLoss < 20*60 || s.SecondsToLoss > 40*60 {
			t.Errorf("%d s to data loss, half an hour into an hour", s.SecondsToLoss)
		}
		time.Sleep(28 * time.Minute)
		synctest.Wait()
		if n := strings.Count(logged.String(), "will leave the log"); n != 2 {
			t.Errorf("%d warnings when a tenth of the time is left:\n%s", n, logged.String())
		}
		m.mu.Lock()
		m.trouble = Schema
		m.mu.Unlock()
		time.Sleep(time.Minute)
		if s := p.Status(); s.State != Blocked {
			t.Errorf("%+v", s)
		}
		m.mu.Lock()
		m.away = false
		m.mu.Unlock()
		time.Sleep(2 * time.Minute)
		if s := p.Status(); s.State != Live || s.SecondsToLoss != -1 {
			t.Errorf("%+v", s)
		}
	})
}

// synctestEpoch is when every bubble begins.
var synctestEpoch = time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC)

func TestNew_RefusesWhatCannotWork(t *testing.T) {
	for _, cfg := range []Config{{}, {Source: &logs{}}, {Source: &logs{}, Store: &memory{}}} {
		if _, err := New(cfg); err == nil {
			t.Errorf("%+v is accepted", cfg)
		}
	}
}
