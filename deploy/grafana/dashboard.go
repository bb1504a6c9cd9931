package grafana

import (
	"bytes"
	"embed"
	"encoding/json"
	"fmt"
	"io/fs"
	"strings"
)

//go:embed dashboards/*.json README.md
var files embed.FS

// Dashboard is what we read of a dashboard, in Grafana's classic schema.
type Dashboard struct {
	ID            *int     `json:"id"`
	UID           string   `json:"uid"`
	Title         string   `json:"title"`
	Description   string   `json:"description"`
	Tags          []string `json:"tags"`
	SchemaVersion int      `json:"schemaVersion"`
	Refresh       string   `json:"refresh"`
	Time          Range    `json:"time"`
	Links         []Link   `json:"links"`
	Annotations   struct {
		List []Annotation `json:"list"`
	} `json:"annotations"`
	Templating struct {
		List []Variable `json:"list"`
	} `json:"templating"`
	Panels []Panel `json:"panels"`
}

// Range is a range of time as Grafana writes it: now, now-24h, or a time.
type Range struct {
	From string `json:"from"`
	To   string `json:"to"`
}

// Link is a link of a dashboard to others.
type Link struct {
	Type        string   `json:"type"`
	Tags        []string `json:"tags"`
	AsDropdown  bool     `json:"asDropdown"`
	IncludeVars bool     `json:"includeVars"`
	KeepTime    bool     `json:"keepTime"`
}

// Annotation marks points in time on all panels.
type Annotation struct {
	Name       string     `json:"name"`
	BuiltIn    int        `json:"builtIn"`
	Datasource Datasource `json:"datasource"`
	IconColor  string     `json:"iconColor"`
	Target     Target     `json:"target"`
}

// Datasource names a data source.
type Datasource struct {
	Type string `json:"type"`
	UID  string `json:"uid"`
}

// Variable is a choice at the top of a dashboard.
type Variable struct {
	Name       string          `json:"name"`
	Label      string          `json:"label"`
	Type       string          `json:"type"` // query, textbox or datasource
	Datasource Datasource      `json:"datasource"`
	Query      json.RawMessage `json:"query"`      // of type query: a Target; else a string
	Definition string          `json:"definition"` // the query, as lists of variables show it
	Multi      bool            `json:"multi"`
	IncludeAll bool            `json:"includeAll"`
}

// Panel is one picture or table.
type Panel struct {
	ID          int         `json:"id"`
	Type        string      `json:"type"` // stat, timeseries, barchart or table
	Title       string      `json:"title"`
	Description string      `json:"description"`
	GridPos     Grid        `json:"gridPos"`
	Datasource  Datasource  `json:"datasource"`
	Interval    string      `json:"interval"` // least interval, such as 1m
	FieldConfig FieldConfig `json:"fieldConfig"`
	Options     Options     `json:"options"`
	Targets     []Target    `json:"targets"`
}

// Grid is a place in the grid of 24 columns.
type Grid struct{ X, Y, W, H int }

// Target is a query.
type Target struct {
	RefID      string     `json:"refId"`
	Datasource Datasource `json:"datasource"`
	EditorType string     `json:"editorType"`
	QueryType  string     `json:"queryType"`
	RawSQL     string     `json:"rawSql"`
}

// FieldConfig says how values are shown.
type FieldConfig struct {
	Defaults  Field      `json:"defaults"`
	Overrides []Override `json:"overrides"`
}

// Field is how the values of one column are shown.
type Field struct {
	Unit        string   `json:"unit"`
	Decimals    *int     `json:"decimals"`
	DisplayName string   `json:"displayName"`
	NoValue     string   `json:"noValue"`
	Min         *float64 `json:"min"`
	Max         *float64 `json:"max"`
	Color       struct {
		Mode       string `json:"mode"`
		FixedColor string `json:"fixedColor"`
	} `json:"color"`
	Thresholds struct {
		Steps []Step `json:"steps"`
	} `json:"thresholds"`
	Mappings []Mapping `json:"mappings"`
	Custom   struct {
		DrawStyle         string `json:"drawStyle"` // bars, line or points
		LineInterpolation string `json:"lineInterpolation"`
		FillOpacity       int    `json:"fillOpacity"`
		AxisLabel         string `json:"axisLabel"`
		Hidden            bool   `json:"hidden"`
		Stacking          struct {
			Mode string `json:"mode"`
		} `json:"stacking"`
		LineStyle struct {
			Fill string `json:"fill"`
		} `json:"lineStyle"`
		CellOptions struct {
			Type string `json:"type"`
		} `json:"cellOptions"`
	} `json:"custom"`
}

// Step is a threshold: values from Value on have the colour.
type Step struct {
	Color string   `json:"color"`
	Value *float64 `json:"value"` // nil: from the lowest
}

// Mapping gives values another text.
type Mapping struct {
	Type    string `json:"type"`
	Options map[string]struct {
		Text  string `json:"text"`
		Color string `json:"color"`
	} `json:"options"`
}

// Override changes the field of one column.
type Override struct {
	Matcher struct {
		ID      string `json:"id"`
		Options string `json:"options"`
	} `json:"matcher"`
	Properties []struct {
		ID    string          `json:"id"`
		Value json.RawMessage `json:"value"`
	} `json:"properties"`
}

// Options are those of the panel types that are used here.
type Options struct {
	ReduceOptions struct {
		Calcs []string `json:"calcs"`
	} `json:"reduceOptions"`
	GraphMode   string `json:"graphMode"`
	XField      string `json:"xField"`
	Orientation string `json:"orientation"`
}

// Dashboards are all of them, in the order of the names of their files.
func Dashboards() ([]*Dashboard, error) {
	names, err := fs.Glob(files, "dashboards/*.json")
	if err != nil {
		return nil, fmt.Errorf("listing dashboards: %w", err)
	}
	var all []*Dashboard
	for _, name := range names {
		text, err := files.ReadFile(name)
		if err != nil {
			return nil, fmt.Errorf("reading dashboard: %w", err)
		}
		d := new(Dashboard)
		if err := json.Unmarshal(text, d); err != nil {
			return nil, fmt.Errorf("decoding %s: %w", name, err)
		}
		all = append(all, d)
	}
	return all, nil
}

// Find returns a dashboard by its uid, with or without the product's name in front.
func Find(uid string) (*Dashboard, error) {
	all, err := Dashboards()
	if err != nil {
		return nil, err
	}
	var names []string
	for _, d := range all {
		short := strings.TrimPrefix(d.UID, "tidemark-")
		if uid == d.UID || uid == short {
			return d, nil
		}
		names = append(names, short)
	}
	return nil, fmt.Errorf("no dashboard %q: there are %s", uid, strings.Join(names, ", "))
}

// SQL is the query of a variable of type query.
func (v *Variable) SQL() (string, error) {
	var t Target
	if err := json.Unmarshal(v.Query, &t); err != nil {
		return "", fmt.Errorf("decoding the query of variable %s: %w", v.Name, err)
	}
	return t.RawSQL, nil
}

// Field is how a column of the panel is shown: the defaults, with the overrides for its name.
func (p *Panel) Field(column string) (Field, error) {
	f := p.FieldConfig.Defaults
	for _, o := range p.FieldConfig.Overrides {
		if o.Matcher.ID != "byName" || o.Matcher.Options != column {
			continue
		}
		for _, property := range o.Properties {
			// A property's id is the path of a member of Field.
			text := property.Value
			path := strings.Split(property.ID, ".")
			for i := len(path) - 1; i >= 0; i-- {
				text = fmt.Appendf(nil, "{%q:%s}", path[i], text)
			}
			if err := json.NewDecoder(bytes.NewReader(text)).Decode(&f); err != nil {
				return f, fmt.Errorf("decoding override %s of column %s: %w", property.ID, column, err)
			}
		}
	}
	return f, nil
}
