package detect

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/zeebo/xxh3"
)

func scanner(t testing.TB, ignore ...string) *Detector {
	t.Helper()
	d, err := New(Options{Ignore: ignore})
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func scan(t testing.TB, d *Detector, payload string) Result {
	t.Helper()
	res, err := d.Scan([]byte(payload))
	if err != nil {
		t.Fatalf("%s: %v", payload, err)
	}
	return res
}

// keep copies a result, whose slices belong to the Detector.
func keep(res Result) Result {
	res.Fields = slices.Clone(res.Fields)
	ns := make([][]byte, len(res.Names))
	for k := range ns {
		ns[k] = bytes.Clone(res.Names[k])
	}
	res.Names = ns
	return res
}

func same(a, b Result) bool {
	return a.Hash == b.Hash && a.Shape == b.Shape && slices.Equal(a.Fields, b.Fields) && slices.EqualFunc(a.Names, b.Names, bytes.Equal)
}

var ignores = [][]string{
	nil,
	{"/a"},
	{"/owner/a", "/tags/0", "/created_at"},
	{"/*/a", "/items/*/b", "/a~1b", "/~01"},
	{"/*/*", "/owner"},
	{"/", "/*/0", "/0/*", "/*/1/a"},
}

func depthOf(payload []byte) int {
	depth, deepest, text := 0, 0, false
	for i := 0; i < len(payload); i++ {
		switch c := payload[i]; {
		case text && c == '\\':
			i++
		case c == '"':
			text = !text
		case text:
		case c == '{' || c == '[':
			depth++
			deepest = max(deepest, depth)
		case c == '}' || c == ']':
			depth--
		}
	}
	return deepest
}

func treeOf(t testing.TB, payload []byte, mark string) any {
	t.Helper()
	var v any
	dec := json.NewDecoder(strings.NewReader(protect(string(payload), mark)))
	dec.UseNumber()
	if err := dec.Decode(&v); err != nil {
		t.Fatal(err)
	}
	return v
}

// compare is the whole promise of Scan and Changed on one payload. old is a Detector that has seen other payloads.
func compare(t *testing.T, r *rand.Rand, old *Detector, payload []byte, ignore []string) {
	t.Helper()
	before := bytes.Clone(payload)
	fresh := scanner(t, ignore...)
	got, err := fresh.Scan(payload)
	again, errAgain := old.Scan(payload)
	if !bytes.Equal(payload, before) {
		t.Fatalf("payload was changed")
	}
	if fmt.Sprint(err) != fmt.Sprint(errAgain) {
		t.Fatalf("a new Detector says %v, an old one %v, of %q", err, errAgain, payload)
	}
	if depthOf(payload) > MaxDepth && errors.Is(err, ErrTooDeep) {
		return
	}
	ref, kind := refer(payload, ignore)
	if !errors.Is(err, kind) || (err == nil) != (kind == nil) {
		t.Fatalf("error %v, want %v, of %q", err, kind, payload)
	}
	if err != nil {
		var pe *PayloadError
		if !errors.As(err, &pe) || pe.Offset < 0 || pe.Offset > len(payload) {
			t.Fatalf("error without an offset: %#v", err)
		}
		return
	}
	if wrong := ref.check(got); wrong != "" {
		t.Fatalf("%s\nof %q", wrong, payload)
	}
	got = keep(got)
	if !same(got, again) {
		t.Fatalf("a new Detector says %v, an old one %v, of %q", got, again, payload)
	}

	tree := treeOf(t, payload, ref.mark)
	styled := style{r: r, mark: ref.mark, space: r.IntN(2) == 0, order: r.IntN(2) == 0, again: r.IntN(2) == 0}
	if len(ignore) > 0 {
		styled.again = false // what is ignored in a replaced value is another thing
	}
	other := styled.write(tree)
	if res := scan(t, old, other); !same(got, res) {
		t.Fatalf("another spelling gives %v, not %v:\n%s\n%s", res, got, payload, other)
	}

	next := []byte(styled.write(mutate(r, tree)))
	refNext, kind := refer(next, ignore)
	if kind != nil {
		t.Fatalf("mutation made %s: %v", next, kind)
	}
	res, err := old.Scan(next)
	if err != nil {
		t.Fatal(err)
	}
	if wrong := refNext.check(res); wrong != "" {
		t.Fatalf("%s\nof %q", wrong, next)
	}
	if (res.Hash == got.Hash) != (ref.text == refNext.text) {
		t.Fatalf("equal hashes: %t\n%s\n%s", res.Hash == got.Hash, ref.text, refNext.text)
	}
	if (res.Shape == got.Shape) != slices.Equal(ref.names, refNext.names) {
		t.Fatalf("shapes %x and %x of %q and %q", got.Shape, res.Shape, ref.names, refNext.names)
	}
	changed, ok := Changed(got.Names, got.Fields, res)
	if want := ref.diff(refNext); !ok || !slices.Equal(changed, want) {
		t.Fatalf("changed %q, want %q\n%s\n%s", changed, want, ref.text, refNext.text)
	}
}

func FuzzScan(f *testing.F) {
	for _, c := range invalid {
		f.Add([]byte(c.payload), uint64(1))
	}
	for _, c := range valid {
		f.Add([]byte(c), uint64(2))
	}
	for k, p := range corpus(800, true)[:4] {
		f.Add(p, uint64(k))
	}
	f.Fuzz(func(t *testing.T, payload []byte, seed uint64) {
		r, ignore := seeded(t, seed), ignores[seed%uint64(len(ignores))]
		// The old Detector has broken off in the middle of this payload and has then read it whole. Its past depends on
		// nothing else, because the fuzzer cannot work with a target that answers otherwise every time.
		old := scanner(t, ignore...)
		for range 2 {
			_, cut := old.Scan(payload[:r.IntN(len(payload)+1)])
			_, whole := old.Scan(payload)
			if whole == nil && cut != nil && !errors.Is(cut, ErrInvalidJSON) {
				t.Fatalf("a part of %q: %v", payload, cut)
			}
		}
		compare(t, r, old, payload, ignore)
	})
}

// TestScan_AgreesWithReference walks through random records with odd names, in random spelling.
func TestScan_AgreesWithReference(t *testing.T) {
	seed := rand.Uint64()
	r := seeded(t, seed)
	for k := range ignores {
		old := scanner(t, ignores[k]...)
		for range 400 {
			s := style{r: r, mark: "\ue000none", space: r.IntN(3) == 0, order: true, again: r.IntN(3) == 0}
			compare(t, r, old, []byte(s.write(randomObject(r, 4))), ignores[k])
		}
		for _, p := range corpus(800, true)[:50] {
			compare(t, r, old, p, ignores[k])
		}
	}
}

// TestScan_AgreesOnDamagedPayloads breaks valid payloads in random places.
func TestScan_AgreesOnDamagedPayloads(t *testing.T) {
	r := seeded(t, rand.Uint64())
	old := scanner(t)
	for range 6000 {
		s := style{r: r, mark: "\ue000none", space: r.IntN(3) == 0, order: true}
		p := []byte(s.write(randomObject(r, 3)))
		for range 1 + r.IntN(2) {
			at := r.IntN(len(p))
			switch r.IntN(4) {
			case 0:
				p = p[:at+1]
			case 1:
				p[at] = pick(r, []byte("{}[]\",:\\/u0-+.eE tfn\x00\x1f\x7f\x80\xc0\xed\xf0\xff")...)
			case 2:
				p = slices.Delete(p, at, at+1)
			default:
				p = slices.Insert(p, at, pick(r, []byte("{}[]\",:\\u01-+.eE \n\x00\x80\xff")...))
			}
			if len(p) == 0 {
				break
			}
		}
		compare(t, r, old, p, nil)
	}
}

var valid = []string{
	`{}`, ` { } `, "\t\n\r {\t\n\r }\t\n\r ", `{"a":1}`, `{"":""}`, `{"a":{},"b":[],"c":"","d":null,"e":true,"f":false}`,
	`{"a":[[],{},[[]],[{}]]}`, `{"n":[0,-0,0.0,1e1,1E+1,1e-1,-1.5e10,12345678,123456789012345678901234567890]}`,
	`{"s":"\"\\\/\b\f\n\r\t\u0000\u001f\u0041\u00e9\ud83d\ude00\u2028"}`, `{"s":"\ud800"}`, `{"s":"\udc00\ud800"}`,
	`{"s":"\ud800\ud800\udc00"}`, `{"s":"\uD83D"}`, `{"s":"\ud800\u0041"}`, `{"a":1,"a":2}`, `{"a":1,"b":2,"a":3}`,
	`{"a":{"x":1},"a":{"y":2}}`, `{"é":1,"😀":2,"￿":3}`, "{\"s\":\"\x7f\u2028\u2029\ufffe\uffff\"}", `{"\u0061":1,"a":2}`,
	`{"a\"b":1,"a\\b":2,"a\/b":3,"a\nb":4}`,
}

var invalid = []struct {
	payload string
	kind    error
	offset  int
}{
	{``, ErrInvalidJSON, 0},
	{` `, ErrInvalidJSON, 1},
	{`{`, ErrInvalidJSON, 1},
	{`}`, ErrInvalidJSON, 0},
	{`{"a"`, ErrInvalidJSON, 4},
	{`{"a":`, ErrInvalidJSON, 5},
	{`{"a":1`, ErrInvalidJSON, 6},
	{`{"a":1,`, ErrInvalidJSON, 7},
	{`{"a":1,}`, ErrInvalidJSON, 7},
	{`{,"a":1}`, ErrInvalidJSON, 1},
	{`{"a" 1}`, ErrInvalidJSON, 5},
	{`{"a":1 "b":2}`, ErrInvalidJSON, 7},
	{`{a:1}`, ErrInvalidJSON, 1},
	{`{'a':1}`, ErrInvalidJSON, 1},
	{`{"a":1}{}`, ErrInvalidJSON, 7},
	{`{"a":1} x`, ErrInvalidJSON, 8},
	{"{\"a\":1}\x00", ErrInvalidJSON, 7},
	{"\ufeff{}", ErrInvalidJSON, 0},
	{`{"a":}`, ErrInvalidJSON, 5},
	{`{"a":tru}`, ErrInvalidJSON, 5},
	{`{"a":nulL}`, ErrInvalidJSON, 5},
	{`{"a":NaN}`, ErrInvalidJSON, 5},
	{`{"a":01}`, ErrInvalidJSON, 6},
	{`{"a":-}`, ErrInvalidJSON, 6},
	{`{"a":+1}`, ErrInvalidJSON, 5},
	{`{"a":.5}`, ErrInvalidJSON, 5},
	{`{"a":1.}`, ErrInvalidJSON, 7},
	{`{"a":1e}`, ErrInvalidJSON, 7},
	{`{"a":1e+}`, ErrInvalidJSON, 8},
	{`{"a":0x1}`, ErrInvalidJSON, 6},
	{`{"a":-01}`, ErrInvalidJSON, 7},
	{`{"a":[1,]}`, ErrInvalidJSON, 8},
	{`{"a":[,1]}`, ErrInvalidJSON, 6},
	{`{"a":[1 2]}`, ErrInvalidJSON, 8},
	{`{"a":[1}`, ErrInvalidJSON, 7},
	{`{"a":"x`, ErrInvalidJSON, 7},
	{"{\"a\":\"x\ny\"}", ErrInvalidJSON, 7},
	{"{\"a\":\"\x00\"}", ErrInvalidJSON, 6},
	{`{"a":"\x41"}`, ErrInvalidJSON, 7},
	{`{"a":"\u12"}`, ErrInvalidJSON, 8},
	{`{"a":"\u12g4"}`, ErrInvalidJSON, 8},
	{`{"a":"\`, ErrInvalidJSON, 7},
	{"{\"a\":\"\xff\"}", ErrInvalidJSON, 6},
	{"{\"a\":\"\xc3\"}", ErrInvalidJSON, 6},
	{"{\"a\":\"\xc0\x80\"}", ErrInvalidJSON, 6},
	{"{\"a\":\"\xed\xa0\x80\"}", ErrInvalidJSON, 6},
	{"{\"a\":\"\xf4\x90\x80\x80\"}", ErrInvalidJSON, 6},
	{"{\"\xff\":1}", ErrInvalidJSON, 2},
	{`{"\ud800":1}`, ErrInvalidJSON, 1},
	{`{"a":{"\udfff":1}}`, ErrInvalidJSON, 6},
	{`[]`, ErrNotObject, 0},
	{` [{"a":1}, 2, "x", [true]] `, ErrNotObject, 0},
	{`"a"`, ErrNotObject, 0},
	{`1`, ErrNotObject, 0},
	{`null`, ErrNotObject, 0},
	{`[1`, ErrInvalidJSON, 2},
	{`nul`, ErrInvalidJSON, 0},
}

func TestScan_Refuses(t *testing.T) {
	d := scanner(t)
	scan(t, d, `{"a":1}`) // so that a name is known
	for _, c := range invalid {
		_, err := d.Scan([]byte(c.payload))
		var pe *PayloadError
		if !errors.Is(err, c.kind) || !errors.As(err, &pe) || pe.Offset != c.offset {
			t.Errorf("%q: %v, want %v at byte %d", c.payload, err, c.kind, c.offset)
		}
		compare(t, seeded(t, 1), d, []byte(c.payload), nil)
	}
	if _, err := d.Scan(make([]byte, MaxPayload+1)); !errors.Is(err, ErrTooLarge) {
		t.Error(err)
	}
}

func TestScan_ErrorHoldsNoPayload(t *testing.T) {
	_, err := scanner(t).Scan([]byte(`{"password":"hunter2" x}`))
	if err == nil || strings.Contains(err.Error(), "hunter2") || strings.Contains(err.Error(), "password") {
		t.Error(err)
	}
	if want := "invalid JSON: expected ',' or '}' at byte 22"; err.Error() != want {
		t.Errorf("%v, want %v", err, want)
	}
}

func TestScan_Accepts(t *testing.T) {
	d := scanner(t)
	for _, p := range valid {
		compare(t, seeded(t, 1), d, []byte(p), nil)
	}
}

// TestScan_Escapes spells every code unit as an escape, alone and before another.
func TestScan_Escapes(t *testing.T) {
	r, d := seeded(t, 1), scanner(t)
	for u := range 1 << 16 {
		if u > 0x200 && u&0xFF > 1 && u>>11 != 0xD800>>11 {
			continue
		}
		p := fmt.Appendf(nil, `{"a":"\u%04x","b":"\u%04X\udc00","\u%04x":1}`, u, u, u&0x7FF)
		res, err := d.Scan(p)
		if err != nil {
			t.Fatal(err)
		}
		ref, kind := refer(p, nil)
		if wrong := ref.check(res); kind != nil || wrong != "" {
			t.Fatalf("%s %v\nof %s", wrong, kind, p)
		}
		if u < 0x80 {
			compare(t, r, d, p, nil)
		}
	}
}

func TestScan_SameMeaning(t *testing.T) {
	d := scanner(t)
	for _, c := range [][]string{
		{`{"a":1,"b":2}`, `{"b":2,"a":1}`, " {\n\t\"b\" : 2 ,\r\"a\" : 1 } "},
		{`{"a":{"x":[1,{"p":1,"q":2}],"y":2}}`, `{"a":{"y":2,"x":[1,{"q":2,"p":1}]}}`, `{ "a" : { "y" : 2 , "x" : [ 1 , { "q" : 2 , "p" : 1 } ] } }`},
		{`{"a":"é/A\n\u001f"}`, `{"a":"\u00e9\/\u0041\u000a\u001F"}`},
		{`{"a":"😀"}`, `{"a":"\ud83d\ude00"}`, `{"a":"\uD83D\uDE00"}`},
		{`{"a":"\ud83d"}`, `{"a":"\uD83D"}`},
		{`{"é":1}`, `{"\u00e9":1}`},
		{`{"a":2}`, `{"a":1,"a":2}`, `{"\u0061":1,"a":2}`, `{"a":{"b":1},"a":2}`},
		{`{"o":{"a":2,"b":3}}`, `{"o":{"a":1,"b":3,"a":2}}`, `{"o":{"b":1},"o":{"a":2,"b":3}}`},
	} {
		first := keep(scan(t, d, c[0]))
		for _, p := range c[1:] {
			if got := scan(t, d, p); !same(first, got) {
				t.Errorf("%s and %s differ", c[0], p)
			}
		}
	}
}

func TestScan_OtherMeaning(t *testing.T) {
	d := scanner(t)
	seen := map[Hash]string{}
	for _, p := range []string{
		`{}`, `{"a":1}`, `{"a":"1"}`, `{"a":1.0}`, `{"a":1e0}`, `{"a":1E0}`, `{"a":-0}`, `{"a":0}`, `{"a":null}`, `{"a":"null"}`, `{"a":true}`,
		`{"a":"true"}`, `{"a":false}`, `{"a":{}}`, `{"a":[]}`, `{"a":""}`, `{"a":[{}]}`, `{"a":[[]]}`, `{"a":[null]}`, `{"a":[1,2]}`, `{"a":[2,1]}`,
		`{"a":[[1],2]}`, `{"a":[[1,2]]}`, `{"a":[1,[2]]}`, `{"a":[12]}`, `{"a":["1,2"]}`, `{"a":["1","2"]}`, `{"a":{"b":1}}`, `{"a":{"b":{}},"c":1}`,
		`{"a":{"b":{},"c":1}}`, `{"a":{},"b":1}`, `{"a":1,"b":{}}`, `{"":1}`, `{"":""}`, `{"a":"\ud83d"}`, `{"a":"\ude00"}`, `{"a":"\ufffd"}`,
		`{"a":"\\ud83d"}`, `{"a":"é"}`, `{"a":"e\u0301"}`, `{"a":"x"}`, `{"a":"x\u0000"}`, `{"a\u0000":"x"}`, `{"a":"x "}`, `{"a":"\",\"b\":\""}`, `{"a":"","b":""}`,
		`{"a":12345678901234567890}`, `{"a":12345678901234567891}`, `{"a":123456789012345678901}`,
	} {
		h := scan(t, d, p).Hash
		if q, ok := seen[h]; ok {
			t.Errorf("%s and %s have one hash", p, q)
		}
		seen[h] = p
	}
}

// TestScan_Stored pins the hashes: these are in topics and state stores.
func TestScan_Stored(t *testing.T) {
	d := scanner(t)
	res := scan(t, d, `{"z":[1.0,{"b":null,"a":"\u00e9"}],"a":"x"}`)
	canonical := `{"a":"x","z":[1.0,{"a":"é","b":null}]}`
	if want := RawHash([]byte(canonical)); res.Hash != want {
		t.Errorf("hash %x, want that of %s, %x", res.Hash, canonical, want)
	}
	for _, c := range []struct{ got, want string }{
		{fmt.Sprintf("%x", res.Hash), "39131e954bd59e8148ca39edfb357d72"},
		{fmt.Sprintf("%08x", res.Shape), "3c4af75b"},
		{fmt.Sprintf("%06x", res.Fields), "[0ed47d 639330]"},
		{fmt.Sprintf("%08x", d.Fingerprint()), "eb86ceeb"},
		{fmt.Sprintf("%08x", scanner(t, "/b", "/a").Fingerprint()), "37fd97d6"},
		{fmt.Sprintf("%x", RawHash(nil)), "99aa06d3014798d86001c324468d497f"}, // as the reference implementation has it
		{fmt.Sprintf("%x", RawHash([]byte("tidemark"))), "4cee4796e60b0c9e327e5f0227a23053"},
	} {
		if c.got != c.want {
			t.Errorf("%s, want %s", c.got, c.want)
		}
	}
	if got, want := Raw64([]byte("tidemark")), uint64(0x327e5f0227a23053); got != want {
		t.Errorf("%x, want %x", got, want)
	}
}

func TestScan_NamesInUTF16Order(t *testing.T) {
	// The example of RFC 8785, section 3.2.3, and the two places where UTF-8 orders otherwise.
	res := scan(t, scanner(t), `{"\u20ac":1,"\r":2,"\ufb33":3,"1":4,"\ud83d\ude00":5,"\u0080":6,"\u00f6":7,"\uffff":8,"\ue000":9,"\ud7ff":10}`)
	want := []string{"\r", "1", "\u0080", "ö", "€", "\ud7ff", "😀", "\ue000", "\ufb33", "\uffff"}
	for k, name := range res.Names {
		if string(name) != want[k] {
			t.Fatalf("%q, want %q", res.Names, want)
		}
	}
}

func TestScan_Depth(t *testing.T) {
	d := scanner(t)
	for _, open := range []string{`{"a":`, `[`} {
		shut := map[string]string{`{"a":`: "}", `[`: "]"}[open]
		nest := func(n int) string {
			return `{"a":` + strings.Repeat(open, n-1) + "1" + strings.Repeat(shut, n-1) + "}"
		}
		scan(t, d, nest(MaxDepth))
		for _, n := range []int{MaxDepth + 1, 100000} {
			_, err := d.Scan([]byte(nest(n)))
			if !errors.Is(err, ErrTooDeep) || errors.Is(err, ErrInvalidJSON) {
				t.Errorf("%d levels of %s: %v", n, open, err)
			}
		}
	}
	// Out of order and spaced on every level.
	deep := strings.Repeat(`{"b": 1, "a": `, MaxDepth-10) + "0" + strings.Repeat("}", MaxDepth-10)
	compare(t, seeded(t, 1), d, []byte(deep), nil)
}

func TestScan_LetsGoOfLargeScratch(t *testing.T) {
	d := scanner(t)
	for _, size := range []int{1, 1, 4 << 20, 4 << 20, 1, 1} {
		res := scan(t, d, `{"a":"`+strings.Repeat("x", size)+`"}`)
		if len(res.Names) != 1 || string(res.Names[0]) != "a" {
			t.Errorf("names %q", res.Names)
		}
	}
	if n := cap(d.src) + cap(d.out) + cap(d.fin); n > 16<<10 {
		t.Errorf("%d bytes kept", n)
	}
}

func TestScan_FieldIsNeverZero(t *testing.T) {
	const value = 10014863 // the low 24 bits of XXH3-64 of these digits are 0
	if h := uint32(xxh3.HashString(strconv.Itoa(value))) << 8; h != 0 {
		t.Fatalf("%x", h)
	}
	if res := scan(t, scanner(t), fmt.Sprintf(`{"a":%d}`, value)); res.Fields[0] != 1 {
		t.Errorf("%x", res.Fields)
	}
}

func TestScan_ManyMembers(t *testing.T) {
	var b strings.Builder
	b.WriteString(`{"":0`)
	r := seeded(t, 1)
	for k := range 5000 {
		fmt.Fprintf(&b, `,"k%d":%d,"o":{"b":1,"a%d":2}`, r.IntN(1<<30), k, k)
	}
	b.WriteString("}")
	compare(t, r, scanner(t), []byte(b.String()), nil)
}

func TestScan_AllocatesNothing(t *testing.T) {
	for name, d := range map[string]*Detector{"plain": scanner(t), "ignoring": scanner(t, "/updated_at", "/*/id", "/tags/0")} {
		records := append(corpus(800, true), corpus(350, false)...)
		records = append(records, []byte(`{"b": "\u00e9", "a\n": {"d": 1, "c": [{"y": 1, "x": 2}]}}`))
		var wide strings.Builder // more members than insertion sort takes, more names than are remembered
		wide.WriteString(`{"":0`)
		for k := range 300 {
			fmt.Fprintf(&wide, `,"%x":%d`, k*7919%1009, k)
		}
		records = append(records, []byte(wide.String()+"}"))
		for _, p := range records {
			scan(t, d, string(p))
		}
		k := 0
		if n := testing.AllocsPerRun(5*len(records), func() {
			if _, err := d.Scan(records[k%len(records)]); err != nil {
				t.Fatal(err)
			}
			k++
		}); n != 0 {
			t.Errorf("%s: %v allocations a scan", name, n)
		}
	}
}
