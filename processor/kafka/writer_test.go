package kafka

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/tidemark-dev/tidemark/processor/batch"
	"github.com/tidemark-dev/tidemark/processor/kafka/faultconn"
)

// dead checks that a Writer is dead, of that cause, for all topics and for ever.
func (e *env) dead(w *Writer, cause error) {
	e.t.Helper()
	for _, topic := range []string{names.Changes, names.State} {
		var produced []byte
		base, err := w.Append(e.ctx, topic, numbered(900, 1), func(p []byte) { produced = p })
		if !errors.Is(err, ErrWriterDead) || !errors.Is(err, cause) || base != 0 || produced != nil {
			e.t.Fatalf("a dead writer answers %v, want the cause %v", err, cause)
		}
	}
}

// content reads all that a topic's partition has.
func (e *env) content(l *Log, topic string, p int32) (out []int) {
	e.t.Helper()
	_, end, err := l.Bounds(e.ctx, topic, p)
	if err != nil {
		e.t.Fatal(err)
	}
	r := l.Reader(topic, p, 0)
	defer r.Close()
	for r.Position() < end {
		bs, err := r.Next(e.ctx)
		if err != nil {
			e.t.Fatal(err)
		}
		out = append(out, values(e.t, bs, 0)...)
	}
	return out
}

// TestWriter_DiesOfCodes: every code in the answer to a produce request is final, retriable or not, and nothing is sent again. The
// next Writer works.
func TestWriter_DiesOfCodes(t *testing.T) {
	for _, code := range allErrors() {
		t.Run(code.Message, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				e := newEnv(t, true)
				l := e.open()
				w := e.writer(l, 0)
				e.append(w, names.Changes, 0, 5)
				e.append(w, names.State, 0, 5)
				requests := e.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Produce}, Observe: true, Count: -1})
				e.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Produce}, Topic: names.Changes, Err: code})
				base, err := w.Append(e.ctx, names.Changes, numbered(5, 5), nil)
				if base != 0 || !errors.Is(err, ErrWriterDead) {
					t.Fatalf("got %v", err)
				}
				var cause error = code
				if code == kerr.MessageTooLarge || code == kerr.RecordListTooLarge {
					var tooLarge *TooLargeError
					if !errors.As(err, &tooLarge) || tooLarge.Size < 61 {
						t.Fatalf("got %v", err)
					}
					cause = tooLarge
				}
				if !errors.Is(err, cause) {
					t.Fatalf("got %v, want %v", err, cause)
				}
				e.dead(w, cause)
				if requests.Hits() != 1 {
					t.Fatalf("%d produce requests", requests.Hits())
				}
				// Two codes mean that it may be in the log.
				want := ascending(0, 5)
				if code == kerr.RequestTimedOut || code == kerr.NotEnoughReplicasAfterAppend {
					want = ascending(0, 10)
				}
				if got := e.content(l, names.Changes, 0); !slices.Equal(got, want) {
					t.Fatalf("the log has %v, want %v", got, want)
				}
				next := e.writer(l, 0)
				e.append(next, names.Changes, 10, 5)
				e.append(next, names.State, 10, 5)
			})
		})
	}
}

// TestWriter_DiesOfConnections: each way to break the connection of a produce request. What is in the log afterwards depends on the
// way; that the Writer is dead does not.
func TestWriter_DiesOfConnections(t *testing.T) {
	for kind, arrives := range map[faultconn.Kind]bool{
		faultconn.Cut: false, faultconn.LoseAnswer: true, faultconn.LoseRequest: false, faultconn.Silence: false, faultconn.Delay: true,
	} {
		t.Run(kind.String(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				e := newEnv(t, true)
				l := e.open()
				w := e.writer(l, 0)
				e.append(w, names.Changes, 0, 5)
				e.faults.Arm(int16(kmsg.Produce), faultconn.Action{Kind: kind, Delay: 3 * time.Second})
				begun := time.Now()
				_, err := w.Append(e.ctx, names.Changes, numbered(5, 5), nil)
				if !errors.Is(err, ErrWriterDead) {
					t.Fatalf("got %v", err)
				}
				if d := time.Since(begun); d > 10*time.Second {
					t.Fatalf("took %v", d)
				}
				if kind == faultconn.Silence && (errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "no answer within 10s")) {
					t.Fatalf("the caller's context has not ended: %v", err)
				}
				e.dead(w, ErrWriterDead)
				want := ascending(0, 5)
				if kind != faultconn.Delay {
					e.faults.Wait()
				}
				next := e.writer(l, 0)
				e.append(next, names.Changes, 10, 5)
				e.faults.Wait() // a late request has now arrived: behind the next writer's
				switch {
				case kind == faultconn.Delay:
					want = slices.Concat(want, ascending(10, 5), ascending(5, 5))
				case arrives:
					want = slices.Concat(want, ascending(5, 5), ascending(10, 5))
				default:
					want = slices.Concat(want, ascending(10, 5))
				}
				if got := e.content(l, names.Changes, 0); !slices.Equal(got, want) {
					t.Fatalf("the log has %v, want %v", got, want)
				}
			})
		})
	}
}

// TestWriter_NothingWasSent: when a connection takes no byte of a request, it is made again on another one: that is still one request.
func TestWriter_NothingWasSent(t *testing.T) {
	e := newEnv(t, false)
	l := e.open()
	w := e.writer(l, 0)
	e.faults.Arm(int16(kmsg.Produce), faultconn.Action{Kind: faultconn.Close})
	e.append(w, names.Changes, 0, 5)
	if e.faults.Fired(int16(kmsg.Produce)) != 1 {
		t.Fatal("the fault was not met")
	}
	if got := e.content(l, names.Changes, 0); !slices.Equal(got, ascending(0, 5)) {
		t.Fatal(got)
	}
}

func TestWriter_DiesOfItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := newEnv(t, true)
		l := e.open()
		w := e.writer(l, 0)
		e.faults.Arm(int16(kmsg.Produce), faultconn.Action{Kind: faultconn.Silence})
		ctx, cancel := context.WithTimeout(e.ctx, time.Second)
		defer cancel()
		begun := time.Now()
		if _, err := w.Append(ctx, names.Changes, numbered(0, 1), nil); !errors.Is(err, context.DeadlineExceeded) || time.Since(begun) != time.Second {
			t.Fatalf("%v after %v", err, time.Since(begun))
		}
		e.dead(w, context.DeadlineExceeded)
	})
}

// TestWriter_LeaderMoves: the Writer does not follow. The next one finds the new leader.
func TestWriter_LeaderMoves(t *testing.T) {
	e := newEnv(t, false)
	l := e.open()
	for i := range 6 {
		w := e.writer(l, 0)
		e.append(w, names.Changes, i*10, 10)
		if err := e.MoveTopicPartition(names.Changes, 0, (e.LeaderFor(names.Changes, 0)+1)%3); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Append(e.ctx, names.Changes, numbered(999, 1), nil); !errors.Is(err, kerr.NotLeaderForPartition) {
			t.Fatalf("got %v", err)
		}
		w.Close()
	}
	if got := e.content(l, names.Changes, 0); !slices.Equal(got, ascending(0, 60)) {
		t.Fatal(got)
	}
}

func TestWriter_TooLarge(t *testing.T) {
	e := newEnv(t, false)
	if err := e.DeleteTopic(names.Changes); err != nil {
		t.Fatal(err)
	}
	if err := e.CreateTopic(names.Changes, partitions, map[string]string{"max.message.bytes": strconv.Itoa(5000)}); err != nil {
		t.Fatal(err)
	}
	l := e.open(func(c *Config) { c.Compression, c.MaxBatchBytes = batch.None, 20_000 })
	for n, limit := range map[int]int{300: 5000, 1000: 20_000} { // the topic's limit, and our own
		w := e.writer(l, 0)
		b := numbered(0, n)
		size := batch.HeaderSize + b.Size()
		_, err := w.Append(e.ctx, names.Changes, b, nil)
		var tooLarge *TooLargeError
		if !errors.As(err, &tooLarge) || *tooLarge != (TooLargeError{names.Changes, 0, size, limit}) {
			t.Fatalf("got %v", err)
		}
		e.dead(w, tooLarge)
	}
	if got := e.content(l, names.Changes, 0); len(got) != 0 {
		t.Fatal(got)
	}
}

func TestWriter_Refuses(t *testing.T) {
	e := newEnv(t, false)
	l := e.open()
	w := e.writer(l, 0)
	if _, err := w.Append(e.ctx, names.Raw, numbered(0, 1), nil); !errors.Is(err, ErrWriterDead) {
		t.Fatalf("appending to raw: %v", err)
	}
	w = e.writer(l, 0)
	if _, err := w.Append(e.ctx, names.Changes, new(batch.Builder), nil); !errors.Is(err, ErrWriterDead) {
		t.Fatalf("an empty batch: %v", err)
	}
	e.dead(w, ErrWriterDead)
}

// TestWriter_OneDiesTheOtherEnds: an append that was on its way when another one failed still has its own outcome.
func TestWriter_OneDiesTheOtherEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := newEnv(t, true)
		for i, topic := range []string{names.Changes, names.State} { // two connections
			if err := e.MoveTopicPartition(topic, 0, int32(i)); err != nil {
				t.Fatal(err)
			}
		}
		l := e.open()
		w := e.writer(l, 0)
		e.ControlKey(int16(kmsg.Produce), func(kreq kmsg.Request) (kmsg.Response, error, bool) {
			if req := kreq.(*kmsg.ProduceRequest); req.Topics[0].TopicID == l.ids[names.State] {
				return nil, nil, false
			}
			return nil, errors.New("the connection breaks"), true
		})
		b := numbered(0, 3)
		done := make(chan error)
		sent := make(chan struct{})
		go func() {
			_, err := w.Append(e.ctx, names.State, b, func([]byte) {
				close(sent)
				for w.dead.Load() == nil {
					time.Sleep(time.Millisecond)
				}
			})
			done <- err
		}()
		<-sent
		if _, err := w.Append(e.ctx, names.Changes, numbered(0, 1), nil); !errors.Is(err, ErrWriterDead) {
			t.Fatalf("got %v", err)
		}
		if err := <-done; err != nil {
			t.Fatalf("the append that was on its way: %v", err)
		}
		e.dead(w, ErrWriterDead)
		if got := e.content(l, names.State, 0); !slices.Equal(got, ascending(0, 3)) {
			t.Fatal(got)
		}
	})
}

// TestWriter_Opening: what can pass while a Writer is opened, passes.
func TestWriter_Opening(t *testing.T) {
	for _, key := range []kmsg.Key{kmsg.InitProducerID, kmsg.Metadata} {
		for _, code := range allErrors() {
			t.Run(fmt.Sprintf("%s/%s", key.Name(), code.Message), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					e := newEnv(t, true)
					l := e.open()
					f := kfake.Fault{Keys: []kmsg.Key{key}, Err: code, Count: 3}
					if key == kmsg.Metadata {
						f.Topic = names.State
					}
					h := e.Fault(f)
					w, err := l.Writer(e.ctx, 0)
					if h.Hits() == 0 {
						t.Fatal("the fault was not met")
					}
					if code.Retriable || code == kerr.UnknownServerError {
						if err != nil {
							t.Fatal(err)
						}
						defer w.Close()
						e.append(w, names.State, 0, 3)
					} else if !errors.Is(err, code) {
						t.Fatalf("got %v", err)
					}
				})
			})
		}
	}
}

// TestWriter_OpeningConnections: no broker for a while, then connections that break.
func TestWriter_OpeningConnections(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := newEnv(t, true)
		l := e.open()
		e.faults.CloseAll()
		e.faults.Refuse(true)
		timer := time.AfterFunc(5*time.Second, func() { e.faults.Refuse(false) })
		defer timer.Stop()
		for _, key := range []kmsg.Key{kmsg.InitProducerID, kmsg.Metadata, kmsg.ApiVersions} {
			for kind := faultconn.Close; kind <= faultconn.Delay; kind++ {
				e.faults.Arm(int16(key), faultconn.Action{Kind: kind, Delay: time.Second})
			}
		}
		begun := time.Now()
		w := e.writer(l, 0)
		e.append(w, names.Changes, 0, 3)
		if d := time.Since(begun); d < 5*time.Second {
			t.Fatalf("took %v", d)
		}
		ctx, cancel := context.WithTimeout(e.ctx, time.Second)
		defer cancel()
		e.faults.Refuse(true)
		if _, err := l.Writer(ctx, 0); !errors.Is(err, context.DeadlineExceeded) {
			t.Fatalf("got %v", err)
		}
	})
}

// TestWriter_Identities: every Writer has an id of its own, and numbers its batches from 0 for each topic.
func TestWriter_Identities(t *testing.T) {
	e := newEnv(t, false)
	l := e.open()
	seen := make(map[int64]bool)
	for range 5 {
		w := e.writer(l, 0)
		for _, topic := range []string{names.Changes, names.State} {
			seq := int32(0)
			for _, n := range []int{1, 7, 30} {
				_, produced := e.append(w, topic, 0, n)
				b, rest, err := batch.Next(produced)
				if err != nil || len(rest) != 0 {
					t.Fatal(err, len(rest))
				}
				if b.BaseSeq != seq || b.ProducerID != w.id || b.ProducerEpoch != w.epoch || b.Transactional() || int(b.Count) != n {
					t.Fatalf("%+v, want sequence %d", b, seq)
				}
				seq += int32(n)
			}
		}
		if seen[w.id] {
			t.Fatalf("id %d twice", w.id)
		}
		seen[w.id] = true
	}
}
