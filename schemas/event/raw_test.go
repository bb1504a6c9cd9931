package event

import (
	"bytes"
	"errors"
	"math"
	"reflect"
	"strings"
	"testing"

	"github.com/tidemark-dev/tidemark/schemas/errcode"
	"github.com/tidemark-dev/tidemark/schemas/stream"
)

func headers(kv ...string) (hs []Header) {
	for i := 0; i < len(kv); i += 2 {
		hs = append(hs, Header{[]byte(kv[i]), []byte(kv[i+1])})
	}
	return hs
}

func codeOf(t *testing.T, err error) errcode.Code {
	t.Helper()
	if err == nil {
		return ""
	}
	var re *RawError
	if !errors.As(err, &re) {
		t.Fatalf("error %T %v, want *RawError", err, err)
	}
	if _, ok := errcode.Lookup(re.Code); !ok {
		t.Fatalf("code %s is not registered", re.Code)
	}
	return re.Code
}

func TestParseRaw_Codes(t *testing.T) {
	for name, c := range map[string]struct {
		headers []Header
		want    errcode.Code
	}{
		"save":                         {headers("t", "s", "id", "1"), ""},
		"save in a run":                {headers("t", "s", "id", "1", "run", "12", "n", "7"), ""},
		"headers in another order":     {headers("n", "7", "id", "1", "run", "12", "t", "s"), ""},
		"unknown headers":              {headers("traceparent", "00", "t", "s", "T", "d", "id", "1"), ""},
		"largest numbers":              {headers("t", "s", "id", "1", "run", "18446744073709551615", "n", "18446744073709551615", "cas", "18446744073709551615"), ""},
		"leading zeros":                {headers("t", "s", "id", "1", "run", "007"), ""},
		"a run without ordinals":       {headers("t", "s", "id", "1", "run", "12"), ""},
		"cas 0":                        {headers("t", "s", "id", "1", "cas", "0"), ""},
		"checkpoint outside a run":     {headers("t", "k"), ""},
		"id of a control event":        {headers("t", "c", "id", ""), ""}, // not looked at
		"longest schema version":       {headers("t", "s", "id", "1", "sv", strings.Repeat("v", 128)), ""},
		"no headers":                   {nil, errcode.RawUnknownType},
		"no type":                      {headers("id", "1"), errcode.RawUnknownType},
		"empty type":                   {headers("t", "", "id", "1"), errcode.RawUnknownType},
		"long type":                    {headers("t", "save", "id", "1"), errcode.RawUnknownType},
		"type in upper case":           {headers("t", "S", "id", "1"), errcode.RawUnknownType},
		"unknown type":                 {headers("t", "z", "id", "1"), errcode.RawUnknownType},
		"NUL as type":                  {headers("t", "\x00", "id", "1"), errcode.RawUnknownType},
		"save without id":              {headers("t", "s"), errcode.RawInvalidID},
		"update without id":            {headers("t", "u", "id", ""), errcode.RawInvalidID},
		"delete without id":            {headers("t", "d"), errcode.RawInvalidID},
		"id too long":                  {headers("t", "s", "id", strings.Repeat("i", stream.IDBytesMax+1)), errcode.RawInvalidID},
		"id not UTF-8":                 {headers("t", "s", "id", "\xff"), errcode.RawInvalidID},
		"NUL in the id":                {headers("t", "s", "id", "a\x00"), errcode.RawInvalidID},
		"run event without run":        {headers("t", "b"), errcode.RawInvalidHeader},
		"end without run":              {headers("t", "e"), errcode.RawInvalidHeader},
		"failure without run":          {headers("t", "x"), errcode.RawInvalidHeader},
		"run 0":                        {headers("t", "b", "run", "0"), errcode.RawInvalidHeader},
		"run not a number":             {headers("t", "b", "run", "r_1"), errcode.RawInvalidHeader},
		"run empty":                    {headers("t", "b", "run", ""), errcode.RawInvalidHeader},
		"run negative":                 {headers("t", "b", "run", "-1"), errcode.RawInvalidHeader},
		"run with a plus":              {headers("t", "b", "run", "+1"), errcode.RawInvalidHeader},
		"run with a space":             {headers("t", "b", "run", " 1"), errcode.RawInvalidHeader},
		"run beyond 64 bits":           {headers("t", "b", "run", "18446744073709551616"), errcode.RawInvalidHeader},
		"run far beyond":               {headers("t", "b", "run", strings.Repeat("9", 1000)), errcode.RawInvalidHeader},
		"run as bytes":                 {headers("t", "b", "run", "\x00\x00\x00\x00\x00\x00\x00\x01"), errcode.RawInvalidHeader},
		"run 0 of a save":              {headers("t", "s", "id", "1", "run", "0"), errcode.RawInvalidHeader}, // not "outside any run"
		"run of 21 digits":             {headers("t", "b", "run", "000000000000000000001"), errcode.RawInvalidHeader},
		"cas beyond 64 bits":           {headers("t", "s", "id", "1", "cas", "18446744073709551616"), errcode.RawInvalidHeader},
		"cas beyond 64 bits, by more":  {headers("t", "s", "id", "1", "cas", "18446744073709551619"), errcode.RawInvalidHeader},
		"ordinal 0":                    {headers("t", "s", "id", "1", "run", "1", "n", "0"), errcode.RawInvalidHeader},
		"ordinal not a number":         {headers("t", "s", "id", "1", "run", "1", "n", "x"), errcode.RawInvalidHeader},
		"ordinal without run":          {headers("t", "s", "id", "1", "n", "1"), errcode.RawInvalidHeader},
		"cas not a number":             {headers("t", "s", "id", "1", "cas", "x"), errcode.RawInvalidHeader},
		"schema version too long":      {headers("t", "s", "id", "1", "sv", strings.Repeat("v", 129)), errcode.RawInvalidHeader},
		"the last of two types counts": {headers("t", "s", "id", "1", "t", "zz"), errcode.RawUnknownType},
		"the last of two ids counts":   {headers("t", "s", "id", "1", "id", ""), errcode.RawInvalidID},
		"a null id":                    {[]Header{{[]byte("t"), []byte("s")}, {[]byte("id"), nil}}, errcode.RawInvalidID},
		"a null header key":            {[]Header{{nil, []byte("x")}, {[]byte("t"), []byte("k")}}, ""},
	} {
		var r Raw
		if got := codeOf(t, ParseRaw(c.headers, nil, &r)); got != c.want {
			t.Errorf("%s: code %q, want %q", name, got, c.want)
		}
	}
}

// An error goes into a header of the dead letter and into a log: what it shows of a foreign value must have a bound.
func TestParseRaw_ErrorsAreBounded(t *testing.T) {
	long := strings.Repeat("\x01", 1<<16)
	for _, hs := range [][]Header{
		headers("t", long), headers("t", "s", "id", long), headers("t", "b", "run", long), headers("t", "b", "run", "1", "n", long),
		headers("t", "s", "id", "1", "cas", long), headers("t", "s", "id", "1", "sv", long),
	} {
		var r Raw
		if err := ParseRaw(hs, nil, &r); err == nil || len(err.Error()) > 300 {
			t.Errorf("error of %d bytes", len(err.Error()))
		}
	}
	for _, value := range []string{`{"events":` + strings.Repeat("9", 1<<16) + `}`, `{"mode":"` + strings.Repeat("x", 1<<16) + `"}`} {
		for _, v := range []any{new(RunEnd), new(Clear)} {
			if err := DecodeValue([]byte(value), v); err != nil && len(err.Error()) > 300 {
				t.Errorf("error of %d bytes", len(err.Error()))
			}
		}
	}
}

// What was decoded before must not shine through.
func TestParseRaw_OverwritesWhatWasThere(t *testing.T) {
	r := Raw{Type: RawSave, ID: []byte("9"), Run: 9, N: 9, CAS: 9, HasCAS: true, Schema: []byte("9"), Remove: []byte("9"), Value: []byte("9")}
	if err := ParseRaw(headers("t", "k"), nil, &r); err != nil || !reflect.DeepEqual(r, Raw{Type: RawCheckpoint}) {
		t.Errorf("%+v, %v", r, err)
	}
}

func TestParseRaw_DoesNotAllocate(t *testing.T) {
	hs := (&Raw{
		Type: RawSave, ID: []byte(strings.Repeat("é", 100)), Run: 12, N: math.MaxUint64, CAS: 1, HasCAS: true, Schema: []byte("v1"), Remove: []byte("[]"),
	}).Headers(nil)
	var r Raw
	if n := testing.AllocsPerRun(100, func() {
		if err := ParseRaw(hs, nil, &r); err != nil {
			t.Fatal(err)
		}
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func TestDecodeValue(t *testing.T) {
	for name, c := range map[string]struct {
		value string
		into  any
		want  any // nil: refused
	}{
		"nothing":                   {"", new(RunStart), &RunStart{}},
		"white space":               {" \n", new(RunStart), &RunStart{}},
		"null":                      {"null", new(RunEnd), &RunEnd{}},
		"unknown members":           {`{"later":[{}]}`, new(RunFailure), &RunFailure{}},
		"nothing for a clear":       {"", new(Clear), &Clear{Mode: ClearHard}},
		"soft":                      {`{"mode":"soft"}`, new(Clear), &Clear{Mode: ClearSoft}},
		"ratio 0":                   {`{"max_delete_ratio":0}`, new(RunEnd), &RunEnd{MaxDeleteRatio: new(float64)}},
		"any state":                 {`[1]`, new(any), ptrAny([]any{1.0})},
		"not JSON":                  {`{`, new(RunEnd), nil},
		"two documents":             {`{}{}`, new(RunEnd), nil},
		"not an object":             {`[]`, new(RunEnd), nil},
		"not UTF-8 outside strings": {"\xff", new(RunEnd), nil},
		"wrong type":                {`{"events":"1"}`, new(RunEnd), nil},
		"negative count":            {`{"events":-1}`, new(RunEnd), nil},
		"ratio above 1":             {`{"max_delete_ratio":1.5}`, new(RunEnd), nil},
		"ratio below 0":             {`{"max_delete_ratio":-0.5}`, new(RunEnd), nil},
		"unknown mode":              {`{"mode":"HARD"}`, new(Clear), nil},
		"prune of nothing":          {`{}`, new(Prune), nil},
		"decision without run":      {`{"decision":"approve"}`, new(Decision), nil},
		"decision without decision": {`{"run":1}`, new(Decision), nil},
		"unknown decision":          {`{"run":1,"decision":"Approve"}`, new(Decision), nil},
	} {
		err := DecodeValue([]byte(c.value), c.into)
		if got := codeOf(t, err); c.want == nil && got != errcode.RawInvalidValue {
			t.Errorf("%s: code %q, want %q", name, got, errcode.RawInvalidValue)
		} else if c.want != nil && (err != nil || !reflect.DeepEqual(c.into, c.want)) {
			t.Errorf("%s: %+v, %v; want %+v", name, c.into, err, c.want)
		}
	}
	yes, no := true, false
	for _, c := range []struct {
		s             RunStart
		tracks, fence bool
	}{{RunStart{}, true, true}, {RunStart{TrackDeletes: &no, Fence: &yes}, false, true}, {RunStart{TrackDeletes: &yes, Fence: &no}, true, false}} {
		if c.s.Tracks() != c.tracks || c.s.Fences() != c.fence {
			t.Errorf("%+v: %v, %v", c.s, c.s.Tracks(), c.s.Fences())
		}
	}
}

func ptrAny(v any) *any { return &v }

func FuzzParseRaw(f *testing.F) {
	f.Add([]byte("t"), []byte("s"), []byte("id"), []byte("é"), []byte("run"), []byte("12"), []byte("n"), []byte("7"), []byte("{}"))
	f.Add([]byte("t"), []byte("e"), []byte("run"), []byte("0"), []byte("cas"), []byte("x"), []byte("rm"), []byte("[]"), []byte(""))
	f.Add([]byte("sv"), []byte("v"), []byte("cas"), []byte("0"), []byte("t"), []byte("u"), []byte("id"), []byte("1"), []byte(nil))
	f.Fuzz(func(t *testing.T, k1, v1, k2, v2, k3, v3, k4, v4, value []byte) {
		var r Raw
		if err := ParseRaw([]Header{{k1, v1}, {k2, v2}, {k3, v3}, {k4, v4}}, value, &r); err != nil {
			codeOf(t, err)
			if len(err.Error()) > 300 {
				t.Fatalf("error of %d bytes", len(err.Error()))
			}
			return
		}
		var back Raw
		if err := ParseRaw(r.Headers(nil), r.Value, &back); err != nil {
			t.Fatalf("%+v does not read its own headers: %v", r, err)
		}
		// What a type does not use, and what is empty, is not written.
		if !r.InRecord() {
			r.ID = nil
		}
		if len(r.Schema) == 0 {
			r.Schema = nil
		}
		if len(r.Remove) == 0 {
			r.Remove = nil
		}
		if !reflect.DeepEqual(back, r) {
			t.Fatalf("%+v comes back as %+v", r, back)
		}
	})
}

func FuzzDecodeValue(f *testing.F) {
	for _, s := range []string{"", "{}", "null", `{"events":3,"delete_missing":true,"max_delete_ratio":0.5}`, `{"mode":"soft"}`, `{"run":1,"decision":"discard"}`, `{"until_csn":1}`, `[[[[`} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, value []byte) {
		for _, into := range []func() any{
			func() any { return new(RunStart) }, func() any { return new(RunEnd) }, func() any { return new(RunFailure) },
			func() any { return new(Clear) }, func() any { return new(Prune) }, func() any { return new(Decision) },
		} {
			v := into()
			if err := DecodeValue(value, v); err != nil {
				if codeOf(t, err) != errcode.RawInvalidValue || len(err.Error()) > 300 {
					t.Fatalf("error of %d bytes: %v", len(err.Error()), err)
				}
				continue
			}
			text := mustMarshal(t, v)
			again := into()
			if err := DecodeValue(text, again); err != nil || !bytes.Equal(mustMarshal(t, again), text) {
				t.Fatalf("%q is read as %s, which is read as %s, %v", value, text, mustMarshal(t, again), err)
			}
		}
	})
}
