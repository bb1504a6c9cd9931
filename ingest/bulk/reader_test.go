package bulk

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/klauspost/compress/gzip"
)

// seen is a record as a test keeps it.
type seen struct {
	id, payload         string
	index, line, offset int64
}

func readAll(r *Reader) ([]seen, error) {
	var all []seen
	for {
		rec, err := r.Next()
		if err == io.EOF {
			return all, nil
		}
		if err != nil {
			return all, err
		}
		all = append(all, seen{rec.ID, string(rec.Payload), rec.Index, rec.Line, rec.Offset})
	}
}

func readString(in string, opts Options) ([]seen, error) {
	r, err := newReader(strings.NewReader(in), opts, 4096) // small, for tests that make thousands of readers
	if err != nil {
		return nil, err
	}
	return readAll(r)
}

func zip(t testing.TB, members ...string) string {
	t.Helper()
	var out bytes.Buffer
	for _, m := range members {
		w := gzip.NewWriter(&out)
		if _, err := io.WriteString(w, m); err != nil {
			t.Fatal(err)
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
	}
	return out.String()
}

// fault asserts that err is an *Error with that code.
func fault(t *testing.T, err error, code string) *Error {
	t.Helper()
	var e *Error
	if !errors.As(err, &e) {
		t.Fatalf("got error %v, want an *Error with code %s", err, code)
	}
	if e.Code != code || e.Detail == "" || e.Hint == "" {
		t.Fatalf("got %+v, want code %s, a detail and a hint", e, code)
	}
	return e
}

func TestReader_PayloadIsTheInputsBytes(t *testing.T) {
	const (
		one = `{"id":"a", "n":1.50e+1,"u":"\u00e9\/é","o":{"b":[],"a":[ {} ,null]}}`
		two = `{  "id" : 2 ,"z":-0}`
	)
	for name, in := range map[string]string{
		"array":               "[" + one + "," + two + "]",
		"array, white space":  " \r\n\t[ \n" + one + "\n ,\t" + two + "\r\n] \n",
		"array, BOM":          "\xef\xbb\xbf[" + one + "," + two + "]",
		"lines":               one + "\n" + two + "\n",
		"lines, no last end":  one + "\n" + two,
		"lines, CRLF":         one + "\r\n" + two + "\r\n",
		"lines, blank lines":  "\n\n" + one + "\n \n\n" + two + "\n\n",
		"lines, BOM":          "\xef\xbb\xbf" + one + "\n" + two,
		"gzip":                zip(t, "["+one+","+two+"]"),
		"gzip, BOM":           zip(t, "\xef\xbb\xbf"+one+"\n"+two),
		"gzip, two members":   zip(t, one+"\n", two+"\n"),
		"gzip, cut in record": zip(t, "["+one[:20], one[20:]+","+two, "]"),
		"gzip, empty member":  zip(t, "", one+"\n"+two, ""),
	} {
		t.Run(name, func(t *testing.T) {
			got, err := readString(in, Options{IDField: "id"})
			if err != nil {
				t.Fatal(err)
			}
			if len(got) != 2 || got[0].payload != one || got[1].payload != two {
				t.Fatalf("payloads changed: %+v", got)
			}
			if got[0].id != "a" || got[1].id != "2" || got[0].index != 0 || got[1].index != 1 {
				t.Fatalf("ids or indexes: %+v", got)
			}
		})
	}
}

func TestReader_PlaceOfARecord(t *testing.T) {
	got, err := readString("\xef\xbb\xbf[\n{\"id\":1,\n\"a\":[\n]}, {\"id\":2}\n,\n {\"id\":3}]", Options{IDField: "id"})
	if err != nil {
		t.Fatal(err)
	}
	want := []seen{
		{"1", "{\"id\":1,\n\"a\":[\n]}", 0, 2, 5},
		{"2", `{"id":2}`, 1, 4, 24},
		{"3", `{"id":3}`, 2, 6, 36},
	}
	if !slices.Equal(got, want) {
		t.Fatalf("got  %v\nwant %v", got, want)
	}
}

func TestReader_EmptyArrayHasNoRecords(t *testing.T) {
	for _, in := range []string{"[]", " [ \n ] \n", zip(t, "[]")} {
		got, err := readString(in, Options{IDField: "id"})
		if err != nil || len(got) != 0 {
			t.Errorf("%q: got %v, %v", in, got, err)
		}
	}
}

func TestReader_ID(t *testing.T) {
	longest := strings.Repeat("é", 256)
	for _, tt := range []struct{ field, record, id string }{
		{"id", `{"id":"x"}`, "x"},
		{"id", `{"a":{"id":"no"},"id":"x","b":[{"id":"no"}]}`, "x"},
		{"id", `{"id":"first","id":"last"}`, "last"},
		{"id", `{"id":{"id":1},"id":2}`, "2"},
		{"id", `{"i\u0064":7}`, "7"},
		{"id", `{"id":7,"i\u0065":8}`, "7"},
		{"id", `{"id":"a\"\\\/\b\f\n\r\t\u0041\ud83d\ude00"}`, "a\"\\/\b\f\n\r\tA😀"},
		{"id", `{"id":"` + longest + `"}`, longest},
		{"id", `{"id":" "}`, " "},
		{"id", `{"id":"1"}`, "1"},
		{"id", `{"id":1}`, "1"},
		{"id", `{"id":0}`, "0"},
		{"id", `{"id":-12}`, "-12"},
		{"id", `{"id":1.0}`, "1.0"},
		{"id", `{"id":1E2 }`, "1E2"},
		{"id", `{"id":12345678901234567890123}`, "12345678901234567890123"},
		{"meta.id", `{"id":1,"meta":{"x":{"id":2},"id":3}}`, "3"},
		{"meta.id", `{"meta":{"id":1},"meta":{"id":2}}`, "2"},
		{"/meta/id", `{"meta":{"id":"x"}}`, "x"},
		{"/a.b", `{"a.b":"x"}`, "x"},
		{"/a~1b/c~0d/~01", `{"a/b":{"c~d":{"~1":"x"}}}`, "x"},
		{"/", `{"":"x"}`, "x"},
		{"ids.1", `{"ids":["a",["no"],"c"],"ids":["a","b"]}`, "b"},
		{"ids.1", `{"ids":{"1":"member"}}`, "member"},
		{"/ids/0/v", `{"ids":[{"v":5},{"v":6}]}`, "5"},
		{"ключ", `{"ключ":"x"}`, "x"},
	} {
		got, err := readString(tt.record, Options{IDField: tt.field})
		if err != nil {
			t.Errorf("%s in %s: %v", tt.field, tt.record, err)
		} else if got[0].id != tt.id {
			t.Errorf("%s in %s: got %q, want %q", tt.field, tt.record, got[0].id, tt.id)
		}
	}
}

func TestReader_Refuses(t *testing.T) {
	for _, tt := range []struct {
		name, in            string
		code                string
		index, line, offset int64
		detail              string
	}{
		{"nothing", "", CodeUnsupportedFormat, -1, 0, 0, "empty"},
		{"white space", " \n ", CodeUnsupportedFormat, -1, 0, 0, "empty"},
		{"BOM alone", "\xef\xbb\xbf", CodeUnsupportedFormat, -1, 0, 0, "empty"},
		{"a string", ` "x"`, CodeUnsupportedFormat, -1, 1, 1, `'"'`},
		{"CSV", "id;name\n1;x\n", CodeUnsupportedFormat, -1, 1, 0, "'i'"},
		{"zstd", "\x28\xb5\x2f\xfd....", CodeUnsupportedFormat, -1, 0, 0, "zstd"},
		{"zip", "PK\x03\x04...", CodeUnsupportedFormat, -1, 0, 0, "zip"},
		{"UTF-16 with BOM", "\xff\xfe[\x00]\x00", CodeUnsupportedFormat, -1, 0, 0, "UTF-16"},
		{"UTF-16 without BOM", "{\x00}\x00", CodeUnsupportedFormat, -1, 0, 0, "UTF-16"},
		{"gzip twice", zip(t, zip(t, "[]")), CodeUnsupportedFormat, -1, 0, 0, "gzip inside gzip"},
		{"gzip of nothing", zip(t, ""), CodeUnsupportedFormat, -1, 0, 0, "empty"},
		{"gzip and more", zip(t, "[]") + "[{\"id\":1}]", CodeCorruptGzip, -1, 0, 0, "not gzip"},

		{"comma before ]", `[{"id":1},]`, CodeInvalidJSON, 1, 1, 10, "a record after ',', found ']'"},
		{"comma after [", `[,{"id":1}]`, CodeInvalidJSON, 0, 1, 1, "an object, found ','"},
		{"two commas", `[{"id":1},,{"id":2}]`, CodeInvalidJSON, 1, 1, 10, "an object, found ','"},
		{"no comma", "[{\"id\":1}\n{\"id\":2}]", CodeInvalidJSON, 1, 2, 10, "want ',' or ']'"},
		{"comma before }", `[{"id":1,}]`, CodeInvalidJSON, 0, 1, 9, "member name in double quotes, found '}'"},
		{"name without quotes", `[{id:1}]`, CodeInvalidJSON, 0, 1, 2, "found 'i'"},
		{"no colon", `[{"id" 1}]`, CodeInvalidJSON, 0, 1, 7, "':'"},
		{"comment", `[{"id":1 /* */}]`, CodeInvalidJSON, 0, 1, 9, "found '/'"},
		{"leading zero", `[{"id":01}]`, CodeInvalidJSON, 0, 1, 8, "found '1'"},
		{"plus", `[{"id":+1}]`, CodeInvalidJSON, 0, 1, 7, "a value, found '+'"},
		{"bare point", `[{"id":1.}]`, CodeInvalidJSON, 0, 1, 9, "a digit"},
		{"bare exponent", `[{"id":1e+}]`, CodeInvalidJSON, 0, 1, 10, "a digit"},
		{"NaN", `[{"id":NaN}]`, CodeInvalidJSON, 0, 1, 7, "found 'N'"},
		{"cut literal", `[{"id":1,"a":nul}]`, CodeInvalidJSON, 0, 1, 16, "want null, found '}'"},
		{"raw line end in a string", "[{\"id\":\"a\nb\"}]", CodeInvalidJSON, 0, 1, 9, "control character"},
		{"bad escape", `[{"id":"\x41"}]`, CodeInvalidJSON, 0, 1, 9, "found 'x'"},
		{"bad \\u", `[{"id":"\u12g4"}]`, CodeInvalidJSON, 0, 1, 12, "hexadecimal"},
		{"comma before ] inside", "[{\"id\":1,\n\"a\":[1,]}]", CodeInvalidJSON, 0, 2, 17, "a value, found ']'"},
		{"wrong bracket", `[{"id":[1}]`, CodeInvalidJSON, 0, 1, 9, "found '}'"},
		{"line end in a later string", "[{\"id\":1},{\"id\":2,\"a\":\"\n\"}]", CodeInvalidJSON, 1, 1, 23, "control"},
		{"Latin-1 text", "[{\"id\":1},{\"id\":2,\"a\":\"\xe9\"}]", CodeInvalidJSON, 1, 1, 23, "UTF-8, found the byte 0xe9"},
		{"surrogate in UTF-8", "{\"id\":1,\"a\":\"\xed\xa0\x80\"}", CodeInvalidJSON, 0, 1, 13, "UTF-8"},
		{"array cut", `[{"id":1}`, CodeInvalidJSON, 1, 1, 9, "ends inside the array"},
		{"array cut after comma", `[{"id":1}, `, CodeInvalidJSON, 1, 1, 11, "ends inside the array"},
		{"record cut", `[{"id":1`, CodeInvalidJSON, 0, 1, 8, "ends inside a record"},
		{"line cut", "{\"id\":1}\n{\"id\":", CodeInvalidJSON, 1, 2, 15, "ends inside a record"},
		{"two arrays", "[{\"id\":1}]\n[{\"id\":2}]", CodeInvalidJSON, -1, 2, 11, "after the array, found '['"},
		{"line after array", "[]\n{}", CodeInvalidJSON, -1, 2, 3, "after the array"},
		{"objects on one line", `{"id":1}{"id":2}`, CodeInvalidJSON, 1, 1, 8, "a line end"},
		{"commas between lines", "{\"id\":1},\n{\"id\":2}", CodeInvalidJSON, 1, 1, 8, "found ','"},
		{"garbage line", "{\"id\":1}\nnope\n", CodeInvalidJSON, 1, 2, 9, "an object, found 'n'"},

		{"number in array", `[{"id":1},2]`, CodeNotAnObject, 1, 1, 10, "a number"},
		{"null in array", `[null]`, CodeNotAnObject, 0, 1, 1, "null"},
		{"array in array", `[[{"id":1}]]`, CodeNotAnObject, 0, 1, 1, "an array"},
		{"array among lines", "{\"id\":1}\n[{\"id\":2}]", CodeNotAnObject, 1, 2, 9, "an array"},
		{"string among lines", "{\"id\":1}\n\"x\"", CodeNotAnObject, 1, 2, 9, "a string"},

		{"no id", "{\"id\":1}\n\n{\"Id\":2}", CodeMissingID, 1, 3, 10, "absent"},
		{"null id", `[{"id":null}]`, CodeMissingID, 0, 1, 7, "null"},
		{"last id null", `[{"id":1,"id":null}]`, CodeMissingID, 0, 1, 14, "null"},
		{"empty id", `[{"id":""}]`, CodeInvalidID, 0, 1, 7, "empty"},
		{"boolean id", `[{"id":true}]`, CodeInvalidID, 0, 1, 7, "a boolean"},
		{"object id", `[{"id":{}}]`, CodeInvalidID, 0, 1, 7, "an object"},
		{"array id", `[{"id":[1]}]`, CodeInvalidID, 0, 1, 7, "an array"},
		{"NUL", `[{"id":"a\u0000"}]`, CodeInvalidID, 0, 1, 7, "NUL"},
		{"half a pair", `[{"id":"\ud800"}]`, CodeInvalidID, 0, 1, 7, "surrogate"},
		{"half a pair and text", `[{"id":"\ud800abcdef"}]`, CodeInvalidID, 0, 1, 7, "surrogate"},
		{"pair the wrong way", `[{"id":"\ude00\ud83d"}]`, CodeInvalidID, 0, 1, 7, "surrogate"},
		{"long id", `[{"id":"` + strings.Repeat("x", 513) + `"}]`, CodeInvalidID, 0, 1, 7, "513 bytes, an id has at most 512"},
		{"long number", `[{"id":` + strings.Repeat("1", 513) + `}]`, CodeInvalidID, 0, 1, 7, "513"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, err := readString(tt.in, Options{IDField: "id"})
			e := fault(t, err, tt.code)
			if e.Index != tt.index || e.Line != tt.line || e.Offset != tt.offset {
				t.Errorf("got record %d, line %d, offset %d; want %d, %d, %d (%v)",
					e.Index, e.Line, e.Offset, tt.index, tt.line, tt.offset, e)
			}
			if !strings.Contains(e.Detail, tt.detail) {
				t.Errorf("detail is %q, want %q in it", e.Detail, tt.detail)
			}
		})
	}
}

// Strings are scanned eight bytes at a time: a byte must be judged alike at each place among the eight, and in what is left over.
func TestReader_EveryByteOfAString(t *testing.T) {
	for at := range 24 {
		for c := range 256 {
			text := []byte(strings.Repeat("\x7f", 24))
			text[at] = byte(c)
			in := `{"id":1,"t":"` + string(text) + `"}`
			_, err := readString(in, Options{IDField: "id"})
			switch {
			case c >= ' ' && c < 0x80 && c != '"' && c != '\\':
				if err != nil {
					t.Fatalf("0x%02x at %d: %v", c, at, err)
				}
			default:
				offset := int64(13 + at)
				if c == '"' || c == '\\' {
					offset++ // the fault is that something follows it
				}
				if e := fault(t, err, CodeInvalidJSON); e.Offset != offset && !(c == '\\' && at == 23) {
					t.Fatalf("0x%02x at %d: %v", c, at, e)
				}
			}
		}
	}
}

func TestReader_NestedIDThatLeadsNowhere(t *testing.T) {
	for field, record := range map[string]string{
		"a.b":   `{"a":1}`,
		"a.b.c": `{"a":{"b":"x"}}`,
		"a.c":   `{"a":{"c":1},"a":2}`, // the last a has no c
		"a.1":   `{"a":["x"]}`,
		"a.01":  `{"a":["x","y"]}`,
		"a.-":   `{"a":["x"]}`,
	} {
		_, err := readString(record, Options{IDField: field})
		fault(t, err, CodeMissingID)
	}
}

func TestReader_RefusesOptions(t *testing.T) {
	for _, opts := range []Options{
		{}, {IDField: "a..b"}, {IDField: "."}, {IDField: "a."}, {IDField: "/a~2"}, {IDField: "/a~"}, {IDField: "\xff"},
		{IDField: "id", MaxRecordBytes: -1}, {IDField: "id", MaxRecordBytes: 1<<30 + 1},
	} {
		_, err := NewReader(strings.NewReader("[]"), opts)
		var e *Error
		if err == nil || errors.As(err, &e) {
			t.Errorf("%+v: got %v, want a plain error", opts, err)
		}
	}
}

// Half a file must not be taken for a whole one: what it leaves out would be deleted.
func TestReader_EveryCutIsAnError(t *testing.T) {
	const text = `[{"id":"a","n":[1.5e3,true,"\u00e9 é"]}, {"id":"b","o":{"x":null}}]`
	for _, whole := range []string{text, zip(t, text), zip(t, text[:30], text[30:])} {
		if _, err := readString(whole, Options{IDField: "id"}); err != nil {
			t.Fatal(err)
		}
		for n := range len(whole) {
			if got, err := readString(whole[:n], Options{IDField: "id"}); err == nil {
				t.Errorf("cut to %d of %d bytes: %d records and no error", n, len(whole), len(got))
			}
		}
	}
}

// Wherever a block ends (inside a name, an escape, a number, a character), the records are the same.
func TestReader_BlocksDoNotShow(t *testing.T) {
	var in strings.Builder
	in.WriteString("\xef\xbb\xbf  [")
	for i := range 40 {
		if i > 0 {
			in.WriteString(",\n")
		}
		fmt.Fprintf(&in, `{"i\u0064":%d,"t":"\ud83d\ude00 é %s","n":[-1.25e-7,false,null,{}]}`, i, strings.Repeat("long ", i))
	}
	in.WriteString(" ]")
	want, err := readString(in.String(), Options{IDField: "id"})
	if err != nil || len(want) != 40 {
		t.Fatalf("%d records, %v", len(want), err)
	}
	for block := headMax; block < 300; block++ {
		for name, wrap := range map[string]func(io.Reader) io.Reader{
			"one byte a read": iotest.OneByteReader, "half reads": iotest.HalfReader, "error with data": iotest.DataErrReader,
		} {
			r, err := newReader(wrap(strings.NewReader(in.String())), Options{IDField: "id"}, block)
			if err != nil {
				t.Fatal(err)
			}
			if got, err := readAll(r); err != nil || !slices.Equal(got, want) {
				t.Fatalf("block of %d, %s: %v\ngot  %v\nwant %v", block, name, err, got, want)
			}
			if r.BytesRead() != int64(in.Len()) {
				t.Fatalf("BytesRead is %d of %d", r.BytesRead(), in.Len())
			}
		}
	}
}

func TestReader_RecordTooLargeGivesBothSizes(t *testing.T) {
	fill := func(n int) string { // a record of n bytes with brackets and quotes in its text
		const head, tail = `{"id":1,"t":"`, `}]\"\\"}`
		return head + strings.Repeat("x", n-len(head)-len(tail)) + tail
	}
	const limit = 1000
	opts := Options{IDField: "id", MaxRecordBytes: limit}
	for _, size := range []int{limit + 1, limit + 2, 2 * limit, 50 * limit} {
		for _, block := range []int{headMax, 64, limit, limit + 1, 10 * limit, blockBytes} {
			in := "[" + fill(limit) + ",\n" + fill(size) + "," + fill(100) + "]"
			r, err := newReader(strings.NewReader(in), opts, block)
			if err != nil {
				t.Fatal(err)
			}
			got, err := readAll(r)
			e := fault(t, err, CodeRecordTooLarge)
			if want := fmt.Sprintf("the record has %d bytes, the limit is 1000", size); e.Detail != want {
				t.Errorf("block %d: got %q, want %q", block, e.Detail, want)
			}
			if len(got) != 1 || e.Index != 1 || e.Line != 2 || e.Offset != limit+3 {
				t.Errorf("block %d: %d records before %+v", block, len(got), e)
			}
			if cap(r.buf) > max(block, limit+1) {
				t.Errorf("block %d: the buffer has grown to %d bytes", block, cap(r.buf))
			}
		}
	}
	_, err := readString("["+fill(5000)[:4000], opts)
	if e := fault(t, err, CodeRecordTooLarge); e.Detail != "the record has at least 4000 bytes, the limit is 1000" {
		t.Errorf("cut off: %q", e.Detail)
	}
}

func TestReader_NestingIsBounded(t *testing.T) {
	deep := func(n int) string { return `{"id":1,"a":` + strings.Repeat("[", n-1) + strings.Repeat("]", n-1) + "}" }
	if _, err := readString(deep(depthMax), Options{IDField: "id"}); err != nil {
		t.Fatal(err)
	}
	_, err := readString(deep(depthMax+1), Options{IDField: "id"})
	if e := fault(t, err, CodeInvalidJSON); !strings.Contains(e.Detail, "10000 levels") {
		t.Fatal(e)
	}
}

// A disk that fails is not a file that is wrong, and what came before it is still given.
func TestReader_ReadErrorIsNotTheInputsFault(t *testing.T) {
	broken := errors.New("input/output error")
	for _, text := range []string{"[{\"id\":1},{\"id\":2}", zip(t, "[{\"id\":1},{\"id\":2}]")[:30], "", "["} {
		r, err := NewReader(io.MultiReader(strings.NewReader(text), iotest.ErrReader(broken)), Options{IDField: "id"})
		if err == nil {
			_, err = readAll(r)
		}
		var e *Error
		if !errors.Is(err, broken) || errors.As(err, &e) {
			t.Errorf("%q: got %v", text, err)
		}
	}
}

func TestReader_ErrorStays(t *testing.T) {
	r, err := NewReader(strings.NewReader("{\"id\":1}\n{\"id\":}\n{\"id\":3}\n"), Options{IDField: "id"})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := r.Next(); err != nil {
		t.Fatal(err)
	}
	_, first := r.Next()
	_, second := r.Next()
	if fault(t, first, CodeInvalidJSON); second != first {
		t.Fatalf("got %v after %v", second, first)
	}
}

type stuck struct{}

func (stuck) Read([]byte) (int, error) { return 0, nil }

func TestReader_ReaderWithoutProgress(t *testing.T) {
	r, err := NewReader(io.MultiReader(strings.NewReader(`[{"id"`), stuck{}), Options{IDField: "id"})
	if err == nil {
		_, err = r.Next()
	}
	if !errors.Is(err, io.ErrNoProgress) {
		t.Fatal(err)
	}
}

// Only the string of the id is allocated for a record.
func TestReader_AllocatesTheIDOnly(t *testing.T) {
	in := strings.Repeat(`{"id":"record-0001","t":"some text","n":[1,2,{"a":null}]}`+"\n", 2000)
	r, err := NewReader(strings.NewReader(in), Options{IDField: "id"})
	if err != nil {
		t.Fatal(err)
	}
	n := testing.AllocsPerRun(1000, func() {
		if _, err := r.Next(); err != nil {
			t.Fatal(err)
		}
	})
	if n > 1 {
		t.Fatalf("%v allocations a record", n)
	}
}
