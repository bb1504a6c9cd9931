package segment

import (
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"sort"
	"sync"
)

// Get returns the version of stream sid at csn. The result is the caller's. Errors: ErrNotFound, ErrPruned, ErrCorrupt, ErrClosed, or that of
// the device.
func (s *Store) Get(sid uint32, csn uint64) (Record, error) {
	var c cursor
	if err := c.open(s, sid, csn, csn); err != nil {
		return Record{}, err
	}
	defer c.close()
	if csn < c.floor {
		return Record{}, ErrPruned
	}
	b, err := c.find(csn)
	if err != nil {
		return Record{}, err
	}
	if b == nil {
		return Record{}, ErrNotFound
	}
	var r Record
	getRecord(b, &r)
	return r.clone(), nil
}

// Read calls fn with the versions of stream sid at csns, which ascend, in that order. A csn that the stream doesn't have, or that was dropped, gives
// a record with Op 0 and that csn. r and its slices are valid until fn returns. fn may append, but should not wait: meanwhile the
// store keeps the block, and the tail where csns reach into it. An error of fn ends the read and is returned as it is.
//
// All of csns are read from the state of one moment. A block is fetched and decoded at most once a call.
func (s *Store) Read(sid uint32, csns []uint64, fn func(r *Record) error) error {
	if len(csns) == 0 {
		return nil
	}
	for i := 1; i < len(csns); i++ {
		if csns[i] < csns[i-1] {
			return fmt.Errorf("%w: csn %d at index %d is below %d", ErrInvalid, csns[i], i, csns[i-1])
		}
	}
	var c cursor
	if err := c.open(s, sid, csns[0], csns[len(csns)-1]); err != nil {
		return err
	}
	defer c.close()
	var r Record
	for _, csn := range csns {
		b, err := c.find(csn)
		if err != nil {
			return err
		}
		if b == nil {
			r = Record{SID: sid, CSN: csn}
		} else {
			getRecord(b, &r)
		}
		if err := fn(&r); err != nil {
			return err
		}
	}
	return nil
}

// cursor reads one stream in ascending csn order from the state of one moment.
type cursor struct {
	s   *Store
	sid uint32

	// The moment: what was on file and in memory, for the range asked for. Each file and tail is referenced.
	floor, applied uint64
	files          []fileView
	tails          []tailView
	filesBuf       [2]fileView
	tailsBuf       [2]tailView

	// The place.
	in     *fileView
	frame  *frame
	ref    *blockRef // identifies block
	block  *block
	pos    int
	stored *[]byte
}

type fileView struct {
	*segmentFile
	frames []frame
}

// open takes references on what holds the csns from lo to hi.
func (c *cursor) open(s *Store, sid uint32, lo, hi uint64) error {
	c.s, c.sid = s, sid
	c.files, c.tails = c.filesBuf[:0], c.tailsBuf[:0]
	s.mu.RLock()
	defer s.mu.RUnlock()
	if s.closed {
		return ErrClosed
	}
	c.floor, c.applied = s.floor(), s.applied
	first := sort.Search(len(s.files), func(i int) bool { return s.files[i].through() >= lo })
	for _, f := range s.files[first:] {
		if f.base >= hi || len(f.frames) == 0 { // the newest is empty until its first frame is written
			break
		}
		f.acquire()
		c.files = append(c.files, fileView{segmentFile: f, frames: f.frames})
	}
	if hi > s.applied {
		for _, t := range []*tail{s.flushing, s.tail} {
			if t != nil {
				t.acquire()
				c.tails = append(c.tails, tailView{tail: t, entries: t.entries, chunks: t.chunks})
			}
		}
	}
	return nil
}

func (c *cursor) close() {
	if c.block != nil {
		c.block.release()
	}
	if c.stored != nil {
		storedPool.Put(c.stored)
	}
	for _, f := range c.files {
		f.release()
	}
	for _, t := range c.tails {
		t.release()
	}
}

// find returns the stored record at csn, or nil. It is valid until the next call.
func (c *cursor) find(csn uint64) ([]byte, error) {
	if csn > c.applied {
		for i := range c.tails {
			if b := c.tails[i].find(c.sid, csn); b != nil {
				return b, nil
			}
		}
		return nil, nil
	}
	if c.frame == nil || csn < c.frame.first || csn > c.frame.through {
		c.seek(csn)
		if c.frame == nil {
			return nil, nil
		}
	}
	i, ok := c.frame.find(c.sid, csn)
	if !ok {
		return nil, nil
	}
	if ref := &c.frame.blocks[i]; ref != c.ref {
		if err := c.load(ref); err != nil {
			return nil, err
		}
	}
	for buf := c.block.buf; c.pos < len(buf); {
		sid, at, size, ok := peekRecord(buf[c.pos:])
		if !ok {
			return nil, corrupt(c.in.name, int64(c.ref.off), "block holds a broken record")
		}
		if sid > c.sid || sid == c.sid && at >= csn {
			if sid == c.sid && at == csn {
				return buf[c.pos : c.pos+size], nil
			}
			break
		}
		c.pos += size
	}
	return nil, nil
}

// seek finds the frame that covers csn, or sets it to nil.
func (c *cursor) seek(csn uint64) {
	c.frame = nil
	i := sort.Search(len(c.files), func(i int) bool {
		f := c.files[i].frames
		return f[len(f)-1].through >= csn
	})
	if i == len(c.files) {
		return
	}
	f := c.files[i].frames
	j := sort.Search(len(f), func(j int) bool { return f[j].through >= csn })
	if f[j].first <= csn {
		c.in, c.frame = &c.files[i], &f[j]
	}
}

// storedPool holds buffers for blocks as they are on file.
var storedPool = sync.Pool{New: func() any { return new([]byte) }}

// load makes ref the current block.
func (c *cursor) load(ref *blockRef) error {
	if c.block != nil {
		c.block.release()
		c.block, c.ref = nil, nil
	}
	key := blockKey{segment: c.in.id, off: ref.off}
	b := c.s.o.Cache.get(key)
	if b != nil {
		c.s.o.Metrics.blockHit.Inc()
	} else {
		c.s.o.Metrics.blockMiss.Inc()
		var err error
		if b, err = c.fetch(ref); err != nil {
			return err
		}
		c.s.o.Cache.put(key, b)
	}
	c.block, c.ref, c.pos = b, ref, 0
	return nil
}

func (c *cursor) fetch(ref *blockRef) (*block, error) {
	if c.stored == nil {
		c.stored = storedPool.Get().(*[]byte)
	}
	if cap(*c.stored) < int(ref.size) {
		*c.stored = make([]byte, ref.size)
	}
	buf := (*c.stored)[:ref.size]
	switch err := readFull(c.in.file, buf, int64(ref.off)); {
	case errors.Is(err, io.ErrUnexpectedEOF):
		return nil, corrupt(c.in.name, int64(ref.off), "block is cut off")
	case err != nil:
		return nil, fmt.Errorf("reading segment: %w", err)
	case crc32.Checksum(buf, castagnoli) != ref.sum:
		return nil, corrupt(c.in.name, int64(ref.off), errBlockSum.Error())
	}
	b, err := decodeBlock(buf)
	if err != nil {
		return nil, corrupt(c.in.name, int64(ref.off), err.Error())
	}
	return b, nil
}
