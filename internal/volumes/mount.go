package volumes

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/containerd/errdefs"

	"github.com/outletd/outlet"
	"github.com/outletd/outlet/capability"
)

// undoTimeout bounds what is undone after an error.
const undoTimeout = 30 * time.Second

// Mount mounts a volume under an id, making one up if it is empty, and returns
// where it is on the host, and the id. Until the last mount of the volume is
// taken back it holds its plugin. Mounting again under an id that is in use
// returns what there is: each id is one mount and one Unmount.
//
// A volume that does not exist is errdefs.ErrNotFound.
func (s *Service) Mount(ctx context.Context, name, id string) (mountpoint, mountID string, err error) {
	if err := checkWord("volume name", name); err != nil {
		return "", "", err
	}
	if id == "" {
		if id, err = s.newID(); err != nil {
			return "", "", err
		}
	}
	if err := checkWord("mount id", id); err != nil {
		return "", "", err
	}
	unlock, err := s.ops.lock(ctx, name)
	if err != nil {
		return "", "", err
	}
	defer unlock()

	rec, ok, err := s.current(ctx, name)
	if err != nil {
		return "", "", err
	}
	if ok {
		if i := rec.mount(id); i >= 0 && !rec.Mounts[i].Pending {
			if err := s.mounted(ctx, rec, i); err != nil {
				return "", "", fmt.Errorf("mount %s: %w", name, err)
			}
			return rec.Mounts[i].Mountpoint, id, nil
		}
	}
	f, err := s.find(ctx, name)
	if err != nil {
		return "", "", err
	}
	rec = f.rec
	if rec.Driver == "" {
		rec = Record{Name: name, Driver: f.driver.Name}
	}
	m := Mount{ID: id, Since: s.cfg.Now().UTC(), Plugin: f.driver.ID, Instance: f.driver.Instance, Pending: true}
	mounted, err := s.mount(ctx, f.driver, rec, m)
	if err != nil {
		return "", "", fmt.Errorf("mount %s: %w", name, err)
	}
	f.rec, _ = s.record(name)
	s.event(ActionMount, f.show(name, ""), "id", id, "mountpoint", mounted.Mountpoint)
	return mounted.Mountpoint, id, nil
}

// mounted makes sure that the mount rec.Mounts[i] is one of the plugin's present
// run: another try to make it again may have failed.
func (s *Service) mounted(ctx context.Context, rec Record, i int) error {
	d, err := s.lookup(ctx, rec.Driver)
	if err != nil {
		return err
	}
	if d.Instance == "" || d.Instance == rec.Mounts[i].Instance {
		return nil
	}
	if err := s.renew(ctx, d, rec, i); err != nil {
		return err
	}
	return s.save(ctx, rec)
}

// renew has the run d of a plugin make the mount rec.Mounts[i], which an earlier
// one had made, and changes rec accordingly.
func (s *Service) renew(ctx context.Context, d Driver, rec Record, i int) error {
	m := &rec.Mounts[i]
	p, err := s.ask(ctx, d, rec.Name, m.ID)
	if err != nil {
		return err
	}
	if p != m.Mountpoint {
		s.log.WarnContext(ctx, "a volume is at another place than before", "volume", rec.Name, "before", m.Mountpoint, "now", p)
	}
	m.Mountpoint, m.Instance = p, d.Instance
	return nil
}

// mount makes the mount m of the volume of rec. The journal says so before the
// plugin is asked, so that a mount that a crash cuts off is known.
func (s *Service) mount(ctx context.Context, d Driver, rec Record, m Mount) (_ Mount, err error) {
	if d.ID != "" {
		if _, err := s.cfg.Plugins.Acquire(ctx, d.Name, capabilityName, holder(rec.Name, m.Since)); err != nil {
			return Mount{}, err
		}
	}
	before := rec
	defer func() {
		if err != nil {
			err = errors.Join(err, s.save(ctx, before), s.releaseUnused(ctx, before))
		}
	}()
	rec = before.Clone()
	if i := rec.mount(m.ID); i >= 0 { // what is left of an earlier one
		rec.Mounts = slices.Delete(rec.Mounts, i, i+1)
	}
	rec.Mounts = append(rec.Mounts, m)
	if err := s.save(ctx, rec); err != nil {
		return Mount{}, err
	}
	m.Mountpoint, err = s.ask(ctx, d, rec.Name, m.ID)
	if err != nil {
		return Mount{}, err
	}
	m.Pending = false
	if m.Instance == "" { // it was being started when it was looked up
		if now, err := s.lookup(ctx, d.Name); err == nil {
			m.Instance = now.Instance
		}
	}
	rec.Mounts[len(rec.Mounts)-1] = m
	if err := s.save(ctx, rec); err != nil {
		return Mount{}, errors.Join(err, s.takeBack(ctx, d, rec.Name, m.ID))
	}
	return m, nil
}

// ask has a plugin mount a volume and returns where that is on the host. If it
// fails, the plugin holds nothing.
func (s *Service) ask(ctx context.Context, d Driver, name, id string) (string, error) {
	answer, err := s.client(d).Mount(ctx, name, id)
	if err != nil {
		return "", failed(d, err)
	}
	p, err := d.Scope.Resolve(answer)
	if err == nil && p == "" {
		err = errors.New("it does not say where")
	}
	if err != nil {
		err = fmt.Errorf("volume driver %s mounted it where the host cannot use it: %w", d.Name, err)
		return "", errors.Join(err, s.takeBack(ctx, d, name, id))
	}
	return p, nil
}

// takeBack undoes a mount that the plugin made, after an error that may be the
// end of ctx.
func (s *Service) takeBack(ctx context.Context, d Driver, name, id string) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), undoTimeout)
	defer cancel()
	if err := s.client(d).Unmount(ctx, name, id); err != nil {
		return fmt.Errorf("undo it: %w", failed(d, err))
	}
	return nil
}

// releaseUnused releases the plugin unless rec says that the volume is mounted.
func (s *Service) releaseUnused(ctx context.Context, rec Record) error {
	if len(rec.active()) > 0 {
		return nil
	}
	return s.cfg.Plugins.ReleaseHolder(context.WithoutCancel(ctx), rec.Driver, holder(rec.Name, time.Time{}))
}

// Unmount takes back the mount of the id; an empty id means the only one there
// is, and is errdefs.ErrConflict otherwise. A mount that is not there is
// errdefs.ErrNotFound. A plugin that is disabled or gone is told once it is back.
// If the plugin cannot be reached or refuses, the mount stays and can be
// taken back later.
func (s *Service) Unmount(ctx context.Context, name, id string) error {
	if err := checkWord("volume name", name); err != nil {
		return err
	}
	unlock, err := s.ops.lock(ctx, name)
	if err != nil {
		return err
	}
	defer unlock()

	rec, _, err := s.current(ctx, name)
	if err != nil {
		return err
	}
	active := rec.active()
	switch {
	case len(active) == 0:
		return outlet.Errorf(errdefs.ErrNotFound, "unmount %s: the volume is not mounted", name)
	case id == "" && len(active) > 1:
		return outlet.Errorf(errdefs.ErrConflict, "unmount %s: it is mounted more than once, one of these ids must be given: %s", name, rec.ids())
	case id == "":
		id = active[0].ID
	}
	i := rec.mount(id)
	if i < 0 || rec.Mounts[i].Pending {
		return outlet.Errorf(errdefs.ErrNotFound, "unmount %s: there is no mount %s; those there are: %s", name, id, rec.ids())
	}
	d, told, err := s.unmount(ctx, rec, rec.Mounts[i])
	if err != nil {
		return fmt.Errorf("unmount %s: %w", name, err)
	}
	if told {
		rec.Mounts = slices.Delete(rec.Mounts, i, i+1)
	} else {
		rec.Mounts[i].Pending = true
	}
	if err := s.save(ctx, rec); err != nil {
		return err
	}
	err = s.releaseUnused(ctx, rec)
	s.event(ActionUnmount, found{driver: d, rec: rec}.show(name, ""), "id", id)
	return err
}

// unmount tells the plugin that a mount is not needed any more. told is false if
// that is to be done later.
func (s *Service) unmount(ctx context.Context, rec Record, m Mount) (d Driver, told bool, err error) {
	d, err = s.lookup(ctx, rec.Driver)
	switch {
	case err == nil:
		return d, true, s.giveBack(ctx, d, rec.Name, m)
	case errdefs.IsConflict(err), errdefs.IsNotFound(err), errdefs.IsInvalidArgument(err):
		s.log.WarnContext(ctx, "a plugin is told of an unmount when it is back", "volume", rec.Name, "plugin", rec.Driver, "id", m.ID, "err", err)
		return Driver{Name: rec.Driver}, false, nil
	}
	return d, false, err
}

// giveBack has the plugin d end a mount. If an earlier run of it made the mount,
// it may know nothing of that, and whatever it says will do.
func (s *Service) giveBack(ctx context.Context, d Driver, name string, m Mount) error {
	err := s.client(d).Unmount(ctx, name, m.ID)
	if capability.IsAnswer(err) && m.gone(d) {
		s.log.InfoContext(ctx, "a mount ended with the run of its plugin", "volume", name, "plugin", d.Name, "id", m.ID, "err", err)
		return nil
	}
	if err != nil {
		return failed(d, err)
	}
	return nil
}
