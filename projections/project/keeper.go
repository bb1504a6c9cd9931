package project

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/tidemark-dev/tidemark/projections/fold"
	"github.com/tidemark-dev/tidemark/projections/follow"
	"github.com/tidemark-dev/tidemark/projections/warehouse"
)

// ErrChanged ends a Keeper: the views read another generation, or something was erased, or written positions were taken back. The projector
// is to be started anew.
var ErrChanged = errors.New("the projections have to be started anew")

// KeeperConfig of a Keeper. Zero values stand for the defaults.
type KeeperConfig struct {
	Warehouse  *warehouse.Warehouse // required
	Store      *Warehouse           // the projector's, required
	WindowBits uint8
	// LookEvery is how often generation and erasures are looked at. Default 5 s.
	LookEvery time.Duration
	// AuditEvery and AuditAllEvery are how often the last two days, and everything, is audited. Default 10 minutes and a day.
	AuditEvery, AuditAllEvery time.Duration
	// PurgeHour is when bytes of what was erased are removed, 0 to 23 in UTC. Default 3.
	PurgeHour int
	Logger    *slog.Logger
	Metrics   *KeeperMetrics
	Now       func() time.Time
}

// KeeperMetrics are shared by the keepers of a process.
type KeeperMetrics struct {
	audits, mismatches prometheus.Counter
	windows            prometheus.Gauge
}

// NewKeeperMetrics registers the metrics; reg may be nil.
func NewKeeperMetrics(reg prometheus.Registerer) *KeeperMetrics {
	m := &KeeperMetrics{
		audits: prometheus.NewCounter(prometheus.CounterOpts{Name: "tidemark_projections_audits_total", Help: "Audits done."}),
		mismatches: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "tidemark_projections_audit_mismatches_total", Help: "Windows whose sums were not what their facts say.",
		}),
		windows: prometheus.NewGauge(prometheus.GaugeOpts{Name: "tidemark_projections_audited_windows", Help: "Windows that the last audit compared."}),
	}
	if reg != nil {
		reg.MustRegister(m.audits, m.mismatches, m.windows)
	}
	return m
}

// Keeper looks after what the projector has written: it audits, heals, purges, and notices when the projector has to start anew.
type Keeper struct {
	cfg   KeeperConfig
	again []Progress // partitions to write again
}

// NewKeeper makes a keeper for one life of a projector.
func NewKeeper(cfg KeeperConfig) *Keeper {
	if cfg.WindowBits == 0 {
		cfg.WindowBits = fold.WindowBitsDefault
	}
	if cfg.LookEvery == 0 {
		cfg.LookEvery = 5 * time.Second
	}
	if cfg.AuditEvery == 0 {
		cfg.AuditEvery = 10 * time.Minute
	}
	if cfg.AuditAllEvery == 0 {
		cfg.AuditAllEvery = 24 * time.Hour
	}
	if cfg.PurgeHour == 0 {
		cfg.PurgeHour = 3
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	if cfg.Metrics == nil {
		cfg.Metrics = NewKeeperMetrics(nil)
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	return &Keeper{cfg: cfg}
}

// Run works until ctx ends; then it returns nil. Otherwise it returns ErrChanged. Troubles with the store are the projector's to tell.
func (k *Keeper) Run(ctx context.Context) error {
	began := k.cfg.Now()
	audited, auditedAll, purged := began, began, began
	for sleep(ctx, k.cfg.LookEvery) {
		now := k.cfg.Now()
		err := k.look(ctx)
		if err == nil && now.Sub(audited) >= k.cfg.AuditEvery {
			audited = now
			since := now.Add(-24 * time.Hour)
			if now.Sub(auditedAll) >= k.cfg.AuditAllEvery {
				auditedAll, since = now, time.Time{}
			}
			err = k.audit(ctx, since)
		}
		if err == nil && now.UTC().Hour() == k.cfg.PurgeHour && now.Sub(purged) > 12*time.Hour {
			purged = now
			if err = k.cfg.Warehouse.Purge(ctx); err == nil {
				k.cfg.Logger.Info("what was erased is purged", "duration_ms", k.cfg.Now().Sub(now).Milliseconds())
			}
		}
		if errors.Is(err, ErrChanged) {
			return err
		}
		if err != nil && ctx.Err() == nil {
			k.cfg.Logger.Debug("looking after the projections", "error", err)
		}
	}
	return nil
}

// look notices what a running projector cannot.
func (k *Keeper) look(ctx context.Context) error {
	shown, err := k.cfg.Warehouse.ViewsGeneration(ctx)
	if err != nil {
		return err
	}
	if shown != 0 && shown != k.cfg.Store.cfg.Generation {
		return fmt.Errorf("%w: the views read generation %d, not %d", ErrChanged, shown, k.cfg.Store.cfg.Generation)
	}
	list, err := k.cfg.Warehouse.LoadErasures(ctx)
	if err != nil {
		return err
	}
	if known := k.cfg.Store.erased.Load(); known >= 0 && int64(len(list)) != known {
		return fmt.Errorf("%w: something was erased", ErrChanged)
	}
	return nil
}

// audit compares sums with facts. Partitions where they differ are written again from the start of the log, see Heal.
func (k *Keeper) audit(ctx context.Context, since time.Time) error {
	report, err := k.cfg.Warehouse.Audit(ctx, k.cfg.Store.cfg.Generation, warehouse.AuditRange{Window: 1 << k.cfg.WindowBits, Since: since})
	if err != nil {
		return err
	}
	k.cfg.Metrics.audits.Inc()
	k.cfg.Metrics.windows.Set(float64(report.Windows))
	k.cfg.Metrics.mismatches.Add(float64(report.Mismatched))
	if report.Mismatched == 0 {
		return nil
	}
	seen := map[uint16]bool{}
	for _, m := range report.Mismatches {
		if !seen[m.Partition] {
			seen[m.Partition] = true
			k.again = append(k.again, Progress{Partition: int32(m.Partition), Resume: fold.Resume{Position: follow.AtStart(int32(m.Partition))}})
		}
	}
	first := report.Mismatches[0]
	k.cfg.Logger.Error("sums of the projections are not what their facts say; the partitions are written again", "windows", report.Mismatched,
		"partitions", len(k.again), "first_partition", first.Partition, "first_window", first.Window)
	return fmt.Errorf("%w: an audit found %d windows", ErrChanged, report.Mismatched)
}

// Heal takes positions back, so that the next projector writes again what the audit found wrong. Call it when the projector has ended.
func (k *Keeper) Heal(ctx context.Context) error {
	if len(k.again) == 0 {
		return nil
	}
	return k.cfg.Store.SavePositions(ctx, k.again)
}
