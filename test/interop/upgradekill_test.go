package interop

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/outletd/outlet"
	"github.com/outletd/outlet/client"
	"github.com/outletd/outlet/internal/testutil"
	"github.com/outletd/outlet/internal/testutil/daemontest"
	rt "github.com/outletd/outlet/internal/testutil/registrytest"
)

// gate is where a new version waits, as the plugin sees it, until the test lets
// it go on.
const gate = "/data/gate"

// newVersion is what a plugin is upgraded to.
type newVersion struct {
	args []string
	want string // the version that must run in the end
	// startTimeout is how long it may take to listen, in seconds: as long as a
	// busy machine may take, or where it is waited for the end of it, less.
	startTimeout int
}

var newVersions = map[string]newVersion{
	"is fine":       {[]string{"-listen", daemontest.PluginListen}, "new", 60},
	"exits at once": {[]string{"-exit", "3"}, "old", 60},
	"never listens": {nil, "old", 5},
}

// upgradeWorld is an enabled plugin, and a registry with its next version.
type upgradeWorld struct {
	t        *testing.T
	d        *daemontest.Daemon
	c        *client.Client
	old, new string // references
	dir      string // of the propagated mount, on the host
}

func newUpgradeWorld(t *testing.T, v newVersion, flags ...string) upgradeWorld {
	t.Helper()
	d := daemontest.Start(t, append([]string{"--start-timeout", fmt.Sprint(v.startTimeout, "s")}, flags...)...)
	reg := rt.Start(t, rt.Options{})
	w := upgradeWorld{t: t, d: d, old: reg.Host + "/foo/bar:old", new: reg.Host + "/foo/bar:new"}
	program, err := os.ReadFile(testutil.Build(t, "./test/interop/plugin"))
	if err != nil {
		t.Fatal(err)
	}
	for version, args := range map[string][]string{"old": {"-listen", daemontest.PluginListen}, "new": v.args} {
		reg.Put(t, "foo/bar", version, rt.Plugin{
			Config: rt.Config(map[string]any{
				"Description": version, "Entrypoint": append([]string{"/plugin"}, args...), "PropagatedMount": "/data",
			}),
			Layers: []rt.Layer{rt.GzipLayer(t,
				rt.File{Name: "plugin", Content: string(program), Mode: 0o755}, rt.File{Name: "version", Content: version})},
		})
	}
	if w.c, err = client.New(client.Options{Host: d.Host()}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = w.c.Close() }) // only idle connections
	if _, err := w.c.Pull(t.Context(), w.old, outlet.PullOptions{}, nil); err != nil {
		t.Fatal(err)
	}
	if err := w.c.Enable(t.Context(), w.old, outlet.EnableOptions{}); err != nil {
		t.Fatal(err)
	}
	p, err := w.c.Inspect(t.Context(), w.old)
	if err != nil {
		t.Fatal(err)
	}
	w.dir = filepath.Join(d.Dir(), "lib/plugins", p.ID, "propagated-mount")
	if err := os.WriteFile(filepath.Join(w.dir, "kept"), []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	return w
}

// upgrade begins an upgrade of the running plugin.
func (w upgradeWorld) upgrade(ctx context.Context, progress func(outlet.Progress)) chan error {
	done := make(chan error, 1)
	go func() { done <- w.c.Upgrade(ctx, w.old, w.new, outlet.UpgradeOptions{Running: true}, progress) }()
	return done
}

// comesTo waits until the plugin runs as one version, and checks that nothing
// else is left and nothing is lost.
func (w upgradeWorld) comesTo(want string) {
	w.t.Helper()
	testutil.Eventually(w.t, 2*time.Minute, func() error {
		p, err := w.c.Inspect(w.t.Context(), w.old)
		if err != nil {
			return err
		}
		ref := map[string]string{"old": w.old, "new": w.new}[p.Config.Description]
		if p.Config.Description != want || p.PluginReference != ref || !p.Enabled || p.Status.State != outlet.StateRunning {
			return fmt.Errorf("it is %q of %s, %+v", p.Config.Description, p.PluginReference, p.Status)
		}
		// What runs is what is said to run.
		b, err := os.ReadFile(fmt.Sprintf("/proc/%d/root/version", p.Status.PID))
		if err == nil && string(b) != want {
			err = fmt.Errorf("version %q runs", b)
		}
		return err
	})
	if b, err := os.ReadFile(filepath.Join(w.dir, "kept")); err != nil || string(b) != "x" {
		w.t.Errorf("what is below the propagated mount: %q, %v", b, err)
	}
	report, err := w.c.Check(w.t.Context(), false)
	if err != nil {
		w.t.Fatal(err)
	}
	for _, p := range report.Problems {
		w.t.Errorf("%+v", p)
	}
}

// remove removes the plugin, and all of it must go.
func (w upgradeWorld) remove() {
	w.t.Helper()
	if err := w.c.Remove(w.t.Context(), w.old, true); err != nil {
		w.t.Fatal(err)
	}
	if _, err := w.c.Prune(w.t.Context()); err != nil {
		w.t.Fatal(err)
	}
	testutil.Eventually(w.t, time.Minute, func() error {
		return errors.Join(noFiles(w.d.Dir()+"/lib/content"), noFiles(w.d.Dir()+"/lib/plugins"),
			noFiles(w.d.Dir()+"/lib/snapshots/overlayfs/snapshots"))
	})
}

func TestADaemonEndedBeforeANewVersionIsReadyHasOneThatRuns(t *testing.T) {
	kill, stop := (*daemontest.Daemon).Kill, (*daemontest.Daemon).Stop
	type ends = []func(*daemontest.Daemon)
	for how, daemon := range map[string]struct {
		ends  ends
		flags []string
	}{
		// One that is stopped first waits for the upgrade to end.
		"killed":               {ends{kill}, nil},
		"killed, then stopped": {ends{kill, kill, stop}, nil},
		"without live-restore": {ends{kill, stop, kill}, []string{"--live-restore=false"}},
	} {
		for name, version := range newVersions {
			t.Run(name+", "+how, func(t *testing.T) {
				version.args = append([]string{"-wait", gate}, version.args...)
				// All that is done while it waits at the gate must not take longer.
				version.startTimeout = max(version.startTimeout, 10)
				w := newUpgradeWorld(t, version, daemon.flags...)
				if err := unix.Mkfifo(filepath.Join(w.dir, "gate"), 0o600); err != nil {
					t.Fatal(err)
				}
				done := w.upgrade(t.Context(), nil)
				for _, end := range daemon.ends {
					w.waits()
					end(w.d)
					w.d.Start()
				}
				if err := <-done; err == nil {
					t.Error("the upgrade succeeded")
				}
				w.waits()
				opened, err := os.OpenFile(filepath.Join(w.dir, "gate"), os.O_RDWR, 0)
				if err != nil {
					t.Fatal(err)
				}
				defer opened.Close()
				w.comesTo(version.want)
				p, err := w.c.Inspect(t.Context(), w.old)
				if err != nil || (p.Status.UpgradeUndone != "") != (version.want == "old") {
					t.Errorf("%+v, %v", p.Status, err)
				}
				w.remove()
			})
		}
	}
}

// waits waits until the new version waits at the gate.
func (w upgradeWorld) waits() {
	w.t.Helper()
	testutil.Eventually(w.t, time.Minute, func() error {
		p, err := w.c.Inspect(w.t.Context(), w.old)
		if err == nil && (p.PluginReference != w.new || p.Status.State != outlet.StateStarting || p.Status.PID == 0) {
			err = fmt.Errorf("it is %s, %+v", p.PluginReference, p.Status)
		}
		return err
	})
}

func TestADaemonKilledAtAnyMomentOfARestartHasOneVersionThatRuns(t *testing.T) {
	for name, version := range newVersions {
		t.Run(name, func(t *testing.T) { killAtAnyMoment(t, version) })
	}
	// test/crash walks over all points of a roll-back.
	t.Run("without live-restore", func(t *testing.T) {
		killAtAnyMoment(t, newVersions["exits at once"], "--live-restore=false")
	})
}

func killAtAnyMoment(t *testing.T, version newVersion, flags ...string) {
	w := newUpgradeWorld(t, version, flags...)
	for i := range 5 {
		restarting := make(chan struct{}, 1)
		done := w.upgrade(t.Context(), func(p outlet.Progress) {
			if p.Status == "Restarting" {
				restarting <- struct{}{}
			}
		})
		select {
		case <-restarting:
		case err := <-done:
			if len(restarting) == 0 { // else both came before anybody looked
				t.Fatalf("it was over before it restarted: %v", err)
			}
			done <- err
		}
		<-time.After(time.Duration(i) * 25 * time.Millisecond)
		w.d.Kill()
		<-done // it may have been in time
		w.d.Start()
		if version.want == "old" {
			w.comesTo("old")
			continue
		}
		// Before the record there is nothing to go on with.
		p, err := w.c.Inspect(t.Context(), w.old)
		if err != nil {
			t.Fatal(err)
		}
		w.comesTo(p.Config.Description)
	}
	w.remove()
}
