package warehouse

import (
	"context"
	"errors"
	"slices"

	"github.com/ClickHouse/clickhouse-go/v2"
)

// Class says what an error of the server asks of a writer.
type Class uint8

// Classes. None of them is a reason to drop a row.
const (
	Transient Class = iota // try again; also everything that is not known to be worse
	Pressure               // the server lacks memory, even for a small block: try again later
	Denied                 // try again rarely, and tell an operator
	Schema                 // the tables are not what this program writes: stop, and tell an operator
	Canceled               // the caller's context has ended
)

func (c Class) String() string {
	return [...]string{"transient", "pressure", "denied", "schema", "canceled"}[c]
}

// Codes of ClickHouse's ErrorCodes.cpp.
const codeMemoryLimit = 241

var (
	deniedCodes = []int32{
		164, // READONLY
		192, // UNKNOWN_USER
		193, // WRONG_PASSWORD
		194, // REQUIRED_PASSWORD
		497, // ACCESS_DENIED
		516, // AUTHENTICATION_FAILED
	}
	schemaCodes = []int32{
		10,  // NOT_FOUND_COLUMN_IN_BLOCK
		16,  // NO_SUCH_COLUMN_IN_TABLE
		36,  // BAD_ARGUMENTS
		47,  // UNKNOWN_IDENTIFIER
		53,  // TYPE_MISMATCH
		60,  // UNKNOWN_TABLE
		62,  // SYNTAX_ERROR
		81,  // UNKNOWN_DATABASE
		115, // UNKNOWN_SETTING
		117, // INCORRECT_DATA
		218, // TABLE_IS_DROPPED
	}
)

// Classify says what kind of error it is. nil is Transient.
func Classify(err error) Class {
	if errors.Is(err, errDrift) {
		return Schema
	}
	if code, ok := Code(err); ok {
		switch {
		case code == codeMemoryLimit:
			return Pressure
		case slices.Contains(deniedCodes, code):
			return Denied
		case slices.Contains(schemaCodes, code):
			return Schema
		}
		return Transient
	}
	if errors.Is(err, context.Canceled) {
		return Canceled
	}
	return Transient // of the network, and timeouts
}

// Code is the server's code for the error, if it comes from the server.
func Code(err error) (int32, bool) {
	var e *clickhouse.Exception
	if errors.As(err, &e) {
		return e.Code, true
	}
	return 0, false
}
