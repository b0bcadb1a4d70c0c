package interop

import (
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/outletd/outlet/internal/testutil"
	"github.com/outletd/outlet/internal/testutil/daemontest"
)

// brokenPlugin is a plugin that is broken in one way, and how that must be told.
type brokenPlugin struct {
	name   string
	change func(t *testing.T, dir string, config object)
	args   []string
	says   string // a regular expression
}

var brokenPlugins = []brokenPlugin{
	{
		name: "of another architecture",
		change: func(t *testing.T, dir string, _ object) {
			foreign := byte(0xb7) // EM_AARCH64
			if runtime.GOARCH == "arm64" {
				foreign = 0x3e // EM_X86_64
			}
			f, err := os.OpenFile(filepath.Join(dir, "rootfs/plugin"), os.O_RDWR, 0)
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			if _, err := f.WriteAt([]byte{foreign, 0}, 18); err != nil { // e_machine
				t.Fatal(err)
			}
		},
		says: `(?i)(built|made) for \S+|architecture`,
	},
	{
		name:   "without its entry point",
		change: func(_ *testing.T, _ string, config object) { config["entrypoint"] = []string{"/missing"} },
		says:   `/missing.*(does not exist|no such file|is not in|not found)`,
	},
	{
		name: "with an entry point that is not executable",
		change: func(t *testing.T, dir string, _ object) {
			if err := os.Chmod(filepath.Join(dir, "rootfs/plugin"), 0o644); err != nil {
				t.Fatal(err)
			}
		},
		says: `/plugin.*not executable`,
	},
	{
		name: "with a mount source that is missing",
		change: func(_ *testing.T, _ string, config object) {
			config["mounts"] = []object{{
				"name": "state", "source": "/nonexistent/outlet-interop", "destination": "/state", "type": "bind",
				"options": []string{"rbind"}, "settable": []string{"source"},
			}}
		},
		says: `/nonexistent/outlet-interop.*does not exist.*state\.source=`,
	},
	{
		name: "that never listens",
		args: []string{"-say", "waiting for my backend"},
		says: `(?s)never listened.*p\.sock.*waiting for my backend`,
	},
	{
		name: "that listens on another name",
		args: []string{"-listen", "/run/docker/plugins/other.sock"},
		says: `(?s)other\.sock.*p\.sock|p\.sock.*other\.sock`,
	},
	{
		name: "with the path of its socket too long",
		change: func(_ *testing.T, _ string, config object) {
			config["interface"].(object)["socket"] = strings.Repeat("s", 100) + ".sock"
		},
		says: `(?i)interface\.socket.*bytes|socket.*too long`,
	},
	{
		name: "that exits at once",
		args: []string{"-say", "no credentials: set TOKEN", "-exit", "3"},
		says: `(?s)exited with status 3.*no credentials: set TOKEN`,
	},
}

// make builds the plugin and returns its context directory.
func (b brokenPlugin) make(t *testing.T) string {
	t.Helper()
	config := object{
		"description": "broken: " + b.name,
		"entrypoint":  append([]string{"/plugin"}, b.args...),
		"interface":   object{"socket": "p.sock", "types": []string{"docker.volumedriver/1.0"}},
	}
	if b.args == nil {
		config["entrypoint"] = []string{"/plugin", "-listen", "/run/docker/plugins/p.sock"}
	}
	program := testutil.Build(t, "./test/interop/plugin")
	if b.change == nil {
		dir := contextDir(t, config)
		install(t, dir, program, "/plugin")
		return dir
	}
	files := contextDir(t, config)
	install(t, files, program, "/plugin")
	b.change(t, files, config)
	// The config may have changed: write it again beside the files.
	dir := contextDir(t, config)
	if err := os.Remove(filepath.Join(dir, "rootfs")); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(filepath.Join(files, "rootfs"), filepath.Join(dir, "rootfs")); err != nil {
		t.Fatal(err)
	}
	return dir
}

func TestBrokenPluginsSayWhatIsWrong(t *testing.T) {
	for _, cli := range []testutil.Feature{testutil.DockerCLI20, testutil.DockerCLI28} {
		t.Run(string(cli), func(t *testing.T) {
			// Those that never listen take all of it, the others must come to an
			// end within it.
			d := daemontest.Start(t, "--start-timeout", "6s")
			docker := d.Docker(cli)
			for _, b := range brokenPlugins {
				t.Run(b.name, func(t *testing.T) {
					r := docker("plugin", "create", "broken", b.make(t))
					if r.Code == 0 { // what is wrong with the config alone is refused earlier
						r = docker("plugin", "enable", "broken")
						if state := d.Outlet("inspect", "-f", "{{.Enabled}} {{.Status.State}}", "broken").OK(); state != "false disabled" {
							t.Errorf("after a failed enable it is %s", state)
						}
						defer func() { docker("plugin", "rm", "broken").OK() }()
					}
					if r.Code == 0 {
						t.Fatal("it is enabled")
					}
					if !regexp.MustCompile(b.says).MatchString(r.Err) {
						t.Errorf("the error does not say %s:\n%s", b.says, r.Err)
					}
				})
			}
		})
	}
}

// The exit of the process ends the wait for its socket, however long that may
// take: here the daemon would wait for an hour, which is longer than the command
// is given.
func TestAPluginThatExitsAtOnceIsNotWaitedFor(t *testing.T) {
	d := daemontest.Start(t, "--start-timeout", "1h")
	b := brokenPlugins[len(brokenPlugins)-1]
	d.Outlet("create", "broken", b.make(t)).OK()
	began := time.Now()
	d.Outlet("enable", "broken").Refused("exited with status 3")
	t.Logf("refused after %v", time.Since(began))
}
