package rootfs

import (
	"context"

	"github.com/containerd/errdefs"
)

// Mountpoint is a place in a root filesystem that something will be mounted on.
type Mountpoint struct {
	// Path is absolute in the root filesystem.
	Path string
	// File asks for a file, not a directory.
	File bool
}

// PrepareMountpoints makes what a plugin expects in its root filesystem dir
// (docs/spec/managed-plugins.md §9.6: /proc, /sys, /dev/pts, /etc/hosts and so
// on), and then extra, so that each can be mounted on. Links in the root
// filesystem are followed inside it only; for the paths of §9.6 what is not a
// directory on the way is replaced by one. What it makes belongs to 0:0.
func PrepareMountpoints(ctx context.Context, dir string, extra ...Mountpoint) error {
	return errdefs.ErrNotImplemented
}
