package interop

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/outletd/outlet/internal/testutil"
	"github.com/outletd/outlet/internal/testutil/daemontest"
	rt "github.com/outletd/outlet/internal/testutil/registrytest"
)

// typing runs our command line with an input.
func typing(t *testing.T, d *daemontest.Daemon, input string, args ...string) (out, stderr string, code int) {
	t.Helper()
	cmd := exec.Command(d.Program(), args...)
	cmd.Env = append(os.Environ(), "OUTLET_HOST="+d.Host())
	cmd.Stdin = strings.NewReader(input)
	var o, e strings.Builder
	cmd.Stdout, cmd.Stderr = &o, &e
	_ = cmd.Run() // the exit code tells
	return o.String(), e.String(), cmd.ProcessState.ExitCode()
}

// want checks what a command printed and how it ended.
func want(t *testing.T, what, printed string, code, wantCode int, texts ...string) {
	t.Helper()
	if code != wantCode {
		t.Errorf("%s: exit %d, want %d\n%s", what, code, wantCode, printed)
	}
	for _, text := range texts {
		if !strings.Contains(printed, text) {
			t.Errorf("%s does not say %q:\n%s", what, text, printed)
		}
	}
}

func TestOurCommandLineAtARegistry(t *testing.T) {
	d := daemontest.Start(t)
	reg := rt.Start(t, rt.Options{Password: true})
	t.Setenv("DOCKER_CONFIG", t.TempDir())
	ref := reg.Host + "/sample/dirvol"
	dirvol := daemontest.Dirvol(t)
	d.Outlet("create", "-q", ref+":v1", dirvol).OK()
	d.Outlet("create", "-q", ref+":v2", tagged(t, dirvol, func(c map[string]any) {
		c["ipcHost"] = true
		c["linux"] = map[string]any{"capabilities": []string{}}
	})).OK()

	d.Outlet("push", ref+":v1").Refused("401", "log in: outlet login "+reg.Host)
	_, e, code := typing(t, d, "wrong\n", "login", "-u", rt.User, "--password-stdin", reg.Host)
	want(t, "a wrong password", e, code, 1, "unauthorized")
	o, e, code := typing(t, d, rt.Password+"\n", "login", "-u", rt.User, "--password-stdin", reg.Host)
	want(t, "login", o+e, code, 0, "Login Succeeded", "stored unencrypted")
	if out := d.Outlet("push", ref+":v1").OK(); !strings.Contains(out, "Upload complete") || !strings.Contains(out, "v1: digest: sha256:") {
		t.Errorf("push says %s", out)
	}
	d.Outlet("push", ref+":v2").OK()
	d.Outlet("rm", ref+":v1", ref+":v2").OK()

	t.Run("install", func(t *testing.T) {
		o, e, code := typing(t, d, "n\n", "install", ref+":v1")
		want(t, "declined", o+e, code, 1, "permission denied while installing plugin "+ref+":v1",
			`Plugin "`+ref+`:v1" is requesting the following privileges:`, " - capabilities: [CAP_SYS_ADMIN]\n", "Do you grant the above permissions? [y/N] ")
		_, e, code = typing(t, d, "", "install", "--grant-all-permissions", ref+":v1", "NOPE=1")
		want(t, "a setting that does not exist", e, code, 1, `setting "NOPE" not found in the plugin configuration`)
		_, e, code = typing(t, d, "", "install", "--alias", "x@sha256:"+strings.Repeat("0", 64), ref)
		want(t, "a digest as alias", e, code, 1, "invalid name: x@sha256:")
		_, e, code = typing(t, d, "y\n", "install", ref+":v3")
		want(t, "a tag that is not there", e, code, 1, "404")
		o, e, code = typing(t, d, "y\n", "install", "--alias", "dv", ref+":v1", "TMPFS_SIZE=1m")
		want(t, "install", o+e, code, 0, "v1: Pulling from "+ref, "Complete", "Installed plugin "+ref+":v1")
		if got := d.Outlet("inspect", "-f", "{{.Enabled}} {{.Settings.Env}}", "dv").OK(); got != "true [TMPFS_SIZE=1m]" {
			t.Errorf("installed as %s", got)
		}
		_, e, code = typing(t, d, "y\n", "install", "--alias", "dv", ref+":v1")
		want(t, "a taken name", e, code, 1, "plugin dv:latest already exists")
	})
	t.Run("upgrade", func(t *testing.T) {
		o, e, code := typing(t, d, "n\n", "upgrade", "dv", ref+":v2")
		want(t, "another image", o+e, code, 1, "Upgrading plugin dv:latest from "+ref+":v1 to "+ref+":v2", "Plugin images do not match, are you sure? [y/N] ", "plugin upgrade has been cancelled")
		o, e, code = typing(t, d, "y\nn\n", "upgrade", "dv", ref+":v2")
		want(t, "more privileges", o+e, code, 1, "permission denied while installing plugin "+ref+":v2",
			" - host ipc namespace: [true]\n", "does not request any more:\n - capabilities: [CAP_SYS_ADMIN]\n")
		o, e, code = typing(t, d, "y\ny\n", "upgrade", "dv", ref+":v2")
		want(t, "upgrade", o+e, code, 0, "Upgraded plugin dv:latest to "+ref+":v2")
		if got := d.Outlet("inspect", "-f", "{{.Enabled}} {{.Settings.Env}} {{.Config.IpcHost}}", "dv").OK(); got != "true [TMPFS_SIZE=1m] true" {
			t.Errorf("upgraded to %s", got)
		}
		o, e, code = typing(t, d, "", "upgrade", "dv")
		want(t, "nothing new", o+e, code, 0, "Upgraded plugin")
		if strings.Contains(o+e, "requesting") {
			t.Errorf("what was granted is asked for again: %s", e)
		}
		_, e, code = typing(t, d, "", "upgrade", "nothing")
		want(t, "no such plugin", e, code, 1, "error reading plugin data: ")
	})
	t.Run("logout", func(t *testing.T) {
		o, e, code := typing(t, d, "", "logout", reg.Host)
		want(t, "logout", o+e, code, 0, "Removing login credentials for "+reg.Host)
		o, e, code = typing(t, d, "", "logout", reg.Host)
		want(t, "again", o+e, code, 0, "Not logged in to "+reg.Host)
		_, e, code = typing(t, d, "", "install", "--alias", "other", ref+":v1")
		want(t, "nobody", e, code, 1, "401")
	})
	d.Outlet("rm", "-f", "dv").OK()
}

func TestOurCommandLineWithoutARegistry(t *testing.T) {
	d := daemontest.Start(t)
	dirvol := daemontest.Dirvol(t)
	d.Outlet("create", "-q", "sample/one", dirvol).OK()
	d.Outlet("create", "-q", "sample/two:v2", dirvol).OK()
	file := filepath.Join(t.TempDir(), "plugins.tar")
	d.Outlet("save", "-o", file, "sample/one", "sample/two:v2").OK()
	d.Outlet("save", "-o", filepath.Join(t.TempDir(), "x"), "sample/one", "nothing").Refused(`plugin "nothing" not found`)
	d.Outlet("load", "-i", file, "--grant-all-permissions").Refused("plugin sample/one:latest already exists")
	d.Outlet("rm", "sample/one", "sample/two:v2").OK()
	_, e, code := typing(t, d, "y\nn\n", "load", "-i", file)
	want(t, "one of two declined", e, code, 1, `Plugin "sample/two:v2" is requesting`, "permission denied while loading plugin sample/two:v2")
	o, e, code := typing(t, d, "y\ny\n", "load", "-i", file)
	want(t, "load", o+e, code, 0, "Loaded plugin sample/one:latest\nLoaded plugin sample/two:v2\n")
	d.Outlet("enable", "sample/two:v2").OK()
	d.Outlet("rm", "sample/one").OK()
	if got := d.Outlet("inspect", "-f", "{{.Status.State}}", "sample/two:v2").OK(); got != "running" {
		t.Errorf("without the other it is %s", got)
	}
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	_, e, code = typing(t, d, string(b), "load")
	want(t, "from a pipe", e, code, 1, "already exists")
	d.Outlet("rm", "-f", "sample/two:v2").OK()
	_, e, code = typing(t, d, string(b), "load")
	want(t, "from a pipe", e, code, 1, "incorrect privileges", "nobody was asked")
	o, e, code = typing(t, d, string(b), "load", "--grant-all-permissions")
	want(t, "from a pipe, all granted", o+e, code, 0, "Loaded plugin sample/two:v2")
	if out := d.Outlet("system", "df").OK(); !strings.Contains(out, "sample/one:latest") || !strings.Contains(out, "Interrupted downloads") {
		t.Errorf("df says %s", out)
	}
	d.Outlet("rm", "sample/one", "sample/two:v2").OK()
	d.Outlet("system", "prune", "-f").OK()
	if got := d.Outlet("system", "df", "--format", "{{.Blobs.Bytes}} {{.Layers.Bytes}}").OK(); got != "0 0" {
		t.Errorf("left behind: %s", got)
	}

	t.Run("an image", func(t *testing.T) {
		umoci := testutil.Program(t, testutil.Umoci)
		dir := t.TempDir()
		layout := filepath.Join(dir, "layout")
		for _, args := range [][]string{
			{"init", "--layout", layout},
			{"new", "--image", layout + ":v1"},
			{"insert", "--image", layout + ":v1", filepath.Join(dirvol, "rootfs"), "/"},
			{"config", "--image", layout + ":v1", "--config.entrypoint", "/dirvol"},
		} {
			daemontest.Run(t, nil, umoci, args...).OK()
		}
		config := filepath.Join(tagged(t, dirvol, func(c map[string]any) { delete(c, "entrypoint") }), "config.json")
		archive := filepath.Join(dir, "image.tar")
		daemontest.Run(t, nil, testutil.Program(t, testutil.Skopeo), "copy", "oci:"+layout+":v1", "oci-archive:"+archive+":v1").OK()
		for name, image := range map[string]string{"layout": "oci:" + layout + ":v1", "archive": "oci-archive:" + archive} {
			d.Outlet("create", "-q", "of/"+name, "--config", config, "--image", image).OK()
			d.Outlet("enable", "of/"+name).OK()
			d.Outlet("rm", "-f", "of/"+name).OK()
		}
		d.Outlet("create", "-q", "of/x", "--image", "oci:"+layout).Refused("--image needs --config")
		d.Outlet("create", "-q", "of/x", "--config", config, "--image", "oci:"+layout+":v2").Refused(`no "v2"`)
		d.Outlet("create", "-q", "of/x", "--config", config, "--image", "oci:"+dir).Refused("is not an OCI layout")
	})
}

func TestAPolicyOfTheDaemon(t *testing.T) {
	policy := filepath.Join(t.TempDir(), "policy.json")
	if err := os.WriteFile(policy, []byte(`{"allow":["docker.io/example/*"]}`), 0o600); err != nil {
		t.Fatal(err)
	}
	d := daemontest.Start(t, "--policy", policy)
	t.Setenv("DOCKER_CONFIG", t.TempDir())
	reg := rt.Start(t, rt.Options{})
	ref := reg.Host + "/sample/dirvol:v1"
	d.Outlet("create", "-q", ref, daemontest.Dirvol(t)).OK()
	d.Outlet("push", ref).OK()
	d.Outlet("install", "--grant-all-permissions", "--alias", "dv", ref).Refused("policy "+policy, "allow", reg.Host+"/sample/dirvol is not among the repositories")
	docker := d.Docker(testutil.DockerCLI28)
	docker("plugin", "install", "--grant-all-permissions", "--alias", "dv", ref).Refused("is not among the repositories")
	if err := os.WriteFile(policy, []byte(`{"allow":["`+reg.Host+`/**"]}`), 0o600); err != nil {
		t.Fatal(err)
	}
	d.Outlet("install", "--grant-all-permissions", "--alias", "dv", ref).OK() // the rule holds from when it is written
	if err := os.WriteFile(policy, []byte(`{"alow":[]}`), 0o600); err != nil {
		t.Fatal(err)
	}
	d.Outlet("install", "--grant-all-permissions", "--alias", "dv2", ref).Refused("unknown field")
	d.Outlet("rm", "-f", "dv", ref).OK()
}
