// Package runc runs bundles with runc: every plugin in namespaces and a cgroup
// of its own.
//
// Nothing stays between the daemon and a container: runc starts it detached,
// its output goes to the files it was given, and its end is seen through a
// pidfd. Starting and entering a container is done by the runc program through
// go-runc. What needs no runc is done in this process, because running runc
// costs 10 to 100 ms: reading its state, signals, killing the cgroup, removing
// the cgroup and the state directory. Where that is not enough (systemd cgroups,
// hooks in the spec) runc is asked after all.
//
// It does not make bundles, mount root filesystems or restart anything.
package runc

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"github.com/containerd/errdefs"
	gorunc "github.com/containerd/go-runc"

	"github.com/outletd/outlet"
	"github.com/outletd/outlet/internal/durable"
	"github.com/outletd/outlet/internal/reap"
	"github.com/outletd/outlet/internal/runtime"
	"github.com/outletd/outlet/internal/runtime/contained"
)

// Config is what a [Runtime] is made of.
type Config struct {
	// Path is the runc program: see [Find]. Required.
	Path string
	// Root is the directory of runc's state and of the notes kept beside it; it
	// belongs to this Runtime alone and may be lost at a reboot. It is created.
	// Required.
	Root string
	// Reaper waits for the containers. Required. Unless it is a subreaper, the
	// exit status of a container that ends at once, and that of Exec, is not
	// always known.
	Reaper *reap.Reaper
	// SystemdCgroup leaves the cgroups to systemd; linux.cgroupsPath of the
	// spec then has systemd's form.
	SystemdCgroup bool
	// StartTimeout bounds one start by runc, whatever the caller's context
	// says. 0 is one minute.
	StartTimeout time.Duration
	// Logger is told what nobody else is. nil discards.
	Logger *slog.Logger
}

// Runtime starts bundles with runc. It is a [runtime.Runtime].
type Runtime struct {
	cfg  Config
	log  *slog.Logger
	base *contained.Base
	// attaching hides the time that the kernel takes for a cgroup's process.
	attaching attaching

	// starting is held shared by starts and alone by Close, which removes
	// cgroups that a start would create.
	starting sync.RWMutex

	mu      sync.Mutex
	info    *runtime.Info       // of the program with stamp
	stamp   string              // path, size and time of the program info is of
	parents map[string]struct{} // cgroups above those of deleted containers
}

var (
	_ runtime.Runtime  = (*Runtime)(nil)
	_ runtime.Expecter = (*Runtime)(nil)
)

// New makes a Runtime and its root directory. It starts nothing.
func New(cfg Config) (*Runtime, error) {
	if cfg.Path == "" || cfg.Root == "" || cfg.Reaper == nil {
		return nil, outlet.Errorf(errdefs.ErrInvalidArgument, "runc: path, root and reaper are required")
	}
	if cfg.StartTimeout <= 0 {
		cfg.StartTimeout = time.Minute
	}
	root, err := filepath.Abs(cfg.Root)
	if err != nil {
		return nil, fmt.Errorf("runc: root: %w", err)
	}
	cfg.Root = root
	if err := durable.MkdirAll(cfg.Root, 0o700); err != nil {
		return nil, fmt.Errorf("runc: root: %w", err)
	}
	if err := removeExecDirs(cfg.Root); err != nil {
		return nil, fmt.Errorf("runc: root: %w", err)
	}
	log := cfg.Logger
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	r := &Runtime{cfg: cfg, log: log, attaching: newAttaching(), parents: make(map[string]struct{})}
	r.base = &contained.Base{
		Name:   "runc",
		Notes:  contained.NewNotes(root, func() contained.Noted { return new(note) }, log),
		Reaper: cfg.Reaper,
		Log:    log,
		Load:   func(id string) (contained.Container, error) { return r.load(id) },
	}
	return r, nil
}

// Close removes the cgroups above those of the containers that are gone, where
// nothing else uses them. Containers that run go on.
func (r *Runtime) Close() error {
	r.starting.Lock()
	defer r.starting.Unlock()
	r.mu.Lock()
	parents := r.parents
	r.parents = make(map[string]struct{})
	r.mu.Unlock()
	var errs []error
	for p := range parents {
		if err := removeEmptyCgroup(p); err != nil {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// command is a runc client that writes runc's own log to logFile.
func (r *Runtime) command(logFile string) *gorunc.Runc {
	return &gorunc.Runc{
		Command:       r.cfg.Path,
		Root:          r.cfg.Root,
		Log:           logFile,
		LogFormat:     gorunc.JSON,
		SystemdCgroup: r.cfg.SystemdCgroup,
		// If this process dies, runc must not go on starting something behind
		// the back of its successor.
		PdeathSignal: syscall.SIGKILL,
	}
}

// Info says which runc it is. It is asked again when the program changed.
func (r *Runtime) Info(ctx context.Context) (runtime.Info, error) {
	fi, err := os.Stat(r.cfg.Path)
	if err != nil {
		return runtime.Info{}, fmt.Errorf("runc: %w", err)
	}
	stamp := fmt.Sprint(r.cfg.Path, fi.Size(), fi.ModTime())
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.info != nil && r.stamp == stamp {
		return *r.info, nil
	}
	release := r.cfg.Reaper.Hold()
	defer release()
	cmd := &gorunc.Runc{Command: r.cfg.Path}
	v, err := cmd.Version(ctx)
	if err != nil {
		return runtime.Info{}, fmt.Errorf("runc: version of %s: %w", r.cfg.Path, err)
	}
	info := runtime.Info{
		Name:     "runc",
		Path:     r.cfg.Path,
		Version:  v.Runc,
		Commit:   v.Commit,
		Isolates: true,
		Mounts:   true,
	}
	// runc before 1.1 does not know the command.
	if f, err := cmd.Features(ctx); err == nil && f.Linux != nil && f.Linux.Seccomp != nil {
		info.Seccomp = f.Linux.Seccomp.Enabled != nil && *f.Linux.Seccomp.Enabled
	}
	r.info, r.stamp = &info, stamp
	return info, nil
}

// List returns the ids of the containers of which anything is left, sorted.
func (r *Runtime) List(context.Context) ([]string, error) {
	ids, err := r.base.Notes.IDs(true)
	if err != nil {
		return nil, fmt.Errorf("runc: list: %w", err)
	}
	return ids, nil
}

// Attach finds the process of a bundle that was started before. What runc had
// not finished starting is removed and counts as not there.
func (r *Runtime) Attach(ctx context.Context, b runtime.Bundle) (runtime.Task, error) {
	return r.base.Attach(ctx, b.ID)
}

// Purge ends and removes whatever exists of the container id.
func (r *Runtime) Purge(ctx context.Context, id string) error { return r.base.Purge(ctx, id) }
