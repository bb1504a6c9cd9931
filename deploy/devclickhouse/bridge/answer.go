package bridge

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"time"

	"github.com/tidemark-dev/tidemark/deploy/devclickhouse/chdb"
)

// sendTimeout is how long a client may not take what is written to it.
const sendTimeout = 2 * time.Minute

// errClientGone marks a failure to write to the client, who then needs no answer.
var errClientGone = errors.New("the client has gone")

// answer is the response to one statement. Its status is sent with the first byte of the result.
type answer struct {
	server  *Server
	http    http.ResponseWriter
	control *http.ResponseController
	request *http.Request
	req     *request
	began   time.Time
	stats   chdb.Stats
	tag     string

	started bool
	body    io.Writer // what the result is written to
	encoder encoder   // the Content-Encoding around it, or nil
}

func newAnswer(s *Server, w http.ResponseWriter, r *http.Request) *answer {
	return &answer{server: s, http: w, control: http.NewResponseController(w), request: r, began: time.Now()}
}

func (a *answer) prepare(req *request) {
	a.req = req
	a.tag = randomText(8)
	h := a.http.Header()
	h.Set("X-ClickHouse-Query-Id", req.queryID)
	h.Set("X-ClickHouse-Exception-Tag", a.tag)
}

func (a *answer) count(stats chdb.Stats) { a.stats.Add(stats) }

// summary are the counts as ClickHouse prints them: numbers as text.
func (a *answer) summary() string {
	text := func(n uint64) string { return strconv.FormatUint(n, 10) }
	out, err := json.Marshal(struct {
		ReadRows     string `json:"read_rows"`
		ReadBytes    string `json:"read_bytes"`
		WrittenRows  string `json:"written_rows"`
		WrittenBytes string `json:"written_bytes"`
		ResultRows   string `json:"result_rows"`
		ResultBytes  string `json:"result_bytes"`
		Elapsed      string `json:"elapsed_ns"`
	}{
		text(a.stats.StorageRows), text(a.stats.StorageBytes), text(a.stats.WrittenRows), text(a.stats.WrittenBytes),
		text(a.stats.ResultRows), text(a.stats.ResultBytes), strconv.FormatInt(time.Since(a.began).Nanoseconds(), 10),
	})
	if err != nil {
		panic(err) // seven strings
	}
	return string(out)
}

func (a *answer) describe() {
	h := a.http.Header()
	h.Set("X-ClickHouse-Server-Display-Name", a.server.displayName)
	h.Set("X-ClickHouse-Timezone", a.server.timezone)
}

// write sends a part of the result, which is in the format.
func (a *answer) write(p []byte, format string) error {
	if len(p) == 0 {
		return nil
	}
	if !a.started {
		a.start(format)
	}
	if err := a.control.SetWriteDeadline(time.Now().Add(sendTimeout)); err != nil && !errors.Is(err, http.ErrNotSupported) {
		return errClientGone
	}
	if _, err := a.body.Write(p); err != nil {
		return errClientGone
	}
	if a.encoder != nil {
		if err := a.encoder.Flush(); err != nil {
			return errClientGone
		}
	}
	if err := a.control.Flush(); err != nil && !errors.Is(err, http.ErrNotSupported) {
		return errClientGone
	}
	return nil
}

func (a *answer) start(format string) {
	a.started = true
	a.describe()
	h := a.http.Header()
	h.Set("X-ClickHouse-Format", format)
	h.Set("Content-Type", contentType(format))
	h.Set("X-ClickHouse-Summary", a.summary())
	a.body = a.http
	if encoding := chooseEncoding(a.request.Header.Get("Accept-Encoding")); encoding != "" && !a.req.noEncoding && !a.req.compress {
		if encoder, err := newEncoder(a.http, encoding); err == nil {
			h.Set("Content-Encoding", encoding)
			a.encoder, a.body = encoder, encoder
		}
	}
	a.http.WriteHeader(http.StatusOK)
	if a.req.compress {
		a.body = newFrameWriter(a.body, a.req.frameMethod)
	}
}

// finish ends an answer that did not fail.
func (a *answer) finish() {
	if !a.started { // no rows, or none to return
		a.describe()
		h := a.http.Header()
		h.Set("X-ClickHouse-Summary", a.summary())
		h.Set("Content-Length", "0")
		a.http.WriteHeader(http.StatusOK)
		return
	}
	if a.encoder != nil {
		a.encoder.Close() // an error is that of a client who has gone
	}
}

// fail answers with an error. After the status has gone out, it is written behind the result, not compressed into blocks, and the
// connection is cut instead of ending the body, so that no client takes the result for whole.
func (a *answer) fail(err error) {
	if errors.Is(err, errClientGone) {
		panic(http.ErrAbortHandler)
	}
	e := newException(err, a.server.version)
	if e.code == codeUnknownException {
		a.server.log.Warn("a statement failed inside the bridge", "err", err)
	}
	if !a.started {
		a.describe()
		h := a.http.Header()
		h.Set("X-ClickHouse-Exception-Code", strconv.Itoa(e.code))
		if name := e.name(); name != "" {
			h.Set("X-ClickHouse-Exception-Name", name)
		}
		h.Set("Content-Type", "text/plain; charset=UTF-8")
		a.http.WriteHeader(e.status)
		io.WriteString(a.http, e.text+"\n")
		return
	}
	to := io.Writer(a.http)
	if a.encoder != nil {
		to = a.encoder
	}
	fmt.Fprintf(to, "\r\n__exception__\r\n%s\r\n%s\n%d %s\r\n__exception__\r\n", a.tag, e.text, len(e.text)+1, a.tag)
	if a.encoder != nil {
		a.encoder.Close()
	}
	a.control.Flush()
	panic(http.ErrAbortHandler)
}
