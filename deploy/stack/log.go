package stack

import (
	"io"
	"log/slog"
	"time"
)

// NewLogger writes lines for people to a terminal, and JSON to anything else.
func NewLogger(w io.Writer, terminal bool, level slog.Leveler) *slog.Logger {
	if !terminal {
		return slog.New(slog.NewJSONHandler(w, &slog.HandlerOptions{Level: level}))
	}
	return slog.New(slog.NewTextHandler(w, &slog.HandlerOptions{Level: level, ReplaceAttr: func(groups []string, a slog.Attr) slog.Attr {
		if a.Key == slog.TimeKey && len(groups) == 0 {
			a.Value = slog.StringValue(a.Value.Time().Format(time.TimeOnly))
		}
		return a
	}}))
}
