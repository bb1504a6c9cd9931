package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/tidemark-dev/tidemark/deploy/stack"
	"github.com/tidemark-dev/tidemark/schemas/stream"
)

func (a *app) recordsCommand() *cobra.Command {
	return group("records", "Read records", "Read the latest version of records, over the HTTP API.", a.recordsGetCommand())
}

type recordsGet struct {
	stream        streamFlags
	http          string
	limit         int
	cursor        string
	filter        string
	modifiedAfter string
	all           bool
}

func (a *app) recordsGetCommand() *cobra.Command {
	var g recordsGet
	cmd := &cobra.Command{
		Use:   "get [ID...]",
		Short: "Read records by id, or page by page",
		Long: "Read the latest version of records over the HTTP API: those with the ids given, or a page in the order in which they\n" +
			"changed last. Each line is one record; with --json the record as the API answers it. Where the page ends is said on\n" +
			"standard error, and --cursor goes on from there: now, or any time later with what has changed since.",
		Example: "  tidemark records get --connection acme --model Brand --limit 10\n" +
			"  tidemark records get --connection acme --model Brand Adobe \"Stack Overflow\"\n" +
			"  tidemark records get --connection acme --model Brand --all --json | jq -r .id",
		RunE: func(cmd *cobra.Command, args []string) error { return a.getRecords(cmd.Context(), &g, args) },
	}
	g.stream.environment = "dev" // any name: which environment is read is the server's setting
	g.stream.registerConnection(cmd)
	f := cmd.Flags()
	f.StringVar(&g.http, "http", stack.HTTPAddrDefault, "`address` of the API: host:port or a URL")
	f.IntVar(&g.limit, "limit", 100, "records of a page")
	f.StringVar(&g.cursor, "cursor", "", "go on after this `cursor`")
	f.StringVar(&g.filter, "filter", "", "only these latest actions: added, updated, deleted, separated by commas")
	f.StringVar(&g.modifiedAfter, "modified-after", "", "only records that changed at or after this RFC 3339 `time`")
	f.BoolVar(&g.all, "all", false, "read page after page until nothing is left")
	return cmd
}

func (a *app) getRecords(ctx context.Context, g *recordsGet, ids []string) error {
	id, err := g.stream.id()
	if err != nil {
		return err
	}
	c, err := newAPIClient(g.http)
	if err != nil {
		return err
	}
	q := url.Values{"model": {id.Model}, "variant": {id.Variant}, "limit": {strconv.Itoa(g.limit)}}
	for name, value := range map[string]string{"cursor": g.cursor, "filter": g.filter, "modified_after": g.modifiedAfter} {
		if value != "" {
			q.Set(name, value)
		}
	}
	if len(ids) > 0 {
		q["ids"] = ids
	}
	read, last := 0, g.cursor
	for {
		page, err := c.records(ctx, id, q)
		if err != nil {
			return err
		}
		for _, raw := range page.Records {
			r, err := parseRecord(raw)
			if err != nil {
				return err
			}
			if err := a.printRecord(r); err != nil {
				return err
			}
			last = r.Meta.Cursor
		}
		read += len(page.Records)
		if page.NextCursor != nil {
			last = *page.NextCursor
		}
		if page.NextCursor == nil || !g.all {
			a.sayEnd(read, page.NextCursor != nil, last, len(ids))
			return nil
		}
		q.Set("cursor", last)
	}
}

// sayEnd tells a person how to go on.
func (a *app) sayEnd(read int, more bool, last string, ids int) {
	switch {
	case a.json && !a.errTerminal: // a program has the cursor of each record
	case ids > 0:
		fmt.Fprintf(a.err, "%s of %d\n", plural(read, "record", "records"), ids)
	case more:
		fmt.Fprintf(a.err, "%s; there are more: --cursor %s\n", plural(read, "record", "records"), last)
	case last != "":
		fmt.Fprintf(a.err, "%s; that is all for now, and what changes next is after --cursor %s\n", plural(read, "record", "records"), last)
	default:
		fmt.Fprintln(a.err, "no records")
	}
}

// record is one record of a page.
type record struct {
	ID   string `json:"id"`
	Meta struct {
		LastAction     string  `json:"last_action"`
		LastModifiedAt string  `json:"last_modified_at"`
		Cursor         string  `json:"cursor"`
		PrunedAt       *string `json:"pruned_at"`
	} `json:"_nango_metadata"`
	text []byte // one line
}

func parseRecord(raw json.RawMessage) (*record, error) {
	r := new(record)
	if err := json.Unmarshal(raw, r); err != nil {
		return nil, fmt.Errorf("reading a record of the answer: %w", err)
	}
	var line bytes.Buffer
	if err := json.Compact(&line, raw); err != nil {
		return nil, fmt.Errorf("reading a record of the answer: %w", err)
	}
	r.text = line.Bytes()
	return r, nil
}

// metadataMember is what the server puts behind the members of the payload; it is always last.
const metadataMember = `,"_nango_metadata":`

func (a *app) printRecord(r *record) error {
	if a.json {
		_, err := a.out.Write(append(r.text, '\n'))
		return err
	}
	payload := string(r.text)
	if i := strings.LastIndex(payload, metadataMember); i >= 0 {
		payload = payload[:i] + "}"
	}
	payload = printable(payload, len(payload))
	if r.Meta.PrunedAt != nil {
		payload = a.paint(dim, "pruned")
	}
	_, err := fmt.Fprintf(a.out, "%s  %s  %s  %s\n", r.Meta.LastModifiedAt, a.action(r.Meta.LastAction), printable(r.ID, 60), payload)
	return err
}

// action is the name of an action, coloured, and as wide as the longest.
func (a *app) action(name string) string {
	color := map[string]string{"ADDED": green, "UPDATED": yellow, "DELETED": red}[name]
	if color == "" {
		color = dim
	}
	return a.paint(color, fmt.Sprintf("%-7s", name))
}

// apiClient reads the HTTP API.
type apiClient struct {
	base string
	http *http.Client
}

func newAPIClient(address string) (*apiClient, error) {
	if !strings.Contains(address, "://") {
		if _, _, err := net.SplitHostPort(address); err != nil {
			return nil, usagef("For example: --http 127.0.0.1:8321", "--http is %q: %v", address, err)
		}
		address = "http://" + address
	}
	u, err := url.Parse(address)
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		return nil, usagef("For example: --http 127.0.0.1:8321", "--http is %q, which is no address", address)
	}
	return &apiClient{base: strings.TrimRight(u.String(), "/"), http: &http.Client{Timeout: time.Minute}}, nil
}

// get asks for a path; anything but 200 is an error as the server explains it.
func (c *apiClient) get(ctx context.Context, path string, header http.Header) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, c.base+path, nil)
	if err != nil {
		return nil, fmt.Errorf("making the request: %w", err)
	}
	req.Header = header
	resp, err := c.http.Do(req)
	if err != nil {
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		return nil, &commandError{
			exit: exitUnreachable, code: codeAPIUnreachable, message: fmt.Sprintf("no server answers at %s: %v", c.base, errors.Unwrap(err)),
			hint: "Start one with tidemark up, or name another with --http.", err: err,
		}
	}
	defer resp.Body.Close()
	const answerMax = 256 << 20 // a page has at most 8 MiB unless one record is larger
	body, err := io.ReadAll(io.LimitReader(resp.Body, answerMax))
	if err != nil {
		return nil, fmt.Errorf("reading the answer of %s: %w", c.base, err)
	}
	if resp.StatusCode == http.StatusOK {
		return body, nil
	}
	if err := apiFault(body); err != nil {
		return nil, err
	}
	return nil, fmt.Errorf("%s answers %s", c.base, resp.Status)
}

// codeAPIUnreachable is for the server what errcode.Unreachable is for the broker.
const codeAPIUnreachable = "api.unreachable"

type recordsPage struct {
	Records    []json.RawMessage `json:"records"`
	NextCursor *string           `json:"next_cursor"`
}

func (c *apiClient) records(ctx context.Context, id stream.ID, q url.Values) (*recordsPage, error) {
	body, err := c.get(ctx, "/records?"+q.Encode(), http.Header{"Connection-Id": {id.Connection}, "Provider-Config-Key": {id.Integration}})
	if err != nil {
		return nil, err
	}
	page := new(recordsPage)
	if err := json.Unmarshal(body, page); err != nil {
		return nil, fmt.Errorf("reading the answer of %s: %w", c.base, err)
	}
	return page, nil
}
