package pluginstest_test

import (
	"path/filepath"
	"testing"

	"github.com/outletd/outlet/plugins"
	"github.com/outletd/outlet/plugins/pluginstest"
)

// The body of a test of a program that mounts volumes of plugins.
func Example() {
	_ = func(t *testing.T) {
		dir := t.TempDir()
		p := pluginstest.Start(t, filepath.Join(dir, "disk.sock"), "VolumeDriver")
		p.Reply("VolumeDriver.Mount", map[string]string{"Mountpoint": "/mnt/data"})
		p.Fail("VolumeDriver.Unmount", 500, "busy")

		registry, err := plugins.New(plugins.Config{SocketDir: dir, SpecDirs: []string{}})
		if err != nil {
			t.Fatal(err)
		}
		defer registry.Close()
		found, err := registry.Get(t.Context(), "disk", "VolumeDriver")
		if err != nil {
			t.Fatal(err)
		}
		if err := found.Client().CallContext(t.Context(), "VolumeDriver.Unmount", map[string]string{"Name": "data"}, nil); err == nil {
			t.Error("unmounted, although the plugin is busy")
		}
		if n := len(p.Requests("VolumeDriver.Unmount")); n != 1 {
			t.Errorf("asked %d times", n)
		}
	}
}
