package api

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"os"
	"strings"
	"time"
)

const (
	maxHeader         = 1 << 20
	readHeaderTimeout = 10 * time.Second
	idleTimeout       = 2 * time.Minute
	// writeTimeout is how long a client may take to read an answer that is no
	// stream.
	writeTimeout = time.Minute
)

func (s *Server) newHTTPServer() *http.Server {
	// HTTP/2 has no connections to take over, and no client speaks it here.
	var protocols http.Protocols
	protocols.SetHTTP1(true)
	return &http.Server{
		Handler:                      s,
		Protocols:                    &protocols,
		MaxHeaderBytes:               maxHeader,
		ReadHeaderTimeout:            readHeaderTimeout,
		IdleTimeout:                  idleTimeout,
		DisableGeneralOptionsHandler: true,
		ErrorLog:                     slog.NewLogLogger(s.log.Handler(), slog.LevelDebug),
		ConnContext:                  withPeer,
		ConnState:                    s.conns.state,
	}
}

// Serve accepts connections from l until [Server.Shutdown], and then returns
// nil. It may be called for several listeners. Requests over TCP are checked
// for coming from a web page; a TLS listener is made by the caller.
func (s *Server) Serve(l net.Listener) error {
	err := s.http.Serve(&boundedListener{Listener: l, server: s})
	if errors.Is(err, http.ErrServerClosed) {
		return nil
	}
	return err
}

// Shutdown stops accepting, ends streams and the processes run by exec, and
// waits for the other requests. When ctx ends first it cuts the connections that
// are left and returns the error of ctx; requests whose backend does not return
// may then still be running.
func (s *Server) Shutdown(ctx context.Context) error {
	s.mu.Lock()
	s.closing = true
	s.mu.Unlock()
	s.quit()
	err := s.http.Shutdown(ctx)
	if err != nil {
		err = errors.Join(err, s.http.Close())
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		s.sessions.Wait() // each ends by itself, since life has ended
	}()
	select {
	case <-done:
	case <-ctx.Done():
		s.conns.closeAll()
		err = errors.Join(err, ctx.Err())
	}
	return err
}

// enterSession counts a connection that was taken over from net/http.
func (s *Server) enterSession() (leave func(), ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closing {
		return nil, false
	}
	s.sessions.Add(1)
	return s.sessions.Done, true
}

// allowedHosts are the names under which a TCP listener may be addressed.
func allowedHosts(more []string) map[string]bool {
	hosts := map[string]bool{"localhost": true}
	if name, err := os.Hostname(); err == nil {
		more = append([]string{name}, more...)
	}
	for _, h := range more {
		hosts[strings.ToLower(strings.TrimSuffix(h, "."))] = true
	}
	return hosts
}
