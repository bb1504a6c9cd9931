package bench

import (
	"encoding/json"
	"fmt"
	"testing"

	"github.com/zeebo/xxh3"

	"github.com/tidemark-dev/tidemark/processor/detect"
)

// BenchmarkCompare measures the two steps of comparing a record: hashing its bytes and, where they differ, hashing what they mean. The
// obvious way to do the second is to decode the JSON and encode it again with sorted names.
func BenchmarkCompare(b *testing.B) {
	for _, size := range []int{350, 800} {
		b.Run(fmt.Sprintf("%dB", size), func(b *testing.B) {
			once(b)
			const n = 20_000
			in := newInput(1, n, size, 1)
			payloads := make([][]byte, n)
			for i := range payloads {
				payloads[i] = in.payload(nil, i, 0)
			}
			each := func(fn func([]byte) error) float64 {
				stop := meter(b, "")
				for _, p := range payloads {
					if err := fn(p); err != nil {
						b.Fatal(err)
					}
				}
				return float64(stop().cpu.Nanoseconds()) / n
			}
			d, err := detect.New(detect.Options{})
			if err != nil {
				b.Fatal(err)
			}
			sum := uint64(0)
			raw := each(func(p []byte) error {
				sum += detect.Raw64(p)
				return nil
			})
			canonical := each(func(p []byte) error {
				res, err := d.Scan(p)
				sum += uint64(res.Shape)
				return err
			})
			plain := each(func(p []byte) error {
				var v map[string]any
				if err := json.Unmarshal(p, &v); err != nil {
					return err
				}
				text, err := json.Marshal(v)
				sum += xxh3.Hash(text)
				return err
			})
			if sum == 0 {
				b.Fatal("nothing was hashed")
			}
			figures.note(b.Logf, figure{fmt.Sprintf("12 step one: hash of the bytes, %d B", size), "", nanoseconds, raw, "encoding/json there and back", plain})
			figures.note(b.Logf, figure{fmt.Sprintf("12 step two: canonical hash and hashes of fields, %d B", size), "", nanoseconds, canonical, "encoding/json there and back", plain})
		})
	}
}
