package kafka

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/tidemark-dev/tidemark/processor/batch"
	"github.com/tidemark-dev/tidemark/processor/kafka/faultconn"
)

// allErrors are the error codes of the protocol.
func allErrors() []*kerr.Error {
	var out []*kerr.Error
	for code := int16(-1); code < 200; code++ {
		if e := kerr.TypedErrorForCode(code); e != nil && e.Code == code {
			out = append(out, e)
		}
	}
	return out
}

// TestReader_SurvivesCodes: whatever code a broker answers a few times, on whatever request, if it can pass then Next waits for it to
// pass; what cannot is returned at once.
func TestReader_SurvivesCodes(t *testing.T) {
	for _, key := range []kmsg.Key{kmsg.Fetch, kmsg.Metadata} {
		for _, topLevel := range []bool{false, true} {
			if topLevel && key == kmsg.Metadata {
				continue // kfake has no such answer
			}
			for _, code := range allErrors() {
				if code == kerr.OffsetOutOfRange && key == kmsg.Fetch {
					continue // TestReader_OutOfRange
				}
				t.Run(fmt.Sprintf("%s/%s/top level %v", key.Name(), code.Message, topLevel), func(t *testing.T) {
					synctest.Test(t, func(t *testing.T) {
						e := newEnv(t, true)
						l := e.open()
						e.append(e.writer(l, 0), names.Changes, 0, 10)
						f := kfake.Fault{Keys: []kmsg.Key{key}, TopLevel: topLevel, Err: code, Count: 2}
						if !topLevel {
							f.Topic = names.Changes
						}
						h := e.Fault(f)
						r := l.Reader(names.Changes, 0, 0)
						defer r.Close()
						var got []int
						var err error
						for len(got) < 10 && err == nil {
							var bs []batch.Batch
							bs, err = r.Next(e.ctx)
							got = append(got, values(t, bs, 0)...)
						}
						want := code.Retriable || code == kerr.UnknownServerError
						switch {
						case h.Hits() == 0:
							t.Fatal("the fault was not met")
						case want && (err != nil || !slices.Equal(got, ascending(0, 10))):
							t.Fatalf("got %v, %v", got, err)
						case !want && !errors.Is(err, code):
							t.Fatalf("got %v, want %v", err, code)
						case !want && r.Position() != 0:
							t.Fatalf("an error moved the position to %d", r.Position())
						}
					})
				})
			}
		}
	}
}

// TestReader_SurvivesConnections: each kind of broken connection, several times over, in the middle of reading.
func TestReader_SurvivesConnections(t *testing.T) {
	for _, key := range []kmsg.Key{kmsg.Fetch, kmsg.Metadata, kmsg.ApiVersions} {
		for kind := faultconn.Close; kind <= faultconn.Delay; kind++ {
			t.Run(fmt.Sprintf("%s/%s", key.Name(), kind), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					e := newEnv(t, true)
					l := e.open(func(c *Config) { c.FetchMaxBytes = 1000 }) // many fetches
					w := e.writer(l, 0)
					for i := range 50 {
						e.append(w, names.Changes, i*10, 10)
					}
					r := l.Reader(names.Changes, 0, 0)
					defer r.Close()
					var got []int
					for i := range 5 {
						for range i + 1 {
							e.faults.Arm(int16(key), faultconn.Action{Kind: kind, Delay: 300 * time.Millisecond})
						}
						switch key { // something to ask
						case kmsg.ApiVersions:
							e.faults.CloseAll()
						case kmsg.Metadata:
							if err := e.MoveTopicPartition(names.Changes, 0, int32(i%3)); err != nil {
								t.Fatal(err)
							}
						}
						got = append(got, e.read(r, 100)...)
						r.SetPosition(int64(len(got)))
					}
					if !slices.Equal(got, ascending(0, 500)) {
						t.Fatalf("got %v", got)
					}
					if e.faults.Fired(int16(key)) < 5 {
						t.Fatalf("only %d faults", e.faults.Fired(int16(key)))
					}
				})
			})
		}
	}
}

func TestReader_SurvivesMovesAndOutages(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := newEnv(t, true)
		l := e.open(func(c *Config) { c.FetchMaxBytes = 2000 })
		r := l.Reader(names.Changes, 0, 0)
		defer r.Close()
		const n = 60
		var wg sync.WaitGroup
		wg.Go(func() {
			for i := range n {
				w := e.writer(l, 0)
				e.append(w, names.Changes, i*10, 10)
				w.Close()
				switch i % 4 {
				case 0:
					if err := e.MoveTopicPartition(names.Changes, 0, int32(i/4%3)); err != nil {
						t.Error(err)
					}
				case 1:
					e.ShufflePartitionLeaders()
				case 2:
					e.faults.CloseAll()
				case 3:
					e.faults.Refuse(true)
					time.Sleep(3 * time.Second)
					e.faults.Refuse(false)
				}
			}
		})
		if got := e.read(r, n*10); !slices.Equal(got, ascending(0, n*10)) {
			t.Fatal(got)
		}
		wg.Wait()
	})
}

// TestReader_SurvivesRestarts: the cluster goes away and comes back with what it had, on real files and sockets.
func TestReader_SurvivesRestarts(t *testing.T) {
	e := newEnv(t, false, kfake.DataDir(t.TempDir()))
	e.pin()
	l := e.open()
	r := l.Reader(names.Changes, 0, 0)
	defer r.Close()
	for i := range 4 {
		e.append(e.writer(l, 0), names.Changes, i*10, 10)
		if got := e.read(r, 10); !slices.Equal(got, ascending(i*10, 10)) {
			t.Fatal(got)
		}
		done := make(chan error)
		go func() { _, err := r.Next(e.ctx); done <- err }() // waits, or is cut off
		e.Close()
		e.start()
		if err := <-done; err != nil {
			t.Fatal(err)
		}
	}
}

// TestReader_ContextEnds: at any moment, with the reason for the trouble in the error if there was one.
func TestReader_ContextEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := newEnv(t, true)
		l := e.open(func(c *Config) { c.FetchMaxWait = 10 * time.Second })
		r := l.Reader(names.Changes, 0, 0)
		defer r.Close()
		for _, broken := range []bool{false, true} {
			if broken {
				e.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Fetch}, Topic: names.Changes, Err: kerr.KafkaStorageError, Count: -1})
			}
			ctx, cancel := context.WithTimeout(e.ctx, 3*time.Second)
			begun := time.Now()
			bs, err := r.Next(ctx)
			cancel()
			if !errors.Is(err, context.DeadlineExceeded) || bs != nil || time.Since(begun) != 3*time.Second {
				t.Fatalf("%v after %v", err, time.Since(begun))
			}
			if broken && !errors.Is(err, kerr.KafkaStorageError) {
				t.Fatalf("got %v, want to hear of the storage", err)
			}
		}
	})
}

// TestReader_Silence: a request that is never answered ends with its own bound, and is made again.
func TestReader_Silence(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := newEnv(t, true)
		l := e.open()
		e.append(e.writer(l, 0), names.Changes, 0, 10)
		e.faults.Arm(int16(kmsg.Fetch), faultconn.Action{Kind: faultconn.Silence})
		r := l.Reader(names.Changes, 0, 0)
		defer r.Close()
		begun := time.Now()
		if got := e.read(r, 10); len(got) != 10 {
			t.Fatal(got)
		}
		if d := time.Since(begun); d < 10*time.Second || d > 11*time.Second {
			t.Fatalf("took %v, the bound is 10 s", d)
		}
	})
}

func TestReader_OutOfRange(t *testing.T) {
	e := newEnv(t, false)
	l := e.open()
	w := e.writer(l, 0)
	for i := range 4 {
		e.append(w, names.Changes, i*10, 10)
	}
	if err := l.Trim(e.ctx, names.Changes, 0, 15); err != nil {
		t.Fatal(err)
	}
	if start, end, err := l.Bounds(e.ctx, names.Changes, 0); start != 15 || end != 40 || err != nil {
		t.Fatal(start, end, err)
	}
	for _, from := range []int64{0, 14, 41, 1000} {
		r := l.Reader(names.Changes, 0, from)
		_, err := r.Next(e.ctx)
		var oor *OutOfRangeError
		if !errors.As(err, &oor) || *oor != (OutOfRangeError{names.Changes, 0, from, 15, 40}) {
			t.Fatalf("from %d: got %v", from, err)
		}
		if r.Position() != from {
			t.Fatal("position moved")
		}
		r.SetPosition(20) // and it can go on
		if got := e.read(r, 20); !slices.Equal(got, ascending(20, 20)) {
			t.Fatal(got)
		}
		r.Close()
	}
	r := l.Reader(names.Changes, 0, 15)
	defer r.Close()
	if got := e.read(r, 25); !slices.Equal(got, ascending(15, 25)) || r.LogStart() != 15 {
		t.Fatal(got, r.LogStart())
	}
	// A broker that is wrong about the range, for a while.
	e.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Fetch}, Topic: names.Changes, Err: kerr.OffsetOutOfRange, Count: 2})
	if _, err := r.Next(e.ctx); err != nil {
		t.Fatal(err)
	}

	for _, before := range []int64{-1, 41} {
		var oor *OutOfRangeError
		if err := l.Trim(e.ctx, names.Changes, 0, before); !errors.As(err, &oor) || oor.Offset != before {
			t.Fatalf("trimming below %d: got %v", before, err)
		}
	}
	if err := l.Trim(e.ctx, names.Changes, 0, 3); err != nil {
		t.Fatal("trimming what is trimmed:", err)
	}
}

// TestTopicID: a topic that is deleted, or deleted and made again, is noticed by everyone who uses it, and by id, not by its offsets.
func TestTopicID(t *testing.T) {
	for _, again := range []bool{false, true} {
		for _, refused := range []error{nil, kerr.UnknownTopicID, kerr.InconsistentTopicID} {
			t.Run(fmt.Sprintf("again %v, %v", again, refused), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					e := newEnv(t, true)
					l := e.open()
					w := e.writer(l, 0)
					e.append(w, names.Changes, 0, 10)
					r := l.Reader(names.Changes, 0, 0)
					defer r.Close()
					e.read(r, 10)
					fresh := l.Reader(names.Changes, 0, 0)
					defer fresh.Close()

					if err := e.DeleteTopic(names.Changes); err != nil {
						t.Fatal(err)
					}
					if again {
						if err := e.CreateTopic(names.Changes, partitions, nil); err != nil {
							t.Fatal(err)
						}
						cl := e.client()
						if err := cl.ProduceSync(e.ctx, manyRecords(names.Changes, 0, 0, 50)...).FirstErr(); err != nil {
							t.Fatal(err)
						}
					}
					if refused != nil {
						e.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Fetch}, Topic: names.Changes, Err: refused.(*kerr.Error), Count: 1})
					}
					begun := time.Now()
					for _, r := range []*Reader{r, fresh} {
						if bs, err := r.Next(e.ctx); !errors.Is(err, ErrTopicID) || bs != nil {
							t.Fatalf("got %v, want ErrTopicID", err)
						}
					}
					if d := time.Since(begun); d > 30*time.Second || again && d > time.Second {
						t.Fatalf("took %v", d)
					}
					if _, _, err := l.Bounds(e.ctx, names.Changes, 0); !errors.Is(err, ErrTopicID) {
						t.Fatalf("Bounds: got %v", err)
					}
					if err := l.Trim(e.ctx, names.Changes, 0, 20); !errors.Is(err, ErrTopicID) {
						t.Fatalf("Trim: got %v", err)
					}
					if _, err := l.Partitions(e.ctx); !errors.Is(err, ErrTopicID) {
						t.Fatalf("Partitions: got %v", err)
					}
					if _, err := l.Writer(e.ctx, 0); !errors.Is(err, ErrTopicID) {
						t.Fatalf("Writer: got %v", err)
					}
					if _, err := w.Append(e.ctx, names.Changes, numbered(0, 1), nil); !errors.Is(err, ErrWriterDead) {
						t.Fatalf("Append: got %v", err)
					}
				})
			})
		}
	}
}

// serve makes the cluster answer fetches of partition 0 as f says.
func (e *env) serve(f func(asked int32, offset int64, p *kmsg.FetchResponseTopicPartition)) {
	e.ControlKey(int16(kmsg.Fetch), func(kreq kmsg.Request) (kmsg.Response, error, bool) {
		e.KeepControl()
		req := kreq.(*kmsg.FetchRequest)
		asked := req.Topics[0].Partitions[0]
		resp := req.ResponseKind().(*kmsg.FetchResponse)
		topic := kmsg.NewFetchResponseTopic()
		topic.Topic, topic.TopicID = req.Topics[0].Topic, req.Topics[0].TopicID
		p := kmsg.NewFetchResponseTopicPartition()
		p.Partition, p.HighWatermark, p.LastStableOffset, p.LogStartOffset = asked.Partition, 1e6, 1e6, 0
		p.RecordBatches = []byte{}
		f(asked.PartitionMaxBytes, asked.FetchOffset, &p)
		topic.Partitions = append(topic.Partitions, p)
		resp.Topics = append(resp.Topics, topic)
		return resp, nil, true
	})
}

// at returns a batch of numbers as a broker has it at an offset.
func at(offset int64, from, n int) []byte {
	raw := numbered(from, n).Build(nil, batch.None)
	binary.BigEndian.PutUint64(raw, uint64(offset))
	return raw
}

// TestReader_CutBatches: brokers may cut an answer anywhere; one that sends less than a batch is asked for more, up to the limit.
func TestReader_CutBatches(t *testing.T) {
	log := slices.Concat(at(0, 0, 10), at(10, 10, 300), at(310, 310, 10))
	offsets := map[int64]int{0: 0, 10: len(at(0, 0, 10)), 310: len(log) - len(at(310, 310, 10)), 320: len(log)}
	big := offsets[310] - offsets[10]
	for _, limit := range []int{big, big - 1} {
		for _, least := range []int32{1, 20, 100, 4000} {
			e := newEnv(t, false)
			var sizes []int32
			e.serve(func(asked int32, offset int64, p *kmsg.FetchResponseTopicPartition) {
				sizes = append(sizes, asked)
				rest := log[offsets[offset]:]
				p.RecordBatches = rest[:min(int(asked), len(rest))]
			})
			l := e.open(func(c *Config) { c.FetchMaxBytes, c.MaxBatchBytes = least, limit })
			r := l.Reader(names.Changes, 0, 0)
			if limit == big {
				if got := e.read(r, 320); !slices.Equal(got, ascending(0, 320)) {
					t.Fatal(got)
				}
				if last := sizes[len(sizes)-1]; last >= int32(big) {
					t.Fatalf("still asking for %d bytes behind the large batch", last)
				}
			} else {
				e.read(r, 10)
				var tooLarge *TooLargeError
				if _, err := r.Next(e.ctx); !errors.As(err, &tooLarge) || *tooLarge != (TooLargeError{names.Changes, 0, big, limit}) {
					t.Fatalf("got %v", err)
				}
			}
			r.Close()
		}
	}
}

// TestReader_LargerThanAFetch: a real broker sends one batch whole, however large.
func TestReader_LargerThanAFetch(t *testing.T) {
	e := newEnv(t, false)
	l := e.open(func(c *Config) { c.FetchMaxBytes = 100 })
	w := e.writer(l, 0)
	for i := range 5 {
		e.append(w, names.Changes, i*100, 100)
	}
	r := l.Reader(names.Changes, 0, 0)
	defer r.Close()
	if got := e.read(r, 500); !slices.Equal(got, ascending(0, 500)) {
		t.Fatal(got)
	}
}

// TestReader_Corrupt: what is good in front of it is handed out; then it is read three times; then it is an error that says where.
func TestReader_Corrupt(t *testing.T) {
	good, bad := at(0, 0, 10), at(10, 10, 10)
	backwards := slices.Concat(at(10, 10, 10), at(5, 0, 10))
	bad[len(bad)-1] ^= 1
	for name, c := range map[string]struct {
		tail    []byte // at offset 10
		code    *kerr.Error
		heals   int // answers until it is well; 0: never
		wantErr bool
	}{
		"flipped bit": {tail: bad, wantErr: true}, "on the way": {tail: bad, heals: 2}, "too often": {tail: bad, heals: 3, wantErr: true},
		"says the broker": {code: kerr.CorruptMessage, wantErr: true}, "says the broker, once": {code: kerr.CorruptMessage, heals: 1},
		"out of order": {tail: backwards},
	} {
		t.Run(name, func(t *testing.T) {
			e := newEnv(t, false)
			reads := 0
			e.serve(func(_ int32, offset int64, p *kmsg.FetchResponseTopicPartition) {
				switch {
				case offset == 0:
					p.RecordBatches = append(bytes.Clone(good), c.tail...)
				case offset == 10:
					reads++
					p.RecordBatches = c.tail
					if c.code != nil {
						p.ErrorCode = c.code.Code
					}
					if c.heals > 0 && reads > c.heals {
						p.ErrorCode, p.RecordBatches = 0, at(10, 10, 10)
					}
				}
			})
			r := e.open().Reader(names.Changes, 0, 0)
			defer r.Close()
			want := ascending(0, 10)
			if name == "out of order" {
				want = ascending(0, 20)
			}
			if got := e.read(r, len(want)); !slices.Equal(got, want) {
				t.Fatal(got)
			}
			if name == "out of order" {
				return
			}
			_, err := r.Next(e.ctx)
			if !c.wantErr {
				if err != nil || r.Position() != 20 {
					t.Fatal(err, r.Position())
				}
				return
			}
			if !errors.Is(err, batch.ErrCorrupt) || !strings.Contains(err.Error(), "t.changes/0 at offset 10") || reads != corruptReads {
				t.Fatalf("after %d reads: %v", reads, err)
			}
		})
	}
}

// TestReader_NothingOfUse: batches that are below the position all of them must not make Next spin.
func TestReader_NothingOfUse(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := newEnv(t, true)
		reads := 0
		e.serve(func(_ int32, offset int64, p *kmsg.FetchResponseTopicPartition) {
			reads++
			p.RecordBatches = slices.Concat(at(0, 0, 10), at(10, 10, 10))
			if reads > 20 {
				p.RecordBatches = append(p.RecordBatches, at(25, 25, 5)...) // behind a gap
			}
		})
		r := e.open().Reader(names.Changes, 0, 20)
		defer r.Close()
		begun := time.Now()
		bs, err := r.Next(e.ctx)
		if err != nil || len(bs) != 1 || bs[0].Base != 25 || r.Position() != 30 {
			t.Fatal(bs, err, r.Position())
		}
		if d := time.Since(begun); d < 10*time.Second {
			t.Fatalf("%d fetches in %v", reads, d)
		}
	})
}
