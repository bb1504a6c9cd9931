package api_test

import (
	"io"
	"log/slog"
	"os"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/tidemark-dev/tidemark/api"
	"github.com/tidemark-dev/tidemark/api/apitest"
	"github.com/tidemark-dev/tidemark/schemas/errcode"
)

func TestConfig_Validate(t *testing.T) {
	valid := api.DefaultConfig()
	valid.Lineage = "x"
	if err := valid.Validate(); err != nil {
		t.Fatalf("the defaults: %v", err)
	}
	// Every setting, with a value that must be refused. Booleans have none.
	bad := map[string]any{
		"environment": "", "lineage": "", "changes_topic": "", "page_bytes_max": 1023, "scan_extra_max": -1, "readers_max": 0,
		"request_timeout": time.Duration(0), "read_header_timeout": time.Duration(-1), "read_timeout": time.Duration(0), "write_timeout": valid.RequestTimeout,
		"idle_timeout": time.Duration(0), "shutdown_timeout": time.Duration(0), "header_bytes_max": 100, "body_bytes_max": int64(-1),
		"compress_bytes_min": -1,
	}
	fields := reflect.TypeFor[api.Config]()
	for i := range fields.NumField() {
		field := fields.Field(i)
		name := field.Tag.Get("yaml")
		if name == "" || strings.ToLower(name) != name || field.Tag.Get("help") == "" {
			t.Errorf("%s has no name or no help", field.Name)
		}
		if field.Type.Kind() == reflect.Bool {
			continue
		}
		value, ok := bad[name]
		if !ok {
			t.Errorf("%s: no test of a bad value", name)
			continue
		}
		c := valid
		reflect.ValueOf(&c).Elem().Field(i).Set(reflect.ValueOf(value))
		if err := c.Validate(); err == nil || !strings.Contains(err.Error(), name+":") {
			t.Errorf("%s = %v: %v", name, value, err)
		}
	}
	// All problems at once.
	err := api.Config{}.Validate()
	for name := range bad {
		if name != "scan_extra_max" && name != "body_bytes_max" && name != "compress_bytes_min" && !strings.Contains(err.Error(), name+":") {
			t.Errorf("the empty settings: %s is not named", name)
		}
	}
}

func TestNew_RefusesWhatCannotWork(t *testing.T) {
	cfg := api.DefaultConfig()
	cfg.Lineage = "x"
	reg := prometheus.NewRegistry()
	deps := api.Deps{View: apitest.NewMemory(), Logger: slog.New(slog.NewTextHandler(io.Discard, nil)), Metrics: api.NewMetrics(reg), Gatherer: reg}
	if _, err := api.New(cfg, deps); err != nil {
		t.Fatal(err)
	}
	if _, err := api.New(api.DefaultConfig(), deps); err == nil {
		t.Error("no lineage: no error")
	}
	for i := range reflect.TypeFor[api.Deps]().NumField() {
		if reflect.TypeFor[api.Deps]().Field(i).Name == "Observability" { // nil: there are no projections
			continue
		}
		d := deps
		reflect.ValueOf(&d).Elem().Field(i).SetZero()
		if _, err := api.New(cfg, d); err == nil {
			t.Errorf("no %s: no error", reflect.TypeFor[api.Deps]().Field(i).Name)
		}
	}
}

// The page about the API names every route, parameter, setting and code.
func TestReadme(t *testing.T) {
	text, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	var words []string
	words = append(words, api.Routes()...)
	words = append(words, api.DocumentedWords()...)
	for _, code := range []errcode.Code{
		errcode.InvalidQuery, errcode.InvalidHeaders, errcode.InvalidBody, errcode.UnknownConnection, errcode.UnknownRoute, errcode.MethodNotAllowed,
		errcode.CursorMalformed, errcode.CursorForeign, errcode.CursorAhead, errcode.CursorExpired, errcode.NotReady, errcode.PartitionHalted, errcode.ServerError,
		errcode.ObservabilityOff, errcode.ObservabilityAway, errcode.ObservabilityTooMuch, errcode.UnknownRecord, errcode.UnknownVersion,
		errcode.PayloadGone, errcode.HistoryExpired,
	} {
		words = append(words, string(code))
	}
	fields := reflect.TypeFor[api.Config]()
	for i := range fields.NumField() {
		words = append(words, fields.Field(i).Tag.Get("yaml"))
	}
	for _, w := range words {
		if !strings.Contains(string(text), "`"+w+"`") {
			t.Errorf("README.md does not name `%s`", w)
		}
	}
}
