package chroot

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/outletd/outlet/internal/durable"
)

// rootfs is the directory of a root filesystem. Its content is a stranger's:
// paths in it are resolved by the kernel as the process will see them.
type rootfs struct{ path string }

// open opens name as seen from inside.
func (r rootfs) open(name string, flags uint64) (int, error) {
	root, err := unix.Open(r.path, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1, &fs.PathError{Op: "open", Path: r.path, Err: err}
	}
	defer func() { _ = unix.Close(root) }()
	for {
		fd, err := unix.Openat2(root, name, &unix.OpenHow{
			Flags:   flags | unix.O_CLOEXEC,
			Resolve: unix.RESOLVE_IN_ROOT | unix.RESOLVE_NO_MAGICLINKS,
		})
		switch {
		case errors.Is(err, unix.EINTR) || errors.Is(err, unix.EAGAIN):
			continue // a rename elsewhere
		case err != nil:
			return -1, &fs.PathError{Op: "open", Path: name, Err: err}
		}
		return fd, nil
	}
}

// dir returns the host path, without symbolic links, of a directory inside, and
// makes it and those above it where they are missing.
func (r rootfs) dir(name string) (string, error) {
	name = filepath.Clean("/" + name)
	fd, err := r.open(name, unix.O_PATH|unix.O_DIRECTORY)
	if errors.Is(err, unix.ENOENT) && name != "/" {
		var parent string
		if parent, err = r.dir(filepath.Dir(name)); err != nil {
			return "", err
		}
		// A link into nowhere is in the way too; that is the plugin's fault.
		if err = durable.Mkdir(filepath.Join(parent, filepath.Base(name)), 0o755); err != nil {
			return "", err
		}
		fd, err = r.open(name, unix.O_PATH|unix.O_DIRECTORY)
	}
	if err != nil {
		return "", err
	}
	defer func() { _ = unix.Close(fd) }()
	return os.Readlink("/proc/self/fd/" + strconv.Itoa(fd))
}

// executable reports whether name is an executable file inside.
func (r rootfs) executable(name string) bool {
	fd, err := r.open(name, unix.O_PATH)
	if err != nil {
		return false
	}
	defer func() { _ = unix.Close(fd) }()
	var st unix.Stat_t
	err = unix.Fstat(fd, &st)
	return err == nil && st.Mode&unix.S_IFMT == unix.S_IFREG && st.Mode&0o111 != 0
}

// program finds the file to execute: name itself, or where it lies on the PATH
// of env.
func (r rootfs) program(name, cwd string, env []string) (string, error) {
	if strings.Contains(name, "/") {
		if !filepath.IsAbs(name) {
			name = filepath.Join(cwd, name)
		}
		return name, nil
	}
	path := ""
	for _, e := range env {
		if v, ok := strings.CutPrefix(e, "PATH="); ok {
			path = v
		}
	}
	for _, dir := range filepath.SplitList(path) {
		if file := filepath.Join("/", dir, name); r.executable(file) {
			return file, nil
		}
	}
	return "", &fs.PathError{Op: "exec", Path: name, Err: fs.ErrNotExist}
}

// furnish makes what a runtime that mounts would have mounted.
func (r rootfs) furnish(p plan) error {
	for _, d := range p.dirs {
		if _, err := r.dir(d); err != nil {
			return err
		}
	}
	for _, file := range p.copies {
		if err := r.copyFile(file); err != nil {
			return err
		}
	}
	return nil
}

func (r rootfs) copyFile(file string) error {
	raw, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) {
		return nil // the host has none either
	}
	if err != nil {
		return err
	}
	dir, err := r.dir(filepath.Dir(file))
	if err != nil {
		return err
	}
	to := filepath.Join(dir, filepath.Base(file))
	if err := durable.Remove(to); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return durable.WriteFile(to, raw, 0o644)
}

// standard are the devices that programs expect everywhere.
var standard = []specs.LinuxDevice{
	{Path: "/dev/null", Type: "c", Major: 1, Minor: 3},
	{Path: "/dev/zero", Type: "c", Major: 1, Minor: 5},
	{Path: "/dev/full", Type: "c", Major: 1, Minor: 7},
	{Path: "/dev/random", Type: "c", Major: 1, Minor: 8},
	{Path: "/dev/urandom", Type: "c", Major: 1, Minor: 9},
	{Path: "/dev/tty", Type: "c", Major: 5, Minor: 0},
}

// device makes a device node. One that is there already is as good.
func (r rootfs) device(d specs.LinuxDevice) error {
	kind := uint32(unix.S_IFCHR)
	switch d.Type {
	case "b":
		kind = unix.S_IFBLK
	case "p":
		kind = unix.S_IFIFO
	}
	dir, err := r.dir(filepath.Dir(filepath.Clean("/" + d.Path)))
	if err != nil {
		return err
	}
	path := filepath.Join(dir, filepath.Base(d.Path))
	number := unix.Mkdev(uint32(d.Major), uint32(d.Minor))
	var st unix.Stat_t
	if unix.Lstat(path, &st) == nil && st.Mode&unix.S_IFMT == kind && st.Rdev == number {
		return nil
	}
	if d.Path == "/dev/null" && st.Mode&unix.S_IFMT == unix.S_IFREG {
		if err := durable.Remove(path); err != nil { // of plainNull
			return err
		}
	}
	mode := uint32(0o666)
	if d.FileMode != nil {
		mode = uint32(d.FileMode.Perm())
	}
	if err := durable.Mknod(path, kind|mode, int(number)); err != nil {
		return fmt.Errorf("device %s: %w", d.Path, err)
	}
	if err := durable.Chmod(path, fs.FileMode(mode)); err != nil { // the umask was applied
		return err
	}
	if d.UID != nil && d.GID != nil {
		return durable.Lchown(path, int(*d.UID), int(*d.GID))
	}
	return nil
}

// plainNull makes an empty file in place of /dev/null, where no device may be
// made: many programs do not run without one.
func (r rootfs) plainNull() error {
	dir, err := r.dir("/dev")
	if err != nil {
		return err
	}
	path := filepath.Join(dir, "null")
	fd, err := durable.Openat(unix.AT_FDCWD, path, unix.O_WRONLY|unix.O_CREAT|unix.O_TRUNC|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o666)
	if err != nil {
		return &fs.PathError{Op: "create", Path: path, Err: err}
	}
	return errors.Join(unix.Fchmod(fd, 0o666), unix.Close(fd))
}

// link is a directory of the host that lies in the root filesystem as long as
// the container exists.
type link struct {
	// Source is the host path that becomes a symbolic link.
	Source string `json:"source"`
	// Target is the directory in the root filesystem, as a host path.
	Target string `json:"target"`
	// Mode is the mode of Source when it was a directory.
	Mode fs.FileMode `json:"mode"`
}

// plan works out where the source of a mount goes.
func (r rootfs) link(m specs.Mount) (link, error) {
	fi, err := os.Lstat(m.Source)
	if err != nil {
		return link{}, err
	}
	if !fi.IsDir() {
		return link{}, fmt.Errorf("%s is no directory", m.Source)
	}
	target, err := r.dir(m.Destination)
	if err != nil {
		return link{}, err
	}
	if target == r.path || !strings.HasPrefix(target, r.path+"/") {
		return link{}, fmt.Errorf("%s is no directory inside the root filesystem", m.Destination)
	}
	return link{Source: m.Source, Target: target, Mode: fi.Mode().Perm()}, nil
}

// make moves the directory into the root filesystem and leaves a link. Between
// two file systems nothing can be moved: then the source must be empty.
func (l link) make() error {
	err := durable.Rmdir(l.Target)
	if err != nil {
		return fmt.Errorf("%s in the root filesystem must be an empty directory: %w", l.Target, err)
	}
	err = durable.Rename(l.Source, l.Target)
	if errors.Is(err, unix.EXDEV) {
		if err = durable.Rmdir(l.Source); err == nil {
			err = durable.Mkdir(l.Target, 0o755)
		}
		if err == nil {
			err = durable.Chmod(l.Target, l.Mode)
		}
	}
	if err != nil {
		return fmt.Errorf("move %s to %s: %w", l.Source, l.Target, err)
	}
	return durable.Symlink(l.Target, l.Source)
}

// undo puts the directory back where it was, from wherever make stopped.
func (l link) undo() error {
	fi, err := os.Lstat(l.Source)
	switch {
	case err == nil && fi.IsDir():
		// It was never moved, or is back.
		return ignoreExist(durable.Mkdir(l.Target, 0o755))
	case err == nil:
		if err := durable.Remove(l.Source); err != nil {
			return err
		}
	case !errors.Is(err, fs.ErrNotExist):
		return err
	}
	err = durable.Rename(l.Target, l.Source)
	if errors.Is(err, unix.EXDEV) || errors.Is(err, fs.ErrNotExist) {
		// What is in it stays in the root filesystem.
		if err = ignoreNotExist(durable.Mkdir(l.Source, l.Mode)); err == nil {
			err = ignoreNotExist(durable.Chmod(l.Source, l.Mode))
		}
		return err
	}
	if err != nil {
		return err
	}
	return ignoreExist(durable.Mkdir(l.Target, 0o755))
}

// ignoreExist also takes a missing parent for fine: with the root filesystem
// gone there is nothing to put back.
func ignoreExist(err error) error {
	if errors.Is(err, fs.ErrExist) {
		return nil
	}
	return ignoreNotExist(err)
}

func ignoreNotExist(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}
