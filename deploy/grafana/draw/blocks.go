package draw

import (
	"fmt"

	"github.com/tidemark-dev/tidemark/deploy/grafana"
)

const neutral = "#7B8794"

// stat is one large value, with its course behind it if the panel has one.
func (p *Picture) stat(c *canvas, panel *grafana.Panel, t *grafana.Table, b box) error {
	column := len(t.Columns) - 1
	f, err := panel.Field(t.Columns[column].Name)
	if err != nil {
		return err
	}
	var value any
	total := 0.0
	for _, row := range t.Rows {
		if row[column] != nil {
			value = row[column]
		}
		if n, ok := row[column].(float64); ok {
			total += n
		}
	}
	if len(panel.Options.ReduceOptions.Calcs) == 1 && panel.Options.ReduceOptions.Calcs[0] == "sum" {
		value = total
	}
	text, color := p.shown(&f, value)
	if color == "" {
		if color = f.Color.FixedColor; color == "" {
			color = neutral
		}
	}
	size := 30.0
	for size > 15 && textWidth(text, size)*1.05 > b.w {
		size--
	}
	if panel.Options.GraphMode == "area" {
		all, err := lines(panel, t)
		if err != nil {
			return err
		}
		p.sparkline(c, all[0], color, b)
	}
	c.colored(b.x, b.y+b.h/2+size*0.25, text, color, "start", size, b.w)
	return nil
}

// sparkline has no axes: at most sixty bars, each the sum of its share of the range.
func (p *Picture) sparkline(c *canvas, l *line, color string, b box) {
	const n = 60
	var sums [n]float64
	high := 0.0
	for i, v := range l.v {
		at := int(n * float64(l.at[i].Sub(p.From)) / float64(p.To.Sub(p.From)))
		at = max(0, min(n-1, at))
		sums[at] += v
		high = max(high, sums[at])
	}
	if high == 0 {
		return
	}
	wide := b.w / n
	for i, v := range sums {
		if v > 0 {
			h := max(1, 0.42*b.h*v/high)
			c.printf(`<rect x="%.1f" y="%.1f" width="%.1f" height="%.1f" fill="%s" opacity=".35"/>`+"\n", b.x+float64(i)*wide, b.y+b.h-h+4, wide*0.8, h, color)
		}
	}
}

// bars are one bar a row, side by side or one under the other, each with its value.
func (p *Picture) bars(c *canvas, panel *grafana.Panel, t *grafana.Table, b box) error {
	name := t.Index(panel.Options.XField)
	value := -1
	for i := range t.Columns {
		if i != name {
			value = i
		}
	}
	if name < 0 || value < 0 {
		return fmt.Errorf("no column of names %q, or none beside it", panel.Options.XField)
	}
	f, err := panel.Field(t.Columns[value].Name)
	if err != nil {
		return err
	}
	high, room := 0.0, 0.0
	for _, row := range t.Rows {
		n, _ := row[value].(float64)
		high = max(high, n)
		room = max(room, textWidth(fmt.Sprint(row[name]), 12))
	}
	high = max(high, 1e-9)
	if panel.Options.Orientation != "horizontal" {
		return p.columns(c, &f, t, name, value, high, b)
	}
	room = min(room, b.w*0.45)
	each := min(34, b.h/float64(len(t.Rows)))
	for i, row := range t.Rows {
		n, _ := row[value].(float64)
		y := b.y + each*float64(i)
		full := b.w - room - 62
		c.text(b.x+room, y+each/2+4, fmt.Sprint(row[name]), "", "end", room)
		c.printf(`<rect class="track" x="%.1f" y="%.1f" width="%.1f" height="%.1f" rx="2"/>`+"\n", b.x+room+10, y+each*0.17, full, each*0.66)
		c.printf(`<rect x="%.1f" y="%.1f" width="%.1f" height="%.1f" rx="2" fill="%s"/>`+"\n", b.x+room+10, y+each*0.17, full*n/high, each*0.66, f.Color.FixedColor)
		c.text(b.x+room+16+full, y+each/2+4, p.number(&f, n), "", "start", 46)
	}
	return nil
}

func (p *Picture) columns(c *canvas, f *grafana.Field, t *grafana.Table, name, value int, high float64, b box) error {
	each := b.w / float64(len(t.Rows))
	h := b.h - 38
	for i, row := range t.Rows {
		n, _ := row[value].(float64)
		x := b.x + each*float64(i)
		tall := h * n / high
		c.printf(`<rect x="%.1f" y="%.1f" width="%.1f" height="%.1f" rx="2" fill="%s"/>`+"\n", x+each*0.14, b.y+16+h-tall, each*0.72, tall, f.Color.FixedColor)
		c.text(x+each/2, b.y+12+h-tall, p.number(f, n), "small", "middle", each)
		c.text(x+each/2, b.y+b.h-4, fmt.Sprint(row[name]), "muted small", "middle", each)
	}
	c.printf(`<line class="axis" x1="%.1f" x2="%.1f" y1="%.1f" y2="%.1f"/>`+"\n", b.x, b.x+b.w, b.y+16+h, b.y+16+h)
	return nil
}

// column is one that is shown.
type column struct {
	index   int
	field   grafana.Field
	name    string
	numbers bool
	w       float64
}

const (
	rowHeight = 24.0
	cellGap   = 14.0
	gaugeRoom = 120.0
)

// table shows as many rows as there is room for.
func (p *Picture) table(c *canvas, panel *grafana.Panel, t *grafana.Table, b box) error {
	fit := max(1, int((b.h-rowHeight)/rowHeight))
	rows := t.Rows[:min(fit, len(t.Rows))]
	var columns []*column
	for i, head := range t.Columns {
		f, err := panel.Field(head.Name)
		if err != nil {
			return err
		}
		if f.Custom.Hidden {
			continue
		}
		col := &column{index: i, field: f, name: f.DisplayName}
		if col.name == "" {
			col.name = head.Name
		}
		col.w = textWidth(col.name, 12)
		for _, row := range rows {
			text, _ := p.shown(&f, row[i])
			col.w = max(col.w, textWidth(text, 12))
			if _, ok := row[i].(float64); ok {
				col.numbers = true
			}
		}
		if f.Custom.CellOptions.Type == "gauge" {
			col.w, col.numbers = gaugeRoom, false
		}
		columns = append(columns, col)
	}
	fitColumns(columns, b.w)
	x := b.x
	for _, col := range columns {
		at, anchor := x, "start"
		if col.numbers {
			at, anchor = x+col.w, "end"
		}
		c.text(at, b.y+14, col.name, "muted", anchor, col.w)
		for i, row := range rows {
			y := b.y + rowHeight*float64(i+1) + 15
			text, color := p.shown(&col.field, row[col.index])
			switch n, _ := row[col.index].(float64); {
			case col.field.Custom.CellOptions.Type == "gauge":
				full := max(0, col.w-52)
				c.printf(`<rect class="track" x="%.1f" y="%.1f" width="%.1f" height="12" rx="2"/>`+"\n", x, y-10, full)
				c.printf(`<rect x="%.1f" y="%.1f" width="%.1f" height="12" rx="2" fill="%s"/>`+"\n", x, y-10, full*min(1, max(0, n)), col.field.Color.FixedColor)
				c.text(x+col.w, y, text, "", "end", min(48, col.w))
			case col.field.Custom.CellOptions.Type == "color-text" && color != "":
				c.colored(at, y, text, color, anchor, 12, col.w)
			default:
				c.text(at, y, text, "", anchor, col.w)
			}
		}
		x += col.w + cellGap
	}
	for i := range rows {
		y := b.y + rowHeight*float64(i+1)
		c.printf(`<line class="line" x1="%.1f" x2="%.1f" y1="%.1f" y2="%.1f"/>`+"\n", b.x, b.x+b.w, y, y)
	}
	return nil
}

// fitColumns makes the widest columns narrower until all fit, or spreads what is left among them.
func fitColumns(columns []*column, room float64) {
	room -= cellGap * float64(len(columns)-1)
	total := 0.0
	for _, c := range columns {
		total += c.w
	}
	if total <= room {
		for _, c := range columns {
			c.w += (room - total) / float64(len(columns))
		}
		return
	}
	// Numbers that are cut short mislead, so text makes room first.
	for _, numbers := range []bool{false, true} {
		for limit := room; total > room && limit > 24; limit *= 0.97 {
			total = 0
			for _, c := range columns {
				if c.numbers == numbers {
					c.w = min(c.w, limit)
				}
				total += c.w
			}
		}
	}
}
