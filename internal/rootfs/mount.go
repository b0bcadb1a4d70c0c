package rootfs

import (
	"context"

	"github.com/containerd/containerd/v2/core/mount"
	"github.com/containerd/errdefs"
)

// Mount mounts a root filesystem on target, an existing directory. On failure
// nothing stays mounted.
func Mount(ctx context.Context, mounts []mount.Mount, target string) error {
	return errdefs.ErrNotImplemented
}

// Unmount unmounts everything on and below target, the deepest first, lazily
// where it is busy. It succeeds if nothing is mounted there, and fails with
// errdefs.ErrFailedPrecondition, naming them, if mounts remain.
func Unmount(ctx context.Context, target string) error { return errdefs.ErrNotImplemented }
