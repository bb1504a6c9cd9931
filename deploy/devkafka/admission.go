package devkafka

import (
	"fmt"
	"io/fs"
	"log/slog"
	"path/filepath"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"
)

const (
	// measureEvery is the shortest time between two measurements of free space.
	measureEvery = 250 * time.Millisecond
	// warnBytes is the log size from which the broker warns, and again at each doubling: a start reads all of it, and after an
	// unclean stop holds all of it in memory for a moment.
	warnBytes = 2 << 30
	// lookStep is how much is appended between two looks at the log's true size.
	lookStep = 64 << 20
)

const (
	refusedReserve = "disk_reserve"
	refusedStorage = "storage_failure"
)

// admission decides, before kfake touches it, whether a Produce request may be appended.
//
// kfake calls it on its run goroutine, once a request, so its fields need no lock and the verdict on the request at hand can
// be kept in one.
type admission struct {
	dir, logDir string
	reserve     int64
	freeBytes   func(dir string) (int64, error)
	health      *health
	metrics     *metrics
	log         *slog.Logger

	measured time.Time
	free     int64 // at the last measurement, less what was admitted since
	low      bool  // at the reserve at the last measurement
	size     int64 // of the log at the last look, plus what was admitted since
	lookAt   int64
	warnAt   int64

	verdict string // on the request at hand: "" or the reason to refuse
}

// newAdmission measures once, so that a directory whose free space cannot be known is found at the start.
func newAdmission(cfg Config, h *health, m *metrics) (*admission, error) {
	a := &admission{
		dir: cfg.DataDir, logDir: filepath.Join(cfg.DataDir, logDir), reserve: cfg.ReserveBytes, freeBytes: cfg.FreeBytes,
		health: h, metrics: m, log: cfg.Logger, warnAt: warnBytes,
	}
	if _, err := cfg.FreeBytes(cfg.DataDir); err != nil {
		return nil, fmt.Errorf("measuring free space: %w", err)
	}
	m.producing.Set(1)
	a.measured = time.Now()
	a.measure(0)
	a.look(logBytes(a.logDir))
	return a, nil
}

// faults are the hooks into kfake's run loop. The first sees each Produce request before its handler does, and answers
// nothing: a Produce response has no error code of its own for it to set. The others answer every partition of a refused
// request, before the append, with a code that all clients retry and a text that says what to do.
func (a *admission) faults() []kfake.Fault {
	keys := []kmsg.Key{kmsg.Produce}
	refusal := func(reason, text string) kfake.Fault {
		return kfake.Fault{
			Keys: keys, Count: -1,
			Err:  &kerr.Error{Message: text, Code: kerr.KafkaStorageError.Code, Retriable: true, Description: text},
			When: func(kmsg.Request) bool { return a.verdict == reason },
		}
	}
	return []kfake.Fault{
		{Keys: keys, Count: -1, TopLevel: true, When: func(req kmsg.Request) bool {
			a.judge(req.(*kmsg.ProduceRequest))
			return false
		}},
		refusal(refusedStorage, "KAFKA_STORAGE_ERROR: an earlier append failed; check the disk and restart the broker"),
		refusal(refusedReserve, fmt.Sprintf("KAFKA_STORAGE_ERROR: less than the reserve of %d bytes is free in %s; producing goes on once there is space", a.reserve, a.dir)),
	}
}

// judge sets the verdict on one request.
//
// Between two measurements the bytes admitted are taken off the free space, so that a burst cannot run through the reserve
// within one interval. What other programs write in that time is what the reserve's size is for.
func (a *admission) judge(req *kmsg.ProduceRequest) {
	var bytes int64
	for i := range req.Topics {
		for j := range req.Topics[i].Partitions {
			bytes += int64(len(req.Topics[i].Partitions[j].Records))
		}
	}
	if now := time.Now(); now.Sub(a.measured) >= measureEvery {
		a.measured = now
		a.measure(bytes)
	}
	a.verdict = ""
	switch {
	case a.health.lostAppend.Load():
		a.verdict = refusedStorage
		a.metrics.producing.Set(0)
	case a.reserve > 0 && (a.low || a.free-bytes < a.reserve):
		a.verdict = refusedReserve
	}
	if a.verdict != "" {
		a.metrics.refused.WithLabelValues(a.verdict).Inc()
		return
	}
	a.free -= bytes
	a.size += bytes
	a.metrics.dataBytes.Set(float64(a.size))
	if a.size >= a.lookAt {
		a.look(logBytes(a.logDir))
	}
}

// measure asks for the free space and notes a change of state, bytes being what is about to be written. Space is back a
// sixteenth above the reserve, so that a disk that hovers there does not fill the log with transitions. Free space that cannot
// be known counts as none.
func (a *admission) measure(bytes int64) {
	free, err := a.freeBytes(a.dir)
	if err != nil {
		free = 0
	}
	a.free = free
	a.metrics.freeBytes.Set(float64(free))
	if a.reserve == 0 {
		return
	}
	switch {
	case !a.low && free-bytes < a.reserve:
		a.low = true
		a.metrics.producing.Set(0)
		attrs := []any{"dir", a.dir, "free_bytes", free, "reserve_bytes", a.reserve}
		if err != nil {
			attrs = append(attrs, "err", err)
		}
		a.log.Error("disk reserve reached, producing is refused until there is space: free some, or trim", attrs...)
	case a.low && free-bytes >= a.reserve+a.reserve/16:
		a.low = false
		a.metrics.producing.Set(1)
		a.log.Info("space is back, producing goes on", "dir", a.dir, "free_bytes", free, "reserve_bytes", a.reserve)
	}
}

// look takes in the log's true size, which trims have made smaller than the running sum, warns if it has doubled since the
// last warning, and says at which sum to look again.
func (a *admission) look(size int64) {
	a.size = size
	a.metrics.dataBytes.Set(float64(size))
	if size >= a.warnAt {
		a.log.Warn("the embedded log is large: every start reads all of it, and needs as much memory after an unclean stop; trim, or move to a Kafka cluster", "dir", a.dir, "data_bytes", size)
		for a.warnAt <= size {
			a.warnAt *= 2
		}
	}
	a.lookAt = max(a.warnAt, size+lookStep)
}

// logBytes is the size of all files under dir. A file that goes while it is counted does not count.
func logBytes(dir string) int64 {
	var total int64
	filepath.WalkDir(dir, func(_ string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return nil //nolint:nilerr // gone meanwhile
		}
		if info, err := d.Info(); err == nil {
			total += info.Size()
		}
		return nil
	})
	return total
}
