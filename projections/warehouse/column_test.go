package warehouse

import (
	"bytes"
	"fmt"
	"reflect"
	"testing"

	chproto "github.com/ClickHouse/ch-go/proto"
	chcolumn "github.com/ClickHouse/clickhouse-go/v2/lib/column"
	"github.com/ClickHouse/clickhouse-go/v2/lib/proto"
)

// What we encode is what clickhouse-go decodes, for any part of a batch, and what it is given for its own batches.
func TestColumns_AreWhatTheDriverReads(t *testing.T) {
	r, seed := seeded(t)
	for _, distinct := range []int{1, 255, 256, 257, 70_000} {
		n := distinct + r.IntN(100)
		columns := []column{
			newWords("words"), newText("text"), newUint16("u16"), newUint32("u32"), newUint64("u64"), newInt64("i64"), newMillis("ms"), newSeconds("s"),
			&fixed[int8]{columnHeader: columnHeader{"action", actionEnum}}, &fixed[uint8]{columnHeader: columnHeader{"u8", "UInt8"}},
			&fixed[[16]byte]{columnHeader: columnHeader{"digest", "FixedString(16)"}},
			&wordLists{columnHeader: columnHeader{"lists", "Array(LowCardinality(String))"}}, &histogram{columnHeader: columnHeader{"hist", "Array(UInt32)"}},
		}
		fill := func(i int) {
			word := fmt.Sprint("w", i%distinct, "\n\n\x00\xff")
			if i%7 == 0 {
				word = ""
			}
			columns[0].(*words).add(word)
			columns[1].(*text).add(word)
			columns[2].(*fixed[uint16]).add(uint16(r.Uint32()))
			columns[3].(*fixed[uint32]).add(r.Uint32())
			columns[4].(*fixed[uint64]).add(r.Uint64())
			columns[5].(*fixed[int64]).add(int64(r.Uint64()))
			columns[6].(*fixed[int64]).add(r.Int64N(1 << 41))
			columns[7].(*fixed[uint32]).add(r.Uint32())
			columns[8].(*fixed[int8]).add(int8(1 + r.IntN(4)))
			columns[9].(*fixed[uint8]).add(uint8(r.Uint32()))
			columns[10].(*fixed[[16]byte]).add([16]byte{byte(i), 15: byte(r.Uint32())})
			var list []string
			for j := range r.IntN(4) {
				list = append(list, fmt.Sprint("f", (i+j)%distinct))
			}
			columns[11].(*wordLists).add(list)
			var h [histogramLen]uint32
			h[r.IntN(histogramLen)] = r.Uint32()
			columns[12].(*histogram).add(&h)
		}
		for _, whole := range []bool{true, false} { // a batch is reused
			for _, c := range columns {
				c.reset()
			}
			for i := range n {
				fill(i)
			}
			from, to := 0, n
			if !whole {
				from = r.IntN(n)
				to = from + 1 + r.IntN(n-from)
			}
			encoded := appendBlock(nil, columns, from, to)
			if most := blockSizeOf(columns, from, to); len(encoded) > most {
				t.Errorf("seed %d: a block of %d bytes is taken for one of at most %d", seed, len(encoded), most)
			}
			block := proto.Block{ServerContext: &chcolumn.ServerContext{}}
			reader := chproto.NewReader(bytes.NewReader(encoded))
			if err := block.Decode(reader, 0); err != nil {
				t.Fatalf("seed %d: %d distinct, rows %d to %d: %v", seed, distinct, from, to, err)
			}
			if _, err := reader.ReadByte(); err == nil {
				t.Errorf("seed %d: bytes behind the block", seed)
			}
			for i, c := range columns {
				given := proto.Block{ServerContext: &chcolumn.ServerContext{}}
				if err := given.AddColumn(c.header().name, chcolumn.Type(c.header().kind)); err != nil {
					t.Fatal(err)
				}
				if _, err := given.Columns[0].Append(c.values(from, to)); err != nil {
					t.Fatalf("%s: %v", c.header().name, err)
				}
				read := block.Columns[i]
				if read.Rows() != to-from || given.Columns[0].Rows() != to-from || c.rows() != n {
					t.Fatalf("seed %d: %s has %d rows, want %d", seed, c.header().name, read.Rows(), to-from)
				}
				source := c.values(from, to)
				for row := range to - from {
					got := read.Row(row, false)
					want := reflect.ValueOf(source).Index(row).Interface()
					switch c := c.(type) {
					case *words, *text, *wordLists, *histogram:
						if fmt.Sprintf("%q", got) != fmt.Sprintf("%q", want) {
							t.Fatalf("seed %d: %s, row %d: got %q, want %q", seed, c.header().name, row, got, want)
						}
					default: // the driver has its own types for numbers and times; it must read what it would have sent
						if sent := given.Columns[0].Row(row, false); !reflect.DeepEqual(got, sent) {
							t.Fatalf("seed %d: %s, row %d: got %v, the driver sends %v", seed, c.header().name, row, got, sent)
						}
					}
				}
			}
		}
	}
}
