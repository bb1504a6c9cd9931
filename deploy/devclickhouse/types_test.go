package devclickhouse_test

import (
	"encoding/json"
	"fmt"
	"math"
	"math/big"
	"net"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2"
	"github.com/google/uuid"
	"github.com/shopspring/decimal"
)

// modes are all compressions of clickhouse-go.
var modes = map[string]clickhouse.CompressionMethod{
	"none": clickhouse.CompressionNone, "lz4": clickhouse.CompressionLZ4, "zstd": clickhouse.CompressionZSTD,
	"gzip": clickhouse.CompressionGZIP, "deflate": clickhouse.CompressionDeflate, "br": clickhouse.CompressionBrotli,
}

func compressed(m clickhouse.CompressionMethod) func(*clickhouse.Options) {
	return func(o *clickhouse.Options) { o.Compression = &clickhouse.Compression{Method: m, Level: 1} }
}

func ptr[T any](v T) *T { return &v }

func bigInt(s string) *big.Int {
	n, ok := new(big.Int).SetString(s, 0)
	if !ok {
		panic(s)
	}
	return n
}

// typed is a column type, and two of its values as clickhouse-go takes and gives them.
type typed struct {
	sql    string
	values [2]any
}

func typeTable() []typed {
	at := time.Date(2026, 3, 29, 1, 59, 59, 123456789, time.UTC)
	return []typed{
		{"String", [2]any{"a\x00b\n\n; DROP TABLE x -- \xff", ""}},
		{"FixedString(4)", [2]any{"a\n\nb", "\x00\x00\x00\x01"}},
		{"LowCardinality(String)", [2]any{"low", "high"}},
		{"LowCardinality(Nullable(String))", [2]any{ptr("x"), (*string)(nil)}},
		{"Array(Array(UInt8))", [2]any{[][]uint8{{10, 10}, {}, {1}}, [][]uint8{}}},
		{"Array(LowCardinality(String))", [2]any{[]string{"a", "b", "a"}, []string{}}},
		{"Map(LowCardinality(String), Array(UInt32))", [2]any{map[string][]uint32{"k": {1, 2}, "": {}}, map[string][]uint32{}}},
		{"Map(String, String)", [2]any{map[string]string{"k": "v\n\n"}, map[string]string{}}},
		{"Date", [2]any{at.Truncate(24 * time.Hour), time.Unix(0, 0).UTC()}},
		{"Date32", [2]any{time.Date(1925, 1, 2, 0, 0, 0, 0, time.UTC), at.Truncate(24 * time.Hour)}},
		{"DateTime", [2]any{at.Truncate(time.Second), time.Unix(0x0a0a0a0a, 0).UTC()}},
		{"DateTime64(3)", [2]any{at.Truncate(time.Millisecond), time.Unix(0, 0).UTC()}},
		{"DateTime64(9, 'UTC')", [2]any{at, time.Unix(0, 1).UTC()}},
		{"UUID", [2]any{uuid.MustParse("0a0a0a0a-0000-4000-8000-000000000001"), uuid.UUID{}}},
		{"Decimal(18, 4)", [2]any{decimal.RequireFromString("12345678901234.5678"), decimal.RequireFromString("-0.0001")}},
		{"Decimal(38, 10)", [2]any{decimal.RequireFromString("-1234567890123456789012345678.0123456789"), decimal.RequireFromString("1")}},
		{"Nullable(Int32)", [2]any{ptr(int32(-7)), (*int32)(nil)}},
		{"Enum8('a' = 1, 'b' = -2)", [2]any{"a", "b"}},
		{"Enum16('x' = 1000, 'y' = -2000)", [2]any{"x", "y"}},
		{"Int8", [2]any{int8(-128), int8(10)}},
		{"Int16", [2]any{int16(-32768), int16(0x0a0a)}},
		{"Int32", [2]any{int32(math.MinInt32), int32(0x0a0a0a0a)}},
		{"Int64", [2]any{int64(math.MinInt64), int64(0x0a0a0a0a0a0a0a0a)}},
		{"UInt8", [2]any{uint8(255), uint8(10)}},
		{"UInt16", [2]any{uint16(65535), uint16(0x0a0a)}},
		{"UInt32", [2]any{uint32(math.MaxUint32), uint32(0x0a0a0a0a)}},
		{"UInt64", [2]any{uint64(math.MaxUint64), uint64(0x0a0a0a0a0a0a0a0a)}},
		{"Int128", [2]any{bigInt("-170141183460469231731687303715884105728"), bigInt("0x0a0a")}},
		{"UInt128", [2]any{bigInt("340282366920938463463374607431768211455"), bigInt("0")}},
		{"Int256", [2]any{bigInt("-57896044618658097711785492504343953926634992332820282019728792003956564819968"), bigInt("1")}},
		{"UInt256", [2]any{bigInt("1157920892373161954235709850086879078532699846656405640394575840079131296399"), bigInt("2")}},
		{"Float32", [2]any{float32(math.Pi), float32(math.Inf(-1))}},
		{"Float64", [2]any{math.Pi, math.SmallestNonzeroFloat64}},
		{"BFloat16", [2]any{float32(1.5), float32(-2)}},
		{"Bool", [2]any{true, false}},
		{"IPv4", [2]any{net.ParseIP("10.10.10.10").To4(), net.ParseIP("0.0.0.0").To4()}},
		{"IPv6", [2]any{net.ParseIP("2001:db8::a0a"), net.ParseIP("::1")}},
		{"Tuple(UInt8, String)", [2]any{[]any{uint8(1), "t"}, []any{uint8(0), ""}}},
		{"Tuple(n UInt32, s String)", [2]any{map[string]any{"n": uint32(10), "s": "t"}, map[string]any{"n": uint32(0), "s": ""}}},
		{"Time", [2]any{12*time.Hour + 3*time.Second, time.Duration(0)}},
		{"Time64(3)", [2]any{-time.Hour - 7*time.Millisecond, time.Millisecond}},
		{"Variant(String, UInt64)", [2]any{clickhouse.NewVariantWithType("v", "String"), clickhouse.NewVariantWithType(uint64(10), "UInt64")}},
		{"Dynamic", [2]any{clickhouse.NewDynamicWithType("d", "String"), clickhouse.NewDynamicWithType(int64(10), "Int64")}},
		{"JSON", [2]any{`{"a":{"b":"x\n\ny"},"n":10}`, `{}`}},
		{"SimpleAggregateFunction(max, UInt64)", [2]any{uint64(10), uint64(0)}},
		{"SimpleAggregateFunction(groupArrayArray, Array(String))", [2]any{[]string{"a"}, []string{}}},
	}
}

// same compares what was read with what was written. Types whose values have more than one form are compared by their text.
func sameValue(got, want any) bool {
	switch w := want.(type) {
	case time.Time:
		return got.(time.Time).Equal(w)
	case decimal.Decimal:
		return got.(decimal.Decimal).Equal(w)
	case *big.Int:
		g := got.(*big.Int)
		return g.Cmp(w) == 0
	case net.IP:
		return got.(net.IP).Equal(w)
	case clickhouse.Variant:
		g := got.(clickhouse.Variant)
		return reflect.DeepEqual(g.Any(), w.Any())
	}
	return reflect.DeepEqual(got, want)
}

// TestTypes writes and reads every type that clickhouse-go knows, in every compression.
func TestTypes(t *testing.T) {
	s := server(t)
	table := typeTable()
	for name, method := range modes {
		t.Run(name, func(t *testing.T) {
			_, use := database(t, s)
			c := open(t, s, use, compressed(method))
			var columns []string
			for i, col := range table {
				columns = append(columns, fmt.Sprintf("c%d %s", i, col.sql))
			}
			run(t, c, "CREATE TABLE t (row UInt32, "+strings.Join(columns, ", ")+") ENGINE = MergeTree ORDER BY row")
			batch, err := c.PrepareBatch(ctxOf(t), "INSERT INTO t")
			must(t, err)
			const rows = 100
			for row := range rows {
				values := []any{uint32(row)}
				for _, col := range table {
					values = append(values, col.values[row%2])
				}
				must(t, batch.Append(values...))
			}
			must(t, batch.Send())

			result, err := c.Query(ctxOf(t), "SELECT * FROM t ORDER BY row")
			must(t, err)
			defer result.Close()
			n := 0
			for ; result.Next(); n++ {
				var row uint32
				into := []any{&row}
				for _, col := range table {
					if col.sql == "JSON" {
						into = append(into, clickhouse.NewJSON())
					} else {
						into = append(into, reflect.New(reflect.TypeOf(col.values[0])).Interface())
					}
				}
				must(t, result.Scan(into...))
				for i, col := range table {
					want := col.values[row%2]
					if col.sql == "JSON" {
						text, err := json.Marshal(into[i+1])
						must(t, err)
						if got := strings.ReplaceAll(string(text), `"n":"10"`, `"n":10`); got != want {
							t.Errorf("row %d: %s is %s, want %s", row, col.sql, got, want)
						}
						continue
					}
					if got := reflect.ValueOf(into[i+1]).Elem().Interface(); !sameValue(got, want) {
						t.Errorf("row %d: %s is %#v, want %#v", row, col.sql, got, want)
					}
				}
				if t.Failed() {
					return
				}
			}
			must(t, result.Err())
			if n != rows {
				t.Errorf("read %d rows, want %d", n, rows)
			}
		})
	}
}

// TestAggregateStates checks that states are stored and merged; no client reads them raw.
func TestAggregateStates(t *testing.T) {
	s := server(t)
	_, use := database(t, s)
	c := open(t, s, use)
	run(t, c, "CREATE TABLE t (k UInt8, u AggregateFunction(uniq, UInt64), q AggregateFunction(quantilesTDigest(0.5, 0.9), Float64)) ENGINE = AggregatingMergeTree ORDER BY k")
	for range 3 {
		run(t, c, "INSERT INTO t SELECT 1, uniqState(number), quantilesTDigestState(0.5, 0.9)(toFloat64(number)) FROM numbers(1000)")
	}
	run(t, c, "OPTIMIZE TABLE t FINAL")
	if n := count(t, c, "SELECT uniqMerge(u) FROM t"); n != 1000 {
		t.Errorf("merged states count %d, want 1000", n)
	}
}
