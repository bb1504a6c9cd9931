package kafka

import (
	"context"
	"log/slog"

	"github.com/twmb/franz-go/pkg/kgo"
)

// clientLogger hands the log of the clients on, one or two levels lower: what a client warns of is tried again here, and reported
// here if it lasts.
type clientLogger struct{ l *slog.Logger }

func (c *clientLogger) Level() kgo.LogLevel {
	if c.l.Enabled(context.Background(), slog.LevelDebug) {
		return kgo.LogLevelInfo // its debug level has a line for every request
	}
	return kgo.LogLevelError
}

func (c *clientLogger) Log(level kgo.LogLevel, msg string, keyvals ...any) {
	to := slog.LevelDebug
	if level == kgo.LogLevelError {
		to = slog.LevelWarn
	}
	c.l.Log(context.Background(), to, "kafka client: "+msg, keyvals...)
}
