package grafana

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"
)

// All is the value of a variable of which everything is chosen.
const All = "$__all"

// Query is what a query is expanded with.
type Query struct {
	From, To time.Time
	// Interval is the width of one point, as the width of the panel, the range and its least interval give it. At least a second.
	Interval time.Duration
	// Vars are the chosen values by the name of the variable. A nil slice, or the one value All, stands for everything.
	Vars map[string][]string
}

// Expand does to a query what Grafana and its ClickHouse data source do before it is sent, in the same order:
//
//  1. $__conditionalAll(condition, $variable) becomes 1=1 if all values of the variable are chosen, or none; else the condition.
//  2. ${variable:singlequote} becomes the values as quoted strings with commas in between; ${variable}, ${variable:raw} and $variable a
//     single value as it is, and several as quoted strings.
//  3. $__timeFilter(column), $__timeInterval(column), $__interval_s, $__fromTime and $__toTime become SQL. Times are whole seconds, and
//     both ends belong to the range.
//
// Documentation: "Template variables" and "Macros" of the plugin grafana-clickhouse-datasource; "Variable syntax" of Grafana. Those leave
// what they do not know as it is; Expand refuses it, for it is a mistake.
func (q *Query) Expand(sql string) (string, error) {
	sql, err := q.conditions(sql)
	if err != nil {
		return "", err
	}
	if sql, err = q.variables(sql); err != nil {
		return "", err
	}
	return q.macros(sql)
}

const conditionalAll = "$__conditionalAll("

func (q *Query) conditions(sql string) (string, error) {
	for {
		at := strings.LastIndex(sql, conditionalAll)
		if at < 0 {
			return sql, nil
		}
		args, end, err := arguments(sql, at+len(conditionalAll))
		if err != nil {
			return "", fmt.Errorf("expanding $__conditionalAll: %w", err)
		}
		if len(args) != 2 || !strings.HasPrefix(strings.TrimSpace(args[1]), "$") {
			return "", fmt.Errorf("expanding $__conditionalAll: %q are not a condition and a variable", args)
		}
		values, err := q.values(strings.Trim(strings.TrimSpace(args[1]), "${}"))
		if err != nil {
			return "", err
		}
		condition := args[0]
		if everything(values) {
			condition = "1=1"
		}
		sql = sql[:at] + condition + sql[end:]
	}
}

// arguments splits what is between parentheses at the commas that are in no others. from is behind the opening one, end behind the
// closing one. Like the data source's own, it knows no quotes.
func arguments(sql string, from int) (args []string, end int, err error) {
	depth, start := 0, from
	for i := from; i < len(sql); i++ {
		switch sql[i] {
		case '(':
			depth++
		case ')':
			if depth == 0 {
				return append(args, sql[start:i]), i + 1, nil
			}
			depth--
		case ',':
			if depth == 0 {
				args = append(args, sql[start:i])
				start = i + 1
			}
		}
	}
	return nil, 0, fmt.Errorf("no closing parenthesis in %q", sql[from:])
}

func everything(values []string) bool {
	return len(values) == 0 || slices.Equal(values, []string{All}) || slices.Equal(values, []string{""})
}

func (q *Query) values(name string) ([]string, error) {
	values, ok := q.Vars[name]
	if !ok {
		return nil, fmt.Errorf("there is no variable %q", name)
	}
	return values, nil
}

var variableUse = regexp.MustCompile(`\$\{(\w+)(?::(\w+))?\}|\$(\w+)`)

func (q *Query) variables(sql string) (string, error) {
	var failed error
	sql = variableUse.ReplaceAllStringFunc(sql, func(use string) string {
		m := variableUse.FindStringSubmatch(use)
		name, format := m[1]+m[3], m[2]
		if strings.HasPrefix(name, "__") {
			return use // a macro
		}
		values, err := q.values(name)
		if err != nil {
			failed = err
			return use
		}
		text, err := formatted(values, format)
		if err != nil {
			failed = fmt.Errorf("expanding %s: %w", use, err)
		}
		return text
	})
	return sql, failed
}

func formatted(values []string, format string) (string, error) {
	var list []string
	for _, v := range values {
		list = append(list, "'"+strings.ReplaceAll(v, "'", `\'`)+"'")
	}
	switch {
	case len(values) == 0 || slices.Contains(values, All):
		return "", fmt.Errorf("all values are chosen, which has no text: put it into $__conditionalAll")
	case format == "singlequote", (format == "" || format == "raw") && len(values) > 1:
		return strings.Join(list, ","), nil
	case format == "" || format == "raw":
		return values[0], nil
	}
	return "", fmt.Errorf("unknown format %q", format)
}

var macroUse = regexp.MustCompile(`\$__(\w+)`)

func (q *Query) macros(sql string) (string, error) {
	seconds := max(1, int64(q.Interval.Seconds()))
	plain := map[string]string{
		"fromTime": fmt.Sprintf("toDateTime(%d)", q.From.Unix()), "toTime": fmt.Sprintf("toDateTime(%d)", q.To.Unix()), "interval_s": fmt.Sprint(seconds),
	}
	var b strings.Builder
	for {
		at := macroUse.FindStringSubmatchIndex(sql)
		if at == nil {
			b.WriteString(sql)
			return b.String(), nil
		}
		name := sql[at[2]:at[3]]
		b.WriteString(sql[:at[0]])
		sql = sql[at[1]:]
		if text, ok := plain[name]; ok {
			b.WriteString(text)
			continue
		}
		column, rest, err := columnArgument(sql)
		if err != nil {
			return "", fmt.Errorf("expanding $__%s: %w", name, err)
		}
		sql = rest
		switch name {
		case "timeFilter":
			fmt.Fprintf(&b, "%s >= %s AND %s <= %s", column, plain["fromTime"], column, plain["toTime"])
		case "timeInterval":
			fmt.Fprintf(&b, "toStartOfInterval(toDateTime(%s), INTERVAL %d second)", column, seconds)
		default:
			return "", fmt.Errorf("unknown macro $__%s", name)
		}
	}
}

// columnArgument takes the one argument in parentheses off the front of sql.
func columnArgument(sql string) (column, rest string, err error) {
	if !strings.HasPrefix(sql, "(") {
		return "", "", fmt.Errorf("no argument")
	}
	args, end, err := arguments(sql, 1)
	if err != nil {
		return "", "", err
	}
	if len(args) != 1 || strings.TrimSpace(args[0]) == "" {
		return "", "", fmt.Errorf("%q is not one argument", args)
	}
	return args[0], sql[end:], nil
}

// intervals are the widths that Grafana rounds to.
var intervals = []time.Duration{
	time.Second, 2 * time.Second, 5 * time.Second, 10 * time.Second, 15 * time.Second, 20 * time.Second, 30 * time.Second, time.Minute, 2 * time.Minute,
	5 * time.Minute, 10 * time.Minute, 15 * time.Minute, 20 * time.Minute, 30 * time.Minute, time.Hour, 2 * time.Hour, 3 * time.Hour, 6 * time.Hour,
	12 * time.Hour, 24 * time.Hour, 7 * 24 * time.Hour, 30 * 24 * time.Hour,
}

// IntervalOf is the interval of a panel that has room for so many points. It is one that Grafana would round to: the nearest to the range
// divided by the points, but not less than the panel's own.
func IntervalOf(p *Panel, from, to time.Time, points int) (time.Duration, error) {
	least := time.Second
	if p.Interval != "" {
		text := strings.Replace(p.Interval, "1d", "24h", 1)
		var err error
		if least, err = time.ParseDuration(text); err != nil {
			return 0, fmt.Errorf("reading the interval of panel %q: %w", p.Title, err)
		}
	}
	raw := to.Sub(from) / time.Duration(max(1, points))
	for i, step := range intervals {
		if i == len(intervals)-1 || raw < (step+intervals[i+1])/2 {
			return max(least, step), nil
		}
	}
	panic("unreachable: the last interval is returned")
}
