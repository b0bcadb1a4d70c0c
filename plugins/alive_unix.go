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

// newProbe returns nil if the connection has no descriptor to ask.
func newProbe(nc net.Conn) *probe {
	if t, ok := nc.(interface{ NetConn() net.Conn }); ok {
		nc = t.NetConn()
	}
	s, ok := nc.(syscall.Conn)
	if !ok {
		return nil
	}
	raw, err := s.SyscallConn()
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
