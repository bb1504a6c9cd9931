package kafka

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"github.com/twmb/franz-go/pkg/sasl/scram"

	"github.com/tidemark-dev/tidemark/processor/batch"
	"github.com/tidemark-dev/tidemark/processor/kafka/faultconn"
	"github.com/tidemark-dev/tidemark/schemas/topic"
)

func TestOpen_RefusesConfig(t *testing.T) {
	valid := Config{Seeds: []string{"127.0.0.1:1"}, Names: names, Logger: slog.New(slog.DiscardHandler)}
	for want, change := range map[string]func(*Config){
		"no seed brokers":       func(c *Config) { c.Seeds = nil },
		"no logger":             func(c *Config) { c.Logger = nil },
		"four different ones":   func(c *Config) { c.Names.State = c.Names.DLQ },
		`topic ""`:              func(c *Config) { c.Names = topic.Names{} },
		"fetch wait":            func(c *Config) { c.FetchMaxWait = -1 },
		"request timeout":       func(c *Config) { c.RequestTimeout = time.Millisecond },
		"fetch of":              func(c *Config) { c.FetchMaxBytes = -1 },
		"batch of":              func(c *Config) { c.MaxBatchBytes = 60 },
		"compression gzip":      func(c *Config) { c.Compression = batch.Gzip },
		"making a client":       func(c *Config) { c.Client = []kgo.Opt{kgo.MetadataMinAge(time.Hour)} },
		"compression codec 200": func(c *Config) { c.Compression = 200 },
	} {
		c := valid
		change(&c)
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		if _, err := Open(ctx, c); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want something of %q", err, want)
		}
	}
}

// TestOpen_Waits: for a broker as long as the context lets it; for topics as long as Config.RequestTimeout.
func TestOpen_Waits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := newEnv(t, true)
		e.faults.Refuse(true)
		ctx, cancel := context.WithTimeout(e.ctx, time.Minute)
		defer cancel()
		if _, err := Open(ctx, e.config()); !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "refused by the fault injector") {
			t.Fatalf("got %v", err)
		}
		timer := time.AfterFunc(30*time.Second, func() { e.faults.Refuse(false) })
		defer timer.Stop()
		begun := time.Now()
		e.open()
		if d := time.Since(begun); d < 30*time.Second || d > 35*time.Second {
			t.Fatalf("took %v", d)
		}

		if err := e.DeleteTopic(names.DLQ); err != nil {
			t.Fatal(err)
		}
		begun = time.Now()
		_, err := Open(e.ctx, e.config())
		if !errors.Is(err, kerr.UnknownTopicOrPartition) || errors.Is(err, ErrTopicID) || !strings.Contains(err.Error(), names.DLQ) {
			t.Fatalf("got %v", err)
		}
		if d := time.Since(begun); d < 10*time.Second || d > 15*time.Second {
			t.Fatalf("took %v", d)
		}
		timer = time.AfterFunc(5*time.Second, func() {
			if err := e.CreateTopic(names.DLQ, partitions, nil); err != nil {
				t.Error(err)
			}
		})
		defer timer.Stop()
		e.open()
	})
}

// TestTopicID_IsOfOneTopic: a topic that is made again is another one, and a Log that knows the first says so.
func TestTopicID_IsOfOneTopic(t *testing.T) {
	e := newEnv(t, false)
	l := e.open()
	first, err := l.TopicID(e.ctx, names.Raw)
	if err != nil || first == ([16]byte{}) {
		t.Fatalf("%x, %v", first, err)
	}
	if again, err := l.TopicID(e.ctx, names.Raw); err != nil || again != first {
		t.Fatalf("%x, %v; was %x", again, err, first)
	}
	if other, err := l.TopicID(e.ctx, names.Changes); err != nil || other == first {
		t.Fatalf("%x, %v", other, err)
	}
	if err := e.DeleteTopic(names.Raw); err != nil {
		t.Fatal(err)
	}
	if err := e.CreateTopic(names.Raw, partitions, nil); err != nil {
		t.Fatal(err)
	}
	if id, err := l.TopicID(e.ctx, names.Raw); !errors.Is(err, ErrTopicID) {
		t.Fatalf("%x, %v", id, err)
	}
	if id, err := e.open().TopicID(e.ctx, names.Raw); err != nil || id == first {
		t.Fatalf("%x, %v; was %x", id, err, first)
	}
}

func TestPartitions_Differ(t *testing.T) {
	e := newEnv(t, false)
	if err := e.DeleteTopic(names.State); err != nil {
		t.Fatal(err)
	}
	if err := e.CreateTopic(names.State, partitions+1, nil); err != nil {
		t.Fatal(err)
	}
	_, err := Open(e.ctx, e.config())
	if !errors.Is(err, kerr.InvalidPartitions) || !strings.Contains(err.Error(), "[4 4 5 4]") {
		t.Fatalf("got %v", err)
	}
}

// TestLog_SurvivesCodes: what can pass, passes; what cannot, is returned.
func TestLog_SurvivesCodes(t *testing.T) {
	calls := map[kmsg.Key]func(*env, *Log) error{
		kmsg.ListOffsets: func(e *env, l *Log) error {
			start, end, err := l.Bounds(e.ctx, names.Changes, 0)
			if err == nil && (start != 0 || end != 10) {
				return fmt.Errorf("bounds [%d, %d)", start, end)
			}
			return err
		},
		kmsg.DeleteRecords: func(e *env, l *Log) error {
			if err := l.Trim(e.ctx, names.Changes, 0, 7); err != nil {
				return err
			}
			start, end, err := l.Bounds(e.ctx, names.Changes, 0)
			if err == nil && (start != 7 || end != 10) {
				return fmt.Errorf("bounds [%d, %d)", start, end)
			}
			return err
		},
		kmsg.Metadata: func(e *env, l *Log) error {
			n, err := l.Partitions(e.ctx)
			if err == nil && n != partitions {
				return fmt.Errorf("%d partitions", n)
			}
			return err
		},
	}
	for key, call := range calls {
		for _, code := range allErrors() {
			t.Run(key.Name()+"/"+code.Message, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					e := newEnv(t, true)
					l := e.open()
					e.append(e.writer(l, 0), names.Changes, 0, 10)
					h := e.Fault(kfake.Fault{Keys: []kmsg.Key{key}, Topic: names.Changes, Err: code, Count: 3})
					err := call(e, l)
					if want := code.Retriable || code == kerr.UnknownServerError; want && err != nil || !want && !errors.Is(err, code) {
						t.Fatalf("got %v", err)
					}
					if h.Hits() == 0 {
						t.Fatal("the fault was not met")
					}
				})
			})
		}
	}
}

func TestLog_SurvivesConnections(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := newEnv(t, true)
		l := e.open()
		e.append(e.writer(l, 0), names.Changes, 0, 100)
		keys := []kmsg.Key{kmsg.ListOffsets, kmsg.Metadata, kmsg.DeleteRecords, kmsg.ApiVersions}
		trimmed := int64(0)
		for kind := faultconn.Close; kind <= faultconn.Delay; kind++ {
			for _, key := range keys {
				e.faults.Arm(int16(key), faultconn.Action{Kind: kind, Delay: time.Second})
				e.faults.CloseAll()
				trimmed++
				if err := l.Trim(e.ctx, names.Changes, 0, trimmed); err != nil {
					t.Fatal(err)
				}
				if start, end, err := l.Bounds(e.ctx, names.Changes, 0); start != trimmed || end != 100 || err != nil {
					t.Fatal(start, end, err)
				}
			}
		}
		for _, key := range keys {
			if got := e.faults.Fired(int16(key)); got != int(faultconn.Delay) {
				t.Errorf("%s: %d faults, want %d", key.Name(), got, faultconn.Delay)
			}
		}
	})
}

// TestLog_SASL: TLS and SASL are the client's options.
func TestLog_SASL(t *testing.T) {
	e := newEnv(t, false, kfake.EnableSASL(), kfake.Superuser("SCRAM-SHA-256", "tide", "mark"))
	auth := scram.Auth{User: "tide", Pass: "mark"}
	l := e.open(func(c *Config) { c.Client = append(c.Client, kgo.SASL(auth.AsSha256Mechanism())) })
	e.append(e.writer(l, 0), names.Changes, 0, 10)
	if got := e.content(l, names.Changes, 0); len(got) != 10 {
		t.Fatal(got)
	}
	// A refusal is an answer, not trouble with a connection.
	e.ControlKey(int16(kmsg.SASLAuthenticate), func(req kmsg.Request) (kmsg.Response, error, bool) {
		e.KeepControl()
		resp := req.ResponseKind().(*kmsg.SASLAuthenticateResponse)
		resp.ErrorCode = kerr.SaslAuthenticationFailed.Code
		return resp, nil, true
	})
	cfg := e.config()
	cfg.Client = append(cfg.Client, kgo.SASL(auth.AsSha256Mechanism()))
	if _, err := Open(e.ctx, cfg); !errors.Is(err, kerr.SaslAuthenticationFailed) {
		t.Fatalf("got %v", err)
	}
}

// TestLog_TellsOfOutages: once when it lasts and once when it is over, not each time something is tried, and never of what passes.
func TestLog_TellsOfOutages(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := newEnv(t, true)
		var out bytes.Buffer
		reg := prometheus.NewRegistry()
		l := e.open(func(c *Config) {
			c.Logger = slog.New(slog.NewTextHandler(&out, &slog.HandlerOptions{Level: slog.LevelInfo}))
			c.Registerer = reg
		})
		r := l.Reader(names.Changes, 0, 0)
		defer r.Close()
		e.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Fetch}, Topic: names.Changes, Err: kerr.NotLeaderForPartition, Count: 3})
		if _, err := r.Next(e.ctx); err != nil {
			t.Fatal(err)
		}
		if out.Len() != 0 {
			t.Fatalf("told of what passed: %s", &out)
		}
		h := e.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Fetch}, Topic: names.Changes, Err: kerr.KafkaStorageError, Count: 40})
		if _, err := r.Next(e.ctx); err != nil {
			t.Fatal(err)
		}
		if h.Hits() != 40 || strings.Count(out.String(), "\n") != 2 || strings.Count(out.String(), "level=WARN") != 1 ||
			!strings.Contains(out.String(), "works again") || !strings.Contains(out.String(), "KAFKA_STORAGE_ERROR") {
			t.Fatalf("after %d errors:\n%s", h.Hits(), &out)
		}
		if got := testutil.ToFloat64(l.metrics.retries.WithLabelValues("fetch")); got != 43 {
			t.Fatalf("%v retries counted, want 43", got)
		}
	})
}

func TestMetrics(t *testing.T) {
	e := newEnv(t, false)
	reg := prometheus.NewRegistry()
	with := func(c *Config) { c.Registerer, c.Compression = reg, batch.None }
	l := e.open(with)
	e.open(with).Close() // a second Log counts into the same metrics
	w := e.writer(l, 0)
	_, produced := e.append(w, names.Changes, 0, 10)
	if got := e.content(l, names.Changes, 0); len(got) != 10 {
		t.Fatal(got)
	}
	want := fmt.Sprintf(`
		# HELP tidemark_kafka_appended_bytes_total Bytes of batches written, compressed.
		# TYPE tidemark_kafka_appended_bytes_total counter
		tidemark_kafka_appended_bytes_total{topic="changes"} %d
		# HELP tidemark_kafka_appended_records_total Records written.
		# TYPE tidemark_kafka_appended_records_total counter
		tidemark_kafka_appended_records_total{topic="changes"} 10
		# HELP tidemark_kafka_clients Open clients: one for the log, one for each reader and writer.
		# TYPE tidemark_kafka_clients gauge
		tidemark_kafka_clients 2
		# HELP tidemark_kafka_fetched_batches_total Batches read.
		# TYPE tidemark_kafka_fetched_batches_total counter
		tidemark_kafka_fetched_batches_total{kind="data",topic="changes"} 1
		# HELP tidemark_kafka_fetched_bytes_total Bytes of batches read.
		# TYPE tidemark_kafka_fetched_bytes_total counter
		tidemark_kafka_fetched_bytes_total{topic="changes"} %d
	`, len(produced), len(produced))
	if err := testutil.GatherAndCompare(reg, strings.NewReader(want), "tidemark_kafka_appended_bytes_total", "tidemark_kafka_appended_records_total",
		"tidemark_kafka_clients", "tidemark_kafka_fetched_batches_total", "tidemark_kafka_fetched_bytes_total"); err != nil {
		t.Fatal(err)
	}
	l.Close()
	if got := testutil.ToFloat64(l.metrics.clients); got != 0 {
		t.Fatalf("%v clients left", got)
	}
}
