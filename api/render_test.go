package api

import (
	"encoding/json"
	"math"
	"math/rand/v2"
	"testing"
	"time"
	"unicode/utf8"
)

// The stamp keeps state between calls: whatever came before, the text is that of package time.
func TestStamp(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rnd := rand.New(rand.NewPCG(seed, 0))
	var s stamp
	at := int64(0)
	check := func(ms int64) {
		t.Helper()
		want := time.UnixMilli(ms).UTC().Format(`"2006-01-02T15:04:05.000Z"`)
		if got := string(s.append(nil, ms)); got != want {
			t.Fatalf("%d ms: got %s, want %s", ms, got, want)
		}
	}
	for _, ms := range []int64{0, 0, -1, 1, dayMS - 1, dayMS, -dayMS, -dayMS - 1, 1_767_225_599_999, 253_402_300_799_999, 253_402_300_800_000, -62_167_219_200_001} {
		check(ms)
	}
	for range 50_000 {
		switch rnd.IntN(4) {
		case 0: // the same again
		case 1:
			at += rnd.Int64N(1000)
		case 2:
			at += rnd.Int64N(3*dayMS) - dayMS
		case 3:
			at = rnd.Int64N(300_000_000_000_000) - 62_000_000_000_000
		}
		check(at)
	}
	s.append(nil, math.MaxInt64) // a clock gone mad breaks nothing
	s.append(nil, math.MinInt64)
	check(1)
}

func FuzzAppendJSONString(f *testing.F) {
	f.Add("plain")
	f.Add("\"\\\n\x00\x1f\x7fé\u2028")
	f.Fuzz(func(t *testing.T, s string) {
		if !utf8.ValidString(s) {
			return // neither stored nor accepted
		}
		var got string
		if err := json.Unmarshal(appendJSONString(nil, s), &got); err != nil || got != s {
			t.Fatalf("%q became %q: %v", s, got, err)
		}
	})
}

func TestNearest(t *testing.T) {
	known := []string{"model", "variant", "cursor", "limit", "filter", "modified_after", "delta", "ids"}
	for name, want := range map[string]string{
		"modle": "model", "Models": "model", "curser": "cursor", "next_cursor": "", "limt": "limit", "page_size": "", "filters": "filter",
		"modified-after": "modified_after", "modifiedAfter": "modified_after", "id": "ids", "ids[]": "ids", "": "", "x": "", "vairant": "variant", "detla": "delta",
	} {
		if got := nearest(name, known); got != want {
			t.Errorf("%q: got %q, want %q", name, got, want)
		}
	}
	for _, c := range []struct {
		a, b string
		want int
	}{{"", "", 0}, {"", "abc", 3}, {"abc", "", 3}, {"abc", "abc", 0}, {"abc", "acb", 1}, {"kitten", "sitting", 3}, {"ca", "abc", 3}} {
		if got := distance(c.a, c.b); got != c.want {
			t.Errorf("%q to %q: got %d, want %d", c.a, c.b, got, c.want)
		}
	}
}

func TestAcceptedEncoding(t *testing.T) {
	for _, c := range []struct {
		header []string
		want   string
	}{
		{nil, ""}, {[]string{""}, ""}, {[]string{"gzip"}, "gzip"}, {[]string{"zstd"}, "zstd"}, {[]string{"gzip, zstd"}, "zstd"},
		{[]string{"gzip", "zstd"}, "zstd"}, {[]string{"gzip;q=1.0, zstd;q=0.5"}, "gzip"}, {[]string{"GZIP"}, "gzip"}, {[]string{"br, deflate"}, ""},
		{[]string{"*"}, "zstd"}, {[]string{"*, zstd;q=0"}, "gzip"}, {[]string{"gzip;q=0"}, ""}, {[]string{"gzip; Q = 0.5"}, "gzip"},
		{[]string{"gzip;q=nonsense"}, ""}, {[]string{"identity, gzip;q=0.5"}, ""}, {[]string{"identity;q=0.1, gzip;q=0.5"}, "gzip"}, {[]string{"identity"}, ""},
		{[]string{"gzip;q=NaN"}, ""},
	} {
		if got := acceptedEncoding(c.header); got != c.want {
			t.Errorf("%q: got %q, want %q", c.header, got, c.want)
		}
	}
}
