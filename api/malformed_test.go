package api_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/tidemark-dev/tidemark/api/apitest"
	"github.com/tidemark-dev/tidemark/schemas/cursor"
	"github.com/tidemark-dev/tidemark/schemas/errcode"
)

// rootError is an error of the root routes.
type rootError struct {
	Error struct {
		Code      errcode.Code `json:"code"`
		Message   string       `json:"message"`
		Hint      string       `json:"hint"`
		RequestID string       `json:"request_id"`
		Errors    []struct {
			Code    string   `json:"code"`
			Message string   `json:"message"`
			Path    []string `json:"path"`
		} `json:"errors"`
	} `json:"error"`
}

// issues spells the inner errors as "code name".
func (e rootError) issues() []string {
	var out []string
	for _, i := range e.Error.Errors {
		out = append(out, strings.TrimSpace(i.Code+" "+strings.Join(i.Path, ".")))
	}
	return out
}

const (
	hintModel   = "Names of models begin with a capital letter A-Z and go on with at least one letter, digit, _ or -; 255 bytes at most."
	hintVariant = "Names of variants hold letters, digits, _ and -, 255 bytes at most; leave variant out for base."
	hintLimit   = "Send a whole number from 1 to 10000, or leave limit out for 100."
	hintFilter  = "Send a comma list of added, updated and deleted, or leave filter out for all."
	hintTime    = "Send an RFC 3339 time with its zone, such as 2026-01-31T09:30:00Z."
	hintPlus    = "A + in a URL means a space: write %2B, or a time in UTC with Z."
	hintIDs     = "Repeat ids for each record, up to 100 times; an id has 1 to 512 bytes."
	hintConn    = "Send header Connection-Id with the id of the connection: 1 to 255 bytes of UTF-8."
	hintInteg   = "Send header Provider-Config-Key with the key of the integration: 1 to 255 bytes of UTF-8."
	hintNames   = "The parameters are model, variant, cursor, limit, filter, modified_after, delta, ids."
	hintEncode  = "Percent-encode names and values as UTF-8, and separate them with &."
	hintCursor  = "Send a cursor exactly as it was returned, or none to start from the beginning."
)

func TestRecords_MalformedInput(t *testing.T) {
	view := apitest.NewMemory()
	if err := view.Apply(benchStream, apitest.Change{ID: "a", Payload: []byte(`{}`)}); err != nil {
		t.Fatal(err)
	}
	h := newServer(t, view, nil).Handler()
	tag := cursor.TagOf(benchStream.Key(), "test")
	good := cursor.Cursor{CSN: 1, Tag: tag}.String()
	const invalid, headers = errcode.InvalidQuery, errcode.InvalidHeaders
	long := strings.Repeat("x", 256)
	for _, c := range []struct {
		name, query string
		code        errcode.Code
		hint        string
		issues      string // "code name, code name"
		header      func(http.Header)
	}{
		{"no model", "", invalid, "Send model=NAME: the model whose records you want.", "required model", nil},
		{"empty model", "model=", invalid, hintModel, "invalid model", nil},
		{"model in lower case", "model=contact", invalid, hintModel, "invalid model", nil},
		{"model of one letter", "model=C", invalid, hintModel, "invalid model", nil},
		{"model with a space", "model=A%20b", invalid, hintModel, "invalid model", nil},
		{"model with its variant", "model=Contact::eu", invalid, hintModel, "invalid model", nil},
		{"model with a NUL", "model=Ab%00", invalid, hintModel, "invalid model", nil},
		{"model with a line break", "model=Ab%0A", invalid, hintModel, "invalid model", nil},
		{"long model", "model=A" + long, invalid, hintModel, "too_long model", nil},
		{"model twice", "model=Contact&model=Contact", invalid, "Send model once.", "repeated model", nil},
		{"empty variant", "model=Contact&variant=", invalid, hintVariant, "invalid variant", nil},
		{"variant with a slash", "model=Contact&variant=a/b", invalid, hintVariant, "invalid variant", nil},
		{"long variant", "model=Contact&variant=" + long, invalid, hintVariant, "too_long variant", nil},
		{"variant twice", "model=Contact&variant=a&variant=b", invalid, "Send variant once.", "repeated variant", nil},
		{"empty limit", "model=Contact&limit=", invalid, hintLimit, "invalid limit", nil},
		{"limit of 0", "model=Contact&limit=0", invalid, hintLimit, "out_of_range limit", nil},
		{"limit below 0", "model=Contact&limit=-1", invalid, hintLimit, "invalid limit", nil},
		{"limit above its bound", "model=Contact&limit=10001", invalid, hintLimit, "out_of_range limit", nil},
		{"limit above 64 bits", "model=Contact&limit=99999999999999999999", invalid, hintLimit, "out_of_range limit", nil},
		{"limit of 1.5", "model=Contact&limit=1.5", invalid, hintLimit, "invalid limit", nil},
		{"limit of 1e3", "model=Contact&limit=1e3", invalid, hintLimit, "invalid limit", nil},
		{"limit with a plus", "model=Contact&limit=%2B5", invalid, hintLimit, "invalid limit", nil},
		{"limit in other digits", "model=Contact&limit=%D9%A5", invalid, hintLimit, "invalid limit", nil},
		{"limit twice", "model=Contact&limit=1&limit=1", invalid, "Send limit once.", "repeated limit", nil},
		{"empty filter", "model=Contact&filter=", invalid, hintFilter, "invalid filter", nil},
		{"unknown action", "model=Contact&filter=added,removed", invalid, hintFilter, "invalid filter", nil},
		{"trailing comma", "model=Contact&filter=added,", invalid, hintFilter, "invalid filter", nil},
		{"filter with a space", "model=Contact&filter=added,%20deleted", invalid, hintFilter, "invalid filter", nil},
		{"filter twice", "model=Contact&filter=added&filter=deleted", invalid, "Send filter once.", "repeated filter", nil},
		{"empty time", "model=Contact&modified_after=", invalid, hintTime, "invalid modified_after", nil},
		{"date alone", "model=Contact&modified_after=2026-01-01", invalid, hintTime, "invalid modified_after", nil},
		{"time without zone", "model=Contact&modified_after=2026-01-01T00:00:00", invalid, hintTime, "invalid modified_after", nil},
		{"time as a number", "model=Contact&modified_after=1767225600000", invalid, hintTime, "invalid modified_after", nil},
		{"30 February", "model=Contact&modified_after=2026-02-30T00:00:00Z", invalid, hintTime, "invalid modified_after", nil},
		{"plus not encoded", "model=Contact&modified_after=2026-01-01T00:00:00+02:00", invalid, hintPlus, "invalid modified_after", nil},
		{"time twice", "model=Contact&modified_after=2026-01-01T00:00:00Z&modified_after=2026-01-01T00:00:00Z", invalid, "Send modified_after once.", "repeated modified_after", nil},
		{"bad time under its old name", "model=Contact&delta=yesterday", invalid, hintTime, "invalid delta", nil},
		{"both names of the time", "model=Contact&delta=2026-01-01T00:00:00Z&modified_after=2026-01-01T00:00:00Z", invalid, "Send modified_after alone; delta is its old name.", "conflict delta", nil},
		{"empty id", "model=Contact&ids=", invalid, hintIDs, "invalid ids", nil},
		{"empty id among others", "model=Contact&ids=a&ids=", invalid, hintIDs, "invalid ids", nil},
		{"id with a NUL", "model=Contact&ids=a%00", invalid, hintIDs, "invalid ids", nil},
		{"long id", "model=Contact&ids=" + strings.Repeat("x", 513), invalid, hintIDs, "too_long ids", nil},
		{"many ids", "model=Contact" + strings.Repeat("&ids=a", 101), invalid, hintIDs, "too_many ids", nil},
		{"unknown parameter near another", "model=Contact&modifed_after=2026-01-01T00:00:00Z", invalid, "Did you mean modified_after?", "unknown modifed_after", nil},
		{"parameter in another case", "model=Contact&modifiedAfter=2026-01-01T00:00:00Z", invalid, "Did you mean modified_after?", "unknown modifiedAfter", nil},
		{"ids in brackets", "model=Contact&ids[]=a", invalid, "Did you mean ids?", "unknown ids[]", nil},
		{"parameter in upper case", "Model=Contact", invalid, "Did you mean model?", "unknown Model, required model", nil},
		{"unknown parameter far from all", "model=Contact&sort=desc", invalid, hintNames, "unknown sort", nil},
		{"long unknown parameter", "model=Contact&" + long + "=1", invalid, hintNames, "unknown " + long, nil},
		{"parameter without a name", "model=Contact&=1", invalid, hintNames, "unknown", nil},
		{"connection as a parameter", "model=Contact&connection_id=acme", invalid, "Send it as header Connection-Id.", "unknown connection_id", nil},
		{"integration as a parameter", "model=Contact&provider_config_key=demo", invalid, "Send it as header Provider-Config-Key.", "unknown provider_config_key", nil},
		{"bad percent sign", "model=Contact&filter=%zz", invalid, hintEncode, "invalid", nil},
		{"semicolon", "model=Contact;limit=5", invalid, hintEncode, "invalid", nil},
		{"value that is not UTF-8", "model=Contact&ids=%ff", invalid, hintEncode, "invalid", nil},
		{"name that is not UTF-8", "model=Contact&%ff=1", invalid, hintEncode, "invalid", nil},
		{"everything at once", "limit=x&filter=y&ids=&sort=1", invalid, hintNames, "unknown sort, required model, invalid limit, invalid filter, invalid ids", nil},

		{"no connection", "model=Contact", headers, hintConn, "required Connection-Id", func(h http.Header) { h.Del("Connection-Id") }},
		{"empty connection", "model=Contact", headers, hintConn, "required Connection-Id", func(h http.Header) { h.Set("Connection-Id", "") }},
		{"long connection", "model=Contact", headers, hintConn, "too_long Connection-Id", func(h http.Header) { h.Set("Connection-Id", long) }},
		{"connection that is not UTF-8", "model=Contact", headers, hintConn, "invalid Connection-Id", func(h http.Header) { h.Set("Connection-Id", "a\xff") }},
		{"connection twice", "model=Contact", headers, hintConn, "repeated Connection-Id", func(h http.Header) { h.Add("Connection-Id", "acme") }},
		{"no integration", "model=Contact", headers, hintInteg, "required Provider-Config-Key", func(h http.Header) { h.Del("Provider-Config-Key") }},
		{"no header at all", "model=Contact", headers, hintConn, "required Connection-Id, required Provider-Config-Key", func(h http.Header) { clear(h) }},
		{"unknown connection", "model=Contact", errcode.UnknownConnection, "", "", func(h http.Header) { h.Set("Connection-Id", "nobody") }},
		{"unknown integration", "model=Contact", errcode.UnknownConnection, "", "", func(h http.Header) { h.Set("Provider-Config-Key", "nothing") }},

		{"empty cursor", "model=Contact&cursor=", errcode.CursorMalformed, hintCursor, "", nil},
		{"short cursor", "model=Contact&cursor=" + good[1:], errcode.CursorMalformed, hintCursor, "", nil},
		{"long cursor", "model=Contact&cursor=" + good + "0", errcode.CursorMalformed, hintCursor, "", nil},
		{"very long cursor", "model=Contact&cursor=" + strings.Repeat("0", 5000), errcode.CursorMalformed, hintCursor, "", nil},
		{"cursor in upper case", "model=Contact&cursor=" + strings.ToUpper(cursor.Cursor{CSN: 31, Tag: tag, Partition: 0x7fff}.String()), errcode.CursorMalformed, hintCursor, "", nil},
		{"cursor of another format", "model=Contact&cursor=MjAyNi0wMS0wMVQwMDowMDowMFp8fDVmMjU0ZDQ4LTAw", errcode.CursorMalformed, hintCursor, "", nil},
		{"cursor of a later version", "model=Contact&cursor=" + "1" + good[1:], errcode.CursorMalformed, hintCursor, "", nil},
		{"cursor with white space", "model=Contact&cursor=%20" + good[1:], errcode.CursorMalformed, hintCursor, "", nil},
		{"cursor twice", "model=Contact&cursor=" + good + "&cursor=" + good, invalid, "Send cursor once.", "repeated cursor", nil},
		{"cursor of another stream", "model=Company&cursor=" + good, errcode.CursorForeign, "", "", nil},
		{"cursor of another variant", "model=Contact&variant=eu&cursor=" + good, errcode.CursorForeign, "", "", nil},
		{"cursor of another lineage", "model=Contact&cursor=" + cursor.Cursor{CSN: 1, Tag: cursor.TagOf(benchStream.Key(), "other")}.String(), errcode.CursorForeign, "", "", nil},
		{"cursor of the future", "model=Contact&cursor=" + cursor.Cursor{CSN: 2, Tag: tag}.String(), errcode.CursorAhead, "", "", nil},
		{"cursor of the end of time", "model=Contact&cursor=" + cursor.Cursor{CSN: 1<<64 - 1, Tag: tag}.String(), errcode.CursorAhead, "", "", nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := httptest.NewRequest(http.MethodGet, "/records", nil)
			r.URL.RawQuery = c.query
			r.Header.Set("Connection-Id", "acme")
			r.Header.Set("Provider-Config-Key", "demo")
			if c.header != nil {
				c.header(r.Header)
			}
			w := httptest.NewRecorder()
			h.ServeHTTP(w, r)
			var got rootError
			if err := json.Unmarshal(w.Body.Bytes(), &got); err != nil {
				t.Fatalf("status %d: %v: %s", w.Code, err, w.Body)
			}
			info, _ := errcode.Lookup(c.code)
			hint := c.hint
			if hint == "" {
				hint = info.Hint
			}
			if w.Code != http.StatusBadRequest || got.Error.Code != c.code || got.Error.Hint != hint {
				t.Errorf("status %d, code %q, hint %q\nwant 400, %q, %q", w.Code, got.Error.Code, got.Error.Hint, c.code, hint)
			}
			if issues := strings.Join(got.issues(), ", "); issues != c.issues {
				t.Errorf("issues %q, want %q", issues, c.issues)
			}
			if !strings.HasPrefix(got.Error.Message, info.Message) || !strings.HasSuffix(got.Error.Message, ".") || got.Error.RequestID == "" {
				t.Errorf("message %q, request id %q", got.Error.Message, got.Error.RequestID)
			}
			if len(got.Error.Message) > 1000 {
				t.Errorf("the message has %d bytes: it repeats too much of the input", len(got.Error.Message))
			}
		})
	}
}

// Everything that is near the edge of a rule and still allowed.
func TestRecords_AllowedInput(t *testing.T) {
	view := apitest.NewMemory()
	longID := strings.Repeat("é", 256)
	for _, id := range []string{"a", "a,b", longID} {
		if err := view.Apply(benchStream, apitest.Change{ID: id, Payload: []byte(`{}`)}); err != nil {
			t.Fatal(err)
		}
	}
	h := newServer(t, view, nil).Handler()
	for _, c := range []struct {
		query string
		want  int
	}{
		{"model=Contact", 3},
		{"model=Contact&variant=base", 3},
		{"model=Contact&limit=1", 1},
		{"model=Contact&limit=10000", 3},
		{"model=Contact&limit=0002", 2},
		{"model=Contact&filter=Added,DELETED,updated,added", 3},
		{"model=Contact&filter=deleted,deleted", 0},
		{"model=Contact&ids=a&ids=a", 1},
		{"model=Contact&ids=a,b", 1},
		{"model=Contact&ids=" + url.QueryEscape(longID), 1},
		{"model=Contact" + strings.Repeat("&ids=a", 100), 1},
		{"model=Contact&modified_after=1969-12-31T23:59:59Z", 3},
		{"model=Contact&modified_after=0001-01-01T00:00:00Z", 3},
		{"model=Contact&modified_after=9999-12-31T23:59:59.999999999Z", 0},
		{"model=Contact&modified_after=2026-01-01T02:00:00%2B02:00", 3},
		{"model=Contact&modified_after=2026-01-01T00:00:00.001Z", 1},
		{"model=Contact&modified_after=2026-01-01T00:00:00.000000001Z", 1},
		{"model=Contact&delta=2026-01-01T00:00:00.001Z", 1},
		{"model=A_-9", 0},
	} {
		for _, path := range []string{"/records", "/records/"} {
			r := httptest.NewRequest(http.MethodGet, path+"?"+c.query, nil)
			r.Header.Set("Connection-Id", "acme")
			r.Header.Set("Provider-Config-Key", "demo")
			r.Header.Set("Authorization", "Bearer whatever")
			w := httptest.NewRecorder()
			h.ServeHTTP(w, r)
			var got struct {
				Records []json.RawMessage `json:"records"`
			}
			if err := json.Unmarshal(w.Body.Bytes(), &got); err != nil || w.Code != http.StatusOK || len(got.Records) != c.want {
				t.Errorf("%s?%s: status %d, %d records (%v), want 200 and %d: %.300s", path, c.query, w.Code, len(got.Records), err, c.want, w.Body)
			}
		}
	}
}

// No input whatever makes the server fail, and every answer is JSON of one of the two shapes.
func FuzzRecordsQuery(f *testing.F) {
	view := apitest.NewMemory()
	if err := view.Apply(benchStream, apitest.Change{ID: "a", Payload: []byte(`{}`)}); err != nil {
		f.Fatal(err)
	}
	h := newServer(f, view, nil).Handler()
	good := cursor.Cursor{CSN: 1, Tag: cursor.TagOf(benchStream.Key(), "test")}.String()
	for _, q := range []string{"model=Contact&limit=5", "model=Contact&cursor=" + good, "model=Contact&filter=added,deleted&ids=a&ids=b&delta=2026-01-01T00:00:00Z", "%", "a;b", "=&&=x"} {
		f.Add(q, "acme", "demo")
	}
	f.Fuzz(func(t *testing.T, query, connection, integration string) {
		r := httptest.NewRequest(http.MethodGet, "/records", nil)
		r.URL.RawQuery = query
		r.Header["Connection-Id"] = []string{connection}
		r.Header["Provider-Config-Key"] = []string{integration}
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		var got struct {
			rootError
			Records []json.RawMessage `json:"records"`
		}
		if err := json.Unmarshal(w.Body.Bytes(), &got); err != nil {
			t.Fatalf("%q: status %d: %v: %q", query, w.Code, err, w.Body)
		}
		refused := []errcode.Code{errcode.InvalidQuery, errcode.InvalidHeaders, errcode.UnknownConnection, errcode.CursorMalformed, errcode.CursorForeign, errcode.CursorAhead}
		switch {
		case w.Code == http.StatusOK && got.Records != nil:
		case w.Code == http.StatusBadRequest && slices.Contains(refused, got.Error.Code) && got.Error.Hint != "":
		default:
			t.Fatalf("%q: status %d: %s", query, w.Code, w.Body)
		}
	})
}

func TestCursors(t *testing.T) {
	h := newServer(t, apitest.NewMemory(), nil).Handler()
	get := func(path string) (int, string, string) {
		w := httptest.NewRecorder()
		h.ServeHTTP(w, httptest.NewRequest(http.MethodGet, path, nil))
		return w.Code, w.Header().Get("Content-Type"), w.Body.String()
	}
	known := cursor.Cursor{CSN: 7, Offset: 1 << 40, Partition: 3, Term: 2, Tag: cursor.TagOf("any", "where")}.String()
	status, _, body := get("/v1/cursors/" + known)
	want := fmt.Sprintf(`{"cursor":"%s","topic":"tidemark.changes","partition":3,"csn":7,"term":2,"offset":1099511627776,"next_offset":1099511627777}`+"\n", known)
	if status != http.StatusOK || body != want {
		t.Errorf("status %d\ngot  %swant %s", status, body, want)
	}
	unknown := cursor.Cursor{CSN: 7, Offset: -1, Partition: 3}.String()
	status, _, body = get("/v1/cursors/" + unknown)
	want = fmt.Sprintf(`{"cursor":"%s","topic":"tidemark.changes","partition":3,"csn":7,"term":0,"offset":null,"next_offset":null}`+"\n", unknown)
	if status != http.StatusOK || body != want {
		t.Errorf("status %d\ngot  %swant %s", status, body, want)
	}
	for path, code := range map[string]errcode.Code{
		"/v1/cursors/x":                         errcode.CursorMalformed,
		"/v1/cursors/%2F":                       errcode.CursorMalformed,
		"/v1/cursors/" + known[:46] + "%20":     errcode.CursorMalformed,
		"/v1/cursors/" + known + "?topic=other": errcode.InvalidQuery,
	} {
		status, contentType, body := get(path)
		var p struct {
			Type, Title, Detail, Instance, Code, Hint string
			Status                                    int
			RequestID                                 string `json:"request_id"`
			Errors                                    []any
		}
		if err := json.Unmarshal([]byte(body), &p); err != nil {
			t.Fatalf("%s: %v: %s", path, err, body)
		}
		info, _ := errcode.Lookup(code)
		if status != 400 || p.Status != 400 || contentType != "application/problem+json" || p.Code != string(code) || p.Type != "/errors/"+string(code) ||
			p.Title != info.Message || p.Hint == "" || p.RequestID == "" || !strings.HasPrefix(p.Instance, "/v1/cursors/") {
			t.Errorf("%s: status %d, %s: %s", path, status, contentType, body)
		}
	}
}
