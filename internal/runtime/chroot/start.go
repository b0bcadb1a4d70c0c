package chroot

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/containerd/errdefs"
	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/outletd/outlet"
	"github.com/outletd/outlet/internal/durable"
	"github.com/outletd/outlet/internal/reap"
	"github.com/outletd/outlet/internal/runtime"
)

// undoTime bounds what is done after a failed start.
const undoTime = time.Minute

// Start runs the bundle's process in its root filesystem.
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
	spec, err := runtime.ReadSpec(b.Dir)
	if err != nil {
		return nil, err
	}
	p, err := planFor(b.ID, spec, b.Owned)
	if err != nil {
		return nil, err
	}
	if err := r.Purge(ctx, b.ID); err != nil {
		return nil, err
	}
	t, err := r.run(b, spec, p)
	if err == nil {
		if err = ctx.Err(); err == nil {
			return t, nil
		}
	}
	undo, cancel := context.WithTimeout(context.WithoutCancel(ctx), undoTime)
	defer cancel()
	if perr := r.Purge(undo, b.ID); perr != nil {
		err = errors.Join(err, perr)
	}
	return nil, err
}

// run does it, and leaves the undoing to its caller.
func (r *Runtime) run(b runtime.Bundle, spec *specs.Spec, p plan) (*task, error) {
	wrap := func(err error) error { return fmt.Errorf("chroot: start %s: %w", b.ID, err) }
	root := spec.Root.Path
	if !filepath.IsAbs(root) {
		root = filepath.Join(b.Dir, root)
	}
	root, err := filepath.EvalSymlinks(root)
	if err != nil {
		return nil, wrap(err)
	}
	if root == "/" {
		return nil, outlet.Errorf(errdefs.ErrInvalidArgument, "chroot: start %s: the root filesystem is that of the host", b.ID)
	}
	c := &container{runtime: r, id: b.ID, note: note{Bundle: b.Dir, Rootfs: root}}
	inside := rootfs{root}
	for _, m := range p.links {
		l, err := inside.link(m)
		if err != nil {
			return nil, wrap(err)
		}
		c.note.Links = append(c.note.Links, l)
	}
	if err := r.writeNote(b.ID, &c.note); err != nil {
		return nil, wrap(err)
	}
	for _, l := range c.note.Links {
		if err := l.make(); err != nil {
			return nil, wrap(err)
		}
	}
	if err := inside.furnish(p); err != nil {
		return nil, wrap(err)
	}
	if err := c.devices(inside, spec); err != nil {
		return nil, err
	}
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		return nil, wrap(err)
	}
	defer null.Close()
	files := []*os.File{null, b.Stdout, b.Stderr}
	for i, f := range files {
		if f == nil {
			files[i] = null
		}
	}
	release := r.cfg.Reaper.Hold()
	defer release()
	id, err := c.execute(spec.Process, files, false)
	if err != nil {
		return nil, err
	}
	c.note.Init = &id
	if err := r.writeNote(b.ID, &c.note); err != nil {
		return nil, wrap(err)
	}
	t, err := c.watch()
	if err != nil {
		return nil, wrap(err)
	}
	if adj := spec.Process.OOMScoreAdj; adj != nil {
		path := "/proc/" + strconv.Itoa(id.PID) + "/oom_score_adj"
		if err := durable.WriteFile(path, []byte(strconv.Itoa(*adj)), 0); err != nil {
			r.log.Warn("set the oom score of a plugin", "id", b.ID, "error", err)
		}
	}
	return t, nil
}

// devices makes the nodes: the standard ones if it can, those of the spec must
// succeed.
func (c *container) devices(inside rootfs, spec *specs.Spec) error {
	for _, d := range standard {
		err := inside.device(d)
		if err != nil && d.Path == "/dev/null" {
			c.runtime.log.Warn("/dev/null is an ordinary file: what the plugin writes to it takes space until it is started again",
				"id", c.id, "reason", err)
			err = inside.plainNull()
		}
		if err != nil {
			c.runtime.log.Debug("standard device is missing", "id", c.id, "error", err)
		}
	}
	if spec.Linux == nil {
		return nil
	}
	for _, d := range spec.Linux.Devices {
		if err := inside.device(d); err != nil {
			return outlet.Errorf(errdefs.ErrNotImplemented, "chroot: start %s: the chroot runtime cannot provide %w", c.id, err)
		}
	}
	return nil
}

// execute starts a process in the root filesystem, in a session of its own. The
// caller must hold the reaper. With terminal the files are its terminal.
func (c *container) execute(p *specs.Process, files []*os.File, terminal bool) (reap.Identity, error) {
	cwd := p.Cwd
	if cwd == "" {
		cwd = "/"
	}
	path, err := rootfs{c.note.Rootfs}.program(p.Args[0], cwd, p.Env)
	if err == nil {
		attr := &os.ProcAttr{
			Dir:   cwd,
			Env:   lastWins(p.Env),
			Files: files,
			Sys:   &syscall.SysProcAttr{Chroot: c.note.Rootfs, Setsid: true, Setctty: terminal},
		}
		if u := p.User; u.UID != 0 || u.GID != 0 || len(u.AdditionalGids) > 0 {
			attr.Sys.Credential = &syscall.Credential{Uid: u.UID, Gid: u.GID, Groups: u.AdditionalGids}
		}
		var proc *os.Process
		if proc, err = os.StartProcess(path, p.Args, attr); err == nil {
			id, err := reap.Identify(proc.Pid) // it is our child: at least a zombie
			_ = proc.Release()                 // the reaper waits for it
			if err != nil {
				return id, fmt.Errorf("chroot: %s: %w", c.id, err)
			}
			return id, nil
		}
	}
	cause := err
	if pe := (*fs.PathError)(nil); errors.As(err, &pe) {
		cause = pe.Err
	}
	return reap.Identity{}, outlet.Errorf(classOf(cause), "chroot: run in %s: exec %q: %w", c.id, p.Args[0], cause)
}

// lastWins returns env without all but the last value of each name. It is never
// nil: that would stand for our own environment.
func lastWins(env []string) []string {
	last := make(map[string]int)
	for i, e := range env {
		name, _, _ := strings.Cut(e, "=")
		last[name] = i
	}
	unique := make([]string, 0, len(env))
	for i, e := range env {
		if name, _, _ := strings.Cut(e, "="); last[name] == i {
			unique = append(unique, e)
		}
	}
	return unique
}

// classOf sorts the errors of execve by what has to change.
func classOf(err error) error {
	for class, errnos := range map[error][]error{
		errdefs.ErrInvalidArgument:  {syscall.ENOENT, syscall.ENOEXEC, syscall.ENOTDIR, syscall.EISDIR, syscall.ELOOP, fs.ErrNotExist},
		errdefs.ErrPermissionDenied: {syscall.EACCES, syscall.EPERM},
		errdefs.ErrUnavailable:      {syscall.EAGAIN, syscall.ENOMEM, syscall.EMFILE, syscall.ENFILE, syscall.ETXTBSY},
	} {
		for _, e := range errnos {
			if errors.Is(err, e) {
				return class
			}
		}
	}
	return errdefs.ErrInternal
}

// Attach finds the process of a bundle that was started before. What was not
// started completely is removed and counts as not there.
func (r *Runtime) Attach(ctx context.Context, b runtime.Bundle) (runtime.Task, error) {
	if err := runtime.CheckID(b.ID); err != nil {
		return nil, err
	}
	c, err := r.load(b.ID)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, outlet.Errorf(errdefs.ErrNotFound, "no container %s", b.ID)
	}
	if err != nil {
		return nil, fmt.Errorf("chroot: attach: %w", err)
	}
	if c.note.Init == nil {
		if err := r.Purge(ctx, b.ID); err != nil {
			return nil, err
		}
		return nil, outlet.Errorf(errdefs.ErrNotFound, "container %s was never started", b.ID)
	}
	t, err := c.watch()
	if err != nil {
		return nil, fmt.Errorf("chroot: attach %s: %w", b.ID, err)
	}
	return t, nil
}
