package project

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/tidemark-dev/tidemark/projections/fold"
)

// Metrics of a Projector.
type Metrics struct {
	rows    *prometheus.CounterVec
	flush   prometheus.Histogram
	retries *prometheus.CounterVec
	lost    prometheus.Counter
	behind  prometheus.Gauge
	loss    prometheus.Gauge
	state   *prometheus.GaugeVec
}

// NewMetrics registers the metrics; reg may be nil.
func NewMetrics(reg prometheus.Registerer) *Metrics {
	m := &Metrics{
		rows: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "tidemark_projections_rows_total", Help: "Rows written, copies of retries not counted.",
		}, []string{"table"}),
		flush: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "tidemark_projections_write_seconds", Help: "Time to write a batch and its positions, retries included.",
			Buckets: prometheus.ExponentialBuckets(0.005, 2.5, 12),
		}),
		retries: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "tidemark_projections_retries_total", Help: "Tries that the store refused.",
		}, []string{"trouble"}),
		lost: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "tidemark_projections_gaps_total", Help: "Times that changes left the log before they were projected.",
		}),
		behind: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "tidemark_projections_behind_records", Help: "Records of the changes topic that are not projected.",
		}),
		loss: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "tidemark_projections_seconds_to_data_loss",
			Help: "How long the log still keeps the oldest change that is not projected; -1: nothing waits, or the log keeps everything.",
		}),
		state: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "tidemark_projections_state", Help: "1 for the state that the projections are in.",
		}, []string{"state"}),
	}
	if reg != nil {
		reg.MustRegister(m.rows, m.flush, m.retries, m.lost, m.behind, m.loss, m.state)
	}
	return m
}

func (m *Metrics) retried(t Trouble) { m.retries.WithLabelValues(t.String()).Inc() }

func (m *Metrics) wrote(rows *fold.Rows, took time.Duration) {
	m.flush.Observe(took.Seconds())
	m.rows.WithLabelValues("changes").Add(float64(len(rows.Facts)))
	m.rows.WithLabelValues("events").Add(float64(len(rows.Events)))
	m.rows.WithLabelValues("states").Add(float64(len(rows.States)))
	for l, name := range []string{"minutes", "hours", "days"} {
		m.rows.WithLabelValues(name).Add(float64(len(rows.Partials[l])))
	}
}

func (m *Metrics) status(s Status) {
	var behind int64
	for _, p := range s.Partitions {
		behind += p.Behind
	}
	m.behind.Set(float64(behind))
	m.loss.Set(float64(s.SecondsToLoss))
	for _, state := range []State{Starting, CatchingUp, Live, Away, Blocked, Stopped} {
		v := 0.0
		if state == s.State {
			v = 1
		}
		m.state.WithLabelValues(string(state)).Set(v)
	}
}
