package stream

import (
	"errors"
	"strings"
	"testing"
	"unicode/utf8"
)

var valid = ID{Environment: "dev", Integration: "demo", Connection: "acme", Model: "Brand", Variant: "base"}

func TestKey_VariantDefaultsToBase(t *testing.T) {
	id := valid
	id.Variant = ""
	if id.Key() != valid.Key() || id.Validate() != nil {
		t.Errorf("key %q, %v; want %q", id.Key(), id.Validate(), valid.Key())
	}
}

func TestValidate_NamesThePartThatIsWrong(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*ID)
		want   string
	}{
		"empty":     {func(id *ID) { id.Connection = "" }, "connection is empty"},
		"too long":  {func(id *ID) { id.Model = strings.Repeat("m", 256) }, "model has 256 bytes"},
		"not UTF-8": {func(id *ID) { id.Integration = "\xff" }, "integration is not UTF-8"},
		"NUL":       {func(id *ID) { id.Variant = "a\x00" }, "variant holds a NUL"},
		"all empty": {func(id *ID) { *id = ID{} }, "environment is empty"},
	} {
		t.Run(name, func(t *testing.T) {
			id := valid
			c.change(&id)
			if err := id.Validate(); !errors.Is(err, ErrInvalid) || !strings.Contains(err.Error(), c.want) {
				t.Errorf("error %v, want %q", err, c.want)
			}
		})
	}
}

func TestParseKey_RefusesEverySecondSpelling(t *testing.T) {
	for name, key := range map[string]string{
		"empty":                    "",
		"four parts":               "dev/demo/acme/Brand",
		"six parts":                "dev/demo/acme/Brand/base/1",
		"empty part":               "dev/demo//Brand/base",
		"no variant":               "dev/demo/acme/Brand/",
		"encoded without need":     "dev/demo/acme/%42rand/base",
		"hex in lower case":        "dev/demo/acme/%c3%a9/base",
		"space":                    "dev/demo/acme/Br and/base",
		"bytes above ASCII":        "dev/demo/acme/é/base",
		"plus for a space":         "dev/demo/acme/a+b/base",
		"cut percent sign":         "dev/demo/acme/Brand/base%4",
		"percent sign alone":       "dev/demo/acme/Brand/%",
		"not hex":                  "dev/demo/acme/%GGx/base",
		"encoded bytes not UTF-8":  "dev/demo/acme/%FF/base",
		"encoded NUL":              "dev/demo/acme/%00/base",
		"part too long":            "dev/demo/acme/" + strings.Repeat("m", 256) + "/base",
		"part too long, encoded":   "dev/demo/acme/" + strings.Repeat("%20", 256) + "/base",
		"key of a control record":  "~p/3",
		"key of another separator": "dev\x1fdemo\x1facme\x1fBrand\x1fbase",
	} {
		if id, err := ParseKey(key); !errors.Is(err, ErrInvalid) {
			t.Errorf("%s: %+v, %v", name, id, err)
		}
	}
}

func TestSplitRecordKey_RefusesWhatIsNotARecordKey(t *testing.T) {
	stream := valid.Key()
	for name, key := range map[string]string{
		"empty":                    "",
		"stream key":               stream, // its last part is no record id
		"key of a partition":       "~p/3",
		"empty id":                 stream + "/",
		"id too long":              stream + "/" + strings.Repeat("i", 513),
		"id too long, encoded":     stream + "/" + strings.Repeat("%20", 513),
		"slash in the id":          stream + "/a/b",
		"id not UTF-8":             stream + "/%FF",
		"NUL in the id":            stream + "/a%00",
		"id encoded without need":  stream + "/%41",
		"first digit not hex":      stream + "/%G0",
		"second digit not hex":     stream + "/%0G",
		"hex in lower case":        stream + "/%0a",
		"id with a bare character": stream + "/a b",
	} {
		if s, id, err := SplitRecordKey(key); !errors.Is(err, ErrInvalid) {
			t.Errorf("%s: %q, %q, %v", name, s, id, err)
		}
	}
}

func TestCheckID(t *testing.T) {
	for name, c := range map[string]struct {
		id string
		ok bool
	}{
		"empty":                          {"", false},
		"one byte":                       {"1", true},
		"512 bytes":                      {strings.Repeat("i", 512), true},
		"513 bytes":                      {strings.Repeat("i", 513), false},
		"512 bytes of two-byte letters":  {strings.Repeat("é", 256), true},
		"513 bytes of three-byte signs":  {strings.Repeat("日", 171), false},
		"NUL":                            {"a\x00b", false},
		"control characters but NUL":     {"\x01\t\n\x7f", true},
		"four-byte sign":                 {"💥", true},
		"U+FFFD itself":                  {"\uFFFD", true},
		"stray continuation":             {"a\x80", false},
		"cut sign at the end":            {"a\xe6\x97", false},
		"overlong":                       {"\xc0\x80", false},
		"surrogate":                      {"\xed\xa0\x80", false},
		"above U+10FFFF":                 {"\xf4\x90\x80\x80", false},
		"byte that UTF-8 does not have":  {"\xff", false},
		"valid signs behind invalid one": {"\xffé", false},
	} {
		if err := CheckID(c.id); (err == nil) != c.ok || err != nil && !errors.Is(err, ErrInvalid) {
			t.Errorf("%s: %v", name, err)
		}
		if err := CheckID([]byte(c.id)); (err == nil) != c.ok {
			t.Errorf("%s, as bytes: %v", name, err)
		}
	}
}

func TestCheckID_DoesNotAllocate(t *testing.T) {
	id := []byte(strings.Repeat("é日💥x", 40))
	if n := testing.AllocsPerRun(100, func() {
		if err := CheckID(id); err != nil {
			t.Fatal(err)
		}
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func TestAppendRecordKey_DoesNotAllocate(t *testing.T) {
	key, id, buf := valid.Key(), []byte("Crème brûlée"), make([]byte, 0, 256)
	if n := testing.AllocsPerRun(100, func() { buf = AppendRecordKey(buf[:0], key, id) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func FuzzParseKey(f *testing.F) {
	for _, key := range []string{valid.Key(), "a/b/c/d/e", "%E6%97%A5/%2F/%25/~._-/%0A", "a/b/c/d/%", "~p/0", "//// "} {
		f.Add(key)
	}
	f.Fuzz(func(t *testing.T, key string) {
		id, err := ParseKey(key)
		if err != nil {
			if !errors.Is(err, ErrInvalid) {
				t.Fatalf("error %v is not ErrInvalid", err)
			}
			return
		}
		if err := id.Validate(); err != nil {
			t.Fatalf("%q is accepted, but %v", key, err)
		}
		if id.Key() != key {
			t.Fatalf("%q is accepted, but its spelling is %q", key, id.Key())
		}
	})
}

func FuzzKey(f *testing.F) {
	f.Add("dev", "demo", "acme", "Brand", "base")
	f.Add("a/b", "%2F", "é", "\n", "")
	f.Fuzz(func(t *testing.T, environment, integration, connection, model, variant string) {
		id := ID{environment, integration, connection, model, variant}
		if id.Validate() != nil {
			return
		}
		key := id.Key()
		for i := range len(key) {
			if c := key[i]; c <= ' ' || c >= 0x7f {
				t.Fatalf("key %q is not printable ASCII", key)
			}
		}
		back, err := ParseKey(key)
		if id.Variant == "" {
			id.Variant = VariantBase
		}
		if err != nil || back != id {
			t.Fatalf("%+v, %v; want %+v", back, err, id)
		}
	})
}

func FuzzSplitRecordKey(f *testing.F) {
	for _, key := range []string{valid.Key() + "/1", valid.Key() + "/%2F%C3%A9", valid.Key(), "/////%41", "/////%"} {
		f.Add(key)
	}
	f.Fuzz(func(t *testing.T, key string) {
		s, id, err := SplitRecordKey(key)
		if err != nil {
			if !errors.Is(err, ErrInvalid) {
				t.Fatalf("error %v is not ErrInvalid", err)
			}
			return
		}
		if err := CheckID(id); err != nil {
			t.Fatalf("%q is accepted, but %v", key, err)
		}
		if back := RecordKey(s, id); back != key {
			t.Fatalf("%q is accepted, but its spelling is %q", key, back)
		}
	})
}

func FuzzRecordKey(f *testing.F) {
	f.Add("1")
	f.Add("a/b é %")
	f.Fuzz(func(t *testing.T, id string) {
		if err := CheckID(id); (err == nil) != (id != "" && len(id) <= IDBytesMax && utf8.ValidString(id) && !strings.Contains(id, "\x00")) {
			t.Fatalf("id %q: %v", id, err)
		} else if err != nil {
			return
		}
		s, back, err := SplitRecordKey(RecordKey(valid.Key(), id))
		if err != nil || s != valid.Key() || back != id {
			t.Fatalf("%q, %q, %v; want %q", s, back, err, id)
		}
	})
}
