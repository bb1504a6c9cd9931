package grafana

import (
	"encoding/json"
	"fmt"
	"io/fs"
	"path"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/tidemark-dev/tidemark/projections/warehouse"
)

const pluginType = "grafana-clickhouse-datasource"

// safe are colours that people with any vision can tell apart (Okabe and Ito's, without the yellow and the black, which fail on one
// background or the other), and greys.
var safe = []string{"#009E73", "#0072B2", "#D55E00", "#CC79A7", "#56B4E9", "#E69F00", "#999999", "#7B8794"}

// flaws are all ways in which a dashboard breaks the conventions.
func flaws(name string, text []byte) (found []string) {
	bad := func(format string, args ...any) { found = append(found, fmt.Sprintf(format, args...)) }
	var d Dashboard
	if err := json.Unmarshal(text, &d); err != nil {
		return []string{err.Error()}
	}
	if d.UID != "tidemark-"+strings.TrimSuffix(path.Base(name), ".json") {
		bad("uid %q is not that of the file", d.UID)
	}
	if d.ID != nil || d.SchemaVersion != 39 || d.Refresh != "30s" || !slices.Equal(d.Tags, []string{"tidemark", "v1"}) || d.Description == "" {
		bad("id, schemaVersion, refresh, tags or description")
	}
	if strings.Contains(string(text), "__inputs") {
		bad("__inputs: the file is provisioned, nobody is asked")
	}
	if len(d.Links) != 1 || !d.Links[0].AsDropdown || !d.Links[0].IncludeVars || !d.Links[0].KeepTime || !slices.Equal(d.Links[0].Tags, d.Tags) {
		bad("no dropdown of links that keeps variables and time")
	}
	variables := variableFlaws(&d, bad)
	for _, a := range d.Annotations.List {
		if a.BuiltIn == 0 {
			queryFlaws("annotation "+a.Name, a.Target, variables, bad)
			source("annotation "+a.Name, a.Datasource, bad)
		}
	}
	if len(d.Annotations.List) != 4 {
		bad("%d annotations, not Grafana's own, failed runs, clears and purges, switches and erasures", len(d.Annotations.List))
	}
	panelFlaws(&d, variables, bad)
	colourFlaws(text, bad)
	return found
}

func variableFlaws(d *Dashboard, bad func(string, ...any)) (names []string) {
	for i, v := range d.Templating.List {
		if i == 0 && (v.Name != "datasource" || v.Type != "datasource" || string(v.Query) != `"`+pluginType+`"`) {
			bad("the first variable is not the data source")
		}
		if v.Label == "" || slices.Contains(names, v.Name) {
			bad("variable %q has no label, or a double", v.Name)
		}
		if v.Type == "query" {
			source("variable "+v.Name, v.Datasource, bad)
			sql, err := v.SQL()
			if err != nil {
				bad("%v", err)
			}
			if sql != v.Definition {
				bad("variable %s: its definition is not its query", v.Name)
			}
			queryFlaws("variable "+v.Name, Target{RawSQL: sql, Datasource: v.Datasource, EditorType: "sql"}, names, bad) // those before it
		}
		names = append(names, v.Name)
	}
	for _, want := range []string{"environment", "integration", "connection", "model", "variant"} {
		if !slices.Contains(names, want) {
			bad("no variable %s", want)
		}
	}
	return names
}

func source(what string, s Datasource, bad func(string, ...any)) {
	if s.UID != "${datasource}" || s.Type != pluginType {
		bad("%s: data source %q of type %q", what, s.UID, s.Type)
	}
}

var (
	readsFrom = regexp.MustCompile(`(?i)\b(?:FROM|JOIN)\s+([a-z_0-9.]+)`)
	starUsed  = regexp.MustCompile(`(?i)SELECT\s+\*|[a-z]\.\*`)
)

func queryFlaws(what string, q Target, variables []string, bad func(string, ...any)) {
	source(what, q.Datasource, bad)
	if q.EditorType != "sql" || q.RawSQL == "" {
		bad("%s: no SQL", what)
	}
	views := warehouse.Views()
	for _, m := range readsFrom.FindAllStringSubmatch(strings.ReplaceAll(q.RawSQL, "ARRAY JOIN", ""), -1) {
		if !slices.Contains(views, m[1]) {
			bad("%s: reads %s, which is no public view", what, m[1])
		}
	}
	if starUsed.MatchString(q.RawSQL) {
		bad("%s: SELECT *: views get new columns", what)
	}
	for _, m := range variableUse.FindAllStringSubmatch(q.RawSQL, -1) {
		if name := m[1] + m[3]; !strings.HasPrefix(name, "__") && !slices.Contains(variables, name) {
			bad("%s: there is no variable %s", what, name)
		}
	}
}

func panelFlaws(d *Dashboard, variables []string, bad func(string, ...any)) {
	ids := map[int]bool{}
	taken := map[[2]int]string{}
	for _, p := range d.Panels {
		what := "panel " + p.Title
		if p.Title == "" || ids[p.ID] || p.ID == 0 {
			bad("%s: no title, or id %d is there twice", what, p.ID)
		}
		ids[p.ID] = true
		if len(p.Description) < 30 || !strings.HasSuffix(p.Description, ".") {
			bad("%s: description %q", what, p.Description)
		}
		if p.FieldConfig.Defaults.Unit == "" || len(p.FieldConfig.Defaults.Thresholds.Steps) == 0 {
			bad("%s: no unit, or no thresholds", what)
		}
		if !slices.Contains([]string{"stat", "timeseries", "barchart", "table"}, p.Type) {
			bad("%s: type %s cannot be drawn", what, p.Type)
		}
		if g := p.GridPos; g.X < 0 || g.W < 1 || g.X+g.W > 24 || g.H < 3 {
			bad("%s: outside the grid: %+v", what, g)
		}
		for x := p.GridPos.X; x < p.GridPos.X+p.GridPos.W; x++ {
			for y := p.GridPos.Y; y < p.GridPos.Y+p.GridPos.H; y++ {
				if other := taken[[2]int{x, y}]; other != "" {
					bad("%s: lies over %s", what, other)
					return
				}
				taken[[2]int{x, y}] = what
			}
		}
		source(what, p.Datasource, bad)
		if len(p.Targets) != 1 {
			bad("%s: %d queries", what, len(p.Targets))
			continue
		}
		queryFlaws(what, p.Targets[0], variables, bad)
		if series := p.Type == "timeseries" || p.Options.GraphMode == "area"; series != (p.Targets[0].QueryType == "timeseries") {
			bad("%s: query type %s", what, p.Targets[0].QueryType)
		}
		steps := p.FieldConfig.Defaults.Thresholds.Steps
		if p.Type == "stat" && len(steps) == 2 && len(p.FieldConfig.Defaults.Mappings) == 0 {
			bad("%s: good and bad are told by colour alone", what)
		}
		for _, o := range p.FieldConfig.Overrides {
			for _, property := range o.Properties {
				if _, err := p.Field(o.Matcher.Options); err != nil {
					bad("%s: %s: %v", what, property.ID, err)
				}
			}
		}
	}
}

var colourUse = regexp.MustCompile(`"(?:color|fixedColor|iconColor)": "([^"]*)"`)

func colourFlaws(text []byte, bad func(string, ...any)) {
	for _, m := range colourUse.FindAllStringSubmatch(string(text), -1) {
		if c := m[1]; !slices.Contains(safe, c) && c != "rgba(0, 211, 255, 1)" { // Grafana's own annotation
			bad("colour %s is not one of those that can be told apart", c)
		}
	}
}

func TestDashboards_KeepTheConventions(t *testing.T) {
	all, err := Dashboards()
	if err != nil {
		t.Fatal(err)
	}
	names, err := fs.Glob(files, "dashboards/*.json")
	if err != nil {
		t.Fatal(err)
	}
	if len(all) != 5 || len(names) != 5 {
		t.Fatalf("%d dashboards, %d files", len(all), len(names))
	}
	for _, name := range names {
		text, err := files.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range flaws(name, text) {
			t.Errorf("%s: %s", name, f)
		}
	}
}

// Each convention is broken once; none may pass unseen.
func TestConventions_AreChecked(t *testing.T) {
	const name = "dashboards/overview.json"
	text, err := files.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ old, new, says string }{
		{`"uid": "tidemark-overview"`, `"uid": "overview"`, "uid"},
		{`"schemaVersion": 39`, `"schemaVersion": 16`, "schemaVersion"},
		{`"id": null`, `"id": 7`, "id, schemaVersion"},
		{`"includeVars": true`, `"includeVars": false`, "dropdown"},
		{`"refresh": "30s"`, `"__inputs": [], "refresh": "30s"`, "__inputs"},
		{`"id": 2,`, `"id": 1,`, "twice"},
		{`"x": 4,`, `"x": 3,`, "lies over"},
		{`"w": 16,`, `"w": 25,`, "outside the grid"},
		{`records\nFROM v1_record_counts`, `records\nFROM stream_state_g1`, "no public view"},
		{`"definition": "SELECT environment`, `"definition": "SELECT 1`, "definition"},
		{"SELECT sum(records) AS records", "SELECT *", "SELECT *"},
		{"${connection:singlequote}", "${account:singlequote}", "no variable account"},
		{`"unit": "percentunit"`, `"unit": ""`, "no unit"},
		{"What happened to records: one bar per interval, a minute or longer by zoom.", "", "description"},
		{`"fixedColor": "#009E73"`, `"fixedColor": "#00ff00"`, "told apart"},
		{`"uid": "${datasource}"`, `"uid": "tidemark"`, "data source"},
		{`"type": "barchart"`, `"type": "piechart"`, "cannot be drawn"},
		{`"queryType": "timeseries"`, `"queryType": "table"`, "query type"},
		{"✓ none", "", ""},
	} {
		if !strings.Contains(string(text), c.old) {
			t.Errorf("%s has no %q to break", name, c.old)
			continue
		}
		got := strings.Join(flaws(name, []byte(strings.Replace(string(text), c.old, c.new, 1))), "\n")
		if c.says == "" && got != "" || !strings.Contains(got, c.says) {
			t.Errorf("with %q for %q: %q, want something about %q", c.new, c.old, got, c.says)
		}
	}
}

// The provisioning names what the dashboards and the README do.
func TestProvisioning(t *testing.T) {
	readme, err := files.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	for file, wants := range provisioned(t) {
		for _, v := range regexp.MustCompile(`\$\{(\w+)\}`).FindAllStringSubmatch(file, -1) {
			if v[1] != "" && !strings.Contains(string(readme), v[1]) {
				t.Errorf("README.md says nothing of %s", v[1])
			}
		}
		for _, want := range wants {
			if !strings.Contains(file, want) {
				t.Errorf("no %q in\n%s", want, file)
			}
		}
		if strings.Contains(file, "\t") {
			t.Error("YAML with tabs")
		}
	}
}
