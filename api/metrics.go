package api

import "github.com/prometheus/client_golang/prometheus"

// Metrics of the API. Labels are routes of the table, status codes and registered error codes: never a name that a client chose.
type Metrics struct {
	requests       *prometheus.CounterVec
	duration       *prometheus.HistogramVec
	inflight       prometheus.Gauge
	waitingReaders prometheus.Gauge
	pageRecords    prometheus.Histogram
	pageBytes      prometheus.Histogram
	cursorErrors   *prometheus.CounterVec
}

// NewMetrics registers the metrics. It panics if reg has them already.
func NewMetrics(reg prometheus.Registerer) *Metrics {
	const namespace, subsystem = "tidemark", "api"
	m := &Metrics{
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Namespace: namespace, Subsystem: subsystem, Name: "requests_total",
			Help: "Requests answered, by route and status code; 499: the client did not wait.",
		}, []string{"route", "code"}),
		duration: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Namespace: namespace, Subsystem: subsystem, Name: "request_duration_seconds",
			Help:    "Time from the head of a request to its whole answer, failures included.",
			Buckets: prometheus.ExponentialBuckets(0.0005, 2, 17), // 0.5 ms to 33 s, the request time limit
		}, []string{"route"}),
		inflight: prometheus.NewGauge(prometheus.GaugeOpts{
			Namespace: namespace, Subsystem: subsystem, Name: "inflight_requests",
			Help: "Requests under way.",
		}),
		waitingReaders: prometheus.NewGauge(prometheus.GaugeOpts{
			Namespace: namespace, Subsystem: subsystem, Name: "waiting_readers",
			Help: "Reads that wait because readers_max pages are in memory.",
		}),
		pageRecords: prometheus.NewHistogram(prometheus.HistogramOpts{
			Namespace: namespace, Subsystem: subsystem, Name: "page_records",
			Help:    "Records of a page.",
			Buckets: []float64{0, 1, 10, 100, 1000, 10_000},
		}),
		pageBytes: prometheus.NewHistogram(prometheus.HistogramOpts{
			Namespace: namespace, Subsystem: subsystem, Name: "page_bytes",
			Help:    "Bytes of a page before compression.",
			Buckets: prometheus.ExponentialBuckets(1<<10, 4, 8), // 1 KiB to 16 MiB
		}),
		cursorErrors: prometheus.NewCounterVec(prometheus.CounterOpts{
			Namespace: namespace, Subsystem: subsystem, Name: "cursor_errors_total",
			Help: "Cursors refused, by error code.",
		}, []string{"code"}),
	}
	reg.MustRegister(m.requests, m.duration, m.inflight, m.waitingReaders, m.pageRecords, m.pageBytes, m.cursorErrors)
	return m
}

// routeMetrics are those of one route.
type routeMetrics struct {
	requests *prometheus.CounterVec // by code
	duration prometheus.Observer
}

func (m *Metrics) route(label string) routeMetrics {
	return routeMetrics{
		requests: m.requests.MustCurryWith(prometheus.Labels{"route": label}),
		duration: m.duration.WithLabelValues(label),
	}
}
