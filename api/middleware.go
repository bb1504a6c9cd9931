package api

import (
	"context"
	"crypto/rand"
	"fmt"
	"log/slog"
	"net/http"
	"runtime/debug"
	"strconv"
	"time"

	"github.com/gin-gonic/gin"

	"github.com/tidemark-dev/tidemark/schemas/errcode"
)

const (
	requestIDHeader = "X-Request-Id"
	requestIDKey    = "request_id"
	requestIDMax    = 64 // bytes of an id that a client may choose
)

// chain is what every request goes through, in this order; the last one answers.
func (s *Server) chain(label string, d func(path string) dialect, handle func(*gin.Context) error) []gin.HandlerFunc {
	return []gin.HandlerFunc{s.identify, s.observe(label), s.bound, s.answer(d, handle)}
}

// identify gives the request an id, the client's own if it is a harmless one.
func (s *Server) identify(c *gin.Context) {
	id := c.GetHeader(requestIDHeader)
	if !validRequestID(id) {
		id = rand.Text()
	}
	c.Set(requestIDKey, id)
	c.Header(requestIDHeader, id)
	c.Header("X-Content-Type-Options", "nosniff")
}

func validRequestID(id string) bool {
	for i := 0; i < len(id); i++ {
		switch c := id[i]; {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9', c == '-', c == '_':
		default:
			return false
		}
	}
	return id != "" && len(id) <= requestIDMax
}

// observe counts the request, times it, and writes the access log, which is at debug level and holds no parameters.
func (s *Server) observe(label string) gin.HandlerFunc {
	m := s.metrics.route(label)
	return func(c *gin.Context) {
		start := time.Now()
		s.metrics.inflight.Inc()
		defer func() { // also when the connection is cut by a panic
			took := time.Since(start)
			s.metrics.inflight.Dec()
			m.duration.Observe(took.Seconds())
			m.requests.WithLabelValues(strconv.Itoa(c.Writer.Status())).Inc()
			s.log.LogAttrs(context.WithoutCancel(c.Request.Context()), slog.LevelDebug, "request",
				slog.String("request_id", c.GetString(requestIDKey)),
				slog.String("method", c.Request.Method),
				slog.String("route", label),
				slog.Int("status", c.Writer.Status()),
				slog.Int("bytes", max(c.Writer.Size(), 0)),
				slog.Float64("duration_ms", float64(took.Microseconds())/1000))
		}()
		c.Next()
	}
}

// bound limits the time of a request, and its body if the length is not known in advance.
func (s *Server) bound(c *gin.Context) {
	ctx, cancel := context.WithTimeout(c.Request.Context(), s.cfg.RequestTimeout)
	defer cancel()
	c.Request = c.Request.WithContext(ctx)
	if c.Request.Body != nil {
		c.Request.Body = http.MaxBytesReader(c.Writer, c.Request.Body, s.cfg.BodyBytesMax)
	}
	c.Next()
}

// answer runs the handler. Its error, or its panic, becomes an answer in the route's dialect.
func (s *Server) answer(d func(path string) dialect, handle func(*gin.Context) error) gin.HandlerFunc {
	return func(c *gin.Context) {
		if err := s.guarded(c, handle); err != nil {
			s.fail(c, d(c.Request.URL.Path), err)
		}
	}
}

// guarded refuses a body that is known to be too large, and turns a panic into an error. The stack is for the log alone.
func (s *Server) guarded(c *gin.Context, handle func(*gin.Context) error) (err error) {
	defer func() {
		switch p := recover(); p {
		case nil:
		case http.ErrAbortHandler:
			panic(p)
		default:
			err = fmt.Errorf("handler panicked: %v\n%s", p, debug.Stack())
		}
	}()
	if n := c.Request.ContentLength; n > s.cfg.BodyBytesMax {
		c.Header("Connection", "close") // rather than read what nobody wants
		return errcode.New(errcode.InvalidBody, "it has %d bytes, at most %d are allowed", n, s.cfg.BodyBytesMax)
	}
	return handle(c)
}
