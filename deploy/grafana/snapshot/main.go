package main

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2"
	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"

	"github.com/tidemark-dev/tidemark/deploy/grafana"
	"github.com/tidemark-dev/tidemark/deploy/grafana/draw"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "snapshot:", err)
		os.Exit(1)
	}
}

// values is a flag that may be given more than once.
type values map[string][]string

func (v values) String() string { return "" }

func (v values) Set(text string) error {
	name, value, found := strings.Cut(text, "=")
	if !found {
		return fmt.Errorf("%q is not name=value", text)
	}
	v[name] = append(v[name], value)
	return nil
}

// queryTimeout bounds one query.
const queryTimeout = time.Minute

func run(ctx context.Context, args []string) (err error) {
	flags := flag.NewFlagSet("snapshot", flag.ContinueOnError)
	dsn := flags.String("dsn", "", "ClickHouse, with the database of the views")
	name := flags.String("dashboard", "overview", "which dashboard")
	from := flags.String("from", "", "begin of the range; default: the dashboard's")
	to := flags.String("to", "", "end of the range; default: the dashboard's")
	rows := flags.Int("rows", 0, "rows of the grid to draw, from the top; 0: all")
	out := flags.String("o", "", "file to write; default: standard output")
	vars := values{}
	flags.Var(vars, "var", "name=value of a variable; may be repeated")
	if err := flags.Parse(args); err != nil {
		return err
	}
	d, err := grafana.Find(*name)
	if err != nil {
		return err
	}
	now := time.Now()
	p := &draw.Picture{Dashboard: d, Now: now, Rows: *rows}
	if p.From, p.To, err = d.Time.Override(*from, *to).Times(now); err != nil {
		return err
	}
	opt, err := clickhouse.ParseDSN(*dsn)
	if err != nil {
		return fmt.Errorf("reading --dsn: %w", err)
	}
	conn, err := clickhouse.Open(opt)
	if err != nil {
		return fmt.Errorf("opening ClickHouse: %w", err)
	}
	defer func() { err = errors.Join(err, conn.Close()) }()
	if err := answer(ctx, conn, p, vars); err != nil {
		return err
	}
	p.Caption = "Drawn by deploy/grafana/snapshot from the answers to the dashboard's own queries. The layout is Grafana's, the pixels are not."
	var svg bytes.Buffer
	if err := draw.SVG(&svg, p); err != nil {
		return err
	}
	if *out == "" {
		_, err = os.Stdout.Write(svg.Bytes())
	} else {
		err = os.WriteFile(*out, svg.Bytes(), 0o644)
	}
	if err != nil {
		return fmt.Errorf("writing the picture: %w", err)
	}
	return nil
}

// answer runs the queries of what will be drawn.
func answer(ctx context.Context, conn driver.Conn, p *draw.Picture, given map[string][]string) error {
	ctx, cancel := context.WithTimeout(ctx, 10*queryTimeout)
	defer cancel()
	vars, err := grafana.Choose(ctx, conn, p.Dashboard, given)
	if err != nil {
		return err
	}
	ask := func(sql string, interval time.Duration) (*grafana.Table, error) {
		q := grafana.Query{From: p.From, To: p.To, Interval: interval, Vars: vars}
		sql, err := q.Expand(sql)
		if err != nil {
			return nil, err
		}
		ctx, cancel := context.WithTimeout(ctx, queryTimeout)
		defer cancel()
		return grafana.Run(ctx, conn, sql)
	}
	p.Answers = map[int]*grafana.Table{}
	for i := range p.Dashboard.Panels {
		panel := &p.Dashboard.Panels[i]
		interval, err := grafana.IntervalOf(panel, p.From, p.To, draw.Points(panel))
		if err != nil {
			return err
		}
		if p.Answers[panel.ID], err = ask(panel.Targets[0].RawSQL, interval); err != nil {
			return fmt.Errorf("panel %q: %w", panel.Title, err)
		}
	}
	for _, a := range p.Dashboard.Annotations.List {
		if a.BuiltIn == 1 {
			continue
		}
		table, err := ask(a.Target.RawSQL, time.Second)
		if err != nil {
			return fmt.Errorf("annotation %q: %w", a.Name, err)
		}
		for _, row := range table.Rows {
			if at, ok := row[0].(time.Time); ok {
				p.Marks = append(p.Marks, draw.Mark{At: at, Color: a.IconColor})
			}
		}
	}
	return nil
}
