package sdk

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"time"
)

// DefaultShutdownTimeout is how long calls have to end once a plugin is told to.
const DefaultShutdownTimeout = 10 * time.Second

// Options are what Serve needs beside the plugin.
type Options struct {
	Config
	HandlerOptions
	// ShutdownTimeout bounds the time that calls which are under way have to
	// end. Zero means DefaultShutdownTimeout.
	ShutdownTimeout time.Duration
	// Ready, if not nil, is called with the address once hosts can find the
	// plugin.
	Ready func(addr string)
}

// Serve serves a plugin until ctx ends. Then it accepts no more, ends streams,
// lets calls finish, reads logs to the end, and removes the socket or the
// definition. It returns nil if all of that went well; calls that did not finish
// within the time are an error.
func Serve(ctx context.Context, p Plugin, o Options) error {
	h, err := NewHandler(p, o.HandlerOptions)
	if err != nil {
		return err
	}
	l, err := Listen(ctx, o.Config)
	if err != nil {
		return err
	}
	if o.Ready != nil {
		o.Ready(l.HostAddr())
	}
	return serve(ctx, h, l, o)
}

func serve(ctx context.Context, h *Handler, l *Listener, o Options) error {
	if o.ShutdownTimeout <= 0 {
		o.ShutdownTimeout = DefaultShutdownTimeout
	}
	// Calls outlive ctx, for a time.
	calls, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	server := &http.Server{
		Handler:           h,
		ReadHeaderTimeout: 10 * time.Second,
		BaseContext:       func(net.Listener) context.Context { return calls },
		ErrorLog:          slog.NewLogLogger(h.log.Handler(), slog.LevelDebug),
	}
	served := make(chan error, 1)
	// The listener's files stay until calls have ended, so the server gets only
	// what listens.
	go func() { served <- server.Serve(l.Listener) }()
	var err error
	select {
	case err = <-served:
		err = fmt.Errorf("serve %s: %w", l.HostAddr(), err)
	case <-ctx.Done():
	}
	bounded, done := context.WithTimeout(context.WithoutCancel(ctx), o.ShutdownTimeout)
	defer done()
	h.stop()
	serr := server.Shutdown(bounded)
	if serr != nil {
		serr = fmt.Errorf("calls did not end within %s: %w", o.ShutdownTimeout, serr)
		cancel()
		serr = errors.Join(serr, server.Close())
	}
	if err == nil { // otherwise it was received above
		if serr := <-served; !errors.Is(serr, http.ErrServerClosed) {
			err = serr
		}
	}
	return errors.Join(err, serr, h.Close(bounded), l.Close())
}
