package event

import (
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"errors"
	"math"
	"math/rand/v2"
	"reflect"
	"strings"
	"testing"
)

// randomMeta has numbers of every magnitude, so that every length of varint occurs.
func randomMeta(r *rand.Rand) Meta {
	u64 := func() uint64 { return r.Uint64() >> r.IntN(64) }
	i63 := func() int64 { return int64(u64() >> 1) }
	m := Meta{
		Term: u64(), Nonce: r.Uint32(), CSN: u64(), GI: u64(), SID: uint32(u64()), RawOffset: max(i63()-1, -1), TS: i63(), Run: u64(),
		Commit: r.IntN(2) == 0, Record: r.IntN(2) == 0,
	}
	if m.Commit {
		m.N, m.RawNext = u64(), i63()
	}
	if m.Record {
		if m.CSN > 1 && r.IntN(2) == 0 {
			m.PrevCSN = 1 + r.Uint64N(m.CSN-1)
		}
		m.FirstSeen, m.Algo, m.Rev = i63(), byte(u64()), u64()
		m.PayloadOffset, m.PayloadLength, m.Live = u64(), u64(), u64()
		for i := range m.Hash {
			m.Hash[i], m.Digest[i] = byte(r.Uint32()), byte(r.Uint32())
		}
	}
	return m
}

func TestMeta_RoundTrip(t *testing.T) {
	for seed := range uint64(20_000) {
		m := randomMeta(rand.New(rand.NewPCG(seed, 1)))
		got := Meta{Term: 99, Commit: true, PrevCSN: 5, Rev: 7} // what was there before must not shine through
		if err := ParseMeta(AppendMeta([]byte("front")[:5], &m)[5:], &got); err != nil || got != m {
			t.Fatalf("seed %d: %+v, %v; want %+v", seed, got, err, m)
		}
	}
}

// A field that is added to Meta and forgotten in AppendMeta or ParseMeta is found here.
func TestMeta_EveryFieldTravels(t *testing.T) {
	base := Meta{Commit: true, Record: true, CSN: 1000, TS: 5000, FirstSeen: 4000}
	typ := reflect.TypeFor[Meta]()
	for i := range typ.NumField() {
		m := base
		switch f := reflect.ValueOf(&m).Elem().Field(i); f.Kind() {
		case reflect.Bool:
			continue // the sections; TestMeta_RoundTrip has both of both
		case reflect.Array:
			f.Index(15).SetUint(1)
		case reflect.Int64:
			f.SetInt(f.Int() + 1)
		default:
			f.SetUint(f.Uint() + 1)
		}
		var got Meta
		if err := ParseMeta(AppendMeta(nil, &m), &got); err != nil || got != m || got == base {
			t.Errorf("%s is lost: %+v, %v", typ.Field(i).Name, got, err)
		}
	}
}

func TestParseMeta_RefusesEverySecondSpelling(t *testing.T) {
	m := Meta{Term: 3, Nonce: 9, CSN: 90417, SID: 7, RawOffset: 5, TS: 100, Run: 1, Commit: true, N: 1, RawNext: 6, Record: true, PrevCSN: 4711, FirstSeen: 90, Algo: 1, Rev: 2}
	text := AppendMeta(nil, &m)
	b, err := base64.RawURLEncoding.DecodeString(string(text))
	if err != nil {
		t.Fatal(err)
	}
	encode := func(b []byte) string { return base64.RawURLEncoding.EncodeToString(b) }
	edit := func(at int, with ...byte) string { // with replaces one byte
		return encode(append(append(append([]byte(nil), b[:at]...), with...), b[at+1:]...))
	}
	const term = 2 + 4 + 16 + 16 + 1 // where it is
	if b[term] != 3 {
		t.Fatalf("the term is not at byte %d of %x", term, b)
	}
	cases := map[string]string{
		"empty":                         "",
		"cut in base64":                 string(text[:len(text)-1]),
		"longer":                        encode(append(append([]byte(nil), b...), 0)),
		"standard base64":               base64.RawStdEncoding.EncodeToString([]byte{1, 0xfb, 0xff, 0xff}),
		"padding":                       string(text) + "=",
		"line break":                    string(text[:7]) + "\n" + string(text[7:]),
		"line break at the end":         string(text) + "\r\n",
		"version 0":                     edit(0, 0),
		"version 2":                     edit(0, 2),
		"unknown flag":                  edit(1, b[1]|4),
		"term with a trailing zero":     edit(term, b[term]|0x80, 0),
		"term with many trailing zeros": edit(term, b[term]|0x80, 0x80, 0x80, 0),
		"varint beyond 64 bits":         edit(term, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x02),
		"varint of 11 bytes":            edit(term, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x01),
		"far too long":                  strings.Repeat("A", 1<<20),
		"longer than any meta":          strings.Repeat("A", metaTextMax+1),
	}
	if last := text[len(text)-1]; len(b)%3 == 0 {
		t.Fatalf("%d bytes leave no spare bits", len(b))
	} else {
		cases["spare bits of base64"] = string(text[:len(text)-1]) + string(last+1)
	}
	for cut := range b {
		cases["cut to "+encode(b[:cut])] = encode(b[:cut])
	}
	for name, text := range cases {
		got := Meta{Term: 1}
		if err := ParseMeta([]byte(text), &got); !errors.Is(err, ErrMeta) {
			t.Errorf("%s: %+v, %v", name, got, err)
		}
	}
}

// Numbers that a field cannot hold, or that two spellings would have.
func TestParseMeta_RefusesWhatAppendMetaCannotMean(t *testing.T) {
	head := func(sid, rawOffset, ts uint64) []byte {
		b := append([]byte{metaVersion, flagRecord, 0, 0, 0, 1}, make([]byte, 16+16+1)...) // nonce 1, hash, digest, algo
		b = append(b, 1, 10, 0)                                                            // term 1, csn 10, gi 0
		b = binary.AppendUvarint(b, sid)
		b = binary.AppendUvarint(b, rawOffset)
		b = binary.AppendUvarint(b, ts)
		return append(b, 0) // run
	}
	tail := func(b []byte, back uint64, seen int64) string {
		b = binary.AppendUvarint(b, back)
		b = binary.AppendVarint(b, seen)
		return base64.RawURLEncoding.EncodeToString(append(b, 0, 0, 0, 0))
	}
	var m Meta
	if err := ParseMeta([]byte(tail(head(7, 5, 100), 9, 100)), &m); err != nil || m.PrevCSN != 1 || m.FirstSeen != 0 {
		t.Fatalf("the case that is right: %+v, %v", m, err)
	}
	for name, text := range map[string]string{
		"sid beyond 32 bits":                     tail(head(math.MaxUint32+1, 5, 100), 9, 100),
		"raw offset beyond 63 bits":              tail(head(7, math.MaxInt64+1, 100), 9, 100),
		"ts beyond 63 bits":                      tail(head(7, 5, math.MaxInt64+1), 9, 100),
		"previous csn 0 by subtraction":          tail(head(7, 5, 100), 10, 100),
		"previous csn below 0":                   tail(head(7, 5, 100), 11, 100),
		"first seen before 1970":                 tail(head(7, 5, 100), 9, 101),
		"first seen beyond 63 bits":              tail(head(7, 5, 100), 9, -math.MaxInt64),
		"first seen beyond 63 bits, by the most": tail(head(7, 5, 100), 9, math.MinInt64),
	} {
		if err := ParseMeta([]byte(text), &m); !errors.Is(err, ErrMeta) {
			t.Errorf("%s: %+v, %v", name, m, err)
		}
	}
}

func TestMeta_LargestFitsItsBounds(t *testing.T) {
	const most = math.MaxUint64
	m := Meta{
		Term: most, CSN: most, GI: most, SID: math.MaxUint32, RawOffset: math.MaxInt64 - 1, TS: math.MaxInt64, Run: most, Commit: true, N: most,
		RawNext: math.MaxInt64, Record: true, PrevCSN: 1, Rev: most, PayloadOffset: most, PayloadLength: most, Live: most,
	}
	text := AppendMeta(nil, &m)
	var got Meta
	if err := ParseMeta(text, &got); err != nil || got != m || len(text) > metaTextMax {
		t.Fatalf("%d bytes of %d: %v", len(text), metaTextMax, err)
	}
}

// The second copy of the hash costs nothing only as long as both are spelled alike.
func TestMeta_SpellsTheHashAsTheEnvelopeDoes(t *testing.T) {
	for seed := range uint64(100) {
		m := randomMeta(rand.New(rand.NewPCG(seed, 1)))
		if m.Record = true; m.CSN == 0 {
			m.CSN = 1
		}
		value := AppendChange(nil, &Change{Op: OpAdded, Key: testKey, ID: []byte("1"), Payload: []byte("{}")}, &m)
		var e Envelope
		if err := json.Unmarshal(value, &e); err != nil {
			t.Fatal(err)
		}
		if text := string(AppendMeta(nil, &m)); !strings.Contains(text, e.Hash[:20]) {
			t.Fatalf("seed %d: hash %s is not in %s", seed, e.Hash, text)
		}
	}
}

func TestMeta_DoesNotAllocate(t *testing.T) {
	_, m := benchChange(rand.New(rand.NewPCG(1, 2)), 1)
	buf := make([]byte, 0, metaTextMax)
	var got Meta
	if n := testing.AllocsPerRun(100, func() {
		buf = AppendMeta(buf[:0], m)
		if err := ParseMeta(buf, &got); err != nil {
			t.Fatal(err)
		}
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func TestOp_NamesAreOneToOne(t *testing.T) {
	seen := map[string]Op{}
	for o := OpAdded; o < opEnd; o++ {
		name := o.String()
		if other, ok := seen[name]; ok || name == "UNKNOWN" || name == "" {
			t.Errorf("op %d is called %q, as is %d", o, name, other)
		}
		seen[name] = o
		if ParseOp([]byte(name)) != o {
			t.Errorf("%s is read as %s", name, ParseOp([]byte(name)))
		}
		var back Op
		if text, err := o.MarshalText(); err != nil || back.UnmarshalText(text) != nil || back != o {
			t.Errorf("%s travels as %s and comes back as %s", o, text, back)
		}
		if o.IsChange() != (name == "ADDED" || name == "UPDATED" || name == "DELETED") {
			t.Errorf("%s: IsChange is %v", o, o.IsChange())
		}
	}
	for _, name := range []string{"", "added", "ADDED ", "UNKNOWN", "DEAD"} {
		if o := ParseOp([]byte(name)); o != OpUnknown || o.IsChange() {
			t.Errorf("%q is read as %s", name, o)
		}
	}
	if OpUnknown.String() != "UNKNOWN" || Op(200).String() != "UNKNOWN" {
		t.Error("ops without a name must be UNKNOWN")
	}
}

func FuzzParseMeta(f *testing.F) {
	for seed := range uint64(8) {
		m := randomMeta(rand.New(rand.NewPCG(seed, 1)))
		f.Add(AppendMeta(nil, &m))
	}
	f.Add([]byte("AQA\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		var m Meta
		if err := ParseMeta(text, &m); err != nil {
			if !errors.Is(err, ErrMeta) {
				t.Fatalf("error %v is not ErrMeta", err)
			}
			return
		}
		if back := AppendMeta(nil, &m); string(back) != string(text) {
			t.Fatalf("%q is accepted, but its spelling is %q", text, back)
		}
	})
}

// FuzzParseMetaBinary is FuzzParseMeta behind base64, where a fuzzer gets further.
func FuzzParseMetaBinary(f *testing.F) {
	for seed := range uint64(8) {
		m := randomMeta(rand.New(rand.NewPCG(seed, 1)))
		b, err := base64.RawURLEncoding.DecodeString(string(AppendMeta(nil, &m)))
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		text := base64.RawURLEncoding.EncodeToString(b)
		var m Meta
		if ParseMeta([]byte(text), &m) != nil {
			return
		}
		if back := AppendMeta(nil, &m); string(back) != text {
			t.Fatalf("%x is accepted as %+v, but its spelling is %q, not %q", b, m, back, text)
		}
		if m.RawOffset < -1 || m.TS < 0 || m.FirstSeen < 0 || m.RawNext < 0 || m.PrevCSN != 0 && m.PrevCSN >= m.CSN {
			t.Fatalf("%x is accepted as %+v", b, m)
		}
	})
}

func FuzzParseRecord(f *testing.F) {
	m := randomMeta(rand.New(rand.NewPCG(2, 1)))
	f.Add([]byte("op"), []byte("ADDED"), []byte("m"), AppendMeta(nil, &m))
	f.Add([]byte("m"), AppendMeta(nil, &m), []byte("op"), []byte("FUTURE"))
	f.Add([]byte("x"), []byte{}, []byte("op"), []byte{})
	f.Fuzz(func(t *testing.T, k1, v1, k2, v2 []byte) {
		headers := []Header{{k1, v1}, {[]byte("csn"), []byte("1")}, {k2, v2}}
		var m Meta
		op, err := ParseRecord(headers, &m)
		if err != nil {
			if !errors.Is(err, ErrRecord) || op != OpUnknown {
				t.Fatalf("op %v, error %v", op, err)
			}
			return
		}
		name, _ := Get(headers, HeaderOp)
		text, _ := Get(headers, HeaderMeta)
		if string(k1) != string(k2) && (ParseOp(name) != op || string(AppendMeta(nil, &m)) != string(text)) {
			t.Fatalf("%s %+v, headers %q", op, m, headers)
		}
		if op.IsChange() && !m.Record {
			t.Fatalf("%s without a record section", op)
		}
	})
}

func TestParseRecord(t *testing.T) {
	control := AppendMeta(nil, &Meta{Term: 1, CSN: 1})
	record := AppendMeta(nil, &Meta{Term: 1, CSN: 1, Record: true})
	h := func(kv ...string) (hs []Header) {
		for i := 0; i < len(kv); i += 2 {
			hs = append(hs, Header{[]byte(kv[i]), []byte(kv[i+1])})
		}
		return hs
	}
	for name, c := range map[string]struct {
		headers []Header
		want    Op
		bad     string
	}{
		"a change":                      {h("op", "ADDED", "csn", "1", "m", string(record)), OpAdded, ""},
		"a control record":              {h("op", "PRUNED", "csn", "1", "m", string(control)), OpPruned, ""},
		"headers in another order":      {h("m", string(record), "x", "", "op", "DELETED"), OpDeleted, ""},
		"an op of a later version":      {h("op", "FUTURE", "m", string(control)), OpUnknown, ""},
		"an empty op":                   {h("op", "", "m", string(control)), OpUnknown, ""},
		"no op":                         {h("csn", "1", "m", string(control)), OpUnknown, "missing"},
		"no m":                          {h("op", "ADDED", "csn", "1"), OpUnknown, "missing"},
		"no headers at all":             {nil, OpUnknown, "missing"},
		"m is damaged":                  {h("op", "ADDED", "m", string(record[:20])), OpUnknown, "malformed header m"},
		"a change without its record":   {h("op", "UPDATED", "m", string(control)), OpUnknown, "UPDATED without a record section"},
		"headers of another case":       {h("OP", "ADDED", "M", string(record)), OpUnknown, "missing"},
		"somebody else's record on top": {h("traceparent", "00-0-0-00"), OpUnknown, "missing"},
	} {
		var m Meta
		op, err := ParseRecord(c.headers, &m)
		switch {
		case c.bad == "" && (err != nil || op != c.want || m.Term != 1):
			t.Errorf("%s: %v, %+v, %v", name, op, m, err)
		case c.bad != "" && (!errors.Is(err, ErrRecord) || !strings.Contains(err.Error(), c.bad)):
			t.Errorf("%s: error %v, want %q", name, err, c.bad)
		}
	}
}
