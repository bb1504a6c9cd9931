package devclickhouse_test

import (
	"bytes"
	"compress/gzip"
	"testing"

	"github.com/ClickHouse/ch-go/compress"
	"github.com/andybalholm/brotli"
)

// frames are ClickHouse's compressed blocks, several of them.
func frames(t testing.TB, data []byte) []byte {
	var out []byte
	w := compress.NewWriter(0, compress.LZ4)
	for len(data) > 0 {
		n := min(len(data), 1<<20)
		must(t, w.Compress(data[:n]))
		out = append(out, w.Data...)
		data = data[n:]
	}
	return out
}

func gzipped(t testing.TB, data []byte) []byte {
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	_, err := w.Write(data)
	must(t, err)
	must(t, w.Close())
	return b.Bytes()
}

func brotlied(t testing.TB, data []byte) []byte {
	var b bytes.Buffer
	w := brotli.NewWriterLevel(&b, 1)
	_, err := w.Write(data)
	must(t, err)
	must(t, w.Close())
	return b.Bytes()
}
