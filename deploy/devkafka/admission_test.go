package devkafka

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// disk is a file system whose free space the test sets.
type disk struct{ free, asked atomic.Int64 }

func (d *disk) freeBytes(string) (int64, error) {
	d.asked.Add(1)
	return d.free.Load(), nil
}

func refusals(b *Broker) float64 {
	return testutil.ToFloat64(b.metrics.refused.WithLabelValues(refusedReserve))
}

// TestReserve_AckedIsReadable is invariant K3: while the disk fills up and is cleared again under a steady producer, what is
// acknowledged is what can be read, and reading goes on all the time.
func TestReserve_AckedIsReadable(t *testing.T) {
	const reserve = 1 << 20
	var d disk
	d.free.Store(10 * reserve)
	lines := new(logLines)
	dir := t.TempDir()
	b := start(t, dir, func(c *Config) {
		c.ReserveBytes, c.FreeBytes, c.Logger = reserve, d.freeBytes, lines.logger()
	})
	must(t, b.CreateTopic("t", 2, nil))
	cl := newClient(t, b.Addr(), kgo.ProducerLinger(0), kgo.MaxBufferedRecords(100))
	var (
		mu    sync.Mutex
		acked = make(map[string]int64)
		count atomic.Int64
	)
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	var producing sync.WaitGroup
	producing.Go(func() {
		for i := 0; ctx.Err() == nil; i++ {
			r := &kgo.Record{Topic: "t", Partition: int32(i % 2), Value: fmt.Appendf(nil, "%d %0100d", i, 0)}
			cl.Produce(context.Background(), r, func(r *kgo.Record, err error) {
				if err != nil {
					t.Errorf("record %d: %v", r.Offset, err)
					return
				}
				mu.Lock()
				defer mu.Unlock()
				acked[fmt.Sprintf("%d %s", r.Partition, r.Value)] = r.Offset
				count.Add(1)
			})
		}
	})
	refused := func() float64 { return refusals(b) }
	for round := range 3 {
		from := count.Load()
		waitFor(t, "records while there is space", func() bool { return count.Load() > from+100 })
		d.free.Store(reserve - 1)
		waitFor(t, "the metric to say that there is none", func() bool { return testutil.ToFloat64(b.metrics.producing) == 0 })
		before := refused() // and more than one, so that what was acknowledged before has been counted
		waitFor(t, "refusals while there is none", func() bool { return refused() > before+3 })
		stuck := count.Load()
		for p := range int32(2) {
			readAll(t, b.Addr(), "t", p)
		}
		if now := count.Load(); now != stuck {
			t.Errorf("%d records acknowledged below the reserve", now-stuck)
		}
		d.free.Store(2 * reserve)
		waitFor(t, "records once space is back", func() bool { return count.Load() > stuck+100 })
		if full, back := lines.count("disk reserve reached"), lines.count("space is back"); full != round+1 || back != round+1 {
			t.Errorf("round %d: %d and %d log lines of the two transitions, want one a round", round, full, back)
		}
	}
	stop()
	producing.Wait()
	must(t, cl.Flush(t.Context()))
	read := 0
	for p := range int32(2) {
		for _, r := range readAll(t, b.Addr(), "t", p) {
			read++
			if off, ok := acked[fmt.Sprintf("%d %s", p, r.Value)]; !ok || off != r.Offset {
				t.Errorf("partition %d offset %d holds %.10q, acknowledged at %d (%v)", p, r.Offset, r.Value, off, ok)
			}
		}
	}
	if read != len(acked) {
		t.Errorf("%d records acknowledged, %d readable", len(acked), read)
	}
}

// The refusal is one that clients retry, and a person understands.
func TestReserve_RefusalIsRetriableAndClear(t *testing.T) {
	var d disk
	b := start(t, t.TempDir(), func(c *Config) { c.ReserveBytes, c.FreeBytes = 1<<20, d.freeBytes })
	must(t, b.CreateTopic("t", 1, nil))
	req := kmsg.NewPtrProduceRequest()
	req.Version, req.Acks = 8, -1
	req.Topics = []kmsg.ProduceRequestTopic{{Topic: "t", Partitions: []kmsg.ProduceRequestTopicPartition{{Partition: 0, Records: make([]byte, 100)}}}}
	cl := newClient(t, b.Addr(), kgo.MaxVersions(versionsWithProduce8()))
	resp, err := req.RequestWith(t.Context(), cl)
	must(t, err)
	p := resp.Topics[0].Partitions[0]
	if err := kerr.ErrorForCode(p.ErrorCode); !kerr.IsRetriable(err) {
		t.Errorf("refused with %v, which clients do not retry", err)
	}
	if p.ErrorMessage == nil || !strings.Contains(*p.ErrorMessage, "reserve") {
		t.Errorf("refused with message %v", p.ErrorMessage)
	}
	if info := b.Cluster().PartitionInfo("t", 0); info.HighWatermark != 0 {
		t.Errorf("high watermark %d after a refusal", info.HighWatermark)
	}
}

func produceRequest(bytes int) *kmsg.ProduceRequest {
	req := kmsg.NewPtrProduceRequest()
	req.Topics = []kmsg.ProduceRequestTopic{{Partitions: []kmsg.ProduceRequestTopicPartition{{Records: make([]byte, bytes)}}}}
	return req
}

func testAdmission(t *testing.T, d *disk, reserve int64) (*admission, *logLines) {
	lines := new(logLines)
	m, err := newMetrics(nil)
	must(t, err)
	a, err := newAdmission(Config{DataDir: t.TempDir(), ReserveBytes: reserve, FreeBytes: d.freeBytes, Logger: lines.logger()}, &health{log: lines.logger(), metrics: m}, m)
	must(t, err)
	return a, lines
}

// Between measurements the admitted bytes count, so that the reserve holds however fast records come; and the kernel is asked at
// most every measureEvery.
func TestReserve_HoldsBetweenMeasurements(t *testing.T) {
	var d disk
	d.free.Store(1500)
	a, _ := testAdmission(t, &d, 1000)
	a.measured = time.Now().Add(time.Hour) // no measurement during the test
	admitted := 0
	for range 100 {
		if a.judge(produceRequest(30)); a.verdict == "" {
			admitted += 30
		}
	}
	if admitted != 480 {
		t.Errorf("%d bytes admitted of the 500 above the reserve, want 480", admitted)
	}
	if n := d.asked.Load(); n != 2 { // both at the start
		t.Errorf("free space was asked for %d times", n)
	}
}

// A request that alone would break the reserve is refused with a log line, and smaller ones wait for space as well: otherwise a
// producer of large records would starve in silence.
func TestReserve_LargeRequestIsReported(t *testing.T) {
	var d disk
	d.free.Store(2000)
	a, lines := testAdmission(t, &d, 1000)
	a.measured = time.Time{}
	a.judge(produceRequest(1001))
	if a.verdict != refusedReserve || lines.count("disk reserve reached") != 1 {
		t.Errorf("verdict %q, log %s", a.verdict, lines.buf.String())
	}
}

func TestReserve_HoversWithoutFlapping(t *testing.T) {
	var d disk
	d.free.Store(16000)
	a, lines := testAdmission(t, &d, 16000)
	for _, free := range []int64{15999, 16000, 16500, 15000, 16999} {
		d.free.Store(free)
		a.measure(0)
	}
	if !a.low || lines.count("msg=") != 1 {
		t.Errorf("low %v, log %s", a.low, lines.buf.String())
	}
	d.free.Store(17000)
	a.measure(0)
	if a.low || lines.count("space is back") != 1 {
		t.Errorf("low %v, log %s", a.low, lines.buf.String())
	}
}

func TestReserve_UnknownFreeSpaceIsNone(t *testing.T) {
	_, err := Start(t.Context(), Config{DataDir: t.TempDir(), FreeBytes: func(string) (int64, error) { return 0, os.ErrPermission }})
	wantErr(t, err, os.ErrPermission, "free space")
	var d disk
	d.free.Store(1 << 40)
	a, _ := testAdmission(t, &d, 1000)
	a.freeBytes = func(string) (int64, error) { return 1 << 40, os.ErrPermission }
	a.measured = time.Time{}
	if a.judge(produceRequest(1)); a.verdict != refusedReserve {
		t.Errorf("verdict %q while free space is unknown", a.verdict)
	}
}

// Every byte is counted once, however many partitions a request is for.
func TestSize_RunningSumIsExact(t *testing.T) {
	dir := t.TempDir()
	b := start(t, dir)
	must(t, b.CreateTopic("t", 4, nil))
	sum := func() int64 { return int64(testutil.ToFloat64(b.metrics.dataBytes)) }
	before := sum()
	cl := newClient(t, b.Addr(), kgo.ProducerLinger(50*time.Millisecond))
	for range 3 {
		var records []*kgo.Record
		for i := range 40 {
			records = append(records, &kgo.Record{Topic: "t", Partition: int32(i % 4), Value: make([]byte, 100)})
		}
		must(t, cl.ProduceSync(t.Context(), records...).FirstErr())
	}
	segments, err := filepath.Glob(filepath.Join(dir, logDir, kfakePartitions, "*", "*"+segmentSuffix))
	must(t, err)
	var written int64
	for _, path := range segments {
		info, err := os.Stat(path)
		must(t, err)
		written += info.Size()
	}
	if grown := sum() - before; grown != written || written == 0 {
		t.Errorf("the sum grew by %d bytes, the segments by %d", grown, written)
	}
}

// The size of the log is warned of once, and again when it has doubled; trims count.
func TestSize_WarnsAtEachDoubling(t *testing.T) {
	var d disk
	d.free.Store(1 << 50)
	a, lines := testAdmission(t, &d, 0)
	must(t, os.MkdirAll(a.logDir, 0o700))
	grow := func(to int64) { // a sparse file stands for the log
		f, err := os.Create(filepath.Join(a.logDir, "0.dat"))
		must(t, err)
		must(t, f.Truncate(to))
		must(t, f.Close())
	}
	for _, step := range []struct {
		size  int64
		lines int
	}{
		{warnBytes - 1, 0}, {warnBytes, 1}, {warnBytes + 1, 1}, {2*warnBytes - 1, 1}, {2 * warnBytes, 2}, {100, 2}, {5 * warnBytes, 3},
	} {
		grow(step.size)
		a.lookAt = 0 // the running sum has reached the next look
		a.judge(produceRequest(1))
		if n := lines.count("the embedded log is large"); n != step.lines {
			t.Errorf("%d warnings at %d bytes, want %d", n, step.size, step.lines)
		}
		if a.size != step.size || a.lookAt < a.warnAt || a.lookAt < a.size+lookStep {
			t.Errorf("at %d bytes: size %d, next look at %d, next warning at %d", step.size, a.size, a.lookAt, a.warnAt)
		}
	}
	if n := testutil.ToFloat64(a.metrics.dataBytes); n != 5*warnBytes {
		t.Errorf("metric says %v", n)
	}
}

// TestStorageFailure_IsNeverAckedLater: kfake answers the first try of an append that failed with an error, and the second with
// success, having taken it for a duplicate. Here the second is refused too, until a restart, which then stores it.
func TestStorageFailure_IsNeverAckedLater(t *testing.T) {
	dir := t.TempDir()
	b := start(t, dir, func(c *Config) { c.Logger = new(logLines).logger() })
	must(t, b.CreateTopic("t", 2, nil))
	cl := newClient(t, b.Addr(), kgo.ProducerLinger(0), kgo.UnknownTopicRetries(-1))
	produce(t, cl, "t", 1, "before")

	// Nothing can be written to partition 0: a file is where its directory should be.
	blocker := filepath.Join(dir, logDir, kfakePartitions, "t-0")
	must(t, os.WriteFile(blocker, nil, 0o600))
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	first := &kgo.Record{Topic: "t", Partition: 0, Value: []byte("first")}
	if err := cl.ProduceSync(ctx, first).FirstErr(); err == nil {
		t.Fatal("acknowledged while the disk takes nothing")
	}
	must(t, os.Remove(blocker))
	if testutil.ToFloat64(b.metrics.storageFailures) == 0 {
		t.Error("no storage failure was counted: do kfake's log lines still begin as they did?")
	}

	// The same batch again, as a client would send it: producer, epoch and sequence are those of the first try.
	raw := rawBatch{producerID: 77, records: []string{"x"}}
	must(t, os.WriteFile(blocker, nil, 0o600))
	codeOf(t, b.Addr(), raw)
	must(t, os.Remove(blocker))
	for range 2 {
		if code := codeOf(t, b.Addr(), raw); code != kerr.KafkaStorageError.Code {
			t.Fatalf("the retry was answered with code %d", code)
		}
	}
	if info := b.Cluster().PartitionInfo("t", 0); info.HighWatermark != 0 {
		t.Fatalf("high watermark is %d", info.HighWatermark)
	}
	cl.Close()
	must(t, b.Close())
	if _, err := os.Stat(filepath.Join(dir, cleanFile)); !errors.Is(err, os.ErrNotExist) {
		t.Error("the stop counts as clean")
	}

	b = start(t, dir)
	if code := codeOf(t, b.Addr(), raw); code != 0 {
		t.Fatalf("after the restart the batch was answered with code %d", code)
	}
	wantValues(t, readAll(t, b.Addr(), "t", 0), "x")
	wantValues(t, readAll(t, b.Addr(), "t", 1), "before")
	if code := codeOf(t, b.Addr(), raw); code != 0 { // now a true duplicate
		t.Fatalf("the duplicate was answered with code %d", code)
	}
	wantValues(t, readAll(t, b.Addr(), "t", 0), "x")
}

func TestFreeBytes_AsksTheKernel(t *testing.T) {
	free, err := freeBytes(t.TempDir())
	if err != nil || free <= 0 {
		t.Errorf("%d bytes free, %v", free, err)
	}
	if _, err := freeBytes(filepath.Join(t.TempDir(), strconv.Itoa(1))); err == nil {
		t.Error("no error for a directory that is not there")
	}
}
