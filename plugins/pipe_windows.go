package plugins

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"syscall"
	"time"
)

// errPipeBusy is ERROR_PIPE_BUSY: every instance of the pipe has a client.
const errPipeBusy = syscall.Errno(231)

// pipeConn is the client's end of a named pipe. The file was opened for
// overlapped work, so the runtime's poller serves it and deadlines hold.
type pipeConn struct {
	*os.File
	addr pipeAddr
}

// pipeAddr is the name of a pipe.
type pipeAddr string

func (pipeAddr) Network() string  { return "npipe" }
func (a pipeAddr) String() string { return string(a) }

// LocalAddr is the pipe's name.
func (c *pipeConn) LocalAddr() net.Addr { return c.addr }

// RemoteAddr is the pipe's name.
func (c *pipeConn) RemoteAddr() net.Addr { return c.addr }

// dialPipe opens a named pipe, waiting while all its instances are taken.
func dialPipe(ctx context.Context, address string) (net.Conn, error) {
	path := strings.ReplaceAll(address, "/", `\`)
	name, err := syscall.UTF16PtrFromString(path)
	if err != nil {
		return nil, fmt.Errorf("named pipe %s: %w", address, err)
	}
	const qos, identification = 0x00100000, 0x00010000 // the server may know who calls, and not act as them
	for {
		h, err := syscall.CreateFile(name, syscall.GENERIC_READ|syscall.GENERIC_WRITE, 0, nil,
			syscall.OPEN_EXISTING, syscall.FILE_FLAG_OVERLAPPED|qos|identification, 0)
		if err == nil {
			return &pipeConn{os.NewFile(uintptr(h), path), pipeAddr(path)}, nil
		}
		if !errors.Is(err, errPipeBusy) {
			return nil, &net.OpError{Op: "dial", Net: "npipe", Addr: pipeAddr(path), Err: os.NewSyscallError("CreateFile", err)}
		}
		if err := sleep(ctx, 10*time.Millisecond); err != nil {
			return nil, &net.OpError{Op: "dial", Net: "npipe", Addr: pipeAddr(path), Err: err}
		}
	}
}
