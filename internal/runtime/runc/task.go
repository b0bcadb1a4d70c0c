package runc

import (
	"context"
	"fmt"
	"syscall"
	"time"

	"github.com/containerd/errdefs"

	"github.com/outletd/outlet"
	"github.com/outletd/outlet/internal/reap"
	"github.com/outletd/outlet/internal/runtime"
)

// task is a started container. It is a [runtime.Task].
type task struct {
	container *container
	process   *reap.Process // nil if it had ended before anybody watched
	ended     outlet.Exit   // how, if process is nil
}

var _ runtime.Task = (*task)(nil)

func (t *task) PID() int { return t.container.note.Init.PID }

func (t *task) Done() <-chan struct{} {
	if t.process == nil {
		c := make(chan struct{})
		close(c)
		return c
	}
	return t.process.Done()
}

func (t *task) Exit() outlet.Exit {
	if t.process == nil {
		return t.ended
	}
	return t.process.Exit()
}

func (t *task) hasEnded() bool {
	select {
	case <-t.Done():
		return true
	default:
		return false
	}
}

func (t *task) Signal(_ context.Context, sig syscall.Signal) error {
	if t.hasEnded() {
		return outlet.Errorf(errdefs.ErrNotFound, "container %s has ended", t.container.id)
	}
	return t.process.Signal(sig)
}

func (t *task) Kill(ctx context.Context) error {
	if err := t.container.kill(ctx, t.process); err != nil {
		return fmt.Errorf("runc: %w", err)
	}
	return nil
}

func (t *task) Delete(ctx context.Context) error {
	c := t.container
	if !t.hasEnded() {
		return outlet.Errorf(errdefs.ErrConflict, "container %s is running", c.id)
	}
	if err := c.kill(ctx, t.process); err != nil {
		return fmt.Errorf("runc: delete %s: %w", c.id, err)
	}
	if err := c.remove(ctx); err != nil {
		return fmt.Errorf("runc: delete %s: %w", c.id, err)
	}
	return nil
}

func (t *task) Stats(context.Context) (runtime.Stats, error) {
	if t.hasEnded() {
		return runtime.Stats{}, outlet.Errorf(errdefs.ErrConflict, "container %s has ended", t.container.id)
	}
	s := cgroups(t.container.note.Cgroups).stats()
	s.At = time.Now()
	return s, nil
}
