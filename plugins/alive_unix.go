//go:build unix

package plugins

import (
	"errors"
	"net"
	"syscall"
)

// probe finds out whether an idle connection is still good, without waiting.
type probe struct {
	raw syscall.RawConn
	// read is made once, so that asking allocates nothing.
	read  func(fd uintptr)
	alive bool
}

// newProbe returns nil unless the connection is a plain socket. Layers above one,
// TLS for example, may hold bytes that the descriptor does not tell of: an answer
// that nobody asked for would be taken for that of the next call.
func newProbe(nc net.Conn) *probe {
	switch nc.(type) {
	case *net.UnixConn, *net.TCPConn:
	default:
		return nil
	}
	raw, err := nc.(syscall.Conn).SyscallConn()
	if err != nil {
		return nil
	}
	p := &probe{raw: raw}
	p.read = func(fd uintptr) {
		var b [1]byte
		_, err := syscall.Read(int(fd), b[:])
		// Nothing to read yet is the only good news: an end, an error and bytes
		// that nobody asked for all mean that the connection is of no more use.
		p.alive = errors.Is(err, syscall.EAGAIN)
	}
	return p
}

// ok says whether the connection is open and silent.
func (p *probe) ok() bool {
	p.alive = false
	// Not raw.Read: that one minds the deadline of the call before.
	return p.raw.Control(p.read) == nil && p.alive
}
