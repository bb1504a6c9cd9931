package api

import (
	"net/http"
	"strings"

	"github.com/gin-gonic/gin"

	"github.com/tidemark-dev/tidemark/projections/observe"
	"github.com/tidemark-dev/tidemark/schemas/errcode"
)

// route is one line of the API. handle answers, or returns an error and has written nothing.
type route struct {
	method  string
	path    string // as in OpenAPI; also the label of its metrics
	slash   bool   // a trailing slash is the same route: a client of the reference product sends one
	dialect dialect
	handle  func(*Server, *gin.Context) error
}

var routes = []route{
	{http.MethodGet, "/records", true, dialectRoot, (*Server).records},
	{http.MethodGet, "/v1/cursors/{cursor}", false, dialectV1, (*Server).showCursor},
	{http.MethodGet, "/v1/observability/overview", false, dialectV1, question(observe.Ask.Overview, streamParameters...)},
	{http.MethodGet, "/v1/observability/streams", false, dialectV1, question(observe.Ask.Streams, with(streamParameters, "limit", "order")...)},
	{http.MethodGet, "/v1/observability/changes", false, dialectV1, question(observe.Ask.Changes, with(spanParameters, "bucket")...)},
	{http.MethodGet, "/v1/observability/runs", false, dialectV1, question(observe.Ask.Runs, with(listParameters, "status")...)},
	{http.MethodGet, "/v1/observability/fields", false, dialectV1, question(observe.Ask.FieldChanges, listParameters...)},
	{http.MethodGet, "/v1/observability/spurious", false, dialectV1, question(observe.Ask.Spurious, listParameters...)},
	{http.MethodGet, "/v1/observability/hot-records", false, dialectV1, question(observe.Ask.HotRecords, listParameters...)},
	{http.MethodGet, "/v1/observability/hot-streams", false, dialectV1, question(observe.Ask.HotStreams, with(streamParameters, "limit")...)},
	{http.MethodGet, "/v1/observability/payload-sizes", false, dialectV1, question(observe.Ask.PayloadSizes, listParameters...)},
	{http.MethodGet, "/v1/observability/lag", false, dialectV1, question(observe.Ask.Lag, spanParameters...)},
	{http.MethodGet, "/v1/observability/health", false, dialectV1, question(observe.Ask.Health)},
	{http.MethodGet, "/v1/observability/projections", false, dialectV1, (*Server).projections},
	{http.MethodGet, "/v1/observability/timeline", false, dialectV1, question(observe.Ask.Timeline, listParameters...)},
	{http.MethodGet, "/v1/records/{integration}/{connection}/{model}/{id}/history", false, dialectV1, recordQuestion(observe.Ask.History, "limit", "before", "diff")},
	{http.MethodGet, "/v1/records/{integration}/{connection}/{model}/{id}/diff", false, dialectV1, recordQuestion(observe.Ask.Diff, "from", "to")},
	{http.MethodGet, "/v1/records/{integration}/{connection}/{model}/{id}/as-of", false, dialectV1, recordQuestion(observe.Ask.AsOf, "at", "csn")},
	{http.MethodGet, "/livez", false, dialectRoot, (*Server).livez},
	{http.MethodGet, "/readyz", false, dialectRoot, (*Server).readyz},
	{http.MethodGet, "/metrics", false, dialectRoot, (*Server).exposition},
}

// Routes lists method and path of every route, as in OpenAPI.
func Routes() []string {
	out := make([]string, len(routes))
	for i, r := range routes {
		out[i] = r.method + " " + r.path
	}
	return out
}

// unmatched is the label of requests that met no route, and of methods that a route does not take.
const unmatched = "unmatched"

func (s *Server) register(e *gin.Engine) {
	ginPath := strings.NewReplacer("{", ":", "}", "")
	for _, r := range routes {
		chain := s.chain(r.path, func(string) dialect { return r.dialect }, func(c *gin.Context) error { return r.handle(s, c) })
		e.Handle(r.method, ginPath.Replace(r.path), chain...)
		if r.slash {
			e.Handle(r.method, ginPath.Replace(r.path)+"/", chain...)
		}
	}
	byPath := func(path string) dialect {
		if strings.HasPrefix(path, "/v1/") {
			return dialectV1
		}
		return dialectRoot
	}
	e.NoRoute(s.chain(unmatched, byPath, func(*gin.Context) error { return errcode.New(errcode.UnknownRoute, "") })...)
	e.NoMethod(s.chain(unmatched, byPath, func(*gin.Context) error { return errcode.New(errcode.MethodNotAllowed, "") })...)
}
