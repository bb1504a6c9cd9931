package segment

import (
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
)

// Metrics are shared by the stores of all partitions of a process; sizes of one store come from Store.Stats.
type Metrics struct {
	records   prometheus.Counter
	written   prometheus.Counter
	flushes   *prometheus.HistogramVec
	waited    prometheus.Counter
	blockHit  prometheus.Counter
	blockMiss prometheus.Counter
	cutBytes  prometheus.Counter
	dropped   prometheus.Counter
}

// NewMetrics registers the metrics with reg; nil registers nothing.
func NewMetrics(reg prometheus.Registerer) *Metrics {
	f := promauto.With(reg)
	blocks := f.NewCounterVec(prometheus.CounterOpts{
		Name: "tidemark_segment_block_reads_total",
		Help: "Blocks that reads needed, by where the decoded block came from.",
	}, []string{"source"})
	return &Metrics{
		records: f.NewCounter(prometheus.CounterOpts{
			Name: "tidemark_segment_appended_records_total",
			Help: "Records appended to segment stores.",
		}),
		written: f.NewCounter(prometheus.CounterOpts{
			Name: "tidemark_segment_written_bytes_total",
			Help: "Bytes of frames written to segment files.",
		}),
		flushes: f.NewHistogramVec(prometheus.HistogramOpts{
			Name:    "tidemark_segment_flush_duration_seconds",
			Help:    "Time to sort, compress and write one tail.",
			Buckets: prometheus.ExponentialBuckets(0.001, 2, 13),
		}, []string{"outcome"}),
		waited: f.NewCounter(prometheus.CounterOpts{
			Name: "tidemark_segment_append_wait_seconds_total",
			Help: "Time that appends waited for a flush because both tails were full.",
		}),
		blockHit:  blocks.WithLabelValues("cache"),
		blockMiss: blocks.WithLabelValues("file"),
		cutBytes: f.NewCounter(prometheus.CounterOpts{
			Name: "tidemark_segment_cut_bytes_total",
			Help: "Bytes behind the last whole frame that were cut when a store opened after a crash.",
		}),
		dropped: f.NewCounter(prometheus.CounterOpts{
			Name: "tidemark_segment_dropped_segments_total",
			Help: "Segments unlinked by retention.",
		}),
	}
}
