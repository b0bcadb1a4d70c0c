package plugins

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/outletd/outlet/plugins/tlsconfig"
)

// activateMethod is the handshake.
const activateMethod = "Plugin.Activate"

// maxManifest is the longest answer to the handshake, in bytes.
const maxManifest = 1 << 20

// An entry is one activation of one plugin: first an attempt that its waiters
// share, then, if that went well, the active plugin. It is in the registry's map
// until the attempt fails or a newer entry takes its place.
type entry struct {
	name   string
	cancel context.CancelFunc
	// tried is closed when the attempt failed for the first time, done when it
	// is over.
	tried, done chan struct{}
	// connected says that the plugin was reached.
	connected atomic.Bool
	// stale says that the plugin could not be reached any more.
	stale atomic.Bool

	// What follows is guarded by the registry's mu until done is closed, and
	// does not change afterwards, except for runs.
	sel       selected // what the attempt began with; later what its end is about
	budget    time.Duration
	waiters   int
	finished  bool
	firstErr  error
	firstFile fileID // the definition that firstErr is about
	err       error
	plugin    *Plugin
	// runs has the handlers that were called for this activation.
	runs map[*handler]*run
}

// join returns the entry for what was selected: the one that is there, if it is
// still good, or else a new one whose attempt begins. The caller has to wait for
// it or to leave it. budget is how long the caller wants the attempt to go on.
func (r *Registry) join(s selected, budget time.Duration) (*entry, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed {
		return nil, fmt.Errorf("plugin registry: %w", ErrClosed)
	}
	old := r.entries[s.name]
	if old != nil && old.usable(s) {
		old.waiters++
		old.budget = max(old.budget, budget)
		return old, nil
	}
	e := &entry{
		name: s.name, sel: s, budget: budget, waiters: 1,
		tried: make(chan struct{}), done: make(chan struct{}),
		runs: make(map[*handler]*run),
	}
	ctx, cancel := context.WithCancel(r.life)
	e.cancel = cancel
	r.entries[s.name] = e
	r.work.Go(func() {
		defer cancel()
		if old != nil {
			// Whoever still has the old plugin can go on calling it.
			old.plugin.client.CloseIdleConnections()
		}
		r.attempt(ctx, e)
	})
	return e, nil
}

// usable says whether the entry answers for what was selected; the registry's
// mu is held.
func (e *entry) usable(s selected) bool {
	return !e.finished || e.sel.file == s.file && !e.stale.Load()
}

// superseded returns the definition there is now, if an attempt that is over, and
// that began before s was selected, was for another one than either.
func (r *Registry) superseded(e *entry, s selected) (selected, bool) {
	if e.sel.file == s.file {
		return s, false
	}
	now, err := r.dirs().find(e.name)
	return now, err == nil && now.file != e.sel.file
}

// active returns the active entry for what was selected, or nil.
func (r *Registry) active(s selected) *entry {
	r.mu.Lock()
	defer r.mu.Unlock()
	if e := r.entries[s.name]; e != nil && e.finished && e.usable(s) {
		return e
	}
	return nil
}

// wait waits for the attempt of an entry that was joined.
func (r *Registry) wait(ctx context.Context, e *entry) (*Plugin, error) {
	defer r.leave(e)
	select {
	case <-e.done:
		return e.plugin, e.err
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// leave takes a waiter away. An attempt without any is given up.
func (r *Registry) leave(e *entry) {
	r.mu.Lock()
	defer r.mu.Unlock()
	e.waiters--
	if e.waiters > 0 || e.finished {
		return
	}
	if r.entries[e.name] == e {
		delete(r.entries, e.name)
	}
	e.cancel()
}

// attempt activates the plugin, again and again within its budget.
func (r *Registry) attempt(ctx context.Context, e *entry) {
	var retry schedule
	retry.start = time.Now()
	s := e.sel
	for {
		p, err := r.activate(ctx, e, s)
		if err == nil {
			r.succeed(e, s, p)
			return
		}
		delay, ok := r.another(ctx, e, s, &retry, err)
		if !ok {
			return
		}
		r.log.WarnContext(ctx, "unable to activate plugin", "plugin", e.name, "error", err, "retry_in", delay)
		before := s.file
		// That the pause was cut short shows in the next attempt.
		_ = r.pause(ctx, e.name, delay, func() bool {
			now, err := r.dirs().find(e.name)
			return err == nil && now.file != before
		})
		if now, err := r.dirs().find(e.name); err == nil {
			s = now
		}
	}
}

// another decides whether a failed attempt goes on, and ends it if not.
func (r *Registry) another(ctx context.Context, e *entry, s selected, retry *schedule, err error) (time.Duration, bool) {
	r.mu.Lock()
	if e.firstErr == nil {
		e.firstErr, e.firstFile = err, s.file
		close(e.tried)
	}
	retry.budget = e.budget
	if ctx.Err() == nil && canRetry(err) {
		if delay, ok := retry.next(); ok {
			r.mu.Unlock()
			return delay, true
		}
	}
	// Another attempt for the name may have begun; it is not this one's to
	// remove.
	if r.entries[e.name] == e {
		delete(r.entries, e.name)
	}
	if r.life.Err() != nil {
		err = fmt.Errorf("plugin registry: %w", ErrClosed)
	}
	e.finished, e.sel, e.err = true, s, err
	r.mu.Unlock()
	if ctx.Err() == nil {
		r.remember(e.name, s.file, err)
	}
	close(e.done)
	return 0, false
}

// succeed publishes an active plugin.
func (r *Registry) succeed(e *entry, s selected, p *Plugin) {
	r.mu.Lock()
	e.stale.Store(false)
	e.finished, e.sel, e.plugin = true, s, p
	left := r.entries[e.name] != e
	delete(r.failures, e.name)
	close(e.done)
	r.mu.Unlock()
	if left {
		// Its waiters went away at the last moment, and nobody else knows it.
		p.client.CloseIdleConnections()
	}
	r.log.Debug("plugin is active", "plugin", e.name, "address", p.Addr, "implements", p.Manifest.Implements)
}

// canRetry says whether it makes sense to try the same again.
func canRetry(err error) bool {
	var t *TransportError
	if errors.As(err, &t) {
		return t.retry
	}
	var a *ActivationError
	if errors.As(err, &a) {
		return false
	}
	var d *definitionError
	// A file may be half written, or gone while its plugin restarts.
	return errors.As(err, &d) || errors.Is(err, fs.ErrNotExist) || errors.Is(err, ErrNotFound)
}

// activate reads the definition and shakes hands, once.
func (r *Registry) activate(ctx context.Context, e *entry, s selected) (*Plugin, error) {
	def, err := s.read()
	if err != nil {
		return nil, err
	}
	client, err := r.clientFor(def, def.Address, e)
	if err != nil {
		return nil, &ActivationError{Name: e.name, Address: def.Addr, Err: err}
	}
	m, err := handshake(ctx, client)
	if IsNotFound(err) && def.Address.Base != "" {
		// Docker's hosts drop the path of an address, so there are definitions
		// whose path nobody serves.
		root := def.Address
		root.Base = ""
		other, cerr := r.clientFor(def, root, e)
		if cerr != nil {
			return nil, &ActivationError{Name: e.name, Address: def.Addr, Err: cerr}
		}
		if m2, err2 := handshake(ctx, other); err2 == nil {
			r.log.WarnContext(ctx, "plugin is not served at the path of its address, but at the root",
				"plugin", e.name, "address", def.Addr)
			client.CloseIdleConnections()
			client, m, err = other, m2, nil
		} else {
			other.CloseIdleConnections()
		}
	}
	if err != nil {
		client.CloseIdleConnections()
		return nil, &ActivationError{Name: e.name, Address: def.Addr, Err: err}
	}
	return &Plugin{
		name: e.name, origin: def.Path, Addr: def.Addr, TLSConfig: def.TLS, Manifest: m, client: client,
	}, nil
}

func handshake(ctx context.Context, c *Client) (*Manifest, error) {
	m := new(Manifest)
	err := c.CallContext(ctx, activateMethod, nil, m, WithRetryBudget(-1), WithMaxAnswer(maxManifest))
	if err != nil {
		return nil, err
	}
	return m, nil
}

// clientFor makes a client as the definition demands.
func (r *Registry) clientFor(def Definition, addr Address, e *entry) (*Client, error) {
	opts := r.cfg.Client
	var err error
	if opts.TLS, err = r.tlsOf(def, addr); err != nil {
		return nil, err
	}
	dial := opts.DialContext
	if dial == nil {
		dial = dialSystem
	}
	opts.DialContext = func(ctx context.Context, network, address string) (net.Conn, error) {
		nc, err := dial(ctx, network, address)
		switch {
		case err == nil:
			e.connected.Store(true)
		case errors.Is(err, syscall.ECONNREFUSED), errors.Is(err, fs.ErrNotExist):
			// The next use looks at the definition again, and shakes hands.
			e.stale.Store(true)
		}
		return nc, err
	}
	return newClient(addr, opts), nil
}

// tlsOf is how a plugin is verified (docs/spec/v1-plugins.md §2.5); nil means
// that nothing was said: the roots of the system for https, else no TLS.
func (r *Registry) tlsOf(def Definition, addr Address) (*tls.Config, error) {
	if addr.IsLocal() {
		if def.TLS != nil {
			r.log.Warn("TLSConfig has no effect on a local address", "plugin", def.Name, "file", def.Path)
		}
		return nil, nil
	}
	options := def.TLS
	if r.cfg.LegacyTLS && addr.Scheme == "https" {
		switch {
		case def.Kind == KindSpec:
			options = &tlsconfig.Options{InsecureSkipVerify: true}
		case options != nil && options.CAFile == "":
			o := *options
			o.InsecureSkipVerify = true
			options = &o
		}
		if options != nil && options.InsecureSkipVerify {
			r.log.Warn("plugin is not verified, as Docker does not verify it", "plugin", def.Name, "file", def.Path)
		}
	}
	if options == nil {
		return nil, nil
	}
	return tlsconfig.Client(*options)
}
