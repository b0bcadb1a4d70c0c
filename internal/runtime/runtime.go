// Package runtime is the border between a plugin and what runs it: it starts
// the process of a bundle, finds one that outlived the daemon, and ends it. The
// implementations are in the packages below it; all pass the suite of
// runtimetest.
//
// A runtime knows nothing of plugins, records or restarts: it is given a bundle
// (a directory with an OCI runtime spec in config.json) and open files for the
// output, and reports facts.
package runtime

import (
	"context"
	"os"
	"syscall"
	"time"

	"github.com/outletd/outlet"
)

// Bundle is what a runtime starts.
type Bundle struct {
	// ID names the container to the runtime; it is unique on the host.
	ID string
	// Dir holds config.json, the OCI runtime spec. The root filesystem it
	// names is mounted already.
	Dir string
	// Stdout and Stderr are given to the process as they are. The caller keeps
	// its own reference and closes it. A runtime that fails to start the
	// process may have written its reason there too.
	Stdout, Stderr *os.File
	// Owned are host directories that exist for this container alone and are
	// sources of bind mounts of the spec: that of its socket, and its
	// propagated mount. A runtime that mounts (Info.Mounts) ignores them. One
	// that does not replaces each, if it is empty, by a symbolic link to the
	// mount's destination inside the root filesystem: paths below it stay valid
	// on the host. Purge and Delete put an empty directory back.
	Owned []string
}

// Expecter is a [Runtime] that can get ready for a start while its bundle is
// made.
type Expecter interface {
	// Expect says that Start is about to be called. done must be called after
	// that, or when it will not be called after all.
	Expect() (done func())
}

// Runtime starts bundles. All methods are safe for concurrent use; two calls
// for the same id are not made at the same time.
type Runtime interface {
	// Info says what runs bundles: its name, version, and what it can do.
	Info(ctx context.Context) (Info, error)

	// Start starts the bundle's process and returns once it runs (it may have
	// ended already). If Start fails nothing of the container is left. ctx
	// bounds the start only, not the life of the process. A program that the
	// kernel refuses to execute fails the start, or is a process that ended at
	// once and whose Stderr says why: runc leaves the last step to the process.
	// The plugin may accept connections before Start returns.
	//
	// errdefs.ErrInvalidArgument: there is no such program, or it is none;
	// ErrPermissionDenied: it may not be executed, or the host forbids
	// something; ErrUnavailable: the host lacks resources, or the runtime
	// hangs; ErrNotImplemented: the runtime cannot do what the spec asks for.
	Start(ctx context.Context, b Bundle) (Task, error)

	// Attach finds the process of a bundle that was started by an earlier
	// incarnation of this program. A container that ended meanwhile is
	// returned too: its Done is closed, its Exit says what is known. A
	// container of which nothing is left is errdefs.ErrNotFound. A process that
	// the other one was about to execute when it was killed cannot be seen: who
	// attaches or purges has a lock that such a process would still have, see
	// package dirlock.
	Attach(ctx context.Context, b Bundle) (Task, error)

	// Purge ends and removes whatever exists of the container id: processes,
	// cgroup, state. It succeeds if there is nothing.
	Purge(ctx context.Context, id string) error

	// List returns the ids of the containers the runtime knows of.
	List(ctx context.Context) ([]string, error)
}

// Info describes a runtime.
type Info struct {
	Name    string // "runc", "chroot"
	Path    string // the program, if there is one
	Version string
	Commit  string
	// Isolates is false for a runtime that does not separate the plugin from
	// the host.
	Isolates bool
	// Mounts is false for a runtime that mounts nothing: the root filesystem
	// must be a plain directory, Start refuses with errdefs.ErrNotImplemented
	// what needs a mount, naming it, and Bundle.Owned must be set.
	Mounts bool
	// Seccomp says that a seccomp profile can be applied.
	Seccomp bool
}

// Task is a started container.
type Task interface {
	// PID is the main process, as seen from the daemon.
	PID() int
	// Done is closed when the main process has ended.
	Done() <-chan struct{}
	// Exit says how it ended; only meaningful after Done. Code is -1 where that
	// cannot be known.
	Exit() outlet.Exit
	// Signal sends sig to the main process. errdefs.ErrNotFound when it ended.
	Signal(ctx context.Context, sig syscall.Signal) error
	// Kill ends every process of the container and waits until none is left.
	Kill(ctx context.Context) error
	// Delete removes what the runtime keeps of a container that ended. It
	// ends what is left of its processes. errdefs.ErrConflict: the main process
	// has not ended. Deleting twice succeeds.
	Delete(ctx context.Context) error
	// Exec runs a further process in the container and waits for it. If ctx
	// ends, the process is killed. errdefs.ErrConflict: the container has
	// ended. A Read of p.Stdin that blocks when the process ends is not waited
	// for; it must end by itself.
	Exec(ctx context.Context, p outlet.Process) (exitCode int, err error)
	// Stats returns what the container uses.
	Stats(ctx context.Context) (Stats, error)
}

// Stats is what a container uses. A field is -1 where the host does not tell.
type Stats struct {
	At          time.Time
	CPU         time.Duration // since the start
	MemoryBytes int64
	PIDs        int64
}
