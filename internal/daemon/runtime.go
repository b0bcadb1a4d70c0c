package daemon

import (
	"os"
	"path/filepath"

	"github.com/containerd/errdefs"

	"github.com/outletd/outlet"
	"github.com/outletd/outlet/internal/host"
	"github.com/outletd/outlet/internal/runtime/chroot"
	"github.com/outletd/outlet/internal/runtime/runc"
	"github.com/outletd/outlet/manager"
)

// openRuntime makes what runs the plugins: by its name, or runc at a path.
func (d *daemon) openRuntime() (manager.Runtime, error) {
	state := filepath.Join(d.cfg.ExecRoot, "r")
	if d.cfg.Runtime == "chroot" {
		return chroot.New(chroot.Config{StateDir: state, Reaper: d.reaper, Logger: d.log})
	}
	explicit := d.cfg.Runtime
	if explicit == "runc" {
		explicit = ""
	}
	path, err := runc.Find(explicit)
	if err != nil {
		return nil, err
	}
	rt, err := runc.New(runc.Config{Path: path, Root: state, Reaper: d.reaper, Logger: d.log})
	if err != nil {
		return nil, err
	}
	d.onClose(rt.Close)
	return rt, nil
}

// checkPrivileges names what this process may not do and a daemon must.
func checkPrivileges(c Config, facts host.Facts) error {
	if c.Runtime == "chroot" {
		if !facts.HasCapability("CAP_SYS_CHROOT") {
			return outlet.Errorf(errdefs.ErrPermissionDenied, "the daemon lacks CAP_SYS_CHROOT, which the chroot runtime needs: start it as root")
		}
		return nil
	}
	if !facts.HasCapability("CAP_SYS_ADMIN") {
		text := "the daemon lacks CAP_SYS_ADMIN, which it needs to mount and to start containers"
		if os.Getuid() != 0 {
			return outlet.Errorf(errdefs.ErrPermissionDenied, "%s: start it as root, or in a user namespace of its own with: unshare --user --map-root-user --mount --pid --fork --mount-proc outlet daemon", text)
		}
		return outlet.Errorf(errdefs.ErrPermissionDenied, "%s: give it that, or start it with --runtime chroot, which isolates nothing", text)
	}
	return nil
}

func hostname() string {
	name, err := os.Hostname()
	if err != nil {
		return "localhost"
	}
	return name
}
