// Package contained is what the runtimes have in common: what is kept of a
// container on disk, in which order one is started and undone, how one is found
// again, and the task around its main process. What a runtime does to the host
// stands behind [Container].
//
// It is no runtime, and knows neither runc nor chroot.
package contained

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"time"

	"github.com/containerd/errdefs"
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/outletd/outlet"
	"github.com/outletd/outlet/internal/reap"
	"github.com/outletd/outlet/internal/runtime"
)

// Container is what a runtime knows of a container, running or not.
type Container interface {
	// Noted is what is known of it by heart.
	Noted
	// Settle waits for, or ends, what still works at starting the container,
	// and reports whether its main process was started.
	Settle(ctx context.Context) (started bool, err error)
	// Kill ends every process of the container and returns when none is left.
	// main is its main process, nil if it is not watched.
	Kill(ctx context.Context, main *reap.Process) error
	// Remove removes what is kept of a container without processes, and its
	// note last: as long as that is there, Remove can be called again.
	Remove(ctx context.Context) error
	// Explain adds to the end of the main process what the kernel did not tell
	// with it.
	Explain(exit *outlet.Exit)
	// Exec runs a further process, described by spec and connected to the
	// streams of p, and returns its exit code.
	Exec(ctx context.Context, spec specs.Process, p outlet.Process) (int, error)
	// Stats returns what the container uses; At is set by the caller.
	Stats() (runtime.Stats, error)
}

// Base is the part of a runtime that is the same for all. All fields are
// required.
type Base struct {
	Name   string // begins the errors
	Notes  *Notes
	Reaper *reap.Reaper
	Log    *slog.Logger
	// Load returns what is known of a container. fs.ErrNotExist: nothing.
	Load func(id string) (Container, error)
}

// Start starts a container by run, which is given the spec of the bundle and may
// leave everything behind if it fails: whatever there was of the container
// before, and is left of it after a failure, is removed. The latter takes no
// longer than undo. It fails too if ctx ended while run ran.
func (b *Base) Start(ctx context.Context, bundle runtime.Bundle, undo time.Duration, run func(*specs.Spec) (*Task, error)) (runtime.Task, error) {
	if err := runtime.CheckID(bundle.ID); err != nil {
		return nil, err
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	spec, err := runtime.ReadSpec(bundle.Dir)
	if err != nil {
		return nil, err
	}
	if err := b.Purge(ctx, bundle.ID); err != nil {
		return nil, err
	}
	t, err := run(spec)
	if err == nil {
		if err = ctx.Err(); err == nil {
			return t, nil
		}
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), undo)
	defer cancel()
	if perr := b.Purge(ctx, bundle.ID); perr != nil {
		err = errors.Join(err, perr)
	}
	return nil, err
}

// Attach is that of [runtime.Runtime]. What was not started completely is
// removed and counts as not there.
func (b *Base) Attach(ctx context.Context, id string) (runtime.Task, error) {
	if err := runtime.CheckID(id); err != nil {
		return nil, err
	}
	c, err := b.Load(id)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, outlet.Errorf(errdefs.ErrNotFound, "no container %s", id)
	}
	if err != nil {
		return nil, fmt.Errorf("%s: attach %s: %w", b.Name, id, err)
	}
	started, err := c.Settle(ctx)
	if err != nil {
		return nil, fmt.Errorf("%s: attach %s: %w", b.Name, id, err)
	}
	if !started {
		if err := b.Purge(ctx, id); err != nil {
			return nil, err
		}
		return nil, outlet.Errorf(errdefs.ErrNotFound, "container %s was never started", id)
	}
	t, err := b.Watch(id, c)
	if err != nil {
		return nil, fmt.Errorf("%s: attach %s: %w", b.Name, id, err)
	}
	return t, nil
}

// Purge is that of [runtime.Runtime].
func (b *Base) Purge(ctx context.Context, id string) error {
	if err := runtime.CheckID(id); err != nil {
		return err
	}
	c, err := b.Load(id)
	if errors.Is(err, fs.ErrNotExist) {
		return b.Notes.Forget(id)
	}
	if err != nil {
		return err
	}
	return b.end(ctx, "purge", id, c, nil)
}

// end kills and removes a container.
func (b *Base) end(ctx context.Context, op, id string, c Container, main *reap.Process) error {
	if err := c.Kill(ctx, main); err != nil {
		return fmt.Errorf("%s: %s %s: %w", b.Name, op, id, err)
	}
	if err := c.Remove(ctx); err != nil {
		return fmt.Errorf("%s: %s %s: %w", b.Name, op, id, err)
	}
	return nil
}

// KillMain sends SIGKILL to the main process of a container, which is main or,
// if that is nil, found by its note. done is closed when it has ended, and nil
// if it had already.
func (b *Base) KillMain(n *Note, main *reap.Process) (done <-chan struct{}) {
	if main == nil && n.Init != nil && n.Exit == nil {
		if p, err := b.Reaper.Watch(*n.Init, nil); err == nil {
			main = p
		}
	}
	if main == nil {
		return nil
	}
	// An error says that it ended already.
	_ = main.Signal(unix.SIGKILL)
	return main.Done()
}
