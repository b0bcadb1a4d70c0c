package rootfs

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"

	"github.com/containerd/containerd/v2/core/mount"
	"github.com/containerd/errdefs"
	"github.com/moby/sys/mountinfo"
	"golang.org/x/sys/unix"

	"github.com/outletd/outlet"
	"github.com/outletd/outlet/internal/durable"
)

// Mount mounts a root filesystem on target, an existing directory. On failure
// nothing stays mounted.
func Mount(ctx context.Context, mounts []mount.Mount, target string) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if err := durable.Do(durable.Mount, target, func() error { return mount.All(mounts, target) }); err != nil {
		err = fmt.Errorf("mount root filesystem: %w", err)
		return errors.Join(err, Unmount(context.WithoutCancel(ctx), target))
	}
	return nil
}

// BindSource returns the directory that mounts do nothing with but show
// elsewhere; false if there is none, that is if only mounting makes the root
// filesystem.
func BindSource(mounts []mount.Mount) (string, bool) {
	if len(mounts) != 1 || mounts[0].Type != "bind" || mounts[0].Target != "" {
		return "", false
	}
	return mounts[0].Source, true
}

// unmountRounds bounds how often Unmount looks again: mounts can be stacked, and
// others may mount meanwhile.
const unmountRounds = 16

// Unmount unmounts everything on and below the targets, the deepest first,
// lazily where it is busy or its server may be dead (FUSE). It succeeds if
// nothing is mounted there, and fails with errdefs.ErrFailedPrecondition, naming
// them, if mounts remain. For several targets it takes no longer than for one:
// what takes time is to have the kernel list the mounts.
func Unmount(ctx context.Context, targets ...string) error {
	var dirs []string
	for _, target := range targets {
		dir, err := filepath.EvalSymlinks(target)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return err
		}
		dirs = append(dirs, dir)
	}
	if len(dirs) == 0 {
		return nil
	}
	var last error
	for range unmountRounds {
		if err := ctx.Err(); err != nil {
			return err
		}
		mounts, err := mountsBelow(dirs...)
		if err != nil || len(mounts) == 0 {
			return err
		}
		last = nil
		// The kernel lists a mount after the one it is mounted on.
		for _, m := range slices.Backward(mounts) {
			if err := unmountOne(m); err != nil {
				last = fmt.Errorf("unmount %s: %w", m.Mountpoint, err)
			}
		}
	}
	mounts, err := mountsBelow(dirs...)
	if err != nil || len(mounts) == 0 {
		return err
	}
	var names []string
	for _, m := range mounts {
		names = append(names, m.Mountpoint)
	}
	return errors.Join(outlet.Errorf(errdefs.ErrFailedPrecondition, "still mounted: %s", strings.Join(names, ", ")), last)
}

// Mounted says whether anything is mounted on or below dir.
func Mounted(dir string) (bool, error) {
	dir, err := filepath.EvalSymlinks(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	mounts, err := mountsBelow(dir)
	return len(mounts) > 0, err
}

func mountsBelow(dirs ...string) ([]*mountinfo.Info, error) {
	return mountinfo.GetMounts(func(m *mountinfo.Info) (skip, stop bool) {
		return !slices.ContainsFunc(dirs, func(dir string) bool {
			skip, _ := mountinfo.PrefixFilter(dir)(m)
			return !skip
		}), false
	})
}

func unmountOne(m *mountinfo.Info) error {
	flags := unix.UMOUNT_NOFOLLOW
	if strings.HasPrefix(m.FSType, "fuse") {
		// A plain unmount may ask a server that answers no more.
		flags |= unix.MNT_DETACH
	}
	err := durable.Unmount(m.Mountpoint, flags)
	if errors.Is(err, unix.EBUSY) {
		err = durable.Unmount(m.Mountpoint, unix.UMOUNT_NOFOLLOW|unix.MNT_DETACH)
	}
	if errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENOENT) {
		// Gone already, or held in place by our user namespace: the next look
		// tells which.
		return nil
	}
	return err
}

// Sync writes everything of the file system that dir is on to its device.
func Sync(dir string) error {
	fd, err := openRetry(unix.AT_FDCWD, dir, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("sync %s: %w", dir, err)
	}
	defer closeFD(fd)
	if err := durable.Syncfs(fd); err != nil {
		return fmt.Errorf("sync the file system of %s: %w", dir, err)
	}
	return nil
}
