package bridge

import (
	"bytes"
	"slices"
	"strings"
	"testing"
)

// words are the tokens' texts, each after a letter for its kind.
func words(sql string) (out []string) {
	s := newStatement([]byte(sql))
	for _, t := range s.tokens[:len(s.tokens)-1] {
		out = append(out, string("ewqsp"[t.kind])+sql[t.start:t.end])
	}
	return out
}

func TestLexer(t *testing.T) {
	for sql, want := range map[string][]string{
		"SELECT a.b,1e5":                   {"wSELECT", "wa", "p.", "wb", "p,", "w1e5"},
		"a -- x ' \n b":                    {"wa", "wb"},
		"a # x\nb #! y":                    {"wa", "wb"},
		"a #x":                             {"wa", "p#", "wx"},
		"a /* ' /* */ b */":                {"wa", "wb", "p*", "p/"},
		"a/* open":                         {"wa"},
		`'it''s' 'a\'b' 'c\\' d`:           {`s'it''s'`, `s'a\'b'`, `s'c\\'`, "wd"},
		"`a``b` \"c\\\"d\"":                {"q`a``b`", "q\"c\\\"d\""},
		"'open":                            {"s'open"},
		"\u2018it's\u2019 \u201cq\u201d x": {"s\u2018it's\u2019", "q\u201cq\u201d", "wx"},
		"$t$ ' $t $t$ $$a'b$$ x$y$z":       {"s$t$ ' $t $t$", "s$$a'b$$", "wx$y$z"},
		"$a b":                             {"p$", "wa", "wb"},
		"1;\x00é":                          {"w1", "p;", "p\x00", "p\xc3", "p\xa9"},
		"":                                 nil,
	} {
		if got := words(sql); !slices.Equal(got, want) {
			t.Errorf("%q is split into %q, want %q", sql, got, want)
		}
	}
}

func TestUnescape(t *testing.T) {
	for text, want := range map[string]string{"`a`": "a", "`a``b`": "a`b", "`a\\x41\\n`": "aA\n", "\"d\\\"e\"": "d\"e", "\u201cx\u201d": "x", "w": "w", "'s'": "", "`open": ""} {
		src := []byte(text)
		if got := (&lexer{src: src}).next().name(src); got != want {
			t.Errorf("%s names %q, want %q", text, got, want)
		}
	}
}

// FuzzLexer checks that the tokens are the text without its blanks and comments: one after the other, and the same again when they
// are written apart.
func FuzzLexer(f *testing.F) {
	for _, s := range []string{"SELECT 'a''b', `c` -- d\n", "/* x", "$t$ a $t$", "\u2018'\u2019 \u201c\"\u201d", "'\\", "# \n#!\n#", "a$$b", "-", "\xe2\x80"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, src []byte) {
		s := newStatement(src)
		var apart [][]byte
		pos, open := 0, false
		for i, tok := range s.tokens {
			if last := i == len(s.tokens)-1; last != (tok.kind == tokenEnd) || tok.start < pos || tok.end > len(src) || !last && tok.end <= tok.start {
				t.Fatalf("token %d of %q is %+v, after %d", i, src, tok, pos)
			}
			gap := src[pos:tok.start]
			if rest := (&lexer{src: gap}); rest.skip() && tok.kind != tokenEnd || rest.pos != len(gap) {
				t.Fatalf("%q before token %d of %q is more than blanks and comments", gap, i, src)
			}
			pos, open = tok.end, open || tok.open
			apart = append(apart, src[tok.start:tok.end])
		}
		if open {
			return
		}
		again := newStatement(bytes.Join(apart, []byte("\n")))
		if len(again.tokens) != len(s.tokens) {
			t.Fatalf("%q has %d tokens, written apart %d", src, len(s.tokens), len(again.tokens))
		}
		for i, tok := range again.tokens {
			if !bytes.Equal(again.src[tok.start:tok.end], apart[i]) || tok.kind != s.tokens[i].kind {
				t.Fatalf("token %d of %q is %q, written apart %q", i, src, apart[i], again.src[tok.start:tok.end])
			}
		}
	})
}

// FuzzQuote checks that a literal is one token, and the same text again.
func FuzzQuote(f *testing.F) {
	for _, s := range []string{"", "a'b", `\`, "`", "\x00\n", `\'; DROP`, "\u2019"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		for kind, text := range map[tokenKind]string{tokenString: quote(s), tokenQuoted: quoteName(s)} {
			l := lexer{src: []byte(text)}
			tok := l.next()
			if tok.kind != kind || tok.open || tok.end != len(text) {
				t.Fatalf("%q is quoted as %s, whose first token is %+v", s, text, tok)
			}
			if got := unescape(text[1:len(text)-1], text[0]); got != s {
				t.Fatalf("%q is quoted as %s, which is %q", s, text, got)
			}
		}
	})
}

func TestFormatClause(t *testing.T) {
	for sql, want := range map[string]string{
		"SELECT 1 FORMAT CSV":                          "CSV",
		"SELECT 1 format JSON SETTINGS max_threads=1;": "JSON",
		"SELECT format('{}', 1)":                       "",
		"SELECT 1 AS format":                           "",
		"SELECT (SELECT 1 FORMAT CSV)":                 "",
		"SELECT 'FORMAT CSV' -- FORMAT TSV":            "",
		"FORMAT CSV":                                   "",
	} {
		if got := newStatement([]byte(sql)).format(); got != want {
			t.Errorf("%s: format %q, want %q", sql, got, want)
		}
	}
}

func TestSplitInsert(t *testing.T) {
	type result struct {
		shape                   insertShape
		statement, format, data string
	}
	for sql, want := range map[string]result{
		"SELECT 1":                                                    {shape: notInsert},
		"INSERT INTO t VALUES (1)":                                    {insertData, "INSERT INTO t ", "Values", " (1)"},
		"insert t(a) values(1)":                                       {insertData, "insert t(a) ", "Values", "(1)"},
		"INSERT INTO t FORMAT CSV\n\n1":                               {insertData, "INSERT INTO t ", "CSV", "\n1"},
		"INSERT INTO t FORMAT CSV \t\r\n1":                            {insertData, "INSERT INTO t ", "CSV", "1"},
		"INSERT INTO t FORMAT Native\n\n":                             {insertData, "INSERT INTO t ", "Native", "\n"},
		"INSERT INTO t FORMAT Native":                                 {insertData, "INSERT INTO t ", "Native", ""},
		"INSERT INTO values FORMAT CSV\n1":                            {insertData, "INSERT INTO values ", "CSV", "1"},
		"INSERT INTO d.format (select, `values`) VALUES 1":            {insertData, "INSERT INTO d.format (select, `values`) ", "Values", " 1"},
		"INSERT INTO TABLE t SETTINGS a = 'FORMAT', b = 1 FORMAT X 1": {insertData, "INSERT INTO TABLE t SETTINGS a = 'FORMAT', b = 1 ", "X", "1"},
		"INSERT INTO FUNCTION file('x') PARTITION BY (a) VALUES 1":    {insertData, "INSERT INTO FUNCTION file('x') PARTITION BY (a) ", "Values", " 1"},
		"INSERT INTO t SELECT 1 FORMAT CSV":                           {shape: insertQuery},
		"INSERT INTO t (a) WITH x AS (SELECT 1) SELECT * FROM x":      {shape: insertQuery},
		"INSERT INTO t (a) (SELECT 1)":                                {shape: insertQuery},
		"INSERT INTO t ((SELECT 1))":                                  {shape: insertQuery},
		"INSERT INTO t FROM INFILE 'x' FORMAT CSV":                    {shape: insertQuery},
		"INSERT INTO {t:Identifier} VALUES 1":                         {insertData, "INSERT INTO {t:Identifier} ", "Values", " 1"},
	} {
		head, shape := splitInsert([]byte(sql), true)
		got := result{shape: shape}
		if shape == insertData {
			got = result{shape, sql[:head.statement], head.format, sql[head.data:]}
		}
		if got != want {
			t.Errorf("%s: %+v, want %+v", sql, got, want)
		}
	}
}

// FuzzSplitInsert checks that what is decided from the beginning of a text stays right when the rest comes.
func FuzzSplitInsert(f *testing.F) {
	for _, s := range []string{"INSERT INTO t FORMAT CSV\r\n1", "INSERT INTO t (a) VALUES (1)", "INSERT INTO t (SELECT 1)", "INSERT INTO FUNCTION f('a') SELECT", "INSERT /* x */ t -- y\nFORMAT N", "SELECT", "INSERT INTO t;", "INSERT INTO a . b FORMAT X \f\n"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, src []byte) {
		whole, wholeShape := splitInsert(src, true)
		if wholeShape == insertMore {
			t.Fatalf("%q is whole, and more is asked for", src)
		}
		if wholeShape == insertData && (whole.statement > whole.data || whole.data > len(src)) {
			t.Fatalf("%q is split at %+v", src, whole)
		}
		for n := range src {
			head, shape := splitInsert(src[:n], false)
			if shape != insertMore && (shape != wholeShape || head != whole) {
				t.Fatalf("%q is %d %+v, and its first %d bytes are %d %+v", src, wholeShape, whole, n, shape, head)
			}
		}
	})
}

func TestRefusals(t *testing.T) {
	for sql, refused := range map[string]bool{
		"DROP DATABASE other":                  false,
		"DROP TABLE default":                   false,
		"DROP TABLE default.t":                 false,
		"DROP DATABASE d -- default":           false,
		"DROP DATABASE 'default'":              false, // no name, so no database
		"DROP DATABASE {x:Identifier}":         false,
		"DROP DATABASE {d:Identifier}":         true,
		"drop/**/database\ndefault":            true,
		"SYSTEM RELOAD CONFIG":                 false,
		"SYSTEM SHUTDOWN":                      true,
		"SELECT 'SYSTEM SHUTDOWN'":             false,
		"SELECT 'x' AS INTO, 1 AS OUTFILE":     false,
		"SELECT 1 into outfile 'x'":            true,
		"INSERT INTO t SELECT * FROM input(x)": true,
		"SELECT input(1)":                      false,
	} {
		if got := newStatement([]byte(sql)).refusal(map[string]string{"d": "default", "x": "other"}); (got != nil) != refused {
			t.Errorf("%s: %v", sql, got)
		}
	}
}

func TestBalanced(t *testing.T) {
	for structure, ok := range map[string]bool{
		"a UInt8":                           true,
		"a Array(Tuple(x UInt8, `)` Int8))": true,
		"a String DEFAULT ')'":              true,
		"a UInt8) ENGINE = File(CSV":        false,
		"a UInt8) ENGINE = Memory; (":       false,
		"a UInt8) ENGINE = Memory --":       false,
		"a UInt8) AS SELECT (1":             false,
		"a UInt8 /*":                        false,
		"a String DEFAULT '":                false,
	} {
		s := newStatement([]byte("CREATE TEMPORARY TABLE `t` (" + structure + ") ENGINE = Memory"))
		if s.balanced() != ok {
			t.Errorf("%s: %v", structure, !ok)
		}
	}
}

func TestConcatenable(t *testing.T) {
	for format, want := range map[string]bool{"Native": true, "CSV": true, "JSONEachRow": true, "JSON": false, "CSVWithNames": false, "Values": false, "Parquet": false, "Pretty": false} {
		if concatenable(format) != want {
			t.Errorf("%s: %v", format, !want)
		}
	}
	if got := contentType("JSONCompactEachRowWithNames"); !strings.HasPrefix(got, "application/x-ndjson") {
		t.Errorf("content type %s", got)
	}
}
