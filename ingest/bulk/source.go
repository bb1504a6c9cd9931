package bulk

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"sync/atomic"

	"github.com/klauspost/compress/gzip"
)

// source gives the text of an input: its bytes, decompressed when they begin like gzip (RFC 1952). A gzip input may have any
// number of members, as what pigz, bgzip and cat write.
type source struct {
	io.Reader
	in   *meter
	gzip bool
}

func newSource(r io.Reader) (*source, error) {
	in := &meter{r: r}
	head := make([]byte, 2)
	n, err := io.ReadFull(in, head)
	if err != nil && err != io.EOF && err != io.ErrUnexpectedEOF {
		return nil, fmt.Errorf("reading the input: %w", err)
	}
	s := &source{in: in, Reader: io.MultiReader(bytes.NewReader(head[:n]), in)}
	if string(head) == "\x1f\x8b" {
		s.gzip = true
		// The decompressor reads byte by byte and would bring a smaller buffer of its own.
		z, err := gzip.NewReader(bufio.NewReaderSize(s.Reader, 64<<10))
		if err != nil {
			return nil, s.fault(err)
		}
		s.Reader = z
	}
	return s, nil
}

// fault sorts an error of Read: what the input's own reader gave is a fault of the machine, the rest is a damaged file.
func (s *source) fault(err error) error {
	if s.in.err != nil {
		return fmt.Errorf("reading the input: %w", s.in.err)
	}
	if !s.gzip {
		return fmt.Errorf("reading the input: %w", err)
	}
	e := &Error{Code: CodeCorruptGzip, Index: -1, Hint: "Fetch or write the file again; gzip -t checks it."}
	switch {
	case errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, io.EOF):
		e.Detail = "the gzip data is cut off"
	case errors.Is(err, gzip.ErrHeader):
		e.Detail = "something that is not gzip follows the gzip header or the last member"
	default:
		e.Detail = fmt.Sprintf("the gzip data is damaged (%v)", err)
	}
	return e
}

// meter counts what is read through it and keeps the first error that is not the end.
type meter struct {
	r   io.Reader
	n   atomic.Int64
	err error
}

func (m *meter) Read(p []byte) (int, error) {
	n, err := m.r.Read(p)
	m.n.Add(int64(n))
	if err != nil && err != io.EOF && m.err == nil {
		m.err = err
	}
	return n, err
}

// foreign are the first bytes of formats that people hand over in place of JSON, each with the way out.
var foreign = []struct{ magic, name, hint string }{
	{"\x1f\x8b", "gzip inside gzip", "Decompress it once: gzip -dc FILE | tidemark load ... -"},
	{"\x28\xb5\x2f\xfd", "zstd", "Decompress it: zstd -dc FILE | tidemark load ... -"},
	{"PK\x03\x04", "a zip archive", "Unpack it: unzip -p FILE | tidemark load ... -"},
	{"BZh", "bzip2", "Decompress it: bzip2 -dc FILE | tidemark load ... -"},
	{"\xfd7zXZ\x00", "xz", "Decompress it: xz -dc FILE | tidemark load ... -"},
	{"\x04\x22\x4d\x18", "lz4", "Decompress it: lz4 -dc FILE | tidemark load ... -"},
	{"PAR1", "Parquet", "Export the data as NDJSON."},
	{"Obj\x01", "Avro", "Export the data as NDJSON."},
	{"\xff\xfe", "UTF-16", "Convert it: iconv -f UTF-16 -t UTF-8 FILE | tidemark load ... -"},
	{"\xfe\xff", "UTF-16", "Convert it: iconv -f UTF-16 -t UTF-8 FILE | tidemark load ... -"},
	{"[\x00", "UTF-16", "Convert it: iconv -f UTF-16LE -t UTF-8 FILE | tidemark load ... -"},
	{"{\x00", "UTF-16", "Convert it: iconv -f UTF-16LE -t UTF-8 FILE | tidemark load ... -"},
	{"\x00[", "UTF-16", "Convert it: iconv -f UTF-16BE -t UTF-8 FILE | tidemark load ... -"},
	{"\x00{", "UTF-16", "Convert it: iconv -f UTF-16BE -t UTF-8 FILE | tidemark load ... -"},
}

// headMax is the longest of the magics.
const headMax = 6

func foreignFormat(head []byte) *Error {
	for _, f := range foreign {
		if bytes.HasPrefix(head, []byte(f.magic)) {
			return &Error{Code: CodeUnsupportedFormat, Index: -1, Detail: "the input is " + f.name, Hint: f.hint}
		}
	}
	return nil
}
