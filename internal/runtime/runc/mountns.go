package runc

import (
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"sync"

	"github.com/moby/sys/userns"
	"golang.org/x/sys/unix"

	"github.com/outletd/outlet/internal/reap"
	"github.com/outletd/outlet/internal/runtime"
)

// A container without a cgroup (rootless without delegation) that has no pid
// namespace either is told by its mount namespace alone: it is the only thing
// that all its processes have and nobody else has. The kernel names namespaces
// by numbers that it gives again as soon as a namespace is gone, so a number
// means something only while somebody holds the namespace.

// heldMountNS keeps a mount namespace alive, so that its number stays its own.
// The methods may be called concurrently.
type heldMountNS struct {
	mu   sync.Mutex
	file *os.File // nil if it is not held
}

func (h *heldMountNS) hold(f *os.File) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.file != nil {
		h.file.Close()
	}
	h.file = f
}

func (h *heldMountNS) held() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.file != nil
}

// release lets the namespace go, and with it the mounts in it.
func (h *heldMountNS) release() { h.hold(nil) }

// mayLackCgroups reports whether runc starts containers even where it can make no
// cgroups for them.
func mayLackCgroups() bool { return os.Geteuid() != 0 || userns.RunningInUserNS() }

// needsMountNS reports whether nothing else tells the container's processes.
func (c *container) needsMountNS() bool {
	return !c.note.OwnPIDs && !cgroups(c.note.Cgroups).exists()
}

// findMountNS notes and holds the container's mount namespace if nothing else
// tells its processes. It must be done while the main process lives.
func (c *container) findMountNS() {
	if c.note.Init == nil || !c.needsMountNS() {
		return
	}
	path := procFile(c.note.Init.PID, "ns/mnt")
	f, err := os.Open(path)
	if err != nil {
		return
	}
	ns, err := os.Readlink(path)
	own, ownErr := os.Readlink("/proc/self/ns/mnt")
	// The process may have ended, and its pid may be another's.
	if errors.Join(err, ownErr, c.note.Init.Check()) != nil || ns == own || (c.note.MountNS != "" && c.note.MountNS != ns) {
		f.Close()
		return
	}
	c.note.MountNS = ns
	c.mountNS.hold(f)
}

// members returns the pids of the container's processes that live: those in its
// cgroup, or where it has none those in its mount namespace.
func (c *container) members() ([]int, error) {
	if !c.needsMountNS() || c.note.MountNS == "" {
		return cgroups(c.note.Cgroups).processes()
	}
	// A namespace that nobody held meanwhile may be another's by now: then it
	// must have the container's root too.
	var root os.FileInfo
	if !c.mountNS.held() {
		spec, err := runtime.ReadSpec(c.note.Bundle)
		if err != nil || spec.Root == nil {
			return nil, nil //nolint:nilerr // nothing can be told from it any more
		}
		path := spec.Root.Path
		if !filepath.IsAbs(path) {
			path = filepath.Join(c.note.Bundle, path)
		}
		if root, err = os.Stat(path); err != nil {
			return nil, nil //nolint:nilerr // as above
		}
	}
	all, err := reap.Processes()
	if err != nil {
		return nil, err
	}
	var pids []int
	for pid, st := range all {
		if st.State == 'Z' {
			continue
		}
		if ns, err := os.Readlink(procFile(pid, "ns/mnt")); err != nil || ns != c.note.MountNS {
			continue
		}
		if root != nil {
			if fi, err := os.Stat(procFile(pid, "root")); err != nil || !os.SameFile(fi, root) {
				continue
			}
		}
		pids = append(pids, pid)
	}
	return pids, nil
}

// kill sends SIGKILL to the members; try counts from 0.
func (c *container) kill(pids []int, try int) error {
	if cg := cgroups(c.note.Cgroups); cg.exists() {
		return cg.killAll(pids, try)
	}
	var errs []error
	for _, pid := range pids {
		if err := unix.Kill(pid, unix.SIGKILL); err != nil && !errors.Is(err, unix.ESRCH) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

func procFile(pid int, name string) string {
	return "/proc/" + strconv.Itoa(pid) + "/" + name
}
