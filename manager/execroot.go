package manager

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

// lockExecRoot takes the exec root for this process. The root alone has a lock
// too, but two daemons with different roots and one exec root would take each
// other's plugins for strays and end them. The lock ends with the file, that is
// at the latest with the process.
func lockExecRoot(dir string) (*os.File, error) {
	f, err := durable.OpenFile(filepath.Join(dir, "lock"), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("lock the exec root: %w", err)
	}
	err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	if errors.Is(err, unix.EWOULDBLOCK) {
		pid, _ := io.ReadAll(io.LimitReader(f, 32)) // only for the text
		_ = f.Close()                               // nothing was written
		return nil, outlet.Errorf(errdefs.ErrUnavailable, "exec root %s is in use by another daemon (pid %s)", dir, strings.TrimSpace(string(pid)))
	}
	if err == nil {
		err = durable.Truncate(f, 0)
	}
	if err == nil {
		_, err = durable.WriteAt(f, fmt.Appendf(nil, "%d\n", os.Getpid()), 0)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("lock the exec root: %w", err), f.Close())
	}
	return f, nil
}
