// Package capability holds what the typed clients of the plugin capabilities
// have in common: how they call, and what a plugin's refusal looks like. The
// clients are in the packages below it, one for each capability.
//
// It is no transport: a Caller is, for example package plugins' client.
package capability

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"
)

// Caller calls one plugin: it sends args as JSON, or no body if args is nil,
// and decodes the answer into what ret points to.
//
// An answer with a status other than 200 has to be an error that has, or wraps
// one that has, the method StatusCode() int. Every other error means that there
// was no answer.
type Caller interface {
	Call(ctx context.Context, method string, args, ret any) error
}

// Streamer is a Caller that also knows calls whose answer is a stream.
type Streamer interface {
	Caller
	// Stream sends args as JSON and returns the answer's body. ctx ends the
	// stream, too.
	Stream(ctx context.Context, method string, args any) (io.ReadCloser, error)
}

// Error is what a plugin answered instead of doing what it was asked to. A call
// that got no answer is not of this type.
type Error struct {
	// Method is what was called, for example VolumeDriver.Mount.
	Method string
	// Status is the answer's HTTP status; 200 where the answer had its error
	// beside its results.
	Status int
	// Message is what the plugin says.
	Message string

	err error
}

// Error is the method and the message.
func (e *Error) Error() string { return e.Method + ": " + e.Message }

// Unwrap returns the caller's error, if it had one.
func (e *Error) Unwrap() error { return e.err }

// StatusCode is the answer's HTTP status.
func (e *Error) StatusCode() int { return e.Status }

// IsAnswer says whether err is what a plugin answered, and not a failure to
// reach it.
func IsAnswer(err error) bool {
	_, ok := status(err)
	return ok
}

// IsNotImplemented says whether err is a plugin's answer that it does not know
// the method: status 404.
func IsNotImplemented(err error) bool {
	s, ok := status(err)
	return ok && s == http.StatusNotFound
}

func status(err error) (int, bool) {
	var s interface{ StatusCode() int }
	if errors.As(err, &s) {
		return s.StatusCode(), true
	}
	return 0, false
}

// Refusal is the part of an answer that tells of an error. Answers embed it.
type Refusal struct {
	// Err is empty if the call succeeded.
	Err string `json:",omitempty"`
}

// Refused returns what the plugin says went wrong, or nothing.
func (r *Refusal) Refused() string { return r.Err }

// Refuser is an answer that can tell of an error.
type Refuser interface{ Refused() string }

// Do calls a method within limit, zero being no limit beside that of ctx, and
// turns refusals into an *Error, whichever of the two ways a plugin has to
// express them: a status other than 200, or an answer that is an error.
func Do(ctx context.Context, c Caller, limit time.Duration, method string, args any, ret Refuser) error {
	if limit > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, limit)
		defer cancel()
	}
	if err := c.Call(ctx, method, args, ret); err != nil {
		return Refine(method, err)
	}
	if text := ret.Refused(); text != "" {
		return &Error{Method: method, Status: http.StatusOK, Message: Printable(text)}
	}
	return nil
}

// Refine makes an *Error of a caller's error that is an answer, and leaves
// every other error as it is.
func Refine(method string, err error) error {
	var e *Error
	if errors.As(err, &e) {
		return err
	}
	s, ok := status(err)
	if !ok {
		return err
	}
	text := strings.TrimPrefix(err.Error(), method+": ")
	if text == "" {
		text = fmt.Sprintf("status %d", s)
	}
	return &Error{Method: method, Status: s, Message: text, err: err}
}

// Printable makes a stranger's text fit for logs: no control characters, and
// not without end.
func Printable(s string) string {
	const longest = 64 << 10
	if len(s) > longest {
		s = strings.ToValidUTF8(s[:longest], "")
	}
	return strings.Join(strings.FieldsFunc(s, func(r rune) bool {
		return r <= ' ' || r >= 0x7f && r < 0xa0 || r >= 0x202a && r <= 0x202e || r >= 0x2066 && r <= 0x2069
	}), " ")
}
