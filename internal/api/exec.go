package api

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/containerd/errdefs"

	"github.com/outletd/outlet"
)

const (
	// execProtocol is what a client upgrades to.
	execProtocol = "outlet-exec"
	// startTimeout is how long a client may take to say what to run.
	startTimeout = 10 * time.Second
	// goodbye is how long the last frame may take to be sent, and then the
	// client to close its side.
	goodbye = 5 * time.Second
	// hangUpInterval is how often a connection is looked at while it is not
	// read because standard input is full.
	hangUpInterval = time.Second
	// maxOutput is the most bytes of output in one frame.
	maxOutput = 64 << 10
)

type execStart struct {
	Args     []string
	Env      []string
	Cwd      string
	Terminal bool
}

type execExit struct{ ExitCode int }

type execError struct {
	Message string `json:"message"`
	Status  int    `json:"status"`
}

var (
	errHungUp = errors.New("the client hung up")
	errClosed = outlet.Errorf(errdefs.ErrUnavailable, "the daemon shuts down")
)

// exec upgrades the connection to the exec protocol (frames.go) and runs a
// process for it. The process is killed when the client closes its connection
// or only its side of it: input that has ended is told by a frame, so that end
// of file always means that nobody is there.
func (s *Server) exec(w http.ResponseWriter, r *http.Request) error {
	_, name, err := pluginQuery(r)
	if err != nil {
		return err
	}
	if !strings.EqualFold(r.Header.Get("Upgrade"), execProtocol) || !headerHas(r.Header, "Connection", "upgrade") {
		return invalid("exec needs the headers Connection: Upgrade and Upgrade: %s", execProtocol)
	}
	if hasBody(r) {
		return invalid("exec takes no body: what to run is told after the upgrade")
	}
	// What is wrong with the name is told as a status while that is possible.
	if _, err := s.cfg.Plugins.Inspect(r.Context(), name); err != nil {
		return err
	}
	leave, ok := s.enterSession()
	if !ok {
		return errClosed
	}
	defer leave()
	conn, rw, err := http.NewResponseController(w).Hijack()
	if err != nil {
		return fmt.Errorf("upgrade the connection: %w", err)
	}
	defer s.conns.release(conn)
	defer conn.Close() // what was to be sent was sent before

	ctx, cancel := context.WithCancelCause(context.WithoutCancel(r.Context()))
	defer cancel(nil)
	stop := context.AfterFunc(s.life, func() { cancel(errClosed) }) //nolint:contextcheck // the session ends with the server, too
	defer stop()
	x := &execSession{
		server: s, request: r, name: name, conn: conn, in: rw.Reader,
		stdin: newStdinQueue(), resize: make(chan outlet.WindowSize, 1), cancel: cancel,
	}
	x.serve(ctx, w.Header())
	return nil
}

// headerHas says whether a header of comma-separated words has one.
func headerHas(h http.Header, key, word string) bool {
	for _, line := range h.Values(key) {
		for part := range strings.SplitSeq(line, ",") {
			if strings.EqualFold(strings.TrimSpace(part), word) {
				return true
			}
		}
	}
	return false
}

// execSession is one upgraded connection.
type execSession struct {
	server  *Server
	request *http.Request
	name    string
	conn    net.Conn
	in      *bufio.Reader // what of the connection was read ahead comes first
	stdin   *stdinQueue
	resize  chan outlet.WindowSize
	cancel  context.CancelCauseFunc

	mu    sync.Mutex // one frame at a time
	frame []byte
}

func (x *execSession) serve(ctx context.Context, header http.Header) {
	_ = x.conn.SetDeadline(time.Now().Add(startTimeout))
	header.Set("Connection", "Upgrade")
	header.Set("Upgrade", execProtocol)
	if _, err := io.WriteString(x.conn, "HTTP/1.1 101 Switching Protocols\r\n"); err != nil {
		return
	}
	if err := header.Write(x.conn); err != nil {
		return
	}
	if _, err := io.WriteString(x.conn, "\r\n"); err != nil {
		return
	}
	start, err := x.readStart()
	if err != nil {
		x.finish(0, err) //nolint:contextcheck // logs with the request's
		return
	}
	_ = x.conn.SetDeadline(time.Time{})

	read := make(chan struct{})
	go func() {
		defer close(read)
		x.cancel(x.readFrames(ctx))
	}()
	// Output that cannot be written because the client does not read must not
	// outlast it.
	stop := context.AfterFunc(ctx, func() { _ = x.conn.SetWriteDeadline(time.Now().Add(lastWords)) })
	p := outlet.Process{
		Args: start.Args, Env: start.Env, Cwd: start.Cwd, Terminal: start.Terminal,
		Stdin: x.stdin, Stdout: frameWriter{x, frameStdout}, Stderr: frameWriter{x, frameStderr}, Resize: x.resize,
	}
	code, err := x.run(ctx, p)
	stop()
	x.stdin.end()
	if cause := context.Cause(ctx); cause != nil && err != nil {
		err = cause // what ended it says more than that it was ended
	}
	x.finish(code, err) //nolint:contextcheck // as above
	// The client sees the last frame and closes; closing first could destroy
	// what it has not read yet.
	_ = x.conn.SetReadDeadline(time.Now().Add(goodbye))
	<-read
}

// run keeps a panic of the backend inside the session: the connection is no
// longer net/http's, whose answer it could become.
func (x *execSession) run(ctx context.Context, p outlet.Process) (code int, err error) {
	defer func() {
		if v := recover(); v != nil {
			err = fmt.Errorf("the process could not be run: panic: %v", v)
		}
	}()
	return x.server.cfg.Plugins.Exec(ctx, x.name, p)
}

func (x *execSession) readStart() (execStart, error) {
	var start execStart
	t, payload, err := readFrame(x.in)
	switch {
	case err != nil:
		return start, err
	case t != frameStart:
		return start, invalid("the first frame must say what to run, got type %d", t)
	}
	if err := json.Unmarshal(payload, &start); err != nil {
		return start, invalid("invalid JSON: %w", err)
	}
	if len(start.Args) == 0 {
		return start, invalid("Args is empty: there is nothing to run")
	}
	return start, nil
}

// readFrames reads what the client sends until it stops, and says why it did.
func (x *execSession) readFrames(ctx context.Context) error {
	for {
		t, payload, err := readFrame(x.in)
		if err != nil {
			if errdefs.IsInvalidArgument(err) {
				return err
			}
			return errHungUp
		}
		switch t {
		case frameStdin:
			if !x.stdin.put(payload) {
				if err := x.waitForRoom(ctx); err != nil {
					return err
				}
			}
		case frameStdinEnd:
			x.stdin.end()
		case frameResize:
			var size outlet.WindowSize
			if err := json.Unmarshal(payload, &size); err != nil {
				return invalid("invalid JSON: %w", err)
			}
			x.setSize(size)
		default:
			return invalid("a frame of type %d is not expected", t)
		}
	}
}

// waitForRoom waits until standard input is read, watching the connection.
func (x *execSession) waitForRoom(ctx context.Context) error {
	t := time.NewTicker(hangUpInterval)
	defer t.Stop()
	for x.stdin.full() {
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-x.stdin.room:
		case <-t.C:
			if hungUp(x.conn) {
				return errHungUp
			}
		}
	}
	return nil
}

// setSize replaces a size that was not picked up: only the last one matters.
func (x *execSession) setSize(size outlet.WindowSize) {
	select {
	case <-x.resize:
	default:
	}
	// Only this goroutine sends, so there is room now.
	x.resize <- size
}

// finish sends the last frame.
func (x *execSession) finish(code int, err error) {
	_ = x.conn.SetWriteDeadline(time.Now().Add(goodbye))
	t, v := frameExit, any(execExit{code})
	if err != nil {
		st := status(err)
		t, v = frameError, execError{x.server.publicText(x.request, st, err), st}
		x.server.log.DebugContext(x.request.Context(), "exec failed", "plugin", x.name, "error", err)
	}
	payload, err := encode(v)
	if err != nil {
		return
	}
	if x.send(t, payload) != nil {
		return // nobody is there
	}
	if c, ok := x.conn.(interface{ CloseWrite() error }); ok {
		_ = c.CloseWrite()
	}
}

func (x *execSession) send(t frameType, payload []byte) error {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.frame = appendFrame(x.frame[:0], t, payload)
	_, err := x.conn.Write(x.frame)
	return err
}

// frameWriter sends output as frames.
type frameWriter struct {
	x *execSession
	t frameType
}

// Write sends p in as many frames as it takes.
func (w frameWriter) Write(p []byte) (n int, err error) {
	for len(p) > 0 {
		part := p[:min(len(p), maxOutput)]
		if err := w.x.send(w.t, part); err != nil {
			return n, err
		}
		n += len(part)
		p = p[len(part):]
	}
	return n, nil
}
