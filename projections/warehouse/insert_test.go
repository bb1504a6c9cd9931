package warehouse

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"regexp"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2"

	"github.com/tidemark-dev/tidemark/deploy/devclickhouse/chtest"
	"github.com/tidemark-dev/tidemark/projections/fold"
)

// front stands in front of a server, and does to inserts what networks and servers do.
type front struct {
	proxy *httputil.ReverseProxy
	mu    sync.Mutex
	// insert decides on an insert: a code is answered in its place; lost has it done, and the answer lost.
	insert func(table string, rows int) (code int, lost bool)
	seen   []string // table:rows of each insert
}

var insertInto = regexp.MustCompile("^INSERT INTO `tidemark`.`([a-z0-9_]+)_g1`")

func (f *front) ServeHTTP(rw http.ResponseWriter, r *http.Request) {
	m := insertInto.FindStringSubmatch(r.URL.Query().Get("query"))
	if m == nil {
		f.proxy.ServeHTTP(rw, r)
		return
	}
	body, err := io.ReadAll(r.Body)
	if err != nil {
		panic(http.ErrAbortHandler)
	}
	r.Body, r.ContentLength = io.NopCloser(bytes.NewReader(body)), int64(len(body))
	_, n := binary.Uvarint(body)
	rows, _ := binary.Uvarint(body[n:])
	f.mu.Lock()
	f.seen = append(f.seen, fmt.Sprintf("%s:%d", m[1], rows))
	code, lost := 0, false
	if f.insert != nil {
		code, lost = f.insert(m[1], int(rows))
	}
	f.mu.Unlock()
	switch {
	case code != 0:
		rw.Header().Set("X-ClickHouse-Exception-Code", fmt.Sprint(code))
		rw.WriteHeader(http.StatusInternalServerError)
		fmt.Fprintf(rw, "Code: %d. DB::Exception: as ordered. (MADE_UP)", code)
	case lost:
		f.proxy.ServeHTTP(httptest.NewRecorder(), r)
		panic(http.ErrAbortHandler)
	default:
		f.proxy.ServeHTTP(rw, r)
	}
}

func (f *front) on(insert func(table string, rows int) (code int, lost bool)) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.insert, f.seen = insert, nil
}

func (f *front) tables() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	out := slices.Clone(f.seen)
	slices.Sort(out)
	return out
}

func behindFront(t *testing.T) (*Warehouse, *front) {
	t.Helper()
	s := chtest.Start(t)
	dsn, err := url.Parse(s.DSN(false))
	if err != nil {
		t.Fatal(err)
	}
	f := &front{proxy: &httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) {
		r.SetURL(&url.URL{Scheme: "http", Host: s.Addr()})
	}}}
	server := httptest.NewServer(f)
	t.Cleanup(server.Close)
	at, err := url.Parse(server.URL)
	if err != nil {
		t.Fatal(err)
	}
	dsn.Host = at.Host
	w := openOn(t, s, func(c *Config) { c.DSN = dsn.String() })
	if err := w.Migrate(t.Context()); err != nil {
		t.Fatal(err)
	}
	create(t, w, 1)
	return w, f
}

func countFacts(t *testing.T, w *Warehouse) string {
	return lines(t, w, "SELECT count(), sum(csn) FROM @changes")[0]
}

func TestSend_RepeatsWhatWasNotAcknowledged(t *testing.T) {
	w, f := behindFront(t)
	var rows fold.Rows
	newWork().batch(2000, &rows)
	want := fmt.Sprintf("2000\t%d", 2000*2001/2)
	b := w.Prepare(1, &rows)
	facts := slices.Clone(rows.Facts)
	rows.Reset() // the batch has its own copies
	for i := range facts {
		facts[i] = fold.Fact{}
	}
	f.on(func(table string, rows int) (int, bool) {
		return map[string]int{"changes": 209}[table], table == "changes_1h"
	})
	err := b.Send(t.Context())
	if err == nil || Classify(err) != Transient {
		t.Fatalf("%v", err)
	}
	if n := len(f.tables()); n != 5 {
		t.Errorf("%d inserts, want 5: %v", n, f.tables())
	}
	f.on(nil)
	if err := b.Send(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := f.tables(); len(got) != 2 || got[0] != "changes:2000" {
		t.Errorf("second attempt: %v, want changes and changes_1h only", got)
	}
	f.on(nil)
	if err := b.Send(t.Context()); err != nil || len(f.tables()) != 0 {
		t.Errorf("third attempt: %v, %v", f.tables(), err)
	}
	b.Release()
	if got := countFacts(t, w); got != want {
		t.Errorf("facts %q, want %q", got, want)
	}
	if got := lines(t, w, "SELECT sum(changes) FROM @changes_hourly"); got[0] != "2000" {
		t.Errorf("an insert whose answer was lost, and that was repeated: %s changes", got[0])
	}
}

func TestSend_TakesSmallerBlocksWhenMemoryIsShort(t *testing.T) {
	w, f := behindFront(t)
	var rows fold.Rows
	newWork().batch(50_000, &rows)
	f.on(func(table string, rows int) (int, bool) {
		if table == "changes" && rows > 15_000 {
			return codeMemoryLimit, false
		}
		return 0, false
	})
	if err := w.Insert(t.Context(), 1, &rows); err != nil {
		t.Fatal(err)
	}
	var sizes []string
	for _, s := range f.tables() {
		if len(s) > 8 && s[:8] == "changes:" {
			sizes = append(sizes, s[8:])
		}
	}
	if want := []string{"12500", "12500", "12500", "12500", "25000", "50000"}; !slices.Equal(sizes, want) {
		t.Errorf("blocks of %v rows, want %v", sizes, want)
	}
	if got, want := countFacts(t, w), fmt.Sprintf("50000\t%d", 50_000*50_001/2); got != want {
		t.Errorf("facts %q, want %q", got, want)
	}
	// A server that cannot even take a small block is left alone.
	f.on(func(string, int) (int, bool) { return codeMemoryLimit, false })
	if err := w.Insert(t.Context(), 1, &rows); Classify(err) != Pressure {
		t.Errorf("%v", err)
	}
	if n := w.block.get(); n < blockRowsMin {
		t.Errorf("blocks of %d rows", n)
	}
	f.on(nil)
	for range 5 * blocksToDouble {
		if err := w.Insert(t.Context(), 1, &fold.Rows{Facts: rows.Facts[:1]}); err != nil {
			t.Fatal(err)
		}
	}
	if n := w.block.get(); n != int(w.block.max) {
		t.Errorf("blocks of %d rows after it went well for long", n)
	}
}

func TestClassify(t *testing.T) {
	for code, want := range map[int32]Class{
		159: Transient, 202: Transient, 209: Transient, 210: Transient, 225: Transient, 242: Transient, 252: Transient, 319: Transient, 999: Transient, 1001: Transient,
		241: Pressure, 516: Denied, 497: Denied, 164: Denied, 60: Schema, 16: Schema, 81: Schema, 47: Schema,
	} {
		err := fmt.Errorf("inserting: %w", errors.Join(&clickhouse.HTTPError{StatusCode: 500, Err: &clickhouse.Exception{Code: code}}))
		if got := Classify(err); got != want {
			t.Errorf("code %d is %v, want %v", code, got, want)
		}
		if got, ok := Code(err); got != code || !ok {
			t.Errorf("code %d is %d, %t", code, got, ok)
		}
	}
	if got := Classify(fmt.Errorf("x: %w", context.Canceled)); got != Canceled {
		t.Errorf("a canceled context is %v", got)
	}
	for _, err := range []error{io.ErrUnexpectedEOF, context.DeadlineExceeded, errors.New("connection refused")} {
		if got := Classify(err); got != Transient {
			t.Errorf("%v is %v", err, got)
		}
	}
}

// Errors of a real server have the classes that the writer's answer to them needs.
func TestClassify_RealErrors(t *testing.T) {
	s := chtest.Start(t)
	w := openOn(t, s)
	rows := fold.Rows{Facts: []fold.Fact{{Action: fold.Added, CSN: 1}}}
	if err := w.Insert(t.Context(), 9, &rows); Classify(err) != Schema {
		t.Errorf("no such table: %v", err)
	}
	for name, dsn := range map[string]string{"read-only login": s.DSN(true), "wrong password": "http://tidemark:wrong@" + s.Addr() + "/"} {
		bad := openOn(t, s, func(c *Config) { c.DSN = dsn })
		if err := bad.Insert(t.Context(), 1, &rows); Classify(err) != Denied {
			t.Errorf("%s: %v: %v", name, Classify(err), err)
		}
	}
	gone := openOn(t, s, func(c *Config) { c.DSN = "http://127.0.0.1:1/" })
	if err := gone.Insert(t.Context(), 1, &rows); err == nil || Classify(err) != Transient {
		t.Errorf("nobody there: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := w.Insert(ctx, 1, &rows); Classify(err) != Canceled {
		t.Errorf("canceled: %v", err)
	}
	ctx, cancel = context.WithTimeout(t.Context(), time.Nanosecond)
	defer cancel()
	if err := w.Insert(ctx, 1, &rows); err == nil || Classify(err) != Transient {
		t.Errorf("timed out: %v", err)
	}
}
