package bridge

import (
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"net/http"
	"net/url"
	"reflect"
	"testing"
	"testing/iotest"
	"time"

	"github.com/ClickHouse/ch-go/compress"
	chproto "github.com/ClickHouse/ch-go/proto"
	"github.com/ClickHouse/clickhouse-go/v2/lib/proto"

	"github.com/tidemark-dev/tidemark/deploy/devclickhouse/chdb"
)

var known = map[string]bool{"max_threads": true, "network_compression_method": true, "enable_http_compression": true, "x_format": true, "readonly": true, "log_comment": true}

func TestSplitParameters(t *testing.T) {
	values, err := url.ParseQuery("query=SELECT&query=+1&database=d&default_format=CSV&compress=1&session_id=s&session_timeout=5&max_threads=1&max_threads=2" +
		"&param_a=b&t_structure=a+UInt8&u_types=UInt8,Tuple(a+Int8,b+Int8)&t_format=TSV&network_compression_method=zstd&enable_http_compression=0&readonly=0&log_comment=c&role=r&quota_key=q")
	if err != nil {
		t.Fatal(err)
	}
	p, err := splitParameters(values, http.Header{}, known)
	if err != nil {
		t.Fatal(err)
	}
	want := &parameters{
		query: "SELECT 1", database: "d", defaultFormat: "CSV", compress: true, noEncoding: true, frameMethod: "zstd", sessionID: "s", sessionIdle: 5 * time.Second,
		settings:      []setting{{"enable_http_compression", "0"}, {"max_threads", "2"}, {"network_compression_method", "zstd"}},
		params:        map[string]string{"a": "b"},
		logComment:    "c",
		structures:    map[string]string{"t": "a UInt8", "u": "_1 UInt8, _2 Tuple(a Int8,b Int8)"},
		structFormats: map[string]string{"t": "TSV"},
	}
	if !reflect.DeepEqual(p, want) {
		t.Errorf("the parameters are %+v, want %+v", p, want)
	}
}

// FuzzSplitParameters checks that nothing but settings that the engine knows becomes one, and that setting them is one statement of
// names and literals.
func FuzzSplitParameters(f *testing.F) {
	for _, s := range []string{"max_threads=1&query=x", "--path=/tmp", "max_threads=1',%20readonly%20=%20'0", "param_=&_format=", "a%00=b", "session_timeout=1e9", "readonly=0&max_threads"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, raw string) {
		values, err := url.ParseQuery(raw)
		if err != nil {
			return
		}
		p, err := splitParameters(values, http.Header{}, known)
		if err != nil {
			var ours *failure
			if !errors.As(err, &ours) {
				t.Fatalf("%q: %v", raw, err)
			}
			return
		}
		if p.sessionIdle > maxSessionTimeout {
			t.Fatalf("%q: a session of %v", raw, p.sessionIdle)
		}
		sql := []byte(assignments(p.settings))
		s := newStatement(sql)
		if len(p.settings) > 0 && len(s.tokens) != 4*len(p.settings) {
			t.Fatalf("%q sets %s", raw, sql)
		}
		for i, st := range p.settings {
			name, value := s.at(4*i), s.at(4*i+2)
			if !known[st.name] || st.name == "readonly" || st.name == "log_comment" || name.name(sql) != st.name || !s.at(4*i+1).isPunct(sql, '=') ||
				value.kind != tokenString || unescape(string(sql[value.start+1:value.end-1]), '\'') != st.value {
				t.Fatalf("%q sets %s", raw, sql)
			}
		}
	})
}

// TestHelloBlock reads the bridge's own block as clickhouse-go does.
func TestHelloBlock(t *testing.T) {
	var block proto.Block
	reader := chproto.NewReader(bytes.NewReader(helloBlock("name", "26.7.2.1", "UTC")))
	if err := block.Decode(reader, 54460); err != nil {
		t.Fatal(err)
	}
	if _, err := reader.ReadByte(); !errors.Is(err, io.EOF) {
		t.Errorf("bytes are left behind the block: %v", err)
	}
	var name, version, zone string
	var revision uint32
	for i, into := range []any{&name, &version, &revision, &zone} {
		if err := block.Columns[i].ScanRow(into, 0); err != nil {
			t.Fatal(err)
		}
	}
	if name != "name" || version != "26.7.2.1" || revision != 0 || zone != "UTC" || block.Rows() != 1 {
		t.Errorf("the block says %s, %s, %d, %s", name, version, revision, zone)
	}
	if isHello([]byte("SELECT 1"), "Native") || isHello([]byte(helloQuery), "CSV") || !isHello([]byte(" "+helloQuery+"\n"), "Native") {
		t.Error("the query is not told from others")
	}
}

func TestExceptions(t *testing.T) {
	for text, want := range map[string]exception{
		"Code: 60. DB::Exception: no table. (UNKNOWN_TABLE)": {60, 404, "Code: 60. DB::Exception: no table. (UNKNOWN_TABLE) (version 1.2)"},
		"out of thread": {1002, 500, "Code: 1002. DB::Exception: out of thread (UNKNOWN_EXCEPTION) (version 1.2)"},
	} {
		if got := newException(errors.New(text), "1.2"); got.text != want.text {
			t.Errorf("%q becomes %+v, want %+v", text, got, want)
		}
	}
	got := newException(refuse(codeReadonly, "no"), "1.2")
	if want := (exception{164, 403, "Code: 164. DB::Exception: no (READONLY) (version 1.2)"}); got != want {
		t.Errorf("a refusal becomes %+v, want %+v", got, want)
	}
	got = newException(&chdb.Error{Code: 60, Message: "Code: 60. DB::Exception: no. (UNKNOWN_TABLE) (version 9)"}, "1.2")
	if want := (exception{60, 404, "Code: 60. DB::Exception: no. (UNKNOWN_TABLE) (version 9)"}); got != want || got.name() != "UNKNOWN_TABLE" {
		t.Errorf("the engine's becomes %+v, want %+v", got, want)
	}
}

func TestChooseEncoding(t *testing.T) {
	for accept, want := range map[string]string{"": "", "gzip": "gzip", "deflate, gzip;q=0.5": "gzip", "gzip, br": "br", "identity": "", "br;q=0, deflate": "deflate", "ZSTD": "zstd", "gzipped": ""} {
		if got := chooseEncoding(accept); got != want {
			t.Errorf("%q: %q, want %q", accept, got, want)
		}
	}
}

// TestFrames reads what is written, in pieces of all sizes, and tells a cut from an end.
func TestFrames(t *testing.T) {
	data := make([]byte, 3*maxFrame+17)
	rand.NewChaCha8([32]byte{7}).Read(data)
	for _, method := range []string{"", "LZ4", "lz4hc", "ZSTD", "NONE"} {
		var b bytes.Buffer
		w := newFrameWriter(&b, method)
		for _, piece := range [][]byte{data[:1], data[1:1000], data[1000:]} {
			if n, err := w.Write(piece); n != len(piece) || err != nil {
				t.Fatalf("%s: wrote %d, %v", method, n, err)
			}
		}
		whole := b.Bytes()
		got, err := io.ReadAll(&frameReader{frames: compress.NewReader(iotest.OneByteReader(bytes.NewReader(whole)))})
		if err != nil || !bytes.Equal(got, data) {
			t.Errorf("%s: read %d bytes, %v", method, len(got), err)
		}
		for _, cut := range []int{1, 20, len(whole) - 1} {
			if _, err := io.ReadAll(&frameReader{frames: compress.NewReader(bytes.NewReader(whole[:cut]))}); err == nil {
				t.Errorf("%s: cut at %d, it reads as an end", method, cut)
			}
		}
	}
}

func TestLoginMatches(t *testing.T) {
	l := Login{User: "u", Password: "p"}
	for login, want := range map[[2]string]bool{{"u", "p"}: true, {"u", ""}: false, {"", "p"}: false, {"u", "pp"}: false, {"U", "p"}: false} {
		if l.matches(login[0], login[1]) != want {
			t.Errorf("%v: %v", login, !want)
		}
	}
	if (Login{}).matches("", "") {
		t.Error("no login lets somebody in")
	}
}

func TestReadHead(t *testing.T) {
	never := func([]byte) bool { return false }
	if head, all, err := readHead(bytes.NewReader(make([]byte, 10000)), 10000, never); len(head) != 10000 || !all || err != nil {
		t.Errorf("a text of the limit: %d, %v, %v", len(head), all, err)
	}
	if head, all, err := readHead(bytes.NewReader(make([]byte, 10001)), 10000, never); len(head) <= 10000 || all || err != nil {
		t.Errorf("a text beyond the limit: %d, %v, %v", len(head), all, err)
	}
	if _, _, err := readHead(iotest.TimeoutReader(iotest.OneByteReader(bytes.NewReader(make([]byte, 10)))), 100, never); err == nil {
		t.Error("a text that cannot be read is taken for whole")
	}
}
