package batch_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/tidemark-dev/tidemark/processor/batch"
	"github.com/tidemark-dev/tidemark/schemas/event"
)

// Interoperability with an independent implementation of the format, franz-go, over the wire protocol.

func cluster(t *testing.T) (ctx context.Context, client func(...kgo.Opt) *kgo.Client) {
	c, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.SeedTopics(1, "t"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	t.Cleanup(cancel)
	return ctx, func(opts ...kgo.Opt) *kgo.Client {
		cl, err := kgo.NewClient(append(opts, kgo.SeedBrokers(c.ListenAddrs()...), kgo.DisableClientMetrics())...)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(cl.Close)
		return cl
	}
}

func records(n int) []*kgo.Record {
	out := make([]*kgo.Record, n)
	for i := range out {
		out[i] = &kgo.Record{
			Topic: "t", Timestamp: time.UnixMilli(1_700_000_000_000 + int64(i)),
			Key:   fmt.Appendf(nil, "key-%d", i),
			Value: bytes.Repeat(fmt.Appendf(nil, `{"i":%d},`, i), 40),
			Headers: []kgo.RecordHeader{{Key: "op", Value: []byte("ADDED")}, {Key: "m", Value: []byte{0, 255, byte(i)}},
				{Key: "null"}},
		}
	}
	out[0].Key, out[1].Value, out[2].Headers = nil, nil, nil
	return out
}

// topicID asks for the id that newer versions of the protocol name a topic by.
func topicID(ctx context.Context, t *testing.T, cl *kgo.Client) [16]byte {
	req := kmsg.NewPtrMetadataRequest()
	rt := kmsg.NewMetadataRequestTopic()
	rt.Topic = kmsg.StringPtr("t")
	req.Topics = append(req.Topics, rt)
	resp, err := req.RequestWith(ctx, cl)
	if err != nil {
		t.Fatal(err)
	}
	return resp.Topics[0].TopicID
}

func fetch(ctx context.Context, t *testing.T, cl *kgo.Client) []byte {
	req := kmsg.NewPtrFetchRequest()
	req.MaxWaitMillis, req.MinBytes, req.MaxBytes = 100, 1, 10<<20
	rt := kmsg.NewFetchRequestTopic()
	rt.Topic, rt.TopicID = "t", topicID(ctx, t, cl)
	rp := kmsg.NewFetchRequestTopicPartition()
	rp.PartitionMaxBytes = 10 << 20
	rt.Partitions = append(rt.Partitions, rp)
	req.Topics = append(req.Topics, rt)
	resp, err := cl.Broker(0).RetriableRequest(ctx, req)
	if err != nil {
		t.Fatal(err)
	}
	p := resp.(*kmsg.FetchResponse).Topics[0].Partitions[0]
	if p.ErrorCode != 0 {
		t.Fatal(kerr.ErrorForCode(p.ErrorCode))
	}
	return p.RecordBatches
}

func TestRead_WhatFranzGoWrites(t *testing.T) {
	for name, opts := range map[string][]kgo.Opt{
		"none":   {kgo.ProducerBatchCompression(kgo.NoCompression())},
		"gzip":   {kgo.ProducerBatchCompression(kgo.GzipCompression())},
		"snappy": {kgo.ProducerBatchCompression(kgo.SnappyCompression())},
		"lz4":    {kgo.ProducerBatchCompression(kgo.Lz4Compression())},
		"zstd":   {kgo.ProducerBatchCompression(kgo.ZstdCompression())},
	} {
		t.Run(name, func(t *testing.T) {
			ctx, client := cluster(t)
			cl := client(opts...)
			want := records(300)
			if err := cl.ProduceSync(ctx, want...).FirstErr(); err != nil {
				t.Fatal(err)
			}
			n := 0
			for rest := fetch(ctx, t, cl); len(rest) > 0; {
				var b batch.Batch
				var err error
				if b, rest, err = batch.Next(rest); err != nil {
					t.Fatal(err)
				}
				if b.Codec().String() != name {
					t.Fatalf("compressed with %v", b.Codec())
				}
				rs, err := batch.Decode(&b, 1<<20)
				if err != nil {
					t.Fatal(err)
				}
				var r batch.Record
				for {
					ok, err := rs.Next(&r)
					if err != nil {
						t.Fatal(err)
					}
					if !ok {
						break
					}
					same(t, &r, want[n], int64(n))
					n++
				}
				rs.Release()
			}
			if n != len(want) {
				t.Fatalf("%d records, want %d", n, len(want))
			}
		})
	}
}

func same(t *testing.T, r *batch.Record, w *kgo.Record, offset int64) {
	t.Helper()
	if r.Offset != offset || r.TS != w.Timestamp.UnixMilli() || !bytes.Equal(r.Key, w.Key) || !bytes.Equal(r.Value, w.Value) ||
		(r.Key == nil) != (w.Key == nil) || (r.Value == nil) != (w.Value == nil) || len(r.Headers) != len(w.Headers) {
		t.Fatalf("got %+v, want %+v", r, w)
	}
	for i, h := range r.Headers {
		if string(h.Key) != w.Headers[i].Key || !bytes.Equal(h.Value, w.Headers[i].Value) || (h.Value == nil) != (w.Headers[i].Value == nil) {
			t.Fatalf("header %d: got %q, want %q", i, h, w.Headers[i])
		}
	}
}

func TestWrite_FranzGoReads(t *testing.T) {
	for _, c := range []batch.Codec{batch.None, batch.Snappy, batch.LZ4, batch.Zstd} {
		t.Run(c.String(), func(t *testing.T) {
			ctx, client := cluster(t)
			cl := client(kgo.RequiredAcks(kgo.AllISRAcks()))
			consumer := client(kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{"t": {0: kgo.NewOffset().AtStart()}}))
			want := records(300)
			var b batch.Builder
			for _, w := range want {
				var hs []event.Header
				for _, h := range w.Headers {
					hs = append(hs, event.Header{Key: []byte(h.Key), Value: h.Value})
				}
				b.Append(w.Timestamp.UnixMilli(), w.Key, w.Value, hs)
			}
			raw := b.Build(nil, c)
			req := kmsg.NewPtrProduceRequest()
			req.Acks, req.TimeoutMillis = -1, 1000
			rt := kmsg.NewProduceRequestTopic()
			rt.Topic, rt.TopicID = "t", topicID(ctx, t, cl)
			rp := kmsg.NewProduceRequestTopicPartition()
			rp.Records = raw
			rt.Partitions = append(rt.Partitions, rp)
			req.Topics = append(req.Topics, rt)
			resp, err := cl.Broker(0).Request(ctx, req)
			if err != nil {
				t.Fatal(err)
			}
			if err := kerr.ErrorForCode(resp.(*kmsg.ProduceResponse).Topics[0].Partitions[0].ErrorCode); err != nil {
				t.Fatal(err)
			}
			for n := 0; n < len(want); {
				fs := consumer.PollFetches(ctx)
				if err := errors.Join(fs.Err(), ctx.Err()); err != nil {
					t.Fatal(err)
				}
				fs.EachRecord(func(r *kgo.Record) {
					got := batch.Record{Offset: r.Offset, TS: r.Timestamp.UnixMilli(), Key: r.Key, Value: r.Value}
					for _, h := range r.Headers {
						got.Headers = append(got.Headers, event.Header{Key: []byte(h.Key), Value: h.Value})
					}
					same(t, &got, want[n], int64(n))
					n++
				})
			}
			// What the broker stored is what we sent, but for the fields that are its own.
			if !batch.SameContent(fetch(ctx, t, cl), raw) {
				t.Fatal("the stored batch has other content")
			}
		})
	}
}
