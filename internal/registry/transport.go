package registry

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"strconv"
	"sync"
	"syscall"
	"time"
)

// retryPolicy says how patient requests to one endpoint are.
type retryPolicy struct {
	c        *Client
	attempts int
	answer   time.Duration
	whole    time.Duration // of what is no blob
}

type blobKey struct{}

// withBlob says that an answer is a blob, which takes as long as it takes.
func withBlob(ctx context.Context, is bool) context.Context {
	return context.WithValue(ctx, blobKey{}, is)
}

func isBlob(req *http.Request, resp *http.Response) bool {
	is, _ := req.Context().Value(blobKey{}).(bool)
	return is && (resp.StatusCode == http.StatusOK || resp.StatusCode == http.StatusPartialContent)
}

// retryTransport makes a request again that failed in a way that passes. A body
// is sent again only where it can be opened again.
type retryTransport struct {
	base   http.RoundTripper
	policy retryPolicy
}

func (t *retryTransport) RoundTrip(req *http.Request) (*http.Response, error) {
	ctx := req.Context()
	for attempt := 1; ; attempt++ {
		resp, err := t.once(req)
		last := attempt >= t.policy.attempts || ctx.Err() != nil || (req.Body != nil && req.Body != http.NoBody && req.GetBody == nil)
		if last || (err != nil && !passes(err)) || (err == nil && !passingStatus(resp.StatusCode)) {
			return resp, err
		}
		wait := t.policy.backoff(attempt)
		if err == nil {
			if asked, ok := retryAfter(resp.Header, t.policy.c.now()); ok {
				if asked > t.policy.c.cfg.MaxWait {
					return resp, nil // longer than anybody waits: its error says so
				}
				wait = max(asked, 0)
			}
			_, _ = io.CopyN(io.Discard, resp.Body, 64<<10) // only to keep the connection
			_ = resp.Body.Close()
		}
		t.policy.c.log.Debug("a registry is asked again", "host", req.URL.Host, "attempt", attempt, "wait", wait, "err", err)
		if err := sleep(ctx, wait); err != nil {
			return nil, err
		}
		if req.GetBody != nil {
			body, err := req.GetBody()
			if err != nil {
				return nil, err
			}
			again := req.Clone(ctx)
			again.Body = body
			req = again
		}
	}
}

// once makes one request whose answer must begin, and go on, in time.
func (t *retryTransport) once(req *http.Request) (*http.Response, error) {
	ctx, cancel := context.WithCancelCause(req.Context())
	stalled := fmt.Errorf("%s did not answer for %s: %w", req.URL.Host, t.policy.answer, errStalled)
	timer := time.AfterFunc(t.policy.answer, func() { cancel(stalled) })
	sent := req.Clone(ctx)
	if sent.Body != nil && sent.Body != http.NoBody {
		sent.Body = &watched{ReadCloser: sent.Body, timer: timer, limit: t.policy.answer}
	}
	resp, err := t.base.RoundTrip(sent)
	if err != nil {
		timer.Stop()
		if cause := context.Cause(ctx); errors.Is(cause, errStalled) {
			err = cause
		}
		cancel(nil)
		return nil, err
	}
	resp.Request = req
	body := &watched{ReadCloser: resp.Body, timer: timer, limit: t.policy.answer, ctx: ctx, cancel: cancel}
	if !isBlob(req, resp) {
		body.end = time.Now().Add(t.policy.whole)
		body.late = fmt.Errorf("%s did not finish its answer within %s: %w", req.URL.Host, t.policy.whole, errLate)
	}
	resp.Body = body
	return resp, nil
}

// errStalled is the cause of what ends because nothing moves.
var errStalled = errors.New("the connection stands still")

// errLate is the cause of what ends because it does not come to an end.
var errLate = errors.New("the answer takes too long")

// watched is a body that may not stand still: each read winds the timer up.
type watched struct {
	io.ReadCloser
	timer  *time.Timer
	limit  time.Duration
	end    time.Time       // when all must have arrived; 0 is never
	late   error           // if it has not
	ctx    context.Context //nolint:containedctx // to tell why reading failed
	cancel context.CancelCauseFunc
	once   sync.Once
}

func (w *watched) Read(p []byte) (int, error) {
	limit := w.limit
	if !w.end.IsZero() {
		limit = min(limit, time.Until(w.end))
	}
	if limit <= 0 {
		return 0, w.late
	}
	w.timer.Reset(limit)
	n, err := w.ReadCloser.Read(p)
	if w.cancel == nil {
		return n, err
	}
	w.timer.Stop() // who reads slowly is not the registry's fault
	if err != nil && !errors.Is(err, io.EOF) {
		if cause := context.Cause(w.ctx); errors.Is(cause, errStalled) {
			if err = cause; limit < w.limit {
				err = w.late
			}
		}
	}
	return n, err
}

func (w *watched) Close() error {
	err := w.ReadCloser.Close()
	if w.cancel != nil {
		w.once.Do(func() {
			w.timer.Stop()
			w.cancel(nil)
		})
	}
	return err
}

// backoff is the wait after a number of failures: doubling, with jitter.
func (p retryPolicy) backoff(failures int) time.Duration {
	d := min(p.c.cfg.Backoff<<min(failures-1, 16), p.c.cfg.MaxWait)
	return d/2 + rand.N(d/2+1) //nolint:gosec // spreads clients, nothing else
}

// retryAfter reads how long a registry wants to be left alone.
func retryAfter(h http.Header, now time.Time) (time.Duration, bool) {
	v := h.Get("Retry-After")
	if v == "" {
		return 0, false
	}
	if n, err := strconv.ParseUint(v, 10, 31); err == nil {
		return time.Duration(n) * time.Second, true
	}
	if at, err := http.ParseTime(v); err == nil {
		return at.Sub(now), true
	}
	return 0, false
}

// passingStatus says whether an answer may be another one in a moment.
func passingStatus(code int) bool {
	switch code {
	case http.StatusRequestTimeout, http.StatusTooManyRequests, http.StatusInternalServerError,
		http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		return true
	}
	return false
}

// passes says whether a failed request may succeed in a moment.
func passes(err error) bool {
	var cert *tls.CertificateVerificationError
	var unknown x509.UnknownAuthorityError
	var record tls.RecordHeaderError
	var dns *net.DNSError
	switch {
	case errors.As(err, &cert), errors.As(err, &unknown), errors.As(err, &record):
		return false
	case errors.As(err, &dns):
		return dns.IsTemporary && !dns.IsNotFound
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return false
	case errors.Is(err, syscall.ECONNREFUSED), errors.Is(err, syscall.EHOSTUNREACH), errors.Is(err, syscall.ENETUNREACH):
		return false // quick and clear: its user knows best
	}
	var network net.Error
	return errors.Is(err, errStalled) || errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) ||
		errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE) || errors.As(err, &network)
}

// sleep waits, or ends with ctx.
func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
