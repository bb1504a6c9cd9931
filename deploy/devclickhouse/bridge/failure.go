package bridge

import (
	"errors"
	"fmt"
	"net/http"
	"regexp"
	"strings"

	"github.com/tidemark-dev/tidemark/deploy/devclickhouse/chdb"
)

// Numbers of errors that the bridge itself gives; the engine's own pass through. From src/Common/ErrorCodes.cpp of ClickHouse.
const (
	codeUnknownSetting    = 115
	codeBadArguments      = 36
	codeNotImplemented    = 48
	codeSyntaxError       = 62
	codeNoDataToInsert    = 108
	codeUnknownFormat     = 73
	codeTimeout           = 159
	codeReadonly          = 164
	codeTooManyQueries    = 202
	codeNetwork           = 210
	codeCannotDecompress  = 271
	codeSessionNotFound   = 372
	codeSessionLocked     = 373
	codeBadSessionTimeout = 374
	codeCancelled         = 394
	codeAccessDenied      = 497
	codeAuthentication    = 516
	codeUnknownException  = 1002
)

var codeNames = map[int]string{
	codeUnknownSetting: "UNKNOWN_SETTING", codeBadArguments: "BAD_ARGUMENTS", codeNotImplemented: "NOT_IMPLEMENTED",
	codeSyntaxError: "SYNTAX_ERROR", codeNoDataToInsert: "NO_DATA_TO_INSERT", codeUnknownFormat: "UNKNOWN_FORMAT",
	codeTimeout: "TIMEOUT_EXCEEDED", codeReadonly: "READONLY", codeTooManyQueries: "TOO_MANY_SIMULTANEOUS_QUERIES",
	codeNetwork: "NETWORK_ERROR", codeCannotDecompress: "CANNOT_DECOMPRESS", codeSessionNotFound: "SESSION_NOT_FOUND",
	codeSessionLocked: "SESSION_IS_LOCKED", codeBadSessionTimeout: "INVALID_SESSION_TIMEOUT",
	codeCancelled: "QUERY_WAS_CANCELLED", codeAccessDenied: "ACCESS_DENIED", codeAuthentication: "AUTHENTICATION_FAILED",
	codeUnknownException: "UNKNOWN_EXCEPTION",
}

// failure is an answer other than a result.
type failure struct {
	code int
	text string // without the prefix and the name
}

func (f *failure) Error() string {
	return fmt.Sprintf("Code: %d. DB::Exception: %s (%s)", f.code, f.text, codeNames[f.code])
}

func refuse(code int, format string, args ...any) *failure {
	return &failure{code: code, text: fmt.Sprintf(format, args...)}
}

// exception is an error in the form in which clients of ClickHouse read it.
type exception struct {
	code   int
	status int
	text   string
}

// newException turns any error into an answer. version is that of the engine, which every text of a server ends with.
func newException(err error, version string) exception {
	e := exception{code: codeUnknownException, text: err.Error()}
	var ours *failure
	var engine *chdb.Error
	switch {
	case errors.As(err, &ours):
		e.code, e.text = ours.code, ours.Error()
	case errors.As(err, &engine) && engine.Code != 0:
		e.code, e.text = engine.Code, engine.Message
	case !strings.HasPrefix(e.text, "Code: "):
		e.text = fmt.Sprintf("Code: %d. DB::Exception: %s (UNKNOWN_EXCEPTION)", e.code, e.text)
	}
	if !strings.Contains(e.text, "(version ") {
		e.text += " (version " + version + ")"
	}
	e.status = statusOf(e.code)
	return e
}

// statusOf is the HTTP status of an error, as ClickHouse's HTTP interface has it (exceptionCodeToHTTPStatus in
// src/Server/HTTP/exceptionCodeToHTTPStatus.cpp). Clients go by the code.
func statusOf(code int) int {
	switch code {
	case 6, 26, 27, 36, 38, 41, 43, 53, 62, 69, 70, 72, 117, 124, 130, 131, 192, 321, 386, 457, 489, 1001, codeNoDataToInsert,
		codeCannotDecompress, codeBadSessionTimeout:
		return http.StatusBadRequest
	case codeReadonly, codeAccessDenied, codeAuthentication, 194, 195, 288, 291, 511:
		return http.StatusForbidden
	case 16, 46, 47, 50, 60, 73, 81, 82, codeUnknownSetting, 127, 128, 140, 356, 371, codeSessionNotFound, 407, 475, 482, 519:
		return http.StatusNotFound
	case codeTimeout, 209:
		return http.StatusRequestTimeout
	case codeNotImplemented:
		return http.StatusNotImplemented
	case codeTooManyQueries, 439:
		return http.StatusServiceUnavailable
	}
	return http.StatusInternalServerError
}

// name is the symbolic name that ends the text, such as UNKNOWN_TABLE, or "".
func (e exception) name() string {
	found := exceptionName.FindAllStringSubmatch(e.text, -1)
	if len(found) == 0 {
		return ""
	}
	return found[len(found)-1][1]
}

var exceptionName = regexp.MustCompile(`\(([A-Z][A-Z0-9_]+)\)`)
