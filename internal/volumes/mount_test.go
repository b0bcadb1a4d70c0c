package volumes_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	"github.com/google/go-cmp/cmp"

	"github.com/outletd/outlet"
	"github.com/outletd/outlet/internal/volumes"
)

func mount(t *testing.T, m *machine, volume, id string) string {
	t.Helper()
	p, got, err := m.Mount(t.Context(), volume, id)
	if err != nil || got != id {
		t.Fatalf("mount %s %s: id %q, %v", volume, id, got, err)
	}
	return p
}

func TestMountIDs(t *testing.T) {
	ctx := t.Context()
	p := startPlugin(t, "a:latest", "v")
	m := newMachine(t, p)
	one := mount(t, m, "v", "one")
	if again := mount(t, m, "v", "one"); again != one {
		t.Errorf("under the same id it is at %q, before at %q", again, one)
	}
	mount(t, m, "v", "two")
	if got := p.called(); !slices.Equal(got, []string{"Mount v one", "Mount v two"}) {
		t.Errorf("calls %q", got)
	}
	if got := m.journal(t, "v"); !slices.Equal(got, []string{"one", "two"}) {
		t.Errorf("journal %q", got)
	}
	wantError(t, m.Unmount(ctx, "v", ""), errdefs.ErrConflict, "one of these ids must be given: one, two")
	wantError(t, m.Unmount(ctx, "v", "three"), errdefs.ErrNotFound, "unmount v: there is no mount three; those there are: one, two")
	if err := m.Unmount(ctx, "v", "one"); err != nil {
		t.Fatal(err)
	}
	if got := m.heldBy("a:latest"); !slices.Equal(got, []string{"volume v"}) {
		t.Errorf("held by %q", got)
	}
	if err := m.Unmount(ctx, "v", ""); err != nil {
		t.Fatal(err)
	}
	if got := m.heldBy("a:latest"); len(got) > 0 {
		t.Errorf("held by %q", got)
	}
	wantError(t, m.Unmount(ctx, "v", ""), errdefs.ErrNotFound, "unmount v: the volume is not mounted")
	wantError(t, m.Unmount(ctx, "v", "one"), errdefs.ErrNotFound, "unmount v: the volume is not mounted")
	if all, err := m.store.All(ctx); err != nil || len(all) > 0 {
		t.Errorf("of a volume that was not created here this is kept: %+v, %v", all, err)
	}
	_, _, err := m.Mount(ctx, "nothing", "x")
	wantError(t, err, errdefs.ErrNotFound, "get nothing: no such volume")
	_, _, err = m.Mount(ctx, "v", "a\nb")
	wantError(t, err, errdefs.ErrInvalidArgument, "invalid mount id")
}

func TestMountThatFailsLeavesNothing(t *testing.T) {
	tests := map[string]struct {
		status int
		body   string
		text   string
		undone bool
	}{
		"refused with a status":              {500, `{"Err":"no space"}`, "no space", false},
		"refused in an answer":               {200, `{"Err":"no space","Mountpoint":"/mnt/v"}`, "no space", false},
		"without a place":                    {200, `{"Mountpoint":""}`, "it does not say where", true},
		"in a place that is not there":       {200, `{"Mountpoint":"/mnt/none"}`, "no such file or directory", true},
		"in a place with dots in it":         {200, `{"Mountpoint":"/mnt/../../secret"}`, "no such file or directory", true},
		"in a place that a link leads out":   {200, `{"Mountpoint":"/mnt/link"}`, "leads out of", true},
		"with an answer that is not one":     {200, `{"Mountpoint":7}`, "cannot be reached", false},
		"in a place with a NUL byte":         {200, `{"Mountpoint":"/mnt/\u0000"}`, "NUL byte", true},
		"in a place beside the propagated":   {200, `{"Mountpoint":"/mntx"}`, "no such file or directory", true},
		"in a place that is no absolute one": {200, `{"Mountpoint":"mnt/none"}`, "no such file or directory", true},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			p := startPlugin(t, "a:latest", "v")
			if err := os.WriteFile(filepath.Join(p.dir, "secret"), nil, 0o600); err != nil {
				t.Fatal(err)
			}
			if err := os.Symlink("../secret", filepath.Join(p.dir, "prop/link")); err != nil {
				t.Fatal(err)
			}
			m := newMachine(t, p)
			p.answerInstead(func(method, _ string) (int, string) {
				if method == "Mount" {
					return tt.status, tt.body
				}
				return 0, ""
			})
			path, _, err := m.Mount(t.Context(), "v", "id")
			if err == nil || !strings.Contains(err.Error(), tt.text) || !strings.HasPrefix(err.Error(), "mount v: volume driver a:latest ") && !strings.HasPrefix(err.Error(), "mount v: volume driver a:latest: ") {
				t.Errorf("mounted at %q, %v; want an error with %q", path, err, tt.text)
			}
			want := []string{"Mount v id"}
			if tt.undone {
				want = append(want, "Unmount v id")
			}
			if diff := cmp.Diff(want, p.called()); diff != "" {
				t.Errorf("calls:\n%s", diff)
			}
			if got := m.heldBy("a:latest"); len(got) > 0 {
				t.Errorf("held by %q", got)
			}
			if got := m.journal(t, "v"); len(got) > 0 {
				t.Errorf("journal %q", got)
			}
			if len(m.events) > 0 {
				t.Errorf("events %q", m.events)
			}
		})
	}
}

func TestASecondMountThatFailsLeavesTheFirst(t *testing.T) {
	p := startPlugin(t, "a:latest", "v")
	m := newMachine(t, p)
	mount(t, m, "v", "one")
	p.answerInstead(func(method, _ string) (int, string) {
		if method == "Mount" {
			return 500, `{"Err":"only one"}`
		}
		return 0, ""
	})
	if _, _, err := m.Mount(t.Context(), "v", "two"); err == nil {
		t.Fatal("it was mounted")
	}
	if got := m.journal(t, "v"); !slices.Equal(got, []string{"one"}) {
		t.Errorf("journal %q", got)
	}
	if got := m.heldBy("a:latest"); !slices.Equal(got, []string{"volume v"}) {
		t.Errorf("held by %q", got)
	}
}

func TestUnmountThatFailsCanBeTriedAgain(t *testing.T) {
	p := startPlugin(t, "a:latest", "v")
	m := newMachine(t, p)
	mount(t, m, "v", "id")
	p.answerInstead(func(method, _ string) (int, string) {
		if method == "Unmount" {
			return 500, `{"Err":"busy"}`
		}
		return 0, ""
	})
	if err := m.Unmount(t.Context(), "v", "id"); err == nil || !strings.Contains(err.Error(), "busy") {
		t.Errorf("%v", err)
	}
	if got := m.heldBy("a:latest"); !slices.Equal(got, []string{"volume v"}) {
		t.Errorf("held by %q", got)
	}
	p.answerInstead(nil)
	if err := m.Unmount(t.Context(), "v", "id"); err != nil {
		t.Error(err)
	}
}

func TestUnmountOfAMountThatEndedWithItsRun(t *testing.T) {
	p := startPlugin(t, "a:latest", "v")
	m := newMachine(t, p)
	mount(t, m, "v", "id")
	p.restart("second")
	p.answerInstead(func(method, _ string) (int, string) {
		if method == "Unmount" {
			return 500, `{"Err":"it is not mounted"}`
		}
		return 0, ""
	})
	if err := m.Unmount(t.Context(), "v", "id"); err != nil {
		t.Fatal(err)
	}
	if got := p.called(); !slices.Equal(got, []string{"Unmount v id"}) {
		t.Errorf("a plugin that keeps its mounts on disk is not told: %q", got)
	}
	if got := m.heldBy("a:latest"); len(got) > 0 {
		t.Errorf("held by %q", got)
	}
	if got := m.journal(t, "v"); len(got) > 0 {
		t.Errorf("journal %q", got)
	}
}

func TestAPluginThatIsAwayIsToldOfAnUnmountWhenItIsBack(t *testing.T) {
	ctx := t.Context()
	for name, instance := range map[string]string{"in the same run": "first", "in another run": "second"} {
		t.Run(name, func(t *testing.T) {
			p := startPlugin(t, "a:latest", "v")
			m := newMachine(t, p)
			mount(t, m, "v", "one")
			mount(t, m, "v", "two")
			m.disable("a:latest", true)
			m.restartDaemon(t)
			m.Hold(ctx)
			if err := m.Unmount(ctx, "v", "one"); err != nil {
				t.Fatal(err)
			}
			if got := m.heldBy("a:latest"); !slices.Equal(got, []string{"volume v"}) {
				t.Errorf("the disabled plugin is held by %q", got)
			}
			wantError(t, m.Unmount(ctx, "v", "one"), errdefs.ErrNotFound, "there is no mount one; those there are: two")
			if err := m.Unmount(ctx, "v", ""); err != nil {
				t.Fatal(err)
			}
			wantError(t, m.Unmount(ctx, "v", ""), errdefs.ErrNotFound, "the volume is not mounted")
			if got := m.heldBy("a:latest"); len(got) > 0 {
				t.Errorf("unmounted, and the disabled plugin is held by %q", got)
			}
			if l, err := m.List(ctx, allVolumes); err != nil || len(l.Volumes) != 0 {
				t.Errorf("%+v, %v", l, err)
			}
			m.restartDaemon(t)
			m.Restore(ctx)
			m.disable("a:latest", false)
			if instance != "first" {
				p.restart(instance)
			}
			p.called()
			if err := m.Remount(ctx, p.driver(true)); err != nil {
				t.Fatal(err)
			}
			if got := p.called(); !slices.Equal(got, []string{"Unmount v one", "Unmount v two"}) {
				t.Errorf("calls %q", got)
			}
			if got := m.journal(t, "v"); len(got) > 0 {
				t.Errorf("journal %q", got)
			}
			if got := m.heldBy("a:latest"); len(got) > 0 {
				t.Errorf("held by %q", got)
			}
		})
	}
}

func TestMountsAreGoneWithTheirPlugin(t *testing.T) {
	ctx := t.Context()
	for name, tt := range map[string]struct {
		do   func(t *testing.T, m *machine, p *plugin)
		want []string // calls of the new plugin
	}{
		"when another of the name is ready": {func(t *testing.T, m *machine, p *plugin) {
			if err := m.Remount(ctx, p.driver(true)); err != nil {
				t.Error(err)
			}
		}, nil},
		"when the daemon starts": {func(t *testing.T, m *machine, _ *plugin) {
			m.restartDaemon(t)
			m.Hold(ctx)
			if got := m.heldBy("a:latest"); len(got) > 0 {
				t.Errorf("held by %q", got)
			}
			m.Restore(ctx)
		}, nil},
		"when it is unmounted": {func(t *testing.T, m *machine, _ *plugin) {
			wantError(t, m.Unmount(ctx, "v", "id"), errdefs.ErrNotFound, "the volume is not mounted")
		}, nil},
		"when the volume is removed": {func(t *testing.T, m *machine, _ *plugin) {
			if err := m.Remove(ctx, "v", false); err != nil {
				t.Error(err)
			}
		}, []string{"Remove v"}},
		"when it is mounted under the same id": {func(t *testing.T, m *machine, p *plugin) {
			if got := mount(t, m, "v", "id"); got != filepath.Join(p.dir, "prop/v") {
				t.Errorf("mounted at %s", got)
			}
			if err := m.Unmount(ctx, "v", "id"); err != nil {
				t.Error(err)
			}
		}, []string{"Mount v id", "Unmount v id"}},
		"when it is looked for": {func(t *testing.T, m *machine, _ *plugin) {
			held := func(string) ([]outlet.Holder, bool) { return nil, true }
			if problems, err := m.Check(ctx, held, false); err != nil || len(problems) > 0 {
				t.Errorf("%v, %v", problems, err)
			}
		}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			m := newMachine(t, startPlugin(t, "a:latest", "v"))
			mount(t, m, "v", "id")
			m.events = nil
			p := startPlugin(t, "a:latest", "v")
			m.replace(p)
			tt.do(t, m, p)
			if got := p.called(); !slices.Equal(got, tt.want) {
				t.Errorf("the new plugin is asked %q, want %q", got, tt.want)
			}
			if got := m.heldBy("a:latest"); len(got) > 0 {
				t.Errorf("held by %q", got)
			}
			if got := m.journal(t, "v"); len(got) > 0 {
				t.Errorf("journal %q", got)
			}
			if len(m.events) == 0 || !strings.HasPrefix(m.events[0], "unmount") {
				t.Errorf("the first event is no unmount: %q", m.events)
			}
		})
	}
}

func TestRemoveTellsOfUnmountsFirst(t *testing.T) {
	p := startPlugin(t, "a:latest", "v")
	m := newMachine(t, p)
	mount(t, m, "v", "id")
	m.disable("a:latest", true)
	if err := m.Unmount(t.Context(), "v", "id"); err != nil {
		t.Fatal(err)
	}
	m.disable("a:latest", false)
	p.called()
	if err := m.Remove(t.Context(), "v", false); err != nil {
		t.Fatal(err)
	}
	if got := p.called(); !slices.Equal(got, []string{"Unmount v id", "Remove v"}) {
		t.Errorf("calls %q", got)
	}
	if got := m.journal(t, "v"); len(got) > 0 {
		t.Errorf("journal %q", got)
	}
}

func TestWhatAPluginThatWasRemovedIsNotToldIsForgottenAtTheNextStart(t *testing.T) {
	p := startPlugin(t, "a:latest", "v", "w")
	m := newMachine(t, p)
	mount(t, m, "v", "one")
	mount(t, m, "v", "two")
	mount(t, m, "w", "three")
	m.host.mu.Lock()
	delete(m.managed, "a:latest")
	m.host.mu.Unlock()
	for v, id := range map[string]string{"v": "one", "w": "three"} {
		if err := m.Unmount(t.Context(), v, id); err != nil {
			t.Fatal(err)
		}
	}
	m.restartDaemon(t)
	m.Restore(t.Context())
	if got := m.journal(t, "w"); len(got) > 0 {
		t.Errorf("the journal of what is unmounted is %q", got)
	}
	if got := m.journal(t, "v"); !slices.Equal(got, []string{"one", "two"}) {
		t.Errorf("the journal of what is mounted is %q", got)
	}
}

func TestDaemonRestartKeepsHoldersAndTellsThePluginNothing(t *testing.T) {
	ctx := t.Context()
	p := startPlugin(t, "a:latest", "v")
	m := newMachine(t, p)
	path := mount(t, m, "v", "id")
	p.called()
	m.restartDaemon(t)
	m.Restore(ctx)
	if got := m.heldBy("a:latest"); !slices.Equal(got, []string{"volume v"}) {
		t.Errorf("held by %q", got)
	}
	if err := m.Remount(ctx, p.driver(true)); err != nil {
		t.Error(err)
	}
	if got := p.called(); len(got) > 0 {
		t.Errorf("calls %q", got)
	}
	if v, err := m.Inspect(ctx, "v"); err != nil || v.Mountpoint != path {
		t.Errorf("%+v, %v", v, err)
	}
	if err := m.Unmount(ctx, "v", "id"); err != nil {
		t.Error(err)
	}
}

func TestPluginRestartMountsAgainUnderTheSameIDs(t *testing.T) {
	ctx := t.Context()
	p := startPlugin(t, "a:latest", "v", "w", "idle")
	m := newMachine(t, p)
	mount(t, m, "v", "one")
	mount(t, m, "v", "two")
	mount(t, m, "w", "three")
	p.restart("second")
	m.disable("a:latest", true) // by force
	m.disable("a:latest", false)
	if err := m.Remount(ctx, p.driver(true)); err != nil {
		t.Fatal(err)
	}
	calls := p.called()
	slices.Sort(calls)
	if diff := cmp.Diff([]string{"Mount v one", "Mount v two", "Mount w three"}, calls); diff != "" {
		t.Errorf("calls:\n%s", diff)
	}
	if got := m.heldBy("a:latest"); !slices.Equal(got, []string{"volume v", "volume w"}) {
		t.Errorf("held by %q", got)
	}
	if err := m.Remount(ctx, p.driver(true)); err != nil {
		t.Fatal(err)
	}
	if got := p.called(); len(got) > 0 {
		t.Errorf("the second time there was something left to do: %q", got)
	}
}

func TestRemountThatFailsIsTriedAtTheNextTime(t *testing.T) {
	ctx := t.Context()
	p := startPlugin(t, "a:latest", "v", "w")
	m := newMachine(t, p)
	mount(t, m, "v", "one")
	mount(t, m, "w", "two")
	p.restart("second")
	p.answerInstead(func(method, name string) (int, string) {
		if method == "Mount" && name == "v" {
			return 500, `{"Err":"backend is away"}`
		}
		return 0, ""
	})
	if err := m.Remount(ctx, p.driver(true)); err == nil || !strings.Contains(err.Error(), "mount volume v again: ") || !strings.Contains(err.Error(), "backend is away") {
		t.Errorf("%v", err)
	}
	if got := p.ids("w"); !slices.Equal(got, []string{"two"}) {
		t.Errorf("the other volume is mounted under %q", got)
	}
	if got := m.journal(t, "v"); !slices.Equal(got, []string{"one"}) {
		t.Errorf("journal %q", got)
	}
	if _, _, err := m.Mount(ctx, "v", "one"); err == nil {
		t.Error("a mount that is gone is said to be there")
	}
	p.answerInstead(nil)
	p.called()
	if err := m.Remount(ctx, p.driver(true)); err != nil {
		t.Error(err)
	}
	if got := p.called(); !slices.Equal(got, []string{"Mount v one"}) {
		t.Errorf("calls %q", got)
	}
	p.restart("third")
	mount(t, m, "v", "one")
	if got := p.called(); !slices.Equal(got, []string{"Mount v one"}) {
		t.Errorf("after another restart, mounted by its user under the same id: %q", got)
	}
}

func TestMountsThatACrashOfTheDaemonCutOff(t *testing.T) {
	for name, tt := range map[string]struct {
		by, instance string
		want         []string
	}{
		"are taken back from the same run of the plugin":  {"first", "first", []string{"Unmount v cut"}},
		"are taken back where the run is not known":       {"", "first", []string{"Unmount v cut"}},
		"are taken back from another run, which may know": {"first", "second", []string{"Unmount v cut", "Mount v whole"}},
	} {
		t.Run(name, func(t *testing.T) {
			ctx := t.Context()
			p := startPlugin(t, "a:latest", "v")
			m := newMachine(t, p)
			mount(t, m, "v", "whole")
			all, err := m.store.All(ctx)
			if err != nil {
				t.Fatal(err)
			}
			r := all[0]
			r.Mounts = append(r.Mounts, volumes.Mount{ID: "cut", Since: time.Now(), Instance: tt.by, Pending: true})
			if err := m.store.Save(ctx, r); err != nil {
				t.Fatal(err)
			}
			p.called()
			if tt.instance != "first" {
				p.restart(tt.instance)
			}
			m.restartDaemon(t)
			if v, err := m.Inspect(ctx, "v"); err != nil || len(v.Outlet.Mounts) != 1 {
				t.Errorf("a mount that nobody was told of is shown: %+v, %v", v, err)
			}
			if err := m.Remount(ctx, p.driver(true)); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.want, p.called()); diff != "" {
				t.Errorf("calls:\n%s", diff)
			}
			if got := m.journal(t, "v"); !slices.Equal(got, []string{"whole"}) {
				t.Errorf("journal %q", got)
			}
		})
	}
}

func TestLegacyMountsAreMadeAgainAfterABoot(t *testing.T) {
	p := startPlugin(t, "plain", "v")
	m := newMachine(t)
	m.legacy["plain"] = p
	p.answerInstead(func(method, _ string) (int, string) {
		if method == "Mount" {
			return 200, fmt.Sprintf(`{"Mountpoint":%q}`, p.dir)
		}
		return 0, ""
	})
	mount(t, m, "v", "id")
	p.called()
	m.restartDaemon(t)
	m.Restore(t.Context())
	if got := p.called(); len(got) > 0 {
		t.Errorf("in the same boot: %q", got)
	}
	p.restart("second boot")
	m.restartDaemon(t)
	m.Restore(t.Context())
	if got := p.called(); !slices.Equal(got, []string{"Mount v id"}) {
		t.Errorf("in another boot: %q", got)
	}
}

func TestRestoreMountsAgainForPluginsThatRunAlready(t *testing.T) {
	p := startPlugin(t, "a:latest", "v")
	m := newMachine(t, p)
	mount(t, m, "v", "id")
	p.restart("second")
	m.restartDaemon(t)
	m.Restore(t.Context())
	if got := p.called(); !slices.Equal(got, []string{"Mount v id"}) {
		t.Errorf("calls %q", got)
	}
	if err := m.Remount(t.Context(), p.driver(true)); err != nil {
		t.Error(err)
	}
	if got := p.called(); len(got) > 0 {
		t.Errorf("calls after that %q", got)
	}
}

func TestRestoreLeavesPluginsThatDoNotRunYetToRemount(t *testing.T) {
	p := startPlugin(t, "a:latest", "v", "w")
	m := newMachine(t, p)
	mount(t, m, "v", "id")
	p.restart("")
	m.restartDaemon(t)
	m.Restore(t.Context())
	if got := p.called(); len(got) > 0 {
		t.Errorf("calls %q", got)
	}
	if got := m.heldBy("a:latest"); !slices.Equal(got, []string{"volume v"}) {
		t.Errorf("held by %q", got)
	}
	m.disable("a:latest", true)
	m.restartDaemon(t)
	m.Restore(t.Context())
	if got := m.journal(t, "v"); !slices.Equal(got, []string{"id"}) {
		t.Errorf("the plugin is disabled, and the journal is %q", got)
	}
}

func TestHoldAsksNoPlugin(t *testing.T) {
	p := startPlugin(t, "a:latest", "v", "w")
	m := newMachine(t, p)
	mount(t, m, "v", "id")
	p.called()
	m.restartDaemon(t)
	m.Hold(t.Context())
	if got := p.called(); len(got) > 0 {
		t.Errorf("calls %q", got)
	}
	if got := m.heldBy("a:latest"); !slices.Equal(got, []string{"volume v"}) {
		t.Errorf("held by %q", got)
	}
}

// A call to a plugin that is being started waits for it, so what it was when it
// was looked up does not say which run made the mount.
func TestMountWhileThePluginStarts(t *testing.T) {
	p := startPlugin(t, "a:latest", "v")
	m := newMachine(t, p)
	p.restart("")
	p.answerInstead(func(method, _ string) (int, string) {
		if method == "Mount" {
			p.mu.Lock()
			p.instance = "second"
			p.mu.Unlock()
		}
		return 0, ""
	})
	mount(t, m, "v", "id")
	p.called()
	if err := m.Remount(t.Context(), p.driver(true)); err != nil {
		t.Error(err)
	}
	if got := p.called(); len(got) > 0 {
		t.Errorf("it is mounted again by the run that mounted it: %q", got)
	}
}

func TestVolumesDoNotWaitForEachOther(t *testing.T) {
	p := startPlugin(t, "a:latest", "slow", "v")
	m := newMachine(t, p)
	entered, leave := make(chan struct{}), make(chan struct{})
	p.answerInstead(func(method, name string) (int, string) {
		if method == "Mount" && name == "slow" {
			close(entered)
			<-leave
		}
		return 0, ""
	})
	var wg sync.WaitGroup
	wg.Go(func() {
		if _, _, err := m.Mount(context.WithoutCancel(t.Context()), "slow", "id"); err != nil {
			t.Errorf("the slow one: %v", err)
		}
	})
	<-entered
	mount(t, m, "v", "id")
	if _, err := m.Inspect(t.Context(), "slow"); err != nil {
		t.Errorf("looking at the busy one: %v", err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if err := m.Unmount(ctx, "slow", "id"); !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "volume slow is busy") {
		t.Errorf("an operation on the busy one: %v", err)
	}
	close(leave)
	wg.Wait()
}

func TestManyAtOnce(t *testing.T) {
	p := startPlugin(t, "a:latest")
	m := newMachine(t, p)
	ctx := t.Context()
	var wg sync.WaitGroup
	for worker := range 8 {
		wg.Go(func() {
			r := rand.New(rand.NewPCG(1, uint64(worker)))
			for range 60 {
				name, id := fmt.Sprintf("v%d", r.IntN(3)), fmt.Sprintf("id%d", r.IntN(3))
				var err error
				switch r.IntN(7) {
				case 0, 1:
					_, _, err = m.Mount(ctx, name, id)
				case 2, 3:
					err = m.Unmount(ctx, name, id)
				case 4:
					_, err = m.Create(ctx, newVolume(name))
				case 5:
					err = m.Remove(ctx, name, false)
				default:
					if _, err := m.List(ctx, allVolumes); err != nil {
						t.Errorf("list: %v", err)
					}
				}
				if err != nil && !errdefs.IsNotFound(err) && !errdefs.IsConflict(err) {
					t.Errorf("%v", err)
				}
			}
		})
	}
	wg.Wait()
	var held []string
	for i := range 3 {
		name := fmt.Sprintf("v%d", i)
		got := p.ids(name)
		if diff := cmp.Diff(m.journal(t, name), append([]string{}, got...)); diff != "" {
			t.Errorf("the journal of %s and its plugin differ:\n%s", name, diff)
		}
		if len(got) > 0 {
			held = append(held, "volume "+name)
		}
	}
	if got := m.heldBy("a:latest"); !slices.Equal(got, held) {
		t.Errorf("held by %q, want %q", got, held)
	}
}
