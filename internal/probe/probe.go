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

// WaitSocket returns nil as soon as a connection to the target is accepted; the
// connection is closed at once. It returns [ErrExited] when exited is closed,
// and a [*NotReadyError] when ctx ends.
func WaitSocket(ctx context.Context, t Target, exited <-chan struct{}) error {
	return waitSocket(ctx, t, exited)
}

// Dial connects to the unix socket at path, which may be longer than the 107
// bytes a socket address holds. The last element of path must be the socket
// itself, not a link to it: in a plugin's directory a link is what the plugin
// made of it, and leads wherever it likes.
func Dial(ctx context.Context, path string) (net.Conn, error) { return dial(ctx, path) }
