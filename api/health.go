package api

import (
	"encoding/json"
	"fmt"
	"net/http"

	"github.com/gin-gonic/gin"
)

// livez says that the process answers. It asks nothing of the view: a process that catches up must not be restarted for it.
func (s *Server) livez(c *gin.Context) error {
	c.Header("Cache-Control", "no-store")
	if wantsText(c) {
		c.Data(http.StatusOK, textPlain, []byte("alive\n"))
	} else {
		c.Data(http.StatusOK, applicationJSON, []byte(`{"alive":true}`+"\n"))
	}
	return nil
}

type conditionBody struct {
	Component string `json:"component"`
	Partition *int32 `json:"partition"` // null: not about one partition
	Reason    string `json:"reason"`
}

// readyz says whether every stream can be read, and if not, what it waits for.
func (s *Server) readyz(c *gin.Context) error {
	waiting := s.view.Ready()
	status := http.StatusOK
	if len(waiting) > 0 {
		status = http.StatusServiceUnavailable
		c.Header("Retry-After", "1")
	}
	c.Header("Cache-Control", "no-store")
	if wantsText(c) {
		text := []byte("ready\n")
		if len(waiting) > 0 {
			text = []byte("not ready\n")
		}
		for _, w := range waiting {
			text = append(text, w.Component...)
			if w.Partition >= 0 {
				text = fmt.Appendf(text, ", partition %d", w.Partition)
			}
			text = fmt.Appendf(text, ": %s\n", w.Reason)
		}
		c.Data(status, textPlain, text)
		return nil
	}
	body := struct {
		Ready      bool            `json:"ready"`
		Conditions []conditionBody `json:"conditions"`
	}{len(waiting) == 0, make([]conditionBody, len(waiting))}
	for i, w := range waiting {
		body.Conditions[i] = conditionBody{Component: w.Component, Reason: w.Reason}
		if w.Partition >= 0 {
			body.Conditions[i].Partition = &waiting[i].Partition
		}
	}
	b, err := json.Marshal(body)
	if err != nil {
		return err
	}
	c.Data(status, applicationJSON, append(b, '\n'))
	return nil
}

// exposition hands over to promhttp, which compresses by itself.
func (s *Server) exposition(c *gin.Context) error {
	s.promHandler.ServeHTTP(c.Writer, c.Request)
	return nil
}

// wantsText reports whether the client names plain text before JSON. Who names neither gets JSON.
func wantsText(c *gin.Context) bool {
	return c.NegotiateFormat(gin.MIMEJSON, gin.MIMEPlain) == gin.MIMEPlain
}
