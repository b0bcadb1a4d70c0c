package plugins

import (
	"bytes"
	"context"
	"errors"
	"runtime"
	"time"
)

// handlerPatience bounds the wait for a handler that somebody else runs. It is
// reached only where that handler waits, in a goroutine of its own, for who is
// waiting here; then going on is better than standing still for ever.
const handlerPatience = 10 * time.Second

// A handler is one registration.
type handler struct {
	subsystem string
	fn        Handler
}

// A run is a handler called, or being called, for one activation. err is good
// when done is closed.
type run struct {
	done chan struct{}
	err  error
}

// ended says whether the handler returned.
func (r *run) ended() bool {
	select {
	case <-r.done:
		return true
	default:
		return false
	}
}

// errHandlerPanicked is what others see of a handler that did not return.
var errHandlerPanicked = errors.New("the handler panicked")

// Handle has fn called once for each activation of a plugin that serves the
// subsystem: for those that are active already before Handle returns, and for
// others before Get or GetAll return them. A plugin that was restarted is
// activated again, so fn has to replace what it made of the plugin before.
//
// If fn fails, Get and GetAll for that subsystem report it, and call it again
// the next time. fn may use the registry, also for the same plugin, best with
// the context it is given. The error joins those of plugins that are active.
func (r *Registry) Handle(ctx context.Context, subsystem string, fn Handler) error {
	h := &handler{subsystem, fn}
	r.mu.Lock()
	r.handlers[subsystem] = append(r.handlers[subsystem], h)
	var todo []task
	for _, e := range r.entries {
		if e.plugin != nil && e.plugin.Implements(subsystem) {
			todo = append(todo, e.claim(h))
		}
	}
	r.mu.Unlock()
	var errs []error
	for _, t := range todo {
		if err := r.perform(ctx, t); err != nil {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// A task is a handler that the holder of the task has to call.
type task struct {
	e *entry
	h *handler
	r *run
}

// claim makes the caller the one who calls h; the registry's mu is held.
func (e *entry) claim(h *handler) task {
	t := task{e, h, &run{done: make(chan struct{})}}
	e.runs[h] = t.r
	return t
}

// runHandlers calls the handlers of an active plugin that were not called yet,
// in the order of the manifest and of their registration, and those of the
// subsystem that failed. It waits for handlers that others call at the moment.
// The error joins the failures of the subsystem's handlers.
func (r *Registry) runHandlers(ctx context.Context, e *entry, subsystem string) error {
	for {
		todo, others := r.claimAll(e, subsystem)
		var errs []error
		for _, t := range todo {
			err := r.perform(ctx, t)
			switch {
			case err == nil:
			case t.h.subsystem == subsystem:
				errs = append(errs, err)
			default:
				r.log.WarnContext(ctx, "plugin handler failed", "plugin", e.name, "subsystem", t.h.subsystem, "error", err)
			}
		}
		again := false
		if len(others) > 0 && !r.isHandler(ctx) {
			var err error
			if again, err = waitRuns(ctx, subsystem, others); err != nil {
				errs = append(errs, err)
			}
		}
		if !again {
			return errors.Join(errs...)
		}
	}
}

// claimAll claims what is to be called, and returns what others call.
func (r *Registry) claimAll(e *entry, subsystem string) (todo []task, others []*run) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.handlers) == 0 {
		return nil, nil
	}
	seen := make(map[string]bool, len(e.plugin.Manifest.Implements))
	for _, s := range e.plugin.Manifest.Implements {
		if seen[s] {
			continue
		}
		seen[s] = true
		for _, h := range r.handlers[s] {
			switch done := e.runs[h]; {
			case done == nil:
				todo = append(todo, e.claim(h))
			case !done.ended():
				others = append(others, done)
			case done.err != nil && s == subsystem:
				todo = append(todo, e.claim(h))
			}
		}
	}
	return todo, others
}

// waitRuns waits for handlers that others call. It says whether one of them
// failed only because its caller went away, so that it is this caller's turn.
func waitRuns(ctx context.Context, subsystem string, runs []*run) (again bool, err error) {
	patience := time.NewTimer(handlerPatience)
	defer patience.Stop()
	var errs []error
	for _, o := range runs {
		select {
		case <-o.done:
		case <-ctx.Done():
			return false, ctx.Err()
		case <-patience.C:
			return false, nil
		}
		var h *HandlerError
		switch {
		case o.err == nil || !errors.As(o.err, &h) || h.Subsystem != subsystem:
		case errors.Is(o.err, context.Canceled) || errors.Is(o.err, context.DeadlineExceeded):
			again = true
		default:
			errs = append(errs, o.err)
		}
	}
	return again, errors.Join(errs...)
}

// perform calls a handler that was claimed.
func (r *Registry) perform(ctx context.Context, t task) (err error) {
	t.r.err = &HandlerError{t.e.name, t.h.subsystem, errHandlerPanicked}
	id := goroutineID()
	r.mu.Lock()
	r.inHandler[id]++
	r.mu.Unlock()
	defer func() {
		r.mu.Lock()
		if r.inHandler[id]--; r.inHandler[id] == 0 {
			delete(r.inHandler, id)
		}
		r.mu.Unlock()
		close(t.r.done)
	}()
	err = t.h.fn(context.WithValue(ctx, handlerKey{r}, true), t.e.name, t.e.plugin.client)
	if err != nil {
		err = &HandlerError{t.e.name, t.h.subsystem, err}
	}
	t.r.err = err
	return err
}

// handlerKey marks the contexts that a registry's handlers are given.
type handlerKey struct{ r *Registry }

// isHandler says whether the caller is a handler, which must not wait for other
// handlers: those may be waiting for it, or be itself. Handlers of Moby's kind
// have no context, so those are known by their goroutine.
func (r *Registry) isHandler(ctx context.Context) bool {
	if ctx.Value(handlerKey{r}) != nil {
		return true
	}
	id := goroutineID()
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.inHandler[id] > 0
}

// goroutineID is what the runtime calls the goroutine in a trace.
func goroutineID() string {
	var b [64]byte
	line := b[:runtime.Stack(b[:], false)]
	line = bytes.TrimPrefix(line, []byte("goroutine "))
	if i := bytes.IndexByte(line, ' '); i > 0 {
		line = line[:i]
	}
	return string(line)
}
