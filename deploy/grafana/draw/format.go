package draw

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/tidemark-dev/tidemark/deploy/grafana"
)

// shown is a value as a field of the dashboard shows it: its text, and the colour that mappings or thresholds give it, or "".
func (p *Picture) shown(f *grafana.Field, v any) (text, color string) {
	if v == nil {
		if f.NoValue != "" {
			return f.NoValue, ""
		}
		return "–", ""
	}
	key := fmt.Sprint(v)
	if n, ok := v.(float64); ok {
		key = strconv.FormatFloat(n, 'f', -1, 64)
		if f.Color.Mode == "thresholds" {
			for _, s := range f.Thresholds.Steps {
				if s.Value == nil || n >= *s.Value {
					color = s.Color
				}
			}
		}
	}
	for _, m := range f.Mappings {
		if o, ok := m.Options[key]; ok {
			if o.Color != "" {
				color = o.Color
			}
			return o.Text, color
		}
	}
	switch v := v.(type) {
	case float64:
		return p.number(f, v), color
	case time.Time:
		return v.UTC().Format("Jan 2 15:04:05"), color
	case bool:
		return map[bool]string{true: "yes", false: "no"}[v], color
	}
	return key, color
}

func (p *Picture) number(f *grafana.Field, n float64) string {
	decimals := -1
	if f.Decimals != nil {
		decimals = *f.Decimals
	}
	switch f.Unit {
	case "percentunit":
		return fixed(100*n, max(decimals, 0)) + "%"
	case "ms":
		return duration(n/1000, decimals)
	case "s":
		return duration(n, decimals)
	case "dtdurations":
		return longDuration(n)
	case "bytes":
		return scaled(n, 1024, []string{" B", " KiB", " MiB", " GiB", " TiB"}, decimals)
	case "cps":
		return scaled(n, 1000, []string{"", "K", "M", "B"}, decimals) + "/s"
	case "dateTimeFromNow":
		return ago(p.Now.Sub(time.UnixMilli(int64(n))))
	case "locale":
		return thousands(fixed(n, max(decimals, 0)))
	case "short":
		return scaled(n, 1000, []string{"", "K", "M", "B"}, decimals)
	}
	if decimals >= 0 {
		return fixed(n, decimals)
	}
	return strconv.FormatFloat(n, 'f', -1, 64)
}

func fixed(n float64, decimals int) string { return strconv.FormatFloat(n, 'f', decimals, 64) }

// plain has so many decimals, at most two if that is not said, and none that are zeros at the end.
func plain(n float64, decimals int) string {
	if decimals < 0 {
		decimals = 2
	}
	text := fixed(n, decimals)
	if strings.Contains(text, ".") {
		text = strings.TrimSuffix(strings.TrimRight(text, "0"), ".")
	}
	return text
}

func scaled(n, base float64, units []string, decimals int) string {
	i := 0
	for math.Abs(n) >= base && i < len(units)-1 {
		n /= base
		i++
	}
	if i > 0 {
		decimals = max(decimals, 1)
	}
	return plain(n, decimals) + units[i]
}

func thousands(s string) string {
	sign, rest := "", s
	if strings.HasPrefix(s, "-") {
		sign, rest = "-", s[1:]
	}
	whole, fraction, cut := strings.Cut(rest, ".")
	for i := len(whole) - 3; i > 0; i -= 3 {
		whole = whole[:i] + "," + whole[i:]
	}
	if cut {
		whole += "." + fraction
	}
	return sign + whole
}

var durations = []struct {
	seconds float64
	name    string
}{{86400, "day"}, {3600, "hour"}, {60, "min"}, {1, "s"}, {0.001, "ms"}}

func duration(seconds float64, decimals int) string {
	for _, d := range durations {
		if math.Abs(seconds) >= d.seconds || d.name == "ms" {
			n := seconds / d.seconds
			text := plain(n, max(decimals, 1))
			if text != "1" && len(d.name) > 3 || text != "1" && d.name == "day" {
				return text + " " + d.name + "s"
			}
			return text + " " + d.name
		}
	}
	return ""
}

func longDuration(seconds float64) string {
	d := time.Duration(seconds) * time.Second
	switch {
	case d >= 24*time.Hour:
		return fmt.Sprintf("%d d %d h", d/(24*time.Hour), d%(24*time.Hour)/time.Hour)
	case d >= time.Hour:
		return fmt.Sprintf("%d h %d min", d/time.Hour, d%time.Hour/time.Minute)
	}
	return fmt.Sprintf("%d min", d/time.Minute)
}

func ago(d time.Duration) string {
	if d < time.Second {
		return "just now"
	}
	return duration(math.Trunc(d.Seconds()), 0) + " ago"
}
