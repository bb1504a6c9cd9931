package event

import (
	"errors"
	"reflect"
	"testing"

	"github.com/tidemark-dev/tidemark/schemas/errcode"
)

func TestParseDeadLetter_RefusesWhatIsNone(t *testing.T) {
	good := DeadLetterHeaders(errcode.RawInvalidID, "x", 3, 9, headers("t", "s"))
	if d, err := ParseDeadLetter(good); err != nil || d.Offset != 9 || len(d.Raw) != 1 {
		t.Fatalf("%+v, %v", d, err)
	}
	with := func(at int, key, value string) []Header {
		hs := append([]Header(nil), good...)
		hs[at] = Header{[]byte(key), []byte(value)}
		return hs
	}
	for name, hs := range map[string][]Header{
		"no headers":               nil,
		"cut":                      good[:3],
		"a raw event":              headers("t", "s", "id", "1", "run", "1", "n", "1"),
		"another order":            append(append([]Header(nil), good[1:]...), good[0]),
		"partition not a number":   with(2, HeaderDeadPartition, "x"),
		"partition beyond 31 bits": with(2, HeaderDeadPartition, "2147483648"),
		"offset not a number":      with(3, HeaderDeadOffset, ""),
		"offset beyond 63 bits":    with(3, HeaderDeadOffset, "9223372036854775808"),
	} {
		if d, err := ParseDeadLetter(hs); !errors.Is(err, ErrDeadLetter) {
			t.Errorf("%s: %+v, %v", name, d, err)
		}
	}
}

func FuzzDeadLetter(f *testing.F) {
	f.Add("raw.invalid_id", "x", int32(3), int64(9), []byte("t"), []byte("s"), []byte("17"))
	f.Fuzz(func(t *testing.T, code, detail string, partition int32, offset int64, key, value, number []byte) {
		want := DeadLetter{errcode.Code(code), detail, partition, offset, []Header{{key, value}}}
		hs := DeadLetterHeaders(want.Code, detail, partition, offset, want.Raw)
		if got, err := ParseDeadLetter(hs); err != nil || !reflect.DeepEqual(got, want) {
			t.Fatalf("%+v, %v; want %+v", got, err, want)
		}
		hs[3].Value = number // any text where a number is due
		if _, err := ParseDeadLetter(hs); err != nil && !errors.Is(err, ErrDeadLetter) {
			t.Fatalf("error %v is not ErrDeadLetter", err)
		}
		hs[1].Key = key
		if _, err := ParseDeadLetter(hs); (err == nil) && string(key) != HeaderDeadDetail {
			t.Fatalf("key %q is accepted", key)
		}
	})
}
