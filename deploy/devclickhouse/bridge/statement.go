package bridge

import "strings"

// statement is one SQL statement, split into tokens. The last one is the end.
type statement struct {
	src    []byte
	tokens []token
}

func newStatement(src []byte) *statement {
	s := &statement{src: src}
	l := lexer{src: src}
	for {
		t := l.next()
		s.tokens = append(s.tokens, t)
		if t.kind == tokenEnd {
			return s
		}
	}
}

func (s *statement) at(i int) token { return s.tokens[min(i, len(s.tokens)-1)] }

// is reports whether the tokens from i on begin with these keywords.
func (s *statement) is(i int, keywords ...string) bool {
	for n, k := range keywords {
		if !s.at(i+n).is(s.src, k) {
			return false
		}
	}
	return true
}

// empty reports whether there is nothing but comments and semicolons.
func (s *statement) empty() bool {
	for _, t := range s.tokens {
		if t.kind != tokenEnd && !t.isPunct(s.src, ';') {
			return false
		}
	}
	return true
}

// several reports whether something follows a semicolon.
func (s *statement) several() bool {
	ended := false
	for _, t := range s.tokens {
		switch {
		case t.isPunct(s.src, ';'):
			ended = true
		case ended && t.kind != tokenEnd:
			return true
		}
	}
	return false
}

// selects reports whether the statement is a SELECT, so that its result may be asked for in parts.
func (s *statement) selects() bool {
	i := 0
	for s.at(i).isPunct(s.src, '(') {
		i++
	}
	return s.at(i).isAny(s.src, "SELECT", "WITH", "FROM")
}

// format returns the name in the last FORMAT clause outside parentheses, or "".
func (s *statement) format() string {
	depth, name := 0, ""
	for i, t := range s.tokens {
		switch {
		case t.isPunct(s.src, '('), t.isPunct(s.src, '['), t.isPunct(s.src, '{'):
			depth++
		case t.isPunct(s.src, ')'), t.isPunct(s.src, ']'), t.isPunct(s.src, '}'):
			depth--
		case depth == 0 && i > 0 && t.is(s.src, "FORMAT") && s.at(i+1).kind == tokenWord && !s.at(i+2).isPunct(s.src, '('):
			name = s.at(i + 1).name(s.src)
		}
	}
	return name
}

// calls reports whether a function of one of the names, which are in lower case, is called anywhere.
func (s *statement) calls(names ...string) bool {
	for i, t := range s.tokens {
		if !s.at(i+1).isPunct(s.src, '(') {
			continue
		}
		called := strings.ToLower(t.name(s.src))
		for _, name := range names {
			if called == name {
				return true
			}
		}
	}
	return false
}

// refusal returns why the engine must not see the statement, or nil.
//
// SYSTEM SHUTDOWN sends SIGTERM to the process group, SYSTEM KILL kills the process; without a database "default" no further
// connection can be opened until the next start. INTO OUTFILE and FROM INFILE are the client's side of ClickHouse, which in
// libchdb is the bridge's own process.
func (s *statement) refusal(params map[string]string) *failure {
	for i := range s.tokens {
		switch {
		case s.is(i, "INTO", "OUTFILE"), s.is(i, "FROM", "INFILE"):
			return refuse(codeNotImplemented, "INTO OUTFILE and FROM INFILE are the client's to do, not the server's")
		}
	}
	switch {
	case s.is(0, "SYSTEM", "SHUTDOWN"), s.is(0, "SYSTEM", "KILL"):
		return refuse(codeAccessDenied, "SYSTEM SHUTDOWN and SYSTEM KILL are refused: the program that started the embedded ClickHouse stops it")
	case s.is(0, "DROP", "DATABASE"), s.is(0, "DETACH", "DATABASE"), s.is(0, "RENAME", "DATABASE"):
		for i := 2; i < len(s.tokens); i++ {
			name := s.at(i).name(s.src)
			if s.at(i).isPunct(s.src, '{') { // {name:Identifier}
				name = params[s.at(i+1).name(s.src)]
			}
			if name == "default" {
				return refuse(codeAccessDenied, "the database \"default\" of the embedded ClickHouse cannot be dropped, detached or renamed")
			}
		}
	case s.is(0, "INSERT") && s.calls("input"):
		return refuse(codeNoDataToInsert, "INSERT ... SELECT ... FROM input() is not available in the embedded ClickHouse: insert with FORMAT")
	}
	return nil
}

// readOnlyRefusal returns why a login that may only read must not run the statement, beyond what the engine refuses under
// readonly=1, or nil. The scalar function file() reads any file that the process may open; DESCRIBE of a table function opens
// what it names.
func (s *statement) readOnlyRefusal() *failure {
	if s.calls("file") {
		return refuse(codeReadonly, "file() is not available to a read-only login")
	}
	if s.at(0).isAny(s.src, "DESCRIBE", "DESC") {
		i := 1
		if s.is(i, "TABLE") {
			i++
		}
		if name := s.at(i).name(s.src); name != "" && s.at(i+1).isPunct(s.src, '(') {
			return refuse(codeReadonly, "table functions are not available to a read-only login")
		}
	}
	return nil
}

// insertShape is what an INSERT's text turns out to be.
type insertShape uint8

const (
	notInsert   insertShape = iota
	insertMore              // cannot be told without more text
	insertData              // data follows
	insertQuery             // INSERT ... SELECT
)

// insertHead is an INSERT whose data follows: the statement is src[:statement], its data begins at src[data].
type insertHead struct {
	statement, data int
	format          string
}

// splitInsert finds where the data of an INSERT begins. complete says that src is the whole text, and not the beginning of one.
func splitInsert(src []byte, complete bool) (insertHead, insertShape) {
	l := lexer{src: src}
	next := func() (token, bool) {
		t := l.next()
		// What touches the end of the text may go on.
		return t, complete || t.end < len(src) && !t.open && t.kind != tokenEnd
	}
	t, ok := next()
	switch {
	case !ok:
		return insertHead{}, insertMore
	case !t.is(src, "INSERT"):
		return insertHead{}, notInsert
	}
	if t, ok = next(); ok && t.is(src, "INTO") {
		t, ok = next()
	}
	if ok && t.isAny(src, "TABLE", "FUNCTION") {
		t, ok = next()
	}
	// t is the beginning of a name, whatever word it is.
	depth := 0
	for first := true; ok; first = false {
		switch {
		case t.kind == tokenEnd || depth == 0 && t.isPunct(src, ';'):
			return insertHead{statement: t.start, data: t.end, format: "Values"}, insertData
		case t.isPunct(src, '.'): // a part of a name follows
			if _, ok = next(); !ok {
				return insertHead{}, insertMore
			}
		case t.isPunct(src, '('):
			after := l.pos
			inner, innerOK := next()
			if !innerOK {
				return insertHead{}, insertMore
			}
			if depth == 0 && inner.isPunct(src, '(') {
				return insertHead{}, insertQuery
			}
			if depth == 0 && inner.isAny(src, "SELECT", "WITH") {
				// A column may be called that too.
				follows, followsOK := next()
				if !followsOK {
					return insertHead{}, insertMore
				}
				if !follows.isPunct(src, ',') && !follows.isPunct(src, ')') {
					return insertHead{}, insertQuery
				}
			}
			l.pos = after
			depth++
		case t.isPunct(src, '['), t.isPunct(src, '{'):
			depth++
		case t.isPunct(src, ')'), t.isPunct(src, ']'), t.isPunct(src, '}'):
			depth--
		case first || depth > 0:
		case t.is(src, "VALUES"):
			return insertHead{statement: t.start, data: t.end, format: "Values"}, insertData
		case t.is(src, "FORMAT"):
			name, nameOK := next()
			if !nameOK {
				return insertHead{}, insertMore
			}
			data, dataOK := dataAfter(src, name.end, complete)
			if !dataOK {
				return insertHead{}, insertMore
			}
			return insertHead{statement: t.start, data: data, format: name.name(src)}, insertData
		case t.isAny(src, "SELECT", "WITH", "FROM", "WATCH", "EXPLAIN"):
			return insertHead{}, insertQuery
		}
		t, ok = next()
	}
	return insertHead{}, insertMore
}

// dataAfter returns where the data begins after the name of the format that ends at pos: behind blanks and one line break, as
// ClickHouse has it. In a binary format every byte counts.
func dataAfter(src []byte, pos int, complete bool) (int, bool) {
	for pos < len(src) && (src[pos] == ' ' || src[pos] == '\t' || src[pos] == '\f') {
		pos++
	}
	if pos < len(src) && src[pos] == '\r' {
		pos++
	}
	if pos < len(src) && src[pos] == '\n' {
		return pos + 1, true
	}
	return pos, complete || pos < len(src)
}
