//go:build unix

package stack

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/tidemark-dev/tidemark/schemas/errcode"
)

const lockFile = "lock"

// dirLock is the exclusive hold on a data directory: a kernel lock on an open file, which ends with the process, however it ends.
// The file itself stays: removing it would let two processes lock two files of one name.
type dirLock struct{ f *os.File }

// lockDir takes the lock, or returns errcode.DataDirLocked naming the process that holds it.
func lockDir(dir string) (*dirLock, error) {
	f, err := os.OpenFile(filepath.Join(dir, lockFile), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("opening the lock of the data directory: %w", err)
	}
	held, err := tryLock(f)
	if err != nil || held {
		defer f.Close()
		if err != nil {
			return nil, fmt.Errorf("locking the data directory %s: %w", dir, err)
		}
		return nil, errcode.New(errcode.DataDirLocked, "%s is held by %s.", dir, holder(f))
	}
	err = f.Truncate(0)
	if err == nil {
		_, err = f.WriteAt([]byte(strconv.Itoa(os.Getpid())+"\n"), 0)
	}
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("writing the process id into the lock of %s: %w", dir, err)
	}
	return &dirLock{f}, nil
}

func tryLock(f *os.File) (held bool, err error) {
	for {
		err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		switch {
		case errors.Is(err, unix.EINTR):
		case errors.Is(err, unix.EWOULDBLOCK):
			return true, nil
		default:
			return false, err
		}
	}
}

func holder(f *os.File) string {
	text, err := io.ReadAll(io.LimitReader(f, 32))
	if pid, convErr := strconv.Atoi(strings.TrimSpace(string(text))); err == nil && convErr == nil {
		return fmt.Sprintf("process %d", pid)
	}
	return "another process"
}

// release empties the file first, so that nobody is told the id of a process that is gone.
func (l *dirLock) release() error { return errors.Join(l.f.Truncate(0), l.f.Close()) }

// Holder says which process uses a data directory, "" if none does. It changes nothing.
func Holder(dir string) (string, error) {
	f, err := os.Open(filepath.Join(dir, lockFile))
	if errors.Is(err, os.ErrNotExist) {
		return "", nil
	}
	if err != nil {
		return "", fmt.Errorf("opening the lock of the data directory: %w", err)
	}
	defer f.Close()
	held, err := tryLock(f)
	if err != nil {
		return "", fmt.Errorf("asking for the lock of %s: %w", dir, err)
	}
	if !held {
		return "", nil // closing the file gives the lock back
	}
	return holder(f), nil
}
