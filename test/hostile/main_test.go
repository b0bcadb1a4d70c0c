package hostile

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/outletd/outlet/client"
	"github.com/outletd/outlet/internal/testutil"
	"github.com/outletd/outlet/internal/testutil/daemontest"
)

func TestMain(m *testing.M) { os.Exit(testutil.Main(m)) }

// maxResident is what the daemon may take at most, whatever it is sent.
const maxResident = 100 << 20

// start starts a daemon. When the test ends, nothing may be left of what was
// tried, and the daemon must never have taken more memory than it may.
func start(t *testing.T, flags ...string) (*daemontest.Daemon, *client.Client) {
	t.Helper()
	d := daemontest.Start(t, flags...)
	c, err := client.New(client.Options{Host: d.Host()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		c.Close()
		if peak := d.PeakRSS(); peak > maxResident {
			t.Errorf("the daemon took %d MiB", peak>>20)
		} else {
			t.Logf("the daemon took at most %d MiB", peak>>20)
		}
		nothingLeft(t, d)
	})
	return d, c
}

// nothingLeft fails the test if the daemon, which has no plugins, keeps
// anything.
func nothingLeft(t *testing.T, d *daemontest.Daemon) {
	t.Helper()
	if names := d.Outlet("ls", "-q").OK(); names != "" {
		t.Errorf("there are plugins: %s", names)
	}
	if points, err := testutil.Mounts(d.Dir()); err != nil || len(points) > 0 {
		t.Errorf("mounts are left: %q, %v", points, err)
	}
	// Content is collected in the background.
	testutil.Eventually(t, time.Minute, func() error {
		for _, pattern := range []string{
			"run/b/*", "run/p/*", "lib/plugins/*", "lib/removing/*", "lib/tmp/*",
			"lib/content/blobs/*/*", "lib/content/ingest/*", "lib/snapshots/*/snapshots/*",
		} {
			if left, err := filepath.Glob(filepath.Join(d.Dir(), pattern)); err != nil || len(left) > 0 {
				return fmt.Errorf("left: %q, %v", left, err) //nolint:errorlint // err is nil if something is left
			}
		}
		return nil
	})
}

// hostilePlugin makes the context of a plugin that misbehaves as args say, and
// returns its directory.
func hostilePlugin(t *testing.T, args ...string) string {
	t.Helper()
	args = append([]string{"-listen", daemontest.PluginListen}, args...)
	return daemontest.Context(t, daemontest.PluginConfig(args...), testutil.Build(t, "./test/hostile/plugin"))
}

// running creates and enables such a plugin, and removes it when the test ends.
func running(t *testing.T, d *daemontest.Daemon, name string, args ...string) {
	t.Helper()
	d.Outlet("create", name, hostilePlugin(t, args...)).OK()
	t.Cleanup(func() { d.Outlet("rm", "-f", name).OK() })
	d.Outlet("enable", name).OK()
}
