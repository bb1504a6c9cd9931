package detect

import "github.com/zeebo/xxh3"

// AlgoXXH3Canon1 is the algorithm byte stored beside a Hash of Result: XXH3-128 (seed 0) over version 1 of the
// canonical text that doc.go defines. A change of that text, however small, needs the next number, because every
// stored hash would otherwise look like a change of its record.
const AlgoXXH3Canon1 byte = 1

// Hash is a canonical or raw 128-bit hash, big-endian bytes as stored on the wire.
type Hash [16]byte

// RawHash returns XXH3-128 of the payload bytes as they stand. Two payloads with one raw hash are the same bytes;
// two with different ones may still mean the same record, which only Scan can tell.
func RawHash(payload []byte) Hash { return xxh3.Hash128(payload).Bytes() }

// Raw64 returns the low 64 bits of RawHash, the part that caches keep.
func Raw64(payload []byte) uint64 { return xxh3.Hash128(payload).Lo }

// fieldHash is the 24-bit hash of a member's canonical value. Zero is left free, so that a stored list can use it
// for "no value known".
func fieldHash(value []byte) uint32 {
	if h := uint32(xxh3.Hash(value)) & (1<<24 - 1); h != 0 {
		return h
	}
	return 1
}
