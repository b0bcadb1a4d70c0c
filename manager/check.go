package manager

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/containerd/errdefs"
	"github.com/moby/sys/mountinfo"
	"golang.org/x/sys/unix"

	"github.com/outletd/outlet"
	"github.com/outletd/outlet/internal/durable"
	"github.com/outletd/outlet/internal/ocispec"
	"github.com/outletd/outlet/internal/store"
)

// The kinds of problems that [Manager.Check] finds beside those of the store.
const (
	strayContainer = "stray container" // of a plugin that does not exist or is disabled
	strayCgroup    = "stray cgroup"    // the same
	strayMount     = "stray mount"     // the same
	strayDirectory = "stray directory" // in the exec root, the same
	lostContainer  = "lost container"  // of a plugin that runs
)

// Check compares what is on disk, mounted and running with what should be, and
// reports what does not fit. What plugins and their operations are in the middle
// of does not count. With repair it mends what can be mended without losing
// anything anybody refers to, while operations go on, and says so of each.
func (m *Manager) Check(ctx context.Context, repair bool) (outlet.CheckReport, error) {
	found, err := m.look(ctx)
	if err != nil {
		return outlet.CheckReport{}, err
	}
	if len(found) > 0 {
		// Something may have been on its way: what is wrong stays wrong.
		if found, err = m.lookAgain(ctx, found); err != nil {
			return outlet.CheckReport{}, err
		}
	}
	if len(found) == 0 || !repair {
		return outlet.CheckReport{Problems: found}, nil
	}
	rerr := m.repair(ctx, found)
	left, err := m.look(ctx)
	if err = errors.Join(rerr, err); err != nil {
		m.log.Warn("repair what the check found", "err", err)
		m.collectGarbage()
	}
	for i := range found {
		found[i].Repaired = !slices.ContainsFunc(left, func(p outlet.Problem) bool { return same(p, found[i]) })
		m.log.Warn("check", "problem", found[i].Kind, "subject", found[i].Subject, "detail", found[i].Detail, "repaired", found[i].Repaired)
	}
	return outlet.CheckReport{Problems: found}, nil
}

func same(a, b outlet.Problem) bool { return a.Kind == b.Kind && a.Subject == b.Subject }

// maxLooks bounds how often is looked again while users go on to remove plugins.
const maxLooks = 8

// lookAgain looks once more, and returns of found what is still there. If
// something was given up meanwhile, what is found may be of that, under the
// name of what was found before: then it goes on until nothing was.
func (m *Manager) lookAgain(ctx context.Context, found []outlet.Problem) ([]outlet.Problem, error) {
	for range maxLooks {
		// What the last daemon left is collected soon after a start, and what users
		// did is collected behind their backs.
		if err := m.collected(ctx); err != nil {
			return nil, err
		}
		before, calm := m.gc.calm()
		again, err := m.look(ctx)
		if err != nil {
			return nil, err
		}
		found = slices.DeleteFunc(again, func(p outlet.Problem) bool {
			return !slices.ContainsFunc(found, func(q outlet.Problem) bool { return same(p, q) })
		})
		if after, _ := m.gc.calm(); len(found) == 0 || calm && after == before {
			break
		}
	}
	return found, nil
}

// look looks once.
func (m *Manager) look(ctx context.Context) ([]outlet.Problem, error) {
	report, err := m.store.Check(ctx)
	if err != nil {
		return nil, err
	}
	var found []outlet.Problem
	for _, p := range report.Problems {
		found = append(found, outlet.Problem{Kind: string(p.Kind), Subject: p.Subject, Detail: p.Detail})
	}
	s := m.survey()
	for _, check := range []func(context.Context, survey) ([]outlet.Problem, error){
		m.checkContainers, m.checkExecRoot, m.checkMounts, m.checkCgroups,
	} {
		more, err := check(ctx, s)
		if err != nil {
			return nil, err
		}
		found = append(found, more...)
	}
	return found, nil
}

// survey is what every plugin is doing at one moment, by id and by short id.
type survey map[string]outlet.State

func (m *Manager) survey() survey {
	s := make(survey)
	for _, u := range m.all() {
		p, _ := u.look()
		s[u.id], s[shortID(u.id)] = p.Status.State, p.Status.State
	}
	return s
}

// idle says why nothing may be there of the plugin with the id; "" if something
// may be.
func (s survey) idle(id string) string {
	switch state, known := s[id]; {
	case !known:
		return "there is no such plugin"
	case state == outlet.StateDisabled:
		return "its plugin is disabled"
	default:
		return ""
	}
}

func (m *Manager) checkContainers(ctx context.Context, s survey) ([]outlet.Problem, error) {
	ids, err := m.rt.List(ctx)
	if err != nil {
		return nil, err
	}
	var found []outlet.Problem
	for _, id := range ids {
		if why := s.idle(id); why != "" && outlet.IsID(id) {
			found = append(found, outlet.Problem{Kind: strayContainer, Subject: id, Detail: "the runtime knows it, but " + why})
		}
	}
	for id, state := range s {
		if state == outlet.StateRunning && outlet.IsID(id) && !slices.Contains(ids, id) {
			found = append(found, outlet.Problem{Kind: lostContainer, Subject: id, Detail: "its plugin runs, but the runtime does not know it"})
		}
	}
	return found, nil
}

func (m *Manager) checkExecRoot(_ context.Context, s survey) ([]outlet.Problem, error) {
	var found []outlet.Problem
	for _, parent := range []string{m.bundlesDir(), m.socketsDir()} {
		entries, err := os.ReadDir(parent)
		if err != nil {
			return nil, err
		}
		for _, e := range entries {
			if why := s.idle(e.Name()); why != "" {
				found = append(found, outlet.Problem{Kind: strayDirectory, Subject: filepath.Join(parent, e.Name()), Detail: why})
			}
		}
	}
	return found, nil
}

// checkMounts looks for mounts in the directories of plugins that do not run.
func (m *Manager) checkMounts(_ context.Context, s survey) ([]outlet.Problem, error) {
	mounts, err := mountinfo.GetMounts(nil)
	if err != nil {
		return nil, err
	}
	var found []outlet.Problem
	for _, parent := range []string{m.bundlesDir(), m.socketsDir(), filepath.Join(m.cfg.Root, "plugins")} {
		if resolved, err := filepath.EvalSymlinks(parent); err == nil {
			parent = resolved
		}
		for _, mnt := range mounts {
			below, ok := strings.CutPrefix(mnt.Mountpoint, parent+"/")
			if !ok {
				continue
			}
			id, _, _ := strings.Cut(below, "/")
			if why := s.idle(id); why != "" {
				found = append(found, outlet.Problem{Kind: strayMount, Subject: mnt.Mountpoint, Detail: why})
			}
		}
	}
	return found, nil
}

// cgroupDirs are the directories of the cgroups of the plugin with the id, in
// whatever hierarchies there are.
func (m *Manager) cgroupDirs(id string) []string {
	mounts, err := mountinfo.GetMounts(mountinfo.FSTypeFilter("cgroup", "cgroup2"))
	if err != nil {
		return nil
	}
	parent := m.cfg.CgroupParent
	if parent == "" {
		parent = filepath.Join(m.facts.Cgroups.Base, ocispec.DefaultCgroupParent)
	}
	var dirs []string
	for _, mnt := range mounts {
		dir := filepath.Join(mnt.Mountpoint, parent, id)
		if _, err := os.Stat(dir); err == nil {
			dirs = append(dirs, dir)
		}
	}
	return dirs
}

// checkCgroups looks for cgroups of plugins that are disabled. Those of plugins
// that are not known may be another daemon's.
func (m *Manager) checkCgroups(_ context.Context, s survey) ([]outlet.Problem, error) {
	if !m.rtInfo.Isolates {
		return nil, nil
	}
	var found []outlet.Problem
	for id, state := range s {
		if state != outlet.StateDisabled || !outlet.IsID(id) {
			continue
		}
		for _, dir := range m.cgroupDirs(id) {
			found = append(found, outlet.Problem{Kind: strayCgroup, Subject: dir, Detail: s.idle(id)})
		}
	}
	return found, nil
}

// repair mends what was found, each thing only if it is still so.
func (m *Manager) repair(ctx context.Context, found []outlet.Problem) error {
	var errs []error
	var report store.Report
	torn := map[string]bool{} // plugins whose leftovers are to be taken away
	for _, p := range found {
		switch p.Kind {
		case strayContainer:
			torn[p.Subject] = true
		case strayDirectory:
			torn[filepath.Base(p.Subject)] = true
		case strayCgroup:
			torn[filepath.Base(p.Subject)] = true
		case strayMount:
			for _, parent := range []string{m.bundlesDir(), m.socketsDir(), filepath.Join(m.cfg.Root, "plugins")} {
				if below, ok := strings.CutPrefix(p.Subject, parent+"/"); ok {
					id, _, _ := strings.Cut(below, "/")
					torn[id] = true
				}
			}
		default:
			report.Problems = append(report.Problems, store.Problem{Kind: store.ProblemKind(p.Kind), Subject: p.Subject})
		}
	}
	for id := range torn {
		errs = append(errs, m.clearAway(ctx, id))
	}
	errs = append(errs, m.store.Repair(ctx, report))
	return errors.Join(errs...)
}

// clearAway removes what is left on the host of a plugin that is disabled or
// does not exist. id may be short.
func (m *Manager) clearAway(ctx context.Context, id string) error {
	for _, u := range m.all() {
		if u.id == id || shortID(u.id) == id {
			return u.clearAway(ctx)
		}
	}
	var errs []error
	if outlet.IsID(id) {
		errs = append(errs, durable.Do(durable.Runtime, "purge", func() error { return m.rt.Purge(ctx, id) }))
	}
	if id = shortID(id); id != "" && !strings.Contains(id, "..") {
		for _, parent := range []string{m.bundlesDir(), m.socketsDir()} {
			errs = append(errs, removeTree(ctx, filepath.Join(parent, id)))
		}
	}
	return errors.Join(errs...)
}

// clearAway is that for a plugin there is: nothing may be done to it meanwhile.
func (u *unit) clearAway(ctx context.Context) error {
	p, _ := u.look()
	unlock, err := u.ops.lock(ctx, p.Name, "check")
	if errdefs.IsConflict(err) {
		return nil // something is being done to it; the next check sees what came of it
	}
	if err != nil {
		return err
	}
	defer unlock()
	if p, _ = u.look(); p.Status.State != outlet.StateDisabled {
		return nil
	}
	if _, err := u.teardown(ctx, nil); err != nil {
		return fmt.Errorf("clear away what is left of plugin %s: %w", p.Name, err)
	}
	var errs []error
	for _, dir := range u.m.cgroupDirs(u.id) {
		err := durable.Rmdir(dir)
		if err != nil && !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, unix.EBUSY) { // busy: it is still reported
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}
