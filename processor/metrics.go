package processor

import (
	"strconv"

	"github.com/prometheus/client_golang/prometheus"
)

// Metrics of a processor. Labels are partitions and outcomes only: what concerns streams and records is in the log.
type Metrics struct {
	terms, termsLost, termRetries, quarantines, keepErrors, replayed prometheus.Counter
	commitSeconds, groupRecords                                      prometheus.Histogram
}

// NewMetrics registers the metrics.
func NewMetrics(reg prometheus.Registerer) *Metrics {
	counter := func(name, help string) prometheus.Counter {
		c := prometheus.NewCounter(prometheus.CounterOpts{Namespace: "tidemark", Subsystem: "processor", Name: name, Help: help})
		reg.MustRegister(c)
		return c
	}
	histogram := func(name, help string, buckets []float64) prometheus.Histogram {
		h := prometheus.NewHistogram(prometheus.HistogramOpts{Namespace: "tidemark", Subsystem: "processor", Name: name, Help: help, Buckets: buckets})
		reg.MustRegister(h)
		return h
	}
	return &Metrics{
		terms:         counter("terms_total", "Times this node became writer of a partition."),
		termsLost:     counter("terms_ended_total", "Times a writer of this node ended its term on an error or because another node took over."),
		termRetries:   counter("term_retries_total", "TERM records that lost against another one."),
		quarantines:   counter("quarantines_total", "Times local state was set aside as corrupt."),
		keepErrors:    counter("keep_errors_total", "Turns of housekeeping of the topics that failed; each is tried again."),
		replayed:      counter("replayed_total", "Raw events read again at takeovers, to know what open runs had seen."),
		commitSeconds: histogram("commit_seconds", "From the hand-over of a group to its acknowledgement.", prometheus.ExponentialBuckets(0.0005, 2, 14)),
		groupRecords:  histogram("group_records", "Records in a group.", prometheus.ExponentialBuckets(1, 2, 12)),
	}
}

// Describe and Collect report what is read off the partitions when somebody asks.
var (
	descEvents = prometheus.NewDesc("tidemark_processor_raw_events_total",
		"Raw events decided, by what became of them; those that made a change are in the changes.", []string{"partition", "outcome"}, nil)
	descRecords = prometheus.NewDesc("tidemark_processor_log_records_total",
		"Records read back from the changes topic, by rule V's verdict.", []string{"partition", "verdict"}, nil)
	descCSN   = prometheus.NewDesc("tidemark_processor_applied_csn", "Last applied change sequence number.", []string{"partition"}, nil)
	descTerm  = prometheus.NewDesc("tidemark_processor_term", "Newest term seen.", []string{"partition"}, nil)
	descLag   = prometheus.NewDesc("tidemark_processor_follower_lag_records", "Records of the changes topic not yet read back.", []string{"partition"}, nil)
	descPhase = prometheus.NewDesc("tidemark_processor_partition_phase", "1 for the phase a partition is in.", []string{"partition", "phase"}, nil)
	descHot   = prometheus.NewDesc("tidemark_processor_hot_bytes", "Memory held by hot entries.", nil, nil)
)

// Describe implements prometheus.Collector.
func (p *Processor) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{descEvents, descRecords, descCSN, descTerm, descLag, descPhase, descHot} {
		ch <- d
	}
}

// Collect implements prometheus.Collector.
func (p *Processor) Collect(ch chan<- prometheus.Metric) {
	counter := func(d *prometheus.Desc, v uint64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(v), labels...)
	}
	gauge := func(d *prometheus.Desc, v float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
	}
	for _, part := range p.parts {
		id := strconv.Itoa(int(part.id))
		part.mu.RLock()
		ph, f := part.phase, part.follow
		part.mu.RUnlock()
		c := part.counts.Load()
		counter(descEvents, c.Events, id, "decided")
		counter(descEvents, c.Unchanged, id, "unchanged")
		counter(descEvents, c.Stale, id, "stale_run")
		counter(descEvents, c.Skipped, id, "skipped")
		counter(descEvents, c.NotFound, id, "not_found")
		counter(descEvents, c.Repeated, id, "repeated")
		gauge(descPhase, 1, id, string(ph))
		if f == nil {
			continue
		}
		counter(descRecords, f.counts.valid.Load(), id, "valid")
		counter(descRecords, f.counts.zombie.Load(), id, "zombie")
		counter(descRecords, f.counts.lateTerms.Load(), id, "late_term")
		applied, position, end, _ := f.progress()
		gauge(descCSN, float64(applied.NextCSN-1), id)
		gauge(descTerm, float64(applied.Term), id)
		gauge(descLag, float64(max(0, end-position)), id)
	}
	gauge(descHot, float64(p.shared.budget.Used()))
}
