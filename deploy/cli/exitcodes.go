package cli

import (
	"bytes"
	"fmt"

	"github.com/spf13/cobra"
)

// Exit codes. They are part of the contract with scripts.
const (
	exitOK          = 0
	exitFailure     = 1
	exitUsage       = 2
	exitPerson      = 3
	exitUnreachable = 4
)

var exitCodes = []struct {
	code    int
	meaning string
}{
	{exitOK, "it worked; also when a signal ended up or tail"},
	{exitFailure, "it did not work: the error says why"},
	{exitUsage, "the command line is wrong: nothing was done"},
	{exitPerson, "a person must decide: deletions are held, or a question needs --yes"},
	{exitUnreachable, "the broker or the server could not be reached: try again later"},
	{exitInterrupted, "a second signal ended it at once"},
}

// exitCodesTopic is `help exit-codes`.
func exitCodesTopic() *cobra.Command {
	var text bytes.Buffer
	text.WriteString("Every command ends with one of these codes:\n\n")
	for _, c := range exitCodes {
		fmt.Fprintf(&text, "  %3d  %s\n", c.code, c.meaning)
	}
	text.WriteString("\nErrors are printed to standard error, with --json as one JSON object {\"error\":{\"code\",\"message\",\"hint\"}}.")
	return &cobra.Command{Use: "exit-codes", Short: "Exit codes of all commands", Long: text.String()}
}
