package bulk

import (
	"bytes"
	"fmt"
	"io"
	"unicode/utf8"
)

const (
	recordBytesDefault = 1 << 20
	recordBytesMax     = 1 << 30
	blockBytes         = 256 << 10

	// skimBytesMax bounds how far the end of a record that is too large is looked for, only to tell its size.
	skimBytesMax = 1 << 30
)

// Options say how to read an input.
type Options struct {
	// IDField leads to the member that holds a record's id: a member name, names joined by dots (meta.id), or a JSON
	// Pointer (/meta/id, RFC 6901) for names that hold dots or slashes. A segment that is a number names an array element.
	IDField string

	// MaxRecordBytes bounds one record's payload, in bytes. 0 means 1 MiB, more than 1 GiB is refused.
	MaxRecordBytes int
}

// Record is one object of an input.
type Record struct {
	ID      string // 1 to 512 bytes of UTF-8 without NUL; a number stands as it is written
	Payload []byte // the object's bytes as they are in the input; valid until the next call of Next
	Index   int64  // position among the input's records, from 0
	Line    int64  // line of the object's first byte, from 1
	Offset  int64  // position of that byte in the decompressed input, from 0
}

// Reader gives the records of one input, in order. It is for one goroutine, BytesRead excepted.
type Reader struct {
	src     *source
	limit   int
	id      string // Options.IDField, for messages
	scan    scanner
	scratch []byte // ids with escapes

	// buf[pos:end] is read and not yet consumed; buf[pos] is byte base+pos of the decompressed input.
	buf      []byte
	pos, end int
	base     int64
	eof      bool

	array bool  // a JSON array, else NDJSON
	next  int64 // index of the next record
	line  int64 // line of buf[pos]
	err   error // what every further call gives
}

// NewReader looks at the beginning of r and tells what it is. The error is an [*Error] when the input is at fault.
func NewReader(r io.Reader, opts Options) (*Reader, error) {
	return newReader(r, opts, blockBytes)
}

func newReader(r io.Reader, opts Options, block int) (*Reader, error) {
	p, err := parsePath(opts.IDField)
	if err != nil {
		return nil, fmt.Errorf("parsing the id field: %w", err)
	}
	limit := opts.MaxRecordBytes
	switch {
	case limit == 0:
		limit = recordBytesDefault
	case limit < 0 || limit > recordBytesMax:
		return nil, fmt.Errorf("checking the options: MaxRecordBytes is %d, not 0 to %d", limit, recordBytesMax)
	}
	src, err := newSource(r)
	if err != nil {
		return nil, err
	}
	d := &Reader{
		src: src, limit: limit, id: opts.IDField, scan: scanner{path: p}, scratch: make([]byte, 0, idBytesMax),
		buf: make([]byte, block), line: 1,
	}
	if err := d.open(); err != nil {
		return nil, err
	}
	return d, nil
}

// BytesRead is the number of bytes taken from the input so far, compressed if it is compressed. It runs ahead of the records
// by what is buffered. Safe for concurrent use with Next.
func (r *Reader) BytesRead() int64 { return r.src.in.n.Load() }

// Next gives the next record, and io.EOF after the last. An [*Error] tells what is wrong with the input, any other error what
// is wrong with reading it; both end the reading.
func (r *Reader) Next() (Record, error) {
	rec, id, err := r.read()
	if err != nil {
		return Record{}, err
	}
	rec.ID = string(id)
	return rec, nil
}

// read is Next without a string for the id, which is valid until the next call.
func (r *Reader) read() (rec Record, id []byte, err error) {
	if r.err == nil {
		rec, id, r.err = r.record()
	}
	return rec, id, r.err
}

func (r *Reader) record() (Record, []byte, error) {
	if err := r.seek(); err != nil {
		return Record{}, nil, err
	}
	n, err := r.complete()
	if err != nil {
		return Record{}, nil, err
	}
	payload := r.buf[r.pos : r.pos+n : r.pos+n]
	if !utf8.Valid(payload) {
		return Record{}, nil, r.notUTF8(payload)
	}
	id, code, detail := normaliseID(r.scratch, payload[r.scan.id.start:r.scan.id.end])
	if code != "" {
		return Record{}, nil, r.badID(code, detail)
	}
	rec := Record{Payload: payload, Index: r.next, Line: r.line, Offset: r.base + int64(r.pos)}
	r.line += int64(bytes.Count(payload, newline))
	r.pos += n
	r.next++
	return rec, id, nil
}

// complete scans the record at the position until it is whole and gives its length.
func (r *Reader) complete() (int, error) {
	for {
		have := r.end - r.pos
		switch n := r.scan.record(r.buf[r.pos:r.end]); {
		case n > r.limit:
			return 0, r.tooLarge(int64(n))
		case n > 0:
			return n, nil
		case n == bad:
			return 0, r.invalid(r.scan.at, r.scan.why, hintJSON)
		case have > r.limit:
			return 0, r.tooLarge(0)
		}
		// Doubling keeps the scans of one record, each from its first byte, to twice its length.
		if err := r.extend(2 * have); err != nil {
			return 0, err
		}
		if r.end-r.pos == have {
			return 0, r.cutOff("inside a record")
		}
	}
}
