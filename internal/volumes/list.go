package volumes

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/outletd/outlet"
	"github.com/outletd/outlet/capability/volume"
)

// List returns the volumes of all plugins that f selects, by name. A plugin that
// cannot be asked is a warning, and what is kept of its volumes stands in for
// what it would say. Of two volumes with one name the one that has a record is
// listed.
func (s *Service) List(ctx context.Context, f outlet.VolumeFilter) (outlet.VolumeList, error) {
	l := listing{
		filter:  f,
		records: make(map[string]Record),
		there:   make(map[string]bool),
		asked:   make(map[string]bool),
		seen:    make(map[string]string),
		out:     outlet.VolumeList{Volumes: []outlet.Volume{}, Warnings: []string{}},
	}
	drivers, err := s.drivers(ctx)
	if err != nil {
		l.warn("look for v1 plugins: %v", err)
	}
	drivers = slices.DeleteFunc(drivers, func(d Driver) bool { return !l.wants(d.Name) })
	answers := make([]answer, len(drivers))
	s.each(ctx, drivers, func(ctx context.Context, i int, d Driver) {
		a := answer{driver: d}
		if a.volumes, a.err = s.client(d).List(ctx); a.err == nil && len(a.volumes) > 0 {
			a.scope = s.scope(ctx, d)
		}
		answers[i] = a
	})
	if err := ctx.Err(); err != nil {
		return outlet.VolumeList{}, err
	}
	for _, r := range s.all() {
		l.records[r.Name] = r
	}
	for _, a := range answers {
		l.take(a)
	}
	l.addOthers()
	l.addKept()
	slices.SortFunc(l.out.Volumes, func(a, b outlet.Volume) int { return strings.Compare(a.Name, b.Name) })
	return l.out, nil
}

// answer is what a plugin says of its volumes.
type answer struct {
	driver  Driver
	volumes []volume.Volume
	scope   string
	err     error
}

// listing is a list of volumes that is being made.
type listing struct {
	filter  outlet.VolumeFilter
	records map[string]Record
	there   map[string]bool   // the drivers there are
	asked   map[string]bool   // those that answered
	seen    map[string]string // by name of a volume, the driver it was taken from
	others  []listed          // volumes that have a record of another driver
	out     outlet.VolumeList
}

type listed struct {
	found
	name, scope string
}

func (l *listing) warn(format string, args ...any) {
	l.out.Warnings = append(l.out.Warnings, fmt.Sprintf(format, args...))
}

// wants says whether volumes of the driver are wanted.
func (l *listing) wants(driver string) bool {
	return len(l.filter.Drivers) == 0 ||
		slices.ContainsFunc(l.filter.Drivers, func(d string) bool { return sameName(d, driver) })
}

func (l *listing) add(v listed) {
	l.seen[v.name] = v.driver.Name
	if shown := v.show(v.name, v.scope); selected(l.filter, shown) {
		l.out.Volumes = append(l.out.Volumes, shown)
	}
}

// take adds the volumes of one plugin.
func (l *listing) take(a answer) {
	d := a.driver
	l.there[d.Name] = true
	if a.err != nil {
		l.warn("%v", failed(d, a.err))
		return
	}
	l.asked[d.Name] = true
	for _, v := range a.volumes {
		rec := l.records[v.Name]
		switch first, ok := l.seen[v.Name]; {
		case rec.Driver != "" && rec.Driver != d.Name:
			l.others = append(l.others, listed{found{driver: d, volume: &v}, v.Name, a.scope})
		case !ok:
			l.add(listed{found{d, &v, rec}, v.Name, a.scope})
		case first != d.Name:
			l.warn("volume driver %s has a volume %q too, which is not listed", d.Name, v.Name)
		}
	}
}

// addOthers adds volumes that have a record of a plugin which does not have
// them any more.
func (l *listing) addOthers() {
	for _, o := range l.others {
		rec := l.records[o.name]
		if _, ok := l.seen[o.name]; !ok && l.asked[rec.Driver] && len(rec.active()) == 0 {
			l.add(o)
		}
	}
}

// addKept adds the volumes with a record whose plugin did not answer, and those
// that are mounted though their plugin does not list them.
func (l *listing) addKept() {
	missing := make(map[string]int)
	for name, r := range l.records {
		_, seen := l.seen[name]
		if seen || !l.wants(r.Driver) {
			continue
		}
		if len(r.active()) == 0 && (l.asked[r.Driver] || !r.Created && len(r.Labels) == 0) {
			continue // its plugin does not have it any more, or it is nothing but a mount that was given back
		}
		if !l.there[r.Driver] {
			missing[r.Driver]++
		}
		l.add(listed{found{rec: r}, name, ""})
	}
	for _, driver := range slices.Sorted(maps.Keys(missing)) {
		l.warn("volume driver %s, of %d volumes, is not there or not enabled", driver, missing[driver])
	}
}

// selected says whether the parts of f that are not about drivers select v.
func selected(f outlet.VolumeFilter, v outlet.Volume) bool {
	if f.Dangling != nil && *f.Dangling != (len(v.Outlet.Mounts) == 0) {
		return false
	}
	if len(f.Names) > 0 && !slices.ContainsFunc(f.Names, func(part string) bool { return strings.Contains(v.Name, part) }) {
		return false
	}
	return len(f.Labels) == 0 || slices.ContainsFunc(f.Labels, func(l string) bool {
		key, value, withValue := strings.Cut(l, "=")
		have, ok := v.Labels[key]
		return ok && (!withValue || have == value)
	})
}

// PruneCandidates returns the volumes of one driver that were created through
// this daemon and are not mounted: those that a user who tidies up may mean.
func (s *Service) PruneCandidates(ctx context.Context, driver string) ([]outlet.Volume, error) {
	dangling := true
	list, err := s.List(ctx, outlet.VolumeFilter{Drivers: []string{driver}, Dangling: &dangling})
	if err != nil {
		return nil, err
	}
	return slices.DeleteFunc(list.Volumes, func(v outlet.Volume) bool { return !v.Outlet.Created }), nil
}
