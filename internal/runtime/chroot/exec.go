package chroot

import (
	"context"
	"fmt"
	"os"

	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/outletd/outlet"
	"github.com/outletd/outlet/internal/reap"
	"github.com/outletd/outlet/internal/runtime/stream"
)

// Exec starts a further process in the same root filesystem.
func (c *container) Exec(ctx context.Context, spec specs.Process, p outlet.Process) (int, error) {
	if p.Terminal {
		return c.execTerminal(ctx, spec, p)
	}
	return c.execPipes(ctx, spec, p)
}

func (c *container) execPipes(ctx context.Context, spec specs.Process, p outlet.Process) (int, error) {
	pipes, err := stream.NewPipes(p)
	if err != nil {
		return -1, err
	}
	defer pipes.Close()
	proc, err := c.startExec(spec, []*os.File{pipes.Stdin, pipes.Stdout, pipes.Stderr}, false)
	pipes.Started()
	if err != nil {
		return -1, err
	}
	code, err := proc.Finish(ctx)
	pipes.Drain(ctx)
	return code, err
}

func (c *container) execTerminal(ctx context.Context, spec specs.Process, p outlet.Process) (int, error) {
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

func (c *container) startExec(spec specs.Process, files []*os.File, terminal bool) (*reap.Process, error) {
	release := c.runtime.base.Reaper.Hold()
	defer release()
	id, err := c.execute(&spec, files, terminal)
	if err != nil {
		return nil, err
	}
	return c.runtime.base.Reaper.Watch(id, nil)
}
