package bridge

import (
	"bytes"
	"compress/gzip"
	"compress/zlib"
	"errors"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/ClickHouse/ch-go/compress"
	"github.com/andybalholm/brotli"
	"github.com/klauspost/compress/zstd"
	"github.com/pierrec/lz4/v4"
)

// receiveTimeout is how long a client may pause in the middle of a body.
const receiveTimeout = 2 * time.Minute

// maxWindow bounds the memory that a zstd body can ask for.
const maxWindow = 64 << 20

// openBody returns the request's body as it was before it was compressed. A body that was cut ends in an error that is not io.EOF,
// in every encoding: what was cut must not be stored.
func openBody(w http.ResponseWriter, r *http.Request, decompress bool) (io.Reader, error) {
	var body io.Reader = &patientReader{body: r.Body, control: http.NewResponseController(w)}
	var err error
	switch encoding := strings.ToLower(r.Header.Get("Content-Encoding")); encoding {
	case "", "identity":
	case "gzip", "x-gzip":
		body, err = gzip.NewReader(body)
	case "deflate":
		body, err = zlib.NewReader(body)
	case "br":
		body = brotli.NewReader(body)
	case "lz4":
		body = lz4.NewReader(body)
	case "zstd":
		var decoder *zstd.Decoder
		if decoder, err = zstd.NewReader(body, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxWindow(maxWindow)); err == nil {
			body = decoder.IOReadCloser()
		}
	default:
		return nil, refuse(codeNotImplemented, "Content-Encoding %q is not known", encoding)
	}
	if err != nil {
		return nil, refuse(codeCannotDecompress, "Cannot decompress the request: %v", err)
	}
	if decompress {
		body = &frameReader{frames: compress.NewReader(body)}
	}
	return body, nil
}

// patientReader gives every read its own time, so that a body may take as long as it keeps coming.
type patientReader struct {
	body    io.Reader
	control *http.ResponseController
}

func (r *patientReader) Read(p []byte) (int, error) {
	if err := r.control.SetReadDeadline(time.Now().Add(receiveTimeout)); err != nil && !errors.Is(err, http.ErrNotSupported) {
		return 0, err
	}
	return r.body.Read(p)
}

// frameReader reads ClickHouse's compressed blocks. Their reader wraps the end of the input into an error of its own; the end
// between two blocks is an end, and inside one it is not.
type frameReader struct{ frames *compress.Reader }

func (r *frameReader) Read(p []byte) (int, error) {
	n, err := r.frames.Read(p)
	if errors.Is(err, io.EOF) {
		err = io.EOF
	}
	return n, err
}

// Writing.

// maxFrame is the size of a compressed block before compression, that of ClickHouse.
const maxFrame = 1 << 20

// frameWriter writes ClickHouse's compressed blocks, one or more for each Write.
type frameWriter struct {
	to     io.Writer
	frames *compress.Writer
}

func newFrameWriter(to io.Writer, method string) *frameWriter {
	m, level := compress.LZ4, compress.LevelZero
	switch strings.ToUpper(method) {
	case "ZSTD":
		m = compress.ZSTD
	case "LZ4HC":
		m, level = compress.LZ4HC, compress.LevelLZ4HCDefault
	case "NONE":
		m = compress.None
	}
	return &frameWriter{to: to, frames: compress.NewWriter(level, m)}
}

func (w *frameWriter) Write(p []byte) (int, error) {
	for done := 0; done < len(p); {
		n := min(len(p)-done, maxFrame)
		if err := w.frames.Compress(p[done : done+n]); err != nil {
			return done, err
		}
		if _, err := w.to.Write(w.frames.Data); err != nil {
			return done, err
		}
		done += n
	}
	return len(p), nil
}

// encoder is the writer of a Content-Encoding.
type encoder interface {
	io.WriteCloser
	Flush() error
}

// chooseEncoding returns the first encoding of Accept-Encoding that the bridge writes, in the order in which ClickHouse prefers
// them, or "". Weights are not looked at, as ClickHouse does not.
func chooseEncoding(accept string) string {
	for _, name := range []string{"br", "gzip", "zstd", "deflate", "lz4"} {
		for _, item := range strings.Split(accept, ",") {
			item, weight, _ := strings.Cut(strings.TrimSpace(item), ";")
			if strings.EqualFold(item, name) && strings.ReplaceAll(weight, " ", "") != "q=0" {
				return name
			}
		}
	}
	return ""
}

// newEncoder favours speed: the other end is near.
func newEncoder(to io.Writer, encoding string) (encoder, error) {
	switch encoding {
	case "br":
		return brotli.NewWriterLevel(to, 1), nil
	case "gzip":
		return gzip.NewWriterLevel(to, gzip.BestSpeed)
	case "deflate":
		return zlib.NewWriterLevel(to, zlib.BestSpeed)
	case "lz4":
		return lz4.NewWriter(to), nil
	case "zstd":
		return zstd.NewWriter(to, zstd.WithEncoderLevel(zstd.SpeedFastest), zstd.WithEncoderConcurrency(1))
	}
	return nil, refuse(codeNotImplemented, "Accept-Encoding %q is not known", encoding)
}

// readHead reads from r until enough says so, the input ends, or there are limit bytes. It returns what it read, and whether that
// is everything.
func readHead(r io.Reader, limit int, enough func(head []byte) bool) (head []byte, all bool, err error) {
	var b bytes.Buffer
	for step := 4 << 10; ; step = min(2*step, 1<<20) {
		n, err := io.CopyN(&b, r, int64(min(step, limit+1-b.Len())))
		switch {
		case errors.Is(err, io.EOF):
			return b.Bytes(), true, nil
		case err != nil:
			return nil, false, err
		case b.Len() > limit, n > 0 && enough(b.Bytes()):
			return b.Bytes(), false, nil
		}
	}
}
