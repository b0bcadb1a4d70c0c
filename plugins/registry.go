package plugins

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"
)

// Defaults of Config.
const (
	// DefaultProbeConnectTimeout is how long GetAll waits for a connection.
	DefaultProbeConnectTimeout = 2 * time.Second
	// DefaultProbeTimeout is how long GetAll waits for an activation.
	DefaultProbeTimeout = 5 * time.Second
	// DefaultProbes is how many activations GetAll has under way at once.
	DefaultProbes = 64
	// DefaultFailureMemory is how long GetAll remembers that a plugin failed.
	DefaultFailureMemory = 30 * time.Second
)

// slowProbe is when an activation that has no answer yet makes room for others
// to be started beside it.
const slowProbe = 250 * time.Millisecond

// Config says where a registry looks and how it behaves. The zero value is
// Docker's places and its patience.
type Config struct {
	// SocketDir is where sockets are. Empty means DefaultSocketDir.
	SocketDir string
	// SpecDirs is where spec and JSON files are, first match first. Nil means
	// what SpecsPaths returns whenever the registry looks.
	SpecDirs []string
	// Client is for the clients of the plugins. Its TLS is ignored: plugins say
	// themselves how they are verified.
	Client ClientOptions
	// RetryBudget bounds the time in which Get waits for a definition to
	// appear, and in which it tries to reach a plugin that is defined
	// (docs/spec/v1-plugins.md §4.2). Zero means DefaultRetryBudget, a negative
	// value one try.
	RetryBudget time.Duration
	// ProbeConnectTimeout, ProbeTimeout and Probes bound GetAll. Zero means
	// their defaults.
	ProbeConnectTimeout, ProbeTimeout time.Duration
	Probes                            int
	// FailureMemory is how long GetAll leaves a plugin alone after it failed
	// and its definition did not change. Zero means DefaultFailureMemory, a
	// negative value none.
	FailureMemory time.Duration
	// LegacyTLS restores what Docker does about https plugins: it never
	// verifies those of spec files, and those of JSON files only if their
	// TLSConfig is absent or names a CAFile. Each such activation is logged as
	// a warning.
	LegacyTLS bool
	// Logger gets warnings about retries, definitions and handlers. Nil means
	// none.
	Logger *slog.Logger
}

// Handler is called when a plugin that serves a subsystem becomes active.
type Handler func(ctx context.Context, name string, client *Client) error

// Registry finds plugins by name, activates them when they are first used and
// keeps them. It is safe for concurrent use. No lock is held while it talks to
// a plugin, reads a file or runs a handler.
type Registry struct {
	cfg Config
	log *slog.Logger
	// life ends with Close, and with it every activation.
	life   context.Context //nolint:containedctx // beside its cancel
	cancel context.CancelFunc
	work   sync.WaitGroup
	slots  chan struct{}
	watch  watcher

	// mu guards what follows. It is the only lock of the registry; the watcher
	// has its own, which is never taken while mu is held.
	mu       sync.Mutex
	closed   bool
	entries  map[string]*entry
	failures map[string]remembered
	handlers map[string][]*handler
	// inHandler are the goroutines that run handlers at the moment.
	inHandler map[string]int
	onError   func(error)
}

// remembered is a failed activation.
type remembered struct {
	file fileID
	err  error
	at   time.Time
}

// New returns a registry. It starts nothing. Close ends what it has under way.
func New(cfg Config) (*Registry, error) {
	if cfg.Probes < 0 || cfg.ProbeTimeout < 0 || cfg.ProbeConnectTimeout < 0 {
		return nil, errors.New("plugins: the bounds of GetAll cannot be negative")
	}
	setDefault(&cfg.SocketDir, DefaultSocketDir)
	setDefault(&cfg.RetryBudget, DefaultRetryBudget)
	setDefault(&cfg.ProbeConnectTimeout, DefaultProbeConnectTimeout)
	setDefault(&cfg.ProbeTimeout, DefaultProbeTimeout)
	setDefault(&cfg.Probes, DefaultProbes)
	setDefault(&cfg.FailureMemory, DefaultFailureMemory)
	if cfg.SpecDirs != nil {
		cfg.SpecDirs = append([]string{}, cfg.SpecDirs...)
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	if cfg.Client.Logger == nil {
		cfg.Client.Logger = cfg.Logger
	}
	r := &Registry{
		cfg: cfg, log: cfg.Logger,
		slots:     make(chan struct{}, cfg.Probes),
		entries:   make(map[string]*entry),
		failures:  make(map[string]remembered),
		handlers:  make(map[string][]*handler),
		inHandler: make(map[string]int),
	}
	r.life, r.cancel = context.WithCancel(context.Background())
	return r, nil
}

func setDefault[T comparable](p *T, v T) {
	var zero T
	if *p == zero {
		*p = v
	}
}

// Close ends activations that are under way, waits for them and closes the
// clients of all plugins. Later uses fail with an error that matches ErrClosed.
func (r *Registry) Close() error {
	r.mu.Lock()
	r.closed = true
	entries := r.entries
	r.entries = make(map[string]*entry)
	r.mu.Unlock()
	r.cancel()
	r.work.Wait()
	for _, e := range entries {
		if e.plugin != nil {
			_ = e.plugin.client.Close() // cannot fail
		}
	}
	return nil
}

// dirs are the places to look at now.
func (r *Registry) dirs() dirs {
	specs := r.cfg.SpecDirs
	if specs == nil {
		specs = SpecsPaths()
	}
	return dirs{sockets: r.cfg.SocketDir, specs: specs}
}

// Scan returns the names of all plugins that Lookup finds, without activating
// any: sockets first, then each spec directory, in lexical order. The error
// joins what could not be read; the names are good beside it.
func (r *Registry) Scan() ([]string, error) {
	var names []string
	err := r.dirs().scan(func(s selected) error {
		if _, err := s.read(); err != nil {
			return err
		}
		names = append(names, s.name)
		return nil
	})
	return names, err
}

// Definitions returns what Scan finds, in full.
func (r *Registry) Definitions() ([]Definition, error) {
	var all []Definition
	err := r.dirs().scan(func(s selected) error {
		def, err := s.read()
		if err != nil {
			return err
		}
		all = append(all, def)
		return nil
	})
	return all, err
}

// Lookup reads the definition of a plugin, without activating it. An error that
// matches ErrNotFound means that there is none; any other, that there is one
// which cannot be used.
func (r *Registry) Lookup(name string) (Definition, error) {
	return r.dirs().lookup(name)
}

// GetOption changes one call of Get.
type GetOption func(*getOptions)

type getOptions struct {
	budget   time.Duration
	progress func(err error, next time.Duration)
}

// WithBudget sets the time in which Get waits for a definition to appear, and
// in which it tries to reach the plugin; zero means one try of each.
func WithBudget(d time.Duration) GetOption {
	return func(o *getOptions) { o.budget = d }
}

// WithProgress calls f before each time that Get waits for a definition to
// appear, with the reason and the time until the next look.
func WithProgress(f func(err error, next time.Duration)) GetOption {
	return func(o *getOptions) { o.progress = f }
}

// Get returns the plugin of the name, active and serving the subsystem, and
// with the handlers of its subsystems run. It waits for a plugin that is not
// there yet, as Config.RetryBudget says; a definition file that appears ends
// the wait early, and so does ctx.
//
// The error matches ErrNotFound if nothing defines the plugin, and
// ErrNotImplements if it does not serve the subsystem; it is an
// *ActivationError if the plugin cannot be activated, and a *HandlerError if a
// handler of the subsystem failed.
func (r *Registry) Get(ctx context.Context, name, subsystem string, opts ...GetOption) (*Plugin, error) {
	if name == "" {
		return nil, errors.New("Unable to find plugin without name") //nolint:staticcheck // the text is Docker's
	}
	o := getOptions{budget: r.cfg.RetryBudget}
	for _, f := range opts {
		f(&o)
	}
	s, err := r.await(ctx, name, o)
	if err != nil {
		return nil, err
	}
	r.forget(name)
	var e *entry
	var p *Plugin
	for again := true; again; {
		e, err = r.join(s, max(o.budget, 0)) //nolint:contextcheck // the attempt is shared: no single caller's context ends it
		if err != nil {
			return nil, err
		}
		if p, err = r.wait(ctx, e); err != nil && ctx.Err() != nil {
			return nil, err
		}
		s, again = r.superseded(e, s)
	}
	if err != nil {
		return nil, err
	}
	if err := r.runHandlers(ctx, e, subsystem); err != nil {
		return nil, err
	}
	if !p.Implements(subsystem) {
		return nil, fmt.Errorf("%w: plugin=%q, requested implementation=%q", ErrNotImplements, name, subsystem)
	}
	return p, nil
}

// await waits until a file defines the name.
func (r *Registry) await(ctx context.Context, name string, o getOptions) (selected, error) {
	retry := schedule{start: time.Now(), budget: o.budget}
	for {
		if err := r.alive(ctx); err != nil {
			return selected{}, err
		}
		s, err := r.dirs().find(name)
		if err == nil {
			return s, nil
		}
		delay, ok := retry.next()
		if !ok || !ValidName(name) {
			return selected{}, err
		}
		r.log.WarnContext(ctx, "unable to locate plugin", "plugin", name, "retry_in", delay)
		if o.progress != nil {
			o.progress(err, delay)
		}
		if err := r.pause(ctx, name, delay, func() bool {
			_, err := r.dirs().find(name)
			return err == nil
		}); err != nil {
			return selected{}, err
		}
	}
}

// alive says whether the registry and ctx are.
func (r *Registry) alive(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if r.life.Err() != nil {
		return fmt.Errorf("plugin registry: %w", ErrClosed)
	}
	return nil
}

// pause waits for d, or until something in the directories changes and changed
// says that the change matters.
func (r *Registry) pause(ctx context.Context, name string, d time.Duration, changed func() bool) error {
	t := time.NewTimer(d)
	defer t.Stop()
	session := r.watch.open(r.dirs(), name)
	defer session.close()
	for {
		event := session.next()
		if changed() {
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-r.life.Done():
			return fmt.Errorf("plugin registry: %w", ErrClosed)
		case <-t.C:
			return nil
		case <-event:
		}
	}
}

// forget makes the next GetAll try a plugin again that failed.
func (r *Registry) forget(name string) {
	r.mu.Lock()
	delete(r.failures, name)
	r.mu.Unlock()
}

// remember makes GetAll leave a plugin alone for a while.
func (r *Registry) remember(name string, file fileID, err error) {
	if r.cfg.FailureMemory < 0 {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	now := time.Now()
	for n, f := range r.failures {
		if now.Sub(f.at) >= r.cfg.FailureMemory {
			delete(r.failures, n)
		}
	}
	r.failures[name] = remembered{file, err, now}
}
