// Package probe waits until the socket of a plugin accepts connections, and
// dials such sockets wherever they are.
//
// It speaks no protocol over the connection: that a socket accepts is all it
// finds out.
package probe

import (
	"context"
	"errors"
	"net"
)

// Target is the socket that is waited for.
type Target struct {
	// Dir is the directory the socket appears in, an absolute path. It need not
	// exist yet, and may be replaced, by a link too, while it is waited.
	Dir string
	// Name is the socket's name in Dir.
	Name string
}

// ErrExited is returned when the process that should listen ended.
var ErrExited = errors.New("the process ended before its socket accepted")

// Prober waits for sockets. All waits share one watch of the kernel, whose
// making and closing takes longer than a quick plugin takes to start: keep one
// for many waits.
type Prober struct{ w *watcher }

// New returns a prober that is to be closed.
func New() *Prober { return &Prober{w: newWatcher()} }

// Close frees what the prober holds. Waits must have ended.
func (p *Prober) Close() error { return p.w.close() }

// WaitSocket returns nil as soon as a connection to the target is accepted; the
// connection is closed at once. It returns [ErrExited] when exited is closed,
// and a [*NotReadyError] when ctx ends. It is safe for concurrent use.
func (p *Prober) WaitSocket(ctx context.Context, t Target, exited <-chan struct{}) error {
	return p.waitSocket(ctx, t, exited)
}

// WaitSocket waits as [Prober.WaitSocket] does, with a prober of its own.
func WaitSocket(ctx context.Context, t Target, exited <-chan struct{}) error {
	p := New()
	defer func() { _ = p.Close() }() // it only watched
	return p.WaitSocket(ctx, t, exited)
}

// Dial connects to the unix socket at path, which may be longer than the 107
// bytes a socket address holds. The last element of path must be the socket
// itself, not a link to it: in a plugin's directory a link is what the plugin
// made of it, and leads wherever it likes.
func Dial(ctx context.Context, path string) (net.Conn, error) { return dial(ctx, path) }
