// Package pluginstest runs v1 plugins inside a test: a server on a Unix socket
// or a TCP address that answers the handshake and whatever calls it was given,
// and counts what arrives.
//
// It is for tests of programs that use plugins, and not for writing plugins: for
// that there is package sdk.
package pluginstest

import (
	"bytes"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"path"
	"path/filepath"
	"sync"
	"testing"
	"time"
)

// A Request is one call that arrived.
type Request struct {
	// Method is what was called, for example VolumeDriver.List.
	Method string
	// Path is the path of the request, with what was in front of the method.
	Path string
	// Header is the request's.
	Header http.Header
	// Host is the request's Host header.
	Host string
	// Body is the request's body, in full.
	Body []byte
}

// Plugin is a plugin that runs until the test ends or it is closed. Its methods
// are safe for concurrent use.
type Plugin struct {
	// Addr is its address in the form of plugins.ParseAddress.
	Addr string

	server *http.Server
	served chan struct{}

	mu       sync.Mutex
	handlers map[string]http.HandlerFunc
	requests []Request
	conns    map[net.Conn]struct{}
}

// Start serves a plugin on a Unix socket of that path, which must not exist and whose
// directory is made. It announces the given subsystems.
func Start(tb testing.TB, socket string, implements ...string) *Plugin {
	tb.Helper()
	if err := os.MkdirAll(filepath.Dir(socket), 0o755); err != nil {
		tb.Fatal(err)
	}
	l, err := new(net.ListenConfig).Listen(tb.Context(), "unix", socket)
	if err != nil {
		tb.Fatal(err)
	}
	return serve(tb, l, "unix://"+socket, implements)
}

// StartTCP serves a plugin on a free port of the loopback interface, with TLS if
// config is not nil.
func StartTCP(tb testing.TB, config *tls.Config, implements ...string) *Plugin {
	tb.Helper()
	l, err := new(net.ListenConfig).Listen(tb.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	addr := "tcp://" + l.Addr().String()
	if config != nil {
		addr = "https://" + l.Addr().String()
		l = tls.NewListener(l, config)
	}
	return serve(tb, l, addr, implements)
}

func serve(tb testing.TB, l net.Listener, addr string, implements []string) *Plugin {
	p := &Plugin{
		Addr: addr, served: make(chan struct{}),
		handlers: make(map[string]http.HandlerFunc), conns: make(map[net.Conn]struct{}),
	}
	if implements == nil {
		implements = []string{}
	}
	p.Reply("Plugin.Activate", map[string]any{"Implements": implements})
	p.server = &http.Server{
		Handler:           p,
		ReadHeaderTimeout: time.Minute,
		ConnState:         p.track,
		ErrorLog:          log.New(io.Discard, "", 0), // tests cut connections on purpose
	}
	go func() {
		defer close(p.served)
		_ = p.server.Serve(l) // ends with Close
	}()
	tb.Cleanup(p.Close)
	return p
}

// track keeps the open connections, so that Sever finds them.
func (p *Plugin) track(c net.Conn, s http.ConnState) {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch s {
	case http.StateNew:
		p.conns[c] = struct{}{}
	case http.StateClosed, http.StateHijacked:
		delete(p.conns, c)
	case http.StateActive, http.StateIdle: // still open
	}
}

// Close stops the plugin and removes its socket. Closing it again does nothing.
func (p *Plugin) Close() {
	_ = p.server.Close() // what is under way is cut off, as in a crash
	<-p.served
}

// Sever cuts all connections, as a restart of the plugin does.
func (p *Plugin) Sever() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for c := range p.conns {
		_ = c.Close() // may be closed already
	}
}

// Connections is how many connections are open.
func (p *Plugin) Connections() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.conns)
}

// Handle has calls of a method answered by h. The body can be read again.
func (p *Plugin) Handle(method string, h http.HandlerFunc) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.handlers[method] = h
}

// Reply has calls of a method answered with status 200 and v as JSON.
func (p *Plugin) Reply(method string, v any) {
	p.Handle(method, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/vnd.docker.plugins.v1.2+json")
		_ = json.NewEncoder(w).Encode(v) // the caller may be gone
	})
}

// Fail has calls of a method answered with a status and an Err.
func (p *Plugin) Fail(method string, status int, err string) {
	p.Handle(method, func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(status)
		_ = json.NewEncoder(w).Encode(map[string]string{"Err": err}) // the caller may be gone
	})
}

// Requests returns the calls of a method that arrived in full, in order; all
// calls if method is empty.
func (p *Plugin) Requests(method string) []Request {
	p.mu.Lock()
	defer p.mu.Unlock()
	var all []Request
	for _, r := range p.requests {
		if method == "" || r.Method == method {
			all = append(all, r)
		}
	}
	return all
}

// ServeHTTP records a call and answers it.
func (p *Plugin) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	r.Body = io.NopCloser(bytes.NewReader(body))
	method := path.Base(r.URL.Path)
	p.mu.Lock()
	h := p.handlers[r.URL.Path]
	if h == nil && r.URL.Path == "/"+method {
		h = p.handlers[method]
	}
	p.requests = append(p.requests, Request{method, r.URL.Path, r.Header.Clone(), r.Host, body})
	p.mu.Unlock()
	if h == nil {
		http.Error(w, fmt.Sprintf("no method %s", r.URL.Path), http.StatusNotFound)
		return
	}
	h(w, r)
}
