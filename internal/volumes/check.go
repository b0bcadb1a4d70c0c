package volumes

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/containerd/errdefs"

	"github.com/outletd/outlet"
)

// The kinds of problems that [Service.Check] finds.
const (
	missingHold   = "missing hold"          // a mounted volume does not hold its plugin
	strayHold     = "stray hold"            // a volume that is not mounted does
	pendingMount  = "unsettled mount"       // the plugin has not been told of its end
	missingDriver = "missing volume driver" // there is no such plugin
)

// Check compares the journal of mounts with who holds which plugin; held returns
// the holders of a managed plugin, by name or id, and false for one that is gone. With
// repair it mends what it can. It waits for operations on a volume before it
// judges that.
func (s *Service) Check(ctx context.Context, held func(plugin string) ([]outlet.Holder, bool), repair bool) ([]outlet.Problem, error) {
	names := make(map[string]bool)
	for _, r := range s.all() {
		if len(r.Mounts) > 0 {
			names[r.Name] = true
		}
	}
	for _, d := range s.cfg.Plugins.ByCapability(ctx, capabilityName) {
		holders, _ := held(d.Name)
		for _, h := range holders {
			if h.Kind == holderKind {
				names[h.Name] = true
			}
		}
	}
	var found []outlet.Problem
	var errs []error
	for name := range names {
		problems, err := s.checkVolume(ctx, name, held, repair)
		found, errs = append(found, problems...), append(errs, err)
	}
	slices.SortFunc(found, func(a, b outlet.Problem) int {
		return slices.Compare([]string{a.Subject, a.Kind}, []string{b.Subject, b.Kind})
	})
	return found, errors.Join(errs...)
}

func (s *Service) checkVolume(ctx context.Context, name string, held func(string) ([]outlet.Holder, bool), repair bool) ([]outlet.Problem, error) {
	unlock, err := s.ops.lock(ctx, name)
	if err != nil {
		return nil, err
	}
	defer unlock()
	rec, _, err := s.current(ctx, name)
	if err != nil {
		return nil, err
	}
	var found []outlet.Problem
	// mend reports a problem and, if that is wanted, tries to end it.
	mend := func(kind, detail string, f func() error) {
		p := outlet.Problem{Kind: kind, Subject: name, Detail: detail}
		if repair && f != nil {
			if err := f(); err != nil {
				p.Detail += ": " + err.Error()
			} else {
				p.Repaired = true
			}
		}
		found = append(found, p)
	}
	holds := func(plugin string) (holds, there bool) {
		holders, there := held(plugin)
		return slices.ContainsFunc(holders, func(h outlet.Holder) bool { return h.Kind == holderKind && h.Name == name }), there
	}
	wanted := rec.held()
	for _, d := range s.cfg.Plugins.ByCapability(ctx, capabilityName) {
		if _, ok := wanted[d.ID]; ok {
			continue
		}
		if stray, _ := holds(d.Name); stray {
			mend(strayHold, fmt.Sprintf("the volume is not mounted and holds plugin %s", d.Name), func() error {
				return s.cfg.Plugins.ReleaseHolder(ctx, d.Name, holder(name, time.Time{}))
			})
		}
	}
	for id, since := range wanted {
		if holds, there := holds(id); there && !holds {
			mend(missingHold, fmt.Sprintf("the volume is mounted and does not hold plugin %s", rec.Driver), func() error {
				return s.cfg.Plugins.HoldByID(ctx, id, holder(name, since))
			})
		}
	}
	if len(rec.Mounts) == 0 {
		return found, nil
	}
	d, err := s.lookup(ctx, rec.Driver)
	switch {
	case errdefs.IsNotFound(err):
		mend(missingDriver, fmt.Sprintf("the volume is mounted and there is no plugin %s", rec.Driver), nil)
	case err == nil && d.Instance != "" && len(rec.active()) < len(rec.Mounts):
		mend(pendingMount, fmt.Sprintf("plugin %s may have a mount that nobody counts on", rec.Driver), func() error {
			return errors.Join(s.settle(ctx, d, &rec), s.save(ctx, rec))
		})
	}
	return found, nil
}
