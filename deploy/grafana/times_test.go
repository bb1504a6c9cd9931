package grafana

import (
	"testing"
	"time"
)

func TestRange_Times(t *testing.T) {
	now := time.Date(2026, 11, 21, 18, 0, 0, 0, time.UTC)
	for _, c := range []struct {
		from, to string
		ok       bool
		length   time.Duration
	}{
		{"now-24h", "now", true, 24 * time.Hour},
		{"now-7d", "now-90m", true, 7*24*time.Hour - 90*time.Minute},
		{"2026-11-21T12:00:00Z", "now", true, 6 * time.Hour},
		{"2026-11-21T12:00:00+01:00", "2026-11-21T12:00:00Z", true, time.Hour},
		{"now", "now", false, 0},
		{"now", "now-1h", false, 0},
		{"now-", "now", false, 0},
		{"now-h", "now", false, 0},
		{"now-1w", "now", false, 0},
		{"now--1h", "now", false, 0},
		{"yesterday", "now", false, 0},
		{"now-1h", "", false, 0},
	} {
		from, to, err := Range{}.Override(c.from, c.to).Times(now)
		if (err == nil) != c.ok || err == nil && to.Sub(from) != c.length {
			t.Errorf("%s to %s: %v to %v, %v", c.from, c.to, from, to, err)
		}
	}
	if r := (Range{"now-6h", "now"}).Override("", ""); r != (Range{"now-6h", "now"}) {
		t.Errorf("an override by nothing: %v", r)
	}
}
