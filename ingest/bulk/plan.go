package bulk

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
)

// Plan says which records of one input count. When an id occurs more than once, its last record wins and the others are left
// out. A plan does not change once made and is safe for concurrent use.
type Plan struct {
	Records    int64    // records in the input
	Winners    int64    // records that count: the number of different ids
	Duplicates []string // the ids that occur more than once, each once, sorted by bytes
	Bytes      int64    // size of the input as it is stored, compressed if it is compressed

	opts   Options
	losers []uint64 // one bit a record, up to the last loser; empty for an input without duplicates
	ids    idDigest
}

// Scan reads an input once, checks all of it, and finds the record that wins for each id. It keeps 16 bytes of hash a record
// (in a table of some 40 bytes a record) and the duplicated ids, but no other id and no payload. The hash is
// SHA-256 cut to 128 bits, because two ids taken for one would lose a record without a trace.
//
// The error is that of open, [NewReader] or [Reader.Next].
func Scan(open func() (io.ReadCloser, error), opts Options) (*Plan, error) {
	in, err := open()
	if err != nil {
		return nil, fmt.Errorf("opening the input: %w", err)
	}
	p, err := scan(in, opts)
	if err != nil {
		_ = in.Close() // only read from; the first error says more
		return nil, err
	}
	if err := in.Close(); err != nil {
		return nil, fmt.Errorf("closing the input: %w", err)
	}
	return p, nil
}

func scan(in io.Reader, opts Options) (*Plan, error) {
	r, err := NewReader(in, opts)
	if err != nil {
		return nil, err
	}
	p := &Plan{opts: opts}
	last := make(map[idHash]uint32)
	duplicates := make(map[string]struct{})
	for {
		rec, id, err := r.read()
		if err == io.EOF {
			break
		}
		if err != nil {
			return nil, err
		}
		if rec.Index > math.MaxUint32 {
			return nil, errors.New("planning the load: more than 4294967296 records in one input")
		}
		h := hashID(id)
		p.ids.add(h)
		if earlier, ok := last[h]; ok {
			p.lose(earlier)
			if _, known := duplicates[string(id)]; !known {
				duplicates[string(id)] = struct{}{}
			}
		}
		last[h] = uint32(rec.Index)
		p.Records++
	}
	p.Winners = int64(len(last))
	p.Bytes = r.BytesRead()
	p.Duplicates = make([]string, 0, len(duplicates))
	for id := range duplicates {
		p.Duplicates = append(p.Duplicates, id)
	}
	slices.Sort(p.Duplicates)
	return p, nil
}

func (p *Plan) lose(index uint32) {
	word := int(index / 64)
	if word >= len(p.losers) {
		p.losers = append(p.losers, make([]uint64, word+1-len(p.losers))...)
	}
	p.losers[word] |= 1 << (index % 64)
}

// Wins tells whether the record at that index is the last one with its id. It is false outside of the input.
func (p *Plan) Wins(index int64) bool {
	if index < 0 || index >= p.Records {
		return false
	}
	word := index / 64
	return word >= int64(len(p.losers)) || p.losers[word]&(1<<(index%64)) == 0
}

// Replay is the second pass over an input: the winners, in the order of their positions. It is for one goroutine, BytesRead
// excepted.
type Replay struct {
	plan *Plan
	r    *Reader
	ids  idDigest
}

// Replay reads the input that the plan was made from a second time, from its beginning.
func (p *Plan) Replay(in io.Reader) (*Replay, error) {
	r, err := NewReader(in, p.opts)
	if err != nil {
		return nil, err
	}
	return &Replay{plan: p, r: r}, nil
}

// Next gives the next winner, with the index it has among all the input's records, and io.EOF after the last. It gives an
// [*Error] with CodeInputChanged when the records' ids are not those of the first pass: then it is unknown which records
// should have won, and the load is not to be completed.
func (y *Replay) Next() (Record, error) {
	for {
		rec, id, err := y.r.read()
		if err == io.EOF && (y.r.next != y.plan.Records || y.ids != y.plan.ids) {
			return Record{}, y.changed()
		}
		if err != nil {
			return Record{}, err
		}
		y.ids.add(hashID(id))
		if y.plan.Wins(rec.Index) {
			rec.ID = string(id)
			return rec, nil
		}
	}
}

// BytesRead is as for [Reader]; against Plan.Bytes it makes a progress bar. Safe for concurrent use with Next.
func (y *Replay) BytesRead() int64 { return y.r.BytesRead() }

func (y *Replay) changed() *Error {
	return &Error{
		Code: CodeInputChanged, Index: -1, Detail: "the input's records are not those of the first pass",
		Hint: "Something writes to the file; load a copy, or load it when it is complete.",
	}
}

type idHash [16]byte

func hashID(id []byte) idHash {
	sum := sha256.Sum256(id)
	return idHash(sum[:16])
}

// idDigest folds the ids of a pass, in order, into 64 bits: enough to notice that a file has changed by mistake.
type idDigest uint64

func (d *idDigest) add(h idHash) {
	// An odd multiplier is a bijection, so equal digests stay equal and one different id stays different; 2^64 / golden ratio.
	*d = (*d ^ idDigest(binary.LittleEndian.Uint64(h[:]))) * 0x9E3779B97F4A7C15
}
