package follow

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/tidemark-dev/tidemark/schemas/rulev"
)

// Metrics of the followers of a process.
type Metrics struct {
	records    [verdicts]prometheus.Counter
	groups     prometheus.Counter
	reconnects prometheus.Counter
}

const verdicts = int(rulev.Skipped) + 1

var verdictNames = [verdicts]string{
	rulev.Buffered: "valid", rulev.Committed: "valid", rulev.NewTerm: "term", rulev.LateTerm: "late_term",
	rulev.Zombie: "zombie", rulev.Skipped: "skipped",
}

// NewMetrics registers the metrics.
func NewMetrics(reg prometheus.Registerer) *Metrics {
	opts := func(name, help string) prometheus.CounterOpts {
		return prometheus.CounterOpts{Namespace: "tidemark", Subsystem: "follow", Name: name, Help: help}
	}
	records := prometheus.NewCounterVec(opts("records_total",
		"Records read from the changes topic, by rule V's verdict; valid ones of a group that never ended are included."), []string{"verdict"})
	m := &Metrics{
		groups:     prometheus.NewCounter(opts("groups_total", "Valid groups read.")),
		reconnects: prometheus.NewCounter(opts("reconnects_total", "Times a connection was given up and made again.")),
	}
	for v, name := range verdictNames {
		m.records[v] = records.WithLabelValues(name)
	}
	reg.MustRegister(records, m.groups, m.reconnects)
	return m
}
