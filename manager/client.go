package manager

import (
	"context"
	"errors"
	"io"
	"net"
	"sync"
	"time"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"

	"github.com/outletd/outlet"
	"github.com/outletd/outlet/internal/probe"
	"github.com/outletd/outlet/plugins"
)

// waitingClient calls a managed plugin. One serves the plugin for as long as
// the manager knows it: its socket has the same path after each start.
type waitingClient struct {
	u *unit

	mu     sync.Mutex
	client *plugins.Client
}

func newWaitingClient(u *unit) *waitingClient { return &waitingClient{u: u} }

// Call calls a method of the plugin (see [Caller]). While the plugin is being
// started again the call waits, within ctx and the limit the plugin was enabled
// with. A request that did not reach the plugin is made again; one that may
// have is not, unless its method can be repeated: then it is once.
func (w *waitingClient) Call(ctx context.Context, method string, args, ret any) error {
	ctx, cancel := w.u.limit(ctx)
	defer cancel()
	return w.try(ctx, method, func(ctx context.Context, c *plugins.Client) error {
		return c.CallContext(ctx, method, args, ret)
	})
}

// Stream calls a method whose answer is a stream, which the caller closes. Only
// ctx limits it.
func (w *waitingClient) Stream(ctx context.Context, method string, args any) (io.ReadCloser, error) {
	var body io.ReadCloser
	err := w.try(ctx, method, func(ctx context.Context, c *plugins.Client) error {
		var err error
		body, err = c.StreamContext(ctx, method, args)
		return err
	})
	return body, err
}

// raw calls a method with a body that is JSON already.
func (w *waitingClient) raw(ctx context.Context, method string, body []byte) (status int, answer []byte, err error) {
	ctx, cancel := w.u.limit(ctx)
	defer cancel()
	err = w.try(ctx, method, func(ctx context.Context, c *plugins.Client) error {
		var err error
		status, answer, err = c.CallRaw(ctx, method, body)
		return err
	})
	return status, answer, err
}

func (w *waitingClient) try(ctx context.Context, method string, call func(context.Context, *plugins.Client) error) error {
	for repeated := false; ; {
		p, changed, err := w.u.waitReady(ctx)
		if err != nil {
			return err
		}
		c, err := w.open(p)
		if err != nil {
			return err
		}
		err = call(ctx, c)
		var te *plugins.TransportError
		if err == nil || !errors.As(err, &te) || ctx.Err() != nil {
			return err
		}
		if te.Sent {
			// Once only: it may be what the plugin dies of.
			if repeated || !lost(err) || !plugins.Replayable(method) {
				return err
			}
			repeated = true
		}
		// It could not be reached, or the connection broke, though it is said to
		// run: either its end is about to be noticed, or its socket is gone and it
		// goes on.
		t := time.NewTimer(unreachableFor)
		select {
		case <-changed:
		case <-t.C:
			if !w.u.socketGone(ctx, p) {
				return err
			}
			w.u.restartUnreachable(p) //nolint:contextcheck // goes on when this call has ended
			select {
			case <-changed:
			case <-w.u.ended:
				return errClosed
			case <-ctx.Done():
				return err
			}
		case <-ctx.Done():
			t.Stop()
			return err
		}
		t.Stop()
	}
}

// lost says whether a call failed because there was no connection any more.
func lost(err error) bool {
	for _, gone := range []error{io.ErrUnexpectedEOF, unix.ECONNRESET, unix.EPIPE, unix.ECONNREFUSED, unix.ENOENT} {
		if errors.Is(err, gone) {
			return true
		}
	}
	return false
}

// unreachableFor is how long after a failed connection the end of the plugin's
// process is waited for, and its socket may be missing, for example because the
// plugin listens afresh.
const unreachableFor = time.Second

func (w *waitingClient) open(p outlet.Plugin) (*plugins.Client, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.client != nil {
		return w.client, nil
	}
	if s := p.Config.Interface.ProtocolScheme; s != "" && s != outlet.ProtocolV1 {
		return nil, outlet.Errorf(errdefs.ErrNotImplemented, "plugin protocol not supported: %s", s)
	}
	path := p.Status.Socket
	address := "unix://" + path
	if len(path) > maxSocketPath {
		address = "unix:///plugin.sock" // never dialled: see DialContext
	}
	c, err := plugins.NewClientWithOptions(address, plugins.ClientOptions{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return probe.Dial(ctx, path)
		},
		MaxAnswer:   maxAnswer,
		Timeout:     -1, // see limit
		RetryBudget: -1, // see try
	})
	if err != nil {
		return nil, err
	}
	w.client = c
	return c, nil
}

// maxAnswer bounds the answer to a call, in bytes. In memory a list of many small
// volumes takes some forty times what it takes on the wire, and the process must
// stay small whatever one plugin says; this is enough for some ten thousand volumes.
const maxAnswer = 1 << 20

// limit returns a context that ends after the time the plugin's user allows for
// a call.
func (u *unit) limit(ctx context.Context) (context.Context, context.CancelFunc) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.callLimit == 0 {
		return context.WithCancel(ctx)
	}
	return context.WithTimeout(ctx, u.callLimit)
}

// close gives up idle connections. A later call opens a new client.
func (w *waitingClient) close() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	c := w.client
	w.client = nil
	if c == nil {
		return nil
	}
	return c.Close()
}

// Call sends one request to a running plugin and returns the status and body of
// its answer, whatever they are. method is for example "VolumeDriver.List";
// body is JSON or empty. An answer of more than 1 MiB is an error.
func (m *Manager) Call(ctx context.Context, name, method string, body []byte) (status int, answer []byte, err error) {
	u, err := m.find(name)
	if err != nil {
		return 0, nil, err
	}
	return u.client.raw(ctx, method, body)
}
