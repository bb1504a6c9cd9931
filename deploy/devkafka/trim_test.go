package devkafka

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
)

func wantRange(t testing.TB, b *Broker, topic string, start, end int64) {
	t.Helper()
	if p := b.Cluster().PartitionInfo(topic, 0); p.LogStartOffset != start || p.HighWatermark != end {
		t.Errorf("%s is [%d, %d), want [%d, %d)", topic, p.LogStartOffset, p.HighWatermark, start, end)
	}
}

// TestTrim_LeavesTheLastRecordAndHolds is invariant K4.
func TestTrim_LeavesTheLastRecordAndHolds(t *testing.T) {
	dir := t.TempDir()
	b := start(t, dir)
	must(t, b.CreateTopic("t", 1, nil))
	must(t, b.Trim("t", 0, 100)) // nothing there yet
	wantRange(t, b, "t", 0, 0)

	cl := newClient(t, b.Addr())
	for i := range 10 {
		produce(t, cl, "t", 0, fmt.Sprint(i))
	}
	for _, step := range []struct{ before, start int64 }{
		{0, 0}, {4, 4}, {2, 4}, {4, 4}, {7, 7}, {9, 9}, {10, 9}, {1 << 40, 9},
	} {
		must(t, b.Trim("t", 0, step.before))
		wantRange(t, b, "t", step.start, 10)
	}
	wantValues(t, readAll(t, b.Addr(), "t", 0), "9")
	if err := b.Trim("t", 0, -1); err == nil {
		t.Error("trimmed to a negative offset")
	}
	wantErr(t, b.Trim("nope", 0, 1), kerr.UnknownTopicOrPartition, "nope/0")
	wantErr(t, b.Trim("t", 1, 1), kerr.UnknownTopicOrPartition, "t/1")

	killed := start(t, crashCopy(t, dir))
	wantRange(t, killed, "t", 9, 10)
	produce(t, newClient(t, killed.Addr()), "t", 0, "10")
	wantValues(t, readAll(t, killed.Addr(), "t", 0), "9", "10")

	cl.Close()
	must(t, b.Close())
	b = start(t, dir)
	wantRange(t, b, "t", 9, 10)
	produce(t, newClient(t, b.Addr()), "t", 0, "10")
	wantValues(t, readAll(t, b.Addr(), "t", 0), "9", "10")
}

// A batch is stored as a whole, and so is a trim into the middle of one.
func TestTrim_IntoABatch(t *testing.T) {
	dir := t.TempDir()
	b := start(t, dir)
	must(t, b.CreateTopic("t", 1, nil))
	produce(t, newClient(t, b.Addr(), kgo.ProducerLinger(1e8)), "t", 0, "0", "1", "2", "3", "4")
	must(t, b.Trim("t", 0, 3))
	killed := start(t, crashCopy(t, dir))
	wantRange(t, killed, "t", 3, 5)
	wantValues(t, readAll(t, killed.Addr(), "t", 0), "3", "4")
}

// The same rule holds for the DeleteRecords of any client, -1 for everything included.
func TestTrim_DeleteRecordsOfAnyClient(t *testing.T) {
	dir := t.TempDir()
	b := start(t, dir)
	must(t, b.CreateTopic("t", 1, nil))
	cl := newClient(t, b.Addr())
	for i := range 5 {
		produce(t, cl, "t", 0, fmt.Sprint(i))
	}
	adm := kadm.NewClient(cl)
	del := func(at int64) (int64, error) {
		resp, err := adm.DeleteRecords(t.Context(), kadm.Offsets{"t": {0: {Topic: "t", At: at}}})
		must(t, err)
		r, _ := resp.Lookup("t", 0)
		return r.LowWatermark, r.Err
	}
	for _, step := range []struct{ at, low int64 }{{2, 2}, {1, 2}, {5, 4}, {-1, 4}} {
		if low, err := del(step.at); err != nil || low != step.low {
			t.Errorf("delete up to %d: low watermark %d, %v, want %d", step.at, low, err, step.low)
		}
	}
	if _, err := del(6); err != kerr.OffsetOutOfRange {
		t.Errorf("delete past the end: %v", err)
	}
	wantRange(t, b, "t", 4, 5)
	wantRange(t, start(t, crashCopy(t, dir)), "t", 4, 5)
}

// What is trimmed of a topic does not apply to the next topic of that name.
func TestTrim_EndsWithTheTopic(t *testing.T) {
	dir := t.TempDir()
	b := start(t, dir)
	fill := func(b *Broker) {
		must(t, b.CreateTopic("t", 1, nil))
		produce(t, newClient(t, b.Addr()), "t", 0, "0", "1", "2", "3")
	}
	fill(b)
	must(t, b.Trim("t", 0, 3))
	must(t, b.Cluster().DeleteTopic("t"))
	fill(b)
	killed := start(t, crashCopy(t, dir))
	wantRange(t, killed, "t", 0, 4)
	if n := len(killed.state.trims()); n != 0 {
		t.Errorf("%d trims kept of a topic that is gone", n)
	}
}

// Of two trims that overlap, the further one is kept.
func TestTrim_StateKeepsTheFurthest(t *testing.T) {
	s, err := loadState(t.TempDir())
	must(t, err)
	for _, at := range []int64{5, 3, 9, 1} {
		must(t, s.setTrim("id", 2, at))
	}
	again, err := loadState(s.dir)
	must(t, err)
	if got := again.trims()["id"][2]; got != 9 {
		t.Errorf("trim is kept at %d, want 9", got)
	}
	// One that cannot be saved is not taken for done.
	must(t, os.Mkdir(filepath.Join(s.dir, stateFile+tmpSuffix), 0o700))
	for partition, want := range map[int32]int64{2: 9, 3: 0} {
		if err := s.setTrim("id", partition, 20); err == nil {
			t.Error("saved to a directory that takes nothing")
		}
		if got := s.trims()["id"][partition]; got != want {
			t.Errorf("partition %d: trim is kept at %d, want %d", partition, got, want)
		}
	}
}

// An open transaction is not trimmed away from under its readers.
func TestTrim_StopsAtAnOpenTransaction(t *testing.T) {
	b := start(t, t.TempDir())
	must(t, b.CreateTopic("t", 1, nil))
	produce(t, newClient(t, b.Addr()), "t", 0, "0", "1")
	tx := newClient(t, b.Addr(), kgo.TransactionalID("tx"))
	must(t, tx.BeginTransaction())
	produce(t, tx, "t", 0, "2", "3")
	must(t, b.Trim("t", 0, 4))
	wantRange(t, b, "t", 2, 4)
	must(t, tx.EndTransaction(t.Context(), kgo.TryCommit))
	must(t, b.Trim("t", 0, 100))
	wantRange(t, b, "t", 4, 5) // the marker stays
}

// Whole files go back to the disk.
func TestTrim_FreesSpace(t *testing.T) {
	dir := t.TempDir()
	b := start(t, dir)
	must(t, b.CreateTopic("t", 1, map[string]string{"segment.bytes": "10000"}))
	cl := newClient(t, b.Addr())
	for range 20 {
		produce(t, cl, "t", 0, strings.Repeat("x", 5000))
	}
	before := logBytes(dir)
	must(t, b.Trim("t", 0, 19))
	if after := logBytes(dir); after > before/4 {
		t.Errorf("log is %d bytes, was %d before nearly all of it was trimmed", after, before)
	}
}
