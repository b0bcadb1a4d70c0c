package api

import (
	"bufio"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"path"
	"runtime/debug"
	"strings"
	"time"

	"github.com/containerd/errdefs"

	"github.com/outletd/outlet"
)

// errAnswered is returned by a handler that sent its error itself.
var errAnswered = errors.New("the request was answered")

// ServeHTTP answers one request. The order: headers, panics, where the request
// comes from, clean path, route, middlewares, version, handler.
func (s *Server) ServeHTTP(hw http.ResponseWriter, r *http.Request) {
	w := &response{ResponseWriter: hw}
	h := w.Header()
	h.Set("Server", "Outlet/"+s.cfg.Version+" (linux)")
	h.Set("Api-Version", MaxVersion)
	h.Set("Ostype", "linux")
	h.Set("Docker-Experimental", "false")
	defer s.recoverPanic(w, r)
	// The answer before this one on the connection may have set one.
	_ = http.NewResponseController(hw).SetWriteDeadline(time.Time{})

	version, rest := splitVersion(r.URL.Path)
	r = withVersion(r, version)
	if err := s.checkOrigin(r); err != nil {
		s.fail(w, r, err)
		return
	}
	if r.Method == http.MethodOptions {
		w.WriteHeader(http.StatusOK)
		return
	}
	if clean := cleanPath(r.URL.EscapedPath()); clean != r.URL.EscapedPath() {
		if r.URL.RawQuery != "" {
			clean += "?" + r.URL.RawQuery
		}
		h.Set("Location", clean)
		w.WriteHeader(http.StatusMovedPermanently)
		return
	}
	for _, rt := range s.routes[r.Method] {
		if name, ok := rt.match(rest); ok {
			if name != "" {
				r.SetPathValue("name", name)
			}
			r.Body = s.guardBody(w, r)
			rt.handler.ServeHTTP(w, r)
			return
		}
	}
	s.fail(w, r, unknownPath(rest))
}

// foreign are the parts of the Engine API that Outlet has nothing of.
var foreign = map[string]bool{
	"build": true, "commit": true, "configs": true, "containers": true, "distribution": true,
	"exec": true, "images": true, "networks": true, "nodes": true, "secrets": true,
	"services": true, "session": true, "swarm": true, "tasks": true,
}

func unknownPath(rest string) error {
	group, _, _ := strings.Cut(strings.TrimPrefix(rest, "/"), "/")
	if foreign[group] {
		return notFound("Outlet serves plugins and volumes; /%s is not part of it", group)
	}
	return errPageNotFound
}

// cleanPath is the form of an escaped path without empty, "." and ".."
// segments. What is percent-encoded stays as it is: it may belong to a name.
func cleanPath(p string) string {
	if p == "" || p[0] != '/' {
		p = "/" + p
	}
	c := path.Clean(p)
	if p[len(p)-1] == '/' && c != "/" {
		c += "/"
	}
	return c
}

func (s *Server) recoverPanic(w *response, r *http.Request) {
	v := recover()
	if v == nil {
		return
	}
	if v == http.ErrAbortHandler { //nolint:errorlint // a panic value, compared as net/http does
		panic(v)
	}
	s.log.LogAttrs(r.Context(), slog.LevelError, "a handler panicked",
		slog.String("method", r.Method), slog.String("path", r.URL.Path),
		slog.Any("panic", v), slog.String("stack", string(debug.Stack())))
	if w.wrote {
		// Part of an answer is out; cutting the connection is the only way left
		// to say that the rest will not come.
		panic(http.ErrAbortHandler)
	}
	s.fail(w, r, errors.New("internal error: the request could not be completed"))
}

// checkOrigin refuses requests that a browser may have been made to send by a
// page of somebody else: those with an Origin, and those whose Host is a name
// that could have been pointed here (DNS rebinding). Browsers cannot reach unix
// sockets, and clients send all kinds of hosts there.
func (s *Server) checkOrigin(r *http.Request) error {
	if !isTCP(r) {
		return nil
	}
	if origin := r.Header.Get("Origin"); origin != "" {
		return outlet.Errorf(errdefs.ErrPermissionDenied, "requests from web pages are refused (Origin %q)", origin)
	}
	host := r.Host
	if h, _, err := net.SplitHostPort(host); err == nil {
		host = h
	}
	host = strings.ToLower(strings.TrimSuffix(strings.Trim(host, "[]"), "."))
	if net.ParseIP(host) != nil || s.hosts[host] {
		return nil
	}
	if r.TLS != nil && r.TLS.ServerName != "" && strings.EqualFold(r.TLS.ServerName, host) {
		return nil
	}
	return outlet.Errorf(errdefs.ErrPermissionDenied, "host %q is not a name of this daemon", r.Host)
}

// response notes whether anything was sent. It must be a thin wrapper: the
// other abilities of the writer are reached through Unwrap.
type response struct {
	http.ResponseWriter
	wrote bool
}

func (w *response) WriteHeader(code int) {
	w.wrote = true
	w.ResponseWriter.WriteHeader(code)
}

func (w *response) Write(b []byte) (int, error) {
	w.wrote = true
	return w.ResponseWriter.Write(b)
}

// Unwrap is for [http.ResponseController].
func (w *response) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// FlushError sends what is buffered.
func (w *response) FlushError() error {
	w.wrote = true
	return http.NewResponseController(w.ResponseWriter).Flush()
}

// Hijack takes the connection over.
func (w *response) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	c, rw, err := http.NewResponseController(w.ResponseWriter).Hijack()
	w.wrote = w.wrote || err == nil
	return c, rw, err
}
