package api

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"strings"

	"github.com/gin-gonic/gin"

	"github.com/tidemark-dev/tidemark/schemas/errcode"
)

// Codes inside an error: what is wrong with one parameter or header. As stable as the codes of schemas/errcode.
const (
	issueRequired   = "required"
	issueUnknown    = "unknown"
	issueRepeated   = "repeated"
	issueInvalid    = "invalid"
	issueTooLong    = "too_long"
	issueTooMany    = "too_many"
	issueOutOfRange = "out_of_range"
	issueConflict   = "conflict"
)

// issue is one thing wrong with a request.
type issue struct {
	Code    string   `json:"code"`
	Message string   `json:"message"`
	Path    []string `json:"path"`
	hint    string
}

// requestError is a request with issues; there is at least one.
type requestError struct {
	code   errcode.Code
	issues []issue
}

func (e *requestError) Error() string { return string(e.code) + ": " + e.issues[0].Message }

// dialect is how a route spells its errors.
type dialect int

const (
	dialectRoot dialect = iota // {"error": {...}}, as the reference product
	dialectV1                  // application/problem+json (RFC 9457)
)

// fault is an error as a client sees it.
type fault struct {
	status int
	code   errcode.Code
	title  string // of the code
	detail string // of this occurrence; may be empty
	hint   string
	issues []issue
}

// statusClientGone is what nginx made customary for an answer that nobody waits for; it only shows in metrics and logs.
const statusClientGone = 499

// faultOf is the one place where errors become answers. Whatever it does not know is a server_error without its text.
func faultOf(err error) fault {
	var (
		request *requestError
		coded   *errcode.Error
		f       fault
	)
	switch {
	case errors.As(err, &request):
		f.code, f.issues, f.hint = request.code, request.issues, request.issues[0].hint
		messages := make([]string, len(request.issues))
		for i, is := range request.issues {
			messages[i] = is.Message
		}
		f.detail = strings.Join(messages, " ")
	case errors.As(err, &coded):
		f.code, f.detail = coded.Code, sentence(coded.Detail)
	case errors.Is(err, context.DeadlineExceeded):
		f.code, f.detail = errcode.ServerError, "The answer took too long."
	default:
		f.code = errcode.ServerError
	}
	info, ok := errcode.Lookup(f.code)
	if !ok || info.Status == 0 { // not meant for HTTP
		f.code, f.detail = errcode.ServerError, ""
		info, _ = errcode.Lookup(errcode.ServerError)
	}
	f.status, f.title = info.Status, info.Message
	if f.hint == "" {
		f.hint = info.Hint
	}
	return f
}

// sentence gives a detail, written as part of an error chain, the form of a sentence.
func sentence(s string) string {
	if s == "" {
		return ""
	}
	if 'a' <= s[0] && s[0] <= 'z' {
		s = string(s[0]-'a'+'A') + s[1:]
	}
	if !strings.HasSuffix(s, ".") {
		s += "."
	}
	return s
}

// body is the answer's body and content type in a dialect.
func (f fault) body(d dialect, requestID, path string) ([]byte, string) {
	issues := f.issues
	if issues == nil {
		issues = []issue{}
	}
	var v any
	contentType := "application/json; charset=utf-8"
	switch d {
	case dialectV1:
		contentType = "application/problem+json"
		v = struct {
			Type      string       `json:"type"`
			Title     string       `json:"title"`
			Status    int          `json:"status"`
			Detail    string       `json:"detail,omitempty"`
			Instance  string       `json:"instance"`
			Code      errcode.Code `json:"code"`
			Hint      string       `json:"hint"`
			RequestID string       `json:"request_id"`
			Errors    []issue      `json:"errors"`
		}{"/errors/" + string(f.code), f.title, f.status, f.detail, path, f.code, f.hint, requestID, issues}
	default:
		message := f.title
		if f.detail != "" {
			message += " " + f.detail
		}
		type inner struct {
			Code      errcode.Code `json:"code"`
			Message   string       `json:"message"`
			Hint      string       `json:"hint"`
			Errors    []issue      `json:"errors"`
			RequestID string       `json:"request_id"`
		}
		v = struct {
			Error inner `json:"error"`
		}{inner{f.code, message, f.hint, issues, requestID}}
	}
	b, err := json.Marshal(v)
	if err != nil {
		panic("api: encoding an error: " + err.Error()) // strings only: cannot happen
	}
	return append(b, '\n'), contentType
}

// fail answers with an error. What has already been sent cannot be taken back: then the connection is cut, so that no client
// takes half an answer for a whole one.
func (s *Server) fail(c *gin.Context, d dialect, err error) {
	if c.Request.Context().Err() != nil && errors.Is(err, context.Canceled) {
		c.Status(statusClientGone)
		c.Writer.WriteHeaderNow()
		return
	}
	f := faultOf(err)
	id := c.GetString(requestIDKey)
	if f.status == http.StatusInternalServerError {
		s.log.Error("answering a request went wrong", "request_id", id, "route", c.FullPath(), "err", err)
	}
	if strings.HasPrefix(string(f.code), "cursor.") {
		s.metrics.cursorErrors.WithLabelValues(string(f.code)).Inc()
	}
	if c.Writer.Written() {
		panic(http.ErrAbortHandler)
	}
	if f.status == http.StatusServiceUnavailable {
		c.Header("Retry-After", "1")
	}
	body, contentType := f.body(d, id, c.Request.URL.Path)
	c.Data(f.status, contentType, body)
}
