package segment

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	iofs "io/fs"
	"strconv"
	"strings"
	"sync/atomic"

	"github.com/cockroachdb/pebble/v2/vfs"
)

const (
	headerBytes  = 40
	trailerBytes = 32

	formatVersion = 1

	suffix = ".seg"

	writeCategory vfs.DiskWriteCategory = "segment"
)

var (
	headerMagic  = [8]byte{'t', 'm', 's', 'e', 'g', 'm', 'n', 't'}
	trailerMagic = [8]byte{'t', 'm', 's', 'e', 'g', 'e', 'n', 'd'}
)

// segmentFile is one file of frames.
type segmentFile struct {
	id   uint64 // unique in the process, for the cache
	name string // full path
	file vfs.File
	refs atomic.Int32 // the store holds one, each reader one; the last closes the file

	base  uint64 // csn that everything before this segment ended with
	floor uint64 // of the store when the segment was created

	// Guarded by Store.mu. frames only grows, and not any more once the next segment exists.
	frames  []frame
	end     int64  // behind the last whole frame
	newest  Millis // over all frames
	records int64
	index   int64 // bytes of memory that frames takes

	// Owned by whoever writes.
	kicked int64 // bytes whose write-back was asked for
	sealed bool  // a footer covers all frames, and everything is synced
}

var segmentIDs atomic.Uint64

func fileName(base uint64) string { return fmt.Sprintf("%020d%s", base+1, suffix) }

// parseName returns the base of a segment's file name.
func parseName(name string) (base uint64, ok bool) {
	digits, found := strings.CutSuffix(name, suffix)
	if !found || len(digits) != 20 {
		return 0, false
	}
	first, err := strconv.ParseUint(digits, 10, 64)
	if err != nil || first == 0 || first > MaxCSN+1 {
		return 0, false
	}
	return first - 1, true
}

// through returns the last csn that the segment covers.
func (s *segmentFile) through() uint64 {
	if n := len(s.frames); n > 0 {
		return s.frames[n-1].through
	}
	return s.base
}

// add puts a frame that is in the file into the index.
func (s *segmentFile) add(f frame) {
	if len(s.frames) == 0 || f.newest > s.newest {
		s.newest = f.newest
	}
	s.frames = append(s.frames, f)
	s.end = int64(f.off) + int64(f.size)
	s.records += int64(f.records)
	s.index += f.memory()
}

func (s *segmentFile) acquire() { s.refs.Add(1) }

// release closes the file with the last reference. The error is dropped: everything that has to reach the file was synced, or its loss
// is the crash that the store is made for.
func (s *segmentFile) release() {
	switch n := s.refs.Add(-1); {
	case n < 0:
		panic("segment: file released twice")
	case n == 0:
		_ = s.file.Close()
	}
}

func putFileHeader(b []byte, base, floor uint64) {
	le := binary.LittleEndian
	clear(b[:headerBytes])
	copy(b, headerMagic[:])
	le.PutUint32(b[8:], formatVersion)
	le.PutUint64(b[16:], base)
	le.PutUint64(b[24:], floor)
	le.PutUint32(b[32:], crc32.Checksum(b[:32], castagnoli))
}

var errFileHeader = errors.New("file header is damaged")

func parseFileHeader(b []byte) (base, floor uint64, err error) {
	le := binary.LittleEndian
	if len(b) < headerBytes || [8]byte(b[:8]) != headerMagic || le.Uint32(b[32:]) != crc32.Checksum(b[:32], castagnoli) || le.Uint32(b[36:]) != 0 {
		return 0, 0, errFileHeader
	}
	if v := le.Uint32(b[8:]); v != formatVersion {
		return 0, 0, fmt.Errorf("segment format version %d, this program reads %d", v, formatVersion)
	}
	return le.Uint64(b[16:]), le.Uint64(b[24:]), nil
}

// createFile makes an empty segment and makes its directory entry durable, so that its predecessors may be unlinked. The header need not be: a
// segment that lost it is empty, and its name says where it begins.
func createFile(fs vfs.FS, dir string, base, floor uint64) (*segmentFile, error) {
	name := fs.PathJoin(dir, fileName(base))
	if err := fs.Remove(name); err != nil && !errors.Is(err, iofs.ErrNotExist) { // what an earlier try left behind
		return nil, fmt.Errorf("creating segment: %w", err)
	}
	file, err := fs.OpenReadWrite(name, writeCategory)
	if err != nil {
		return nil, fmt.Errorf("creating segment: %w", err)
	}
	s := &segmentFile{id: segmentIDs.Add(1), name: name, file: file, base: base, floor: floor, end: headerBytes}
	s.refs.Store(1)
	var b [headerBytes]byte
	putFileHeader(b[:], base, floor)
	if _, err = file.WriteAt(b[:], 0); err == nil {
		err = syncDir(fs, dir)
	}
	if err != nil {
		s.release()
		return nil, fmt.Errorf("creating segment: %w", err)
	}
	return s, nil
}

// errSync marks a failed fsync. The kernel may have dropped the dirty pages and report the next fsync as fine, so no later success
// can be believed until the file was read again.
var errSync = errors.New("syncing")

func (s *segmentFile) sync() error {
	if err := s.file.Sync(); err != nil {
		return fmt.Errorf("%w %s: %w", errSync, s.name, err)
	}
	return nil
}

func syncDir(fs vfs.FS, dir string) error {
	d, err := fs.OpenDir(dir)
	if err != nil {
		return fmt.Errorf("opening directory to sync it: %w", err)
	}
	err = d.Sync()
	if cerr := d.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		return fmt.Errorf("%w %s: %w", errSync, dir, err)
	}
	return nil
}

// writebackBytes is how much is written before the kernel is asked to start writing back. Without it the fsync of a full segment would
// find all of it dirty, and appends would stall behind it.
const writebackBytes = 8 << 20

// write puts an encoded frame behind the last one. A write that broke off leaves bytes behind the end, which the next one covers.
func (s *segmentFile) write(b []byte) error {
	s.sealed = false // the frame goes where the footer is
	if _, err := s.file.WriteAt(b, s.end); err != nil {
		return fmt.Errorf("writing frame: %w", err)
	}
	if end := s.end + int64(len(b)); end-s.kicked >= writebackBytes {
		s.kicked = end
		if _, err := s.file.SyncTo(end); err != nil {
			return fmt.Errorf("%w %s: %w", errSync, s.name, err)
		}
	}
	return nil
}

// seal writes the footer and makes the segment durable. Frames may follow later: they overwrite the footer. A footer always ends the file, so
// where zeros of an earlier cut lie behind the frames it stands behind those.
func (s *segmentFile) seal() error {
	if s.sealed {
		return nil
	}
	// A footer vouches for frames that nobody will read when the store opens, so they have to reach the disk first.
	if err := s.sync(); err != nil {
		return err
	}
	size := trailerBytes
	for i := range s.frames {
		size += s.frames[i].headerSize()
	}
	b := make([]byte, size)
	p := b
	for i := range s.frames {
		n := s.frames[i].headerSize()
		s.frames[i].putHeader(p[:n])
		p = p[n:]
	}
	le := binary.LittleEndian
	le.PutUint32(p[0:], uint32(size-trailerBytes))
	le.PutUint32(p[4:], uint32(len(s.frames)))
	le.PutUint64(p[8:], uint64(s.end))
	le.PutUint32(p[16:], crc32.Checksum(b[:size-16], castagnoli))
	copy(p[24:], trailerMagic[:])
	info, err := s.file.Stat()
	if err != nil {
		return fmt.Errorf("writing footer: %w", err)
	}
	if _, err := s.file.WriteAt(b, max(s.end, info.Size()-int64(size))); err != nil {
		return fmt.Errorf("writing footer: %w", err)
	}
	err = s.sync() // only so that the next Open finds the footer
	s.sealed = err == nil
	return err
}

// readFull reads exactly len(b) bytes. Bytes missing at the end of the file are io.ErrUnexpectedEOF; anything else is the device's error and
// says nothing about what is stored.
func readFull(f io.ReaderAt, b []byte, off int64) error {
	n, err := f.ReadAt(b, off)
	switch {
	case n == len(b):
		return nil
	case err == nil || errors.Is(err, io.EOF):
		return io.ErrUnexpectedEOF
	}
	return err
}

// errNoFooter says that the file has no valid footer, which is how an unfinished segment looks.
var errNoFooter = errors.New("no footer")

// readFooter returns the index that the footer holds. Device errors are passed on.
func readFooter(f io.ReaderAt, size int64) (frames []frame, end int64, err error) {
	if size < headerBytes+trailerBytes {
		return nil, 0, errNoFooter
	}
	var t [trailerBytes]byte
	if err := readFull(f, t[:], size-trailerBytes); err != nil {
		return nil, 0, err
	}
	le := binary.LittleEndian
	length := int64(le.Uint32(t[0:]))
	if [8]byte(t[24:]) != trailerMagic || length > size-headerBytes-trailerBytes {
		return nil, 0, errNoFooter
	}
	b := make([]byte, length+16)
	if err := readFull(f, b, size-trailerBytes-length); err != nil {
		return nil, 0, err
	}
	if crc32.Checksum(b, castagnoli) != le.Uint32(t[16:]) {
		return nil, 0, errNoFooter
	}
	return parseFooter(b[:length], le.Uint32(t[4:]), int64(le.Uint64(t[8:])))
}

// parseFooter decodes the frame headers of a footer; end is where the frames have to end.
func parseFooter(b []byte, count uint32, end int64) ([]frame, int64, error) {
	if uint64(count)*frameFixed > uint64(len(b)) {
		return nil, 0, errNoFooter
	}
	frames := make([]frame, 0, count)
	at := int64(headerBytes)
	for range count {
		f, err := parseFrameHeader(b, uint32(at))
		if err != nil {
			return nil, 0, errNoFooter
		}
		b = b[f.headerSize():]
		at += int64(f.size)
		frames = append(frames, f)
	}
	if len(b) != 0 || at != end {
		return nil, 0, errNoFooter
	}
	return frames, end, nil
}

// scanFrames reads frames from the start until something is not a whole frame that continues the csn range. damage says what that was, and is
// nil where the file ends with a frame; err is a device error, upon which nothing is known.
func scanFrames(f io.ReaderAt, size int64, base uint64) (frames []frame, end int64, damage, err error) {
	end = headerBytes
	var buf []byte
	for end < size {
		var fixed [frameFixed]byte
		if size-end < frameFixed {
			return frames, end, errShortFrame, nil
		}
		if err := readFull(f, fixed[:], end); err != nil {
			return nil, 0, nil, err
		}
		_, total, err := frameSize(fixed[:])
		if err != nil {
			return frames, end, err, nil
		}
		if total > uint64(size-end) {
			return frames, end, errShortFrame, nil
		}
		if uint64(cap(buf)) < total {
			buf = make([]byte, total)
		}
		buf = buf[:total]
		if err := readFull(f, buf, end); err != nil {
			return nil, 0, nil, err
		}
		fr, damage := checkFrame(buf, uint32(end))
		if damage == nil && fr.first != base+1 {
			damage = fmt.Errorf("frame begins with csn %d after %d", fr.first, base)
		}
		if damage != nil {
			return frames, end, damage, nil
		}
		frames = append(frames, fr)
		base = fr.through
		end += int64(total)
	}
	return frames, end, nil, nil
}

var errBlockSum = errors.New("block does not match its checksum")

// checkFrame verifies the header and every block of the frame that b holds.
func checkFrame(b []byte, off uint32) (frame, error) {
	f, err := parseFrameHeader(b, off)
	if err != nil {
		return frame{}, err
	}
	if uint64(f.size) > uint64(len(b)) {
		return frame{}, errShortFrame
	}
	for i := range f.blocks {
		r := &f.blocks[i]
		if crc32.Checksum(b[r.off-off:r.off-off+r.size], castagnoli) != r.sum {
			return frame{}, errBlockSum
		}
	}
	return f, nil
}
