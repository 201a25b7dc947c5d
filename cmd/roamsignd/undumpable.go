package main

import (
	"os"
	"syscall"
)

// undumpable keeps the process's memory, through which PINs pass, out of core dumps,
// whoever collects them, and from debuggers of the same user (prctl(2), PR_SET_DUMPABLE).
func undumpable() error {
	if _, _, errno := syscall.RawSyscall(syscall.SYS_PRCTL, syscall.PR_SET_DUMPABLE, 0, 0); errno != 0 {
		return os.NewSyscallError("prctl", errno)
	}
	return nil
}
