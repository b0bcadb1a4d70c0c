package manager

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/outletd/outlet"
	"github.com/outletd/outlet/internal/probe"
	"github.com/outletd/outlet/internal/runtime"
	"github.com/outletd/outlet/internal/store"
	"github.com/outletd/outlet/internal/testutil"
)

func TestWhoIsToBlameForAnExit(t *testing.T) {
	for name, tt := range map[string]struct {
		exit outlet.Exit
		want blame
	}{
		"success":            {outlet.Exit{}, blameVersion},
		"a status":           {outlet.Exit{Code: 3}, blameVersion},
		"a crash":            {outlet.Exit{Code: 139, Signal: int(unix.SIGSEGV)}, blameVersion},
		"its own abort":      {outlet.Exit{Code: 134, Signal: int(unix.SIGABRT)}, blameVersion},
		"killed":             {outlet.Exit{Code: 137, Signal: int(unix.SIGKILL)}, blameNobody},
		"asked to end":       {outlet.Exit{Code: 143, Signal: int(unix.SIGTERM)}, blameNobody},
		"for want of memory": {outlet.Exit{Code: 137, Signal: int(unix.SIGKILL), OOMKilled: true}, blameNobody},
		"that nobody saw":    {outlet.Exit{Code: -1}, blameNobody},
	} {
		if got := blameExit(tt.exit); got != tt.want {
			t.Errorf("%s: %d, want %d", name, got, tt.want)
		}
	}
}

func TestWhoIsToBlameForASocket(t *testing.T) {
	dial := func(errno syscall.Errno) error { return fmt.Errorf("dial: %w", errno) }
	for name, tt := range map[string]struct {
		late probe.NotReadyError
		want blame
	}{
		"it never listened":                 {probe.NotReadyError{Seen: probe.SeenNone, Cause: context.DeadlineExceeded}, blameVersion},
		"it made a file":                    {probe.NotReadyError{Seen: probe.SeenNoSock, Cause: context.DeadlineExceeded}, blameVersion},
		"it refuses":                        {probe.NotReadyError{Seen: probe.SeenSocket, Dial: dial(unix.ECONNREFUSED), Cause: context.DeadlineExceeded}, blameVersion},
		"its queue is full":                 {probe.NotReadyError{Seen: probe.SeenSocket, Dial: dial(unix.EAGAIN), Cause: context.DeadlineExceeded}, blameVersion},
		"it lets wait":                      {probe.NotReadyError{Seen: probe.SeenSocket, Dial: context.DeadlineExceeded, Cause: context.DeadlineExceeded}, blameVersion},
		"nobody waits any more":             {probe.NotReadyError{Seen: probe.SeenNone, Cause: context.Canceled}, blameHost},
		"somebody removed its directory":    {probe.NotReadyError{Seen: probe.SeenNoDir, Cause: context.DeadlineExceeded}, blameHost},
		"who waits has no more descriptors": {probe.NotReadyError{Seen: probe.SeenSocket, Dial: dial(unix.EMFILE), Cause: context.DeadlineExceeded}, blameHost},
		"and cannot look either":            {probe.NotReadyError{Seen: probe.SeenUnknown, Dial: dial(unix.EMFILE), Cause: context.DeadlineExceeded}, blameHost},
	} {
		if got := blameSocket(&tt.late); got != tt.want {
			t.Errorf("%s: %d, want %d", name, got, tt.want)
		}
	}
}

// edit changes the plugin's record while no manager runs.
func (u unsettled) edit(change func(*store.Record)) {
	u.t.Helper()
	s, err := store.Open(u.t.Context(), store.Config{Root: filepath.Join(u.dir, "root"), Snapshotter: store.Native})
	if err != nil {
		u.t.Fatal(err)
	}
	_, err = s.Update(u.t.Context(), u.id, func(r *store.Record) error { change(r); return nil })
	if err := errors.Join(err, s.Close()); err != nil {
		u.t.Fatal(err)
	}
}

// pending reads the record while no manager runs, and fails the test unless the
// upgrade is still pending.
func (u unsettled) pending() {
	u.t.Helper()
	u.edit(func(r *store.Record) {
		if r.Previous == nil || r.Undone != "" || r.Reference != u.reg.Host+"/foo/bar:2" {
			u.t.Errorf("it is %s, undone %q, before it %+v", r.Reference, r.Undone, r.Previous)
		}
	})
}

// refuses lets the runtime start nothing until the function it returns is called.
func (u unsettled) refuses(err error) (mend func()) {
	u.rt.set(behaviour{refuse: err})
	return func() { u.rt.set(behaviour{}) }
}

func TestAPendingUpgradeIsTriedAgainAfterWhatTheHostIsToBlameFor(t *testing.T) {
	withMount := func(u unsettled, source string) {
		u.edit(func(r *store.Record) {
			r.Settings.Mounts = append(r.Settings.Mounts, outlet.Mount{Name: "m", Source: &source, Destination: "/m", Type: "bind"})
		})
	}
	tests := map[string]struct {
		breaks func(u unsettled) (mend func())
		says   string
	}{
		"there is no runtime": {func(u unsettled) func() {
			return u.refuses(outlet.Errorf(errdefs.ErrUnavailable, "the runtime cannot be run"))
		}, "cannot be run"},
		"there is no room": {func(u unsettled) func() {
			return u.refuses(&fs.PathError{Op: "write", Path: "x", Err: unix.ENOSPC})
		}, "no space left"},
		"there are no descriptors": {func(u unsettled) func() {
			return u.refuses(fmt.Errorf("open x: %w", unix.EMFILE))
		}, "too many open files"},
		"the runtime takes too long": {func(u unsettled) func() {
			return u.refuses(fmt.Errorf("start: %w", context.DeadlineExceeded))
		}, "deadline"},
		"a bind source is missing": {func(u unsettled) func() {
			u.rt.set(behaviour{})
			source := filepath.Join(u.dir, "source")
			withMount(u, source)
			return func() {
				if err := os.Mkdir(source, 0o700); err != nil {
					u.t.Fatal(err)
				}
			}
		}, "does not exist on this host"},
		"a device is missing": {func(u unsettled) func() {
			u.rt.set(behaviour{})
			path := filepath.Join(u.dir, "device")
			u.edit(func(r *store.Record) {
				r.Settings.Devices = append(r.Settings.Devices, outlet.Device{Name: "d", Path: &path})
			})
			return func() {
				if err := os.Symlink("/dev/null", path); err != nil {
					u.t.Fatal(err)
				}
			}
		}, "gathering device information"},
		"the exec root cannot be used": {func(u unsettled) func() {
			u.rt.set(behaviour{})
			dir := filepath.Join(u.dir, "x", "p", shortID(u.id))
			if err := errors.Join(os.RemoveAll(dir), os.WriteFile(dir, nil, 0o600)); err != nil {
				u.t.Fatal(err)
			}
			return func() {
				if err := os.Remove(dir); err != nil {
					u.t.Fatal(err)
				}
			}
		}, "not a directory"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			u := newUnsettled(t)
			mend := tt.breaks(u)
			f := u.open()
			testutil.Eventually(t, 10*time.Second, func() error {
				p, err := f.Inspect(t.Context(), u.ref)
				if err == nil && (p.Status.Restarts < 3 || p.Status.State != outlet.StateBackoff) {
					err = fmt.Errorf("it is %+v", p.Status)
				}
				return err
			})
			p := f.state(u.ref, outlet.StateBackoff)
			if !p.Enabled || p.PluginReference != u.reg.Host+"/foo/bar:2" || p.Status.UpgradeUndone != "" || !strings.Contains(p.Status.Error, tt.says) {
				t.Errorf("it is %+v, %+v", p, p.Status)
			}
			if err := f.Close(t.Context()); err != nil {
				t.Fatal(err)
			}
			u.pending()
			f = u.open() // in vain once more
			f.state(u.ref, outlet.StateBackoff)
			mend()
			if p := f.state(u.ref, outlet.StateRunning); p.PluginReference != u.reg.Host+"/foo/bar:2" || p.Status.UpgradeUndone != "" {
				t.Errorf("it is %+v, %+v", p, p.Status)
			}
			u.holds(f, "new")
		})
	}
}

func TestAPendingUpgradeOutlivesAManagerThatIsClosedWhileItStarts(t *testing.T) {
	for _, live := range []bool{true, false} {
		t.Run(fmt.Sprintf("live restore %v", live), func(t *testing.T) {
			u := newUnsettled(t)
			for i := range 3 {
				f := openFixture(t, u.dir, u.rt, quick, func(c *Config) { c.StartTimeout, c.LiveRestore = time.Minute, live })
				u.starts(3 + i)
				if err := f.Close(t.Context()); err != nil {
					t.Fatal(err)
				}
				u.pending()
			}
			u.rt.set(behaviour{})
			f := u.open()
			f.state(u.ref, outlet.StateRunning)
			u.holds(f, "new")
		})
	}
}

// newVersion says whether a bundle is of the new version.
func newVersion(b runtime.Bundle) bool {
	raw, err := os.ReadFile(filepath.Join(b.Dir, "config.json"))
	if err != nil {
		return false
	}
	var spec specs.Spec
	if err := json.Unmarshal(raw, &spec); err != nil || spec.Root == nil {
		return false
	}
	content, err := os.ReadFile(filepath.Join(spec.Root.Path, "bin/plugin"))
	return err == nil && strings.Contains(string(content), "new")
}

// fails lets the next times starts of the new version behave so.
func (u unsettled) fails(times int, how behaviour) {
	u.rt.mu.Lock()
	defer u.rt.mu.Unlock()
	u.rt.behave = func(b runtime.Bundle) behaviour {
		if times == 0 || !newVersion(b) {
			return behaviour{}
		}
		times--
		return how
	}
}

func TestAPendingUpgradeIsUndoneAfterSomeFailuresThatNobodyIsToBlameFor(t *testing.T) {
	const interpreted = "#!new\n" // by what is not looked for
	for name, how := range map[string]behaviour{
		"it is killed":            {exitAtOnce: &outlet.Exit{Code: 137, Signal: int(unix.SIGKILL)}},
		"it is asked to end":      {exitAtOnce: &outlet.Exit{Code: 143, Signal: int(unix.SIGTERM)}},
		"its end is not seen":     {exitAtOnce: &outlet.Exit{Code: -1}},
		"the runtime says so":     {refuse: errdefs.ErrInternal},
		"something is not there":  {refuse: outlet.Errorf(errdefs.ErrInvalidArgument, "no such file or directory")},
		"something is not wanted": {refuse: outlet.Errorf(errdefs.ErrPermissionDenied, "operation not permitted")},
	} {
		t.Run(name, func(t *testing.T) {
			u := newUnsettledTo(t, interpreted)
			u.fails(2, how)
			f := u.open()
			f.state(u.ref, outlet.StateRunning)
			u.holds(f, interpreted)

			u = newUnsettledTo(t, interpreted)
			u.fails(-1, how)
			f = u.open()
			if p := f.state(u.ref, outlet.StateRunning); p.Status.UpgradeUndone == "" || p.Status.Restarts != 3 {
				t.Errorf("it is %+v", p.Status)
			}
			u.holds(f, "old")
		})
	}
}

func TestAPendingUpgradeIsUndoneAtOnceForWhatItsVersionIsToBlameFor(t *testing.T) {
	for name, breaks := range map[string]func(u unsettled){
		"it crashes": func(u unsettled) {
			u.fails(-1, behaviour{exitAtOnce: &outlet.Exit{Code: 139, Signal: int(unix.SIGSEGV)}})
		},
		"it is no program": func(u unsettled) {
			u.fails(-1, behaviour{refuse: outlet.Errorf(errdefs.ErrInvalidArgument, "exec format error")})
		},
		"it asks for too much": func(u unsettled) {
			u.fails(-1, behaviour{refuse: outlet.Errorf(errdefs.ErrNotImplemented, "no mounts here")})
		},
		"it listens elsewhere":    func(u unsettled) { u.fails(-1, behaviour{listenAs: "other.sock"}) },
		"it has nothing to start": func(u unsettled) { u.edit(func(r *store.Record) { r.Config.Entrypoint, r.Settings.Args = nil, nil }) },
	} {
		t.Run(name, func(t *testing.T) {
			u := newUnsettled(t)
			u.rt.set(behaviour{})
			breaks(u)
			f := u.open()
			if p := f.state(u.ref, outlet.StateRunning); p.Status.UpgradeUndone == "" || p.Status.Restarts != 1 {
				t.Errorf("it is %+v", p.Status)
			}
			u.holds(f, "old")
		})
	}
}

// half makes the running plugin one that was ready while its record could not be
// told so.
func (u unsettled) half(f *fixture) {
	u.t.Helper()
	var was *store.Previous
	r, err := f.store.Update(u.t.Context(), u.id, func(r *store.Record) error {
		r.KeepPrevious() // itself, but for its reference
		r.Previous.Reference = "never/again:1"
		was = r.Clone().Previous
		return nil
	})
	if err != nil {
		u.t.Fatal(err)
	}
	unit := f.units[u.id]
	unit.unsettled.Store(int64(r.Generation))
	if err := unit.do(func() { unit.life.rec.Previous = was }); err != nil {
		u.t.Fatal(err)
	}
}

func TestAVersionThatWasReadyIsNotUndoneThoughItsRecordSaysNothingOfIt(t *testing.T) {
	ref := func(u unsettled, tag string) string { return u.reg.Host + "/foo/bar:" + tag }
	for name, test := range map[string]func(t *testing.T, u unsettled, f *fixture) string{
		"the next collection writes it down": func(t *testing.T, u unsettled, f *fixture) string {
			f.collectGarbage()
			return ref(u, "2")
		},
		"so does who asks for one": func(t *testing.T, u unsettled, f *fixture) string {
			if err := f.CollectGarbage(t.Context()); err != nil {
				t.Error(err)
			}
			if r := u.record(f); r.Previous != nil {
				t.Errorf("still %+v", r.Previous)
			}
			return ref(u, "2")
		},
		"a restart that fails": func(t *testing.T, u unsettled, f *fixture) string {
			u.fails(1, behaviour{exitAtOnce: &outlet.Exit{Code: 3}})
			f.rt.task(u.id).end(outlet.Exit{Code: 1})
			u.starts(5)
			f.state(u.ref, outlet.StateRunning)
			return ref(u, "2")
		},
		"a disable": func(t *testing.T, u unsettled, f *fixture) string {
			if err := f.Disable(t.Context(), u.ref, false); err != nil {
				t.Error(err)
			}
			return ref(u, "2")
		},
		"the next upgrade, which is undone": func(t *testing.T, u unsettled, f *fixture) string {
			first := true
			u.rt.mu.Lock()
			u.rt.behave = func(runtime.Bundle) behaviour {
				defer func() { first = false }()
				if first {
					return behaviour{exitAtOnce: &outlet.Exit{Code: 3}}
				}
				return behaviour{}
			}
			u.rt.mu.Unlock()
			if _, err := f.Upgrade(t.Context(), u.ref, ref(u, "3"), outlet.UpgradeOptions{Running: true}, nil); err == nil {
				t.Error("the upgrade succeeds")
			}
			return ref(u, "2")
		},
	} {
		t.Run(name, func(t *testing.T) {
			u := newUnsettled(t)
			u.rt.set(behaviour{})
			f := u.open()
			f.state(u.ref, outlet.StateRunning)
			if err := f.collected(t.Context()); err != nil {
				t.Fatal(err)
			}
			u.half(f)
			want := test(t, u, f)
			if p, err := f.Inspect(t.Context(), u.ref); err != nil || p.PluginReference != want {
				t.Errorf("it is %+v, %v", p, err)
			}
			testutil.Eventually(t, 10*time.Second, func() error {
				f.collectGarbage()
				if r := u.record(f); r.Previous != nil || r.Reference != want || f.units[u.id].unsettled.Load() != 0 {
					return fmt.Errorf("%s, before it %+v", r.Reference, r.Previous)
				}
				return nil
			})
			f.clean()
		})
	}
}

func TestAnErrorOfTheHostIsOneWhereverItStands(t *testing.T) {
	for _, err := range []error{
		fmt.Errorf("x: %w", unix.EIO), &fs.PathError{Op: "open", Err: unix.ENFILE},
		outlet.Errorf(errdefs.ErrUnavailable, "x"), errors.Join(errors.New("x"), context.Canceled),
	} {
		if blameOf(fmt.Errorf("plugin x: %w", doubtful(err))) != blameHost {
			t.Errorf("%v is not the host's", err)
		}
	}
	for _, err := range []error{unix.ENOENT, unix.ELOOP, errdefs.ErrInvalidArgument} {
		if blameOf(doubtful(err)) != blameNobody {
			t.Errorf("somebody is to blame for %v", err)
		}
	}
	if blameOf(errors.New("x")) != blameHost {
		t.Error("what nobody has looked at is not the host's")
	}
}
