package cursor

import (
	"errors"
	"math"
	"math/rand/v2"
	"sort"
	"strings"
	"testing"
)

var sample = Cursor{CSN: 90417, Offset: 99123, Partition: 3, Term: 3, Tag: Tag{0xde, 0xad, 0xbe, 0xef}}

// Cursors of one stream sort as text by what they say: csn first.
func TestString_KeepsOrder(t *testing.T) {
	const seed = 1
	r := rand.New(rand.NewPCG(seed, 1))
	cursors := make([]Cursor, 2000)
	for i := range cursors {
		// Numbers of every magnitude, and many equal csns.
		cursors[i] = Cursor{
			CSN: r.Uint64() >> r.IntN(64), Offset: r.Int64()>>r.IntN(63) - 1, Partition: r.Int32(), Term: r.Uint32(), Tag: sample.Tag,
		}
		if i > 0 && r.IntN(3) == 0 {
			cursors[i].CSN = cursors[i-1].CSN
		}
	}
	sort.Slice(cursors, func(i, j int) bool { return cursors[i].String() < cursors[j].String() })
	for i := 1; i < len(cursors); i++ {
		a, b := cursors[i-1], cursors[i]
		if a.CSN > b.CSN || a.CSN == b.CSN && a.Offset > b.Offset {
			t.Fatalf("seed %d: %+v sorts in front of %+v", seed, a, b)
		}
	}
}

func TestParse_RefusesEveryOtherSpelling(t *testing.T) {
	text := sample.String()
	if len(text) != TextLength {
		t.Fatalf("length %d, want %d", len(text), TextLength)
	}
	// The last character carries two bits; the other three must be zero.
	spare := text[:TextLength-1] + string(text[TextLength-1]+1)
	version := Cursor{}.String()
	for name, s := range map[string]string{
		"empty":                        "",
		"cut":                          text[:TextLength-1],
		"longer":                       text + "0",
		"upper case":                   strings.ToUpper(text),
		"letter outside the alphabet":  "z" + text[1:],
		"padding":                      text[:TextLength-1] + "=",
		"line break inside":            text[:10] + "\n" + text[10:TextLength-1],
		"line break at the end":        text[:TextLength-1] + "\n",
		"NUL":                          text[:TextLength-1] + "\x00",
		"bytes above ASCII":            text[:TextLength-2] + "é",
		"spare bits":                   spare,
		"version 0":                    "00" + version[2:],
		"version 2":                    "08" + version[2:],
		"offset beyond int64":          encode(t, func(b []byte) { b[9] = 0x80 }),
		"partition beyond int32":       encode(t, func(b []byte) { b[17] = 0x80 }),
		"another system's page number": "2",
	} {
		if c, err := Parse(s); !errors.Is(err, ErrMalformed) {
			t.Errorf("%s: %+v, %v", name, c, err)
		}
		if _, err := ParseFor(s, sample.Tag); !errors.Is(err, ErrMalformed) {
			t.Errorf("%s: ParseFor says %v", name, err)
		}
	}
}

// A server that meets the cursor of a later version must say so, not call it a spelling mistake.
func TestParse_NamesAnUnknownVersion(t *testing.T) {
	s := encode(t, func(b []byte) { b[0] = 2 })
	if _, err := Parse(s); err == nil || !strings.Contains(err.Error(), "version 2, this server knows 1") {
		t.Errorf("error %v", err)
	}
}

// encode is sample with its bytes changed.
func encode(t *testing.T, change func([]byte)) string {
	t.Helper()
	b, err := encoding.DecodeString(sample.String())
	if err != nil {
		t.Fatal(err)
	}
	change(b)
	return encoding.EncodeToString(b)
}

func TestParseFor_RefusesAnotherStream(t *testing.T) {
	if c, err := ParseFor(sample.String(), sample.Tag); err != nil || c != sample {
		t.Fatalf("%+v, %v", c, err)
	}
	for i := range sample.Tag {
		tag := sample.Tag
		tag[i] ^= 1
		if _, err := ParseFor(sample.String(), tag); !errors.Is(err, ErrForeign) || errors.Is(err, ErrMalformed) {
			t.Errorf("tag %x: %v", tag, err)
		}
	}
}

// Two streams, or two lineages, must not share a tag by the way in which the text is put together.
func TestTagOf_TellsStreamsAndLineagesApart(t *testing.T) {
	seen := map[Tag]string{}
	for _, c := range [][2]string{{"a/b", "x"}, {"a/c", "x"}, {"a/b", "y"}, {"", "xa/b"}, {"xa/b", ""}, {"b", "xa/"}} {
		tag := TagOf(c[0], c[1])
		if other, ok := seen[tag]; ok {
			t.Errorf("%q has the tag of %q", c, other)
		}
		seen[tag] = c[0] + " " + c[1]
	}
}

func TestAppendText_DoesNotAllocate(t *testing.T) {
	buf := make([]byte, 0, TextLength)
	if n := testing.AllocsPerRun(100, func() { buf = sample.AppendText(buf[:0]) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func FuzzParse(f *testing.F) {
	f.Add(sample.String())
	f.Add(Cursor{Offset: -1}.String())
	f.Add(Cursor{CSN: math.MaxUint64, Offset: math.MaxInt64 - 1, Partition: math.MaxInt32, Term: math.MaxUint32}.String())
	f.Add("\n" + sample.String()[1:])
	f.Fuzz(func(t *testing.T, s string) {
		c, err := Parse(s)
		if err != nil {
			if !errors.Is(err, ErrMalformed) {
				t.Fatalf("error %v is not ErrMalformed", err)
			}
			return
		}
		if c.String() != s {
			t.Fatalf("%q is accepted, but its spelling is %q", s, c.String())
		}
		if c.Offset < -1 || c.Partition < 0 {
			t.Fatalf("%+v names no Kafka position", c)
		}
	})
}

func FuzzCursor(f *testing.F) {
	f.Add(uint64(1), int64(-1), int32(0), uint32(1), uint32(0))
	f.Fuzz(func(t *testing.T, csn uint64, offset int64, partition int32, term, tag uint32) {
		if offset < -1 || offset == math.MaxInt64 || partition < 0 {
			return // no Kafka position
		}
		c := Cursor{csn, offset, partition, term, Tag{byte(tag >> 24), byte(tag >> 16), byte(tag >> 8), byte(tag)}}
		if back, err := Parse(c.String()); err != nil || back != c {
			t.Fatalf("%+v, %v; want %+v", back, err, c)
		}
	})
}
