package api

import (
	"bytes"
	"context"
	"encoding/json"
	"log/slog"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/containerd/errdefs"

	"github.com/outletd/outlet"
)

// statusClientGone is logged where the client hung up. What is sent then, for a
// client that closed only its own side, is what would be sent anyway.
const statusClientGone = 499

// statuses is the one table from a class of errors to its status
// (docs/spec/engine-api.md §3). Where one error is of several classes at the
// same depth, the first row wins.
var statuses = []struct {
	class  error
	status int
}{
	{errdefs.ErrNotFound, http.StatusNotFound},
	{errdefs.ErrConflict, http.StatusConflict},
	{errdefs.ErrAlreadyExists, http.StatusConflict},
	{errdefs.ErrInvalidArgument, http.StatusBadRequest},
	{errdefs.ErrFailedPrecondition, http.StatusBadRequest},
	{errdefs.ErrOutOfRange, http.StatusBadRequest},
	{errdefs.ErrUnauthenticated, http.StatusUnauthorized},
	{errdefs.ErrPermissionDenied, http.StatusForbidden},
	{errdefs.ErrResourceExhausted, http.StatusRequestEntityTooLarge},
	{errdefs.ErrUnavailable, http.StatusServiceUnavailable},
	{errdefs.ErrNotImplemented, http.StatusNotImplemented},
	{errdefs.ErrNotModified, http.StatusNotModified},
	{errdefs.ErrInternal, http.StatusInternalServerError},
	{errdefs.ErrDataLoss, http.StatusInternalServerError},
	{context.DeadlineExceeded, http.StatusInternalServerError},
	{context.Canceled, http.StatusInternalServerError},
}

// status finds the status of the outermost class in err's chain. errors.Is
// alone would let a class deep inside win over the one its wrapper chose.
func status(err error) int {
	for level := []error{err}; len(level) > 0; {
		var inner []error
		for _, e := range level {
			for _, row := range statuses {
				if isItself(e, row.class) {
					return row.status
				}
			}
			switch u := e.(type) { //nolint:errorlint // the chain is walked by hand, level by level
			case interface{ Unwrap() error }:
				if next := u.Unwrap(); next != nil {
					inner = append(inner, next)
				}
			case interface{ Unwrap() []error }:
				inner = append(inner, u.Unwrap()...)
			}
		}
		level = inner
	}
	return http.StatusInternalServerError
}

// isItself is errors.Is for e alone, without what it wraps.
func isItself(e, class error) bool {
	if e == class { //nolint:errorlint // what e wraps is looked at later
		return true
	}
	is, ok := e.(interface{ Is(error) bool }) // as above
	return ok && is.Is(class)
}

func invalid(format string, args ...any) error {
	return outlet.Errorf(errdefs.ErrInvalidArgument, format, args...)
}

func notFound(format string, args ...any) error {
	return outlet.Errorf(errdefs.ErrNotFound, format, args...)
}

// errPageNotFound answers unknown paths and methods, word for word as Engine
// does.
var errPageNotFound = notFound("page not found")

type errorBody struct {
	Message string `json:"message"`
}

// fail logs err as its status asks, and sends it unless something was sent
// already or nobody is there to read it.
func (s *Server) fail(w *response, r *http.Request, err error) {
	code, logged := status(err), status(err)
	// Only what a client cannot have caused needs somebody to look.
	level := slog.LevelDebug
	switch {
	case r.Context().Err() != nil:
		logged = statusClientGone
	case code >= http.StatusInternalServerError && code != http.StatusNotImplemented:
		level = slog.LevelError
	}
	s.log.LogAttrs(r.Context(), level, "request failed",
		slog.String("method", r.Method), slog.String("path", r.URL.Path),
		slog.Int("status", logged), slog.Any("error", err))
	if w.wrote {
		return
	}
	if code == http.StatusNotModified {
		w.WriteHeader(code)
		return
	}
	text := s.publicText(r, code, err)
	if v := requestedVersion(r); v != "" && compareVersions(v, "1.24") < 0 {
		w.Header().Set("X-Content-Type-Options", "nosniff")
		writeBody(w, code, "text/plain; charset=utf-8", []byte(text+"\n"))
		return
	}
	body, err := encode(errorBody{text})
	if err != nil {
		s.log.ErrorContext(r.Context(), "encode an error", "error", err)
	}
	writeBody(w, code, "application/json", body)
}

// publicText is what a caller is told. Server errors may name paths of the
// daemon's state, which are nobody's business but root's.
func (s *Server) publicText(r *http.Request, code int, err error) string {
	text := err.Error()
	if text == "" { // clients take no text for no answer
		text = http.StatusText(code)
	}
	if code < http.StatusInternalServerError || isPrivileged(r.Context()) {
		return text
	}
	for _, p := range s.cfg.StatePaths {
		if p = strings.TrimRight(p, "/"); p != "" {
			text = strings.ReplaceAll(text, p+"/", ".../")
		}
	}
	return text
}

// encode is how every answer is encoded: one line, nothing escaped for HTML.
func encode(v any) ([]byte, error) {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		return nil, err
	}
	return b.Bytes(), nil
}

// writeJSON answers with v.
func writeJSON(w http.ResponseWriter, code int, v any) error {
	body, err := encode(v)
	if err != nil {
		return err
	}
	writeBody(w, code, "application/json", body)
	return nil
}

// writeBody answers with a body that is complete. Failing to write means that
// the client is gone or does not read, of which there is nobody to tell.
func writeBody(w http.ResponseWriter, code int, contentType string, body []byte) {
	w.Header().Set("Content-Type", contentType)
	w.Header().Set("Content-Length", strconv.Itoa(len(body)))
	_ = http.NewResponseController(w).SetWriteDeadline(time.Now().Add(writeTimeout))
	w.WriteHeader(code)
	_, _ = w.Write(body)
}
