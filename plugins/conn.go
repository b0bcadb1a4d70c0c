package plugins

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"os"
	"strconv"
	"sync/atomic"
	"time"
)

// longAgo as a deadline ends what is blocked on a connection.
var longAgo = time.Unix(1, 0)

// sideBySide is the size of a request from which on the answer is read while
// the request is still being written: a plugin may refuse a long body without
// reading it, and what fits into the socket's buffer never blocks.
const sideBySide = 32 << 10

// A conn is one connection to a plugin. One call has it at a time.
type conn struct {
	nc    net.Conn
	src   source
	br    *bufio.Reader // reads from src
	probe *probe
	// watched is closed when the goroutine that stands in for a probe ends;
	// watchErr is what ended it.
	watched  chan struct{}
	watchErr error

	// reused says that an earlier call had the connection.
	reused bool
	// idleSince is when the last call ended.
	idleSince time.Time
	// limited says that a deadline is set that the next call has to change.
	limited bool
	// sent and got count the bytes of the call.
	sent, got int64

	// ctx and stop belong to the call that has the connection now.
	ctx      context.Context //nolint:containedctx // for one call, beside its stop
	stop     func() bool
	deadline time.Time
}

func newConn(nc net.Conn) *conn {
	c := &conn{nc: nc, probe: newProbe(nc)}
	c.src.c = c
	c.resize(callBuffer)
	return c
}

// A source reads from the connection and counts: first what was put back.
type source struct {
	c    *conn
	back []byte
}

func (s *source) Read(p []byte) (int, error) {
	if len(s.back) > 0 {
		n := copy(p, s.back)
		s.back = s.back[n:]
		return n, nil
	}
	n, err := s.c.nc.Read(p)
	s.c.got += int64(n)
	return n, err
}

// unread puts a copy of p back, in front of what was put back before.
func (s *source) unread(p []byte) {
	s.back = append(bytes.Clone(p), s.back...)
}

// begin gives the connection to a call that ends with ctx, or at deadline if
// that is not zero.
func (c *conn) begin(ctx context.Context, deadline time.Time) {
	c.sent, c.got = 0, 0
	c.ctx, c.deadline = ctx, deadline
	if c.limited || !deadline.IsZero() {
		c.setDeadline(deadline)
	}
	c.stop = nil
	if ctx.Done() != nil {
		c.stop = context.AfterFunc(ctx, c.interrupt)
	}
}

func (c *conn) setDeadline(t time.Time) {
	c.limited = !t.IsZero()
	_ = c.nc.SetDeadline(t) // fails only if closed, which the next use shows
}

// Sizes of a connection's buffer: answers are short, streams are long.
const (
	callBuffer   = 4 << 10
	streamBuffer = 64 << 10
)

// resize gives the connection another buffer. What was read ahead stays.
func (c *conn) resize(size int) {
	if c.br != nil {
		ahead, _ := c.br.Peek(c.br.Buffered()) // cannot fail: it is there
		c.src.unread(ahead)
	}
	c.br = bufio.NewReaderSize(&c.src, size)
}

// silent says whether nothing is left of what was read.
func (c *conn) silent() bool { return c.br.Buffered() == 0 && len(c.src.back) == 0 }

// interrupt wakes whoever is blocked on the connection.
func (c *conn) interrupt() { _ = c.nc.SetDeadline(longAgo) }

// end takes the connection from the call and says whether its context left it
// alone.
func (c *conn) end() bool {
	ok := c.stop == nil || c.stop()
	c.ctx, c.stop = nil, nil
	return ok
}

// cause is the reason for err in the words of the caller: its own context's,
// where that ended the call.
func (c *conn) cause(err error) error {
	if c.ctx == nil || err == nil {
		return err
	}
	if e := c.ctx.Err(); e != nil {
		return e
	}
	// The connection's clock may be a moment ahead of the context's.
	if d, ok := c.ctx.Deadline(); ok && errors.Is(err, os.ErrDeadlineExceeded) && !time.Now().Before(d) {
		return context.DeadlineExceeded
	}
	return err
}

// write sends p and counts.
func (c *conn) write(p []byte) error {
	n, err := c.nc.Write(p)
	c.sent += int64(n)
	return err
}

// alive says whether an idle connection can carry a request.
func (c *conn) alive() bool {
	if c.probe != nil {
		return c.silent() && c.probe.ok()
	}
	if c.watched == nil {
		return false
	}
	_ = c.nc.SetReadDeadline(longAgo)
	<-c.watched
	c.watched = nil
	c.limited = true
	return c.silent() && errors.Is(c.watchErr, os.ErrDeadlineExceeded)
}

// rest is called when the connection becomes idle. Where there is no probe, a
// goroutine waits for the end of the connection; alive and close wait for it.
func (c *conn) rest() {
	c.reused, c.idleSince = true, time.Now()
	if c.probe != nil {
		return
	}
	done := make(chan struct{})
	c.watched = done
	if c.limited {
		c.setDeadline(time.Time{})
	}
	go func() {
		defer close(done)
		_, c.watchErr = c.br.Peek(1)
	}()
}

func (c *conn) close() {
	_ = c.nc.Close() // nothing was promised to the plugin that could be lost
	if c.watched != nil {
		<-c.watched
	}
}

// exchange sends a request and reads the head of the answer. headWait, if not
// zero, bounds the time between the two.
func (c *conn) exchange(req *request, buf []byte, headWait time.Duration) (head, error) {
	if req.upload != nil || len(buf)+len(req.payload) > sideBySide {
		return c.exchangeSideBySide(req, buf, headWait)
	}
	buf = append(buf, req.payload...)
	err := c.write(buf)
	if err != nil && (c.sent == 0 && c.reused || isTimeout(err)) {
		return head{}, err
	}
	// A plugin that refuses may have answered before it closed.
	h, herr := c.readHead(headWait)
	if herr != nil {
		if err != nil {
			return head{}, err
		}
		return head{}, herr
	}
	if err != nil {
		h.reusable = false
	}
	return h, nil
}

func (c *conn) readHead(wait time.Duration) (head, error) {
	if wait <= 0 {
		return readHead(c.br)
	}
	c.limited = true
	_ = c.nc.SetReadDeadline(earlier(time.Now().Add(wait), c.deadline))
	if c.ctx.Err() != nil {
		c.interrupt()
	}
	h, err := readHead(c.br)
	switch {
	case err == nil:
		c.restoreDeadline()
	case isTimeout(err) && c.ctx.Err() == nil:
		err = &timeoutError{"no answer within " + wait.String()}
	}
	return h, err
}

// exchangeSideBySide reads the head in a goroutine while the caller's writes.
// The caller's does the writing because it may have to wait for the caller's
// own reader, which nothing can interrupt.
func (c *conn) exchangeSideBySide(req *request, buf []byte, headWait time.Duration) (head, error) {
	type result struct {
		head head
		err  error
	}
	answer := make(chan result, 1)
	c.limited = true
	answered := new(atomic.Bool)
	go func() {
		h, err := readHead(c.br)
		if err == nil {
			answered.Store(true)
			_ = c.nc.SetWriteDeadline(longAgo) // who has answered reads no more
		}
		answer <- result{h, err}
	}()
	werr := c.writeAll(req, buf, answered)
	if werr != nil && req.failed != nil {
		// The caller's reader failed: what the plugin says about half a body is
		// of no interest.
		c.interrupt()
		<-answer
		return head{}, werr
	}
	waits := werr == nil && headWait > 0
	if waits {
		_ = c.nc.SetReadDeadline(earlier(time.Now().Add(headWait), c.deadline))
		if c.ctx.Err() != nil {
			c.interrupt() // the line above may have put the context's out of force
		}
	}
	r := <-answer
	switch {
	case r.err == nil:
		if werr == nil {
			c.restoreDeadline()
		}
		r.head.reusable = r.head.reusable && werr == nil
		return r.head, nil
	case werr != nil:
		return head{}, werr
	case waits && isTimeout(r.err) && c.ctx.Err() == nil:
		return head{}, &timeoutError{"no answer within " + headWait.String()}
	}
	return head{}, r.err
}

func earlier(a, b time.Time) time.Time {
	if !b.IsZero() && b.Before(a) {
		return b
	}
	return a
}

// restoreDeadline takes shorter deadlines for parts of the call back.
func (c *conn) restoreDeadline() {
	_ = c.nc.SetDeadline(c.deadline)
	if c.ctx.Err() != nil {
		c.interrupt()
	}
}

// writeAll sends the head of the request and its body, or less where there is an
// answer before.
func (c *conn) writeAll(req *request, buf []byte, answered *atomic.Bool) error {
	if err := c.write(buf); err != nil {
		return err
	}
	if req.upload == nil {
		return c.write(req.payload)
	}
	// A chunk is its length in hexadecimal, a line end, the bytes, a line end.
	const room, size = 8, 32 << 10
	chunk := make([]byte, room+size+2)
	for {
		n, err := req.upload.Read(chunk[room : room+size])
		if n > 0 {
			req.consumed = true
			chunk[room+n], chunk[room+n+1] = '\r', '\n'
			prefix := strconv.AppendInt(make([]byte, 0, room), int64(n), 16)
			prefix = append(prefix, '\r', '\n')
			start := room - len(prefix)
			copy(chunk[start:], prefix)
			if req.idle > 0 {
				_ = c.nc.SetWriteDeadline(earlier(time.Now().Add(req.idle), c.deadline))
				if c.ctx.Err() != nil || answered.Load() {
					// The line above may have put out of force what they did.
					_ = c.nc.SetWriteDeadline(longAgo)
				}
			}
			if werr := c.write(chunk[start : room+n+2]); werr != nil {
				return werr
			}
		}
		if errors.Is(err, io.EOF) {
			return c.write([]byte("0\r\n\r\n"))
		}
		if err != nil {
			req.failed = err
			return err
		}
	}
}
