package plugins

import (
	"errors"
	"fmt"
	"net"
	"os"
	"syscall"
)

// systemPipes are the named pipes of Windows.
type systemPipes struct{}

// pipeBusy is ERROR_PIPE_BUSY.
const pipeBusy = syscall.Errno(231)

func (systemPipes) open(path string) (net.Conn, error) {
	name, err := syscall.UTF16PtrFromString(path)
	if err != nil {
		return nil, err
	}
	const qos, identification = 0x00100000, 0x00010000 // the server may know who calls, and not act as them
	h, err := syscall.CreateFile(name, syscall.GENERIC_READ|syscall.GENERIC_WRITE, 0, nil,
		syscall.OPEN_EXISTING, syscall.FILE_FLAG_OVERLAPPED|qos|identification, 0)
	switch {
	case errors.Is(err, pipeBusy):
		return nil, fmt.Errorf("%w: %w", errPipeBusy, err)
	case err != nil:
		return nil, os.NewSyscallError("CreateFile", err)
	}
	return &pipeConn{os.NewFile(uintptr(h), path), pipeAddr(path)}, nil
}

// pipeConn is the client's end of a named pipe. The file was opened for
// overlapped work, so the runtime's poller serves it and deadlines hold.
type pipeConn struct {
	*os.File
	addr pipeAddr
}

// LocalAddr is the pipe's path.
func (c *pipeConn) LocalAddr() net.Addr { return c.addr }

// RemoteAddr is the pipe's path.
func (c *pipeConn) RemoteAddr() net.Addr { return c.addr }
