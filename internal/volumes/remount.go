package volumes

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"

	"github.com/containerd/errdefs"
)

// Hold makes the volumes that the journal says are mounted hold their managed
// plugins, also those that were disabled by force, and asks no plugin anything:
// call it before anybody can disable or remove one. What it cannot find,
// [Service.Restore] reports.
func (s *Service) Hold(ctx context.Context) {
	for _, r := range s.all() {
		for id, since := range r.held() {
			_ = s.cfg.Plugins.HoldByID(ctx, id, holder(r.Name, since)) // as above
		}
	}
}

// Restore brings what is here up to date after a start of the daemon: mounted
// volumes hold their plugins again, and for plugins that run already it does
// what Remount does. Those that do not run yet are Remount's when they are
// ready. What goes wrong is logged.
func (s *Service) Restore(ctx context.Context) {
	running := make(map[string]Driver)
	for _, r := range s.all() {
		if len(r.Mounts) == 0 {
			continue
		}
		d, err := s.lookup(ctx, r.Driver)
		if err == nil {
			r.leave(d)
		}
		if active := r.active(); err == nil && d.ID != "" && len(active) > 0 {
			d, err = s.cfg.Plugins.Acquire(ctx, d.Name, capabilityName, holder(r.Name, active[0].Since))
		}
		if errdefs.IsNotFound(err) && len(r.active()) == 0 {
			err = s.drop(ctx, r.Name)
		}
		if err != nil {
			s.log.WarnContext(ctx, "the plugin of a mounted volume is not there", "volume", r.Name, "plugin", r.Driver, "err", err)
			continue
		}
		if d.Instance != "" {
			running[d.Name] = d
		}
	}
	var wg sync.WaitGroup
	for _, d := range running {
		wg.Go(func() {
			if err := s.Remount(ctx, d); err != nil {
				s.log.WarnContext(ctx, "mount volumes again", "plugin", d.Name, "err", err)
			}
		})
	}
	wg.Wait()
}

// drop forgets the mounts of a volume that nobody counts on, without telling its
// plugin, which is not there any more.
func (s *Service) drop(ctx context.Context, name string) error {
	unlock, err := s.ops.lock(ctx, name)
	if err != nil {
		return err
	}
	defer unlock()
	rec, ok := s.record(name)
	if !ok {
		return nil
	}
	rec.Mounts = rec.active()
	return s.save(ctx, rec)
}

// remountsAtOnce is how many volumes of a plugin are mounted again side by side.
const remountsAtOnce = 4

// Remount is to be called whenever the plugin d became ready: after it was
// enabled, restarted or found running. Its volumes hold it again, and the mounts
// that an earlier run of it made, and which are gone with that, are made again
// under their ids. Mounts of this very run are left alone, and those of another
// plugin that had the name before d are gone with it.
//
// What fails is in the error, and is tried again at the next time.
func (s *Service) Remount(ctx context.Context, d Driver) error {
	var names []string
	for _, r := range s.all() {
		if r.Driver == d.Name && len(r.Mounts) > 0 {
			names = append(names, r.Name)
		}
	}
	errs := make([]error, len(names))
	room := make(chan struct{}, remountsAtOnce)
	var wg sync.WaitGroup
	for i, name := range names {
		room <- struct{}{}
		wg.Go(func() {
			defer func() { <-room }()
			if err := s.remount(ctx, d, name); err != nil {
				errs[i] = fmt.Errorf("mount volume %s again: %w", name, err)
			}
		})
	}
	wg.Wait()
	return errors.Join(errs...)
}

// remount brings the mounts of one volume to the run d of its plugin.
func (s *Service) remount(ctx context.Context, d Driver, name string) error {
	unlock, err := s.ops.lock(ctx, name)
	if err != nil {
		return err
	}
	defer unlock()
	rec, _ := s.record(name)
	if rec.Driver != d.Name || len(rec.Mounts) == 0 {
		return nil // it was unmounted while this waited
	}
	if rec, err = s.leave(ctx, d, rec); err != nil || len(rec.Mounts) == 0 {
		return err
	}
	errs := []error{s.settle(ctx, d, &rec)}
	for i, m := range rec.Mounts {
		if m.Pending || d.Instance != "" && m.Instance == d.Instance {
			continue
		}
		errs = append(errs, s.renew(ctx, d, rec, i))
	}
	errs = append(errs, s.save(ctx, rec))
	if active := rec.active(); len(active) == 0 {
		errs = append(errs, s.releaseUnused(ctx, rec))
	} else if d.ID != "" {
		_, err := s.cfg.Plugins.Acquire(ctx, d.Name, capabilityName, holder(name, active[0].Since))
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// current is the record of a volume, without mounts that went with the plugin
// that made them. The volume's lock is held.
func (s *Service) current(ctx context.Context, name string) (Record, bool, error) {
	rec, ok := s.record(name)
	if slices.ContainsFunc(rec.Mounts, func(m Mount) bool { return m.Plugin != "" }) {
		d, err := s.cfg.Plugins.Lookup(ctx, rec.Driver, capabilityName)
		if err == nil { // otherwise there is no other plugin
			if _, err := s.leave(ctx, d, rec); err != nil {
				return rec, ok, err
			}
			rec, ok = s.record(name)
		}
	}
	return rec, ok, nil
}

// leave forgets the mounts of rec that were lost to d, says so, and returns what
// is left. The volume's lock is held. Nobody has to be told to end them: a plugin
// is removed once its processes are gone, and with it what they mounted.
func (s *Service) leave(ctx context.Context, d Driver, rec Record) (Record, error) {
	lost := rec.leave(d)
	if len(lost) == 0 {
		return rec, nil
	}
	if err := s.save(ctx, rec); err != nil {
		return rec, err
	}
	for _, m := range lost {
		s.log.WarnContext(ctx, "a mount is gone with the plugin that made it", "volume", rec.Name, "plugin", rec.Driver, "plugin_id", m.Plugin, "id", m.ID)
		if !m.Pending {
			s.event(ActionUnmount, found{driver: d, rec: rec}.show(rec.Name, ""), "id", m.ID)
		}
	}
	return rec, nil
}

// settle has the plugin end the mounts nobody counts on. Those for which that
// fails stay, to be ended at another time. The volume's lock is held, so none is
// being made now.
func (s *Service) settle(ctx context.Context, d Driver, rec *Record) error {
	var errs []error
	settled := make([]Mount, 0, len(rec.Mounts))
	for _, m := range rec.Mounts {
		if m.Pending {
			err := s.giveBack(ctx, d, rec.Name, m)
			if err == nil {
				continue
			}
			errs = append(errs, err)
		}
		settled = append(settled, m)
	}
	rec.Mounts = settled
	return errors.Join(errs...)
}
