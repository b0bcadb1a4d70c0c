package interop

import (
	"encoding/json"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/containerd/errdefs"

	"github.com/outletd/outlet"
	"github.com/outletd/outlet/client"
	"github.com/outletd/outlet/internal/testutil"
	"github.com/outletd/outlet/internal/testutil/daemontest"
	rt "github.com/outletd/outlet/internal/testutil/registrytest"
)

// tagged copies the example plugin's directory with another environment.
func tagged(t *testing.T, from string, change func(config map[string]any)) string {
	t.Helper()
	dir := t.TempDir()
	daemontest.Run(t, nil, "cp", "-a", from+"/.", dir).OK()
	path := filepath.Join(dir, "config.json")
	raw, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var config map[string]any
	if err := json.Unmarshal(raw, &config); err != nil {
		t.Fatal(err)
	}
	change(config)
	if raw, err = json.Marshal(config); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, raw, 0o600); err != nil {
		t.Fatal(err)
	}
	return dir
}

// digestOf is what the registry says a tag's digest is.
func digestOf(t *testing.T, ref string) string {
	t.Helper()
	host, rest, _ := strings.Cut(ref, "/")
	repo, tag, _ := strings.Cut(rest, ":")
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+host+"/v2/"+repo+"/manifests/"+tag, nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Accept", rt.TypeManifest)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	http.DefaultClient.CloseIdleConnections()
	return rt.Digest(b)
}

func TestDockerInstallsUpgradesAndPushes(t *testing.T) {
	reg := rt.Start(t, rt.Options{})
	ref, next := reg.Host+"/test/dirvol:1", reg.Host+"/test/dirvol:2"
	eachDocker(t, func(t *testing.T, d *daemontest.Daemon, docker func(...string) daemontest.Result) {
		dir := daemontest.Dirvol(t)
		docker("plugin", "create", ref, dir).OK()
		if out := docker("plugin", "push", ref).OK(); !strings.Contains(out, "digest: "+digestOf(t, ref)) && !strings.Contains(out, "The push refers to repository ["+reg.Host+"/test/dirvol]") {
			t.Errorf("push prints %q", out)
		}
		docker("plugin", "rm", ref).OK()
		docker("plugin", "create", next, tagged(t, dir, func(c map[string]any) { c["PidHost"] = true })).OK()
		docker("plugin", "push", next).OK()
		docker("plugin", "rm", next).OK()

		out := docker("plugin", "install", "--grant-all-permissions", ref, "TMPFS_SIZE=8m").OK()
		if !strings.Contains(out, "Installed plugin "+ref) || !strings.Contains(out, "Digest: "+digestOf(t, ref)) {
			t.Errorf("install prints %q", out)
		}
		if got := docker("plugin", "ls", "--format", "{{.Name}} {{.Enabled}} {{.PluginReference}}").OK(); got != ref+" true "+ref {
			t.Errorf("ls prints %q", got)
		}
		docker("plugin", "install", "--grant-all-permissions", ref).Refused("already exists")
		docker("plugin", "upgrade", "--grant-all-permissions", ref, next).Refused("must be disabled before upgrading")
		docker("plugin", "disable", ref).OK()
		out = docker("plugin", "upgrade", "--grant-all-permissions", "--skip-remote-check", ref, next).OK()
		if !strings.Contains(out, "Upgraded plugin "+ref+" to "+next) {
			t.Errorf("upgrade prints %q", out)
		}
		if got := docker("plugin", "inspect", "-f", "{{.Config.PidHost}} {{.Settings.Env}} {{.PluginReference}}", ref).OK(); got != "true [TMPFS_SIZE=8m] "+next {
			t.Errorf("upgraded to %q", got)
		}
		docker("plugin", "enable", ref).OK()
		docker("plugin", "rm", "-f", ref).OK()
		docker("plugin", "install", "--grant-all-permissions", reg.Host+"/test/nothing").Refused("error resolving plugin reference")
		d.Outlet("ls", "-q").OK()
	})
}

func TestDockerAsksForPrivileges(t *testing.T) {
	reg := rt.Start(t, rt.Options{})
	ref := reg.Host + "/test/asks:1"
	reg.Put(t, "test/asks", "1", rt.Plugin{
		Config: rt.Config(map[string]any{"Network": map[string]any{"Type": "host"}}),
		Layers: []rt.Layer{rt.GzipLayer(t, rt.File{Name: "f", Content: "x"})},
	})
	for _, cli := range []testutil.Feature{testutil.DockerCLI20, testutil.DockerCLI28} {
		t.Run(string(cli), func(t *testing.T) {
			testutil.Need(t, cli)
			d := daemontest.Start(t)
			no := d.DockerTyping(cli, "n\n", "plugin", "install", "--disable", ref)
			if !strings.Contains(no.Out, " - network: [host]") || no.Code == 0 {
				t.Errorf("declined: %d %q %q", no.Code, no.Out, no.Err)
			}
			if got := d.Outlet("ls", "-q").OK(); got != "" {
				t.Errorf("it was installed all the same: %q", got)
			}
			d.DockerTyping(cli, "y\n", "plugin", "install", "--disable", ref).OK()
		})
	}
}

func TestDockerLogsInAndInstallsFromAPrivateRegistry(t *testing.T) {
	private := rt.Start(t, rt.Options{Password: true})
	eachDocker(t, func(t *testing.T, d *daemontest.Daemon, docker func(...string) daemontest.Result) {
		ref := private.Host + "/test/dirvol:1"
		docker("plugin", "create", ref, daemontest.Dirvol(t)).OK()
		if r := docker("plugin", "push", ref); r.Code == 0 || !strings.Contains(r.Out+r.Err, "401") {
			t.Errorf("push without a password: %d %q %q", r.Code, r.Out, r.Err)
		}
		docker("login", "-u", rt.User, "-p", "wrong", private.Host).Refused("unauthorized")
		if out := docker("login", "-u", rt.User, "-p", rt.Password, private.Host).OK(); !strings.Contains(out, "Login Succeeded") {
			t.Errorf("login prints %q", out)
		}
		docker("plugin", "push", ref).OK()
		docker("plugin", "rm", ref).OK()
		docker("plugin", "install", "--grant-all-permissions", ref).OK()
		docker("plugin", "rm", "-f", ref).OK()
		docker("logout", private.Host).OK()
		// Docker's command lines take the status for a reason to ask for a
		// password, and 28 waits for one for ever where nobody types.
		c, err := client.New(client.Options{Host: d.Host()})
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		if _, err := c.Remote(t.Context(), ref, outlet.RemoteOptions{}); !errdefs.IsUnauthorized(err) {
			t.Errorf("without a password: %v", err)
		}
	})
}

func TestPluginsCrossBetweenDockerdAndOutlet(t *testing.T) {
	docker := daemontest.Dockerd(t)
	d := daemontest.Start(t)
	ours := d.Docker(testutil.DockerCLI20)
	reg := rt.Start(t, rt.Options{})
	dir := daemontest.Dirvol(t)
	theirs, mine := reg.Host+"/test/theirs:1", reg.Host+"/test/mine:1"

	docker("plugin", "create", theirs, dir).OK()
	docker("plugin", "push", theirs).OK()
	pushed := digestOf(t, theirs)
	ours("plugin", "install", "--grant-all-permissions", theirs).OK()
	ours("plugin", "push", theirs).OK()
	if got := digestOf(t, theirs); got != pushed {
		t.Errorf("pulled and pushed again it is %s, it was %s", got, pushed)
	}
	ours("volume", "create", "-d", theirs, "v").OK()
	ours("volume", "rm", "v").OK()

	ours("plugin", "create", mine, dir).OK()
	ours("plugin", "push", mine).OK()
	docker("plugin", "install", "--grant-all-permissions", mine).OK()
	if got := docker("plugin", "ls", "--format", "{{.Name}} {{.Enabled}}").OK(); !strings.Contains(got, mine+" true") {
		t.Errorf("dockerd has %q", got)
	}
	docker("plugin", "rm", "-f", mine, theirs).OK()
}
