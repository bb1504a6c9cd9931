package kafka

import (
	"context"
	"errors"
	"log/slog"
	"maps"
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/tidemark-dev/tidemark/deploy/devkafka"
	"github.com/tidemark-dev/tidemark/schemas/errcode"
	"github.com/tidemark-dev/tidemark/schemas/topic"
)

func wantCode(t *testing.T, err error, code errcode.Code, parts ...string) {
	t.Helper()
	var coded *errcode.Error
	if !errors.As(err, &coded) || coded.Code != code {
		t.Fatalf("got %v, want code %s", err, code)
	}
	for _, part := range parts {
		if !strings.Contains(err.Error(), part) {
			t.Errorf("%q is not in %q", part, err)
		}
	}
}

// cluster is one that belongs to somebody: no settings are left out there.
func cluster(t *testing.T) *Admin {
	t.Helper()
	c, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.ClusterID("somebody's"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return dial(t, c.ListenAddrs()...)
}

func dial(t *testing.T, seeds ...string) *Admin {
	t.Helper()
	a, err := Dial(t.Context(), Config{Seeds: seeds}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(a.Close)
	return a
}

func names(t *testing.T, prefix string) topic.Names {
	t.Helper()
	n, err := topic.NamesFor(prefix, 1)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func look(t *testing.T, a *Admin, specs []topic.Spec) []Topic {
	t.Helper()
	topics, err := a.Look(t.Context(), specs)
	if err != nil {
		t.Fatal(err)
	}
	return topics
}

func set(t *testing.T, a *Admin, name, setting, value string) {
	t.Helper()
	_, err := a.adm.AlterTopicConfigs(t.Context(), []kadm.AlterConfig{{Op: kadm.SetConfig, Name: setting, Value: &value}}, name)
	if err != nil {
		t.Fatal(err)
	}
}

func TestEnsure_MakesTopicsOnceAndRefusesDrift(t *testing.T) {
	a := cluster(t)
	n := names(t, "brand")
	if got, err := a.Ensure(t.Context(), "brand", 3, -1); err != nil || got != 3 {
		t.Fatalf("got %d, %v", got, err)
	}
	specs := topic.Manifest(n, 3, topic.RecordBytesMax)
	for _, top := range look(t, a, specs) {
		if !top.Exists || top.Partitions != 3 || top.Replication != 1 || len(top.Drift) != 0 {
			t.Errorf("%+v", top)
		}
	}
	// Again, and without saying how many.
	for _, want := range []int32{0, 3} {
		if got, err := a.Ensure(t.Context(), "brand", want, -1); err != nil || got != 3 {
			t.Errorf("with %d: got %d, %v", want, got, err)
		}
	}
	_, err := a.Ensure(t.Context(), "brand", 4, -1)
	wantCode(t, err, errcode.TopicDrift, "3 partitions, not 4", "--prefix")

	set(t, a, n.Changes, "retention.ms", "1000")
	_, err = a.Ensure(t.Context(), "brand", 0, -1)
	wantCode(t, err, errcode.TopicDrift, n.Changes, `retention.ms is "1000", want "2592000000"`, "tidemark topics apply --kafka "+a.seeds[0]+" --prefix brand --yes")
	topics := look(t, a, specs)
	if len(topics[1].Drift) != 1 || len(topics[0].Drift)+len(topics[2].Drift)+len(topics[3].Drift) != 0 {
		t.Errorf("%+v", topics)
	}
	if err := a.Mend(t.Context(), specs, topics, -1); err != nil {
		t.Fatal(err)
	}
	if _, err := a.Ensure(t.Context(), "brand", 0, -1); err != nil {
		t.Error(err)
	}
}

func TestEnsure_MakesWhatAnInterruptedStartLeftOut(t *testing.T) {
	a := cluster(t)
	n := names(t, "half")
	if _, err := a.adm.CreateTopic(t.Context(), 5, -1, nil, n.Raw); err != nil {
		t.Fatal(err)
	}
	// The count of the one that is there holds for the others; its settings are not the manifest's.
	_, err := a.Ensure(t.Context(), "half", 0, -1)
	wantCode(t, err, errcode.TopicDrift, n.Raw)
	specs := topic.Manifest(n, 5, topic.RecordBytesMax)
	topics := look(t, a, specs)
	for _, top := range topics {
		if top.Partitions != 5 || (len(top.Drift) > 0) != (top.Name == n.Raw) {
			t.Errorf("%+v", top)
		}
	}
	if err := a.Mend(t.Context(), specs, topics, -1); err != nil {
		t.Fatal(err)
	}
	if got, err := a.Ensure(t.Context(), "half", 0, -1); err != nil || got != 5 {
		t.Errorf("got %d, %v", got, err)
	}
}

func TestPartitions_MustBeEqual(t *testing.T) {
	a := cluster(t)
	n := names(t, "odd")
	for name, count := range map[string]int32{n.Raw: 2, n.DLQ: 3} {
		if _, err := a.adm.CreateTopic(t.Context(), count, -1, nil, name); err != nil {
			t.Fatal(err)
		}
	}
	_, err := a.Partitions(t.Context(), n)
	wantCode(t, err, errcode.TopicDrift, n.Raw+" has 2", n.DLQ+" has 3")
	_, err = a.Ensure(t.Context(), "odd", 0, -1)
	wantCode(t, err, errcode.TopicDrift)
}

func TestLook_CountsRecordsAndBytes(t *testing.T) {
	a := cluster(t)
	n := names(t, "sizes")
	specs := topic.Manifest(n, 2, topic.RecordBytesMax)
	if got := look(t, a, specs); got[0].Exists || got[0].Bytes != -1 || got[0].Drift == nil {
		t.Errorf("nothing is there: %+v", got[0])
	}
	if _, err := a.Ensure(t.Context(), "sizes", 2, -1); err != nil {
		t.Fatal(err)
	}
	cl, err := kgo.NewClient(kgo.SeedBrokers(a.seeds...), kgo.DefaultProduceTopic(n.Raw))
	if err != nil {
		t.Fatal(err)
	}
	defer cl.Close()
	for range 10 {
		if err := cl.ProduceSync(t.Context(), &kgo.Record{Value: []byte("0123456789")}).FirstErr(); err != nil {
			t.Fatal(err)
		}
	}
	got := look(t, a, specs)
	if got[0].Records != 10 || got[0].Bytes < 100 || got[1].Records != 0 || got[1].Bytes != 0 {
		t.Errorf("%+v", got[:2])
	}
	for p := range int32(2) {
		start, end, err := a.Bounds(t.Context(), n.Raw, p)
		if err != nil || start != 0 || end < 0 || end > 10 {
			t.Errorf("partition %d: %d to %d, %v", p, start, end, err)
		}
	}
}

// What this package thinks the embedded broker leaves out is what it leaves out.
func TestEmbeddedSettings_AgreeWithTheBroker(t *testing.T) {
	b, err := devkafka.Start(t.Context(), devkafka.Config{DataDir: t.TempDir(), ClusterID: EmbeddedClusterID("test")})
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	a := dial(t, b.Addr())
	if !a.Embedded() {
		t.Fatalf("cluster %q is not taken for an embedded one", a.Cluster())
	}
	specs := topic.Manifest(names(t, "e"), 2, topic.RecordBytesMax)
	for _, s := range specs {
		if err := b.CreateTopic(s.Name, s.Partitions, s.Configs); err != nil {
			t.Fatal(err)
		}
		want := maps.Clone(s.Configs)
		for name := range b.DroppedConfigs(s.Name) {
			delete(want, name)
		}
		if got := EmbeddedSettings(s.Configs); !maps.Equal(got, want) {
			t.Errorf("%s: got %v, want %v", s.Name, got, want)
		}
	}
	for _, top := range look(t, a, specs) {
		if len(top.Drift) > 0 {
			t.Errorf("%s: %+v", top.Name, top.Drift)
		}
	}
}

func TestAdmin_EndsWithItsContext(t *testing.T) {
	a := cluster(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := a.Partitions(ctx, names(t, "x")); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}
