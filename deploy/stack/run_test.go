package stack

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func testRunning(t *testing.T, budget time.Duration) *running {
	cfg := testConfig(t)
	cfg.ShutdownTimeout = budget
	s, err := New(cfg, testLogger(t))
	if err != nil {
		t.Fatal(err)
	}
	return &running{s: s, failed: make(chan error, 2)}
}

func TestRunning_StopsInReverseWithinOneBudget(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := testRunning(t, 10*time.Second)
		var order []string
		part := func(name string, takes time.Duration, err error) {
			r.onStop(name, func() error {
				time.Sleep(takes) // in virtual time
				order = append(order, name)
				return err
			})
		}
		part("first", 0, nil)
		part("second", 3*time.Second, errors.New("it is broken"))
		part("third", 6*time.Second, nil)
		ctx, cancel := context.WithCancel(t.Context())
		cancel() // that the stack was asked to stop does not shorten stopping
		err := r.stopAll(ctx)
		if err == nil || err.Error() != "stopping the second: it is broken" || !slices.Equal(order, []string{"third", "second", "first"}) {
			t.Errorf("%v, %v", order, err)
		}
	})
}

func TestRunning_WhatDoesNotStopInTimeIsLeft(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := testRunning(t, 10*time.Second)
		stopped := false
		r.onStop("below", func() error { stopped = true; return nil })
		release := make(chan struct{})
		r.onStop("stuck", func() error { <-release; return nil })
		began := time.Now()
		err := r.stopAll(t.Context())
		if err == nil || !strings.Contains(err.Error(), "stuck: not done within 10s") {
			t.Error(err)
		}
		if stopped || time.Since(began) != 10*time.Second {
			t.Errorf("stopped what a stuck part may still use: %v, after %s", stopped, time.Since(began))
		}
		close(release)
	})
}

// A part that ends before it was asked to fails the whole, and its error is reported once.
func TestRunning_APartThatEndsIsAFailure(t *testing.T) {
	broken := errors.New("it is broken")
	for _, c := range []struct {
		name string
		ends error
		want string
	}{{"with an error", broken, "running the part: it is broken"}, {"without one", nil, "running the part: it ended by itself"}} {
		t.Run(c.name, func(t *testing.T) {
			r := testRunning(t, time.Second)
			r.run(t.Context(), "part", func(context.Context) error { return c.ends })
			if err := <-r.failed; err == nil || err.Error() != c.want {
				t.Errorf("got %v", err)
			}
			if err := r.stopAll(t.Context()); err != nil {
				t.Errorf("reported again: %v", err)
			}
		})
	}
	// One that is asked to end reports what went wrong while it did.
	r := testRunning(t, time.Second)
	r.run(t.Context(), "part", func(ctx context.Context) error { <-ctx.Done(); return broken })
	if err := r.stopAll(t.Context()); !errors.Is(err, broken) {
		t.Errorf("got %v", err)
	}
	if len(r.failed) != 0 {
		t.Error("an orderly end is reported as a failure")
	}
}

func TestSplitMemory_LeavesRoom(t *testing.T) {
	for _, total := range []int64{memoryBytesMin, 512 << 20, 1 << 30, 8 << 30, 64 << 30} {
		for _, partitions := range []int32{1, 8, 64, 1024} {
			m := SplitMemory(total, partitions)
			// What is held for long, memtables at their worst.
			held := m.Hot + 3*m.Memtables + m.RowCache + m.SegmentCache + m.SegmentBuffer
			if held > total*3/4 {
				t.Errorf("%d MiB, %d partitions: %d MiB are held", total>>20, partitions, held>>20)
			}
			if heap := m.Hot + m.SegmentCache + m.SegmentBuffer; m.GoLimit < heap*3/2 || m.GoLimit > total-m.RowCache-m.Memtables {
				t.Errorf("%d MiB, %d partitions: heap limit %d MiB for %d MiB held", total>>20, partitions, m.GoLimit>>20, heap>>20)
			}
			if m.Fetch < 256<<10 || m.Fetched < 1 || m.Readers < 2 {
				t.Errorf("%d MiB, %d partitions: %+v", total>>20, partitions, m)
			}
		}
	}
}
