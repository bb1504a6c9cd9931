package grafana

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

// Override is the range with another begin or end, where one is given.
func (r Range) Override(from, to string) Range {
	if from != "" {
		r.From = from
	}
	if to != "" {
		r.To = to
	}
	return r
}

// Times are the ends of the range at a time now. Each is now, now less some minutes, hours or days (now-24h), or a time (RFC 3339).
func (r Range) Times(now time.Time) (from, to time.Time, err error) {
	if from, err = moment(r.From, now); err != nil {
		return from, to, err
	}
	if to, err = moment(r.To, now); err != nil {
		return from, to, err
	}
	if !from.Before(to) {
		return from, to, fmt.Errorf("the range from %s to %s is empty", r.From, r.To)
	}
	return from, to, nil
}

func moment(text string, now time.Time) (time.Time, error) {
	if text == "now" {
		return now, nil
	}
	if back, found := strings.CutPrefix(text, "now-"); found && len(back) > 1 {
		unit, known := map[byte]time.Duration{'m': time.Minute, 'h': time.Hour, 'd': 24 * time.Hour}[back[len(back)-1]]
		n, err := strconv.ParseUint(back[:len(back)-1], 10, 16)
		if known && err == nil {
			return now.Add(-time.Duration(n) * unit), nil
		}
	}
	at, err := time.Parse(time.RFC3339, text)
	if err != nil {
		return at, fmt.Errorf("reading time %q: not now, now-6h or the like, and no RFC 3339", text)
	}
	return at, nil
}
