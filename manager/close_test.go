package manager

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/containerd/errdefs"

	"github.com/outletd/outlet"
	"github.com/outletd/outlet/internal/testutil"
)

// answered waits for the answer of an operation that runs elsewhere.
func answered(t *testing.T, what string, done <-chan error) error {
	t.Helper()
	select {
	case err := <-done:
		return err
	case <-time.After(time.Minute):
		t.Fatalf("%s got no answer", what)
		return nil
	}
}

func TestWhoWaitsForAStartIsAnsweredWhenTheManagerCloses(t *testing.T) {
	for name, live := range map[string]bool{"with live-restore": true, "without": false} {
		t.Run(name, func(t *testing.T) {
			dir, rt := testutil.TempDir(t), newFakeRuntime()
			f := openFixture(t, dir, rt, func(c *Config) { c.LiveRestore = live })
			p := f.create("sample")
			rt.set(behaviour{noListen: true})
			done := make(chan error, 1)
			go func() { done <- f.Enable(context.Background(), "sample", outlet.EnableOptions{}) }()
			f.state("sample", outlet.StateStarting)
			testutil.Eventually(t, time.Minute, func() error {
				if rt.task(p.ID) == nil {
					return errors.New("it was not started")
				}
				return nil
			})
			if err := f.Close(t.Context()); err != nil {
				t.Fatal(err)
			}
			if err := answered(t, "enable", done); err == nil {
				t.Error("it was enabled")
			}
			if rt.task(p.ID) != nil {
				t.Error("its process goes on")
			}
			rt.set(behaviour{})
			if p := openFixture(t, dir, rt).state("sample", outlet.StateDisabled); p.Enabled {
				t.Error("it is enabled though nobody was told so")
			}
		})
	}
}

func TestWhoWaitsForAStopIsAnsweredWhenTheManagerCloses(t *testing.T) {
	dir, rt := testutil.TempDir(t), newFakeRuntime()
	// Long enough to be seen.
	f := openFixture(t, dir, rt, func(c *Config) { c.StopTimeout = 3 * time.Second })
	p := f.create("sample")
	rt.set(behaviour{stubborn: true})
	f.enable("sample")
	done := make(chan error, 1)
	go func() { done <- f.Disable(context.Background(), "sample", false) }()
	f.state("sample", outlet.StateStopping)
	if err := f.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := answered(t, "disable", done); err != nil && !errdefs.IsUnavailable(err) {
		t.Error(err)
	}
	if rt.task(p.ID) != nil {
		t.Error("its process goes on")
	}
	rt.set(behaviour{})
	if p := openFixture(t, dir, rt).state("sample", outlet.StateDisabled); p.Enabled {
		t.Error("it is enabled again")
	}
}

func TestNothingBeginsOnceTheManagerIsClosed(t *testing.T) {
	f := newFixture(t)
	f.create("sample")
	if err := f.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	ctx := t.Context()
	_, _, createErr := f.Create(ctx, "other", archive(t), outlet.CreateOptions{})
	for what, err := range map[string]error{
		"create":  createErr,
		"enable":  f.Enable(ctx, "sample", outlet.EnableOptions{}),
		"disable": f.Disable(ctx, "sample", true),
		"set":     f.Set(ctx, "sample", outlet.SetOptions{Set: []string{"DEBUG=1"}}),
		"remove":  f.Remove(ctx, "sample", true),
		"logs":    f.Logs(ctx, "sample", outlet.LogOptions{}, func(outlet.LogEntry) error { return nil }),
	} {
		if what != "disable" && !errdefs.IsUnavailable(err) { // a disabled plugin is not disabled again
			t.Errorf("%s: %v", what, err)
		}
	}
}

// It is a matter of the race detector.
func TestLiveRestoreIsSwitchedWhilePluginsStart(t *testing.T) {
	f := newFixture(t)
	f.create("sample")
	done := make(chan struct{})
	var switching sync.WaitGroup
	switching.Go(func() {
		for on := false; ; on = !on {
			select {
			case <-done:
				return
			default:
				f.SetLiveRestore(on)
			}
		}
	})
	for range 10 {
		f.enable("sample")
		if err := f.Disable(t.Context(), "sample", false); err != nil {
			t.Error(err)
		}
	}
	close(done)
	switching.Wait()
}
