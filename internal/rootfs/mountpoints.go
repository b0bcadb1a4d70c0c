package rootfs

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path"
	"strings"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"

	"github.com/outletd/outlet"
	"github.com/outletd/outlet/internal/durable"
)

// Mountpoint is a place in a root filesystem that something will be mounted on.
type Mountpoint struct {
	// Path is absolute in the root filesystem.
	Path string
	// File asks for a file, not a directory.
	File bool
}

// standard is what every plugin finds in its root filesystem.
var standard = []Mountpoint{
	{Path: "/proc"},
	{Path: "/sys"},
	{Path: "/dev/pts"},
	{Path: "/dev/shm"},
	{Path: "/.dockerenv", File: true},
	{Path: "/etc/resolv.conf", File: true},
	{Path: "/etc/hosts", File: true},
	{Path: "/etc/hostname", File: true},
	{Path: "/dev/console", File: true},
}

// PrepareMountpoints makes what a plugin expects in its root filesystem dir
// (docs/spec/managed-plugins.md §9.6: /proc, /sys, /dev/pts, /etc/hosts and so
// on), and then extra, so that each can be mounted on. Links in the root
// filesystem are followed inside it only; one that leads nowhere is replaced,
// and on the way to the paths of §9.6 so is a file where a directory belongs.
// What is there already is kept. What it makes belongs to 0:0.
//
// An extra path that is a file where a directory is needed, or the reverse, is
// errdefs.ErrFailedPrecondition; one that is not absolute is
// errdefs.ErrInvalidArgument.
func PrepareMountpoints(ctx context.Context, dir string, extra ...Mountpoint) error {
	t, err := openTree(dir)
	if err != nil {
		return err
	}
	defer t.close() //nolint:errcheck // opened with O_PATH: nothing to lose
	return (&preparer{tree: t}).prepare(ctx, extra)
}

type preparer struct{ tree *tree }

func (p *preparer) prepare(ctx context.Context, extra []Mountpoint) error {
	for _, m := range standard {
		if err := p.make(m, true); err != nil {
			return fmt.Errorf("prepare %s: %w", m.Path, err)
		}
	}
	if err := p.mtab(); err != nil {
		return fmt.Errorf("prepare /etc/mtab: %w", err)
	}
	for _, m := range extra {
		if err := ctx.Err(); err != nil {
			return err
		}
		if !strings.HasPrefix(m.Path, "/") {
			return invalidf("mount destination %q is not absolute", m.Path)
		}
		if err := p.make(m, false); err != nil {
			return fmt.Errorf("prepare mount destination %s: %w", m.Path, err)
		}
	}
	return nil
}

// make makes one mount point. force replaces whatever is in the way.
func (p *preparer) make(m Mountpoint, force bool) error {
	name := path.Clean(m.Path)
	if !m.File {
		fd, err := p.dir(name, force)
		if err != nil {
			return err
		}
		return unix.Close(fd)
	}
	parent, err := p.dir(path.Dir(name), force)
	if err != nil {
		return err
	}
	defer closeFD(parent)
	return p.file(parent, name, force)
}

// dir opens the directory name and makes what is missing of it.
func (p *preparer) dir(name string, force bool) (int, error) {
	fd, err := p.tree.dir(name)
	if err == nil || name == "/" {
		return fd, err
	}
	if !errors.Is(err, unix.ENOENT) && !errors.Is(err, unix.ENOTDIR) && !errors.Is(err, unix.ELOOP) {
		return -1, err
	}
	parent, err := p.dir(path.Dir(name), force)
	if err != nil {
		return -1, err
	}
	defer closeFD(parent)
	base := path.Base(name)
	err = durable.Mkdirat(parent, base, 0o755)
	if errors.Is(err, unix.EEXIST) {
		if err := p.giveWay(parent, base, force); err != nil {
			return -1, err
		}
		err = durable.Mkdirat(parent, base, 0o755)
	}
	if err != nil {
		return -1, err
	}
	if err := p.own(parent, base); err != nil {
		return -1, err
	}
	if err := unix.Fchmodat(parent, base, 0o755, 0); err != nil {
		return -1, err
	}
	return p.tree.dir(name)
}

// giveWay removes a link that leads nowhere, or with force any file.
func (p *preparer) giveWay(parent int, base string, force bool) error {
	var st unix.Stat_t
	if err := unix.Fstatat(parent, base, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return err
	}
	if !force && st.Mode&unix.S_IFMT != unix.S_IFLNK {
		return outlet.Errorf(errdefs.ErrFailedPrecondition, "%q is a file where a directory is needed", base)
	}
	return durable.Unlinkat(parent, base, 0)
}

// file makes the file name, whose directory is open as parent.
func (p *preparer) file(parent int, name string, force bool) error {
	base := path.Base(name)
	var st unix.Stat_t
	err := unix.Fstatat(parent, base, &st, unix.AT_SYMLINK_NOFOLLOW)
	switch {
	case errors.Is(err, unix.ENOENT):
	case err != nil:
		return err
	case st.Mode&unix.S_IFMT == unix.S_IFDIR:
		if !force {
			return outlet.Errorf(errdefs.ErrFailedPrecondition, "it is a directory where a file is needed")
		}
		return nil // mounting on it fails with the runtime's text; nothing of the plugin's is removed for that
	case st.Mode&unix.S_IFMT == unix.S_IFLNK:
		if fd, err := p.tree.open(name, 0); err == nil {
			return unix.Close(fd)
		}
		if err := durable.Unlinkat(parent, base, 0); err != nil {
			return err
		}
	default:
		return nil
	}
	fd, err := openRetry(parent, base, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o755)
	if err != nil {
		return err
	}
	defer closeFD(fd)
	if err := unix.Fchmod(fd, 0o755); err != nil {
		return err
	}
	return p.own(parent, base)
}

// mtab makes /etc/mtab what programs expect, unless there is one.
func (p *preparer) mtab() error {
	parent, err := p.dir("/etc", true)
	if err != nil {
		return err
	}
	defer closeFD(parent)
	err = durable.Symlinkat("/proc/mounts", parent, "mtab")
	if errors.Is(err, unix.EEXIST) {
		return nil
	}
	if err != nil {
		return err
	}
	return p.own(parent, "mtab")
}

// own gives base to root. Who is not root himself cannot, and need not.
func (p *preparer) own(parent int, base string) error {
	if os.Geteuid() != 0 {
		return nil
	}
	return unix.Fchownat(parent, base, 0, 0, unix.AT_SYMLINK_NOFOLLOW)
}
