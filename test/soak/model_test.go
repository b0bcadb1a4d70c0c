package soak

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"syscall"

	"github.com/outletd/outlet"
	"github.com/outletd/outlet/internal/testutil"
)

// model is what must be true of one plugin.
type model struct {
	enabled bool
	size    string // the setting TMPFS_SIZE
	kills   int    // since it was enabled

	volume  bool   // has a volume of its own name
	kind    string // of the volume: dir or tmpfs
	datum   string // what is in its file
	mounted string // where
}

const defaultSize = "TMPFS_SIZE=64m"

// step does one thing that is possible with the plugin.
func (s *soak) step(name string) {
	s.t.Helper()
	type choice struct {
		what     string
		possible bool
		do       func() error
	}
	m, there := s.models[name]
	if !there {
		m = &model{}
	}
	choices := []choice{
		{"create", !there, func() error { return s.create(name) }},
		{"enable", there && !m.enabled, func() error { return s.enable(name) }},
		{"disable", m.enabled && m.mounted == "", func() error { return s.disable(name) }},
		{"set", there && !m.enabled, func() error { return s.set(name) }},
		{"remove", there && !m.enabled && !m.volume, func() error { return s.remove(name) }},
		// After the third restart in ten minutes there are delays, by design.
		{"kill plugin", m.enabled && m.kills < 2, func() error { m.kills++; return s.kill(name) }},
		{"volume create", m.enabled && !m.volume, func() error { return s.volumeCreate(name) }},
		{"volume mount", m.volume && m.enabled && m.mounted == "", func() error { return s.mount(name) }},
		{"volume unmount", m.mounted != "", func() error { return s.unmount(name) }},
		{"volume remove", m.volume && m.enabled && m.mounted == "", func() error { return s.volumeRemove(name) }},
		{"kill printer", s.r.IntN(20) == 0, s.killPrinter},
		{"check", s.r.IntN(20) == 0, func() error { s.check(); return s.checkVolumes() }},
		{"restart daemon", s.mortal && s.r.IntN(8) == 0, func() error { s.restart(); return nil }},
		{"kill daemon", s.mortal && s.r.IntN(8) == 0, func() error { s.d.Kill(); s.start(); return nil }},
		{"kill daemon amid", s.mortal && s.r.IntN(2) == 0, func() error { return s.interrupt(name) }},
	}
	choices = slices.DeleteFunc(choices, func(c choice) bool { return !c.possible })
	c := choices[s.r.IntN(len(choices))]
	s.did(name, c.what)
	if err := c.do(); err != nil {
		s.t.Fatalf("%s %s: %v\nbefore: %q", c.what, name, err, s.past[name])
	}
}

// did notes what was done to a plugin.
func (s *soak) did(name, what string) {
	s.counts[what]++
	s.past[name] = append(s.past[name], what)
}

// around does everything once with one plugin.
func (s *soak) around() {
	s.t.Helper()
	const name = "around"
	for _, do := range []func(string) error{
		s.create, s.set, s.enable, s.volumeCreate, s.mount, s.unmount, s.volumeRemove, s.kill, s.disable, s.remove,
	} {
		if err := do(name); err != nil {
			s.t.Fatal(err)
		}
	}
	if err := s.killPrinter(); err != nil {
		s.t.Fatal(err)
	}
	s.check()
	if err := s.checkVolumes(); err != nil {
		s.t.Fatal(err)
	}
	s.checkAll()
}

func (s *soak) create(name string) error {
	p, err := s.sendContext(name)
	if err != nil {
		return err
	}
	s.ids[p.ID] = true
	s.models[name] = &model{size: defaultSize}
	return nil
}

// sendContext has the plugin created.
func (s *soak) sendContext(name string) (outlet.Plugin, error) {
	f, err := os.Open(s.tar)
	if err != nil {
		return outlet.Plugin{}, err
	}
	defer f.Close()
	p, _, err := s.c.Create(s.t.Context(), name, f, outlet.CreateOptions{})
	return p, err
}

func (s *soak) enable(name string) error {
	m := s.models[name]
	m.enabled, m.kills = true, 0
	return s.c.Enable(s.t.Context(), name, outlet.EnableOptions{})
}

func (s *soak) disable(name string) error {
	s.models[name].enabled = false
	return s.c.Disable(s.t.Context(), name, false)
}

func (s *soak) set(name string) error {
	m := s.models[name]
	m.size = s.anotherSize()
	return s.c.Set(s.t.Context(), name, outlet.SetOptions{Set: []string{m.size}})
}

func (s *soak) anotherSize() string { return fmt.Sprintf("TMPFS_SIZE=%dm", 1+s.r.IntN(63)) }

func (s *soak) remove(name string) error {
	delete(s.models, name)
	return s.c.Remove(s.t.Context(), name, false)
}

func (s *soak) volumeCreate(name string) error {
	m := s.models[name]
	m.volume, m.datum = true, ""
	m.kind = []string{"dir", "tmpfs"}[s.r.IntN(2)]
	_, err := s.c.VolumeCreate(s.t.Context(), outlet.VolumeCreate{Name: name, Driver: name, DriverOpts: map[string]string{"type": m.kind}})
	return err
}

// mount mounts the plugin's volume and writes through it.
func (s *soak) mount(name string) error {
	v, err := s.c.VolumeMount(s.t.Context(), name, "")
	if err != nil {
		return err
	}
	m := s.models[name]
	m.mounted = v.Mountpoint
	if err := s.checkDatum(m); err != nil {
		return err
	}
	m.datum = fmt.Sprint(name, s.r.Uint64())
	return os.WriteFile(filepath.Join(m.mounted, "f"), []byte(m.datum), 0o644)
}

// checkDatum looks at what was written into the volume. What is in memory ends
// with the plugin's process.
func (s *soak) checkDatum(m *model) error {
	if m.mounted == "" || m.kind != "dir" || m.datum == "" {
		return nil
	}
	if b, err := os.ReadFile(filepath.Join(m.mounted, "f")); err != nil || string(b) != m.datum {
		return fmt.Errorf("the volume holds %q, %v; it was %q", b, err, m.datum) //nolint:errorlint // err may be nil
	}
	return nil
}

func (s *soak) unmount(name string) error {
	s.models[name].mounted = ""
	return s.c.VolumeUnmount(s.t.Context(), name, "")
}

func (s *soak) volumeRemove(name string) error {
	s.models[name].volume = false
	return s.c.VolumeRemove(s.t.Context(), name, false)
}

// kill ends the plugin's process behind the daemon's back and waits until there
// is another.
func (s *soak) kill(name string) error {
	p, err := s.running(name)
	if err != nil {
		return err
	}
	if err := syscall.Kill(p.Status.PID, syscall.SIGKILL); err != nil {
		return err
	}
	testutil.Eventually(s.t, patience, func() error {
		now, err := s.running(name)
		if err == nil && now.Status.PID == p.Status.PID {
			err = fmt.Errorf("%s still has process %d", name, now.Status.PID)
		}
		return err
	})
	return nil
}

func (s *soak) running(name string) (outlet.Plugin, error) {
	p, err := s.c.Inspect(s.t.Context(), name)
	if err == nil && p.Status.State != outlet.StateRunning {
		err = fmt.Errorf("%s is %s: %s", name, p.Status.State, p.Status.Error)
	}
	return p, err
}

// list are the plugins there are, by name without the tag.
func (s *soak) list() (map[string]outlet.Plugin, error) {
	all, err := s.c.List(s.t.Context(), outlet.ListFilter{})
	found := make(map[string]outlet.Plugin)
	for _, p := range all {
		name, err := outlet.ParseName(p.Name)
		if err != nil || name != p.Name {
			return nil, fmt.Errorf("a plugin has the name %q", p.Name)
		}
		found[p.Name[:len(p.Name)-len(":latest")]] = p
	}
	return found, err
}

// checkAll compares the daemon with the models.
func (s *soak) checkAll() {
	s.t.Helper()
	// What is enabled runs, soon.
	for name, m := range s.models {
		if !m.enabled {
			continue
		}
		testutil.Eventually(s.t, patience, func() error {
			_, err := s.running(name)
			return err
		})
	}
	found, err := s.list()
	if err != nil {
		s.t.Fatal(err)
	}
	if want := len(s.models) + len(s.printers); len(found) != want {
		s.t.Fatalf("there are %d plugins, not %d", len(found), want)
	}
	for _, p := range s.printers {
		if got := found[p.name]; got.ID != p.id || !got.Enabled {
			s.t.Fatalf("%s is %+v", p.name, got)
		}
	}
	for name, m := range s.models {
		p, ok := found[name]
		if !ok {
			s.t.Fatalf("%s is lost", name)
		}
		if p.Enabled != m.enabled || !slices.Contains(p.Settings.Env, m.size) || len(p.Status.Holders) > 0 != (m.mounted != "") {
			s.t.Fatalf("%s is enabled %v, has %v and holders %v; the model is %+v", name, p.Enabled, p.Settings.Env, p.Status.Holders, *m)
		}
		if !m.enabled && p.Status.PID != 0 {
			s.t.Fatalf("%s is disabled and has process %d", name, p.Status.PID)
		}
		if err := s.checkDatum(m); err != nil {
			s.t.Fatalf("%s: %v", name, err)
		}
	}
}

// checkVolumes compares the volumes of plugins that can be asked with the models.
func (s *soak) checkVolumes() error {
	list, err := s.c.VolumeList(s.t.Context(), outlet.VolumeFilter{})
	if err != nil {
		return err
	}
	for name, m := range s.models {
		if !m.enabled {
			continue
		}
		there := slices.ContainsFunc(list.Volumes, func(v outlet.Volume) bool { return v.Name == name })
		if there != m.volume {
			return fmt.Errorf("that there is a volume %s is %v, the model is %+v", name, there, *m)
		}
	}
	return nil
}
