package ocispec

import (
	"context"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/outletd/outlet"
	"github.com/outletd/outlet/internal/host"
	"github.com/outletd/outlet/internal/testutil"
)

// envInside says that the test runs inside a user namespace made for it.
const envInside = "OUTLET_OCISPEC_INSIDE"

func TestRuncRunsTheSpec(t *testing.T) {
	testutil.Need(t, testutil.Runc, testutil.Busybox)
	if os.Getenv(envInside) == "" {
		testutil.Need(t, testutil.Root, testutil.MountNS)
	}
	for name, c := range map[string]struct {
		change func(in *Input)
		script string
		want   string
	}{
		"a plugin with nothing special": {
			script: `echo $PATH; umask; pwd; cat /proc/1/comm; ls /run/docker; grep -c . /proc/net/dev; [ -e /etc/resolv.conf ] || echo none`,
			want:   "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin\n0022\n/\nsh\nplugins\n3\nnone\n",
		},
		"one that mounts below its propagated mount": {
			change: func(in *Input) {
				in.Config.PropagatedMount = "/data/published"
				in.Config.Linux.Capabilities = []string{"CAP_SYS_ADMIN"}
			},
			script: `mkdir /data/published/v && mount -t tmpfs vol /data/published/v && echo content >/data/published/v/file && touch /run/docker/plugins/ready && read x`,
		},
		"one on the host's network and processes": {
			change: func(in *Input) {
				in.Config.Network.Type = "host"
				in.Config.PidHost, in.Config.IpcHost = true, true
			},
			script: `cat /proc/1/comm >/dev/null && [ -s /etc/resolv.conf ] && touch /sys/x 2>/dev/null || echo ok`,
			want:   "ok\n",
		},
		"one with the host's devices": {
			change: func(in *Input) {
				in.Settings.Mounts = []outlet.Mount{mount("bind", "/dev", "/dev", "rbind", "rslave")}
				in.Config.Linux.AllowAllDevices = true
			},
			script: `[ -c /dev/null ] && echo x >/dev/null && echo ok`,
			want:   "ok\n",
		},
		"one with a device, a mount and limits": {
			change: func(in *Input) {
				in.Settings.Devices = []outlet.Device{{Path: ptr(in.SocketDir + ".device")}} // where no runtime makes one
				in.Settings.Env = []string{"DEVICE=" + in.SocketDir + ".device"}
				in.Settings.Mounts = []outlet.Mount{mount("none", "/etc", "/host etc", "readonly")}
				in.Limits = Limits{MemoryBytes: 128 << 20, PIDs: 50, CPUs: 1}
				in.ReadonlyRootfs, in.NoNewPrivileges = true, true
			},
			script: `[ -c $DEVICE ] && : <>$DEVICE && [ -f "/host etc/passwd" ] && ! touch "/host etc/x" 2>/dev/null && ! touch /x 2>/dev/null && grep NoNewPrivs /proc/self/status`,
			want:   "NoNewPrivs:\t1\n",
		},
	} {
		t.Run(name, func(t *testing.T) {
			p := newPlugin(t, c.script)
			if c.change != nil {
				c.change(&p.in)
			}
			if c.want == "" {
				p.seeMount(t)
				return
			}
			out, err := p.run(t)
			if err != nil || out != c.want {
				t.Errorf("%v, output %q, want %q", err, out, c.want)
			}
		})
	}
}

// An ordinary user's way: everything above inside a user namespace.
func TestRuncRunsTheSpecInAUserNamespace(t *testing.T) {
	testutil.Need(t, testutil.Runc, testutil.Busybox, testutil.UserNS)
	if os.Getenv(envInside) != "" {
		t.Skip("this is the inside")
	}
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, "unshare", "--user", "--map-root-user", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc",
		os.Args[0], "-test.run=^TestRuncRunsTheSpec$", "-test.v")
	cmd.Env = append(os.Environ(), envInside+"=1")
	out, err := cmd.CombinedOutput()
	if err != nil || strings.Contains(string(out), "--- SKIP") {
		t.Errorf("%v\n%s", err, out)
	}
}

// plugin is a shell script as a plugin.
type plugin struct {
	in     Input
	bundle string
	runc   string
}

func newPlugin(t *testing.T, script string) *plugin {
	t.Helper()
	dir := testutil.TempDir(t)
	p := &plugin{in: input(), bundle: dir, runc: testutil.Program(t, testutil.Runc)}
	p.in.ID = "ocispec-" + strconv.Itoa(os.Getpid()) + "-" + filepath.Base(dir)
	p.in.Host = new(host.Host).Facts()
	p.in.Rootfs, p.in.SocketDir, p.in.PropagatedDir = dir+"/rootfs", dir+"/s", dir+"/propagated"
	p.in.Config.Entrypoint = []string{"sh", "-c", script}
	p.in.CgroupParent = ""
	for _, d := range []string{p.in.Rootfs + "/bin", p.in.Rootfs + "/etc", p.in.SocketDir, p.in.PropagatedDir, dir + "/state"} {
		if err := os.MkdirAll(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for _, d := range []string{"proc", "sys", "dev", "host etc", "run/docker/plugins", "data/published"} {
		if err := os.MkdirAll(filepath.Join(p.in.Rootfs, d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink("/dev/zero", p.in.SocketDir+".device"); err != nil {
		t.Fatal(err)
	}
	busybox, err := os.ReadFile(testutil.Program(t, testutil.Busybox))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(p.in.Rootfs+"/bin/busybox", busybox, 0o755); err != nil {
		t.Fatal(err)
	}
	for _, tool := range []string{"sh", "cat", "ls", "grep", "mkdir", "mount", "touch", "pwd"} {
		if err := os.Symlink("busybox", filepath.Join(p.in.Rootfs, "bin", tool)); err != nil {
			t.Fatal(err)
		}
	}
	// The propagated mount must be shared for what is mounted below it to
	// reach the host; that is the store's and the manager's part.
	if err := unix.Mount(p.in.PropagatedDir, p.in.PropagatedDir, "", unix.MS_BIND, ""); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Unmount(p.in.PropagatedDir, unix.MNT_DETACH) })
	if err := unix.Mount("", p.in.PropagatedDir, "", unix.MS_SHARED, ""); err != nil {
		t.Fatal(err)
	}
	return p
}

// command looks up what the spec needs, writes it, and returns how it is run.
func (p *plugin) command(t *testing.T) *exec.Cmd {
	t.Helper()
	needs := Lookup(p.in)
	for _, path := range needs.Devices {
		found, err := host.Devices(path)
		if err != nil {
			t.Fatal(err)
		}
		p.in.Devices = append(p.in.Devices, found...)
	}
	p.in.Missing = host.Missing(needs.Sources)
	p.in.MountFlags = make(map[string][]string)
	for _, source := range needs.Sources {
		if slices.Contains(p.in.Missing, source) {
			continue
		}
		flags, err := host.MountFlags(source)
		if err != nil {
			t.Fatal(err)
		}
		p.in.MountFlags[source] = flags
	}
	spec, warnings, err := Build(p.in)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("warnings: %q", warnings)
	b, err := json.Marshal(spec)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(p.bundle+"/config.json", b, 0o600); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = exec.Command(p.runc, "--root", p.bundle+"/state", "delete", "--force", p.in.ID).Run()
	})
	cmd := exec.CommandContext(t.Context(), p.runc, "--root", p.bundle+"/state", "run", "--bundle", p.bundle, p.in.ID)
	cmd.WaitDelay = 5 * time.Second
	return cmd
}

func (p *plugin) run(t *testing.T) (string, error) {
	t.Helper()
	cmd := p.command(t)
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Log(stderr.String())
	}
	return string(out), err
}

// seeMount runs a plugin that mounts something, and looks from outside.
func (p *plugin) seeMount(t *testing.T) {
	t.Helper()
	cmd := p.command(t)
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	var stderr strings.Builder
	cmd.Stderr = &stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	testutil.Eventually(t, time.Minute, func() error {
		_, err := os.Stat(p.in.SocketDir + "/ready")
		return err
	})
	content, err := os.ReadFile(p.in.PropagatedDir + "/v/file")
	if string(content) != "content\n" {
		t.Errorf("the host sees %q, %v", content, err)
	}
	_ = stdin.Close()
	_ = cmd.Wait() // read fails at the end of its input
	if t.Failed() {
		t.Log(stderr.String())
	}
	_ = unix.Unmount(p.in.PropagatedDir+"/v", unix.MNT_DETACH)
}
