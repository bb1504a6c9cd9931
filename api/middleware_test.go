package api

import (
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"github.com/gin-gonic/gin"
	"github.com/prometheus/client_golang/prometheus"
)

func internalServer(t *testing.T) *Server {
	t.Helper()
	cfg := DefaultConfig()
	cfg.Lineage = "test"
	reg := prometheus.NewRegistry()
	type view struct{ View } // never called
	s, err := New(cfg, Deps{View: view{}, Logger: slog.New(slog.NewTextHandler(io.Discard, nil)), Metrics: NewMetrics(reg), Gatherer: reg})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// What goes wrong after the first byte cuts the connection: half an answer must not look like a whole one.
func TestAnswer_FailureAfterTheFirstByteCutsTheConnection(t *testing.T) {
	for name, end := range map[string]func() error{
		"error": func() error { return errors.New("too late") },
		"panic": func() error { panic("too late") },
		"abort": func() error { panic(http.ErrAbortHandler) },
	} {
		t.Run(name, func(t *testing.T) {
			s := internalServer(t)
			e := gin.New()
			e.GET("/", s.chain("/", func(string) dialect { return dialectRoot }, func(c *gin.Context) error {
				c.Status(http.StatusOK)
				if _, err := c.Writer.WriteString("half an"); err != nil {
					return err
				}
				c.Writer.Flush()
				return end()
			})...)
			srv := httptest.NewServer(e)
			defer srv.Close()
			resp, err := srv.Client().Get(srv.URL)
			if err != nil {
				t.Fatal(err)
			}
			defer resp.Body.Close()
			if body, err := io.ReadAll(resp.Body); err == nil {
				t.Errorf("the client read %q and no error", body)
			}
		})
	}
}

// The table is what the engine serves, no more and no less.
func TestRoutes_AreTheTable(t *testing.T) {
	var got []string
	ginPath := strings.NewReplacer(":cursor", "{cursor}", ":integration", "{integration}", ":connection", "{connection}", ":model", "{model}", ":id", "{id}")
	for _, r := range internalServer(t).engine.Routes() {
		line := r.Method + " " + ginPath.Replace(r.Path)
		if strings.HasSuffix(line, "/") { // the other spelling of a route with slash
			line = strings.TrimSuffix(line, "/")
			if !slices.ContainsFunc(routes, func(r route) bool { return r.slash && r.method+" "+r.path == line }) {
				t.Errorf("%s/ is served", line)
			}
			continue
		}
		got = append(got, line)
	}
	want := Routes()
	slices.Sort(got)
	slices.Sort(want)
	if !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}
