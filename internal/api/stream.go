package api

import (
	"context"
	"net/http"
	"time"
)

// lastWords is how long a stream that ends may still take to write.
const lastWords = 500 * time.Millisecond

// stream is an answer that goes on: every write is sent at once, and its end
// also ends a write that waits for a client that does not read.
type stream struct {
	w       http.ResponseWriter
	conn    *http.ResponseController
	ctx     context.Context //nolint:containedctx // the life of this answer
	stop    func() bool
	cancel  context.CancelFunc
	started bool
	broken  bool // the client is gone
	typ     string
}

// openStream prepares a stream of the given content type. Nothing is sent yet.
// The caller must close it.
func (s *Server) openStream(w http.ResponseWriter, r *http.Request, contentType string) *stream {
	st := &stream{w: w, conn: http.NewResponseController(w), typ: contentType}
	st.ctx, st.cancel = s.streaming(r)
	st.stop = context.AfterFunc(st.ctx, st.expire)
	return st
}

func (st *stream) close() {
	st.stop()
	st.cancel()
}

// expire bounds a write that goes on.
func (st *stream) expire() { _ = st.conn.SetWriteDeadline(time.Now().Add(lastWords)) }

// start sends status and headers, without waiting for anything to say.
func (st *stream) start() error {
	if st.started {
		return nil
	}
	st.started = true
	st.w.Header().Set("Content-Type", st.typ)
	st.w.WriteHeader(http.StatusOK)
	return st.check(st.conn.Flush())
}

// write sends b, right away if flush says so.
func (st *stream) write(b []byte, flush bool) error {
	if err := st.start(); err != nil {
		return err
	}
	if _, err := st.w.Write(b); err != nil {
		return st.check(err)
	}
	if !flush {
		return nil
	}
	return st.check(st.conn.Flush())
}

// check remembers that writing failed.
func (st *stream) check(err error) error {
	st.broken = st.broken || err != nil
	return err
}

// over says whether the stream's end is nobody's fault: the client is gone or
// the server shuts down.
func (st *stream) over() bool { return st.broken || st.ctx.Err() != nil }
