package follow

import (
	"slices"
	"strings"
	"testing"

	"github.com/tidemark-dev/tidemark/schemas/event"
)

// BenchmarkFollower reads changes of 800 bytes, in groups of 500, through the embedded broker.
func BenchmarkFollower(b *testing.B) {
	broker := startBroker(b, b.TempDir(), "")
	l := newLog(b, broker.Addr())
	const groups, size = 100, 500
	payload := []byte(`{"name":"` + strings.Repeat("lorem ipsum ", 65) + `"}`)
	key := event.NewKey(acme)
	l.write(0, Record{Op: event.OpTerm, Key: []byte(event.PartitionKey(0)), Meta: event.Meta{Term: 1, Nonce: 1}})
	for g := range uint64(groups) {
		records := make([]Record, size)
		for i := range records {
			records[i] = change(1, g*size+uint64(i)+1)
			m := &records[i].Meta
			m.GI, m.Commit, m.N = uint64(i), i == size-1, 0
			if m.Commit {
				m.N = size
			}
			records[i].Value = event.AppendChange(nil, &event.Change{Op: event.OpAdded, Key: key, ID: []byte("1"), Payload: payload}, m)
		}
		l.write(0, slices.Clone(records)...)
	}
	b.ReportAllocs()
	b.ResetTimer()
	for read := 0; read < b.N; {
		cfg := config(broker.Addr())
		cfg.Partitions = []int32{0}
		f, err := New(cfg)
		must(b, err)
		must(b, f.Run(b.Context(), func(g Group) error {
			read += len(g.Records)
			if read >= b.N || g.Next.SeenCSN == groups*size {
				return ErrStop
			}
			return nil
		}))
	}
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "records/s")
}
