// Package testutil holds what tests of several packages share: naming what a
// test needs and skipping or failing by it, short temporary directories,
// programs built once, waiting for a condition, and checks for leaks.
//
// It is not for production code: only files named _test.go import it.
package testutil

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// EnvNeed names the environment variable that turns skips into failures: "all",
// or a comma-separated list of features.
const EnvNeed = "OUTLET_TEST_NEED"

// Feature is something of the machine that a test may need. Its value is the
// name that [EnvNeed] knows it by.
type Feature string

// The features tests ask for with [Need].
const (
	Root        Feature = "root"         // effective uid 0
	MountNS     Feature = "mountns"      // may make mount namespaces
	Overlay     Feature = "overlay"      // may mount overlay in the temporary directory
	UserNS      Feature = "userns"       // may make user namespaces
	Cgroups     Feature = "cgroups"      // may make cgroups
	Fuse        Feature = "fuse"         // /dev/fuse and fusermount3
	Loop        Feature = "loop"         // loop devices, and mkfs.ext4
	Runc        Feature = "runc"         // bin/runc, else runc on PATH
	RuncBuilt   Feature = "runcbuilt"    // bin/runc
	OutletBuilt Feature = "outletbuilt"  // bin/outlet
	Chroot      Feature = "chroot"       // may call chroot
	Rclone      Feature = "rclone"       // rclone on PATH
	Podman      Feature = "podman"       // podman on PATH
	Crun        Feature = "crun"         // crun on PATH
	Dockerd     Feature = "dockerd"      // dockerd and containerd on PATH, and root
	DockerCLI20 Feature = "docker-cli20" // docker CLI 20.10
	DockerCLI28 Feature = "docker-cli28" // docker CLI 28
	Busybox     Feature = "busybox"      // a static busybox
	Registry    Feature = "registry"     // docker-registry on PATH
	Skopeo      Feature = "skopeo"       // skopeo on PATH
	Umoci       Feature = "umoci"        // umoci on PATH
	Strace      Feature = "strace"       // strace on PATH
	Jq          Feature = "jq"           // jq on PATH
	Go          Feature = "go"           // the go command on PATH
	GCC         Feature = "gcc"          // gcc on PATH
	Make        Feature = "make"         // make on PATH
	Git         Feature = "git"          // git on PATH
	MobyModule  Feature = "moby-module"  // the modules that internal/mobycompat requires
)

// Features returns every feature there is.
func Features() []Feature {
	return []Feature{
		Root, MountNS, Overlay, UserNS, Cgroups, Fuse, Loop, Runc, RuncBuilt, OutletBuilt, Chroot, Rclone, Podman, Crun,
		Dockerd, DockerCLI20, DockerCLI28, Busybox, Registry, Skopeo, Umoci, Strace, Jq, Go, GCC, Make, Git,
		MobyModule,
	}
}

// Need skips the test unless the machine has every feature, and says how to
// get what is missing. Where [EnvNeed] is "all" or names a missing feature the
// test fails instead.
func Need(t testing.TB, features ...Feature) {
	t.Helper()
	for _, f := range features {
		err := f.Probe()
		if err == nil {
			continue
		}
		text := fmt.Sprintf("needs %s: %s (%v)", f, f.Enable(), err)
		if demanded(os.Getenv(EnvNeed), f) {
			t.Fatalf("%s; %s asks for it", text, EnvNeed)
		}
		t.Skip(text)
	}
}

// Program returns the path of the program that a feature stands for, after
// [Need] of it.
func Program(t testing.TB, f Feature) string {
	t.Helper()
	Need(t, f)
	path, err := f.program()
	if err != nil {
		t.Fatal(err)
	}
	return path
}

func demanded(env string, f Feature) bool {
	for name := range strings.SplitSeq(env, ",") {
		if name = strings.TrimSpace(name); name == "all" || name == string(f) {
			return true
		}
	}
	return false
}

// Enable says what gives a machine the feature.
func (f Feature) Enable() string {
	const deps = "`make deps` as root installs it"
	switch f {
	case Root:
		return "run the tests as root"
	case MountNS, Cgroups, Chroot:
		return "run the tests as root on a host or in a privileged container"
	case Overlay:
		return "run the tests as root, with TMPDIR on a file system that may be an upper layer of overlay (ext4, xfs, tmpfs)"
	case UserNS:
		return "allow user namespaces (sysctl user.max_user_namespaces, kernel.unprivileged_userns_clone, kernel.apparmor_restrict_unprivileged_userns)"
	case Fuse:
		return "load the fuse module and give the container /dev/fuse; " + deps + " (package fuse3)"
	case Loop:
		return "load the loop module and give the container loop devices; " + deps + " (package e2fsprogs)"
	case Runc:
		return "`make build` builds bin/runc, or install runc"
	case RuncBuilt, OutletBuilt:
		return "`make build`"
	case DockerCLI28:
		return "`make deps` builds it"
	case Dockerd:
		return "run the tests as root; " + deps
	case Go, GCC, Make, Git:
		return "install it"
	case MobyModule:
		return "reach a Go module proxy (GOPROXY), or run `go mod download` in internal/mobycompat where there is one"
	default:
		return deps
	}
}

// Probe returns nil if the machine has the feature, or what is missing.
func (f Feature) Probe() error {
	switch f {
	case Root:
		return needRoot()
	case MountNS:
		return tryClone(&syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNS})
	case UserNS:
		return tryClone(&syscall.SysProcAttr{
			Cloneflags:                 syscall.CLONE_NEWUSER | syscall.CLONE_NEWNS | syscall.CLONE_NEWPID,
			UidMappings:                []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}},
			GidMappings:                []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getgid(), Size: 1}},
			GidMappingsEnableSetgroups: false,
		})
	case Overlay:
		return tryOverlay()
	case Cgroups:
		return tryCgroup()
	case Chroot:
		return tryClone(&syscall.SysProcAttr{Chroot: "/"})
	case Fuse:
		f, err := os.OpenFile("/dev/fuse", os.O_RDWR, 0)
		if err != nil {
			return err
		}
		f.Close()
	case Loop:
		f, err := os.OpenFile("/dev/loop-control", os.O_RDWR, 0)
		if err != nil {
			return err
		}
		f.Close()
	case MobyModule:
		return tryModules("internal/mobycompat")
	case Dockerd:
		if err := needRoot(); err != nil {
			return err
		}
		if _, err := exec.LookPath("containerd"); err != nil {
			return err
		}
	default: // all there is to it is the program
	}
	_, err := f.program()
	return err
}

// program returns the path of the feature's program.
func (f Feature) program() (string, error) {
	switch f {
	case Root, MountNS, UserNS, Overlay, Cgroups, Chroot, MobyModule:
		return "", fmt.Errorf("feature %s is no program", f)
	case Fuse:
		return exec.LookPath("fusermount3")
	case Loop:
		// As for runc.
		if path, err := exec.LookPath("mkfs.ext4"); err == nil {
			return path, nil
		}
		return exec.LookPath("/usr/sbin/mkfs.ext4")
	case Registry:
		return exec.LookPath("docker-registry")
	case Busybox:
		return staticBusybox()
	case DockerCLI20:
		return dockerCLI("20.10.", "/usr/bin/docker")
	case DockerCLI28:
		return dockerCLI("28.", inRepo(".cache/bin/docker28"))
	case RuncBuilt:
		return exec.LookPath(inRepo("bin/runc"))
	case OutletBuilt:
		return exec.LookPath(inRepo("bin/outlet"))
	case Runc:
		if path, err := exec.LookPath(inRepo("bin/runc")); err == nil {
			return path, nil
		}
		// An ordinary user's PATH may lack /usr/sbin, where Debian has it.
		if path, err := exec.LookPath("runc"); err == nil {
			return path, nil
		}
		return exec.LookPath("/usr/sbin/runc")
	default:
		if !slices.Contains(Features(), f) {
			return "", fmt.Errorf("no feature %q", string(f))
		}
		return exec.LookPath(string(f))
	}
}

func needRoot() error {
	if uid := os.Geteuid(); uid != 0 {
		return fmt.Errorf("effective uid is %d", uid)
	}
	return nil
}

// tryClone starts a program that ends at once with the given attributes.
func tryClone(attr *syscall.SysProcAttr) error {
	path, err := exec.LookPath("true")
	if err != nil {
		return err
	}
	cmd := exec.Command(path)
	cmd.SysProcAttr = attr
	return cmd.Run()
}

func tryOverlay() (err error) {
	dir, err := os.MkdirTemp(tempBase(), "ot")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	for _, sub := range []string{"l", "u", "w", "m"} {
		if err := os.Mkdir(filepath.Join(dir, sub), 0o755); err != nil {
			return err
		}
	}
	target := filepath.Join(dir, "m")
	opts := fmt.Sprintf("lowerdir=%[1]s/l,upperdir=%[1]s/u,workdir=%[1]s/w", dir)
	if err := unix.Mount("overlay", target, "overlay", 0, opts); err != nil {
		return fmt.Errorf("mount overlay: %w", err)
	}
	return unix.Unmount(target, 0)
}

// tryModules downloads what a module of the repository requires, unless it is
// there.
func tryModules(dir string) error {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, "go", "mod", "download")
	cmd.Dir = inRepo(dir)
	cmd.Env = append(os.Environ(), "GOWORK=off", "GOFLAGS=-mod=mod")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("go mod download: %w: %s", err, bytes.TrimSpace(out))
	}
	return nil
}

// tryCgroup makes and removes a cgroup where a runtime would: in the unified
// hierarchy, or in the pids controller of the first version.
func tryCgroup() error {
	base := "/sys/fs/cgroup"
	if _, err := os.Stat(filepath.Join(base, "cgroup.controllers")); err != nil {
		base = filepath.Join(base, "pids")
	}
	dir, err := os.MkdirTemp(base, "outlet-probe-")
	if err != nil {
		return err
	}
	return os.Remove(dir)
}

// dockerCLI looks for a docker command line whose version begins with prefix:
// first at the path given, then on PATH.
func dockerCLI(prefix, first string) (string, error) {
	var found []string
	for _, candidate := range []string{first, "docker"} {
		path, err := exec.LookPath(candidate)
		if err != nil {
			continue
		}
		out, err := exec.Command(path, "--version").Output()
		if err != nil {
			continue
		}
		version := strings.TrimSpace(strings.TrimPrefix(string(out), "Docker version "))
		if strings.HasPrefix(version, prefix) {
			return path, nil
		}
		found = append(found, path+" is "+version)
	}
	if len(found) == 0 {
		return "", fmt.Errorf("no docker command line %sx found", prefix)
	}
	return "", fmt.Errorf("no docker command line %sx found: %s", prefix, strings.Join(found, "; "))
}

// staticBusybox looks for a busybox that runs without shared libraries.
func staticBusybox() (string, error) {
	path, err := exec.LookPath("busybox")
	if err != nil {
		return "", err
	}
	static, err := IsStatic(path)
	if err != nil {
		return "", err
	}
	if !static {
		return "", fmt.Errorf("%s is not static", path)
	}
	return path, nil
}

// inRepo returns a path below the root of the repository, or, where there is
// none, a path that does not exist.
func inRepo(path string) string {
	root, err := repoRoot()
	if err != nil {
		return "/nonexistent"
	}
	return filepath.Join(root, path)
}
