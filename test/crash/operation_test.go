package crash

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/outletd/outlet"
	"github.com/outletd/outlet/internal/durable/failpoint"
)

// operation is one of those that are walked.
type operation struct {
	name string
	// from is the stage it begins at.
	from stage
	// run does it.
	run func(ctx context.Context, w *world) error
	// before and after are what there is then.
	before, after view
	// through are states that it passes if it consists of several.
	through []view
	// boot says that it is the start of a daemon itself: run is not called.
	boot bool
	// remote says that it needs what [stages.publish] makes.
	remote bool
	// prunes says that what an attempt downloaded may stay for the next one,
	// until somebody prunes.
	prunes bool
}

// stage is a root that was made once and is copied.
type stage int

const (
	empty    stage = iota // a root without plugins
	created               // a disabled plugin
	enabled               // an enabled plugin
	withVol               // the same with a volume
	mounted               // the same with the volume mounted, a file in it
	littered              // as created, and the daemon ended in another create
	named                 // as created, under the name it has in a registry
	nothing               // not even a root
)

var views = map[stage]view{
	empty:    {},
	created:  {Plugin: true},
	enabled:  {Plugin: true, Enabled: true},
	withVol:  {Plugin: true, Enabled: true, Volume: true},
	mounted:  {Plugin: true, Enabled: true, Volume: true, Mounted: true, Datum: true},
	littered: {Plugin: true},
	named:    {Plugin: true},
}

func create(ctx context.Context, w *world, name, tar string) error {
	f, err := os.Open(tar)
	if err != nil {
		return err
	}
	defer f.Close()
	_, _, err = w.c.Create(ctx, name, f, outlet.CreateOptions{})
	return err
}

// keep writes a file into the mounted volume, durably.
func keep(mountpoint string) error {
	f, err := os.Create(filepath.Join(mountpoint, "datum"))
	if err != nil {
		return err
	}
	defer f.Close()
	if _, err := f.WriteString(datum); err != nil {
		return err
	}
	if err := f.Sync(); err != nil {
		return err
	}
	if err := syncDir(mountpoint); err != nil {
		return err
	}
	// The directories above it, to the top of the plugin's: it made those, and
	// the daemon the ones above.
	for dir := mountpoint; filepath.Base(dir) != "propagated-mount"; {
		if dir = filepath.Dir(dir); dir == "/" {
			return fmt.Errorf("%s is not in a propagated mount", mountpoint)
		}
		if err := syncDir(dir); err != nil {
			return err
		}
	}
	return nil
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}

// operations are all that are walked.
func (s *stages) operations() []operation {
	set := views[created]
	set.Set = true
	mountedNow := views[mounted]
	mountedNow.Datum = false
	return append([]operation{
		{name: "create", from: empty, after: views[created], run: func(ctx context.Context, w *world) error {
			return create(ctx, w, name, s.tar)
		}},
		{name: "enable", from: created, before: views[created], after: views[enabled], run: func(ctx context.Context, w *world) error {
			return w.c.Enable(ctx, name, outlet.EnableOptions{})
		}},
		{name: "disable", from: enabled, before: views[enabled], after: views[created], run: func(ctx context.Context, w *world) error {
			return w.c.Disable(ctx, name, false)
		}},
		{name: "set", from: created, before: views[created], after: set, run: func(ctx context.Context, w *world) error {
			return w.c.Set(ctx, name, outlet.SetOptions{Set: []string{"TMPFS_SIZE=1m"}})
		}},
		{name: "remove", from: created, before: views[created], run: func(ctx context.Context, w *world) error {
			return w.c.Remove(ctx, name, false)
		}},
		{name: "remove by force", from: withVol, before: views[withVol], run: func(ctx context.Context, w *world) error {
			return w.c.Remove(ctx, name, true)
		}},
		{name: "restart", from: mounted, before: views[mounted], after: views[mounted], run: restart},
		{name: "volume create", from: enabled, before: views[enabled], after: views[withVol], run: func(ctx context.Context, w *world) error {
			_, err := w.c.VolumeCreate(ctx, outlet.VolumeCreate{Name: volume, Driver: name})
			return err
		}},
		{name: "volume mount", from: withVol, before: views[withVol], after: mountedNow, run: func(ctx context.Context, w *world) error {
			_, err := w.c.VolumeMount(ctx, volume, mount)
			return err
		}},
		{name: "volume unmount", from: mounted, before: views[mounted], after: views[withVol], run: func(ctx context.Context, w *world) error {
			return w.c.VolumeUnmount(ctx, volume, mount)
		}},
		{name: "volume remove", from: withVol, before: views[withVol], after: views[enabled], run: func(ctx context.Context, w *world) error {
			return w.c.VolumeRemove(ctx, volume, false)
		}},
		{name: "tell the daemon's id", from: created, before: views[created], after: views[created], run: func(ctx context.Context, w *world) error {
			var err error
			w.id, err = w.identity(ctx)
			return err
		}},
		{name: "start with a garbage collection", from: littered, before: views[created], after: views[created], boot: true},
		{name: "start with a mounted volume", from: mounted, before: views[mounted], after: views[mounted], boot: true},
	}, s.remoteOperations()...)
}

// world makes a world for the operation, with a copy of the root from.
func (o operation) world(t testing.TB, s *stages, from string) *world {
	t.Helper()
	w := newWorld(t, from)
	w.flags, w.env, w.prunes = slices.Clone(s.flags), slices.Clone(s.env), o.prunes
	if o.from == named {
		w.named = s.remote.named
	}
	return w
}

// each calls f with the operations there are, each in a test of its own.
func (s *stages) each(t *testing.T, list []operation, f func(t *testing.T, o operation)) {
	t.Helper()
	for _, o := range list {
		if !only(o.name) {
			continue
		}
		t.Run(o.name, func(t *testing.T) {
			if o.remote {
				s.publish(t)
			}
			f(t, o)
		})
	}
}

// restart ends the plugin's process and waits for the next one.
func restart(ctx context.Context, w *world) error {
	p, err := w.c.Inspect(ctx, name)
	if err != nil {
		return err
	}
	if err := unix.Kill(p.Status.PID, unix.SIGKILL); err != nil {
		return err
	}
	return eventually(patience/2, func() error { // before the operation's own time is up
		now, err := w.c.Inspect(ctx, name)
		if err != nil {
			return nil //nolint:nilerr // the daemon has ended
		}
		if now.Status.State != outlet.StateRunning || now.Status.PID == p.Status.PID {
			return fmt.Errorf("the plugin is %s", now.Status.State)
		}
		return nil
	})
}

// stages makes roots and keeps them for all worlds of a test.
type stages struct {
	t     testing.TB
	tar   string
	flags []string
	env   []string // of daemons that are walked: mutants
	mu    sync.Mutex
	dirs  map[stage]string

	published sync.Once
	remote    remote
}

func newStages(t testing.TB, flags ...string) *stages {
	t.Helper()
	need(t) // here, and not first in a subtest that cannot skip its parent
	return &stages{t: t, tar: archive(t), flags: flags, dirs: make(map[stage]string)}
}

// dir returns the root of a stage, which is to be copied.
func (s *stages) dir(which stage) string {
	s.t.Helper()
	if which == nothing {
		return ""
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if dir, ok := s.dirs[which]; ok {
		return dir
	}
	w := newWorld(s.t, "")
	w.flags = append([]string{"--live-restore=false"}, s.flags...)
	if which == named {
		w.named = s.remote.named
	}
	w.start(which == littered)
	ctx := context.Background()
	steps := []func() error{
		created: func() error { return create(ctx, w, name, s.tar) },
		enabled: func() error { return w.c.Enable(ctx, name, outlet.EnableOptions{}) },
		withVol: func() error {
			_, err := w.c.VolumeCreate(ctx, outlet.VolumeCreate{Name: volume, Driver: name})
			return err
		},
		mounted: func() error {
			v, err := w.c.VolumeMount(ctx, volume, mount)
			if err != nil {
				return err
			}
			return keep(v.Mountpoint)
		},
	}
	last := which
	if which == littered || which == named {
		last = created
	}
	if which == named {
		steps[created] = func() error { return create(ctx, w, s.remote.named, s.tar) }
	}
	for at := created; at <= last; at++ {
		if err := steps[at](); err != nil {
			s.t.Fatalf("stage %d: %v\n%s", at, err, w.lastLog())
		}
	}
	if err := w.expect(views[which]); err != nil {
		s.t.Fatal(err)
	}
	if which == littered {
		s.litter(w)
	} else {
		w.stop()
	}
	// It lies still: the daemon keeps nothing in the root that is not there.
	s.dirs[which] = w.root()
	return w.root()
}

// litter ends the daemon at the last commit of a create of another plugin.
func (s *stages) litter(w *world) {
	s.t.Helper()
	other := filepath.Join(s.t.TempDir(), "other.tar")
	if err := os.WriteFile(other, tarOf(s.t, map[string]string{
		"config.json": `{"entrypoint":["/x"],"interface":{"socket":"x.sock","types":["docker.volumedriver/1.0"]}}`,
		"rootfs/x":    "another program",
	}), 0o600); err != nil {
		s.t.Fatal(err)
	}
	// The record is written in the last transaction before the answer.
	probe := newWorld(s.t, "")
	probe.flags = s.flags
	probe.start(true)
	for _, w := range []*world{probe, w} { // or what they do in the background is counted too
		if _, err := w.settle(); err != nil {
			s.t.Fatal(err)
		}
	}
	probe.order(failpoint.Order{Do: "reset"})
	if err := create(context.Background(), probe, "other:latest", other); err != nil {
		s.t.Fatal(err)
	}
	at := 0
	for i, p := range probe.order(failpoint.Order{Do: "look"}).Points {
		if p.Op == "commit" && strings.HasPrefix(p.Site, "store.(*Store).add") {
			at = i + 1
		}
	}
	if at == 0 {
		s.t.Fatal("a create does not write its record where a store adds it")
	}
	probe.kill()
	w.order(failpoint.Order{Do: "arm", N: at, Act: "before"})
	if err := create(context.Background(), w, "other:latest", other); err == nil {
		s.t.Fatal("the daemon was not ended in the second create")
	}
	w.kill()
}
