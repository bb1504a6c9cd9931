package devkafka

import (
	"fmt"

	"github.com/prometheus/client_golang/prometheus"
)

// metrics are the broker's, with bounded labels only.
type metrics struct {
	reg prometheus.Registerer
	all []prometheus.Collector

	freeBytes       prometheus.Gauge
	dataBytes       prometheus.Gauge
	producing       prometheus.Gauge
	refused         *prometheus.CounterVec
	dropped         *prometheus.CounterVec
	connections     prometheus.Gauge
	storageFailures prometheus.Counter
}

// newMetrics registers with reg, which may be nil.
func newMetrics(reg prometheus.Registerer) (*metrics, error) {
	m := &metrics{
		reg: reg,
		freeBytes: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "tidemark_devkafka_free_bytes", Help: "Free space of the broker's file system at the last measurement."}),
		dataBytes: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "tidemark_devkafka_data_bytes", Help: "Size of the log: measured at start, raised by each append, measured again when it nears a warning."}),
		producing: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "tidemark_devkafka_producing", Help: "1 while records are accepted, 0 while the disk reserve or a storage failure has them refused."}),
		refused: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "tidemark_devkafka_refused_requests_total", Help: "Produce requests refused before anything was appended."}, []string{"reason"}),
		dropped: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "tidemark_devkafka_dropped_connections_total", Help: "Connections cut by the guard."}, []string{"reason"}),
		connections: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "tidemark_devkafka_connections", Help: "Open client connections."}),
		storageFailures: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "tidemark_devkafka_storage_failures_total", Help: "Writes that the broker reported as failed."}),
	}
	for _, reason := range []string{refusedReserve, refusedStorage} {
		m.refused.WithLabelValues(reason)
	}
	for _, reason := range dropReasons {
		m.dropped.WithLabelValues(reason)
	}
	for _, c := range []prometheus.Collector{m.freeBytes, m.dataBytes, m.producing, m.refused, m.dropped, m.connections, m.storageFailures} {
		if reg == nil {
			break
		}
		if err := reg.Register(c); err != nil {
			m.unregister()
			return nil, fmt.Errorf("registering the broker's metrics: %w", err)
		}
		m.all = append(m.all, c)
	}
	return m, nil
}

// unregister gives the names back, so that a broker can be started again in the same process.
func (m *metrics) unregister() {
	for _, c := range m.all {
		m.reg.Unregister(c)
	}
	m.all = nil
}
