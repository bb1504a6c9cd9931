package kafka

import (
	"errors"

	"github.com/prometheus/client_golang/prometheus"
)

// Metrics of this package. Label topic is the role of a topic (raw, changes, state, dlq), not its name.
type Metrics struct {
	retries       *prometheus.CounterVec   // op
	fetchedBytes  *prometheus.CounterVec   // topic
	fetched       *prometheus.CounterVec   // topic, kind: data, control, aborted
	appendSeconds *prometheus.HistogramVec // topic, outcome: ok, error
	appendedBytes *prometheus.CounterVec   // topic
	appended      *prometheus.CounterVec   // topic
	clients       prometheus.Gauge
}

// NewMetrics registers the metrics with reg; nil registers nowhere. Logs with the same registerer share their metrics.
func NewMetrics(reg prometheus.Registerer) *Metrics {
	counter := func(name, help string, labels ...string) *prometheus.CounterVec {
		return register(reg, prometheus.NewCounterVec(prometheus.CounterOpts{Namespace: "tidemark", Subsystem: "kafka", Name: name, Help: help}, labels))
	}
	return &Metrics{
		retries:       counter("retries_total", "Requests that failed and were tried again.", "op"),
		fetchedBytes:  counter("fetched_bytes_total", "Bytes of batches read.", "topic"),
		fetched:       counter("fetched_batches_total", "Batches read.", "topic", "kind"),
		appendedBytes: counter("appended_bytes_total", "Bytes of batches written, compressed.", "topic"),
		appended:      counter("appended_records_total", "Records written.", "topic"),
		appendSeconds: register(reg, prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Namespace: "tidemark", Subsystem: "kafka", Name: "append_seconds", Help: "Time from sending a batch to its answer.",
			Buckets: prometheus.ExponentialBuckets(0.0005, 2, 15), // 0.5 ms to 8 s
		}, []string{"topic", "outcome"})),
		clients: register(reg, prometheus.NewGauge(prometheus.GaugeOpts{
			Namespace: "tidemark", Subsystem: "kafka", Name: "clients", Help: "Open clients: one for the log, one for each reader and writer.",
		})),
	}
}

func register[C prometheus.Collector](reg prometheus.Registerer, c C) C {
	if reg == nil {
		return c
	}
	err := reg.Register(c)
	if already, ok := errors.AsType[prometheus.AlreadyRegisteredError](err); ok {
		return already.ExistingCollector.(C)
	}
	if err != nil {
		panic("kafka: metrics: " + err.Error()) // a name of ours with other labels: a mistake in the program
	}
	return c
}
