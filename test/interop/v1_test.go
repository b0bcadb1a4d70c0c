package interop

import (
	"archive/tar"
	"bytes"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/outletd/outlet/internal/testutil"
	"github.com/outletd/outlet/internal/testutil/daemontest"
)

// v1Plugin runs an example as a v1 plugin of that name until the test ends. The
// directory is where hosts look: with one of its own a test disturbs nobody.
func v1Plugin(t *testing.T, example, address string, args ...string) {
	t.Helper()
	program := testutil.Build(t, "./examples/"+example)
	var log bytes.Buffer
	flag := "-addr"
	if example == "dirvol" {
		flag = "-socket"
	}
	cmd := exec.Command(program, append([]string{flag, address}, args...)...)
	cmd.Stdout, cmd.Stderr = &log, &log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
			t.Error(err)
		}
		if err := cmd.Wait(); err != nil || t.Failed() {
			t.Logf("%s: %v\n%s", example, err, log.String())
		}
		if _, err := os.Lstat(address); err == nil {
			t.Errorf("%s is left", address)
		}
	})
	testutil.Eventually(t, time.Minute, func() error {
		c, err := net.Dial("unix", address)
		if err != nil {
			return err
		}
		return c.Close()
	})
}

// dockerPlugin is v1Plugin where dockerd looks, which is the same for all. It
// returns a name that nobody else has.
func dockerPlugin(t *testing.T, example string, args ...string) string {
	t.Helper()
	const dir = "/run/docker/plugins"
	if _, err := os.Stat(dir); err != nil {
		t.Cleanup(func() {
			// Only if nobody else has anything there.
			_ = os.Remove(dir)
		})
	}
	name := fmt.Sprintf("ottest%d-%s", os.Getpid(), example)
	v1Plugin(t, example, filepath.Join(dir, name+".sock"), args...)
	return name
}

// dockerd starts a dockerd of its own and returns a function that runs a docker
// command line against it.
func dockerd(t *testing.T, flags ...string) func(t *testing.T, args ...string) daemontest.Result {
	t.Helper()
	testutil.Need(t, testutil.Dockerd, testutil.Overlay, testutil.Cgroups)
	cli := testutil.Program(t, testutil.DockerCLI20)
	dir := testutil.TempDir(t)
	host := "unix://" + filepath.Join(dir, "d.sock")
	log, err := os.Create(filepath.Join(dir, "log"))
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	cmd := exec.Command(testutil.Program(t, testutil.Dockerd), append([]string{
		"--config-file", filepath.Join(dir, "none.json"), "--iptables=false", "--ip-forward=false", "--bridge=none",
		"--storage-driver=overlay2", "-H", host, "--data-root", filepath.Join(dir, "l"), "--exec-root", filepath.Join(dir, "r"),
		"--pidfile", filepath.Join(dir, "pid"),
	}, flags...)...)
	cmd.Stdout, cmd.Stderr = log, log
	if err := os.WriteFile(filepath.Join(dir, "none.json"), []byte("{}"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
			t.Error(err)
		}
		if err := cmd.Wait(); err != nil {
			t.Logf("dockerd ends with %v", err)
		}
		if t.Failed() {
			b, err := os.ReadFile(log.Name())
			t.Logf("dockerd's log: %s %v", b[max(0, len(b)-2048):], err)
		}
	})
	env := []string{"DOCKER_HOST=" + host, "DOCKER_CONFIG=" + t.TempDir()}
	docker := func(t *testing.T, args ...string) daemontest.Result {
		t.Helper()
		return daemontest.Run(t, env, cli, args...)
	}
	testutil.Eventually(t, 2*time.Minute, func() error {
		if r := docker(t, "version"); r.Code != 0 {
			return fmt.Errorf("%s", r.Err)
		}
		return nil
	})
	return docker
}

// busyboxImage is a tar of a root filesystem that has a shell.
func busyboxImage(t *testing.T) string {
	t.Helper()
	program, err := os.ReadFile(testutil.Program(t, testutil.Busybox))
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	put := func(h tar.Header, content []byte) {
		h.Size = int64(len(content))
		if err := w.WriteHeader(&h); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write(content); err != nil {
			t.Fatal(err)
		}
	}
	for _, d := range []string{"bin/", "proc/", "sys/", "dev/", "etc/", "tmp/"} {
		put(tar.Header{Name: d, Typeflag: tar.TypeDir, Mode: 0o755}, nil)
	}
	put(tar.Header{Name: "bin/busybox", Typeflag: tar.TypeReg, Mode: 0o755}, program)
	for _, l := range []string{"sh", "cat", "echo", "ip", "ls", "sleep", "true"} {
		put(tar.Header{Name: "bin/" + l, Typeflag: tar.TypeSymlink, Linkname: "busybox"}, nil)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "busybox.tar")
	if err := os.WriteFile(path, b.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestDockerdUsesPluginsOfTheSDK(t *testing.T) {
	docker := dockerd(t)
	docker(t, "import", busyboxImage(t), "bb").OK()

	t.Run("volumes", func(t *testing.T) {
		data := testutil.TempDir(t)
		driver := dockerPlugin(t, "dirvol", "-data", data)
		docker(t, "volume", "create", "-d", driver, "-o", "mode=0750", "notes").OK()
		if got := docker(t, "volume", "ls", "--filter", "driver="+driver, "--format", "{{.Name}}").OK(); got != "notes" {
			t.Errorf("ls: %q", got)
		}
		if got := docker(t, "volume", "inspect", "-f", "{{.Mountpoint}} {{.Status.mode}}", "notes").OK(); got != data+"/volumes/notes 0750" {
			t.Errorf("inspect: %q", got)
		}
		docker(t, "run", "--rm", "--network", "none", "-v", "notes:/v", "bb", "sh", "-c", "echo hello > /v/f").OK()
		if b, err := os.ReadFile(filepath.Join(data, "volumes/notes/f")); string(b) != "hello\n" {
			t.Errorf("the host reads %q, %v", b, err)
		}
		if got := docker(t, "run", "--rm", "--network", "none", "-v", "notes:/v", "bb", "cat", "/v/f").OK(); got != "hello" {
			t.Errorf("the next container reads %q", got)
		}
		docker(t, "volume", "rm", "notes").OK()
		docker(t, "volume", "create", "-d", driver, "-o", "colour=red", "other").Refused(`unknown option "colour"`)
	})
	t.Run("networks", func(t *testing.T) {
		state := t.TempDir()
		driver := dockerPlugin(t, "bridgenet", "-state", filepath.Join(state, "n"))
		addresses := dockerPlugin(t, "fileipam", "-state", filepath.Join(state, "i"))
		docker(t, "network", "create", "-d", driver, "--ipam-driver", addresses, "--subnet", "198.51.100.0/24", "n").OK()
		if got := docker(t, "network", "inspect", "-f", "{{.Driver}} {{.IPAM.Driver}} {{(index .IPAM.Config 0).Subnet}}", "n").OK(); got != driver+" "+addresses+" 198.51.100.0/24" {
			t.Errorf("inspect: %q", got)
		}
		out := docker(t, "run", "--rm", "--network", "n", "bb", "ip", "-o", "-4", "addr", "show", "dev", "eth0").OK()
		if !strings.Contains(out, "198.51.100.2/24") {
			t.Errorf("in the container: %q", out)
		}
		if out := docker(t, "run", "--rm", "--network", "n", "bb", "ip", "route").OK(); !strings.Contains(out, "default via 198.51.100.1") {
			t.Errorf("routes: %q", out)
		}
		docker(t, "network", "rm", "n").OK()
		docker(t, "network", "create", "-d", driver, "--ipam-driver", addresses, "auto").OK()
		docker(t, "network", "rm", "auto").OK()
	})
	t.Run("logs", func(t *testing.T) {
		dir := t.TempDir()
		driver := dockerPlugin(t, "filelog", "-dir", dir)
		id := docker(t, "run", "-d", "--network", "none", "--log-driver", driver, "bb", "sh", "-c", "for i in 1 2 3; do echo line $i; done; echo oops >&2").OK()
		docker(t, "wait", id).OK()
		if got := docker(t, "logs", id); got.OK() != "line 1\nline 2\nline 3" || got.Err != "oops\n" {
			t.Errorf("logs: %q, %q", got.Out, got.Err)
		}
		// Which of the two streams comes last is up to dockerd.
		if got := docker(t, "logs", "--tail", "1", id); strings.Count(got.Out+got.Err, "\n") != 1 {
			t.Errorf("the last one: %q %q", got.Out, got.Err)
		}
		docker(t, "rm", id).OK()
		long := docker(t, "run", "-d", "--network", "none", "--log-driver", driver, "bb", "sh", "-c", "echo begin; sleep 1; echo end").OK()
		if got := docker(t, "logs", "-f", long).OK(); got != "begin\nend" {
			t.Errorf("followed: %q", got)
		}
		docker(t, "rm", "-f", long).OK()
	})
}

func TestDockerdAsksTheAuthZPluginOfTheSDK(t *testing.T) {
	testutil.Need(t, testutil.Dockerd)
	name := dockerPlugin(t, "noprivileged")
	docker := dockerd(t, "--authorization-plugin", name)
	docker(t, "import", busyboxImage(t), "bb").OK()
	docker(t, "run", "--rm", "--network", "none", "bb", "true").OK()
	docker(t, "run", "--rm", "--network", "none", "--privileged", "bb", "true").Refused("authorization denied by plugin "+name, "privileged containers are not allowed here")
	docker(t, "run", "--rm", "--network", "none", "--pid", "host", "bb", "true").Refused("the pid namespace of the host")
}

// podman returns a function that runs podman with a storage of its own and one
// volume plugin.
func podman(t *testing.T, plugin, socket string) func(t *testing.T, args ...string) daemontest.Result {
	t.Helper()
	testutil.Need(t, testutil.Root, testutil.Podman, testutil.Cgroups)
	dir := testutil.TempDir(t)
	conf := filepath.Join(dir, "containers.conf")
	// The defaults need rights and cgroups that not every test machine has.
	err := os.WriteFile(conf, fmt.Appendf(nil, `[containers]
netns = "none"
log_driver = "k8s-file"
default_ulimits = ["nofile=1024:4096", "nproc=1024:4096"]
[engine]
runtime = "runc"
cgroup_manager = "cgroupfs"
events_logger = "file"
[engine.volume_plugins]
%s = %q
`, plugin, socket), 0o600)
	if err != nil {
		t.Fatal(err)
	}
	program := testutil.Program(t, testutil.Podman)
	global := []string{
		"--root", filepath.Join(dir, "l"), "--runroot", filepath.Join(dir, "r"), "--tmpdir", filepath.Join(dir, "t"),
		"--storage-driver", "vfs", "--runtime", testutil.Program(t, testutil.Runc),
	}
	return func(t *testing.T, args ...string) daemontest.Result {
		t.Helper()
		return daemontest.Run(t, []string{"CONTAINERS_CONF=" + conf}, program, append(slices.Clone(global), args...)...)
	}
}

func TestPodmanUsesVolumesOfTheSDK(t *testing.T) {
	dir := testutil.TempDir(t)
	socket := filepath.Join(dir, "p.sock")
	podman := podman(t, "dirvol", socket)
	v1Plugin(t, "dirvol", socket, "-data", filepath.Join(dir, "d"))
	podman(t, "import", busyboxImage(t), "bb").OK()
	podman(t, "volume", "create", "--driver", "dirvol", "-o", "mode=0750", "notes").OK()
	if got := podman(t, "volume", "ls", "--format", "{{.Driver}} {{.Name}}").OK(); got != "dirvol notes" {
		t.Errorf("ls: %q", got)
	}
	podman(t, "run", "--rm", "--security-opt", "seccomp=unconfined", "-v", "notes:/v", "bb", "sh", "-c", "echo hello > /v/f").OK()
	if b, err := os.ReadFile(filepath.Join(dir, "d/volumes/notes/f")); string(b) != "hello\n" {
		t.Errorf("the host reads %q, %v", b, err)
	}
	if got := podman(t, "run", "--rm", "--security-opt", "seccomp=unconfined", "-v", "notes:/v", "bb", "cat", "/v/f").OK(); got != "hello" {
		t.Errorf("the next container reads %q", got)
	}
	podman(t, "volume", "create", "--driver", "dirvol", "-o", "colour=red", "other").Refused("unknown option")
	podman(t, "volume", "rm", "notes").OK()
	if left, err := os.ReadDir(filepath.Join(dir, "d/volumes")); err != nil || len(left) > 0 {
		t.Errorf("left: %v, %v", left, err)
	}
	podman(t, "rmi", "-a", "-f").OK()
}

// Our daemon uses v1 plugins, too: it shows them, serves their volumes, calls
// them, and sees them come and go.
func TestOutletUsesV1Plugins(t *testing.T) {
	dir := testutil.TempDir(t)
	sockets, specs := filepath.Join(dir, "s"), filepath.Join(dir, "e")
	for _, d := range []string{sockets, specs} {
		if err := os.Mkdir(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	d := daemontest.Start(t, "--v1-socket-dir", sockets, "--v1-spec-dir", specs)
	if got := d.Outlet("discover", "-q").OK(); got != "" {
		t.Errorf("found %q", got)
	}
	socket := filepath.Join(sockets, "dirvol.sock")
	v1Plugin(t, "dirvol", socket, "-data", filepath.Join(dir, "d"))
	dead, err := net.Listen("unix", filepath.Join(sockets, "dead.sock"))
	if err != nil {
		t.Fatal(err)
	}
	dead.(*net.UnixListener).SetUnlinkOnClose(false)
	dead.Close()
	for name, content := range map[string]string{"gone.spec": "tcp://127.0.0.1:1", "odd.spec": "localhost:80"} {
		if err := os.WriteFile(filepath.Join(specs, name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	found := d.Outlet("discover", "--format", "{{.Name}} {{.Reachable}} {{join .Capabilities \",\"}} {{.Address}} {{.Origin}}")
	want := fmt.Sprintf("dead false  unix://%[1]s/dead.sock %[1]s/dead.sock\ndirvol true VolumeDriver unix://%[1]s/dirvol.sock %[1]s/dirvol.sock\ngone false  tcp://127.0.0.1:1 %[2]s/gone.spec", sockets, specs)
	if got := found.OK(); got != want || !strings.Contains(found.Err, "odd.spec") {
		t.Errorf("found\n%s\nwant\n%s\nwarnings: %s", got, want, found.Err)
	}
	if got := d.Outlet("discover", "--no-trunc", "--format", "{{.Status}}").OK(); !strings.Contains(got, "unreachable: dial unix "+sockets+"/dead.sock: connect: connection refused") {
		t.Errorf("status: %s", got)
	}

	d.Outlet("volume", "create", "-d", "dirvol", "notes").OK()
	path := d.Outlet("volume", "mount", "notes").OK()
	if path != filepath.Join(dir, "d/volumes/notes") {
		t.Errorf("mounted at %s: the paths of v1 plugins are the host's", path)
	}
	if got := d.Outlet("call", "dirvol", "VolumeDriver.Path", `{"Name":"notes"}`).OK(); got != fmt.Sprintf(`{"Mountpoint":%q}`, path) {
		t.Errorf("call: %s", got)
	}
	d.Outlet("volume", "unmount", "notes").OK()
	d.Outlet("volume", "rm", "notes").OK()
	d.Outlet("call", "nobody", "VolumeDriver.List").Refused(`plugin "nobody" not found`)
	if got := d.Outlet("call", "dirvol", "Plugin.Activate").OK(); got != `{"Implements":["VolumeDriver"]}` {
		t.Errorf("handshake: %s", got)
	}
	d.Outlet("call", "dirvol", "NetworkDriver.GetCapabilities").Refused("dirvol", "NetworkDriver")

	// A managed plugin of the same name comes first, even while it is disabled.
	d.Outlet("create", "dirvol", daemontest.Dirvol(t)).OK()
	d.Outlet("volume", "create", "-d", "dirvol", "managed").Refused("disabled")
	d.Outlet("call", "dirvol", "VolumeDriver.List").Refused("disabled")
	d.Outlet("enable", "dirvol").OK()
	d.Outlet("volume", "create", "-d", "dirvol", "managed").OK()
	if got := d.Outlet("volume", "ls", "--format", "{{.Driver}} {{.Name}}").OK(); got != "dirvol:latest managed" {
		t.Errorf("volumes: %s", got)
	}
	d.Outlet("volume", "rm", "managed").OK()

	events := d.Outlet("events", "--since", "10m", "--until", "0s", "--filter", "type=plugin", "--format", "{{.Action}} {{.Actor.ID}}").OK()
	for _, want := range []string{"discover dirvol", "discover dead", "discover gone"} {
		if !strings.Contains(events, want) {
			t.Errorf("no event %q in\n%s", want, events)
		}
	}
}

// Every example is a managed plugin as well.
func TestExamplesAreManagedPlugins(t *testing.T) {
	d := daemontest.Start(t)
	state := testutil.TempDir(t)
	for _, tt := range []struct{ name, mount, method, body, want string }{
		{"dirvol", "", "VolumeDriver.List", "", `{"Volumes":[]}`},
		{"bridgenet", "", "NetworkDriver.GetCapabilities", "", `"Scope":"local"`},
		{"fileipam", "", "IpamDriver.GetDefaultAddressSpaces", "", "fileipam-local"},
		{"noprivileged", "", "AuthZPlugin.AuthZReq", `{"RequestMethod":"GET","RequestUri":"/info"}`, `"Allow":true`},
		{"filelog", "logs", "LogDriver.Capabilities", "", `"ReadLogs":true`},
		{"metricsfile", "metrics", "MetricsCollector.StopMetrics", "", "{}"},
		{"dirsecret", "secrets", "SecretProvider.GetSecret", `{"SecretName":"none"}`, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			out := filepath.Join(t.TempDir(), tt.name)
			build := filepath.Join(testutil.RepoRoot(t), "examples", tt.name, "build.sh")
			daemontest.Run(t, nil, build, out).OK()
			d.Outlet("create", tt.name, out).OK()
			if tt.mount != "" {
				d.Outlet("set", tt.name, tt.mount+".source="+state).OK()
			}
			if tt.name == "metricsfile" {
				return // it needs the metrics socket of a Docker host
			}
			d.Outlet("enable", tt.name).OK()
			r := d.Outlet("call", tt.name, tt.method, tt.body)
			if tt.want == "" {
				r.Refused(`no secret "none"`)
			} else if got := r.OK(); !strings.Contains(got, tt.want) {
				t.Errorf("%s answers %s, want %s in it", tt.method, got, tt.want)
			}
			d.Outlet("disable", tt.name).OK()
			d.Outlet("rm", tt.name).OK()
		})
	}
}

// The examples are managed plugins of Docker's, too.
func TestDockerdManagesPluginsOfTheSDK(t *testing.T) {
	docker := dockerd(t, "--experimental", "--metrics-addr", "127.0.0.1:0")
	docker(t, "import", busyboxImage(t), "bb").OK()
	manage := func(t *testing.T, name, mount, source string) {
		t.Helper()
		out := filepath.Join(t.TempDir(), name)
		daemontest.Run(t, nil, filepath.Join(testutil.RepoRoot(t), "examples", name, "build.sh"), out).OK()
		docker(t, "plugin", "create", name, out).OK()
		if mount != "" {
			docker(t, "plugin", "set", name, mount+".source="+source).OK()
		}
		docker(t, "plugin", "enable", name).OK()
		t.Cleanup(func() {
			docker(t, "plugin", "disable", name).OK()
			docker(t, "plugin", "rm", name).OK()
		})
	}
	t.Run("volumes", func(t *testing.T) {
		manage(t, "dirvol", "", "")
		docker(t, "volume", "create", "-d", "dirvol", "notes").OK()
		docker(t, "run", "--rm", "--network", "none", "-v", "notes:/v", "bb", "sh", "-c", "echo hello > /v/f").OK()
		if got := docker(t, "run", "--rm", "--network", "none", "-v", "notes:/v", "bb", "cat", "/v/f").OK(); got != "hello" {
			t.Errorf("the next container reads %q", got)
		}
		docker(t, "volume", "rm", "notes").OK()
	})
	t.Run("networks", func(t *testing.T) {
		manage(t, "bridgenet", "", "")
		manage(t, "fileipam", "", "")
		docker(t, "network", "create", "-d", "bridgenet:latest", "--ipam-driver", "fileipam:latest", "n").OK()
		if out := docker(t, "run", "--rm", "--network", "n", "bb", "ip", "route").OK(); !strings.Contains(out, "default via 10.201.0.1") {
			t.Errorf("routes: %q", out)
		}
		docker(t, "network", "rm", "n").OK()
	})
	t.Run("logs", func(t *testing.T) {
		dir := t.TempDir()
		manage(t, "filelog", "logs", dir)
		id := docker(t, "run", "-d", "--network", "none", "--log-driver", "filelog", "bb", "echo", "a line").OK()
		docker(t, "wait", id).OK()
		if got := docker(t, "logs", id).OK(); got != "a line" {
			t.Errorf("logs: %q", got)
		}
		docker(t, "rm", id).OK()
		if found, err := filepath.Glob(filepath.Join(dir, id+".jsonl")); err != nil || len(found) != 1 {
			t.Errorf("the file on the host: %v, %v", found, err)
		}
	})
	t.Run("metrics", func(t *testing.T) {
		dir := t.TempDir()
		manage(t, "metricsfile", "metrics", dir)
		testutil.Eventually(t, time.Minute, func() error {
			b, err := os.ReadFile(filepath.Join(dir, "docker.prom"))
			if err == nil && !bytes.Contains(b, []byte("engine_daemon_engine_info")) {
				err = fmt.Errorf("the file has other metrics: %.200s", b)
			}
			return err
		})
	})
	t.Run("others start", func(t *testing.T) {
		manage(t, "noprivileged", "", "")
		manage(t, "dirsecret", "secrets", t.TempDir())
	})
}
