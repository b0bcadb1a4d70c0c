package manager

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"

	"github.com/containerd/errdefs"

	"github.com/outletd/outlet"
	"github.com/outletd/outlet/internal/dirlock"
	"github.com/outletd/outlet/internal/durable"
	"github.com/outletd/outlet/internal/pluginlog"
	"github.com/outletd/outlet/internal/rootfs"
	"github.com/outletd/outlet/internal/store"
)

// Open opens the manager's directories and returns once its plugins are known.
// It does not wait for any of them: those that should run are found again or
// started in the background, side by side, and [Manager.List] shows how far
// each is. A manager is opened once.
//
// A root or exec root that another process uses is errdefs.ErrUnavailable, and
// the text names that process. A record that cannot be read does not keep a manager from
// opening: its plugin is listed as failed.
func (m *Manager) Open(ctx context.Context) error {
	info, err := m.rt.Info(ctx)
	if err != nil {
		return fmt.Errorf("the runtime does not work: %w", err)
	}
	m.rtInfo = info
	m.facts = m.host.Facts()
	snapshotter := m.cfg.Snapshotter
	if snapshotter == "" && !info.Mounts {
		snapshotter = store.Native // what mounts nothing needs a plain directory
	}
	for _, dir := range []string{m.cfg.ExecRoot, m.bundlesDir(), m.socketsDir()} {
		// The sockets below belong to root; their directory may be passed
		// through by those who are allowed to use one.
		if err := durable.MkdirAll(dir, 0o711); err != nil {
			return fmt.Errorf("make the exec root: %w", err)
		}
	}
	st, err := store.Open(ctx, store.Config{Root: m.cfg.Root, Snapshotter: snapshotter, Logger: m.log})
	if err != nil {
		return err
	}
	// The root alone has a lock too, but two daemons with different roots and one
	// exec root would take each other's plugins for strays and end them.
	if m.execLock, err = dirlock.Lock(m.cfg.ExecRoot, "exec root"); err != nil {
		return errors.Join(err, st.Close())
	}
	records, damaged, err := st.Records(ctx)
	if err != nil {
		return errors.Join(err, st.Close(), m.execLock.Close())
	}
	if m.picker, err = pluginlog.NewPicker(m.log); err != nil {
		return errors.Join(err, st.Close(), m.execLock.Close())
	}
	m.store = st // from here on Close has something to close
	for _, d := range damaged {
		m.addDamaged(d)
	}
	m.wg.Go(m.runGC)
	m.clearStrays(ctx, records)
	for _, rec := range records {
		if err := m.restore(rec); err != nil { //nolint:contextcheck // what it begins goes on until Close
			return err
		}
	}
	m.collectGarbage()
	return nil
}

// restore makes a plugin of a record known, and lets it go on or starts it.
func (m *Manager) restore(rec store.Record) error {
	u := newUnit(m, rec)
	if err := m.launchUnit(u); err != nil {
		return err
	}
	return u.do(func() {
		if rec.Enabled {
			u.beginLaunch(u.ctx, launchBoot)
			return
		}
		// What was being disabled when the last manager died is finished; who
		// wants to enable the plugin waits for that.
		if u.leftovers() {
			unlock, err := u.ops.lock(u.ctx, rec.Name, "clean up")
			if err != nil { // nobody else knows the unit yet
				u.fail(err)
				return
			}
			stopped := make(chan error, 1)
			u.life.stopped = append(u.life.stopped, stopped)
			u.enter(outlet.StateStopping)
			u.beginTeardown(context.WithoutCancel(u.ctx))
			u.wg.Go(func() {
				defer unlock()
				select {
				case <-stopped: //nolint:errcheck // the unit shows how it went
				case <-u.ended:
				}
			})
		}
	})
}

// addDamaged lists a plugin whose record cannot be read. It can be removed,
// nothing else.
func (m *Manager) addDamaged(d store.Damaged) {
	name := d.Name
	if name == "" {
		name = "unreadable-" + shortID(d.ID) + ":latest"
	}
	m.log.Error("the record of a plugin cannot be read", "plugin", name, "id", shortID(d.ID), "err", d.Err)
	u := newUnit(m, store.Record{ID: d.ID, Name: name, Settings: outlet.NewSettings(outlet.Config{})})
	u.damaged = true
	if m.launchUnit(u) != nil {
		return
	}
	_ = u.do(func() { u.fail(fmt.Errorf("its record cannot be read: %w", d.Err)) }) // the loop was just started
}

// clearStrays ends containers and removes directories of plugins there are no
// records of: their removal was interrupted after its point of no return.
func (m *Manager) clearStrays(ctx context.Context, records []store.Record) {
	known := make(map[string]bool)
	for _, r := range records {
		known[r.ID], known[shortID(r.ID)] = true, true
	}
	ids, err := m.rt.List(ctx)
	if err != nil {
		m.log.Warn("list the runtime's containers", "err", err)
	}
	for _, id := range ids {
		if known[id] || !outlet.IsID(id) {
			continue
		}
		m.log.Info("ending the container of a plugin that was removed", "id", shortID(id))
		if err := durable.Do(durable.Runtime, "purge", func() error { return m.rt.Purge(ctx, id) }); err != nil {
			m.log.Warn("end a stray container", "id", shortID(id), "err", err)
		}
	}
	for _, parent := range []string{m.bundlesDir(), m.socketsDir()} {
		entries, err := os.ReadDir(parent)
		if err != nil {
			m.log.Warn("look for stray directories", "err", err)
		}
		for _, e := range entries {
			if known[e.Name()] || !isShortID(e.Name()) { // what is not ours is not ours to remove
				continue
			}
			if err := removeTree(ctx, filepath.Join(parent, e.Name())); err != nil {
				m.log.Warn("remove a stray directory", "err", err)
			}
		}
	}
}

// removeTree removes a directory after everything mounted below it.
func removeTree(ctx context.Context, dir string) error {
	if err := rootfs.Unmount(ctx, dir); err != nil {
		return err
	}
	if err := durable.RemoveAll(dir); err != nil {
		return fmt.Errorf("remove %s: %w", dir, err)
	}
	return nil
}

// leftovers says whether something is there that a running plugin has.
func (u *unit) leftovers() bool {
	for _, p := range []string{u.paths.bundle, u.paths.sockets} {
		if _, err := os.Lstat(p); !errors.Is(err, fs.ErrNotExist) {
			return true
		}
	}
	return false
}

// Close ends the manager: operations under way fail, and plugins go on or end
// as [Config.LiveRestore] says, all side by side. It returns once everything
// the manager started has ended, or when ctx does.
func (m *Manager) Close(ctx context.Context) error {
	m.mu.Lock()
	if m.closed {
		m.mu.Unlock()
		return nil
	}
	m.closed = true
	live := m.cfg.LiveRestore
	m.mu.Unlock()
	if m.store == nil { // never opened
		m.cancel()
		return m.prober.Close()
	}

	done := make(chan error, 1)
	go func() { done <- m.shutDown(live) }() // ends with the units; waited for below
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return fmt.Errorf("close the plugin manager: %w", ctx.Err())
	}
}

func (m *Manager) shutDown(live bool) error {
	units := m.all()
	var errs []error
	var mu sync.Mutex
	if !live {
		var wg sync.WaitGroup
		for _, u := range units {
			wg.Go(func() {
				if err := u.shutDown(); err != nil {
					mu.Lock()
					defer mu.Unlock()
					errs = append(errs, err)
				}
			})
		}
		wg.Wait()
	}
	m.cancel()
	for _, u := range units {
		u.close()
	}
	m.ops.Wait()
	m.wg.Wait()
	m.events.close()
	errs = append(errs, m.prober.Close(), m.picker.Close(), m.store.Close(), m.execLock.Close())
	return errors.Join(errs...)
}

// shutDown stops a plugin and leaves it enabled, so that the next manager
// starts it.
func (u *unit) shutDown() error {
	stopped := make(chan error, 1)
	err := u.do(func() {
		switch u.life.state {
		case outlet.StateDisabled, outlet.StateFailed, outlet.StateRemoving:
			stopped <- nil
		default:
			u.beginStop(u.ctx, stopped)
		}
	})
	if err != nil {
		return nil //nolint:nilerr // it was removed meanwhile
	}
	return u.await(stopped)
}

// reattach finds the plugin's process of before this manager; nil if there is
// none, or if it ended meanwhile. What is left of one that ended is cleared away.
func (u *unit) reattach(ctx context.Context) (Task, error) {
	b := Bundle{ID: u.id, Dir: u.paths.bundle}
	task, err := durable.Call(durable.Runtime, "attach", func() (Task, error) { return u.m.rt.Attach(ctx, b) })
	switch {
	case errdefs.IsNotFound(err):
		return nil, u.clearAfterExit(ctx, nil)
	case err != nil:
		return nil, fmt.Errorf("find the running plugin: %w", err)
	}
	select {
	case <-task.Done():
		exit := task.Exit()
		u.log.Warn("the plugin ended while no manager ran", "exit", describeExit(exit))
		u.note("while no manager ran, the plugin " + describeExit(exit))
		_ = u.do(func() { u.life.lastExit = &exit }) // the loop has ended: so has the manager
		return nil, u.clearAfterExit(ctx, task)
	default:
	}
	return task, nil
}
