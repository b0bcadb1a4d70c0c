package registry

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"unicode"

	"github.com/containerd/containerd/v2/core/remotes/docker"
	remoteerrors "github.com/containerd/containerd/v2/core/remotes/errors"
	"github.com/containerd/errdefs"
)

const (
	maxErrorBody = 64 << 10
	maxErrorText = 1 << 10
)

// Error is what a registry answered instead of what it was asked for.
type Error struct {
	Host string
	// Method and Path are the request's; the query may hold secrets.
	Method, Path string
	// Status is the HTTP status, 0 if there was no answer.
	Status int
	// Reason is what the registry said, or why there was no answer.
	Reason string
	// Err is the cause where there was no answer.
	Err error
}

// Error names the host, what was asked, and the reason.
func (e *Error) Error() string {
	if e.Status == 0 {
		return fmt.Sprintf("registry %s: %s", e.Host, e.Reason)
	}
	return fmt.Sprintf("registry %s: %s %s: %d %s", e.Host, e.Method, e.Path, e.Status, e.Reason)
}

// Unwrap is the class of the status, then the cause: 404, 401 and 403 are the
// registry's own, all else is a failure that its user did not cause.
func (e *Error) Unwrap() []error {
	errs := []error{errdefs.ErrInternal}
	switch e.Status {
	case http.StatusNotFound:
		errs[0] = errdefs.ErrNotFound
	case http.StatusUnauthorized:
		errs[0] = errdefs.ErrUnauthenticated
	case http.StatusForbidden:
		errs[0] = errdefs.ErrPermissionDenied
	case http.StatusTooManyRequests:
		errs[0] = errdefs.ErrUnavailable
	}
	if e.Err != nil {
		if errors.Is(e.Err, context.Canceled) || errors.Is(e.Err, context.DeadlineExceeded) {
			errs = errs[:0]
		}
		errs = append(errs, e.Err)
	}
	return errs
}

// answerError reads the error of an answer and closes it.
func answerError(host string, resp *http.Response) error {
	defer resp.Body.Close() // only read from
	e := &Error{Host: host, Method: resp.Request.Method, Path: resp.Request.URL.Path, Status: resp.StatusCode}
	body, _ := io.ReadAll(io.LimitReader(resp.Body, maxErrorBody)) // the status alone is an answer
	e.Reason = reason(body)
	if e.Reason == "" {
		e.Reason = strings.ToLower(http.StatusText(resp.StatusCode))
	}
	if after := resp.Header.Get("Retry-After"); after != "" && passingStatus(resp.StatusCode) {
		e.Reason += " (it asks to be left alone until " + clip(after) + ")"
	}
	return e
}

// reason reads the body of an error: the specification's JSON, or text.
func reason(body []byte) string {
	var doc struct {
		Errors []struct{ Code, Message string }
	}
	if json.Unmarshal(body, &doc) == nil && len(doc.Errors) > 0 {
		var l []string
		for _, e := range doc.Errors {
			text := strings.ToLower(strings.ReplaceAll(e.Code, "_", " "))
			if e.Message != "" && !strings.EqualFold(text, e.Message) {
				text = strings.TrimPrefix(text+": "+e.Message, ": ")
			}
			l = append(l, text)
		}
		return clip(strings.Join(l, ", "))
	}
	if len(body) > 0 && body[0] != '<' && body[0] != '{' { // pages and objects are for machines
		return clip(string(body))
	}
	return ""
}

// clip makes text of strangers fit for one line of a terminal: what is not
// printed is what terminals obey (escapes, also those of one rune) or what makes
// them show it in another order.
func clip(s string) string {
	cut := ""
	if s = strings.TrimSpace(s); len(s) > maxErrorText {
		s, cut = strings.ToValidUTF8(s[:maxErrorText], ""), "…"
	}
	return strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return ' '
		}
		return r
	}, s) + cut
}

// requestError explains why there is no answer.
func requestError(ctx context.Context, host string, req *http.Request, err error) error {
	if cause := context.Cause(ctx); cause != nil {
		return cause
	}
	var u *url.Error
	if errors.As(err, &u) {
		err = u.Err // the URL may hold secrets, and says no more than we do
	}
	e := &Error{Host: host, Method: req.Method, Path: req.URL.Path, Reason: clip(err.Error()), Err: err}
	var unexpected remoteerrors.ErrUnexpectedStatus
	switch {
	case errors.As(err, &unexpected): // of the token server
		e.Status, e.Method, e.Path = unexpected.StatusCode, unexpected.RequestMethod, "token"
		e.Reason = reason(unexpected.Body)
		if e.Reason == "" {
			e.Reason = strings.ToLower(http.StatusText(unexpected.StatusCode))
		}
		if t, err := url.Parse(unexpected.RequestURL); err == nil {
			e.Path = t.Host + t.Path
		}
		e.Err = nil
	case errors.Is(err, docker.ErrInvalidAuthorization), errors.Is(err, errForeignChallenge):
		e.Status = http.StatusUnauthorized
		e.Err = nil
	}
	return e
}
