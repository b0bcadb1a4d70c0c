// Package dirlock keeps a directory to one process at a time, by a file in it
// that says which. It locks nothing but whom asks for the same lock: who writes
// into the directory without asking is not kept out.
package dirlock

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"

	"github.com/outletd/outlet"
	"github.com/outletd/outlet/internal/durable"
)

// Lock takes dir, which exists and is called name in errors, for this process.
// The lock ends with the file that is returned, that is at the latest with the
// process. errdefs.ErrUnavailable: another one has it; the error says its pid.
//
// A program that a process was about to execute when it was killed has the lock
// until it is executed, or ended: no longer than that, and for some seconds at
// most, Lock waits. So who has the lock sees all that its last holder started.
func Lock(dir, name string) (*os.File, error) {
	f, err := durable.OpenFile(filepath.Join(dir, "lock"), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("lock %s: %w", name, err)
	}
	holder, err := take(f)
	if errors.Is(err, unix.EWOULDBLOCK) {
		_ = f.Close() // nothing was written
		return nil, outlet.Errorf(errdefs.ErrUnavailable, "%s %s is in use by another daemon%s", name, dir, pidText(holder))
	}
	if err == nil {
		err = durable.Truncate(f, 0)
	}
	if err == nil {
		_, err = durable.WriteAt(f, fmt.Appendf(nil, "%d\n", os.Getpid()), 0)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("lock %s %s: %w", name, dir, err), f.Close())
	}
	return f, nil
}

const (
	lastBreath = 5 * time.Second // of a holder that is gone
	breath     = 5 * time.Millisecond
)

// take takes the lock of f. unix.EWOULDBLOCK: holder has it.
func take(f *os.File) (holder string, err error) {
	end := time.NewTimer(lastBreath)
	defer end.Stop()
	next := time.NewTicker(breath)
	defer next.Stop()
	for {
		err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if !errors.Is(err, unix.EWOULDBLOCK) {
			return "", err
		}
		text := make([]byte, 32)
		n, _ := f.ReadAt(text, 0) // only for the text, and for whether to wait
		holder = strings.TrimSpace(string(text[:n]))
		if !gone(holder) {
			return holder, err
		}
		select {
		case <-end.C:
			return holder, err
		case <-next.C:
		}
	}
}

// gone says whether there is no process with the pid.
func gone(pid string) bool {
	n, err := strconv.Atoi(pid)
	return err == nil && n > 0 && errors.Is(unix.Kill(n, 0), unix.ESRCH)
}

// pidText is empty where the holder has not written its pid yet.
func pidText(pid string) string {
	if pid == "" {
		return ""
	}
	return " (pid " + pid + ")"
}
