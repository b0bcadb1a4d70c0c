package probe

import (
	"context"
	"net"
)

// NotReadyError says that the socket did not accept in time, and what was there
// instead.
type NotReadyError struct {
	Target Target
	// Seen is what is called Target.Name.
	Seen Seen
	// Others are the names of other sockets in the directory, sorted, at most
	// 16.
	Others []string
	// Dial is why connecting to the socket failed, if it was tried.
	Dial error
	// Cause is why the wait ended, of the context.
	Cause error
}

// Error says what was seen.
func (e *NotReadyError) Error() string { return "not ready" }

// Unwrap returns the cause and the error of dialling.
func (e *NotReadyError) Unwrap() []error { return []error{e.Cause, e.Dial} }

// Seen is what was found in the place of the socket.
type Seen int

// What may be in the place of the socket.
const (
	SeenNoDir  Seen = iota // not even the directory
	SeenNone               // nothing of that name
	SeenNoSock             // a file that is no socket
	SeenLink               // a symbolic link
	SeenSocket             // a socket; nothing accepts on it
)

func waitSocket(ctx context.Context, t Target, exited <-chan struct{}) error { return nil }

func dial(ctx context.Context, path string) (net.Conn, error) { return nil, nil }
