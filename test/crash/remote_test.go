package crash

import (
	"bytes"
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"testing"

	"github.com/outletd/outlet"
	"github.com/outletd/outlet/internal/testutil"
	"github.com/outletd/outlet/internal/testutil/daemontest"
	rt "github.com/outletd/outlet/internal/testutil/registrytest"
)

// secondVersion describes the version that the plugin is upgraded to.
const secondVersion = "the second version"

// remote is where the plugin comes from other than its archive.
type remote struct {
	first, second string // references in a registry
	named         string // what a push pushes to the registry
	saved         string // an archive of the first version
	privileges    outlet.Privileges
}

// publish puts two versions of the plugin into a registry that runs until the
// test of the stages ends, and saves the first.
func (s *stages) publish(t *testing.T) {
	t.Helper()
	testutil.Need(t, testutil.Registry) // here, and not in the parent, which has more to do
	s.published.Do(func() {
		reg := rt.Start(s.t, rt.Options{})
		w := newWorld(s.t, "")
		w.start(false)
		ctx := context.Background()
		must := func(err error) {
			s.t.Helper()
			if err != nil {
				s.t.Fatalf("%v\n%s", err, w.lastLog())
			}
		}
		r := remote{first: reg.Host + "/crash/dirvol:1", second: reg.Host + "/crash/dirvol:2", named: reg.Host + "/" + name}
		for ref, tar := range map[string]string{r.first: s.tar, r.second: secondTar(s.t)} {
			must(create(ctx, w, ref, tar))
			_, err := w.c.Push(ctx, ref, outlet.RemoteOptions{}, nil)
			must(err)
		}
		p, err := w.c.Remote(ctx, r.first, outlet.RemoteOptions{})
		must(err)
		r.privileges = p.Privileges
		r.saved = filepath.Join(s.t.TempDir(), "saved.tar")
		f, err := os.Create(r.saved)
		must(err)
		must(w.c.Save(ctx, []string{r.first}, f))
		must(f.Close())
		w.stop()
		s.remote = r
	})
	if s.remote.named == "" {
		t.Fatal("nothing could be published: see the first test of the operations that need a registry")
	}
}

// secondTar packs another version of the plugin that the walks use.
func secondTar(t testing.TB) string {
	t.Helper()
	dir := daemontest.Dirvol(t)
	path := filepath.Join(dir, "config.json")
	raw, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var config map[string]any
	if err := json.Unmarshal(raw, &config); err != nil {
		t.Fatal(err)
	}
	config["description"] = secondVersion
	if raw, err = json.Marshal(config); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, raw, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "rootfs", "version"), bytes.Repeat([]byte("2\n"), 1000), 0o600); err != nil {
		t.Fatal(err)
	}
	return daemontest.Tar(t, dir)
}

// remoteOperations are those that have to do with registries and archives.
func (s *stages) remoteOperations() []operation {
	upgraded, enabledUpgraded := views[created], views[enabled]
	upgraded.Upgraded, enabledUpgraded.Upgraded = true, true
	return []operation{
		{name: "install", from: empty, after: views[created], remote: true, prunes: true, run: func(ctx context.Context, w *world) error {
			_, err := w.c.Pull(ctx, s.remote.first, outlet.PullOptions{Name: name, Granted: s.remote.privileges}, nil)
			return err
		}},
		{name: "upgrade", from: created, before: views[created], after: upgraded, remote: true, prunes: true, run: s.upgrade(false)},
		{name: "upgrade while it runs", from: enabled, before: views[enabled], after: enabledUpgraded, remote: true, prunes: true, run: s.upgrade(true)},
		{name: "push", from: named, before: views[named], after: views[named], remote: true, run: func(ctx context.Context, w *world) error {
			_, err := w.c.Push(ctx, s.remote.named, outlet.RemoteOptions{}, nil)
			return err
		}},
		{name: "load", from: empty, after: views[created], remote: true, run: func(ctx context.Context, w *world) error {
			f, err := os.Open(s.remote.saved)
			if err != nil {
				return err
			}
			defer f.Close()
			_, err = w.c.Load(ctx, f, outlet.LoadOptions{Alias: name, GrantAll: true})
			return err
		}},
	}
}

func (s *stages) upgrade(running bool) func(ctx context.Context, w *world) error {
	return func(ctx context.Context, w *world) error {
		o := outlet.UpgradeOptions{Running: running, Granted: s.remote.privileges}
		return w.c.Upgrade(ctx, name, s.remote.second, o, nil)
	}
}
