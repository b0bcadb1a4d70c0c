package api

import (
	"bytes"
	"log/slog"
	"net/http"
	"time"

	"github.com/outletd/outlet"
)

// progressStream is an answer that tells how far a transfer is, in the form that
// Docker's clients draw bars from (docs/spec/engine-api.md §6). Until the first
// line an error is a status.
type progressStream struct {
	s    *Server
	w    http.ResponseWriter
	r    *http.Request
	st   *stream
	ours bool // error lines have statuses
}

func (s *Server) openProgress(w http.ResponseWriter, r *http.Request, ours bool) *progressStream {
	return &progressStream{s: s, w: w, r: r, st: s.openStream(w, r, "application/json"), ours: ours}
}

func (p *progressStream) close() { p.st.close() }

// header sets a header that is sent with the first line.
func (p *progressStream) header(key, value string) { p.w.Header().Set(key, value) }

type progressLine struct {
	Status         string          `json:"status,omitempty"`
	ProgressDetail *progressDetail `json:"progressDetail,omitempty"`
	ID             string          `json:"id,omitempty"`
	Aux            *outlet.Pushed  `json:"aux,omitempty"`
	ErrorDetail    *errorDetail    `json:"errorDetail,omitempty"`
	Error          string          `json:"error,omitempty"`
}

type progressDetail struct {
	Current int64 `json:"current,omitempty"`
	Total   int64 `json:"total,omitempty"`
}

type errorDetail struct {
	// Code is only for our own client: of 401 others make a text of their own.
	Code    int    `json:"code,omitempty"`
	Message string `json:"message"`
}

// tell sends a line. That the client is gone ends the stream's context.
func (p *progressStream) tell(l outlet.Progress) {
	line := progressLine{Status: l.Status, ID: l.ID, Aux: l.Pushed}
	if !l.Message {
		line.ProgressDetail = &progressDetail{l.Current, l.Total}
	}
	p.write(line)
}

func (p *progressStream) write(line progressLine) {
	b, err := encode(line)
	if err != nil {
		p.s.log.ErrorContext(p.r.Context(), "encode progress", "error", err)
		return
	}
	if p.st.ctx.Err() == nil { // else the deadline is set already
		_ = p.st.conn.SetWriteDeadline(time.Now().Add(writeTimeout))
	}
	if p.st.write(append(bytes.TrimRight(b, "\n"), '\r', '\n'), true) != nil {
		p.st.cancel()
	}
}

// end ends the answer: with a status if there was no line yet.
func (p *progressStream) end(err error) error {
	switch {
	case err == nil && !p.st.started:
		_ = p.st.start() // fails only when the client is gone
		return nil
	case err == nil:
		return nil
	case !p.st.started:
		p.w.Header().Del("Docker-Plugin-Name")
		return err
	case p.r.Context().Err() != nil || p.st.broken:
		return nil //nolint:nilerr // nobody would read it
	}
	code := status(err)
	p.s.log.LogAttrs(p.r.Context(), slog.LevelInfo, "request failed after its answer began",
		slog.String("method", p.r.Method), slog.String("path", p.r.URL.Path), slog.Int("status", code), slog.Any("error", err))
	text := p.s.publicText(p.r, code, err)
	detail := &errorDetail{Message: text}
	if p.ours {
		detail.Code = code
	}
	p.write(progressLine{ErrorDetail: detail, Error: text})
	return nil
}
