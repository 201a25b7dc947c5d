package main

import (
	"syscall"
	"testing"
)

func TestThisProcessLeavesNoCoreDump(t *testing.T) {
	dumpable := func() uintptr {
		got, _, errno := syscall.RawSyscall(syscall.SYS_PRCTL, syscall.PR_GET_DUMPABLE, 0, 0)
		if errno != 0 {
			t.Fatal(errno)
		}
		return got
	}
	if before := dumpable(); before != 1 {
		t.Fatalf("got %d before, want 1", before)
	}
	check(t, undumpable())
	t.Cleanup(func() {
		if _, _, errno := syscall.RawSyscall(syscall.SYS_PRCTL, syscall.PR_SET_DUMPABLE, 1, 0); errno != 0 {
			t.Error(errno)
		}
	})
	if got := dumpable(); got != 0 {
		t.Errorf("got %d, want 0", got)
	}
}
