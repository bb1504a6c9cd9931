package api

import (
	"context"
	"errors"
	"net/http"

	"github.com/gin-gonic/gin"

	"github.com/tidemark-dev/tidemark/schemas/cursor"
	"github.com/tidemark-dev/tidemark/schemas/errcode"
	"github.com/tidemark-dev/tidemark/schemas/stream"
)

var recordsParameters = []string{"model", "variant", "cursor", "limit", "filter", "modified_after", "delta", "ids"}

// recordsQuery reads what a client asks of GET /records.
func (s *Server) recordsQuery(r *http.Request) (q Query, tag cursor.Tag, err error) {
	p, err := parseParameters(r.URL.RawQuery, recordsParameters)
	if err != nil {
		return q, tag, err
	}
	q.Stream = stream.ID{Environment: s.cfg.Environment, Model: p.model(), Variant: p.variant()}
	q.Limit = p.limit()
	q.Actions = p.filter()
	q.ModifiedAfterMS = p.modifiedAfter()
	q.IDs = p.ids()
	position, hasPosition := p.one("cursor")
	if err := p.err(); err != nil {
		return q, tag, err
	}
	if q.Stream.Integration, q.Stream.Connection, err = parseConnection(r.Header); err != nil {
		return q, tag, err
	}
	q.ScanMax = q.Limit + s.cfg.ScanExtraMax
	tag = cursor.TagOf(q.Stream.Key(), s.cfg.Lineage)
	if hasPosition {
		at, err := parseCursor(position, tag)
		if err != nil {
			return q, tag, err
		}
		q.After = at.CSN
	}
	return q, tag, nil
}

// records is GET /records.
func (s *Server) records(c *gin.Context) error {
	q, tag, err := s.recordsQuery(c.Request)
	if err != nil {
		return err
	}
	ctx := c.Request.Context()
	release, err := s.slot(ctx)
	if err != nil {
		return err
	}
	defer release()
	p := s.pages.Get().(*page)
	defer s.pages.Put(p)
	if err := s.read(ctx, q, tag, p); err != nil {
		return err
	}
	c.Header("Cache-Control", "no-store")
	return s.send(c, applicationJSON, p.buf)
}

// slot waits for one of the places that bound the memory of pages. The caller gives it back.
func (s *Server) slot(ctx context.Context) (release func(), err error) {
	select {
	case s.slots <- struct{}{}:
	default:
		s.metrics.waitingReaders.Inc()
		defer s.metrics.waitingReaders.Dec()
		select {
		case s.slots <- struct{}{}:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	return func() { <-s.slots }, nil
}

// page is one answer being made.
type page struct {
	buf     []byte
	records int
	last    cursor.Cursor // of the last record
	render  renderer
}

// errPageFull ends a walk: the next record would take the page over its bytes.
var errPageFull = errors.New("the page is full")

// read fills p. It returns an error for what is not an answer; an empty page is one.
func (s *Server) read(ctx context.Context, q Query, tag cursor.Tag, p *page) error {
	p.buf = append(p.buf[:0], `{"records":[`...)
	p.records, p.last, p.render.tag = 0, cursor.Cursor{}, tag
	const tailBytes = len(`],"next_cursor":""}`) + cursor.TextLength
	end, err := s.view.Page(ctx, q, func(row *Row) error {
		mark := len(p.buf)
		if p.records > 0 {
			p.buf = append(p.buf, ',')
		}
		var err error
		if p.buf, err = p.render.appendRecord(p.buf, row); err != nil {
			return err
		}
		if p.records > 0 && len(p.buf)+tailBytes > s.cfg.PageBytesMax {
			p.buf = p.buf[:mark]
			return errPageFull
		}
		p.records++
		p.last = p.render.at(row)
		return nil
	})
	next := p.last
	more := true
	switch {
	case errors.Is(err, errPageFull): // the record that did not fit is more
	case err != nil:
		return err
	default:
		if p.records == 0 {
			if err := s.explainEmpty(ctx, q, end); err != nil {
				return err
			}
		}
		more = end.More
		if end.LastCSN > next.CSN { // rows examined behind the last record need not be examined again
			next = cursor.Cursor{CSN: end.LastCSN, Offset: -1, Partition: end.Partition, Tag: tag}
		}
	}
	if more {
		p.buf = append(p.buf, `],"next_cursor":"`...)
		p.buf = next.AppendText(p.buf)
		p.buf = append(p.buf, `"}`...)
	} else {
		p.buf = append(p.buf, `],"next_cursor":null}`...)
	}
	s.metrics.pageRecords.Observe(float64(p.records))
	s.metrics.pageBytes.Observe(float64(len(p.buf)))
	return nil
}

// explainEmpty tells "no news", which is nil, from reasons that a client must hear of.
func (s *Server) explainEmpty(ctx context.Context, q Query, end PageEnd) error {
	if q.After > end.Applied {
		return errcode.New(errcode.CursorAhead, "it names csn %d, and the newest of partition %d is %d", q.After, end.Partition, end.Applied)
	}
	if q.After > 0 || end.LastCSN > 0 {
		return nil // the stream is known: it handed out the cursor, or rows were examined
	}
	known, err := s.view.Streams(ctx, stream.ID{Environment: q.Stream.Environment, Integration: q.Stream.Integration, Connection: q.Stream.Connection})
	if err != nil {
		return err
	}
	if len(known) > 0 {
		return nil
	}
	if waiting := s.view.Ready(); len(waiting) > 0 { // a partition that is not there yet may know the connection
		return errcode.New(errcode.NotReady, "it waits for %s: %s", waiting[0].Component, waiting[0].Reason)
	}
	return errcode.New(errcode.UnknownConnection, "")
}
