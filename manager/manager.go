// Package manager runs Docker's managed plugins: it creates them from archives,
// keeps them on disk, starts each in a container, watches over it, starts it
// again when it ends, and hands out clients to those who use it.
//
// A program that embeds it makes one with [New], opens it with [Manager.Open],
// and closes it with [Manager.Close]. Plugins outlive the manager if
// [Config.LiveRestore] says so; the next manager on the same directories finds
// them again.
//
// There is no HTTP server in it, no signal handling, no configuration file and
// no global state: the daemon adds those. It does not make its process a
// subreaper either; without one, how a plugin ended may not be known.
package manager

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/containerd/errdefs"

	"github.com/outletd/outlet"
	"github.com/outletd/outlet/internal/host"
	"github.com/outletd/outlet/internal/ocispec"
	"github.com/outletd/outlet/internal/pluginlog"
	"github.com/outletd/outlet/internal/probe"
	"github.com/outletd/outlet/internal/registry"
	"github.com/outletd/outlet/internal/rootfs"
	"github.com/outletd/outlet/internal/runtime"
	"github.com/outletd/outlet/internal/store"
)

// These are what a program needs to bring parts of its own.
type (
	// Runtime runs the containers of plugins.
	Runtime = runtime.Runtime
	// Task is a container that a [Runtime] started.
	Task = runtime.Task
	// Bundle is what a [Runtime] starts.
	Bundle = runtime.Bundle
	// RuntimeInfo describes a [Runtime].
	RuntimeInfo = runtime.Info
	// Limits bounds what an archive may make a manager write or remember.
	Limits = rootfs.Limits
	// Resources bounds what a plugin may use of the host; 0 is no limit.
	Resources = ocispec.Limits
)

// AuthzChain is the chain of authorization plugins of the program. The manager
// takes a plugin out of it before it stops it, and asks for it to be put back
// at its place when it is ready again.
type AuthzChain interface {
	Remove(name string)
	Restore(name string)
}

// Config says where a manager keeps things and how it runs plugins.
type Config struct {
	// Root is the directory of what lasts: records, content, what plugins
	// write. One manager at a time uses it.
	Root string
	// ExecRoot is the directory of what lasts until the host is restarted:
	// sockets and bundles. It should be short, since it is part of the path of
	// each plugin's socket.
	ExecRoot string
	// Runtime runs the plugins; required.
	Runtime Runtime
	// Snapshotter is "overlayfs", "native", or "" for what works here.
	Snapshotter string
	// LiveRestore lets plugins go on when the manager is closed.
	LiveRestore bool
	// StartTimeout bounds the wait for a plugin's socket where its user does
	// not say; 0 is 15 s.
	StartTimeout time.Duration
	// StopTimeout is how long a plugin may take to end after SIGTERM before it
	// is killed; 0 is 10 s.
	StopTimeout time.Duration
	// Limits bounds archives; fields that are 0 take their defaults.
	Limits Limits
	// Output bounds what is kept of what a plugin prints; its Dir is not used.
	Output OutputLimits
	// Resources bounds each plugin.
	Resources Resources
	// HonourUser runs plugins as the User of their config, which Docker
	// ignores.
	HonourUser bool
	// NoNewPrivileges and ReadonlyRootfs restrict every plugin.
	NoNewPrivileges, ReadonlyRootfs bool
	// CgroupParent is the cgroup that those of plugins are made in; "" is
	// "/outlet".
	CgroupParent string
	// AuthzChain, if not nil, is kept in step with authorization plugins.
	AuthzChain AuthzChain
	// Registry says how registries are reached; its Logger is not used.
	Registry RegistryConfig
	// MaxDownloads bounds the layers that one pull downloads at the same time;
	// 0 is 3. MaxUploads does so for a push; 0 is 5.
	MaxDownloads, MaxUploads int
	// Admit, if not nil, may refuse a plugin before its layers are downloaded or
	// unpacked: on install, upgrade and load, and an image that is to become one.
	// signatures gives those that are beside it.
	Admit func(ctx context.Context, p outlet.RemotePlugin, signatures FindSignatures) error
	// AdmitSource, if not nil, may refuse a reference before its registry is
	// asked for anything. What it lets pass Admit is still asked about.
	AdmitSource func(reference string) error
	// AdmitSettings, if not nil, may refuse the privileges that settings give a
	// plugin that came from reference.
	AdmitSettings func(reference string, p outlet.Privileges) error
	// EventLogger, if not nil, is told of what users did: pull, create, enable,
	// disable, remove (docs/spec/managed-plugins.md §8). It must not block.
	EventLogger func(action, id, name string)
	// Supervised, if not nil, is told of what nobody asked for: [EventDie] and
	// [EventRestart]. It must not block.
	Supervised func(Event)
	// Logger is told what an operator should know; nil discards.
	Logger *slog.Logger
}

// OutputLimits bounds what is kept of what a plugin prints.
type OutputLimits struct {
	MaxSize  int64 // of one file, in bytes; 0 is 10 MiB
	MaxFiles int   // 0 is 3
	// LinesPerSecond is above what lines are dropped; 0 is 10,000, negative is
	// no limit.
	LinesPerSecond int64
}

const (
	defaultStartTimeout = 15 * time.Second
	defaultStopTimeout  = 10 * time.Second
	killTimeout         = 10 * time.Second // for what SIGKILL must end
	defaultHandlersFor  = 5 * time.Second  // less than busyAfter: a disable that waits gets its turn
	bootStarts          = 4                // plugins started at the same time when a manager is opened
)

// Manager manages the plugins of one root. All methods are safe for concurrent
// use. A plugin's name is its local name with or without the tag, its id, or a
// unique prefix of that.
type Manager struct {
	cfg    Config
	log    *slog.Logger
	now    func() time.Time
	rt     Runtime
	rtInfo RuntimeInfo
	host   host.Host
	facts  host.Facts
	picker *pluginlog.Picker
	prober *probe.Prober
	store  *store.Store
	// execLock keeps other managers out of the exec root: to them its plugins
	// are strays.
	execLock *os.File
	events   publisher

	registry *registry.Client

	revision atomic.Uint64 // see Revision

	ctx    context.Context //nolint:containedctx // of everything that runs until Close, beside its cancel
	cancel context.CancelFunc
	wg     sync.WaitGroup
	gc     collections
	// handlersFor is how long an enable waits for the handlers of a capability.
	handlersFor time.Duration
	boot        chan struct{} // a place for each start at boot
	maxDoubts   int           // see [maxDoubts]

	mu       sync.RWMutex
	ops      sync.WaitGroup   // operations of users; none is added once closed is set
	units    map[string]*unit // by id
	reserved map[string]struct{}
	hooks    hooks
	closed   bool
}

// New checks cfg and returns a manager that does nothing yet.
func New(cfg Config) (*Manager, error) {
	var errs []error
	for _, dir := range []struct{ name, path string }{{"Root", cfg.Root}, {"ExecRoot", cfg.ExecRoot}} {
		if !filepath.IsAbs(dir.path) {
			errs = append(errs, outlet.Errorf(errdefs.ErrInvalidArgument, "%s must be an absolute path, not %q", dir.name, dir.path))
		}
	}
	if cfg.Runtime == nil {
		errs = append(errs, outlet.Errorf(errdefs.ErrInvalidArgument, "a Runtime is required"))
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	cfg.Root, cfg.ExecRoot = filepath.Clean(cfg.Root), filepath.Clean(cfg.ExecRoot)
	cfg.StartTimeout = cmp.Or(cfg.StartTimeout, defaultStartTimeout)
	cfg.StopTimeout = cmp.Or(cfg.StopTimeout, defaultStopTimeout)
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	m := &Manager{
		cfg:         cfg,
		log:         cfg.Logger,
		now:         time.Now,
		rt:          cfg.Runtime,
		prober:      probe.New(),
		gc:          newCollections(),
		handlersFor: defaultHandlersFor,
		boot:        make(chan struct{}, bootStarts),
		maxDoubts:   maxDoubts,
		units:       make(map[string]*unit),
		reserved:    make(map[string]struct{}),
	}
	cfg.Registry.Logger = cfg.Logger
	var err error
	if m.registry, err = registry.New(cfg.Registry); err != nil {
		return nil, err
	}
	m.ctx, m.cancel = context.WithCancel(context.Background())
	return m, nil
}

// Subscribe returns a channel of the events that pass one of the filters (all
// events, if there are none), and a function that ends the subscription. A
// subscriber whose buffer is full misses events and is told so with
// [EventLost].
func (m *Manager) Subscribe(buffer int, filters ...EventFilter) (<-chan Event, func()) {
	return m.events.subscribe(buffer, filters)
}

// Store is the store of the manager, for parts of the same program that keep
// their own records in it. It is nil before [Manager.Open].
func (m *Manager) Store() *store.Store { return m.store }

// RuntimeInfo describes what runs the plugins. It is empty before
// [Manager.Open].
func (m *Manager) RuntimeInfo() RuntimeInfo { return m.rtInfo }

// SetLiveRestore changes [Config.LiveRestore] of an open manager.
func (m *Manager) SetLiveRestore(on bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.cfg.LiveRestore = on
}

func (m *Manager) liveRestore() bool {
	m.mu.RLock()
	defer m.mu.RUnlock()
	return m.cfg.LiveRestore
}

// Revision is a number that is another one after anything changed that
// [Manager.List] or [Manager.Inspect] show: it changes after the change can be
// seen, and before the call that made it returns.
func (m *Manager) Revision() uint64 { return m.revision.Load() }

// enter counts an operation that Close waits for, because it uses the store.
// Once Close has begun there are no new ones.
func (m *Manager) enter() (leave func(), err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.closed {
		return nil, errClosed
	}
	m.ops.Add(1)
	return sync.OnceFunc(m.ops.Done), nil
}

func (m *Manager) isClosed() bool {
	m.mu.RLock()
	defer m.mu.RUnlock()
	return m.closed
}

// all returns the units, in no order.
func (m *Manager) all() []*unit {
	m.mu.RLock()
	defer m.mu.RUnlock()
	l := make([]*unit, 0, len(m.units))
	for _, u := range m.units {
		l = append(l, u)
	}
	return l
}

// find resolves what a user typed (docs/spec/managed-plugins.md §5.4).
func (m *Manager) find(name string) (*unit, error) {
	units := m.all()
	slices.SortFunc(units, func(a, b *unit) int { return strings.Compare(a.id, b.id) })
	known := make([]outlet.Identity, len(units))
	for i, u := range units {
		p, _ := u.look()
		known[i] = outlet.Identity{ID: u.id, Name: p.Name}
	}
	i, err := outlet.Resolve(name, known)
	if err != nil {
		return nil, err
	}
	return units[i], nil
}

// supervised tells the world what became of a plugin by itself.
func (m *Manager) supervised(kind EventKind, p outlet.Plugin) {
	e := Event{Kind: kind, Plugin: p}
	m.events.publish(e)
	if m.cfg.Supervised != nil {
		m.cfg.Supervised(e)
	}
}

func (m *Manager) logEvent(action, id, name string) {
	if outlet.IsID(id) { // else it is a remote reference
		m.log.Info("plugin "+action, "plugin", name, "id", shortID(id))
	} else {
		m.log.Info("plugin "+action, "plugin", name, "from", id)
	}
	if m.cfg.EventLogger != nil {
		m.cfg.EventLogger(action, id, name)
	}
}

// launchUnit makes a unit known and starts its loop.
func (m *Manager) launchUnit(u *unit) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.closed {
		return errClosed
	}
	m.units[u.id] = u
	m.revision.Add(1)
	u.ctx, u.cancel = context.WithCancel(m.ctx)
	go u.run(u.ctx) // ended and waited for by u.close
	return nil
}

const shortIDLen = 12

func shortID(id string) string { return id[:min(shortIDLen, len(id))] }

// isShortID says whether s can be what [shortID] makes of an id.
func isShortID(s string) bool {
	return len(s) == shortIDLen && strings.Trim(s, "0123456789abcdef") == ""
}

// pluginOf is the public face of a record.
func pluginOf(r store.Record) outlet.Plugin {
	r = r.Clone()
	return outlet.Plugin{
		Config:          r.Config,
		Enabled:         r.Enabled,
		ID:              r.ID,
		Name:            r.Name,
		PluginReference: r.Reference,
		Settings:        r.Settings,
	}
}
