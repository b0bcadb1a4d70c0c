package sdk

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net/http"
	"runtime/debug"
	"slices"
	"strings"
	"sync"

	"github.com/outletd/outlet/capability/ipam"
)

// MediaType is the content type of answers.
const MediaType = "application/vnd.docker.plugins.v1.2+json"

// DefaultMaxBody is the longest body of a call that is read, in bytes. The
// largest that hosts send are those of authorization: 4 MiB of a request and as
// much of its answer, each as base64.
const DefaultMaxBody = 16 << 20

// HandlerOptions says how a Handler behaves. The zero value is fine.
type HandlerOptions struct {
	// MaxBody is the longest body of a call in bytes; longer ones are refused
	// with 413. Zero means DefaultMaxBody.
	MaxBody int64
	// Logger gets panics of the plugin and what goes wrong with streams, and at
	// debug level each call that failed. Nil means none.
	Logger *slog.Logger
}

// Handler answers the protocol for a plugin, on whatever server it is given to.
// It is safe for concurrent use.
type Handler struct {
	methods  map[string]method
	optional map[string]bool
	maxBody  int64
	log      *slog.Logger
	logs     *logStreams
	// stopping ends streams, which would not end by themselves.
	stopping context.Context //nolint:containedctx // beside its cancel
	stop     context.CancelFunc
	streams  sync.WaitGroup
}

// NewHandler makes a handler. A plugin without any capability is an error.
// Close ends what the handler started.
func NewHandler(p Plugin, o HandlerOptions) (*Handler, error) {
	implements := p.manifest()
	if len(implements) == 0 {
		return nil, errors.New("sdk: the plugin has no capability")
	}
	h := &Handler{methods: make(map[string]method), optional: make(map[string]bool), maxBody: o.MaxBody, log: o.Logger}
	if h.maxBody <= 0 {
		h.maxBody = DefaultMaxBody
	}
	if h.log == nil {
		h.log = slog.New(slog.DiscardHandler)
	}
	h.stopping, h.stop = context.WithCancel(context.Background())
	h.methods["Plugin.Activate"] = bare(func(context.Context) (any, error) {
		return struct{ Implements []string }{implements}, nil
	})
	h.addVolume(p.Volume)
	h.addNetwork(p.Network)
	h.addIpam(p.Ipam)
	h.addAuthZ(p.AuthZ)
	h.addLog(p.Log)
	h.addMetrics(p.Metrics)
	h.addSecret(p.Secret)
	return h, nil
}

// add takes up the methods of a capability.
func (h *Handler) add(methods map[string]method) { maps.Copy(h.methods, methods) }

// addOptional takes up a method that plugins may leave out.
func (h *Handler) addOptional(name string, m method) {
	h.methods[name] = m
	h.optional[name] = true
}

// Close ends streams and readers of logs, in which what containers wrote is read
// to the end first, and waits for them until ctx ends. Calls are answered no
// more afterwards, so it comes after the server's Shutdown.
func (h *Handler) Close(ctx context.Context) error {
	h.stop()
	done := make(chan struct{})
	go func() { // ends when all streams have; they end because of stop
		defer close(done)
		h.streams.Wait()
	}()
	select {
	case <-done:
	case <-ctx.Done():
		return fmt.Errorf("end streams: %w", ctx.Err())
	}
	if h.logs == nil {
		return nil
	}
	return h.logs.close(ctx)
}

// ServeHTTP answers one call.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	name := strings.TrimPrefix(r.URL.Path, "/")
	m, ok := h.methods[name]
	if !ok {
		h.fail(w, name, http.StatusNotFound, errors.New("the plugin has no method "+quote(name)))
		return
	}
	if r.Method != http.MethodPost && name != "Plugin.Activate" {
		w.Header().Set("Allow", http.MethodPost)
		h.fail(w, name, http.StatusMethodNotAllowed, errors.New("methods of plugins are called by POST"))
		return
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, h.maxBody))
	if err != nil {
		status := http.StatusBadRequest
		var large *http.MaxBytesError
		if errors.As(err, &large) {
			status = http.StatusRequestEntityTooLarge
			err = fmt.Errorf("the body of the call is longer than %d bytes", large.Limit)
		}
		h.fail(w, name, status, err)
		return
	}
	answer, err := h.call(r.Context(), m, name, body, w)
	switch {
	case errors.Is(err, errStreamed):
	case err != nil:
		h.fail(w, name, statusOf(err, h.optional[name]), err)
	default:
		h.answer(w, name, answer)
	}
}

// errStreamed says that a method has answered by itself.
var errStreamed = errors.New("answered")

// call calls the plugin's code, whose panic is an error of this call and not the
// end of all others.
func (h *Handler) call(ctx context.Context, m method, name string, body []byte, w http.ResponseWriter) (answer any, err error) {
	defer func() {
		p := recover()
		if p == nil {
			return
		}
		if p == http.ErrAbortHandler { //nolint:errorlint // a panic's value, compared as net/http does
			panic(p)
		}
		h.log.Error("the plugin panicked", "method", name, "panic", p, "stack", string(debug.Stack()))
		err = fmt.Errorf("the plugin panicked: %v", p)
	}()
	return m(ctx, body, w)
}

// answer sends a result with status 200.
func (h *Handler) answer(w http.ResponseWriter, name string, v any) {
	body, err := json.Marshal(v)
	if err != nil {
		h.fail(w, name, http.StatusInternalServerError, fmt.Errorf("encode the answer: %w", err))
		return
	}
	send(w, http.StatusOK, body)
}

// fail sends an error as hosts understand it: in Err, and for IPAM also in
// Error, which Docker reads there.
func (h *Handler) fail(w http.ResponseWriter, name string, status int, err error) {
	h.log.Debug("call failed", "method", name, "status", status, "err", err)
	text := err.Error()
	if text == "" {
		text = http.StatusText(status)
	}
	failure := struct {
		Err   string
		Error string `json:",omitempty"`
	}{Err: text}
	if strings.HasPrefix(name, ipam.Name+".") {
		failure.Error = text
	}
	body, merr := json.Marshal(failure)
	if merr != nil { // strings can always be encoded
		body = []byte(`{"Err":"error"}`)
	}
	send(w, status, body)
}

func send(w http.ResponseWriter, status int, body []byte) {
	w.Header().Set("Content-Type", MediaType)
	w.WriteHeader(status)
	// If the caller is gone there is nobody to tell.
	_, _ = w.Write(append(body, '\n'))
}

// quote shortens what strangers send to what an error can show.
func quote(s string) string {
	if len(s) > 100 {
		s = strings.ToValidUTF8(s[:100], "") + "…"
	}
	return fmt.Sprintf("%q", s)
}

// Methods returns the names of all methods that are answered, in order.
func (h *Handler) Methods() []string {
	return slices.Sorted(maps.Keys(h.methods))
}
