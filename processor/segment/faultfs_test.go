package segment

import (
	"sync"
	"syscall"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// faultFS is a file system of limited size, which writes what fits and then answers ENOSPC as a real one does, and whose writes can be
// held up.
type faultFS struct {
	vfs.FS
	mu   sync.Mutex
	room int64         // bytes that may still be written; negative: no limit
	gate chan struct{} // nil, or blocks writes until it is closed
}

func newFaultFS(fs vfs.FS) *faultFS { return &faultFS{FS: fs, room: -1} }

func (f *faultFS) setRoom(n int64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.room = n
}

// hold makes writes wait until the returned function is called.
func (f *faultFS) hold() (release func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	gate := make(chan struct{})
	f.gate = gate
	return func() {
		f.mu.Lock()
		f.gate = nil
		f.mu.Unlock()
		close(gate)
	}
}

func (f *faultFS) OpenReadWrite(name string, c vfs.DiskWriteCategory, opts ...vfs.OpenOption) (vfs.File, error) {
	if _, err := f.Stat(name); err != nil && f.take(1) == 0 {
		return nil, syscall.ENOSPC
	}
	file, err := f.FS.OpenReadWrite(name, c, opts...)
	if err != nil {
		return nil, err
	}
	return &faultFile{File: file, fs: f}, nil
}

// take returns how many of n bytes may be written.
func (f *faultFS) take(n int64) int64 {
	f.mu.Lock()
	gate := f.gate
	if f.room >= 0 {
		n = min(n, f.room)
		f.room -= n
	}
	f.mu.Unlock()
	if gate != nil {
		<-gate
	}
	return n
}

type faultFile struct {
	vfs.File
	fs *faultFS
}

// WriteAt needs room only for what is behind the end of the file.
func (f *faultFile) WriteAt(p []byte, off int64) (int, error) {
	info, err := f.Stat()
	if err != nil {
		return 0, err
	}
	grow := max(0, off+int64(len(p))-max(info.Size(), off))
	missing := grow - f.fs.take(grow)
	n, err := f.File.WriteAt(p[:int64(len(p))-missing], off)
	if err == nil && missing > 0 {
		err = syscall.ENOSPC
	}
	return n, err
}
