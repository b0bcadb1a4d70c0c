package plugins

import (
	"context"
	"errors"
	"net"
	"strings"
	"time"
)

// errPipeBusy is what pipeSystem.open returns, perhaps wrapped, if all instances
// of the pipe have a client: a server is there, and will make another one.
var errPipeBusy = errors.New("all instances of the pipe are in use")

// pipeSystem opens named pipes. It is an interface because the only system that
// has them is not at hand everywhere: what waits and names errors is tested
// without it.
type pipeSystem interface {
	// open opens the client's end of a pipe, whose path has backslashes, without
	// waiting.
	open(path string) (net.Conn, error)
}

// pipePause is the time between two attempts to open a busy pipe.
const pipePause = 10 * time.Millisecond

// dialPipe opens the pipe of an address, waiting while it is busy.
func dialPipe(ctx context.Context, sys pipeSystem, address string) (net.Conn, error) {
	path := strings.ReplaceAll(address, "/", `\`)
	for {
		nc, err := sys.open(path)
		if err == nil {
			return nc, nil
		}
		if errors.Is(err, errPipeBusy) {
			if err = sleep(ctx, pipePause); err == nil {
				continue
			}
		}
		return nil, &net.OpError{Op: "dial", Net: "npipe", Addr: pipeAddr(path), Err: err}
	}
}

// pipeAddr is the path of a pipe.
type pipeAddr string

// Network is npipe.
func (pipeAddr) Network() string { return "npipe" }

// String is the path.
func (a pipeAddr) String() string { return string(a) }
