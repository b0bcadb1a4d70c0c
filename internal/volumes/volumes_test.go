package volumes_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	"github.com/google/go-cmp/cmp"

	"github.com/outletd/outlet"
	"github.com/outletd/outlet/internal/volumes"
)

func names(l outlet.VolumeList) string {
	s := []string{}
	for _, v := range l.Volumes {
		s = append(s, v.Name+"@"+v.Driver)
	}
	return strings.Join(s, " ")
}

func wantError(t *testing.T, err, class error, text string) {
	t.Helper()
	if err == nil || !errors.Is(err, class) || !strings.Contains(err.Error(), text) {
		t.Errorf("error %v\nwant one of class %q with the text %q", err, class, text)
	}
}

func TestLifeOfAVolume(t *testing.T) {
	ctx := t.Context()
	p := startPlugin(t, "a/b:latest")
	m := newMachine(t, p)

	v, err := m.Create(ctx, outlet.VolumeCreate{Name: "data", Driver: "a/b", DriverOpts: map[string]string{"size": "1"}, Labels: map[string]string{"l": "x"}})
	if err != nil {
		t.Fatal(err)
	}
	created := v.CreatedAt
	if _, err := time.Parse(time.RFC3339, created); err != nil {
		t.Errorf("created at %q", created)
	}
	want := outlet.Volume{
		Name: "data", Driver: "a/b:latest", CreatedAt: created, Scope: "global",
		Labels: map[string]string{"l": "x"}, Options: map[string]string{"size": "1"},
		Outlet: &outlet.VolumeStatus{Created: true, Mounts: []outlet.VolumeMount{}},
	}
	if diff := cmp.Diff(want, v); diff != "" {
		t.Errorf("created:\n%s", diff)
	}
	want.Status = map[string]any{"by": "a/b:latest"}
	if v, err = m.Inspect(ctx, "data"); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, v); diff != "" {
		t.Errorf("inspected:\n%s", diff)
	}

	path, id, err := m.Mount(ctx, "data", "")
	if err != nil || path != filepath.Join(p.dir, "prop/data") || len(id) != 64 {
		t.Fatalf("mounted at %q, id %q, %v", path, id, err)
	}
	if err := os.WriteFile(filepath.Join(path, "file"), nil, 0o600); err != nil {
		t.Errorf("what is mounted cannot be used: %v", err)
	}
	if got := m.heldBy("a/b:latest"); !slices.Equal(got, []string{"volume data"}) {
		t.Errorf("the plugin is held by %q", got)
	}
	if h := m.Holders("a/b:latest"); len(h) != 1 || h[0].Kind != "volume" || h[0].Name != "data" || h[0].Since.IsZero() {
		t.Errorf("holders %+v", h)
	}
	if v, err = m.Inspect(ctx, "data"); err != nil || v.Mountpoint != path || len(v.Outlet.Mounts) != 1 || v.Outlet.Mounts[0].ID != id {
		t.Errorf("inspected while mounted: %+v, %v", v, err)
	}
	wantError(t, m.Remove(ctx, "data", false), errdefs.ErrConflict, "remove data: volume is in use - ["+id+"]")
	wantError(t, m.Remove(ctx, "data", true), errdefs.ErrConflict, "remove data: volume is in use - ["+id+"]")

	if err := m.Unmount(ctx, "data", ""); err != nil {
		t.Fatal(err)
	}
	if got := m.heldBy("a/b:latest"); len(got) > 0 {
		t.Errorf("after it was unmounted the plugin is held by %q", got)
	}
	if err := m.Remove(ctx, "data", false); err != nil {
		t.Fatal(err)
	}
	_, err = m.Inspect(ctx, "data")
	wantError(t, err, errdefs.ErrNotFound, "get data: no such volume")
	if diff := cmp.Diff([]string{"Create data", "Mount data " + id, "Unmount data " + id, "Remove data"}, p.called()); diff != "" {
		t.Errorf("the plugin was called so:\n%s", diff)
	}
	if diff := cmp.Diff([]string{"create data a/b:latest ", "mount data a/b:latest " + id, "unmount data a/b:latest " + id, "destroy data a/b:latest "}, m.events); diff != "" {
		t.Errorf("events:\n%s", diff)
	}
}

func TestCreate(t *testing.T) {
	ctx := t.Context()
	a, b := startPlugin(t, "a:latest", "there"), startPlugin(t, "b:latest")
	m := newMachine(t, a, b)

	t.Run("again is the same volume", func(t *testing.T) {
		for range 2 {
			v, err := m.Create(ctx, outlet.VolumeCreate{Name: "v", Driver: "a:latest", DriverOpts: map[string]string{"o": "1"}})
			if err != nil || v.Options["o"] != "1" {
				t.Fatalf("%+v, %v", v, err)
			}
		}
		v, err := m.Create(ctx, outlet.VolumeCreate{Name: "v"})
		if err != nil || v.Driver != "a:latest" {
			t.Errorf("without a driver: %+v, %v", v, err)
		}
		if got := a.called(); !slices.Equal(got, []string{"Create v"}) {
			t.Errorf("calls %q", got)
		}
	})
	t.Run("another driver's name is a conflict", func(t *testing.T) {
		_, err := m.Create(ctx, outlet.VolumeCreate{Name: "v", Driver: "b"})
		wantError(t, err, errdefs.ErrConflict, "a volume named v already exists with the a:latest driver")
		if got := b.called(); len(got) > 0 {
			t.Errorf("calls %q", got)
		}
	})
	t.Run("unless that lost it", func(t *testing.T) {
		if _, err := m.Create(ctx, outlet.VolumeCreate{Name: "lost", Driver: "a"}); err != nil {
			t.Fatal(err)
		}
		a.mu.Lock()
		delete(a.volumes, "lost")
		a.mu.Unlock()
		v, err := m.Create(ctx, outlet.VolumeCreate{Name: "lost", Driver: "b"})
		if err != nil || v.Driver != "b:latest" {
			t.Errorf("%+v, %v", v, err)
		}
	})
	t.Run("but not if that cannot be asked", func(t *testing.T) {
		m.disable("b:latest", true)
		defer m.disable("b:latest", false)
		_, err := m.Create(ctx, outlet.VolumeCreate{Name: "lost", Driver: "a"})
		wantError(t, err, errdefs.ErrConflict, "which cannot be asked whether it still does: plugin b:latest found but disabled")
	})
	t.Run("what is there already is not created here", func(t *testing.T) {
		a.called()
		v, err := m.Create(ctx, outlet.VolumeCreate{Name: "there", Driver: "a", Labels: map[string]string{"x": "y"}})
		if err != nil || v.Outlet.Created || v.Labels["x"] != "y" {
			t.Errorf("%+v, %v", v, err)
		}
		if got := a.called(); len(got) > 0 {
			t.Errorf("calls %q", got)
		}
		if v, err = m.Inspect(ctx, "there"); err != nil || v.Labels["x"] != "y" {
			t.Errorf("its labels are lost: %+v, %v", v, err)
		}
	})
	t.Run("without a name one is made up", func(t *testing.T) {
		v, err := m.Create(ctx, outlet.VolumeCreate{Driver: "a"})
		if _, ok := v.Labels["com.docker.volume.anonymous"]; err != nil || len(v.Name) != 64 || !ok {
			t.Errorf("%+v, %v", v, err)
		}
	})
	t.Run("without a driver", func(t *testing.T) {
		_, err := m.Create(ctx, outlet.VolumeCreate{Name: "new"})
		wantError(t, err, errdefs.ErrInvalidArgument, "no volume driver is given; the volume drivers here are: a:latest, b:latest")
	})
	t.Run("with a driver that is not there", func(t *testing.T) {
		_, err := m.Create(ctx, outlet.VolumeCreate{Name: "new", Driver: "local"})
		wantError(t, err, errdefs.ErrNotFound, `error looking up volume plugin local: plugin "local" not found; the volume drivers here are: a:latest, b:latest`)
	})
	t.Run("with a driver that is disabled", func(t *testing.T) {
		m.disable("b:latest", true)
		defer m.disable("b:latest", false)
		_, err := m.Create(ctx, outlet.VolumeCreate{Name: "new", Driver: "b"})
		wantError(t, err, errdefs.ErrConflict, "plugin b:latest found but disabled")
	})
	t.Run("with a name that is none", func(t *testing.T) {
		for _, name := range []string{"a\nb", "a/../b", "..", strings.Repeat("x", 256), "\xff"} {
			_, err := m.Create(ctx, outlet.VolumeCreate{Name: name, Driver: "a"})
			wantError(t, err, errdefs.ErrInvalidArgument, "invalid volume name")
		}
	})
	t.Run("what the plugin says is told, and nothing kept", func(t *testing.T) {
		a.answerInstead(func(method, _ string) (int, string) {
			if method == "Create" {
				return 500, `{"Err":"no such size"}`
			}
			return 0, ""
		})
		defer a.answerInstead(nil)
		_, err := m.Create(ctx, outlet.VolumeCreate{Name: "bad", Driver: "a"})
		if err == nil || !strings.Contains(err.Error(), "create bad: volume driver a:latest: ") || !strings.Contains(err.Error(), "no such size") {
			t.Errorf("%v", err)
		}
		if _, err := m.Inspect(ctx, "bad"); !errdefs.IsNotFound(err) {
			t.Errorf("it is there: %v", err)
		}
	})
	t.Run("nothing is created after a Get without an answer", func(t *testing.T) {
		a.called()
		a.answerInstead(func(method, _ string) (int, string) {
			if method == "Get" {
				return 200, `{"Volume": no JSON`
			}
			return 0, ""
		})
		defer a.answerInstead(nil)
		_, err := m.Create(ctx, outlet.VolumeCreate{Name: "unknown", Driver: "a"})
		wantError(t, err, errdefs.ErrUnavailable, "create unknown: volume driver a:latest cannot be reached")
		if got := a.called(); len(got) > 0 {
			t.Errorf("calls %q", got)
		}
	})
}

func TestList(t *testing.T) {
	ctx := t.Context()
	a, b := startPlugin(t, "a:latest", "one", "both"), startPlugin(t, "b:latest", "both", "two")
	m := newMachine(t, a, b)
	list := func(t *testing.T, f outlet.VolumeFilter) outlet.VolumeList {
		t.Helper()
		l, err := m.List(ctx, f)
		if err != nil {
			t.Fatal(err)
		}
		return l
	}
	l := list(t, outlet.VolumeFilter{})
	if got, want := names(l), "both@a:latest one@a:latest two@b:latest"; got != want || len(l.Warnings) != 1 || !strings.Contains(l.Warnings[0], `b:latest has a volume "both" too`) {
		t.Errorf("volumes %s, warnings %q; want %s", got, l.Warnings, want)
	}
	if l.Volumes[0].Scope != "global" || l.Volumes[0].Status["by"] != "a:latest" {
		t.Errorf("%+v", l.Volumes[0])
	}
	if _, err := m.Create(ctx, outlet.VolumeCreate{Name: "both", Driver: "b", Labels: map[string]string{"k": "v"}}); err != nil {
		t.Fatal(err)
	}
	if _, err := m.Create(ctx, outlet.VolumeCreate{Name: "mine", Driver: "a"}); err != nil {
		t.Fatal(err)
	}
	if _, _, err := m.Mount(ctx, "two", "id"); err != nil {
		t.Fatal(err)
	}
	yes, no := true, false
	for name, tt := range map[string]struct {
		filter outlet.VolumeFilter
		want   string
	}{
		"of two of a name the recorded one":  {outlet.VolumeFilter{}, "both@b:latest mine@a:latest one@a:latest two@b:latest"},
		"by driver":                          {outlet.VolumeFilter{Drivers: []string{"b"}}, "both@b:latest two@b:latest"},
		"by a driver that is not there":      {outlet.VolumeFilter{Drivers: []string{"c"}}, ""},
		"by part of the name":                {outlet.VolumeFilter{Names: []string{"o"}}, "both@b:latest one@a:latest two@b:latest"},
		"by several names":                   {outlet.VolumeFilter{Names: []string{"mi", "one"}}, "mine@a:latest one@a:latest"},
		"by label":                           {outlet.VolumeFilter{Labels: []string{"k"}}, "both@b:latest"},
		"by label and value":                 {outlet.VolumeFilter{Labels: []string{"k=v"}}, "both@b:latest"},
		"by label and another value":         {outlet.VolumeFilter{Labels: []string{"k=w"}}, ""},
		"dangling":                           {outlet.VolumeFilter{Dangling: &yes}, "both@b:latest mine@a:latest one@a:latest"},
		"mounted":                            {outlet.VolumeFilter{Dangling: &no}, "two@b:latest"},
		"fields of a filter are joined":      {outlet.VolumeFilter{Drivers: []string{"a"}, Names: []string{"one"}}, "one@a:latest"},
		"a driver by its name in full works": {outlet.VolumeFilter{Drivers: []string{"docker.io/library/a:latest"}}, "mine@a:latest one@a:latest"},
	} {
		t.Run(name, func(t *testing.T) {
			if got := names(list(t, tt.filter)); got != tt.want {
				t.Errorf("got %s, want %s", got, tt.want)
			}
		})
	}
	t.Run("candidates for pruning were created here and are not mounted", func(t *testing.T) {
		v, err := m.PruneCandidates(ctx, "a")
		if err != nil || len(v) != 1 || v[0].Name != "mine" {
			t.Errorf("%+v, %v", v, err)
		}
		if v, err = m.PruneCandidates(ctx, "b"); err != nil || len(v) != 0 {
			t.Errorf("%+v, %v", v, err)
		}
	})
	t.Run("a plugin that fails is a warning and what is kept", func(t *testing.T) {
		a.answerInstead(func(string, string) (int, string) { return 500, `{"Err":"out of order"}` })
		defer a.answerInstead(nil)
		l := list(t, outlet.VolumeFilter{})
		if got, want := names(l), "both@b:latest mine@a:latest two@b:latest"; got != want || len(l.Warnings) != 1 || !strings.Contains(l.Warnings[0], "out of order") {
			t.Errorf("volumes %s, warnings %q; want %s", got, l.Warnings, want)
		}
	})
	t.Run("a plugin that is disabled is a warning and what is kept", func(t *testing.T) {
		m.disable("a:latest", true)
		defer m.disable("a:latest", false)
		l := list(t, outlet.VolumeFilter{})
		if got, want := names(l), "both@b:latest mine@a:latest two@b:latest"; got != want || len(l.Warnings) != 1 || !strings.Contains(l.Warnings[0], "a:latest, of 1 volumes, is not there") {
			t.Errorf("volumes %s, warnings %q; want %s", got, l.Warnings, want)
		}
	})
	t.Run("a plugin that lost a volume is believed", func(t *testing.T) {
		b.mu.Lock()
		delete(b.volumes, "both")
		b.mu.Unlock()
		if got, want := names(list(t, outlet.VolumeFilter{Names: []string{"both"}})), "both@a:latest"; got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	})
}

func TestListDoesNotWaitForAPluginThatHangs(t *testing.T) {
	a, b := startPlugin(t, "a:latest", "one"), startPlugin(t, "b:latest", "two")
	m := newMachine(t, a, b)
	m.restartDaemon(t, func(c *volumes.Config) { c.ListTimeout = time.Second })
	leave := make(chan struct{})
	a.answerInstead(func(string, string) (int, string) { <-leave; return 0, "" })
	defer close(leave)
	l, err := m.List(t.Context(), outlet.VolumeFilter{})
	if err != nil || names(l) != "two@b:latest" || len(l.Warnings) != 1 || !strings.Contains(l.Warnings[0], "volume driver a:latest cannot be reached") {
		t.Errorf("%s, %q, %v", names(l), l.Warnings, err)
	}
	if v, err := m.Inspect(t.Context(), "two"); err != nil || v.Driver != "b:latest" {
		t.Errorf("%+v, %v", v, err)
	}
	_, err = m.Inspect(t.Context(), "three")
	wantError(t, err, errdefs.ErrNotFound, "get three: no such volume")
}

func TestScopeIsAskedOnceForEachRunOfAPlugin(t *testing.T) {
	p := startPlugin(t, "a:latest", "v")
	m := newMachine(t, p)
	count := func() (n int) {
		p.mu.Lock()
		defer p.mu.Unlock()
		for _, c := range p.calls {
			if c == "Capabilities" {
				n++
			}
		}
		return n
	}
	for range 3 {
		if v, err := m.Inspect(t.Context(), "v"); err != nil || v.Scope != "global" {
			t.Fatalf("%+v, %v", v, err)
		}
	}
	if n := count(); n != 1 {
		t.Errorf("asked %d times", n)
	}
	p.restart("second")
	p.answerInstead(func(method, _ string) (int, string) {
		if method == "Capabilities" {
			return 404, "no such page"
		}
		return 0, ""
	})
	for range 2 {
		if v, err := m.Inspect(t.Context(), "v"); err != nil || v.Scope != "local" {
			t.Fatalf("%+v, %v", v, err)
		}
	}
	if n := count(); n != 1 {
		t.Errorf("asked %d times after a restart", n)
	}
}

func TestRemove(t *testing.T) {
	ctx := t.Context()
	p := startPlugin(t, "a:latest", "theirs")
	m := newMachine(t, p)
	for _, v := range []string{"lost", "stuck", "orphan"} {
		if _, err := m.Create(ctx, outlet.VolumeCreate{Name: v, Driver: "a"}); err != nil {
			t.Fatal(err)
		}
	}
	wantError(t, m.Remove(ctx, "nothing", false), errdefs.ErrNotFound, "get nothing: no such volume")
	if err := m.Remove(ctx, "nothing", true); err != nil {
		t.Errorf("force, of nothing: %v", err)
	}
	if err := m.Remove(ctx, "theirs", false); err != nil {
		t.Errorf("of one that was not created here: %v", err)
	}
	p.mu.Lock()
	delete(p.volumes, "lost")
	p.mu.Unlock()
	if err := m.Remove(ctx, "lost", false); err != nil {
		t.Errorf("of one that the plugin lost: %v", err)
	}
	p.answerInstead(func(method, _ string) (int, string) {
		if method == "Remove" {
			return 200, `{"Err":"not now"}`
		}
		return 0, ""
	})
	if err := m.Remove(ctx, "stuck", false); err == nil || !strings.Contains(err.Error(), "not now") {
		t.Errorf("of one that the plugin does not remove: %v", err)
	}
	if _, err := m.Inspect(ctx, "stuck"); err != nil {
		t.Errorf("it is gone: %v", err)
	}
	if err := m.Remove(ctx, "stuck", true); err != nil {
		t.Errorf("force, of one that the plugin does not remove: %v", err)
	}
	m.disable("a:latest", true)
	wantError(t, m.Remove(ctx, "orphan", false), errdefs.ErrConflict, "found but disabled")
	if err := m.Remove(ctx, "orphan", true); err != nil {
		t.Errorf("force, of one whose plugin is disabled: %v", err)
	}
	all, err := m.store.All(ctx)
	if err != nil || len(all) != 0 {
		t.Errorf("records %+v, %v", all, err)
	}
}

func TestLegacyPluginsServeVolumes(t *testing.T) {
	ctx := t.Context()
	dir := t.TempDir()
	p, hidden := startPlugin(t, "plain", "v"), startPlugin(t, "a")
	m := newMachine(t, startPlugin(t, "a:latest"))
	m.legacy["plain"], m.legacy["a"] = p, hidden
	p.answerInstead(func(method, _ string) (int, string) {
		if method == "Mount" {
			return 200, fmt.Sprintf(`{"Mountpoint":%q}`, dir)
		}
		return 0, ""
	})
	l, err := m.List(ctx, outlet.VolumeFilter{})
	if err != nil || names(l) != "v@plain" || len(l.Warnings) != 0 {
		t.Errorf("%s, %q, %v", names(l), l.Warnings, err)
	}
	path, _, err := m.Mount(ctx, "v", "x")
	if err != nil || path != dir {
		t.Errorf("mounted at %q, %v; want %q", path, err, dir)
	}
	if len(m.heldBy("plain")) > 0 {
		t.Error("a v1 plugin has holders")
	}
	if err := m.Unmount(ctx, "v", "x"); err != nil {
		t.Error(err)
	}
	if _, err := m.Create(ctx, outlet.VolumeCreate{Name: "w", Driver: "a"}); err != nil {
		t.Error(err)
	}
	if got := hidden.called(); len(got) > 0 {
		t.Errorf("a v1 plugin was called in place of the managed one of its name: %q", got)
	}
	_, err = m.Create(ctx, outlet.VolumeCreate{Name: "w2", Driver: "none"})
	wantError(t, err, errdefs.ErrNotFound, "the volume drivers here are: a:latest, plain")
}

func TestWithoutAnyPlugin(t *testing.T) {
	m := newMachine(t)
	l, err := m.List(t.Context(), outlet.VolumeFilter{})
	if diff := cmp.Diff(outlet.VolumeList{Volumes: []outlet.Volume{}, Warnings: []string{}}, l); err != nil || diff != "" {
		t.Errorf("%v %s", err, diff)
	}
	_, err = m.Create(t.Context(), outlet.VolumeCreate{Name: "v"})
	wantError(t, err, errdefs.ErrInvalidArgument, "there are no volume drivers here: enable a plugin that is one")
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := m.List(ctx, outlet.VolumeFilter{}); !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
}
