package plugins

import (
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

// stream is the body of an answer that the caller reads.
type stream struct {
	method string
	idle   time.Duration
	closed atomic.Bool

	// mu is held while reading, so that Close knows who has the connection.
	mu  sync.Mutex
	ans *answer
	nc  net.Conn
}

// Read reads what the plugin sends. Its error is io.EOF at the end, else a
// *TransportError.
func (s *stream) Read(p []byte) (n int, err error) {
	err = s.use(func(b *body) error {
		n, err = b.Read(p)
		return err
	})
	return n, err
}

// WriteTo passes on what the plugin sends, without copying it.
func (s *stream) WriteTo(w io.Writer) (written int64, err error) {
	for {
		var p []byte
		err := s.use(func(b *body) (err error) {
			p, err = b.next()
			return err
		})
		// The lock is not held here, so Close does not wait for w. What p has
		// stays, as only the next use overwrites it.
		if len(p) > 0 {
			n, werr := w.Write(p)
			written += int64(n)
			if werr == nil && n < len(p) {
				werr = io.ErrShortWrite
			}
			if werr != nil {
				return written, werr
			}
		}
		switch {
		case errors.Is(err, io.EOF):
			return written, nil
		case err != nil:
			return written, err
		}
	}
}

// use has read read from the body, and says what its error means.
func (s *stream) use(read func(*body) error) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	a := s.ans
	if a.done {
		return fmt.Errorf("%s: read from a stream that is %w", s.method, ErrClosed)
	}
	if s.idle > 0 {
		a.cn.limited = true
		_ = a.cn.nc.SetReadDeadline(earlier(time.Now().Add(s.idle), a.cn.deadline))
		if a.cn.ctx.Err() != nil {
			a.cn.interrupt()
		}
	}
	err := read(&a.body)
	if err == nil || errors.Is(err, io.EOF) {
		return err
	}
	a.head.reusable = false
	if s.idle > 0 && isTimeout(err) && a.cn.ctx.Err() == nil {
		err = &timeoutError{"nothing came for " + s.idle.String()}
	} else {
		err = a.cn.cause(err)
	}
	return &TransportError{Method: s.method, Address: a.c.addr.String(), Sent: true, Err: err}
}

// Close gives the stream up, without waiting for its end. A Read that waits
// returns.
func (s *stream) Close() error {
	if s.closed.Swap(true) {
		return nil
	}
	if !s.mu.TryLock() {
		// Somebody reads, and finds the connection closed. Only this call gives
		// the connection back, so no other call of the client has it yet.
		_ = s.nc.Close()
		s.mu.Lock()
		s.ans.head.reusable = false
	}
	defer s.mu.Unlock()
	if !s.ans.body.ended {
		s.ans.head.reusable = false
	}
	s.ans.finish()
	return nil
}
