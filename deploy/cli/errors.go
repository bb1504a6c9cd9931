package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"syscall"

	"github.com/tidemark-dev/tidemark/deploy/stack"
	"github.com/tidemark-dev/tidemark/ingest/bulk"
	"github.com/tidemark-dev/tidemark/schemas/errcode"
)

// commandError is an error with everything that the user is shown.
type commandError struct {
	exit    int
	code    string // stable; "" if there is none
	message string
	hint    string
	err     error // cause, for errors.Is
}

func (e *commandError) Error() string { return e.message }

func (e *commandError) Unwrap() error { return e.err }

// codeUsage is the code of every fault of the command line itself.
const codeUsage = "usage"

// usagef is a fault of the command line.
func usagef(hint, format string, args ...any) error {
	return &commandError{exit: exitUsage, code: codeUsage, message: fmt.Sprintf(format, args...), hint: hint}
}

// explain turns any error into what the user is shown.
func explain(err error) *commandError {
	var (
		ready *commandError
		coded *errcode.Error
		input *bulk.Error
	)
	e := &commandError{exit: exitFailure, message: err.Error(), err: err}
	switch {
	case errors.As(err, &ready):
		*e = *ready
		e.message = err.Error() // somebody may have said more
	case errors.As(err, &coded):
		e.code, e.hint = string(coded.Code), coded.Hint()
		e.message = strings.Replace(e.message, e.code+": ", "", 1)
		switch coded.Code {
		case errcode.Unreachable:
			e.exit = exitUnreachable
		}
	case errors.As(err, &input):
		e.code, e.hint = input.Code, input.Hint
		e.message = strings.Replace(e.message, e.code+": ", "", 1)
	case errors.Is(err, syscall.EADDRINUSE):
		e.hint = "Another program uses the address: choose others with --http and --kafka-listen; port 0 takes a free one."
	case errors.Is(err, stack.ErrForeignData):
		e.hint = "Give each log a data directory of its own, with --data."
	case errors.Is(err, syscall.ENOSPC):
		e.code, e.hint = string(errcode.DiskFull), "Free some space, then try again."
	case errors.Is(err, errInterrupted), errors.Is(err, context.Canceled):
		e.message, e.hint = "interrupted", ""
	}
	return e
}

// report prints an error and returns the exit code.
func (a *app) report(err error) int {
	e := explain(err)
	if a.json || a.jsonSeen {
		body := struct {
			Error struct {
				Code    string `json:"code,omitempty"`
				Message string `json:"message"`
				Hint    string `json:"hint,omitempty"`
			} `json:"error"`
		}{}
		body.Error.Code, body.Error.Message, body.Error.Hint = e.code, e.message, e.hint
		text, err := json.Marshal(body)
		if err != nil {
			panic("cli: encoding an error: " + err.Error()) // strings only
		}
		fmt.Fprintln(a.err, string(text))
		return e.exit
	}
	fmt.Fprintln(a.err, "error:", e.message)
	if e.hint != "" {
		fmt.Fprintln(a.err, "hint: ", e.hint)
	}
	if e.code != "" && e.code != codeUsage {
		fmt.Fprintln(a.err, "code: ", e.code)
	}
	return e.exit
}
