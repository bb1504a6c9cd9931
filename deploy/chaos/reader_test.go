package chaos

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/tidemark-dev/tidemark/processor/model"
	"github.com/tidemark-dev/tidemark/schemas/cursor"
	"github.com/tidemark-dev/tidemark/schemas/stream"
)

// page is one answer of GET /records.
type page struct {
	rows    []row
	cursors []string // of the rows
	next    string   // "" when there is nothing more right now
}

// notReady is an answer of a site that is down, or says itself that it is not there yet.
type notReady struct{ why string }

func (e *notReady) Error() string { return "not ready: " + e.why }

// page asks for one page.
func (s *site) page(id stream.ID, after string, limit int) (*page, error) {
	q := url.Values{"model": {id.Model}, "limit": {strconv.Itoa(limit)}}
	if after != "" {
		q.Set("cursor", after)
	}
	status, body, err := s.get("/records?"+q.Encode(), http.Header{"Connection-Id": {id.Connection}, "Provider-Config-Key": {id.Integration}})
	switch {
	case err != nil:
		return nil, &notReady{err.Error()}
	case status == http.StatusServiceUnavailable:
		return nil, &notReady{string(body)}
	case status == http.StatusBadRequest && after == "" && strings.Contains(string(body), `"unknown_connection"`):
		return &page{}, nil // nothing was written for it yet
	case status != http.StatusOK:
		return nil, fmt.Errorf("GET /records of %s after %q: %d %s", id, after, status, body)
	}
	return parsePage(body)
}

func parsePage(body []byte) (*page, error) {
	var answer struct {
		Records []json.RawMessage `json:"records"`
		Next    *string           `json:"next_cursor"`
	}
	if err := json.Unmarshal(body, &answer); err != nil {
		return nil, fmt.Errorf("reading a page: %w in %.200s", err, body)
	}
	p := new(page)
	if answer.Next != nil {
		p.next = *answer.Next
	}
	for _, rec := range answer.Records {
		var r struct {
			ID   string `json:"id"`
			Meta struct {
				FirstSeen string  `json:"first_seen_at"`
				Modified  string  `json:"last_modified_at"`
				Action    string  `json:"last_action"`
				Deleted   *string `json:"deleted_at"`
				Pruned    *string `json:"pruned_at"`
				Cursor    string  `json:"cursor"`
			} `json:"_nango_metadata"`
		}
		if err := json.Unmarshal(rec, &r); err != nil {
			return nil, fmt.Errorf("reading a record: %w in %s", err, rec)
		}
		at, err := cursor.Parse(r.Meta.Cursor)
		if err != nil {
			return nil, fmt.Errorf("reading a record: %w in %s", err, rec)
		}
		if (r.Meta.Deleted != nil) != (r.Meta.Action == "DELETED") || r.Meta.Pruned != nil {
			return nil, fmt.Errorf("the metadata contradicts itself: %s", rec)
		}
		payload, err := model.Canonical(rec, []string{"/_nango_metadata"})
		if err != nil {
			return nil, fmt.Errorf("reading a record: %w in %s", err, rec)
		}
		p.rows = append(p.rows, row{
			ID: r.ID, Op: r.Meta.Action, CSN: at.CSN, Offset: at.Offset, Partition: at.Partition, Term: uint64(at.Term),
			FirstSeen: r.Meta.FirstSeen, Modified: r.Meta.Modified, Payload: payload,
		})
		p.cursors = append(p.cursors, r.Meta.Cursor)
	}
	return p, nil
}

// rest pages from a cursor until there is nothing more, with pages of random size, and returns the newest version of each record.
func (s *site) rest(id stream.ID, after string, rng *rand.Rand) (map[string]row, error) {
	rows := map[string]row{}
	for {
		p, err := s.page(id, after, 1+rng.IntN(1500))
		if err != nil {
			return nil, err
		}
		for _, r := range p.rows {
			rows[r.ID] = r
		}
		if p.next == "" {
			return rows, nil
		}
		after = p.next
	}
}

// client reads one stream over and over: it applies what it gets and goes on from its last cursor, whatever process answers.
type client struct {
	id     stream.ID
	cursor string
	csn    uint64
	have   map[string]row
}

// bookmark is a cursor that was handed out.
type bookmark struct {
	id     stream.ID
	cursor string
	csn    uint64
}

// readers are clients that read while the processes come and go. They remember what they saw.
type readers struct {
	t       testing.TB
	s       *site
	rng     *rand.Rand
	clients []*client

	mu        sync.Mutex // held while a page is read and applied
	bookmarks []bookmark // a sample
	offered   int        // cursors that could have become bookmarks
	seen      map[int32]map[uint64]row
	pages     int
	refused   int // pages that there was nobody to answer
}

const bookmarksMax = 400

func newReaders(s *site, ids []stream.ID, rng *rand.Rand) *readers {
	r := &readers{t: s.t, s: s, rng: rand.New(rand.NewPCG(rng.Uint64(), 2)), seen: map[int32]map[uint64]row{}}
	for _, id := range ids {
		r.add(id)
	}
	return r
}

// add adds a stream.
func (r *readers) add(id stream.ID) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.clients = append(r.clients, &client{id: id, have: map[string]row{}})
}

// run reads until the test ends.
func (r *readers) run() {
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		for ctx.Err() == nil && !r.t.Failed() {
			r.mu.Lock()
			err := r.read(r.clients[r.rng.IntN(len(r.clients))], 1+r.rng.IntN(500))
			wait := between(r.rng, 0, 30*time.Millisecond)
			r.mu.Unlock()
			if err != nil {
				r.t.Error(err)
			}
			timer := time.NewTimer(wait)
			select {
			case <-timer.C:
			case <-ctx.Done():
				timer.Stop()
			}
		}
	}()
	r.t.Cleanup(func() {
		stop()
		<-done
	})
}

// read applies one page. That nobody answers is no error.
func (r *readers) read(c *client, limit int) error {
	p, err := r.s.page(c.id, c.cursor, limit)
	if errors.As(err, new(*notReady)) {
		r.refused++
		return nil
	}
	if err != nil {
		return err
	}
	r.pages++
	for i, version := range p.rows {
		if version.CSN <= c.csn {
			return fmt.Errorf("%s: after the cursor of csn %d, a page has csn %d", c.id, c.csn, version.CSN)
		}
		c.have[version.ID], c.cursor, c.csn = version, p.cursors[i], version.CSN
		if r.seen[version.Partition] == nil {
			r.seen[version.Partition] = map[uint64]row{}
		}
		if old, ok := r.seen[version.Partition][version.CSN]; ok && old != version {
			return fmt.Errorf("%s: csn %d was %+v, is %+v", c.id, version.CSN, old, version)
		}
		r.seen[version.Partition][version.CSN] = version
		r.note(bookmark{c.id, p.cursors[i], version.CSN})
	}
	if p.next != "" {
		at, err := cursor.Parse(p.next)
		if err != nil {
			return fmt.Errorf("%s: next_cursor: %w", c.id, err)
		}
		if at.CSN < c.csn {
			return fmt.Errorf("%s: next_cursor %d lies before csn %d", c.id, at.CSN, c.csn)
		}
		c.cursor, c.csn = p.next, at.CSN
		r.note(bookmark{c.id, p.next, at.CSN})
	}
	return nil
}

// note keeps a sample of all cursors in which each is as likely as any other.
func (r *readers) note(b bookmark) {
	r.offered++
	if len(r.bookmarks) < bookmarksMax {
		r.bookmarks = append(r.bookmarks, b)
	} else if i := r.rng.IntN(r.offered); i < bookmarksMax {
		r.bookmarks[i] = b
	}
}

func (r *readers) summary() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return fmt.Sprintf("%d pages, %d not answered, %d cursors handed out", r.pages, r.refused, r.offered)
}

// check holds everything that can be read, and everything that was read, against the log. The log must be settled, and the feed paused.
func (r *readers) check(a *auditor, bookmarks int) {
	r.t.Helper()
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, c := range r.clients {
		want := a.rowsOf(c.id)
		// All pages, from the start: I12. The follower may be a moment behind us.
		eventually(r.t, startWait, func() string {
			have, err := r.s.rest(c.id, "", r.rng)
			if err != nil {
				return err.Error()
			}
			return differ(c.id, have, want, 0)
		})
		// A client that never began anew: I8.
		for before := c.cursor + "."; before != c.cursor; {
			before = c.cursor
			must(r.t, r.read(c, 1+r.rng.IntN(1500)))
		}
		for id, have := range c.have {
			if w, ok := want[id]; ok && w != have {
				r.t.Fatalf("I8: %s: a client that read on has %+v, want %+v", c.id, have, w)
			} else if !ok {
				delete(c.have, id) // a hard clear, which says nothing of single records
			}
		}
		if len(c.have) != len(want) {
			r.t.Fatalf("I8: %s: a client that read on has %d records, want %d", c.id, len(c.have), len(want))
		}
	}
	// From cursors of any age.
	for range min(bookmarks, len(r.bookmarks)) {
		b := r.bookmarks[r.rng.IntN(len(r.bookmarks))]
		have, err := r.s.rest(b.id, b.cursor, r.rng)
		must(r.t, err)
		if d := differ(b.id, have, a.rowsOf(b.id), b.csn); d != "" {
			r.t.Fatalf("after the cursor %s of csn %d: %s", b.cursor, b.csn, d)
		}
	}
	// Whatever was shown at any time is in the log.
	for partition, versions := range r.seen {
		log := a.parts[partition].versions
		for csn, have := range versions {
			if csn > uint64(len(log)) || log[csn-1] != have {
				r.t.Fatalf("partition %d: a page had %+v, which is not what the log has at csn %d", partition, have, csn)
			}
		}
	}
}

// differ says how the rows that were read differ from those with a csn above after that there are.
func differ(id stream.ID, have, want map[string]row, after uint64) string {
	n := 0
	for rid, w := range want {
		if w.CSN <= after {
			continue
		}
		n++
		if h, ok := have[rid]; !ok || h != w {
			return fmt.Sprintf("%s: record %q is %+v, want %+v", id, rid, h, w)
		}
	}
	if n != len(have) {
		return fmt.Sprintf("%s: %d records, want %d", id, len(have), n)
	}
	return ""
}
