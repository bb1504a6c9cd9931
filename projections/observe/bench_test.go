package observe

import (
	"bytes"
	"fmt"
	"strings"
	"testing"
)

// BenchmarkCompare has payloads of several MiB that are as bad as they can be: everything differs, at all depths.
func BenchmarkCompare(b *testing.B) {
	const size = 4 << 20
	object := func(n int, value string) []byte {
		var out bytes.Buffer
		out.WriteByte('{')
		for i := 0; out.Len() < n; i++ {
			fmt.Fprintf(&out, `"m%d":%s,`, i, value)
		}
		out.WriteString(`"end":0}`)
		return out.Bytes()
	}
	array := func(value string) []byte {
		return []byte("[" + strings.Repeat(value+",", size/(len(value)+1)) + "0]")
	}
	deep := func(inner []byte) []byte {
		return []byte(strings.Repeat(`[{"a":`, 2000) + string(inner) + strings.Repeat(`}]`, 2000))
	}
	for name, pair := range map[string][2][]byte{
		"members":      {object(1<<20, "1"), object(1<<20, "2")},
		"many-members": {object(size, "1"), object(size, "2")},
		"elements":     {array("1"), array("2")},
		"fewer":        {array("1"), []byte(`[1]`)},
		"deep":         {deep(array("1")), deep(array("2"))},
		"deep-spelled": {deep([]byte(`"\u0061` + strings.Repeat("x", size) + `"`)), deep([]byte(`"a` + strings.Repeat("x", size) + `"`))},
		"equal-parts":  {[]byte(`[` + string(array("1")) + `,1]`), []byte(`[` + string(array("1")) + `,2]`)},
		"brackets":     {array("[]"), array("[ ]")},
	} {
		b.Run(name, func(b *testing.B) {
			b.SetBytes(int64(len(pair[0])))
			b.ReportAllocs()
			for b.Loop() {
				if _, err := Compare(pair[0], pair[1], LimitsDefault); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
