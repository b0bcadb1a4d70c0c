package client

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"net/url"
	"syscall"

	"github.com/containerd/errdefs"
)

// Error is what a daemon answered instead of success. errors.Is finds the
// errdefs class of its status.
type Error struct {
	// Status is the HTTP status, or for an error inside a stream that had
	// begun the code it carried; 0 if it carried none.
	Status int
	// Message is the daemon's text.
	Message string
}

// Error is the daemon's text as it is.
func (e *Error) Error() string { return e.Message }

// Unwrap is the errdefs class of the status.
func (e *Error) Unwrap() error {
	switch e.Status {
	case http.StatusNotModified:
		return errdefs.ErrNotModified
	case http.StatusBadRequest:
		return errdefs.ErrInvalidArgument
	case http.StatusUnauthorized:
		return errdefs.ErrUnauthenticated
	case http.StatusForbidden:
		return errdefs.ErrPermissionDenied
	case http.StatusNotFound:
		return errdefs.ErrNotFound
	case http.StatusConflict:
		return errdefs.ErrConflict
	case http.StatusRequestEntityTooLarge:
		return errdefs.ErrResourceExhausted
	case http.StatusNotImplemented:
		return errdefs.ErrNotImplemented
	case http.StatusServiceUnavailable:
		return errdefs.ErrUnavailable
	default:
		return errdefs.ErrInternal
	}
}

// ConnectError says that the daemon could not be reached, and what helps.
// errors.Is finds errdefs.ErrUnavailable, or errdefs.ErrPermissionDenied where
// the socket is there but refused, and the cause.
type ConnectError struct {
	Host Host
	// Hint is the next step, "" if none is known.
	Hint string
	// Err is the cause.
	Err error

	class error
	text  string
}

// Error says what was tried, what happened, and the next step.
func (e *ConnectError) Error() string {
	if e.Hint == "" {
		return e.text
	}
	return e.text + ": " + e.Hint
}

// Unwrap gives the class and the cause.
func (e *ConnectError) Unwrap() []error { return []error{e.class, e.Err} }

// connectError explains why dialling h failed.
func connectError(ctx context.Context, h Host, err error) error {
	if cause := context.Cause(ctx); cause != nil {
		return cause
	}
	e := &ConnectError{Host: h, Err: err, class: errdefs.ErrUnavailable}
	switch {
	case errors.Is(err, fs.ErrPermission):
		e.class = errdefs.ErrPermissionDenied
		e.text = "permission denied for " + h.where()
		e.Hint = permissionHint(h.Address)
	case h.Network == "unix" && (errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ECONNREFUSED)):
		e.text = "no daemon answers at " + h.where()
		e.Hint = `start one with "outlet daemon", or name another with -H or OUTLET_HOST`
	case h.Network == "unix" && errors.Is(err, syscall.EINVAL) && len(h.Address) > 100:
		e.class = errdefs.ErrInvalidArgument
		e.text = fmt.Sprintf("the socket path %s is too long", h.Address)
		e.Hint = "a unix socket's path has at most 107 bytes"
	case errors.Is(err, syscall.ECONNREFUSED):
		e.text = "no daemon answers at " + h.where()
		e.Hint = `start one there with "outlet daemon -H ` + h.String() + ` --tlsverify …"`
	default:
		e.text = fmt.Sprintf("cannot reach the daemon at %s: %v", h.where(), err)
	}
	return e
}

// bare takes the method and address off what net/http returns: they name our
// stand-in host, which tells a reader nothing.
func bare(ctx context.Context, err error) error {
	var u *url.Error
	if errors.As(err, &u) {
		err = u.Err
	}
	if cause := context.Cause(ctx); cause != nil {
		return cause
	}
	return err
}
