package store

import (
	"bytes"
	"encoding/hex"
	"flag"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/RoaringBitmap/roaring/v2/roaring64"

	"github.com/tidemark-dev/tidemark/processor/segment"
	"github.com/tidemark-dev/tidemark/schemas/event"
)

var update = flag.Bool("update", false, "add golden files that are missing")

// golden compares with a golden file. Rows travel on the state topic and lie on disks: files are added, never changed.
func golden(t *testing.T, name string, have []byte) []byte {
	t.Helper()
	path := filepath.Join("testdata", name+".hex")
	want, err := os.ReadFile(path)
	if os.IsNotExist(err) && *update {
		if err := os.MkdirAll("testdata", 0o755); err != nil {
			t.Fatal(err)
		}
		want = []byte(hex.EncodeToString(have) + "\n")
		err = os.WriteFile(path, want, 0o644)
	}
	if err != nil {
		t.Fatal(err)
	}
	b, err := hex.DecodeString(strings.TrimSpace(string(want)))
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(b, have) {
		t.Fatalf("%s\nhave %x\nwant %x", name, have, b)
	}
	return b
}

func versions1() map[string]Version {
	hash := [16]byte{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16}
	return map[string]Version{
		"row-added":             {CSN: 1, PayloadCSN: 1, Op: event.OpAdded, TS: 1_800_000_000_000, FirstSeen: 1_800_000_000_000, Rev: 1, Hash: hash, Raw: 0xfeedface, Shape: 7, Fields: []uint32{1, 0xffffff}},
		"row-updated-no-fields": {CSN: 1 << 40, PayloadCSN: 1 << 40, Op: event.OpUpdated, TS: 1_800_000_000_000, FirstSeen: 1_700_000_000_000, Rev: 9, Hash: hash, Raw: 1},
		"row-deleted":           {CSN: 300, PayloadCSN: 300, Op: event.OpDeleted, TS: 5, FirstSeen: 4, Rev: 2, Hash: hash},
		"row-restored":          {CSN: 300, PayloadCSN: 900, Op: event.OpUpdated, TS: 5, FirstSeen: 4, Rev: 2, Hash: hash, Raw: 3, Shape: 1, Fields: []uint32{2}},
	}
}

func TestVersion_Golden(t *testing.T) {
	for name, v := range versions1() {
		b := golden(t, name, appendVersion(nil, &v))
		var have Version
		if err := parseVersion(b, &have); err != nil {
			t.Fatal(err)
		}
		if len(have.Fields) == 0 {
			have.Fields = nil
		}
		if !reflect.DeepEqual(have, v) {
			t.Fatalf("%s: have %+v, want %+v", name, have, v)
		}
	}
	golden(t, "key-row", appendRowKey(nil, 258, []byte("id/é")))
	golden(t, "key-late", sidKey64(keyLate, 258, 77))
	golden(t, "position", append(position{CSN: 5, Offset: 9, Term: 2, Nonce: 3}.key(), position{CSN: 5, Offset: 9, Term: 2, Nonce: 3}.value()...))
	golden(t, "late", appendLate(nil, &segment.Record{Op: byte(event.OpDeleted), TS: 9, FirstSeen: 8, Rev: 3, Run: 4, ID: []byte("x")}))
}

func FuzzParseVersion(f *testing.F) {
	for _, v := range versions1() {
		f.Add(appendVersion(nil, &v))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		var v, w Version
		if parseVersion(b, &v) != nil {
			return
		}
		again := appendVersion(nil, &v)
		if err := parseVersion(again, &w); err != nil || !reflect.DeepEqual(v, w) {
			t.Fatalf("%x reads as %+v, which is written as %x and reads as %+v (%v)", b, v, again, w, err)
		}
	})
}

func FuzzParseLate(f *testing.F) {
	f.Add(appendLate(nil, &segment.Record{Op: 1, TS: 9, FirstSeen: 8, Rev: 3, Run: 4, ID: []byte("x")}))
	f.Fuzz(func(t *testing.T, b []byte) {
		row, err := parseLate(7, b)
		if err == nil && row.CSN != 7 {
			t.Fatal(row)
		}
	})
}

func FuzzDecodeChunk(f *testing.F) {
	v := newVersions()
	for _, csn := range []uint64{1, 2, 3, 9, 65_535} {
		v.set(csn, csn%2 == 0)
	}
	row, err := v.encodeChunk(0)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(row)
	f.Fuzz(func(t *testing.T, b []byte) {
		w := newVersions()
		if w.decodeChunk(3, b) != nil {
			return
		}
		for it := w.latest.Iterator(); it.HasNext(); {
			if csn := it.Next(); csn>>chunkBits != 3 {
				t.Fatalf("csn %d is in chunk %d", csn, csn>>chunkBits)
			}
		}
	})
}

// TestVersions_ChunksRoundTrip covers streams whose csns lie in several chunks, and the chunks that a reset empties.
func TestVersions_ChunksRoundTrip(t *testing.T) {
	v := newVersions()
	for csn := uint64(1); csn < 400_000; csn += 977 {
		v.set(csn, csn%5 == 0)
	}
	w := newVersions()
	for chunk := range v.dirty {
		row, err := v.encodeChunk(chunk)
		if err != nil {
			t.Fatal(err)
		}
		if err := w.decodeChunk(chunk, row); err != nil {
			t.Fatal(err)
		}
	}
	if !v.latest.Equals(w.latest) || !v.deleted.Equals(w.deleted) {
		t.Fatal("differs after a round trip")
	}
	clear(v.dirty)
	v.reset()
	if len(v.dirty) != 7 {
		t.Fatalf("%d dirty chunks after a reset, want 7", len(v.dirty))
	}
	for chunk := range v.dirty {
		if row, err := v.encodeChunk(chunk); err != nil || row != nil {
			t.Fatalf("chunk %d is %x, %v", chunk, row, err)
		}
	}
}

func TestVersions_LiveBelow(t *testing.T) {
	v := newVersions()
	for _, csn := range []uint64{3, 5, 8, 13} {
		v.set(csn, csn == 5)
	}
	if have, want := v.live(13), roaring64.BitmapOf(3, 8); !have.Equals(want) {
		t.Fatal(have)
	}
	if have := v.live(1); !have.IsEmpty() {
		t.Fatal(have)
	}
	if have := v.live(100); have.GetCardinality() != 3 {
		t.Fatal(have)
	}
}

func TestDigest_IsASumThatForgets(t *testing.T) {
	h := [16]byte{1}
	a, b := DigestOf([]byte("a"), &h), DigestOf([]byte("b"), &h)
	if a == b || a.Add(b) != b.Add(a) || a.Add(b).Sub(a) != b || a.Sub(a) != (Digest{}) {
		t.Fatal("not a commutative group")
	}
	all := Digest(bytes.Repeat([]byte{0xff}, 16))
	one := Digest{15: 1}
	if all.Add(one) != (Digest{}) || (Digest{}).Sub(one) != all {
		t.Fatal("does not wrap at 2^128")
	}
}

// A row lies where Pebble has put it: at any address, and at or near the end of its allocation.
func TestVersions_RowsAtAnyAddress(t *testing.T) {
	v := newVersions()
	for csn := uint64(1); csn < 200; csn += 3 {
		v.set(csn, csn%5 == 0)
	}
	none := newVersions()
	none.set(7, false)
	for _, v := range []*versions{v, none} {
		row, err := v.encodeChunk(0)
		if err != nil {
			t.Fatal(err)
		}
		for size := len(row); size < len(row)+64; size++ {
			for after := range min(size-len(row)+1, 3) {
				mem := make([]byte, size)
				at := mem[size-len(row)-after : size-after]
				copy(at, row)
				w := newVersions()
				if err := w.decodeChunk(0, at); err != nil {
					t.Fatal(err)
				}
				if !w.latest.Equals(v.latest) || !w.deleted.Equals(v.deleted) {
					t.Fatal("another bitmap comes out")
				}
			}
		}
	}
}
