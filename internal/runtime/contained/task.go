package contained

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

// Task is a started container. It is a [runtime.Task].
type Task struct {
	base      *Base
	id        string
	pid       int
	container Container
	process   *reap.Process // nil if it had ended before anybody watched
	ended     outlet.Exit   // how, if process is nil
}

var _ runtime.Task = (*Task)(nil)

// Watch makes the task of a container whose main process is noted, and keeps how
// that ends for a successor.
func (b *Base) Watch(id string, c Container) (*Task, error) {
	n := c.Common()
	init := *n.Init
	t := &Task{base: b, id: id, pid: init.PID, container: c}
	if n.Exit != nil {
		t.ended = *n.Exit
		return t, nil
	}
	p, err := b.Reaper.Watch(init, func(exit *outlet.Exit) {
		c.Explain(exit)
		if err := b.Notes.addExit(id, init, *exit); err != nil {
			b.Log.Warn("keep the exit status of a container", "id", id, "error", err)
		}
	})
	if errdefs.IsNotFound(err) {
		// It ended, and nobody who could say how was there.
		t.ended = outlet.Exit{Code: -1, At: time.Now()}
		return t, nil
	}
	if err != nil {
		return nil, err
	}
	t.process = p
	return t, nil
}

// PID is the main process, as seen from the daemon.
func (t *Task) PID() int { return t.pid }

// Done is closed when the main process has ended.
func (t *Task) Done() <-chan struct{} {
	if t.process == nil {
		c := make(chan struct{})
		close(c)
		return c
	}
	return t.process.Done()
}

// Exit says how the main process ended.
func (t *Task) Exit() outlet.Exit {
	if t.process == nil {
		return t.ended
	}
	return t.process.Exit()
}

func (t *Task) hasEnded() bool {
	select {
	case <-t.Done():
		return true
	default:
		return false
	}
}

// Signal sends sig to the main process. errdefs.ErrNotFound: it ended.
func (t *Task) Signal(_ context.Context, sig syscall.Signal) error {
	if t.hasEnded() {
		return outlet.Errorf(errdefs.ErrNotFound, "container %s has ended", t.id)
	}
	return t.process.Signal(sig)
}

// Kill ends every process of the container and waits until none is left.
func (t *Task) Kill(ctx context.Context) error {
	if err := t.container.Kill(ctx, t.process); err != nil {
		return fmt.Errorf("%s: %w", t.base.Name, err)
	}
	return nil
}

// Delete ends what is left of the container's processes and removes what is kept
// of it. errdefs.ErrConflict: the main process has not ended.
func (t *Task) Delete(ctx context.Context) error {
	if !t.hasEnded() {
		return outlet.Errorf(errdefs.ErrConflict, "container %s is running", t.id)
	}
	return t.base.end(ctx, "delete", t.id, t.container, t.process)
}

// Stats returns what the container uses. errdefs.ErrConflict: it has ended.
func (t *Task) Stats(context.Context) (runtime.Stats, error) {
	if t.hasEnded() {
		return runtime.Stats{}, outlet.Errorf(errdefs.ErrConflict, "container %s has ended", t.id)
	}
	at := time.Now()
	s, err := t.container.Stats()
	if err != nil {
		return runtime.Stats{}, fmt.Errorf("%s: stats of %s: %w", t.base.Name, t.id, err)
	}
	s.At = at
	return s, nil
}

// Exec runs a further process in the container: that of the bundle, with other
// arguments, further variables and, if p names one, another directory.
func (t *Task) Exec(ctx context.Context, p outlet.Process) (int, error) {
	if t.hasEnded() {
		return -1, outlet.Errorf(errdefs.ErrConflict, "container %s has ended", t.id)
	}
	if len(p.Args) == 0 {
		return -1, outlet.Errorf(errdefs.ErrInvalidArgument, "no command given")
	}
	bundle, err := runtime.ReadSpec(t.container.Common().Bundle)
	if err != nil {
		return -1, err
	}
	spec := *bundle.Process
	spec.Args = p.Args
	spec.Env = append(append([]string(nil), spec.Env...), p.Env...)
	spec.Terminal = p.Terminal
	spec.ConsoleSize = nil
	if p.Cwd != "" {
		spec.Cwd = p.Cwd
	}
	return t.container.Exec(ctx, spec, p)
}
