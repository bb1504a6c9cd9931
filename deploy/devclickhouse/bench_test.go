package devclickhouse_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"
	"github.com/google/uuid"

	"github.com/tidemark-dev/tidemark/deploy/devclickhouse/chtest"
)

// BenchmarkInsert writes batches of a table of events as an application does: most of the time is the client's, building them.
func BenchmarkInsert(b *testing.B) {
	s := chtest.Start(b)
	c := open(b, s)
	run(b, c, `CREATE TABLE t (at DateTime64(3), stream LowCardinality(String), op LowCardinality(String), partition UInt16, csn UInt64, id String,
		run UUID, size UInt32, fields Array(LowCardinality(String)), labels Map(LowCardinality(String), String), error Nullable(String), message String)
		ENGINE = MergeTree ORDER BY (stream, csn)`)
	at := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	runID := uuid.MustParse("0a0a0a0a-0000-4000-8000-000000000001")
	fill := func(batch driver.Batch, rows int) {
		for i := range rows {
			must(b, batch.Append(at.Add(time.Duration(i)*time.Millisecond), fmt.Sprintf("stream-%d", i%50), "UPDATED", uint16(i%8), uint64(i), fmt.Sprintf("id-%d", i),
				runID, uint32(i), []string{"a", "b"}, map[string]string{"k": "v"}, (*string)(nil), "a message of about sixty bytes, as they are in such a table ..."))
		}
	}
	for _, rows := range []int{100, 10_000, 100_000} {
		b.Run(fmt.Sprint(rows), func(b *testing.B) {
			var sending time.Duration
			for b.Loop() {
				batch, err := c.PrepareBatch(ctxOf(b), "INSERT INTO t")
				must(b, err)
				fill(batch, rows)
				began := time.Now()
				must(b, batch.Send())
				sending += time.Since(began)
			}
			b.ReportMetric(float64(rows*b.N)/b.Elapsed().Seconds(), "rows/s")
			b.ReportMetric(float64(sending.Microseconds())/1000/float64(b.N), "ms/send")
		})
	}
}

// BenchmarkSelect is the least that a statement costs, one client at a time and eight.
func BenchmarkSelect(b *testing.B) {
	s := chtest.Start(b)
	c := open(b, s)
	one := func() error {
		var n uint8
		return c.QueryRow(b.Context(), "SELECT 1").Scan(&n)
	}
	b.Run("one", func(b *testing.B) {
		for b.Loop() {
			must(b, one())
		}
	})
	b.Run("eight", func(b *testing.B) {
		b.SetParallelism(4)
		b.RunParallel(func(pb *testing.PB) {
			for pb.Next() {
				if err := one(); err != nil {
					b.Error(err)
				}
			}
		})
	})
}

// BenchmarkRead streams rows to the client.
func BenchmarkRead(b *testing.B) {
	s := chtest.Start(b)
	c := open(b, s)
	const rows = 1_000_000
	for b.Loop() {
		result, err := c.Query(ctxOf(b), "SELECT number, toString(number) FROM numbers(1000000)")
		must(b, err)
		n := 0
		for ; result.Next(); n++ {
		}
		must(b, result.Err())
		if n != rows {
			b.Fatalf("read %d rows", n)
		}
	}
	b.ReportMetric(float64(rows*b.N)/b.Elapsed().Seconds(), "rows/s")
}

// BenchmarkStart starts on a directory that has been used.
func BenchmarkStart(b *testing.B) {
	dir := b.TempDir()
	for b.Loop() {
		s := chtest.Start(b, in(dir))
		stop(b, s)
	}
}
