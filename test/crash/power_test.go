package crash

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"testing"
	"time"

	"github.com/outletd/outlet"
	"github.com/outletd/outlet/internal/durable/failpoint"
	"github.com/outletd/outlet/internal/testutil"
)

// use is a plugin's first use, until a file in a volume is kept: what the daemon
// promised to keep must be there, down to the directories above it.
func use(ctx context.Context, w *world) error {
	if err := w.c.Enable(ctx, name, outlet.EnableOptions{}); err != nil {
		return err
	}
	if _, err := w.c.VolumeCreate(ctx, outlet.VolumeCreate{Name: volume, Driver: name}); err != nil {
		return err
	}
	v, err := w.c.VolumeMount(ctx, volume, mount)
	if err != nil {
		return err
	}
	return keep(v.Mountpoint)
}

// powerOperations are the operations of the walk with power cuts.
func (s *stages) powerOperations() []operation {
	return append(s.operations(),
		operation{
			name: "first use", from: created, before: views[created], after: views[mounted], run: use, through: []view{
				views[enabled], views[withVol], {Plugin: true, Enabled: true, Volume: true, Mounted: true},
			},
		},
		operation{name: "create in a new root", from: nothing, after: views[created], run: func(ctx context.Context, w *world) error {
			return create(ctx, w, name, s.tar)
		}})
}

func TestWhatWasSyncedIsEnoughWhenThePowerFails(t *testing.T) {
	testutil.Need(t, testutil.Fuse)
	s := newStages(t, "--snapshotter", "native") // overlay takes no FUSE below it
	s.each(t, s.powerOperations(), func(t *testing.T, o operation) {
		points := o.count(t, s)
		visits := kills(points)
		if o.through != nil && !thorough() {
			visits = visits[len(visits)-1:]
		}
		began := time.Now()
		cuts := 0
		for _, names := range []bool{false, true} {
			// Which of the two is tried changes with the point, unless both are.
			some := slices.DeleteFunc(slices.Clone(visits), func(v visit) bool {
				return !thorough() && v.order.N <= len(points) && (v.order.N%2 == 0) == names
			})
			cuts += len(some)
			walk(t, some, func(v visit) error { return o.powerCut(t, s, v, names) })
		}
		t.Logf("%s: %d points, power cut %d times in %v", o.name, len(points), cuts, time.Since(began).Round(time.Millisecond))
	})
}

// powerCut makes one visit: the machine loses its power, and comes back with
// what of the root was synced.
func (o operation) powerCut(t *testing.T, s *stages, v visit, names bool) error {
	w := o.world(t, s, "")
	defer w.end()
	w.env = append(w.env, failpoint.EnvSyncfs+"=1")
	dirs := []string{w.root(), w.path("shadow")}
	if o.from == nothing {
		dirs = append(dirs, w.path("live"))
	} else {
		copyTree(t, s.dir(o.from), w.path("live"))
	}
	for _, dir := range dirs {
		if err := os.Mkdir(dir, 0o711); err != nil {
			return err
		}
	}
	disk, err := mountForgetful(t, w.path("live"), w.path("shadow"), w.root())
	if err != nil {
		return err
	}
	defer disk.server.Unmount() // it was unmounted below, or the world does it
	opErr, _, err := o.do(w, v.order)
	if err != nil && !errors.Is(err, errDead) {
		return fmt.Errorf("%w\n%s", err, w.lastLog())
	}
	w.kill()
	w.powerless()
	disk.server.Wait() // unmounting ended it
	if err := os.Remove(w.root()); err != nil {
		return err
	}
	if err := disk.survive(w.root(), names); err != nil {
		return err
	}
	for _, dir := range []string{w.path("live"), w.path("shadow")} {
		if err := os.RemoveAll(dir); err != nil {
			return err
		}
	}
	want := []view{o.after}
	if opErr != nil { // not acknowledged
		want = append(append(want, o.before), o.through...)
	}
	w.env = s.env
	if err := w.comeBack(want...); err != nil {
		return fmt.Errorf("names %v: %w", names, err)
	}
	if err := w.raze(); err != nil {
		return fmt.Errorf("names %v: %w\n%s", names, err, w.lastLog())
	}
	return nil
}
