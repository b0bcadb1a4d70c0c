package bench

import (
	"encoding/json"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/outletd/outlet/internal/testutil"
	"github.com/outletd/outlet/internal/testutil/daemontest"
)

func datasync(f *os.File) error { return unix.Fdatasync(int(f.Fd())) }

// runcLimit runs a copy of a plugin's bundle with runc alone.
type runcLimit struct {
	runc, dir, rootfs, name, socket string
}

// newRuncLimit copies the bundle of a plugin that runs, with directories of its
// own. Its root filesystem is that of the limit like, if that is not nil.
func newRuncLimit(b *testing.B, d *daemontest.Daemon, plugin string, like *runcLimit) runcLimit {
	b.Helper()
	l := runcLimit{runc: testutil.Program(b, testutil.Runc), dir: memoryDir(b), name: "outlet-bench-" + plugin}
	l.socket = filepath.Join(l.dir, "p/dirvol.sock")
	bundle := d.BundleDir(d.Outlet("inspect", "-f", "{{.ID}}", plugin).OK())
	raw, err := os.ReadFile(filepath.Join(bundle, "config.json"))
	if err != nil {
		b.Fatal(err)
	}
	var spec specs.Spec
	if err := json.Unmarshal(raw, &spec); err != nil {
		b.Fatal(err)
	}
	for _, sub := range []string{"p", "runc", "bundle"} {
		if err := os.Mkdir(filepath.Join(l.dir, sub), 0o755); err != nil {
			b.Fatal(err)
		}
	}
	// What the plugin keeps is on the disk, as it is with the daemon.
	disk := testutil.TempDir(b)
	if err := os.Mkdir(filepath.Join(disk, "v"), 0o755); err != nil {
		b.Fatal(err)
	}
	l.rootfs = filepath.Join(disk, "rootfs")
	if like != nil {
		l.rootfs = like.rootfs
	} else if err := os.CopyFS(l.rootfs, os.DirFS(filepath.Join(bundle, "rootfs"))); err != nil {
		b.Fatal(err)
	}
	spec.Root.Path = l.rootfs
	for i, m := range spec.Mounts {
		switch m.Destination {
		case "/run/docker/plugins":
			spec.Mounts[i].Source = filepath.Join(l.dir, "p")
		case "/var/lib/dirvol":
			spec.Mounts[i].Source = filepath.Join(disk, "v")
		}
	}
	spec.Linux.CgroupsPath = "/outlet-bench/" + plugin
	if raw, err = json.Marshal(spec); err != nil {
		b.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(l.dir, "bundle/config.json"), raw, 0o600); err != nil {
		b.Fatal(err)
	}
	if like == nil {
		b.Cleanup(func() { removeCgroups("outlet-bench") })
	}
	return l
}

// runs is a bundle that runs.
type runs struct {
	b   *testing.B
	cmd *exec.Cmd
	err *strings.Builder
}

// run starts the bundle and waits until its socket accepts.
func (l runcLimit) run(b *testing.B) runs {
	b.Helper()
	_ = os.Remove(l.socket) // of the last time
	cmd := exec.Command(l.runc, "--root", filepath.Join(l.dir, "runc"), "run", "--bundle", filepath.Join(l.dir, "bundle"), l.name)
	r := runs{b: b, cmd: cmd, err: new(strings.Builder)}
	cmd.Stdout, cmd.Stderr = io.Discard, r.err
	if err := cmd.Start(); err != nil {
		b.Fatal(err)
	}
	if err := accepts(l.socket); err != nil {
		b.Fatalf("the limit does not come up: %v\n%s", err, r.err)
	}
	return r
}

// end ends the bundle: runc in the foreground hands the signal on, and removes
// the container.
func (r runs) end() {
	r.b.Helper()
	if err := r.cmd.Process.Signal(os.Interrupt); err != nil {
		r.b.Fatal(err)
	}
	if err := r.cmd.Wait(); err != nil {
		r.b.Fatalf("runc: %v\n%s", err, r.err)
	}
}

// accepts waits until a socket accepts, by looking every millisecond.
func accepts(socket string) error {
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	began := time.Now()
	for {
		c, err := net.Dial("unix", socket)
		if err == nil {
			return c.Close()
		}
		if time.Since(began) > 60*time.Second {
			return fmt.Errorf("nothing accepts on %s: %w", socket, err)
		}
		<-tick.C
	}
}

// killed kills a process and returns once it has ended.
func killed(b *testing.B, pid int) {
	b.Helper()
	fd, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		b.Fatal(err)
	}
	defer unix.Close(fd)
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		b.Fatal(err)
	}
	if _, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, 10000); err != nil {
		b.Fatal(err)
	}
}

// removeCgroups removes an empty cgroup from every hierarchy.
func removeCgroups(name string) {
	dirs, _ := filepath.Glob("/sys/fs/cgroup/*/" + name) // the pattern is a good one
	for _, dir := range append(dirs, "/sys/fs/cgroup/"+name) {
		_ = os.Remove(dir) // not in every hierarchy
	}
}
