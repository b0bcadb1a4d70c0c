// Package dirlock keeps a directory to one process at a time, by a file in it
// that says which. It locks nothing but whom asks for the same lock: who writes
// into the directory without asking is not kept out.
package dirlock

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"

	"github.com/outletd/outlet"
	"github.com/outletd/outlet/internal/durable"
)

// Lock takes dir, which exists and is called name in errors, for this process.
// The lock ends with the file that is returned, that is at the latest with the
// process. errdefs.ErrUnavailable: another one has it; the error says its pid.
func Lock(dir, name string) (*os.File, error) {
	f, err := durable.OpenFile(filepath.Join(dir, "lock"), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("lock %s: %w", name, err)
	}
	err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	if errors.Is(err, unix.EWOULDBLOCK) {
		holder, _ := io.ReadAll(io.LimitReader(f, 32)) // only for the text
		_ = f.Close()                                  // nothing was written
		return nil, outlet.Errorf(errdefs.ErrUnavailable, "%s %s is in use by another daemon%s", name, dir, pidText(string(holder)))
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

// pidText is empty where the holder has not written its pid yet.
func pidText(pid string) string {
	pid = strings.TrimSpace(pid)
	if pid == "" {
		return ""
	}
	return " (pid " + pid + ")"
}
