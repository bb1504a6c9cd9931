package stack

import (
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"

	"github.com/tidemark-dev/tidemark/deploy/kafka"
	"github.com/tidemark-dev/tidemark/ingest"
	"github.com/tidemark-dev/tidemark/schemas/errcode"
	"github.com/tidemark-dev/tidemark/schemas/stream"
)

var brand = stream.ID{Environment: "dev", Integration: "demo", Connection: "acme", Model: "Brand", Variant: "base"}

// save writes records with ids r0, r1 and so on.
func (r *runner) save(t *testing.T, n int) {
	t.Helper()
	at := r.Endpoints()
	p, err := ingest.NewProducer(t.Context(), ingest.Config{Seeds: at.Kafka.Seeds, Names: at.Topics, Logger: testLogger(t)})
	if err != nil {
		t.Fatal(err)
	}
	for i := range n {
		if err := p.Stream(brand).Save(t.Context(), fmt.Sprintf("r%d", i), fmt.Appendf(nil, `{"n":%d}`, i)); err != nil {
			t.Fatal(err)
		}
	}
	if err := p.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	r.await(t, n)
}

// await waits until the stream has n live records.
func (r *runner) await(t *testing.T, n int) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		st, err := r.Stream(brand)
		if err == nil && st != nil && int(st.Live) == n {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("not %d records after 20 s: %+v, %v", n, st, err)
		}
	}
}

type page struct {
	Records []struct {
		ID   string `json:"id"`
		Meta struct {
			Cursor string `json:"cursor"`
		} `json:"_nango_metadata"`
	} `json:"records"`
	Next *string `json:"next_cursor"`
}

func (r *runner) page(t *testing.T, query string) page {
	t.Helper()
	status, body := get(t, r.Endpoints().HTTP, "/records?model=Brand"+query)
	if status != http.StatusOK {
		t.Fatalf("%d %s", status, body)
	}
	var p page
	decode(t, body, &p)
	return p
}

func TestStack_ARestartKeepsEverything(t *testing.T) {
	cfg := testConfig(t)
	r := launch(t, cfg)
	r.save(t, 5)
	first := r.page(t, "&limit=2")
	if len(first.Records) != 2 || first.Next == nil {
		t.Fatalf("%+v", first)
	}
	was := r.Endpoints()
	r.end(t)

	r = launch(t, cfg)
	at := r.Endpoints()
	if at.Lineage != was.Lineage || at.Kafka.Seeds[0] != was.Kafka.Seeds[0] || at.Partitions != 2 || !at.Embedded {
		t.Errorf("it is at %+v, was at %+v", at, was)
	}
	rest := r.page(t, "&cursor="+*first.Next)
	if len(rest.Records) != 3 || rest.Next != nil {
		t.Errorf("after the restart the cursor leads to %+v", rest)
	}
	r.end(t)

	// Local state is a cache of the log, and cursors do not depend on it.
	if err := os.RemoveAll(filepath.Join(cfg.DataDir, "state")); err != nil {
		t.Fatal(err)
	}
	r = launch(t, cfg)
	if again := r.page(t, "&cursor="+*first.Next); len(again.Records) != 3 || again.Records[2] != rest.Records[2] {
		t.Errorf("without its state it gives %+v, gave %+v", again, rest)
	}
	r.end(t)

	// Even the file that names the log can be lost.
	if err := os.Remove(filepath.Join(cfg.DataDir, installationFile)); err != nil {
		t.Fatal(err)
	}
	r = launch(t, cfg)
	if r.Endpoints().Lineage != was.Lineage || len(r.page(t, "&cursor="+*first.Next).Records) != 3 {
		t.Errorf("the lineage is %q, was %q", r.Endpoints().Lineage, was.Lineage)
	}
}

func TestStack_OneProcessADirectory(t *testing.T) {
	cfg := testConfig(t)
	r := launch(t, cfg)
	wantCode(t, fails(t, cfg), errcode.DataDirLocked, cfg.DataDir, fmt.Sprintf("process %d", os.Getpid()))
	if holder, err := Holder(cfg.DataDir); err != nil || holder != fmt.Sprintf("process %d", os.Getpid()) {
		t.Errorf("holder %q, %v", holder, err)
	}
	if status, body := get(t, r.Endpoints().HTTP, "/readyz"); status != http.StatusOK { // the refused one has not disturbed it
		t.Errorf("%d %s", status, body)
	}
	r.end(t)
	if holder, err := Holder(cfg.DataDir); err != nil || holder != "" {
		t.Errorf("after the end: holder %q, %v", holder, err)
	}
	launch(t, cfg)
}

func TestStack_ADirectoryBelongsToOneLog(t *testing.T) {
	cfg := testConfig(t)
	launch(t, cfg).end(t)

	other := cfg
	other.Prefix = "other"
	err := fails(t, other)
	wantParts(t, err, `prefix "tidemark"`, "other")
	if !errors.Is(err, ErrForeignData) {
		t.Error(err)
	}

	cluster, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.ClusterID("prod-7"))
	if err != nil {
		t.Fatal(err)
	}
	defer cluster.Close()
	external := cfg
	external.Kafka = kafka.Config{Seeds: cluster.ListenAddrs()}
	if err := fails(t, external); !errors.Is(err, ErrForeignData) || !strings.Contains(err.Error(), "prod-7") {
		t.Error(err)
	}
	// And the other way round.
	external.DataDir = t.TempDir()
	r := launch(t, external)
	if at := r.Endpoints(); at.Embedded || at.Lineage != "prod-7/tidemark" {
		t.Errorf("%+v", at)
	}
	r.end(t)
	embedded := cfg
	embedded.DataDir = external.DataDir
	if err := fails(t, embedded); !errors.Is(err, ErrForeignData) {
		t.Error(err)
	}
	launch(t, cfg) // none of this has hurt it
}

// A cluster that is somebody else's must have topics as they have to be.
func TestStack_OnACluster(t *testing.T) {
	cluster, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.ClusterID("prod"))
	if err != nil {
		t.Fatal(err)
	}
	defer cluster.Close()
	cfg := testConfig(t)
	cfg.Kafka = kafka.Config{Seeds: cluster.ListenAddrs()}
	r := launch(t, cfg)
	r.save(t, 3)
	first := r.page(t, "&limit=1")
	r.end(t)

	// The directory is locked whoever has the log.
	r = launch(t, cfg)
	wantCode(t, fails(t, cfg), errcode.DataDirLocked, cfg.DataDir)
	r.end(t)

	// Another node, with a disk of its own, goes on with the same cursors.
	cfg.DataDir = t.TempDir()
	r = launch(t, cfg)
	if rest := r.page(t, "&cursor="+*first.Next); len(rest.Records) != 2 {
		t.Errorf("%+v", rest)
	}
	r.end(t)

	cfg.Partitions = 3
	wantCode(t, fails(t, cfg), errcode.TopicDrift, "2 partitions, not 3")

	cluster.Close()
	cfg.Partitions = 0
	wantCode(t, fails(t, cfg), errcode.Unreachable, cfg.Kafka.Seeds[0])
}

func TestStack_APortInUseIsFoundBeforeAnythingIsTouched(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	cfg := testConfig(t)
	cfg.HTTPAddr = ln.Addr().String()
	if err := fails(t, cfg); !errors.Is(err, syscall.EADDRINUSE) {
		t.Error(err)
	}
	if _, err := os.Stat(filepath.Join(cfg.DataDir, "kafka")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the broker's directory is there: %v", err)
	}
	cfg.HTTPAddr, cfg.KafkaListen = "127.0.0.1:0", ln.Addr().String()
	if err := fails(t, cfg); !errors.Is(err, syscall.EADDRINUSE) {
		t.Error(err)
	}
	cfg.KafkaListen = "127.0.0.1:0"
	cfg.HTTPAddr = "0.0.0.0:0"
	wantCode(t, fails(t, cfg), errcode.AddressNotLoopback)
	cfg.HTTPAddr = "127.0.0.1:0"
	launch(t, cfg)
}

func TestStack_HealthAndMetrics(t *testing.T) {
	r := launch(t, testConfig(t))
	addr := r.Endpoints().HTTP
	for path, part := range map[string]string{"/livez": "alive", "/readyz": `"ready":true`} {
		if status, body := get(t, addr, path); status != http.StatusOK || !strings.Contains(body, part) {
			t.Errorf("%s: %d %s", path, status, body)
		}
	}
	_, metrics := get(t, addr, "/metrics")
	for _, name := range []string{
		"go_goroutines", "process_open_fds", "go_build_info", "tidemark_devkafka_free_bytes", "tidemark_processor_terms_total 2",
		"tidemark_api_requests_total", "tidemark_processor_hot_bytes",
	} {
		if !strings.Contains(metrics, name) {
			t.Errorf("%s is not among the metrics", name)
		}
	}
}

// What /readyz says at each step, before and after a processor.
func TestView_SaysWhatItWaitsFor(t *testing.T) {
	s, err := New(testConfig(t), testLogger(t))
	if err != nil {
		t.Fatal(err)
	}
	s.view.wait("broker", "opening its log")
	if c := s.Ready(); len(c) != 1 || c[0].Component != "broker" || c[0].Partition != -1 {
		t.Errorf("%+v", c)
	}
	_, err = s.view.Streams(t.Context(), stream.ID{})
	wantCode(t, err, errcode.NotReady, "broker: opening its log")
	_, err = s.Stream(brand)
	wantCode(t, err, errcode.NotReady)

	r := launch(t, testConfig(t))
	r.end(t)
	for _, c := range r.Ready() {
		if c.Partition < 0 || c.Reason == "" {
			t.Errorf("%+v", c)
		}
	}
	if len(r.Ready()) != 2 {
		t.Errorf("a stopped stack is ready: %+v", r.Ready())
	}
}

func TestConfig_SaysEverythingThatIsWrong(t *testing.T) {
	c := Config{Prefix: "no spaces", Partitions: -1, Kafka: kafka.Config{Seeds: []string{"x:1"}}, SyncWrites: true, MemoryBytes: 1}
	_, err := New(c, testLogger(t))
	wantParts(t, err, "--data", "--prefix", "--partitions", "--sync", "--memory", "--environment", "shutdown timeout")
	if err := DefaultConfig().Validate(); err != nil {
		t.Error(err)
	}
}
