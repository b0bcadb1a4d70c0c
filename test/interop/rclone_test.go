package interop

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/outletd/outlet/internal/testutil"
)

// rcloneDaemon starts a daemon with rclone as a managed plugin, and returns the
// directory of the host that is its remote.
func rcloneDaemon(t *testing.T) (d *daemon, remote string) {
	t.Helper()
	testutil.Need(t, testutil.Root, testutil.Fuse, testutil.Rclone)
	d = startDaemon(t)
	state := testutil.TempDir(t)
	remote = filepath.Join(state, "cache/src")
	for _, dir := range []string{filepath.Join(state, "config"), remote} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	d.outlet("create", "rclone", rclone(t)).ok()
	d.outlet("set", "rclone", "config.source="+filepath.Join(state, "config"), "cache.source="+filepath.Join(state, "cache")).ok()
	d.outlet("enable", "rclone").ok()
	d.outlet("volume", "create", "-d", "rclone", "-o", "type=alias", "-o", "alias-remote=/data/cache/src",
		"-o", "vfs-cache-mode=writes", "-o", "vfs-write-back=0s", "-o", "allow-other=true", "remote").ok()
	return d, remote
}

// content waits until a file holds a text: what is written through FUSE reaches
// the remote a moment later.
func content(t *testing.T, path, want string) {
	t.Helper()
	testutil.Eventually(t, 20*time.Second, func() error {
		b, err := os.ReadFile(path)
		if err == nil && string(b) != want {
			err = fmt.Errorf("%s holds %q, want %q", path, b, want)
		}
		return err
	})
}

func TestRcloneServesAVolume(t *testing.T) {
	d, remote := rcloneDaemon(t)
	path := d.outlet("volume", "mount", "remote").ok()
	if err := os.WriteFile(filepath.Join(path, "there"), []byte("through the mount"), 0o644); err != nil {
		t.Fatal(err)
	}
	content(t, filepath.Join(remote, "there"), "through the mount")
	if err := os.WriteFile(filepath.Join(remote, "back"), []byte("on the host"), 0o644); err != nil {
		t.Fatal(err)
	}
	content(t, filepath.Join(path, "back"), "on the host")

	d.outlet("volume", "unmount", "remote").ok()
	d.outlet("volume", "rm", "remote").ok()
	d.outlet("disable", "rclone").ok()
	d.outlet("rm", "rclone").ok()
	if points, err := testutil.Mounts(d.dir); err != nil || len(points) != 0 {
		t.Errorf("mounts are left: %q, %v", points, err)
	}
}

func TestRcloneComesBackAfterAKill(t *testing.T) {
	d, _ := rcloneDaemon(t)
	d.outlet("volume", "mount", "remote").ok()
	pid := d.outlet("inspect", "-f", "{{.Status.PID}}", "rclone").ok()
	run(t, nil, "kill", "-KILL", pid).ok()
	testutil.Eventually(t, 20*time.Second, func() error {
		if state := d.outlet("inspect", "-f", "{{.Status.State}} {{.Status.Restarts}}", "rclone").ok(); state != "running 1" {
			return fmt.Errorf("it is %s", state)
		}
		return nil
	})
	// Its FUSE mount died with it: the leftover is gone, and a new volume works.
	d.outlet("volume", "create", "-d", "rclone", "-o", "type=alias", "-o", "alias-remote=/data/cache/src", "again").ok()
	path := d.outlet("volume", "mount", "again").ok()
	if _, err := os.ReadDir(path); err != nil {
		t.Error(err)
	}
	d.outlet("volume", "unmount", "again").ok()
}
