package manager

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/containerd/errdefs"

	"github.com/outletd/outlet"
	"github.com/outletd/outlet/internal/store"
)

// List returns the plugins that f selects, sorted by name.
func (m *Manager) List(_ context.Context, f outlet.ListFilter) ([]outlet.Plugin, error) {
	list := []outlet.Plugin{}
	for _, u := range m.all() {
		p, _ := u.look()
		ok, err := f.Match(p)
		if err != nil {
			return nil, err
		}
		if ok {
			list = append(list, u.snapshot())
		}
	}
	slices.SortFunc(list, func(a, b outlet.Plugin) int { return strings.Compare(a.Name, b.Name) })
	return list, nil
}

// Inspect returns one plugin, by its name, its id, or a unique prefix of that.
func (m *Manager) Inspect(_ context.Context, name string) (outlet.Plugin, error) {
	u, err := m.find(name)
	if err != nil {
		return outlet.Plugin{}, err
	}
	return u.snapshot(), nil
}

// Privileges returns what a plugin that is here asks for.
func (m *Manager) Privileges(ctx context.Context, name string) (outlet.Privileges, error) {
	p, err := m.Inspect(ctx, name)
	if err != nil {
		return nil, err
	}
	return outlet.RequiredPrivileges(p.Config), nil
}

// begin resolves name and takes the plugin's operation lock, until the function
// it returns is called. The plugin may be gone by the time the lock is had: that
// is looked at again.
func (m *Manager) begin(ctx context.Context, name, op string) (*unit, func(), error) {
	u, err := m.find(name)
	if err != nil {
		return nil, nil, err
	}
	leave, err := m.enter()
	if err != nil {
		return nil, nil, err
	}
	p, _ := u.look()
	unlock, err := u.ops.lock(ctx, p.Name, op)
	if err != nil {
		leave()
		return nil, nil, err
	}
	end := func() { unlock(); leave() }
	m.mu.RLock()
	_, there := m.units[u.id]
	m.mu.RUnlock()
	if !there {
		end()
		return nil, nil, errNoPlugin(name)
	}
	return u, end, nil
}

// Enable starts a plugin and returns once its socket accepts. If it does not
// get there, the error says why, and the plugin is left disabled with nothing
// of it running. ctx ending aborts the start.
//
// An enabled plugin is errdefs.ErrConflict; what the config lacks, or the host
// does, errdefs.ErrInvalidArgument.
func (m *Manager) Enable(ctx context.Context, name string, o outlet.EnableOptions) error {
	u, unlock, err := m.begin(ctx, name, "enable")
	if err != nil {
		return err
	}
	defer unlock()

	started := make(chan error, 1)
	var refused error
	err = u.do(func() {
		l := &u.life
		switch {
		case m.isClosed(): // whoever closes has looked already at what is to be stopped
			refused = errClosed
		case l.rec.Enabled:
			refused = outlet.Errorf(errdefs.ErrConflict, "plugin already enabled: plugin %s is enabled", l.rec.Name)
		case l.state != outlet.StateDisabled:
			refused = outlet.Errorf(errdefs.ErrUnavailable, "plugin %s failed: %s", l.rec.Name, l.failure)
		default:
			l.rec.Timeout, l.rec.StartTimeout = o.Timeout, o.StartTimeout
			l.started = append(l.started, started)
			u.beginLaunch(u.ctx, launchFirst)
		}
	})
	if err != nil || refused != nil {
		return firstOf(refused, err)
	}
	select {
	case err = <-started:
	case <-u.done:
		err = u.await(started)
	case <-ctx.Done():
		stopped := make(chan error, 1)
		if err := u.do(func() { u.beginStop(u.ctx, stopped) }); err == nil {
			_ = u.await(stopped) // what is wrong shows in the plugin's state
		}
		_ = u.await(started) // it is given up in any case
		if err := m.setEnabled(context.WithoutCancel(ctx), u, false); err != nil {
			return err
		}
		return ctx.Err()
	}
	if err != nil {
		return err
	}
	m.afterChange(u, EventEnable, "enable")
	return nil
}

// Disable stops a plugin and returns once nothing of it runs any more. A plugin
// that somebody holds is errdefs.ErrConflict unless force is set; then its holders
// go on to hold it: it is not removed without force, and not disabled again once
// it was enabled.
func (m *Manager) Disable(ctx context.Context, name string, force bool) error {
	u, unlock, err := m.begin(ctx, name, "disable")
	if err != nil {
		return err
	}
	defer unlock()
	p, _ := u.look()
	if !p.Enabled && p.Status.State != outlet.StateFailed {
		return outlet.Errorf(errdefs.ErrConflict, "plugin is already disabled: plugin %s found but disabled", p.Name)
	}
	if err := m.disable(ctx, u, force, true); err != nil {
		return err
	}
	m.afterChange(u, EventDisable, "disable")
	return nil
}

// disable is Disable with the operation lock held. What the user wants is
// stored first: if the daemon dies half-way, the next one finishes. Without wish
// it only stops the plugin, and nothing is stored.
func (m *Manager) disable(ctx context.Context, u *unit, force, wish bool) error {
	if err := u.beginClosing(force); err != nil {
		return err
	}
	defer u.endClosing()
	p, _ := u.look()
	authz := m.cfg.AuthzChain != nil && provides(p, "authz")
	if authz {
		// Or nobody could talk to the daemon any more.
		m.cfg.AuthzChain.Remove(p.Name)
	}
	if !u.damaged && wish {
		if err := m.setEnabled(ctx, u, false); err != nil {
			if authz { // it goes on, and so does what it guards
				m.cfg.AuthzChain.Restore(p.Name)
			}
			return err
		}
	}
	u.letHoldersBe()
	stopped := make(chan error, 1)
	if err := u.do(func() { u.beginStop(u.ctx, stopped) }); err != nil {
		return err
	}
	return u.await(stopped)
}

// Remove deletes a plugin and everything it wrote. An enabled plugin, or one
// that somebody holds, is errdefs.ErrConflict unless force is set. A plugin
// that cannot be proven to be stopped is not deleted, with or without force.
func (m *Manager) Remove(ctx context.Context, name string, force bool) error {
	u, unlock, err := m.begin(ctx, name, "remove")
	if err != nil {
		return err
	}
	defer unlock()
	if err := u.beginClosing(force); err != nil {
		return err
	}
	defer u.endClosing()
	p, _ := u.look()
	if p.Enabled && !force {
		return outlet.Errorf(errdefs.ErrConflict, "plugin %s is enabled", p.Name)
	}
	if p.Status.State != outlet.StateDisabled {
		// Its record goes as it is: if the daemon dies before that, the plugin
		// is what it was.
		if err := m.disable(ctx, u, true, false); err != nil {
			return fmt.Errorf("plugin %s could not be stopped and is not removed: %w", p.Name, err)
		}
		if p.Enabled {
			if err := u.do(func() { u.life.rec.Enabled = false; u.publish() }); err != nil {
				return err
			}
			m.afterChange(u, EventDisable, "disable")
		}
	}
	p = u.snapshot()
	defer m.gc.expect()() // what it had is garbage without its record
	if err := m.forget(context.WithoutCancel(ctx), u); err != nil {
		return err
	}
	p.Enabled = false
	m.logEvent("remove", p.ID, p.Name)
	m.events.publish(Event{Kind: EventRemove, Plugin: p})
	m.collectGarbage()
	return nil
}

// forget removes a plugin that does not run: first its record, the point of no
// return, then its directory. What a crash leaves of the latter the next Open
// removes.
func (m *Manager) forget(ctx context.Context, u *unit) error {
	if err := u.do(func() { u.enter(outlet.StateRemoving) }); err != nil {
		return err
	}
	if err := m.store.Delete(ctx, u.id); err != nil && !errdefs.IsNotFound(err) {
		if uerr := m.remain(ctx, u); uerr != nil {
			return errors.Join(err, uerr)
		}
		return fmt.Errorf("remove plugin: %w", err)
	}
	m.mu.Lock()
	delete(m.units, u.id)
	m.revision.Add(1)
	m.mu.Unlock()
	u.letHoldersBe()
	u.close()
	if err := m.store.RemovePluginDir(ctx, u.id); err != nil {
		// The plugin is gone for its user; what is left is cleaned up later.
		m.log.Warn("remove the plugin's directory", "id", shortID(u.id), "err", err)
	}
	return nil
}

// remain takes back that a plugin is being removed: it is what its record says.
func (m *Manager) remain(ctx context.Context, u *unit) error {
	defer u.endClosing()
	rec, err := m.store.Get(ctx, u.id)
	return errors.Join(u.do(func() {
		if err != nil {
			u.fail(fmt.Errorf("read its record: %w", err))
			return
		}
		u.life.rec = rec.Clone()
		u.enter(outlet.StateDisabled)
		if rec.Enabled {
			u.beginLaunch(u.ctx, launchRestart)
		}
	}))
}

// Set changes the settings of a disabled plugin: all of o, or nothing.
func (m *Manager) Set(ctx context.Context, name string, o outlet.SetOptions) error {
	u, unlock, err := m.begin(ctx, name, "set")
	if err != nil {
		return err
	}
	defer unlock()
	if p, _ := u.look(); p.Enabled {
		return outlet.Errorf(errdefs.ErrConflict, "cannot set on an active plugin, disable plugin before setting")
	}
	if len(o.Set) == 0 && o.Args == nil && len(o.Unset) == 0 {
		return nil
	}
	err = m.update(ctx, u, func(r *store.Record) error {
		s, err := r.Settings.Set(r.Config, o.Set)
		if err == nil && o.Args != nil {
			s, err = s.SetArgs(r.Config, o.Args)
		}
		if err == nil {
			s, err = s.Unset(r.Config, o.Unset)
		}
		if err == nil && m.cfg.AdmitSettings != nil {
			err = m.cfg.AdmitSettings(r.Reference, effective(r.Config, s))
		}
		r.Settings = s
		return err
	})
	if err != nil {
		return err
	}
	u.log.Info("settings changed", "settings", settingNames(o))
	m.events.publish(Event{Kind: EventSet, Plugin: u.snapshot()})
	return nil
}

// settingNames are the names in o, without their values, which may be secret.
func settingNames(o outlet.SetOptions) []string {
	var names []string
	for _, s := range o.Set {
		name, _, _ := strings.Cut(s, "=")
		names = append(names, name)
	}
	if o.Args != nil {
		names = append(names, "args")
	}
	return append(names, o.Unset...)
}

// setEnabled stores what the user wants. A plugin that is disabled before the
// version it was upgraded to was ready is what it was before.
func (m *Manager) setEnabled(ctx context.Context, u *unit, enabled bool) error {
	return m.update(ctx, u, func(r *store.Record) error {
		r.Enabled, r.Undone = enabled, ""
		u.goBackUnproven(r, "it was disabled before the new version was ready")
		return nil
	})
}

// update changes a record, in the store and then in the unit.
func (m *Manager) update(ctx context.Context, u *unit, change func(*store.Record) error) error {
	rec, err := m.store.Update(ctx, u.id, change)
	if err != nil {
		return err
	}
	return u.do(func() {
		u.life.rec = rec.Clone()
		u.publish()
	})
}

// afterChange tells the world that a user changed a plugin.
func (m *Manager) afterChange(u *unit, kind EventKind, action string) {
	p := u.snapshot()
	m.logEvent(action, p.ID, p.Name)
	m.events.publish(Event{Kind: kind, Plugin: p})
}

func firstOf(errs ...error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}
