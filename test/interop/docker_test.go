package interop

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/outletd/outlet/internal/testutil"
	"github.com/outletd/outlet/internal/testutil/daemontest"
)

// eachDocker runs a test with every docker command line, each with a daemon of
// its own.
func eachDocker(t *testing.T, test func(t *testing.T, d *daemontest.Daemon, docker func(...string) daemontest.Result)) {
	for _, cli := range []testutil.Feature{testutil.DockerCLI20, testutil.DockerCLI28} {
		t.Run(string(cli), func(t *testing.T) {
			testutil.Need(t, cli)
			d := daemontest.Start(t)
			test(t, d, d.Docker(cli))
		})
	}
}

func TestDockerDrivesThePluginsLife(t *testing.T) {
	eachDocker(t, func(t *testing.T, _ *daemontest.Daemon, docker func(...string) daemontest.Result) {
		dir := daemontest.Dirvol(t)
		if got := docker("plugin", "create", "dirvol", dir).OK(); got != "dirvol" {
			t.Errorf("create prints %q", got)
		}
		if got := docker("plugin", "ls", "--format", "{{.Name}} {{.Enabled}} {{.PluginReference}}").OK(); got != "dirvol:latest false dirvol:latest" {
			t.Errorf("ls prints %q", got)
		}
		docker("plugin", "set", "dirvol", "TMPFS_SIZE=8m").OK()
		if got := docker("plugin", "inspect", "-f", "{{json .Settings.Env}}", "dirvol").OK(); got != `["TMPFS_SIZE=8m"]` {
			t.Errorf("the setting is %s", got)
		}
		docker("plugin", "enable", "dirvol").OK()
		if got := docker("plugin", "ls", "-q", "--no-trunc", "--filter", "enabled=true", "--filter", "capability=volumedriver").OK(); len(got) != 64 {
			t.Errorf("ls -q prints %q", got)
		}
		var all []struct {
			ID      string `json:"Id"`
			Enabled bool
			Config  struct{ Interface struct{ Types []any } }
		}
		if err := json.Unmarshal([]byte(docker("plugin", "inspect", "dirvol").OK()), &all); err != nil {
			t.Fatal(err)
		}
		if len(all) != 1 || !all[0].Enabled || len(all[0].Config.Interface.Types) != 1 {
			t.Errorf("inspect: %+v", all)
		}
		if got := docker("inspect", "--type", "plugin", "-f", "{{.Name}}", all[0].ID[:8]).OK(); got != "dirvol:latest" {
			t.Errorf("found by its id's beginning: %q", got)
		}
		docker("plugin", "disable", "dirvol").OK()
		if got := docker("plugin", "rm", "dirvol").OK(); got != "dirvol" {
			t.Errorf("rm prints %q", got)
		}
		if got := docker("plugin", "ls", "-q").OK(); got != "" {
			t.Errorf("left: %q", got)
		}
	})
}

func TestDockerIsToldWhatIsWrong(t *testing.T) {
	eachDocker(t, func(t *testing.T, d *daemontest.Daemon, docker func(...string) daemontest.Result) {
		dir := daemontest.Dirvol(t)
		docker("plugin", "create", "dirvol", dir).OK()
		docker("plugin", "create", "dirvol", dir).Refused("dirvol")
		docker("plugin", "create", "Upper/Case", dir).Refused("lowercase")
		docker("plugin", "disable", "dirvol").Refused("dirvol:latest")
		docker("plugin", "set", "dirvol", "NOPE=1").Refused("NOPE")
		docker("plugin", "set", "dirvol", "TMPFS_SIZE=1m", "NOPE=1").Refused("NOPE")
		if got := docker("plugin", "inspect", "-f", "{{json .Settings.Env}}", "dirvol").OK(); got != `["TMPFS_SIZE=64m"]` {
			t.Errorf("half of a refused set was applied: %s", got)
		}
		docker("plugin", "enable", "none").Refused(`plugin "none" not found`)
		docker("plugin", "inspect", "none").Refused("none")
		docker("plugin", "enable", "dirvol").OK()
		docker("plugin", "enable", "dirvol").Refused("dirvol:latest", "enabled")
		docker("plugin", "set", "dirvol", "TMPFS_SIZE=1m").Refused("active plugin")
		docker("plugin", "rm", "dirvol").Refused("dirvol:latest", "enabled")
		docker("plugin", "install", "--grant-all-permissions", "example/none").Refused()

		docker("volume", "create", "-d", "dirvol", "v").OK()
		d.Outlet("volume", "mount", "v").OK()
		docker("plugin", "disable", "dirvol").Refused("in use", "v")
		docker("volume", "rm", "v").Refused("in use")
		docker("volume", "create", "-d", "dirvol", "-o", "size=lots", "-o", "type=tmpfs", "w").Refused("option size")
		docker("volume", "create", "-d", "nodriver", "w").Refused("nodriver")
		docker("volume", "inspect", "none").Refused("none")
		d.Outlet("volume", "unmount", "v").OK()
		docker("volume", "rm", "v").OK()

		empty := t.TempDir()
		docker("plugin", "create", "empty", empty).Refused("config.json")
		if err := os.WriteFile(filepath.Join(empty, "config.json"), []byte("{}"), 0o644); err != nil {
			t.Fatal(err)
		}
		docker("plugin", "create", "empty", empty).Refused("rootfs")
	})
}

func TestDockerUsesVolumes(t *testing.T) {
	eachDocker(t, func(t *testing.T, d *daemontest.Daemon, docker func(...string) daemontest.Result) {
		docker("plugin", "create", "dirvol", daemontest.Dirvol(t)).OK()
		docker("plugin", "enable", "dirvol").OK()
		if got := docker("volume", "create", "-d", "dirvol", "-o", "mode=0770", "--label", "a=b", "notes").OK(); got != "notes" {
			t.Errorf("create prints %q", got)
		}
		if got := docker("volume", "ls", "--format", "{{.Driver}} {{.Name}}").OK(); got != "dirvol:latest notes" {
			t.Errorf("ls prints %q", got)
		}
		if got := docker("volume", "ls", "-q", "--filter", "label=a=b", "--filter", "driver=dirvol:latest", "--filter", "dangling=true").OK(); got != "notes" {
			t.Errorf("ls with filters prints %q", got)
		}
		path := d.Outlet("volume", "mount", "notes").OK()
		if got := docker("volume", "inspect", "-f", "{{.Mountpoint}}", "notes").OK(); got != path {
			t.Errorf("inspect says %q, mount said %q", got, path)
		}
		if err := os.WriteFile(filepath.Join(path, "f"), []byte("from the host"), 0o644); err != nil {
			t.Fatal(err)
		}
		if got := d.Outlet("exec", "dirvol", "/dirvol", "cat", "notes", "f").OK(); got != "from the host" {
			t.Errorf("the plugin reads %q", got)
		}
		d.Outlet("volume", "unmount", "notes").OK()
		docker("volume", "prune", "-f").OK() // a habit that must not delete remote data
		if got := docker("volume", "ls", "-q").OK(); got != "notes" {
			t.Errorf("after prune: %q", got)
		}
		docker("volume", "rm", "notes").OK()
		if got := docker("volume", "ls", "-q").OK(); got != "" {
			t.Errorf("left: %q", got)
		}
	})
}

func TestDockerAsksWhoWeAre(t *testing.T) {
	eachDocker(t, func(t *testing.T, _ *daemontest.Daemon, docker func(...string) daemontest.Result) {
		docker("plugin", "create", "dirvol", daemontest.Dirvol(t)).OK()
		docker("plugin", "enable", "dirvol").OK()
		version := docker("version")
		if text := version.OK(); !strings.Contains(text, "Server:") || version.Err != "" {
			t.Errorf("version: %s%s", text, version.Err)
		}
		info := docker("info")
		if text := info.OK(); !strings.Contains(text, "Volume: dirvol") || info.Err != "" {
			t.Errorf("info: %s%s", text, info.Err)
		}
		docker("plugin", "disable", "dirvol").OK()
		docker("plugin", "rm", "dirvol").OK()
		// This command line knows whole seconds only.
		until := strconv.FormatInt(time.Now().Unix()+1, 10)
		events := docker("events", "--filter", "type=plugin", "--since", "10m", "--until", until, "--format", "{{.Action}} {{.Actor.Attributes.name}}").OK()
		want := "create dirvol:latest\nenable dirvol:latest\ndisable dirvol:latest\nremove dirvol:latest"
		if events != want {
			t.Errorf("events:\n%s\nwant:\n%s", events, want)
		}
	})
}
