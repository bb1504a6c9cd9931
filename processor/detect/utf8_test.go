package detect

import (
	"slices"
	"testing"
	"unicode/utf8"
)

func TestValidUTF8(t *testing.T) {
	const edges = "a\x00\x7f\x80\x8f\x90\x9f\xa0\xbf\xc0\xc1\xc2\xdf\xe0\xe1\xec\xed\xee\xef\xf0\xf1\xf3\xf4\xf5\xff"
	check := func(b []byte) {
		padded := make([]byte, 64)
		copy(padded, b)
		if got, want := validUTF8(padded, len(b)), utf8.Valid(b); got != want {
			t.Fatalf("%t of %x", got, b)
		}
	}
	for _, lead := range []int{0, 4, 5, 7} { // so that the four bytes end a word or stand across two
		for k := range len(edges) * len(edges) * len(edges) * len(edges) {
			b := make([]byte, lead, 32)
			for range 4 {
				b = append(b, edges[k%len(edges)])
				k /= len(edges)
			}
			check(b)
			check(append(b, "words of ASCII"...))
			word := min(8, len(b))
			check(slices.Concat(b[:word], []byte("a word -"), b[word:]))
		}
	}
}
