package store

import (
	"encoding/binary"
	"fmt"

	"github.com/RoaringBitmap/roaring/v2"
	"github.com/RoaringBitmap/roaring/v2/roaring64"
)

// versions are the csns of the latest version of every record of one stream, and which of them are deletions. It is the index
// behind pages and the universe of deletion detection.
type versions struct {
	latest  *roaring64.Bitmap
	deleted *roaring64.Bitmap // subset of latest
	dirty   map[uint64]struct{}
}

const chunkBits = 16 // csns are persisted in chunks of 65,536

func newVersions() *versions {
	return &versions{latest: roaring64.New(), deleted: roaring64.New(), dirty: map[uint64]struct{}{}}
}

func (v *versions) set(csn uint64, deleted bool) {
	v.latest.Add(csn)
	if deleted {
		v.deleted.Add(csn)
	}
	v.dirty[csn>>chunkBits] = struct{}{}
}

func (v *versions) clear(csn uint64) {
	v.latest.Remove(csn)
	v.deleted.Remove(csn)
	v.dirty[csn>>chunkBits] = struct{}{}
}

// reset forgets everything; the chunks that held something are dirty.
func (v *versions) reset() {
	for it := v.latest.Iterator(); it.HasNext(); {
		chunk := it.PeekNext() >> chunkBits
		v.dirty[chunk] = struct{}{}
		it.AdvanceIfNeeded((chunk + 1) << chunkBits)
	}
	v.latest.Clear()
	v.deleted.Clear()
}

// live returns a copy of the live csns below limit.
func (v *versions) live(limit uint64) *roaring64.Bitmap {
	b := roaring64.AndNot(v.latest, v.deleted)
	if !b.IsEmpty() && b.Maximum() >= limit {
		b.RemoveRange(limit, b.Maximum()+1)
	}
	return b
}

// encodeChunk returns the row of one chunk, or nil if it is empty: u32 length of the first bitmap, latest, deleted; both in the
// portable roaring format, over the low 16 bits.
func (v *versions) encodeChunk(chunk uint64) ([]byte, error) {
	latest := lowBits(v.latest, chunk)
	if latest.IsEmpty() {
		return nil, nil
	}
	a, err := latest.ToBytes()
	if err != nil {
		return nil, fmt.Errorf("encoding versions: %w", err)
	}
	b, err := lowBits(v.deleted, chunk).ToBytes()
	if err != nil {
		return nil, fmt.Errorf("encoding versions: %w", err)
	}
	row := binary.BigEndian.AppendUint32(make([]byte, 0, 4+len(a)+len(b)), uint32(len(a)))
	return append(append(row, a...), b...), nil
}

func lowBits(b *roaring64.Bitmap, chunk uint64) *roaring.Bitmap {
	out := roaring.New()
	it := b.Iterator()
	it.AdvanceIfNeeded(chunk << chunkBits)
	var run []uint32
	for it.HasNext() {
		csn := it.Next()
		if csn>>chunkBits != chunk {
			break
		}
		run = append(run, uint32(csn&(1<<chunkBits-1)))
	}
	out.AddMany(run)
	out.RunOptimize()
	return out
}

func (v *versions) decodeChunk(chunk uint64, row []byte) error {
	if len(row) < 4 {
		return fmt.Errorf("%w: versions of %d bytes", errRow, len(row))
	}
	n := int(binary.BigEndian.Uint32(row))
	if n > len(row)-4 {
		return fmt.Errorf("%w: versions are cut", errRow)
	}
	for i, part := range [][]byte{row[4 : 4+n], row[4+n:]} {
		low := roaring.New()
		// A copy: FromBuffer takes 16-bit words where they lie in the row, which is at odd addresses too.
		if err := low.UnmarshalBinary(part); err != nil {
			return fmt.Errorf("%w: versions: %v", errRow, err)
		}
		if err := low.Validate(); err != nil || !low.IsEmpty() && low.Maximum()>>chunkBits != 0 {
			return fmt.Errorf("%w: versions: %v", errRow, err)
		}
		into := v.latest
		if i == 1 {
			into = v.deleted
		}
		csns := make([]uint64, 0, low.GetCardinality())
		for it := low.Iterator(); it.HasNext(); {
			csns = append(csns, chunk<<chunkBits|uint64(it.Next()))
		}
		into.AddMany(csns)
	}
	return nil
}
