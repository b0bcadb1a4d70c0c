package runc

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/containerd/errdefs"
	gorunc "github.com/containerd/go-runc"
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/outletd/outlet"
	"github.com/outletd/outlet/internal/durable"
	"github.com/outletd/outlet/internal/reap"
	"github.com/outletd/outlet/internal/runtime/stream"
)

// Exec enters the container with runc, detached as the container itself: runc
// ends once the process runs, the process has our ends of pipes or a terminal,
// and is watched like any other. Unless this process is a subreaper, the exit
// status of a process without a terminal can only be had from a runc that stays.
func (c *container) Exec(ctx context.Context, spec specs.Process, p outlet.Process) (int, error) {
	dir, err := c.runtime.execDir()
	if err != nil {
		return -1, fmt.Errorf("runc: exec in %s: %w", c.id, err)
	}
	defer func() {
		if err := durable.RemoveAll(dir); err != nil {
			c.runtime.log.Warn("remove the files of an exec", "id", c.id, "error", err)
		}
	}()
	defer c.runtime.attaching.begin()()
	e := execution{container: c, dir: dir, spec: spec}
	if p.Terminal {
		return e.terminal(ctx, p)
	}
	return e.pipes(ctx, p)
}

// execPrefix begins the names of the directories of running Execs. Ids of
// containers do not begin with a dot.
const execPrefix = ".exec-"

// execDir makes a directory for one Exec: in runc's root, where New removes what
// a crash leaves, unless the path of a socket below it would be too long.
func (r *Runtime) execDir() (string, error) {
	const longest = 107 - len("/"+execPrefix+"1234567890/tty")
	if len(r.cfg.Root) > longest {
		return durable.MkdirTemp("", "outlet-exec-")
	}
	return durable.MkdirTemp(r.cfg.Root, execPrefix)
}

// removeExecDirs removes what an earlier incarnation left in root.
func removeExecDirs(root string) error {
	entries, err := os.ReadDir(root)
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), execPrefix) {
			err = errors.Join(err, durable.RemoveAll(filepath.Join(root, e.Name())))
		}
	}
	return err
}

// execution is one call of Exec.
type execution struct {
	container *container
	dir       string // for the files that runc writes
	spec      specs.Process
}

// pipes runs the process with pipes or, where the caller gave files, with them.
func (e *execution) pipes(ctx context.Context, p outlet.Process) (int, error) {
	pipes, err := stream.NewPipes(p)
	if err != nil {
		return -1, err
	}
	defer pipes.Close()
	// go-runc reads what has no file, and waits for the process' end by that;
	// pipes have one for each.
	opts := &gorunc.ExecOpts{IO: files{pipes.Stdin, pipes.Stdout, pipes.Stderr}}
	if !e.container.runtime.cfg.Reaper.Subreaper() {
		started := make(chan int, 1) // go-runc closes it in any case
		opts.Started = started
		copying := make(chan struct{})
		go func() {
			defer close(copying)
			<-started
			pipes.Started()
		}()
		code, err := e.foreground(ctx, opts)
		<-copying
		pipes.Drain(ctx)
		return code, err
	}
	proc, err := e.start(ctx, opts)
	pipes.Started()
	if err != nil || proc == nil {
		return -1, err
	}
	exit, err := proc.Finish(ctx)
	pipes.Drain(ctx)
	return exit, err
}

// foreground runs the process below a runc that waits for it.
func (e *execution) foreground(ctx context.Context, opts *gorunc.ExecOpts) (int, error) {
	c, r := e.container, e.container.runtime
	opts.LogFile = filepath.Join(e.dir, "log")
	opts.PidFile = filepath.Join(e.dir, "pid")
	runCtx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	ended := make(chan error, 1)
	go func() { ended <- r.command("").Exec(runCtx, c.id, e.spec, opts) }()
	var err error
	select {
	case err = <-ended:
	case <-ctx.Done():
		err = e.abandon(opts.PidFile, ended, cancel)
		r.log.Debug("exec was ended", "id", c.id, "error", err)
		return -1, ctx.Err()
	}
	var status *gorunc.ExitError
	switch {
	case err == nil:
		return 0, nil
	case errors.As(err, &status) && lastError(opts.LogFile) == "":
		return status.Status, nil
	}
	return -1, explain("exec in", c.id, opts.LogFile, err)
}

// abandon ends the process that a runc in the foreground started, or is about to
// start, and waits for that runc: if it was killed first, it would leave the
// process behind. Only one that starts nothing, or does not end, is killed.
func (e *execution) abandon(pidFile string, ended <-chan error, kill func()) error {
	limit := time.NewTimer(e.container.runtime.cfg.StartTimeout)
	defer limit.Stop()
	look := time.NewTicker(10 * time.Millisecond)
	defer look.Stop()
	for killed := false; ; {
		if pid, err := readPID(pidFile); !killed && err == nil {
			_ = unix.Kill(pid, unix.SIGKILL) // runc has not reaped it: the pid is its own
			killed = true
			limit.Reset(time.Second)
		}
		select {
		case err := <-ended:
			return err
		case <-limit.C:
			kill()
			return <-ended
		case <-look.C:
		}
	}
}

// terminal runs the process with a terminal, whose other side runc sends us.
func (e *execution) terminal(ctx context.Context, p outlet.Process) (int, error) {
	socket, err := gorunc.NewConsoleSocket(filepath.Join(e.dir, "tty"))
	if err != nil {
		return -1, fmt.Errorf("runc: exec in %s: %w", e.container.id, err)
	}
	type result struct {
		master *os.File
		err    error
	}
	received := make(chan result, 1)
	go func() {
		master, err := receive(socket)
		received <- result{master, err}
	}()
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		return -1, errors.Join(err, socket.Close(), (<-received).err)
	}
	defer null.Close()
	proc, err := e.start(ctx, &gorunc.ExecOpts{
		IO:            files{null, null, null},
		ConsoleSocket: socket,
	})
	if err != nil {
		_ = socket.Close() // what did not come by now never will
	}
	got := <-received
	_ = socket.Close() // its directory is removed by Exec
	if err == nil && got.err != nil {
		err = fmt.Errorf("runc: exec in %s: receive the terminal: %w", e.container.id, got.err)
	}
	if got.err == nil {
		defer got.master.Close()
	}
	if err != nil || proc == nil {
		if proc != nil {
			_ = proc.Signal(unix.SIGKILL) // it has ended otherwise
		}
		return -1, err
	}
	term := stream.NewTerminal(got.master, p)
	defer term.Close()
	exit, err := proc.Finish(ctx)
	term.Drain(ctx)
	return exit, err
}

// receive waits until runc sends a terminal, or the socket is closed.
func receive(socket *gorunc.Socket) (*os.File, error) {
	master, err := socket.ReceiveMaster()
	if err != nil {
		return nil, err
	}
	defer master.Close()
	return stream.Pollable(master.Fd(), "terminal")
}

// start lets runc start the process. A nil Process without an error is one that
// ended before it could be seen and left its status to nobody.
func (e *execution) start(ctx context.Context, opts *gorunc.ExecOpts) (*reap.Process, error) {
	c, r := e.container, e.container.runtime
	release := r.cfg.Reaper.Hold()
	defer release()
	runCtx, cancel := patient(ctx, r.cfg.StartTimeout)
	defer cancel()
	opts.LogFile = filepath.Join(e.dir, "log")
	opts.PidFile = filepath.Join(e.dir, "pid")
	opts.Detach = true
	if err := r.command("").Exec(runCtx, c.id, e.spec, opts); err != nil {
		return nil, explain("exec in", c.id, opts.LogFile, err)
	}
	pid, err := readPID(opts.PidFile)
	if err != nil {
		return nil, fmt.Errorf("runc: exec in %s: %w", c.id, err)
	}
	id, err := reap.Identify(pid)
	if err == nil {
		var proc *reap.Process
		if proc, err = r.cfg.Reaper.Watch(id, nil); err == nil {
			return proc, nil
		}
	}
	if errdefs.IsNotFound(err) {
		return nil, nil
	}
	return nil, fmt.Errorf("runc: exec in %s: %w", c.id, err)
}
