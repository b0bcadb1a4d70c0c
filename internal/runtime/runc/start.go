package runc

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/containerd/errdefs"
	gorunc "github.com/containerd/go-runc"
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/outletd/outlet"
	"github.com/outletd/outlet/internal/durable"
	"github.com/outletd/outlet/internal/reap"
	"github.com/outletd/outlet/internal/runtime"
)

// Files in the bundle.
const (
	pidFile = "runc.pid" // written by runc
	logFile = "runc.log" // runc's own log, JSON lines
)

// Start runs the bundle's process. If ctx ends meanwhile, runc is given a little
// time to finish by itself, for it leaves less behind than a killed one; then
// everything is undone.
func (r *Runtime) Start(ctx context.Context, b runtime.Bundle) (runtime.Task, error) {
	t, err := r.start(ctx, b)
	if err != nil {
		return nil, err
	}
	return t, nil
}

func (r *Runtime) start(ctx context.Context, b runtime.Bundle) (*task, error) {
	if err := runtime.CheckID(b.ID); err != nil {
		return nil, err
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	c, err := r.prepare(ctx, b)
	if err != nil {
		return nil, err
	}
	r.starting.RLock()
	defer r.starting.RUnlock()
	release := r.cfg.Reaper.Hold()
	defer release()
	t, err := c.run(ctx, b)
	if err == nil {
		if err = ctx.Err(); err == nil {
			return t, nil
		}
	}
	// Nothing may be left of it.
	undo, cancel := context.WithTimeout(context.WithoutCancel(ctx), r.cfg.StartTimeout)
	defer cancel()
	if perr := r.Purge(undo, b.ID); perr != nil {
		err = errors.Join(err, perr)
	}
	return nil, err
}

// prepare removes leftovers of the id and writes the note of what is to come.
func (r *Runtime) prepare(ctx context.Context, b runtime.Bundle) (*container, error) {
	spec, err := runtime.ReadSpec(b.Dir)
	if err != nil {
		return nil, err
	}
	if err := r.Purge(ctx, b.ID); err != nil {
		return nil, err
	}
	// Somebody may have cleaned up /run.
	if err := durable.MkdirAll(r.cfg.Root, 0o700); err != nil {
		return nil, fmt.Errorf("runc: root: %w", err)
	}
	for _, name := range []string{pidFile, logFile} {
		if err := durable.Remove(filepath.Join(b.Dir, name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, fmt.Errorf("runc: start %s: %w", b.ID, err)
		}
	}
	c := &container{runtime: r, id: b.ID, note: note{Bundle: b.Dir}, killed: new(atomic.Bool)}
	if spec.Linux != nil {
		c.note.CgroupsPath = spec.Linux.CgroupsPath
		for _, ns := range spec.Linux.Namespaces {
			if ns.Type == specs.PIDNamespace && ns.Path == "" {
				c.note.OwnPIDs = true
			}
		}
	}
	c.note.Hooks = spec.Hooks != nil
	return c, r.writeNote(b.ID, &c.note)
}

// run calls runc and finds the process it started.
func (c *container) run(ctx context.Context, b runtime.Bundle) (*task, error) {
	r := c.runtime
	runCtx, cancel := patient(ctx, r.cfg.StartTimeout)
	defer cancel()
	log := filepath.Join(b.Dir, logFile)
	opts := &gorunc.CreateOpts{
		IO:      files{stdout: b.Stdout, stderr: b.Stderr},
		PidFile: filepath.Join(b.Dir, pidFile),
		Detach:  true,
	}
	err := durable.Do(durable.Runtime, "runc run", func() error {
		_, err := r.command(log).Run(runCtx, c.id, b.Dir, opts)
		return err
	})
	if err != nil {
		if ctx.Err() != nil {
			return nil, fmt.Errorf("runc: start %s: %w", c.id, ctx.Err())
		}
		if runCtx.Err() != nil {
			return nil, outlet.Errorf(errdefs.ErrUnavailable, "runc: start %s: runc did not finish within %v", c.id, r.cfg.StartTimeout)
		}
		return nil, explain("start", c.id, log, err)
	}
	if err := c.identify(opts.PidFile); err != nil {
		return nil, fmt.Errorf("runc: start %s: %w", c.id, err)
	}
	t, err := c.watch()
	if err != nil {
		return nil, fmt.Errorf("runc: start %s: %w", c.id, err)
	}
	return t, nil
}

// identify learns who the main process is, now that runc has started it, and
// writes that down.
func (c *container) identify(pidFile string) error {
	r := c.runtime
	st, err := readState(r.stateDir(c.id))
	if err == nil {
		err = c.adopt(st)
	}
	if err != nil || c.note.Init == nil {
		// Not the runc we know: its pid file is part of its interface.
		pid, perr := readPID(pidFile)
		if perr != nil {
			return errors.Join(err, perr)
		}
		id, ierr := reap.Identify(pid)
		if ierr != nil {
			return errors.Join(err, ierr)
		}
		c.note.Init = &id
		c.note.addCgroups(nil)
	}
	c.findMountNS()
	return r.writeNote(c.id, &c.note)
}

// Attach finds the process of a bundle that was started before. What runc had
// not finished starting is removed and counts as not there.
func (r *Runtime) Attach(ctx context.Context, b runtime.Bundle) (runtime.Task, error) {
	if err := runtime.CheckID(b.ID); err != nil {
		return nil, err
	}
	c, err := r.load(b.ID)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, outlet.Errorf(errdefs.ErrNotFound, "no container %s", b.ID)
	}
	if err != nil {
		return nil, fmt.Errorf("runc: attach %s: %w", b.ID, err)
	}
	if c.unfinished {
		// Let what comes from runc come to an end before looking again.
		if err := c.endRunc(ctx); err != nil {
			return nil, fmt.Errorf("runc: attach: %w", err)
		}
		if c, err = r.load(b.ID); err != nil {
			return nil, fmt.Errorf("runc: attach %s: %w", b.ID, err)
		}
	}
	if c.note.Init == nil || c.created {
		if err := r.Purge(ctx, b.ID); err != nil {
			return nil, err
		}
		return nil, outlet.Errorf(errdefs.ErrNotFound, "container %s was never started", b.ID)
	}
	t, err := c.watch()
	if err != nil {
		return nil, fmt.Errorf("runc: attach %s: %w", b.ID, err)
	}
	return t, nil
}

// watch makes the task of a container whose main process is known.
func (c *container) watch() (*task, error) {
	t := &task{container: c}
	if c.note.Exit != nil {
		t.ended = *c.note.Exit
		return t, nil
	}
	p, err := c.runtime.cfg.Reaper.Watch(*c.note.Init, c.onExit)
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

// onExit adds what the cgroup tells and keeps it for a successor.
func (c *container) onExit(exit *outlet.Exit) {
	if exit.Signal == int(unix.SIGKILL) && !c.killed.Load() {
		exit.OOMKilled = cgroups(c.note.Cgroups).oomKilled()
	}
	if err := c.runtime.noteExit(c.id, *c.note.Init, *exit); err != nil {
		c.runtime.log.Warn("keep the exit status of a container", "id", c.id, "error", err)
	}
}

// patience is how long runc may go on after its caller gave up.
const patience = 5 * time.Second

// patient returns a context that ends limit from now, or patience after ctx.
func patient(ctx context.Context, limit time.Duration) (context.Context, context.CancelFunc) {
	detached, cancel := context.WithTimeout(context.WithoutCancel(ctx), limit)
	stop := context.AfterFunc(ctx, func() {
		timer := time.AfterFunc(patience, cancel)
		context.AfterFunc(detached, func() { timer.Stop() })
	})
	return detached, func() { stop(); cancel() }
}

func readPID(path string) (int, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return 0, err
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(b)))
	if err != nil || pid <= 0 {
		return 0, fmt.Errorf("%s: no pid", path)
	}
	return pid, nil
}

// files gives a command open files as they are. It is a gorunc.IO; nothing is
// copied, so there is nothing to read, write or close.
type files struct{ stdin, stdout, stderr *os.File }

func (f files) Stdin() io.WriteCloser { return nil }
func (f files) Stdout() io.ReadCloser { return nil }
func (f files) Stderr() io.ReadCloser { return nil }
func (f files) Close() error          { return nil }

// Set avoids interfaces that hold a nil file: os/exec would take them for files.
func (f files) Set(cmd *exec.Cmd) {
	if f.stdin != nil {
		cmd.Stdin = f.stdin
	}
	if f.stdout != nil {
		cmd.Stdout = f.stdout
	}
	if f.stderr != nil {
		cmd.Stderr = f.stderr
	}
}
