package cli

import (
	"encoding/json"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

// printJSON writes one value as one line of standard output.
func (a *app) printJSON(v any) error {
	e := json.NewEncoder(a.out)
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		return fmt.Errorf("writing the output: %w", err)
	}
	return nil
}

// table writes rows in columns. Columns that hold only numbers are set to the right, but for the first, which names the row.
type table struct {
	head []string
	rows [][]string
}

func (t *table) row(cells ...string) { t.rows = append(t.rows, cells) }

func (t *table) print(w io.Writer) {
	all := append([][]string{t.head}, t.rows...)
	width := make([]int, len(t.head))
	number := make([]bool, len(t.head))
	for i := range t.head {
		number[i] = i > 0 && len(t.rows) > 0
		for n, row := range all {
			width[i] = max(width[i], utf8.RuneCountInString(row[i]))
			if n > 0 && strings.Trim(row[i], "0123456789,-.") != "" {
				number[i] = false
			}
		}
	}
	for _, row := range all {
		var line strings.Builder
		for i, cell := range row {
			pad := strings.Repeat(" ", width[i]-utf8.RuneCountInString(cell))
			if number[i] {
				line.WriteString(pad + cell)
			} else {
				line.WriteString(cell + pad)
			}
			if i < len(row)-1 {
				line.WriteString("  ")
			}
		}
		fmt.Fprintln(w, strings.TrimRight(line.String(), " "))
	}
}

// count writes a number with commas between thousands.
func count[N int | int64 | uint64](n N) string {
	s := strconv.FormatInt(int64(n), 10)
	for i := len(s) - 3; i > 0 && s[i-1] != '-'; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}

// plural writes a number and its noun.
func plural[N int | int64 | uint64](n N, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return count(n) + " " + many
}

// clockTime is ms since the epoch as local time, for people.
func clockTime(ms int64) string { return time.UnixMilli(ms).Format("2006-01-02 15:04:05.000") }

// jsonTime is ms since the epoch for programs.
func jsonTime(ms int64) string {
	return time.UnixMilli(ms).UTC().Format("2006-01-02T15:04:05.000Z07:00")
}

// printable makes one line of a text that came from outside, at most limit characters long: control characters would move the
// terminal's cursor, or worse.
func printable(s string, limit int) string {
	var b strings.Builder
	n := 0
	for _, r := range s {
		if n == limit {
			b.WriteString("…")
			break
		}
		if !strconv.IsPrint(r) {
			r = '\uFFFD'
		}
		b.WriteRune(r)
		n++
	}
	return b.String()
}

// Colours of actions.
const (
	green  = "\x1b[32m"
	yellow = "\x1b[33m"
	red    = "\x1b[31m"
	dim    = "\x1b[2m"
	plain  = "\x1b[0m"
)

// paint colours text if standard output is for it.
func (a *app) paint(color, text string) string {
	if !a.color() {
		return text
	}
	return color + text + plain
}
