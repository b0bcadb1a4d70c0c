package daemon

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	"github.com/google/go-cmp/cmp"

	"github.com/outletd/outlet"
	"github.com/outletd/outlet/internal/events"
	"github.com/outletd/outlet/internal/testutil"
	"github.com/outletd/outlet/plugins"
	"github.com/outletd/outlet/plugins/pluginstest"
)

// legacyIn looks for v1 plugins below a directory.
func legacyIn(t *testing.T, dir string) *plugins.Registry {
	t.Helper()
	specs := filepath.Join(dir, "specs")
	if err := os.MkdirAll(specs, 0o755); err != nil {
		t.Fatal(err)
	}
	r, err := plugins.New(plugins.Config{SocketDir: dir, SpecDirs: []string{specs}, RetryBudget: -1})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := r.Close(); err != nil {
			t.Error(err)
		}
	})
	return r
}

func TestDiscoverShowsWhatIsThereNow(t *testing.T) {
	dir := testutil.TempDir(t)
	b := backend{legacy: legacyIn(t, dir)}
	two := pluginstest.Start(t, filepath.Join(dir, "two.sock"), "NetworkDriver", "IpamDriver")
	pluginstest.Start(t, filepath.Join(dir, "own.sock"), "Unheard.Of")
	pluginstest.Start(t, filepath.Join(dir, "nothing.sock"))
	broken := pluginstest.Start(t, filepath.Join(dir, "broken.sock"))
	broken.Fail("Plugin.Activate", 500, "no license")
	if err := os.WriteFile(filepath.Join(dir, "specs/odd.spec"), []byte("localhost:80"), 0o600); err != nil {
		t.Fatal(err)
	}
	row := func(name string) outlet.V1Plugin {
		path := filepath.Join(dir, name+".sock")
		return outlet.V1Plugin{Name: name, Address: "unix://" + path, Origin: path}
	}
	want := []outlet.V1Plugin{row("broken"), row("nothing"), row("own"), row("two")}
	want[0].Error = "Plugin.Activate: no license"
	want[1].Reachable, want[1].Capabilities = true, []string{}
	want[2].Reachable, want[2].Capabilities = true, []string{"Unheard.Of"}
	want[3].Reachable, want[3].Capabilities = true, []string{"NetworkDriver", "IpamDriver"}
	for range 2 {
		found, err := b.Discover(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(want, found.Plugins); d != "" {
			t.Error(d)
		}
		if len(found.Warnings) != 1 || !strings.Contains(found.Warnings[0], "odd.spec") {
			t.Errorf("warnings: %q", found.Warnings)
		}
		broken.Reply("Plugin.Activate", map[string]any{"Implements": []string{"authz"}})
		want[0].Error, want[0].Reachable, want[0].Capabilities = "", true, []string{"authz"} // at once, not after a time
	}
	// That it was active once does not make it reachable.
	two.Close()
	l, err := net.Listen("unix", filepath.Join(dir, "two.sock"))
	if err != nil {
		t.Fatal(err)
	}
	l.(*net.UnixListener).SetUnlinkOnClose(false)
	l.Close()
	found, err := b.Discover(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if p := found.Plugins[3]; p.Reachable || !strings.Contains(p.Error, "connection refused") {
		t.Errorf("a dead plugin: %+v", p)
	}
}

func TestTheHandshakeOfAV1PluginCanBeCalled(t *testing.T) {
	dir := testutil.TempDir(t)
	legacy := legacyIn(t, dir)
	b := backend{legacy: legacy}
	p := pluginstest.Start(t, filepath.Join(dir, "two.sock"), "NetworkDriver", "IpamDriver")
	if _, err := legacy.Get(t.Context(), "two", "IpamDriver"); err != nil {
		t.Fatal(err)
	}
	p.Reply("Plugin.Activate", map[string]any{"Implements": []string{"authz"}})
	status, answer, err := b.activate(t.Context(), "two", nil)
	if got := strings.TrimSpace(string(answer)); err != nil || status != 200 || got != `{"Implements":["authz"]}` {
		t.Errorf("%d %s %v: not what the plugin says now", status, answer, err)
	}
	p.Fail("Plugin.Activate", 500, "no license")
	if status, answer, err := b.activate(t.Context(), "two", nil); err != nil || status != 500 || !strings.Contains(string(answer), "no license") {
		t.Errorf("%d %s %v: not what the plugin says", status, answer, err)
	}
	if _, err := legacy.Get(t.Context(), "two", "IpamDriver"); err != nil {
		t.Errorf("what was known of the plugin is changed: %v", err)
	}
	if _, _, err := b.activate(t.Context(), "nobody", nil); !errdefs.IsNotFound(err) {
		t.Errorf("a plugin that is not there: %v", err)
	}
	p.Close()
	if _, _, err := b.activate(t.Context(), "two", nil); err == nil {
		t.Errorf("a plugin that has ended: %v", err)
	}
}

func TestChangesOfV1PluginsAreEvents(t *testing.T) {
	dir := testutil.TempDir(t)
	log := slog.New(slog.DiscardHandler)
	d := &daemon{legacy: legacyIn(t, dir), log: log, events: events.New(log)}
	defer d.events.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	sub := d.events.Subscribe(ctx, events.Options{})
	defer sub.Close()
	watching, stop := context.WithCancel(ctx)
	done := make(chan struct{})
	go func() {
		defer close(done)
		d.watchLegacy(watching)
	}()
	defer func() { stop(); <-done }()

	// The watch begins at some moment: until it has, there is something new again.
	n := 0
	testutil.Eventually(t, time.Minute, func() error {
		if sub.Pending() {
			return nil
		}
		if n++; n%20 != 1 { // many at once would keep it busy
			return errors.New("no event")
		}
		path := filepath.Join(dir, fmt.Sprintf("specs/probe%d.spec", n))
		return errors.Join(errors.New("no event"), os.WriteFile(path, []byte("tcp://127.0.0.1:9"), 0o600))
	})
	spec := filepath.Join(dir, "specs/a.spec")
	if err := os.WriteFile(spec, []byte("tcp://127.0.0.1:1"), 0o600); err != nil {
		t.Fatal(err)
	}
	seen := make(map[string]bool)
	for !seen["discover a tcp://127.0.0.1:2"] || !seen["vanish a tcp://127.0.0.1:2"] {
		m, err := sub.Next(ctx)
		if err != nil {
			t.Fatalf("%v; seen: %v", err, seen)
		}
		event := m.Action + " " + m.Actor.ID + " " + m.Actor.Attributes["address"]
		seen[event] = true
		switch event {
		case "discover a tcp://127.0.0.1:1", "vanish a tcp://127.0.0.1:1": // moved
			err = os.WriteFile(spec, []byte("tcp://127.0.0.1:2"), 0o600)
		case "discover a tcp://127.0.0.1:2":
			err = os.Remove(spec)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}
