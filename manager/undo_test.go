package manager

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/containerd/errdefs"

	"github.com/outletd/outlet"
	"github.com/outletd/outlet/internal/runtime"
	"github.com/outletd/outlet/internal/store"
	"github.com/outletd/outlet/internal/testutil"
	rt "github.com/outletd/outlet/internal/testutil/registrytest"
)

// unsettled is a root on which the manager ended between the record of an
// upgrade and the new version's readiness.
type unsettled struct {
	t   *testing.T
	dir string
	rt  *fakeRuntime
	reg *rt.Registry
	ref string
	id  string
}

func newUnsettled(t *testing.T) unsettled {
	t.Helper()
	return newUnsettledTo(t, "new")
}

// newUnsettledTo is that with another program for the new version.
func newUnsettledTo(t *testing.T, program string) unsettled {
	t.Helper()
	reg := rt.Start(t, rt.Options{})
	patient := func(c *Config) { c.StartTimeout = time.Minute }
	u := unsettled{t: t, dir: testutil.TempDir(t), rt: newFakeRuntime(), reg: reg, ref: reg.Host + "/foo/bar:1"}
	reg.Put(t, "foo/bar", "1", simple(t, "old", map[string]any{
		"PropagatedMount": "/data",
		"Env":             []map[string]any{{"Name": "KEPT", "Value": "a", "Settable": []string{"value"}}},
	}))
	reg.Put(t, "foo/bar", "2", simple(t, program, map[string]any{"PropagatedMount": "/data"}))
	reg.Put(t, "foo/bar", "3", simple(t, "newest", nil))
	f := openFixture(t, u.dir, u.rt, quick, patient)
	if _, err := f.pull(u.ref, nil); err != nil {
		t.Fatal(err)
	}
	if err := f.Set(t.Context(), u.ref, outlet.SetOptions{Set: []string{"KEPT=mine"}}); err != nil {
		t.Fatal(err)
	}
	f.enable(u.ref)
	p, err := f.Inspect(t.Context(), u.ref)
	if err != nil {
		t.Fatal(err)
	}
	u.id = p.ID
	u.rt.set(behaviour{noListen: true})
	done := make(chan error, 1)
	go func() {
		_, err := f.Upgrade(t.Context(), u.ref, reg.Host+"/foo/bar:2", outlet.UpgradeOptions{Running: true}, nil)
		done <- err
	}()
	u.starts(2)
	if err := f.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := <-done; !errdefs.IsUnavailable(err) {
		t.Fatalf("the upgrade that was cut off: %v", err)
	}
	return u
}

func (u unsettled) open() *fixture {
	u.t.Helper()
	return openFixture(u.t, u.dir, u.rt, quick, impatient)
}

// impatient is as short as what starts at once can be waited for on a busy machine.
func impatient(c *Config) { c.StartTimeout = 2 * time.Second }

// starts waits until n processes were started in all.
func (u unsettled) starts(n int) {
	u.t.Helper()
	testutil.Eventually(u.t, time.Minute, func() error {
		if got := u.rt.started(); got < n {
			return fmt.Errorf("%d processes were started", got)
		}
		return nil
	})
}

// record reads the plugin's record.
func (u unsettled) record(f *fixture) store.Record {
	u.t.Helper()
	r, err := f.store.Get(u.t.Context(), u.id)
	if err != nil {
		u.t.Fatal(err)
	}
	return r
}

// holds checks which version the plugin is, that nothing of another is kept,
// and that nothing is wrong.
func (u unsettled) holds(f *fixture, version string) {
	u.t.Helper()
	if got, err := f.read(u.ref, "bin/plugin"); err != nil || got != version {
		u.t.Errorf("it holds %q, %v", got, err)
	}
	if r := u.record(f); r.Previous != nil {
		u.t.Errorf("the version before is still kept: %+v", r.Previous)
	}
	f.clean()
}

func TestAnUpgradeThatAManagerDidNotSeeBecomeReadyIsSettledByTheNext(t *testing.T) {
	u := newUnsettled(t)
	u.rt.set(behaviour{})
	f := u.open()
	p := f.state(u.ref, outlet.StateRunning)
	if !p.Enabled || p.PluginReference != u.reg.Host+"/foo/bar:2" || p.Status.UpgradeUndone != "" {
		t.Errorf("it is %+v, %+v", p, p.Status)
	}
	u.holds(f, "new")
}

func TestAnUpgradeThatNeverBecomesReadyIsUndoneByTheNextManager(t *testing.T) {
	for name, how := range map[string]behaviour{
		"it never listens":    {noListen: true},
		"it exits at once":    {exitAtOnce: &outlet.Exit{Code: 3}, print: "cannot go on"},
		"it is never started": {refuse: errdefs.ErrInternal},
	} {
		t.Run(name, func(t *testing.T) {
			u := newUnsettled(t)
			first := true
			u.rt.mu.Lock()
			u.rt.behave = func(runtime.Bundle) behaviour {
				defer func() { first = false }()
				if first {
					return how
				}
				return behaviour{}
			}
			u.rt.mu.Unlock()
			f := u.open()
			if r := u.record(f); r.Previous == nil && r.Undone == "" {
				t.Fatalf("nothing to go back to: %+v", r)
			}
			events, cancel := f.Subscribe(64, EventFilter{Kind: EventRollback})
			defer cancel()
			p := f.state(u.ref, outlet.StateRunning)
			if !p.Enabled || p.PluginReference != u.ref || !slices.Contains(p.Settings.Env, "KEPT=mine") || p.Status.UpgradeUndone == "" {
				t.Errorf("it is %+v, %+v", p, p.Status)
			}
			select {
			case e := <-events:
				if e.Plugin.ID != u.id || e.Plugin.PluginReference != u.ref {
					t.Errorf("event %+v", e)
				}
			default: // it came before anybody could subscribe
			}
			u.holds(f, "old")
			var said string
			if err := f.Logs(t.Context(), u.ref, outlet.LogOptions{Tail: -1}, func(e outlet.LogEntry) error { said += e.Line + "\n"; return nil }); err != nil {
				t.Fatal(err)
			}
			if !strings.Contains(said, "the one before it is back") {
				t.Errorf("its log says %q", said)
			}
			// The next manager says so too, and the next enable ends it.
			if err := f.Close(t.Context()); err != nil {
				t.Fatal(err)
			}
			f = u.open()
			if p := f.state(u.ref, outlet.StateRunning); p.Status.UpgradeUndone == "" {
				t.Error("the next manager has forgotten that an upgrade was undone")
			}
			if err := f.Disable(t.Context(), u.ref, false); err != nil {
				t.Fatal(err)
			}
			if p := f.state(u.ref, outlet.StateDisabled); p.Status.UpgradeUndone != "" {
				t.Errorf("it still says %q", p.Status.UpgradeUndone)
			}
		})
	}
}

func TestWhileAnUpgradeIsUnsettled(t *testing.T) {
	tests := map[string]func(t *testing.T, u unsettled, f *fixture){
		"a collection leaves both versions": func(t *testing.T, u unsettled, f *fixture) {
			if _, err := f.store.GC(t.Context()); err != nil {
				t.Fatal(err)
			}
			f.clean()
			usage, err := f.DiskUsage(t.Context())
			if err != nil || len(usage.Plugins) != 1 || usage.Blobs.Reclaimable != 0 || usage.Layers.Reclaimable != 0 || usage.Layers.Count != 2 {
				t.Errorf("%+v, %v", usage, err)
			}
		},
		"who disables it has the old version": func(t *testing.T, u unsettled, f *fixture) {
			if err := f.Disable(t.Context(), u.ref, false); err != nil {
				t.Fatal(err)
			}
			u.rt.set(behaviour{})
			u.holds(f, "old")
			if err := f.Set(t.Context(), u.ref, outlet.SetOptions{Set: []string{"KEPT=other"}}); err != nil {
				t.Error(err)
			}
			f.enable(u.ref)
			u.holds(f, "old")
		},
		"it cannot be set": func(t *testing.T, u unsettled, f *fixture) {
			if err := f.Set(t.Context(), u.ref, outlet.SetOptions{Set: []string{"KEPT=other"}}); !errdefs.IsConflict(err) {
				t.Errorf("got %v", err)
			}
		},
		"it is removed with all its versions": func(t *testing.T, u unsettled, f *fixture) {
			if err := f.Remove(t.Context(), u.ref, true); err != nil {
				t.Fatal(err)
			}
			f.clean()
			usage, err := f.DiskUsage(t.Context())
			if err != nil || usage.Blobs.Count != 0 || usage.Layers.Count != 0 {
				t.Errorf("%+v, %v", usage, err)
			}
		},
		"it is upgraded to one that works": func(t *testing.T, u unsettled, f *fixture) {
			u.rt.set(behaviour{})
			if _, err := f.Upgrade(t.Context(), u.ref, u.reg.Host+"/foo/bar:3", outlet.UpgradeOptions{Running: true}, nil); err != nil {
				t.Fatal(err)
			}
			f.state(u.ref, outlet.StateRunning)
			u.holds(f, "newest")
		},
		"it is upgraded to another that does not": func(t *testing.T, u unsettled, f *fixture) {
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
			_, err := f.Upgrade(t.Context(), u.ref, u.reg.Host+"/foo/bar:3", outlet.UpgradeOptions{Running: true}, nil)
			if err == nil || !strings.Contains(err.Error(), "the old one is back and running") {
				t.Errorf("got %v", err)
			}
			f.state(u.ref, outlet.StateRunning)
			u.holds(f, "old") // the one that was ready, not the one in between
		},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			u := newUnsettled(t)
			f := openFixture(t, u.dir, u.rt, quick, func(c *Config) { c.StartTimeout = time.Minute })
			u.starts(3)
			if r := u.record(f); r.Previous == nil {
				t.Fatalf("there is nothing to go back to: %+v", r)
			}
			test(t, u, f)
		})
	}
}

func TestAManagerThatEndsWhileItGoesBackIsFollowedByOneThatDoes(t *testing.T) {
	u := newUnsettled(t)
	u.rt.set(behaviour{exitAtOnce: &outlet.Exit{Code: 3}})
	release := make(chan struct{})
	u.rt.hold(release)
	f := u.open()
	f.state(u.ref, outlet.StateBackoff) // it waits for the end of what is not there
	closed := make(chan error, 1)
	go func() { closed <- f.Close(t.Context()) }()
	u.rt.hold(nil)
	close(release)
	if err := <-closed; err != nil {
		t.Fatal(err)
	}
	u.rt.set(behaviour{})
	f = u.open()
	p := f.state(u.ref, outlet.StateRunning)
	switch p.PluginReference { // when the first one ended is not known
	case u.ref:
		u.holds(f, "old")
	default:
		u.holds(f, "new")
	}
}

func TestAVersionThatCannotBeEndedIsNotFollowedByTheOldOne(t *testing.T) {
	f, reg, ref := upgradeFixture(t)
	if err := f.Enable(t.Context(), ref, outlet.EnableOptions{StartTimeout: 2 * time.Second}); err != nil {
		t.Fatal(err)
	}
	f.rt.set(behaviour{noListen: true, stubborn: true, immortal: true})
	before := f.rt.started()
	_, err := f.Upgrade(t.Context(), ref, reg.Host+"/foo/bar:2", outlet.UpgradeOptions{Granted: pidHost, Running: true}, nil)
	if err == nil || !strings.Contains(err.Error(), "could not be ended") {
		t.Errorf("got %v", err)
	}
	p := f.state(ref, outlet.StateFailed)
	if n := f.rt.started() - before; n != 1 {
		t.Errorf("started %d times", n)
	}
	f.rt.task(p.ID).how.immortal = false
	if err := f.Disable(t.Context(), ref, true); err != nil {
		t.Fatal(err)
	}
	if got, _ := f.read(ref, "bin/plugin"); got != "old" {
		t.Errorf("it holds %q", got)
	}
}
