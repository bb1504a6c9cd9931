package segment

import "sync"

// Cache keeps decoded blocks, least recently used out first, over all stores that share it. It is bounded by the memory that the blocks
// take, and safe for concurrent use. Two readers that miss the same block at once both decode it; one copy is kept.
type Cache struct {
	shards [cacheShards]cacheShard
}

const cacheShards = 8

// blockKey names a block for ever: segment numbers are unique in the process and never reused, so a block of a dropped segment can't
// be taken for another, it just ages out.
type blockKey struct {
	segment uint64
	off     uint32
}

type cacheShard struct {
	mu        sync.Mutex
	max, used int64
	blocks    map[blockKey]*block
	lru       block // ring: next is the most recent, prev the oldest
	_         [64]byte
}

// NewCache returns a cache of at most bytes. It should be 32 blocks or more (2 MiB at the default size): a block of more than 1/32 of it is not
// kept, because it would push out too much for one record.
func NewCache(bytes int64) *Cache {
	c := new(Cache)
	for i := range c.shards {
		s := &c.shards[i]
		s.max = bytes / cacheShards
		s.blocks = make(map[blockKey]*block)
		s.lru.prev, s.lru.next = &s.lru, &s.lru
	}
	return c
}

// Bytes returns the memory that the cached blocks take.
func (c *Cache) Bytes() int64 {
	var n int64
	for i := range c.shards {
		s := &c.shards[i]
		s.mu.Lock()
		n += s.used
		s.mu.Unlock()
	}
	return n
}

func (c *Cache) shard(k blockKey) *cacheShard {
	// Blocks are tens of KiB apart, so the low bits of an offset are as good as random; the multiplication spreads segments.
	return &c.shards[(uint64(k.off)+k.segment*0x9e3779b97f4a7c15)>>7%cacheShards]
}

// get returns the block with a reference for the caller, or nil.
func (c *Cache) get(k blockKey) *block {
	if c == nil {
		return nil
	}
	s := c.shard(k)
	s.mu.Lock()
	defer s.mu.Unlock()
	b := s.blocks[k]
	if b == nil {
		return nil
	}
	b.acquire()
	b.unlink()
	s.pushFront(b)
	return b
}

// put offers a block; the caller keeps its own reference.
func (c *Cache) put(k blockKey, b *block) {
	if c == nil {
		return
	}
	s := c.shard(k)
	size := int64(cap(b.buf))
	if size > s.max/4 {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.blocks[k] != nil {
		return
	}
	b.acquire()
	b.key = k
	s.blocks[k] = b
	s.pushFront(b)
	s.used += size
	for s.used > s.max {
		old := s.lru.prev
		old.unlink()
		delete(s.blocks, old.key)
		s.used -= int64(cap(old.buf))
		old.release()
	}
}

func (s *cacheShard) pushFront(b *block) {
	b.prev, b.next = &s.lru, s.lru.next
	b.prev.next, b.next.prev = b, b
}

func (b *block) unlink() {
	b.prev.next, b.next.prev = b.next, b.prev
	b.prev, b.next = nil, nil
}
