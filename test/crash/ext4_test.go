package crash

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/moby/sys/mountinfo"
	"golang.org/x/sys/unix"

	"github.com/outletd/outlet"
	"github.com/outletd/outlet/internal/testutil"
)

// disks are images of ext4 file systems with the roots of stages. What is
// mounted of one, and copied while it is mounted, is what a machine finds again
// that lost its power: what was written to the disk, and nothing that was only
// in memory. Unlike [forgetful] it says what a real file system does, and an
// overlay can be above it.
type disks struct {
	mu     sync.Mutex
	images map[stage]string
}

const imageSize = 128 << 20

// image returns the image for a stage, which is to be copied.
func (d *disks) image(t testing.TB, s *stages, which stage) string {
	t.Helper()
	var from string
	if which != nothing {
		from = s.dir(which)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if image, ok := d.images[which]; ok {
		return image
	}
	dir := tempDir(s.t)
	image, point := filepath.Join(dir, "image"), filepath.Join(dir, "m")
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(os.WriteFile(image, nil, 0o600))
	must(os.Truncate(image, imageSize))
	must(run(testutil.Program(t, testutil.Loop), "-q", "-F", "-m", "0", "-E", "lazy_itable_init=0,lazy_journal_init=0", image))
	must(os.Mkdir(point, 0o700))
	must(mountImage(image, point))
	must(os.Remove(filepath.Join(point, "lost+found")))
	if from != "" {
		must(run("cp", "-a", from+"/.", point))
	}
	// A container that is being started may have a copy of the mount for a
	// moment: unmounting ours need not be the end of it.
	must(run("sync", "-f", point))
	must(unix.Unmount(point, 0))
	d.images[which] = image
	return image
}

func run(name string, args ...string) error {
	if out, err := exec.Command(name, args...).CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w\n%s", name, err, out)
	}
	return nil
}

// mountImage mounts an image whose file system writes nothing for the mere
// reason that some time has passed.
func mountImage(image, point string) error {
	return run("mount", "-o", "loop,commit=300", image, point)
}

// idle waits until what was on its way to the disk of a mount has arrived.
func idle(point string) error {
	mounts, err := mountinfo.GetMounts(mountinfo.SingleEntryFilter(point))
	if err != nil {
		return err
	}
	if len(mounts) != 1 {
		return fmt.Errorf("%s is not mounted", point)
	}
	file := filepath.Join("/sys/block", filepath.Base(mounts[0].Source), "inflight")
	return eventually(patience, func() error {
		b, err := os.ReadFile(file)
		if err != nil {
			return err
		}
		if f := strings.Fields(string(b)); !slices.Equal(f, []string{"0", "0"}) {
			return fmt.Errorf("%s: %v", file, f)
		}
		return nil
	})
}

func TestWhatIsOnTheDiskIsEnoughWhenThePowerFails(t *testing.T) {
	testutil.Need(t, testutil.Loop)
	s := newStages(t)
	d := &disks{images: make(map[stage]string)}
	s.each(t, s.powerOperations(), func(t *testing.T, o operation) {
		points := o.count(t, s)
		visits := kills(points)
		if !thorough() {
			// In front of what makes things durable, where most would be lost.
			visits = slices.DeleteFunc(visits, func(v visit) bool {
				return v.order.N <= len(points) && v.point.Op != "sync" && v.point.Op != "commit"
			})
		}
		began := time.Now()
		walk(t, visits, func(v visit) error { return o.diskCut(t, s, d, v) })
		t.Logf("%s: %d points, power cut %d times in %v", o.name, len(points), len(visits), time.Since(began).Round(time.Millisecond))
	})
}

// diskCut makes one visit: the machine loses its power, and comes back with what
// had arrived at the disk.
func (o operation) diskCut(t *testing.T, s *stages, d *disks, v visit) error {
	w := o.world(t, s, "")
	defer w.end()
	before, after := w.path("before"), w.path("after")
	if err := run("cp", "--sparse=always", d.image(t, s, o.from), before); err != nil {
		return err
	}
	if err := os.Mkdir(w.root(), 0o711); err != nil {
		return err
	}
	if err := mountImage(before, w.root()); err != nil {
		return err
	}
	opErr, _, err := o.do(w, v.order)
	if err != nil && !errors.Is(err, errDead) {
		return fmt.Errorf("%w\n%s", err, w.lastLog())
	}
	w.kill()
	// Before anything is unmounted, for that would write what is in memory.
	if err := idle(w.root()); err != nil {
		return err
	}
	if err := run("cp", "--sparse=always", before, after); err != nil {
		return err
	}
	w.powerless()
	if err := mountImage(after, w.root()); err != nil {
		return err
	}
	want := []view{o.after}
	if opErr != nil { // not acknowledged
		want = append(append(want, o.before), o.through...)
	}
	if err := w.comeBack(want...); err != nil {
		return err
	}
	if err := w.works(); err != nil {
		return fmt.Errorf("%w\n%s", err, w.lastLog())
	}
	if err := w.raze(); err != nil {
		return fmt.Errorf("%w\n%s", err, w.lastLog())
	}
	return nil
}

// works says whether a plugin that is there can run: whether its files have the
// bytes they should have.
func (w *world) works() error {
	v, err := w.look()
	if err != nil || !v.Plugin || v.Enabled {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	plugin := cmp.Or(w.named, name)
	if err := w.c.Enable(ctx, plugin, outlet.EnableOptions{}); err != nil {
		return fmt.Errorf("what came back does not work: %w", err)
	}
	return w.c.Disable(ctx, plugin, false)
}
