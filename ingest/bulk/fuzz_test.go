package bulk

import (
	"bytes"
	"encoding/json"
	"io"
	"slices"
	"strings"
	"testing"
	"testing/iotest"
	"unicode/utf8"
)

// expected reads an input with encoding/json by the rules in the package comment; ok is false for an input to be refused.
// checkIDs is false when encoding/json has put U+FFFD in an id: it does so for half a surrogate pair, which must be refused, but
// the character may also stand in the input as itself.
func expected(in []byte, field ...string) (all []seen, checkIDs, ok bool) {
	if !utf8.Valid(in) {
		return nil, false, false // a fault outside of strings is one for encoding/json as well
	}
	checkIDs = true
	var payloads []json.RawMessage
	text := bytes.TrimPrefix(in, []byte("\xef\xbb\xbf"))
	if bytes.HasPrefix(bytes.TrimLeft(text, " \t\r\n"), []byte("[")) {
		if json.Unmarshal(text, &payloads) != nil {
			return nil, false, false
		}
	} else {
		d := json.NewDecoder(bytes.NewReader(text))
		for end := int64(0); ; {
			var p json.RawMessage
			err := d.Decode(&p)
			if err == io.EOF {
				break
			}
			start := d.InputOffset() - int64(len(p))
			if err != nil || len(payloads) > 0 && !bytes.Contains(text[end:start], newline) {
				return nil, false, false
			}
			payloads, end = append(payloads, p), d.InputOffset()
		}
		if len(payloads) == 0 {
			return nil, false, false
		}
	}
	for i, p := range payloads {
		var v any
		d := json.NewDecoder(bytes.NewReader(p))
		d.UseNumber()
		if err := d.Decode(&v); err != nil || p[0] != '{' {
			return nil, false, false
		}
		for _, name := range field {
			switch at := v.(type) {
			case map[string]any:
				v = at[name]
			case []any:
				v = nil
				if name == "0" && len(at) > 0 {
					v = at[0]
				}
			default:
				v = nil
			}
		}
		var id string
		switch v := v.(type) {
		case string:
			id = v
		case json.Number:
			id = v.String()
		}
		if id == "" || len(id) > 512 || strings.Contains(id, "\x00") {
			return nil, false, false
		}
		checkIDs = checkIDs && !strings.Contains(id, "\ufffd")
		all = append(all, seen{id: id, payload: string(p), index: int64(i)})
	}
	return all, checkIDs, true
}

func FuzzReader(f *testing.F) {
	for _, s := range []string{
		`[]`, ` [ {"id":1} , {"id":"2","a":{"0":[{"id":3}]}} ] `, "{\"id\":1}\n{\"id\":2}\r\n\n", `{"id":1}{"id":2}`, `[{"id":1},]`,
		"\xef\xbb\xbf[{\"id\":\"\\ud83d\\ude00\\u0000\"}]", `[{"id":"\ud800"}]`, `[[{"id":1}]]`, `[{"id":1}][{"id":2}]`, `nul`,
		`[{"i\u0064":-1.5E+3,"x":[true,false,null,{},[]],"a":[{"b":1}]}]`, "{\"id\":\"a\nb\"}", `[{"id":01}]`, `{"a":{"0":1},"id":1,"id":2}`,
		"[{\"id\":1,\"t\":\"\xe9\"}]", "[{\"id\":1,\"t\":\"é\ufffd\"}]", `{"id":1,"a":[7]}`, `{"id":1,"a":["x",8],"a":["\n"]}`, `[{"id":1e400}]`,
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, in []byte) {
		if bytes.HasPrefix(in, []byte("\x1f\x8b")) {
			in = in[2:] // gzip has its own tests; here its checksum would hide the text from the fuzzer
		}
		for _, field := range [][]string{{"id"}, {"a", "0"}} {
			want, checkIDs, ok := expected(in, field...)
			var first []seen
			for pass, block := range []int{headMax, 31, 4096} {
				var src io.Reader = bytes.NewReader(in)
				if pass == 0 {
					src = iotest.OneByteReader(src)
				}
				r, err := newReader(src, Options{IDField: strings.Join(field, ".")}, block)
				var got []seen
				if err == nil {
					got, err = readAll(r)
				}
				switch {
				case err == nil && !ok:
					t.Fatalf("block %d: took %q, which encoding/json refuses", block, in)
				case err != nil && ok && checkIDs:
					t.Fatalf("block %d: refused %q: %v", block, in, err)
				case err != nil:
					e := fault(t, err, err.(*Error).Code)
					if e.Offset < 0 || e.Offset > int64(len(in)) || e.Detail == "" || e.Line > int64(bytes.Count(in, newline))+1 {
						t.Fatalf("%q: place of %+v", in, e)
					}
				}
				for i, g := range got {
					if !strings.HasPrefix(string(in[g.offset:]), g.payload) || g.line != int64(bytes.Count(in[:g.offset], newline))+1 {
						t.Fatalf("%q: place of %+v", in, g)
					}
					if ok && (g.payload != want[i].payload || g.index != want[i].index || g.id != want[i].id) {
						t.Fatalf("%q: got %+v, want %+v", in, g, want[i])
					}
				}
				if err == nil && len(got) != len(want) {
					t.Fatalf("%q: %d records, want %d", in, len(got), len(want))
				}
				if pass == 0 {
					first = got
				} else if !slices.Equal(got, first) {
					t.Fatalf("%q: block %d gave %v, block %d %v", in, block, got, headMax, first)
				}
			}
		}
	})
}

// Whatever comes after the two bytes of gzip, reading ends without a panic, and an error names a code.
func FuzzReader_Gzip(f *testing.F) {
	f.Add([]byte(zip(f, `[{"id":1}]`, "\n")))
	f.Add([]byte("\x1f\x8b"))
	f.Add([]byte(zip(f, `{"id":1}`) + "rest"))
	f.Fuzz(func(t *testing.T, in []byte) {
		_, err := readString("\x1f\x8b"+string(bytes.TrimPrefix(in, []byte("\x1f\x8b"))), Options{IDField: "id"})
		if err != nil {
			fault(t, err, err.(*Error).Code)
		}
	})
}

// A pointer reaches any member name, and a dotted path any name that is not empty and holds no dot.
func FuzzParsePath(f *testing.F) {
	for _, s := range []string{"id", "a/b", "~1", "~", "a.b", "", "0", "\xff", "é"} {
		f.Add(s, "x")
	}
	f.Fuzz(func(t *testing.T, outer, inner string) {
		names := []string{outer, inner}
		escape := strings.NewReplacer("~", "~0", "/", "~1")
		fields := []string{"/" + escape.Replace(outer) + "/" + escape.Replace(inner)}
		if dotted := strings.Join(names, "."); outer != "" && inner != "" && strings.Count(dotted, ".") == 1 && outer[0] != '/' {
			fields = append(fields, dotted)
		}
		for _, field := range fields {
			p, err := parsePath(field)
			if !utf8.ValidString(outer + "/" + inner) {
				if err == nil {
					t.Fatalf("took %q", field)
				}
				continue
			}
			if err != nil || len(p) != 2 || string(p[0].name) != outer || string(p[1].name) != inner {
				t.Fatalf("%q: got %+v, %v", field, p, err)
			}
		}
	})
}
