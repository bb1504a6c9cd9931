package bridge

import (
	"context"
	"errors"
	"io"
	"mime"
	"net/http"

	"github.com/tidemark-dev/tidemark/deploy/devclickhouse/chdb"
)

const (
	// maxQuery bounds the text of a statement. The engine's own limit, max_query_size, is 256 KiB unless it is set higher.
	maxQuery      = 16 << 20
	defaultFormat = "TabSeparated"
	insertBuffer  = 1 << 20
)

// request is one statement on its way.
type request struct {
	*parameters
	http   *http.Request
	access access
	// readonly is the engine's setting of this name: 1 for a login that only reads, 2 for a GET, which may change settings.
	readonly string

	sql      []byte    // the text, or its beginning if data follows
	rest     io.Reader // what follows the text
	external []*externalTable
	mark     string
}

// serveQuery answers one statement.
func (s *Server) serveQuery(w http.ResponseWriter, r *http.Request) {
	a := newAnswer(s, w, r)
	who := s.authenticate(r)
	if who == nobody {
		a.fail(refuse(codeAuthentication, "Authentication failed: password is incorrect, or there is no user with such name."))
		return
	}
	p, err := splitParameters(r.URL.Query(), r.Header, s.knownSettings)
	if err != nil {
		a.fail(err)
		return
	}
	req := &request{parameters: p, http: r, access: who, mark: s.killer.mark(), readonly: "0"}
	switch {
	case who == reader:
		req.readonly = "1"
	case r.Method != http.MethodPost:
		req.readonly = "2"
	}
	if req.queryID == "" {
		req.queryID = randomText(16)
	}
	a.prepare(req)
	if err := s.answer(w, req, a); err != nil {
		a.fail(err)
		return
	}
	a.finish()
}

// answer reads the statement, runs it, and writes what comes of it.
func (s *Server) answer(w http.ResponseWriter, req *request, a *answer) error {
	if err := req.readSQL(w, s); err != nil {
		return err
	}
	format := req.defaultFormat
	if format == "" {
		format = defaultFormat
	}
	if isHello(req.sql, format) {
		return a.write(helloBlock(s.displayName, s.version, s.timezone), "Native")
	}
	if head, shape := splitInsert(req.sql, req.rest == nil); shape == insertData {
		return s.insert(req, head, a)
	}
	stmt := newStatement(req.sql)
	if stmt.empty() {
		return refuse(codeSyntaxError, "Syntax error: Empty query.")
	}
	if stmt.several() {
		return refuse(codeSyntaxError, "Syntax error (Multi-statements are not allowed)")
	}
	if f := stmt.refusal(req.params); f != nil {
		return f
	}
	if req.access == reader {
		if f := stmt.readOnlyRefusal(); f != nil {
			return f
		}
	}
	if explicit := stmt.format(); explicit != "" {
		format = explicit
	}
	return s.withConnection(req, func(ctx context.Context, conn *chdb.Conn) error {
		analysis, err := conn.Classify(string(req.sql))
		if err != nil {
			return err
		}
		switch {
		case analysis.Statements > 1:
			return refuse(codeSyntaxError, "Syntax error (Multi-statements are not allowed)")
		// A text that does not parse changes nothing, and the engine says best what is wrong with it.
		case analysis.Statements == 1 && analysis.Class != chdb.ReadOnly && req.readonly != "0":
			return refuse(codeReadonly, "Cannot execute query in readonly mode. For queries over HTTP, method GET implies readonly. You should use method POST for modifying queries")
		case analysis.Statements == 1 && analysis.Class == chdb.ReadOnly && stmt.selects() && concatenable(format) && !req.waitEnd:
			return stream(conn, req, format, a)
		}
		result, err := conn.Query(string(req.sql), format, req.arguments()...)
		if err != nil {
			return err
		}
		defer result.Close()
		a.count(result.Stats())
		return a.write(result.Bytes(), format)
	})
}

// stream writes a result part by part. The first part is there before the status is sent, as most failures are.
func stream(conn *chdb.Conn, req *request, format string, a *answer) error {
	parts, err := conn.Stream(string(req.sql), format, req.arguments()...)
	if err != nil {
		return err
	}
	defer parts.Close()
	for {
		part, err := parts.Next()
		if part == nil || err != nil {
			return err
		}
		a.count(part.Stats())
		err = a.write(part.Bytes(), format)
		part.Close()
		if err != nil {
			return err
		}
	}
}

// insert runs an INSERT whose data follows its text, in the URL or in the body. Data never goes through the engine's parser of
// statements, which takes a blank line for the end of the data and what follows for the next statement.
func (s *Server) insert(req *request, head insertHead, a *answer) error {
	if req.readonly != "0" {
		return refuse(codeReadonly, "Cannot execute query in readonly mode.")
	}
	if head.format == "" {
		return refuse(codeUnknownFormat, "FORMAT is not followed by a name")
	}
	if f := newStatement(req.sql[:head.statement]).refusal(req.params); f != nil {
		return f
	}
	return s.withConnection(req, func(ctx context.Context, conn *chdb.Conn) error {
		insert, err := conn.Insert(string(req.sql[:head.statement]), head.format, req.arguments()...)
		if err != nil {
			return err
		}
		defer insert.Close() // drops the data, unless Done came first
		if err := insert.Append(req.sql[head.data:]); err != nil {
			return err
		}
		if req.rest != nil {
			if err := appendAll(ctx, insert, req.rest); err != nil {
				return err
			}
		}
		stats, err := insert.Done()
		if err != nil {
			return err
		}
		a.count(stats)
		return nil
	})
}

// appendAll copies r into the insert. It does not use io.ReadFull or the like: a body that is cut also ends in
// io.ErrUnexpectedEOF there, and would be stored.
func appendAll(ctx context.Context, insert *chdb.Insert, r io.Reader) error {
	buffer := make([]byte, insertBuffer)
	for {
		n := 0
		var err error
		for n < len(buffer) && err == nil {
			var m int
			m, err = r.Read(buffer[n:])
			n += m
		}
		if err != nil && !errors.Is(err, io.EOF) || ctx.Err() != nil {
			return refuse(codeNetwork, "The data of the INSERT was cut off: %v", errors.Join(err, ctx.Err()))
		}
		if appendErr := insert.Append(buffer[:n]); appendErr != nil {
			return appendErr
		}
		if err != nil {
			return nil
		}
	}
}

// readSQL reads the statement: all of it, or, if it is an INSERT with data, its beginning.
func (req *request) readSQL(w http.ResponseWriter, s *Server) error {
	if req.http.Method != http.MethodPost {
		req.sql = []byte(req.query)
		return nil
	}
	body, err := openBody(w, req.http, req.decompress)
	if err != nil {
		return err
	}
	if kind, media, err := mime.ParseMediaType(req.http.Header.Get("Content-Type")); err == nil && kind == "multipart/form-data" {
		return req.readForm(body, media["boundary"], s)
	}
	sql := []byte(req.query)
	if len(sql) > 0 {
		sql = append(sql, '\n') // a server puts one between the two parts as well
	}
	if _, shape := splitInsert(sql, false); shape == insertData {
		req.sql, req.rest = sql, body
		return nil
	}
	head, all, err := readHead(body, maxQuery, func(head []byte) bool {
		_, shape := splitInsert(append(sql[:len(sql):len(sql)], head...), false)
		return shape == insertData
	})
	if err != nil {
		return refuse(codeNetwork, "Reading the request: %v", err)
	}
	req.sql = append(sql, head...)
	if all {
		return nil
	}
	if _, shape := splitInsert(req.sql, false); shape != insertData {
		return refuse(codeSyntaxError, "Syntax error: the statement is longer than %d bytes", maxQuery)
	}
	req.rest = body
	return nil
}
