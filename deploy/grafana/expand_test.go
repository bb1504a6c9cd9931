package grafana

import (
	"strings"
	"testing"
	"time"
)

func TestExpand(t *testing.T) {
	q := Query{
		From: time.Unix(1000, 999), To: time.Unix(5000, 0), Interval: 5 * time.Minute,
		Vars: map[string][]string{"one": {"o'neill"}, "many": {"a", "b,c"}, "all": {All}, "none": nil, "blank": {""}},
	}
	for _, c := range []struct{ sql, want string }{
		{"SELECT 1", "SELECT 1"},
		{"$__timeFilter(at)", "at >= toDateTime(1000) AND at <= toDateTime(5000)"},
		{"$__timeInterval(assumeNotNull(at)) x", "toStartOfInterval(toDateTime(assumeNotNull(at)), INTERVAL 300 second) x"},
		{"n / $__interval_s, $__fromTime, $__toTime", "n / 300, toDateTime(1000), toDateTime(5000)"},
		{"c = ${one:singlequote}", `c = 'o\'neill'`},
		{"c IN (${many:singlequote})", "c IN ('a','b,c')"},
		{"c IN ($many)", "c IN ('a','b,c')"},
		{"$one ${one} ${one:raw}", "o'neill o'neill o'neill"},
		{"$__conditionalAll(c IN (${many:singlequote}), $many)", "c IN ('a','b,c')"},
		{"$__conditionalAll(f(c, 1) IN (${all:singlequote}), $all) AND x", "1=1 AND x"},
		{"$__conditionalAll(c = 1, $none) AND $__conditionalAll(c = 2, ${blank})", "1=1 AND 1=1"},
		{"$__conditionalAll($__conditionalAll(c IN (${many:singlequote}), $all) OR d = $one, $one)", "1=1 OR d = o'neill"},
		{"$__conditionalAll($__timeFilter(at), $one)", "at >= toDateTime(1000) AND at <= toDateTime(5000)"},
	} {
		got, err := q.Expand(c.sql)
		if err != nil || got != c.want {
			t.Errorf("%s:\n got %s, %v\nwant %s", c.sql, got, err, c.want)
		}
	}
	for _, c := range []struct{ sql, says string }{
		{"$nowhere", `"nowhere"`},
		{"${one:csv}", `"csv"`},
		{"c = ${all:singlequote}", "conditionalAll"},
		{"$__conditionalAll(c = 1)", "condition and a variable"},
		{"$__conditionalAll(c = 1, one)", "condition and a variable"},
		{"$__conditionalAll(c = 1, $nowhere)", `"nowhere"`},
		{"$__conditionalAll(c = (1, $one)", "closing"},
		{"$__timeFilter", "no argument"},
		{"$__timeFilter()", "not one argument"},
		{"$__timeFilter(a, b)", "not one argument"},
		{"$__timeFilter(a", "closing"},
		{"$__timeGroup(a)", "timeGroup"},
	} {
		if got, err := q.Expand(c.sql); err == nil || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: got %q, %v; want an error about %s", c.sql, got, err, c.says)
		}
	}
}

func TestIntervalOf_IsWhatGrafanaRoundsTo(t *testing.T) {
	from := time.Unix(0, 0)
	for _, c := range []struct {
		least  string
		length time.Duration
		points int
		want   time.Duration
	}{
		{"", time.Minute, 1000, time.Second},
		{"1m", time.Hour, 1000, time.Minute},
		{"1m", 24 * time.Hour, 600, 2 * time.Minute},
		{"1m", 7 * 24 * time.Hour, 600, 15 * time.Minute},
		{"1m", 90 * 24 * time.Hour, 600, 3 * time.Hour},
		{"1d", 24 * time.Hour, 600, 24 * time.Hour},
		{"", 20 * 365 * 24 * time.Hour, 1, 30 * 24 * time.Hour},
		{"", time.Hour, 0, time.Hour},
	} {
		got, err := IntervalOf(&Panel{Interval: c.least}, from, from.Add(c.length), c.points)
		if err != nil || got != c.want {
			t.Errorf("%v in %d points, at least %q: %v, %v; want %v", c.length, c.points, c.least, got, err, c.want)
		}
	}
	if _, err := IntervalOf(&Panel{Interval: "soon"}, from, from, 1); err == nil {
		t.Error("an interval of soon is accepted")
	}
}
