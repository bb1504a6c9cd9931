package segment

import (
	"errors"
	"fmt"
	"log/slog"
	"slices"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// Open opens the store in o.Dir, or makes an empty one. It repairs what a crash may have left (S3, S5) and nothing else: any other
// damage is ErrCorrupt. Closed segments cost one read of their footer; the last one is read whole, unless the store was closed in order.
func Open(o Options) (*Store, error) {
	if err := o.fill(); err != nil {
		return nil, fmt.Errorf("opening segments: %w", err)
	}
	s := &Store{o: o}
	if err := o.FS.MkdirAll(o.Dir, 0o755); err != nil {
		return nil, fmt.Errorf("opening segments: %w", err)
	}
	if err := syncDir(o.FS, o.FS.PathDir(o.Dir)); err != nil { // the entry of Dir itself; what is above it is the caller's
		return nil, fmt.Errorf("opening segments: %w", err)
	}
	if err := s.load(); err != nil {
		for _, f := range s.files {
			f.release()
		}
		return nil, fmt.Errorf("opening segments: %w", err)
	}
	s.tail = newTail(s.applied + 1)
	return s, nil
}

func (s *Store) load() error {
	names, err := s.o.FS.List(s.o.Dir)
	if err != nil {
		return err
	}
	var bases []uint64
	for _, name := range names {
		if base, ok := parseName(name); ok {
			bases = append(bases, base)
		}
	}
	slices.Sort(bases)
	for i, base := range bases {
		f, err := openFile(s.o.FS, s.o.Dir, base)
		switch {
		case errors.Is(err, errFileHeader) && i == len(bases)-1:
			// The last segment has no header: the machine died before any of it was synced, or damage leaves no whole frame. Its name
			// tells where the store continues if nothing else does.
			if s.applied, err = base, s.discard(base); err != nil {
				return err
			}
			continue
		case errors.Is(err, errFileHeader):
			return corrupt(s.o.FS.PathJoin(s.o.Dir, fileName(base)), 0, err.Error())
		case err != nil:
			return err
		}
		s.files = append(s.files, f)
		if f.base != base {
			return corrupt(f.name, 16, fmt.Sprintf("header says base %d", f.base))
		}
	}
	if err := s.finishDrop(); err != nil {
		return err
	}
	for i, f := range s.files {
		if i == len(s.files)-1 {
			err = s.loadLast(f)
		} else {
			err = s.loadClosed(f, s.files[i+1].base)
		}
		if err != nil {
			return err
		}
		s.applied = f.through()
	}
	return nil
}

// openFile opens a segment and reads its header.
func openFile(fs vfs.FS, dir string, base uint64) (*segmentFile, error) {
	name := fs.PathJoin(dir, fileName(base))
	file, err := fs.OpenReadWrite(name, writeCategory)
	if err != nil {
		return nil, err
	}
	f := &segmentFile{id: segmentIDs.Add(1), name: name, file: file, end: headerBytes}
	f.refs.Store(1)
	var b [headerBytes]byte
	size, err := f.size()
	if err == nil && size >= headerBytes {
		err = readFull(file, b[:], 0)
	}
	if err == nil {
		f.base, f.floor, err = parseFileHeader(b[:])
	}
	if err != nil {
		f.release()
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return f, nil
}

func (s *Store) discard(base uint64) error {
	name := s.o.FS.PathJoin(s.o.Dir, fileName(base))
	info, err := s.o.FS.Stat(name)
	if err != nil {
		return err
	}
	s.o.Metrics.cutBytes.Add(float64(info.Size()))
	s.o.Logger.Warn("removing a segment without a header, its records are read from the log again",
		slog.String("file", name), slog.Int64("bytes", info.Size()))
	if err := s.o.FS.Remove(name); err != nil {
		return err
	}
	return syncDir(s.o.FS, s.o.Dir)
}

// finishDrop unlinks what DropBelow had given up when it made a segment that begins at a higher floor.
func (s *Store) finishDrop() error {
	var floor uint64
	for _, f := range s.files {
		floor = max(floor, f.floor)
	}
	for len(s.files) > 1 && s.files[1].base < floor {
		if _, err := s.unlinkOldest(); err != nil {
			return err
		}
	}
	return nil
}

// loadClosed reads the index of a segment that has a successor, which begins at next.
func (s *Store) loadClosed(f *segmentFile, next uint64) error {
	size, err := f.size()
	if err != nil {
		return err
	}
	ok, err := f.loadFooter(size)
	if err != nil {
		return err
	}
	if !ok {
		damage, err := f.scan(size)
		if err != nil {
			return err
		}
		if f.through() != next {
			if damage == nil {
				damage = errShortFrame
			}
			return corrupt(f.name, f.end, damage.Error())
		}
		s.o.Logger.Warn("the footer of a closed segment is damaged, its frames are whole", slog.String("file", f.name))
	}
	if f.through() != next {
		return corrupt(f.name, f.end, fmt.Sprintf("segment ends with csn %d, the next one begins after %d", f.through(), next))
	}
	return nil
}

// loadLast reads the index of the last segment and cuts the file behind its last whole frame.
func (s *Store) loadLast(f *segmentFile) error {
	size, err := f.size()
	if err != nil {
		return err
	}
	if f.sealed, err = f.loadFooter(size); f.sealed || err != nil {
		return err
	}
	damage, err := f.scan(size)
	if err != nil || damage == nil {
		return err
	}
	cut, err := f.cut(size)
	if err != nil {
		return fmt.Errorf("cutting %s at offset %d: %w", f.name, f.end, err)
	}
	if cut > 0 {
		s.o.Metrics.cutBytes.Add(float64(cut))
		s.o.Logger.Info("cut a segment behind its last whole frame", slog.String("file", f.name),
			slog.Int64("offset", f.end), slog.Int64("bytes", cut), slog.String("reason", damage.Error()))
	}
	return nil
}

func (s *segmentFile) size() (int64, error) {
	info, err := s.file.Stat()
	if err != nil {
		return 0, err
	}
	return info.Size(), nil
}

func (s *segmentFile) setFrames(frames []frame) {
	for _, f := range frames {
		s.add(f)
	}
	s.kicked = s.end
}

// loadFooter takes the index from the footer, if there is a valid one that fits the file's place in the csn order.
func (s *segmentFile) loadFooter(size int64) (ok bool, err error) {
	frames, _, err := readFooter(s.file, size)
	if errors.Is(err, errNoFooter) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	at := s.base
	for i := range frames {
		if frames[i].first != at+1 {
			return false, nil
		}
		at = frames[i].through
	}
	s.setFrames(frames)
	return true, nil
}

func (s *segmentFile) scan(size int64) (damage, err error) {
	frames, _, damage, err := scanFrames(s.file, size, s.base)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", s.name, err)
	}
	s.setFrames(frames)
	return damage, nil
}

// cut zeroes what lies behind the last whole frame, durably, and returns how many bytes there were to zero. Zeroing works on every file
// system, on a full one too, and a frame can't begin with zeros; the file is not made shorter because vfs has no call for it.
func (s *segmentFile) cut(size int64) (n int64, err error) {
	buf := make([]byte, 64<<10)
	for at := s.end; at < size; {
		b := buf[:min(int64(len(buf)), size-at)]
		if err := readFull(s.file, b, at); err != nil {
			return 0, err
		}
		if slices.ContainsFunc(b, func(c byte) bool { return c != 0 }) {
			n = at + int64(len(b)) - s.end
			clear(b)
			if _, err := s.file.WriteAt(b, at); err != nil {
				return 0, err
			}
		}
		at += int64(len(b))
	}
	if n > 0 {
		err = s.sync()
	}
	return n, err
}
