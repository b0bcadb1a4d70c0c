package chroot

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/containerd/errdefs"
	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/outletd/outlet/internal/reap"
	"github.com/outletd/outlet/internal/runtime/runtimetest"
	"github.com/outletd/outlet/internal/testutil"
)

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func ptr[T any](v T) *T { return &v }

func TestWhatNeedsAMountOrANamespaceIsRefusedByName(t *testing.T) {
	for _, test := range []struct {
		name   string
		change func(*specs.Spec)
		want   string
	}{
		{"bind mount", func(s *specs.Spec) {
			s.Mounts = append(s.Mounts, specs.Mount{Destination: "/data", Type: "bind", Source: "/srv", Options: []string{"rbind"}})
		}, "the bind mount of /srv on /data"},
		{"bind mount by option", func(s *specs.Spec) {
			s.Mounts = append(s.Mounts, specs.Mount{Destination: "/data", Type: "none", Source: "/srv", Options: []string{"bind"}})
		}, "the bind mount of /srv on /data"},
		{"the host's /dev", func(s *specs.Spec) {
			s.Mounts = append(s.Mounts, specs.Mount{Destination: "/dev", Type: "bind", Source: "/dev"})
		}, "the bind mount of /dev on /dev"},
		{"own directory on the root", func(s *specs.Spec) {
			s.Mounts = append(s.Mounts, specs.Mount{Destination: "/x/..", Type: "bind", Source: "/own"})
		}, "the bind mount of /own on /x/.."},
		{"limited tmpfs", func(s *specs.Spec) {
			s.Mounts = append(s.Mounts, specs.Mount{Destination: "/t", Type: "tmpfs", Options: []string{"size=1m"}})
		}, "the tmpfs mount on /t"},
		{"a disk", func(s *specs.Spec) {
			s.Mounts = append(s.Mounts, specs.Mount{Destination: "/disk", Type: "ext4", Source: "/dev/vda"})
		}, "the ext4 mount on /disk"},
		{"proc elsewhere", func(s *specs.Spec) {
			s.Mounts = append(s.Mounts, specs.Mount{Destination: "/process", Type: "proc"})
		}, "the proc mount on /process"},
		{"read-only root", func(s *specs.Spec) { s.Root.Readonly = true }, "a read-only root filesystem"},
		{"no_new_privs", func(s *specs.Spec) { s.Process.NoNewPrivileges = true }, "no_new_privs"},
		{"rlimits", func(s *specs.Spec) { s.Process.Rlimits = []specs.POSIXRlimit{{Type: "RLIMIT_NOFILE"}} }, "rlimits"},
		{"apparmor", func(s *specs.Spec) { s.Process.ApparmorProfile = "x" }, "an AppArmor profile"},
		{"hooks", func(s *specs.Spec) { s.Hooks = &specs.Hooks{} }, "hooks"},
		{"seccomp", func(s *specs.Spec) { s.Linux.Seccomp = &specs.LinuxSeccomp{} }, "a seccomp profile"},
		{"joined namespace", func(s *specs.Spec) {
			s.Linux.Namespaces = []specs.LinuxNamespace{{Type: specs.NetworkNamespace, Path: "/run/netns/x"}}
		}, "the network namespace /run/netns/x"},
		{"memory", func(s *specs.Spec) {
			s.Linux.Resources = &specs.LinuxResources{Memory: &specs.LinuxMemory{Limit: ptr[int64](1)}}
		}, "a memory limit"},
		{"cpu", func(s *specs.Spec) {
			s.Linux.Resources = &specs.LinuxResources{CPU: &specs.LinuxCPU{Quota: ptr[int64](1)}}
		}, "a CPU limit"},
		{"pids", func(s *specs.Spec) {
			s.Linux.Resources = &specs.LinuxResources{Pids: &specs.LinuxPids{Limit: ptr[int64](1)}}
		}, "a limit of processes"},
	} {
		t.Run(test.name, func(t *testing.T) {
			spec := &specs.Spec{Root: &specs.Root{Path: "r"}, Process: &specs.Process{}, Linux: &specs.Linux{}}
			test.change(spec)
			_, err := planFor("id", spec, []string{"/own"})
			if !errors.Is(err, errdefs.ErrNotImplemented) || !strings.Contains(err.Error(), test.want) {
				t.Errorf("error is %v, want one that says %q", err, test.want)
			}
		})
	}
}

func TestWhatNeedsNoMountIsDone(t *testing.T) {
	spec := &specs.Spec{
		Root: &specs.Root{Path: "r"}, Process: &specs.Process{},
		Linux: &specs.Linux{
			Resources:  &specs.LinuxResources{Devices: []specs.LinuxDeviceCgroup{{Allow: false, Access: "rwm"}}},
			Namespaces: []specs.LinuxNamespace{{Type: specs.NetworkNamespace}},
		},
		Mounts: []specs.Mount{
			{Destination: "/proc", Type: "proc"},
			{Destination: "/dev", Type: "tmpfs", Options: []string{"size=65536k"}},
			{Destination: "/dev/mqueue", Type: "mqueue"},
			{Destination: "/sys/fs/cgroup", Type: "cgroup"},
			{Destination: "/tmp", Type: "tmpfs"},
			{Destination: "/etc/hosts", Type: "bind", Source: "/etc/hosts"},
			{Destination: "/run/docker/plugins", Type: "bind", Source: "/own"},
		},
	}
	p, err := planFor("id", spec, []string{"/own"})
	must(t, err)
	got := []any{p.dirs, p.copies, len(p.links)}
	want := []any{[]string{"/proc", "/dev", "/dev/mqueue", "/sys/fs/cgroup", "/tmp"}, []string{"/etc/hosts"}, 1}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
}

func TestPathsStayInsideTheRootFilesystem(t *testing.T) {
	dir := t.TempDir()
	root := rootfs{filepath.Join(dir, "rootfs")}
	must(t, os.MkdirAll(filepath.Join(root.path, "var", "run"), 0o755))
	must(t, os.MkdirAll(filepath.Join(dir, "outside"), 0o755))
	for name, target := range map[string]string{
		"run": "/var/run", "up": "../../../..", "out": filepath.Join(dir, "outside"), "loop": "loop",
	} {
		must(t, os.Symlink(target, filepath.Join(root.path, name)))
	}
	for _, test := range []struct{ name, want string }{
		{"/run/docker/plugins", "/var/run/docker/plugins"},
		{"run/../x", "/x"},
		{"/../../y", "/y"},
		{"/up/z", "/z"},
		{"/up", ""},
		{"/", ""},
	} {
		got, err := root.dir(test.name)
		if err != nil || got != root.path+test.want {
			t.Errorf("%s is %s, %v, want %s", test.name, got, err, root.path+test.want)
		}
	}
	for _, name := range []string{"/out/sub", "/loop/x"} {
		if got, err := root.dir(name); err == nil && !strings.HasPrefix(got, root.path+"/") {
			t.Errorf("%s is %s", name, got)
		}
	}
	entries, err := os.ReadDir(filepath.Join(dir, "outside"))
	if err != nil || len(entries) > 0 {
		t.Errorf("outside: %v, %v", entries, err)
	}
	if _, err := root.link(specs.Mount{Source: dir, Destination: "/up"}); err == nil {
		t.Error("the root filesystem itself is taken for a mount point")
	}
}

func TestProgramsAreFoundOnThePathInside(t *testing.T) {
	root := rootfs{t.TempDir()}
	must(t, os.MkdirAll(filepath.Join(root.path, "usr/bin"), 0o755))
	must(t, os.MkdirAll(filepath.Join(root.path, "sbin/dir"), 0o755))
	must(t, os.Symlink("/usr/bin", filepath.Join(root.path, "bin")))
	must(t, os.WriteFile(filepath.Join(root.path, "usr/bin/a"), nil, 0o755))
	must(t, os.WriteFile(filepath.Join(root.path, "usr/bin/text"), nil, 0o644))
	env := []string{"PATH=/nowhere", "PATH=/sbin:/bin"}
	for _, test := range []struct{ name, want string }{
		{"a", "/bin/a"},
		{"/any/where", "/any/where"},
		{"./a", "/work/a"},
		{"dir", ""},
		{"text", ""},
		{"sh", ""}, // the host has one
	} {
		got, err := root.program(test.name, "/work", env)
		if got != test.want || (err == nil) != (test.want != "") {
			t.Errorf("%s is %q, %v, want %q", test.name, got, err, test.want)
		}
	}
}

// Every state that a crash can leave a link in is mended by undo.
func TestLinksAreUndoneFromEveryState(t *testing.T) {
	for _, test := range []struct {
		name  string
		crash func(t *testing.T, l link)
		keep  bool // the file in it must have come back
	}{
		{"nothing done", func(*testing.T, link) {}, true},
		{"target removed", func(t *testing.T, l link) { must(t, os.Remove(l.Target)) }, true},
		{"moved", func(t *testing.T, l link) {
			must(t, os.Remove(l.Target))
			must(t, os.Rename(l.Source, l.Target))
		}, true},
		{"done", func(t *testing.T, l link) { must(t, l.make()) }, true},
		{"link removed", func(t *testing.T, l link) { must(t, l.make()); must(t, os.Remove(l.Source)) }, true},
		{"root filesystem removed", func(t *testing.T, l link) {
			must(t, l.make())
			must(t, os.RemoveAll(filepath.Dir(l.Target)))
		}, false},
		{"all removed", func(t *testing.T, l link) {
			must(t, os.RemoveAll(l.Source))
			must(t, os.RemoveAll(filepath.Dir(l.Target)))
		}, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			dir := t.TempDir()
			l := link{Source: filepath.Join(dir, "source"), Target: filepath.Join(dir, "rootfs", "target"), Mode: 0o750}
			must(t, os.MkdirAll(l.Target, 0o755))
			must(t, os.Mkdir(l.Source, l.Mode))
			must(t, os.WriteFile(filepath.Join(l.Source, "kept"), nil, 0o600))
			test.crash(t, l)
			for range 2 {
				must(t, l.undo())
			}
			fi, err := os.Lstat(l.Source)
			must(t, err)
			if !fi.IsDir() || fi.Mode().Perm() != l.Mode {
				t.Errorf("the source is %v", fi.Mode())
			}
			_, err = os.Stat(filepath.Join(l.Source, "kept"))
			if (err == nil) != test.keep {
				t.Errorf("what was in it: %v", err)
			}
		})
	}
}

func TestALinkOverAFullDirectoryIsRefused(t *testing.T) {
	dir := t.TempDir()
	l := link{Source: filepath.Join(dir, "source"), Target: filepath.Join(dir, "target"), Mode: 0o700}
	must(t, os.MkdirAll(filepath.Join(l.Target, "sub"), 0o755))
	must(t, os.Mkdir(l.Source, l.Mode))
	if err := l.make(); !errors.Is(err, syscall.ENOTEMPTY) || !strings.Contains(err.Error(), l.Target) {
		t.Errorf("error is %v", err)
	}
}

func TestALinkBetweenFileSystemsNeedsAnEmptySource(t *testing.T) {
	var a, b syscall.Stat_t
	if syscall.Stat("/dev/shm", &a) != nil || syscall.Stat(os.TempDir(), &b) != nil || a.Dev == b.Dev {
		t.Skip("/dev/shm is no file system of its own")
	}
	other, err := os.MkdirTemp("/dev/shm", "outlet-") //nolint:usetesting // it must be another file system
	if err != nil {
		t.Skip(err)
	}
	t.Cleanup(func() { must(t, os.RemoveAll(other)) })
	target := filepath.Join(t.TempDir(), "target")
	must(t, os.Mkdir(target, 0o755))
	l := link{Source: filepath.Join(other, "source"), Target: target, Mode: 0o700}
	must(t, os.Mkdir(l.Source, l.Mode))
	full := filepath.Join(l.Source, "file")
	must(t, os.WriteFile(full, nil, 0o600))
	if err := l.make(); !errors.Is(err, syscall.ENOTEMPTY) {
		t.Errorf("error is %v", err)
	}
	must(t, l.undo())
	must(t, os.Remove(full))
	must(t, l.make())
	must(t, os.WriteFile(filepath.Join(l.Source, "seen"), nil, 0o600))
	if _, err := os.Stat(filepath.Join(target, "seen")); err != nil {
		t.Error(err)
	}
	must(t, l.undo())
	if fi, err := os.Lstat(l.Source); err != nil || !fi.IsDir() || fi.Mode().Perm() != l.Mode {
		t.Errorf("the source is %v, %v", fi, err)
	}
}

func TestTheHostsRootIsNoRootFilesystem(t *testing.T) {
	testutil.Need(t, testutil.Root, testutil.Chroot)
	r, err := reap.New(reap.Config{})
	must(t, err)
	defer r.Close()
	rt, err := New(Config{StateDir: t.TempDir(), Reaper: r})
	must(t, err)
	b := runtimetest.NewBox(t, runtimetest.BoxOptions{Change: func(s *specs.Spec) { s.Root.Path = "/tmp/.." }})
	if _, err := rt.Start(t.Context(), b.Bundle); !errdefs.IsInvalidArgument(err) {
		t.Errorf("error is %v", err)
	}
}

func TestDevicesOfTheSpecAreMade(t *testing.T) {
	testutil.Need(t, testutil.Root)
	root := rootfs{testutil.TempDir(t)}
	d := specs.LinuxDevice{Path: "/dev/deep/zero", Type: "c", Major: 1, Minor: 5, FileMode: ptr(os.FileMode(0o640)), UID: ptr[uint32](0), GID: ptr[uint32](5)}
	for range 2 {
		must(t, root.device(d))
	}
	var st syscall.Stat_t
	must(t, syscall.Stat(filepath.Join(root.path, d.Path), &st))
	if st.Mode != syscall.S_IFCHR|0o640 || st.Rdev != 1<<8|5 || st.Gid != 5 {
		t.Errorf("node is %o, %x, group %d", st.Mode, st.Rdev, st.Gid)
	}
	d.Minor = 3
	if err := root.device(d); err == nil {
		t.Error("another device in its place is taken")
	}
}

func TestAnOrdinaryNullIsReplacedByADevice(t *testing.T) {
	testutil.Need(t, testutil.Root)
	root := rootfs{testutil.TempDir(t)}
	path := filepath.Join(root.path, "dev", "null")
	must(t, root.plainNull())
	must(t, os.WriteFile(path, []byte("text"), 0o600))
	must(t, root.plainNull())
	if fi, err := os.Lstat(path); err != nil || fi.Size() != 0 || fi.Mode() != 0o666 {
		t.Errorf("null is %v, %v", fi, err)
	}
	must(t, root.device(standard[0]))
	if fi, err := os.Lstat(path); err != nil || fi.Mode().Type() != os.ModeDevice|os.ModeCharDevice {
		t.Errorf("null is %v, %v", fi, err)
	}
	// A link in its place is the plugin's own and leads nowhere outside.
	must(t, os.Remove(path))
	outside := filepath.Join(t.TempDir(), "outside")
	must(t, os.Symlink(outside, path))
	if err := root.plainNull(); err == nil {
		t.Error("a link is followed")
	}
}
