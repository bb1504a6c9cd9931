package devkafka

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

const (
	killCycles      = 20
	killCyclesShort = 4
)

// TestKill_AckedRecordsStayWhereTheyWere is invariants K2 and K6: a broker process is killed again and again under a producer that
// outlives it. Every acknowledged record is there, at the offset that was acknowledged; offsets have no holes; nothing is there
// twice. Every fifth stop is an orderly one, so that files of an orderly stop are there to mislead the recovery after it.
func TestKill_AckedRecordsStayWhereTheyWere(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	if s := os.Getenv("DEVKAFKA_TEST_SEED"); s != "" {
		seed, _ = strconv.ParseUint(s, 10, 64)
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("DEVKAFKA_TEST_SEED=%d", seed)
		}
	})
	rng := rand.New(rand.NewPCG(seed, 0))
	cycles := killCycles
	if testing.Short() {
		cycles = killCyclesShort
	}

	const topic, partitions = "t", 4
	dir := t.TempDir()
	broker := startChild(t, dir, "127.0.0.1:0")
	addr := broker.addr
	createByProtocol(t, addr, topic, partitions)

	cl := newClient(t, addr, kgo.ProducerLinger(0), kgo.MaxBufferedRecords(2000), kgo.ProducerBatchMaxBytes(16<<10))
	type spot struct {
		partition int32
		offset    int64
	}
	var (
		mu    sync.Mutex
		acked = make(map[spot]string)
		count atomic.Int64
		lost  atomic.Int64
	)
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	var producing sync.WaitGroup
	producing.Go(func() {
		for i := 0; ctx.Err() == nil; i++ {
			value := fmt.Sprintf("record %d %0*d", i, i%400, 0)
			cl.Produce(context.Background(), &kgo.Record{Topic: topic, Partition: int32(i % partitions), Value: []byte(value)}, func(r *kgo.Record, err error) {
				if err != nil {
					lost.Add(1)
					t.Errorf("record %.20q: %v", r.Value, err)
					return
				}
				mu.Lock()
				acked[spot{r.Partition, r.Offset}] = string(r.Value)
				mu.Unlock()
				count.Add(1)
			})
		}
	})
	for cycle := range cycles {
		from, more := count.Load(), int64(500+rng.IntN(8000))
		waitFor(t, fmt.Sprintf("%d more records in cycle %d", more, cycle), func() bool { return count.Load() >= from+more })
		if cycle%5 == 4 {
			broker.stop()
		} else {
			broker.kill()
		}
		broker = startChild(t, dir, addr)
	}
	stop()
	producing.Wait()
	flush, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	must(t, cl.Flush(flush))

	read := 0
	seen := make(map[string]spot)
	for p := range int32(partitions) {
		for i, r := range readAll(t, addr, topic, p) {
			if r.Offset != int64(i) {
				t.Fatalf("partition %d: offset %d where %d is due", p, r.Offset, i)
			}
			at := spot{p, r.Offset}
			if want, ok := acked[at]; !ok || want != string(r.Value) {
				t.Errorf("%v holds %.20q, acknowledged was %.20q", at, r.Value, want)
			}
			if before, twice := seen[string(r.Value)]; twice {
				t.Errorf("%.20q is at %v and at %v", r.Value, before, at)
			}
			seen[string(r.Value)] = at
			read++
		}
	}
	if read != len(acked) {
		t.Errorf("%d records acknowledged, %d read", len(acked), read)
	}
	t.Logf("%d stops, %d records acknowledged, %d read", cycles, len(acked), read)
}
