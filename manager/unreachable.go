package manager

import (
	"context"
	"errors"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/outletd/outlet"
	"github.com/outletd/outlet/internal/probe"
)

// socketGone says whether nobody can reach the plugin any more, though its
// process goes on: its socket was removed, was replaced by something else, or
// nobody listens on it. A plugin that is only slow is not gone.
func (u *unit) socketGone(ctx context.Context, p outlet.Plugin) bool {
	c, err := probe.Dial(ctx, p.Status.Socket)
	if err == nil {
		_ = c.Close() // only its being there counts
		return false
	}
	for _, gone := range []error{unix.ENOENT, unix.ECONNREFUSED, unix.ENOTSOCK, unix.ELOOP, unix.ENOTDIR} {
		if errors.Is(err, gone) {
			return true
		}
	}
	return false
}

// restartUnreachable ends the process of a plugin whose socket is gone, if p is
// still what runs. Its end is then dealt with as any other: it is started again,
// after a delay if that happens often.
func (u *unit) restartUnreachable(p outlet.Plugin) {
	_ = u.do(func() { // the loop has ended: so has the manager
		l := &u.life
		if l.state != outlet.StateRunning || l.unreachable || l.task == nil || l.task.PID() != p.Status.PID {
			return
		}
		l.unreachable = true
		u.log.Warn("the plugin cannot be reached on its socket any more and is started again", "socket", p.Status.Socket)
		u.note("the plugin's socket is gone while it goes on running; it is ended and started again")
		task, ctx := l.task, u.ctx
		u.wg.Go(func() { u.endUnreachable(ctx, task) })
	})
}

// endUnreachable makes a process end. What is left of it is cleared away by
// those who see it end.
func (u *unit) endUnreachable(ctx context.Context, task Task) {
	if err := task.Signal(ctx, syscall.SIGTERM); err != nil {
		u.log.Warn("ask the plugin to end", "err", err)
	}
	t := time.NewTimer(u.m.cfg.StopTimeout)
	defer t.Stop()
	select {
	case <-task.Done():
		return
	case <-ctx.Done():
		return
	case <-t.C:
	}
	if err := task.Kill(ctx); err != nil && ctx.Err() == nil {
		u.log.Warn("kill the plugin", "err", err)
	}
}
