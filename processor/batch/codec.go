package batch

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/s2"
	"github.com/klauspost/compress/zstd"
	"github.com/pierrec/lz4/v4"
)

// Codec is how the records of a batch are compressed; the values are those on the wire.
type Codec byte

// Codecs.
const (
	None Codec = iota
	Gzip       // reading only
	Snappy
	LZ4
	Zstd
)

var codecNames = [...]string{None: "none", Gzip: "gzip", Snappy: "snappy", LZ4: "lz4", Zstd: "zstd"}

func (c Codec) String() string {
	if int(c) < len(codecNames) {
		return codecNames[c]
	}
	return fmt.Sprintf("codec %d", byte(c))
}

// encoder holds the state of the compressors of one Builder. They are not pooled: a zstd encoder has a channel inside, and a channel
// that was made in a synctest bubble must not be used outside of it.
type encoder struct {
	zstd *zstd.Encoder
	lz4  *lz4.Writer
	sink sink
}

// append compresses src behind dst and returns the codec that it used: None if c does not make src smaller.
func (e *encoder) append(dst, src []byte, c Codec) ([]byte, Codec) {
	at := len(dst)
	switch c {
	case None:
		return append(dst, src...), None
	case Snappy:
		dst = slices.Grow(dst, s2.MaxEncodedLen(len(src)))
		dst = dst[:at+len(s2.EncodeSnappy(dst[at:cap(dst)], src))]
	case LZ4:
		if e.lz4 == nil {
			e.lz4 = lz4.NewWriter(nil)
			// Blocks of 64 KiB, as the Java client writes them: the writer's buffers have the size of a block.
			if err := e.lz4.Apply(lz4.BlockSizeOption(lz4.Block64Kb)); err != nil {
				panic("batch: lz4 options: " + err.Error())
			}
		}
		e.sink.b = dst
		e.lz4.Reset(&e.sink)
		_, err := e.lz4.Write(src)
		if err == nil {
			err = e.lz4.Close()
		}
		if err != nil { // the sink has no errors
			panic("batch: lz4: " + err.Error())
		}
		dst, e.sink.b = e.sink.b, nil
	case Zstd:
		if e.zstd == nil {
			var err error
			e.zstd, err = zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1), zstd.WithEncoderLevel(zstd.SpeedFastest),
				zstd.WithWindowSize(256<<10), zstd.WithZeroFrames(true), zstd.WithEncoderCRC(false)) // the batch has a checksum
			if err != nil {
				panic("batch: zstd options: " + err.Error())
			}
		}
		dst = e.zstd.EncodeAll(src, dst)
	default:
		panic(fmt.Sprintf("batch: building with %s", c))
	}
	if len(dst)-at >= len(src) {
		return append(dst[:at], src...), None
	}
	return dst, c
}

type sink struct{ b []byte }

func (s *sink) Write(p []byte) (int, error) {
	s.b = append(s.b, p...)
	return len(p), nil
}

var errTooLarge = errors.New("decompressed records exceed the limit")

// decompress appends the decompressed src to dst, which is empty, and never lets it grow beyond limit bytes. It returns dst with
// every error as well, so that its memory is kept.
func decompress(dst, src []byte, c Codec, limit int) ([]byte, error) {
	switch c {
	case Gzip:
		return gunzip(dst, src, limit)
	case Snappy:
		return decodeSnappy(dst, src, limit)
	case LZ4:
		return decodeLZ4(dst, src, limit)
	case Zstd:
		return decodeZstd(dst, src, limit)
	}
	return dst, fmt.Errorf("unknown codec %d", c)
}

// zstdDecoder is made with the package, not on first use: see encoder. It lets as many callers decode at once as there are CPUs.
var zstdDecoder = func() *zstd.Decoder {
	d, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(0), zstd.WithDecodeAllCapLimit(true))
	if err != nil {
		panic("batch: zstd options: " + err.Error())
	}
	return d
}()

// decodeZstd decodes into the room that dst has, and doubles it as long as the frame does not fit: not every producer writes
// the size into the frame. In the steady state the pooled buffer is large enough at once.
func decodeZstd(dst, src []byte, limit int) ([]byte, error) {
	room := max(cap(dst), 4*len(src), 4<<10)
	for {
		room = min(room, limit)
		dst = slices.Grow(dst[:0], room)
		out, err := zstdDecoder.DecodeAll(src, dst[:0:room])
		if err == nil {
			return dst[:len(out)], nil // the same memory, with all of its room
		}
		if !errors.Is(err, zstd.ErrDecoderSizeExceeded) {
			return dst, err
		}
		if room >= limit {
			return dst, errTooLarge
		}
		room *= 2
	}
}

// drain reads r to its end.
func drain(dst []byte, r io.Reader, limit int) ([]byte, error) {
	for idle := 0; idle < 100; {
		if len(dst) == cap(dst) {
			if len(dst) > limit {
				return dst, errTooLarge
			}
			dst = slices.Grow(dst, min(max(len(dst), 4<<10), limit+1-len(dst)))
		}
		// One byte more than allowed tells a stream that ends at the limit from one that goes on.
		n, err := r.Read(dst[len(dst):min(cap(dst), limit+1)])
		dst = dst[:len(dst)+n]
		switch {
		case len(dst) > limit:
			return dst, errTooLarge
		case err == io.EOF:
			return dst, nil
		case err != nil:
			return dst, err
		case n == 0:
			idle++
		}
	}
	return dst, io.ErrNoProgress
}

type lz4Decoder struct {
	src bytes.Reader
	r   *lz4.Reader
}

var lz4Pool = sync.Pool{New: func() any {
	d := new(lz4Decoder)
	d.r = lz4.NewReader(&d.src)
	return d
}}

func decodeLZ4(dst, src []byte, limit int) ([]byte, error) {
	d := lz4Pool.Get().(*lz4Decoder)
	d.src.Reset(src)
	d.r.Reset(&d.src)
	dst, err := drain(dst, d.r, limit)
	d.src.Reset(nil)
	lz4Pool.Put(d)
	return dst, err
}

type gzipDecoder struct {
	src bytes.Reader
	r   gzip.Reader
}

var gzipPool = sync.Pool{New: func() any { return new(gzipDecoder) }}

func gunzip(dst, src []byte, limit int) ([]byte, error) {
	d := gzipPool.Get().(*gzipDecoder)
	d.src.Reset(src)
	err := d.r.Reset(&d.src)
	if err == nil {
		dst, err = drain(dst, &d.r, limit)
	}
	d.src.Reset(nil)
	gzipPool.Put(d)
	return dst, err
}
