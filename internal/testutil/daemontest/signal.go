package daemontest

import (
	"strconv"
	"syscall"
	"testing"
)

// Signal sends sig to the process whose id is pid, in decimal.
func Signal(t testing.TB, pid string, sig syscall.Signal) {
	t.Helper()
	n, err := strconv.Atoi(pid)
	if err != nil || n <= 1 { // what else there is to kill is more than was meant
		t.Fatalf("%q is no process of a plugin", pid)
	}
	if err := syscall.Kill(n, sig); err != nil {
		t.Fatalf("signal %d: %v", n, err)
	}
}
