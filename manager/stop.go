package manager

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/containerd/errdefs"
	"github.com/moby/sys/mountinfo"
	"golang.org/x/sys/unix"

	"github.com/outletd/outlet"
	"github.com/outletd/outlet/internal/durable"
	"github.com/outletd/outlet/internal/rootfs"
)

// notEndedError says that a plugin could not be proven to be gone. Nothing may be
// started in its place then, and trying again mends nothing.
type notEndedError struct{ err error }

func (e *notEndedError) Error() string { return e.err.Error() }
func (e *notEndedError) Unwrap() error { return e.err }

// teardown ends the process, if there is one, proves that nothing of it is
// left, and takes away what was set up on the host for it. The data that the
// plugin wrote stays.
func (u *unit) teardown(ctx context.Context, task Task) (*outlet.Exit, error) {
	var exit *outlet.Exit
	if task != nil {
		e, err := u.end(ctx, task)
		if err != nil {
			return nil, err
		}
		exit = &e
	} else if err := again(ctx, func() error {
		return durable.Do(durable.Runtime, "purge", func() error { return u.m.rt.Purge(ctx, u.id) })
	}); err != nil {
		return nil, &notEndedError{fmt.Errorf("end what is left of it: %w", err)}
	}
	u.drainLast(ctx)
	return exit, again(ctx, func() error { return u.clearHost(ctx) })
}

// clearHost takes away what was set up on the host for a plugin that has ended.
func (u *unit) clearHost(ctx context.Context) error {
	if err := rootfs.Unmount(ctx, u.paths.propagated, u.paths.bundle, u.paths.sockets); err != nil {
		return err
	}
	var errs []error
	for _, dir := range []string{u.paths.bundle, u.paths.sockets} {
		if err := durable.RemoveAll(dir); err != nil {
			errs = append(errs, fmt.Errorf("remove %s: %w", dir, err))
		}
	}
	return errors.Join(errs...)
}

// The delays between the tries of again.
const (
	firstPause = 20 * time.Millisecond
	lastPause  = 500 * time.Millisecond
)

// again does what can be repeated until it succeeds, four times at most within
// two thirds of a second: a descriptor that was missing for a moment must not
// leave a plugin half stopped. It returns the last error.
func again(ctx context.Context, f func() error) error {
	for pause := firstPause; ; pause *= 5 {
		err := f()
		if err == nil || pause > lastPause {
			return err
		}
		t := time.NewTimer(pause)
		select {
		case <-t.C:
		case <-ctx.Done():
			t.Stop()
			return err
		}
	}
}

// end asks the process to end, then makes it, and removes the container.
func (u *unit) end(ctx context.Context, task Task) (outlet.Exit, error) {
	if err := durable.Do(durable.Runtime, "signal", func() error { return task.Signal(ctx, syscall.SIGTERM) }); err != nil && !errdefs.IsNotFound(err) {
		u.log.Warn("ask the plugin to end", "err", err)
	}
	t := time.NewTimer(u.m.cfg.StopTimeout)
	defer t.Stop()
	select {
	case <-task.Done():
	case <-t.C:
		u.log.Warn("the plugin did not end when asked to and is killed", "after", u.m.cfg.StopTimeout)
	}
	if err := u.remove(ctx, task); err != nil {
		return outlet.Exit{}, err
	}
	return task.Exit(), nil
}

// remove kills whatever is left of a container and removes it.
func (u *unit) remove(ctx context.Context, task Task) error {
	ctx, cancel := context.WithTimeout(ctx, killTimeout)
	defer cancel()
	select {
	case <-task.Done():
	default:
		err := again(ctx, func() error {
			return durable.Do(durable.Runtime, "kill", func() error { return task.Kill(ctx) })
		})
		if err != nil {
			return &notEndedError{fmt.Errorf("kill the plugin: %w", err)}
		}
		select {
		case <-task.Done():
		case <-ctx.Done():
			return &notEndedError{fmt.Errorf("the plugin could not be ended: process %d is still there", task.PID())}
		}
	}
	err := again(ctx, func() error {
		return durable.Do(durable.Runtime, "delete", func() error { return task.Delete(ctx) })
	})
	if err != nil {
		return &notEndedError{fmt.Errorf("end what is left of the plugin: %w", err)}
	}
	return nil
}

// endFailed kills a process that did not become ready. What was set up for it
// stays for the next start.
func (u *unit) endFailed(ctx context.Context, task Task) error {
	ctx = context.WithoutCancel(ctx)
	return errors.Join(u.remove(ctx, task), u.clearAfterExit(ctx, nil))
}

// clearAfterExit clears away what a process that ended left behind and that
// would be in the way of the next one: other processes of its container, mounts
// it made, output not yet picked up.
func (u *unit) clearAfterExit(ctx context.Context, task Task) error {
	var errs []error
	if task != nil {
		errs = append(errs, u.remove(ctx, task))
	}
	u.drainLast(ctx)
	if u.m.rtInfo.Mounts {
		errs = append(errs, again(ctx, u.unmountDead))
	}
	return errors.Join(errs...)
}

// drainLast picks up the output of a process that ended. What cannot be picked
// up stays for the next time: a full disk is no reason not to stop a plugin, nor
// to start it.
func (u *unit) drainLast(ctx context.Context) {
	if err := again(ctx, func() error { return u.drain(ctx) }); err != nil {
		u.log.Warn("pick up what the plugin printed last", "err", err)
	}
}

// unmountDead unmounts what the plugin served itself (FUSE) below the propagated
// mount and does not any more: it would be in the way of the next start, and
// answers nobody. Other mounts, of a remote file system for example, go on
// serving those who use them, and the plugin finds them again.
func (u *unit) unmountDead() error {
	// Not the path itself: it may be what is dead, and cannot be looked at then.
	dir, err := filepath.EvalSymlinks(filepath.Dir(u.paths.propagated))
	if err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		return fmt.Errorf("look for dead mounts: %w", err)
	}
	dir = filepath.Join(dir, filepath.Base(u.paths.propagated))
	// It is a mount itself while anything is mounted below it: see prepareDirs.
	// To read the table of all mounts takes far longer.
	if mounted, err := mountinfo.Mounted(dir); err == nil && !mounted || errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	mounts, err := mountinfo.GetMounts(mountinfo.PrefixFilter(dir))
	if err != nil {
		return fmt.Errorf("look for dead mounts: %w", err)
	}
	var errs []error
	for _, m := range slices.Backward(mounts) { // the kernel lists the deepest last
		var st unix.Statfs_t
		if !strings.HasPrefix(m.FSType, "fuse") || !errors.Is(unix.Statfs(m.Mountpoint, &st), unix.ENOTCONN) {
			continue
		}
		if err := durable.Unmount(m.Mountpoint, unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW); err != nil && !errors.Is(err, unix.EINVAL) {
			errs = append(errs, fmt.Errorf("unmount %s, which nobody serves any more: %w", m.Mountpoint, err))
		}
	}
	return errors.Join(errs...)
}

// drain picks up the output of a process that ended.
func (u *unit) drain(ctx context.Context) error {
	out, err := u.output()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), killTimeout)
	defer cancel()
	return out.Drain(ctx)
}
