package interop

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/outletd/outlet/internal/testutil"
)

// eachDocker runs a test with every docker command line, each with a daemon of
// its own.
func eachDocker(t *testing.T, test func(t *testing.T, d *daemon, docker func(...string) result)) {
	for _, cli := range []testutil.Feature{testutil.DockerCLI20, testutil.DockerCLI28} {
		t.Run(string(cli), func(t *testing.T) {
			testutil.Need(t, cli)
			d := startDaemon(t)
			test(t, d, d.docker(cli))
		})
	}
}

func TestDockerDrivesThePluginsLife(t *testing.T) {
	eachDocker(t, func(t *testing.T, _ *daemon, docker func(...string) result) {
		dir := dirvol(t)
		if got := docker("plugin", "create", "dirvol", dir).ok(); got != "dirvol" {
			t.Errorf("create prints %q", got)
		}
		if got := docker("plugin", "ls", "--format", "{{.Name}} {{.Enabled}} {{.PluginReference}}").ok(); got != "dirvol:latest false dirvol:latest" {
			t.Errorf("ls prints %q", got)
		}
		docker("plugin", "set", "dirvol", "TMPFS_SIZE=8m").ok()
		if got := docker("plugin", "inspect", "-f", "{{json .Settings.Env}}", "dirvol").ok(); got != `["TMPFS_SIZE=8m"]` {
			t.Errorf("the setting is %s", got)
		}
		docker("plugin", "enable", "dirvol").ok()
		if got := docker("plugin", "ls", "-q", "--no-trunc", "--filter", "enabled=true", "--filter", "capability=volumedriver").ok(); len(got) != 64 {
			t.Errorf("ls -q prints %q", got)
		}
		var all []struct {
			ID      string `json:"Id"`
			Enabled bool
			Config  struct{ Interface struct{ Types []any } }
		}
		if err := json.Unmarshal([]byte(docker("plugin", "inspect", "dirvol").ok()), &all); err != nil {
			t.Fatal(err)
		}
		if len(all) != 1 || !all[0].Enabled || len(all[0].Config.Interface.Types) != 1 {
			t.Errorf("inspect: %+v", all)
		}
		if got := docker("inspect", "--type", "plugin", "-f", "{{.Name}}", all[0].ID[:8]).ok(); got != "dirvol:latest" {
			t.Errorf("found by its id's beginning: %q", got)
		}
		docker("plugin", "disable", "dirvol").ok()
		if got := docker("plugin", "rm", "dirvol").ok(); got != "dirvol" {
			t.Errorf("rm prints %q", got)
		}
		if got := docker("plugin", "ls", "-q").ok(); got != "" {
			t.Errorf("left: %q", got)
		}
	})
}

func TestDockerIsToldWhatIsWrong(t *testing.T) {
	eachDocker(t, func(t *testing.T, d *daemon, docker func(...string) result) {
		dir := dirvol(t)
		docker("plugin", "create", "dirvol", dir).ok()
		docker("plugin", "create", "dirvol", dir).refused("dirvol")
		docker("plugin", "create", "Upper/Case", dir).refused("lowercase")
		docker("plugin", "disable", "dirvol").refused("dirvol:latest")
		docker("plugin", "set", "dirvol", "NOPE=1").refused("NOPE")
		docker("plugin", "set", "dirvol", "TMPFS_SIZE=1m", "NOPE=1").refused("NOPE")
		if got := docker("plugin", "inspect", "-f", "{{json .Settings.Env}}", "dirvol").ok(); got != `["TMPFS_SIZE=64m"]` {
			t.Errorf("half of a refused set was applied: %s", got)
		}
		docker("plugin", "enable", "none").refused(`plugin "none" not found`)
		docker("plugin", "inspect", "none").refused("none")
		docker("plugin", "enable", "dirvol").ok()
		docker("plugin", "enable", "dirvol").refused("dirvol:latest", "enabled")
		docker("plugin", "set", "dirvol", "TMPFS_SIZE=1m").refused("dirvol:latest")
		docker("plugin", "rm", "dirvol").refused("dirvol:latest", "enabled")
		docker("plugin", "install", "--grant-all-permissions", "example/none").refused()

		docker("volume", "create", "-d", "dirvol", "v").ok()
		d.outlet("volume", "mount", "v").ok()
		docker("plugin", "disable", "dirvol").refused("in use", "v")
		docker("volume", "rm", "v").refused("in use")
		docker("volume", "create", "-d", "dirvol", "-o", "size=lots", "-o", "type=tmpfs", "w").refused("option size")
		docker("volume", "create", "-d", "nodriver", "w").refused("nodriver")
		docker("volume", "inspect", "none").refused("none")
		d.outlet("volume", "unmount", "v").ok()
		docker("volume", "rm", "v").ok()

		empty := t.TempDir()
		docker("plugin", "create", "empty", empty).refused("config.json")
		if err := os.WriteFile(filepath.Join(empty, "config.json"), []byte("{}"), 0o644); err != nil {
			t.Fatal(err)
		}
		docker("plugin", "create", "empty", empty).refused("rootfs")
	})
}

func TestDockerUsesVolumes(t *testing.T) {
	eachDocker(t, func(t *testing.T, d *daemon, docker func(...string) result) {
		docker("plugin", "create", "dirvol", dirvol(t)).ok()
		docker("plugin", "enable", "dirvol").ok()
		if got := docker("volume", "create", "-d", "dirvol", "-o", "mode=0770", "--label", "a=b", "notes").ok(); got != "notes" {
			t.Errorf("create prints %q", got)
		}
		if got := docker("volume", "ls", "--format", "{{.Driver}} {{.Name}}").ok(); got != "dirvol:latest notes" {
			t.Errorf("ls prints %q", got)
		}
		if got := docker("volume", "ls", "-q", "--filter", "label=a=b", "--filter", "driver=dirvol:latest", "--filter", "dangling=true").ok(); got != "notes" {
			t.Errorf("ls with filters prints %q", got)
		}
		path := d.outlet("volume", "mount", "notes").ok()
		if got := docker("volume", "inspect", "-f", "{{.Mountpoint}}", "notes").ok(); got != path {
			t.Errorf("inspect says %q, mount said %q", got, path)
		}
		if err := os.WriteFile(filepath.Join(path, "f"), []byte("from the host"), 0o644); err != nil {
			t.Fatal(err)
		}
		if got := d.outlet("exec", "dirvol", "/dirvol", "cat", "notes", "f").ok(); got != "from the host" {
			t.Errorf("the plugin reads %q", got)
		}
		d.outlet("volume", "unmount", "notes").ok()
		docker("volume", "prune", "-f").ok() // a habit that must not delete remote data
		if got := docker("volume", "ls", "-q").ok(); got != "notes" {
			t.Errorf("after prune: %q", got)
		}
		docker("volume", "rm", "notes").ok()
		if got := docker("volume", "ls", "-q").ok(); got != "" {
			t.Errorf("left: %q", got)
		}
	})
}

func TestDockerAsksWhoWeAre(t *testing.T) {
	eachDocker(t, func(t *testing.T, _ *daemon, docker func(...string) result) {
		docker("plugin", "create", "dirvol", dirvol(t)).ok()
		docker("plugin", "enable", "dirvol").ok()
		version := docker("version")
		if text := version.ok(); !strings.Contains(text, "Server:") || version.err != "" {
			t.Errorf("version: %s%s", text, version.err)
		}
		info := docker("info")
		if text := info.ok(); !strings.Contains(text, "Volume: dirvol") || info.err != "" {
			t.Errorf("info: %s%s", text, info.err)
		}
		docker("plugin", "disable", "dirvol").ok()
		docker("plugin", "rm", "dirvol").ok()
		events := docker("events", "--filter", "type=plugin", "--since", "10m", "--until", "0s", "--format", "{{.Action}} {{.Actor.Attributes.name}}").ok()
		want := "create dirvol:latest\nenable dirvol:latest\ndisable dirvol:latest\nremove dirvol:latest"
		if events != want {
			t.Errorf("events:\n%s\nwant:\n%s", events, want)
		}
	})
}
