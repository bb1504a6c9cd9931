package devclickhouse

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"
)

const (
	readAccess = unix.LANDLOCK_ACCESS_FS_READ_FILE | unix.LANDLOCK_ACCESS_FS_READ_DIR
	execAccess = readAccess | unix.LANDLOCK_ACCESS_FS_EXECUTE
	// Rights that may be given to a file, and not only to a folder.
	fileAccess = unix.LANDLOCK_ACCESS_FS_EXECUTE | unix.LANDLOCK_ACCESS_FS_WRITE_FILE | unix.LANDLOCK_ACCESS_FS_READ_FILE | unix.LANDLOCK_ACCESS_FS_TRUNCATE
)

// What the engine and the C library read of the system. Other processes' folders in /proc are not among them: their environment
// is nobody's business here.
var systemPaths = []string{
	"/etc/ld.so.cache", "/etc/localtime", "/etc/nsswitch.conf", "/etc/hosts", "/etc/resolv.conf", "/usr/share/zoneinfo",
	"/proc/self", "/proc/meminfo", "/proc/cpuinfo", "/proc/stat", "/proc/loadavg", "/proc/uptime", "/proc/version", "/proc/sys",
	"/proc/diskstats", "/proc/filesystems", "/proc/net",
	"/sys/fs/cgroup", "/sys/devices/system", "/sys/block", "/sys/kernel/mm",
	"/dev/urandom", "/dev/random", "/dev/zero",
}

var systemLibraries = []string{"/lib", "/lib64", "/usr/lib", "/usr/lib64", "/usr/local/lib"}

// confine gives up every right on files but those the engine needs, and every right to open connections, and starts the program
// again: Landlock binds a thread and what it starts, and the threads that this process has already would stay free. It returns
// only if that cannot be done.
func confine(o orders) error {
	version, _, errno := unix.Syscall(unix.SYS_LANDLOCK_CREATE_RULESET, 0, 0, unix.LANDLOCK_CREATE_RULESET_VERSION)
	if errno != 0 {
		return fmt.Errorf("asking the kernel for Landlock: %w", errno)
	}
	attr := unix.LandlockRulesetAttr{Handled_access_fs: 1<<13 - 1} // the rights of version 1
	if version >= 2 {
		attr.Handled_access_fs |= unix.LANDLOCK_ACCESS_FS_REFER
	}
	if version >= 3 {
		attr.Handled_access_fs |= unix.LANDLOCK_ACCESS_FS_TRUNCATE
	}
	if version >= 4 {
		attr.Handled_access_net = unix.LANDLOCK_ACCESS_NET_CONNECT_TCP | unix.LANDLOCK_ACCESS_NET_BIND_TCP
	}
	if version >= 6 {
		// SYSTEM SHUTDOWN and the like signal whole groups of processes.
		attr.Scoped = unix.LANDLOCK_SCOPE_SIGNAL | unix.LANDLOCK_SCOPE_ABSTRACT_UNIX_SOCKET
	}
	// An older kernel refuses a structure with bytes that it does not know, unless they are zero.
	fd, _, errno := unix.Syscall(unix.SYS_LANDLOCK_CREATE_RULESET, uintptr(unsafe.Pointer(&attr)), unsafe.Sizeof(attr), 0)
	if errno != 0 {
		return fmt.Errorf("creating a Landlock ruleset: %w", errno)
	}
	defer unix.Close(int(fd))

	exe, err := os.Executable()
	if err != nil {
		return fmt.Errorf("looking for this program: %w", err)
	}
	handled := uint64(attr.Handled_access_fs)
	rules := map[string]uint64{
		exe:                              execAccess,
		o.Library:                        execAccess,
		filepath.Join(o.Dir, configFile): readAccess,
		filepath.Join(o.Dir, usersFile):  readAccess,
		filepath.Join(o.Dir, dataDir):    handled &^ unix.LANDLOCK_ACCESS_FS_EXECUTE,
		filepath.Join(o.Dir, backupDir):  handled &^ unix.LANDLOCK_ACCESS_FS_EXECUTE,
		filepath.Join(o.Dir, tmpDir):     handled &^ unix.LANDLOCK_ACCESS_FS_EXECUTE,
		"/dev/null":                      readAccess | unix.LANDLOCK_ACCESS_FS_WRITE_FILE,
	}
	for _, path := range systemPaths {
		rules[path] = readAccess
	}
	for _, path := range systemLibraries {
		rules[path] = execAccess
	}
	for path, access := range rules {
		if err := allow(int(fd), path, access&handled); err != nil && !errors.Is(err, unix.ENOENT) {
			return fmt.Errorf("allowing %s: %w", path, err)
		}
	}

	o.Confined = true
	text, err := json.Marshal(o)
	if err != nil {
		return fmt.Errorf("encoding the orders: %w", err)
	}
	env := []string{childEnv + "=" + string(text)}
	for _, kv := range os.Environ() {
		if !strings.HasPrefix(kv, childEnv+"=") {
			env = append(env, kv)
		}
	}
	runtime.LockOSThread() // never unlocked: if what follows goes wrong half way, this thread is not to be used by others
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return fmt.Errorf("giving up new privileges: %w", err)
	}
	if _, _, errno := unix.Syscall(unix.SYS_LANDLOCK_RESTRICT_SELF, fd, 0, 0); errno != 0 {
		return fmt.Errorf("confining the process: %w", errno)
	}
	return fmt.Errorf("%w: %w", errHalfConfined, unix.Exec(exe, os.Args, env))
}

func allow(ruleset int, path string, access uint64) error {
	fd, err := unix.Open(path, unix.O_PATH|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return err
	}
	if st.Mode&unix.S_IFMT != unix.S_IFDIR {
		access &= fileAccess
	}
	rule := unix.LandlockPathBeneathAttr{Allowed_access: access, Parent_fd: int32(fd)}
	_, _, errno := unix.Syscall6(unix.SYS_LANDLOCK_ADD_RULE, uintptr(ruleset), unix.LANDLOCK_RULE_PATH_BENEATH, uintptr(unsafe.Pointer(&rule)), 0, 0, 0)
	if errno != 0 {
		return errno
	}
	return nil
}
