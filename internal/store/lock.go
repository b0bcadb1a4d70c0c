package store

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

// lockRoot takes the root for this process. The lock ends with the file, that
// is at the latest with the process.
func lockRoot(root string) (*os.File, error) {
	f, err := durable.OpenFile(filepath.Join(root, "lock"), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	if errors.Is(err, unix.EWOULDBLOCK) {
		pid, _ := io.ReadAll(io.LimitReader(f, 32))
		_ = f.Close()
		return nil, outlet.Errorf(errdefs.ErrUnavailable, "root %s is in use by another daemon%s", root, pidText(string(pid)))
	}
	if err == nil {
		err = durable.Truncate(f, 0)
	}
	if err == nil {
		_, err = durable.WriteAt(f, fmt.Appendf(nil, "%d\n", os.Getpid()), 0)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("lock root %s: %w", root, err), f.Close())
	}
	return f, nil
}

func pidText(pid string) string {
	pid = strings.TrimSpace(pid)
	if pid == "" {
		return ""
	}
	return " (pid " + pid + ")"
}
