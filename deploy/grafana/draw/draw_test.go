package draw

import (
	"bytes"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/tidemark-dev/tidemark/deploy/grafana"
)

var now = time.Date(2026, 11, 21, 18, 0, 0, 0, time.UTC)

// answer makes up an answer that a panel can take: the columns that its overrides name, of kinds by what they ask for.
func answer(rng *rand.Rand, p *grafana.Panel, rows int) *grafana.Table {
	t := &grafana.Table{}
	add := func(name string) { t.Columns = append(t.Columns, grafana.Column{Name: name}) }
	if p.Targets[0].QueryType == "timeseries" {
		add("time")
	}
	if p.Options.XField != "" {
		add(p.Options.XField)
	}
	for _, o := range p.FieldConfig.Overrides {
		add(o.Matcher.Options)
	}
	if len(p.FieldConfig.Overrides) == 0 {
		add("value")
	}
	for i := range rows {
		var row []any
		for _, c := range t.Columns {
			switch {
			case c.Name == "time":
				row = append(row, now.Add(time.Duration(i-rows)*17*time.Minute))
			case c.Name == p.Options.XField:
				row = append(row, fmt.Sprintf("<name> & %d", i))
			case p.Type == "table" && rng.IntN(3) == 0:
				row = append(row, strings.Repeat(`"quoted" & <long> `, rng.IntN(20)))
			case rng.IntN(9) == 0:
				row = append(row, nil)
			default:
				row = append(row, math.Trunc(math.Pow(10, rng.Float64()*14)))
			}
		}
		t.Rows = append(t.Rows, row)
	}
	return t
}

// numbersOf checks that a document is well-formed, and returns its texts and the coordinates of them.
func numbersOf(t *testing.T, svg []byte) (texts []string) {
	t.Helper()
	d := xml.NewDecoder(bytes.NewReader(svg))
	inText := false
	for {
		token, err := d.Token()
		if errors.Is(err, io.EOF) {
			return texts
		}
		if err != nil {
			t.Fatalf("not well-formed: %v", err)
		}
		switch e := token.(type) {
		case xml.StartElement:
			inText = e.Name.Local == "text"
			for _, a := range e.Attr {
				if strings.Contains(a.Value, "NaN") || strings.Contains(a.Value, "Inf") {
					t.Errorf("%s %s=%q", e.Name.Local, a.Name.Local, a.Value)
				}
				if n, err := strconv.ParseFloat(a.Value, 64); err == nil {
					if (a.Name.Local == "width" || a.Name.Local == "height") && n < 0 || a.Name.Local == "x" && (n < 0 || n > width) {
						t.Errorf("%s %s=%q", e.Name.Local, a.Name.Local, a.Value)
					}
				}
			}
		case xml.EndElement:
			inText = false
		case xml.CharData:
			if inText {
				texts = append(texts, string(e))
			}
		}
	}
}

// Every dashboard can be drawn, whatever its queries answer: much, little, zeros, NULLs, nothing. The picture is well-formed, stays within
// its width, names every panel, and is the same each time.
func TestSVG_DrawsAnyAnswer(t *testing.T) {
	all, err := grafana.Dashboards()
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range all {
		for seed, rows := range []int{0, 1, 2, 13, 300} {
			rng := rand.New(rand.NewPCG(uint64(seed), 3))
			p := &Picture{
				Dashboard: d, Answers: map[int]*grafana.Table{}, From: now.Add(-24 * time.Hour), To: now, Now: now, Caption: "a < b",
				Marks: []Mark{{now.Add(-time.Hour), "#D55E00"}, {now.Add(-1000 * time.Hour), "#D55E00"}},
			}
			for i := range d.Panels {
				n := rows
				if d.Panels[i].Type == "barchart" {
					n = min(n, 12)
				}
				p.Answers[d.Panels[i].ID] = answer(rng, &d.Panels[i], n)
			}
			var svg, again bytes.Buffer
			for _, to := range []*bytes.Buffer{&svg, &again} {
				if err := SVG(to, p); err != nil {
					t.Fatalf("%s with %d rows: %v", d.UID, rows, err)
				}
			}
			if !bytes.Equal(svg.Bytes(), again.Bytes()) {
				t.Errorf("%s with %d rows: another picture the second time", d.UID, rows)
			}
			texts := numbersOf(t, svg.Bytes())
			nothing := 0
			for _, text := range texts {
				if text == "No data" {
					nothing++
				}
			}
			if want := map[bool]int{true: len(d.Panels)}[rows == 0]; nothing != want {
				t.Errorf("%s with %d rows: %d panels without data, want %d", d.UID, rows, nothing, want)
			}
			for _, panel := range d.Panels {
				title := shorten(panel.Title, float64(panel.GridPos.W*width/24-40), 14)
				if !strings.Contains(strings.Join(texts, "\n"), strings.TrimSuffix(title, "…")) {
					t.Errorf("%s: nothing is called %q", d.UID, title)
				}
			}
		}
	}
}

func TestSVG_LeavesOutWhatIsBelow(t *testing.T) {
	d, err := grafana.Find("overview")
	if err != nil {
		t.Fatal(err)
	}
	var svg bytes.Buffer
	if err := SVG(&svg, &Picture{Dashboard: d, From: now.Add(-time.Hour), To: now, Now: now, Rows: 13}); err != nil {
		t.Fatal(err)
	}
	texts := strings.Join(numbersOf(t, svg.Bytes()), "\n")
	if !strings.Contains(texts, "Freshness") || strings.Contains(texts, "Runs by outcome") {
		t.Errorf("of thirteen rows: %s", texts)
	}
}

// The height of a bar is its value: what is stacked lies on what is below it, and a line goes through its points.
func TestSeries_IsToScale(t *testing.T) {
	d, err := grafana.Find("overview")
	if err != nil {
		t.Fatal(err)
	}
	for _, panel := range d.Panels {
		if panel.Title != "Changes" || panel.Type != "timeseries" {
			continue
		}
		c := new(canvas)
		p := &Picture{From: now.Add(-10 * time.Hour), To: now, Now: now}
		table := &grafana.Table{
			Columns: []grafana.Column{{Name: "time"}, {Name: "added"}, {Name: "updated"}, {Name: "deleted"}},
			Rows:    [][]any{{now.Add(-8 * time.Hour), 100.0, 200.0, 100.0}, {now.Add(-5 * time.Hour), 50.0, nil, 50.0}},
		}
		// 100 wide an hour and 1 high a change, beside the axes.
		room := box{0, 0, 1000 + 22 + textWidth("400", 11) + 4, 400 + 24 + 18 + 4 + 0}
		if err := p.series(c, &panel, table, room); err != nil {
			t.Fatal(err)
		}
		left := 22 + textWidth("400", 11)
		for _, want := range []string{
			fmt.Sprintf("M%.1f 400.0h40.0V300.0", left+200), // 100 added
			fmt.Sprintf("M%.1f 300.0h40.0V100.0", left+200), // 200 updated on top of them
			fmt.Sprintf("M%.1f 100.0h40.0V0.0", left+200),   // 100 deleted on top of both
			fmt.Sprintf("M%.1f 400.0h40.0V350.0", left+500),
			fmt.Sprintf("M%.1f 350.0h40.0V300.0", left+500), // deleted on top of added
		} {
			want = shift(want, 4) // the room above the plot
			if !strings.Contains(c.b.String(), want) {
				t.Errorf("no bar %s in\n%s", want, c.b.String())
			}
		}
	}
}

// shift moves the y of a bar down.
func shift(path string, by float64) string {
	var x, y, w, to float64
	if _, err := fmt.Sscanf(path, "M%f %fh%fV%f", &x, &y, &w, &to); err != nil {
		panic(err)
	}
	return fmt.Sprintf("M%.1f %.1fh%.1fV%.1f", x, y+by, w, to+by)
}

func TestShown(t *testing.T) {
	p := &Picture{Now: now}
	zero := 0
	one := 1
	for _, c := range []struct {
		unit     string
		decimals *int
		v        any
		want     string
	}{
		{"short", nil, 999.0, "999"},
		{"short", nil, 1234567.0, "1.2M"},
		{"locale", nil, 1234567.0, "1,234,567"},
		{"locale", nil, -1234.0, "-1,234"},
		{"locale", nil, 12.0, "12"},
		{"percentunit", &one, 0.935, "93.5%"},
		{"ms", nil, 0.0, "0 ms"},
		{"ms", &zero, 240.0, "240 ms"},
		{"ms", nil, 90_000.0, "1.5 min"},
		{"s", nil, 3600.0, "1 hour"},
		{"s", &one, 190_000.0, "2.2 days"},
		{"dtdurations", nil, 604_000.0, "6 d 23 h"},
		{"dtdurations", nil, 4000.0, "1 h 6 min"},
		{"bytes", nil, 1536.0, "1.5 KiB"},
		{"bytes", &zero, 669.0, "669 B"},
		{"cps", nil, 2500.0, "2.5K/s"},
		{"dateTimeFromNow", nil, float64(now.Add(-90 * time.Second).UnixMilli()), "1.5 min ago"},
		{"dateTimeFromNow", nil, float64(now.UnixMilli()), "just now"},
		{"none", nil, 57.0, "57"},
		{"none", nil, nil, "–"},
		{"none", nil, true, "yes"},
		{"none", nil, "text", "text"},
		{"none", nil, now, "Nov 21 18:00:00"},
	} {
		f := grafana.Field{Unit: c.unit, Decimals: c.decimals}
		if got, _ := p.shown(&f, c.v); got != c.want {
			t.Errorf("%v as %s: %q, want %q", c.v, c.unit, got, c.want)
		}
	}
}

// Mappings win over units, thresholds give the colour of the highest step reached.
func TestShown_ByMappingsAndThresholds(t *testing.T) {
	d, err := grafana.Find("pipeline")
	if err != nil {
		t.Fatal(err)
	}
	f, err := d.Panels[0].Field("lag")
	if err != nil {
		t.Fatal(err)
	}
	p := &Picture{Now: now}
	for v, want := range map[float64][2]string{
		0: {"✓ up to date", "#009E73"}, 9999: {"10 s", "#009E73"}, 10_000: {"10 s", "#E69F00"}, 61_000: {"1 min", "#D55E00"},
	} {
		if text, color := p.shown(&f, v); text != want[0] || color != want[1] {
			t.Errorf("%v: %q in %s, want %q", v, text, color, want)
		}
	}
}

func TestShorten(t *testing.T) {
	for _, s := range []string{"", "short", strings.Repeat("wide ", 100), strings.Repeat("日本", 50)} {
		for _, room := range []float64{0, 10, 60, 400} {
			got := shorten(s, room, 12)
			if got != s && textWidth(got, 12) > max(room, textWidth("…", 12)) {
				t.Errorf("%q in %v: %q is %v wide", s, room, got, textWidth(got, 12))
			}
		}
	}
}

func TestTicks(t *testing.T) {
	for _, c := range []struct {
		high  float64
		whole bool
		want  string
	}{
		{0, true, "[0 1]"}, {1, true, "[0 1]"}, {3, true, "[0 1 2 3]"}, {7, false, "[0 2 4 6 8]"}, {537, true, "[0 200 400 600]"}, {10, true, "[0 5 10]"}, {0.3, false, "[0 0.1 0.2 0.30000000000000004]"},
	} {
		if got := fmt.Sprint(ticks(0, c.high, 4, c.whole)); got != c.want {
			t.Errorf("up to %v: %s, want %s", c.high, got, c.want)
		}
	}
	for _, length := range []time.Duration{time.Second, time.Minute, time.Hour, 31 * time.Hour, 400 * 24 * time.Hour, 20 * 365 * 24 * time.Hour} {
		at, layout := timeTicks(now.Add(-length), now, 10)
		if len(at) > 11 || layout == "" || length > time.Minute && len(at) < 2 {
			t.Errorf("%v: %v", length, at)
		}
	}
}
