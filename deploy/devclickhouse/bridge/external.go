package bridge

import (
	"context"
	"errors"
	"io"
	"maps"
	"mime/multipart"
	"slices"
	"strings"

	"github.com/tidemark-dev/tidemark/deploy/devclickhouse/chdb"
)

const (
	maxExternalTables = 64
	maxExternalBytes  = 256 << 20
)

// externalTable is a table that comes with a request and lives as long.
type externalTable struct {
	name, structure, format string
	data                    []byte
}

// readForm reads a multipart body: the statement in the field "query", placeholders in fields "param_NAME", and external tables, each
// in a field of its name with its structure in the URL. All of it is read before the first table is made, as the statement may
// come last.
func (req *request) readForm(body io.Reader, boundary string, s *Server) error {
	form := multipart.NewReader(body, boundary)
	left := int64(maxExternalBytes)
	sql := req.query
	fields := map[string]string{}
	for {
		part, err := form.NextPart()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return refuse(codeNetwork, "Reading the form: %v", err)
		}
		data, err := io.ReadAll(io.LimitReader(part, left+1))
		if err != nil {
			return refuse(codeNetwork, "Reading the form: %v", err)
		}
		if left -= int64(len(data)); left < 0 {
			return refuse(codeBadArguments, "The form has more than %d bytes", maxExternalBytes)
		}
		name := part.FormName()
		structure, isTable := req.structures[name]
		switch {
		case isTable:
			if len(req.external) == maxExternalTables {
				return refuse(codeBadArguments, "The form has more than %d tables", maxExternalTables)
			}
			format := req.structFormats[name]
			if format == "" {
				format = defaultFormat
			}
			req.external = append(req.external, &externalTable{name: name, structure: structure, format: format, data: data})
		case name == "query":
			sql += string(data)
		default:
			fields[name] = string(data)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(fields)) {
		if strings.HasPrefix(name, "param_") || s.knownSettings[name] {
			if err := req.add(name, fields[name], s.knownSettings); err != nil {
				return err
			}
		}
	}
	if len(sql) > maxQuery {
		return refuse(codeSyntaxError, "Syntax error: the statement is longer than %d bytes", maxQuery)
	}
	req.sql = []byte(sql)
	return nil
}

// create makes the table in the session of the connection. The structure is a client's text inside our statement, so it may hold
// nothing but a list of columns.
func (t *externalTable) create(ctx context.Context, conn *chdb.Conn) error {
	create := newStatement([]byte("CREATE TEMPORARY TABLE " + quoteName(t.name) + " (" + t.structure + ") ENGINE = Memory"))
	if !create.balanced() {
		return refuse(codeBadArguments, "The structure of the external table %s is not a list of columns", t.name)
	}
	if err := run(conn, string(create.src)); err != nil {
		return err
	}
	insert, err := conn.Insert("INSERT INTO "+quoteName(t.name), t.format)
	if err != nil {
		return err
	}
	defer insert.Close()
	if err := insert.Append(t.data); err != nil {
		return err
	}
	_, err = insert.Done()
	return err
}

// balanced reports whether the text is one statement whose first parenthesis is closed by the one before ENGINE, and not by one
// inside a structure that goes on with something else.
func (s *statement) balanced() bool {
	depth, closed := 0, 0
	for i, t := range s.tokens {
		switch {
		case t.open, t.isPunct(s.src, ';'):
			return false
		case t.isPunct(s.src, '('):
			depth++
		case t.isPunct(s.src, ')'):
			if depth--; depth == 0 {
				closed++
				if !s.is(i+1, "ENGINE") || i+5 != len(s.tokens) || s.at(i+3).end != len(s.src) {
					return false
				}
			}
		}
	}
	return depth == 0 && closed == 1
}
