package api_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"reflect"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/tidemark-dev/tidemark/api"
	"github.com/tidemark-dev/tidemark/api/apitest"
	"github.com/tidemark-dev/tidemark/projections/observe"
	"github.com/tidemark-dev/tidemark/schemas/errcode"
	"github.com/tidemark-dev/tidemark/schemas/stream"
)

// asked is a fake observe.Ask: it notes the question, and answers with the zero value, or err.
type asked struct {
	what   string
	query  observe.Query
	record observe.RecordQuery
	err    error
	away   error           // of finding somebody to ask
	asOf   json.RawMessage // record of AsOf
	block  chan struct{}   // answers wait until it is closed
	under  atomic.Int32    // questions under way
	most   atomic.Int32
}

func (a *asked) Ask() (observe.Ask, error) {
	if a.away != nil {
		return nil, a.away
	}
	return a, nil
}

func zero[T any](a *asked, what string, q observe.Query) (*T, error) {
	if a.block != nil {
		n := a.under.Add(1)
		for most := a.most.Load(); n > most && !a.most.CompareAndSwap(most, n); most = a.most.Load() {
		}
		<-a.block
		a.under.Add(-1)
		return new(T), nil
	}
	a.what, a.query = what, q
	return new(T), a.err
}

func zeroRecord[T any](a *asked, what string, q observe.RecordQuery) (*T, error) {
	a.what, a.record = what, q
	return new(T), a.err
}

func (a *asked) Overview(_ context.Context, q observe.Query) (*observe.Overview, error) {
	return zero[observe.Overview](a, "overview", q)
}
func (a *asked) Streams(_ context.Context, q observe.Query) (*observe.Streams, error) {
	return zero[observe.Streams](a, "streams", q)
}
func (a *asked) Changes(_ context.Context, q observe.Query) (*observe.Changes, error) {
	return zero[observe.Changes](a, "changes", q)
}
func (a *asked) Runs(_ context.Context, q observe.Query) (*observe.Runs, error) {
	return zero[observe.Runs](a, "runs", q)
}
func (a *asked) FieldChanges(_ context.Context, q observe.Query) (*observe.FieldChanges, error) {
	return zero[observe.FieldChanges](a, "fields", q)
}
func (a *asked) Spurious(_ context.Context, q observe.Query) (*observe.Spurious, error) {
	return zero[observe.Spurious](a, "spurious", q)
}
func (a *asked) HotRecords(_ context.Context, q observe.Query) (*observe.HotRecords, error) {
	return zero[observe.HotRecords](a, "hot-records", q)
}
func (a *asked) HotStreams(_ context.Context, q observe.Query) (*observe.HotStreams, error) {
	return zero[observe.HotStreams](a, "hot-streams", q)
}
func (a *asked) PayloadSizes(_ context.Context, q observe.Query) (*observe.PayloadSizes, error) {
	return zero[observe.PayloadSizes](a, "payload-sizes", q)
}
func (a *asked) Lag(_ context.Context, q observe.Query) (*observe.Lag, error) {
	return zero[observe.Lag](a, "lag", q)
}
func (a *asked) Health(_ context.Context, q observe.Query) (*observe.Health, error) {
	return zero[observe.Health](a, "health", q)
}
func (a *asked) Timeline(_ context.Context, q observe.Query) (*observe.Timeline, error) {
	return zero[observe.Timeline](a, "timeline", q)
}
func (a *asked) History(_ context.Context, q observe.RecordQuery) (*observe.History, error) {
	return zeroRecord[observe.History](a, "history", q)
}
func (a *asked) Diff(_ context.Context, q observe.RecordQuery) (*observe.Diff, error) {
	return zeroRecord[observe.Diff](a, "diff", q)
}
func (a *asked) AsOf(_ context.Context, q observe.RecordQuery) (*observe.AsOf, error) {
	out, err := zeroRecord[observe.AsOf](a, "as-of", q)
	out.Record = a.asOf
	return out, err
}

func observing(t *testing.T, o api.Observability) http.Handler {
	t.Helper()
	cfg := api.DefaultConfig()
	cfg.Lineage, cfg.Environment = "test", "prod"
	reg := prometheus.NewRegistry()
	srv, err := api.New(cfg, api.Deps{
		View: apitest.NewMemory(), Observability: o, Logger: slog.New(slog.NewTextHandler(io.Discard, nil)), Metrics: api.NewMetrics(reg), Gatherer: reg,
	})
	if err != nil {
		t.Fatal(err)
	}
	return srv.Handler()
}

func getV1(t *testing.T, h http.Handler, target string) *httptest.ResponseRecorder {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://x"+target, nil) // as a client spells it, not tidied up
	if err != nil {
		t.Fatal(err)
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, req)
	return w
}

// v1Error is an error of the routes under /v1.
type v1Error struct {
	Code   errcode.Code `json:"code"`
	Status int          `json:"status"`
	Detail string       `json:"detail"`
	Hint   string       `json:"hint"`
	Errors []struct {
		Code string   `json:"code"`
		Path []string `json:"path"`
	} `json:"errors"`
}

func (e v1Error) issues() string {
	var out []string
	for _, i := range e.Errors {
		out = append(out, strings.TrimSpace(i.Code+" "+strings.Join(i.Path, ".")))
	}
	return strings.Join(out, ", ")
}

func wantError(t *testing.T, w *httptest.ResponseRecorder, status int, code errcode.Code, issues string) v1Error {
	t.Helper()
	var e v1Error
	if err := json.Unmarshal(w.Body.Bytes(), &e); err != nil {
		t.Fatalf("%v: %s", err, w.Body)
	}
	if w.Code != status || e.Status != status || e.Code != code || e.issues() != issues || e.Hint == "" || w.Header().Get("Content-Type") != "application/problem+json" {
		t.Errorf("status %d, %s; want %d, %s, issues %q", w.Code, w.Body, status, code, issues)
	}
	return e
}

const ms = observe.Time(1)

func day(hour, minute int) observe.Time {
	return observe.TimeOf(time.Date(2026, 3, 4, hour, minute, 0, 0, time.UTC))
}

func TestObservability_AsksWhatTheClientAsks(t *testing.T) {
	all := stream.ID{Environment: "prod"}
	span := "since=2026-03-04T05:00:00Z&until=2026-03-04T08:00:00%2B01:00"
	for _, c := range []struct {
		target, what string
		want         observe.Query
	}{
		{"overview", "overview", observe.Query{Streams: all}},
		{"overview?environment=dev&integration=a%2Fb&connection=c+d&model=M&variant=v", "overview", observe.Query{Streams: stream.ID{Environment: "dev", Integration: "a/b", Connection: "c d", Model: "M", Variant: "v"}}},
		{"streams?limit=7&order=stale", "streams", observe.Query{Streams: all, Limit: 7, Order: observe.ByStale}},
		{"changes?bucket=minute&" + span, "changes", observe.Query{Streams: all, Since: day(5, 0), Until: day(7, 0), Bucket: observe.Minute}},
		{"changes?" + span, "changes", observe.Query{Streams: all, Since: day(5, 0), Until: day(7, 0), Bucket: observe.Minute}},
		{"changes?since=2026-03-01T00:00:00Z&until=2026-03-04T05:00:00.0000001Z", "changes", observe.Query{Streams: all, Since: day(0, 0) - 3*observe.Day.Width(), Until: day(5, 0) + ms, Bucket: observe.Hour}},
		{"changes?since=2025-03-04T05:00:00Z&until=2026-03-04T05:00:00Z", "changes", observe.Query{Streams: all, Since: day(5, 0) - 365*observe.Day.Width(), Until: day(5, 0), Bucket: observe.Day}},
		{"runs?status=held&limit=1000&" + span, "runs", observe.Query{Streams: all, Since: day(5, 0), Until: day(7, 0), Limit: 1000, Status: "held"}},
		{"fields?" + span, "fields", observe.Query{Streams: all, Since: day(5, 0), Until: day(7, 0)}},
		{"spurious?until=2026-03-04T07:00:00Z", "spurious", observe.Query{Streams: all, Since: day(7, 0) - 24*observe.Hour.Width(), Until: day(7, 0)}},
		{"hot-records?until=1970-01-01T00:00:01Z", "hot-records", observe.Query{Streams: all, Since: 1, Until: 1000}},
		{"hot-streams?limit=3", "hot-streams", observe.Query{Streams: all, Limit: 3}},
		{"payload-sizes?" + span, "payload-sizes", observe.Query{Streams: all, Since: day(5, 0), Until: day(7, 0)}},
		{"lag?" + span, "lag", observe.Query{Streams: all, Since: day(5, 0), Until: day(7, 0)}},
		{"health", "health", observe.Query{Streams: all}},
		{"timeline?connection=acme&" + span, "timeline", observe.Query{Streams: stream.ID{Environment: "prod", Connection: "acme"}, Since: day(5, 0), Until: day(7, 0)}},
	} {
		t.Run(c.target, func(t *testing.T) {
			fake := &asked{}
			before := time.Now()
			w := getV1(t, observing(t, fake), "/v1/observability/"+c.target)
			if w.Code != http.StatusOK || w.Header().Get("Content-Type") != "application/json; charset=utf-8" || w.Header().Get("Cache-Control") != "no-store" || !json.Valid(w.Body.Bytes()) {
				t.Fatalf("status %d, %v: %s", w.Code, w.Header(), w.Body)
			}
			got := fake.query
			if c.want.Until == 0 { // now
				if got.Until < observe.TimeOf(before) || got.Until > observe.TimeOf(time.Now()) || got.Since != got.Until-observe.SpanDefault {
					t.Errorf("%s to %s", got.Since, got.Until)
				}
				got.Since, got.Until = 0, 0
			}
			want := c.want
			if want.Limit == 0 {
				want.Limit = observe.LimitDefault
			}
			if want.Order == "" {
				want.Order = observe.ByActivity
			}
			if want.Bucket == "" {
				got.Bucket = ""
			}
			if fake.what != c.what || got != want {
				t.Errorf("got  %s %+v\nwant %s %+v", fake.what, got, c.what, want)
			}
		})
	}
}

func TestObservability_AsksAboutRecords(t *testing.T) {
	id := stream.ID{Environment: "prod", Integration: "crm", Connection: "acme", Model: "Contact", Variant: "base"}
	for _, c := range []struct {
		target, what string
		want         observe.RecordQuery
	}{
		{"crm/acme/Contact/1/history", "history", observe.RecordQuery{Stream: id, ID: "1", Limit: 100}},
		{"crm/acme/Contact/1/history?limit=1000&before=17", "history", observe.RecordQuery{Stream: id, ID: "1", Limit: 1000, Before: 17}},
		{"crm/acme/Contact/1/history?diff=true&limit=100", "history", observe.RecordQuery{Stream: id, ID: "1", Limit: 100, Deltas: true}},
		{"crm/acme/Contact/1/history?diff=false", "history", observe.RecordQuery{Stream: id, ID: "1", Limit: 100}},
		{"crm/acme/Contact/1/diff", "diff", observe.RecordQuery{Stream: id, ID: "1", Limit: 100}},
		{"crm/acme/Contact/1/diff?from=3&to=9223372036854775807", "diff", observe.RecordQuery{Stream: id, ID: "1", Limit: 100, From: 3, To: 9223372036854775807}},
		{"crm/acme/Contact/1/as-of?at=2026-03-04T05:00:00.0009Z", "as-of", observe.RecordQuery{Stream: id, ID: "1", Limit: 100, At: day(5, 0)}},
		{"crm/acme/Contact/1/as-of?csn=8", "as-of", observe.RecordQuery{Stream: id, ID: "1", Limit: 100, CSN: 8}},
		{"crm/acme/Contact/1/as-of?environment=dev&variant=eu", "as-of", observe.RecordQuery{Stream: stream.ID{Environment: "dev", Integration: "crm", Connection: "acme", Model: "Contact", Variant: "eu"}, ID: "1", Limit: 100}},
	} {
		t.Run(c.target, func(t *testing.T) {
			fake := &asked{}
			if w := getV1(t, observing(t, fake), "/v1/records/"+c.target); w.Code != http.StatusOK {
				t.Fatalf("status %d: %s", w.Code, w.Body)
			}
			if fake.what != c.what || fake.record != c.want {
				t.Errorf("got  %s %+v\nwant %s %+v", fake.what, fake.record, c.what, c.want)
			}
		})
	}
}

// Whatever an id or a name may hold comes through the path as it is.
func TestObservability_PathsCarryAnyID(t *testing.T) {
	for _, text := range []string{"a/b", "a+b", "a b", "%", "%2F", "a%20b", "..", ".", "history", "ü?#&;=:@", "\n\t\\", "日本", "*", "{id}", ":id", strings.Repeat("/", 255)} {
		t.Run(text[:min(len(text), 10)], func(t *testing.T) {
			fake := &asked{}
			spellings := []string{url.PathEscape(text), string(stream.AppendEscaped(nil, text))}
			if strings.Trim(text, ".") == "" { // neither spelling survives everywhere, this one does in Go
				spellings = append(spellings, strings.ReplaceAll(text, ".", "%2E"))
			}
			for _, e := range spellings {
				w := getV1(t, observing(t, fake), "/v1/records/"+e+"/"+e+"/"+e+"/"+e+"/as-of")
				want := observe.RecordQuery{Stream: stream.ID{Environment: "prod", Integration: text, Connection: text, Model: text, Variant: "base"}, ID: text, Limit: 100}
				if w.Code != http.StatusOK || fake.record != want {
					t.Errorf("%s: status %d, %+v", e, w.Code, fake.record)
				}
			}
		})
	}
}

func TestObservability_MalformedInput(t *testing.T) {
	long := strings.Repeat("x", 256)
	const observability, records = "/v1/observability/", "/v1/records/crm/acme/Contact/1/"
	for _, c := range []struct{ target, issues, hint string }{
		{observability + "overview?limit=1", "unknown limit", "The parameters are environment, integration, connection, model, variant."},
		{observability + "overview?enviroment=dev", "unknown enviroment", "Did you mean environment?"},
		{observability + "overview?environment=", "invalid environment", "Names have 1 to 255 bytes of UTF-8; leave environment out if it does not matter."},
		{observability + "overview?connection=a&connection=b", "repeated connection", "Send connection once."},
		{observability + "overview?model=" + long, "too_long model", "Names have 1 to 255 bytes of UTF-8; leave model out if it does not matter."},
		{observability + "overview?variant=a%00", "invalid variant", ""},
		{observability + "overview?variant=a%ff", "invalid ", "Percent-encode names and values as UTF-8, and separate them with &."},
		{observability + "overview?variant=%zz", "invalid ", ""},
		{observability + "streams?order=size", "invalid order", "Send one of activity, records, stale, name."},
		{observability + "streams?limit=0", "out_of_range limit", "Send a whole number from 1 to 1000, or leave limit out for 100."},
		{observability + "streams?limit=1001", "out_of_range limit", ""},
		{observability + "streams?limit=-1", "invalid limit", ""},
		{observability + "streams?limit=1e2", "invalid limit", ""},
		{observability + "streams?limit=", "invalid limit", ""},
		{observability + "streams?limit=99999999999999999999", "out_of_range limit", ""},
		{observability + "streams?limit=x&order=y&model=", "invalid model, invalid limit, invalid order", ""},
		{observability + "streams?since=2026-03-04T05:00:00Z", "unknown since", ""},
		{observability + "changes?bucket=week", "invalid bucket", "Send one of minute, hour, day."},
		{observability + "changes?since=yesterday", "invalid since", "Send an RFC 3339 time with its zone, such as 2026-01-31T09:30:00Z."},
		{observability + "changes?until=2026-03-04T05:00:00+02:00", "invalid until", "A + in a URL means a space: write %2B, or a time in UTC with Z."},
		{observability + "changes?since=2026-03-04T05:00:00Z&until=2026-03-04T05:00:00Z", "conflict since", "Send a since before until; without until that is now."},
		{observability + "changes?since=2999-03-04T05:00:00Z", "conflict since", ""},
		{observability + "changes?bucket=minute&since=2026-03-01T00:00:00Z&until=2026-03-02T01:01:00Z", "out_of_range bucket", "Ask for at most 1500 buckets: wider ones, or less time."},
		{observability + "changes?bucket=minute&since=0001-01-01T00:00:00Z&until=9999-03-02T01:01:00Z", "out_of_range bucket", ""},
		{observability + "runs?status=ok", "invalid status", "Send one of running, completed, sweeping, held, failed, interrupted."},
		{observability + "health?environment=dev", "unknown environment", "This route takes no parameters."},
		{records + "history?limit=1001", "out_of_range limit", ""},
		{records + "history?diff=true&limit=101", "out_of_range limit", "Send a whole number from 1 to 100, or leave limit out for 100."},
		{records + "history?diff=yes", "invalid diff", "Send one of false, true."},
		{records + "history?before=0", "invalid before", ""},
		{records + "history?before=-1", "invalid before", ""},
		{records + "history?before=%2B1", "invalid before", ""},
		{records + "history?before=9223372036854775808", "invalid before", ""},
		{records + "history?at=2026-03-04T05:00:00Z", "unknown at", ""},
		{records + "diff?from=x", "invalid from", "Send the csn of a change, as the history of the record has it: a whole number from 1 on."},
		{records + "diff?from=2&to=2", "conflict from", "Send the csn of the older version as from."},
		{records + "diff?from=3&to=2", "conflict from", ""},
		{records + "as-of?csn=3&at=2026-03-04T05:00:00Z", "conflict csn", "Send either at or csn."},
		{records + "as-of?at=noon", "invalid at", ""},
		{records + "as-of?variant=", "invalid variant", ""},
		{"/v1/records/" + long + "/acme/Contact/1/as-of", "invalid integration", "Percent-encode each part of the path: /v1/records/INTEGRATION/CONNECTION/MODEL/ID/..."},
		{"/v1/records/crm/%00/Contact/1/as-of", "invalid connection", ""},
		{"/v1/records/crm/acme/%ff/1/as-of", "invalid model", ""},
		{"/v1/records/crm/acme/Contact/" + strings.Repeat("x", 513) + "/as-of", "invalid id", ""},
	} {
		t.Run(c.target[:min(len(c.target), 90)], func(t *testing.T) {
			fake := &asked{}
			e := wantError(t, getV1(t, observing(t, fake), c.target), http.StatusBadRequest, errcode.InvalidQuery, strings.TrimSpace(c.issues))
			if c.hint != "" && e.Hint != c.hint {
				t.Errorf("hint %q", e.Hint)
			}
			if fake.what != "" {
				t.Errorf("%s was asked", fake.what)
			}
		})
	}
	for _, target := range []string{"/v1/observability", "/v1/observability/", "/v1/records/crm/acme/Contact/history", "/v1/records/crm/acme/Contact/1", "/v1/records/a/b/C/1/2/as-of"} {
		wantError(t, getV1(t, observing(t, &asked{}), target), http.StatusNotFound, errcode.UnknownRoute, "")
	}
}

// Malformed input is told also where there are no projections: a client can be tested without them.
func TestObservability_Errors(t *testing.T) {
	for _, c := range []struct {
		name   string
		o      api.Observability
		target string
		status int
		code   errcode.Code
		issues string
		detail string
	}{
		{"not configured", nil, "/v1/observability/health", 503, errcode.ObservabilityOff, "", ""},
		{"not configured, a record", nil, "/v1/records/a/b/C/1/diff", 503, errcode.ObservabilityOff, "", ""},
		{"not configured, malformed", nil, "/v1/observability/health?x=1", 400, errcode.InvalidQuery, "unknown x", "Parameter x is not known."},
		{"off", &asked{away: errcode.New(errcode.ObservabilityOff, "npm is not installed")}, "/v1/observability/lag", 503, errcode.ObservabilityOff, "", "Npm is not installed."},
		{"away", &asked{away: errcode.New(errcode.ObservabilityAway, "it is starting")}, "/v1/observability/lag", 503, errcode.ObservabilityAway, "", "It is starting."},
		{"away when asked", &asked{err: fmt.Errorf("asking: %w", &errcode.Error{Code: errcode.ObservabilityAway, Err: errors.New("dial 10.0.0.7: refused")})}, "/v1/observability/lag", 503, errcode.ObservabilityAway, "", ""},
		{"too much", &asked{err: errcode.New(errcode.ObservabilityTooMuch, "")}, "/v1/observability/hot-records", 422, errcode.ObservabilityTooMuch, "", ""},
		{"unknown record", &asked{err: errcode.New(errcode.UnknownRecord, "it is record %q", "1")}, "/v1/records/a/b/C/1/history", 404, errcode.UnknownRecord, "", `It is record "1".`},
		{"unknown version", &asked{err: errcode.New(errcode.UnknownVersion, "")}, "/v1/records/a/b/C/1/diff?to=3", 404, errcode.UnknownVersion, "", ""},
		{"payload gone", &asked{err: errcode.New(errcode.PayloadGone, "")}, "/v1/records/a/b/C/1/as-of", 410, errcode.PayloadGone, "", ""},
		{"history expired", &asked{err: errcode.New(errcode.HistoryExpired, "")}, "/v1/records/a/b/C/1/as-of", 410, errcode.HistoryExpired, "", ""},
		{"no broker", &asked{err: errcode.New(errcode.Unreachable, "")}, "/v1/records/a/b/C/1/as-of", 503, errcode.Unreachable, "", ""},
		{"anything", &asked{err: errors.New("secret")}, "/v1/observability/overview", 500, errcode.ServerError, "", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := getV1(t, observing(t, c.o), c.target)
			if e := wantError(t, w, c.status, c.code, c.issues); e.Detail != c.detail {
				t.Errorf("detail %q, want %q", e.Detail, c.detail)
			}
			if strings.Contains(w.Body.String(), "secret") || strings.Contains(w.Body.String(), "10.0.0.7") {
				t.Errorf("it tells too much: %s", w.Body)
			}
			if (w.Header().Get("Retry-After") != "") != (c.status == 503) {
				t.Errorf("Retry-After %q", w.Header().Get("Retry-After"))
			}
		})
	}
}

func TestObservability_PayloadsLeaveAsTheyCame(t *testing.T) {
	const record = `{"big":12345678901234567890.10,"html":"<a href='x'>&","esc":"\u00e9\/"}`
	w := getV1(t, observing(t, &asked{asOf: json.RawMessage(record)}), "/v1/records/a/b/C/1/as-of")
	if !strings.Contains(w.Body.String(), `"record":`+record+"}") {
		t.Errorf("%s", w.Body)
	}
}

// Questions wait for each other in bounded number, and for nobody who has gone.
func TestObservability_BoundsQuestions(t *testing.T) {
	fake := &asked{block: make(chan struct{})}
	h := observing(t, fake)
	done := make(chan int, 20)
	for range 20 {
		go func() { done <- getV1(t, h, "/v1/observability/health").Code }()
	}
	eventually(t, "eight questions are under way", func() bool { return fake.under.Load() == 8 })
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	req := httptest.NewRequest(http.MethodGet, "/v1/observability/health", nil).WithContext(ctx)
	w := httptest.NewRecorder()
	h.ServeHTTP(w, req)
	if w.Code != 499 {
		t.Errorf("status %d of a client that has gone", w.Code)
	}
	if w := getV1(t, h, "/livez"); w.Code != http.StatusOK {
		t.Errorf("status %d beside waiting questions", w.Code)
	}
	close(fake.block)
	for range 20 {
		if code := <-done; code != http.StatusOK {
			t.Errorf("status %d", code)
		}
	}
	if fake.most.Load() != 8 {
		t.Errorf("%d questions at once", fake.most.Load())
	}
}

// Every member of an answer has a name of its own, in lower case.
func TestObservability_ShapesOfAnswers(t *testing.T) {
	var walk func(path string, typ reflect.Type)
	seen := map[reflect.Type]bool{}
	walk = func(path string, typ reflect.Type) {
		for typ.Kind() == reflect.Pointer || typ.Kind() == reflect.Slice {
			typ = typ.Elem()
		}
		if typ.Kind() != reflect.Struct || seen[typ] {
			return
		}
		seen[typ] = true
		for i := range typ.NumField() {
			f := typ.Field(i)
			name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
			if !f.Anonymous && (name == "" || name != strings.ToLower(name) || strings.Contains(name, "-")) {
				t.Errorf("%s.%s is %q as JSON", path, f.Name, name)
			}
			walk(path+"."+f.Name, f.Type)
		}
	}
	ask := reflect.TypeFor[observe.Ask]()
	for i := range ask.NumMethod() {
		walk(ask.Method(i).Name, ask.Method(i).Type.Out(0))
	}
	if len(seen) < 20 {
		t.Errorf("only %d types", len(seen))
	}
}

// reported is an Observability that also says how the projections are.
type reported struct {
	asked
	p Projections
}

type Projections = api.Projections

func (r *reported) Projections() api.Projections { return r.p }

// How far the projections are is told also while nobody can be asked.
func TestProjections_AreReportedWhileClickHouseIsAway(t *testing.T) {
	seconds := int64(1234)
	r := &reported{asked: asked{away: errcode.New(errcode.ObservabilityAway, "")}, p: Projections{
		State: "away", Reason: "dial: refused", Behind: 7, SecondsToLoss: &seconds, Partitions: []api.ProjectionPartition{{Partition: 3, CSN: 9, Behind: 7}},
	}}
	for _, c := range []struct {
		o    api.Observability
		want string
	}{
		{r, `{"state":"away","reason":"dial: refused","behind_records":7,"behind_ms":0,"seconds_to_data_loss":1234,"partitions":[{"partition":3,"csn":9,"behind_records":7,"behind_ms":0}]}`},
		{nil, `{"state":"off","behind_records":0,"behind_ms":0,"seconds_to_data_loss":null,"partitions":[]}`},
	} {
		w := httptest.NewRecorder()
		observing(t, c.o).ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/v1/observability/projections", nil))
		if w.Code != http.StatusOK || strings.TrimSpace(w.Body.String()) != c.want {
			t.Errorf("%d %s", w.Code, w.Body)
		}
	}
}
