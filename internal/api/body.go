package api

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"mime"
	"net/http"
	"os"
	"time"
)

const (
	// maxJSON is the most bytes a JSON body may have.
	maxJSON = 1 << 20
	// drainTimeout and drainBytes bound what is read of an upload after it was
	// refused, for clients that look for an answer only when they have sent
	// everything.
	drainTimeout = 10 * time.Second
	drainBytes   = 4 << 30
)

// guardedBody gives every read of a request's body a deadline, so that a client
// that stopped sending does not hold what works for it.
type guardedBody struct {
	io.ReadCloser
	conn    *http.ResponseController
	timeout time.Duration
	until   time.Time // bounds all reads together, if not zero
	ended   bool      // there is nothing more to read
}

func (s *Server) guardBody(w http.ResponseWriter, r *http.Request) io.ReadCloser {
	if r.Body == nil || r.Body == http.NoBody {
		return http.NoBody
	}
	b := &guardedBody{ReadCloser: r.Body, conn: http.NewResponseController(w), timeout: s.cfg.BodyTimeout}
	// For handlers that do not read it: net/http will, before it answers.
	b.setDeadline()
	return b
}

func (b *guardedBody) setDeadline() {
	deadline := time.Now().Add(b.timeout)
	if !b.until.IsZero() && b.until.Before(deadline) {
		deadline = b.until
	}
	// A writer without deadlines (a test's recorder) has no slow client either.
	_ = b.conn.SetReadDeadline(deadline)
}

func (b *guardedBody) Read(p []byte) (int, error) {
	b.setDeadline()
	n, err := b.ReadCloser.Read(p)
	switch {
	case err == nil:
		return n, nil
	case err == io.EOF: //nolint:errorlint // a body's end, exactly
		// net/http now watches the connection for the client hanging up.
		_ = b.conn.SetReadDeadline(time.Time{})
	case errors.Is(err, os.ErrDeadlineExceeded):
		// The deadline stays, or net/http would wait for the rest.
		err = invalid("the request's body did not arrive in time")
	}
	b.ended = true
	return n, err
}

// within bounds the time for everything that is still to be read.
func (b *guardedBody) within(d time.Duration) { b.until = time.Now().Add(d) }

// hasBody says whether a request brings a body: one of a length, or one whose
// length is not known yet.
func hasBody(r *http.Request) bool {
	return r.Body != nil && r.Body != http.NoBody && r.ContentLength != 0
}

// readBody reads a body of at most maxJSON bytes.
func readBody(r *http.Request) ([]byte, error) {
	if !hasBody(r) {
		return nil, nil
	}
	if r.ContentLength > maxJSON {
		return nil, errBodyTooLarge()
	}
	if b, ok := r.Body.(*guardedBody); ok {
		b.within(b.timeout)
	}
	body, err := io.ReadAll(io.LimitReader(r.Body, maxJSON+1))
	if err != nil {
		return nil, invalid("invalid JSON: %w", err)
	}
	if len(body) > maxJSON {
		return nil, errBodyTooLarge()
	}
	return body, nil
}

func errBodyTooLarge() error { return invalid("request body too large") }

// readJSON decodes a request's body into out, by the rules of
// docs/spec/engine-api.md §4.2. Without a body out stays as it is.
func readJSON(r *http.Request, out any) error {
	if err := checkJSONType(r); err != nil {
		return err
	}
	if !hasBody(r) {
		return nil
	}
	body, err := readBody(r)
	if err != nil {
		return err
	}
	dec := json.NewDecoder(bytes.NewReader(body))
	switch err := dec.Decode(out); {
	case err == io.EOF: // exactly what Decode returns
		return invalid("invalid JSON: got EOF while reading request body")
	case err != nil:
		return invalid("invalid JSON: %w", err)
	}
	if len(bytes.TrimLeft(body[dec.InputOffset():], " \t\r\n")) > 0 {
		return invalid("unexpected content after JSON")
	}
	return nil
}

func checkJSONType(r *http.Request) error {
	header := r.Header.Get("Content-Type")
	if header == "" && !hasBody(r) {
		return nil
	}
	switch got, _, err := mime.ParseMediaType(header); {
	case err != nil:
		return invalid("malformed Content-Type header (%s): %w", header, err)
	case got != "application/json":
		return invalid("unsupported Content-Type header (%s): must be 'application/json'", header)
	}
	return nil
}

// refuseUpload answers an upload that may still be going on. Closing right away
// could make the client fail at writing before it reads why; so the answer is
// sent first, and what still comes is thrown away until the client stops, or
// for a bounded while.
func (s *Server) refuseUpload(w *response, r *http.Request, err error) {
	body, ok := r.Body.(*guardedBody)
	if !ok || body.ended {
		s.fail(w, r, err)
		return
	}
	// Without full duplex net/http would read 256 KiB before it sends the
	// answer.
	_ = body.conn.EnableFullDuplex()
	w.Header().Set("Connection", "close")
	s.fail(w, r, err)
	if w.FlushError() != nil {
		return
	}
	body.within(drainTimeout)
	// Whatever ends this, the answer is out.
	_, _ = io.CopyN(io.Discard, body, drainBytes)
}
