package bulk

import (
	"bytes"
	"fmt"
	"io"
	"strings"
	"testing"
)

// people makes about size bytes of records of some 400 bytes, like an answer of a CRM's API.
func people(size int, array bool) string {
	var in strings.Builder
	in.Grow(size + 1024)
	between, end := "\n", "\n"
	if array {
		in.WriteByte('[')
		between, end = ",", "]"
	}
	for i := 0; in.Len() < size; i++ {
		if i > 0 {
			in.WriteString(between)
		}
		fmt.Fprintf(&in, `{"id":"003%012x","email":"person.%d@example.com","first_name":"Zoë","last_name":"Nr %d","title":"Head of things",`+
			`"owner":{"id":%d,"name":"Somebody Else","active":true},"tags":["customer","newsletter","\u00fcber"],"score":%d.75,"phone":null,`+
			`"address":{"street":"1 Long Street","city":"Springfield","zip":"%05d","country":"US"},`+
			`"created_at":"2024-03-01T10:00:00Z","updated_at":"2026-01-%02dT12:34:56.789Z"}`, i, i, i, i%97, i%100, i%100000, 1+i%28)
	}
	in.WriteString(end)
	return in.String()
}

const benchBytes = 16 << 20

func benchReader(b *testing.B, in []byte, textBytes int, opts Options) {
	b.SetBytes(int64(textBytes))
	b.ReportAllocs()
	records := int64(0)
	for b.Loop() {
		r, err := NewReader(bytes.NewReader(in), opts)
		if err != nil {
			b.Fatal(err)
		}
		for {
			rec, err := r.Next()
			if err == io.EOF {
				break
			}
			if err != nil {
				b.Fatal(err)
			}
			records = rec.Index + 1
		}
	}
	b.ReportMetric(float64(textBytes)/float64(records), "B/record")
	b.ReportMetric(float64(records)*float64(b.N)/b.Elapsed().Seconds(), "records/s")
}

func BenchmarkReader(b *testing.B) {
	array, lines := people(benchBytes, true), people(benchBytes, false)
	b.Run("array", func(b *testing.B) { benchReader(b, []byte(array), len(array), Options{IDField: "id"}) })
	b.Run("ndjson", func(b *testing.B) { benchReader(b, []byte(lines), len(lines), Options{IDField: "id"}) })
	b.Run("nested", func(b *testing.B) { benchReader(b, []byte(lines), len(lines), Options{IDField: "/address/zip"}) })
	b.Run("gzip", func(b *testing.B) { benchReader(b, []byte(zip(b, lines)), len(lines), Options{IDField: "id"}) })
}

func BenchmarkScan(b *testing.B) {
	in := people(benchBytes, false)
	b.SetBytes(int64(len(in)))
	b.ReportAllocs()
	for b.Loop() {
		p, err := Scan(opening(in), Options{IDField: "id"})
		if err != nil || p.Winners != p.Records {
			b.Fatal(p, err)
		}
	}
}

func BenchmarkReplay(b *testing.B) {
	in := people(benchBytes, false)
	p, err := Scan(opening(in), Options{IDField: "id"})
	if err != nil {
		b.Fatal(err)
	}
	b.SetBytes(int64(len(in)))
	for b.Loop() {
		y, err := p.Replay(strings.NewReader(in))
		for err == nil {
			_, err = y.Next()
		}
		if err != io.EOF {
			b.Fatal(err)
		}
	}
}
