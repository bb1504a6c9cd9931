package warehouse

import (
	"bytes"
	"embed"
	"fmt"
	"io/fs"
	"path"
	"regexp"
	"slices"
	"strings"
	"text/template"

	"github.com/tidemark-dev/tidemark/projections/fold"
)

//go:embed ddl
var ddl embed.FS

func quoted(names ...string) string { return "`" + strings.Join(names, "`.`") + "`" }

// table is the full name of a table of a generation.
func (w *Warehouse) table(name string, generation int) string {
	return quoted(w.cfg.Database, fmt.Sprintf("%s_g%d", name, generation))
}

// shared is the full name of a table that all generations share, or of a view.
func (w *Warehouse) shared(name string) string { return quoted(w.cfg.Database, name) }

func (w *Warehouse) onCluster() string {
	if w.cfg.Topology == Cluster {
		return " ON CLUSTER " + quoted(w.cfg.Cluster)
	}
	return ""
}

// engine names an engine with its arguments. Replicated engines get no path: the server's default contains the table's uuid, so a table
// that is dropped and made again is never taken for the old one.
func (w *Warehouse) engine(name string, args ...string) string {
	if w.cfg.Topology == Cluster || w.cfg.Topology == ReplicatedDB {
		name = "Replicated" + name
	}
	if len(args) == 0 {
		return name
	}
	return name + "(" + strings.Join(args, ", ") + ")"
}

// settings are the settings of a table: those given, and what all tables have. No server is to remember inserts (P2): the setting of an insert is not
// enough, servers from 26.2 on drop a repeated block in spite of it, which may even differ in columns that have defaults.
func (w *Warehouse) settings(own ...string) string {
	switch w.cfg.Topology {
	case Cluster, ReplicatedDB:
		own = append(own, "replicated_deduplication_window = 0")
	case Cloud: // the service does not let tables say it; its own inserts do
	default:
		own = append(own, "non_replicated_deduplication_window = 0")
	}
	if len(own) == 0 {
		return ""
	}
	return "SETTINGS " + strings.Join(own, ", ")
}

// mergeClosed has a partition that nothing was written to for an hour merged into one part. A record's history looks into each part that may
// have the record, and opens a file for each column there: at three parts a week that is twice as slow. Rows of one part need no FINAL, either.
const mergeClosed = "min_age_to_force_merge_seconds = 3600, min_age_to_force_merge_on_partition_only = 1"

// render expands a template into its statements, which end in a semicolon at the end of a line.
func (w *Warehouse) render(file string, generation int) ([]string, error) {
	t, err := template.New(path.Base(file)).Funcs(template.FuncMap{
		"on_cluster":     w.onCluster,
		"engine":         w.engine,
		"table":          func(name string) string { return w.table(name, generation) },
		"shared":         w.shared,
		"view":           w.shared,
		"levels":         w.levels,
		"generation":     func() int { return generation },
		"quantile":       QuantileSQL,
		"lag_bounds":     lagBounds,
		"settings":       w.settings,
		"merge_closed":   func() string { return mergeClosed },
		"stream_columns": func() string { return streamViewColumns },
		"stream":         func() string { return streamKey },
		"buckets":        w.bucketsView,
	}).ParseFS(ddl, file, "ddl/parts/*.tmpl")
	if err != nil {
		return nil, fmt.Errorf("parsing template: %w", err)
	}
	var out bytes.Buffer
	if err := t.Execute(&out, nil); err != nil {
		return nil, fmt.Errorf("expanding template: %w", err)
	}
	var statements []string
	for _, s := range strings.Split(out.String()+"\n", ";\n") {
		if s = strings.TrimSpace(comments.ReplaceAllString(s, "")); s != "" {
			statements = append(statements, s)
		}
	}
	return statements, nil
}

// bucketsView is what the template of v1_changes_per_minute and its like wants to know.
func (w *Warehouse) bucketsView(view string) map[string]string {
	l := w.levels()[slices.Index([]string{"v1_changes_per_minute", "v1_changes_hourly", "v1_changes_daily"}, view)]
	kept := ", kept for ever"
	if days := l.days(w.keep); days > 0 {
		kept = fmt.Sprintf(", kept for %d days", days)
	}
	return map[string]string{"View": view, "Table": l.Table, "Unit": [...]string{"minute", "hour", "day"}[l.Level], "Kept": kept}
}

// comments are for the readers of the templates; a change to one is no change to the statement.
var comments = regexp.MustCompile(`(?m)^\s*--.*\n`)

const streamViewColumns = `environment LowCardinality(String) COMMENT 'Environment of the stream',
  integration LowCardinality(String) COMMENT 'Integration of the stream',
  connection String COMMENT 'Connection of the stream; unique within its integration',
  model LowCardinality(String) COMMENT 'Model of the stream',
  variant LowCardinality(String) COMMENT 'Variant of the stream; base unless the sync names one'`

// templates are the files of a folder of ddl, in order.
func templates(folder string) []string {
	files, err := fs.Glob(ddl, path.Join("ddl", folder, "*.sql.tmpl"))
	if err != nil || len(files) == 0 {
		panic(fmt.Sprintf("no templates in %s: %v", folder, err)) // they are compiled in
	}
	return files
}

// streamKey is what every sort key begins with.
const streamKey = "environment, integration, connection, model, variant"

func lagBounds() string {
	return strings.Trim(strings.ReplaceAll(fmt.Sprint(fold.LagBounds), " ", ", "), "[]")
}

// QuantileSQL is an expression for a quantile of lag in ms, from a lag histogram and the highest lag, which are expressions too. Within
// the bounds of a bucket it interpolates; above the last bound it goes up to the highest lag. NULL if nothing was counted.
// Histograms add up: sumForEach(lag_hist) over any rows of the views has the same form.
func QuantileSQL(hist, highest string, q float64) string {
	sql := "if(arraySum(HIST) = 0, NULL, least(HIGHEST, LOWER + (UPPER - LOWER) * (TARGET - BEFORE) / HIST[BUCKET]))"
	for _, term := range [][2]string{
		{"LOWER", "[0, BOUNDS][BUCKET]"},
		{"UPPER", "[BOUNDS, toUInt32(greatest(HIGHEST, LAST))][BUCKET]"},
		{"BEFORE", "arrayConcat([0], arrayCumSum(HIST))[BUCKET]"},
		{"BUCKET", "arrayFirstIndex(c -> c >= TARGET, arrayCumSum(HIST))"},
		{"TARGET", fmt.Sprintf("%g * arraySum(HIST)", q)},
		{"BOUNDS", lagBounds()},
		{"LAST", fmt.Sprint(fold.LagBounds[len(fold.LagBounds)-1])},
		{"HIGHEST", highest},
		{"HIST", hist},
	} {
		sql = strings.ReplaceAll(sql, term[0], term[1])
	}
	return sql
}
