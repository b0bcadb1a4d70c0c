package volumes

import (
	"context"
	"errors"
	"fmt"
	"maps"

	"github.com/containerd/errdefs"

	"github.com/outletd/outlet"
)

// labelAnonymous marks volumes whose name was made up.
const labelAnonymous = "com.docker.volume.anonymous"

// Create makes a volume, or returns the one of that name the plugin has already,
// whatever its options. Without a name one is made up. Without a driver only a
// volume that is there already can be meant: else it is
// errdefs.ErrInvalidArgument. A driver that is not there is errdefs.ErrNotFound,
// a name another driver has a volume of is errdefs.ErrConflict.
func (s *Service) Create(ctx context.Context, c outlet.VolumeCreate) (outlet.Volume, error) {
	labels := maps.Clone(c.Labels)
	if c.Name == "" {
		id, err := s.newID()
		if err != nil {
			return outlet.Volume{}, err
		}
		if labels == nil {
			labels = make(map[string]string)
		}
		c.Name, labels[labelAnonymous] = id, ""
	}
	if err := checkWord("volume name", c.Name); err != nil {
		return outlet.Volume{}, err
	}
	unlock, err := s.ops.lock(ctx, c.Name)
	if err != nil {
		return outlet.Volume{}, err
	}
	defer unlock()

	rec, recorded, err := s.current(ctx, c.Name)
	if err != nil {
		return outlet.Volume{}, err
	}
	d, err := s.driverToCreate(ctx, c, rec)
	if err != nil {
		return outlet.Volume{}, err
	}
	if recorded && rec.Driver != d.Name {
		if err := s.leaveOther(ctx, rec); err != nil {
			return outlet.Volume{}, err
		}
		recorded = false
	}
	v, err := s.get(ctx, d, c.Name)
	if err != nil {
		// Whether there is one is not known, so none is made.
		return outlet.Volume{}, outlet.Errorf(classOf(err), "create %s: %w", c.Name, err)
	}
	if v != nil {
		if !recorded {
			rec = Record{Name: c.Name, Driver: d.Name, Labels: labels}
			if err := s.save(ctx, rec); err != nil {
				return outlet.Volume{}, err
			}
		}
		return found{d, v, rec}.show(c.Name, s.scope(ctx, d)), nil
	}
	if err := s.client(d).Create(ctx, c.Name, c.DriverOpts); err != nil {
		return outlet.Volume{}, fmt.Errorf("create %s: %w", c.Name, failed(d, err))
	}
	next := Record{
		Name: c.Name, Driver: d.Name, Created: true, CreatedAt: s.cfg.Now().UTC(),
		Options: maps.Clone(c.DriverOpts), Labels: labels,
	}
	if recorded {
		next.Mounts = rec.Mounts
	}
	if err := s.save(ctx, next); err != nil {
		return outlet.Volume{}, errors.Join(err, s.uncreate(ctx, d, c.Name))
	}
	shown := found{d, nil, next}.show(c.Name, s.scope(ctx, d))
	s.event(ActionCreate, shown)
	return shown, nil
}

// uncreate removes a volume that was made just now and cannot be kept.
func (s *Service) uncreate(ctx context.Context, d Driver, name string) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), undoTimeout)
	defer cancel()
	if err := s.client(d).Remove(ctx, name); err != nil {
		return fmt.Errorf("undo it: %w", failed(d, err))
	}
	return nil
}

// driverToCreate finds the plugin that a volume is to be created with.
func (s *Service) driverToCreate(ctx context.Context, c outlet.VolumeCreate, rec Record) (Driver, error) {
	name := c.Driver
	if name == "" {
		name = rec.Driver
	}
	if name == "" {
		f, err := s.probe(ctx, c.Name)
		if err != nil {
			return Driver{}, err
		}
		if f.volume == nil {
			return Driver{}, outlet.Errorf(errdefs.ErrInvalidArgument, "create %s: no volume driver is given; %s", c.Name, s.known(ctx))
		}
		return f.driver, nil
	}
	d, err := s.lookup(ctx, name)
	if errdefs.IsNotFound(err) {
		return Driver{}, outlet.Errorf(errdefs.ErrNotFound, "create %s: error looking up volume plugin %s: %w; %s", c.Name, name, err, s.known(ctx))
	}
	if err != nil {
		return Driver{}, fmt.Errorf("create %s: error looking up volume plugin %s: %w", c.Name, name, err)
	}
	return d, nil
}

// leaveOther forgets the record of a volume that another driver had, if that
// does not have it any more.
func (s *Service) leaveOther(ctx context.Context, rec Record) error {
	taken := outlet.Errorf(errdefs.ErrConflict,
		"create %s: a volume named %s already exists with the %s driver, choose a different volume name", rec.Name, rec.Name, rec.Driver)
	if len(rec.active()) > 0 {
		return taken
	}
	d, err := s.lookup(ctx, rec.Driver)
	if err != nil {
		return outlet.Errorf(errdefs.ErrConflict, "%w, which cannot be asked whether it still does: %w", taken, err)
	}
	v, err := s.get(ctx, d, rec.Name)
	if err != nil {
		return outlet.Errorf(errdefs.ErrConflict, "%w, which cannot be asked whether it still does: %w", taken, err)
	}
	if v != nil {
		return taken
	}
	return s.forget(ctx, rec.Name)
}

// Remove removes a volume and what is in it. A volume that is mounted is
// errdefs.ErrConflict, force or not. With force a volume that does not exist is
// no error, and neither is a plugin that cannot be reached or fails: what is kept
// of the volume is forgotten all the same.
func (s *Service) Remove(ctx context.Context, name string, force bool) error {
	if err := checkWord("volume name", name); err != nil {
		return err
	}
	unlock, err := s.ops.lock(ctx, name)
	if err != nil {
		return err
	}
	defer unlock()

	rec, recorded, err := s.current(ctx, name)
	if err != nil {
		return err
	}
	if len(rec.active()) > 0 {
		return outlet.Errorf(errdefs.ErrConflict, "remove %s: volume is in use - [%s]", name, rec.ids())
	}
	f, err := s.find(ctx, name)
	switch {
	case errdefs.IsNotFound(err) && (force || recorded):
		// There is nothing, or nothing but a record: the plugin lost it.
		if !recorded {
			return nil
		}
		f = found{rec: rec}
	case err != nil && force && recorded:
		s.log.WarnContext(ctx, "remove only what is kept of a volume", "volume", name, "err", err)
		f = found{rec: rec}
	case err != nil:
		return err
	default:
		if err := s.settle(ctx, f.driver, &rec); err != nil {
			s.log.WarnContext(ctx, "take mounts of a volume back", "volume", name, "err", err)
		}
		if err := s.client(f.driver).Remove(ctx, name); err != nil {
			err = fmt.Errorf("remove %s: %w", name, failed(f.driver, err))
			if !force {
				return err
			}
			s.log.WarnContext(ctx, "remove only what is kept of a volume", "volume", name, "err", err)
		}
	}
	if recorded {
		if err := s.forget(ctx, name); err != nil {
			// The volume is gone all the same. A record without one is found
			// out by asking the plugin, and says nothing then.
			s.log.WarnContext(ctx, "forget a volume that was removed", "volume", name, "err", err)
			s.mu.Lock()
			delete(s.records, name)
			s.mu.Unlock()
		}
	}
	s.event(ActionDestroy, f.show(name, ""))
	return nil
}
