package devkafka

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

var update = flag.Bool("update", false, "write testdata/saved anew, from this version of kfake")

const (
	savedDir     = "testdata/saved"
	savedCluster = "saved-by-an-earlier-version"
)

// TestSavedDirectory opens a directory that an earlier version wrote, as after a clean stop and as after a kill. It stands guard over
// upgrades of kfake, of whose files this package reads and writes some; write the directory anew only when its format is meant to
// change, and then keep the old one as well.
func TestSavedDirectory(t *testing.T) {
	first := rawBatch{producerID: 0, epoch: 0, records: []string{"idempotent 0", "idempotent 1"}}
	if *update {
		must(t, os.RemoveAll(savedDir))
		dir := t.TempDir()
		b := start(t, dir, func(c *Config) { c.ClusterID = savedCluster })
		must(t, b.CreateTopic("t", 2, map[string]string{"max.message.bytes": "123456"}))
		must(t, b.CreateTopic("empty", 1, nil))
		c := dialRaw(t, b.Addr())
		first.producerID, first.epoch = c.initProducer()
		if code, _ := c.produce("t", 0, first); code != 0 {
			t.Fatalf("code %d", code)
		}
		cl := newClient(t, b.Addr())
		for i := range 4 {
			produce(t, cl, "t", 1, fmt.Sprint("value ", i))
		}
		tx := newClient(t, b.Addr(), kgo.TransactionalID("tx"))
		for _, end := range []kgo.TransactionEndTry{kgo.TryAbort, kgo.TryCommit} {
			must(t, tx.BeginTransaction())
			produce(t, tx, "t", 1, fmt.Sprint("commit ", end))
			must(t, tx.EndTransaction(t.Context(), end))
		}
		must(t, b.Trim("t", 1, 2))
		commits := kadm.Offsets{}
		commits.AddOffset("t", 1, 3, -1)
		must(t, kadm.NewClient(cl).CommitAllOffsets(t.Context(), "group", commits))
		tx.Close()
		cl.Close()
		must(t, b.Close())
		must(t, os.Remove(filepath.Join(dir, lockFile)))
		must(t, os.WriteFile(filepath.Join(dir, "producer"), fmt.Append(nil, first.producerID), 0o600))
		must(t, os.CopyFS(savedDir, os.DirFS(dir)))
	}
	for _, killed := range []bool{false, true} {
		t.Run(fmt.Sprintf("killed=%v", killed), func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "copy")
			must(t, os.CopyFS(dir, os.DirFS(savedDir)))
			id, err := os.ReadFile(filepath.Join(dir, "producer"))
			must(t, err)
			_, err = fmt.Sscan(string(id), &first.producerID)
			must(t, err)
			if killed {
				must(t, os.Remove(filepath.Join(dir, cleanFile)))
			}
			b := start(t, dir, func(c *Config) { c.ClusterID = savedCluster })
			wantValues(t, readAll(t, b.Addr(), "t", 0), first.records...)
			wantValues(t, readAll(t, b.Addr(), "t", 1, kgo.FetchIsolationLevel(kgo.ReadCommitted())), "value 2", "value 3", fmt.Sprint("commit ", kgo.TryCommit))
			wantValues(t, readAll(t, b.Addr(), "empty", 0))
			if got := configsOf(b, "t")["max.message.bytes"]; got != "123456" {
				t.Errorf("max.message.bytes is %q", got)
			}
			if p := b.Cluster().PartitionInfo("t", 1); p.LogStartOffset != 2 {
				t.Errorf("log starts at %d", p.LogStartOffset)
			}
			commits, err := kadm.NewClient(newClient(t, b.Addr())).FetchOffsets(t.Context(), "group")
			must(t, err)
			if c, ok := commits.Lookup("t", 1); !ok || c.At != 3 {
				t.Errorf("the group has committed %d, %v", c.At, ok)
			}
			if code, base := dialRaw(t, b.Addr()).produce("t", 0, first); code != 0 || base != 0 {
				t.Errorf("a retry of what was stored: code %d, offset %d", code, base)
			}
			wantValues(t, readAll(t, b.Addr(), "t", 0), first.records...)
		})
	}
}
