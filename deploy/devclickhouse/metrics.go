package devclickhouse

import (
	"fmt"
	"os"
	"strconv"
	"strings"

	"github.com/prometheus/client_golang/prometheus"
)

// metrics are the supervisor's. The engine's own are in its system tables.
type metrics struct {
	reg prometheus.Registerer
	all []prometheus.Collector

	restarts     prometheus.Counter
	startSeconds prometheus.Gauge
}

// newMetrics registers with reg, which may be nil.
func newMetrics(reg prometheus.Registerer, s *Server) (*metrics, error) {
	m := &metrics{
		reg: reg,
		restarts: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "tidemark_devclickhouse_restarts_total", Help: "Starts of the embedded ClickHouse after the first."}),
		startSeconds: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "tidemark_devclickhouse_start_seconds", Help: "How long the last start took until a statement was answered."}),
	}
	up := prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "tidemark_devclickhouse_up", Help: "1 while the embedded ClickHouse answers."}, func() float64 {
		if s.State().Phase == Running {
			return 1
		}
		return 0
	})
	resident := prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "tidemark_devclickhouse_resident_bytes", Help: "Resident memory of the embedded ClickHouse, 0 where it cannot be read."}, func() float64 {
		return float64(residentBytes(s.State().PID))
	})
	limit := prometheus.NewGauge(prometheus.GaugeOpts{
		Name: "tidemark_devclickhouse_memory_limit_bytes", Help: "What the engine may use by its own count."})
	limit.Set(float64(engineLimit(s.cfg.MemoryBytes)))
	for _, c := range []prometheus.Collector{m.restarts, m.startSeconds, up, resident, limit} {
		if reg == nil {
			break
		}
		if err := reg.Register(c); err != nil {
			m.unregister()
			return nil, fmt.Errorf("registering the metrics of the embedded ClickHouse: %w", err)
		}
		m.all = append(m.all, c)
	}
	return m, nil
}

// unregister gives the names back, so that a server can be started again in the same process.
func (m *metrics) unregister() {
	for _, c := range m.all {
		m.reg.Unregister(c)
	}
	m.all = nil
}

// residentBytes reads what Linux counts for a process; 0 elsewhere, and for none.
func residentBytes(pid int) int64 {
	if pid == 0 {
		return 0
	}
	text, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/statm")
	if err != nil {
		return 0
	}
	fields := strings.Fields(string(text)) // sizes in pages: total, resident, ...
	if len(fields) < 2 {
		return 0
	}
	pages, err := strconv.ParseInt(fields[1], 10, 64)
	if err != nil {
		return 0
	}
	return pages * int64(os.Getpagesize())
}
