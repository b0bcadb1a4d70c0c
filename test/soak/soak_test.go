package soak

import (
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/outletd/outlet"
	"github.com/outletd/outlet/client"
	"github.com/outletd/outlet/internal/testutil"
	"github.com/outletd/outlet/internal/testutil/daemontest"
)

func TestMain(m *testing.M) { os.Exit(testutil.Main(m)) }

// How many plugins there are: few where the test only shows that it works.
const (
	fewPlugins  = 6
	manyPlugins = 50
)

// soak is a run: the daemon, and what must be true of it.
type soak struct {
	t      *testing.T
	d      *daemontest.Daemon
	c      *client.Client
	r      *rand.Rand
	tar    string
	models map[string]*model
	counts map[string]int
	// printers print numbers all the time, and are killed now and then.
	printers []string
	ids      map[string]bool // of all plugins there ever were
	// before is what the daemon took when all was set up.
	before usage
}

// usage is what must not grow.
type usage struct {
	descriptors int
	threads     int64
	resident    int64
}

func (s *soak) usage() usage {
	return usage{s.d.Descriptors(), s.d.Threads(), s.d.RSS()}
}

// model is what must be true of one plugin.
type model struct {
	enabled bool
	size    string // the setting TMPFS_SIZE
	volume  bool   // has a volume of its own name
	mounted bool
	kills   int // since it was enabled
}

// TestSoak runs for OUTLET_SOAK, or a few seconds. `make soak` sets it.
func TestSoak(t *testing.T) {
	length, plugins := 5*time.Second, fewPlugins
	if v := os.Getenv("OUTLET_SOAK"); v != "" {
		var err error
		if length, err = time.ParseDuration(v); err != nil {
			t.Fatal(err)
		}
		plugins = manyPlugins
	}
	seed := uint64(time.Now().UnixNano())
	if v := os.Getenv("OUTLET_SEED"); v != "" {
		var err error
		if seed, err = strconv.ParseUint(v, 10, 64); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("OUTLET_SEED=%d", seed)
	s := &soak{
		t: t, d: daemontest.Start(t), r: rand.New(rand.NewPCG(seed, 0)),
		models: make(map[string]*model), counts: make(map[string]int), ids: make(map[string]bool),
	}
	s.tar = filepath.Join(t.TempDir(), "dirvol.tar")
	if out, err := exec.Command("tar", "-C", daemontest.Dirvol(t), "-cf", s.tar, ".").CombinedOutput(); err != nil {
		t.Fatalf("tar: %v\n%s", err, out)
	}
	var err error
	if s.c, err = client.New(client.Options{Host: s.d.Host()}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.c.Close() })

	// Once around, so that what a daemon opens once is open.
	s.step("plugin0")
	s.startPrinters()
	s.checkAll()
	s.before = s.usage()
	for end := time.Now().Add(length); time.Now().Before(end); {
		s.step(fmt.Sprintf("plugin%d", s.r.IntN(plugins)))
		s.checkAll()
	}
	s.checkPrinters()
	s.tearDown()
	t.Logf("steps: %v", s.counts)
	s.checkUsage()
}

// step does one thing that is possible with the plugin.
func (s *soak) step(name string) {
	s.t.Helper()
	m, there := s.models[name]
	if !there {
		s.create(name)
		return
	}
	type choice struct {
		what     string
		possible bool
		do       func() error
	}
	choices := []choice{
		{"enable", !m.enabled, func() error {
			m.enabled, m.kills = true, 0
			return s.c.Enable(s.t.Context(), name, outlet.EnableOptions{})
		}},
		{"disable", m.enabled && !m.mounted, func() error { m.enabled = false; return s.c.Disable(s.t.Context(), name, false) }},
		{"set", !m.enabled, func() error {
			m.size = fmt.Sprintf("TMPFS_SIZE=%dm", 1+s.r.IntN(64))
			return s.c.Set(s.t.Context(), name, outlet.SetOptions{Set: []string{m.size}})
		}},
		{"remove", !m.enabled && !m.volume, func() error { delete(s.models, name); return s.c.Remove(s.t.Context(), name, false) }},
		// After the third restart in ten minutes there are delays, by design.
		{"kill plugin", m.enabled && m.kills < 2, func() error { m.kills++; return s.kill(name) }},
		{"volume create", m.enabled && !m.volume, func() error {
			m.volume = true
			opts := map[string]string{"type": []string{"dir", "tmpfs"}[s.r.IntN(2)]}
			_, err := s.c.VolumeCreate(s.t.Context(), outlet.VolumeCreate{Name: name, Driver: name, DriverOpts: opts})
			return err
		}},
		{"volume mount", m.volume && m.enabled && !m.mounted, func() error { m.mounted = true; return s.mount(name) }},
		{"volume unmount", m.mounted, func() error { m.mounted = false; return s.c.VolumeUnmount(s.t.Context(), name, "") }},
		{"volume remove", m.volume && m.enabled && !m.mounted, func() error { m.volume = false; return s.c.VolumeRemove(s.t.Context(), name, false) }},
		{"kill printer", s.r.IntN(20) == 0, s.killPrinter},
		{"check", s.r.IntN(20) == 0, s.check},
		{"restart daemon", s.r.IntN(8) == 0, func() error { s.d.Stop(); s.d.Start(); return nil }},
		{"kill daemon", s.r.IntN(8) == 0, func() error { s.d.Kill(); s.d.Start(); return nil }},
	}
	choices = slices.DeleteFunc(choices, func(c choice) bool { return !c.possible })
	c := choices[s.r.IntN(len(choices))]
	s.counts[c.what]++
	if err := c.do(); err != nil {
		s.t.Fatalf("%s %s: %v", c.what, name, err)
	}
}

// check compares what the daemon keeps with what is there. Where the daemon was
// killed while it collected garbage some may be left until the next collection;
// what a repair does not mend is an error.
func (s *soak) check() error {
	if r := s.d.Outlet("system", "check"); r.Code != 0 {
		s.t.Logf("a check finds: %s", r.Out)
		s.counts["repair"]++
		s.d.Outlet("system", "check", "--repair")
		s.d.Outlet("system", "check").OK()
	}
	return nil
}

func (s *soak) create(name string) {
	s.t.Helper()
	f, err := os.Open(s.tar)
	if err != nil {
		s.t.Fatal(err)
	}
	defer f.Close()
	p, _, err := s.c.Create(s.t.Context(), name, io.Reader(f), outlet.CreateOptions{})
	if err != nil {
		s.t.Fatalf("create %s: %v", name, err)
	}
	s.ids[p.ID] = true
	s.models[name] = &model{size: "TMPFS_SIZE=64m"}
	s.counts["create"]++
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
	testutil.Eventually(s.t, 20*time.Second, func() error {
		now, err := s.running(name)
		if err == nil && now.Status.PID == p.Status.PID {
			err = fmt.Errorf("%s still has process %d", name, now.Status.PID)
		}
		return err
	})
	return nil
}

// mount mounts the plugin's volume and writes through it.
func (s *soak) mount(name string) error {
	v, err := s.c.VolumeMount(s.t.Context(), name, "")
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(v.Mountpoint, "f"), []byte(name), 0o644)
}

func (s *soak) running(name string) (outlet.Plugin, error) {
	p, err := s.c.Inspect(s.t.Context(), name)
	if err == nil && p.Status.State != outlet.StateRunning {
		err = fmt.Errorf("%s is %s: %s", name, p.Status.State, p.Status.Error)
	}
	return p, err
}

// checkAll compares the daemon with the models.
func (s *soak) checkAll() {
	s.t.Helper()
	list, err := s.c.List(s.t.Context(), outlet.ListFilter{})
	if err != nil {
		s.t.Fatal(err)
	}
	if want := len(s.models) + len(s.printers); len(list) != want {
		s.t.Fatalf("there are %d plugins, not %d", len(list), want)
	}
	for name, m := range s.models {
		testutil.Eventually(s.t, 20*time.Second, func() error {
			if !m.enabled {
				return nil
			}
			_, err := s.running(name)
			return err
		})
		p, err := s.c.Inspect(s.t.Context(), name)
		if err != nil {
			s.t.Fatal(err)
		}
		if p.Enabled != m.enabled || !slices.Contains(p.Settings.Env, m.size) || len(p.Status.Holders) > 0 != m.mounted {
			s.t.Fatalf("%s is enabled %v, has %v and holders %v; the model is %+v", name, p.Enabled, p.Settings.Env, p.Status.Holders, *m)
		}
		if !m.enabled && p.Status.PID != 0 {
			s.t.Fatalf("%s is disabled and has process %d", name, p.Status.PID)
		}
	}
}

// tearDown removes everything and looks for what is left.
func (s *soak) tearDown() {
	s.t.Helper()
	for name, m := range s.models {
		var err error
		if !m.enabled {
			err = s.c.Enable(s.t.Context(), name, outlet.EnableOptions{})
		}
		if err == nil && m.mounted {
			err = s.c.VolumeUnmount(s.t.Context(), name, "")
		}
		if err == nil && m.volume {
			err = s.c.VolumeRemove(s.t.Context(), name, false)
		}
		if err == nil {
			err = s.c.Disable(s.t.Context(), name, false)
		}
		if err == nil {
			err = s.c.Remove(s.t.Context(), name, false)
		}
		if err != nil {
			s.t.Fatalf("tear down %s: %v", name, err)
		}
	}
	for _, name := range s.printers {
		if err := s.c.Remove(s.t.Context(), name, true); err != nil {
			s.t.Fatalf("tear down %s: %v", name, err)
		}
	}
	if points, err := testutil.Mounts(s.d.Dir()); err != nil || len(points) > 0 {
		s.t.Errorf("mounts are left: %q, %v", points, err)
	}
	if left, err := filepath.Glob("/sys/fs/cgroup/*/outlet/" + "*"); err == nil {
		for _, dir := range left {
			if s.ids[filepath.Base(dir)] {
				s.t.Errorf("a cgroup is left: %s", dir)
			}
		}
	}
	// Content is collected in the background.
	testutil.Eventually(s.t, 30*time.Second, func() error {
		for _, pattern := range []string{
			"run/b/*", "run/p/*", "run/r/*", "lib/plugins/*", "lib/removing/*", "lib/tmp/*",
			"lib/content/blobs/*/*", "lib/content/ingest/*", "lib/snapshots/*/snapshots/*",
		} {
			if left, err := filepath.Glob(filepath.Join(s.d.Dir(), pattern)); err != nil || len(left) > 0 {
				return fmt.Errorf("left: %q, %v", left, err) //nolint:errorlint // err is nil if something is left
			}
		}
		return nil
	})
	if info, err := os.Stat(filepath.Join(s.d.Dir(), "lib/outlet.db")); err != nil || info.Size() > 8<<20 {
		s.t.Errorf("the database of no plugins: %v, %v", info, err)
	}
	s.d.Outlet("system", "check").OK()
}
