package warehouse

import (
	"testing"
	"time"
)

func TestProgress(t *testing.T) {
	w := ready(t, 1)
	ctx := t.Context()
	if got, err := w.LoadProgress(ctx, 1); err != nil || len(got) != 0 {
		t.Fatalf("%v, %v", got, err)
	}
	now := time.Now().UTC().Truncate(time.Millisecond)
	var all []Progress
	for i := range 30 { // one a minute, and not in order
		all = append(all, Progress{Partition: 5, At: now.Add(-time.Duration(i*7%30) * time.Minute), ToCSN: uint64(1000 - i*7%30), Position: `{"at":"` + string(rune('a'+i*7%30)) + `"}`})
	}
	all = append(all, Progress{Partition: 65535, At: now.Add(-time.Hour), ToCSN: 1<<63 + 1, Position: "p"})
	if err := w.StoreProgress(ctx, 1, all...); err != nil {
		t.Fatal(err)
	}
	if err := w.StoreProgress(ctx, 2, Progress{Partition: 5, At: now.Add(time.Hour), ToCSN: 5000}); err != nil {
		t.Fatal(err)
	}
	got, err := w.LoadProgress(ctx, 1)
	if err != nil {
		t.Fatal(err)
	}
	want := map[uint16]StoredProgress{
		5: {
			Newest:  Progress{Partition: 5, At: now, ToCSN: 1000, Position: `{"at":"a"}`},
			Earlier: Progress{Partition: 5, At: now.Add(-10 * time.Minute), ToCSN: 990, Position: `{"at":"k"}`},
		},
		65535: {Newest: Progress{Partition: 65535, At: now.Add(-time.Hour), ToCSN: 1<<63 + 1, Position: "p"}},
	}
	if len(got) != len(want) || got[5] != want[5] || got[65535] != want[65535] {
		t.Fatalf("got  %+v\nwant %+v", got, want)
	}
	// A row that another life of the server has taken.
	err = w.exec(ctx, "test", "INSERT INTO tidemark._progress (generation, kpart, at, to_csn, position, server_started_at) VALUES (1, 5, now64(3) + 60, 1001, 'q', now() - 1000)")
	if err != nil {
		t.Fatal(err)
	}
	if got, err = w.LoadProgress(ctx, 1); err != nil || !got[5].Newest.Restarted || got[5].Newest.ToCSN != 1001 || got[65535].Newest.Restarted {
		t.Errorf("%+v, %v", got, err)
	}
}
