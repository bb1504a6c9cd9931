package draw

import (
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/tidemark-dev/tidemark/deploy/grafana"
)

// Picture is what is drawn.
type Picture struct {
	Dashboard *grafana.Dashboard
	// Answers are the answers to the panels' queries, by the id of the panel. A panel without one says so.
	Answers  map[int]*grafana.Table
	Marks    []Mark // drawn on every panel with a time axis
	From, To time.Time
	// Now is what times are told from.
	Now     time.Time
	Caption string // below everything
	// Rows of the grid to draw, from the top; panels that end below are left out. 0: all.
	Rows int
}

// Mark is an annotation.
type Mark struct {
	At    time.Time
	Color string
}

// Sizes, in pixels.
const (
	width      = 1280
	cell       = 34 // height of a row of the grid
	gap        = 8
	headHeight = 54
	footHeight = 34
	padding    = 12
	titleLine  = 30
)

// style has the colours of everything but data. Readers that know no media queries get the light ones.
const style = `<style>
text { font-family: -apple-system, "Segoe UI", Roboto, "Helvetica Neue", Arial, "DejaVu Sans", sans-serif; font-size: 12px; fill: #1f2933 }
.page { fill: #f1f3f6 } .panel { fill: #ffffff; stroke: #d5dae1 } .muted { fill: #56626f } .line { stroke: #e3e7ec } .axis { stroke: #b4bdc8 } .track { fill: #e8ebf0 }
.h1 { font-size: 18px; font-weight: 600 } .h2 { font-size: 13px; font-weight: 600 } .small { font-size: 11px }
@media (prefers-color-scheme: dark) {
text { fill: #dde3ea } .page { fill: #101216 } .panel { fill: #181b20; stroke: #2d333b } .muted { fill: #9fabb8 } .line { stroke: #2a3038 } .axis { stroke: #515c68 } .track { fill: #2a3038 }
}
</style>
`

// SVG writes the picture.
func SVG(to io.Writer, p *Picture) error {
	bottom := 0
	var shown []*grafana.Panel
	for i := range p.Dashboard.Panels {
		panel := &p.Dashboard.Panels[i]
		if end := panel.GridPos.Y + panel.GridPos.H; p.Rows == 0 || end <= p.Rows {
			shown = append(shown, panel)
			bottom = max(bottom, end)
		}
	}
	height := headHeight + bottom*cell + footHeight + gap
	c := &canvas{}
	c.printf(`<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" width="%d" height="%d" role="img">`+"\n", width, height, width, height)
	c.printf("<title>%s</title>\n<desc>%s %s</desc>\n%s", escape(p.Dashboard.Title), escape(p.Dashboard.Description), escape(p.Caption), style)
	c.printf(`<rect class="page" width="%d" height="%d" rx="6"/>`+"\n", width, height)
	c.text(gap+padding, 33, p.Dashboard.Title, "h1", "start", 500)
	c.text(width-gap-padding, 33, rangeText(p.From, p.To), "muted", "end", 600)
	for _, panel := range shown {
		if err := p.panel(c, panel); err != nil {
			return fmt.Errorf("drawing panel %q: %w", panel.Title, err)
		}
	}
	c.text(gap+padding, float64(height-14), p.Caption, "muted small", "start", width-2*(gap+padding))
	c.printf("</svg>\n")
	if _, err := io.WriteString(to, c.b.String()); err != nil {
		return fmt.Errorf("writing SVG: %w", err)
	}
	return nil
}

func rangeText(from, to time.Time) string {
	const layout = "2006-01-02 15:04"
	from, to = from.UTC(), to.UTC()
	if from.Truncate(24 * time.Hour).Equal(to.Truncate(24 * time.Hour)) {
		return from.Format(layout) + " to " + to.Format("15:04") + " UTC"
	}
	return from.Format(layout) + " to " + to.Format(layout) + " UTC"
}

// box is the inside of a panel.
type box struct{ x, y, w, h float64 }

func (p *Picture) panel(c *canvas, panel *grafana.Panel) error {
	g := panel.GridPos
	column := float64(width-2*gap) / 24
	b := box{gap + float64(g.X)*column + gap/2, headHeight + float64(g.Y*cell), float64(g.W)*column - gap, float64(g.H*cell) - gap}
	c.printf(`<rect class="panel" x="%.1f" y="%.1f" width="%.1f" height="%.1f" rx="4"/>`+"\n", b.x, b.y, b.w, b.h)
	c.text(b.x+padding, b.y+20, panel.Title, "h2", "start", b.w-2*padding)
	inner := box{b.x + padding, b.y + titleLine, b.w - 2*padding, b.h - titleLine - padding}
	table := p.Answers[panel.ID]
	if table == nil || len(table.Rows) == 0 {
		c.text(inner.x+inner.w/2, inner.y+inner.h/2, "No data", "muted", "middle", inner.w)
		return nil
	}
	switch panel.Type {
	case "stat":
		return p.stat(c, panel, table, inner)
	case "timeseries":
		return p.series(c, panel, table, inner)
	case "barchart":
		return p.bars(c, panel, table, inner)
	case "table":
		return p.table(c, panel, table, inner)
	}
	return fmt.Errorf("unknown type %q", panel.Type)
}

type canvas struct{ b strings.Builder }

func (c *canvas) printf(format string, args ...any) { fmt.Fprintf(&c.b, format, args...) }

// text writes a line that is shortened to fit. class may be empty.
func (c *canvas) text(x, y float64, text, class, anchor string, room float64) {
	c.printf(`<text x="%.1f" y="%.1f" class="%s" text-anchor="%s">%s</text>`+"\n", x, y, class, anchor, escape(shorten(text, room, fontSize(class))))
}

// colored is text with a colour of its own; bold and large if size is not that of text.
func (c *canvas) colored(x, y float64, text, color, anchor string, size, room float64) {
	weight := "400"
	if size > 12 {
		weight = "600"
	}
	c.printf(`<text x="%.1f" y="%.1f" text-anchor="%s" style="font-size: %gpx; font-weight: %s; fill: %s">%s</text>`+"\n", x, y, anchor, size, weight, color,
		escape(shorten(text, room, size)))
}

// Points is how many points of time the drawing of a panel has room for.
func Points(panel *grafana.Panel) int { return panel.GridPos.W * width / 24 / 4 }
