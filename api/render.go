package api

import (
	"fmt"
	"time"

	"github.com/tidemark-dev/tidemark/schemas/cursor"
	"github.com/tidemark-dev/tidemark/schemas/event"
)

// renderer writes the records of one page. Not safe for concurrent use.
type renderer struct {
	tag    cursor.Tag
	idText []byte // scratch
	seen   stamp  // two stamps, because each is fast on runs of equal or near times
	last   stamp
}

// appendRecord appends one record: payload members, id, _nango_metadata.
func (r *renderer) appendRecord(dst []byte, row *Row) ([]byte, error) {
	r.idText = appendJSONString(r.idText[:0], row.ID)
	if row.PrunedAtMS != 0 || len(row.Payload) == 0 {
		dst = appendID(append(dst, '{'), r.idText, false)
	} else {
		var err error
		if dst, err = appendMembers(dst, row.Payload, r.idText); err != nil {
			return dst, fmt.Errorf("reading csn %d of partition %d: %w", row.CSN, row.Partition, err)
		}
	}
	dst = append(dst, `,"_nango_metadata":{"first_seen_at":`...)
	dst = r.seen.append(dst, row.FirstSeenMS)
	dst = append(dst, `,"last_modified_at":`...)
	dst = r.last.append(dst, row.TSMillis)
	dst = append(dst, `,"last_action":"`...)
	dst = append(dst, row.Op.String()...)
	dst = append(dst, `","deleted_at":`...)
	if row.Op == event.OpDeleted {
		dst = r.last.append(dst, row.TSMillis)
	} else {
		dst = append(dst, "null"...)
	}
	dst = append(dst, `,"pruned_at":`...)
	if row.PrunedAtMS != 0 {
		dst = r.last.append(dst, row.PrunedAtMS)
	} else {
		dst = append(dst, "null"...)
	}
	dst = append(dst, `,"cursor":"`...)
	dst = r.at(row).AppendText(dst)
	return append(dst, `"}}`...), nil
}

// at is the cursor of a row.
func (r *renderer) at(row *Row) cursor.Cursor {
	return cursor.Cursor{CSN: row.CSN, Offset: row.Offset, Partition: row.Partition, Term: row.Term, Tag: r.tag}
}

// stamp writes times as quoted RFC 3339 in UTC with milliseconds. It keeps the text of the last one: the records of a commit
// share their time, and those of a page their day.
type stamp struct {
	ms   int64
	day  int64
	text []byte // the quoted text of ms; empty: none yet
}

const dayMS = 24 * 60 * 60 * 1000

func (s *stamp) append(dst []byte, ms int64) []byte {
	if len(s.text) != 0 && ms == s.ms {
		return append(dst, s.text...)
	}
	day, rest := ms/dayMS, ms%dayMS
	if rest < 0 {
		day, rest = day-1, rest+dayMS
	}
	const clock = `00:00:00.000Z"`
	if len(s.text) == 0 || day != s.day {
		s.text = time.UnixMilli(day*dayMS).UTC().AppendFormat(s.text[:0], `"2006-01-02T`)
		s.text = append(s.text, clock...)
	}
	s.ms, s.day = ms, day
	t := s.text[len(s.text)-len(clock):]
	put := func(at, n int, v int64) {
		for i := at + n - 1; i >= at; i-- {
			t[i] = byte('0' + v%10)
			v /= 10
		}
	}
	put(0, 2, rest/3_600_000)
	put(3, 2, rest/60_000%60)
	put(6, 2, rest/1000%60)
	put(9, 3, rest%1000)
	return append(dst, s.text...)
}
