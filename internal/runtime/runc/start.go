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

	"github.com/outletd/outlet"
	"github.com/outletd/outlet/internal/durable"
	"github.com/outletd/outlet/internal/reap"
	"github.com/outletd/outlet/internal/runtime"
	"github.com/outletd/outlet/internal/runtime/contained"
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
	r.starting.RLock()
	defer r.starting.RUnlock()
	return r.base.Start(ctx, b, r.cfg.StartTimeout, func(spec *specs.Spec) (*contained.Task, error) {
		c, err := r.prepare(b, spec)
		if err != nil {
			return nil, err
		}
		return c.run(ctx, b)
	})
}

// Expect gets the kernel ready for the container's cgroups. See
// [runtime.Expecter].
func (r *Runtime) Expect() (done func()) { return r.attaching.begin() }

// prepare writes the note of what is to come.
func (r *Runtime) prepare(b runtime.Bundle, spec *specs.Spec) (*container, error) {
	// Somebody may have cleaned up /run.
	if err := durable.MkdirAll(r.cfg.Root, 0o700); err != nil {
		return nil, fmt.Errorf("runc: root: %w", err)
	}
	for _, name := range []string{pidFile, logFile} {
		if err := durable.Remove(filepath.Join(b.Dir, name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, fmt.Errorf("runc: start %s: %w", b.ID, err)
		}
	}
	c := &container{runtime: r, id: b.ID, note: note{Note: contained.Note{Bundle: b.Dir}}, killed: new(atomic.Bool), mountNS: new(heldMountNS)}
	if spec.Linux != nil {
		c.note.CgroupsPath = spec.Linux.CgroupsPath
		for _, ns := range spec.Linux.Namespaces {
			if ns.Type == specs.PIDNamespace && ns.Path == "" {
				c.note.OwnPIDs = true
			}
		}
	}
	c.note.Hooks = spec.Hooks != nil
	return c, r.base.Notes.Write(b.ID, &c.note)
}

// run calls runc and finds the process it started.
func (c *container) run(ctx context.Context, b runtime.Bundle) (*contained.Task, error) {
	r := c.runtime
	release := r.cfg.Reaper.Hold()
	defer release()
	runCtx, cancel := patient(ctx, r.cfg.StartTimeout)
	defer cancel()
	log := filepath.Join(b.Dir, logFile)
	opts := &gorunc.CreateOpts{
		IO:      files{stdout: b.Stdout, stderr: b.Stderr},
		PidFile: filepath.Join(b.Dir, pidFile),
	}
	failed := func(err error) error {
		if ctx.Err() != nil {
			return fmt.Errorf("runc: start %s: %w", c.id, ctx.Err())
		}
		if runCtx.Err() != nil {
			return outlet.Errorf(errdefs.ErrUnavailable, "runc: start %s: runc did not finish within %v", c.id, r.cfg.StartTimeout)
		}
		return explain("start", c.id, log, err)
	}
	// Whose processes only the mount namespace tells must not run before that is
	// known: it may leave others behind and be gone when runc returns.
	inTwo := !c.note.OwnPIDs && mayLackCgroups()
	err := durable.Do(durable.Runtime, "runc run", func() error {
		if inTwo {
			return r.command(log).Create(runCtx, c.id, b.Dir, opts)
		}
		opts.Detach = true
		_, err := r.command(log).Run(runCtx, c.id, b.Dir, opts)
		return err
	})
	if err != nil {
		return nil, failed(err)
	}
	if err := c.identify(opts.PidFile); err != nil {
		return nil, fmt.Errorf("runc: start %s: %w", c.id, err)
	}
	if inTwo {
		err := durable.Do(durable.Runtime, "runc start", func() error { return r.command(log).Start(runCtx, c.id) })
		if err != nil {
			return nil, failed(err)
		}
	}
	t, err := r.base.Watch(c.id, c)
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
	return r.base.Notes.Write(c.id, &c.note)
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
