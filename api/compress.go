package api

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"

	"github.com/gin-gonic/gin"
	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
)

const (
	textPlain       = "text/plain; charset=utf-8"
	applicationJSON = "application/json; charset=utf-8"

	encodingZstd = "zstd"
	encodingGzip = "gzip"
)

// compressor encodes whole bodies at the fastest level: records are JSON, whose names repeat, and most of the gain is there.
// Safe for concurrent use.
type compressor struct {
	zstd  *zstd.Encoder
	gzips sync.Pool // of *gzip.Writer
	bufs  sync.Pool // of *bytes.Buffer
}

func newCompressor(concurrency int) (*compressor, error) {
	const window = 1 << 20 // bounds the encoder's memory and what a client has to hold
	z, err := zstd.NewWriter(nil, zstd.WithEncoderLevel(zstd.SpeedFastest), zstd.WithWindowSize(window),
		zstd.WithEncoderConcurrency(concurrency), zstd.WithEncoderCRC(false))
	if err != nil {
		return nil, fmt.Errorf("making a zstd encoder: %w", err)
	}
	c := &compressor{zstd: z}
	c.bufs.New = func() any { return new(bytes.Buffer) }
	c.gzips.New = func() any {
		w, err := gzip.NewWriterLevel(io.Discard, gzip.BestSpeed)
		if err != nil {
			panic("api: making a gzip writer: " + err.Error()) // the level is a constant
		}
		return w
	}
	return c, nil
}

// encode appends body in an encoding to an empty buffer.
func (c *compressor) encode(encoding string, dst *bytes.Buffer, body []byte) error {
	switch encoding {
	case encodingZstd:
		dst.Write(c.zstd.EncodeAll(body, dst.AvailableBuffer()))
		return nil
	case encodingGzip:
		w := c.gzips.Get().(*gzip.Writer)
		defer c.gzips.Put(w)
		w.Reset(dst)
		if _, err := w.Write(body); err != nil {
			return err
		}
		return w.Close()
	}
	return fmt.Errorf("unknown encoding %q", encoding)
}

// send answers 200 with a body, compressed if the client asks for it and it is worth it: the body is not tiny, and it crosses a
// network. Between two processes of one machine compression only costs, and clients ask for it without thinking of that.
func (s *Server) send(c *gin.Context, contentType string, body []byte) error {
	c.Header("Content-Type", contentType)
	c.Header("Vary", "Accept-Encoding")
	encoding := ""
	if len(body) >= s.cfg.CompressBytesMin && (s.cfg.CompressLoopback || crossesNetwork(c.Request)) {
		encoding = acceptedEncoding(c.Request.Header.Values("Accept-Encoding"))
	}
	if encoding != "" {
		buf := s.compressor.bufs.Get().(*bytes.Buffer)
		defer s.compressor.bufs.Put(buf)
		buf.Reset()
		buf.Grow(len(body) / 4)
		if err := s.compressor.encode(encoding, buf, body); err != nil {
			return fmt.Errorf("compressing a body with %s: %w", encoding, err)
		}
		if buf.Len() < len(body) {
			c.Header("Content-Encoding", encoding)
			body = buf.Bytes()
		}
	}
	c.Header("Content-Length", strconv.Itoa(len(body)))
	c.Status(http.StatusOK)
	_, _ = c.Writer.Write(body) // an error means that the client is gone: there is nobody to tell
	return nil
}

// crossesNetwork reports whether the answer leaves this machine: the peer is not on loopback, or it is a proxy.
func crossesNetwork(r *http.Request) bool {
	for _, h := range []string{"Forwarded", "X-Forwarded-For", "Via"} {
		if r.Header.Get(h) != "" {
			return true
		}
	}
	host, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		return true
	}
	ip := net.ParseIP(host)
	return ip == nil || !ip.IsLoopback()
}

// acceptedEncoding picks from Accept-Encoding (RFC 9110, 12.5.3) what the client likes best of ours; zstd before gzip if it does
// not care. "" means as it is.
func acceptedEncoding(header []string) string {
	weights := map[string]float64{}
	for _, line := range header {
		for part := range strings.SplitSeq(line, ",") {
			name, params, _ := strings.Cut(part, ";")
			q := 1.0
			if v, ok := strings.CutPrefix(strings.ToLower(strings.ReplaceAll(params, " ", "")), "q="); ok {
				w, err := strconv.ParseFloat(v, 64)
				if err != nil {
					w = 0
				}
				q = w
			}
			weights[strings.ToLower(strings.TrimSpace(name))] = q
		}
	}
	best, bestWeight := "", 0.0
	for _, e := range []string{encodingZstd, encodingGzip} {
		w, ok := weights[e]
		if !ok {
			w = weights["*"]
		}
		if w > bestWeight {
			best, bestWeight = e, w
		}
	}
	if w, ok := weights["identity"]; ok && w > bestWeight {
		return ""
	}
	return best
}
