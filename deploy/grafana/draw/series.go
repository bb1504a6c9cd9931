package draw

import (
	"fmt"
	"math"
	"strings"
	"time"

	"github.com/tidemark-dev/tidemark/deploy/grafana"
)

// line is one series: values over time, rising.
type line struct {
	name  string
	field grafana.Field
	color string
	at    []time.Time
	v     []float64
}

// palette is for series that the dashboard gives no colour.
var palette = []string{"#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00"}

// lines takes an answer apart: a column is a series, and if there is a column of text, each of its values is one.
func lines(panel *grafana.Panel, t *grafana.Table) ([]*line, error) {
	var all []*line
	byName := map[string]*line{}
	for _, row := range t.Rows {
		at, ok := row[0].(time.Time)
		if !ok {
			return nil, fmt.Errorf("the first column is %T, not a time", row[0])
		}
		label := ""
		for _, v := range row[1:] {
			if s, ok := v.(string); ok {
				label = s
			}
		}
		for i, v := range row[1:] {
			column := t.Columns[i+1].Name
			n, isNumber := v.(float64)
			if _, isText := v.(string); isText {
				continue
			}
			l := byName[column+"\x00"+label]
			if l == nil {
				f, err := panel.Field(column)
				if err != nil {
					return nil, err
				}
				l = &line{name: column, field: f, color: f.Color.FixedColor}
				if label != "" {
					l.name = label
				}
				if f.Color.Mode != "fixed" {
					l.color = palette[len(all)%len(palette)]
				}
				byName[column+"\x00"+label] = l
				all = append(all, l)
			}
			if isNumber {
				l.at, l.v = append(l.at, at), append(l.v, n)
			}
		}
	}
	return all, nil
}

func (p *Picture) series(c *canvas, panel *grafana.Panel, t *grafana.Table, b box) error {
	all, err := lines(panel, t)
	if err != nil {
		return err
	}
	defaults := panel.FieldConfig.Defaults
	stacked := defaults.Custom.Stacking.Mode == "normal"
	high := highest(all, stacked)
	labels := ticks(0, high, 4, defaults.Unit == "short" || defaults.Unit == "locale")
	switch defaults.Unit {
	case "bytes":
		labels = unitTicks(high, 1, 1<<10, 1<<20, 1<<30, 1<<40)
	case "ms":
		labels = unitTicks(high, 1, 1000, 60_000, 3_600_000, 86_400_000)
	case "s":
		labels = unitTicks(high, 0.001, 1, 60, 3600, 86400)
	}
	top := labels[len(labels)-1]
	left := 0.0
	for _, v := range labels {
		left = max(left, textWidth(p.number(&defaults, v), 11))
	}
	left += 22 // the axis label, which stands on its side
	const legendHeight, axisHeight = 24, 18
	plot := box{b.x + left, b.y + 4, b.w - left - 4, b.h - legendHeight - axisHeight - 4}
	x := func(at time.Time) float64 {
		return plot.x + plot.w*float64(at.Sub(p.From))/float64(p.To.Sub(p.From))
	}
	y := func(v float64) float64 { return plot.y + plot.h*(1-v/top) }
	for _, v := range labels {
		c.printf(`<line class="line" x1="%.1f" x2="%.1f" y1="%.1f" y2="%.1f"/>`+"\n", plot.x, plot.x+plot.w, y(v), y(v))
		c.text(plot.x-6, y(v)+4, p.number(&defaults, v), "muted small", "end", left)
	}
	c.printf(`<text class="muted small" text-anchor="middle" transform="translate(%.1f %.1f) rotate(-90)">%s</text>`+"\n", b.x+6, plot.y+plot.h/2, escape(defaults.Custom.AxisLabel))
	at, layout := timeTicks(p.From, p.To, int(plot.w/70))
	for _, when := range at {
		c.printf(`<line class="axis" x1="%.1f" x2="%.1f" y1="%.1f" y2="%.1f"/>`+"\n", x(when), x(when), plot.y+plot.h, plot.y+plot.h+4)
		c.text(x(when), plot.y+plot.h+16, when.Format(layout), "muted small", "middle", 70)
	}
	c.printf(`<line class="axis" x1="%.1f" x2="%.1f" y1="%.1f" y2="%.1f"/>`+"\n", plot.x, plot.x+plot.w, plot.y+plot.h, plot.y+plot.h)
	for _, m := range p.Marks {
		if !m.At.Before(p.From) && !m.At.After(p.To) {
			c.printf(`<path d="M%.1f %.1fV%.1f" stroke="%s" stroke-dasharray="2 3" opacity=".55"/>`+"\n", x(m.At), plot.y, plot.y+plot.h, m.Color)
		}
	}
	under := map[time.Time]float64{}
	for _, l := range all {
		switch l.field.Custom.DrawStyle {
		case "bars":
			p.barSeries(c, all, l, plot, x, y, under, stacked)
		case "points":
			for i, v := range l.v {
				if inside(x(l.at[i]), plot) {
					c.printf(`<circle cx="%.1f" cy="%.1f" r="3.2" fill="%s"/>`+"\n", x(l.at[i]), y(v), l.color)
				}
			}
		default:
			p.curve(c, l, plot, x, y)
		}
	}
	legend(c, all, box{plot.x, plot.y + plot.h + axisHeight, plot.w, legendHeight})
	return nil
}

func inside(x float64, plot box) bool { return x >= plot.x-0.5 && x <= plot.x+plot.w+0.5 }

func highest(all []*line, stacked bool) (high float64) {
	sums := map[time.Time]float64{}
	for _, l := range all {
		for i, v := range l.v {
			if stacked {
				sums[l.at[i]] += v
				v = sums[l.at[i]]
			}
			high = max(high, v)
		}
	}
	return high
}

// unitTicks are round in the largest of the units that high reaches.
func unitTicks(high float64, units ...float64) []float64 {
	unit := units[0]
	for _, u := range units {
		if high >= u {
			unit = u
		}
	}
	out := ticks(0, high/unit, 4, high/unit >= 4)
	for i := range out {
		out[i] *= unit
	}
	return out
}

// barSeries draws bars that begin at their time. They are as wide as the least distance between times lets them.
func (p *Picture) barSeries(c *canvas, all []*line, l *line, plot box, x func(time.Time) float64, y func(float64) float64, under map[time.Time]float64, stacked bool) {
	least := math.Inf(1)
	for _, other := range all {
		for i := 1; i < len(other.at); i++ {
			least = min(least, x(other.at[i])-x(other.at[i-1]))
		}
	}
	wide := min(40, max(1.6, 0.82*least))
	if !stacked { // side by side
		wide /= float64(len(all))
	}
	var d strings.Builder
	for i, v := range l.v {
		from := x(l.at[i])
		if !stacked {
			for j, other := range all {
				if other == l {
					from += wide * float64(j)
				}
			}
		}
		if v == 0 || from < plot.x-0.5 || from > plot.x+plot.w {
			continue
		}
		low := 0.0
		if stacked {
			low = under[l.at[i]]
			under[l.at[i]] += v
		}
		fmt.Fprintf(&d, "M%.1f %.1fh%.1fV%.1fh%.1fz", from, y(low), min(wide, plot.x+plot.w-from), y(low+v), -min(wide, plot.x+plot.w-from))
	}
	c.printf(`<path d="%s" fill="%s"/>`+"\n", d.String(), l.color)
}

func (p *Picture) curve(c *canvas, l *line, plot box, x func(time.Time) float64, y func(float64) float64) {
	var d strings.Builder
	first, last, before := 0.0, 0.0, 0.0
	for i, v := range l.v {
		if !inside(x(l.at[i]), plot) {
			continue
		}
		switch {
		case d.Len() == 0:
			first = x(l.at[i])
			fmt.Fprintf(&d, "M%.1f %.1f", first, y(v))
		case l.field.Custom.LineInterpolation == "stepAfter":
			fmt.Fprintf(&d, "H%.1fV%.1f", x(l.at[i]), y(v))
		default:
			fmt.Fprintf(&d, "L%.1f %.1f", x(l.at[i]), y(v))
		}
		last, before = x(l.at[i]), v
	}
	if d.Len() == 0 {
		return
	}
	if l.field.Custom.LineInterpolation == "stepAfter" { // the last value holds
		last = plot.x + plot.w
		fmt.Fprintf(&d, "H%.1f", last)
	}
	if o := l.field.Custom.FillOpacity; o > 0 {
		c.printf(`<path d="%sL%.1f %.1fH%.1fz" fill="%s" opacity="%.2f"/>`+"\n", d.String(), last, y(0), first, l.color, float64(o)/100)
	}
	dash := ""
	if l.field.Custom.LineStyle.Fill == "dash" {
		dash = ` stroke-dasharray="6 4"`
	}
	c.printf(`<path d="%s" fill="none" stroke="%s" stroke-width="1.8" stroke-linejoin="round"%s/>`+"\n", d.String(), l.color, dash)
	if len(l.v) == 1 { // a line of one point cannot be seen
		c.printf(`<circle cx="%.1f" cy="%.1f" r="3" fill="%s"/>`+"\n", first, y(before), l.color)
	}
}

func legend(c *canvas, all []*line, b box) {
	x := b.x
	for _, l := range all {
		room := textWidth(l.name, 11)
		if x+room+20 > b.x+b.w {
			return
		}
		if l.field.Custom.DrawStyle == "line" || l.field.Custom.DrawStyle == "" {
			dash := ""
			if l.field.Custom.LineStyle.Fill == "dash" {
				dash = ` stroke-dasharray="4 3"`
			}
			c.printf(`<path d="M%.1f %.1fh13" stroke="%s" stroke-width="2.4"%s/>`+"\n", x, b.y+15, l.color, dash)
		} else {
			c.printf(`<rect x="%.1f" y="%.1f" width="10" height="10" rx="2" fill="%s"/>`+"\n", x, b.y+10, l.color)
		}
		c.text(x+17, b.y+19, l.name, "small", "start", room+4)
		x += room + 34
	}
}
