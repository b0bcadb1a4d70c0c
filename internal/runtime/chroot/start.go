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
	"github.com/outletd/outlet/internal/runtime/contained"
)

// undoTime bounds what is done after a failed start.
const undoTime = time.Minute

// Start runs the bundle's process in its root filesystem.
func (r *Runtime) Start(ctx context.Context, b runtime.Bundle) (runtime.Task, error) {
	return r.base.Start(ctx, b, undoTime, func(spec *specs.Spec) (*contained.Task, error) {
		p, err := planFor(b.ID, spec, b.Owned)
		if err != nil {
			return nil, err
		}
		return r.run(b, spec, p)
	})
}

// run does it, and leaves the undoing to its caller.
func (r *Runtime) run(b runtime.Bundle, spec *specs.Spec, p plan) (*contained.Task, error) {
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
	c := &container{runtime: r, id: b.ID, note: note{Note: contained.Note{Bundle: b.Dir}, Rootfs: root}}
	inside := rootfs{root}
	for _, m := range p.links {
		l, err := inside.link(m)
		if err != nil {
			return nil, wrap(err)
		}
		c.note.Links = append(c.note.Links, l)
	}
	if err := r.base.Notes.Write(b.ID, &c.note); err != nil {
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
	release := r.base.Reaper.Hold()
	defer release()
	id, err := c.execute(spec.Process, files, false)
	if err != nil {
		return nil, err
	}
	c.note.Init = &id
	if err := r.base.Notes.Write(b.ID, &c.note); err != nil {
		return nil, wrap(err)
	}
	t, err := r.base.Watch(b.ID, c)
	if err != nil {
		return nil, wrap(err)
	}
	if adj := spec.Process.OOMScoreAdj; adj != nil {
		path := "/proc/" + strconv.Itoa(id.PID) + "/oom_score_adj"
		if err := durable.WriteFile(path, []byte(strconv.Itoa(*adj)), 0); err != nil {
			r.base.Log.Warn("set the oom score of a plugin", "id", b.ID, "error", err)
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
			c.runtime.base.Log.Warn("/dev/null is an ordinary file: what the plugin writes to it takes space until it is started again",
				"id", c.id, "reason", err)
			err = inside.plainNull()
		}
		if err != nil {
			c.runtime.base.Log.Debug("standard device is missing", "id", c.id, "error", err)
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
