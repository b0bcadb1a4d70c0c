package client

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net/http"
	"sync"
	"time"

	"github.com/containerd/errdefs"

	"github.com/outletd/outlet"
)

// upload sends an extension request whose body may be long, and decodes the
// answer into v even if it comes, and the connection is closed, while the body
// is still being sent. net/http's transport gives a write error instead of that
// answer when it loses the race, and then nobody learns why a plugin was
// refused.
//
// Once upload returned, nothing reads the body, so that it can be used again; but
// a Read that waits for its source cannot be stopped and ends with that.
func (c *Client) upload(ctx context.Context, r request, v any) error {
	body := &sourceReader{r: r.body}
	path := r.path
	r.body, r.path = body, extensions+path
	req, err := c.newRequest(ctx, r)
	if err != nil {
		return err
	}
	req.Close = true
	conn, err := c.dial(ctx)
	if err != nil {
		return err
	}
	sent := make(chan struct{})
	defer func() {
		body.stop()
		conn.Close() // the answer was read, or the error is known
		select {
		case <-sent:
		case <-time.After(readGrace):
		}
	}()
	stop := context.AfterFunc(ctx, func() { conn.Close() }) // ends both directions
	defer stop()

	go func() { // ends with the body or the connection, whichever is first
		defer close(sent)
		if req.Write(conn) != nil && body.failure() != nil {
			conn.Close() // nobody shall wait for the rest
		}
	}()
	resp, err := http.ReadResponse(bufio.NewReader(conn), req)
	if cause := context.Cause(ctx); err != nil && cause != nil {
		return cause
	}
	if failure := body.failure(); failure != nil {
		return failure
	}
	if err != nil {
		return outlet.Errorf(errdefs.ErrUnavailable, "the daemon at %s hung up without an answer: %w", c.host.where(), err)
	}
	if err := statusError(resp); err != nil {
		return c.notOutlet(err, req.Method, path)
	}
	return decode(resp, v)
}

// readGrace is how long a Read of a file or of memory takes at most. One that
// takes longer waits for its source.
const readGrace = 200 * time.Millisecond

// errSource stands in for why a source failed.
var errSource = errors.New("the source of the request's body failed")

// sourceReader remembers why its reader failed, and can be stopped.
type sourceReader struct {
	r io.Reader

	mu      sync.Mutex
	err     error
	stopped bool
}

func (s *sourceReader) Read(p []byte) (int, error) {
	s.mu.Lock()
	stopped := s.stopped
	s.mu.Unlock()
	if stopped {
		return 0, io.ErrClosedPipe
	}
	n, err := s.r.Read(p)
	if err != nil && !errors.Is(err, io.EOF) {
		s.mu.Lock()
		s.err = err
		s.mu.Unlock()
		// net/http compares what it gets with ==, which panics for errors that
		// are slices, as those of archive/tar are.
		err = errSource
	}
	return n, err
}

func (s *sourceReader) failure() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.err
}

func (s *sourceReader) stop() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.stopped = true
}
