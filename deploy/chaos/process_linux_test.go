package chaos

import "syscall"

// childAttributes has the kernel kill a child whose test was itself killed, when nobody is left to do so.
func childAttributes() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
}
