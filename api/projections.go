package api

import (
	"bytes"
	"encoding/json"
	"fmt"
	"time"

	"github.com/gin-gonic/gin"
)

// ProjectionsReport is how the projections are, as the process that writes them knows: it can be had while ClickHouse is away, which is when it
// matters.
type ProjectionsReport interface {
	Projections() Projections
}

// Projections says how far the projections are behind, and how long that may last.
type Projections struct {
	State  string `json:"state"` // off, starting, fetching, waiting, catching_up, live, away, blocked or stopped
	Reason string `json:"reason,omitempty"`
	// Since is when the state began; LastWrite when rows were last written. Absent: not known.
	Since     *time.Time `json:"since,omitempty"`
	LastWrite *time.Time `json:"last_write_at,omitempty"`
	Behind    int64      `json:"behind_records"`
	BehindMS  int64      `json:"behind_ms"` // age of the newest change that is written, where more waits
	// SecondsToLoss is how long the log still keeps the oldest change that is not written; null: nothing waits, or it keeps everything.
	SecondsToLoss *int64                `json:"seconds_to_data_loss"`
	Partitions    []ProjectionPartition `json:"partitions"`
}

// ProjectionPartition is one partition of the changes topic.
type ProjectionPartition struct {
	Partition int32  `json:"partition"`
	CSN       uint64 `json:"csn"` // of the last change that is written
	Behind    int64  `json:"behind_records"`
	BehindMS  int64  `json:"behind_ms"`
}

func (s *Server) projections(c *gin.Context) error {
	if _, err := parseParameters(c.Request.URL.RawQuery, nil); err != nil {
		return err
	}
	p := Projections{State: "off"}
	if report, ok := s.observability.(ProjectionsReport); ok {
		p = report.Projections()
	}
	if p.Partitions == nil {
		p.Partitions = []ProjectionPartition{}
	}
	var body bytes.Buffer
	if err := json.NewEncoder(&body).Encode(p); err != nil {
		return fmt.Errorf("encoding an answer: %w", err)
	}
	c.Header("Cache-Control", "no-store")
	return s.send(c, applicationJSON, body.Bytes())
}
