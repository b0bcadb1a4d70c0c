package manager

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/containerd/errdefs"
	"github.com/distribution/reference"

	"github.com/outletd/outlet"
	"github.com/outletd/outlet/internal/store"
)

// Upgrade replaces a plugin's content by what a registry has
// (docs/spec/managed-plugins.md §7.4): id, name, the data below its propagated
// mount and those settings that still fit stay. remoteName "" is where the
// plugin came from. progress is told as in [Manager.Pull], and which settings
// changed.
//
// A plugin that is enabled is errdefs.ErrConflict unless o.Running is set. Then
// it goes on running while the new version is downloaded, and is started again
// with it; if that does not become ready, the old version is put back and
// started, and the error says why. Killed at any instant, a manager leaves
// either version whole.
func (m *Manager) Upgrade(ctx context.Context, name, remoteName string, o outlet.UpgradeOptions, progress func(outlet.Progress)) (outlet.Plugin, error) {
	ctx, done, err := m.operation(ctx)
	if err != nil {
		return outlet.Plugin{}, err
	}
	defer done()
	if progress == nil {
		progress = func(outlet.Progress) {}
	}
	up := upgrade{m: m, o: o, progress: progress}
	if !o.Running {
		// Nobody enables it while it is being replaced.
		u, unlock, err := m.begin(ctx, name, "upgrade")
		if err != nil {
			return outlet.Plugin{}, err
		}
		defer unlock()
		up.unit = u
	} else if up.unit, err = m.find(name); err != nil {
		return outlet.Plugin{}, err
	}
	if err := up.open(ctx, remoteName); err != nil {
		return outlet.Plugin{}, err
	}
	defer up.remote.close()
	if up.art, err = m.download(ctx, up.remote, progress); err != nil {
		return outlet.Plugin{}, err
	}
	defer m.release(context.WithoutCancel(ctx), up.art, false)
	if o.Running {
		unlock, err := up.lockIdle(ctx)
		if err != nil {
			return outlet.Plugin{}, err
		}
		defer unlock()
	}
	if err := up.replace(context.WithoutCancel(ctx)); err != nil {
		return outlet.Plugin{}, err
	}
	p := up.unit.snapshot()
	m.warn(up.remote, up.art, p.Name)
	m.logEvent("pull", reference.FamiliarString(up.remote.ref), p.Name)
	return p, nil
}

// upgrade is the state of one.
type upgrade struct {
	m        *Manager
	o        outlet.UpgradeOptions
	progress func(outlet.Progress)
	unit     *unit
	remote   *remote
	art      *store.Artifact
	patience time.Duration // within which a version must be ready
}

// open looks at the new version, after what is cheap to know.
func (up *upgrade) open(ctx context.Context, name string) error {
	p, _ := up.unit.look()
	if up.unit.damaged {
		return outlet.Errorf(errdefs.ErrUnavailable, "plugin %s failed: %s", p.Name, p.Status.Error)
	}
	if err := up.refuse(p); err != nil {
		return err
	}
	if name == "" {
		name = p.PluginReference
	}
	parsed, err := outlet.ParseRemote(name, p.Name)
	if err != nil {
		return err
	}
	if up.remote, err = up.m.openRemote(ctx, parsed.Reference, up.o.RemoteOptions); err != nil {
		return err
	}
	if err := up.m.admit(ctx, up.remote, up.o.Granted, up.o.Digest); err != nil {
		up.remote.close()
		return err
	}
	return nil
}

// refuse says whether a plugin in this state cannot be upgraded.
func (up *upgrade) refuse(p outlet.Plugin) error {
	switch {
	case p.Enabled && !up.o.Running:
		return outlet.Errorf(errdefs.ErrConflict, "plugin must be disabled before upgrading: plugin %s is enabled", p.Name)
	case p.Enabled && !up.o.WhenIdle:
		up.unit.mu.Lock()
		defer up.unit.mu.Unlock()
		if len(up.unit.holders) > 0 {
			return errHeld(up.unit.holders.inUse(p.Name))
		}
	}
	return nil
}

func errHeld(inUse error) error {
	return outlet.Errorf(errdefs.ErrConflict, "the plugin must be disabled before upgrading: %w", inUse)
}

// lockIdle takes the plugin's operation lock at a moment when nobody holds the
// plugin, and keeps anybody who wants to take hold of it waiting until unlock is
// called.
func (up *upgrade) lockIdle(ctx context.Context) (unlock func(), err error) {
	name := up.unit.id
	told := false
	for {
		u, release, err := up.m.begin(ctx, name, "upgrade")
		if err != nil {
			return nil, err
		}
		err = u.beginUpgrade()
		if err == nil {
			return func() { u.endUpgrade(); release() }, nil
		}
		released := u.released()
		release()
		if !up.o.WhenIdle {
			return nil, errHeld(err)
		}
		if !told {
			told = true
			up.progress(outlet.Progress{Status: "Waiting until nobody uses it: " + err.Error(), Message: true})
		}
		select {
		case <-released:
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
}

// replace puts the new version in the place of the old one. The operation lock
// is held. It does not stop half-way.
func (up *upgrade) replace(ctx context.Context) error {
	u := up.unit
	p, _ := u.look()
	if !p.Enabled {
		defer up.m.gc.expect()() // what it had is garbage from then on
		defer up.m.collectGarbage()
		return up.commit(ctx)
	}
	if !up.o.Running {
		return up.refuse(p)
	}
	up.progress(outlet.Progress{Status: "Restarting", Message: true})
	stopped := make(chan error, 1)
	if err := u.do(func() { u.beginStop(u.ctx, stopped) }); err != nil {
		return err
	}
	if err := u.await(stopped); err != nil {
		return err
	}
	if err := up.commit(ctx); err != nil {
		return up.resume(ctx, err)
	}
	return up.start(ctx)
}

// commit makes the new version the plugin's, in one transaction.
func (up *upgrade) commit(ctx context.Context) error {
	old, err := up.m.store.Get(ctx, up.unit.id)
	if err != nil {
		return err
	}
	up.patience = up.unit.startTimeout(old)
	generation, key := old.Generation, ""
	for {
		generation++
		var err error
		key, err = up.m.store.PrepareRootfs(ctx, up.art, old.ID, generation)
		if err == nil {
			break
		}
		// What an earlier try left may not be collected yet.
		if !errdefs.IsAlreadyExists(err) || generation > old.Generation+maxLeftGenerations {
			return err
		}
	}
	var changed []string
	err = up.m.update(ctx, up.unit, func(r *store.Record) error {
		if r.Generation != old.Generation {
			return outlet.Errorf(errdefs.ErrConflict, "plugin %s was upgraded by somebody else meanwhile", r.Name)
		}
		r.Undone = ""
		if up.unit.proven(r) {
			r.Previous = nil
		}
		if r.Enabled {
			r.KeepPrevious() // until the new version is ready
		}
		up.art.Describe(r)
		r.Settings, changed = r.Settings.Reconcile(r.Config, up.remote.usable)
		r.Generation, r.Rootfs, r.Config, r.Reference = generation, key, up.remote.usable, up.remote.ref.String()
		r.Granted, r.GrantedFor = up.o.Granted.Clone(), up.art.ConfigDigest
		return nil
	})
	if err != nil {
		return err
	}
	for _, c := range changed {
		up.progress(outlet.Progress{Status: "Settings: " + c, Message: true})
	}
	p, _ := up.unit.look()
	if _, err := outlet.Ready(p.Config, p.Settings); err != nil && !p.Enabled {
		up.progress(outlet.Progress{Status: "Warning: it cannot be enabled as it is: " + err.Error(), Message: true})
	}
	return nil
}

// maxLeftGenerations bounds the search for a root filesystem's key.
const maxLeftGenerations = 100

// start starts a plugin that was stopped for an upgrade. If the new version does
// not become ready, the unit brings the old one back ([unit.undoUpgrade]), and
// start waits until that is.
func (up *upgrade) start(ctx context.Context) error {
	u := up.unit
	started := make(chan error, 1)
	if err := u.do(func() {
		u.upgradeStarts()
		u.life.started = append(u.life.started, started)
		u.beginLaunch(u.ctx, launchUpgraded)
	}); err != nil {
		return err
	}
	err := u.await(started)
	var notEnded *notEndedError
	switch {
	case err == nil, u.m.isClosed(): // then it is the next manager's to find out
		return err
	case errors.As(err, &notEnded):
		return fmt.Errorf("the new version did not start and could not be ended, so the old one is not back: %w", err)
	}
	return up.returned(ctx, err)
}

// resume starts the old version again after the new one could not be put in its
// place, because of cause.
func (up *upgrade) resume(ctx context.Context, cause error) error {
	u := up.unit
	if err := u.do(func() { u.upgradeStarts(); u.beginLaunch(u.ctx, launchRestart) }); err != nil {
		return errors.Join(cause, err)
	}
	return up.returned(ctx, cause)
}

// returned waits until the old version is ready, and returns what the new one
// failed with. If the old one does not start either, it is tried again as if it
// had ended by itself: its user wants it to run.
func (up *upgrade) returned(ctx context.Context, cause error) error {
	u := up.unit
	p, _ := u.look()
	wait, cancel := context.WithTimeout(ctx, up.patience+killTimeout)
	defer cancel()
	if _, _, err := u.waitReady(wait); err != nil {
		return fmt.Errorf("the new version of plugin %s did not start, and the old one does not start either (%w): %w", p.Name, err, cause)
	}
	return fmt.Errorf("the new version did not start, the old one is back and running: %w", cause)
}
