package apitest

import (
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/tidemark-dev/tidemark/api"
	"github.com/tidemark-dev/tidemark/schemas/errcode"
	"github.com/tidemark-dev/tidemark/schemas/stream"
)

// Store is a View whose records a test can change.
type Store interface {
	api.View
	// Apply makes changes in order and returns when the View shows them. The suite never deletes a record that is not live and
	// never saves one that did not change. It may be called while pages are read, but not twice at once.
	Apply(id stream.ID, changes ...Change) error
}

// SeedEnv names the environment variable that repeats a run of the suite.
const SeedEnv = "APITEST_SEED"

// Pagination runs the suite behind the real handler. open makes an empty store for each part; its environment is "dev".
func Pagination(t *testing.T, open func(t *testing.T) Store) {
	seed := rand.Uint64()
	if text := os.Getenv(SeedEnv); text != "" {
		var err error
		if seed, err = strconv.ParseUint(text, 10, 64); err != nil {
			t.Fatalf("reading %s: %v", SeedEnv, err)
		}
	}
	t.Logf("%s=%d", SeedEnv, seed)
	for _, part := range []struct {
		name string
		run  func(*suite, *testing.T)
	}{
		{"I8_EveryLatestVersionWhateverChanges", (*suite).changesBetweenPages},
		{"I8_EveryLatestVersionUnderConcurrentWrites", (*suite).changesDuringPages},
		{"FiltersEqualBruteForce", (*suite).filters},
		{"EveryRecordsCursorGoesOnBehindIt", (*suite).resume},
		{"PagesAreBoundedByBytes", (*suite).byteBound},
		{"PagesAreBoundedByExaminedRows", (*suite).scanBound},
		{"StreamsDoNotMix", (*suite).streamsApart},
		{"NoNewsIsNotAnError", (*suite).noNews},
	} {
		t.Run(part.name, func(t *testing.T) {
			part.run(&suite{Store: open(t), rnd: rand.New(rand.NewPCG(seed, 1)), model: map[string]version{}}, t)
		})
	}
}

// suiteStream is the stream that most parts use.
var suiteStream = stream.ID{Environment: "dev", Integration: "demo", Connection: "acme", Model: "Contact", Variant: stream.VariantBase}

// suite is one part under way, with its own reference of what the store must hold.
type suite struct {
	Store
	rnd   *rand.Rand
	model map[string]version
	saves int
}

// version is the latest version of a record.
type version struct {
	action string
	text   string // member v of the payload
	live   bool
}

// apply makes changes. It is called outside the test's goroutine too.
func (s *suite) apply(t testing.TB, id stream.ID, changes ...Change) {
	t.Helper()
	if err := s.Apply(id, changes...); err != nil {
		t.Errorf("applying %d changes to %s: %v", len(changes), id, err)
	}
}

// change makes up n legal changes over few ids, applies them and keeps the reference.
func (s *suite) change(t testing.TB, n int) {
	changes := make([]Change, n)
	for i := range changes {
		id := fmt.Sprintf("r%d", s.rnd.IntN(60))
		was := s.model[id]
		if was.live && s.rnd.IntN(4) == 0 {
			changes[i] = Change{ID: id}
			s.model[id] = version{"DELETED", was.text, false}
			continue
		}
		s.saves++
		now := version{"ADDED", fmt.Sprintf("version %d", s.saves), true}
		if was.live {
			now.action = "UPDATED"
		}
		s.model[id] = now
		changes[i] = Change{ID: id, Payload: fmt.Appendf(nil, `{"id":%q,"v":%q,"nested":{"id":1}}`, id, now.text)}
	}
	s.apply(t, suiteStream, changes...)
}

// record is one record of an answer of GET /records.
type record struct {
	ID       string `json:"id"`
	V        string `json:"v"`
	Metadata struct {
		FirstSeenAt    time.Time  `json:"first_seen_at"`
		LastModifiedAt time.Time  `json:"last_modified_at"`
		LastAction     string     `json:"last_action"`
		DeletedAt      *time.Time `json:"deleted_at"`
		PrunedAt       *time.Time `json:"pruned_at"`
		Cursor         string     `json:"cursor"`
	} `json:"_nango_metadata"`
}

// answer is one answer of GET /records.
type answer struct {
	Records    []record `json:"records"`
	NextCursor *string  `json:"next_cursor"`
	Error      struct {
		Code errcode.Code `json:"code"`
	} `json:"error"`
	status int
	bytes  int
}

// handler serves the store with settings that a part changes.
func (s *suite) handler(t testing.TB, change func(*api.Config)) http.Handler {
	cfg := api.DefaultConfig()
	cfg.Lineage = "suite"
	if change != nil {
		change(&cfg)
	}
	reg := prometheus.NewRegistry()
	srv, err := api.New(cfg, api.Deps{View: s.Store, Logger: slog.New(slog.NewTextHandler(io.Discard, nil)), Metrics: api.NewMetrics(reg), Gatherer: reg})
	if err != nil {
		t.Fatal(err)
	}
	return srv.Handler()
}

// get asks for one page and checks what holds for every one: order, positions, times.
func get(t testing.TB, h http.Handler, id stream.ID, params url.Values) answer {
	t.Helper()
	params = maps.Clone(params)
	params.Set("model", id.Model)
	if id.Variant != stream.VariantBase {
		params.Set("variant", id.Variant)
	}
	r := httptest.NewRequest(http.MethodGet, "/records?"+params.Encode(), nil)
	r.Header.Set("Connection-Id", id.Connection)
	r.Header.Set("Provider-Config-Key", id.Integration)
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	a := answer{status: w.Code, bytes: w.Body.Len()}
	if err := json.Unmarshal(w.Body.Bytes(), &a); err != nil {
		t.Fatalf("%s: status %d, body is not JSON: %v\n%s", r.URL, w.Code, err, w.Body)
	}
	if w.Code != http.StatusOK {
		return a
	}
	if !strings.Contains(w.Body.String(), `"next_cursor":`) || a.Records == nil {
		t.Fatalf("%s: a member is missing: %s", r.URL, w.Body)
	}
	limit := 100
	if text := params.Get("limit"); text != "" {
		limit, _ = strconv.Atoi(text)
	}
	if len(a.Records) > limit {
		t.Fatalf("%s: %d records, limit %d", r.URL, len(a.Records), limit)
	}
	position := params.Get("cursor")
	for _, rec := range a.Records {
		if rec.Metadata.Cursor <= position {
			t.Fatalf("%s: record %q has cursor %s, not behind %s", r.URL, rec.ID, rec.Metadata.Cursor, position)
		}
		position = rec.Metadata.Cursor
		m := rec.Metadata
		if m.FirstSeenAt.IsZero() || m.LastModifiedAt.Before(m.FirstSeenAt) || (m.DeletedAt != nil) != (m.LastAction == "DELETED") ||
			(m.DeletedAt != nil && !m.DeletedAt.Equal(m.LastModifiedAt)) || (m.LastAction == "ADDED" && !m.LastModifiedAt.Equal(m.FirstSeenAt)) {
			t.Fatalf("%s: record %q contradicts itself: %+v", r.URL, rec.ID, m)
		}
	}
	if a.NextCursor != nil && *a.NextCursor < position {
		t.Fatalf("%s: next_cursor %s is before the last record's %s", r.URL, *a.NextCursor, position)
	}
	return a
}

// ok is get where anything but 200 ends the test.
func ok(t testing.TB, h http.Handler, id stream.ID, params url.Values) answer {
	t.Helper()
	a := get(t, h, id, params)
	if a.status != http.StatusOK {
		t.Fatalf("%v: status %d, code %s", params, a.status, a.Error.Code)
	}
	return a
}

// all follows next_cursor to its end.
func all(t testing.TB, h http.Handler, id stream.ID, params url.Values) []record {
	t.Helper()
	const pagesMax = 10_000
	params = maps.Clone(params)
	var out []record
	for range pagesMax {
		a := ok(t, h, id, params)
		out = append(out, a.Records...)
		if a.NextCursor == nil {
			return out
		}
		if *a.NextCursor == params.Get("cursor") {
			t.Fatalf("%v: the cursor does not move", params)
		}
		params.Set("cursor", *a.NextCursor)
	}
	t.Fatalf("%v: no end after %d pages", params, pagesMax)
	return nil
}

// client is a consumer as the documentation asks for: it applies every record and keeps the last cursor.
type client struct {
	held   map[string]version
	cursor string
}

// page reads one page and reports whether it was the last for now.
func (c *client) page(t testing.TB, h http.Handler, limit int) (end bool) {
	params := url.Values{"limit": {strconv.Itoa(limit)}}
	if c.cursor != "" {
		params.Set("cursor", c.cursor)
	}
	a := ok(t, h, suiteStream, params)
	for _, r := range a.Records {
		c.held[r.ID] = version{r.Metadata.LastAction, r.V, r.Metadata.LastAction != "DELETED"}
		c.cursor = r.Metadata.Cursor
	}
	if a.NextCursor != nil {
		c.cursor = *a.NextCursor
	}
	return a.NextCursor == nil
}

func (c *client) mustEqual(t testing.TB, model map[string]version) {
	t.Helper()
	for id, want := range model {
		if got, ok := c.held[id]; !ok || got != want {
			t.Errorf("record %s: the client holds %+v, want %+v", id, got, want)
		}
	}
	if len(c.held) != len(model) {
		t.Errorf("the client holds %d records, want %d", len(c.held), len(model))
	}
}

func (s *suite) changesBetweenPages(t *testing.T) {
	h := s.handler(t, nil)
	s.change(t, 200)
	c := &client{held: map[string]version{}}
	for range 150 {
		if s.rnd.IntN(2) == 0 {
			s.change(t, 1+s.rnd.IntN(12))
		}
		c.page(t, h, 1+s.rnd.IntN(15))
	}
	for !c.page(t, h, 7) {
	}
	c.mustEqual(t, s.model)
}

func (s *suite) changesDuringPages(t *testing.T) {
	h := s.handler(t, nil)
	s.change(t, 50)
	done := make(chan struct{})
	var writer sync.WaitGroup
	writer.Go(func() {
		defer close(done)
		for range 200 {
			s.change(t, 5)
		}
	})
	c := &client{held: map[string]version{}}
	for writing := true; writing; {
		select {
		case <-done:
			writing = false
		default:
		}
		c.page(t, h, 9)
	}
	writer.Wait()
	for !c.page(t, h, 9) {
	}
	c.mustEqual(t, s.model)
}

// filters compares every combination of actions, ids and times with a filter over the whole listing.
func (s *suite) filters(t *testing.T) {
	h := s.handler(t, nil)
	s.change(t, 300)
	whole := all(t, h, suiteStream, url.Values{})
	if len(whole) != len(s.model) {
		t.Fatalf("%d records listed, want %d", len(whole), len(s.model))
	}
	actions := []string{"added", "updated", "deleted"}
	idSets := [][]string{nil, {"r1", "no such record", "r2", "r3", "r4", "r5", "r3"}, {"nothing"}}
	times := []time.Time{{}, whole[0].Metadata.LastModifiedAt, whole[len(whole)/2].Metadata.LastModifiedAt,
		whole[len(whole)/2].Metadata.LastModifiedAt.Add(time.Microsecond), whole[len(whole)-1].Metadata.LastModifiedAt, time.Date(2999, 1, 1, 0, 0, 0, 0, time.UTC)}
	cursors := []string{"", whole[len(whole)/3].Metadata.Cursor}
	for bits := range 1 << len(actions) {
		var names []string
		for i, name := range actions {
			if bits&(1<<i) != 0 {
				names = append(names, []string{name, strings.ToUpper(name)}[s.rnd.IntN(2)])
			}
		}
		s.rnd.Shuffle(len(names), func(i, j int) { names[i], names[j] = names[j], names[i] })
		for _, ids := range idSets {
			for _, after := range times {
				for _, from := range cursors {
					params := url.Values{"limit": {strconv.Itoa(1 + s.rnd.IntN(20))}}
					if names != nil {
						params.Set("filter", strings.Join(names, ","))
					}
					if ids != nil {
						params["ids"] = ids
					}
					if !after.IsZero() {
						params.Set("modified_after", after.In(time.FixedZone("", 2*3600)).Format(time.RFC3339Nano))
					}
					if from != "" {
						params.Set("cursor", from)
					}
					var want []string
					for _, r := range whole {
						if (bits == 0 || slices.Contains(names, r.Metadata.LastAction) || slices.Contains(names, strings.ToLower(r.Metadata.LastAction))) &&
							(ids == nil || slices.Contains(ids, r.ID)) && !r.Metadata.LastModifiedAt.Before(after) && r.Metadata.Cursor > from {
							want = append(want, r.ID)
						}
					}
					var got []string
					for _, r := range all(t, h, suiteStream, params) {
						got = append(got, r.ID)
					}
					if !slices.Equal(got, want) {
						t.Errorf("%v:\ngot  %v\nwant %v", params, got, want)
					}
				}
			}
		}
	}
}

func (s *suite) resume(t *testing.T) {
	h := s.handler(t, nil)
	s.change(t, 200)
	whole := all(t, h, suiteStream, url.Values{})
	for i, r := range whole {
		rest := all(t, h, suiteStream, url.Values{"cursor": {r.Metadata.Cursor}, "limit": {"11"}})
		if !slices.EqualFunc(rest, whole[i+1:], func(a, b record) bool { return a.ID == b.ID && a.Metadata.Cursor == b.Metadata.Cursor }) {
			t.Fatalf("behind record %d of %d: got %d records, want the %d that follow it", i, len(whole), len(rest), len(whole)-i-1)
		}
	}
	if full := ok(t, h, suiteStream, url.Values{"limit": {strconv.Itoa(len(whole))}}); full.NextCursor != nil {
		t.Error("a page that ends with the last record has a next_cursor")
	}
}

func (s *suite) byteBound(t *testing.T) {
	const bound = 2048
	h := s.handler(t, func(c *api.Config) { c.PageBytesMax = bound })
	long := strings.Repeat("x", 2*bound)
	for i := range 40 {
		text := fmt.Sprint(i)
		if i%9 == 0 {
			text = long
		}
		id := fmt.Sprintf("r%d", i)
		s.apply(t, suiteStream, Change{id, fmt.Appendf(nil, `{"id":%q,"v":%q}`, id, text)})
		s.model[id] = version{"ADDED", text, true}
	}
	c := &client{held: map[string]version{}}
	pages := 0
	for end := false; !end; pages++ {
		params := url.Values{"limit": {"1000"}}
		if c.cursor != "" {
			params.Set("cursor", c.cursor)
		}
		a := ok(t, h, suiteStream, params)
		if len(a.Records) == 0 || (a.bytes > bound && len(a.Records) > 1) {
			t.Fatalf("a page of %d records and %d bytes, bound %d", len(a.Records), a.bytes, bound)
		}
		end = c.page(t, h, 1000)
	}
	c.mustEqual(t, s.model)
	if pages < 10 {
		t.Errorf("%d pages: the bound did nothing", pages)
	}
}

func (s *suite) scanBound(t *testing.T) {
	h := s.handler(t, func(c *api.Config) { c.ScanExtraMax = 3 })
	for i := range 60 {
		id := fmt.Sprintf("r%d", i)
		s.apply(t, suiteStream, Change{id, fmt.Appendf(nil, `{"id":%q}`, id)})
	}
	s.apply(t, suiteStream, Change{ID: "r20"}, Change{ID: "r40"})
	params := url.Values{"filter": {"deleted"}, "limit": {"2"}}
	first := ok(t, h, suiteStream, params)
	if len(first.Records) != 0 || first.NextCursor == nil {
		t.Fatalf("the first page has %d records and next_cursor %v: want none, and a cursor to go on", len(first.Records), first.NextCursor)
	}
	var ids []string
	for _, r := range all(t, h, suiteStream, params) {
		ids = append(ids, r.ID)
	}
	if !slices.Equal(ids, []string{"r20", "r40"}) {
		t.Errorf("got %v, want r20 and r40", ids)
	}
}

func (s *suite) streamsApart(t *testing.T) {
	h := s.handler(t, nil)
	ids := []stream.ID{suiteStream, suiteStream, suiteStream, suiteStream}
	ids[1].Variant = "eu"
	ids[2].Model = "Company"
	ids[3].Connection = "umbrella/eu 1"
	for i, id := range ids {
		s.apply(t, id, Change{"same", fmt.Appendf(nil, `{"id":"same","v":"%d"}`, i)}, Change{fmt.Sprint(i), []byte(`{}`)})
	}
	for i, id := range ids {
		got := all(t, h, id, url.Values{"limit": {"1"}})
		if len(got) != 2 || got[0].ID != "same" || got[0].V != fmt.Sprint(i) || got[1].ID != fmt.Sprint(i) {
			t.Errorf("stream %s: got %+v", id, got)
			continue
		}
		for j, other := range ids {
			if a := get(t, h, other, url.Values{"cursor": {got[0].Metadata.Cursor}}); i != j && (a.status != 400 || a.Error.Code != errcode.CursorForeign) {
				t.Errorf("cursor of %s on %s: status %d, code %q", id, other, a.status, a.Error.Code)
			}
		}
	}
	unknown := suiteStream
	unknown.Connection = "nobody"
	if a := get(t, h, unknown, url.Values{}); a.status != 400 || a.Error.Code != errcode.UnknownConnection {
		t.Errorf("unknown connection: status %d, code %q", a.status, a.Error.Code)
	}
	unknown = suiteStream
	unknown.Model = "Nothing"
	if a := ok(t, h, unknown, url.Values{}); len(a.Records) != 0 || a.NextCursor != nil {
		t.Errorf("unknown model of a known connection: %+v, want an empty page", a)
	}
}

func (s *suite) noNews(t *testing.T) {
	h := s.handler(t, nil)
	s.change(t, 30)
	whole := all(t, h, suiteStream, url.Values{})
	head := url.Values{"cursor": {whole[len(whole)-1].Metadata.Cursor}}
	for range 2 {
		if a := ok(t, h, suiteStream, head); len(a.Records) != 0 || a.NextCursor != nil {
			t.Fatalf("at the head: %+v, want an empty page", a)
		}
	}
	if a := ok(t, h, suiteStream, url.Values{"filter": {"deleted"}, "ids": {"none"}}); len(a.Records) != 0 || a.NextCursor != nil {
		t.Fatalf("nothing matches: %+v, want an empty page", a)
	}
	s.apply(t, suiteStream, Change{"news", []byte(`{"v":"x"}`)})
	if a := ok(t, h, suiteStream, head); len(a.Records) != 1 || a.Records[0].ID != "news" {
		t.Fatalf("after a change: %+v, want that change alone", a)
	}
}
