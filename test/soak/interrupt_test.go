package soak

import (
	"fmt"
	"strings"
	"time"

	"github.com/containerd/errdefs"

	"github.com/outletd/outlet"
	"github.com/outletd/outlet/internal/testutil"
)

// amid is how long an operation goes on at most before the daemon is killed.
// Most take less.
const amid = 80 * time.Millisecond

// intent is an operation and what it makes of a plugin; nil is that there is
// none.
type intent struct {
	what  string
	after *model
	do    func() error
}

// intents are the operations on a plugin that can be interrupted.
func (s *soak) intents(name string) []intent {
	m, there := s.models[name]
	if !there {
		return []intent{{"create", &model{size: defaultSize}, func() error {
			_, err := s.sendContext(name)
			return err
		}}}
	}
	with := func(change func(*model)) *model {
		after := *m
		change(&after)
		return &after
	}
	ctx := s.t.Context()
	if !m.enabled {
		size := s.anotherSize()
		l := []intent{
			{"enable", with(func(m *model) { m.enabled, m.kills = true, 0 }), func() error { return s.c.Enable(ctx, name, outlet.EnableOptions{}) }},
			{"set", with(func(m *model) { m.size = size }), func() error { return s.c.Set(ctx, name, outlet.SetOptions{Set: []string{size}}) }},
		}
		if !m.volume {
			l = append(l, intent{"remove", nil, func() error { return s.c.Remove(ctx, name, false) }})
		}
		return l
	}
	if m.mounted != "" {
		return []intent{{"volume unmount", with(func(m *model) { m.mounted = "" }), func() error { return s.c.VolumeUnmount(ctx, name, "") }}}
	}
	l := []intent{{"disable", with(func(m *model) { m.enabled = false }), func() error { return s.c.Disable(ctx, name, false) }}}
	if !m.volume {
		return append(l, intent{"volume create", with(func(m *model) { m.volume, m.kind, m.datum = true, "dir", "" }), func() error {
			_, err := s.c.VolumeCreate(ctx, outlet.VolumeCreate{Name: name, Driver: name, DriverOpts: map[string]string{"type": "dir"}})
			return err
		}})
	}
	return append(
		l,
		intent{"volume mount", with(func(m *model) { m.mounted = "somewhere" }), func() error { _, err := s.c.VolumeMount(ctx, name, ""); return err }},
		intent{"volume remove", with(func(m *model) { m.volume = false }), func() error { return s.c.VolumeRemove(ctx, name, false) }},
	)
}

// interrupt kills the daemon in the midst of an operation. What it was about to
// do is done then or not; done, if that was answered.
func (s *soak) interrupt(name string) error {
	all := s.intents(name)
	in := all[s.r.IntN(len(all))]
	s.did(name, "of "+in.what)
	ended := make(chan error, 1)
	go func() { ended <- in.do() }() // it ends with the daemon at the latest
	pause := time.NewTimer(time.Duration(s.r.Int64N(int64(amid))))
	defer pause.Stop()
	<-pause.C
	s.d.Kill()
	opErr := <-ended
	s.start()

	before := s.models[name]
	now, err := s.observe(name)
	switch {
	case err != nil:
		return err
	case in.after.alike(now):
		s.adopt(name, in.after, now)
	case opErr == nil:
		return fmt.Errorf("%s was answered, and there is %+v instead of %+v", in.what, now, in.after)
	case before.alike(now):
		s.adopt(name, before, now)
	default:
		return fmt.Errorf("amid %s: there is %+v, which is neither what was (%+v) nor what was to be (%+v)", in.what, now, before, in.after)
	}
	return nil
}

// adopt makes what is right of what is known of it and what was seen.
func (s *soak) adopt(name string, known, seen *model) {
	if seen == nil {
		delete(s.models, name)
		return
	}
	m := *known
	m.mounted = seen.mounted
	s.models[name] = &m
}

// alike says whether the daemon could be asked for any difference.
func (m *model) alike(o *model) bool {
	if m == nil || o == nil {
		return m == o
	}
	return m.enabled == o.enabled && m.size == o.size && (m.mounted != "") == (o.mounted != "") &&
		(m.volume == o.volume || !m.enabled) // who is disabled cannot be asked
}

// observe is the plugin as the daemon shows it; nil if there is none.
func (s *soak) observe(name string) (*model, error) {
	found, err := s.list()
	if err != nil {
		return nil, err
	}
	p, ok := found[name]
	if !ok {
		return nil, nil //nolint:nilnil // that there is none is no error
	}
	s.ids[p.ID] = true
	m := &model{enabled: p.Enabled}
	for _, e := range p.Settings.Env {
		if strings.HasPrefix(e, "TMPFS_SIZE=") {
			m.size = e
		}
	}
	if !m.enabled {
		return m, nil
	}
	testutil.Eventually(s.t, patience, func() error {
		_, err := s.running(name)
		return err
	})
	v, err := s.c.VolumeInspect(s.t.Context(), name)
	if errdefs.IsNotFound(err) {
		return m, nil
	}
	if err != nil {
		return nil, err
	}
	m.volume = true
	if len(p.Status.Holders) > 0 {
		if m.mounted = v.Mountpoint; m.mounted == "" {
			return nil, fmt.Errorf("the volume of %s is held, and nobody knows where it is mounted", name)
		}
	}
	return m, nil
}
