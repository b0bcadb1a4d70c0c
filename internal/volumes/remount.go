package volumes

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/containerd/errdefs"
)

// Hold makes the volumes that the journal says are mounted hold their managed
// plugins, and asks no plugin anything: call it before anybody can disable one.
// What it cannot find, [Service.Restore] reports.
func (s *Service) Hold(ctx context.Context) {
	for _, r := range s.all() {
		if active := r.active(); len(active) > 0 {
			_, _ = s.cfg.Plugins.Acquire(ctx, r.Driver, capabilityName, holder(r.Name, active[0].Since)) // as above
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
// under their ids. Mounts of this very run are left alone.
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
