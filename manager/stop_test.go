package manager

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/containerd/errdefs"

	"github.com/outletd/outlet"
	"github.com/outletd/outlet/internal/store"
	"github.com/outletd/outlet/internal/testutil"
)

func TestAPluginThatCannotBeEndedIsFailedNotDisabled(t *testing.T) {
	f := newFixture(t)
	p := f.create("sample")
	f.rt.set(behaviour{immortal: true, noListen: true})
	if err := f.Enable(t.Context(), "sample", outlet.EnableOptions{StartTimeout: 50 * time.Millisecond}); err == nil {
		t.Fatal("it was enabled")
	}
	if q := f.state("sample", outlet.StateFailed); q.Enabled || q.Status.Error == "" {
		t.Errorf("left %+v", q)
	}
	f.rt.task(p.ID).end(outlet.Exit{}) // somebody ended it after all
	f.rt.set(behaviour{})
	if err := f.Disable(t.Context(), "sample", false); err != nil {
		t.Fatal(err)
	}
	f.enable("sample")
}

func TestARestartThatCannotBeEndedIsNotTriedAgain(t *testing.T) {
	f := newFixture(t)
	p := f.create("sample")
	// It is in time the first time, and not the second.
	if err := f.Enable(t.Context(), "sample", outlet.EnableOptions{StartTimeout: 2 * time.Second}); err != nil {
		t.Fatal(err)
	}
	f.rt.set(behaviour{immortal: true, noListen: true})
	f.rt.task(p.ID).end(outlet.Exit{Code: 1})
	if q := f.state("sample", outlet.StateFailed); !q.Enabled {
		t.Error("what its user wants was forgotten")
	}
	f.rt.task(p.ID).end(outlet.Exit{})
	if err := f.Remove(t.Context(), "sample", true); err != nil {
		t.Error(err)
	}
}

// chain records what it is told.
type chain struct {
	mu   sync.Mutex
	told []string
}

func (c *chain) Remove(name string)  { c.add("remove " + name) }
func (c *chain) Restore(name string) { c.add("restore " + name) }
func (c *chain) add(s string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.told = append(c.told, s)
}

func (c *chain) String() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return strings.Join(c.told, ", ")
}

func TestADisableThatFailsLeavesEverythingInPlace(t *testing.T) {
	var authz chain
	f := newFixture(t, func(c *Config) { c.AuthzChain = &authz })
	f.create("sample", func(c *outlet.Config) {
		c.Interface.Types = append(c.Interface.Types, outlet.ParseCapability("docker.authz/1.0"))
	})
	f.enable("sample")
	h := outlet.Holder{Kind: "volume", Name: "data"}
	if _, err := f.Acquire(t.Context(), "sample", "volumedriver", h); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel() // nothing is stored with it
	if err := f.Disable(ctx, "sample", true); err == nil {
		t.Fatal("it was disabled though that could not be stored")
	}
	p := f.state("sample", outlet.StateRunning)
	if !p.Enabled || len(p.Status.Holders) != 1 {
		t.Errorf("left %+v, held by %v", p, p.Status.Holders)
	}
	if got, want := authz.String(), "restore sample:latest, remove sample:latest, restore sample:latest"; got != want {
		t.Errorf("the chain was told %s; want %s", got, want)
	}
	if err := f.Disable(t.Context(), "sample", true); err != nil {
		t.Fatal(err)
	}
	if p = f.state("sample", outlet.StateDisabled); len(p.Status.Holders) != 1 {
		t.Errorf("held by %v", p.Status.Holders)
	}
}

func TestHoldersOutliveAForcedDisable(t *testing.T) {
	f := newFixture(t)
	f.create("sample")
	h := outlet.Holder{Kind: "volume", Name: "data"}
	disabledByForce := func() {
		t.Helper()
		f.enable("sample")
		if _, err := f.Acquire(t.Context(), "sample", "volumedriver", h); err != nil {
			t.Fatal(err)
		}
		if err := f.Disable(t.Context(), "sample", true); err != nil {
			t.Fatal(err)
		}
		if err := f.Remove(t.Context(), "sample", false); !errdefs.IsConflict(err) || !strings.Contains(err.Error(), "in use by volume data") {
			t.Errorf("removed while it is held: %v", err)
		}
	}
	disabledByForce()
	if _, err := f.Acquire(t.Context(), "sample", "volumedriver", outlet.Holder{Kind: "volume", Name: "other"}); !errdefs.IsConflict(err) {
		t.Errorf("somebody takes hold of what is disabled: %v", err)
	}
	f.enable("sample")
	if err := f.Disable(t.Context(), "sample", false); !errdefs.IsConflict(err) {
		t.Errorf("disabled while it is held: %v", err)
	}
	if err := f.Disable(t.Context(), "sample", true); err != nil {
		t.Fatal(err)
	}
	if err := f.ReleaseHolder(t.Context(), "sample", h); err != nil {
		t.Fatal(err)
	}
	f.enable("sample")
	if err := f.Disable(t.Context(), "sample", false); err != nil {
		t.Errorf("released while it was disabled, and held: %v", err)
	}
	disabledByForce()
	if err := f.Remove(t.Context(), "sample", true); err != nil {
		t.Error(err)
	}
	f.create("sample")
	if p := f.state("sample", outlet.StateDisabled); len(p.Status.Holders) > 0 {
		t.Errorf("another of the name is held by %v", p.Status.Holders)
	}
}

func TestWhoHeldADisabledPluginBeforeTheManagerHoldsItAgain(t *testing.T) {
	f := newFixture(t)
	p := f.create("sample")
	h := outlet.Holder{Kind: "volume", Name: "data"}
	if err := f.Hold(t.Context(), p.ID, h); err != nil {
		t.Fatal(err)
	}
	if err := f.Remove(t.Context(), "sample", false); !errdefs.IsConflict(err) {
		t.Errorf("removed while it is held: %v", err)
	}
	if err := f.Hold(t.Context(), "gone", h); !errdefs.IsNotFound(err) {
		t.Errorf("holds what is not there: %v", err)
	}
	if err := f.ReleaseHolder(t.Context(), "sample", h); err != nil {
		t.Fatal(err)
	}
	if err := f.Remove(t.Context(), "sample", false); err != nil {
		t.Error(err)
	}
}

func TestOperationsWaitForWhatAStartCleansUp(t *testing.T) {
	dir, rt := testutil.TempDir(t), newFakeRuntime()
	f := openFixture(t, dir, rt)
	p := f.create("sample")
	rt.set(behaviour{stubborn: true})
	f.enable("sample")
	if err := f.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	// As if the manager had died between the record and the stop.
	st, err := store.Open(t.Context(), store.Config{Root: filepath.Join(dir, "root"), Snapshotter: store.Native})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := st.Update(t.Context(), p.ID, func(r *store.Record) error { r.Enabled = false; return nil }); err != nil {
		t.Fatal(err)
	}
	if err := st.Close(); err != nil {
		t.Fatal(err)
	}
	held := make(chan struct{})
	release := sync.OnceFunc(func() { close(held) })
	rt.hold(held)
	g := openFixture(t, dir, rt)
	defer release()
	g.state("sample", outlet.StateStopping)
	done := make(chan error, 1)
	go func() { done <- g.Enable(t.Context(), "sample", outlet.EnableOptions{}) }()
	select {
	case err := <-done:
		t.Fatalf("it did not wait: %v", err)
	case <-time.After(50 * time.Millisecond):
	}
	rt.set(behaviour{})
	release()
	if err := answered(t, "enable", done); err != nil {
		t.Fatal(err)
	}
	g.state("sample", outlet.StateRunning)
}

func TestAStartRemovesOnlyWhatIsItsOwn(t *testing.T) {
	dir, rt := testutil.TempDir(t), newFakeRuntime()
	for _, d := range []string{"x/b/precious", "x/p/0123456789ab", "x/b/0123456789ab/rootfs"} {
		if err := os.MkdirAll(filepath.Join(dir, d), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	openFixture(t, dir, rt)
	if _, err := os.Stat(filepath.Join(dir, "x/b/precious")); err != nil {
		t.Error(err)
	}
	for _, d := range []string{"x/p/0123456789ab", "x/b/0123456789ab"} {
		if _, err := os.Stat(filepath.Join(dir, d)); !os.IsNotExist(err) {
			t.Errorf("%s was left", d)
		}
	}
}

func TestASecondManagerOnTheSameExecRootIsRefused(t *testing.T) {
	dir, rt := testutil.TempDir(t), newFakeRuntime()
	f := openFixture(t, dir, rt)
	p := f.create("sample")
	f.enable("sample")
	cfg := f.cfg
	cfg.Root = filepath.Join(dir, "other")
	m, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	if err := m.Open(t.Context()); err == nil || !strings.Contains(err.Error(), fmt.Sprintf("exec root %s is in use by another daemon (pid %d)", cfg.ExecRoot, os.Getpid())) {
		t.Errorf("got %v", err)
	}
	if err := m.Close(t.Context()); err != nil {
		t.Error(err)
	}
	if f.rt.task(p.ID) == nil {
		t.Error("it ended the other's plugin")
	}
}
