package cli

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"net/url"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/tidemark-dev/tidemark/deploy/stack"
	"github.com/tidemark-dev/tidemark/projections/observe"
	"github.com/tidemark-dev/tidemark/schemas/errcode"
	"github.com/tidemark-dev/tidemark/schemas/stream"
)

// apiFault reads an error of the API, in the dialect of the root routes or that of /v1; nil if the body is something else.
func apiFault(body []byte) error {
	type inner struct {
		Code    string `json:"code"`
		Message string `json:"message"`
		Hint    string `json:"hint"`
	}
	var fault struct {
		Error  inner  `json:"error"`
		Title  string `json:"title"`
		Detail string `json:"detail"`
		inner
	}
	if json.Unmarshal(body, &fault) != nil {
		return nil
	}
	f := fault.Error
	if f.Code == "" {
		f = fault.inner
		f.Message = strings.TrimSpace(fault.Title + " " + fault.Detail)
	}
	if f.Code == "" {
		return nil
	}
	e := &commandError{exit: exitFailure, code: f.Code, message: f.Message, hint: f.Hint}
	switch errcode.Code(e.code) {
	case errcode.NotReady, errcode.ObservabilityOff, errcode.ObservabilityAway, errcode.Unreachable:
		e.exit = exitUnreachable
	case errcode.InvalidQuery, errcode.InvalidHeaders, errcode.CursorMalformed, errcode.CursorForeign:
		e.exit = exitUsage
	}
	return e
}

// ask gets an answer of a route under /v1. Parameters without a value are left out.
func (c *apiClient) ask(ctx context.Context, path string, q url.Values, into any) error {
	for name, values := range q {
		if len(values) == 0 || values[0] == "" {
			delete(q, name)
		}
	}
	if len(q) > 0 {
		path += "?" + q.Encode()
	}
	body, err := c.get(ctx, path, nil)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(body, into); err != nil {
		return fmt.Errorf("reading the answer of %s: %w", c.base, err)
	}
	return nil
}

// observeFlags say where to ask, and about which streams. What is not given does not matter to the server.
type observeFlags struct {
	http   string
	stream streamFlags
}

func (o *observeFlags) register(cmd *cobra.Command) {
	f := cmd.Flags()
	f.StringVar(&o.http, "http", stack.HTTPAddrDefault, "`address` of the API: host:port or a URL")
	f.StringVar(&o.stream.environment, "environment", "", "environment of the streams (default: the server's)")
}

func (o *observeFlags) query() url.Values {
	s := &o.stream
	return url.Values{"environment": {s.environment}, "integration": {s.integration}, "connection": {s.connection}, "model": {s.model}, "variant": {s.variant}}
}

// shortStream names a stream for people: without the environment, which all have in common, and without the base variant.
func shortStream(id stream.ID) string {
	parts := []string{id.Integration, id.Connection, id.Model}
	if id.Variant != stream.VariantBase {
		parts = append(parts, id.Variant)
	}
	return printable(strings.Join(parts, "/"), 60)
}

// brief is a duration in its largest unit: 840 ms, 2.1 s, 17 min, 3.2 h, 12 d.
func brief(d time.Duration) string {
	for _, u := range []struct {
		unit time.Duration
		name string
	}{{24 * time.Hour, "d"}, {time.Hour, "h"}, {time.Minute, "min"}, {time.Second, "s"}} {
		if d >= u.unit {
			v := float64(d) / float64(u.unit)
			if v < 9.95 {
				return fmt.Sprintf("%.1f %s", v, u.name)
			}
			return fmt.Sprintf("%.0f %s", v, u.name)
		}
	}
	return fmt.Sprintf("%d ms", d.Milliseconds())
}

// ago is how long before now a time was.
func ago(now, t observe.Time) string {
	if t == 0 {
		return ""
	}
	return brief(max(time.Duration(now-t)*time.Millisecond, 0)) + " ago"
}

// milliseconds is a duration of an answer.
func milliseconds(ms float64) time.Duration { return time.Duration(ms * float64(time.Millisecond)) }

var bars = []rune("▁▂▃▄▅▆▇█")

// sparkline draws values as bars, the highest as a full one. Nothing is a blank, so that a little can be told from it.
func sparkline(values []uint64) string {
	var highest uint64
	for _, v := range values {
		highest = max(highest, v)
	}
	line := make([]rune, len(values))
	for i, v := range values {
		line[i] = ' '
		if v > 0 {
			line[i] = bars[(v*uint64(len(bars))-1)/cmp.Or(highest, 1)]
		}
	}
	return string(line)
}
