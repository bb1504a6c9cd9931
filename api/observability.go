package api

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/gin-gonic/gin"

	"github.com/tidemark-dev/tidemark/projections/observe"
	"github.com/tidemark-dev/tidemark/schemas/errcode"
	"github.com/tidemark-dev/tidemark/schemas/stream"
)

// Observability is where the routes under /v1/observability, and those for the history of a record, get their answers. It is safe for
// concurrent use.
type Observability interface {
	// Ask returns whom to ask, or an *errcode.Error that says why there is nobody: ObservabilityOff or ObservabilityAway.
	Ask() (observe.Ask, error)
}

// questionsMax bounds questions under way, and so the memory of their answers. They have places of their own: a slow ClickHouse must not
// keep anybody from reading records.
const questionsMax = 8

// ask finds somebody to ask and a place to do it. The caller gives the place back.
func (s *Server) ask(ctx context.Context) (observe.Ask, func(), error) {
	if s.observability == nil {
		return nil, nil, errcode.New(errcode.ObservabilityOff, "")
	}
	who, err := s.observability.Ask()
	if err != nil {
		return nil, nil, err
	}
	select {
	case s.questions <- struct{}{}:
		return who, func() { <-s.questions }, nil
	case <-ctx.Done():
		return nil, nil, ctx.Err()
	}
}

// question makes the handler of a route under /v1/observability.
func question[T any](ask func(observe.Ask, context.Context, observe.Query) (*T, error), known ...string) func(*Server, *gin.Context) error {
	return func(s *Server, c *gin.Context) error {
		p, err := parseParameters(c.Request.URL.RawQuery, known)
		if err != nil {
			return err
		}
		q := p.question(s.cfg.Environment, known)
		if err := p.err(); err != nil {
			return err
		}
		return answerQuestion(s, c, func(ctx context.Context, who observe.Ask) (*T, error) { return ask(who, ctx, q) })
	}
}

// recordQuestion makes the handler of a route about one record.
func recordQuestion[T any](ask func(observe.Ask, context.Context, observe.RecordQuery) (*T, error), known ...string) func(*Server, *gin.Context) error {
	known = append([]string{"environment", "variant"}, known...)
	return func(s *Server, c *gin.Context) error {
		p, err := parseParameters(c.Request.URL.RawQuery, known)
		if err != nil {
			return err
		}
		q := p.recordQuestion(s.cfg.Environment, c)
		if err := p.err(); err != nil {
			return err
		}
		return answerQuestion(s, c, func(ctx context.Context, who observe.Ask) (*T, error) { return ask(who, ctx, q) })
	}
}

func answerQuestion[T any](s *Server, c *gin.Context, ask func(context.Context, observe.Ask) (*T, error)) error {
	ctx := c.Request.Context()
	who, release, err := s.ask(ctx)
	if err != nil {
		return err
	}
	defer release()
	answer, err := ask(ctx, who)
	if err != nil {
		return err
	}
	var body bytes.Buffer
	e := json.NewEncoder(&body)
	e.SetEscapeHTML(false) // payloads leave as they came
	if err := e.Encode(answer); err != nil {
		return fmt.Errorf("encoding an answer: %w", err)
	}
	c.Header("Cache-Control", "no-store")
	return s.send(c, applicationJSON, body.Bytes())
}

// Parameters of the questions.
var (
	streamParameters = []string{"environment", "integration", "connection", "model", "variant"}
	spanParameters   = with(streamParameters, "since", "until")
	listParameters   = with(spanParameters, "limit")
)

func with(names []string, more ...string) []string { return slices.Concat(names, more) }

// question reads the parameters of a route that takes those that are known.
func (p *parameters) question(environment string, known []string) (q observe.Query) {
	q.Streams = stream.ID{
		Environment: p.name("environment"), Integration: p.name("integration"), Connection: p.name("connection"), Model: p.name("model"),
		Variant: p.name("variant"),
	}
	if q.Streams.Environment == "" {
		q.Streams.Environment = environment
	}
	q.Limit = p.count("limit", observe.LimitDefault, observe.LimitMax)
	q.Bucket = choice(p, "bucket", observe.Buckets)
	q.Order = choice(p, "order", observe.Orders)
	q.Status = choice(p, "status", observe.RunStatuses)
	q.Since, q.Until = p.bound("since"), p.bound("until")
	if len(p.issues) > 0 {
		return q
	}
	q = q.WithDefaults(time.Now())
	if q.Since >= q.Until {
		p.note(issueConflict, "since", "Send a since before until; without until that is now.", "is %s, which is not before %s", q.Since, q.Until)
	} else if n := q.Buckets(); slices.Contains(known, "bucket") && n > observe.BucketsMax {
		p.note(issueOutOfRange, "bucket", fmt.Sprintf("Ask for at most %d buckets: wider ones, or less time.", observe.BucketsMax), "makes %d buckets", n)
	}
	return q
}

func (p *parameters) recordQuestion(environment string, c *gin.Context) (q observe.RecordQuery) {
	segment := func(name string, check func(string) error) string {
		v, err := pathValue(c, name)
		if err == nil {
			err = check(v)
		}
		if err != nil {
			hint := "Percent-encode each part of the path: /v1/records/INTEGRATION/CONNECTION/MODEL/ID/..."
			p.issues = append(p.issues, issue{
				Code: issueInvalid, Path: []string{name}, hint: hint,
				Message: fmt.Sprintf("Part %s of the path is %s: %s.", name, quote(v), strings.TrimPrefix(err.Error(), stream.ErrInvalid.Error()+": ")),
			})
		}
		return v
	}
	q.Stream = stream.ID{
		Environment: p.name("environment"), Integration: segment("integration", checkName), Connection: segment("connection", checkName),
		Model: segment("model", checkName), Variant: p.name("variant"),
	}
	q.ID = segment("id", func(v string) error { return stream.CheckID(v) })
	if q.Stream.Environment == "" {
		q.Stream.Environment = environment
	}
	if q.Stream.Variant == "" {
		q.Stream.Variant = stream.VariantBase
	}
	q.Deltas = choice(p, "diff", []string{"false", "true"}) == "true"
	most := observe.LimitMax
	if q.Deltas {
		most = observe.DeltasMax
	}
	q.Limit = p.count("limit", observe.LimitDefault, most)
	q.Before, q.From, q.To, q.CSN, q.At = p.csn("before"), p.csn("from"), p.csn("to"), p.csn("csn"), p.moment("at")
	if q.From > 0 && q.To > 0 && q.From >= q.To {
		p.note(issueConflict, "from", "Send the csn of the older version as from.", "is %d, which is not before %d", q.From, q.To)
	}
	if q.At > 0 && q.CSN > 0 {
		p.note(issueConflict, "csn", "Send either at or csn.", "and at are both there")
	}
	return q
}

// pathValue is a part of the path. A + is a +.
func pathValue(c *gin.Context, name string) (string, error) {
	v, err := url.PathUnescape(c.Param(name))
	if err != nil {
		return c.Param(name), errors.New("it cannot be decoded")
	}
	return v, nil
}

// checkName checks one part of the name of a stream.
func checkName(v string) error {
	return stream.ID{Environment: v, Integration: "i", Connection: "c", Model: "M"}.Validate()
}

// name is a part of the name of a stream, if it is given.
func (p *parameters) name(name string) string {
	v, ok := p.one(name)
	hint := fmt.Sprintf("Names have 1 to %d bytes of UTF-8; leave %s out if it does not matter.", stream.NameBytesMax, name)
	switch {
	case !ok:
	case len(v) > stream.NameBytesMax:
		p.note(issueTooLong, name, hint, "has %d bytes, at most %d are allowed", len(v), stream.NameBytesMax)
	case v == "" || !utf8.ValidString(v) || strings.IndexByte(v, 0) >= 0:
		p.note(issueInvalid, name, hint, "is %s, which is no name", quote(v))
	}
	return v
}

// count is a number from 1 to most.
func (p *parameters) count(name string, def, most int) int {
	hint := fmt.Sprintf("Send a whole number from 1 to %d, or leave %s out for %d.", most, name, def)
	v, ok := p.one(name)
	if !ok {
		return def
	}
	if v == "" || strings.Trim(v, "0123456789") != "" {
		p.note(issueInvalid, name, hint, "is %s, which is not a whole number", quote(v))
		return 0
	}
	n, err := strconv.Atoi(v)
	if err != nil || n < 1 || n > most {
		p.note(issueOutOfRange, name, hint, "is %s, outside 1 to %d", quote(v), most)
	}
	return n
}

// csn is the csn of a change, or 0.
func (p *parameters) csn(name string) uint64 {
	v, ok := p.one(name)
	if !ok {
		return 0
	}
	n, err := strconv.ParseUint(v, 10, 63)
	if err != nil || n == 0 || v[0] == '+' {
		p.note(issueInvalid, name, "Send the csn of a change, as the history of the record has it: a whole number from 1 on.", "is %s, which is no csn", quote(v))
	}
	return n
}

// bound is an RFC 3339 time that others are compared with, or none.
func (p *parameters) bound(name string) observe.Time {
	v, ok := p.one(name)
	if !ok {
		return 0
	}
	return observe.Time(max(ceilMS(p.rfc3339(name, v)), 1)) // the epoch is no time, and nothing is older
}

// moment is an RFC 3339 time that something is at or before, or none.
func (p *parameters) moment(name string) observe.Time {
	v, ok := p.one(name)
	if !ok {
		return 0
	}
	return observe.Time(max(p.rfc3339(name, v).UnixMilli(), 1))
}

// choice is one of a few words, or none.
func choice[T ~string](p *parameters, name string, of []T) T {
	v, ok := p.one(name)
	if !ok || slices.Contains(of, T(v)) {
		return T(v)
	}
	words := make([]string, len(of))
	for i, w := range of {
		words[i] = string(w)
	}
	p.note(issueInvalid, name, "Send one of "+strings.Join(words, ", ")+".", "is %s", quote(v))
	return ""
}
