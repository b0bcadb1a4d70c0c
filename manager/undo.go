package manager

import (
	"context"
	"errors"
	"fmt"

	"github.com/containerd/errdefs"

	"github.com/outletd/outlet"
	"github.com/outletd/outlet/internal/store"
)

// settle forgets the version before an upgrade, because the new one, which is of
// the generation, has been ready.
func (u *unit) settle(ctx context.Context, generation int) error {
	settled := func(r *store.Record) {
		if r.Generation == generation {
			r.Previous = nil
		}
	}
	_, err := u.m.store.Update(ctx, u.id, func(r *store.Record) error {
		settled(r)
		return nil
	})
	if err != nil {
		return fmt.Errorf("remember that the new version is ready: %w", err)
	}
	// The same change again, not its result: a user may have changed more.
	_ = u.do(func() { settled(&u.life.rec) }) // as in beginLaunch
	return nil
}

// proven says whether the version of r has been ready, though r may not say so:
// it is not undone any more.
func (u *unit) proven(r *store.Record) bool { return u.unsettled.Load() == int64(r.Generation) }

// goBackUnproven is [store.Record.GoBack] for a record of u, unless its version
// has been ready.
func (u *unit) goBackUnproven(r *store.Record, why string) {
	if u.proven(r) {
		r.Previous = nil
		return
	}
	r.GoBack(why)
}

// settleUpgrades does what settle could not do in its time.
func (m *Manager) settleUpgrades(ctx context.Context) error {
	var errs []error
	for _, u := range m.all() {
		generation := u.unsettled.Load()
		if generation == 0 {
			continue
		}
		if err := u.settle(ctx, int(generation)); err != nil && !errdefs.IsNotFound(err) {
			errs = append(errs, err)
			continue
		}
		u.unsettled.CompareAndSwap(generation, 0) // there may have been another upgrade
	}
	return errors.Join(errs...)
}

// undoUpgrade takes away all of a version that did not become ready, brings back
// the one before it, and starts that. It runs on the loop, for a launch that
// failed with cause and left nothing running. What keeps it from going back is
// tried again with the new version's next start.
//
// A manager that dies meanwhile leaves the record of either version and nothing
// that runs: the next one starts the version of the record, and comes back here
// if that is the new one.
func (u *unit) undoUpgrade(ctx context.Context, cause error) {
	l := &u.life
	l.doubts = 0
	u.log.Warn("the version the plugin was upgraded to did not start; the one before it is brought back", "err", cause)
	l.failure = "the version it was upgraded to did not start: " + cause.Error()
	u.enter(outlet.StateBackoff)
	u.tellStarted(cause)
	// Until the one is gone the other must not be started.
	ctx, abort := context.WithCancel(ctx)
	l.abort = abort
	u.wg.Go(func() {
		defer abort()
		err := u.goBack(context.WithoutCancel(ctx), cause)
		_ = u.do(func() { // as in beginLaunch
			l.abort = nil
			if err == nil {
				l.rec.GoBack(cause.Error()) // as in settle
				u.publish()
			}
			var notEnded *notEndedError
			switch {
			case l.state == outlet.StateStopping: // disabled meanwhile
				u.beginTeardown(context.WithoutCancel(ctx))
			case errors.As(err, &notEnded):
				u.fail(err)
			case err != nil:
				u.log.Error("bring back the version before the upgrade", "err", err)
				u.retryLater(errors.Join(cause, err))
			default:
				u.m.wentBack(u)
				u.beginLaunch(u.ctx, launchRestart) //nolint:contextcheck // ctx ends with this goroutine
			}
		})
	})
}

// goBack does the part of undoUpgrade that takes long. Nothing of the new
// version may be mounted when the old one is started in the same places.
func (u *unit) goBack(ctx context.Context, cause error) error {
	defer u.m.gc.expect()()
	if _, err := u.teardown(ctx, nil); err != nil {
		return err
	}
	_, err := u.m.store.Update(ctx, u.id, func(r *store.Record) error {
		r.GoBack(cause.Error())
		return nil
	})
	if err != nil {
		return fmt.Errorf("put the old version back: %w", err)
	}
	u.note("the version the plugin was upgraded to did not start, the one before it is back: " + cause.Error())
	u.m.collectGarbage()
	return nil
}

// wentBack tells the world that an upgrade was undone.
func (m *Manager) wentBack(u *unit) { m.afterChange(u, EventRollback, "rollback") }
