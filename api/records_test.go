package api_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/tidemark-dev/tidemark/api"
	"github.com/tidemark-dev/tidemark/api/apitest"
	"github.com/tidemark-dev/tidemark/schemas/cursor"
	"github.com/tidemark-dev/tidemark/schemas/errcode"
	"github.com/tidemark-dev/tidemark/schemas/stream"
)

// ask sends GET path with the headers of benchStream.
func ask(h http.Handler, path string) *httptest.ResponseRecorder {
	return askWith(h, path, nil)
}

func askWith(h http.Handler, path string, change func(*http.Request)) *httptest.ResponseRecorder {
	r := httptest.NewRequest(http.MethodGet, path, nil)
	r.Header.Set("Connection-Id", benchStream.Connection)
	r.Header.Set("Provider-Config-Key", benchStream.Integration)
	if change != nil {
		change(r)
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w
}

func apply(tb testing.TB, view *apitest.Memory, id stream.ID, changes ...apitest.Change) {
	tb.Helper()
	if err := view.Apply(id, changes...); err != nil {
		tb.Fatal(err)
	}
}

// The answer, byte by byte: what a client of the reference product relies on.
func TestRecords_Shape(t *testing.T) {
	view := apitest.NewMemory()
	apply(t, view, benchStream,
		apitest.Change{ID: "1", Payload: []byte(`{"id": 1, "n": 1.0, "text": "\u00e9"}`)},
		apitest.Change{ID: "2", Payload: []byte(`{"id":"2","_nango_metadata":{"cursor":"old"},"a":[]}`)},
		apitest.Change{ID: "3", Payload: []byte(`{"name":"x"}`)},
		apitest.Change{ID: "1", Payload: []byte(`{"id": 1, "n": 2}`)},
		apitest.Change{ID: "3"},
		apitest.Change{ID: "4", Payload: []byte(`{}`)},
	)
	view.Prune(benchStream, "2", time.Date(2026, 2, 3, 4, 5, 6, 7e6, time.UTC).UnixMilli())
	partition := stream.Partition(benchStream.Key(), apitest.Partitions)
	at := func(csn uint64) string {
		return cursor.Cursor{CSN: csn, Offset: int64(csn) * 3, Partition: partition, Term: 1, Tag: cursor.TagOf(benchStream.Key(), "test")}.String()
	}
	want := `{"records":[` +
		`{"id":"2","_nango_metadata":{"first_seen_at":"2026-01-01T00:00:00.000Z","last_modified_at":"2026-01-01T00:00:00.000Z","last_action":"ADDED","deleted_at":null,"pruned_at":"2026-02-03T04:05:06.007Z","cursor":"` + at(2) + `"}},` +
		`{"id":"1","n": 2,"_nango_metadata":{"first_seen_at":"2026-01-01T00:00:00.000Z","last_modified_at":"2026-01-01T00:00:00.001Z","last_action":"UPDATED","deleted_at":null,"pruned_at":null,"cursor":"` + at(4) + `"}},` +
		`{"name":"x","id":"3","_nango_metadata":{"first_seen_at":"2026-01-01T00:00:00.001Z","last_modified_at":"2026-01-01T00:00:00.002Z","last_action":"DELETED","deleted_at":"2026-01-01T00:00:00.002Z","pruned_at":null,"cursor":"` + at(5) + `"}}` +
		`],"next_cursor":"` + at(5) + `"}`
	w := ask(newServer(t, view, nil).Handler(), "/records?model=Contact&limit=3")
	if w.Code != http.StatusOK || w.Body.String() != want {
		t.Errorf("status %d\ngot  %s\nwant %s", w.Code, w.Body, want)
	}
	for name, value := range map[string]string{"Content-Type": "application/json; charset=utf-8", "Content-Length": fmt.Sprint(len(want)), "Cache-Control": "no-store", "Vary": "Accept-Encoding", "X-Content-Type-Options": "nosniff"} {
		if got := w.Header().Get(name); got != value {
			t.Errorf("header %s is %q, want %q", name, got, value)
		}
	}
	w = ask(newServer(t, view, nil).Handler(), "/records?model=Contact&cursor="+at(5))
	if !strings.HasSuffix(w.Body.String(), `"cursor":"`+at(6)+`"}}],"next_cursor":null}`) {
		t.Errorf("at the end: %s", w.Body)
	}
}

// A cursor behind rows that were examined and not returned has no offset, and is still right.
func TestRecords_CursorBehindExaminedRows(t *testing.T) {
	view := apitest.NewMemory()
	for i := range 10 {
		apply(t, view, benchStream, apitest.Change{ID: fmt.Sprint(i), Payload: []byte(`{}`)})
	}
	h := newServer(t, view, func(c *api.Config) { c.ScanExtraMax = 4 }).Handler()
	var got struct {
		NextCursor string `json:"next_cursor"`
	}
	if err := json.Unmarshal(ask(h, "/records?model=Contact&limit=1&filter=deleted").Body.Bytes(), &got); err != nil {
		t.Fatal(err)
	}
	at, err := cursor.Parse(got.NextCursor)
	if err != nil || at.CSN != 5 || at.Offset != -1 || at.Partition != stream.Partition(benchStream.Key(), apitest.Partitions) {
		t.Errorf("next_cursor is %+v (%v), want csn 5 without an offset", at, err)
	}
}

func TestRecords_ErrorsOfTheView(t *testing.T) {
	const secret = "disk 7 of host db-3"
	for _, c := range []struct {
		name   string
		err    error
		status int
		code   errcode.Code
		retry  string
	}{
		{"not ready", errcode.New(errcode.NotReady, "partition 2 is at csn 5 of 9"), 503, errcode.NotReady, "1"},
		{"halted", fmt.Errorf("reading: %w", errcode.New(errcode.PartitionHalted, "partition 2")), 503, errcode.PartitionHalted, "1"},
		{"ahead", errcode.New(errcode.CursorAhead, "by far"), 400, errcode.CursorAhead, ""},
		{"expired", errcode.New(errcode.CursorExpired, ""), 410, errcode.CursorExpired, ""},
		{"anything else", errors.New(secret), 500, errcode.ServerError, ""},
		{"cause of a known error", &errcode.Error{Code: errcode.NotReady, Err: errors.New(secret)}, 503, errcode.NotReady, "1"},
		{"code that is not for http", errcode.New(errcode.DataDirLocked, secret), 500, errcode.ServerError, ""},
		{"unregistered code", errcode.New("made.up", secret), 500, errcode.ServerError, ""},
		{"too slow", context.DeadlineExceeded, 500, errcode.ServerError, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			view := apitest.NewMemory()
			view.SetError(c.err)
			w := ask(newServer(t, view, nil).Handler(), "/records?model=Contact")
			var got rootError
			if err := json.Unmarshal(w.Body.Bytes(), &got); err != nil {
				t.Fatal(err)
			}
			if w.Code != c.status || got.Error.Code != c.code || w.Header().Get("Retry-After") != c.retry || got.Error.Hint == "" {
				t.Errorf("status %d, Retry-After %q: %s", w.Code, w.Header().Get("Retry-After"), w.Body)
			}
			if strings.Contains(w.Body.String(), secret) {
				t.Errorf("the answer tells what only the log may: %s", w.Body)
			}
		})
	}
}

// While a partition is catching up it may yet know the connection.
func TestRecords_UnknownConnectionNeedsAReadyView(t *testing.T) {
	view := apitest.NewMemory()
	h := newServer(t, view, nil).Handler()
	view.SetWaiting(api.Condition{Component: "follower", Partition: 3, Reason: "it is 12 records behind"})
	if w := ask(h, "/records?model=Contact"); w.Code != http.StatusServiceUnavailable || !strings.Contains(w.Body.String(), `"code":"not_ready"`) {
		t.Errorf("while it waits: status %d: %s", w.Code, w.Body)
	}
	view.SetWaiting()
	if w := ask(h, "/records?model=Contact"); w.Code != http.StatusBadRequest || !strings.Contains(w.Body.String(), `"code":"unknown_connection"`) {
		t.Errorf("when it is ready: status %d: %s", w.Code, w.Body)
	}
}

// A stored payload that is no object is our fault, and never half an answer.
func TestRecords_BrokenPayload(t *testing.T) {
	view := apitest.NewMemory()
	apply(t, view, benchStream, apitest.Change{ID: "a", Payload: []byte(`{"a":1}`)}, apitest.Change{ID: "b", Payload: []byte(`[secret]`)})
	w := ask(newServer(t, view, nil).Handler(), "/records?model=Contact")
	if w.Code != http.StatusInternalServerError || strings.Contains(w.Body.String(), "secret") || !strings.Contains(w.Body.String(), `"code":"server_error"`) {
		t.Errorf("status %d: %s", w.Code, w.Body)
	}
}

// queryView notes the query it was asked.
type queryView struct {
	*apitest.Memory
	query api.Query
}

func (v *queryView) Page(ctx context.Context, q api.Query, fn func(*api.Row) error) (api.PageEnd, error) {
	v.query = q
	return v.Memory.Page(ctx, q, fn)
}

func TestRecords_QueryOfTheView(t *testing.T) {
	view := &queryView{Memory: apitest.NewMemory()}
	apply(t, view.Memory, benchStream, apitest.Change{ID: "a", Payload: []byte(`{}`)})
	h := newServer(t, view, func(c *api.Config) { c.Environment, c.ScanExtraMax = "prod", 7 }).Handler()
	id := stream.ID{Environment: "prod", Integration: "demo", Connection: "acme", Model: "Contact", Variant: "eu"}
	apply(t, view.Memory, id, apitest.Change{ID: "a", Payload: []byte(`{}`)})
	at := cursor.Cursor{CSN: 1, Tag: cursor.TagOf(id.Key(), "test")}.String()
	w := ask(h, "/records?model=Contact&variant=eu&limit=20&filter=deleted,ADDED&ids=x&ids=y&ids=x&modified_after=1970-01-01T00:00:01.0001Z&cursor="+at)
	want := api.Query{Stream: id, After: 1, Limit: 20, ScanMax: 27, Actions: api.ActionAdded | api.ActionDeleted, ModifiedAfterMS: 1001, IDs: []string{"x", "y"}}
	if got := fmt.Sprintf("%+v", view.query); w.Code != http.StatusOK || got != fmt.Sprintf("%+v", want) {
		t.Errorf("status %d: %s\ngot  %s\nwant %+v", w.Code, w.Body, got, want)
	}
	ask(h, "/records?model=Contact")
	want = api.Query{Stream: stream.ID{Environment: "prod", Integration: "demo", Connection: "acme", Model: "Contact", Variant: "base"}, Limit: 100, ScanMax: 107}
	if got := fmt.Sprintf("%+v", view.query); got != fmt.Sprintf("%+v", want) {
		t.Errorf("got  %s\nwant %+v", got, want)
	}

	// A position that no log reaches never gets to the view, which may add to it.
	view.query.After = 0
	far := cursor.Cursor{CSN: 1<<64 - 1, Tag: cursor.TagOf(want.Stream.Key(), "test")}.String()
	if w := ask(h, "/records?model=Contact&cursor="+far); view.query.After != 0 || !strings.Contains(w.Body.String(), string(errcode.CursorAhead)) {
		t.Errorf("the view was asked for csn %d: %s", view.query.After, w.Body)
	}
}
