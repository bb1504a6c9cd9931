package api

import (
	"errors"
	"fmt"
	"math"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/tidemark-dev/tidemark/schemas/cursor"
	"github.com/tidemark-dev/tidemark/schemas/errcode"
	"github.com/tidemark-dev/tidemark/schemas/stream"
)

// Headers that name the connection.
const (
	headerConnection  = "Connection-Id"
	headerIntegration = "Provider-Config-Key"
)

// parameters are the query parameters of one request. Look-ups note what is wrong, so that a client hears of everything at once.
type parameters struct {
	values url.Values
	issues []issue
}

// parseParameters checks what holds for every route: the query can be decoded, is UTF-8, and has only known names.
func parseParameters(rawQuery string, known []string) (*parameters, error) {
	values, err := url.ParseQuery(rawQuery)
	if err != nil || !utf8ValidValues(values) {
		return nil, &requestError{errcode.InvalidQuery, []issue{{
			Code: issueInvalid, Message: "The query string cannot be decoded.", Path: []string{},
			hint: "Percent-encode names and values as UTF-8, and separate them with &.",
		}}}
	}
	p := &parameters{values: values}
	for _, name := range sortedNames(values) {
		if slices.Contains(known, name) {
			continue
		}
		hint := "The parameters are " + strings.Join(known, ", ") + "."
		if len(known) == 0 {
			hint = "This route takes no parameters."
		}
		if header, ok := parameterHeaders[strings.ToLower(name)]; ok {
			hint = "Send it as header " + header + "."
		} else if near := nearest(name, known); near != "" {
			hint = "Did you mean " + near + "?"
		}
		p.note(issueUnknown, name, hint, "is not known")
	}
	return p, nil
}

// parameterHeaders are names that other routes of the reference product take in the query.
var parameterHeaders = map[string]string{
	"connection_id": headerConnection, "connectionid": headerConnection,
	"provider_config_key": headerIntegration, "providerconfigkey": headerIntegration,
}

func utf8ValidValues(values url.Values) bool {
	for name, list := range values {
		if !utf8.ValidString(name) {
			return false
		}
		for _, v := range list {
			if !utf8.ValidString(v) {
				return false
			}
		}
	}
	return true
}

func sortedNames(values url.Values) []string {
	names := make([]string, 0, len(values))
	for name := range values {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

const quotedMax = 80 // bytes of a client's own text that an answer repeats

// quote shortens what a client sent for a message.
func quote(s string) string {
	if len(s) > quotedMax {
		cut := quotedMax
		for cut > 0 && !utf8.RuneStart(s[cut]) {
			cut--
		}
		return strconv.Quote(s[:cut]) + "..."
	}
	return strconv.Quote(s)
}

// note records an issue of one parameter: format continues the sentence "Parameter x ...".
func (p *parameters) note(code, name, hint, format string, args ...any) {
	shown := name
	if len(shown) > quotedMax || strings.ContainsFunc(shown, func(r rune) bool { return r <= ' ' || r == 0x7f }) {
		shown = quote(name)
	}
	p.issues = append(p.issues, issue{
		Code: code, Path: []string{name}, hint: hint,
		Message: "Parameter " + shown + " " + fmt.Sprintf(format, args...) + ".",
	})
}

// one returns the value of a parameter that may be there once.
func (p *parameters) one(name string) (value string, ok bool) {
	list := p.values[name]
	if len(list) > 1 {
		p.note(issueRepeated, name, "Send "+name+" once.", "is there %d times", len(list))
		return "", false
	}
	if len(list) == 0 {
		return "", false
	}
	return list[0], true
}

// err is a *requestError if anything was noted.
func (p *parameters) err() error {
	if len(p.issues) == 0 {
		return nil
	}
	return &requestError{errcode.InvalidQuery, p.issues}
}

// Names as the reference product allows them.
var (
	modelPattern   = regexp.MustCompile(`^[A-Z][A-Za-z0-9_-]+$`)
	variantPattern = regexp.MustCompile(`^[A-Za-z0-9_-]+$`)
)

func (p *parameters) model() string {
	const hint = "Names of models begin with a capital letter A-Z and go on with at least one letter, digit, _ or -; 255 bytes at most."
	v, ok := p.one("model")
	switch {
	case !ok && len(p.values["model"]) == 0:
		p.note(issueRequired, "model", "Send model=NAME: the model whose records you want.", "is missing")
	case ok && len(v) > stream.NameBytesMax:
		p.note(issueTooLong, "model", hint, "has %d bytes, at most %d are allowed", len(v), stream.NameBytesMax)
	case ok && !modelPattern.MatchString(v):
		p.note(issueInvalid, "model", hint, "is %s, which is no name of a model", quote(v))
	}
	return v
}

func (p *parameters) variant() string {
	const hint = "Names of variants hold letters, digits, _ and -, 255 bytes at most; leave variant out for " + stream.VariantBase + "."
	v, ok := p.one("variant")
	switch {
	case !ok:
		return stream.VariantBase
	case len(v) > stream.NameBytesMax:
		p.note(issueTooLong, "variant", hint, "has %d bytes, at most %d are allowed", len(v), stream.NameBytesMax)
	case !variantPattern.MatchString(v):
		p.note(issueInvalid, "variant", hint, "is %s, which is no name of a variant", quote(v))
	}
	return v
}

func (p *parameters) limit() int {
	hint := fmt.Sprintf("Send a whole number from 1 to %d, or leave limit out for %d.", LimitMax, LimitDefault)
	v, ok := p.one("limit")
	if !ok {
		return LimitDefault
	}
	if v == "" || strings.Trim(v, "0123456789") != "" {
		p.note(issueInvalid, "limit", hint, "is %s, which is not a whole number", quote(v))
		return 0
	}
	n, err := strconv.Atoi(v)
	if err != nil || n < 1 || n > LimitMax {
		p.note(issueOutOfRange, "limit", hint, "is %s, outside 1 to %d", quote(v), LimitMax)
	}
	return n
}

var actionNames = map[string]ActionSet{"added": ActionAdded, "updated": ActionUpdated, "deleted": ActionDeleted}

func (p *parameters) filter() ActionSet {
	const hint = "Send a comma list of added, updated and deleted, or leave filter out for all."
	v, ok := p.one("filter")
	if !ok {
		return 0
	}
	var set ActionSet
	for name := range strings.SplitSeq(v, ",") {
		a, known := actionNames[strings.ToLower(name)]
		if !known {
			p.note(issueInvalid, "filter", hint, "holds %s, which is no action", quote(name))
			return 0
		}
		set |= a
	}
	return set
}

// modifiedAfter returns ms since the epoch; 0 is no bound. A time between two milliseconds counts as the later one: what
// happened at or after it cannot have an earlier stamp.
func (p *parameters) modifiedAfter() int64 {
	const name, old = "modified_after", "delta"
	v, ok := p.one(name)
	given := name
	if w, okOld := p.one(old); okOld {
		if ok {
			p.note(issueConflict, old, "Send modified_after alone; delta is its old name.", "and modified_after are both there")
			return 0
		}
		v, ok, given = w, okOld, old
	}
	if !ok {
		return 0
	}
	t := p.rfc3339(given, v)
	if t.IsZero() {
		return 0
	}
	return max(ceilMS(t), 0)
}

// rfc3339 reads a time; the zero time stands for one that is noted as malformed.
func (p *parameters) rfc3339(name, v string) time.Time {
	t, err := time.Parse(time.RFC3339Nano, v)
	if err != nil {
		hint := "Send an RFC 3339 time with its zone, such as 2026-01-31T09:30:00Z."
		if _, err := time.Parse(time.RFC3339Nano, strings.Replace(v, " ", "+", 1)); err == nil {
			hint = "A + in a URL means a space: write %2B, or a time in UTC with Z."
		}
		p.note(issueInvalid, name, hint, "is %s, which is not a time", quote(v))
		return time.Time{}
	}
	return t
}

// ceilMS is ms since the epoch, up: what has a stamp at or after a time between two milliseconds has that of the later one or a later one.
func ceilMS(t time.Time) int64 {
	ms := t.UnixMilli()
	if t.Nanosecond()%int(time.Millisecond) != 0 {
		ms++
	}
	return ms
}

func (p *parameters) ids() []string {
	list := p.values["ids"]
	hint := fmt.Sprintf("Repeat ids for each record, up to %d times; an id has 1 to %d bytes.", IDsMax, stream.IDBytesMax)
	if len(list) > IDsMax {
		p.note(issueTooMany, "ids", hint, "is there %d times, at most %d are allowed", len(list), IDsMax)
		return nil
	}
	ids := make([]string, 0, len(list))
	for i, id := range list {
		switch {
		case len(id) > stream.IDBytesMax:
			p.note(issueTooLong, "ids", hint, "holds an id of %d bytes at position %d, at most %d are allowed", len(id), i+1, stream.IDBytesMax)
			return nil
		case stream.CheckID(id) != nil:
			p.note(issueInvalid, "ids", hint, "holds %s at position %d, which is no id", quote(id), i+1)
			return nil
		}
		if !slices.Contains(ids, id) {
			ids = append(ids, id)
		}
	}
	if len(ids) == 0 {
		return nil
	}
	return ids
}

// parseConnection reads the headers that name integration and connection.
func parseConnection(h http.Header) (integration, connection string, err error) {
	var issues []issue
	one := func(name, what string) string {
		hint := "Send header " + name + " with " + what + ": 1 to " + strconv.Itoa(stream.NameBytesMax) + " bytes of UTF-8."
		note := func(code, format string, args ...any) {
			issues = append(issues, issue{Code: code, Path: []string{name}, hint: hint, Message: "Header " + name + " " + fmt.Sprintf(format, args...) + "."})
		}
		list := h.Values(name)
		if len(list) > 1 {
			note(issueRepeated, "is there %d times", len(list))
			return ""
		}
		v := h.Get(name)
		switch {
		case v == "":
			note(issueRequired, "is missing or empty")
		case len(v) > stream.NameBytesMax:
			note(issueTooLong, "has %d bytes, at most %d are allowed", len(v), stream.NameBytesMax)
		case !utf8.ValidString(v):
			note(issueInvalid, "is not UTF-8")
		}
		return v
	}
	connection = one(headerConnection, "the id of the connection")
	integration = one(headerIntegration, "the key of the integration")
	if issues != nil {
		return "", "", &requestError{errcode.InvalidHeaders, issues}
	}
	return integration, connection, nil
}

// parseCursor returns the position of a cursor of the stream with this tag. It does not know how far the log has come.
func parseCursor(text string, tag cursor.Tag) (cursor.Cursor, error) {
	c, err := cursor.ParseFor(text, tag)
	if err != nil {
		return c, cursorError(text, err)
	}
	if c.CSN > math.MaxInt64 { // no log gets there; views need not think of overflow
		return c, errcode.New(errcode.CursorAhead, "it names csn %d", c.CSN)
	}
	return c, nil
}

func cursorError(text string, err error) error {
	switch {
	case text == "":
		return errcode.New(errcode.CursorMalformed, "it is empty")
	case errors.Is(err, cursor.ErrForeign):
		return errcode.New(errcode.CursorForeign, "")
	}
	return errcode.New(errcode.CursorMalformed, "%s", strings.TrimPrefix(err.Error(), cursor.ErrMalformed.Error()+": "))
}
