package outlet

import (
	"fmt"
	"slices"
	"strings"
)

// Reconcile returns the settings a plugin has after its config changed from old
// to next: what its user set is kept where it can still be set, what its user
// left alone follows the new config, and what is gone is dropped. changed says
// in words what of it a user may have to know; it names settings and never holds
// their values, which may be secret.
func (s Settings) Reconcile(old, next Config) (out Settings, changed []string) {
	out = NewSettings(next)
	r := reconciler{old: old.Clone(), next: next, was: s.Clone(), out: &out}
	r.env()
	r.mounts()
	r.devices()
	r.args()
	return out, r.changed
}

type reconciler struct {
	old, next Config
	was       Settings
	out       *Settings
	changed   []string
}

func (r *reconciler) note(format string, args ...any) {
	r.changed = append(r.changed, fmt.Sprintf(format, args...))
}

// dropped notes that what the user set is not kept.
func (r *reconciler) dropped(kind, name string, there bool) {
	if there {
		r.note("%s %s cannot be set any more: it has the new version's value", kind, name)
	} else {
		r.note("%s %s is gone: what it was set to is dropped", kind, name)
	}
}

func (r *reconciler) env() {
	declared := make(map[string]Env)
	for _, e := range r.old.Env {
		if _, ok := declared[e.Name]; !ok {
			declared[e.Name] = e
		}
	}
	for _, entry := range r.was.Env {
		name, value, _ := strings.Cut(entry, "=")
		before, known := declared[name]
		i := slices.IndexFunc(r.next.Env, func(e Env) bool { return e.Name == name })
		users := !known || before.Value == nil || *before.Value != value
		switch {
		case !users && i >= 0:
			if now := r.next.Env[i].Value; now == nil || *now != value {
				r.note("env %s has a new default", name)
			}
		case !users:
			r.note("env %s is gone", name)
		case i < 0 && known:
			r.dropped("env", name, false)
		case i < 0: // given at creation, unknown to both configs
			r.out.Env = append(r.out.Env, entry)
		case !known || slices.Contains(r.next.Env[i].Settable, fieldValue):
			envSetting(r.next.Env[i]).set(r.out, value)
		default:
			r.dropped("env", name, true)
		}
	}
	for _, e := range r.next.Env {
		if _, ok := declared[e.Name]; !ok && e.Name != "" {
			r.note("env %s is new", e.Name)
		}
	}
}

func (r *reconciler) mounts() {
	for _, m := range r.was.Mounts {
		same := func(o Mount) bool { return o.Name == m.Name && (m.Name != "" || o.Destination == m.Destination) }
		name := orDestination(m)
		before := slices.IndexFunc(r.old.Mounts, same)
		i := slices.IndexFunc(r.out.Mounts, same)
		users := before < 0 || !equalPointers(r.old.Mounts[before].Source, m.Source)
		switch {
		case !users && i < 0:
			r.note("mount %s is gone", name)
		case !users && !equalPointers(r.out.Mounts[i].Source, m.Source):
			r.note("mount %s has a new default", name)
		case !users:
		case i >= 0 && slices.Contains(r.out.Mounts[i].Settable, fieldSource) && r.out.Mounts[i].Source != nil && m.Source != nil:
			source := *m.Source
			r.out.Mounts[i].Source = &source
		default:
			r.dropped("mount", name, i >= 0)
		}
	}
	for _, m := range r.next.Mounts {
		same := func(o Mount) bool { return o.Name == m.Name && (m.Name != "" || o.Destination == m.Destination) }
		if !slices.ContainsFunc(r.old.Mounts, same) {
			r.note("mount %s is new", orDestination(m))
		}
	}
}

func orDestination(m Mount) string {
	if m.Name == "" {
		return m.Destination
	}
	return m.Name
}

func (r *reconciler) devices() {
	for k, d := range r.was.Devices {
		// Devices without a name are told apart by their place alone.
		same := func(l []Device) int {
			if d.Name == "" {
				if k < len(l) && l[k].Name == "" {
					return k
				}
				return -1
			}
			return slices.IndexFunc(l, func(o Device) bool { return o.Name == d.Name })
		}
		before, i := same(r.old.Linux.Devices), same(r.out.Devices)
		users := before < 0 || !equalPointers(r.old.Linux.Devices[before].Path, d.Path)
		switch {
		case !users && i < 0:
			r.note("device %s is gone", d.Name)
		case !users && !equalPointers(r.out.Devices[i].Path, d.Path):
			r.note("device %s has a new default", d.Name)
		case !users:
		case i >= 0 && slices.Contains(r.out.Devices[i].Settable, fieldPath) && r.out.Devices[i].Path != nil && d.Path != nil:
			path := *d.Path
			r.out.Devices[i].Path = &path
		default:
			r.dropped("device", d.Name, i >= 0)
		}
	}
	for _, d := range r.next.Linux.Devices {
		if d.Name != "" && !slices.ContainsFunc(r.old.Linux.Devices, func(o Device) bool { return o.Name == d.Name }) {
			r.note("device %s is new", d.Name)
		}
	}
}

func (r *reconciler) args() {
	users := !slices.Equal(r.was.Args, r.old.Args.Value)
	switch {
	case !users && !slices.Equal(r.old.Args.Value, r.next.Args.Value):
		r.note("the arguments have a new default")
	case !users:
	case r.next.Args.Name == r.old.Args.Name && slices.Contains(r.next.Args.Settable, fieldValue):
		r.out.Args = slices.Clone(r.was.Args)
	default:
		r.note("the arguments cannot be set any more: they have the new version's value")
	}
}

func equalPointers(a, b *string) bool {
	if a == nil || b == nil {
		return a == b
	}
	return *a == *b
}
