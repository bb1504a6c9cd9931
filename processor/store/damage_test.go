package store

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/tidemark-dev/tidemark/schemas/event"
	"github.com/tidemark-dev/tidemark/schemas/rulev"
	"github.com/tidemark-dev/tidemark/schemas/stream"
)

// closedStore is the directory of a store with some records, closed in order.
func closedStore(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	s, err := Open(Options{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	key := stream.ID{Environment: "dev", Integration: "crm", Connection: "acme", Model: "Contact"}.Key()
	g := &Group{State: rulev.State{Term: 1, NextCSN: 1}}
	for i := range uint64(500) {
		g.Records = append(g.Records, &Record{
			Op: event.OpAdded, Offset: int64(i), Stream: key, ID: fmt.Appendf(nil, "r%d", i), Payload: fmt.Appendf(nil, `{"n":%d}`, i),
			Meta: event.Meta{Term: 1, CSN: i + 1, SID: 1, RawOffset: int64(i), TS: 1, FirstSeen: 1, Rev: 1, Live: i + 1},
		})
		g.State.NextCSN++
	}
	g.NextOffset = int64(len(g.Records))
	if err := errors.Join(s.Apply(g), s.Close()); err != nil {
		t.Fatal(err)
	}
	return dir
}

// A store with damaged files says so, to whoever opens or reads it and by Damaged; it does not end the process, and it does not call
// damage what it should try again.
func TestDamage_IsToldAndNotDiedOf(t *testing.T) {
	flip := func(t *testing.T, path string) {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		text[len(text)/3] ^= 1
		if err := os.WriteFile(path, text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	remove := func(t *testing.T, path string) {
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
	}
	halve := func(t *testing.T, path string) {
		info, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.Truncate(path, info.Size()/2); err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range []struct {
		name, pattern string
		do            func(*testing.T, string)
	}{
		{"rows with a wrong bit", "meta/*.sst", flip}, {"half of the rows", "meta/*.sst", halve}, {"no rows", "meta/*.sst", remove},
		{"no manifest", "meta/MANIFEST-*", remove}, {"payloads with a wrong bit", "seg/*.seg", flip},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := closedStore(t)
			files, err := filepath.Glob(filepath.Join(dir, c.pattern))
			if err != nil || len(files) == 0 {
				t.Fatal(files, err)
			}
			for _, path := range files {
				c.do(t, path)
			}
			s, err := Open(Options{Dir: dir})
			if err != nil {
				if !errors.Is(err, ErrCorrupt) {
					t.Fatalf("it does not open, and does not call that damage: %v", err)
				}
				return
			}
			defer s.Abandon()
			err = errors.Join(
				s.Scan(1, func([]byte, *Version) error { return nil }),
				s.Versions(1, s.Live(1, 1000).ToArray(), func(*Row) error { return nil }),
			)
			if !errors.Is(err, ErrCorrupt) || !errors.Is(s.Damage(), ErrCorrupt) {
				t.Fatalf("reading: %v; damage: %v", err, s.Damage())
			}
			<-s.Damaged()
		})
	}
	t.Run("no place for more open files", func(t *testing.T) {
		if err := fmt.Errorf("opening: %w", &os.PathError{Op: "open", Path: "x", Err: syscall.EMFILE}); unfit(err) {
			t.Error("the machine's refusal is taken for damage")
		}
	})
	s, err := Open(Options{Dir: closedStore(t)})
	if err != nil || s.Damage() != nil {
		t.Fatal(err, s.Damage())
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
}
