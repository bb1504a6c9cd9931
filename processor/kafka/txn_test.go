package kafka

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"testing/synctest"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/tidemark-dev/tidemark/processor/batch"
)

func manyRecords(topic string, p int32, from, n int) (out []*kgo.Record) {
	for i := from; i < from+n; i++ {
		out = append(out, &kgo.Record{Topic: topic, Partition: p, Value: binary.BigEndian.AppendUint64(nil, uint64(i))})
	}
	return out
}

// TestReader_Transactions: transactions of several producers, interleaved with each other and with plain batches, some committed and
// some aborted. A Reader gets exactly what was committed, from any offset on, and never what is behind the last stable offset.
func TestReader_Transactions(t *testing.T) {
	for seed := range uint64(12) {
		synctest.Test(t, func(t *testing.T) { transactions(t, seed) })
	}
}

func transactions(t *testing.T, seed uint64) {
	rng := rand.New(rand.NewPCG(seed, 7))
	e := newEnv(t, true)
	l := e.open(func(c *Config) { c.FetchMaxBytes = 200 + rng.Int32N(3000) })
	const producers = 3
	type producer struct {
		cl   *kgo.Client
		open bool
		mine []int // numbers of the open transaction
	}
	ps := make([]*producer, producers)
	for i := range ps {
		ps[i] = &producer{cl: e.client(kgo.TransactionalID(fmt.Sprint("txn-", i)))}
	}
	plain := e.writer(l, 0)
	committed := make(map[int]bool)
	number := 0
	for range 120 {
		switch p := ps[rng.IntN(producers)]; rng.IntN(4) {
		case 0:
			n := 1 + rng.IntN(5)
			e.append(plain, names.Changes, number, n)
			for i := number; i < number+n; i++ {
				committed[i] = true
			}
			number += n
		case 1, 2:
			if !p.open {
				if err := p.cl.BeginTransaction(); err != nil {
					t.Fatal(err)
				}
				p.open = true
			}
			n := 1 + rng.IntN(5)
			if err := p.cl.ProduceSync(e.ctx, manyRecords(names.Changes, 0, number, n)...).FirstErr(); err != nil {
				t.Fatal(err)
			}
			p.mine = append(p.mine, ascending(number, n)...)
			number += n
		case 3:
			if !p.open {
				continue
			}
			commit := rng.IntN(2) == 0
			if err := p.cl.EndTransaction(e.ctx, kgo.TransactionEndTry(commit)); err != nil {
				t.Fatal(err)
			}
			for _, v := range p.mine {
				committed[v] = commit
			}
			p.open, p.mine = false, nil
		}
	}
	pending := false
	for _, p := range ps {
		pending = pending || p.open
	}
	info := e.PartitionInfo(names.Changes, 0)
	var want []int // in the order of the log, which is that of the numbers
	for i := range number {
		if committed[i] {
			want = append(want, i)
		}
	}

	// First up to the last stable offset, with transactions open.
	r := l.Reader(names.Changes, 0, 0)
	defer r.Close()
	var got []int
	offsets := make(map[int64]int) // of batches: how many numbers come before
	for r.Position() < info.LastStableOffset {
		bs, err := r.Next(e.ctx)
		if err != nil {
			t.Fatal(err)
		}
		for i := range bs {
			if bs[i].Control() || bs[i].Last >= info.LastStableOffset {
				t.Fatalf("%+v, the last stable offset is %d", bs[i], info.LastStableOffset)
			}
			offsets[bs[i].Base] = len(got)
			got = append(got, values(t, bs[i:i+1], 0)...)
		}
	}
	if len(got) > len(want) || !slices.Equal(got, want[:len(got)]) {
		t.Fatalf("seed %d:\n got %v\nwant %v", seed, got, want)
	}
	if r.Position() != info.LastStableOffset || r.EndOffset() != info.LastStableOffset || info.LastStableOffset < info.HighWatermark != pending {
		t.Fatalf("seed %d: position %d, end %d, stable %d, high watermark %d, pending %v", seed, r.Position(), r.EndOffset(), info.LastStableOffset, info.HighWatermark, pending)
	}
	if _, end, err := l.Bounds(e.ctx, names.Changes, 0); end != info.LastStableOffset || err != nil {
		t.Fatal(end, err)
	}

	// Then the rest.
	for _, p := range ps {
		if p.open {
			if err := p.cl.EndTransaction(e.ctx, kgo.TryAbort); err != nil {
				t.Fatal(err)
			}
		}
	}
	end := e.PartitionInfo(names.Changes, 0).HighWatermark
	for r.Position() < end {
		bs, err := r.Next(e.ctx)
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, values(t, bs, 0)...)
	}
	if !slices.Equal(got, want) || r.Position() != end {
		t.Fatalf("seed %d:\n got %v\nwant %v", seed, got, want)
	}

	// And from wherever one begins, also inside of aborted transactions.
	for from := int64(0); from < end; from += 1 + rng.Int64N(9) {
		r.SetPosition(from)
		var tail []int
		first := int64(-1)
		for r.Position() < end {
			bs, err := r.Next(e.ctx)
			if err != nil {
				t.Fatal(err)
			}
			if first < 0 && len(bs) > 0 {
				first = bs[0].Base
			}
			tail = append(tail, values(t, bs, 0)...)
		}
		if first < 0 {
			continue
		}
		if before, ok := offsets[first]; ok && !slices.Equal(tail, want[before:]) {
			t.Fatalf("seed %d, from %d:\n got %v\nwant %v", seed, from, tail, want[before:])
		}
	}
}

// marker is a control batch.
func marker(offset, producer int64) batch.Batch {
	return batch.Batch{Base: offset, Last: offset, ProducerID: producer, Attributes: 0x30}
}

// TestAbortedFilter: cases that a random run seldom has.
func TestAbortedFilter(t *testing.T) {
	data := func(base, last, producer int64) batch.Batch {
		return batch.Batch{Base: base, Last: last, ProducerID: producer, Attributes: 0x10}
	}
	plain := func(base, last, producer int64) batch.Batch {
		return batch.Batch{Base: base, Last: last, ProducerID: producer}
	}
	var f abortedFilter
	f.reset([]kmsg.FetchResponseTopicPartitionAbortedTransaction{{ProducerID: 1, FirstOffset: 20}, {ProducerID: 2, FirstOffset: 12}, {ProducerID: 1, FirstOffset: 5}})
	for _, c := range []struct {
		b    batch.Batch
		want string
	}{
		{data(0, 3, 1), kindData}, // an earlier transaction of 1, committed
		{marker(4, 1), kindControl}, {data(5, 6, 1), kindAborted},
		{data(7, 8, 2), kindData}, {marker(9, 2), kindControl}, {marker(10, 1), kindControl}, // 1 aborts
		{data(11, 11, 1), kindData}, {data(12, 14, 2), kindAborted}, {marker(15, 1), kindControl}, {plain(16, 17, 2), kindData},
		{data(18, 19, 3), kindData}, {data(20, 20, 1), kindAborted}, {marker(21, 2), kindControl}, {data(22, 22, 2), kindData},
		{data(23, 23, 1), kindAborted}, {marker(24, 7), kindControl}, {marker(25, 1), kindControl}, {data(26, 26, 1), kindData},
	} {
		if got := f.kind(&c.b); got != c.want {
			t.Fatalf("[%d, %d] of %d: got %s, want %s", c.b.Base, c.b.Last, c.b.ProducerID, got, c.want)
		}
	}
}
