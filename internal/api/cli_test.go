package api

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"net"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/containerd/errdefs"

	"github.com/outletd/outlet"
	"github.com/outletd/outlet/internal/testutil"
)

// dockerCLI runs a stock docker client against the rig.
type dockerCLI struct {
	t      *testing.T
	path   string
	socket string
	env    []string
}

func (d dockerCLI) command(ctx context.Context, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, d.path, args...)
	cmd.Env = append([]string{
		"DOCKER_HOST=unix://" + d.socket, "DOCKER_CONFIG=" + d.t.TempDir(), "HOME=" + d.t.TempDir(), "PATH=" + os.Getenv("PATH"),
	}, d.env...)
	return cmd
}

func (d dockerCLI) run(args ...string) (stdout, stderr string, err error) {
	d.t.Helper()
	ctx, cancel := context.WithTimeout(d.t.Context(), 3*time.Minute)
	defer cancel()
	var out, errOut bytes.Buffer
	cmd := d.command(ctx, args...)
	cmd.Stdout, cmd.Stderr = &out, &errOut
	err = cmd.Run()
	return out.String(), errOut.String(), err
}

// good runs a command that must succeed and say nothing on standard error.
func (d dockerCLI) good(args ...string) string {
	d.t.Helper()
	out, errOut, err := d.run(args...)
	if err != nil || errOut != "" {
		d.t.Fatalf("docker %s: %v\n%s%s", strings.Join(args, " "), err, out, errOut)
	}
	return out
}

// bad runs a command that must fail with a text on standard error.
func (d dockerCLI) bad(want string, args ...string) {
	d.t.Helper()
	out, errOut, err := d.run(args...)
	if err == nil || !strings.Contains(errOut, want) {
		d.t.Errorf("docker %s: %v, want %q in\n%s%s", strings.Join(args, " "), err, want, out, errOut)
	}
}

func (d dockerCLI) contains(got string, wants ...string) {
	d.t.Helper()
	for _, want := range wants {
		if !strings.Contains(got, want) {
			d.t.Errorf("want %q in\n%s", want, got)
		}
	}
}

func eachCLI(t *testing.T, test func(t *testing.T, d dockerCLI, g *rig)) {
	for _, cli := range []testutil.Feature{testutil.DockerCLI20, testutil.DockerCLI28} {
		t.Run(string(cli), func(t *testing.T) {
			testutil.Need(t, cli)
			g := newRig(t)
			test(t, dockerCLI{t: t, path: testutil.Program(t, cli), socket: g.socket}, g)
		})
	}
}

func pluginDir(t *testing.T, size int) string {
	t.Helper()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "config.json"), []byte(`{"description":"mine","entrypoint":["/p"],"interface":{"types":["docker.volumedriver/1.0"],"socket":"p.sock"}}`), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(filepath.Join(dir, "rootfs"), 0o755); err != nil {
		t.Fatal(err)
	}
	data := make([]byte, size)
	if _, err := rand.Read(data); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "rootfs", "data"), data, 0o644); err != nil {
		t.Fatal(err)
	}
	return dir
}

func TestDockerPluginCommands(t *testing.T) {
	eachCLI(t, func(t *testing.T, d dockerCLI, g *rig) {
		d.contains(d.good("plugin", "ls"), "foo/bar:latest", "localhost:5000/a/b/c:1", "true")
		if out := d.good("plugin", "ls", "-q", "--filter", "enabled=false"); out != "" {
			t.Errorf("disabled plugins: %s", out)
		}
		d.contains(d.good("plugin", "ls", "--filter", "capability=volumedriver"), "foo/bar")
		d.bad("invalid filter 'nonsense'", "plugin", "ls", "--filter", "nonsense=1")
		d.contains(d.good("plugin", "inspect", "localhost:5000/a/b/c:1", "foo/bar"), `"Name": "localhost:5000/a/b/c:1"`, `"docker.volumedriver/1.0"`)
		d.bad("no", "plugin", "inspect", "no") // 20.10 has its own words

		if out := d.good("plugin", "create", "mine", pluginDir(t, 1<<20)); strings.TrimSpace(out) != "mine" {
			t.Errorf("create printed %q", out)
		}
		if out := d.good("plugin", "enable", "--timeout", "7", "mine"); strings.TrimSpace(out) != "mine" {
			t.Errorf("enable printed %q", out)
		}
		if got := g.plugins.lastEnable().Timeout; got != 7*time.Second {
			t.Errorf("the timeout is %v", got)
		}
		d.bad("plugin already enabled: plugin mine:latest is enabled", "plugin", "enable", "mine")
		d.bad("plugin mine:latest is enabled", "plugin", "rm", "mine")
		d.good("plugin", "disable", "mine")
		d.bad("plugin is already disabled", "plugin", "disable", "mine")
		d.good("plugin", "set", "mine", "DEBUG=1")
		d.contains(d.good("plugin", "inspect", "mine"), `"DEBUG=1"`)
		d.bad(`setting "X=1" not found`, "plugin", "set", "mine", "X=1")
		d.good("plugin", "rm", "mine")
		d.bad("plugin used/one:latest is in use", "plugin", "disable", "used/one")
		d.good("plugin", "disable", "-f", "used/one")
		d.good("plugin", "rm", "--force", "localhost:5000/a/b/c:1")

		d.bad("not supported by this version of Outlet", "plugin", "install", "--grant-all-permissions", "some/thing")
		d.bad("not supported by this version of Outlet", "plugin", "push", "foo/bar")
		d.bad("not supported by this version of Outlet", "plugin", "upgrade", "--grant-all-permissions", "--skip-remote-check", "used/one")
	})
}

func TestDockerShowsWhyAnUploadWasRefused(t *testing.T) {
	eachCLI(t, func(t *testing.T, d dockerCLI, g *rig) {
		dir := pluginDir(t, 64<<20)
		g.plugins.hook.set(func(_ context.Context, method string) error {
			return outlet.Errorf(errdefs.ErrConflict, "refused at %s", method)
		})
		for range 10 {
			d.bad("refused at Create", "plugin", "create", "mine", dir)
		}
	})
}

func TestDockerVolumeCommands(t *testing.T) {
	eachCLI(t, func(t *testing.T, d dockerCLI, g *rig) {
		d.contains(d.good("volume", "ls"), "sample", "vol")
		d.contains(d.good("volume", "inspect", "vol"), `"Mountpoint": "/host/vol"`)
		d.bad("o such volume", "volume", "inspect", "none") // 20.10 has its own words
		d.good("volume", "create", "-d", "sample", "-o", "size=1", "--label", "a=b", "new")
		if v, err := g.volumes.Inspect(t.Context(), "new"); err != nil || v.Options["size"] != "1" || v.Labels["a"] != "b" {
			t.Errorf("created %+v", v)
		}
		d.bad("no volume driver is named; there are: sample", "volume", "create", "x")
		d.good("volume", "rm", "new")
		d.bad("o such volume", "volume", "rm", "new")
		d.contains(d.good("volume", "prune", "-f"), "Total reclaimed space: 0B")
		if _, err := g.volumes.Inspect(t.Context(), "vol"); err != nil {
			t.Errorf("prune: %v", err)
		}
	})
}

func TestDockerSystemCommands(t *testing.T) {
	eachCLI(t, func(t *testing.T, d dockerCLI, g *rig) {
		d.contains(d.good("version"), "Outlet", "API version:", "1.51 (minimum version 1.25)", "runc:", "1.1.5")
		info := d.good("info")
		d.contains(info, "Server Version: 1.2.3", "Volume: foo/bar:latest", "Live Restore Enabled: true", "http://xxxxx:xxxxx@proxy:3128", "Swarm: inactive")
		d.contains(d.good("inspect", "foo/bar"), `"Name": "foo/bar:latest"`)
		d.contains(d.good("inspect", "--type", "plugin", "foo/bar"), `"Name": "foo/bar:latest"`)
		d.contains(d.good("inspect", "vol"), `"/host/vol"`)
		d.bad("o such object: none", "inspect", "none")
		d.good("system", "df")
		d.bad("Outlet serves plugins and volumes; /containers is not part of it", "ps")
	})
}

func TestDockerEvents(t *testing.T) {
	eachCLI(t, func(t *testing.T, d dockerCLI, g *rig) {
		ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
		defer cancel()
		cmd := d.command(ctx, "events", "--filter", "type=plugin", "--filter", "plugin=foo")
		out := &logBuffer{}
		cmd.Stdout, cmd.Stderr = out, out
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		done := make(chan error, 1)
		go func() { done <- cmd.Wait() }()
		testutil.Eventually(t, time.Minute, func() error {
			if n := g.events.Subscribers(); n != 1 {
				return fmt.Errorf("%d subscribers", n)
			}
			return nil
		})
		d.good("plugin", "disable", "localhost:5000/a/b/c:1")
		d.good("plugin", "disable", "foo/bar")
		want := regexp.MustCompile(fmt.Sprintf(`plugin disable %s \(name=foo/bar:latest\)`, id(1)))
		testutil.Eventually(t, time.Minute, func() error {
			if !want.MatchString(out.String()) {
				return fmt.Errorf("want %s in\n%s", want, out.String())
			}
			return nil
		})
		if strings.Contains(out.String(), "localhost:5000") {
			t.Errorf("an event passed the filter:\n%s", out.String())
		}
		cancel()
		<-done
	})
}

func TestDockerAPIVersions(t *testing.T) {
	eachCLI(t, func(t *testing.T, d dockerCLI, g *rig) {
		for _, c := range []struct{ version, fails string }{
			{"1.23", "client version 1.23 is too old. Minimum supported API version is 1.25"},
			{"1.25", ""},
			{"1.44", ""},
			{"1.99", "client version 1.99 is too new. Maximum supported API version is 1.51"},
		} {
			d.env = []string{"DOCKER_API_VERSION=" + c.version}
			if c.fails == "" {
				d.contains(d.good("plugin", "ls"), "foo/bar")
				continue
			}
			if out, errOut, err := d.run("plugin", "ls"); err == nil || !strings.Contains(errOut, c.fails) && !strings.Contains(errOut, "requires API version 1.25") {
				t.Errorf("%s: %v\n%s%s", c.version, err, out, errOut)
			}
		}
	})
}

func TestDockerOverTCP(t *testing.T) {
	eachCLI(t, func(t *testing.T, d dockerCLI, g *rig) {
		d.env = []string{"DOCKER_HOST=tcp://" + g.serve("tcp", "127.0.0.1:0").String()}
		d.contains(d.good("plugin", "ls"), "foo/bar")
		d.good("plugin", "create", "mine", pluginDir(t, 1<<20))
		g.plugins.hook.set(func(_ context.Context, method string) error {
			return outlet.Errorf(errdefs.ErrConflict, "refused at %s", method)
		})
		dir := pluginDir(t, 64<<20)
		for range 5 {
			d.bad("refused at Create", "plugin", "create", "mine", dir)
		}
	})
}

func TestDockerOverTLS(t *testing.T) {
	// httptest has a certificate for 127.0.0.1 that is its own authority.
	ts := httptest.NewUnstartedServer(nil)
	ts.StartTLS()
	defer ts.Close()
	dir := t.TempDir()
	cert := ts.TLS.Certificates[0]
	key, err := x509.MarshalPKCS8PrivateKey(cert.PrivateKey)
	if err != nil {
		t.Fatal(err)
	}
	certPEM := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert.Certificate[0]})
	for name, data := range map[string][]byte{
		"ca.pem": certPEM, "cert.pem": certPEM, "key.pem": pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: key}),
	} {
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	eachCLI(t, func(t *testing.T, d dockerCLI, g *rig) {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		g.serving.Go(func() {
			if err := g.Serve(tls.NewListener(l, &tls.Config{Certificates: ts.TLS.Certificates, ClientAuth: tls.RequireAnyClientCert})); err != nil {
				t.Error(err)
			}
		})
		d.env = []string{"DOCKER_HOST=tcp://" + l.Addr().String(), "DOCKER_TLS_VERIFY=1", "DOCKER_CERT_PATH=" + dir}
		d.contains(d.good("plugin", "ls"), "foo/bar")
		d.good("plugin", "create", "mine", pluginDir(t, 1<<20))
		d.good("info")
		g.plugins.hook.set(func(_ context.Context, method string) error {
			return outlet.Errorf(errdefs.ErrConflict, "refused at %s", method)
		})
		d.bad("refused at Create", "plugin", "create", "mine", pluginDir(t, 64<<20))
	})
}
