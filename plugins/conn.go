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
	br    *bufio.Reader
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
	c.narrow()
	return c
}

// readCounter reads from the connection and counts.
type readCounter struct{ c *conn }

func (r readCounter) Read(p []byte) (int, error) {
	n, err := r.c.nc.Read(p)
	r.c.got += int64(n)
	return n, err
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
	streamBuffer = 128 << 10
)

// widen gives the connection a buffer for a stream. What was read ahead stays.
func (c *conn) widen() {
	ahead, _ := c.br.Peek(c.br.Buffered()) // cannot fail: it is there
	c.br = bufio.NewReaderSize(&prefixed{bytes.Clone(ahead), readCounter{c}}, streamBuffer)
}

// narrow undoes widen, when nothing is read ahead.
func (c *conn) narrow() {
	c.br = bufio.NewReaderSize(readCounter{c}, callBuffer)
}

// prefixed reads first what is left of bytes, then from r.
type prefixed struct {
	first []byte
	r     readCounter
}

func (p *prefixed) Read(b []byte) (int, error) {
	if len(p.first) > 0 {
		n := copy(b, p.first)
		p.first = p.first[n:]
		return n, nil
	}
	return p.r.Read(b)
}

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
		return c.br.Buffered() == 0 && c.probe.ok()
	}
	if c.watched == nil {
		return false
	}
	_ = c.nc.SetReadDeadline(longAgo)
	<-c.watched
	c.watched = nil
	c.limited = true
	return c.br.Buffered() == 0 && errors.Is(c.watchErr, os.ErrDeadlineExceeded)
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
	go func() {
		h, err := readHead(c.br)
		if err == nil {
			_ = c.nc.SetWriteDeadline(longAgo) // who has answered reads no more
		}
		answer <- result{h, err}
	}()
	werr := c.writeAll(req, buf)
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

// writeAll sends the head of the request and its body.
func (c *conn) writeAll(req *request, buf []byte) error {
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
				if c.ctx.Err() != nil {
					c.interrupt()
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
