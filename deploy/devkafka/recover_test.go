package devkafka

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

// filled is a stopped broker's directory: topic t with one partition of ten batches, value i at offset i, in several files.
func filled(t testing.TB) (dir, partition string) {
	t.Helper()
	dir = t.TempDir()
	b := start(t, dir)
	must(t, b.CreateTopic("t", 1, map[string]string{"segment.bytes": "400"}))
	cl := newClient(t, b.Addr())
	for i := range 10 {
		produce(t, cl, "t", 0, fmt.Sprintf("%d %050d", i, 0))
	}
	cl.Close()
	must(t, b.Close())
	return dir, filepath.Join(dir, logDir, kfakePartitions, "t-0")
}

func filledValues() (out []string) {
	for i := range 10 {
		out = append(out, fmt.Sprintf("%d %050d", i, 0))
	}
	return out
}

// segmentsOf returns the partition's segment files, in order of their offsets.
func segmentsOf(t testing.TB, partition string) []string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(partition, "*"+segmentSuffix))
	must(t, err)
	if len(files) < 3 { // in order, as offsets are below 10
		t.Fatalf("only the segments %v", files)
	}
	return files
}

// edit changes a file.
func edit(t testing.TB, path string, change func([]byte) []byte) {
	t.Helper()
	data, err := os.ReadFile(path)
	must(t, err)
	must(t, os.WriteFile(path, change(data), 0o600))
}

// contents is a directory as one value, to see that nothing in it changed.
func contents(t testing.TB, dir string) string {
	t.Helper()
	var out bytes.Buffer
	must(t, filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() || d.Name() == lockFile {
			return err
		}
		data, err := os.ReadFile(path)
		fmt.Fprintf(&out, "%s %x\n", path, data)
		return err
	}))
	return out.String()
}

// TestVerify_DamageIsRefused is invariant K8. kfake cuts a damaged segment off, or starts empty, without an error.
func TestVerify_DamageIsRefused(t *testing.T) {
	flip := func(at int) func([]byte) []byte {
		return func(b []byte) []byte { b[(at+len(b))%len(b)] ^= 1; return b }
	}
	for _, c := range []struct {
		name   string
		damage func(t *testing.T, dir, partition string, segments []string)
		is     error
		says   string
		crash  bool // also damage when the last stop was a kill
	}{
		{"a flipped bit in an older segment", func(t *testing.T, _, _ string, s []string) { edit(t, s[0], flip(100)) }, ErrCorrupt, "the record batch at offset 0 is", true},
		{"a flipped bit at the end of an older segment", func(t *testing.T, _, _ string, s []string) { edit(t, s[1], flip(-1)) }, ErrCorrupt, "the record batch at offset", true},
		{"a flipped bit before a whole batch", func(t *testing.T, _, _ string, s []string) { edit(t, s[len(s)-1], flip(100)) }, ErrCorrupt, "the record batch at offset", true},
		{"a changed length before a whole batch", func(t *testing.T, _, _ string, s []string) { edit(t, s[len(s)-1], flip(10)) }, ErrCorrupt, "the record batch at offset", true},
		{"a torn end after a clean stop", func(t *testing.T, _, _ string, s []string) {
			edit(t, s[len(s)-1], func(b []byte) []byte { return b[:len(b)-1] })
		}, ErrCorrupt, "the record batch at offset", false},
		{"a missing segment", func(t *testing.T, _, _ string, s []string) { must(t, os.Remove(s[1])) }, ErrCorrupt, "next segment begins at", true},
		{"a segment under another name", func(t *testing.T, _, p string, s []string) {
			must(t, os.Rename(s[0], filepath.Join(p, "1.dat")))
		}, ErrCorrupt, "offset 0 where 1 is due", true},
		{"no list of topics", func(t *testing.T, dir, _ string, _ []string) {
			must(t, os.Remove(filepath.Join(dir, logDir, kfakeTopics)))
		}, ErrCorrupt, kfakeTopics, true},
		{"no description", func(t *testing.T, dir, _ string, _ []string) {
			must(t, os.Remove(filepath.Join(dir, logDir, kfakeMeta)))
		}, ErrCorrupt, kfakeMeta, true},
		{"a list of topics that is not JSON", func(t *testing.T, dir, _ string, _ []string) {
			edit(t, filepath.Join(dir, logDir, kfakeTopics), flip(0))
		}, ErrCorrupt, kfakeTopics, true},
		{"a state file that is not JSON", func(t *testing.T, dir, _ string, _ []string) { edit(t, filepath.Join(dir, stateFile), flip(0)) }, ErrCorrupt, stateFile, true},
		{"a newer broker's directory", func(t *testing.T, dir, _ string, _ []string) {
			edit(t, filepath.Join(dir, stateFile), func(b []byte) []byte { return bytes.Replace(b, []byte(`"format":1`), []byte(`"format":2`), 1) })
		}, ErrFormat, "format 2 where this version reads 1", true},
		{"a newer kfake's log", func(t *testing.T, dir, _ string, _ []string) {
			edit(t, filepath.Join(dir, logDir, kfakeMeta), func(b []byte) []byte { return bytes.Replace(b, []byte(`"version":1`), []byte(`"version":2`), 1) })
		}, ErrFormat, "version 2 where this program reads 1", true},
		{"a stray file among the partitions", func(t *testing.T, _, p string, _ []string) { must(t, os.WriteFile(p+"x", nil, 0o600)) }, ErrCorrupt, "t-0x", true},
	} {
		for _, crashed := range []bool{false, true} {
			if crashed && !c.crash {
				continue
			}
			t.Run(fmt.Sprintf("%s/crashed=%v", c.name, crashed), func(t *testing.T) {
				dir, partition := filled(t)
				if crashed {
					must(t, os.Remove(filepath.Join(dir, cleanFile)))
				}
				c.damage(t, dir, partition, segmentsOf(t, partition))
				before := contents(t, dir)
				_, err := Start(t.Context(), Config{DataDir: dir})
				wantErr(t, err, c.is, c.says, dir)
				if contents(t, dir) != before {
					t.Error("the refused start changed the directory")
				}
			})
		}
	}
}

// A write that a kill cut short is no damage: it was not acknowledged.
func TestVerify_TornEndIsCutOff(t *testing.T) {
	for _, cut := range []int{1, 60, 110} {
		dir, partition := filled(t)
		must(t, os.Remove(filepath.Join(dir, cleanFile)))
		s := segmentsOf(t, partition)
		edit(t, s[len(s)-1], func(b []byte) []byte { return b[:len(b)-cut] })
		lines := new(logLines)
		b := start(t, dir, func(c *Config) { c.Logger = lines.logger() })
		wantValues(t, readAll(t, b.Addr(), "t", 0), filledValues()[:9]...)
		if lines.count("torn_bytes=0") != 0 {
			t.Error("the log line says that nothing was torn")
		}
		produce(t, newClient(t, b.Addr()), "t", 0, "next")
		wantValues(t, readAll(t, b.Addr(), "t", 0), append(filledValues()[:9], "next")...)
	}
}

// A record may hold a record batch, as a copy of a log would; a torn write in it is still a torn write.
func TestVerify_TornBatchHoldingABatch(t *testing.T) {
	dir := t.TempDir()
	b := start(t, dir)
	must(t, b.CreateTopic("t", 1, nil))
	inner := string(rawBatch{records: []string{"inner"}}.encode())
	cl := newClient(t, b.Addr())
	produce(t, cl, "t", 0, "first")
	produce(t, cl, "t", 0, inner+strings.Repeat("x", 1000))
	crashed := crashCopy(t, dir)
	edit(t, filepath.Join(crashed, logDir, kfakePartitions, "t-0", "0.dat"), func(b []byte) []byte { return b[:len(b)-500] })
	wantValues(t, readAll(t, start(t, crashed).Addr(), "t", 0), "first")
}

// kfake leaves files behind when deleting a topic goes wrong; made again, the topic would serve the old records.
func TestVerify_OrphansAreSetAside(t *testing.T) {
	dir, partition := filled(t)
	for range 2 {
		must(t, os.CopyFS(strings.TrimSuffix(partition, "t-0")+"gone-0", os.DirFS(partition)))
		must(t, os.CopyFS(strings.TrimSuffix(partition, "t-0")+"t-1", os.DirFS(partition)))
		b := start(t, dir)
		must(t, b.CreateTopic("gone", 1, nil))
		produce(t, newClient(t, b.Addr()), "gone", 0, "new")
		wantValues(t, readAll(t, b.Addr(), "gone", 0), "new")
		wantValues(t, readAll(t, b.Addr(), "t", 0), filledValues()...)
		must(t, b.Cluster().DeleteTopic("gone"))
		must(t, b.Close())
	}
	aside, err := os.ReadDir(filepath.Join(dir, orphansDir))
	must(t, err)
	var names []string
	for _, e := range aside {
		names = append(names, e.Name())
	}
	if want := []string{"gone-0", "gone-0.1", "t-1", "t-1.1"}; !slices.Equal(names, want) {
		t.Errorf("set aside %v, want %v", names, want)
	}
}

// The first start may be killed anywhere; the next one must not take what it left for someone else's.
func TestStart_AfterAKilledFirstStart(t *testing.T) {
	whole := t.TempDir()
	b := start(t, whole)
	for _, left := range [][]string{
		{lockFile},
		{lockFile, stateFile + tmpSuffix},
		{lockFile, stateFile},
		{lockFile, stateFile, filepath.Join(logDir, kfakeMeta)},
		{lockFile, stateFile, filepath.Join(logDir, kfakeMeta), filepath.Join(logDir, kfakeTopics)},
	} {
		dir := t.TempDir()
		for _, name := range left {
			data, err := os.ReadFile(filepath.Join(whole, name))
			if err != nil && !strings.HasSuffix(name, tmpSuffix) {
				t.Fatal(err)
			}
			must(t, os.MkdirAll(filepath.Dir(filepath.Join(dir, name)), 0o700))
			must(t, os.WriteFile(filepath.Join(dir, name), data, 0o600))
		}
		again, err := Start(t.Context(), Config{DataDir: dir, ReserveBytes: -1})
		if err != nil {
			t.Errorf("with %v: %v", left, err)
			continue
		}
		must(t, again.CreateTopic("t", 1, nil))
		must(t, again.Close())
	}
	must(t, b.Close())
}

// TestRepair_StableTransactionalID is invariant K9. Without the repair, consumers never see what the producer commits after the
// kill, and after the next kill they see what was aborted.
func TestRepair_StableTransactionalID(t *testing.T) {
	dir := t.TempDir()
	b := start(t, dir)
	must(t, b.CreateTopic("t", 1, nil))
	must(t, b.CreateTopic("untouched", 1, nil))
	transact := func(b *Broker, value string, commit bool) {
		cl := newClient(t, b.Addr(), kgo.TransactionalID("stable"))
		must(t, cl.BeginTransaction())
		produce(t, cl, "t", 0, value)
		if commit {
			must(t, cl.EndTransaction(t.Context(), kgo.TryCommit))
		}
		// Otherwise the client dies with the broker; closing it says nothing to the broker.
		cl.Close()
	}
	committed := func(b *Broker, want ...string) {
		t.Helper()
		wantValues(t, readAll(t, b.Addr(), "t", 0, kgo.FetchIsolationLevel(kgo.ReadCommitted())), want...)
	}
	transact(b, "c1", true)
	transact(b, "open1", false)

	b = start(t, crashCopyOf(t, &dir))
	transact(b, "c2", true)
	transact(b, "c3", true)
	committed(b, "c1", "c2", "c3")

	b = start(t, crashCopyOf(t, &dir))
	committed(b, "c1", "c2", "c3")
	transact(b, "open2", false)

	b = start(t, crashCopyOf(t, &dir))
	transact(b, "c4", true)
	committed(b, "c1", "c2", "c3", "c4")
	must(t, b.Close())
	b = start(t, dir)
	committed(b, "c1", "c2", "c3", "c4")
	if info := b.Cluster().PartitionInfo("untouched", 0); info.HighWatermark != 0 {
		t.Errorf("a partition without records got %d markers", info.HighWatermark)
	}
}

// crashCopyOf is crashCopy, and moves dir on to the copy.
func crashCopyOf(t testing.TB, dir *string) string {
	*dir = crashCopy(t, *dir)
	return *dir
}

// After a clean stop a transaction is as open as before, and its producer may end it.
func TestRepair_CleanStopKeepsTransactionsOpen(t *testing.T) {
	dir := t.TempDir()
	addr := "127.0.0.1:0"
	b := start(t, dir)
	addr = b.Addr()
	must(t, b.CreateTopic("t", 1, nil))
	cl := newClient(t, addr, kgo.TransactionalID("tx"))
	must(t, cl.BeginTransaction())
	produce(t, cl, "t", 0, "a")
	must(t, b.Close())
	b = start(t, dir)
	if b.Addr() != addr {
		t.Fatalf("at %s now", b.Addr())
	}
	produce(t, cl, "t", 0, "b")
	must(t, cl.EndTransaction(t.Context(), kgo.TryCommit))
	wantValues(t, readAll(t, addr, "t", 0, kgo.FetchIsolationLevel(kgo.ReadCommitted())), "a", "b")
}

// A clean stop with an open transaction, a start, a kill before anything else: kfake takes the snapshot for good, and the
// transaction, which nobody can end any more, comes back as committed.
func TestRepair_StaleSnapshotIsNotBelieved(t *testing.T) {
	dir := t.TempDir()
	b := start(t, dir)
	must(t, b.CreateTopic("t", 1, nil))
	produce(t, newClient(t, b.Addr()), "t", 0, "a")
	cl := newClient(t, b.Addr(), kgo.TransactionalID("tx"))
	must(t, cl.BeginTransaction())
	produce(t, cl, "t", 0, "open")
	cl.Close()
	must(t, b.Close())
	start(t, dir)
	b = start(t, crashCopy(t, dir))
	produce(t, newClient(t, b.Addr()), "t", 0, "b")
	wantValues(t, readAll(t, b.Addr(), "t", 0, kgo.FetchIsolationLevel(kgo.ReadCommitted())), "a", "b")
}

// A kill between the writes of a batch and of its index entry: kfake would take each later entry for the batch before.
func TestRepair_IndexIsMadeToFit(t *testing.T) {
	dir := t.TempDir()
	b := start(t, dir)
	must(t, b.CreateTopic("t", 1, nil))
	produce(t, newClient(t, b.Addr()), "t", 0, "a")
	cl := newClient(t, b.Addr(), kgo.TransactionalID("tx"))
	must(t, cl.BeginTransaction())
	produce(t, cl, "t", 0, "open")
	crashed := crashCopy(t, dir)
	cl.Close()
	index := filepath.Join(crashed, logDir, kfakePartitions, "t-0", "0.idx")
	whole, err := os.ReadFile(index)
	must(t, err)
	if len(whole) != 2*indexEntryBytes {
		t.Fatalf("index of %d bytes", len(whole))
	}
	must(t, os.WriteFile(index, whole[:indexEntryBytes], 0o600))
	b = start(t, crashed)
	wantValues(t, readAll(t, b.Addr(), "t", 0, kgo.FetchIsolationLevel(kgo.ReadCommitted())), "a")
	again, err := os.ReadFile(index)
	must(t, err)
	// Compared without the timestamp, which nobody reads back: epoch, flag.
	for i := range 2 {
		is, want := again[i*indexEntryBytes:], whole[i*indexEntryBytes:]
		if !validIndexEntry(is[:indexEntryBytes]) || !bytes.Equal(is[2:6], want[2:6]) || is[14] != want[14] {
			t.Errorf("entry %d is %x, was %x", i, is[:indexEntryBytes], want[:indexEntryBytes])
		}
	}
}

// The sequence numbers read back from the log are those that kfake itself saves on a clean stop.
func TestWindows_AreWhatKfakeSaves(t *testing.T) {
	dir := t.TempDir()
	b := start(t, dir)
	must(t, b.CreateTopic("t", 3, nil))
	clients := []*kgo.Client{newClient(t, b.Addr()), newClient(t, b.Addr()), newClient(t, b.Addr(), kgo.TransactionalID("tx")), newClient(t, b.Addr(), kgo.DisableIdempotentWrite())}
	for round := range 8 {
		for i, cl := range clients {
			if i == 2 {
				must(t, cl.BeginTransaction())
			}
			for p := range int32(3) {
				if (round+i+int(p))%3 > 0 {
					produce(t, cl, "t", p, slices.Repeat([]string{"v"}, 1+round%3)...)
				}
			}
			if i == 2 {
				must(t, cl.EndTransaction(t.Context(), kgo.TryCommit))
			}
		}
	}
	for _, cl := range clients {
		cl.Close()
	}
	crashed := crashCopy(t, dir)
	must(t, b.Close())
	found, err := surveyLog(t.Context(), filepath.Join(crashed, logDir), false)
	must(t, err)
	must(t, found.windows.save(filepath.Join(crashed, logDir)))
	read := func(dir string) map[string]string {
		var file struct {
			Windows []struct {
				PID       int64
				Topic     string
				Partition int32
				Entries   []map[string]int64
				Count, At int
				Epoch     int
				Seen      bool
				NextSeq   int `json:"next_seq"`
			}
		}
		data, err := os.ReadFile(filepath.Join(dir, logDir, kfakeSequences))
		must(t, err)
		must(t, json.Unmarshal(data, &file))
		out := make(map[string]string)
		for _, w := range file.Windows {
			out[fmt.Sprint(w.PID, w.Topic, w.Partition)] = fmt.Sprint(w.Entries, w.Count, w.At, w.Epoch, w.Seen, w.NextSeq)
		}
		return out
	}
	got, want := read(crashed), read(dir)
	if len(want) != 9 {
		t.Errorf("kfake saved %d windows: %v", len(want), want)
	}
	for key := range want {
		if got[key] != want[key] {
			t.Errorf("%s: read back %s, kfake saved %s", key, got[key], want[key])
		}
	}
	if len(got) != len(want) {
		t.Errorf("%d windows read back, kfake saved %d", len(got), len(want))
	}
}

func TestVerify_EndsWithItsContext(t *testing.T) {
	dir, _ := filled(t)
	ctx, cancel := context.WithTimeout(t.Context(), -time.Second)
	defer cancel()
	_, err := Start(ctx, Config{DataDir: dir})
	wantErr(t, err, context.DeadlineExceeded, "checking the log")
	if clean, err := (&state{dir: dir}).stoppedCleanly(); err != nil || !clean {
		t.Errorf("clean %v, %v after a start that changed nothing", clean, err)
	}
}

func FuzzParseBatch(f *testing.F) {
	f.Add(rawBatch{records: []string{"a", "b"}}.encode(), int64(0))
	f.Add(rawBatch{producerID: 5, records: []string{"a"}, attributes: attrTransactional}.encode(), int64(7))
	f.Add(make([]byte, 100), int64(0))
	f.Fuzz(func(t *testing.T, data []byte, offset int64) {
		if b, ok := parseBatch(data); ok {
			if b.size < batchHeaderBytes || b.size > len(data) {
				t.Fatalf("batch of %d bytes in %d", b.size, len(data))
			}
			if again, ok := parseBatch(data[:b.size]); !ok || again != b {
				t.Fatalf("%+v alone is %+v, %v", b, again, ok)
			}
			if _, ok := parseBatch(data[:b.size-1]); ok {
				t.Fatal("a batch without its last byte is taken for whole")
			}
		}
		laterBatch(data, offset)
		ws := make(windows)
		for rest := data; ; {
			b, ok := parseBatch(rest)
			if !ok {
				break
			}
			ws.add("t", 0, b)
			rest = rest[b.size:]
		}
		for _, w := range ws {
			if w.Count == 0 || w.Count > windowBatches || w.At >= windowBatches {
				t.Fatalf("window %+v", w)
			}
		}
	})
}
