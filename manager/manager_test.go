package manager

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/containerd/errdefs"

	"github.com/outletd/outlet"
	"github.com/outletd/outlet/internal/testutil"
)

func TestLifeOfAPlugin(t *testing.T) {
	var logged []string
	f := newFixture(t, func(c *Config) {
		c.EventLogger = func(action, _, name string) { logged = append(logged, action+" "+name) }
	})
	events, cancel := f.Subscribe(64, EventFilter{Kind: EventCreate}, EventFilter{Kind: EventEnable}, EventFilter{Kind: EventDisable}, EventFilter{Kind: EventRemove}, EventFilter{Kind: EventSet})
	defer cancel()

	p := f.create("sample")
	if p.Name != "sample:latest" || p.Enabled || p.Status.State != outlet.StateDisabled || !outlet.IsID(p.ID) {
		t.Fatalf("created %+v", p)
	}
	if err := f.Set(t.Context(), "sample", outlet.SetOptions{Set: []string{"DEBUG=1"}}); err != nil {
		t.Fatal(err)
	}
	if err := f.Enable(t.Context(), p.ID[:6], outlet.EnableOptions{Timeout: 3 * time.Second}); err != nil {
		t.Fatal(err)
	}
	p = f.state("sample", outlet.StateRunning)
	if !p.Enabled || p.Status.PID == 0 || p.Settings.Env[0] != "DEBUG=1" {
		t.Errorf("enabled %+v", p)
	}
	if err := f.Set(t.Context(), "sample", outlet.SetOptions{Set: []string{"DEBUG=2"}}); !errdefs.IsConflict(err) {
		t.Errorf("settings of an enabled plugin were changed: %v", err)
	}
	if err := f.Remove(t.Context(), "sample", false); !errdefs.IsConflict(err) || err.Error() != "plugin sample:latest is enabled" {
		t.Errorf("an enabled plugin was removed: %v", err)
	}
	if err := f.Disable(t.Context(), "sample", false); err != nil {
		t.Fatal(err)
	}
	if f.rt.task(p.ID) != nil {
		t.Error("a disabled plugin has a container")
	}
	if err := f.Remove(t.Context(), "sample", false); err != nil {
		t.Fatal(err)
	}
	if _, err := f.Inspect(t.Context(), "sample"); !errdefs.IsNotFound(err) || err.Error() != `plugin "sample" not found` {
		t.Errorf("a removed plugin is still there: %v", err)
	}
	if want := []string{"create sample:latest", "enable sample:latest", "disable sample:latest", "remove sample:latest"}; strings.Join(logged, ", ") != strings.Join(want, ", ") {
		t.Errorf("logged %v", logged)
	}
	for _, kind := range []EventKind{EventCreate, EventSet, EventEnable, EventDisable, EventRemove} {
		if e := <-events; e.Kind != kind {
			t.Errorf("event %s, want %s", e.Kind, kind)
		}
	}
}

func TestCreateRefusesATakenName(t *testing.T) {
	f := newFixture(t)
	f.create("sample")
	_, _, err := f.Create(t.Context(), "sample:latest", archive(t), outlet.CreateOptions{})
	if !errdefs.IsAlreadyExists(err) || err.Error() != "plugin sample:latest already exists" {
		t.Errorf("got %v", err)
	}
}

func TestTwoCreatesOfOneNameMakeOnePlugin(t *testing.T) {
	f := newFixture(t)
	var wg sync.WaitGroup
	errs := make([]error, 8)
	for i := range errs {
		a := archive(t)
		wg.Go(func() { _, _, errs[i] = f.Create(t.Context(), "sample", a, outlet.CreateOptions{}) })
	}
	wg.Wait()
	made := 0
	for _, err := range errs {
		switch {
		case err == nil:
			made++
		case !errdefs.IsAlreadyExists(err):
			t.Error(err)
		}
	}
	if made != 1 {
		t.Errorf("%d plugins were made", made)
	}
}

func TestCreateTakesTheEnvironmentOfItsOptions(t *testing.T) {
	f := newFixture(t)
	p, _, err := f.Create(t.Context(), "sample", archive(t), outlet.CreateOptions{ServiceID: "s", Env: []string{"DEBUG=9", "NEW=x", "odd"}})
	if err != nil {
		t.Fatal(err)
	}
	if got := strings.Join(p.Settings.Env, " "); got != "DEBUG=9 NEW=x" {
		t.Errorf("environment %q", got)
	}
}

func TestCreateLeavesNothingWhenItFails(t *testing.T) {
	f := newFixture(t)
	bad := archive(t, func(c *outlet.Config) { c.Interface.Socket = "../x.sock" })
	if _, _, err := f.Create(t.Context(), "sample", bad, outlet.CreateOptions{}); !errdefs.IsInvalidArgument(err) || !strings.Contains(err.Error(), "Interface.Socket") {
		t.Fatalf("got %v", err)
	}
	if l, _ := f.List(t.Context(), outlet.ListFilter{}); len(l) != 0 {
		t.Errorf("there is %v", l)
	}
	f.create("sample") // the name is free
}

func TestFailedEnableSaysWhyAndLeavesThePluginDisabled(t *testing.T) {
	for name, tc := range map[string]struct {
		how  behaviour
		want []string
	}{
		"exits with a status":      {behaviour{exitAtOnce: &outlet.Exit{Code: 3}, print: "no \x1b[31mbackend"}, []string{"exited with status 3 before its socket accepted", "stderr: no [31mbackend"}},
		"is killed":                {behaviour{exitAtOnce: &outlet.Exit{Code: 137, Signal: 9}}, []string{"was killed by SIGKILL"}},
		"never listens":            {behaviour{noListen: true, print: "waiting"}, []string{"p.sock", "300ms", "stderr: waiting"}},
		"listens on another name":  {behaviour{listenAs: "other.sock"}, []string{"p.sock", "other.sock"}},
		"the runtime will not":     {behaviour{refuse: errors.New("exec format error")}, []string{"exec format error"}},
		"prints nothing and exits": {behaviour{exitAtOnce: &outlet.Exit{Code: 1}}, []string{"it printed nothing"}},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t)
			p := f.create("sample")
			f.rt.set(tc.how)
			var o outlet.EnableOptions
			if tc.how.noListen || tc.how.listenAs != "" {
				o.StartTimeout = 300 * time.Millisecond
			}
			err := f.Enable(t.Context(), "sample", o)
			if err == nil {
				t.Fatal("it was enabled")
			}
			for _, want := range append(tc.want, "plugin sample:latest did not start") {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("%q lacks %q", err, want)
				}
			}
			if errdefs.IsNotFound(err) || errdefs.IsConflict(err) {
				t.Errorf("%v is not a failure of the plugin", err)
			}
			p = f.state("sample", outlet.StateDisabled)
			if p.Enabled || p.Status.Error == "" || f.rt.task(p.ID) != nil {
				t.Errorf("left %+v", p.Status)
			}
			for _, dir := range []string{f.pathsOf(p.ID).bundle, f.pathsOf(p.ID).sockets} {
				if _, err := os.Stat(dir); !os.IsNotExist(err) {
					t.Errorf("%s was left", dir)
				}
			}
			f.rt.set(behaviour{})
			f.enable("sample")
		})
	}
}

func TestEnableTwice(t *testing.T) {
	f := newFixture(t)
	f.create("sample")
	f.enable("sample")
	err := f.Enable(t.Context(), "sample", outlet.EnableOptions{})
	if !errdefs.IsConflict(err) || err.Error() != "plugin already enabled: plugin sample:latest is enabled" {
		t.Errorf("got %v", err)
	}
	if err := f.Disable(t.Context(), "sample", false); err != nil {
		t.Fatal(err)
	}
	err = f.Disable(t.Context(), "sample", false)
	if !errdefs.IsConflict(err) || err.Error() != "plugin is already disabled: plugin sample:latest found but disabled" {
		t.Errorf("got %v", err)
	}
}

func TestEnableEndsWithItsContext(t *testing.T) {
	f := newFixture(t)
	p := f.create("sample")
	f.rt.set(behaviour{noListen: true})
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if err := f.Enable(ctx, "sample", outlet.EnableOptions{}); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v", err)
	}
	f.state("sample", outlet.StateDisabled)
	if f.rt.task(p.ID) != nil {
		t.Error("its process goes on")
	}
}

func TestAPluginThatEndsIsStartedAgain(t *testing.T) {
	f := newFixture(t)
	p := f.create("sample")
	f.enable("sample")
	for i := 1; i <= 3; i++ {
		task := f.rt.task(p.ID)
		task.end(outlet.Exit{Code: 137, Signal: 9})
		testutil.Eventually(t, time.Minute, func() error {
			if p, _ := f.Inspect(t.Context(), "sample"); p.Status.State != outlet.StateRunning || p.Status.Restarts != i {
				return fmt.Errorf("state %s after %d restarts", p.Status.State, p.Status.Restarts)
			}
			return nil
		})
	}
	p = f.state("sample", outlet.StateRunning)
	if !p.Enabled || p.Status.LastExit == nil || p.Status.LastExit.Signal != 9 {
		t.Errorf("status %+v", p.Status)
	}
	// The fourth within ten minutes waits: for a second, which may be too short to
	// be looked for.
	died, cancel := f.Subscribe(8, EventFilter{Kind: EventDie})
	defer cancel()
	f.rt.task(p.ID).end(outlet.Exit{Code: 1})
	st := (<-died).Plugin.Status
	if st.State != outlet.StateBackoff || st.NextStart == nil || st.NextStart.Sub(st.LastExit.At) < 500*time.Millisecond || st.Error != "it exited with status 1" {
		t.Errorf("status %+v", st)
	}
	if err := f.Disable(t.Context(), "sample", false); err != nil {
		t.Errorf("a plugin in backoff cannot be disabled: %v", err)
	}
	f.state("sample", outlet.StateDisabled)
}

func TestAPluginWhoseRestartFailsStaysEnabledAndInBackoff(t *testing.T) {
	f := newFixture(t)
	p := f.create("sample")
	f.enable("sample")
	f.rt.set(behaviour{refuse: errors.New("no space")})
	f.rt.task(p.ID).end(outlet.Exit{Code: 1})
	testutil.Eventually(t, time.Minute, func() error {
		p, err := f.Inspect(t.Context(), "sample")
		if err == nil && (p.Status.State != outlet.StateBackoff || !strings.Contains(p.Status.Error, "no space")) {
			err = fmt.Errorf("%s: %s", p.Status.State, p.Status.Error)
		}
		return err
	})
	if p, _ := f.Inspect(t.Context(), "sample"); !p.Enabled {
		t.Error("it was silently disabled")
	}
	f.rt.set(behaviour{})
	f.state("sample", outlet.StateRunning)
}

func TestAPluginThatIgnoresSIGTERMIsKilled(t *testing.T) {
	f := newFixture(t)
	p := f.create("sample")
	f.rt.set(behaviour{stubborn: true})
	f.enable("sample")
	if err := f.Disable(t.Context(), "sample", false); err != nil {
		t.Fatal(err)
	}
	if p = f.state("sample", outlet.StateDisabled); p.Status.LastExit.Signal != 9 {
		t.Errorf("exit %+v", p.Status.LastExit)
	}
}

func TestAPluginThatCannotBeEndedIsNotRemoved(t *testing.T) {
	f := newFixture(t)
	p := f.create("sample")
	f.rt.set(behaviour{immortal: true})
	f.enable("sample")
	if err := f.Remove(t.Context(), "sample", true); err == nil || !strings.Contains(err.Error(), "is not removed") {
		t.Fatalf("got %v", err)
	}
	if p = f.state("sample", outlet.StateFailed); p.Status.Error == "" {
		t.Error("it does not say why it failed")
	}
	f.rt.task(p.ID).end(outlet.Exit{}) // somebody ended it after all
	if err := f.Remove(t.Context(), "sample", true); err != nil {
		t.Errorf("it can never be removed: %v", err)
	}
}

func TestHoldersKeepAPluginFromBeingDisabled(t *testing.T) {
	f := newFixture(t)
	f.create("sample")
	if _, err := f.Acquire(t.Context(), "sample", "volumedriver", outlet.Holder{Kind: "volume", Name: "v"}); !errdefs.IsConflict(err) || err.Error() != "plugin sample:latest found but disabled" {
		t.Errorf("a disabled plugin was acquired: %v", err)
	}
	f.enable("sample")
	if _, err := f.Acquire(t.Context(), "sample", "networkdriver", outlet.Holder{}); err == nil || err.Error() != `plugin does not provide "networkdriver" capability` {
		t.Errorf("got %v", err)
	}
	if _, err := f.Acquire(t.Context(), "other", "volumedriver", outlet.Holder{}); !errdefs.IsNotFound(err) {
		t.Errorf("got %v", err)
	}
	h := outlet.Holder{Kind: "volume", Name: "data"}
	for range 2 {
		if _, err := f.Acquire(t.Context(), "sample:latest", "volumedriver", h); err != nil {
			t.Fatal(err)
		}
	}
	for _, err := range []error{f.Disable(t.Context(), "sample", false), f.Remove(t.Context(), "sample", false)} {
		if !errdefs.IsConflict(err) || err.Error() != "plugin sample:latest is in use by volume data" {
			t.Errorf("got %v", err)
		}
	}
	if p, _ := f.Inspect(t.Context(), "sample"); len(p.Status.Holders) != 1 || p.Status.Holders[0].Name != "data" {
		t.Errorf("holders %+v", p.Status.Holders)
	}
	for range 2 { // idempotent, and never below nobody
		if err := f.ReleaseHolder(t.Context(), "sample", h); err != nil {
			t.Fatal(err)
		}
	}
	if err := f.Disable(t.Context(), "sample", false); err != nil {
		t.Fatal(err)
	}
	if err := f.ReleaseHolder(t.Context(), "gone", h); err != nil {
		t.Errorf("releasing a plugin that is gone: %v", err)
	}
}

func TestADriverIsNotNamedByTheFirstLettersOfAnID(t *testing.T) {
	f := newFixture(t)
	p := f.create("sample")
	f.enable("sample")
	if _, err := f.Lookup(t.Context(), p.ID[:4], "volumedriver"); !errdefs.IsNotFound(err) {
		t.Errorf("%s names a driver: %v", p.ID[:4], err)
	}
	for _, name := range []string{p.ID, p.ID[:12]} {
		if _, err := f.Lookup(t.Context(), name, "volumedriver"); err != nil {
			t.Error(err)
		}
	}
}

func TestCallsWaitForARestart(t *testing.T) {
	f := newFixture(t)
	p := f.create("sample")
	answer := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, `{"Answer":1}`) })
	f.rt.set(behaviour{handler: answer})
	f.enable("sample")
	ref, err := f.Acquire(t.Context(), "sample", "volumedriver", outlet.Holder{Kind: "test"})
	if err != nil {
		t.Fatal(err)
	}
	for i := range 3 {
		if i > 0 {
			f.rt.task(p.ID).end(outlet.Exit{Code: 1})
		}
		var got struct{ Answer int }
		if err := ref.Client().Call(t.Context(), "VolumeDriver.Path", struct{}{}, &got); err != nil || got.Answer != 1 {
			t.Errorf("call %d: %v, %v", i, got, err)
		}
	}
	status, raw, err := f.Call(t.Context(), "sample", "VolumeDriver.List", nil)
	if err != nil || status != http.StatusOK || !bytes.Equal(raw, []byte(`{"Answer":1}`)) {
		t.Errorf("%d %s %v", status, raw, err)
	}
	if err := f.Disable(t.Context(), "sample", true); err != nil {
		t.Fatal(err)
	}
	if err := ref.Client().Call(t.Context(), "VolumeDriver.Path", nil, nil); !errdefs.IsConflict(err) {
		t.Errorf("a disabled plugin answers: %v", err)
	}
}

func TestPluginsOutliveTheManager(t *testing.T) {
	dir, rt := testutil.TempDir(t), newFakeRuntime()
	f := openFixture(t, dir, rt)
	alive, died, off := f.create("alive"), f.create("died"), f.create("off")
	for _, n := range []string{"alive", "died", "off"} {
		if err := f.Enable(t.Context(), n, outlet.EnableOptions{Timeout: time.Minute}); err != nil {
			t.Fatal(err)
		}
	}
	before := f.state("alive", outlet.StateRunning)
	if err := f.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	rt.task(died.ID).end(outlet.Exit{Code: 4})
	starts := rt.started()
	_ = off

	g := openFixture(t, dir, rt)
	if p := g.state("alive", outlet.StateRunning); p.Status.PID != before.Status.PID {
		t.Error("a plugin that was running was started again")
	}
	if p := g.state("died", outlet.StateRunning); p.Status.LastExit == nil || p.Status.LastExit.Code != 4 {
		t.Errorf("how it ended is lost: %+v", p.Status.LastExit)
	}
	if n := rt.started() - starts; n != 1 {
		t.Errorf("%d plugins were started, want 1", n)
	}
	_ = alive
}

func TestPluginsEndWithAManagerWithoutLiveRestore(t *testing.T) {
	dir, rt := testutil.TempDir(t), newFakeRuntime()
	f := openFixture(t, dir, rt, func(c *Config) { c.LiveRestore = false })
	for i := range 20 {
		name := fmt.Sprintf("p%d", i)
		f.create(name)
		f.enable(name)
	}
	if err := f.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	if ids, _ := rt.List(t.Context()); len(ids) != 0 {
		t.Errorf("%d go on", len(ids))
	}
	g := openFixture(t, dir, rt)
	for i := range 20 {
		if p := g.state(fmt.Sprintf("p%d", i), outlet.StateRunning); !p.Enabled {
			t.Error("it was disabled")
		}
	}
}

func TestASecondManagerOnTheSameRootIsRefused(t *testing.T) {
	dir, rt := testutil.TempDir(t), newFakeRuntime()
	f := openFixture(t, dir, rt)
	m, err := New(f.cfg)
	if err != nil {
		t.Fatal(err)
	}
	if err := m.Open(t.Context()); !errdefs.IsUnavailable(err) || !strings.Contains(err.Error(), fmt.Sprint(os.Getpid())) {
		t.Errorf("got %v", err)
	}
	if err := m.Close(t.Context()); err != nil {
		t.Error(err)
	}
}

func TestHandlersRunEachTimeAPluginIsReady(t *testing.T) {
	f := newFixture(t)
	var mu sync.Mutex
	var seen []string
	f.Handle("VolumeDriver", func(ctx context.Context, r Ref) {
		// A handler may use the plugin, and the manager.
		_ = r.Client().Call(ctx, "VolumeDriver.Capabilities", nil, nil)
		mu.Lock()
		defer mu.Unlock()
		seen = append(seen, r.Name())
	})
	p := f.create("sample")
	f.enable("sample")
	f.rt.task(p.ID).end(outlet.Exit{Code: 1})
	testutil.Eventually(t, time.Minute, func() error {
		mu.Lock()
		defer mu.Unlock()
		if len(seen) != 2 {
			return fmt.Errorf("handlers ran for %v", seen)
		}
		return nil
	})
}

func TestOutputIsKeptAcrossStarts(t *testing.T) {
	f := newFixture(t)
	p := f.create("sample")
	f.rt.set(behaviour{print: "hello"})
	f.enable("sample")
	f.rt.task(p.ID).end(outlet.Exit{Code: 1})
	testutil.Eventually(t, time.Minute, func() error {
		var lines []string
		err := f.Logs(t.Context(), "sample", outlet.LogOptions{Tail: -1}, func(e outlet.LogEntry) error {
			lines = append(lines, e.Stream+": "+e.Line)
			return nil
		})
		if got := strings.Join(lines, "\n"); err == nil && (strings.Count(got, "stderr: hello") != 2 || !strings.Contains(got, "outlet: the plugin exited with status 1")) {
			err = errors.New(got)
		}
		return err
	})
}

func TestExecNeedsARunningPlugin(t *testing.T) {
	f := newFixture(t)
	f.create("sample")
	var out bytes.Buffer
	p := outlet.Process{Args: []string{"ls"}, Stdout: &out}
	if _, err := f.Exec(t.Context(), "sample", p); !errdefs.IsConflict(err) {
		t.Errorf("got %v", err)
	}
	f.enable("sample")
	if code, err := f.Exec(t.Context(), "sample", p); err != nil || code != 7 || out.String() != "[ls]\n" {
		t.Errorf("%d, %v, %q", code, err, out.String())
	}
	if _, err := f.Exec(t.Context(), "sample", outlet.Process{}); !errdefs.IsInvalidArgument(err) {
		t.Errorf("got %v", err)
	}
}

func TestWhatIsReturnedSharesNothingWithTheManager(t *testing.T) {
	f := newFixture(t)
	p := f.create("sample")
	want, err := json.Marshal(p)
	if err != nil {
		t.Fatal(err)
	}
	p.Config.Entrypoint[0], p.Settings.Env[0], p.Status.State = "x", "x", "x"
	q, _ := f.Inspect(t.Context(), "sample")
	if got, _ := json.Marshal(q); !bytes.Equal(got, want) {
		t.Errorf("it was changed to %s", got)
	}
}

func TestManyUsersAtOnce(t *testing.T) {
	f := newFixture(t)
	const plugins, rounds = 4, 12
	var wg sync.WaitGroup
	for i := range plugins {
		name := fmt.Sprintf("p%d", i)
		f.create(name)
		for range 3 {
			wg.Go(func() {
				for range rounds {
					_ = f.Enable(t.Context(), name, outlet.EnableOptions{})
					_, _ = f.List(t.Context(), outlet.ListFilter{})
					_ = f.Set(t.Context(), name, outlet.SetOptions{Set: []string{"DEBUG=1"}})
					if p, err := f.Inspect(t.Context(), name); err == nil {
						if task := f.rt.task(p.ID); task != nil {
							task.end(outlet.Exit{Code: 1})
						}
					}
					_ = f.Disable(t.Context(), name, true)
				}
			})
		}
	}
	wg.Wait()
	for i := range plugins {
		name := fmt.Sprintf("p%d", i)
		p, err := f.Inspect(t.Context(), name)
		if err != nil {
			t.Fatal(err)
		}
		if p.Enabled {
			if err := f.Disable(t.Context(), name, true); err != nil {
				t.Fatal(err)
			}
		}
		if p = f.state(name, outlet.StateDisabled); f.rt.task(p.ID) != nil {
			t.Errorf("%s is disabled and has a container", name)
		}
	}
}
