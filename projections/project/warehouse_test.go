package project

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/tidemark-dev/tidemark/deploy/devclickhouse"
	"github.com/tidemark-dev/tidemark/deploy/devclickhouse/chtest"
	"github.com/tidemark-dev/tidemark/projections/fold"
	"github.com/tidemark-dev/tidemark/projections/warehouse"
	"github.com/tidemark-dev/tidemark/schemas/stream"
)

func TestMain(m *testing.M) {
	if devclickhouse.RunChild() {
		return
	}
	os.Exit(m.Run())
}

// site is a log, an engine and what runs on them.
type site struct {
	t    *testing.T
	logs *logs
	w    *warehouse.Warehouse
	keys *fold.Keys
}

func newSite(t *testing.T, seed uint64) *site {
	t.Helper()
	w, err := warehouse.Open(warehouse.Config{DSN: chtest.Start(t).DSN(false), Topology: warehouse.Embedded})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { w.Close() })
	keys, err := fold.NewKeys(make([]byte, 32))
	if err != nil {
		t.Fatal(err)
	}
	l := newLogs(rand.New(rand.NewPCG(seed, 20)), 3)
	l.steady = true
	return &site{t, l, w, keys}
}

// project runs a projector and a keeper, as a stack does, until f returns or the keeper says that they have to start anew; then it returns
// what the keeper said.
func (s *site) project(generation int, keep KeeperConfig, f func(store *Warehouse)) error {
	s.t.Helper()
	store := NewWarehouse(s.w, WarehouseConfig{Generation: generation, Boot: "one"})
	p, err := New(Config{
		Source: s.logs, Store: store, Keys: s.keys, WindowBits: 5, ChangesTopic: "changes", RawTopic: "raw", BatchWait: 20 * time.Millisecond,
		RetryMax: 200 * time.Millisecond,
	})
	if err != nil {
		s.t.Fatal(err)
	}
	keep.Warehouse, keep.Store, keep.WindowBits = s.w, store, 5
	k := NewKeeper(keep)
	ctx, cancel := context.WithCancel(s.t.Context())
	var changed error
	var wg sync.WaitGroup
	wg.Go(func() {
		changed = k.Run(ctx)
		cancel()
	})
	wg.Go(func() {
		if err := p.Run(ctx); err != nil {
			s.t.Error(err)
		}
	})
	if f != nil {
		f(store)
		cancel()
	}
	wg.Wait()
	if changed != nil {
		if err := k.Heal(s.t.Context()); err != nil {
			s.t.Error(err)
		}
	}
	return changed
}

// await polls a number.
func (s *site) await(want uint64, sql string) {
	s.t.Helper()
	var have uint64
	var err error
	for deadline := time.Now().Add(20 * time.Second); time.Now().Before(deadline); {
		if err = s.w.Conn().QueryRow(s.t.Context(), sql).Scan(&have); err == nil && have == want {
			return
		}
		timer := time.NewTimer(30 * time.Millisecond)
		<-timer.C
	}
	s.t.Fatalf("%s is %d, want %d: %v", sql, have, want, err)
}

const (
	askFacts = "SELECT count() FROM tidemark.v1_changes"
	askAdded = "SELECT sum(added) FROM tidemark.v1_changes_daily"
)

func (s *site) awaitAll() {
	s.t.Helper()
	added, unchanged := s.logs.totals()
	s.await(added, askFacts)
	for _, view := range []string{"v1_changes_per_minute", "v1_changes_hourly", "v1_changes_daily"} {
		s.await(added, "SELECT sum(added) FROM tidemark."+view)
		s.await(unchanged, "SELECT sum(unchanged) FROM tidemark."+view)
	}
}

// What was written wrong is found by the audit, and written again from the log.
func TestKeeper_HealsWhatAnAuditFinds(t *testing.T) {
	s := newSite(t, 1)
	s.logs.grow(60)
	if err := s.project(1, KeeperConfig{}, func(*Warehouse) { s.awaitAll() }); err != nil {
		t.Fatal(err)
	}
	// A disk, or an operator, loses a part of the sums.
	if err := s.w.Conn().Exec(t.Context(), "ALTER TABLE tidemark.changes_1d_g1 DELETE WHERE win = 32 AND kpart = 1 SETTINGS mutations_sync = 2"); err != nil {
		t.Fatal(err)
	}
	quick := KeeperConfig{LookEvery: 10 * time.Millisecond, AuditEvery: 20 * time.Millisecond, AuditAllEvery: 20 * time.Millisecond}
	if err := s.project(1, quick, nil); !errors.Is(err, ErrChanged) || !strings.Contains(err.Error(), "audit") {
		t.Fatalf("the audit says %v", err)
	}
	if err := s.project(1, KeeperConfig{}, func(*Warehouse) { s.awaitAll() }); err != nil {
		t.Fatal(err)
	}
	report, err := s.w.Audit(t.Context(), 1, warehouse.AuditRange{Window: 32})
	if err != nil || report.Mismatched != 0 || report.Windows == 0 {
		t.Errorf("%+v, %v", report, err)
	}
}

// A connection that is erased stays erased, though the log still has it, and though a projector was at work.
func TestKeeper_NoticesAnErasure(t *testing.T) {
	s := newSite(t, 2)
	s.logs.grow(60)
	err := s.project(1, KeeperConfig{LookEvery: 10 * time.Millisecond}, func(*Warehouse) {
		s.awaitAll()
		gone := warehouse.Erasure{Stream: stream.ID{Environment: "dev", Integration: "crm", Connection: "1-0"}, At: time.Now()}
		if err := s.w.Erase(t.Context(), gone); err != nil {
			t.Fatal(err)
		}
	})
	if err != nil && !errors.Is(err, ErrChanged) {
		t.Fatal(err)
	}
	if err := s.w.StoreProgress(t.Context(), 1, warehouse.Progress{Partition: 1, At: time.Now(), Position: `{"position":{"partition":1,"offset":-2}}`}); err != nil {
		t.Fatal(err)
	}
	s.logs.grow(5)
	if err := s.project(1, KeeperConfig{}, func(store *Warehouse) { s.awaitCaughtUp(store) }); err != nil {
		t.Fatal(err)
	}
	s.await(0, askFacts+" WHERE connection = '1-0'")
	s.await(0, "SELECT count() FROM tidemark.v1_timeline WHERE connection = '1-0'")
	s.await(0, "SELECT count() FROM tidemark.v1_changes_per_minute WHERE connection = '1-0'")
	s.await(0, "SELECT count() FROM tidemark.v1_streams WHERE connection = '1-0'")
	if err := s.w.Purge(t.Context()); err != nil {
		t.Fatal(err)
	}
	s.await(0, "SELECT count() FROM tidemark.changes_g1 WHERE connection = '1-0'")
	s.await(1, "SELECT toUInt64(count() > 0) FROM tidemark.v1_changes WHERE connection = '1-1'")
}

// awaitCaughtUp waits until the position of each partition is its last record.
func (s *site) awaitCaughtUp(store *Warehouse) {
	s.t.Helper()
	for deadline := time.Now().Add(20 * time.Second); time.Now().Before(deadline); {
		all, err := store.Positions(s.t.Context())
		done := err == nil
		for _, p := range all {
			groups := s.logs.groups[p.Partition]
			done = done && p.CSN == groups[len(groups)-1].Next.SeenCSN
		}
		if done && len(all) == len(s.logs.groups) {
			return
		}
		timer := time.NewTimer(30 * time.Millisecond)
		<-timer.C
	}
	s.t.Fatal("not caught up")
}

// A new generation is built beside the old one: out of the log, and out of the old one where the log is gone. It says the same, the views
// read it, and the projector follows.
func TestRebuild_SaysTheSame(t *testing.T) {
	for _, trimmed := range []float64{0, 0.55} {
		t.Run(fmt.Sprint(trimmed), func(t *testing.T) {
			s := newSite(t, 3)
			s.logs.grow(120)
			if err := s.project(1, KeeperConfig{}, func(*Warehouse) { s.awaitAll() }); err != nil {
				t.Fatal(err)
			}
			s.logs.trim(trimmed)
			cfg := RebuildConfig{
				Warehouse: s.w, Source: s.logs, Keys: s.keys, WindowBits: 5, ChangesTopic: "changes", RawTopic: "raw",
				Now: func() time.Time { return time.Now().AddDate(0, 0, 2) }, // what is compared ends yesterday
			}
			// One that was interrupted is in the way.
			if err := s.w.CreateGeneration(t.Context(), 2); err != nil {
				t.Fatal(err)
			}
			report, err := Rebuild(t.Context(), cfg)
			if err != nil {
				t.Fatal(err)
			}
			if report.From != 1 || report.To != 3 || !report.Switched || report.Copied != (trimmed > 0) || report.Parity.Compared == 0 ||
				report.Parity.Different != 0 || report.Mismatched != 0 {
				t.Fatalf("%+v", report)
			}
			s.awaitAll()
			err = s.project(1, KeeperConfig{LookEvery: 10 * time.Millisecond}, nil)
			if !errors.Is(err, ErrChanged) || !strings.Contains(err.Error(), "generation 3") {
				t.Fatalf("the keeper of generation 1 says %v", err)
			}
			s.logs.grow(10)
			if err := s.project(3, KeeperConfig{LookEvery: 10 * time.Millisecond}, func(*Warehouse) { s.awaitAll() }); err != nil {
				t.Fatal(err)
			}
			// And back: the old one is behind, and catches up.
			if err := Switch(t.Context(), s.w, 1); err != nil {
				t.Fatal(err)
			}
			if err := s.project(1, KeeperConfig{}, func(*Warehouse) { s.awaitAll() }); err != nil {
				t.Fatal(err)
			}
			if err := Switch(t.Context(), s.w, 7); err == nil {
				t.Error("the views read a generation that is not there")
			}
		})
	}
}

// A generation that says something else is not shown.
func TestRebuild_RefusesWhatDiffers(t *testing.T) {
	s := newSite(t, 4)
	s.logs.grow(40)
	if err := s.project(1, KeeperConfig{}, func(*Warehouse) { s.awaitAll() }); err != nil {
		t.Fatal(err)
	}
	if err := s.w.Conn().Exec(t.Context(), "ALTER TABLE tidemark.changes_1d_g1 DELETE WHERE win = 32 SETTINGS mutations_sync = 2"); err != nil {
		t.Fatal(err)
	}
	cfg := RebuildConfig{
		Warehouse: s.w, Source: s.logs, Keys: s.keys, WindowBits: 5, ChangesTopic: "changes", RawTopic: "raw",
		Now: func() time.Time { return time.Now().AddDate(0, 0, 2) },
	}
	report, err := Rebuild(t.Context(), cfg)
	if err != nil || report.Switched || report.Parity.Different == 0 || len(report.Parity.Differences) == 0 {
		t.Fatalf("%+v, %v", report, err)
	}
	cfg.Force = true
	if report, err = Rebuild(t.Context(), cfg); err != nil || !report.Switched {
		t.Fatalf("%+v, %v", report, err)
	}
	if err := s.project(report.To, KeeperConfig{}, func(*Warehouse) { s.awaitAll() }); err != nil {
		t.Fatal(err)
	}
}

// A server that was restarted on a machine that was not keeps what it had; on another one, what came last is written again.
func TestPositions_AfterARestart(t *testing.T) {
	dir := t.TempDir()
	ctx := t.Context()
	var want uint64
	for i, boot := range []string{"one", "one", "two"} {
		server := chtest.Start(t, func(c *devclickhouse.Config) { c.Dir = dir })
		w, err := warehouse.Open(warehouse.Config{DSN: server.DSN(false), Topology: warehouse.Embedded})
		if err != nil {
			t.Fatal(err)
		}
		store := NewWarehouse(w, WarehouseConfig{Boot: boot})
		if _, err := store.Prepare(ctx); err != nil {
			t.Fatal(err)
		}
		all, err := store.Positions(ctx)
		if err != nil {
			t.Fatal(err)
		}
		switch {
		case i == 0 && len(all) != 0, i == 1 && (len(all) != 1 || all[0].CSN != want), i == 2 && len(all) != 0:
			t.Errorf("start %d on boot %s: %+v", i, boot, all)
		}
		want = 77
		if err := store.SavePositions(ctx, []Progress{{Partition: 2, CSN: want}}); err != nil {
			t.Fatal(err)
		}
		w.Close()
		// A start time is known to the second, and compared with some slack.
		if err := server.Stop(ctx); err != nil {
			t.Fatal(err)
		}
		timer := time.NewTimer(7 * time.Second)
		<-timer.C
	}
}
