//go:build !unix

package cli

import "os"

// windowColumns is the width of a terminal, 0 if it does not say.
func windowColumns(*os.File) int { return 0 }
