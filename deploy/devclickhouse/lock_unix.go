//go:build unix

package devclickhouse

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// lockDir takes the kernel lock of a directory. It belongs to the open file, which the child inherits, so it lasts until both have
// ended. The child of a killed parent ends soon: that is waited for.
func lockDir(ctx context.Context, dir string) (*os.File, error) {
	f, err := os.OpenFile(filepath.Join(dir, lockFile), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("opening the lock of %s: %w", dir, err)
	}
	for deadline := time.Now().Add(bindRetry); ; {
		err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if err == nil {
			return f, nil
		}
		if errors.Is(err, unix.EWOULDBLOCK) && time.Now().Before(deadline) && ctx.Err() == nil || errors.Is(err, unix.EINTR) {
			time.Sleep(bindRetryStep)
			continue
		}
		f.Close()
		if errors.Is(err, unix.EWOULDBLOCK) {
			return nil, fmt.Errorf("locking %s: %w", dir, ErrLocked)
		}
		return nil, fmt.Errorf("locking %s: %w", dir, err)
	}
}

// ownGroup puts the process into a group of its own: signals of the terminal are for the parent, and those of the engine for nobody
// else.
func ownGroup(cmd *exec.Cmd) { cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} }

// killGroup ends the process and all of its group. An error says that they are gone.
func killGroup(p *os.Process) { syscall.Kill(-p.Pid, syscall.SIGKILL) }
