package devkafka

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"sync/atomic"

	"github.com/twmb/franz-go/pkg/kfake"
)

// health remembers what went wrong while kfake was writing. kfake returns none of it: a failed write is a log line. So the
// log lines are read, by the beginning of their format string, and a test of this package fails should they change.
type health struct {
	log     *slog.Logger
	metrics *metrics
	// failures counts writes that failed, of any kind.
	failures atomic.Int64
	// lostAppend is set once a record batch could not be written. By then kfake has noted the batch's sequence numbers, so
	// it takes the producer's next try for a duplicate, and acknowledges what is not there.
	lostAppend atomic.Bool
}

// Beginnings of kfake's format strings.
var (
	lostAppendLines = []string{"persist batch", "endTx: failed to persist"}
	failureLines    = []string{"persist ", "save session state", "compact ", "delete topic"}
)

// Logf is kfake's logger.
func (h *health) Logf(level kfake.LogLevel, format string, args ...any) {
	var to slog.Level
	switch level {
	case kfake.LogLevelError:
		to = slog.LevelError
	case kfake.LogLevelWarn:
		to = slog.LevelWarn
	default: // every group join and every odd request is an Info there
		to = slog.LevelDebug
	}
	if to >= slog.LevelWarn && hasAnyPrefix(format, failureLines, lostAppendLines) {
		h.failures.Add(1)
		h.metrics.storageFailures.Inc()
		to = slog.LevelError
	}
	if to >= slog.LevelWarn && hasAnyPrefix(format, lostAppendLines) && !h.lostAppend.Swap(true) {
		h.log.Error("an append failed, producing is refused until a restart: check the disk, then restart")
	}
	if h.log.Enabled(context.Background(), to) {
		h.log.Log(context.Background(), to, "kfake: "+fmt.Sprintf(format, args...))
	}
}

func hasAnyPrefix(s string, lists ...[]string) bool {
	for _, list := range lists {
		for _, prefix := range list {
			if strings.HasPrefix(s, prefix) {
				return true
			}
		}
	}
	return false
}
