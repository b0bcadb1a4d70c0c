package manager

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"strings"

	"github.com/containerd/errdefs"

	"github.com/outletd/outlet"
)

// Ref is a plugin somebody may use. It stays valid over restarts of the plugin;
// once the plugin is disabled or removed its calls fail.
type Ref struct{ u *unit }

// Name is the plugin's local name with its tag.
func (r Ref) Name() string { p, _ := r.u.look(); return p.Name }

// ID is the plugin's id.
func (r Ref) ID() string { return r.u.id }

// Plugin returns what is known of the plugin at this moment.
func (r Ref) Plugin() outlet.Plugin { return r.u.snapshot() }

// Client returns a client of the plugin. Calls made while the plugin is being
// started again wait until it is ready, within their own deadline.
func (r Ref) Client() Caller { return r.u.client }

// Caller calls a plugin's methods: args are encoded as JSON (nil: no body), the
// answer is decoded into ret (nil: ignored).
type Caller interface {
	Call(ctx context.Context, method string, args, ret any) error
}

// Acquire looks up the plugin that a consumer calls name and that provides the
// capability (for example "volumedriver"), and records h as one who holds it: a
// plugin with holders is not disabled without force. The same holder may
// acquire several times, and releases once. It holds the plugin until then, also
// while that is disabled by force.
//
// While the plugin is being upgraded, Acquire waits until either version runs
// again, or ctx ends, which is errdefs.ErrUnavailable.
//
// Ids and unique prefixes of at least 12 characters of them are names too. The
// errors are those of docs/spec/v1-plugins.md §7.1: a plugin that is not there
// is errdefs.ErrNotFound, so that the caller may look for a v1 plugin; one that
// is there but disabled, or of another kind, is not.
func (m *Manager) Acquire(ctx context.Context, name, capability string, h outlet.Holder) (Ref, error) {
	ref, err := m.Lookup(ctx, name, capability)
	if err != nil {
		return Ref{}, err
	}
	if h.Since.IsZero() {
		h.Since = m.now()
	}
	return ref, ref.u.hold(ctx, h)
}

// Hold records h as one who holds the plugin called name, whether it is enabled
// or not: it is for those who held it already when the manager was opened. A
// plugin that is being disabled or removed is errdefs.ErrConflict.
func (m *Manager) Hold(_ context.Context, name string, h outlet.Holder) error {
	u, err := m.find(name)
	if err != nil {
		return err
	}
	if h.Since.IsZero() {
		h.Since = m.now()
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.closing {
		return outlet.Errorf(errdefs.ErrConflict, "plugin %s found but disabled", u.plugin.Name)
	}
	u.addHolder(h)
	return nil
}

// Lookup is [Manager.Acquire] without a holder.
func (m *Manager) Lookup(_ context.Context, name, capability string) (Ref, error) {
	u, err := m.find(name)
	if err != nil {
		return Ref{}, err
	}
	p, _ := u.look()
	if !outlet.IsID(name) && p.Name != name && strings.HasPrefix(u.id, name) && len(name) < 12 {
		return Ref{}, errNoPlugin(name) // a short prefix of an id is not a driver's name
	}
	if !p.Enabled {
		return Ref{}, outlet.Errorf(errdefs.ErrConflict, "plugin %s found but disabled", p.Name)
	}
	if !provides(p, capability) {
		return Ref{}, outlet.Errorf(errdefs.ErrInvalidArgument, "plugin does not provide %q capability", capability)
	}
	return Ref{u}, nil
}

// ReleaseHolder removes a holder from the plugin called name (or with that id).
// It succeeds if the plugin is disabled or gone, or never had the holder.
func (m *Manager) ReleaseHolder(_ context.Context, name string, h outlet.Holder) error {
	u, err := m.find(name)
	if err != nil {
		if errdefs.IsNotFound(err) {
			return nil
		}
		return err
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	delete(u.holders, keyOf(h))
	u.tellReleased()
	m.revision.Add(1)
	return nil
}

// ByCapability returns the enabled plugins that provide the capability, sorted
// by name.
func (m *Manager) ByCapability(_ context.Context, capability string) []Ref {
	var refs []Ref
	for _, u := range m.all() {
		if p, _ := u.look(); p.Enabled && provides(p, capability) {
			refs = append(refs, Ref{u})
		}
	}
	slices.SortFunc(refs, func(a, b Ref) int { return cmp.Compare(a.Name(), b.Name()) })
	return refs
}

func provides(p outlet.Plugin, capability string) bool {
	return slices.ContainsFunc(p.Config.Interface.Types, func(t outlet.Capability) bool { return t.Matches(capability) })
}

func errNoPlugin(name string) error {
	return outlet.Errorf(errdefs.ErrNotFound, "plugin %q not found", name)
}

type holderKey struct{ kind, name string }

func keyOf(h outlet.Holder) holderKey { return holderKey{h.Kind, h.Name} }

// holders are those who use a plugin.
type holders map[holderKey]outlet.Holder

func (hs holders) list() []outlet.Holder {
	l := make([]outlet.Holder, 0, len(hs))
	for _, h := range hs {
		l = append(l, h)
	}
	slices.SortFunc(l, func(a, b outlet.Holder) int {
		return cmp.Or(cmp.Compare(a.Kind, b.Kind), cmp.Compare(a.Name, b.Name))
	})
	return l
}

// inUse is the error for a plugin that has holders. Its text begins as Docker's
// does, and goes on with who they are.
func (hs holders) inUse(name string) error {
	const most = 10
	var by []string
	for _, h := range hs.list() {
		if len(by) == most {
			by = append(by, "…")
			break
		}
		by = append(by, h.Kind+" "+h.Name)
	}
	return outlet.Errorf(errdefs.ErrConflict, "plugin %s is in use by %s", name, strings.Join(by, ", "))
}

// hold records h, unless the plugin is on its way out. While it is being
// upgraded hold waits.
func (u *unit) hold(ctx context.Context, h outlet.Holder) error {
	for {
		upgraded, err := u.tryHold(h)
		if upgraded == nil {
			return err
		}
		select {
		case <-upgraded:
		case <-u.ended:
			return errClosed
		case <-ctx.Done():
			return outlet.Errorf(errdefs.ErrUnavailable, "plugin %s is being upgraded: %w", u.id, ctx.Err())
		}
	}
}

// tryHold records h, or says what to wait for before trying again.
func (u *unit) tryHold(h outlet.Holder) (upgraded <-chan struct{}, err error) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.upgraded != nil {
		return u.upgraded, nil
	}
	if u.closing || !u.plugin.Enabled {
		return nil, outlet.Errorf(errdefs.ErrConflict, "plugin %s found but disabled", u.plugin.Name)
	}
	u.addHolder(h)
	return nil, nil
}

// addHolder adds h unless it is one already; u.mu is held.
func (u *unit) addHolder(h outlet.Holder) {
	if _, ok := u.holders[keyOf(h)]; !ok {
		u.holders[keyOf(h)] = h
		u.m.revision.Add(1)
	}
}

// beginClosing keeps anybody from taking hold of the plugin, or, unless force
// is set, refuses because somebody has.
func (u *unit) beginClosing(force bool) error {
	u.mu.Lock()
	defer u.mu.Unlock()
	if len(u.holders) > 0 && !force {
		return u.holders.inUse(u.plugin.Name)
	}
	u.closing = true
	return nil
}

// beginUpgrade is beginClosing for a plugin that comes back: if it is enabled,
// who wants it waits until endUpgrade.
func (u *unit) beginUpgrade() error {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.plugin.Enabled {
		if len(u.holders) > 0 {
			return u.holders.inUse(u.plugin.Name)
		}
		u.upgraded = make(chan struct{})
	}
	u.closing = true
	return nil
}

// endUpgrade may be called again.
func (u *unit) endUpgrade() {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.letIn()
}

// letIn lets those go on who wait for an upgrade; u.mu is held.
func (u *unit) letIn() {
	u.closing = false
	if u.upgraded != nil {
		close(u.upgraded)
		u.upgraded, u.replaced = nil, false
	}
}

// upgradeStarts says that whichever version becomes ready next is the one that
// stays.
func (u *unit) upgradeStarts() {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.replaced = u.upgraded != nil
}

// upgradeReady ends an upgrade as soon as the version that stays is ready: its
// handlers, which the upgrade waits for, may want to take hold of the plugin.
func (u *unit) upgradeReady() {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.replaced {
		u.letIn()
	}
}

// upgrading returns a channel that is closed when the upgrade that is under way
// is over, nil if there is none.
func (u *unit) upgrading() <-chan struct{} {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.upgraded
}

// released returns a channel that is closed when a holder lets go of the plugin,
// or the plugin of its holders; it is closed already if nobody holds it.
func (u *unit) released() <-chan struct{} {
	u.mu.Lock()
	defer u.mu.Unlock()
	c := make(chan struct{})
	if len(u.holders) == 0 || !u.plugin.Enabled {
		close(c)
	} else {
		u.letGo = append(u.letGo, c)
	}
	return c
}

// tellReleased tells those who wait for holders; u.mu is held.
func (u *unit) tellReleased() {
	for _, c := range u.letGo {
		close(c)
	}
	u.letGo = nil
}

// letHoldersBe says that the plugin does not wait for those who hold it: it is
// disabled by force, or gone.
func (u *unit) letHoldersBe() {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.tellReleased()
}

func (u *unit) endClosing() {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.closing = false
}

// waitReady waits until the plugin's socket accepts, as long as it is on its
// way there or being upgraded. changed is closed when that is no longer the last
// that is known.
func (u *unit) waitReady(ctx context.Context) (p outlet.Plugin, changed <-chan struct{}, err error) {
	for {
		upgraded := u.upgrading() // before looking: it is over only after the state is the last
		p, changed = u.look()
		switch p.Status.State {
		case outlet.StateRunning:
			return p, changed, nil
		case outlet.StateStarting, outlet.StateBackoff:
		case outlet.StateFailed:
			return p, changed, outlet.Errorf(errdefs.ErrUnavailable, "plugin %s failed: %s", p.Name, p.Status.Error)
		default:
			if upgraded == nil {
				return p, changed, outlet.Errorf(errdefs.ErrConflict, "plugin %s found but disabled", p.Name)
			}
		}
		select {
		case <-changed:
		case <-upgraded:
		case <-u.ended:
			return p, changed, errClosed
		case <-ctx.Done():
			err := ctx.Err()
			if p.Status.Error != "" {
				err = errors.Join(err, errors.New(p.Status.Error))
			}
			return p, changed, outlet.Errorf(errdefs.ErrUnavailable, "plugin %s is not ready: %w", p.Name, err)
		}
	}
}
