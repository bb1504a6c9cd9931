package api

import (
	"encoding/json"

	"github.com/gin-gonic/gin"

	"github.com/tidemark-dev/tidemark/schemas/cursor"
)

// cursorPosition is the answer of GET /v1/cursors/{cursor}: where a cursor stands on the changes topic.
type cursorPosition struct {
	Cursor    string `json:"cursor"`
	Topic     string `json:"topic"`
	Partition int32  `json:"partition"`
	CSN       uint64 `json:"csn"`
	Term      uint32 `json:"term"`
	// Offset is that of the last change read, NextOffset where a Kafka consumer goes on; null if the cursor stands behind a row
	// that was examined and not returned. Such a cursor is as good for the API; a record's own cursor always has an offset.
	Offset     *int64 `json:"offset"`
	NextOffset *int64 `json:"next_offset"`
}

// showCursor is GET /v1/cursors/{cursor}. It takes cursors of any stream: nothing is read.
func (s *Server) showCursor(c *gin.Context) error {
	p, err := parseParameters(c.Request.URL.RawQuery, nil)
	if err != nil {
		return err
	}
	if err := p.err(); err != nil {
		return err
	}
	text, err := pathValue(c, "cursor")
	if err != nil {
		return cursorError(text, err)
	}
	at, err := cursor.Parse(text)
	if err != nil {
		return cursorError(text, err)
	}
	position := cursorPosition{Cursor: text, Topic: s.cfg.ChangesTopic, Partition: at.Partition, CSN: at.CSN, Term: at.Term}
	if at.Offset >= 0 {
		next := at.Offset + 1
		position.Offset, position.NextOffset = &at.Offset, &next
	}
	body, err := json.Marshal(position)
	if err != nil {
		return err
	}
	return s.send(c, applicationJSON, append(body, '\n'))
}
