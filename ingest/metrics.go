package ingest

import (
	"fmt"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/tidemark-dev/tidemark/schemas/errcode"
)

// Metrics of a producer. Labels are bounded sets; nothing names a stream, a run or a record.
type metrics struct {
	reg prometheus.Registerer
	all []prometheus.Collector

	events  [kinds]prometheus.Counter
	bytes   prometheus.Counter
	failed  *prometheus.CounterVec
	seconds [2]prometheus.Observer // by outcome: acknowledged, failed
}

const (
	outcomeAcked = iota
	outcomeFailed
)

// newMetrics registers with reg, which may be nil.
func newMetrics(reg prometheus.Registerer, inFlight func() float64) (*metrics, error) {
	const namespace, subsystem = "tidemark", "ingest"
	opts := func(name, help string) prometheus.Opts {
		return prometheus.Opts{Namespace: namespace, Subsystem: subsystem, Name: name, Help: help}
	}
	events := prometheus.NewCounterVec(prometheus.CounterOpts(opts("records_total", "Raw events acknowledged, by operation.")), []string{"op"})
	seconds := prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Namespace: namespace, Subsystem: subsystem, Name: "produce_duration_seconds",
		Help:    "From the write of an event to the broker's answer, of every write that waits for it and of one in 64 of the others.",
		Buckets: prometheus.ExponentialBuckets(0.0005, 2, 18),
	}, []string{"outcome"})
	m := &metrics{
		reg:    reg,
		bytes:  prometheus.NewCounter(prometheus.CounterOpts(opts("bytes_total", "Bytes of the payloads and ids of events acknowledged."))),
		failed: prometheus.NewCounterVec(prometheus.CounterOpts(opts("failed_records_total", "Raw events that did not reach the log, or may not have, by code.")), []string{"code"}),
	}
	for k, name := range kindNames {
		m.events[k] = events.WithLabelValues(name)
	}
	for _, code := range []string{string(errcode.RecordTooLarge), string(errcode.TopicDrift), "closed", "other"} {
		m.failed.WithLabelValues(code)
	}
	m.seconds[outcomeAcked] = seconds.WithLabelValues("acked")
	m.seconds[outcomeFailed] = seconds.WithLabelValues("failed")
	window := prometheus.NewGaugeFunc(prometheus.GaugeOpts(opts("inflight_bytes", "Bytes of events on their way to the broker, of Config.BufferBytes.")), inFlight)
	for _, c := range []prometheus.Collector{events, m.bytes, m.failed, seconds, window} {
		if reg == nil {
			break
		}
		if err := reg.Register(c); err != nil {
			m.unregister()
			return nil, fmt.Errorf("registering the producer's metrics: %w", err)
		}
		m.all = append(m.all, c)
	}
	return m, nil
}

// unregister gives the names back, so that another producer can be made in the same process.
func (m *metrics) unregister() {
	for _, c := range m.all {
		m.reg.Unregister(c)
	}
	m.all = nil
}
