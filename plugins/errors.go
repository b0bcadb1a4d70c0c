package plugins

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strings"
	"unicode/utf8"
)

// notFound is the type of ErrNotFound; the method puts it into the not-found
// class of packages that look for it, without importing one.
type notFound struct{}

func (notFound) Error() string { return "plugin not found" }

// NotFound marks the error's class.
func (notFound) NotFound() {}

// notImplements is the type of ErrNotImplements.
type notImplements struct{}

func (notImplements) Error() string { return "Plugin does not implement the requested driver" }

// InvalidParameter marks the error's class.
func (notImplements) InvalidParameter() {}

var (
	// ErrNotFound is what errors match if no definition file has the name.
	ErrNotFound error = notFound{}
	// ErrNotImplements is what errors match if the plugin is there but does
	// not serve the subsystem that was asked for.
	ErrNotImplements error = notImplements{}
	// ErrAnswerTooLarge is what errors match if a plugin's answer is longer
	// than the caller wants to read.
	ErrAnswerTooLarge = errors.New("the plugin's answer is too large")
	// ErrClosed is what errors match if the client or the registry was closed.
	ErrClosed = errors.New("closed")
	// ErrUnsupportedPlatform is what errors match if the operating system has
	// no such thing, for example a named pipe outside Windows.
	ErrUnsupportedPlatform = errors.New("not supported on this platform")
)

// StatusError is an answer of a plugin with any status but 200. It prints as
// "<method>: <message>".
type StatusError struct {
	// Status is the HTTP status of the answer.
	Status int
	// Method is the RPC that was called, without a leading slash.
	Method string
	// Message is the Err of the answer's body, or else the body as text,
	// without control characters and cut off after 64 KiB.
	Message string
}

// Error is the method and what the plugin said.
func (e *StatusError) Error() string { return e.Method + ": " + e.Message }

// StatusCode is the HTTP status of the answer.
func (e *StatusError) StatusCode() int { return e.Status }

// IsNotFound says whether err, or an error it wraps, is an answer with status
// 404: the plugin does not know the method.
func IsNotFound(err error) bool {
	var e *StatusError
	return errors.As(err, &e) && e.Status == http.StatusNotFound
}

// TransportError is a call that got no complete answer: the plugin could not be
// reached, the connection broke or time ran out. The cause is wrapped, so that
// errors of package net and of contexts are still found in it.
type TransportError struct {
	// Method is the RPC that was called, without a leading slash.
	Method string
	// Address is where the plugin was expected.
	Address string
	// Sent says whether bytes of the request were handed to the connection, so
	// that the plugin may have acted on it.
	Sent bool
	// Err is the cause.
	Err error

	// retry says that the same call may be made again.
	retry bool
}

// Error names the method and the cause.
func (e *TransportError) Error() string { return e.Method + ": " + e.Err.Error() }

// Unwrap returns the cause.
func (e *TransportError) Unwrap() error { return e.Err }

// Timeout says whether time ran out.
func (e *TransportError) Timeout() bool { return isTimeout(e.Err) }

// Temporary is there so that the error is a [net.Error]; it says what Timeout
// says.
func (e *TransportError) Temporary() bool { return e.Timeout() }

// ActivationError is a plugin that was found but could not be activated. It
// wraps the StatusError or TransportError that was the reason.
type ActivationError struct {
	// Name is the plugin's name.
	Name string
	// Address is where the plugin was expected.
	Address string
	// Err is the reason.
	Err error
}

// Error names the plugin, its address and the reason.
func (e *ActivationError) Error() string {
	return fmt.Sprintf("activate plugin %s at %s: %v", e.Name, e.Address, e.Err)
}

// Unwrap returns the reason.
func (e *ActivationError) Unwrap() error { return e.Err }

// timeoutError is a limit of the client's own that was reached.
type timeoutError struct{ text string }

func (e *timeoutError) Error() string { return e.text }

// Timeout is true.
func (e *timeoutError) Timeout() bool { return true }

// Temporary is true.
func (e *timeoutError) Temporary() bool { return true }

// Is makes the error match context.DeadlineExceeded, because that is what it
// means to whoever waits.
func (e *timeoutError) Is(target error) bool { return target == context.DeadlineExceeded }

func isTimeout(err error) bool {
	if errors.Is(err, context.DeadlineExceeded) {
		return true
	}
	var n net.Error
	return errors.As(err, &n) && n.Timeout()
}

// printable makes text of strangers fit for logs and answers: control
// characters become spaces, runs of white space one space, bytes that are no
// UTF-8 a replacement character.
func printable(s string) string {
	if !strings.ContainsFunc(s, unprintable) {
		return strings.TrimSpace(s)
	}
	return strings.Join(strings.FieldsFunc(s, func(r rune) bool { return unprintable(r) || r == ' ' }), " ")
}

// unprintable are C0 and C1 controls, what turns the direction of text around,
// and what stands for bytes that are no text.
func unprintable(r rune) bool {
	return r < ' ' || r >= 0x7f && r < 0xa0 || r == utf8.RuneError ||
		r >= 0x202a && r <= 0x202e || r >= 0x2066 && r <= 0x2069 || r == 0x2028 || r == 0x2029
}

// HandlerError is a handler that failed for a plugin. It is called again when
// the plugin is next used for the subsystem.
type HandlerError struct {
	// Name is the plugin's name.
	Name string
	// Subsystem is what the handler is for.
	Subsystem string
	// Err is what the handler returned.
	Err error
}

// Error names the plugin, the subsystem and the reason.
func (e *HandlerError) Error() string {
	return fmt.Sprintf("plugin %s: set up %s: %v", e.Name, e.Subsystem, e.Err)
}

// Unwrap returns what the handler returned.
func (e *HandlerError) Unwrap() error { return e.Err }
