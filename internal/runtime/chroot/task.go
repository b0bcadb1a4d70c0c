package chroot

import (
	"context"
	"fmt"
	"os"
	"syscall"
	"time"

	"github.com/containerd/errdefs"
	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/outletd/outlet"
	"github.com/outletd/outlet/internal/reap"
	"github.com/outletd/outlet/internal/runtime"
	"github.com/outletd/outlet/internal/runtime/stream"
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
		return fmt.Errorf("chroot: %w", err)
	}
	return nil
}

func (t *task) Delete(ctx context.Context) error {
	c := t.container
	if !t.hasEnded() {
		return outlet.Errorf(errdefs.ErrConflict, "container %s is running", c.id)
	}
	if err := c.kill(ctx, t.process); err != nil {
		return fmt.Errorf("chroot: delete: %w", err)
	}
	if err := c.remove(); err != nil {
		return fmt.Errorf("chroot: delete %s: %w", c.id, err)
	}
	return nil
}

// Stats adds up what /proc shows of the container's processes.
func (t *task) Stats(context.Context) (runtime.Stats, error) {
	if t.hasEnded() {
		return runtime.Stats{}, outlet.Errorf(errdefs.ErrConflict, "container %s has ended", t.container.id)
	}
	members, err := t.container.members()
	if err != nil {
		return runtime.Stats{}, fmt.Errorf("chroot: stats of %s: %w", t.container.id, err)
	}
	s := runtime.Stats{At: time.Now(), PIDs: int64(len(members))}
	for _, st := range members {
		s.CPU += st.CPU
		s.MemoryBytes += st.Memory
	}
	return s, nil
}

// Exec starts a further process in the same root filesystem.
func (t *task) Exec(ctx context.Context, p outlet.Process) (int, error) {
	c := t.container
	if t.hasEnded() {
		return -1, outlet.Errorf(errdefs.ErrConflict, "container %s has ended", c.id)
	}
	if len(p.Args) == 0 {
		return -1, outlet.Errorf(errdefs.ErrInvalidArgument, "no command given")
	}
	bundle, err := runtime.ReadSpec(c.note.Bundle)
	if err != nil {
		return -1, err
	}
	spec := *bundle.Process
	spec.Args = p.Args
	spec.Env = append(append([]string(nil), spec.Env...), p.Env...)
	if p.Cwd != "" {
		spec.Cwd = p.Cwd
	}
	if p.Terminal {
		return c.execTerminal(ctx, &spec, p)
	}
	return c.execPipes(ctx, &spec, p)
}

func (c *container) execPipes(ctx context.Context, spec *specs.Process, p outlet.Process) (int, error) {
	pipes, err := stream.NewPipes(p)
	if err != nil {
		return -1, err
	}
	defer pipes.Close()
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		return -1, err
	}
	defer null.Close()
	files := []*os.File{pipes.Stdin, pipes.Stdout, pipes.Stderr}
	for i, f := range files {
		if f == nil {
			files[i] = null
		}
	}
	proc, err := c.startExec(spec, files, false)
	pipes.Started()
	if err != nil {
		return -1, err
	}
	code, err := proc.Finish(ctx)
	pipes.Drain(ctx)
	return code, err
}

func (c *container) execTerminal(ctx context.Context, spec *specs.Process, p outlet.Process) (int, error) {
	master, side, err := stream.OpenTerminal()
	if err != nil {
		return -1, fmt.Errorf("chroot: exec in %s: %w", c.id, err)
	}
	defer master.Close()
	proc, err := c.startExec(spec, []*os.File{side, side, side}, true)
	_ = side.Close() // the process has its own
	if err != nil {
		return -1, err
	}
	term := stream.NewTerminal(master, p)
	defer term.Close()
	code, err := proc.Finish(ctx)
	term.Drain(ctx)
	return code, err
}

func (c *container) startExec(spec *specs.Process, files []*os.File, terminal bool) (*reap.Process, error) {
	release := c.runtime.cfg.Reaper.Hold()
	defer release()
	id, err := c.execute(spec, files, terminal)
	if err != nil {
		return nil, err
	}
	return c.runtime.cfg.Reaper.Watch(id, nil)
}
