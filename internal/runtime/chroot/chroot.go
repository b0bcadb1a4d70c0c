// Package chroot runs bundles where no namespaces and no mounts are allowed, as
// in CI containers without privileges. It isolates nothing: the process has the
// host's network, processes, devices and capabilities; only its view of the file
// system is another one, and a process that is root can leave that too.
//
// It does what can be done without mounts and refuses the rest by name before it
// starts anything. The root filesystem is a plain directory. /proc, /sys and
// what else merely is there for comfort is missing in it; a few device nodes are
// made where that is permitted; elsewhere /dev/null is an ordinary file. The directories that the caller names in
// Bundle.Owned (that of the socket, the propagated mount) are moved into the
// root filesystem and replaced by symbolic links, so that the host finds
// everything where it would find it with a runtime that mounts. The files
// /etc/hosts, /etc/hostname and /etc/resolv.conf are copied.
//
// The processes of a container are those whose root directory lies in its root
// filesystem, and the descendants of its main process. Umask, hostname,
// capabilities of root, masked paths and device rules of the spec have no
// effect.
package chroot

import (
	"context"
	"fmt"
	"log/slog"
	"path/filepath"

	"github.com/containerd/errdefs"

	"github.com/outletd/outlet"
	"github.com/outletd/outlet/internal/durable"
	"github.com/outletd/outlet/internal/reap"
	"github.com/outletd/outlet/internal/runtime"
	"github.com/outletd/outlet/internal/runtime/contained"
)

// Config is what a [Runtime] is made of.
type Config struct {
	// StateDir holds what is remembered of containers. It belongs to this
	// Runtime alone and is created. Required.
	StateDir string
	// Reaper waits for the processes. Required.
	Reaper *reap.Reaper
	// Logger is told what nobody else is. nil discards.
	Logger *slog.Logger
}

// Runtime starts bundles by chroot(2). It is a [runtime.Runtime].
type Runtime struct{ base *contained.Base }

var _ runtime.Runtime = (*Runtime)(nil)

// New makes a Runtime and its directory, and warns that it isolates nothing. It
// starts nothing.
func New(cfg Config) (*Runtime, error) {
	if cfg.StateDir == "" || cfg.Reaper == nil {
		return nil, outlet.Errorf(errdefs.ErrInvalidArgument, "chroot: state directory and reaper are required")
	}
	dir, err := filepath.Abs(cfg.StateDir)
	if err != nil {
		return nil, fmt.Errorf("chroot: state directory: %w", err)
	}
	if err := durable.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("chroot: state directory: %w", err)
	}
	log := cfg.Logger
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	log.Warn("the chroot runtime isolates NOTHING: plugins have the network, processes, devices and rights of this daemon")
	r := new(Runtime)
	r.base = &contained.Base{
		Name:   "chroot",
		Notes:  contained.NewNotes(dir, func() contained.Noted { return new(note) }, log),
		Reaper: cfg.Reaper,
		Log:    log,
		Load:   r.load,
	}
	return r, nil
}

// Info says that nothing is isolated or mounted.
func (r *Runtime) Info(context.Context) (runtime.Info, error) {
	return runtime.Info{Name: "chroot"}, nil
}

// List returns the ids of the containers of which anything is left, sorted.
func (r *Runtime) List(context.Context) ([]string, error) {
	ids, err := r.base.Notes.IDs(false)
	if err != nil {
		return nil, fmt.Errorf("chroot: list: %w", err)
	}
	return ids, nil
}

// Attach finds the process of a bundle that was started before. What was not
// started completely is removed and counts as not there.
func (r *Runtime) Attach(ctx context.Context, b runtime.Bundle) (runtime.Task, error) {
	return r.base.Attach(ctx, b.ID)
}

// Purge ends and removes whatever exists of the container id.
func (r *Runtime) Purge(ctx context.Context, id string) error { return r.base.Purge(ctx, id) }
