package manager

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/containerd/errdefs"

	"github.com/outletd/outlet"
	"github.com/outletd/outlet/internal/runtime"
	rt "github.com/outletd/outlet/internal/testutil/registrytest"
)

func upgradeFixture(t *testing.T) (f *fixture, reg *rt.Registry, ref string) {
	reg = rt.Start(t, rt.Options{})
	ref = reg.Host + "/foo/bar:1"
	reg.Put(t, "foo/bar", "1", simple(t, "old", map[string]any{
		"PropagatedMount": "/data",
		"Env": []map[string]any{
			{"Name": "KEPT", "Value": "a", "Settable": []string{"value"}},
			{"Name": "DEFAULT", "Value": "old", "Settable": []string{"value"}},
			{"Name": "GONE", "Value": "x", "Settable": []string{"value"}},
		},
	}))
	reg.Put(t, "foo/bar", "2", simple(t, "new", map[string]any{
		"PropagatedMount": "/data", "PidHost": true,
		"Env": []map[string]any{
			{"Name": "KEPT", "Value": "b", "Settable": []string{"value"}},
			{"Name": "DEFAULT", "Value": "new", "Settable": []string{"value"}},
			{"Name": "ADDED", "Value": "y", "Settable": []string{"value"}},
		},
	}))
	f = newFixture(t, quick)
	if _, err := f.pull(ref, nil); err != nil {
		t.Fatal(err)
	}
	if err := f.Set(t.Context(), ref, outlet.SetOptions{Set: []string{"KEPT=mine"}}); err != nil {
		t.Fatal(err)
	}
	return f, reg, ref
}

var pidHost = outlet.Privileges{{Name: "host pid namespace", Value: []string{"true"}}}

func TestUpgradeKeepsWhatStillFits(t *testing.T) {
	f, reg, ref := upgradeFixture(t)
	before, _ := f.Inspect(t.Context(), ref)
	data := filepath.Join(f.store.PluginDir(before.ID), "propagated-mount", "kept")
	if err := os.MkdirAll(filepath.Dir(data), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(data, []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	var lines []string
	p, err := f.Upgrade(t.Context(), ref, reg.Host+"/foo/bar:2", outlet.UpgradeOptions{Granted: pidHost}, func(p outlet.Progress) { lines = append(lines, p.Status) })
	if err != nil {
		t.Fatal(err)
	}
	if p.ID != before.ID || p.Name != ref || p.PluginReference != reg.Host+"/foo/bar:2" || !p.Config.PidHost {
		t.Errorf("upgraded: %+v", p)
	}
	if want := []string{"KEPT=mine", "DEFAULT=new", "ADDED=y"}; !slices.Equal(p.Settings.Env, want) {
		t.Errorf("settings are %q, not %q", p.Settings.Env, want)
	}
	for _, want := range []string{"Settings: env DEFAULT has a new default", "Settings: env GONE is gone", "Settings: env ADDED is new"} {
		if !slices.Contains(lines, want) {
			t.Errorf("it did not tell %q, but %q", want, lines)
		}
	}
	if got, _ := f.read(ref, "bin/plugin"); got != "new" {
		t.Errorf("it holds %q", got)
	}
	if b, err := os.ReadFile(data); err != nil || string(b) != "x" {
		t.Errorf("the propagated mount: %q, %v", b, err)
	}
	f.clean()
	f.enable(ref)
	// A second manager sees the same.
	rec, err := f.store.Get(t.Context(), p.ID)
	if err != nil || rec.Reference != reg.Host+"/foo/bar:2" || rec.Generation != 2 || len(rec.Layers) != 1 || rec.Manifest == nil || rec.GrantedFor != rec.ConfigDigest {
		t.Errorf("record %+v, %v", rec, err)
	}
}

func TestUpgradeRefuses(t *testing.T) {
	f, reg, ref := upgradeFixture(t)
	if err := f.Enable(t.Context(), ref, outlet.EnableOptions{}); err != nil {
		t.Fatal(err)
	}
	_, err := f.Upgrade(t.Context(), ref, reg.Host+"/foo/bar:2", outlet.UpgradeOptions{Granted: pidHost}, nil)
	if !errdefs.IsConflict(err) || err.Error() != "plugin must be disabled before upgrading: plugin "+ref+" is enabled" {
		t.Errorf("enabled: %v", err)
	}
	if _, err := f.Acquire(t.Context(), ref, "volumedriver", outlet.Holder{Kind: "volume", Name: "v"}); err != nil {
		t.Fatal(err)
	}
	_, err = f.Upgrade(t.Context(), ref, reg.Host+"/foo/bar:2", outlet.UpgradeOptions{Granted: pidHost, Running: true}, nil)
	if !errdefs.IsConflict(err) || !strings.HasPrefix(err.Error(), "the plugin must be disabled before upgrading: ") || !strings.Contains(err.Error(), "volume v") {
		t.Errorf("held: %v", err)
	}
	_, err = f.Upgrade(t.Context(), ref, reg.Host+"/foo/bar:2", outlet.UpgradeOptions{Running: true, WhenIdle: true}, nil)
	if err == nil || err.Error() != "incorrect privileges" {
		t.Errorf("without the new privilege: %v", err)
	}
	_, err = f.Upgrade(t.Context(), "nothing", reg.Host+"/foo/bar:2", outlet.UpgradeOptions{Granted: pidHost}, nil)
	if !errdefs.IsNotFound(err) {
		t.Errorf("unknown: %v", err)
	}
	if got, _ := f.read(ref, "bin/plugin"); got != "old" {
		t.Errorf("it holds %q", got)
	}
	f.clean()
}

func TestUpgradeOfARunningPluginWaitsUntilItIsIdle(t *testing.T) {
	f, reg, ref := upgradeFixture(t)
	f.enable(ref)
	h := outlet.Holder{Kind: "volume", Name: "v"}
	if _, err := f.Acquire(t.Context(), ref, "volumedriver", h); err != nil {
		t.Fatal(err)
	}
	waiting := make(chan struct{})
	done := make(chan error, 1)
	go func() {
		_, err := f.Upgrade(t.Context(), ref, reg.Host+"/foo/bar:2", outlet.UpgradeOptions{Granted: pidHost, Running: true, WhenIdle: true}, func(p outlet.Progress) {
			if strings.HasPrefix(p.Status, "Waiting until nobody uses it") {
				close(waiting)
			}
		})
		done <- err
	}()
	<-waiting
	select {
	case err := <-done:
		t.Fatalf("it did not wait: %v", err)
	default:
	}
	if err := f.ReleaseHolder(t.Context(), ref, h); err != nil {
		t.Fatal(err)
	}
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	p := f.state(ref, outlet.StateRunning)
	if !p.Enabled || !p.Config.PidHost {
		t.Errorf("it is %+v", p)
	}
	if got, _ := f.read(ref, "bin/plugin"); got != "new" {
		t.Errorf("it holds %q", got)
	}
	f.clean()
}

func TestWhoWantsAPluginThatIsBeingUpgradedWaits(t *testing.T) {
	for name, fails := range map[string]bool{"the new version starts": false, "the old one comes back": true} {
		t.Run(name, func(t *testing.T) {
			f, reg, ref := upgradeFixture(t)
			f.enable(ref)
			r, err := f.Lookup(t.Context(), ref, "volumedriver")
			if err != nil {
				t.Fatal(err)
			}
			stopped, goOn := make(chan struct{}), make(chan struct{})
			var starts atomic.Int32
			f.rt.mu.Lock()
			f.rt.behave = func(runtime.Bundle) behaviour {
				if starts.Add(1) == 1 {
					close(stopped)
					<-goOn
					if fails {
						return behaviour{exitAtOnce: &outlet.Exit{Code: 3}}
					}
				}
				return behaviour{}
			}
			f.rt.mu.Unlock()
			done, acquired, called := make(chan error, 1), make(chan error, 1), make(chan error, 1)
			go func() {
				_, err := f.Upgrade(t.Context(), ref, reg.Host+"/foo/bar:2", outlet.UpgradeOptions{Granted: pidHost, Running: true}, nil)
				done <- err
			}()
			<-stopped
			h := outlet.Holder{Kind: "volume", Name: "v"}
			go func() {
				_, err := f.Acquire(t.Context(), ref, "volumedriver", h)
				acquired <- err
			}()
			go func() { called <- r.Client().Call(t.Context(), "VolumeDriver.List", nil, nil) }()
			impatient, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
			defer cancel()
			if _, err := f.Acquire(impatient, ref, "volumedriver", h); !errdefs.IsUnavailable(err) {
				t.Errorf("acquired meanwhile: %v", err)
			}
			close(goOn)
			if err := <-done; (err != nil) != fails {
				t.Errorf("upgrade: %v", err)
			}
			if err := <-acquired; err != nil {
				t.Errorf("acquire: %v", err)
			}
			if err := <-called; err != nil && strings.Contains(err.Error(), "disabled") {
				t.Errorf("call: %v", err)
			}
			if err := f.ReleaseHolder(t.Context(), ref, h); err != nil {
				t.Error(err)
			}
			f.clean()
		})
	}
}

func TestAnUpgradeThatDoesNotStartIsUndone(t *testing.T) {
	f, reg, ref := upgradeFixture(t)
	f.enable(ref)
	var starts atomic.Int32
	f.rt.mu.Lock()
	f.rt.behave = func(runtime.Bundle) behaviour {
		if starts.Add(1) == 1 {
			return behaviour{exitAtOnce: &outlet.Exit{Code: 3}, print: "cannot go on\n"}
		}
		return behaviour{}
	}
	f.rt.mu.Unlock()
	_, err := f.Upgrade(t.Context(), ref, reg.Host+"/foo/bar:2", outlet.UpgradeOptions{Granted: pidHost, Running: true}, nil)
	if err == nil || !strings.Contains(err.Error(), "the old one is back and running") || !strings.Contains(err.Error(), "status 3") {
		t.Errorf("got %v", err)
	}
	p := f.state(ref, outlet.StateRunning)
	if !p.Enabled || p.Config.PidHost || p.PluginReference != ref || !slices.Contains(p.Settings.Env, "KEPT=mine") {
		t.Errorf("it is %+v", p)
	}
	if got, _ := f.read(ref, "bin/plugin"); got != "old" {
		t.Errorf("it holds %q", got)
	}
	f.clean()
	// And the next try, with a version that works, succeeds.
	if _, err := f.Upgrade(t.Context(), ref, reg.Host+"/foo/bar:2", outlet.UpgradeOptions{Granted: pidHost, Running: true}, nil); err != nil {
		t.Fatal(err)
	}
	f.state(ref, outlet.StateRunning)
	f.clean()
}

func TestAnUpgradeWhoseClientGoesAwayChangesNothing(t *testing.T) {
	f, reg, ref := upgradeFixture(t)
	ctx, cancel := context.WithCancel(t.Context())
	p := rt.Before(t, reg)
	p.On("GET /v2/foo/bar/blobs/", rt.Slow(50*time.Millisecond))
	_, err := f.Upgrade(ctx, ref, p.Host+"/foo/bar:2", outlet.UpgradeOptions{Granted: pidHost}, func(outlet.Progress) { cancel() })
	if !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	if got, _ := f.read(ref, "bin/plugin"); got != "old" {
		t.Errorf("it holds %q", got)
	}
	f.clean()
}

func TestAPluginThatIsDisabledByForceIsUpgradedThoughItIsHeld(t *testing.T) {
	f, reg, ref := upgradeFixture(t)
	f.enable(ref)
	if _, err := f.Acquire(t.Context(), ref, "volumedriver", outlet.Holder{Kind: "volume", Name: "v"}); err != nil {
		t.Fatal(err)
	}
	o := outlet.UpgradeOptions{Granted: pidHost, Running: true, WhenIdle: true}
	waits, done := make(chan struct{}, 1), make(chan error, 1)
	go func() {
		_, err := f.Upgrade(t.Context(), ref, reg.Host+"/foo/bar:2", o, func(p outlet.Progress) {
			if strings.HasPrefix(p.Status, "Waiting until nobody uses it") {
				waits <- struct{}{}
			}
		})
		done <- err
	}()
	<-waits
	if err := f.Disable(t.Context(), ref, true); err != nil {
		t.Fatal(err)
	}
	if err := <-done; err != nil {
		t.Errorf("who waited until nobody uses it: %v", err)
	}
	if _, err := f.Upgrade(t.Context(), ref, ref, outlet.UpgradeOptions{Running: true}, nil); err != nil {
		t.Errorf("while it is disabled and held: %v", err)
	}
	if got, err := f.read(ref, "bin/plugin"); err != nil || got != "old" {
		t.Errorf("it holds %q, %v", got, err)
	}
	if p := f.state(ref, outlet.StateDisabled); len(p.Status.Holders) != 1 {
		t.Errorf("it is held by %v", p.Status.Holders)
	}
}
