package stream

// Partition is where a stream lives: murmur2(key) with the sign bit cleared, modulo the partition count of the topic. That is
// the default partitioner of the Java client and of franz-go, so that foreign producers agree without knowing us; clients on
// librdkafka must set partitioner=murmur2_random.
func Partition[K ~string | ~[]byte](key K, partitions int32) int32 {
	return int32(murmur2(key)&0x7fffffff) % partitions
}

// murmur2 is the 32-bit MurmurHash2 (public domain, Austin Appleby) with the seed that Apache Kafka's Utils.murmur2 uses.
func murmur2[K ~string | ~[]byte](b K) uint32 {
	const m = 0x5bd1e995
	h := uint32(0x9747b28c) ^ uint32(len(b))
	i := 0
	for ; i+4 <= len(b); i += 4 {
		k := uint32(b[i]) | uint32(b[i+1])<<8 | uint32(b[i+2])<<16 | uint32(b[i+3])<<24
		k *= m
		k ^= k >> 24
		k *= m
		h = h*m ^ k
	}
	switch len(b) - i {
	case 3:
		h ^= uint32(b[i+2]) << 16
		fallthrough
	case 2:
		h ^= uint32(b[i+1]) << 8
		fallthrough
	case 1:
		h = (h ^ uint32(b[i])) * m
	}
	h ^= h >> 13
	h *= m
	return h ^ h>>15
}
