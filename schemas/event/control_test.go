package event

import (
	"bytes"
	"encoding/json"
	"errors"
	"strings"
	"testing"
)

func mustMarshal(t *testing.T, v any) []byte {
	t.Helper()
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// Foreign tools take a null value for a tombstone.
func TestAppendControl_IsNeverNull(t *testing.T) {
	for op := OpUnknown; op < opEnd; op++ {
		value, err := AppendControl([]byte("front"), &Control{Op: op})
		if err != nil || !bytes.HasPrefix(value, []byte(`front{"v":1,"op":"`+op.String()+`",`)) || bytes.HasSuffix(value, []byte("\n")) {
			t.Errorf("%s: %q, %v", op, value, err)
		}
	}
}

func TestAppendControl_RefusesAStateThatIsNotJSON(t *testing.T) {
	if value, err := AppendControl(nil, &Control{Op: OpCheckpoint, State: []byte("{")}); err == nil {
		t.Errorf("%q", value)
	}
}

func TestParseControl(t *testing.T) {
	for name, c := range map[string]struct{ value, bad string }{
		"smallest":                 {`{"v":1}`, ""},
		"op of a later version":    {`{"v":1,"op":"FUTURE"}`, ""},
		"unknown members":          {`{"v":1,"op":"SEAL","later":[]}`, ""},
		"empty":                    {``, "control record"},
		"null":                     {`null`, "version 0"},
		"without version":          {`{"op":"SEAL"}`, "version 0"},
		"version 2":                {`{"v":2,"op":"SEAL"}`, "version 2"},
		"not JSON":                 {`{"v":1`, "control record"},
		"two documents":            {`{"v":1}{}`, "control record"},
		"wrong type":               {`{"v":1,"run":"12"}`, "control record"},
		"change of a record":       {`[]`, "control record"},
		"stream that is not one":   {`{"v":1,"stream":"dev/demo"}`, "control record"},
		"nonce beyond 32 bits":     {`{"v":1,"nonce":4294967296}`, "control record"},
		"partition beyond 31 bits": {`{"v":1,"partition":2147483648}`, "control record"},
	} {
		got, err := ParseControl([]byte(c.value))
		switch {
		case c.bad == "" && (err != nil || got.V != 1):
			t.Errorf("%s: %+v, %v", name, got, err)
		case c.bad != "" && (!errors.Is(err, ErrRecord) || !strings.Contains(err.Error(), c.bad)):
			t.Errorf("%s: %+v, %v; want %q", name, got, err, c.bad)
		}
	}
	if c, err := ParseControl([]byte(`{"v":1,"op":"FUTURE"}`)); err != nil || c.Op != OpUnknown {
		t.Errorf("%+v, %v", c, err)
	}
}

func FuzzParseControl(f *testing.F) {
	for _, s := range []string{
		`{"v":1,"op":"TERM","partition":3,"ts_ms":5,"term":4,"nonce":7,"node":"é"}`, `{"v":1,"op":"CHECKPOINT","state":{"a" : [1.0,"<"]}}`,
		`{"v":1,"op":"RUN_COMPLETED","stream":{"environment":"dev"},"counts":{"added":1},"raw_offset":0}`, `{"V":1,"v":1}`, `{"v":1,"state":null}`,
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, value []byte) {
		c, err := ParseControl(value)
		if err != nil {
			if !errors.Is(err, ErrRecord) {
				t.Fatalf("error %v is not ErrRecord", err)
			}
			return
		}
		text, err := AppendControl(nil, c)
		if err != nil {
			t.Fatalf("%q is accepted, but cannot be written: %v", value, err)
		}
		back, err := ParseControl(text)
		if err != nil {
			t.Fatalf("%s: %v", text, err)
		}
		again, err := AppendControl(nil, back)
		if err != nil || !bytes.Equal(again, text) {
			t.Fatalf("%s comes back as %s, %v", text, again, err)
		}
	})
}
