package crash

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/containerd/errdefs"

	"github.com/outletd/outlet"
	"github.com/outletd/outlet/internal/durable/failpoint"
	"github.com/outletd/outlet/internal/testutil"
)

// The names everything has.
const (
	name   = "crash/dirvol:latest"
	volume = "data"
	mount  = "m"
	datum  = "kept\n"
)

// view is what there is, as far as it matters.
type view struct {
	Plugin, Enabled, Set   bool
	Upgraded               bool
	Volume, Mounted, Datum bool
}

// look returns what the daemon says there is. It is an error if what it says
// does not fit together, or has not come to rest.
func (w *world) look() (view, error) {
	ctx, cancel := context.WithTimeout(context.Background(), w.patience())
	defer cancel()
	var v view
	list, err := w.c.List(ctx, outlet.ListFilter{})
	if err != nil {
		return v, err
	}
	if len(list) > 1 {
		return v, fmt.Errorf("there are %d plugins", len(list))
	}
	for _, p := range list {
		v.Plugin, v.Enabled = p.Name == name || p.Name == w.named, p.Enabled
		v.Upgraded = p.Config.Description == secondVersion
		v.Set = slices.Contains(p.Settings.Env, "TMPFS_SIZE=1m")
		want := outlet.StateDisabled
		if p.Enabled {
			want = outlet.StateRunning
		}
		if p.Status.State != want {
			return v, fmt.Errorf("the plugin is %s (%s), enabled is %v", p.Status.State, p.Status.Error, p.Enabled)
		}
		v.Mounted = len(p.Status.Holders) > 0
	}
	if !v.Enabled {
		return v, nil // volumes cannot be asked for
	}
	vol, err := w.c.VolumeInspect(ctx, volume)
	if errdefs.IsNotFound(err) {
		return v, nil
	}
	if err != nil {
		return v, err
	}
	v.Volume = true
	if !v.Mounted {
		return v, nil
	}
	b, err := os.ReadFile(filepath.Join(vol.Mountpoint, "datum"))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return v, err
	}
	v.Datum = string(b) == datum
	return v, nil
}

// clean says what the daemon's own check finds.
func (w *world) clean() error {
	ctx, cancel := context.WithTimeout(context.Background(), w.patience())
	defer cancel()
	report, err := w.c.Check(ctx, false)
	if err != nil {
		return err
	}
	var errs []error
	for _, p := range report.Problems {
		errs = append(errs, fmt.Errorf("%s %s: %s", p.Kind, p.Subject, p.Detail))
	}
	return errors.Join(errs...)
}

// eventually calls f until it returns nil, or limit has passed.
func eventually(limit time.Duration, f func() error) error {
	end := time.Now().Add(limit)
	for {
		err := f()
		if err == nil || time.Now().After(end) {
			return err
		}
		time.Sleep(5 * time.Millisecond)
	}
}

// patience is how long is waited for what takes a moment, on a machine that is
// busy with other things. It only passes where something is wrong.
const patience = time.Minute

// patience is less with mutants, where something is wrong on purpose.
func (w *world) patience() time.Duration {
	if w.mutant() {
		return 10 * time.Second
	}
	return patience
}

// expect waits until what there is is one of want and the check finds nothing.
func (w *world) expect(want ...view) error {
	return eventually(w.patience(), func() error {
		v, err := w.look()
		if err != nil {
			return err
		}
		if !slices.Contains(want, v) {
			return fmt.Errorf("there is %+v, and not one of %+v", v, want)
		}
		if err := w.known(); err != nil {
			return err
		}
		return w.clean()
	})
}

// comeBack starts a daemon without failpoints and waits until what there is is one
// of want.
func (w *world) comeBack(want ...view) error {
	if err := w.begin(false, failpoint.Order{}); err != nil {
		return err
	}
	if err := w.ready(); err != nil {
		return fmt.Errorf("start again: %w\n%s", err, w.lastLog())
	}
	if err := w.expect(want...); err != nil {
		return fmt.Errorf("%w\n%s", err, w.lastLog())
	}
	return nil
}

// known says whether the daemon still has the id that it told.
func (w *world) known() error {
	if w.id == "" {
		return nil
	}
	id, err := w.identity(context.Background())
	if err == nil && id != w.id {
		err = fmt.Errorf("the daemon's id was %s and is %s", w.id, id)
	}
	return err
}

// raze removes everything by way of the daemon, which must be possible from any
// state, and then looks for what is left.
func (w *world) raze() error {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	v, err := w.look()
	if err != nil {
		return err
	}
	if v.Mounted {
		if err := w.c.VolumeUnmount(ctx, volume, ""); err != nil {
			return fmt.Errorf("raze: %w", err)
		}
	}
	if v.Volume {
		if err := w.c.VolumeRemove(ctx, volume, false); err != nil {
			return fmt.Errorf("raze: %w", err)
		}
	}
	if v.Plugin {
		if err := w.c.Remove(ctx, cmp.Or(w.named, name), true); err != nil {
			return fmt.Errorf("raze: %w", err)
		}
	}
	if w.prunes {
		if _, err := w.c.Prune(ctx); err != nil {
			return fmt.Errorf("raze: %w", err)
		}
	}
	return eventually(w.patience(), func() error { return errors.Join(w.leftovers()...) })
}

// leftovers is what a world without plugins should not have.
func (w *world) leftovers() []error {
	var errs []error
	for _, dir := range []string{
		"lib/content/blobs/sha256", "lib/content/ingest", "lib/snapshots/*/snapshots", "lib/plugins", "lib/tmp",
		"lib/removing", "run/b", "run/p", "run/r",
	} {
		paths, err := filepath.Glob(w.path(dir))
		if err != nil {
			errs = append(errs, err)
		}
		for _, path := range paths {
			entries, err := os.ReadDir(path)
			if err != nil {
				errs = append(errs, err)
			}
			for _, e := range entries {
				errs = append(errs, fmt.Errorf("%s is left", filepath.Join(path, e.Name())))
			}
		}
	}
	points, err := testutil.Mounts(w.dir)
	if err != nil {
		errs = append(errs, err)
	}
	for _, p := range points {
		if !slices.Contains(w.own(), p) {
			errs = append(errs, fmt.Errorf("%s is mounted", p))
		}
	}
	for _, dir := range w.cgroups() {
		if filepath.Base(dir) != w.parent {
			errs = append(errs, fmt.Errorf("cgroup %s is left", dir))
		}
	}
	for _, pid := range w.processes() {
		args, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid)) // it ended just now
		errs = append(errs, fmt.Errorf("process %d is left: %s", pid, strings.ReplaceAll(string(args), "\x00", " ")))
	}
	return errs
}

// own are the mounts of the test itself.
func (w *world) own() []string { return []string{w.root()} }
