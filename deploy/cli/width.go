package cli

import (
	"os"
	"strconv"
)

// columns is how many characters a line of standard output may have: what COLUMNS says, or the terminal; 0: any number.
func (a *app) columns() int {
	if n, err := strconv.Atoi(a.env["COLUMNS"]); err == nil && n > 0 {
		return n
	}
	if w, ok := a.out.(*lockedWriter); ok && a.outTerminal {
		if f, ok := w.w.(*os.File); ok {
			return windowColumns(f)
		}
	}
	return 0
}
