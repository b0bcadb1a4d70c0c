package plugins

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"time"
)

// failure is how an attempt failed, which decides whether there is another one
// (docs/spec/v1-plugins.md §5.3).
type failure int

const (
	// final failures are not repeated.
	final failure = iota
	// unreached: there was no connection.
	unreached
	// stale: an idle connection turned out to be dead before it took a byte.
	stale
	// dropped: an idle connection broke between request and answer. The plugin
	// may have closed it for being idle just before it got the request.
	dropped
	// unanswered: a fresh connection broke between request and answer.
	unanswered
)

// do sends the request until there is the head of an answer.
func (c *Client) do(ctx context.Context, req *request, b *callBuffers, o RequestOpts) (*answer, error) {
	if err := ctx.Err(); err != nil {
		return nil, c.failed(req, false, err)
	}
	retry := schedule{budget: c.opts.RetryBudget}
	if o.retryBudget != 0 {
		retry.budget = o.retryBudget
	}
	if retry.budget > 0 {
		retry.start = time.Now() // the clock is not free
	}
	b.head = c.appendHead(b.head[:0], req)
	fresh, sent := false, false
	for {
		ans, how, err := c.attempt(ctx, req, b, o, fresh)
		if err == nil {
			return ans, nil
		}
		lost := how == dropped || how == unanswered
		sent = sent || lost || how == final && ans != nil
		again := how == unreached || how == stale || lost && c.replayable(req, o)
		if !again || req.consumed || ctx.Err() != nil {
			return nil, c.failed(req, sent, err)
		}
		if how == stale || how == dropped {
			fresh = true // the other idle connections are likely to be dead, too
			continue
		}
		delay, ok := retry.next()
		if !ok {
			e := c.failed(req, sent, err)
			e.retry = true
			return nil, e
		}
		c.opts.Logger.WarnContext(ctx, "unable to connect to plugin",
			"address", c.addr.String(), "method", req.method, "error", err, "retry_in", delay)
		if serr := sleep(ctx, delay); serr != nil {
			return nil, c.failed(req, sent, fmt.Errorf("%w (waiting to try again after: %w)", serr, err))
		}
	}
}

func (c *Client) failed(req *request, sent bool, err error) *TransportError {
	return &TransportError{Method: req.method, Address: c.addr.String(), Sent: sent, Err: err}
}

func (c *Client) replayable(req *request, o RequestOpts) bool {
	switch {
	case req.upload != nil:
		return false
	case o.replay != 0:
		return o.replay > 0
	}
	return c.opts.Replayable(req.method)
}

// timeouts returns the deadline of an attempt and the time to wait for the head
// of its answer; zero means none. A stream or an upload has no deadline but its
// context's: a log plugin may send nothing, not even the head, until somebody
// logs a line.
func (c *Client) timeouts(ctx context.Context, req *request, o RequestOpts) (deadline time.Time, headWait time.Duration) {
	deadline, bounded := ctx.Deadline()
	headWait = c.opts.ResponseHeaderTimeout
	limit := c.opts.Timeout
	if o.Timeout > 0 {
		limit = o.Timeout
	}
	if req.stream || req.upload != nil {
		if req.stream {
			limit = o.Timeout
		}
		if limit > 0 && (headWait <= 0 || limit < headWait) {
			headWait = limit
		}
		return deadline, headWait
	}
	if limit == 0 && !bounded {
		limit = DefaultTimeout
	}
	if limit > 0 {
		deadline = earlier(time.Now().Add(limit), deadline)
	}
	return deadline, headWait
}

// attempt sends the request once and reads the head of the answer. A non-nil
// answer beside an error says that bytes of the request were sent.
func (c *Client) attempt(ctx context.Context, req *request, b *callBuffers, o RequestOpts, fresh bool) (*answer, failure, error) {
	deadline, headWait := c.timeouts(ctx, req, o)
	var cn *conn
	if !fresh {
		cn = c.pool.get()
	}
	if cn == nil {
		if c.pool.isClosed() {
			return nil, final, fmt.Errorf("client: %w", ErrClosed)
		}
		var err error
		if cn, err = c.connect(ctx, deadline); err != nil {
			if ctx.Err() != nil {
				return nil, final, ctx.Err()
			}
			return nil, unreached, err
		}
	}
	cn.begin(ctx, deadline)
	h, err := cn.exchange(req, b.head, headWait)
	if err == nil {
		if req.stream {
			cn.resize(streamBuffer)
		}
		return &answer{c: c, cn: cn, head: h, body: newBody(cn.br, &cn.src, h)}, final, nil
	}
	timedOut := isTimeout(err)
	sent, got, reused := cn.sent, cn.got, cn.reused
	err = cn.cause(err)
	interrupted := !cn.end()
	cn.close()
	switch {
	case req.failed != nil:
		return &answer{}, final, fmt.Errorf("read what is to be sent: %w", req.failed)
	case interrupted && ctx.Err() != nil:
		return &answer{}, final, ctx.Err()
	case timedOut || got > 0:
		return &answer{}, final, err
	case sent == 0 && reused:
		return nil, stale, err
	case sent == 0:
		return nil, unreached, err
	}
	if errors.Is(err, io.EOF) {
		err = fmt.Errorf("the plugin closed the connection without an answer: %w", io.ErrUnexpectedEOF)
	}
	if reused {
		return nil, dropped, err
	}
	return nil, unanswered, err
}

// connect makes a connection, with its TLS handshake.
func (c *Client) connect(ctx context.Context, deadline time.Time) (*conn, error) {
	limit := c.opts.ConnectTimeout
	if !deadline.IsZero() {
		if left := time.Until(deadline); limit <= 0 || left < limit {
			limit = max(left, time.Nanosecond)
		}
	}
	if limit > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, limit)
		defer cancel()
	}
	nc, err := c.opts.DialContext(ctx, c.dialTo[0], c.dialTo[1])
	if err != nil {
		return nil, err
	}
	if c.tls == nil {
		return newConn(nc), nil
	}
	tc := tls.Client(nc, c.tls)
	if err := tc.HandshakeContext(ctx); err != nil {
		_ = nc.Close() // the handshake's error is the one that matters
		return nil, fmt.Errorf("TLS handshake with %s: %w", c.dialTo[1], err)
	}
	return newConn(tc), nil
}

// dialSystem connects in the ways of the operating system.
func dialSystem(ctx context.Context, network, address string) (net.Conn, error) {
	if network == "npipe" {
		return dialPipe(ctx, systemPipes{}, address)
	}
	var d net.Dialer
	return d.DialContext(ctx, network, address)
}

// An answer holds the connection until its body was read or given up.
type answer struct {
	c    *Client
	cn   *conn
	head head
	body body
	done bool
}

// finish gives the connection back, for more calls if everything was read and
// nothing went wrong.
func (a *answer) finish() {
	if a.done {
		return
	}
	a.done = true
	if !a.body.ended && a.head.reusable {
		a.drain()
	}
	if a.cn.end() && a.body.ended && a.head.reusable && a.cn.silent() {
		if a.cn.br.Size() > callBuffer {
			a.cn.resize(callBuffer)
		}
		a.c.pool.put(a.cn)
		return
	}
	a.cn.close()
}

// drain reads a small rest of the body.
func (a *answer) drain() {
	if !a.body.chunked {
		if a.body.left > maxDrain {
			return
		}
		if a.body.left <= int64(a.cn.br.Buffered()) {
			_, _ = a.cn.br.Discard(int(a.body.left)) // cannot fail: it is there
			a.body.ended = true
			return
		}
	}
	a.cn.limited = true
	_ = a.cn.nc.SetReadDeadline(earlier(time.Now().Add(drainTime), a.cn.deadline))
	// What goes wrong here costs a connection and nothing else.
	_, _ = io.CopyN(io.Discard, &a.body, maxDrain+1)
}

// give ends an answer that failed in its body, and returns the reason.
func (a *answer) give(method string, err error) error {
	err = a.cn.cause(err)
	a.head.reusable = false
	a.finish()
	if errors.Is(err, ErrAnswerTooLarge) {
		return fmt.Errorf("%s: %w", method, err)
	}
	return &TransportError{Method: method, Address: a.c.addr.String(), Sent: true, Err: err}
}

// within bounds the time that reading the rest of the answer may take.
func (a *answer) within(d time.Duration) {
	a.cn.limited = true
	_ = a.cn.nc.SetReadDeadline(earlier(time.Now().Add(d), a.cn.deadline))
	if a.cn.ctx.Err() != nil {
		a.cn.interrupt() // the line above may have put the context's out of force
	}
}

// statusError reads the answer as an error and ends it.
func (a *answer) statusError(method string) error {
	a.within(errorTime)
	text := make([]byte, 0, 512)
	text, err := appendAll(text, io.LimitReader(&a.body, maxErrorBody))
	if err != nil && len(text) == 0 {
		text = []byte(a.cn.cause(err).Error())
	}
	a.finish()
	var said struct{ Err string }
	message := string(text)
	if json.Unmarshal(text, &said) == nil && said.Err != "" {
		message = said.Err
	}
	message = printable(message)
	if message == "" {
		message = fmt.Sprintf("status %d %s", a.head.status, http.StatusText(a.head.status))
	}
	return &StatusError{Status: a.head.status, Method: method, Message: message}
}

// readAll reads at most limit bytes, appends them to buf and ends the answer.
func (a *answer) readAll(method string, limit int64, buf []byte) ([]byte, error) {
	if a.head.length > limit {
		return nil, a.give(method, tooLarge(limit))
	}
	if n := a.head.length; n >= 0 && n <= keepBuffer {
		if int64(cap(buf)) < n {
			buf = make([]byte, n, max(n, 512))
		}
		buf = buf[:n]
		if _, err := io.ReadFull(&a.body, buf); err != nil {
			return nil, a.give(method, unexpected(err))
		}
		a.finish()
		return buf, nil
	}
	buf, err := appendAll(buf[:0], io.LimitReader(&a.body, limit+1))
	if err == nil && int64(len(buf)) > limit {
		err = tooLarge(limit)
	}
	if err != nil {
		return nil, a.give(method, err)
	}
	a.finish()
	return buf, nil
}

// unexpected is err where the end of the connection is no end.
func unexpected(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}

func tooLarge(limit int64) error {
	return fmt.Errorf("%w: more than %d bytes", ErrAnswerTooLarge, limit)
}

// appendAll reads r to its end. Unlike io.ReadAll it grows a buffer it is given.
func appendAll(buf []byte, r io.Reader) ([]byte, error) {
	for {
		if len(buf) == cap(buf) {
			buf = append(buf, 0)[:len(buf)]
		}
		n, err := r.Read(buf[len(buf):cap(buf)])
		buf = buf[:len(buf)+n]
		if errors.Is(err, io.EOF) {
			return buf, nil
		}
		if err != nil {
			return buf, err
		}
	}
}

// decode reads the first JSON value of the answer into ret and ends the answer.
func (a *answer) decode(method string, ret any, limit int64, b *callBuffers) error {
	if ret == nil {
		a.finish()
		return nil
	}
	if a.head.length < 0 || a.head.length > keepBuffer {
		return a.decodeStream(method, ret, limit)
	}
	text, err := a.readAll(method, limit, b.answer)
	if err != nil {
		return err
	}
	b.answer = text
	err = json.Unmarshal(text, &ret)
	if _, ok := errors.AsType[*json.SyntaxError](err); ok {
		// Only the first value counts, whatever comes behind it.
		err = json.NewDecoder(bytes.NewReader(text)).Decode(&ret)
	}
	if err != nil {
		return fmt.Errorf("%s: decode the answer: %w", method, err)
	}
	return nil
}

// decodeStream decodes an answer of unknown or great length while it arrives.
func (a *answer) decodeStream(method string, ret any, limit int64) error {
	if a.head.length > limit {
		return a.give(method, tooLarge(limit))
	}
	r := &bounded{r: &a.body, left: limit}
	err := json.NewDecoder(r).Decode(&ret)
	switch {
	case err == nil:
		a.finish()
		return nil
	case r.err != nil && !errors.Is(r.err, io.EOF):
		return a.give(method, r.err)
	}
	a.finish()
	return fmt.Errorf("%s: decode the answer: %w", method, err)
}

// bounded reads up to a limit, beyond which it fails, and remembers what failed.
type bounded struct {
	r    io.Reader
	left int64
	err  error
}

func (b *bounded) Read(p []byte) (int, error) {
	if b.left <= 0 {
		// The limit itself may be the end.
		if n, err := b.r.Read(p[:1]); n == 0 && err != nil {
			b.err = err
			return 0, err
		}
		b.err = ErrAnswerTooLarge
		return 0, b.err
	}
	n, err := b.r.Read(p[:min(int64(len(p)), b.left)])
	b.left -= int64(n)
	b.err = err
	return n, err
}
