package interop

import (
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/outletd/outlet/internal/testutil"
	"github.com/outletd/outlet/internal/testutil/daemontest"
)

// rcloneDaemon starts a daemon with rclone as a managed plugin, and returns the
// directory of the host that is its remote.
func rcloneDaemon(t *testing.T) (d *daemontest.Daemon, remote string) {
	t.Helper()
	testutil.Need(t, testutil.Root, testutil.Fuse, testutil.Rclone)
	state := testutil.TempDir(t) // before the daemon, so that it is removed after the plugin
	d = daemontest.Start(t)
	remote = filepath.Join(state, "cache/src")
	for _, dir := range []string{filepath.Join(state, "config"), remote} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	d.Outlet("create", "rclone", rclone(t)).OK()
	d.Outlet("set", "rclone", "config.source="+filepath.Join(state, "config"), "cache.source="+filepath.Join(state, "cache")).OK()
	d.Outlet("enable", "rclone").OK()
	d.Outlet("volume", "create", "-d", "rclone", "-o", "type=alias", "-o", "alias-remote=/data/cache/src",
		"-o", "vfs-cache-mode=writes", "-o", "vfs-write-back=0s", "-o", "dir-cache-time=1s", "-o", "allow-other=true", "remote").OK()
	return d, remote
}

// content waits until a file holds a text: what is written through FUSE reaches
// the remote a moment later.
func content(t *testing.T, path, want string) {
	t.Helper()
	testutil.Eventually(t, time.Minute, func() error {
		b, err := os.ReadFile(path)
		if err == nil && string(b) != want {
			err = fmt.Errorf("%s holds %q, want %q", path, b, want)
		}
		return err
	})
}

func TestRcloneServesAVolume(t *testing.T) {
	d, remote := rcloneDaemon(t)
	path := d.Outlet("volume", "mount", "remote").OK()
	if err := os.WriteFile(filepath.Join(path, "there"), []byte("through the mount"), 0o644); err != nil {
		t.Fatal(err)
	}
	content(t, filepath.Join(remote, "there"), "through the mount")
	if err := os.WriteFile(filepath.Join(remote, "back"), []byte("on the host"), 0o644); err != nil {
		t.Fatal(err)
	}
	content(t, filepath.Join(path, "back"), "on the host")

	d.Outlet("volume", "unmount", "remote").OK()
	d.Outlet("volume", "rm", "remote").OK()
	d.Outlet("disable", "rclone").OK()
	d.Outlet("rm", "rclone").OK()
	if points, err := testutil.Mounts(d.Dir()); err != nil || len(points) != 0 {
		t.Errorf("mounts are left: %q, %v", points, err)
	}
}

func TestRcloneComesBackAfterAKill(t *testing.T) {
	d, _ := rcloneDaemon(t)
	d.Outlet("volume", "mount", "remote").OK()
	pid := d.Outlet("inspect", "-f", "{{.Status.PID}}", "rclone").OK()
	daemontest.Signal(t, pid, syscall.SIGKILL)
	testutil.Eventually(t, time.Minute, func() error {
		if state := d.Outlet("inspect", "-f", "{{.Status.State}} {{.Status.Restarts}}", "rclone").OK(); state != "running 1" {
			return fmt.Errorf("it is %s", state)
		}
		return nil
	})
	// Its FUSE mount died with it: the leftover is gone, and a new volume works.
	d.Outlet("volume", "create", "-d", "rclone", "-o", "type=alias", "-o", "alias-remote=/data/cache/src", "again").OK()
	path := d.Outlet("volume", "mount", "again").OK()
	if _, err := os.ReadDir(path); err != nil {
		t.Error(err)
	}
	d.Outlet("volume", "unmount", "again").OK()
}
